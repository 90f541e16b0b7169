"""Result records: one JSON per (model, task, dataset, protocol), all layers inside.

The record is rewritten atomically as soon as a layer is scored, under a lock, so a run killed at any
moment loses at most the layer it was working on, and two jobs writing at once lose nothing. Per-item
scores lie beside it in `<record>.items.npz`, written before the record that refers to them.
`record.schema.json` in this package is the format's contract; results/README.md explains it.
"""

import hashlib
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.system import write_atomic

SCHEMA_VERSION = 1
REQUIRED = (
    "schema_version", "key", "task", "protocol", "dataset", "model", "headline", "limited",
    "settings", "environments", "layers",
)  # fmt: skip
IDENTITY = ("schema_version", "task", "protocol", "dataset", "model", "limited", "settings")
VOLATILE = ("scored_at", "seconds")
"""Fields of a layer that differ between two runs of the same thing."""
BESIDE = ("heads_source", "weights_look", "colours_source", "cls_why")
"""Details of a model that tell how another is known."""

Record = dict[str, Any]
Stored = tuple[Path, Record]
"""A record with its file, beside which the per-item scores lie."""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON value, independent of key order."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def record_key(record: Mapping[str, Any]) -> str:
    """Identity of a record: a digest of everything that could change its numbers.

    How the model file was called and where it lay are no part of it.
    """
    parts = {name: record[name] for name in IDENTITY}
    parts["model"] = model_identity(record["model"])
    return digest(parts)[:16]


def model_identity(model: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record's model that could change a number.

    Neither its name and place nor how its head count is known, nor whether its training is.
    """
    kept = {k: v for k, v in model.items() if k not in ("uri", "name")}
    kept["details"] = {k: v for k, v in model.get("details", {}).items() if k not in BESIDE}
    return kept | {"pretrained": model.get("pretrained") is not False}


def select(
    records: Iterable[Stored],
    *,
    tasks: Collection[str] = (),
    datasets: Collection[str] = (),
    models: Collection[str] = (),
) -> list[Stored]:
    """The records of these tasks, datasets and models, by name; no names choose all."""
    return [
        (path, record)
        for path, record in records
        if all(
            not names or name in names
            for name, names in (
                (record["task"], tasks),
                (record["dataset"]["name"], datasets),
                (record["model"]["name"], models),
            )
        )
    ]


def best_layer(record: Mapping[str, Any], metric: str) -> int | None:
    """The earliest of the layers with the highest value; None where no layer has this metric."""
    values = {
        int(layer): entry["metrics"][metric]
        for layer, entry in record["layers"].items()
        if metric in entry["metrics"]
    }
    return min(values, key=lambda layer: (-values[layer], layer), default=None)


def slug(text: str) -> str:
    """A file-name-safe form of a name.

    >>> slug("folder:/data/my set")
    'folder-data-my_set'
    """
    text = text.replace(" ", "_")
    return (
        re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._+=]+", "-", text)).strip("-.")[:80] or "unnamed"
    )


def stable_view(record: Mapping[str, Any]) -> Record:
    """The record without times: equal for a disturbed and an undisturbed run."""
    layers = {
        layer: {k: v for k, v in entry.items() if k not in VOLATILE}
        for layer, entry in record["layers"].items()
    }
    return {**record, "layers": layers}


def read_record(path: Path) -> Record:
    """One record, checked for the format's version and required fields.

    Raises:
        DataError: if the file is no complete record of this version.
    """
    advice = "If it is a record, move it away and run that evaluation again."
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"Expected a result record in {path}, found: {error.strerror or error}. Name a file "
            "whose path 'sdssl-bench run' printed."
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"Expected a result record in {path}, found: {error}. {advice}") from error
    if not isinstance(record, dict):
        raise DataError(f"Expected a result record in {path}, found another JSON value. {advice}")
    if record.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {record.get('schema_version')!r}, this version of "
            f"sdssl-bench reads {SCHEMA_VERSION}. {advice}"
        )
    missing = [name for name in REQUIRED if name not in record]
    if missing:
        raise DataError(f"The record {path} lacks {', '.join(missing)}. {advice}")
    if record["key"] != record_key(record):
        raise DataError(
            f"The record {path} was edited: its fields digest to {record_key(record)}, its key says "
            f"{record['key']}. {advice}"
        )
    return record


def read_items(path: Path, layer: int) -> dict[str, NDArray[Any]]:
    """Per-item scores of one layer of the record at `path`, name -> [n].

    Raises:
        DataError: if the file beside the record is missing or unreadable, or lacks the layer.
    """
    file, prefix = items_path(path), f"layer{layer:02d}/"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {
                n.removeprefix(prefix): arrays[n] for n in arrays.files if n.startswith(prefix)
            }
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"Expected per-item scores in {file}, found: {error}.") from error
    if not found:
        raise DataError(f"{file} holds no per-item scores of layer {layer}.")
    return found


def items_path(path: Path) -> Path:
    """Where the per-item scores of the record at `path` lie."""
    return path.with_suffix(".items.npz")


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
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.name}.lock"):
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
            with np.load(path, allow_pickle=False) as stored:
                arrays = {n: stored[n] for n in stored.files if not n.startswith(prefix)}
        arrays.update({prefix + name: np.asarray(values) for name, values in items.items()})
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{n: arrays[n] for n in sorted(arrays)})
        write_atomic(path, buffer.getvalue())

    def __iter__(self) -> Iterator[tuple[Path, Record]]:
        """All records with their paths, in path order."""
        for path in sorted(self.runs.glob("**/*.json")):
            yield path, read_record(path)


def read_all(folders: Iterable[Path]) -> list[Stored]:
    """The records of several results folders.

    Raises:
        DataError: if a folder holds no results, or two hold the same result.
    """
    found: dict[tuple[str, str], Path] = {}
    records: list[Stored] = []
    for folder in folders:
        store = ResultStore(folder.expanduser())
        if not store.runs.is_dir():
            raise DataError(
                f"Expected result records under {store.runs}, found no such folder. Run an evaluation "
                "first, or name another folder with --results."
            )
        for path, record in store:
            evaluation = record["model"]["name"], record["key"]
            if evaluation in found:
                raise DataError(
                    f"{path} and {found[evaluation]} are the same evaluation of "
                    f"{record['model']['name']}. Name one of their folders, or move one of them away."
                )
            found[evaluation] = path
            records.append((path, record))
    return records
