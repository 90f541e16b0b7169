"""What a name has to pass to be text, and nothing else, in each format that others execute.

Names of models and datasets come from files of others. One function per format; `plain`, which leaves one
line of visible characters, is part of each. In HTML the template escapes and the script makes text nodes.
"""

import re
from typing import Any

from sdssl_bench.records import plain

FORMULA = "=+-@"
"""A spreadsheet takes a cell that begins so for a formula."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "<": r"$<$", ">": r"$>$",
    # Arguments of the line break before them.
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip


def csv_cell(value: Any) -> Any:
    """A value of a CSV; a text that would be a formula begins with an apostrophe.

    >>> csv_cell("=cmd()"), csv_cell("vit"), csv_cell(-0.5)
    ("'=cmd()", 'vit', -0.5)
    """
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip().startswith(tuple(FORMULA)) else text


def markdown_text(text: str) -> str:
    r"""Text that Markdown shows as it is, in a cell of a table too.

    >>> markdown_text("a|b <i> *c* my_vit_s16 _x_")
    'a\\|b &lt;i&gt; \\*c\\* my_vit_s16 \\_x\\_'
    """
    found = re.sub(r"&(?=#?\w+;)", "&amp;", plain(text)).replace("<", "&lt;").replace(">", "&gt;")
    found = re.sub(r"([\\`*\[\]|~$])", r"\\\1", found)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", found)  # inside a word it marks nothing


def latex_text(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> latex_text("J&F_1")
    'J\\&F\\_1'
    """
    return "".join(LATEX.get(character, character) for character in plain(text))
