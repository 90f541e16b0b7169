"""The figures of the report: which there are, what is drawn, the same bytes each time."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from typer.testing import CliRunner

from example_results import results
from sdssl_bench.cli.main import app
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports import drawing, figures
from sdssl_bench.reports.page_data import collect
from stored_results import knn_layer, store

TARGET = np.arange(60) % 6


def knn(right: int) -> Any:
    return knn_layer(np.arange(60) < right, TARGET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = results(tmp_path_factory.mktemp("results"))
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    items = {"tsne/points": points, "tsne/target": np.arange(20) % 2}
    layers = {
        layer: ({"uniformity": -1.0 * layer, "alignment": 0.5, "cka/layer01": 0.7}, items)
        for layer in (1, 2)
    }
    store(root, layers, task="analysis", ranked=False, headline="uniformity",
          protocol__id="analysis/house", model__name="analysed",
          model__weights_sha256="e" * 64)  # fmt: skip
    return root


def drawn(data: dict[str, Any]) -> dict[str, Any]:
    with matplotlib.rc_context(drawing.STYLE):
        return dict(figures._figures(data))


def test_every_kind_of_result_has_its_figure(folder: Path, tmp_path: Path) -> None:
    names = figures.write_figures(collect(ResultStore(folder)), tmp_path / "figures")
    assert names == [
        "layers-copydays", "layers-davis", "layers-knn", "layers-linear", "layers-retrieval",
        "analysis-cifar10", "cka", "tsne-cifar10",
    ]  # fmt: skip
    files = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert files == sorted(f"{name}.{kind}" for name in names for kind in ("pdf", "svg"))
    assert (tmp_path / "figures" / "cka.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (tmp_path / "figures" / "cka.svg").read_bytes()


def test_the_same_records_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    data = collect(ResultStore(folder))
    small = {**data, "results": [r for r in data["results"] if "k20/top1" in r["metrics"]],
             "matrices": [], "maps": []}  # fmt: skip
    for name in ("a", "b"):
        figures.write_figures(small, tmp_path / name)
    for one in (tmp_path / "a").iterdir():
        assert one.read_bytes() == (tmp_path / "b" / one.name).read_bytes()


def test_curves_are_the_recorded_numbers_and_a_missing_layer_breaks_them(tmp_path: Path) -> None:
    store(tmp_path, {1: knn(30), 2: knn(42), 4: knn(36)})
    axes = drawn(collect(ResultStore(tmp_path)))["layers-knn"].axes
    (line,) = axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(line.get_ydata(), [50, 70, np.nan, 60], atol=1e-3)


def test_uniformity_is_drawn_with_the_opposite_sign(folder: Path) -> None:
    axes = drawn(collect(ResultStore(folder)))["analysis-cifar10"].axes
    (panel,) = [one for one in axes if "uniformity" in one.get_title()]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [1.0, 2.0])


def test_maps_are_of_quarters_of_the_layers_that_each_encoder_has(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    items = {"tsne/points": points, "tsne/target": np.arange(20) % 2}
    for name, weights, layers in (("six", "6", range(1, 7)), ("single", "1", (1,))):
        store(tmp_path, {layer: ({"uniformity": -1.0}, items) for layer in layers}, task="analysis",
              ranked=False, headline="uniformity", protocol__id="analysis/house",
              model__name=name, model__weights_sha256=weights * 64)  # fmt: skip
    figure = drawn(collect(ResultStore(tmp_path)))["tsne-cifar10"]
    rows: dict[str, list[str]] = {}
    for axes in figure.axes:
        if axes.get_ylabel():
            rows[axes.get_ylabel()] = shown = []
        shown += [axes.get_title().split(",")[0]] if axes.axison else []
    assert rows == {
        "single": ["layer 1"],
        "six": ["layer 2", "layer 3", "layer 4", "layer 6"],
    }
    assert len(figure.legends[0].get_texts()) == 2


def test_a_pair_shares_a_colour_and_the_baseline_is_dashed(folder: Path) -> None:
    data = collect(ResultStore(folder))
    looks = [drawing.look(data, i) for i in range(len(data["encoders"]))]
    found = {look["label"]: (look["color"], look["linestyle"]) for look in looks}
    assert found["mocov3_vit_s16"][0] == found["sd_mocov3_vit_s16"][0]
    assert found["mocov3_vit_s16"][1] == "--"
    assert found["sd_mocov3_vit_s16"][1] == found["dino"][1] == "-"
    assert found["dino"][0] != found["mocov3_vit_s16"][0]


@pytest.mark.parametrize(("name", "setting"), [("beta", "beta"), ("alpha", "alpha_max")])
def test_encoders_that_differ_in_one_weight_alone_make_a_sweep(
    name: str, setting: str, tmp_path: Path
) -> None:
    weights = {"alpha_max": 1.0, "beta": 1.0}
    for place, (weight, right) in enumerate(((1.0, 48), (0.0, 30), (0.4, 42))):
        config = {**weights, setting: weight, "preset": f"p{place}", "epochs": 100}
        store(tmp_path, {1: knn(30), 2: knn(right)}, model__details={"config": config},
              model__name=f"weight-{weight}", model__weights_sha256=f"{place}" * 64)  # fmt: skip
    other = {"config": {**weights, setting: 0.2, "epochs": 300}}
    store(tmp_path, {1: knn(30), 2: knn(59)}, model__details=other, model__name="longer",
          model__weights_sha256="e" * 64)  # fmt: skip
    figures_drawn = drawn(collect(ResultStore(tmp_path)))
    assert {one for one in ("alpha-knn", "beta-knn") if one in figures_drawn} == {f"{name}-knn"}
    (line,) = figures_drawn[f"{name}-knn"].axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [0.0, 0.4, 1.0])
    np.testing.assert_allclose(line.get_ydata(), [50, 70, 80], atol=1e-3)


def test_dollar_signs_and_long_names_are_no_formulas(tmp_path: Path) -> None:
    store(tmp_path / "r", {1: knn(30)}, model__name="$\\frac{1}$_^{" + "x" * 200)
    assert figures.write_figures(collect(ResultStore(tmp_path / "r")), tmp_path / "f")


def test_a_title_is_whole_in_the_only_panel(tmp_path: Path) -> None:
    name = "copydays-attacks no-distractors no-whitening " + "x" * 40
    store(tmp_path, {1: knn(30), 2: knn(42)}, dataset__name=name)
    data = collect(ResultStore(tmp_path))
    with matplotlib.rc_context(drawing.STYLE):
        figure, (axes,) = figures.panels(data, data["results"])
        FigureCanvasAgg(figure).draw()
    box = axes.title.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert "no-distractors" in axes.get_title()


def test_the_command_writes_figures_beside_the_page(tmp_path: Path) -> None:
    store(tmp_path / "results", {1: knn(30)})
    done = CliRunner().invoke(
        app,
        ["report", "-r", str(tmp_path / "results"), "-o", str(tmp_path / "report"),
         "--figures", str(tmp_path / "figures")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "layers-knn.pdf", "layers-knn.svg",
    ]  # fmt: skip
    assert (tmp_path / "report" / "index.html").exists()
