"""Which ranks of a leaderboard are real: rank intervals, tie groups and leads from paired tests.

On each benchmark every pair of models is tested on the same items at its last layer, p values adjusted by
Holm within the benchmark. A model's rank lies between 1 + the models that are significantly better and
M - the models that are significantly worse. Tie groups are made from the top: a group is its best
model and all that cannot be told from it; the next group begins with the best model that can.

Who leads is asked of all benchmarks at once. A model is first where it is better than every other: the
largest p of its tests counts, adjusted by Holm over the benchmarks. That it was picked by its score needs no
more (Gutmann, Maymin 1987; Hung, Fithian 2019). Where nobody is first, those are tied that the tests of all
pairs on all benchmarks, adjusted together, do not set apart from the highest score. For two models both are
the tests of `comparison` at the last layer.

With M models a benchmark has M (M - 1) / 2 tests. McNemar's are made all at once, of matrices. Others are
drawn, and made only where their p could matter: their least possible p often shows that Holm cannot
reject them. What came out is kept in `runs/.ranks` for as long as the scores stay the same.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.records import Record, Stored, digest
from sdssl_bench.statistics.derived import FORMAT, Derived, derive
from sdssl_bench.statistics.items import layer_item_scores
from sdssl_bench.statistics.pair_tests import PairTests, model_tests, significant
from sdssl_bench.statistics.paired_tests import holm
from sdssl_bench.system import write_atomic

KEPT = ".ranks"


@dataclass(frozen=True)
class RankInterval:
    """A model's place on one benchmark.

    Attributes:
        first: best rank it may have.
        last: worst rank it may have.
        group: "a" for the top group, then "b" and so on.
        models: models that were ranked.
        lead: "first" if it is certainly better than every other, "tied" if it may be the best, else
            "behind"; see `leads`.
    """

    first: int
    last: int
    group: str
    models: int
    lead: str

    def __str__(self) -> str:
        ranks = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ranks}{self.group}"


def benchmark_key(record: Record) -> tuple[str, ...]:
    """What two records must share to stand in one column."""
    data, protocol = record["dataset"], record["protocol"]
    return (
        record["task"], protocol["id"], str(protocol["version"]), protocol["digest"],
        data["name"], data["variant"], data["fingerprint"], record["headline"],
        # Models that learned from other labels, of another seed, are not paired.
        str(protocol["resolved"].get("labels")),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Member:
    """A model on one benchmark.

    Attributes:
        key: of its record.
        value: its headline at the last layer.
        path: of its record.
        record: the record.
        derived: with the scores of its last layer.
    """

    key: str
    value: float
    path: Path
    record: Record
    derived: Derived


def rank_intervals(records: Iterable[Stored], *, alpha: float = 0.05) -> dict[str, RankInterval]:
    """Record key -> standing, of records whose last layer has per-item scores and company.

    Args:
        records: with their paths; those made under --limit are left out.
        alpha: level of significance.

    Raises:
        DataError: if per-item scores are missing or do not give the stored numbers.
    """
    columns: dict[tuple[str, ...], list[Member]] = {}
    for path, record in records:
        if record["limited"] is None:
            derived = derive(path, record)
            if derived.last is not None:
                columns.setdefault(benchmark_key(record), []).append(
                    Member(record["key"], derived.last.value, path, record, derived)
                )
    orders = [
        sorted(members, key=lambda member: (-member.value, member.key))
        for members in columns.values()
        if len(members) > 1
    ]
    if not orders:
        return {}
    kept = orders[0][0].path.parents[1] / KEPT
    source = _source(orders, alpha)
    found = _read(kept, source)
    if found is None:
        tests = [_tests(order) for order in orders]
        found = {}
        for order, one, lead in zip(orders, tests, leads(tests, alpha=alpha), strict=True):
            found |= _ranked([member.key for member in order], one, lead, alpha)
        _write(kept, source, found)
    return found


def _source(orders: Sequence[Sequence[Member]], alpha: float) -> str:
    """Digest of all that ranks come from."""
    members = [[(one.key, one.value, vars(one.derived.last)) for one in order] for order in orders]
    return digest([FORMAT, alpha, members])


def _read(path: Path, source: str) -> dict[str, RankInterval] | None:
    try:
        kept = json.loads(path.read_bytes())
        if kept["source"] != source:
            return None
        return {key: RankInterval(**one) for key, one in kept["ranks"].items()}
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not there, or cut: it is made again


def _write(path: Path, source: str, ranks: Mapping[str, RankInterval]) -> None:
    text = json.dumps({"source": source, "ranks": {key: vars(one) for key, one in ranks.items()}})
    with contextlib.suppress(OSError):  # a full or read-only folder costs time, no result
        write_atomic(path, text.encode())


def _tests(order: Sequence[Member]) -> PairTests:
    groups: dict[str, list[int]] = {}
    for place, member in enumerate(order):
        assert member.derived.last is not None
        groups.setdefault(member.derived.last.units, []).append(place)
    parts = []
    for places in groups.values():
        first = order[places[0]]
        assert first.derived.last is not None
        scores = np.stack([order[place].derived.last_scores() for place in places])
        weights = None
        if first.derived.last.stratified or not first.derived.last.binary:
            units = layer_item_scores(first.record, first.path, first.derived.last.layer)
            assert units is not None
            weights = units.ordered().weights
        parts.append((places, scores, weights))
    return model_tests(len(order), parts)


def leads(tests: Sequence[PairTests], *, alpha: float) -> list[list[str]]:
    """Who leads each benchmark, of its models by falling score.

    Args:
        tests: of all pairs of one benchmark each.
        alpha: level of significance over all benchmarks.

    Returns:
        One list per benchmark: "first", "tied" or "behind" by place.

    >>> both = [PairTests.known(2, [0.01]), PairTests.known(2, [0.03])]
    >>> leads(both, alpha=0.05)
    [['first', 'behind'], ['first', 'behind']]
    """
    firsts = holm([one.largest_of_first(alpha) for one in tests])
    if all(first <= alpha for first in firsts):  # nobody asks which others are tied
        apart = [np.zeros(0, bool)] * len(tests)
    else:
        apart = significant(tests, alpha)
    found = []
    for one, first, behind in zip(tests, firsts, apart, strict=True):
        others = range(1, one.models)
        if first <= alpha:
            found.append(["first", *("behind" for _ in others)])
        else:
            # Pairs of place 0 stand first.
            found.append(["tied", *("behind" if behind[j - 1] else "tied" for j in others)])
    return found


def _ranked(
    order: Sequence[str], tests: PairTests, lead: Sequence[str], alpha: float
) -> dict[str, RankInterval]:
    """Of the models of one benchmark, keys by falling score."""
    total = len(order)
    apart: NDArray[np.bool_] = np.zeros((total, total), bool)
    apart[np.triu_indices(total, 1)] = significant([tests], alpha)[0]
    groups, leader = [0], 0
    for place in range(1, total):
        if apart[leader, place]:
            leader = place
            groups.append(groups[-1] + 1)
        else:
            groups.append(groups[-1])
    better, worse = apart.sum(axis=0).tolist(), apart.sum(axis=1).tolist()
    return {
        key: RankInterval(
            first=1 + better[place],
            last=total - worse[place],
            group=_letters(groups[place]),
            models=total,
            lead=lead[place],
        )
        for place, key in enumerate(order)
    }


def _letters(number: int) -> str:
    """Letters of a group: a to z, then aa.

    >>> [_letters(n) for n in (0, 25, 26)]
    ['a', 'z', 'aa']
    """
    letters = ""
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return letters
