"""The report's first sentence: it says what the paired tests say, no more, whoever is compared with whom."""

import re
from pathlib import Path
from typing import Any

from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports import page
from sdssl_bench.reports.page_data import collect
from stored_results import scored, store


def verdict(root: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = collect(ResultStore(root), **options)["verdict"]
    return found


def line(root: Path) -> str:
    return str(verdict(root)["line"])


# What is said


def test_one_sentence_for_two_encoders(tmp_path: Path) -> None:
    for dataset, a, b in (("cifar10", 150, 90), ("cub", 150, 150), ("dogs", 150, 149)):
        scored(tmp_path, "a", dataset, {1: a})
        scored(tmp_path, "b", dataset, {1: b})
    assert (
        line(tmp_path)
        == "a leads: certainly better than b on 1 of 3 benchmarks; the other 2 are ties."
    )
    scored(tmp_path, "a", "cars", {1: 90})
    scored(tmp_path, "b", "cars", {1: 150})
    assert line(tmp_path) == (
        "a is certainly better on 1 of 4 benchmarks, b on 1; the other 2 are ties."
    )


def test_ties_say_whose_scores_are_higher_and_that_this_tells_nothing(tmp_path: Path) -> None:
    for dataset, a, b in (("cifar10", 150, 149), ("cub", 150, 150)):
        scored(tmp_path, "a", dataset, {1: a})
        scored(tmp_path, "b", dataset, {1: b})
    found = verdict(tmp_path)
    assert found["line"] == "a and b tie on both benchmarks."
    assert found["findings"][0] == "a scores higher on 1, b on 0, 1 is equal: chance can do that."


def test_one_sentence_for_many_encoders(tmp_path: Path) -> None:
    for dataset, *right in (("cifar10", 150, 90, 80), ("cub", 150, 149, 80), ("dogs", 80, 150, 90)):
        for name, n in zip("abc", right, strict=True):
            scored(tmp_path, name, dataset, {1: n})
    assert line(tmp_path) == "a and b lead: each certainly best on 1 of 3 benchmarks."
    for name, n in zip("abc", (90, 150, 80), strict=True):
        scored(tmp_path, name, "cars", {1: n})
    assert line(tmp_path) == (
        "b leads: certainly best on 2 of 4 benchmarks, tied for best on 1 more; a on 1."
    )


def test_nobody_leads_among_equals(tmp_path: Path) -> None:
    for name in "abcde":
        scored(tmp_path, name, "cifar10", {1: 100})
    assert line(tmp_path) == (
        "No encoder is certainly best on the 1 benchmark; a, b, c and 2 more are tied for best on all."
    )


def test_what_an_encoder_lacks_is_no_loss(tmp_path: Path) -> None:
    for dataset in ("cifar10", "cub"):
        scored(tmp_path, "a", dataset, {1: 90})
        scored(tmp_path, "b", dataset, {1: 150})
    scored(tmp_path, "c", "cifar10", {1: 190})
    scored(tmp_path, "c", "dogs", {1: 100})
    found = verdict(tmp_path)
    assert found["line"] == "b and c lead: each certainly best on 1 of 2 benchmarks."
    assert found["findings"][0].startswith("Of the 2 benchmarks c has 1; 1 benchmark cannot")


def test_a_single_encoder_is_held_against_its_own_layers(tmp_path: Path) -> None:
    scored(tmp_path, "a", "cifar10", {1: 100, 2: 129, 3: 120})
    scored(tmp_path, "a", "cub", {1: 100, 2: 110, 3: 120})
    found = verdict(tmp_path)
    assert found["line"] == (
        "a is best before its last layer on 1 of 2 benchmarks, "
        "by up to 4.5 points (knn cifar10, layer 2 of 3)."
    )
    assert "leads" not in str(found)
    scored(tmp_path / "last", "a", "cub", {1: 100, 2: 120})
    assert line(tmp_path / "last") == "a is best at its last layer on the one benchmark."
    scored(tmp_path / "single", "a", "cub", {1: 100})
    assert line(tmp_path / "single") == "a has scores on 1 benchmark, of one layer each."


def test_encoders_without_a_common_benchmark_are_not_ranked(tmp_path: Path) -> None:
    scored(tmp_path, "a", "cifar10", {1: 100})
    scored(tmp_path, "b", "cub", {1: 100})
    assert line(tmp_path) == "2 encoders, but no benchmark on which two of them can be compared."


def test_descriptions_rank_nobody(tmp_path: Path) -> None:
    store(
        tmp_path,
        {1: ({"uniformity": -1.0}, {})},
        task="analysis",
        ranked=False,
        headline="uniformity",
    )
    found = verdict(tmp_path)
    assert found["line"].startswith("These results describe encoders")
    assert found["findings"] == found["basis"] == found["labels"] == []


# What a number must not be quoted without


def test_miniature_and_partial_data_and_untrained_encoders_are_labelled(tmp_path: Path) -> None:
    scored(tmp_path, "a", "cifar10", {1: 100}, dataset__variant="mini")
    found = verdict(tmp_path)
    assert "1 miniature benchmark" in found["line"]
    assert found["labels"][0].startswith("The one benchmark: miniature data")
    scored(tmp_path, "a", "cub", {1: 100}, dataset__variant="partial", model__pretrained=False)
    scored(tmp_path, "a", "dogs", {1: 100}, dataset__variant="folder", model__pretrained="unknown")
    found = verdict(tmp_path)
    assert "miniature" not in found["line"]
    assert [one[:20] for one in found["labels"]] == [
        "1 of 3 benchmarks: m", "1 of 3 benchmarks: a", "Untrained: a (contro",
    ]  # fmt: skip


def test_an_untrained_encoder_is_named(tmp_path: Path) -> None:
    scored(tmp_path, "a", "cub", {1: 100}, model__pretrained=False)
    assert verdict(tmp_path)["labels"] == ["Untrained: a (control)"]


def test_trials_rank_nobody(tmp_path: Path) -> None:
    for name, n in (("a", 190), ("b", 10)):
        scored(tmp_path, name, "cub", {1: n}, limited=200)
    found = verdict(tmp_path, include_limited=True)
    assert found["line"].startswith("Trials made under --limit")
    assert found["labels"] == ["The one benchmark: trials made under --limit, which rank nobody"]
    for name in "cd":
        scored(tmp_path, name, "cub", {1: 100})
    found = verdict(tmp_path, include_limited=True)
    assert found["line"] == "c and d tie on the one benchmark."
    assert found["labels"][0].startswith("1 of 2 benchmarks: trials")


def test_the_page_states_the_verdict_without_a_script(tmp_path: Path) -> None:
    for name, n in (("sd_vit", 150), ("vit", 60)):
        scored(tmp_path, name, "cub", {1: n}, dataset__variant="mini")
    data = collect(ResultStore(tmp_path))
    text = page.render(data).content.decode().partition("<script")[0]
    plain = re.sub(r"<(?!/?p|/?li)[^>]*>", "", text)
    assert f'<p class="line">{data["verdict"]["line"]}</p>' in plain
    assert all(f"<li>{label}</li>" in plain for label in data["verdict"]["labels"])
