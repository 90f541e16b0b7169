"""`sdssl-bench multi-exit`: what stopping at a layer costs in score and gives in speed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench.cli import options as opt
from sdssl_bench.errors import DataError, UsageError

if TYPE_CHECKING:
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.probes import ExitReport
    from sdssl_bench.system import FittedTable


@opt.with_encoder_options
def multi_exit(
    record: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORD", help="Records that hold all layers (results/runs/.../*.json)."
        ),
    ],
    ckpt: Annotated[
        str | None,
        opt.option(
            opt.ENCODER,
            "Measure images/s of this checkpoint, cut at each layer.",
            "--ckpt",
            "-c",
            takes="CKPT",
            default="none",
        ),
    ] = None,
    within: Annotated[
        float,
        opt.option("What to show", "Below the last layer that count as none.", takes="POINTS"),
    ] = 1.0,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    batch_size: opt.BatchSize = "auto",
    *,
    encoder: dict[str, Any],
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Best layer, area under the layer curve, the earliest layer that is as good as the last.

    sdssl-bench multi-exit results/runs/x/linear-cifar100-*.json --ckpt x.pth
    """
    from json import dumps

    from sdssl_bench.probes import exit_report
    from sdssl_bench.records import record_title
    from sdssl_bench.statistics import read_proven
    from sdssl_bench.system import show

    opt.choice("--dtype", dtype, ("float32", "bfloat16", "float16"))
    if within < 0:
        raise UsageError(f"--within is a number of points from 0, found {within}.")
    records = [read_proven(path, items=False) for path in record]
    reports = [exit_report(one, within=within / 100) for one in records]
    speed: dict[int, float] | None = None
    if ckpt is not None:
        from sdssl_bench import checkpoints

        loaded = checkpoints.load(ckpt, **encoder)
        speed = _measure(loaded, records, device=device, dtype=dtype, batch_size=batch_size)
    if json:
        typer.echo(dumps([_as_json(r, speed) for r in reports], indent=1))
        return
    for one, report in zip(records, reports, strict=True):
        show(_table(record_title(one), report, speed), wide=wide)
        for line in _sentences(report, speed):
            typer.echo(line)


def _measure(
    encoder: "Encoder",
    records: list[dict[str, Any]],
    *,
    device: str,
    dtype: str,
    batch_size: str,
) -> dict[int, float]:
    import torch

    from sdssl_bench.cli.running import check_device
    from sdssl_bench.features import automatic_batch_size
    from sdssl_bench.probes import throughput
    from sdssl_bench.system import resolve_device

    assert encoder.info is not None
    for one in records:
        if "point" in one["model"]:
            raise UsageError(
                f"An encoder stops after a block, and {one['protocol']['id']} on {one['dataset']['name']} is "
                f"of the {one['model']['point']} inside. Leave --ckpt out, or give the record of the blocks."
            )
        found = one["model"]["weights_sha256"]
        if found != encoder.info.weights_sha256:
            raise DataError(
                f"--ckpt is not the model of the record {one['protocol']['id']} on "
                f"{one['dataset']['name']}: expected weights {found[:12]}, found "
                f"{encoder.info.weights_sha256[:12]}. Give the checkpoint that was scored, and the "
                "--network."
            )
    where = resolve_device(check_device(device))
    batch = opt.batch_size(batch_size) or automatic_batch_size(
        encoder.input_size, torch.device(where)
    )
    return throughput(encoder, device=where, batch_size=batch, dtype=dtype)


def _as_json(report: "ExitReport", speed: dict[int, float] | None) -> dict[str, Any]:
    return {
        **vars(report),
        "curve": {str(layer): value for layer, value in report.curve.items()},
        "images_per_second": speed and {str(layer): value for layer, value in speed.items()},
    }


def _table(title: str, report: "ExitReport", speed: dict[int, float] | None) -> "FittedTable":
    from sdssl_bench.rounding import percent, points
    from sdssl_bench.system import Column, FittedTable

    names = ["layer", report.metric, "to last", *(["images/s", "speed-up"] if speed else [])]
    rows = []
    for layer, value in report.curve.items():
        cells = [layer, percent(value), points(value - report.curve[report.last])]
        if speed:
            cells += [f"{speed[layer]:,.1f}", f"{speed[layer] / speed[report.last]:.2f} x"]
        rows.append(cells)
    return FittedTable([Column(name) for name in names], rows, title=title)


def _sentences(report: "ExitReport", speed: dict[int, float] | None) -> list[str]:
    from sdssl_bench.rounding import percent

    value = {layer: percent(number) for layer, number in report.curve.items()}
    lines = [f"best layer       {report.best} ({value[report.best]}), selected on test"]
    if report.best_on_validation is not None:
        chosen = report.best_on_validation
        lines.append(f"best by val      {chosen} ({value[chosen]} on test)")
    lines += [
        f"area under curve {percent(report.area)}, mean height from layer 1 to {report.last}",
        f"earliest layer within {100 * report.within:g} points of the last: {report.earliest} "
        f"({value[report.earliest]} against {value[report.last]})",
    ]
    if speed:
        gain = speed[report.earliest] / speed[report.last]
        lines.append(
            f"exiting there: {speed[report.earliest]:,.1f} images/s, {gain:.2f} x the whole encoder, "
            "measured now"
        )
    return lines
