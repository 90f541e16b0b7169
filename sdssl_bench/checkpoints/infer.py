"""Third step: every number of the architecture, from names and shapes of tensors and from the user.

An option decides here what weights do not tell; one that would have no effect is refused. Those that merely
confirm a fact are left to `verify`, which knows all facts.
"""

import math
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor, nn

from sdssl_bench import encoders
from sdssl_bench.checkpoints.config import Config
from sdssl_bench.checkpoints.families import NAME_IT, of_family
from sdssl_bench.checkpoints.heads import resolve_heads
from sdssl_bench.checkpoints.keys import State, depth_of, has_any
from sdssl_bench.checkpoints.native import FORMAT
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.recognise import Release
from sdssl_bench.encoders import COLOURS, VITS, Encoder, ViTConfig, classify_pos_embed, colours_for
from sdssl_bench.errors import DataError, UsageError

DEFAULT_IMG_SIZE = 224
_PATCH = "patch_embed.proj.weight"


def infer(release: Release, options: Options) -> Config:
    """The configuration of a release's network.

    Raises:
        DataError: if a needed tensor is missing or of an impossible shape, or heads are unknown.
        UsageError: if an option contradicts the checkpoint or would have no effect.
    """
    config = _other(release, options)
    if config is None:
        return _vit(release.state or {}, release, options)
    options.refuse(
        "grid", because=f"{release.source} has no table of positions to read, or says it"
    )
    return config


def _other(release: Release, options: Options) -> Config | None:
    """The configuration of everything but a plain ViT that only its tensors describe; None for that."""
    state, module = release.state or {}, release.module
    is_resnet = has_any(state if module is None else module.state_dict(), "layer1.0.")
    if is_resnet:
        options.refuse("heads", "patch_size", because="this checkpoint is a ResNet")
        if options.norm != "none":
            options.refuse("norm", because="a ResNet has no norm after its stages")
    if module is not None:
        return _live(module, release, options)
    if release.format == FORMAT:
        return _stated(release, options)
    if release.built is not None:
        options.refuse("arch", because=f"{release.source} names its architecture by its tensors")
        return Config(release.built, options.norm, options.img_size, options)
    if options.arch is not None and options.arch not in encoders.NAMES:
        # A name of timm's decides everything, and the file must fit it.
        known = {"heads_source": "--arch"}
        return Config(
            options.arch, options.norm, options.img_size, options, options.arch, details=known
        )
    return of_family(release, options)


def _live(module: nn.Module, release: Release, options: Options) -> Config:
    stated = dict(release.stated)
    because = {
        "timm": "a timm: name fixes the architecture and has one network",
        "custom": "a custom: function builds its own architecture",
        "control": "a control is what it is",
    }
    options.refuse("arch", "network", because=because[release.format])
    if isinstance(module, Encoder):
        options.refuse("norm", "img_size", because=f"{release.source} is a finished Encoder")
    arch, side = stated.pop("arch", None), stated.pop("img_size", None)
    if side is not None and options.img_size not in (None, side):
        raise UsageError(f"--img-size {options.img_size} contradicts img_size={side} in the URI.")
    return Config(module, options.norm, options.img_size or side, options, arch, details=stated)


def _stated(release: Release, options: Options) -> Config:
    header = release.stated
    arch: str | ViTConfig = header["arch"]
    return Config(
        arch,
        options.norm or header["norm"],
        options.img_size or header["input_size"],
        options,
        arch if isinstance(arch, str) else None,
        colours=(tuple(header["mean"]), tuple(header["std"])),
        details={
            "config": header["config"],
            "extra": header["extra"],
            "heads_source": "stored in the file",
        },
    )


def _vit(state: State, release: Release, options: Options) -> Config:
    """A plain ViT; --arch may name one of ours, which gives the head count and must agree in all else."""
    arch, source, dim = options.arch, release.source, _need(state, _PATCH, 4).shape[0]
    wanted = VITS.get(arch or "")
    if arch is not None and wanted is None:
        raise UsageError(f"--arch {arch} is a ResNet, {source} holds a ViT.")
    if wanted is not None and wanted.dim != dim:
        raise UsageError(
            f"--arch {arch} contradicts {source}: width {wanted.dim} (the file: {dim})."
        )
    heads = options.heads or (wanted.heads if wanted else None)
    config, why = _shapes(state, release, options, heads=heads)
    if wanted is not None:
        _compare(asdict(wanted), asdict(config), what=f"--arch {arch} contradicts {source}")
        why = why if options.heads else "--arch"
    stored = "pos_embed" in state
    return Config(
        config,
        options.norm,
        options.img_size
        or (release.input_size if config.grid is None else None)
        or config.img_size,
        replace(options, arch=None),
        recomputed=() if stored else ("pos_embed",),
        details={"heads_source": why, "pos_embed": "stored" if stored else "recomputed"},
    )


