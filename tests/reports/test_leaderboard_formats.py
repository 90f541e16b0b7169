"""CSV, Markdown and LaTeX are what tests/golden holds.

After a wanted change delete the golden file and run the test: it writes the file anew, fails, and passes
once the difference was read.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from example_results import TARGET, results
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.paper.filled_tables import FilledTable, fill_table
from sdssl_bench.paper.layouts import LAYOUTS
from sdssl_bench.paper.pairs import model_pairs
from sdssl_bench.paper.references import CONTRADICTION
from sdssl_bench.records.reading import items_path
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import COLUMNS, coverage, tidy, wide
from sdssl_bench.reports.leaderboard_formats import latex
from sdssl_bench.statistics.ranks import rank_intervals
from stored_results import knn_layer, store

GOLDEN = Path(__file__).parents[1] / "golden"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["leaderboard", *map(str, arguments)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    files = ("--csv", out / "leaderboard.csv", "--markdown", out / "leaderboard.md")
    done = run("--results", root, *files, "--latex", out)
    assert done.exit_code == 0, done.output
    return out


def golden(path: Path) -> str:
    expected = GOLDEN / path.name
    if not expected.exists():
        expected.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        pytest.fail(f"{expected} did not exist and was written; read it and run again")
    return expected.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["leaderboard.md", "table1.tex", "table2.tex", "table3.tex", "table4.tex"]
)
def test_the_texts_are_golden(written: Path, name: str) -> None:
    assert (written / name).read_text(encoding="utf-8") == golden(written / name)


def test_the_tidy_csv_is_golden(written: Path) -> None:
    """To 1e-6: sums of another order may differ in the last digits."""
    golden(written / "leaderboard.csv")
    mine, expected = (
        pd.read_csv(f / "leaderboard.csv", dtype={"key": str, "protocol_digest": str})
        for f in (written, GOLDEN)
    )
    assert tuple(mine.columns) == COLUMNS == tuple(expected.columns)
    pd.testing.assert_frame_equal(mine, expected, rtol=1e-6, atol=1e-9)


def test_every_score_of_the_csv_has_an_interval_around_it(written: Path) -> None:
    frame = pd.read_csv(written / "leaderboard.csv")
    scored = frame[frame["low"].notna()]
    assert (scored["low"] <= scored["value"]).all()
    assert (scored["value"] <= scored["high"]).all()
    assert frame.loc[frame["headline"], "low"].notna().all()
    without = frame.loc[frame["low"].isna(), "metric"].unique().tolist()
    assert sorted(without) == ["F-Recall", "strong/muAP", "val/top1"]


def test_intervals_can_be_left_out_where_items_are_not_at_hand(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    for path, _ in ResultStore(tmp_path / "copy"):
        items_path(path).unlink()
    assert run("--results", tmp_path / "copy").exit_code == 3
    csv = tmp_path / "x.csv"
    done = run("--results", tmp_path / "copy", "--no-uncertainty", "--csv", csv)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(csv)["low"].isna().all()
    refused = run("--results", tmp_path / "copy", "--no-uncertainty", "--latex", tmp_path)
    assert refused.exit_code == 2


def test_coverage_counts_benchmarks_and_nothing_averages_over_holes(root: Path) -> None:
    table = wide(tidy(ResultStore(root)), "last")
    assert coverage(table).to_dict() == {
        "dino": "3 of 5",
        "mocov3_vit_s16": "5 of 5",
        "sd_mocov3_vit_s16": "5 of 5",
    }
    assert "average" not in " ".join(table.columns).lower()


def test_the_val_view_selects_on_held_out_images(root: Path) -> None:
    done = run("--results", root, "--select-on-val")
    assert done.exit_code == 0
    assert "30.0 ± 4.5 at 1 (val 50.0)" in done.output  # layer 2 is the best on test
    assert "knn" not in done.output
    assert run("--results", root, "--view", "val").output == done.output
    none = run("--results", root, "--select-on-val", "--task", "knn")
    assert "no result has that" in none.output


# Ranks


def test_ranks_are_intervals_and_models_that_cannot_be_told_apart_share_a_group(
    root: Path,
) -> None:
    ranks = rank_intervals(ResultStore(root))
    by_name = {
        record["model"]["name"]: ranks[record["key"]]
        for _, record in ResultStore(root)
        if record["task"] == "knn"
    }
    assert str(by_name["mocov3_vit_s16"]) == "3b"
    assert str(by_name["sd_mocov3_vit_s16"]) == "1-2a"
    assert str(by_name["dino"]) == "1-2a"
    assert {one.models for one in by_name.values()} == {3}


def test_a_lone_model_has_no_rank(root: Path) -> None:
    alone = [one for one in ResultStore(root) if one[1]["model"]["name"] == "dino"]
    assert rank_intervals(alone) == {}


# The paper's tables


def shaped(root: Path, number: int, *pairs: str) -> FilledTable:
    records = list(ResultStore(root))
    return fill_table(records, LAYOUTS[number], model_pairs(records, pairs))


def test_a_baseline_stands_over_its_sd_variant_and_the_paper_below(root: Path) -> None:
    (block,) = shaped(root, 1).blocks
    labels = [[row.label for row in pair] for pair in block.pairs]
    assert labels[0] == ["MoCo v3", "SD-MoCo v3"]
    assert labels[1] == ["dino"]
    assert labels[-1] == ["MoCo v3", "SD-MoCo v3"]
    assert [row.reported for pair in block.pairs for row in pair] == [False] * 3 + [True] * 6
    assert [row.coverage for row in block.pairs[0]] == ["1/6", "1/6"]


def test_bold_is_the_significantly_better_of_a_pair_only(root: Path) -> None:
    for number in LAYOUTS:
        for block in shaped(root, number).blocks:
            for pair in block.pairs:
                bold = [[cell.bold for cell in row.cells] for row in pair]
                if len(pair) == 1 or pair[0].reported:
                    assert not any(map(any, bold))
    (block,) = shaped(root, 1).blocks
    knn = [row.cells[2] for row in block.pairs[0]]
    assert [cell.bold for cell in knn] == [False, True]
    swapped = shaped(root, 1, "mine=sd_mocov3_vit_s16:mocov3_vit_s16")
    rows = next(pair for pair in swapped.blocks[0].pairs if pair[0].label == "mine")
    assert [row.cells[2].bold for row in rows] == [True, False]


def test_best_layers_of_table_3_are_named_and_video_parts_stand_at_theirs(root: Path) -> None:
    (block,) = shaped(root, 3).blocks
    copies, video, j, f = block.pairs[0][0].cells
    assert copies.layer == 2
    assert video.layer == j.layer == f.layer == 2
    assert video.value == pytest.approx((j.value + f.value) / 2)  # type: ignore[operator]
    assert (j.bold, f.bold) == (False, False)


def test_the_contradiction_of_tables_1_and_4_is_said_where_it_is_shown(root: Path) -> None:
    marked = {}
    for number in LAYOUTS:
        table = shaped(root, number)
        cells = [c for b in table.blocks for pair in b.pairs for row in pair for c in row.cells]
        marked[number] = sum(cell.mark == "‡" for cell in cells)
        assert any(CONTRADICTION in note for note in table.notes) == (number in (1, 4))
    assert marked == {1: 4, 2: 0, 3: 0, 4: 4}


def test_two_results_for_one_cell_are_not_chosen_from(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    store(
        tmp_path / "copy",
        {3: knn_layer(TARGET > 3, TARGET)},
        dataset__name="imagenet",
        model__name="dino",
        model__arch="vit_small_patch16",
        model__weights_sha256="d" * 64,
    )
    with pytest.raises(UsageError, match="Several results of dino fit the cell"):
        shaped(tmp_path / "copy", 1)


@pytest.mark.parametrize("text", ["mocov3_vit_s16", "x:y", "=mocov3_vit_s16:dino"])
def test_a_pair_names_two_models_with_results(root: Path, text: str) -> None:
    done = run("--results", root, "--latex", root / "tables", "--pair", text)
    assert done.exit_code == 2


@pytest.mark.slow
def test_the_tables_compile(root: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex (Debian: texlive-latex-base, texlive-latex-recommended)")
    lines = [r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"]
    for number in LAYOUTS:
        name = f"table{number}.tex"
        (tmp_path / name).write_text(latex(shaped(root, number)), encoding="utf-8")
        lines.append(rf"\input{{{name}}}")
    (tmp_path / "all.tex").write_text("\n".join([*lines, r"\end{document}"]))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert "Missing character" not in log
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
