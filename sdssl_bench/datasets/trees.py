"""Folders of many images, listed in one pass with sizes and times."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)

Stamp = tuple[int, int, int, int]
"""Of a folder: times of change of its entries and of itself in ns, size, links."""


@dataclass(frozen=True, eq=False)
class Branch:
    """The images in a folder and below it.

    Attributes:
        files: [N] paths relative to the folder, sorted.
        sizes: [N] bytes, -1 for a broken link.
        times: [N] modification times in ns, likewise.
        folders: path relative to the folder -> its stamp; "" is the folder itself.
        kept: whether a file may have been overwritten since it was listed.
    """

    files: list[str]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    folders: dict[str, Stamp]
    kept: bool = False


Tree = dict[str, Branch]
"""Name of a folder directly below the tree's root, sorted -> what is in it; "" has the root's own images."""


def images_below(folder: Path) -> list[str]:
    """Images in a folder and below it, as relative paths, sorted; a loop of links ends it."""
    return list_branch(folder, facts=False).files


def is_image(name: str) -> bool:
    """Whether a file's ending is that of an image."""
    return name[name.rfind(".") :].lower() in EXTENSIONS


def list_branch(folder: Path, *, deep: bool = True, facts: bool = True) -> Branch:
    """What is in a folder: of a tree's root (not `deep`) its own images and the names of its folders."""
    files: list[tuple[str, int, int]] = []
    folders: dict[str, Stamp] = {}
    seen: set[tuple[int, int]] = set()
    below = [""]
    while below:
        here = below.pop()
        path = folder / here
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            with os.scandir(path) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[here] = stamp_of(status)
        prefix = f"{here}/" if here else ""
        inside = []
        for entry in visible:
            if entry.is_dir():
                inside.append(prefix + entry.name)
            elif is_image(entry.name):
                size, modified = _facts(entry) if facts else (0, 0)
                files.append((prefix + entry.name, size, modified))
        if deep:
            below += sorted(inside, reverse=True)
        else:
            # Their stamps are in their own branches.
            folders |= dict.fromkeys(sorted(inside), (0, 0, 0, 0))
    files.sort()
    columns = list(zip(*files, strict=True)) or [(), (), ()]
    return Branch(
        list(columns[0]), np.array(columns[1], np.int64), np.array(columns[2], np.int64), folders
    )


def _facts(entry: "os.DirEntry[str]") -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # A broken link, or one to itself.
        return -1, -1
    return status.st_size, status.st_mtime_ns


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes when a folder does."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_nlink
