r"""The report as one HTML file: data, style and script inside, nothing loaded from anywhere.

Names and notes in records are hostile input. They reach the page in two ways only: escaped by the template,
and as JSON in a script element that is no script, with <, > and & written as \u escapes, from which
the page makes text nodes. A content security policy allows the one script and the one style by digest.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sdssl_bench.errors import DataError
from sdssl_bench.records import plain
from sdssl_bench.reports.page_data import Data, headlines_only, left_out
from sdssl_bench.reports.tables import size
from sdssl_bench.reports.verdict import counted
from sdssl_bench.rounding import percent

if TYPE_CHECKING:
    from markupsafe import Markup

LIMIT = 10_000_000
"""Bytes of the page at most."""
PACKED_FROM = 2_000_000
"""Characters of data from which on they are compressed; the page unpacks them by itself."""
PLAIN_ROWS = 1_000
"""Rows for readers without JavaScript at most."""
SCRIPTS = (
    "base", "filters", "leaderboard", "curves", "details", "analysis", "cost", "pictures", "main",
)  # fmt: skip
SEPARATED = re.compile(r"(?:(?<=[_/:=])|(?<=\w-))(?=\w)|(?<=[.,])(?=[^\W\d])")
"""Where a name may be broken: base.js has the same."""
TITLE = "Layer by layer: evaluation of vision encoders"


@dataclass(frozen=True)
class Page:
    """A rendered report.

    Attributes:
        content: HTML in UTF-8.
        left_out: what did not fit, one sentence each; the page says so too.
    """

    content: bytes
    left_out: tuple[str, ...]


def render(
    data: Data, *, title: str = TITLE, notes: Sequence[str] = (), limit: int = LIMIT
) -> Page:
    """The page; the same data give the same bytes.

    What does not fit is left out, and the page says so: metrics other than the headline first, then
    t-SNE maps. Pictures have been fitted before, see `pictures`.

    Args:
        data: from `page_data.collect`, with or without "pictures".
        title: of the page.
        notes: what to know before results are compared, in sentences.
        limit: bytes.

    Raises:
        DataError: if the headline numbers alone are too large.
    """
    content = _render(data, title, notes)
    for lighten in (headlines_only, _no_maps):
        if len(content) <= limit:
            break
        lighter, message = lighten(data)
        if message:
            data = left_out(lighter, message)
            content = _render(data, title, notes)
    if len(content) <= limit:
        return Page(content, tuple(data["about"]["left_out"]))
    raise DataError(
        f"The report would have {size(len(content))}, {size(limit)} are allowed. Report on fewer results: "
        "choose with --task, --dataset or --model."
    )


def _no_maps(data: Data) -> tuple[Data, str]:
    left = len(data["maps"])
    message = f"Left out to keep the page small: {left} sets of t-SNE maps." if left else ""
    return {**data, "maps": []}, message


def _render(data: Data, title: str, notes: Sequence[str]) -> bytes:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = _text("report.css")
    script = (
        '"use strict";\n(async () => {\n' + "".join(_text(f"{n}.js") for n in SCRIPTS) + "})();\n"
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["soft"] = soft
    text = embedded_json(data)
    packed = len(text) > PACKED_FROM
    if packed:  # without a time, so that the same data give the same bytes
        text = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    rows = _plain_rows(data)
    page = environment.from_string(_text("report.html.j2")).render(
        title=plain(title),
        about=data["about"],
        notes=list(notes),
        verdict=data["verdict"],
        counts=_counts(data),
        plain=rows[:PLAIN_ROWS],
        unlisted=max(0, len(rows) - PLAIN_ROWS),
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        data=Markup(text),
        kind="application/gzip" if packed else "application/json",
    )
    return (page + "\n").encode()


def embedded_json(value: Any) -> str:
    r"""JSON that cannot end the script element it stands in, nor begin a comment there.

    >>> print(embedded_json(["</script><!--"]))
    ["\u003c/script\u003e\u003c!--"]
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def soft(text: str) -> "Markup":
    """Text in which a name too long for a line is broken after a separator, never inside a word.

    >>> print(soft("a_b <b> 0.5"))
    <span class="name">a_<wbr>b</span> &lt;b&gt; 0.5
    """
    from markupsafe import Markup, escape

    words = []
    for word in plain(text).split(" "):
        parts = SEPARATED.split(word)
        whole = Markup("<wbr>").join(parts)
        words.append(
            Markup('<span class="name">{}</span>').format(whole) if parts[1:] else escape(word)
        )
    return Markup(" ").join(words)


def _text(name: str) -> str:
    return (files("sdssl_bench.reports") / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a content security policy names an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _counts(data: Data) -> str:
    parts = [
        counted(len(data["encoders"]), "encoder"),
        counted(len(data["benchmarks"]), "benchmark"),
        counted(len(data["results"]), "result"),
    ]
    text = ", ".join(parts)
    if data["about"]["limited"]:
        text += f"; {counted(data['about']['limited'], 'record')} made under --limit stay out"
    if data["about"]["trials"]:
        text += f"; {counted(data['about']['trials'], 'trial')} made under --limit, labelled so"
    return text + "."


def _plain_rows(data: Data) -> list[dict[str, str]]:
    """The headline numbers for readers without JavaScript."""
    rows = []
    for result in data["results"]:
        benchmark = data["benchmarks"][result["benchmark"]]
        if not benchmark["ranked"]:
            continue
        values = dict(
            zip(result["layers"], result["metrics"][benchmark["headline"]]["value"], strict=True)
        )
        last = values.get(result["depth"])
        rows.append(
            {
                "encoder": data["encoders"][result["encoder"]]["label"],
                "benchmark": benchmark["label"],
                "metric": benchmark["headline"],
                "best": f"{percent(values[result['best']])} at {result['best']}",
                "last": "not scored" if last is None else percent(last),
            }
        )
    return rows
