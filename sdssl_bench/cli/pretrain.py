"""`sdssl-bench pretrain`, which `pretrain/main.py` is too: train an encoder from a preset.

Its options are the fields of `PretrainConfig` with their documentation; presets and recipes fill what is
not given.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

import typer

from sdssl_bench.errors import UsageError
from sdssl_bench.pretrain.run import presets
from sdssl_bench.pretrain.run.config import CHOICES, PANELS, PretrainConfig, documentation, flag
from sdssl_bench.system import is_first

INTERRUPTED = 130
METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}
RUN = PANELS["seed"]

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the run.", show_default="none", rich_help_panel=RUN
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="auto|FILE",
        help="Go on from the newest snapshot in --out, or from this one.",
        show_default="none",
        rich_help_panel=RUN,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel=RUN)
]


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Replaces `**settings` in a command's signature by one option per field of `PretrainConfig`."""
    written = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    generated = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _options().items()
    ]
    signature = inspect.Signature([*generated, *written])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return function


def _options() -> dict[str, Any]:
    """Field -> annotated option, in the configuration's order."""
    texts, hints = documentation(), get_type_hints(PretrainConfig)
    usual = {**presets.usual(), "preset": None}
    options: dict[str, Any] = {}
    panel = ""
    for name in (field.name for field in fields(PretrainConfig)):
        panel = PANELS.get(name, panel)
        kind: Any = hints[name]
        if isinstance(kind, UnionType):
            kind = next(k for k in get_args(kind) if k is not type(None))
        on = flag(name)
        declared = f"{on}/--no-{on.removeprefix('--')}" if kind is bool else on
        option = typer.Option(
            declared,
            metavar="|".join(CHOICES[name]) if name in CHOICES else METAVARS.get(kind),
            help=texts[name],
            rich_help_panel=panel,
            show_default=_shown(usual[name]) if name in usual else "by preset",
        )
        options[name] = Annotated[kind | None, option]
    return options


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@with_settings
def pretrain(
    *, out: Out = None, resume: Resume = None, dry_run: DryRun = False, **settings: Any
) -> None:
    """Pretrain an encoder: SimCLR, BYOL, MoCo v3, or SDSSL on one of them.

    Without arguments it lists the presets. A setting that is not given is what preset and recipe say;
    its default is shown where all of them agree.

    sdssl-bench pretrain --preset sd_mocov3_vit_s16 --data FOLDER --out runs/a
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not given and out is None and resume is None and not dry_run:
        if is_first():
            typer.echo(presets.overview())
        return
    if "preset" not in given:
        raise UsageError("--preset is needed; 'sdssl-bench pretrain' alone lists the presets.")
    from sdssl_bench.system import is_main_process

    config = presets.resolve(**given)
    if dry_run:
        from sdssl_bench.pretrain.run.plan import describe

        if is_main_process():
            typer.echo(describe(config))
        return
    if out is None:
        raise UsageError("--out is needed: the folder of the run.")
    from sdssl_bench.pretrain.run.stopping import Interrupted
    from sdssl_bench.pretrain.run.train import train

    try:
        path = train(config, out.expanduser(), resume=resume)
    except Interrupted as stopped:
        if is_main_process():
            typer.echo(stopped, err=True)
        raise typer.Exit(stopped.code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted at once; --resume auto goes on from the last snapshot", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if is_main_process():
        typer.echo(path)
