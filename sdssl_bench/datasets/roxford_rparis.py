"""Revisited Oxford and Paris in their official layout (Radenovic et al. 2018), verified.

roxford5k: 4,993 images, 70 queries. rparis6k: 6,322 images, 70 queries. Query images are files
beside the database's and not among them.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.ground_truth import LABELS, GroundTruth, read_ground_truth
from sdssl_bench.datasets.images_on_disk import image_files, list_images, subset
from sdssl_bench.datasets.inspection import MARKER
from sdssl_bench.datasets.layouts import require_root
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.records import canonical_json

SIZES = {
    "roxford5k": {"queries": 70, "database": 4993},
    "rparis6k": {"queries": 70, "database": 6322},
}
NAMES = tuple(SIZES)
_ARCHIVES = {
    "roxford5k": "oxbuild_images-v1.tgz from https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/",
    "rparis6k": "paris_1-v1.tgz and paris_2-v1.tgz from "
    "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/",
}


def folders(name: str) -> tuple[str, ...]:
    """Where below the data root the set may lie, in order of preference."""
    return (name, f"revisitop/{name}", f"datasets/{name}", f"revisitop/data/datasets/{name}", "")


def layout(name: str) -> str:
    """The expected tree, and how the set is officially obtained."""
    size = SIZES[name]
    return f"""Revisited {"Oxford" if name == "roxford5k" else "Paris"} ({name}): \
{size["database"]:,} database images, {size["queries"]} queries.
Expected under the data root (--data-root or SDSSL_BENCH_DATA):
  {name}/
    gnd_{name}.pkl       ground truth; or gnd_{name}.json ('sdssl-bench data convert-gnd')
    jpg/IMAGE.jpg              all images, flat or in folders
