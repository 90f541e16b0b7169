"""Which parameters a layer depends on, found by asking for gradients."""

import copy

import torch

from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, device_of


def levels_of(encoder: Encoder) -> dict[str, int]:
    """Name -> the first layer that each parameter takes part in; without those that none depends on."""
    twin = copy.deepcopy(encoder).eval().requires_grad_(True)
    shape = (1, len(encoder.mean), encoder.input_size, encoder.input_size)
    image = torch.zeros(shape, device=device_of(twin))
    with torch.enable_grad():
        sums = twin.forward_layers(image, range(1, twin.depth + 1), _total)
    found: dict[str, int] = {}
    names, parameters = zip(*twin.named_parameters(), strict=True)
    for layer, total in sums.items():
        gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                found.setdefault(name, layer)
    return found


def _total(features: LayerFeatures) -> torch.Tensor:
    return features.cls.sum()
