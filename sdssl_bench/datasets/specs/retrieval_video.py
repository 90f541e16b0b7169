"""The sets that are no classification sets as a table: revisited Oxford and Paris, Copydays, DAVIS."""

from sdssl_bench.datasets.specs.specification import DatasetSpec, Miniature

_MINI_DAVIS = "sdssl_bench.datasets.mini.davis"
_MINI_RETRIEVAL = "sdssl_bench.datasets.mini.retrieval"
_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_REVISITED = "http://cmp.felk.cvut.cz/revisitop/data"


def _revisited(
    name: str, *, city: str, size: int, images: str, archives: tuple[str, ...], mini: Miniature
) -> DatasetSpec:
    """The two differ in their numbers and archives only."""
    return DatasetSpec(
        name=name,
        title=f"Revisited {city}",
        heading="ROxford5k" if city == "Oxford" else "RParis6k",
        kind="retrieval",
        sizes={"queries": 70, "database": size},
        holds=f"{size:,} database images, 70 queries",
        citation="Radenovic et al. 2018, Revisiting Oxford and Paris",
        licence="Flickr photographs, research use",
        home=f"http://cmp.felk.cvut.cz/revisitop/ (ground truth) and {_VGG}/{images}/ (images)",
        archives={f"gnd_{name}.pkl": "", **dict.fromkeys(archives, "")},
        downloads={f"{_REVISITED}/datasets/{name}/gnd_{name}.pkl": name},
        steps=(
            f"# Fetch {' and '.join(archives)} from {_VGG}/{images}/, then:",
            f"mkdir -p {name}/jpg",
            *(f"tar xf {archive} -C {name}/jpg" for archive in archives),
        ),
        folders=(
            *(name, f"revisitop/{name}", f"datasets/{name}", f"revisitop/data/datasets/{name}"),
            "",
        ),
        anchors=(f"gnd_{name}.pkl", f"gnd_{name}.json"),
        tree=f"""
{name}/
  gnd_{name}.pkl       ground truth; or gnd_{name}.json ('sdssl-bench data convert-gnd')
  jpg/IMAGE.jpg              all images, flat or in folders""",
        notes=(
            "The -v1 archives (June 2022) have blurred faces; older published numbers used the "
            "originals.",
        ),
        mini=mini,
    )


JPEG_QUALITIES = (3, 5, 8, 10, 15, 20, 30, 50, 75)
CROP_PERCENTS = (10, 15, 20, 30, 40, 50, 60, 70, 80)
_NUM_ORIGINALS, _NUM_STRONG = 157, 229
_ONE_EACH = (
    *(f"jpegqual/{quality}" for quality in JPEG_QUALITIES),
    *(f"crops/{percent}" for percent in CROP_PERCENTS),
)

ROXFORD = _revisited(
    "roxford5k",
    city="Oxford",
    size=4993,
    images="oxbuildings",
    archives=("oxbuild_images-v1.tgz",),
    mini=Miniature("roxford5k", f"{_MINI_RETRIEVAL}:write_roxford5k", 4, 8, 9, 1),
)

RPARIS = _revisited(
    "rparis6k",
    city="Paris",
    size=6322,
    images="parisbuildings",
    archives=("paris_1-v1.tgz", "paris_2-v1.tgz"),
    mini=Miniature("rparis6k", f"{_MINI_RETRIEVAL}:write_rparis6k", 14, 6, 10, 2),
)

