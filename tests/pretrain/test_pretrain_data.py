"""Views, order of images and shards: functions of the seed and the step, whoever computes them."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as vf

from pretrain_fixtures import image, make_images, make_shards, tiny
from sdssl_bench import datasets
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.mini.make import make_mini
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.features.views import (
    TwoViews,
    crop,
    draw,
    recolour,
    sample_seed,
    seeded,
    view_pair,
)
from sdssl_bench.pretrain.data import tar_images
from sdssl_bench.pretrain.data.device_views import normalised, recolour_batch
from sdssl_bench.pretrain.data.feeding import open_feed
from sdssl_bench.pretrain.data.images import StepSampler
from sdssl_bench.pretrain.data.shards import expand, open_shards

MOCO = view_pair("mocov3", size=32, crop_min=0.08)


def draws(view: int, count: int = 600) -> Tensor:
    with seeded(0):
        return torch.stack([draw(MOCO[view]) for _ in range(count)])


def test_views_follow_from_the_seed_and_leave_the_generator_alone() -> None:
    make = TwoViews(MOCO)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = make(image(0), 7), make(image(0), 7), make(image(0), 8)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (2, 3, 32, 32)
    assert first[0].dtype == torch.uint8
    assert not torch.equal(first[0][0], first[0][1])


@pytest.mark.parametrize("seed", range(4))
def test_views_are_recoloured_once_on_the_host_or_left_to_the_device(seed: int) -> None:
    """What the device gets is cropped and flipped, and not recoloured yet."""
    pixels, drawn = TwoViews(MOCO)(image(0), seed)
    plain, same_draw = TwoViews(MOCO, on_device=True)(image(0), seed)
    assert torch.equal(drawn, same_draw)
    for view in range(2):
        cropped = vf.to_pil_image(plain[view])
        expected = vf.pil_to_tensor(recolour(cropped, drawn[view]))
        assert torch.equal(pixels[view], expected)
        still = torch.zeros_like(drawn[view])
        assert torch.equal(vf.pil_to_tensor(recolour(cropped, still)), plain[view])
    assert not torch.equal(pixels[0], plain[0])  # the first view is always blurred
    with seeded(seed):
        assert torch.equal(vf.pil_to_tensor(crop(image(0), MOCO[0])), plain[0])


def test_the_two_views_have_moco_v3s_probabilities() -> None:
    for view, blur, solarize in ((0, 1.0, 0.0), (1, 0.1, 0.2)):
        drawn = draws(view)
        rates = (drawn[:, [0, 9, 10, 11]] > 0).float().mean(0)
        assert torch.allclose(rates, torch.tensor([0.8, 0.2, blur, solarize]), atol=0.06)
        assert bool(((drawn[:, 1:4] - 1).abs() <= torch.tensor([0.4, 0.4, 0.2])).all())
        assert bool((drawn[:, 4].abs() <= 0.1).all())
        sigma = drawn[:, 10][drawn[:, 10] > 0]
        assert bool(((sigma >= 0.1) & (sigma <= 2.0)).all())
        assert len({tuple(row) for row in drawn[:, 5:9].int().tolist()}) == 24


def test_the_device_recolours_as_pillow_does_sample_by_sample() -> None:
    drawn = torch.cat([draws(0, 24), draws(1, 24)])
    images = [image(n, (64, 64)) for n in range(48)]
    pixels = torch.stack([vf.pil_to_tensor(i) for i in images])
    found = recolour_batch(pixels.float() / 255, drawn)
    for n, (one, factors) in enumerate(zip(images, drawn, strict=True)):
        expected = vf.pil_to_tensor(recolour(one, factors)).float() / 255
        difference = (found[n] - expected).abs()
        if factors[11]:
            # A value beside the threshold may fall on the other side: few pixels, large difference.
            assert difference.median() < 0.03
        else:
            assert difference.mean() < 0.02, factors
            assert difference.quantile(0.99) < 0.08, factors


def test_solarisation_of_a_batch_begins_where_pillows_does() -> None:
    values = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    drawn = torch.zeros(1, 12)
    drawn[:, 11] = 1
    found = recolour_batch(values.float() / 255, drawn) * 255
    assert torch.equal(found.round().byte()[0, 0, 0], vf.solarize(values, 128)[0, 0, 0])


def test_blur_of_a_batch_spreads_a_point_by_its_sigma_along_both_axes() -> None:
    sigmas = torch.tensor([0.9, 1.2, 1.5, 2.0])
    drawn = torch.zeros(4, 12)
    drawn[:, 10] = sigmas
    points = torch.zeros(4, 3, 33, 33)
    points[:, :, 16, 16] = 1
    found = recolour_batch(points, drawn)
    squares = (torch.arange(33.0) - 16).square()
    assert torch.allclose(found.sum((2, 3)), torch.ones(4, 3), atol=1e-5)
    for axis in (2, 3):
        variance = (found.sum(axis) * squares).sum(-1)
        assert torch.allclose(variance, sigmas.square()[:, None].expand(4, 3), rtol=0.05)


class Copies(TorchDispatchMode):
    """Counts tensors that go to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        there = isinstance(result, Tensor) and result.device.type == "meta"
        given = [one for one in pytree.tree_leaves(args) if isinstance(one, Tensor)]
        self.count += there and any(one.device.type == "cpu" for one in given)
        return result