def _shapes(
    state: State, release: Release, options: Options, *, heads: int | None
) -> tuple[ViTConfig, str]:
    """A ViT by the names and shapes of its tensors, and how its head count is known."""
    dim, channels, patch, patch_width = _need(state, _PATCH, 4).shape
    colours_for(channels, COLOURS["imagenet"])  # or an error: neither RGB nor grey
    if patch != patch_width:
        raise DataError(
            f"{_PATCH} has shape {tuple(state[_PATCH].shape)}; expected square patches."
        )
    img_size = options.img_size
    if img_size is not None and img_size % patch:
        raise UsageError(f"--img-size {img_size} is no multiple of the patch size {patch}.")
    fc1, fc2 = (_need(state, f"blocks.0.mlp.{name}.weight", 2) for name in ("fc1", "fc2"))
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    prefix = registers + ("cls_token" in state)
    grid = options.rows_and_columns or _stated_grid(release, patch)
    pos, skip, side = _positions(state, release.format, dim, prefix=prefix, grid=grid)
    per_layer = has_any(state, "norms.")
    heads, why = resolve_heads(
        release.format,
        dim,
        pos=pos,
        given=heads,
        hints=release.stated,
        per_layer_norm=per_layer,
    )
    config = ViTConfig(
        dim=dim,
        depth=depth_of(state),
        heads=heads,
        patch_size=patch,
        img_size=side * patch or img_size or _square(grid, patch),
        mlp_ratio=_ratio(fc1.shape[0], dim),
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        layer_scale="blocks.0.ls1.gamma" in state,
        reg_tokens=registers,
        class_token="cls_token" in state,
        no_embed_class=prefix > 0 and skip == 0,
        pos=pos,
        per_layer_norm=per_layer,
        swiglu=fc1.shape[0] == 2 * fc2.shape[1],
        norm_eps=release.stated.get("norm_eps", ViTConfig.norm_eps),
        pre_norm="norm_pre.weight" in state,
        quick_gelu=_quick_gelu(release),
        channels=channels,
        grid=None if side else grid,
    )
    return config, why


def _square(grid: tuple[int, int] | None, patch: int) -> int:
    """Side of the square images whose grid has about as many patches; DEFAULT_IMG_SIZE if none is known."""
    return DEFAULT_IMG_SIZE if grid is None else round(math.sqrt(grid[0] * grid[1])) * patch


def _stated_grid(release: Release, patch: int) -> tuple[int, int] | None:
    """Rows and columns of patches by a config.json with an image size of two numbers."""
    size = release.stated.get("img_size")
    if not isinstance(size, list | tuple) or len(size) != 2:
        return None
    return size[0] // patch, size[1] // patch


def _quick_gelu(release: Release) -> bool:
    """Whether the MLPs use CLIP's approximation, which no weight tells.

    Raises:
        DataError: for a CLIP tower that does not say.
    """
    if release.format == "clip" and "quick_gelu" not in release.stated:
        raise DataError(
            f"{release.source} is a visual tower of CLIP, and the activation is not stored in the weights: "
            "OpenAI's models and open_clip's '-quickgelu' ones use QuickGELU, open_clip's others GELU. Say "
            "which by timm's name, e.g. --arch vit_base_patch16_clip_quickgelu_224 or "
            "--arch vit_base_patch16_clip_224."
        )
    return bool(release.stated.get("quick_gelu", False))


def _compare(wanted: dict[str, Any], found: dict[str, Any], *, what: str) -> None:
    """--arch must describe the file; only the grid of its position table is the file's own affair."""
    wrong = [
        f"{key} {wanted[key]} (the file: {found[key]})"
        for key in wanted
        if key not in ("img_size", "norm_eps") and wanted[key] != found[key]
    ]
    if wrong:
        raise UsageError(f"{what}: {', '.join(wrong)}.")


def _ratio(hidden: int, dim: int) -> float:
    """The quotient hidden / dim, such that int(dim * ratio) is hidden in spite of rounding."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else (hidden + 0.5) / dim


def _need(state: State, key: str, ndim: int) -> Tensor:
    if key not in state:
        raise DataError(f"Expected a ViT with tensor '{key}', which is missing. {NAME_IT}")
    if state[key].ndim != ndim:
        raise DataError(
            f"'{key}' has {state[key].ndim} dimensions, expected {ndim}: not a plain ViT "
            "(a convolutional stem?). Name the architecture with --arch."
        )
    return state[key]


def _positions(
    state: State, form: str, dim: int, *, prefix: int, grid: tuple[int, int] | None
) -> tuple[Any, int, int]:
    """Kind of position table, how many tokens before the patches it has, and the side of its patch grid.

    The side is 0 for a table that is not stored and fits every grid, and for one of the given grid.
    """
    table = state.get("pos_embed")
    if table is None:
        if form not in ("sdssl", "mocov3"):
            raise DataError(
                "The checkpoint has no 'pos_embed', and only MoCo v3 and SDSSL have positions that "
                "can be recomputed. If its architecture has none, name it with --arch."
            )
        return "sincos-row", prefix, 0
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[2] != dim:
        raise DataError(
            f"'pos_embed' has shape {tuple(table.shape)}, expected (1, N, {dim}). {NAME_IT}"
        )
    count = table.shape[1]
    # timm's register models add no position to prefix tokens, so that reading comes first for them.
    order = (0, prefix) if prefix > 1 else (prefix, 0)
    if grid is not None and grid[0] != grid[1]:
        skips = [skip for skip in order if count - skip == grid[0] * grid[1]]
        if not skips:
            raise UsageError(
                f"A grid of {grid[0]} x {grid[1]} has {grid[0] * grid[1]} positions, the checkpoint has "
                f"{count}, {prefix} of them perhaps of prefix tokens."
            )
        return classify_pos_embed(table, grid), skips[0], 0
    sides = {skip: math.isqrt(count - skip) for skip in order if count > skip}
    fitting = [skip for skip, side in sides.items() if side * side == count - skip]
    if not fitting:
        raise DataError(
            f"'pos_embed' has {count} positions, expected a square grid of patches "
            f"with or without {prefix} prefix tokens; name another one with --grid ROWSxCOLUMNS."
        )
    side = sides[fitting[0]]
    if grid not in (None, (side, side)):
        raise UsageError(
            f"--grid contradicts the checkpoint, whose table is of {side} x {side} patches."
        )
    return classify_pos_embed(table), fitting[0], side
