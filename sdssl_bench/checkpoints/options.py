"""What a user may ask of a checkpoint, and the rule that no option is ignored."""

import re
from dataclasses import dataclass

from sdssl_bench.encoders import CLASS_TOKEN, NORMS, PATCH_MEAN
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.parameters import check_side

CLS = {"token": CLASS_TOKEN, "mean": PATCH_MEAN}
"""Values of --cls."""


@dataclass(frozen=True)
class Options:
    """What a user may say of an encoder; None = not given.

    Attributes:
        network: which network of the checkpoint; None = the one its authors evaluate.
        arch: name for `encoders.build`, where the architecture cannot be inferred.
        heads: attention heads, where they cannot be known.
        patch_size: in pixels; must agree with the weights.
        img_size: side of the evaluated images in pixels.
        grid: "ROWSxCOLUMNS" of patches that a learned table was made for, where it is no square.
        norm: of layers 1..L-1, see `encoders.NORMS`; None = the format's own convention.
        cls: what stands for [CLS], see CLS; None = the class token where it was trained.
        mean: of the images: a number per channel, a name of `encoders.COLOURS`, or timm:NAME.
        std: likewise; a name for one of the two stands for both.
    """

    network: str | None = None
    arch: str | None = None
    heads: int | None = None
    patch_size: int | None = None
    img_size: int | None = None
    norm: str | None = None
    cls: str | None = None
    mean: str | None = None
    std: str | None = None
    grid: str | None = None

    def __post_init__(self) -> None:
        """Refuses values that no checkpoint could have."""
        if self.norm is not None and self.norm not in NORMS:
            raise UsageError(did_you_mean("norm", self.norm, NORMS))
        if self.cls is not None and self.cls not in CLS:
            raise UsageError(did_you_mean("value of --cls", self.cls, CLS))
        for name in ("heads", "patch_size", "img_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{_flag(name)} takes a positive number, found {value}.")
        check_side("--img-size", self.img_size or 0)
        if self.grid is not None and not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}", self.grid):
            raise UsageError(f"--grid takes ROWSxCOLUMNS such as 14x20, found '{self.grid}'.")

    @property
    def rows_and_columns(self) -> tuple[int, int] | None:
        """`grid` as numbers."""
        if self.grid is None:
            return None
        rows, columns = self.grid.split("x")
        return int(rows), int(columns)

    def refuse(self, *names: str, because: str) -> None:
        """An option that would have no effect is an error.

        Raises:
            UsageError: if one of the named options was given.
        """
        given = [_flag(name) for name in names if getattr(self, name) is not None]
        if given:
            raise UsageError(f"{' and '.join(given)} would have no effect: {because}.")

    def agree(self, name: str, actual: object, *, what: str) -> None:
        """An option that merely confirms a known fact must not contradict it.

        Raises:
            UsageError: if the option was given and differs.
        """
        given = getattr(self, name)
        if given is not None and given != actual:
            raise UsageError(f"{_flag(name)} {given} contradicts {what}, which has {actual}.")


def _flag(name: str) -> str:
    """The command-line spelling of an option."""
    return "--" + name.replace("_", "-")
