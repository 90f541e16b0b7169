"""Nearest neighbours agree with a float64 brute force, whatever the backend; the vote with a loop."""

import json
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdssl_bench.errors import TaskError, UsageError
from sdssl_bench.neighbors import exact, search
from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.vote import class_votes, weighted_knn_vote

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "knn.json").read_text())
BACKENDS = ("torch", "faiss")


def brute_force(
    queries: NDArray[np.floating], bank: NDArray[np.floating], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The definition: float64 cosines, 0 for zero vectors, descending, ties by lower index."""
    rows = bank.astype(np.float64)
    scores = np.zeros((len(queries), len(rows)))
    ids = np.zeros((len(queries), k), np.int64)
    for i, query in enumerate(queries.astype(np.float64)):
        # The same sums as in the search: where scores differ by 1e-13, their order shows in the result.
        dots = np.einsum("nd,nd->n", np.tile(query, (len(rows), 1)), rows)
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        for j in range(len(rows)):
            length = np.sqrt(np.einsum("nd,nd->n", query[None], query[None])[0]) * lengths[j]
            scores[i, j] = dots[j] / length if length > 0 else 0.0
        ids[i] = np.lexsort((np.arange(len(rows)), -scores[i].round(13)))[:k]
    return np.take_along_axis(scores, ids, axis=1), ids


def assert_exact(queries: NDArray[np.floating], bank: NDArray[np.floating], k: int) -> None:
    expected_scores, expected_ids = brute_force(queries, bank, k)
    for backend in BACKENDS:
        scores, ids = top_k(queries, bank, k=k, backend=backend)
        np.testing.assert_array_equal(ids, expected_ids, err_msg=backend)
        np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
        assert scores.dtype == np.float32
        assert ids.dtype == np.int64
        assert (np.diff(scores, axis=1) <= 0).all()


@st.composite
def banks(draw: st.DrawFn) -> tuple[NDArray[np.floating], NDArray[np.floating], int]:
    """Few distinct small-integer rows, so that duplicates, zeros and ties are everywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.integers(1, 6))
    kinds = rng.integers(-2, 3, (draw(st.integers(1, 12)), width))
    bank = kinds[rng.integers(0, len(kinds), draw(st.integers(1, 90)))]
    queries = kinds[rng.integers(0, len(kinds), draw(st.integers(1, 5)))]
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    return queries.astype(dtype), bank.astype(dtype), draw(st.integers(1, len(bank)))


@settings(max_examples=150, deadline=None)
@given(banks())
@example((np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), 1))
@example((np.zeros((2, 3), np.float32), np.zeros((40, 3), np.float32), 2))
def test_ids_equal_brute_force_where_nearly_everything_ties(
    case: tuple[NDArray[np.floating], NDArray[np.floating], int],
) -> None:
    assert_exact(*case)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([1.0, 1e-2, 1e-4, 1e-6]))
def test_ids_equal_brute_force_for_real_and_for_collapsed_features(
    seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=24)
    bank = (centre + spread * rng.normal(size=(150, 24))).astype(np.float32)
    queries = (centre + spread * rng.normal(size=(6, 24))).astype(np.float32)
    bank[100:120] = bank[rng.integers(0, 5, 20)]
    queries[0] = bank[101]
    assert_exact(queries, bank, k=int(rng.integers(1, 151)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), width=st.sampled_from([4, 64, 385]), short=st.booleans())
