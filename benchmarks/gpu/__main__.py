"""What two processor cores cannot prove, proven in twenty minutes by whoever has a GPU.

    make gpu                               or: python benchmarks/gpu [--minutes 20] [--data-root /data]
    make gpu DEVICE=cpu SIZE=toy           the same stages on a CPU, small

From a checkout, with nothing installed but Python 3.11 or newer, torch and what else is there: a stage
that wants a package it lacks is skipped and says which. Writes results/gpu/CARD-DATE.json and .md after
every part. The same command goes on: what is done stays, what failed or was cut off runs again.
"""

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
UNFINISHED, MISSING = 75, 3
"""Exit codes of a part: to be gone on with, and without data."""
SHOWN = 30
"""Lines of a failed part's output that the record keeps."""
VISION = (
    "numpy",
    "PIL",
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "huggingface_hub",
    "filelock",
)
PRETRAIN = (*VISION, "accelerate", "typer", "rich", "jsonschema")
PROBE = """
import json, platform, sys, torch
from importlib import metadata
found = {}
for name in ("torch", "torchvision", "timm", "accelerate", "faiss-gpu", "faiss-cpu"):
    try: found[name] = metadata.version(name)
    except metadata.PackageNotFoundError: pass
gpu = sys.argv[1] == "cuda" and torch.cuda.is_available()
print(json.dumps({
    "card": torch.cuda.get_device_name(0) if gpu else "cpu" if sys.argv[1] == "cpu" else None,
    "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if gpu else None,
    "cards": torch.cuda.device_count() if gpu else 0,
    "python": platform.python_version(), "cuda": torch.version.cuda, **found,
}))
"""


@dataclass(frozen=True)
class Part:
    """A process of its own: a stage, or a piece of one.

    Attributes:
        name: of the part, and of what `speeds.py` calls it.
        stage: 1 tests, 2 speeds, 3 a pair trained, 4 speeds of the CPU.
        needs: modules without which it cannot run.
        minutes: after which it is ended, to be run again by the next call.
    """

    name: str
    stage: int
    needs: tuple[str, ...]
    minutes: float


PARTS = (
    Part("tests", 1, (*PRETRAIN, "pytest", "scipy", "cv2", "sklearn", "threadpoolctl"), 6),
    Part("layers", 2, VISION, 1),
    Part("extraction", 2, VISION, 2),
    Part("knn", 2, ("numpy", "torch"), 4),
    Part("davis", 2, (*VISION, "scipy", "cv2"), 1.5),
    Part("logreg", 2, ("numpy", "torch", "scipy", "sklearn", "threadpoolctl"), 1),
    Part("pretrain", 2, VISION, 3),
    Part("views", 2, ("numpy", "torch", "torchvision", "PIL"), 0.5),
    Part("cpu", 4, (*VISION, "faiss", "scipy", "cv2"), 3),
    Part("pair", 3, PRETRAIN, 60),
)


def command(part: Part, options: argparse.Namespace, *, rows: Path, seconds: float) -> list[str]:
    """What the part's process runs."""
    if part.name == "tests":
        chosen = ["-k", options.tests] if options.tests else []
        return [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
                f"--junitxml={rows}", "tests/gpu", *chosen]  # fmt: skip
    common = ["--device", options.device, "--size", options.size, "--rows", str(rows)]
    if part.name != "pair":
        return [sys.executable, str(HERE / "speeds.py"), part.name, *common]
    found = [sys.executable, str(HERE / "pair.py"), *common, "--seconds", str(seconds)]
    found += ["--data", options.data, "--out", str(options.out / f"pair-{options.size}")]
    return found + (["--data-root", str(options.data_root)] if options.data_root else [])


def read_rows(part: Part, path: Path) -> list[dict[str, Any]]:
    """What the part has measured; counts of passed, failed and skipped tests."""
    if not path.exists() or not path.stat().st_size:
        return []
    if part.name != "tests":
        found: list[dict[str, Any]] = json.loads(path.read_text())
        return found
    cases = list(ElementTree.parse(path).iter("testcase"))
    skipped = [one.find("skipped") for one in cases]
    failed = [
        one for one in cases if one.find("failure") is not None or one.find("error") is not None
    ]
    why = sorted({str(one.get("message")) for one in skipped if one is not None})
    lost = len(failed) + sum(one is not None for one in skipped)
    return [
        {"what": "tests passed", "value": len(cases) - lost, "unit": "tests", "note": ""},
        {"what": "tests failed", "value": len(failed), "unit": "tests",
         "note": ", ".join(str(one.get("name")) for one in failed)},
        {"what": "tests skipped", "value": lost - len(failed), "unit": "tests", "note": "; ".join(why)},
    ]  # fmt: skip


