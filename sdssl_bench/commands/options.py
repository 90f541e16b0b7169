"""Options that several commands share, and how their texts are read."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.errors import UsageError


def _can_be_had(ckpt: str | None) -> str | None:
    from sdssl_bench.hub import check_before_imports

    if ckpt is not None:
        check_before_imports(ckpt)
    return ckpt


DATA, ENCODER, PROTOCOL, SPEED, OUTPUT = "Data", "Encoder", "Protocol", "Speed", "Output"
"""Panels that several commands have."""

CHECKPOINT = "File, timm:NAME[?pretrained=false&seed=0] or custom:FILE.py:FUNCTION."

Ckpt = Annotated[
    str,
    typer.Option(
        "--ckpt",
        "-c",
        metavar="CKPT",
        callback=_can_be_had,
        help=CHECKPOINT,
        rich_help_panel="What to run",
    ),
]
PlacedCkpt = Annotated[
    str | None,
    typer.Argument(
        metavar="CKPT", callback=_can_be_had, help=CHECKPOINT, show_default="that of --ckpt"
    ),
]
NamedCkpt = Annotated[
    str | None,
    typer.Option(
        "--ckpt",
        "-c",
        metavar="CKPT",
        callback=_can_be_had,
        help="The same, by name.",
        show_default="none",
        rich_help_panel=ENCODER,
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Datasets.",
        envvar="SDSSL_BENCH_DATA",
        show_envvar=True,
        show_default="none",
        rich_help_panel=DATA,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Results.",
        envvar="SDSSL_BENCH_RESULTS",
        show_envvar=True,
        rich_help_panel=OUTPUT,
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER", help="Folders of stored results.", show_default="see --results"
    ),
]
ResultFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--results",
        "-r",
        metavar="DIR",
        help="Stored results; may be repeated.",
        show_default="$SDSSL_BENCH_RESULTS, then results",
        rich_help_panel="What to read",
    ),
]
OnlyTasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        "-t",
        metavar="LIST",
        help="Only these tasks.",
        show_default="all",
        rich_help_panel="What to read",
    ),
]
OnlyDatasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        "-d",
        metavar="LIST",
        help="Only these datasets.",
        show_default="all",
        rich_help_panel="What to read",
    ),
]
IncludeLimited = Annotated[
    bool,
    typer.Option(
        "--include-limited",
        help="Show trials of run --limit too, apart from the rest and labelled.",
        rich_help_panel="What to read",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        metavar="DIR",
        help="Feature cache.",
        envvar="SDSSL_BENCH_CACHE",
        show_envvar=True,
        show_default="sdssl-bench in the user's cache folder",
        rich_help_panel=OUTPUT,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.", rich_help_panel=SPEED
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Forward pass; or bfloat16, float16.",
        rich_help_panel=SPEED,
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size", "-b", metavar="INT", help="Images per pass.", rich_help_panel=SPEED
    ),
]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        "--num-workers",
        "-j",
        min=0,
        metavar="INT",
        help="Image-loading processes.",
        show_default="auto",
        rich_help_panel=SPEED,
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Neighbour search: auto, torch or faiss.", rich_help_panel=SPEED
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="student, teacher, base, momentum, model or ema.",
        show_default="what its authors evaluate",
        rich_help_panel=ENCODER,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Architecture.",
        show_default="inferred",
        rich_help_panel=ENCODER,
    ),
]
Heads = Annotated[
    int | None,
    typer.Option(
        metavar="INT", help="Attention heads.", show_default="inferred", rich_help_panel=ENCODER
    ),
]
PatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="Patch size in pixels.",
        show_default="inferred",
        rich_help_panel=ENCODER,
    ),
]
ImgSize = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="Side of the images in pixels.",
        show_default="its own",
        rich_help_panel=ENCODER,
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Norm of layers before the last: shared, none, identity or per-layer.",
        show_default="the format's own",
        rich_help_panel=ENCODER,
    ),
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE",
        help="What the options below name, in their order.",
        show_default="those of the options",
    ),
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide", help="All columns, however wide the terminal is.", rich_help_panel=OUTPUT
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON value and nothing else.", rich_help_panel=OUTPUT),
]


def comma_list(option: str, values: Iterable[str] | None) -> list[str]:
    """The items of a repeatable option whose values may be comma lists, in order, once each.

    Raises:
        UsageError: if an item is an empty text.

    >>> comma_list("--task", ["a,b", "c", "a"])
    ['a', 'b', 'c']
    """
    items = [part.strip() for value in values or () for part in value.split(",")]
    if not all(items):
        raise UsageError(f"{option} takes names, found an empty one in '{','.join(values or ())}'.")
    return list(dict.fromkeys(items))


def assignments(option: str, values: Iterable[str] | None) -> dict[str, str]:
    """{"k": "10"} from ["k=10"].

    Raises:
        UsageError: if one has no "=", or a name is given twice.
    """
    pairs: dict[str, str] = {}
    for value in values or ():
        key, equals, text = value.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UsageError(f"{option} takes NAME=VALUE, found '{value}'.")
        if key in pairs:
            raise UsageError(f"{option} {key} is given twice: {pairs[key]} and {text.strip()}.")
        pairs[key] = text.strip()
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


def result_folders(*named: list[Path] | None) -> list[Path]:
    """The results folders to read: those named, or $SDSSL_BENCH_RESULTS, or ./results."""
    folders = [folder for one in named for folder in one or ()]
    return folders or [Path(os.environ.get("SDSSL_BENCH_RESULTS", "results"))]


def placed(files: list[Path] | None, options: dict[str, Path | None]) -> list[Path]:
    """What a command reads: each given by its option, or by its place in the order of `options`.

    Raises:
        UsageError: if one is missing, or there are more than are read.
    """
    rest = list(files or ())
    found = [rest.pop(0) if one is None and rest else one for one in options.values()]
    missing = [name for name, one in zip(options, found, strict=True) if one is None]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} missing: give the file, with or without that name."
        )
    if rest:
        raise UsageError(f"Expected {len(options)} files, found one more: {rest[0]}.")
    return [one for one in found if one is not None]
