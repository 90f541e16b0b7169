"""What a user may ask of a checkpoint, and the rule that no option is ignored."""

from dataclasses import dataclass

from sdssl_bench.encoders import NORMS
from sdssl_bench.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Options:
    """--network, --arch, --heads, --patch-size, --img-size, --norm; None = not given."""

    network: str | None = None
    arch: str | None = None
    heads: int | None = None
    patch_size: int | None = None
    img_size: int | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        """Refuses values that no checkpoint could have."""
        if self.norm is not None and self.norm not in NORMS:
            raise UsageError(did_you_mean("norm", self.norm, NORMS))
        for name in ("heads", "patch_size", "img_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{_flag(name)} takes a positive number, found {value}.")

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
