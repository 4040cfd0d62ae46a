"""The per-image PIL pipeline of torchvision and lightly.

Uses torchvision's own classes if it is installed; else the same calls of PIL, transcribed from torchvision
(transforms/transforms.py, _functional_pil.py) and labelled as such. The blur is lightly's
(transforms/gaussian_blur.py), one call of PIL.
"""

from __future__ import annotations

import importlib
import math
import random
import re
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from ablation.operators import Blur, Color, ColorDrop, ColorJitter, Crop, CropFlip, Flip, Operator, Rotate, Solarize

Step = Callable[[Image.Image], Image.Image]


def _torchvision() -> tuple[ModuleType | None, str]:
    """torchvision.transforms, even with a build of torch that does not match its compiled operators.

    Transforms of PIL images use none of them, but importing the package requires that they exist.
    """
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for _ in range(20):
        try:
            package = importlib.import_module("torchvision")
            transforms = importlib.import_module("torchvision.transforms")
            return transforms, f"torchvision {package.__version__}, PIL images"
        except ImportError:
            break
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                break
            declared.define(f"{missing[1]}(Tensor images) -> Tensor")
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
    return None, "PIL (torchvision's calls, transcribed)"


transforms, LABEL = _torchvision()


def steps(operator: Operator, size: int) -> list[Step] | None:
    """The steps for an operator on one image, or None if torchvision and lightly have no equivalent."""
    match operator:
        case CropFlip():
            return [resized_crop(size), flip()]
        case Crop():
            return [resized_crop(size)]
        case Flip():
            return [flip()]
        case ColorJitter():
            return [with_probability(operator.p, jitter(operator))]
        case ColorDrop():
            return [with_probability(operator.p, lambda image: ImageOps.grayscale(image).convert("RGB"))]
        case Color():
            return [*steps(operator.jitter, size), *steps(operator.drop, size)]
        case Blur():
            return [with_probability(operator.p, gaussian_blur)]
        case Solarize():
            return [with_probability(operator.p, lambda image: ImageOps.solarize(image, 128))]
        case Rotate():
            return [quarter_turns]
    return None


def pipeline(operators: tuple[Operator, ...], size: int, images: list[Image.Image]) -> Callable[[], Tensor] | None:
    """A call that makes the batch: each image passes the steps alone, becomes a tensor, and is stacked."""
    parts = [steps(operator, size) for operator in operators]
    if None in parts:
        return None
    chain = [step for part in parts for step in part]

    def run() -> Tensor:
        made = []
        for image in images:
            for step in chain:
                image = step(image)
            made.append(to_tensor(image))
        return torch.stack(made)

    return run


def with_probability(p: float, step: Step) -> Step:
    return lambda image: step(image) if torch.rand(1) < p else image


def resized_crop(size: int) -> Step:
    if transforms:
        return transforms.RandomResizedCrop(size)
    return lambda image: _resized_crop(image, size)


def flip() -> Step:
    if transforms:
        return transforms.RandomHorizontalFlip()
    return with_probability(0.5, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def jitter(operator: ColorJitter) -> Step:
    reach = (operator.brightness, operator.contrast, operator.saturation, operator.hue)
    if transforms:
        return transforms.ColorJitter(*reach)
    return lambda image: _jitter(image, reach)


def _resized_crop(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    for _ in range(10):
        area = width * height * torch.empty(1).uniform_(0.08, 1.0).item()
        aspect = torch.exp(torch.empty(1).uniform_(math.log(3 / 4), math.log(4 / 3))).item()
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = torch.randint(0, height - h + 1, size=(1,)).item()
            left = torch.randint(0, width - w + 1, size=(1,)).item()
            break
    else:
        top, left, h, w = 0, 0, height, width
    return image.crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BILINEAR)


def _jitter(image: Image.Image, reach: tuple[float, float, float, float]) -> Image.Image:
    brightness, contrast, saturation = (float(torch.empty(1).uniform_(max(0.0, 1 - r), 1 + r)) for r in reach[:3])
    hue = float(torch.empty(1).uniform_(-reach[3], reach[3]))
    for number in torch.randperm(4):
        if number == 0:
            image = ImageEnhance.Brightness(image).enhance(brightness)
        elif number == 1:
            image = ImageEnhance.Contrast(image).enhance(contrast)
        elif number == 2:
            image = ImageEnhance.Color(image).enhance(saturation)
        else:
            h, s, v = image.convert("HSV").split()
            turned = np.array(h, dtype=np.uint8) + np.uint8(int(hue * 255) % 256)
            image = Image.merge("HSV", (Image.fromarray(turned, "L"), s, v)).convert("RGB")
    return image


def gaussian_blur(image: Image.Image) -> Image.Image:
    """As in lightly."""
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def quarter_turns(image: Image.Image) -> Image.Image:
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    return image.transpose(random.choice(turns))


def to_tensor(image: Image.Image) -> Tensor:
    """transforms.ToTensor."""
    if transforms:
        return transforms.functional.to_tensor(image)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
