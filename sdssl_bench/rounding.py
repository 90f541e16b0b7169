"""Fractions as every table, page and message shows them: x100 with one decimal, halves away from zero.

Scores are counts over items, so halves are common: 885 of 2,000 is 44.25 %. Binary numbers round such
halves up or down by chance, and Python and browsers differ.
"""

import math
from decimal import ROUND_HALF_UP, Decimal

NOISE = 9
"""Decimals of a percentage beyond which a number is rounding of earlier sums."""


def percent(value: float) -> str:
    """A fraction x100.

    >>> percent(0.6844), percent(885 / 2000), percent(627 / 2000)
    ('68.4', '44.3', '31.4')
    """
    return _rounded(value)


def points(difference: float) -> str:
    """A difference of fractions in points, always with its sign.

    >>> points(0.0151), points(-0.00051), points(-0.0001)
    ('+1.5', '-0.1', '+0.0')
    """
    text = _rounded(difference)
    return text if text.startswith("-") else f"+{text}"


def _rounded(value: float) -> str:
    if not math.isfinite(value):
        return f"{value}"
    exact = Decimal(repr(round(100 * float(value), NOISE)))
    text = str(exact.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP))
    return "0.0" if text == "-0.0" else text
