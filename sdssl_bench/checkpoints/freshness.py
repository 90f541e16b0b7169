"""Whether weights were ever trained: each tensor against a freshly initialised twin.

A two-sample Kolmogorov-Smirnov distance compares the values; constants (biases of 0, norm weights
of 1) count as untouched only if they are still exactly that.
"""

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdssl_bench.encoders import Encoder

SAMPLE = 4096
"""Values compared per tensor."""

LIMIT = 1.95
"""Kolmogorov-Smirnov: distances below LIMIT * sqrt((n + m) / (n m)) are no difference at 0.1 %."""

DISPERSION = 1.5
"""Row or column norms that vary this many times more than in the twin were trained."""


UNTRAINED, MOSTLY_UNTRAINED = "untrained", "mostly untrained"
NEARLY_ALL = 0.97
"""Share of fresh tensors above which none was trained: of a hundred fresh ones, one is taken for trained."""


@dataclass(frozen=True)
class Group:
    """Tensors that play one role, e.g. the qkv weights of all blocks.

    Attributes:
        name: their common name, block index replaced by *.
        tensors: how many there are.
        untouched: how many look like a fresh initialisation.
        std: median standard deviation in the checkpoint.
        fresh_std: the same in the freshly initialised twin.
    """

    name: str
    tensors: int
    untouched: int
    std: float
    fresh_std: float


@dataclass(frozen=True)
class Freshness:
    """A comparison with a fresh initialisation.

    Attributes:
        groups: parameters by role.
        untouched: names of those that look fresh.
        compared: number compared.
        look: "trained", "mostly untrained", "untrained", or why nothing could be compared.
    """

    groups: tuple[Group, ...]
    untouched: tuple[str, ...]
    compared: int
    look: str


def examine(encoder: Encoder, fixed: tuple[str, ...] = ()) -> Freshness:
    """Compares every parameter with a freshly initialised twin.

    Args:
        encoder: the encoder to examine.
        fixed: beginnings of tensor names to leave out.
    """
    try:
        twin = dict(fresh_twin(encoder).named_parameters())
    except Exception as error:  # whatever a user's module raises when it is copied or drawn anew
        return Freshness((), (), 0, f"not compared ({type(error).__name__}: {error})")
    members: dict[str, list[tuple[bool, float, float]]] = {}
    untouched: list[str] = []
    compared = 0
    for key, parameter in encoder.named_parameters():
        tensor, reference, name = parameter.detach(), twin[key].detach(), key.removeprefix("model.")
        if any(name.startswith(prefix) for prefix in fixed) or not tensor.is_floating_point():
            continue
        compared += 1
        fresh = looks_fresh(tensor, reference)
        untouched += [name] if fresh else []
        group = re.sub(r"\.\d+\.", ".*.", re.sub(r"\.\d+\.", ".*.", name))
        stds = float(tensor.std(correction=0)), float(reference.std(correction=0))
        members.setdefault(group, []).append((fresh, *stds))
    groups = tuple(
        Group(
            name,
            tensors=len(rows),
            untouched=sum(fresh for fresh, _, _ in rows),
            std=float(np.median([std for _, std, _ in rows])),
            fresh_std=float(np.median([std for _, _, std in rows])),
        )
        for name, rows in members.items()
    )
    if not compared:
        return Freshness((), (), 0, "without parameters")
    share = len(untouched) / max(1, compared)
    look = UNTRAINED if share > NEARLY_ALL else MOSTLY_UNTRAINED if share > 0.5 else "trained"
    return Freshness(groups, tuple(untouched), compared, look)


def fresh_twin(encoder: nn.Module) -> nn.Module:
    """A copy with newly drawn weights: torch's reset of each part, then the model's own scheme."""
    twin = copy.deepcopy(encoder)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
        draw = getattr(getattr(twin, "model", twin), "init_weights", None)
        if callable(draw):
            draw()
    return twin


def looks_fresh(tensor: Tensor, fresh: Tensor) -> bool:
    """Whether values could be a fresh initialisation: the twin's, or another usual one.

    The twin may start from another scheme than the network did: torchvision's ResNets from Kaiming's
    normal draws, whose width is known; and trained weights are never uniform (Xavier, as MoCo v3 and
    SDSSL start) nor all the same (zero, as the last norm of residual branches). A trained matrix can
    have a fresh distribution by chance, but its rows and columns no longer have nearly equal norms.
    """
    if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
        return True
    if bool((fresh == fresh.flatten()[0]).all()):
        return bool((tensor == fresh.flatten()[0]).all())
    twins = (fresh, *_normal_twins(tensor))
    return any(_alike(tensor, twin) for twin in twins) or _uniform(tensor, fresh)


def _alike(tensor: Tensor, fresh: Tensor) -> bool:
    if _uneven(tensor, fresh):
        return False
    values, reference = _sample(tensor), _sample(fresh)
    n, m = len(values), len(reference)
    return _distance(values, reference) < LIMIT * math.sqrt((n + m) / (n * m))


def _uneven(tensor: Tensor, fresh: Tensor) -> bool:
    """Whether norms of rows or columns vary more than they do at random."""
    return any(n > DISPERSION * m for n, m in zip(dispersion(tensor), dispersion(fresh)))


def _normal_twins(tensor: Tensor) -> Iterator[Tensor]:
    """Kaiming's normal draws of a convolution, where the tensor's own width is theirs."""
    if tensor.ndim < 3:
        return
    found = float(tensor.double().std(correction=0))
    for fan in (tensor[0].numel(), tensor[:, 0].numel()):
        width = math.sqrt(2 / fan)
        # Four standard errors of a standard deviation.
        if abs(found / width - 1) < 4 / math.sqrt(2 * tensor.numel()):
            yield width * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))


def _uniform(tensor: Tensor, fresh: Tensor) -> bool:
    values = _sample(tensor)
    top = float(np.abs(values).max())
    if _uneven(tensor, fresh) or len(values) < SAMPLE or top == 0:
        return False
    grid = np.linspace(-top, top, 10 * SAMPLE)
    return _distance(values, grid) < LIMIT / math.sqrt(len(values))


def dispersion(tensor: Tensor) -> list[float]:
    """Coefficient of variation of the norms of rows and of columns; [] below two dimensions."""
    matrix = tensor.detach().double().squeeze()
    if matrix.ndim < 2:
        return []
    matrix = matrix.flatten(1)
    norms = (matrix.norm(dim=1), matrix.norm(dim=0))
    return [float(n.std(correction=0) / n.mean().clamp(min=1e-12)) for n in norms]


def _sample(tensor: Tensor) -> NDArray[np.float64]:
    """Up to SAMPLE values spread over the tensor, sorted."""
    flat = tensor.detach().flatten().double().cpu()
    step = max(1, flat.numel() // SAMPLE)
    return np.sort(flat[::step][:SAMPLE].numpy())


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov distance of two sorted samples."""
    points = np.concatenate([a, b])
    left = np.searchsorted(a, points, side="right") / len(a)
    right = np.searchsorted(b, points, side="right") / len(b)
    return float(np.abs(left - right).max())
