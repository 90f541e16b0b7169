"""Every number of pretraining, read against its source: tests/golden/pretraining.json.

The section `presets` has patterns of "recipe preset"; of those that match, a later one overrules an
earlier one, and what remains is every setting of that preset under that recipe. The file is written by
hand: who changes a number on purpose changes its line, with the source in hand.
"""

import itertools
import json
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch

from golden_lines import holds_a_number, names, numbers, same, sourced
from sdssl_bench.features import view_pair
from sdssl_bench.pretrain.objective.assembly import build_encoder, build_optimizer
from sdssl_bench.pretrain.objective.frameworks import FRAMEWORKS
from sdssl_bench.pretrain.run.config import CHOICES
from sdssl_bench.pretrain.run.presets import PRESETS, RECIPES, resolve

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "pretraining.json").read_text("utf-8")
)
ELSEWHERE = {
    "sdssl_bench.pretrain.run.presets:*": "what the presets come to, under all recipes",
    "sdssl_bench.pretrain.run.config:PretrainConfig.*": "what the presets come to, too",
    "sdssl_bench.pretrain.run.train:SIGNAL_EVERY": "when processes talk: results are equal",
    "sdssl_bench.pretrain.run.plan:PROBE": "results are equal for every value",
    "sdssl_bench.pretrain.data.tar_images:WAITS": "patience with a server",
    "sdssl_bench.pretrain.data.shards:MOST_SHARDS": "what nobody has",
    "sdssl_bench.pretrain.run.run_lock:*": "patience with another host",
    "sdssl_bench.pretrain.study.*": "what the study waits for, tests and commits; its settings are data",
}
"""Names that are not in the file -> why."""
RUNS = list(itertools.product(RECIPES, PRESETS))


def stated(recipe: str, preset: str) -> dict[str, tuple[str, Any, str]]:
    """Setting -> pattern that decides it, value, source."""
    found: dict[str, tuple[str, Any, str]] = {}
    for pattern, lines in GOLDEN["presets"].items():
        if fnmatchcase(f"{recipe} {preset}", pattern):
            found |= {name: (pattern, *line) for name, line in lines.items()}
    return found


def test_every_setting_of_every_preset_has_the_value_of_its_source() -> None:
    wrong = []
    for recipe, preset in RUNS:
        found = resolve(preset, recipe).to_json()
        assert (found.pop("recipe"), found.pop("preset")) == (recipe, preset)
        lines = stated(recipe, preset)
        assert found.keys() == lines.keys(), (recipe, preset)
        wrong += [
            f"{recipe} {preset}: {name} is {found[name]}, its source ({source}) has {value}"
            for name, (_, value, source) in lines.items()
            if not same(found[name], value)
        ]
    assert not wrong, "\n".join(wrong)


def test_every_line_has_a_source_and_decides_a_preset() -> None:
    deciding = {(line[0], name) for run in RUNS for name, line in stated(*run).items()}
    for pattern, lines in GOLDEN["presets"].items():
        for name, line in lines.items():
            assert sourced(line), f"{pattern}, {name}: no source"
            assert (pattern, name) in deciding, f"{pattern}, {name}: overruled everywhere"


@pytest.mark.parametrize("kind", CHOICES["views"])
def test_both_views_do_what_their_source_says(kind: str) -> None:
    for view, line in zip(
        view_pair(kind, size=224, crop_min=0.08), GOLDEN["views"][kind], strict=True
    ):
        assert sourced(line)
        assert same(asdict(view), line[0])


@pytest.mark.parametrize("name", CHOICES["optimizer"])
def test_optimizers_have_the_constants_of_their_source(name: str) -> None:
    lines = GOLDEN["optimizers"][name]
    model = torch.nn.Linear(2, 2)
    for group in build_optimizer(model, resolve("mocov3_r50", optimizer=name)).param_groups:
        for constant, line in lines.items():
            assert sourced(line)
            assert same(group[constant], line[0])


def test_methods_are_told_apart_as_in_their_source() -> None:
    assert {
        name: {what: line[0] for what, line in lines.items() if sourced(line)}
        for name, lines in GOLDEN["methods"].items()
    } == {name: asdict(row) for name, row in FRAMEWORKS.items()}


def test_the_class_token_starts_as_its_source_says() -> None:
    """A sample's standard deviation of n values is off by a share of about 1 / sqrt(2 n)."""
    torch.manual_seed(0)
    std, source = GOLDEN["class_token_std"]
    token = build_encoder(resolve("mocov3_vit_tiny_p8", dim=1024, depth=1, heads=1)).model.cls_token
    assert source
    assert float(token.detach().std()) == pytest.approx(std, rel=0.1)  # type: ignore[operator,union-attr]


def test_every_constant_has_the_number_of_its_source() -> None:
    lines, found = GOLDEN["constants"], numbers("pretrain", ELSEWHERE)
    missing = {name for name, value in found.items() if holds_a_number(value)} - lines.keys()
    assert sorted(missing) == [], "numbers without a source"
    assert sorted(lines.keys() - found.keys()) == [], "lines for what is not there"
    for name, line in lines.items():
        assert sourced(line), f"{name}: no source"
        assert same(found[name], line[0]), (
            f"{name} is {found[name]}, its source ({line[1]}) has {line[0]}"
        )


def test_what_is_left_out_is_there() -> None:
    """No exclusion outlives what it excludes."""
    there = list(names("pretrain"))
    assert not [one for one in ELSEWHERE if not any(fnmatchcase(name, one) for name in there)]
