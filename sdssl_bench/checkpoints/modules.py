"""Modules that come from no checkpoint file: timm's by name, and those of the user's own function."""

import importlib.util
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdssl_bench.checkpoints.hub import check_reachable, endpoint
from sdssl_bench.encoders import Encoder, Parts
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.system import place_of

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of timm's weights in a repository of the hub, in the order in which it takes them."""


def timm_module(name: str, *, seed: int | None) -> nn.Module:
    """A timm model without classifier, its weights trained or drawn at random.

    Args:
        name: timm's, with or without a tag of weights.
        seed: of random weights, which depend on it alone; None asks for the trained ones.

    Raises:
        UsageError: for an unknown name or tag, or a model without trained weights.
        DataError: if the weights cannot be had.
    """
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(name):
        close = get_close_matches(base, timm.list_models(), n=3)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"timm {timm.__version__} has no model '{base}'.{guess}")
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            untrained: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
        return untrained
    known = [model.partition(".")[2] for model in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in known:
        raise UsageError(did_you_mean(f"weights of {base}", tag, known))
    options = _trained_weights(name)
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=0, **options)
    except Exception as error:  # timm, the hub client and the network each have their own classes
        raise DataError(
            f"The weights of timm:{name} could not be had from the hub or its local cache "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}). "
            "Connect to the network, or download the file elsewhere and give its path to --ckpt. "
            f"Random weights are never used in their place; timm:{name}?pretrained=false asks for "
            "an untrained encoder."
        ) from error
    return model


def _trained_weights(name: str) -> dict[str, Any]:
    """Options of `timm.create_model` that take cached weights without asking for newer ones."""
    import timm
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UsageError(
            f"timm {timm.__version__} has no trained weights of {name}; timm:{name}?pretrained=false asks "
            "for an untrained encoder."
        )
    cached = _cached(config)
    if cached is not None:
        return {"pretrained_cfg_overlay": {"file": str(cached), "custom_load": False}}
    if config.hf_hub_id:
        check_reachable(name, endpoint())
        return {}
    url, *file = config.url if isinstance(config.url, tuple) else (str(config.url),)
    if not (Path(torch.hub.get_dir()) / "checkpoints" / (file or [Path(url).name])[0]).exists():
        check_reachable(name, url)
    return {}


def _cached(config: Any) -> Path | None:
    """The file of a timm model in huggingface_hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = (config.hf_hub_id or "").partition("@")
    names = [config.hf_hub_filename] if config.hf_hub_filename else HUB_FILES
    for file in names if repository else ():
        path = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


LAYERS = "layers"
"""Variable of a custom: file that names the parts of its network that are layers."""


def custom_module(target: str) -> tuple[Path, str, nn.Module]:
    """Path and function of "file.py:function" and what the function returns; the file is executed.

    A list `layers` in the file makes any network an encoder whose layers are the parts of these names.

    Raises:
        DataError: if the file does not exist or its code fails.
        UsageError: if it has no such function, or the function returns something else.
    """
    source, _, function = target.rpartition(":")
    if not source or not function:
        raise UsageError(f"Expected custom:file.py:function, found 'custom:{target}'.")
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"custom: file {path} does not exist.")
    model = _call(path, function)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{function}() of {path} returned {type(model).__name__}, expected a torch module or an "
            "sdssl_bench Encoder."
        )
    layers = vars(sys.modules[_module_name(path)]).get(LAYERS)
    if layers is None:
        return path, function, model
    if isinstance(model, Encoder):
        raise UsageError(
            f"`{LAYERS}` in {path} would have no effect: {function}() returns an Encoder."
        )
    if not isinstance(layers, list | tuple) or not all(isinstance(one, str) for one in layers):
        raise UsageError(f'`{LAYERS}` in {path} is a list of names such as ["stage1", "stage2"].')
    return path, function, Parts(model, layers)


def _module_name(path: Path) -> str:
    return f"sdssl_bench_custom_{path.stem}"


def _call(path: Path, function: str) -> Any:
    """Imports the file under a name of its own and calls the function."""
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up by name
    try:
        spec.loader.exec_module(module)
        build = getattr(module, function, None)
        if not callable(build):
            known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise UsageError(did_you_mean(f"function of {path.name}", function, known))
        return build()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # exiting is failing
        raise DataError(
            f"custom:{path}:{function} failed at {place_of(error, path)}: {type(error).__name__}: {error}"
        ) from error
