"""Lists of images by content: pixels, order and class, wherever the files are.

A list is a file of this package, lists/NAME.csv, with one line per image: its split (train, validation or test), its
class, and the digest of its pixels. All images of a list are square and of one size.
"""

from __future__ import annotations

import csv
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablation.spec import canonical_json

FOLDER = Path(__file__).parent / "lists"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageList:
    """images: (split, class, digest of the pixels), training first, then validation, then test."""

    images: tuple[tuple[str, str, str], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({name for _, name, _ in self.images}))

    @property
    def lengths(self) -> dict[str, int]:
        return {split: sum(each == split for each, _, _ in self.images) for split in SPLITS}

    def fingerprint(self) -> str:
        return hashlib.sha256(canonical_json(self.images).encode()).hexdigest()[:16]


def known() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


@functools.lru_cache
def read(name: str) -> ImageList:
    with open(FOLDER / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = [(row["split"], row["class"], row["pixels"]) for row in csv.DictReader(file)]
    return ImageList(tuple(sorted(rows, key=lambda row: SPLITS.index(row[0]))))


def digest(pixels: np.ndarray) -> str:
    """pixels: (H, W, 3) uint8 -> 16 hexadecimal digits; among 60,000 images a collision has probability 1e-10."""
    height, width, _ = pixels.shape
    return hashlib.sha256(f"{width} x {height} ".encode() + pixels.tobytes()).hexdigest()[:16]
