"""`data check`: says ok of what is right, and names what is not."""

import json
import pickle
from pathlib import Path

import pytest

from mini_data import copy_of, mini_of, shared_mini
from sdssl_bench.datasets import spec
from sdssl_bench.datasets.catalogue import names
from sdssl_bench.datasets.checking import check, render
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.specs.specification import MARKER


@pytest.mark.parametrize("name", names("classification"))
def test_a_complete_copy_is_ok(name: str) -> None:
    report = check(name, data_root=shared_mini(), decode=True)
    mini = mini_of(name)
    assert (report.ok, report.state, report.variant) == (True, "complete", "mini")
    assert report.problems == report.unreadable == ()
    assert report.num_classes == {"expected": mini.classes, "found": mini.classes}
    assert report.counts["train"] == {
        "expected": mini.classes * mini.train,
        "found": mini.classes * mini.train,
        "classes": mini.classes,
        "fewest": mini.train,
        "most": mini.train,
    }
    text = render(report)
    assert text.startswith(f"{name}: ok (complete, mini) in {shared_mini()}")
    assert "every image present decodes" in text
    assert "disjoint" in text


def test_images_are_decoded_only_when_asked(tmp_path: Path) -> None:
    folder = copy_of("cub", tmp_path)
    path = sorted(folder.rglob("*.jpg"))[3]
    path.write_bytes(path.read_bytes()[:200])
    quick = check("cub", data_root=tmp_path)
    assert (quick.ok, quick.unreadable) == (True, None)
    assert "decodes" not in render(quick)
    thorough = check("cub", data_root=tmp_path, decode=True)
    assert (thorough.ok, thorough.state) == (False, "complete")
    assert thorough.unreadable is not None
    assert len(thorough.unreadable) == 1
    assert str(path) in render(thorough)
    assert "1 images cannot be decoded" in render(thorough)


def test_many_unreadable_images_are_counted_and_the_first_named(tmp_path: Path) -> None:
    folder = copy_of("dogs", tmp_path)
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"x")
    report = check("dogs", data_root=tmp_path, decode=True, num_workers=1)
    assert report.unreadable is not None
    assert len(report.unreadable) == 120
    text = render(report)
    assert text.count("UnidentifiedImageError") == 20
    assert "and 100 more" in text


def test_an_incomplete_copy_names_the_files_and_the_source(tmp_path: Path) -> None:
    copy_of("flowers", tmp_path)
    train = load("flowers", data_root=tmp_path).train
    (train.root / train.names[0]).unlink()
    report = check("flowers", data_root=tmp_path)
    assert (report.ok, report.state, report.variant) == (False, "incomplete", "partial")
    assert report.counts["train"]["found"] == 119
    text = render(report)
    for part in ("NOT OK", train.names[0], "102flowers.tgz", "setid.mat", spec("flowers").home):
        assert part in text


def test_a_set_that_is_not_there_is_a_report_and_no_exception(tmp_path: Path) -> None:
    report = check("cars", data_root=tmp_path)
    assert (report.ok, report.state, report.root) == (False, "not found", None)
    assert "cars_test_annos_withlabels.mat" in render(report)
    assert check("cars", data_root=None).state == "not found"


def test_wrong_data_is_wrong_and_not_incomplete(tmp_path: Path) -> None:
    folder = copy_of("pets", tmp_path)
    lines = (folder / "annotations/test.txt").read_text().splitlines()
    lines[0] = (folder / "annotations/trainval.txt").read_text().splitlines()[0]
    (folder / "annotations/test.txt").write_text("\n".join(lines))
    report = check("pets", data_root=tmp_path, decode=True)
    assert (report.ok, report.state, report.variant) == (False, "wrong", None)
    assert "train and test share 1 items" in render(report)
    assert "disjoint" not in " ".join(report.verified)


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    path = copy_of("cifar10", tmp_path) / "data_batch_1"
    path.write_bytes(pickle.dumps(print))
    report = check("cifar10", data_root=tmp_path)
    assert (report.ok, report.state) == (False, "wrong")
    assert "print" in render(report)


def test_official_list_files_are_held_against_their_md5(tmp_path: Path) -> None:
    copy_of("flowers", tmp_path)
    (tmp_path / MARKER).unlink()
    report = check("flowers", data_root=tmp_path)
    expected = spec("flowers").file_md5["setid.mat"]
    assert any(p.startswith(f"setid.mat: expected md5 {expected}") for p in report.problems)
    assert "md5" not in " ".join(report.verified)


def test_a_folder_is_checked_too(tmp_path: Path) -> None:
    name = f"folder:{shared_mini() / 'imagenet'}"
    report = check(name, data_root=None, decode=True)
    assert (report.ok, report.variant) == (True, "folder")
    assert report.counts["train"]["found"] == 192
    assert render(report).startswith(f"{name}: ok")
    bad = check(f"folder:{tmp_path}", data_root=None)
    assert not bad.ok
    assert "one folder per class" in render(bad)


def test_reports_are_json_values(tmp_path: Path) -> None:
    for report in (
        check("cub", data_root=shared_mini(), decode=True),
        check("cub", data_root=tmp_path),
        check(f"folder:{shared_mini() / 'imagenet'}", data_root=None),
    ):
        assert json.loads(json.dumps(report.to_json()))["name"] == report.name
