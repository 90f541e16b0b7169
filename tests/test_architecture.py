"""The laws of the house: one written order of rooms, no circle, small files, a light command line."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    ("exports",),
    ("errors", "rounding", "_version", "metrics"),
    ("parameters", "system"),
    ("records", "encoders", "neighbors"),
    ("task", "statistics"),
    ("runner", "datasets"),
    ("paper",),
    ("features", "checkpoints"),
    ("probes", "retrieval", "video", "dense"),
    ("analysis",),
    ("reports",),
    ("api",),
    ("pretrain",),
    ("tasks",),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a line imports only what stands on an earlier line."""
LEVEL = {room: level for level, line in enumerate(ORDER) for room in line}
UPWARDS = {("api", "tasks"), ("pretrain", "cli")}
"""The Python API takes a task's name, as the command line does; pretrain/main.py is an entry point."""
FOLDERS = {
    "sdssl_bench": "sdssl_bench",
    "tasks": "sdssl_bench.tasks",
    "pretrain": "sdssl_bench.pretrain",
}
DISTRIBUTIONS = {
    "PIL": "pillow", "cv2": "opencv-python", "markdown_it": "markdown-it-py", "sklearn": "scikit-learn",
}  # fmt: skip
"""Modules that are named otherwise than what is installed."""
PUBLIC = {
    ("sdssl_bench.datasets", name)
    for name in ("DatasetSpec", "Listing", "Miniature", "SplitListing")
} | {("sdssl_bench.checkpoints", name) for name in ("Style", "Translated")}
"""What plugins of other packages are made of."""
ROOMS = sorted(p.parent.name for p in (ROOT / "sdssl_bench").glob("*/__init__.py"))


def _modules() -> dict[str, Path]:
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = path
    return found


MODULES = _modules()


class Import(NamedTuple):
    """One imported name: who imports it, from which module, and where it stands."""

    importer: str
    module: str
    name: str
    top: bool

    @property
    def rooms(self) -> tuple[str, str]:
        return tuple(f"{one}.".split(".")[1] for one in (self.importer, self.module))  # type: ignore[return-value]


@cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def _imports(name: str, path: Path) -> Iterator[Import]:
    nodes = _nodes(path)
    inside = {
        id(node)
        for function in nodes
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sdssl_bench":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                room = node.module == "sdssl_bench" and whole in MODULES
                yield Import(
                    name, whole if room else str(node.module), alias.name, id(node) not in inside
                )
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "sdssl_bench":
                    yield Import(name, alias.name, "", id(node) not in inside)


@cache
def all_imports() -> list[Import]:
    return [one for name, path in MODULES.items() for one in _imports(name, path)]


def _exports(room: str) -> dict[str, str]:
    """Names a room's `__init__` exports, and the module of each."""
    path = ROOT / "sdssl_bench" / room / "__init__.py"
    blocks = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    return {
        alias.name: str(node.module)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_a_room_imports_only_rooms_below_it() -> None:
    wrong = [
        f"{one.importer} imports {one.module} {one.name}"
        for one in all_imports()
        for mine, other in [one.rooms]
        if mine and other and mine != other and (mine, other) not in UPWARDS
        if LEVEL[other] >= LEVEL[mine]
    ]
    assert not wrong, "\n".join(wrong)


def test_other_rooms_use_what_a_room_exports_and_nothing_deeper() -> None:
    exports = {room: _exports(room) for room in ROOMS}
    wrong = [
        f"{one.importer} reaches for {one.module} {one.name}"
        for one in all_imports()
        for mine, other in [one.rooms]
        if other in exports and mine != other
        if one.module != f"sdssl_bench.{other}"
        or (one.name != other and one.name not in exports[other])
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Type-only imports count: two files that need each other's types are one file."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for one in all_imports():
        whole = f"{one.module}.{one.name}"
        target = whole if whole in MODULES else one.module
        if one.top and target in MODULES and MODULES[target].name != "__init__.py":
            graph[one.importer].add(target)
    graph = {
        name: targets for name, targets in graph.items() if MODULES[name].name != "__init__.py"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_export_is_there_and_hides_no_module() -> None:
    for room in ROOMS:
        package = import_module(f"sdssl_bench.{room}")
        assert package.__doc__, room
        for name, module in _exports(room).items():
            assert getattr(package, name) is not None
            # An import of the module would replace a function of its name.
            own = module == package.__name__
            assert own or f"sdssl_bench.{room}.{name}" not in MODULES, f"{room}.{name}"
        with pytest.raises(AttributeError, match="no_such_name"):
            package.no_such_name  # noqa: B018


def test_no_room_exports_what_nobody_uses() -> None:
    used: set[tuple[str, str]] = set()
    outside = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    for path in [*MODULES.values(), *outside]:
        found = list(_imports("", path))
        used |= {(one.module, one.name) for one in found}
        rooms = {one.module for one in found if one.module == f"sdssl_bench.{one.name}"}
        for node in _nodes(path) if rooms else ():
            if isinstance(node, ast.Attribute):
                used |= {(room, node.attr) for room in rooms}
    used |= PUBLIC
    unused = [
        f"{room}.{name}"
        for room in ROOMS
        for name in _exports(room)
        if (f"sdssl_bench.{room}", name) not in used
    ]
    assert not unused, unused


def test_the_root_holds_ten_files_at_most_and_every_file_stays_small() -> None:
    assert len(list((ROOT / "sdssl_bench").glob("*.py"))) <= 10
    long = {
        str(path): n for path in MODULES.values() if (n := len(path.read_text().splitlines())) > 300
    }
    assert not long, long


def test_heavy_libraries_with_wheels_of_their_own_are_imported_inside_functions() -> None:
    for path in MODULES.values():
        for node in ast.parse(path.read_text()).body:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {name.split(".")[0] for name in names} & {"faiss", "cv2"}, path


def test_script_folders_shadow_no_module() -> None:
    names = set(sys.stdlib_module_names) | {"datasets", "torch", "timm", "faiss", "accelerate"}
    for folder in ("tasks", "pretrain"):
        for path in (ROOT / folder).glob("*.py"):
            assert path.stem in ("__init__", "main") or path.stem not in names


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def foreign(paths: Iterable[Path]) -> set[str]:
    """Distributions of the modules that files import and that neither Python nor the project has."""
    names = {name.split(".")[0] for path in paths for name in _imported(path)}
    own = {"sdssl_bench"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
    return {DISTRIBUTIONS.get(name, name) for name in names - own - set(sys.stdlib_module_names)}


def declared(group: str | None = None) -> set[str]:
    """Names in the dependencies of pyproject.toml, or in an optional group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["optional-dependencies"][group] if group else project["dependencies"]
    names = {re.match(r"[\w-]+", line)[0] for line in lines}  # type: ignore[index]
    return {"faiss" if name in ("faiss-gpu", "faiss-cpu") else name for name in names}


def test_the_dependencies_are_what_the_product_imports_no_less_and_no_more() -> None:
    assert foreign(MODULES.values()) == declared() | declared("hf")


def test_tests_import_what_is_declared_for_them() -> None:
    # Tests of an optional logger and against transformers are skipped where these are not installed.
    optional = {"tensorboard", "transformers"}
    assert foreign((ROOT / "tests").rglob("*.py")) <= declared() | declared("test") | optional


LIGHT = (
    "--help", "run --help", "sweep --help", "compare --help", "explain --help", "reproduce --help",
    "leaderboard --help", "pretrain --help", "ls tasks", "ls datasets", "ls protocols", "ls models",
    "show knn", "show cifar10", "data layout cub", "reproduce --figure 4", "pretrain",
)  # fmt: skip
"""Command lines that are answered from declarations, in one process: the first that is heavy is named."""


def test_help_and_lists_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from sdssl_bench.cli.main import app\n"
        f"for line in {LIGHT!r}:\n"
        "    app(line.split(), prog_name='sdssl-bench', standalone_mode=False)\n"
        "    heavy = {'torch', 'torchvision', 'timm', 'pandas', 'faiss', 'cv2', 'sklearn', 'scipy',\n"
        "             'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (line, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


WORDS = {
    ("sdssl_bench.datasets", "retrieval"): "a kind of set",
    ("sdssl_bench.datasets", "copydays"): "a set",
    ("sdssl_bench.datasets", "davis"): "a set",
    ("sdssl_bench.cli.data", "copydays"): "the set in whose layout `data copydays` makes copies",
    ("sdssl_bench.video", "davis"): "the constants of a set",
    ("sdssl_bench.probes", "linear"): "how torch initialises a linear layer",
    ("sdssl_bench.reports.page", "analysis"): "a part of the page's script",
    ("sdssl_bench.reports.representations", "cka"): "a measurement",
    ("sdssl_bench.reports.figures", "cka"): "a figure",
    ("sdssl_bench.pretrain.objective.schedules", "linear"): "a rule of the warm-up",
    ("sdssl_bench.pretrain.run", "linear"): "likewise",
    ("sdssl_bench.pretrain.run", "knn"): "the setting --knn and what the log has of it",
    ("sdssl_bench.cli.watch", "knn"): "the same setting, in a run's config.json",
    (
        "sdssl_bench.probes.finetuning.tuning_scores",
        "finetune",
    ): "the folder of unfinished trainings",
}
"""(Room or module, text) -> what the text means there, where it is no task."""


def _named_tasks() -> Iterator[tuple[str, str, int]]:
    """Module, task and line of every text outside tasks/ and paper/ that is the name of a task."""
    names = {path.stem for path in (ROOT / "tasks").glob("[!_]*.py")}
    commands = re.compile(rf"(?:--task|-t)[ =]({'|'.join(names)})\b")
    for module, path in MODULES.items():
        if f"{module}.".startswith(("sdssl_bench.tasks.", "sdssl_bench.paper.")):
            continue
        # Docstrings have examples.
        documents = {id(node.value) for node in _nodes(path) if isinstance(node, ast.Expr)}
        for node in _nodes(path):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documents
            ):
                text = node.value.strip("-")
                found = {text} & names or set(commands.findall(node.value))
                yield from ((module, name, node.lineno) for name in found)


def test_no_file_outside_tasks_and_paper_names_a_task() -> None:
    found = list(_named_tasks())
    excused = {
        place: [
            one for one in found if f"{one[0]}.".startswith(f"{place[0]}.") and one[1] == place[1]
        ]
        for place in WORDS
    }
    known = [one for some in excused.values() for one in some]
    wrong = [
        f"{module}:{line} {name}"
        for module, name, line in found
        if (module, name, line) not in known
    ]
    assert not wrong, "\n".join(wrong)
    idle = [place for place, some in excused.items() if not some]
    assert not idle, idle


VAGUE = {"own", "told", "shaped", "standings"}
"""Names that a reader has to look up."""


def test_no_variable_has_a_name_that_says_nothing() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path in MODULES.values()
        for node in _nodes(path)
        if (isinstance(node, ast.Name) and node.id in VAGUE)
        or (isinstance(node, ast.arg) and node.arg in VAGUE)
    ]
    assert not wrong, "\n".join(wrong)
