"""What `run --dry-run` says a run will cost against what it then costs: time, disk and memory, by task.

    python benchmarks/estimate.py --ckpt CHECKPOINT --data-root ROOT \
        --case "-t knn -d cifar10 --all-layers" --case "-t davis --all-layers --img-size 112"

Each case is estimated, run with a cache of its own, and estimated again: on a machine that is shared,
two estimates that differ say how far the measurement itself can be trusted. Estimates are read from
what the command prints. Time is the whole command's, disk what cache and results have grown by, memory
the most that the process held. Where others compute too, `--clock cpu` estimates and measures in
seconds of the processor instead (with OMP_NUM_THREADS=1 they are those of an idle machine).
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
RUN = "import time; {clock}from sdssl_bench.__main__ import main; main()"
CLOCKS = {"wall": "", "cpu": "time.perf_counter = time.process_time; "}
UNITS = {"s": 1, "m": 60, "h": 3600, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SAID = re.compile(r"In all (?:at least )?(\S+), (.+?) of disk(?:, (.+?) of memory)?:")


def number(text: str) -> float:
    """Seconds or bytes of "1m15s" or "3.4 MiB"."""
    parts = re.findall(r"([\d.]+)\s*([A-Za-z]+?)(?=\d|$)", text + "m" * text[-1].isdigit())
    return sum(float(value) * UNITS[unit] for value, unit in parts)


def command(case: str, options: argparse.Namespace, folder: Path) -> list[str]:
    data = ["--data-root", options.data_root] if options.data_root else []
    places = ["--cache-dir", folder / "cache", "--out", folder / "results"]
    code = RUN.format(clock=CLOCKS[options.clock])
    run = [sys.executable, "-c", code, "run", "--quiet", "--ckpt", options.ckpt]
    return [*map(str, [*run, *shlex.split(case), *data, *places])]


def estimated(arguments: list[str]) -> list[float]:
    done = subprocess.run([*arguments, "--dry-run"], capture_output=True, text=True, env=HERE)
    found = SAID.search(" ".join(done.stdout.split()))
    if not found:
        raise SystemExit(f"no estimate in what was printed:\n{done.stdout}{done.stderr}")
    return [number(text) for text in found.groups() if text]


def measured(arguments: list[str], folder: Path, *, clock: str) -> list[float]:
    started = time.perf_counter()
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=HERE
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started if clock == "wall" else used.ru_utime + used.ru_stime
    if status:
        raise SystemExit(f"{shlex.join(arguments)} failed:\n{said.decode()}")
    disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return [seconds, disk, used.ru_maxrss * (1 if sys.platform == "darwin" else 2**10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--data-root")
    parser.add_argument("--case", action="append", required=True, help="options of run")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    options = parser.parse_args()
    print(
        f"{'':<10}{'estimated':>11}{'measured':>11}{'ratio':>7}{'estimated after':>17}{'ratio':>7}"
    )
    for case in options.case:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            arguments = command(case, options, folder)
            before = estimated(arguments)
            real = measured(arguments, folder, clock=options.clock)
        with tempfile.TemporaryDirectory() as name:
            after = estimated(command(case, options, Path(name)))
        print(case)
        for what, unit, first, now, last in zip(
            ("time", "disk", "memory"), ("s", "MiB", "MiB"), before, real, after
        ):
            shown = [value / UNITS[unit] for value in (first, now, last)]
            print(
                f"  {what:<8}{shown[0]:>7.1f} {unit:<3}{shown[1]:>7.1f} {unit:<3}{first / now:>7.2f}"
                f"{shown[2]:>13.1f} {unit:<3}{last / now:>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
