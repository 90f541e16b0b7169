"""What a room exports, imported on first use.

A room's `__init__` lists its exports as imports that type checkers read; here the same lines are read when
a name is first asked for. So importing a room costs nothing, and the list stands once.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazily(package: str, file: str) -> Callable[[str], Any]:
    """A module-level `__getattr__` that imports the names under `if TYPE_CHECKING` of a room's `__init__`.

    Args:
        package: `__name__` of the room.
        file: `__file__` of the room.
    """
    sources: dict[str, str] | None = None

    def __getattr__(name: str) -> Any:
        nonlocal sources
        if sources is None:
            tree = ast.parse(Path(file).read_text(encoding="utf-8"))
            sources = {
                alias.name: node.module or ""
                for block in tree.body
                if isinstance(block, ast.If)
                for node in block.body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(sources[name])
        if hasattr(module, "__path__"):  # a package: what is exported is a module of it
            return import_module(f"{module.__name__}.{name}")
        return getattr(module, name)

    return __getattr__
