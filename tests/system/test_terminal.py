"""Tables fit the width they are printed at and cut no number; text wraps between words."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from records import entry, head
from sdssl_bench.reports.tables import layer_table, result_line
from sdssl_bench.system.terminal import WIDE, Column, FittedTable, curve_of, shortened, show


def printed(table: object, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, markup=False).print(table)
    return stream.getvalue()


WORDS = st.text("abcdefgh_/0123456789", min_size=1, max_size=30)


@given(
    st.lists(st.tuples(WORDS, st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(60, 200),
)
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(headings, rows, width) -> None:
    columns = [
        Column("model", shorten=True),
        *(Column(name, drop=drop) for name, drop in headings),
        Column("", bar=True, drop=1),
    ]
    numbers = [[f"{100 * i + j}.5" for j in range(len(headings))] for i in range(rows)]
    cells = [["m" * 70, *line, 0.5] for line in numbers]
    text = printed(FittedTable(columns, cells), width)
    assert max(map(len, text.splitlines())) <= width
    hidden = text.partition("--wide shows also: ")[2]
    for at, (name, drop) in enumerate(headings):
        if drop and name in hidden:
            continue
        assert all(line[at] in re.findall(r"[\d.]+", text) for line in numbers)


def test_with_room_for_all_nothing_is_left_out() -> None:
    columns = [Column("model", shorten=True), *(Column(f"metric{i}", drop=i) for i in range(20))]
    text = printed(FittedTable(columns, [["n" * 90, *map(str, range(20))]]), WIDE)
    assert "n" * 90 in text
    assert "metric19" in text
    assert "--wide" not in text


def test_the_least_important_column_goes_first_and_is_named() -> None:
    columns = [Column("layer"), Column("a" * 20, drop=1), Column("b" * 20, drop=2), Column("top1")]
    text = printed(FittedTable(columns, [["1", "x", "y", "50.0"]]), 40)
    assert "a" * 20 in text.splitlines()[0]
    assert text.rstrip().endswith("--wide shows also: " + "b" * 20)


def test_what_cannot_be_dropped_goes_on_below_with_its_first_column() -> None:
    columns = [Column("benchmark", left=True), *(Column(f"model_{i:02d}") for i in range(12))]
    text = printed(FittedTable(columns, [["knn cifar10", *(f"{i}.0" for i in range(12))]]), 60)
    assert text.count("knn cifar10") > 1
    assert all(text.count(f"model_{i:02d}") == 1 for i in range(12))


@given(st.text("abc", max_size=40), st.integers(1, 40))
def test_a_shortened_name_keeps_its_ends(name, most) -> None:
    short = shortened(name, most)
    assert len(short) <= most or short == name
    if short != name and most > 2:
        head, tail = short.split("…")
        assert name.startswith(head)
        assert name.endswith(tail)


def test_a_path_is_never_broken(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "/data/" + "x" * 100
    show(f"the record of this result lies in {path} and nowhere else, whatever its length may be")
    lines = capsys.readouterr().out.splitlines()
    assert path in lines
    assert all(len(line) <= 40 for line in lines if line != path)


def test_a_flat_curve_and_no_curve() -> None:
    assert curve_of([0.5, 0.5]) == "▁▁"
    assert curve_of([]) == ""


def of_layers(**values: float) -> dict:
    return {**head(), "layers": {name[1:]: entry(value) for name, value in values.items()}}


def test_a_result_in_one_line_names_the_best_layer_only_where_it_is_not_the_last() -> None:
    line = result_line(of_layers(l1=0.5, l2=0.7, l3=0.6))
    assert line.startswith("knn cifar10 ")
    assert "60.0 (70.0 at 2)" in line
    assert line.endswith("▁█▅")
    assert "(" not in result_line(of_layers(l1=0.7, l2=0.5, l3=0.7))


@pytest.mark.parametrize("name", ["vit", "a_model_whose_name_is_longer_than_any_terminal_" * 3])
def test_layers_of_any_model_fit(name: str) -> None:
    one = {**of_layers(l1=0.5, l3=0.25), "environments": []}
    one["model"] = {**one["model"], "name": name}
    lines = printed(layer_table(one, [1, 2, 3], reused=[1])).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("50.0" in line and "best (stored)" in line for line in lines)
