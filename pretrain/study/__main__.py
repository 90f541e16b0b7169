"""The study from the command line.

python -m sdssl_bench.pretrain.study train --data folder:data/cifar10 --jobs 2
python -m sdssl_bench.pretrain.study evaluate --sets sets.toml
python -m sdssl_bench.pretrain.study tables
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.errors import TaskError, UserError
from sdssl_bench.pretrain.study import evaluation, tabulation, training
from sdssl_bench.pretrain.study import runs as plan

app = typer.Typer(
    help="The study: train what is missing, evaluate what is finished, build tables.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
Scale = Annotated[str, typer.Option(help="cpu, gpu, or toy: a first try in seconds.")]
Out = Annotated[Path, typer.Option(help="Folder of the trained runs.")]
Only = Annotated[str, typer.Option(help="Those whose names match, such as '*mocov3-s0'.")]
Results = Annotated[Path, typer.Option(help="Folder of records and tables.")]
Limit = Annotated[
    int | None, typer.Option(min=20, help="A trial on so many images, the same in every command.")
]
RUNS, RESULTS = Path("runs/study"), Path("results/study")


@app.command()
def train(
    *,
    data: Annotated[str, typer.Option(help="As `sdssl-bench pretrain` takes it.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder of named datasets.")] = None,
    scale: Scale = "cpu",
    out: Out = RUNS,
    only: Only = "*",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; they share the cores.")] = 1,
    limit: Limit = None,
) -> None:
    """Train the runs that are not finished, in order; the same command goes on after any stop."""
    images = ["--data", data, *(["--data-root", str(data_root)] if data_root else [])]
    failed = training.train(plan.runs(scale, only, limit=limit), images, out, jobs=jobs)
    if failed:
        raise TaskError(f"not finished: {', '.join(failed)}; see their output in {out}")


@app.command()
def status(*, scale: Scale = "cpu", out: Out = RUNS, only: Only = "*", limit: Limit = None) -> None:
    """How far each run has come."""
    for run in plan.runs(scale, only, limit=limit):
        typer.echo(f"{run.name:24}{plan.state(run, out / run.name)}")


@app.command()
def evaluate(
    *,
    sets: Annotated[Path, typer.Option(help="TOML: where sets and further weights are.")],
    scale: Scale = "cpu",
    out: Out = RUNS,
    results: Results = RESULTS,
    only: Only = "*",
    limit: Limit = None,
) -> None:
    """Score controls, an untrained encoder, finished runs and further weights on every set."""
    given = evaluation.at_hand(sets)
    encoders = evaluation.subjects(plan.runs(scale, limit=limit), out, given.weights, only)
    failed = evaluation.evaluate(encoders, given.sets, results, cache=out / "cache", limit=limit)
    if failed:
        raise TaskError(f"{len(failed)} of the evaluations failed, the others are stored")


@app.command()
def tables(
    *,
    scale: Scale = "cpu",
    out: Out = RUNS,
    results: Results = RESULTS,
    docs: Annotated[Path, typer.Option(help="Text whose results are written.")] = Path(
        "docs/study.md"
    ),
    limit: Limit = None,
) -> None:
    """Build tables, figures, paired tests and the text's results from the records."""
    tabulation.build(
        plan.runs(scale, limit=limit), out, results, docs=docs, trial=limit is not None
    )


if __name__ == "__main__":
    try:
        app(prog_name="python -m sdssl_bench.pretrain.study")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
