"""A file of the user's own adds a task, datasets and styles, by the same law as a package."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fake_checkpoints as fake
import sdssl_bench
from sdssl_bench import checkpoints, tasks
from sdssl_bench.datasets import names, spec
from sdssl_bench.errors import UsageError
from sdssl_bench.records import ResultStore
from sdssl_bench.system import plugin_points, plugins

ROOT = Path(__file__).resolve().parents[1]
CKPT = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
SET = """
from sdssl_bench.datasets import DatasetSpec

SPEC = DatasetSpec(
    name="tiles", title="Tiles", kind="classification", num_classes=2,
    sizes={"train": 24, "test": 4}, headline="top1", reader="tiles_and_mean:read",
    citation="Nobody 2026", licence="CC0", home="https://example.org", archives={"tiles.zip": ""},
    folders=("tiles",), anchors=("table.csv",), tree="tiles/\\n  table.csv",
)


def read(root, num_classes):
    import numpy as np

    from sdssl_bench.datasets.listing import Listing, SplitListing

    rows = [line.split(",") for line in (root / "table.csv").read_text().splitlines()]
    return Listing(("dark", "light"), *(
        SplitListing([file for file, of, _ in rows if of == split],
                     np.array([int(label) for _, of, label in rows if of == split]))
        for split in ("train", "test")
    ))
"""
STYLE = """
import re

from timm.models.vision_transformer import VisionTransformer
from sdssl_bench.checkpoints import Style, Translated

def translate(state):
    return Translated({re.sub("^stuff", "", key): tensor for key, tensor in state.items()})

def build(found):
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, num_classes=0)

STUFFED = Style("stuffed", ("stuffpatch_embed.proj.weight",), "stuff.*", translate, build)
"""
CALLS = """
import json, sys
from typer.testing import CliRunner
from sdssl_bench.cli.main import app
done = [CliRunner().invoke(app, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[one.exit_code, one.output] for one in done]))
"""


def call(folder: Path, *commands: list[str]) -> list[Any]:
    """Exit code and output of each command, in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(commands)],
        capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def write_tiles(folder: Path) -> None:
    from PIL import Image

    (folder / "tiles").mkdir(parents=True)
    lines = []
    for split, number in (("train", 24), ("test", 4)):
        for index in range(number):
            name, label = f"{split}{index}.png", index % 2
            grey = 60 + 130 * label + index
            Image.new("RGB", (32, 32), (grey, grey, grey)).save(folder / "tiles" / name)
            lines.append(f"{name},{split},{label}")
    (folder / "tiles" / "table.csv").write_text("\n".join(lines))


