"""What describes one classification set; plain data, imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DatasetSpec:
    """What an official, complete copy of a set is and where it comes from.

    Attributes:
        name: as the command line takes it.
        title: as a table shows it.
        num_classes: C.
        sizes: images per split; "train" is what probes train on.
        headline: "top1" or "mean_per_class".
        citation: paper.
        licence: terms, in a few words.
        home: official page.
        archives: official file name -> md5, "" where none is published.
        folders: where below the data root it may lie, in order of preference; "" is the root itself.
        anchors: files or folders ("x/") of which one shows that a folder is this set.
        tree: the expected tree, as printed.
        val: images of the train split that are officially validation.
        file_md5: md5 of extracted list files, where published.
        notes: facts that belong beside every number.
        tolerated: image files that are damaged in the official archive.
    """

    name: str
    title: str
    num_classes: int
    sizes: Mapping[str, int]
    headline: str
    citation: str
    licence: str
    home: str
    archives: Mapping[str, str]
    folders: tuple[str, ...]
    anchors: tuple[str, ...]
    tree: str
    val: int = 0
    file_md5: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tolerated: frozenset[str] = frozenset()
