"""The batches of a run, from a folder, a dataset or shards alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sdssl_bench.datasets import ImageSet
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.features import TwoViews, view_pair
from sdssl_bench.pretrain.data.images import (
    Batch,
    StepSampler,
    TwoViewImages,
    checked,
    image_loader,
    open_images,
)
from sdssl_bench.pretrain.data.shards import (
    ShardBatches,
    Shards,
    is_shards,
    open_shards,
    shard_loader,
)
from sdssl_bench.pretrain.run.config import PretrainConfig


@dataclass(frozen=True)
class Feed:
    """Where a process's batches come from.

    Attributes:
        config: the run's.
        source: images by index, or shards.
        views: how views are made.
        rank: this process.
        world_size: number of processes.
        per_epoch: optimizer steps of an epoch.
        layout: what the order of images depends on besides the configuration.
    """

    config: PretrainConfig
    source: ImageSet | Shards
    views: TwoViews
    rank: int
    world_size: int
    per_epoch: int
    layout: dict[str, Any]

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of steps first..last - 1."""
        if first >= last:
            return iter(())
        config, pin = self.config, torch.cuda.is_available()
        place: dict[str, Any] = {"rank": self.rank, "world_size": self.world_size}
        if isinstance(self.source, Shards):
            dataset = self._shard_batches((first, last))
            return checked(shard_loader(dataset, num_workers=config.num_workers, pin_memory=pin))
        sampler = StepSampler(
            self.layout["images"],
            config.batch_size,
            steps=(first, last),
            seed=config.seed,
            **place,
        )
        images = TwoViewImages(self.source, self.views, seed=config.seed, limit=config.limit)
        return checked(
            image_loader(images, sampler, num_workers=config.num_workers, pin_memory=pin)
        )

    def _shard_batches(self, steps: tuple[int, int]) -> ShardBatches:
        assert isinstance(self.source, Shards)
        config = self.config
        return ShardBatches(
            self.source,
            self.views,
            batch=config.batch_size // self.world_size,
            steps=steps,
            num_workers=config.num_workers,
            shuffle_buffer=config.shuffle_buffer,
            seed=config.seed,
            rank=self.rank,
            world_size=self.world_size,
        )


def open_feed(config: PretrainConfig, *, size: int, rank: int, world_size: int) -> Feed:
    """The images of a run.

    Args:
        config: the run's.
        size: side of the views in pixels.
        rank: this process.
        world_size: number of processes.

    Raises:
        UsageError: if no data are named.
        DataError: if they are missing, or too few for one step.
    """
    if config.data is None:
        raise UsageError(
            "Pretraining needs --data: a folder, a dataset's name, or 'x/{000..146}.tar'."
        )
    views = TwoViews(
        view_pair(config.views, size=size, crop_min=config.crop_min), config.device_views
    )
    root = Path(config.data_root).expanduser() if config.data_root else None
    source: ImageSet | Shards
    layout: dict[str, Any] = {}
    if is_shards(config.data):
        source = open_shards(config.data)
        workers = max(config.num_workers, 1)
        span = len(source) // (world_size * workers)
        per_epoch = workers * (span // (config.batch_size // world_size))
        layout = {"num_workers": workers, "images": len(source)}
    else:
        source = open_images(config.data, root)
        images = min(len(source), config.limit or len(source))
        per_epoch = images // config.batch_size
        layout = {"images": images, "fingerprint": source.fingerprint}
    if per_epoch < 1:
        raise DataError(
            f"{config.data} has {layout['images']:,} images, too few for one step of "
            f"{config.batch_size:,}. Lower --batch-size (for shards, or --num-workers)."
        )
    return Feed(config, source, views, rank, world_size, per_epoch, layout)
