"""From a checkpoint file to an encoder: recognise, choose the network, infer, load strictly, record."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from sdssl_bench import encoders as backbones
from sdssl_bench.checkpoints import native
from sdssl_bench.checkpoints.build import (
    Loaded,
    arch_of,
    check_facts,
    fill,
    heads_of,
    vit_encoder,
)
from sdssl_bench.checkpoints.formats import ADAPTERS, Release
from sdssl_bench.checkpoints.heads import heads_by_release
from sdssl_bench.checkpoints.infer import drop_unused_norm, infer_resnet, infer_vit
from sdssl_bench.checkpoints.keys import as_state, check_values, has_any, listing
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.reading import CheckpointFile, read_file
from sdssl_bench.encoders import ViTConfig
from sdssl_bench.errors import DataError, UsageError


def load_file(path: Path, options: Options) -> Loaded:
    """The encoder in a checkpoint file.

    Raises:
        DataError: if the file is missing, damaged, not trusted, unrecognised or does not fit.
        UsageError: if an option contradicts the file or would have no effect.
    """
    file = read_file(path)
    header = native.read_header(file)
    if header is not None:
        return _load_native(file, header, options)
    release = recognise(file)
    name = options.network or release.default
    if name not in release.networks:
        raise UsageError(
            f"--network {name}: {path.name} ({release.format}) has {listing(release.networks)}."
        )
    network = release.networks[name]
    state, unused = drop_unused_norm(network.state)
    state = check_values(state, source=path.name)
    loaded = _build(path, release, name, state, options)
    loaded.details.update(
        networks=list(release.networks),
        epoch=release.epoch,
        keys={"loaded": len(state), "dropped": {**network.dropped, **unused}},
    )
    return loaded


def recognise(file: CheckpointFile) -> Release:
    """The release whose adapter claims the file.

    Raises:
        DataError: listing the adapters tried and the first keys seen.
    """
    for adapter in ADAPTERS.values():
        release = adapter(file)
        if release is not None:
            return release
    raise DataError(
        f"{file.path} is in no known checkpoint format. Tried: sdssl-bench, {', '.join(ADAPTERS)}. "
        f"Its keys: {listing(first_keys(file))}."
    )


def first_keys(file: CheckpointFile) -> list[str]:
    """Top-level keys, and below each state dict its first keys, for messages."""
    found: list[str] = []
    for key, value in file.content.items():
        inner = as_state(value)
        found.append(f"{key} -> [{listing(inner, 5)}]" if inner else key)
    return found


def _build(
    path: Path,
    release: Release,
    name: str,
    state: dict[str, Tensor],
    options: Options,
) -> Loaded:
    """The encoder for a network's tensors: a ResNet, an architecture named by --arch, or a ViT."""
    if has_any(state, "layer1.0."):
        return _build_resnet(path, release, name, state, options)
    wanted: ViTConfig | None = None
    if options.arch is not None:
        if options.arch not in backbones.NAMES:
            return _build_timm(path, release, name, state, options)
        wanted = getattr(backbones.build(options.arch), "config", None)
        if wanted is None:
            raise UsageError(f"--arch {options.arch} is a ResNet, {path.name} holds a ViT.")
        projection = state.get("patch_embed.proj.weight")
        if projection is not None and projection.shape[0] != wanted.dim:
            raise UsageError(
                f"--arch {options.arch} contradicts {path.name}: width {wanted.dim} (the file: "
                f"{projection.shape[0]})."
            )
    inferred = infer_vit(
        state,
        release.format,
        heads=options.heads or (wanted.heads if wanted else None),
        img_size=options.img_size,
        hints=release.hints,
    )
    config = inferred.config
    if wanted is not None:
        _compare(wanted, config, arch=str(options.arch), source=path.name)
    options.agree("patch_size", config.patch_size, what=path.name)
    encoder = vit_encoder(
        config,
        norm=options.norm,
        input_size=options.img_size or release.input_size or config.img_size,
    )
    if not inferred.table_stored:
        state = {**state, "pos_embed": encoder.backbone_state()["pos_embed"]}
    fill(encoder, state, source=path.name)
    named_heads = options.heads is None and wanted is not None
    details = {
        "heads_source": "--arch" if named_heads else inferred.heads_source,
        "pos_embed": "stored" if inferred.table_stored else "recomputed",
    }
    form = "mae" if release.format == "timm" and config.pos == "sincos-column" else release.format
    return Loaded(encoder, form, name, arch_of(encoder), details)


