"""Progress in a log file is sparse, countable text without control codes."""

import io

import pytest

from sdssl_bench.system import progress as module
from sdssl_bench.system.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_plain_lines_state_count_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.start("features of cifar10 train", 400)
        for _ in range(4):
            clock.now += 11
            progress.advance(100)
        progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "features of cifar10 train: 100 of 400 images (25 %), 9/s, 33.0s left"
    assert lines[-1] == "features of cifar10 train: 400 images in 44.0s, 9/s"
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()


def test_fast_passes_print_one_line(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.start("x", 1000)
        for _ in range(1000):
            clock.now += 0.001
            progress.advance()
        progress.finish()
    assert len(stream.getvalue().splitlines()) == 1


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(quiet=True, stream=stream) as progress:
        progress.start("x", 3)
        progress.advance(3)
        progress.message("hello")
        progress.finish()
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_live_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.start("features", 10)
        progress.advance(10)
        progress.message("note")
        progress.finish()
    assert "10/10" in stream.getvalue()
    assert "note" in stream.getvalue()
