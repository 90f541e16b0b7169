"""House rules: who may import whom, file names, nothing heavy at the command line's start."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "sdssl_bench").rglob("*.py"))
TASKS = sorted((ROOT / "tasks").glob("*.py"))
PRETRAIN = sorted((ROOT / "pretrain").glob("*.py"))
ARITHMETIC = {"metrics.py", "whitening.py", "positions.py"}
TORCH_FREE = {
    "cli.py", "errors.py", "leaderboard.py", "results.py", "listing.py", "parameters.py", "units.py",
    "uncertainty.py", "significance.py", "comparison.py", "explanation.py", "standings.py", "reported.py",
}  # fmt: skip
ENTRY_POINTS = {
    "api.py", "listing.py", "commands/run.py", "commands/task_options.py", "commands/quickstart.py",
}  # fmt: skip
"""They take a task's name from the user and load it by name, or list all tasks."""
PRETRAINS = {"commands/pretrain.py"}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def inside(modules: set[str], package: str) -> set[str]:
    return {m for m in modules if m == package or m.startswith(package + ".")}


DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python", "sklearn": "scikit-learn"}
"""Where the distribution is not called as its module; `faiss` is in two of them."""


def foreign(paths: list[Path]) -> set[str]:
    """Distributions of the modules that files import and that neither Python nor the project has."""
    names = {name.split(".")[0] for path in paths for name in imports(path)}
    own = {"sdssl_bench"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
    return {DISTRIBUTIONS.get(name, name) for name in names - own - set(sys.stdlib_module_names)}


def declared(group: str | None = None) -> set[str]:
    """Names in the dependencies of pyproject.toml, or in an optional group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["optional-dependencies"][group] if group else project["dependencies"]
    names = {re.match(r"[\w-]+", line)[0] for line in lines}  # type: ignore[index]
    return {"faiss" if name in ("faiss-gpu", "faiss-cpu") else name for name in names}


def test_the_dependencies_are_what_the_product_imports_no_less_and_no_more() -> None:
    assert foreign([*CORE, *TASKS, *PRETRAIN]) == declared()


def test_tests_import_what_is_declared_for_them() -> None:
    # Tests of an optional logger are skipped where it is not installed.
    optional = {"tensorboard"}
    assert (
        foreign(sorted((ROOT / "tests").glob("*.py"))) <= declared() | declared("test") | optional
    )


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_knows_no_task_and_no_pretraining(path: Path) -> None:
    if str(path.relative_to(ROOT / "sdssl_bench")) in ENTRY_POINTS:
        assert not inside(imports(path), "sdssl_bench.pretrain")
        return
    assert not inside(imports(path), "sdssl_bench.tasks")
    if str(path.relative_to(ROOT / "sdssl_bench")) not in PRETRAINS:
        assert not inside(imports(path), "sdssl_bench.pretrain")


@pytest.mark.parametrize("path", TASKS, ids=lambda p: p.name)
def test_tasks_import_neither_each_other_nor_pretraining(path: Path) -> None:
    assert not inside(imports(path), "sdssl_bench.tasks")
    assert not inside(imports(path), "sdssl_bench.pretrain")


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda p: p.name)
def test_pretraining_imports_no_task(path: Path) -> None:
    assert not inside(imports(path), "sdssl_bench.tasks")


@pytest.mark.parametrize("path", [p for p in CORE if p.name in ARITHMETIC], ids=lambda p: p.name)
def test_arithmetic_imports_no_project_module_but_errors(path: Path) -> None:
    assert inside(imports(path), "sdssl_bench") <= inside(imports(path), "sdssl_bench.errors")


@pytest.mark.parametrize("path", [*CORE, *TASKS, *PRETRAIN], ids=lambda p: str(p.relative_to(ROOT)))
def test_faiss_and_cv2_are_imported_inside_functions(path: Path) -> None:
    top = imports(path, top_level_only=True)
    assert not inside(top, "faiss") | inside(top, "cv2")
    if path.name in TORCH_FREE or "commands" in path.parts:
        assert not inside(top, "torch") | inside(top, "timm") | inside(top, "torchvision")


@pytest.mark.parametrize("path", [*TASKS, *PRETRAIN], ids=lambda p: p.name)
def test_script_folders_shadow_no_module(path: Path) -> None:
    names = set(sys.stdlib_module_names) | {"datasets", "torch", "timm", "faiss", "accelerate"}
    assert path.stem in ("__init__", "main") or path.stem not in names


@pytest.mark.parametrize("path", [*CORE, *TASKS, *PRETRAIN], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["ls", "tasks"], ["ls", "datasets"], ["ls", "protocols"], ["ls", "models"],
     ["show", "knn"], ["show", "cifar10"], ["run", "--help"], ["data", "layout", "cub"],
     ["compare", "--help"], ["explain", "--help"], ["reproduce", "--help"], ["leaderboard", "--help"],
     ["reproduce", "--figure", "4"], ["pretrain"], ["pretrain", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_help_and_lists_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from sdssl_bench.cli import app\n"
        "try:\n"
        f"    app({arguments!r}, prog_name='sdssl-bench')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None), stop.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'pandas', 'faiss', 'cv2', 'sklearn', 'scipy', "
        "'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
