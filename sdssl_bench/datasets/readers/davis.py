"""DAVIS-2017 val, or any videos in its layout: frames, masks, and proof of completeness.

30 sequences, 1,999 frames, 61 objects at 480p (Pont-Tuset et al. 2017). Object ids are palette indices;
K of a sequence is the largest id of its first annotation, 255 is void. Sets of one object, such as
DAVIS-2016, are read with `single_object`: everything but 0 is object 1.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdssl_bench.datasets.catalogue import spec
from sdssl_bench.datasets.checking import CheckReport, outcome, unreadable
from sdssl_bench.datasets.specs.retrieval_video import DAVIS
from sdssl_bench.datasets.specs.specification import DatasetSpec
from sdssl_bench.errors import DataError


@dataclass(frozen=True)
class Video:
    """One sequence.

    Attributes:
        frames: [T] JPEG files in order.
        masks: [T] PNG files, the annotation of each frame.
        num_objects: K.
        size: (H, W) of the first frame in pixels.
        fingerprint: sha256 over file names and sizes.
        freshness: sha256 that also covers modification times; for caches, never for records.
        single_object: whether everything but 0 is object 1.
        absent: ids of 1..K that the first annotation lacks.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    num_objects: int
    size: tuple[int, int]
    fingerprint: str
    freshness: str
    single_object: bool = False
    absent: tuple[int, ...] = ()

    def annotation(self, index: int) -> NDArray[np.uint8]:
        """[H, W] ids of one frame's annotation, void as background.

        Raises:
            DataError: naming the file, if it is damaged or of another size.
        """
        from sdssl_bench.datasets.readers.video_files import read_annotation

        return read_annotation(self.masks[index], self.size, single_object=self.single_object)


@dataclass(frozen=True)
class DavisData:
    """The sequences that are scored.

    Attributes:
        name: "davis" or "folder:PATH".
        variant: "official", "mini", "partial" or "folder".
        fingerprint: sha256 of all sequences.
        notes: facts to record with every number.
    """

    name: str
    variant: str
    root: Path
    videos: tuple[Video, ...]
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Frames of all sequences, first and last ones included."""
        return sum(len(video.frames) for video in self.videos)

    @property
    def num_objects(self) -> int:
        """Objects of all sequences."""
        return sum(video.num_objects for video in self.videos)


def load(
    name: str,
    *,
    data_root: Path | None,
    allow_partial: bool = False,
    single_object: bool = False,
) -> DavisData:
    """DAVIS-2017 val, or the videos of "folder:PATH", verified.

    Args:
        name: of a set of videos, or "folder:PATH".
        data_root: holds DAVIS/.
        allow_partial: leave out the sequences that are missing or incomplete, and record that.
        single_object: everything but 0 in a mask is object 1, as in DAVIS-2016.

    Raises:
        UsageError: for an unknown name.
        DataError: if anything is missing, naming it.
    """
    entry = None if name.startswith("folder:") else spec(name, kind="video")
    root = entry.find(data_root)[0] if entry else Path(name.removeprefix("folder:")).expanduser()
    layout = (entry or DAVIS).layout
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder in the layout of DAVIS, found none.\n{layout}")
    expected, objects, whole = _expected(entry, root)
    names = list(expected) or listed(root, single_object=single_object)
    if not names:
        raise DataError(f"{root}: expected sequences in Annotations/480p, found none.\n{layout}")
    videos, problems = [], []
    for sequence in names:
        try:
            video = read_video(root, sequence, single_object=single_object)
            if expected and len(video.frames) != expected[sequence]:
                raise DataError(
                    f"{sequence}: expected {expected[sequence]} frames in JPEGImages/480p, "
                    f"found {len(video.frames)}"
                )
            videos.append(video)
        except DataError as error:
            problems.append(str(error))
    found = sum(video.num_objects for video in videos)
    objects = len(names) if single_object else objects
    if expected and not problems and found != objects:
        raise DataError(
            f"{root}: expected {objects} objects in the first annotations, found {found}: are these "
            "the masks of DAVIS-2016? Extract DAVIS-2017-trainval-480p.zip."
        )
    if problems and not (allow_partial and videos):
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(
            f"{root}: expected {len(names)} complete sequences, found {len(videos)}:\n{shown}{more}\n"
            "Extract the archive again, or score what is there with --allow-partial.\n" + layout
        )
    variant = "partial" if problems else whole
    notes: dict[str, Any] = {"left_out": problems} if problems else {}
    if absent := {video.name: list(video.absent) for video in videos if video.absent}:
        notes["absent_ids"] = absent
    digest = _sha256(video.fingerprint for video in videos)
    return DavisData(name, variant, root, tuple(videos), digest, notes)


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Sequences, frames and objects; see `check.check`.

    Raises:
        DataError: if there is no copy, or no sequence of it can be read.
    """
    data = load(name, data_root=data_root, allow_partial=True)
    bad = unreadable(_reads(data), num_workers) if decode else None
    kind = {"official": ", the official numbers", "mini": ", the numbers of this miniature"}
    return outcome(
        name,
        variant=data.variant,
        root=data.root,
        verified=(
            f"{len(data.videos)} sequences, {data.num_frames:,} frames, {data.num_objects} objects"
            + kind.get(data.variant, ""),
            "every frame has its mask; first frame and first mask have one size",
            *(["every frame and mask decodes and has the size of its sequence"] * (bad == ())),
        ),
        problems=data.notes.get("left_out", ()),
        unreadable=bad,
    )


