"""Many small tensor operations on several cores: one thread per job instead of one job per team.

A product of a few megaflops split over cores waits longer at the barrier than it computes, above all
when other programs use the cores too. Independent jobs need no barrier.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def available_cpus() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ThreadTeam:
    """As many workers as torch has threads; each job runs on one of them, without gradients.

    Between jobs torch has its threads back. Where there is one thread, or work is for a GPU, jobs run
    in place.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.size = torch.get_num_threads() if device.startswith("cpu") else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "ThreadTeam":
        import torch

        if self.size > 1:
            self._pool = ThreadPoolExecutor(
                self.size, initializer=torch.set_num_threads, initargs=(1,)
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import torch

        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            # Workers set the matrix library's threads for the whole process.
            torch.set_num_threads(self.size)

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """[work(item) for item in items]; the first error of a job is raised."""
        import torch

        def job(item: A) -> B:
            with torch.inference_mode():
                return work(item)

        if self._pool is None:
            return [job(item) for item in items]
        torch.set_num_threads(1)
        try:
            return list(self._pool.map(job, items))
        finally:
            torch.set_num_threads(self.size)


def ahead(
    function: Callable[[A], B], items: Iterable[A], *, num_threads: int, most: int
) -> Iterator[B]:
    """`map` in order, with up to `most` results computed by threads ahead of the caller.

    No thread computes in place. The first error ends it, at its item's turn.
    """
    if not num_threads:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="ahead")
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
