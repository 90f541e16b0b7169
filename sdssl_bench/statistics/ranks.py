"""Which ranks of a leaderboard are real: rank intervals, tie groups and leads from paired tests.

On each benchmark every pair of models is tested on the same items at its last layer, p values adjusted by
Holm within the benchmark. A model's rank lies between 1 + the models that are significantly better and
M - the models that are significantly worse. Tie groups are made from the top: a group is its best
model and all that cannot be told from it; the next group begins with the best model that can.

Who leads is asked of all benchmarks at once. A model is first where it is better than every other: the
largest p of its tests counts, adjusted by Holm over the benchmarks. That it was picked by its score needs no
more (Gutmann, Maymin 1987; Hung, Fithian 2019). Where nobody is first, those are tied that the tests of all
pairs on all benchmarks, adjusted together, do not set apart from the highest score. For two models both are
the tests of `comparison` at the last layer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sdssl_bench.errors import UsageError
from sdssl_bench.records import Record, Stored
from sdssl_bench.statistics.items import ItemScores, layer_item_scores
from sdssl_bench.statistics.paired_tests import holm, paired_test


@dataclass(frozen=True)
class RankInterval:
    """A model's place on one benchmark.

    Attributes:
        first: best rank it may have.
        last: worst rank it may have.
        group: "a" for the top group, then "b" and so on.
        models: models that were ranked.
        lead: "first" if it is certainly better than every other, "tied" if it may be the best, else
            "behind"; see `leads`.
    """

    first: int
    last: int
    group: str
    models: int
    lead: str

    def __str__(self) -> str:
        ranks = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ranks}{self.group}"


def benchmark_key(record: Record) -> tuple[str, ...]:
    """What two records must share to stand in one column."""
    data, protocol = record["dataset"], record["protocol"]
    return (
        record["task"], protocol["id"], str(protocol["version"]), protocol["digest"],
        data["name"], data["variant"], data["fingerprint"], record["headline"],
    )  # fmt: skip


def rank_intervals(records: Iterable[Stored], *, alpha: float = 0.05) -> dict[str, RankInterval]:
    """Record key -> standing, of records whose last layer has per-item scores and company.

    Args:
        records: with their paths; those made under --limit are left out.
        alpha: level of significance.

    Raises:
        DataError: if per-item scores are missing or do not give the stored numbers.
    """
    columns: dict[tuple[str, ...], list[tuple[str, ItemScores]]] = {}
    for path, record in records:
        depth = record["model"]["depth"]
        if record["limited"] is None and str(depth) in record["layers"]:
            units = layer_item_scores(record, path, depth)
            if units is not None:
                columns.setdefault(benchmark_key(record), []).append((record["key"], units))
    orders = [
        sorted(members, key=lambda member: (-member[1].value, member[0]))
        for members in columns.values()
        if len(members) > 1
    ]
    tests = [
        {(i, j): _p(order[i][1], order[j][1]) for i, j in combinations(range(len(order)), 2)}
        for order in orders
    ]
    found: dict[str, RankInterval] = {}
    for order, p_values, lead in zip(orders, tests, leads(tests, alpha=alpha), strict=True):
        found |= _ranked([key for key, _ in order], p_values, lead, alpha)
    return found


def leads(tests: Sequence[Mapping[tuple[int, int], float]], *, alpha: float) -> list[list[str]]:
    """Who leads each benchmark, of its models by falling score.

    Args:
        tests: one mapping per benchmark, (place, later place) -> p of all pairs.
        alpha: level of significance over all benchmarks.

    Returns:
        One list per benchmark: "first", "tied" or "behind" by place.

    >>> leads([{(0, 1): 0.01}, {(0, 1): 0.03}], alpha=0.05)
    [['first', 'behind'], ['first', 'behind']]
    """
    firsts = holm([max(p for (i, _), p in one.items() if i == 0) for one in tests])
    pairs = iter(holm([p for one in tests for p in one.values()]))
    found = []
    for one, first in zip(tests, firsts, strict=True):
        apart = {pair for pair, p in zip(one, pairs, strict=False) if p <= alpha}
        others = range(1, 1 + max(later for _, later in one))
        if first <= alpha:
            found.append(["first", *("behind" for _ in others)])
        else:
            found.append(["tied", *("behind" if (0, j) in apart else "tied" for j in others)])
    return found


def _ranked(
    order: Sequence[str],
    p_values: Mapping[tuple[int, int], float],
    lead: Sequence[str],
    alpha: float,
) -> dict[str, RankInterval]:
    """Of the models of one benchmark, keys by falling score."""
    adjusted = holm(list(p_values.values()))
    apart = {pair for pair, p in zip(p_values, adjusted, strict=True) if p <= alpha}
    groups, leader = [0], 0
    for place in range(1, len(order)):
        if (leader, place) in apart:
            leader = place
            groups.append(groups[-1] + 1)
        else:
            groups.append(groups[-1])
    total = len(order)
    return {
        key: RankInterval(
            first=1 + sum((other, place) in apart for other in range(place)),
            last=total - sum((place, other) in apart for other in range(place + 1, total)),
            group=_letters(groups[place]),
            models=total,
            lead=lead[place],
        )
        for place, key in enumerate(order)
    }


def _p(a: ItemScores, b: ItemScores) -> float:
    """1 where the models were not scored on the same items: nothing can be said of them."""
    try:
        return paired_test(a, b, layers=(0, 0)).p
    except UsageError:
        return 1.0


def _letters(number: int) -> str:
    """Letters of a group: a to z, then aa.

    >>> [_letters(n) for n in (0, 25, 26)]
    ['a', 'z', 'aa']
    """
    letters = ""
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return letters
