"""Results in Python: the stored record and its numbers, in every form they are shown."""

import copy
import gc
import html
import json
import pickle
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import sdssl_bench
from example_results import results as example_results
from mini_data import shared_mini
from sdssl_bench import Result, Results
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.reports.leaderboard import COLUMNS, csv_text
from sdssl_bench.statistics import record_intervals
from stored_results import knn_layer, store
from tiny_model import build

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
HOSTILE = "[bold]<script>alert(1)</script> & [/bold]\x1b[2J"
DRAWN = 1e-4
"""Percent: what is drawn is rounded, as on the page."""


@pytest.fixture(autouse=True)
def _no_screen() -> None:
    matplotlib.use("agg", force=True)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"data_root": shared_mini(), "cache_dir": tmp_path / "cache", "num_workers": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_results(tmp_path_factory.mktemp("results"))


def test_a_result_is_the_record_of_its_file_and_its_folder_goes_with_it(
    settings: dict[str, Any],
) -> None:
    result = sdssl_bench.evaluate(build(), "knn", "cifar10", **settings)
    assert isinstance(result, dict)
    assert json.loads(result.path.read_text()) == result == json.loads(json.dumps(result))
    path, copied = result.path, copy.deepcopy(result)
    elsewhere = pickle.loads(pickle.dumps(result))
    assert elsewhere == result
    del result
    gc.collect()
    assert len(copied.frame()) == 3  # from the items, which are still there
    del copied
    gc.collect()
    assert not path.parents[2].exists()


