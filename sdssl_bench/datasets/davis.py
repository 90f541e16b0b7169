"""DAVIS-2017 val, or any videos in its layout: frames, masks, and proof of completeness.

30 sequences, 1,999 frames, 61 objects at 480p (Pont-Tuset et al. 2017). Object ids are palette indices;
K of a sequence is the largest id of its first annotation, 255 is void.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdssl_bench.errors import DataError

NAME = "davis"
NUM_OBJECTS = 61
FOLDERS = ("DAVIS", "davis", "DAVIS-2017", "DAVIS2017", "")
MARKER = "sdssl-bench-mini.json"

_VAL = """
bike-packing 69, blackswan 50, bmx-trees 80, breakdance 84, camel 90, car-roundabout 75, car-shadow 40,
cows 104, dance-twirl 90, dog 60, dogs-jump 66, drift-chicane 52, drift-straight 50, goat 90,
gold-fish 78, horsejump-high 50, india 81, judo 34, kite-surf 50, lab-coat 47, libby 49, loading 50,
mbike-trick 79, motocross-jump 40, paragliding-launch 80, parkour 100, pigs 79, scooter-black 43,
shooting 40, soapbox 99
"""
VAL_FRAMES: dict[str, int] = {
    name: int(count) for name, count in (entry.split() for entry in _VAL.split(","))
}
"""Frames of each sequence of the val split."""


@dataclass(frozen=True)
class MiniVideo:
    """One sequence of the miniature that `data mini` writes: (H, W) in pixels, frames, objects."""

    size: tuple[int, int]
    frames: int
    objects: int


MINI_VIDEOS = {
    "mini-landscape": MiniVideo((144, 256), 8, 2),
    "mini-portrait": MiniVideo((216, 144), 7, 2),
    "mini-square": MiniVideo((160, 160), 6, 3),
}

TREE = """
DAVIS/
  ImageSets/2017/val.txt              30 sequence names
  JPEGImages/480p/SEQUENCE/00000.jpg  1,999 frames
  Annotations/480p/SEQUENCE/00000.png palette masks, one a frame
"""
LAYOUT = f"""DAVIS-2017 val ({NAME}): 30 sequences, 1,999 frames, 61 objects.
Expected under the data root (--data-root or SDSSL_BENCH_DATA):
  {TREE.strip().replace(chr(10), chr(10) + "  ")}
Folders tried, in this order: {", ".join(f or "the data root" for f in FOLDERS)}.
Obtain DAVIS-2017-trainval-480p.zip from https://davischallenge.org/davis2017/code.html.
Cite: Pont-Tuset et al. 2017, The 2017 DAVIS challenge. Licence: CC BY-NC 4.0.
folder:PATH is any other set of videos in this layout; without a val.txt all its sequences count."""


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
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    num_objects: int
    size: tuple[int, int]
    fingerprint: str
    freshness: str


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


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> DavisData:
    """DAVIS-2017 val, or the videos of "folder:PATH", verified.

    Args:
        name: "davis" or "folder:PATH".
        data_root: holds DAVIS/.
        allow_partial: leave out the sequences that are missing or incomplete, and record that.

    Raises:
        DataError: if anything is missing, naming it.
    """
    root = Path(name.removeprefix("folder:")) if name != NAME else find_root(data_root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder in the layout of DAVIS, found none.\n{LAYOUT}")
    expected, objects = _expected(name, root)
    names = list(expected) if expected else listed(root)
    videos, problems = [], []
    for sequence in names:
        try:
            video = read_video(root, sequence)
            if expected and len(video.frames) != expected[sequence]:
                raise DataError(
                    f"{sequence}: expected {expected[sequence]} frames in JPEGImages/480p, "
                    f"found {len(video.frames)}"
                )
            videos.append(video)
        except DataError as error:
            problems.append(str(error))
    found = sum(video.num_objects for video in videos)
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
            "Extract the archive again, or score what is there with --allow-partial.\n" + LAYOUT
        )
    whole = "folder" if name != NAME else "mini" if is_mini(root) else "official"
    variant = "partial" if problems else whole
    notes = {"left_out": problems} if problems else {}
    digest = _sha256(video.fingerprint for video in videos)
    return DavisData(name, variant, root, tuple(videos), digest, notes)


def _expected(name: str, root: Path) -> tuple[dict[str, int], int]:
    """Frames by sequence and number of objects that a complete copy has; nothing for a folder."""
    if name != NAME:
        return {}, 0
    if is_mini(root):
        frames = {sequence: video.frames for sequence, video in MINI_VIDEOS.items()}
        return frames, sum(video.objects for video in MINI_VIDEOS.values())
    return VAL_FRAMES, NUM_OBJECTS


def find_root(data_root: Path | None) -> Path:
    """The folder with JPEGImages/480p and Annotations/480p.

    Raises:
        DataError: if there is none; lists the candidates and the layout.
    """
    from sdssl_bench.datasets.layouts import require_root

    root = require_root(data_root)
    candidates = [root / folder if folder else root for folder in FOLDERS]
    for candidate in candidates:
        if (candidate / "JPEGImages" / "480p").is_dir():
            return candidate
    looked = "\n".join(f"  {candidate / 'JPEGImages' / '480p'}" for candidate in candidates)
    raise DataError(f"DAVIS-2017 was not found. Looked for\n{looked}\n{LAYOUT}")


def is_mini(root: Path) -> bool:
    """Whether `data mini` wrote this copy."""
    try:
        marker = json.loads((root.parent / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return NAME in marker.get("datasets", {}) and root.name in marker.get("folders", [])


def listed(root: Path) -> list[str]:
    """Sequences of ImageSets/2017/val.txt, or all annotated ones where there is no such list.

    Raises:
        DataError: if there is none.
    """
    from sdssl_bench.datasets.video_files import read_sequences

    path = root / "ImageSets" / "2017" / "val.txt"
    if path.exists():
        return read_sequences(path)
    names = sorted(p.name for p in (root / "Annotations" / "480p").glob("[!.]*") if p.is_dir())
    if not names:
        raise DataError(f"{root}: expected sequences in Annotations/480p, found none.\n{LAYOUT}")
    return names


def read_video(root: Path, name: str) -> Video:
    """One sequence, every frame with its mask.

    Raises:
        DataError: naming the frame or mask that is missing, damaged or of another size.
    """
    from PIL import Image

    from sdssl_bench.datasets.video_files import annotation_files, first_annotation

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
    truth, objects = first_annotation(masks[0])
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
    )


def _sha256(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
