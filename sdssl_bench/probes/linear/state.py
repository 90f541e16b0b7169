"""Where a training that was interrupted goes on: one file per run in the cache, replaced atomically."""

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sdssl_bench.errors import DataError
from sdssl_bench.records import digest, slug
from sdssl_bench.system import is_main_process, write_atomic

SAVE_SECONDS = 20.0
"""A state is written at most this often, in seconds, so that short epochs are not spent on writing."""


class TrainingState:
    """The state file of one run, known by everything that decides how the run goes."""

    def __init__(self, cache_dir: Path, name: str, facts: Mapping[str, Any]) -> None:
        """Decides the file.

        Args:
            cache_dir: root of the cache.
            name: of the task, for people who look into the cache.
            facts: all that the training depends on; JSON values.
        """
        key = digest(dict(facts))
        self.path = cache_dir.expanduser() / "training" / f"{slug(name)}-{key[:24]}.pt"
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, None at the start. Tensors, numbers, lists and dicts only.

        Raises:
            DataError: if the file cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what zip, pickle and its own reader raise
            raise DataError(
                f"Expected a saved training in {self.path}, found a file that cannot be read "
                f"({type(error).__name__}). Delete it: the training then starts again."
            ) from error
        return state

    def due(self) -> bool:
        """Whether the last state is old enough to write another."""
        return time.monotonic() - self._last >= SAVE_SECONDS

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file; only the main process writes."""
        self._last = time.monotonic()
        if not is_main_process():
            return
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomic(self.path, buffer.getvalue())

    def remove(self) -> None:
        """The run is over."""
        if is_main_process():
            self.path.unlink(missing_ok=True)
