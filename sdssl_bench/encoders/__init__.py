"""From images to the tokens of every layer.

In: images [N, C, H, W], RGB or grey. Out: per layer the class token [N, D] and the patches [N, h, w, D],
from one forward pass.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.encoders.building import (
        NAMES,
        VITS,
        arch_name,
        build,
        build_vit,
        by_stages,
        wrap,
    )
    from sdssl_bench.encoders.controls import Control
    from sdssl_bench.encoders.encoder import (
        CLASS_TOKEN,
        NORMS,
        PATCH_MEAN,
        POOLINGS,
        Encoder,
        LayerFeatures,
        ModelInfo,
        Pretrained,
        check_layers,
        cls,
        device_of,
        gem,
        move,
        parse_layers,
        stated_pretraining,
    )
    from sdssl_bench.encoders.families import (
        build_beit,
        build_convnext,
        build_distilled_vit,
        build_resnet,
        build_rope_vit,
        build_swin,
    )
    from sdssl_bench.encoders.hooked import HookedEncoder, Parts
    from sdssl_bench.encoders.images import (
        COLOURS,
        IMAGENET_MEAN,
        IMAGENET_STD,
        Colours,
        colours_for,
        normalised,
    )
    from sdssl_bench.encoders.points import BLOCK, POINTS
    from sdssl_bench.encoders.position_embeddings import classify_pos_embed
    from sdssl_bench.encoders.resnet import RESNETS, ResNetEncoder
    from sdssl_bench.encoders.stages import StagesEncoder
    from sdssl_bench.encoders.taking_part import levels_of
    from sdssl_bench.encoders.vit import ViTConfig, ViTEncoder
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
