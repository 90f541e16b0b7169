"""Second step: which networks a checkpoint holds, which is evaluated, and whose it is."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdssl_bench import encoders
from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.checkpoints.keys import Flat, State, flat, listing, under
from sdssl_bench.checkpoints.native import FORMAT, read_header
from sdssl_bench.checkpoints.networks import Network, find_networks
from sdssl_bench.checkpoints.read import Contents
from sdssl_bench.checkpoints.releases import evaluated, release_of
from sdssl_bench.checkpoints.renaming import Translated
from sdssl_bench.checkpoints.styles import Style, styles
from sdssl_bench.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Release:
    """A recognised checkpoint.

    Attributes:
        format: whose it is: a release's, a style's, "sdssl-bench", "timm" or "custom".
        source: what messages call it.
        network: the one that is evaluated.
        networks: all that could be.
        state: backbone tensors under their timm names (plus whatever nobody expected); None for a module.
        module: a live module, None for a file.
        built: the architecture, where the style of the names brings its own.
        dropped: number of tensors left out of the network's dictionary, by group.
        input_size: side the release is evaluated on; None = that of its position table.
        epoch: recorded by the file, if any.
        stated: what the checkpoint says of itself: "heads", "norm_eps", ...; `Contents.stated`; the header of
            our own format.
    """

    format: str
    source: str
    network: str
    networks: tuple[str, ...]
    state: State | None = None
    module: nn.Module | None = None
    built: nn.Module | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    input_size: int | None = None
    epoch: int | float | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)


def recognise(contents: Contents, network: str | None, arch: str | None = None) -> Release:
    """The asked network of a checkpoint, or the one its authors evaluate.

    Args:
        contents: of `read`.
        network: the user's choice.
        arch: a name of timm's, whose own tensors are looked for before any style of names.

    Raises:
        DataError: if it holds no backbone (listing its first keys), several of which none is known to
            be the evaluated one, or a damaged header.
        UsageError: for a network that the checkpoint has not.
    """
    source, file = contents.source, contents.file
    if file is None:  # `infer` refuses a network with all else that cannot be asked of a module
        form, stated = contents.format, contents.stated
        return Release(form, source, "model", ("model",), module=contents.module, stated=stated)
    tensors = flat(file.content)
    header = read_header(file)
    if header is not None:
        name = header["network"]
        _check_network(network, (name,), source)
        if not tensors:
            raise DataError(f"{file.path} holds no tensors.")
        return Release(
            FORMAT, source, name, (name,), dict(tensors), epoch=header["epoch"], stated=header
        )
    networks = {}
    if arch is not None and arch not in encoders.NAMES:
        networks = find_networks(tensors, [_style_of(arch)])
    networks = networks or find_networks(tensors)
    if not networks:
        raise DataError(_no_backbone(file, tensors) if arch is None else _not(arch, file, tensors))
    _check_network(network, tuple(networks), source)
    usual = evaluated(networks) or evaluated(n for n, one in networks.items() if one.whole)
    chosen = networks[network or usual or _undecided(networks, source)]
    found = chosen.translate()
    beside = under(tensors, chosen.home)
    form, input_size = release_of(chosen, beside=beside, translated=found.state)
    epoch = file.content.get("epoch")
    return Release(
        form,
        source,
        chosen.name,
        tuple(sorted(networks, key=lambda name: name != usual)),
        found.state,
        built=chosen.style.build(found) if chosen.style.build else None,
        dropped={**chosen.dropped, **{chosen.inside + k: n for k, n in found.unused.items()}},
        input_size=input_size,
        epoch=epoch if type(epoch) in (int, float) else None,
        stated={**found.stated, **_stated(file, tensors, chosen)},
    )


def _undecided(networks: Mapping[str, Network], source: str) -> str:
    kinds = [f"{one.name} ({one.prefix or 'no prefix'})" for one in networks.values()]
    raise UsageError(
        f"{source} holds {len(networks)} backbones, and no convention says which is evaluated: "
        f"{listing(kinds)}. Choose one with --network."
    )


def _style_of(arch: str) -> Style:
    """The names of an architecture's own tensors."""
    with torch.device("meta"):
        names = list(encoders.build(arch).backbone_state())
    firsts = {re.escape(name.split(".")[0]) for name in names}
    return Style("timm", tuple(names), "|".join(sorted(firsts)), Translated)


