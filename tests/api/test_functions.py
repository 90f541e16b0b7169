"""`compare`, `leaderboard` and `report` in Python: the words, numbers and files of the commands."""

import inspect
import json
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import sdssl_bench
from example_results import results as example_results
from mini_data import shared_mini
from sdssl_bench.api import LeftOut, Results
from sdssl_bench.cli import compare as compare_command
from sdssl_bench.cli import leaderboard as leaderboard_command
from sdssl_bench.cli import report as report_command
from sdssl_bench.cli.main import app
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.reports.leaderboard import csv_text
from stored_results import scored
from tiny_model import build

A, B = "mocov3_vit_s16", "sd_mocov3_vit_s16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_results(tmp_path_factory.mktemp("results"))


def printed(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == code, done.output
    return done.output


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]


@pytest.mark.parametrize(
    ("function", "command", "screen"),
    [
        (sdssl_bench.compare, compare_command.compare, {"fail_if_worse", "wide", "json"}),
        (sdssl_bench.leaderboard, leaderboard_command.leaderboard, {"folders", "wide"}),
        (sdssl_bench.report, report_command.report, {"folders"}),
    ],
)
def test_functions_take_what_the_commands_take(
    function: Callable[..., Any], command: Callable[..., Any], screen: set[str]
) -> None:
    """But for what is about the screen; and the same where nothing is given."""
    mine = inspect.signature(function).parameters
    typed = inspect.signature(command).parameters
    assert set(mine) == set(typed) - screen
    for name in mine:
        given, default = mine[name].default, typed[name].default
        assert (given or None) == (default or None) or str(given) == str(default), name


def test_a_comparison_is_what_json_prints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    options = ("--results", folder, "--at", "2", "--alpha", "0.01", "--seed", "3")
    found = sdssl_bench.compare(A, B, results=folder, at=2, alpha=0.01, seed=3)
    assert found == json.loads(printed("compare", A, B, *options, "--json"))
    stored = sdssl_bench.read_results(folder)
    sides = [[one for one in stored if one["model"]["name"] == name] for name in (A, B)]
    assert sdssl_bench.compare(Results(sides[0]), sides[1], at=2, alpha=0.01, seed=3) == found
    (first,), (second,) = ([one for one in side if one["task"] == "knn"] for side in sides)
    alone = sdssl_bench.compare(first, second)
    assert alone == sdssl_bench.compare(first.path, str(second.path)) | {"a": A, "b": B}
    for one, command in ((found, options), (alone, ())):
        names = (A, B) if command else (first.path, second.path)
        shown = printed("compare", *names, *command)
        assert lines(repr(one))[2:] == lines(shown)[2:]


def test_the_frame_of_a_comparison_has_every_test(folder: Path) -> None:
    found = sdssl_bench.compare(A, B, results=folder)
    frame = found.frame()
    rows = iter(frame.to_dict("records"))
    for benchmark in found["benchmarks"]:
        for at, test in (
            *benchmark["layers"].items(),
            ("last", benchmark["last"]),
            ("best", benchmark["best"]),
        ):
            if test is None:
                continue
            row = next(rows)
            assert (row["dataset"], row["at"]) == (benchmark["dataset"], at)
            assert {name: row[name] for name in ("a", "b", "p_holm", "low", "n", "unit")} == {
                name: test[name] for name in ("a", "b", "p_holm", "low", "n", "unit")
            }
    assert not list(rows)


def test_results_of_two_encoders_at_hand_are_compared_and_ranked(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data_root": shared_mini(), "cache_dir": tmp_path / "cache", "num_workers": 0, "layers": [3],
    }  # fmt: skip
    one, other = (
        sdssl_bench.evaluate(build(seed), "knn", "cifar10", name=f"seed{seed}", **settings)
        for seed in (0, 1)
    )
    found = sdssl_bench.compare(one, other)
    assert (found["a"], found["b"]) == ("seed0", "seed1")
    last = found["benchmarks"][0]["last"]
    values = [each["layers"]["3"]["metrics"]["k20/top1"] for each in (one, other)]
    assert [last["a"], last["b"]] == values
    board = sdssl_bench.leaderboard([one, other])
    assert sorted(board.table().index) == ["seed0", "seed1"]
    together = Results([one, other]).frame("all")
    pd.testing.assert_frame_equal(board.frame(), together)
    with pytest.raises(DataError, match="the same evaluation"):
        sdssl_bench.leaderboard([one, one])


