"""Fine-tuning end to end on miniature data: the recipe, who chooses, kill and resume."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mini_data import shared_mini
from sdssl_bench import api, tasks
from sdssl_bench.encoders.building import build as build_backbone
from sdssl_bench.encoders.building import build_vit
from sdssl_bench.encoders.encoder import Encoder
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.errors import TaskError, UsageError
from sdssl_bench.probes.finetuning.mixing import Mixing
from sdssl_bench.probes.finetuning.recipe import Tuning
from sdssl_bench.probes.finetuning.tunable import Tunable, level_of, parameter_groups
from sdssl_bench.probes.scores import Graded
from sdssl_bench.rounding import percent
from sdssl_bench.system.progress import Progress
from sdssl_bench.task import LayerScores, RunContext
from tiny_model import build

SHORT = {"epochs": "4", "warmup": "1", "batch": "50", "lr": "0.005"}


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return RunContext(
        data_root=shared_mini(), cache_dir=tmp_path / "cache", device="cpu", num_workers=0
    )


@pytest.fixture
def encoder() -> Encoder:
    return api.as_encoder(build()).eval()


def run(
    encoder: Encoder,
    ctx: RunContext,
    changes: Mapping[str, str] = SHORT,
    *,
    protocol: str = "mocov3",
    layers: tuple[int, ...] = (3,),
    dataset: str = "cifar10",
) -> list[LayerScores]:
    task = tasks.load("finetune", protocol, changes)
    return list(task.run(encoder, task.load_data(dataset, ctx), layers, ctx))


def test_the_epoch_is_chosen_on_validation_and_test_is_read_once(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = []
    grade = Tuning.grade

    def counted(self: Tuning, images: Any, *rest: Any, **named: Any) -> Any:
        readings.append(images.split)
        return grade(self, images, *rest, **named)

    monkeypatch.setattr(Tuning, "grade", counted)
    (scores,) = run(encoder, ctx)
    assert readings == ["train"] * 4 + ["test"]
    curve = scores.notes["curve"]
    assert scores.notes["epoch"] == 1 + int(np.argmax(curve["val/top1"]))
    assert scores.metrics["val/top1"] == max(curve["val/top1"])
    assert scores.notes["images"] == {"fit": 180, "watched": 20}
    assert {"top1", "top5", "mean_per_class"} <= set(scores.metrics)
    assert scores.metrics["top1"] == scores.items["correct"].mean()
    assert scores.n == len(scores.items["correct"]) == 100


def test_epochs_tell_loss_and_validation(encoder: Encoder, ctx: RunContext) -> None:
    said = io.StringIO()
    (scores,) = run(encoder, replace(ctx, progress=Progress(stream=said)), layers=(2,))
    lines = [line for line in said.getvalue().splitlines() if ": loss " in line]
    curve = scores.notes["curve"]
    best = max(range(4), key=curve["val/top1"].__getitem__)
    assert len(lines) == 4
    assert lines[-1] == (
        f"layer 2, epoch 4 of 4: loss {curve['train_loss'][-1]:.3f}, val top1 "
        f"{percent(curve['val/top1'][-1])}, best {percent(curve['val/top1'][best])} in epoch {best + 1}"
    )


def test_the_papers_way_is_labelled_best_on_test(encoder: Encoder, ctx: RunContext) -> None:
    task = tasks.load("finetune", "paper", SHORT)
    data = task.load_data("cifar10", ctx)
    (scores,) = task.run(encoder, data, (3,), ctx)
    curve = scores.notes["curve"]
    assert task.headline(data) == "best_epoch_on_test/top1"
    assert scores.metrics["best_epoch_on_test/top1"] == max(curve["test/top1"])
    assert scores.metrics["top1"] == curve["test/top1"][-1]
    assert scores.metrics["best_epoch_on_test/top1"] == scores.items["correct"].mean()
    assert scores.notes["images"]["fit"] == 200
    assert scores.notes["epoch_chosen_on"] == "test"


@pytest.mark.parametrize(
    ("protocol", "headline", "epoch"),
    [
        ("mocov3", "mean_per_class", 3),
        ("paper", "best_epoch_on_test/top1", 2),
        ("code", "best_epoch_on_test/top1", 2),
    ],
)
def test_the_papers_epoch_is_the_best_by_top1_where_the_field_reports_per_class(
    encoder: Encoder,
    ctx: RunContext,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    headline: str,
    epoch: int,
) -> None:
    """Flowers, Pets and Aircraft: the authors' script keeps the best plain top-1."""
    readings = iter([(0.2, 0.1), (0.5, 0.2), (0.4, 0.6), (0.5, 0.3), (0.9, 0.8)])

    def next_reading(self: Graded) -> dict[str, float]:
        return dict(zip(("top1", "mean_per_class"), next(readings), strict=True))

    monkeypatch.setattr(Graded, "metrics", next_reading)
    task: Any = tasks.load("finetune", protocol, {**SHORT, "watch_every": "1"})
    data = task.load_data("flowers", ctx)
    assert task.headline(data) == headline
    assert task.resolve(encoder, data, ctx)["epoch_chosen_by"] == headline.rpartition("/")[2]
    (scores,) = task.run(encoder, data, (1,), ctx)
    assert scores.notes["epoch"] == epoch
    on_test = headline.rpartition("/")[0]
    assert {f"{on_test}/{name}".strip("/") for name in ("top1", "mean_per_class")} <= set(
        scores.metrics
    )


