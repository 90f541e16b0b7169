"""The linear probe end to end on miniature data: protocols, choices, divergence, kill and resume."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from fakes import FakeEncoder
from mini_data import shared_mini
from sdssl_bench import api, datasets, tasks
from sdssl_bench.datasets.transforms import preprocess
from sdssl_bench.encoders.encoder import Encoder
from sdssl_bench.encoders.resnet import ResNetEncoder
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.features.extraction import extract
from sdssl_bench.probes.linear.heads import Heads
from sdssl_bench.probes.linear.sgd_probe import Trainer, Watched
from sdssl_bench.probes.linear.state import TrainingState
from sdssl_bench.probes.linear.sweep import GRID
from sdssl_bench.probes.logistic.choice import Probe
from sdssl_bench.probes.logistic.solver import Solution, Solver
from sdssl_bench.probes.val_split import validation_mask
from sdssl_bench.system.progress import Progress
from sdssl_bench.task import LayerScores, RunContext
from tiny_model import build

SHORT = {"epochs": "4", "batch": "64"}
CLIP = {"sweep": "clip"}
"""A third of the grid's values, where the sweep is not what is tested."""


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return RunContext(
        data_root=shared_mini(), cache_dir=tmp_path / "cache", device="cpu", num_workers=0
    )


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return api.as_encoder(build()).eval()


def run(
    encoder: Encoder,
    ctx: RunContext,
    protocol: str,
    changes: Mapping[str, str],
    *,
    layers: tuple[int, ...] = (1, 2, 3),
    dataset: str = "cifar10",
) -> list[LayerScores]:
    task = tasks.load("linear", protocol, changes)
    return list(task.run(encoder, task.load_data(dataset, ctx), layers, ctx))


def test_logreg_is_scikit_learns_choice_refit_and_score(encoder: Encoder, ctx: RunContext) -> None:
    """The whole protocol again, by scikit-learn's exact solver, value by value."""
    scores = run(encoder, ctx, "logreg", {"tolerance": "1e-7"}, layers=(2,))[0]
    data = datasets.load("cifar10", data_root=ctx.data_root)
    banks = [
        extract(encoder, split, [2], preprocess=preprocess("E", 32), ctx=ctx)
        for split in (data.train, data.test)
    ]
    x, x_test = (np.asarray(bank.features(2), np.float64) for bank in banks)
    y, y_test = banks[0].targets, banks[1].targets
    val = validation_mask(data.train, banks[0].indices)
    accuracies = {}
    for c in GRID[8:33:4]:
        model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-8).fit(x[~val], y[~val])
        accuracies[c] = model.score(x[val], y[val])
    curve = scores.notes["val_curve"]
    for c, accuracy in accuracies.items():
        found = curve["top1"][curve["C"].index(c)]
        assert found == pytest.approx(accuracy, abs=1.01 / val.sum()), "at most one image apart"
    chosen = scores.notes["C"]
    assert curve["top1"][curve["C"].index(chosen)] == max(curve["top1"])
    assert scores.metrics["val/top1"] == max(curve["top1"])
    final = LogisticRegression(C=chosen, solver="newton-cholesky", tol=1e-8).fit(x, y)
    logits = x @ final.coef_.T + final.intercept_
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    optimum = losses.mean() + 0.5 / (chosen * len(y)) * (final.coef_**2).sum()
    assert scores.notes["objective"] == pytest.approx(optimum, abs=1e-5)
    right = final.predict(x_test) == y_test
    assert np.count_nonzero(right != scores.items["correct"]) <= 1
    assert scores.metrics["top1"] == scores.items["correct"].mean()


def test_all_layers_together_equal_one_by_one(encoder: Encoder, ctx: RunContext) -> None:
    for protocol, changes in (("logreg", CLIP), ("mocov3", SHORT)):
        joint = run(encoder, ctx, protocol, changes)
        for scores in joint:
            (alone,) = run(encoder, ctx, protocol, changes, layers=(scores.layer,))
            for name, value in scores.metrics.items():
                # One image of the 100: sums of other shapes round differently.
                assert value == pytest.approx(alone.metrics[name], abs=0.0101), (protocol, name)


