"""Kept listings: never a listing that a fresh one would not give, and few look-ups where nothing changed."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdssl_bench.analysis import samples
from sdssl_bench.datasets import kept_trees
from sdssl_bench.datasets.kept_trees import kept_in, list_tree
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.trees import Tree, images_below
from sdssl_bench.errors import DataError

AGO = time.time() - 3600


def put(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def settle(root: Path, at: float = AGO) -> None:
    """As if nothing had changed for an hour."""
    for here, _, _ in os.walk(root):
        os.utime(here, (at, at))


def plain(tree: Tree) -> dict[str, object]:
    return {name: (one.files, one.sizes.tolist(), one.times.tolist()) for name, one in tree.items()}


@pytest.fixture(autouse=True)
def keep_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_trees, "KEPT_ROWS", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.PNG", "b/deep/3.jpg", "c/4.webp", "5.png", "b/.6.png", "b/7.txt"):
        put(tmp_path / "set" / name, name.encode())
    (tmp_path / "set" / "a" / "loop").symlink_to(tmp_path / "set" / "a")
    (tmp_path / "set" / "c" / "gone.png").symlink_to(tmp_path / "none.png")
    settle(tmp_path / "set")
    return tmp_path / "set"


def listing(root: Path, cache: Path) -> tuple[Tree, list[str]]:
    said: list[str] = []
    with kept_in(cache, said.append):
        return list_tree(root), said


def test_a_tree_is_listed_by_branches_with_facts(root: Path) -> None:
    tree = list_tree(root)
    assert {name: one.files for name, one in tree.items()} == {
        "": ["5.png"], "a": ["1.png", "2.PNG"], "b": ["deep/3.jpg"], "c": ["4.webp", "gone.png"],
    }  # fmt: skip
    assert tree["c"].sizes.tolist() == [8, -1]
    assert tree["a"].times[0] == (root / "a" / "1.png").stat().st_mtime_ns
    assert images_below(root / "b") == ["deep/3.jpg"]


def test_what_is_kept_is_what_was_listed_and_says_nothing(root: Path, tmp_path: Path) -> None:
    first, said = listing(root, tmp_path / "cache")
    assert (len(list((tmp_path / "cache" / "listings").iterdir())), said) == (1, [])
    again, said = listing(root, tmp_path / "cache")
    assert (plain(again), said) == (plain(first), [])
    assert again["a"].folders == first["a"].folders


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "new": (lambda root: put(root / "a" / "9.png"), r"1 files new \(first a/9.png\)"),
    "gone": (lambda root: (root / "a" / "1.png").unlink(), r"1 files gone \(first a/1.png\)"),
    "replaced": (
        lambda root: put(root / "b/deep/3.jpg", b"longer than before"),
        r"1 files changed",
    ),
    "touched": (lambda root: os.utime(root / "a" / "1.png"), r"1 files changed \(first a/1.png\)"),
    "deep": (lambda root: put(root / "b/deep/deeper/9.png"), r"new \(first b/deep/deeper/9.png\)"),
    "class": (lambda root: put(root / "d" / "9.png"), r"1 files new \(first d/9.png\)"),
    "renamed": (lambda root: (root / "c").rename(root / "e"), r"2 files new .*2 files gone"),
    "top": (lambda root: put(root / "8.png"), r"1 files new \(first 8.png\)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_said(root: Path, tmp_path: Path, change: str) -> None:
    listing(root, tmp_path / "cache")
    act, message = CHANGES[change]
    act(root)
    found, said = listing(root, tmp_path / "cache")
    assert plain(found) == plain(list_tree(root))
    assert len(said) == 1
    assert re.search(message, said[0])
    assert listing(root, tmp_path / "cache")[1] in ([], said)  # Too fresh to be kept, or kept.
    settle(root, AGO + 60)
    listing(root, tmp_path / "cache")
    assert listing(root, tmp_path / "cache")[1] == []


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["1.png", "x/2.png"]), st.booleans()),
        max_size=6,
    )
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changes_give_the_fresh_listing(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str, bool]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    put(root / "set" / "a" / "0.png")
    settle(root)
    for number, (branch, name, make) in enumerate(changes):
        path = root / "set" / branch / name
        if make:
            put(path, b"x" * (1 + number))
        else:
            path.unlink(missing_ok=True)
        settle(root, AGO + number)
        assert plain(listing(root / "set", root / "cache")[0]) == plain(list_tree(root / "set"))


def test_a_folder_that_changed_just_now_is_not_kept(root: Path, tmp_path: Path) -> None:
    put(root / "a" / "9.png")
    listing(root, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_listing_is_made_again(root: Path, tmp_path: Path) -> None:
    first, _ = listing(root, tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "listings").iterdir()
    for content in (b"", path.read_bytes()[:-40], path.read_bytes()[:200] + b"\0" * 50):
        path.write_bytes(content)
        found, said = listing(root, tmp_path / "cache")
        assert (plain(found), said) == (plain(first), [])


def test_a_cache_that_cannot_be_written_is_said_and_hinders_nothing(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    found, said = listing(root, tmp_path / "cache")
    assert plain(found) == plain(list_tree(root))
    assert "cannot be kept" in said[0]


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "set" / "a")
    os.makedirs(folder)  # noqa: PTH103
    try:
        with open(folder + b"/\xff\xfe.png", "wb") as file:  # noqa: PTH123
            file.write(b"x")
    except OSError:
        pytest.skip("this file system has text names only")
    settle(tmp_path)
    first, _ = listing(tmp_path / "set", tmp_path / "cache")
    assert plain(listing(tmp_path / "set", tmp_path / "cache")[0]) == plain(first)


def test_few_files_are_looked_up_where_there_are_too_many(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing(root, tmp_path / "cache")
    monkeypatch.setattr(kept_trees, "CHECKED_ROWS", 0)
    monkeypatch.setattr(kept_trees, "CHECK_SECONDS", -1.0)
    scanned: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    monkeypatch.setattr(kept_trees, "_file_facts", scanned.append)
    listing(root, tmp_path / "cache")
    assert scanned == []


def test_a_file_that_was_overwritten_unseen_is_an_error_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    for name in ("train/a/1.png", "train/a/2.png", "val/a/1.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((9, 9), 50).save(tmp_path / "set" / name)
    settle(tmp_path / "set")
    monkeypatch.setattr(kept_trees, "CHECKED_ROWS", 0)
    monkeypatch.setattr(kept_trees, "CHECK_SECONDS", -1.0)
    name = f"folder:{tmp_path / 'set'}"
    assert load(name, data_root=None, cache_dir=tmp_path).train.listed is None
    Image.effect_noise((9, 9), 50).save(tmp_path / "set/train/a/2.png")
    images = load(name, data_root=None, cache_dir=tmp_path).train
    images.load(0)
    for one in (images, samples.subset(images, np.array([1]))):
        with pytest.raises(DataError, match=r"a/2\.png was overwritten .* touch .*train/a$"):
            one.load(len(one) - 1)
    (tmp_path / "set/train/a").touch()
    load(name, data_root=None, cache_dir=tmp_path).train.load(1)


def test_a_run_finds_the_listing_and_says_what_changed(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / name)
    settle(tmp_path / "set")
    said: list[str] = []

    def fingerprints() -> tuple[str, str]:
        data = load(
            f"folder:{tmp_path / 'set'}", data_root=None, cache_dir=tmp_path, say=said.append
        )
        return data.train.fingerprint, data.train.freshness

    before = fingerprints()
    assert fingerprints() == before
    Image.effect_noise((9, 9), 50).save(tmp_path / "set/train/a/1.png")
    assert fingerprints()[0] != before[0]
    assert len(said) == 1
    assert said[0].startswith(
        f"{tmp_path / 'set/train'} changed since it was listed: 1 files changed"
    )
