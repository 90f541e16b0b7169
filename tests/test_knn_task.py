"""The k-NN task against the protocol by hand, on the features that it votes with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_data import shared_mini
from sdssl_bench import api, tasks
from sdssl_bench.datasets.transforms import preprocess
from sdssl_bench.features import extract
from sdssl_bench.task import RunContext
from tiny_model import build


def ranking(votes: dict[int, float]) -> list[int]:
    return sorted(votes, key=lambda one: (-votes[one], one))


def test_every_number_of_a_layer_is_the_protocols_by_hand(tmp_path: Path) -> None:
    """Cosines, exp(s / 0.07), sorted classes: top-1, top-5 among at most k classes, means per class."""
    encoder = api.as_encoder(build()).eval()
    ctx = RunContext(data_root=shared_mini(), cache_dir=tmp_path, device="cpu", num_workers=0)
    task: Any = tasks.load("knn", "dino", {"k": "1,3,20", "headline_k": "3"})
    data = task.load_data("cifar10", ctx)
    (found,) = task.run(encoder, data, (2,), ctx)
    train, test = (
        extract(encoder, split, (2,), poolings=("cls",), preprocess=preprocess("A", 32), ctx=ctx)
        for split in (data.train, data.test)
    )
    unit = [
        one / np.linalg.norm(one, axis=1, keepdims=True)
        for one in (bank.features(2, "cls").astype(np.float64) for bank in (test, train))
    ]
    cosines = unit[0] @ unit[1].T
    for k in (1, 3, 20):
        places = []
        for query, label in enumerate(test.targets.tolist()):
            votes = dict.fromkeys(range(10), 0.0)
            for row in np.argsort(-cosines[query], kind="stable")[:k].tolist():
                votes[int(train.targets[row])] += float(np.exp(cosines[query, row] / 0.07))
            places.append(ranking(votes).index(label))
        place = np.array(places)
        first = place == 0
        assert 0.1 < first.mean() < 0.9, "a case that cannot fail proves nothing"
        assert found.metrics[f"k{k}/top1"] == first.mean()
        assert found.metrics[f"k{k}/top5"] == (place < min(5, k)).mean()
        assert found.metrics[f"k{k}/mean_per_class"] == pytest.approx(
            np.mean([first[test.targets == one].mean() for one in range(10)]), abs=1e-12
        )
        np.testing.assert_array_equal(found.items[f"k{k}/correct"], first)
    assert len({found.metrics[f"k{k}/{name}"] for k in (1, 3, 20) for name in ("top1", "top5")}) > 4
    assert found.n == len(data.test)


def test_the_authors_preset_is_compared_by_top1_everywhere(tmp_path: Path) -> None:
    ctx = RunContext(data_root=shared_mini(), cache_dir=tmp_path, device="cpu", num_workers=0)
    for protocol, headline in (("dino", "k20/mean_per_class"), ("paper", "k20/top1")):
        task: Any = tasks.load("knn", protocol)
        assert task.headline(task.load_data("flowers", ctx)) == headline
