"""A record that is damaged, edited or of another version is named and left out; the rest is shown."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sdssl_bench.cli.main import app
from sdssl_bench.errors import DataError
from sdssl_bench.records.identity import Record, content_digest, record_key, stable_view
from sdssl_bench.records.reading import items_path, read_record
from sdssl_bench.records.store import ResultStore
from sdssl_bench.statistics.derived import kept_path
from sdssl_bench.statistics.results import read_results
from stored_results import scored

N = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for place, name in enumerate("abc"):
        scored(root, name, "cifar10", {1: 80 + place, 2: 100 + place})
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "results")
    return tmp_path / "results"


def victim(root: Path) -> Path:
    return next(path for path, record in ResultStore(root) if record["model"]["name"] == "b")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def metric(value: object) -> Callable[[Record], None]:
    def edit(record: Record) -> None:
        record["layers"]["2"]["metrics"]["k20/top1"] = value

    return edit


def field(path: str, value: object) -> Callable[[Record], None]:
    def edit(record: Record) -> None:
        target = record
        *parents, last = path.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = value

    return edit


EDITS: dict[str, Callable[[Record], None]] = {
    "infinity": metric(float("inf")),
    "nan": metric(float("nan")),
    "a score that is too good": metric(0.99),
    "a text for a score": metric("0.5"),
    "a score of 400 digits": metric(10**400),
    "no metrics": lambda record: record["layers"]["2"].pop("metrics"),
    "no layer": field("layers.2", None),
    "layers that are a list": field("layers", [1]),
    "a layer without a number": lambda record: record["layers"].update(x=record["layers"]["2"]),
    "a layer that the model has not": lambda record: record["layers"].update(
        {"3": record["layers"]["2"]}
    ),
    "another number of images": field("layers.2.n", 2),
    "a negative number of images": field("layers.2.n", -4),
    "no such environment": field("layers.2.environment", 99),
    "another headline": field("headline", "k20/top5"),
    "no such headline": field("headline", "nope"),
    "a later version": field("schema_version", 99),
    "a name that is a number": field("model.name", 5),
    "a name that is empty": field("model.name", ""),
    "half of a surrogate pair": field("model.name", "\ud800"),
    "other weights": field("model.weights_sha256", "9" * 64),
    "an unknown field": field("comment", "mine"),
    "counts of skipped images that are texts": field(
        "layers.2.notes", {"skipped_images": {"test": {"count": "many"}}}
    ),
}


FREE = ("other weights", "another number of images", "another headline")
"""What whoever writes all digests anew may say."""


@pytest.mark.parametrize("seal", [False, True], ids=["as edited", "digests made to fit"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_anything_is_refused_and_the_rest_is_shown(
    root: Path, name: str, seal: bool
) -> None:
    """With digests made to fit, a score still has to be what its items give."""
    path = victim(root)
    record = json.loads(path.read_text())
    EDITS[name](record)
    if seal and name not in FREE:
        with contextlib.suppress(ValueError, AttributeError, TypeError):  # of no record at all
            record |= {"key": record_key(record), "digest": content_digest(record)}
    path.write_text(json.dumps(record))
    stored, (error,) = read_results([root])
    assert [one["model"]["name"] for _, one in stored] == ["a", "c"]
    assert path.name in str(error)
    done = run("leaderboard", "--results", root)
    assert done.exit_code == 1, done.output
    assert "51.0" in done.output
    assert "50.0" in done.output
    assert f"warning: left out: {error}" in done.output
    assert run("leaderboard", "--no-uncertainty", "--results", root).exit_code == 1
    assert run("explain", path, path).exit_code == DataError.exit_code
    assert run("compare", "a", "b", "--results", root).exit_code != 0


RAW: dict[str, bytes] = {
    "nothing": b"",
    "cut": b'{"schema_version": 1, ',
    "another value": b"[]",
    "no text": b"\xff\xfe\0",
    "deep": b"[" * 100_000,
    "a number too long": b'{"schema_version": ' + b"9" * 5_000 + b"}",
    "a number too large": b'{"schema_version": 1e999}',
    "infinity": b'{"schema_version": Infinity}',
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_record_is_named(root: Path, tmp_path: Path, name: str) -> None:
    path = victim(root)
    path.write_bytes(RAW[name])
    done = run("report", root, "--out", tmp_path / "page")
    assert done.exit_code == 1, done.output
    assert path.name in done.output
    assert "2 results" in done.output
    with pytest.raises(DataError, match=path.name):
        read_record(path)


def test_nothing_but_damage_is_missing_data(root: Path) -> None:
    for path in ResultStore(root).files():
        path.write_bytes(b"{")
    done = run("leaderboard", root)
    assert done.exit_code == DataError.exit_code
    assert "So are 2 more" in done.output


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:200] + bytes([content[200] ^ 0xFF]) + content[201:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b"", lambda _: b"PK" * 300])
def test_damaged_items_are_named_even_where_their_numbers_were_known(
    root: Path, damage: Callable[[bytes], bytes]
) -> None:
    read_results([root])
    path = items_path(victim(root))
    path.write_bytes(damage(path.read_bytes()))
    stored, (error,) = read_results([root])
    assert len(stored) == 2
    assert path.stem.removesuffix(".items") in str(error)
    record = read_record(victim(root))
    entry = {k: v for k, v in record["layers"]["2"].items() if k != "environment"}
    with pytest.raises(DataError, match=r"items\.npz"):  # a run that goes on says so too
        ResultStore(root).add_layer(
            record, 2, entry=entry, environment=record["environments"][0],
            items={"index": np.arange(200)},
        )  # fmt: skip


def test_items_of_objects_are_not_loaded(root: Path) -> None:
    path = items_path(victim(root))
    np.savez(path, allow_pickle=True, **{"layer01/index": np.array([{}], dtype=object)})
    assert "Object arrays" in str(read_results([root])[1][0])


def test_a_record_of_before_has_no_digest_and_is_proven_by_its_items(root: Path) -> None:
    path = victim(root)
    record = json.loads(path.read_text())
    del record["digest"]
    path.write_text(json.dumps(record))
    assert len(read_results([root])[0]) == N
    record["layers"]["2"]["metrics"]["k20/top1"] = 0.99
    path.write_text(json.dumps(record))
    _, (error,) = read_results([root])
    assert "its per-item scores give" in str(error)


def test_the_digest_covers_the_layers_and_no_times(root: Path) -> None:
    record = read_record(victim(root))
    assert record["digest"] == content_digest(record)
    assert content_digest(stable_view(record)) == record["digest"]
    record["layers"]["1"]["scored_at"] = "2027-01-01T00:00:00+00:00"
    assert content_digest(record) == record["digest"]
    record["layers"]["1"]["metrics"]["k20/top1"] += 1e-15
    assert content_digest(record) != record["digest"]


def test_what_was_derived_is_made_again_when_it_is_damaged(root: Path) -> None:
    expected = read_results([root])[0]
    path = kept_path(victim(root))
    whole = path.read_bytes()
    other = whole.replace(b'"n":', b'"m":', 1)  # of the record that tables show
    for content in (b"", b"[]", b"\xff", b"\xff\n\n", whole[:40], whole[:90], other):
        path.write_bytes(content)
        assert read_results([root]) == (expected, [])
        assert path.read_bytes() == whole


@given(
    place=st.integers(0, 10_000),
    content=st.one_of(st.binary(max_size=4), st.sampled_from([b"NaN", b"-", b'"', b"{", b"]"])),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_change_of_bytes_goes_by_in_silence(
    whole: Path, tmp_path: Path, place: int, content: bytes
) -> None:
    """It changes nothing, or a time or a name, or it is an error that names the file."""
    before = victim(whole).read_bytes()
    place %= len(before)
    changed = tmp_path / "changed.json"
    changed.write_bytes(before[:place] + content + before[place + len(content) :])
    old = read_record(victim(whole))
    try:
        new = read_record(changed)
    except DataError as error:
        message = str(error)
    else:
        assert (old["key"], content_digest(old)) == (record_key(new), content_digest(new))
        message = changed.name
    assert changed.name in message
