"""The file of a released checkpoint: from where its authors publish it into a folder, once."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from sdssl_bench.checkpoints.hub import why_unreachable
from sdssl_bench.datasets import fetch_file
from sdssl_bench.errors import DataError
from sdssl_bench.system import Progress, agreed, locked


def fetch_weights(name: str, url: str, folder: Path, *, md5: str, progress: Progress) -> Path:
    """The file of a release; fetched by one process of all where it is not there yet.

    Args:
        name: of the release; the file's stem, and so the encoder's name.
        url: of the file.
        folder: to keep it in; made if it is missing.
        md5: beginning of its digest; "" where none is published.
        progress: shows megabytes.

    Raises:
        DataError: if it cannot be fetched, or is not what was published.
    """
    target = folder / f"{name}.pth"

    def bring() -> Path:
        with locked(folder / f".{name}.lock"):
            if not target.is_file():
                _bring(url, target, md5=md5, progress=progress)
        return target

    return agreed(bring)


def _bring(url: str, target: Path, *, md5: str, progress: Progress) -> None:
    if reason := why_unreachable(url):
        raise DataError(f"{target.name} is not in {target.parent} and {urlsplit(url).hostname} cannot be "
                        f"reached ({reason}): connect to the network, or put the file there.")  # fmt: skip
    part = target.with_name(f".{target.name}.part")
    fetch_file(url, part, progress=progress)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if not found.startswith(md5):
        part.unlink()
        raise DataError(
            f"{url}: expected md5 {md5}..., as its authors state, found {found}; it was removed. Try again."
        )
    part.replace(target)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
