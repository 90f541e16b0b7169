"""Settings of every test: few threads, no network, its own folders; a warning that is ours is an error.

Warnings of plugins that happen to be installed, and of libraries about the machine, are only shown.
"""

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TextIO

import pytest

ROOT = Path(__file__).resolve().parent
OURS = tuple(ROOT / name for name in ("sdssl_bench", "tasks", "pretrain", "tests", "conftest.py"))

# Set before torch is imported anywhere: workers of pytest-xdist and launched processes share few cores.
# Workers inherit what the process that started them has set here, so they replace it: teams of threads
# that outnumber the cores wait for each other ten times longer than they compute.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's data, cache or results by accident."""
    monkeypatch.delenv("SDSSL_BENCH_DATA", raising=False)
    monkeypatch.setenv("SDSSL_BENCH_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.setenv("SDSSL_BENCH_RESULTS", str(tmp_path / "default-results"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Our modules are imported strictly."""
    with _our_warnings_are_errors():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Our tests run strictly."""
    with _our_warnings_are_errors():
        return (yield)


@contextmanager
def _our_warnings_are_errors() -> Iterator[None]:
    """Raise the warnings that are ours; pytest records the others, as it does without us.

    Filters of modules cannot tell them: most libraries attribute a deprecation to themselves.
    """
    collecting = False

    def note(phase: str, info: object) -> None:
        nonlocal collecting
        collecting = phase == "start"

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        # Whose leak the collector has found cannot be told from the code that it has interrupted.
        leak = collecting and issubclass(category, ResourceWarning)
        if not leak and _is_ours(message, category, filename):
            raise message if isinstance(message, Warning) else category(message)
        record(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        record: Callable[..., None] = warnings.showwarning
        warnings.showwarning = show
        gc.callbacks.append(note)
        try:
            yield
        finally:
            gc.callbacks.remove(note)


def _is_ours(message: Warning | str, category: type[Warning], filename: str) -> bool:
    """Whether our code is at fault.

    It is if the warning names one of our files, or if our code called what warned of its use
    (deprecation, numbers, leaks). A plain UserWarning of a library speaks of the machine (drivers,
    cores), and what a library warns of while it is imported was not called.
    """
    if issubclass(
        category,
        pytest.PytestUnraisableExceptionWarning | pytest.PytestUnhandledThreadExceptionWarning,
    ):
        return any(f'File "{path}' in str(message) for path in OURS)
    if _in_our_files(filename):
        return True
    if category is UserWarning:
        return False
    frame = sys._getframe(2)  # of `warn`'s caller, or of `warn` where that is written in Python
    while frame is not None and "importlib._bootstrap" not in frame.f_code.co_filename:
        if _in_our_files(frame.f_globals.get("__file__") or ""):
            return True
        frame = frame.f_back
    return False


@cache
def _in_our_files(filename: str) -> bool:
    return bool(filename) and any(Path(filename).resolve().is_relative_to(path) for path in OURS)
