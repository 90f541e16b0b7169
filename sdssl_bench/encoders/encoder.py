"""What every backbone must offer: the features of any set of layers in one forward pass.

Shapes: B images, D width of a layer, h x w patch grid, N items, K neighbours, C classes, T frames.
Layers are numbered 1..L as in the paper: layer l is the output of transformer block l, or of stage l
of a ResNet. Never 0-based, never negative.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sdssl_bench.encoders.images import IMAGENET_MEAN, IMAGENET_STD, normalised
from sdssl_bench.encoders.points import BLOCK, AtPoints
from sdssl_bench.errors import UsageError

NORMS = ("shared", "none", "identity", "per-layer")
"""How the tokens of layers 1..L-1 are normalised; layer L always has the encoder's own final norm.

shared: that same final norm. none: nothing. identity: a LayerNorm without affine parameters.
per-layer: the checkpoint's own norm of each layer (some SDSSL checkpoints have one per layer).
"""

CLASS_TOKEN, PATCH_MEAN = "class token", "mean of patch tokens"
"""What can stand for [CLS] in a ViT."""


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """One layer's tokens; the norm is applied when read, so who needs [CLS] alone pays for one token.

    Attributes:
        raw_cls: [B, D] class token before the norm (mean of the map for a ResNet).
        raw_patches: [B, h, w, D] patch tokens before the norm, without class or register tokens.
        norm: maps [..., D] to [..., D], token by token.
    """

    raw_cls: Tensor
    raw_patches: Tensor
    norm: Callable[[Tensor], Tensor]

    @property
    def cls(self) -> Tensor:
        """[B, D], normed; owns its memory, so keeping it does not keep the layer's tokens."""
        out = self.norm(self.raw_cls)
        return out.clone() if out.data_ptr() == self.raw_cls.data_ptr() else out

    @property
    def patches(self) -> Tensor:
        """[B, h, w, D], normed."""
        return self.norm(self.raw_patches)


def everything(features: LayerFeatures) -> LayerFeatures:
    """The reduction that keeps all tokens of a layer."""
    return features


def cls(features: LayerFeatures) -> Tensor:
    """[B, D] class token."""
    return features.cls


def mean(features: LayerFeatures) -> Tensor:
    """[B, D] mean of the patch tokens."""
    return features.patches.flatten(1, 2).mean(1)


def gem(features: LayerFeatures, *, p: float = 4.0, eps: float = 1e-6) -> Tensor:
    """[B, D] generalised mean of the patch tokens, (mean max(x, eps)^p)^(1/p) (Radenovic et al. 2018).

    p = 4 and the clamp are DINO's for copy detection. Tokens after LayerNorm are signed, so about
    half of the values are clamped.
    """
    return gem_pool(features.patches.flatten(1, 2), p=p, eps=eps)


def gem_pool(tokens: Tensor, *, p: float = 4.0, eps: float = 1e-6) -> Tensor:
    """GeM over the second-last dimension: [..., N, D] -> [..., D]."""
    return tokens.clamp(min=eps).pow(p).mean(-2).pow(1.0 / p)


POOLINGS: dict[str, Callable[[LayerFeatures], Tensor]] = {"cls": cls, "mean": mean, "gem": gem}


Pretrained = bool | Literal["unknown"]
"""Whether weights were trained, as far as somebody said so."""


def stated_pretraining(model: nn.Module) -> Pretrained:
    """What the attribute `pretrained` of a user's module says; without one nobody knows."""
    stated = getattr(model, "pretrained", None)
    return stated if isinstance(stated, bool) else "unknown"


@dataclass(frozen=True)
class ModelInfo:
    """Who the evaluated encoder is: everything about it that can change a number.

    Attributes:
        name: short name for tables, e.g. "dino_vits16".
        uri: what the user asked for (file or URI).
        format: adapter that read it ("sdssl-bench", "timm", "dino", "mocov3", ..., "module").
        network: "student" | "teacher" | "base" | "momentum" | "model" | "ema".
        arch: canonical architecture, e.g. "vit_small_patch16" or a timm name.
        weights_sha256: digest of the evaluated network's tensors (names, shapes, dtypes, bytes).
        file_sha256: digest of the checkpoint file, None when there is no file.
        pretrained: False for an untrained encoder that was asked for as such; "unknown" for a module of
            the user's that does not say.
        details: further recorded facts (heads, patch_size, img_size, norm, pos_embed, epoch,
            key counts, ...); JSON values only.
    """

    name: str
    uri: str
    format: str
    network: str
    arch: str
    weights_sha256: str
    file_sha256: str | None = None
    pretrained: Pretrained = True
    details: dict[str, Any] = field(default_factory=dict)


