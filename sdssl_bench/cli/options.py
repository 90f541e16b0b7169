"""Options that several commands share, and how their texts are read."""

import inspect
import math
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from sdssl_bench.errors import UsageError
from sdssl_bench.parameters import comma_list as comma_list


def _can_be_had(ckpt: str | None) -> str | None:
    from sdssl_bench.checkpoints import check_before_imports

    if ckpt is not None:
        check_before_imports(ckpt)
    return ckpt


DATA, ENCODER, PROTOCOL, SPEED, OUTPUT = "Data", "Encoder", "Protocol", "Speed", "Output"
READ = "What to read"
"""Panels that several commands have."""
CHECKPOINT = "File, folder, hf:ORG/NAME, timm:NAME, custom:FILE.py:FUNCTION, control:NAME."
STORED = "$SDSSL_BENCH_RESULTS, then results"


def option(
    panel: str, text: str, *names: str, takes: str | None = None, default: str = "", **more: Any
) -> Any:
    """A typer option.

    Args:
        panel: of --help.
        text: for --help.
        names: as typed; made of the parameter's name if there are none.
        takes: what stands for the value in --help; None for a flag.
        default: the default in words, where the value does not say it.
        more: of `typer.Option`.
    """
    words = {"show_default": default} if default else {}
    make: Any = typer.Option
    return make(*names, metavar=takes, help=text, rich_help_panel=panel, **words, **more)


Ckpt = Annotated[
    str,
    option("What to run", CHECKPOINT, "--ckpt", "-c", takes="CKPT", callback=_can_be_had),
]
PlacedCkpt = Annotated[
    str | None,
    typer.Argument(
        metavar="CKPT", callback=_can_be_had, help=CHECKPOINT, show_default="that of --ckpt"
    ),
]
_NAMED = "The same, by name."
NamedCkpt = Annotated[
    str | None,
    option(ENCODER, _NAMED, "--ckpt", "-c", takes="CKPT", default="none", callback=_can_be_had),
]
DataRoot = Annotated[
    Path | None,
    option(
        DATA,
        "Datasets.",
        takes="DIR",
        default="none",
        envvar="SDSSL_BENCH_DATA",
        show_envvar=True,
    ),
]
Out = Annotated[
    Path,
    option(
        OUTPUT,
        "Results.",
        "--out",
        "-o",
        takes="DIR",
        envvar="SDSSL_BENCH_RESULTS",
        show_envvar=True,
    ),
]
CacheDir = Annotated[
    Path | None,
    option(
        OUTPUT,
        "Features.",
        takes="DIR",
        default="the user's",
        envvar="SDSSL_BENCH_CACHE",
        show_envvar=True,
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER", help="Folders of stored results.", show_default="see --results"
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
_STORED = "Stored results; may be repeated."
ResultFolders = Annotated[
    list[Path] | None, option(READ, _STORED, "--results", "-r", takes="DIR", default=STORED)
]
OnlyTasks = Annotated[
    list[str] | None,
    option(READ, "Only these tasks.", "--task", "-t", takes="LIST", default="all"),
]
OnlyDatasets = Annotated[
    list[str] | None,
    option(READ, "Only these datasets.", "--dataset", "-d", takes="LIST", default="all"),
]
OnlyModels = Annotated[
    list[str] | None,
    option(READ, "Only these models, by name.", "--model", "-m", takes="LIST", default="all"),
]
_LIMITED = "Show trials of run --limit too, apart from the rest and labelled."
IncludeLimited = Annotated[bool, option(READ, _LIMITED, "--include-limited")]
ENCODER_OPTIONS: dict[str, tuple[type, str, str, str]] = {
    "network": (str, "NAME", "Such as teacher.", "what its authors evaluate"),
    "arch": (str, "NAME", "Architecture, of ours or timm:NAME.", "inferred"),
    "heads": (int, "INT", "Attention heads.", "inferred"),
    "patch_size": (int, "INT", "Patch size in pixels.", "inferred"),
    "img_size": (int, "INT", "Side of the images in pixels.", "its own"),
    "grid": (str, "RxC", "Of a table of positions.", "a square"),
    "norm": (
        str, "NAME", "Norm of layers before the last: shared, none, identity or per-layer.",
        "the format's own",
    ),
    "cls": (str, "NAME", "What is [CLS]: token or mean.", "its own"),
    "mean": (str, "LIST", "Numbers, or a name such as clip.", "its own"),
    "std": (str, "LIST", "Likewise; one name says both.", "as --mean"),
}  # fmt: skip
"""What may be said of a checkpoint, by every command that loads one: type, value, text, default."""


def with_encoder_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces a command's parameter `encoder` by ENCODER_OPTIONS; it gets their values by name."""
    written = inspect.signature(command)
    made = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option(ENCODER, text, takes=takes, default=default)],
        )
        for name, (kind, takes, text, default) in ENCODER_OPTIONS.items()
    ]

    @wraps(command)
    def called(*args: Any, **values: Any) -> None:
        asked = {name: values.pop(name) for name in ENCODER_OPTIONS}
        command(*args, **values, encoder=asked)

    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for one in written.parameters.values():
        here = one.replace(
            kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints.get(one.name, one.annotation)
        )
        parameters += made if one.name == "encoder" else [here]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    del called.__wrapped__
    return called


Device = Annotated[str, option(SPEED, "auto, cpu, cuda or cuda:N.", takes="NAME")]
Dtype = Annotated[str, option(SPEED, "Forward pass; or bfloat16, float16.", takes="NAME")]
BatchSize = Annotated[str, option(SPEED, "Images per pass.", "--batch-size", "-b", takes="INT")]
_WORKERS = "Image-loading processes."
NumWorkers = Annotated[
    int | None,
    option(SPEED, _WORKERS, "--num-workers", "-j", takes="INT", default="auto", min=0),
]
Backend = Annotated[str, option(SPEED, "Neighbour search: auto, torch or faiss.", takes="NAME")]
_TRIAL = "A trial on so many items per split."
Limit = Annotated[
    int | None, option(DATA, _TRIAL, "--limit", "-L", takes="INT", default="none", min=1)
]
Quiet = Annotated[bool, option(OUTPUT, "No progress.", "--quiet", "-q")]
Wide = Annotated[bool, option(OUTPUT, "All columns, however wide the terminal is.", "--wide")]
Json = Annotated[bool, option(OUTPUT, "Print one JSON value and nothing else.", "--json")]


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


def limits(option: str, text: str | None) -> tuple[float, float] | None:
    """Two ascending numbers, None if nothing was given.

    Raises:
        UsageError: if they are not.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise UsageError(f"{option} takes two ascending numbers such as 0,65535, found '{text}'.")
    return low, high


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
    from sdssl_bench.system import default_results

    return [folder for one in named for folder in one or ()] or [default_results()]


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
