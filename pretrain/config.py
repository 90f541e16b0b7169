"""Every setting of a pretraining run; `checks` proves that it can be done as asked.

A configuration is a preset of a recipe plus what the user changes; `presets.resolve` makes it, the
run stores it, and a run is resumed with the very same one.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class PretrainConfig:
    """All settings; names are those of the flags. Sources: protocols 7.1 to 7.6.

    Attributes:
        preset: row of `presets.PRESETS` this started from.
        recipe: "paper" | "code" | "mocov3", whose choices fill what they disagree about.
        method: "simclr" | "byol" | "mocov3".
        sd: self-distillation of intermediate layers.
        arch: name for `backbones.build`.
        dim, depth, heads, patch_size, img_size: changes of a ViT; None is the architecture's own.
        layer_norm: "shared" final norm, or one "per-layer" (ViT).
        freeze_patch: the random patch projection of a ViT is not trained.
        hidden: width in the last projector and all predictors.
        inner_hidden: width in the intermediate projectors.
        out_dim: width of embeddings.
        projector_layers: depth of the last projector.
        inner_layers: depth of the intermediate projectors; 0 is none (Table 6).
        predictor_layers: depth of predictors.
        hidden_bn: batch-norm in hidden layers of heads.
        output_bn: batch-norm after projectors and predictors; None is the method's (absent in BYOL).
        predictor_output_bn: after predictors; None is as output_bn.
        temperature: tau.
        two_tau: InfoNCE times 2 tau; None is the method's (MoCo v3 yes, SimCLR no).
        isd: L_isd counts (Table 5).
        pred: layers of L_pred, "all" | "last" | "none"; None is all with sd, else none.
        alpha_max: final weight of L_isd.
        alpha_schedule: "cosine" | "const" (no ratio annealing, Table 5).
        beta: weight of L_pred (Fig. 9).
        every_n: distil layers l with (L - l) divisible by it (Table 6).
        gather_gradient: SimCLR's keys of other processes carry "full" | "local" gradients.
        ema_start: momentum of the teacher at step 0; it rises to 1.
        ema_timing: teacher moves "before" keys are computed or "after" the optimizer's step.
        teacher_bn: batch-norm of the teacher, "batch" | "running" statistics.
        evaluate: network the checkpoint holds, "student" | "teacher"; None is the recipe's.
        optimizer: "adamw" | "lars".
        base_lr: learning rate per 256 images.
        batch_size: images per optimizer step over all processes.
        weight_decay: decoupled for AdamW.
        decay_scope: "all" parameters or "matrices" only (nothing of one dimension).
        warmup_epochs: of the learning rate.
        warmup_rule: "linear" (MoCo v3) | "linspace" (SDSSL authors).
        epochs: length that all schedules are laid out for.
        stop_epoch: train only so long (the authors' ablations: 100 of 300).
        accumulate: slices per optimizer step; the contrastive loss still sees the whole batch.
        mixed_precision: "no" | "bf16" | "fp16".
        views: "mocov3" | "small" (32 px, no blur).
        crop_min: smallest area of a random crop.
        device_views: colour, blur and solarisation on the device, in batch.
        data: folder, dataset name, or shards "x/{000..146}.tar".
        data_root: where named datasets are.
        num_workers: loader processes per training process.
        shuffle_buffer: images a worker shuffles among when it reads shards.
        seed: of everything random.
        save_every: epochs between checkpoints.
        keep: resumable checkpoints kept.
        log_every: steps between log lines.
        log_with: "tensorboard" | "wandb" through accelerate; None is the JSON-lines log alone.
        knn: dataset for all-layer k-NN during training, e.g. "cifar10" or "folder:PATH".
        knn_every: epochs between these.
        collapse_every: steps between looks at the features' spread.
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


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


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
