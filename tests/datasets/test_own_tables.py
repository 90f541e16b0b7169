"""csv:FILE: a table of paths, labels and splits reads as the same images in class folders."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdssl_bench.datasets.checking import check, render
from sdssl_bench.datasets.listing import sorted_classes
from sdssl_bench.datasets.loading import describe, load
from sdssl_bench.errors import DataError, UsageError

QUERY = "?image=path&label=class&split=fold"
ROWS = [
    ["jpg/a1.png", "cat", "train"],
    ["jpg/b1.png", "NA", "train"],
    ["jpg/a2.png", "cat", "train"],
    ["jpg/b2.png", "NA", "test"],
    ["jpg/a3.png", "cat", "test"],
    ["jpg/a4.png", "cat", "holdout"],
]


def table(root: Path, rows: list[list[str]], *, name: str = "t.csv", separator: str = ",") -> Path:
    for i, row in enumerate(ROWS):
        path = root / row[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), 9 * i, np.uint8)).save(path)
    with (root / name).open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([["path", "class", "fold"], *rows])
    return root / name


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.tsv", "\t"), ("t.txt", "\t")])
def test_rows_become_items_in_order_and_text_stays_text(
    tmp_path: Path, name: str, separator: str
) -> None:
    path = table(tmp_path, ROWS, name=name, separator=separator)
    data = load(f"csv:{path}{QUERY}", data_root=None)
    assert data.train.class_names == ("NA", "cat")
    assert list(data.train.names) == ["jpg/a1.png", "jpg/b1.png", "jpg/a2.png"]
    assert data.train.targets.tolist() == [1, 0, 1]
    assert list(data.test.names) == ["jpg/b2.png", "jpg/a3.png"]
    assert (data.variant, data.headline) == ("folder", "top1")
    assert data.notes == {"rows_left_out": 1}
    assert np.asarray(data.test.load(1)).flat[0] == 36


def test_the_fingerprint_is_that_of_the_images_wherever_the_table_lies(tmp_path: Path) -> None:
    found = []
    for place in ("x", "y"):
        root = tmp_path / place
        root.mkdir()
        found.append(describe(load(f"csv:{table(root, ROWS)}{QUERY}", data_root=None)).fingerprint)
    assert found[0] == found[1]
    other = [["jpg/a1.png", "NA", "train"], *ROWS[1:]]
    root = tmp_path / "x"
    assert (
        describe(load(f"csv:{table(root, other)}{QUERY}", data_root=None)).fingerprint != found[0]
    )


def test_folds_and_paths_made_of_columns(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    lines = ["id,y,fold"] + [f"{row[0][4:6]},{i % 2},{i % 3}" for i, row in enumerate(ROWS)]
    (tmp_path / "ids.csv").write_text("\n".join(lines))
    name = f"csv:{tmp_path}/ids.csv?image=jpg/{{id}}.png&label=y&split=fold"
    data = load(f"{name}&test=2", data_root=None)
    assert list(data.test.names) == ["jpg/a2.png", "jpg/a4.png"]
    assert len(data.train) == 4
    data = load(f"{name}&test=2&train=0", data_root=None)
    assert list(data.train.names) == ["jpg/a1.png", "jpg/b2.png"]
    assert data.notes == {"rows_left_out": 2}
    with pytest.raises(DataError, match=r"expected train and test rows .*'0' \(2\), '1' \(2\)"):
        load(name, data_root=None)
    with pytest.raises(UsageError, match="share the value '2'"):
        load(f"{name}&test=2&train=2", data_root=None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["jpg/none.png", "cat", "train"], r"1 train files are missing.*jpg/none.png \(row 8\)"),
        (["", "cat", "train"], "expected a path in every row, found none in row 8"),
        (["jpg/a1.png", " ", "train"], "expected a label in every row, found none in row 8"),
        (["jpg/a1.png", "cat", "test"], "train and test share 1 items, e.g. jpg/a1.png"),
        (["jpg/a1.png", "cat", "train"], "listed more than once, e.g. jpg/a1.png"),
        (["jpg/a4.png", "dog", "test"], r"found others in row 8 \('dog'\)"),
    ],
)
def test_bad_rows_are_named_as_an_editor_counts_them(
    tmp_path: Path, row: list[str], message: str
) -> None:
    path = table(tmp_path, [*ROWS, row])
    with pytest.raises(DataError, match=message):
        load(f"csv:{path}{QUERY}", data_root=None)
    report = check(f"csv:{path}{QUERY}", data_root=None)
    assert not report.ok


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "found no image, label, split"),
        ("?image=path&label=class", "found no split"),
        ("?image=pth&label=class&split=fold", "column for image= 'pth'. Did you mean 'path'"),
        ("?image=path&label=class&split=fold&lable=x", "parameter 'lable'. Did you mean 'label'"),
        ("?image=path&label=&split=fold", "label= is given without a value"),
        ("?image=path&label=class&label=x&split=fold", "label= is given twice"),
    ],
)
def test_wrong_names_are_usage_errors(tmp_path: Path, query: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(f"csv:{table(tmp_path, ROWS)}{query}", data_root=None)


def test_files_that_are_no_table_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(f"csv:{tmp_path}/none.csv{QUERY}", data_root=None)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="expected a table as CSV or TSV"):
        load(f"csv:{tmp_path}/t.csv{QUERY}", data_root=None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="parquet"):
        load(f"csv:{tmp_path}/t.parquet{QUERY}", data_root=None)


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    rows = [[path, ["cat", "NA"].index(label), fold] for path, label, fold in ROWS]
    path = table(tmp_path, [[str(value) for value in row] for row in rows])
    frame = pd.DataFrame(rows, columns=["path", "class", "fold"])
    frame.to_parquet(tmp_path / "t.parquet")
    one, other = (
        load(f"csv:{file}{QUERY}", data_root=None) for file in (path, tmp_path / "t.parquet")
    )
    assert describe(one).fingerprint == describe(other).fingerprint
    assert one.train.class_names == other.train.class_names == ("0", "1")


def test_check_shows_counts(tmp_path: Path) -> None:
    name = f"csv:{table(tmp_path, ROWS)}{QUERY}"
    report = check(name, data_root=None, decode=True)
    assert report.ok
    assert "train: 3 images, 2 classes, 1 to 2 images per class" in render(report)


@given(st.lists(st.integers(-30, 10**12).map(str), min_size=1))
@settings(max_examples=50, deadline=None)
def test_whole_numbers_are_sorted_by_value(labels: list[str]) -> None:
    assert sorted_classes(labels) == [str(n) for n in sorted({int(one) for one in labels})]


def test_hub_names_without_the_library_say_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'sdssl-bench\[hf\]'"):
        load("hf:org/name", data_root=None)
