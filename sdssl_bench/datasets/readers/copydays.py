"""INRIA Copydays in its official layout (Douze et al. 2009), or a set made by `data copydays`.

157 originals; blocks of copies: strong (229), jpegqual/Q and crops/P (157 each). A file's number tells
its original: 100 * (number // 100). Every copy is matched by that number, never by its place in a
listing, so a missing file is an error and cannot shift the others.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.catalogue import spec
from sdssl_bench.datasets.checking import CheckReport, outcome, unreadable_images
from sdssl_bench.datasets.files import list_folder
from sdssl_bench.datasets.readers.images_on_disk import image_files, subset
from sdssl_bench.datasets.specs.retrieval_video import COPYDAYS
from sdssl_bench.datasets.specs.specification import DatasetSpec
from sdssl_bench.errors import DataError
from sdssl_bench.task import limited_indices

BLOCKS = tuple(COPYDAYS.sizes)
ONE_EACH = BLOCKS[2:]
"""Blocks with exactly one copy of every original; the first two are "original" and "strong"."""
MANIFEST = "copydays-attacks.json"
"""Written by `data copydays`; its presence tells a made set from INRIA's."""
_FILE = re.compile(r"(\d+)\.jpe?g", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class CopydaysData:
    """Blocks of copies and what each is a copy of.

    Attributes:
        name: "copydays", or "copydays-attacks" for a set made by `data copydays`.
        variant: "official", "mini", "partial" or "folder" (a made set).
        images: all files, block after block.
        rows: block -> [N] rows of `images`; "original" is the database.
        targets: block -> [N] which of "original" each is a copy of.
        fingerprint: sha256 over all blocks.
        notes: facts to record with every number.
    """

    name: str
    variant: str
    root: Path
    images: ImageSet
    rows: dict[str, NDArray[np.int64]]
    targets: dict[str, NDArray[np.int64]]
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Found:
    """A copy as it is on disk.

    Attributes:
        kind: "official", "mini" or "attacks".
        files: block -> file names, sorted.
        problems: what is missing or does not fit, in words.
    """

    entry: DatasetSpec
    root: Path
    kind: str
    files: dict[str, list[str]]
    problems: tuple[str, ...]
    manifest: dict[str, Any]

    @property
    def variant(self) -> str:
        """What is recorded: "official", "mini", "partial" or "folder" (a made set)."""
        made = "folder" if self.kind == "attacks" else self.kind
        return "partial" if self.problems else made


def inspect(name: str, data_root: Path | None) -> Found:
    """Find a copy and say what it lacks.

    Raises:
        UsageError: for an unknown name.
        DataError: if it is not there, or a file's name is no number.
    """
    entry = spec(name, kind="copies")
    root, _ = entry.find(data_root)
    manifest = read_manifest(root)
    kind = "mini" if entry.miniature_at(root) else "attacks" if manifest else "official"
    files = {block: _files(root / block) for block in BLOCKS}
    problems = tuple(_problems(files, kind, sizes=entry.sizes, manifest=manifest))
    return Found(entry, root, kind, files, problems, manifest)


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> CopydaysData:
    """The set, verified.

    Args:
        name: of a set of copies.
        data_root: holds copydays/, or is it.
        allow_partial: leave out blocks that are missing and copies of originals that are; what is
            left is still matched by number.

    Raises:
        DataError: if anything is missing, naming it.
    """
    found = inspect(name, data_root)
    layout = found.entry.layout
    if found.problems and not allow_partial:
        lines = "\n".join(f"  {problem}" for problem in found.problems)
        raise DataError(
            f"{found.entry.title} in {found.root} is not complete:\n{lines}\nExtract the archives "
            "again, or pass --allow-partial: it scores what is there and says so in the record.\n"
            + layout
        )
    names: list[str] = []
    rows, targets, left_out = {}, {}, 0
    numbers = {number_of(file): row for row, file in enumerate(found.files["original"])}
    for block, files in found.files.items():
        known = [file for file in files if original_of(file) in numbers]
        left_out += len(files) - len(known)
        if known:
            rows[block] = np.arange(len(names), len(names) + len(known))
            targets[block] = np.array([numbers[original_of(file)] for file in known], np.int64)
            names += [f"{block}/{file}" for file in known]
    notes: dict[str, Any] = {}
    if found.problems:
        absent = [block for block in BLOCKS if block not in rows]
        notes["partial"] = {"blocks_absent": absent, "copies_without_original": left_out}
        if "original" in absent:
            raise DataError(
                f"{found.entry.title} in {found.root} has no original at all.\n{layout}"
            )
    if found.manifest:
        notes["attacks"] = {k: v for k, v in found.manifest.items() if k != "files"}
    images = image_files(name, "copies", root=found.root, names=names)
    return CopydaysData(
        name=name if found.kind != "attacks" else f"{name}-attacks",
        variant=found.variant,
        root=found.root,
        images=images,
        rows=rows,
        targets=targets,
        fingerprint=images.fingerprint,
        notes=notes,
    )


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """The blocks of Copydays, or of a made set; see `check.check`.

    Raises:
        DataError: if there is no copy, or no original in it.
    """
    found = inspect(name, data_root)
    data = load(name, data_root=data_root, allow_partial=True)
    kinds = {
        "official": found.entry.title,
        "mini": "a miniature made of attacks",
        "attacks": f"a set made by 'data copydays', not {found.entry.title}",
    }
    sizes = {block: len(rows) for block, rows in data.rows.items()}
    return outcome(
        name,
        variant=data.variant,
        root=found.root,
        verified=(
            kinds[found.kind],
            f"{sizes['original']} originals, {sizes.get('strong', 0)} strong copies, "
            f"{sum(sizes.values()):,} images in {len(sizes)} of {len(BLOCKS)} blocks",
            "every copy that is counted has its original, by number",
        ),
        problems=found.problems,
        unreadable=unreadable_images((data.images,), num_workers) if decode else None,
    )


def limited(data: CopydaysData, limit: int) -> CopydaysData:
    """The first `limit` originals, spread evenly, and their copies."""
    originals = limited_indices(len(data.rows["original"]), limit)
    keep = {block: np.flatnonzero(np.isin(t, originals)) for block, t in data.targets.items()}
    members = np.concatenate([data.rows[block][kept] for block, kept in keep.items()])
    ends = np.cumsum([len(kept) for kept in keep.values()])[:-1]
    rows = dict(zip(keep, np.split(np.arange(len(members)), ends), strict=True))
    targets = {b: np.searchsorted(originals, data.targets[b][kept]) for b, kept in keep.items()}
    images = subset(data.images, members)
    return replace(data, images=images, rows=rows, targets=targets)


def number_of(file: str) -> int:
    """The number a file is named by.

    Raises:
        DataError: if its name is no number with a JPEG ending.
    """
    match = _FILE.fullmatch(file.rpartition("/")[2])
    if match is None:
        raise DataError(f"Expected Copydays files to be named by number, found '{file}'.")
    return int(match[1])


def original_of(file: str) -> int:
    """Number of the original a copy was made from.

    >>> original_of("strong/200103.jpg")
    200100
    """
    return number_of(file) // 100 * 100


def read_manifest(root: Path) -> dict[str, Any]:
    """What `data copydays` wrote about the set, {} for INRIA's.

    Raises:
        DataError: if it cannot be read.
    """
    path = root / MANIFEST
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if not isinstance(manifest, dict) or "files" not in manifest:
            raise ValueError("no list of files")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); make the set again.") from error
    return manifest


