"""`reproduce` names commands that exist, and finds in the results what it says is there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from example_results import results
from sdssl_bench import datasets
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.paper.figures import FIGURES
from sdssl_bench.paper.layouts import LAYOUTS, candidates
from sdssl_bench.paper.references import CONTRADICTION
from sdssl_bench.paper.reproduction import (
    TABLES,
    Checkpoint,
    Outcome,
    evaluation_commands,
    outcome,
    wanted,
)
from sdssl_bench.pretrain.run.presets import resolve
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.reproduction_text import reproduction_table
from sdssl_bench.rounding import percent
from sdssl_bench.tasks import task_class, task_names
from stored_results import DAVIS, davis_layer, store

DESCRIPTIONS = ("analysis", "cka")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("results"))


def all_checkpoints() -> list[Checkpoint]:
    tables = [one.checkpoint for number in TABLES for one in wanted(number)]
    return [*tables, *(c for figure in FIGURES.values() for c in figure.checkpoints)]


def test_every_pretraining_command_is_accepted_by_pretraining() -> None:
    """Flags exist and go together; the same run never stands for two configurations."""
    configurations: dict[str, Any] = {}
    pretrain = get_command(app).commands["pretrain"]  # type: ignore[attr-defined]
    for one in set(all_checkpoints()):
        words = shlex.split(one.command)
        assert words[:3] == ["accelerate", "launch", "pretrain/main.py"]
        given = pretrain.make_context("pretrain", words[3:]).params
        settings = {name: value for name, value in given.items() if value is not None}
        for other in ("out", "dry_run"):
            settings.pop(other)
        config = resolve(**settings)
        assert configurations.setdefault(one.name, config) == config
    assert len(set(map(repr, configurations.values()))) == len(configurations)


@pytest.mark.parametrize("number", TABLES)
def test_every_evaluation_command_names_a_task_and_datasets(number: int) -> None:
    for line in evaluation_commands(wanted(number)):
        words = shlex.split(line)
        task = words[words.index("--task") + 1]
        assert task in task_names()
        if "--dataset" in words:
            known = {*datasets.names("classification"), *datasets.names("retrieval")}
            assert set(words[words.index("--dataset") + 1].split(",")) <= known
        if "--protocol" in words:
            assert words[words.index("--protocol") + 1] in task_class(task).presets


def test_imagenet_is_fine_tuned_by_its_own_recipe() -> None:
    """A fine-tuning by the recipe for transfer never fills Table 4's ImageNet cell."""
    lines = [line for line in evaluation_commands(wanted(4)) if "finetune" in line]
    assert [("--protocol paper" in line, "imagenet" in line.split("--protocol")[0]) for line in lines] == [
        (True, False), (False, True),
    ]  # fmt: skip
    columns = {c.dataset: c for c in LAYOUTS[4].blocks["Fine-tuning"]}
    for dataset, protocol, fits in (
        ("imagenet", "paper", False), ("imagenet", "imagenet", True), ("cars", "paper", True),
        ("cars", "imagenet", False),
    ):  # fmt: skip
        one = {
            "task": "finetune",
            "dataset": {"name": dataset, "variant": "official"},
            "limited": None,
            "model": {"name": "m", "arch": "vit_small_p16", "norm": "shared"},
            "settings": {"dtype": "float32", "seed": 0},
            "protocol": {"id": f"finetune/{protocol}"},
        }
        found = candidates([(Path("x"), one)], columns[dataset], "m", "ViT-S/16")
        assert bool(found) == fits, (dataset, protocol)


def test_the_evaluations_of_figures_name_tasks() -> None:
    tasks = {task for figure in FIGURES.values() for task, _ in figure.evaluations}
    assert tasks - set(DESCRIPTIONS) <= set(task_names())


def test_every_number_of_the_tables_is_wanted_once() -> None:
    sizes = {number: len(wanted(number)) for number in TABLES}
    assert sizes == {1: 36, 2: 24, 3: 24, 4: 180, 5: 5, 6: 7, 7: 10}  # 18 averages left out
    with pytest.raises(UsageError, match="Tables 1 to 7"):
        wanted(8)


def test_a_measured_number_stands_beside_the_papers(root: Path) -> None:
    found = json.loads(run("--table", 1, "--results", root, "--json").stdout)["cells"]
    there = {(c["framework"], c["variant"]): c for c in found if c["ours"] is not None}
    assert set(there) == {("MoCo v3", "baseline"), ("MoCo v3", "SD")}
    cell = there["MoCo v3", "SD"]
    assert (cell["arch"], cell["task"], cell["layer"]) == ("ViT-S/16", "knn", 3)
    assert (cell["paper"], cell["ours"]) == (0.68, 0.56)
    assert cell["difference"] == pytest.approx(-0.12)
    assert cell["within_interval"] is False
    assert cell["low"] < 0.56 < cell["high"]


def test_the_table_and_what_is_missing_are_printed(root: Path) -> None:
    done = run("--table", 1, "--results", root)
    assert done.exit_code == 0, done.output
    assert "[results] accelerate launch pretrain/main.py --preset sd_mocov3_vit_s16 " in done.output
    assert "[missing] accelerate launch pretrain/main.py --preset byol_vit_s16 " in done.output
    text = " ".join(done.output.split())
    assert "2 of 36 numbers are there." in text
    assert CONTRADICTION in text
    assert max(map(len, done.output.partition("Table 1 of")[2].splitlines())) <= 80
    row = next(line for line in done.output.splitlines() if "-12.0" in line)
    assert re.search(r"68\.0‡ +56\.0 +-12\.0 ", row)
    assert "51.1 to 60.8" in run("--table", 1, "--results", root, "--wide").output
    other = run("--table", 2, "--results", root)
    assert CONTRADICTION not in other.output


