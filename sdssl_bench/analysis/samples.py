"""Which images representations are compared on: a seeded sample of the test split, the same for every model.

The official scripts take the first 1,000 images of ImageNet's validation folder, 20 of its classes; here
every image has the same chance. The maps show all images of few classes, up to a number,
so they are drawn apart; those of them that are in the sample already are not computed again.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import ClassificationData, ImageSet, describe
from sdssl_bench.errors import DataError
from sdssl_bench.records import digest
from sdssl_bench.task import DatasetInfo

MIN_IMAGES = 8
"""Below this an unbiased HSIC, a jackknife or a map says nothing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of the test split.

    Attributes:
        source: the whole dataset.
        images: the sample, ascending by row.
        rows: [n] rows of `images` in the test split.
        mapped: [m] rows of the test split that the maps show, ascending.
    """

    source: ClassificationData
    images: ImageSet
    rows: NDArray[np.int64]
    mapped: NDArray[np.int64]

    @property
    def further(self) -> NDArray[np.int64]:
        """Rows of the test split that the maps show and that are not in the sample, ascending."""
        return np.setdiff1d(self.mapped, self.rows)


def draw(
    data: ClassificationData,
    *,
    num_images: int,
    seed: int,
    map_classes: int = 0,
    map_images: int = 0,
    limit: int | None = None,
) -> Sample:
    """The sample of a dataset.

    Args:
        data: verified.
        num_images: size of the sample at most.
        seed: of the draw.
        map_classes: classes of the maps, drawn among those with two images or more; 0 for no maps.
        map_images: images of the maps at most, equally many of each class as far as it has them.
        limit: as `RunContext.limit`: a bound on both numbers.

    Raises:
        DataError: if fewer than 8 images are left.
    """
    test = data.test
    most = min(num_images, len(test), limit or len(test))
    if most < MIN_IMAGES:
        raise DataError(
            f"{data.name}: the analysis of representations needs at least {MIN_IMAGES} test images, "
            f"found {most}" + (f" under --limit {limit}." if limit else ".")
        )
    rows = np.sort(np.random.default_rng(seed).permutation(len(test))[:most])
    mapped = _class_rows(test.targets, map_classes, min(map_images, limit or map_images), seed=seed)
    return Sample(data, subset(test, rows), rows.astype(np.int64), mapped)


def _class_rows(
    targets: NDArray[np.int64], classes: int, images: int, *, seed: int
) -> NDArray[np.int64]:
    """Rows of up to `images` items of `classes` random classes."""
    rng = np.random.default_rng([seed, 1])
    present, counts = np.unique(targets, return_counts=True)
    chosen = np.sort(rng.permutation(present[counts > 1])[:classes])
    rows = [
        rng.permutation(np.flatnonzero(targets == one))[: images // len(chosen)] for one in chosen
    ]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))


def subset(images: ImageSet, rows: NDArray[np.int64]) -> ImageSet:
    """Some images of a split as a split of their own, with its own fingerprint."""
    text = rows.astype("<i8").tobytes().hex()
    keep = rows.tolist()
    names = [images.names[row] for row in keep]
    return replace(
        images,
        targets=images.targets[rows],
        names=names,
        pixels=None if images.pixels is None else images.pixels[rows],
        listed=None if images.listed is None else images.listed[rows],
        encoded=None if images.encoded is None else images.encoded.take(rows),
        expected=None,
        predefined_val=None,
        fingerprint=digest([images.fingerprint, text]),
        freshness=digest([images.freshness, text]),
        tolerated=images.tolerated & frozenset(names),
    )


def describe_sample(sample: Sample) -> DatasetInfo:
    """Identity of the images used; the whole dataset's stands in the details."""
    whole = describe(sample.source)
    test = sample.source.test
    details = {**whole.details, "dataset_fingerprint": whole.fingerprint, "test_size": len(test)}
    splits = {"sample": len(sample.rows)}
    if len(sample.mapped):
        splits["maps"] = len(sample.mapped)
        classes = np.unique(test.targets[sample.mapped]).tolist()
        details["map_classes"] = {str(one): test.class_names[one] for one in classes}
    fingerprint = digest([sample.images.fingerprint, sample.mapped.tolist()])
    return replace(whole, fingerprint=fingerprint, splits=splits, details=details)
