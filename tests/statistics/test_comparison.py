"""`compare` pairs only what may be compared, and says what it found in one sentence."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sdssl_bench.cli.main import app
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records.reading import items_path
from sdssl_bench.records.store import Stored
from sdssl_bench.reports.comparison_text import sentence
from sdssl_bench.statistics.best_layers import best_layer_test
from sdssl_bench.statistics.comparison import Outcome, _family, compare, find_records, pair
from sdssl_bench.statistics.items import layer_item_scores
from sdssl_bench.statistics.paired_tests import Difference, holm, mcnemar, paired_proportions
from stored_results import PETS, RETRIEVAL, knn_layer, retrieval_layer, store

N = 300
TARGET = np.arange(N) % 10
OTHER: dict[str, Any] = {"model__name": "sd_dino", "model__weights_sha256": "b" * 64}


def layers(seed: int, accuracy: dict[int, float]) -> dict[int, Any]:
    """Correct answers that models of one seed share as far as their accuracy goes."""
    level = np.random.default_rng(seed).random(N)
    return {layer: knn_layer(level < p, TARGET) for layer, p in accuracy.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """dino and sd_dino on CIFAR-10 (b better at the last layer) and on ROxford (equal)."""
    ap = np.random.default_rng(0).beta(2, 2, 70)
    store(tmp_path, layers(0, {1: 0.3, 2: 0.5, 3: 0.6}))
    store(tmp_path, layers(0, {1: 0.3, 2: 0.4, 3: 0.7}), **OTHER)
    for changes in ({}, OTHER):
        store(tmp_path, {3: retrieval_layer(ap)}, **RETRIEVAL, **changes)
    return tmp_path


def named(text: str, root: Path) -> list[Stored]:
    """The records of a model; none is damaged."""
    found, damaged = find_records(text, [root])
    assert not damaged
    return found


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_every_layer_the_last_and_the_best_are_tested(root: Path) -> None:
    pairs, left_out = pair(named("dino", root), named("sd_dino", root))
    (knn, retrieval), without = compare(pairs)
    assert (left_out, without) == ([], [])
    assert list(knn.layers) == [1, 2, 3]
    d = knn.layers[2].difference
    assert (d.only_b, d.p) == (0, mcnemar(d.only_a, 0))
    assert knn.last is not None
    assert knn.last.difference.p == knn.layers[3].difference.p
    assert knn.best is not None
    assert knn.best.difference.layers == (3, 3)
    assert retrieval.best is None  # one layer: there is no choice
    assert retrieval.last is not None
    assert retrieval.last.difference.p == 1


def test_each_family_is_adjusted_over_all_benchmarks(root: Path) -> None:
    benchmarks, _ = compare(pair(named("dino", root), named("sd_dino", root))[0])
    single = [one for b in benchmarks for one in b.layers.values()]
    assert [one.adjusted for one in single] == holm([one.difference.p for one in single])
    last = [one.last for one in benchmarks if one.last is not None]
    assert [one.adjusted for one in last] == holm([one.difference.p for one in last])
    assert last[0].adjusted == 2 * last[0].difference.p
    assert benchmarks[0].best is not None
    assert benchmarks[0].best.adjusted == benchmarks[0].best.difference.p


def test_a_model_is_named_by_any_unambiguous_part(root: Path) -> None:
    whole = named("sd_dino", root)
    assert named("sd_", root) == whole
    assert named("dino", root) != whole, "a whole name wins over a part of another"
    with pytest.raises(UsageError, match="several models' names: dino, sd_dino"):
        named("din", root)
    with pytest.raises(UsageError, match="Unknown model 'dinoo'"):
        named("dinoo", root)


def test_intervals_and_p_values_agree(root: Path) -> None:
    benchmarks, _ = compare(pair(named("dino", root), named("sd_dino", root))[0])
    tested = [
        one for b in benchmarks for one in (*b.layers.values(), b.last, b.best) if one is not None
    ]
    assert {bool(one.verdict(0.05)) for one in tested} == {True, False}
    for one in tested:
        excludes = one.low > 0 or one.high < 0
        assert excludes == (one.adjusted <= 0.05) == bool(one.verdict(0.05))
        assert one.low <= one.difference.low or excludes
        assert one.high >= one.difference.high or excludes


def test_families_without_a_difference_rarely_show_an_interval_without_0() -> None:
    """Sixteen benchmarks of two equal models: one or more of 16 intervals excludes 0 in 5 % at most."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        family = []
        for _ in range(16):
            only_a, only_b = rng.multinomial(200, [0.1, 0.1, 0.8])[:2]
            found = Difference(
                0.5, 0.5 + (only_b - only_a) / 200, 0.0, 0.0, mcnemar(only_a, only_b), 200,
                "images", "McNemar", (1, 1),
            )  # fmt: skip
            bounds = partial(paired_proportions, only_a, only_b, 200)
            family.append(Outcome(found, found.p, *bounds(0.95), bounds))
        adjusted = _family(family, 0.95)
        wrong += any(one.low > 0 or one.high < 0 for one in adjusted if one is not None)
    assert wrong <= 400 * 0.073


