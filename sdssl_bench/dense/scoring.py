"""k-NN segmentation of all layers: a bank of labelled patches, then the votes of the nearest for each image.

Two passes, over training and over test images; in each an image passes once through the encoder for all
layers. Kept are the chosen patches of training images and the counts of test images, in blocks of images
that processes share, until the scores are stored.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets import VOID, MaskData, MaskedImages
from sdssl_bench.dense.blocks import Arrays, Blocks
from sdssl_bench.dense.patches import chosen_patches, mask_of, patch_shares, resized
from sdssl_bench.dense.settings import Settings
from sdssl_bench.dense.tokens import PatchTokens
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import TaskError, UserError
from sdssl_bench.features import feature_identity, key_of, placed
from sdssl_bench.metrics import class_counts
from sdssl_bench.neighbors import soft_votes, top_k
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
        self.encoder, self.steps = encoder, settings.steps(encoder)
        self.tokens = PatchTokens(encoder, self.steps, ctx)
        self._spent = {"search": 0.0, "vote": 0.0}
        self.bad: dict[str, list[str]] = {}
        self.bank_rows: dict[int, int] = {}
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
                banks = agreed(self._banks)
                self._pass("test", partial(self._counted, banks))
            if not is_main_process():
                return
            self.bank_rows = {
                layer: len(np.load(files[1], mmap_mode="r")) for layer, files in banks.items()
            }
            starts = self._starts("test")
            self.tested = np.concatenate(
                [self.blocks.read("test", s, "rows")["rows"] for s in starts]
            )
            for layer in self.layers:
                name = f"counts{layer}"
                yield (
                    layer,
                    np.concatenate([self.blocks.read("test", s, name)[name] for s in starts]),
                )
            self.blocks.clear()

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
            kept: dict[tuple[int, int], tuple[Rows, NDArray[np.float32]]] = {}
            for layer, maps in tokens.items():
                grid = (maps.shape[0], maps.shape[1])
                if grid not in kept:
                    shares = patch_shares(mask, grid, masked.num_classes, void=VOID)
                    # One draw for all layers of a grid, whichever of them are asked for.
                    rng = np.random.default_rng([self.ctx.seed, row])
                    chosen = chosen_patches(shares, self.per_image, rng)
                    kept[grid] = chosen, shares[chosen]
                chosen, labels = kept[grid]
                places = torch.from_numpy(chosen).to(maps.device)
                patches = maps.flatten(0, 1).index_select(0, places).cpu().numpy()
                for name, values in (
                    (f"bank{layer}", patches.astype(self.ctx.bank_dtype)),
                    (f"labels{layer}", labels),
                    (f"labelled{layer}", labels.any(1)),
                ):
                    found.setdefault(name, []).append(np.asarray(values))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _banks(self) -> dict[int, list[Path]]:
        """Every layer's bank and its labels, as files."""
        found = {}
        with writing(self.blocks.folder):
            for layer in self.layers:
                names, keep = (f"bank{layer}", f"labels{layer}"), f"labelled{layer}"
                # A block without one readable image has none.
                starts = [s for s in self._starts("train") if self.blocks.read("train", s, keep)]
                found[layer] = [
                    self.blocks.join("train", starts, name, keep=keep) for name in names
                ]
        return found

    def _counted(
        self,
        banks: Mapping[int, Sequence[Path]],
        masked: MaskedImages,
        rows: Rows,
        layers: Sequence[int],
        bad: list[str],
    ) -> Arrays:
        """Counts [b, 3, C] of test images."""
        read, tokens = [], []
        for row, maps in self.tokens.of(masked.images, rows, layers, bad):
            read.append(row)
            tokens.append({layer: one.cpu().numpy() for layer, one in maps.items()})
        arrays: Arrays = {"rows": np.array(read, np.int64)}
        truths = [resized(masked.mask(row), self.settings.mask_size) for row in read]
        count = partial(_count, num_classes=masked.num_classes)
        with ThreadTeam("cpu") as crew:
            for layer in layers:
                maps_of = [one[layer] for one in tokens]
                found = zip(self._votes(banks[layer], maps_of), maps_of, truths, strict=True)
                counts = crew.map(count, found)
                arrays[f"counts{layer}"] = np.array(counts).reshape(-1, 3, masked.num_classes)
        return arrays

    def _votes(
        self, files: Sequence[Path], maps: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """[h x w, C] of each image of a block, from one search."""
        if not maps:
            return []
        started = time.perf_counter()
        bank, labels = (np.load(file, mmap_mode="r") for file in files)
        k, place = self.settings.k, self.tokens.device
        if len(bank) < k:
            raise TaskError(f"k = {k} needs as many labelled patches, the bank has {len(bank)}.")
        queries = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])
        scores, ids = top_k(queries, bank, k=k, backend=self.ctx.backend, device=place)
        searched = time.perf_counter()
        votes = soft_votes(scores, labels, ids, temperature=self.settings.temperature)
        self._spent["search"] += searched - started
        self._spent["vote"] += time.perf_counter() - searched
        ends = np.cumsum([one.shape[0] * one.shape[1] for one in maps])[:-1]
        return np.split(votes, ends)


def _count(
    image: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]], *, num_classes: int
) -> NDArray[np.int64]:
    """Counts [3, C] of an image: its votes [h x w, C], tokens [h, w, D] and mask [H, W]."""
    votes, maps, truth = image
    (rows, columns), (height, width) = maps.shape[:2], truth.shape
    called = mask_of(votes, (rows, columns), (height, width))
    return class_counts(called, truth, num_classes=num_classes, void=VOID)
