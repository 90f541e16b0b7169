"""Who leads: what the paired tests say over all benchmarks at once, for two encoders and for many."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from example_results import results
from sdssl_bench.records.store import ResultStore
from sdssl_bench.statistics.comparison import compare, pair
from sdssl_bench.statistics.items import layer_item_scores
from sdssl_bench.statistics.pair_tests import PairTests
from sdssl_bench.statistics.paired_tests import holm, paired_test
from sdssl_bench.statistics.ranks import leads, rank_intervals
from stored_results import knn_layer, scored, store


def test_two_encoders_lead_where_compare_tells_them_apart_at_the_last_layer(tmp_path: Path) -> None:
    # Of 6 images that one alone gets right, p is 0.031: certain alone, not among four benchmarks.
    for dataset, *right in (
        ("cifar10", 90, 150),
        ("cub", 100, 106),
        ("dogs", 150, 90),
        ("cars", 9, 9),
    ):
        for name, n in zip("ab", right, strict=True):
            scored(tmp_path, name, dataset, {1: n})
    sides = [[one for one in ResultStore(tmp_path) if one[1]["model"]["name"] == n] for n in "ab"]
    pairs, _ = pair(*sides)
    benchmarks, _ = compare(pairs)
    ranks = rank_intervals([*sides[0], *sides[1]])
    outcomes = set()
    for one in benchmarks:
        assert one.last is not None
        outcome = one.last.verdict(0.05)
        outcomes.add(outcome)
        expected = {
            "better": ("behind", "first"),
            "worse": ("first", "behind"),
            "": ("tied", "tied"),
        }
        a, b = (ranks[record["key"]].lead for _, record in (one.a, one.b))
        assert (a, b) == expected[outcome]
    assert outcomes == {"better", "worse", ""}


@pytest.mark.parametrize(
    ("alpha", "ranks"), [(0.0625, ["1a", "2-3b", "2-3b"]), (0.0624, ["1-2a", "1-3a", "2-3b"])]
)
def test_a_difference_at_the_level_counts_and_one_above_does_not(
    tmp_path: Path, alpha: float, ranks: list[str]
) -> None:
    """Of 40 images the second model misses 6 that the first gets right, the third one more.

    McNemar: 2 / 2^6, 2 / 2^7 for first and third, and 1; Holm's factors 2, 3 and 1 make it 1/16, 3/64, 1.
    """
    places = {"first": 30, "second": 24, "third": 23}
    for name, right in places.items():
        layer = knn_layer(np.arange(40) < right, np.arange(40) % 2)
        store(tmp_path, {1: layer}, model__name=name, model__weights_sha256=name)
    found = rank_intervals(ResultStore(tmp_path), alpha=alpha)
    names = {record["model"]["name"]: record["key"] for _, record in ResultStore(tmp_path)}
    assert [str(found[names[name]]) for name in places] == ranks


def test_leads_of_many_are_those_of_the_definition(tmp_path: Path) -> None:
    root = results(tmp_path)
    columns: dict[str, list[Any]] = {}
    for path, record in ResultStore(root):
        units = layer_item_scores(record, path, record["model"]["depth"])
        assert units is not None
        columns.setdefault(record["task"] + record["dataset"]["name"], []).append(
            (record["key"], units)
        )
    p: dict[tuple[str, str], float] = {}
    for members in columns.values():
        members.sort(key=lambda one: (-one[1].value, one[0]))
        for a, b in combinations(members, 2):
            p[a[0], b[0]] = paired_test(a[1], b[1], layers=(3, 3)).p
    together = dict(zip(p, holm(list(p.values())), strict=True))
    keys = [[key for key, _ in members] for members in columns.values()]
    worst = holm([max(p[one[0], other] for other in one[1:]) for one in keys])
    found = {key: one.lead for key, one in rank_intervals(ResultStore(root)).items()}
    for (best, *others), adjusted in zip(keys, worst, strict=True):
        if adjusted <= 0.05:
            assert [found[key] for key in (best, *others)] == ["first", *("behind" for _ in others)]
            continue
        assert found[best] == "tied"
        for other in others:
            assert (found[other] == "tied") == (together[best, other] > 0.05)


@pytest.mark.parametrize(("models", "benchmarks"), [(2, 4), (5, 3)])
def test_encoders_that_are_alike_lead_in_few_of_many_worlds(models: int, benchmarks: int) -> None:
    """Of 2,000 worlds without any difference, about one in twenty or fewer has a certain statement."""
    generator = np.random.default_rng(0)
    pairs = list(combinations(range(models), 2))
    wrong = 0
    for _ in range(2_000):
        tests = []
        for _ in range(benchmarks):
            scores = np.sort(generator.normal(size=models))[::-1] / np.sqrt(2)
            p = 2 * norm.sf([scores[i] - scores[j] for i, j in pairs])
            tests.append(PairTests.known(models, p))
        wrong += any("behind" in one for one in leads(tests, alpha=0.05))
    assert wrong / 2_000 < 0.062


def test_a_lone_survivor_is_first() -> None:
    """Whoever nobody ties with leads, whatever the p values: no benchmark has a tie of one."""
    generator = np.random.default_rng(1)
    for _ in range(300):
        tests = [
            PairTests.known(4, [float(generator.uniform() ** 6) for _ in range(6)])
            for _ in range(3)
        ]
        for one in leads(tests, alpha=0.05):
            assert one[0] == "first" or one.count("tied") > 1
