"""The report's data and page: complete, honest about holes, safe against its input, reproducible."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from example_results import results
from records import entry, head
from sdssl_bench.cli.main import app
from sdssl_bench.errors import DataError
from sdssl_bench.records.identity import Record
from sdssl_bench.records.store import ResultStore
from sdssl_bench.records.titles import plain
from sdssl_bench.reports import page, pictures
from sdssl_bench.reports.cost import cost
from sdssl_bench.reports.leaderboard import tidy
from sdssl_bench.reports.page_data import Pool, collect
from sdssl_bench.reports.representations import GRID
from sdssl_bench.statistics.intervals import layer_interval
from stored_results import knn_layer, store

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028 & \"quoted\" 'too' <!--"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def data(folder: Path) -> dict[str, Any]:
    return collect(ResultStore(folder))


def embedded(content: bytes) -> dict[str, Any]:
    text = content.decode()
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert len(found) == 1
    value: dict[str, Any] = json.loads(found[0])
    return value


def small_knn(root: Path, layers: list[int], **changes: Any) -> tuple[Path, Record]:
    right = {layer: np.arange(40) % 4 < layer for layer in layers}
    target = np.arange(40) % 5
    return store(root, {layer: knn_layer(one, target) for layer, one in right.items()}, **changes)


class Elements(HTMLParser):
    """Names and attributes of all elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_number_of_the_tidy_csv_is_on_the_page(folder: Path, data: dict[str, Any]) -> None:
    frame = tidy(ResultStore(folder))
    by_key = {result["key"]: result for result in data["results"]}
    assert len(frame) > 90
    for row in frame.itertuples():
        result = by_key[row.key]
        place = result["layers"].index(row.layer)
        assert result["metrics"][row.metric]["value"][place] == pytest.approx(row.value, abs=1e-6)
        assert result["n"][place] == row.n
    count = sum(
        v is not None for r in by_key.values() for c in r["metrics"].values() for v in c["value"]
    )
    assert count == len(frame)


def test_intervals_are_those_of_the_leaderboard(folder: Path, data: dict[str, Any]) -> None:
    by_key = {result["key"]: result for result in data["results"]}
    for path, record in ResultStore(folder):
        result = by_key[record["key"]]
        for place, layer in enumerate(result["layers"]):
            expected = layer_interval(record, path, layer)
            assert expected is not None
            curve = result["metrics"][record["headline"]]
            assert curve["low"][place] == pytest.approx(expected.low, abs=1e-6)
            assert curve["high"][place] == pytest.approx(expected.high, abs=1e-6)
            assert (curve["unit"], curve["units"]) == (expected.unit, expected.n)


def test_the_best_layer_is_the_earliest_of_the_highest(tmp_path: Path) -> None:
    same, better = np.arange(40) < 20, np.arange(40) < 30
    target = np.arange(40) % 5
    layers = {1: same, 2: better, 3: better, 4: same}
    store(tmp_path, {layer: knn_layer(one, target) for layer, one in layers.items()})
    (result,) = collect(ResultStore(tmp_path))["results"]
    assert (result["best"], result["depth"], result["best_on_val"]) == (2, 4, None)


def test_the_layer_chosen_on_validation_is_not_chosen_on_test(data: dict[str, Any]) -> None:
    linear = [r for r in data["results"] if "val/top1" in r["metrics"]]
    assert linear
    for result in linear:
        assert (result["best_on_val"], result["best"]) == (1, 2)  # as the example has them


def test_holes_stay_holes(data: dict[str, Any]) -> None:
    dino = [e["label"] for e in data["encoders"]].index("dino")
    tasks = {
        data["benchmarks"][r["benchmark"]]["task"] for r in data["results"] if r["encoder"] == dino
    }
    assert "davis" not in tasks
    pairs = {(r["encoder"], r["benchmark"]) for r in data["results"]}
    assert len(pairs) == len(data["results"]) < len(data["encoders"]) * len(data["benchmarks"])


