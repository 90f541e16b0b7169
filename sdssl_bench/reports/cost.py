"""What a result cost: seconds by phase, and images per second where the record can tell."""

from typing import Any

from sdssl_bench.records import Record

WHOLE = ("total", "extract")
"""Phases that hold others: "train/total" is all of "train/load", "train/forward", ..."""


def cost(record: Record) -> dict[str, Any]:
    """Seconds of a record's layers together.

    Returns:
        "phases": name -> seconds; they add up to "total". What a pass spent beside its named phases is
        its "other". "rate": images per second of the passes through the encoder, null where no
        pass is recorded, as when the features were stored already. A pass that was resumed is recorded
        with its last part only, so its rate is too high.
    """
    seconds: dict[str, float] = {}
    for entry in record["layers"].values():
        for phase, spent in entry["seconds"].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    phases: dict[str, float] = {}
    images, passing = 0, 0.0
    for group in dict.fromkeys(phase.rpartition("/")[0] for phase in seconds):
        inside = {p: s for p, s in seconds.items() if p.rpartition("/")[0] == group}
        named = {p: s for p, s in inside.items() if p.rpartition("/")[2] not in WHOLE}
        whole = [s for p, s in inside.items() if p not in named]
        phases |= named
        if whole:
            rest = sum(whole) - sum(named.values())
            prefix = f"{group}/" if group else ""
            name = f"{prefix}other" if named else f"{prefix}extract"
            phases[name] = max(0.0, rest)
        forward = f"{group}/forward" if group else "forward"
        split = group or (next(iter(record["dataset"]["splits"])) if _one_split(record) else "")
        size = record["dataset"]["splits"].get(split)
        if inside.get(forward, 0.0) > 0 and size is not None:
            images += size
            passing += sum(whole) or inside[forward]
    return {
        "phases": {phase: round(spent, 3) for phase, spent in phases.items() if spent >= 0.0005},
        "total": round(sum(phases.values()), 3),
        "rate": round(images / passing, 2) if passing > 0 else None,
        "device": " + ".join(sorted({one["device"] for one in record["environments"]})),
        "processes": max(one["processes"] for one in record["environments"]),
    }


def _one_split(record: Record) -> bool:
    return len(record["dataset"]["splits"]) == 1
