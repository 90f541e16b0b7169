"""The official layouts of all sets: read, checked, and made in miniature.

In: a data root. Out: images by index with targets or masks, annotated videos, queries and databases, each
with a fingerprint and proof of completeness.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.datasets import catalogue
    from sdssl_bench.datasets.base import (
        ClassificationData,
        ImageError,
        ImageSet,
        truncated_is_an_error,
        values_within,
    )
    from sdssl_bench.datasets.catalogue import kind_of, layout, names, sets_of, spec
    from sdssl_bench.datasets.checking import check, render
    from sdssl_bench.datasets.classification import ClassificationTask, load_for
    from sdssl_bench.datasets.downloading import download, fetch_file
    from sdssl_bench.datasets.few_labels import FewLabelTask
    from sdssl_bench.datasets.label_draws import LabelDraws
    from sdssl_bench.datasets.listing import Listing, SplitListing
    from sdssl_bench.datasets.loading import describe, load
    from sdssl_bench.datasets.mini import photographs
    from sdssl_bench.datasets.mini.copy_attacks import make_attacks
    from sdssl_bench.datasets.mini.make import make_mini, miniatures
    from sdssl_bench.datasets.mini.photographs import REGIONS, crop
    from sdssl_bench.datasets.readers import copydays, davis, masks, roxford_rparis
    from sdssl_bench.datasets.readers.copydays import (
        BLOCKS,
        ONE_EACH,
        CopydaysData,
        number_of,
        original_of,
    )
    from sdssl_bench.datasets.readers.davis import DavisData, Video
    from sdssl_bench.datasets.readers.ground_truth import GroundTruth, read_ground_truth
    from sdssl_bench.datasets.readers.images_on_disk import (
        describe_extra,
        image_files,
        list_images,
        load_extra,
    )
    from sdssl_bench.datasets.readers.masks import MaskData, MaskedImages
    from sdssl_bench.datasets.readers.palette import VOID, read_mask, voc_palette, write_mask
    from sdssl_bench.datasets.readers.roxford_rparis import RetrievalData, without_positives
    from sdssl_bench.datasets.readers.video_files import (
        Size,
        annotation_files,
        count_objects,
        first_annotation,
        frame_numbers,
        gap_warning,
        read_annotation,
        read_frame,
        read_sequences,
        size_text,
    )
    from sdssl_bench.datasets.specs.own import OWN, own_forms, own_has, own_source
    from sdssl_bench.datasets.specs.specification import DatasetSpec, Miniature
    from sdssl_bench.datasets.transforms import NATIVE_MAX_SIZE, Preprocess, preprocess
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
