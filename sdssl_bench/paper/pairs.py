"""Which models are a baseline and its self-distilled variant, as the paper's tables pair them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdssl_bench.errors import UsageError
from sdssl_bench.paper.layouts import FRAMEWORKS
from sdssl_bench.records import Stored


@dataclass(frozen=True)
class Pair:
    """A label, a baseline and its SD- variant by architecture; a single model has no second name.

    Attributes:
        label: "MoCo v3", or the baseline's name.
        models: (baseline, SD variant) names; several, of different architectures, share a row.
    """

    label: str
    models: tuple[tuple[str, str | None], ...]


def model_pairs(records: Sequence[Stored], given: Sequence[str] = ()) -> list[Pair]:
    """Which models belong together: those given, then NAME with sd_NAME, then single ones.

    Args:
        records: stored results.
        given: texts "LABEL=BASELINE:SD"; LABEL is optional, several of one label share a row.

    Raises:
        UsageError: for another form, or a model without results.
    """
    whole = [record["model"] for _, record in records if "point" not in record["model"]]
    names = sorted({model["name"] for model in whole})
    pairs: list[tuple[str, str, str | None]] = []
    for text in given:
        label, equals, both = text.rpartition("=")
        baseline, colon, sd = both.partition(":")
        missing = [name for name in (baseline, sd) if name not in names]
        if not colon or missing or (equals and not label):
            raise UsageError(
                f"--pair takes [LABEL=]BASELINE:SD with models that have results, found '{text}'. "
                f"Models: {', '.join(names)}."
            )
        pairs.append((label or baseline, baseline, sd))
    used = {name for _, *both in pairs for name in both}
    for name in names:
        partner = next((one for one in (f"sd_{name}", f"sd-{name}") if one in names), None)
        if name not in used and partner is not None and partner not in used:
            pairs.append((framework_of(name), name, partner))
            used |= {name, partner}
    pairs += [(name, name, None) for name in names if name not in used]
    arch = {model["name"]: model["arch"] for model in whole}
    merged: list[Pair] = []
    for label, baseline, second in pairs:
        row = next((pair for pair in merged if pair.label == label), None)
        if row is None:
            merged.append(Pair(label, ((baseline, second),)))
        elif second is None or arch[baseline] in {arch[one] for one, _ in row.models}:
            merged.append(Pair(baseline, ((baseline, second),)))
        else:
            place = merged.index(row)
            merged[place] = replace(row, models=(*row.models, (baseline, second)))
    return merged


def framework_of(name: str) -> str:
    """The paper's name of a model that is named by its preset, or the name itself.

    >>> framework_of("mocov3_vit_s16"), framework_of("mine")
    ('MoCo v3', 'mine')
    """
    for label, prefix in FRAMEWORKS.items():
        if name == prefix or name.startswith(f"{prefix}_"):
            return label
    return name
