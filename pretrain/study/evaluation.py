"""Scoring what is finished: every encoder on every set at hand, all layers, through the suite's own API."""

import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from sdssl_bench import api, datasets
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError, UserError, did_you_mean
from sdssl_bench.pretrain.objective.assembly import build_encoder
from sdssl_bench.pretrain.run.exports import FINAL
from sdssl_bench.pretrain.study.runs import Run, is_finished, study
from sdssl_bench.pretrain.study.training import say
from sdssl_bench.rounding import percent

CONTROLS = ("control:pixels", "control:statistics")
UNTRAINED = "untrained-s0"


@dataclass(frozen=True)
class AtHand:
    """What the user's file says: where sets and further weights are.

    Attributes:
        sets: set of the study -> `folder:PATH`, another name of one's own data, or a data root.
        weights: name -> file, of encoders that were not trained here.
    """

    sets: Mapping[str, str]
    weights: Mapping[str, str]


def at_hand(file: Path) -> AtHand:
    """The user's file of sets and weights.

    Raises:
        UsageError: if it is none, or names a set that the study does not have.
    """
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--sets takes a TOML file with the tables [sets] and [weights]: {error}"
        ) from None
    for name in data:
        if name not in ("sets", "weights"):
            raise UsageError(did_you_mean(f"table of {file}", name, ("sets", "weights")))
    known = study()["sets"]
    for name in data.get("sets", {}):
        if name not in known:
            raise UsageError(did_you_mean("set of the study", name, known))
    return AtHand(data.get("sets", {}), data.get("weights", {}))


def subjects(
    runs: Sequence[Run], out: Path, weights: Mapping[str, str], only: str
) -> Iterator[tuple[str, Callable[[], Encoder]]]:
    """Names and encoders: controls, untrained, finished runs, and further weights."""

    def untrained() -> Encoder:
        config = next(run.config() for run in runs if run.name == "mocov3-s0")
        torch.manual_seed(config.seed)
        encoder = build_encoder(config)
        encoder.pretrained = False  # type: ignore[assignment]
        return api.as_encoder(encoder, name=UNTRAINED)

    every: list[tuple[str, Callable[[], Encoder]]] = [
        *((name, lambda name=name: api.load_encoder(name)) for name in CONTROLS),
        (UNTRAINED, untrained),
        *(
            (run.name, lambda run=run: api.load_encoder(str(out / run.name / FINAL)))
            for run in runs
            if is_finished(run, out / run.name)
        ),
        *((name, lambda file=file: api.load_encoder(file)) for name, file in weights.items()),
    ]
    return (one for one in every if fnmatch(one[0], only))


def evaluate(
    encoders: Iterator[tuple[str, Callable[[], Encoder]]],
    sets: Mapping[str, str],
    results: Path,
    *,
    cache: Path,
    limit: int | None = None,
) -> list[str]:
    """Scores all layers of every encoder; what is stored already is not scored again.

    Args:
        encoders: names and how to load them.
        sets: as `AtHand.sets`.
        results: where records go.
        cache: features of one encoder, removed when its turn is over.
        limit: a trial on so many items per split.

    Returns:
        What failed, a sentence each; the rest is done.
    """
    plan = study()
    known, further, also = plan["sets"], plan["further"], plan["also"]
    absent = [name for name in known if name not in sets]
    if absent:
        say(f"not at hand, so left out: {', '.join(absent)}")
    failed = []
    for name, load in encoders:
        encoder = load()
        for dataset, where in sets.items():
            given = datasets.own_source(where)
            wanted = list(known[dataset].get("every", []))
            if name not in further or dataset in also.get(name, ()):
                wanted += known[dataset]["tasks"]
            for options in wanted:
                what = f"{name}: {options['task']} on {dataset}"
                try:
                    record = api.evaluate(
                        encoder,
                        dataset=where if given else known[dataset].get("dataset", dataset),
                        results=results,
                        data_root=None if given else Path(where),
                        cache_dir=cache,
                        limit=limit,
                        allow_partial=True,
                        **options,
                    )
                    say(f"{what}: {curve(record)}")
                except UserError as error:
                    failed.append(f"{what}: {error}")
                    say(f"error: {failed[-1]}")
        # No other encoder has these features; those of all would fill a disk.
        shutil.rmtree(cache, ignore_errors=True)
    return failed


def curve(record: Mapping[str, Any]) -> str:
    """The headline of every layer, for people."""
    values = [entry["metrics"][record["headline"]] for entry in record["layers"].values()]
    ranked = record.get("ranked", True)
    return " ".join(percent(value) if ranked else f"{value:.2f}" for value in values)
