"""A run's life: resuming, stopping, failing, processes, slices, and the checkpoint it leaves."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

import pretrain_probe as probes
from pretrain_fixtures import (
    MAIN,
    SETTINGS,
    command_line,
    log_lines,
    make_images,
    make_shards,
    tiny,
)
from processes import together
from sdssl_bench import checkpoints
from sdssl_bench.cli.main import app
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.pretrain.objective import slices as slicing
from sdssl_bench.pretrain.objective.assembly import build_model
from sdssl_bench.pretrain.objective.slices import backward
from sdssl_bench.pretrain.run import train as training
from sdssl_bench.pretrain.run.collapse import alarm, rank_me, spread
from sdssl_bench.pretrain.run.config import PretrainConfig
from sdssl_bench.pretrain.run.stopping import Interrupted
from sdssl_bench.pretrain.run.train import train
from sdssl_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; a run in a process of its own starts without."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


METHODS = ["simclr", "sd_simclr", "byol", "sd_byol", "mocov3", "sd_mocov3"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(make_images(tmp_path / "images", 24))


def snapshot(out: Path) -> dict[str, Any]:
    newest = sorted((out / "snapshots").glob("*.pt"))[-1]
    found: dict[str, Any] = torch.load(newest, weights_only=True)
    return found


def equal(first: Any, second: Any) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def assert_same_run(first: Path, second: Path) -> None:
    one, two = snapshot(first), snapshot(second)
    for part in ("model", "optimizer", "scaler", "generators", "step"):
        assert equal(one[part], two[part]), part
    losses = [[(line["step"], line["loss"]) for line in log_lines(out)] for out in (first, second)]
    assert losses[0] == losses[1]
    assert equal(
        load_file(first / "encoder.safetensors"), load_file(second / "encoder.safetensors")
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(
    method: str, data: str, tmp_path: Path
) -> None:
    config = tiny(method, data=data)
    train(config, tmp_path / "whole")
    train(tiny(method, data=data, stop_epoch=1), tmp_path / "halves")
    train(config, tmp_path / "halves", resume="auto")
    assert_same_run(tmp_path / "whole", tmp_path / "halves")
    assert len(log_lines(tmp_path / "whole")) == 6


def test_a_resumed_run_on_shards_with_workers_is_the_undisturbed_one(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards", [13, 9, 12])
    settings: dict[str, Any] = {
        "data": shards,
        "num_workers": 2,
        "shuffle_buffer": 6,
        "batch_size": 4,
    }
    train(tiny(**settings), tmp_path / "whole")
    train(tiny(**settings, stop_epoch=1), tmp_path / "halves")
    with pytest.raises(UsageError, match="num_workers"):
        train(tiny(**{**settings, "num_workers": 1}), tmp_path / "halves", resume="auto")
    train(tiny(**settings), tmp_path / "halves", resume="auto")
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


@pytest.mark.parametrize("recipe", ["paper", "code", "mocov3"])
@pytest.mark.parametrize("sd", ["", "sd_"])
def test_the_encoder_opens_with_no_further_flag(
    recipe: str, sd: str, data: str, tmp_path: Path
) -> None:
    config = tiny(f"{sd}mocov3", recipe, data=data, epochs=2, stop_epoch=1, layer_norm="per-layer")
    path = train(config, tmp_path / "run")
    encoder = checkpoints.load(str(path))
    assert (encoder.depth, encoder.dims, encoder.stride, encoder.input_size) == (
        3,
        (16,) * 3,
        8,
        32,
    )
    assert encoder.norm == "per-layer"
    assert encoder.info is not None
    assert encoder.info.network == ("student" if recipe == "mocov3" else "teacher")
    prefix = f"{encoder.info.network}."
    trained = {
        k.removeprefix(prefix).removeprefix("model."): v
        for k, v in snapshot(tmp_path / "run")["model"].items()
        if k.startswith(prefix)
    }
    assert equal(load_file(path), trained)


def test_a_residual_network_trains_with_lars_and_opens(data: str, tmp_path: Path) -> None:
    small = {"dim": None, "depth": None, "heads": None, "arch": "resnet18", "img_size": 32}
    config = tiny(data=data, **small, optimizer="lars", stop_epoch=1)
    encoder = checkpoints.load(str(train(config, tmp_path / "run")))
    assert encoder.depth == 4


def test_a_second_run_does_not_overwrite_the_first(data: str, tmp_path: Path) -> None:
    train(tiny(data=data, stop_epoch=1), tmp_path / "run")
    with pytest.raises(UsageError, match="--resume auto"):
        train(tiny(data=data), tmp_path / "run")
    with pytest.raises(UsageError, match="--beta"):
        train(tiny(data=data, beta=0.5), tmp_path / "run", resume="auto")


def test_a_damaged_snapshot_is_named(data: str, tmp_path: Path) -> None:
    train(tiny(data=data, stop_epoch=1), tmp_path / "run")
    path = next((tmp_path / "run" / "snapshots").glob("*.pt"))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=path.name):
        train(tiny(data=data), tmp_path / "run", resume="auto")


def test_only_the_newest_snapshots_are_kept(data: str, tmp_path: Path) -> None:
    train(tiny(data=data, epochs=4, keep=2), tmp_path / "run")
    names = sorted(p.name for p in (tmp_path / "run" / "snapshots").iterdir())
    assert names == ["step-000000009.pt", "step-000000012.pt"]
    assert len(list((tmp_path / "run" / "encoders").iterdir())) == 4


def test_an_unwritable_or_full_folder_fails_before_training(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        train(tiny(data=data), tmp_path / "file" / "run")
    monkeypatch.setattr(
        "sdssl_bench.pretrain.run.snapshots.shutil.disk_usage",
        lambda _: type("U", (), {"free": 100}),
    )
    with pytest.raises(DataError, match=r"0\.0 MiB free, .* take \d\.\d MiB"):
        train(tiny(data=data), tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_disk_that_fills_up_names_the_last_good_snapshot(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.save
    calls: list[int] = []

    def full(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match=r"step-000000003\.pt.*--resume auto"):
        train(tiny(data=data), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run" / "snapshots").iterdir()] == ["step-000000003.pt"]


def test_a_loss_that_is_not_finite_stops_with_its_step_and_the_last_good_snapshot(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.backward
    calls: list[int] = []

    def poisoned(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        terms = real(*arguments, **options)
        return terms._replace(total=terms.total * float("nan")) if len(calls) == 5 else terms

    monkeypatch.setattr(training, "backward", poisoned)
    with pytest.raises(TaskError, match=r"not finite at step 4 .*step-000000003\.pt"):
        train(tiny(data=data, log_every=3), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run" / "snapshots").iterdir()] == ["step-000000003.pt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_exactly(
    number: signal.Signals, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(data=data)
    train(config, tmp_path / "whole")
    real = training.backward
    calls: list[int] = []

    def told(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "backward", told)
        with pytest.raises(Interrupted) as stopped:
            train(config, tmp_path / "run")
    assert stopped.value.code == 128 + number
    assert snapshot(tmp_path / "run")["step"] == 2
    train(config, tmp_path / "run", resume="auto")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_teacher_moves_before_keys_or_after_the_step() -> None:
    """With a frozen student the order shows in the teacher that embeds the first keys."""
    for timing, moved in (("before", True), ("after", False)):
        assert tiny(ema_timing=timing).ema_timing == timing
        model = build_model(tiny(ema_timing=timing))
        assert model.teacher is not None
        with torch.no_grad():
            for p in model.student.parameters():
                p.add_(1.0)
        calls: list[bool] = []
        before = [p.clone() for p in model.teacher.parameters()]
        real = model.teacher_keys

        def watched(
            *views: Tensor,
            real: Any = real,
            model: Any = model,
            before: Any = before,
            calls: list[bool] = calls,
        ) -> Any:
            calls.append(not equal(list(model.teacher.parameters()), before))
            return real(*views)

        model.teacher_keys = watched  # type: ignore[method-assign]
        run = object.__new__(training.Run)
        run.config, run.core, run.model = tiny(ema_timing=timing), model, model
        run.accelerator = Accelerator(cpu=True)
        run.optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
        run.mean = run.std = torch.ones(3)
        pixels = torch.randint(0, 255, (2, 4, 3, 32, 32), dtype=torch.uint8)
        run._step(pixels, None, lr=0.0, alpha=0.5, momentum=0.5)
        assert calls == [moved]
        assert not equal(list(model.teacher.parameters()), before)


def step_gradients(config: PretrainConfig, slices: int) -> tuple[dict[str, Tensor], Tensor, Any]:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = build_model(config).double()
    views = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    terms = backward(
        accelerator, model, views[0], view2=views[1], alpha=0.7, beta=1.0, slices=slices
    )
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    statistics = {n: b for n, b in model.named_buffers() if "running" in n}
    return gradients, torch.stack(list(terms[:4])), statistics


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slices", [2, 4])
def test_slices_give_the_loss_and_gradients_of_the_whole_batch(method: str, slices: int) -> None:
    config = tiny(method, hidden_bn=False, output_bn=False)
    whole, terms, _ = step_gradients(config, 1)
    sliced, sliced_terms, _ = step_gradients(config, slices)
    assert torch.allclose(terms, sliced_terms, atol=1e-9)
    assert whole.keys() == sliced.keys()
    for name, gradient in whole.items():
        assert torch.allclose(gradient, sliced[name], atol=1e-9), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_rows_in_half_precision_are_not_rounded_before_they_are_scaled(
    dtype: torch.dtype,
) -> None:
    """At a batch of some hundred images most of them are below the least number of fp16."""
    accelerator = type("Half", (), {"autocast": lambda _: torch.autocast("cpu", dtype)})()
    torch.manual_seed(0)
    model = build_model(tiny("sd_simclr"))
    views = torch.randn(2, 64, 3, 32, 32)
    parts = list(zip(views[0].chunk(2), views[1].chunk(2), strict=True))
    _, found = slicing._rows_gradient(accelerator, model, parts, alpha=1e-4)
    with torch.no_grad(), accelerator.autocast():
        rows = torch.cat([model.rows(*part)[0] for part in parts], dim=2)
    assert rows.dtype == dtype
    exact = rows.double().requires_grad_()
    (expected,) = torch.autograd.grad(model.loss_of_rows(exact, alpha=1e-4).total, exact)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-9)
    assert not torch.allclose(expected.to(dtype).double(), expected, rtol=1e-3, atol=1e-9)


def test_gradient_caching_updates_running_statistics_once() -> None:
    """Eight images in one slice of two passes have the statistics of eight images in one pass."""
    from sdssl_bench.pretrain.objective.slices import statistics_kept

    norm = nn.BatchNorm1d(3)
    before = norm.running_mean.clone() if norm.running_mean is not None else None
    with statistics_kept(norm):
        norm(torch.randn(5, 3) + 4)
    assert before is not None
    assert torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    norm(torch.randn(5, 3) + 4)
    assert not torch.equal(norm.running_mean, before)  # type: ignore[arg-type]


def test_impossible_batches_and_precisions_are_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--accumulate 3"):
        train(tiny(data=data, accumulate=3), tmp_path / "a")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="fp16, which needs a GPU"):
            train(tiny(data=data, mixed_precision="fp16"), tmp_path / "b")


def test_bfloat16_device_views_and_accumulation_train(data: str, tmp_path: Path) -> None:
    config = tiny(data=data, mixed_precision="bf16", device_views=True, accumulate=2, stop_epoch=1)
    train(config, tmp_path / "run")
    assert all(
        v.dtype == torch.float32
        for v in load_file(tmp_path / "run" / "encoder.safetensors").values()
    )
    assert len(log_lines(tmp_path / "run")) == 3


def test_tensorboard_holds_what_the_log_holds(data: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny(data=data, log_with="tensorboard"), tmp_path / "run")
    (written,) = (tmp_path / "run" / "sdssl-bench").glob("events.out.tfevents.*")
    events = EventAccumulator(str(written)).Reload()
    for name in ("loss", "lr", "alpha", "momentum"):
        logged = [line[name] for line in log_lines(tmp_path / "run")]
        assert [e.value for e in events.Scalars(name)] == pytest.approx(logged, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_steps_that_fp16_skips_are_told_and_schedules_go_on(
    optimizer: str,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A real scaler, whose second step meets gradients that are not finite."""
    config = tiny(data=data, optimizer=optimizer, log_every=3)
    train(config, tmp_path / "whole")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    real, prepare = training.backward, Accelerator.prepare
    calls: list[int] = []

    def scaled(self: Accelerator, *objects: Any, **options: Any) -> Any:
        self.scaler = scaler
        return prepare(self, *objects, **options)

    def overflowing(accelerator: Any, model: Any, *views: Any, **options: Any) -> Any:
        terms = real(accelerator, model, *views, **options)
        calls.append(1)
        if len(calls) == 2:
            next(p for p in model.parameters() if p.grad is not None).grad.fill_(torch.inf)
        return terms

    monkeypatch.setattr(Accelerator, "prepare", scaled)
    monkeypatch.setattr(training, "backward", overflowing)
    train(config, tmp_path / "run")
    entries = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    told = [entry for entry in entries if "skipped" in entry]
    assert told == [{"step": 2, "skipped": 1, "loss_scale": 4.0}]
    assert "not finite in step 2" in capsys.readouterr().err
    for name in ("lr", "alpha", "momentum"):
        one, two = ([line[name] for line in log_lines(tmp_path / out)] for out in ("whole", "run"))
        assert one == two


