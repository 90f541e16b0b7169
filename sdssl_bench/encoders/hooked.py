"""Any torch network: the outputs of named parts of it are its layers."""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from sdssl_bench.encoders.encoder import (
    CLASS_TOKEN,
    Encoder,
    LayerFeatures,
    check_layers,
    everything,
    stated_pretraining,
)
from sdssl_bench.encoders.images import channels_of
from sdssl_bench.encoders.intermediate import outputs_of
from sdssl_bench.encoders.taking_part import levels_of
from sdssl_bench.errors import UsageError, did_you_mean


class Parts(nn.Module):
    """A network and the names of the parts that are its layers, in order; `building.wrap` takes it."""

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.layers = tuple(layers)
        self.pretrained = stated_pretraining(model)
        self.train(model.training)


class _Enough(Exception):
    """The last layer that was asked for has run."""


class HookedEncoder(Encoder):
    """The outputs of some parts of a network, as they leave it.

    A part gives maps [B, D, h, w], tokens [B, N, D] of a grid of the image's aspect, with or without a class
    token before them, or vectors [B, D]. Without a class token the mean stands for [CLS].

    Attributes:
        model: the network.
        stages: names of the parts.
        tokens_before: class tokens before the patches, per layer.
    """

    def __init__(self, parts: Parts, *, input_size: int) -> None:
        super().__init__()
        self.model, self.stages, self.input_size = parts.model, parts.layers, input_size
        self.norm = "none"
        known = dict(self.model.named_modules())
        wrong = [name for name in self.stages if name not in known]
        if wrong or not self.stages:
            found = wrong[0] if wrong else ""
            beside = [n for n in known if n and n.count(".") <= found.count(".")]
            raise UsageError(did_you_mean(f"part of {type(self.model).__name__}", found, beside))
        self.depth = len(self.stages)
        seen = self._seen(input_size, input_size)
        if len(seen) < self.depth:
            missing = [n for i, n in enumerate(self.stages, 1) if i not in seen]
            raise UsageError(f"The forward pass does not run {', '.join(missing)}.")
        if sorted(seen) != list(seen):
            order = [self.stages[layer - 1] for layer in seen]
            raise UsageError(f"The forward pass runs the layers in the order {', '.join(order)}.")
        self.tokens_before = tuple(
            _tokens_before(self.stages[layer - 1], out) for layer, out in seen.items()
        )
        features = [self._features(out, layer, (1, 1)) for layer, out in seen.items()]
        self.dims = tuple(one.cls.shape[1] for one in features)
        self.strides = tuple(round(input_size / one.patches.shape[1]) for one in features)
        self.stride = max(self.strides)
        tokens = any(self.tokens_before)
        self.cls_source = CLASS_TOKEN if tokens else "mean of the part's map"

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """See `Encoder.forward_layers`."""
        wanted = check_layers(layers, self.depth)
        aspect = (int(images.shape[-2]), int(images.shape[-1]))
        out: dict[int, Any] = {}

        def take(layer: int, output: Tensor) -> None:
            out[layer] = reduce(self._features(output, layer, aspect))
            if layer == wanted[-1]:
                raise _Enough

        modules = {layer: self.model.get_submodule(self.stages[layer - 1]) for layer in wanted}
        with outputs_of(modules, take), suppress(_Enough):
            self.model(images)
        return {layer: out[layer] for layer in wanted}

    def _seen(self, height: int, width: int) -> dict[int, Tensor]:
        """The parts' outputs on a black image, in the order in which they ran."""
        seen: dict[int, Tensor] = {}

        def take(layer: int, output: Tensor) -> None:
            if layer in seen:
                raise UsageError(f"The forward pass runs {self.stages[layer - 1]} more than once.")
            if not isinstance(output, Tensor):
                raise UsageError(
                    f"{self.stages[layer - 1]} gives a {type(output).__name__}; a layer is a part that gives "
                    "one tensor."
                )
            seen[layer] = output

        training = {module: module.training for module in self.model.modules()}
        self.model.eval()
        image = torch.zeros(1, channels_of(self.model), height, width)
        first = next(self.model.parameters(), image)
        modules = {
            layer: self.model.get_submodule(name) for layer, name in enumerate(self.stages, 1)
        }
        try:
            with torch.no_grad(), outputs_of(modules, take):
                self.model(image.to(first))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(
                f"{type(self.model).__name__} does not take images of {height} x {width} pixels: "
                f"{str(error).splitlines()[0] if str(error) else type(error).__name__}."
            ) from error
        finally:
            for module, mode in training.items():
                module.training = mode
        return seen

    def _features(self, output: Tensor, layer: int, aspect: tuple[int, int]) -> LayerFeatures:
        if output.ndim == 4:
            maps = output.permute(0, 2, 3, 1)
        elif output.ndim == 3:
            before = self.tokens_before[layer - 1]
            patches = output[:, before:]
            maps = patches.unflatten(1, _grid(patches.shape[1], aspect))
            if before:
                return LayerFeatures(output[:, 0], maps, _as_it_is)
        else:
            maps = output[:, None, None]
        return LayerFeatures(maps.mean((1, 2)), maps, _as_it_is)

    def check_size(self, height: int, width: int) -> None:
        """See `Encoder.check_size`."""
        for layer, output in self._seen(height, width).items():
            self._features(output, layer, (height, width))

    def truncate(self, layer: int) -> "HookedEncoder":
        """See `Encoder.truncate`; parts that only later layers use stay, frozen and without effect."""
        check_layers([layer], self.depth)
        out = copy.deepcopy(self).requires_grad_(True)
        for name in ("stages", "tokens_before", "dims", "strides"):
            setattr(out, name, getattr(self, name)[:layer])
        out.depth, out.stride = layer, max(out.strides)
        levels = levels_of(out)
        for name, parameter in out.named_parameters():
            parameter.requires_grad_(name in levels)
        return out


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _tokens_before(name: str, output: Tensor) -> int:
    """Class tokens before a square grid of patches: none or one."""
    if output.ndim not in (2, 3, 4):
        raise UsageError(
            f"{name} gives {tuple(output.shape)}; expected maps [B, D, h, w], tokens [B, N, D] or vectors "
            "[B, D]."
        )
    if output.ndim != 3:
        return 0
    count = output.shape[1]
    for before in (0, 1):
        if math.isqrt(count - before) ** 2 == count - before:
            return before
    raise UsageError(
        f"{name} gives {count} tokens: no square grid, with or without one class token before it. Return a "
        "subclass of sdssl_bench.encoders.Encoder instead."
    )


def _grid(count: int, aspect: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of `count` patches in an image of (height, width)."""
    rows = round(math.sqrt(count * aspect[0] / aspect[1]))
    if not rows or count % rows or (count // rows) * aspect[0] != rows * aspect[1]:
        raise UsageError(
            f"{count} tokens form no grid of an image of {aspect[0]} x {aspect[1]} pixels."
        )
    return rows, count // rows