def test_colour_on_the_device_never_asks_the_device_for_a_value() -> None:
    """The meta device has none to tell; what was drawn goes there twice, rows and factors."""
    images = torch.empty(48, 3, 32, 32, device="meta")
    drawn = torch.cat([draws(0, 24), draws(1, 24)])
    with Copies() as copies:
        found = recolour_batch(images, drawn)
    assert (found.shape, found.device) == (images.shape, images.device)
    assert copies.count == 2
    assert recolour_batch(images, torch.zeros(48, 12)) is images


def test_hue_of_a_batch_is_torchvisions_hue_of_each() -> None:
    pixels = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for shift in (-0.1, -0.03, 0.07, 0.5):
        drawn = torch.zeros(5, 12)
        drawn[:, 0] = 1
        drawn[:, 1:4] = 1
        drawn[:, 4] = shift
        drawn[:, 5:9] = torch.arange(4)
        expected = vf.adjust_hue(pixels, shift)
        assert torch.allclose(recolour_batch(pixels, drawn), expected, atol=1e-5)


def test_finish_normalises() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    expected = vf.normalize(pixels.float() / 255, mean.tolist(), std.tolist())
    assert torch.allclose(normalised(pixels, None, mean=mean, std=std), expected, atol=1e-6)


def keys(world: int, rank: int, steps: tuple[int, int], seed: int = 0) -> list[list[Any]]:
    return list(StepSampler(21, 8, steps=steps, seed=seed, rank=rank, world_size=world))


def test_a_step_has_the_same_images_however_many_processes_share_it() -> None:
    whole = keys(1, 0, (0, 6))
    for world in (2, 4):
        parts = [keys(world, rank, (0, 6)) for rank in range(world)]
        assert [list(chain(*step)) for step in zip(*parts, strict=True)] == whole


def test_an_epoch_has_no_image_twice_and_the_next_another_order() -> None:
    steps = keys(1, 0, (0, 4))
    first, second = list(chain(*steps[:2])), list(chain(*steps[2:]))
    assert len(set(first)) == len(set(second)) == 16
    assert {epoch for epoch, _ in first} == {0}
    assert [i for _, i in first] != [i for _, i in second]
    assert keys(1, 0, (0, 2), seed=1) != steps[:2]


def test_an_order_is_not_drawn_from_the_stream_of_an_images_views() -> None:
    order = [index for _, index in chain(*keys(1, 0, (0, 2)))]
    for index in range(21):
        generator = torch.Generator().manual_seed(sample_seed(0, 0, index))
        assert torch.randperm(21, generator=generator).tolist()[:16] != order


def test_a_resumed_order_is_the_undisturbed_ones_rest() -> None:
    assert keys(1, 0, (3, 6)) == keys(1, 0, (0, 6))[3:]


def batches(
    data: str, *, first: int = 0, last: int = 6, rank: int = 0, world: int = 1, **changes: Any
) -> list[Tensor]:
    config = tiny(data=data, **changes)
    feed = open_feed(config, size=32, rank=rank, world_size=world)
    return [pixels for pixels, _ in feed.batches(first, last)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_workers_and_resuming_change_no_view_of_a_folder(tmp_path: Path) -> None:
    data = str(make_images(tmp_path / "images", 20))
    alone = batches(data)
    assert same(alone, batches(data, num_workers=2))
    assert same(alone[3:], batches(data, first=3))
    halves = [batches(data, rank=rank, world=2) for rank in (0, 1)]
    joined = [torch.cat(pair, dim=1) for pair in zip(*halves, strict=True)]
    assert same(alone, joined)


def test_a_folder_with_a_train_part_gives_that_part_only(tmp_path: Path) -> None:
    make_images(tmp_path / "set" / "train" / "a", 9)
    make_images(tmp_path / "set" / "val" / "a", 5)
    feed = open_feed(tiny(data=str(tmp_path / "set")), size=32, rank=0, world_size=1)
    assert len(feed.source) == 9


def test_a_trial_trains_on_some_images_spread_evenly_and_on_no_others(tmp_path: Path) -> None:
    whole, some = make_images(tmp_path / "whole", 11), make_images(tmp_path / "some", 11)
    for number in range(11):
        if number not in (0, 2, 5, 8):
            (some / f"{number:03d}.png").unlink()
    feeds = [
        open_feed(tiny(batch_size=2, **settings), size=32, rank=0, world_size=1)
        for settings in ({"data": str(whole), "limit": 4}, {"data": str(some)})
    ]
    assert [feed.per_epoch for feed in feeds] == [2, 2]
    for mine, other in zip(*(feed.batches(0, 4) for feed in feeds), strict=True):
        assert torch.equal(mine[0], other[0])


@pytest.mark.parametrize("name", ["cifar10", "flowers", "pets"])
def test_a_dataset_by_name_gives_its_training_split(name: str, tmp_path: Path) -> None:
    root = tmp_path / "mini"
    make_mini(root, names=[name])
    feed = open_feed(
        tiny(data=name, data_root=str(root), batch_size=4), size=32, rank=0, world_size=1
    )
    expected = datasets.load(name, data_root=root).train
    assert isinstance(feed.source, ImageSet)
    assert feed.layout == {"images": len(expected), "fingerprint": expected.fingerprint}
    pixels, _ = next(iter(feed.batches(0, 1)))
    assert pixels.shape == (2, 4, 3, 32, 32)


def test_a_dataset_by_name_that_is_not_there_says_where_it_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="flowers"):
        open_feed(tiny(data="flowers", data_root=str(tmp_path)), size=32, rank=0, world_size=1)


