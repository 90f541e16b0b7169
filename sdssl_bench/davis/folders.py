"""J&F of prediction folders against annotation folders: `sdssl-bench score davis`.

Nothing is reused from an earlier evaluation; every number comes from the masks as they are now.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.palette import read_mask
from sdssl_bench.davis.measures import score_frame
from sdssl_bench.davis.summary import SequenceScores
from sdssl_bench.errors import DataError
from sdssl_bench.video_files import annotation_files, first_annotation, read_annotation, size_text


@dataclass(frozen=True, eq=False)
class FolderScores:
    """What scoring a folder found out.

    Attributes:
        sequences: scores, in the order asked.
        warnings: sentences for the user; empty if nothing is strange.
    """

    sequences: list[SequenceScores]
    warnings: list[str]


def score_folder(predictions: Path, annotations: Path, name: str) -> tuple[SequenceScores, bool]:
    """J and F of one sequence, and whether all its predictions equal the annotations.

    Args:
        predictions: folder of sequence folders; masks are named as the annotations are.
        annotations: likewise.
        name: of the sequence.

    Raises:
        DataError: naming the file that is missing, damaged, of another size, or holds an id above K.
    """
    files = annotation_files(annotations / name)
    first, objects = first_annotation(files[0])
    if not (predictions / name).is_dir():
        raise DataError(
            f"{predictions / name}: expected the masks of {name}, found no such folder."
        )
    values = np.empty((2, objects, len(files) - 2))
    same = True
    for t, file in enumerate(files[1:-1]):
        truth = read_annotation(file, first.shape)
        found = read_prediction(predictions / name / file.name, first.shape, objects)
        same = same and np.array_equal(found, truth)
        values[:, :, t] = score_frame(found, truth, objects)
    return SequenceScores(name, values), same


def read_prediction(path: Path, shape: tuple[int, ...], num_objects: int) -> NDArray[np.uint8]:
    """Ids of one predicted mask, proven to fit the sequence.

    Raises:
        DataError: naming the file, if it is missing, damaged, of another size or has ids above K.
    """
    found = read_mask(path)
    if found.shape != shape:
        raise DataError(
            f"{path}: expected {size_text(shape)}, the size of the annotation, found "
            f"{size_text(found.shape)}. Resize by nearest neighbour."
        )
    if found.max() > num_objects:
        ids = ", ".join(str(i) for i in np.unique(found) if i > num_objects)
        raise DataError(
            f"{path}: expected ids 0..{num_objects}, the objects of the first annotation, found {ids}."
        )
    return found


def score_folders(
    predictions: Path, annotations: Path, sequences: Sequence[str], *, num_workers: int = 0
) -> FolderScores:
    """J and F of many sequences.

    Args:
        predictions: folder of sequence folders of masks.
        annotations: DAVIS/Annotations/480p.
        sequences: names, at least one.
        num_workers: processes; 0 works in this one.

    Raises:
        DataError: for an empty list, or naming the first file that cannot be scored.
    """
    if not sequences:
        raise DataError("Expected at least one sequence to score, found an empty list.")
    for folder in (predictions, annotations):
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a folder of sequence folders, found none.")
    scored = dict(_scored(predictions, annotations, sequences, num_workers))
    results = [scored[name] for name in sequences]
    warnings = []
    if predictions.resolve() == annotations.resolve():
        warnings.append(f"The predictions are the annotations themselves: {annotations}.")
    else:
        same = [one.name for one, equal in results if equal]
        if same:
            warnings.append(
                f"Every predicted mask equals its annotation in {len(same)} of {len(results)} "
                f"sequences ({', '.join(same[:3])}{', ..' if len(same) > 3 else ''}): is "
                f"{predictions} a copy of the annotations?"
            )
    return FolderScores([one for one, _ in results], warnings)


def _scored(
    predictions: Path, annotations: Path, sequences: Sequence[str], num_workers: int
) -> Iterator[tuple[str, tuple[SequenceScores, bool]]]:
    workers = min(num_workers, len(sequences))
    if workers < 2:
        for name in sequences:
            yield name, score_folder(predictions, annotations, name)
        return
    # Longest first, so that no process is left alone with a long sequence at the end.
    frames = {name: len(list((annotations / name).glob("*.png"))) for name in sequences}
    order = sorted(sequences, key=lambda name: -frames[name])
    # Spawned, not forked: a fork of a process with threads can deadlock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(score_folder, predictions, annotations, name) for name in order]
        try:
            for name, job in zip(order, jobs):
                yield name, job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
