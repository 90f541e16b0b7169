"""The leaderboard, a pure function of the stored records: a tidy CSV and wide tables.

Rows that must not be compared never share a column: another protocol version, other parameters,
another set of images or a partial copy each get their own. Holes stay holes. Trials made under `--limit`
stay out, or have rows and columns of their own that say so.
Numbers come with the 95 % intervals of `statistics`, recomputed from the per-item scores.
"""

from collections.abc import Iterable, Iterator, Mapping
from statistics import stdev
from typing import Any

import pandas as pd

from sdssl_bench.records import (
    Record,
    Stored,
    by_numbers,
    limit_mark,
    part_mark,
    plain,
    shown_layer,
    variant_mark,
)
from sdssl_bench.reports.escapes import csv_cell
from sdssl_bench.rounding import percent
from sdssl_bench.statistics import known_interval

COLUMNS = (
    "model", "arch", "network", "norm", "pretrained", "task", "protocol", "protocol_version",
    "protocol_digest", "dataset", "variant", "layer", "depth", "metric", "headline", "value", "n",
    "skipped_images", "seed", "dtype", "bank_dtype", "weights_sha256", "dataset_fingerprint",
    "sdssl_bench", "scored_at", "key", "se", "low", "high", "units", "unit", "interval",
    "method", "recipe", "limited", "tries", "sd", "point",
)  # fmt: skip
"""Columns of the tidy CSV, in this order; results/README.md says what each holds."""

UNCERTAINTY = ("se", "low", "high", "units", "unit", "interval")
NONE = float("nan")
VIEWS = ("layers", "best", "last", "val")
ROW = ["arch", "network", "norm", "point", "seed", "dtype", "bank_dtype", "weights_sha256"]
BENCHMARK = [
    "protocol", "protocol_version", "protocol_digest",
    "dataset_fingerprint", "metric",
]  # fmt: skip


def tidy(
    records: Iterable[Stored],
    *,
    uncertainty: bool = False,
    include_limited: bool = False,
    rows: str = "all",
) -> pd.DataFrame:
    """One row per model x task x dataset x layer x metric; values are fractions.

    Sorted by model, task, dataset and layer, whatever order the files were written in.

    Args:
        records: with their paths, beside which the per-item scores lie.
        uncertainty: fill the columns of the 95 % interval; they are empty otherwise, and where a
            metric has no per-item scores.
        include_limited: take records made under --limit too; their column "limited" is that number.
        rows: "all"; "headlines", all that the views of `wide` need; "last", what its view "last" needs.

    Raises:
        DataError: with `uncertainty`, if per-item scores are missing or do not give the stored number.
    """
    kept = [one for one in records if include_limited or one[1]["limited"] is None]
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for path, record in sorted(kept, key=_order):
        found = list(_rows(record, rows))
        for name, value in _shared(record).items():
            columns[name] += [value] * len(found)
        for row in found:
            for name, value in row.items():
                columns[name].append(value)
            known = None
            if uncertainty:
                known = known_interval(record, path, row["layer"], row["metric"])
            ends = (NONE,) * 6 if known is None else (
                known.se, known.low, known.high, known.n, known.unit, known.method
            )  # fmt: skip
            for name, value in zip(UNCERTAINTY, ends, strict=True):
                columns[name].append(value)
    frame = pd.DataFrame(columns, columns=list(COLUMNS))
    return frame.astype({"units": "Int64", "limited": "Int64", "tries": "Int64"})


def _order(stored: Stored) -> tuple[str, ...]:
    model, data = stored[1]["model"], stored[1]["dataset"]
    return (
        model["name"], model["network"], model["norm"], stored[1]["task"], data["name"],
        data["variant"], stored[1]["protocol"]["id"], stored[1]["key"],
    )  # fmt: skip


def _shared(record: Record) -> dict[str, Any]:
    """Columns that are the same in all rows of a record."""
    model, data, protocol = record["model"], record["dataset"], record["protocol"]
    return {
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
        "point": model.get("point", "block"),
        **{name: record["settings"][name] for name in ("seed", "dtype", "bank_dtype")},
        **_pretraining(model["details"].get("config") or {}),
    }


