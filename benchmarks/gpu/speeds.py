"""Speeds on a card, as ratios measured in one run; a part is a process of its own.

    python benchmarks/gpu/speeds.py knn --device cuda --size full --rows rows.json

What is compared runs in turn, so that whatever else the machine does hits all alike. Each part takes
what `benchmarks/*.py` measure on a CPU and adds no measurement of its own where one of them has it.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from processor import cpu  # noqa: E402
from timing import Row, autocast, in_turn, ratio, row, seconds_of  # noqa: E402

ARCHITECTURES = {
    "full": (("ViT-S/16", "vit_small_patch16_224"), ("ViT-B/16", "vit_base_patch16_224")),
    "toy": (("ViT-Ti/16", "vit_tiny_patch16_224"),),
}


def layers(device: str, size: str) -> Iterator[Row]:
    """All layers' class tokens against the bare model."""
    from layers import forms

    batch, repeats = (256, 10) if size == "full" else (2, 1)
    for title, name in ARCHITECTURES[size]:
        runs = forms(batch, name=name, device=device)
        for dtype in ("float32", "bfloat16"):
            with torch.inference_mode(), autocast(device, dtype):
                found = in_turn({k: runs[k] for k in ("bare", "layers")}, repeats, device)
            label = f"{title}, {dtype}, batch {batch}"
            yield row(
                f"12 layers / bare forward, {label}", ratio(found["layers"], found["bare"]), "x"
            )
            rate = batch / statistics.median(found["layers"])
            yield row(f"12 layers, {label}", rate, "images/s", "forward alone")


def extraction(device: str, size: str) -> Iterator[Row]:
    """A whole extraction from JPEGs, and its forward passes alone."""
    import timm
    from pretrain_views import make_jpegs

    from sdssl_bench import api, datasets
    from sdssl_bench.datasets.transforms import preprocess
    from sdssl_bench.features.extraction import extract
    from sdssl_bench.task import RunContext

    drawn, copies = (512, 8) if size == "full" else (4, 2)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        one, other = root / "set" / "train" / "a", root / "set" / "train" / "b"
        one.mkdir(parents=True)
        make_jpegs(one, drawn)
        for path in list(one.iterdir()):
            for copy in range(1, copies):
                (one / f"{path.stem}-{copy}.jpg").symlink_to(path)
        shutil.copytree(one, other, symlinks=True)
        shutil.copytree(root / "set" / "train", root / "set" / "test", symlinks=True)
        data: Any = datasets.load(f"folder:{root / 'set'}", data_root=None)
        for title, name in ARCHITECTURES[size]:
            encoder = api.as_encoder(timm.create_model(name, num_classes=0).eval())
            for dtype in ("float32", "bfloat16"):
                for warm in (True, False):
                    ctx = RunContext(
                        data_root=None,
                        cache_dir=root / f"cache-{name}-{dtype}-{warm}",
                        device=device,
                        dtype=dtype,
                        limit=512 if warm else None,
                    )
                    wanted = range(1, encoder.depth + 1)
                    bank = extract(
                        encoder, data.train, wanted, preprocess=preprocess("A", 224), ctx=ctx
                    )
                spent, count = bank.seconds, len(bank.targets)
                alone = spent["forward"] + spent["transfer"]
                label = f"{title}, {dtype}"
                yield row(f"extraction from JPEGs, {label}", count / spent["total"], "images/s",
                          f"{count:,} images of 500 x 375")  # fmt: skip
                yield row(f"extraction without the loader, {label}", count / alone, "images/s")
                yield row(f"forward's share of extraction, {label}", alone / spent["total"], "of 1")


