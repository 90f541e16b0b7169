"""The folder of a run: what is refused, redone and cleaned up when a run goes on."""

import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from typer.testing import CliRunner

from pretrain_fixtures import log_lines, make_images, tiny
from processes import together
from sdssl_bench import checkpoints
from sdssl_bench.cli.main import app
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.pretrain.run import run_folder
from sdssl_bench.pretrain.run import train as training
from sdssl_bench.pretrain.run.agreement import newest_common
from sdssl_bench.pretrain.run.train import train
from sdssl_bench.system import distributed

MAIN = Path(__file__).resolve().parents[2] / "pretrain" / "main.py"


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; a run in a process of its own starts without."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(make_images(tmp_path / "images", 24))


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    for split, count in (("train", 12), ("test", 4)):
        for label in ("a", "b"):
            make_images(tmp_path / "set" / split / label, count)
    return f"folder:{tmp_path / 'set'}"


def names(out: Path, folder: str = "snapshots") -> list[str]:
    return sorted(path.name for path in (out / folder).iterdir())


def test_a_log_that_a_full_disk_cut_short_does_not_stop_the_run_from_going_on(
    data: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(tiny(data=data, stop_epoch=1), out)
    with (out / "log.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')
    train(tiny(data=data), out, resume="auto")
    assert [line["step"] for line in log_lines(out)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("what", ["log", "encoder"])
def test_a_disk_that_fills_up_is_an_error_without_traceback(
    what: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    if what == "encoder":

        def save(*_: Any, **__: Any) -> None:
            raise full

        monkeypatch.setattr(checkpoints, "save", save)
    else:
        real = Path.open

        def opened(self: Path, *arguments: Any, **options: Any) -> Any:
            if self.name == "log.jsonl" and arguments[:1] == ("a",):
                raise full
            return real(self, *arguments, **options)

        monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DataError, match=r"cannot be written.*No space left.*--resume auto"):
        train(tiny(data=data), tmp_path / "run")


def test_an_older_snapshot_is_not_resumed_among_later_ones(data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(tiny(data=data), out)
    older = out / "snapshots" / "step-000000003.pt"
    with pytest.raises(UsageError, match=r"step-000000006\.pt.*another --out"):
        train(tiny(data=data), out, resume=str(older))
    assert names(out) == ["step-000000003.pt", "step-000000006.pt"]
    train(tiny(data=data), tmp_path / "branch", resume=str(older))
    assert names(tmp_path / "branch") == ["step-000000006.pt"]


def test_a_snapshot_that_is_not_there_is_named_with_those_that_are(
    data: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(tiny(data=data, stop_epoch=1), out)
    with pytest.raises(UsageError, match=r"step-9\.pt, found none.*step-000000003\.pt"):
        train(tiny(data=data), out, resume=str(out / "snapshots" / "step-9.pt"))


def test_a_refused_run_leaves_the_folder_as_it_was(data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(tiny(data=data, stop_epoch=1), out)
    before = (out / "config.json").read_text()
    with pytest.raises(UsageError, match="--beta"):
        train(tiny(data=data, beta=0.5), out, resume="auto")
    assert (out / "config.json").read_text() == before
    assert (out / "encoder.safetensors").exists()


def test_a_run_that_goes_on_is_not_finished_any_more(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`watch` would stop at the encoder of the first part."""
    out = tmp_path / "run"
    train(tiny(data=data, stop_epoch=1), out)
    (out / "snapshots" / ".step-000000006.pt.0.tmp").write_bytes(b"killed while writing")
    seen: list[bool] = []
    real = training.backward

    def looking(*arguments: Any, **options: Any) -> Any:
        seen.append((out / "encoder.safetensors").exists())
        return real(*arguments, **options)

    monkeypatch.setattr(training, "backward", looking)
    train(tiny(data=data), out, resume="auto")
    assert seen == [False] * 3
    assert names(out) == ["step-000000003.pt", "step-000000006.pt"]


def test_scores_and_encoders_that_an_interruption_prevented_are_made_up_for(
    labelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(data=labelled, knn=labelled, batch_size=12, knn_every=1)
    train(config, tmp_path / "whole")
    out = tmp_path / "run"

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    real = run_folder.export
    calls: list[int] = []

    def export(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:  # after the first snapshot, before its encoder and scores
            killed()
        real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "export", export)
        with pytest.raises(KeyboardInterrupt):
            train(config, out)
    assert names(out) == ["step-000000002.pt"]
    with monkeypatch.context() as patch:  # and again, between the encoder and its scores
        patch.setattr(training, "knn_records", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, out, resume="auto")
    train(config, out, resume="auto")
    assert names(out, "encoders") == names(tmp_path / "whole", "encoders")

    def scores(folder: Path) -> dict[int, Any]:
        lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        return {line["step"]: line["knn"] for line in lines if "knn" in line}

    assert scores(out) == scores(tmp_path / "whole")
    assert list(scores(out)) == [0, 2, 4]
    train(config, out, resume="auto")
    assert list(scores(out)) == [0, 2, 4]
    assert not (out / "cache").exists(), "features of all evaluations would fill the disk"


def test_weights_that_are_not_finite_are_no_good_snapshot(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the saving step is finite, its update is not."""
    real = training.backward
    calls: list[int] = []

    def poisoned(accelerator: Any, model: Any, *views: Any, **options: Any) -> Any:
        terms = real(accelerator, model, *views, **options)
        calls.append(1)
        if len(calls) == 6:
            next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("inf"))
        return terms

    monkeypatch.setattr(training, "backward", poisoned)
    with pytest.raises(TaskError, match=r"weights are not finite after step 6.*step-000000003\.pt"):
        train(tiny(data=data), tmp_path / "run")
    assert names(tmp_path / "run") == ["step-000000003.pt"]


def test_features_that_are_not_finite_are_told_as_the_loss_they_make(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.backward

    def poisoned(*arguments: Any, **options: Any) -> Any:
        terms = real(*arguments, **options)
        nothing = terms.features * float("nan")
        return terms._replace(total=terms.total * float("nan"), features=nothing)

    monkeypatch.setattr(training, "backward", poisoned)
    with pytest.raises(TaskError, match="not finite at step 0"):
        train(tiny(data=data, log_every=100, collapse_every=1), tmp_path / "run")


def test_a_launcher_and_a_run_of_different_precision_are_refused(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UsageError, match="--mixed-precision bf16 behind"):
        train(tiny(data=data), tmp_path / "run")
    train(tiny(data=data, mixed_precision="bf16", stop_epoch=1), tmp_path / "run")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "divide every loss .* --accumulate"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "--dynamo_backend no"),
        ("ACCELERATE_GRADIENT_CLIPPING", "1.0", "no recipe clips"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "fp8, the run's own setting is no: launch with"),
    ],
)
def test_what_a_launcher_brings_along_agrees_or_is_one_sentence(
    variable: str, value: str, says: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=says):
        train(tiny(data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_launcher_brings_along_unused_is_recorded(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused = {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    for name, value in unused.items():
        monkeypatch.setenv(name, value)
    train(tiny(data=data, stop_epoch=1), tmp_path / "run")
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert first["launch"].items() >= {"processes": 1, "device": "cpu", **unused}.items()


def test_nodes_go_on_from_the_newest_snapshot_that_all_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "snapshots").mkdir()
    mine = ["step-000000008.pt", "step-000000016.pt"]
    for name in mine:
        (tmp_path / "snapshots" / name).touch()
    others: list[list[str]] = []
    monkeypatch.setattr(distributed, "gather_objects", lambda value: [value, *others])
    assert newest_common(tmp_path) == tmp_path / "snapshots" / mine[1]
    others[:] = [mine[:1]]
    assert newest_common(tmp_path) == tmp_path / "snapshots" / mine[0]
    others[:] = [[]]
    with pytest.raises(DataError, match=r"no snapshot in common.*step-000000016\.pt"):
        newest_common(tmp_path)
    assert newest_common(tmp_path / "snapshots") is None


def test_watch_takes_the_runs_own_dataset(labelled: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(tiny(data=labelled, batch_size=12, stop_epoch=1, knn=labelled, knn_every=9), out)
    done = CliRunner().invoke(app, ["watch", str(out), "--task", "knn"])
    assert done.exit_code == 0, done.output
    assert "knn" in done.output
    model = checkpoints.load(str(next((out / "encoders").glob("epoch-0001*")))).info
    assert model is not None
    assert model.name == "run/epoch-0001.000"
    (out / "config.json").unlink()
    refused = CliRunner().invoke(app, ["watch", str(out)])
    assert refused.exit_code == 2
    assert "--dataset" in refused.output


def test_trackers_get_the_scores_and_measures_too(labelled: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    config = tiny(data=labelled, batch_size=12, knn=labelled, knn_every=1, collapse_every=1)
    train(config.__class__(**{**config.to_json(), "log_with": "tensorboard"}), out)
    (written,) = (out / "sdssl-bench").glob("events.out.tfevents.*")
    events = EventAccumulator(str(written)).Reload()
    assert [e.step for e in events.Scalars("knn/layer03")] == [0, 2, 4]
    assert [e.step for e in events.Scalars("rankme")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_nodes_with_and_without_a_shared_disk(labelled: str, tmp_path: Path) -> None:
    """One process a node, each in a folder of its own or in the same."""
    from pretrain_fixtures import SETTINGS, command_line

    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    def run(where: list[Path], **changes: Any) -> list[str]:
        settings = {**SETTINGS, "data": labelled, "epochs": 6, **changes}
        flags = [*command_line(settings), "--out", "run", "--resume", "auto"]
        done = together(2, sys.executable, MAIN, *flags, cwd=where)
        errors = [said for _, _, said in done]
        assert len({code for code, _, _ in done}) == 1, errors
        return [f"exit {done[0][0]}", *errors]

    assert run([tmp_path, tmp_path], knn=labelled)[0] == "exit 0"
    assert names(tmp_path / "run") == ["step-000000015.pt", "step-000000018.pt"]
    refused = run(folders, knn=labelled)
    assert refused[0] != "exit 0"
    assert "do not share run" in refused[1]
    assert run(folders, stop_epoch=3)[0] == "exit 0"
    (folders[1] / "run" / "snapshots" / "step-000000009.pt").unlink()
    assert run(folders)[0] == "exit 0"

    def weights(out: Path) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.load(
            out / "run" / "snapshots" / "step-000000018.pt", weights_only=True
        )["model"]
        return found

    shared, first, second = map(weights, (tmp_path, *folders))
    differing = [k for k, v in shared.items() if not torch.equal(first[k], v)]
    differing += [k for k, v in first.items() if not torch.equal(second[k], v)]
    assert not differing
