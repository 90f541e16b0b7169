"""Losses, schedules, LARS and positions: golden vectors, and Eq. 1 to 6 written out in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pretrain_fixtures import tiny
from sdssl_bench.encoders.building import build_vit
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.pretrain.objective import schedules
from sdssl_bench.pretrain.objective.assembly import build_optimizer
from sdssl_bench.pretrain.objective.lars import LARS
from sdssl_bench.pretrain.objective.losses import byol_loss, info_nce, simclr_loss

ALL = json.loads((Path(__file__).parents[1] / "golden" / "pretrain.json").read_text())
GOLDEN = ALL["sd_losses"]
L, N, TAU, ALPHA, BETA = 3, 4, 0.2, 0.5, 1.0
Array = NDArray[np.float64]


def g(rows: int, columns: int, a: float, b: float, c: float) -> Array:
    """The golden file's generator."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return np.asarray(np.sin(a * i + b * j + c * i * j))


Q1 = g(12, 5, 0.71, 1.31, 0.11).reshape(L, N, 5)
Q2 = g(12, 5, 0.67, 1.13, 0.17).reshape(L, N, 5)
Z1 = g(4, 5, 0.53, 0.97, 0.29)
Z2 = g(4, 5, 0.59, 0.89, 0.31)


def cosine(x: Array, y: Array) -> float:
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def literal_byol(q: Array, z: Array) -> float:
    """Eq. 1."""
    total = 0.0
    for i in range(len(q)):
        unit_q, unit_z = q[i] / np.linalg.norm(q[i]), z[i] / np.linalg.norm(z[i])
        total += float(((unit_q - unit_z) ** 2).sum())
    return total / len(q)


def literal_ctr(q: Array, z: Array) -> float:
    """Eq. 2 with the factor of Algorithm 1."""
    total = 0.0
    for i in range(len(q)):
        scores = [np.exp(cosine(q[i], z[j]) / TAU) for j in range(len(z))]
        total -= np.log(scores[i] / sum(scores))
    return 2 * TAU * total / len(q)


