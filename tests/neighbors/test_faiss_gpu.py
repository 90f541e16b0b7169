"""faiss on a GPU, but for the card: its own Python runs on CPU tensors up to the call of its library.

`bfKnn`, the one call that needs a card, is played by faiss' search on the CPU, which reads and writes
where the arguments point. What is proven are shapes, types, layout, ids, device and stream.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sdssl_bench.errors import TaskError
from sdssl_bench.neighbors import exact, search
from sdssl_bench.neighbors.exact import top_k

faiss = pytest.importorskip("faiss")
if not hasattr(faiss, "knn_gpu"):
    pytest.skip("faiss without GPU support", allow_module_level=True)

INDEX, STREAM, OTHER_STREAM = 3, 0x51, 0x7
CPU = torch.device("cpu")


class Resources:
    """Those of a GPU: a stream for each device."""

    def __init__(self) -> None:
        self.stream: Any = faiss.cast_integer_to_cudastream_t(OTHER_STREAM)

    def getDefaultStream(self, index: int) -> Any:
        assert index == INDEX
        return self.stream

    def setDefaultStream(self, index: int, stream: Any) -> None:
        assert index == INDEX
        self.stream = stream

    def setPinnedMemory(self, size: int) -> None:
        assert size == 0


def table(pointer: Any, rows: int, width: int, kind: Any = ctypes.c_float) -> NDArray[Any]:
    """The memory behind one of the arguments."""
    start = ctypes.cast(int(pointer), ctypes.POINTER(kind))
    return np.ctypeslib.as_array(start, (rows, width))


class Library:
    """bfKnn as its header describes it.

    Attributes:
        calls: (queries, vectors, k) of each.
        forgets: last bits of the factors that its products leave out.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self.forgets = 0

    def __call__(self, resources: Any, args: Any) -> None:
        assert isinstance(resources, Resources)
        assert int(resources.stream) == STREAM
        assert args.device == INDEX
        assert args.metric == faiss.METRIC_INNER_PRODUCT
        assert args.vectorType == args.queryType == faiss.DistanceDataType_F32
        assert args.vectorsRowMajor
        assert args.queriesRowMajor
        assert args.outIndicesType == faiss.IndicesDataType_I64
        assert 1 <= args.k <= 2048
        queries, vectors = (
            self._short(table(*where, args.dims))
            for where in ((args.queries, args.numQueries), (args.vectors, args.numVectors))
        )
        # Of equal products the card may take any: the last here, the first in faiss on a CPU.
        scores, ids = faiss.knn_numpy(
            queries, vectors[::-1].copy(), args.k, metric=faiss.METRIC_INNER_PRODUCT
        )
        table(args.outDistances, args.numQueries, args.k)[:] = scores
        out = table(args.outIndices, args.numQueries, args.k, ctypes.c_int64)
        out[:] = args.numVectors - 1 - ids
        self.calls.append((args.numQueries, args.numVectors, args.k))

    def _short(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        keep = np.uint32((0xFFFFFFFF << self.forgets) & 0xFFFFFFFF)
        return (np.ascontiguousarray(rows).view(np.uint32) & keep).view(np.float32)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """A machine that believes it has a card, number INDEX, whose memory is the host's."""
    import faiss.contrib.torch_utils  # before anything of faiss is replaced

    played = Library()
    monkeypatch.setattr(faiss, "bfKnn", played)
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources)
    monkeypatch.setattr(torch.cuda, "device", lambda place: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: INDEX)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda *_: SimpleNamespace(cuda_stream=STREAM)
    )
    found = search.checked(partial(search.search_faiss_gpu, device=CPU))
    monkeypatch.setattr(exact, "choose_search", lambda backend, device: found)
    search._gpu_resources.cache_clear()
    yield played
    search._gpu_resources.cache_clear()


def assert_torchs(queries: NDArray[Any], bank: NDArray[Any], k: int) -> None:
    """Ids and scores are those of torch on the CPU."""
    found = top_k(queries, bank, k=k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "choose_search", search.choose_search)
        expected = top_k(queries, bank, k=k, backend="torch")
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)
    assert (found[0].dtype, found[1].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ids_are_torchs_with_ties_in_pieces_of_the_bank(
    library: Library, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    monkeypatch.setattr(exact, "CHUNK_BYTES", 4 * 9 * 110)
    monkeypatch.setattr(exact, "QUERY_ROWS", 25)
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(300, 9)).astype(dtype)
    bank[120:180] = bank[rng.integers(0, 20, 60)]
    queries = np.concatenate([bank[:20], rng.normal(size=(20, 9)).astype(dtype)])
    assert_torchs(queries, bank, 30)
    assert library.calls == [(n, m, 46) for n in (25, 15) for m in (110, 110, 80)]


def test_more_neighbours_than_faiss_selects_are_torchs(library: Library) -> None:
    rng = np.random.default_rng(1)
    bank = rng.normal(size=(2100, 4)).astype(np.float32)
    assert_torchs(bank[:3], bank, 2032)
    assert library.calls == [(3, 2100, 2048)]
    assert_torchs(bank[:3], bank, 2033)
    assert len(library.calls) == 1


def test_products_in_tensor_float_32_are_an_error(library: Library) -> None:
    library.forgets = 13
    rows = np.random.default_rng(2).normal(size=(200, 64)).astype(np.float32)
    with pytest.raises(TaskError, match="NVIDIA_TF32_OVERRIDE"):
        top_k(rows[:50], rows, k=5)


def test_the_stream_is_torchs_and_given_back(library: Library) -> None:
    rows = np.eye(5, dtype=np.float32)
    search.search_faiss_gpu(rows, rows, 2, device=CPU)
    search.search_faiss_gpu(rows, rows, 2, device=CPU)
    kept = search._gpu_resources(INDEX)
    assert len(library.calls) == 2
    assert int(kept.stream) == OTHER_STREAM
    assert search._gpu_resources.cache_info().misses == 1


@pytest.mark.parametrize("has_gpu", [True, False])
def test_faiss_searches_on_the_card_if_it_can(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    """And there its products are checked."""
    places, factor = [], 1.0
    rows = np.eye(4, dtype=np.float32)

    def spy(*arguments: Any, device: torch.device) -> Any:
        places.append(str(device))
        scores, ids = search.search_faiss(*arguments)
        return scores * np.float32(factor), ids

    monkeypatch.setattr(search, "search_faiss_gpu", spy)
    monkeypatch.setattr(search, "faiss_has_gpu", lambda: has_gpu)
    run: Callable[..., Any] = search.choose_search("faiss", "cuda:1")
    np.testing.assert_array_equal(run(rows, rows, 1)[1][:, 0], np.arange(4))
    assert places == (["cuda:1"] if has_gpu else [])
    factor = 1.001
    with pytest.raises(TaskError, match="float32") if has_gpu else nullcontext():
        run(rows, rows, 1)
