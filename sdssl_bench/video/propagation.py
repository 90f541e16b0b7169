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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdssl_bench.system import ThreadTeam
from sdssl_bench.video.affinities import Neighbourhood, Rule, attend, outside_window

WHOLE_FRAME = 2048
"""Patches up to which a GPU takes a frame as one tile: 17 MB of similarities for a context frame."""


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
            # A frame little higher than the window is cut into columns alone: what a tile reaches is
            # one matrix of each frame, and few columns reach little in vain. Else columns as wide as
            # the radius: a tile and its two neighbours are exactly its reach. A GPU prefers few large
            # products to few operations, as long as they fit.
            height = len(features)
            if features.device.type != "cpu":
                tile = (height if height * width <= WHOLE_FRAME else 16, width)
            elif height <= 3 * rule.radius:
                tile = (height, 4)
            else:
                tile = (8, min(max(rule.radius, 8), 16))
        self.rule, self.tile = rule, tile
        self.first = self._frame(unit(features), labels)
        self.recent: deque[_Frame] = deque(maxlen=length)

    def _frame(self, features: Tensor, labels: Tensor) -> "_Frame":
        return _Frame(_columns(features, self.tile[1]), _columns(labels.float(), self.tile[1]))

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Adds a frame: [h, w, D] features of any length, [h, w, C] labels."""
        self.recent.append(self._frame(unit(features), labels))

    def step(self, features: Tensor, crew: ThreadTeam | None = None) -> Tensor:
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
        self.recent.append(_Frame(target.features, _columns(labels, self.tile[1])))
        return labels

    @property
    def similarities(self) -> tuple[int, int]:
        """How many a step makes with the first frame, and with each frame before it."""
        height = self.first.features[0].shape[0]
        widths = [part.shape[1] for part in self.first.features]
        rows = sum((r1 - r0) * (bottom - top) for r0, r1, top, bottom in self._tiles(height))
        columns = sum(
            width * sum(widths[b] for b in self._blocks(number))
            for number, width in enumerate(widths)
        )
        near = rows * columns
        return near if self.rule.window_on_first else (height * sum(widths)) ** 2, near

    def _blocks(self, number: int) -> range:
        """Blocks of columns that the windows of one reach."""
        reach = -(-self.rule.radius // self.tile[1])
        return range(max(number - reach, 0), min(number + reach + 1, len(self.first.features)))

    def _tiles(self, height: int) -> Iterator[tuple[int, int, int, int]]:
        """First row and end of each tile's targets, and of the sources that their windows reach."""
        for r0 in range(0, height, self.tile[0]):
            r1 = min(r0 + self.tile[0], height)
            yield r0, r1, max(r0 - self.rule.radius, 0), min(r1 + self.rule.radius, height)

    def _column(self, target: "_Frame", number: int) -> Tensor:
        """[h, b, C] labels of one block of columns of the target."""
        part, rule = target.features[number], self.rule
        height, width, _ = part.shape
        blocks = self._blocks(number)
        local = [*([self.first] if rule.window_on_first else []), *self.recent]
        before = sum(target.features[b].shape[1] for b in blocks if b < number)
        widths = tuple(target.features[b].shape[1] for b in blocks)
        out = []
        for r0, r1, top, bottom in self._tiles(height):
            query = part[r0:r1].flatten(0, 1)
            seen = []
            if not rule.window_on_first:
                whole = range(len(target.features))
                seen.append(
                    Neighbourhood(*_similarity(query, [self.first], whole, (0, height)), None)
                )
            if local:
                outside = outside_window(
                    rule.shape,
                    rule.radius,
                    rows=(r0 - top, r1 - r0, bottom - top),
                    columns=(before, width, widths),
                    device=query.device,
                )
                near = _similarity(query, local, blocks, (top, bottom))
                seen.append(Neighbourhood(*near, outside))
            out.append(attend(seen, rule).view(r1 - r0, width, -1))
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
        context.remember(features, known)
    return context.step(target)


@dataclass(frozen=True, eq=False)
class _Frame:
    """One context frame, cut into blocks of columns: [h, b, D] unit features and [h, b, C] labels.

    Blocks lie one behind the other in memory.
    """

    features: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]


def _columns(table: Tensor, across: int) -> tuple[Tensor, ...]:
    """[h, w, X] as blocks [h, b, X] of `across` columns, one behind the other in memory."""
    height, blocks = len(table), table.split(across, dim=1)
    flat = torch.cat([block.flatten(0, 1) for block in blocks])
    parts = flat.split([height * block.shape[1] for block in blocks])
    return tuple(part.unflatten(0, (height, -1)) for part in parts)


def _joined(blocks: Sequence[Tensor]) -> Tensor:
    """[n, X] neighbouring whole blocks [h, b, X] of one frame, without a copy."""
    first, size = blocks[0], sum(block.shape[0] * block.shape[1] for block in blocks)
    return first.as_strided((size, first.shape[2]), (first.shape[2], 1))


def _similarity(
    query: Tensor, frames: Sequence[_Frame], blocks: range, rows: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Cosines [S, m, n] of m targets to a part of S frames, and the labels [S * n, C] of that part."""
    inside = slice(*rows)
    if rows == (0, len(frames[0].features[0])):
        # Whole blocks lie one behind the other: they are one matrix.
        keys = [[_joined(frame.features[blocks.start : blocks.stop])] for frame in frames]
    else:
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
