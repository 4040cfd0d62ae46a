"""`shapes`: a synthetic control with a known answer, generated in a second, nothing to download.

The paper explains its Figure 5 by a shortcut: crops of one image share a color histogram, so without color
distortion, color solves the contrastive task. Here that shortcut is a dial. The data set tests the suite and
the explanation; it is no evidence about natural images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ablation.data.dataset import Data, DataSet, Split, cut_validation
from ablation.spec import added_later

CLASSES = ("disk", "ring", "square", "frame", "triangle", "plus", "star", "crescent", "bars", "checker")


@dataclass(frozen=True, kw_only=True)
class Shapes(DataSet):
    """Ten classes of tiled shapes; only the shape depends on the class.

    shortcut in [0, 1]: at 1 every image has its own palette, so its color histogram identifies it; at 0 all
    images share one palette and, since shapes cover equal areas of all images, the histogram identifies nothing.
    In between, the two palettes are mixed linearly.

    train: number of training and validation images together; `validation` of them are cut off. gradient (half the
    range of a luminance ramp), texture and noise (standard deviations) are on the [0, 1] scale. channels: 3, or 1 for
    grey images, whose two levels are the luma of the palette's colors (ITU-R BT.601).
    """

    train: int = 5500
    validation: int = 500
    test: int = 3000
    size: int = 32
    shortcut: float = 1.0
    gradient: float = 0.1
    texture: float = 0.03
    noise: float = 0.02
    seed: int = 0
    channels: int = added_later(default=3)

    label = "shapes"

    def __post_init__(self):
        for name in ("train", "validation", "test"):
            self.require_count(name, len(CLASSES))
        self.require("validation", self.validation < self.train, f"be smaller than train={self.train}")
        self.require_count("size", 16)
        self.require_number("shortcut", 0, 1)
        self.require_number("gradient", 0, 1)
        self.require_number("texture", 0, 1)
        self.require_number("noise", 0, 1)
        self.require_count("seed", 0)
        self.require("channels", self.channels in (1, 3), "be 3 (color) or 1 (grey)")

    def load(self) -> Data:
        images, labels = self._draw(self.train, 0)
        rest, validation = cut_validation(labels, self.validation, seed=0)
        return Data(
            train=Split(images[rest], labels[rest]),
            validation=Split(images[validation], labels[validation]),
            test=Split(*self._draw(self.test, 1)),
            classes=CLASSES,
        )

    def _draw(self, count: int, part: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(2 * self.seed + part)
        labels = torch.arange(count) % len(CLASSES)
        labels = labels[torch.randperm(count, generator=generator)]
        chunks = [self._render(chunk, generator) for chunk in labels.split(1000)]
        return torch.cat(chunks), labels

    def _render(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """(N, C, S, S) uint8 for N labels."""
        count, size = len(labels), self.size

        def draw(*shape: int) -> Tensor:
            return torch.rand((count, *shape), generator=generator)

        shape = _coverage(_level_sets(labels, size, draw))[:, None]
        palette = _palettes(draw, self.shortcut)
        background, foreground = palette if self.channels == 3 else map(_luma, palette)
        images = torch.lerp(background[:, :, None, None], foreground[:, :, None, None], shape)
        luminance = self.gradient * _ramp(size, draw) + self.texture * _texture(size, draw)
        noise = torch.randn((count, self.channels, size, size), generator=generator) * self.noise
        images = images + luminance[:, None] + noise
        return images.clamp_(0, 1).mul_(255).round_().byte()


def _pixels(size: int) -> tuple[Tensor, Tensor]:
    """Row and column coordinates of the pixel centres, from -1 to 1, each (S, S)."""
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    return torch.meshgrid(axis, axis, indexing="ij")


def _level_sets(labels: Tensor, size: int, draw) -> Tensor:
    """(N, S, S): each class's function, which is smaller inside the shape, tiled, turned and shifted."""
    y, x = _pixels(size)
    angle, period = 2 * math.pi * draw(1, 1), 1.0 + 0.5 * draw(1, 1)  # tiles of 16 to 24 px at 32 px
    phase = draw(2, 1, 1)
    u = (x * angle.cos() + y * angle.sin()) / period + phase[:, 0]
    v = (y * angle.cos() - x * angle.sin()) / period + phase[:, 1]
    u, v = 2 * (u - u.floor()) - 1, 2 * (v - v.floor()) - 1  # [-1, 1] within a tile
    out = torch.empty(len(labels), size, size)
    for number, name in enumerate(CLASSES):
        rows = (labels == number).nonzero().squeeze(1)
        out[rows] = _level_set(name, u[rows], v[rows]) * period[rows]
    return out


