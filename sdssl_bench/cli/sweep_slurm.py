"""A sweep as one array script of Slurm, complete in itself: every task of the array is one job."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdssl_bench.cli.sweep_jobs import Job

WARNING_SECONDS = 120
"""Between the signal and the limit of time; what is scored is stored, so seconds would do."""

SCRIPT = """\
#!/bin/bash
{directives}
# {count} jobs of {plan}. What is recorded by then a job leaves out, so any of them may run twice.
cd {folder} || exit 2
{setup}again=
job=
# Before the limit: what is scored is stored, and the job goes on from there in its next turn. The signal goes
# to the step by scancel: srun itself would end its step with SIGKILL.
trap 'again=yes; scancel --signal=TERM "$SLURM_JOB_ID.0"' USR1
# Cancelled: Slurm tells the step, the script waits for it.
trap : TERM
case "${{SLURM_ARRAY_TASK_ID:?is set by sbatch: submit this file with it}}" in
{cases}
*) echo "no job has the number $SLURM_ARRAY_TASK_ID, there are {count}" >&2; exit 2 ;;
esac
srun "$@" &
job=$!
wait "$job"; code=$?
# A signal ends the waiting, not the job.
while kill -0 "$job" 2>/dev/null; do wait "$job"; code=$?; done
if [ "$code" -gt 128 ]; then wait "$job" 2>/dev/null; own=$?; [ "$own" -eq 127 ] || code=$own; fi
if [ -n "$again" ] && [ "$code" -ne 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


def script(jobs: Sequence[Job], plan: Path, given: Mapping[str, Any]) -> str:
    """The text of the script.

    Args:
        jobs: one for each number of the array.
        plan: the file.
        given: options of sbatch by name; and `setup`, lines of shell before the jobs, and `at_once`,
            how many may run.
    """
    options = {key.replace("_", "-"): value for key, value in given.items()}
    setup = str(options.pop("setup", ""))
    at_once = options.pop("at-once", None)
    array = f"0-{len(jobs) - 1}" + (f"%{at_once}" if at_once else "")
    directives: dict[str, Any] = {
        "job-name": plan.stem,
        **options,
        "array": array,
        "requeue": True,
        "open-mode": "append",
        "signal": f"B:USR1@{WARNING_SECONDS}",
    }
    lines = [
        f"#SBATCH --{key}" + ("" if value is True else f"={value}")
        for key, value in directives.items()
        if value is not False
    ]
    return SCRIPT.format(
        directives="\n".join(lines),
        count=len(jobs),
        plan=plan.name,
        folder=shlex.quote(str(Path.cwd())),
        setup=f"{setup.rstrip()}\n" if setup else "",
        cases="\n".join(f"{number}) set -- {job.line} ;;" for number, job in enumerate(jobs)),
    )
