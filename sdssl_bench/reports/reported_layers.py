"""Every layer of released checkpoints as a tidy table, the published number at the layer it is of."""

from collections.abc import Sequence

import pandas as pd

from sdssl_bench.paper import Compared, reproduction
from sdssl_bench.reports.leaderboard import COLUMNS, tidy

REPORTED = ("published", "difference", "within_interval", "differs", "setting", "source")


def released_layers(found: Sequence[tuple[str, Compared]]) -> pd.DataFrame:
    """One row per checkpoint, benchmark and layer; nothing of what was not measured.

    Args:
        found: names of releases with what `paper.releases.compare` says.

    Returns:
        "checkpoint", the columns of the leaderboard's CSV, and those of `REPORTED`, which are empty
        but at the layer that the published number is of. Values are fractions.

    Raises:
        DataError: if per-item scores are missing or do not give the stored number.
    """
    parts = []
    for name, one in found:
        if one.stored is None or one.number is None:
            continue
        frame = tidy([one.stored], uncertainty=True, include_limited=True)
        frame = frame[frame["metric"] == one.metric]
        at, row = frame["layer"] == one.number.layer, one.published
        known: dict[str, object] = dict.fromkeys(REPORTED)
        if row is not None:
            interval = one.number.interval
            known = {
                "published": row.value,
                "difference": one.number.value - row.value,
                "within_interval": interval and reproduction.within(row.value, interval),
                "differs": one.benchmark.differs,
                "setting": row.setting,
                "source": row.source,
            }
        more = {key: pd.Series(value, frame.index).where(at) for key, value in known.items()}
        parts.append(frame.assign(checkpoint=name, **more))
    columns = ["checkpoint", *COLUMNS, *REPORTED]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)
