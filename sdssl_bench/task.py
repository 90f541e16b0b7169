"""The contract between the runner, the command line and a task, and the parameters of a protocol.

A task is a frozen dataclass whose fields are the protocol's parameters, each default citing its
source. It turns layers into scores; the runner stamps, stores and resumes. Whatever else a task has of
its own (options, inputs, artifacts, tables) it declares here: `run`, `--help`, `show` are made of that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sdssl_bench.parameters import FileScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import RenderableType

    from sdssl_bench.encoders import Encoder
    from sdssl_bench.system import Progress, Work


@dataclass(frozen=True)
class Option:
    """An option that a task adds to `sdssl-bench run`.

    Two tasks may declare the same one: then it is one option, for both.

    Attributes:
        name: as typed, without dashes.
        kind: what its value is and where the task finds it:
            "parameter": text for one or several fields of the task, as by --set;
            "input": a folder of further images, in `RunContext.inputs`; it changes numbers, so the
            task's DatasetInfo identifies the images used;
            "artifact": a folder to write to, in `RunContext.artifacts`; it changes no number;
            "encoder": a second checkpoint, in `RunContext.against`.
        help: one sentence for --help.
        keys: the fields, or the one name in `inputs` or `artifacts`; the option's own by default.
        required: whether the task cannot run without it.
        each: of a parameter: a list of values makes a run for each.
    """

    name: str
    kind: str
    help: str
    keys: tuple[str, ...] = ()
    required: bool = False
    each: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"--{self.name}: kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not self.keys:
            object.__setattr__(self, "keys", (self.name.replace("-", "_"),))

    @property
    def key(self) -> str:
        """The name in `inputs` or `artifacts`."""
        return self.keys[0]


@dataclass(frozen=True)
class Trial:
    """What `sdssl-bench quickstart` runs of a task, on miniatures: seconds on two cores.

    Attributes:
        protocol: one of the task's presets; None is its first.
        changes: parameter -> text, e.g. sizes that suit miniatures.
        datasets: some that the task takes; None is all.
    """

    protocol: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] | None = None


KINDS = ("parameter", "input", "artifact", "encoder")


@dataclass(frozen=True)
class RunContext:
    """Everything a task needs from outside; tasks read no environment, no globals, no argv.

    Attributes:
        data_root: folder that holds the datasets in their official layouts; None if never given.
        cache_dir: root of the feature cache.
        device: torch device string; "auto" = cuda if there is one, else cpu.
        dtype: "float32" | "bfloat16" | "float16": autocast type of the encoder's forward pass.
        bank_dtype: "float32" | "float16": how feature banks are stored.
        batch_size: images per forward pass; None = automatic with back-off on out-of-memory.
        num_workers: data-loader processes; None = automatic.
        seed: of everything random.
        limit: first `limit` items of each split only (spread evenly); such rows are flagged.
        allow_partial: score an incomplete copy of a dataset and record that.
        on_bad_image: "error" | "skip".
        image_range: values of 16-bit and float images that are black and white; None refuses them.
        backend: nearest-neighbour search, "auto" | "torch" | "faiss".
        artifacts: key of an `Option` -> folder of what a run writes besides its record.
        inputs: key of an `Option` -> folder of further images.
        against: a second encoder, for tasks that compare two.
    """

    data_root: Path | None
    cache_dir: Path
    device: str = "auto"
    dtype: str = "float32"
    bank_dtype: str = "float32"
    batch_size: int | None = None
    num_workers: int | None = None
    seed: int = 0
    limit: int | None = None
    allow_partial: bool = False
    on_bad_image: str = "error"
    image_range: tuple[float, float] | None = None
    backend: str = "auto"
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    against: "Encoder | None" = None
    progress: "Progress | None" = None


@dataclass(frozen=True)
class DatasetInfo:
    """What a record says of the data: identity, completeness, size.

    Attributes:
        name: "cifar10", "folder:PATH", ...
        variant: "official" | "mini" | "partial" | "folder".
        fingerprint: sha256 that identifies the items used (all splits).
        splits: items per split, e.g. {"train": 50000, "test": 10000}.
        details: further recorded facts; JSON values only.
    """

    name: str
    variant: str
    fingerprint: str
    splits: Mapping[str, int]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LayerScores:
    """What a task measured of one layer.

    Attributes:
        layer: 1..L.
        metrics: name -> fraction in [0, 1] (x100 in tables alone), any number if not `ranked`.
        n: number of items each metric is an average of.
        items: name -> [n] scores for paired tests, and other arrays that a task shows, e.g. maps.
        seconds: by phase, shared phases in the first layer's entry: the sum over layers is the run's.
        notes: further facts about this measurement, e.g. images left out; JSON values only.
    """

    layer: int
    metrics: Mapping[str, float]
    n: int
    items: "Mapping[str, NDArray[Any]]" = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """A benchmark protocol: one file in tasks/, class `Task`, a frozen dataclass derived from this.

    Its module imports what is light; what computes is imported by the methods that use it.
    """

    name: ClassVar[str]
    """The file's name."""
    title: ClassVar[str]
    """What it measures, in at most 60 characters."""
    version: ClassVar[int]
    """Raised by every change that can change a number; versions never mix in a table."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Named sets of parameters; the first is the default protocol."""
    datasets: ClassVar[tuple[str, ...]]
    """Names it accepts; "all" on the command line."""
    default_datasets: ClassVar[tuple[str, ...]] = ()
    """Run when --dataset is not given; empty if the user has to choose."""
    folder_has: ClassVar[str] = ""
    """What folder:PATH holds if that is a dataset too, e.g. "train"; "" where a folder is none."""
    ranked: ClassVar[bool] = True
    """False where the numbers describe and have no better or worse."""
    points: ClassVar[bool] = True
    """False where it cuts the encoder after a block, so that `run --points` says nothing to it."""
    options: ClassVar[tuple[Option, ...]] = ()
    """Its own options of `run`."""
    shares_pass: ClassVar[bool] = True
    """Whether its forward pass serves other tasks of one `transform`, if it has that parameter."""
    first: ClassVar[bool] = False
    """Whether it is the one that is run where none is named: cheap, and fit for every encoder."""
    trial: ClassVar[Trial | None] = None
    """Its part of `quickstart`; None if it has none."""
    score_files: ClassVar[Callable[..., FileScores] | None] = None
    """`sdssl-bench score`, made of its signature (an `Argument` in each annotation) and docstring."""
    pitfalls: ClassVar[tuple[str, ...]] = ()
    """What makes two numbers of it differ without notice, a sentence or two each."""
    elsewhere: ClassVar[tuple[str, ...]] = ()
    """How other tools and papers do it, where that gives other numbers."""

    @property
    def protocol(self) -> str:
        """Name of the preset these parameters started from."""

    @property
    def part(self) -> str:
        """What makes the preset's number another, in the protocol's id, as few labels, 4-shot; or ""."""
        return ""

    def load_data(self, name: str, ctx: RunContext) -> Any:
        """The dataset, verified; DataError if it is missing or incomplete."""

    def describe_data(self, data: Any) -> DatasetInfo:
        """What the record will say of it."""

    def resolve(self, encoder: "Encoder", data: Any, ctx: RunContext) -> dict[str, Any]:
        """What the parameters became for this encoder and data, e.g. pixels; JSON values."""

    def headline(self, data: Any) -> str:
        """Name of the metric that tables show."""

    def run(
        self, encoder: "Encoder", data: Any, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer, yielded as soon as it is known."""

    def work(
        self, encoder: "Encoder", data: Any, layers: Sequence[int], ctx: RunContext
    ) -> "Iterable[Work]":
        """What `run` would do with the same arguments, in its order; nothing where it cannot be told."""
        return ()

    def tables(self, record: Mapping[str, Any], path: Path) -> "Iterable[RenderableType]":
        """What `run` prints below the layers of a record of this task, stored at `path`."""
        return ()


def limited_indices(total: int, limit: int | None) -> "NDArray[np.int64]":
    """Indices of the items used under --limit: all, or `limit` of them spread evenly.

    >>> limited_indices(10, 3)
    array([0, 3, 6])
    """
    import numpy as np  # not above: --help reads the declarations of all tasks

    if limit is None or limit >= total:
        return np.arange(total, dtype=np.int64)
    return np.arange(limit, dtype=np.int64) * total // limit
