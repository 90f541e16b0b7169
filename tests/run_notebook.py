"""Runs the code cells of a notebook in order, in one fresh namespace: `python run_notebook.py FILE`.

Prints the notebook with the outputs that Jupyter would store: what a cell prints, the value of its last
expression unless a semicolon ends it, and the figures it leaves open. Needs no Jupyter.
"""

import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

DPI = 72
"""Of the pictures, which are kept small."""


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def outputs_of(source: str, namespace: dict[str, Any], count: int) -> list[dict[str, Any]]:
    from matplotlib import pyplot

    tree = ast.parse(source)
    last = tree.body[-1] if tree.body else None
    asked = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    value = None
    with redirect_stdout(io.StringIO()) as printed:
        if asked:
            assert isinstance(last, ast.Expr)
            tree.body.pop()
        exec(compile(tree, f"cell {count}", "exec"), namespace)
        if asked:
            whole = ast.Expression(last.value)
            value = eval(compile(whole, f"cell {count}", "eval"), namespace)
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data = {"text/html": lines(value._repr_html_()), **data}
        result = {"data": data, "execution_count": count, "metadata": {}}
        found.append({**result, "output_type": "execute_result"})
    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, format="png", dpi=DPI)
        data = {
            "image/png": base64.b64encode(picture.getvalue()).decode(),
            "text/plain": ["<Figure>"],
        }
        found.append({"data": data, "metadata": {}, "output_type": "display_data"})
    pyplot.close("all")
    return found


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the outputs of its cells."""
    import matplotlib

    matplotlib.use("agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            found = outputs_of("".join(cell["source"]), namespace, count)
            cell = {**cell, "execution_count": count, "outputs": found}
        cells.append(cell)
    return {**notebook, "cells": cells}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(executed(json.loads(Path(sys.argv[1]).read_text("utf-8")))))
