"""Laws of a sweep: its jobs are the product, less what is stored, and every one is a valid `run`."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mini_data import shared_mini
from sdssl_bench import checkpoints, tasks
from sdssl_bench.cli.main import app
from sdssl_bench.cli.sweep_jobs import jobs_of
from sdssl_bench.cli.sweep_plan import read_plan
from sdssl_bench.encoders import ViTConfig, build_vit
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records import ResultStore

ROOT = Path(__file__).resolve().parents[2]
SETS = ("cifar10", "flowers")
WORDS = ("knn", "linear/logreg")
PLAN = """
models = ["runs/*/encoder.safetensors"]
datasets = ["cifar10", "flowers"]
layers = "all"
data_root = {data!r}
results = "the results"
cache = "cache"

[tasks.knn]
k = [5, 3]
headline_k = 5
[tasks.linear]
protocol = "logreg"
features = "cls"
transform = "A"
[run]
num_workers = 0
batch_size = 16
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two encoders and a plan; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("SDSSL_BENCH_RESULTS", "SDSSL_BENCH_DATA", "SDSSL_BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for seed in range(2):
        torch.manual_seed(seed)
        encoder = build_vit(ViTConfig(dim=48, depth=3, heads=3, patch_size=8, img_size=32))
        folder = tmp_path / "runs" / f"it's {seed}"  # a shell must not read it
        folder.mkdir(parents=True)
        checkpoints.save(encoder, folder / "encoder.safetensors", network="teacher")
    (tmp_path / "plan.toml").write_text(PLAN.format(data=str(shared_mini())))
    return tmp_path


def models() -> list[str]:
    return sorted(str(path) for path in Path("runs").glob("*/encoder.safetensors"))


def cli(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done


def lines() -> list[list[str]]:
    printed = cli("sweep", "plan.toml", "--print").stdout
    return [shlex.split(line) for line in printed.splitlines()]


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def measurements(commands: list[list[str]]) -> Counter[tuple[str, str, str]]:
    return Counter(
        (value(words, "--ckpt"), value(words, "--dataset"), word)
        for words in commands
        for word in value(words, "--task").split(",")
    )


def states() -> dict[tuple[str, str, str], str]:
    rows = json.loads(cli("sweep", "status", "plan.toml", "--json").stdout)
    return {(row["model"], row["dataset"], row["task"]): row["state"] for row in rows}


def test_the_jobs_are_the_product_and_what_shares_a_pass_is_one(place: Path) -> None:
    commands = lines()
    assert measurements(commands) == Counter(product(models(), SETS, WORDS))
    passes = Counter((value(one, "--ckpt"), value(one, "--dataset")) for one in commands)
    assert set(passes.values()) == {1}
    assert not (place / "the results").exists()


def test_tasks_that_show_images_otherwise_or_score_other_layers_stand_apart(place: Path) -> None:
    text = Path("plan.toml").read_text().replace('transform = "A"', "")
    tables = '[tasks.finetune]\nlayers = "3"\n[tasks.analysis]\n[tasks.davis]\n[run]'
    Path("plan.toml").write_text(text.replace("[run]", tables))
    commands = lines()
    groups = Counter((value(one, "--dataset"), value(one, "--task")) for one in commands)
    alone = ("linear/logreg", "finetune")
    expected = {*product(SETS, ("knn,analysis", *alone)), ("davis", "davis")}
    assert groups == Counter(dict.fromkeys(expected, 2))
    for one in commands:
        assert ("--all-layers" in one) == (value(one, "--task") != "finetune")


def test_what_two_tasks_mean_differently_is_two_commands(place: Path) -> None:
    text = Path("plan.toml").read_text()
    Path("plan.toml").write_text(
        text.replace("[tasks.linear]", "[[tasks.linear]]")
        + """
[[tasks.linear]]
protocol = "logreg"
transform = "A"
"""
    )
    commands = lines()
    assert len(commands) == 8
    assert set(measurements(commands)) == set(product(models(), SETS, WORDS))


def test_every_line_is_read_by_run_as_the_plan_says(place: Path) -> None:
    from sdssl_bench.cli import asked_tasks
    from sdssl_bench.cli import options as opt
    from sdssl_bench.cli.sweep_plan import read_run

    wanted = [
        tasks.load("knn", None, {"k": "5,3", "headline_k": "5"}),
        tasks.load("linear", "logreg", {"features": "cls", "transform": "A"}),
    ]
    for program, command, *words in lines():
        assert (program, command) == ("sdssl-bench", "run")
        params = read_run(words).params
        assigned = opt.assignments("--set", params["changes"])
        names, left_out = asked_tasks.chosen_tasks(params["task"], {})
        assert (names, left_out) == (list(WORDS), [])
        assert asked_tasks.loaded(names, params["protocol"], {}, assigned=assigned) == wanted
        assert Path(params["ckpt"]).is_file()
        assert (params["num_workers"], params["batch_size"]) == (0, "16")
        assert (str(params["out"]), params["all_layers"]) == ("the results", True)


def test_what_is_recorded_is_left_out_and_nothing_else(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the record was made by another command, of a copy of the file elsewhere."""
    every = set(product(models(), SETS, WORDS))
    assert set(states().values()) == {"missing"}
    loads: list[str] = []
    load = checkpoints.load
    monkeypatch.setattr(
        checkpoints, "load", lambda uri, **options: loads.append(uri) or load(uri, **options)
    )
    assert set(measurements(lines())) == every
    assert loads == []  # no record could be any model's
    first = models()[0]
    copy = shutil.copytree(Path(first).parent, Path("elsewhere") / Path(first).parent.name)
    elsewhere = str(copy / "encoder.safetensors")
    knn = ["run", "-t", "knn", "-d", "cifar10", "--set", "k=5,3", "--set", "headline_k=5", "-j", "0",
           "--data-root", str(shared_mini()), "--out", "the results"]  # fmt: skip
    cli(*knn, "-c", elsewhere, "--layers", "1")
    assert states()[first, "cifar10", "knn"] == "1/3"
    loads.clear()
    assert set(measurements(lines())) == every  # layers are missing
    assert set(loads) == {first}
    cli(*knn, "-c", elsewhere, "--all-layers")
    assert set(measurements(lines())) == every - {(first, "cifar10", "knn")}
    assert {key for key, state in states().items() if state == "done"} == {
        (first, "cifar10", "knn")
    }
    cli(*knn, "-c", models()[1], "--all-layers", "--limit", "20")
    assert states()[models()[1], "cifar10", "knn"] == "trial"
    assert set(measurements(lines())) == every - {(first, "cifar10", "knn")}


@pytest.mark.slow
def test_the_lines_are_the_sweep(place: Path) -> None:
    for words in lines():
        cli(*words[1:])
    assert len(list(ResultStore(Path("the results")))) == 8
    assert lines() == []
    assert set(states().values()) == {"done"}
    shown = cli("sweep", "status", "plan.toml").output
    assert "8 of 8 done" in shown
    assert "nothing is left to do" in cli("sweep", "plan.toml", "--local", "2").output


def test_of_two_networks_of_one_file_each_has_its_own_state(place: Path) -> None:
    text = Path("plan.toml").read_text()
    first = models()[0]
    other = f'{{ ckpt = "{first}", norm = "none" }}'
    Path("plan.toml").write_text(
        text.replace('"runs/*/encoder.safetensors"', f'"{first}", {other}')
    )
    commands = [one for one in lines() if value(one, "--dataset") == "cifar10"]
    assert len(commands) == 2
    (words,) = [one for one in commands if "--norm" in one]
    cli(*words[1:])
    found = {model for (model, _, _), state in states().items() if state == "done"}
    assert found == {f"{first} norm=none"}
    (left,) = [one for one in lines() if value(one, "--dataset") == "cifar10"]
    assert "--norm" not in left


@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_pieces_are_gathered_once_and_recorded_as_themselves(place: Path) -> None:
    import fake_checkpoints as fake
    from fake_folders import make

    folder = make("distributed", Path("pieces"), fake.vit(1).state_dict())
    text = Path("plan.toml").read_text()
    Path("plan.toml").write_text(text.replace("runs/*/encoder.safetensors", "pieces"))
    cli("sweep", "plan.toml")
    assert not Path("cache").exists()
    commands = lines()
    (ckpt,) = {value(one, "--ckpt") for one in commands}
    assert Path(ckpt).parent.parent == place / "cache" / "checkpoints"
    cli(*next(one for one in commands if value(one, "--dataset") == "cifar10")[1:])
    records = [record for _, record in ResultStore(Path("the results"))]
    info = checkpoints.load(str(folder)).info
    assert info is not None
    assert {one["model"]["weights_sha256"] for one in records} == {info.weights_sha256}
    assert {one["model"]["file_sha256"] for one in records} == {info.file_sha256}
    assert set(states().values()) == {"done", "missing"}
    assert {value(one, "--dataset") for one in lines()} == {"flowers"}


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("models =", "modles =", 2, "Did you mean 'models'"),
        ("runs/*/encoder", "runs/*/encodr", 2, "no checkpoint is found at runs/*/encodr"),
        ("\"cifar10\", ", '"cifar1O", ', 3, "Did you mean 'cifar10'"),
        ('"all"', '"every"', 4, 'layers takes "all"'),
        ("[tasks.knn]", "[tasks.kn]", 9, "Did you mean 'knn'"),
        ("k = [5, 3]", "kk = 3", 10, "Did you mean 'k'"),
        ("k = [5, 3]", 'k = "five"', 10, "comma list"),
        ("headline_k = 5", "headline_k = 7", 9, "headline"),
        ('"logreg"', '"logregg"', 13, "Did you mean 'logreg'"),
        ("num_workers = 0", "num_worker = 0", 17, "Did you mean 'num_workers'"),
        ("num_workers = 0", 'num_workers = "x"', 17, "num-workers"),
        ("num_workers = 0", 'dtype = "int8"', 17, "--dtype"),
        ("num_workers = 0", "limit = 0", 17, "limit"),
        ("num_workers = 0", "seed = []", 17, "seed"),
        ("num_workers = 0", 'protocol = "dino"', 17, "key of [run]"),
        ("[run]", '[slurm]\narray = "1-3"\n[run]', 17, "set by the sweep"),
        ("datasets = [", "datasets = ", 3, "is no TOML file"),
        ("[run]", "[tasks.cka]\n[run]", 16, "needs --against"),
        ("[run]", "[tasks.analysis]\npanels = 'x'\n[run]", 17, "one run writes to"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(
    place: Path, old: str, new: str, line: int, says: str
) -> None:
    text = Path("plan.toml").read_text()
    assert old in text
    Path("plan.toml").write_text(text.replace(old, new, 1))
    with pytest.raises((UsageError, DataError)) as error:
        jobs_of(read_plan(Path("plan.toml")))
    message = str(error.value)
    assert says in message
    assert re.match(rf"plan.toml(, line {line}:| is no TOML file: .*line {line},)", message), (
        message
    )
    assert message.count("plan.toml") == 1


def test_the_plan_of_the_page_is_one(place: Path) -> None:
    page = (ROOT / "docs" / "clusters.md").read_text("utf-8")
    text = page.partition('```toml title="plan.toml"\n')[2].partition("```")[0]
    assert "/shared/runs/*/encoder.safetensors" in text
    text = text.replace("/shared/runs", "runs").replace("/shared/dino.pth", models()[0])
    Path("plan.toml").write_text(text)
    jobs = jobs_of(read_plan(Path("plan.toml")))
    words = Counter((job.dataset, part.word) for job in jobs for part in job.parts)
    pairs = [*product(SETS, WORDS), ("davis", "davis")]
    assert words == Counter(dict.fromkeys(pairs, 3))
    for job in jobs:
        assert job.params["dtype"] == "bfloat16"
        assert job.params["network"] == ("teacher" if job.model.options else None)


def test_ways_to_run_exclude_each_other(place: Path) -> None:
    for arguments, says in (
        (("plan.toml", "--print", "--local", "2"), "--print and --local exclude"),
        (("status", "plan.toml", "--print"), "status and --print exclude"),
        (("plan.toml", "other.toml"), "Expected one plan"),
        (("plan.toml", "--json"), "--json goes with status"),
        (("none.toml",), "Expected a plan in none.toml"),
    ):
        assert says in cli("sweep", *arguments, code=2).output


FAKE = {
    # As Slurm's own do: srun that is told to end kills its step, scancel signals the step and not srun.
    "srun": '#!/bin/bash\n"$@" &\necho $! > step\ntrap "kill -KILL $!" TERM\n'
    "while kill -0 $! 2>/dev/null; do wait $!; code=$?; done\nexit $code\n",
    "scancel": '#!/bin/bash\n[ "$*" = "--signal=TERM 77.0" ] && kill -TERM "$(cat step)"\n',
    "scontrol": '#!/bin/bash\necho "$@" > requeued\n',
    "sdssl-bench": "#!{python}\nimport json, signal, sys\n"
    "json.dump(sys.argv[1:], open('called', 'w'))\n"
    "if {wait}:\n"
    "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    "    open('waits', 'w')\n"
    "    signal.pause()\n",
}


def fakes(place: Path, *, wait: bool) -> dict[str, str]:
    """Environment with the programs of a cluster, and a command that says what it was asked for."""
    folder = place / "bin"
    folder.mkdir()
    for name, text in FAKE.items():
        (folder / name).write_text(
            text.format(python=sys.executable, wait=wait) if name == "sdssl-bench" else text
        )
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "77"}


def written(place: Path) -> Path:
    table = """
[slurm]
time = "4:00:00"
gpus = 1
cpus_per_task = 8
exclusive = true
at_once = 3
setup = '''
export GREETING="it's set"
'''
"""
    with Path("plan.toml").open("a") as file:
        file.write(table)
    cli("sweep", "plan.toml", "--slurm", "jobs.sh")
    return place / "jobs.sh"


def test_each_number_of_the_array_runs_its_job(place: Path) -> None:
    commands = lines()
    file = written(place)
    assert subprocess.run(["bash", "-n", str(file)]).returncode == 0
    directives = [one for one in file.read_text().splitlines() if one.startswith("#SBATCH")]
    assert {
        "#SBATCH --array=0-3%3", "#SBATCH --requeue", "#SBATCH --time=4:00:00", "#SBATCH --gpus=1",
        "#SBATCH --cpus-per-task=8", "#SBATCH --exclusive", "#SBATCH --signal=B:USR1@120",
    } <= set(directives)  # fmt: skip
    environment = fakes(place, wait=False)
    elsewhere = place / "bin"
    for number, words in enumerate(commands):
        settings = {**environment, "SLURM_ARRAY_TASK_ID": str(number)}
        assert subprocess.run(["bash", str(file)], env=settings, cwd=elsewhere).returncode == 0
        assert json.loads(Path("called").read_text()) == words[1:]
    settings = {**environment, "SLURM_ARRAY_TASK_ID": "4"}
    assert subprocess.run(["bash", str(file)], env=settings).returncode == 2
    assert not Path("requeued").exists()


@pytest.mark.parametrize("by", [signal.SIGUSR1, signal.SIGTERM])
def test_the_warning_before_the_limit_requeues_and_a_cancellation_does_not(
    place: Path, by: signal.Signals
) -> None:
    file = written(place)
    settings = {**fakes(place, wait=True), "SLURM_ARRAY_TASK_ID": "0"}
    job = subprocess.Popen(["bash", str(file)], env=settings)
    while not Path("waits").exists():
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(by)
    if by == signal.SIGTERM:  # a cancellation: Slurm tells the step itself
        os.kill(int(Path("step").read_text()), by)
    assert job.wait(20) == 143
    assert Path("requeued").exists() == (by == signal.SIGUSR1)
    if by == signal.SIGUSR1:
        assert Path("requeued").read_text() == "requeue 77\n"


def command(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sdssl_bench", "sweep", "plan.toml", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_job_that_fails_stops_no_other_and_the_exit_code_tells(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are other processes; here they only look at their arguments."""
    import sdssl_bench.system as system

    asked: list[Any] = []
    whole = system.Job

    def job(name: str, words: list[str], output: Path) -> Any:
        code = (
            "raise SystemExit('error: no such set')" if "flowers" in words else "import os; print("
        )
        code += "" if "flowers" in words else "os.environ['CUDA_VISIBLE_DEVICES'])"
        asked.append(words)
        return whole(name, [sys.executable, "-c", code], output)

    monkeypatch.setattr(system, "Job", job, raising=False)
    monkeypatch.setattr(system, "cuda_devices", lambda: ["GPU-a", "GPU-b"], raising=False)
    done = cli("sweep", "plan.toml", "--local", "3", code=1)
    assert [one[3:] for one in asked] == [one[1:] for one in lines()]
    assert done.output.count("error: no such set") == 2
    assert "2 of 4 jobs failed" in done.output
    said = [path.read_text().strip() for path in Path("the results/jobs").glob("*cifar10*.txt")]
    assert len(said) == 2
    assert set(said) <= {"GPU-a", "GPU-b"}


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_to_the_scores_of_its_lines(place: Path) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL, None):
        before = len(list(ResultStore(Path("the results"))))
        job = command("--local", "2")
        if end is not None:
            while len(list(ResultStore(Path("the results")))) <= before and job.poll() is None:
                time.sleep(0.1)
            job.send_signal(end)
        _, errors = job.communicate(timeout=500)
        assert job.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9, None: 0}[end], errors
        if end == signal.SIGTERM:
            assert "goes on from there" in errors
        time.sleep(2)  # those that a kill leaves end by themselves
    assert set(states().values()) == {"done"}
    disturbed = scores("the results")
    text = (
        Path("plan.toml").read_text().replace("the results", "anew").replace('"cache"', '"other"')
    )
    Path("plan.toml").write_text(text)
    for words in lines():
        cli(*words[1:])
    assert disturbed == scores("anew")


def scores(results: str) -> dict[str, dict[str, dict[str, float]]]:
    return {
        record["key"]: {layer: entry["metrics"] for layer, entry in record["layers"].items()}
        for _, record in ResultStore(Path(results))
    }
