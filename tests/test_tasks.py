"""Laws of the declarations: light to read, complete, and enough for a task of another package."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sdssl_bench
from mini_data import shared_mini
from sdssl_bench import tasks
from sdssl_bench.api import task_runs
from sdssl_bench.cli import asked_tasks, task_options
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.system import plugins
from sdssl_bench.task import Option, Task

PACKAGE = Path(sdssl_bench.__file__).parent
CKPT = f"custom:{Path(__file__).parent / 'tiny_model.py'}:build"
HEAVY = ("torch", "numpy", "pandas", "sklearn", "scipy", "PIL", "rich", "matplotlib")


def test_declarations_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sdssl_bench import tasks\n"
        "from sdssl_bench.cli import task_options\n"
        "for name in tasks.task_names(): assert tasks.task_class(name).name == name\n"
        "assert task_options.parameters()\n"
        f"heavy = set({HEAVY!r}) & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_line_names_no_option_of_a_task() -> None:
    declared = task_options.declared()
    words = {key for owners in declared.values() for one in owners.values() for key in one.keys}
    words |= declared.keys()
    for file in ("run", "running", "asked_tasks", "task_options", "help", "options"):
        tree = ast.parse((PACKAGE / "cli" / f"{file}.py").read_text())
        texts = {n.value.strip("-") for n in ast.walk(tree)
                 if isinstance(n, ast.Constant) and isinstance(n.value, str)}  # fmt: skip
        assert not texts & words, file


def test_options_are_of_fields_that_exist() -> None:
    for kind in map(tasks.task_class, tasks.task_names()):
        types = tasks.parameter_types(kind)
        for option in kind.options:
            if option.kind == "parameter":
                assert set(option.keys) <= set(types), (kind, option)
            assert option.help.endswith("."), (kind, option)
        assert len(kind.title) <= 60
        assert set(kind.default_datasets) <= set(kind.datasets)
        for preset, changes in kind.presets.items():
            assert set(changes) <= set(types), preset


def test_an_option_of_two_tasks_is_one_and_says_whose_it_is() -> None:
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "80"}).output
    for name, owners in task_options.declared().items():
        assert shown.count(f"--{name} ") + shown.count(f"--{name}\n") >= 1
        panel = f"Only for task{'s' if len(owners) > 1 else ''} {' and '.join(owners)}\n"
        below = shown.partition(panel)[2].partition("\n\n")[0]
        assert f"--{name} " in below, (name, panel)


def test_an_option_that_two_tasks_mean_differently_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = next(iter(task_options.declared()["strips"]))
    monkeypatch.setattr(
        tasks.task_class("knn"), "options", (Option("strips", "input", "Images."),), raising=True
    )
    task_options._declared.cache_clear()
    with pytest.raises(UsageError, match=f"{owner} and knn mean different things by --strips"):
        task_options.declared()
    monkeypatch.undo()
    task_options._declared.cache_clear()


def loaded(*names: str) -> list[Task]:
    return [tasks.load(name) for name in names]


def runs(*names: str, on: list[str], every: bool = False) -> list[str]:
    found = task_runs(loaded(*names), on, every=every)
    return [f"{task.name} {name}" for task, name in found]


def test_a_task_runs_on_the_datasets_it_takes_or_on_its_own(tmp_path: Path) -> None:
    assert runs("knn", "davis", on=["pets"]) == ["knn pets", "davis davis"]
    assert runs("davis", on=[]) == ["davis davis"]
    assert runs("knn", "retrieval", on=["pets", "rparis6k", "pets"]) == [
        "knn pets", "retrieval rparis6k",
    ]  # fmt: skip
    assert len(runs("knn", "davis", on=["all"])) == len(tasks.load("knn").datasets) + 1
    (tmp_path / "train").mkdir()
    folder = f"folder:{tmp_path}"
    assert runs("knn", "davis", on=[folder]) == [f"knn {folder}", "davis davis"]
    assert runs("knn", "davis", on=["davis"], every=True) == ["davis davis"]
    for names, on, message in (
        (("knn",), [], "knn needs --dataset"),
        (("knn", "davis"), [], "knn needs --dataset"),
        (("knn", "davis"), ["davis"], "knn needs --dataset"),
        (("knn",), ["davis"], "Unknown dataset of knn 'davis'"),
        (("davis", "knn"), ["cifar11"], "Unknown dataset of davis, knn 'cifar11'. Did you mean"),
        (
            ("davis", "knn"),
            [f"{folder}/train"],
            r"one of JPEGImages/480p/ \(davis\), train/ \(knn\)",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            runs(*names, on=on)


def test_all_leaves_out_what_lacks_an_option_and_says_so() -> None:
    chosen, left_out = asked_tasks.chosen_tasks(["all"], {})
    assert set(chosen) == set(tasks.task_names()) - {"cka"}
    assert left_out == ["cka (needs --against)"]
    assert "cka" in asked_tasks.chosen_tasks(["all"], {"against": "x"})[0]
    assert asked_tasks.chosen_tasks(["knn,all"], {})[0][0] == "knn"
    with pytest.raises(UsageError, match="cka needs --against"):
        asked_tasks.chosen_tasks(["cka"], {})


def test_an_option_with_an_effect_on_none_of_the_tasks_is_an_error() -> None:
    assert asked_tasks.chosen_tasks(["knn,copydays"], {"imsize": "96"})
    with pytest.raises(
        UsageError, match="--imsize has no effect on task knn, davis: it belongs to"
    ):
        asked_tasks.chosen_tasks(["knn,davis"], {"imsize": "96"})
    assert asked_tasks.changes("retrieval", {"imsize": "96"}, {"gem_p": "2"}) == [{
        "gem_p": "2", "imsize_oxford": "96", "imsize_paris": "96",
    }]  # fmt: skip
    assert asked_tasks.changes("knn", {"imsize": "96"}, {}) == [{}]
    with pytest.raises(UsageError, match="--imsize and --set imsize_paris set the same"):
        asked_tasks.changes("retrieval", {"imsize": "96"}, {"imsize_paris": "64"})


def test_each_task_of_a_command_has_its_protocol_and_its_parameters() -> None:
    words = ["knn", "linear/logreg", "linear"]
    given = {
        "transform": "B",
        "knn.k": "5,7",
        "knn.headline_k": "5",
        "linear/logreg.transform": "A",
    }
    found = asked_tasks.loaded(words, None, {}, assigned=given)
    alone = [
        tasks.load("knn", None, {"transform": "B", "k": "5,7", "headline_k": "5"}),
        tasks.load("linear", "logreg", {"transform": "A"}),
        tasks.load("linear", None, {"transform": "B"}),
    ]
    assert found == alone
    with pytest.raises(UsageError, match=r"task of --set 'kn'\. Did you mean 'knn'"):
        asked_tasks.loaded(words, None, {}, assigned={"kn.k": "5"})
    with pytest.raises(UsageError, match="both name one"):
        asked_tasks.loaded(["linear/logreg"], "logreg", {}, assigned={})
    with pytest.raises(UsageError, match=r"protocol of linear 'logregg'\. Did you mean 'logreg'"):
        asked_tasks.loaded(["linear/logregg"], None, {}, assigned={})


@pytest.fixture(autouse=True)
def fresh_plugins() -> Iterator[None]:
    """Packages that come and go with a test are looked for anew."""
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def entry_point(folder: Path, line: str) -> None:
    name = f"package_{folder.name}"
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{tasks.GROUP}]\n{line}\n")


@pytest.mark.slow
def test_a_task_of_another_package_is_a_task(tmp_path: Path) -> None:
    """From its file alone: listed, explained, run with its options, ranked, on the page."""
    source = Path(__file__).parent / "task_of_another_package.py"
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "their_task.py").write_text(source.read_text())
    entry_point(tmp_path / "plugin", "class-mean = their_task")
    run = ["run", "-t", "class-mean", "-d", "cifar10", "-c", CKPT, "-j", "0", "--all-layers"]
    commands = [
        ["ls", "tasks"],
        ["show", "class-mean"],
        ["run", "--help"],
        [*run, "--data-root", str(shared_mini()), "--first-classes", "7", "--means", "means"],
        ["leaderboard", "--csv", "board.csv"],
        ["report", "--out", "page"],
        ["score", "--help"],
        ["score", "class-mean", "--help"],
        ["score", "class-mean", "answers.txt", "--worth", "3", "--strictly", "--json"],
    ]
    (tmp_path / "answers.txt").write_text("cat,cat dog,cat dog, dog,dog")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'plugin')!r})\n"
        "from sdssl_bench.cli.main import app\n"
        f"for one in {commands!r}:\n"
        "    print('$', *one, flush=True)\n"
        "    app(one, standalone_mode=False)\n"
        "from sdssl_bench.cli.quickstart import benchmarks\n"
        "print('$', [(one.name, one.classes, on) for one, on in benchmarks() if one.name == 'class-mean'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed, shown, helped, ran, ranked, _, *scored, trials = done.stdout.split("$ ")[1:]
    assert "Nearest class mean of frozen features." in shown
    assert "classes = 10  How many classes count." in shown
    assert "--first-classes  Classes that count." in shown
    assert "class-mean" in listed
    assert "Only for task class-mean" in helped
    assert "--means DIR" in helped
    assert "a table of class-mean" in ran
    assert len(list((tmp_path / "means").glob("*.npy"))) == 3
    assert "class-mean cifar10" in ranked
    assert "class-mean/plain" in (tmp_path / "board.csv").read_text()
    assert "class-mean cifar10" in (tmp_path / "page" / "index.html").read_text()
    assert "class-mean  Share of right answers." in scored[0]
    assert "--answers FILE  A line per image: class, answer. [default: the FILE]" in scored[1]
    assert json.loads(scored[2].splitlines()[-1]) == {"top1": 3 * 2 / 4}
    assert "warning: These are made up." in done.stderr
    assert trials.strip() == "[('class-mean', 9, 'pets')]"


def test_one_task_is_run_where_none_is_named() -> None:
    assert [name for name in tasks.task_names() if tasks.task_class(name).first] == [
        tasks.first_task()
    ]


@pytest.mark.parametrize("names", [("knn",), ("theirs", "theirs")])
def test_two_tasks_of_one_name_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for place, name in enumerate(names):
        entry_point(tmp_path / str(place), f"{name} = module_{place}")
        monkeypatch.syspath_prepend(str(tmp_path / str(place)))
    with pytest.raises(UsageError, match=f"Two tasks are called '{names[0]}'"):
        tasks.task_names()


def test_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(tmp_path, "theirs = no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"'theirs' of another package \(no_such_module\)"):
        tasks.task_class("theirs")
