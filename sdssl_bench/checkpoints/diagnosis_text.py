"""What `doctor` says, as text for a terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sdssl_bench.checkpoints.doctor import Diagnosis
from sdssl_bench.checkpoints.keys import listing
from sdssl_bench.system import Column, FittedTable

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(diagnosis: Diagnosis) -> "RenderableType":
    """The verdict and warnings, what `run` would do, facts, layers, comparison with a fresh start."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(diagnosis):
        facts.add_row(name, Text(value))
    warnings = [Text(f"Warning: {text}", style="bold yellow") for text in diagnosis.warnings]
    verdict = Text(_verdict(diagnosis), style="bold")
    return Group(verdict, *warnings, "", facts, "", _layers(diagnosis), "", _weights(diagnosis))


def _verdict(diagnosis: Diagnosis) -> str:
    model, layers = diagnosis.model, diagnosis.layers
    broken = [str(layer.layer) for layer in layers if layer.verdict != "ok"]
    state = f"layers {', '.join(broken)} broken" if broken else f"all {len(layers)} layers sound"
    return f"{model.name}: {diagnosis.weights}, {state}."


def _facts(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    model, run = diagnosis.model, diagnosis.run
    known = dict(model.details)
    others = [name for name in known.get("networks", []) if name != model.network]
    pre = run["preprocess"]
    yield (
        "run would",
        f"score the {model.network} network's {run['layers']} layers at {pre['size']} px, norm "
        f"'{run['norm']}', preprocessing {pre['id']} ({pre['resize_mode']} {pre['resize']}, "
        f"{pre['crop']} crop {pre['size']}, {pre['interpolation']})",
    )
    yield "checkpoint", model.uri
    yield "format", model.format
    yield "network", model.network + (f" (also there: {', '.join(others)})" if others else "")
    yield "architecture", f"{model.arch}, {known['depth']} layers of width {known['dims'][-1]}"
    if known.get("heads") is not None:
        source = known.get("heads_source", "fixed by the architecture")
        yield "heads", f"{known['heads']} ({source})"
        yield "patch", f"{known['patch_size']} px"
    if known.get("pos") is not None:
        table = "" if known.get("pos_embed") != "recomputed" else ", not stored: recomputed"
        yield "positions", f"{known['pos']}, made for {known['img_size']} px{table}"
    yield "[CLS]", known["cls_source"] + (f" ({known['cls_why']})" if "cls_why" in known else "")
    if known.get("stages"):
        pairs = zip(known["stages"], known["strides"], strict=True)
        yield "stages", ", ".join(f"{name} ({stride} px)" for name, stride in pairs)
    yield (
        "colours",
        (f"mean {_numbers(run['mean'])}, std {_numbers(run['std'])} ({known['colours_source']})"),
    )
    if known.get("epoch") is not None:
        yield "epoch", str(known["epoch"])
    if known.get("keys") is not None:
        dropped = ", ".join(f"{n} {prefix}*" for prefix, n in known["keys"]["dropped"].items())
        loaded = f"{known['keys']['loaded']} backbone tensors, 100 % of the architecture"
        yield "keys", loaded + (f"; left out: {dropped}" if dropped else "")
    if diagnosis.closed:
        yield "left closed", f"{listing(diagnosis.closed)} (nothing of it was run)"
    yield "weights", model.weights_sha256
    if model.file_sha256:
        yield "file", model.file_sha256


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _layers(diagnosis: Diagnosis) -> FittedTable:
    columns = [Column(name) for name in ("layer", "finite", "length", "spread", "mean cosine")]
    rows = []
    for one in diagnosis.layers:
        numbers = f"{one.length:.3f}", f"{one.spread:.4f}", f"{one.cosine:.4f}"
        rows.append([one.layer, "yes" if one.finite else "NO", *numbers, one.verdict])
    verdict = Column("verdict", left=True)
    return FittedTable([*columns, verdict], rows, title="[CLS] of six photographs")


def _weights(diagnosis: Diagnosis) -> FittedTable:
    columns = [Column(name) for name in ("number", "look fresh", "std", "fresh std")]
    rows = [
        [one.name, one.tensors, one.untouched, f"{one.std:.4f}", f"{one.fresh_std:.4f}"]
        for one in diagnosis.groups
    ]
    fixed = ", ".join(f"{name}*" for name in diagnosis.fixed)
    fresh = f"{len(diagnosis.untouched)} of {diagnosis.compared} tensors look freshly initialised"
    title = fresh + (f"; fixed by design: {fixed}" if fixed else "")
    return FittedTable([Column("tensors", left=True), *columns], rows, title=title)
