"""The names of convolutional networks and of ViTs of other families."""

import re

from sdssl_bench.checkpoints.keys import State
from sdssl_bench.checkpoints.renaming import Translated


def numbered_resnet(state: State) -> Translated:
    """A torchvision ResNet's children in a Sequential: conv1, bn1, relu, maxpool, layer1 to layer4."""
    names = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    out = {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        out[f"{names.get(first, first)}.{rest}"] = tensor
    return Translated(out)


def hf_resnet(state: State) -> Translated:
    """Transformers numbers stages from 0 and names convolution and norm of a layer by their places."""

    def stage(found: re.Match[str]) -> str:
        return f"layer{int(found[1]) + 1}.{found[2]}."

    def unit(found: re.Match[str]) -> str:
        place = int(found[1]) + 1
        return f"{'conv' if found[2] == 'convolution' else 'bn'}{place}."

    out = {}
    for key, tensor in state.items():
        name = re.sub(r"^embedder\.embedder\.convolution\.", "conv1.", key)
        name = re.sub(r"^embedder\.embedder\.normalization\.", "bn1.", name)
        name = re.sub(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", stage, name)
        name = re.sub(r"shortcut\.convolution\.", "downsample.0.", name)
        name = re.sub(r"shortcut\.normalization\.", "downsample.1.", name)
        out[re.sub(r"layer\.(\d+)\.(convolution|normalization)\.", unit, name)] = tensor
    return Translated(out)
