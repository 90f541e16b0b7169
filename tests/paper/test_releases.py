"""The table of released checkpoints: each published number is measured, or left out for a reason."""

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.errors import UsageError
from sdssl_bench.paper.references import published
from sdssl_bench.paper.released_numbers import (
    benchmarks,
    compare,
    left,
    numbers_of,
    stored_records,
)
from sdssl_bench.paper.releases import MATCHES, RELEASES, Release, release
from sdssl_bench.paper.reproduction import within
from sdssl_bench.statistics import Interval, read_results
from sdssl_bench.tasks import task_class, task_names
from stored_results import DAVIS, davis_layer, scored, store


@pytest.mark.parametrize("one", RELEASES, ids=lambda one: one.name)
def test_every_published_number_is_measured_or_left_out_with_a_reason(one: Release) -> None:
    rows = numbers_of(one)
    assert rows
    measured = [row for _, row in benchmarks(one, task_names()) if row is not None]
    reasons = left(one, task_names())
    listed = [text for texts in reasons.values() for text in texts]
    assert len(measured) + len(re.findall(r" \d+\.\d\b", "\n".join(listed))) == len(rows)
    assert set(measured) <= set(rows)
    assert all(reasons)


@pytest.mark.parametrize("one", RELEASES, ids=lambda one: one.name)
def test_what_is_measured_are_protocols_and_datasets_that_exist(one: Release) -> None:
    for what, row in benchmarks(one, task_names()):
        kind = task_class(what.task)
        assert what.protocol in kind.presets
        assert what.dataset in kind.datasets
        assert what.metrics
        assert row is None or (row.task, row.dataset) == (what.task, what.dataset)


def test_the_table_names_each_checkpoint_once_and_nothing_that_is_not_published() -> None:
    assert len({one.name for one in RELEASES}) == len({one.weights for one in RELEASES}) == 13
    settings = {(row.model, row.arch, row.setting) for row in published()}
    for one in RELEASES:
        assert one.weights.startswith("hf:facebook/" if one.gated else "https://")
        for other in one.others:
            assert (one.model, one.arch, other) in settings
    used = {(one.method, row.task) for one in RELEASES for row in numbers_of(one)}
    assert {(method, task) for method, tasks in MATCHES.items() for task in tasks} <= used
    with pytest.raises(UsageError, match="Did you mean 'dino_vits16'"):
        release("dino_vits_16")


def test_no_fine_tuning_unless_it_is_asked_for() -> None:
    one = release("mocov3_vitb16")
    assert {what.task for what, _ in benchmarks(one)} == {"knn", "linear"}
    assert {what.protocol for what, _ in benchmarks(one, ["finetune"])} == {"paper", "imagenet"}
    assert any("finetune pets 93.2" in text for texts in left(one).values() for text in texts)


def test_a_release_knows_its_architecture_under_the_names_that_loading_gives(
    tmp_path: Path,
) -> None:
    small = {"dim": 384, "depth": 12, "heads": 6, "patch": 16, "img": 32}
    twelve = fake.vit(**{**small, "heads": 12}, pos="row")
    written = {
        "dino_vits16": fake.plain(tmp_path / "a.pth", fake.vit(**small)),
        "dino_vits8": fake.plain(tmp_path / "b.pth", fake.vit(**{**small, "patch": 8})),
        "mocov3_vits16": fake.mocov3(tmp_path / "c.pth", twelve, twelve),
        "dinov2_vits14": tmp_path / "d.pth",
        "dinov3_vits16": tmp_path / "e.pth",
    }
    state = fake.dinov2_state(fake.vit(**{**small, "patch": 14, "img": 518}, init_values=1.0))
    torch.save(state, written["dinov2_vits14"])
    torch.save(timm.create_model("vit_small_patch16_dinov3").state_dict(), written["dinov3_vits16"])
    for name, path in written.items():
        info = checkpoints.load(str(path)).info
        assert info is not None
        fitting = {one.arch for one in RELEASES if one.fits(info.arch)}
        assert fitting == {release(name).arch}
    assert release("dinov3_vits16").fits("vit_small_patch16_dinov3")
    assert not release("dinov3_vits16").fits("vit_small_plus_patch16_dinov3")


def test_stored_results_are_taken_if_they_are_of_all_layers_of_the_release(tmp_path: Path) -> None:
    one, right = release("dino_vits16"), {layer: 100 + layer for layer in range(1, 4)}
    knn = next(what for what, row in benchmarks(one) if what.task == "knn")
    scored(tmp_path, "dino_vits16", "imagenet", right, model__arch="vit_small_patch16")
    scored(tmp_path, "other", "imagenet", right, model__arch="vit_base_patch16")
    scored(tmp_path, "half", "imagenet", {1: 5}, model__arch="vit_small_patch16")
    names = [f"v{s}_1" for s in range(30)]
    j = np.linspace(0.5, 0.7, 30)
    video = {3: davis_layer(names, j, j)}
    store(tmp_path, video, **DAVIS, model__name="dino_vits16", model__arch="vit_small_patch16")
    records, _ = read_results([tmp_path])
    wanted = dict(benchmarks(one))
    found = stored_records(records, one, wanted, name="dino_vits16")
    assert set(found) == {knn}  # of DAVIS one layer of three
    assert not stored_records(records, one, wanted, name="other")
    ours = compare(knn, wanted[knn], found[knn])
    assert ours.number is not None
    assert (ours.number.value, ours.number.layer, ours.metric) == (103 / 200, 3, "k20/top1")
    assert compare(knn, wanted[knn], None).number is None


def test_a_number_of_more_digits_is_not_rounded() -> None:
    exact = Interval(0.6, 0.59, 0.6111, 0.01, 100, "images", "wilson")
    assert within(0.611, exact)
    assert within(0.6116, exact) is False
    assert within(0.612, exact) is False
    assert within(0.611, Interval(0.6, 0.59, 0.6106, 0.01, 100, "images", "wilson"))
