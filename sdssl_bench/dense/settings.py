"""How images are segmented, and what that means for an encoder: pixels and patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from sdssl_bench.datasets import Preprocess, preprocess
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError, did_you_mean

VOIDS = {"soft": ("background", "ignore"), "pixels": ("background", "vote")}
"""Vote -> what unlabelled pixels may be with it."""
WORDS = {
    "distance": ("cosine", "euclidean"),
    "vote": tuple(VOIDS),
    "void": ("background", "ignore", "vote"),
    "absent": ("ignore", "zero"),
}
"""Values of the parameters that are words."""
HELD_OUT = 10
"""One of so many training images is held out where k or the distance are chosen."""


class Candidate(NamedTuple):
    """One way to find neighbours."""

    k: int
    distance: str


def best_candidate(scores: Mapping[Candidate, float]) -> Candidate:
    """The one with the highest score, the first of equals."""
    return max(scores, key=scores.__getitem__)


@dataclass(frozen=True)
class Settings:
    """How images are segmented; see the fields of the task."""

    k: tuple[int, ...]
    distance: tuple[str, ...]
    vote: str
    temperature: float
    standardise: bool
    image_size: int
    mask_size: int
    bank: int
    void: str
    absent: str

    def __post_init__(self) -> None:
        for name, words in WORDS.items():
            value = getattr(self, name)
            for word in value if isinstance(value, tuple) else (value,):
                if word not in words:
                    raise UsageError(did_you_mean(f"value of {name}", word, words))
        if self.vote == "soft" and self.distance != ("cosine",):
            raise UsageError(
                "vote=soft weighs neighbours by their cosine: --set distance=cosine, or --set vote=pixels."
            )
        if self.void not in VOIDS[self.vote]:
            fits = " or ".join(VOIDS[self.vote])
            raise UsageError(f"vote={self.vote} takes void={fits}, found void={self.void}.")

    @property
    def candidates(self) -> list[Candidate]:
        """Every k with every distance; of several the best is chosen on held-out training images."""
        return [Candidate(k, distance) for k, distance in product(self.k, self.distance)]

    def num_called(self, num_classes: int) -> int:
        """What a pixel can be called: the classes and, where unlabelled pixels vote, void behind them."""
        return num_classes + (self.void == "vote")

    def held_out(self, images: int) -> int:
        """Of so many training images those that k and distance are chosen on.

        Raises:
            UsageError: if there is something to choose and none to spare.
        """
        if len(self.candidates) == 1:
            return 0
        if images < HELD_OUT:
            raise UsageError(
                f"k and distance are chosen on a tenth of the training images, here are {images}: "
                f"at least {HELD_OUT}, or one value each, such as --set k={self.k[0]} --set "
                f"distance={self.distance[0]}."
            )
        return images // HELD_OUT

    def steps(self, encoder: Encoder) -> Preprocess:
        """Images squashed to whole patches.

        Raises:
            UsageError: if they are smaller than one, or pixels vote that are not those of the masks.
        """
        side = self.image_size // encoder.stride * encoder.stride
        if side < 1:
            raise UsageError(
                f"image_size {self.image_size} is below one patch of {encoder.stride} pixels."
            )
        if self.vote == "pixels" and self.mask_size != side:
            raise UsageError(
                f"vote=pixels scores the pixels of the images, which patches of {encoder.stride} make "
                f"{side} x {side} here: --set image_size={side} --set mask_size={side}, found a "
                f"mask_size of {self.mask_size}."
            )
        return preprocess("D", side)

    def per_image(self, encoder: Encoder, images: int) -> int:
        """Patches that are kept of each of so many training images.

        Raises:
            UsageError: if the bank has no room for one of each, or holds fewer than k.
        """
        every = (self.steps(encoder).size // encoder.stride) ** 2
        found = min(self.bank // images, every) if self.bank else every
        if found < 1:
            raise UsageError(
                f"A bank of {self.bank:,} patches has no room for one of each of {images:,} training "
                f"images: --set bank={images} or more."
            )
        searched = found * (images - self.held_out(images))
        if searched < max(self.k):
            raise UsageError(
                f"k = {max(self.k)} needs as many patches, the bank has {searched:,} here."
            )
        return found
