"""The terminal view of a diagnosis."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from sdssl_bench.checkpoints.doctor import Diagnosis


def renderable(diagnosis: "Diagnosis") -> "RenderableType":
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
    fixed = ", ".join(f"{name}*" for name in diagnosis.fixed)
    compared = (
        f"{len(diagnosis.untouched)} of {diagnosis.compared} tensors look freshly initialised"
        + (f"; fixed by design: {fixed}" if fixed else "")
    )
    return Group(
        Text(_verdict(diagnosis), style="bold"),
        *warnings,
        "",
        facts,
        "",
        Text("[CLS] of six photographs", style="italic"),
        _layers(diagnosis),
        "",
        Text(compared, style="italic"),
        _weights(diagnosis),
    )


def _verdict(diagnosis: "Diagnosis") -> str:
    model, layers = diagnosis.model, diagnosis.layers
    broken = [str(layer.layer) for layer in layers if layer.verdict != "ok"]
    state = f"layers {', '.join(broken)} broken" if broken else f"all {len(layers)} layers sound"
    return f"{model.name}: {diagnosis.weights}, {state}."


def _facts(diagnosis: "Diagnosis") -> Iterator[tuple[str, str]]:
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
    if known.get("epoch") is not None:
        yield "epoch", str(known["epoch"])
    if known.get("keys") is not None:
        dropped = ", ".join(f"{n} {prefix}*" for prefix, n in known["keys"]["dropped"].items())
        loaded = f"{known['keys']['loaded']} backbone tensors, 100 % of the architecture"
        yield "keys", loaded + (f"; left out: {dropped}" if dropped else "")
    yield "weights", model.weights_sha256
    if model.file_sha256:
        yield "file", model.file_sha256


def _weights(diagnosis: "Diagnosis") -> "Table":
    from rich.table import Table

    table = Table(box=None)
    table.add_column("tensors")
    for name in ("number", "look fresh", "std", "fresh std"):
        table.add_column(name, justify="right")
    for group in diagnosis.groups:
        table.add_row(
            group.name,
            str(group.tensors),
            str(group.untouched),
            f"{group.std:.4f}",
            f"{group.fresh_std:.4f}",
        )
    return table


def _layers(diagnosis: "Diagnosis") -> "Table":
    from rich.table import Table

    table = Table(box=None)
    table.add_column("layer", justify="right")
    table.add_column("finite")
    for name in ("length", "spread", "mean cosine"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for layer in diagnosis.layers:
        table.add_row(
            str(layer.layer),
            "yes" if layer.finite else "NO",
            f"{layer.length:.3f}",
            f"{layer.spread:.4f}",
            f"{layer.cosine:.4f}",
            layer.verdict,
        )
    return table
