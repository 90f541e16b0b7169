"""Training images from tar shards in the WebDataset layout, for clusters without a shared file system.

Shards are named by braces ("x/{000..146}.tar", "{a,b}.tar") and read front to back, from disk or http.
An epoch is one sequence: the shards in an order drawn from the seed, each front to back. It is cut into
equal spans, one per worker of every process, so that no image comes twice in an epoch and all processes
make the same number of steps; a worker shuffles its span within blocks of `shuffle_buffer` images. Where
a resumed run has to start follows from the step; it reads one block again, not the epoch.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sdssl_bench.datasets import truncated_is_an_error
from sdssl_bench.errors import DataError, UsageError, UserError
from sdssl_bench.features import TwoViews, sample_seed
from sdssl_bench.pretrain.data.images import Batch, stack, start_worker
from sdssl_bench.pretrain.data.tar_images import ENDINGS, REMOTE, image_members, open_file

SIZES = "sizes.json"
"""File beside the shards with the number of images in each, {"000.tar": 1024, ...}."""
MOST_SHARDS = 1_000_000


def is_shards(data: str) -> bool:
    """Whether --data names tar files rather than a folder or a dataset."""
    return data.endswith(".tar")


def expand(pattern: str) -> list[str]:
    """The names a pattern with braces stands for, in order.

    Raises:
        UsageError: if they are more than anybody can have.

    >>> expand("s/{008..010}.tar")
    ['s/008.tar', 's/009.tar', 's/010.tar']
    >>> expand("{a,b}-{0..1}.tar")
    ['a-0.tar', 'a-1.tar', 'b-0.tar', 'b-1.tar']
    """
    fixed, braces = re.split(r"\{[^{}]*\}", pattern), re.findall(r"\{([^{}]*)\}", pattern)
    choices: list[tuple[Sequence[Any], str]] = []
    count = 1
    for text in braces:
        numbers = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", text)
        if numbers:
            low, high = int(numbers[1]), int(numbers[2])
            choices.append((range(low, high + 1), f"0{len(numbers[1])}" if text[0] == "0" else ""))
            count *= max(high + 1 - low, 0)
        else:
            choices.append((text.split(","), ""))
            count *= len(choices[-1][0])
    if count > MOST_SHARDS:  # before a list of them fills the memory
        raise UsageError(
            f"--data '{pattern}' stands for {count:,} shards, more than {MOST_SHARDS:,}: check the numbers "
            "in braces."
        )
    written = [[format(one, form) for one in values] for values, form in choices]
    return [
        fixed[0] + "".join(part + rest for part, rest in zip(chosen, fixed[1:], strict=True))
        for chosen in product(*written)
    ]


@dataclass(frozen=True)
class Shards:
    """Shards and the number of images in each."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.sizes)


def open_shards(pattern: str) -> Shards:
    """The shards, counted: by `sizes.json` beside them, or by their headers on a local disk.

    Raises:
        DataError: if one is missing, holds no image, or cannot be counted.
    """
    names = expand(pattern)
    if not names:
        raise DataError(f"--data '{pattern}' stands for no shard at all.")
    known: dict[str, int] = {}
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        known |= _stated_sizes(folder)
    sizes = []
    for name in names:
        size = known.get(name)
        if size is None and name.startswith(REMOTE):
            raise DataError(f"{name} is remote: put {SIZES} with its number of images beside it.")
        sizes.append(sum(1 for _ in image_members(name, read=False)) if size is None else size)
        if sizes[-1] < 1:
            raise DataError(f"Shard {name} holds no image ({', '.join(ENDINGS)}).")
    return Shards(tuple(names), tuple(sizes))


def _stated_sizes(folder: str) -> dict[str, int]:
    path = f"{folder}/{SIZES}" if folder else SIZES
    if not folder.startswith(REMOTE) and not Path(path).is_file():
        return {}
    try:
        with open_file(path) as stream:
            stated = json.load(stream)
        return {f"{folder}/{name}" if folder else name: int(n) for name, n in stated.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} does not hold the numbers of images per shard: {error}.") from None


