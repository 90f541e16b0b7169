"""A lab's folder of results: leaderboard, page, and what one more encoder costs.

    python benchmarks/many_results.py --out DIR [--encoders 1000] [--layers 12] [--distinct 40] [--share 1]

Makes (once; a folder that is there is used again) records of 16 benchmarks for each encoder, with items of
the true sizes (50,000 of ImageNet), and what `run` keeps beside them. Items and scores come from so many
distinct encoders; the others have the same under names of their own. Prints seconds on the clock, those of
processors (a quiet machine's clock shows the same, every command has one thread), peak memory and sizes:

leaderboard      first (ranks are tested) and again (targets: 15 s and 5 s)
report           the page (targets: 30 s, below 10 MB)
one more encoder between half of them and all, against reading its JSON (target: at most 5 times)
old records      of before anything was kept beside them: once per encoder
memory           of any of these (target: below 1 GB)
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.records import ResultStore, content_digest, items_path, record_key
from sdssl_bench.records.identity import Record
from sdssl_bench.statistics.derived import derive, kept_path, kept_text, source_of

ENVIRONMENT = {
    "sdssl_bench": "0.1.0", "python": "3.11.7", "packages": {"torch": "2.6.0", "numpy": "2.1.0"},
    "faiss": "1.15.1", "git": None, "platform": "Linux-x86_64", "device": "cuda: NVIDIA H100",
    "processes": 8,
}  # fmt: skip
SETS = {
    "imagenet": (50_000, 1000), "cifar10": (10_000, 10), "cifar100": (10_000, 100),
    "flowers": (6_149, 102), "pets": (3_669, 37), "cub": (5_794, 200), "cars": (8_041, 196),
    "dogs": (8_580, 120),
}  # fmt: skip
MEAN_PER_CLASS = ("flowers", "pets")
LINEAR = ("imagenet", "cifar10", "cifar100", "flowers", "pets")
QUERIES = {"roxford5k": 70, "rparis6k": 70}
SEQUENCES = 30
Layer = tuple[dict[str, float], dict[str, NDArray[Any]]]


def classified(
    task: str, name: str, skill: float, layers: int, seed: int, share: float
) -> list[Layer]:
    """Layers of k-NN or a probe: a share of items right that grows with the layers."""
    items, classes = SETS[name]
    items = max(2 * min(classes, 20), int(items * share))
    target = np.arange(items) % min(classes, items // 2)
    level = np.random.default_rng(len(name)).random(items)
    noise = np.random.default_rng(seed).random(items)
    counts = np.bincount(target)
    found = []
    for layer in range(1, layers + 1):
        threshold = 0.2 + 0.6 * skill * (layer / layers) ** 0.5
        metrics: dict[str, float] = {}
        arrays: dict[str, NDArray[Any]] = {"index": np.arange(items), "target": target}
        for k in (10, 20, 100, 200) if task == "knn" else (0,):
            correct = 0.8 * level + 0.2 * noise < threshold - k / 4000
            prefix = f"k{k}/" if k else ""
            arrays[f"{prefix}correct"] = correct
            metrics[f"{prefix}top1"] = float(correct.mean())
            per_class = np.bincount(target, weights=correct) / counts
            metrics[f"{prefix}mean_per_class"] = float(per_class.mean())
            metrics[f"{prefix}top5"] = float(min(items, correct.sum() + items // 20) / items)
        found.append((metrics, arrays))
    return found


def retrieved(name: str, skill: float, layers: int, seed: int) -> list[Layer]:
    generator, queries = np.random.default_rng(seed), QUERIES[name]
    found = []
    for layer in range(1, layers + 1):
        ap = {d: generator.beta(1 + 3 * skill * layer / layers, hard, queries)
              for d, hard in (("E", 1.0), ("M", 2.0), ("H", 5.0))}  # fmt: skip
        metrics = {f"{d}/mAP": float(one.mean()) for d, one in ap.items()}
        arrays = {"index": np.arange(queries), **{f"{d}/ap": one for d, one in ap.items()}}
        found.append((metrics, arrays))
    return found


def segmented(skill: float, layers: int, seed: int) -> list[Layer]:
    generator = np.random.default_rng(seed)
    objects = np.array([f"video{s}_{k}" for s in range(SEQUENCES) for k in range(1, 2 + s % 3)])
    found = []
    for layer in range(1, layers + 1):
        j, f = (generator.beta(1 + 4 * skill * layer / layers, 2, len(objects)) for _ in "JF")
        metrics = {"J&F-Mean": float((j.mean() + f.mean()) / 2), "J-Mean": float(j.mean()),
                   "F-Mean": float(f.mean())}  # fmt: skip
        found.append((metrics, {"object": objects, "J": j, "F": f}))
    return found


def benchmarks(
    skill: float, layers: int, seed: int, share: float
) -> list[tuple[str, str, str, str, list[Layer]]]:
    """(task, dataset, protocol, headline, layers) of an encoder."""
    found = []
    for task, names in (("knn", tuple(SETS)), ("linear", LINEAR)):
        for name in names:
            metric = "mean_per_class" if name in MEAN_PER_CLASS else "top1"
            headline = f"k20/{metric}" if task == "knn" else metric
            protocol = "knn/dino" if task == "knn" else "linear/logreg"
            made = classified(task, name, skill, layers, seed, share)
            found.append((task, name, protocol, headline, made))
    for name in QUERIES:
        found.append(
            ("retrieval", name, "retrieval/dino", "M/mAP", retrieved(name, skill, layers, seed))
        )
    return [*found, ("davis", "davis", "davis/dino", "J&F-Mean", segmented(skill, layers, seed))]


def record_of(
    encoder: int, task: str, name: str, protocol: str, headline: str, layers: list[Layer]
) -> Record:
    weights = hashlib.sha256(f"encoder {encoder}".encode()).hexdigest()
    record: Record = {
        "schema_version": 1,
        "task": task,
        "protocol": {
            "id": protocol, "version": 1, "parameters": {"ks": [10, 20, 100, 200], "temperature": 0.07},
            "digest": hashlib.sha256(protocol.encode()).hexdigest()[:16],
            "resolved": {"resize": 256, "crop": 224},
        },
        "dataset": {
            "name": name, "variant": "official", "fingerprint": hashlib.sha256(name.encode()).hexdigest(),
            "splits": {"train": 100_000, "test": 50_000}, "details": {},
        },
        "model": {
            "name": f"encoder_{encoder:04d}_vit_s16", "uri": f"runs/{encoder}/encoder.safetensors",
            "format": "sdssl-bench", "network": "teacher", "arch": "vit_small_patch16",
            "weights_sha256": weights, "file_sha256": weights, "pretrained": True,
            "details": {"heads": 6, "width": 384}, "norm": "shared", "depth": len(layers),
        },
        "headline": headline, "limited": None,
        "settings": {"dtype": "float32", "bank_dtype": "float32", "seed": 0, "on_bad_image": "error"},
        "environments": [ENVIRONMENT],
        "layers": {
            str(layer): {
                "metrics": metrics, "n": len(next(iter(arrays.values()))), "notes": {},
                "items": sorted(arrays),
                "seconds": {"load": 10.25, "forward": 30.5, "search": 1.125, "vote": 0.25},
                "scored_at": "2026-01-02T03:04:05+00:00", "environment": 0,
            }
            for layer, (metrics, arrays) in enumerate(layers, 1)
        },
    }  # fmt: skip
    return {**record, "key": record_key(record), "digest": content_digest(record)}


def write(store: ResultStore, record: Record, items: Path | None, layers: list[Layer]) -> Path:
    """A record, its items (linked where another encoder has the same) and what is kept beside it."""
    path = store.path(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    if items is None:
        arrays = {f"layer{n:02d}/{name}": values for n, (_, found) in enumerate(layers, 1)
                  for name, values in found.items()}  # fmt: skip
        np.savez_compressed(items_path(path), allow_pickle=False, **arrays)
        derive(path, record)
    else:
        os.link(items_path(items), items_path(path))
        head, *rest = map(json.loads, kept_path(items).read_bytes().split(b"\n")[1:])
        (at,) = head["record"]["layers"]
        own = {
            **head,
            "source": source_of(path, path.read_bytes()),
            "record": {**record, "layers": {at: record["layers"][at]}},
        }
        kept_path(path).write_bytes(kept_text([own, *rest]))
    return path


def make(root: Path, encoders: range, *, distinct: int, layers: int, share: float) -> None:
    store = ResultStore(root)
    for first in range(min(distinct, len(encoders))):
        like = [e for e in encoders if e % distinct == (encoders.start + first) % distinct]
        seed = like[0] % distinct
        for *what, made in benchmarks(0.3 + 0.6 * seed / distinct, layers, seed, share):
            items: Path | None = None
            for encoder in like:
                path = write(store, record_of(encoder, *what, made), items, made)
                items = items or path
        print(
            f"\rmade {first + 1} of {min(distinct, len(encoders))} distinct encoders",
            end="",
            flush=True,
        )
    print()


def link(whole: Path, part: Path, encoders: int) -> None:
    """The results of the first encoders in a folder of their own; writing there replaces links."""
    for folder in sorted((whole / "runs").glob("[!.]*"))[:encoders]:
        target = part / "runs" / folder.name
        target.mkdir(parents=True)
        for path in folder.iterdir():
            os.link(path, target / path.name)


def timed(label: str, *arguments: object, code: int = 0) -> float:
    """Processor seconds of a command; printed with those of the clock and its peak memory."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "sdssl_bench", *map(str, arguments)]
    with tempfile.TemporaryFile() as log:
        both = [(os.POSIX_SPAWN_DUP2, log.fileno(), n) for n in (1, 2)]
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=both)
        _, status, used = os.wait4(pid, 0)
        log.seek(0)
        said = log.read().decode()
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != code:
        raise SystemExit(f"{' '.join(command)}: {said[-2000:]}")
    processor = used.ru_utime + used.ru_stime
    memory = used.ru_maxrss / 2**10
    print(f"{label:<34} {seconds:7.1f} s {processor:7.1f} {memory:7.0f} MiB", flush=True)
    return processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("many_results"))
    parser.add_argument("--encoders", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--distinct", type=int, default=40)
    parser.add_argument("--share", type=float, default=1.0, help="of every test set's items")
    arguments = parser.parse_args()
    shape = {"distinct": arguments.distinct, "layers": arguments.layers, "share": arguments.share}
    half, whole = arguments.encoders // 2, arguments.out / "all"
    if not whole.exists():
        make(whole, range(arguments.encoders), **shape)
    part = arguments.out / "half"
    if not part.exists():
        link(whole, part, half)
    for root in (part, whole):
        (root / "runs" / ".ranks").unlink(missing_ok=True)
    files = ResultStore(whole).files()
    started = time.process_time()
    for path in files:
        json.loads(path.read_bytes())
    reading = (time.process_time() - started) / arguments.encoders
    total = sum(path.stat().st_size for path in files) / 2**20
    print(
        f"{len(files):,} records, {total:,.0f} MiB of JSON, {1000 * reading:.1f} ms to read an encoder's"
    )
    timed("leaderboard of half, first", "leaderboard", arguments.out / "half")
    small = timed("leaderboard of half, again", "leaderboard", arguments.out / "half")
    timed("leaderboard, first (target 15 s)", "leaderboard", whole)
    large = timed("leaderboard, again (target 5 s)", "leaderboard", whole)
    more = (large - small) / max(1, arguments.encoders - half)
    print(
        f"one more encoder: {1000 * more:.1f} ms, {more / reading:.1f} times its JSON (target: 5)"
    )
    page = arguments.out / "page"
    timed("report (target 30 s)", "report", whole, "--out", page)
    print(f"page: {(page / 'index.html').stat().st_size / 1e6:.1f} MB (target: 10)")
    old = [
        kept_path(path) for path in files if f"encoder_{arguments.encoders - 1:04d}" in str(path)
    ]
    for kept in old:
        kept.unlink()
    timed("leaderboard, one encoder is old", "leaderboard", whole)


if __name__ == "__main__":
    main()
