"""The tasks of one command share what is decoded: one pass per split and geometry."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_data import shared_mini
from sdssl_bench import api, tasks
from sdssl_bench.cli.running import run_all
from sdssl_bench.features import loading
from sdssl_bench.task import RunContext
from tiny_model import build

KNN: tuple[str, None, dict[str, str]] = ("knn", None, {"k": "1,3", "headline_k": "3"})
LOGREG: tuple[str, str, dict[str, str]] = (
    "linear",
    "logreg",
    {"features": "cls", "transform": "A"},
)
ANALYSIS: tuple[str, None, dict[str, str]] = (
    "analysis", None, {"num_images": "24", "iterations": "250", "tsne_images": "20"},
)  # fmt: skip


@pytest.mark.parametrize(
    "order", [(KNN, LOGREG, ANALYSIS), (ANALYSIS, LOGREG, KNN)], ids=["whole first", "sample first"]
)
def test_a_command_decodes_no_image_twice_in_one_geometry(
    order: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[tuple[str, str, int]] = Counter()
    load = loading.load_batch

    def counted(images: Any, preprocess: Any, rows: Any) -> Any:
        geometry = str(sorted(preprocess.describe().items()))
        decoded.update((images.split, geometry, row) for row in rows.tolist())
        return load(images, preprocess, rows)

    monkeypatch.setattr(loading, "load_batch", counted)
    encoder = api.as_encoder(build()).eval()
    ctx = RunContext(
        data_root=shared_mini(), cache_dir=tmp_path / "cache", device="cpu", num_workers=0
    )
    pairs = [(tasks.load(*one), "cifar10") for one in order]
    layers = range(1, encoder.depth + 1)
    code = run_all(encoder, pairs, layers, ctx=ctx, out=tmp_path / "out", overwrite="missing")
    assert code == 0
    assert set(decoded.values()) == {1}
    data: Any = pairs[0][0].load_data("cifar10", ctx)
    whole = getattr(data, "source", data)
    by_split = Counter((split, geometry) for split, geometry, _ in decoded)
    assert sorted(by_split.values()) == sorted([24, 24, len(whole.train), len(whole.test)])


def test_rows_of_a_split_are_those_of_the_whole(tmp_path: Path) -> None:
    from sdssl_bench.datasets import preprocess
    from sdssl_bench.features import extract

    encoder = api.as_encoder(build()).eval()
    ctx = RunContext(
        data_root=shared_mini(), cache_dir=tmp_path / "a", device="cpu", num_workers=0, limit=3
    )
    data: Any = tasks.load("knn").load_data("cifar10", ctx)
    rows = np.arange(1, len(data.test), 7)
    steps = preprocess("A", encoder.input_size)
    part = extract(encoder, data.test, (2,), preprocess=steps, ctx=ctx, rows=rows)
    np.testing.assert_array_equal(part.indices, rows)
    np.testing.assert_array_equal(part.targets, data.test.targets[rows])
    every = np.arange(len(data.test))
    whole = extract(encoder, data.test, (2,), preprocess=steps, ctx=ctx, rows=every)
    np.testing.assert_array_equal(part.features(2), whole.features(2)[rows])
    apart = RunContext(
        data_root=shared_mini(), cache_dir=tmp_path / "b", device="cpu", num_workers=0
    )
    alone = extract(encoder, data.test, (2,), preprocess=steps, ctx=apart)
    np.testing.assert_allclose(whole.features(2), alone.features(2), atol=1e-5)