COPYDAYS = DatasetSpec(
    name="copydays",
    title="INRIA Copydays",
    heading="Copydays",
    kind="copies",
    sizes={
        "original": _NUM_ORIGINALS,
        "strong": _NUM_STRONG,
        **dict.fromkeys(_ONE_EACH, _NUM_ORIGINALS),
    },
    holds=f"{_NUM_ORIGINALS} originals, {_NUM_STRONG} strong copies, {len(_ONE_EACH)} x "
    f"{_NUM_ORIGINALS} jpeg and crop copies",
    citation="Douze et al. 2009, Evaluation of GIST descriptors for web-scale image search",
    licence="research use",
    home="https://thoth.inrialpes.fr/~jegou/data.php.html (it has moved more than once)",
    archives=dict.fromkeys(
        (
            *("copydays_original.tar.gz", "copydays_strong.tar.gz"),
            *("copydays_jpeg.tar.gz", "copydays_crop.tar.gz"),
        ),
        "",
    ),
    steps=(
        "# Fetch the four archives from the page above, then:",
        "mkdir -p copydays/original copydays/strong",
        "tar xf copydays_original.tar.gz -C copydays/original",
        "tar xf copydays_strong.tar.gz -C copydays/strong",
        "tar xf copydays_jpeg.tar.gz -C copydays && tar xf copydays_crop.tar.gz -C copydays",
    ),
    folders=("copydays", "Copydays", ""),
    anchors=("original/",),
    tree=f"""
copydays/
  original/200000.jpg ..          {_NUM_ORIGINALS} files, numbers that end in 00
  strong/200001.jpg ..            {_NUM_STRONG} files
  jpegqual/{{{",".join(map(str, JPEG_QUALITIES))}}}/200000.jpg ..   {_NUM_ORIGINALS} each
  crops/{{{",".join(map(str, CROP_PERCENTS))}}}/200000.jpg ..  {_NUM_ORIGINALS} each""",
    notes=(
        "'sdssl-bench data copydays ORIGINALS OUT' makes a set of the same layout from any "
        "photographs.",
    ),
    # copydays-attacks.json in its folder says what it has.
    mini=Miniature("copydays", f"{_MINI_RETRIEVAL}:write_copydays", 0, 12),
)

_VAL = """
bike-packing 69, blackswan 50, bmx-trees 80, breakdance 84, camel 90, car-roundabout 75, car-shadow 40,
cows 104, dance-twirl 90, dog 60, dogs-jump 66, drift-chicane 52, drift-straight 50, goat 90,
gold-fish 78, horsejump-high 50, india 81, judo 34, kite-surf 50, lab-coat 47, libby 49, loading 50,
mbike-trick 79, motocross-jump 40, paragliding-launch 80, parkour 100, pigs 79, scooter-black 43,
shooting 40, soapbox 99
"""
_FRAMES = {name: int(count) for name, count in (entry.split() for entry in _VAL.split(","))}
_NUM_OBJECTS = 61

DAVIS = DatasetSpec(
    name="davis",
    title="DAVIS-2017 val",
    heading="DAVIS-2017",
    kind="video",
    sizes=_FRAMES,
    num_classes=_NUM_OBJECTS,
    holds=f"{len(_FRAMES)} sequences, {sum(_FRAMES.values()):,} frames, {_NUM_OBJECTS} objects",
    citation="Pont-Tuset et al. 2017, The 2017 DAVIS challenge",
    licence="CC BY-NC 4.0",
    home="https://davischallenge.org/davis2017/code.html",
    archives={"DAVIS-2017-trainval-480p.zip": ""},
    steps=(
        "# Fetch DAVIS-2017-trainval-480p.zip (TrainVal, 480p) from the page above, then:",
        "unzip DAVIS-2017-trainval-480p.zip",
    ),
    folders=("DAVIS", "davis", "DAVIS-2017", "DAVIS2017", ""),
    anchors=("JPEGImages/480p/",),
    tree=f"""
DAVIS/
  ImageSets/2017/val.txt              {len(_FRAMES)} sequence names
  JPEGImages/480p/SEQUENCE/00000.jpg  {sum(_FRAMES.values()):,} frames
  Annotations/480p/SEQUENCE/00000.png palette masks, one a frame""",
    notes=(
        "folder:PATH is any other set of videos in this layout; without a val.txt all its sequences "
        "count.",
    ),
    # Its photographs are no classes; mini_davis.VIDEOS says what a complete copy has.
    mini=Miniature("DAVIS", f"{_MINI_DAVIS}:write_davis", 1, 12),
)
