"""Position embeddings for any grid: fixed 2-D sine-cosine tables and interpolated learned ones.

Grids are (rows, columns) and tables row-major. Sources: MoCo v3 and SDSSL (row first), MAE (column
first), DINO (bicubic with an offset of 0.1), DINOv2 (antialiased, for its models with registers).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Positions = Literal["learned", "sincos-row", "sincos-column"]
Grid = tuple[int, int]

OFFSET = 0.1
"""DINO adds this to the target grid before dividing, so that rounding never loses a row (dino#8)."""


def sincos_2d(grid: tuple[int, int], dim: int, *, order: Positions = "sincos-row") -> Tensor:
    """Fixed table of a grid: [rows * columns, dim] float32.

    Channels are [sin(a w), cos(a w), sin(b w), cos(b w)] with w_k = 10000^(-k / d), d = dim / 4.
    "sincos-row" takes a = row, b = column (MoCo v3, SDSSL), "sincos-column" the reverse (MAE).

    Raises:
        ValueError: if dim is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"2-D sine-cosine positions need a multiple of 4 channels, found {dim}")
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float64),
        torch.arange(grid[1], dtype=torch.float64),
        indexing="ij",
    )
    first, second = (rows, columns) if order == "sincos-row" else (columns, rows)
    angles = [axis.flatten()[:, None] * omega for axis in (first, second)]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()


def interpolate_learned(
    table: Tensor, base: tuple[int, int], grid: tuple[int, int], *, antialias: bool = False
) -> Tensor:
    """A learned table of a base grid for another grid: [N0, D] -> [rows * columns, D], bicubic.

    Args:
        table: positions of patches only.
        base: grid the table was learned on.
        grid: grid wanted.
        antialias: False is DINO's rule (and DINOv2's without registers): scale factors
            (target + 0.1) / base. True is DINOv2's rule for models with registers: target size.
    """
    if grid == base:
        return table
    maps = table.float().reshape(1, *base, -1).permute(0, 3, 1, 2)
    if antialias:
        out = F.interpolate(maps, size=grid, mode="bicubic", antialias=True)
    else:
        factors = [(side + OFFSET) / old for side, old in zip(grid, base, strict=True)]
        out = F.interpolate(maps, scale_factor=factors, mode="bicubic")
    assert out.shape[-2:] == grid
    return out.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


def classify_pos_embed(table: Tensor, grid: tuple[int, int] | None = None) -> Positions:
    """What a stored table is: one of the two fixed tables (to 1e-4), or learned.

    Args:
        table: [1, N, D] or [N, D], possibly with prefix tokens before the patches.
        grid: its patch grid; None takes the largest square that fits.
    """
    flat = table.detach().float().cpu().reshape(-1, table.shape[-1])
    side = math.isqrt(len(flat))
    rows, columns = grid or (side, side)
    patches = flat[len(flat) - rows * columns :]
    if flat.shape[1] % 4:
        return "learned"
    orders: tuple[Positions, Positions] = ("sincos-row", "sincos-column")
    for order in orders:
        fixed = sincos_2d((rows, columns), flat.shape[1], order=order)
        if torch.allclose(patches, fixed, atol=1e-4):
            return order
    return "learned"


def table_at(table: Tensor, base: Grid, grid: Grid, *, antialias: bool) -> Tensor:
    """A stored table for another grid: computed anew if it is sin-cos, else interpolated.

    What the table is, is asked of its present values, since weights may be loaded or trained after
    the model was wrapped; nothing that depends on them is kept between calls.

    Args:
        table: [1, P + base rows * base columns, D]; the P prefix rows stay as they are.
        base: grid of the table.
        grid: grid wanted.
        antialias: for learned tables, see `interpolate_learned`.

    Returns:
        [1, P + rows * columns, D]; differentiable.
    """
    skip = table.shape[1] - base[0] * base[1]
    kind = classify_pos_embed(table, base)
    if kind == "learned":
        patches = interpolate_learned(table[0, skip:], base, grid, antialias=antialias)
    else:
        patches = sincos_2d(grid, table.shape[-1], order=kind).to(table)
    return torch.cat([table[:, :skip], patches[None]], dim=1)
