"""Every task under every protocol on the miniatures, to the digit: tests/golden/records.json.

The file has the metrics of two layers of a seeded encoder. What only moves code moves none of them; who
moves one on purpose writes the file anew with SDSSL_BENCH_WRITE_GOLDEN=1, raises the task's version and
says so in the changelog.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mini_data import mini_of, of_recorded_pixels, shared_mini
from sdssl_bench import api, tasks
from tiny_model import build

GOLDEN = Path(__file__).parents[1] / "golden" / "records.json"
WRITING = "SDSSL_BENCH_WRITE_GOLDEN" in os.environ
SETTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "analysis": ("cifar10", {}),
    "cka": ("cifar10", {}),
    "copydays": ("copydays", {"imsize": "64"}),
    "davis": ("davis", {"short_side": "96", "context": "2"}),
    "finetune": ("flowers", {"epochs": "2", "warmup": "1", "batch": "48"}),
    "knn": ("cifar10", {}),
    "knn/dino+2-shot": ("cifar10", {"shots": "2"}),
    "linear": ("flowers", {"epochs": "2", "batch": "48"}),
    "linear/dinov2": ("flowers", {"epochs": "2", "batch": "48", "iterations": "2"}),
    "linear/logreg": ("flowers", {}),
    "linear/logreg+3-shot": ("flowers", {"shots": "3", "tries": "2"}),
    "retrieval": ("roxford5k", {"imsize_oxford": "96"}),
    "segmentation": ("ade20k", {"image_size": "64", "k": "10", "bank": "400"}),
    "segmentation/capi": ("ade20k", {"image_size": "64", "mask_size": "64", "k": "1,10"}),
}
"""Task or protocol -> dataset, and parameters that suit a miniature."""
EXTRA = {
    "copydays": {"distractors": "roxford5k", "whitening": "rparis6k"},
    "retrieval": {"distractors": "rparis6k"},
}
"""Task -> sets whose images are its further inputs."""
CHAOTIC = "tsne/"
"""What amplifies the rounding of another machine."""
PROTOCOLS = [
    f"{name}/{preset}" for name in tasks.task_names() for preset in tasks.task_class(name).presets
] + [protocol for protocol in SETTINGS if "+" in protocol]


def found(protocol: str, cache: Path) -> dict[str, Any]:
    """Metrics and number of items of each layer."""
    task, _, preset = protocol.partition("/")
    dataset, parameters = SETTINGS.get(protocol) or SETTINGS[task]
    settings: dict[str, Any] = {"against": build(1)} if task == "cka" else {}
    record = api.evaluate(
        build(),
        task,
        dataset,
        layers=(3,) if task == "finetune" else (2, 3),
        protocol=preset.partition("+")[0],
        parameters=parameters,
        data_root=shared_mini(),
        cache_dir=cache,
        device="cpu",
        num_workers=0,
        inputs={
            name: shared_mini() / mini_of(other).folder
            for name, other in EXTRA.get(task, {}).items()
        },
        **settings,
    )
    return {
        layer: {
            "n": entry["n"],
            **{m: v for m, v in entry["metrics"].items() if not m.startswith(CHAOTIC)},
        }
        for layer, entry in record["layers"].items()
    }


def test_every_protocol_is_there() -> None:
    assert list(json.loads(GOLDEN.read_text("utf-8"))) == sorted(PROTOCOLS)


@of_recorded_pixels
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_number_of_a_record_has_moved(protocol: str, tmp_path: Path) -> None:
    scores = found(protocol, tmp_path)
    if WRITING:
        golden = json.loads(GOLDEN.read_text("utf-8")) if GOLDEN.exists() else {}
        golden[protocol] = scores
        GOLDEN.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n", "utf-8")
    golden = json.loads(GOLDEN.read_text("utf-8"))[protocol]
    assert scores.keys() == golden.keys()
    for layer, metrics in golden.items():
        assert scores[layer] == pytest.approx(metrics, rel=1e-6, abs=1e-6), layer
