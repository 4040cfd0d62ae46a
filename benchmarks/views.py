"""Operators and the whole SimCLR view against Kornia's modules and the per-image pipeline.

All contenders map the same uint8 images to float32 tensors in [0, 1]; drawing random numbers counts.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import kornia.augmentation as K
import torch
from kornia.filters import Sobel as KorniaSobel
from PIL import Image
from torch import Tensor, nn

from ablation.data import Data
from ablation.operators import (
    Blur,
    Color,
    ColorDrop,
    ColorJitter,
    Crop,
    CropFlip,
    Cutout,
    Flip,
    Noise,
    Operator,
    Rotate,
    Sobel,
    Solarize,
)
from ablation.operators.base import transform
from ablation.operators.blur import kernel_side
from ablation.operators.pipeline import make_views, normalize
from ablation.training.compile import compiled_transform
from benchmarks import per_image
from benchmarks.measure import Row, rows

SIZES = {32: 512, 96: 128, 224: 32}  # pixels: images in a batch
VIEW = (CropFlip(), Color(), Blur(p=0.5))  # SimCLR's


def cases(size: int) -> dict[str, tuple[tuple[Operator, ...], nn.Module | None]]:
    """Our operators, and Kornia's module for the same work (None if it has none)."""
    side = (kernel_side(size),) * 2
    crop = K.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    jitter = K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8)
    view = (crop, K.RandomHorizontalFlip(), jitter, K.RandomGrayscale(p=0.2), K.RandomGaussianBlur(side, (0.1, 2.0)))
    return {
        "SimCLR view": (VIEW, K.AugmentationSequential(*view)),
        "crop": ((Crop(),), crop),
        "crop + flip": ((CropFlip(),), K.AugmentationSequential(crop, K.RandomHorizontalFlip())),
        "flip": ((Flip(),), K.RandomHorizontalFlip()),
        "jitter": ((ColorJitter(),), K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=1.0)),
        "drop": ((ColorDrop(),), K.RandomGrayscale(p=1.0)),
        "color": ((Color(),), K.AugmentationSequential(jitter, K.RandomGrayscale(p=0.2))),
        "blur": ((Blur(),), K.RandomGaussianBlur(side, (0.1, 2.0), p=1.0)),
        "cutout": ((Cutout(),), K.RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), p=1.0)),
        "sobel": ((Sobel(),), KorniaSobel()),
        "rotate": ((Rotate(),), K.RandomRotation90((1, 3), p=1.0)),
        "noise": ((Noise(),), K.RandomGaussianNoise(std=0.1, p=1.0)),
        "solarize": ((Solarize(),), K.RandomSolarize(0.0, 0.0, p=1.0)),
    }


def run(device: str, quick: bool) -> Iterator[Row]:
    for size, batch in SIZES.items():
        images = torch.randint(
            0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        pictures = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in images]
        images = images.to(device)
        for name, (operators, module) in cases(size).items():
            torch._dynamo.reset()
            contenders: dict[str, Callable[[], object]] = {
                "ours": ours(images, operators),
                "ours, compiled": ours(images, operators, compiled_transform()),
            }
            if module is not None:
                contenders["Kornia"] = theirs(images, module.to(device))
                if not quick:
                    contenders["Kornia, compiled"] = theirs(images, torch.compile(module, dynamic=False))
            by_image = per_image.pipeline(operators, size, pictures)
            if by_image is not None:
                contenders[per_image.LABEL] = by_image
            with _quiet():
                yield from rows("views", f"{name}, {size} px", contenders, work=batch, device=device, memory=True)


def ours(images: Tensor, operators: tuple[Operator, ...], transform=transform) -> Callable[[], object]:
    count = 0

    def call() -> list[Tensor]:
        nonlocal count
        count += 1  # another address each time, so that row counts vary as in training
        return make_views(images, (), (operators,), ("benchmark", count), transform)

    return call


def kornia_views(images: Tensor, module: nn.Module, data: Data) -> list[Tensor]:
    """Two normalized views of uint8 images by Kornia's module for the whole view."""
    images = images.float().div_(255)
    return [normalize(module(images), data.mean, data.std) for _ in range(2)]


def theirs(images: Tensor, module: nn.Module) -> Callable[[], object]:
    return lambda: module(images.float().div_(255))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the compiler's warnings: Kornia's modules break compiled graphs and recompile."""
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    yield