def test_the_best_layers_are_tested_with_their_choice_inside(root: Path) -> None:
    pairs, _ = pair(named("dino", root), named("sd_dino", root))
    (knn, _), _ = compare(pairs)
    (path_a, a), (path_b, b) = pairs[0]
    units = [
        {layer: one for layer in (1, 2, 3) if (one := layer_item_scores(r, path, layer))}
        for path, r in ((path_a, a), (path_b, b))
    ]
    assert knn.best is not None
    assert knn.best.difference == best_layer_test(*units)


def test_the_sentences_are_plain_english(root: Path) -> None:
    result = run("dino", "sd_dino", "--results", root, "--wide")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith(("knn", "retr"))]
    lines = [line for line in lines if ": " in line]
    assert lines[-2].startswith("knn cifar10: B is better than A at the last layer: ")
    assert lines[-2].endswith("of 3 layers B is better at 1, worse at 1.")
    assert " after Holm over 2 tests) on 300 images; " in lines[-2]
    assert lines[-1] == (
        "retrieval roxford5k: no difference can be told between A and B at the last layer: 50.2 against "
        "50.2, a difference of +0.0 points (95 % interval +0.0 to +0.0, p = 1 after Holm over 2 tests) "
        "on 70 queries."
    )


def test_exit_code_4_says_that_b_is_worse(root: Path) -> None:
    assert run("dino", "sd_dino", "--results", root, "--fail-if-worse").exit_code == 0
    assert run("sd_dino", "dino", "--results", root).exit_code == 0
    assert run("sd_dino", "dino", "--results", root, "--fail-if-worse").exit_code == 4
    arguments = ("dino", "sd_dino", "--results", root, "--fail-if-worse", "--at")
    assert run(*arguments, "2").exit_code == 4
    assert run(*arguments, "1").exit_code == 0


def test_json_holds_all_that_was_found(root: Path) -> None:
    found = json.loads(run("dino", "sd_dino", "--results", root, "--json").stdout)
    knn, retrieval = found["benchmarks"]
    assert list(knn["layers"]) == ["1", "2", "3"]
    assert knn["best"]["selected_on"] == "test"
    assert retrieval["best"] is None
    assert retrieval["last"]["only_a_right"] is None
    assert knn["last"]["p_holm"] == 2 * knn["last"]["p"]
    assert len(found["sentences"]) == 2