def test_a_layer_without_a_metric_has_null(tmp_path: Path) -> None:
    right, target = np.arange(40) < 20, np.arange(40) % 5
    metrics, items = knn_layer(right, target)
    fewer = {name: value for name, value in metrics.items() if name != "k20/top5"}
    store(tmp_path, {1: (fewer, items), 2: (metrics, items)})
    (result,) = collect(ResultStore(tmp_path))["results"]
    top5 = result["metrics"]["k20/top5"]
    assert top5["value"][0] is None
    assert top5["low"][0] is None
    assert top5["value"][1] == pytest.approx(metrics["k20/top5"], abs=1e-6)


def test_a_run_without_its_last_layer_says_so(tmp_path: Path) -> None:
    right, target = np.arange(40) < 20, np.arange(40) % 5
    first = head(model__depth=12)
    metrics, items = knn_layer(right, target)
    one = {**entry(0.5), "metrics": metrics, "n": 40, "items": sorted(items)}
    ResultStore(tmp_path).add_layer(first, 4, entry=one, environment=_environment(), items=items)
    found = collect(ResultStore(tmp_path))
    assert (found["results"][0]["layers"], found["results"][0]["depth"]) == ([4], 12)
    assert b"<td>not scored</td>" in page.render(found).content


def _environment() -> dict[str, Any]:
    from records import ENVIRONMENT

    return ENVIRONMENT


def test_no_record_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found none\..*--results"):
        collect([])
    small_knn(tmp_path, [1], limited=40)
    with pytest.raises(DataError, match=r"1 are trials: --include-limited"):
        collect(ResultStore(tmp_path))


def test_limited_records_stay_out_and_are_counted(tmp_path: Path) -> None:
    small_knn(tmp_path, [1, 2])
    small_knn(tmp_path, [1, 2], limited=40)
    found = collect(ResultStore(tmp_path))
    assert (len(found["results"]), found["about"]["limited"]) == (1, 1)
    assert b"1 record made under --limit stay out" in page.render(found).content


def test_trials_are_shown_on_request_as_encoders_and_benchmarks_of_their_own(
    tmp_path: Path,
) -> None:
    for limited in (None, 40):
        small_knn(tmp_path, [1, 2], limited=limited)
    found = collect(ResultStore(tmp_path), include_limited=True)
    places = {(one["encoder"], one["benchmark"]) for one in found["results"]}
    assert len(places) == len(found["encoders"]) == len(found["benchmarks"]) == 2
    for kind in ("encoders", "benchmarks"):
        assert sum("(limit 40)" in one["label"] for one in found[kind]) == 1
    assert b"1 trial made under --limit, labelled so" in page.render(found).content


def test_the_same_measurement_twice_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        small_knn(tmp_path / name, [1])
    with pytest.raises(DataError, match="same measurement"):
        collect([*ResultStore(tmp_path / "a"), *ResultStore(tmp_path / "b")])


def test_lost_scores_are_an_error(tmp_path: Path) -> None:
    path, _ = small_knn(tmp_path, [1])
    path.with_suffix(".items.npz").unlink()
    with pytest.raises(DataError, match="per-item scores"):
        collect(ResultStore(tmp_path))


def test_a_number_that_is_none_is_an_error(tmp_path: Path) -> None:
    path, record = small_knn(tmp_path, [1])
    record["layers"]["1"]["metrics"]["k20/top5"] = float("nan")
    with pytest.raises(DataError, match="top5 is nan"):
        collect([(path, record)])


def test_the_same_records_give_the_same_bytes_in_any_order(folder: Path) -> None:
    records = list(ResultStore(folder))
    assert page.render(collect(records)) == page.render(collect(records[::-1]))


