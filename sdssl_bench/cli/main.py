"""The command line, one module of `commands` per command.

Only typer is imported here; every command imports what it needs when it runs, so `--help` is fast.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sdssl_bench._version import __version__
from sdssl_bench.cli import (
    cache,
    compare,
    data,
    doctor,
    export,
    leaderboard,
    listing,
    multi_exit,
    pretrain,
    quickstart,
    report,
    reproduce,
    run,
    score,
    sweep,
    watch,
)
from sdssl_bench.cli.help import App, Group
from sdssl_bench.errors import UserError
from sdssl_bench.system import include as add_file
from sdssl_bench.system import launching, lifetime, streams

INTERRUPTED = 130
INCLUDE = "--include"


class Commands(Group):
    """Turns the errors a user can mend into one message and an exit code, without traceback."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run a command line; SIGTERM stops it, and no character or closed pipe of its output."""
        with lifetime.stopping(), streams.kind_streams():
            return super().main(*args, **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before a command, and --include wherever it stands."""
        return super().parse_args(ctx, _include_first(args))

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except UserError as error:
            raise _reported(error) from None
        except lifetime.Terminated:
            if launching.is_first():
                typer.echo(f"terminated: {lifetime.STOPPED}", err=True)
            raise typer.Exit(lifetime.TERMINATED) from None
        except KeyboardInterrupt:
            if launching.is_first():
                typer.echo(f"interrupted: {lifetime.STOPPED}", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            from sdssl_bench.system import refused

            raise _reported(refused(error)) from None
        except Exception as error:  # a wrong option, or a bug
            if isinstance(error, RuntimeError):
                from sdssl_bench.system import lost_process

                if lost := lost_process():
                    typer.echo(f"error: {lost} has ended: {lifetime.STOPPED}", err=True)
                    raise typer.Exit(1) from None
            launching.let_first_speak()
            raise


def _reported(error: UserError) -> typer.Exit:
    launching.let_first_speak()
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(error.exit_code)


app = App(
    cls=Commands,
    help="How good is every layer of a self-supervised vision encoder, on every task?",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
    epilog="Pages to read, from the first curve to your own task: sdssl-bench ls pages. "
    "Exit codes: 0 ok, 1 a task failed (others saved), 2 usage, "
    "3 data or weights missing or unverified, 4 worse (compare --fail-if-worse), 130 interrupted, "
    "143 terminated.",
)


def _include_first(args: list[str]) -> list[str]:
    """What a file adds is there before the options of `run` are made, so it is read before the command."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == INCLUDE:
            value = next(words, "")
            if not value:
                raise typer.BadParameter(f"{INCLUDE} takes a Python file, found an empty text.")
            first += [word, value]
        else:
            (first if word.startswith(f"{INCLUDE}=") else rest).append(word)
    return first + rest


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sdssl-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    include: Annotated[
        list[Path],
        typer.Option(
            INCLUDE,
            metavar="PATH",
            help="A file of yours with a Task, a DatasetSpec or a Style; also after a command. May be "
            "repeated.",
            show_default="none",
        ),
    ] = [],  # noqa: B006
) -> None:
    for path in include:
        add_file(path)
    lifetime.end_with_launcher()
    launching.join()


BEGIN, SCORE, RESULTS = "Begin", "Score", "Results"
app.command("quickstart", rich_help_panel=BEGIN)(quickstart.quickstart)
app.command("doctor", rich_help_panel=BEGIN)(doctor.doctor)
app.add_typer(
    data.app,
    name="data",
    help="Check datasets, show their layout, make miniatures.",
    rich_help_panel=BEGIN,
)
app.command("ls", rich_help_panel=BEGIN)(listing.ls)
app.command("show", rich_help_panel=BEGIN)(listing.show)
app.command("run", cls=run.RunCommand, rich_help_panel=SCORE)(run.run)
app.add_typer(
    score.app,
    name="score",
    help="Score features or masks that come from anywhere.",
    rich_help_panel=SCORE,
)
app.command("sweep", rich_help_panel=SCORE)(sweep.sweep)
app.command("pretrain", rich_help_panel=BEGIN)(pretrain.pretrain)
app.command("watch", rich_help_panel=SCORE)(watch.watch)
app.command("leaderboard", rich_help_panel=RESULTS)(leaderboard.leaderboard)
app.command("report", rich_help_panel=RESULTS)(report.report)
app.command("export", rich_help_panel=RESULTS)(export.export)
app.command("compare", rich_help_panel=RESULTS)(compare.compare)
app.command("explain", rich_help_panel=RESULTS)(compare.explain)
app.command("multi-exit", rich_help_panel=RESULTS)(multi_exit.multi_exit)
app.command("reproduce", rich_help_panel=RESULTS)(reproduce.reproduce)
app.add_typer(
    cache.app,
    name="cache",
    help="The feature cache: list, measure, remove.",
    rich_help_panel=RESULTS,
)


def start(*before: str) -> None:
    """Run the command line of this process; `before` stands before what was typed."""
    with lifetime.without_finalisation():
        app([*before, *sys.argv[1:]], prog_name="sdssl-bench")
