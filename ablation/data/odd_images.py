"""Counts of odd images among the decoded ones, and a sentence for the table."""

from __future__ import annotations

import hashlib

import numpy as np

from ablation.data import decode
from ablation.data.cache import Stored
from ablation.data.loading import DARK


class Oddities:
    """Counts images of one color, with several frames, cropped a lot, and copies.

    lengths: the number of images of each split, in the order of their slots.
    """

    def __init__(self, lengths: dict[str, int]):
        self.first_of_test = lengths["train"] + lengths["validation"]
        self.blank = self.frames = self.cut = 0
        self.seen: dict[int, tuple[bytes, bytes]] = {}  # digests of the pixels and of the file, by slot

    def add(self, slot: int, encoded: bytes, image: np.ndarray, *, cut: bool) -> None:
        """image: (C, S, S). cut: whether much of the picture is outside the crop."""
        self.blank += bool((image == image[:, :1, :1]).all())
        self.frames += decode.several(encoded)
        self.cut += cut
        self.seen[slot] = _digest(image.tobytes()), _digest(encoded)

    def counts(self, labels: list[int]) -> dict[str, int]:
        """Counts by name. A copy has the pixels of an earlier image in another file; "another class" counts copies with
        another label. The survey counts equal files. labels: by slot, [] without labels."""
        files: dict[bytes, bytes] = {}  # digest of the pixels to digest of the first file
        classes: dict[bytes, set[int]] = {}
        copies = {"train": 0, "test": 0, "another class": 0}
        for slot in sorted(self.seen):
            pixels, file = self.seen[slot]
            if files.setdefault(pixels, file) != file:
                copies["test" if slot >= self.first_of_test else "train"] += 1
                copies["another class"] += bool(classes[pixels] - set(labels[slot : slot + 1]))
            classes.setdefault(pixels, set()).update(labels[slot : slot + 1])
        of_copies = {f"copies of {name}": count for name, count in copies.items()}
        return {"blank": self.blank, **of_copies, "frames": self.frames, "cut": self.cut}


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def warning_of(path: str, stored: Stored) -> str:
    """A sentence about images that show little or nothing, or are copies; or ""."""
    sentences, lengths = [], stored.facts["lengths"]
    brightest = int(stored.counts[:3].sum(0).nonzero().max())  # of colors; transparency may be 255 everywhere
    if brightest < DARK:
        sentences.append(
            f"the brightest value of the {lengths['train']:,} training images is {brightest} of 255, as in "
            "pictures of 10 or 12 bits stored in 16 without scaling"
        )
    total = sum(lengths.values())
    for fact, text in (
        ("blank", "of one color (transparency is dropped)"),
        ("copies of test", "test images with the pixels of another image, so accuracies may be too high"),
        ("copies of train", "training or validation images with the pixels of another, so choices may be biased"),
        ("copies of another class", "labelled unlike an image with the same pixels. Correct or remove them"),
        ("cut", "at least twice as long as wide: only the central square is kept"),
        ("frames", "of several frames or pages: only the first is used"),
    ):
        if count := stored.facts[fact]:
            sentences.append(f"{count:,} of the {total:,} images are {text}")
    return f"{path}: {'; '.join(sentences)}" if sentences else ""
