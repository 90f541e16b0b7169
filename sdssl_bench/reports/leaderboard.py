"""The leaderboard, a pure function of the stored records: a tidy CSV and wide tables.

Rows that must not be compared never share a column: another protocol version, other parameters,
another set of images or a partial copy each get their own. Holes stay holes. Trials made under `--limit`
stay out, or have rows and columns of their own that say so.
Numbers come with the 95 % intervals of `statistics`, recomputed from the per-item scores.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sdssl_bench.records import Record, Stored, limit_mark, variant_mark
from sdssl_bench.rounding import percent
from sdssl_bench.statistics import known_interval

COLUMNS = (
    "model", "arch", "network", "norm", "pretrained", "task", "protocol", "protocol_version",
    "protocol_digest", "dataset", "variant", "layer", "depth", "metric", "headline", "value", "n",
    "skipped_images", "seed", "dtype", "bank_dtype", "weights_sha256", "dataset_fingerprint",
    "sdssl_bench", "scored_at", "key", "se", "low", "high", "units", "unit", "interval",
    "method", "recipe", "limited",
)  # fmt: skip
"""Columns of the tidy CSV, in this order; results/README.md says what each holds."""

UNCERTAINTY = ("se", "low", "high", "units", "unit", "interval")
VIEWS = ("layers", "best", "last", "val")
ROW = ["arch", "network", "norm", "seed", "dtype", "bank_dtype", "weights_sha256"]
BENCHMARK = [
    "protocol", "protocol_version", "protocol_digest",
    "dataset_fingerprint", "metric",
]  # fmt: skip


def tidy(
    records: Iterable[Stored], *, uncertainty: bool = False, include_limited: bool = False
) -> pd.DataFrame:
    """One row per model x task x dataset x layer x metric; values are fractions.

    Sorted by model, task, dataset and layer, whatever order the files were written in.

    Args:
        records: with their paths, beside which the per-item scores lie.
        uncertainty: fill the columns of the 95 % interval; they are empty otherwise, and where a
            metric has no per-item scores.
        include_limited: take records made under --limit too; their column "limited" is that number.

    Raises:
        DataError: with `uncertainty`, if per-item scores are missing or do not give the stored number.
    """
    rows = [
        {**row, **(_uncertainty(record, path, row) if uncertainty else {})}
        for path, record in records
        if include_limited or record["limited"] is None
        for row in _rows(record)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"units": "Int64", "limited": "Int64"})
    order = ["model", "network", "norm", "task", "dataset", "variant", "protocol", "key", "layer"]
    return frame.sort_values([*order, "metric"], kind="stable", ignore_index=True)


def _rows(record: Record) -> Iterable[dict[str, Any]]:
    model, data, protocol = record["model"], record["dataset"], record["protocol"]
    shared = {
        "model": model["name"],
        "arch": model["arch"],
        "network": model["network"],
        "norm": model["norm"],
        "pretrained": model["pretrained"],
        "weights_sha256": model["weights_sha256"],
        "depth": model["depth"],
        "task": record["task"],
        "protocol": protocol["id"],
        "protocol_version": protocol["version"],
        "protocol_digest": protocol["digest"],
        "dataset": data["name"],
        "variant": data["variant"],
        "dataset_fingerprint": data["fingerprint"],
        "key": record["key"],
        "limited": record["limited"],
        **{name: record["settings"][name] for name in ("seed", "dtype", "bank_dtype")},
        **_pretraining(model["details"].get("config") or {}),
    }
    for layer, entry in record["layers"].items():
        skipped = entry["notes"].get("skipped_images", {})
        for metric, value in entry["metrics"].items():
            yield {
                **shared,
                "layer": int(layer),
                "metric": metric,
                # Descriptions have no headline here: views rank headlines.
                "headline": metric == record["headline"] and record.get("ranked", True),
                "value": value,
                "n": entry["n"],
                "skipped_images": sum(split["count"] for split in skipped.values()),
                "sdssl_bench": record["environments"][entry["environment"]]["sdssl_bench"],
                "scored_at": entry["scored_at"],
            }


def _pretraining(config: Mapping[str, Any]) -> dict[str, str]:
    """Method and recipe of an encoder that was pretrained here; other files do not tell theirs."""
    if not {"method", "sd", "recipe"} <= config.keys():
        return {}
    return {
        "method": ("sd_" if config["sd"] else "") + config["method"],
        "recipe": config["recipe"],
    }


def _uncertainty(record: Record, path: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    found = known_interval(record, path, row["layer"], row["metric"])
    if found is None:
        return {}
    return dict(
        zip(
            UNCERTAINTY,
            (found.se, found.low, found.high, found.n, found.unit, found.method),
            strict=True,
        )
    )


def wide(frame: pd.DataFrame, view: str, *, ranks: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Models in rows, benchmarks in columns, texts x100 in cells, "" where nothing was measured.

    Args:
        frame: from `tidy`.
        view: "last" (layer L), "best" (the layer with the best test score, last layer beside it),
            "val" (the layer with the best score on images held out of train, where the protocol
            has them) or "layers" (one row per model and layer).
        ranks: record key -> ranks and tie group, put behind the scores of the view "last".
    """
    headlines = frame[frame["headline"]]
    headlines = headlines.assign(row=row_labels(headlines), column=column_labels(headlines))
    if view == "layers":
        return _pivot(headlines.assign(text=_texts(headlines)), ["row", "layer"])
    last = headlines[headlines["layer"] == headlines["depth"]]
    if view == "last":
        known = ranks or {}
        behind = last["key"].map(lambda key: f" ({known[key]})" if key in known else "")
        return _pivot(last.assign(text=_texts(last) + behind), ["row"])
    keys = ["row", "column"]
    if view == "val":
        held_out = frame[frame["metric"].str.startswith("val/")]
        held_out = held_out.assign(metric=held_out["metric"].str.removeprefix("val/"))
        on = ["key", "layer", "metric"]
        seen = headlines.merge(
            held_out[[*on, "value"]], on=on, how="inner", suffixes=("", "_val")
        ).sort_values("layer")
        chosen = seen.loc[seen.groupby(keys)["value_val"].idxmax()]
        return _pivot(chosen.assign(text=[_val_text(cell) for cell in _dicts(chosen)]), ["row"])
    best = headlines.sort_values("layer").loc[lambda f: f.groupby(keys)["value"].idxmax()]
    both = best.merge(
        last[[*keys, "value", "low", "high"]], on=keys, how="left", suffixes=("", "_last")
    )
    return _pivot(both.assign(text=[_best_text(cell) for cell in _dicts(both)]), ["row"])


