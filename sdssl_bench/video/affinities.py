"""Which affinities of label propagation count: the window, the k largest, their ties.

Similarities are compared before the exponential, which keeps their order. See `propagation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SHAPES = ("square", "circle")


@dataclass(frozen=True)
class Rule:
    """Constants of the propagation; the defaults are DINO's.

    Attributes:
        radius: of the window in patches.
        shape: "square" (at most `radius` rows and columns) or "circle" (Euclidean distance).
        topk: affinities kept per target patch, over all context frames jointly.
        temperature: of the exponential.
        keep_ties: whether affinities equal to the k-th are all kept; else the first k count, in
            an order that depends on their places alone.
        window_on_first: whether the window applies to the first context frame too.
    """

    radius: int = 12
    shape: str = "square"
    topk: int = 5
    temperature: float = 0.1
    keep_ties: bool = True
    window_on_first: bool = True


@lru_cache(maxsize=256)
def outside_window(
    shape: str,
    radius: int,
    *,
    rows: tuple[int, int, int],
    columns: tuple[int, int, tuple[int, ...]],
    device: torch.device,
) -> Tensor:
    """[m, n] 0 where a source patch lies in the window of a target patch, -inf elsewhere.

    Args:
        shape: of SHAPES.
        radius: in patches.
        rows: source rows above the first target, target rows, source rows.
        columns: source columns left of the first target, target columns, width of each source block.
        device: of the result.
    """
    above, height, num_rows = rows
    before, width, widths = columns
    dy = torch.arange(above, above + height)[:, None] - torch.arange(num_rows)
    dx = torch.arange(before, before + width)[:, None] - torch.arange(sum(widths))
    parts = []
    for across in dx.split(widths, dim=1):
        down, sideways = dy[:, None, :, None], across[None, :, None, :]
        if shape == "square":
            inside = (down.abs() <= radius) & (sideways.abs() <= radius)
        else:
            inside = down**2 + sideways**2 <= radius**2
        parts.append(inside.flatten(2).flatten(0, 1))
    return torch.where(torch.cat(parts, 1), 0.0, -torch.inf).to(device)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The part of some context frames that the targets of one tile can see.

    Attributes:
        similarity: [S, m, n] of m targets to the same n places of S frames.
        labels: [S * n, C].
        outside: [m, n] 0 in the window and -inf elsewhere, one for all frames; None: no window.
    """

    similarity: Tensor
    labels: Tensor
    outside: Tensor | None

    def candidates(self, k: int) -> tuple[Tensor, Tensor]:
        """Similarities [m, c] that hold the k largest of each target, and their rows in `labels`.

        An entry among the k largest lies in a column whose maximum over the frames is among the k
        largest maxima, so the long search is over n columns and not over S * n entries.
        """
        count, _, n = self.similarity.shape
        peak = self.similarity.amax(0) if count > 1 else self.similarity[0]
        if self.outside is not None:
            peak = peak + self.outside
        columns = peak.topk(min(k, n), dim=1).indices
        values = self.similarity.gather(2, columns.expand(count, *columns.shape))
        if self.outside is not None:
            values += self.outside.gather(1, columns)
        start = n * torch.arange(count, device=columns.device)[:, None]
        return values.movedim(0, 1).flatten(1), (columns[:, None] + start).flatten(1)

    def dense(self, targets: Tensor) -> Tensor:
        """[t, S * n] all similarities of some targets, in the order of `labels`."""
        every = self.similarity[:, targets]
        if self.outside is not None:
            every = every + self.outside[targets]
        return every.movedim(0, 1).flatten(1)


def attend(blocks: Sequence[Neighbourhood], rule: Rule) -> Tensor:
    """[m, C] average of labels, weighted by the largest affinities over all blocks."""
    values, rows, offset = [], [], 0
    for block in blocks:
        similarity, row = block.candidates(rule.topk + 1)
        values.append(similarity)
        rows.append(row + offset)
        offset += len(block.labels)
    joint = torch.cat(values, 1)
    k, more = min(rule.topk, joint.shape[1]), min(rule.topk + 1, joint.shape[1])
    best, place = joint.topk(more, dim=1)
    chosen = torch.cat(rows, 1).gather(1, place[:, :k])
    labels = torch.cat([block.labels for block in blocks]) if len(blocks) > 1 else blocks[0].labels
    weights = ((best[:, :k] - best[:, :1]) / rule.temperature).exp()
    weights = weights / weights.sum(1, keepdim=True)
    out = torch.einsum("mk,mkc->mc", weights, labels[chosen])
    if more > k:
        tied = torch.nonzero(best[:, k] == best[:, k - 1])[:, 0]
        if len(tied):
            every = torch.cat([block.dense(tied) for block in blocks], 1)
            out[tied] = _attend_tied(every, best[tied, k - 1], labels, rule=rule)
    return out


def _attend_tied(every: Tensor, kth: Tensor, labels: Tensor, *, rule: Rule) -> Tensor:
    """[m, C] for targets whose k-th largest similarity occurs more often than there is room for.

    Args:
        every: [m, all] similarities.
        kth: [m] the k-th largest.
        labels: [all, C].
        rule: constants.
    """
    above, equal = every > kth[:, None], every == kth[:, None]
    if not rule.keep_ties:
        room = rule.topk - above.sum(1, keepdim=True)
        equal &= equal.cumsum(1) <= room
    weights = ((every - every.amax(1, keepdim=True)) / rule.temperature).exp() * (above | equal)
    return (weights / weights.sum(1, keepdim=True)) @ labels
