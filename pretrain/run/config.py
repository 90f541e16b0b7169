"""Every setting of a pretraining run; `checks` proves that it can be done as asked.

A configuration is a preset of a recipe plus what the user changes; `presets.resolve` makes it, the
run stores it, and a run is resumed with the very same one.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class PretrainConfig:
    """All settings; names are those of the flags. `presets` says whom each follows.

    None leaves a setting to the architecture, the method or the recipe. `CHOICES` has the words that a
    setting takes. The command line shows these descriptions.

    Attributes:
        preset: name of the preset to start from.
        recipe: whose choices fill what the paper, its authors' code and MoCo v3 disagree about.
        method: whose loss is trained.
        sd: self-distillation of intermediate layers.
        arch: architecture, such as vit_small_p16, vit_tiny_p8_32 or resnet50.
        dim: width of the tokens of a ViT.
        depth: blocks of a ViT.
        heads: attention heads of a ViT.
        patch_size: side of a ViT's patches in pixels.
        img_size: side of the training images in pixels.
        layer_norm: one final norm for all layers of a ViT, or one per layer.
        freeze_patch: the random patch projection of a ViT is not trained.
        zero_init_residual: residual branches of a ResNet start at 0, as MoCo v3's; else as torchvision's.
        hidden: width in the last projector and all predictors.
        inner_hidden: width in the intermediate projectors.
        out_dim: width of embeddings.
        projector_layers: depth of the last projector.
        inner_layers: depth of the intermediate projectors; 0 is none (Table 6).
        predictor_layers: depth of predictors.
        hidden_bn: batch-norm in hidden layers of heads.
        output_bn: batch-norm after projectors and predictors; not in BYOL unless asked for.
        predictor_output_bn: batch-norm after predictors, where it differs from projectors.
        temperature: tau of InfoNCE.
        two_tau: InfoNCE times 2 tau, as in MoCo v3.
        isd: L_isd counts (Table 5).
        pred: layers that L_pred reaches.
        alpha_max: final weight of L_isd.
        alpha_schedule: how the weight of L_isd rises; const is no ratio annealing (Table 5).
        beta: weight of L_pred (Fig. 9).
        every_n: distil layers l with (L - l) divisible by it (Table 6).
        gather_gradient: gradients that SimCLR's keys of other processes carry.
        ema_start: momentum of the teacher at step 0; it rises to 1.
        ema_timing: teacher moves before keys are computed, or after the optimizer's step.
        teacher_bn: statistics of batch-norm in the teacher.
        evaluate: network that the checkpoint holds.
        optimizer: of all trained parameters.
        base_lr: learning rate per 256 images.
        batch_size: images per optimizer step over all processes.
        weight_decay: decoupled for AdamW.
        decay_scope: parameters with weight decay; matrices leaves out what has one dimension.
        warmup_epochs: epochs in which the learning rate rises.
        warmup_rule: of MoCo v3 (linear) or of SDSSL's authors (linspace).
        epochs: length that all schedules are laid out for.
        stop_epoch: train only so long (the authors' ablations: 100 of 300).
        accumulate: slices per optimizer step; the contrastive loss still sees the whole batch.
        mixed_precision: of forward and backward pass; no is float32. Schedules and teacher go on in
            steps that fp16 skips.
        views: MoCo v3's augmentation, or one for 32-px images without blur.
        crop_min: smallest area of a random crop, as a fraction.
        device_views: colour, blur and solarisation on the device, in batch.
        data: folder, dataset name, or shards "x/{000..146}.tar".
        data_root: folder of named datasets.
        limit: a trial on so many images, spread evenly over the set.
        num_workers: loader processes per training process.
        shuffle_buffer: images that a worker shuffles among when it reads shards.
        seed: of everything random.
        save_every: epochs between snapshots and encoders.
        keep: snapshots kept to resume from.
        log_every: steps between log lines.
        log_with: tracker beside the JSON-lines log, through accelerate.
        knn: dataset for all-layer k-NN during training, e.g. cifar10 or folder:PATH.
        knn_every: epochs between these.
        collapse_every: steps between looks at the spread of features.
    """

    preset: str = "custom"
    recipe: str = "paper"
    method: str = "mocov3"
    sd: bool = True
    arch: str = "vit_small_p16"
    dim: int | None = None
    depth: int | None = None
    heads: int | None = None
    patch_size: int | None = None
    img_size: int | None = None
    layer_norm: str = "shared"
    freeze_patch: bool = True
    zero_init_residual: bool = True
    hidden: int = 4096
    inner_hidden: int = 2048
    out_dim: int = 256
    projector_layers: int = 3
    inner_layers: int = 3
    predictor_layers: int = 2
    hidden_bn: bool = True
    output_bn: bool | None = None
    predictor_output_bn: bool | None = None
    temperature: float = 0.2
    two_tau: bool | None = None
    isd: bool = True
    pred: str | None = None
    alpha_max: float = 1.0
    alpha_schedule: str = "cosine"
    beta: float = 1.0
    every_n: int = 1
    gather_gradient: str = "full"
    ema_start: float = 0.99
    ema_timing: str = "after"
    teacher_bn: str = "batch"
    evaluate: str | None = None
    optimizer: str = "adamw"
    base_lr: float = 1.5e-4
    batch_size: int = 1024
    weight_decay: float = 0.1
    decay_scope: str = "all"
    warmup_epochs: float = 40
    warmup_rule: str = "linear"
    epochs: int = 300
    stop_epoch: int | None = None
    accumulate: int = 1
    mixed_precision: str = "no"
    views: str = "mocov3"
    crop_min: float = 0.08
    device_views: bool = False
    data: str | None = None
    data_root: str | None = None
    limit: int | None = None
    num_workers: int = 4
    shuffle_buffer: int = 1024
    seed: int = 0
    save_every: int = 10
    keep: int = 2
    log_every: int = 20
    log_with: str | None = None
    knn: str | None = None
    knn_every: int = 10
    collapse_every: int = 100

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return asdict(self)


CHOICES: dict[str, tuple[str, ...]] = {
    "recipe": ("paper", "code", "mocov3"),
    "method": ("simclr", "byol", "mocov3"),
    "layer_norm": ("shared", "per-layer"),
    "pred": ("all", "last", "none"),
    "alpha_schedule": ("cosine", "const"),
    "gather_gradient": ("full", "local"),
    "ema_timing": ("before", "after"),
    "teacher_bn": ("batch", "running"),
    "evaluate": ("student", "teacher"),
    "optimizer": ("adamw", "lars"),
    "decay_scope": ("all", "matrices"),
    "warmup_rule": ("linear", "linspace"),
    "mixed_precision": ("no", "bf16", "fp16"),
    "views": ("mocov3", "small"),
    "log_with": ("tensorboard", "wandb"),
}
VIT_ONLY = ("dim", "depth", "heads", "patch_size")
PANELS = {
    "preset": "Method and recipe",
    "arch": "Architecture and heads",
    "temperature": "Losses and self-distillation",
    "ema_start": "Teacher",
    "optimizer": "Optimisation",
    "views": "Data and views",
    "seed": "Run",
}
"""First setting of each group -> the group's title, in the order of the fields."""


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def documentation() -> dict[str, str]:
    """What each setting is, as a sentence, from the configuration's docstring."""
    texts: dict[str, str] = {}
    name = ""
    for line in (PretrainConfig.__doc__ or "").splitlines():
        head, colon, rest = line.strip().partition(": ")
        if colon and line.startswith(" " * 8) and not line.startswith(" " * 9):
            name = head
            texts[name] = rest[0].upper() + rest[1:]
        elif line.startswith(" " * 12):
            texts[name] += f" {line.strip()}"
    return texts


def differences(mine: PretrainConfig, other: dict[str, Any]) -> list[str]:
    """Settings in which a stored configuration differs, of those that change what is trained."""
    mine_values = mine.to_json()
    return [
        f"{flag(f.name)} {other.get(f.name)!r} -> {mine_values[f.name]!r}"
        for f in fields(mine)
        if f.name not in _FREE and mine_values[f.name] != other.get(f.name)
    ]


_FREE = frozenset(
    [
        "data",
        "data_root",
        "num_workers",
        "save_every",
        "keep",
        "log_every",
        "log_with",
        "knn",
        "knn_every",
        "stop_epoch",
    ]
)
"""What a resumed run may change without becoming another run (num_workers: image folders only)."""
