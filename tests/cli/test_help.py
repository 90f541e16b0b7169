"""Laws of the help of every command, and of what a hand types first."""

import math
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sdssl_bench.cli.help import option_panels
from sdssl_bench.cli.main import app

ROOT: Any = typer.main.get_command(app)


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from walk(one, (*path, name))


COMMANDS = dict(walk(ROOT))


def shown(path: tuple[str, ...], columns: int) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0
    return done.output


def params(path: tuple[str, ...]) -> list[Any]:
    command = COMMANDS[path]
    return list(command.get_params(command.context_class(command)))


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_name_is_cut_and_no_line_is_too_long(columns: int) -> None:
    for path, command in COMMANDS.items():
        text = shown(path, columns)
        assert max(map(len, text.splitlines())) <= min(columns, 100), path
        words = set(re.split(r"[\s,\[\]]+", text))
        for param in params(path):
            if param.param_type_name == "option":
                assert {*param.opts, *param.secondary_opts} <= words, path
        assert set(getattr(command, "commands", {})) <= words, path


def test_every_option_says_what_it_does_and_its_default() -> None:
    for path in COMMANDS:
        for param in params(path):
            (((_, text),),) = option_panels([param]).values()
            assert param.help, (path, param.name)
            assert text.startswith(param.help), (path, param.name)
            option = param.param_type_name == "option"
            if not (option and param.is_flag and not param.secondary_opts):  # such a flag is off
                assert re.search(r"\[required\]|\[default: .+\]", text), (path, param.name)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_is_there_at_once(arguments: list[str]) -> None:
    """At most .3 s of CPU; the least of five at most, for others use the machine too."""
    spent = [math.inf]
    while min(spent) >= 0.3 and len(spent) < 6:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "sdssl_bench", *arguments],
            check=True,
            capture_output=True,
            cwd=Path(__file__).parents[2],
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "-c", "x", "-t", ""), "-t takes a value, found an empty text"),
        (("run", "-c", "x", "--task="), "--task takes a value, found an empty text"),
        (("run", "-c", "x", "-t", "knn,"), "--task takes names, found an empty one in 'knn,'"),
        (("run", "-c", "x", "-t", "knn", "--layers", ""), "--layers takes a value"),
        (("run", "-c", "x", "-t", "knn", "--dataset", ""), "--dataset takes a value"),
        (("run", "-c", "x", "-t", "knn", "-d", ","), "--dataset takes names"),
        (("run", "-c", "", "-t", "knn", "-d", "pets"), "-c takes a value"),
        (
            ("run", "-c", "x", "-t", "knn", "-d", "pets", "--protocol", ""),
            "--protocol takes a value",
        ),
        (
            ("run", "-c", "x", "-t", "knn", "-d", "pets", "--set", "k=5", "--set", "k=10"),
            "--set k is given twice: 5 and 10",
        ),
        (("leaderboard", ""), "leaderboard takes a value"),
        (("leaderboard", "--task", ""), "--task takes a value"),
        (("doctor",), "doctor examines one checkpoint, found none"),
        (("doctor", "a.pth", "--ckpt", "b.pth"), "found a.pth and b.pth"),
        (("score", "knn", "a.npz"), "--test missing"),
        (("score", "knn", "a.npz", "b.npz", "c.npz"), "Expected 2 files, found one more: c.npz"),
        (("score", "copydays"), "--features missing"),
    ],
)
def test_what_says_nothing_or_twice_is_a_usage_error(
    arguments: tuple[str, ...], message: str
) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("named", "placed"),
    [
        (("doctor", "--ckpt", "no.pth"), ("doctor", "no.pth")),
        (("leaderboard", "--results", "no"), ("leaderboard", "no")),
        (("report", "--results", "no"), ("report", "no")),
        (("score", "knn", "--train", "a", "--test", "b"), ("score", "knn", "a", "b")),
        (("score", "knn", "--train", "a", "--test", "b"), ("score", "knn", "b", "--train", "a")),
        (("score", "copydays", "--features", "a"), ("score", "copydays", "a")),
        (
            ("score", "retrieval", "--features", "a", "--gnd", "b.pkl"),
            ("score", "retrieval", "a", "b.pkl"),
        ),
        (
            ("score", "davis", "--predictions", "a", "--annotations", "b"),
            ("score", "davis", "a", "b"),
        ),
    ],
)
def test_an_object_is_named_by_its_place_or_by_its_option(
    named: tuple[str, ...], placed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = (CliRunner().invoke(app, arguments) for arguments in (named, placed))
    assert one.exit_code == other.exit_code != 0
    assert one.output == other.output
    assert isinstance(other.exception, SystemExit), other.exception
