"""Every way of loading gives the same batches in the same order, and names what it cannot read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor

from fakes import DeadlyPixels, Pixels, image_files
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.errors import TaskError
from sdssl_bench.features import loading
from sdssl_bench.features.sources import plan_batches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    files = image_files(tmp_path_factory.mktemp("images"), 40)
    for row in (5, 38, 39):
        path = files.root / files.names[row]
        path.write_bytes(path.read_bytes()[:-30])
    return files


GROUPS = [np.arange(at, min(at + 7, 38)) for at in range(0, 38, 7)] + [np.array([38, 39])]


def check(batches: list[loading.Batch], images: ImageSet) -> None:
    assert [len(b.rows) + len(b.bad) for b in batches] == [len(group) for group in GROUPS]
    for batch, group in zip(batches[:-1], GROUPS, strict=False):
        assert batch.pixels is not None
        assert batch.rows.tolist() == [row for row in group if row != 5]
        for row, pixels in zip(batch.rows.tolist(), batch.pixels, strict=True):
            torch.testing.assert_close(pixels, Pixels()(images.load(row)), rtol=0, atol=0)
    assert batches[-1].pixels is None
    bad = {row: reason for batch in batches for row, reason in batch.bad.items()}
    assert list(bad) == [5, 38, 39]
    for row, reason in bad.items():
        assert reason.startswith(str(images.root / images.names[row]))


@pytest.mark.parametrize("num_workers", [0, None, 2])
def test_batches_come_in_order_with_the_right_images(
    images: ImageSet, num_workers: int | None
) -> None:
    check(
        list(loading.batches(images, Pixels(), GROUPS, device=CPU, num_workers=num_workers)), images
    )


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("piece", [3, 100])
def test_threads_that_load_ahead_give_the_same(
    images: ImageSet, num_threads: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PIECE", piece)
    check(list(loading.load_ahead(images, Pixels(), GROUPS, num_threads=num_threads)), images)


def test_loading_ahead_stops_with_its_reader_and_holds_few_batches(images: ImageSet) -> None:
    loaded: list[int] = []

    class Counted(Pixels):
        def __call__(self, image: Image.Image) -> Tensor:
            loaded.append(1)
            return super().__call__(image)

    groups = [np.array([row]) for row in range(0, 38) if row != 5]
    batches = loading.load_ahead(images, Counted(), groups, num_threads=2)
    next(batches)
    batches.close()
    assert len(loaded) <= 2 * loading.AHEAD + 3


def test_a_faulty_preprocessing_is_no_bad_image(images: ImageSet) -> None:
    class Faulty(Pixels):
        def __call__(self, image: Image.Image) -> Tensor:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loading.load_batch(images, Faulty(), np.array([0]))
    with pytest.raises(ZeroDivisionError):
        list(loading.load_ahead(images, Faulty(), GROUPS, num_threads=2))


@pytest.mark.slow
def test_a_dead_worker_is_an_error_with_advice(images: ImageSet) -> None:
    with pytest.raises(TaskError, match=r"process died .*--num-workers 1"):
        list(loading.load_in_processes(images, DeadlyPixels(), GROUPS, num_workers=2))


def test_truncated_files_are_errors_even_if_a_library_lets_pillow_accept_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    rng = np.random.default_rng(0)
    files = image_files(tmp_path, 1)
    path = files.root / files.names[0]
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:1000])
    (batch,) = loading.batches(files, Pixels(), [np.array([0])], device=CPU, num_workers=0)
    assert batch.pixels is None
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("batch_size", [1, 16, 32, 50, 200])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_row_is_in_one_batch_of_one_process(batch_size: int, processes: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(rng.random(500) < 0.7)
    found: list[int] = []
    proven: list[int] = []
    for index in range(processes):
        groups = plan_batches(rows, num_rows=500, batch_size=batch_size, part=(index, processes))
        assert all(0 < len(group.rows) <= batch_size for group in groups)
        for group in groups:
            found += group.rows.tolist()
            proven += group.proven.tolist()
            assert set(group.proven.tolist()) <= set(found), (
                "nothing is proven before it is written"
            )
            assert group.rows[-1] // 32 in group.proven // 32 or not len(group.proven)
    assert sorted(found) == sorted(proven) == rows.tolist()


@pytest.mark.parametrize("batch_size", [8, 32, 50])
def test_what_is_left_forms_the_batches_of_an_undisturbed_run(batch_size: int) -> None:
    def batches_of(rows: np.ndarray) -> set[tuple[int, ...]]:
        groups = plan_batches(rows, num_rows=500, batch_size=batch_size, part=(0, 1))
        return {tuple(group.rows.tolist()) for group in groups}

    block = 32 if batch_size <= 32 else 64
    left = np.concatenate([np.arange(2 * block, 4 * block), np.arange(6 * block, 500)])
    assert batches_of(left) <= batches_of(np.arange(500))


def test_no_rows_are_no_batches() -> None:
    assert plan_batches(np.empty(0, np.int64), num_rows=5, batch_size=2, part=(0, 1)) == []
