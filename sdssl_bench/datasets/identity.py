"""What a record says of a classification set."""

from sdssl_bench.datasets.base import ClassificationData
from sdssl_bench.records import digest
from sdssl_bench.task import DatasetInfo


def describe(data: ClassificationData) -> DatasetInfo:
    """Identity of both splits: the same images and labels give the same fingerprint anywhere."""
    splits = {"train": data.train, "test": data.test}
    prints = {name: split.fingerprint for name, split in splits.items()}
    return DatasetInfo(
        name=data.name,
        variant=data.variant,
        fingerprint=digest(prints),
        splits={name: len(split) for name, split in splits.items()},
        details={
            "num_classes": data.train.num_classes,
            "headline": data.headline,
            "fingerprints": prints,
            **data.notes,
        },
    )
