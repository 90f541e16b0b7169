"""Identity of weights: one sha256 over names, types, shapes and bytes."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def digest_of_state(state: Mapping[str, Tensor]) -> str:
    """sha256 over the tensors in order of their names; independent of file format and device."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        flat = tensor.cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of_module(module: nn.Module) -> str:
    """`digest_of_state` of a module's parameters and persistent buffers as they are now."""
    return digest_of_state(module.state_dict())
