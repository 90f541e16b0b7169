"""CKA between the layers of one encoder or of two, by layer number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.analysis import cka
from sdssl_bench.analysis.samples import MIN_IMAGES
from sdssl_bench.errors import UsageError, did_you_mean

ESTIMATORS = ("unbiased", "biased")


@dataclass(frozen=True, eq=False)
class CkaRow:
    """CKA of one layer with others.

    Attributes:
        values: other layer -> CKA; NaN if it is not defined.
        standard_errors: other layer -> standard error; NaN if there is none.
    """

    values: Mapping[int, float]
    standard_errors: Mapping[int, float]

    def metrics(self) -> dict[str, float]:
        """Name such as "cka/layer07" -> value, where defined."""
        return {
            cka.metric_name(j): value for j, value in self.values.items() if not np.isnan(value)
        }

    def errors(self) -> dict[str, float]:
        """The same names -> standard error, where there is one."""
        kept = {j: self.standard_errors[j] for j in self.values}
        return {cka.metric_name(j): error for j, error in kept.items() if not np.isnan(error)}

    def undefined(self) -> dict[str, str]:
        """The same names -> why there is no value."""
        return {
            cka.metric_name(j): "the features of one of the two layers are constant"
            for j, value in self.values.items()
            if np.isnan(value)
        }


@dataclass(frozen=True, eq=False)
class LayerSimilarity:
    """CKA between layers, by layer number.

    Attributes:
        first: layers of the rows.
        second: layers of the columns.
        found: the matrix.
    """

    first: list[int]
    second: list[int]
    found: cka.Similarity

    def row(self, layer: int) -> CkaRow:
        """One row."""
        i = self.first.index(layer)
        return CkaRow(
            dict(zip(self.second, self.found.values[i].tolist(), strict=True)),
            dict(zip(self.second, self.found.standard_errors[i].tolist(), strict=True)),
        )


def check_estimator(estimator: str, batch: int) -> None:
    """Proves an estimator and its batch.

    Raises:
        UsageError: if there is no such estimator, or a batch would be too small for it.
    """
    if estimator not in ESTIMATORS:
        raise UsageError(did_you_mean("CKA estimator", estimator, ESTIMATORS))
    if batch < MIN_IMAGES:
        raise UsageError(f"cka_batch is at least {MIN_IMAGES} images, found {batch}.")


def describe_estimator(estimator: str, images: int, batch: int) -> dict[str, Any]:
    """What it became for a number of images; JSON values only."""
    if estimator == "biased":
        return {"estimator": estimator, "batches": 1, "largest": images}
    batches = cka.random_batches(images, batch, seed=0)
    return {"estimator": estimator, "batches": len(batches), "largest": len(batches[0])}


def similarity(
    first: Mapping[int, NDArray[Any]],
    second: Mapping[int, NDArray[Any]] | None,
    *,
    estimator: str,
    batch: int,
    seed: int,
) -> LayerSimilarity:
    """CKA of all layers of one encoder with each other, or with those of a second one.

    Always the whole matrix: the rounding of a product depends on its shape, and a layer that is
    scored later must get the bits it would have had.
    """
    sides = [list(side.values()) for side in (first, second) if side is not None]
    others = None if second is None else sides[-1]
    if estimator == "biased":
        values = cka.biased_cka(sides[0], others)
        found = cka.Similarity(values, np.full_like(values, np.nan))
    else:
        batches = cka.random_batches(len(sides[0][0]), batch, seed=seed)
        found = cka.minibatch_cka(sides[0], others, batches)
    return LayerSimilarity(list(first), list(first if second is None else second), found)
