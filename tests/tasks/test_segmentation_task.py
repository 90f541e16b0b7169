"""k-NN segmentation end to end: known answers, a literal twin, and runs that were killed or shared."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

from mini_data import copy_of, shared_mini
from sdssl_bench import api, datasets, tasks
from sdssl_bench.cli.main import app
from sdssl_bench.datasets.readers.palette import write_mask
from sdssl_bench.dense.patches import chosen_patches, patch_shares
from sdssl_bench.dense.scoring import DenseScorer
from sdssl_bench.encoders import Encoder, LayerFeatures, ModelInfo
from sdssl_bench.encoders.encoder import everything
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.metrics import overlap_scores
from sdssl_bench.task import LayerScores, RunContext
from tiny_model import build

PATCH = 8
COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [230, 230, 30]], np.uint8)
SMALL = {"image_size": "64", "mask_size": "64"}


class Colours(Encoder):
    """Layer 1: patch tokens are colours, which tell classes apart. Layer 2: all tokens are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.stride, self.input_size, self.dims = 2, PATCH, 32, (3, 3)
        self.norm, self.scale = "none", torch.nn.Parameter(torch.ones(()))
        self.mean, self.std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        self.info = ModelInfo("colours", "colours", "module", "model", "colours", "0" * 64)

    def forward_layers(
        self,
        images: torch.Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        patches = F.avg_pool2d(images, self.stride).permute(0, 2, 3, 1) * self.scale
        maps = {1: patches, 2: torch.ones_like(patches)}
        return {
            layer: reduce(LayerFeatures(maps[layer][:, 0, 0], maps[layer], lambda tokens: tokens))
            for layer in sorted(layers)
        }


def blocks(root: Path, ids: np.ndarray, *, void: bool = False) -> str:
    """Images [N, 32, 32] whose patches have the colour of their class; half of them are train."""
    names = [f"i{number}" for number in range(len(ids))]
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, grid in zip(names, ids, strict=True):
        mask = np.kron(grid, np.ones((PATCH, PATCH), np.uint8)).astype(np.uint8)
        Image.fromarray(COLOURS[mask]).save(
            root / "JPEGImages" / f"{name}.jpg", quality=100, subsampling=0
        )
        if void:
            mask[::PATCH] = 255
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
    half = len(ids) // 2
    for split, part in (("train", names[:half]), ("val", names[half:])):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(part))
    return f"folder:{root}"


def grids(count: int = 8, seed: int = 0) -> np.ndarray:
    """Classes of 4 x 4 patches; class 0 is the most frequent, class 3 lies in test too."""
    return np.random.default_rng(seed).choice(4, (count, 4, 4), p=[0.55, 0.15, 0.15, 0.15])


def context(tmp_path: Path, **changes: Any) -> RunContext:
    given = {
        "data_root": shared_mini(),
        "cache_dir": tmp_path / "cache",
        "device": "cpu",
        "num_workers": 0,
    }
    return RunContext(**{**given, **changes})


def scored(
    name: str, ctx: RunContext, encoder: Encoder, *, layers: Sequence[int] = (1, 2), **changes: str
) -> list[LayerScores]:
    task = tasks.load("segmentation", "hummingbird-512", {**SMALL, **changes})
    data = task.load_data(name, ctx)
    task.resolve(encoder, data, ctx)
    return list(task.run(encoder, data, layers, ctx))


def tiny(seed: int = 0) -> Encoder:
    return api.as_encoder(build(seed), name="tiny")


@pytest.mark.parametrize("void", [False, True])
def test_masks_on_the_grid_and_features_that_tell_classes_apart_give_exactly_1(
    void: bool, tmp_path: Path
) -> None:
    name = blocks(tmp_path / "set", grids(), void=void)
    # Scored at patch resolution: between patches bilinear votes may fall either way.
    first, _ = scored(
        name, context(tmp_path), Colours(), image_size="32", mask_size="4", k="3", void="ignore"
    )
    assert (first.metrics["mIoU"], first.metrics["accuracy"]) == (1.0, 1.0)
    assert first.n == 4
    assert first.notes["classes"] == 4


def test_features_that_tell_nothing_give_the_most_frequent_class(tmp_path: Path) -> None:
    ids = grids()
    name = blocks(tmp_path / "set", ids)
    _, constant = scored(
        name, context(tmp_path), Colours(), image_size="32", mask_size="32", k="64", bank="64"
    )
    share = (ids[4:] == 0).mean()
    assert constant.notes["bank"] == 64
    assert constant.metrics["accuracy"] == pytest.approx(share)
    assert constant.metrics["mIoU"] == pytest.approx(share / 4)


