"""Every number of the protocols, read against its source: tests/golden/protocols.json.

A preset's parameters, a module's constants, the numbers among the defaults of functions and dataclasses,
and the sizes of the datasets stand there with where they come from. The file is written by hand: who
changes a number on purpose changes its line, with the source in hand.
"""

import ast
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdssl_bench import datasets, tasks

ROOT = Path(__file__).resolve().parents[1]
GOLDEN: dict[str, dict[str, tuple[Any, str]]] = json.loads(
    (ROOT / "tests" / "golden" / "protocols.json").read_text("utf-8")
)
ELSEWHERE = {
    "sdssl_bench.tasks.*:Task.*": "what the presets come to, below",
    "sdssl_bench.tasks.finetune:TABLES*": "made of TRANSFER and AUTHORS",
    "sdssl_bench.datasets.specs.*": "the section datasets",
    "sdssl_bench.datasets.catalogue:*": "the section datasets",
    "sdssl_bench.paper.layouts:LAYOUTS*": "words and metrics; goldens of the tables hold them",
    "sdssl_bench.checkpoints.releases:RELEASES*": "marks of releases; Release.input_size has its number",
    "sdssl_bench.datasets.mini.*": "made-up data",
    **dict.fromkeys(
        (
            "sdssl_bench.cli.*", "sdssl_bench.reports.*", "sdssl_bench.system.terminal:*",
            "sdssl_bench.retrieval.gallery:*", "sdssl_bench.analysis.panels:*", "sdssl_bench.video.strips:*",
            "sdssl_bench.system.progress:*", "sdssl_bench.checkpoints.doctor:IMAGES",
            "sdssl_bench.features.extraction:SHOWN", "sdssl_bench.checkpoints.keys:listing(limit)",
            "sdssl_bench.datasets.checking:render(most)",
        ),
        "what people look at",
    ),
    **dict.fromkeys(
        (
            "*:*BLOCK*", "*:TILE", "*:*_ROWS", "*:*_BYTES", "*:*THREADS", "*:PATIENCE",
            "*:*_SECONDS", "*:TOKENS_*", "*:PIXELS_*", "*:MAX_CPU", "*:MAX_DEVICE", "*:CHUNK_*",
            "*:_CHUNK", "*:CELLS", "*:_AHEAD", "sdssl_bench.neighbors.exact:OPEN_SCORES",
            "sdssl_bench.neighbors.exact:PAD", "sdssl_bench.checkpoints.freshness:SAMPLE",
        ),
        "speed and memory: results are equal for every value",
    ),
    **dict.fromkeys(
        (
            "sdssl_bench.probes.logistic.solver:MAX_*", "sdssl_bench.probes.logistic.solver:MIN_*",
            "sdssl_bench.probes.logistic.solver:SAFETY", "sdssl_bench.probes.logistic.solver:RELATIVE_GAP",
            "sdssl_bench.probes.logistic.solver:NOISE", "sdssl_bench.probes.logistic.solver:ATTAINABLE",
            "sdssl_bench.probes.logistic.solver:HALVINGS",
        ),
        "how the optimum is reached, which its own tests prove",
    ),
    **dict.fromkeys(
        (
            "sdssl_bench.checkpoints.native:VERSION", "sdssl_bench.features.identity:FEATURES_VERSION",
            "sdssl_bench.records.store:SCHEMA_VERSION", "sdssl_bench.features.sources:_UNREADABLE",
            "sdssl_bench.datasets.readers.cifar:_PIXELS",
        ),
        "formats of files",
    ),
}  # fmt: skip
"""Names that are not in the file -> why."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product but pretraining, as syntax."""
    found = {}
    for folder, package in (("sdssl_bench", "sdssl_bench"), ("tasks", "sdssl_bench.tasks")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = ast.parse(path.read_text("utf-8"))
    return found


def excluded(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in ELSEWHERE)


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


def constants() -> Iterator[tuple[str, Any]]:
    """("module:NAME", value); a table has a line per row, "module:NAME[row]"."""
    for module, tree in modules().items():
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


def defaults() -> Iterator[tuple[str, Any]]:
    """("module:function(parameter)" or "module:Class.field", default), where it is no 0, 1 or -1."""
    for module, tree in modules().items():
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


def presets() -> Iterator[tuple[str, str]]:
    for task in tasks.task_names():
        kind: Any = importlib.import_module(f"sdssl_bench.tasks.{task}").Task
        yield from ((task, preset) for preset in kind.presets)


def same(found: Any, stated: Any) -> bool:
    """Equal to the last bit and in type; {"log10": [a, b, n]} is n powers of ten from a to b."""
    if isinstance(stated, dict) and set(stated) == {"log10"}:
        return bool(found == pytest.approx(10.0 ** np.linspace(*stated["log10"]), rel=1e-12))
    return json.dumps(found) == json.dumps(stated)


def sourced(line: Any) -> bool:
    return len(line) == 2 and isinstance(line[1], str) and len(line[1]) > 1


def test_every_preset_has_the_numbers_of_its_source() -> None:
    stated = GOLDEN["presets"]
    assert list(stated.keys() ^ {f"{task}/{preset}" for task, preset in presets()}) == []
    for task, preset in presets():
        found = plain(tasks.load(task, preset))
        assert found.pop("protocol") == preset
        lines = stated[f"{task}/{preset}"]
        assert found.keys() == lines.keys(), f"{task}/{preset}: a line for each parameter"
        for name, value in found.items():
            assert sourced(lines[name]), f"{task}/{preset}, {name}: no source"
            assert same(value, lines[name][0]), (
                f"{task}/{preset}: {name} is {value}, its source ({lines[name][1]}) has "
                f"{lines[name][0]}"
            )


def test_every_constant_has_the_number_of_its_source() -> None:
    stated = GOLDEN["constants"]
    found = dict([*constants(), *defaults()])
    missing = {name for name, value in found.items() if holds_a_number(value)} - stated.keys()
    assert sorted(missing) == [], "numbers without a source"
    assert sorted(stated.keys() - found.keys()) == [], "lines for what is not there"
    for name, line in stated.items():
        assert sourced(line), f"{name}: no source"
        assert same(found[name], line[0]), (
            f"{name} is {found[name]}, its source ({line[1]}) has {line[0]}"
        )


def test_every_dataset_has_the_sizes_of_its_source() -> None:
    stated = GOLDEN["datasets"]
    specs = {name: datasets.spec(name) for name in datasets.names()}
    assert {name.partition(":")[0] for name in stated} == specs.keys()
    for name, one in specs.items():
        needed = {"sizes": one.sizes, "num_classes": one.num_classes, "val": one.val}
        needed |= {"fewest": one.fewest, "archives": any(one.archives.values())}
        for field, value in needed.items():
            assert not value or f"{name}:{field}" in stated, f"{name}: {field} has no source"
    for key, line in stated.items():
        name, field = key.split(":")
        assert sourced(line), f"{key}: no source"
        found = plain(getattr(specs[name], field))
        assert same(found, line[0]), f"{key} is {found}, its source ({line[1]}) has {line[0]}"


def test_what_is_left_out_is_there() -> None:
    """No exclusion outlives what it excludes."""
    names = [f"{module}:{name}" for module, tree in modules().items()
             for node in tree.body for name in assigned(node)]  # fmt: skip
    names += [f"{module}:{owner}{name}" for module, tree in modules().items()
              for owner, name, _ in _defaults(tree, "")]  # fmt: skip
    idle = [one for one in ELSEWHERE if not any(fnmatchcase(name, one) for name in names)]
    assert idle == []
