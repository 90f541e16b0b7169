"""`sdssl-bench reproduce`: what a table or figure of the paper takes, what is there, how far it is off."""

from typing import TYPE_CHECKING, Annotated

import typer

from sdssl_bench.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sdssl_bench.paper import Checkpoint
    from sdssl_bench.records import Stored


def reproduce(
    table: Annotated[
        int | None,
        typer.Option(metavar="INT", help="Table of the SDSSL paper, 1 to 7.", show_default="none"),
    ] = None,
    figure: Annotated[
        int | None,
        typer.Option(metavar="INT", help="Figure of the paper, 3 to 9.", show_default="none"),
    ] = None,
    results: opt.ResultFolders = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN=NAME",
            help="The model that a run of the table has in the results.",
            show_default="RUN itself",
        ),
    ] = None,
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Commands and checkpoints of a table of the paper, and paper | ours | difference.

    sdssl-bench reproduce --table 3
    """
    from sdssl_bench.cli import damaged
    from sdssl_bench.errors import UsageError
    from sdssl_bench.statistics import read_results

    if (table is None) == (figure is None):
        raise UsageError("Give either --table N or --figure N.")
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
