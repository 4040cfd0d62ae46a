"""From an encoded image to pixels as a viewer shows them: upright, RGB, square.

Of an animation the first frame counts, of transparency nothing: the colors that lie under it are shown.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PHOTOMETRIC = 262  # the tag of a TIFF that says what 0 is
WITH_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # what a PNG holds that says how it is turned


class Unreadable(Exception):
    """What is wrong with an encoded image."""


@contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(encoded)) as image:
            warnings.simplefilter("ignore")  # of metadata that nobody needs
            yield image
    except UnidentifiedImageError as error:
        raise Unreadable("Pillow reads no image in it") from error
    except (
        OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError, NotImplementedError, struct.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise Unreadable(str(error) or type(error).__name__) from error


def turned(encoded: bytes) -> bool:
    """Whether a tag says that the image is stored turned or mirrored; nothing is decoded for it."""
    with _opened(encoded) as image:
        if image.format == "PNG" and not any(word in encoded for word in WITH_EXIF):
            return False  # Pillow would decode it to look for a tag behind the pixels
        return _orientation(image) in TURNS


def color(encoded: bytes) -> Image.Image:
    """The upright image in RGB; 16-bit grey is scaled, where PIL's own conversion would clip it."""
    with _opened(encoded) as image:
        image.load()  # before the tag is asked for: TIFF is turned here, and its tag removed
        turn = TURNS.get(_orientation(image))
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8)
            image = Image.fromarray(255 - grey if _white_is_zero(image) else grey)
        if image.mode in ("I", "F"):
            raise ValueError(f"its mode {image.mode} has no known range of values; store it with 8 or 16 bits")
        image = image.convert("RGB")
        return image if turn is None else image.transpose(turn)


def inverted(encoded: bytes) -> bool:
    """Whether it is a TIFF of 16-bit grey in which 0 is white; Pillow turns only those of 8 bits round."""
    if encoded[:4] not in TiffImagePlugin.PREFIXES:
        return False
    with _opened(encoded) as image:
        return image.mode.startswith("I;16") and _white_is_zero(image)


def _white_is_zero(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and tags.get(PHOTOMETRIC) == 0


def several(encoded: bytes) -> bool:
    """Whether it holds more than one frame or page."""
    with _opened(encoded) as image:
        # A phone's JPEG holds a preview or a gain map beside its picture, which is no page.
        return getattr(image, "is_animated", False) and image.format != "MPO"


def size(encoded: bytes) -> tuple[int, int]:
    """Width and height of the upright image."""
    with _opened(encoded) as image:
        if image.format == "TIFF":  # turned when it is loaded; which size Pillow states before depends on its version
            image.load()
        across = _orientation(image) in (5, 6, 7, 8)
        return image.size[::-1] if across else image.size


def square(image: Image.Image, size: int | None) -> Image.Image:
    """Resized, the shorter side first, then the centre."""
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises anything for damaged metadata; the image itself is good
        return 1
