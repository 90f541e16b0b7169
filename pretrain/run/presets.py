"""Presets and recipes: whose choices fill the settings that paper, code and references disagree about.

`RULES` says whom each recipe follows; `REGISTER` numbers the points on which they
differ.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.pretrain.run.config import CHOICES, VIT_ONLY, PretrainConfig, differences

REGISTER = {
    1: ("alpha_max", "final weight of L_isd"),
    2: ("ema_start", "first momentum of the teacher"),
    3: ("ema_timing", "teacher moves before keys or after the step"),
    4: ("decay_scope", "parameters with weight decay"),
    5: ("layer_norm", "norm of intermediate layers"),
    6: ("heads", "attention heads of ViT-S, 12 or 6"),
    10: ("evaluate", "network that is evaluated"),
    15: ("stop_epoch", "ablations stop at 100 of 300 epochs in the code"),
    16: ("pred", "L_pred on the baseline: last layer only"),
    20: ("views", "augmentation: MoCo v3's per sample; the code's batch-wise one is not offered"),
    21: ("two_tau", "InfoNCE times 2 tau"),
    22: ("mixed_precision", "float32 in the code, AMP in MoCo v3"),
}

RULES: Mapping[str, str] = {
    "paper": "the paper; where it is silent MoCo v3, which it cites, but precision and evaluated network "
    "of its authors: float32, the teacher",
    "code": "the authors' code and configurations",
    "mocov3": "MoCo v3, also in when the teacher moves, in precision and in the evaluated network",
}
"""Whom a recipe follows."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "ema_start": 0.99,
        "ema_timing": "after",
        "decay_scope": "all",
        "warmup_rule": "linear",
        "gather_gradient": "full",
        "mixed_precision": "no",
        "evaluate": "teacher",
    },
    "code": {
        "ema_start": 0.996,
        "ema_timing": "after",
        "decay_scope": "matrices",
        "warmup_rule": "linspace",
        "gather_gradient": "local",
        "mixed_precision": "no",
        "evaluate": "teacher",
    },
    "mocov3": {
        "ema_start": 0.99,
        "ema_timing": "before",
        "decay_scope": "all",
        "warmup_rule": "linear",
        "gather_gradient": "full",
        "mixed_precision": "fp16",
        "evaluate": "student",
    },
}

_SMALL_RUN = {
    "views": "small",
    "crop_min": 0.2,
    "hidden": 1024,
    "inner_hidden": 512,
    "out_dim": 128,
    "batch_size": 256,
    "epochs": 200,
    "warmup_epochs": 10,
    "base_lr": 5e-4,
    "num_workers": 2,
}
_MINI = {
    **_SMALL_RUN,
    "dim": 128,
    "depth": 6,
    "heads": 4,
    "hidden": 512,
    "batch_size": 128,
    "epochs": 40,
    "warmup_epochs": 2,
    "base_lr": 2e-3,
    "weight_decay": 0.05,
}
"""Learns from 10,000 CIFAR images on one core in an hour; README has its curves."""
_RESNET = {
    "optimizer": "lars",
    "base_lr": 0.3,
    "weight_decay": 1e-6,
    "warmup_epochs": 10,
    "epochs": 200,
    "batch_size": 4096,
    "crop_min": 0.2,
    "temperature": 1.0,
}
_MOCO_RESNET = {"projector_layers": 2, "inner_layers": 2, "predictor_output_bn": False}
"""MoCo v3's own heads; the paper's text names no exception for ResNets, and its authors make none."""
_CODE_RESNET = {
    "alpha_max": 0.2,
    "weight_decay": 1.5e-6,
    "warmup_epochs": 40,
    "crop_min": 0.08,
    "zero_init_residual": False,
}
"""Of ResNet-18 on STL-10, the authors' only ResNet; inferred for ResNet-50."""
SIMCLR_TEMPERATURE = {"r50": 0.1, "resnet18": 0.5}
"""SimCLR's own on ImageNet and on CIFAR-10; the temperature of 1 is MoCo v3's for its own loss."""
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "vit_s32": {"arch": "vit_small_p32", "batch_size": 4096},
    "vit_s16": {"arch": "vit_small_p16", "batch_size": 1024},
    "vit_b16": {"arch": "vit_base_p16", "batch_size": 1024},
    "r50": {"arch": "resnet50", **_RESNET},
    # No published recipe: sizes for 32-px images and for a CPU.
    "vit_tiny_p4": {"arch": "vit_tiny_p4_32", **_SMALL_RUN},
    "vit_tiny_p8": {"arch": "vit_tiny_p8_32", **_SMALL_RUN},
    "vit_mini_p8": {"arch": "vit_tiny_p8_32", **_MINI},
    "resnet18": {"arch": "resnet18", **_RESNET, **_SMALL_RUN, "base_lr": 0.3, "img_size": 32},
}

PRESETS: Mapping[str, tuple[str, bool, str]] = {
    f"{'sd_' if sd else ''}{method}_{architecture}": (method, sd, architecture)
    for method in CHOICES["method"]
    for sd in (False, True)
    for architecture in ARCHITECTURES
}
"""Name -> method, self-distillation, architecture."""


def resolve(preset: str, recipe: str = "paper", **changes: Any) -> PretrainConfig:
    """The configuration of a preset under a recipe, with the user's changes on top.

    Args:
        preset: one of PRESETS.
        recipe: one of RECIPES.
        **changes: settings to set, whoever decides them otherwise.

    Raises:
        UsageError: for an unknown name or an impossible setting.
    """
    from sdssl_bench.pretrain.run.checks import check, check_effects  # imports torch; names do not

    if preset not in PRESETS:
        raise UsageError(did_you_mean("preset", preset, PRESETS))
    if recipe not in RECIPES:
        raise UsageError(did_you_mean("recipe", recipe, RECIPES))
    known = {f.name for f in fields(PretrainConfig)}
    for name in changes:
        if name not in known:
            raise UsageError(did_you_mean("setting", name, known))
    config = check(_fill(preset, recipe, changes))
    if changes:
        check_effects(config, changes, usual=_fill(preset, recipe, {}))
    return config