def _level_set(name: str, u: Tensor, v: Tensor) -> Tensor:
    radius, corner = (u.square() + v.square()).sqrt(), torch.maximum(u.abs(), v.abs())
    match name:
        case "disk":
            return radius
        case "ring":
            return (radius - 0.6).abs()
        case "square":
            return corner
        case "frame":
            return (corner - 0.55).abs()
        case "triangle":
            sides = [u * math.sin(a) + v * math.cos(a) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
            return torch.stack(sides).amax(0)
        case "plus":
            return torch.minimum(
                torch.maximum(u.abs(), 3 * v.abs()),
                torch.maximum(3 * u.abs(), v.abs()),
            )
        case "star":
            return radius * (1 + 0.45 * torch.cos(5 * torch.atan2(v, u)))
        case "crescent":
            return torch.maximum(radius, 1.25 - 1.1 * ((u - 0.45).square() + v.square()).sqrt())
        case "bars":
            return torch.maximum((v * 1.5 - (v * 1.5).round()).abs() * 2, u.abs() - 0.3)
        case "checker":
            near = torch.maximum((u - 0.38).abs(), (v - 0.38).abs())
            far = torch.maximum((u + 0.38).abs(), (v + 0.38).abs())
            return torch.minimum(near, far)
    raise AssertionError(name)


def _coverage(level: Tensor, fraction: float = 0.3) -> Tensor:
    """Soft membership in [0, 1] of the lowest `fraction` of each image's pixels.

    It depends only on the pixel's rank: every image of every class has exactly the same values, in other
    places, so the covered area reveals neither identity nor class.
    """
    flat = level.flatten(1)
    rank = flat.argsort(1).argsort(1) / flat.shape[1]
    return torch.sigmoid((fraction - rank) * 60).view_as(level)


def _palettes(draw, shortcut: float) -> tuple[Tensor, Tensor]:
    """Background and foreground colors, each (N, 3): a dark one and a light one of the opposite hue.

    An image's own palette differs from the shared one by the same changes as color distortion: a turn of all hues,
    a factor on all saturations, a factor on all values. The relation of the two colors is the same in all images, so
    after color distortion the palette no longer identifies an image.
    """
    hue, saturation, value = draw(1), 0.2 + 1.0 * draw(1), 0.5 + 0.6 * draw(1)

    def pair(hue, saturation, value) -> Tensor:
        dark = _rgb(hue, 0.8 * saturation, 0.35 * value)
        light = _rgb(hue + 0.5, 0.5 * saturation, 0.9 * value)
        return torch.stack([dark, light])

    shared = pair(torch.full_like(hue, 0.7), torch.full_like(hue, 0.8), torch.full_like(hue, 0.85))
    return tuple(torch.lerp(shared, pair(hue, saturation, value), shortcut))


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV, each (N, 1), hue in turns, to RGB (N, 3)."""
    k = torch.remainder(torch.tensor([5.0, 3.0, 1.0]) + 6 * hue, 6)
    return value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1))


def _luma(rgb: Tensor) -> Tensor:
    """(N, 3) to (N, 1)."""
    return rgb @ torch.tensor([[0.299], [0.587], [0.114]])


def _ramp(size: int, draw) -> Tensor:
    """A linear ramp from -1 to 1 in a random direction, (N, S, S)."""
    y, x = _pixels(size)
    angle = 2 * math.pi * draw(1, 1)
    return (x * angle.cos() + y * angle.sin()) / math.sqrt(2)


def _texture(size: int, draw) -> Tensor:
    """Smooth noise with unit standard deviation, (N, S, S)."""
    coarse = draw(1, size // 4, size // 4)
    smooth = interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[:, 0]
    smooth = smooth - smooth.mean((1, 2), keepdim=True)
    return smooth / smooth.std((1, 2), keepdim=True)
