"""The study as data: its runs and its sets, read from `study.toml`, and how far each run has come."""

import json
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.pretrain.run import presets, snapshots
from sdssl_bench.pretrain.run.config import PretrainConfig, differences, flag
from sdssl_bench.pretrain.run.exports import FINAL

STUDY = Path(__file__).with_name("study.toml")


@dataclass(frozen=True)
class Run:
    """One pretraining run.

    Attributes:
        name: of its folder and its results.
        preset: of `sdssl-bench pretrain`.
        settings: changes on the preset.
        against: the run that it is compared with.
    """

    name: str
    preset: str
    settings: dict[str, Any]
    against: str | None

    def config(self) -> PretrainConfig:
        """What the run is trained with."""
        return presets.resolve(self.preset, **self.settings)

    def arguments(self) -> list[str]:
        """The same as options of `sdssl-bench pretrain`."""
        found = ["--preset", self.preset]
        for name, value in self.settings.items():
            if isinstance(value, bool):
                found.append(flag(name) if value else "--no-" + flag(name).removeprefix("--"))
            else:
                found += [flag(name), str(value)]
        return found


def study() -> dict[str, Any]:
    """The file as it is: scales, runs, further runs and what these are also scored on, sets."""
    return tomllib.loads(STUDY.read_text("utf-8"))


def runs(scale: str, only: str = "*", *, limit: int | None = None) -> list[Run]:
    """The runs of a scale whose names match a pattern, in the order of training.

    Args:
        scale: cpu, gpu or toy.
        only: pattern of names.
        limit: a trial on so many images, in batches of at most as many.

    Raises:
        UsageError: for an unknown scale, or a pattern that no name matches.
    """
    data = study()
    scales = data["scales"]
    if scale not in scales:
        raise UsageError(did_you_mean("scale", scale, scales))
    found = []
    for name, values in (data["runs"] | data["further"]).items():
        changes = {"on": "vit", "against": None, "length": 1, **values}
        base, against = scales[scale][changes.pop("on")], changes.pop("against")
        changes["epochs"] = round(changes.pop("length") * base["settings"]["epochs"])
        preset = f"{changes.pop('method')}_{base['preset']}"
        run = Run(name, preset, {**base["settings"], **changes}, against)
        if limit is not None:
            run.settings.update(limit=limit, batch_size=min(limit, run.config().batch_size))
        found.append(run)
    chosen = [run for run in found if fnmatch(run.name, only)]
    if not chosen:
        names = ", ".join(run.name for run in found)
        raise UsageError(f"--only {only} matches none of the runs: {names}.")
    return chosen


def is_finished(run: Run, folder: Path) -> bool:
    """Whether a run's folder holds its encoder.

    Raises:
        UsageError: if what was trained there is another run.
    """
    config = folder / "config.json"
    if config.exists():
        found = differences(run.config(), json.loads(config.read_text("utf-8")))
        if found:
            raise UsageError(
                f"{folder} was trained with other settings than {run.name} now has: "
                f"{', '.join(found)}. Choose another --out, or remove that folder."
            )
    return (folder / FINAL).exists()


def state(run: Run, folder: Path) -> str:
    """How far a run has come, in words."""
    if is_finished(run, folder):
        return "finished"
    steps = [int(path.stem.split("-")[1]) for path in snapshots.all_in(folder)]
    return f"saved after step {max(steps):,}" if steps else "not started"
