"""The DAVIS layout: official counts, the miniature, and copies that are not as they should be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from davis_videos import blocks, write_video
from mini_data import shared_mini
from sdssl_bench.cli.main import app
from sdssl_bench.datasets import spec
from sdssl_bench.datasets.mini.davis import VIDEOS
from sdssl_bench.datasets.mini.make import make_mini
from sdssl_bench.datasets.readers.davis import load
from sdssl_bench.datasets.readers.palette import read_mask, write_mask
from sdssl_bench.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cat", "tree"):
        write_video(tmp_path / "DAVIS", name, blocks((5, 7), 4, patch=8))
    return tmp_path / "DAVIS"


def test_a_folder_of_videos_is_read_in_order(root: Path) -> None:
    data = load(f"folder:{root}", data_root=None)
    assert [video.name for video in data.videos] == ["cat", "tree"]
    assert data.variant == "folder"
    assert (data.num_frames, data.num_objects) == (8, 4)
    assert [path.stem for path in data.videos[0].frames] == ["00000", "00001", "00002", "00003"]
    assert data.videos[0].size == (40, 56)


def test_a_list_chooses_and_orders_the_sequences(root: Path) -> None:
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("tree\n")
    assert [v.name for v in load(f"folder:{root}", data_root=None).videos] == ["tree"]


def test_sets_of_one_object_are_read_as_such_and_davis_2016_by_its_own_list(root: Path) -> None:
    for path in (root / "Annotations").rglob("*.png"):
        write_mask(path, 255 * (read_mask(path) > 0))
    with pytest.raises(DataError, match="--single-object"):
        load(f"folder:{root}", data_root=None)
    data = load(f"folder:{root}", data_root=None, single_object=True)
    assert data.num_objects == 2
    assert set(np.unique(data.videos[0].annotation(0))) == {0, 1}
    (root / "ImageSets" / "480p").mkdir(parents=True)
    line = "/JPEGImages/480p/tree/00000.jpg /Annotations/480p/tree/00000.png"
    (root / "ImageSets" / "480p" / "val.txt").write_text(f"{line}\n{line}\n")
    data = load(f"folder:{root}", data_root=None, single_object=True)
    assert [video.name for video in data.videos] == ["tree"]


def test_the_miniature_of_davis_has_one_object_a_sequence_where_they_are_united() -> None:
    data = load("davis", data_root=shared_mini(), single_object=True)
    assert (data.variant, data.num_objects) == ("mini", len(VIDEOS))


def test_absent_ids_are_noted_and_move_no_fingerprint(root: Path) -> None:
    assert "absent_ids" not in load(f"folder:{root}", data_root=None).notes
    for path in (root / "Annotations" / "480p" / "cat").glob("*.png"):
        ids = read_mask(path)
        write_mask(path, np.where(ids == 2, 3, ids))
    data = load(f"folder:{root}", data_root=None)
    assert (data.notes["absent_ids"], data.num_objects) == ({"cat": [2]}, 5)


def test_the_fingerprint_follows_the_content_and_not_the_place(root: Path, tmp_path: Path) -> None:
    before = load(f"folder:{root}", data_root=None)
    moved = root.rename(tmp_path / "elsewhere")
    after = load(f"folder:{moved}", data_root=None)
    assert after.fingerprint == before.fingerprint
    assert after.videos[0].freshness != before.videos[0].freshness
    mask = moved / "Annotations" / "480p" / "cat" / "00002.png"
    write_mask(mask, np.random.default_rng(0).integers(0, 3, read_mask(mask).shape))
    assert load(f"folder:{moved}", data_root=None).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ("frame", r"cat: expected a mask for each frame, found no frame for 00002"),
        ("mask", r"480p/cat: expected an annotation of every frame, found none of frame 2 "),
        (
            "size",
            r"00000\.png: expected a mask of 56 x 40 pixels, the size of its frame, found 40 x 40",
        ),
        ("empty", r"00000\.png: expected an object .* found ids 0"),
        ("rgb", r"00000\.png: expected object ids .* found mode RGB"),
        ("truncated", r"00000\.png: expected a PNG mask, found a damaged file"),
        ("folder", r"expected the frames of cat as \*\.jpg, found no such folder"),
        ("short", r"three frames or more, found 2 PNG files"),
    ],
)
def test_a_wrong_sequence_is_an_error_that_names_it(
    root: Path, break_it: str, message: str
) -> None:
    frames, masks = (root / part / "480p" / "cat" for part in ("JPEGImages", "Annotations"))
    first = masks / "00000.png"
    if break_it in ("frame", "mask"):
        (frames / "00002.jpg" if break_it == "frame" else masks / "00002.png").unlink()
    elif break_it == "size":
        write_mask(first, read_mask(first)[:, :40])
    elif break_it == "empty":
        write_mask(first, 0 * read_mask(first))
    elif break_it == "rgb":
        Image.fromarray(np.zeros((40, 56, 3), np.uint8)).save(first)
    elif break_it == "truncated":
        first.write_bytes(first.read_bytes()[:-30])
    elif break_it == "folder":
        frames.rename(root / "gone")
    else:
        for t in (2, 3):
            (masks / f"0000{t}.png").unlink()
    with pytest.raises(DataError, match=message):
        load(f"folder:{root}", data_root=None)
    rest = load(f"folder:{root}", data_root=None, allow_partial=True)
    assert [video.name for video in rest.videos] == ["tree"]
    assert rest.variant == "partial"
    assert len(rest.notes["left_out"]) == 1


def test_official_val_is_never_taken_for_complete(root: Path) -> None:
    with pytest.raises(DataError, match=r"expected 30 complete sequences, found 0"):
        load("davis", data_root=root.parent)
    for name in ("missing", "none"):
        with pytest.raises(DataError, match=r"not found|to be a folder"):
            load("davis", data_root=root.parent / name)
    with pytest.raises(DataError, match="No data root is set"):
        load("davis", data_root=None)


def test_an_official_sequence_needs_its_official_number_of_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "DAVIS", "goat", blocks((5, 7), 4, patch=8))
    write_video(tmp_path / "DAVIS", "judo", blocks((5, 7), spec("davis").sizes["judo"], patch=8))
    rest = load("davis", data_root=tmp_path, allow_partial=True)
    assert [video.name for video in rest.videos] == ["judo"]
    assert rest.variant == "partial"
    wrong = "goat: expected 90 frames in JPEGImages/480p, found 4"
    assert wrong in rest.notes["left_out"]


def test_the_miniature_is_complete_exact_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for part in ("a", "b"):
        make_mini(tmp_path / part, names=["davis"], seed=3)
    one, two = (load("davis", data_root=tmp_path / part) for part in ("a", "b"))
    assert one.variant == "mini"
    assert one.fingerprint == two.fingerprint
    for video, again in zip(one.videos, two.videos):
        expected = VIDEOS[video.name]
        assert (video.size, len(video.frames), video.num_objects) == (
            expected.size, expected.frames, expected.objects,
        )  # fmt: skip
        assert video.num_objects >= 2
        for path, twin in zip((*video.frames, *video.masks), (*again.frames, *again.masks)):
            assert path.read_bytes() == twin.read_bytes()
        ids = [read_mask(path) for path in video.masks]
        assert all(set(np.unique(mask)) == set(range(expected.objects + 1)) for mask in ids)
        assert not np.array_equal(ids[0], ids[-1])
    assert {v.size[0] > v.size[1] for v in one.videos} == {True, False}
    assert any(v.size[0] == v.size[1] for v in one.videos)


def test_a_damaged_miniature_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    make_mini(tmp_path / "data", names=["davis"])
    lost = tmp_path / "data" / "DAVIS" / "Annotations" / "480p" / "mini-square" / "00003.png"
    lost.unlink()
    with pytest.raises(DataError, match="mini-square"):
        load("davis", data_root=tmp_path / "data")
    make_mini(tmp_path / "data", names=["davis"])
    assert lost.exists()


def check(data_root: Path, *more: str) -> tuple[int, dict]:
    done = CliRunner().invoke(
        app, ["data", "check", "davis", "--json", "--data-root", str(data_root), *more]
    )
    return done.exit_code, json.loads(done.stdout)[0]


def test_data_check_counts_and_decodes(tmp_path: Path) -> None:
    make_mini(tmp_path / "data", names=["davis"])
    code, report = check(tmp_path / "data", "--decode")
    assert code == 0
    assert report["ok"]
    assert report["verified"][0].startswith("3 sequences, 21 frames, 7 objects")
    frame = tmp_path / "data" / "DAVIS" / "JPEGImages" / "480p" / "mini-square" / "00003.jpg"
    frame.write_bytes(frame.read_bytes()[:-100])
    code, report = check(tmp_path / "data", "--decode")
    assert code == 3
    assert len(report["unreadable"]) == 1
    assert str(frame) in report["unreadable"][0]


def test_data_check_says_what_is_missing(root: Path) -> None:
    code, report = check(root.parent)
    assert code == 3
    assert "expected 30 complete sequences" in report["problems"][0]
    code, report = check(root.parent / "Annotations-of-nothing")
    assert code == 3
    assert not report["ok"]


@pytest.mark.skipif(
    not (Path(__file__).resolve().parents[3] / "shared" / "data" / "pumavos_chair").is_dir(),
    reason="needs the PUMaVOS clip",
)
def test_a_real_clip_with_other_file_names_is_read() -> None:
    clip = Path(__file__).resolve().parents[3] / "shared" / "data" / "pumavos_chair"
    data = load(f"folder:{clip}", data_root=None)
    assert (data.num_frames, data.num_objects) == (30, 1)
    assert data.videos[0].size == (480, 720)
