"""The training images: a folder, or a dataset of the suite by name, and which of them when.

The order is a function of seed and epoch, and a process's share of a step is a slice of the global
batch: the same images meet in a step however many processes train, and step s of a resumed run has the
images that step s would have had. Nothing about the loader needs to be saved but the step.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sdssl_bench import datasets
from sdssl_bench.datasets import ImageError, ImageSet, image_files, list_images
from sdssl_bench.errors import DataError, UserError
from sdssl_bench.features import TwoViews, sample_seed
from sdssl_bench.system import end_with_parent
from sdssl_bench.task import limited_indices

Key = tuple[int, int]
"""Epoch and index of the image."""
Batch = tuple[Tensor, Tensor]
"""Pixels uint8 [2, n, 3, S, S] and draws float32 [2, n, NUM_FACTORS], by view."""


def open_images(data: str, data_root: Path | None) -> ImageSet:
    """The images to train on, without their labels' being used.

    Args:
        data: a folder (its `train` part if it has one), or a name that `datasets.load` knows, of
            which the training split is taken.
        data_root: where named datasets are.

    Raises:
        DataError: if there are no such images.
    """
    folder = Path(data).expanduser()
    named = datasets.names("classification")
    if data not in named and not datasets.own_source(data):
        if not folder.is_dir():
            raise DataError(
                f"--data takes a folder of images, shards such as 'x/{{000..146}}.tar', or one of "
                f"{', '.join(named)}, folder:PATH, csv:.., hf:..; found '{data}', which is none of them."
            )
        root = folder / "train" if (folder / "train").is_dir() else folder
        names = list_images(root)
        images = image_files(f"images:{root}", "train", root=root, names=names)
        empty = sorted(set(names) - set(images.names))
        if empty:
            raise DataError(
                f"{len(empty):,} image files in {root} are empty, the first is {empty[0]}. Repair or "
                "remove them."
            )
        return images
    return datasets.load(data, data_root=data_root).train


class TwoViewImages(Dataset[Batch | UserError]):
    """Two views of the image at a key (epoch, index); an error is a value, see `checked`.

    With a limit, index i of it is one of so many images that are spread evenly over the set.
    """

    def __init__(
        self, images: ImageSet, views: TwoViews, *, seed: int, limit: int | None = None
    ) -> None:
        self.images, self.views, self.seed = images, views, seed
        self.indices = limited_indices(len(images), limit)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> Batch | UserError:
        """Pixels [2, 3, S, S] and draws [2, NUM_FACTORS]."""
        epoch, index = key
        try:
            image = self.images.load(int(self.indices[index]))
        except ImageError as error:
            return DataError(
                f"An image of the training set cannot be read: {error}. Repair or remove it."
            )
        return self.views(image, sample_seed(self.seed, epoch, index))


class StepSampler(Sampler[list[Key]]):
    """This process's keys of each step from `first` to `last`.

    Args:
        num_images: in the training set.
        batch_size: of all processes together.
        steps: (first, last) step of this run, last excluded.
        seed: of the order.
        rank: this process.
        world_size: number of processes; divides the batch size.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        steps: tuple[int, int],
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.num_images, self.batch_size, self.steps = num_images, batch_size, steps
        self.seed = seed
        share = batch_size // world_size
        self.part = slice(rank * share, (rank + 1) * share)
        self.per_epoch = num_images // batch_size

    def __len__(self) -> int:
        return self.steps[1] - self.steps[0]

    def __iter__(self) -> Iterator[list[Key]]:
        """Keys of one step after the other; an epoch's last incomplete batch is left out."""
        order, order_epoch = torch.empty(0, dtype=torch.long), -1
        for step in range(*self.steps):
            epoch, batch = divmod(step, self.per_epoch)
            if epoch != order_epoch:
                generator = torch.Generator().manual_seed(sample_seed(self.seed, epoch, -1))
                order, order_epoch = torch.randperm(self.num_images, generator=generator), epoch
            start = batch * self.batch_size
            chosen = order[start : start + self.batch_size][self.part]
            yield [(epoch, index) for index in chosen.tolist()]


def collate(samples: list[Batch | UserError]) -> Batch | UserError:
    """Samples to a batch, view first; to the first error, where there is one."""
    made = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        made.append(sample)
    return stack(made)


def checked(batches: Iterable[Batch | UserError]) -> Iterator[Batch]:
    """The batches of a loader, with its workers' errors raised here.

    Raised in a worker, an error would reach the user as its traceback.
    """
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def stack(samples: Sequence[Batch]) -> Batch:
    """Samples to a batch, view first."""
    pixels, drawn = zip(*samples, strict=True)
    return torch.stack(pixels, dim=1), torch.stack(drawn, dim=1)


def image_loader(
    dataset: TwoViewImages, sampler: StepSampler, *, num_workers: int, pin_memory: bool
) -> DataLoader[Batch | UserError]:
    """One pass over the sampler's steps."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=start_worker if num_workers else None,
        generator=torch.Generator(),
    )


def start_worker(_: int) -> None:
    """One thread per worker, and signals are the training process's business.

    As many threads as cores in every worker would fight for them. Terminals, torchrun and Slurm signal
    all processes of a run at once: a worker that stopped would take the snapshot with it that the
    training process is about to write. Workers end when that process does.
    """
    end_with_parent()
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
