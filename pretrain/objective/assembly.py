"""From a configuration to the model, its optimizer and the images it trains on."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sdssl_bench import encoders
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.pretrain.objective.frameworks import FRAMEWORKS, Heads, distilled_layers
from sdssl_bench.pretrain.objective.heads import GroupedLinear
from sdssl_bench.pretrain.objective.initialisation import initialise
from sdssl_bench.pretrain.objective.lars import LARS
from sdssl_bench.pretrain.objective.sdssl import SDSSL
from sdssl_bench.pretrain.run.config import VIT_ONLY, PretrainConfig, flag


def build_encoder(config: PretrainConfig) -> Encoder:
    """The student's encoder, freshly initialised: as MoCo v3's, unless its configuration says otherwise.

    Raises:
        UsageError: for an unknown architecture or sizes that do not fit each other.
    """
    encoder: Encoder
    if config.arch not in encoders.NAMES:
        raise UsageError(did_you_mean("backbone", config.arch, encoders.NAMES))
    if config.arch not in encoders.VITS:
        given = [name for name in VIT_ONLY if getattr(config, name) is not None]
        if given:
            raise UsageError(f"{', '.join(map(flag, given))} apply to {', '.join(encoders.VITS)}.")
        encoder = encoders.build(config.arch, img_size=config.img_size)
        initialise(encoder, zero_residual=config.zero_init_residual)
        return encoder
    names = (*VIT_ONLY, "img_size")
    changes = {n: getattr(config, n) for n in names if getattr(config, n) is not None}
    per_layer = config.layer_norm == "per-layer"
    vit = replace(encoders.VITS[config.arch], per_layer_norm=per_layer, **changes)
    encoder = encoders.build_vit(vit, norm=config.layer_norm)
    initialise(encoder)
    if config.freeze_patch:
        encoder.model.patch_embed.proj.requires_grad_(False)
    return encoder


def build_model(config: PretrainConfig) -> SDSSL:
    """Student, heads and teacher; every trainable parameter gets a gradient in every step."""
    encoder = build_encoder(config)
    pred = config.pred or ("all" if config.sd else "none")
    wanted = config.sd and (config.isd or pred == "all")
    layers = distilled_layers(encoder.depth, every=config.every_n) if wanted else []
    output_bn = config.method != "byol" if config.output_bn is None else config.output_bn
    predictor_bn = config.predictor_output_bn
    heads = Heads(
        hidden=config.hidden,
        inner_hidden=config.inner_hidden,
        out=config.out_dim,
        projector_layers=config.projector_layers,
        inner_layers=config.inner_layers,
        predictor_layers=config.predictor_layers,
        output_norm=output_bn,
        predictor_output_norm=output_bn if predictor_bn is None else predictor_bn,
        hidden_norm=config.hidden_bn,
    )
    if config.layer_norm == "per-layer":
        # Norms of layers that no loss reads stay the identity, and DDP does not wait for them.
        norms = next(m for name, m in encoder.named_modules() if name.split(".")[-1] == "norms")
        assert isinstance(norms, nn.ModuleList)
        for layer in range(1, encoder.depth):
            if layer not in layers:
                norms[layer - 1].requires_grad_(False)
    two_tau = config.method == "mocov3" if config.two_tau is None else config.two_tau
    return SDSSL(
        encoder,
        FRAMEWORKS[config.method],
        heads=heads,
        layers=layers,
        isd=config.isd,
        pred=pred,
        temperature=config.temperature,
        two_tau=two_tau,
        gather_gradient=config.gather_gradient,
        teacher_norm=config.teacher_bn,
    )


def build_optimizer(model: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    """AdamW or LARS; the learning rate is assigned anew at every step."""
    groups = parameter_groups(model, config)
    if config.optimizer == "lars":
        return LARS(groups, lr=0.0)
    # Heads of every layer double the parameters of a small ViT; unfused, each step reads and writes
    # them some ten times, which costs more than SDSSL's extra products (on CPUs too).
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)


def parameter_groups(model: nn.Module, config: PretrainConfig) -> list[dict[str, Any]]:
    """Trainable parameters by decay, and by whether they are stacks of layers' weights."""
    stacks = {
        id(weight)
        for module in model.modules()
        if isinstance(module, GroupedLinear)
        for weight in module.weights
    }
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = config.decay_scope == "all" or parameter.ndim > 1
            groups.setdefault((decays, id(parameter) in stacks), []).append(parameter)
    return [
        {
            "params": members,
            "weight_decay": config.weight_decay if decays else 0.0,
            "stacked": stacked,
        }
        for (decays, stacked), members in groups.items()
    ]
