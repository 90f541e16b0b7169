"""What makes two records the same measurement, and what proves that one was not edited."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IDENTITY = ("schema_version", "task", "protocol", "dataset", "model", "limited", "settings")
CONTENT = ("headline", "ranked", "environments")
"""Beside the layers, what a record's own digest covers."""
VOLATILE = ("scored_at", "seconds")
"""Fields of a layer that differ between two runs of the same thing."""
BESIDE = ("heads_source", "weights_look", "colours_source", "cls_why")
"""Details of a model that tell how another is known."""

Record = dict[str, Any]


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


def content_digest(record: Mapping[str, Any]) -> str:
    """Of what was measured: the layers without times, the headline, the environments.

    The same for a disturbed and an undisturbed run; with the key it covers all but names and times.
    """
    parts = {name: record[name] for name in CONTENT if name in record}
    return digest({**parts, "layers": stable_view(record)["layers"]})[:16]


def model_identity(model: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record's model that could change a number.

    Neither its name and place nor how its head count is known, nor whether its training is.
    """
    kept = {k: v for k, v in model.items() if k not in ("uri", "name")}
    kept["details"] = {k: v for k, v in model.get("details", {}).items() if k not in BESIDE}
    return kept | {"pretrained": model.get("pretrained") is not False}


def stable_view(record: Mapping[str, Any]) -> Record:
    """The record without times: equal for a disturbed and an undisturbed run."""
    layers = {
        layer: {k: v for k, v in entry.items() if k not in VOLATILE}
        for layer, entry in record["layers"].items()
    }
    return {**record, "layers": layers}
