"""Any two-dimensional augmentation of Kornia as an operator.

Kornia's modules draw from torch's global generator and keep their last draw. Here a module draws at an address and
leaves the global generators unchanged, each call works on a copy of the module, and a draw is replayed (Kornia's
`params=`) with one row per image. docs/kornia.md lists the modules, their laws and their speeds.
"""

from __future__ import annotations

import copy
import functools
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import kornia
import torch
from kornia.augmentation import AugmentationBase2D, IntensityAugmentationBase2D
from torch import Tensor, nn

from ablation.operators.base import Operator, Params
from ablation.operators.kornia_settings import settings_of
from ablation.spec import InvalidSpec, Spec, outside_identity
from ablation.spec.base import clean
from ablation.spec.randomness import global_draws_at

CPU = torch.device("cpu")
# Parameters that hold row numbers, which must be renumbered when a batch is cut: each row's own number, and the row
# that gives the kernel's size, which all rows of a batch share.
ROW_NUMBER = {"RandomChannelDropout": "batch_idx", "RandomMotionBlur": "idx"}
INSIDE = re.compile(r"_|keepdim=|p_batch=|randperm=|\w+_(sampler|dist)=")  # settings that descriptions omit


@dataclass(frozen=True, kw_only=True)
class Augmentation(Spec):
    """A Kornia module as given, identified by its class, Kornia's version and its settings."""

    name: str
    kornia: str
    settings: tuple[str, ...]
    module: nn.Module = field(compare=False, repr=False, metadata={"identity": False})

    @classmethod
    def of(cls, module: nn.Module) -> Augmentation:
        """A copy with p = 1: the operator's gate decides which images change."""
        module = copy.deepcopy(module).to(CPU, torch.float32)
        module.p = 1.0
        name = type(module).__name__
        return cls(name=name, kornia=kornia.__version__, settings=settings_of(module), module=module)

    def draw(self, batch: int, channels: int, size: int, *address: int | str) -> Params:
        """Kornia's parameters for a batch; restores the global generators."""
        with global_draws_at(CPU, *address):
            drawn = dict(copy.deepcopy(self.module).forward_parameters(torch.Size((batch, channels, size, size))))
        for number in ("batch_prob", ROW_NUMBER.get(self.name)):
            drawn.pop(number, None)
        return drawn

    def replay(self, images: Tensor, params: Params) -> Tensor:
        """The module's result on images (B, C, S, S) with the drawn parameters, one row per image."""
        count = len(images)
        params = {**params, "batch_prob": torch.ones(count, device=images.device)}
        if self.name == "RandomChannelDropout":
            params["batch_idx"] = torch.arange(count, device=images.device)[:, None].expand_as(params["channel_idx"])
        if self.name == "RandomMotionBlur":
            params["idx"] = torch.zeros(1, dtype=torch.long)
        module = copy.deepcopy(self.module).to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return module(images, params=params)


class Law(NamedTuple):
    """Facts about an augmentation on images of one size, measured by a trial."""

    shared: tuple[str, ...]  # parameters drawn once per batch
    input_shape: tuple[int, ...]  # Kornia's `forward_input_shape`, without the batch
    side: int  # of the results


