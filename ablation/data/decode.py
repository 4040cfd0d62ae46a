"""Decoding images: upright, with the channels and the square shape of a data set.

Animations and files of several pages give their first frame or page.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Iterator
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
PHOTOMETRIC = 262  # the TIFF tag for the meaning of 0, black or white
SQUARES = ("crop", "squash", "pad")
WITH_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # where a PNG may hold its orientation


class Unreadable(Exception):
    """The reason why an image cannot be decoded."""


@contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(encoded)) as image:
            warnings.simplefilter("ignore")  # about metadata that we do not use
            yield image
    except UnidentifiedImageError as error:
        raise Unreadable("Pillow reads no image in it") from error
    except (
        OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError, NotImplementedError, struct.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise Unreadable(str(error) or type(error).__name__) from error


def turned(encoded: bytes) -> bool:
    """Whether a tag marks the image as stored turned or mirrored; does not decode it."""
    with _opened(encoded) as image:
        if image.format == "PNG" and not any(word in encoded for word in WITH_EXIF):
            return False  # Pillow would decode it to find a tag after the pixels
        return _orientation(image) in TURNS


def color(encoded: bytes) -> Image.Image:
    """The upright image in RGB. Drops transparency, so the colors under it show. Scales 16-bit grey, which PIL's own
    conversion would clip."""
    return _upright(encoded, lambda image: image.convert("RGB"))


def picture(encoded: bytes, channels: int) -> Image.Image:
    """The upright image with `channels` channels.

    3: RGB, as `color`. 1: its luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), which keeps grey unchanged. 4: red,
    green, blue and transparency (alpha) as in the file, not multiplied with each other; 255 if the file has no
    transparency.
    """
    if channels == 4:
        return _upright(encoded, _four)
    return color(encoded) if channels == 3 else color(encoded).convert("L")


def _four(image: Image.Image) -> Image.Image:
    # As RGBX, since resizing RGBA makes Pillow multiply the colors by the fourth channel.
    return Image.merge("RGBX", image.convert("RGBA").split())


def _upright(encoded: bytes, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    with _opened(encoded) as image:
        image.load()  # before reading the tag: load turns a TIFF and removes its tag
        turn = TURNS.get(_orientation(image))
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8)
            image = Image.fromarray(255 - grey if _white_is_zero(image) else grey)
        if image.mode in ("I", "F"):
            raise ValueError(f"its mode {image.mode} has no known range of values. Store it with 8 or 16 bits")
        image = convert(image)
        return image if turn is None else image.transpose(turn)


def inverted(encoded: bytes) -> bool:
    """Whether it is a 16-bit grey TIFF in which 0 is white; Pillow inverts only 8-bit ones."""
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
        # A phone's JPEG may hold a preview or a gain map, which is not a page.
        return getattr(image, "is_animated", False) and image.format != "MPO"


def size(encoded: bytes) -> tuple[int, int]:
    """Width and height of the upright image."""
    with _opened(encoded) as image:
        if image.format == "TIFF":  # loading turns it; the size that Pillow gives before depends on its version
            image.load()
        across = _orientation(image) in (5, 6, 7, 8)
        return image.size[::-1] if across else image.size


def square(image: Image.Image, size: int | None, how: str = "crop") -> Image.Image:
    """The image resized to `size` x `size` pixels, bilinear and antialiased; unchanged for None.

    how: "crop" keeps the central square of the shorter side; "squash" keeps the whole image and changes its
    proportions; "pad" keeps both, between black (0) bars.
    """
    if size is None or image.size == (size, size):
        return image
    if how == "squash":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    place = ImageOps.pad if how == "pad" else ImageOps.fit
    return place(image, (size, size), Image.Resampling.BILINEAR)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow may raise anything for damaged metadata; the image itself is good
        return 1
