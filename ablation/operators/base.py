"""The contract of an operator, and its wrapper for Kornia's containers.

An operator is one frozen dataclass with a `label`, `sample` and `apply`:

    sample(batch, size, generator) -> dict of CPU tensors, first dimension `batch`: every random number
    apply(images, params) -> images: (B, 3, S, S) float32 in [0, 1] to the same (Resize, and Crop where it is
        asked to, change S); no randomness; row i of the result depends on row i of the images and of the
        parameters only

The base class adds the gate: each image is transformed with probability `p`, else returned as it is. The
gate is drawn whatever `p` is, so that a change of `p` shifts no other number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from ablation.specs import Spec, is_ours

Params = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Operator(Spec):
    """One stochastic image transformation.

    p: the probability with which an image is transformed, drawn per image.
    strength: 0 is the identity, 1 the operator's law; up to `max_strength`.
    """

    label: ClassVar[str]
    max_strength: ClassVar[float] = math.inf

    p: float = 1.0
    strength: float = 1.0

    def __post_init__(self):
        self.require_number("p", 0, 1)
        self.require_number("strength", 0, self.max_strength)

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        """Every random number for `batch` images of `size` x `size` pixels, on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} must define sample(self, batch, size, generator)")

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """The transformed images, (B, 3, S, S) in [0, 1]; `params` lie on the images' device."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(self, images, params)")

    def card(self, size: int) -> str:
        """What the operator computes for images of `size` pixels, in one or two sentences for people."""
        text = " ".join((type(self).__doc__ or "").split("\n\n")[0].split())
        own = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in ("p", "strength")]
        return " ".join([text, *own])

    def is_identity(self, size: int) -> bool:
        """Whether it leaves every image of `size` pixels as it is, whatever is drawn."""
        return self.p == 0 or self.strength == 0

    def output_size(self, size: int | None) -> int | None:
        """The side of the images that it makes of images of `size` pixels; None where that is not known."""
        return size

    def draw(self, batch: int, size: int, generator: torch.Generator) -> Params:
        """The gate and the sample."""
        gate = torch.rand(batch, generator=generator) < self.p
        return {"gate": gate, **self.sample(batch, size, generator)}

    def transform(self, images: Tensor, params: Params) -> Tensor:
        """`apply` where the gate is on, the image itself elsewhere. `params` lie on the images' device."""
        if self.strength == 0:
            return images
        gate = params["gate"]
        inner = {name: value for name, value in params.items() if name != "gate"}
        if fixed_shapes(images):
            return torch.where(per_image(gate), self.apply(images.clone(), inner), images)
        if not gate.any():
            return images
        if gate.all():
            # A copy for a user's operator, which may work in place: the image may be another branch's too.
            return self.apply(images if is_ours(type(self)) else images.clone(), inner)
        rows = gate.nonzero().squeeze(1)
        changed = self.apply(images.index_select(0, rows), {name: value[rows] for name, value in inner.items()})
        return images.index_copy(0, rows, changed.to(images.dtype))

    def module(self) -> KorniaOperator:
        """The operator as a module for `kornia.augmentation.AugmentationSequential`."""
        return KorniaOperator(self)


def transform(operator: Operator, images: Tensor, params: Params) -> Tensor:
    """`operator.transform(images, params)` as a function, which can be compiled; an override is honoured."""
    return operator.transform(images, params)


def fixed_shapes(images: Tensor) -> bool:
    """Whether rows are masked (True) or skipped.

    Which rows an operator changes is known only from its draws. A CPU computes those rows alone. On another device
    the host would have to wait for their number, and a compiler for one shape each; there all rows are computed and
    the unwanted ones dropped.
    """
    return images.device.type != "cpu" or torch.compiler.is_compiling()


def on_device(params: Params, device: torch.device) -> Params:
    """`params` on `device`: one copy for all of them, from pinned memory, so that the host does not wait."""
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


def per_image(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return values[:, None, None, None]


class KorniaOperator(IntensityAugmentationBase2D):
    """An operator inside Kornia's containers, on image data keys.

    Called without parameters it draws from torch's global generator, as Kornia's own modules do; a draw
    can be replayed with `params=`. The gate is the operator's own, per image.
    """

    def __init__(self, operator: Operator):
        super().__init__(p=1.0)
        self.operator = operator

    def generate_parameters(self, batch_shape) -> Params:
        seed = int(torch.randint(2**62, ()))
        drawn = self.operator.draw(batch_shape[0], batch_shape[-1], torch.Generator().manual_seed(seed))
        return {f"operator.{name}": value for name, value in drawn.items()}  # Kornia keeps keys of its own here

    def apply_transform(self, input: Tensor, params: Params, flags, transform=None) -> Tensor:
        own = {n.removeprefix("operator."): value for n, value in params.items() if n.startswith("operator.")}
        return self.operator.transform(input, on_device(own, input.device))

    def extra_repr(self) -> str:
        return repr(self.operator)
