"""The images of a shard: what counts as one, counted alike by every reader from every start."""

import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pretrain_fixtures import make_shards, tiny
from sdssl_bench.errors import DataError
from sdssl_bench.pretrain.data import tar_images
from sdssl_bench.pretrain.data.feeding import open_feed
from sdssl_bench.pretrain.data.shards import open_shards
from sdssl_bench.pretrain.data.tar_images import image_members

FOLDER, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE
MEMBERS = [
    ("a.jpg", None), ("a.json", None), ("b.jpg", FOLDER), ("c.PNG", None), ("c.png.txt", None),
    ("d.webp", LINK), ("e.bmp", None), ("f.jpeg", None), ("g.cls", None), ("h.webp", None),
]  # fmt: skip
IMAGES = ["a.jpg", "c.PNG", "e.bmp", "f.jpeg", "h.webp"]


def mixed_shard(path: Path) -> str:
    """Images among labels, a folder and a link that are named like images."""
    with tarfile.open(path, "w") as tar:
        for name, kind in MEMBERS:
            info = tarfile.TarInfo(name)
            if kind is not None:
                info.type, info.linkname = kind, "a.jpg"
            content = b"" if kind is not None else f"bytes of {name}".encode()
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return str(path)


@pytest.mark.parametrize("start", range(len(IMAGES) + 2))
def test_reading_from_any_image_on_is_the_rest_of_reading_all(start: int, tmp_path: Path) -> None:
    name = mixed_shard(tmp_path / "x.tar")
    expected = [(one, f"bytes of {one}".encode()) for one in IMAGES]
    assert list(image_members(name, start=start)) == expected[start:]
    assert [key for key, _ in image_members(name, start=start, read=False)] == IMAGES[start:]


def test_only_images_are_counted(tmp_path: Path) -> None:
    name = mixed_shard(tmp_path / "x.tar")
    assert open_shards(name).sizes == (len(IMAGES),)
    with tarfile.open(tmp_path / "none.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(DataError, match="holds no image"):
        open_shards(str(tmp_path / "none.tar"))


@pytest.mark.parametrize(("stated", "rank", "processes"), [(14, 0, 1), (8, 1, 2), (8, 7, 8)])
def test_a_shard_short_of_images_says_how_many_it_has(
    stated: int, rank: int, processes: int, tmp_path: Path
) -> None:
    """Whichever part of it a process reads, or misses, the numbers are those of the whole shard."""
    data = make_shards(tmp_path / "s", [7])
    (tmp_path / "s" / "sizes.json").write_text(json.dumps({"000.tar": stated}))
    feed = open_feed(
        tiny(data=data, batch_size=stated, shuffle_buffer=4),
        size=32, rank=rank, world_size=processes,
    )  # fmt: skip
    with pytest.raises(DataError, match=f"has 7 images, {stated} were counted or stated"):
        list(feed.batches(0, 1))


def test_a_sample_is_numbered_by_its_place_in_all_shards(tmp_path: Path) -> None:
    """So its views are the same whichever process reads it, and from wherever that starts."""
    data = make_shards(tmp_path / "s", [5, 6, 5])
    names = {}
    for world, rank in ((1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3)):
        dataset = open_feed(
            tiny(data=data, batch_size=2 * world), size=32, rank=rank, world_size=world
        )._shard_batches((0, 1))  # type: ignore[attr-defined]
        for epoch in (0, 1):
            for number, content, key in dataset._samples(epoch, 0, 0):
                assert key.endswith(f":{number:06d}.png")
                assert names.setdefault(number, content) == content
    assert sorted(names) == list(range(16))
    assert len(set(names.values())) == 16


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("had", [0, 1, 2, 3])
def test_what_a_server_gave_before_it_failed_is_not_given_again(
    had: int, start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor left out, however often it fails."""
    file, read = mixed_shard(tmp_path / "x.tar"), tar_images._members

    def failing(name: str, **options: Any) -> Iterator[tuple[str, bytes]]:
        for number, item in enumerate(read(file, **options)):
            if number == had and waits:
                waits.pop()
                raise ConnectionResetError
            yield item

    waits = [0.0, 0.0]
    monkeypatch.setattr(tar_images, "_members", failing)
    monkeypatch.setattr(tar_images, "WAITS", tuple(waits))
    found = [key for key, _ in image_members("http://x/x.tar", start=start)]
    assert found == IMAGES[start:]
