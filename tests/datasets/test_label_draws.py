"""Which images have a label, against the rule in plain Python, and what no draw may depend on."""

import hashlib
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from sdssl_bench import tasks
from sdssl_bench.datasets import ClassificationData, ImageSet
from sdssl_bench.datasets.few_labels import FewLabelTask, ImageList
from sdssl_bench.datasets.label_draws import LabelDraws, draw, listed
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.parameters import recorded_parameters

COUNTS = (5, 9, 20, 3)
"""Images of each class."""


def images(order: list[int] | None = None, split: str = "train") -> ImageSet:
    targets = np.repeat(np.arange(len(COUNTS)), COUNTS)
    names = [f"{split}/n{target}/n{target}_{place}.JPEG" for place, target in enumerate(targets)]
    if order is not None:
        targets, names = targets[order], [names[place] for place in order]
    return ImageSet(
        dataset="made", split=split, class_names=("a", "b", "c", "d"), targets=targets, names=names,
        root=Path("/nowhere"), fingerprint="", freshness="",
    )  # fmt: skip


def data(variant: str = "official") -> ClassificationData:
    return ClassificationData("made", variant, "top1", images(), images(split="test"))


def by_hand(which: ImageSet, size: dict[int, int], tries: int, seed: int) -> list[list[int]]:
    """The rule, image by image: of every class the first by 8 bytes of a hash of their names."""
    found = []
    for one in range(tries):
        rows = []
        for target in range(which.num_classes):
            members = [n for n in range(len(which)) if which.targets[n] == target]
            text = [f"sdssl-bench label draws 1:{seed}:{which.names[n]}" for n in members]
            keys = [
                hashlib.shake_128(t.encode()).digest(8 * tries)[8 * one : 8 * one + 8] for t in text
            ]
            rows += [n for _, n in sorted(zip(keys, members, strict=True))][: size[target]]
        found.append(sorted(rows))
    return found


@pytest.mark.parametrize(("shots", "fraction"), [(1, 1.0), (3, 1.0), (0, 0.1), (0, 0.5)])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_try_is_what_the_rule_says(shots: int, fraction: float, seed: int) -> None:
    which = images()
    found = draw(which, shots=shots, fraction=fraction, tries=4, seed=seed)
    size = {n: shots or max(1, round(fraction * count)) for n, count in enumerate(COUNTS)}
    assert [rows.tolist() for rows in found.rows] == by_hand(which, size, 4, seed)
    for rows in found.rows:
        assert np.bincount(which.targets[rows]).tolist() == list(size.values())
    assert len({tuple(rows.tolist()) for rows in found.rows}) == 4, "tries differ"
    assert len(set(found.digests)) == 4


def test_draws_repeat_and_other_seeds_draw_others() -> None:
    first, again, other = (
        draw(images(), shots=2, fraction=1.0, tries=3, seed=seed) for seed in (0, 0, 1)
    )
    assert first.describe() == again.describe()
    assert "absent" not in first.describe()
    assert set(first.digests).isdisjoint(other.digests)


def test_fewer_labels_are_among_more_and_more_tries_begin_with_fewer() -> None:
    few, more = (draw(images(), shots=n, fraction=1.0, tries=3, seed=0) for n in (1, 3))
    for small, large in zip(few.rows, more.rows, strict=True):
        assert set(small) < set(large)
    longer = draw(images(), shots=1, fraction=1.0, tries=6, seed=0)
    assert longer.digests[:3] == few.digests


def test_no_order_of_files_moves_a_draw() -> None:
    order = np.random.default_rng(0).permutation(sum(COUNTS)).tolist()
    plain, mixed = images(), images(order)
    for one, other in zip(
        *(draw(which, shots=2, fraction=1.0, tries=3, seed=0).rows for which in (plain, mixed)),
        strict=True,
    ):
        assert {plain.names[n] for n in one} == {mixed.names[n] for n in other}


def test_the_whole_share_is_every_image() -> None:
    for rows in draw(images(), shots=0, fraction=1.0, tries=2, seed=0).rows:
        np.testing.assert_array_equal(rows, np.arange(sum(COUNTS)))


def test_a_class_with_too_few_images_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match=r"4 labels of every class .* 'd' of made has 3 training"):
        draw(images(), shots=4, fraction=1.0, tries=1, seed=0)
    with pytest.raises(UsageError, match="under --limit 8"):
        draw(images(), shots=3, fraction=1.0, tries=1, seed=0, limit=8)


