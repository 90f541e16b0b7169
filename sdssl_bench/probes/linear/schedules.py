"""Learning-rate schedules as pure functions of the epoch or step."""

import math


def cosine(step: float, total: float) -> float:
    """Factor 1 at step 0, 0 at `total`, along half a cosine; no warm-up.

    >>> cosine(0, 90), round(cosine(45, 90), 6)
    (1.0, 0.5)
    """
    return 0.5 * (1.0 + math.cos(math.pi * step / total))


def deit_lr(
    epoch: int, *, lr: float, epochs: int, warmup: int = 3, start: float = 1e-6, end: float = 1e-5
) -> float:
    """Learning rate of an epoch as DeiT's trainer runs timm's cosine.

    The schedule is advanced after an epoch with that epoch's number, so epoch e runs at the value of
    e - 1 and epochs 0 and 1 both at `start`. The cosine counts from epoch 0, not from the warm-up's end.

    >>> [round(deit_lr(e, lr=6e-4, epochs=100) * 1e6, 1) for e in range(5)]
    [1.0, 1.0, 200.7, 400.3, 598.7]
    """
    at = max(epoch - 1, 0)
    if at < warmup:
        return start + at * (lr - start) / warmup
    return end + (lr - end) * cosine(at, epochs)
