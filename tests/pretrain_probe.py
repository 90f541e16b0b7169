"""Run by every process of a launch: gradients of one step of each method, written by the first.

torchrun --nproc_per_node 2 tests/pretrain_probe.py OUT
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

if __package__ in (None, ""):
    sys.path[:0] = [
        str(Path(__file__).resolve().parent),
        str(Path(__file__).resolve().parent.parent),
    ]

from pretrain_fixtures import tiny
from sdssl_bench.pretrain.objective.assembly import build_model
from sdssl_bench.pretrain.objective.gathering import all_gather, rank, world_size

METHODS = ("simclr", "sd_simclr", "sd_byol", "mocov3", "sd_mocov3")


def gradients(method: str, gather: str) -> dict[str, torch.Tensor]:
    """Gradients and loss of this process's share of 8 images, averaged as DDP does."""
    torch.manual_seed(0)
    config = replace(tiny(method, hidden_bn=False, output_bn=False), gather_gradient=gather)
    core = build_model(config).double()
    model = DistributedDataParallel(core) if world_size() > 1 else core
    views = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    mine = views.chunk(world_size(), dim=1)[rank()]
    terms = model(mine[0], mine[1], alpha=0.7, beta=1.0)
    terms.total.backward()
    found = {n: p.grad for n, p in core.named_parameters() if p.grad is not None}
    loss = all_gather(terms.total.detach()[None], gradient="none").mean()
    return {**found, "loss": loss}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    results = {f"{m}/{g}": gradients(m, g) for m in METHODS for g in ("full", "local")}
    if rank() == 0:
        torch.save(results, sys.argv[1])
    if dist.is_initialized():
        dist.destroy_process_group()
