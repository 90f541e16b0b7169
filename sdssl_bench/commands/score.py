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
        opt.option(
            opt.DATA,
            "npz with features [N, D] or [L, N, D] and labels [N].",
            takes="FILE",
            default="the first FILE",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        opt.option(opt.DATA, "npz of the same form.", takes="FILE", default="the second FILE"),
    ] = None,
    k: Annotated[
        str | None,
        opt.option(
            opt.PROTOCOL,
            "Numbers of neighbours, all from one search.",
            "--k",
            takes="LIST",
            default="10,20,100,200 as far as there are items",
        ),
    ] = None,
    temperature: Annotated[float, opt.option(opt.PROTOCOL, "Similarity scale of the vote.")] = 0.07,
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
