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

    from sdssl_bench.cli import damaged
    from sdssl_bench.errors import UsageError
    from sdssl_bench.reports import (
        as_json,
        difference_table,
        num_tests,
        overall,
        sentence,
        summary_table,
    )
    from sdssl_bench.statistics import compare as test
    from sdssl_bench.statistics import find_records, pair
    from sdssl_bench.system import show

    if at not in ("last", "best") and not (at.isdecimal() and int(at) > 0):
        raise UsageError(f"--at takes last, best or the number of a layer; found '{at}'.")
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha lies between 0 and 1, found {alpha}.")
    folders = opt.result_folders(results)
    (first, broken), (second, broken_too) = (find_records(text, folders) for text in (a, b))
    broken = list({str(error): error for error in [*broken, *broken_too]}.values())
    damaged.name(broken)
    pairs, unpaired = pair(first, second)
    benchmarks, without_items = test(pairs, confidence=1 - alpha, seed=seed)
    left_out = unpaired + without_items
    tested = [one.at(at) for one in benchmarks]
    worse = [one for one in tested if one is not None and one.verdict(alpha) == "worse"]
    tests = num_tests(at, benchmarks)
    sentences = [sentence(one, at=at, alpha=alpha, tests=tests) for one in benchmarks]
    if json:
        found = {
            "a": a,
            "b": b,
            "at": at,
            "alpha": alpha,
            "benchmarks": [as_json(one) for one in benchmarks],
            "sentences": sentences,
            "not_compared": left_out,
            "worse": len(worse),
        }
        typer.echo(dumps(found, indent=1, allow_nan=False))
    else:
        typer.echo(f"A = {a}\nB = {b}")
        if wide or len(benchmarks) == 1:
            for one in benchmarks:
                table = difference_table(one, alpha=alpha, benchmarks=benchmarks)
                show(table, wide=wide)
            for line in sentences:
                show(line, wide=wide)
        if len(benchmarks) > 1:
            show(summary_table(benchmarks, at=at, alpha=alpha), wide=wide)
            show(overall(benchmarks, at=at, alpha=alpha), wide=wide)
        for line in left_out:
            show(f"not compared: {line}", wide=wide)
    if fail_if_worse and worse:
        raise typer.Exit(WORSE)
    damaged.leave(broken)


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
