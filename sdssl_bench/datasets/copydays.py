"""INRIA Copydays in its official layout (Douze et al. 2009), or a set made by `data copydays`.

157 originals; blocks of copies: strong (229), jpegqual/Q and crops/P (157 each). A file's number tells
its original: 100 * (number // 100). Every copy is matched by that number, never by its place in a
listing, so a missing file is an error and cannot shift the others.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.images_on_disk import image_files, subset
from sdssl_bench.datasets.inspection import MARKER
from sdssl_bench.datasets.layouts import require_root
from sdssl_bench.datasets.scan import list_folder
from sdssl_bench.errors import DataError
from sdssl_bench.task import limited_indices

NAME = "copydays"
FOLDERS = ("copydays", "Copydays", "")
JPEG_QUALITIES = (3, 5, 8, 10, 15, 20, 30, 50, 75)
CROP_PERCENTS = (10, 15, 20, 30, 40, 50, 60, 70, 80)
ONE_EACH = (
    *(f"jpegqual/{quality}" for quality in JPEG_QUALITIES),
    *(f"crops/{percent}" for percent in CROP_PERCENTS),
)
"""Blocks with exactly one copy of every original."""
BLOCKS = ("original", "strong", *ONE_EACH)
NUM_ORIGINALS, NUM_STRONG = 157, 229
MANIFEST = "copydays-attacks.json"
"""Written by `data copydays`; its presence tells a made set from INRIA's."""
LAYOUT = f"""INRIA Copydays ({NAME}): {NUM_ORIGINALS} originals, {NUM_STRONG} strong copies, \
{len(ONE_EACH)} x {NUM_ORIGINALS} jpeg and crop copies.
Expected under the data root (--data-root or SDSSL_BENCH_DATA):
  copydays/
    original/200000.jpg ..          {NUM_ORIGINALS} files, numbers that end in 00
    strong/200001.jpg ..            {NUM_STRONG} files
    jpegqual/{{{",".join(map(str, JPEG_QUALITIES))}}}/200000.jpg ..   {NUM_ORIGINALS} each
    crops/{{{",".join(map(str, CROP_PERCENTS))}}}/200000.jpg ..  {NUM_ORIGINALS} each
Folders tried, in this order: {", ".join(f or "the data root" for f in FOLDERS)}.
Obtain copydays_original.tar.gz, copydays_strong.tar.gz, copydays_jpeg.tar.gz and copydays_crop.tar.gz
from https://thoth.inrialpes.fr/~jegou/data.php.html (the address has moved more than once).
Cite: Douze et al. 2009, Evaluation of GIST descriptors for web-scale image search. Research use.
'sdssl-bench data copydays ORIGINALS OUT' makes a set of the same layout from any photographs."""
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

    root: Path
    kind: str
    files: dict[str, list[str]]
    problems: tuple[str, ...]
    manifest: dict[str, Any]


def inspect(data_root: Path | None) -> Found:
    """Find a copy and say what it lacks.

    Raises:
        DataError: if it is not there, or a file's name is no number.
    """
    root = _find(data_root)
    manifest = read_manifest(root)
    mini = any((folder / MARKER).is_file() for folder in (root.absolute(), root.absolute().parent))
    kind = "mini" if mini else "attacks" if manifest else "official"
    files = {block: _files(root / block) for block in BLOCKS}
    return Found(root, kind, files, tuple(_problems(files, kind, manifest=manifest)), manifest)


def load(*, data_root: Path | None, allow_partial: bool = False) -> CopydaysData:
    """The set, verified.

    Args:
        data_root: holds copydays/, or is it.
        allow_partial: leave out blocks that are missing and copies of originals that are; what is
            left is still matched by number.

    Raises:
        DataError: if anything is missing, naming it.
    """
    found = inspect(data_root)
    if found.problems and not allow_partial:
        lines = "\n".join(f"  {problem}" for problem in found.problems)
        raise DataError(
            f"Copydays in {found.root} is not complete:\n{lines}\nExtract the archives again, or pass "
            f"--allow-partial: it scores what is there and says so in the record.\n{LAYOUT}"
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
            raise DataError(f"Copydays in {found.root} has no original at all.\n{LAYOUT}")
    if found.manifest:
        notes["attacks"] = {k: v for k, v in found.manifest.items() if k != "files"}
    images = image_files(NAME, "copies", root=found.root, names=names)
    return CopydaysData(
        name=NAME if found.kind != "attacks" else f"{NAME}-attacks",
        variant="partial"
        if found.problems
        else "folder"
        if found.kind == "attacks"
        else found.kind,
        root=found.root,
        images=images,
        rows=rows,
        targets=targets,
        fingerprint=images.fingerprint,
        notes=notes,
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


def _find(data_root: Path | None) -> Path:
    root = require_root(data_root)
    candidates = [root / folder if folder else root for folder in FOLDERS]
    for candidate in candidates:
        if (candidate / "original").is_dir():
            return candidate
    looked = "\n".join(f"  {candidate}" for candidate in candidates)
    raise DataError(f"Copydays was not found. Looked for original/ in\n{looked}\n{LAYOUT}")


def _files(folder: Path) -> list[str]:
    """JPEG files by name; empty files count as missing."""
    return [
        entry.name
        for entry in list_folder(folder)
        if entry.name.lower().endswith((".jpg", ".jpeg")) and entry.stat().st_size > 0
    ]


def _problems(files: dict[str, list[str]], kind: str, *, manifest: dict[str, Any]) -> Sequence[str]:
    problems = []
    if kind == "official":
        for block, count in (("original", NUM_ORIGINALS), ("strong", NUM_STRONG)):
            if len(files[block]) != count:
                problems.append(f"{block}: expected {count} files, found {len(files[block])}")
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
