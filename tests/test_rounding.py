"""Percentages: halves of a tenth go away from zero, whatever the binary number."""

from fractions import Fraction
from math import floor, nan

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sdssl_bench.rounding import percent, points


@given(some.integers(1, 60_000).flatmap(lambda n: some.tuples(some.integers(0, n), some.just(n))))
def test_counts_over_items_round_as_exact_fractions(count: tuple[int, int]) -> None:
    right, n = count
    tenths = floor(Fraction(1000 * right, n) + Fraction(1, 2))
    assert percent(right / n) == f"{tenths // 10}.{tenths % 10}"


@pytest.mark.parametrize("noise", [-1e-15, 0.0, 1e-15])
def test_rounding_of_earlier_sums_does_not_show(noise: float) -> None:
    assert percent(0.4425 + noise) == "44.3"
    assert points(-0.4425 + noise) == "-44.3"


def test_differences_have_a_sign_and_zero_is_plus() -> None:
    assert [points(x) for x in (0.0, -0.0, -0.0004, 0.0005, -0.0005)] == [
        "+0.0", "+0.0", "+0.0", "+0.1", "-0.1",
    ]  # fmt: skip


def test_a_number_that_is_none_stays_visible() -> None:
    assert percent(nan) == "nan"