def test_a_leaderboard_shows_and_writes_what_the_command_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    mine, typed = tmp_path / "mine", tmp_path / "typed"
    board = sdssl_bench.leaderboard(
        [folder], task=["knn", "linear"], view="best", pair=[f"{A}:{B}"],
        csv=mine / "all.csv", markdown=str(mine / "all.md"), latex=mine / "tex",
    )  # fmt: skip
    shown = printed(
        "leaderboard", folder, "--task", "knn,linear", "--view", "best", "--pair", f"{A}:{B}",
        "--csv", typed / "all.csv", "--markdown", typed / "all.md", "--latex", typed / "tex",
    )  # fmt: skip
    assert lines(repr(board)) + [
        line.replace(str(mine), str(typed)) for line in board.wrote
    ] == lines(shown)
    files = sorted(path.relative_to(mine) for path in mine.rglob("*.*"))
    assert len(files) == 6
    for file in files:
        assert (mine / file).read_bytes() == (typed / file).read_bytes(), file
    assert csv_text(board.frame()).encode() == (mine / "all.csv").read_bytes()
    # The table alone computes fewer rows; its frame has all of them.
    fewer = sdssl_bench.leaderboard(sdssl_bench.read_results(folder), task="knn,linear")
    pd.testing.assert_frame_equal(fewer.frame(), board.frame())
    of_folder = sdssl_bench.leaderboard(iter([folder]), task=iter(["knn", "linear"]))
    pd.testing.assert_frame_equal(of_folder.frame(), board.frame())
    assert fewer.table().equals(sdssl_bench.leaderboard(folder, task="linear,knn").table())


def test_a_report_is_the_commands_page(folder: Path, tmp_path: Path) -> None:
    done = sdssl_bench.report(folder, model=[A, B], out=tmp_path / "mine", title="Two")
    printed("report", folder, "--model", f"{A},{B}", "--out", tmp_path / "typed", "--title", "Two")
    assert done.path.read_bytes() == (tmp_path / "typed" / "index.html").read_bytes()
    drawn = sdssl_bench.report(folder, task="knn", out=tmp_path / "x", figures=tmp_path / "figures")
    assert drawn.figures == ["layers-knn"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "layers-knn.pdf", "layers-knn.svg",
    ]  # fmt: skip
    assert done.path.resolve().as_uri() in done._repr_html_()
    assert "8 results" in repr(done) or "10 results" in repr(done)


def test_what_is_damaged_is_named_once(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        scored(tmp_path, name, "cifar10", {1: 100, 2: 120})
    broken = next((tmp_path / "runs" / "three").glob("*.json"))
    broken.write_text(broken.read_text().replace('"k20/top1": 0.6', '"k20/top1": 0.9'))
    for ask in (sdssl_bench.leaderboard, sdssl_bench.read_results, sdssl_bench.report):
        where = {"out": tmp_path / "page"} if ask is sdssl_bench.report else {}
        with pytest.warns(LeftOut, match="was edited") as said:
            ask(tmp_path, **where)  # type: ignore[operator]
        assert [one.category for one in said] == [LeftOut]
        assert said[0].filename == __file__
    with pytest.warns(LeftOut, match="was edited"):
        found = sdssl_bench.compare("one", "two", results=tmp_path)
    assert len(found.damaged) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = printed("leaderboard", tmp_path, code=1)
        output += printed("compare", "one", "two", "--results", tmp_path, code=1)
        output += printed("report", tmp_path, "--out", tmp_path / "typed", code=1)
    assert output.count("warning: left out: ") == 3


def test_a_wrong_word_is_an_error_of_the_suite(folder: Path, tmp_path: Path) -> None:
    for error, ask in (
        (UsageError, lambda: sdssl_bench.leaderboard(folder, view="top")),
        (UsageError, lambda: sdssl_bench.leaderboard(folder, task="knn,")),
        (DataError, lambda: sdssl_bench.leaderboard(folder, task="nothing")),
        (DataError, lambda: sdssl_bench.leaderboard(tmp_path / "none")),
        (DataError, lambda: sdssl_bench.report(tmp_path / "none")),
        (UsageError, lambda: sdssl_bench.compare(A, "nobody", results=folder)),
        (UsageError, lambda: sdssl_bench.compare(A, B, results=folder, at="first")),
        (UsageError, lambda: sdssl_bench.compare([], B, results=folder)),
        (UsageError, lambda: sdssl_bench.compare([1], B, results=folder)),  # type: ignore[list-item]
    ):
        with pytest.raises(error):
            ask()


@pytest.mark.parametrize(
    ("ask", "kind", "there"),
    [
        (lambda given: sdssl_bench.leaderboard(given, task="knn,nix"), "task", "knn, linear"),
        (lambda given: sdssl_bench.read_results(given, dataset="nix"), "dataset", "cifar10, "),
        (lambda given: sdssl_bench.report(given, model=[A, "nix"]), "model", f"{A}, {B}"),
    ],
)
def test_a_name_that_no_result_has_is_an_error_that_lists_those_there_are(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Path], object],
    kind: str,
    there: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"Unknown {kind} 'nix'.* Known: .*{there}"):
        ask(folder)
    assert not list(tmp_path.iterdir())


def test_a_damaged_result_may_have_the_name_asked_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        scored(tmp_path, name, "cifar10", {1: 100, 2: 120})
    next((tmp_path / "runs" / "two").glob("*.json")).write_text("{")
    with pytest.warns(LeftOut):
        found = sdssl_bench.read_results(tmp_path, model="one,two")
    assert [result["model"]["name"] for result in found] == ["one"]


def test_the_default_folder_is_that_of_the_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDSSL_BENCH_RESULTS", str(folder))
    assert len(sdssl_bench.read_results()) == 13
    assert sdssl_bench.compare(A, B)["worse"] == 0
    assert StringIO(repr(sdssl_bench.leaderboard())).readline().startswith("Last layer")
