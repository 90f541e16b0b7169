"""How much memory this process holds."""

import sys
from pathlib import Path

PAGE = 1024
"""Bytes of the unit in which Linux counts a process's peak; macOS counts bytes."""


def held_bytes() -> tuple[int, int] | None:
    """(now, at most so far); None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else PAGE
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak, peak
    return pages * resource.getpagesize(), peak
