"""What tables on the terminal show is what the records and their items say, x100."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from records import head
from sdssl_bench.dense.tables import class_table
from sdssl_bench.records.identity import Record
from sdssl_bench.reports.tables import layer_table, result_line, results_table
from sdssl_bench.rounding import percent
from sdssl_bench.video.tables import sequence_table
from stored_results import DAVIS, davis_layer, store


def with_curve(values: list[float], tries: list[list[float]] | None = None) -> Record:
    """A record without items, of the headline k20/top1."""
    layers: dict[str, Any] = {}
    for layer, value in enumerate(values, start=1):
        notes = {"tries": {"k20/top1": tries[layer - 1]}} if tries else {}
        layers[str(layer)] = {"metrics": {"k20/top1": value}, "n": 1000, "notes": notes}
    return {**head(model__depth=len(values)), "layers": layers}


def column(table: Any, name: str) -> list[Any]:
    at = [one.name for one in table.columns].index(name)
    return [row[at] for row in table.rows]


def test_a_sequence_has_the_means_of_its_objects_at_the_last_and_the_best_layer(
    tmp_path: Path,
) -> None:
    objects = ["bear_1", "dogs_1", "dogs_2", "dogs_3"]
    rng = np.random.default_rng(0)
    scores = {layer: rng.uniform(0.1, 0.9, (2, 4)) for layer in (1, 2)}
    scores[1] += 0.1  # the best layer is not the last
    path, record = store(
        tmp_path, {n: davis_layer(objects, j, f) for n, (j, f) in scores.items()}, **DAVIS
    )
    table = sequence_table(record, path)
    assert column(table, "sequence") == ["bear", "dogs"]
    assert column(table, "objects") == [1, 3]
    of = {"bear": [0], "dogs": [1, 2, 3]}
    last, best = (
        {name: (fmean(j[rows]), fmean(f[rows])) for name, rows in of.items()}
        for j, f in (scores[2], scores[1])
    )
    assert column(table, "J") == [percent(last[name][0]) for name in of]
    assert column(table, "F") == [percent(last[name][1]) for name in of]
    assert column(table, "layer 2 J&F") == [percent(fmean(last[name])) for name in of]
    assert column(table, "layer 1 (best) J&F") == [percent(fmean(best[name])) for name in of]


def test_a_class_has_its_share_of_the_annotated_pixels_and_its_iou(tmp_path: Path) -> None:
    """Pixels of the truth, of the prediction, of both: 300 and 100 pixels are annotated."""
    names = ["sky", "cow", "never seen"]
    counts = {
        1: [[300, 100, 0], [240, 160, 0], [240, 100, 0]],
        2: [[300, 100, 0], [350, 40, 10], [290, 40, 0]],
    }
    layers = {
        layer: ({"mIoU": miou}, {"counts": np.array([rows], np.int64)})
        for (layer, rows), miou in zip(counts.items(), (0.7, 0.6), strict=True)
    }
    path, record = store(
        tmp_path, layers, headline="mIoU", task="segmentation",
        dataset__details={"class_names": names},
    )  # fmt: skip
    table = class_table(record, path)
    assert [row[:4] for row in table.rows] == [
        ["cow", "25.0", percent(40 / 100), percent(100 / 160)],
        ["sky", "75.0", percent(290 / 360), percent(240 / 300)],
    ]


def test_the_spread_over_draws_is_their_standard_deviation() -> None:
    tries = [[0.2, 0.3, 0.5, 0.9], [0.41, 0.42, 0.43, 0.47]]
    table = layer_table(with_curve([fmean(one) for one in tries], tries), [1, 2])
    assert column(table, "sd of 4") == [percent(stdev(one)) for one in tries]
    assert column(table, "sd of 4")[0] == "31.0"
    assert column(table, "k20/top1") == ["47.5", "43.3"]


@pytest.mark.parametrize(
    ("curve", "shown"),
    [([0.25, 0.75, 0.5], "50.0 (75.0 at 2)"), ([0.25, 0.5, 0.5], "50.0"), ([0.1, 0.9], "90.0")],
)
def test_a_line_has_the_last_layer_and_the_best_where_that_is_better(
    curve: list[float], shown: str
) -> None:
    record = with_curve(curve)
    # The curve is drawn with one mark a layer behind the numbers.
    assert result_line(record).split("cifar10")[1][: -len(curve)].strip() == shown
    table = results_table([record])
    best = curve.index(max(curve)) + 1
    found = [column(table, name) for name in ("last", "best", "at")]
    assert found == [[percent(curve[-1])], [percent(max(curve))], [str(best)]]
