"""Color jitter, color drop, and both in sequence: SimCLR's color distortion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ablation.operators.base import Operator, Params, fixed_shapes, per_image, uniform

Steps = tuple[tuple[str, Callable[[Tensor, Tensor], Tensor]], ...]  # the four steps, by number
VARIANTS = ("simclr", "simclr-additive", "torchvision")


@dataclass(frozen=True, kw_only=True)
class ColorJitter(Operator):
    """Brightness, contrast, saturation and hue, in an order drawn per image, clamped after each step.

    With strength s, the factors are U(max(0, 1 - b s), 1 + b s) for b = brightness, contrast, saturation,
    and the hue shifts by U(-hue s, hue s) turns (at most half a turn each way). SimCLR uses p = 0.8.

    variant "simclr" (tensorflow/models, simclr v2): brightness multiplies, contrast scales about each
    channel's mean, saturation acts in HSV. "simclr-additive" (the paper's pseudo-code, App. A): brightness
    adds U(-b s, b s). "torchvision": contrast scales about the mean luma, saturation blends with grey.

    Kornia: its ColorJitter draws one order per batch and has neither SimCLR's contrast nor the paper's brightness;
    ours processes 4 times as many images per second at 32 px. A single hue or saturation factor gives the same
    pixels (a test compares them).
    """

    label = "jitter"
    channels: ClassVar[tuple[int, ...] | None] = (3,)

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    variant: str = "simclr"

    def __post_init__(self):
        super().__post_init__()
        for name in ("brightness", "contrast", "saturation"):
            self.require_number(name, 0)
        self.require_number("hue", 0, 0.5)
        self.require_choice("variant", VARIANTS)

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        s = self.strength
        hue = min(self.hue * s, 0.5)
        draws = {"order": torch.rand((batch, 4), generator=generator).argsort(1)}
        for name in ("brightness", "contrast", "saturation"):
            reach = getattr(self, name) * s
            additive = name == "brightness" and self.variant == "simclr-additive"
            low, high = (-reach, reach) if additive else (max(0.0, 1 - reach), 1 + reach)
            draws[name] = uniform(batch, low, high, generator)
        draws["hue"] = uniform(batch, -hue, hue, generator)
        return draws

    def apply(self, images: Tensor, params: Params) -> Tensor:
        if fixed_shapes(images):
            return _everywhere(images, params, self.variant)
        return _by_order(images, params, self._steps(), torch.ones(len(images), dtype=torch.bool))

    def transform(self, images: Tensor, params: Params) -> Tensor:
        """On a CPU the gate is part of the grouping by order, which saves one copy of the images."""
        own_apply = type(self).apply is not ColorJitter.apply
        if self.strength == 0 or fixed_shapes(images) or own_apply:
            return super().transform(images, params)
        return _by_order(images, params, self._steps(), params["gate"])

    def _steps(self) -> Steps:
        simclr = self.variant.startswith("simclr")
        return (
            ("brightness", add if self.variant == "simclr-additive" else multiply),
            ("contrast", contrast_about_channel_mean if simclr else contrast_about_luma_mean),
            ("saturation", saturate_hsv if simclr else saturate_by_grey),
            ("hue", shift_hue),
        )

    def describe(self, size: int) -> str:
        s = self.strength
        reach = [f"{n} {getattr(self, n) * s:.3g}" for n in ("brightness", "contrast", "saturation")]
        return f"{', '.join(reach)}, hue {min(self.hue * s, 0.5):.3g}, order per image, {self.variant} variant"


@dataclass(frozen=True, kw_only=True)
class ColorDrop(Operator):
    """Luma 0.299 R + 0.587 G + 0.114 B in all three channels (Chen et al. 2020, App. A).

    SimCLR uses p = 0.2. strength blends: 0 the image, 1 grey.

    Kornia: RandomGrayscale gives the same result (a test compares them) but cannot blend; ours processes 1.3 times
    as many images per second at 32 px.
    """

    label = "drop"
    channels: ClassVar[tuple[int, ...] | None] = (3,)
    max_strength: ClassVar[float] = 1.0

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        return {}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        grey = luma(images).clamp_(max=1).expand_as(images)
        return grey if self.strength == 1 else torch.lerp(images, grey, self.strength)

    def describe(self, size: int) -> str:
        return "luma 0.299 R + 0.587 G + 0.114 B in all channels"


@dataclass(frozen=True, kw_only=True)
class Color(Operator):
    """Color jitter, then color drop: "color distortion", one axis of the paper's grid (Chen et al. 2020, App. A).

    The parts keep their own probabilities, 0.8 and 0.2 in the paper. strength multiplies the jitter's.

    Kornia: ours combines the two above; it processes 4 times as many images per second at 32 px as Kornia's
    ColorJitter and RandomGrayscale.
    """

    label = "color"
    channels: ClassVar[tuple[int, ...] | None] = (3,)

    jitter: ColorJitter = ColorJitter(p=0.8)
    drop: ColorDrop = ColorDrop(p=0.2)

    def _parts(self) -> tuple[Operator, Operator]:
        return dataclasses.replace(self.jitter, strength=self.jitter.strength * self.strength), self.drop

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        parts = [(part.label, part.draw(batch, size, generator)) for part in self._parts()]
        return {f"{label}.{name}": value for label, draws in parts for name, value in draws.items()}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        for part in self._parts():
            prefix = f"{part.label}."
            own = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
            images = part.transform(images, own)
        return images

    def transform(self, images: Tensor, params: Params) -> Tensor:
        """Combines the operator's gate with its parts' gates, so that each part computes only its own rows."""
        if self.strength == 0 or type(self).apply is not Color.apply:
            return super().transform(images, params)
        gated = {n: v & params["gate"] if n.endswith(".gate") else v for n, v in params.items() if n != "gate"}
        return self.apply(images, gated)

    def describe(self, size: int) -> str:
        jitter, drop = self._parts()
        return f"jitter with p {jitter.p:g} ({jitter.describe(size)}), then grey with p {drop.p:g}"


def _everywhere(images: Tensor, params: Params, variant: str) -> Tensor:
    """Runs all four steps on all images at each place of the order; an image whose turn is another step's gets the
    factor that changes nothing. For compilers, which fuse a place into two passes over the three planes.

    A CPU uses `_by_order` instead, and the two have different steps. Measured on one CPU thread: a SimCLR view of 256
    images at 32 px (64 at 96 px) takes 23 ms (43 ms) with `_by_order`, 37 (63) if `_turn` does its hue and
    saturation, and 56 (116) with this function. Compiled, the jitter alone takes 3.8 ms (10.8) with this function,
    19.8 (54.8) if it uses the steps of `_by_order`, and 12.0 (20.4) with `_by_order`.
    """
    additive, simclr = variant == "simclr-additive", variant.startswith("simclr")
    planes = images.unbind(1)
    one, zero = torch.ones_like(params["hue"]), torch.zeros_like(params["hue"])
    neutral = {"brightness": zero if additive else one, "contrast": one, "saturation": one, "hue": zero}
    for place in range(4):
        number = params["order"][:, place]
        brightness, contrast, saturation, hue = (
            torch.where(number == i, params[name], neutral[name])[:, None, None] for i, name in enumerate(neutral)
        )
        moved = [plane + brightness if additive else plane * brightness for plane in planes]
        about = moved if simclr else [_luma(*moved)] * 3
        means = [plane.mean((1, 2), keepdim=True) for plane in about]
        planes = [
            (plane * contrast + mean * (1 - contrast)).clamp(0, 1) for plane, mean in zip(moved, means, strict=True)
        ]
        if not simclr:
            grey = _luma(*planes)
            planes = [(plane * saturation + grey * (1 - saturation)).clamp(0, 1) for plane in planes]
        turned = _turn(*planes, hue, saturation if simclr else None)
        mine = ((number == 3) | ((number == 2) & simclr))[:, None, None]
        planes = [torch.where(mine, new, old) for new, old in zip(turned, planes, strict=True)]
    return torch.stack(planes, 1)


def _luma(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    return red * 0.299 + green * 0.587 + blue * 0.114


def _turn(red: Tensor, green: Tensor, blue: Tensor, turns: Tensor, saturation: Tensor | None) -> list[Tensor]:
    """`saturate_hsv` and `shift_hue`, which commute, on planes (B, S, S)."""
    value = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - least
    scale = 1 / chroma.clamp(min=1e-12)
    without_blue, without_red = (green - red) * scale + 1, (blue - green) * scale + 3
    hue = torch.where(red > least, (red - blue) * scale + 5, without_red)
    hue = torch.where(blue > least, hue, without_blue)
    chroma = chroma if saturation is None else torch.minimum(chroma * saturation, value)
    planes = []
    for channel in range(3):
        distance = hue * (1 / 6) + turns + (0.5 - channel / 3)
        distance = (distance - distance.round()).abs()
        planes.append((value - (2 - 6 * distance).clamp(0, 1) * chroma).clamp(0, 1))
    return planes


def _by_order(images: Tensor, params: Params, steps: Steps, gate: Tensor) -> Tensor:
    """Groups images by order, runs the four steps on each group while it is in the cache, and puts the images back.

    Regrouping the batch for every step would take as long as the steps.
    """
    rows = gate.nonzero().squeeze(1)
    number, by_number = (params["order"][rows] * torch.tensor([64, 16, 4, 1])).sum(1).sort()  # the order's digits
    rows, out = rows[by_number], images.clone() if len(rows) < len(images) else torch.empty_like(images)
    factors, start = {name: per_image(params[name][rows]) for name, _ in steps}, 0
    for count in number.unique_consecutive(return_counts=True)[1].tolist():
        own = rows[start : start + count]
        run = images.index_select(0, own)
        for step in params["order"][own[0]].tolist():
            name, function = steps[step]
            run = function(run, factors[name][start : start + count]).clamp_(0, 1)
        out.index_copy_(0, own, run)
        start += count
    return out


# The steps take images (B, 3, S, S) and one number per image (B, 1, 1, 1); the caller clamps their results.


def multiply(images: Tensor, factor: Tensor) -> Tensor:
    return images * factor


def add(images: Tensor, amount: Tensor) -> Tensor:
    return images + amount


def luma(images: Tensor) -> Tensor:
    """0.299 R + 0.587 G + 0.114 B, (B, 1, S, S) (ITU-R BT.601)."""
    red, green, blue = images.split(1, 1)
    return (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def contrast_about_channel_mean(images: Tensor, factor: Tensor) -> Tensor:
    """tf.image.adjust_contrast: (x - mean of the channel) f + mean."""
    return (images * factor).add_(images.mean((2, 3), keepdim=True) * (1 - factor))


def contrast_about_luma_mean(images: Tensor, factor: Tensor) -> Tensor:
    """torchvision's adjust_contrast: blend with the mean luma of the image."""
    return (images * factor).add_(luma(images).mean((2, 3), keepdim=True) * (1 - factor))


