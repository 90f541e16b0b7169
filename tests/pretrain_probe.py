"""Run by every process of a launch: gradients of one step of each method, written by the first.

torchrun --nproc_per_node 2 tests/pretrain_probe.py OUT [cuda]

On a GPU processes talk by NCCL and batch-norm is synchronised: heads keep theirs.
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


def gradients(
    method: str, gather: str, *, device: str = "cpu", norms: bool = False
) -> dict[str, torch.Tensor]:
    """Gradients and loss of this process's share of 8 images, averaged as DDP does."""
    torch.manual_seed(0)
    config = tiny(method, **({} if norms else {"hidden_bn": False, "output_bn": False}))
    core = build_model(replace(config, gather_gradient=gather)).double().to(device)
    if norms and dist.is_initialized():
        core = torch.nn.SyncBatchNorm.convert_sync_batchnorm(core)
    model = DistributedDataParallel(core) if dist.is_initialized() else core
    views = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    mine = views.chunk(world_size(), dim=1)[rank()].to(device)
    terms = model(mine[0], mine[1], alpha=0.7, beta=1.0)
    terms.total.backward()
    found = {n: p.grad for n, p in core.named_parameters() if p.grad is not None}
    loss = all_gather(terms.total.detach()[None], gradient="none").mean()
    return {**found, "loss": loss}


if __name__ == "__main__":
    torch.set_num_threads(1)
    device = "cuda" if sys.argv[2:] == ["cuda"] else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl")
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    settings = {"device": device, "norms": device == "cuda"}
    results = {f"{m}/{g}": gradients(m, g, **settings) for m in METHODS for g in ("full", "local")}
    if rank() == 0:
        torch.save(results, sys.argv[1])
    if dist.is_initialized():
        dist.destroy_process_group()
    # A thread of the process group now and then aborts in the interpreter's finalisation.
    os._exit(0)
