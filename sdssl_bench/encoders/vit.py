"""Vision transformers: any timm ViT (classic, registers, DINOv2), timm Eva (DINOv3), plain ones.

timm's `forward_intermediates` does the forward pass; hooks on the blocks hand each layer's tokens to
the caller's reduction while the pass goes on, so a layer's tokens are freed before the next is done.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sdssl_bench.encoders.encoder import (
    CLASS_TOKEN,
    NORMS,
    PATCH_MEAN,
    Encoder,
    LayerFeatures,
    check_layers,
    everything,
)
from sdssl_bench.encoders.images import channels_of
from sdssl_bench.encoders.intermediate import at_grid, outputs_of
from sdssl_bench.encoders.points import BLOCK, check_branches, module_at
from sdssl_bench.encoders.position_embeddings import Grid, Positions, classify_pos_embed
from sdssl_bench.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class ViTConfig:
    """A plain ViT of the field; everything that its weights' shapes and meaning depend on.

    Attributes:
        img_size: side in pixels of the images whose grid the position table was made for.
        no_embed_class: positions are added to patches only, prefix tokens come without.
        pos: learned table, or a fixed one that is recomputed for other grids.
        per_layer_norm: every layer has a final norm of its own (some SDSSL checkpoints).
        swiglu: gated MLP (DINOv2 giant); mlp_ratio counts both halves of its first projection.
        pre_norm: a norm before the blocks and no bias of the patch projection (CLIP).
        quick_gelu: x * sigmoid(1.702 x) in place of GELU (OpenAI's CLIP).
        grid: (rows, columns) of a position table that is no square; None: img_size says it.
        channels: of the images: 3, or 1 for grey ones.
    """

    dim: int
    depth: int
    heads: int
    patch_size: int
    img_size: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    layer_scale: bool = False
    reg_tokens: int = 0
    class_token: bool = True
    no_embed_class: bool = False
    pos: Positions = "learned"
    per_layer_norm: bool = False
    swiglu: bool = False
    norm_eps: float = 1e-6
    pre_norm: bool = False
    quick_gelu: bool = False
    channels: int = 3
    grid: Grid | None = None


class ViTEncoder(Encoder):
    """All layers of a timm VisionTransformer or Eva.

    Attributes:
        model: the timm model.
        norms: one norm per layer, or None.
        config: its configuration if `build_vit` made it, else None.
        antialias: see `position_embeddings.interpolate_learned`; None leaves it to timm (Eva).
        cls_source: CLASS_TOKEN, or PATCH_MEAN for models without one, or whose one was never trained.
    """

    def __init__(
        self,
        model: VisionTransformer | Eva,
        *,
        norm: str | None = None,
        input_size: int | None = None,
        norms: nn.ModuleList | None = None,
    ) -> None:
        super().__init__()
        norm = norm or ("per-layer" if norms is not None else "shared")
        if norm not in NORMS:
            raise UsageError(did_you_mean("norm", norm, NORMS))
        if norm == "per-layer" and norms is None:
            raise UsageError(
                "--norm per-layer needs a checkpoint with a norm for each layer; this one has one final "
                "norm, not one per layer. Choose shared, none or identity."
            )
        self.model: Any = model
        self.norms = norms
        self.norm = norm
        self.config: ViTConfig | None = None
        self.depth = len(model.blocks)
        self.dims = (model.embed_dim,) * self.depth
        embed: Any = model.patch_embed
        patch = embed.feat_ratio(as_scalar=False)
        if patch[0] != patch[1]:
            raise UsageError(f"Expected square patches, this model has {patch[0]} x {patch[1]}.")
        self.stride = int(patch[0])
        self.grid: Grid = tuple(embed.grid_size)
        if input_size is None and self.grid[0] != self.grid[1]:
            raise UsageError(
                f"This model was made for a grid of {self.grid[0]} x {self.grid[1]} patches, and "
                "evaluation is on square images: give img_size."
            )
        self.input_size = input_size or self.grid[0] * self.stride
        registers = int(getattr(model, "num_reg_tokens", 0)) > 0
        self.antialias = None if isinstance(model, Eva) else registers
        self.cls_source = PATCH_MEAN if model.cls_token is None else CLASS_TOKEN
        self.check_size(self.input_size, self.input_size)

    @property
    def pos(self) -> Positions | Literal["timm", "none"]:
        """Kind of position table the present weights are; "timm" for Eva, which follows timm's rules."""
        if isinstance(self.model, Eva):
            return "timm"
        table = self.model.pos_embed
        return "none" if table is None else classify_pos_embed(table, self.grid)

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """See `Encoder.forward_layers`."""
        found = self.forward_points(images, layers, [self.point], reduce)
        return {layer: kept for (layer, _), kept in found.items()}

    def forward_points(
        self,
        images: Tensor,
        layers: Sequence[int],
        points: Sequence[str],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[tuple[int, str], Any]:
        """See `Encoder.forward_points`."""
        wanted = check_layers(layers, self.depth)
        grid = self._grid_of(*images.shape[-2:])
        out: dict[tuple[int, str], Any] = {}
        size = (int(images.shape[-2]), int(images.shape[-1]))

        def take(place: tuple[int, str], tokens: Tensor) -> None:
            out[place] = reduce(self._features(tokens, place[0], grid))

        with at_grid(self.model, grid, size, self.antialias):
            if self.model.grad_checkpointing and torch.is_grad_enabled():
                assert set(points) == {BLOCK}, "points in a block are of frozen encoders"
                self._recomputing(images, wanted, lambda layer, x: take((layer, BLOCK), x))
            else:
                modules = {
                    (layer, point): module_at(self.model.blocks[layer - 1], point)
                    for layer in wanted
                    for point in points
                }
                with outputs_of(modules, take):
                    self._intermediates(images, wanted[-1:])
        return out

    def check_points(self) -> None:
        """See `Encoder.check_points`."""
        size = (self.input_size, self.input_size)
        image = torch.ones(1, channels_of(self.model), *size).to(next(self.parameters()))
        with at_grid(self.model, self._grid_of(*size), size, self.antialias):
            check_branches(self.model, lambda: self._intermediates(image, [self.depth]))

    def _intermediates(self, images: Tensor, layers: Sequence[int], **options: Any) -> Any:
        return self.model.forward_intermediates(
            images,
            indices=[layer - 1 for layer in layers],
            stop_early=True,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
            **options,
        )

    def _recomputing(
        self, images: Tensor, layers: Sequence[int], take: Callable[[int, Tensor], None]
    ) -> None:
        """Under activation checkpointing a hook would be part of what is recomputed."""
        prefixed = self.model.num_prefix_tokens > 0
        outputs = self._intermediates(images, layers, return_prefix_tokens=prefixed)
        for layer, output in zip(layers, outputs, strict=True):
            take(layer, torch.cat([output[1], output[0]], dim=1) if prefixed else output)

    def _features(self, tokens: Tensor, layer: int, grid: tuple[int, int]) -> LayerFeatures:
        prefix = self.model.num_prefix_tokens
        patches = tokens[:, prefix:].unflatten(1, grid)
        norm = self._norm_of(layer)
        if self.cls_source == PATCH_MEAN and self._final_norm() is self.model.fc_norm:
            # The model's own feature: it pools first and norms the mean.
            return LayerFeatures(patches.mean((1, 2)), patches, norm)
        if self.cls_source == PATCH_MEAN:
            # The mean of the normed tokens; its norm is taken already.
            mean_token = norm(patches).flatten(1, 2).mean(1)
            return LayerFeatures(mean_token, patches, lambda x: x if x is mean_token else norm(x))
        return LayerFeatures(tokens[:, 0], patches, norm)

    def _norm_of(self, layer: int) -> nn.Module:
        if self.norms is not None and (self.norm == "per-layer" or layer == self.depth):
            norm: nn.Module = self.norms[layer - 1]
            return norm
        final = self._final_norm()
        if layer == self.depth or self.norm == "shared":
            return final
        if self.norm == "none":
            return nn.Identity()
        eps = float(getattr(final, "eps", 1e-6))
        return nn.LayerNorm(self.dims[layer - 1], eps=eps, elementwise_affine=False)

    def _final_norm(self) -> nn.Module:
        if self.norms is not None:
            return self.norms[-1]
        for name in ("norm", "fc_norm"):
            norm = getattr(self.model, name, None)
            if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
                return norm
        return nn.Identity()

    def take_cls(self, source: str) -> None:
        """See `Encoder.take_cls`."""
        if source == CLASS_TOKEN and self.model.cls_token is None:
            raise UsageError("--cls token: this model has no class token.")
        self.cls_source = source

    def check_size(self, height: int, width: int) -> None:
        """See `Encoder.check_size`."""
        self._grid_of(height, width)

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid of an image.

        Raises:
            UsageError: if a side is no multiple of the patch size.
        """
        if height % self.stride or width % self.stride or not height or not width:
            raise UsageError(
                f"Images of {height} x {width} pixels do not divide into patches of {self.stride}: "
                f"choose sides that are multiples of {self.stride} (--img-size)."
            )
        return height // self.stride, width // self.stride

    def truncate(self, layer: int) -> "ViTEncoder":
        """The encoder up to `layer`, whose norm becomes the last one.

        Its parameters are copies, trainable even if these are frozen; a fixed sin-cos table stays
        fixed. Heads and pooling are left out: they would be parameters without gradient.
        """
        check_layers([layer], self.depth)
        if self.point != BLOCK:
            raise UsageError("An encoder is cut after a block: leave --points at block.")
        heads = [getattr(self.model, name, None) for name in ("head", "head_dist", "attn_pool")]
        unused = [*self.model.blocks[layer:], *heads]
        # What the memo holds counts as copied already, so it is never copied at all.
        memo: dict[int, Any] = {id(m): nn.Identity() for m in unused if m is not None}
        model = copy.deepcopy(self.model, memo).requires_grad_(True)
        model.blocks = model.blocks[:layer]
        # fc_norm as such tells that the model norms the pooled token.
        pooled_first = self._final_norm() is self.model.fc_norm
        norm = copy.deepcopy(self._norm_of(layer)).requires_grad_(True)
        model.norm = nn.Identity() if pooled_first else norm
        model.fc_norm = norm if pooled_first else nn.Identity()
        out = ViTEncoder(model, input_size=self.input_size)
        if out.pos.startswith("sincos"):
            model.pos_embed.requires_grad_(False)
        out.mean, out.std, out.cls_source = self.mean, self.std, self.cls_source
        return out.train(self.training)

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Load weights strictly: timm's names, and norms.i.* where the encoder has per-layer norms.

        Raises:
            RuntimeError: torch's, naming every missing, unexpected or mismatched tensor.
        """
        norms = {key: value for key, value in state.items() if key.startswith("norms.")}
        self.model.load_state_dict(
            {key: value for key, value in state.items() if key not in norms}, strict=True
        )
        if self.norms is not None or norms:
            (self.norms or nn.ModuleList()).load_state_dict(
                {key.removeprefix("norms."): value for key, value in norms.items()}, strict=True
            )

    def backbone_state(self) -> dict[str, Tensor]:
        """The tensors `load_backbone` takes."""
        state = dict(self.model.state_dict())
        if self.norms is not None:
            state |= {f"norms.{key}": value for key, value in self.norms.state_dict().items()}
        return state
