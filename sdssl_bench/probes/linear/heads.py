"""Many linear heads trained by SGD at once: inputs x learning rates, as one batched computation.

Heads share no parameter, so the gradient of a head is what it would be if it were trained alone, and a
head that diverges touches no other. Inputs of equal width are stacked: one batched matrix product gives
the logits of all their heads, one more the gradients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

INIT_STD = 0.01
"""Of the weights of a "normal" head, which has zero bias; MoCo v3, DINO, DINOv2."""
BN_EPS, BN_MOMENTUM = 1e-6, 0.1
"""Of the optional batch norm without affine parameters; eps is MAE's."""


@dataclass(eq=False)
class _Group:
    """Inputs of one width: G of them, each with R heads of C classes.

    Attributes:
        members: [G] positions in the list of inputs.
        weights: [G, D + 1, R C], the last row is the bias.
        momentum: the same shape.
        mean, variance: [G, D] running statistics of the batch norm.
    """

    members: list[int]
    weights: Tensor
    momentum: Tensor
    mean: Tensor
    variance: Tensor


class Heads:
    """Linear classifiers on several inputs at several learning rates.

    Attributes:
        rates: [R] learning rates at schedule factor 1.
        diverged: [I, R] step at which a head's loss stopped being finite, -1 while it is.
    """

    def __init__(
        self,
        widths: Sequence[int],
        rates: Sequence[float],
        *,
        num_classes: int,
        seeds: Sequence[Sequence[int]],
        init: str = "normal",
        momentum: float = 0.9,
        batch_norm: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Initialises every head.

        Args:
            widths: [I] width D of each input.
            rates: [R] learning rates.
            num_classes: C.
            seeds: [I] of the initial weights, whole numbers each; the heads of one input start equal.
            init: "normal", N(0, 0.01^2) and zero bias, or "linear", torch's default for Linear.
            momentum: of SGD; no weight decay.
            batch_norm: normalise inputs by the batch's statistics, and by running ones in evaluation.
            device: torch device.
        """
        self.num_inputs, self.num_classes = len(widths), num_classes
        self.rates = torch.tensor(rates, dtype=torch.float64)
        self.diverged = torch.full((len(widths), len(rates)), -1)
        self._momentum, self._batch_norm, self._device = momentum, batch_norm, torch.device(device)
        self._steps = 0
        self._groups = []
        for width in sorted(set(widths)):
            members = [i for i, one in enumerate(widths) if one == width]
            starts = [_initial(width, num_classes, init, seeds[i]) for i in members]
            weights = torch.stack(starts).repeat(1, 1, len(rates)).to(self._device)
            zeros = torch.zeros(len(members), width, device=self._device)
            self._groups.append(
                _Group(members, weights, torch.zeros_like(weights), zeros, torch.ones_like(zeros))
            )

    @torch.no_grad()
    def step(self, inputs: Sequence[Tensor], targets: Tensor, factor: float) -> Tensor:
        """One SGD step of all heads.

        Args:
            inputs: [I] features [B, D_i] of the same images, float32.
            targets: [B] classes.
            factor: of the learning rates, from the schedule.

        Returns:
            [I, R] mean cross-entropy before the step; not finite for a head that diverged.
        """
        losses = torch.empty(self.num_inputs, len(self.rates), device=self._device)
        count = len(targets)
        place = targets.to(self._device)[None, :, None, None]
        rates = (self.rates * factor).float().to(self._device)
        rates = rates.repeat_interleave(self.num_classes)
        for group in self._groups:
            x = self._rows(group, inputs, training=True)
            log_p = log_softmax(self._logits(group, x), -1)
            where = place.expand(len(x), -1, len(self.rates), 1)
            losses[group.members] = -log_p.gather(-1, where)[..., 0].mean(1)
            error = log_p.exp_()
            error.scatter_add_(-1, where, torch.full_like(where, -1, dtype=error.dtype))
            gradient = x.transpose(1, 2) @ error.flatten(2).div_(count)
            group.momentum.mul_(self._momentum).add_(gradient)
            group.weights.sub_(rates * group.momentum)
        self._mark_diverged(losses)
        self._steps += 1
        return losses

    @torch.no_grad()
    def logits(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """[I] logits [R, n, C] in evaluation mode."""
        out: list[Any] = [None] * self.num_inputs
        for group in self._groups:
            logits = self._logits(group, self._rows(group, inputs, training=False))
            for position, member in enumerate(group.members):
                out[member] = logits[position].transpose(0, 1)
        return out

    def check(self) -> None:
        """Mark heads whose weights are not finite though no loss has shown it yet."""
        for group in self._groups:
            finite = torch.isfinite(group.weights).all(1)
            finite = finite.unflatten(-1, (len(self.rates), self.num_classes)).all(-1).cpu()
            fresh = torch.zeros_like(self.diverged, dtype=torch.bool)
            fresh[group.members] = ~finite
            self.diverged[fresh & (self.diverged < 0)] = self._steps

    def state(self) -> dict[str, Any]:
        """Everything `load` needs; tensors and numbers only."""
        groups = [
            {name: getattr(g, name).cpu() for name in ("weights", "momentum", "mean", "variance")}
            for g in self._groups
        ]
        return {"groups": groups, "diverged": self.diverged.clone(), "steps": self._steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of heads made with the same arguments."""
        for group, saved in zip(self._groups, state["groups"], strict=True):
            for name, value in saved.items():
                getattr(group, name).copy_(value)
        self.diverged, self._steps = state["diverged"].clone(), int(state["steps"])

    def _rows(self, group: _Group, inputs: Sequence[Tensor], *, training: bool) -> Tensor:
        """[G, B, D + 1] the group's inputs, normed if asked, and a one."""
        x = torch.stack([inputs[i] for i in group.members]).to(self._device, torch.float32)
        if self._batch_norm:
            if training:
                mean, variance = x.mean(1), x.var(1, correction=0)
                unbiased = variance * (x.shape[1] / max(x.shape[1] - 1, 1))
                group.mean.lerp_(mean, BN_MOMENTUM)
                group.variance.lerp_(unbiased, BN_MOMENTUM)
            else:
                mean, variance = group.mean, group.variance
            x = (x - mean[:, None]) * (variance[:, None] + BN_EPS).rsqrt()
        return torch.nn.functional.pad(x, (0, 1), value=1.0)

    def _logits(self, group: _Group, rows: Tensor) -> Tensor:
        """[G, B, R, C]."""
        split = (len(self.rates), self.num_classes)
        logits: Tensor = (rows @ group.weights).unflatten(-1, split)
        return logits

    def _mark_diverged(self, losses: Tensor) -> None:
        fresh = ~torch.isfinite(losses).cpu() & (self.diverged < 0)
        self.diverged[fresh] = self._steps


def _initial(width: int, num_classes: int, init: str, seed: Sequence[int]) -> Tensor:
    """[D + 1, C] weights and, in the last row, biases."""
    rng = np.random.default_rng(seed)
    if init == "normal":
        weights = rng.normal(0.0, INIT_STD, (width + 1, num_classes))
        weights[-1] = 0.0
    else:
        bound = 1.0 / np.sqrt(width)
        weights = rng.uniform(-bound, bound, (width + 1, num_classes))
    return torch.from_numpy(weights).float()
