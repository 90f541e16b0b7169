"""Resumable snapshots of a run: complete or absent, the newest found by name, old ones removed.

A snapshot holds model, teacher, optimizer, scaler, the step, every process's generator and the
configuration. Loader state needs none: images and views follow from the step (`images`, `shards`).
"""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdssl_bench.errors import DataError, UsageError, UserError
from sdssl_bench.pretrain.run.config import PretrainConfig, differences
from sdssl_bench.system import replacing

FOLDER = "snapshots"


def prepare_folder(out: Path, *, needed: int) -> None:
    """Makes the run's folder, and proves before any training that it can be written and has room.

    Args:
        out: the run's folder.
        needed: bytes that all files of the run will take at once.

    Raises:
        DataError: if not.
    """
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        probe = out / f".{uuid.uuid4().hex}.probe"
        with probe.open("wb") as stream:
            stream.write(b"\0" * 4096)
            os.fsync(stream.fileno())
        probe.unlink()
        for rest in (out / FOLDER).glob(".*.tmp"):  # of a run that was killed while it wrote
            rest.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"--out {out} cannot be written: {error}. Choose another folder.") from None
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DataError(
            f"--out {out} has {_size(free)} free, checkpoints of this run take {_size(needed)}. Free "
            "some space, lower --keep or choose another folder."
        )


def _size(count: int) -> str:
    """Bytes for people.

    >>> _size(3 * 2**29), _size(300 * 2**10)
    ('1.5 GiB', '0.3 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def write(out: Path, payload: dict[str, Any], *, step: int, keep: int) -> Path:
    """Writes the snapshot before `step`, then removes all but the newest `keep`.

    Raises:
        DataError: if the disk is full or fails; earlier snapshots are untouched then.
    """
    path = out / FOLDER / f"step-{step:09d}.pt"
    try:
        with replacing(path) as temporary:
            torch.save(payload, temporary)
    except (UserError, RuntimeError) as error:
        last = newest(out)
        raise DataError(
            f"The snapshot before step {step} cannot be written to {out}: {error}. The last good one "
            f"is {last or 'none'}; make room and go on with --resume auto."
        ) from None
    for old in all_in(out)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def all_in(out: Path) -> list[Path]:
    """The complete snapshots of a run, oldest first."""
    return sorted((out / FOLDER).glob("step-*.pt"))


def later_than(out: Path, step: int) -> list[Path]:
    """Snapshots of more steps, which a run that goes on from `step` would not reach by itself."""
    return [path for path in all_in(out) if int(path.stem.removeprefix("step-")) > step]


def newest(out: Path) -> Path | None:
    """The last complete snapshot of a run."""
    found = all_in(out)
    return found[-1] if found else None


def read(path: Path, config: PretrainConfig, *, layout: dict[str, Any]) -> dict[str, Any]:
    """A snapshot, proven to be of this very run.

    Args:
        path: from `newest` or the user.
        config: of the run that goes on.
        layout: what the order of images depends on: processes, and workers for shards.

    Raises:
        DataError: if the file is damaged.
        UsageError: if there is none, or settings that change what is trained differ.
    """
    if not path.is_file():
        present = ", ".join(one.name for one in all_in(path.parent.parent)) or "none"
        raise UsageError(f"Expected a snapshot at {path}, found none. Snapshots there: {present}.")
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stored = json.loads(found["config"])
        other = json.loads(found["layout"])
    except Exception as error:
        raise DataError(
            f"{path} is no complete snapshot ({type(error).__name__}: {error}). Remove it; --resume "
            "auto then takes the one before."
        ) from None
    changed = differences(config, stored)
    changed += [f"{k} {other.get(k)} -> {v}" for k, v in layout.items() if other.get(k) != v]
    if changed:
        raise UsageError(
            f"{path} belongs to a run with other settings: {'; '.join(changed)}. Use those of that "
            "run, or another --out."
        )
    return found


def generators() -> dict[str, Tensor]:
    """States of this process's generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generators(states: dict[str, Tensor]) -> None:
    """Puts generators back as `generators` found them."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