def twin(
    name: str, encoder: Encoder, layer: int, *, k: int, per_image: int, temperature: float
) -> float:
    """The published definition, an image and a patch at a time, in float64."""
    data = datasets.masks.load(name, data_root=shared_mini())
    classes = len(data.class_names)

    def tokens(image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float32) / 255
        pixels = (pixels - np.array(encoder.mean, np.float32)) / np.array(encoder.std, np.float32)
        with torch.inference_mode():
            batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
            found = encoder.forward_layers(batch, [layer])[layer].patches[0]
        flat = found.reshape(-1, found.shape[-1]).double().numpy()
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def small(mask: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(mask).resize((64, 64), Image.Resampling.NEAREST))

    bank, labels = [], []
    for row in range(len(data.train)):
        mask = small(data.train.mask(row))
        if data.background:
            mask = np.where(mask == 255, 0, mask).astype(np.uint8)
        shares = patch_shares(mask, (8, 8), classes, void=255)
        chosen = chosen_patches(shares, per_image, np.random.default_rng([0, row]))
        features = tokens(data.train.images.load(row))
        for place in chosen.tolist():
            if shares[place].any():
                bank.append(features[place])
                labels.append(shares[place].astype(np.float64))
    both, union, true = (np.zeros(classes) for _ in range(3))
    for row in range(len(data.test)):
        votes = np.zeros((64, classes))
        for place, query in enumerate(tokens(data.test.images.load(row))):
            cosine = np.array([query @ one for one in bank])
            nearest = np.argsort(-np.round(cosine, 13), kind="stable")[:k]
            weights = np.exp((cosine[nearest] - cosine[nearest].max()) / temperature)
            votes[place] = (
                sum(w * labels[i] for w, i in zip(weights, nearest, strict=True)) / weights.sum()
            )
        maps = torch.from_numpy(votes.T.reshape(1, classes, 8, 8).copy())
        called = (
            F.interpolate(maps, (64, 64), mode="bilinear", align_corners=False)[0].argmax(0).numpy()
        )
        truth = small(data.test.mask(row))
        for c in range(classes):
            ours, theirs = (called == c) & (truth != 255), truth == c
            both[c] += (ours & theirs).sum()
            union[c] += (ours | theirs).sum()
            true[c] += theirs.sum()
    return float((both[true > 0] / union[true > 0]).mean())


@pytest.mark.parametrize("name", ["voc2012", "ade20k"])
def test_a_literal_twin_gives_the_same_number(name: str, tmp_path: Path) -> None:
    encoder = tiny()
    found = scored(
        name, context(tmp_path), encoder, layers=(2, 3), k="7", bank="300", temperature="0.05"
    )
    for one in found:
        expected = twin(name, encoder, one.layer, k=7, per_image=15, temperature=0.05)
        # A pixel where two classes have all but equal votes may fall either way: 1 of 40,960.
        assert one.metrics["mIoU"] == pytest.approx(expected, abs=3e-4)
        assert one.metrics["mIoU"] == pytest.approx(
            overlap_scores(one.items["counts"])["mIoU"].mean()
        )


def counts(found: Sequence[LayerScores]) -> list[np.ndarray]:
    return [one.items["counts"] for one in found]


def test_batches_of_1_and_of_64_and_single_layers_give_the_same_counts(tmp_path: Path) -> None:
    one = counts(scored("voc2012", context(tmp_path / "a", batch_size=1), tiny()))
    many = counts(scored("voc2012", context(tmp_path / "b", batch_size=64), tiny()))
    alone = counts(scored("voc2012", context(tmp_path / "c"), tiny(), layers=(2,)))
    for first, second in zip([*one, one[1]], [*many, *alone], strict=True):
        assert np.abs(first - second).sum() <= 1e-3 * first[:, 0].sum()


def test_a_run_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdssl_bench.dense.scoring.BLOCK_IMAGES", 4)
    expected = counts(scored("voc2012", context(tmp_path / "whole"), tiny()))
    done: list[str] = []
    real = {name: getattr(DenseScorer, name) for name in ("_sampled", "_counted")}

    def watched(name: str, dies: int) -> Callable[..., Any]:
        def work(self: DenseScorer, *args: Any) -> Any:
            if len(done) == dies:
                raise KeyboardInterrupt
            done.append(name)
            return real[name](self, *args)

        return work

    ctx = context(tmp_path / "killed")
    for dies in (3, 7, 99):  # in the first pass, in the second, not at all
        for name in real:
            monkeypatch.setattr(DenseScorer, name, watched(name, dies))
        if dies < 99:
            with pytest.raises(KeyboardInterrupt):
                scored("voc2012", ctx, tiny())
    found = counts(scored("voc2012", ctx, tiny()))
    assert done == ["_sampled"] * 5 + ["_counted"] * 3, "no block twice"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list((tmp_path / "killed" / "cache" / "segmentation").glob("*/*")), "nothing stays"