def test_a_tuned_layer_is_the_encoder_cut_there(encoder: Encoder) -> None:
    images = torch.randn(2, 3, 32, 32)
    for layer in (1, 3):
        model = Tunable(encoder, layer, num_classes=10, drop_path=0.0, seed=0).eval()
        assert model.backbone.depth == layer
        with torch.no_grad():
            cut = model.backbone(images)
            torch.testing.assert_close(cut, encoder.forward_layers(images, [layer])[layer].cls)


def test_every_layer_is_tuned_and_the_encoder_stays_as_it_is(
    encoder: Encoder, ctx: RunContext
) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    scores = run(encoder, ctx, {**SHORT, "epochs": "1"}, layers=(1, 3))
    assert [one.layer for one in scores] == [1, 3]
    assert scores[0].notes["trained_parameters"] < scores[1].notes["trained_parameters"]
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])
    assert not encoder.training


@pytest.mark.parametrize("protocol", ["mocov3", "paper"])
def test_a_killed_training_goes_on_and_ends_the_same(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    changes = {**SHORT, "drop_path": "0.2", "mixup": "0.8", "cutmix": "1"}
    other = replace(ctx, cache_dir=ctx.cache_dir / "other")
    (whole,) = run(encoder, other, changes, protocol=protocol)
    monkeypatch.setattr("sdssl_bench.probes.linear.state.SAVE_SECONDS", 0.0)
    epoch, seen = Tuning.epoch, []

    def dies(self: Tuning, number: int) -> float:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(number)
        return epoch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Tuning, "epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            run(encoder, ctx, changes, protocol=protocol)

    def counts(self: Tuning, number: int) -> float:
        seen.append(number)
        return epoch(self, number)

    monkeypatch.setattr(Tuning, "epoch", counts)
    (again,) = run(encoder, ctx, changes, protocol=protocol)
    assert seen == [0, 1, 2, 3], "no epoch twice"
    assert whole.metrics == again.metrics
    assert whole.notes == again.notes
    assert not list((ctx.cache_dir / "training").glob("*.pt"))


def test_pieces_of_a_batch_give_the_gradient_of_the_whole(
    encoder: Encoder, ctx: RunContext
) -> None:
    losses = [
        run(
            encoder,
            replace(ctx, cache_dir=ctx.cache_dir / str(size), batch_size=size),
            {**SHORT, "drop_path": "0"},  # which blocks are left out is drawn for each piece
        )[0]
        .notes["curve"]["train_loss"]
        for size in (50, 13)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_one_step_is_torchs_own(encoder: Encoder, ctx: RunContext) -> None:
    """Cross-entropy with label smoothing and AdamW, written out on the same images."""
    task: Any = tasks.load(
        "finetune", None, {**SHORT, "mixup": "0", "cutmix": "0", "drop_path": "0"}
    )
    data = task.load_data("cifar10", ctx)
    recipe = replace(task.recipe(encoder, data), batch=200)
    tuning = Tuning(encoder, 3, data.train, np.arange(200), recipe, ctx)
    model = Tunable(encoder, 3, num_classes=10, drop_path=0.0, seed=ctx.seed)
    from sdssl_bench.encoders.encoder import move
    from sdssl_bench.features.loading import load_batch
    from sdssl_bench.probes.augment import EpochImages, epoch_order

    order = epoch_order(np.arange(200), seed=0, epoch=0)
    source: Any = EpochImages(data.train, order, 0, 0)
    batch = load_batch(source, recipe.augmentation, np.arange(200))  # type: ignore[arg-type]
    assert batch.pixels is not None
    loss = torch.nn.functional.cross_entropy(
        model(move(batch.pixels, model.backbone)),
        torch.from_numpy(data.train.targets[order]),
        label_smoothing=0.1,
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    names = [n for n, _ in model.named_parameters()]
    assert any("pos_embed" in n for n in names)
    groups = parameter_groups(model, lr=1e-6, weight_decay=recipe.weight_decay, layer_decay=1.0)
    assert sum(len(g["params"]) for g in groups if g["weight_decay"]) == len(decayed) - 2
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    loss.backward()
    optimizer.step()
    assert tuning.epoch(0) == pytest.approx(loss.item(), rel=1e-4)
    for (name, ours), theirs in zip(
        tuning.model.named_parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-6, msg=name)
        if ours.requires_grad:  # AdamW hardly feels their scale
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(("batch", "sizes"), [(60, [60, 60, 60]), (300, [200])])
def test_the_last_smaller_batch_is_dropped_unless_it_is_the_only_one(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch, batch: int, sizes: list[int]
) -> None:
    seen: list[int] = []

    def counted(self: Tuning, batch: Any, targets: torch.Tensor, **named: Any) -> float:
        seen.append(len(targets))
        return 0.0

    monkeypatch.setattr(Tuning, "_step", counted)
    task: Any = tasks.load("finetune")
    data = task.load_data("cifar10", ctx)
    recipe = replace(task.recipe(encoder, data), batch=batch)
    Tuning(encoder, 1, data.train, np.arange(200), recipe, ctx).epoch(0)
    assert seen == sizes


def test_every_group_has_its_own_rate_of_the_schedule(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 3 of a warm-up from 1e-6 to the rate, each block below the head half of the one above."""
    monkeypatch.setattr(Tuning, "_step", lambda *_, **__: 0.0)
    task: Any = tasks.load("finetune", None, {"layer_decay": "0.5", "warmup": "4"})
    data = task.load_data("cifar10", ctx)
    tuning = Tuning(encoder, 3, data.train, np.arange(50), task.recipe(encoder, data), ctx)
    tuning.epoch(3)
    rate = 1e-6 + 2 * (6e-4 - 1e-6) / 4
    found = {group["lr"] for group in tuning._optimizer.param_groups}
    assert sorted(found) == pytest.approx([rate / 16, rate / 8, rate / 4, rate / 2, rate])


def test_a_resnet_is_tuned_without_stochastic_depth(ctx: RunContext) -> None:
    encoder = build_backbone("resnet18", img_size=32)
    task: Any = tasks.load("finetune")
    data = task.load_data("cifar10", ctx)
    assert task.constants("cifar10")["drop_path"] == 0.1
    assert task.recipe(encoder, data).drop_path == 0
    assert task.resolve(encoder, data, ctx)["drop_path"] == 0


def test_rates_fall_towards_the_input_when_asked(encoder: Encoder) -> None:
    model = Tunable(encoder, 3, num_classes=10, drop_path=0.0, seed=0)
    scale = {
        id(p): group["scale"]
        for group in parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.5)
        for p in group["params"]
    }
    by_name = {name: scale[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert by_name["head.weight"] == by_name["backbone.model.norm.weight"] == 1.0
    assert by_name["backbone.model.blocks.2.attn.qkv.weight"] == 0.5
    assert by_name["backbone.model.blocks.0.attn.qkv.weight"] == 0.125
    assert by_name["backbone.model.patch_embed.proj.weight"] == 0.0625
    assert level_of("backbone.model.layer4.0.conv1.weight", 4) == 4


def test_stochastic_depth_grows_with_depth_and_is_off_in_evaluation(encoder: Encoder) -> None:
    model = Tunable(encoder, 3, num_classes=10, drop_path=0.4, seed=0)
    blocks: Any = model.backbone.model.blocks  # type: ignore[union-attr]
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    with torch.no_grad():
        outputs = torch.stack([model(images) for _ in range(8)])
    assert float(outputs.std(0).max()) > 0


def test_the_frozen_patch_embedding_does_not_move(encoder: Encoder, ctx: RunContext) -> None:
    model = Tunable(encoder, 3, num_classes=10, drop_path=0.0, seed=0, freeze_patch_embed=True)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if "patch_embed" in n}


@pytest.mark.parametrize("protocol", ["mocov3", "code"])
def test_fixed_positions_head_and_depth_are_those_of_the_script(
    ctx: RunContext, protocol: str
) -> None:
    encoder = build_vit(ViTConfig(48, 3, 3, 8, 32, pos="sincos-row"))
    task: Any = tasks.load("finetune", protocol)
    data = task.load_data("cifar100", ctx)
    tuning = Tuning(encoder, 3, data.train, np.arange(10), task.recipe(encoder, data), ctx)
    backbone: Any = tuning.model.backbone
    drops = {type(block.drop_path1).__name__ for block in backbone.model.blocks[1:]}
    trained = {name for name, p in tuning.model.named_parameters() if p.requires_grad}
    decayed = {
        id(p)
        for group in parameter_groups(
            tuning.model,
            lr=1.0,
            weight_decay=0.3,
            layer_decay=1.0,
            decay_tokens=task.recipe(encoder, data).decay_tokens,
        )
        if group["weight_decay"]
        for p in group["params"]
    }
    weight, bias = tuning.model.head.weight.detach(), tuning.model.head.bias.detach()
    code = protocol == "code"
    assert drops == ({"Identity"} if code else {"DropPath"})
    assert ("backbone.model.pos_embed" in trained) == code
    assert ("backbone.model.patch_embed.proj.weight" in trained) == (not code)
    assert (id(backbone.model.pos_embed) in decayed) == (id(backbone.model.cls_token) in decayed)
    assert (id(backbone.model.cls_token) in decayed) == code
    assert id(backbone.model.blocks[0].norm1.weight) not in decayed
    if code:  # torch's default is uniform within 1 / sqrt(width), biases too
        assert float(weight.std()) == pytest.approx(48**-0.5 / 3**0.5, rel=0.05)
        assert float(weight.abs().max()) <= 48**-0.5 < float(weight.abs().max()) * 1.01
        assert 0 < float(bias.abs().max()) <= 48**-0.5
    else:
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
        assert not bias.any()


def test_the_authors_script_reads_test_every_ten_epochs(encoder: Encoder, ctx: RunContext) -> None:
    (scores,) = run(encoder, ctx, {**SHORT, "epochs": "12"}, protocol="code", layers=(1,))
    curve = scores.notes["curve"]
    assert curve["test/epoch"] == [10, 12], "and after the last"
    assert len(curve["test/top1"]) == 2
    assert len(curve["train_loss"]) == 12
    assert scores.notes["epoch"] == curve["test/epoch"][int(np.argmax(curve["test/top1"]))]
    assert scores.metrics["best_epoch_on_test/top1"] == max(curve["test/top1"])


def test_positions_are_trained_at_their_own_size_only(ctx: RunContext) -> None:
    config = ViTConfig(48, 3, 3, 8, 32, pos="sincos-row")
    with pytest.raises(UsageError, match="--img-size"):
        Tunable(
            build_vit(config, input_size=64), 3,
            num_classes=10, drop_path=0.0, seed=0, train_positions=True,
        )  # fmt: skip


def test_imagenet_has_a_recipe_of_its_own(encoder: Encoder, ctx: RunContext) -> None:
    """MoCo v3 fine-tunes there as DeiT trains; no recipe for transfer stands in for it."""
    for protocol in ("mocov3", "paper", "code"):
        task: Any = tasks.load("finetune", protocol)
        with pytest.raises(UsageError, match="--protocol imagenet"):
            task.resolve(encoder, task.load_data("imagenet", ctx), ctx)
    task = tasks.load(
        "finetune",
        "imagenet",
        {"epochs": "2", "batch": "32", "warmup": "0", "lr": "0.005", "erasing": "1"},
    )
    data = task.load_data("imagenet", ctx)
    (scores,) = task.run(encoder, data, (2,), ctx)
    assert task.headline(data) == "best_epoch_on_test/top1"
    assert task.resolve(encoder, data, ctx)["constants_from"] == "the protocol"
    assert np.isfinite(scores.notes["curve"]["train_loss"]).all()


def test_training_images_are_erased_and_repeated_when_asked(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    class Recorded(Mixing):
        def __call__(self, pixels: torch.Tensor, *rest: Any, **named: Any) -> Any:
            seen.append(pixels.clone())
            return super().__call__(pixels, *rest, **named)

    task: Any = tasks.load("finetune", None, {"mixup": "0", "cutmix": "0"})
    data = task.load_data("cifar10", ctx)
    recipe = replace(task.recipe(encoder, data), batch=60, mixing=Recorded())
    for erasing, repeats in ((0.0, 1), (1.0, 1), (0.0, 3)):
        changed = replace(recipe, erasing=erasing, repeats=repeats)
        Tuning(encoder, 1, data.train, np.arange(60), changed, ctx).epoch(0)
    plain, erased, repeated = seen
    boxes = (plain != erased).flatten(2).any(1).float().mean(1)
    assert (boxes > 0).all()
    assert (boxes < 0.5).all()
    assert len(plain) == len(repeated)
    assert not torch.equal(repeated[0], repeated[1]), "copies are augmented apart"


def test_a_layer_that_diverges_is_an_error_after_the_others(
    encoder: Encoder, ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Tuning._step

    def poisoned(self: Tuning, *args: Any, **named: Any) -> float:
        return float("nan") if self.layer == 1 else step(self, *args, **named)

    monkeypatch.setattr(Tuning, "_step", poisoned)
    task = tasks.load("finetune", None, {**SHORT, "epochs": "1"})
    found: list[int] = []
    tuned = task.run(encoder, task.load_data("cifar10", ctx), (1, 3), ctx)
    with pytest.raises(TaskError, match="layer 1 diverged in epoch 1"):
        found.extend(scores.layer for scores in tuned)
    assert found == [3]


def test_each_dataset_has_the_published_constants(encoder: Encoder, ctx: RunContext) -> None:
    task: Any = tasks.load("finetune")
    assert task.constants("flowers")["weight_decay"] == 0.3
    assert task.constants("pets")["mixup"] == 0.8
    data = task.load_data("cars", ctx)
    recipe = task.recipe(encoder, data)
    assert recipe.layer_decay == 1.0
    model = Tunable(encoder, 3, num_classes=10, drop_path=0.0, seed=0)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=recipe.layer_decay)
    assert {group["scale"] for group in groups} == {1.0}, "one rate unless asked"
    resolved = task.resolve(encoder, data, ctx)
    assert (resolved["constants_from"], resolved["mixup"]) == ("this suite", 0.8)
    assert resolved["lr"] == pytest.approx(6e-4)
    code: Any = tasks.load("finetune", "code")
    assert code.resolve(encoder, data, ctx)["lr"] == pytest.approx(7.5e-5)
    assert [code.constants(name)["weight_decay"] for name in ("cifar100", "cifar10")] == [0.3, 0.1]
    changed: Any = tasks.load("finetune", None, {"mixup": "0", "weight_decay": "0.05"})
    assert changed.constants("pets")["mixup"] == 0.0
    assert changed.constants("pets")["weight_decay"] == 0.05


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"select": "vel"}, "Did you mean 'val'"),
        ({"epochs": "0"}, "positive"),
        ({"mixup": "-0.5"}, "-1 for the dataset's own"),
        ({"layer_decay": "0"}, "layer_decay"),
        ({"val_fraction": "0"}, "val_fraction"),
        ({"watch_every": "0"}, "watch_every"),
        ({"head_init": "norml"}, "Did you mean 'normal'"),
    ],
)
def test_a_mistake_is_explained(changes: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        tasks.load("finetune", None, changes)
