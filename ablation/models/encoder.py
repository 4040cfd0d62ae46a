"""Builds an encoder's module from its spec, for the images of a data set."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from ablation.data import Data
from ablation.spec import InvalidSpec, Training


def build_encoder(training: Training, data: Data, size: int | None = None) -> nn.Module:
    """The training's encoder, for the channels of the images and views of `size` pixels (default: the first view's)."""
    check_size = getattr(training.encoder, "check_size", None)
    if check_size is not None:
        check_size(data.size)  # evaluations and the learning curve take whole images
    return build_for(training.encoder, data.channels, size or view_size(training, data))


def view_size(training: Training, data: Data) -> int:
    """The side of the first view in pixels."""
    size = data.size
    for operator in (*training.shared, *training.views[0]):
        size = operator.output_size(size)
    return size


def build_for(spec: Any, channels: int, size: int) -> nn.Module:
    """Calls `spec.build(channels=..., size=...)` with the parameters that it accepts. size: in pixels.

    Raises InvalidSpec if the images do not have three channels and `build` has no parameter `channels`.
    """
    takes = inspect.signature(spec.build).parameters.values()
    everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes)
    names = {parameter.name for parameter in takes}
    if channels != 3 and not everything and "channels" not in names:
        raise InvalidSpec(
            f"the images have {channels} channels, so {type(spec).__name__}.build must take the number of channels, "
            f"but it takes {', '.join(sorted(names)) or 'nothing'}. Write def build(self, channels=3, size=None), and "
            "pass channels to the first layer."
        )
    images = {"channels": channels, "size": size}
    return spec.build(**{name: value for name, value in images.items() if everything or name in names})
