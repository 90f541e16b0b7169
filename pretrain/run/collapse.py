"""Early signs of collapse: how far features spread, and over how many directions.

spread   root mean square distance of unit features from their mean; 0 all equal, 1 all directions
RankMe   exp of the entropy of the normalised singular values (Garrido et al. 2023), 1..min(N, D)
"""

import torch.nn.functional as F
from torch import Tensor

from sdssl_bench.analysis import rankme, singular_values

LEAST_SPREAD = 0.02
LEAST_RANK = 2.0


def spread(features: Tensor) -> float:
    """Standard deviation of [N, D] unit-length features over all coordinates together."""
    unit = F.normalize(features.float(), dim=-1)
    return float((unit - unit.mean(0)).square().sum(-1).mean().sqrt())


def rank_me(features: Tensor) -> float:
    """RankMe of [N, D] features; 1 if they are all zero."""
    values = singular_values(features.float().cpu().numpy())
    return rankme(values) if values.any() else 1.0


def alarm(features: Tensor) -> tuple[dict[str, float], str | None]:
    """Both measures of [N, D] features, and a warning if they say collapse."""
    measures = {"feature_std": spread(features), "rankme": rank_me(features)}
    if measures["feature_std"] >= LEAST_SPREAD and measures["rankme"] >= LEAST_RANK:
        return measures, None
    return measures, (
        f"the features are collapsing: standard deviation {measures['feature_std']:.4f} "
        f"(alarm below {LEAST_SPREAD}), RankMe {measures['rankme']:.1f} (below {LEAST_RANK})"
    )
