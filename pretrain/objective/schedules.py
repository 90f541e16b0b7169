"""Learning rate, alpha and EMA momentum as pure functions of the optimizer step (0-based).

Two warm-ups are in use. MoCo v3's rises linearly with the fractional epoch and reaches the peak at
the first step after it. The SDSSL authors' is linspace(0, peak, warm-up steps), ends included: the
peak is reached one step earlier and repeated.
"""

from math import cos, pi

WARMUPS = ("linear", "linspace")


def learning_rate(
    step: int, total: int, *, peak: float, warmup: int, rule: str = "linear"
) -> float:
    """Warm-up, then a half cosine to 0 over the remaining steps.

    Args:
        step: 0..total - 1.
        total: optimizer steps the schedule is laid out for.
        peak: learning rate after the warm-up, base x global batch / 256.
        warmup: steps of warm-up, possibly 0.
        rule: one of WARMUPS.

    >>> learning_rate(399, 3000, peak=6e-4, warmup=400, rule="linspace")
    0.0006
    >>> learning_rate(20, 300, peak=6e-4, warmup=40)
    0.0003
    """
    if step < warmup:
        if rule == "linear":
            return peak * step / warmup
        return peak * (step / (warmup - 1) if warmup > 1 else 0.0)
    return peak * 0.5 * (1.0 + cos(pi * (step - warmup) / (total - warmup)))


def alpha(step: int, total: int, *, final: float, schedule: str = "cosine") -> float:
    """Weight of L_isd: a half cosine from 0 to `final`, or `final` throughout ("const").

    >>> alpha(750, 3000, final=1.0)
    0.1464466094067262
    """
    if schedule == "const":
        return final
    return final * 0.5 * (1.0 - cos(pi * step / total))


def ema_momentum(step: int, total: int, *, start: float) -> float:
    """Momentum of the teacher: a half cosine from `start` to 1.

    >>> ema_momentum(1500, 3000, start=0.996)
    0.998
    """
    return 1.0 - (1.0 - start) * 0.5 * (1.0 + cos(pi * step / total))