def test_the_plan_of_a_run_counts_what_is_left_and_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdssl_bench.dense.forecast.BLOCK_IMAGES", 4)
    monkeypatch.setattr("sdssl_bench.dense.scoring.BLOCK_IMAGES", 4)
    task, ctx, encoder = tasks.load("segmentation", None, SMALL), context(tmp_path), tiny()
    data = task.load_data("voc2012", ctx)

    def planned() -> list[tuple[int, int]]:
        found = list(task.work(encoder, data, (1, 2), ctx))
        assert all(
            one.measure is not None and (not one.items or one.measure() > 0) for one in found
        )
        return [(one.items, one.stored) for one in found]

    assert planned() == [(20, 0), (10, 0)]
    real = DenseScorer._counted
    done: list[int] = []

    def dies(self: DenseScorer, *args: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(self, *args)

    monkeypatch.setattr(DenseScorer, "_counted", dies)
    with pytest.raises(KeyboardInterrupt):
        list(task.run(encoder, data, (1, 2), ctx))
    assert planned() == [(0, 20), (6, 4)]


def test_an_unreadable_image_is_named_or_skipped_and_counted(tmp_path: Path) -> None:
    copy_of("voc2012", tmp_path)
    data = datasets.masks.load("voc2012", data_root=tmp_path)
    for images in (data.train.images, data.test.images):
        path = images.root / images.names[2]
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    ctx = context(tmp_path, data_root=tmp_path)
    with pytest.raises(TaskError, match=r"2007_000002\.jpg"):
        scored("voc2012", ctx, tiny())
    (found, _) = scored(
        "voc2012", context(tmp_path, data_root=tmp_path, on_bad_image="skip"), tiny()
    )
    assert found.n == 9
    assert 2 not in found.items["index"].tolist()
    skipped = found.notes["skipped_images"]
    assert {split: one["count"] for split, one in skipped.items()} == {"train": 1, "test": 1}
    mask = data.test.masks.root / data.test.masks.names[0]
    mask.write_bytes(b"no mask")
    with pytest.raises(DataError, match="expected a PNG mask"):
        scored("voc2012", context(tmp_path, data_root=tmp_path, on_bad_image="skip"), tiny())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": "0"}, "--set k takes numbers from 1"),
        ({"temperature": "0"}, "must be positive"),
        ({"void": "drop"}, "background, ignore"),
        ({"bank": "19"}, "no room for one of each of 20 training images"),
        ({"k": "30", "bank": "20"}, "k = 30 needs as many patches, the bank has 20"),
        ({"image_size": "7"}, "below one patch of 8 pixels"),
    ],
)
def test_parameters_without_a_meaning_are_refused(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        scored("voc2012", context(tmp_path), tiny(), **changes)


def test_the_resolution_of_the_masks_is_another_column_and_compare_pairs_images(
    tmp_path: Path,
) -> None:
    results, model = tmp_path / "results", Path(__file__).parents[1] / "tiny_model.py"
    command = [
        "run", "-t", "segmentation", "-d", "voc2012", "--data-root", str(shared_mini()), "--image-size", "64",
        "--cache-dir", str(tmp_path / "cache"), "--out", str(results), "--device", "cpu", "-j", "0",
    ]  # fmt: skip
    other = tmp_path / "other.py"
    other.write_text(model.read_text().replace("seed: int = 0", "seed: int = 5"))
    for ckpt in (model, other):
        for size in ("64", "0"):
            done = CliRunner().invoke(
                app, [*command, "--ckpt", f"custom:{ckpt}:build", "--mask-size", size]
            )
            assert done.exit_code == 0, done.output
    paths = sorted(results.glob("runs/*/*.json"))
    records = [json.loads(path.read_text()) for path in paths]
    assert {record["protocol"]["id"] for record in records} == {
        "segmentation/hummingbird-512+64px-masks", "segmentation/hummingbird-512+whole-masks",
    }  # fmt: skip
    assert len({record["layers"]["3"]["metrics"]["mIoU"] for record in records}) == 4
    done = CliRunner().invoke(
        app, ["leaderboard", str(results), "--csv", str(tmp_path / "l.csv")], env={"COLUMNS": "150"}
    )
    assert done.exit_code == 0, done.output
    rows = (tmp_path / "l.csv").read_text().splitlines()
    assert sum(",mIoU," in row for row in rows) == 4
    names = sorted({record["model"]["name"] for record in records})
    done = CliRunner().invoke(app, ["compare", *names, "--results", str(results)])
    assert done.exit_code == 0, done.output
    assert "2 of 2 benchmarks" in " ".join(done.output.split())
