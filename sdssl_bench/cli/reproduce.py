"""`sdssl-bench reproduce`: what reported numbers take, what is there, how far it is off."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdssl_bench.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sdssl_bench.paper import Checkpoint
    from sdssl_bench.records import Stored


WHAT, MEASURE = "What to reproduce", "To measure a released checkpoint"
ONLY_CHECKPOINT = (
    "ckpt", "task", "data_root", "limit", "device", "batch_size", "num_workers", "out", "cache_dir",
    "csv", "quiet",
)  # fmt: skip
"""Options that are of --checkpoint alone."""


def reproduce(
    ctx: typer.Context,
    *,
    table: Annotated[
        int | None,
        opt.option(WHAT, "Table of the SDSSL paper, 1 to 7.", takes="INT", default="none"),
    ] = None,
    figure: Annotated[
        int | None,
        opt.option(WHAT, "Figure of the paper, 3 to 9.", takes="INT", default="none"),
    ] = None,
    checkpoint: Annotated[
        str | None,
        opt.option(
            WHAT, "Released one, such as dino_vits16; or all.", takes="NAME", default="none"
        ),
    ] = None,
    results: opt.ResultFolders = None,
    model: Annotated[
        list[str] | None,
        opt.option(
            opt.READ,
            "The model that a run or a released checkpoint has in the results.",
            takes="RUN=NAME",
            default="RUN itself",
        ),
    ] = None,
    ckpt: Annotated[
        str | None,
        opt.option(
            MEASURE,
            "Its weights at hand, as of run --ckpt.",
            "--ckpt",
            "-c",
            takes="CKPT",
            default="downloaded",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        opt.option(
            MEASURE,
            "Only these tasks.",
            "--task",
            "-t",
            takes="LIST",
            default="all but fine-tuning",
        ),
    ] = None,
    data_root: opt.DataRoot = None,
    limit: opt.Limit = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = "auto",
    num_workers: opt.NumWorkers = None,
    out: opt.Out = Path("results"),
    cache_dir: opt.CacheDir = None,
    csv: Annotated[
        Path | None,
        opt.option(opt.OUTPUT, "One row per layer.", takes="FILE", default="none"),
    ] = None,
    quiet: opt.Quiet = False,
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Numbers that others reported beside ours: of the paper's tables, and of released checkpoints.

    sdssl-bench reproduce --table 3

    sdssl-bench reproduce --checkpoint dino_vits16 --data-root /data
    """
    from sdssl_bench.cli import damaged
    from sdssl_bench.errors import UsageError
    from sdssl_bench.statistics import read_results

    if sum(one is not None for one in (table, figure, checkpoint)) != 1:
        raise UsageError("Give one of --table N, --figure N and --checkpoint NAME.")
    if checkpoint is not None:
        from sdssl_bench.cli.released import reproduce_released

        reproduce_released(
            checkpoint,
            ckpt=ckpt,
            only=opt.comma_list("--task", task),
            names=_names(model or []),
            data_root=data_root,
            limit=limit,
            device=device,
            batch_size=batch_size,
            num_workers=num_workers,
            results=results,
            out=out,
            cache_dir=cache_dir,
            csv=csv,
            quiet=quiet,
            wide=wide,
            json=json,
        )
        return
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        if source and source.name == "COMMANDLINE" and param.name in ONLY_CHECKPOINT:
            raise UsageError(f"{param.opts[0]} has no effect without --checkpoint. Leave it out.")
    folders = opt.result_folders(results)
    if not results:  # without any result it shows what to run
        folders = [folder for folder in folders if (folder / "runs").is_dir()]
    records, broken = read_results(folders)
    damaged.name(broken)
    names = _names(model or [])
    if table is not None:
        _table(table, records, names, json=json, wide=wide)
    else:
        assert figure is not None
        _figure(figure, records, names, json=json)
    damaged.leave(broken)


def _names(texts: list[str]) -> dict[str, str]:
    from sdssl_bench.errors import UsageError

    pairs = [text.partition("=") for text in texts]
    for text, (run, equals, name) in zip(texts, pairs, strict=True):
        if not (run and equals and name):
            raise UsageError(f"--model takes RUN=NAME, found '{text}'.")
    return {run: name for run, _, name in pairs}


def _table(
    number: int, records: "list[Stored]", names: dict[str, str], *, json: bool, wide: bool
) -> None:
    from json import dumps

    from sdssl_bench.paper import CONTRADICTION, RESNET_50, reproduction
    from sdssl_bench.reports import reproduction_table
    from sdssl_bench.system import show

    wanted = reproduction.wanted(number)
    reproduction.check_names(names, wanted)
    found = [reproduction.outcome(one, records, names) for one in wanted]
    evaluations = reproduction.evaluation_commands(wanted)
    checkpoints = {one.checkpoint.name: one.checkpoint for one in wanted}
    if json:
        value = {
            "table": number,
            "pretraining": {name: one.command for name, one in checkpoints.items()},
            "evaluation": evaluations,
            "cells": [reproduction.as_json(one) for one in found],
        }
        typer.echo(dumps(value, indent=1, allow_nan=False))
        return
    _commands(checkpoints.values(), evaluations, {run for run in checkpoints if any(
        one.value is not None for one in found if one.wanted.checkpoint.name == run)})  # fmt: skip
    show(reproduction_table(number, found), wide=wide)
    there = sum(one.value is not None for one in found)
    show(
        f"{there} of {len(found)} numbers are there. The interval is about the test items; another "
        "training seed moves a number too.",
        wide=wide,
    )
    if any(one.cell.contradicted for one in wanted):
        show(CONTRADICTION, wide=wide)
    if number == 7:
        show(RESNET_50, wide=wide)


def _figure(number: int, records: "list[Stored]", names: dict[str, str], *, json: bool) -> None:
    from json import dumps

    from sdssl_bench.paper import figures as figures_of_paper
    from sdssl_bench.reports import ranges

    one = figures_of_paper.figure(number)
    state = list(figures_of_paper.state(one, records, names))
    evaluations = figures_of_paper.commands(one)
    if json:
        value = {
            "figure": number,
            "title": one.title,
            "remark": one.remark,
            "pretraining": {c.name: c.command for c in one.checkpoints},
            "evaluation": evaluations,
            "curves": [
                {"run": c.name, "task": task, "dataset": dataset, "layers": layers}
                for c, task, dataset, layers in state
            ],
        }
        typer.echo(dumps(value, indent=1))
        return
    typer.echo(f"Figure {number}: {one.title}. It prints no numbers to compare with.")
    if one.remark:
        typer.echo(one.remark)
    _commands(one.checkpoints, evaluations, {c.name for c, _, _, layers in state if layers})
    for checkpoint, task, dataset, layers in state:
        there = f"layers {ranges(layers)}" if layers else "nothing yet"
        typer.echo(f"  {checkpoint.name} {task} {dataset}: {there}")


def _commands(checkpoints: "Iterable[Checkpoint]", evaluations: list[str], there: set[str]) -> None:
    typer.echo("Checkpoints (none was released; IMAGENET is the folder of the images):")
    for one in checkpoints:
        typer.echo(f"  {'[results] ' if one.name in there else '[missing] '}{one.command}")
    typer.echo("For every RUN of them:")
    for line in evaluations:
        typer.echo(f"  {line}")
