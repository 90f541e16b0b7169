"""Output reaches every stream: characters it lacks are replaced, a reader that has gone is no error."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdssl_bench.system.streams import Stream, kind_streams, plain

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("sdssl_bench", "tasks", "pretrain")


def stream(encoding: str) -> tuple[io.BytesIO, Stream]:
    content = io.BytesIO()
    return content, Stream(io.TextIOWrapper(content, encoding=encoding, write_through=True))


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", "caf? 1 +- 2 #: _* ??"), ("latin-1", "café 1 ± 2 #: _* ??"),
     ("utf-8", "café 1 ± 2 █▏ ▁▇ 漢?")],
)  # fmt: skip
def test_a_stream_writes_what_it_holds_and_replaces_the_rest(encoding: str, written: str) -> None:
    content, out = stream(encoding)
    out.write("café 1 ± 2 █▏ ▁▇ 漢\ud800")
    expected = written.replace("caf?", "cafe") if encoding == "ascii" else written
    assert content.getvalue().decode(encoding) == expected


def test_every_character_that_the_suite_prints_has_a_look_alike() -> None:
    """A question mark is for names of users alone."""
    used = {
        one
        for folder in SHOWN
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for one in node.value
        if ord(one) > 127 and path.name != "streams.py"
    }
    assert used > {"█", "±", "…"}
    assert {one for one in used if plain(one, "ascii") == "?"} <= {"\u2028", "\u2029"}


def test_look_alikes_of_bars_and_lines_are_as_wide_as_they_are() -> None:
    for one in "█▉▊▋▌▍▎▏▁▂▃▄▅▆▇─│·…†‡":
        assert len(plain(one, "ascii")) == 1


def test_a_reader_that_has_gone_is_no_error_and_the_work_goes_on(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from sdssl_bench.system import streams\n"
        "with streams.kind_streams():\n"
        "    for _ in range(50_000): sys.stdout.write('a line\\n')\n"
        "    assert not streams.is_heard()\n"
        f"    open({str(tmp_path / 'done')!r}, 'w').close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert (tmp_path / "done").exists()
    process.stderr.close()


def test_a_full_disk_behind_stdout_is_told_once() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with full.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "sdssl_bench", "ls", "tasks"], stdout=out, stderr=subprocess.PIPE,
            text=True, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_streams_are_handed_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with kind_streams():
        assert sys.stdout is not before[0]
        sys.stdout.write("±")
        assert sys.stdout.isatty() == before[0].isatty()
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "±"
