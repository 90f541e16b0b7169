"""`sdssl-bench score`: the suite's metrics on features or masks that were made elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.commands import options as opt
from sdssl_bench.commands.help import App
from sdssl_bench.commands.score_davis import davis
from sdssl_bench.commands.score_retrieval import copydays, retrieval

app = App()


@app.callback()
def _score() -> None:
    pass


@app.command("knn")
def knn(
    files: opt.Files = None,
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="npz with features [N, D] or [L, N, D] and labels [N].",
            show_default="the first FILE",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="npz of the same form.",
            show_default="the second FILE",
            rich_help_panel=opt.DATA,
        ),
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(
            "--k",
            metavar="LIST",
            help="Numbers of neighbours, all from one search.",
            show_default="10,20,100,200 as far as there are items",
            rich_help_panel=opt.PROTOCOL,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Similarity scale of the vote.", rich_help_panel=opt.PROTOCOL)
    ] = 0.07,
    backend: opt.Backend = "auto",
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Weighted k-NN accuracy of features in npz files, for every k and layer.

    sdssl-bench score knn train.npz test.npz --json
    """
    from json import dumps

    from sdssl_bench.parameters import parse_value
    from sdssl_bench.scoring import score_knn
    from sdssl_bench.tables import score_table
    from sdssl_bench.terminal import show

    train, test = opt.placed(files, {"--train": train, "--test": test})
    scores = score_knn(
        train,
        test,
        ks=None if k is None else parse_value("--k", k, tuple[int, ...]),
        temperature=temperature,
        backend=opt.choice("--backend", backend, ("auto", "torch", "faiss")),
    )
    if json:
        typer.echo(dumps(scores))
    else:
        show(score_table(scores), wide=wide)


app.command("davis")(davis)
app.command("retrieval")(retrieval)
app.command("copydays")(copydays)
