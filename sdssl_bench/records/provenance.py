"""Which software on which machine produced a number."""

import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sdssl_bench._version import __version__
from sdssl_bench.system import included, opencv_version

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn", "accelerate")


def environment(*, device: str, processes: int) -> dict[str, Any]:
    """Versions, commit, platform and device, as JSON values; no times, so equal runs have equal ones.

    Args:
        device: torch device string the encoder ran on.
        processes: number of processes that extracted features.
    """
    return {
        "sdssl_bench": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "faiss": _version("faiss-gpu") or _version("faiss-cpu"),
        "opencv": opencv_version(),
        "git": _git_state(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "device": _device_name(device),
        "processes": processes,
        # Only where there are some: an addition to records of the first version.
        **({"included": files} if (files := included()) else {}),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device.split(':')[0]}: {torch.cuda.get_device_name(device)}"


@lru_cache(maxsize=1)
def _git_state() -> str | None:
    """Commit of the checkout this package runs from, "+dirty" if files differ; None when installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+dirty" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
