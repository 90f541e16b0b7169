"""The wheel holds sdssl_bench and nothing else, and every module of the checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "sdssl_bench": "sdssl_bench",
    "tasks": "sdssl_bench/tasks",
    "pretrain": "sdssl_bench/pretrain",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that the checkout stays clean, without fetching a build environment."""
    work = tmp_path_factory.mktemp("wheel")
    (work / "source").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "source" / name)
    for name in (*FOLDERS, "results/reference", "docs"):
        unbuilt = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, work / "source" / name, ignore=unbuilt)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", work, work / "source"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(work.glob("*.whl")))


def test_only_sdssl_bench_reaches_site_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sdssl_bench"}


def test_every_module_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    } | {"sdssl_bench/py.typed", "sdssl_bench/records/record.schema.json"}
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
