"""What is computed from per-item scores, once: proven numbers, their intervals, the scores of last layers.

Beside a record lies `.RECORD.derived`, made the first time that anybody asks and taken as long as the record
is the same to the byte and the file of its items has the same size and time. It saves opening the items
and may be deleted at any time. Its lines: the digest of the next two, which are mostly all that is read;
what tables of one layer show (the record with that layer, its interval) and what it came from; the
headline's intervals; those of other metrics; the scores of the last layer.
"""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.records import Record, items_path, read_bytes, shown_layer
from sdssl_bench.statistics.intervals import Interval, layer_interval
from sdssl_bench.statistics.items import ItemScores, layer_item_scores
from sdssl_bench.system import write_atomic

FORMAT = 2
"""Of the file and of what is computed: another number forgets all that was kept."""
Intervals = dict[int, dict[str, Interval]]


@dataclass(frozen=True)
class LastLayer:
    """The headline's per-item scores of a last layer, in the order of their ids.

    Attributes:
        layer: the last.
        value: the headline that the scores give.
        units: digest of ids, sizes, strata and kind: equal where two models may be paired.
        scores: digest of the scores.
        binary: whether every unit is one item that is right or wrong.
        stratified: whether the units have strata.
        n: units.
    """

    layer: int
    value: float
    units: str
    scores: str
    binary: bool
    stratified: bool
    n: int


@dataclass(frozen=True, eq=False)
class Derived:
    """What the items of a record gave.

    Attributes:
        path: of the record.
        shown: `records.shown_layer` -> interval of the headline.
        headline: layer -> its interval, or the line that says so.
        last: None where the last layer has no per-item scores of the headline.
        first: digest of what is read already, which has to be there still when more is read.
        others: layer -> metric -> interval of what is no headline; None if not read yet.
        packed: scores of the last layer, see `last_scores`; None if not read yet.
    """

    path: Path
    shown: dict[int, Interval | None]
    headline: dict[int, Interval] | bytes
    last: LastLayer | None
    first: str = ""
    others: Intervals | None = None
    packed: str | None = None

    def interval(self, layer: int, metric: str | None) -> Interval | None:
        """Of the headline (None) or another metric."""
        if metric is None:
            return self.shown[layer] if layer in self.shown else self.headlines().get(layer)
        if self.others is None:
            found = json.loads(self._line(3))
            object.__setattr__(
                self, "others", {int(n): _intervals(entry) for n, entry in found.items()}
            )
        assert self.others is not None
        return self.others.get(layer, {}).get(metric)

    def headlines(self) -> dict[int, Interval]:
        """Layer -> interval of the headline, where there is one."""
        if isinstance(self.headline, bytes):
            found = _intervals(json.loads(self.headline))
            object.__setattr__(self, "headline", {int(n): one for n, one in found.items()})
        assert isinstance(self.headline, dict)
        return self.headline

    def last_scores(self) -> NDArray[Any]:
        """[n] scores of the last layer: bool where they are right or wrong, else float64."""
        assert self.last is not None
        text = self.packed if self.packed is not None else json.loads(self._line(4))
        raw = base64.b64decode(text)
        if self.last.binary:
            bits = np.frombuffer(raw, np.uint8)
            return np.unpackbits(bits, count=self.last.n).astype(bool)
        return np.frombuffer(raw, "<f8")

    def _line(self, number: int) -> bytes:
        lines = kept_path(self.path).read_bytes().split(b"\n")
        if _sha256(b"\n".join(lines[1:3])) != self.first:
            raise DataError(f"{kept_path(self.path)} changed while it was read. Run this again.")
        return lines[number]


_KNOWN: dict[Path, tuple[Record, Derived]] = {}
"""Of the records this process has read; of the very object that was read and of no other."""


def derive(path: Path, record: Record, content: bytes | None = None) -> Derived:
    """What the record's items give, from what is kept beside it if that is still true.

    Args:
        path: of the record.
        record: as read from it.
        content: of the file, if it is at hand.

    Raises:
        DataError: if per-item scores are missing or do not give the stored numbers.
    """
    kept = _KNOWN.get(path)
    if kept is not None and kept[0] is record:
        return kept[1]
    source = None
    if content is None:
        content = read_bytes(path)
        same = json.loads(content) == record
    else:
        same = True
    if same:
        source = source_of(path, content)
    # A record that is not, or no longer, what its file holds is computed and not kept.
    stored = None if source is None else read_kept(path, source)
    found = stored[0] if stored else _compute(path, record, source)
    remember(path, record, found)
    return found


def remember(path: Path, record: Record, derived: Derived) -> None:
    """Give `derived` back whenever this very record is asked about."""
    _KNOWN[path] = (record, derived)


