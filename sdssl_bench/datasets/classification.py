"""What the tasks on classification sets share: which sets, how they are loaded, what is recorded of them."""

from typing import TYPE_CHECKING, ClassVar

from sdssl_bench import datasets as sets
from sdssl_bench.task import DatasetInfo, RunContext, Task

if TYPE_CHECKING:
    from sdssl_bench.datasets.base import ClassificationData


def load_for(name: str, ctx: RunContext) -> "ClassificationData":
    """Train and test split of a set, verified, as a run reads them."""
    return sets.load(
        name,
        data_root=ctx.data_root,
        allow_partial=ctx.allow_partial,
        cache_dir=ctx.cache_dir,
        say=ctx.progress.message if ctx.progress else None,
    )


class ClassificationTask(Task):
    """A task that is scored on train and test images with labels; the user chooses the set."""

    datasets: ClassVar[tuple[str, ...]] = sets.sets_of("classification")
    folder_has: ClassVar[str] = "train"

    def load_data(self, name: str, ctx: RunContext) -> "ClassificationData":
        """Train and test split, verified."""
        return load_for(name, ctx)

    def describe_data(self, data: "ClassificationData") -> DatasetInfo:
        """Identity of both splits."""
        from sdssl_bench.datasets.loading import describe

        return describe(data)
