"""`sdssl-bench compare` and `explain`: is a difference real, and what differs between two results."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt

WORSE = 4
"""Exit code of --fail-if-worse."""


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="Record, folder of records, or name of a model.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Likewise; the sentences speak of B against A.")
    ],
    results: opt.ResultFolders = None,
    at: Annotated[
        str,
        typer.Option(help="Layer the sentences and the exit code go by: last, best or a number."),
    ] = "last",
    alpha: Annotated[float, typer.Option(help="Level of significance, after Holm.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of resamples and permutations.")] = 0,
    fail_if_worse: Annotated[
        bool,
        typer.Option("--fail-if-worse", help="Exit with 4 if B is significantly worse anywhere."),
    ] = False,
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Is the difference between two models real? Paired tests on the same items.

    Several benchmarks are a row each, --wide shows every layer of each.

    sdssl-bench compare moco sd_moco --fail-if-worse
    """
    from json import dumps

    from sdssl_bench import api
    from sdssl_bench.cli import damaged
    from sdssl_bench.system import show

    with damaged.named_below():
        found = api.compare(
            a, b, results=opt.result_folders(results), at=at, alpha=alpha, seed=seed
        )
    damaged.name(found.damaged)
    if json:
        typer.echo(dumps(found, indent=1, allow_nan=False))
    else:
        names, *parts = found.shown(wide=wide)
        typer.echo(names)  # paths, which stay on their line
        for part in parts:
            show(part, wide=wide)
    if fail_if_worse and found["worse"]:
        raise typer.Exit(WORSE)
    damaged.leave(found.damaged)


def explain(
    a: Annotated[Path, typer.Argument(metavar="A", help="A result record (JSON).")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    json: opt.Json = False,
) -> None:
    """Every recorded setting in which two results differ.

    sdssl-bench explain results/runs/x/knn-cifar10-official-0123.json other.json
    """
    from json import dumps

    from sdssl_bench.records import as_json, differences, lines
    from sdssl_bench.statistics import read_proven

    first, second = (read_proven(path, items=False) for path in (a, b))
    found = differences(first, second)
    if json:
        typer.echo(dumps(as_json(first, second, found), indent=1, allow_nan=False))
        return
    for line in lines(first, second, found):
        typer.echo(line)