def test_records_and_folders_are_named_by_path(root: Path, tmp_path_factory: Any) -> None:
    records = named("dino", root)
    assert named(str(records[0][0]), root) == [records[0]]
    assert len(named(str(root), root)) == 4
    assert len(named(str(records[0][0].parent), root)) == 2
    with pytest.raises(UsageError, match="Did you mean 'dino'"):
        named("dinoo", root)
    with pytest.raises(DataError, match="found none"):
        find_records(str(tmp_path_factory.mktemp("empty")), [root])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"protocol__version": 2}, "protocol.version: 1 against 2"),
        ({"protocol__parameters": {"k": [5]}}, r"protocol.parameters.k: \[10, 20\] against \[5\]"),
        ({"dataset__variant": "partial"}, "dataset.variant: official against partial"),
        (
            {"dataset__fingerprint": "e" * 64},
            "dataset.fingerprint: ffffffffffff... against eeeeeeee",
        ),
        ({"dataset__name": "cifar100"}, "dataset.name: cifar10 against cifar100"),
        ({"limited": 100}, "limited: none against 100"),
        ({"headline": "k20/mean_per_class"}, "headline: k20/top1 against k20/mean_per_class"),
    ],
)
def test_other_protocols_and_data_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    a = store(tmp_path, layers(0, {3: 0.6}))
    b = store(tmp_path, layers(1, {3: 0.6}), **OTHER, **change)
    with pytest.raises(UsageError, match=named):
        pair([a], [b])
    assert run(a[0], b[0]).exit_code == 2


def test_another_task_is_refused(root: Path) -> None:
    files = [path for path, _ in named("dino", root)]
    with pytest.raises(UsageError, match="the other side has no result of knn"):
        pair([s for s in named("dino", root) if s[0] == files[0]],
             [s for s in named("sd_dino", root) if s[1]["task"] == "retrieval"])  # fmt: skip


def test_what_has_no_partner_is_listed_and_the_rest_compared(root: Path) -> None:
    store(root, layers(0, {3: 0.5}), **PETS)
    result = run("dino", "sd_dino", "--results", root)
    assert result.exit_code == 0
    assert "not compared: knn pets: " in result.output


def test_several_candidates_are_not_guessed_among(root: Path) -> None:
    store(root, layers(0, {3: 0.5}), **OTHER, model__norm="none")
    result = run("dino", "sd_dino", "--results", root)
    assert result.exit_code == 2
    assert "several results on the other side" in result.output


def test_other_images_of_one_set_are_refused(tmp_path: Path) -> None:
    a = store(tmp_path, layers(0, {3: 0.6}))
    metrics, items = knn_layer(np.ones(N - 1, bool), TARGET[1:])
    b = store(tmp_path, {3: (metrics, {**items, "index": np.arange(1, N)})}, **OTHER)
    with pytest.raises(UsageError, match="1 of them were scored on one side only"):
        compare(pair([a], [b])[0])


def test_metrics_without_items_cannot_be_compared(tmp_path: Path) -> None:
    stored = [
        store(tmp_path, {1: ({"cka": 0.5}, {})}, task="cka", headline="cka", **changes)
        for changes in ({}, OTHER)
    ]
    with pytest.raises(UsageError, match="no per-item scores of cka"):
        compare([(stored[0], stored[1])])


def test_scores_that_were_changed_are_refused(root: Path) -> None:
    path, other = (path for path, _ in named("dino", root))
    items_path(path).unlink()
    done = run("dino", "sd_dino", "--results", root)
    assert done.exit_code == 1
    assert f"warning: left out: Expected per-item scores in {items_path(path)}" in done.output
    assert run(path, other, "--results", root).exit_code == 3


def test_models_of_different_depth_meet_at_their_own_last_layers(tmp_path: Path) -> None:
    a = store(tmp_path, layers(0, {1: 0.3, 2: 0.6}))
    b = store(tmp_path, layers(0, {1: 0.3, 2: 0.4, 3: 0.7}), **OTHER)
    (found,), _ = compare(pair([a], [b])[0])
    assert found.last is not None
    assert found.last.difference.layers == (2, 3)
    assert list(found.layers) == [1, 2]
    assert found.best is not None
    assert found.best.difference.test.startswith("bootstrap")
    assert "the last layer" in sentence(found, at="last", alpha=0.05, tests=1)


@pytest.mark.parametrize("arguments", [["--at", "first"], ["--at", "0"], ["--alpha", "5"]])
def test_impossible_options_are_usage_errors(root: Path, arguments: list[str]) -> None:
    assert run("dino", "sd_dino", "--results", root, *arguments).exit_code == 2
