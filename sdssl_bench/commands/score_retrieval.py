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
        opt.option(
            opt.DATA,
            "npz with queries [Q, D] and database [N, D], or [L, ., D].",
            takes="FILE",
            default="the first FILE",
        ),
    ] = None,
    gnd: Annotated[
        Path | None,
        opt.option(
            opt.DATA,
            "gnd_roxford5k.pkl, gnd_rparis6k.pkl, or JSON.",
            takes="FILE",
            default="the second FILE",
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
        opt.option(
            opt.DATA,
            "npz with original, strong, ..., distractors, whitening, *_names.",
            takes="FILE",
            default="the FILE",
        ),
    ] = None,
    whitening: Annotated[str, opt.option(opt.PROTOCOL, "dino or centred.")] = "dino",
    top_k: Annotated[int, opt.option(opt.PROTOCOL, "Length of each list.", min=1)] = 20,
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
