"""What `evaluate` returns: records that are still mappings, with tables, curves and representations."""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.records import Stored
from sdssl_bench.reports import Part, Shown, layer_table, results_table
from sdssl_bench.statistics import record_intervals

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

EVERY = "all"
"""For a metric: all of them."""


class TemporaryFolder:
    """A folder that is there as long as a result needs it, for records that nobody asked to keep."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sdssl-bench-results-"))
        # No TemporaryDirectory: it warns where it is left to the end of what holds it.
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __deepcopy__(self, memo: object) -> "TemporaryFolder":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # another process does not keep the folder of this one


class Result(Shown, dict[str, Any]):
    """A record (format: results/README.md) that shows, tabulates and plots itself.

    Attributes:
        path: of the record's file; per-item scores lie beside it. Where no `results` was named, it is in a
            temporary folder that goes with the result.
    """

    def __init__(self, record: Mapping[str, Any], path: Path, kept: object = None) -> None:
        super().__init__(record)
        self.path = path
        self._kept = kept

    @property
    def stored(self) -> Stored:
        """The record with its file, as the rooms below take it."""
        return self.path, dict(self)

    def shown(self) -> Sequence[Part]:
        """The table that `run` prints."""
        if not self["layers"]:  # all are in the first process
            return [f"{self['protocol']['id']}: no layers in this process."]
        path, record = self.stored
        layers = sorted(map(int, record["layers"]))
        return [layer_table(record, layers, intervals=record_intervals(record, path))]

    def frame(self, metric: str | None = None) -> "pandas.DataFrame":
        """A tidy table, one row a layer; values and the ends of 95 % intervals are fractions.

        Args:
            metric: None is the headline; "all" gives one row a layer and metric.

        Returns:
            The columns of the leaderboard's tidy CSV.

        Raises:
            UsageError: if no layer has the metric.
            DataError: if per-item scores are missing or do not give the stored number.
        """
        from sdssl_bench.reports import tidy

        frame = tidy([self.stored], uncertainty=True, include_limited=True)
        if metric == EVERY:
            return frame
        name = self._metric(metric)
        return frame[frame["metric"] == name].reset_index(drop=True)

    def plot(self, metric: str | None = None, *, ax: "Axes | None" = None, **style: Any) -> "Axes":
        """The curve over the layers in percent, its 95 % interval as a band.

        Args:
            metric: None is the headline.
            ax: axes to draw in, beside the curves that are there; None makes a figure.
            **style: of the line, as matplotlib's `plot` takes it: color, label, ...

        Raises:
            UsageError: if no layer has the metric.
            DataError: if per-item scores are missing or do not give the stored number.
        """
        from sdssl_bench.reports import plot_curve

        return plot_curve(self.stored, self._metric(metric), axes=ax, style=style)

    def _metric(self, name: str | None) -> str:
        if name is None:
            return str(self["headline"])
        known = {one for entry in self["layers"].values() for one in entry["metrics"]}
        if name not in known:
            raise UsageError(did_you_mean(f"metric of {self['protocol']['id']}", name, known))
        return name


class Results(Shown, Sequence[Result]):
    """Results in an order, as a list of them; `a + b` concatenates."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        self._results = list(results)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> "Results": ...
    def __getitem__(self, place: SupportsIndex | slice) -> "Result | Results":
        if isinstance(place, slice):
            return Results(self._results[place])
        return self._results[place]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Results | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: "Result | Iterable[Result]") -> "Results":
        more = [other] if isinstance(other, Result) else list(other)
        return Results([*self, *more])

    def shown(self) -> Sequence[Part]:
        """One row a result."""
        return [results_table(self)]

    def frame(self, metric: str | None = None) -> "pandas.DataFrame":
        """The frames of all, below each other in this order; see `Result.frame`."""
        import pandas as pd

        from sdssl_bench.reports import tidy

        frames = [one.frame(metric) for one in self] or [tidy([])]
        return pd.concat(frames, ignore_index=True)

    def plot(self) -> "list[Axes]":
        """The headline over the layers: a panel a benchmark, a curve an encoder.

        Raises:
            UsageError: if there is nothing that ranks.
            DataError: if per-item scores are missing or do not give the stored number.
        """
        from sdssl_bench.reports import plot_panels

        return plot_panels([one.stored for one in self if one.get("ranked", True)])
