"""What a ranking is said to cost: a layer's worth on few distractors, for as many as there are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdssl_bench.datasets import GroundTruth
from sdssl_bench.retrieval import forecast, ranking_work
from sdssl_bench.task import RunContext


@pytest.mark.parametrize("distractors", [0, 50, 4_000])
def test_no_more_distractors_are_ranked_than_show_how_time_grows(
    distractors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = (np.empty(0, np.int64),) * 2
    truth = GroundTruth(
        tuple("abcde"), ("q", "r"), np.zeros((2, 4)), {"easy": none, "hard": none, "junk": none}
    )
    seen: list[tuple[int, ...]] = []

    def score(rows: Any, parts: Any, *_: Any, **__: Any) -> None:
        seen.append((len(rows), *(len(part) for part in parts)))

    monkeypatch.setattr(forecast, "DISTRACTORS", 100)
    monkeypatch.setattr(forecast, "score_layer", score)
    ctx = RunContext(data_root=tmp_path, cache_dir=tmp_path)
    work = ranking_work([4, 4], truth, distractors=distractors, curve=(), ctx=ctx)
    assert work.measure is not None
    assert work.measure() > 0
    assert seen == [(2, 5, *([min(distractors, 100)] if distractors else []))]
