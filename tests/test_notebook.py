"""The notebook of the documents runs as it stands, and what is committed of its output is its output.

SDSSL_BENCH_WRITE_GOLDEN=1 writes the outputs anew.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mini_data import of_recorded_pixels

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
WRITING = "SDSSL_BENCH_WRITE_GOLDEN" in os.environ
LARGEST = 40_000
"""Bytes of a picture."""


def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The notebook as it runs in a process of its own, in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    hidden = ("COLUMNS", "SDSSL_BENCH_DATA", "SDSSL_BENCH_RESULTS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"SDSSL_BENCH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    here = folder / "here"
    here.mkdir()
    command = [sys.executable, str(ROOT / "tests" / "run_notebook.py"), str(NOTEBOOK)]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notebook: dict[str, Any] = json.loads(done.stdout)
    if WRITING:
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        NOTEBOOK.write_text(text + "\n", encoding="utf-8")
    return notebook


def shown(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """Outputs of a cell without what other versions draw in another way: pictures, tables of pandas."""
    outputs = []
    for output in cell.get("outputs", ()):
        data = {
            kind: value
            for kind, value in output.get("data", {}).items()
            if kind != "image/png" and 'class="dataframe"' not in "".join(value)
        }
        outputs.append({**output, "data": data})
    return outputs


def pictures(notebook: dict[str, Any]) -> list[tuple[int, bytes]]:
    return [
        (place, base64.b64decode(output["data"]["image/png"]))
        for place, cell in enumerate(notebook["cells"])
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.slow
@of_recorded_pixels
def test_the_committed_outputs_are_those_of_the_code(fresh: dict[str, Any]) -> None:
    assert len(fresh["cells"]) == len(committed()["cells"])
    for mine, stored in zip(fresh["cells"], committed()["cells"], strict=True):
        assert shown(mine) == shown(stored), "".join(stored["source"])
    assert [place for place, _ in pictures(fresh)] == [place for place, _ in pictures(committed())]


def test_its_pictures_are_pictures_and_small() -> None:
    found = pictures(committed())
    assert found
    for _, content in found:
        assert content.startswith(b"\x89PNG")
        assert len(content) <= LARGEST


def test_it_is_a_notebook_that_says_nothing_of_the_machine_it_ran_on() -> None:
    notebook = committed()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    counts = [c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    text = NOTEBOOK.read_text("utf-8")
    for place in (str(Path.home()), str(ROOT), "/tmp"):
        assert place not in text
