"""From images to the tokens of every layer; one file a family.

In: images [N, 3, H, W]. Out: per layer the class token [N, D] and the patches [N, h, w, D], from one
forward pass.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.encoders.building import (
        NAMES as NAMES,
    )
    from sdssl_bench.encoders.building import (
        VITS as VITS,
    )
    from sdssl_bench.encoders.building import (
        arch_name as arch_name,
    )
    from sdssl_bench.encoders.building import (
        build as build,
    )
    from sdssl_bench.encoders.building import (
        wrap as wrap,
    )
    from sdssl_bench.encoders.encoder import (
        IMAGENET_MEAN as IMAGENET_MEAN,
    )
    from sdssl_bench.encoders.encoder import (
        IMAGENET_STD as IMAGENET_STD,
    )
    from sdssl_bench.encoders.encoder import (
        NORMS as NORMS,
    )
    from sdssl_bench.encoders.encoder import (
        POOLINGS as POOLINGS,
    )
    from sdssl_bench.encoders.encoder import (
        Encoder as Encoder,
    )
    from sdssl_bench.encoders.encoder import (
        LayerFeatures as LayerFeatures,
    )
    from sdssl_bench.encoders.encoder import (
        ModelInfo as ModelInfo,
    )
    from sdssl_bench.encoders.encoder import (
        check_layers as check_layers,
    )
    from sdssl_bench.encoders.encoder import (
        cls as cls,
    )
    from sdssl_bench.encoders.encoder import (
        gem as gem,
    )
    from sdssl_bench.encoders.encoder import (
        move as move,
    )
    from sdssl_bench.encoders.encoder import (
        parse_layers as parse_layers,
    )
    from sdssl_bench.encoders.plain_vit import (
        ViTConfig as ViTConfig,
    )
    from sdssl_bench.encoders.plain_vit import (
        build_vit as build_vit,
    )
    from sdssl_bench.encoders.position_embeddings import (
        classify_pos_embed as classify_pos_embed,
    )
    from sdssl_bench.encoders.resnet import (
        ResNetEncoder as ResNetEncoder,
    )
    from sdssl_bench.encoders.vit import (
        ViTEncoder as ViTEncoder,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
