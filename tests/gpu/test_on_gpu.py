"""What runs on a GPU gives what runs on a CPU: run with `pytest -m gpu`, or `make gpu`.

With SDSSL_BENCH_TEST_DEVICE=cpu the same tests hold a CPU against itself, where that means something;
tasks then score an encoder whose weights are off by 1e-6, as a card's rounding would have it: so the
tolerances were found, without a card at hand.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mini_data import shared_mini
from pretrain_fixtures import MAIN, SETTINGS, command_line, log_lines, make_images
from pretrain_probe import METHODS, gradients
from sdssl_bench import api
from sdssl_bench.encoders.building import wrap
from sdssl_bench.errors import TaskError
from sdssl_bench.features.forward import Forward
from sdssl_bench.features.store import BankKey
from sdssl_bench.features.views import NUM_FACTORS, draw, view_pair
from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.search import faiss_has_gpu
from sdssl_bench.pretrain.data.device_views import recolour_batch
from tiny_model import build

ROOT = Path(__file__).resolve().parents[2]
DEVICE = os.environ.get("SDSSL_BENCH_TEST_DEVICE", "cuda")
ON_GPU = DEVICE == "cuda"
HALF = "fp16" if ON_GPU else "bf16"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="no CUDA device"),
]
needs_card = pytest.mark.skipif(not ON_GPU, reason="only a GPU has this")

# Task, dataset, parameters; items that may change sides, and by how much other scores may differ.
TASKS: dict[str, tuple[str, str, str | None, dict[str, str], int, float]] = {
    "knn": ("knn", "cifar10", None, {}, 1, 1e-4),
    "linear": ("linear", "cifar10", None, {"epochs": "3", "batch": "48"}, 2, 1e-4),
    "logreg": ("linear", "flowers", "logreg", {}, 2, 1e-4),
    "finetune": ("finetune", "flowers", None, {"epochs": "2"}, 5, 1e-2),
    "retrieval": ("retrieval", "roxford5k", None, {}, 0, 5e-3),
    "copydays": ("copydays", "copydays", None, {}, 0, 5e-3),
    "davis": ("davis", "davis", None, {}, 0, 2e-3),
    "analysis": ("analysis", "cifar10", None, {}, 0, 1e-3),
    "cka": ("cka", "cifar10", None, {}, 0, 1e-3),
}
TSNE = 0.1
"""A map of t-SNE amplifies rounding: 0.02 from weights off by 1e-6."""


def encoder_for(device: str) -> nn.Module:
    """The same for both; on a CPU that stands in for a card its weights are off by rounding."""
    model = build()
    if device == "stand-in":
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for one in model.parameters():
                one.mul_(1 + 1e-6 * torch.randn(one.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", TASKS)
def test_a_task_scores_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    task, dataset, protocol, parameters, items, tolerance = TASKS[name]
    found = {}
    other = DEVICE if ON_GPU else "stand-in"
    for device in ("cpu", other):
        found[device] = api.evaluate(
            encoder_for(device),
            task,
            dataset,
            layers=(2, 3) if task != "finetune" else (3,),
            protocol=protocol,
            parameters=parameters,
            data_root=shared_mini(),
            cache_dir=tmp_path / device,
            device=DEVICE if device == other else "cpu",
            num_workers=0,
            **({"against": build(1)} if task == "cka" else {}),
        )
    for layer, expected in found["cpu"]["layers"].items():
        entry = found[other]["layers"][layer]
        assert entry["metrics"].keys() == expected["metrics"].keys()
        for metric, value in expected["metrics"].items():
            bound = TSNE if metric.startswith("tsne/") else tolerance
            allowed = max(bound * max(1.0, abs(value)), items / expected["n"])
            assert entry["metrics"][metric] == pytest.approx(value, abs=allowed), (layer, metric)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-4), ("float16", 1e-2), ("bfloat16", 5e-2)]
)
def test_features_are_those_of_a_cpu_in_float32(dtype: str, tolerance: float) -> None:
    pixels = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    names = [BankKey(layer, pooling) for layer in (1, 2, 3) for pooling in ("cls", "mean")]

    def features(device: str, dtype: str) -> dict[str, Any]:
        encoder = wrap(build()).to(device).eval()
        run = Forward(
            encoder, names, device=torch.device(device), dtype=dtype, batch_size=16
        )  # fmt: skip
        return run(pixels.byte())

    expected, found = features("cpu", "float32"), features(DEVICE, dtype)
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() <= tolerance * np.abs(values).max(), name


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_neighbours_are_the_cpus_to_the_id(backend: str, spread: float) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
        if ON_GPU and not faiss_has_gpu():
            pytest.skip("faiss without GPU support")
    rng = np.random.default_rng(0)
    centre = rng.normal(size=96)
    bank = (centre + spread * rng.normal(size=(5000, 96))).astype(np.float32)
    bank[1000:1400] = bank[:400]
    queries = (centre + spread * rng.normal(size=(300, 96))).astype(np.float32)
    queries[:50] = bank[:50]
    expected = top_k(queries, bank, k=200, backend="torch", device="cpu")
    found = top_k(queries, bank, k=200, backend=backend, device=DEVICE)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)


@needs_card
def test_tensor_float_32_is_off_where_a_caller_has_it_on() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3000, 384)).astype(np.float32)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = top_k(rows[:200], rows, k=20, backend="torch", device=DEVICE)
    finally:
        torch.set_float32_matmul_precision(before)
    expected = top_k(rows[:200], rows, k=20, backend="torch", device="cpu")
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)


def processes() -> list[int]:
    if not ON_GPU:
        return [1, 2]
    return [1, 2] if torch.cuda.device_count() > 1 else [1]


@pytest.mark.parametrize("count", processes())
def test_processes_have_the_gradients_of_one(count: int, tmp_path: Path) -> None:
    """By NCCL, with batch-norm synchronised: its statistics are those of all images."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    probe = [str(ROOT / "tests" / "pretrain_probe.py"), str(tmp_path / "found.pt")]
    done = subprocess.run(
        [sys.executable, *launcher, *probe, *(["cuda"] if ON_GPU else [])],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt", map_location="cpu")
    for method in METHODS:
        # The keys of other processes carry gradients in SimCLR only if they are gathered in full.
        expected = gradients(method, "full", norms=ON_GPU)
        assert found[f"{method}/full"].keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(found[f"{method}/full"][name], gradient, atol=1e-8), name


def pretrained(out: Path, *flags: str, data: str, **changes: Any) -> list[float]:
    """Losses of every step of a run in a process of its own."""
    config = {**SETTINGS, "data": data, "mixed_precision": HALF, **changes}
    done = subprocess.run(
        [sys.executable, str(MAIN), *command_line(config), "--out", str(out), *flags],
        capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, **({} if ON_GPU else {"CUDA_VISIBLE_DEVICES": ""})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line["loss"] for line in log_lines(out)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_images(tmp_path_factory.mktemp("gpu") / "images", 24))


def test_slices_train_as_the_whole_batch_in_half_precision(data: str, tmp_path: Path) -> None:
    """With its loss scaler where that is fp16; without batch-norm, which sees a slice."""
    plain: dict[str, Any] = {"data": data, "hidden_bn": False, "output_bn": False, "base_lr": 5e-3}
    whole = pretrained(tmp_path / "whole", **plain)
    sliced = pretrained(tmp_path / "sliced", **plain, accumulate=2)
    assert len(whole) == 6
    assert sliced == pytest.approx(whole, rel=1e-2)


def test_a_resumed_run_goes_on_as_if_never_stopped(data: str, tmp_path: Path) -> None:
    whole = pretrained(tmp_path / "whole", data=data, device_views=True)
    first = pretrained(tmp_path / "run", data=data, device_views=True, stop_epoch=1)
    both = pretrained(tmp_path / "run", "--resume", "auto", data=data, device_views=True)
    assert both[: len(first)] == first
    assert len(both) == len(whole) == 6
    assert both == pytest.approx(whole, rel=1e-2 if ON_GPU else 1e-12)


def test_views_made_on_the_device_are_the_cpus() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 48, 48)
    view = view_pair("mocov3", size=48, crop_min=0.2)[1]
    drawn = torch.stack([draw(view) for _ in images])
    drawn[::3, 10] = 1.0
    assert drawn.shape == (64, NUM_FACTORS)
    expected = recolour_batch(images, drawn)
    assert not torch.equal(expected, images)
    found = recolour_batch(images.to(DEVICE), drawn).cpu()
    # Where two channels are equal but for rounding, hue may turn from either: few pixels, a little.
    off = (found - expected).abs()
    assert off.mean() < 1e-5
    assert (off > 1e-3).float().mean() < 1e-3


@needs_card
def test_batches_shrink_until_they_fit_into_a_memory_cap() -> None:
    import timm

    model = timm.create_model("vit_small_patch16_224", num_classes=0).eval()
    encoder = wrap(model).to(DEVICE).eval()
    pixels = torch.randint(0, 256, (256, 3, 224, 224), dtype=torch.uint8)
    device = torch.device(DEVICE)

    def forward(batch_size: int | None) -> Forward:
        return Forward(
            encoder, [BankKey(12, "cls")], device=device, dtype="float32", batch_size=batch_size
        )

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free = forward(None)
    expected = free(pixels)
    peak = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction(0.5 * peak / total)
        capped = forward(None)
        found = capped(pixels)
        with pytest.raises(TaskError, match="--batch-size auto"):
            forward(256)(pixels)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert capped.piece < free.piece
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-3)
