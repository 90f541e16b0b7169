"""Weighted k-nearest-neighbour classification on frozen features (Wu et al. 2018; constants of DINO).

Cosine similarity s; each of the k nearest training images votes exp(s / T) for its class; the class
with most votes wins. All k come from one search. Ties in similarity go to the lower training index,
ties in votes to the lower class id. Reported: top-1, top-5 and mean-per-class accuracy for every k.

    sdssl-bench run --task knn --dataset imagenet --ckpt dino_vits16.pth

Few labels (--shots, --fraction, --subset): where they are fewer than k all vote; means over several draws.

DINO ViT-S/16 on ImageNet: 74.5 top-1 at layer 12; SD-MoCo v3 ViT-S/16: 68.0 (SDSSL, Table 1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sdssl_bench.datasets import FewLabelTask
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.parameters import Argument, Backend, FileScores
from sdssl_bench.system import Work
from sdssl_bench.task import LayerScores, Option, RunContext, Trial, limited_indices

if TYPE_CHECKING:
    from sdssl_bench.datasets import ClassificationData, LabelDraws
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.features import FeatureBank

METRICS = ("headline", "top1", "mean_per_class")
FEW_K = (10, 20, 50, 100, 200)
"""Numbers of neighbours where few images have a label, those of dino#121."""


def score_files(
    train: Annotated[
        Path, Argument("npz with features [N, D] or [L, N, D] and labels [N].", "FILE")
    ],
    test: Annotated[Path, Argument("npz of the same form.", "FILE")],
    k: Annotated[
        str | None,
        Argument(
            "Numbers of neighbours, all from one search.",
            "LIST",
            "Protocol",
            default="10,20,100,200 as far as there are items",
        ),
    ] = None,
    temperature: Annotated[
        float, Argument("Similarity scale of the vote.", panel="Protocol")
    ] = 0.07,
    backend: Backend = "auto",
) -> FileScores:
    """Weighted k-NN accuracy of features in npz files, for every k and layer.

    sdssl-bench score knn train.npz test.npz --json
    """
    from sdssl_bench.neighbors import score_knn
    from sdssl_bench.parameters import parse_value
    from sdssl_bench.reports import score_table

    ks = None if k is None else parse_value("--k", k, tuple[int, ...])
    scores = score_knn(train, test, ks=ks, temperature=temperature, backend=backend)
    return FileScores(scores, [score_table(scores)])


