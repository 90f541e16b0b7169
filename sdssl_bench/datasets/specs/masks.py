"""The sets whose images have a mask of class ids: PASCAL VOC 2012 and ADE20K, in their official layouts."""

from sdssl_bench.datasets.specs.specification import DatasetSpec, Miniature

_READERS = "sdssl_bench.datasets.readers.mask_layouts"
_WRITERS = "sdssl_bench.datasets.mini.masks"

VOC = DatasetSpec(
    name="voc2012",
    title="PASCAL VOC 2012 segmentation",
    heading="VOC 2012",
    kind="masks",
    sizes={"train": 1464, "test": 1449},
    num_classes=21,
    holds="21 classes with the background, 1,464 train, 1,449 val images with masks",
    citation="Everingham et al. 2012, The PASCAL Visual Object Classes Challenge 2012",
    licence="Flickr photographs, research use",
    home="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    archives={"VOCtrainval_11-May-2012.tar": "6cd6e144f989b92b3379bac3b3de84fd"},
    downloads={
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar": "",
    },
    reader=f"{_READERS}:read_voc",
    folders=("VOCdevkit/VOC2012", "VOC2012", ""),
    anchors=("SegmentationClass/",),
    tree="""
VOCdevkit/VOC2012/
  ImageSets/Segmentation/{train,val}.txt   1,464 and 1,449 names, a line each
  JPEGImages/2007_000032.jpg ..            images
  SegmentationClass/2007_000032.png ..     palette masks: 0 background, 1..20 classes, 255 void""",
    notes=(
        "folder:PATH is any other set in this layout; its classes are the ids in its masks, 0..C-1.",
        "train is the official list. Papers often take trainaug, 10,582 images with masks of SBD.",
    ),
    mini=Miniature("VOCdevkit", f"{_WRITERS}:write_voc", 0, 5, 4, 2),
)

ADE = DatasetSpec(
    name="ade20k",
    title="ADE20K, scene parsing challenge 2016",
    heading="ADE20K",
    kind="masks",
    sizes={"train": 20_210, "test": 2_000},
    num_classes=150,
    holds="150 classes, 20,210 training, 2,000 validation images with masks",
    citation="Zhou et al. 2017, Scene parsing through ADE20K dataset",
    licence="research use; annotations BSD-3",
    home="http://sceneparsing.csail.mit.edu/",
    archives={"ADEChallengeData2016.zip": "7328b3957e407ddae1d3cbf487f149ef"},
    downloads={
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip": "",
    },
    reader=f"{_READERS}:read_ade",
    folders=("ADEChallengeData2016", "ade20k/ADEChallengeData2016", "ade20k", ""),
    anchors=("annotations/training/",),
    tree="""
ADEChallengeData2016/
  images/training/ADE_train_00000001.jpg ..       20,210 images
  images/validation/ADE_val_00000001.jpg ..       2,000 images
  annotations/training/ADE_train_00000001.png ..  masks of the same names: 1..150 classes, 0 other
  annotations/validation/ADE_val_00000001.png ..""",
    mini=Miniature("ADEChallengeData2016", f"{_WRITERS}:write_ade", 7, 5, 4, 2),
)
