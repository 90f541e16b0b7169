"""Whole folders of results: what is damaged is named and left out, the rest is proven by its items."""

import gc
from collections.abc import Iterable, Sequence
from pathlib import Path

from sdssl_bench.errors import DataError
from sdssl_bench.records import (
    Record,
    Stored,
    check_unique,
    items_path,
    json_of,
    parse_record,
    read_bytes,
    record_files,
)
from sdssl_bench.statistics.derived import derive, read_kept, remember, source_of


def read_results(
    folders: Iterable[Path], *, items: bool = True, brief: bool = False
) -> tuple[list[Stored], list[DataError]]:
    """The records of several results folders, and why others are left out.

    Args:
        folders: results folders.
        items: False takes records whose per-item scores are not at hand, unproven.
        brief: True gives records that were proven before with `records.shown_layer` for their only
            layer, in a third of the time.

    Raises:
        DataError: if a folder holds no results, two hold the same result, or none can be read.
    """
    found, damaged = read_files(record_files(folders), items=items, brief=brief)
    check_unique(found)
    return found, damaged


def read_files(
    paths: Sequence[Path], *, items: bool = True, brief: bool = False
) -> tuple[list[Stored], list[DataError]]:
    """The records of these files, as `read_results`.

    Raises:
        DataError: if there are files and none can be read.
    """
    found: list[Stored] = []
    damaged: list[DataError] = []
    names: dict[tuple[str, ...], list[str]] = {}
    collecting = gc.isenabled()
    gc.disable()  # nothing here is in a circle, and looking for one takes half of the time, now and later
    try:
        for path in paths:
            try:
                record = read_proven(path, items=items, brief=brief)
            except DataError as error:
                damaged.append(error)
                continue
            for entry in record["layers"].values():  # a tenth of the memory: they are all alike
                entry["items"] = names.setdefault(tuple(entry["items"]), entry["items"])
            found.append((path, record))
    finally:
        if collecting:
            gc.freeze()
            gc.enable()
    if damaged and not found:
        more = f" So are {len(damaged) - 1} more." if len(damaged) > 1 else ""
        raise DataError(f"{damaged[0]}{more}") from damaged[0]
    return found, damaged


def read_proven(path: Path, *, items: bool = True, brief: bool = False) -> Record:
    """One record whose numbers its items give again.

    Args:
        path: of the record.
        items: as `read_results`.
        brief: likewise.

    Raises:
        DataError: if it is damaged or edited, or its items are.
    """
    content = read_bytes(path)
    stored = read_kept(path, source_of(path, content))
    if stored is not None:  # made from these very bytes after they were checked
        kept, shown = stored
        record: Record = shown if brief else json_of(content)
        remember(path, record, kept)
        return record
    record = parse_record(path, content)
    if items or items_path(path).exists():
        derive(path, record, content)
    return record
