"""How images are segmented, and what that means for an encoder: pixels and patches."""

from dataclasses import dataclass

from sdssl_bench.datasets import Preprocess, preprocess
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """How images are segmented; see the fields of the task."""

    k: int
    temperature: float
    image_size: int
    mask_size: int
    bank: int
    void: str

    def steps(self, encoder: Encoder) -> Preprocess:
        """Images squashed to whole patches.

        Raises:
            UsageError: if they are smaller than one.
        """
        side = self.image_size // encoder.stride * encoder.stride
        if side < 1:
            raise UsageError(
                f"image_size {self.image_size} is below one patch of {encoder.stride} pixels."
            )
        return preprocess("D", side)

    def per_image(self, encoder: Encoder, images: int) -> int:
        """Patches that are kept of each of so many training images.

        Raises:
            UsageError: if the bank has no room for one of each, or holds fewer than k.
        """
        found = min(self.bank // images, (self.steps(encoder).size // encoder.stride) ** 2)
        if found < 1:
            raise UsageError(
                f"A bank of {self.bank:,} patches has no room for one of each of {images:,} training "
                f"images: --set bank={images} or more."
            )
        if found * images < self.k:
            raise UsageError(
                f"k = {self.k} needs as many patches, the bank has {found * images:,} here."
            )
        return found
