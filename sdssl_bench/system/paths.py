"""Default places, each set by an environment variable."""

import os
from pathlib import Path


def default_data_root() -> Path | None:
    """SDSSL_BENCH_DATA, or None: data are never guessed."""
    value = os.environ.get("SDSSL_BENCH_DATA")
    return Path(value).expanduser() if value else None


def default_cache() -> Path:
    """SDSSL_BENCH_CACHE, else sdssl-bench in the user's cache folder (XDG_CACHE_HOME)."""
    value = os.environ.get("SDSSL_BENCH_CACHE")
    if value:
        return Path(value).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdssl-bench"


def default_results() -> Path:
    """SDSSL_BENCH_RESULTS, else ./results."""
    return Path(os.environ.get("SDSSL_BENCH_RESULTS") or "results").expanduser()
