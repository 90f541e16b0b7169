"""k-NN segmentation of all layers: a bank of labelled patches, then the votes of the nearest for each image.

Two passes, over training and over test images; in each an image passes once through the encoder for all
layers. Kept are the chosen patches of training images and the counts of test images, in blocks of images
that processes share, until the scores are stored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets import VOID, MaskData, MaskedImages
from sdssl_bench.dense.bank import Bank, banks_of
from sdssl_bench.dense.blocks import Arrays, Blocks
from sdssl_bench.dense.patches import resized
from sdssl_bench.dense.settings import Candidate, Settings, best_candidate
from sdssl_bench.dense.tokens import PatchTokens
from sdssl_bench.dense.votes import counts_of, labels_of, votes_of
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import TaskError, UserError
from sdssl_bench.features import feature_identity, key_of, placed
from sdssl_bench.metrics import overlap_scores
from sdssl_bench.system import (
    ThreadTeam,
    agreed,
    gather_objects,
    is_main_process,
    locked,
    num_processes,
    process_index,
    writing,
)
from sdssl_bench.task import RunContext, limited_indices

BLOCK_IMAGES = 16
"""Images that are searched, and kept, together."""
Banks = Mapping[int, Mapping[str, Bank]]
Rows = NDArray[np.int64]
Work = Callable[[MaskedImages, Rows, Sequence[int], list[str]], Arrays]


class DenseScorer:
    """Scores an encoder's layers on one set.

    Args:
        encoder: loaded, with `info` set.
        layers: any of 1..L.
        data: both splits.
        settings: of the protocol.
        identity: name and version of the task.
        ctx: device, cache, limit and policies.

    Attributes:
        seconds: spent by this process, by phase.
        bad: "file: reason" of images that were skipped, by split.
        bank_rows: layer -> patches in its bank.
        choices: layer -> {candidate: mIoU on the held-out images}, where there was something to choose.
        held_out: training images on which that was done.
        tested: [N] the test images that were scored.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: Sequence[int],
        data: MaskData,
        *,
        settings: Settings,
        identity: Mapping[str, Any],
        ctx: RunContext,
    ) -> None:
        self.layers, self.data, self.settings, self.ctx = list(layers), data, settings, ctx
        self.splits = {"train": data.train, "test": data.test}
        self.rows = {s: limited_indices(len(one), ctx.limit) for s, one in self.splits.items()}
        self.per_image = settings.per_image(encoder, len(self.rows["train"]))
        self.held_out = self._held_out()
        if len(self.held_out):
            self.splits["val"], self.rows["val"] = data.train, self.held_out
        self.encoder, self.steps = encoder, settings.steps(encoder)
        self.tokens = PatchTokens(encoder, self.steps, ctx)
        self._spent = {"search": 0.0, "vote": 0.0}
        self.bad: dict[str, list[str]] = {}
        self.bank_rows: dict[int, int] = {}
        self.choices: dict[int, dict[Candidate, float]] = {}
        self.tested = self.rows["test"]
        self.blocks = Blocks(ctx.cache_dir.expanduser() / identity["task"] / self._key(identity))

    @property
    def seconds(self) -> dict[str, float]:
        """Time of this process by phase."""
        return {**self.tokens.seconds, **self._spent}

    def score(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """(layer, [N, 3, C] pixels that are, were called, and both) of test images, in the main process.

        What was kept is removed once all layers were taken.

        Raises:
            TaskError: for images that cannot be read, or features that are not finite.
            DataError: for a mask that is damaged or does not fit its image.
        """
        with ExitStack() as stack:

            def alone() -> None:
                stack.enter_context(locked(self.blocks.folder.with_suffix(".lock")))

            agreed(alone)
            with placed(self.encoder, self.tokens.device):
                self._pass("train", self._sampled)
                chosen = dict.fromkeys(self.layers, self.settings.candidates)
                if "val" in self.rows:
                    banks = agreed(partial(self._banks, "fitted"))
                    self._pass("val", partial(self._counted, banks, chosen))
                    chosen = agreed(self._choose)
                banks = agreed(partial(self._banks, "labelled"))
                self._pass("test", partial(self._counted, banks, chosen))
            if not is_main_process():
                return
            self.bank_rows = {
                layer: len(next(iter(found.values()))) for layer, found in banks.items()
            }
            starts = self._starts("test")
            self.tested = np.concatenate(
                [self.blocks.read("test", s, "rows")["rows"] for s in starts]
            )
            for layer in self.layers:
                yield layer, self._counts("test", layer)[:, 0]
            self.blocks.clear()

    def _held_out(self) -> Rows:
        """Training images on which k and distance are chosen, ascending."""
        rows = self.rows["train"]
        order = np.random.default_rng(self.ctx.seed).permutation(len(rows))
        return np.sort(rows[order[: self.settings.held_out(len(rows))]])

    def _key(self, identity: Mapping[str, Any]) -> str:
        facts = {
            split: feature_identity(
                self.encoder,
                masked.images,
                preprocess=self.steps,
                dtype=self.ctx.dtype,
                bank_dtype=self.ctx.bank_dtype,
            )
            for split, masked in self.splits.items()
        }
        facts |= {
            "task": dict(identity),
            "masks": {split: masked.freshness for split, masked in self.splits.items()},
            "settings": asdict(self.settings),
            "place": self.encoder.place,
            "run": {"seed": self.ctx.seed, "limit": self.ctx.limit, "bad": self.ctx.on_bad_image},
        }
        return key_of(facts)

    def _starts(self, split: str) -> range:
        return range(0, len(self.rows[split]), BLOCK_IMAGES)

    def lacking(self, split: str) -> list[int]:
        """Where the blocks begin that have not every layer asked for."""
        done = {start: self.blocks.read(split, start) for start in self._starts(split)}
        marks = {f"done{layer}" for layer in self.layers}
        return [start for start, arrays in done.items() if not marks <= arrays.keys()]

    def _pass(self, split: str, work: Work) -> None:
        """Every block of a split, by one of the processes; an error of one is everyone's."""
        masked, starts = self.splits[split], self._starts(split)
        mine = starts[process_index() :: num_processes()]
        progress = self.ctx.progress if is_main_process() else None
        if progress is not None:
            label = f"patches of {masked.images.dataset} {split}"
            images = sum(len(self.rows[split][start : start + BLOCK_IMAGES]) for start in mine)
            progress.start(label, images, "images")
        failure: UserError | None = None
        try:
            for start in mine:
                rows = self.rows[split][start : start + BLOCK_IMAGES]
                done = self.blocks.read(split, start)
                missing = [layer for layer in self.layers if f"done{layer}" not in done]
                if missing:
                    bad: list[str] = []
                    arrays = work(masked, rows, missing, bad)
                    marks = {f"done{layer}": np.ones(1, bool) for layer in missing}
                    with writing(self.blocks.folder):
                        self.blocks.add(
                            split, start, {**arrays, **marks, "bad": np.array(bad, str)}
                        )
                if progress is not None:
                    progress.advance(len(rows))
        except UserError as error:
            failure = error
        for other in gather_objects(failure):
            if other is not None:
                raise other
        if progress is not None:
            progress.finish()
        kept = [self.blocks.read(split, start, "bad")["bad"].tolist() for start in starts]
        self.bad[split] = [one for names in kept for one in names]
        if len(self.bad[split]) == len(self.rows[split]):
            raise TaskError(f"{masked.images.dataset}: no {split} image can be read.")

    def _sampled(
        self, masked: MaskedImages, rows: Rows, layers: Sequence[int], bad: list[str]
    ) -> Arrays:
        """Chosen patches of training images, row by row of the bank, and their labels."""
        found: dict[str, list[NDArray[Any]]] = {}
        for row, tokens in self.tokens.of(masked.images, rows, layers, bad):
            mask = resized(masked.mask(row), self.steps.size)
            if self.settings.void == "background" and self.data.background:
                mask = np.where(mask == VOID, 0, mask).astype(np.uint8)
            kept: dict[tuple[int, int], tuple[Rows, NDArray[Any], NDArray[np.bool_]]] = {}
            seen = np.full(self.per_image, row not in self.held_out)
            for layer, maps in tokens.items():
                grid = (maps.shape[0], maps.shape[1])
                if grid not in kept:
                    # One draw for all layers of a grid, whichever of them are asked for.
                    rng = np.random.default_rng([self.ctx.seed, row])
                    kept[grid] = labels_of(
                        mask, grid, masked.num_classes,
                        vote=self.settings.vote, count=self.per_image, rng=rng,
                    )  # fmt: skip
                chosen, labels, labelled = kept[grid]
                places = torch.from_numpy(chosen).to(maps.device)
                patches = maps.flatten(0, 1).index_select(0, places).cpu().numpy()
                for name, values in (
                    (f"bank{layer}", patches.astype(self.ctx.bank_dtype)),
                    (f"labels{layer}", labels),
                    (f"labelled{layer}", labelled),
                    (f"seen{layer}", seen),
                    (f"fitted{layer}", labelled & seen),
                ):
                    found.setdefault(name, []).append(np.asarray(values))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _banks(self, keep: str) -> Banks:
        """Every layer's banks, as files."""
        with writing(self.blocks.folder):
            return {
                layer: banks_of(
                    self.blocks, self._starts("train"), layer, keep=keep, settings=self.settings
                )
                for layer in self.layers
            }

    def _choose(self) -> dict[int, list[Candidate]]:
        """The candidate of each layer with the highest mIoU on held-out images, the first of equals."""
        for layer in self.layers:
            counts = self._counts("val", layer)
            scores = [
                float(overlap_scores(one, absent=self.settings.absent)["mIoU"].mean())
                for one in counts.swapaxes(0, 1)
            ]
            self.choices[layer] = dict(zip(self.settings.candidates, scores, strict=True))
        return {layer: [best_candidate(one)] for layer, one in self.choices.items()}

    def _counts(self, split: str, layer: int) -> NDArray[np.int64]:
        """[N, candidates, 3, C] of all blocks of a split."""
        name = f"counts{layer}"
        return np.concatenate([self.blocks.read(split, s, name)[name] for s in self._starts(split)])

    def _counted(
        self,
        banks: Banks,
        candidates: Mapping[int, Sequence[Candidate]],
        masked: MaskedImages,
        rows: Rows,
        layers: Sequence[int],
        bad: list[str],
    ) -> Arrays:
        """Counts [b, candidates, 3, C] of images."""
        read, tokens = [], []
        for row, maps in self.tokens.of(masked.images, rows, layers, bad):
            read.append(row)
            tokens.append({layer: one.cpu().numpy() for layer, one in maps.items()})
        arrays: Arrays = {"rows": np.array(read, np.int64)}
        truths = [resized(masked.mask(row), self.settings.mask_size) for row in read]
        classes = self.settings.num_called(masked.num_classes)
        count = partial(counts_of, vote=self.settings.vote, num_classes=classes)
        with ThreadTeam("cpu") as crew:
            for layer in layers:
                maps_of = [one[layer] for one in tokens]
                votes = votes_of(
                    banks[layer], candidates[layer], maps_of, settings=self.settings,
                    spent=self._spent, backend=self.ctx.backend, device=self.tokens.device,
                )  # fmt: skip
                counts = [
                    list(crew.map(count, zip(one, maps_of, truths, strict=True))) for one in votes
                ]
                by_candidate = np.array(counts, np.int64).reshape(len(counts), -1, 3, classes)
                arrays[f"counts{layer}"] = by_candidate.swapaxes(0, 1)
        return arrays
