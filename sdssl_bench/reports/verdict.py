"""The report's first sentence: who leads on how many benchmarks, where that is certain, where it is a tie.

Of last layers, by `statistics.ranks`. An encoder that lacks a benchmark neither wins nor loses it,
trials made under --limit rank nobody, and nothing is averaged over benchmarks. A single encoder is held
against its own layers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sdssl_bench.rounding import percent

Data = dict[str, Any]
Tally = Mapping[str, Counter[str]]
"""Encoder -> lead ("first", "tied", "behind") -> benchmarks."""

NAMED = 3
"""Encoders that a sentence names at most."""
SELECTED = (
    "Best layers are selected on test: they are picked by the scores shown, which the picking makes "
    "too high. Nothing is averaged over benchmarks."
)


def verdict(data: Data) -> Data:
    """Sentences of plain English on what `page_data.collect` found.

    Args:
        data: with encoders, benchmarks and results.

    Returns:
        "line": the answer. "findings": more of it. "basis": what it rests on. "labels": what is unusual
        about data and encoders, without which no number should be quoted.
    """
    scored = [r for r in data["results"] if data["benchmarks"][r["benchmark"]]["ranked"]]
    ranked = [r for r in scored if data["benchmarks"][r["benchmark"]]["limited"] is None]
    compared = [r for r in ranked if r["standing"] is not None]
    names = sorted({_encoder(data, r) for r in ranked})
    total, kind = len({r["benchmark"] for r in compared}), _kind(data, ranked)
    tally: dict[str, Counter[str]] = {}
    for r in compared:
        tally.setdefault(_encoder(data, r), Counter())[r["standing"]["lead"]] += 1
    findings, basis = [], [SELECTED] if ranked else []
    if scored and not ranked:
        line = "Trials made under --limit: they show that a run works, and rank nothing."
    elif not ranked:
        line = "These results describe encoders; there is no score to rank them by."
    elif len(names) == 1:
        line = _own_layers(data, ranked, names[0], kind)
        findings = ["There is no second encoder to compare it with."]
    elif not compared:
        line = f"{len(names)} encoders, but no benchmark on which two of them can be compared."
        findings = [_earlier_layers(data, ranked)]
    else:
        line = (_of_two if len(tally) == 2 else _of_many)(tally, total, kind)
        findings = [
            _scores_of_two(data, compared, tally),
            _coverage(data, ranked, tally, total),
            _earlier_layers(data, ranked),
        ]
        basis.insert(0, _tests(tally, total))
    return {
        "line": line,
        "findings": list(filter(None, findings)),
        "basis": basis,
        "labels": _labels(data, scored),
    }


def _encoder(data: Data, result: Data) -> str:
    return str(data["encoders"][result["encoder"]]["label"])


def _kind(data: Data, ranked: Sequence[Data]) -> str:
    """An adjective for the benchmarks if all of them need it."""
    infos = [data["benchmarks"][r["benchmark"]] for r in ranked]
    return "miniature " if infos and all(info["variant"] == "mini" for info in infos) else ""


def counted(count: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "result"), counted(1200, "result")
    ('1 result', '1,200 results')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _share(count: int, total: int, kind: str) -> str:
    """So many of all benchmarks.

    >>> _share(5, 16, ""), _share(2, 2, "miniature "), _share(1, 1, "")
    ('5 of 16 benchmarks', 'both miniature benchmarks', 'the one benchmark')
    """
    if count < total:
        return f"{count} of {counted(total, f'{kind}benchmark')}"
    words = {1: f"the one {kind}benchmark", 2: f"both {kind}benchmarks"}
    return words.get(total, f"all {total} {kind}benchmarks")


def _list(names: Sequence[str]) -> str:
    """Names as a sentence has them.

    >>> _list(["a"]), _list(["a", "b"]), _list(list("abcde"))
    ('a', 'a and b', 'a, b, c and 2 more')
    """
    shown = [*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _of_two(tally: Tally, total: int, kind: str) -> str:
    a, b = sorted(tally, key=lambda name: (-tally[name]["first"], name))
    won, lost = tally[a]["first"], tally[b]["first"]
    ties = total - won - lost
    rest = f"; the other {ties} are ties" if ties > 1 else "; the other is a tie" if ties else ""
    if not won:
        return f"{a} and {b} tie on {_share(total, total, kind)}."
    if lost:
        return f"{a} is certainly better on {_share(won, total, kind)}, {b} on {lost}{rest}."
    return f"{a} leads: certainly better than {b} on {_share(won, total, kind)}{rest}."


def _of_many(tally: Tally, total: int, kind: str) -> str:
    order = sorted(tally, key=lambda name: (-tally[name]["first"], -tally[name]["tied"], name))
    most = tally[order[0]]["first"]
    if not most:
        often = tally[order[0]]["tied"]
        tied = [name for name in order if tally[name]["tied"] == often]
        where = f"{'any of ' * (total > 1)}the {counted(total, f'{kind}benchmark')}"
        return (
            f"No encoder is certainly best on {where}; {_list(tied)} {'is' if len(tied) == 1 else 'are'} "
            f"tied for best on {'all' if often == total else often}."
        )
    leaders = [name for name in order if tally[name]["first"] == most]
    if len(leaders) > 1:
        return f"{_list(leaders)} lead: each certainly best on {_share(most, total, kind)}."
    leader = leaders[0]
    shared = tally[leader]["tied"]
    also = f", tied for best on {shared} more" if shared else ""
    others = [f"{name} on {tally[name]['first']}" for name in order[1:] if tally[name]["first"]]
    rest = f"; {_list(others)}" if others else ""
    return f"{leader} leads: certainly best on {_share(most, total, kind)}{also}{rest}."


def _scores_of_two(data: Data, compared: Sequence[Data], tally: Tally) -> str:
    """Whose scores are higher, which is all that ties tell of two encoders."""
    if len(tally) != 2 or any(one["first"] for one in tally.values()):
        return ""
    scores: dict[int, dict[str, float]] = {}
    for r in compared:
        scores.setdefault(r["benchmark"], {})[_encoder(data, r)] = _values(data, r)[r["depth"]]
    higher = Counter(max(one, key=lambda name: one[name]) for one in scores.values()
                     if len(set(one.values())) > 1)  # fmt: skip
    a, b = sorted(tally, key=lambda name: (-higher[name], name))
    equal = len(scores) - higher.total()
    end = f", {equal} {'is' if equal == 1 else 'are'} equal" if equal else ""
    return f"{a} scores higher on {higher[a]}, {b} on {higher[b]}{end}: chance can do that."


def _tests(tally: Tally, total: int) -> str:
    over = f"adjusted by Holm over {counted(total, 'benchmark')}"
    start = (
        "Paired tests (McNemar or sign-flip) compare the last layers of encoders on the same items."
    )
    if len(tally) == 2:
        return f"{start} Better is certain at p ≤ 5%, {over}; else chance can make the difference: a tie."
    return (
        f"{start} An encoder is certainly best where it differs from every other at p ≤ 5%, {over}. "
        "Where none is, those are tied for best that the tests of all pairs, adjusted together, do not "
        "set apart from the highest score."
    )


def _coverage(data: Data, ranked: Sequence[Data], tally: Tally, total: int) -> str:
    parts = []
    has = {
        name: tally.get(name, Counter()).total()
        for name in sorted({_encoder(data, r) for r in ranked})
    }
    fewer = [f"{name} has {n}" for name, n in has.items() if n < total]
    if fewer:
        parts.append(f"Of the {counted(total, 'benchmark')} {_list(fewer)}")
    alone = len({r["benchmark"] for r in ranked}) - total
    if alone:
        parts.append(
            f"{counted(alone, 'benchmark')} cannot be compared, for want of a second encoder with per-item "
            "scores of its last layer"
        )
    return "; ".join(parts) + "." if parts else ""


def _values(data: Data, result: Data) -> dict[int, float]:
    """Layer -> headline."""
    curve = result["metrics"][data["benchmarks"][result["benchmark"]]["headline"]]
    return dict(zip(result["layers"], curve["value"], strict=True))


def _gains(data: Data, ranked: Sequence[Data]) -> list[tuple[float, Data]]:
    """What the best layer of a result is ahead of its last one, largest first."""
    found = [(_values(data, r), r) for r in ranked if len(r["layers"]) > 1]
    gains = [(one[r["best"]] - one[r["depth"]], r) for one, r in found if r["depth"] in one]
    return sorted(gains, key=lambda pair: (-pair[0], pair[1]["key"]))


def _largest(data: Data, gains: Sequence[tuple[float, Data]], *, encoder: bool) -> str:
    gain, r = gains[0]
    who = f"{_encoder(data, r)}, " if encoder else ""
    info = data["benchmarks"][r["benchmark"]]
    task = info["task"]  # "davis davis" is "davis"
    benchmark = info["label"].removeprefix(f"{task} " if info["dataset"].startswith(task) else "")
    return f"by up to {percent(gain)} points ({who}{benchmark}, layer {r['best']} of {r['depth']})"


def _own_layers(data: Data, ranked: Sequence[Data], name: str, kind: str) -> str:
    gains = _gains(data, ranked)
    earlier = sum(gain > 0 for gain, _ in gains)
    if not gains:
        return (
            f"{name} has scores on {counted(len(ranked), f'{kind}benchmark')}, of one layer each."
        )
    if not earlier:
        return f"{name} is best at its last layer on {_share(len(gains), len(gains), kind)}."
    return (
        f"{name} is best before its last layer on {_share(earlier, len(gains), kind)}, "
        f"{_largest(data, gains, encoder=False)}."
    )


def _earlier_layers(data: Data, ranked: Sequence[Data]) -> str:
    gains = _gains(data, ranked)
    earlier = sum(gain > 0 for gain, _ in gains)
    if not earlier:
        return "No earlier layer beats the last." if gains else ""
    return (
        f"An earlier layer beats the last in {earlier} of {counted(len(gains), 'result')}, "
        f"{_largest(data, gains, encoder=True)}."
    )


def _labels(data: Data, scored: Sequence[Data]) -> list[str]:
    infos = [data["benchmarks"][place] for place in sorted({r["benchmark"] for r in scored})]
    counts = {
        "miniature data, which show that the suite works and not what an encoder can do": sum(
            info["variant"] == "mini" for info in infos
        ),
        "a part of the official images": sum(info["variant"] == "partial" for info in infos),
        "trials made under --limit, which rank nobody": sum(
            info["limited"] is not None for info in infos
        ),
    }
    untrained = sorted(
        {_encoder(data, r) for r in scored if data["encoders"][r["encoder"]]["pretrained"] is False}
    )
    return [
        *(f"{_share(n, len(infos), '').capitalize()}: {text}" for text, n in counts.items() if n),
        *([f"Untrained: {_list(untrained)}"] if untrained else []),
    ]
