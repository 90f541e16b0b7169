"""Records survive crashes, concurrent writers and edits."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import sdssl_bench
from records import ENVIRONMENT, add, entry, head, write_many
from sdssl_bench.errors import DataError, TaskError
from sdssl_bench.records.explanation import differences
from sdssl_bench.records.identity import record_key, stable_view
from sdssl_bench.records.reading import items_path, read_items, read_record
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import tidy
from sdssl_bench.statistics.results import read_results
from sdssl_bench.system import write_atomic
from stored_results import knn_layer, store

SCHEMA = json.loads(
    (Path(sdssl_bench.__file__).parent / "records" / "record.schema.json").read_text()
)


def test_a_stored_record_is_read_back_equal_and_fits_the_schema(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    add(store, 3, 0.75)
    record = add(store, 2, 0.25)
    path = store.path(record)
    assert read_record(path) == record
    jsonschema.validate(record, SCHEMA)
    assert list(record["layers"]) == ["2", "3"]
    assert record["layers"]["3"]["metrics"]["k20/top1"] == 0.75
    assert read_items(path, 3)["k20/correct"].tolist() == [False, True, False, True, False]
    assert read_items(path, 2)["k20/correct"].tolist() == [True, False, True, False, True]


def test_layers_above_nine_stay_in_numeric_order(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for layer in (10, 2, 1):
        record = add(store, layer)
    assert list(record["layers"]) == ["1", "2", "10"]


def test_scoring_a_layer_again_replaces_it_and_only_it(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    add(store, 1, 0.1)
    add(store, 2, 0.2)
    record = add(store, 1, 0.9)
    assert [record["layers"][n]["metrics"]["k20/top1"] for n in "12"] == [0.9, 0.2]
    assert len(record["environments"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"dataset__fingerprint": "e" * 64},
        {"dataset__variant": "partial"},
        {"protocol__version": 2},
        {"protocol__parameters": {"k": [10]}},
        {"protocol__resolved": {"size": 32}},
        {"model__weights_sha256": "b" * 64},
        {"model__norm": "none"},
        {"model__network": "student"},
        {"model__details": {"heads": 12}},
        {"limited": 100},
        {"settings__dtype": "bfloat16"},
        {"settings__seed": 1},
    ],
)
def test_whatever_can_change_a_number_makes_another_record(change: dict) -> None:
    assert head(**change)["key"] != head()["key"]


@pytest.mark.parametrize("change", [{"model__uri": "/other/dino.pth"}, {"model__name": "copy"}])
def test_where_the_weights_lay_does_not_change_the_key(change: dict) -> None:
    assert head(**change)["key"] == head()["key"]


def test_what_is_said_of_training_is_stored_and_moves_no_key(tmp_path: Path) -> None:
    """Records of before `unknown` are found again; what was asked for untrained is another model."""
    store = ResultStore(tmp_path)
    said, unknown, untrained = (
        head(model__pretrained=value, model__details={"weights_look": "trained"} if value else {})
        for value in (True, "unknown", False)
    )
    assert said["key"] == unknown["key"] == head()["key"] != untrained["key"]
    record = add(store, 1, model__pretrained="unknown", model__depth=3)
    jsonschema.validate(record, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record | {"model": record["model"] | {"pretrained": "no"}}, SCHEMA)
    assert set(tidy(store)["pretrained"]) == {"unknown"}
    (difference,) = differences(record, {**record, "model": said["model"] | {"details": {}}})
    assert (difference.path, difference.harmless) == ("model.pretrained", True)


def test_how_the_head_count_is_known_does_not_change_the_key() -> None:
    given, inferred, other = (
        head(model__details={"heads": heads, "heads_source": source})["key"]
        for heads, source in ((6, "--heads"), (6, "as in DINO"), (12, "--heads"))
    )
    assert given == inferred != other


def test_an_edited_record_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.path(add(store, 1))
    record = json.loads(path.read_text())
    record["model"]["network"] = "student"
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="was edited"):
        read_record(path)


@pytest.mark.parametrize("cut", [0, 1, 50, -2])
def test_a_truncated_record_is_an_error_that_names_the_file(tmp_path: Path, cut: int) -> None:
    store = ResultStore(tmp_path)
    path = store.path(add(store, 1))
    path.write_text(path.read_text()[:cut])
    with pytest.raises(DataError, match=path.name):
        list(store)


@pytest.mark.parametrize(
    "text", ["[1]", '{"schema_version": 99}', '{"schema_version": 1}', "\udcff"]
)
def test_foreign_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"x\.json"):
        read_record(path)


def test_a_missing_record_is_told_without_advice_to_move_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file or directory\. Name a file"):
        read_record(tmp_path / "x.json")


def test_several_folders_are_read_as_one_and_nothing_twice(tmp_path: Path) -> None:
    for name, fingerprint in (("one", "f"), ("two", "e")):
        store(tmp_path / name, {1: knn_layer(np.arange(9) < 4, np.arange(9) % 3)},
              dataset__fingerprint=fingerprint * 64)  # fmt: skip
    folders = [tmp_path / "one", tmp_path / "two"]
    both = [*ResultStore(folders[0]), *ResultStore(folders[1])]
    assert read_results(folders) == (both, [])
    with pytest.raises(DataError, match="the same evaluation of dino"):
        read_results([*folders, tmp_path / "one"])
    with pytest.raises(DataError, match=r"three.*no such folder"):
        read_results([*folders, tmp_path / "three"])


def test_non_finite_metrics_are_never_written(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        add(store, 1, float("nan"))
    assert list(store) == []


def test_a_failed_write_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def disk_full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(TaskError, match=r"a\.json cannot be written, its disk is full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_missing_per_item_scores_are_an_error(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.path(add(store, 1))
    with pytest.raises(DataError, match="layer 2"):
        read_items(path, 2)
    items_path(path).write_bytes(b"PK")
    with pytest.raises(DataError, match=r"items\.npz"):
        read_items(path, 1)


def test_what_was_scored_is_stored_once_unless_a_layer_differs(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for layer in (2, 1, 3):
        path = store.path(add(store, layer))
    with np.load(items_path(path)) as stored:
        names = set(stored.files)
    scores = {f"layer{layer:02d}/k20/correct" for layer in (1, 2, 3)}
    assert names == {"index", *scores}
    other = np.arange(5)[::-1]
    store.add_layer(
        head(model__depth=400),
        3,
        entry=entry(0.5),
        environment=ENVIRONMENT,
        items={"index": other, "k20/correct": other > 2},
    )
    with np.load(items_path(path)) as stored:
        assert set(stored.files) == {*names, "layer03/index"}
    assert read_items(path, 3)["index"].tolist() == other.tolist()
    assert read_items(path, 1)["index"].tolist() == [0, 1, 2, 3, 4]


def test_files_with_everything_in_each_layer_are_read_and_continued(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for layer in (1, 2):
        path = store.path(add(store, layer))
    before = {layer: read_items(path, layer) for layer in (1, 2)}
    np.savez_compressed(
        items_path(path),
        **{f"layer{n:02d}/{name}": v for n, items in before.items() for name, v in items.items()},  # type: ignore[arg-type]
    )
    add(store, 3)
    for layer, items in before.items():
        found = read_items(path, layer)
        assert found.keys() == items.keys()
        assert all(np.array_equal(found[name], items[name]) for name in items)
    assert read_items(path, 3).keys() == before[1].keys()


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=write_many, args=(str(tmp_path), list(range(first, 31, 2))))
        for first in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    ((path, record),) = ResultStore(tmp_path)
    assert list(record["layers"]) == [str(layer) for layer in range(1, 31)]
    for layer in range(1, 31):
        assert record["layers"][str(layer)]["metrics"]["k20/top1"] == layer / 100
        assert read_items(path, layer)["index"].tolist() == [0, 1, 2, 3, 4]


WRITER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from records import add
from sdssl_bench.records import ResultStore
from pathlib import Path
from sdssl_bench.records.reading import _validator
_validator()  # the first reading imports what validates
store = ResultStore(Path({store!r}))
print("ready", flush=True)
for layer in range(1, 400):
    stored = store.find(__import__("records").head(model__depth=400))
    if stored is None or str(layer) not in stored["layers"]:
        add(store, layer, layer / 1000)
"""


