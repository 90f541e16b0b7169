"""All sets by name: those of the suite, then those that other packages add.

Another package adds a set by an entry point of the group `sdssl_bench.datasets` whose name is the set's
and whose object is a `DatasetSpec`:

    [project.entry-points."sdssl_bench.datasets"]
    mushrooms = "mushrooms.benchmark:SPEC"

Like this package's specs the module should import nothing heavy: listings and help load it.
"""

from functools import cache
from typing import TYPE_CHECKING

from sdssl_bench.datasets.specs.fine_grained import FINE_GRAINED
from sdssl_bench.datasets.specs.general import CIFAR, IMAGENET
from sdssl_bench.datasets.specs.own import OWN, own_has, own_source
from sdssl_bench.datasets.specs.retrieval_video import COPYDAYS, DAVIS, ROXFORD, RPARIS
from sdssl_bench.datasets.specs.specification import DatasetSpec
from sdssl_bench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "sdssl_bench.datasets"

_BUILT_IN = {
    one.name: one for one in (*CIFAR, *FINE_GRAINED, IMAGENET, DAVIS, ROXFORD, RPARIS, COPYDAYS)
}


def names(kind: str | None = None) -> tuple[str, ...]:
    """All sets, or those of one of `spec.KINDS`; built-in ones first.

    Raises:
        UsageError: if a package adds a set under a name that is taken, or one that is none.
    """
    known = (*_BUILT_IN, *_plugins())
    return known if kind is None else tuple(name for name in known if spec(name).kind == kind)


def spec(name: str, *, kind: str | None = None) -> DatasetSpec:
    """The entry of a set, of one kind if that is given.

    Raises:
        UsageError: for an unknown name, or as `names`.
    """
    plugins = _plugins()
    found = (
        _BUILT_IN[name] if name in _BUILT_IN else _load(plugins[name]) if name in plugins else None
    )
    if found is None or kind not in (None, found.kind):
        own = [one.form for one in OWN.values()] if kind in (None, "classification") else []
        raise UsageError(did_you_mean("dataset", name, [*names(kind), *own]))
    return found


def layout(name: str) -> str:
    """The expected tree of a set, its size and how it is officially obtained.

    Raises:
        UsageError: for an unknown name.
    """
    source = own_source(name) or OWN.get(name)
    return source.layout if source else spec(name).layout


def kind_of(name: str) -> str:
    """What a set is made for, one of `specification.KINDS`; a folder of videos is known by its parts.

    Raises:
        UsageError: for an unknown name.
    """
    if own_source(name) is None:
        return spec(name).kind
    videos = own_has(name, "JPEGImages") and not own_has(name, "train")
    return "video" if videos else "classification"


@cache
def _plugins() -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in _BUILT_IN or point.name in found:
            owner = "this suite" if point.name in _BUILT_IN else _package(found[point.name])
            raise UsageError(
                f"Two datasets are called '{point.name}': one of {owner}, one of {_package(point)}. "
                "Uninstall that package or rename its entry point."
            )
        found[point.name] = point
    return found


@cache
def _load(point: "EntryPoint") -> DatasetSpec:
    try:
        loaded = point.load()
    except Exception as error:  # Whatever a foreign module raises.
        found = f"{type(error).__name__}: {error}"
    else:
        if isinstance(loaded, DatasetSpec) and loaded.name == point.name:
            return loaded
        called = f" called '{loaded.name}'" if isinstance(loaded, DatasetSpec) else ""
        found = f"something of type {type(loaded).__name__}{called}"
    raise UsageError(
        f"Expected a DatasetSpec called '{point.name}' at {point.value}, which {_package(point)} "
        f"names, found {found}. Mend or uninstall that package."
    )


def _package(point: "EntryPoint") -> str:
    return f"the package {point.dist.name}" if point.dist else f"the package of {point.value}"
