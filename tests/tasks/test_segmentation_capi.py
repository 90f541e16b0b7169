"""k-NN segmentation by the protocol of capi: a literal twin, what is chosen, and what cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler

from mini_data import shared_mini
from sdssl_bench import api, datasets, tasks
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError
from sdssl_bench.task import LayerScores, RunContext
from tiny_model import build

SIDE, PATCH = 64, 8


def scored(name: str, tmp_path: Path, encoder: Encoder, **changes: str) -> list[LayerScores]:
    ctx = RunContext(shared_mini(), tmp_path / "cache", device="cpu", num_workers=0)
    small = {"image_size": str(SIDE), "mask_size": str(SIDE), **changes}
    task = tasks.load("segmentation", "capi", small)
    data = task.load_data(name, ctx)
    task.resolve(encoder, data, ctx)
    return list(task.run(encoder, data, (2, 3), ctx))


def patches(encoder: Encoder, layer: int, masked: Any, void: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, P, D] and pixels [N, P, 64] of a split."""
    features, pixels = [], []
    for row in range(len(masked)):
        image = masked.images.load(row).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        values = np.asarray(image, np.float32) / 255
        values = (values - np.array(encoder.mean, np.float32)) / np.array(encoder.std, np.float32)
        with torch.inference_mode():
            batch = torch.from_numpy(values.transpose(2, 0, 1)[None].copy())
            found = encoder.forward_layers(batch, [layer])[layer].patches[0]
        features.append(found.reshape(-1, found.shape[-1]).double().numpy())
        mask = Image.fromarray(masked.mask(row)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        ids = np.where(np.asarray(mask) == 255, void, np.asarray(mask))
        cells = [
            ids[y : y + PATCH, x : x + PATCH].ravel()
            for y in range(0, SIDE, PATCH)
            for x in range(0, SIDE, PATCH)
        ]
        pixels.append(np.stack(cells))
    return np.stack(features), np.stack(pixels)


def mode(values: np.ndarray) -> int:
    return int(np.bincount(values).argmax())


def classified(
    bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, *, k: int, distance: str, void: int
) -> np.ndarray:
    """[Q, 64] pixels, a query at a time."""
    known = np.array([mode(one) != void for one in labels])
    bank, labels = bank[known], labels[known]
    out = []
    for query in queries:
        if distance == "cosine":
            lengths = np.linalg.norm(bank, axis=1) * np.linalg.norm(query)
            far = 1 - bank @ query / lengths
        else:
            far = np.linalg.norm(bank - query, axis=1)
        nearest = np.argsort(np.round(far, 10), kind="stable")[:k]
        out.append([mode(labels[nearest, pixel]) for pixel in range(labels.shape[1])])
    return np.array(out)


def macro(true: np.ndarray, called: np.ndarray, void: int) -> float:
    known = true.ravel() != void
    return float(jaccard_score(true.ravel()[known], called.ravel()[known], average="macro"))


@pytest.mark.parametrize("name", ["voc2012", "ade20k"])
def test_a_literal_twin_chooses_the_same_and_gives_the_same_number(
    name: str, tmp_path: Path
) -> None:
    encoder = api.as_encoder(build(0), name="tiny")
    data = datasets.masks.load(name, data_root=shared_mini())
    void = len(data.class_names)
    held = np.random.default_rng(0).permutation(len(data.train))[: len(data.train) // 10]
    rest = np.setdiff1d(np.arange(len(data.train)), held)
    found = scored(name, tmp_path, encoder, k="1,5")
    assert len(found) == 2
    for one in found:
        train, labels = patches(encoder, one.layer, data.train, void)
        test, truth = patches(encoder, one.layer, data.test, void)
        width = train.shape[-1]
        scaler = StandardScaler().fit(train[rest].reshape(-1, width))
        train, test = (
            scaler.transform(x.reshape(-1, width)).reshape(x.shape) for x in (train, test)
        )

        def flat(values: np.ndarray) -> np.ndarray:
            return values.reshape(-1, values.shape[-1])

        tried = {}
        for k in (1, 5):
            for distance in ("cosine", "euclidean"):
                called = classified(
                    flat(train[rest]), flat(labels[rest]), flat(train[held]),
                    k=k, distance=distance, void=void,
                )  # fmt: skip
                tried[k, distance] = macro(labels[held], called, void)
        best = max(tried, key=lambda key: tried[key])
        assert one.notes["chosen"] == {"k": best[0], "distance": best[1]}
        stored = one.notes["held_out_mIoU"]
        for (k, distance), score in tried.items():
            assert stored[f"k={k} {distance}"] == pytest.approx(score, abs=1e-6)
        called = classified(
            flat(train), flat(labels), flat(test), k=best[0], distance=best[1], void=void
        )
        assert one.metrics["mIoU"] == pytest.approx(macro(truth, called, void), abs=1e-6)
        assert one.items["mIoU"].mean() == pytest.approx(one.metrics["mIoU"])


def test_one_k_and_one_distance_leave_nothing_to_choose(tmp_path: Path) -> None:
    encoder = api.as_encoder(build(0), name="tiny")
    chosen, *_ = scored("voc2012", tmp_path, encoder, k="5", distance="cosine")
    assert "chosen" not in chosen.notes
    assert chosen.notes["bank"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": ""}, "k takes a comma list"),
        ({"k": "0,3"}, r"numbers from 1, found \[0, 3\]"),
        ({"distance": "cosin"}, "Did you mean 'cosine'"),
        ({"vote": "soft", "void": "ignore"}, "--set distance=cosine"),
        ({"vote": "soft", "distance": "cosine"}, "vote=soft takes void=background or ignore"),
        ({"void": "ignore"}, "vote=pixels takes void=background or vote"),
        ({"image_size": "60"}, "--set image_size=56 --set mask_size=56"),
        ({"absent": "one"}, "ignore, zero"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        scored("voc2012", tmp_path, api.as_encoder(build(0), name="tiny"), **changes)


def test_a_choice_needs_ten_training_images(tmp_path: Path) -> None:
    ctx = RunContext(shared_mini(), tmp_path, device="cpu", num_workers=0, limit=9)
    task = tasks.load("segmentation", "capi", {"image_size": "64", "mask_size": "64"})
    data = task.load_data("voc2012", ctx)
    with pytest.raises(UsageError, match="at least 10, or one value each, such as --set k=1"):
        task.resolve(api.as_encoder(build(0), name="tiny"), data, ctx)
