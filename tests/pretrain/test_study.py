"""The study: its runs are possible, none is trained twice or lost, and its commands run."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from pretrain_fixtures import make_images
from sdssl_bench import tasks
from sdssl_bench.errors import UsageError
from sdssl_bench.pretrain.study import evaluation, runs, training
from sdssl_bench.pretrain.study.differences import (
    compared,
    over_seeds,
    seeds_test,
    what_seeds_show,
)
from sdssl_bench.statistics import read_results
from stored_results import scored

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}


def study(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sdssl_bench.pretrain.study", *arguments]
    return subprocess.run(command, **{**SETTINGS, "cwd": cwd}, capture_output=True, text=True)  # type: ignore[call-overload,no-any-return]


def ledger(out: Path) -> list[tuple[str, str]]:
    lines = (out / training.LEDGER).read_text().splitlines()
    return [(entry["run"], entry["event"]) for entry in map(json.loads, lines)]


@pytest.mark.parametrize("scale", runs.study()["scales"])
def test_every_run_of_every_scale_is_possible_and_differs_from_all_others(scale: str) -> None:
    found = runs.runs(scale)
    configs = [json.dumps(run.config().to_json(), sort_keys=True) for run in found]
    assert len(set(configs)) == len(found) == 23
    names = [run.name for run in found]
    assert names[:4] == ["mocov3-s0", "sd_mocov3-s0", "simclr-s0", "sd_simclr-s0"]
    for run in found:  # a baseline is trained before what is compared with it
        assert run.against is None or names.index(run.against) < names.index(run.name)


def test_a_pair_differs_in_nothing_but_what_it_is_about() -> None:
    """Else a difference of scores would be about something else."""
    found = {run.name: run for run in runs.runs("cpu")}
    for run in found.values():
        if run.against is None:
            continue
        mine, other = run.config().to_json(), found[run.against].config().to_json()
        differing = {name for name in mine if mine[name] != other[name]} - {"preset", "sd", "pred"}
        assert differing <= {"alpha_schedule", "inner_layers", "every_n"}
        assert len(differing) <= 1


def test_the_options_of_a_run_give_its_configuration() -> None:
    from typer.main import get_command

    from sdssl_bench.cli.main import app

    pretrain = get_command(app).commands["pretrain"]  # type: ignore[attr-defined]
    for scale in runs.study()["scales"]:
        for run in runs.runs(scale, limit=8):
            given = pretrain.make_context("pretrain", run.arguments()).params
            settings = {name: value for name, value in given.items() if value is not None}
            settings = {k: v for k, v in settings.items() if k in run.config().to_json()}
            assert settings == {"preset": run.preset, **run.settings}


def test_a_finished_run_is_not_started_again_and_another_run_is_refused(tmp_path: Path) -> None:
    first, second = runs.runs("toy", "*d_mocov3-s0")[:1] + runs.runs("toy", "byol-s0")
    folder = tmp_path / first.name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(first.config().to_json()))
    (folder / "encoder.safetensors").touch()
    assert training.train([first], ["--data", "nothing"], tmp_path, jobs=1) == []
    assert not (tmp_path / training.LEDGER).exists()
    with pytest.raises(UsageError, match="other settings"):
        runs.is_finished(second, folder)


@pytest.mark.slow
def test_a_run_that_fails_is_in_the_ledger_and_holds_up_no_other(tmp_path: Path) -> None:
    two = runs.runs("toy", "*mocov3-s0")[:2]
    names = [run.name for run in two]
    assert sorted(training.train(two, ["--data", "nothing"], tmp_path, jobs=2)) == sorted(names)
    assert sorted(ledger(tmp_path)) == sorted((n, e) for n in names for e in ("started", "stopped"))
    assert "nothing" in (tmp_path / f"{names[0]}.txt").read_text()


def test_an_unknown_set_or_table_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "sets.toml"
    for text, says in (
        ("[sets]\ncifar11 = 'x'", "cifar10"),
        ("[weight]", "weights"),
        ("=", "TOML"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=says):
            evaluation.at_hand(file)


def test_every_set_of_the_study_is_one_that_its_tasks_read() -> None:
    for name, one in runs.study()["sets"].items():
        for options in (*one.get("every", ()), *one["tasks"]):
            task = tasks.load(options["task"], options.get("protocol"))
            folder = task.folder_has and name in ("tiny_imagenet", "pumavos")
            assert folder or one.get("dataset", name) in task.datasets


def test_a_further_run_is_scored_on_fewer_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def evaluate(name: str, **given: object) -> dict[str, object]:
        calls.append((name, given["task"], given["dataset"]))
        return {"layers": {}, "headline": "top1"}

    monkeypatch.setattr(evaluation.api, "evaluate", evaluate)
    names = ("mocov3-s0", "mocov3-s1", "byol-s1", "vit_s14")
    encoders = [(name, lambda name=name: name) for name in names]
    sets = {"cifar10": "folder:x", "flowers": "data", "pumavos": "folder:y"}
    assert evaluation.evaluate(iter(encoders), sets, tmp_path, cache=tmp_path / "cache") == []  # type: ignore[arg-type]
    short = [("knn", "folder:x"), ("linear", "folder:x")]
    video = ("davis", "folder:y")
    whole = [*short, ("analysis", "folder:x"), ("knn", "flowers"), ("linear", "flowers"), video]
    scored_on = (whole, short, [*short, video], whole)
    assert calls == [
        (name, *one) for name, each in zip(names, scored_on, strict=True) for one in each
    ]


def test_seeds_are_tested_by_going_through_all_signs() -> None:
    values = {"a-s0": 0.02, "a-s1": 0.01, "b-s0": 0.03, "b-s1": -0.005}
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    sums = np.abs(np.array(list(values.values())) @ signs)
    p, least = seeds_test(values)
    assert p == (sums >= sum(values.values()) - 1e-12).mean()
    assert least == 2 / 16
    assert "p = 0.5 at best" in what_seeds_show({("knn", 1): values})


def test_methods_of_which_one_seed_is_scored_say_nothing_about_seeds(tmp_path: Path) -> None:
    plan = runs.runs("cpu")

    def rows(*scored_runs: str) -> dict[tuple[str, int], list[str]]:
        for name in scored_runs:
            scored(tmp_path, name, "cifar10", {1: 90, 2: 100})
        found = over_seeds(plan, compared(plan, read_results([tmp_path])[0]))
        return {where: list(row) for where, row in found.items()}

    assert rows("mocov3-s0", "sd_mocov3-s0", "simclr-s0", "sd_simclr-s0") == {}
    assert "says nothing about another training run" in what_seeds_show({})
    both = ["sd_simclr-s0", "sd_simclr-s1"]
    assert rows("simclr-s1", "sd_simclr-s1") == {("knn cifar10", 1): both, ("knn cifar10", 2): both}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder as the text's commands expect it, with images of two classes."""
    for split, count in (("train", 20), ("test", 6)):
        for label in ("a", "b"):
            make_images(tmp_path / "data" / "cifar10" / split / label, count)
    (tmp_path / "data" / "sets.toml").write_text("[sets]\ncifar10 = 'folder:data/cifar10'\n")
    (tmp_path / "docs").mkdir()
    shutil.copyfile(ROOT / "docs" / "study.md", tmp_path / "docs" / "study.md")
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_text_run_as_they_stand_with_a_limit(place: Path) -> None:
    """On one run, for the time it takes."""
    text = (ROOT / "docs" / "study.md").read_text("utf-8")
    for line in text.split("```bash\n")[1].split("```")[0].splitlines():
        python, *command = shlex.split(line)
        assert (python, command[:2]) == ("python", ["-m", "sdssl_bench.pretrain.study"])
        only = [] if "tables" in command else ["--only", "mocov3-s0"]
        done = study(*command[2:], "--limit", "24", *only, cwd=place)
        assert done.returncode == 0, done.stderr + done.stdout
        if "status" in command:
            assert done.stdout.split() == ["mocov3-s0", "finished"]
    results = place / "results" / "study"
    assert (results / "weights" / "mocov3-s0-fp16.safetensors").exists()
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/*.json")]
    assert {(r["task"], r["limited"]) for r in records} == {
        (t, 24) for t in ("knn", "linear", "analysis")
    }
    refused = study("tables", cwd=place)
    assert (refused.returncode, "no records of the study" in refused.stderr) == (3, True)


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on_and_comes_to_the_same_encoder(place: Path) -> None:
    arguments = [
        "train",
        "--scale",
        "toy",
        "--data",
        "folder:data/cifar10",
        "--only",
        "sd_mocov3-s0",
    ]
    assert study(*arguments, "--out", "whole", cwd=place).returncode == 0
    command = [sys.executable, "-m", "sdssl_bench.pretrain.study", *arguments, "--out", "runs"]
    running = subprocess.Popen(command, **{**SETTINGS, "cwd": place})  # type: ignore[call-overload]
    log = place / "runs" / "sd_mocov3-s0" / "log.jsonl"
    while not log.exists():
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    stopped = running.wait(200)
    assert study(*arguments, "--out", "runs", cwd=place).returncode == 0
    events = [event for _, event in ledger(place / "runs")]
    if stopped:  # it may have come to its end first
        assert (stopped, events) == (143, ["started", "stopped", "started", "finished"])
    mine, other = (
        place / out / "sd_mocov3-s0" / "encoder.safetensors" for out in ("runs", "whole")
    )
    assert mine.read_bytes() == other.read_bytes()
    assert fnmatch(study("status", "--scale", "toy", "--only", "sd_mocov3-s0", "--out", "runs",
                         cwd=place).stdout, "*finished*")  # fmt: skip
