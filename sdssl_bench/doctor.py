"""`sdssl-bench doctor`: what a checkpoint is, whether it was trained, and what `run` would do with it.

Loads exactly as `run` does, so what it shows is what would be scored.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.contents import describe
from sdssl_bench.checkpoints.freshness import (
    MOSTLY_UNTRAINED,
    UNTRAINED,
    Group,
    examine,
    fixed_by_design,
)
from sdssl_bench.checkpoints.uri import parse
from sdssl_bench.datasets.photographs import REGIONS, crop
from sdssl_bench.datasets.transforms import Preprocess
from sdssl_bench.encoder import Encoder, LayerFeatures, ModelInfo, move
from sdssl_bench.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

IMAGES = 6
"""Photographs per layer check."""

COLLAPSED_COSINE = 0.9999
"""Mean cosine between different photographs above which a layer tells none of them apart."""


@dataclass(frozen=True)
class LayerSanity:
    """One layer's [CLS] on a few photographs.

    Attributes:
        layer: 1..L.
        finite: no NaN or infinity, in [CLS] and patches.
        length: mean L2 norm.
        spread: standard deviation across images, averaged over dimensions.
        cosine: mean cosine between different images.
        verdict: "ok", "collapsed" or "not finite".
    """

    layer: int
    finite: bool
    length: float
    spread: float
    cosine: float
    verdict: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything `doctor` found.

    Attributes:
        model: the encoder's ModelInfo.
        groups: comparison with a fresh initialisation.
        untouched: names of the tensors that look fresh.
        compared: number of tensors compared.
        fixed: tensors that are fixed by design and not compared.
        weights: what they look like, see `Freshness`.
        layers: feature sanity.
        run: what `run` would do by default.
        warnings: what a user should know before believing a number.
    """

    model: ModelInfo
    groups: tuple[Group, ...]
    untouched: tuple[str, ...]
    compared: int
    fixed: tuple[str, ...]
    weights: str
    layers: tuple[LayerSanity, ...]
    run: dict[str, Any]
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values."""
        return asdict(self)


def diagnose(
    uri: str,
    *,
    network: str | None = None,
    arch: str | None = None,
    heads: int | None = None,
    patch_size: int | None = None,
    img_size: int | None = None,
    norm: str | None = None,
) -> Diagnosis:
    """Loads a checkpoint as `run` would, and examines weights and features.

    Args: those of `checkpoints.load`.

    Raises:
        DataError: if it cannot be loaded; for a readable file the message says what it holds.
        UsageError: if an option is wrong.
    """
    try:
        encoder = checkpoints.load(
            uri,
            network=network,
            arch=arch,
            heads=heads,
            patch_size=patch_size,
            img_size=img_size,
            norm=norm,
        )
    except DataError as error:
        parsed = parse(uri)
        held = describe(parsed.path) if parsed.scheme == "file" else ""
        raise DataError(
            f"{error}\n\nWhat the file holds:\n{held}" if held else str(error)
        ) from error
    assert encoder.info is not None
    fixed = fixed_by_design(encoder.info)
    found = examine(encoder, fixed)
    layers = tuple(layer_sanity(encoder))
    preprocess = Preprocess("A", encoder.input_size)
    return Diagnosis(
        model=encoder.info,
        groups=found.groups,
        untouched=found.untouched,
        compared=found.compared,
        fixed=fixed,
        weights=found.look,
        layers=layers,
        run={
            "layers": encoder.depth,
            "network": encoder.info.network,
            "norm": encoder.norm,
            "preprocess": preprocess.describe(),
            "mean": list(encoder.mean),
            "std": list(encoder.std),
        },
        warnings=tuple(_warnings(encoder.info, found.look, layers)),
    )


def _warnings(info: ModelInfo, weights: str, layers: tuple[LayerSanity, ...]) -> Iterator[str]:
    if info.pretrained is False:
        yield "This encoder is untrained, as asked for."
    elif weights in (UNTRAINED, MOSTLY_UNTRAINED):
        yield f"The weights look {weights}: most tensors have the distribution of a fresh start."
    for verdict in ("not finite", "collapsed"):
        found = [str(layer.layer) for layer in layers if layer.verdict == verdict]
        if found:
            yield f"Features are {verdict} in layer {', '.join(found)}."


@torch.no_grad()
def layer_sanity(encoder: Encoder) -> Iterator[LayerSanity]:
    """Features of every layer on a few photographs, as `run` preprocesses them."""
    images = move(_photographs(encoder.input_size), encoder)

    def reduce(features: LayerFeatures) -> tuple[Tensor, bool]:
        return features.cls.float(), bool(torch.isfinite(features.patches).all())

    for layer, (cls, patches_finite) in encoder.forward_layers(
        images, range(1, encoder.depth + 1), reduce
    ).items():
        finite = patches_finite and bool(torch.isfinite(cls).all())
        unit = torch.nn.functional.normalize(cls, dim=-1)
        n = len(cls)
        cosine = float((unit @ unit.T).sum() - n) / (n * (n - 1))
        verdict = "not finite" if not finite else "collapsed" if cosine > COLLAPSED_COSINE else "ok"
        yield LayerSanity(
            layer,
            finite=finite,
            length=float(cls.norm(dim=-1).mean()),
            spread=float(cls.std(dim=0).mean()),
            cosine=cosine,
            verdict=verdict,
        )


def _photographs(size: int) -> Tensor:
    """Uint8 [IMAGES, 3, size, size]: parts of the photographs of the miniatures."""
    preprocess = Preprocess("A", size)
    rng = np.random.default_rng(0)
    pictures = [crop(region, "test", size=(240, 180), rng=rng) for region in REGIONS[:IMAGES]]
    return torch.stack([preprocess(picture) for picture in pictures])


def render(diagnosis: Diagnosis) -> "RenderableType":
    """The diagnosis for the terminal."""
    from sdssl_bench.checkpoints.report import renderable

    return renderable(diagnosis)