def test_bad_images_and_missing_data_are_errors_that_name_them(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", 8)
    (folder / "003.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"003\.png"):
        batches(str(folder), last=1)
    with pytest.raises(DataError, match="too few"):
        open_feed(tiny(data=str(folder), batch_size=9), size=32, rank=0, world_size=1)
    with pytest.raises(DataError, match="none of them"):
        open_feed(tiny(data=str(tmp_path / "no")), size=32, rank=0, world_size=1)
    with pytest.raises(UsageError, match="--data"):
        open_feed(tiny(), size=32, rank=0, world_size=1)


def seen(data: str, *, rank: int = 0, world: int = 1, **changes: Any) -> list[int]:
    """Numbers of the images of one epoch, told by their colours."""
    config = tiny(data=data, **changes)
    feed = open_feed(config, size=32, rank=rank, world_size=world)
    dataset = feed._shard_batches((0, feed.per_epoch))
    found: list[int] = []
    for worker in range(max(config.num_workers, 1)):
        samples = dataset._samples(0, worker, 0)
        found += [next(samples)[0] for _ in range(dataset.batches_per_span * dataset.batch)]
    return found


def test_braces_stand_for_the_names_between_them() -> None:
    assert expand("a/{08..11}.tar") == ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]
    assert expand("{8..10}") == ["8", "9", "10"]
    assert len(expand("{a,b}{0..2}")) == 6
    assert expand("plain.tar") == ["plain.tar"]
    assert expand("x/{9..0}.tar") == []
    assert expand("{a,b}{0..1}.{x,}") == [
        "a0.x",
        "a0.",
        "a1.x",
        "a1.",
        "b0.x",
        "b0.",
        "b1.x",
        "b1.",
    ]
    assert len(expand("{1..1000000}")) == 10**6
    for many in ("x/{000..999999999}.tar", "{1..1000}{1..1001}", f"{{0..{'9' * 18}}}{{a,b}}"):
        with pytest.raises(UsageError, match="more than 1,000,000"):
            expand(many)


def test_an_epoch_of_shards_has_no_image_twice_over_all_workers_and_processes(
    tmp_path: Path,
) -> None:
    data = make_shards(tmp_path / "s", [7, 5, 9, 3])
    for world, workers in ((1, 0), (1, 2), (2, 1), (3, 2)):
        numbers = [
            n
            for rank in range(world)
            for n in seen(data, rank=rank, world=world, num_workers=workers, batch_size=2 * world)
        ]
        assert len(numbers) == len(set(numbers)) > 12
        assert set(numbers) <= set(range(24))


@pytest.mark.parametrize("buffer", [1, 4, 1000])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_shards_go_on_exactly(tmp_path: Path, buffer: int, workers: int) -> None:
    data = make_shards(tmp_path / "s", [7, 5, 9, 3])
    options: dict[str, Any] = {
        "num_workers": workers,
        "shuffle_buffer": buffer,
        "batch_size": 3,
        "last": 13,
    }
    whole = batches(data, **options)
    assert len(whole) == 13
    for first in (1, 4, 9):
        assert same(whole[first:], batches(data, first=first, **options))


def test_a_buffer_shuffles_and_epochs_differ(tmp_path: Path) -> None:
    data = make_shards(tmp_path / "s", [12, 12])
    shuffled, plain = (seen(data, shuffle_buffer=b) for b in (24, 1))
    assert sorted(shuffled) == sorted(plain) == list(range(24))
    assert shuffled != plain


def test_no_two_blocks_of_an_epoch_are_shuffled_alike(tmp_path: Path) -> None:
    """Not those of one worker, not those of two, not those of two processes."""
    data = make_shards(tmp_path / "s", [96])
    sizes: dict[str, Any] = {"num_workers": 2, "batch_size": 8, "world": 2}
    numbers = {
        buffer: [
            number
            for rank in range(2)
            for number in seen(data, rank=rank, shuffle_buffer=buffer, **sizes)
        ]
        for buffer in (12, 1)
    }
    assert numbers[1] == list(range(96))
    blocks = [numbers[12][at : at + 12] for at in range(0, 96, 12)]
    orders = {tuple(number - min(block) for number in block) for block in blocks}
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len(orders) == 8


def test_damaged_missing_and_miscounted_shards_are_errors(tmp_path: Path) -> None:
    data = make_shards(tmp_path / "s", [4, 4])
    (tmp_path / "s" / "sizes.json").write_text(json.dumps({"000.tar": 9, "001.tar": 9}))
    with pytest.raises(DataError, match="were counted or stated"):
        batches(data, batch_size=6, shuffle_buffer=100, last=1)
    (tmp_path / "s" / "sizes.json").unlink()
    whole = (tmp_path / "s" / "001.tar").read_bytes()
    (tmp_path / "s" / "001.tar").write_bytes(whole[: len(whole) // 3 + 100])
    with pytest.raises(DataError, match=r"001\.tar"):
        batches(data, batch_size=8, last=1)
    with pytest.raises(DataError, match="cannot be read"):
        open_shards(str(tmp_path / "none.tar"))


@contextmanager
def served(folder: Path, *, failing: int = 0) -> Iterator[tuple[str, list[str]]]:
    """A server of a folder's files; the first `failing` answers for shards break off.

    Yields its address and the paths of the shards that were asked for.
    """
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if self.path.endswith(".tar"):
                asked.append(self.path)
                if len(asked) <= failing:
                    outputfile.write(source.read(3000))
                    return
            super().copyfile(source, outputfile)

    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def make_served_shards(folder: Path, sizes: list[int]) -> str:
    data = make_shards(folder, sizes)
    names = {f"{i:03d}.tar": size for i, size in enumerate(sizes)}
    (folder / "sizes.json").write_text(json.dumps(names))
    return data


def test_shards_are_read_over_http_once_each(tmp_path: Path) -> None:
    """Also where several shuffled blocks are of one shard."""
    data = make_served_shards(tmp_path / "s", [12, 12])
    with served(tmp_path) as (address, asked):
        remote = f"{address}/s/{{000..001}}.tar"
        found = batches(remote, batch_size=4, last=6, shuffle_buffer=5)
    assert same(found, batches(data, batch_size=4, last=6, shuffle_buffer=5))
    assert sorted(asked) == ["/s/000.tar", "/s/001.tar"]


@pytest.mark.parametrize("failing", [2, 9])
def test_a_server_that_fails_is_asked_again_but_not_for_ever(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_images, "WAITS", (0.0, 0.0, 0.0))
    data = make_served_shards(tmp_path / "s", [8])
    with served(tmp_path, failing=failing) as (address, asked):
        remote = f"{address}/s/{{000..000}}.tar"
        if failing == 2:
            found = batches(remote, batch_size=4, last=2)
            assert same(found, batches(data, batch_size=4, last=2))
            assert len(asked) == 3
        else:
            with pytest.raises(DataError, match=r"000\.tar cannot be read"):
                batches(remote, batch_size=4, last=2)
            assert len(asked) == 4


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_an_error_in_a_worker_is_told_as_it_is(kind: str, num_workers: int, tmp_path: Path) -> None:
    if kind == "folder":
        data = str(make_images(tmp_path / "images", 8))
        (tmp_path / "images" / "003.png").write_bytes(b"no image")
    else:
        data = make_shards(tmp_path / "s", [8])
        shard = tmp_path / "s" / "000.tar"
        shard.write_bytes(shard.read_bytes()[:1500])
        (tmp_path / "s" / "sizes.json").write_text(json.dumps({"000.tar": 8}))
    with pytest.raises(DataError) as caught:
        batches(data, batch_size=8, last=1, num_workers=num_workers)
    message = str(caught.value)
    assert "Traceback" not in message
    assert ("003.png" if kind == "folder" else "000.tar") in message


def test_empty_image_files_are_not_left_out_in_silence(tmp_path: Path) -> None:
    data = str(make_images(tmp_path / "images", 8))
    (tmp_path / "images" / "005.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 image files in .* are empty, the first is 005\.png"):
        batches(data, batch_size=4, last=1)