def saturate_by_grey(images: Tensor, factor: Tensor) -> Tensor:
    """torchvision's adjust_saturation: blend with the luma of the pixel."""
    return (images * factor).add_(luma(images) * (1 - factor))


def saturate_hsv(images: Tensor, factor: Tensor) -> Tensor:
    """tf.image.adjust_saturation: S f in HSV, at most 1.

    At fixed hue and value V, a channel is V - (V - x) S'/S, which needs no conversion to HSV; S' / S is f,
    or 1 / S = V / (V - minimum) where f S exceeds 1.
    """
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    ratio = torch.minimum(factor, value / chroma.clamp_(min=1e-12))
    return (images - value).mul_(ratio).add_(value)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Shifts the hue by `turns` in HSV; value and saturation stay.

    With hue h in sixths of a turn, channel n = 5, 3, 1 for R, G, B is V - C max(0, min(k, 4 - k, 1)),
    k = (n + h) mod 6 (Smith 1978). That weight is 2 - |k - 2| within [0, 1], with k - 2 wrapped to [-3, 3].

    h itself follows from the channels r, g, b scaled to [0, 1] (one of them is 0, one 1): where b is 0,
    h = 1 + g - r; else where r is 0, h = 3 + b - g; else h = 5 + r - b. Rounding up distinguishes 0 from the rest;
    on a CPU that is many times faster than a condition.
    """
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = value - least
    red, green, blue = ((images - least) / chroma.clamp(min=1e-12)).split(1, 1)
    without_blue = (green - red).add_(1)
    without_red = (blue - green).add_(3)
    without_green = (red - blue).add_(5)
    hue = without_green.sub_(without_red).mul_(red.ceil()).add_(without_red)
    hue = hue.sub_(without_blue).mul_(blue.ceil()).add_(without_blue)
    # (n - 2) / 6 for n = 5, 3, 1, created on the images' device: a copy from the host would have to wait.
    centre = (0.5 - torch.arange(3, device=images.device) / 3)[:, None, None]
    distance = hue.mul_(1 / 6).add_(turns) + centre
    distance = distance.sub_(distance.round()).abs_()
    weight = torch.rsub(distance, 2, alpha=6).clamp_(0, 1)
    return value - weight.mul_(chroma)
