"""`sdssl-bench doctor`: what a checkpoint is, whether it was trained, and what `run` would do with it.

Loads exactly as `run` does, so what it shows is what would be scored.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.checkpoints.freshness import MOSTLY_UNTRAINED, UNTRAINED, Group
from sdssl_bench.checkpoints.keys import flat, listing
from sdssl_bench.checkpoints.loading import encoder_of
from sdssl_bench.checkpoints.networks import find_networks
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.read import read
from sdssl_bench.datasets import REGIONS, Preprocess, crop
from sdssl_bench.encoders import Encoder, LayerFeatures, ModelInfo, move
from sdssl_bench.errors import DataError
from sdssl_bench.system import StandIn

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
        closed: classes and functions that the file asked for beside tensors and plain containers, and
            values that were left in it; none of them was run.
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
    closed: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values."""
        return asdict(self)


def diagnose(uri: str, **options: Any) -> Diagnosis:
    """Loads a checkpoint as `run` would, and examines weights and features.

    Args:
        uri: see `checkpoints.load`.
        **options: likewise.

    Raises:
        DataError: if it cannot be loaded; for a readable file the message says what it holds.
        UsageError: if an option is wrong.
    """
    asked = Options(**options)
    contents = read(uri)
    try:
        report = encoder_of(contents, asked)
    except DataError as error:
        if contents.file is None:
            raise
        raise DataError(f"{error}\n\nWhat the file holds:\n{_describe(contents.file)}") from error
    encoder, found = report.encoder, report.freshness
    assert encoder.info is not None
    layers = tuple(layer_sanity(encoder))
    run = {
        "layers": encoder.depth,
        "network": encoder.info.network,
        "norm": encoder.norm,
        "preprocess": Preprocess("A", encoder.input_size).describe(),
        "mean": list(encoder.mean),
        "std": list(encoder.std),
    }
    return Diagnosis(
        encoder.info,
        found.groups,
        found.untouched,
        found.compared,
        report.fixed,
        found.look,
        layers,
        run,
        tuple(_warnings(encoder.info, found.look, layers)),
        contents.file.stood_in if contents.file else (),
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
        length, spread = float(cls.norm(dim=-1).mean()), float(cls.std(dim=0).mean())
        yield LayerSanity(layer, finite, length, spread, cosine, verdict)


def _photographs(size: int) -> Tensor:
    """Uint8 [IMAGES, 3, size, size]: parts of the photographs of the miniatures."""
    preprocess = Preprocess("A", size)
    rng = np.random.default_rng(0)
    pictures = [crop(region, "test", size=(240, 180), rng=rng) for region in REGIONS[:IMAGES]]
    return torch.stack([preprocess(picture) for picture in pictures])


def _describe(file: CheckpointFile) -> str:
    """What a file that could not be loaded holds: container, keys, prefixes, and the backbones found."""
    size = sum(path.stat().st_size for path in file.parts or (file.path,))
    lines = [
        f"file      {file.path} ({size / 1e6:.1f} MB, {file.container})",
        f"sha256    {file.sha256()}",
    ]
    if file.stood_in:
        lines.append(f"closed    {listing(file.stood_in)}")
    tensors = flat(file.content)
    for home in list(dict.fromkeys(tensors.homes.values()))[:20]:
        inside = {n[len(home) :]: t for n, t in tensors.items() if tensors.homes[n] == home}
        where = home.rstrip(".") or "top level"
        lines += [f"content   {where}: {len(inside)} tensors", *_tensors(inside)]
    others = {k: v for k, v in file.content.items() if not isinstance(v, Tensor)}
    lines += [f"key       {key}: {_brief(value)}" for key, value in list(others.items())[:20]]
    found = [
        f"{one.name} (prefix '{one.prefix}', names of {one.style.name})"
        for one in find_networks(tensors).values()
    ]
    return "\n".join([*lines, f"backbones {listing(found) or 'none'}"])


def _tensors(state: Mapping[str, Tensor]) -> list[str]:
    prefixes = Counter(key.split(".")[0] for key in state)
    common = [f"{name} ({count})" for name, count in prefixes.most_common(12)]
    first = [f"{key} {tuple(value.shape)}" for key, value in list(state.items())[:5]]
    return [f"  prefixes  {listing(common, 12)}", f"  first     {', '.join(first)}"]


def _brief(value: object) -> str:
    if isinstance(value, bool | int | float | str):
        return f"{type(value).__name__} {str(value)[:60]!r}"
    if isinstance(value, StandIn):
        return value.kind
    size = f" of {len(value)}" if isinstance(value, Mapping | list | tuple) else ""
    return type(value).__name__ + size
