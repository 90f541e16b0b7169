"""Every number of the protocols, read against its source: tests/golden/protocols.json.

A preset's parameters, a module's constants, the numbers among the defaults of functions and dataclasses,
and the sizes of the datasets stand there with where they come from. The file is written by hand: who
changes a number on purpose changes its line, with the source in hand.
"""

import importlib
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from golden_lines import holds_a_number, names, numbers, plain, same, sourced
from sdssl_bench import datasets, tasks

ROOT = Path(__file__).resolve().parents[1]
GOLDEN: dict[str, dict[str, tuple[Any, str]]] = json.loads(
    (ROOT / "tests" / "golden" / "protocols.json").read_text("utf-8")
)
ELSEWHERE = {
    "sdssl_bench.tasks.*:Task.*": "what the presets come to, below",
    "sdssl_bench.tasks.finetune:TABLES*": "made of TRANSFER and AUTHORS",
    "sdssl_bench.datasets.specs.*": "the section datasets",
    "sdssl_bench.datasets.catalogue:*": "the section datasets",
    "sdssl_bench.paper.layouts:LAYOUTS*": "words and metrics; goldens of the tables hold them",
    "sdssl_bench.checkpoints.releases:RELEASES*": "marks of releases; Release.input_size has its number",
    "sdssl_bench.datasets.mini.*": "made-up data",
    "sdssl_bench.statistics.derived:_KNOWN": "what this process has read",
    "sdssl_bench.*forecast:*": "slices that --dry-run times; no score",
    "sdssl_bench.system.memory:PAGE": "a unit of the system",
    **dict.fromkeys(
        (
            "sdssl_bench.cli.*", "sdssl_bench.reports.*", "sdssl_bench.system.terminal:*",
            "sdssl_bench.api.reporting:MARGIN", "sdssl_bench.api.exporting:TAG",
            "sdssl_bench.retrieval.gallery:*", "sdssl_bench.analysis.panels:*", "sdssl_bench.video.strips:*",
            "sdssl_bench.system.progress:*", "sdssl_bench.system.files:LONGEST",
            "sdssl_bench.checkpoints.doctor:IMAGES",
            "sdssl_bench.features.extraction:SHOWN", "sdssl_bench.checkpoints.keys:listing(limit)",
            "sdssl_bench.datasets.checking:render(most)", "sdssl_bench.dense.tables:*",
            "sdssl_bench.datasets.readers.masks:SHOWN_PROBLEMS", "sdssl_bench.statistics.pixels:NAMED",
        ),
        "what people look at",
    ),
    **dict.fromkeys(
        (
            "*:*BLOCK*", "*:TILE", "*:*_ROWS", "*:*_BYTES", "*:*THREADS", "*:PATIENCE",
            "*:*_SECONDS", "*:TOKENS_*", "*:PIXELS_*", "*:MAX_CPU", "*:MAX_DEVICE", "*:CHUNK_*",
            "*:PIECE", "*:AHEAD", "*:WHOLE_FRAME",
            "*:CELLS", "*:_AHEAD", "sdssl_bench.neighbors.exact:OPEN_SCORES",
            "sdssl_bench.neighbors.exact:PAD", "sdssl_bench.checkpoints.freshness:SAMPLE",
        ),
        "speed and memory: results are equal for every value",
    ),
    **dict.fromkeys(
        (
            "sdssl_bench.probes.logistic.solver:MAX_*", "sdssl_bench.probes.logistic.solver:MIN_*",
            "sdssl_bench.probes.logistic.solver:SAFETY", "sdssl_bench.probes.logistic.solver:RELATIVE_GAP",
            "sdssl_bench.probes.logistic.solver:NOISE", "sdssl_bench.probes.logistic.solver:ATTAINABLE",
            "sdssl_bench.probes.logistic.solver:HALVINGS",
        ),
        "how the optimum is reached, which its own tests prove",
    ),
    **dict.fromkeys(
        (
            "sdssl_bench.checkpoints.native:VERSION", "sdssl_bench.features.identity:FEATURES_VERSION",
            "sdssl_bench.records.reading:SCHEMA_VERSION", "sdssl_bench.statistics.derived:FORMAT",
            "sdssl_bench.features.sources:_UNREADABLE",
            "sdssl_bench.datasets.readers.cifar:_PIXELS",
        ),
        "formats of files",
    ),
}  # fmt: skip
"""Names that are not in the file -> why."""


def presets() -> Iterator[tuple[str, str]]:
    for task in tasks.task_names():
        kind: Any = importlib.import_module(f"sdssl_bench.tasks.{task}").Task
        yield from ((task, preset) for preset in kind.presets)


def test_every_preset_has_the_numbers_of_its_source() -> None:
    stated = GOLDEN["presets"]
    assert list(stated.keys() ^ {f"{task}/{preset}" for task, preset in presets()}) == []
    for task, preset in presets():
        found = plain(tasks.load(task, preset))
        assert found.pop("protocol") == preset
        lines = stated[f"{task}/{preset}"]
        assert found.keys() == lines.keys(), f"{task}/{preset}: a line for each parameter"
        for name, value in found.items():
            assert sourced(lines[name]), f"{task}/{preset}, {name}: no source"
            assert same(value, lines[name][0]), (
                f"{task}/{preset}: {name} is {value}, its source ({lines[name][1]}) has "
                f"{lines[name][0]}"
            )


def test_every_constant_has_the_number_of_its_source() -> None:
    stated = GOLDEN["constants"]
    found = numbers("sdssl_bench", ELSEWHERE) | numbers("tasks", ELSEWHERE)
    missing = {name for name, value in found.items() if holds_a_number(value)} - stated.keys()
    assert sorted(missing) == [], "numbers without a source"
    assert sorted(stated.keys() - found.keys()) == [], "lines for what is not there"
    for name, line in stated.items():
        assert sourced(line), f"{name}: no source"
        assert same(found[name], line[0]), (
            f"{name} is {found[name]}, its source ({line[1]}) has {line[0]}"
        )


def test_every_dataset_has_the_sizes_of_its_source() -> None:
    stated = GOLDEN["datasets"]
    specs = {name: datasets.spec(name) for name in datasets.names()}
    assert {name.partition(":")[0] for name in stated} == specs.keys()
    for name, one in specs.items():
        needed = {"sizes": one.sizes, "num_classes": one.num_classes, "val": one.val}
        needed |= {"fewest": one.fewest, "archives": any(one.archives.values())}
        for field, value in needed.items():
            assert not value or f"{name}:{field}" in stated, f"{name}: {field} has no source"
    for key, line in stated.items():
        name, field = key.split(":")
        assert sourced(line), f"{key}: no source"
        found = plain(getattr(specs[name], field))
        assert same(found, line[0]), f"{key} is {found}, its source ({line[1]}) has {line[0]}"


def test_what_is_left_out_is_there() -> None:
    """No exclusion outlives what it excludes."""
    there = [*names("sdssl_bench"), *names("tasks")]
    idle = [one for one in ELSEWHERE if not any(fnmatchcase(name, one) for name in there)]
    assert idle == []
