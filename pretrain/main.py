"""Command line of pretraining.

accelerate launch pretrain/main.py --preset sd_mocov3_vit_s16 --data imagenet/train --out runs/a
accelerate launch -m sdssl_bench.pretrain.main ...         (installed)
python pretrain/main.py --preset sd_mocov3_vit_tiny_p8 --data cifar10 --data-root data --out runs/b
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

if __package__ in (None, ""):  # accelerate launch puts pretrain/, not the checkout, on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sdssl_bench.errors import UserError
from sdssl_bench.pretrain.config import CHOICES, PretrainConfig, flag
from sdssl_bench.pretrain.presets import PRESETS, RECIPES, resolve
from sdssl_bench.system import launching

INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Flags of all settings; what is not given stays what preset and recipe say."""
    parser = argparse.ArgumentParser(
        prog="pretrain", allow_abbrev=False, description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--preset", required=True, help=", ".join(PRESETS), metavar="NAME")
    parser.add_argument(
        "--recipe", default="paper", choices=tuple(RECIPES), help="whose choices to follow"
    )
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--resume", metavar="auto|FILE", help="go on from a snapshot")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    documentation = _documentation()
    hints = get_type_hints(PretrainConfig)
    for field in fields(PretrainConfig):
        if field.name in ("preset", "recipe"):
            continue
        kind: Any = hints[field.name]
        if isinstance(kind, UnionType):
            kind = next(k for k in get_args(kind) if k is not type(None))
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": documentation[field.name]}
        if kind is bool:
            parser.add_argument(flag(field.name), action=argparse.BooleanOptionalAction, **options)
        else:
            choices = CHOICES.get(field.name)
            metavar = "|".join(choices) if choices else kind.__name__.upper()
            parser.add_argument(flag(field.name), type=kind, metavar=metavar, **options)
    return parser


def _documentation() -> dict[str, str]:
    """Descriptions of the settings, from the configuration's docstring."""
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in (PretrainConfig.__doc__ or "").splitlines():
        head, colon, rest = line.strip().partition(": ")
        if colon and line.startswith(" " * 8) and not line.startswith(" " * 9):
            names = head.split(", ")
            texts |= dict.fromkeys(names, rest)
        elif line.startswith(" " * 12):
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return {name: text.replace("%", "%%") for name, text in texts.items()}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = build_parser()
    settings = vars(parser.parse_args(arguments))
    out, resume = settings.pop("out"), settings.pop("resume")
    dry = settings.pop("dry_run")
    try:
        launching.join()
        config = resolve(settings.pop("preset"), settings.pop("recipe"), **settings)
        if dry:
            from sdssl_bench.pretrain.plan import describe

            sys.stdout.write(describe(config) + "\n")
            return 0
        if out is None:
            parser.error("--out is needed: the folder of the run")
        from sdssl_bench.pretrain.stopping import Interrupted
        from sdssl_bench.pretrain.train import train
        from sdssl_bench.system import is_main_process

        try:
            path = train(config, out.expanduser(), resume=resume)
        except Interrupted as stopped:
            if is_main_process():
                sys.stderr.write(f"{stopped}\n")
            return stopped.code
        if is_main_process():
            sys.stdout.write(f"{path}\n")
        return 0
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted at once; --resume auto goes on from the last snapshot\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
