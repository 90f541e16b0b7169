"""`sdssl-bench export`: stored results to an experiment tracker, a layer curve a chart."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt

TARGET = "Where to"


def export(
    tracker: Annotated[
        str, typer.Argument(metavar="TRACKER", help="wandb, trackio or tensorboard.")
    ],
    folders: opt.Folders = None,
    results: opt.ResultFolders = None,
    task: opt.OnlyTasks = None,
    dataset: opt.OnlyDatasets = None,
    model: opt.OnlyModels = None,
    include_limited: opt.IncludeLimited = False,
    project: Annotated[
        str | None,
        opt.option(TARGET, "Project (wandb, trackio).", takes="NAME", default="sdssl-bench"),
    ] = None,
    out: Annotated[
        Path | None,
        opt.option(
            TARGET, "Event files of tensorboard.", "--out", "-o", takes="DIR", default="tensorboard"
        ),
    ] = None,
) -> None:
    """Send stored results to a tracker: a run an encoder, a chart a metric, a step a layer.

    Evaluation itself knows no tracker. wandb's own settings (WANDB_MODE=offline, WANDB_DIR, ...) hold.

    sdssl-bench export tensorboard results --out tb; tensorboard --logdir tb
    """
    from sdssl_bench import api
    from sdssl_bench.cli import damaged

    with damaged.named_below():
        sent = api.export(
            tracker,
            opt.result_folders(folders, results),
            task=task,
            dataset=dataset,
            model=model,
            include_limited=include_limited,
            project=project,
            out=out,
        )
    damaged.name(sent.damaged)
    for line in sent.lines:
        typer.echo(line)
    damaged.leave(sent.damaged)
