"""From logits to what a record holds: top-1, top-5, mean per class, and who was right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import ClassificationData
from sdssl_bench.metrics import mean_per_class


@dataclass(frozen=True, eq=False)
class Graded:
    """Ranks of the true classes of some items.

    Attributes:
        ranks: [n] how many classes come before the true one; large where it cannot be predicted.
        targets: [n] true classes.
        num_classes: C.
        classes: classes to average over; None is all C.
    """

    ranks: NDArray[np.int64]
    targets: NDArray[np.int64]
    num_classes: int
    classes: NDArray[np.int64] | None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[n] whether the class ranked first is the true one."""
        return self.ranks < 1

    def metrics(self) -> dict[str, float]:
        """top1, top5 and mean_per_class, fractions."""
        return {
            "top1": float(self.correct.mean()),
            "top5": float((self.ranks < 5).mean()),
            "mean_per_class": mean_per_class(
                self.correct, self.targets, num_classes=self.num_classes, classes=self.classes
            ),
        }


def grade(
    ranks: NDArray[np.int64], targets: NDArray[np.int64], *, num_classes: int, whole: bool
) -> Graded:
    """Ranks of the items of a split; `whole` says that it is complete, so every class must occur."""
    return Graded(ranks, targets, num_classes, None if whole else np.unique(targets))


def mean_of_tries(
    metrics: Sequence[Mapping[str, float]], correct: Mapping[str, Sequence[NDArray[np.bool_]]]
) -> tuple[dict[str, float], dict[str, NDArray[Any]], dict[str, Any]]:
    """What a layer has of several draws of the labels: means, and in the notes what every draw gave.

    Args:
        metrics: by try.
        correct: name -> [n] who was right, by try.

    Returns:
        Metrics; items: [n] the share of tries in which an image was right, of a single try who was right;
        notes: "tries", metric -> values by try, empty of a single one.
    """
    if len(metrics) == 1:
        return dict(metrics[0]), {name: found[0] for name, found in correct.items()}, {}
    values = {name: [one[name] for one in metrics] for name in metrics[0]}
    shares = {name: np.stack(found).mean(axis=0) for name, found in correct.items()}
    means = {name: float(np.mean(found)) for name, found in values.items()}
    return means, shares, {"tries": values}


def is_whole(data: ClassificationData, indices: NDArray[np.int64]) -> bool:
    """Whether these test images are all of an official or miniature test split."""
    return data.variant in ("official", "mini") and len(indices) == len(data.test)


def ranks_of(logits: Tensor, targets: Tensor) -> Tensor:
    """[..., n] ranks of the true classes, higher logit first, equal logits by class id.

    A row with a logit that is not finite ranks every true class last: nothing was predicted.

    Args:
        logits: [..., n, C].
        targets: [n] true classes; -1 where the head does not have the class.
    """
    num_classes = logits.shape[-1]
    place = targets.clamp(min=0)[:, None].expand(*logits.shape[:-1], 1)
    true = logits.gather(-1, place)
    earlier = torch.arange(num_classes, device=logits.device) < place
    ranks = ((logits > true) | ((logits == true) & earlier)).sum(-1)
    lost = ~torch.isfinite(logits).all(-1) | (targets < 0)
    return torch.where(lost, num_classes, ranks)