def _files(folder: Path) -> list[str]:
    """JPEG files by name; empty files count as missing."""
    return [
        entry.name
        for entry in list_folder(folder)
        if entry.name.lower().endswith((".jpg", ".jpeg")) and entry.stat().st_size > 0
    ]


def _problems(
    files: dict[str, list[str]],
    kind: str,
    *,
    sizes: Mapping[str, int],
    manifest: dict[str, Any],
) -> Sequence[str]:
    problems = []
    if kind == "official":
        for block in ("original", "strong"):
            if len(files[block]) != sizes[block]:
                problems.append(
                    f"{block}: expected {sizes[block]} files, found {len(files[block])}"
                )
    else:
        for block in BLOCKS:
            listed = {Path(f).name for f in manifest.get("files", {}) if f.startswith(block + "/")}
            gone = sorted(listed - set(files[block]))
            if gone:
                problems.append(f"{block}: {len(gone)} listed files are missing, first {gone[0]}")
    originals = {number_of(file) for file in files["original"]}
    if len(originals) < len(files["original"]):
        problems.append("original: two files have the same number")
    for block in BLOCKS[1:]:
        copied = [original_of(file) for file in files[block]]
        stray = sorted(set(copied) - originals)
        if stray:
            problems.append(f"{block}: there is no original {stray[0]} ({len(stray)} such numbers)")
        if block in ONE_EACH:
            lacking = sorted(originals - set(copied))
            if lacking:
                problems.append(
                    f"{block}: no copy of {len(lacking)} of {len(originals)} originals, first "
                    f"{lacking[0]}"
                )
            if len(set(copied)) < len(copied):
                problems.append(f"{block}: two files are copies of one original")
    odd = [number for number in sorted(originals) if number % 100]
    if odd:
        problems.append(f"original: expected numbers that end in 00, found {odd[0]}")
    return problems
