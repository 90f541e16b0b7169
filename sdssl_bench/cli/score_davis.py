"""`sdssl-bench score davis`: J&F of anybody's masks, without an encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdssl_bench.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sdssl_bench.system import FittedTable
    from sdssl_bench.video import SequenceScores


def davis(
    folders: opt.Files = None,
    predictions: Annotated[
        Path | None,
        opt.option(
            opt.DATA,
            "Sequence folders with predicted palette PNGs.",
            takes="DIR",
            default="the first FILE",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        opt.option(
            opt.DATA, "DAVIS/Annotations/480p, or likewise.", takes="DIR", default="the second FILE"
        ),
    ] = None,
    sequences: Annotated[
        Path | None,
        opt.option(
            opt.DATA,
            "List of sequences, e.g. ImageSets/2017/val.txt.",
            takes="FILE",
            default="all annotated ones",
        ),
    ] = None,
    single_object: Annotated[
        bool,
        opt.option(
            opt.PROTOCOL,
            "All but 0 is object 1, 255 too: DAVIS-2016, any binary set.",
            "--single-object",
        ),
    ] = False,
    num_workers: Annotated[
        int | None,
        opt.option(
            opt.SPEED,
            "Processes.",
            "--num-workers",
            "-j",
            takes="INT",
            default="one per core",
            min=0,
        ),
    ] = None,
    csv_dir: Annotated[
        Path | None,
        opt.option(
            opt.OUTPUT, "Also write the two official CSV files here.", takes="DIR", default="none"
        ),
    ] = None,
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """J, F and J&F of DAVIS masks (semi-supervised), equal to the public toolkit's.

    sdssl-bench score davis masks DAVIS/Annotations/480p --json
    """
    from json import dumps

    from sdssl_bench.datasets import read_sequences
    from sdssl_bench.system import available_cpus, check_folder, show, write_atomic
    from sdssl_bench.video import csv_files, per_object, score_folders, summarise

    predictions, annotations = opt.placed(
        folders, {"--predictions": predictions, "--annotations": annotations}
    )
    if sequences:
        names = read_sequences(sequences)
    else:
        names = sorted(p.name for p in annotations.glob("[!.]*") if p.is_dir())
    if csv_dir:
        check_folder(csv_dir)
    workers = available_cpus() if num_workers is None else num_workers
    scores = score_folders(
        predictions, annotations, names, num_workers=workers, single_object=single_object
    )
    for warning in scores.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if csv_dir:
        for name, text in csv_files(scores.sequences).items():
            write_atomic(csv_dir / name, text.encode())
    if json:
        found = {**summarise(scores.sequences), "per_object": per_object(scores.sequences)}
        typer.echo(dumps({**found, "single_object": True} if single_object else found))
    else:
        for table in _tables(scores.sequences):
            show(table, wide=wide)


def _tables(sequences: "Sequence[SequenceScores]") -> "list[FittedTable]":
    """The objects, and below them the seven numbers."""
    from sdssl_bench.rounding import percent
    from sdssl_bench.system import Column, FittedTable
    from sdssl_bench.video import per_object, summarise

    columns = [Column("object", shorten=True), *map(Column, ("J", "F", "J&F"))]
    rows = [
        [name, *map(percent, (one["J"], one["F"], (one["J"] + one["F"]) / 2))]
        for name, one in per_object(sequences).items()
    ]
    total = summarise(sequences)
    count = sum(len(one.objects) for one in sequences)
    return [
        FittedTable(columns, rows, title="DAVIS objects"),
        FittedTable(
            [Column("score", left=True), Column("x100")],
            [[name, percent(value)] for name, value in total.items()],
            title=f"{len(sequences)} sequences, {count} objects",
        ),
    ]
