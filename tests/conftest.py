"""Settings of every test: few threads, no network, no cache or results outside the test's folder."""

import os
from pathlib import Path

import pytest

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
