"""hf: sets, from folders of the library, without a network; skipped where it is not installed."""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdssl_bench.datasets.checking import check
from sdssl_bench.datasets.loading import describe, load
from sdssl_bench.errors import DataError, UsageError

hub: Any = pytest.importorskip("datasets", minversion="3.0")  # not the folder of tests


def png(value: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((6, 4, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make(count: int, first: int, labels: list[int] | None = None) -> Any:
    features = hub.Features(
        {
            "picture": hub.Image(),
            "label": hub.ClassLabel(names=["a", "b", "c"]),
            "word": hub.Value("string"),
        }
    )
    labels = labels or [i % 2 for i in range(count)]
    rows = {
        "picture": [{"bytes": png(first + i), "path": None} for i in range(count)],
        "label": labels,
        "word": [["ten", "nine"][i % 2] for i in range(count)],
    }
    return hub.Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    parts = hub.DatasetDict({"train": make(10, 0), "validation": make(4, 100)})
    parts.save_to_disk(str(folder / "saved"))
    for name, part in parts.items():
        part.to_parquet(str(folder / "parquet" / "data" / f"{name}-00000-of-00001.parquet"))
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_both_forms_of_a_set_are_the_same_set(root: Path) -> None:
    saved, parquet = (load(f"hf:{root / kind}", data_root=None) for kind in ("saved", "parquet"))
    assert describe(saved).fingerprint == describe(parquet).fingerprint
    assert parquet.train.class_names == ("a", "b", "c")
    assert parquet.train.targets.tolist() == [0, 1] * 5
    assert list(parquet.test.names) == [f"validation:{row}" for row in range(4)]
    assert parquet.notes["splits_used"] == {"train": "train", "test": "validation"}
    for images, first in ((parquet.train, 0), (parquet.test, 100)):
        again = pickle.loads(pickle.dumps(images))
        for row in range(len(images)):
            assert set(np.asarray(images.load(row)).flat) == {first + row}
            assert np.array_equal(np.asarray(again.load(row)), np.asarray(images.load(row)))


def test_slices_name_rows_of_the_split_and_must_not_overlap(root: Path) -> None:
    name = f"hf:{root / 'parquet'}?split=train[:60%]:train[60%:]"
    data = load(name, data_root=None)
    assert list(data.train.names) == [f"train:{row}" for row in range(6)]
    assert list(data.test.names) == [f"train:{row}" for row in range(6, 10)]
    assert set(np.asarray(data.test.load(0)).flat) == {6}
    with pytest.raises(DataError, match=r"share 2 items, e.g. train:6, train:7"):
        load(f"hf:{root / 'parquet'}?split=train[:8]:train[60%:]", data_root=None)


def test_any_column_is_a_label(root: Path) -> None:
    data = load(f"hf:{root / 'parquet'}?image=picture&label=word", data_root=None)
    assert data.train.class_names == ("nine", "ten")
    assert data.train.targets.tolist() == [1, 0] * 5


def test_a_part_of_a_table_has_its_own_images(root: Path) -> None:
    from sdssl_bench.analysis.samples import subset

    images = load(f"hf:{root / 'parquet'}", data_root=None).train
    part = subset(images, np.array([7, 2]))
    assert [np.asarray(part.load(i)).flat[0] for i in (0, 1)] == [7, 2]
    assert part.fingerprint != images.fingerprint


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?split=tset", "Unknown split 'tset'"),
        ("?split=a:b:c", "TEST or TRAIN:TEST"),
        ("?image=pic", "column for image= 'pic'. Did you mean 'picture'"),
        ("?size=3", "Unknown parameter 'size'"),
    ],
)
def test_wrong_names_are_usage_errors(root: Path, query: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(f"hf:{root / 'parquet'}{query}", data_root=None)


def test_rows_without_label_are_counted(tmp_path: Path) -> None:
    parts = hub.DatasetDict({"train": make(4, 0), "test": make(3, 50, [-1, 1, -1])})
    parts.save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match="found none in 2 rows, first row 0"):
        load(f"hf:{tmp_path / 'set'}", data_root=None)


def test_what_is_neither_here_nor_reachable_is_told(tmp_path: Path) -> None:
    report = check("hf:nobody/nothing@v1", data_root=None)
    assert not report.ok
    assert "cannot be opened by the library datasets" in report.problems[0]
