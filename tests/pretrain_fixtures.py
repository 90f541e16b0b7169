"""Tiny images and a tiny configuration for tests of pretraining."""

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdssl_bench.pretrain.run.config import PretrainConfig
from sdssl_bench.pretrain.run.presets import resolve

MAIN = Path(__file__).resolve().parents[1] / "pretrain" / "main.py"
SETTINGS: dict[str, Any] = {
    "dim": 16,
    "depth": 3,
    "heads": 2,
    "hidden": 16,
    "inner_hidden": 12,
    "out_dim": 8,
    "batch_size": 8,
    "epochs": 2,
    "warmup_epochs": 1,
    "num_workers": 0,
    "log_every": 1,
    "collapse_every": 1000,
    "base_lr": 0.05,
    "save_every": 1,
    "mixed_precision": "no",
}


def image(number: int, size: tuple[int, int] = (40, 36)) -> Image.Image:
    """Blobs of colour, different for every number."""
    values = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def make_images(folder: Path, count: int) -> Path:
    """A folder of PNG files."""
    folder.mkdir(parents=True)
    for number in range(count):
        image(number).save(folder / f"{number:03d}.png")
    return folder


def make_shards(folder: Path, sizes: list[int]) -> str:
    """WebDataset shards; returns their pattern. Image n is `image(n)`."""
    folder.mkdir(parents=True)
    number = 0
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for _ in range(size):
                stream = BytesIO()
                image(number).save(stream, "PNG")
                for ending, data in ((".png", stream.getvalue()), (".cls", b"0")):
                    info = tarfile.TarInfo(f"{number:06d}{ending}")
                    info.size = len(data)
                    tar.addfile(info, BytesIO(data))
                number += 1
    return f"{folder}/{{000..{len(sizes) - 1:03d}}}.tar"


def tiny(method: str = "sd_mocov3", recipe: str = "paper", **changes: Any) -> PretrainConfig:
    """A configuration that trains in a second."""
    return resolve(f"{method}_vit_tiny_p8", recipe, **{**SETTINGS, **changes})


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The run's JSON lines that report a loss."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def command_line(config: dict[str, Any]) -> list[str]:
    """Settings as pretraining's command line takes them."""
    flags: list[str] = ["--preset", "sd_mocov3_vit_tiny_p8"]
    for name, value in config.items():
        flag = name.replace("_", "-")
        flags += (
            [f"--{'' if value else 'no-'}{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", str(value)]
        )
    return flags
