"""The source archive builds; the wheel made of it holds sdssl_bench and nothing else, every module once."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "sdssl_bench": "sdssl_bench",
    "tasks": "sdssl_bench/tasks",
    "pretrain": "sdssl_bench/pretrain",
}
PAPERS = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source archive and the wheel made of it, without fetching a build environment.

    From a copy, so that the checkout stays clean.
    """
    work = tmp_path_factory.mktemp("wheel")
    (work / "source" / "tests").mkdir(parents=True)
    (
        work / "source" / "tests" / "test_nothing.py"
    ).touch()  # of the kind that setuptools takes along
    (work / "source" / "build" / "lib" / "sdssl_bench").mkdir(parents=True)
    (work / "source" / "build" / "lib" / "sdssl_bench" / "stale.py").touch()
    for name in ("pyproject.toml", "MANIFEST.in", *PAPERS):
        shutil.copy(ROOT / name, work / "source" / name)
    for name in (*FOLDERS, "results/reference", "docs"):
        unbuilt = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, work / "source" / name, ignore=unbuilt)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-o", work, work / "source"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would be ignored" not in done.stdout + done.stderr
    return work


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


def test_the_source_archive_holds_the_project_without_its_tests(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == modules
    assert names > {"pyproject.toml", "results/reference/paper.csv", *PAPERS}


def test_only_sdssl_bench_reaches_site_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sdssl_bench"}


def test_every_module_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    modules = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == modules
    expected = {"sdssl_bench/py.typed", "sdssl_bench/records/record.schema.json"}
    expected |= {f"sdssl_bench/reference/{name}.csv" for name in ("paper", "published")}
    expected |= {f"sdssl_bench/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    templates = (ROOT / "sdssl_bench" / "reports" / "templates").iterdir()
    expected |= {f"sdssl_bench/reports/templates/{path.name}" for path in templates}
    photos = (ROOT / "sdssl_bench" / "datasets" / "mini" / "photos").iterdir()
    expected |= {f"sdssl_bench/datasets/mini/photos/{path.name}" for path in photos}
    names = set(wheel.namelist())
    assert expected <= names
    assert {Path(name).suffix for name in names if name.startswith("sdssl_bench/docs/")} == {".md"}


def test_the_unpacked_wheel_runs_away_from_the_checkout(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = (
        "from sdssl_bench.cli.main import app; app(['ls', 'tasks'], standalone_mode=False)\n"
        "app(['show', 'first-curve'], standalone_mode=False)\n"
        "import sdssl_bench.tasks.knn as m; print(m.__file__)\n"
        "from sdssl_bench.paper import references as r; assert r.paper_cells(); print(r.reference_folder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    site = tmp_path / "site" / "sdssl_bench"
    found = [str(site / "tasks" / "knn.py"), str(site / "reference")]
    assert done.stdout.split()[-2:] == found, done.stderr


def test_a_bare_checkout_works_from_its_root() -> None:
    code = "import sdssl_bench.tasks.knn as m; print(m.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(ROOT / "tasks" / "knn.py"), done.stderr


def test_the_console_script_and_its_completion_are_installed() -> None:
    try:
        scripts = importlib.metadata.distribution("sdssl-bench").entry_points
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("sdssl-bench is not installed here")
    assert "sdssl-bench" in {script.name for script in scripts}
    environment = {
        **os.environ,
        "_SDSSL_BENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "sdssl-bench lead",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sdssl_bench"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["leaderboard"], done.stderr


def test_the_table_of_versions_has_the_bounds_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["hf"]]
    bounds = dict(re.match(r"([\w-]+)>=([\d.]+)", one).groups() for one in declared)  # type: ignore[union-attr, misc]
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8").partition("## Versions")[2]
    table = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| ", text, re.MULTILINE))
    del bounds["faiss-cpu"]  # for machines other than those of the table
    assert table == bounds
