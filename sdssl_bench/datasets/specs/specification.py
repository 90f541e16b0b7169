"""What describes one set, of whatever kind: plain data and the words for a user; imports nothing heavy.

Functions of a set are named by text, "module:function", and imported when they are called.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from sdssl_bench.errors import DataError

KINDS = {
    "classification": "sdssl_bench.datasets.loading",
    "retrieval": "sdssl_bench.datasets.readers.roxford_rparis",
    "copies": "sdssl_bench.datasets.readers.copydays",
    "video": "sdssl_bench.datasets.readers.davis",
    "masks": "sdssl_bench.datasets.readers.masks",
}
"""What a set is made for -> the module whose `load` and `check` read it."""
FOLDERS = {"classification": "train", "masks": "SegmentationClass", "video": "JPEGImages/480p"}
"""Kind -> the part by which a folder of one's own is known to be of it; the first that is there counts."""
MARKER = "sdssl-bench-mini.json"
"""Written by `data mini`: what a complete miniature of each set has."""


class NotFoundError(DataError):
    """There is no copy of the set where it was looked for."""


@dataclass(frozen=True)
class Miniature:
    """How `data mini` makes a small set in the official layout.

    Attributes:
        folder: the folder that `write` makes, directly below the data root.
        write: "module:function", called with the data root and a `studio.Studio`.
        first: index of its first photograph; sets start at different ones.
        classes: classes, landmarks, or photographs in use.
        train, test: images per class: of a retrieval set in the database, and queries.
    """

    folder: str
    write: str
    first: int
    classes: int
    train: int = 0
    test: int = 0


