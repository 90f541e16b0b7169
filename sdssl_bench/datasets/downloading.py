"""`data download`: fetch what a set's owners let anybody fetch, resume what was interrupted, prove the rest.

Files are written to `.downloads/NAME/` below the data root, with the tag that their server gave them: a part
of another version of a file is never continued. Only what has the published checksum is extracted.
"""

import hashlib
import http.client
import json
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from sdssl_bench.datasets.specs.specification import DatasetSpec
from sdssl_bench.errors import DataError
from sdssl_bench.system import Progress, write_atomic

TIMEOUT_SECONDS = 30.0
PATIENCE = 5
"""In a row without a byte; each that brings some starts the count again."""
WAIT_SECONDS = 2.0
_BLOCK_BYTES = 1 << 20
_MEGA_BYTES = 1_000_000


@dataclass(frozen=True)
class Fetched:
    """One file that was fetched and put in its place.

    Attributes:
        file: its name.
        bytes: its size.
        sha256: of its content.
        verified: whether a checksum is published, which it then has.
        folder: where it is, or was extracted to.
    """

    file: str
    bytes: int
    sha256: str
    verified: bool
    folder: Path


def download(entry: DatasetSpec, data_root: Path, *, progress: Progress) -> list[Fetched]:
    """Fetch the files of a set that may be fetched, and put each in its place below the data root.

    Args:
        entry: the set.
        data_root: made if it is not there.
        progress: shows megabytes.

    Raises:
        DataError: if a file cannot be fetched, is not what was published, or does not fit on the disk;
            what arrived is kept and continued by the next call.
    """
    parts = data_root / ".downloads" / entry.name
    try:
        parts.mkdir(parents=True, exist_ok=True)
        with _alone(parts, entry):
            found = [
                _one(url, parts, target=data_root / folder, entry=entry, progress=progress)
                for url, folder in entry.downloads.items()
            ]
        shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{entry.title} cannot be written below {data_root}: {error}. What arrived is kept in {parts}; "
            "the same command goes on from there."
        ) from error
    return found


def file_of(url: str) -> str:
    """The name of the file that an address gives.

    >>> file_of("https://example.org/data/set.tar.gz?download=1")
    'set.tar.gz'
    """
    return url.partition("?")[0].rpartition("/")[2]


@contextmanager
def _alone(parts: Path, entry: DatasetSpec) -> Iterator[None]:
    try:
        with FileLock(parts / ".lock").acquire(timeout=0):
            yield
    except Timeout as error:
        raise DataError(
            f"Another process is fetching {entry.name} to {parts}. Wait for it, or end it."
        ) from error


def _one(url: str, parts: Path, *, target: Path, entry: DatasetSpec, progress: Progress) -> Fetched:
    file = file_of(url)
    part = parts / file
    fetch_file(url, part, progress=progress)
    md5, sha256 = _digests(part)
    published = entry.archives.get(file, "")
    size = part.stat().st_size
    if published and md5 != published:
        _forget(part)
        raise DataError(
            f"{file} from {url}: expected md5 {published}, found {md5} ({size:,} bytes). It was damaged on "
            "its way or is not the official file; it was removed. Try again, or fetch it by hand: "
            f"{entry.home}"
        )
    target.mkdir(parents=True, exist_ok=True)
    _place(part, target)
    return Fetched(file, size, sha256, bool(published), target)


def fetch_file(url: str, part: Path, *, progress: Progress) -> None:
    """Bring the whole file, going on after interruptions, of this call and of calls before it.

    Raises:
        DataError: if the server refuses, or nothing arrives any more.
    """
    tries = 0
    while True:
        before = _size(part)
        try:
            if _receive(url, part, progress=progress):
                return
            reason = "the connection ended early"
        except HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(
                    f"{url}: expected the file, found status {error.code} ({error.reason}). It may have "
                    "moved: fetch it by hand; of a set, 'sdssl-bench data layout' says how."
                ) from error
            reason = f"status {error.code}"
        except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        tries = 1 if _size(part) > before else tries + 1
        if tries >= PATIENCE:
            raise DataError(
                f"{url} cannot be fetched: {reason}, {PATIENCE} times in a row. {_size(part):,} bytes are "
                "kept; the same command goes on from there once the network is back."
            )
        time.sleep(WAIT_SECONDS * tries)


def _receive(url: str, part: Path, *, progress: Progress) -> bool:
    """One connection: whether the file is whole after it."""
    known = _state(part)
    have = _size(part) if known else 0
    if known and have == known["bytes"]:
        return True
    headers = {"User-Agent": "sdssl-bench", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["tag"]}
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as answer:
        continued = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        start = have if have and continued else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if tag.startswith("W/"):  # A weak tag does not promise the same bytes.
            tag = answer.headers.get("Last-Modified") or ""
        _check_room(part, total - start)
        if not start:
            _forget(part)
            if tag and total:
                write_atomic(_state_of(part), json.dumps({"tag": tag, "bytes": total}).encode())
        with part.open("ab" if start else "wb") as file:
            _copy(answer, file, part.name, start=start, total=total, progress=progress)
    return not total or _size(part) == total


def _copy(
    answer: IO[bytes], file: IO[bytes], name: str, *, start: int, total: int, progress: Progress
) -> None:
    progress.start(name, -(-total // _MEGA_BYTES), "MB")
    progress.advance(start // _MEGA_BYTES)
    done = start
    while block := answer.read(_BLOCK_BYTES):
        file.write(block)
        progress.advance((done + len(block)) // _MEGA_BYTES - done // _MEGA_BYTES)
        done += len(block)
    if done == total:
        progress.advance(-(-total // _MEGA_BYTES) - total // _MEGA_BYTES)
        progress.finish()


def _check_room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        needed, there = (f"{one / _MEGA_BYTES:,.0f} MB" for one in (wanted, free))
        raise DataError(
            f"{part.name} needs {needed} in {part.parent}, where {there} are free (and about as much "
            "again to extract it). Make room, or name another folder."
        )


def _place(part: Path, target: Path) -> None:
    """Extract an archive into a folder, or put another file there; nothing lands outside the folder."""
    try:
        if tarfile.is_tarfile(part):
            with tarfile.open(part) as archive:
                _extract(archive, target)
        elif zipfile.is_zipfile(part):
            with zipfile.ZipFile(part) as zipped:
                zipped.extractall(target)  # It drops "..", drives and roots from names.
        else:
            shutil.copyfile(part, target / part.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        _forget(part)
        raise DataError(
            f"{part.name}: expected an archive, found one that cannot be read ({error}). It was removed; "
            "try again."
        ) from error


def _extract(archive: tarfile.TarFile, target: Path) -> None:
    """Everything inside the folder; only files and folders where Python (before 3.11.4) has no filters."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(target, filter="data")
        return
    members = archive.getmembers()
    for one in members:
        path = PurePosixPath(one.name)
        if path.is_absolute() or ".." in path.parts or not (one.isreg() or one.isdir()):
            raise tarfile.ExtractError(f"{one.name!r} is no file or folder below the archive's")
        one.mode = 0o755 if one.isdir() else 0o644
    archive.extractall(target, members)


def _digests(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict[str, Any]:
    """What its server called the file that a part belongs to; {} if it cannot be continued."""
    try:
        state = json.loads(_state_of(part).read_text("utf-8"))
        return {"tag": str(state["tag"]), "bytes": int(state["bytes"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_of(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
