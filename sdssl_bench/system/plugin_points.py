"""What other packages add: entry points, after everything built in, and never under a name that is taken."""

from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from sdssl_bench.errors import UsageError

Kind = TypeVar("Kind")


@cache
def plugins(group: str, built_in: Collection[str], what: str) -> dict[str, EntryPoint]:
    """Name -> entry point of a group, by name.

    Args:
        group: of the entry points, e.g. "sdssl_bench.datasets".
        built_in: names that the suite has itself; a tuple.
        what: what messages call one of them, e.g. "dataset".

    Raises:
        UsageError: if a name is taken.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in built_in or point.name in found:
            owner = "this suite" if point.name in built_in else package_of(found[point.name])
            raise UsageError(
                f"Two {what}s are called '{point.name}': one of {owner}, one of {package_of(point)}. "
                "Uninstall that package or rename its entry point."
            )
        found[point.name] = point
    return dict(sorted(found.items()))


@cache
def load_plugin(point: EntryPoint, kind: type[Kind]) -> Kind:
    """The object that an entry point names, of the right type and name.

    Raises:
        UsageError: if its module fails, or it is something else.
    """
    try:
        loaded = point.load()
    except Exception as error:  # whatever a foreign module raises
        found = f"{type(error).__name__}: {error}"
    else:
        name = getattr(loaded, "name", None)
        if isinstance(loaded, kind) and name == point.name:
            return loaded
        found = f"something of type {type(loaded).__name__}" + (f" called '{name}'" if name else "")
    raise UsageError(
        f"Expected a {kind.__name__} called '{point.name}' at {point.value}, which {package_of(point)} "
        f"names, found {found}. Mend or uninstall that package."
    )


def package_of(point: EntryPoint) -> str:
    """How messages call the package of an entry point."""
    return f"the package {point.dist.name}" if point.dist else f"the package of {point.value}"
