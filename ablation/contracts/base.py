"""Shared by all contracts: which classes to check, on which images, and the wording of errors."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablation.data import Data
from ablation.operators import FromKornia
from ablation.spec import InvalidSpec, Training, is_ours
from ablation.spec.randomness import generator_at
from ablation.system import distributed

LARGER = 600  # images of a batch larger than any that an operator gets in training on a CPU
IMAGES = 64  # images to check an operator on: some of the data set, then black, white and noise
ROUNDING = 1e-5  # tolerance for leaving [0, 1], and for a second application on a CPU
ALONE = 1e-3  # tolerance for an image computed among others: kernels round differently
BFLOAT16 = 0.05  # the same for an encoder in bfloat16, as a share of its largest value
DARK = 0.1  # a white image and noise end up darker than this if [0, 1] is divided by 255
SATURATED = 0.9  # the share of values at the ends of [0, 1] that causes a warning
FEW = 1e-3  # the share of an image's values that may differ by more: a threshold turns rounding into a step


def by_a_user(spec: Any) -> bool:
    """Whether the spec or any part of it has a class that is not ours; FromKornia counts, as it holds Kornia's."""
    if isinstance(spec, (tuple, list)):
        return any(map(by_a_user, spec))
    if isinstance(spec, Mapping):
        return any(map(by_a_user, spec.values()))
    if not dataclasses.is_dataclass(spec) or isinstance(spec, type):
        return False
    foreign = not is_ours(type(spec)) or isinstance(spec, FromKornia)
    return foreign or any(by_a_user(getattr(spec, f.name)) for f in dataclasses.fields(spec))


def parts_by_a_user(training: Training) -> list[Any]:
    """The operators, encoder, method, optimizer and schedule of a user's class."""
    optimization = training.optimization
    parts = [*training.operators, training.encoder, training.method]
    return [part for part in (*parts, optimization.optimizer, optimization.schedule) if by_a_user(part)]


_said: set[tuple] = set()  # lines that this process has printed, by class


def say(spec: Any, line: str, about: str = "") -> None:
    """Prints a warning, once per process, about something that may be intended. about: the subject of a line with
    numbers, so that the same warning with other numbers does not follow."""
    if (type(spec), about or line) not in _said and distributed.rank() == 0:
        _said.add((type(spec), about or line))
        print(f"ablation: {type(spec).__name__}: {line}", file=sys.stderr, flush=True)


def with_extremes(stored: Tensor) -> Tensor:
    """The uint8 images plus a black one, a white one and noise, as float32 in [0, 1]."""
    noise = torch.randint(256, stored[:1].shape, generator=generator_at("contracts", "noise"), dtype=torch.uint8)
    extremes = [torch.zeros_like(stored[:1]), torch.full_like(stored[:1], 255), noise.to(stored.device)]
    return torch.cat([stored, *extremes]).float().div_(255)


def first_images(data: Data) -> Tensor:
    rows = torch.arange(min(IMAGES - 3, len(data.train)), device=data.device)
    [some] = data.batches(data.train.images, [rows])
    return some


def broken(spec: Any, rule: str, seen: str, cure: str) -> InvalidSpec:
    label = getattr(spec, "label", None)
    name = type(spec).__name__ + (f" ({label!r})" if isinstance(label, str) else "")
    return InvalidSpec(f"{name}: {rule}, but {seen}. {cure}")


def shown(value: Any) -> str:
    """ "a tensor (8, 3) of int64 on cpu", "None", "a list"; on one line."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"a tensor {tuple(value.shape)} of {kind} on {value.device.type}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)[:80]
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value[:4]))})"
    return f"a {type(value).__name__}"


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether all numbers are equal; not-a-number equals itself."""
    return one.shape == other.shape and one.dtype == other.dtype and bool(((one == other) | (one != one)).all())


@contextmanager
def generators_untouched(spec: Any, function: str, device: torch.device | None) -> Iterator[None]:
    """Refuses code that draws from a global generator of NumPy or Python, or, unless `device` is None, of torch."""
    before = _states(device)
    yield
    used = [name for name, state in _states(device).items() if state != before[name]]
    if used:
        origin = "torch's, which are seeded for reproducibility" if device is None else "drawn from its own generator"
        cure = "Use torch's functions." if device is None else "Draw in `sample`, from its argument `generator`."
        seen = f"{function} uses the global generator of {', '.join(used)}"
        raise broken(spec, f"random numbers must be {origin}", seen, cure)


def _states(device: torch.device | None) -> dict[str, Any]:
    kind, words, *rest = np.random.get_state()
    states: dict[str, Any] = {"NumPy": (kind, words.tobytes(), *rest), "Python's random": random.getstate()}
    if device is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    if device is not None and device.type == "cuda":
        states["torch on the GPU"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
