"""What `run` does once its options are read: plan, run every pair, show the layers, sum up."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sdssl_bench.encoders import Encoder, check_layers, parse_layers
from sdssl_bench.errors import DataError, UsageError, UserError, did_you_mean
from sdssl_bench.parameters import parse_value
from sdssl_bench.records import ResultStore
from sdssl_bench.reports import layer_table, result_line
from sdssl_bench.runner import Outcome, record_head, run
from sdssl_bench.statistics import Interval, record_intervals
from sdssl_bench.system import is_main_process, show
from sdssl_bench.task import RunContext, Task


def check_device(device: str) -> str:
    """The device string, proven to name a device that is there.

    Raises:
        UsageError: if torch does not know it or the machine lacks it.
    """
    import torch

    if device == "auto":
        return device
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device takes auto, cpu, cuda or cuda:N; found '{device}'.") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"--device {device} was asked for, this machine has {found} CUDA devices.")
    return device


def dataset_names(task: Task, names: Sequence[str]) -> list[str]:
    """The datasets asked for, "all" expanded, each known to the task.

    Raises:
        UsageError: if none is given or one is unknown.
    """
    known = list(task.datasets)
    if not names and not task.default_datasets:
        folder = ", folder:PATH" if task.accepts_folder else ""
        raise UsageError(
            f"Task {task.name} needs --dataset: {', '.join(known)}{folder}, or all of them: all."
        )
    chosen = names or task.default_datasets
    expanded = [one for name in chosen for one in (known if name == "all" else [name])]
    for name in expanded:
        folder_ok = name.startswith("folder:") and task.accepts_folder
        if name not in known and not folder_ok:
            raise UsageError(did_you_mean(f"dataset of {task.name}", name, [*known, "all"]))
    return list(dict.fromkeys(expanded))


def wanted_layers(encoder: Encoder, text: str | None, *, all_layers: bool) -> list[int]:
    """Layers from --layers or --all-layers; the last one if neither is given.

    Raises:
        UsageError: if both are given or a layer does not exist.
    """
    if all_layers and text:
        raise UsageError("--all-layers and --layers exclude each other.")
    if all_layers:
        return list(range(1, encoder.depth + 1))
    if text:
        return parse_layers(text, encoder.depth)
    return check_layers([encoder.depth], encoder.depth)


_ARTIFACT_OPTIONS = {
    "masks": "--save-masks",
    "strips": "--strips",
    "csv": "--csv-dir",
    "gallery": "--gallery",
    "panels": "--panels",
}


def artifact_folders(
    asked: Mapping[str, Path | None], pairs: Sequence[tuple[Task, str]], *, overwrite: str
) -> dict[str, Path]:
    """The folders to write masks, strips and tables to, each made and proven to be writable.

    Raises:
        UsageError: if the task writes no such thing, several runs would share a folder, stored
            layers may not be run again, or a folder cannot be written to.
    """
    folders: dict[str, Path] = {}
    for kind, folder in asked.items():
        if folder is None:
            continue
        option = _ARTIFACT_OPTIONS[kind]
        if len(pairs) != 1 or kind not in getattr(pairs[0][0], "artifacts", ()):
            named = ", ".join(f"{task.name} on {name}" for task, name in pairs)
            raise UsageError(
                f"{option} goes with one task that writes {kind}, on one dataset; asked "
                f"for: {named}."
            )
        if overwrite == "never":
            raise UsageError(f"{option} runs the layers again; --overwrite never forbids that.")
        folders[kind] = folder.expanduser()
        try:
            folders[kind].mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folders[kind]):
                pass
        except OSError as error:
            raise UsageError(f"{option} takes a folder to write to, found: {error}.") from error
    return folders


def input_folders(
    asked: Mapping[str, Path | None], pairs: Sequence[tuple[Task, str]]
) -> dict[str, Path]:
    """The folders of further images, each proven to be one that all tasks take.

    Raises:
        UsageError: if a task would ignore one.
        DataError: if one is no folder.
    """
    folders: dict[str, Path] = {}
    for kind, folder in asked.items():
        if folder is None:
            continue
        for task, _ in pairs:
            if kind not in getattr(task, "inputs", ()):
                raise UsageError(f"--{kind} has no effect on task {task.name}. Leave it out.")
        folders[kind] = folder.expanduser()
        if not folders[kind].is_dir():
            raise DataError(f"--{kind} takes a folder of images, found none at {folder}.")
    return folders


def second_encoder(
    uri: str | None,
    options: Mapping[str, str],
    pairs: Sequence[tuple[Task, str]],
    *,
    norm: str | None,
) -> Encoder | None:
    """The encoder of --against; None if the option was not given.

    Args:
        uri: as --ckpt.
        options: of --against-set: network, arch, heads, patch_size, img_size, norm.
        pairs: tasks and datasets, all of which must compare two encoders.
        norm: of --norm, unless `options` has one: layers of two encoders are compared alike.

    Raises:
        UsageError: if a task would ignore it, or an option does not exist.
    """
    if uri is None:
        if options:
            raise UsageError("--against-set has no effect without --against.")
        return None
    for task, _ in pairs:
        if "against" not in getattr(task, "inputs", ()):
            raise UsageError(f"--against has no effect on task {task.name}. Leave it out.")
    from sdssl_bench import checkpoints

    kinds: dict[str, Any] = {
        "network": str, "arch": str, "heads": int, "patch_size": int, "img_size": int, "norm": str,
    }  # fmt: skip
    values: dict[str, Any] = {"norm": norm}
    for key, text in options.items():
        if key not in kinds:
            raise UsageError(did_you_mean("option of --against-set", key, kinds))
        values[key] = parse_value(f"--against-set {key}", text, kinds[key])
    return checkpoints.load(uri, **values)


def print_plan(
    encoder: Encoder,
    pairs: Sequence[tuple[Task, str]],
    layers: Sequence[int],
    *,
    ctx: RunContext,
    out: Path,
) -> None:
    """Print per task and dataset: images, layers to score, layers stored, where the record lies."""
    store = ResultStore(out.expanduser())
    for task, name in pairs:
        data = task.load_data(name, ctx)
        head = record_head(encoder, task, data, ctx=ctx)
        stored = (store.find(head) or {"layers": {}})["layers"]
        todo = [layer for layer in layers if str(layer) not in stored]
        images = sum(head["dataset"]["splits"].values())
        typer.echo(
            f"{head['protocol']['id']}@{head['protocol']['version']} on {name} "
            f"({head['dataset']['variant']}, {images:,} images): {len(todo)} layers to score, "
            f"{len(layers) - len(todo)} stored -> {store.path(head)}"
        )


def run_all(
    encoder: Encoder,
    pairs: Sequence[tuple[Task, str]],
    layers: Sequence[int],
    *,
    ctx: RunContext,
    out: Path,
    overwrite: str,
    wide: bool = False,
) -> int:
    """Run every (task, dataset); one that fails does not stop the others.

    One pair shows its tables; of several each is a line as it arrives, unless `wide`.

    Returns:
        0, or 1 if a task failed, or 3 if only data were missing. A single pair raises its error.
    """
    store = ResultStore(out)
    failures: list[UserError] = []
    for task, name in pairs:
        try:
            outcome = run(
                encoder, task, name, layers=layers, ctx=ctx, store=store, overwrite=overwrite
            )
            if is_main_process():
                path = store.path(outcome.record)
                # Drawn from the stored items, so they also prove the numbers that are shown.
                intervals = record_intervals(outcome.record, path)
                if wide or len(pairs) == 1:
                    show_result(task, outcome, layers, path, intervals=intervals, wide=wide)
                else:
                    typer.echo(result_line(outcome.record))
        except UserError as error:
            if len(pairs) == 1:
                raise
            failures.append(error)
            if is_main_process():
                typer.echo(f"error: {task.name} on {name}: {error}", err=True)
    if is_main_process() and len(pairs) > 1:
        typer.echo(
            f"last layer (best at), curve over layers; records: {store.root}; --wide: tables"
        )
    if not failures:
        return 0
    if is_main_process():
        typer.echo(f"{len(failures)} of {len(pairs)} failed, the others are stored.", err=True)
    return DataError.exit_code if all(isinstance(e, DataError) for e in failures) else 1


def show_result(
    task: Task,
    outcome: Outcome,
    layers: Sequence[int],
    path: Path,
    *,
    intervals: Mapping[int, Interval],
    wide: bool = False,
) -> None:
    """Print a result: the layers with their intervals, what else the task shows, and its file."""
    table = layer_table(outcome.record, layers, reused=outcome.reused, intervals=intervals)
    show(table, wide=wide)
    # A task with more to show than its layers has a method `tables`.
    more = getattr(task, "tables", lambda record, path: ())
    for one in more(outcome.record, path):
        show(one, wide=wide)
    typer.echo(f"record: {path}")
