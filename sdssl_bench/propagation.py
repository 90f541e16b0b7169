"""Label propagation: every patch takes the labels of the most similar patches of earlier frames.

Affinity of target patch i and source patch j is exp(<f_i, f_j> / T) on L2-normalised features, zero
outside a window around i. Of all affinities of i to all context frames jointly the k largest are kept
(ties of the k-th too), divided by their sum, and used to average the sources' soft labels (Jabri et
al. 2020; constants of DINO's DAVIS evaluation).

The (hw)^2 affinities are never formed. Targets are taken in tiles, each against the part of the
sources that its windows reach, so the result is exact: only entries that the window sets to zero are
left out. Similarities are compared before the exponential, which keeps their order.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sdssl_bench.threads import Crew

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


def unit(features: Tensor) -> Tensor:
    """[..., D] L2-normalised in float32."""
    return F.normalize(features.float(), dim=-1)


class Context:
    """The context frames of one video at one layer: the first frame and the `length` before this one.

    Features and labels lie in blocks of columns, so that what the windows of a tile reach is a few
    whole matrices: no copy is made per tile, and a frame takes h * w * (D + C) floats.

    Args:
        features: [h, w, D] of the first frame, any length.
        labels: [h, w, C] of the first frame.
        rule: constants of the propagation.
        length: frames remembered besides the first.
        tile: rows and columns of targets worked on at once; speed only. None chooses.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        rule: Rule,
        length: int,
        tile: tuple[int, int] | None = None,
    ) -> None:
        width = features.shape[1]
        if tile is None:
            # Columns as wide as the radius: a tile and its two neighbours are exactly its reach. A
            # GPU prefers few large products to few operations.
            small = features.device.type == "cpu"
            tile = (8, min(max(rule.radius, 8), 16)) if small else (16, width)
        self.rule, self.tile = rule, tile
        self.first = self._frame(unit(features), labels)
        self.recent: deque[_Frame] = deque(maxlen=length)

    def _frame(self, features: Tensor, labels: Tensor) -> "_Frame":
        def columns(table: Tensor) -> tuple[Tensor, ...]:
            return tuple(part.contiguous() for part in table.split(self.tile[1], dim=1))

        return _Frame(columns(features), columns(labels.float()))

    def step(self, features: Tensor, crew: Crew | None = None) -> Tensor:
        """Soft labels [h, w, C] of the next frame from its features [h, w, D]; remembers both.

        Args:
            features: of the next frame, any length.
            crew: workers that share the columns of the frame; None works in this thread.
        """
        target = self._frame(unit(features), features[..., :0])
        numbers = range(len(target.features))
        if crew is None:
            parts = [self._column(target, number) for number in numbers]
        else:
            parts = crew.map(lambda number: self._column(target, number), numbers)
        labels = torch.cat(parts, dim=1)
        known = labels.split(self.tile[1], dim=1)
        self.recent.append(_Frame(target.features, tuple(part.contiguous() for part in known)))
        return labels

    def _column(self, target: "_Frame", number: int) -> Tensor:
        """[h, b, C] labels of one block of columns of the target."""
        part, rule = target.features[number], self.rule
        height, width, _ = part.shape
        reach = -(-rule.radius // self.tile[1])
        blocks = range(max(number - reach, 0), min(number + reach + 1, len(target.features)))
        local = [*([self.first] if rule.window_on_first else []), *self.recent]
        before = sum(target.features[b].shape[1] for b in blocks if b < number)
        widths = tuple(target.features[b].shape[1] for b in blocks)
        out = []
        for r0 in range(0, height, self.tile[0]):
            r1 = min(r0 + self.tile[0], height)
            top, bottom = max(r0 - rule.radius, 0), min(r1 + rule.radius, height)
            query = part[r0:r1].flatten(0, 1)
            seen = []
            if not rule.window_on_first:
                whole = range(len(target.features))
                seen.append(_Seen(*_similarity(query, [self.first], whole, (0, height)), None))
            if local:
                outside = _outside(
                    rule.shape,
                    rule.radius,
                    rows=(r0 - top, r1 - r0, bottom - top),
                    columns=(before, width, widths),
                    device=query.device,
                )
                near = _similarity(query, local, blocks, (top, bottom))
                seen.append(_Seen(*near, outside))
            out.append(_attend(seen, rule).view(r1 - r0, width, -1))
        return torch.cat(out)


def propagate(
    target: Tensor,
    sources: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    rule: Rule,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """Soft labels of one frame from those of its context.

    Args:
        target: [h, w, D] features.
        sources: S tensors [h, w, D], the first frame first.
        labels: S tensors [h, w, C] of the same frames.
        rule: constants.
        tile: rows and columns of targets worked on at once; speed only. None chooses.

    Returns:
        [h, w, C] labels; each patch's sum to 1 where the sources' do.
    """
    context = Context(sources[0], labels[0], rule=rule, length=len(sources), tile=tile)
    for features, known in zip(sources[1:], labels[1:], strict=True):
        context.recent.append(context._frame(unit(features), known))
    return context.step(target)


@dataclass(frozen=True, eq=False)
class _Frame:
    """One context frame, cut into blocks of columns: [h, b, D] unit features and [h, b, C] labels."""

    features: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]


def _similarity(
    query: Tensor, frames: Sequence[_Frame], blocks: range, rows: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Cosines [S, m, n] of m targets to a part of S frames, and the labels [S * n, C] of that part."""
    inside = slice(*rows)
    keys = [[frame.features[b][inside].flatten(0, 1) for b in blocks] for frame in frames]
    out = query.new_empty(len(frames), len(query), sum(len(key) for key in keys[0]))
    # One product per frame: equal patches at one place of several frames get equal bits.
    for similarity, parts in zip(out, keys):
        start = 0
        for key in parts:
            torch.mm(query, key.T, out=similarity[:, start : start + len(key)])
            start += len(key)
    labels = [frame.labels[b][inside].flatten(0, 1) for frame in frames for b in blocks]
    return out, torch.cat(labels)


@lru_cache(maxsize=256)
def _outside(
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
class _Seen:
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


def _attend(blocks: Sequence[_Seen], rule: Rule) -> Tensor:
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
