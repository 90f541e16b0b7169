"""What a timm model is asked for: its blocks' outputs, one at a time, at any patch grid.

Both functions lend something to the model for the length of one forward pass (hooks; tables for the
grid) and always take it back. One model must therefore not run in two threads at once.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any, TypeVar

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from sdssl_bench.encoders.position_embeddings import Grid, table_at

Place = TypeVar("Place", bound=Hashable)
"""What a module is known by: the number of its layer, or that and a point in it."""


@contextmanager
def outputs_of(
    modules: Mapping[Place, nn.Module], use: Callable[[Place, Tensor], None]
) -> Iterator[None]:
    """Calls use(place, output) as soon as each module has run; keeps no output itself."""
    with ExitStack() as stack:
        for place, module in modules.items():

            def hook(_: nn.Module, __: Any, output: Tensor, place: Place = place) -> None:
                use(place, output)

            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def at_grid(
    model: Any, grid: Grid, size: tuple[int, int], antialias: bool | None
) -> Iterator[None]:
    """Lets a timm ViT see images of another size than the one it was built for.

    Its table and its notion of grid and image size are exchanged meanwhile; with those, timm's static
    and dynamic code paths both add the given table as it is. Parameters are untouched, gradients
    reach the original table.

    Args:
        model: timm VisionTransformer or Eva.
        grid: patch grid of the images.
        size: (height, width) of the images in pixels.
        antialias: how a learned table is resampled, see `position_embeddings.table_at`; None is timm's
            own way (Eva).
    """
    embed = model.patch_embed
    own_grid, own_size = tuple(embed.grid_size), embed.img_size
    if grid == own_grid and size == tuple(own_size):
        yield
        return
    table, rope = model.pos_embed, getattr(model, "rope", None)
    try:
        if table is not None:
            model._parameters["pos_embed"] = (
                _timm_table(model, grid)
                if antialias is None
                else table_at(table, own_grid, grid, antialias=antialias)
            )
        if rope is not None and not model.dynamic_img_size and hasattr(rope, "update_feat_shape"):
            model._modules["rope"] = _rope_at(rope, grid)
        embed.grid_size, embed.img_size = grid, size
        yield
    finally:
        embed.grid_size, embed.img_size = own_grid, own_size
        if table is not None:
            model._parameters["pos_embed"] = table
        if rope is not None:
            model._modules["rope"] = rope


def _timm_table(model: Any, grid: Grid) -> Tensor:
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    built = model.patch_embed.grid_size
    table: Tensor = resample_abs_pos_embed(
        model.pos_embed, new_size=grid, old_size=built, num_prefix_tokens=prefix
    )
    return table


def _rope_at(rope: Any, grid: Grid) -> Any:
    """The rotary embedding for a grid; its parameters, if it has any, are the very same."""
    other = deepcopy(rope, {id(p): p for p in rope.parameters()})
    other.update_feat_shape(grid)
    return other
