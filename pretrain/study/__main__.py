"""The study from the command line.

python -m sdssl_bench.pretrain.study train --scale cpu --data cifar10 --data-root /data --out runs/study
python -m sdssl_bench.pretrain.study status --scale cpu --out runs/study
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.errors import UserError
from sdssl_bench.pretrain.study import runs as plan
from sdssl_bench.pretrain.study import training

app = typer.Typer(help="The study: train what is missing, evaluate what is finished, build tables.",
                  add_completion=False)  # fmt: skip
Scale = Annotated[str, typer.Option(help="cpu, gpu, or toy: a first try in seconds.")]
Out = Annotated[Path, typer.Option(help="Folder of the trained runs.")]
Only = Annotated[str, typer.Option(help="Runs whose names match, such as '*mocov3-s0'.")]


@app.command()
def train(
    *,
    data: Annotated[str, typer.Option(help="As `sdssl-bench pretrain` takes it.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder of named datasets.")] = None,
    scale: Scale = "cpu",
    out: Out = Path("runs/study"),
    only: Only = "*",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; they share the cores.")] = 1,
) -> None:
    """Train the runs that are not finished, in order; the same command goes on after any stop."""
    images = ["--data", data, *(["--data-root", str(data_root)] if data_root else [])]
    failed = training.train(plan.runs(scale, only), images, out.expanduser(), jobs=jobs)
    if failed:
        typer.echo(f"error: not finished: {', '.join(failed)}; see their output", err=True)
        raise typer.Exit(1)


@app.command()
def status(*, scale: Scale = "cpu", out: Out = Path("runs/study"), only: Only = "*") -> None:
    """How far each run has come."""
    for run in plan.runs(scale, only):
        typer.echo(f"{run.name:24}{plan.state(run, out.expanduser() / run.name)}")


if __name__ == "__main__":
    try:
        app(prog_name="python -m sdssl_bench.pretrain.study")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
