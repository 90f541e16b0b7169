"""Retrieval and copy-detection scores of features that were made elsewhere, from npz files.

sdssl-bench score retrieval --features f.npz --gnd gnd_roxford5k.pkl --json
sdssl-bench score copydays --features f.npz --json
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import BLOCKS, ONE_EACH, number_of, original_of, read_ground_truth
from sdssl_bench.errors import DataError, TaskError, UsageError, did_you_mean
from sdssl_bench.metrics import KS, ProtocolScores
from sdssl_bench.retrieval.copy_detection import CopyFeatures, score_copies
from sdssl_bench.retrieval.revisited import score_layer
from sdssl_bench.retrieval.whitening import PRESETS
from sdssl_bench.rounding import percent
from sdssl_bench.system import Column, FittedTable, read_arrays

Arrays = Mapping[str, NDArray[Any]]


def score_retrieval(features: Path, ground_truth: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Easy, Medium and Hard scores of stored features.

    Args:
        features: npz with `queries` [Q, D] and `database` [N, D], rows in the order of `qimlist`
            and `imlist`, or [L, Q, D] and [L, N, D].
        ground_truth: gnd_*.pkl or .json.
        device: where similarities are computed.

    Returns:
        {"E": {"mAP", "mP@1", "mP@5", "mP@10"}, "M": ..., "H": ...}, fractions, null where no query
        has a positive; with a layer dimension {"layers": [{"layer": 1, "E": ...}, ...]}.

    Raises:
        DataError: if a file is missing or does not hold what it should.
        TaskError: for features that are not finite.
    """
    truth = read_ground_truth(ground_truth)
    arrays = read_arrays(features)
    queries, database = (_features(arrays, name, features) for name in ("queries", "database"))
    expected = {"queries": len(truth.queries), "database": len(truth.database)}
    for name, array in (("queries", queries), ("database", database)):
        if array.shape[-2] != expected[name]:
            raise DataError(
                f"{features}: {name} must have one row for each of the {expected[name]:,} images of "
                f"{ground_truth.name}, in its order; found {array.shape[-2]:,}."
            )
    _same_form(features, {"queries": queries, "database": database})
    scores = [
        {
            name: _means(found)
            for name, found in score_layer(q, [d], truth, device=device).protocols[-1].items()
        }
        for q, d in zip(_layers(queries), _layers(database), strict=True)
    ]
    return _by_layer(scores, has_layers=queries.ndim == 3)


def _means(scores: ProtocolScores) -> dict[str, float | None]:
    if not scores.num_queries:
        return dict.fromkeys(("mAP", *(f"mP@{k}" for k in KS)))
    return dict(scores.means())


def score_copydays(
    features: Path,
    *,
    preset: str = "dino",
    top_k: int = 20,
    backend: str = "auto",
    device: str = "cpu",
) -> dict[str, Any]:
    """Copy-detection scores of stored features, per block.

    Args:
        features: npz with `original` [N, D] and any of `strong`, `jpegqual/3`, ..., `crops/80`, each
            with its file names in `<block>_names`; `distractors` and `whitening` if wanted, whose
            `_names` are optional. All arrays may have a layer dimension in front.
        preset: whitening "dino" or "centred", used if the file has `whitening`.
        top_k: length of each query's list.
        backend: search by "auto", "torch" or "faiss".
        device: where it searches.

    Returns:
        {block: {"mAP@20", "mAP", "muAP"}, "distractors": count, "whitening": preset or "none"};
        with a layer dimension {"layers": [{"layer": 1, ...}, ...]}.

    Raises:
        UsageError: for an unknown preset.
        DataError: if the file does not hold what it should.
        TaskError: for features that are not finite.
    """
    if preset not in PRESETS:
        raise UsageError(did_you_mean("whitening", preset, PRESETS))
    if top_k < 1:
        raise UsageError(f"The length of a list is at least 1, found {top_k}.")
    arrays = read_arrays(features)
    extra = [name for name in ("distractors", "whitening") if name in arrays]
    blocks = [name for name in BLOCKS if name in arrays]
    known = {*BLOCKS, "distractors", "whitening"}
    for name in arrays:
        if name.removesuffix("_names") not in known:
            raise DataError(f"{features}: {did_you_mean('array', name, known)}")
    if "original" not in blocks or len(blocks) < 2:
        raise DataError(
            f"{features}: expected `original` and at least one block of copies, found "
            f"{', '.join(arrays) or 'nothing'}."
        )
    vectors = {name: _features(arrays, name, features) for name in (*blocks, *extra)}
    _same_form(features, vectors)
    targets = _targets(arrays, blocks, vectors, features)
    scores = []
    for layer in range(len(_layers(vectors["original"]))):
        rows = {name: _layers(array)[layer] for name, array in vectors.items()}
        found = score_copies(
            CopyFeatures(
                originals=rows["original"],
                queries={block: rows[block] for block in blocks},
                targets=targets,
                distractors=rows.get("distractors"),
                whitening=rows.get("whitening"),
            ),
            preset=preset,
            top_k=top_k,
            backend=backend,
            device=device,
        )
        names = (f"mAP@{top_k}", "mAP", "muAP")
        scores.append(
            {
                **{b: {n: found.metrics[f"{b}/{n}"] for n in names} for b in blocks},
                "distractors": len(rows.get("distractors", ())),
                "whitening": preset if "whitening" in rows else "none",
            }
        )
    return _by_layer(scores, has_layers=vectors["original"].ndim == 3)