@dataclass(frozen=True)
class Task(FewLabelTask):
    """The k-NN protocol; every field is a parameter of `--set`."""

    name: ClassVar[str] = "knn"
    title: ClassVar[str] = "weighted k-nearest-neighbour classification"
    version: ClassVar[int] = 1
    options: ClassVar[tuple[Option, ...]] = FewLabelTask.few_labels
    first: ClassVar[bool] = True
    trial: ClassVar[Trial] = Trial()
    score_files = score_files
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "dino": {},
        # The SDSSL authors' transfer script for CIFAR, Flowers and Pets.
        "paper": {"temperature": 0.03, "k": (20,), "transform": "B", "metric": "top1"},
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "k and T are part of the number. MoCo's and SimSiam's monitors use k = 200 with T = "
        "0.2; compare digests of protocols before scores.",
        "The images that vote are those a linear probe trains on: train and validation "
        "together on Flowers, Pets and Aircraft. Without the validation images scores fall "
        "by points.",
        "Papers write accuracy for top-1 and for the mean per class. Both are stored; the "
        "headline is what the field reports for the set.",
        "Stanford Dogs are training images of ImageNet: no transfer for an encoder that was "
        "trained there.",
        "Few labels: every draw gives another number; compare means over draws with their spread, "
        "and only where the same images have labels. SimCLR's lists are one draw.",
        "An untrained encoder and plain colours are far above chance on coarse classes. Run "
        "control:pixels too.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "DINO's eval_knn.py prints all k and its tables show the best, usually 20. It cuts "
        "the test set into 100 pieces, so fewer than 100 images fail, and leaves ties to "
        "the backend.",
        "DINOv2 writes the vote as a softmax over the largest k: one factor per image, the "
        "same predictions.",
        "The SDSSL authors squash ImageNet to 256 x 256 before the crop, vote with T = 0.03 "
        "elsewhere, and drop the last partial batch of the training images: 1,536 of "
        "Flowers' 2,040 vote.",
        "lightly changed its default T from 0.1 to 0.07 (lightly#1824): numbers of its "
        "versions differ.",
        "MoCo v3 published no k-NN code. DINO's script takes its ViT-S for one of 6 heads, "
        "it has 12, and scores about half (moco-v3#5, #7).",
    )

    protocol: str = "dino"
    k: tuple[int, ...] = (10, 20, 100, 200)
    """Numbers of neighbours; DINO eval_knn. Few labels: 10,20,50,100,200 in place of these (dino#121)."""
    headline_k: int = 20
    """The k that tables show; DINO: 20 is usually best."""
    metric: str = "headline"
    """What tables show: headline, the accuracy the field reports for the set; top1; mean_per_class."""
    temperature: float = 0.07
    """Similarity scale of the vote; DINO eval_knn."""
    transform: str = "A"
    """Preprocessing variant A to E; A is DINO's: short side 256, centre crop 224, bicubic."""
    pooling: str = "cls"
    """Feature of an image: cls, mean or gem over the layer's tokens."""

    def __post_init__(self) -> None:
        from sdssl_bench.encoders import POOLINGS

        super().__post_init__()
        if self.part and self.k == next(one.default for one in fields(self) if one.name == "k"):
            object.__setattr__(self, "k", FEW_K)
        if not self.k or min(self.k) < 1 or self.headline_k not in self.k:
            raise UsageError(
                f"k-NN needs positive k that include the headline k = {self.headline_k}, found "
                f"{', '.join(map(str, self.k)) or 'none'}. Set both, e.g. --set k=5,10 --set headline_k=5."
            )
        if not self.temperature > 0:
            raise UsageError(f"The temperature must be positive, found {self.temperature}.")
        if self.metric not in METRICS:
            raise UsageError(did_you_mean("metric", self.metric, METRICS))
        if self.pooling not in POOLINGS:
            raise UsageError(did_you_mean("pooling", self.pooling, POOLINGS))

    def resolve(
        self, encoder: Encoder, data: ClassificationData, ctx: RunContext
    ) -> dict[str, Any]:
        """The preprocessing in pixels, and which k the training images are too few for."""
        from sdssl_bench.datasets import preprocess

        pixels = preprocess(self.transform, encoder.input_size).describe()
        draws = self.draws(data, ctx)
        if draws is not None:
            above = [k for k in self.k if k > draws.size]
            return {
                "k": self.k, "k_all_vote": above, "labels": draws.describe(), "transform": pixels
            }  # fmt: skip
        size = len(data.train) if ctx.limit is None else min(len(data.train), ctx.limit)
        fitting = [k for k in self.k if k <= size]
        if self.headline_k not in fitting:
            raise UsageError(
                f"k = {self.headline_k} needs as many training images, {data.name} has {size} here."
            )
        return {
            "k": fitting,
            "k_dropped": [k for k in self.k if k > size],
            "transform": pixels,
        }

    def headline(self, data: ClassificationData) -> str:
        """The metric that is compared, at the headline k."""
        name = data.headline if self.metric == "headline" else self.metric
        return f"k{self.headline_k}/{name}"

    def run(
        self, encoder: Encoder, data: ClassificationData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer from one pass over both splits."""
        from sdssl_bench.features import extract
        from sdssl_bench.system import is_main_process

        draws = self.draws(data, ctx)
        train, test = self._splits(extract, encoder, data, layers, ctx)
        if not is_main_process():
            return
        extraction = {
            f"{part}/{phase}": seconds
            for part, bank in (("train", train), ("test", test))
            for phase, seconds in bank.seconds.items()
        }
        for layer in layers:
            scores = self.score(layer, train, test, data=data, draws=draws, ctx=ctx)
            yield replace(scores, seconds={**extraction, **scores.seconds})
            extraction = {}

    def _splits(self, do: Callable[..., Any], *run: Any) -> list[Any]:
        """`do` with the training images, then test: as `features.extract`."""
        encoder, data, layers, ctx = run
        return self.splits(
            do, encoder, data, layers, poolings=(self.pooling,), transform=self.transform, ctx=ctx
        )

    def work(
        self, encoder: Encoder, data: ClassificationData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """Both passes, then a search in each layer."""
        from sdssl_bench.features import extract_work
        from sdssl_bench.neighbors import top_k_bytes, top_k_cost

        yield from self._splits(extract_work, encoder, data, layers, ctx)
        rows, queries = (len(limited_indices(len(s), ctx.limit)) for s in (data.train, data.test))
        draws, tries = self.draws(data, ctx), 1
        if draws is not None:
            rows, tries = draws.size, len(draws.rows)
        k = min(rows, max(k for k in self.k if draws or k <= rows))
        widths = [encoder.dims[layer - 1] for layer in layers]

        def search() -> float:
            seconds = {
                width: top_k_cost(queries, rows, width, k=k, backend=ctx.backend, device=ctx.device)
                for width in set(widths)
            }
            return tries * sum(seconds[width] for width in widths)

        yield Work(
            what="nearest neighbours",
            items=len(layers),
            unit="layers",
            measure=search,
            memory=max(
                4 * (rows + queries) * width + top_k_bytes(queries, rows, width, k=k)
                for width in widths
            ),
        )

    def score(
        self,
        layer: int,
        train: FeatureBank,
        test: FeatureBank,
        *,
        data: ClassificationData,
        draws: LabelDraws | None,
        ctx: RunContext,
    ) -> LayerScores:
        """All metrics of one layer from its two feature banks, in the mean over the draws."""
        import numpy as np

        from sdssl_bench.features import skipped_images
        from sdssl_bench.metrics import mean_per_class
        from sdssl_bench.neighbors import top_k, weighted_knn_vote
        from sdssl_bench.probes import mean_of_tries

        queries, bank = (one.features(layer, self.pooling) for one in (test, train))
        # A complete test split shows every class, and mean_per_class insists on it.
        whole = data.variant in ("official", "mini") and len(test.targets) == len(data.test)
        present = None if whole else np.unique(test.targets)
        every = [slice(None)] if draws is None else draws.places(train.indices)
        seconds = {"search": 0.0, "vote": 0.0}
        tries: list[dict[str, float]] = []
        right: dict[str, list[Any]] = {}
        for rows in every:
            started, targets = time.perf_counter(), train.targets[rows]
            voting = {k: min(k, len(targets)) for k in self.k if draws or k <= len(targets)}
            similarity, neighbours = top_k(
                queries, bank[rows], k=max(voting.values()), backend=ctx.backend, device=ctx.device
            )
            searched = time.perf_counter()
            votes = weighted_knn_vote(
                similarity,
                targets[neighbours],
                test.targets,
                ks=sorted(set(voting.values())),
                temperature=self.temperature,
                num_classes=data.train.num_classes,
            )
            metrics: dict[str, float] = {}
            for k, number in voting.items():
                correct = votes[number] < 1
                metrics[f"k{k}/top1"] = float(correct.mean())
                metrics[f"k{k}/top5"] = float((votes[number] < min(5, number)).mean())
                metrics[f"k{k}/mean_per_class"] = mean_per_class(
                    correct, test.targets, num_classes=data.train.num_classes, classes=present
                )
                right.setdefault(f"k{k}/correct", []).append(correct)
            tries.append(metrics)
            seconds["search"] += searched - started
            seconds["vote"] += time.perf_counter() - searched
        metrics, items, notes = mean_of_tries(tries, right)
        return LayerScores(
            layer=layer,
            metrics=metrics,
            n=len(test.targets),
            items={"index": test.indices, "target": test.targets, **items},
            notes={**notes, **skipped_images({"train": train, "test": test})},
            seconds=seconds,
        )
