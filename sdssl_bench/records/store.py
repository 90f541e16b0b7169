"""Result records: one JSON per (model, task, dataset, protocol), all layers inside.

The record is rewritten atomically as soon as a layer is scored, under a lock, so a run killed at any
moment loses at most the layer it was working on, and two jobs writing at once lose nothing. Per-item
scores lie beside it in `<record>.items.npz`, written before the record that refers to them.
`record.schema.json` in this package is the format's contract; results/README.md explains it.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.records.identity import Record, content_digest
from sdssl_bench.records.reading import SHARED_ITEMS, items_path, read_record, stored_items
from sdssl_bench.records.titles import plain
from sdssl_bench.system import locked, write_atomic

Stored = tuple[Path, Record]
"""A record with its file, beside which the per-item scores lie."""


def best_layer(record: Mapping[str, Any], metric: str) -> int | None:
    """The earliest of the layers with the highest value; None where no layer has this metric."""
    values = {
        int(layer): entry["metrics"][metric]
        for layer, entry in record["layers"].items()
        if metric in entry["metrics"]
    }
    return min(values, key=lambda layer: (-values[layer], layer), default=None)


def shown_layer(record: Mapping[str, Any]) -> int | None:
    """The last layer if it has the headline, else the first that has it: what a table of last layers needs.

    The latter is not shown, but its record tells its labels from others.
    """
    having = [
        int(n) for n, entry in record["layers"].items() if record["headline"] in entry["metrics"]
    ]
    last = record["model"]["depth"]
    return last if last in having else min(having, default=None)


def slug(text: str) -> str:
    """A file-name-safe form of a name.

    >>> slug("folder:/data/my set")
    'folder-data-my_set'
    """
    text = text.replace(" ", "_")
    return (
        re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._+=]+", "-", text)).strip("-.")[:80] or "unnamed"
    )


@dataclass(frozen=True)
class ResultStore:
    """The records under one folder, `root`/runs/**/*.json."""

    root: Path

    @property
    def runs(self) -> Path:
        """Folder of the records."""
        return self.root / "runs"

    def path(self, record: Mapping[str, Any]) -> Path:
        """Where a record is stored: runs/MODEL/TASK-DATASET-VARIANT-KEY.json."""
        data = record["dataset"]
        name = f"{record['task']}-{slug(data['name'])}-{data['variant']}-{record['key']}.json"
        return self.runs / slug(record["model"]["name"]) / name

    def find(self, head: Mapping[str, Any]) -> Record | None:
        """The stored record with this head's key, if there is one."""
        path = self.path(head)
        return read_record(path) if path.exists() else None

    def add_layer(
        self,
        head: Record,
        layer: int,
        *,
        entry: Mapping[str, Any],
        environment: Mapping[str, Any],
        items: Mapping[str, NDArray[Any]],
    ) -> Record:
        """Store one layer's scores; returns the record as it now stands on disk.

        Reads, merges and writes under a lock. `head` is a record without layers and environments.
        """
        path = self.path(head)
        with locked(path.parent / f".{path.name}.lock"):
            for leftover in path.parent.glob(f".{path.stem}*.tmp"):  # of a killed writer
                leftover.unlink(missing_ok=True)
            record = (
                read_record(path) if path.exists() else {**head, "environments": [], "layers": {}}
            )
            if environment not in record["environments"]:
                record["environments"].append(dict(environment))
            stamped = {**entry, "environment": record["environments"].index(environment)}
            layers = {**record["layers"], str(layer): stamped}
            record["layers"] = {key: layers[key] for key in sorted(layers, key=int)}
            record["digest"] = content_digest(record)
            if items:
                self._merge_items(items_path(path), layer, items)
            text = json.dumps(record, indent=1, allow_nan=False)
            write_atomic(path, (text + "\n").encode())
        return record

    @staticmethod
    def _merge_items(path: Path, layer: int, items: Mapping[str, NDArray[Any]]) -> None:
        prefix = f"layer{layer:02d}/"
        arrays: dict[str, NDArray[Any]] = {}
        if path.exists():
            arrays = stored_items(path, lambda name: not name.startswith(prefix))
        for name, values in items.items():
            array = np.asarray(values)
            if name in SHARED_ITEMS and np.array_equal(arrays.setdefault(name, array), array):
                continue
            arrays[prefix + name] = array
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{n: arrays[n] for n in sorted(arrays)})
        write_atomic(path, buffer.getvalue())

    def files(self) -> list[Path]:
        """Files of all records, in path order."""
        found = [
            Path(folder, name)
            for folder, _, names in os.walk(self.runs)
            for name in names
            if name.endswith(".json")
        ]
        # By parts, as paths compare, but in a third of the time.
        return sorted(found, key=attrgetter("parts"))

    def __iter__(self) -> Iterator[Stored]:
        """All records with their paths, in path order.

        Raises:
            DataError: at the first that is damaged.
        """
        for path in self.files():
            yield path, read_record(path)


def record_files(folders: Iterable[Path]) -> list[Path]:
    """Files of the records in several results folders.

    Raises:
        DataError: if a folder holds no results.
    """
    found: list[Path] = []
    for folder in folders:
        store = ResultStore(folder.expanduser())
        if not store.runs.is_dir():
            raise DataError(
                f"Expected result records under {store.runs}, found no such folder. Run an evaluation "
                "first, or name another folder with --results."
            )
        found += store.files()
    return found


def check_unique(records: Iterable[Stored]) -> None:
    """Prove that no evaluation is there twice.

    Raises:
        DataError: naming both files.
    """
    found: dict[tuple[str, str], Path] = {}
    for path, record in records:
        evaluation = record["model"]["name"], record["key"]
        if evaluation in found:
            raise DataError(
                f"{path} and {found[evaluation]} are the same evaluation of "
                f"{plain(record['model']['name'])}. Name one of their folders, or move one of them away."
            )
        found[evaluation] = path
