"""`sdssl-bench cache`: what the feature cache holds, how much, and removing it."""

from typing import Annotated

import typer

from sdssl_bench.commands import options as opt
from sdssl_bench.commands.help import App

app = App()


@app.command("ls")
def ls(cache_dir: opt.CacheDir = None, wide: opt.Wide = False, json: opt.Json = False) -> None:
    """List the feature banks: model, dataset, layers, rows, size, complete or not."""
    from json import dumps

    from sdssl_bench.features import cache
    from sdssl_bench.paths import default_cache
    from sdssl_bench.tables import cache_table
    from sdssl_bench.terminal import show

    entries = cache.ls(cache_dir or default_cache())
    if json:
        typer.echo(dumps([entry.to_json() for entry in entries], indent=1))
    else:
        show(cache_table(entries), wide=wide)


@app.command("du")
def du(cache_dir: opt.CacheDir = None) -> None:
    """Total size of the feature cache."""
    from sdssl_bench.features import cache
    from sdssl_bench.paths import default_cache
    from sdssl_bench.tables import size

    folder = cache_dir or default_cache()
    typer.echo(f"{size(cache.du(folder))}  {folder}")


@app.command("rm")
def rm(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY", help="Keys (or their beginnings) from 'cache ls'.", show_default="none"
        ),
    ] = None,
    all_entries: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    older_than_days: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS", min=0, help="Only banks not used for so long.", show_default="any"
        ),
    ] = None,
    cache_dir: opt.CacheDir = None,
) -> None:
    """Remove feature banks; one that a running job holds is left alone."""
    from sdssl_bench.errors import UsageError
    from sdssl_bench.features import cache
    from sdssl_bench.paths import default_cache
    from sdssl_bench.tables import size

    if not keys and not all_entries and older_than_days is None:
        raise UsageError("cache rm needs keys, --all, or --older-than-days N.")
    removed = cache.rm(
        cache_dir or default_cache(), keys=keys or None, older_than_days=older_than_days
    )
    total = sum(entry.bytes for entry in removed)
    typer.echo(f"removed {len(removed)} entries, {size(total)}")
