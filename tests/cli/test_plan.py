"""`run --dry-run`: what tasks say they will do is what they then do, to the byte; done work costs nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

from fakes import plain_images
from mini_data import shared_mini
from sdssl_bench import checkpoints, tasks
from sdssl_bench.cli.main import app
from sdssl_bench.cli.plan import Plan
from sdssl_bench.datasets import Size, preprocess
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError
from sdssl_bench.features import forecast
from sdssl_bench.features.store import BankFolder
from sdssl_bench.system import Work
from sdssl_bench.task import RunContext, Task
from sdssl_bench.video import forecast as video_forecast
from sdssl_bench.video.propagation import Context

CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"
FEATURES = [
    ("knn", "cifar10", None, {}),
    ("linear", "cifar10", "logreg", {"features": "last2+mean"}),
    ("linear", "cifar10", "dino", {"epochs": "1", "features": "cls,mean"}),
    ("retrieval", "roxford5k", None, {"query_crop": "true"}),
    pytest.param("copydays", "copydays", None, {}, marks=pytest.mark.slow),
    ("analysis", "cifar10", None, {"tsne_classes": "0"}),
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return checkpoints.load(CKPT)


def context(cache: Path, **more: Any) -> RunContext:
    settings = {"data_root": shared_mini(), "cache_dir": cache, "num_workers": 0, **more}
    return RunContext(**settings)


def works(task: Task, name: str, encoder: Encoder, ctx: RunContext) -> list[Work]:
    return list(task.work(encoder, task.load_data(name, ctx), [1, 3], ctx))


def banks(cache: Path) -> dict[str, int]:
    """Bytes of rows that are proven, by folder and name of the bank."""
    found = {}
    for path in (cache / "features").glob("[!.]*"):
        folder = BankFolder(path, _rows(path))
        files = folder.files(list(folder.manifest()["banks"]))
        for bank, state in folder.state(files).items():
            found[f"{path}/{bank}"] = int(state.done.sum()) * files[bank].row_bytes
    return found


def _rows(path: Path) -> int:
    return int(BankFolder(path, 0).manifest()["rows"])


@pytest.mark.parametrize("limit", [None, 20])
@pytest.mark.parametrize(("name", "dataset", "protocol", "changes"), FEATURES)
def test_a_task_writes_the_banks_it_says_and_says_then_that_they_are_stored(
    name: str,
    dataset: str,
    protocol: str | None,
    changes: Mapping[str, str],
    limit: int | None,
    encoder: Encoder,
    tmp_path: Path,
) -> None:
    task, ctx = tasks.load(name, protocol, changes), context(tmp_path, limit=limit)
    before = works(task, dataset, encoder, ctx)
    said = {key: count for work in before for key, count in work.writes.items()}
    assert not (tmp_path / "features").exists()
    list(task.run(encoder, task.load_data(dataset, ctx), [1, 3], ctx))
    assert said == banks(tmp_path)
    after = works(task, dataset, encoder, ctx)
    for old, new in zip(before, after, strict=True):
        assert not new.writes
        if old.writes:
            assert (old.stored, new.items, new.stored) == (0, 0, old.items)


@pytest.mark.slow
def test_videos_are_stored_layer_by_layer(encoder: Encoder, tmp_path: Path) -> None:
    task, ctx = tasks.load("davis"), context(tmp_path, limit=1)
    (before,) = works(task, "davis", encoder, ctx)
    assert before.measure is not None
    assert before.measure() > 0
    data = task.load_data("davis", ctx)
    list(task.run(encoder, data, [1], ctx))
    (half,) = works(task, "davis", encoder, ctx)
    assert half.items == before.items
    assert len(before.writes) == 2 * len(half.writes) == 2
    list(task.run(encoder, data, [3], ctx))
    assert {path: Path(path).stat().st_size for path in before.writes} == before.writes
    (after,) = works(task, "davis", encoder, ctx)
    assert (after.items, after.stored) == (0, before.items)


@pytest.mark.parametrize("name", tasks.task_names())
def test_every_task_says_what_it_will_do(name: str, encoder: Encoder, tmp_path: Path) -> None:
    task, ctx = tasks.load(name), context(tmp_path, against=encoder)
    usual = [*task.default_datasets, "cifar10", *task.datasets]
    found = works(task, next(one for one in usual if one in task.datasets), encoder, ctx)
    assert found
    assert all(work.items > 0 for work in found)


def test_a_pass_that_two_tasks_need_is_counted_once(encoder: Encoder, tmp_path: Path) -> None:
    ctx, plan = context(tmp_path), Plan()
    first, second = tasks.load("knn"), tasks.load("knn", None, {"temperature": "0.1"})
    for task in (first, second):
        plan.add(task, "cifar10", works(task, "cifar10", encoder, ctx))
    assert [part.shared for part in plan.parts] == [False, False, False, True, True, False]
    assert plan.writes == sum(part.writes for part in plan.parts[:3])
    assert all(part.seconds == part.writes == 0 for part in plan.parts[3:5])
    wider = tasks.load("linear", "logreg", {"features": "cls+mean", "transform": "A"})
    plan.add(wider, "cifar10", works(wider, "cifar10", encoder, ctx))
    # The mean patch is new: the pass is made again and writes only that.
    assert not plan.parts[6].shared
    assert plan.parts[6].writes == plan.parts[0].writes


class _Clock:
    """Time that passes only where it is said to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(forecast.time, "perf_counter", lambda: self.now)

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("sizes", [[7], [32, 32, 1], [50] * 40, list(range(1, 65))])
def test_batches_are_scaled_to_all_images(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock(monkeypatch)
    total = sum(sizes)
    images = plain_images(total, size=8)
    load = forecast.load_batch

    def slow_load(*arguments: Any) -> Any:
        clock.spend(0.002 * len(arguments[2]))
        return load(*arguments)

    monkeypatch.setattr(forecast, "load_batch", slow_load)

    def forward(pixels: torch.Tensor) -> None:
        clock.spend(0.01 * len(pixels))

    groups = np.split(np.arange(total), np.cumsum(sizes)[:-1])
    ctx = context(Path(), device="cpu")
    spent = forecast.batch_seconds(images, preprocess("E", 8), groups, forward, ctx=ctx)  # type: ignore[arg-type]
    assert spent == pytest.approx(0.012 * total)
    assert clock.now <= forecast.SECONDS + 2 * 0.012 * max(sizes)  # the first and the last batch


@pytest.mark.parametrize("least", [0, 100])
@pytest.mark.parametrize("grid", [(3, 5), (30, 52), (60, 104), (120, 208)])
def test_a_pass_of_large_frames_is_told_from_smaller_ones(
    grid: tuple[int, int], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, working = _Clock(monkeypatch), (4 * grid[0], 4 * grid[1])

    def seconds(patches: int) -> float:
        return 1e-4 * patches + 1e-7 * patches**2

    class Passes:
        batch_size = 2

        class encoder:
            stride = 4

            @staticmethod
            def check_size(*size: int) -> None:
                if size != working and min(size) < least:
                    raise UsageError("too small")

        def forward(self, frames: Sequence[NDArray[np.uint8]], name: str) -> dict[int, Tensor]:
            height, width = (side // 4 for side in frames[0].shape[:2])
            clock.spend(len(frames) * seconds(height * width))
            return {1: torch.zeros(len(frames), height, width, 8)}

    def frames(paths: Sequence[Path], size: Size, working: Size, **_: int) -> Iterator[Any]:
        yield from (np.zeros((*working, 3), np.uint8) for _ in paths)

    monkeypatch.setattr(video_forecast, "frames_ahead", frames)
    video: Any = SimpleNamespace(frames=[Path()] * 9, size=(480, 854), name="bear")
    said, small = video_forecast._pass(Passes(), video, working)  # type: ignore[arg-type]
    assert said == pytest.approx(seconds(grid[0] * grid[1]))
    assert small[1].shape[-1] == 8
    assert clock.now < 12 * video_forecast.SECONDS


@pytest.mark.parametrize("context", [0, 7])
@pytest.mark.parametrize("window", [True, False])
def test_large_frames_are_propagated_at_a_small_size_and_scaled_by_what_is_compared(
    context: int, window: bool, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock where a step takes time for patches and similarities, the run's time is told exactly."""
    clock = _Clock(monkeypatch)
    ctx = RunContext(data_root=shared_mini(), cache_dir=tmp_path, num_workers=0, device="cpu")
    changes = {"short_side": "192", "context": str(context), "window_on_first": str(window).lower()}
    task = tasks.load("davis", None, changes)
    step = Context.step

    def slow(self: Context, *arguments: Any) -> Tensor:
        height, width = len(self.first.features[0]), sum(p.shape[1] for p in self.first.features)
        largest.append(height * width)
        first, near = self.similarities
        clock.spend(1e-9 * (first + near * len(self.recent)))
        if context:  # without frames before, patches and similarities cannot be told apart
            clock.spend(1e-6 * height * width)
        return step(self, *arguments)

    largest: list[int] = []
    monkeypatch.setattr(Context, "step", slow)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # the clock is not made for several
    monkeypatch.setattr(video_forecast, "PATCHES", 40)
    (work,) = works(task, "davis", encoder, ctx)
    assert work.measure is not None
    said = work.measure()
    assert max(largest) <= 60, "sides are rounded"
    largest.clear()
    before = clock.now
    list(task.run(encoder, task.load_data("davis", ctx), [1, 3], ctx))
    assert min(largest) > 100
    assert said == pytest.approx(clock.now - before)


def test_what_is_printed_fits_and_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    places = ["--data-root", str(shared_mini()), "-c", CKPT, "--out", str(tmp_path / "r"),
              "--cache-dir", str(tmp_path / "c"), "-d", "cifar10"]  # fmt: skip

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["run", *places, *arguments])
        assert result.exit_code == 0, result.output
        return str(result.output)

    said = call("-t", "knn,linear", "--all-layers", "--dry-run")
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80
    flat = " ".join(said.split())
    assert re.search(r"In all [\dhms.]+, [\d.]+ KiB of disk, [\d.]+ [MG]iB of memory: from", flat)
    assert "3 layers to score, 0 stored" in flat
    assert not list(tmp_path.iterdir())
    call("-t", "knn", "--layers", "2")
    assert "Nothing is left to do." in call("-t", "knn", "--layers", "2", "--dry-run")
    assert "Nothing is left" not in call(
        "-t", "knn", "--layers", "2", "--dry-run", "--overwrite", "always"
    )
