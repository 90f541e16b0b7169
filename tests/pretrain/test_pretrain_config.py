"""Presets, recipes and flags: all resolve, name what differs, and refuse what cannot be."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pretrain_fixtures import make_shards, tiny
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.pretrain.data.feeding import open_feed
from sdssl_bench.pretrain.objective.assembly import build_model, build_optimizer, parameter_groups
from sdssl_bench.pretrain.run.config import CHOICES, PretrainConfig
from sdssl_bench.pretrain.run.plan import cost, describe
from sdssl_bench.pretrain.run.presets import (
    PRESETS,
    RECIPES,
    expected_scores,
    overview,
    resolve,
    usual,
)

ROOT = Path(__file__).resolve().parents[2]


def words(text: str) -> str:
    """A text as if its lines were not broken."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    "preset", ["sd_mocov3_vit_s32", "byol_vit_b16", "sd_simclr_r50", "sd_byol_resnet18"]
)
def test_presets_build_and_train_all_their_parameters(preset: str) -> None:
    counted = cost(resolve(preset))
    assert counted.trained > 1e7
    assert counted.flops > 1e8
    numbers = 3 if resolve(preset).optimizer == "lars" else 4  # weight, gradient, moments
    assert counted.memory(2) > counted.memory(1) > 4 * numbers * counted.trained
    assert counted.memory(0) == 4 * (numbers * counted.trained + counted.frozen)


def test_operations_of_a_vit_and_a_resnet_are_the_known_ones() -> None:
    """Forward of a ViT-B/16: 17.6 GMAC; a step does 2 views x (1 + 2 + 1 for the teacher) of them."""
    plain, distilled = (cost(resolve(p)) for p in ("mocov3_vit_b16", "sd_mocov3_vit_b16"))
    assert plain.flops == pytest.approx(2 * 2 * 4 * 17.5e9, rel=0.02)
    assert plain.flops < distilled.flops < 1.01 * plain.flops


@pytest.mark.parametrize("architecture", ["r50", "resnet18"])
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_heads_of_a_resnet_are_the_papers_and_moco_v3s_own_in_its_recipe(
    recipe: str, architecture: str
) -> None:
    """The paper: 3 layers, normalised outputs except BYOL's; MoCo v3: 2, no norm after predictors."""
    for method in CHOICES["method"]:
        config = resolve(f"sd_{method}_{architecture}", recipe, hidden=16, inner_hidden=8)
        model = build_model(config)
        assert model.inner_projectors is not None
        depth = 2 if recipe == "mocov3" else 3
        for head in (model.projector, model.inner_projectors):
            linears = [one for one in head.layers if type(one).__name__ == "GroupedLinear"]
            norms = [one for one in head.layers if type(one).__name__ == "GroupedBatchNorm"]
            assert len(linears) == depth
            assert len(norms) == depth - (method == "byol")
        if model.predictors is not None:
            normed = type(model.predictors.layers[-1]).__name__ == "GroupedBatchNorm"
            assert normed is (method == "mocov3" and recipe != "mocov3")


@pytest.mark.parametrize("architecture", ["r50", "resnet18"])
def test_residual_branches_of_the_authors_resnets_start_at_one(architecture: str) -> None:
    for recipe in RECIPES:
        config = resolve(f"sd_mocov3_{architecture}", recipe, hidden=16, inner_hidden=8)
        code = recipe == "code"
        last = "bn3" if architecture == "r50" else "bn2"
        norms = [
            m
            for name, m in build_model(config).student.named_modules()
            if name.rpartition(".")[2] == last
        ]
        assert norms
        assert all(bool((norm.weight == (1 if code else 0)).all()) for norm in norms)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("preset", "changes", "sizes"),
    [
        ("sd_mocov3_vit_s16", {}, (384, 12, 12, 16, 224)),
        ("byol_vit_s32", {"heads": 6}, (384, 12, 6, 32, 224)),
        ("simclr_vit_mini_p8", {}, (128, 6, 4, 8, 32)),
    ],
)
def test_a_plan_shows_the_sizes_that_the_architecture_decides(
    preset: str, changes: dict[str, Any], sizes: tuple[int, ...]
) -> None:
    config = resolve(preset, **changes)
    plan = describe(config)
    lines = [line.split() for line in plan.splitlines()]
    for name, size in zip(("dim", "depth", "heads", "patch-size", "img-size"), sizes, strict=True):
        assert [f"--{name}", str(size)] in lines
    assert ["6", "--heads", str(sizes[2])] in [line[:3] for line in lines], "the register, too"
    undecidable = config.arch.startswith("vit_small") and not changes
    assert ("undecidable" in plan) is undecidable


