"""Features land on their image's row whatever the batches, precision, selection or broken images."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fakes import FakeEncoder, Pixels, expected_cls, image_files, plain_images
from sdssl_bench.encoders.encoder import LayerFeatures
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.features.bank import FeatureBank
from sdssl_bench.features.extraction import extract
from sdssl_bench.features.forward import automatic_batch_size
from sdssl_bench.task import RunContext, limited_indices


class Counting(FakeEncoder):
    """Knows which layers were asked and how many images it has seen."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._calls: list[tuple[int, tuple[int, ...]]] = []

    def forward_layers(
        self, images: Tensor, layers: Any, reduce: Any = lambda f: f
    ) -> dict[int, Any]:
        self._calls.append((len(images), tuple(layers)))
        return super().forward_layers(images, layers, reduce)

    @property
    def seen(self) -> int:
        return sum(number for number, _ in self._calls)


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return RunContext(data_root=None, cache_dir=tmp_path / "cache", device="cpu")


def run(
    encoder: FakeEncoder, images: Any, layers: Any, ctx: RunContext, **more: Any
) -> FeatureBank:
    return extract(encoder, images, layers, preprocess=Pixels(), ctx=ctx, **more)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 33, 64, 1000, None])
def test_row_i_is_image_i_for_any_batch_size(ctx: RunContext, batch_size: int | None) -> None:
    images = plain_images(150)
    bank = run(FakeEncoder(), images, [3, 1], replace(ctx, batch_size=batch_size))
    for layer in (1, 3):
        np.testing.assert_allclose(
            bank.features(layer), expected_cls(images, layer), rtol=1e-6, atol=0
        )
    np.testing.assert_array_equal(bank.targets, images.targets)
    np.testing.assert_array_equal(bank.indices, np.arange(150))
    assert bank.layers == [1, 3]
    assert not bank.cached
    assert set(bank.seconds) == {"load", "transfer", "forward", "write", "total"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_give_the_same_bytes_as_arrays_from_any_number_of_workers(
    ctx: RunContext, tmp_path: Path, num_workers: int
) -> None:
    files, arrays = image_files(tmp_path / "images", 70), plain_images(70)
    one = run(FakeEncoder(), files, [2], replace(ctx, num_workers=num_workers, batch_size=8))
    two = run(FakeEncoder(), arrays, [2], replace(ctx, batch_size=8))
    np.testing.assert_array_equal(one.features(2), two.features(2))


def test_all_layers_and_poolings_come_from_one_pass_over_each_image(ctx: RunContext) -> None:
    encoder, images = Counting(), plain_images(100)
    bank = run(encoder, images, [1, 2, 3], ctx, poolings=("cls", "mean", "gem"))
    assert encoder.seen == 100
    assert {layers for _, layers in encoder._calls} == {(1, 2, 3)}
    mean = expected_cls(images, 2)
    mean[:, 3:] = 1.0  # rows and columns 0 and 1, times layer 2
    np.testing.assert_allclose(bank.features(2, "mean"), mean, rtol=1e-6)
    patches = np.repeat(expected_cls(images, 2)[:, None], 4, axis=1)
    patches[:, :, 3:] = 2 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    gem = (np.maximum(patches.astype(float), 1e-6) ** 4).mean(1) ** 0.25
    np.testing.assert_allclose(bank.features(2, "gem"), gem, rtol=1e-5)


def test_what_is_stored_is_not_computed_again(ctx: RunContext) -> None:
    images = plain_images(100)
    first = run(FakeEncoder(), images, [1, 2], ctx)
    again = run(FakeEncoder(), images, [2], ctx)
    assert again.cached
    assert set(again.seconds) == {"total"}
    np.testing.assert_array_equal(first.features(2), again.features(2))


def test_other_layers_join_the_folder_and_only_they_are_computed(ctx: RunContext) -> None:
    encoder, images = Counting(), plain_images(100)
    run(encoder, images, [1], ctx)
    bank = run(encoder, images, [1, 3], ctx)
    assert [layers for _, layers in encoder._calls] == [(1,), (3,)]
    assert encoder.seen == 200
    for layer in (1, 3):
        np.testing.assert_allclose(bank.features(layer), expected_cls(images, layer), rtol=1e-6)
    assert run(encoder, images, [1, 2, 3], ctx, poolings=("cls",)).layers == [1, 2, 3]
    assert encoder._calls[-1] == (100, (2,))
    assert len(list((ctx.cache_dir / "features").glob("[!.]*"))) == 1


def test_a_limited_run_computes_its_rows_only_and_the_whole_run_the_rest(ctx: RunContext) -> None:
    encoder, images = Counting(), plain_images(100)
    limited = run(encoder, images, [2], replace(ctx, limit=30))
    assert encoder.seen == 30
    rows = limited_indices(100, 30)
    np.testing.assert_array_equal(limited.indices, rows)
    np.testing.assert_array_equal(limited.targets, images.targets[rows])
    np.testing.assert_allclose(limited.features(2), expected_cls(images, 2)[rows], rtol=1e-6)
    whole = run(encoder, images, [2], ctx)
    assert encoder.seen == 100
    np.testing.assert_allclose(whole.features(2), expected_cls(images, 2), rtol=1e-6)
    again = run(encoder, images, [2], replace(ctx, limit=7))
    assert again.cached
    assert encoder.seen == 100
    np.testing.assert_array_equal(again.features(2), whole.features(2)[limited_indices(100, 7)])


def test_a_limit_above_the_number_of_images_is_the_whole_run(ctx: RunContext) -> None:
    images = plain_images(40)
    bank = run(FakeEncoder(), images, [1], replace(ctx, limit=500))
    assert len(bank.targets) == 40
    assert run(FakeEncoder(), images, [1], ctx).cached


def test_a_large_selection_of_rows_is_mapped_not_held_in_memory(
    ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = plain_images(100)
    whole = run(FakeEncoder(), images, [1], ctx)
    monkeypatch.setattr("sdssl_bench.features.bank.COPY_BYTES", 100)
    selection = run(FakeEncoder(), images, [1], replace(ctx, limit=33)).features(1)
    assert isinstance(selection, np.memmap)
    np.testing.assert_array_equal(selection, whole.features(1)[limited_indices(100, 33)])


def test_half_precision_banks_hold_rounded_features(ctx: RunContext) -> None:
    images = plain_images(50)
    bank = run(FakeEncoder(), images, [3], replace(ctx, bank_dtype="float16"))
    assert bank.features(3).dtype == np.float16
    np.testing.assert_allclose(bank.features(3), expected_cls(images, 3), rtol=1e-3)


class Broken(FakeEncoder):
    """Gives a wrong value for the image whose red is `red`, from layer 2 on."""

    def __init__(self, red: float, value: float) -> None:
        super().__init__()
        self._red, self._value = red, value

    def forward_layers(self, images: Tensor, layers: Any, reduce: Any) -> dict[int, Any]:
        def spoil(features: LayerFeatures) -> Any:
            if features.raw_cls[0, 4] >= 4:
                hit = torch.isclose(images[:, 0].mean((1, 2)), torch.tensor(self._red))
                features.raw_cls[hit, 2] = self._value
            return reduce(features)

        return super().forward_layers(images, layers, spoil)


@pytest.mark.parametrize(
    ("value", "bank_dtype", "advice"),
    [
        (np.nan, "float32", "doctor"),
        (np.inf, "float16", "doctor"),
        (1e6, "float16", "--bank-dtype"),
    ],
)
def test_non_finite_features_name_layer_and_image(
    ctx: RunContext, value: float, bank_dtype: str, advice: str
) -> None:
    images = plain_images(90)
    assert images.pixels is not None
    reds = images.pixels[:, 0, 0, 0]
    row = next(i for i in range(40, 90) if (reds == reds[i]).sum() == 1)
    encoder = Broken(float(reds[row]) / 255, value)
    with pytest.raises(TaskError, match=rf"Layer 2 \(cls\).* image array:{row} .*{advice}"):
        run(encoder, images, [1, 2, 3], replace(ctx, bank_dtype=bank_dtype, batch_size=10))
    # What came before is stored, the broken row is not.
    with pytest.raises(TaskError, match=f"array:{row} "):
        run(encoder, images, [2], replace(ctx, bank_dtype=bank_dtype))


def damage(images: Any, rows: list[int]) -> None:
    for row in rows:
        path = images.root / images.names[row]
        path.write_bytes(path.read_bytes()[:40] if row % 2 else b"")


def test_unreadable_images_are_all_named_and_nothing_else_is_lost(
    ctx: RunContext, tmp_path: Path
) -> None:
    images = image_files(tmp_path / "images", 100)
    kept = {row: (images.root / images.names[row]).read_bytes() for row in (3, 50, 97)}
    damage(images, list(kept))
    (images.root / images.names[60]).unlink()
    encoder = Counting()
    with pytest.raises(TaskError) as caught:
        run(encoder, images, [1, 2], ctx)
    for row in (*kept, 60):
        assert str(images.root / images.names[row]) in str(caught.value)
    assert "4 of 100 images" in str(caught.value)
    assert "--on-bad-image skip" in str(caught.value)
    assert encoder.seen == 96
    skipped = run(encoder, images, [1, 2], replace(ctx, on_bad_image="skip"))
    assert encoder.seen == 96, "only the unreadable images are tried again"
    assert [text.split(":")[0] for text in skipped.bad_images] == [
        str(images.root / images.names[row]) for row in (3, 50, 60, 97)
    ]
    good = np.setdiff1d(np.arange(100), [3, 50, 60, 97])
    np.testing.assert_array_equal(skipped.indices, good)
    np.testing.assert_array_equal(skipped.targets, images.targets[good])
    np.testing.assert_allclose(
        skipped.features(2), expected_cls(plain_images(100), 2)[good], rtol=1e-6
    )
    for row, content in kept.items():
        (images.root / images.names[row]).write_bytes(content)
    with pytest.raises(TaskError, match="1 of 100 images"):
        run(encoder, images, [1, 2], ctx)
    assert encoder.seen == 99


def test_an_error_names_twenty_unreadable_images_and_counts_the_rest(
    ctx: RunContext, tmp_path: Path
) -> None:
    images = image_files(tmp_path / "images", 60)
    damage(images, list(range(0, 60, 2)))
    with pytest.raises(TaskError, match="and 10 more") as caught:
        run(FakeEncoder(), images, [1], ctx)
    assert str(caught.value).count("\n  /") == 20


def test_a_set_without_one_readable_image_is_an_error_even_if_skipping(
    ctx: RunContext, tmp_path: Path
) -> None:
    images = image_files(tmp_path / "images", 5)
    damage(images, [0, 1, 2, 3, 4])
    with pytest.raises(TaskError, match="5 of 5 images"):
        run(FakeEncoder(), images, [1], replace(ctx, on_bad_image="skip"))


class Hungry(FakeEncoder):
    """Runs out of memory above `most` images."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__(input_size=32)
        self._most, self._error, self._sizes = most, error, []

    def forward_layers(self, images: Tensor, layers: Any, reduce: Any) -> dict[int, Any]:
        self._sizes.append(len(images))
        if len(images) > self._most:
            raise self._error("DefaultCPUAllocator: can't allocate memory: 7 bytes\nmore")
        return super().forward_layers(images, layers, reduce)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("most", [1, 5, 40])
def test_automatic_batches_shrink_until_they_fit_and_lose_no_row(
    ctx: RunContext, most: int, error: type[Exception]
) -> None:
    encoder, images = Hungry(most, error), plain_images(200, size=32)
    bank = run(encoder, images, [2], ctx)
    np.testing.assert_allclose(bank.features(2), expected_cls(images, 2), rtol=1e-6)
    failures = [size for size in encoder._sizes if size > most]
    assert failures == sorted(failures, reverse=True), "a size that failed is not tried again"
    assert len(failures) < 8


def test_a_batch_size_that_was_asked_for_is_kept_or_is_an_error(ctx: RunContext) -> None:
    encoder = Hungry(1000)
    run(encoder, plain_images(200, size=32), [2], replace(ctx, batch_size=48))
    assert max(encoder._sizes) == 48
    with pytest.raises(TaskError, match=r"48 images at once .*--batch-size auto"):
        run(Hungry(40), plain_images(200, size=32, seed=1), [2], replace(ctx, batch_size=48))


def test_too_little_memory_for_one_image_is_an_error(ctx: RunContext) -> None:
    with pytest.raises(TaskError, match="too short for 1 images"):
        run(Hungry(0), plain_images(20, size=32), [2], ctx)


def test_other_failures_of_the_encoder_keep_their_traceback(ctx: RunContext) -> None:
    class Faulty(FakeEncoder):
        def forward_layers(self, images: Tensor, layers: Any, reduce: Any) -> dict[int, Any]:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run(Faulty(), plain_images(20), [2], ctx)


def test_automatic_batches_suit_the_input() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    sizes = [automatic_batch_size(size, cpu) for size in (32, 64, 224, 518, 4000)]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) == 1
    assert automatic_batch_size(224, cuda) > automatic_batch_size(224, cpu)


def test_the_encoder_runs_in_eval_mode_without_gradients_and_comes_back_as_it_was(
    ctx: RunContext,
) -> None:
    class Watched(FakeEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.dropout = nn.BatchNorm1d(2).eval(), nn.Dropout()
            self._modes: list[tuple[bool, bool]] = []

        def forward_layers(self, images: Tensor, layers: Any, reduce: Any) -> dict[int, Any]:
            self._modes.append((self.dropout.training, torch.is_grad_enabled()))
            assert images.dtype == torch.float32
            return super().forward_layers(images, layers, reduce)

    encoder = Watched().train()
    encoder.frozen.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(encoder, plain_images(20), [1], ctx)
    assert encoder._modes == [(False, False)]
    assert encoder.training
    assert encoder.dropout.training
    assert not encoder.frozen.training
    assert encoder.scale.requires_grad


def test_autocast_applies_if_asked_for_and_only_then(ctx: RunContext) -> None:
    class Multiplying(FakeEncoder):
        def forward_layers(self, images: Tensor, layers: Any, reduce: Any) -> dict[int, Any]:
            product = images.flatten(1) @ torch.ones(images[0].numel(), 5)
            self._dtypes.append(product.dtype)
            return {
                n: reduce(LayerFeatures(product, product[:, None, None], lambda x: x))
                for n in layers
            }

    for dtype in ("float32", "bfloat16", "float16"):
        encoder = Multiplying()
        encoder._dtypes = []
        with torch.autocast("cpu", dtype=torch.bfloat16):
            bank = run(encoder, plain_images(20), [1], replace(ctx, dtype=dtype))
        assert encoder._dtypes == [getattr(torch, dtype)]
        assert bank.features(1).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dtype": "float8"}, UsageError, "dtype 'float8'"),
        ({"bank_dtype": "bfloat16"}, UsageError, "bank dtype"),
        ({"on_bad_image": "ignore"}, UsageError, "on_bad_image"),
        ({"batch_size": 0}, UsageError, "found 0"),
    ],
)
def test_impossible_settings_are_usage_errors(
    ctx: RunContext, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(FakeEncoder(), plain_images(5), [1], replace(ctx, **change))


def test_impossible_requests_are_usage_errors(ctx: RunContext) -> None:
    images = plain_images(5)
    with pytest.raises(UsageError, match=r"1\.\.3 .* 0, 4"):
        run(FakeEncoder(), images, [0, 4], ctx)
    with pytest.raises(UsageError, match="Did you mean 'mean'"):
        run(FakeEncoder(), images, [1], ctx, poolings=("meen",))
    with pytest.raises(UsageError, match="No pooling"):
        run(FakeEncoder(), images, [1], ctx, poolings=())
    nobody = FakeEncoder()
    nobody.info = None
    with pytest.raises(UsageError, match="has none"):
        run(nobody, images, [1], ctx)
    with pytest.raises(DataError, match="found none"):
        run(FakeEncoder(), plain_images(0), [1], ctx)
    bank = run(FakeEncoder(), images, [1], ctx)
    with pytest.raises(KeyError, match="layer 2 cls; this bank holds 1 cls"):
        bank.features(2)


def test_a_cache_that_cannot_be_written_says_so(ctx: RunContext, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"a file stands where a folder is needed"):
        run(FakeEncoder(), plain_images(5), [1], replace(ctx, cache_dir=tmp_path / "file"))


def test_too_little_disk_is_told_before_the_work(
    ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    encoder = Counting()
    with pytest.raises(TaskError, match="are needed"):
        run(encoder, plain_images(100), [1], ctx)
    assert encoder.seen == 0


def test_a_disk_that_fills_up_is_an_error_and_what_was_stored_stays(
    ctx: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.pwrite

    def full_after_row_64(handle: int, data: Any, at: int) -> int:
        if at >= 128 + 64 * 20:
            raise OSError(28, "No space left on device")
        return written(handle, data[:13], at)  # short writes are not the end of the data

    encoder, images = Counting(), plain_images(100)
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full_after_row_64)
        with pytest.raises(TaskError, match=r"disk is full.*stored before is whole.*--cache-dir"):
            run(encoder, images, [1], replace(ctx, batch_size=32))
    assert encoder.seen == 96
    bank = run(encoder, images, [1], ctx)
    assert encoder.seen == 96 + 36
    np.testing.assert_allclose(bank.features(1), expected_cls(images, 1), rtol=1e-6)


def test_a_bank_may_leave_the_cache_while_it_is_read(ctx: RunContext) -> None:
    from sdssl_bench.features import cache

    images = plain_images(50)
    bank = run(FakeEncoder(), images, [1], ctx)
    assert len(cache.rm(ctx.cache_dir)) == 1
    np.testing.assert_allclose(bank.features(1), expected_cls(images, 1), rtol=1e-6)
