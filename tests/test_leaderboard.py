"""The leaderboard compares only what may be compared, and keeps holes as holes."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from records import ENVIRONMENT, entry, head
from sdssl_bench.leaderboard import COLUMNS, tidy, wide


def record(scores: dict[int, float], **changes: Any) -> tuple[Path, dict[str, Any]]:
    layers = {str(layer): {**entry(value), "environment": 0} for layer, value in scores.items()}
    return Path("x.json"), {**head(**changes), "environments": [ENVIRONMENT], "layers": layers}


CURVE = {1: 0.2, 2: 0.8, 3: 0.5}


def test_tidy_has_one_row_per_layer_and_metric_in_a_stable_order() -> None:
    one = record(CURVE)
    other = record({3: 0.9}, model__name="byol", model__weights_sha256="b" * 64)
    frame = tidy([one, other])
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 2 * (3 + 1)
    pd.testing.assert_frame_equal(frame, tidy([other, one]))
    row = frame[(frame.model == "dino") & (frame.layer == 2) & frame.headline].iloc[0]
    assert (row.value, row.metric, row.n, row.depth) == (0.8, "k20/top1", 10000, 3)


def test_rows_of_encoders_pretrained_here_name_method_and_recipe() -> None:
    config = {"method": "mocov3", "sd": True, "recipe": "code", "epochs": 300}
    ours = record(CURVE, model__details={"config": config}, model__name="ours")
    frame = tidy([ours, record(CURVE, model__weights_sha256="b" * 64)])
    assert set(frame[frame.model == "ours"].method) == {"sd_mocov3"}
    assert set(frame[frame.model == "ours"].recipe) == {"code"}
    assert frame[frame.model == "dino"][["method", "recipe"]].isna().all(axis=None)


def test_the_last_view_shows_layer_l_or_a_hole() -> None:
    frame = tidy([record(CURVE), record({1: 0.4, 2: 0.6}, dataset__name="pets")])
    table = wide(frame, "last")
    assert table.to_dict() == {"knn cifar10": {"dino": "50.0"}}
    both = tidy(
        [
            record(CURVE),
            record(
                {3: 0.4}, dataset__name="pets", model__name="byol", model__weights_sha256="b" * 64
            ),
        ]
    )
    table = wide(both, "last")
    assert table.loc["dino", "knn pets"] == ""
    assert table.loc["byol", "knn pets"] == "40.0"


def test_the_best_view_shows_the_last_layer_beside_it() -> None:
    frame = tidy([record(CURVE), record({1: 0.4}, dataset__name="pets")])
    table = wide(frame, "best")
    assert table.loc["dino", "knn cifar10"] == "80.0 at 2 (last 50.0)"
    assert table.loc["dino", "knn pets"] == "40.0 at 1 (last not scored)"


def test_equal_best_layers_give_the_earliest() -> None:
    table = wide(tidy([record({1: 0.3, 2: 0.7, 3: 0.7})]), "best")
    assert table.loc["dino", "knn cifar10"].startswith("70.0 at 2")


def test_the_layers_view_has_a_row_per_layer() -> None:
    table = wide(tidy([record(CURVE)]), "layers")
    assert table["knn cifar10"].tolist() == ["20.0", "80.0", "50.0"]


@pytest.mark.parametrize(
    "change",
    [
        {"protocol__version": 2},
        {"protocol__digest": "1" * 16},
        {"protocol__id": "knn/paper"},
        {"dataset__variant": "partial"},
        {"dataset__fingerprint": "e" * 64},
    ],
)
def test_what_must_not_be_compared_never_shares_a_column(change: dict[str, Any]) -> None:
    other = {"model__name": "byol", "model__weights_sha256": "b" * 64}
    table = wide(tidy([record(CURVE), record({3: 0.9}, **other, **change)]), "last")
    assert table.shape == (2, 2)
    assert (table == "").to_numpy().sum() == 2


@pytest.mark.parametrize(
    "change",
    [
        {"model__norm": "none"},
        {"model__arch": "vit_small_patch16_heads12"},
        {"model__network": "student", "model__weights_sha256": "b" * 64},
        {"model__weights_sha256": "b" * 64},
        {"settings__seed": 1},
        {"settings__dtype": "bfloat16"},
    ],
)
def test_what_differs_between_models_of_one_name_is_named_in_the_row(
    change: dict[str, Any],
) -> None:
    table = wide(tidy([record(CURVE), record({3: 0.9}, **change)]), "last")
    assert table.shape == (2, 1)
    assert sorted(table["knn cifar10"]) == ["50.0", "90.0"]


@pytest.mark.parametrize("view", ["layers", "last", "best"])
def test_trials_enter_on_request_and_share_no_row_and_no_column(view: str) -> None:
    records = [
        record(CURVE),
        record({3: 0.9}, limited=100),
        record({3: 0.7}, limited=40),
        record({3: 0.8}, limited=40, model__name="byol", model__weights_sha256="b" * 64),
    ]
    assert set(wide(tidy(records), view).columns) == {"knn cifar10"}
    frame = tidy(records, include_limited=True)
    assert set(frame.loc[frame["value"] == 0.9, "limited"]) == {100}
    assert set(frame.loc[frame["limited"].isna(), "value"]) >= set(CURVE.values())
    table = wide(frame, view)
    for label, row in table.iterrows():
        model = label[0] if isinstance(label, tuple) else str(label)
        for column, text in row.items():
            if text:
                mark = model.partition(" (limit ")[2]
                assert str(column).partition(" (limit ")[2] == mark
    assert (table != "").to_numpy().sum() == (6 if view == "layers" else 4)


def test_encoders_of_different_input_sizes_share_a_column() -> None:
    small = record(CURVE, protocol__resolved={"size": 32}, model__name="small")
    assert wide(tidy([record(CURVE), small]), "last").shape == (2, 1)


def test_skipped_images_are_counted() -> None:
    path, one = record({3: 0.5})
    one["layers"]["3"]["notes"] = {
        "skipped_images": {"train": {"count": 2, "first": []}, "test": {"count": 1, "first": []}}
    }
    assert tidy([(path, one)])["skipped_images"].unique().tolist() == [3]
