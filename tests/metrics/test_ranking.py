"""Retrieval scores against the drawn curve, junk deleted literally, and the reference's vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sdssl_bench.metrics.average_precision import (
    PROTOCOLS,
    micro_ap,
    precision_at,
    revisited_scores,
    single_ap,
    trapezoid_ap,
    without_junk,
)
from sdssl_bench.retrieval.database_ranks import BLOCK_ROWS, labelled_positions
from twins import drawn_area

GOLDEN_RANKS = [
    [3, 0, 7, 1, 9, 2, 4, 5, 6, 8],
    [0, 1, 2, 9, 4, 3, 5, 6, 7, 8],
    [5, 2, 9, 0, 1, 3, 4, 6, 7, 8],
]
GOLDEN_GND = [
    {"easy": [0, 1], "hard": [9], "junk": [3]},
    {"easy": [2], "hard": [], "junk": [0, 1]},
    {"easy": [5], "hard": [0, 3], "junk": [2, 9]},
]
GOLDEN = {
    "E": (0.930556, [0.791667, 1.0, 1.0], [1.0, 0.888889, 0.888889]),
    "M": (0.888889, [0.763889, 1.0, 0.902778], [1.0, 0.833333, 0.833333]),
    "H": (0.520833, [0.25, np.nan, 0.791667], [0.5, 0.583333, 0.583333]),
}
GOLDEN_AP = [
    ([0], 1, 1.0),
    ([1], 1, 0.25),
    ([3], 1, 0.125),
    ([0, 2], 2, 0.791667),
    ([], 1, 0.0),
    ([0, 1, 4], 4, 0.6375),
]


def ints(values) -> np.ndarray:
    return np.asarray(values, np.int64)


@pytest.mark.parametrize(("positions", "num_positives", "expected"), GOLDEN_AP)
def test_trapezoid_ap_equals_the_reference(positions, num_positives, expected) -> None:
    assert trapezoid_ap(ints(positions), num_positives) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 3))
def test_trapezoid_ap_is_the_area_under_the_drawn_curve(relevant, unfound) -> None:
    positions = ints(np.flatnonzero(relevant))
    total = len(positions) + unfound
    if total == 0:
        with pytest.raises(ValueError, match="0 positives"):
            trapezoid_ap(positions, total)
        return
    score = trapezoid_ap(positions, total)
    assert score == pytest.approx(drawn_area(relevant, total), abs=1e-12)
    assert 0 <= score <= 1


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.data())
def test_a_positive_that_moves_up_never_lowers_the_ap(relevant, data) -> None:
    swaps = [i for i in range(1, len(relevant)) if relevant[i] and not relevant[i - 1]]
    if not swaps:
        return
    at = data.draw(st.sampled_from(swaps))
    better = list(relevant)
    better[at - 1], better[at] = True, False
    aps = [trapezoid_ap(ints(np.flatnonzero(r)), sum(relevant)) for r in (relevant, better)]
    assert aps[1] >= aps[0] - 1e-15


@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any))
def test_trapezoid_ap_is_never_above_the_stepwise_ap(relevant) -> None:
    stepwise = average_precision_score(relevant, -np.arange(len(relevant)))
    assert trapezoid_ap(ints(np.flatnonzero(relevant)), sum(relevant)) <= stepwise + 1e-12


def test_more_positives_found_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 positives found of 1"):
        trapezoid_ap(ints([0, 1]), 1)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.integers(1, 40))
def test_one_positive_has_the_ap_of_its_position(positions, top_k) -> None:
    full = [trapezoid_ap(ints([p]), 1) for p in positions]
    np.testing.assert_allclose(single_ap(ints(positions)), full)
    cut = [trapezoid_ap(ints([p] if p < top_k else []), 1) for p in positions]
    np.testing.assert_allclose(single_ap(ints(positions), top_k=top_k), cut)


def golden_positions() -> list[dict[str, np.ndarray]]:
    return [
        {label: ints([ranks.index(i) for i in ids]) for label, ids in entry.items()}
        for ranks, entry in zip(GOLDEN_RANKS, GOLDEN_GND, strict=True)
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_revisited_scores_equal_the_reference(protocol) -> None:
    scores = revisited_scores(golden_positions())[protocol]
    mean_ap, aps, precisions = GOLDEN[protocol]
    np.testing.assert_allclose(scores.ap, aps, atol=1e-6)
    means = scores.means()
    assert means["mAP"] == pytest.approx(mean_ap, abs=1e-6)
    assert [means[f"mP@{k}"] for k in (1, 5, 10)] == pytest.approx(precisions, abs=1e-6)
    assert scores.num_queries == np.isfinite(aps).sum()


def literal_scores(ranking: list[int], entry: dict[str, list[int]], protocol: str):
    """Junk deleted from the list, then the curve drawn and the first places counted."""
    wanted, junk = PROTOCOLS[protocol]
    positives = {i for label in wanted for i in entry[label]}
    removed = {i for label in junk for i in entry[label]}
    if not positives:
        return None
    kept = [i for i in ranking if i not in removed]
    relevant = [i in positives for i in kept]
    last = max(place for place, hit in enumerate(relevant, start=1) if hit)
    precisions = [sum(relevant[: min(k, last)]) / min(k, last) for k in (1, 5, 10)]
    return drawn_area(relevant, len(positives)), precisions


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_revisited_scores_equal_deleting_junk_and_drawing_the_curve(seed) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(5, 40))
    ranking = rng.permutation(size).tolist()
    labels = rng.choice(["easy", "hard", "junk", "none"], size, p=[0.2, 0.2, 0.2, 0.4])
    entry = {label: np.flatnonzero(labels == label).tolist() for label in ("easy", "hard", "junk")}
    positions = {k: ints([ranking.index(i) for i in ids]) for k, ids in entry.items()}
    scores = revisited_scores([positions])
    for protocol in PROTOCOLS:
        expected = literal_scores(ranking, entry, protocol)
        if expected is None:
            assert np.isnan(scores[protocol].ap[0])
            with pytest.raises(ValueError, match="no query has positives"):
                scores[protocol].means()
        else:
            assert scores[protocol].ap[0] == pytest.approx(expected[0])
            assert scores[protocol].precision[0].tolist() == pytest.approx(expected[1])


def test_a_query_without_positives_is_left_out_of_the_mean_not_scored_zero() -> None:
    empty = {"easy": ints([]), "hard": ints([]), "junk": ints([1])}
    alone = revisited_scores(golden_positions())
    joined = revisited_scores([*golden_positions(), empty])
    for protocol in PROTOCOLS:
        assert joined[protocol].means() == alone[protocol].means()


def test_precision_never_looks_past_the_last_positive() -> None:
    assert precision_at(ints([0, 1, 2]), (1, 5, 10)).tolist() == [1, 1, 1]
    assert precision_at(ints([9]), (1, 5, 10)).tolist() == [0, 0, 0.1]


def test_junk_before_a_positive_moves_it_up_and_junk_after_does_not() -> None:
    assert without_junk(ints([0, 5, 9]), ints([3, 4, 7])).tolist() == [0, 3, 6]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=25).filter(
        lambda pairs: any(hit for _, hit in pairs)
    ),
    st.integers(0, 4),
)
def test_micro_ap_is_the_stepwise_ap_scaled_to_all_positives(pairs, unfound) -> None:
    scores = np.array([s for s, _ in pairs], float)
    correct = np.array([hit for _, hit in pairs])
    total = int(correct.sum()) + unfound
    expected = average_precision_score(correct, scores) * correct.sum() / total
    assert micro_ap(scores, correct, total) == pytest.approx(expected)


# --- positions in the full ranking ---


def sorted_positions(queries, bank, labelled, stop) -> list[list[int]]:
    """The whole ranking sorted: float64 cosines to 13 decimals, ties by lower row."""
    found = []
    for query, rows in zip(queries.astype(float), labelled, strict=True):
        lengths = np.linalg.norm(query) * np.linalg.norm(bank[:stop].astype(float), axis=1)
        dots = np.array([(query * row).sum() for row in bank[:stop].astype(float)])
        cosines = np.round(np.divide(dots, lengths, out=np.zeros(stop), where=lengths > 0), 13)
        ranking = np.lexsort((np.arange(stop), -cosines)).tolist()
        found.append([ranking.index(row) for row in rows])
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("seed", range(6))
def test_positions_equal_the_sorted_ranking_at_every_stop(seed, dtype) -> None:
    rng = np.random.default_rng(seed)
    bank = rng.integers(-2, 3, (60, 5)).astype(dtype)  # small integers: many exact ties
    bank[7] = 0
    queries = rng.integers(-2, 3, (9, 5)).astype(dtype)
    labelled = [ints(rng.permutation(20)[: rng.integers(0, 6)]) for _ in queries]
    stops = [20, 20, 33, 60]
    found = labelled_positions(
        queries, [bank[:20], bank[20:41], bank[41:]], labelled=labelled, stops=stops
    )
    for column, stop in enumerate(stops):
        expected = sorted_positions(queries, bank, labelled, stop)
        assert [f[column].tolist() for f in found] == expected


def test_positions_do_not_depend_on_how_the_database_is_cut_into_pieces(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    bank = rng.standard_normal((BLOCK_ROWS + 300, 3)).astype(np.float32)
    bank[BLOCK_ROWS - 5 : BLOCK_ROWS + 5] = bank[0]
    queries = rng.standard_normal((4, 3)).astype(np.float32)
    labelled = [ints([0, BLOCK_ROWS - 5, BLOCK_ROWS + 4, 17])] * 4
    whole = labelled_positions(queries, [bank], labelled=labelled)
    for query, rows in enumerate(sorted_positions(queries, bank, labelled, len(bank))):
        assert whole[query][0].tolist() == rows
    monkeypatch.setattr("sdssl_bench.retrieval.database_ranks.BLOCK_ROWS", 97)
    monkeypatch.setattr("sdssl_bench.retrieval.database_ranks.BLOCK_QUERIES", 3)
    pieces = labelled_positions(queries, [bank[:1000], bank[1000:]], labelled=labelled)
    np.testing.assert_array_equal(np.stack(whole), np.stack(pieces))


def test_features_so_close_that_float32_cannot_tell_them_apart_are_ranked_exactly() -> None:
    rng = np.random.default_rng(0)
    centre = rng.standard_normal(16)
    bank = (centre + 1e-5 * rng.standard_normal((200, 16))).astype(np.float32)
    labelled = [ints([3, 150])]
    found = labelled_positions(bank[:1], [bank], labelled=labelled)
    assert found[0][0].tolist() == sorted_positions(bank[:1], bank, labelled, 200)[0]


def test_stops_that_cut_off_a_labelled_row_are_an_error() -> None:
    bank = np.eye(4, dtype=np.float32)
    with pytest.raises(ValueError, match="stops"):
        labelled_positions(bank[:1], [bank], labelled=[ints([3])], stops=[2, 4])