def test_places_are_rows_of_a_bank_and_a_bank_without_one_is_an_error() -> None:
    found = LabelDraws((np.array([3, 8]), np.array([5, 8])), ("", ""))
    assert found.union.tolist() == [3, 5, 8]
    bank = np.array([1, 3, 5, 8])
    assert [rows.tolist() for rows in found.places(bank)] == [[1, 3], [2, 3]]
    with pytest.raises(DataError, match="1 of the training images whose labels are used cannot"):
        found.places(np.array([3, 5, 9]))


def test_a_list_names_images_whole_or_by_the_end_of_their_paths() -> None:
    names = images().names
    wanted = (names[30].rpartition("/")[2], names[4], names[11].rpartition("/")[2])
    (rows,) = listed(data(), wanted, limit=None).rows
    assert rows.tolist() == [4, 11, 30]
    with pytest.raises(DataError, match=r"lists 2 images, 1 of them .*first other\.JPEG"):
        listed(data(), (names[0], "other.JPEG"), limit=None)
    part = listed(data("partial"), (names[0], "other.JPEG"), limit=None)
    assert part.describe()["absent"] == 1
    with pytest.raises(DataError, match="lists 1 images, 1 of them"):
        listed(data("partial"), ("other.JPEG",), limit=None)


def test_a_name_of_two_images_is_an_error() -> None:
    twice = images()
    names = ["train/a/1.png", "train/b/1.png", *twice.names[2:]]
    one = ClassificationData("made", "official", "top1", _named(twice, names), twice)
    with pytest.raises(DataError, match=r"1\.png in the list .* fits several images of made"):
        listed(one, ("1.png",), limit=None)


def _named(which: ImageSet, names: list[str]) -> ImageSet:
    object.__setattr__(which, "names", names)
    return which


def test_a_list_is_recorded_by_its_digest_and_not_by_its_place(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.txt").write_text("x.JPEG\ny.JPEG\n")
    digest = hashlib.sha256(b"x.JPEG\ny.JPEG\n").hexdigest()
    found = [
        tasks.load("knn", None, {"subset": str(tmp_path / folder / f"{folder}.txt")})
        for folder in ("a", "b")
    ]
    (text,) = {str(recorded_parameters(one)["subset"]) for one in found}
    assert text == f"2 images, sha256 {digest}"
    assert found[0].part == "list-2"
    one: ImageList = deepcopy(ImageList.read(str(tmp_path / "a" / "a.txt")))
    assert one.names == ("x.JPEG", "y.JPEG")
    for content, message in (("", "found none"), ("x\nx\n", "1 of them twice")):
        (tmp_path / "wrong.txt").write_text(content)
        with pytest.raises(DataError, match=message):
            ImageList.read(str(tmp_path / "wrong.txt"))
    with pytest.raises(DataError, match="takes a text file"):
        ImageList.read(str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, ""),
        ({"fraction": "1"}, ""),
        ({"shots": "4"}, "4-shot"),
        ({"fraction": "0.01"}, "1-percent"),
        ({"fraction": "0.125"}, "12.5-percent"),
    ],
)
def test_a_budget_is_told_in_the_protocol_and_tries_are_recorded(
    changes: dict[str, str], part: str
) -> None:
    for task in (tasks.load("knn", None, changes), tasks.load("linear", "logreg", changes)):
        assert isinstance(task, FewLabelTask)
        assert task.part == part
        recorded = recorded_parameters(task)
        assert recorded.get("tries") == (5 if part else None)
        assert {"shots", "fraction", "subset"} & recorded.keys() == (
            changes.keys() if part else set()
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": "1", "fraction": "0.1"}, "three ways"),
        ({"shots": "-1"}, "numbers from 0"),
        ({"fraction": "0"}, "above 0"),
        ({"fraction": "1.5"}, "at most 1"),
        ({"tries": "3"}, "tries has no effect"),
    ],
)
def test_what_makes_no_budget_is_a_usage_error(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tasks.load("knn", None, changes)


def test_few_labels_are_for_logistic_regression() -> None:
    with pytest.raises(UsageError, match="logistic regression: --protocol logreg"):
        tasks.load("linear", "mocov3", {"shots": "1"})