@dataclass(frozen=True)
class DatasetSpec:
    """What an official, complete copy of a set is, how it is read, and where it comes from.

    Attributes:
        name: as the command line takes it.
        title: in full.
        kind: one of KINDS: which tasks take it.
        sizes: items of each part: images of "train" (what probes train on) and "test", of "queries" and
            "database", of each block of copies, or frames of each sequence.
        citation: paper.
        licence: terms, in a few words.
        home: official page.
        archives: official file name -> md5, "" where none is published.
        downloads: address that anybody may fetch -> folder below the data root where it is extracted, or
            put if it is no archive; "" is the root itself. Its checksum is that in `archives`.
        steps: what else there is to do by hand, as commands below the data root.
        folders: where below the data root it may lie, in order of preference; "" is the root itself.
        anchors: files or folders ("x/") of which one shows that a folder is this set.
        tree: the expected tree, as printed.
        reader: "module:function", called with the set's folder: of a classification set with the number
            of classes too, returns a `listing.Listing`; of masks returns a `mask_layouts.Layout`.
        num_classes: C of a classification set or of masks; objects of all videos.
        headline: of a classification set: "top1" or "mean_per_class".
        heading: title in a narrow column; the title if empty.
        holds: what a complete copy has, in words; made of the numbers for a classification set.
        val: images of the train split that are officially validation.
        file_md5: md5 of extracted list files, where published.
        fewest: images of the smallest official class folder by split, where that is known and the
            classes are folders.
        notes: facts that belong beside every number.
        tolerated: image files that are damaged in the official archive.
        mini: its miniature, if there is one.
    """

    name: str
    title: str
    kind: str
    sizes: Mapping[str, int]
    citation: str
    licence: str
    home: str
    archives: Mapping[str, str]
    folders: tuple[str, ...]
    anchors: tuple[str, ...]
    tree: str
    reader: str = ""
    num_classes: int = 0
    headline: str = ""
    heading: str = ""
    holds: str = ""
    val: int = 0
    file_md5: Mapping[str, str] = field(default_factory=dict)
    fewest: Mapping[str, int] = field(default_factory=dict)
    downloads: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tolerated: frozenset[str] = frozenset()
    mini: Miniature | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind is one of {', '.join(KINDS)}, not '{self.kind}'")
        if self.kind == "classification" and not (
            {*self.sizes} == {"train", "test"}
            and self.num_classes > 0
            and self.reader
            and self.headline in ("top1", "mean_per_class")
        ):
            raise ValueError(
                f"{self.name}: a classification set has sizes of train and test, num_classes, a reader, "
                "and the headline top1 or mean_per_class"
            )

    def load(self, *, data_root: Path | None, allow_partial: bool = False) -> Any:
        """The verified set as tasks of its kind take it; see `load` of the module in KINDS."""
        load = resolve_name(f"{KINDS[self.kind]}:load")
        return load(self.name, data_root=data_root, allow_partial=allow_partial)

    @property
    def contents(self) -> str:
        """What a complete copy has, in one line."""
        if self.holds:
            return self.holds
        sizes = ", ".join(f"{count:,} {split}" for split, count in self.sizes.items())
        return f"{self.num_classes:,} classes, {sizes} images"

    @property
    def obtain(self) -> str:
        """How it is officially obtained, with the checksums that are published."""
        files = [f"{file} (md5 {md5})" if md5 else file for file, md5 in self.archives.items()]
        return f"Obtain from {self.home}: {', '.join(files)}."

    @property
    def by_hand(self) -> list[str]:
        """How to get it, as commands: the one of this suite, and the steps that it leaves."""
        fetch = [f"  sdssl-bench data download {self.name} --data-root ."] if self.downloads else []
        if not fetch and not self.steps:
            return []
        return ["In the data root:", *fetch, *(f"  {step}" for step in self.steps)]

    @property
    def layout(self) -> str:
        """The expected tree, its size and how it is officially obtained."""
        lines = [
            f"{self.title} ({self.name}): {self.contents}.",
            "Expected under the data root (--data-root or SDSSL_BENCH_DATA):",
            *_indented(self.tree),
            f"Folders tried, in this order: {', '.join(f or 'the data root' for f in self.folders)}.",
            self.obtain,
            *self.by_hand,
            f"Cite: {self.citation}. Licence: {self.licence}.",
        ]
        return "\n".join(lines + [f"Note: {note}" for note in self.notes])

    def find(self, data_root: Path | None) -> tuple[Path, str]:
        """The first candidate folder that shows one of the anchors, and which.

        Raises:
            DataError: if there is none; lists the candidates, the tree and how it is obtained.
        """
        root = require_root(data_root)
        candidates = [root / folder if folder else root for folder in self.folders]
        for candidate in candidates:
            for anchor in self.anchors:
                path = candidate / anchor
                if path.is_dir() if anchor.endswith("/") else path.is_file():
                    return candidate, anchor
        there = [c for c in candidates if c != root and c.is_dir()]
        hint = f"\n{there[0]} exists but has none of {', '.join(self.anchors)}." if there else ""
        looked = "\n".join(f"  {candidate}" for candidate in candidates)
        tree = "\n".join(_indented(self.tree))
        raise NotFoundError(
            f"{self.title} ({self.name}) was not found. Looked for {' or '.join(self.anchors)} in\n"
            f"{looked}{hint}\nExpected:\n{tree}\n{self.obtain}"
        )

    def miniature_at(self, root: Path) -> tuple[Path, dict[str, int]] | None:
        """The marker above a copy that `data mini` wrote, and what it says the set has; else None.

        Raises:
            DataError: if there is a marker and it does not name the set.
        """
        for folder in (root.absolute(), *root.absolute().parents):
            marker = folder / MARKER
            if not marker.is_file():
                continue
            try:
                entry = json.loads(marker.read_text("utf-8"))["datasets"][self.name]
                return marker, {key: int(entry[key]) for key in ("classes", "train", "test")}
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{marker} marks {root} as miniature data but does not say what {self.name} has. "
                    "Write the miniatures again ('sdssl-bench data mini DIR'), or keep other data "
                    "elsewhere."
                ) from error
        return None


def require_root(data_root: Path | None) -> Path:
    """The data root, proven to be a folder.

    Raises:
        DataError: if it was never given or is none.
    """
    if data_root is None:
        raise NotFoundError(
            "No data root is set: pass --data-root DIR or set SDSSL_BENCH_DATA to the folder that "
            "holds the datasets ('sdssl-bench data mini DIR' makes small ones to try)."
        )
    if not data_root.is_dir():
        raise DataError(f"Expected the data root {data_root} to be a folder, found none.")
    return data_root


def _indented(tree: str) -> list[str]:
    return [f"  {line}" for line in tree.strip("\n").splitlines()]
