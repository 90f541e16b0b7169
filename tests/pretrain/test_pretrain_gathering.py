"""Rows of all processes: a gradient that is not ours stays as it is, keys travel once a step."""

import pytest
import torch
from torch import Tensor

from sdssl_bench.pretrain.objective import gathering
from sdssl_bench.pretrain.objective.gathering import all_gather


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """This process as the second of two that compute the same; shapes of what is gathered."""
    gathered: list[tuple[int, ...]] = []

    def gather(parts: list[Tensor], rows: Tensor) -> None:
        gathered.append(tuple(rows.shape))
        for part in parts:
            part.copy_(rows)

    monkeypatch.setattr(gathering, "world_size", lambda: 2)
    monkeypatch.setattr(gathering, "rank", lambda: 1)
    monkeypatch.setattr(gathering.dist, "all_gather", gather)
    monkeypatch.setattr(gathering.dist, "all_reduce", lambda gradient: gradient.mul_(2))
    return gathered


def test_the_gradient_that_autograd_hands_over_is_not_reduced_in_place(
    twins: list[tuple[int, ...]],
) -> None:
    """An addition hands one tensor to both of its inputs."""
    rows, other = (torch.ones(3, 2, requires_grad=True) for _ in range(2))
    seen: list[Tensor] = []
    both = all_gather(rows, gradient="full")
    both.register_hook(lambda gradient: seen.append(gradient))
    ((both + torch.cat([other, other])) * torch.ones(6, 2)).sum().backward()
    assert rows.grad is not None
    assert other.grad is not None
    assert torch.equal(rows.grad, torch.full((3, 2), 2.0)), "both processes' share of its own rows"
    assert torch.equal(seen[0], torch.ones(6, 2))
    assert torch.equal(other.grad, torch.full((3, 2), 2.0))
    assert twins == [(3, 2)]
