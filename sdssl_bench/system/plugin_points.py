"""What others add: entry points of packages, then files; after everything built in, never under a taken name.

A file is added by `--include PATH`, or `sdssl_bench.include(path)`: its class `Task`, its `DatasetSpec`s and
its `Style`s are what the entry points of a package would name. Names that begin with _ are its own affair.
"""

import sys
from collections.abc import Collection
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeVar

from sdssl_bench.errors import UsageError

Kind = TypeVar("Kind")
GROUPS = {"DatasetSpec": "sdssl_bench.datasets", "Style": "sdssl_bench.checkpoints"}
"""Type of an object in an included file -> the group that it belongs to."""
TASKS = "sdssl_bench.tasks"


class Included(NamedTuple):
    """A file that was added, and what it holds."""

    path: Path
    sha256: str
    points: tuple[EntryPoint, ...]


_included: dict[str, Included] = {}
"""By the name of the module."""


def include(path: "str | PathLike[str]") -> None:
    """Add the task, the datasets and the checkpoint styles of a Python file; the file is executed.

    It is imported under its own name and its folder is put at the end of the search path, so that worker
    processes find it and texts such as "my_birds:read" name its functions.

    Raises:
        UsageError: if it is no Python file, cannot be imported, holds nothing of that kind, or is called
            like a module that is there already.
    """
    file = Path(path).expanduser().resolve()
    name = file.stem
    if name in _included and _included[name].path == file:
        return
    if file.suffix != ".py" or not file.is_file():
        raise UsageError(f"--include takes a .py file, found none at {path}.")
    if not name.isidentifier():
        raise UsageError(
            f"Expected a module's name such as my_task.py, found {file.name}. Rename it."
        )
    there = sys.modules.get(name)
    spec = there.__spec__ if there else find_spec(name)
    if there is not None or spec is not None:
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve() != file:
            raise UsageError(
                f"{path} has the name of another module, {origin or name}. Rename the file."
            )
    before = list(sys.path)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        points = _points(name, path)
    except UsageError:
        sys.path[:] = before
        sys.modules.pop(name, None)
        raise
    _included[name] = Included(file, sha256(file.read_bytes()).hexdigest(), points)
    plugins.cache_clear()


def _points(module: str, path: object) -> tuple[EntryPoint, ...]:
    try:
        names = vars(import_module(module))
    except (Exception, SystemExit) as error:  # whatever foreign code raises
        raise UsageError(
            f"--include {path} failed at {place_of(error, path)}: {type(error).__name__}: {error}"
        ) from error
    found = []
    for key, value in names.items():
        kind = type(value)
        group = GROUPS.get(kind.__name__) if kind.__module__.startswith("sdssl_bench.") else None
        if key == "Task" and isinstance(value, type):
            group = TASKS
        name = getattr(value, "name", None)
        if group and not key.startswith("_") and isinstance(name, str):
            found.append(EntryPoint(name, f"{module}:{key}", group))
    if not found:
        raise UsageError(
            f"Expected a class Task, a DatasetSpec or a Style in {path}, found none. Names that begin "
            "with _ do not count."
        )
    return tuple(found)


def included() -> dict[str, str]:
    """Name -> sha256 of the files that were added, as a record states them."""
    return {one.path.name: one.sha256 for one in _included.values()}


def included_files() -> list[Path]:
    """The files that were added."""
    return [one.path for one in _included.values()]


def place_of(error: BaseException, otherwise: object) -> str:
    """File and line where foreign code failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else str(otherwise)


@cache
def plugins(group: str, built_in: Collection[str], what: str) -> dict[str, EntryPoint]:
    """Name -> entry point of a group, by name.

    Args:
        group: of the entry points, e.g. "sdssl_bench.datasets".
        built_in: names that the suite has itself; a tuple.
        what: what messages call one of them, e.g. "dataset".

    Raises:
        UsageError: if a name is taken.
    """
    found: dict[str, EntryPoint] = {}
    of_files = (point for one in _included.values() for point in one.points)
    for point in (*entry_points(group=group), *(one for one in of_files if one.group == group)):
        if point.name in built_in or point.name in found:
            owner = "this suite" if point.name in built_in else package_of(found[point.name])
            raise UsageError(
                f"Two {what}s are called '{point.name}': one of {owner}, one of {package_of(point)}. "
                "Rename one of them, or leave that package or file out."
            )
        found[point.name] = point
    return dict(sorted(found.items()))


@cache
def load_plugin(point: EntryPoint, kind: type[Kind]) -> Kind:
    """The object that an entry point names, of the right type and name.

    Raises:
        UsageError: if its module fails, or it is something else.
    """
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:  # whatever a foreign module raises
        found = f"{type(error).__name__}: {error}"
    else:
        name = getattr(loaded, "name", None)
        if isinstance(loaded, kind) and name == point.name:
            return loaded
        found = f"something of type {type(loaded).__name__}" + (f" called '{name}'" if name else "")
    raise UsageError(
        f"Expected a {kind.__name__} called '{point.name}' at {point.value}, which {package_of(point)} "
        f"names, found {found}. Mend or uninstall that package."
    )


def package_of(point: EntryPoint) -> str:
    """How messages call the package or the file of an entry point."""
    if point.dist:
        return f"the package {point.dist.name}"
    if point.module in _included:
        return f"the file {_included[point.module].path}"
    return f"the package of {point.value}"
