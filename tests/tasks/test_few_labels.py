"""k-NN and logistic regression from few labels: by hand, at no cost, and apart from each other everywhere."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mini_data import shared_mini
from sdssl_bench import api, tasks
from sdssl_bench.cli.main import app
from sdssl_bench.datasets import LabelDraws, preprocess
from sdssl_bench.features import extract, loading
from sdssl_bench.records import ResultStore, Stored, record_files
from sdssl_bench.reports.comparison_text import about_draws, as_json, summary_table
from sdssl_bench.reports.leaderboard import tidy, wide
from sdssl_bench.reports.page_data import collect
from sdssl_bench.runner import run
from sdssl_bench.statistics import compare, pair
from sdssl_bench.statistics.intervals import layer_interval
from sdssl_bench.statistics.items import layer_item_scores
from sdssl_bench.task import RunContext
from tiny_model import build

LOGREG = ("linear", "logreg")
KNN = ("knn", "dino")


def context(cache: Path, **settings: Any) -> RunContext:
    return RunContext(
        data_root=shared_mini(), cache_dir=cache, device="cpu", num_workers=0, **settings
    )


def test_neighbours_of_few_labels_are_the_protocol_by_hand(tmp_path: Path) -> None:
    """In every try all images of the draw that are among the first k vote; scores are means."""
    encoder, ctx = api.as_encoder(build()).eval(), context(tmp_path)
    task: Any = tasks.load("knn", None, {"shots": "2", "tries": "3"})
    assert task.k == (10, 20, 50, 100, 200)
    data = task.load_data("cifar10", ctx)
    (found,) = task.run(encoder, data, (2,), ctx)
    train, test = (
        extract(encoder, split, (2,), preprocess=preprocess("A", 32), ctx=context(tmp_path))
        for split in (data.train, data.test)
    )
    unit = [
        one / np.linalg.norm(one, axis=1, keepdims=True)
        for one in (bank.features(2).astype(np.float64) for bank in (test, train))
    ]
    cosines = unit[0] @ unit[1].T
    for k in task.k:
        right = np.zeros((3, len(test.targets)))
        for number, rows in enumerate(task.draws(data, ctx).rows):
            assert np.bincount(train.targets[rows]).tolist() == [2] * 10
            for query, label in enumerate(test.targets.tolist()):
                votes = np.zeros(10)
                for row in sorted(rows.tolist(), key=lambda one: -cosines[query, one])[:k]:
                    votes[train.targets[row]] += np.exp(cosines[query, row] / 0.07)
                right[number, query] = votes.argmax() == label
        np.testing.assert_allclose(found.items[f"k{k}/correct"], right.mean(axis=0), atol=1e-12)
        assert found.metrics[f"k{k}/top1"] == pytest.approx(right.mean(), abs=1e-12)
        assert found.notes["tries"][f"k{k}/top1"] == pytest.approx(right.mean(axis=1), abs=1e-12)
    assert len(set(found.notes["tries"]["k10/top1"])) > 1, "tries that agree prove nothing"


@pytest.mark.parametrize(
    "protocol", [KNN, pytest.param(LOGREG, marks=pytest.mark.slow)], ids="/".join
)
def test_draws_decode_no_image_that_the_bank_has_and_none_twice(
    protocol: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[tuple[str, int]] = Counter()
    load = loading.load_batch

    def counted(images: Any, preprocess: Any, rows: Any) -> Any:
        decoded.update((images.split, row) for row in rows.tolist())
        return load(images, preprocess, rows)

    monkeypatch.setattr(loading, "load_batch", counted)
    encoder = api.as_encoder(build()).eval()
    few: Any = tasks.load(*protocol, {"shots": "1", "tries": "4"})
    data = few.load_data("cifar10", context(tmp_path / "a"))
    for _ in few.run(encoder, data, (2,), context(tmp_path / "a")):
        pass
    union = few.draws(data, context(tmp_path)).union.tolist()
    assert 10 < len(union) <= 40
    expected = {("train", row) for row in union} | {("test", n) for n in range(len(data.test))}
    assert decoded == dict.fromkeys(expected, 1)
    for _ in tasks.load(*protocol).run(encoder, data, (2,), context(tmp_path / "a")):
        pass
    assert set(decoded.values()) == {1}
    assert len(decoded) == len(data.train) + len(data.test)
    for changes in ({"shots": "2", "tries": "9"}, {"fraction": "0.5"}):
        for _ in tasks.load(*protocol, changes).run(encoder, data, (2,), context(tmp_path / "a")):
            pass
    assert sum(decoded.values()) == len(data.train) + len(data.test), "no draw decodes an image"


@pytest.mark.parametrize("protocol", [KNN, LOGREG], ids="/".join)
def test_a_draw_of_all_labels_is_the_whole_run(
    protocol: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, ctx = api.as_encoder(build()).eval(), context(tmp_path)
    full: Any = tasks.load(*protocol, {"fraction": "1"})
    data = full.load_data("cifar10", ctx)
    expected = list(full.run(encoder, data, (2, 3), ctx))
    everything = LabelDraws((np.arange(len(data.train)),), ("",))
    monkeypatch.setattr(type(full), "draws", lambda *_: everything)
    for one, other in zip(expected, full.run(encoder, data, (2, 3), ctx), strict=True):
        assert {name: other.metrics[name] for name in one.metrics} == one.metrics
        for name, values in one.items.items():
            np.testing.assert_array_equal(values, other.items[name])
            assert other.items[name].dtype == values.dtype


def test_one_label_of_a_class_leaves_nothing_to_choose_by(tmp_path: Path) -> None:
    encoder, ctx = api.as_encoder(build()).eval(), context(tmp_path)
    task: Any = tasks.load(*LOGREG, {"shots": "1", "tries": "2"})
    data = task.load_data("flowers", ctx)
    (found,) = task.run(encoder, data, (2,), ctx)
    assert [fit["C"] for fit in found.notes["fits"]] == [1.0, 1.0]
    assert [fit["images"]["val"] for fit in found.notes["fits"]] == [0, 0]
    assert not any(name.startswith("val/") for name in found.metrics)
    more: Any = tasks.load(*LOGREG, {"shots": "5", "tries": "2"})
    (found,) = more.run(encoder, data, (2,), ctx)
    classes = len(np.unique(data.train.targets))
    # A fifth of five, though the set has validation images of its own.
    assert [fit["images"]["val"] for fit in found.notes["fits"]] == [classes, classes]
    assert "val/mean_per_class" in found.metrics


def test_few_labels_fit_what_scikit_learn_fits(tmp_path: Path) -> None:
    """The refit of each try is the optimum at its C on its images alone."""
    from sklearn.linear_model import LogisticRegression

    encoder, ctx = api.as_encoder(build()).eval(), context(tmp_path)
    task: Any = tasks.load(*LOGREG, {"shots": "3", "tries": "2"})
    data = task.load_data("cifar10", ctx)
    (found,) = task.run(encoder, data, (2,), ctx)
    train, test = (
        extract(encoder, split, (2,), preprocess=preprocess("E", 32), ctx=ctx)
        for split in (data.train, data.test)
    )
    for number, rows in enumerate(task.draws(data, ctx).rows):
        theirs = LogisticRegression(
            C=found.notes["fits"][number]["C"], tol=1e-10, max_iter=20_000
        ).fit(train.features(2)[rows].astype(np.float64), train.targets[rows])
        accuracy = theirs.score(test.features(2).astype(np.float64), test.targets)
        assert found.notes["tries"]["top1"][number] == pytest.approx(
            accuracy, abs=1.5 / len(test.targets)
        )


def records(tmp_path: Path, seed: int, *changes: dict[str, str], run_seed: int = 0) -> list[Stored]:
    """Records of one tiny encoder, of its weights' seed, under several budgets."""
    store = ResultStore(tmp_path / "results")
    encoder = api.as_encoder(build(seed), name=f"model {seed}").eval()
    found = []
    for one in changes:
        task = tasks.load("knn", None, one)
        ctx = context(tmp_path / "cache", seed=run_seed)
        record = run(encoder, task, "cifar10", layers=(2, 3), ctx=ctx, store=store).record
        found.append((store.path(record), record))
    return found


