"""Disks that refuse: what else the command asks for is done, and what was stored is used and whole."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from example_results import results
from mini_data import shared_mini
from sdssl_bench.cli.main import app
from sdssl_bench.records.identity import stable_view
from sdssl_bench.records.store import ResultStore

CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"


def run(root: Path, *settings: str, task: str = "knn", cache: str = "cache") -> Any:
    result = CliRunner().invoke(
        app,
        ["run", "-t", task, "-c", CKPT, "--data-root", str(shared_mini()), "-q", "-j", "0",
         "--out", str(root / "results"), "--cache-dir", str(root / cache), *settings],
    )  # fmt: skip
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def views(root: Path) -> list[Any]:
    return [stable_view(record) for _, record in ResultStore(root / "results")]


def full_for(monkeypatch: pytest.MonkeyPatch, part: str) -> pytest.MonkeyPatch:
    """A disk that has no room for files whose path has `part`."""
    written = Path.write_bytes

    def refuse(self: Path, data: bytes) -> int:
        if part in str(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    return monkeypatch


def test_other_datasets_run_and_the_same_command_ends_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("-d", "cifar10,pets", "--all-layers")
    run(tmp_path / "quiet", *both)
    with monkeypatch.context() as patch:
        full_for(patch, "knn-pets")
        result = run(tmp_path, *both)
    assert result.exit_code == 1
    assert "knn on pets:" in result.output
    assert "cannot be written, its disk is full" in result.output
    assert "1 of 2 failed, the others are done." in result.output
    assert [one["dataset"]["name"] for one in views(tmp_path)] == ["cifar10"]
    assert not list(tmp_path.rglob("*.tmp"))
    assert run(tmp_path, *both).exit_code == 0
    assert views(tmp_path) == views(tmp_path / "quiet")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_stored_bank_in_a_cache_of_others_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run(tmp_path, "-d", "cifar10", "--layers", "2")
    first = views(tmp_path)

    (tmp_path / "results").rename(tmp_path / "before")
    opened = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(tmp_path / "cache") in str(path) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    assert run(tmp_path, "-d", "cifar10", "--layers", "2").exit_code == 0
    assert views(tmp_path) == first
    result = run(tmp_path, "-d", "cifar10", "--layers", "3")
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    assert str(tmp_path / "cache") in result.output


REPORTS = {
    "page": ["report", "RESULTS", "--out", "PLACE"],
    "figures": ["report", "RESULTS", "--out", "page", "--figures", "PLACE"],
    "csv": ["leaderboard", "RESULTS", "--csv", "PLACE/a.csv"],
    "markdown": ["leaderboard", "RESULTS", "--markdown", "PLACE/a.md"],
    "latex": ["leaderboard", "RESULTS", "--latex", "PLACE"],
    "miniatures": ["data", "mini", "PLACE"],
    "ground truth": ["data", "convert-gnd", "GND", "PLACE/a.json"],
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("results") / "results")


def filled(line: list[str], stored: Path, place: Path) -> list[str]:
    gnd = next(shared_mini().rglob("gnd_roxford5k.*"))
    words = {"RESULTS": str(stored), "PLACE": str(place), "GND": str(gnd)}
    for word, value in words.items():
        line = [one.replace(word, value) for one in line]
    return line


@pytest.mark.parametrize("what", REPORTS)
def test_whatever_is_written_names_the_place_that_refuses(
    tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "file"
    place.write_text("mine")
    result = CliRunner().invoke(app, filled(REPORTS[what], stored, place))
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    assert str(place) in result.output.replace("\n", "")
    assert place.read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 30 KiB; skipped where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_small_disk_is_told_by_every_writer_and_leaves_no_half_file(
    small_disk: Path, stored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for what, line in REPORTS.items():
        if what in ("latex", "ground truth"):  # small enough
            continue
        place = small_disk / what.replace(" ", "-")
        (small_disk / "filler").write_bytes(bytes(24 * 1024))
        result = CliRunner().invoke(app, filled(line, stored, place))
        assert result.exit_code == 1, (what, result.output)
        assert "its disk is full" in result.output
        assert not list(small_disk.rglob("*.tmp"))
    result = run(small_disk, "-d", "cifar10", "--all-layers", cache="../cache")
    assert result.exit_code == 1
    for path in small_disk.rglob("*.json"):
        json.loads(path.read_text())