def _compare(wanted: ViTConfig, found: ViTConfig, *, arch: str, source: str) -> None:
    """--arch must describe the file; only the grid of its position table is the file's own affair."""
    wanted_fields, found_fields = asdict(wanted), asdict(found)
    wrong = [
        f"{key} {wanted_fields[key]} (the file: {found_fields[key]})"
        for key in wanted_fields
        if key not in ("img_size", "norm_eps") and wanted_fields[key] != found_fields[key]
    ]
    if wrong:
        raise UsageError(f"--arch {arch} contradicts {source}: {', '.join(wrong)}.")


def _build_resnet(
    path: Path, release: Release, name: str, state: dict[str, Tensor], options: Options
) -> Loaded:
    options.refuse("heads", "patch_size", because="this checkpoint is a ResNet")
    if options.norm not in (None, "none"):
        options.refuse("norm", because="a ResNet has no norm after its stages")
    if options.arch is not None and options.arch not in backbones.RESNETS.values():
        return _build_timm(path, release, name, state, options)
    arch = infer_resnet(state)
    options.agree("arch", arch, what=path.name)
    encoder = backbones.build(arch, img_size=options.img_size)
    fill(encoder, state, source=path.name)
    return Loaded(encoder, release.format, name, arch)


def _build_timm(
    path: Path, release: Release, name: str, state: dict[str, Tensor], options: Options
) -> Loaded:
    """--arch with a timm name: that architecture decides everything, the file must fit it."""
    assert options.arch is not None
    encoder = backbones.build(options.arch, norm=options.norm, img_size=options.img_size)
    fill(encoder, state, source=path.name)
    check_facts(encoder, options, what=f"--arch {options.arch}")
    if isinstance(encoder, backbones.ViTEncoder) and options.heads is None:
        known, why = heads_by_release(release.format, encoder.dims[0], encoder.pos)
        heads = heads_of(encoder)
        if known is not None and known != heads and release.format in ("mocov3", "sdssl"):
            raise UsageError(
                f"--arch {options.arch} has {heads} heads, but {path.name} is of a release with "
                f"{known} ({why}). Leave --arch out, or confirm with --heads {heads}."
            )
    return Loaded(encoder, release.format, name, options.arch, {"heads_source": "--arch"})


def _load_native(file: CheckpointFile, header: dict[str, Any], options: Options) -> Loaded:
    source = file.path.name
    options.agree("network", header["network"], what=source)
    state = as_state(file.content)
    if state is None:
        raise DataError(f"{file.path} holds no tensors.")
    state = check_values(state, source=source)
    arch, norm = header["arch"], options.norm or header["norm"]
    size = options.img_size or header["input_size"]
    if isinstance(arch, ViTConfig):
        encoder = vit_encoder(arch, norm=norm, input_size=size or arch.img_size)
        name = arch_of(encoder)
    else:
        encoder, name = backbones.build(arch, norm=norm, img_size=size), arch
    options.agree("arch", name, what=source)
    check_facts(encoder, options, what=source)
    encoder.mean, encoder.std = tuple(header["mean"]), tuple(header["std"])
    fill(encoder, state, source=source)
    details = {
        "networks": [header["network"]],
        "epoch": header["epoch"],
        "config": header["config"],
        "extra": header["extra"],
        "heads_source": "stored in the file",
        "keys": {"loaded": len(state), "dropped": {}},
    }
    return Loaded(encoder, "sdssl-bench", header["network"], name, details)