class Encoder(AtPoints):
    """A frozen backbone that shows its inside.

    Attributes (set by each subclass):
        depth: L, the number of layers.
        dims: width D of each layer 1..L.
        stride: patch size, or the largest stride of stages, in pixels; image sides must be multiples
            of it for a ViT.
        input_size: side of the square image it is evaluated on by default, in pixels.
        mean, std: normalisation of values in [0, 1], a number per channel: RGB, or one for grey.
        norm: one of NORMS ("none" for a ResNet).
        cls_source: what stands for [CLS].
        info: who it is; set by the loader (checkpoints.load or api.as_encoder).
    """

    depth: int
    dims: tuple[int, ...]
    stride: int
    input_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    norm: str
    cls_source: str = "as the encoder defines it"
    info: ModelInfo | None = None

    @property
    def title(self) -> str:
        """Its name in tables, which tells its points apart."""
        assert self.info is not None, "a loaded encoder knows who it is"
        return " ".join([self.info.name, *self.place.values()])

    def forward_points(
        self,
        images: Tensor,
        layers: Sequence[int],
        points: Sequence[str],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[tuple[int, str], Any]:
        """`forward_layers` at several points of each layer, from one forward pass.

        Args:
            images: as there.
            layers: as there.
            reduce: as there.
            points: any of POINTS that `check_points` allows.

        Returns:
            {(layer, point): reduce(LayerFeatures)}.
        """
        assert set(points) == {BLOCK}, "check_points refused all others"
        found = self.forward_layers(images, layers, reduce)
        return {(layer, BLOCK): kept for layer, kept in found.items()}

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """Features of all asked layers at this encoder's point, from one forward pass.

        Args:
            images: [B, C, H, W], normalised with this encoder's mean and std.
            layers: any of 1..L, in any order.
            reduce: what to keep of each layer (by default all tokens), called as soon as the layer
                is computed and before the next one starts: nothing but its result stays in memory.

        Returns:
            {layer: reduce(LayerFeatures)} for exactly the layers asked, ascending.
        """
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Proves, before anything runs, that images of such sides in pixels can be seen.

        Raises:
            UsageError: if not, saying what is possible.
        """

    def take_cls(self, source: str) -> None:
        """Lets CLASS_TOKEN or PATCH_MEAN stand for [CLS].

        Raises:
            UsageError: if this encoder leaves no choice.
        """
        raise UsageError(f"--cls has no effect: [CLS] of this encoder is {self.cls_source}.")

    def truncate(self, layer: int) -> nn.Module:
        """The encoder up to `layer`: images [B, 3, H, W] -> [B, D] normed [CLS], trainable."""
        raise NotImplementedError

    def backbone_state(self) -> dict[str, Tensor]:
        """The weights under the names that their library gives them, without this class around them."""
        return dict(getattr(self, "model", self).state_dict())

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Loads what `backbone_state` gives, strictly.

        Raises:
            RuntimeError: torch's, naming every missing, unexpected or mismatched tensor.
        """
        getattr(self, "model", self).load_state_dict(state, strict=True)

    def forward(self, images: Tensor) -> Tensor:
        """[B, D] of the last layer."""
        out: Tensor = self.forward_layers(images, [self.depth], cls)[self.depth]
        return out


def check_layers(layers: Sequence[int], depth: int) -> list[int]:
    """Sorted unique layers, each proven to be in 1..depth.

    Raises:
        UsageError: for an empty list or a layer outside 1..depth.
    """
    wanted = sorted(set(layers))
    if not wanted or wanted[0] < 1 or wanted[-1] > depth:
        found = ", ".join(map(str, wanted)) or "none"
        raise UsageError(f"Layers are numbered 1..{depth} for this encoder, asked for: {found}.")
    return wanted


def parse_layers(text: str, depth: int) -> list[int]:
    """Layers from "1,6-12": numbers and inclusive ranges.

    Raises:
        UsageError: if it is not such a list or leaves 1..depth.

    >>> parse_layers("1,3-5", 12)
    [1, 3, 4, 5]
    """
    layers: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or part.strip().endswith("-"):
            raise UsageError(
                f"--layers takes numbers and ranges such as 1,6-12 (of 1..{depth}), found '{text}'."
            )
        for number in (first, last):
            if len(number) > 9 or int(number or 1) > depth:  # before a range of them is made
                raise UsageError(
                    f"Layers are numbered 1..{depth} for this encoder, asked for: {number[:20]}."
                )
        layers += range(int(first), int(last or first) + 1)
    return check_layers(layers, depth)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's tensors are; the CPU if it has none."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def move(images: Tensor, encoder: Encoder) -> Tensor:
    """uint8 [B, 3, H, W] -> normalised float32 [B, C, H, W] on the encoder's device."""
    images = images.to(device_of(encoder), non_blocking=True)
    return normalised(images, encoder.mean, encoder.std)
