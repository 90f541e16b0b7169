"""Progress of long passes on stderr: a live bar on a terminal, sparse plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import rich.progress

PLAIN_SECONDS = 10.0
"""In a log file a line appears at most this often, in seconds."""


class Progress:
    """Shows one pass at a time: start, advance as items are done, finish.

    Args:
        quiet: says nothing at all.
        stream: where to; None is stderr.
        transient: a bar goes when its pass is done.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, transient: bool = False
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._transient = transient
        self._live: rich.progress.Progress | None = None
        self._said: set[str] = set()
        self._label = ""
        self._unit = ""
        self._total = 0
        self._done = 0
        self._since = 0.0
        self._last_line = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_bar()

    def start(self, label: str, total: int, unit: str = "images") -> None:
        """Begin a pass over `total` items."""
        self._close_bar()
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._since = self._last_line = time.monotonic()
        if self._quiet or total == 0:
            return
        if self._stream.isatty():
            self._open_bar()

    def advance(self, n: int = 1) -> None:
        """Count `n` more items as done."""
        self._done += n
        if self._quiet or self._total == 0:
            return
        if self._live is not None:
            self._live.update(
                self._live.task_ids[0], completed=self._done, rate=f"{self._rate():,.0f}"
            )
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_SECONDS and self._done < self._total:
            self._last_line = now
            left = (self._total - self._done) / max(self._rate(), 1e-9)
            self._line(
                f"{self._label}: {self._done:,} of {self._total:,} {self._unit} "
                f"({100 * self._done / self._total:.0f} %), {self._rate():,.0f}/s, "
                f"{duration(left)} left"
            )

    def finish(self) -> None:
        """End the pass; prints its total and speed."""
        live = self._live is not None
        self._close_bar()
        if self._quiet or self._total == 0:
            return
        if not live:
            spent = time.monotonic() - self._since
            self._line(
                f"{self._label}: {self._done:,} {self._unit} in {duration(spent)}, "
                f"{self._rate():,.0f}/s"
            )

    def message(self, text: str, *, once: bool = False) -> None:
        """Say something that is not a count, e.g. that a feature bank was found in the cache.

        Args:
            text: a line.
            once: not again, if it was said before.
        """
        if self._quiet or (once and text in self._said):
            return
        self._said.add(text)
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            self._line(text)

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._since, 1e-9)

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _open_bar(self) -> None:
        from rich import progress as bars
        from rich.console import Console

        self._live = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=30),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]} {task.fields[unit]}/s"),
            bars.TimeRemainingColumn(),
            console=Console(file=self._stream),
            transient=self._transient,
        )
        self._live.add_task(self._label, total=self._total, rate="-", unit=self._unit)
        self._live.start()

    def _close_bar(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def duration(seconds: float) -> str:
    """Seconds for a person.

    >>> duration(75), duration(4000), duration(2.34)
    ('1m15s', '1h06m', '2.3s')
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
