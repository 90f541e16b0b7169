"""Reading a record: what is damaged, edited or of another version is named, never half understood."""

import json
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.records.identity import Record, content_digest, record_key
from sdssl_bench.records.titles import plain
from sdssl_bench.system import read_arrays

SCHEMA_VERSION = 1
ADVICE = "If it is a record, move it away and run that evaluation again."

SHARED_ITEMS = ("index", "target", "object")
"""Arrays that say which items were scored. Layers have the same ones as a rule: they are stored once, by
these names alone, and by `layerNN/NAME` for a layer that differs."""


def read_record(path: Path) -> Record:
    """One record, proven to be whole: schema, finite numbers, key and digest.

    Raises:
        DataError: if the file is no complete record of this version, or was edited.
    """
    return parse_record(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The content of a record's file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Expected a result record in {path}, found: {error.strerror or error}. Name a file "
            "whose path 'sdssl-bench run' printed."
        ) from error


def parse_record(path: Path, content: bytes) -> Record:
    """The record that a file holds; see `read_record`.

    Args:
        path: of the file, for what is said of it.
        content: of the file.

    Raises:
        DataError: as `read_record`.
    """
    try:
        record = json_of(content)
        # A number that became infinite, and half of a surrogate pair, show when written again.
        json.dumps(record, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise DataError(
            f"Expected a result record in {path}, found: deep nesting. {ADVICE}"
        ) from error
    except ValueError as error:
        raise DataError(
            f"Expected a result record in {path}, found: {_short(str(error))}. {ADVICE}"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"Expected a result record in {path}, found another JSON value. {ADVICE}")
    if record.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {str(record.get('schema_version'))[:80]}, this version of "
            f"sdssl-bench reads {SCHEMA_VERSION}. {ADVICE}"
        )
    _check(path, record)
    return record


def json_of(content: bytes) -> Any:
    """The JSON value of a file, without NaN and Infinity.

    Raises:
        ValueError: if it is none.
        RecursionError: if it is nested too deeply.
    """
    return json.loads(content.decode("utf-8"), parse_constant=_no_number)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"the number {name}, which no score can be")


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    text = (files("sdssl_bench.records") / "record.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _check(path: Path, record: Record) -> None:
    from jsonschema.exceptions import best_match

    wrong = best_match(_validator().iter_errors(record))
    if wrong is not None:
        raise DataError(
            f"The record {path} does not fit its schema at {_short(wrong.json_path)}: "
            f"{_short(wrong.message)}. {ADVICE}"
        )
    if record["key"] != record_key(record):
        raise DataError(
            f"The record {path} was edited: its fields digest to {record_key(record)}, its key says "
            f"{record['key']}. {ADVICE}"
        )
    if record.get("digest", content_digest(record)) != content_digest(record):
        raise DataError(
            f"The record {path} was edited: its layers digest to {content_digest(record)}, its digest "
            f"says {record['digest']}. {ADVICE}"
        )
    for layer, entry in record["layers"].items():
        where = f"{path}, layer {layer}"
        if int(layer) > record["model"]["depth"]:
            raise DataError(f"{where}: the model has {record['model']['depth']} layers. {ADVICE}")
        if entry["environment"] >= len(record["environments"]):
            raise DataError(f"{where}: there is no environment {entry['environment']}. {ADVICE}")
        if record.get("ranked", True) and record["headline"] not in entry["metrics"]:
            raise DataError(
                f"{where} has no {_short(record['headline'])}, the headline of the record. {ADVICE}"
            )


def _short(text: str) -> str:
    r"""The beginning of what may quote half a file, in one line.

    >>> _short("a\nb")
    'a b'
    """
    line = plain(" ".join(text.split()))
    return line if len(line) <= 160 else f"{line[:157]}..."


def read_items(path: Path, layer: int) -> dict[str, NDArray[Any]]:
    """Per-item scores of one layer of the record at `path`, name -> [n].

    Raises:
        DataError: if the file beside the record is missing or unreadable, or lacks the layer.
    """
    file, prefix = items_path(path), f"layer{layer:02d}/"
    stored = stored_items(file, lambda name: name in SHARED_ITEMS or name.startswith(prefix))
    of_layer = {
        name.removeprefix(prefix): values
        for name, values in stored.items()
        if name.startswith(prefix)
    }
    if not of_layer:
        raise DataError(f"{file} holds no per-item scores of layer {layer}.")
    return {**{name: stored[name] for name in SHARED_ITEMS if name in stored}, **of_layer}


def stored_items(file: Path, wanted: Callable[[str], bool]) -> dict[str, NDArray[Any]]:
    """Those arrays of a file of items whose names are wanted.

    Raises:
        DataError: if the file is missing or unreadable.
    """
    try:
        return read_arrays(file, wanted)
    except DataError as error:
        raise DataError(
            f"Expected per-item scores in {file}, found: {_short(str(error.__cause__ or error))}. Move it "
            "and its record away and run that evaluation again."
        ) from error


def items_path(path: Path) -> Path:
    """Where the per-item scores of the record at `path` lie."""
    return path.with_suffix(".items.npz")
