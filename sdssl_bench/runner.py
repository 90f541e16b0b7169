"""Runs one task on one dataset for the layers that are not stored yet, and stores each as it is scored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sdssl_bench.encoders import Encoder, ModelInfo, check_layers
from sdssl_bench.errors import UsageError
from sdssl_bench.parameters import recorded_parameters
from sdssl_bench.records import (
    SCHEMA_VERSION,
    Record,
    ResultStore,
    content_digest,
    digest,
    environment,
    record_key,
)
from sdssl_bench.system import agreed, check_folder, num_processes, resolve_device
from sdssl_bench.task import DatasetInfo, LayerScores, RunContext, Task

OVERWRITE = ("missing", "always", "never")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run did.

    Attributes:
        record: the record with all layers stored so far; layers {} in processes other than the first.
        scored: layers scored now.
        reused: layers that were stored already.
    """

    record: Record
    scored: list[int]
    reused: list[int]


def run(
    encoder: Encoder,
    task: Task,
    dataset: str,
    *,
    layers: Sequence[int],
    ctx: RunContext,
    store: ResultStore | None,
    overwrite: str = "missing",
) -> Outcome:
    """Score `layers` of `encoder` on one dataset.

    Args:
        encoder: loaded, in eval mode, with `info` set.
        task: with its protocol parameters.
        dataset: name as the task knows it.
        layers: any of 1..L.
        ctx: data, cache, device and policies.
        store: where records live; None keeps the record in memory only.
        overwrite: "missing" scores the layers that are not stored, "always" all asked layers,
            "never" none if the record exists.

    Returns:
        The record and which of its layers are new.
    """
    wanted = check_layers(layers, encoder.depth)
    data = task.load_data(dataset, ctx)
    head = record_head(encoder, task, data, ctx=ctx)

    def decide() -> tuple[Record | None, list[int]]:
        stored = store.find(head) if store else None
        todo = layers_to_score(wanted, stored, task=task, ctx=ctx, overwrite=overwrite)
        if store and todo:
            check_folder(store.path(head).parent)  # before the work, not after it
        return stored, todo

    # The first process decides for all: the others may look at the store a moment later.
    record, todo = agreed(decide)
    reused = [layer for layer in wanted if layer not in todo]
    if not todo:
        assert record is not None
        return Outcome(record, scored=[], reused=reused)
    software = environment(device=resolve_device(ctx.device), processes=num_processes())
    record = record or {**head, "environments": [], "layers": {}}
    for scores in task.run(encoder, data, todo, ctx):
        entry = layer_entry(scores)
        if store:
            record = store.add_layer(
                head, scores.layer, entry=entry, environment=software, items=scores.items
            )
        else:
            record["environments"] = [software]
            record["layers"][str(scores.layer)] = {**entry, "environment": 0}
            record["digest"] = content_digest(record)
    return Outcome(record, scored=todo, reused=reused)


def record_head(encoder: Encoder, task: Task, data: Any, *, ctx: RunContext) -> Record:
    """A record without layers: everything that identifies the measurement."""
    assert encoder.info is not None, "a loaded encoder knows who it is"
    head: Record = {
        "schema_version": SCHEMA_VERSION,
        "task": task.name,
        "protocol": {**protocol_entry(task), "resolved": task.resolve(encoder, data, ctx)},
        "dataset": dataset_entry(task.describe_data(data)),
        "model": model_entry(encoder, encoder.info),
        "headline": task.headline(data),
        # Only where it is not so: an addition to records of the first version.
        **({} if task.ranked else {"ranked": False}),
        "limited": ctx.limit,
        "settings": {
            "dtype": ctx.dtype,
            "bank_dtype": ctx.bank_dtype,
            "seed": ctx.seed,
            "on_bad_image": ctx.on_bad_image,
            # Only where it is given, as above.
            **({} if ctx.image_range is None else {"image_range": ctx.image_range}),
        },
    }
    head = json.loads(
        json.dumps(head, allow_nan=False)
    )  # as it will be read back: lists, no tuples
    return {**head, "key": record_key(head)}


def protocol_entry(task: Task) -> dict[str, Any]:
    """The protocol as a record states it, without what follows from the encoder.

    Nor does the digest have that: encoders of different input sizes under one protocol share a column.
    """
    protocol = {
        "id": f"{task.name}/{task.protocol}{'+' * bool(task.part)}{task.part}",
        "version": task.version,
        "parameters": recorded_parameters(task),
    }
    return {**protocol, "digest": digest(protocol)[:16]}


def model_entry(encoder: Encoder, info: ModelInfo) -> dict[str, Any]:
    """The model as a record states it."""
    return {
        **asdict(info),
        "name": encoder.title,
        "norm": encoder.norm,
        "depth": encoder.depth,
        # Only inside a block: an addition to records of the first version.
        **encoder.place,
    }


def dataset_entry(info: DatasetInfo) -> dict[str, Any]:
    """The dataset as a record states it."""
    return {**asdict(info), "splits": dict(info.splits), "details": dict(info.details)}


def layer_entry(scores: LayerScores) -> dict[str, Any]:
    """One layer as a record states it."""
    return {
        "metrics": {name: float(value) for name, value in scores.metrics.items()},
        "n": scores.n,
        "notes": dict(scores.notes),
        "items": sorted(scores.items),
        "seconds": {phase: round(value, 3) for phase, value in scores.seconds.items()},
        "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def layers_to_score(
    wanted: list[int],
    stored: Mapping[str, Any] | None,
    *,
    task: Task,
    ctx: RunContext,
    overwrite: str = "missing",
) -> list[int]:
    """Those of the wanted layers that a run scores.

    Args:
        wanted: layers.
        stored: the record there is, None if there is none.
        task: what is run.
        ctx: folders it writes to.
        overwrite: as of `run`.

    Raises:
        UsageError: if `overwrite` is none of OVERWRITE.
    """
    if overwrite not in OVERWRITE:
        raise UsageError(f"--overwrite takes {', '.join(OVERWRITE)}; found '{overwrite}'.")
    # Masks and pictures come from the run itself, so what is stored does not stand in for it.
    writes = any(one.kind == "artifact" and one.key in ctx.artifacts for one in task.options)
    if stored is None or overwrite == "always" or writes:
        return wanted
    if overwrite == "never":
        return []
    return [layer for layer in wanted if str(layer) not in stored["layers"]]