def test_a_writer_killed_at_random_moments_leaves_what_it_finished(tmp_path: Path) -> None:
    code = WRITER.format(
        tests=str(Path(__file__).parents[1]),
        root=str(Path(__file__).parents[2]),
        store=str(tmp_path),
    )
    chance = random.Random(0)
    done = 0
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.02, 0.6))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        records = list(ResultStore(tmp_path))
        assert len(records) <= 1
        for path, record in records:
            layers = [int(layer) for layer in record["layers"]]
            assert layers == list(range(1, len(layers) + 1))
            assert len(layers) >= done
            done = len(layers)
            assert read_items(path, done)["index"].tolist() == [0, 1, 2, 3, 4]
    assert done > 3
    store = ResultStore(tmp_path)
    add(store, done + 1)
    ((path, record),) = store
    assert not list(path.parent.glob("*.tmp")) + list(path.parent.glob(".*.tmp"))


def test_the_stable_view_hides_times_only() -> None:
    one = {
        **head(),
        "environments": [ENVIRONMENT],
        "layers": {"1": {**entry(0.5), "environment": 0}},
    }
    other = json.loads(json.dumps(one))
    other["layers"]["1"]["seconds"] = {"search": 9.0}
    other["layers"]["1"]["scored_at"] = "2027-01-01T00:00:00+00:00"
    assert stable_view(one) == stable_view(other)
    other["layers"]["1"]["metrics"]["k20/top1"] = 0.6
    assert stable_view(one) != stable_view(other)
    assert record_key(one) == one["key"]
