"""The pages below docs/: their code runs, what they name exists, and the site builds without a network."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from sdssl_bench import tasks
from sdssl_bench.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NAMED = re.findall(r"[ :-] ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
"""In the navigation by name."""
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHELL = """
set -euo pipefail
sdssl-bench() { "$PYTHON" -m sdssl_bench "$@"; }
python() { "$PYTHON" "$@"; }
"""


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, title and text of each block of code."""
    return [(a, b, c) for a, b, c in BLOCK.findall(page.read_text("utf-8"))]


def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages_of_docs", DOCS / "site" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    pages: dict[str, str] = made().generated()
    return pages


@pytest.mark.parametrize(
    ("name", "results"),
    [
        pytest.param("add-task", 1, marks=pytest.mark.slow),
        pytest.param("add-dataset", 1, marks=pytest.mark.slow),
        pytest.param("add-encoder", 1, marks=pytest.mark.slow),
        pytest.param("first-curve", 1, marks=pytest.mark.slow),
        pytest.param("three-more-curves", 5, marks=pytest.mark.slow),
    ],
)
def test_the_code_of_a_page_runs_as_it_stands(name: str, results: int, tmp_path: Path) -> None:
    """In an empty folder, from top to bottom: titled blocks are files, `bash` is run, `sh` is only shown."""
    environment = {
        **os.environ,
        "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100",
    }  # fmt: skip
    del environment["SDSSL_BENCH_RESULTS"]
    for language, title, text in blocks(DOCS / f"{name}.md"):
        if title:
            (tmp_path / title).write_text(text)
        elif language == "bash":
            done = subprocess.run(
                ["bash", "-c", SHELL + text],
                cwd=tmp_path, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, text + done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("*.json")]
    assert len(records) == results


def code(page: str, title: str) -> str:
    """The block of this title on a page."""
    (found,) = (text for _, name, text in blocks(DOCS / page) if name == title)
    return found


def test_the_template_is_what_the_pages_show() -> None:
    package = DOCS / "template" / "my_benchmark"
    assert (package / "class_mean.py").read_text() == code("add-task.md", "class_mean.py")
    shown = code("add-dataset.md", "mushrooms.py").replace(
        "mushrooms:read", "my_benchmark.mushrooms:read"
    )
    assert (package / "mushrooms.py").read_text() == shown


@pytest.mark.slow
def test_the_template_is_built_installed_and_runs_to_the_leaderboard(tmp_path: Path) -> None:
    """From an empty folder, on a set and a task that only the package has."""
    shutil.copytree(DOCS / "template", tmp_path / "source")
    (tmp_path / "empty").mkdir()
    install = [
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        "site",
        "./source",
    ]

    def python(*words: str, cwd: str = "empty") -> str:
        path = os.pathsep.join((str(tmp_path / "site"), str(ROOT)))
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path / cwd, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python("-m", "pip", *install, cwd=".")
    python("-c", code("add-dataset.md", "make_mushrooms.py"))
    assert "class-mean" in python("-m", "sdssl_bench", "ls", "tasks")
    assert "mushrooms: ok" in python(
        "-m", "sdssl_bench", "data", "check", "mushrooms", "--data-root", "data"
    )
    python("-m", "sdssl_bench", "run", "--task", "class-mean,knn", "--dataset", "mushrooms",
           "--data-root", "data", "--ckpt", "control:statistics", "--out", "results")  # fmt: skip
    board = python("-m", "sdssl_bench", "leaderboard", "results")
    assert "class-mean mushrooms" in board
    assert "knn mushrooms" in board


def test_every_command_and_option_that_a_page_shows_exists() -> None:
    found = 0
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", DOCS / "template" / "README.md"]:
        for language, _, text in blocks(page):
            if language not in ("bash", "sh"):
                continue
            lines = text.replace("\\\n", " ").splitlines()
            for line in lines:
                asked = re.search(r"(?:sdssl-bench|-m sdssl_bench) +(\S+)(.*)", line)
                if not asked:
                    continue
                command, rest = asked.groups()
                group = [rest.split()[0]] if command in ("data", "score", "cache") else []
                done = CliRunner().invoke(app, [command, *group, "--help"], env={"COLUMNS": "200"})
                assert done.exit_code == 0, (page.name, line)
                options = {*re.findall(r" (--[a-z][a-z-]*)", rest)} - {"--include"}
                assert options <= {*re.findall(r"--[a-z][a-z-]*", done.output)}, (page.name, line)
                found += 1
    assert found > 20