def _no_backbone(file: CheckpointFile, tensors: Flat) -> str:
    if not tensors:
        kinds = [f"{key} ({type(value).__name__})" for key, value in file.content.items()]
        return f"{file.path} holds no tensors. Its keys: {listing(kinds)}."
    anchors = [f"{style.needs[0]} ({style.name})" for style in styles()]
    return (
        f"{file.path} is in no known checkpoint format: under no prefix stands a whole backbone. Looked for "
        f"{', '.join(anchors)}. Its {len(tensors)} tensors begin {listing(tensors)}. If you know the "
        "architecture, name it with --arch (a timm name)."
    )


def _not(arch: str, file: CheckpointFile, tensors: Flat) -> str:
    """How much of an architecture there is, under the prefix that has most of it."""
    names = _style_of(arch).needs
    ends = {name.split(".")[-1] for name in names}
    stems = Counter(
        key.removesuffix(name)
        for key in tensors
        if key.split(".")[-1] in ends
        for name in names
        if key == name or key.endswith(f".{name}")
    )
    prefix, count = next(iter(stems.most_common(1)), ("", 0))
    missing = [name for name in names if prefix + name not in tensors]
    return (
        f"{file.path} holds no whole {arch}: under {prefix or 'no prefix'} stand {count} of its {len(names)} "
        f"tensors; {len(missing)} missing: {listing(missing)}."
    )


def _check_network(asked: str | None, known: tuple[str, ...], source: str) -> None:
    if asked is not None and asked not in known:
        raise UsageError(f"--network {asked}: {source} has {listing(known)}.")


_ACTIVATIONS = {"gelu": False, "quick_gelu": True}


def _stated(file: CheckpointFile, tensors: Flat, network: Network) -> dict[str, Any]:
    """What is said beside the weights: by hyper-parameters, by OpenAI's own file, by a config.json.

    Raises:
        DataError: for an activation of config.json that no encoder here has.
    """
    found: dict[str, Any] = {}
    parameters = file.content.get("hyper_parameters")
    facts = parameters if isinstance(parameters, Mapping) else getattr(parameters, "__dict__", {})
    counts = [facts.get(key) for key in ("num_heads", "n_heads", "heads")]
    found |= next(({"heads": count} for count in counts if type(count) is int), {})
    if network.style.name == "clip" and any(name.endswith("input_resolution") for name in tensors):
        found["quick_gelu"] = True  # OpenAI's own file; open_clip's says nothing
    config = file.hints.get("config.json", {})
    if network.style.name.startswith("huggingface") and config:
        found |= _facts(config, file.path)
        act = str(config.get("hidden_act", "gelu"))
        plain = network.style.name != "huggingface resnet" and not config.get("use_gated_mlp")
        if act not in _ACTIVATIONS and plain:
            raise DataError(
                f"{file.path}: config.json says hidden_act '{act}', expected one of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        found |= {"quick_gelu": True} if _ACTIVATIONS.get(act) else {}
    return found


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= 1 << 16


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))


_FACTS: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "num_attention_heads": ("heads", "a positive integer", _is_count),
    "layer_norm_eps": (
        "norm_eps",
        "a small positive number",
        lambda v: _is_number(v) and 0 < v < 1,
    ),
    "rope_theta": ("rope_temperature", "a positive number", lambda v: _is_number(v) and v > 0),
    "image_size": ("img_size", "a positive integer, or two", lambda v: _is_count(v) or _is_pair(v)),
    "model_type": ("model_type", "a text", lambda v: isinstance(v, str)),
}
"""Key of a config.json -> our name of the fact, what it has to be, and whether a value is that."""


def _facts(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What a config.json of transformers states, proven to be what it says; a square is one side.

    Raises:
        DataError: naming the first value that cannot be.
    """
    found = {}
    for key, (name, what, fits) in _FACTS.items():
        value = config.get(key)
        # Of families with several stages some facts are lists, a value each: the tensors tell those.
        if value is None or (key == "num_attention_heads" and isinstance(value, list)):
            continue
        if not fits(value):
            raise DataError(f"{path}: config.json says {key} {value!r:.60}, expected {what}.")
        found[name] = value[0] if _is_pair(value) and value[0] == value[1] else value
    return found