def test_every_layer_of_the_authors_vit_s16_has_a_norm_of_its_own() -> None:
    """Tables 5 and 6 build on these configurations; of a baseline's norms only the last is trained."""
    for method in CHOICES["method"]:
        for sd, trained in (("sd_", 12), ("", 1)):
            config = resolve(f"{sd}{method}_vit_s16", "code", hidden=16, inner_hidden=8)
            modules = build_model(config).student.named_modules()
            norms = [m for name, m in modules if name.split(".")[-2:-1] == ["norms"]]
            assert len(norms) == 12
            assert sum(norm.weight.requires_grad for norm in norms) == trained  # type: ignore[union-attr,misc]
    for preset, recipe in (("sd_mocov3_vit_s16", "paper"), ("sd_mocov3_vit_b16", "code")):
        assert resolve(preset, recipe).layer_norm == "shared"


def test_expected_scores_are_those_of_tables_1_and_7_and_only_where_they_have_them() -> None:
    """Table 1 by method, baseline and SDSSL, S/32, S/16, B/16; Table 7: MoCo v3 on ResNet-50."""
    table = {
        "simclr": ((51.5, 52.8), (57.8, 62.1), (62.1, 70.5)),
        "sd_simclr": ((53.4, 55.3), (59.1, 65.0), (64.4, 72.1)),
        "byol": ((56.4, 59.8), (66.0, 70.3), (68.1, 73.7)),
        "sd_byol": ((57.9, 61.8), (67.2, 71.5), (70.3, 74.5)),
        "mocov3": ((57.1, 60.7), (66.5, 70.0), (69.7, 75.1)),
        "sd_mocov3": ((59.0, 63.7), (68.0, 71.5), (72.0, 76.0)),
    }
    expected: dict[str, tuple[float, float]] = {"mocov3_r50": (60.5, 60.3)}
    expected["sd_mocov3_r50"] = (61.2, 62.2)
    for method, row in table.items():
        expected |= {f"{method}_vit_{size}": n for size, n in zip(("s32", "s16", "b16"), row)}
    for preset in PRESETS:
        assert expected_scores(resolve(preset)) == expected.get(preset), preset


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"alpha_schedule": "cosin"}, "cosine"),
        ({"batch_size": 0}, "--batch-size"),
        ({"warmup_epochs": 300}, "--warmup-epochs"),
        ({"stop_epoch": 301}, "--stop-epoch"),
        ({"limit": 0}, "--limit"),
        ({"limit": 9, "data": "{0..1}.tar"}, "--limit"),
        ({"temperature": 0.0}, "--temperature"),
        ({"base_lr": -1.0}, "--base-lr"),
        ({"base_lr": float("nan")}, "--base-lr"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve("sd_mocov3_vit_s16", **changes)


def test_settings_without_effect_are_refused() -> None:
    for preset, changes in (
        ("sd_simclr_vit_s16", {"pred": "all"}),
        ("sd_simclr_vit_s16", {"evaluate": "teacher"}),
        ("mocov3_vit_s16", {"pred": "all"}),
        ("mocov3_r50", {"patch_size": 8}),
    ):
        with pytest.raises(UsageError):
            resolve(preset, **changes)
    with pytest.raises(UsageError, match="sd_mocov3_vit_s16"):
        resolve("sd_mocov3_vit_s15")


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("mocov3_vit_s16", {"alpha_max": 0.5}),
        ("mocov3_vit_s16", {"alpha_schedule": "const"}),
        ("mocov3_vit_s16", {"every_n": 2}),
        ("mocov3_vit_s16", {"inner_layers": 0}),
        ("mocov3_vit_s16", {"isd": False}),
        ("mocov3_vit_s16", {"beta": 0.5}),
        ("sd_mocov3_vit_s16", {"pred": "none", "beta": 0.5}),
        ("sd_mocov3_vit_s16", {"isd": False, "alpha_max": 0.5}),
        ("sd_mocov3_vit_s16", {"gather_gradient": "local"}),
        ("sd_byol_vit_s16", {"temperature": 0.1}),
        ("sd_byol_vit_s16", {"two_tau": True}),
        ("sd_simclr_vit_s16", {"beta": 0.5}),
        ("sd_simclr_vit_s16", {"ema_start": 0.9}),
        ("sd_simclr_vit_s16", {"predictor_layers": 3}),
        ("sd_mocov3_r50", {"freeze_patch": False}),
        ("sd_mocov3_vit_s16", {"zero_init_residual": False}),
        ("sd_mocov3_r50", {"decay_scope": "matrices"}),
        ("sd_mocov3_vit_s16", {"knn_every": 1}),
        ("sd_mocov3_vit_s16", {"shuffle_buffer": 9, "data": "images"}),
    ],
    ids=str,
)
def test_a_setting_that_would_change_nothing_is_refused_by_name(
    preset: str, changes: dict[str, Any]
) -> None:
    *_, last = [n for n in changes if n not in ("pred", "data")] or changes
    with pytest.raises(UsageError, match=f"--{last.replace('_', '-')} .* has no effect"):
        resolve(preset, **changes)
    usual = resolve(preset)
    assert resolve(preset, **{last: getattr(usual, last)}) == usual, "saying the usual is no fault"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": 5}, "no multiple of --heads 5"),
        ({"heads": 0}, "--heads takes numbers from 1"),
        ({"dim": 18, "heads": 1}, "no multiple of 4"),
        ({"dim": 0}, "--dim takes"),
        ({"depth": 0}, "--depth takes"),
        ({"depth": -1}, "--depth takes"),
        ({"patch_size": 0}, "--patch-size takes"),
        ({"patch_size": 5}, "no multiple of --patch-size 5"),
        ({"img_size": 0}, "--img-size takes"),
        ({"arch": "resnet18", "img_size": 0}, "--img-size takes"),
        ({"batch_size": 1}, "2 images"),
        ({"batch_size": 8, "accumulate": 8}, "slices of 1"),
        ({"seed": 2**32}, r"below 2\*\*32"),
        ({"temperature": float("nan")}, "finite"),
        ({"alpha_max": float("inf")}, "finite"),
        ({"warmup_epochs": float("nan")}, "finite"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_built_are_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve("sd_mocov3_vit_tiny_p8", **changes)


def test_the_papers_scores_are_promised_for_the_papers_runs_only() -> None:
    free = {"data": "images", "num_workers": 2, "save_every": 3}
    assert expected_scores(resolve("sd_mocov3_vit_s16", "code", **free)) == (68.0, 71.5)
    for changes in ({"depth": 4}, {"epochs": 100}, {"stop_epoch": 100}, {"sd": False}):
        assert expected_scores(resolve("sd_mocov3_vit_s16", **changes)) is None


def test_a_plan_counts_the_steps_that_shards_give(tmp_path: Path) -> None:
    """Every worker leaves out its own last incomplete batch."""
    shards = make_shards(tmp_path / "shards", [13, 9, 12])
    config = tiny(data=shards, num_workers=3, batch_size=4)
    feed = open_feed(config, size=32, rank=0, world_size=1)
    assert feed.per_epoch < 34 // 4
    assert f"{feed.per_epoch:,} per epoch (34 images" in describe(config)


def test_help_names_every_setting() -> None:
    shown = CliRunner().invoke(app, ["pretrain", "--help"]).output
    for field in fields(PretrainConfig):
        name = field.name.replace("_", "-")
        taken = "|".join(CHOICES.get(field.name, ()))
        switch = field.type in (bool, bool | None)
        assert (f"--{name} / --no-{name}" if switch else f"--{name} {taken}") in shown


def test_a_default_is_shown_only_where_every_preset_has_it() -> None:
    shown = usual()
    resolved = [resolve(preset, recipe) for preset in PRESETS for recipe in RECIPES]
    for name, value in shown.items():
        assert name == "recipe" or all(getattr(config, name) == value for config in resolved)
    assert (shown["every_n"], shown["seed"], shown["recipe"]) == (1, 0, resolve("byol_r50").recipe)
    assert not {"epochs", "ema_start", "two_tau", "arch"} & shown.keys()


def test_ablations_are_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[PretrainConfig] = []
    monkeypatch.setattr(
        "sdssl_bench.pretrain.run.plan.describe", lambda config: str(plans.append(config))
    )
    command = (
        "pretrain --preset sd_byol_vit_s16 --pred last --alpha-schedule const --alpha-max 0.6 "
        "--beta 1.2 --inner-layers 0 --every_n 3 --output-bn --no-sd --sd --dry-run"
    )
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output
    (config,) = plans
    assert (config.isd, config.pred, config.alpha_schedule) == (True, "last", "const")
    assert (config.alpha_max, config.beta, config.inner_layers, config.every_n) == (0.6, 1.2, 0, 3)
    assert (config.output_bn, config.sd) == (True, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"isd": False},
        {"pred": "none"},
        {"pred": "last"},
        {"isd": False, "pred": "all"},
        {"inner_layers": 0},
        {"inner_layers": 2},
        {"every_n": 2},
        {"layer_norm": "per-layer"},
        {"layer_norm": "per-layer", "every_n": 2},
        {"freeze_patch": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["sd_mocov3", "sd_byol"])
def test_every_ablation_gives_every_trained_parameter_a_gradient(
    method: str, changes: dict[str, Any]
) -> None:
    model = build_model(tiny(method, **changes))
    views = torch.randn(2, 4, 3, 32, 32)
    model(views[0], views[1], alpha=0.5, beta=1.0).total.backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, "DDP would wait for these for ever"


@pytest.mark.parametrize(("scope", "undecayed"), [("all", False), ("matrices", True)])
def test_decay_reaches_the_parameters_its_scope_names(scope: str, undecayed: bool) -> None:
    config = tiny(decay_scope=scope)
    model = build_model(config)
    groups = parameter_groups(model, config)
    free = [p for g in groups if g["weight_decay"] == 0 for p in g["params"]]
    assert bool(free) is undecayed
    assert all(p.ndim <= 1 for p in free)
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in model.parameters())
    cls_token = model.student.model.cls_token
    assert any(cls_token is p for g in groups if g["weight_decay"] for p in g["params"])
    assert build_optimizer(model, config).param_groups[0]["lr"] == 0.0


