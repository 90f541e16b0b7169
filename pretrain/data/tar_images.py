"""The images of one tar file, front to back, from a disk or a server that may have a bad moment."""

import http.client
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from sdssl_bench.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
REMOTE = ("http://", "https://")
WAITS = (1.0, 5.0, 20.0)
"""Seconds before a server is asked again; an epoch of a day should not end with one lost connection."""


def open_file(name: str) -> IO[bytes]:
    """A file by its path or address, to be read front to back."""
    if name.startswith(REMOTE):
        return cast(IO[bytes], urllib.request.urlopen(name, timeout=60))
    return Path(name).open("rb")


def image_members(name: str, *, start: int = 0, read: bool = True) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of a shard's images in order, from the one numbered `start`.

    On a disk, the bytes of images before `start` are skipped, not read; nor are any with read=False.
    A server that fails is asked again, and the images that were had are passed over.

    Raises:
        DataError: if the shard is missing or damaged.
    """
    waits = iter(WAITS if name.startswith(REMOTE) else ())
    given = 0
    while True:
        try:
            for item in _members(name, start=start + given, read=read):
                yield item
                given += 1
            return
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            wait = None if refused else next(waits, None)
            if wait is None:
                raise DataError(f"Shard {name} cannot be read: {error}.") from None
        time.sleep(wait)


def _members(name: str, *, start: int, read: bool) -> Iterator[tuple[str, bytes]]:
    mode: Any = "r|" if name.startswith(REMOTE) else "r:"
    with open_file(name) as stream, tarfile.open(fileobj=stream, mode=mode) as tar:
        number = 0
        for member in tar:
            # tarfile keeps all headers it has seen, which a stream never goes back to.
            tar.members.clear()  # type: ignore[attr-defined]
            if not (member.isfile() and member.name.lower().endswith(ENDINGS)):
                continue
            if number >= start:
                file = tar.extractfile(member) if read else None
                yield member.name, file.read() if file else b""
            number += 1
