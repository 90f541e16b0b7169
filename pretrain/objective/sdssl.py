"""SDSSL: SimCLR, BYOL and MoCo v3, each with or without self-distillation of intermediate layers.

One module for the six methods; what tells them apart is a row of `frameworks.FRAMEWORKS`. Its
forward pass holds the whole objective (Eq. 1 to 6, Algorithm 1), so DDP and autocast see one module.

Eq. 3 and Eq. 5 evaluate the same loss at the same predictor outputs and differ in their gradients
only: L_pred moves the predictors, not what is below. With w_l the weight of layer l in
L_ssl + alpha L_isd and b_l its weight in beta L_pred, one pass with the loss sum (w_l + b_l) c_l and
the gradient below predictor l scaled by w_l / (w_l + b_l) gives exactly both gradients. Predictors
therefore run once, not twice.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sdssl_bench.encoders import Encoder, cls
from sdssl_bench.pretrain.objective.frameworks import Framework, Heads, Keys, LossTerms
from sdssl_bench.pretrain.objective.gathering import all_gather, rank, world_size
from sdssl_bench.pretrain.objective.heads import GroupedMLP, scale_gradient
from sdssl_bench.pretrain.objective.losses import byol_loss, info_nce, simclr_loss, without_autocast


class SDSSL(nn.Module):
    """Student, heads and teacher of one method.

    Args:
        encoder: the student, with trainable parameters where it shall be trained.
        framework: a row of FRAMEWORKS.
        heads: sizes of the heads.
        layers: intermediate layers with a projector of their own; empty for the plain method.
        isd: whether L_isd counts.
        pred: layers of L_pred: "none" | "last" | "all".
        temperature: tau of the contrastive losses.
        two_tau: whether they are multiplied by 2 tau.
        gather_gradient: of SimCLR's keys from other processes, "full" | "local"; teacher keys have none.
        teacher_norm: batch-norm of the teacher: "batch" statistics, or "running" ones of the student.
    """

    def __init__(
        self,
        encoder: Encoder,
        framework: Framework,
        *,
        heads: Heads,
        layers: Sequence[int] = (),
        isd: bool = True,
        pred: str = "all",
        temperature: float = 0.2,
        two_tau: bool = True,
        gather_gradient: str = "full",
        teacher_norm: str = "batch",
    ) -> None:
        super().__init__()
        self.framework = framework
        self.layers = list(layers)
        self.isd = isd and bool(self.layers)
        self.pred = pred if framework.predictor else "none"
        self.temperature, self.two_tau = temperature, two_tau
        self.gather_gradient = gather_gradient
        self.teacher_norm = teacher_norm
        self.student = encoder
        self.depth = encoder.depth
        dims = [encoder.dims[layer - 1] for layer in self.layers]
        self.projector = GroupedMLP(
            [encoder.dims[-1]],
            hidden=heads.hidden,
            out=heads.out,
            depth=heads.projector_layers,
            output_norm=heads.output_norm,
            hidden_norm=heads.hidden_norm,
        )
        self.inner_projectors: GroupedMLP | None = None
        if self.layers and heads.inner_layers:
            self.inner_projectors = GroupedMLP(
                dims,
                hidden=heads.inner_hidden,
                out=heads.out,
                depth=heads.inner_layers,
                output_norm=heads.output_norm,
                hidden_norm=heads.hidden_norm,
            )
            dims = [heads.out] * len(self.layers)
        self.predictors: GroupedMLP | None = None
        if framework.predictor:
            self.predictors = GroupedMLP(
                [*dims, heads.out],
                hidden=heads.hidden,
                out=heads.out,
                depth=heads.predictor_layers,
                output_norm=heads.predictor_output_norm,
                hidden_norm=heads.hidden_norm,
            )
        self.teacher: Encoder | None = None
        self.teacher_projector: GroupedMLP | None = None
        if framework.teacher:
            self.teacher = deepcopy(encoder).requires_grad_(False)
            self.teacher_projector = deepcopy(self.projector).requires_grad_(False)

    def forward(
        self,
        view1: Tensor,
        view2: Tensor,
        *,
        alpha: float,
        beta: float,
        keys: Keys | None = None,
        offset: int = 0,
        cotangent: Tensor | None = None,
    ) -> LossTerms:
        """The loss of a batch, or of one slice of it.

        Args:
            view1: [N, 3, H, W] normalised images.
            view2: the same images, augmented anew.
            alpha: weight of L_isd.
            beta: weight of L_pred.
            keys: `shared` ones of the whole step; None: this batch is all of it in this process.
            offset: index of this slice's first image among this process's of the step.
            cotangent: SimCLR in slices: [K, 2, N, D] gradient of the loss with respect to this
                slice's rows; the total is then the surrogate that back-propagates it.
        """
        if not self.framework.teacher:
            rows, features = self.rows(view1, view2)
            if cotangent is not None:
                zero = rows.new_zeros(())
                return LossTerms((rows * cotangent).sum(), zero, zero, zero, features)
            return self.loss_of_rows(rows, alpha=alpha)._replace(features=features)
        keys = keys or self.shared(self.teacher_keys(view1, view2))
        tokens = both_views(self.student, view1, view2, layers=[*self.layers, self.depth])
        first, second = (self._predict(view, alpha, beta) for view in tokens)
        features = tokens[0][self.depth].detach()
        with without_autocast(view1.device):
            per_layer = self._towards(first, keys.view2, offset) + self._towards(
                second, keys.view1, offset
            )
            return self._combine(per_layer, alpha=alpha, beta=beta)._replace(features=features)

    @torch.no_grad()
    def teacher_keys(self, view1: Tensor, view2: Tensor) -> Keys:
        """The teacher's embeddings of both views in this process, without gradient."""
        assert self.teacher is not None
        assert self.teacher_projector is not None
        training = self.training and self.teacher_norm == "batch"
        for module in (self.teacher, self.teacher_projector):
            module.train(training)
        last = self.teacher.depth
        tokens = both_views(self.teacher, view1, view2, layers=[last])
        return Keys(*(self.teacher_projector(view[last][None])[0] for view in tokens))

    def shared(self, keys: Keys) -> Keys:
        """The keys of this process, made those that its queries meet. Called by all, once a step."""
        if not self.framework.contrastive:
            return keys
        return Keys(*all_gather(torch.stack(keys, 1), gradient="none").unbind(1))

    def rows(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        """SimCLR's embeddings, both views in one pass: [K, 2, N, D], and features [N, width]."""
        wanted = [*self.layers, self.depth]
        tokens = self.student.forward_layers(torch.cat([view1, view2]), wanted, cls)
        n = len(view1)
        rows = torch.stack(self._embed(tokens)).unflatten(1, (2, n))
        return rows, tokens[self.depth][:n].detach()

    def loss_of_rows(self, rows: Tensor, *, alpha: float) -> LossTerms:
        """The loss of SimCLR and SD-SimCLR from all of this process's rows, [K, 2, N, D]."""
        n = rows.shape[2]
        with without_autocast(rows.device):
            keys = all_gather(rows[-1].flatten(0, 1), gradient=self.gather_gradient)
            same_view = torch.arange(2 * n, device=rows.device)
            positive = same_view.roll(n) + rank() * 2 * n
            same_view = same_view + rank() * 2 * n
            flat = rows.flatten(1, 2)

            def loss(queries: Tensor, against: Tensor) -> Tensor:
                return simclr_loss(
                    queries,
                    against,
                    temperature=self.temperature,
                    two_tau=self.two_tau,
                    same_view=same_view,
                    positive=positive,
                )

            ssl = loss(flat[-1], keys)
            isd = loss(flat[:-1], keys.detach()).mean() if self.isd else torch.zeros_like(ssl)
        zero = torch.zeros_like(ssl)
        return LossTerms(ssl + alpha * isd, ssl.detach(), isd.detach(), zero, zero)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Moves the teacher's parameters towards the student's: t = m t + (1 - m) s."""
        if self.teacher is None or self.teacher_projector is None:
            return
        pairs = ((self.teacher, self.student), (self.teacher_projector, self.projector))
        for teacher, student in pairs:
            torch._foreach_lerp_(
                list(teacher.parameters()), list(student.parameters()), 1.0 - momentum
            )
            if self.teacher_norm == "running":
                for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
                    mine.copy_(theirs)

    def _embed(self, tokens: dict[int, Tensor]) -> list[Tensor]:
        """Embeddings h_l of the distilled layers and of the last one, from their [CLS] tokens."""
        inner = [tokens[layer] for layer in self.layers]
        if self.inner_projectors is not None:
            inner = list(self.inner_projectors(inner).unbind(0))
        return [*inner, self.projector(tokens[self.depth][None])[0]]

    def _predict(self, tokens: dict[int, Tensor], alpha: float, beta: float) -> Tensor:
        """[K, N, D] predictions of one view; see the module's docstring."""
        assert self.predictors is not None
        inner, last = self._weights(alpha, beta)
        weights = [inner] * len(self.layers) + [last]
        scaled = [
            scale_gradient(h, below / total if total else 0.0)
            for h, (below, total) in zip(self._embed(tokens), weights, strict=True)
        ]
        predictions: Tensor = self.predictors(scaled)
        return predictions

    def _towards(self, queries: Tensor, keys: Tensor, offset: int) -> Tensor:
        """[K] loss of every layer's predictions against the teacher's embeddings."""
        n = queries.shape[1]
        if not self.framework.contrastive:
            return byol_loss(queries, keys[offset : offset + n])
        return info_nce(
            queries,
            keys,
            temperature=self.temperature,
            two_tau=self.two_tau,
            offset=rank() * (len(keys) // world_size()) + offset,
        )

    def _weights(
        self, alpha: float, beta: float
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """(Weight in ssl + alpha isd, in the total) of an intermediate layer, and of the last."""
        inner = alpha / len(self.layers) if self.isd else 0.0
        extra = {"none": (0.0, 0.0), "last": (0.0, beta), "all": (beta, beta)}[self.pred]
        return (inner, inner + extra[0]), (1.0, 1.0 + extra[1])

    def _combine(self, per_layer: Tensor, *, alpha: float, beta: float) -> LossTerms:
        (_, inner), (_, last) = self._weights(alpha, beta)
        total = inner * per_layer[:-1].sum() + last * per_layer[-1]
        values = per_layer.detach()
        zero = torch.zeros_like(values[-1])
        pred = {"none": zero, "last": values[-1], "all": values.sum()}[self.pred]
        isd = values[:-1].mean() if self.isd else zero
        return LossTerms(total, values[-1], isd, pred, zero)


def both_views(
    encoder: Encoder, view1: Tensor, view2: Tensor, *, layers: Sequence[int]
) -> list[dict[int, Tensor]]:
    """{layer: [N, width] token of [CLS]} of each view: one pass for both where images stay apart.

    Half the kernels do for the same products: small ViTs on large GPUs wait for their launches. Batch-norm
    in an encoder takes the statistics of a view, so there each has a pass of its own.
    """
    views = [view1, view2]
    if not any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        joined = encoder.forward_layers(torch.cat(views), layers, cls)
        halves = {layer: tokens.chunk(2) for layer, tokens in joined.items()}
        return [{layer: parts[i] for layer, parts in halves.items()} for i in range(2)]
    return [encoder.forward_layers(view, layers, cls) for view in views]