def _reads(data: DavisData) -> list[Callable[[], object]]:
    from sdssl_bench.datasets.readers.video_files import read_frame

    return [
        read
        for video in data.videos
        for index, frame in enumerate(video.frames)
        for read in (
            partial(read_frame, frame, video.size, video.size),
            partial(video.annotation, index),
        )
    ]


def _expected(entry: DatasetSpec | None, root: Path) -> tuple[dict[str, int], int, str]:
    """Frames by sequence, number of objects, and the variant of a complete copy."""
    if entry is None:
        return {}, 0, "folder"
    if entry.miniature_at(root):
        from sdssl_bench.datasets.mini.davis import VIDEOS

        frames = {sequence: video.frames for sequence, video in VIDEOS.items()}
        return frames, sum(video.objects for video in VIDEOS.values()), "mini"
    return dict(entry.sizes), entry.num_classes, "official"


def listed(root: Path, *, single_object: bool = False) -> list[str]:
    """Sequences of ImageSets/2017/val.txt, or all annotated ones where there is no such list.

    Of sets of one object DAVIS-2016's list comes first: 2016/val.txt, or 480p/val.txt as released then.
    """
    from sdssl_bench.datasets.readers.video_files import read_sequences

    for year in ("2016", "480p", "2017") if single_object else ("2017",):
        path = root / "ImageSets" / year / "val.txt"
        if path.exists():
            return read_sequences(path)
    return sorted(p.name for p in (root / "Annotations" / "480p").glob("[!.]*") if p.is_dir())


def read_video(root: Path, name: str, *, single_object: bool = False) -> Video:
    """One sequence, every frame with its mask.

    Raises:
        DataError: naming the frame or mask that is missing, damaged or of another size.
    """
    from sdssl_bench.datasets.readers.video_files import annotation_files, first_annotation

    folder = root / "JPEGImages" / "480p" / name
    frames = sorted(path for path in folder.glob("[!.]*.jpg"))
    if not frames:
        found = "no JPEG in it" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: expected the frames of {name} as *.jpg, found {found}")
    masks = annotation_files(root / "Annotations" / "480p" / name)
    lonely = sorted({path.stem for path in frames} ^ {path.stem for path in masks})
    if lonely:
        which = "mask" if (folder / f"{lonely[0]}.jpg").exists() else "frame"
        raise DataError(
            f"{name}: expected a mask for each frame, found no {which} for {lonely[0]} "
            f"({len(frames)} frames, {len(masks)} masks)"
        )
    truth, objects, absent = first_annotation(masks[0], single_object=single_object)
    try:
        with Image.open(frames[0]) as image:
            width, height = image.size
    except Exception as error:
        raise DataError(f"{frames[0]}: expected a JPEG image, found: {error}") from error
    if truth.shape != (height, width):
        raise DataError(
            f"{masks[0]}: expected a mask of {width} x {height} pixels, the size of its frame, "
            f"found {truth.shape[1]} x {truth.shape[0]}"
        )
    stats = [(path, path.stat()) for path in (*frames, *masks)]
    identity = [f"{path.parent.name}/{path.name}:{s.st_size}" for path, s in stats]
    times = [f"{s.st_mtime_ns}" for _, s in stats]
    return Video(
        name=name,
        frames=tuple(frames),
        masks=tuple(masks),
        num_objects=objects,
        size=(height, width),
        fingerprint=_sha256(identity),
        freshness=_sha256([str(root.resolve()), *identity, *times]),
        single_object=single_object,
        absent=absent,
    )


def _sha256(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