@dataclass(frozen=True, kw_only=True)
class FromKornia(Operator):
    """One of Kornia's two-dimensional augmentations: `FromKornia(K.RandomPlanckianJitter(), label="planckian")`.

    augmentation: the module; later changes to it have no effect. p: the probability per image, by default the module's
    own. label: on the axes of figures, by default from the name of the class. channels: of the images. clamp: clip
    values outside [0, 1] instead of refusing them.

    scaled: pairs of a parameter that the module draws and its neutral value, such as (("degrees", 0.0),). With
    strength s, a drawn d becomes value + s (d - value). Without pairs, strength must be 1 (or 0, the identity).

    Raises InvalidSpec for modules that mix images or gate whole batches, containers, classes that are not Kornia's,
    and settings that the identity cannot describe.
    """

    augmentation: Any = field(kw_only=False)
    p: float | None = None
    label: str = outside_identity(default="")
    channels: int = 3
    scaled: tuple[tuple[str, float], ...] = ()
    clamp: bool = False

    def __post_init__(self):
        if not isinstance(self.augmentation, Augmentation):
            module = _accepted(self.augmentation)
            object.__setattr__(self, "augmentation", Augmentation.of(module))
            object.__setattr__(self, "p", module.p if self.p is None else self.p)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.augmentation.name.removeprefix("Random")).lower()
        object.__setattr__(self, "label", clean(self.label) or words)
        super().__post_init__()
        self.require_count("channels")
        self.require("clamp", isinstance(self.clamp, bool), "be True or False")
        pairs = isinstance(self.scaled, tuple) and all(isinstance(e, tuple) and len(e) == 2 for e in self.scaled)
        self.require("scaled", pairs, "be a tuple of pairs", 'Write scaled=(("degrees", 0.0),).')
        self.require(
            "strength", bool(self.scaled) or self.strength in (0, 1), "be 1 without `scaled`",
            'Name a parameter that the module draws and its neutral value: scaled=(("degrees", 0.0),).',
        )  # fmt: skip

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        seed = int(torch.randint(2**62, (), generator=generator))
        shared = self.law(size).shared
        # Some modules cannot draw for an empty batch.
        drawn = self.augmentation.draw(max(batch, 1), self.channels, size, "kornia", seed)
        del drawn["forward_input_shape"]
        for name, neutral in self.scaled:
            if name not in drawn or not drawn[name].is_floating_point():
                numbers = ", ".join(n for n, value in drawn.items() if value.is_floating_point()) or "nothing"
                cure = f"{self.augmentation.name} draws {numbers}."
                self.require("scaled", False, "name parameters that the module draws", cure)
            drawn[name] = neutral + self.strength * (drawn[name] - neutral)
        return {n: value.expand(max(batch, 1), *value.shape)[:batch] if n in shared else value[:batch]
                for n, value in drawn.items()}  # fmt: skip

    def apply(self, images: Tensor, params: Params) -> Tensor:
        law = self.law(images.shape[-1])
        if images.shape[1] != self.channels:
            channels = images.shape[1]
            self.require("channels", False, f"be {channels}, as in the images", f"Set channels={channels}.")
        results = [(rows, self._replayed(images[rows], params, rows, law)) for rows in _batches(params, law.shared)]
        if len(results) == 1:
            out = results[0][1]
        else:  # rows of several batches, each with its own shared parameters
            rows = torch.cat([rows for rows, _ in results])
            out = torch.cat([each for _, each in results])[rows.argsort()]
        return out.clamp(0, 1) if self.clamp else out

    def _replayed(self, images: Tensor, params: Params, rows: Any, law: Law) -> Tensor:
        own = {n: value[rows][0] if n in law.shared else value[rows] for n, value in params.items()}
        own["forward_input_shape"] = torch.tensor((len(images), *law.input_shape))
        return self.augmentation.replay(images, own)

    @property
    def moves_pixels(self) -> bool:
        """Whether pixels change their place: True for all except Kornia's intensity augmentations."""
        return not isinstance(self.augmentation.module, IntensityAugmentationBase2D)

    def output_size(self, size: int | None) -> int | None:
        sized = any(each.startswith(("size=", "output_size=")) for each in self.augmentation.settings)
        return self.law(size).side if sized and size is not None and self.strength > 0 else size

    def law(self, size: int) -> Law:
        """The law that a trial on images of `size` pixels shows. Raises InvalidSpec if the module fails on them."""
        return _law(self.augmentation, self.channels, size)

    def describe(self, size: int) -> str:
        law, name = self.law(size), self.augmentation.name
        drawn = f"; {', '.join(law.shared)} drawn once per batch" if law.shared else ""
        resized = f"; result {law.side} px" if law.side != size else ""
        scaled = f"; strength {self.strength:g} of {', '.join(n for n, _ in self.scaled)}" if self.scaled else ""
        clipped = "; clipped" if self.clamp else ""
        settings = [each for each in self.augmentation.settings if not INSIDE.match(each)]
        return f"Kornia's {name}({', '.join(settings)}){drawn}{scaled}{resized}{clipped}"


def _accepted(module: Any) -> nn.Module:
    """The module; raises InvalidSpec if it cannot be an operator."""
    name = type(module).__name__
    if not isinstance(module, AugmentationBase2D) or type(module).__module__.split(".")[0] != "kornia":
        raise InvalidSpec(
            f"FromKornia.augmentation must be a two-dimensional augmentation of Kornia, but got {name}. "
            "Give one module, such as FromKornia(K.RandomInvert()). List the modules of a container one by one in the "
            "view; write an augmentation of your own, or one that mixes images, as an Operator."
        )
    if module.p_batch != 1:
        raise InvalidSpec(
            f"FromKornia.augmentation must draw for each image, but {name} has p_batch={module.p_batch}. "
            "Leave p_batch at 1 and set p, the probability per image."
        )
    return module


@functools.lru_cache(maxsize=1024)
def _law(augmentation: Augmentation, channels: int, size: int) -> Law:
    """Compares draws for 5 and for 7 images, and applies the first."""
    subject = f"FromKornia.augmentation: Kornia's {augmentation.name}"
    images = torch.linspace(0, 1, 5 * channels * size * size).view(5, channels, size, size)
    try:
        few, many = (augmentation.draw(len_, channels, size, "kornia", "law", len_) for len_ in (5, 7))
        with global_draws_at(CPU, "kornia", "law"):
            result = augmentation.replay(images, few)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InvalidSpec(
            f"{subject} fails on images of shape {tuple(images.shape[1:])} ({type(error).__name__}: {reason[:200]}). "
            "Give it settings that fit these images, or omit it."
        ) from error
    if result.ndim != 4 or result.shape[:2] != images.shape[:2] or result.shape[2] != result.shape[3]:
        raise InvalidSpec(
            f"{subject} must return square images of {channels} channels, but turns {tuple(images.shape[1:])} into "
            f"{tuple(result.shape[1:])}. Give it a size with two equal numbers."
        )
    input_shape = tuple(few.pop("forward_input_shape").tolist())[1:]
    shared = []
    for name, value in few.items():
        other = many[name]
        if value.shape == other.shape:
            shared.append(name)
        elif (len(value), len(other)) != (5, 7) or value.shape[1:] != other.shape[1:]:
            raise InvalidSpec(
                f"{subject} must draw the same shapes for every batch, but draws {name!r} with shapes "
                f"{tuple(value.shape)} and {tuple(other.shape)}. Fix the number that varies, for RandomRain "
                "number_of_drops=(1500, 1500)."
            )
    return Law(tuple(shared), input_shape, result.shape[-1])


def _batches(params: Params, shared: tuple[str, ...]) -> list[Any]:
    """Groups of rows with equal shared parameters; one group of all rows if nothing is shared."""
    if not shared:
        return [slice(None)]
    keys = torch.cat([params[name].flatten(1).double() for name in shared], 1)
    group = keys.unique(dim=0, return_inverse=True)[1]
    return [(group == number).nonzero().squeeze(1) for number in group.unique()]
