"""Start of a run on a large image folder: the first listing, and the ones after it.

    python benchmarks/million_files.py [--classes 1000] [--images 250] [--root FOLDER]

Makes a tree of tiny files, a folder a class, loads it with an empty cache, again, and after one file was
added and one overwritten in place. 275,000 files on two cores and a file system whose `stat` takes 8 us:
every load took 4.5 to 5.5 s before listings were kept; since then the first takes 4.1 s, the next 1.7 s.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from sdssl_bench.datasets import load


def make(root: Path, classes: int, images: int) -> None:
    """`train/` and a tenth of it as `val/`."""
    for split, count in (("train", images), ("val", max(images // 10, 1))):
        for number in range(classes):
            folder = root / split / f"n{number:08d}"
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"n{number:08d}_{split}_{i:06d}.JPEG").write_bytes(b"x")
    past = time.time() - 3600
    for here, _, _ in os.walk(root):
        os.utime(here, (past, past))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        root = Path(folder) / "set"
        make(root, options.classes, options.images)
        added, changed = (root / "train" / f"n{i:08d}" for i in (0, 1))
        run("first listing", root)
        run("nothing changed", root)
        (added / "new.JPEG").write_bytes(b"x")
        run("one file added", root)
        past = time.time() - 3600
        os.utime(added, (past, past))
        run("kept again", root)
        next(changed.iterdir()).write_bytes(b"xyz")
        run("one file overwritten in place", root)


def run(what: str, root: Path) -> None:
    said: list[str] = []
    started = time.perf_counter()
    data = load(f"folder:{root}", data_root=None, cache_dir=root.parent / "cache", say=said.append)
    seconds = time.perf_counter() - started
    total = len(data.train) + len(data.test)
    print(f"{what:<32} {total:>9,} files  {seconds:6.2f} s")
    for line in said:
        print(f"  {line.replace(str(root.parent), '..')}")


if __name__ == "__main__":
    main()
