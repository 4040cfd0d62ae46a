"""The settings of a Kornia module, as lines for an identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ablation.spec import InvalidSpec

MANY = 16  # longest tensor written out; larger ones, such as a palette, become a digest
# Attributes of nn.Module, the gate (p, which the operator has), and Kornia's memory of the last call.
OTHER = {*vars(nn.Module()), "p", "device", "dtype", "_params", "_transform_matrix", "_lazy_matrix_args"}
OTHER |= {"_transform_matrix_params", "_transform_matrix_params_snapshot"}


def settings_of(module: nn.Module) -> tuple[str, ...]:
    """All state of the module except that of calls, as sorted lines "kernel_size=(3, 3)".

    Kornia keeps constructor arguments as attributes, as `flags`, and inside the generator of its parameters, some
    only as a distribution. Raises InvalidSpec with the setting's name for a value that is not plain.
    """
    return tuple(sorted(set(_lines(module, type(module).__name__))))


def _lines(module: nn.Module, owner: str) -> Iterator[str]:
    held = {name: value for name, value in vars(module).items() if name not in OTHER}
    held |= {**held.pop("flags", {}), **module._buffers, **module._parameters}
    for name, value in held.items():
        if value is not None:
            yield f"{name}={_plain(value, f'{owner}.{name}')!r}"
    for child in module.children():
        yield from _lines(child, owner)


def _plain(value: Any, place: str) -> Any:
    """The value as numbers, strings, tuples and dicts with sorted keys."""
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Tensor):
        return _numbers(value.detach().cpu())
    if isinstance(value, (tuple, list)):
        return tuple(_plain(each, place) for each in value)
    if isinstance(value, dict):
        return {key: _plain(value[key], place) for key in sorted(value, key=str)}
    if isinstance(value, Distribution):
        return {name: _plain(getattr(value, name), place) for name in sorted(value.arg_constraints)}
    if isinstance(value, partial):
        return tuple(_plain(each, place) for each in (value.func, value.args, value.keywords))
    if isinstance(value, BuiltinFunctionType):
        return value.__name__
    if isinstance(value, (torch.device, torch.dtype)):
        return str(value)
    if isinstance(value, FunctionType) and value.__module__.split(".")[0] in ("kornia", "torch"):
        return f"{value.__module__}.{value.__qualname__}"
    raise InvalidSpec(
        f"FromKornia.augmentation must have settings that an identity can describe, but {place} is a "
        f"{type(value).__name__}. Write an Operator of your own that calls Kornia's function."
    )


def _numbers(tensor: Tensor) -> Any:
    """Nested tuples of the shortest decimals that round to the tensor's values."""
    if tensor.numel() > MANY:
        return f"{tuple(tensor.shape)} {hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:12]}"
    if tensor.ndim:
        return tuple(_numbers(each) for each in tensor)
    return float(str(tensor.numpy())) if tensor.is_floating_point() else tensor.item()
