"""MoCo v3 and SD-MoCo v3 trained for real: 12 layers, 32-px images, patch 4, views on the device.

    python benchmarks/gpu/pair.py --seconds 600 --data cifar10 --data-root /data --out pair --rows rows.json

Both train side by side until they end or the seconds are used up; the same command goes on. Alone, either
leaves most of a large card idle: its network is small, and the card waits for launches. Both networks are
then exported at the last epoch that both have reached, in half precision and below 16 MiB, and scored
layer by layer from these files. Exit code 75 says that training has not come to its end.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sdssl_bench.pretrain.study.runs import Run, runs  # noqa: E402

SCALES = {"full": "gpu", "toy": "toy"}
"""Size of the kit -> scale of the study, whose first pair this is."""
UNFINISHED = 75
MOST_BYTES = 16 * 2**20
RESERVE = 60.0
"""Seconds kept for exports and scores."""


def command(run: Run, options: argparse.Namespace) -> list[str]:
    """Pretraining's; a toy too makes its views on the device."""
    found = [sys.executable, str(ROOT / "pretrain" / "main.py"), *run.arguments()]
    found += ["--device-views", "--resume", "auto", "--data", options.data]
    found += ["--out", str(options.out / run.name)]
    return found + (["--data-root", str(options.data_root)] if options.data_root else [])


def train(commands: list[list[str]], deadline: float, device: str) -> bool:
    """Whether all came to their end before the deadline; else the others have saved themselves."""
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    started = [subprocess.Popen(one, env={**os.environ, **hidden}) for one in commands]
    told = False
    try:
        for run in started:
            run.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        told = True
    finally:
        for run in started:
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
        codes = [run.wait() for run in started]
    for code in codes:
        if code not in ((0, 128 + signal.SIGTERM) if told else (0,)):
            raise SystemExit(code)
    return not any(codes)


def epochs(out: Path) -> dict[int, Path]:
    """The encoders of whole epochs that a run has written."""
    names = ((re.fullmatch(r"epoch-0*(\d+)\.000\.safetensors", path.name), path)
             for path in (out / "encoders").glob("*.safetensors"))  # fmt: skip
    return {int(match[1]): path for match, path in names if match}


def export(source: Path, target: Path) -> int:
    """The same encoder in half precision; bytes."""
    from sdssl_bench.pretrain.run.exports import halve

    halve(source, target)
    size = target.stat().st_size
    if size >= MOST_BYTES:
        raise SystemExit(f"{target} has {size:,} bytes; an export must stay below {MOST_BYTES:,}.")
    return size


def rates(out: Path) -> list[float]:
    """Images per second of the log's lines."""
    if not (out / "log.jsonl").exists():
        return []
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["images_per_second"] for line in lines if "images_per_second" in line]


def results(pair: list[Run], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Exports and their scores, at the last epoch that both have."""
    from sdssl_bench import api

    reached = {run.name: epochs(options.out / run.name) for run in pair}
    common = sorted(set.intersection(*map(set, reached.values())))
    rows = [{"what": f"pretraining {name} on {options.data}", "value": statistics.median(found),
             "unit": "images/s", "note": "with the loader"}
            for name in reached if (found := rates(options.out / name))]  # fmt: skip
    if not common:
        return rows
    last = pair[0].config().epochs
    for name, encoders in reached.items():
        target = options.out / f"{name}-epoch{common[-1]}-fp16.safetensors"
        size = export(encoders[common[-1]], target)
        record = api.evaluate(
            api.load_encoder(str(target)),
            "knn",
            options.data,
            data_root=options.data_root,
            cache_dir=options.out / "cache",
            device=options.device,
        )
        scores = {n: e["metrics"][record["headline"]] for n, e in record["layers"].items()}
        note = (
            f"epoch {common[-1]} of {last}; {target.name}, {size / 2**20:.1f} MiB; by layer "
            + " ".join(f"{100 * score:.1f}" for score in scores.values())
        )
        variant = record["dataset"]["variant"]
        rows.append({"what": f"k-NN of {name}, last layer, {options.data} ({variant})",
                     "value": 100 * list(scores.values())[-1], "unit": "%", "note": note})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", default="full", choices=("full", "toy"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    options = parser.parse_args()
    # The run in progress is told too, and saves itself: that is waited for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.size == "toy" and options.data_root is None:
        from sdssl_bench.datasets.mini.make import make_mini

        options.data_root = options.out / "mini"
        make_mini(options.data_root, names=["cifar10"])
    deadline = time.monotonic() + options.seconds - (RESERVE if options.size == "full" else 0)
    pair = runs(SCALES[options.size], "[ms]*ocov3-s0")
    missing = [run for run in pair if run.config().epochs not in epochs(options.out / run.name)]
    finished = not missing or (
        time.monotonic() < deadline
        and train([command(run, options) for run in missing], deadline, options.device)
    )
    options.rows.write_text(json.dumps(results(pair, options)))
    sys.exit(0 if finished else UNFINISHED)


if __name__ == "__main__":
    main()