def run(part: Part, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The part's entry in the record."""
    missing = [name for name in part.needs if find_spec(name) is None]
    if missing:
        return {"state": "skipped", "why": f"needs {', '.join(missing)}, not installed", "rows": []}
    if seconds < 1:
        return {"state": "out of time", "why": "the minutes were used up before it", "rows": []}
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
    }
    env["SDSSL_BENCH_TEST_DEVICE"] = options.device
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w+") as log:
        rows = Path(scratch) / "rows"
        process = subprocess.Popen(
            command(part, options, rows=rows, seconds=seconds),
            cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            # The pair ends by itself, a minute before its seconds are used up.
            code = process.wait(seconds + (60 if part.name == "pair" else 0))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                stop(process)
        log.seek(0)
        tail = log.read().splitlines()[-SHOWN:]
        entry = {"seconds": round(time.monotonic() - started, 1), "rows": read_rows(part, rows)}
    if code == 0:
        return {"state": "done", **entry}
    if code == UNFINISHED:
        return {"state": "unfinished", "why": "the same command goes on with it", **entry}
    if code is None:
        return {
            "state": "out of time",
            "why": f"ended after {seconds:.0f} s",
            "output": tail,
            **entry,
        }
    if code == MISSING:
        return {"state": "skipped", "why": " ".join(tail[-3:]), **entry}
    return {"state": "failed", "why": f"exit code {code}", "output": tail, **entry}


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends the part and all that it has started; pretraining saves itself first."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def machine(device: str) -> dict[str, Any]:
    """Card and software, asked of a process that ends, so that it holds no memory of the card."""
    if find_spec("torch") is None:
        sys.exit(
            "torch is not installed for this Python: make gpu PYTHON=/path/to/the/right/python"
        )
    done = subprocess.run([sys.executable, "-c", PROBE, device], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"torch cannot be used:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["card"] is None:
        print("No CUDA device is seen by torch. On a CPU, small: make gpu DEVICE=cpu SIZE=toy")
        sys.exit(2)
    return found


def commit() -> str:
    """Of the checkout, with a plus if files differ from it; "unknown" outside git."""
    try:
        name, changes = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.strip() + ("+" if changes.strip() else "")


def open_record(options: argparse.Namespace, about: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The newest record of this card, size, software and commit that is not complete, else a new one."""
    same = {"size": options.size, "commit": commit(), **about}
    stem = re.sub(r"[^a-z0-9]+", "-", about["card"].lower()).strip("-")
    today = f"{stem}-{datetime.date.today().isoformat()}"
    for path in sorted(options.out.glob(f"{stem}-*.json"), key=lambda p: -p.stat().st_mtime):
        record = json.loads(path.read_text())
        if not options.again and all(record.get(name) == value for name, value in same.items()):
            return path, record
    path, number = options.out / f"{today}.json", 1
    while path.exists():
        number += 1
        path = options.out / f"{today}-{number}.json"
    return path, {"date": today[-10:], **same, "parts": {}}


def markdown(record: dict[str, Any]) -> str:
    """The record as a table."""
    software = ", ".join(f"{k} {v}" for k, v in record.items()
                         if k in ("python", "torch", "cuda", "torchvision", "timm", "accelerate",
                                  "faiss-gpu", "faiss-cpu") and v)  # fmt: skip
    memory = f", {record['memory_gib']} GiB" if record["memory_gib"] else ""
    lines = [f"# {record['card']}{memory}, {record['date']}, {record['size']}", "",
             f"{software}; commit {record['commit']}.", "",
             "| stage | part | what | value | unit | |", "|---|---|---|---:|---|---|"]  # fmt: skip
    for part in PARTS:
        entry = record["parts"].get(part.name, {"state": "not run", "rows": []})
        if entry["state"] != "done":
            why = str(entry.get("why", "")).replace("|", "\\|")
            lines.append(f"| {part.stage} | {part.name} | **{entry['state']}** | | | {why} |")
        for one in entry["rows"]:
            value = f"{one['value']:,}" if isinstance(one["value"], int) else f"{one['value']:.4g}"
            note = one["note"].replace("|", "\\|")
            lines.append(
                f"| {part.stage} | {part.name} | {one['what']} | {value} | {one['unit']} | {note} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", default="full", choices=("full", "toy"))
    parser.add_argument("--minutes", type=float, default=20, help="of all parts together")
    parser.add_argument("--only", default="", help="parts, comma-separated")
    parser.add_argument("--tests", help="pytest's -k for the first stage")
    parser.add_argument("--data", default="cifar10", help="images of the pair: a dataset's name")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("SDSSL_BENCH_DATA"))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--again", action="store_true", help="measure anew, into a new record")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name]
    if unknown := set(chosen) - {part.name for part in PARTS}:
        parser.error(
            f"--only {', '.join(sorted(unknown))}: parts are {', '.join(p.name for p in PARTS)}"
        )
    options.out = options.out.resolve()
    if options.data_root:
        options.data_root = Path(options.data_root).resolve()
    about = machine(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    path, record = open_record(options, about)
    print(f"{about['card']}, torch {about['torch']}, {options.size}: {path}", flush=True)
    end = time.monotonic() + 60 * options.minutes
    for part in PARTS:
        before = record["parts"].get(part.name, {}).get("state")
        if before == "done" or (chosen and part.name not in chosen):
            print(f"{part.name:10} {'kept' if before == 'done' else 'not asked for'}", flush=True)
            continue
        print(f"{part.name:10} ", end="", flush=True)
        entry = run(part, options, min(60 * part.minutes, end - time.monotonic()))
        record["parts"][part.name] = entry
        for file, text in ((path, json.dumps(record, indent=1) + "\n"),
                           (path.with_suffix(".md"), markdown(record))):  # fmt: skip
            file.with_suffix(".tmp").write_text(text)
            file.with_suffix(".tmp").replace(file)
        print(f"{entry['state']}, {entry.get('seconds', 0)} s  {entry.get('why', '')}", flush=True)
    print(f"\n{markdown(record)}\n{path} and .md: small enough to send.")
    return int(any(one["state"] == "failed" for one in record["parts"].values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on.")
        sys.exit(130)