class ShardBatches(IterableDataset[Batch | UserError]):
    """Batches of this process, made by each worker from its own span of the epoch.

    Args:
        shards: names and sizes.
        views: how views are made.
        batch: images of this process per step.
        steps: (first, last) step of this run, last excluded.
        num_workers: loader processes, from 1 (0 counts as one).
        shuffle_buffer: images per shuffled block.
        seed: of order and views.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        shards: Shards,
        views: TwoViews,
        *,
        batch: int,
        steps: tuple[int, int],
        num_workers: int,
        shuffle_buffer: int,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.shards, self.views, self.batch, self.steps = shards, views, batch, steps
        self.workers = max(num_workers, 1)
        self.buffer, self.seed, self.rank = shuffle_buffer, seed, rank
        self.span = len(shards) // (world_size * self.workers)
        self.batches_per_span = self.span // batch
        self.per_epoch = self.batches_per_span * self.workers

    def __iter__(self) -> Iterator[Batch | UserError]:
        """The batches of this worker, whose turn is every `workers`-th step; an error ends them."""
        try:
            yield from self._batches()
        except UserError as error:
            yield error

    def _batches(self) -> Iterator[Batch]:
        info = get_worker_info()
        mine = info.id if info else 0
        first, last = self.steps
        # The loader asks worker 0 first, whatever the step; so the worker's turn counts from there.
        steps = range(first + mine, last, self.workers)
        source: Iterator[tuple[int, bytes, str]] | None = None
        current = None
        for step in steps:
            epoch, within = divmod(step, self.per_epoch)
            slot, turn = within % self.workers, within // self.workers
            place = (epoch, slot)
            if place != current or source is None:
                source, current = self._samples(epoch, slot, turn * self.batch), place
            samples = [next(source) for _ in range(self.batch)]
            yield stack([self._views(epoch, *sample) for sample in samples])

    def _samples(self, epoch: int, slot: int, start: int) -> Iterator[tuple[int, bytes, str]]:
        """Samples of a span in shuffled order from its `start`-th: (number, bytes, name)."""
        begin = (self.rank * self.workers + slot) * self.span
        first = start // self.buffer
        # One reading for all blocks: each shard of the span is opened once, and front to back.
        sequence = self._sequence(epoch, begin + first * self.buffer, begin + self.span)
        for block in range(first, -(-self.span // self.buffer)):
            lo = block * self.buffer
            held = list(islice(sequence, min(self.buffer, self.span - lo)))
            generator = torch.Generator().manual_seed(
                sample_seed(self.seed, epoch, -2 - begin - lo)
            )
            order = torch.randperm(len(held), generator=generator).tolist()
            for position in order[max(start - lo, 0) :]:
                yield held[position]

    def _sequence(self, epoch: int, begin: int, end: int) -> Iterator[tuple[int, bytes, str]]:
        """Samples begin..end of the epoch's sequence, in the order of the shards."""
        generator = torch.Generator().manual_seed(sample_seed(self.seed, epoch, -1))
        order: Sequence[int] = torch.randperm(len(self.shards.names), generator=generator).tolist()
        starts = [sum(self.shards.sizes[:i]) for i in range(len(self.shards.sizes))]
        position = 0
        for shard in order:
            size = self.shards.sizes[shard]
            lo, hi = max(begin - position, 0), min(end - position, size)
            if lo < hi:
                name = self.shards.names[shard]
                found = 0
                for found, (key, data) in enumerate(image_members(name, start=lo), 1):
                    yield starts[shard] + lo + found - 1, data, f"{name}:{key}"
                    if found == hi - lo:
                        break
                if found < hi - lo:
                    raise DataError(
                        f"Shard {name} has {lo + found} images, {size} were counted or stated."
                    )
            position += size

    def _views(self, epoch: int, number: int, data: bytes, name: str) -> Batch:
        try:
            with truncated_is_an_error(), Image.open(BytesIO(data)) as opened:
                image = opened.convert("RGB")
        except Exception as error:
            raise DataError(
                f"An image of the training set cannot be read: {name}: {error}."
            ) from None
        return self.views(image, sample_seed(self.seed, epoch, number))


def shard_loader(
    dataset: ShardBatches, *, num_workers: int, pin_memory: bool
) -> DataLoader[Batch | UserError]:
    """One pass over the dataset's steps."""
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=start_worker if num_workers else None,
        generator=torch.Generator(),
    )
