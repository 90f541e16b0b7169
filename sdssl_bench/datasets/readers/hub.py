"""`hf:ORG/NAME?split=..&image=..&label=..@revision`: classification sets through the library `datasets`.

Map-style only: images stay encoded in the library's memory-mapped tables and are decoded one by one, by
the suite's own decoder. Items are named by split and row, whichever slice of a split they come in.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.listing import Listing, OwnSet, SplitListing, sorted_classes
from sdssl_bench.datasets.readers.tables import query_of
from sdssl_bench.errors import DataError, UsageError, did_you_mean

_TEST = ("test", "validation", "val", "valid", "dev")
_BATCH_ROWS = 1000
_BETWEEN = re.compile(r":(?![^\[]*\])")
"""The colon between two splits, not one inside a slice."""
_COMMIT = re.compile(r"@([0-9a-f]{40})/")


@dataclass(frozen=True, eq=False)
class TableImages:
    """Encoded images in a table of the library; picklable, cheap to copy.

    Attributes:
        table: a `datasets.Dataset` whose image column is not decoded.
        column: of the images.
        rows: [N] of the table.
    """

    table: Any
    column: str
    rows: NDArray[np.int64]

    def encoded(self, index: int) -> bytes | Path:
        """The bytes of an image, or its file."""
        value = self.table[int(self.rows[index])][self.column]
        return Path(value["path"]) if value["bytes"] is None else bytes(value["bytes"])

    def take(self, rows: NDArray[np.int64]) -> "TableImages":
        """Some of the images."""
        return TableImages(self.table, self.column, self.rows[rows])


@dataclass(frozen=True)
class _Address:
    path: str
    config: str | None
    revision: str | None
    image: str | None
    label: str | None
    splits: tuple[str | None, str | None]


def read_own_hub(address: str) -> OwnSet:
    """The set of "ORG/NAME?split=..@revision", or of a folder.

    Raises:
        UsageError: for a parameter, split or column that does not exist.
        DataError: if the library is not installed, cannot open the set, or a row has no label.
    """
    asked = _parse(address)
    tables, splits = _open(asked)
    columns = {split: _columns(table, asked) for split, table in tables.items()}
    labels = {split: _labels(tables[split], columns[split][1]) for split in tables}
    stated = getattr(tables["train"].features[columns["train"][1]], "names", None)
    classes = list(stated or sorted_classes(labels["train"]))
    ids = {name: i for i, name in enumerate(classes)}
    listings = {}
    for split, table in tables.items():
        unknown = [row for row, label in enumerate(labels[split]) if label not in ids]
        if unknown:
            raise DataError(
                f"hf:{address}: expected every class of {splits[split]} among those of "
                f"{splits['train']}, found '{labels[split][unknown[0]]}' in row {unknown[0]}."
            )
        listings[split] = _listing(
            table,
            columns[split][0],
            names=_names(table, splits[split]),
            targets=[ids[one] for one in labels[split]],
        )
    notes: dict[str, Any] = {"splits_used": splits}
    commit = _COMMIT.search(" ".join(map(str, tables["train"].info.download_checksums or {})))
    if commit or asked.revision:
        notes["revision"] = commit[1] if commit else asked.revision
    listing = Listing(tuple(map(str, classes)), listings["train"], listings["test"])
    return OwnSet(listing, Path(asked.path), notes)


def _parse(address: str) -> _Address:
    path, _, query = address.partition("?")
    revision = ""
    if "@" in query:
        query, _, revision = query.rpartition("@")
    elif "@" in path and not Path(path).expanduser().is_dir():
        path, _, revision = path.rpartition("@")
    if not path:
        raise UsageError("hf: takes ORG/NAME or a folder, found nothing.")
    asked = {
        key: one[0] for key, one in query_of(query, ("split", "image", "label", "config")).items()
    }
    splits = _BETWEEN.split(asked["split"]) if "split" in asked else []
    if len(splits) > 2 or not all(splits):
        raise UsageError(f"split= takes TEST or TRAIN:TEST, found '{asked['split']}'.")
    train, test = splits if len(splits) == 2 else [None, *(splits or [None])]
    return _Address(
        str(Path(path).expanduser()), asked.get("config"), revision or None,
        asked.get("image"), asked.get("label"), (train, test),
    )  # fmt: skip


def _open(asked: _Address) -> tuple[dict[str, Any], dict[str, str]]:
    """The two splits as tables of the library, and how they were asked of it."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "hf: names are read by the package datasets, which is not installed: pip install "
            "'sdssl-bench[hf]'."
        ) from error
    folder = Path(asked.path)
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    what = {"path": asked.path, "name": asked.config, "revision": asked.revision}
    try:
        if saved:
            stored = datasets.load_from_disk(asked.path)
            known = list(stored) if isinstance(stored, dict) else [str(stored.split)]
        else:
            known = datasets.get_dataset_split_names(
                asked.path, config_name=asked.config, revision=asked.revision
            )
        splits = _chosen(asked.splits, known)
        return {
            name: _saved(stored, split) if saved else datasets.load_dataset(**what, split=split)
            for name, split in splits.items()
        }, splits
    except (UsageError, MemoryError):
        raise
    except Exception as error:  # The library and its readers raise anything.
        where = "" if folder.is_dir() else " It needs the network, or what the library's cache has."
        raise DataError(
            f"hf:{asked.path} cannot be opened by the library datasets ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}).{where}"
        ) from error


