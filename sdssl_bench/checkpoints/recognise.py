"""Second step: whose checkpoint it is, and which of its networks is evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.checkpoints.keys import State, as_state, listing
from sdssl_bench.checkpoints.layouts import LAYOUTS
from sdssl_bench.checkpoints.native import FORMAT, METADATA_KEY, read_header
from sdssl_bench.checkpoints.read import Contents
from sdssl_bench.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Release:
    """A recognised checkpoint.

    Attributes:
        format: whose it is: a layout's, "sdssl-bench", "timm" or "custom".
        source: what messages call it.
        network: the one that is evaluated.
        networks: all that could be.
        state: backbone tensors under their timm names (plus whatever nobody expected); None for a module.
        module: a live module, None for a file.
        dropped: number of tensors left out under each named prefix.
        input_size: side the release is evaluated on; None = that of its position table.
        epoch: recorded by the file, if any.
        stated: what the checkpoint says of itself: "heads"; `Contents.stated`; the header of our own format.
    """

    format: str
    source: str
    network: str
    networks: tuple[str, ...]
    state: State | None = None
    module: nn.Module | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    input_size: int | None = None
    epoch: int | float | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)


def recognise(contents: Contents, network: str | None) -> Release:
    """Whose checkpoint it is, with the asked network, or the one its authors evaluate.

    Raises:
        DataError: if nobody claims it (listing the formats tried and the first keys), or its header is
            damaged.
        UsageError: for a network that the checkpoint has not.
    """
    source, file = contents.source, contents.file
    if file is None:  # `infer` refuses a network with all else that cannot be asked of a module
        form, stated = contents.format, contents.stated
        return Release(form, source, "model", ("model",), module=contents.module, stated=stated)
    header = read_header(file)
    if header is not None:
        name, state = header["network"], as_state(file.content)
        _check_network(network, (name,), FORMAT, source)
        if state is None:
            raise DataError(f"{file.path} holds no tensors.")
        return Release(FORMAT, source, name, (name,), state, epoch=header["epoch"], stated=header)
    for layout in LAYOUTS:
        found = layout.networks_of(file)
        if not found:
            continue
        _check_network(network, tuple(found), layout.format, source)
        name = network or (layout.evaluated if layout.evaluated in found else next(iter(found)))
        state, dropped = found[name]
        state, unused = layout.translate(state)
        epoch = file.content.get("epoch")
        return Release(
            layout.format,
            source,
            name,
            tuple(found),
            state,
            dropped={**dropped, **unused},
            input_size=layout.input_size,
            epoch=epoch if type(epoch) in (int, float) else None,
            stated=_stated_heads(file.content.get(layout.parameters)),
        )
    raise DataError(
        f"{file.path} is in no known checkpoint format. Tried: {', '.join(formats(file))}. "
        f"Its keys: {listing(_first_keys(file))}."
    )


def formats(file: CheckpointFile) -> dict[str, bool]:
    """Every known format, and whether the file could be read as one."""
    found = {FORMAT: METADATA_KEY in file.metadata}
    for layout in LAYOUTS:
        found[layout.format] = found.get(layout.format, False) or bool(layout.networks_of(file))
    return found


def _check_network(asked: str | None, known: tuple[str, ...], form: str, source: str) -> None:
    if asked is not None and asked not in known:
        raise UsageError(f"--network {asked}: {source} ({form}) has {listing(known)}.")


def _first_keys(file: CheckpointFile) -> list[str]:
    """Top-level keys, and below each state dict its first keys, for messages."""
    states = {key: as_state(value) for key, value in file.content.items()}
    return [f"{key} -> [{listing(inner, 5)}]" if inner else key for key, inner in states.items()]


def _stated_heads(parameters: object) -> dict[str, int]:
    """A head count that hyper-parameters state outright."""
    found = parameters if isinstance(parameters, Mapping) else getattr(parameters, "__dict__", {})
    counts = [found.get(key) for key in ("num_heads", "n_heads", "heads")]
    return next(({"heads": count} for count in counts if type(count) is int), {})