@pytest.fixture(autouse=True)
def nothing_included() -> Iterator[None]:
    """What a test includes ends with it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    for name in [*plugin_points._included]:
        del plugin_points._included[name]
    for name in {*sys.modules} - modules:
        if not name.startswith(("sdssl_bench", "torch", "timm")):
            del sys.modules[name]
    sys.path[:] = path
    plugins.cache_clear()


def test_one_file_with_a_task_and_a_set_runs_to_the_leaderboard(tmp_path: Path) -> None:
    """Read by another process too, and recorded with its digest."""
    task = (ROOT / "tests" / "task_of_another_package.py").read_text()
    file = tmp_path / "files" / "tiles_and_mean.py"
    file.parent.mkdir()
    file.write_text(task + SET)
    write_tiles(tmp_path / "data")
    include = ["--include", "files/tiles_and_mean.py"]
    run = ["-t", "class-mean,knn", "-d", "tiles", "-c", CKPT, "--data-root", "data", "-j", "1"]
    run += ["--out", "results"]
    run += ["--first-classes", "2", "--dry-run"]
    really = ["-t", "class-mean", *run[2:-1]]
    answers = call(
        tmp_path,
        ["ls", "tasks", *include],
        [*include, "show", "tiles"],
        ["data", "check", "tiles", "--data-root", "data", f"--include={include[1]}"],
        ["run", *run, *include],
        ["run", *include, *really],
        ["leaderboard", "results"],
        ["leaderboard", "results", *include],
    )
    for code, output in answers:
        assert code == 0, output
    listed, shown, checked, planned, ran, board, again = (output for _, output in answers)
    assert "class-mean" in listed
    assert "Tiles (tiles): 2 classes, 24 train, 4 test images." in shown
    assert "tiles: ok" in checked
    assert "knn/dino@1" in planned
    assert "a table of class-mean" in ran
    assert "class-mean tiles" in board, "results need no file to be shown"
    assert board == again
    ((_, record),) = ResultStore(tmp_path / "results")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert [one["included"] for one in record["environments"]] == [{"tiles_and_mean.py": digest}]
    assert record["layers"]["3"]["metrics"]["top1"] == 1.0


def test_an_included_style_opens_its_files(tmp_path: Path) -> None:
    (tmp_path / "stuffed_style.py").write_text(STYLE)
    model = fake.vit(1)
    torch.save({"net": fake.prefixed(model.state_dict(), "stuff")}, tmp_path / "x.pth")
    sdssl_bench.include(tmp_path / "stuffed_style.py")
    sdssl_bench.include(str(tmp_path / "stuffed_style.py"))
    encoder = checkpoints.load(str(tmp_path / "x.pth"))
    assert encoder.info is not None
    assert encoder.info.format == "stuffed"


def test_a_taken_name_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "other_birds.py"
    file.write_text(SET.replace('"tiles"', '"cub"', 1))
    sdssl_bench.include(file)
    with pytest.raises(UsageError, match=rf"called 'cub': one of this suite, .* file {file}"):
        names()


def test_two_files_with_one_name_are_an_error(tmp_path: Path) -> None:
    for name in ("first_tiles", "second_tiles"):
        (tmp_path / f"{name}.py").write_text(SET)
        sdssl_bench.include(tmp_path / f"{name}.py")
    with pytest.raises(
        UsageError, match=r"called 'tiles': one of the file .*first_tiles.py, .*sec"
    ):
        spec("cifar10")


def test_a_task_under_a_name_that_no_record_can_have_is_an_error(tmp_path: Path) -> None:
    source = (ROOT / "tests" / "task_of_another_package.py").read_text()
    (tmp_path / "shouting.py").write_text(source.replace('"class-mean"', '"Class Mean"'))
    sdssl_bench.include(tmp_path / "shouting.py")
    with pytest.raises(UsageError, match=r"small letters.*shouting.py has 'Class Mean'"):
        tasks.task_names()


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("none.py", None, r"--include takes a \.py file, found none at"),
        ("text.txt", "", r"--include takes a \.py file, found none at"),
        ("my-task.py", "", r"a module's name such as my_task\.py, found my-task\.py"),
        ("json.py", SET, r"has the name of another module, .*json"),
        ("torchvision.py", SET, r"has the name of another module, .*torchvision"),
        ("empty_file.py", "", "Expected a class Task, a DatasetSpec or a Style in .*, found none"),
        ("hidden_set.py", SET.replace("SPEC", "_SPEC"), "found none. Names that begin with _"),
        ("broken_file.py", "x = 1\ny = x.z\n", r"failed at .*broken_file.py:2: AttributeError"),
        (
            "leaving_file.py",
            "raise SystemExit(0)\n",
            r"failed at .*leaving_file.py:1: SystemExit: 0",
        ),
        ("no_syntax.py", "def", "SyntaxError"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_what_is_wrong(
    tmp_path: Path, name: str, code: str | None, message: str
) -> None:
    if code is not None:
        (tmp_path / name).write_text(code)
    before, modules = list(sys.path), set(sys.modules)
    with pytest.raises(UsageError, match=message):
        sdssl_bench.include(tmp_path / name)
    assert plugin_points.included() == {}
    assert (sys.path, set(sys.modules) - modules) == (before, set())


def test_the_option_needs_a_file(tmp_path: Path) -> None:
    alone, empty, gone = call(
        tmp_path,
        ["run", "--include"],
        ["ls", "--include", ""],
        ["ls", "--include", "gone.py"],
    )
    for code, output in (alone, empty, gone):
        assert code == 2
        assert "--include takes a" in output
