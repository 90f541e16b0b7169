"""The losses of SDSSL (Jang et al. 2022): Eq. 1 (BYOL), Eq. 2 (InfoNCE), and what Eq. 3 to 6 sum over.

Shapes: G layers, N rows, M keys, D channels. Every loss takes raw embeddings, L2-normalises them
and returns one value per layer, the mean over that layer's rows; the caller weighs the layers:

    Eq. 3  L_isd  = mean over the intermediate layers of the loss of layer l against the teacher
    Eq. 5  L_pred = sum over all layers of the same loss on predictor_l(stop_gradient(h_l))
    Eq. 6  total  = L_ssl + alpha L_isd + beta L_pred

Source of the 2 tau factor and of the symmetrisation: Algorithm 1 (as in MoCo v3).
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor


def byol_loss(queries: Tensor, targets: Tensor) -> Tensor:
    """Eq. 1: squared distance of unit vectors, 2 - 2 cos, mean over rows.

    Args:
        queries: [..., N, D] predictions of the student.
        targets: [N, D] embedding of the other view by the teacher; carries no gradient.

    Returns:
        [...] one value per layer, in [0, 4].
    """
    cosine = (_unit(queries) * _unit(targets.detach())).sum(-1)
    return (2 - 2 * cosine).mean(-1)


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float,
    two_tau: bool,
    offset: int = 0,
) -> Tensor:
    """Eq. 2: cross-entropy of each query against all keys; row i's positive is key offset + i.

    Args:
        queries: [..., N, D] predictions of the student for one view.
        keys: [M, D] embeddings of the other view by the teacher, of the whole global batch; they
            carry no gradient.
        temperature: tau.
        two_tau: multiply by 2 tau (Algorithm 1, MoCo v3).
        offset: index of the key that belongs to the first query.

    Returns:
        [...] one value per layer.
    """
    logits = _unit(queries) @ _unit(keys.detach()).T / temperature
    rows = torch.arange(queries.shape[-2], device=queries.device)
    positive = logits[..., rows, offset + rows]
    loss = (logits.logsumexp(-1) - positive).mean(-1)
    return 2 * temperature * loss if two_tau else loss


def simclr_loss(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float,
    two_tau: bool,
    same_view: Tensor,
    positive: Tensor,
) -> Tensor:
    """InfoNCE among the views of a batch: against every key but the row's own image-view.

    Args:
        queries: [..., R, D] rows of both views.
        keys: [M, D] last-layer rows of both views of the global batch; detach them for L_isd.
        temperature: tau.
        two_tau: multiply by 2 tau (neither Eq. 2 nor the official SimCLR code do).
        same_view: [R] index of the key that is the row's own image-view.
        positive: [R] index of the key of the other view of the same image.

    Returns:
        [...] one value per layer.
    """
    logits = _unit(queries) @ _unit(keys).T / temperature
    rows = torch.arange(queries.shape[-2], device=queries.device)
    excluded = torch.zeros(logits.shape[-2:], dtype=torch.bool, device=logits.device)
    excluded[rows, same_view] = True
    logits = logits.masked_fill(excluded, -torch.inf)
    loss = (logits.logsumexp(-1) - logits[..., rows, positive]).mean(-1)
    return 2 * temperature * loss if two_tau else loss


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Losses are computed in float32 whatever the precision of the model."""
    if device.type == "meta":  # where costs are counted; it has no autocast to switch off
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, dim=-1)