def test_provenance_is_whole(folder: Path, data: dict[str, Any]) -> None:
    by_key = {result["key"]: result for result in data["results"]}
    for _, record in ResultStore(folder):
        provenance = by_key[record["key"]]["provenance"]
        for name in ("protocol", "dataset", "model", "settings"):
            assert data["pool"][provenance[name]] == record[name]
        assert [data["pool"][i] for i in provenance["environments"]] == record["environments"]


def test_shared_values_are_stored_once() -> None:
    pool = Pool()
    assert [pool.add(v) for v in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, [1])] == [0, 0, 1]
    assert pool.values == [{"a": 1, "b": 2}, [1]]


def test_parameters_in_which_benchmarks_differ_are_named(tmp_path: Path) -> None:
    small_knn(tmp_path, [1])
    small_knn(tmp_path, [1], protocol__parameters={"k": [5]}, protocol__digest="1" * 16)
    found = collect(ResultStore(tmp_path))
    assert {b["differs"] for b in found["benchmarks"]} == {"k [5]", "k [10, 20]"}


def test_hostile_names_are_text(tmp_path: Path) -> None:
    changes = {"model__name": HOSTILE, "dataset__name": HOSTILE, "model__uri": HOSTILE}
    small_knn(tmp_path, [1, 2], **changes)
    content = page.render(collect(ResultStore(tmp_path)), title=HOSTILE).content
    text = content.decode()
    tags = Elements(text).found
    assert [attributes.get("type") for tag, attributes in tags if tag == "script"] == [
        "application/json",
        None,
    ]
    assert "img" not in {tag for tag, _ in tags}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert embedded(content)["encoders"][0]["label"] == plain(HOSTILE)
    assert plain(HOSTILE) in html.unescape(text[text.index("<title>") : text.index("</title>")])


