"""Heads and objective: grouped heads are separate ones, gradients obey the paper's stop-gradients."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdssl_bench.encoders.building import build, build_vit
from sdssl_bench.encoders.encoder import Encoder, cls
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.pretrain.objective.frameworks import FRAMEWORKS, Heads, distilled_layers
from sdssl_bench.pretrain.objective.heads import GroupedMLP
from sdssl_bench.pretrain.objective.sdssl import SDSSL, both_views

CONFIG = ViTConfig(dim=16, depth=3, heads=2, patch_size=8, img_size=16, pos="sincos-row")
METHODS = [(name, sd) for name in FRAMEWORKS for sd in (False, True)]


def tiny(
    method: str, *, sd: bool = True, encoder: Encoder | None = None, **options: object
) -> SDSSL:
    torch.manual_seed(0)
    framework = FRAMEWORKS[method]
    if encoder is None:
        encoder = build_vit(CONFIG)
        encoder.model.patch_embed.proj.requires_grad_(False)
    heads = Heads(
        hidden=24,
        inner_hidden=20,
        out=8,
        output_norm=framework.output_norm,
        predictor_output_norm=framework.output_norm,
        **options.pop("heads", {}),  # type: ignore[arg-type]
    )
    layers = distilled_layers(encoder.depth, every=1) if sd else []
    defaults = {"two_tau": method == "mocov3"}
    return SDSSL(encoder, framework, heads=heads, layers=layers, **{**defaults, **options}).double()  # type: ignore[arg-type]


def views(n: int = 6, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    both = torch.randn(2, n, 3, size, size, generator=generator, dtype=torch.float64)
    return both[0], both[1]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


class Separate(nn.Module):
    """One layer's perceptron, as the papers draw it."""

    def __init__(self, dim: int, hidden: int, out: int, *, depth: int, output_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth - 1):
            layers += [nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
            dim = hidden
        layers.append(nn.Linear(dim, out, bias=False))
        if output_norm:
            layers.append(nn.BatchNorm1d(out, affine=False))
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


def copy_into(separate: Sequence[Separate], grouped: GroupedMLP) -> None:
    for g, single in enumerate(separate):
        with torch.no_grad():
            for mine, theirs in zip(single.net, grouped.layers, strict=True):
                if isinstance(mine, nn.Linear):
                    weights = theirs.weights
                    source = weights[0][g] if len(weights) == 1 else weights[g][0]
                    mine.weight.copy_(source)
                elif isinstance(mine, nn.BatchNorm1d) and mine.affine:
                    width = mine.num_features
                    theirs.norm.weight.uniform_(
                        0.5, 1.5, generator=torch.Generator().manual_seed(0)
                    )
                    mine.weight.copy_(theirs.norm.weight[g * width : (g + 1) * width])


@pytest.mark.parametrize(
    ("encoder", "passes"), [(build_vit(CONFIG), 1), (build("resnet18", img_size=32), 2)]
)
def test_views_share_a_pass_where_no_batch_norm_would_mix_them(
    encoder: Encoder, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = encoder.input_size
    one, two = torch.randn(2, 4, 3, size, size, generator=torch.Generator().manual_seed(0))
    layers = [1, encoder.depth]
    expected = [encoder.forward_layers(view, layers, cls) for view in (one, two)]
    seen: list[int] = []
    forward_layers = encoder.forward_layers

    def counted(images: Tensor, *rest: Any) -> Any:
        seen.append(len(images))
        return forward_layers(images, *rest)

    monkeypatch.setattr(encoder, "forward_layers", counted)
    found = both_views(encoder, one, two, layers=layers)
    assert len(seen) == passes
    for view, twin in zip(found, expected, strict=True):
        assert view.keys() == twin.keys()
        for layer, tokens in twin.items():
            torch.testing.assert_close(view[layer], tokens, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("output_norm", [True, False])
@pytest.mark.parametrize("dims", [(5, 5, 5), (4, 6, 9)], ids=["equal widths", "stages"])
def test_grouped_heads_equal_separate_ones_in_outputs_gradients_and_statistics(
    depth: int, output_norm: bool, dims: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    grouped = GroupedMLP(dims, hidden=7, out=3, depth=depth, output_norm=output_norm).double()
    separate = [Separate(d, 7, 3, depth=depth, output_norm=output_norm).double() for d in dims]
    copy_into(separate, grouped)
    inputs = [torch.randn(6, d, dtype=torch.float64, requires_grad=True) for d in dims]
    twins = [x.detach().clone().requires_grad_() for x in inputs]
    weights = torch.randn(len(dims), 6, 3, dtype=torch.float64)
    for _ in range(2):
        ours = grouped(inputs)
        theirs = torch.stack([head(x) for head, x in zip(separate, twins, strict=True)])
        assert torch.allclose(ours, theirs, atol=1e-12)
        (ours * weights).sum().backward()
        (theirs * weights).sum().backward()
    for x, y in zip(inputs, twins, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        assert torch.allclose(x.grad, y.grad, atol=1e-11)
    for g, single in enumerate(separate):
        for mine, theirs_ in zip(single.net, grouped.layers, strict=True):
            if isinstance(mine, nn.Linear):
                all_weights = theirs_.weights
                grad = all_weights[0].grad[g] if len(all_weights) == 1 else all_weights[g].grad[0]
                assert torch.allclose(grad, mine.weight.grad, atol=1e-11)
            elif isinstance(mine, nn.BatchNorm1d):
                part = slice(g * mine.num_features, (g + 1) * mine.num_features)
                norm = theirs_.norm
                assert torch.allclose(norm.running_mean[part], mine.running_mean, atol=1e-12)
                assert torch.allclose(norm.running_var[part], mine.running_var, atol=1e-12)
                assert norm.num_batches_tracked == mine.num_batches_tracked == 2
                if mine.affine:
                    assert torch.allclose(norm.weight.grad[part], mine.weight.grad, atol=1e-11)
                    assert torch.allclose(norm.bias.grad[part], mine.bias.grad, atol=1e-11)
    grouped.eval()
    for single in separate:
        single.eval()
    evaluated = torch.stack([head(x) for head, x in zip(separate, twins, strict=True)])
    assert torch.allclose(grouped(inputs), evaluated, atol=1e-12)


def literal_objective(
    model: SDSSL, view1: Tensor, view2: Tensor, *, alpha: float, beta: float, pred: str = "all"
) -> Tensor:
    """Algorithm 1 with two calls of every predictor, attached and detached."""

    def loss(q: Tensor, z: Tensor) -> Tensor:
        q, z = F.normalize(q, dim=-1), F.normalize(z, dim=-1)
        if not model.framework.contrastive:
            return (2 - 2 * (q * z).sum(-1)).mean()
        tau = model.temperature
        return 2 * tau * F.cross_entropy(q @ z.T / tau, torch.arange(len(q)))

    assert model.teacher is not None
    assert model.teacher_projector is not None
    assert model.predictors is not None
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        z1, z2 = (model.teacher_projector(model.teacher(v)[None])[0] for v in (view1, view2))
    for view, z in ((view1, z2), (view2, z1)):
        tokens = model.student.forward_layers(view, [*model.layers, model.depth], cls)
        h = [model.projector(tokens[model.depth][None])[0]]
        if model.inner_projectors is not None:
            inner = model.inner_projectors([tokens[layer] for layer in model.layers])
            h = [*inner.unbind(0), *h]
        else:
            h = [*(tokens[layer] for layer in model.layers), *h]
        attached = model.predictors(h)
        detached = model.predictors([x.detach() for x in h])
        total = total + loss(attached[-1], z)
        if model.layers and model.isd:
            layers = [loss(q, z) for q in attached[:-1]]
            total = total + alpha * torch.stack(layers).mean()
        chosen = {"all": detached, "last": detached[-1:], "none": detached[:0]}[pred]
        for q in chosen:
            total = total + beta * loss(q, z)
    return total


@pytest.mark.parametrize("method", ["byol", "mocov3"])
@pytest.mark.parametrize("pred", ["all", "last", "none"])
@pytest.mark.parametrize("inner_layers", [0, 3])
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (0.7, 0.6), (1.0, 0.0), (0.0, 0.0)])
def test_one_pass_through_the_predictors_has_the_gradients_of_two(
    method: str, pred: str, inner_layers: int, alpha: float, beta: float
) -> None:
    model = tiny(method, pred=pred, heads={"inner_layers": inner_layers})
    view1, view2 = views()
    terms = model(view1, view2, alpha=alpha, beta=beta)
    terms.total.backward()
    ours = gradients(model)
    model.zero_grad()
    literal = literal_objective(model, view1, view2, alpha=alpha, beta=beta, pred=pred)
    literal.backward()  # type: ignore[no-untyped-call]
    theirs = gradients(model)
    assert terms.total.item() == pytest.approx(literal.item(), rel=1e-12)
    value = (terms.ssl + alpha * terms.isd + beta * terms.pred).item()
    assert terms.total.item() == pytest.approx(value, rel=1e-12)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], atol=1e-7, rtol=1e-6), name


@pytest.mark.parametrize("method", ["byol", "mocov3"])
def test_l_pred_moves_predictors_only(method: str) -> None:
    view1, view2 = views()
    model = tiny(method)
    model(view1, view2, alpha=0.5, beta=0.0).total.backward()
    without = gradients(model)
    model.zero_grad()
    model(view1, view2, alpha=0.5, beta=1.0).total.backward()
    moved = [n for n, p in gradients(model).items() if not torch.allclose(p, without[n], atol=1e-9)]
    assert moved
    assert all(name.startswith("predictors.") for name in moved)


@pytest.mark.parametrize("method", list(FRAMEWORKS))
def test_l_isd_never_reaches_the_last_layers_embedding(method: str) -> None:
    view1, view2 = views()
    model = tiny(method, pred="none")
    parts = []
    for alpha in (0.0, 1.0):
        model.zero_grad()
        model(view1, view2, alpha=alpha, beta=0.0).total.backward()
        parts.append(gradients(model))
    changed = {n for n in parts[0] if not torch.allclose(parts[0][n], parts[1][n], atol=1e-9)}
    # The last projector and the last block see the loss of the last layer alone.
    assert not [n for n in changed if n.startswith(("projector.", "student.model.blocks.2."))]
    assert [n for n in changed if n.startswith("inner_projectors.")]
    assert [n for n in changed if n.startswith("student.model.blocks.0.")]


@pytest.mark.parametrize(("method", "sd"), METHODS)
def test_teacher_and_frozen_patch_projection_get_no_gradient_and_do_not_move(
    method: str, sd: bool
) -> None:
    model = tiny(method, sd=sd)
    patch = model.student.model.patch_embed.proj.weight
    before = patch.clone()
    teacher = [p.clone() for p in model.teacher.parameters()] if model.teacher else []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(*views(), alpha=0.5, beta=1.0).total.backward()
    optimizer.step()
    assert torch.equal(patch, before)
    assert all(p.grad is None for n, p in model.named_parameters() if n.startswith("teacher"))
    trained = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not trained, "DDP waits for every trainable parameter"
    if model.teacher is not None:
        assert all(torch.equal(a, b) for a, b in zip(teacher, model.teacher.parameters()))


def test_ema_moves_encoder_and_last_projector_and_no_buffer() -> None:
    model = tiny("mocov3")
    assert model.teacher_projector is not None
    assert model.teacher is not None
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(1.0)
    buffers = {n: b.clone() for n, b in model.teacher_projector.named_buffers()}
    expected = [
        0.9 * t + 0.1 * s for t, s in zip(model.teacher.parameters(), model.student.parameters())
    ]
    model.update_teacher(0.9)
    for found, wanted in zip(model.teacher.parameters(), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)
    for name, buffer in model.teacher_projector.named_buffers():
        assert torch.equal(buffer, buffers[name])
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.teacher.parameters()))