def test_a_tracker_that_is_not_installed_is_an_error_before_training(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install wandb"):
        train(tiny(data=data, log_with="wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_warm_up_of_parts_of_an_epoch_is_the_nearest_number_of_steps() -> None:
    run = object.__new__(training.Run)
    run.config, run.total = tiny(warmup_epochs=0.9, base_lr=0.1, batch_size=256), 6
    run.feed = type("Feed", (), {"per_epoch": 3})()  # type: ignore[assignment]
    rates = [run.schedule(step)["lr"] for step in range(4)]
    assert rates == pytest.approx([0.0, 0.1 / 3, 0.2 / 3, 0.1])


def test_schedules_are_in_the_log(data: str, tmp_path: Path) -> None:
    train(tiny(data=data), tmp_path / "run")
    lines = log_lines(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == pytest.approx([n / 3 for n in range(1, 7)])
    assert lines[0]["lr"] == lines[0]["alpha"] == 0.0
    assert lines[3]["lr"] == pytest.approx(0.05 * 8 / 256)
    assert lines[3]["alpha"] == pytest.approx(0.5)
    assert lines[0]["momentum"] == 0.99
    for line in lines:
        total = line["ssl"] + line["alpha"] * line["isd"] + line["pred"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)


def test_the_collapse_alarm_tells_spread_from_collapsed_features() -> None:
    generator = torch.Generator().manual_seed(0)
    healthy = torch.randn(64, 16, generator=generator)
    assert alarm(healthy)[1] is None
    assert spread(healthy) > 0.9
    assert rank_me(healthy) > 13
    assert rank_me(healthy[:, :1] @ torch.randn(1, 16, generator=generator)) < 1.1
    constant = torch.ones(64, 16) + 1e-3 * healthy
    assert spread(constant) < 0.02
    assert "collapsing" in str(alarm(constant)[1])


@pytest.mark.slow
def test_two_launched_processes_are_one_on_the_same_global_batch(data: str, tmp_path: Path) -> None:

    settings = {"data": data, "hidden_bn": False, "output_bn": False, "base_lr": 0.002}
    train(tiny(**settings), tmp_path / "one")
    flags = [MAIN, *command_line({**SETTINGS, **settings}), "--out", "two", "--resume", "auto"]
    for stop in (["--stop-epoch", 1], []):
        done = together(2, sys.executable, *flags, *stop, cwd=tmp_path)
        assert not any(code for code, _, _ in done), done
    assert json.loads(snapshot(tmp_path / "two")["layout"])["processes"] == 2
    losses = [[line["loss"] for line in log_lines(tmp_path / o)] for o in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=2e-5)


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    done = together(2, sys.executable, probes.__file__, tmp_path / "two", cwd=ROOT)
    assert not any(code for code, _, _ in done), done
    two = torch.load(tmp_path / "two", weights_only=True)
    for case, of_all in two.items():
        expected = probes.gradients(*case.split("/"))
        close = [torch.allclose(of_all[k], v, atol=1e-9) for k, v in expected.items()]
        local = "simclr" in case and case.endswith("local")
        # The authors' convention drops terms across processes; every other case is exact.
        assert all(close) is not local, case
        assert torch.allclose(of_all["loss"], expected["loss"])


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_undisturbed(data: str, tmp_path: Path) -> None:

    settings = {**SETTINGS, "data": data, "epochs": 30}
    flags = [sys.executable, str(MAIN), *command_line(settings), "--resume", "auto", "--out"]
    train(tiny(data=data, epochs=30), tmp_path / "whole")
    with subprocess.Popen([*flags, tmp_path / "run"], stderr=subprocess.DEVNULL) as process:
        while not list((tmp_path / "run" / "snapshots").glob("step-*.pt")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 30
    train(tiny(data=data, epochs=30), tmp_path / "run", resume="auto")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def trained_on_a_folder(tmp_path: Path) -> str:
    """Images of two classes, and a run on them in run/; their name as a dataset."""
    for split, count in (("train", 12), ("test", 4)):
        for label in ("a", "b"):
            make_images(tmp_path / "set" / split / label, count)
    folder = f"folder:{tmp_path / 'set'}"
    train(tiny(data=folder, batch_size=12), tmp_path / "run")
    return folder


def test_watch_scores_each_encoder_once(tmp_path: Path) -> None:
    folder = trained_on_a_folder(tmp_path)
    arguments = ["watch", str(tmp_path / "run"), "--task", "knn", "--dataset", folder]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    paths = [path for path, _ in ResultStore(tmp_path / "run" / "results")]
    times = [path.stat().st_mtime_ns for path in paths]
    assert len(paths) == 2
    assert CliRunner().invoke(app, arguments).output == first.output
    assert [path.stat().st_mtime_ns for path in paths] == times
    missing = CliRunner().invoke(app, ["watch", str(tmp_path / "no"), "--dataset", folder])
    assert missing.exit_code == 3


def test_watch_scores_every_task_on_the_datasets_it_takes(tmp_path: Path) -> None:
    folder = trained_on_a_folder(tmp_path)
    arguments = ["watch", str(tmp_path / "run"), "--task", "knn,analysis", "--dataset", folder]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = [(r["model"]["name"], r["task"]) for _, r in ResultStore(tmp_path / "run" / "results")]
    names = sorted({name for name, _ in found})
    assert len(names) == 2
    assert sorted(found) == [(name, task) for name in names for task in ("analysis", "knn")]
    lines = done.output.splitlines()
    assert sum(" knn " in line and " by layer 1:" in line for line in lines) == 2
    assert sum(" analysis " in line and " layers described" in line for line in lines) == 2
    wrong = CliRunner().invoke(app, [*arguments, "--task", "kn"])
    assert wrong.exit_code == 2
    assert "Did you mean 'knn'" in wrong.output


def test_watch_follows_a_run_that_is_still_writing(tmp_path: Path) -> None:
    for split, count in (("train", 12), ("test", 4)):
        for label in ("a", "b"):
            make_images(tmp_path / "set" / split / label, count)
    folder = f"folder:{tmp_path / 'set'}"
    run, written = tmp_path / "run", tmp_path / "written"
    train(tiny(data=folder, batch_size=12), written)
    names = sorted(path.name for path in (written / "encoders").iterdir())
    (run / "encoders").mkdir(parents=True)

    def write() -> None:
        for name in names:
            time.sleep(0.3)
            (written / "encoders" / name).replace(run / "encoders" / name)
        time.sleep(0.3)
        (written / "encoder.safetensors").replace(run / "encoder.safetensors")

    writer = threading.Thread(target=write)
    writer.start()
    arguments = ["watch", str(run), "--dataset", folder, "--every", "0.05"]
    seen = CliRunner().invoke(app, arguments)
    writer.join()
    assert seen.exit_code == 0, seen.output
    lines = [line for line in seen.output.splitlines() if " by layer " in line]
    assert [f"{line.split()[0]}.safetensors" for line in lines] == names
    assert len(names) == 2
