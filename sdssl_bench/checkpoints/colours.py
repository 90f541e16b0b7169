"""The mean and std an encoder sees images with: given, read, known of a release, or assumed."""

import json
import math
from collections.abc import Mapping
from typing import Any

from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.encoders import COLOURS, Colours, colours_for
from sdssl_bench.errors import DataError, UsageError, did_you_mean

RELEASES = {
    **dict.fromkeys(("dino", "dinov2", "ibot", "mae", "mocov3", "sdssl"), "imagenet"),
    "clip": "clip",
    "jax": "half",
}
"""Format of a release -> the colours that its own code trains and evaluates with."""


def given_colours(options: Options, channels: int) -> Colours | None:
    """What --mean and --std say; one name says both.

    Raises:
        UsageError: for an unknown name, numbers that are none, or one of the two without the other.
    """
    texts = {"--mean": options.mean, "--std": options.std}
    if not any(texts.values()):
        return None
    for (flag, text), other in zip(texts.items(), reversed(texts.values()), strict=True):
        if text is None and (other is None or _numbers(other) is not None):
            raise UsageError(
                f"{flag} is missing: numbers come in pairs, such as --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5."
            )
    mean, std = (text or options.mean or options.std or "" for text in texts.values())
    found = Colours(_part("--mean", mean, channels)[0], _part("--std", std, channels)[1])
    if min(found.std) <= 0:
        raise UsageError(f"--std takes positive numbers, found {options.std}.")
    return found


def _part(flag: str, text: str, channels: int) -> Colours:
    """The colours of a name, or numbers as both of their parts."""
    numbers = _numbers(text)
    if numbers is None:
        return colours_for(channels, _named(flag, text))
    if len(numbers) != channels:
        raise UsageError(f"{flag} takes {channels} numbers for this encoder, found '{text}'.")
    return Colours(numbers, numbers)


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def _named(flag: str, name: str) -> Colours:
    if name in COLOURS:
        return COLOURS[name]
    if not name.startswith("timm:"):
        raise UsageError(
            did_you_mean(f"value of {flag}", name, [*COLOURS, "timm:NAME", "three numbers"])
        )
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name.removeprefix("timm:"))
    if config is None:
        raise UsageError(f"{flag} {name}: timm has no model of that name.")
    return Colours(tuple(config.mean), tuple(config.std))


def read_colours(hints: Mapping[str, Any]) -> tuple[Colours, str] | None:
    """Colours that a checkpoint's own settings state, and where; None if none do.

    Args:
        hints: name of a file or key -> its content, or that as JSON: timm's `pretrained_cfg` (mean, std),
            or `preprocessor_config.json` of a Hugging Face folder (image_mean, image_std, rescale_factor).

    Raises:
        DataError: for numbers that cannot be.
    """
    for name, content in hints.items():
        if isinstance(content, str) and content.lstrip().startswith("{"):
            try:
                content = json.loads(content)
            except ValueError:
                continue
        if not isinstance(content, Mapping):
            continue
        inner = content.get("pretrained_cfg")
        for facts in (content, inner if isinstance(inner, Mapping) else {}):
            if "image_mean" in facts or "image_std" in facts:
                return _hugging_face(facts, name), name
            if "mean" in facts and "std" in facts:
                return _checked(facts["mean"], facts["std"], name), name
    return None


def _hugging_face(facts: Mapping[str, Any], name: str) -> Colours:
    """Their processors scale bytes by rescale_factor, then subtract and divide, unless told not to."""
    mean, std = facts.get("image_mean"), facts.get("image_std")
    if facts.get("do_normalize", True) is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    rescaled = facts.get("do_rescale", True) is not False
    found = _checked(mean, std, name)
    factor = 255 * (facts.get("rescale_factor", 1 / 255) if rescaled else 1.0)
    return Colours(*(tuple(round(v / factor, 12) for v in part) for part in found))


def _checked(mean: Any, std: Any, name: str) -> Colours:
    parts = [[part] if isinstance(part, int | float) else part for part in (mean, std)]
    good = all(
        isinstance(part, list | tuple)
        and len(part) in (1, 3)
        and all(type(v) in (int, float) and math.isfinite(v) for v in part)
        for part in parts
    )
    if not good or len(parts[0]) != len(parts[1]) or min(parts[1]) <= 0:
        raise DataError(
            f"{name} states mean {mean} and std {std}; expected three numbers each, std positive. Give "
            "them: --mean and --std."
        )
    return Colours(*(tuple(float(v) for v in part) for part in parts))


def hints_of(file: CheckpointFile | None) -> dict[str, Any]:
    """What a file says beside its tensors that may hold colours."""
    if file is None:
        return {}
    stated = {"pretrained_cfg": file.content.get("pretrained_cfg")}
    return {**stated, **file.metadata, **file.hints}
