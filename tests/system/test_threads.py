"""Teams of threads: as many jobs at a time as torch has threads, none beside a GPU, all left as it was."""

import threading
from collections.abc import Iterator

import pytest
import torch

from sdssl_bench.system import ThreadTeam, ahead


@pytest.fixture
def three_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "xpu"])
def test_jobs_for_an_accelerator_run_in_their_caller(device: str, three_threads: int) -> None:
    """One stream of kernels: threads that feed it would only wait for each other."""
    with ThreadTeam(device) as team:
        found = team.map(lambda n: (n, threading.get_ident(), torch.get_num_threads()), range(5))
    assert found == [(n, threading.get_ident(), three_threads) for n in range(5)]


def test_jobs_on_the_cpu_share_its_threads_between_them(three_threads: int) -> None:
    """Three run at once, on one thread each; between maps and after them torch has its threads back."""
    met = threading.Barrier(three_threads, timeout=60)
    grown = torch.ones(2, requires_grad=True)

    def job(number: int) -> tuple[int, int, int, bool]:
        met.wait()  # passed only by all three together
        return number, threading.get_ident(), torch.get_num_threads(), (grown * 2).requires_grad

    with ThreadTeam("cpu") as team:
        found = team.map(job, range(6))
        assert torch.get_num_threads() == three_threads
        with pytest.raises(ZeroDivisionError):
            team.map(lambda n: 1 // n, range(6))
        assert torch.get_num_threads() == three_threads
    assert torch.get_num_threads() == three_threads
    assert [number for number, *_ in found] == list(range(6))
    workers = {worker for _, worker, _, _ in found}
    assert len(workers) <= three_threads
    assert threading.get_ident() not in workers
    assert {(threads, gradients) for *_, threads, gradients in found} == {(1, False)}


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_what_is_computed_ahead_keeps_its_order_and_its_bounds(num_threads: int) -> None:
    """Never more than `most` results beyond the one that the caller has; none at all without threads."""
    most, begun = 4, []

    def square(number: int) -> int:
        begun.append(number)
        return number * number

    for taken, value in enumerate(ahead(square, range(20), num_threads=num_threads, most=most)):
        assert value == taken * taken
        assert len(begun) <= taken + 1 + (most if num_threads else 0)
    assert sorted(begun) == list(range(20))


def test_an_error_ahead_is_raised_at_its_items_turn() -> None:
    found = ahead(lambda n: 12 // (3 - n), range(9), num_threads=2, most=4)
    assert [next(found) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(found)
