"""Every launcher gives the same processes: Slurm's and MPI's variables, and accelerate's on CPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdssl_bench.errors import UsageError
from sdssl_bench.system.launching import first_host, join, rendezvous

ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
SLURM = {
    "SLURM_JOB_ID": "812345",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
}
OWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

SHARE = """
import json, sys
from sdssl_bench.system import distributed, launching
from sdssl_bench.errors import UserError
try:
    launching.join()
    distributed.join()
except UserError as error:
    sys.exit(str(error))
found = distributed.gather_objects(distributed.process_index())
if distributed.is_main_process():
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
"""


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("gpu[003-010,012],login1", "gpu003"),
        ("rack2-gpu[9,11]", "rack2-gpu9"),
        ("c[1-2].cluster.org,d[1-9]", "c1.cluster.org"),
    ],
)
def test_the_first_host_of_a_node_list_is_rank_zeros(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_slurm_step_becomes_torchs_variables() -> None:
    found = rendezvous(SLURM)
    assert {k: found[k] for k in OWN[:4]} == {
        "RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07",
    }  # fmt: skip
    assert 15000 <= int(found["MASTER_PORT"]) < 30000
    assert found["MASTER_PORT"] == rendezvous({**SLURM, "SLURM_PROCID": "0"})["MASTER_PORT"]
    assert found["MASTER_PORT"] != rendezvous({**SLURM, "SLURM_JOB_ID": "812346"})["MASTER_PORT"]
    own = rendezvous({**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "999"})
    assert (own["MASTER_ADDR"], own["MASTER_PORT"]) == ("10.0.0.1", "999")


def test_a_batch_script_is_no_step() -> None:
    """There Slurm tells the job's tasks, and the command runs once."""
    assert rendezvous({"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}) == {}
    assert rendezvous({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) == {}


def test_mpi_on_one_node_becomes_torchs_variables() -> None:
    open_mpi = {f"OMPI_COMM_WORLD_{k}": v for k, v in
                {"SIZE": "4", "RANK": "3", "LOCAL_SIZE": "4", "LOCAL_RANK": "3"}.items()}  # fmt: skip
    assert rendezvous(open_mpi) == dict(zip(OWN, ("3", "4", "3", "127.0.0.1", "29500")))
    spread = {**open_mpi, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    with pytest.raises(UsageError, match="MASTER_ADDR"):
        rendezvous(spread)
    assert rendezvous({**spread, "MASTER_ADDR": "a"})["MASTER_ADDR"] == "a"
    intel = {"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1"}
    assert rendezvous(intel)["RANK"] == "1"


def alone() -> dict[str, str]:
    """The environment without any launcher's variables."""
    prefixes = ("SLURM_", "OMPI_", "MV2_", "PMI_", "ACCELERATE_")
    return {k: v for k, v in os.environ.items() if k not in OWN and not k.startswith(prefixes)} | {
        "OMP_NUM_THREADS": "1"
    }


@pytest.mark.slow
def test_accelerate_on_cpus_is_never_silently_one_process_for_several(tmp_path: Path) -> None:
    script, config = tmp_path / "share.py", tmp_path / "cpu.yaml"
    script.write_text(SHARE)
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nuse_cpu: true\n"
        "num_processes: 2\nnum_machines: 1\nmixed_precision: 'no'\n"
    )
    asked = {
        "one": ["--cpu", "--num_processes", "1"],
        "two": ["--num_processes", "2"],
        "two-by-file": ["--config_file", config],
    }
    launched = {
        name: subprocess.Popen(
            [*ACCELERATE, *options, script, tmp_path / name],
            env=alone(), stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )
        for name, options in asked.items()
    }  # fmt: skip
    errors = {name: process.communicate(timeout=120)[1] for name, process in launched.items()}
    assert launched.pop("one").returncode == 0, errors["one"]
    assert json.loads((tmp_path / "one").read_text()) == [0]
    for name, process in launched.items():
        assert process.returncode != 0
        assert f"torchrun --nproc_per_node N {script} {tmp_path / name}" in errors[name]
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("variable", "engine"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "parallelism_config"),
    ],
)
def test_an_engine_that_the_suite_does_not_use_is_one_sentence(
    variable: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ranks of its own, as on GPUs, too."""
    monkeypatch.setenv(variable, "true")
    for world in (None, "2"):
        if world:
            monkeypatch.setenv("WORLD_SIZE", world)
        with pytest.raises(UsageError, match=f"{engine} .*MULTI_GPU"):
            join()
    monkeypatch.setenv(variable, "false")
    join()


def test_a_process_with_a_rank_of_its_own_joins_whoever_launched_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("ACCELERATE_MIXED_PRECISION", "no"), ("MASTER_ADDR", "a")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "2")
    join()
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UsageError):
        join()


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_tasks_of_a_slurm_step_share_one_run_or_refuse(tmp_path: Path, same: bool) -> None:
    """Tasks with arguments of their own are a sweep: mixing their shares would be a wrong number."""
    script = tmp_path / "share.py"
    script.write_text(SHARE)
    step = {**SLURM, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost",
            "SLURM_JOB_ID": str(os.getpid())}  # fmt: skip
    tasks = [
        subprocess.Popen(
            [sys.executable, script, tmp_path / ("0" if same else str(rank))],
            env={**alone(), **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [task.communicate(timeout=120)[1] for task in tasks]
    if same:
        assert [task.returncode for task in tasks] == [0, 0], errors
        assert json.loads((tmp_path / "0").read_text()) == [0, 1]
    else:
        assert [task.returncode for task in tasks] == [1, 1]
        assert all("different arguments" in error for error in errors)


@pytest.mark.slow
def test_launched_processes_tell_an_error_that_all_have_once(tmp_path: Path) -> None:
    main = Path(__file__).resolve().parents[2] / "pretrain" / "main.py"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         main, "--preset", "nothing"],
        env=alone(), capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("Unknown preset 'nothing'") == 1
