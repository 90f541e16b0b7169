"""The official layouts of all sets: read, checked, and made in miniature.

In: a data root. Out: images by index with targets, annotated videos, queries and databases, each with a
fingerprint and proof of completeness.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.datasets import copydays as copydays
    from sdssl_bench.datasets import davis as davis
    from sdssl_bench.datasets import roxford_rparis as roxford_rparis
    from sdssl_bench.datasets.base import (
        ClassificationData as ClassificationData,
    )
    from sdssl_bench.datasets.base import (
        ImageError as ImageError,
    )
    from sdssl_bench.datasets.base import (
        ImageSet as ImageSet,
    )
    from sdssl_bench.datasets.base import (
        truncated_is_an_error as truncated_is_an_error,
    )
    from sdssl_bench.datasets.checking import (
        CheckReport as CheckReport,
    )
    from sdssl_bench.datasets.checking import (
        check as check,
    )
    from sdssl_bench.datasets.checking import (
        render as render,
    )
    from sdssl_bench.datasets.copy_attacks import (
        make_attacks as make_attacks,
    )
    from sdssl_bench.datasets.copydays import (
        BLOCKS as BLOCKS,
    )
    from sdssl_bench.datasets.copydays import (
        ONE_EACH as ONE_EACH,
    )
    from sdssl_bench.datasets.copydays import (
        CopydaysData as CopydaysData,
    )
    from sdssl_bench.datasets.copydays import (
        number_of as number_of,
    )
    from sdssl_bench.datasets.copydays import (
        original_of as original_of,
    )
    from sdssl_bench.datasets.davis import (
        DavisData as DavisData,
    )
    from sdssl_bench.datasets.davis import (
        Video as Video,
    )
    from sdssl_bench.datasets.davis_check import (
        check_davis as check_davis,
    )
    from sdssl_bench.datasets.extra_images import (
        describe_extra as describe_extra,
    )
    from sdssl_bench.datasets.extra_images import (
        load_extra as load_extra,
    )
    from sdssl_bench.datasets.ground_truth import (
        GroundTruth as GroundTruth,
    )
    from sdssl_bench.datasets.ground_truth import (
        read_ground_truth as read_ground_truth,
    )
    from sdssl_bench.datasets.identity import (
        describe as describe,
    )
    from sdssl_bench.datasets.images_on_disk import (
        image_files as image_files,
    )
    from sdssl_bench.datasets.images_on_disk import (
        list_images as list_images,
    )
    from sdssl_bench.datasets.layouts import (
        layout as layout,
    )
    from sdssl_bench.datasets.loading import (
        load as load,
    )
    from sdssl_bench.datasets.mini import (
        make_mini as make_mini,
    )
    from sdssl_bench.datasets.own_layouts import (
        OWN_LAYOUTS as OWN_LAYOUTS,
    )
    from sdssl_bench.datasets.palette import (
        read_mask as read_mask,
    )
    from sdssl_bench.datasets.palette import (
        voc_palette as voc_palette,
    )
    from sdssl_bench.datasets.palette import (
        write_mask as write_mask,
    )
    from sdssl_bench.datasets.photographs import (
        REGIONS as REGIONS,
    )
    from sdssl_bench.datasets.photographs import (
        crop as crop,
    )
    from sdssl_bench.datasets.retrieval_check import (
        check_copydays as check_copydays,
    )
    from sdssl_bench.datasets.retrieval_check import (
        check_revisited as check_revisited,
    )
    from sdssl_bench.datasets.roxford_rparis import (
        RetrievalData as RetrievalData,
    )
    from sdssl_bench.datasets.specs import (
        NAMES as NAMES,
    )
    from sdssl_bench.datasets.specs import (
        SPECS as SPECS,
    )
    from sdssl_bench.datasets.transforms import (
        NATIVE_MAX_SIZE as NATIVE_MAX_SIZE,
    )
    from sdssl_bench.datasets.transforms import (
        Preprocess as Preprocess,
    )
    from sdssl_bench.datasets.transforms import (
        preprocess as preprocess,
    )
    from sdssl_bench.datasets.video_files import (
        Size as Size,
    )
    from sdssl_bench.datasets.video_files import (
        annotation_files as annotation_files,
    )
    from sdssl_bench.datasets.video_files import (
        count_objects as count_objects,
    )
    from sdssl_bench.datasets.video_files import (
        first_annotation as first_annotation,
    )
    from sdssl_bench.datasets.video_files import (
        read_annotation as read_annotation,
    )
    from sdssl_bench.datasets.video_files import (
        read_frame as read_frame,
    )
    from sdssl_bench.datasets.video_files import (
        read_sequences as read_sequences,
    )
    from sdssl_bench.datasets.video_files import (
        size_text as size_text,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
