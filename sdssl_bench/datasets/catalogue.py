"""All sets by name: those of the suite, then those that other packages add.

Another package adds a set by an entry point of the group `sdssl_bench.datasets` whose name is the set's
and whose object is a `DatasetSpec`:

    [project.entry-points."sdssl_bench.datasets"]
    mushrooms = "mushrooms.benchmark:SPEC"

or by a file that holds a `DatasetSpec` and is given to --include.
Like this package's specs the module should import nothing heavy: listings and help load it.
"""

from typing import TYPE_CHECKING, Any

from sdssl_bench.datasets.specs.fine_grained import FINE_GRAINED
from sdssl_bench.datasets.specs.general import CIFAR, IMAGENET
from sdssl_bench.datasets.specs.masks import ADE, VOC
from sdssl_bench.datasets.specs.own import OWN, own_has, own_source
from sdssl_bench.datasets.specs.retrieval_video import COPYDAYS, DAVIS, ROXFORD, RPARIS
from sdssl_bench.datasets.specs.specification import FOLDERS, DatasetSpec
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.system import load_plugin, plugins

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "sdssl_bench.datasets"

_BUILT_IN = {
    one.name: one
    for one in (*CIFAR, *FINE_GRAINED, IMAGENET, DAVIS, ROXFORD, RPARIS, COPYDAYS, VOC, ADE)
}


def names(kind: str | None = None) -> tuple[str, ...]:
    """All sets, or those of one of `spec.KINDS`; built-in ones first.

    Raises:
        UsageError: if a package adds a set under a name that is taken, or one that is none.
    """
    known = (*_BUILT_IN, *_plugins())
    return known if kind is None else tuple(name for name in known if spec(name).kind == kind)


class _SetsOf:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get__(self, task: object, owner: object = None) -> tuple[str, ...]:
        return names(self.kind)


def sets_of(kind: str) -> Any:
    """For `Task.datasets`: all sets of a kind, those too that are added after the task's file was read."""
    return _SetsOf(kind)


def spec(name: str, *, kind: str | None = None) -> DatasetSpec:
    """The entry of a set, of one kind if that is given.

    Raises:
        UsageError: for an unknown name, or as `names`.
    """
    added = _plugins()
    found = _BUILT_IN.get(name)
    if name in added:
        found = load_plugin(added[name], DatasetSpec)
    if found is None or kind not in (None, found.kind):
        forms = [one.form for one in OWN.values()] if kind in (None, "classification") else []
        raise UsageError(did_you_mean("dataset", name, [*names(kind), *forms]))
    return found


def layout(name: str) -> str:
    """The expected tree of a set, its size and how it is officially obtained.

    Raises:
        UsageError: for an unknown name.
    """
    source = own_source(name) or OWN.get(name)
    return source.layout if source else spec(name).layout


def kind_of(name: str) -> str:
    """What a set is made for, one of `specification.KINDS`; a folder is known by its parts.

    Raises:
        UsageError: for an unknown name.
    """
    if own_source(name) is None:
        return spec(name).kind
    return next((kind for kind, part in FOLDERS.items() if own_has(name, part)), "classification")


def _plugins() -> dict[str, "EntryPoint"]:
    return plugins(GROUP, tuple(_BUILT_IN), "dataset")
