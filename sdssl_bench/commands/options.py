"""Options that several commands share, and how their texts are read."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.errors import UsageError


def _can_be_had(ckpt: str) -> str:
    from sdssl_bench.hub import check_before_imports

    check_before_imports(ckpt)
    return ckpt


Ckpt = Annotated[
    str,
    typer.Option(
        "--ckpt",
        "-c",
        callback=_can_be_had,
        help="Checkpoint file, timm:NAME[?pretrained=false&seed=0], or custom:FILE.py:FUNCTION.",
        show_default=False,
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        help="Folder of the datasets in their official layouts.",
        envvar="SDSSL_BENCH_DATA",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Results folder.", envvar="SDSSL_BENCH_RESULTS")
]
ResultFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--results",
        "-r",
        help="Stored results; may be repeated. Default: $SDSSL_BENCH_RESULTS, then results.",
        show_default=False,
    ),
]
OnlyTasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these tasks.")]
OnlyDatasets = Annotated[
    list[str] | None, typer.Option("--dataset", "-d", help="Only these datasets.")
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        help="Feature cache; default: sdssl-bench in the user's cache folder.",
        envvar="SDSSL_BENCH_CACHE",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str, typer.Option(help="Forward pass in float32, bfloat16 or float16 (autocast).")
]
BatchSize = Annotated[str, typer.Option("--batch-size", "-b", help="Images per pass, or auto.")]
Network = Annotated[
    str | None,
    typer.Option(
        help="Which network of the checkpoint: student, teacher, base, momentum, model or ema."
    ),
]
Arch = Annotated[str | None, typer.Option(help="Architecture, where it cannot be inferred.")]
Heads = Annotated[int | None, typer.Option(help="Attention heads, where they cannot be inferred.")]
PatchSize = Annotated[int | None, typer.Option(help="Patch size in pixels.")]
ImgSize = Annotated[int | None, typer.Option(help="Side of the evaluated images in pixels.")]
Norm = Annotated[
    str | None,
    typer.Option(help="Norm of layers before the last: shared, none, identity or per-layer."),
]
Wide = Annotated[bool, typer.Option("--wide", help="All columns, however wide the terminal is.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]


def comma_list(values: Iterable[str]) -> list[str]:
    """The items of a repeatable option whose values may be comma lists, in order, once each.

    >>> comma_list(["a,b", "c", "a"])
    ['a', 'b', 'c']
    """
    items = [part.strip() for value in values for part in value.split(",")]
    return list(dict.fromkeys(part for part in items if part))


def assignments(values: Iterable[str]) -> dict[str, str]:
    """{"k": "10"} from ["k=10"].

    Raises:
        UsageError: if one has no "=".
    """
    pairs = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes NAME=VALUE, found '{value}'.")
        pairs[key.strip().replace("-", "_")] = text.strip()
    return pairs


def batch_size(text: str) -> int | None:
    """None for "auto".

    Raises:
        UsageError: if it is neither "auto" nor a positive number.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size takes 'auto' or a positive number, found '{text}'.")
    return int(text)


def choice(option: str, text: str, choices: Iterable[str]) -> str:
    """`text`, proven to be one of `choices`.

    Raises:
        UsageError: naming all of them.
    """
    known = list(choices)
    if text not in known:
        raise UsageError(f"{option} takes one of {', '.join(known)}; found '{text}'.")
    return text


def result_folders(named: list[Path] | None) -> list[Path]:
    """The results folders to read: those named, or $SDSSL_BENCH_RESULTS, or ./results."""
    return named or [Path(os.environ.get("SDSSL_BENCH_RESULTS", "results"))]
