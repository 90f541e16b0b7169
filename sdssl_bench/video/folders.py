"""J&F of prediction folders against annotation folders: `sdssl-bench score davis`.

Nothing is reused from an earlier evaluation; every number comes from the masks as they are now.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import (
    annotation_files,
    first_annotation,
    frame_numbers,
    gap_warning,
    read_annotation,
    read_mask,
    read_sequences,
    size_text,
)
from sdssl_bench.errors import DataError
from sdssl_bench.metrics import score_frame
from sdssl_bench.system import available_cpus, check_folder, end_with_parent
from sdssl_bench.video.summary import SequenceScores, per_object, summarise, write_csv


@dataclass(frozen=True, eq=False)
class FolderScores:
    """What scoring a folder found out.

    Attributes:
        sequences: scores, in the order asked.
        warnings: sentences for the user; empty if nothing is strange.
    """

    sequences: list[SequenceScores]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class FolderScore:
    """What scoring one sequence found out.

    Attributes:
        scores: J and F.
        same: whether all its predictions equal the annotations.
        absent: ids of 1..K that the first annotation lacks.
    """

    scores: SequenceScores
    same: bool
    absent: tuple[int, ...]


def score_folder(
    predictions: Path, annotations: Path, name: str, *, single_object: bool = False
) -> FolderScore:
    """J and F of one sequence.

    Args:
        predictions: folder of sequence folders; masks are named as the annotations are.
        annotations: likewise.
        name: of the sequence.
        single_object: everything but 0 is object 1, on both sides.

    Raises:
        DataError: naming the file that is missing, damaged, of another size, or holds an id above K.
    """
    files = annotation_files(annotations / name)
    first, objects, absent = first_annotation(files[0], single_object=single_object)
    if not (predictions / name).is_dir():
        raise DataError(
            f"{predictions / name}: expected the masks of {name}, found no such folder."
        )
    _check_frames(predictions / name, files)
    values = np.empty((2, objects, len(files) - 2))
    same = True
    for t, file in enumerate(files[1:-1]):
        truth = read_annotation(file, first.shape, single_object=single_object)
        path = predictions / name / file.name
        found = read_prediction(path, first.shape, None if single_object else objects)
        same = same and np.array_equal(found, truth)
        values[:, :, t] = score_frame(found, truth, objects)
    return FolderScore(SequenceScores(name, values), same, absent)


def _check_frames(folder: Path, annotations: Sequence[Path]) -> None:
    """A prediction of a frame whose annotation is gone would silently not be scored."""
    annotated, step = frame_numbers(annotations)
    predicted, _ = frame_numbers(list(folder.glob("[!.]*.png")))
    extra = [n for n in predicted if annotated and (n - annotated[0]) % step == 0]
    if lost := sorted(set(extra) - set(annotated)):
        raise DataError(
            f"{annotations[0].parent}: expected an annotation of every predicted frame, found none of "
            f"frame {lost[0]} ({len(lost)} such frames in {folder}). Extract the annotations again, "
            "or remove these predictions."
        )


def read_prediction(
    path: Path, shape: tuple[int, ...], num_objects: int | None
) -> NDArray[np.uint8]:
    """Ids of one predicted mask, proven to fit the sequence.

    Args:
        path: of the mask.
        shape: (H, W) of the annotation.
        num_objects: K; None reads everything but 0 as object 1.

    Raises:
        DataError: naming the file, if it is missing, damaged, of another size or has ids above K.
    """
    found = read_mask(path)
    if found.shape != shape:
        raise DataError(
            f"{path}: expected {size_text(shape)}, the size of the annotation, found "
            f"{size_text(found.shape)}. Resize by nearest neighbour."
        )
    if num_objects is None:
        return np.not_equal(found, 0).astype(np.uint8)
    if found.max() > num_objects:
        ids = ", ".join(str(i) for i in np.unique(found) if i > num_objects)
        raise DataError(
            f"{path}: expected ids 0..{num_objects}, the objects of the first annotation, found {ids}."
            + " Masks of 0 and 255 are read with --single-object." * (ids == "255")
        )
    return found


def score_folders(
    predictions: Path,
    annotations: Path,
    sequences: Sequence[str],
    *,
    num_workers: int = 0,
    single_object: bool = False,
) -> FolderScores:
    """J and F of many sequences.

    Args:
        predictions: folder of sequence folders of masks.
        annotations: DAVIS/Annotations/480p.
        sequences: names, at least one.
        num_workers: processes; 0 works in this one.
        single_object: everything but 0 is object 1, as in DAVIS-2016.

    Raises:
        DataError: for an empty list, or naming the first file that cannot be scored.
    """
    if not sequences:
        raise DataError("Expected at least one sequence to score, found an empty list.")
    for folder in (predictions, annotations):
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a folder of sequence folders, found none.")
    score = partial(score_folder, predictions, annotations, single_object=single_object)
    scored = dict(_scored(score, annotations, sequences, num_workers))
    results = [scored[name] for name in sequences]
    gaps = gap_warning({name: scored[name].absent for name in sequences})
    warnings = [gaps] if gaps else []
    if predictions.resolve() == annotations.resolve():
        warnings.append(f"The predictions are the annotations themselves: {annotations}.")
    else:
        same = [one.scores.name for one in results if one.same]
        if same:
            warnings.append(
                f"Every predicted mask equals its annotation in {len(same)} of {len(results)} "
                f"sequences ({', '.join(same[:3])}{', ..' if len(same) > 3 else ''}): is "
                f"{predictions} a copy of the annotations?"
            )
    return FolderScores([one.scores for one in results], warnings)


def score_listed(
    predictions: Path,
    annotations: Path,
    listed: Path | None,
    *,
    num_workers: int | None,
    single_object: bool,
    csv_dir: Path | None,
) -> tuple[dict[str, Any], FolderScores]:
    """The numbers of many sequences as JSON has them, and their scores.

    Args:
        predictions: folder of sequence folders of masks.
        annotations: likewise.
        listed: file that names the sequences; None = all that are annotated.
        num_workers: processes; None = one per core.
        single_object: everything but 0 is object 1, as in DAVIS-2016.
        csv_dir: where to write the two official files too.

    Raises:
        DataError: as `score_folders`, or if the list cannot be read.
        UsageError: if nothing can be written to `csv_dir`.
    """
    if listed:
        names = read_sequences(listed)
    else:
        names = sorted(one.name for one in annotations.glob("[!.]*") if one.is_dir())
    if csv_dir:
        check_folder(csv_dir)
    workers = available_cpus() if num_workers is None else num_workers
    scores = score_folders(
        predictions, annotations, names, num_workers=workers, single_object=single_object
    )
    if csv_dir:
        write_csv(csv_dir, scores.sequences)
    values = {**summarise(scores.sequences), "per_object": per_object(scores.sequences)}
    return values | ({"single_object": True} if single_object else {}), scores


def _scored(
    score: Callable[[str], FolderScore],
    annotations: Path,
    sequences: Sequence[str],
    num_workers: int,
) -> Iterator[tuple[str, FolderScore]]:
    workers = min(num_workers, len(sequences))
    if workers < 2:
        for name in sequences:
            yield name, score(name)
        return
    # Longest first, so that no process is left alone with a long sequence at the end.
    frames = {name: len(list((annotations / name).glob("*.png"))) for name in sequences}
    order = sorted(sequences, key=lambda name: -frames[name])
    # Spawned, not forked: a fork of a process with threads can deadlock.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=end_with_parent
    ) as pool:
        jobs = [pool.submit(score, name) for name in order]
        try:
            for name, job in zip(order, jobs):
                yield name, job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
