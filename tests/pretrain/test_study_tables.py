"""What the study makes of its records: the same files everywhere, and weights where they fit."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdssl_bench.errors import DataError
from sdssl_bench.pretrain.study import runs, tabulation
from stored_results import knn_layer, scored, store

ROOT = Path(__file__).resolve().parents[2]
SCALES = {"cpu": "study", "gpu": "study-gpu"}
"""Scale -> name of its records and of its page."""
OTHERS = {
    str(path.relative_to(ROOT))
    for path in ROOT.glob("results/study*/figures/**/*.svg")
    if f"Matplotlib v{matplotlib.__version__}" not in path.read_text("utf-8")
}
"""Committed figures that another version drew."""
SETTINGS = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}


def study(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sdssl_bench.pretrain.study", *arguments]
    return subprocess.run(command, **{**SETTINGS, "cwd": cwd}, capture_output=True, text=True)  # type: ignore[call-overload,no-any-return]


def fabricated(root: Path, *, reverse: bool = False) -> None:
    """Records of six encoders, one not of the study, as `study evaluate` stores them, and the text."""
    names = ["control:pixels", "mocov3-s0", "sd_mocov3-s0", "mocov3-s1", "sd_mocov3-s1", "vit"]
    for number, name in sorted(enumerate(names), reverse=reverse):
        scored(root / "results/study", name, "cifar10", {1: 90 + number, 2: 100 + 3 * number})
    (root / "docs").mkdir()
    shutil.copyfile(ROOT / "docs" / "study.md", root / "docs" / "study.md")


def build(root: Path) -> dict[str, bytes]:
    """What `study tables` and `make leaderboard` write."""
    tables(root, "cpu")
    recipe = (ROOT / "Makefile").read_text("utf-8").split("\nleaderboard:\n\t")[1].split("\n\n")[0]
    command = recipe.replace("$(PYTHON)", shlex.quote(sys.executable)).replace("$$", "$")
    shutil.copyfile(ROOT / "results" / "check.py", root / "results" / "check.py")
    shutil.copytree(
        ROOT / "results" / "community", root / "results" / "community", dirs_exist_ok=True
    )
    done = subprocess.run(
        ["bash", "-euc", command], **{**SETTINGS, "cwd": root}, capture_output=True, text=True
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return derived(root) | {
        str(p.relative_to(root)): p.read_bytes() for p in root.glob("results/leaderboard.*")
    }


def tables(root: Path, scale: str) -> None:
    """`study tables` as the page of a scale has it."""
    name = SCALES[scale]
    places = ["--out", "none", "--results", f"results/{name}", "--docs", f"docs/{name}.md"]
    found = study("tables", "--scale", scale, *places, cwd=root)
    assert found.returncode == 0, found.stderr


def derived(root: Path, name: str = "study") -> dict[str, bytes]:
    """Files that `study tables` makes of the records, but for figures that another matplotlib drew.

    It puts everything a little elsewhere.
    """
    patterns = (f"results/{name}/differences.csv", f"results/{name}/report/*",
                f"results/{name}/figures/**/*.svg", f"docs/{name}.md")  # fmt: skip
    paths = [path for pattern in patterns for path in root.glob(pattern)]
    found = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    return {file: found[file] for file in found if file not in OTHERS}


@pytest.mark.slow
def test_the_same_records_give_the_same_files_wherever_they_are(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fabricated(tmp_path / name, reverse=name == "b")
    found = build(tmp_path / "a")
    assert found == build(tmp_path / "b")
    assert found == build(tmp_path / "a")
    assert {name.rpartition(".")[2] for name in found} == {"csv", "md", "html", "svg"}
    drawn = [found[f"results/study/figures/{where}layers-knn.svg"] for where in ("", "further/")]
    assert [[b"<!-- vit -->" in figure, b"<!-- mocov3-s0 -->" in figure] for figure in drawn] == [
        [False, True],
        [True, False],
    ]
    text = found["docs/study.md"].decode()
    assert "| mocov3-s0 → sd_mocov3-s0 | knn cifar10 | +0.5 +1.5 |" in text  # 106 and 103 of 200
    assert "sd_mocov3 +1.5 +1.5 | 0.5 | 0.5 |" in text


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_committed_tables_follow_from_the_committed_records(scale: str, tmp_path: Path) -> None:
    """Without records nothing that would follow from them is committed."""
    name = SCALES[scale]
    page, results = f"docs/{name}.md", ROOT / "results" / name
    committed = derived(ROOT, name)
    if not (results / "runs").exists():
        assert committed.keys() == {page}
        assert "No run is finished yet." in committed[page].decode()
        return
    shutil.copytree(results, tmp_path / "results" / name, ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "docs").mkdir()
    shutil.copyfile(ROOT / page, tmp_path / page)
    if scale == "cpu":
        board = {
            str(p.relative_to(ROOT)): p.read_bytes() for p in ROOT.glob("results/leaderboard.*")
        }
        assert build(tmp_path) == committed | board
    else:
        tables(tmp_path, scale)
        assert derived(tmp_path, name) == committed
    for path in results.rglob("*.json*"):
        text = path.read_text()
        assert '"/' not in text, path
        assert "folder:/" not in text, path


def test_weights_are_left_out_where_they_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And come back when they do; the limit is that of all that is to be committed."""
    pair = runs.runs("toy", "*mocov3-s0")[:2]
    for run in pair:
        (tmp_path / "runs" / run.name).mkdir(parents=True)
        save_file({"a": torch.ones(500)}, tmp_path / "runs" / run.name / "encoder.safetensors")
    results = tmp_path / "results"
    results.mkdir()
    (results / "records.json").write_text("x" * 1000)
    tabulation.keep_weights(pair, tmp_path / "runs", results)
    kept = sorted((results / "weights").iterdir())
    assert [path.name for path in kept] == [
        "mocov3-s0-fp16.safetensors",
        "sd_mocov3-s0-fp16.safetensors",
    ]
    whole = 1000 + sum(path.stat().st_size for path in kept)
    for most, fit in ((whole - 1, False), (whole, True)):
        monkeypatch.setattr(tabulation, "MOST_BYTES", most)
        tabulation.keep_weights(pair, tmp_path / "runs", results)
        assert (results / "weights").exists() == fit
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert f"weights left out: their {whole - 1000:,} bytes would make {whole:,}" in said[0]
    tabulation.keep_weights(pair, tmp_path / "none", results)  # a checkout without runs
    assert len(list((results / "weights").iterdir())) == 2