def _rows(record: Record, rows: str) -> Iterator[dict[str, Any]]:
    """The other columns but for the interval, by layer and metric."""
    headline, ranked = record["headline"], record.get("ranked", True)
    layers = sorted(record["layers"], key=int)
    if rows == "last":
        at = shown_layer(record)
        layers = [] if at is None else [str(at)]
    shown = {"last": (headline,), "headlines": (headline, f"val/{headline}")}.get(rows)
    for layer in layers:
        entry = record["layers"][layer]
        skipped = entry["notes"].get("skipped_images", {})
        for metric in sorted(entry["metrics"]):
            if shown is not None and metric not in shown:
                continue
            tries = entry["notes"].get("tries", {}).get(metric, [])
            yield {
                "layer": int(layer),
                "metric": metric,
                # Descriptions have no headline here: views rank headlines.
                "headline": metric == headline and ranked,
                "value": entry["metrics"][metric],
                "n": entry["n"],
                "skipped_images": sum(split["count"] for split in skipped.values()),
                "sdssl_bench": record["environments"][entry["environment"]]["sdssl_bench"],
                "scored_at": entry["scored_at"],
                "tries": len(tries) or None,
                "sd": stdev(tries) if len(tries) > 1 else NONE,
            }


def _pretraining(config: Mapping[str, Any]) -> dict[str, Any]:
    """Method and recipe of an encoder that was pretrained here; other files do not tell theirs."""
    if not {"method", "sd", "recipe"} <= config.keys():
        return {"method": NONE, "recipe": NONE}
    return {
        "method": ("sd_" if config["sd"] else "") + str(config["method"]),
        "recipe": config["recipe"],
    }


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

    Trials are rows of their own, and say so; so do controls, which nobody trained.
    """
    return _labels(frame, frame["model"] + _control(frame) + _trial(frame), ROW)


def column_labels(frame: pd.DataFrame) -> "pd.Series[str]":
    """The benchmark of each row of a tidy frame, named so that what must not be compared differs."""
    mark = frame["protocol"].map(part_mark) + frame["variant"].map(variant_mark)
    return _labels(frame, frame["task"] + " " + frame["dataset"] + mark + _trial(frame), BENCHMARK)


def _control(frame: pd.DataFrame) -> "pd.Series[str]":
    """What stands behind the name of an encoder that learned nothing, where the name does not say it."""
    named = frame["model"].str.startswith("control:")
    return ((frame["pretrained"].astype(str) == "False") & ~named).map(
        {True: " (control)", False: ""}
    )


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
    names = [name for name in cells.columns if name.startswith(("value", "low", "high", "layer"))]
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(cells[name].tolist() for name in names), strict=True)
    ]


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
    table = table.sort_index()
    return table[sorted(table.columns, key=lambda name: by_numbers(str(name)))].rename_axis(
        columns=None
    )


def csv_text(frame: pd.DataFrame) -> str:
    """The tidy CSV of a frame from `tidy`."""
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    safe = frame.assign(**{name: frame[name].map(csv_cell) for name in texts})
    return safe.to_csv(index=False, lineterminator="\n")


def _labels(frame: pd.DataFrame, texts: "pd.Series[str]", columns: list[str]) -> "pd.Series[str]":
    """`texts`, visible and in one line, extended until it tells apart whatever differs in any of the columns.

    A column is named only where rows of equal text differ in it.
    """
    label = _visible(texts)
    for column in columns:
        values = _visible(frame[column].astype(str))
        differs = values.groupby(texts).transform("nunique") > 1
        short = values.str[:8] if column.endswith(("sha256", "fingerprint", "digest")) else values
        label = label.where(~differs, label + f" {column}=" + short)
    return label


def _visible(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Each text by `plain`; columns repeat few of them."""
    # pandas 2 makes numbers of what an empty dictionary gives, which no rows at all would be.
    return texts.map({"": "", **{text: plain(text) for text in texts.unique()}})
