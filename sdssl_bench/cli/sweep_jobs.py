"""The jobs of a sweep: what shares a pass is one `run`, and what is recorded already is left out."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from sdssl_bench import checkpoints
from sdssl_bench.cli import options as opt
from sdssl_bench.cli import running, task_options
from sdssl_bench.cli.sweep_plan import Model, Part, Plan, context_of, read_run
from sdssl_bench.datasets import values_within
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError, UserError
from sdssl_bench.records import Record, ResultStore
from sdssl_bench.runner import protocol_entry, record_head
from sdssl_bench.system import included_files
from sdssl_bench.task import RunContext


@dataclass(frozen=True, eq=False)
class Job:
    """One `run`: a model on a dataset, with tasks that share a pass.

    Attributes:
        plan: that it is of.
        model: of the plan; its ckpt may stand for one that was gathered.
        dataset: as --dataset takes it.
        parts: the tasks.
    """

    plan: Plan
    model: Model
    dataset: str
    parts: tuple[Part, ...]

    @property
    def arguments(self) -> list[str]:
        """What follows `sdssl-bench`."""
        words = [*(word for path in included_files() for word in ("--include", str(path))), "run"]
        words += ["--task", ",".join(part.word for part in self.parts), "--dataset", self.dataset]
        words += ["--ckpt", self.model.ckpt]
        for name, text in self.model.options:
            words += [f"--{name.replace('_', '-')}", text]
        layers = self.parts[0].layers
        words += {"all": ["--all-layers"], "last": []}.get(layers, ["--layers", layers])
        for part in self.parts:
            for name, text in part.parameters.items():
                words += ["--set", f"{part.word}.{name}={text}"]
        options = dict.fromkeys(option for part in self.parts for option in part.options)
        return [*words, *(word for option in options for word in option), *self.plan.arguments]

    @property
    def line(self) -> str:
        """The whole command for a shell."""
        return shlex.join(["sdssl-bench", *self.arguments])

    @property
    def name(self) -> str:
        """For people: what of whom on what."""
        words = ",".join(part.word for part in self.parts)
        return f"{words} on {self.dataset}: {self.model.ckpt}"

    @cached_property
    def _read(self) -> Any:
        words = self.arguments
        return read_run(words[words.index("run") + 1 :])

    @property
    def params(self) -> dict[str, Any]:
        """Values of the options of `run`."""
        return dict(self._read.params)

    @property
    def values(self) -> task_options.Values:
        """Values of the options of tasks."""
        return task_options.given(
            {name: self.params[name] for name in self.params if name in _names_of_tasks()}
        )


@lru_cache
def _names_of_tasks() -> frozenset[str]:
    return frozenset(str(one.name) for one in task_options.parameters())


def jobs_of(plan: Plan) -> list[Job]:
    """All of the product of models and pairs, each once; what shares a pass stands together."""
    found: dict[tuple[Any, ...], list[list[Part]]] = {}
    for model in plan.models:
        for part, dataset in plan.pairs:
            key = (model, dataset, _geometry(part), part.layers)
            groups = found.setdefault(key, [])
            fitting = next((group for group in groups if _fits(part, group)), None)
            if fitting is None:
                groups.append([part])
            else:
                fitting.append(part)
    return [
        Job(plan, model, dataset, tuple(parts))
        for (model, dataset, *_), groups in found.items()
        for parts in groups
    ]


def _geometry(part: Part) -> str:
    """How images are shown to the encoder: a named preprocessing, or the task's own."""
    task = part.task
    return str(getattr(task, "transform", task.name)) if task.shares_pass else f"of {task.name}"


def _fits(part: Part, group: Sequence[Part]) -> bool:
    """Whether one command can say both: no task twice by one word, and options that both have agree."""
    return all(
        part.word != other.word
        and all(one in other.options for one in part.options if _has(other, one[0]))
        and all(one in part.options for one in other.options if _has(part, one[0]))
        for other in group
    )


def _has(part: Part, option: str) -> bool:
    names = {name for one in part.task.options for name in (one.name, one.name + task_options.SET)}
    return option.removeprefix("--") in names


def cache_of(job: Job) -> Path:
    """Where features and gathered checkpoints of a plan lie."""
    return context_of(job.params).cache_dir


class Recorded:
    """Finds what is stored, as `run` does: by all that identifies a measurement.

    A model is opened only where a record could be its own: one of that task and protocol, of a file with
    its name and digest.

    Args:
        say: told what could not be looked at, and is therefore not left out.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._records: dict[Path, list[Record]] = {}
        self._files: dict[str, tuple[str, str] | None] = {}
        self._encoders: dict[Model, Encoder] = {}
        self._data: dict[tuple[int, str], Any] = {}

    def missing(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """The jobs with the tasks that lack a layer; in order."""
        for job in jobs:
            with values_within(context_of(job.params).image_range):
                parts = tuple(part for part in job.parts if not self._is_stored(job, part))
            if parts:
                yield replace(job, parts=parts)

    def _is_stored(self, job: Job, part: Part) -> bool:
        out = Path(job.params["out"]).expanduser()
        if not self._may_be_stored(job, part, out):
            return False
        try:
            encoder = self._encoder(job)
            head = record_head(encoder, part.task, self._data_of(job, part), ctx=self._context(job))
            record = ResultStore(out).find(head)
        except UsageError:
            raise
        except UserError as error:
            self.say(f"{part.word} on {job.dataset}, {job.model.ckpt}, is not left out: {error}")
            return False
        layers = running.wanted_layers(
            encoder, job.params["layers"], all_layers=job.params["all_layers"]
        )
        return record is not None and {str(layer) for layer in layers} <= record["layers"].keys()

    def _may_be_stored(self, job: Job, part: Part, out: Path) -> bool:
        if out not in self._records:
            self._records[out] = [record for _, record in ResultStore(out)]
        ckpt = job.model.ckpt
        if ckpt not in self._files:
            self._files[ckpt] = checkpoints.file_identity(ckpt)
        file, protocol = self._files[ckpt], protocol_entry(part.task)["digest"]
        return any(
            (record["task"], record["protocol"]["digest"]) == (part.task.name, protocol)
            and record["limited"] == job.params["limit"]
            and file in (None, (record["model"]["name"], record["model"]["file_sha256"]))
            for record in self._records[out]
        )

    def _encoder(self, job: Job) -> Encoder:
        if job.model not in self._encoders:
            self._encoders.clear()  # one model in memory
            given = {name: job.params[name] for name in opt.ENCODER_OPTIONS}
            self._encoders[job.model] = checkpoints.load(job.model.ckpt, **given)
        return self._encoders[job.model]

    def _data_of(self, job: Job, part: Part) -> Any:
        key = id(part.task), job.dataset
        if key not in self._data:
            self._data[key] = part.task.load_data(job.dataset, self._context(job))
        return self._data[key]

    def _context(self, job: Job) -> RunContext:
        return context_of(
            job.params,
            inputs=task_options.input_folders(job.values),
            against=task_options.second_encoder(job.values, norm=job.params["norm"]),
        )
