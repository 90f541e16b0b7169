"""Numbers of others: the SDSSL paper's tables and published checkpoints. Nothing here was measured.

results/reference/paper.csv and published.csv, every row with its source; results/README.md says what the
columns hold. An installed package carries the same files as sdssl_bench/reference/.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from sdssl_bench.errors import DataError

CONTRADICTION = (
    "The paper's Tables 1 and 4 contradict each other: the ImageNet k-NN cells of BYOL and MoCo v3 "
    "(ViT-S/16) are exchanged (Table 1: BYOL 66.0 / 67.2, MoCo v3 66.5 / 68.0; Table 4: BYOL 66.5 / 68.0, "
    "MoCo v3 66.0 / 67.2)."
)
RESNET_50 = (
    "Table 7's baseline, MoCo v3 on ResNet-50 for 200 epochs, has 60.3 linear; MoCo v3's own ResNet-50 has "
    "68.9 after 100 epochs and 72.8 after 300. A faithful baseline will not end at 60.3."
)


@dataclass(frozen=True)
class PaperCell:
    """One number of the SDSSL paper.

    Attributes:
        table: "1" to "7", or "text".
        framework: "SimCLR", "BYOL" or "MoCo v3".
        variant: "baseline", "SD", or what an ablation changed.
        arch: "ViT-S/16", ...; "unstated" in Tables 5 and 6.
        task: name of the task of this suite.
        dataset: name of the dataset of this suite; "average" for the paper's averages.
        metric: "top1", "M/mAP", ...; "accuracy" where the paper does not say which.
        layer: "last", "best", "stage1", ...
        value: a fraction.
        source: where it stands.
        remark: what is to know about it.
    """

    table: str
    framework: str
    variant: str
    arch: str
    task: str
    dataset: str
    metric: str
    layer: str
    value: float
    source: str
    remark: str

    @property
    def contradicted(self) -> bool:
        """Whether another table of the paper gives another number."""
        return self.remark.startswith("contradicts")


@dataclass(frozen=True)
class Published:
    """One number of a released checkpoint.

    Attributes:
        model: of the release.
        arch: "ViT-S/16", ...
        pretraining: the images it was trained on.
        task: name of the task of this suite.
        dataset: name of the dataset, of this suite where it has it.
        metric: as reported.
        setting: what its protocol had of its own.
        value: a fraction.
        source: repository or paper.
        status: "read": in that source, by whoever wrote the row.
    """

    model: str
    arch: str
    pretraining: str
    task: str
    dataset: str
    metric: str
    setting: str
    value: float
    source: str
    status: str


def method_name(framework: str, variant: str) -> str:
    """The paper's name of a method, and what an ablation changed.

    >>> method_name("BYOL", "SD"), method_name("BYOL", "baseline")
    ('SD-BYOL', 'BYOL')
    >>> method_name("MoCo v3", "SD-ratio_anneal"), method_name("MoCo v3", "baseline+pred_loss")
    ('SD-MoCo v3 -ratio anneal', 'MoCo v3 +pred loss')
    """
    start = "SD" if variant.startswith("SD") else "baseline"
    change = variant.removeprefix(start).replace("_", " ").strip()
    return f"{'SD-' if start == 'SD' else ''}{framework}{change and ' '}{change}"


def reference_folder() -> Path:
    """Where the files lie: in the package when installed, in results/reference/ of a checkout.

    Raises:
        DataError: if they are in neither place.
    """
    here = Path(__file__).resolve().parents[1]
    places = (here / "reference", here.parent / "results" / "reference")
    for folder in places:
        if (folder / "paper.csv").is_file():
            return folder
    raise DataError(
        f"Expected the reported numbers in {' or '.join(map(str, places))}, found neither. Install "
        "sdssl-bench again."
    )


def paper_cells() -> list[PaperCell]:
    """All numbers of the paper's tables and text, in the paper's order."""
    return [PaperCell(**{**row, "value": float(row["value"])}) for row in _read("paper.csv")]  # type: ignore[arg-type]


def published() -> list[Published]:
    """All numbers of released checkpoints."""
    return [Published(**{**row, "value": float(row["value"])}) for row in _read("published.csv")]  # type: ignore[arg-type]


def _read(name: str) -> list[dict[str, str]]:
    with (reference_folder() / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