def test_a_search_on_a_device_must_multiply_in_float32(seed: int, width: int, short: bool) -> None:
    """TensorFloat-32 keeps 10 bits of what is multiplied; products without the loss pass."""
    rng = np.random.default_rng(seed)
    queries, bank = (rng.normal(size=(rows, width)).astype(np.float32) for rows in (40, 30))

    def rounded(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        bits = rows.view(np.uint32)
        return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)

    def multiply(
        queries: NDArray[np.float32], bank: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if short:
            queries, bank = rounded(queries), rounded(bank)
        return search.search_torch(queries, bank, k, device=torch.device("cpu"))

    run = search.checked(multiply)
    if short:
        with pytest.raises(TaskError, match="NVIDIA_TF32_OVERRIDE"):
            run(queries, bank, 3)
    else:
        found, direct = run(queries, bank, 3), multiply(queries, bank, 3)
        np.testing.assert_array_equal(found[0], direct[0])
        np.testing.assert_array_equal(found[1], direct[1])


def test_no_autocast_of_a_caller_reaches_the_products() -> None:
    rng = np.random.default_rng(0)
    queries, bank = (rng.normal(size=(9, 64)).astype(np.float32) for _ in range(2))
    alone = top_k(queries, bank, k=9, backend="torch")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = top_k(queries, bank, k=9, backend="torch")
    np.testing.assert_array_equal(inside[0], alone[0])


def test_many_copies_of_one_image_do_not_hide_nearer_rows() -> None:
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(300, 8)).astype(np.float32)
    bank[50:250] = bank[50]
    queries = np.concatenate([bank[50:51] + 1e-7, bank[:3]])
    assert_exact(queries, bank, k=20)


