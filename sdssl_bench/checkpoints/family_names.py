"""The names of convolutional networks and of ViTs of other families."""

import re

from sdssl_bench.checkpoints.keys import State
from sdssl_bench.checkpoints.renaming import HF_PARTS, Translated, fuse, renamed, without


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


_CONVNEXT_BLOCK = (
    (r"\.(dwconv|depthwise_conv)\.", ".conv_dw."),
    (r"(\.blocks\.\d+)\.(?:layernorm|layer_norm)\.", r"\1.norm."),
    (r"\.(pwconv1|pointwise_conv1)\.", ".mlp.fc1."),
    (r"\.(pwconv2|pointwise_conv2)\.", ".mlp.fc2."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"\.(?<!mlp\.)grn\.", ".mlp.grn."),
)


def _convnext(state: State, *rules: tuple[str, str]) -> Translated:
    """ConvNeXt, V2 and DINOv3's: response normalisation as vectors, DINOv3's further norms left out."""
    kept, unused = without(state, r"norms\.[012]\..*|norms\.3\..*")
    out = renamed(kept, [*rules, *_CONVNEXT_BLOCK])
    flat = {key: t.flatten() if ".grn." in key else t for key, t in out.items()}
    return Translated(flat, unused)


def convnext(state: State) -> Translated:
    """The authors' names, DINOv3's included."""
    return _convnext(
        state,
        (r"^downsample_layers\.0\.", "stem."),
        (r"^downsample_layers\.", "stages."),
        (r"^(stages\.\d+)\.(\d+)\.(?=dwconv|norm|pwconv|gamma|grn)", r"\1.blocks.\2."),
        (r"^(stages\.\d+)\.(\d+)\.(weight|bias)$", r"\1.downsample.\2.\3"),
        (r"^norm\.", "head.norm."),
    )


def hf_convnext(state: State) -> Translated:
    """ConvNeXt and V2 of transformers."""
    return _convnext(
        state,
        (r"^embeddings\.patch_embeddings\.", "stem.0."),
        (r"^embeddings\.layernorm\.", "stem.1."),
        (r"^encoder\.stages\.", "stages."),
        (r"^(stages\.\d+)\.layers\.", r"\1.blocks."),
        (r"\.downsampling_layer\.", ".downsample."),
        (r"^layernorm\.", "head.norm."),
    )


def hf_dinov3_convnext(state: State) -> Translated:
    """DINOv3's ConvNeXt of transformers."""
    return _convnext(
        state,
        (r"^stages\.0\.downsample_layers\.", "stem."),
        (r"^(stages\.\d+)\.downsample_layers\.", r"\1.downsample."),
        (r"^(stages\.\d+)\.layers\.", r"\1.blocks."),
        (r"^layer_norm\.", "head.norm."),
    )


def swin(state: State) -> Translated:
    """Swin's own and timm's names; the authors count a stage's reduction to the stage before it."""
    kept, unused = without(state, r".*\.(relative_position_index|attn_mask)")
    before = "layers.0.downsample.norm.weight" in kept
    return Translated(_next_stage(kept) if before else kept, unused)


def hf_swin(state: State) -> Translated:
    """Swin of transformers."""
    kept, unused = without(state, r".*\.relative_position_index")
    out = renamed(
        kept,
        [
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.norm\.", "patch_embed.norm."),
            (r"^encoder\.layers\.", "layers."),
            (
                r"\.attention\.(?:self\.)?relative_position_bias_table$",
                ".attn.relative_position_bias_table",
            ),
            *HF_PARTS,
        ],
    )
    return Translated(_next_stage(fuse(out)), unused)


def _next_stage(state: State) -> State:
    """Timm counts the reduction between two stages to the second."""

    def later(found: re.Match[str]) -> str:
        return f"layers.{int(found[1]) + 1}.downsample."

    return {re.sub(r"^layers\.(\d+)\.downsample\.", later, key): t for key, t in state.items()}
