"""From per-image predictions: two sources of variance, seeds and test images, and the accuracy of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Variances:
    """In points of accuracy. accuracy: mean in percent; seed_sd: of the accuracy over seeds (beyond the images' part);
    image_sd: of an image's own difficulty; rest_sd: of one image under one seed.

    seed_error: standard error of the mean accuracy for exactly these test images (new seeds); whole_error: for new test
    images of the same kind too.
    """

    accuracy: float
    seeds: int
    images: int
    seed_sd: float
    image_sd: float
    rest_sd: float
    seed_error: float
    whole_error: float


def seed_and_image_variance(correct: np.ndarray) -> Variances:
    """correct: (seeds, images), whether each seed's classifier is right on each test image.

    The two-way random model y = mean + seed + image + rest, by the method of moments; negative estimates are set to 0.
    Needs two seeds.
    """
    y = 100 * np.asarray(correct, dtype=float)
    seeds, images = y.shape
    if seeds < 2 or images < 2:
        raise ValueError(f"seed_and_image_variance needs at least two seeds and two images, but got {y.shape}")
    by_seed, by_image, mean = y.mean(1), y.mean(0), y.mean()
    rest = ((y - by_seed[:, None] - by_image + mean) ** 2).sum() / ((seeds - 1) * (images - 1))
    of_seed = images * ((by_seed - mean) ** 2).sum() / (seeds - 1)
    of_image = seeds * ((by_image - mean) ** 2).sum() / (images - 1)
    seed, image = max(0.0, (of_seed - rest) / images), max(0.0, (of_image - rest) / seeds)
    return Variances(
        accuracy=float(mean),
        seeds=seeds,
        images=images,
        seed_sd=float(np.sqrt(seed)),
        image_sd=float(np.sqrt(image)),
        rest_sd=float(np.sqrt(rest)),
        seed_error=float(np.sqrt((seed + rest / images) / seeds)),
        whole_error=float(np.sqrt(seed / seeds + image / images + rest / (seeds * images))),
    )


@dataclass(frozen=True)
class McNemar:
    """only_first, only_second: images that only one checkpoint classifies correctly; p: exact, two-sided."""

    only_first: int
    only_second: int
    p: float

    def __str__(self) -> str:
        return (
            f"{self.only_first} images only the first checkpoint classifies correctly, {self.only_second} only the "
            f"second; exact McNemar p = {self.p:.3g}. This compares these two checkpoints; it says nothing about two "
            "cells, whose seeds differ too."
        )


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Compares two checkpoints on the same test images. first, second: whether each image was correct.

    It ignores the spread over seeds, so it cannot compare two cells of a grid.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"mcnemar needs one value per image of the same images, but got {first.shape}, {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return McNemar(only_first, only_second, p)


def accuracy_by_class(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent of each class, from `results.predictions`: a row per cell, seed, evaluation and `label`.

    `images`: their number in the class. The table has a column `seed`, so `spread(table, by, "accuracy")` and the
    comparisons accept it.
    """
    cell = [column for column in predictions if column not in ("image", "predicted")]
    right = predictions.assign(right=predictions["label"] == predictions["predicted"])
    found = right.groupby(cell, sort=False, dropna=False)["right"].agg(["mean", "size"]).reset_index()
    return found.assign(mean=100 * found["mean"]).rename(columns={"mean": "accuracy", "size": "images"})