@pytest.mark.parametrize("k", [1, 40])
def test_the_bank_may_stream_in_pieces_and_queries_in_groups(
    monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    monkeypatch.setattr(exact, "CHUNK_BYTES", 4 * 5 * 7)
    monkeypatch.setattr(exact, "QUERY_ROWS", 3)
    monkeypatch.setattr(exact, "BLOCK_ROWS", 2)
    monkeypatch.setattr(exact, "OPEN_SCORES", 80)
    monkeypatch.setattr(search, "BLOCK_SCORES", 9)
    rng = np.random.default_rng(1)
    bank = rng.integers(-2, 3, (41, 5)).astype(np.float32)
    assert_exact(rng.normal(size=(8, 5)).astype(np.float32), bank, k=k)
    assert_exact(bank[:8], bank, k=k)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    wide=st.integers(1, 400),
    share=st.floats(0, 1),
    kinds=st.sampled_from([2, 9, 10**6]),
)
@example(seed=0, wide=400, share=0.0, kinds=2)
def test_the_largest_by_groups_are_those_of_a_sort(
    seed: int, wide: int, share: float, kinds: int
) -> None:
    """With few kinds of values nearly all are equal: any of the equal ones may stand for the others."""
    rng = np.random.default_rng(seed)
    k = 1 + int(share * (wide - 1))
    scores = rng.integers(-kinds, kinds, (5, wide)).astype(np.float32)
    best, columns = (found.numpy() for found in search.largest(torch.from_numpy(scores), k))
    np.testing.assert_array_equal(best, -np.sort(-scores, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(scores, columns, axis=1), best)
    assert all(len(set(row)) == k for row in columns.tolist())


@pytest.mark.parametrize(("num_queries", "shared"), [(9, True), (5, False)])
def test_cores_share_the_queries_unless_there_are_few(
    monkeypatch: pytest.MonkeyPatch, num_queries: int, shared: bool
) -> None:
    workers = set()
    select = search.largest

    def spy(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        workers.add(threading.current_thread())
        assert torch.get_num_threads() == (1 if shared else 3)
        return select(scores, k)

    monkeypatch.setattr(search, "largest", spy)
    monkeypatch.setattr(search, "LEAST_ROWS", 3)
    monkeypatch.setattr(search, "MOST_ROWS", 2)
    rng = np.random.default_rng(8)
    queries, bank = (rng.normal(size=(rows, 6)).astype(np.float32) for rows in (num_queries, 90))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert_exact(queries, bank, k=4)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert (threading.main_thread() in workers) is not shared


@pytest.mark.parametrize("num_queries", [6, 7])
def test_auto_takes_faiss_for_many_queries(
    monkeypatch: pytest.MonkeyPatch, num_queries: int
) -> None:
    taken = []
    for name in ("search_faiss", "search_torch"):
        run = getattr(search, name)
        monkeypatch.setattr(
            search, name, lambda *a, run=run, name=name, **k: (taken.append(name), run(*a, **k))[1]
        )
    monkeypatch.setattr(search, "FAISS_ROWS", 7)
    rows = np.eye(9, dtype=np.float32)
    np.testing.assert_array_equal(
        top_k(rows[:num_queries], rows, k=1)[1][:, 0], np.arange(num_queries)
    )
    assert taken == ["search_faiss" if num_queries == 7 else "search_torch"]


def test_a_memory_mapped_half_precision_bank_gives_the_same_ids(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    bank = rng.normal(size=(200, 16)).astype(np.float16)
    np.save(tmp_path / "bank.npy", bank)
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="r")
    queries = rng.normal(size=(5, 16)).astype(np.float16)
    np.testing.assert_array_equal(top_k(queries, mapped, k=9)[1], brute_force(queries, bank, 9)[1])


def test_a_constant_encoder_has_nothing_but_ties_and_costs_no_exhaustive_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(exact, "_search_exactly")
    rng = np.random.default_rng(3)
    base = rng.normal(size=64)
    bank = (base * (1 + 1e-8 * rng.normal(size=(500, 64)))).astype(np.float32)
    scores, ids = top_k(bank[:4], bank, k=7)
    np.testing.assert_array_equal(ids, np.tile(np.arange(7), (4, 1)))
    np.testing.assert_allclose(scores, 1.0, atol=1e-6)


def test_rounding_shortcuts_of_the_process_do_not_reach_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No CPU here has them, so what is proven is the setting while products are computed."""
    during = []
    products = torch.mm

    def spy(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        during.append(torch.get_float32_matmul_precision())
        return products(left, right, out=out)

    monkeypatch.setattr(torch, "mm", spy)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rows = np.eye(3, dtype=np.float32)
        top_k(rows, rows, k=2, backend="torch")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert during == ["highest"]


def test_memory_above_the_banks_is_bounded() -> None:
    bank = np.random.default_rng(5).normal(size=(60_000, 64)).astype(np.float32)
    tracemalloc.start()
    top_k(bank[:300], bank, k=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * bank.nbytes


def test_impossible_requests_are_errors_that_name_the_numbers() -> None:
    rows = np.ones((3, 2), np.float32)
    with pytest.raises(UsageError, match=r"k = 4, the bank has 3"):
        top_k(rows, rows, k=4)
    with pytest.raises(UsageError, match="k = 0"):
        top_k(rows, rows, k=0)
    with pytest.raises(UsageError, match="Did you mean 'torch'"):
        top_k(rows, rows, k=1, backend="toch")
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 3\)"):
        top_k(rows, np.ones((3, 3), np.float32), k=1)
    for bad in (np.nan, np.inf):
        broken = rows.copy()
        broken[1, 1] = bad
        with pytest.raises(TaskError, match=r"finite.* in the bank .*row 1"):
            top_k(rows, broken, k=1)
        with pytest.raises(TaskError, match="in the queries"):
            top_k(broken, rows, k=1)


def test_no_queries_have_no_neighbours() -> None:
    scores, ids = top_k(np.ones((0, 2), np.float32), np.ones((3, 2), np.float32), k=2)
    assert scores.shape == ids.shape == (0, 2)


def wave(rows: int, width: int, a: float, b: float, c: float) -> NDArray[np.float32]:
    i, j = np.arange(rows)[:, None], np.arange(width)[None]
    return np.sin(a * i + b * j + c * i * j).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.07, 0.03])
def test_golden_accuracy_of_dino_knn(backend: str, temperature: float) -> None:
    i, q = np.arange(300), np.arange(200)
    train_targets, targets = (5 * i + i // 7) % 7, (3 * q + q // 5) % 7
    train, test = wave(300, 16, 0.7, 1.3, 0.11), wave(200, 16, 0.9, 1.1, 0.13)
    scores, ids = top_k(test, train, k=200, backend=backend)
    ranks = weighted_knn_vote(
        scores, train_targets[ids], targets,
        ks=(1, 5, 10, 20, 100, 200), temperature=temperature, num_classes=7,
    )  # fmt: skip
    for k, rank in ranks.items():
        found = [100 * (rank < 1).mean(), 100 * (rank < min(5, k)).mean()]
        assert found == pytest.approx(GOLDEN[f"k{k}_T{temperature}"], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    classes=st.integers(1, 9),
    temperature=st.sampled_from([0.01, 0.07, 1.0]),
)
def test_the_vote_equals_a_loop_over_neighbours(
    seed: int, classes: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.choice(np.linspace(0.5, 0.6, 6), (4, 12)).astype(np.float32), axis=1)
    neighbors, targets = rng.integers(0, classes, (4, 12)), rng.integers(0, classes, 4)
    ranks = weighted_knn_vote(
        scores, neighbors, targets, ks=(1, 7, 12), temperature=temperature, num_classes=classes
    )
    for k, rank in ranks.items():
        for row in range(4):
            votes = [0.0] * classes
            for s, c in zip(scores[row, :k], neighbors[row, :k]):
                votes[c] += float(
                    np.exp(np.float32((s - scores[row, 0]) / np.float32(temperature)))
                )
            order = sorted(range(classes), key=lambda c: (-round(votes[c], 6), c))
            near = [abs(votes[c] - votes[targets[row]]) < 1e-4 for c in range(classes)]
            if sum(near) == 1 or np.ptp(scores[row, :k]) == 0:
                assert order.index(targets[row]) == rank[row]


def test_equal_votes_go_to_the_lower_class() -> None:
    scores = np.full((1, 4), 0.5, np.float32)
    neighbors = np.array([[3, 1, 1, 3]])
    for target, rank in ((1, 0), (3, 1), (0, 2), (2, 3)):
        found = weighted_knn_vote(
            scores, neighbors, np.array([target]), ks=(4,), temperature=0.07, num_classes=4
        )
        assert found[4].tolist() == [rank]


def test_a_tiny_temperature_is_the_nearest_neighbour_and_never_overflows() -> None:
    rng = np.random.default_rng(6)
    scores = -np.sort(-rng.uniform(0, 1, (50, 20)).astype(np.float32), axis=1)
    neighbors = rng.integers(0, 5, (50, 20))
    votes = class_votes(scores, neighbors, temperature=1e-6, num_classes=5)
    assert np.isfinite(votes).all()
    np.testing.assert_array_equal(votes.argmax(1), neighbors[:, 0])


def test_one_k_does_not_depend_on_the_others_nor_on_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(7)
    scores = -np.sort(-rng.uniform(0, 1, (30, 20)).astype(np.float32), axis=1)
    neighbors, targets = rng.integers(0, 5, (30, 20)), rng.integers(0, 5, 30)
    settings_ = {"temperature": 0.07, "num_classes": 5}
    together = weighted_knn_vote(scores, neighbors, targets, ks=(3, 20), **settings_)
    monkeypatch.setattr("sdssl_bench.neighbors.vote.BLOCK_VOTES", 10)
    for k in (3, 20):
        alone = weighted_knn_vote(scores, neighbors, targets, ks=(k,), **settings_)
        np.testing.assert_array_equal(alone[k], together[k])


def test_a_vote_of_more_neighbours_than_were_found_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"1\.\.2"):
        weighted_knn_vote(
            np.ones((1, 2), np.float32), np.zeros((1, 2), int), np.zeros(1, int),
            ks=(2, 3), temperature=0.07, num_classes=1,
        )  # fmt: skip