Folders tried, in this order: {", ".join(f or "the data root" for f in folders(name))}.
Obtain gnd_{name}.pkl from http://cmp.felk.cvut.cz/revisitop/ and {_ARCHIVES[name]}.
Cite: Radenovic et al. 2018, Revisiting Oxford and Paris. Licence: Flickr photographs, research use.
Note: the -v1 archives (June 2022) have blurred faces; older published numbers used the originals."""


@dataclass(frozen=True, eq=False)
class RetrievalData:
    """Queries and database with their ground truth.

    Attributes:
        name: "roxford5k" or "rparis6k".
        variant: "official", "mini" or "partial".
        truth: in the order of `queries` and `database`.
        fingerprint: sha256 over images and ground truth.
        notes: facts to record with every number.
    """

    name: str
    variant: str
    root: Path
    truth: GroundTruth
    queries: ImageSet
    database: ImageSet
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Found:
    """A copy as it is on disk.

    Attributes:
        expected: {"queries", "database"}: official numbers, or those of the miniature.
        paths: image name -> file relative to the root, of the images that are there.
        problems: what is missing, in words.
    """

    name: str
    root: Path
    file: Path
    truth: GroundTruth
    expected: dict[str, int]
    mini: bool
    paths: dict[str, str]
    problems: tuple[str, ...]


def inspect(name: str, data_root: Path | None) -> Found:
    """Find a copy and say what it lacks.

    Raises:
        UsageError: for an unknown name.
        DataError: if the ground truth is not there or not right.
    """
    if name not in SIZES:
        raise UsageError(did_you_mean("retrieval set", name, NAMES))
    root, file = _find(name, data_root)
    truth = read_ground_truth(file)
    expected, mini = _expected(name, root)
    problems = [
        f"{file.name} lists {found:,} {part} images, expected {expected[part]:,}"
        for part, found in (("database", len(truth.database)), ("queries", len(truth.queries)))
        if found != expected[part]
    ]
    paths = _paths(root)
    for part, names in (("database", truth.database), ("queries", truth.queries)):
        missing = [image for image in names if image not in paths]
        if missing:
            problems.append(
                f"{part}: {len(missing):,} of {len(names):,} images are missing or empty in "
                f"{root / 'jpg'}, first {', '.join(missing[:3])}"
            )
    return Found(name, root, file, truth, expected, mini, paths, tuple(problems))


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> RetrievalData:
    """The set, verified.

    Args:
        name: one of NAMES.
        data_root: holds the set's folder, or is it.
        allow_partial: restrict queries, database and ground truth to the images that are there.

    Raises:
        DataError: if anything is missing, naming it.
    """
    found = inspect(name, data_root)
    truth, notes = found.truth, {}
    if found.problems:
        keep = {
            part: np.flatnonzero([image in found.paths for image in names]).astype(np.int64)
            for part, names in (("queries", truth.queries), ("database", truth.database))
        }
        if not allow_partial or not all(map(len, keep.values())):
            lines = "\n".join(f"  {problem}" for problem in found.problems)
            raise DataError(
                f"{name} in {found.root} is incomplete:\n{lines}\nExtract the archives again, or pass "
                "--allow-partial: it restricts the ground truth to the images that are there and "
                f"says so in the record.\n{layout(name)}"
            )
        truth = truth.restricted(**keep)
        notes = {
            "partial_of": "mini" if found.mini else "official",
            "expected": found.expected,
            "found": {"queries": len(truth.queries), "database": len(truth.database)},
        }
    variant = "partial" if found.problems else "mini" if found.mini else "official"
    return assemble(name, truth, found, variant=variant, notes=notes)


def assemble(
    name: str, truth: GroundTruth, found: Found, *, variant: str, notes: dict[str, Any]
) -> RetrievalData:
    """The images of a ground truth that are all there, with their fingerprint."""
    queries, database = (
        image_files(name, part, root=found.root, names=[found.paths[image] for image in names])
        for part, names in (("queries", truth.queries), ("database", truth.database))
    )
    digest = hashlib.sha256(
        canonical_json([truth.to_json(), queries.fingerprint, database.fingerprint]).encode()
    )
    return RetrievalData(
        name, variant, found.root, truth, queries, database, digest.hexdigest(), notes
    )


def limited(
    data: RetrievalData, *, queries: NDArray[np.int64], database: NDArray[np.int64]
) -> RetrievalData:
    """Some queries and images of a set, for a trial run."""
    return RetrievalData(
        data.name,
        data.variant,
        data.root,
        data.truth.restricted(queries=queries, database=database),
        subset(data.queries, queries),
        subset(data.database, database),
        data.fingerprint,
        data.notes,
    )


def without_positives(truth: GroundTruth) -> dict[str, int]:
    """Queries that each protocol leaves out, by protocol."""
    has = {label: np.array([len(rows) > 0 for rows in truth.labels[label]]) for label in LABELS}
    kept = {"E": has["easy"], "M": has["easy"] | has["hard"], "H": has["hard"]}
    return {name: int((~mask).sum()) for name, mask in kept.items()}


def _find(name: str, data_root: Path | None) -> tuple[Path, Path]:
    root = require_root(data_root)
    candidates = [root / folder if folder else root for folder in folders(name)]
    for candidate in candidates:
        for ending in ("pkl", "json"):
            file = candidate / f"gnd_{name}.{ending}"
            if file.is_file():
                return candidate, file
    looked = "\n".join(f"  {candidate}" for candidate in candidates)
    raise DataError(
        f"{name} was not found. Looked for gnd_{name}.pkl or .json in\n{looked}\n{layout(name)}"
    )


def _expected(name: str, root: Path) -> tuple[dict[str, int], bool]:
    for folder in (root.absolute(), *root.absolute().parents):
        marker = folder / MARKER
        if marker.is_file():
            try:
                entry = json.loads(marker.read_text("utf-8"))["datasets"][name]
                return {"queries": int(entry["test"]), "database": int(entry["train"])}, True
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{marker} marks {root} as miniature data but does not say what {name} has. Write "
                    "the miniatures again ('sdssl-bench data mini DIR'), or keep other data elsewhere."
                ) from error
    return dict(SIZES[name]), False


def _paths(root: Path) -> dict[str, str]:
    """Image name -> path of the non-empty files below jpg/, wherever they are nested."""
    folder = root / "jpg"
    if not folder.is_dir():
        return {}
    files = [f for f in list_images(folder) if f.lower().endswith((".jpg", ".jpeg"))]
    counts = Counter(_stem(file) for file in files)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{folder}: expected every image once, found {twice[0]} in {counts[twice[0]]} places. "
            "Remove the copies."
        )
    images = image_files("", "", root=folder, names=files)
    return {_stem(file): f"jpg/{file}" for file in images.names}


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]
