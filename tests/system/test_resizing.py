"""Frames resized by numpy are OpenCV's to the bit; where OpenCV cannot be loaded, a run says so once."""

import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from davis_videos import MeanColour, blocks, context, write_video
from sdssl_bench import tasks
from sdssl_bench.records.provenance import environment
from sdssl_bench.system import resizing
from sdssl_bench.system.progress import Progress
from sdssl_bench.system.resizing import (
    TWIN,
    missing_opencv,
    opencv_version,
    resize,
    resize_by_numpy,
)

SIDE = st.one_of(st.integers(1, 4), st.integers(1, 90))


@pytest.fixture
def no_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose `cv2` finds no libGL, which leaves its folder on the path as the real one does."""
    (tmp_path / "site" / "cv2").mkdir(parents=True)
    (tmp_path / "site" / "cv2" / "__init__.py").write_text(
        "import sys\n"
        "sys.path.insert(1, __path__[0])\n"
        'raise ImportError("libGL.so.1: cannot open shared object file")\n'
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    resizing._opencv.cache_clear()
    yield
    resizing._opencv.cache_clear()


def noise(height: int, width: int, *, seed: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
    # Black and white pixels reach the ends of the fixed-point range.
    return np.where(rng.random(pixels.shape) < 0.2, np.uint8(255) * (pixels > 127), pixels)


@pytest.mark.skipif(opencv_version() == TWIN, reason=str(missing_opencv()))
@settings(max_examples=400, deadline=None)
@given(source=st.tuples(SIDE, SIDE), target=st.tuples(SIDE, SIDE), seed=st.integers(0, 2**32 - 1))
@example(source=(480, 854), target=(480, 832), seed=0)
@example(source=(480, 854), target=(476, 840), seed=1)
@example(source=(1080, 1920), target=(480, 832), seed=2)
@example(source=(96, 128), target=(48, 64), seed=3)  # halved in both directions: a case of its own
@example(source=(96, 128), target=(48, 128), seed=4)
@example(source=(1, 1), target=(7, 5), seed=5)
@example(source=(31, 1), target=(1, 31), seed=6)
def test_numpy_resizes_as_opencv_does_to_the_bit(
    source: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    import cv2

    pixels = noise(*source, seed=seed)
    expected = cv2.resize(pixels, target[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_by_numpy(pixels, target), expected)
    assert np.array_equal(resize(pixels, target), expected)


@settings(max_examples=60, deadline=None)
@given(source=st.tuples(SIDE, SIDE), target=st.tuples(SIDE, SIDE), grey=st.integers(0, 255))
def test_an_even_picture_stays_even(
    source: tuple[int, int], target: tuple[int, int], grey: int
) -> None:
    resized = resize_by_numpy(np.full((*source, 3), grey, np.uint8), target)
    assert resized.shape == (*target, 3)
    assert (resized == grey).all()


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(SIDE, SIDE), seed=st.integers(0, 2**32 - 1))
def test_the_same_size_is_the_same_picture(size: tuple[int, int], seed: int) -> None:
    pixels = noise(*size, seed=seed)
    assert np.array_equal(resize_by_numpy(pixels, size), pixels)


@settings(max_examples=60, deadline=None)
@given(source=st.tuples(SIDE, SIDE), target=st.tuples(SIDE, SIDE), seed=st.integers(0, 2**32 - 1))
def test_pixels_are_those_of_real_arithmetic_but_for_rounding(
    source: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    pixels = noise(*source, seed=seed).astype(float)
    for axis, (old, new) in enumerate(zip(source, target)):
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        pixels = np.apply_along_axis(
            lambda line, at=centres: np.interp(at, np.arange(len(line)), line), axis, pixels
        )
    found = resize_by_numpy(noise(*source, seed=seed), target)
    assert np.abs(found - pixels).max() < 1


def test_a_run_without_opencv_says_so_once_and_scores_the_same(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = tmp_path / "videos"
    for name in ("a", "b"):
        write_video(root, name, blocks((6, 9), 4, patch=16))
    task = tasks.load("davis", "dino", {"short_side": "64", "long_multiple": "16"})
    found, said = [], StringIO()
    for step in range(3):
        if step == 1:
            request.getfixturevalue("no_opencv")
        with Progress(stream=said if step else StringIO()) as progress:
            ctx = context(tmp_path / str(step), progress=progress)
            data = task.load_data(f"folder:{root}", ctx)
            for _ in range(2):
                found += list(task.run(MeanColour(), data, [1, 2], ctx))
        # Each Progress belongs to one command.
        assert said.getvalue().count("apt-get install libgl1 libglib2.0-0") == step
    assert said.getvalue().count("libGL.so.1: cannot open shared object file") == 2
    for one in found[2:]:
        twin = found[(one.layer - 1) % 2]
        assert one.metrics == twin.metrics
        assert np.array_equal(one.items["F"], twin.items["F"])


@pytest.mark.usefixtures("no_opencv")
def test_a_failed_import_leaves_nothing_on_the_path() -> None:
    before = list(sys.path)
    assert "libGL.so.1" in str(missing_opencv())
    assert sys.path == before


def test_the_record_names_the_opencv_that_resized(request: pytest.FixtureRequest) -> None:
    assert environment(device="cpu", processes=1)["opencv"] == opencv_version()
    request.getfixturevalue("no_opencv")
    assert environment(device="cpu", processes=1)["opencv"] == TWIN
