"""A dataset is one entry: one that another package adds goes all the way to the leaderboard and the page."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from sdssl_bench.datasets import spec
from sdssl_bench.datasets.catalogue import names
from sdssl_bench.datasets.specs.specification import KINDS
from sdssl_bench.errors import UsageError
from sdssl_bench.system import plugins

ROOT = Path(__file__).resolve().parents[2]
ENTRY = """
from sdssl_bench.datasets import DatasetSpec, Miniature

SPEC = DatasetSpec(
    name="mushrooms", title="Mushrooms of Elsewhere", kind="classification", num_classes=50,
    sizes={"train": 5_000, "test": 1_000}, headline="mean_per_class",
    reader="mushroom_files:read", citation="Nobody 2026", licence="CC0",
    home="https://example.org/mushrooms", archives={"mushrooms.zip": ""},
    folders=("mushrooms", ""), anchors=("table.csv",), tree="mushrooms/\\n  table.csv",
    mini=Miniature("mushrooms", "mushroom_files:write", 0, 4, 6, 3),
)
"""
FILES = """
import csv

import numpy as np

from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.datasets.mini.studio import save_jpeg


def read(root, num_classes):
    with (root / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["class"] for row in rows})
    splits = []
    for split in ("train", "test"):
        own = [row for row in rows if row["split"] == split]
        targets = np.array([classes.index(row["class"]) for row in own], np.int64)
        splits.append(SplitListing([row["file"] for row in own], targets))
    return Listing(tuple(classes), *splits)


def write(root, studio):
    lines = ["file,split,class"]
    for split in ("train", "test"):
        for class_id, number in studio.shots(split):
            file = f"{split}-{class_id}-{number}.jpg"
            save_jpeg(studio.image(class_id, split), root / "mushrooms" / file)
            lines.append(f"{file},{split},{studio.name(class_id)}")
    (root / "mushrooms/table.csv").write_text("\\n".join(lines))
"""
CALLS = """
import json, sys
from typer.testing import CliRunner
from sdssl_bench.cli.main import app
done = [CliRunner().invoke(app, arguments) for arguments in json.loads(sys.argv[1])]
heavy = sorted({"numpy", "PIL", "mushroom_files"} & set(sys.modules))
print(json.dumps([[one.exit_code, one.output] for one in done] + [heavy]))
"""


def install(folder: Path, package: str, **entries: str) -> None:
    """What an installer leaves of a package: its metadata with entry points."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[sdssl_bench.datasets]\n{lines}\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed package that adds a set, outside this one."""
    folder = tmp_path / "site"
    install(folder, "mushroom-benchmark", mushrooms="mushroom_entry:SPEC")
    (folder / "mushroom_entry.py").write_text(ENTRY)
    (folder / "mushroom_files.py").write_text(FILES)
    return folder


