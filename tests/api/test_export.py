"""Stored results in trackers: every number, as it is stored, at its layer."""

import sys
from collections import defaultdict
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import sdssl_bench
from example_results import results as example_results
from records import ENVIRONMENT, entry, head
from sdssl_bench.api import Results
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.records.store import ResultStore
from stored_results import scored

STORED = 1e-6
"""Numbers are rounded as on the page; an event file has 32 bits besides."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_results(tmp_path_factory.mktemp("results"))


def export(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def expected(stored: Results) -> dict[tuple[str, str, int], float]:
    """(encoder, chart, layer) -> value, from the tidy table."""
    found = {}
    for row in stored.frame("all").to_dict("records"):
        chart = f"{row['task']} {row['dataset']}/{row['metric']}"
        for name, mark in (("value", ""), ("low", " low"), ("high", " high")):
            if row[name] == row[name]:
                found[row["model"], chart + mark, row["layer"]] = row[name]
    return found


class Recorder(ModuleType):
    """A tracker's module that keeps what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, origin="recorder")
        self.runs: list[dict[str, Any]] = []
        self.open = False
        self.refuses = ""

    def init(self, **settings: Any) -> "Recorder":
        if self.refuses:
            raise RuntimeError(self.refuses)
        assert not self.open
        self.open = True
        self.runs.append({**settings, "logged": {}, "steps": []})
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.runs[-1]["steps"].append((name, step_metric))

    def log(self, values: dict[str, float], step: int) -> None:
        assert self.open
        logged = self.runs[-1]["logged"]
        assert not logged or step > max(logged)  # wandb drops what goes back
        logged[step] = values

    def finish(self) -> None:
        self.open = False


@pytest.fixture
def recorder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    module = Recorder(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


@pytest.mark.parametrize("recorder", ["wandb", "trackio"], indirect=True)
def test_a_run_an_encoder_has_every_number_at_its_layer(recorder: Recorder, folder: Path) -> None:
    tracker = recorder.__name__
    output = export(tracker, folder, "--project", "mine")
    stored = sdssl_bench.read_results(folder)
    assert [run["name"] for run in recorder.runs] == ["dino", "mocov3_vit_s16", "sd_mocov3_vit_s16"]
    assert {run["project"] for run in recorder.runs} == {"mine"}
    found = {
        (run["name"], chart, layer): value
        for run in recorder.runs
        for layer, values in run["logged"].items()
        for chart, value in values.items()
        if chart != "layer"
    }
    assert found == pytest.approx(expected(stored), abs=STORED)
    dino = recorder.runs[0]
    tags = dino["tags"] if tracker == "wandb" else dino["config"]["tags"]
    assert tags == ["sdssl-bench", "vit_small_patch16", "teacher", "knn", "linear", "retrieval"]
    assert dino["config"]["depth"] == 3
    if tracker == "wandb":
        assert dino["steps"] == [("layer", None), ("*", "layer")]
        assert all(values["layer"] == layer for layer, values in dino["logged"].items())
    assert not recorder.open
    assert f"sent to the project mine of {tracker}" in output


@pytest.mark.parametrize("recorder", ["wandb"], indirect=True)
def test_what_is_sent_is_chosen_as_everywhere(
    recorder: Recorder, folder: Path, tmp_path: Path
) -> None:
    export("wandb", folder, "--task", "knn", "--model", "dino")
    (run,) = recorder.runs
    assert run["project"] == "sdssl-bench"
    assert {chart.split("/")[0] for chart in run["logged"][1]} == {"layer", "knn imagenet"}
    recorder.runs.clear()
    sdssl_bench.export("wandb", sdssl_bench.read_results(folder, task="knn"), model="dino")
    assert recorder.runs == [run]
    assert "Unknown model 'nix'. Known: dino, " in export("wandb", folder, "--model", "nix", code=3)
    scored(tmp_path, "trial", "cifar10", {1: 90}, limited=200)
    assert "--include-limited" in export("wandb", tmp_path, code=3)
    export("wandb", tmp_path, "--include-limited")
    assert recorder.runs[-1]["name"] == "trial (limit 200)"


@pytest.mark.parametrize("recorder", ["wandb"], indirect=True)
def test_what_a_tracker_refuses_is_a_sentence(recorder: Recorder, folder: Path) -> None:
    recorder.refuses = "No API key configured."
    assert "error: wandb refused the run: No API key configured." in export("wandb", folder, code=1)


def test_event_files_hold_every_number_and_the_bands(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    out = tmp_path / "tb"
    for _ in range(2):  # what an earlier export wrote is replaced
        assert f"tensorboard --logdir {out}" in export("tensorboard", folder, "--out", out)
    numbers = expected(sdssl_bench.read_results(folder))
    found = {}
    for run in out.iterdir():
        assert len(list(run.iterdir())) == 1
        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
        for chart in events.Tags()["scalars"]:
            for event in events.Scalars(chart):
                assert (run.name, chart, event.step) not in found
                found[run.name, chart, event.step] = event.value
        layout = layout_pb2.Layout()
        (config,) = events.Tensors("custom_scalars__config__")
        layout.ParseFromString(config.tensor_proto.string_val[0])
        bands = {
            f"{category.title}/{chart.title}": chart.margin.series[0]
            for category in layout.category
            for chart in category.chart
        }
        charts = {chart for name, chart, _ in numbers if name == run.name}
        assert set(bands) == {
            chart.removesuffix(" low") for chart in charts if chart.endswith(" low")
        }
        for chart, band in bands.items():
            assert (band.value, band.lower, band.upper) == (chart, f"{chart} low", f"{chart} high")
    assert found == pytest.approx(numbers, abs=STORED)


def test_encoders_never_share_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for name in ("a b", "a_b", "a/b"):
        scored(tmp_path / "results", name, "cifar10", {1: 90 + len(name)})
    out = tmp_path / "tb"
    assert len(sdssl_bench.export("tensorboard", tmp_path / "results", out=out).lines) == 4
    assert len(list(out.iterdir())) == 3


def test_a_missing_layer_leaves_a_hole(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first = head(model__depth=4)
    for layer in (1, 4):
        scores = entry(0.25, items=[])
        store.add_layer(first, layer, entry=scores, environment=ENVIRONMENT, items={})
    module = Recorder("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "trackio", module)
        sdssl_bench.export("trackio", tmp_path)
    logged = module.runs[0]["logged"]
    assert sorted(logged) == [1, 4]
    ends = defaultdict(set)
    for values in logged.values():
        for chart in values:
            ends[chart.partition(" low")[0].partition(" high")[0]].add(chart)
    assert all(len(charts) == 1 for name, charts in ends.items() if name.endswith("top1"))


def test_what_cannot_be_sent_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Did you mean 'wandb'" in export("wandbs", folder, code=2)
    assert "--project has no effect" in export("tensorboard", folder, "--project", "x", code=2)
    assert "--out has no effect" in export("wandb", folder, "--out", "x", code=2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install trackio" in export("trackio", folder, code=2)
    # The folder that wandb writes its runs to is no installed package.
    space = ModuleSpec("wandb", None, is_package=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: space)
    with pytest.raises(UsageError, match="pip install wandb"):
        sdssl_bench.export("wandb", folder)
