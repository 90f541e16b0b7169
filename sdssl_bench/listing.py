"""What `ls` and `show` print. Tasks are read as text, since importing one imports torch."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdssl_bench import datasets
from sdssl_bench.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class TaskSource:
    """A task as its file states it.

    Attributes:
        doc: the module's docstring: the protocol in words.
        version: of the protocol.
        presets: preset name -> changed parameters.
        parameters: (name, default as source text, its docstring).
    """

    name: str
    doc: str
    version: int
    presets: dict[str, dict[str, Any]]
    parameters: list[tuple[str, str, str]]


def task_sources() -> dict[str, TaskSource]:
    """All tasks, by name."""
    found: dict[str, TaskSource] = {}
    for folder in _task_folders():
        for path in sorted(folder.glob("*.py")):
            if not path.stem.startswith("_"):
                found.setdefault(path.stem, _read_task(path))
    return found


def _task_folders() -> list[Path]:
    import sdssl_bench

    folders = [Path(entry) / "tasks" for entry in sdssl_bench.__path__]
    return [folder for folder in folders if folder.is_dir()]


def _read_task(path: Path) -> TaskSource:
    module = ast.parse(path.read_text(encoding="utf-8"))
    body = next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == "Task").body
    constants: dict[str, Any] = {}
    parameters = []
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        name, value = node.target.id, node.value
        if value is None:
            continue
        if ast.unparse(node.annotation).startswith("ClassVar"):
            if name in ("version", "presets"):
                constants[name] = ast.literal_eval(value)
        elif name != "protocol":
            parameters.append((name, ast.unparse(value), _string(following)))
    return TaskSource(
        name=path.stem,
        doc=ast.get_docstring(module) or "",
        version=constants["version"],
        presets=constants["presets"],
        parameters=parameters,
    )


def _string(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""


def task_lines() -> list[str]:
    """One line per task: name and first sentence."""
    return [f"{t.name:<12} {t.doc.splitlines()[0]}" for t in task_sources().values()]


def protocol_lines() -> list[str]:
    """One line per protocol: id@version and how it differs from the task's defaults."""
    lines = []
    for task in task_sources().values():
        for preset, changes in task.presets.items():
            text = ", ".join(f"{k}={v}" for k, v in changes.items()) or "the task's defaults"
            lines.append(f"{f'{task.name}/{preset}@{task.version}':<24} {text}")
    return lines


def dataset_lines() -> list[str]:
    """One line per dataset: name, classes, images, headline metric."""
    lines = []
    for spec in map(datasets.spec, datasets.names()):
        text = f"{spec.title}: {spec.contents}"
        if spec.kind == "classification":
            sizes = " + ".join(f"{split} {count:,}" for split, count in spec.sizes.items())
            text = f"{spec.num_classes:>5} classes  {sizes:<32} {spec.headline}"
        lines.append(f"{spec.name:<12} {text}")
    return [*lines, "folder:PATH  your own images: PATH/train/CLASS/*, PATH/val|test/CLASS/*"]


def describe(name: str) -> str:
    """The full text for a task, protocol id or dataset.

    Raises:
        UsageError: if there is none of that name.
    """
    sources = task_sources()
    if name in datasets.names() and name not in sources:
        return datasets.layout(name)
    task, _, preset = name.partition("@")[0].partition("/")
    if task not in sources:
        known = [
            *sources,
            *datasets.names(),
            *(f"{t.name}/{p}" for t in sources.values() for p in t.presets),
        ]
        raise UsageError(did_you_mean("task, dataset or protocol", name, known))
    source = sources[task]
    if preset and preset not in source.presets:
        raise UsageError(did_you_mean(f"protocol of {task}", preset, source.presets))
    changes = source.presets.get(preset, {})
    lines = [
        f"{task}{'/' + preset if preset else ''}@{source.version}",
        "",
        source.doc,
        "",
        "Parameters:",
    ]
    for parameter, default, doc in source.parameters:
        value = repr(changes[parameter]) if parameter in changes else default
        lines.append(f"  {parameter} = {value:<22} {doc}")
    if not preset:
        lines += ["", "Protocols:", *(f"  {task}/{p}" for p in source.presets)]
    return "\n".join(lines)
