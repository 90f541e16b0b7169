"""Where a set lies under the data root, and the words for a user whose copy is not there."""

from pathlib import Path

from sdssl_bench.datasets.spec import DatasetSpec
from sdssl_bench.datasets.specs import SPECS
from sdssl_bench.errors import DataError, UsageError, did_you_mean


def spec(name: str) -> DatasetSpec:
    """The entry of the table.

    Raises:
        UsageError: for an unknown name.
    """
    if name not in SPECS:
        raise UsageError(did_you_mean("dataset", name, [*SPECS, "folder:PATH"]))
    return SPECS[name]


def layout(name: str) -> str:
    """The expected tree of a set, its size and how it is officially obtained.

    Raises:
        UsageError: for an unknown name.
    """
    if name == "folder" or name.startswith("folder:"):
        return _FOLDER
    entry = spec(name)
    sizes = ", ".join(f"{count:,} {split}" for split, count in entry.sizes.items())
    lines = [
        f"{entry.title} ({entry.name}): {entry.num_classes:,} classes, {sizes} images.",
        "Expected under the data root (--data-root or SDSSL_BENCH_DATA):",
        *(f"  {line}" for line in entry.tree.strip("\n").splitlines()),
        f"Folders tried, in this order: {', '.join(f or 'the data root' for f in entry.folders)}.",
        obtain(entry),
        f"Cite: {entry.citation}. Licence: {entry.licence}.",
    ]
    return "\n".join(lines + [f"Note: {note}" for note in entry.notes])


_FOLDER = """folder:PATH: your own images, one folder per class.
  PATH/
    train/CLASS/*.jpg ..        classes = sorted folder names
    test/CLASS/*.jpg ..         or val/; test/ is used if both are there
Files: jpg, jpeg, png, bmp, gif, ppm, pgm, tif, tiff, webp, in the class folder or below it.
Hidden files and folders are ignored; symbolic links are followed."""


def obtain(entry: DatasetSpec) -> str:
    """How a set is officially obtained, with the checksums that are published."""
    files = [f"{file} (md5 {md5})" if md5 else file for file, md5 in entry.archives.items()]
    return f"Obtain from {entry.home}: {', '.join(files)}."


def require_root(data_root: Path | None) -> Path:
    """The data root, proven to be a folder.

    Raises:
        DataError: if it was never given or is none.
    """
    if data_root is None:
        raise DataError(
            "No data root is set: pass --data-root DIR or set SDSSL_BENCH_DATA to the folder that "
            "holds the datasets ('sdssl-bench data mini DIR' makes small ones to try)."
        )
    if not data_root.is_dir():
        raise DataError(f"Expected the data root {data_root} to be a folder, found none.")
    return data_root


def find_root(entry: DatasetSpec, data_root: Path | None) -> Path:
    """The first candidate folder that shows one of the set's files.

    Raises:
        DataError: if there is none; lists the candidates, the tree and how it is obtained.
    """
    root = require_root(data_root)
    candidates = [root / folder if folder else root for folder in entry.folders]
    for candidate in candidates:
        if any(_is_there(candidate, anchor) for anchor in entry.anchors):
            return candidate
    there = [c for c in candidates if c != root and c.is_dir()]
    hint = f"\n{there[0]} exists but has none of {', '.join(entry.anchors)}." if there else ""
    looked = "\n".join(f"  {candidate}" for candidate in candidates)
    raise DataError(
        f"{entry.title} ({entry.name}) was not found. Looked for {' or '.join(entry.anchors)} in\n"
        f"{looked}{hint}\nExpected:\n{_indented(entry.tree)}\n{obtain(entry)}"
    )


def _is_there(folder: Path, anchor: str) -> bool:
    path = folder / anchor
    return path.is_dir() if anchor.endswith("/") else path.is_file()


def _indented(tree: str) -> str:
    return "\n".join(f"  {line}" for line in tree.strip("\n").splitlines())