def test_tables_need_records_and_a_place_for_results(tmp_path: Path) -> None:
    scored(tmp_path / "results", "mocov3-s0", "cifar10", {1: 90})
    (tmp_path / "text.md").write_text("no marks")
    arguments: dict[str, Any] = {"docs": tmp_path / "text.md", "trial": False}
    with pytest.raises(DataError, match="must have the lines"):
        tabulation.build(runs.runs("toy"), tmp_path, tmp_path / "results", **arguments)
    with pytest.raises(DataError, match="no records of a trial"):
        tabulation.build(
            runs.runs("toy"), tmp_path, tmp_path / "results", **{**arguments, "trial": True}
        )


def test_a_record_that_was_edited_stops_the_tables(tmp_path: Path) -> None:
    target = np.arange(50) % 5
    path, _ = store(tmp_path, {1: knn_layer(np.arange(50) < 20, target)}, model__name="mocov3-s0")
    store(tmp_path, {1: knn_layer(np.arange(50) < 30, target)}, model__name="byol-s0",
          model__weights_sha256="b")  # fmt: skip
    path.write_text(path.read_text().replace("0.4", "0.5"))
    with pytest.raises(DataError):
        tabulation.build(runs.runs("toy"), tmp_path, tmp_path, docs=tmp_path, trial=False)


def test_half_an_interval_is_that_of_the_last_layer(tmp_path: Path) -> None:
    """Wilson's interval of 100 right of 200 is 0.5 -+ 0.0686, which is shown as 6.9."""
    target = np.arange(200) % 10
    right = {1: 199, 2: 100}
    layers = {layer: knn_layer(np.arange(200) < n, target) for layer, n in right.items()}
    assert tabulation.half(*store(tmp_path, layers)) == "6.9"