def test_lists_are_scored_as_each_alone_and_kept_where_they_are_asked_to(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    alone = [
        sdssl_bench.evaluate(build(), task, dataset, layers=[2, 3], **settings)
        for task, dataset in (("knn", "cifar10"), ("knn", "flowers"), ("retrieval", "roxford5k"))
    ]
    together = sdssl_bench.evaluate(
        build(),
        ["knn", "retrieval"],
        ["cifar10", "flowers", "roxford5k"],
        layers=[2, 3],
        results=tmp_path / "results",
        **settings,
    )
    assert isinstance(together, Results)
    metrics = [[one["layers"][n]["metrics"] for n in ("2", "3")] for one in together]
    assert metrics == [[one["layers"][n]["metrics"] for n in ("2", "3")] for one in alone]
    read = sdssl_bench.read_results(tmp_path / "results")
    assert sorted(one["key"] for one in read) == sorted(one["key"] for one in together)
    assert sdssl_bench.read_results([tmp_path / "results"], task="retrieval") == together[2:]
    one = sdssl_bench.evaluate(build(), "knn", ["cifar10"], layers=[2, 3], **settings)
    assert [each["key"] for each in one] == [alone[0]["key"]]
    with pytest.raises(UsageError, match="Did you mean 'cifar10'"):
        sdssl_bench.evaluate(build(), "knn", ["cifar"], **settings)


def test_frames_are_the_tidy_csv(folder: Path, tmp_path: Path) -> None:
    csv = tmp_path / "all.csv"
    done = CliRunner().invoke(app, ["leaderboard", str(folder), "--csv", str(csv)])
    assert done.exit_code == 0, done.output
    found = sdssl_bench.read_results(folder)
    expected = pd.read_csv(csv).sort_values(["key", "layer", "metric"])
    whole = found.frame("all")
    assert tuple(whole.columns) == COLUMNS
    written = pd.read_csv(StringIO(csv_text(whole))).sort_values(["key", "layer", "metric"])
    pd.testing.assert_frame_equal(
        written.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True
    )
    headlines = found.frame()
    assert len(headlines) == sum(len(one["layers"]) for one in found)
    pd.testing.assert_frame_equal(headlines, whole[whole["headline"]].reset_index(drop=True))
    by_hand = pd.concat([one.frame() for one in found], ignore_index=True)
    pd.testing.assert_frame_equal(headlines, by_hand)
    assert Results().frame().empty


def test_results_concatenate(folder: Path) -> None:
    found = sdssl_bench.read_results(folder)
    first, rest = found[0], found[1:]
    assert isinstance(first, Result)
    assert isinstance(rest, Results)
    assert Results([first]) + rest == found
    assert Results() + first + list(rest) == found
    assert [len(found), found[-1]] == [len(rest) + 1, list(found)[-1]]
    picked = sdssl_bench.read_results(found, task="knn,davis", model=["dino"])
    assert {(one["task"], one["model"]["name"]) for one in picked} == {("knn", "dino")}


def test_curves_are_the_values_and_bands_the_intervals_in_percent(folder: Path) -> None:
    found = sdssl_bench.read_results(folder, task="knn")
    axes = found[0].plot()
    found[1].plot(ax=axes, color="black", label="mine")
    found[1].plot("k20/top5", ax=axes)
    frames = [found[0].frame(), found[1].frame(), found[1].frame("k20/top5")]
    for line, band, frame in zip(axes.lines, axes.collections, frames, strict=True):
        expected = frame[["layer"]].assign(y=100 * frame["value"])
        np.testing.assert_allclose(line.get_xydata(), expected, atol=DRAWN)
        vertices = band.get_paths()[0].vertices
        for _, row in frame.iterrows():
            there = vertices[vertices[:, 0] == row["layer"], 1]
            ends = [100 * row["low"], 100 * row["high"]]
            assert [there.min(), there.max()] == pytest.approx(ends, abs=DRAWN)
    assert len({line.get_color() for line in axes.lines}) == 3
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    name = found[1]["model"]["name"]
    assert labels == [found[0]["model"]["name"], "mine", f"{name}, k20/top5"]
    assert axes.get_title() == "knn imagenet"


def test_a_single_layer_has_its_interval_too(folder: Path) -> None:
    (result,) = sdssl_bench.read_results(folder, task="retrieval", model="dino")
    axes = result.plot()
    (interval,) = axes.collections[0].get_segments()
    (row,) = result.frame().to_dict("records")
    ends = [100 * row["low"], 100 * row["high"]]
    assert interval[:, 0].tolist() == [row["layer"]] * 2
    assert interval[:, 1].tolist() == pytest.approx(ends, abs=DRAWN)


def test_a_panel_a_benchmark(folder: Path) -> None:
    found = sdssl_bench.read_results(folder)
    panels = found.plot()
    assert {axes.get_title() for axes in panels} == {
        "knn imagenet",
        "linear cifar10",
        "retrieval roxford5k",
        "davis davis",
        "copydays copydays\nno-distractors no-whitening",
    }
    assert sum(len(axes.lines) for axes in panels) == len(found)
    with pytest.raises(UsageError, match="found none"):
        Results().plot()


def test_what_is_shown_is_what_the_command_prints(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    command = ["run", "--task", "knn", "--dataset", "cifar10", "--ckpt", CKPT, "--all-layers", "-q"]
    places = ["--data-root", str(shared_mini()), "--out", str(tmp_path / "results")]
    printed = CliRunner().invoke(app, [*command, *places, "--cache-dir", str(tmp_path / "cache")])
    assert printed.exit_code == 0, printed.output
    (result,) = sdssl_bench.read_results(tmp_path / "results")
    table = [line.rstrip() for line in printed.output.split("record: ")[0].strip().split("\n")]
    assert repr(result).split("\n") == table
    with Console(file=StringIO(), width=100) as console:
        console.print(result)
    assert isinstance(console.file, StringIO)
    assert [line.rstrip() for line in console.file.getvalue().strip().split("\n")] == table


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


def test_rows_of_several_results_say_whose_labels_were_learned(tmp_path: Path) -> None:
    layers = {1: knn_layer(np.arange(40) < 10, np.arange(40) % 4)}
    ids = ("knn/dino", "knn/dino+1-shot", "knn/dino+4-shot")
    found = [
        Result(*reversed(store(tmp_path / str(n), layers, protocol__id=one)))
        for n, one in enumerate(ids)
    ]
    rows = [line for line in repr(Results(found)).splitlines() if "knn " in line]
    assert ["(4-shot)" in row for row in rows] == [False, False, True]
    assert ["(1-shot)" in row for row in rows] == [False, True, False]


def test_a_name_is_no_markup_anywhere(tmp_path: Path) -> None:
    layers = {n: knn_layer(np.arange(40) < 10 * n, np.arange(40) % 4) for n in (1, 2)}
    path, record = store(tmp_path, layers, model__name=HOSTILE)
    result = Result(record, path)
    shown = (result, Results([result, result]))
    for one in shown:
        page = _Tags()
        page.feed(one._repr_html_())
        assert page.tags <= {"p", "br", "table", "thead", "tbody", "tr", "th", "td", "div"}
        assert html.escape("[bold]<script>alert(1)", quote=False) in one._repr_html_()
        console = Console(file=StringIO(), width=200)
        console.print(one)
        assert isinstance(console.file, StringIO)
        for text in (repr(one), console.file.getvalue()):
            assert "[bold]<script>alert(1)</script> & [/bold]" in text
            assert "\x1b" not in text
    axes = result.plot()
    assert HOSTILE.split("\x1b")[0] in axes.get_legend().get_texts()[0].get_text()


def test_the_html_holds_every_number_of_the_table(folder: Path) -> None:
    result = sdssl_bench.read_results(folder, task="knn", model="dino")[0]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", result._repr_html_())
    for layer, one in record_intervals(dict(result), result.path).items():
        for number in (one.value, one.low, one.high):
            assert any(f"{100 * number:.1f}" in cell for cell in cells), (layer, number)


def test_unknown_metrics_and_sources_are_named(folder: Path) -> None:
    result = sdssl_bench.read_results(folder, task="knn")[0]
    for ask in (result.frame, result.plot):
        with pytest.raises(UsageError, match="Did you mean 'k20/top1'"):
            ask("k20/top11")
    with pytest.raises(UsageError, match="found int"):
        sdssl_bench.read_results([3])  # type: ignore[list-item]


def test_importing_the_suite_imports_nothing_heavy() -> None:
    code = (
        "import sys, sdssl_bench; dir(sdssl_bench); sdssl_bench.read_results\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'scipy', 'sklearn', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