def knn(device: str, size: str) -> Iterator[Row]:
    """ImageNet-sized search by torch and by faiss, whole and the search alone, against products alone."""
    from importlib.util import find_spec

    import numpy as np
    from knn import clustered

    from sdssl_bench.neighbors.exact import top_k
    from sdssl_bench.neighbors.search import choose_search, faiss_has_gpu, full_precision

    rows, queries, width = (1_281_167, 50_000, 384) if size == "full" else (2000, 100, 16)
    bank, asked = clustered(rows, width, seed=1)[0], clustered(queries, width, seed=2)[0]
    backends = ["torch"]
    if find_spec("faiss") is not None and (device == "cpu" or faiss_has_gpu()):
        backends.append("faiss")
    chunk, block = bank[: 128 * 2**20 // (4 * width)], asked[:16_384]
    place = torch.device(device)
    left, right = (torch.from_numpy(x).to(place) for x in (block, chunk))

    def products() -> None:
        with full_precision(place):
            for part in left.split(max(1, 2**28 // len(right))):
                torch.mm(part, right.T)

    def search(backend: str, k: int) -> object:
        return choose_search(backend, device)(block, chunk, k)

    for k in (20, 200):
        works: dict[str, Callable[[], object]] = {"products": products}
        works |= {name: partial(search, name, k + 16) for name in backends}
        found = in_turn(works, 3, device)
        shape = f"{len(block):,} x {len(chunk):,} x {width}, k = {k} + 16"
        note = (
            "with the transfer" if len(backends) == 2 else "faiss with GPU support: not installed"
        )
        for name in backends:
            yield row(f"search by {name} / products alone, {shape}",
                      ratio(found[name], found["products"]), "x", note)  # fmt: skip
        if len(backends) == 2:
            times = ratio(found["faiss"], found["torch"])
            faster = "torch" if times >= 1 else "faiss"
            note = f"{faster} is faster here; auto takes {'faiss' if device == 'cpu' else 'torch'}"
            yield row(f"search by faiss / by torch, {shape}", times, "x", note)
    ids, spent = {}, {}
    for name in backends:
        started = time.perf_counter()
        ids[name] = top_k(asked, bank, k=200, backend=name, device=device)[1]
        spent[name] = time.perf_counter() - started
        yield row(f"k-NN {rows:,} x {queries:,} x {width}, k = 200, {name}", spent[name], "s")
    for name in backends[1:]:
        if not np.array_equal(ids[name], ids["torch"]):
            raise SystemExit(f"{name} and torch found other neighbours: exactness is broken.")
        yield row("k-NN, ids by torch and faiss that differ", 0, "ids", "of all")


def davis(device: str, size: str) -> Iterator[Row]:
    """A frame's propagation against the dense form, and a whole sequence."""
    from davis_propagation import sequence_seconds, step_seconds

    for patch in (16, 8) if size == "full" else (16,):
        dense, ours, difference = step_seconds(patch, 9 if size == "full" else 1, device=device)
        if difference > 1e-3:
            raise SystemExit(
                f"Patch {patch}: labels differ by {difference:.1e} from the dense form."
            )
        yield row(f"DAVIS propagation, patch {patch}: dense / ours", dense / ours, "x",
                  f"{1e3 * ours:.1f} ms a frame; labels within {difference:.0e}")  # fmt: skip
    frames, model = (40, "vit_small_patch16_224") if size == "full" else (3, "vit_tiny_patch16_224")
    *_, (seconds, parts) = sequence_seconds(frames, 2 if size == "full" else 1, device=device,
                                            model=model)  # fmt: skip
    shown = ", ".join(f"{name} {value:.1f} s" for name, value in parts.items())
    yield row("DAVIS sequence of 480 x 854, 12 layers", frames / seconds[12], "frames/s", shown)
    yield row("DAVIS sequence, 12 layers / 1 layer", seconds[12] / seconds[1], "x")


def logreg(device: str, size: str) -> Iterator[Row]:
    """The whole sweep on the device, and a sample of it on the device and on the CPU."""
    import numpy as np
    from logreg import synthetic

    from sdssl_bench.probes.linear.design import Design
    from sdssl_bench.probes.linear.sweep import GRID
    from sdssl_bench.probes.logistic.solver import Solver

    depth, rows, width, classes = (12, 6000, 384, 100) if size == "full" else (2, 120, 8, 3)
    banks = synthetic(depth, rows, width, classes)
    targets = torch.from_numpy(np.arange(rows) % classes)

    def solve(place: str, count: int, step: int) -> int:
        designs = [Design(bank, device=place) for bank in banks[:count]]
        solver = Solver(designs, targets, num_classes=classes)
        solutions = list(solver.path([1 / (c * rows) for c in GRID[::step]]))
        if not all(bool(one.converged.all()) for one in solutions):
            raise SystemExit(f"Logistic regression did not converge on {place}.")
        return solver.loss.products

    solve(device, 1, 15)
    spent = seconds_of(partial(solve, device, depth, 1), device)
    yield row(f"logistic regression, {depth} layers x {len(GRID)} penalties, {rows:,} x {width}, "
              f"{classes} classes", spent, "s")  # fmt: skip
    if device != "cpu":
        short = partial(solve, count=1, step=5)
        found = in_turn({p: partial(short, p) for p in ("cpu", device)}, 1, device)
        yield row("logistic regression, 1 layer x 9 penalties: CPU / GPU",
                  ratio(found["cpu"], found[device]), "x", f"{torch.get_num_threads()} threads")  # fmt: skip


def pretrain(device: str, size: str) -> Iterator[Row]:
    """SD-MoCo v3 against MoCo v3 at the largest batch that both fit."""
    from pretrain_cost import Contender, cost, kept_bytes, largest_batch, matmul_rate

    steps = 5 if size == "full" else 1
    for arch in ("vit_s16", "vit_b16") if size == "full" else ("vit_tiny_p8",):
        batch = largest_batch(arch, device) if device != "cpu" else 2
        pair = {}
        for name in (f"mocov3_{arch}", f"sd_mocov3_{arch}"):
            pair[name] = Contender(name, device, "bf16" if device != "cpu" else "no")
        side = next(iter(pair.values())).model.student.input_size
        views = torch.randn(2, batch, 3, side, side, device=device)
        for _ in range(steps + 1):
            for one in pair.values():
                if device != "cpu":
                    torch.cuda.reset_peak_memory_stats()
                    held = torch.cuda.memory_allocated()
                one.step(views)
                if device != "cpu":
                    one.peak = max(one.peak, torch.cuda.max_memory_allocated() - held)
        plain, distilled = pair.values()
        step = [one.medians()["step"] for one in (plain, distilled)]
        label = f"{arch}, batch {batch}, {plain.precision}"
        yield row(f"SD-MoCo v3 / MoCo v3, time of a step, {label}", step[1] / step[0], "x",
                  "paper: 1.169, 1.086 with parallel heads" if device != "cpu" else "")  # fmt: skip
        if device != "cpu":
            memory = [one.peak + kept_bytes(one) for one in (plain, distilled)]
            yield row(f"SD-MoCo v3 / MoCo v3, memory, {label}", memory[1] / memory[0], "x",
                      f"paper: under 1.06; {memory[1] / 2**30:.1f} GiB")  # fmt: skip
        rate = matmul_rate(device, plain.precision)
        for name, spent, one in zip(pair, step, pair.values(), strict=True):
            done = cost(one.config).flops * batch / spent
            yield row(f"share of the matmul rate, {name}, batch {batch}", done / rate, "of 1",
                      f"{batch / spent:.0f} images/s; matmul {rate / 1e12:.2f} TFLOP/s")  # fmt: skip
        del pair, plain, distilled, one, views


def views(device: str, size: str) -> Iterator[Row]:
    """Colour of both views in batch on the device, and by Pillow on one core."""
    from PIL import Image
    from pretrain_views import device_rate, make_jpegs

    from sdssl_bench.features.views import crop, draw, recolour, view_pair

    count, side = (256, 224) if size == "full" else (4, 32)
    with tempfile.TemporaryDirectory() as scratch:
        make_jpegs(Path(scratch), count)
        paths = sorted(Path(scratch).iterdir())
        rate = device_rate(paths, side, device)
        images = [Image.open(path).convert("RGB") for path in paths]
        view = view_pair("mocov3", size=side, crop_min=0.08)[0]
        crops = [(crop(image, view), draw(view)) for image in images]
        colour = seconds_of(lambda: [recolour(x, factors) for x, factors in crops], "cpu") / count
    yield row(f"device views, {side} px, MoCo v3's", rate, "images/s", "both views of each")
    yield row("device views / Pillow's on one core", 2 * rate * colour, "x", "colour alone")


PARTS = {
    "layers": layers,
    "extraction": extraction,
    "knn": knn,
    "davis": davis,
    "logreg": logreg,
    "pretrain": pretrain,
    "views": views,
    "cpu": cpu,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", default="full", choices=("full", "toy"))
    parser.add_argument("--rows", type=Path, required=True, help="JSON file for the rows")
    options = parser.parse_args()
    torch.manual_seed(0)
    found: list[Row] = []
    for one in PARTS[options.part](options.device, options.size):
        found.append(one)
        options.rows.write_text(json.dumps(found))
        print(f"{one['what']}: {one['value']:.3g} {one['unit']}", flush=True)


if __name__ == "__main__":
    main()
