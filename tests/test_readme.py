"""README's map holds every room with its size, and its commands exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
ROOMS = (
    ("tasks", "one file a protocol, read top to bottom; the file's name is the task's"),
    ("sdssl_bench/cli", "what can be typed; one file a command"),
    ("sdssl_bench/api", "the same as Python functions; results that tabulate and draw themselves"),
    ("sdssl_bench/checkpoints", "a file or a name becomes an encoder that is what it claims to be"),
    ("sdssl_bench/encoders", "from images to the tokens of every layer; one file a family"),
    ("sdssl_bench/datasets", "official layouts: read, checked, made in miniature"),
    ("sdssl_bench/features", "one forward pass for all layers, into banks on disk"),
    ("sdssl_bench/neighbors", "exact search and votes"),
    ("sdssl_bench/probes", "linear heads, logistic regression, fine-tuning"),
    ("sdssl_bench/retrieval", "revisited Oxford/Paris, copies, whitening"),
    ("sdssl_bench/video", "label propagation; J and F of sequences"),
    ("sdssl_bench/dense", "segmentation by the nearest patches"),
    ("sdssl_bench/metrics", "accuracies, average precision, J and F as pure functions"),
    ("sdssl_bench/analysis", "CKA, alignment, uniformity, rank, maps"),
    ("sdssl_bench/records", "what is stored of a measurement, and why two differ"),
    ("sdssl_bench/statistics", "is it real? intervals, paired tests, ranks"),
    ("sdssl_bench/paper", "the paper's tables, and numbers of others"),
    ("sdssl_bench/reports", "terminal tables, CSV, Markdown, LaTeX, the page, figures"),
    ("sdssl_bench/system", "processes, devices, progress, threads, the terminal"),
    ("pretrain", "SimCLR, BYOL, MoCo v3 and their SD- variants"),
    ("tests", "the specification, by room"),
)
SLACK = 0.1
"""Lines may grow by this share before the map has to be written anew."""


def lines_of(folder: str) -> int:
    files = [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".js", ".css", ".j2")]
    return sum(len(path.read_text("utf-8").splitlines()) for path in files)


def row(folder: str, what: str) -> str:
    return f"| `{folder}/` | {round(lines_of(folder), -2):,} | {what} |"


def test_the_map_shows_every_room_and_its_lines() -> None:
    rooms = {p.parent.name for p in (ROOT / "sdssl_bench").glob("*/__init__.py")}
    assert {name.removeprefix("sdssl_bench/") for name, _ in ROOMS} >= rooms
    fresh = "\n".join(["| folder | lines | |", "|---|---:|---|", *(row(*one) for one in ROOMS)])
    stated = dict(re.findall(r"\| `([\w/]+)/` \| ([\d,]+) \|", README))
    for folder, _ in ROOMS:
        number = int(stated.get(folder, "0").replace(",", ""))
        assert abs(number - lines_of(folder)) <= 100 + SLACK * lines_of(folder), fresh
