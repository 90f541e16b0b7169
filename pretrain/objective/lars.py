"""LARS (You et al. 2017) as MoCo v3 trains its ResNets: the rate of each weight follows its norm.

For a weight w with gradient g: u = g + weight_decay w; u is scaled by trust |w| / |u| (1 where either
norm is 0); buffer = momentum buffer + u; w -= lr buffer. Parameters of one dimension get neither
decay nor scaling.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling.

    Args:
        params: parameters or groups. A group with `stacked=True` holds weights [G, out, in] of G
            separate layers: each of the G has norms of its own.
        lr: learning rate.
        weight_decay: added to the gradient, before the scaling.
        momentum: of the scaled gradients.
        trust: trust coefficient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        trust: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "trust": trust,
            "stacked": False,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad
                if weight.ndim > 1:
                    update = update.add(weight, alpha=group["weight_decay"])
                    update = update * _trust(
                        weight, update, trust=group["trust"], stacked=group["stacked"]
                    )
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                buffer = state["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(update)
                weight.add_(buffer, alpha=-group["lr"])
        return loss


def _trust(weight: Tensor, update: Tensor, *, trust: float, stacked: bool) -> Tensor:
    """Scale of one weight, or [G, 1, 1] of G stacked ones."""
    dims = tuple(range(1 if stacked else 0, weight.ndim))
    size, step = (x.float().square().sum(dims, keepdim=True).sqrt() for x in (weight, update))
    ratio = trust * size / step
    return torch.where((size > 0) & (step > 0), ratio, torch.ones_like(ratio)).to(weight.dtype)
