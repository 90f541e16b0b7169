"""Any other backbone of timm's: its stages as timm's `forward_intermediates` gives them.

One class for all families. What a family is like (stages, widths, grids, order of channels, the sizes it
takes) is seen from a pass without numbers, on torch's meta device, not known by name.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdssl_bench.encoders.encoder import (
    CLASS_TOKEN,
    Encoder,
    LayerFeatures,
    check_layers,
    everything,
)
from sdssl_bench.encoders.images import channels_of
from sdssl_bench.encoders.taking_part import levels_of
from sdssl_bench.errors import UsageError

LENT = {"strict_img_size": False, "dynamic_mask": True}
"""Settings under which windowed attention (Swin) takes images of another size than it was built for."""


class Output(NamedTuple):
    """One layer before its reduction.

    Attributes:
        token: [B, D] class token, or the model's own feature; None = the map's mean.
        map: [B, h, w, D'].
        head: what the model's head does to one token [..., D'] -> [..., D]; None = nothing.
    """

    token: Tensor | None
    map: Tensor
    head: Callable[[Tensor], Tensor] | None = None

    @property
    def features(self) -> LayerFeatures:
        """The layer as tasks see it; of what is finished already nothing is done twice."""
        token = self.map.mean((1, 2)) if self.token is None else self.token
        head = self.head or (lambda x: x)
        return LayerFeatures(token, self.map, lambda x: x if x is token else head(x))


class StagesEncoder(Encoder):
    """The stages of a timm model; the blocks, for families of one width.

    The last layer is the model's own feature, what timm gives without a classifier: the last stage with
    the norm that follows, or, where the model goes on to another width (EfficientNet's last convolution),
    a layer "head" of its own after the stages. All maps that are asked for are in memory together, which
    is less than one block's tokens of a ViT.

    Attributes:
        model: the timm model.
        stages: name of each layer.
        strides: pixels per cell of each layer's map.
    """

    def __init__(self, model: Any, *, norm: str | None = None, input_size: int) -> None:
        super().__init__()
        self.model = model
        self.input_size = input_size
        self.family = type(model).__name__
        self.norm = "none"
        options = inspect.signature(model.forward_intermediates).parameters
        self.class_token = "return_prefix_tokens" in options and (
            getattr(model, "global_pool", "") == "token"
            and int(getattr(model, "num_prefix_tokens", 0)) > 0
        )
        self.cut = False
        stages, final = self._seen(input_size, input_size)
        self.num_stages = len(stages)
        self.merged = final.features.cls.shape[1] == stages[-1].map.shape[-1]
        layers = [*stages[: self.num_stages - self.merged], final]
        self.depth = len(layers)
        self.dims = tuple(one.features.cls.shape[1] for one in layers)
        self.strides = tuple(round(input_size / one.map.shape[1]) for one in layers)
        self.stride = max(self.strides)
        self.stages = (*_names(model, self.num_stages), *["head"] * (not self.merged))
        self.cls_source = CLASS_TOKEN if self.class_token else "mean of the stage's map"
        allowed = ("shared", "none") if len(set(self.dims)) == 1 else ("none",)
        if norm not in (None, *allowed):
            raise UsageError(
                f"--norm {norm} does not apply: {self.family} takes {' or '.join(allowed)}, since no norm "
                "of its own fits all of its stages."
            )
        self.norm = norm or allowed[0]

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """See `Encoder.forward_layers`."""
        wanted = check_layers(layers, self.depth)
        whole = wanted[-1] == self.depth and not self.cut
        indices = [layer - 1 for layer in wanted if layer <= self.num_stages]
        stages, final = self._outputs(self.model, images, indices or [self.num_stages - 1], whole)
        found = {index + 1: one for index, one in zip(indices, stages)}
        if final is not None:
            found[self.depth] = final
        return {layer: reduce(found.pop(layer).features) for layer in wanted}

    def _outputs(
        self, model: Any, images: Tensor, indices: list[int] | None, whole: bool
    ) -> tuple[list[Output], Output | None]:
        """The stages asked for (None: all), and the model's own feature if `whole`."""
        prefixed = {"return_prefix_tokens": True} if self.class_token else {}
        with _any_size(model):
            out = model.forward_intermediates(
                images,
                indices=indices,
                norm=self.norm == "shared",
                stop_early=not whole,
                output_fmt="NCHW",
                intermediates_only=not whole,
                **prefixed,
            )
            final: Tensor | None
            final, maps = out if whole else (None, out)
            pairs = [one if self.class_token else (one, None) for one in maps]
            stages = [
                Output(None if prefix is None else prefix[:, 0], one.permute(0, 2, 3, 1))
                for one, prefix in pairs
            ]
            return stages, None if final is None else _own(model, final, stages[-1].map)

    def check_size(self, height: int, width: int) -> None:
        """See `Encoder.check_size`."""
        self._seen(height, width)

    def _seen(self, height: int, width: int) -> tuple[list[Output], Output]:
        """All layers of one black image; what has no numbers (meta) where the model allows that."""
        training = self.model.training
        try:
            for model in (_without_numbers, lambda model: model):
                seen = model(self.model).eval()
                place = next(seen.parameters()).device
                image = torch.zeros(1, channels_of(seen), height, width, device=place)
                try:
                    with torch.no_grad():
                        stages, final = self._outputs(seen, image, None, whole=True)
                    assert final is not None
                    return stages, final
                except Exception as error:  # each family has its own
                    reason = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
        finally:
            self.model.train(training)
        raise UsageError(
            f"{self.family} cannot be read by layer at {height} x {width} pixels (its own size is "
            f"{self.input_size} x {self.input_size}): {reason[:200]}."
        )

    def take_cls(self, source: str) -> None:
        """See `Encoder.take_cls`."""
        if source != self.cls_source:
            super().take_cls(source)

    def truncate(self, layer: int) -> "StagesEncoder":
        """See `Encoder.truncate`; what lies after the layer stays there, frozen and without effect."""
        check_layers([layer], self.depth)
        out = copy.deepcopy(self)
        out.cut = self.cut or layer < self.depth
        out.depth, out.dims, out.stages = layer, self.dims[:layer], self.stages[:layer]
        out.strides = self.strides[:layer]
        out.stride = max(out.strides)
        levels = levels_of(out)
        for name, parameter in out.named_parameters():
            parameter.requires_grad_(name in levels)
        return out


def _own(model: Any, final: Tensor, last: Tensor) -> Output:
    """The model's own feature from what its trunk returns; `last` is the map [B, h, w, D] before it."""
    token = model.forward_head(final, pre_logits=True)
    rows, columns = last.shape[1:3]
    if final.ndim == 3:
        extra = final.shape[1] - rows * columns
        return Output(token, last if extra < 0 else final[:, extra:].unflatten(1, (rows, columns)))
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def head(tokens: Tensor) -> Tensor:
        shape = (-1, 1, 1, tokens.shape[-1]) if channels_last else (-1, tokens.shape[-1], 1, 1)
        out: Tensor = model.forward_head(tokens.reshape(shape), pre_logits=True)
        return out.reshape(*tokens.shape[:-1], -1)

    return Output(token, final if channels_last else final.permute(0, 2, 3, 1), head)


def _names(model: Any, count: int) -> tuple[str, ...]:
    """Names of the stages as timm knows them, or their numbers."""
    info = getattr(model, "feature_info", None) or []
    names = [str(one.get("module", "")) for one in info if isinstance(one, dict)]
    fitting = len(names) == count and all(names)
    return tuple(names) if fitting else tuple(f"stage {i}" for i in range(1, count + 1))


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy on the meta device, made without copying a single tensor."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        held = (module._parameters, module._buffers, vars(module))
        for tensor in (one for group in held for one in group.values() if isinstance(one, Tensor)):
            memo[id(tensor)] = (
                nn.Parameter(tensor.detach().to("meta"), requires_grad=tensor.requires_grad)
                if isinstance(tensor, nn.Parameter)
                else tensor.to("meta")
            )
    return copy.deepcopy(model, memo)


@contextmanager
def _any_size(model: nn.Module) -> Iterator[None]:
    """Lends LENT to the parts of a model that know these settings."""
    before = [
        (module, name, vars(module)[name])
        for module in model.modules()
        for name in LENT
        if name in vars(module)
    ]
    try:
        for module, name, _ in before:
            setattr(module, name, LENT[name])
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
