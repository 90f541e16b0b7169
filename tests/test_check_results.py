"""`make check-results`: a good submission passes; whatever is wrong with one is named."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdssl_bench.records import ResultStore, content_digest, items_path, record_key
from sdssl_bench.statistics import record_intervals
from stored_results import DAVIS, davis_layer, scored, store

ROOT = Path(__file__).resolve().parents[1]


def check(root: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / "results" / "check.py", root, *options],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission as somebody sends it: what `run --out` left, and a submission.json."""
    folder = tmp_path / "results" / "community" / "mine"
    scored(folder, "mine", "cifar10", {1: 120, 2: 160})
    scored(folder, "mine", "flowers", {1: 90, 2: 60})
    write(folder, submitted_by="me", weights="https://example.org/mine.pth", verified_by=[])
    return folder


def write(folder: Path, **values: Any) -> None:
    path = folder / "submission.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**stored, **values}))


def edited(
    folder: Path, change: Callable[[dict[str, Any]], None], *, forged: bool, moved: bool = False
) -> None:
    """Change a record; forged: with key and digest made again; moved: to the name they give."""
    path, record = next(iter(ResultStore(folder)))
    change(record)
    if forged:
        record["key"], record["digest"] = record_key(record), content_digest(record)
    path.write_text(json.dumps(record))
    if moved:
        items_path(path).rename(items_path(ResultStore(folder).path(record)))
        path.rename(ResultStore(folder).path(record))


def test_a_good_submission_passes_and_is_on_the_board_once_it_is_verified(folder: Path) -> None:
    root = folder.parents[1]
    before = sorted(root.rglob("*"))
    assert check(root) == (0, "3 JSON files, 1 submissions, 0 problems\n")
    assert check(root, "--verified") == (0, "\n")
    keys = [record["key"] for _, record in ResultStore(folder)]
    half = {"who": "somebody else", "date": "2026-01-31", "keys": keys[:1]}
    write(folder, verified_by=[half])
    assert check(root)[0] == 0
    assert check(root, "--verified") == (0, "\n"), "one of two records"
    write(folder, verified_by=[half, {**half, "keys": keys[1:]}])
    assert check(root, "--verified") == (0, f"{folder}\n")
    assert sorted(root.rglob("*")) == before, "checking leaves nothing behind"


def test_a_score_of_one_object_has_no_interval_and_passes(tmp_path: Path) -> None:
    layer = davis_layer(["chair/1"], np.array([0.5]), np.array([0.6]))
    path, record = store(tmp_path / "study", {2: layer}, **DAVIS)
    assert record_intervals(record, path) == {}
    assert check(tmp_path) == (0, "1 JSON files, 0 submissions, 0 problems\n")


def better(record: dict[str, Any]) -> None:
    record["layers"]["2"]["metrics"]["k20/top1"] += 0.01


def unproven(record: dict[str, Any]) -> None:
    better(record)
    record["layers"]["2"]["items"] = []


@pytest.mark.parametrize(
    ("change", "forged", "message"),
    [
        (better, False, "was edited: its layers digest to"),
        (better, True, "k20/top1"),
        (unproven, True, "no items give the headline of layers 2"),
        (
            lambda one: one["model"].update(name="other"),
            True,
            "expected this record at runs/other/",
        ),
        (lambda one: one["settings"].update(seed=5), True, "expected this record at runs/mine/"),
        (lambda one: one["dataset"].update(variant="mini"), True, "only whole official sets"),
        (lambda one: one.update(limited=50), True, "only whole official sets"),
        (lambda one: one.update(verified=True), False, "does not fit its schema"),
    ],
    ids=["edited", "forged", "unproven", "renamed", "reseeded", "miniature", "limited", "schema"],
)
def test_a_tampered_record_is_named(
    folder: Path, change: Callable[[dict[str, Any]], None], forged: bool, message: str
) -> None:
    edited(folder, change, forged=forged, moved="official" in message)
    code, text = check(folder.parents[1])
    assert code == 1
    assert message in text
    assert "community/mine/runs/mine/knn-" in text


def test_numbers_kept_beside_a_record_are_not_believed(folder: Path) -> None:
    """The file that the readers of results trust, made for the forged record."""
    from sdssl_bench.statistics import read_proven
    from sdssl_bench.statistics.derived import kept_path, kept_text, read_kept, source_of

    path, _ = next(iter(ResultStore(folder)))
    read_proven(path)
    kept = kept_path(path)
    edited(folder, better, forged=True)
    new = source_of(path, path.read_bytes())
    head, *rest = map(json.loads, kept.read_text().split("\n")[1:])
    kept.write_bytes(kept_text([{**head, "source": new}, *rest]))
    assert read_kept(path, new) is not None
    assert check(folder.parents[1])[0] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"verified_by": [{"who": "me", "date": "2026-01-31", "keys": ["0" * 16]}]}, "me submitted"),
        ({"verified_by": [{"who": "you", "date": "2026-01-31", "keys": ["0" * 16]}]}, "no record here"),
        ({"verified_by": [{"who": "you", "date": "yesterday", "keys": ["0" * 16]}]}, "verified_by[0].date"),
        ({"verified_by": "yes"}, "verified_by"),
        ({"weights": ""}, "weights"),
        ({"score": 1}, "score"),
    ],
)  # fmt: skip
def test_a_wrong_submission_is_named(folder: Path, values: dict[str, Any], message: str) -> None:
    write(folder, **values)
    code, text = check(folder.parents[1])
    assert code == 1
    assert message in text
    assert "community/mine/submission.json" in text
    assert check(folder.parents[1], "--verified") == (0, "\n")


def test_what_belongs_nowhere_is_named(folder: Path) -> None:
    root = folder.parents[1]
    (root / "community" / "stray.json").write_text("{}")
    (folder / "notes.txt").write_text("hello")
    (root / "gpu").mkdir()
    (root / "gpu" / "card.json").write_text('{"parts": {"a": {"state": "perhaps", "rows": []}}}')
    (root / "broken.json").write_text("{")
    code, text = check(root)
    assert code == 1
    for name in (
        "community/stray.json",
        "community/mine/notes.txt",
        "gpu/card.json",
        "broken.json",
    ):
        assert f"{name}: " in text


def test_the_results_of_this_checkout_pass() -> None:
    code, text = check(ROOT / "results")
    assert code == 0, text
