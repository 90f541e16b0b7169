"""What `ls`, `show` and the help of `run` say of tasks and datasets, from their declarations."""

import ast
import inspect
from dataclasses import fields, is_dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, cast

from sdssl_bench import datasets, tasks
from sdssl_bench.cli.help import columns, definitions
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.parameters import WHEN_SET
from sdssl_bench.task import Task

PAGES = (
    "Why a number differs from a paper's: sdssl-bench show not-the-papers-number. "
    "All pages: sdssl-bench ls pages."
)


def task_lines() -> list[str]:
    """One line per task: name and first sentence."""
    return [f"{name:<12} {_doc(name).splitlines()[0]}" for name in tasks.task_names()]


def protocol_lines() -> list[str]:
    """One line per protocol: id@version and how it differs from the task's defaults."""
    lines = []
    for name in tasks.task_names():
        task = tasks.task_class(name)
        for preset, changes in task.presets.items():
            text = ", ".join(f"{k}={v}" for k, v in changes.items()) or "the task's defaults"
            lines.append(f"{f'{name}/{preset}@{task.version}':<24} {text}")
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
    return [
        *lines,
        *(f"{kind.scheme + ':..':<12} {kind.summary}" for kind in datasets.OWN.values()),
    ]


def pages() -> dict[str, Path]:
    """Name of a page to read -> its Markdown: in the package when installed, in docs/ of a checkout."""
    here = Path(__file__).resolve().parents[1]
    found = next((one for one in (here / "docs", here.parent / "docs") if one.is_dir()), here)
    return {path.stem: path for path in sorted(found.glob("*.md"))}


def page_lines() -> list[str]:
    """One line per page: name and title."""
    titles = {
        name: path.read_text("utf-8").splitlines()[0].lstrip("# ") for name, path in pages().items()
    }
    return [f"{name:<24} {title}" for name, title in titles.items()]


def tasks_and_datasets() -> dict[str, list[tuple[str, str]]]:
    """Two panels of help: what each task measures, and what it runs on."""
    named, takers = [], dict[tuple[str, ...], list[str]]()
    for name in tasks.task_names():
        task = tasks.task_class(name)
        default = f" [default: {', '.join(task.default_datasets)}]" if task.default_datasets else ""
        needs = "".join(f" [needs --{one.name}]" for one in task.options if one.required)
        named.append((name, f"{task.title}{default}{needs}"))
        forms = [f"{form.partition(':')[0]}:" for form in datasets.own_forms(task.folder_has)]
        takers.setdefault((*task.datasets, *forms), []).append(name)
    return {
        "Tasks ('show TASK' explains one; --include FILE adds one)": named,
        "Datasets ('sdssl-bench ls datasets')": [
            (", ".join(names), ", ".join(sets)) for sets, names in takers.items()
        ],
    }


def describe(name: str) -> str:
    """The full text for a task, protocol id, dataset or page.

    Raises:
        UsageError: if there is none of that name.
    """
    known = tasks.task_names()
    task, _, preset = name.partition("@")[0].partition("/")
    if task in known:
        return _describe_task(tasks.task_class(task), preset)
    if name in datasets.names() or name in datasets.OWN or datasets.own_source(name):
        return datasets.layout(name)
    if name in pages():
        return pages()[name].read_text("utf-8").rstrip()
    protocols = (f"{one}/{p}" for one in known for p in tasks.task_class(one).presets)
    everything = [*known, *datasets.names(), *protocols, *pages()]
    raise UsageError(did_you_mean("task, dataset, protocol or page", name, everything))


def _describe_task(task: type[Task], preset: str) -> str:
    if preset and preset not in task.presets:
        raise UsageError(did_you_mean(f"protocol of {task.name}", preset, task.presets))
    changes = task.presets.get(preset, {})
    heading = f"{task.name}{'/' + preset if preset else ''}@{task.version}"
    lines = [heading, "", _doc(task.name), "", "Parameters:"]
    docs, width = parameter_docs(task), columns()
    known = sorted(fields(cast(Any, task)), key=lambda one: one.metadata == WHEN_SET)
    values = {f.name: changes.get(f.name, f.default) for f in known}
    rows = [(f"{k} = {v!r}", docs.get(k, "")) for k, v in values.items() if k != "protocol"]
    lines += definitions(rows, width)
    if task.options:
        lines += ["", "Options of 'sdssl-bench run':"]
        lines += definitions([(f"--{one.name}", one.help) for one in task.options], width)
    for heading, texts in (("Pitfalls", task.pitfalls), ("Other tools", task.elsewhere)):
        if texts:
            lines += ["", f"{heading}:"]
            for text in texts:
                lines += wrap(
                    text,
                    width,
                    initial_indent="- ",
                    subsequent_indent="  ",
                    break_on_hyphens=False,
                )
    if not preset:
        lines += ["", "Protocols:", *(f"  {task.name}/{p}" for p in task.presets)]
    lines += ["", *wrap(PAGES, width, break_on_hyphens=False)]
    return "\n".join(lines)


def _doc(name: str) -> str:
    return inspect.getdoc(tasks.task_module(name)) or tasks.task_class(name).title


def parameter_docs(task: type[Task]) -> dict[str, str]:
    """Parameter -> the text below its field, which Python itself does not keep."""
    return {
        one.target.id: str(following.value.value)
        for kind in task.__mro__
        if is_dataclass(kind)
        for node in ast.parse(inspect.cleandoc(inspect.getsource(kind))).body
        if isinstance(node, ast.ClassDef)
        for one, following in zip(node.body, node.body[1:], strict=False)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
    }