def test_weights_of_heads_are_known_to_lars_as_stacks_of_layers() -> None:
    """Each layer's norm scales its own update; a stack taken for one weight would mix them."""
    config = tiny(optimizer="lars")
    model = build_model(config)
    heads = ("projector.", "inner_projectors.", "predictors.")
    stacked = {
        id(p): group["stacked"]
        for group in build_optimizer(model, config).param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = name.startswith(heads) and parameter.ndim == 3
            assert stacked[id(parameter)] is expected, name
    assert len(set(stacked.values())) == 2


def test_nothing_asked_for_shows_the_presets_and_an_example_that_works(tmp_path: Path) -> None:
    """From any folder, by the script and by the command."""
    script = ROOT / "pretrain" / "main.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert CliRunner().invoke(app, ["pretrain"]).output == done.stdout == overview() + "\n"
    assert set(PRESETS) <= set(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    example = done.stdout.partition("sdssl-bench ")[2].partition("\n\n")[0].replace("\\\n", "")
    words = example.split()
    assert resolve(words[words.index("--preset") + 1]).data is None
    planned = CliRunner().invoke(
        app, [w for w in words if w not in ("--data", "cifar10")] + ["--dry-run"]
    )
    assert planned.exit_code == 0, planned.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--preset", "sd_mocov3_vit_tiny_p8", "--data", "none", "--out", "none"], 3, "none"),
        (["--preset", "nothing", "--out", "none"], 2, "Unknown preset"),
        (["--preset", "byol_r50"], 2, "--out is needed"),
        (["--recipe", "code"], 2, "--preset is needed"),
        (["--preset", "byol_r50", "--epoch", "3"], 2, "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_errors_have_no_traceback(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["pretrain", *arguments])
    assert done.exit_code == code
    assert says in done.output
    assert isinstance(done.exception, SystemExit)
