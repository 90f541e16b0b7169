"""CIFAR: official pickles of Python 2, re-saved ones, the binary archive; hostile and broken files."""

import io
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets.cifar import CIFAR10

from mini_data import copy_of, declare, shared_mini
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.readers.unpickle import load_arrays
from sdssl_bench.errors import DataError

PIXELS = np.random.default_rng(1).integers(0, 256, (7, 3072), dtype=np.uint8)
LABELS = [0, 1, 2, 2, 1, 0, 2]


def test_the_official_pickles_are_read_as_torchvision_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    ours = load("cifar10", data_root=shared_mini())
    for split, images in (("train", ours.train), ("test", ours.test)):
        with warnings.catch_warnings():
            # numpy may warn torchvision's loader of the old module name in the official files.
            warnings.simplefilter("ignore", DeprecationWarning)
            theirs = CIFAR10(str(shared_mini()), train=split == "train")
        assert np.array_equal(images.pixels, theirs.data)
        assert images.targets.tolist() == theirs.targets
        assert list(images.class_names) == theirs.classes


def test_items_are_in_file_order_and_named_by_file_and_row() -> None:
    train = load("cifar10", data_root=shared_mini()).train
    assert train.names[0] == "data_batch_1:0"
    assert train.names[-1] == "data_batch_5:39"
    assert train.pixels is not None
    assert train.pixels.flags["C_CONTIGUOUS"]
    assert train.predefined_val is None


def test_pixels_are_channel_first_in_the_file_and_rgb_when_loaded(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 32, 32), np.uint8)
    pixels[0, 0], pixels[1, 2, 5, 7] = 255, 9
    write_cifar100_binary(tmp_path, pixels.reshape(2, 3072), [1, 0])
    train = load("cifar100", data_root=tmp_path).train
    assert train.load(0).getpixel((3, 3)) == (255, 0, 0)
    # Row 5, column 7; Pillow counts columns first.
    assert train.load(1).getpixel((7, 5)) == (0, 0, 9)


def write_cifar100_binary(root: Path, pixels: np.ndarray, fine: list[int]) -> None:
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("apple\nbear\n")
    coarse = [9] * len(fine)
    for split in ("train", "test"):
        rows = np.concatenate([np.array([coarse, fine], np.uint8).T, pixels], axis=1)
        (folder / f"{split}.bin").write_bytes(rows.tobytes())
    declare(root, "cifar100", classes=2, train=len(fine), test=len(fine))


def test_the_binary_archive_has_the_fine_label_second(tmp_path: Path) -> None:
    write_cifar100_binary(tmp_path, PIXELS[:3], [1, 0, 1])
    assert load("cifar100", data_root=tmp_path).train.targets.tolist() == [1, 0, 1]


def test_both_archives_of_the_same_images_have_the_same_fingerprint(tmp_path: Path) -> None:
    source = load("cifar10", data_root=shared_mini())
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(source.train.class_names) + "\n\n")
    for images in (source.train, source.test):
        assert images.pixels is not None
        flat = images.pixels.transpose(0, 3, 1, 2).reshape(len(images), -1)
        rows = np.concatenate([images.targets.astype(np.uint8)[:, None], flat], axis=1)
        for stem in dict.fromkeys(name.partition(":")[0] for name in images.names):
            chosen = [name.startswith(f"{stem}:") for name in images.names]
            (folder / f"{stem}.bin").write_bytes(rows[chosen].tobytes())
    declare(tmp_path, "cifar10", classes=10, train=200, test=100)
    binary = load("cifar10", data_root=tmp_path)
    assert binary.train.fingerprint == source.train.fingerprint
    assert binary.test.fingerprint == source.test.fingerprint
    assert binary.train.class_names == source.train.class_names


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("key", [str, str.encode], ids=["str", "bytes"])
def test_pickles_saved_again_by_python_3_are_read(tmp_path: Path, protocol: int, key) -> None:
    path = tmp_path / "train"
    content = {key("data"): PIXELS, key("fine_labels"): np.array(LABELS), key("x"): np.float64(0.5)}
    path.write_bytes(pickle.dumps(content, protocol))
    if protocol == 5:
        # Protocol 5 names a function of numpy that no official file needs.
        with pytest.raises(DataError, match="_frombuffer"):
            load_arrays(path)
        return
    read = load_arrays(path)
    assert np.array_equal(read[key("data")], PIXELS)
    assert read[key("fine_labels")].tolist() == LABELS
    assert read[key("x")] == 0.5


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_in_fortrans_order_keep_their_values(tmp_path: Path, protocol: int) -> None:
    path, cube = tmp_path / "x", np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    path.write_bytes(pickle.dumps([cube, cube], protocol))
    assert all(np.array_equal(one, cube) for one in load_arrays(path))


def test_big_endian_arrays_keep_their_values_and_leave_numpy_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pickle.dumps(np.array([1, 2, 770], ">i4"), 2))
    assert load_arrays(path).tolist() == [1, 2, 770]
    assert np.dtype("i4").byteorder == "="


class Hostile:
    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, ("touch OWNED",)), "system"),
        ((eval, ("open('OWNED', 'w')",)), "eval"),
        ((getattr, ("", "format")), "getattr"),
        ((np.load, ("x", None, True)), "numpy.*load"),
        ((io.open, ("OWNED", "w")), "open"),
        ((np.fromfile, ("/etc/passwd",)), "fromfile"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, call, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copy_of("cifar10", tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"data": Hostile(*call)}, protocol))
    with pytest.raises(DataError, match=rf"data_batch_2.*{name}.*Nothing was executed"):
        load("cifar10", data_root=tmp_path)
    assert not (tmp_path / "OWNED").exists()


def test_object_arrays_and_calls_of_the_array_class_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pickle.dumps(np.array([{}, []], object), 2))
    with pytest.raises(DataError, match="dtype object"):
        load_arrays(path)
    path.write_bytes(b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.")
    with pytest.raises(DataError, match="cannot be read"):
        load_arrays(path)


@pytest.mark.parametrize("file", ["data_batch_4", "test_batch", "batches.meta"])
@pytest.mark.parametrize("kept", [0.0, 0.4, 0.999])
def test_a_truncated_pickle_is_an_error_that_names_it(
    tmp_path: Path, file: str, kept: float
) -> None:
    path = copy_of("cifar10", tmp_path) / file
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for allow in (False, True):
        with pytest.raises(DataError, match=file):
            load("cifar10", data_root=tmp_path, allow_partial=allow)


def test_a_truncated_binary_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_cifar100_binary(tmp_path, PIXELS, [0, 1, 0, 1, 0, 1, 0])
    path = tmp_path / "cifar-100-binary/train.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train\.bin.*3,074"):
        load("cifar100", data_root=tmp_path)


def test_data_and_labels_must_agree_in_length(tmp_path: Path) -> None:
    path = copy_of("cifar10", tmp_path) / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": PIXELS, "labels": LABELS[:-1]}, 2))
    with pytest.raises(DataError, match=r"\[6, 3072\].*found uint8 \[7, 3072\]"):
        load("cifar10", data_root=tmp_path)


def test_a_missing_batch_is_incomplete_and_the_rest_can_be_scored(tmp_path: Path) -> None:
    (copy_of("cifar10", tmp_path) / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing"):
        load("cifar10", data_root=tmp_path)
    partial = load("cifar10", data_root=tmp_path, allow_partial=True)
    assert partial.variant == "partial"
    assert len(partial.train) == 160
    assert not any(name.startswith("data_batch_3") for name in partial.train.names)
