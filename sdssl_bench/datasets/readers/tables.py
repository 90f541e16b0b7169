"""`csv:FILE?image=path&label=class&split=fold`: a table of paths, labels and splits.

Items are in the order of the table. Text stays text: a class called NA or 007 is that class.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import numpy as np

from sdssl_bench.datasets.listing import Listing, OwnSet, SplitListing, sorted_classes
from sdssl_bench.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_TEST = (("test", "testing"), ("val", "valid", "validation"))
_TRAIN = ("train", "training")
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_TABS = {".tsv", ".tab", ".txt"}
_COLUMN = re.compile(r"\{([^{}]+)\}")


def read_own_table(address: str) -> OwnSet:
    """The set of "FILE?image=..&label=..&split=..".

    Raises:
        UsageError: for a parameter or column that does not exist.
        DataError: naming the rows that are wrong.
    """
    text, _, query = address.partition("?")
    path = Path(text).expanduser()
    asked = query_of(query, ("image", "label", "split", "train", "test"), several=("train", "test"))
    missing = [name for name in ("image", "label", "split") if name not in asked]
    if missing:
        raise UsageError(
            f"csv:{text} needs the columns: csv:{text}?image=path&label=class&split=fold (quoted in a "
            f"shell), found no {', '.join(missing)}."
        )
    table = _read(path)
    images, labels, splits = (
        _values(table, asked[name][0], path, what=name) for name in ("image", "label", "split")
    )
    start = 1 if path.suffix == ".parquet" else 2  # The first line names the columns.
    for name, values in (("path", images), ("label", labels)):
        empty = [f"{row + start}" for row, value in enumerate(values) if not value.strip()]
        if empty:
            raise DataError(
                f"{path}: expected a {name} in every row, found none in {_rows(empty)}. Fill or remove "
                "these rows."
            )
    parts = _split_rows(splits, asked.get("train", []), asked.get("test", []), path=path)
    classes = sorted_classes(labels[row] for row in parts["train"])
    ids = {name: i for i, name in enumerate(classes)}
    unknown = [
        f"{row + start} ('{labels[row]}')" for row in parts["test"] if labels[row] not in ids
    ]
    if unknown:
        raise DataError(
            f"{path}: expected every class of the test rows in the training rows, found others in "
            f"{_rows(unknown)}."
        )
    train, test = (
        SplitListing(
            [images[row] for row in rows],
            np.array([ids[labels[row]] for row in rows], np.int64),
            rows=np.array(rows, np.int64) + start,
        )
        for rows in (parts["train"], parts["test"])
    )
    left_out = len(images) - len(train.names) - len(test.names)
    notes = {"rows_left_out": left_out} if left_out else {}
    return OwnSet(Listing(tuple(classes), train, test), path.absolute().parent, notes)


def query_of(
    query: str, known: Sequence[str], *, several: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Parameters of a name, those of `several` with all their values.

    Raises:
        UsageError: for an unknown parameter, an empty one, or one that is given twice.
    """
    found: dict[str, list[str]] = {}
    for key, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        if key not in known:
            raise UsageError(did_you_mean("parameter", key, known))
        if not value or (key in found and key not in several):
            state = "twice" if value else "without a value"
            raise UsageError(f"{key}= is given {state} in '{query}'.")
        found.setdefault(key, []).append(value)
    return found


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if not path.is_file():
        raise DataError(f"Expected a table at {path}, found no such file.")
    suffixes = [one.lower() for one in path.suffixes if one.lower() not in _COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    try:
        if suffix in (".parquet", ".pq"):
            return pd.read_parquet(path)
        separator = "\t" if suffix in _TABS else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except ImportError as error:
        raise DataError(
            f"{path}: parquet is read by the package pyarrow, which is not installed: pip install "
            "pyarrow."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Both parsers raise whatever a broken file leads to.
        kind = "parquet" if suffix in (".parquet", ".pq") else "CSV or TSV"
        raise DataError(
            f"{path}: expected a table as {kind}, found one that cannot be read "
            f"({type(error).__name__}: {' '.join(str(error).split())})."
        ) from error


def _values(table: "pd.DataFrame", column: str, path: Path, *, what: str) -> list[str]:
    """A column as text, or text made of {columns}; what is missing is empty."""
    wanted = _COLUMN.findall(column) if what == "image" and "{" in column else [column]
    known = [str(name) for name in table.columns]
    for name in wanted:
        if name not in known:
            raise UsageError(f"{path}: {did_you_mean(f'column for {what}=', name, known)}")
    parts = {name: [_text(value) for value in table[name].tolist()] for name in wanted}
    if wanted == [column]:
        return parts[column]
    return [
        _COLUMN.sub(lambda match, row=row: parts[match[1]][row], column)  # type: ignore[misc]
        if all(parts[name][row] for name in wanted)
        else ""
        for row in range(len(table))
    ]


def _text(value: object) -> str:
    if value is None or value != value:  # NaN, NaT
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Whole numbers beside empty cells are floats in pandas.
    return str(value)


def _split_rows(
    splits: list[str], train: list[str], test: list[str], *, path: Path
) -> dict[str, list[int]]:
    values = {value: value if test or train else value.strip().lower() for value in set(splits)}
    present = set(values.values())
    if not test:
        test = next((list(names) for names in _TEST if present & set(names)), [])
        train = train or list(_TRAIN)
    wanted = {"train": set(train) or present - set(test) - {""}, "test": set(test)}
    rows: dict[str, list[int]] = {
        part: [row for row, value in enumerate(splits) if values[value] in names]
        for part, names in wanted.items()
    }
    empty = [part for part, found in rows.items() if not found]
    if empty:
        found = ", ".join(
            f"'{value}' ({splits.count(value):,})" for value in sorted(set(splits))[:10]
        )
        raise DataError(
            f"{path}: expected {' and '.join(empty)} rows in the split column, found {found or 'no row'}. "
            "Name the values: &train=..&test=.. (each may be repeated)."
        )
    if both := wanted["train"] & wanted["test"]:
        raise UsageError(f"train= and test= share the value '{sorted(both)[0]}'.")
    return rows


def _rows(found: list[str]) -> str:
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return f"row{'s' if len(found) > 1 else ''} {', '.join(found[:5])}{more}"
