"""Backbones by stages through the tasks: what they can serve runs, what they cannot is said before."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import make
from davis_videos import blocks, context, write_video
from mini_data import shared_mini
from sdssl_bench import runner, tasks
from sdssl_bench.api import as_encoder
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError
from sdssl_bench.probes.finetuning.tunable import Tunable, parameter_groups
from sdssl_bench.task import RunContext
from sdssl_bench.video.segmentation import Segmenter


def named(name: str) -> Encoder:
    encoder = make(name)
    return as_encoder(encoder, name=name)


def test_every_stage_segments_at_its_own_grid(tmp_path: Path) -> None:
    write_video(tmp_path / "v", "clip", blocks((6, 9), 4, patch=32))
    encoder = named("convnext")
    task = tasks.load("davis", "dino", {"short_side": "0", "topk": "1"})
    record = runner.run(
        encoder, task, f"folder:{tmp_path / 'v'}", layers=[1, 4], ctx=context(tmp_path), store=None
    ).record
    assert min(one["metrics"]["J-Mean"] for one in record["layers"].values()) > 0.7
    segmenter = Segmenter(encoder, [1, 2, 3, 4], settings=task.settings, device="cpu")
    maps = segmenter.forward([np.zeros((192, 288, 3), np.uint8)], "clip")
    assert encoder.strides == (4, 8, 16, 32)
    for layer, stride in enumerate(encoder.strides, start=1):
        assert maps[layer].shape[1:3] == (192 // stride, 288 // stride)


def test_retrieval_linear_and_knn_take_stages(tmp_path: Path) -> None:
    encoder = named("efficientnet")
    ctx = RunContext(shared_mini(), tmp_path, limit=8)
    for task, dataset, changes in (
        ("knn", "cifar10", {"k": "2", "headline_k": "2"}),
        ("retrieval", "roxford5k", {"imsize_oxford": "64"}),
        ("linear", "flowers", {}),
    ):
        protocol = "logreg" if task == "linear" else None
        kind = tasks.load(task, protocol, changes)
        data_ctx = ctx if task != "linear" else RunContext(shared_mini(), tmp_path)
        record = runner.run(
            encoder, kind, dataset, layers=range(1, encoder.depth + 1), ctx=data_ctx, store=None
        ).record
        assert len(record["layers"]) == encoder.depth == 6


@pytest.mark.parametrize("task", ["davis", "retrieval"])
def test_a_family_of_one_size_is_refused_before_it_runs(tmp_path: Path, task: str) -> None:
    write_video(tmp_path / "v", "clip", blocks((6, 9), 4, patch=16))
    dataset = f"folder:{tmp_path / 'v'}" if task == "davis" else "roxford5k"
    encoder = named("beit")
    with pytest.raises(UsageError, match="Beit cannot be read by layer at"):
        runner.run(
            encoder, tasks.load(task, None, {}), dataset,
            layers=[1], ctx=RunContext(shared_mini(), tmp_path), store=None,
        )  # fmt: skip


def test_fine_tuning_trains_what_takes_part_at_rates_by_stage() -> None:
    model = Tunable(named("convnext"), 2, num_classes=3, drop_path=0.0, seed=0)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    by_name = {name: scale.get(id(p)) for name, p in model.named_parameters()}
    assert by_name["head.weight"] == 1.0
    assert by_name["backbone.model.stages.1.blocks.0.conv_dw.weight"] == 0.5
    assert by_name["backbone.model.stem.0.weight"] == 0.25
    assert by_name["backbone.model.stages.2.blocks.0.conv_dw.weight"] is None, "takes no part"
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
