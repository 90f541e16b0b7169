"""One optimizer step's gradients, in one piece or in slices that give the gradients of one piece.

Plain accumulation would contrast each slice with itself only. Here every slice meets the keys of the
whole batch. A teacher's keys carry no gradient: those of all slices are computed first. SimCLR's do: all
rows are computed first without gradient, the loss's gradient with respect to them is taken, and each
slice is run again to propagate its part (gradient caching; Gao et al. 2021). Batch-norm of heads and
ResNets uses the statistics of a slice, as it would those of a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sdssl_bench.pretrain.objective.frameworks import Keys, LossTerms
from sdssl_bench.pretrain.objective.sdssl import SDSSL


def backward(
    accelerator: Any,
    model: nn.Module,
    view1: Tensor,
    *,
    view2: Tensor,
    alpha: float,
    beta: float,
    slices: int,
) -> LossTerms:
    """Adds the gradients of one step; returns the terms of its loss, detached.

    Args:
        accelerator: accelerate's Accelerator.
        model: SDSSL as `accelerator.prepare` returned it.
        view1: [N, 3, H, W] of this process.
        view2: the other view.
        alpha: weight of L_isd.
        beta: weight of L_pred.
        slices: divides N.
    """
    weights = {"alpha": alpha, "beta": beta}
    if slices == 1:
        terms = model(view1, view2, **weights)
        accelerator.backward(terms.total)
        return LossTerms(*(t.detach() for t in terms))
    parts = list(zip(view1.chunk(slices), view2.chunk(slices), strict=True))
    size = len(parts[0][0])
    core: SDSSL = accelerator.unwrap_model(model)
    options: list[dict[str, Any]]
    whole: LossTerms | None = None
    if core.framework.teacher:
        with accelerator.autocast():
            keys = [core.teacher_keys(*part) for part in parts]
        joined = Keys(*(torch.cat(views) for views in zip(*keys, strict=True)))
        joined = core.shared(joined)
        options = [{"keys": joined, "offset": i * size} for i in range(slices)]
    else:
        whole, cotangent = _rows_gradient(accelerator, core, parts, alpha=alpha)
        options = [{"cotangent": part} for part in cotangent.chunk(slices, dim=2)]
    found = []
    for i, (part, option) in enumerate(zip(parts, options, strict=True)):
        last = i == slices - 1
        with nullcontext() if last else accelerator.no_sync(model):
            terms = model(*part, **weights, **option)
            accelerator.backward(terms.total / (1 if whole else slices))
        found.append(LossTerms(*(t.detach() for t in terms)))
    features = torch.cat([terms.features for terms in found])
    if whole is None:
        scalars = (torch.stack(values).mean() for values in zip(*(t[:4] for t in found)))
        total, ssl, isd, pred = scalars
        whole = LossTerms(total, ssl, isd, pred, features)
    return whole._replace(features=features)


def _rows_gradient(
    accelerator: Any, core: SDSSL, parts: list[tuple[Tensor, Tensor]], *, alpha: float
) -> tuple[LossTerms, Tensor]:
    """Terms of the whole batch, and the gradient with respect to all rows [K, 2, N, D].

    Both are float32 at least, whatever the rows are: the loss scale of fp16 comes in only when a slice
    propagates its part, and most of these gradients would be below what half precision holds.
    """
    with torch.no_grad(), accelerator.autocast(), statistics_kept(core):
        rows = torch.cat([core.rows(*part)[0] for part in parts], dim=2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32)).requires_grad_()
    terms = core.loss_of_rows(rows, alpha=alpha)
    (gradient,) = torch.autograd.grad(terms.total, rows)
    return LossTerms(*(t.detach() for t in terms)), gradient


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch-norm normalises by the batch but leaves its running statistics as they are."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
