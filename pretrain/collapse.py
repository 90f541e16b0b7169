"""Early signs of collapse: how far features spread, and over how many directions.

spread   root mean square distance of unit features from their mean; 0 all equal, 1 all directions
RankMe   exp of the entropy of the normalised singular values (Garrido et al. 2023), 1..min(N, D)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SPREAD = 0.02
LEAST_RANK = 2.0


def spread(features: Tensor) -> float:
    """Standard deviation of [N, D] unit-length features over all coordinates together."""
    unit = F.normalize(features.float(), dim=-1)
    return float((unit - unit.mean(0)).square().sum(-1).mean().sqrt())


def rank_me(features: Tensor) -> float:
    """Effective rank of [N, D] features."""
    singular = torch.linalg.svdvals(features.float())
    share = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def alarm(features: Tensor) -> tuple[dict[str, float], str | None]:
    """Both measures of [N, D] features, and a warning if they say collapse."""
    measures = {"feature_std": spread(features), "rankme": rank_me(features)}
    if measures["feature_std"] >= LEAST_SPREAD and measures["rankme"] >= LEAST_RANK:
        return measures, None
    return measures, (
        f"the features are collapsing: standard deviation {measures['feature_std']:.4f} "
        f"(alarm below {LEAST_SPREAD}), RankMe {measures['rankme']:.1f} (below {LEAST_RANK})"
    )
