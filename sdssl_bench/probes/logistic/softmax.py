"""Mean cross-entropy of linear softmax models on the rows of many designs: values, gradients, curvature.

P problems, each a layer and a penalty, on designs [N, D + 1] with C classes. Every product with the rows
of a layer serves all its problems at once: their classes are the columns of one matrix.

Logits are taken relative to the true class's, and 1 - p of the true class is summed from the others: so
losses, gradients and curvature keep float32's relative precision however well the classes are parted,
where log p and p - 1 would cancel to noise.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sdssl_bench.probes.linear.design import Design

CHUNK_CPU, CHUNK_DEVICE = 2**22, 2**27
"""Logits held at a time: 16 MB stay near a CPU's cache, half a GB keeps a GPU busy."""


class SoftmaxLoss:
    """Penalised mean cross-entropy of the problems that `begin` names.

    Attributes:
        penalties: [P] float64, of the present problems.
        designs: one per layer, equal shapes.
        num_classes: C.
        products: matrix products with all rows of a layer, counted per problem; what solving costs.
        device: of everything.
    """

    def __init__(
        self, designs: Sequence[Design], targets: Tensor, *, num_classes: int, cache_bytes: int
    ) -> None:
        self.designs = list(designs)
        self.num_classes = num_classes
        self.products = 0
        self.device = designs[0].curvature.device
        self._targets = targets.to(self.device)
        self._cache_bytes = cache_bytes
        self._not_bias = torch.ones(designs[0].width + 1, 1, device=self.device)
        self._not_bias[-1] = 0.0
        self.begin([], torch.zeros(0))

    def zeros(self, num_problems: int) -> Tensor:
        """[P, D + 1, C] zeros."""
        return torch.zeros(
            num_problems, self.designs[0].width + 1, self.num_classes, device=self.device
        )

    def begin(self, layers: Sequence[int], penalties: Tensor) -> None:
        """Name the problems: [P] positions in the list of designs, and [P] penalties in float64.

        Forgets the problems before, whose probabilities may fill the memory.
        """
        self._layers, self.penalties = list(layers), penalties
        shared = max((self._layers.count(layer) for layer in set(layers)), default=1)
        budget = CHUNK_CPU if self.device.type == "cpu" else CHUNK_DEVICE
        # Fixed for the set: what is kept of a chunk must fit that chunk in every later product.
        self._chunk_rows = max(256, budget // (shared * self.num_classes))
        need = 4 * self.designs[0].num_rows * len(layers) * self.num_classes
        self._caching = need <= self._cache_bytes
        self._probabilities: dict[int, list[Tensor]] = {}
        self._spread = torch.zeros(len(layers), self.num_classes, device=self.device)
        self._at = self.zeros(len(layers))

    def preconditioner(self, active: Tensor) -> Tensor:
        """[A, D + 1, C] diagonal: variance of the column x mean p (1 - p) of the class + penalty."""
        spread = self._spread[active]
        curvature = torch.stack([self.designs[self._layers[p]].curvature for p in active.tolist()])
        penalty = self.penalties[active].float()[:, None, None] * self._not_bias
        return (curvature[:, :, None] * spread[:, None, :] + penalty).clamp(min=1e-30)

    def _groups(self, problems: Tensor) -> Iterator[tuple[Design, Tensor]]:
        """Problems of one layer share their matrix products: (design, positions in `problems`)."""
        of_layer: dict[int, list[int]] = {}
        for position, problem in enumerate(problems.tolist()):
            of_layer.setdefault(self._layers[problem], []).append(position)
        for layer, positions in of_layer.items():
            yield self.designs[layer], torch.tensor(positions, device=self.device)

    def evaluate(
        self, problems: Tensor, weights: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Objectives [P] and gradients [P, D + 1, C]; remembers what products with the curvature need.

        Where `keep` is False the gradient is not computed and stays zero.
        """
        keep = torch.ones_like(problems, dtype=torch.bool) if keep is None else keep
        penalty = self.penalties[problems]
        penalised = self._not_bias * weights
        loss = torch.zeros(len(problems), dtype=torch.float64, device=self.device)
        gradient = torch.zeros(weights.shape, dtype=torch.float64, device=self.device)
        for wanted in (True, False):
            chosen = (keep == wanted).nonzero().flatten()
            for design, where in self._groups(problems[chosen]):
                at = chosen[where]
                self._sum_over_rows(design, problems[at], weights[at], at, loss, gradient, wanted)
        self.products += int(keep.sum()) + len(problems)
        objective = loss / self.designs[0].num_rows + 0.5 * penalty * dot(penalised, penalised)
        gradient = gradient / self.designs[0].num_rows + penalty[:, None, None] * penalised
        return objective, gradient.float()

    def _sum_over_rows(
        self,
        design: Design,
        problems: Tensor,
        weights: Tensor,
        at: Tensor,
        loss: Tensor,
        gradient: Tensor,
        wanted: bool,
    ) -> None:
        """Add one layer's losses, and if wanted gradients, into rows `at` of the totals."""
        num, columns = len(problems), _as_columns(weights)
        kept: list[Tensor] = []
        spread = torch.zeros(num, self.num_classes, dtype=torch.float64, device=self.device)
        for part, rows in design.chunks(self._chunk_rows):
            true = self._targets[part, None, None].expand(-1, num, 1)
            p, losses = _others((rows @ columns).unflatten(1, (num, -1)), true)
            loss[at] += losses[..., 0].sum(0, dtype=torch.float64)
            if not wanted:
                continue
            if self._caching:
                kept.append(p.clone())
            _balance(p, true)
            # |p|: the true class holds p - 1, and p (1 - p) is the same for both.
            spread += (p.abs() - p * p).sum(0, dtype=torch.float64)
            gradient[at] += _from_columns(rows.T @ p.flatten(1), num)
        if wanted:
            self._spread[problems] = (spread / design.num_rows).float()
            self._at[problems] = weights
            for position, problem in enumerate(problems.tolist()):
                self._probabilities[problem] = [p[:, position] for p in kept]

    def curvature_product(self, problems: Tensor, vectors: Tensor) -> Tensor:
        """Hessian times vectors [P, D + 1, C]."""
        out = torch.zeros(vectors.shape, dtype=torch.float64, device=self.device)
        for design, where in self._groups(problems):
            num, ids = len(where), problems[where].tolist()
            columns = _as_columns(vectors[where])
            points = _as_columns(self._at[problems[where]])
            for index, (part, rows) in enumerate(design.chunks(self._chunk_rows)):
                true = self._targets[part, None, None].expand(-1, num, 1)
                if self._caching:
                    p = torch.stack([self._probabilities[one][index] for one in ids], 1)
                else:
                    p, _ = _others((rows @ points).unflatten(1, (num, -1)), true)
                change = (rows @ columns).unflatten(1, (num, -1))
                change.sub_(change.gather(-1, true)).mul_(p)
                change.addcmul_(p, change.sum(-1, keepdim=True), value=-1.0)
                _balance(change, true)
                out[where] += _from_columns(rows.T @ change.flatten(1), num)
        self.products += 2 * len(problems)
        penalty = self.penalties[problems][:, None, None]
        return (out / self.designs[0].num_rows + penalty * (self._not_bias * vectors)).float()


def _others(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the classes that are not the true one, which holds 0, and losses.

    Args:
        logits: [n, P, C]; overwritten.
        true: [n, P, 1] classes.

    Returns:
        [n, P, C] and [n, P, 1].
    """
    logits -= logits.gather(-1, true)
    top = logits.amax(-1, keepdim=True)
    others = logits.sub_(top).exp_().scatter_(-1, true, 0.0)
    rest = others.sum(-1, keepdim=True) + torch.expm1(-top)
    return others.div_(1.0 + rest), top + torch.log1p(rest)


def _balance(values: Tensor, true: Tensor) -> None:
    """Give the true class, which holds 0, what makes the sum over classes 0; in place."""
    values.scatter_(-1, true, -values.sum(-1, keepdim=True))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """[P] float64 inner products."""
    return (a.double() * b.double()).sum((-2, -1))


def times(scale: Tensor, vectors: Tensor) -> Tensor:
    """Each problem's vector by its own float64 number: [P], [P, D + 1, C]."""
    return scale.float()[:, None, None] * vectors


def _as_columns(weights: Tensor) -> Tensor:
    """[P, D + 1, C] -> [D + 1, P C]."""
    return weights.transpose(0, 1).flatten(1)


def _from_columns(columns: Tensor, num: int) -> Tensor:
    """[D + 1, P C] -> [P, D + 1, C]."""
    by_problem: Tensor = columns.unflatten(1, (num, -1)).transpose(0, 1)
    return by_problem
