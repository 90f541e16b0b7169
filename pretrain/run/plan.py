"""What a run would do, without data and without computing: `--dry-run`.

Operations and saved activations are counted on the meta device, which runs the model without numbers.
"""

import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sdssl_bench import datasets, encoders
from sdssl_bench.pretrain.objective.assembly import build_model
from sdssl_bench.pretrain.objective.sdssl import SDSSL
from sdssl_bench.pretrain.run.config import VIT_ONLY, PretrainConfig, flag
from sdssl_bench.pretrain.run.presets import REGISTER, RULES, expected_scores, remarks

IMAGENET = datasets.spec("imagenet").sizes["train"]
"""Images the presets' epochs are planned for where no data are named."""
PROBE = 4
"""Images on the meta device; counts are divided by it."""


@dataclass(frozen=True)
class Cost:
    """What a step costs.

    Attributes:
        trained: trainable parameters.
        frozen: teacher and frozen parameters.
        flops: matrix operations per image (both views), forward and backward; a multiply-add is two.
        activations: bytes per image kept for the backward pass, float32.
        moments: numbers that the optimizer keeps per trained parameter.
    """

    trained: int
    frozen: int
    flops: float
    activations: float
    moments: int

    def memory(self, images: int) -> float:
        """Bytes on a device that holds `images` of a step: weights, gradients, moments, activations."""
        per_trained = 4 * (2 + self.moments)
        return per_trained * self.trained + 4 * self.frozen + self.activations * images


def cost(config: PretrainConfig) -> Cost:
    """Parameters, operations and memory of a configuration."""
    with torch.device("meta"):
        model = build_model(config)
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    of_parameters = {p.untyped_storage()._cdata for p in parameters}
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            terms = _forward(model, config, PROBE)
        saved = sum(s.nbytes() for key, s in kept.items() if key not in of_parameters)
        terms.total.backward()
    return Cost(
        trained,
        frozen,
        counter.get_total_flops() / PROBE,
        saved / PROBE,
        moments=1 if config.optimizer == "lars" else 2,
    )


def _forward(model: SDSSL, config: PretrainConfig, images: int) -> Any:
    size = model.student.input_size
    views = torch.empty(2, images, 3, size, size, device="meta")
    return model(views[0], views[1], alpha=config.alpha_max, beta=config.beta)


def resolved(config: PretrainConfig) -> dict[str, Any]:
    """All settings, with the sizes that the architecture decides where nobody else did."""
    settings = config.to_json()
    vit = encoders.VITS.get(config.arch)
    if vit is not None:
        for name in (*VIT_ONLY, "img_size"):
            if settings[name] is None:
                settings[name] = getattr(vit, name)
    return settings


def describe(config: PretrainConfig, *, images: int | None = None) -> str:
    """The plan for people.

    Args:
        config: from `presets.resolve`.
        images: in the training set; None counts --data if it is given, else takes ImageNet's.
    """
    counted = cost(config)
    origin = "given"
    if images is None:
        images, per_epoch, origin = _count(config)
    else:
        per_epoch = images // config.batch_size
    rule = f"recipe {config.recipe}: {RULES[config.recipe]}"
    lines = [f"preset {config.preset}", *textwrap.wrap(rule, 80), "", "settings"]
    settings = resolved(config)
    lines += [f"  {flag(k):24} {v}" for k, v in settings.items()]
    lines += ["", "what paper, code and references disagree about (register entry, setting, here)"]
    for number, (name, meaning) in REGISTER.items():
        lines.append(f"  {number:2}  {flag(name):18} {settings[name]!s:10} {meaning}")
    scores = expected_scores(config)
    lines += [
        "",
        f"parameters      {counted.trained / 1e6:.2f} M trained, {counted.frozen / 1e6:.2f} M teacher "
        "or frozen",
        f"steps           {per_epoch:,} per epoch ({images:,} images, {origin}), "
        f"{per_epoch * (config.stop_epoch or config.epochs):,} in all",
        f"operations      {counted.flops / 1e9:.2f} GFLOP per image, "
        f"{counted.flops * config.batch_size / 1e12:.2f} TFLOP per step",
        f"memory          {counted.memory(config.batch_size // config.accumulate) / 2**30:.1f} GiB in "
        f"one process in float32 ({counted.activations / 2**20:.1f} MiB activations per image); n "
        "processes hold 1/n of the activations each",
        "expected        "
        + (
            f"{scores[0]} k-NN, {scores[1]} linear: ImageNet top-1 of the last layer in the paper"
            if scores
            else "the paper has no number for these settings"
        ),
    ]
    lines += [
        textwrap.fill(one, 80, initial_indent=f"{'note':16}", subsequent_indent=" " * 16)
        for one in remarks(config)
    ]
    return "\n".join(lines)


def _count(config: PretrainConfig) -> tuple[int, int, str]:
    """Images, steps per epoch in one process, and where that is from."""
    if config.data is None:
        return IMAGENET, IMAGENET // config.batch_size, "ImageNet, no --data"
    from sdssl_bench.pretrain.data.feeding import open_feed

    feed = open_feed(config, size=32, rank=0, world_size=1)
    return feed.layout["images"], feed.per_epoch, config.data
