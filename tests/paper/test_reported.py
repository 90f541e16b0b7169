"""Numbers of others carry their source and are never mistaken for ours."""

import re
from collections import Counter

import pytest

from sdssl_bench import tasks
from sdssl_bench.errors import DataError
from sdssl_bench.paper import references as reported
from sdssl_bench.paper.references import paper_cells, published, reference_folder


def test_every_row_has_a_source_and_a_fraction() -> None:
    rows = [*paper_cells(), *published()]
    assert len(rows) > 400
    assert all(one.source and one.task and one.dataset and one.metric for one in rows)
    assert all(0 <= one.value <= 1 for one in rows)
    assert {one.status for one in published()} == {"read"}


def test_tasks_are_named_as_here() -> None:
    known = set(tasks.task_names())
    assert {one.task for one in [*paper_cells(), *published()]} <= known


def test_no_cell_of_the_paper_is_there_twice() -> None:
    cells = Counter(
        (c.table, c.framework, c.variant, c.arch, c.task, c.dataset, c.metric, c.layer)
        for c in paper_cells()
    )
    assert set(cells.values()) == {1}


@pytest.mark.parametrize(
    ("table", "framework", "variant", "dataset", "metric", "value"),
    [
        ("1", "SimCLR", "baseline", "imagenet", "top1", 0.515),
        ("2", "MoCo v3", "SD", "rparis6k", "M/mAP", 0.524),
        ("3", "MoCo v3", "SD", "davis", "J&F-Mean", 0.621),
        ("3", "MoCo v3", "SD", "copydays", "strong/mAP@20", 0.763),
        ("4", "BYOL", "baseline", "pets", "accuracy", 0.834),
        ("6", "MoCo v3", "SD_MLP/4", "imagenet", "top1", 0.613),
    ],
)
def test_known_numbers_stand_where_they_belong(
    table: str, framework: str, variant: str, dataset: str, metric: str, value: float
) -> None:
    found = next(
        c
        for c in paper_cells()
        if (c.table, c.framework, c.variant, c.dataset, c.metric)
        == (table, framework, variant, dataset, metric)
    )
    assert found.value == value


def test_the_contradicted_cells_are_the_exchanged_ones() -> None:
    """Table 4's BYOL is Table 1's MoCo v3 and the other way round."""
    cells = {
        (c.table, c.framework, c.variant): c.value
        for c in paper_cells()
        if c.arch == "ViT-S/16" and c.task == "knn" and c.dataset == "imagenet"
    }
    for variant in ("baseline", "SD"):
        assert cells["1", "BYOL", variant] == cells["4", "MoCo v3", variant]
        assert cells["1", "MoCo v3", variant] == cells["4", "BYOL", variant]
        assert cells["1", "SimCLR", variant] == cells["4", "SimCLR", variant]
    marked = [c for c in paper_cells() if c.contradicted]
    assert sorted({(c.table, c.framework) for c in marked}) == [
        ("1", "BYOL"), ("1", "MoCo v3"), ("4", "BYOL"), ("4", "MoCo v3"),
    ]  # fmt: skip
    said = {float(n) / 100 for n in re.findall(r"\d\d\.\d", reported.CONTRADICTION)}
    assert said == {c.value for c in marked}


def test_best_layers_say_that_test_chose_them() -> None:
    chosen = [c for c in paper_cells() if c.layer == "best"]
    assert chosen
    assert all(c.remark.endswith("selected on test") for c in chosen)


def test_an_installation_without_the_files_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (reference_folder() / "published.csv").is_file()
    monkeypatch.setattr(reported, "__file__", "/nowhere/sdssl_bench/paper/references.py")
    with pytest.raises(DataError, match="Install sdssl-bench again"):
        reference_folder()
