"""Tasks that may use the labels of a part of the training images: a few of each class, a share, or a list.

Which images these are is a part of the protocol: its id ends with it, as knn/dino+4-shot, and no number of
one budget stands in a column with those of another. How images are drawn: see `label_draws`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sdssl_bench.datasets.classification import ClassificationTask
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.parameters import WHEN_SET
from sdssl_bench.task import Option, RunContext

if TYPE_CHECKING:
    from sdssl_bench.datasets.base import ClassificationData
    from sdssl_bench.datasets.label_draws import LabelDraws
    from sdssl_bench.encoders import Encoder

TRIES = 5
"""Draws that are averaged."""


class ImageList(str):
    """Names of images from a file, one a line; as text it says how many, and the sha256 of the file."""

    names: tuple[str, ...]

    @classmethod
    def read(cls, path: str) -> Self:
        """The list in a text file.

        Raises:
            DataError: if the file cannot be read, is empty or has a name twice.
        """
        import hashlib

        try:
            content = Path(path).expanduser().read_bytes()
            lines = [line.strip() for line in content.decode().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"--subset takes a text file with an image name a line: {error}"
            ) from None
        names = tuple(line for line in lines if line)
        if not names or len(set(names)) < len(names):
            found = "none" if not names else f"{len(names) - len(set(names))} of them twice"
            raise DataError(f"--subset: expected names of images in {path}, found {found}.")
        made = cls(f"{len(names)} images, sha256 {hashlib.sha256(content).hexdigest()}")
        made.names = names
        return made


@dataclass(frozen=True)
class FewLabelTask(ClassificationTask):
    """A task on classification sets that learns from labels, from all of them unless a budget is set."""

    few_labels: ClassVar[tuple[Option, ...]] = (
        Option("shots", "parameter", "Labels of a class; 0 is all.", each=True),
        Option("fraction", "parameter", "Share of a class's labels.", each=True),
        Option("subset", "parameter", "File of the images with labels.", each=True),
        Option("tries", "parameter", "Draws to average; 0 is 5."),
    )

    shots: int = field(default=0, metadata=WHEN_SET)
    """So many training images of every class have a label; 0: all."""
    fraction: float = field(default=1.0, metadata=WHEN_SET)
    """This share of every class has a label, rounded, at least one image; 1: all."""
    subset: str = field(default="", metadata=WHEN_SET)
    """A file that names the training images with a label, as SimCLR's 1percent.txt; none: all."""
    tries: int = field(default=0, metadata=WHEN_SET)
    """Draws that scores are the mean of; 0: 5 where images are drawn, 1 where they are listed."""

    def __post_init__(self) -> None:
        budgets = [self.shots != 0, self.fraction != 1, self.subset != ""]
        if sum(budgets) > 1:
            raise UsageError(
                "shots, fraction and subset are three ways to say it. Set one of them."
            )
        if self.shots < 0 or not 0 < self.fraction <= 1 or self.tries < 0:
            raise UsageError(
                "shots and tries are numbers from 0, fraction is above 0 and at most 1; found shots "
                f"{self.shots}, fraction {self.fraction:g}, tries {self.tries}."
            )
        drawn = self.shots != 0 or self.fraction != 1
        if self.tries and not drawn:
            raise UsageError("tries has no effect without shots or fraction. Leave it out.")
        if drawn and not self.tries:
            object.__setattr__(self, "tries", TRIES)
        if self.subset and not isinstance(self.subset, ImageList):
            object.__setattr__(self, "subset", ImageList.read(self.subset))

    @property
    def part(self) -> str:
        """Whose labels are used: "4-shot", "1-percent", "list-12811"; "" where those of all images."""
        if self.shots:
            return f"{self.shots}-shot"
        if isinstance(self.subset, ImageList):
            return f"list-{len(self.subset.names)}"
        return f"{100 * self.fraction:.6g}-percent" if self.fraction < 1 else ""

    def splits(
        self,
        do: Callable[..., Any],
        encoder: "Encoder",
        data: "ClassificationData",
        layers: Sequence[int],
        *,
        poolings: Sequence[str],
        transform: str,
        ctx: RunContext,
    ) -> list[Any]:
        """`do` with the training images whose labels are used, then test: as `features.extract`."""
        from sdssl_bench.datasets.transforms import preprocess

        draws, steps = self.draws(data, ctx), preprocess(transform, encoder.input_size)
        rows = None if draws is None else draws.union
        return [
            do(encoder, split, layers, poolings=poolings, preprocess=steps, ctx=ctx, rows=used)
            for split, used in ((data.train, rows), (data.test, None))
        ]

    def draws(self, data: "ClassificationData", ctx: RunContext) -> "LabelDraws | None":
        """The training images whose labels are used, try by try; None: all.

        Raises:
            UsageError: if a class has fewer images than shots.
            DataError: if listed images are not there.
        """
        from sdssl_bench.datasets.label_draws import draw, listed

        if not self.part:
            return None
        if isinstance(self.subset, ImageList):
            return listed(data, self.subset.names, limit=ctx.limit)
        return draw(
            data.train,
            shots=self.shots,
            fraction=self.fraction,
            tries=self.tries,
            seed=ctx.seed,
            limit=ctx.limit,
        )
