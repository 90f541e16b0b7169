"""Which optimizer steps fp16 leaves out, without making the host wait for the device.

accelerate says so only of optimizers that are not called then (LARS). A fused one (AdamW) is always called
and leaves the step out on the device, by the `found_inf` that the loss scaler gives it.
"""

from typing import Any

import torch
from torch import Tensor


class SkippedSteps:
    """Watches an optimizer that a loss scaler drives.

    Args:
        optimizer: not wrapped.
        device: of its parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._device = device
        self._last = torch.zeros((), device=device)
        optimizer.register_step_post_hook(self._called)

    def before(self) -> None:
        """Called before each step: it counts as left out until the optimizer was called."""
        self._last = torch.ones((), device=self._device)

    def last(self) -> Tensor:
        """[] 1 if the last step was left out, else 0; on the device."""
        return self._last

    def _called(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found = getattr(optimizer, "found_inf", None)
        self._last = torch.zeros_like(self._last) if found is None else (found > 0).float()
