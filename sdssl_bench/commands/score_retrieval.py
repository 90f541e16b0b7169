"""`sdssl-bench score retrieval | copydays`: scores of features that come from anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench.commands import options as opt

if TYPE_CHECKING:
    from sdssl_bench.terminal import FittedTable


def retrieval(
    files: opt.Files = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="npz with queries [Q, D] and database [N, D], or [L, ., D].",
            show_default="the first FILE",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    gnd: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="gnd_roxford5k.pkl, gnd_rparis6k.pkl, or JSON.",
            show_default="the second FILE",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Easy, Medium and Hard mAP and mP@k on revisited Oxford/Paris, for every layer.

    sdssl-bench score retrieval f.npz gnd_roxford5k.pkl --json
    """
    from json import dumps

    from sdssl_bench.scoring_retrieval import score_retrieval
    from sdssl_bench.terminal import show

    features, gnd = opt.placed(files, {"--features": features, "--gnd": gnd})
    scores = score_retrieval(features, gnd)
    if json:
        typer.echo(dumps(scores))
    else:
        show(_table(scores, "Revisited retrieval", first="protocol"), wide=wide)


def copydays(
    files: opt.Files = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="npz with original, strong, ..., distractors, whitening, *_names.",
            show_default="the FILE",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    whitening: Annotated[
        str, typer.Option(help="dino or centred.", rich_help_panel=opt.PROTOCOL)
    ] = "dino",
    top_k: Annotated[
        int, typer.Option(min=1, help="Length of each list.", rich_help_panel=opt.PROTOCOL)
    ] = 20,
    backend: opt.Backend = "auto",
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Copy-detection mAP (first 20, whole ranking) and micro-AP per block, for every layer.

    sdssl-bench score copydays f.npz --json
    """
    from json import dumps

    from sdssl_bench.scoring_retrieval import score_copydays
    from sdssl_bench.terminal import show

    (features,) = opt.placed(files, {"--features": features})
    scores = score_copydays(
        features,
        preset=whitening,
        top_k=top_k,
        backend=opt.choice("--backend", backend, ("auto", "torch", "faiss")),
    )
    if json:
        typer.echo(dumps(scores))
    else:
        one = scores.get("layers", [scores])[0]
        title = f"Copydays, {one['distractors']:,} distractors, whitening {one['whitening']}"
        show(_table(scores, title, first="block"), wide=wide)


def _table(scores: dict[str, Any], title: str, *, first: str) -> "FittedTable":
    from sdssl_bench.rounding import percent
    from sdssl_bench.terminal import Column, FittedTable

    rows = [
        (entry.get("layer"), name, values)
        for entry in scores.get("layers", [scores])
        for name, values in entry.items()
        if isinstance(values, dict)
    ]
    metrics = list(rows[0][2])
    layer = ["layer"] if "layers" in scores else []
    columns = [*map(Column, layer), Column(first, left=True), *map(Column, metrics)]
    cells = [
        [*([number] if layer else []), name,
         *("-" if values[m] is None else percent(values[m]) for m in metrics)]
        for number, name, values in rows
    ]  # fmt: skip
    return FittedTable(columns, cells, title=title, repeat=1 + len(layer))
