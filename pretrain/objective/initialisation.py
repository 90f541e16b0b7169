"""Fresh weights as MoCo v3 draws them, for the ViTs and ResNets that are pretrained.

Source: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021,
and its released code's behaviour.
"""

from math import prod, sqrt

from torch import nn

from sdssl_bench.encoders import Encoder, ResNetEncoder


def initialise(encoder: Encoder, *, zero_residual: bool = True) -> None:
    """Draws the encoder's weights anew, from torch's global generator.

    Args:
        encoder: freshly built; torchvision's own weights of a ResNet stay.
        zero_residual: residual branches of a ResNet start at 0.
    """
    if isinstance(encoder, ResNetEncoder):
        if zero_residual:
            _residual_branches_start_at_zero(encoder)
    else:
        model = encoder.model
        assert isinstance(model, nn.Module)
        _vit(model)


def _vit(model: nn.Module) -> None:
    """Q, K and V each get the bound of a D x D matrix; norms stay the identity."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            rows = module.out_features // (3 if name.endswith("qkv") else 1)
            _uniform(module, sqrt(6 / (rows + module.in_features)))
        elif isinstance(module, nn.Conv2d):  # the patch projection, as the matrix that it is
            fan_in = module.in_channels * prod(module.kernel_size)
            _uniform(module, sqrt(6 / (fan_in + module.out_channels)))
    cls_token = model.cls_token
    assert isinstance(cls_token, nn.Parameter)
    nn.init.normal_(cls_token, std=1e-6)


def _uniform(module: nn.Linear | nn.Conv2d, bound: float) -> None:
    nn.init.uniform_(module.weight, -bound, bound)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _residual_branches_start_at_zero(encoder: nn.Module) -> None:
    """The last batch-norm of every block starts at 0; torchvision has drawn the rest."""
    for block in encoder.modules():
        for name in (
            "bn3",
            "bn2",
        ):  # bottlenecks have a third one, basic blocks end with the second
            norm = getattr(block, name, None)
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.zeros_(norm.weight)
                break
