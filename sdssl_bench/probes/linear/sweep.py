"""Which penalties logistic regression tries, and how the best is chosen on validation images.

C is scikit-learn's: it multiplies the sum of losses, so the penalty of the mean loss is 1 / (C N).

    grid   45 values of C, 10^-6 ... 10^5 (DINOv2), all of them; ssl-transfer's 45 are their inverses
    clip   96 values, 10^-6 ... 10^6 (CLIP), searched: seven far apart, then halving around the peak
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

GRID = tuple(float(c) for c in 10.0 ** np.linspace(-6, 5, 45))
CLIP = tuple(float(c) for c in 10.0 ** np.linspace(-6, 6, 96))
CLIP_START = (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)
"""Where CLIP's search starts, rounded to the nearest of its 96 values."""
CLIP_STEP = 8
"""Half the distance of these, in places of the 96; halved until it is 1."""

SWEEPS = ("grid", "clip")


def best(scores: Mapping[float, float]) -> float:
    """The C with the best validation score; of equals the smallest, which penalises most.

    >>> best({0.1: 0.5, 1.0: 0.7, 10.0: 0.7})
    1.0
    """
    return min(scores, key=lambda c: (-scores[c], c))


def clip_search(
    evaluate: Callable[[Sequence[Sequence[float]]], Sequence[Mapping[float, float]]],
    num_layers: int,
) -> list[dict[float, float]]:
    """CLIP's search, for all layers in step.

    Args:
        evaluate: the Cs each layer asks for -> their validation scores; a C can be left out.
        num_layers: searches to run.

    Returns:
        For each layer every C that has a score; 11 to 15 of the 96 are tried.
    """
    start = sorted({int(np.abs(np.log(np.array(CLIP) / c)).argmin()) for c in CLIP_START})
    asked = [list(start) for _ in range(num_layers)]
    scores: list[dict[float, float]] = [{} for _ in range(num_layers)]
    step = CLIP_STEP
    while True:
        found = evaluate([[CLIP[i] for i in one] for one in asked])
        for known, new in zip(scores, found, strict=True):
            known.update(new)
        if step == 0:
            return scores
        asked = []
        for known in scores:
            if not known:
                asked.append([])
                continue
            peak = CLIP.index(best(known))
            around = [i for i in (peak - step, peak + step) if 0 <= i < len(CLIP)]
            asked.append([i for i in around if CLIP[i] not in known])
        step //= 2
