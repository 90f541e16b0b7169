"""Every launcher gives the same run: plain python, torchrun, accelerate launch, srun, mpirun.

Torch and accelerate read RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, which torchrun and
accelerate's GPU launcher set. Slurm and MPI name them otherwise. Only the standard library is imported
here: the command line calls `join` before anything else.
"""

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping

from sdssl_bench.errors import UsageError

MPI = (
    *(
        (f"{p}_SIZE", f"{p}_RANK", f"{p}_LOCAL_SIZE", f"{p}_LOCAL_RANK")
        for p in ("OMPI_COMM_WORLD", "MV2_COMM_WORLD")
    ),
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
)
"""Open MPI, MVAPICH, MPICH and Intel MPI: processes, rank, processes on this node, rank among them."""

ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "its parallelism_config",
}
"""What accelerate would share a model among processes with."""

PATIENCE = 5.0
"""Seconds that a node's other processes wait before they tell an error that its first may tell, too."""


def join() -> None:
    """Makes this process one of those its launcher was asked for; nothing without a launcher.

    Under Slurm and MPI that sets torch's variables.

    Raises:
        UsageError: if the launcher does not say enough, was asked for several processes and has
            started one, or brings an engine along that the suite does not use, naming what to do.
    """
    for variable, engine in ENGINES.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes"):
            raise UsageError(
                f"accelerate brings {engine} along (its option, its configuration file or {variable}). "
                "Every process holds the whole model here: launch with torchrun, or with an accelerate "
                "--config_file whose distributed_type is MULTI_GPU, MULTI_CPU or NO."
            )
    if "WORLD_SIZE" in os.environ:
        return
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:
        os.environ.update(rendezvous(os.environ))
    elif "MASTER_ADDR" in os.environ:
        # Without GPUs accelerate (1.2 to 1.15) starts one process however many it was asked for, and
        # tells it where to meet the others.
        command = shlex.join(sys.orig_argv[1:])
        raise UsageError(
            "accelerate launch was asked for several processes (or MASTER_ADDR is exported) but starts "
            "only one without GPUs. For N processes:\n"
            f"  torchrun --nproc_per_node N {command}\n"
            "For one: accelerate launch --num_processes 1, with MASTER_ADDR unset, or plain python."
        )


def is_first() -> bool:
    """Whether this process is the launch's first, without asking torch."""
    return int(os.environ.get("RANK", "0")) == 0


def let_first_speak() -> None:
    """Called before an error is told: the first process of each node tells its own at once.

    Most errors are the same in all processes of a launch, and a launcher ends the others when one has
    ended: they waited here and have said nothing.
    """
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        time.sleep(PATIENCE)


def rendezvous(environ: Mapping[str, str]) -> dict[str, str]:
    """Torch's variables of this process, from Slurm's or MPI's; empty where it is alone.

    A Slurm job step counts (`srun`), not the job: a batch script's own commands run once.

    Raises:
        UsageError: if MPI spans nodes and MASTER_ADDR is not set.
    """
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
        job, step = environ.get("SLURM_JOB_ID", "0"), environ.get("SLURM_STEP_ID", "0")
        found = {
            "WORLD_SIZE": str(tasks),
            "RANK": environ["SLURM_PROCID"],
            "LOCAL_RANK": environ["SLURM_LOCALID"],
            "MASTER_ADDR": first_host(nodes),
            # The same in all tasks of a step, and not in two jobs that share a node.
            "MASTER_PORT": str(15000 + (int(job) * 7 + int(step)) % 15000),
        }
    else:
        names = next((names for names in MPI if int(environ.get(names[0], "1")) > 1), None)
        if names is None:
            return {}
        size, rank, local_size, local_rank = names
        if "MASTER_ADDR" not in environ and environ.get(local_size) != environ[size]:
            raise UsageError(
                "mpirun does not say where rank 0 runs: export MASTER_ADDR (its host name) and "
                "MASTER_PORT (a free port), or use torchrun."
            )
        found = {
            "WORLD_SIZE": environ[size],
            "RANK": environ[rank],
            "LOCAL_RANK": environ.get(local_rank, environ[rank]),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29500",
        }
    return found | {k: environ[k] for k in ("MASTER_ADDR", "MASTER_PORT") if k in environ}


def first_host(nodes: str) -> str:
    """The first name of a Slurm node list.

    >>> first_host("gpu[003-010,012],login1")
    'gpu003'
    >>> first_host("node7")
    'node7'

    Raises:
        UsageError: if there is none.
    """
    match = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    if match is None:
        raise UsageError(
            f"Slurm gives no list of nodes ({nodes!r}): export MASTER_ADDR, the host of rank 0."
        )
    return "".join(part or "" for part in match.groups())