def row_labels(frame: pd.DataFrame) -> "pd.Series[str]":
    """The encoder of each row of a tidy frame, named so that different encoders differ.

    Trials are rows of their own, and say so.
    """
    return _labels(frame, frame["model"] + _trial(frame), ROW)


def column_labels(frame: pd.DataFrame) -> "pd.Series[str]":
    """The benchmark of each row of a tidy frame, named so that what must not be compared differs."""
    mark = frame["variant"].map(variant_mark)
    return _labels(frame, frame["task"] + " " + frame["dataset"] + mark + _trial(frame), BENCHMARK)


def _trial(frame: pd.DataFrame) -> "pd.Series[str]":
    """What stands behind the name of what was measured under --limit."""
    marks = [limit_mark(None if pd.isna(n) else n) for n in frame["limited"]]
    return pd.Series(marks, index=frame.index, dtype=object)


def coverage(table: pd.DataFrame) -> "pd.Series[str]":
    """How many benchmarks each row has of those in the table; no average is made over holes."""
    return (table != "").sum(axis=1).map(lambda n: f"{n} of {table.shape[1]}")


def score_text(cell: Mapping[str, Any], suffix: str = "") -> str:
    """A score x100 with half the width of its 95 % interval, where there is one."""
    value, low, high = (cell[f"{name}{suffix}"] for name in ("value", "low", "high"))
    return percent(value) if pd.isna(low) else f"{percent(value)} ± {percent((high - low) / 2)}"


def _dicts(cells: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in cells.to_dict("records")]


def _texts(cells: pd.DataFrame) -> "pd.Series[str]":
    texts = [score_text(cell) for cell in _dicts(cells)]
    return pd.Series(texts, index=cells.index, dtype=object)


def _best_text(cell: Mapping[str, Any]) -> str:
    last = "not scored" if pd.isna(cell["value_last"]) else score_text(cell, "_last")
    return f"{score_text(cell)} at {cell['layer']} (last {last})"


def _val_text(cell: Mapping[str, Any]) -> str:
    return f"{score_text(cell)} at {cell['layer']} (val {percent(cell['value_val'])})"


def _pivot(cells: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    if cells.duplicated([*index, "column"]).any():
        clash = cells[cells.duplicated([*index, "column"], keep=False)]
        raise AssertionError(f"records share a leaderboard cell: {sorted(set(clash['key']))}")
    table = cells.pivot(index=index, columns="column", values="text").fillna("")
    return table.sort_index().sort_index(axis=1).rename_axis(columns=None)


def _labels(frame: pd.DataFrame, texts: "pd.Series[str]", columns: list[str]) -> "pd.Series[str]":
    """`texts` extended until it tells apart whatever differs in any of the columns.

    A column is named only where rows of equal text differ in it.
    """
    label = texts
    for column in columns:
        values = frame[column].astype(str)
        differs = values.groupby(texts).transform("nunique") > 1
        short = values.str[:8] if column.endswith(("sha256", "fingerprint", "digest")) else values
        label = label.where(~differs, label + f" {column}=" + short)
    return label
