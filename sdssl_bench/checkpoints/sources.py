"""Encoders that come from no file: timm models by name, and the user's own Python function."""

import importlib.util
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdssl_bench import backbones
from sdssl_bench.checkpoints.build import Loaded, arch_of, check_facts
from sdssl_bench.checkpoints.freshness import UNTRAINED, examine
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.uri import Uri, flag, integer
from sdssl_bench.encoder import Encoder, stated_pretraining
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.hub import check_reachable, endpoint

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of timm's weights in a repository of the hub, in the order in which it takes them."""


def load_timm(uri: Uri, options: Options) -> Loaded:
    """A timm model: pretrained weights from the hub, or with pretrained=false a seeded untrained one.

    Raises:
        UsageError: for an unknown name or options that cannot apply.
        DataError: if the weights cannot be had.
    """
    import timm

    name = uri.target
    if not timm.is_model(name):
        base = name.partition(".")[0]
        close = get_close_matches(base, timm.list_models(), n=3)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"timm {timm.__version__} has no model '{base}'.{guess}")
    because = "a timm: name fixes the architecture and has one network"
    options.refuse("arch", "network", because=because)
    pretrained, seed = flag(uri.query, "pretrained", True), integer(uri.query, "seed")
    side = integer(uri.query, "img_size")
    if pretrained and seed is not None:
        raise UsageError("seed= would have no effect on pretrained weights; add pretrained=false.")
    if side is not None and options.img_size not in (None, side):
        raise UsageError(f"--img-size {options.img_size} contradicts img_size={side} in the URI.")
    size = options.img_size or side
    model = _pretrained(name) if pretrained else _untrained(name, seed or 0)
    encoder = backbones.wrap(model, norm=options.norm, img_size=size)
    check_facts(encoder, options, what=f"timm's {name}")
    details: dict[str, Any] = {"networks": ["model"], "epoch": None}
    if pretrained:
        return Loaded(encoder, "timm", "model", name, details, name=name)
    label = f"{name} untrained seed {seed or 0}"
    details["seed"] = seed or 0
    return Loaded(encoder, "timm", "model", name, details, pretrained=False, name=label)


def _pretrained(name: str) -> nn.Module:
    import timm
    from timm.models import get_pretrained_cfg

    base, _, tag = name.partition(".")
    known = [model.partition(".")[2] for model in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in known:
        raise UsageError(did_you_mean(f"weights of {base}", tag, known))
    config = get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UsageError(
            f"timm {timm.__version__} has no trained weights of {name}; timm:{name}?pretrained=false asks "
            "for an untrained encoder."
        )
    options: dict[str, Any] = {"pretrained": True, "num_classes": 0}
    cached = _cached(config)
    if cached is not None:  # without asking the hub whether there is something newer
        options["pretrained_cfg_overlay"] = {"file": str(cached), "custom_load": False}
    elif config.hf_hub_id:
        check_reachable(name, endpoint())
    else:
        url = str(config.url[0] if isinstance(config.url, tuple) else config.url)
        file = config.url[1] if isinstance(config.url, tuple) else Path(url).name
        if not (Path(torch.hub.get_dir()) / "checkpoints" / file).exists():
            check_reachable(name, url)
    try:
        model: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # timm, the hub client and the network each have their own classes
        raise DataError(
            f"The weights of timm:{name} could not be had from the hub or its local cache "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}). "
            "Connect to the network, or download the file elsewhere and give its path to --ckpt. "
            f"Random weights are never used in their place; timm:{name}?pretrained=false asks for "
            "an untrained encoder."
        ) from error
    return model


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


def _untrained(name: str, seed: int) -> nn.Module:
    """Random weights that depend on the seed alone; the caller's random state is left as it was."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return model


def load_custom(uri: Uri, options: Options) -> Loaded:
    """The encoder or module that a function of the user's own file returns; the file is executed.

    Its attribute `pretrained`, True or False, says whether it was trained. Either way its weights are
    compared with a fresh initialisation, and `details["weights_look"]` and the name say what they look like.

    Raises:
        DataError: if the file does not exist or its code fails.
        UsageError: if it has no such function, or the function returns something else.
    """
    source, _, function = uri.target.rpartition(":")
    if not source or not function:
        raise UsageError(f"Expected custom:file.py:function, found 'custom:{uri.target}'.")
    options.refuse("arch", "network", because="a custom: function builds its own architecture")
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"custom: file {path} does not exist.")
    model = _call(path, function)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{function}() of {path} returned {type(model).__name__}, expected a torch module or an "
            "sdssl_bench Encoder."
        )
    if isinstance(model, Encoder):
        options.refuse("norm", "img_size", because=f"{function}() returns a finished Encoder")
        encoder = model
    else:
        encoder = backbones.wrap(model, norm=options.norm, img_size=options.img_size)
    check_facts(encoder, options, what=f"{function}() of {path.name}")
    pretrained, look = stated_pretraining(model), examine(encoder).look
    suffix = (
        " untrained" if pretrained is False else " looks untrained" if look == UNTRAINED else ""
    )
    return Loaded(
        encoder,
        "custom",
        "model",
        arch_of(encoder),
        {"networks": ["model"], "epoch": None, "weights_look": look},
        pretrained=pretrained,
        name=f"{path.stem}:{function}{suffix}",
    )


def _call(path: Path, function: str) -> Any:
    """Imports the file under a name of its own and calls the function."""
    name = f"sdssl_bench_custom_{path.stem}"
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
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else str(path)
        raise DataError(
            f"custom:{path}:{function} failed at {place}: {type(error).__name__}: {error}"
        ) from error
