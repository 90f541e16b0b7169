"""Results of releases of Pillow that resize unlike are named wherever they stand side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import sdssl_bench
from records import ENVIRONMENT, entry, head
from sdssl_bench.cli.main import app
from sdssl_bench.records import ResultStore
from sdssl_bench.statistics import mixed_pixels
from stored_results import knn_layer

BY_PILLOW = {"transform": {"library": "pillow, antialiased"}}


def measured(*pillow: str | None, **changes: Any) -> dict[str, Any]:
    """A record whose layers were scored with these releases."""
    return {
        **head(**{"protocol__resolved": BY_PILLOW, **changes}),
        "environments": [_environment(version) for version in pillow],
        "layers": {str(n + 1): {**entry(0.5), "environment": n} for n in range(len(pillow))},
    }


def _environment(pillow: str | None) -> dict[str, Any]:
    return {**ENVIRONMENT, "packages": {"torch": "2.14.1", "pillow": pillow}}


@pytest.mark.parametrize(
    ("releases", "mixed"),
    [
        (("12.1.0", "13.0.0"), True),
        (("11.3.0", "14.0"), True),
        (("11.3.0", "12.9.1"), False),
        (("13.0.0", "14.0.dev1"), False),
        (("12.1.0", None, "unknown", ""), False),
    ],
)
def test_releases_differ_where_13_lies_between_them(releases: tuple[str, ...], mixed: bool) -> None:
    apart = [measured(one) for one in releases]
    for records in (apart, apart[::-1], [measured(*releases)]):
        assert len(mixed_pixels(records)) == mixed


def test_only_what_stands_in_one_column_and_is_resized_by_pillow_counts() -> None:
    old, new = measured("12.1.0"), measured("13.0.0", dataset__name="pets")
    assert not mixed_pixels([old, new])
    videos = {"protocol__resolved": {"frames": {"480x854": [480, 832]}}}
    assert not mixed_pixels([measured("12.1.0", **videos), measured("13.0.0", **videos)])
    (said,) = mixed_pixels([old, new, measured("12.9", dataset__name="pets")])
    assert said.startswith("knn pets: measured in part with Pillow before 13 (12.9), in part with")
    sets = [{"dataset__name": f"set{n}"} for n in range(5)]
    many = [measured(one, **data) for data in sets for one in ("12.1.0", "13.0.0")]
    assert mixed_pixels(many)[0].startswith("knn set0, knn set1, knn set2 and 2 more: ")


def test_tables_comparisons_and_pages_say_so_once(tmp_path: Path) -> None:
    target = np.arange(60) % 3
    for name, pillow in (("one", "12.1.0"), ("other", "13.0.0")):
        metrics, items = knn_layer(target > 0, target)
        layer = {**entry(metrics["k20/top1"]), "metrics": metrics, "n": 60, "items": sorted(items)}
        first = head(
            model__name=name,
            model__weights_sha256=pillow[1] * 64,
            model__depth=1,
            protocol__resolved=BY_PILLOW,
        )
        ResultStore(tmp_path).add_layer(
            first, 1, entry=layer, environment=_environment(pillow), items=items
        )
    table, page = tmp_path / "table.md", tmp_path / "page"
    said = "knn cifar10: measured in part"
    for command in (
        ("leaderboard", str(tmp_path)),
        ("leaderboard", str(tmp_path), "--markdown", str(table)),  # of what was kept
        ("compare", "one", "other", "--results", str(tmp_path)),
        ("report", str(tmp_path), "--out", str(page)),
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert " ".join(result.output.split()).count(f"note: {said}") == 1
    for file in (table, page / "index.html"):
        assert file.read_text().count(said) == 1
    assert sdssl_bench.compare("one", "other", results=tmp_path)["notes"]
    assert not sdssl_bench.compare("one", "one", results=tmp_path)["notes"]