def test_budgets_share_no_column_and_are_never_compared(tmp_path: Path) -> None:
    budgets = ({}, {"shots": "1"}, {"shots": "2"}, {"fraction": "0.5"})
    a, b = (records(tmp_path, seed, *budgets) for seed in (0, 1))
    ids = [record["protocol"]["id"] for _, record in a]
    assert ids == ["knn/dino", "knn/dino+1-shot", "knn/dino+2-shot", "knn/dino+50-percent"]
    table = wide(tidy([*a, *b], uncertainty=True), "last")
    assert list(table.columns) == [
        f"knn cifar10{part} (mini)" for part in ("", " (1-shot)", " (2-shot)", " (50-percent)")
    ]
    assert (table != "").all(axis=None)
    # Of one budget alone, too, its column says so.
    assert list(wide(tidy([a[1]]), "last").columns) == ["knn cifar10 (1-shot) (mini)"]
    pairs, reasons = pair(a, b)
    assert [(one[1]["key"], other[1]["key"]) for one, other in pairs] == [
        (one[1]["key"], other[1]["key"]) for one, other in zip(a, b, strict=True)
    ]
    assert not reasons
    benchmarks, _ = compare(pairs)
    assert [one.name for one in benchmarks][1] == "knn cifar10 (1-shot) (mini)"
    for one in benchmarks[1:]:
        assert one.layers[2].difference.test.startswith("sign-flip")
    (other,) = records(tmp_path, 1, {"shots": "1"}, run_seed=5)
    with pytest.raises(Exception, match=r"protocol\.resolved\.labels"):
        pair([a[1]], [other])


