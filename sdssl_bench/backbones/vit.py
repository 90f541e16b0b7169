"""Vision transformers: any timm ViT (classic, dynamic size, registers, DINOv2) and timm Eva (DINOv3).

timm's `forward_intermediates` does the forward pass; hooks on the blocks hand each layer's tokens to
the caller's reduction while the pass goes on, so a layer's tokens are freed before the next is done.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sdssl_bench.backbones.positions import Positions, interpolate_learned, sincos_2d
from sdssl_bench.encoder import NORMS, Encoder, LayerFeatures, check_layers, everything
from sdssl_bench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from sdssl_bench.backbones.plain_vit import ViTConfig


class ViTEncoder(Encoder):
    """All layers of a timm VisionTransformer or Eva.

    Attributes:
        model: the timm model.
        norms: one norm per layer, or None.
        config: its configuration if `build_vit` made it, else None.
        pos: how positions off the table's grid are made; "timm" for Eva.
        antialias: see `positions.interpolate_learned`.
        cls_source: "class token", or "mean of patch tokens" for models without one.
    """

    def __init__(
        self,
        model: VisionTransformer | Eva,
        *,
        norm: str | None = None,
        input_size: int | None = None,
        pos: Positions = "learned",
        norms: nn.ModuleList | None = None,
    ) -> None:
        super().__init__()
        norm = norm or ("per-layer" if norms is not None else "shared")
        if norm not in NORMS:
            raise UsageError(did_you_mean("norm", norm, NORMS))
        if norm == "per-layer" and norms is None:
            raise UsageError(
                "--norm per-layer needs a checkpoint with a norm for each layer; this one has a "
                "single final norm. Choose shared, none or identity."
            )
        self.model: Any = model
        self.norms = norms
        self.norm = norm
        self.config: ViTConfig | None = None
        self.depth = len(model.blocks)
        self.dims = (model.embed_dim,) * self.depth
        self.stride = int(model.patch_embed.patch_size[0])
        self.grid = tuple(model.patch_embed.grid_size)
        self.input_size = input_size or self.grid[0] * self.stride
        self.pos: Positions | Literal["timm"] = "timm" if isinstance(model, Eva) else pos
        self.antialias = int(getattr(model, "num_reg_tokens", 0)) > 0
        self.cls_source = "class token" if model.cls_token is not None else "mean of patch tokens"
        self._check_size(self.input_size, self.input_size)

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """See `Encoder.forward_layers`."""
        wanted = check_layers(layers, self.depth)
        grid = self._check_size(*images.shape[-2:])
        out: dict[int, Any] = {}
        with self._tapped(wanted, grid, lambda layer, x: out.update({layer: reduce(x)})):
            self.model.forward_intermediates(
                images,
                indices=[wanted[-1] - 1],
                stop_early=True,
                norm=False,
                output_fmt="NLC",
                intermediates_only=True,
            )
        return out

    @contextmanager
    def _tapped(
        self,
        layers: Sequence[int],
        grid: tuple[int, int],
        take: Callable[[int, LayerFeatures], None],
    ) -> Iterator[None]:
        """While open, the model's blocks report their output and positions are made for `grid`."""

        def hook(layer: int) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda _module, _inputs, tokens: take(layer, self._features(tokens, layer, grid))

        handles = [
            self.model.blocks[layer - 1].register_forward_hook(hook(layer)) for layer in layers
        ]
        patch_embed = self.model.patch_embed
        strict = patch_embed.strict_img_size
        if isinstance(self.model, VisionTransformer):
            patch_embed.strict_img_size = False
            add = lambda _model, x: self._add_positions(x, grid)  # noqa: E731
            vars(self.model)["_pos_embed"] = MethodType(add, self.model)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            patch_embed.strict_img_size = strict
            vars(self.model).pop("_pos_embed", None)

    def _features(self, tokens: Tensor, layer: int, grid: tuple[int, int]) -> LayerFeatures:
        prefix = self.model.num_prefix_tokens
        patches = tokens[:, prefix:].unflatten(1, grid)
        norm = self._norm_of(layer)
        if self.model.cls_token is None:
            # The mean of the normed tokens; its norm is taken already.
            mean_token = norm(patches).flatten(1, 2).mean(1)
            return LayerFeatures(mean_token, patches, lambda x: x if x is mean_token else norm(x))
        return LayerFeatures(tokens[:, 0], patches, norm)

    def _norm_of(self, layer: int) -> Callable[[Tensor], Tensor]:
        if self.norms is not None and (self.norm == "per-layer" or layer == self.depth):
            return self.norms[layer - 1]
        final = self._final_norm()
        if layer == self.depth or self.norm == "shared":
            return final
        if self.norm == "none":
            return lambda x: x
        eps = float(getattr(final, "eps", 1e-6))
        return lambda x: nn.functional.layer_norm(x, x.shape[-1:], eps=eps)

    def _final_norm(self) -> nn.Module:
        if self.norms is not None:
            return self.norms[-1]
        for name in ("norm", "fc_norm"):
            norm = getattr(self.model, name, None)
            if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
                return norm
        return nn.Identity()

    def _add_positions(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Prefix tokens and positions for `grid`; replaces timm's own rule during the pass."""
        model = self.model
        x = x.flatten(1, 2) if x.ndim == 4 else x
        prefix = [
            token.expand(len(x), -1, -1)
            for token in (model.cls_token, model.reg_token)
            if token is not None
        ]
        if model.pos_embed is None:
            return self._dropped(torch.cat([*prefix, x], dim=1))
        skip = 0 if model.no_embed_class else model.num_prefix_tokens
        table = model.pos_embed
        if grid != self.grid:
            if self.pos in ("learned", "timm"):
                patches = interpolate_learned(
                    table[0, skip:], self.grid, grid, antialias=self.antialias
                )
            else:
                patches = sincos_2d(grid, table.shape[-1], order=cast(Positions, self.pos)).to(
                    table
                )
            table = torch.cat([table[:, :skip], patches[None]], dim=1)
        if model.no_embed_class:
            return self._dropped(torch.cat([*prefix, x + table], dim=1))
        return self._dropped(torch.cat([*prefix, x], dim=1) + table)

    def _dropped(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.model.pos_drop(tokens)
        return out

    def _check_size(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid of an image.

        Raises:
            UsageError: if a side is no multiple of the patch size.
        """
        if height % self.stride or width % self.stride or not height or not width:
            raise UsageError(
                f"Images of {height} x {width} pixels do not divide into patches of {self.stride}: "
                f"choose sides that are multiples of {self.stride} (--img-size)."
            )
        grid = (height // self.stride, width // self.stride)
        if isinstance(self.model, Eva) and not self.model.dynamic_img_size and grid != self.grid:
            raise UsageError(
                f"This model was made for images of {self.grid[0] * self.stride} pixels, found "
                f"{height} x {width}: create it with dynamic_img_size=True."
            )
        return grid

    def truncate(self, layer: int) -> "ViTEncoder":
        """The encoder up to `layer`, with parameters of its own; the norm of `layer` is its last."""
        check_layers([layer], self.depth)
        norm = self._norm_of(layer)
        out = copy.deepcopy(self)
        out.model.blocks = out.model.blocks[:layer]
        out.model.head = nn.Identity()
        out.model.fc_norm = nn.Identity()
        out.model.norm = (
            copy.deepcopy(norm)
            if isinstance(norm, nn.Module)
            else nn.Identity()
            if self.norm == "none"
            else nn.LayerNorm(self.dims[0], eps=1e-6, elementwise_affine=False)
        )
        out.norms = None
        out.norm = "shared"
        out.config = None
        out.depth = layer
        out.dims = self.dims[:layer]
        return out

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Load weights strictly: timm's names, and norms.i.* where the encoder has per-layer norms.

        Raises:
            RuntimeError: torch's, naming every missing, unexpected or mismatched tensor.
        """
        own = {key: value for key, value in state.items() if key.startswith("norms.")}
        self.model.load_state_dict(
            {key: value for key, value in state.items() if key not in own}, strict=True
        )
        if self.norms is not None or own:
            (self.norms or nn.ModuleList()).load_state_dict(
                {key.removeprefix("norms."): value for key, value in own.items()}, strict=True
            )

    def backbone_state(self) -> dict[str, Tensor]:
        """The tensors `load_backbone` takes."""
        state = dict(self.model.state_dict())
        if self.norms is not None:
            state |= {f"norms.{key}": value for key, value in self.norms.state_dict().items()}
        return state