@pytest.mark.parametrize("sweep", ["grid", "clip"])
def test_each_layer_has_its_own_choice_of_the_sweep(
    encoder: Encoder, ctx: RunContext, sweep: str
) -> None:
    for scores in run(encoder, ctx, "logreg", {"sweep": sweep}, dataset="flowers"):
        curve = scores.notes["val_curve"]
        assert len(curve["C"]) == 45 if sweep == "grid" else 11 <= len(curve["C"]) <= 15
        assert scores.notes["C"] in curve["C"]
        assert {"top1", "top5", "mean_per_class", "val/mean_per_class"} == set(scores.metrics)


@pytest.mark.parametrize("dataset", ["flowers", "aircraft"])
def test_predefined_validation_images_are_used(
    encoder: Encoder, ctx: RunContext, dataset: str
) -> None:
    data = datasets.load(dataset, data_root=ctx.data_root)
    assert data.train.predefined_val is not None
    (scores,) = run(encoder, ctx, "logreg", CLIP, layers=(3,), dataset=dataset)
    assert scores.notes["images"]["val"] == len(data.train.predefined_val)


def test_test_images_decide_nothing_where_validation_chooses(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other test labels the choices, heads and curves are the same."""
    grid = {**SHORT, "lr": "0.01,0.1,1", "features": "cls,cls+mean"}
    load = datasets.load
    for protocol, changes in (("logreg", CLIP), ("mocov3", grid)):
        before = run(encoder, ctx, protocol, changes, layers=(2,))[0]

        def shuffled(*args: Any, **kwargs: Any) -> Any:
            data = load(*args, **kwargs)
            test = replace(data.test, targets=np.roll(data.test.targets, 37), fingerprint="f" * 64)
            return replace(data, test=test)

        with monkeypatch.context() as patch:
            patch.setattr("sdssl_bench.datasets.load", shuffled)
            after = run(encoder, ctx, protocol, changes, layers=(2,))[0]
        assert before.notes == after.notes
        assert before.metrics["top1"] != after.metrics["top1"]


def test_test_is_read_once_where_validation_chooses(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[tuple[str, int]] = []
    watched, ranks = Watched.grade, Probe.ranks

    def graded(self: Watched, heads: Heads) -> Any:
        readings.append(("sgd", len(self.rows)))
        return watched(self, heads)

    def ranked(self: Probe, inputs: Any, *rest: Any) -> Any:
        readings.append(("logreg", len(inputs)))
        return ranks(self, inputs, *rest)

    monkeypatch.setattr(Watched, "grade", graded)
    monkeypatch.setattr(Probe, "ranks", ranked)
    run(encoder, ctx, "mocov3", {**SHORT, "lr": "0.01,0.1"})
    assert readings == [("sgd", 40)] * 4 + [("sgd", 100)], "validation each epoch, then test"
    readings.clear()
    run(encoder, ctx, "logreg", {})
    assert readings == [("logreg", 40)] * 3 * 45 + [("logreg", 100)] * 3


def test_the_last_epoch_is_the_headline_and_the_best_beside_it(
    encoder: Encoder, ctx: RunContext
) -> None:
    for scores in run(encoder, ctx, "mocov3", SHORT):
        curve = scores.notes["curve"]
        assert len(curve["train_loss"]) == len(curve["test/top1"]) == 4
        assert scores.metrics["top1"] == pytest.approx(curve["test/top1"][-1])
        assert scores.metrics["best_epoch_on_test/top1"] == max(curve["test/top1"])
        assert scores.notes["lr"] == 3.0 * 64 / 256
        assert scores.notes["train_images"] == 200


@pytest.mark.parametrize(
    ("protocol", "falls"),
    [("mocov3", [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]), ("code", [i / 4 for i in range(12)])],
)
def test_the_rate_falls_by_a_cosine_to_zero_per_epoch_or_per_step(
    encoder: Encoder,
    ctx: RunContext,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    falls: list[float],
) -> None:
    """200 images in steps of 64, three epochs; the cosine would reach 0 at epoch 3."""
    factors: list[float] = []
    step = Heads.step

    def recorded(self: Heads, inputs: Any, targets: Any, factor: float) -> Any:
        factors.append(factor)
        return step(self, inputs, targets, factor)

    monkeypatch.setattr(Heads, "step", recorded)
    run(encoder, ctx, protocol, {"epochs": "3", "batch": "64"}, layers=(1,))
    assert factors == pytest.approx([(1 + math.cos(math.pi * at / 3)) / 2 for at in falls])


def test_a_grid_is_chosen_on_validation_and_names_every_head(
    encoder: Encoder, ctx: RunContext
) -> None:
    changes = {**SHORT, "lr": "0.001,0.1,1", "features": "cls,last2"}
    for scores in run(encoder, ctx, "mocov3", changes):
        heads = scores.notes["val_of_heads"]
        assert len(heads) == 6
        chosen = next(
            h for h in heads if (h["lr"], h["features"]) == tuple(scores.notes[k] for k in ("lr", "features"))
        )  # fmt: skip
        assert chosen["val"] == max(h["val"] for h in heads) == scores.metrics["val/top1"]
        assert not any("best_epoch_on_test" in name for name in scores.metrics)
        assert scores.notes["train_images"] == 160


def test_a_head_that_diverges_is_reported_and_the_others_stand(
    encoder: Encoder, ctx: RunContext
) -> None:
    with_bad = run(encoder, ctx, "mocov3", {**SHORT, "lr": "0.1,1e38"})
    for scores in with_bad:
        assert [head["lr"] for head in scores.notes["diverged_heads"]] == [1e38 * 64 / 256]
        assert scores.notes["lr"] == 0.1 * 64 / 256
        json.dumps(scores.notes, allow_nan=False)


def test_a_layer_whose_only_head_diverges_is_an_error_after_the_others(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Heads.step

    def poisoned(self: Heads, inputs: Any, *rest: Any) -> torch.Tensor:
        return step(self, [inputs[0], inputs[1] * torch.inf, inputs[2]], *rest)

    monkeypatch.setattr(Heads, "step", poisoned)
    task = tasks.load("linear", "mocov3", SHORT)
    found: list[int] = []
    scored = task.run(encoder, task.load_data("cifar10", ctx), (1, 2, 3), ctx)
    with pytest.raises(TaskError, match="layer 2 at step 0"):
        found.extend(scores.layer for scores in scored)
    assert found == [1, 3]


@pytest.mark.parametrize("changes", [SHORT, {**SHORT, "lr": "0.1,1"}])
def test_a_killed_training_goes_on_and_ends_the_same(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    whole = run(encoder, replace(ctx, cache_dir=ctx.cache_dir / "other"), "mocov3", changes)
    monkeypatch.setattr("sdssl_bench.probes.linear.state.SAVE_SECONDS", 0.0)
    epoch, seen = Trainer.epoch, []

    def dies(self: Trainer, number: int) -> torch.Tensor:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(number)
        return epoch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            run(encoder, ctx, "mocov3", changes)
    assert len(list((ctx.cache_dir / "training").glob("*.pt"))) == 1

    def counts(self: Trainer, number: int) -> torch.Tensor:
        seen.append(number)
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "epoch", counts)
    again = run(encoder, ctx, "mocov3", changes)
    assert seen == [0, 1, 2, 3], "no epoch twice"
    for one, other in zip(whole, again, strict=True):
        assert one.metrics == other.metrics
        assert one.notes == other.notes
    assert not list((ctx.cache_dir / "training").glob("*.pt"))


def test_epochs_tell_where_they_are(encoder: Encoder, ctx: RunContext) -> None:
    said = io.StringIO()
    ctx = replace(ctx, progress=Progress(stream=said))
    scores = run(
        encoder, ctx, "mocov3", {**SHORT, "lr": "0.1,1", "features": "cls,mean"}, layers=(2,)
    )
    curve = max(head["val"] for head in scores[0].notes["val_of_heads"])
    lines = [line for line in said.getvalue().splitlines() if "val top1 by layer 2: " in line]
    assert [line.split(":")[0] for line in lines] == [f"epoch {n} of 4" for n in range(1, 5)]
    values = [float(part.split(": ")[1]) for part in lines[-1].split("layer ")[1].split("  ")]
    assert max(values) == pytest.approx(100 * curve, abs=0.051)
    assert "  2 mean: " in lines[-1]


def test_a_damaged_saved_training_is_named(tmp_path: Path) -> None:
    state = TrainingState(tmp_path, "linear-cifar10", {"seed": 0})
    assert state.load() is None
    state.save({"epochs": 3})
    assert state.load() == {"epochs": 3}
    state.path.write_bytes(state.path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{state.path.name}.*Delete it"):
        state.load()


def test_rates_and_inputs_follow_the_encoder(encoder: Encoder) -> None:
    dino, v2 = (tasks.load("linear", name) for name in ("dino", "dinov2"))
    mocov3: Any = tasks.load("linear")
    assert mocov3.rates(encoder) == (12.0,)
    assert mocov3.rates(ResNetEncoder.__new__(ResNetEncoder)) == pytest.approx((0.4,))
    assert dino.kinds(encoder) == ("last4",)  # type: ignore[attr-defined]
    for width, kind in ((384, "last4"), (385, "cls+mean"), (768, "cls+mean")):
        wide = FakeEncoder()
        wide.dims = (width,) * 3
        assert dino.kinds(wide) == (kind,)  # type: ignore[attr-defined]
    assert len(v2.lr) * len(v2.kinds(encoder)) == 52, "DINOv2's grid"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("protocol", "changes", "says"),
    [
        ("mocov3", {"features": "gem"}, "--features"),
        ("logreg", {"features": "cls,mean"}, "one input"),
        ("mocov3", {"features": "cls,cls"}, "once"),
        ("mocov3", {"schedule": "epochs"}, "Did you mean 'epoch'"),
        ("mocov3", {"lr": "0.1,-1"}, "positive"),
        ("logreg", {"sweep": "grd"}, "Did you mean 'grid'"),
        ("logreg", {"val_fraction": "1"}, "val_fraction"),
        ("mocov3", {"transform": "Z"}, "preprocessing"),
    ],
)
def test_a_mistake_is_explained(protocol: str, changes: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        tasks.load("linear", protocol, changes)


def test_a_penalty_that_is_not_solved_cannot_be_chosen_and_is_named(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(encoder, ctx, "logreg", CLIP)
    unsolved = before[1].notes["C"]
    solve = Solver.solve

    def fails(self: Solver, layers: Any, penalties: Any, **named: Any) -> Solution:
        found = solve(self, layers, penalties, **named)
        fits = len(self.loss._targets) == before[1].notes["images"]["fit"]
        bad = [
            fits and n == 1 and bool(np.isclose(p * 160 * unsolved, 1))
            for n, p in zip(layers, penalties)
        ]
        found.converged[torch.tensor(bad)] = False
        found.gap[torch.tensor(bad)] = torch.inf
        return found

    monkeypatch.setattr(Solver, "solve", fails)
    after = run(encoder, ctx, "logreg", CLIP)
    for place in (0, 2):
        assert after[place].metrics == before[place].metrics
        assert "not_converged" not in after[place].notes
    notes = after[1].notes
    assert notes["not_converged"] == [{"C": unsolved, "gap": None}]
    assert unsolved not in notes["val_curve"]["C"]
    assert notes["C"] != unsolved
    json.dumps(notes, allow_nan=False)


@pytest.mark.parametrize("sweep", ["grid", "clip"])
@pytest.mark.parametrize("when", ["refit", "always"])
def test_a_layer_that_is_not_solved_is_an_error_after_the_others(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch, sweep: str, when: str
) -> None:
    solve = Solver.solve

    def fails(self: Solver, layers: Any, penalties: Any, **named: Any) -> Solution:
        found = solve(self, layers, penalties, **named)
        if when == "always" or len(self.loss._targets) == 200:
            found.converged[torch.tensor([layer == 1 for layer in layers])] = False
        return found

    monkeypatch.setattr(Solver, "solve", fails)
    task = tasks.load("linear", "logreg", {"sweep": sweep})
    found: list[int] = []
    scored = task.run(encoder, task.load_data("cifar10", ctx), (1, 2, 3), ctx)
    with pytest.raises(TaskError, match="layer 2 is not within"):
        found.extend(scores.layer for scores in scored)
    assert found == [1, 3]
