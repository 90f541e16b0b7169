"""The seven fine-grained classification sets as a table; sources as in specs_general."""

from sdssl_bench.datasets.specs.specification import DatasetSpec, Miniature

_MINI = "sdssl_bench.datasets.mini.classification"
_VGG = "https://www.robots.ox.ac.uk/~vgg/data"

_PETS_DAMAGED = (
    *("Egyptian_Mau_14", "Egyptian_Mau_139", "Egyptian_Mau_145", "Egyptian_Mau_156"),
    *("Egyptian_Mau_167", "Egyptian_Mau_177", "Egyptian_Mau_186", "Egyptian_Mau_191"),
    *("Abyssinian_5", "Abyssinian_34", "chihuahua_121", "beagle_116"),
)

FINE_GRAINED = (
    DatasetSpec(
        name="flowers",
        title="Oxford Flowers-102",
        heading="Flowers",
        kind="classification",
        reader="sdssl_bench.datasets.readers.mat_sets:read_flowers",
        num_classes=102,
        sizes={"train": 2_040, "test": 6_149},
        val=1_020,
        headline="mean_per_class",
        citation="Nilsback and Zisserman 2008",
        licence="none stated; research use",
        home=f"{_VGG}/flowers/102/",
        archives={
            "102flowers.tgz": "52808999861908f626f3c1f4e79d11fa",
            "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
            "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
        },
        downloads=dict.fromkeys(
            (
                f"{_VGG}/flowers/102/102flowers.tgz",
                f"{_VGG}/flowers/102/imagelabels.mat",
                f"{_VGG}/flowers/102/setid.mat",
            ),
            "flowers-102",
        ),
        folders=("flowers-102", "flowers102", "flowers", "oxford-flowers-102", "102flowers", ""),
        anchors=("setid.mat", "imagelabels.mat"),
        tree="""
flowers-102/
  jpg/image_00001.jpg .. image_08189.jpg
  imagelabels.mat
  setid.mat""",
        file_md5={
            "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
            "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
        },
        notes=("Train is train + val (2,040), as MoCo v3 and the SDSSL code have it.",),
        mini=Miniature("flowers-102", f"{_MINI}:write_flowers", 3, 10, 12, 8),
    ),
    DatasetSpec(
        name="pets",
        title="Oxford-IIIT Pets",
        heading="Pets",
        kind="classification",
        reader="sdssl_bench.datasets.readers.list_sets:read_pets",
        num_classes=37,
        sizes={"train": 3_680, "test": 3_669},
        headline="mean_per_class",
        citation="Parkhi et al. 2012",
        licence="CC BY-SA 4.0; copyright of the photographs with their owners",
        home=f"{_VGG}/pets/",
        archives={
            "images.tar.gz": "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            "annotations.tar.gz": "95a8c909bbe2e81eed6a22bccdf3f68f",
        },
        downloads={
            f"{_VGG}/pets/data/images.tar.gz": "oxford-iiit-pet",
            f"{_VGG}/pets/data/annotations.tar.gz": "oxford-iiit-pet",
        },
        folders=("oxford-iiit-pet", "oxford-iiit-pets", "oxford_pets", "oxford-pets", "pets", ""),
        anchors=("annotations/trainval.txt", "annotations/test.txt", "annotations/list.txt"),
        tree="""
oxford-iiit-pet/
  images/Abyssinian_1.jpg ..
  annotations/trainval.txt      3,680 lines: name, class id 1..37, species, breed id
  annotations/test.txt          3,669 lines""",
        notes=(
            "A few official .jpg files are GIF or PNG (read as what they are) or damaged; of the 12 "
            "known ones a JPEG that ends early is decoded as far as it goes.",
        ),
        # tensorflow/models#3134 lists them.
        tolerated=frozenset(f"images/{stem}.jpg" for stem in _PETS_DAMAGED),
        mini=Miniature("oxford-iiit-pet", f"{_MINI}:write_pets", 0, 8, 12, 8),
    ),
    DatasetSpec(
        name="cub",
        title="CUB-200-2011",
        heading="CUB",
        kind="classification",
        reader="sdssl_bench.datasets.readers.list_sets:read_cub",
        num_classes=200,
        sizes={"train": 5_994, "test": 5_794},
        headline="top1",
        citation="Wah et al. 2011, The Caltech-UCSD Birds-200-2011 dataset",
        licence="non-commercial research",
        home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        archives={"CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78"},
        steps=(
            "# Fetch CUB_200_2011.tgz from the page above, then:",
            "tar xf CUB_200_2011.tgz",
        ),
        folders=("CUB_200_2011", "CUB_200_2011/CUB_200_2011", "cub/CUB_200_2011", "cub", ""),
        anchors=("images.txt", "train_test_split.txt"),
        tree="""
CUB_200_2011/
  images/001.Black_footed_Albatross/*.jpg ..   200 folders
  images.txt  image_class_labels.txt  train_test_split.txt  classes.txt""",
        notes=(
            "The 2011 version (11,788 images), as everybody uses, though the paper cites the 2010 "
            "report (CUB-200, 6,033 images).",
            "Some images are also in ImageNet.",
        ),
        mini=Miniature("CUB_200_2011", f"{_MINI}:write_cub", 7, 8, 12, 8),
    ),
    DatasetSpec(
        name="aircraft",
        title="FGVC-Aircraft",
        heading="Aircraft",
        kind="classification",
        reader="sdssl_bench.datasets.readers.list_sets:read_aircraft",
        num_classes=100,
        sizes={"train": 6_667, "test": 3_333},
        val=3_333,
        headline="mean_per_class",
        citation="Maji et al. 2013",
        licence="non-commercial research",
        home=f"{_VGG}/fgvc-aircraft/",
        archives={"fgvc-aircraft-2013b.tar.gz": ""},
        downloads={f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz": ""},
        folders=(
            *("fgvc-aircraft-2013b/data", "fgvc-aircraft-2013b/fgvc-aircraft-2013b/data"),
            *("aircraft/data", "fgvc-aircraft-2013b", "aircraft", "data", ""),
        ),
        anchors=("variants.txt", "images_variant_trainval.txt", "images_variant_test.txt"),
        tree="""
fgvc-aircraft-2013b/data/
  images/0034309.jpg ..         10,000 images
  variants.txt                  100 classes
  images_variant_trainval.txt  images_variant_val.txt  images_variant_test.txt""",
        notes=(
            "The 100 variants; train is train + val (6,667).",
            "The copyright banner (bottom 20 pixels) is not cropped.",
        ),
        mini=Miniature(
            "fgvc-aircraft-2013b",
            "sdssl_bench.datasets.mini.classification:write_aircraft",
            10,
            10,
            12,
            8,
        ),
    ),
    DatasetSpec(
        name="cars",
        title="Stanford Cars",
        heading="Cars",
        kind="classification",
        reader="sdssl_bench.datasets.readers.mat_sets:read_cars",
        num_classes=196,
        sizes={"train": 8_144, "test": 8_041},
        headline="top1",
        citation="Krause et al. 2013",
        licence="non-commercial research",
        home="https://ai.stanford.edu/~jkrause/cars/car_dataset.html (gone; copies are on Kaggle)",
        archives={
            "cars_train.tgz": "",
            "cars_test.tgz": "",
            "car_devkit.tgz": "",
            "cars_test_annos_withlabels.mat": "",
        },
        steps=(
            "# The official page is gone. From a copy of the four files:",
            "mkdir -p stanford_cars",
            "for f in cars_train.tgz cars_test.tgz car_devkit.tgz; do tar xf $f -C stanford_cars; done",
            "cp cars_test_annos_withlabels.mat stanford_cars/",
        ),
        folders=("stanford_cars", "stanford-cars", "StanfordCars", "cars", ""),
        anchors=("devkit/", "car_devkit/", "cars_annos.mat", "cars_train/", "cars_test/"),
        tree="""
stanford_cars/
  cars_train/00001.jpg ..       8,144 images (cars_train/cars_train/ as on Kaggle too)
  cars_test/00001.jpg ..        8,041 images
  devkit/cars_meta.mat  devkit/cars_train_annos.mat
  cars_test_annos_withlabels.mat  (devkit/cars_test_annos.mat has no labels)
or
  car_ims/000001.jpg ..         16,185 images
  cars_annos.mat""",
        mini=Miniature("stanford_cars", f"{_MINI}:write_cars", 13, 8, 12, 8),
    ),
    DatasetSpec(
        name="dogs",
        title="Stanford Dogs",
        heading="Dogs",
        kind="classification",
        reader="sdssl_bench.datasets.readers.mat_sets:read_dogs",
        num_classes=120,
        sizes={"train": 12_000, "test": 8_580},
        headline="top1",
        citation="Khosla et al. 2011",
        licence="ImageNet terms, non-commercial research",
        home="http://vision.stanford.edu/aditya86/ImageNetDogs/",
        archives={"images.tar": "", "lists.tar": ""},
        steps=(
            "# Fetch images.tar and lists.tar from the page above, then:",
            "mkdir -p stanford_dogs/lists",
            "tar xf images.tar -C stanford_dogs && tar xf lists.tar -C stanford_dogs/lists",
        ),
        folders=("stanford_dogs", "stanford-dogs", "StanfordDogs", "dogs", ""),
        anchors=("train_list.mat", "test_list.mat", "lists/train_list.mat", "lists/test_list.mat"),
        tree="""
stanford_dogs/
  Images/n02085620-Chihuahua/*.jpg ..   120 folders
  lists/train_list.mat  lists/test_list.mat   (or directly in stanford_dogs/)""",
        notes=(
            "The images are ImageNet train images: no transfer test of an encoder that was "
            "pretrained on ImageNet.",
        ),
        mini=Miniature("stanford_dogs", f"{_MINI}:write_dogs", 5, 6, 12, 8),
    ),
    DatasetSpec(
        name="nabirds",
        title="NABirds",
        kind="classification",
        reader="sdssl_bench.datasets.readers.list_sets:read_nabirds",
        num_classes=555,
        sizes={"train": 23_929, "test": 24_633},
        headline="top1",
        citation="Van Horn et al. 2015",
        licence="Cornell Lab of Ornithology terms, non-commercial research",
        home="https://dl.allaboutbirds.org/nabirds",
        archives={"nabirds.tar.gz": "df21a9e4db349a14e2b08adfd45873bd"},
        steps=(
            "# Accept the terms at the page above, fetch nabirds.tar.gz, then:",
            "tar xf nabirds.tar.gz",
        ),
        folders=("nabirds", "nabirds/nabirds", "NABirds", ""),
        anchors=("hierarchy.txt",),
        tree="""
nabirds/
  images/0295/*.jpg ..          555 folders
  images.txt  image_class_labels.txt  train_test_split.txt  classes.txt  hierarchy.txt""",
        notes=("Class id = rank of the official node number, numerically, among the 555 in use.",),
        mini=Miniature("nabirds", f"{_MINI}:write_nabirds", 16, 8, 12, 8),
    ),
)
