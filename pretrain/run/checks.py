"""Whether a run can be done as it was asked for, before anything is loaded."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sdssl_bench import encoders
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.pretrain.data.shards import is_shards
from sdssl_bench.pretrain.run.config import CHOICES, VIT_ONLY, PretrainConfig, flag

_FROM_ONE = [
    "hidden",
    "inner_hidden",
    "out_dim",
    "projector_layers",
    "predictor_layers",
    "every_n",
    "batch_size",
    "epochs",
    "accumulate",
    "shuffle_buffer",
    "save_every",
    "keep",
    "log_every",
    "knn_every",
    "collapse_every",
]
_FROM_ZERO = [
    "inner_layers",
    "alpha_max",
    "beta",
    "weight_decay",
    "warmup_epochs",
    "num_workers",
    "base_lr",
    "seed",
]


def check(config: PretrainConfig) -> PretrainConfig:
    """The configuration itself, proven to be possible.

    Raises:
        UsageError: naming the setting, what it takes and what was found.
    """
    values = config.to_json()
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{flag(name)} takes finite numbers, found {value}.")
    for name, known in CHOICES.items():
        if values[name] is not None and values[name] not in known:
            raise UsageError(did_you_mean(f"value of {flag(name)}", str(values[name]), known))
    for names, least in ((_FROM_ONE, 1), (_FROM_ZERO, 0)):
        for name in names:
            if not values[name] >= least:
                raise UsageError(f"{flag(name)} takes numbers from {least}, found {values[name]}.")
    slice_size = config.batch_size // config.accumulate
    wrong = [
        (config.seed >= 2**32, "--seed is below 2**32"),
        (
            slice_size < 2,
            f"--batch-size {config.batch_size} with --accumulate {config.accumulate} leaves slices of "
            f"{slice_size}; batch-norm needs 2 images",
        ),
        (config.temperature <= 0, "--temperature must be positive"),
        (not 0 < config.crop_min <= 1, "--crop-min is a fraction of the image's area in (0, 1]"),
        (not 0 <= config.ema_start <= 1, "--ema-start is a momentum in [0, 1]"),
        (config.warmup_epochs >= config.epochs, "--warmup-epochs must be below --epochs"),
        (
            config.limit is not None and config.limit < 1,
            f"--limit takes numbers from 1, found {config.limit}",
        ),
        (
            config.limit is not None and is_shards(config.data or ""),
            "--limit is for a folder or a dataset, not for shards",
        ),
        (
            config.stop_epoch is not None and not 1 <= config.stop_epoch <= config.epochs,
            "--stop-epoch lies between 1 and --epochs",
        ),
        (
            config.method == "simclr" and config.pred not in (None, "none"),
            "SimCLR has no predictor, so --pred has no effect there",
        ),
        (
            config.method == "simclr" and config.evaluate == "teacher",
            "SimCLR has no teacher; use --evaluate student",
        ),
        (
            config.method == "simclr" and config.sd and config.inner_layers == 0,
            "SimCLR compares embeddings of all layers, so --inner-layers 0 cannot be",
        ),
        (
            not config.sd and config.pred == "all",
            "without self-distillation there is one predictor: --pred last",
        ),
        (
            config.arch.startswith("resnet")
            and (config.layer_norm != "shared" or any(values[n] for n in VIT_ONLY)),
            f"{config.arch} is no ViT: {', '.join(map(flag, VIT_ONLY))} and --layer-norm do not apply",
        ),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise UsageError(f"{message}.")
    if config.arch in encoders.VITS:
        _check_vit(config)
    elif config.img_size is not None and config.img_size < 1:
        raise UsageError(f"--img-size takes numbers from 1, found {config.img_size}.")
    return config


def _check_vit(config: PretrainConfig) -> None:
    given = {n: getattr(config, n) for n in (*VIT_ONLY, "img_size")}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise UsageError(f"{flag(name)} takes numbers from 1, found {value}.")
    vit = replace(encoders.VITS[config.arch], **given)
    if vit.dim % vit.heads:
        raise UsageError(f"--dim {vit.dim} is no multiple of --heads {vit.heads}.")
    if vit.dim % 4:
        raise UsageError(
            f"--dim {vit.dim} is no multiple of 4: fixed positions are sines and cosines of two axes."
        )
    if vit.img_size % vit.patch_size:
        raise UsageError(
            f"--img-size {vit.img_size} is no multiple of --patch-size {vit.patch_size}."
        )


EFFECTS: tuple[tuple[tuple[str, ...], Callable[[PretrainConfig], bool], str], ...] = (
    (("isd", "every_n", "inner_layers"), lambda c: c.sd, "without self-distillation"),
    (("alpha_max", "alpha_schedule"), lambda c: c.sd and c.isd, "without L_isd"),
    (("beta",), lambda c: c.pred != "none", "without L_pred"),
    (("gather_gradient",), lambda c: c.method == "simclr", "where keys come from a teacher"),
    (("temperature", "two_tau"), lambda c: c.method != "byol", "in BYOL's loss"),
    (
        ("ema_start", "ema_timing", "teacher_bn", "predictor_layers", "predictor_output_bn"),
        lambda c: c.method != "simclr",
        "in SimCLR, which has no teacher and no predictor",
    ),
    (("freeze_patch",), lambda c: c.arch in encoders.VITS, "in a ResNet"),
    (("zero_init_residual",), lambda c: c.arch not in encoders.VITS, "in a ViT"),
    (("decay_scope",), lambda c: c.optimizer != "lars", "with LARS, which decays matrices only"),
    (("knn_every",), lambda c: c.knn is not None, "without --knn"),
    (("shuffle_buffer",), lambda c: is_shards(c.data or ""), "where the data are no shards"),
)
"""Settings, when they have an effect, and what to say otherwise. Sizes of heads are left out: one set of
them serves a method and its baseline."""


def check_effects(
    config: PretrainConfig, changes: Mapping[str, Any], usual: PretrainConfig
) -> None:
    """Refuses settings that a user changes and that change nothing.

    Args:
        config: with the user's changes.
        changes: those.
        usual: preset and recipe without them.

    Raises:
        UsageError: naming the setting and why it has no effect.
    """
    for names, effective, reason in EFFECTS:
        for name in names:
            changed = name in changes and changes[name] != getattr(usual, name)
            if changed and not effective(config):
                raise UsageError(
                    f"{flag(name)} {changes[name]} has no effect {reason}. Leave it out."
                )
