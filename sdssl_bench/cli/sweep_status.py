"""`sdssl-bench sweep status`: what the stored results have of a plan, without data or weights."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sdssl_bench import checkpoints
from sdssl_bench.cli.sweep_jobs import Job, cache_of, jobs_of
from sdssl_bench.cli.sweep_plan import Model, Part, read_plan
from sdssl_bench.encoders import parse_layers
from sdssl_bench.records import Record, ResultStore
from sdssl_bench.runner import protocol_entry
from sdssl_bench.system import Column, FittedTable, show

DONE, MISSING, TRIAL = "done", "missing", "trial"
STATED = ("network", "norm", "heads", "patch_size", "img_size")
"""Options of a model that a record has as they were typed."""
Row = dict[str, str]


def print_status(path: Path, *, wide: bool, as_json: bool) -> None:
    """Print what is done, begun, tried or missing of a plan."""
    plan = read_plan(path)
    jobs = jobs_of(plan)
    rows = status(jobs, _records(jobs[0]))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    words = list(dict.fromkeys(row["task"] for row in rows))
    table: dict[tuple[str, str], Row] = {}
    for row in rows:
        table.setdefault((row["model"], row["dataset"]), {})[row["task"]] = row["state"]
    columns = [Column("model", left=True, shorten=True), Column("dataset", left=True, shorten=True)]
    columns += [Column(word, left=True) for word in words]
    cells = [[*key, *(states.get(word, "") for word in words)] for key, states in table.items()]
    show(FittedTable(columns, cells, repeat=2), wide=wide)
    counts = Counter(
        row["state"] if row["state"] in (DONE, MISSING, TRIAL) else "begun" for row in rows
    )
    typer.echo(
        f"{counts[DONE]} of {len(rows)} done"
        + "".join(
            f", {counts[state]} {state}" for state in ("begun", TRIAL, MISSING) if counts[state]
        )
    )


def status(jobs: Sequence[Job], records: Sequence[Record]) -> list[Row]:
    """A row for each model, dataset and task: done, missing, trial, or how many layers of how many.

    A record is a model's own if it is of the same file by name and digest, or, where there is no
    file, was asked for in the same words; what else identifies it, `sweep` itself looks at.
    """
    models = {job.model for job in jobs}
    files = {model: _file(model, jobs[0]) for model in models}
    # Of two entries of one file the one that says more has what fits both.
    closer = {
        model: [
            other
            for other in models
            if other.ckpt == model.ckpt and len(other.options) > len(model.options)
        ]
        for model in models
    }

    def mine(job: Job) -> list[Record]:
        file = files[job.model]
        return [
            record
            for record in records
            if _is_of(record["model"], job.model, file)
            and not any(_is_of(record["model"], other, file) for other in closer[job.model])
        ]

    return [
        {
            "model": " ".join([job.model.ckpt, *("=".join(one) for one in job.model.options)]),
            "dataset": job.dataset,
            "task": part.word,
            "state": _state(job, part, mine(job)),
        }
        for job in jobs
        for part in job.parts
    ]


def _records(job: Job) -> list[Record]:
    return [record for _, record in ResultStore(Path(job.params["out"]).expanduser())]


def _file(model: Model, job: Job) -> tuple[str, str] | None:
    ckpt = checkpoints.whole(model.ckpt, cache_of(job))
    return checkpoints.file_identity(ckpt) if Path(ckpt).exists() else None


def _state(job: Job, part: Part, records: Sequence[Record]) -> str:
    protocol = protocol_entry(part.task)["digest"]
    mine = [
        record
        for record in records
        if (record["task"], record["protocol"]["digest"]) == (part.task.name, protocol)
        and record["dataset"]["name"].partition(" ")[0] == job.dataset.partition(" ")[0]
    ]
    limit = job.params["limit"]
    asked = [record for record in mine if record["limited"] == limit]
    if not asked:
        return TRIAL if any(record["limited"] is not None for record in mine) else MISSING
    best = max(asked, key=lambda record: len(record["layers"]))
    wanted = _layers(part.layers, best["model"]["depth"])
    stored = wanted & best["layers"].keys()
    return DONE if stored == wanted else f"{len(stored)}/{len(wanted)}"


def _layers(text: str, depth: int) -> set[str]:
    if text == "last":
        return {str(depth)}
    return set(map(str, range(1, depth + 1) if text == "all" else parse_layers(text, depth)))


def _is_of(found: Mapping[str, Any], model: Model, file: tuple[str, str] | None) -> bool:
    if file is None and found["uri"] != model.ckpt:
        return False
    if file is not None and (found["name"], found["file_sha256"]) != file:
        return False
    facts = {**found["details"], **found}
    return all(str(facts[name]) == text for name, text in model.options if name in STATED)