def test_every_option_protocol_and_parameter_that_a_sentence_names_exists() -> None:
    names = ("run", "sweep", "doctor", "compare", "leaderboard", "report", "reproduce", "explain")
    helps = [
        CliRunner().invoke(app, [one, "--help"], env={"COLUMNS": "200"}).output for one in names
    ]
    options = {*re.findall(r"--[a-z][a-z-]*", " ".join(helps))}
    classes = [tasks.task_class(one) for one in tasks.task_names()]
    parameters = {name for one in classes for name in tasks.parameter_types(one)}
    protocols = {name for one in classes for name in one.presets}
    # Other pages, below Proofs, speak of programs of their own.
    for page in [
        *(DOCS / name for name in NAMED if (DOCS / name).exists()),
        ROOT / "CONTRIBUTING.md",
    ]:
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for words in re.findall(r"`([^`]+)`", text):
            outside = re.match(
                r"pip|pytest|python|make|srun|accelerate|torchrun|Slurm|--nodes", words
            )
            if not outside:
                assert {*re.findall(r"(?<!\S)--[a-z][a-z-]*", words)} <= options, (page.name, words)
            assert {*re.findall(r"--set (\w+)=[^N]", words)} <= parameters, (page.name, words)
            assert {*re.findall(r"--protocol ([a-z][\w-]*)", words)} <= protocols, (
                page.name,
                words,
            )


def test_every_task_has_a_page_made_of_its_declarations(generated: dict[str, str]) -> None:
    for name in made().built_in():
        page, task = generated[f"protocols/{name}.md"], tasks.task_class(name)
        assert task.pitfalls
        assert task.elsewhere
        for preset in task.presets:
            assert f"### {name}/{preset}@{task.version}" in page
        for option in task.options:
            assert f"`--{option.name}`" in page
        assert page.count("\n- ") >= len(task.pitfalls) + len(task.elsewhere)
        shown = CliRunner().invoke(app, ["show", name], env={"COLUMNS": "100"}).output
        words = " ".join(shown.split())
        assert all(f"- {text}" in words for text in (*task.pitfalls, *task.elsewhere))


def test_every_value_of_a_protocol_stands_beside_its_source(generated: dict[str, str]) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\S+)` \| (.+) \|$", generated["protocols/knn.md"], re.MULTILINE
    )
    assert ("temperature", "0.07", "DINO, eval\\_knn.py") in rows
    assert ("k", "10,20,100,200", "DINO, eval\\_knn.py") in rows
    assert all(source.strip() for *_, source in rows)


def test_no_row_of_a_table_is_broken_over_lines(generated: dict[str, str]) -> None:
    for name, page in generated.items():
        if name.startswith("protocols/"):
            for table in re.findall(r"(?m)(?:^\|.*\n)+.*", page):
                assert all(
                    line.startswith("| ") and line.endswith(" |")
                    for line in table.split("\n")
                    if line
                ), name


def test_the_page_of_records_has_every_field_of_the_schema(generated: dict[str, str]) -> None:
    schema = json.loads((ROOT / "sdssl_bench/records/record.schema.json").read_text())

    def names(part: dict[str, object]) -> set[str]:
        inner = part.get("properties", {})
        assert isinstance(inner, dict)
        deeper = [one for one in (*inner.values(), part.get("additionalProperties"), part.get("items"))
                  if isinstance(one, dict)]  # fmt: skip
        return {*inner}.union(*(names(one) for one in deeper))

    page = generated["records.md"]
    stated = {
        re.split(r"[.\[\]*]+", field.rstrip("[].*"))[-1]
        for field in re.findall(r"^\| `([^`]+)`", page, re.M)
    }
    assert names(schema) <= stated


def test_links_lead_to_pages_and_the_navigation_to_files(generated: dict[str, str]) -> None:
    texts = {page.name: page.read_text("utf-8") for page in PAGES} | generated
    for name, text in texts.items():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if not target.startswith(("http:", "https:")):
                page = os.path.normpath(Path(name).parent / target) in texts
                assert page or (name not in generated and (DOCS / target).exists()), (name, target)
    assert len(NAMED) > 8
    assert {*NAMED} <= texts.keys()


class Fetched(HTMLParser):
    """Addresses that a browser fetches for a page without being asked."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        name = {"link": "href", "script": "src", "img": "src", "iframe": "src"}.get(tag)
        if name and values.get("rel") != "canonical" and values.get(name):
            self.found.append(str(values[name]))


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {f"protocols/{name}.html" for name in made().built_in()} <= {
        str(path.relative_to(tmp_path / "site")) for path in pages
    }
    for path in pages:
        for address in Fetched(path.read_text("utf-8")).found:
            assert not address.startswith(("http:", "https:", "//")), (path.name, address)
