"""Why two results differ: every recorded setting in which their records disagree.

A record's identity (`identity.IDENTITY`) holds whatever could change its numbers; names, file locations
and environments are recorded beside it. Libraries and devices can move the last digits of a number,
never its protocol.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sdssl_bench.records.identity import BESIDE, Record
from sdssl_bench.records.titles import plain, record_title

ABSENT = "(not recorded)"
GROUPS = ("protocol", "data", "model", "settings", "layers", "name", "environment")
"""In order of appearance; those after "layers" cannot change a number."""
HARMLESS = ("name", "environment")
NAMES = (
    "model.name", "model.uri", "model.file_sha256", "model.pretrained",
    *(f"model.details.{name}" for name in BESIDE),
)  # fmt: skip
COMPARABLE = (
    "task", "protocol.id", "protocol.version", "protocol.parameters", "protocol.resolved.labels",
    "dataset.name", "dataset.variant", "dataset.fingerprint", "headline", "limited",
)  # fmt: skip
"""What has to agree before two models may be compared: protocol, data and metric."""


@dataclass(frozen=True)
class Setting:
    """One recorded setting that differs.

    Attributes:
        group: one of GROUPS.
        path: where it stands in the record, such as "protocol.parameters.temperature".
        a: its value in the first record.
        b: its value in the second.
    """

    group: str
    path: str
    a: Any
    b: Any

    @property
    def harmless(self) -> bool:
        """Whether it is no part of what could change a number."""
        return self.group in HARMLESS

    def __str__(self) -> str:
        return f"{plain(self.path)}: {shown(self.a)} against {shown(self.b)}"


def shown(value: Any) -> str:
    """A value in one line, hashes cut.

    >>> shown("f" * 64), shown([1, 2]), shown(None)
    ('ffffffffffff...', '[1, 2]', 'none')
    """
    text = "none" if value is None else plain(str(value))
    hexadecimal = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:12]}..." if hexadecimal else text


def differences(a: Record, b: Record) -> list[Setting]:
    """All settings in which two records differ, grouped in the order of GROUPS, then by path.

    Scores, times and what a probe chose by itself are results, not settings.
    """
    first, second = dict(_settings(a)), dict(_settings(b))
    found = [
        Setting(_group(path), path, first.get(path, ABSENT), second.get(path, ABSENT))
        for path in {**first, **second}
        if first.get(path, ABSENT) != second.get(path, ABSENT)
    ]
    return sorted(found, key=lambda one: (GROUPS.index(one.group), one.path))


def obstacles(a: Record, b: Record) -> list[Setting]:
    """Those differences that forbid comparing the two models' scores."""
    return [
        one
        for one in differences(a, b)
        if any(one.path == path or one.path.startswith(f"{path}.") for path in COMPARABLE)
    ]


def scores(a: Record, b: Record) -> dict[str, dict[str, float]]:
    """Headlines of the layers both records have: layer -> {"a": ..., "b": ...}, if they are the same."""
    if a["headline"] != b["headline"]:
        return {}
    name = a["headline"]
    return {
        layer: {"a": entry["metrics"][name], "b": b["layers"][layer]["metrics"][name]}
        for layer, entry in a["layers"].items()
        if layer in b["layers"]
    }


def lines(a: Record, b: Record, found: list[Setting]) -> Iterator[str]:
    """What differs, for a person."""
    yield f"A: {record_title(a)}"
    yield f"B: {record_title(b)}"
    headlines = scores(a, b)
    moved = [layer for layer, pair in headlines.items() if pair["a"] != pair["b"]]
    if headlines:
        yield f"{a['headline']} differs at {len(moved)} of {len(headlines)} layers that both have."
    for title, harmless in (
        ("Part of the evaluation, so it can change the numbers:", False),
        ("Recorded beside it, and no part of the protocol (libraries and devices may move last digits):",
         True),
    ):  # fmt: skip
        members = [one for one in found if one.harmless == harmless]
        yield title if members else f"{title} nothing."
        for group in GROUPS:
            of_group = [one for one in members if one.group == group]
            if of_group:
                yield f"  {group}"
                yield from (f"    {one}" for one in of_group)


def as_json(a: Record, b: Record, found: list[Setting]) -> dict[str, Any]:
    """What differs, as a JSON value."""
    entries = [
        {
            "group": one.group,
            "path": one.path,
            "a": one.a,
            "b": one.b,
            "can_change_numbers": not one.harmless,
        }
        for one in found
    ]
    return {
        "same_evaluation": a["key"] == b["key"],
        "headline": scores(a, b),
        "differences": entries,
    }


def _group(path: str) -> str:
    if path in NAMES:
        return "name"
    first = path.partition(".")[0]
    return {
        "task": "protocol",
        "headline": "protocol",
        "dataset": "data",
        "limited": "data",
        "environments": "environment",
    }.get(first, first)


def _settings(record: Record) -> Iterator[tuple[str, Any]]:
    protocol = {k: v for k, v in record["protocol"].items() if k != "digest"}  # of what follows
    yield from _flat("protocol", protocol)
    model = {"point": "block", **record["model"]}
    for name in ("task", "dataset", "model", "headline", "limited", "settings"):
        yield from _flat(name, model if name == "model" else record[name])
    yield "layers.scored", [int(layer) for layer in record["layers"]]
    skipped = {
        layer: entry["notes"]["skipped_images"]
        for layer, entry in record["layers"].items()
        if "skipped_images" in entry["notes"]
    }
    if skipped:
        yield "layers.skipped_images", next(iter(skipped.values()))
    for path in dict.fromkeys(path for one in record["environments"] for path, _ in _flat("", one)):
        values = [dict(_flat("", one)).get(path, ABSENT) for one in record["environments"]]
        unique = list(dict.fromkeys(map(str, values)))
        yield f"environments{path}", unique[0] if len(unique) == 1 else unique


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with their paths; lists are leaves."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}", inner)
    else:
        yield path, value
