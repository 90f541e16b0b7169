"""Copydays on disk: matching by number, missing files, and sets made by attacks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sdssl_bench.cli.main import app
from sdssl_bench.datasets import copydays
from sdssl_bench.datasets.mini.copy_attacks import make_attacks
from sdssl_bench.datasets.mini.photographs import REGIONS, whole
from sdssl_bench.datasets.mini.strong_attacks import ATTACKS, homography
from sdssl_bench.datasets.readers.copydays import BLOCKS, ONE_EACH
from sdssl_bench.errors import DataError, UsageError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for region in REGIONS[:6]:
        picture = whole(region)
        picture.thumbnail((120, 120))
        picture.save(folder / f"{region.name}.png")
    return folder


@pytest.fixture(scope="module")
def made(photographs, tmp_path_factory) -> Path:
    return make_attacks(photographs, tmp_path_factory.mktemp("made") / "copydays", seed=3).root


@pytest.fixture
def official(tmp_path) -> Path:
    """The official layout and counts; files are not decoded by loading."""
    root = tmp_path / "copydays"
    for block in BLOCKS:
        (root / block).mkdir(parents=True)
        for i in range(157):
            number = 200_000 + 100 * i
            if block != "strong":
                (root / block / f"{number:06d}.jpg").write_bytes(b"x")
    for i in range(229):
        number = 200_000 + 100 * (i % 157) + 1 + i // 157
        (root / "strong" / f"{number:06d}.jpg").write_bytes(b"x")
    return root


def test_the_official_layout_has_3212_files_and_each_copy_its_original(official) -> None:
    data = copydays.load("copydays", data_root=official.parent)
    assert (data.name, data.variant, len(data.images)) == ("copydays", "official", 3212)
    assert {block: len(rows) for block, rows in data.rows.items()} == {
        "original": 157, "strong": 229, **dict.fromkeys(ONE_EACH, 157),
    }  # fmt: skip
    for block, rows in data.rows.items():
        for row, target in zip(rows, data.targets[block], strict=True):
            original = data.images.names[data.rows["original"][target]]
            assert data.images.names[row].split("/")[-1][:4] == original.split("/")[-1][:4]


@pytest.mark.parametrize("block", ["original", "strong", "jpegqual/30", "crops/80"])
def test_a_missing_file_is_an_error_and_never_a_shift(official, block) -> None:
    victim = sorted((official / block).iterdir())[40]
    victim.unlink()
    with pytest.raises(DataError, match=f"{block}: "):
        copydays.load("copydays", data_root=official.parent)
    data = copydays.load("copydays", data_root=official.parent, allow_partial=True)
    assert data.variant == "partial"
    for name, rows in data.rows.items():
        for row, target in zip(rows, data.targets[name], strict=True):
            original = data.images.names[data.rows["original"][target]]
            assert data.images.names[row].split("/")[-1][:4] == original.split("/")[-1][:4]


def test_a_missing_block_and_a_stray_or_double_copy_are_named(official) -> None:
    shutil.rmtree(official / "crops" / "40")
    (official / "strong" / "999901.jpg").write_bytes(b"x")
    (official / "jpegqual" / "3" / "200001.jpg").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        copydays.load("copydays", data_root=official.parent)
    text = str(caught.value)
    assert "crops/40: no copy of 157 of 157 originals" in text
    assert "there is no original 999900" in text
    assert "jpegqual/3: two files are copies of one original" in text
    data = copydays.load("copydays", data_root=official.parent, allow_partial=True)
    assert data.notes["partial"]["blocks_absent"] == ["crops/40"]


def test_an_empty_file_counts_as_missing_and_a_strange_name_is_an_error(official) -> None:
    (official / "original" / "200000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="expected 157 files, found 156"):
        copydays.load("copydays", data_root=official.parent)
    (official / "strong" / "thumb.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="named by number"):
        copydays.load("copydays", data_root=official.parent)


def test_a_made_set_has_the_layout_and_says_what_it_is(made) -> None:
    data = copydays.load("copydays", data_root=made)
    assert (data.name, data.variant) == ("copydays-attacks", "folder")
    assert set(data.rows) == set(BLOCKS)
    assert all(len(data.rows[block]) == 6 for block in ONE_EACH)
    files = json.loads((made / copydays.MANIFEST).read_text())["files"]
    assert set(files) == {str(p.relative_to(made)) for p in made.rglob("*.jpg")}
    kinds = [facts["attack"] for name, facts in files.items() if name.startswith("strong/")]
    assert set(kinds) <= set(ATTACKS)
    assert len(set(kinds)) == 6
    for index in range(len(data.images)):
        data.images.load(index)


def test_the_same_pictures_and_seed_make_the_same_files(photographs, made, tmp_path) -> None:
    again = make_attacks(photographs, tmp_path / "again", seed=3, workers=1).root
    other = make_attacks(photographs, tmp_path / "other", seed=4).root
    contents = [
        {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.jpg"))}
        for root in (made, again, other)
    ]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_crops_remove_the_share_they_are_named_by(made) -> None:
    sizes = {}
    for block in ("original", "crops/10", "crops/80"):
        with Image.open(made / block / "200000.jpg") as image:
            sizes[block] = image.width * image.height
    assert sizes["crops/10"] / sizes["original"] == pytest.approx(0.9, abs=0.03)
    assert sizes["crops/80"] / sizes["original"] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_strong_attack_changes_the_picture_and_depends_on_its_generator(kind) -> None:
    picture = whole(REGIONS[0]).resize((90, 70))
    a, b = (ATTACKS[kind](picture, np.random.default_rng(1))[0] for _ in range(2))
    c = ATTACKS[kind](picture, np.random.default_rng(2))[0]
    assert a.tobytes() == b.tobytes() != c.tobytes()
    assert a.mode == "RGB"
    assert a.tobytes() != picture.tobytes()


def test_a_homography_maps_its_corners() -> None:
    source = np.array([[3.0, 1.0], [9.0, 2.0], [8.0, 7.0], [1.0, 9.0]])
    target = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    a, b, c, d, e, f, g, h = homography(source, target)
    for (x, y), (u, v) in zip(source, target, strict=True):
        w = g * x + h * y + 1
        assert ((a * x + b * y + c) / w, (d * x + e * y + f) / w) == pytest.approx((u, v))


def test_data_copydays_refuses_a_folder_with_files_and_too_few_photographs(
    photographs, tmp_path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    done = CliRunner().invoke(app, ["data", "copydays", str(photographs), str(tmp_path / "out")])
    assert done.exit_code == 2
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    lone = tmp_path / "lone"
    lone.mkdir()
    whole(REGIONS[0]).save(lone / "a.png")
    with pytest.raises(UsageError, match="at least 2 originals"):
        make_attacks(lone, tmp_path / "new")
    (lone / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        make_attacks(lone, tmp_path / "new")
    assert not (tmp_path / "new").exists()
