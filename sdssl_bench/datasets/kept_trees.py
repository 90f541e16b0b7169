"""Listings of large folders of images, kept until something changes.

A tree is listed by branches, the folders directly below it. Inside `kept_in` the listing of a large tree
is stored under the times and sizes of its folders. The next time only these are looked up, about a
thousand for ImageNet, and the branches of which one differs are listed again. A file that was
overwritten in place leaves its folder's time as it was, so files are looked up too: all of them in trees of
up to `CHECKED_ROWS` files, beyond that as many as `CHECK_SECONDS` allow, other ones each time, and each
when it is read.
"""

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.trees import Branch, Tree, list_branch, stamp_of
from sdssl_bench.errors import DataError
from sdssl_bench.system import read_arrays, write_atomic

KEPT_ROWS = 10_000
"""Smaller trees are listed each time."""
CHECKED_ROWS = 50_000
CHECK_SECONDS = 0.5
SETTLED_SECONDS = 2.0
"""A folder that changed so lately may change again within one tick of its file system's clock."""
_THREADS = 8
"""Only hide the latency of a network file system; a local disk does not need them."""


@dataclass(frozen=True)
class _Keeping:
    folder: Path
    say: Callable[[str], None]


_KEEPING: ContextVar[_Keeping | None] = ContextVar("keeping", default=None)


@contextmanager
def kept_in(cache_dir: Path | None, say: Callable[[str], None] | None) -> Iterator[None]:
    """Listings made inside are kept and looked up below a cache folder.

    Args:
        cache_dir: root of the cache; None keeps nothing.
        say: told in a sentence if a tree changed since it was listed.
    """
    keeping = (
        None if cache_dir is None else _Keeping(cache_dir / "listings", say or (lambda _: None))
    )
    token = _KEEPING.set(keeping)
    try:
        yield
    finally:
        _KEEPING.reset(token)


def list_tree(root: Path) -> Tree:
    """All images below a folder; hidden files and folders are ignored, links are followed, loops end."""
    keeping = _KEEPING.get()
    if keeping is None:
        return _listed(root, {})
    key = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:32]
    path = keeping.folder / f"{key}.npz"
    kept = _read(path)
    started = time.time()
    tree = _listed(root, {name: one for name, one in kept.items() if _unchanged(root, name, one)})
    tree = _checked(root, tree, kept)
    if kept and (news := _difference(kept, tree)):
        keeping.say(f"{root} changed since it was listed: {news}.")
    newest = max(stamp[0] for one in tree.values() for stamp in one.folders.values())
    fresh = any(one is not kept.get(name) for name, one in tree.items()) or len(tree) < len(kept)
    large = sum(len(one.files) for one in tree.values()) >= KEPT_ROWS
    if fresh and large and newest < (started - SETTLED_SECONDS) * 1e9:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, _packed(tree))
        except OSError as error:
            keeping.say(f"the listing of {root} cannot be kept ({error}); it is made each time")
    return tree


def _listed(root: Path, known: Tree) -> Tree:
    """The tree, branches that are `known` taken as they are."""
    top = known.get("") or list_branch(root, deep=False)
    names = sorted(name for name in top.folders if name)
    fresh = [name for name in names if name not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(
            zip(fresh, pool.map(lambda name: list_branch(root / name), fresh), strict=True)
        )
    return {"": top, **{name: known.get(name) or found[name] for name in names}}


def _unchanged(root: Path, name: str, branch: Branch) -> bool:
    """Whether all folders of a branch are as they were."""
    here = str(root / name)
    wanted = branch.folders.items() if name else [("", branch.folders[""])]
    try:
        # A Path for each of a million files would take seconds, here and below.
        return all(stamp_of(os.stat(f"{here}/{path}")) == stamp for path, stamp in wanted)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False


def _checked(root: Path, tree: Tree, kept: Tree) -> Tree:
    """The tree, kept branches with a file that is not as it was listed again."""
    names = [name for name, one in tree.items() if one is kept.get(name)]
    everything = sum(len(tree[name].files) for name in names) <= CHECKED_ROWS
    deadline = time.monotonic() + CHECK_SECONDS
    random.shuffle(names)

    def changed(part: list[str]) -> list[str]:
        found = []
        for name in part:
            if not everything and time.monotonic() > deadline:
                break
            here, one = str(root / name), tree[name]
            facts = zip(one.files, one.sizes.tolist(), one.times.tolist(), strict=True)
            if any(_file_facts(f"{here}/{file}") != (size, at) for file, size, at in facts):
                found.append(name)
        return found

    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(changed, [names[i::_THREADS] for i in range(_THREADS)]))
    again = [name for part in parts for name in part]
    return tree | {name: list_branch(root / name, deep=bool(name)) for name in again}


def _file_facts(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _difference(before: Tree, after: Tree) -> str:
    """What changed, in words; "" if nothing did."""
    old, new = (
        {
            f"{name}/{file}" if name else file: facts
            for name, one in tree.items()
            if before.get(name) is not after.get(name)
            for file, *facts in zip(one.files, one.sizes.tolist(), one.times.tolist(), strict=True)
        }
        for tree in (before, after)
    )
    kinds = {
        "new": sorted(new.keys() - old.keys()),
        "gone": sorted(old.keys() - new.keys()),
        "changed": sorted(file for file in old.keys() & new.keys() if old[file] != new[file]),
    }
    return ", ".join(
        f"{len(files):,} files {kind} (first {files[0]})" for kind, files in kinds.items() if files
    )


def _packed(tree: Tree) -> bytes:
    buffer = BytesIO()
    stamps = [stamp for one in tree.values() for stamp in one.folders.values()]
    np.savez(
        buffer,
        branches=_text(list(tree)),
        counts=np.array([(len(one.files), len(one.folders)) for one in tree.values()], np.int64),
        files=_text([file for one in tree.values() for file in one.files]),
        sizes=np.concatenate([one.sizes for one in tree.values()]),
        times=np.concatenate([one.times for one in tree.values()]),
        folders=_text([folder for one in tree.values() for folder in one.folders]),
        stamps=np.array(stamps, np.int64),
    )
    return buffer.getvalue()


def _read(path: Path) -> Tree:
    """A kept tree; empty if there is none or its file is damaged."""
    try:
        parts = read_arrays(path)
        tree: Tree = {}
        files, folders = _names(parts["files"]), _names(parts["folders"])
        stamps = [tuple(stamp) for stamp in parts["stamps"].tolist()]
        if not len(files) == len(parts["sizes"]) == len(parts["times"]):
            return {}
        first = start = 0
        for name, (num_files, num_folders) in zip(
            _names(parts["branches"]), parts["counts"].tolist(), strict=True
        ):
            last, end = first + num_files, start + num_folders
            tree[name] = Branch(
                files[first:last],
                parts["sizes"][first:last],
                parts["times"][first:last],
                dict(zip(folders[start:end], stamps[start:end], strict=True)),
                kept=True,
            )
            first, start = last, end
        return tree
    except (DataError, ValueError, KeyError):
        return {}


def _text(names: list[str]) -> NDArray[np.uint8]:
    """File names hold every byte but zero and the slash, so zero ends each."""
    return np.frombuffer(b"".join(os.fsencode(name) + b"\0" for name in names), np.uint8)


def _names(text: NDArray[np.uint8]) -> list[str]:
    return os.fsdecode(text.tobytes()).split("\0")[:-1]
