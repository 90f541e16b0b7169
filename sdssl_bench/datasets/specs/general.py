"""CIFAR-10, CIFAR-100 and ImageNet-1k as a table.

Splits and headline metrics as in Kornblith et al. (2019) and the code that follows them; counts and
checksums as their authors publish them.
"""

from sdssl_bench.datasets.specs.specification import DatasetSpec, Miniature

_MINI = "sdssl_bench.datasets.mini.classification"
_CIFAR_FILES = "https://www.cs.toronto.edu/~kriz"
_CIFAR_HOME = f"{_CIFAR_FILES}/cifar.html"

CIFAR = (
    DatasetSpec(
        name="cifar10",
        title="CIFAR-10",
        kind="classification",
        reader="sdssl_bench.datasets.readers.cifar:read_cifar10",
        num_classes=10,
        sizes={"train": 50_000, "test": 10_000},
        headline="top1",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        licence="none stated; research use",
        home=_CIFAR_HOME,
        archives={
            "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
            "cifar-10-binary.tar.gz": "",
        },
        downloads={f"{_CIFAR_FILES}/cifar-10-python.tar.gz": ""},
        folders=(
            "cifar-10-batches-py",
            "cifar-10-batches-bin",
            *("cifar10/cifar-10-batches-py", "cifar10/cifar-10-batches-bin"),
            *("cifar-10/cifar-10-batches-py", "CIFAR10/cifar-10-batches-py"),
            *("cifar10", "cifar-10", ""),
        ),
        anchors=(
            *("batches.meta", "data_batch_1", "test_batch"),
            *("batches.meta.txt", "data_batch_1.bin", "test_batch.bin"),
        ),
        tree="""
cifar-10-batches-py/            or cifar-10-batches-bin/ (data_batch_1.bin .. 5.bin,
  batches.meta                     test_batch.bin, batches.meta.txt)
  data_batch_1 .. data_batch_5  10,000 images each
  test_batch                    10,000 images""",
        file_md5={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        mini=Miniature(
            "cifar-10-batches-py",
            "sdssl_bench.datasets.mini.classification:write_cifar10",
            0,
            10,
            20,
            10,
        ),
    ),
    DatasetSpec(
        name="cifar100",
        title="CIFAR-100",
        kind="classification",
        reader="sdssl_bench.datasets.readers.cifar:read_cifar100",
        num_classes=100,
        sizes={"train": 50_000, "test": 10_000},
        headline="top1",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        licence="none stated; research use",
        home=_CIFAR_HOME,
        archives={
            "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-binary.tar.gz": "",
        },
        downloads={f"{_CIFAR_FILES}/cifar-100-python.tar.gz": ""},
        folders=(
            "cifar-100-python",
            "cifar-100-binary",
            *("cifar100/cifar-100-python", "cifar100/cifar-100-binary"),
            *("cifar-100/cifar-100-python", "CIFAR100/cifar-100-python"),
            *("cifar100", "cifar-100", ""),
        ),
        anchors=("meta", "fine_label_names.txt", "train.bin"),
        tree="""
cifar-100-python/               or cifar-100-binary/ (train.bin, test.bin,
  meta                             fine_label_names.txt)
  train                         50,000 images
  test                          10,000 images""",
        file_md5={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        notes=("The 100 fine classes.",),
        mini=Miniature(
            "cifar-100-python",
            "sdssl_bench.datasets.mini.classification:write_cifar100",
            0,
            20,
            12,
            6,
        ),
    ),
)

IMAGENET = DatasetSpec(
    name="imagenet",
    title="ImageNet-1k",
    heading="ImageNet",
    kind="classification",
    reader="sdssl_bench.datasets.readers.imagenet:read_imagenet",
    num_classes=1000,
    sizes={"train": 1_281_167, "test": 50_000},
    headline="top1",
    citation="Russakovsky et al. 2015 (ILSVRC 2012)",
    licence="ImageNet terms, non-commercial research",
    home="https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (registration)",
    archives={
        "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
        "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
        "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
    },
    steps=(
        "# Register at the page above, accept the terms, fetch the three archives, then:",
        "mkdir -p imagenet/train imagenet/val",
        "tar xf ILSVRC2012_img_train.tar -C imagenet/train && tar xf ILSVRC2012_img_val.tar -C imagenet/val",
        "(cd imagenet/train; for f in *.tar; do mkdir ${f%.tar}; tar xf $f -C ${f%.tar}; rm $f; done)",
        "tar xf ILSVRC2012_devkit_t12.tar.gz -C imagenet",
        "# or Kaggle's competition imagenet-object-localization-challenge, unpacked as it is",
    ),
    folders=(
        *("imagenet", "ILSVRC2012", "imagenet-1k", "ImageNet", "ILSVRC/Data/CLS-LOC"),
        "imagenet/ILSVRC/Data/CLS-LOC",
        "imagenet-object-localization-challenge/ILSVRC/Data/CLS-LOC",
        "",
    ),
    anchors=("train/", "val/", "ILSVRC2012_img_train/", "ILSVRC2012_img_val/"),
    tree="""
imagenet/
  train/n01440764/*.JPEG ..     1,000 folders, 1,281,167 images
  val/n01440764/*.JPEG ..       1,000 folders, 50,000 images, or as the archive extracts:
  val/ILSVRC2012_val_00000001.JPEG ..     with the labels in one of
  ILSVRC2012_devkit_t12/data/   meta.mat and ILSVRC2012_validation_ground_truth.txt
  LOC_val_solution.csv          Kaggle's: beside ILSVRC/, of which Data/CLS-LOC/ is imagenet/""",
    notes=("Test is the official validation split.",),
    # The largest train folder has 1,300.
    fewest={"train": 732, "test": 50},
    mini=Miniature("imagenet", f"{_MINI}:write_imagenet", 2, 12, 16, 8),
)
