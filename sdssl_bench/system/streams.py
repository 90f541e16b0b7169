"""Standard output and error that take any text and outlive their reader.

A stream of an old locale, of PYTHONIOENCODING or of a redirection may hold few characters: others are
written as the closest it has. Who reads through a pipe may close it (`| head`): what is said then is
dropped, and the work goes on, since its results lie in files.
"""

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

LOOK_ALIKES = str.maketrans(
    {
        **dict(zip("█▉▊▋▌▍▎▏", "######::", strict=True)),
        **dict(zip("▁▂▃▄▅▆▇", "_.-~=+*", strict=True)),
        **dict(zip("─━│┃·−‐‑–—", "--||------", strict=True)),  # noqa: RUF001
        **dict(zip("’‘“”×†‡…", "''\"\"x+#~", strict=True)),  # noqa: RUF001
        **dict(zip("αβγδελμστ", "abgdelmst", strict=True)),
        **{"±": "+-", "≤": "<=", "≥": ">=", "→": "->"},
    }
)
"""What stands for a character that a stream cannot hold; as wide as it, where tables need that."""


def plain(text: str, encoding: str) -> str:
    """A text with the characters that `encoding` lacks replaced.

    >>> plain("café, 58.7 ± 2 ██▌", "latin-1")
    'café, 58.7 ± 2 ###'
    >>> plain("café, 58.7 ± 2 ██▌", "ascii")
    'cafe, 58.7 +- 2 ###'
    """

    def held(one: str) -> str:
        try:
            one.encode(encoding)
        except UnicodeEncodeError:
            alike = one.translate(LOOK_ALIKES)
            alike = unicodedata.normalize("NFKD", one)[:1] if alike == one else alike
            return alike.encode("ascii", "replace").decode()
        return one

    return "".join(map(held, text))


class Stream:
    """A text stream that raises neither for a character nor for a reader that has gone.

    Attributes:
        encoding: of the stream; "latin-1" for ASCII, for which typer would write UTF-8.
        lost: why nothing reaches its reader any more.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        plainest = self._encoding.lower().replace("-", "").replace("_", "") in ("ascii", "usascii")
        self.encoding = "latin-1" if plainest or self._encoding == "646" else self._encoding
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write what can be written; the number of characters given."""
        with self._reader():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(plain(text, self._encoding))
        return len(text)

    def flush(self) -> None:
        """Bring it to the reader, if there is one."""
        with self._reader():
            self._stream.flush()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
            # Python flushes at its end, too.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def kind_streams() -> Iterator[None]:
    """Inside, sys.stdout and sys.stderr are `Stream`s.

    Raises:
        SystemExit: at the end, if the disk behind stdout took not all of it.
    """
    before = sys.stdout, sys.stderr
    mine = Stream(sys.stdout), Stream(sys.stderr)
    sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], mine)
    try:
        yield
    finally:
        for stream in mine:
            with suppress(ValueError):  # closed by whoever gave it
                stream.flush()
        sys.stdout, sys.stderr = before
        lost = mine[0].lost
        if lost and not isinstance(lost, BrokenPipeError):
            mine[1].write(f"error: standard output cannot be written: {lost.strerror}.\n")
            raise SystemExit(1)


def is_heard() -> bool:
    """Whether somebody still reads standard output."""
    return getattr(sys.stdout, "lost", None) is None