def _targets(
    arrays: Arrays, blocks: list[str], vectors: Arrays, path: Path
) -> dict[str, NDArray[np.int64]]:
    """Per block, the row of each copy's original, by the numbers in the file names."""
    names = {}
    for block in blocks:
        listed = arrays.get(f"{block}_names")
        if (
            listed is None
            or listed.shape != (vectors[block].shape[-2],)
            or listed.dtype.kind != "U"
        ):
            raise DataError(
                f"{path}: expected `{block}_names`, one file name (str) for each of the "
                f"{vectors[block].shape[-2]} rows of `{block}`: copies are matched by name."
            )
        names[block] = [str(name) for name in listed]
    rows = {number_of(name): row for row, name in enumerate(names["original"])}
    if len(rows) < len(names["original"]):
        raise DataError(f"{path}: `original_names` has a number twice.")
    targets = {}
    for block in blocks:
        copied = [original_of(name) for name in names[block]]
        stray = sorted(set(copied) - set(rows))
        if stray:
            raise DataError(f"{path}: `{block}` has a copy of {stray[0]}, which is no original.")
        lacking = sorted(set(rows) - set(copied))
        if block in ONE_EACH and lacking:
            raise DataError(f"{path}: `{block}` lacks a copy of original {lacking[0]}.")
        targets[block] = np.array([rows[number] for number in copied], np.int64)
    return targets


def _features(arrays: Arrays, name: str, path: Path) -> NDArray[Any]:
    if name not in arrays:
        raise DataError(
            f"{path}: expected an array `{name}`, found {', '.join(arrays) or 'nothing'}."
        )
    array = arrays[name]
    if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: `{name}` must be real numbers [N, D] or [L, N, D] and not empty, found "
            f"{array.dtype} {list(array.shape)}."
        )
    if not np.isfinite(array).all():
        raise TaskError(f"{path}: features must be finite, found NaN or infinity in `{name}`.")
    return array


def _same_form(path: Path, arrays: Arrays) -> None:
    forms = {(array.shape[:-2], array.shape[-1]) for array in arrays.values()}
    if len(forms) > 1:
        found = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise DataError(f"{path}: arrays must agree in layers and width, found {found}.")


def _layers(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.ndim == 3 else array[None]


def _by_layer(scores: list[dict[str, Any]], *, has_layers: bool) -> dict[str, Any]:
    if not has_layers:
        return scores[0]
    return {"layers": [{"layer": i + 1, **entry} for i, entry in enumerate(scores)]}


def precision_table(scores: Mapping[str, Any], title: str, *, first: str) -> FittedTable:
    """The scores of one of the functions above: a row per layer and block or protocol.

    Args:
        scores: as returned.
        title: of the table.
        first: heading of the blocks or protocols.
    """
    rows = [
        (entry.get("layer"), name, values)
        for entry in scores.get("layers", [scores])
        for name, values in entry.items()
        if isinstance(values, dict)
    ]
    metrics = list(rows[0][2])
    layer = ["layer"] if "layers" in scores else []
    columns = [*map(Column, layer), Column(first, left=True), *map(Column, metrics)]
    cells = [
        [*([number] if layer else []), name,
         *("-" if values[m] is None else percent(values[m]) for m in metrics)]
        for number, name, values in rows
    ]  # fmt: skip
    return FittedTable(columns, cells, title=title, repeat=1 + len(layer))
