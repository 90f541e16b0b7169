"""Many jobs on one results folder and one cache lose nothing and wait for nobody for ever."""

import json
import random
from multiprocessing import get_context
from pathlib import Path

import pytest

from mini_data import shared_mini
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore
from sdssl_bench.system import end_with_parent


def write(number: int, runs: int, data: Path, root: Path) -> None:
    """Runs every seed in an order of its own, one layer after the other or all at once."""
    import torch

    from sdssl_bench import api
    from tiny_model import build

    end_with_parent()
    torch.set_num_threads(1)
    chance = random.Random(number)
    model = api.as_encoder(build())
    for seed in chance.sample(range(runs), runs):
        for layers in ([2], [1, 2, 3]) if chance.random() < 0.5 else ([1, 2, 3],):
            api.evaluate(
                model, "knn", "cifar10", layers=layers, seed=seed, results=root / "results",
                cache_dir=root / "cache", data_root=data, device="cpu", num_workers=0,
            )  # fmt: skip


def race(root: Path, count: int, runs: int) -> None:
    context = get_context("spawn")
    writers = [
        context.Process(target=write, args=(number, runs, shared_mini(), root))
        for number in range(count)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(1800)
    assert [writer.exitcode for writer in writers] == [0] * count
    records = list(ResultStore(root / "results"))
    assert sorted(record["settings"]["seed"] for _, record in records) == list(range(runs))
    first = records[0][1]["layers"]
    for path, record in records:
        assert list(record["layers"]) == ["1", "2", "3"]
        for layer, entry in record["layers"].items():
            assert entry["metrics"] == first[layer]["metrics"]
            assert sorted(read_items(path, int(layer))) == entry["items"]
    assert not list(root.rglob("*.tmp"))
    banks = list((root / "cache" / "features").glob("[!.]*/complete.json"))
    assert [bool(json.loads(one.read_text())["files"]) for one in banks] == [True, True]


@pytest.mark.slow
def test_writers_of_a_few_results_lose_none(tmp_path: Path) -> None:
    race(tmp_path, 2, 3)


@pytest.mark.slow
def test_eight_writers_of_forty_results_lose_none(tmp_path: Path) -> None:
    race(tmp_path, 8, 40)