def test_the_page_asks_for_nothing_from_anywhere(data: dict[str, Any]) -> None:
    text = page.render(data).content.decode()
    for tag, attributes in Elements(text).found:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        address = attributes.get("src") or attributes.get("href") or ""
        assert not address or address.startswith("#")
    addresses = set(re.findall(r"https?://[^\s\"'`]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, never fetched
    # Hatching is a part of the page itself.
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in html.unescape(policy[1])
    assert "unsafe" not in policy[1]


def test_what_does_not_fit_is_left_out_and_said(data: dict[str, Any]) -> None:
    whole = page.render(data)
    smaller = page.render(data, limit=len(whole.content) - 1)
    assert len(smaller.content) < len(whole.content)
    assert len(smaller.left_out) == 1
    assert "metrics other than the headline" in smaller.left_out[0]
    assert smaller.left_out[0].split(":")[0] in smaller.content.decode()
    for result in embedded(smaller.content)["results"]:
        headline = data["benchmarks"][result["benchmark"]]["headline"]
        assert headline in result["metrics"]
    assert page.render(data) == whole  # the data were not touched


def test_headlines_that_do_not_fit_are_an_error(data: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="--task"):
        page.render(data, limit=1000)


def test_a_large_study_fits_into_five_megabytes(data: dict[str, Any]) -> None:
    (result,) = [r for r in data["results"] if r["layers"] == [1, 2, 3]][:1]
    benchmark = data["benchmarks"][result["benchmark"]]
    curve = {
        "value": [0.123456] * 12, "low": [0.123456] * 12, "high": [0.123456] * 12,
        "unit": "images", "units": 50000, "method": "wilson",
    }  # fmt: skip
    wide = {**result, "layers": list(range(1, 13)), "n": [50000] * 12, "depth": 12,
            "metrics": {f"k{k}/{m}": curve for k in (10, 20, 100, 200) for m in ("top1", "top5", "m")},
            "scored_at": result["scored_at"] * 4, "notes": [0] * 12, "environment": [0] * 12}  # fmt: skip
    wide["metrics"][benchmark["headline"]] = curve
    names = [f"encoder number {i}" for i in range(40)]
    large = {
        **data,
        "encoders": [{**data["encoders"][0], "label": name} for name in names],
        "benchmarks": [{**benchmark, "label": f"benchmark {i}"} for i in range(20)],
        "results": [
            {**wide, "encoder": e, "benchmark": b, "key": f"{e:08x}{b:08x}"}
            for e in range(40)
            for b in range(20)
        ],
    }
    assert len(page.render(large).content) <= page.LIMIT


def test_seconds_add_up_and_rates_are_of_recorded_passes() -> None:
    seconds = {
        "train/load": 1.0, "train/forward": 2.0, "train/total": 4.0,
        "test/load": 0.5, "test/forward": 0.5, "test/total": 1.0, "search": 0.25,
    }  # fmt: skip
    record = {**head(), "environments": [_environment()]}
    record["layers"] = {
        "1": entry(0.5, seconds=seconds),
        "2": entry(0.5, seconds={"search": 0.5}),
    }
    found = cost(record)
    assert found["total"] == pytest.approx(5.75)
    assert sum(found["phases"].values()) == pytest.approx(found["total"])
    assert found["phases"]["train/other"] == pytest.approx(1.0)
    assert found["phases"]["search"] == pytest.approx(0.75)
    assert found["rate"] == pytest.approx(60000 / 5)


def test_features_that_were_stored_have_no_rate() -> None:
    record = {**head(), "environments": [_environment()]}
    record["layers"] = {"1": entry(0.5, seconds={"train/total": 0.01})}
    assert cost(record)["rate"] is None
    # DAVIS has one split, and a forward phase even where all sequences were finished before.
    record["dataset"] = {**record["dataset"], "splits": {"val": 1999}}
    record["layers"] = {"1": entry(0.5, seconds={"forward": 0.0, "total": 0.01})}
    assert cost(record)["rate"] is None
    record["layers"] = {"1": entry(0.5, seconds={"forward": 10.0, "total": 19.99})}
    assert cost(record)["rate"] == 100.0


def analysis_record(root: Path, **changes: Any) -> tuple[Path, Record]:
    """As tasks/analysis.py stores two layers."""
    points = np.array([[0.0, 0.0], [10.0, 5.0], [20.0, 0.0], [5.0, 5.0]], np.float32)
    items = {"tsne/points": points, "tsne/target": np.array([3, 3, 7, 7])}
    layers = {
        layer: ({"uniformity": -1.5 * layer, "cka/layer01": 0.2 * layer, "cka/layer02": 0.9}, items)
        for layer in (1, 2)
    }
    return store(
        root, layers, task="analysis", ranked=False, headline="uniformity",
        protocol__id="analysis/house", protocol__resolved={"cka": {"estimator": "unbiased"}},
        dataset__details={"map_classes": {"3": "cat", "7": "dog"}}, **changes,
    )  # fmt: skip


def test_descriptions_are_no_scores(tmp_path: Path) -> None:
    path, record = analysis_record(tmp_path)
    record["layers"]["1"]["notes"] = {"standard_errors": {"uniformity": 0.1}}
    found = collect([(path, record)])
    (result,) = found["results"]
    assert (result["best"], result["standing"]) == (None, None)
    assert not found["benchmarks"][0]["ranked"]
    curve = result["metrics"]["uniformity"]
    assert curve["value"] == [-1.5, -3.0]
    assert curve["low"] == [pytest.approx(-1.5 - 0.195996, abs=1e-5), None]
    assert "cka/layer01" not in result["metrics"]


def test_matrices_keep_rows_and_columns(tmp_path: Path) -> None:
    path, record = analysis_record(tmp_path)
    del record["layers"]["2"]["metrics"]["cka/layer02"]
    (matrix,) = collect([(path, record)])["matrices"]
    assert (matrix["rows"], matrix["columns"], matrix["against"]) == ([1, 2], [1, 2], None)
    assert matrix["values"] == [[0.2, 0.9], [0.4, None]]


def test_the_other_encoder_of_a_matrix_is_named_as_in_the_report(tmp_path: Path) -> None:
    small_knn(tmp_path, [1], model__name="encoder", model__weights_sha256="b" * 64)
    small_knn(tmp_path, [1], model__name="encoder")
    other = {**head()["model"], "weights_sha256": "b" * 64}
    analysis_record(tmp_path, model__name="encoder", protocol__resolved__against=other)
    (matrix,) = collect(ResultStore(tmp_path))["matrices"]
    assert matrix["against"] == "encoder weights_sha256=bbbbbbbb"


def test_maps_keep_their_proportions_and_classes(tmp_path: Path) -> None:
    (found,) = collect([analysis_record(tmp_path)])["maps"]
    assert found["classes"] == ["cat", "dog"]
    assert [panel["layer"] for panel in found["panels"]] == [1, 2]
    cat, dog = found["panels"][0]["points"]
    assert cat == [0, GRID * 3 // 8, GRID // 2, GRID * 5 // 8]
    assert dog == [GRID, GRID * 3 // 8, GRID // 4, GRID * 5 // 8]


def noise(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def test_pictures_are_shrunk_until_all_fit(tmp_path: Path) -> None:
    noise(tmp_path / "strips" / "swan.png", (1600, 300))
    noise(tmp_path / "gal" / "layer02" / "01-eiffel.png", (1000, 200))
    noise(tmp_path / "gal" / "layer12" / "01-eiffel.png", (1000, 200))
    folders = {"strips": [tmp_path / "strips"], "galleries": [tmp_path / "gal"]}
    free: dict[str, Any] = {"about": {"left_out": []}}
    pictures.add_pictures(free, budget=10_000_000, **folders)
    assert [p["width"] for p in free["pictures"]] == [1400, 1000, 1000]
    assert [p["caption"] for p in free["pictures"]] == [
        "swan (strips)", "layer 12: 01-eiffel (gal)", "layer 2: 01-eiffel (gal)",
    ]  # fmt: skip
    bytes_needed = sum(len(p["source"]) for p in free["pictures"])
    tight: dict[str, Any] = {"about": {"left_out": []}}
    pictures.add_pictures(tight, budget=bytes_needed // 2, **folders)
    assert len(tight["pictures"]) == 3
    assert tight["about"]["left_out"] == []
    assert tight["pictures"][0]["width"] < 1400
    poor: dict[str, Any] = {"about": {"left_out": []}}
    pictures.add_pictures(poor, budget=bytes_needed // 12, **folders)
    assert len(poor["pictures"]) < 3
    assert "of 3 pictures" in poor["about"]["left_out"][0]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--strips"):
        pictures.add_pictures({"about": {}}, strips=[tmp_path], galleries=[], budget=1)
    with pytest.raises(DataError, match="--gallery"):
        pictures.add_pictures({"about": {}}, strips=[], galleries=[tmp_path], budget=1)


def test_the_command_writes_one_file(folder: Path, tmp_path: Path) -> None:
    noise(tmp_path / "strips" / "swan.png", (300, 100))
    done = CliRunner().invoke(
        app,
        ["report", "--results", str(folder), "--out", str(tmp_path / "report"), "--task", "knn,davis",
         "--strips", str(tmp_path / "strips"), "--title", "Ours"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["index.html"]
    content = (tmp_path / "report" / "index.html").read_bytes()
    found = embedded(content)
    assert {b["task"] for b in found["benchmarks"]} == {"knn", "davis"}
    assert len(found["pictures"]) == 1
    assert b"<title>Ours</title>" in content
    assert "index.html" in done.output


def test_the_report_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    arguments = ["report", "-r", str(folder), "-o", str(tmp_path), "--figures", str(tmp_path)]
    code = (
        "import sys; from sdssl_bench.cli.main import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'torchvision', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
