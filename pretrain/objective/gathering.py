"""Rows of every process on every process, with the gradient convention named.

none   the rows are constants (teacher keys)
full   the gradient of the global loss: every process's share of it returns to the rows' owner,
       so that DDP's average over processes equals the gradient in one process
local  only the owner's own share returns (SDSSL's SimCLR trainer): terms across processes drop
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

CONVENTIONS = ("none", "full", "local")


def world_size() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process, 0..world_size() - 1."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def all_gather(rows: Tensor, *, gradient: str) -> Tensor:
    """[n, ...] rows of each process, concatenated by rank: [world n, ...]. Called by all.

    Args:
        rows: the same shape in every process.
        gradient: one of CONVENTIONS.
    """
    if gradient not in CONVENTIONS:
        raise ValueError(f"gradient is one of {CONVENTIONS}, found {gradient!r}")
    if gradient == "none":
        rows = rows.detach()
    if world_size() == 1:
        return rows
    gathered: Tensor = _AllGather.apply(rows.contiguous(), gradient)
    return gathered


def share_buffers(module: nn.Module) -> None:
    """Gives every process the first one's buffers, as DDP does before each forward pass.

    Where batch-norm is not synchronised (CPUs) running statistics differ between processes after a
    step, and what nodes save would too.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, convention: str) -> Tensor:
        ctx.convention = convention  # type: ignore[attr-defined]
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        if ctx.convention == "full":  # type: ignore[attr-defined]
            # Autograd may hand the same tensor to others: it is not ours to reduce in place.
            gradient = gradient.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()], None
