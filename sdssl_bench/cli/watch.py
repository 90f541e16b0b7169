"""`sdssl-bench watch`: evaluates every encoder that a pretraining run writes, as it appears."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sdssl_bench.cli import options as opt

WHAT = "What to score"
FINAL = "encoder.safetensors"
"""Written last: when it is there and scored, the run is over."""


def watch(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder of the run (--out of pretraining).")
    ],
    *,
    dataset: Annotated[
        list[str] | None,
        opt.option(
            WHAT,
            "Dataset(s), or folder:PATH, csv:.., hf:...",
            "--dataset",
            "-d",
            takes="LIST",
            default="the run's --knn",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        opt.option(
            WHAT,
            "Task(s), paired with datasets as by run.",
            "--task",
            "-t",
            takes="LIST",
            default="weighted k-NN",
        ),
    ] = None,
    every: Annotated[
        float,
        opt.option(WHAT, "Time between looks.", takes="SECONDS"),
    ] = 30.0,
    once: Annotated[
        bool,
        opt.option(WHAT, "Score what is there and stop, do not wait.", "--once"),
    ] = False,
    data_root: opt.DataRoot = None,
    device: opt.Device = "auto",
    out: Annotated[
        Path | None,
        opt.option(opt.OUTPUT, "Records.", "--out", "-o", takes="DIR", default="RUN_DIR/results"),
    ] = None,
) -> None:
    """Score each new checkpoint of a run on all layers; stop and start again at will.

    Layers that are scored already are not scored again. Ends when the finished run's last encoder is
    scored.
    """
    from sdssl_bench import api
    from sdssl_bench.cli.running import check_device
    from sdssl_bench.errors import DataError
    from sdssl_bench.system import is_heard
    from sdssl_bench.tasks import first_task

    run_dir = run_dir.expanduser()
    if not run_dir.is_dir():
        raise DataError(f"Expected the folder of a pretraining run at {run_dir}, found none.")
    tasks = opt.comma_list("--task", task) or [first_task()]
    datasets = opt.comma_list("--dataset", dataset) or _of_run(run_dir)
    seen: set[Path] = set()
    while True:
        finished = (run_dir / FINAL).exists()
        for path in sorted((run_dir / "encoders").glob("*.safetensors")):
            if path in seen:
                continue
            found = api.evaluate(
                api.load_encoder(str(path)),
                tasks,
                datasets,
                results=out or run_dir / "results",
                data_root=data_root,
                device=check_device(device),
            )
            seen.add(path)
            for record in found:
                typer.echo(f"{path.stem} {_line(record)}")
        if not is_heard():
            return
        if finished or once:
            if not seen:
                raise DataError(f"{run_dir} holds no encoder yet (encoders/*.safetensors).")
            return
        time.sleep(every)


def _line(record: Mapping[str, Any]) -> str:
    from sdssl_bench.records import plain
    from sdssl_bench.rounding import percent

    benchmark = f"{record['task']} {plain(record['dataset']['name'])}"
    if not record.get("ranked", True):
        return f"{benchmark} {len(record['layers'])} layers described"
    scores = " ".join(
        f"{layer}:{percent(entry['metrics'][record['headline']])}"
        for layer, entry in record["layers"].items()
    )
    return f"{benchmark} by layer {scores}"


def _of_run(run_dir: Path) -> list[str]:
    """The dataset that the run itself scores k-NN on."""
    from sdssl_bench.errors import UsageError

    config = run_dir / "config.json"
    named = json.loads(config.read_text()).get("knn") if config.is_file() else None
    if not named:
        raise UsageError(
            f"Name the data with --dataset: the run in {run_dir} has no --knn of its own."
        )
    return [named]