@pytest.mark.parametrize(("norm", "moves"), [("batch", True), ("running", False)])
def test_teacher_batch_norm_uses_the_statistics_its_recipe_names(norm: str, moves: bool) -> None:
    model = tiny("mocov3", teacher_norm=norm)
    assert model.teacher_projector is not None
    with torch.no_grad():
        model.projector.layers[0].weights[0].add_(0.1)
    before = {n: b.clone() for n, b in model.teacher_projector.named_buffers()}
    model(*views(), alpha=0.5, beta=1.0)
    moved = [n for n, b in model.teacher_projector.named_buffers() if not torch.equal(b, before[n])]
    assert bool(moved) is moves
    model.update_teacher(0.5)
    same = [
        torch.equal(a, b)
        for a, b in zip(model.teacher_projector.buffers(), model.projector.buffers())
    ]
    assert all(same) is (norm == "running")


@pytest.mark.parametrize("method", list(FRAMEWORKS))
@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3]), (2, [2]), (3, [1]), (4, [])])
def test_any_residual_network_and_any_spacing_of_layers_trains(
    method: str, every: int, kept: list[int]
) -> None:
    layers = distilled_layers(4, every=every)
    assert layers == kept
    torch.manual_seed(0)
    encoder = build("resnet18")
    heads = Heads(hidden=8, inner_hidden=8, out=4)
    model = SDSSL(encoder, FRAMEWORKS[method], heads=heads, layers=layers)
    terms = model(*(v.float() for v in views(3, 32)), alpha=0.5, beta=1.0)
    terms.total.backward()
    assert torch.isfinite(terms.total)
    assert bool(terms.isd) is bool(layers)


def test_plain_methods_have_no_heads_for_intermediate_layers() -> None:
    model = tiny("mocov3", sd=False, pred="none")
    assert model.inner_projectors is None
    terms = model(*views(), alpha=1.0, beta=1.0)
    assert float(terms.isd) == float(terms.pred) == 0.0
    assert terms.total.item() == terms.ssl.item()


@pytest.mark.parametrize(("method", "sd"), METHODS)
def test_a_batch_of_identical_views_is_finite_and_symmetric(method: str, sd: bool) -> None:
    model = tiny(method, sd=sd).eval()
    view1, view2 = views()
    forward = model(view1, view2, alpha=0.3, beta=1.0)
    backward = model(view2, view1, alpha=0.3, beta=1.0)
    assert forward.total.item() == pytest.approx(backward.total.item(), rel=1e-9)
    assert torch.isfinite(model(view1, view1, alpha=0.3, beta=1.0).total)