def usual() -> dict[str, Any]:
    """Settings on which all presets agree under all recipes, and the recipe itself."""
    filled = [vars(_fill(preset, recipe, {})) for preset in PRESETS for recipe in RECIPES]
    return {
        name: value
        for name, value in filled[0].items()
        if all(other[name] == value for other in filled)
    } | {"recipe": PretrainConfig.recipe}


def overview() -> str:
    """All presets by architecture, at most 80 columns wide."""
    lines = ["Presets are METHOD_ARCHITECTURE; sd_ is the method with SDSSL on it."]
    for architecture, changes in ARCHITECTURES.items():
        names = [name for name, (_, _, of) in PRESETS.items() if of == architecture]
        config = _fill(names[0], "paper", {})
        sizes = "".join(f", {name} {changes[name]}" for name in VIT_ONLY if name in changes)
        lines += [
            "",
            f"{config.arch}{sizes}: {config.epochs} epochs, batches of {config.batch_size:,}, "
            f"{config.optimizer}",
        ]
        for sd in (False, True):
            row = [name for name in names if PRESETS[name][1] is sd]
            lines.append("  " + "".join(f"{name:<25}" for name in row).rstrip())
    lines += [
        "",
        "Example, small enough for a CPU (--dry-run shows what it would do and cost):",
        "  sdssl-bench pretrain --preset sd_mocov3_vit_mini_p8 \\",
        "    --data cifar10 --data-root data --out runs/sd_mocov3_vit_mini_p8",
        "",
        f"--recipe {'|'.join(RECIPES)}: whose choices to follow where they disagree.",
        "--help: every setting. On several GPUs: accelerate launch pretrain/main.py ...",
    ]
    return "\n".join(lines)


def _fill(preset: str, recipe: str, changes: Mapping[str, Any]) -> PretrainConfig:
    method, sd, architecture = PRESETS[preset]
    settings: dict[str, Any] = {"preset": preset, "recipe": recipe, "method": method, "sd": sd}
    settings |= ARCHITECTURES[architecture]
    settings |= RECIPES[recipe]
    settings |= _of_method(recipe, method, architecture)
    settings |= changes
    settings.setdefault("two_tau", settings["method"] == "mocov3")
    if settings["method"] == "simclr":
        settings["evaluate"] = changes.get("evaluate", "student")
        settings.setdefault("pred", "none")
    else:
        settings.setdefault("pred", "all" if settings["sd"] else "none")
    settings.setdefault("output_bn", settings["method"] != "byol")
    settings.setdefault("predictor_output_bn", settings["output_bn"])
    return PretrainConfig(**settings)


def expected_scores(config: PretrainConfig) -> tuple[float, float] | None:
    """ImageNet k-NN and linear top-1 of the last layer in percent; None where the paper has none.

    Its numbers are of the preset as it stands, under any recipe, and
    trained to its end.
    """
    from sdssl_bench.paper import reproduction

    if config.preset not in PRESETS:
        return None
    usual = resolve(config.preset, config.recipe)
    if config.stop_epoch != usual.stop_epoch or differences(config, usual.to_json()):
        return None
    return reproduction.last_layer_top1(config.preset)


def remarks(config: PretrainConfig) -> list[str]:
    """What the user of a preset should know about where its numbers come from, a sentence each."""
    from sdssl_bench.paper import RESNET_50

    _, _, architecture = PRESETS.get(config.preset, ("", False, ""))
    found = []
    if architecture in ("vit_s16", "vit_s32") and config.heads in (None, 12):
        found.append(
            "12 heads of ViT-S are MoCo v3's. The paper names no number and cites DeiT (6), its authors' "
            "code has 6, then 12: undecidable. --heads 6 is the other one."
        )
    if architecture == "r50" and config.recipe == "code":
        found.append(
            "The recipe code is inferred from ResNet-18 on STL-10, the only ResNet that the SDSSL "
            "authors released a configuration of."
        )
    if architecture == "r50" and config.method == "mocov3" and expected_scores(config):
        found.append(RESNET_50)
    return found


def _of_method(recipe: str, method: str, architecture: str) -> dict[str, Any]:
    """Choices that also depend on method and architecture."""
    if architecture in ("r50", "resnet18"):
        return _of_resnet(recipe, method, architecture)
    if architecture in ("vit_tiny_p4", "vit_tiny_p8", "vit_mini_p8"):
        return {}
    settings: dict[str, Any] = {}
    if method == "simclr":
        settings["base_lr"] = 1.3e-4
    if recipe == "code" and architecture == "vit_b16" and method != "mocov3":
        settings["alpha_max"] = 0.8
    if recipe == "code" and architecture == "vit_s16":
        settings["layer_norm"] = (
            "per-layer"  # the branch that holds its configurations has 12 norms
        )
    if recipe == "code" and architecture == "vit_s32":
        settings["alpha_max"] = 0.6  # the only S/32 configuration, and all scripts of ablations
    return settings


def _of_resnet(recipe: str, method: str, architecture: str) -> dict[str, Any]:
    """Choices on ResNets."""
    settings: dict[str, Any] = {}
    if recipe == "mocov3":
        settings |= _MOCO_RESNET
    if recipe == "code":
        settings |= _CODE_RESNET
    if method == "simclr":
        settings["temperature"] = 0.2 if recipe == "code" else SIMCLR_TEMPERATURE[architecture]
    return settings