@pytest.mark.parametrize("number", TABLES)
def test_the_methods_of_a_table_are_those_that_are_pretrained_for_it(number: int) -> None:
    """What a row calls SD- is trained with self-distillation, and no two models share a name there."""
    cells = wanted(number)
    table = reproduction_table(number, [Outcome(one) for one in cells])
    for one, row in zip(cells, table.rows, strict=True):
        words = shlex.split(one.checkpoint.command)
        config = resolve(words[words.index("--preset") + 1])
        framework = {"simclr": "SimCLR", "byol": "BYOL", "mocov3": "MoCo v3"}[config.method]
        assert (f"{row[0]} ").startswith(f"{'SD-' * config.sd}{framework} ")
        assert str(row[5]).rstrip("‡") == percent(one.cell.value)
    names = {
        (one.checkpoint.name, row[0], row[1]) for one, row in zip(cells, table.rows, strict=True)
    }
    assert len({(method, arch) for _, method, arch in names}) == len(names)


def test_a_baseline_far_below_its_origin_says_so(root: Path) -> None:
    """MoCo v3 on ResNet-50: 60.3 linear in Table 7; 68.9 and 72.8 in MoCo v3's own repository."""
    for number in TABLES:
        told = run("--table", number, "--results", root).output
        assert ("68.9" in told and "72.8" in told) is (number == 7)
    cells = json.loads(run("--table", 7, "--results", root, "--json").stdout)["cells"]
    (remark,) = {c["remark"] for c in cells if c["paper"] == 0.603}
    assert "68.9 after 100 epochs and 72.8 after 300" in remark


def test_best_layers_say_that_test_chose_them(root: Path) -> None:
    done = run("--table", 3, "--results", root)
    assert "best layers, selected on test" in done.output
    cells = json.loads(run("--table", 3, "--results", root, "--json").stdout)["cells"]
    ours = {c["metric"]: c for c in cells if (c["framework"], c["variant"]) == ("MoCo v3", "SD")}
    assert {c["layer"] for c in ours.values()} == {2}
    mean = (ours["J-Mean"]["ours"] + ours["F-Mean"]["ours"]) / 2
    assert ours["J&F-Mean"]["ours"] == pytest.approx(mean)


def test_a_rounded_number_of_the_paper_lies_within_if_its_rounding_does(tmp_path: Path) -> None:
    """0.6005 is printed as 60.0 or 60.1; neither is a difference from an interval that ends there."""
    (one,) = [
        w for w in wanted(3)
        if (w.cell.framework, w.cell.variant, w.cell.metric) == ("MoCo v3", "SD", "J&F-Mean")
    ]  # fmt: skip
    import numpy as np

    for value, within in ((0.6214, True), (0.6216, False)):
        folder = tmp_path / str(value)
        names = [f"v{s}_1" for s in range(30)]
        equal = np.full(30, value) + np.tile([1e-9, -1e-9], 15)
        store(
            folder, {1: davis_layer(names, equal, equal)}, **DAVIS,
            model__name="sd_mocov3_vit_s16", model__arch="vit_small_p16",
        )  # fmt: skip
        assert outcome(one, list(ResultStore(folder)), {}).within is within


def test_a_model_of_another_name_can_stand_for_a_run(root: Path) -> None:
    arguments = ("--table", 1, "--results", root, "--json", "--model")
    found = json.loads(run(*arguments, "byol_vit_s16=dino").stdout)["cells"]
    byol = [c for c in found if c["run"] == "byol_vit_s16" and c["task"] == "knn"]
    assert [c["ours"] for c in byol] == [0.57]
    assert run(*arguments, "nothing=dino").exit_code == 2
    assert run(*arguments, "dino").exit_code == 2


def test_a_model_of_another_architecture_does_not_count(root: Path) -> None:
    arguments = ("--table", 1, "--results", root, "--json", "--model", "byol_vit_b16=dino")
    found = json.loads(run(*arguments).stdout)["cells"]
    assert [c["ours"] for c in found if c["run"] == "byol_vit_b16"] == [None, None]


@pytest.mark.parametrize("number", sorted(FIGURES))
def test_figures_say_what_they_need_and_what_is_there(root: Path, number: int) -> None:
    done = run("--figure", number, "--results", root)
    assert done.exit_code == 0, done.output
    value = json.loads(run("--figure", number, "--results", root, "--json").stdout)
    assert value["pretraining"]
    assert value["evaluation"]
    there = {c["run"]: c["layers"] for c in value["curves"] if c["layers"]}
    if number == 4:
        assert there == {"mocov3_vit_s16": [1, 2, 3], "sd_mocov3_vit_s16": [1, 2, 3]}
        assert "sd_mocov3_vit_s16 davis davis: layers 1-3" in done.output
        assert "byol_vit_s16 davis davis: nothing yet" in done.output


def test_figure_9_sweeps_both_weights_and_says_whose_values_are_known(root: Path) -> None:
    told = run("--figure", 9, "--results", root).output
    for setting in ("alpha-max", "beta"):
        found = {float(value) for value in re.findall(rf"--{setting} (\S+)", told)}
        assert found == {0, 0.2, 0.4, 0.6, 0.8, 1.2, 1.4}
    assert "They released none for alpha" in " ".join(told.split())
    assert "alpha" not in run("--figure", 8, "--results", root).output


@pytest.mark.parametrize(
    "arguments", [[], ["--table", 1, "--figure", 3], ["--table", 0], ["--figure", 2]]
)
def test_other_requests_are_usage_errors(root: Path, arguments: list[object]) -> None:
    assert run(*arguments, "--results", root).exit_code == 2
