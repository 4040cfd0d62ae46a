"""The contract of an operator, and its wrapper for Kornia's containers.

An operator is one frozen dataclass with a `label`, `sample` and `apply`:

    sample(batch, size, generator) -> dict of CPU tensors, first dimension `batch`: all random numbers
    apply(images, params) -> images: (B, C, S, S) float32 in [0, 1] to the same (only Resize and Crop(size=...)
        change S); no randomness; row i of the result depends only on row i of the images and of the parameters

The base class adds the gate: it transforms each image with probability `p` and returns the others unchanged.
It draws the gate for every `p`, so changing `p` shifts no other number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from ablation.spec import Spec, is_ours

Params = dict[str, Tensor]
Annotations = dict[str, Tensor]  # facts about a view's images by name, (B, ...) each; see pipeline.annotate


@dataclass(frozen=True, kw_only=True)
class Operator(Spec):
    """One stochastic image transformation.

    p: the probability that an image is transformed, drawn per image.
    strength: from 0, the identity, over 1, the operator's law, up to `max_strength`.
    """

    label: ClassVar[str]
    channels: ClassVar[tuple[int, ...] | None] = None  # numbers of channels that it accepts; None: any
    max_strength: ClassVar[float] = math.inf
    moves_pixels: ClassVar[bool] = False  # whether pixels change their place
    annotates: ClassVar[tuple[str, ...]] = ()  # the annotations that `annotate` changes or adds
    only_annotates: ClassVar[bool] = False  # whether pixels stay, so that a method must read the annotations

    p: float = 1.0
    strength: float = 1.0

    def __post_init__(self):
        self.require_number("p", 0, 1)
        self.require_number("strength", 0, self.max_strength)

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        """All random numbers for `batch` images of `size` x `size` pixels, on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} must define sample(self, batch, size, generator)")

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """The transformed images, (B, C, S, S) in [0, 1]; `params` are on the images' device."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(self, images, params)")

    def describe(self, size: int) -> str:
        """A description of the operator on images of `size` pixels, in one or two sentences for people."""
        text = " ".join((type(self).__doc__ or "").split("\n\n")[0].split())
        own = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in ("p", "strength")]
        return " ".join([text, *own])

    def is_identity(self, size: int) -> bool:
        """Whether it never changes an image of `size` pixels."""
        return self.p == 0 or self.strength == 0

    def output_size(self, size: int | None) -> int | None:
        """The side of its results for images of `size` pixels; None if unknown."""
        return size

    def annotate(self, annotations: Annotations, params: Params, size: int) -> Annotations:
        """The annotations of the transformed images. size: the side of the images before. Images with the gate off keep
        theirs."""
        return annotations

    def draw(self, batch: int, size: int, generator: torch.Generator) -> Params:
        """The gate and the sample."""
        gate = torch.rand(batch, generator=generator) < self.p
        return {"gate": gate, **self.sample(batch, size, generator)}

    def transform(self, images: Tensor, params: Params) -> Tensor:
        """`apply` where the gate is on, the image itself elsewhere. `params` are on the images' device."""
        if self.strength == 0:
            return images
        gate = params["gate"]
        inner = {name: value for name, value in params.items() if name != "gate"}
        if fixed_shapes(images):
            changed = self.apply(images.clone(), inner)
            return torch.where(per_image(gate), changed, images) if changed.shape == images.shape else changed
        if not gate.any():
            return images
        if gate.all():
            # A user's operator may work in place, so it gets a copy: another branch may use the same image.
            return self.apply(images if is_ours(type(self)) else images.clone(), inner)
        rows = gate.nonzero().squeeze(1)
        changed = self.apply(images.index_select(0, rows), {name: value[rows] for name, value in inner.items()})
        return images.index_copy(0, rows, changed.to(images.dtype))

    def module(self) -> KorniaOperator:
        """The operator as a module for `kornia.augmentation.AugmentationSequential`."""
        return KorniaOperator(self)


def transform(operator: Operator, images: Tensor, params: Params) -> Tensor:
    """`operator.transform(images, params)` as a function, so that it can be compiled; overrides apply."""
    return operator.transform(images, params)


def fixed_shapes(images: Tensor) -> bool:
    """Whether to mask the rows that an operator leaves alone (True) or to skip them.

    Only the draws tell which rows an operator changes. A CPU computes just those rows. On another device the host
    would have to wait for their number, and a compiler would compile each shape; so all rows are computed there and
    the unwanted ones dropped.
    """
    return images.device.type != "cpu" or torch.compiler.is_compiling()


def on_device(params: Params, device: torch.device) -> Params:
    """`params` on `device`, by one copy from pinned memory, so that the host does not wait."""
    return params if device.type == "cpu" or not params else _copied(params, device)


def _copied(params: Params, device: torch.device) -> Params:
    by_width = sorted(params, key=lambda name: -params[name].element_size())  # so that every part is aligned
    parts = [params[name].contiguous().flatten().view(torch.uint8) for name in by_width]
    packed = torch.cat(parts)
    packed = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
    return {
        name: part.view(params[name].dtype).view(params[name].shape)
        for name, part in zip(by_width, packed.split([len(part) for part in parts]), strict=True)
    }


def uniform(shape: int | tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """U(low, high), float32, on the CPU."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def per_row(gate: Tensor, values: Tensor) -> Tensor:
    """(B,) to (B, 1, ...), with as many dimensions as `values`."""
    return gate.view(-1, *[1] * (values.ndim - 1))


def per_image(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return values[:, None, None, None]


class KorniaOperator(IntensityAugmentationBase2D):
    """An operator for Kornia's containers, on image data keys.

    Without parameters it draws from torch's global generator, as Kornia's own modules do; `params=` replays a
    draw. It keeps the operator's own gate, per image.
    """

    def __init__(self, operator: Operator):
        super().__init__(p=1.0)
        self.operator = operator

    def generate_parameters(self, batch_shape) -> Params:
        seed = int(torch.randint(2**62, ()))
        drawn = self.operator.draw(batch_shape[0], batch_shape[-1], torch.Generator().manual_seed(seed))
        return {f"operator.{name}": value for name, value in drawn.items()}  # Kornia adds its own keys here

    def apply_transform(self, input: Tensor, params: Params, flags, transform=None) -> Tensor:
        own = {n.removeprefix("operator."): value for n, value in params.items() if n.startswith("operator.")}
        return self.operator.transform(input, on_device(own, input.device))

    def extra_repr(self) -> str:
        return repr(self.operator)
