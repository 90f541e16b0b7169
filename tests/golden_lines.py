"""Numbers of the product as syntax and import show them, for tests that compare them with their sources."""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@cache
def modules(folder: str) -> dict[str, ast.Module]:
    """Every module of a folder of the checkout, as syntax, by its name."""
    package = "sdssl_bench" if folder == "sdssl_bench" else f"sdssl_bench.{folder}"
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        name = ".".join([package, *(part for part in parts if part != "__init__")])
        found[name] = ast.parse(path.read_text("utf-8"))
    return found


def names(folder: str) -> Iterator[str]:
    """Of everything that `numbers` looks at, whatever it holds."""
    for module, tree in modules(folder).items():
        yield from (f"{module}:{name}" for node in tree.body for name in assigned(node))
        yield from (f"{module}:{owner}{name}" for owner, name, _ in _defaults(tree, ""))


def numbers(folder: str, elsewhere: Mapping[str, str]) -> dict[str, Any]:
    """Constants and defaults of a folder's modules, without those that match a pattern of `elsewhere`."""

    def excluded(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in elsewhere)

    found = _constants(folder, excluded), _defaults_of(folder, excluded)
    return {name: value for part in found for name, value in part}


def plain(value: Any) -> Any:
    """As JSON has it; a member of an enumeration, and what JSON has no word for, by its name."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Enum):
        return value.name
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def holds_a_number(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(holds_a_number, value.values()))
    if isinstance(value, list):
        return any(map(holds_a_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _constants(folder: str, excluded: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """("module:NAME", value); a table has a line per row, "module:NAME[row]"."""
    for module, tree in modules(folder).items():
        for name in dict.fromkeys(name for node in tree.body for name in assigned(node)):
            if not excluded(f"{module}:{name}"):
                value = plain(getattr(importlib.import_module(module), name))
                rows = value.values() if isinstance(value, dict) else ()
                if any(isinstance(one, dict) for one in rows):
                    yield from ((f"{module}:{name}[{key}]", one) for key, one in value.items())
                else:
                    yield f"{module}:{name}", value


def assigned(node: ast.stmt) -> list[str]:
    """Names of constants that a statement of a module assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    flat = [one for target in targets for one in getattr(target, "elts", [target])]
    names = [one.id for one in flat if isinstance(one, ast.Name)]
    return [name for name in names if re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name)]


def _defaults_of(folder: str, excluded: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """("module:function(parameter)" or "module:Class.field", default), where it is no 0, 1 or -1."""
    for module, tree in modules(folder).items():
        for owner, name, node in _defaults(tree, ""):
            key = f"{module}:{owner}{name}"
            if excluded(key):
                continue
            try:
                value = plain(ast.literal_eval(node))
            except ValueError:
                continue  # a name: its number stands elsewhere
            if holds_a_number(value) and value not in (0, 1, -1):
                yield key, value


def _defaults(tree: Any, prefix: str) -> Iterator[tuple[str, str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _defaults(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            given = zip(positional[len(positional) - len(node.args.defaults) :], node.args.defaults)
            for argument, default in [*given, *zip(node.args.kwonlyargs, node.args.kw_defaults)]:
                if default is not None:
                    yield f"{prefix}{node.name}", f"({argument.arg})", default
        elif prefix and isinstance(node, ast.AnnAssign) and node.value is not None:
            assert isinstance(node.target, ast.Name)
            yield prefix, node.target.id, node.value


def same(found: Any, stated: Any) -> bool:
    """Equal to the last bit and in type; {"log10": [a, b, n]} is n powers of ten from a to b."""
    if isinstance(stated, dict) and set(stated) == {"log10"}:
        return bool(found == pytest.approx(10.0 ** np.linspace(*stated["log10"]), rel=1e-12))
    return json.dumps(found) == json.dumps(stated)


def sourced(line: Any) -> bool:
    return len(line) == 2 and isinstance(line[1], str) and len(line[1]) > 1
