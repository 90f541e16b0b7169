"""Where results side by side were measured on images that two releases of Pillow resized to other pixels."""

import re
from collections.abc import Iterable

from sdssl_bench.records import Record, by_numbers
from sdssl_bench.statistics.comparison import benchmark_name
from sdssl_bench.statistics.ranks import benchmark_key

ROWS_FIRST = 13
"""The release of Pillow since which a height that shrinks much more than the width is resized first."""
RESIZED = "pillow"
"""What protocols say of their images; frames of videos are resized by OpenCV."""
NAMED = 3
"""Benchmarks in a sentence."""


def mixed_pixels(records: Iterable[Record]) -> list[str]:
    """A sentence if records of one benchmark were measured with releases of Pillow that resize unlike.

    Args:
        records: of any benchmarks; those that do not name their Pillow are passed over.

    Returns:
        One sentence for all benchmarks, or none.
    """
    found: dict[tuple[str, ...], tuple[str, dict[bool, str]]] = {}
    for record in records:
        by_pillow = RESIZED in str(record["protocol"]["resolved"])
        if not by_pillow or not record.get("ranked", True):
            continue
        _, releases = found.setdefault(benchmark_key(record), (benchmark_name(record), {}))
        for number in {entry["environment"] for entry in record["layers"].values()}:
            version = record["environments"][number]["packages"].get("pillow") or ""
            if release := re.match(r"(\d{1,9})[.\d]*", version):
                releases.setdefault(int(release[1]) >= ROWS_FIRST, release[0])
    mixed = {name: releases for name, releases in found.values() if len(releases) == 2}
    if not mixed:
        return []
    names = sorted(mixed, key=by_numbers)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    older, newer = mixed[names[0]][False], mixed[names[0]][True]
    return [
        f"{', '.join(names[:NAMED])}{more}: measured in part with Pillow before {ROWS_FIRST} ({older}), in "
        f"part with a later one ({newer}). Images taller than 2:1 (squashed to a square: than 4:3) come "
        "out of their resize a grey level apart in one value of seven, which can move last digits."
    ]
