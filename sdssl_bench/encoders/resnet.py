"""ResNets of timm and torchvision: stages 1..4, [CLS] = the average-pooled map of a stage.

The SDSSL paper speaks of "each residual block" and shows four columns (Table 7): stages.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, check_layers, everything

STAGES = ("layer1", "layer2", "layer3", "layer4")

RESNETS: dict[tuple[str, tuple[int, ...], int], str] = {
    ("basic", (2, 2, 2, 2), 64): "resnet18",
    ("basic", (3, 4, 6, 3), 64): "resnet34",
    ("bottleneck", (3, 4, 6, 3), 64): "resnet50",
    ("bottleneck", (3, 4, 23, 3), 64): "resnet101",
    ("bottleneck", (3, 8, 36, 3), 64): "resnet152",
    ("bottleneck", (3, 4, 6, 3), 128): "wide_resnet50_2",
    ("bottleneck", (3, 4, 23, 3), 128): "wide_resnet101_2",
}
"""(block, blocks per stage, inner width of the first stage) -> name in timm and torchvision."""


def _as_it_is(x: Tensor) -> Tensor:
    return x


class ResNetEncoder(Encoder):
    """All stages of a ResNet; there is no norm to apply, so the setting is "none".

    Attributes:
        model: the timm or torchvision model.
    """

    def __init__(self, model: nn.Module, *, input_size: int = 224) -> None:
        super().__init__()
        self.model = model
        self.stages = [name for name in STAGES if hasattr(model, name)]
        self.depth = len(self.stages)
        self.dims = tuple(_width(getattr(model, name)) for name in self.stages)
        self.stride = _stride(model, self.stages)
        self.input_size = input_size
        self.norm = "none"
        self.cls_source = "mean of the stage's map"

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """See `Encoder.forward_layers`."""
        wanted = check_layers(layers, self.depth)
        out: dict[int, Any] = {}
        x = self._stem(images)
        for layer, name in enumerate(self.stages[: wanted[-1]], start=1):
            x = getattr(self.model, name)(x)
            if layer in wanted:
                maps = x.permute(0, 2, 3, 1)
                out[layer] = reduce(LayerFeatures(maps.mean((1, 2)), maps, _as_it_is))
        return out

    def _stem(self, x: Tensor) -> Tensor:
        model = self.model
        activation = model.act1 if hasattr(model, "act1") else model.relu
        out: Tensor = model.maxpool(activation(model.bn1(model.conv1(x))))  # type: ignore[operator]
        return out

    def truncate(self, layer: int) -> "ResNetEncoder":
        """The encoder up to stage `layer`, with parameters of its own."""
        check_layers([layer], self.depth)
        out = copy.deepcopy(self)
        for name in [*out.stages[layer:], "fc"]:
            if hasattr(out.model, name):
                setattr(out.model, name, nn.Identity())
        out.stages = out.stages[:layer]
        out.depth = layer
        out.dims = self.dims[:layer]
        out.stride = _stride(out.model, out.stages)
        out.requires_grad_(True)
        return out


def _width(stage: nn.Module) -> int:
    """Channels that leave a stage: those of its last block's last convolution."""
    block: Any = list(stage.children())[-1]
    last = block.conv3 if hasattr(block, "conv3") else block.conv2
    return int(last.out_channels)


def _stride(model: Any, stages: Sequence[str]) -> int:
    """Pixels per cell of the last stage's map: the product of the strides before it."""
    if hasattr(model, "feature_info"):
        return int(model.feature_info[len(stages)]["reduction"])
    strides = [model.conv1.stride[0], model.maxpool.stride]
    return math.prod([*strides, *(getattr(model, name)[0].stride for name in stages)])
