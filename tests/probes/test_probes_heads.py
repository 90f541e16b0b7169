"""Heads trained together are the heads trained alone, whatever happens to their neighbours."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sdssl_bench.probes.linear.heads import Heads
from sdssl_bench.probes.linear.schedules import cosine

RATES = (0.01, 0.3, 2.0)
WIDTHS = (6, 9, 6)
CLASSES, BATCH, STEPS = 4, 16, 12


def batch(step: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = [torch.randn(BATCH, width, generator=generator) for width in WIDTHS]
    return inputs, torch.randint(CLASSES, (BATCH,), generator=generator)


def joint(**settings: object) -> Heads:
    return Heads(WIDTHS, RATES, num_classes=CLASSES, seeds=[(0, i) for i in range(3)], **settings)


def alone(index: int, rate: float, init: str, *, batch_norm: bool) -> tuple[nn.Module, list[float]]:
    """torch's own Linear, SGD and BatchNorm1d on one input at one rate: the definition."""
    single = Heads([WIDTHS[index]], [rate], num_classes=CLASSES, seeds=[(0, index)], init=init)
    start = single.state()["groups"][0]["weights"][0]
    linear = nn.Linear(WIDTHS[index], CLASSES)
    with torch.no_grad():
        linear.weight.copy_(start[:-1].T)
        linear.bias.copy_(start[-1])
    norm = nn.BatchNorm1d(WIDTHS[index], eps=1e-6, affine=False) if batch_norm else nn.Identity()
    model = nn.Sequential(norm, linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    losses = []
    for step in range(STEPS):
        inputs, targets = batch(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(step, STEPS)
        loss = nn.functional.cross_entropy(model(inputs[index]), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("init", ["normal", "linear"])
def test_every_head_equals_the_head_trained_alone_by_torch(init: str, batch_norm: bool) -> None:
    heads = joint(init=init, batch_norm=batch_norm)
    losses = torch.stack([heads.step(*batch(s), cosine(s, STEPS)) for s in range(STEPS)])
    inputs, _ = batch(99)
    together = heads.logits(inputs)
    for index in range(3):
        for place, rate in enumerate(RATES):
            model, curve = alone(index, rate, init, batch_norm=batch_norm)
            np.testing.assert_allclose(losses[:, index, place], curve, rtol=1e-4, atol=1e-5)
            with torch.no_grad():
                expected = model(inputs[index])
            torch.testing.assert_close(together[index][place], expected, rtol=1e-3, atol=1e-4)


def test_features_as_small_as_the_batch_norms_eps_are_normed_as_by_torch() -> None:
    """Variances around 1e-6, and a channel that is constant: what is added to them decides."""
    heads = Heads([5], [0.5], num_classes=3, seeds=[(0,)], batch_norm=True)
    norm = nn.BatchNorm1d(5, eps=1e-6, affine=False)
    weights = heads.state()["groups"][0]["weights"][0]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator) * torch.tensor([1e-3, 5e-4, 2e-3, 0.0, 1.0])
    targets = torch.randint(3, (40,), generator=generator)
    loss = nn.functional.cross_entropy(norm(x) @ weights[:-1] + weights[-1], targets)
    found = heads.step([x], targets, 0.0)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    expected = norm.eval()(x) @ weights[:-1] + weights[-1]
    torch.testing.assert_close(heads.logits([x])[0][0], expected, rtol=1e-4, atol=1e-5)


def test_a_diverging_head_is_reported_and_changes_no_other() -> None:
    def train(rates: tuple[float, ...]) -> Heads:
        heads = Heads(WIDTHS, rates, num_classes=CLASSES, seeds=[(0, i) for i in range(3)])
        for step in range(STEPS):
            inputs, targets = batch(step)
            if step == 5:
                inputs[1][0, 0] = torch.inf
            heads.step(inputs, targets, 1.0)
        return heads

    with_bad, without = train((0.1, 1e38)), train((0.1,))
    assert with_bad.diverged[0, 0] == -1
    assert with_bad.diverged[0, 1] > 0, "an absurd rate diverges"
    assert with_bad.diverged[1].tolist() != [-1, -1], "and so does an input that is not finite"
    assert with_bad.diverged[1, 0] == 5
    inputs, _ = batch(99)
    for index in (0, 2):
        torch.testing.assert_close(
            with_bad.logits(inputs)[index][0], without.logits(inputs)[index][0], rtol=0, atol=0
        )


def test_weights_that_overflow_in_the_last_step_are_reported() -> None:
    heads = Heads([3], [1e38], num_classes=2, seeds=[(0,)])
    heads.step([torch.full((2, 3), 1e10)], torch.tensor([0, 1]), 1.0)
    assert not torch.isfinite(heads.logits([torch.ones(1, 3)])[0]).all() or heads.diverged[0, 0] < 0
    heads.check()
    assert heads.diverged[0, 0] >= 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_saved_state_goes_on_bit_for_bit(batch_norm: bool) -> None:
    whole, first, second = (joint(batch_norm=batch_norm) for _ in range(3))
    for step in range(STEPS):
        whole.step(*batch(step), cosine(step, STEPS))
        (first if step < 5 else second).step(*batch(step), cosine(step, STEPS))
        if step == 4:
            second.load(first.state())
    inputs, _ = batch(99)
    for one, other in zip(whole.logits(inputs), second.logits(inputs), strict=True):
        assert torch.equal(one, other)


def test_heads_of_one_input_start_equal_and_inputs_differ() -> None:
    logits = joint().logits(batch(0)[0])
    assert torch.equal(logits[0][0], logits[0][1])
    assert not torch.equal(logits[0][0], logits[2][0])
