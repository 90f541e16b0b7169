"""Opening a checkpoint file against `torch.load(mmap=True)`; ViT-B/16 as torch.save writes it.

    python benchmarks/opening.py
    python benchmarks/opening.py --arch vit_tiny_p8_32 --repeats 2      short

Target: at most 0.5 x the time. Both give every tensor without reading its data; the digest of the file,
which `load` takes besides, is apart. The two take turns, the ratio is that of the medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sdssl_bench import encoders
from sdssl_bench.checkpoints import file_sha256
from sdssl_bench.checkpoints.files import read_file


def contents(arch: str, optimizer: bool) -> dict[str, Any]:
    """What a training run saves: weights, and the two moments of AdamW for each of them."""
    model = encoders.build(arch)
    found: dict[str, Any] = {"model": model.backbone_state(), "epoch": 300}
    if optimizer:
        trainer = torch.optim.AdamW(model.parameters())
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        trainer.step()
        found["optimizer"] = trainer.state_dict()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="vit_base_p16")
    parser.add_argument("--optimizer", action="store_true", help="save AdamW's state, too")
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        torch.save(contents(args.arch, args.optimizer), path)
        ways: dict[str, Callable[[], Any]] = {
            "torch.load(mmap=True)": lambda: torch.load(
                path, map_location="cpu", mmap=True, weights_only=True
            ),
            "this suite": lambda: read_file(path).content,
        }
        theirs, ours = (way()["model"] for way in ways.values())
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        file_sha256(path)
        digest = time.perf_counter() - started
        size = path.stat().st_size / 1e6
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{args.arch}, {len(theirs)} tensors, {size:.1f} MB")
    for name, median in medians.items():
        print(f"{name:22} {1000 * median:7.2f} ms")
    print(f"{'digest of the file':22} {1000 * digest:7.2f} ms")
    before, after = medians.values()
    print(f"ratio {after / before:.3f} (target at most 0.5)")


if __name__ == "__main__":
    main()