def literal_simclr(rows: Array, keys: Array) -> float:
    """Eq. 2 among 2N views: row i's positive is i + N or i - N, its own view is left out."""
    total, two_n = 0.0, len(rows)
    for i in range(two_n):
        scores = {j: np.exp(cosine(rows[i], keys[j]) / TAU) for j in range(two_n) if j != i}
        total -= np.log(scores[(i + two_n // 2) % two_n] / sum(scores.values()))
    return total / two_n


def literal_terms(method: str) -> dict[str, float]:
    """Eq. 3 to 6 for identity predictors."""
    if method == "sd_simclr":
        rows = np.concatenate([Q1, Q2], axis=1)
        layers = [literal_simclr(rows[layer], rows[-1]) for layer in range(L)]
        isd = sum(layers[:-1]) / (L - 1)
        return {"out": layers[-1], "isd": isd, "total": layers[-1] + ALPHA * isd}
    loss = literal_ctr if method == "sd_moco" else literal_byol
    layers = [loss(Q1[layer], Z2) + loss(Q2[layer], Z1) for layer in range(L)]
    isd, pred = sum(layers[:-1]) / (L - 1), sum(layers)
    return {
        "out": layers[-1],
        "isd": isd,
        "pred_mean": pred / L,
        "total": layers[-1] + ALPHA * isd + BETA * pred,
    }


def tensors(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.from_numpy(x).to(dtype) for x in (Q1, Q2, Z1, Z2)]


def computed_layers(method: str, dtype: torch.dtype = torch.float64) -> Tensor:
    q1, q2, z1, z2 = tensors(dtype)
    if method == "sd_moco":
        options = {"temperature": TAU, "two_tau": True}
        return info_nce(q1, z2, **options) + info_nce(q2, z1, **options)
    if method == "sd_byol":
        return byol_loss(q1, z2) + byol_loss(q2, z1)
    rows = torch.cat([q1, q2], dim=1)
    own = torch.arange(2 * N)
    return simclr_loss(
        rows, rows[-1], temperature=TAU, two_tau=False, same_view=own, positive=own.roll(N)
    )


@pytest.mark.parametrize("method", ["sd_moco", "sd_byol", "sd_simclr"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_losses_are_the_golden_ones_and_the_written_out_equations(
    method: str, dtype: torch.dtype
) -> None:
    layers = computed_layers(method, dtype)
    literal = literal_terms(method)
    found = {"out": float(layers[-1]), "isd": float(layers[:-1].mean())}
    found["total"] = found["out"] + ALPHA * found["isd"]
    if method != "sd_simclr":
        found["pred_mean"] = float(layers.mean())
        found["total"] += BETA * float(layers.sum())
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    assert found.keys() == literal.keys()
    for name, value in found.items():
        assert value == pytest.approx(literal[name], rel=tolerance)
        assert value == pytest.approx(GOLDEN[method][name], abs=2e-6)


def test_the_two_tau_factor_scales_and_nothing_else() -> None:
    q1, _, _, z2 = tensors()
    plain = info_nce(q1, z2, temperature=TAU, two_tau=False)
    assert torch.allclose(2 * TAU * plain, info_nce(q1, z2, temperature=TAU, two_tau=True))
    own = torch.arange(N)
    alone, scaled = (
        simclr_loss(
            q1, q1[-1], temperature=TAU, two_tau=two_tau, same_view=own, positive=own.roll(N // 2)
        )
        for two_tau in (False, True)
    )
    assert torch.allclose(2 * TAU * alone, scaled)


def test_half_precision_embeddings_are_compared_in_float32() -> None:
    q1, _, _, z2 = (x.bfloat16() for x in tensors())
    loss = info_nce(q1, z2, temperature=TAU, two_tau=True)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, info_nce(q1.float(), z2.float(), temperature=TAU, two_tau=True))


def test_targets_of_byol_and_info_nce_get_no_gradient() -> None:
    q1, _, _, z2 = tensors()
    q1.requires_grad_()
    z2.requires_grad_()
    loss = byol_loss(q1, z2).sum() + info_nce(q1, z2, temperature=TAU, two_tau=True).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert q1.grad is not None
    assert z2.grad is None


def test_queries_in_slices_with_an_offset_average_to_the_whole() -> None:
    q1, _, _, z2 = tensors()
    whole = info_nce(q1, z2, temperature=TAU, two_tau=True)
    parts = [
        info_nce(q1[:, i : i + 2], z2, temperature=TAU, two_tau=True, offset=i) for i in (0, 2)
    ]
    assert torch.allclose(whole, torch.stack(parts).mean(0))


def test_schedules_of_the_authors_match_by_iteration() -> None:
    golden = ALL["schedules"]["sdssl"]
    total = golden["epochs"] * golden["iters_per_epoch"]
    warmup = 40 * golden["iters_per_epoch"]
    peak = 1.5e-4 * golden["batch"] / 256
    for key, expected in golden["expected_by_iteration"].items():
        step = int(key)
        lr = schedules.learning_rate(step, total, peak=peak, warmup=warmup, rule="linspace")
        assert lr == pytest.approx(expected["lr"], rel=1e-7)
        assert schedules.alpha(step, total, final=1.0) == pytest.approx(expected["alpha"], rel=1e-7)
        momentum = schedules.ema_momentum(step, total, start=0.996)
        assert momentum == pytest.approx(expected["ema"], abs=1e-9)


def test_schedules_of_moco_v3_match_by_fractional_epoch() -> None:
    golden = ALL["schedules"]["moco_v3"]
    per_epoch = 10
    total = golden["epochs"] * per_epoch
    for key, expected in golden["expected_by_fractional_epoch"].items():
        step = round(float(key) * per_epoch)
        lr = schedules.learning_rate(
            step, total, peak=golden["peak_lr"], warmup=golden["warmup"] * per_epoch
        )
        assert lr == pytest.approx(expected["lr"], rel=1e-7)
        momentum = schedules.ema_momentum(step, total, start=golden["m0"])
        assert momentum == pytest.approx(expected["m"], abs=1e-9)


def test_constant_alpha_is_constant_and_no_warmup_starts_at_the_peak() -> None:
    assert {schedules.alpha(i, 9, final=0.6, schedule="const") for i in range(9)} == {0.6}
    for rule in schedules.WARMUPS:
        assert schedules.learning_rate(0, 9, peak=0.1, warmup=0, rule=rule) == 0.1


def test_lars_matches_moco_v3() -> None:
    golden = ALL["lars"]
    weight = nn.Parameter(torch.tensor(golden["w0"]))
    bias = nn.Parameter(torch.tensor(golden["b0"]))
    optimizer = LARS(
        [weight, bias],
        lr=golden["lr"],
        weight_decay=golden["weight_decay"],
        momentum=golden["momentum"],
        trust=golden["trust"],
    )
    for _ in range(golden["steps"]):
        weight.grad = torch.tensor(golden["grad_w"])
        bias.grad = torch.tensor(golden["grad_b"])
        optimizer.step()
    assert torch.allclose(weight.data, torch.tensor(golden["expected"]["w"]), atol=1e-6, rtol=0)
    assert torch.allclose(bias.data, torch.tensor(golden["expected"]["b"]), atol=1e-6, rtol=0)


def test_the_optimizers_of_a_run_move_a_bias_as_their_papers_say() -> None:
    """A momentum of 0.9 unscaled by LARS; Adam's means with 0.9 and 0.999, corrected for their start."""
    for name in ("lars", "adamw"):
        bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        model = nn.Module()
        model.register_parameter("bias", bias)
        optimizer = build_optimizer(model, tiny(optimizer=name, weight_decay=0.0))
        rate, gradients = 0.25, torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0], [0.5, 0.5, 2.0]])
        gradients = gradients.double()
        expected, first, second = torch.zeros(3).double(), torch.zeros(3), torch.zeros(3)
        for step, gradient in enumerate(gradients, start=1):
            for group in optimizer.param_groups:
                group["lr"] = rate
            bias.grad = gradient.clone()
            optimizer.step()
            if name == "lars":
                first = 0.9 * first + gradient
                expected = expected - rate * first
            else:
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient**2
                scale = (second / (1 - 0.999**step)).sqrt() + 1e-8
                expected = expected - rate * first / (1 - 0.9**step) / scale
            torch.testing.assert_close(bias.data, expected, rtol=1e-9, atol=1e-9)


def test_the_lars_of_a_run_has_moco_v3s_trust() -> None:
    """A weight moves by trust |w| at the first step, whatever the length of its gradient."""
    weight = nn.Parameter(torch.full((2, 2), 3.0))
    model = nn.Module()
    model.register_parameter("weight", weight)
    optimizer = build_optimizer(model, tiny(optimizer="lars", weight_decay=0.0))
    optimizer.param_groups[0]["lr"] = 2.0
    weight.grad = torch.full((2, 2), 17.0)
    optimizer.step()
    moved = 2.0 * ALL["lars"]["trust"] * 6.0
    assert float((3.0 - weight.data).norm()) == pytest.approx(moved, rel=1e-4)


def test_lars_leaves_an_update_unscaled_where_weight_or_update_is_zero() -> None:
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.full((2, 2), 3.0), torch.zeros(2, 2)
    LARS([zero, still], lr=0.1).step()
    assert torch.allclose(zero.data, torch.full((2, 2), -0.3))
    assert torch.equal(still.data, torch.ones(2, 2))


def test_lars_treats_stacked_weights_as_separate_layers() -> None:
    torch.manual_seed(0)
    values, gradients = torch.randn(3, 4, 5), torch.randn(2, 3, 4, 5)
    values[1] *= 10
    stacked = nn.Parameter(values.clone())
    single = [nn.Parameter(v.clone()) for v in values]
    together = LARS([{"params": [stacked], "stacked": True}], lr=0.5, weight_decay=0.1)
    apart = LARS(single, lr=0.5, weight_decay=0.1)
    for gradient in gradients:
        stacked.grad = gradient.clone()
        for weight, part in zip(single, gradient, strict=True):
            weight.grad = part.clone()
        together.step()
        apart.step()
    assert torch.allclose(stacked.data, torch.stack([w.data for w in single]), atol=1e-7)


def test_positions_of_a_pretrained_vit_are_moco_v3s_row_first_ones() -> None:
    golden = ALL["sincos_pos_embed"]
    rows, dim = golden["grid"][0], golden["dim"]
    config = ViTConfig(dim, depth=1, heads=2, patch_size=4, img_size=4 * rows, pos="sincos-row")
    model = build_vit(config).model
    patches = model.pos_embed.detach()[0, -rows * rows :]
    assert not model.pos_embed.requires_grad
    for token in (1, 3):
        expected = torch.tensor(golden["moco_v3"][f"token_{token}"])
        assert torch.allclose(patches[token], expected, atol=1e-5)
