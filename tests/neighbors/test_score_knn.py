"""`score knn` on npz files: values by a loop, and an error for every way a file can be wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.neighbors.foreign_features import score_knn


def write(path: Path, features: Any, labels: Any, **more: Any) -> Path:
    np.savez(path, features=features, labels=labels, **more)
    return path


def sample(
    rows: int, seed: int, *, width: int = 5
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.choice([7, 40, 3], rows)
    features = rng.normal(size=(rows, width)) + 0.5 * np.cos(labels[:, None] * np.arange(width))
    return features.astype(np.float32), labels


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "a.npz", *sample(40, 0)), write(tmp_path / "b.npz", *sample(15, 1))


def by_loop(
    train: tuple[NDArray[Any], NDArray[Any]], test: tuple[NDArray[Any], NDArray[Any]], k: int
) -> dict[str, float]:
    """The protocol by hand: sort cosines, add exp(s / 0.07), sort classes."""
    classes = sorted(set(train[1].tolist()))
    hits: dict[int, list[tuple[bool, bool]]] = {}
    for query, label in zip(*test):
        cosine = [
            float(query @ row / np.sqrt((query @ query) * (row @ row)))
            for row in train[0].astype(np.float64)
        ]
        nearest = sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]
        votes = dict.fromkeys(classes, 0.0)
        for i in nearest:
            votes[int(train[1][i])] += float(np.exp(cosine[i] / 0.07))
        ranking = sorted(classes, key=lambda c: (-votes[c], c))
        hits.setdefault(int(label), []).append((ranking[0] == label, label in ranking[: min(5, k)]))
    every = [hit for group in hits.values() for hit in group]
    return {
        "top1": float(np.mean([a for a, _ in every])),
        "top5": float(np.mean([b for _, b in every])),
        "mean_per_class": float(np.mean([np.mean([a for a, _ in g]) for g in hits.values()])),
    }


@pytest.mark.parametrize("backend", ["auto", "torch", "faiss"])
def test_scores_equal_the_protocol_by_hand(files: tuple[Path, Path], backend: str) -> None:
    found = score_knn(*files, ks=(1, 2, 10), backend=backend)
    assert found["n"] == 15
    assert list(found["k"]) == ["1", "2", "10"]
    for k in (1, 2, 10):
        assert found["k"][str(k)] == pytest.approx(by_loop(sample(40, 0), sample(15, 1), k))
    assert 0.4 < found["k"]["10"]["top1"] < 1


def test_each_layer_is_scored_as_if_alone(tmp_path: Path) -> None:
    (one, labels), (two, _) = sample(30, 2), sample(30, 3)
    train = write(tmp_path / "a.npz", np.stack([one, two]), labels)
    test = write(tmp_path / "b.npz", np.stack([one[:9], two[:9]]), labels[:9])
    found = score_knn(train, test, ks=(1, 5))["layers"]
    assert [entry["layer"] for entry in found] == [1, 2]
    for layer, features in enumerate((one, two)):
        write(train, features, labels)
        write(test, features[:9], labels[:9])
        alone = score_knn(train, test, ks=(1, 5))
        assert found[layer] == {"layer": layer + 1, **alone}
        assert alone["k"]["1"]["top1"] == 1.0


def test_a_label_that_training_lacks_is_wrong_and_moves_no_other(tmp_path: Path) -> None:
    features = np.eye(4, dtype=np.float32)
    train = write(tmp_path / "a.npz", features, np.array([10, 20, 30, 40]))
    test = write(tmp_path / "b.npz", features, np.array([10, 20, 25, 5]))
    found = score_knn(train, test, ks=(1, 4))["k"]
    assert found["1"] == {"top1": 0.5, "top5": 0.5, "mean_per_class": 0.5}
    assert found["4"] == {"top1": 0.5, "top5": 0.5, "mean_per_class": 0.5}


@pytest.mark.parametrize("dtype", ["U8", "S8"])
def test_text_labels_score_as_the_numbers_they_stand_for(tmp_path: Path, dtype: str) -> None:
    words = {7: "été", 40: "b", 3: "c"}
    paths = []
    for name, (features, labels) in {"a": sample(40, 0), "b": sample(15, 1)}.items():
        text = np.array([words[label] for label in labels.tolist()])
        encoded = text if dtype[0] == "U" else np.char.encode(text, "utf-8")
        paths.append(write(tmp_path / f"{name}.npz", features, encoded.astype(dtype)))
    found = score_knn(*paths, ks=(10,))["k"]["10"]
    assert found == pytest.approx(by_loop(sample(40, 0), sample(15, 1), 10))


def test_mean_per_class_is_over_the_labels_of_the_test_file(tmp_path: Path) -> None:
    train = write(tmp_path / "a.npz", np.eye(3), np.array([0, 1, 2]))
    test = write(tmp_path / "b.npz", np.eye(3)[[0, 0, 0, 1]], np.array([0, 0, 0, 2]))
    assert score_knn(train, test, ks=(1,))["k"]["1"]["mean_per_class"] == 0.5
    assert score_knn(train, test, ks=(1,))["k"]["1"]["top1"] == 0.75


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_any_real_dtype_is_scored(tmp_path: Path, dtype: type) -> None:
    labels = np.array([1, 0], np.uint8)
    train = write(tmp_path / "a.npz", np.array([[3, 1], [-1, 2]], dtype), labels)
    assert score_knn(train, train, ks=(1,))["k"]["1"]["top1"] == 1.0


def test_k_given_twice_counts_once(files: tuple[Path, Path]) -> None:
    assert list(score_knn(*files, ks=(5, 3, 5))["k"]) == ["5", "3"]


X, Y = sample(12, 4)
NAN = X.copy()
NAN[3, 2] = np.nan
WRONG: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "one dimension": (X[:, 0], Y, DataError, r"\[N, D\] or \[L, N, D\] .* \[12\]"),
    "four dimensions": (X[None, None], Y, DataError, r"\[1, 1, 12, 5\]"),
    "no rows": (X[:0], Y[:0], DataError, "not empty"),
    "no width": (X[:, :0], Y, DataError, "not empty"),
    "too few labels": (X, Y[:-1], DataError, r"N = 12; found shape \[11\]"),
    "labels by layer": (X, Y[None], DataError, r"found shape \[1, 12\]"),
    "float labels": (X, Y.astype(float), DataError, "whole numbers or text, found float64"),
    "bool labels": (X, Y > 3, DataError, "whole numbers or text, found bool"),
    "negative label": (X, np.where(np.arange(12) == 5, -1, Y), DataError, "found -1 in row 5"),
    "text features": (X.astype(str), Y, DataError, "real numbers"),
    "complex features": (X.astype(complex), Y, DataError, "real numbers"),
    "pickled features": (X.astype(object), Y, DataError, "plain arrays"),
    "nan": (NAN, Y, TaskError, "row 3"),
    "infinity": (np.where(np.isnan(NAN), np.inf, NAN), Y, TaskError, "row 3"),
    "nan in a layer": (np.stack([X, NAN]), Y, TaskError, "row 3 of layer 2"),
    "zero row": (np.where(np.arange(12)[:, None] == 4, 0, X), Y, TaskError, "zeros in row 4"),
    "one image": (np.tile(X[:1], (12, 1)), Y, TaskError, "found all 12 rows the same"),
    "one image in a layer": (np.stack([X, X[:1].repeat(12, 0)]), Y, TaskError, "of layer 2 the same"),
    "other kind of label": (X, Y.astype(str), DataError, "has text|, .* has whole numbers"),
    "other width": (X[:, :4], Y, DataError, r"\[N, 4\]"),
    "other layers": (np.stack([X, X]), Y, DataError, r"\[2, N, 5\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_a_file_must_not_hold(tmp_path: Path, case: str) -> None:
    features, labels, error, message = WRONG[case]
    good, bad = write(tmp_path / "good.npz", X, Y), write(tmp_path / "bad.npz", features, labels)
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(error, match=message) as caught:
            score_knn(*pair, ks=(2,))
        assert "bad.npz" in str(caught.value)


def test_a_missing_array_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, features=X, targets=Y)
    with pytest.raises(DataError, match=r"missing labels; it holds features, targets"):
        score_knn(path, path, ks=(1,))


def test_no_file_no_npz_and_half_an_npz_are_told(tmp_path: Path) -> None:
    good = write(tmp_path / "good.npz", X, Y)
    with pytest.raises(DataError, match="No such file"):
        score_knn(good, tmp_path / "none.npz")
    with pytest.raises(DataError, match="No such file"):
        score_knn(tmp_path, good)
    text = tmp_path / "text.npz"
    text.write_text("features")
    half = tmp_path / "half.npz"
    half.write_bytes(good.read_bytes()[:-300])
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    flipped = tmp_path / "flipped.npz"
    content = bytearray(good.read_bytes())
    content[200] ^= 0xFF
    flipped.write_bytes(content)
    np.save(tmp_path / "single.npy", X)
    for path in (text, half, empty, flipped, tmp_path / "single.npy"):
        with pytest.raises(DataError, match=r"cannot be read as an npz|np\.savez"):
            score_knn(path, good, ks=(1,))


def test_default_k_are_those_that_fit_and_named_ones_must(files: tuple[Path, Path]) -> None:
    assert list(score_knn(*files)["k"]) == ["10", "20"]
    with pytest.raises(UsageError, match="k = 200 needs as many training items"):
        score_knn(*files, ks=(10, 20, 100, 200))


def test_k_and_temperature_must_fit(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match=r"k = 41 needs as many training items, .* has 40"):
        score_knn(*files, ks=(10, 41))
    with pytest.raises(UsageError, match="positive"):
        score_knn(*files, ks=(0,))
    with pytest.raises(UsageError, match="found: none"):
        score_knn(*files, ks=())
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="temperature"):
            score_knn(*files, ks=(1,), temperature=temperature)
