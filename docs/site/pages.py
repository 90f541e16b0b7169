"""The pages that are made: one of every task from its own declarations, of records from their schema.

mkdocs calls the hooks at the end; the functions before them need only the package. What a page says of a
protocol stands in the task's file, and where each constant comes from in tests/golden/protocols.json.
"""

import csv
import html
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from sdssl_bench import tasks
from sdssl_bench.cli.listing_text import parameter_docs
from sdssl_bench.datasets import own_forms

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
PROTOCOLS, PROOFS = "Protocols", "Proofs"
FIGURES = "results/three-more-curves"
"""What a page shows of the checkout; the site gets a copy at the same place."""
PAGE_OF = {"results/README.md": "records.md", "CONTRIBUTING.md": "contributing.md"}


def generated() -> dict[str, str]:
    """Path of each page that is made -> its Markdown."""
    made = {f"protocols/{name}.md": protocol_page(name) for name in built_in()}
    return {**made, "records.md": records_page(), "contributing.md": contributing_page()}


def built_in() -> list[str]:
    """Names of the suite's own tasks: packages that happen to be installed have pages of their own."""
    return [
        n for n in tasks.task_names() if tasks.task_module(n).__name__ == f"sdssl_bench.tasks.{n}"
    ]


def protocol_page(name: str) -> str:
    """The page of a task."""
    task: Any = tasks.task_class(name)
    sources = json.loads((ROOT / "tests/golden/protocols.json").read_text("utf-8"))
    parts = [
        f"# {name}: {_text(task.title)}",
        _prose(str(tasks.task_module(name).__doc__)),
        f"Version {task.version}; versions never mix in a table. `sdssl-bench show {name}` prints this page "
        f"without the sources. The whole protocol is one file, `tasks/{name}.py`.",
        "## Data",
        _data(task),
    ]
    docs = parameter_docs(task)
    names = [one.name for one in fields(task) if one.name != "protocol"]
    parts += ["## Parameters", "`--set NAME=VALUE` changes one; the record says so."]
    parts.append(_table(("parameter", "what it is"), [(f"`{n}`", _text(docs[n])) for n in names]))
    parts.append("## Protocols")
    parts.append(
        "`--protocol NAME` takes one; the first is the default. Each value with its source:"
    )
    for preset in task.presets:
        of = sources["presets"][f"{name}/{preset}"]
        rows = [(f"`{n}`", f"`{_value(of[n][0])}`", _text(of[n][1])) for n in names if n in of]
        parts += [
            f"### {name}/{preset}@{task.version}",
            _table(("parameter", "value", "source"), rows),
        ]
    module = f"sdssl_bench.tasks.{name}:"
    constants = [
        (f"`{key.removeprefix(module)}`", f"`{_value(value)}`", _text(source))
        for key, (value, source) in sources["constants"].items()
        if key.startswith(module)
    ]
    if constants:
        parts += ["## Further constants", _table(("constant", "value", "source"), constants)]
    if task.options:
        options = [
            (f"`--{one.name}`" + (" (required)" if one.required else ""), _text(one.help))
            for one in task.options
        ]
        parts += ["## Options of `run`", _table(("option", "what it does"), options)]
    for heading, texts in (("Pitfalls", task.pitfalls), ("Other tools", task.elsewhere)):
        parts += [f"## {heading}", "\n".join(f"- {_text(text)}" for text in texts)]
    if published := _published(name):
        parts += [
            "## Published numbers",
            "Of released checkpoints, as their authors state them; not measured here.",
            _table(("model", "set", "metric", "setting", "x100", "source"), published),
        ]
    return "\n\n".join(parts) + "\n"


def records_page() -> str:
    """What results/README.md says of records, and every field of the schema."""
    text = (ROOT / "results/README.md").read_text("utf-8")
    text = text.replace("# Results\n", "# Records: the format of results\n", 1)
    schema = json.loads((ROOT / "sdssl_bench/records/record.schema.json").read_text("utf-8"))
    rows = list(_schema_rows("", schema))
    table = _table(("field", "value", "must be there", "what it is"), rows)
    return f"{text.rstrip()}\n\n## Every field of a record\n\n{table}\n"


