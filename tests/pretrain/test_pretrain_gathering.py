"""Rows of all processes: a gradient that is not ours stays as it is, keys travel once a step.

This process is the second of two; the first has random rows.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from pretrain_fixtures import tiny
from sdssl_bench.pretrain.objective import gathering, sdssl
from sdssl_bench.pretrain.objective.assembly import build_model
from sdssl_bench.pretrain.objective.gathering import all_gather
from sdssl_bench.pretrain.objective.sdssl import SDSSL, both_views
from sdssl_bench.pretrain.objective.slices import backward

N, TAU, ALPHA = 8, 0.2, 0.7


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the first process has, one entry for every time that rows travel."""
    found: list[Tensor] = []

    def gather(parts: list[Tensor], rows: Tensor) -> None:
        generator = torch.Generator().manual_seed(len(found))
        found.append(torch.randn(rows.shape, generator=generator).to(rows))
        parts[0].copy_(found[-1])
        parts[1].copy_(rows)

    for module in (gathering, sdssl):
        monkeypatch.setattr(module, "world_size", lambda: 2)
        monkeypatch.setattr(module, "rank", lambda: 1)
    monkeypatch.setattr(gathering.dist, "all_gather", gather)
    monkeypatch.setattr(gathering.dist, "all_reduce", lambda gradient: gradient.mul_(2))
    return found


def model_and_views(method: str) -> tuple[SDSSL, Tensor]:
    torch.manual_seed(0)
    model = build_model(tiny(method, hidden_bn=False, output_bn=False)).double()
    return model, torch.randn(2, N, 3, 32, 32, dtype=torch.float64)


def literal(queries: Tensor, keys: Tensor, positive: list[int], own: list[int | None]) -> float:
    """Cross-entropy of each query against all keys but its own, one at a time."""
    queries, keys = (F.normalize(x.detach(), dim=-1) for x in (queries, keys))
    total = 0.0
    for i, query in enumerate(queries):
        scores = {j: float(query @ keys[j]) / TAU for j in range(len(keys)) if j != own[i]}
        total += float(torch.tensor(list(scores.values())).logsumexp(0)) - scores[positive[i]]
    return total / len(queries)


def test_the_gradient_that_autograd_hands_over_is_not_reduced_in_place(
    gathered: list[Tensor],
) -> None:
    """An addition hands one tensor to both of its inputs."""
    rows, other = (torch.ones(3, 2, requires_grad=True) for _ in range(2))
    seen: list[Tensor] = []
    both = all_gather(rows, gradient="full")
    both.register_hook(lambda gradient: seen.append(gradient))
    weights = torch.arange(12.0).view(6, 2)
    ((both + torch.cat([other, other])) * weights).sum().backward()
    assert rows.grad is not None
    assert other.grad is not None
    assert torch.equal(rows.grad, 2 * weights[3:]), "both processes' share of its own rows"
    assert torch.equal(seen[0], weights)
    assert torch.equal(other.grad, weights[:3] + weights[3:])
    assert len(gathered) == 1


@pytest.mark.parametrize("method", ["simclr", "sd_simclr"])
def test_simclr_finds_its_own_rows_behind_those_of_earlier_processes(
    method: str, gathered: list[Tensor]
) -> None:
    model, views = model_and_views(method)
    rows, _ = model.rows(views[0], views[1])
    terms = model.loss_of_rows(rows, alpha=ALPHA)
    keys = torch.cat([gathered[0], rows[-1].flatten(0, 1)])
    own = [2 * N + i for i in range(2 * N)]
    positive = [2 * N + (i + N) % (2 * N) for i in range(2 * N)]
    losses = [literal(layer.flatten(0, 1), keys, positive, own) for layer in rows]
    isd = sum(losses[:-1]) / (len(losses) - 1) if method == "sd_simclr" else 0.0
    assert float(terms.ssl) == pytest.approx(losses[-1], rel=1e-6)
    assert float(terms.isd) == pytest.approx(isd, rel=1e-6)
    assert terms.total.item() == pytest.approx(losses[-1] + ALPHA * isd, rel=1e-6)


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_keys_travel_once_a_step_and_positives_stand_behind_those_of_earlier_processes(
    slices: int, gathered: list[Tensor]
) -> None:
    model, views = model_and_views("sd_mocov3")
    with torch.no_grad():
        keys = model.teacher_keys(views[0], views[1])
        wanted = [*model.layers, model.depth]
        tokens = both_views(model.student, views[0], views[1], layers=wanted)
        queries = [model._predict(view, ALPHA, 1.0) for view in tokens]
    options: dict[str, Any] = {"alpha": ALPHA, "beta": 1.0, "slices": slices}
    terms = backward(Accelerator(cpu=True), model, views[0], view2=views[1], **options)
    assert len(gathered) == 1
    theirs = gathered[0].unbind(1)
    layers = [
        sum(
            2 * TAU * literal(q[layer], torch.cat([z, k]), list(range(N, 2 * N)), [None] * N)
            for q, z, k in zip(queries, (theirs[1], theirs[0]), (keys.view2, keys.view1))
        )
        for layer in range(len(queries[0]))
    ]
    assert float(terms.ssl) == pytest.approx(layers[-1], rel=1e-6)
    assert float(terms.isd) == pytest.approx(sum(layers[:-1]) / (len(layers) - 1), rel=1e-6)
    assert float(terms.pred) == pytest.approx(sum(layers), rel=1e-6)


def test_byols_targets_stay_in_their_process(gathered: list[Tensor]) -> None:
    model, views = model_and_views("sd_byol")
    backward(Accelerator(cpu=True), model, views[0], view2=views[1], alpha=1.0, beta=1.0, slices=2)
    assert gathered == []
