"""Records that cannot be shown: named on stderr, and an exit code of 1 once the rest was shown."""

from collections.abc import Sequence

import typer

from sdssl_bench.errors import DataError

PART = 1
"""Exit code where something is left out."""


def name(damaged: Sequence[DataError]) -> None:
    """Say what is left out, and why."""
    for error in damaged:
        typer.echo(f"warning: left out: {error}", err=True)


def leave(damaged: Sequence[DataError]) -> None:
    """End the command with what tells scripts that records were left out, if any were."""
    if damaged:
        typer.echo(f"{len(damaged)} damaged records are left out, see above.", err=True)
        raise typer.Exit(PART)