def contributing_page() -> str:
    """CONTRIBUTING.md, whose links to pages below docs/ lead there."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def _prose(text: str) -> str:
    """A docstring: commands stay as they are, an aligned list becomes one of definitions."""
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("    "):
            blocks.append("```bash\n" + "\n".join(line[4:] for line in lines) + "\n```")
        elif re.match(r"\S+ {2,}\S", lines[0]):
            items: list[list[str]] = []
            for line in lines:
                if found := re.match(r"(\S+) +(\S.*)", line):
                    items.append(list(found.groups()))
                else:
                    items[-1][1] += " " + line.strip()
            blocks.append("\n\n".join(f"`{a}`\n:   {_text(b)}" for a, b in items))
        else:
            blocks.append(_text(" ".join(line.strip() for line in lines)))
    return "\n\n".join(blocks)


def _data(task: Any) -> str:
    text = "Sets: " + ", ".join(f"`{name}`" for name in task.datasets)
    if own := own_forms(task.folder_has):
        text += ", and your own: " + ", ".join(f"`{form}`" for form in own)
    if task.default_datasets:
        text += ". Without `--dataset`: " + ", ".join(f"`{n}`" for n in task.default_datasets)
    return text + ". `sdssl-bench show SET` tells a set's layout and how it is obtained."


def _published(name: str) -> list[tuple[str, ...]]:
    with (ROOT / "results/reference/published.csv").open(encoding="utf-8", newline="") as file:
        return [
            (
                _text(f"{row['model']} {row['arch']}"), f"`{row['dataset']}`", f"`{row['metric']}`",
                _text(row["setting"]), f"{100 * float(row['value']):.1f}", _text(row["source"]),
            )
            for row in csv.DictReader(file)
            if row["task"] == name
        ]  # fmt: skip


def _schema_rows(path: str, schema: dict[str, Any], needed: bool = True) -> Any:
    if path:
        what = schema.get("description", "")
        yield f"`{path}`", _kind(schema), "yes" if needed else "no", _text(what)
    required = schema.get("required", [])
    for key, inner in schema.get("properties", {}).items():
        yield from _schema_rows(f"{path}.{key}" if path else key, inner, key in required)
    for key in ("additionalProperties", "items"):
        inner = schema.get(key)
        if isinstance(inner, dict) and ("properties" in inner or "description" in inner):
            yield from _schema_rows(f"{path}.*" if key != "items" else f"{path}[]", inner)


def _kind(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    kinds = schema.get("type", "any")
    text = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "minimum" in schema and schema["minimum"] in (0, 1):
        text += f", at least {schema['minimum']}"
    return text + (f", `{schema['pattern']}`" if "pattern" in schema else "")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [
        [" ".join(cell.split()).replace("|", r"\|") for cell in row]
        for row in (head, ("---",) * len(head), *rows)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_value, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(one)}" for key, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    """Plain words as Markdown; `code` stays code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part
        if part.startswith("`")
        else re.sub(r"([*_\[\]\\])", r"\\\1", html.escape(part, quote=False))
        for part in parts
    )


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to files of the checkout lead to the pages made of them, or are the files' names."""

    def led(link: re.Match[str]) -> str:
        text, target, rest = link.groups()
        return f"[{text}]({PAGE_OF[target]}{rest})" if target in PAGE_OF else f"{text} (`{target}`)"

    markdown = markdown.replace(f"](../{FIGURES}/", f"]({FIGURES}/")
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)([^)]*)\)", led, markdown)


def on_config(config: Any) -> Any:
    """Put the pages that are made, and those that the list does not name, into the navigation."""
    listed = json.dumps(config.nav)
    others = sorted(p.name for p in DOCS.glob("*.md") if f'"{p.name}"' not in listed)
    for section in config.nav:
        if isinstance(section, dict) and PROTOCOLS in section:
            section[PROTOCOLS] = [{n: f"protocols/{n}.md"} for n in built_in()]
        if isinstance(section, dict) and PROOFS in section:
            section[PROOFS] = others
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    for path in sorted((ROOT / FIGURES).glob("*.svg")):
        content = path.read_text("utf-8")
        files.append(File.generated(config, f"{FIGURES}/{path.name}", content=content))
    return files
