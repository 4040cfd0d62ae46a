"""Decodes the images of a data set into the cache: those of its splits, or those of a list, by their pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ablation.data import cache, decode, image_lists
from ablation.data.odd_images import Oddities
from ablation.data.source import Faults
from ablation.data.splits import Labels, Places, chosen, places_of
from ablation.data.survey import check_files_unchanged, everything, surveyed
from ablation.spec import DataError

if TYPE_CHECKING:
    from ablation.data.images import ImageData


def decoded(dataset: ImageData, key: str) -> cache.Stored:
    """The training, validation and test images, in this order."""
    source = dataset.source
    survey = surveyed(source)
    labels = {role: torch.tensor(each) for role, each in survey.labels.items()}
    places = places_of(dataset, labels, survey)
    lengths = {name: len(numbers) for name, (_, numbers) in places.items()}
    faults = Faults(source)
    with cache.Writer(key, sum(lengths.values()), dataset.label) as writer:
        oddities = Oddities(lengths)
        for role in labels:
            for where, slot, encoded in chosen(source, role, places, len(labels[role])):
                with faults.noted(where):
                    content = encoded()
                    picture = decode.picture(content, dataset.channels)
                    image = _pixels(dataset, picture)
                    _check_size(dataset, image, writer.shape[1:] or list(image.shape), places, labels)
                    writer.put(slot, image)
                    oddities.add(slot, content, image, cut=dataset.square == "crop" and _long(picture.size))
        faults.refuse()
        check_files_unchanged(source, survey)
        flat = [label for role, numbers in places.values() for label in labels[role][numbers].tolist()]
        facts = {
            "classes": survey.classes,
            "lengths": lengths,
            "labels": flat,
            **oddities.counts(flat if survey.classes else []),
        }
        return cache.write_images(key, writer, facts, counted=lengths["train"])


def found_by_pixels(dataset: ImageData, key: str) -> cache.Stored:
    """The images of the list, matched by their pixels, in the list's order."""
    named = image_lists.read(dataset.images)
    missing: dict[str, dict[str, list[int]]] = {}  # slots, by digest and class
    for slot, (_, name, digest) in enumerate(named.images):
        missing.setdefault(digest, {}).setdefault(name, []).append(slot)
    others: dict[str, str] = {}  # by digest, images seen with another class only
    source = dataset.source
    faults = Faults(source)
    with cache.Writer(key, len(named.images), dataset.label) as writer:
        for where, name, encoded in everything(source):
            with faults.noted(where):
                content = encoded()
                picture = decode.color(content)
                wanted = missing.get(digest := image_lists.digest(np.asarray(picture)))
                if not wanted:
                    continue
                if (slots := wanted.pop(name(), None)) is None:
                    others[digest] = f"{name()!r} instead of {next(iter(wanted))!r} ({where})"
                    continue
                picture = picture if dataset.channels == 3 else decode.picture(content, dataset.channels)
                image = _pixels(dataset, picture)
                for slot in slots:
                    writer.put(slot, image)
            if not any(missing.values()):
                break
        else:
            faults.refuse()  # an unreadable image may belong to the list
            _check_found(dataset, named, missing, others)
        facts = {
            "classes": named.classes,
            "lengths": named.lengths,
            "labels": [named.classes.index(name) for _, name, _ in named.images],
        }
        return cache.write_images(key, writer, facts, counted=named.lengths["train"])


def _check_found(
    dataset: ImageData, named: image_lists.ImageList, missing: dict[str, dict], others: dict[str, str]
) -> None:
    """Refuses a source that lacks images of the list, or gives them other classes."""
    where = f"ImageData.images {dataset.images!r}"
    others = {digest: found for digest, found in others.items() if missing[digest]}
    if others:
        raise DataError(
            f"{where}: images must have the classes of the list, but {dataset.path!r} gives {len(others)} of them "
            f"another, the first {next(iter(others.values()))}. Name the column with the classes "
            f"{', '.join(named.classes)}: label_column=..., or give a place that has these names: --data PLACE."
        )
    lacking = [named.images[slot][0] for each in missing.values() for slots in each.values() for slot in slots]
    if lacking:
        counts = ", ".join(
            f"{lacking.count(split):,} of {count:,} in {split}" for split, count in named.lengths.items()
        )
        raise DataError(
            f"{where}: {len(lacking):,} of its {len(named.images):,} images are missing from {dataset.path!r} "
            f"({counts}), compared by pixels. Give a place that has them in lossless form: --data PLACE; or use "
            "images of your own: scale.replace(dataset=ImageData(path=...))."
        )


def _pixels(dataset: ImageData, picture: Image.Image) -> np.ndarray:
    """(C, S, S) uint8."""
    pixels = np.asarray(decode.square(picture, dataset.size, dataset.square))
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _check_size(dataset: ImageData, image: np.ndarray, first: list[int], places: Places, labels: Labels) -> None:
    if dataset.size is not None or (list(image.shape) == first and image.shape[1] == image.shape[2]):
        return
    sizes = set()
    for role in labels:
        for _, _, encoded in chosen(dataset.source, role, places, len(labels[role])):
            sizes.add(decode.size(encoded()))
    shown = ", ".join(f"{w} x {h}" for w, h in sorted(sizes, key=lambda size: size[::-1])[:3])
    raise DataError(
        f"ImageData.size must be given unless all images are square and of one size, but {dataset.path!r} has "
        f"{len(sizes)} sizes ({shown}{', ...' if len(sizes) > 3 else ''}). Add size=64, say; square='crop', 'squash' "
        "or 'pad' makes oblong images square."
    )


def _long(size: tuple[int, int]) -> bool:
    """Whether a picture is at least twice as long as wide."""
    return max(size) >= 2 * min(size)
