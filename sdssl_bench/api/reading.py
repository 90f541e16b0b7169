"""Stored results in Python: of folders, or of results at hand."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from sdssl_bench.api.results import Result, Results
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.parameters import comma_list
from sdssl_bench.records import Record, Stored, check_unique
from sdssl_bench.statistics import read_results as read_folders
from sdssl_bench.system import default_results

Folder = str | os.PathLike[str]
Source = Folder | Result | Iterable[Folder | Result] | None
"""Folders of results, results, or both; None is $SDSSL_BENCH_RESULTS, or ./results."""
Names = str | Iterable[str] | None
"""A name, a comma list or an iterable of names; None is all."""


class LeftOut(UserWarning):
    """A damaged record is left out of what is shown."""


def read_results(
    results: Source = None, *, task: Names = None, dataset: Names = None, model: Names = None
) -> Results:
    """The stored results, as `evaluate` has returned them; a damaged one is left out with a warning.

    Args:
        results: a folder or several; None is $SDSSL_BENCH_RESULTS, or ./results.
        task: only these tasks.
        dataset: only these datasets.
        model: only these models.

    Raises:
        DataError: if a folder holds no results, two hold the same one, none can be read, or none has
            a name given.
    """
    found, damaged = read(results)
    warn(damaged)
    return Results(
        Result(record, path) for path, record in chosen(found, damaged, task, dataset, model)
    )


def read(
    source: Source, *, items: bool = True, brief: bool = False
) -> tuple[list[Stored], list[DataError]]:
    """The records, with the temporary files of results at hand, and why others are left out.

    Args:
        source: folders or results.
        items: as `statistics.read_results`.
        brief: likewise.

    Raises:
        UsageError: if it is something else.
        DataError: as `statistics.read_results`.
    """
    given = sources(source)
    found, damaged = read_folders(
        [Path(one) for one in given if not isinstance(one, Result)], items=items, brief=brief
    )
    found += [one.stored for one in given if isinstance(one, Result)]
    check_unique(found)
    return found, damaged


def sources(source: Source) -> list[Folder | Result]:
    """Folders and results, as a list that may be gone through again.

    Raises:
        UsageError: if there is anything else.
    """
    if source is None:
        return [default_results()]
    if isinstance(source, str | os.PathLike | Result):
        return [source]
    given = list(source)
    for one in given:
        if not isinstance(one, str | os.PathLike | Result):
            raise UsageError(
                f"Expected folders of results, or results of evaluate; found {type(one).__name__}."
            )
    return given


def places(source: Source) -> str:
    """Where results were looked for, in words."""
    found = (
        "the results given" if isinstance(one, Result) else str(one) for one in sources(source)
    )
    return ", ".join(dict.fromkeys(found))


def folders(given: Folder | Iterable[Folder] | None) -> list[Path]:
    """Folders as paths."""
    if given is None or isinstance(given, str | os.PathLike):
        given = [] if given is None else [given]
    return [Path(one).expanduser() for one in given]


def chosen(
    found: Sequence[Stored],
    damaged: Sequence[DataError],
    task: Names,
    dataset: Names,
    model: Names,
) -> list[Stored]:
    """Those of these tasks, datasets and models.

    Raises:
        DataError: if a name is in none of them, nor can be in a damaged one.
    """
    asked = {
        "task": names("task", task),
        "dataset": names("dataset", dataset),
        "model": names("model", model),
    }
    if found and not damaged:
        for kind, wanted in asked.items():
            there = {_name(record, kind) for _, record in found}
            for name in wanted:
                if name not in there:
                    known = did_you_mean(kind, name, there)
                    raise DataError(f"{known} These are all that the results hold.")
    return [
        (path, record)
        for path, record in found
        if all(not wanted or _name(record, kind) in wanted for kind, wanted in asked.items())
    ]


def _name(record: Record, kind: str) -> str:
    return str(record["task"] if kind == "task" else record[kind]["name"])


def names(argument: str, value: Names) -> list[str]:
    """The names in a text with commas, or of an iterable; none stands for all.

    Raises:
        UsageError: if one is empty.

    >>> names("task", "a,b"), names("task", None)
    (['a', 'b'], [])
    """
    return comma_list(f"--{argument}", [value] if isinstance(value, str) else value)


def warn(damaged: Sequence[DataError]) -> None:
    """Say what is left out, and why."""
    for error in damaged:
        warnings.warn(f"left out: {error}", LeftOut, stacklevel=3)
