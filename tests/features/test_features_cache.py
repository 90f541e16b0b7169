"""Damaged banks are rebuilt, torn journals ignored; ls, du and rm see and remove what is there."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import FakeEncoder, Pixels, expected_cls, plain_images
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.errors import UsageError
from sdssl_bench.features import cache
from sdssl_bench.features.bank import FeatureBank, skipped_images
from sdssl_bench.features.extraction import extract
from sdssl_bench.features.store import lock_of, shard_rows
from sdssl_bench.system import locked
from sdssl_bench.task import RunContext

IMAGES = plain_images(100)


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return RunContext(data_root=None, cache_dir=tmp_path, device="cpu")


def run(ctx: RunContext, *layers: int, images: ImageSet = IMAGES) -> FeatureBank:
    bank = extract(FakeEncoder(), images, layers or (1, 2), preprocess=Pixels(), ctx=ctx)
    for layer in layers or (1, 2):
        np.testing.assert_allclose(bank.features(layer), expected_cls(images, layer), rtol=1e-6)
    return bank


def folder_of(ctx: RunContext) -> Path:
    (folder,) = (ctx.cache_dir / "features").glob("[!.]*")
    return folder


def file_of(ctx: RunContext, layer: int) -> Path:
    manifest = json.loads((folder_of(ctx) / "manifest.json").read_text())
    return folder_of(ctx) / manifest["banks"][f"layer0{layer}-cls"]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def garble(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no array at all")


def shorten(path: Path) -> None:
    np.save(path, np.zeros((99, 5), np.float32))


def widen(path: Path) -> None:
    np.save(path, np.zeros((100, 6), np.float32))


def retype(path: Path) -> None:
    np.save(path, np.zeros((100, 5), np.float64))


@pytest.mark.parametrize("harm", [truncate, garble, shorten, widen, retype, Path.unlink])
def test_a_damaged_bank_is_rebuilt_and_only_it(ctx: RunContext, harm: object) -> None:
    run(ctx)
    whole, damaged = file_of(ctx, 1), file_of(ctx, 2)
    before = whole.stat().st_mtime_ns
    harm(damaged)  # type: ignore[operator]
    assert not run(ctx).cached
    assert file_of(ctx, 1) == whole
    assert whole.stat().st_mtime_ns == before
    assert not damaged.exists()
    assert run(ctx).cached


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"banks": {}}', None])
def test_without_a_valid_manifest_nothing_is_believed(
    ctx: RunContext, content: bytes | None
) -> None:
    run(ctx)
    old = file_of(ctx, 1)
    manifest = folder_of(ctx) / "manifest.json"
    if content is None:
        manifest.unlink()
    else:
        manifest.write_bytes(content)
    assert not run(ctx).cached
    assert not old.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", None])
def test_without_its_completion_marker_a_bank_is_computed_again(
    ctx: RunContext, content: bytes | None
) -> None:
    run(ctx)
    marker = folder_of(ctx) / "complete.json"
    if content is None:
        marker.unlink()
    else:
        marker.write_bytes(content)
    assert not run(ctx).cached


def test_a_torn_last_line_of_a_journal_costs_its_shard_only(ctx: RunContext) -> None:
    run(replace(ctx, limit=100))
    (folder_of(ctx) / "complete.json").unlink()
    files = [file_of(ctx, layer).name for layer in (1, 2)]
    lines = [
        json.dumps({"rows": [[32 * i, 32 * i + 32]], "bad": {}, "files": files}) for i in range(4)
    ]
    (folder_of(ctx) / "journal-a.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:-3])
    (folder_of(ctx) / "journal-b.jsonl").write_bytes(b"\xff\xfe\x00")
    seen: list[int] = []

    class Watched(FakeEncoder):
        pass

    original = FakeEncoder.forward_layers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FakeEncoder,
            "forward_layers",
            lambda self, images, *rest: (seen.append(len(images)), original(self, images, *rest))[
                1
            ],
        )
        run(ctx)
    assert sum(seen) == 100 - 2 * 32


def test_journals_go_when_everything_is_complete(ctx: RunContext) -> None:
    extract(FakeEncoder(), IMAGES, [1], preprocess=Pixels(), ctx=replace(ctx, limit=10))
    assert list(folder_of(ctx).glob("journal-*"))
    run(ctx, 1)
    assert not list(folder_of(ctx).glob("journal-*"))


def test_leftovers_of_killed_jobs_are_cleared(ctx: RunContext) -> None:
    run(ctx, 1)
    for name in (".manifest.json.x1.tmp", "layer02-cls-00000000.npy", "stop"):
        (folder_of(ctx) / name).write_bytes(b"left")
    run(ctx, 1)
    kept = {path.name for path in folder_of(ctx).iterdir()}
    assert kept == {"manifest.json", "complete.json", "last-used", file_of(ctx, 1).name}


def test_shards_depend_on_the_number_of_images_only() -> None:
    assert [shard_rows(n) for n in (1, 8_192, 60_000, 1_281_167)] == [32, 32, 256, 1_024]


def test_ls_shows_what_there_is_and_du_adds_it_up(ctx: RunContext) -> None:
    assert cache.ls(ctx.cache_dir) == []
    assert cache.du(ctx.cache_dir) == 0
    run(ctx, 1, 3)
    extract(
        FakeEncoder(), plain_images(50, split="test"), [2],
        poolings=("mean", "gem"), preprocess=Pixels(), ctx=replace(ctx, limit=5),
    )  # fmt: skip
    test, train = cache.ls(ctx.cache_dir)
    assert (train.model, train.dataset, train.split) == ("fake", "colours", "train")
    assert (train.layers, train.poolings, train.rows) == ((1, 3), ("cls",), 100)
    assert train.complete
    assert (test.layers, test.poolings, test.complete) == ((2,), ("gem", "mean"), False)
    assert train.bytes >= 2 * 100 * 5 * 4
    assert cache.du(ctx.cache_dir) == train.bytes + test.bytes
    assert abs(train.last_used - time.time()) < 60
    assert json.loads(json.dumps(train.to_json()))["layers"] == [1, 3]


def test_use_moves_an_entry_to_the_front(ctx: RunContext) -> None:
    run(ctx, 1)
    run(ctx, 1, images=plain_images(20))
    for entry, age in zip(cache.ls(ctx.cache_dir), (50, 100), strict=True):
        os.utime(entry.path / "last-used", (time.time() - age,) * 2)
    assert [entry.rows for entry in cache.ls(ctx.cache_dir)] == [20, 100]
    run(ctx, 1)
    assert [entry.rows for entry in cache.ls(ctx.cache_dir)] == [100, 20]


def test_rm_takes_beginnings_of_keys(ctx: RunContext) -> None:
    run(ctx, 1)
    run(ctx, 1, images=plain_images(20))
    one, two = cache.ls(ctx.cache_dir)
    assert one.key[:8] != two.key[:8]
    assert [entry.key for entry in cache.rm(ctx.cache_dir, keys=[two.key[:8]])] == [two.key]
    assert [entry.key for entry in cache.ls(ctx.cache_dir)] == [one.key]
    for key in ("zz", ""):
        with pytest.raises(UsageError, match="No entry of the cache begins with"):
            cache.rm(ctx.cache_dir, keys=[one.key, key])
    assert len(cache.rm(ctx.cache_dir)) == 1
    assert cache.ls(ctx.cache_dir) == []


def test_rm_by_age_takes_only_what_was_not_used_lately(ctx: RunContext) -> None:
    run(ctx, 1)
    run(ctx, 1, images=plain_images(20))
    old = cache.ls(ctx.cache_dir)[1]
    os.utime(old.path / "last-used", (time.time() - 3 * 86_400,) * 2)
    assert cache.rm(ctx.cache_dir, older_than_days=4) == []
    assert [entry.key for entry in cache.rm(ctx.cache_dir, older_than_days=2)] == [old.key]
    assert len(cache.rm(ctx.cache_dir, older_than_days=0)) == 1


def test_rm_leaves_what_a_job_holds(ctx: RunContext) -> None:
    run(ctx, 1)
    (entry,) = cache.ls(ctx.cache_dir)
    with locked(lock_of(entry.path)):
        assert cache.rm(ctx.cache_dir) == []
    assert cache.ls(ctx.cache_dir) == [entry]
    assert cache.rm(ctx.cache_dir) == [entry]
    assert not run(ctx, 1).cached


def test_a_folder_without_a_manifest_is_listed_and_can_be_removed(ctx: RunContext) -> None:
    (ctx.cache_dir / "features" / "abc").mkdir(parents=True)
    (entry,) = cache.ls(ctx.cache_dir)
    assert (entry.model, entry.layers, entry.complete) == ("?", (), False)
    assert cache.rm(ctx.cache_dir, keys=["abc"]) == [entry]


def test_a_record_counts_all_skipped_images_and_names_the_first_twenty() -> None:
    def bank(count: int) -> FeatureBank:
        names = [f"{number}.jpg: broken" for number in range(count)]
        rows = np.arange(3)
        return FeatureBank(
            {}, 3, indices=rows, targets=rows, bad_images=names, seconds={}, cached=True
        )

    found = skipped_images({"train": bank(25), "test": bank(0)})["skipped_images"]
    assert found["test"] == {"count": 0, "first": []}
    assert found["train"]["count"] == 25
    assert found["train"]["first"] == [f"{number}.jpg: broken" for number in range(20)]
    assert skipped_images({"test": bank(0)}) == {}
