"""Records that cannot be shown: named on stderr, and an exit code of 1 once the rest was shown."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from sdssl_bench.errors import DataError

PART = 1
"""Exit code where something is left out."""


@contextmanager
def named_below() -> Iterator[None]:
    """Without the warnings of Python's functions: `name` says the same, `leave` ends with it."""
    from sdssl_bench.api import LeftOut

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOut)
        yield


def name(damaged: Sequence[DataError]) -> None:
    """Say what is left out, and why."""
    for error in damaged:
        typer.echo(f"warning: left out: {error}", err=True)


def leave(damaged: Sequence[DataError]) -> None:
    """End the command with what tells scripts that records were left out, if any were."""
    if damaged:
        typer.echo(f"{len(damaged)} damaged records are left out, see above.", err=True)
        raise typer.Exit(PART)
