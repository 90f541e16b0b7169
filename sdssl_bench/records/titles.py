"""What a record's numbers are, in one line for the head of a table."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from sdssl_bench.system import shortened

UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode categories of what moves a cursor, a line or the order of letters, and has no look of its own."""


def plain(text: str) -> str:
    r"""A name as one line of visible characters, in whatever it is shown; others stand as escapes.

    >>> print(plain("a\nb\x1b[2J \u202egnp"))
    a\nb\x1b[2J \u202egnp
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(repr(one)[1:-1] if unicodedata.category(one) in UNSEEN else one for one in text)


def variant_mark(variant: str) -> str:
    """What stands behind the name of data that are not the whole official set.

    >>> variant_mark("official"), variant_mark("partial")
    ('', ' (partial)')
    """
    return "" if variant in ("official", "folder") else f" ({variant})"


def part_mark(protocol: str) -> str:
    """What stands behind the name of what was learned from few labels, by the protocol's id.

    >>> part_mark("knn/dino"), part_mark("knn/dino+4-shot")
    ('', ' (4-shot)')
    """
    part = protocol.partition("+")[2]
    return f" ({part})" if part else ""


def by_numbers(text: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """What names of benchmarks are sorted by: numbers count up, few labels stand behind all of them.

    >>> sorted(["knn x (16-shot) (mini)", "knn x (2-shot) (mini)", "knn x (mini)"], key=by_numbers)
    ['knn x (mini)', 'knn x (2-shot) (mini)', 'knn x (16-shot) (mini)']
    """
    part = " ".join(re.findall(r" \(([0-9][^)]*)\)", text))
    names = (re.sub(r" \([0-9][^)]*\)", "", text), part)
    whole, few = (
        [(int(one), "") if one.isdecimal() else (-1, one) for one in re.split(r"([0-9]+)", name)]
        for name in names
    )
    return whole, few


def limit_mark(limit: int | None) -> str:
    """What stands behind the name of what was measured on `limit` items per split.

    >>> limit_mark(None), limit_mark(100)
    ('', ' (limit 100)')
    """
    return "" if limit is None else f" (limit {limit})"


def record_title(record: Mapping[str, Any]) -> str:
    """What a table's numbers are: protocol, data, model, and everything unusual about them."""
    model, data, protocol = record["model"], record["dataset"], record["protocol"]
    parts = [
        f"{protocol['id']}@{protocol['version']}",
        f"{plain(data['name'])}{variant_mark(data['variant'])}",
        f"{shortened(plain(model['name']), 56)} [{model['network']}, norm {model['norm']}]",
    ]
    mark = training_mark(model)
    if mark:
        parts.append(mark.upper())
    if record["limited"] is not None:
        parts.append(f"limited to {record['limited']} items per split")
    return " · ".join(parts)


def training_mark(model: Mapping[str, Any]) -> str:
    """What to say of a model that is not known to be trained and does not look so, else "".

    >>> training_mark({"pretrained": "unknown", "details": {"weights_look": "untrained"}})
    'looks untrained'
    """
    if model["pretrained"] is False:
        return "untrained"
    look = model["details"].get("weights_look", "")
    return f"looks {look}" if look.endswith("untrained") else ""
