"""Stored results to an experiment tracker; evaluation itself knows none.

A run an encoder, a chart a benchmark and metric over the layers: its step is the layer, its values are
fractions, and the ends of the 95 % interval are charts beside it, named "... low" and "... high". In
tensorboard the tab "Custom scalars" draws each as one curve with its band.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdssl_bench.api.reading import Folder, Names, Source, chosen, read, warn
from sdssl_bench.errors import DataError, TaskError, UsageError, did_you_mean
from sdssl_bench.records import digest, plain, slug
from sdssl_bench.reports import Part, Shown, collect
from sdssl_bench.system import shortened

TRACKERS = ("wandb", "trackio", "tensorboard")
PROJECT, FOLDER = "sdssl-bench", "tensorboard"
TAG = 64
"""Characters that wandb takes."""
SUFFIX = ".sdssl-bench"
"""Of event files; those of an earlier export are replaced, others stay."""
ENDS = {"value": "", "low": " low", "high": " high"}

Log = Callable[[int, Mapping[str, float]], None]
"""Takes a layer and its values by the name of their chart."""


class Sent(Shown):
    """What was sent.

    Attributes:
        lines: a line for each run, then what was left out.
        damaged: why records are left out.
    """

    def __init__(self, lines: Sequence[str], damaged: list[DataError]) -> None:
        self.lines, self.damaged = list(lines), damaged

    def shown(self) -> Sequence[Part]:
        """What `export` prints."""
        return self.lines


def export(
    tracker: str,
    results: Source = None,
    *,
    task: Names = None,
    dataset: Names = None,
    model: Names = None,
    include_limited: bool = False,
    project: str | None = None,
    out: Folder | None = None,
) -> Sent:
    """Send stored results to a tracker.

    Args:
        tracker: one of `TRACKERS`, whose package is installed.
        results: folders, or results at hand; None is $SDSSL_BENCH_RESULTS, or ./results.
        task: only these tasks.
        dataset: only these datasets.
        model: only these models.
        include_limited: send trials made under --limit too, labelled.
        project: of wandb and trackio; None is `PROJECT`.
        out: folder of tensorboard's event files, one in it an encoder; None is `FOLDER`.

    Raises:
        UsageError: for an unknown tracker, one that is not installed, or a setting it does not have.
        DataError: if there is nothing to send, no result has a name given, or records or their per-item
            scores are damaged.
        TaskError: if the tracker refuses a run.
    """
    if tracker not in TRACKERS:
        raise UsageError(did_you_mean("tracker", tracker, TRACKERS))
    files = tracker == "tensorboard"
    if (project if files else out) is not None:
        name = "--project" if files else "--out"
        raise UsageError(f"{name} has no effect on {tracker}. Leave it out.")
    _check_installed(tracker)
    found, damaged = read(results)
    warn(damaged)
    data = collect(chosen(found, damaged, task, dataset, model), include_limited=include_limited)
    place = str(out or FOLDER) if files else project or PROJECT
    lines = []
    for number, encoder in enumerate(data["encoders"]):
        layers, tags = _charts(data, number)
        about = {**encoder, "sdssl_bench": data["about"]["sdssl_bench"]}
        with START[tracker](place, about, tags) as log:
            for layer in sorted(layers):
                log(layer, layers[layer])
        charts = {name for values in layers.values() for name in values}
        lines.append(f"{plain(encoder['label'])}: {len(layers)} layers, {len(charts)} charts")
    if files:
        lines.append(f"wrote {place}; see it with: tensorboard --logdir {place}")
    else:
        lines.append(f"sent to the project {place} of {tracker}")
    return Sent([*lines, *data["about"]["left_out"]], damaged)


def _check_installed(tracker: str) -> None:
    found = importlib.util.find_spec(tracker)
    # A folder that the tracker writes, `wandb`, is no package of that name.
    if found is None or found.origin is None:
        raise UsageError(
            f"export {tracker} needs the package {tracker}, which is not installed: "
            f"pip install {tracker}."
        )


def _charts(
    data: Mapping[str, Any], encoder: int
) -> tuple[dict[int, dict[str, float]], dict[str, None]]:
    """Layer -> chart -> value of one encoder, and its tasks in order."""
    layers: dict[int, dict[str, float]] = {}
    tasks: dict[str, None] = {}
    for result in data["results"]:
        if result["encoder"] != encoder:
            continue
        benchmark = data["benchmarks"][result["benchmark"]]
        tasks[benchmark["task"]] = None
        for metric, curve in result["metrics"].items():
            for part, mark in ENDS.items():
                for layer, value in zip(result["layers"], curve.get(part, ()), strict=False):
                    if value is not None:
                        chart = f"{benchmark['label']}/{metric}{mark}"
                        layers.setdefault(layer, {})[chart] = value
    return layers, tasks


def _tags(about: Mapping[str, Any], tasks: Mapping[str, None]) -> list[str]:
    return [
        shortened(tag, TAG)
        for tag in dict.fromkeys([PROJECT, about["arch"], about["network"], *tasks])
    ]


@contextmanager
def _refusing(tracker: str) -> Iterator[None]:
    """What goes wrong in a tracker, such as no account, is its sentence and no traceback."""
    try:
        yield
    except Exception as error:
        raise TaskError(
            f"{tracker} refused the run: {str(error).strip() or repr(error)}"
        ) from error


@contextmanager
def _wandb(place: str, about: Mapping[str, Any], tasks: Mapping[str, None]) -> Iterator[Log]:
    wandb: Any = importlib.import_module("wandb")
    with _refusing("wandb"):
        run = wandb.init(
            project=place, name=about["label"], config=dict(about), tags=_tags(about, tasks)
        )
    run.define_metric("layer")
    run.define_metric("*", step_metric="layer")
    try:
        yield lambda layer, values: run.log({"layer": layer, **values}, step=layer)
    finally:
        run.finish()


@contextmanager
def _trackio(place: str, about: Mapping[str, Any], tasks: Mapping[str, None]) -> Iterator[Log]:
    trackio: Any = importlib.import_module("trackio")
    config = {**about, "tags": _tags(about, tasks)}  # trackio has none of its own
    with _refusing("trackio"):
        trackio.init(project=place, name=about["label"], config=config)
    try:
        yield lambda layer, values: trackio.log(dict(values), step=layer)
    finally:
        trackio.finish()


@contextmanager
def _tensorboard(place: str, about: Mapping[str, Any], tasks: Mapping[str, None]) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    label = about["label"]
    # Names that are the same as a file's get folders of their own all the same.
    name = label if slug(label) == label else f"{slug(label)}-{digest(label)[:8]}"
    folder = Path(place).expanduser() / name
    with _refusing("tensorboard"):
        for earlier in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
            earlier.unlink()
        writer = SummaryWriter(str(folder), filename_suffix=SUFFIX)
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    writer.add_text("encoder", f"{facts}\n- tags: {', '.join(_tags(about, tasks))}")
    charts: dict[str, None] = {}

    def log(layer: int, values: Mapping[str, float]) -> None:
        for chart, value in values.items():
            charts[chart] = None
            writer.add_scalar(chart, value, layer)

    try:
        yield log
    finally:
        bands: dict[str, dict[str, list[Any]]] = {}
        for chart in charts:
            ends = [chart, *(f"{chart}{ENDS[end]}" for end in ("low", "high"))]
            if set(ends) <= charts.keys():
                benchmark, _, metric = chart.partition("/")
                bands.setdefault(benchmark, {})[metric] = ["Margin", ends]
        if bands:
            writer.add_custom_scalars(bands)
        writer.close()


START = {"wandb": _wandb, "trackio": _trackio, "tensorboard": _tensorboard}
