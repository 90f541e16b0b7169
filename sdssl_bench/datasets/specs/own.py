"""Names that say themselves where the images are, `SCHEME:ADDRESS`, as a table: one entry a scheme.

A reader is named by text, "module:function", called with the address, and returns a `listing.OwnSet`.
"""

from dataclasses import dataclass
from pathlib import Path

_READERS = "sdssl_bench.datasets.readers"


@dataclass(frozen=True)
class OwnSource:
    """One way to give a set of one's own.

    Attributes:
        scheme: what stands before the colon.
        form: the whole name, as help shows it.
        summary: for lists, in a few words.
        reader: "module:function".
        layout: what `data layout` prints.
        holds: parts that every set of this kind has, see `Task.folder_has`; of a folder they are looked up.
    """

    scheme: str
    form: str
    summary: str
    reader: str
    layout: str
    holds: tuple[str, ...] = ()


FOLDER = OwnSource(
    "folder",
    "folder:PATH",
    "your own images: PATH/train/CLASS/*, PATH/val|test/CLASS/*",
    f"{_READERS}.folders:read_own_folder",
    """folder:PATH: your own images, one folder per class.
  PATH/
    train/CLASS/*.jpg ..        classes = sorted folder names
    test/CLASS/*.jpg ..         or val/; test/ is used if both are there
Files: jpg, jpeg, png, bmp, gif, ppm, pgm, tif, tiff, webp, in the class folder or below it.
Hidden files and folders are ignored; symbolic links are followed.""",
)
CSV = OwnSource(
    "csv",
    "csv:FILE?image=path&label=class&split=fold",
    "a table of paths, labels and splits (CSV, TSV, parquet)",
    f"{_READERS}.tables:read_own_table",
    """csv:FILE?image=COLUMN&label=COLUMN&split=COLUMN: images, labels and splits in a table.
  FILE is CSV, TSV (.tsv, .tab, .txt) or parquet, compressed or not; quote the name in a shell.
  image=path      column of paths, relative to FILE's folder; or made of columns: image=jpg/{id}.jpg
  label=class     column of classes; a whole number or text, never empty
  split=fold      column of splits: train (or training), and test (or val, valid, validation if no
                  row says test); other rows are left out and counted
  test=4          value of the split column that is tested on, e.g. a fold; may be repeated
  train=1         likewise; without it all other rows are trained on
Classes = those of the training rows, sorted. A row without path or label, a file that is missing or
empty, a path that comes twice and a test class that train lacks are errors that name rows.""",
    holds=("train",),
)
HF = OwnSource(
    "hf",
    "hf:ORG/NAME?split=..&image=..&label=..@revision",
    "a dataset of the Hugging Face hub, or a folder of that library",
    f"{_READERS}.hub:read_own_hub",
    """hf:ORG/NAME?split=TEST&image=COLUMN&label=COLUMN@revision: a classification set of the Hugging Face
hub through the library datasets (pip install 'sdssl-bench[hf]'); quote the name in a shell.
  ORG/NAME        or a folder: of save_to_disk, or of parquet files, images, ... that the library reads
  split=test      the split that is tested on; split=TRAIN:TEST names both, with slices such as
                  train[:80%]:train[80%:]. Default: train, and the first of test, validation, val,
                  valid, dev
  image=, label=  columns; default: the only one of images, the only one of class labels
  config=NAME     configuration, where a dataset has several
  @revision       commit, tag or branch; the commit is recorded
Downloads go to the library's cache; with HF_HUB_OFFLINE=1 only that is used.""",
    holds=("train",),
)
OWN = {one.scheme: one for one in (FOLDER, CSV, HF)}


def own_source(name: str) -> OwnSource | None:
    """The source of a name with a scheme; None for the name of a set.

    >>> own_source("folder:x").form, own_source("cifar10")
    ('folder:PATH', None)
    """
    scheme, colon, _ = name.partition(":")
    return OWN.get(scheme) if colon else None


def own_forms(part: str) -> list[str]:
    """How sets of one's own that hold a part are named; none for ""."""
    return [one.form for one in OWN.values() if part in one.holds or (part and one is FOLDER)]


def own_has(name: str, part: str) -> bool:
    """Whether a set of one's own holds a part, such as "train" or "JPEGImages"."""
    source = own_source(name)
    if source is None or not part:
        return False
    address = Path(name.partition(":")[2]).expanduser()
    return part in source.holds or (source is FOLDER and (address / part).is_dir())