def call(site: Path, *commands: list[object]) -> list[Any]:
    """Exit code and output of each command in one fresh process, then what heavy modules it has loaded."""
    arguments = json.dumps([[str(word) for word in command] for command in commands])
    path = os.pathsep.join((str(site), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", CALLS, arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.slow
def test_a_set_of_another_package_runs_to_the_leaderboard_and_the_page(
    site: Path, tmp_path: Path
) -> None:
    data, results = tmp_path / "data", tmp_path / "results"
    where: list[object] = ["--data-root", data]
    encoder = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
    run: list[object] = ["run", "-t", "knn", "-d", "mushrooms", "--ckpt", encoder, "--all-layers"]
    *answers, _ = call(
        site,
        ["data", "mini", data],
        ["data", "check", "mushrooms", *where, "--decode"],
        [*run, *where, "--out", results, "--cache-dir", tmp_path / "cache", "-j", 0],
        ["leaderboard", "--results", results, "--csv", tmp_path / "board.csv"],
        ["report", "--results", results, "--out", tmp_path / "report"],
    )
    for code, output in answers:
        assert code == 0, output
    checked = answers[1][1]
    assert "mushrooms: ok (complete, mini)" in checked
    assert "train: 24 of 24 images, 4 classes" in checked
    (record,) = (json.loads(path.read_text()) for path in results.rglob("*.json"))
    assert record["dataset"]["name"] == "mushrooms"
    assert record["dataset"]["splits"] == {"train": 24, "test": 12}
    assert record["headline"] == "k20/mean_per_class"
    assert {"1", "2", "3"} == set(record["layers"])
    assert "mushrooms" in answers[3][1]
    assert ",mushrooms," in (tmp_path / "board.csv").read_text()
    assert "mushrooms" in (tmp_path / "report" / "index.html").read_text()


def test_such_a_set_is_listed_and_described_and_nothing_heavy_is_loaded_for_it(site: Path) -> None:
    listed, shown, layout, suggested, heavy = call(
        site,
        ["ls", "datasets"],
        ["show", "mushrooms"],
        ["data", "layout", "mushrooms"],
        ["data", "layout", "mushroom"],
    )
    assert "mushrooms       50 classes  train 5,000 + test 1,000" in listed[1]
    text = "Mushrooms of Elsewhere (mushrooms): 50 classes, 5,000 train, 1,000 test images."
    assert text in shown[1]
    assert text in layout[1]
    assert "Obtain from https://example.org/mushrooms: mushrooms.zip." in layout[1]
    assert suggested[0] == UsageError.exit_code
    assert "Did you mean 'mushrooms'?" in suggested[1]
    assert heavy == []


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages that this process sees."""
    monkeypatch.syspath_prepend(tmp_path)
    plugins.cache_clear()
    yield tmp_path
    plugins.cache_clear()


def test_two_sets_of_one_name_are_an_error_that_names_the_packages(path: Path) -> None:
    install(path, "birds-one", cub="birds_one:SPEC")
    with pytest.raises(UsageError, match=r"called 'cub'.*this suite.*the package birds-one"):
        spec("cifar10")


def test_two_packages_with_one_name_are_an_error(path: Path) -> None:
    install(path, "birds-one", crows="birds_one:SPEC")
    install(path, "birds-two", crows="birds_two:SPEC")
    with pytest.raises(UsageError, match=r"called 'crows'.*birds-(one|two).*birds-(one|two)"):
        names()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (None, "ModuleNotFoundError"),
        ("", "AttributeError"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("SPEC = 3", "found something of type int"),
        (
            "from sdssl_bench.datasets import spec\nSPEC = spec('cub')",
            "type DatasetSpec called 'cub'",
        ),
        (ENTRY.replace('"classification"', '"smell"'), "kind is one of classification, .*'smell'"),
        (ENTRY.replace('"test"', '"val"'), "has sizes of train and test"),
    ],
    ids=["missing", "empty", "broken", "number", "other name", "kind", "sizes"],
)
def test_a_broken_set_is_an_error_that_says_whose_it_is(
    path: Path, code: str | None, found: str, request: pytest.FixtureRequest
) -> None:
    module = f"broken_{request.node.callspec.id.replace(' ', '_')}"
    install(path, "broken-birds", crows=f"{module}:SPEC")
    if code is not None:
        (path / f"{module}.py").write_text(code)
    assert "crows" in names()
    with pytest.raises(UsageError, match=rf"'crows' at {module}:SPEC.*broken-birds.*{found}"):
        spec("crows")
    assert spec("cub").title == "CUB-200-2011"


def test_every_function_that_an_entry_names_is_there() -> None:
    for entry in map(spec, names()):
        functions = [f"{KINDS[entry.kind]}:load", f"{KINDS[entry.kind]}:check"]
        functions += [entry.reader] if entry.reader else []
        functions += [entry.mini.write] if entry.mini else []
        assert all(callable(resolve_name(function)) for function in functions)
