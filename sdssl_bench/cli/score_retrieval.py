"""`sdssl-bench score retrieval | copydays`: scores of features that come from anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench.cli import options as opt

if TYPE_CHECKING:
    from sdssl_bench.system import FittedTable


def retrieval(
    features: Annotated[
        Path, typer.Option(help="npz with queries [Q, D] and database [N, D], or [L, ., D].")
    ],
    gnd: Annotated[Path, typer.Option(help="gnd_roxford5k.pkl, gnd_rparis6k.pkl, or JSON.")],
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Easy, Medium and Hard mAP and mP@k on revisited Oxford/Paris, for every layer.

    sdssl-bench score retrieval --features f.npz --gnd gnd_roxford5k.pkl --json
    """
    from json import dumps

    from sdssl_bench.retrieval import score_retrieval
    from sdssl_bench.system import show

    scores = score_retrieval(features, gnd)
    if json:
        typer.echo(dumps(scores))
    else:
        show(_table(scores, "Revisited retrieval", first="protocol"), wide=wide)


def copydays(
    features: Annotated[
        Path, typer.Option(help="npz with original, strong, ..., distractors, whitening, *_names.")
    ],
    whitening: Annotated[str, typer.Option(help="dino or centred.")] = "dino",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Length of each list.")] = 20,
    backend: Annotated[str, typer.Option(help="Search by auto, torch or faiss.")] = "auto",
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Copy-detection mAP (first 20, whole ranking) and micro-AP per block, for every layer.

    sdssl-bench score copydays --features f.npz --json
    """
    from json import dumps

    from sdssl_bench.retrieval import score_copydays
    from sdssl_bench.system import show

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
    from sdssl_bench.system import Column, FittedTable

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
