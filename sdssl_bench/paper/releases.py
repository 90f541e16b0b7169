"""Released checkpoints: where their authors publish them, which numbers, and what measures the same here.

Addresses and digests as the releases' own READMEs state them (dino 7c446df, ibot da316d8, dinov2, dinov3,
mae, moco-v3's CONFIG.md); the numbers are those of results/reference/published.csv. Where a protocol of this
suite is not the release's to the last setting, `differs` says in what.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sdssl_bench.errors import UsageError, did_you_mean

_META, _IBOT = (
    "https://dl.fbaipublicfiles.com",
    "https://lf3-nlp-opensource.bytetos.com/obj/nlp-opensource/archive/2022/ibot",
)


@dataclass(frozen=True)
class Release:
    """One checkpoint that anybody may download.

    Attributes:
        name: what it is asked for by.
        method: key of `MATCHES`.
        model, arch: as in published.csv.
        weights: address of its file, or hf:ORG/NAME.
        md5: beginning of the file's digest, where its authors state one.
        gated: whether its authors let it be downloaded only after they agreed.
        others: settings in published.csv that belong to other weights of that model.
    """

    name: str
    method: str
    model: str
    arch: str
    weights: str
    md5: str = ""
    gated: bool = False
    others: tuple[str, ...] = ()

    @property
    def record_name(self) -> str:
        """The model's in records of its published weights."""
        return self.weights.removeprefix("hf:") if self.weights.startswith("hf:") else self.name

    @property
    def published_at(self) -> str:
        """Where its weights are, and what is known of the file."""
        known = f"md5 {self.md5}..." if self.md5 else "its authors state no digest"
        agreed = "gated: accept its licence on the hub, then `hf auth login`"
        return f"{self.weights} ({agreed if self.gated else known})"

    def fits(self, arch: str) -> bool:
        """Whether an architecture of this suite's or timm's is this release's.

        >>> release("mocov3_vits16").fits("vit_small_patch16_heads12")
        True
        """
        size, patch = {"S": "small", "B": "base"}[self.arch[4]], self.arch.rpartition("/")[2]
        return re.search(rf"_{size}_p(atch)?{patch}(?!\d)", arch) is not None


def _dino(name: str, arch: str, file: str) -> Release:
    return Release(name, "DINO", "DINO", arch, f"{_META}/dino/dino_{file}/dino_{file}.pth")


def _mocov3(size: str, arch: str) -> Release:
    url = f"{_META}/moco-v3/vit-{size}-300ep/vit-{size}-300ep.pth.tar"
    return Release(f"mocov3_vit{size}16", "MoCo v3", "MoCo v3 300ep", arch, url)


def _dinov2(size: str, arch: str) -> Release:
    name = f"dinov2_vit{size}14"
    return Release(name, "DINOv2", "DINOv2", arch, f"{_META}/dinov2/{name}/{name}_pretrain.pth")


def _dinov3(size: str, arch: str) -> Release:
    weights = f"hf:facebook/dinov3-vit{size}16-pretrain-lvd1689m"
    return Release(f"dinov3_vit{size}16", "DINOv3", "DINOv3", arch, weights, gated=True)


RELEASES = (
    _dino("dino_vits16", "ViT-S/16", "deitsmall16_pretrain"),
    _dino("dino_vits8", "ViT-S/8", "deitsmall8_pretrain"),
    _dino("dino_vitb16", "ViT-B/16", "vitbase16_pretrain"),
    _dino("dino_vitb8", "ViT-B/8", "vitbase8_pretrain"),
    _mocov3("s", "ViT-S/16"),
    _mocov3("b", "ViT-B/16"),
    Release(
        *("ibot_vits16", "iBOT", "iBOT 800ep", "ViT-S/16"),
        f"{_IBOT}/vits_16/checkpoint_teacher.pth",
    ),
    Release(
        *("ibot_vitb16", "iBOT", "iBOT", "ViT-B/16", f"{_IBOT}/vitb_16/checkpoint_teacher.pth"),
        others=("random masking",),
    ),
    Release(
        *(
            "mae_vitb16",
            "MAE",
            "MAE",
            "ViT-B/16",
            f"{_META}/mae/pretrain/mae_pretrain_vit_base.pth",
        ),
        md5="8cad7c",
        others=("CLS; paper (TensorFlow)",),
    ),
    _dinov2("s", "ViT-S/14"),
    _dinov2("b", "ViT-B/14"),
    _dinov3("s", "ViT-S/16"),
    _dinov3("b", "ViT-B/16"),
)

NEIGHBOURS = ("k20/top1", "k10/top1", "k100/top1", "k200/top1")
"""DINO and DINOv2 report the best k of these, those of DINO's script; of equal ones the first is shown."""
BEST_EPOCH = "they report the best epoch on the test images, ours is the last"
MATCHES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "DINO": {
        "knn": ("dino", ""),
        "linear": ("dino", BEST_EPOCH),
        "retrieval": ("dino", ""),
        "davis": ("dino", ""),
        "finetune": ("paper", "they follow DeiT, ours follows MoCo v3, which changed it"),
    },
    "MoCo v3": {
        "linear": ("mocov3", BEST_EPOCH),
        "finetune": ("paper", "not all of their settings are stated"),
    },
    "iBOT": {
        "knn": ("dino", "which k they took is not stated, ours is the best"),
        "linear": ("dino", "they sweep the rate, ours is DINO's one rate"),
        "finetune": ("paper", "their rates decay from layer to layer, ours do not"),
    },
    "MAE": {
        "linear": (
            "mocov3",
            "they train with LARS and a batch norm on [CLS], ours is MoCo v3's probe on the mean patch token",
        ),
        "finetune": ("paper", "their rates decay from layer to layer, ours do not"),
    },
    "DINOv2": {
        "knn": ("dino", ""),
        "linear": ("dinov2", "their head is chosen on the test images, ours on images of train"),
        "retrieval": ("dino", "the size of their images is not stated"),
    },
    "DINOv3": {
        "retrieval": ("dino", "DINOv3 has a protocol of its own"),
        "davis": ("dino", "DINOv3 has a protocol of its own"),
    },
}
"""Method -> task -> the protocol here that measures the same, and in what it is not quite that."""
ALWAYS = ("knn", "imagenet")
"""Measured of every release, published or not: one curve over layers that all of them have."""
TRAINED = ("finetune",)
"""Trains the encoder anew for each layer: done where it is asked for, of the last layer."""
OTHERWISE = {
    "train bank:": "needs SimCLR's 1 % list: sdssl-bench run -t knn -d imagenet --subset 1percent.txt",
    "224 px": "at 224 px, DINO's script has 320",
}
"""Beginning of a setting that no protocol here has -> why its number is not measured."""
COPIES = (
    "needs distractors and whitening images that nobody published: sdssl-bench run -t copydays "
    "--distractors DIR --whitening DIR"
)


def release(name: str) -> Release:
    """A release by its name.

    Raises:
        UsageError: for an unknown one.
    """
    known = {one.name: one for one in RELEASES}
    if name not in known:
        raise UsageError(did_you_mean("released checkpoint", name, [*known, "all"]))
    return known[name]