def test_budgets_are_listed_by_their_numbers_and_what_lacks_a_partner_by_its_labels(
    tmp_path: Path,
) -> None:
    budgets = ({"shots": "10"}, {}, {"shots": "2"}, {"shots": "1"})
    a, b = (records(tmp_path, seed, *budgets) for seed in (0, 1))
    expected = [
        f"knn cifar10{part} (mini)" for part in ("", " (1-shot)", " (2-shot)", " (10-shot)")
    ]
    assert list(wide(tidy([*a, *b]), "last").columns) == expected
    assert [one["label"] for one in collect([*a, *b])["benchmarks"]] == expected
    pairs, reasons = pair(a, [b[2]])
    assert len(pairs) == 1
    assert reasons == [
        f"{name}: the other side has no result of knn/dino{budget}."
        for name, budget in zip(
            (expected[0], expected[1], expected[3]),
            ("", "+1-shot", "+10-shot"),
            strict=True,
        )
    ]
    benchmarks, _ = compare(pair(a, b)[0])
    assert [one.name for one in benchmarks] == expected
    # Beside a test over images stands in how many of the draws b is ahead.
    for one in benchmarks[1:]:
        tries = [side[1]["layers"]["3"]["notes"]["tries"]["k20/top1"] for side in (one.a, one.b)]
        ahead = sum(theirs > ours for ours, theirs in zip(*tries, strict=True))
        found = as_json(one)["layers"]["3"]
        assert (found["draws_b_ahead"], found["draws"]) == (ahead, 5)
        assert f"{ahead} of 5" in [cell for row in summary_table([one]).rows for cell in row]
    assert "draws" not in as_json(benchmarks[0])["layers"]["3"]
    assert about_draws(benchmarks, at="last")
    assert not about_draws(benchmarks[:1], at="last")


def test_intervals_are_of_the_images_in_the_mean_over_draws(tmp_path: Path) -> None:
    ((path, record),) = records(tmp_path, 0, {"shots": "2"})
    for metric in ("k20/top1", "k20/mean_per_class"):
        units = layer_item_scores(record, path, 3, metric)
        found = layer_interval(record, path, 3, metric)
        assert units is not None
        assert found is not None
        assert not units.binary
        assert found.low < found.value < found.high
        # A mean over draws varies less from image to image than right or wrong does.
        n = len(units)
        spread = units.scores.std(ddof=1) / np.sqrt(n)
        assert found.se <= np.sqrt(found.value * (1 - found.value) / n) * 1.05
        if metric == "k20/top1":
            assert found.se == pytest.approx(spread, rel=0.05)
    assert layer_interval(record, path, 3, "k20/top5") is None


def test_a_list_is_the_protocol_of_the_published_numbers(tmp_path: Path) -> None:
    """dino#121: k-NN on SimCLR's 1 % list with k = 10, 20, 50, 100, 200."""
    encoder, ctx = api.as_encoder(build()).eval(), context(tmp_path)
    data: Any = tasks.load("knn").load_data("cifar10", ctx)
    names = [data.train.names[row] for row in range(0, len(data.train), 2)]
    (tmp_path / "1percent.txt").write_text("\n".join(names) + "\n")
    changes = {"subset": str(tmp_path / "1percent.txt")}
    record = run(
        encoder, tasks.load("knn", None, changes), "cifar10", layers=(3,), ctx=ctx, store=None
    ).record
    assert record["protocol"]["id"] == f"knn/dino+list-{len(names)}"
    top1 = [m for m in record["layers"]["3"]["metrics"] if m.endswith("top1")]
    assert top1 == [f"k{k}/top1" for k in (10, 20, 50, 100, 200)]
    assert record["protocol"]["resolved"]["labels"]["tries"] == 1
    assert "tries" not in record["layers"]["3"]["notes"]
    assert str(tmp_path) not in json.dumps(record["protocol"])


def test_the_command_runs_every_budget_and_shows_the_spread(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("from tiny_model import build\n")
    line = [
        "run", "-t", "knn", "-d", "cifar10", "--data-root", str(shared_mini()), "-q", "--ckpt",
        f"custom:{tmp_path / 'model.py'}:build", "--out", str(tmp_path), "--cache-dir", str(tmp_path / "c"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*line, "--shots", "1,2", "--fraction", "0.5"])
    assert done.exit_code == 0, done.output
    for part in ("(1-shot)", "(2-shot)", "(50-percent)"):
        assert part in done.output
    assert len(record_files([tmp_path])) == 3
    done = CliRunner().invoke(app, [*line, "--shots", "2", "--tries", "4"])
    assert "knn/dino+2-shot@1" in done.output
    assert "sd of 4" in done.output
    assert len(record_files([tmp_path])) == 4
    done = CliRunner().invoke(app, [*line, "--shots", "9999"])
    assert done.exit_code == 2
    assert "9999 labels of every class were asked for" in done.output
    done = CliRunner().invoke(app, [*line, "--subset", str(tmp_path / "none.txt")])
    assert done.exit_code == 3


def test_the_csv_has_the_spread_over_draws(tmp_path: Path) -> None:
    ((path, record),) = records(tmp_path, 0, {"shots": "2", "tries": "3"})
    frame = tidy([(path, record)])
    (row,) = frame[(frame["layer"] == 3) & (frame["metric"] == "k20/top1")].to_dict("records")
    values = record["layers"]["3"]["notes"]["tries"]["k20/top1"]
    assert row["tries"] == len(values) == 3
    assert row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert row["value"] == pytest.approx(np.mean(values))
