"""Projectors and predictors: the per-layer heads of all layers as one grouped computation.

A group of G multilayer perceptrons runs as one batched matrix product per linear layer and one
batch-norm over the G x H stacked channels; outputs, gradients and running statistics are those of G
separate perceptrons. Hidden layers are linear (no bias), batch-norm, ReLU; the output batch-norm has
no affine parameters and is absent for BYOL.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn


class GroupedLinear(nn.Module):
    """G linear maps without bias, initialised as G `nn.Linear` are.

    Attributes:
        weights: one [G, out, in] parameter where all inputs have the same width, else G of
            [1, out, in] (stages of a ResNet).
    """

    def __init__(self, in_dims: Sequence[int], out_dim: int) -> None:
        super().__init__()
        same = len(set(in_dims)) == 1
        shapes = [(len(in_dims), in_dims[0])] if same else [(1, dim) for dim in in_dims]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(groups, out_dim, dim)) for groups, dim in shapes
        )
        for weight in self.weights:
            bound = 1.0 / sqrt(weight.shape[-1])
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """[G, N, in], or G tensors [N, in_g], to [G, N, out]."""
        if len(self.weights) == 1:
            stacked = x if isinstance(x, Tensor) else torch.stack(list(x))
            return torch.bmm(stacked, self.weights[0].transpose(1, 2))
        return torch.stack([part @ weight[0].T for part, weight in zip(x, self.weights)])


class GroupedBatchNorm(nn.Module):
    """Batch-norm of G groups of H channels as one over G x H channels.

    The one inner `nn.BatchNorm1d` is what `nn.SyncBatchNorm.convert_sync_batchnorm` replaces.
    """

    def __init__(self, groups: int, channels: int, *, affine: bool) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm1d(groups * channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """[G, N, H] to [G, N, H]."""
        groups, rows, channels = x.shape
        stacked = x.transpose(0, 1).reshape(rows, groups * channels)
        normed: Tensor = self.norm(stacked)
        return normed.view(rows, groups, channels).transpose(0, 1)


class GroupedMLP(nn.Module):
    """G perceptrons of the same depth, hidden and output width.

    Args:
        in_dims: input width of each of the G.
        hidden: width of hidden layers.
        out: width of the output.
        depth: number of linear layers, from 1.
        output_norm: batch-norm without affine parameters after the last linear layer.
        hidden_norm: batch-norm in hidden layers; only tests that compare process counts go without.
    """

    def __init__(
        self,
        in_dims: Sequence[int],
        *,
        hidden: int,
        out: int,
        depth: int,
        output_norm: bool,
        hidden_norm: bool = True,
    ) -> None:
        super().__init__()
        groups = len(in_dims)
        modules: list[nn.Module] = []
        dims = list(in_dims)
        for _ in range(depth - 1):
            modules.append(GroupedLinear(dims, hidden))
            if hidden_norm:
                modules.append(GroupedBatchNorm(groups, hidden, affine=True))
            modules.append(nn.ReLU(inplace=True))
            dims = [hidden] * groups
        modules.append(GroupedLinear(dims, out))
        if output_norm:
            modules.append(GroupedBatchNorm(groups, out, affine=False))
        self.layers = nn.Sequential(*modules)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """[G, N, in], or G tensors [N, in_g], to [G, N, out]."""
        y: Tensor = self.layers(x)
        return y


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None  # type: ignore[attr-defined]


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """X itself; the gradient that comes back through it is multiplied by `scale`."""
    result: Tensor = _ScaleGradient.apply(x, scale)
    return result
