"""Names of others are text in every format: no formula, no markup, no command, no second line."""

import csv
import html
import io
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from sdssl_bench.cli.main import app
from sdssl_bench.records.titles import UNSEEN, plain
from sdssl_bench.reports.escapes import LATEX, csv_cell, latex_text, markdown_text
from sdssl_bench.reports.leaderboard import csv_text
from stored_results import scored

HOSTILE = (
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "=cmd|' /C calc'!A0", "+1+1",
    "-1+1", "@SUM(1)", "\t=1", " =1", "a|b|c", "a\\|b", "a\nb", "a\r\nb", "a\u2028b", "\\input{/etc/passwd}",
    "\x1b[31mred\x1b[2J", "[bold red]x[/]", "[/foo]", "[x](javascript:alert(1))", "![x](y)", "`code`",
    "*strong* __em__ _em_ ~~del~~", "&lt;b&gt;", "\u202egnp", "\x00nul", "{{7*7}}{% raw %}", "$x$", "# head",
    "\\", "%", "'quoted\" \"", "x" * 500, "café 漢字",
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=20).filter(lambda text: text.isprintable() or True),
    st.text("\\|`*_[]<>&$#%{}~^=+-@'\"\n\t\x1b ab", max_size=12),
)


def visible(text: str) -> bool:
    return not any(unicodedata.category(one) in UNSEEN for one in text)


@given(NAMES)
def test_plain_text_is_one_line_of_visible_characters(name: str) -> None:
    assert visible(plain(name))
    assert plain(plain(name)) == plain(name)
    if visible(name):
        assert plain(name) == name


@given(NAMES)
def test_a_csv_cell_is_no_formula_and_one_line(name: str) -> None:
    text = csv_text(pd.DataFrame({"model": [name], "value": [-0.5]}))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [["model", "value"], [str(csv_cell(name)), "-0.5"]]
    cell = rows[1][0]
    assert visible(cell)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert cell.removeprefix("'") == plain(name).removeprefix("'")


class Cells(HTMLParser):
    """Tags and texts of the cells of the one table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip("\n")


@given(NAMES.filter(lambda name: plain(name).strip() != ""))
@example("a_b")
def test_a_markdown_cell_is_what_it_shows(name: str) -> None:
    table = f"| {markdown_text(name)} | 1 |\n| --- | --- |\n| {markdown_text(name)} | 2 |\n"
    shown = Cells(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(table)
    )
    assert shown.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert [cell.strip() for cell in shown.cells] == [
        plain(name).strip(),
        "1",
        plain(name).strip(),
        "2",
    ]


@given(NAMES)
def test_latex_has_no_command_that_is_not_ours(name: str) -> None:
    rest = latex_text(name)
    for escaped in sorted(LATEX.values(), key=len, reverse=True):
        rest = rest.replace(escaped, "")
    assert not set(rest) & set("\\&%$#_{}~^<>[]*")
    assert visible(rest)


@pytest.mark.parametrize("name", HOSTILE)
def test_every_command_shows_a_hostile_name_as_text(name: str, tmp_path: Path) -> None:
    root = tmp_path / "results"
    for other, right in ((name, 120), ("other", 100)):
        scored(root, other, "cifar10", {1: 90, 2: right})
        scored(root, other, f"folder:{name}", {2: right}, dataset__variant="folder")

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "2000"})
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        assert all(visible(line) for line in done.stdout.split("\n")), done.stdout
        return done.stdout

    out = {one: tmp_path / one for one in ("l.csv", "l.md", "tex", "page")}
    said = run(
        "leaderboard",
        root,
        "--wide",
        "--csv",
        out["l.csv"],
        "--markdown",
        out["l.md"],
        "--latex",
        out["tex"],
    )
    assert plain(name) in said
    rows = list(csv.reader(io.StringIO(out["l.csv"].read_text(encoding="utf-8"))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not [cell for row in rows for cell in row if cell.strip()[:1] in tuple("=+@")]
    markdown = out["l.md"].read_text(encoding="utf-8")
    tables = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    assert not re.search(r"<(script|img|a|em|code)\\b", tables)
    assert plain(name) in html.unescape(tables)
    for path in out["tex"].glob("*.tex"):
        assert "\\input" not in path.read_text(encoding="utf-8")
    run("report", root, "--out", out["page"])
    page = (out["page"] / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert "<img" not in page
    assert "\x1b" not in page
    stored = sorted((root / "runs").glob("**/*.json"))
    (folder,) = {path.parent for path in stored} - {root / "runs" / "other"}
    run("compare", "other", folder, "--results", root)
    run("explain", stored[0], stored[-1])