def known_interval(
    record: Record, path: Path, layer: int, metric: str | None = None
) -> Interval | None:
    """The 95 % interval of `intervals.layer_interval`, without items where it is known already."""
    entry = record["layers"].get(str(layer), {"metrics": {}})
    if (metric or record["headline"]) not in entry["metrics"]:
        return layer_interval(record, path, layer, metric)  # says what is wrong
    return derive(path, record).interval(layer, None if metric == record["headline"] else metric)


def record_intervals(record: Record, path: Path) -> dict[int, Interval]:
    """Layer -> 95 % interval of the headline, where there is one; errors as for `derive`."""
    return derive(path, record).headlines()


def kept_path(path: Path) -> Path:
    """Where what was derived from the items of the record at `path` is kept."""
    return Path(_kept(path))


def _kept(path: Path) -> str:
    # Path's own ways take five times as long.
    folder, separator, name = str(path).rpartition(os.sep)
    return f"{folder}{separator}.{name.removesuffix('.json')}.derived"


def source_of(path: Path, content: bytes) -> dict[str, Any]:
    """What a derived value comes from: the record's bytes, size and time of the items."""
    try:
        stat = items_path(path).stat()
        items = [stat.st_size, stat.st_mtime_ns]
    except OSError:
        items = None
    return {"format": FORMAT, "record": _sha256(content), "items": items}


def read_kept(path: Path, source: Mapping[str, Any]) -> tuple[Derived, Record] | None:
    """What is kept beside the record, if it comes from this source, and the record with one layer."""
    try:
        with open(_kept(path), "rb") as opened:  # noqa: PTH123
            first, line, headline = (opened.readline().rstrip(b"\n") for _ in range(3))
        if first != _sha256(line + b"\n" + headline).encode():
            return None
        head = json.loads(line)
        if head["source"] != source:
            return None
        brief: Record = head["record"]
        shown = {int(layer): one and Interval(*one) for layer, one in head["shown"].items()}
        last = None if head["last"] is None else LastLayer(**head["last"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # not there, or cut: it is made again
    return Derived(path, shown, headline, last, first.decode()), brief


def _compute(path: Path, record: Record, source: Mapping[str, Any] | None) -> Derived:
    headline: dict[int, Interval] = {}
    others: Intervals = {}
    for name, entry in record["layers"].items():
        for metric in entry["metrics"]:
            found = layer_interval(record, path, int(name), metric)
            if found is not None and metric == record["headline"]:
                headline[int(name)] = found
            elif found is not None:
                others.setdefault(int(name), {})[metric] = found
    last, packed = _last(path, record)
    at = shown_layer(record)
    shown = {} if at is None else {at: headline.get(at)}
    lines = (
        {
            "source": source,
            "record": {**record, "layers": {str(n): record["layers"][str(n)] for n in shown}},
            "shown": {n: one and astuple(one) for n, one in shown.items()},
            "last": None if last is None else vars(last),
        },
        {n: astuple(one) for n, one in headline.items()},
        {n: {m: astuple(one) for m, one in found.items()} for n, found in others.items()},
        packed,
    )
    if source is not None:
        with contextlib.suppress(OSError):  # a full or read-only folder costs time, no result
            write_atomic(kept_path(path), kept_text(lines))
    return Derived(path, shown, headline, last, others=others, packed=packed)


def kept_text(lines: Sequence[Any]) -> bytes:
    """The content of a file that is kept, of the values of its lines."""
    texts = [json.dumps(line, separators=(",", ":")).encode() for line in lines]
    return b"\n".join([_sha256(b"\n".join(texts[:2])).encode(), *texts])


def _last(path: Path, record: Record) -> tuple[LastLayer | None, str]:
    depth = record["model"]["depth"]
    if record["headline"] not in record["layers"].get(str(depth), {"metrics": {}})["metrics"]:
        return None, ""
    units = layer_item_scores(record, path, depth)
    if units is None:
        return None, ""
    value, units = units.value, units.ordered()
    raw = np.packbits(units.scores > 0) if units.binary else units.scores.astype("<f8")
    packed = base64.b64encode(raw.tobytes()).decode()
    stratified = bool(units.strata.any())
    digests = units_digest(units), _sha256(raw.tobytes())[:16]
    return LastLayer(depth, value, *digests, units.binary, stratified, len(units)), packed


def units_digest(units: ItemScores) -> str:
    """Of everything that two models must share to be paired; `units` are in the order of their ids."""
    whole = hashlib.sha256(f"{units.kind} {units.binary} {units.ids.dtype.kind}".encode())
    ids = units.ids.astype("<i8" if units.ids.dtype.kind in "iu" else units.ids.dtype)
    if ids.dtype.kind not in "iu":  # texts, of whatever width they are stored in
        ids = np.frombuffer("\0".join(map(str, ids)).encode(), np.uint8)
    for one in (ids, units.sizes.astype("<f8"), units.strata.astype("<i8")):
        whole.update(one.tobytes())
    return whole.hexdigest()[:16]


def _intervals(found: Mapping[str, Sequence[Any]]) -> dict[str, Interval]:
    return {name: Interval(*one) for name, one in found.items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
