"""What a feature depends on, as one key: change any of it and no stored bank is found.

Layers, pooling, batch size, device and number of processes are not part of the key: they choose which
numbers are computed, or move them by rounding only.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor, nn

from sdssl_bench.datasets import ImageSet
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError

FEATURES_VERSION = 1
"""Raised by every change of the suite that changes features of the same encoder and images."""

OWN_PACKAGES = {"torch", "torchvision", "timm", "sdssl_bench", "builtins"}
"""Their code changes with their versions, which records name; any other code may change in between."""

Facts = dict[str, Any]


class Preprocess(Protocol):
    """RGB image -> uint8 tensor [3, S, S]."""

    def __call__(self, image: Image.Image) -> Tensor:
        """The tensor of one image."""

    def describe(self) -> Mapping[str, Any]:
        """Everything that decides what it does; JSON values only."""


def feature_identity(
    encoder: Encoder, images: ImageSet, *, preprocess: Preprocess, dtype: str, bank_dtype: str
) -> Facts:
    """All that the features depend on, as JSON values.

    Raises:
        UsageError: if the encoder does not know its weights.
    """
    if encoder.info is None:
        raise UsageError(
            "Features are stored by the identity of their encoder, and this one has none. Load it "
            "with sdssl_bench.load_encoder, or wrap it with sdssl_bench.api.as_encoder."
        )
    facts = {
        "features_version": FEATURES_VERSION,
        "model": {
            "weights_sha256": encoder.info.weights_sha256,
            "arch": encoder.info.arch,
            "norm": encoder.norm,
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "structure_sha256": structure_digest(encoder),
        },
        "images": {
            "dataset": images.dataset,
            "split": images.split,
            "count": len(images),
            "fingerprint": images.fingerprint,
            "freshness": images.freshness,
            # Only where it is given: an addition to identities of the first version.
            **({} if images.image_range is None else {"image_range": list(images.image_range)}),
        },
        "preprocess": dict(preprocess.describe()),
        "dtype": dtype,
        "bank_dtype": bank_dtype,
    }
    stored: Facts = json.loads(json.dumps(facts, allow_nan=False))
    return stored


def key_of(facts: Facts) -> str:
    """The cache key: 32 hexadecimal digits."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def structure_digest(module: nn.Module) -> str:
    """Digest of how a module computes, as far as Python shows it; weights are digested elsewhere.

    Covers every submodule's class and plain public attributes (number of heads, eps, strides, ...),
    since models that differ in those alone have equal weights, and the source files of classes that
    belong to no installed library: who edits the forward pass of an own encoder gets new features.
    """
    digest = hashlib.sha256()
    sources: set[Path] = set()
    for name, part in module.named_modules():
        kind = type(part)
        plain = {k: v for k, v in sorted(vars(part).items()) if _is_setting(k, v)}
        digest.update(f"{name}:{kind.__module__}.{kind.__qualname__}:{plain!r}\n".encode())
        sources |= {path for base in kind.__mro__ if (path := _own_source(base)) is not None}
    for content in sorted(path.read_bytes() for path in sources):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _is_setting(name: str, value: object) -> bool:
    if name.startswith("_") or name == "training":
        return False
    if isinstance(value, tuple | list):
        return all(_is_setting("item", item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _own_source(kind: type) -> Path | None:
    if kind.__module__.partition(".")[0] in OWN_PACKAGES | set(sys.stdlib_module_names):
        return None
    try:
        path = Path(inspect.getfile(kind))
    except (TypeError, OSError):  # defined in a console or by exec
        return None
    return path if path.is_file() else None