def _chosen(splits: tuple[str | None, str | None], known: list[str]) -> dict[str, str]:
    for split in splits:
        for part in (split or known[0]).split("+"):
            if part.partition("[")[0] not in known:
                raise UsageError(did_you_mean("split", part.partition("[")[0], known))
    train = splits[0] or "train"
    test = splits[1] or next((name for name in _TEST if name in known), None)
    if test is None or (splits[0] is None and train not in known):
        raise UsageError(
            f"Expected the splits train and one of {', '.join(_TEST)}, found {', '.join(known)}. Name "
            "them: split=TRAIN:TEST, with slices such as train[:80%]:train[80%:]."
        )
    return {"train": train, "test": test}


def _saved(stored: Any, split: str) -> Any:
    if "[" in split or "+" in split:
        raise UsageError(f"split={split}: a folder of save_to_disk has whole splits only.")
    return stored[split] if isinstance(stored, dict) else stored


def _columns(table: Any, asked: _Address) -> tuple[str, str]:
    """The columns of images and labels."""
    from datasets import ClassLabel, Image

    kinds = {name: type(one).__name__ for name, one in table.features.items()}
    found = []
    for what, name, kind in (
        ("image", asked.image, Image.__name__),
        ("label", asked.label, ClassLabel.__name__),
    ):
        if name is not None and name not in kinds:
            raise UsageError(did_you_mean(f"column for {what}=", name, kinds))
        fitting = [name] if name else [one for one, has in kinds.items() if has == kind]
        if len(fitting) != 1:
            have = ", ".join(f"{one} ({has})" for one, has in kinds.items())
            raise UsageError(
                f"hf:{asked.path}: {what}= must name the column, {len(fitting)} are of the kind {kind}; "
                f"found {have}."
            )
        found.append(fitting[0])
    return found[0], found[1]


def _labels(table: Any, column: str) -> list[Any]:
    """The label of each row: the class's name, or what the column has."""
    values = table.with_format(None)[column][:]
    names = getattr(table.features[column], "names", None)
    count = len(names) if names else 0
    bad = [
        row
        for row, value in enumerate(values)
        if value is None or value != value or (names and not 0 <= value < count)
    ]
    if bad:
        raise DataError(
            f"{table.split}: expected a label in every row of '{column}', found none in {len(bad):,} rows, "
            f"first row {bad[0]}. Test splits of the hub often have no labels: choose another by split=."
        )
    return [names[value] for value in values] if names else list(map(str, values))


def _names(table: Any, split: str) -> list[str]:
    """Split and row in it, so that slices that overlap share names."""
    if "[" not in split and "+" not in split:
        return [f"{split}:{row}" for row in range(len(table))]
    from datasets import ReadInstruction

    sizes = {name: one.num_examples for name, one in table.info.splits.items()}
    names = [
        f"{part.splitname}:{row}"
        for part in ReadInstruction.from_spec(split).to_absolute(sizes)
        for row in range(part.from_, part.to)
    ]
    if len(names) != len(table):
        raise DataError(f"split={split}: expected {len(names):,} rows, found {len(table):,}.")
    return names


def _listing(table: Any, column: str, *, names: list[str], targets: list[int]) -> SplitListing:
    from datasets import Image

    images = table.select_columns([column]).cast_column(column, Image(decode=False))
    times = [Path(one["filename"]).stat().st_mtime_ns for one in table.cache_files]
    sizes = np.concatenate([np.empty(0, np.int64), *_sizes(images, column)])
    return SplitListing(
        names,
        np.array(targets, np.int64),
        facts=(sizes, np.full(len(table), max(times, default=0), np.int64)),
        encoded=TableImages(images, column, np.arange(len(table), dtype=np.int64)),
    )


def _sizes(images: Any, column: str) -> Iterator[NDArray[np.int64]]:
    """Bytes of each image, -1 where there is none; no image is copied."""
    import pyarrow.compute as pc

    for batch in images.with_format("arrow").iter(_BATCH_ROWS):
        values = batch.column(column)
        lengths = pc.binary_length(pc.struct_field(values, "bytes")).to_pylist()
        paths = pc.struct_field(values, "path").to_pylist()
        yield np.array(
            [
                _file_size(path) if length is None else length
                for length, path in zip(lengths, paths, strict=True)
            ],
            np.int64,
        )


def _file_size(path: str | None) -> int:
    return Path(path).stat().st_size if path and Path(path).is_file() else -1
