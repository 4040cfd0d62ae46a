"""Results of a device against those of the CPU: operators, views, losses, and a resumed training.

Every row is a largest difference, with its limit in the note. If the device is the CPU itself (a rehearsal), it uses
the code path of a GPU: rows are masked, not skipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from ablation.data import Data, Shapes
from ablation.data.prefetch import read_ahead
from ablation.methods import BarlowTwins, Method, SimCLR, Supervised
from ablation.methods.contrastive import Margin, NTLogistic, NTXent
from ablation.models.resnet import SmallResNet
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
    Resize,
    Rotate,
    Sobel,
    Solarize,
)
from ablation.operators.base import on_device, transform
from ablation.operators.pipeline import Transform, make_views, normalize
from ablation.spec import Optimization, Training
from ablation.spec.randomness import generator_at
from ablation.training.checkpoint import Checkpoint
from ablation.training.compile import compiled_transform, objective_of
from ablation.training.loop import build_learner, pretrain
from ablation.training.optimizers import AdamW
from ablation.training.precision import precision_of
from benchmarks.measure import Row
from benchmarks.step import VIEW, random_data

NEAR = 1e-4  # of pixels in [0, 1]: a fortieth of a grey level; rounding in a chain of operators reaches a tenth of it
BATCH = 64
OPERATORS = (
    Crop(), Crop(law="tensorflow", interpolation="bicubic"), Crop(strength=0.5), Crop(size=24), CropFlip(),
    CropFlip(p=0.5), Flip(), Flip(strength=2.0), ColorJitter(), ColorJitter(variant="simclr-additive"),
    ColorJitter(variant="torchvision"), ColorJitter(p=0.8, strength=0.5), ColorDrop(), ColorDrop(p=0.5, strength=0.5),
    Color(), Color(strength=0.5), Blur(), Blur(border="replicate"), Blur(border="constant", p=0.5), Cutout(),
    Cutout(fill="mean"), Sobel(), Sobel(strength=0.5), Rotate(), Rotate(turns=(2,), p=0.5), Noise(),
    Noise(std=(0.1, 0.1), p=0.5), Solarize(), Solarize(strength=0.5), Resize(size=24),
)  # fmt: skip
OTHERS = (Crop(law="tensorflow", interpolation="bicubic"), Cutout(), Rotate(), Noise(p=0.5), Sobel(p=0.5), Solarize())
METHODS = (
    SimCLR(),
    SimCLR(objective=NTXent(l2_normalize=False, temperature=10.0), batch_norm="separate"),
    SimCLR(objective=NTLogistic()),
    SimCLR(objective=NTLogistic(semi_hard=True)),
    SimCLR(objective=Margin()),
    SimCLR(objective=Margin(semi_hard=True)),
    BarlowTwins(hidden=256, dimension=256),
    Supervised(),
)


def operators(device: str, sizes: tuple[int, ...] = (32, 96)) -> Iterator[Row]:
    """Each operator with the same draws."""
    for size in sizes:
        images = random_data(BATCH, size, "cpu").train.images.float() / 255
        for operator in OPERATORS:
            params = operator.draw(BATCH, size, generator_at("laws", size, operator.label))
            expected = _reference(operator, images, params)
            found = _way_of(device)(operator, images.to(device), on_device(params, torch.device(device)))
            yield difference("operators", f"{_named(operator)}, {size} px", "eager", found, expected, NEAR)


def views(device: str, batch: int, compiled: bool = True) -> Iterator[Row]:
    """`make_views` at an address, its draws, `normalize`, and images in host memory."""
    data, where = random_data(batch, 32, device), torch.device(device)
    images = data.train.images.cpu()
    shared, branches, address = (Flip(),), {"SimCLR's view": VIEW, "other operators": OTHERS}, ("laws", "views")
    draws = (_drawn(images.to(d), shared, (VIEW, OTHERS), address) for d in (where, "cpu"))
    yield difference("views", "draws", "eager", *draws, 0)
    plain = normalize(images / 255, data.mean.cpu(), data.std.cpu())
    found = normalize((images / 255).to(where), data.mean, data.std)
    yield difference("views", "normalize", "eager", found, plain, NEAR)
    rows = torch.randperm(batch, generator=generator_at("laws", "rows")).split(batch // 4)
    read = torch.cat([each.float() for each in read_ahead(images, rows, where)])
    yield difference("views", "images read ahead", "eager", read, images[torch.cat(rows)].float(), 0)
    ways = {"eager": _way_of(device)} | ({"compiled": compiled_transform()} if compiled else {})
    for name, branch in branches.items():
        [expected] = make_views(images, shared, (branch,), address, _reference)
        for way, chosen in ways.items():
            [found] = make_views(images.to(where), shared, (branch,), address, chosen)
            yield difference("views", f"make_views, {name}", way, found, expected, NEAR)


def losses(device: str) -> Iterator[Row]:
    """Loss and gradient of every method against the CPU's float64: relative differences.

    In float64 they show the law. In float32 the rounding of a single value near a ReLU's kink moves the gradient by
    some thousandths, on every device. By default a GPU may compute float32 convolutions in TF32. With such rough
    numbers the gradient is only reported: a semi-hard objective may choose other negatives.
    """
    data = Shapes().load()
    for method in METHODS:
        expected = _step(method, data, "cpu", "float64")
        for way, precision, near, nearly in (
            ("float64", "float64", 1e-10, 1e-10),
            ("float32 without TF32", "float32", 1e-4, 1e-2),
            ("float32", "float32", 1e-2, None),
            ("bfloat16", "bfloat16", 5e-2, None),
        ):
            allowed = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = allowed and "without" not in way
            try:
                found = _step(method, data, device, precision)
            finally:
                torch.backends.cudnn.allow_tf32 = allowed
            for what, one, other, limit in zip(("loss", "gradient"), found, expected, (near, nearly), strict=True):
                off = ((one.double().cpu() - other).norm() / other.norm()).item()
                yield _row("losses", f"{_named(method)}: {what}, relative", way, off, limit)


def resume(device: str, encoders: tuple, batch: int, compiled: bool = True) -> Iterator[Row]:
    """A training stopped in its second epoch and resumed, against an uninterrupted one."""
    data = Shapes(train=9 * batch, validation=batch, test=batch).load().to(torch.device(device))
    ways = [(encoder, p, False) for encoder in encoders for p in ("float32", "bfloat16")]
    for encoder, precision, through in ways + ([(encoders[0], "float32", True)] if compiled else []):
        optimization = Optimization(
            epochs=2, batch=batch, optimizer=AdamW(learning_rate=1e-3), precision=precision, curve_every=0
        )
        training = Training(
            dataset=Shapes(), views=(VIEW, VIEW), method=SimCLR(), encoder=encoder, optimization=optimization
        )
        way, limit = f"{precision}, {'compiled' if through else 'eager'}", None if through else 0
        whole, again = (_weights(training, data, through) for _ in range(2))
        yield difference("resume", f"{encoder.label}, trained twice", way, again, whole, limit)
        with tempfile.TemporaryDirectory() as folder:
            stopped = Checkpoint(Path(folder), "laws", math.inf)
            with contextlib.suppress(_Stopped):
                _weights(training, data, through, checkpoint=stopped, progress=partial(_stop, stopped))
            continued = _weights(training, data, through, checkpoint=Checkpoint(Path(folder), "laws", math.inf))
        yield difference("resume", f"{encoder.label}, stopped and continued", way, continued, whole, limit)


def difference(part: str, case: str, contender: str, found: Tensor, expected: Tensor, limit: float | None) -> Row:
    return _row(part, case, contender, (found.cpu() - expected.cpu()).abs().max().item(), limit)


def _row(part: str, case: str, contender: str, off: float, limit: float | None) -> Row:
    note = "" if limit is None else f"{'within' if off <= limit else 'NOT within'} {limit:g}"
    return Row(f"gpu {part}", case, contender, "difference", off, off, off, 1, note=note)


def _named(spec: Operator | Method) -> str:
    """The name of a spec: its class and its fields that differ from the defaults."""
    defaults = type(spec)()
    pairs = ((f.name, getattr(spec, f.name)) for f in dataclasses.fields(spec))
    changed = [f"{n}={_named(v) if n == 'objective' else v}" for n, v in pairs if v != getattr(defaults, n)]
    return f"{type(spec).__name__}({', '.join(changed)})"


def _masked(operator: Operator, images: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Transforms on a CPU with the fixed shapes of a GPU (`operators.base.fixed_shapes`)."""
    with mock.patch("torch.compiler.is_compiling", return_value=True):
        return transform(operator, images, params)


def _way_of(device: str) -> Transform:
    return _masked if device == "cpu" else transform


def _reference(operator: Operator, images: Tensor, params: dict[str, Tensor]) -> Tensor:
    """The expected images on a CPU. Noise is drawn as on a device without synchronization, unlike on a CPU."""
    return (_masked if isinstance(operator, Noise) else transform)(operator, images, params)


def _drawn(images: Tensor, shared, branches, address) -> Tensor:
    """All random numbers of `make_views`, in order."""
    found = []

    def keep(operator, images, params):
        found.extend(params[name].double().flatten().cpu() for name in sorted(params))
        return images

    make_views(images, shared, branches, address, keep)
    return torch.cat(found)


def _step(method: Method, data: Data, device: str, precision: str) -> tuple[Tensor, Tensor]:
    """The loss of fixed views, and the gradient of all weights in one vector."""
    optimization = Optimization(epochs=1, batch=BATCH, optimizer=AdamW(learning_rate=1e-3))
    training = Training(
        dataset=Shapes(), views=((), ()), method=method, encoder=SmallResNet(), optimization=optimization
    )
    learner = build_learner(training, data).to(device, memory_format=torch.channels_last).train()
    generator = generator_at("laws", "losses")
    views = [torch.randn(BATCH, 3, 32, 32, generator=generator).to(device) for _ in range(2)]
    labels = (torch.arange(BATCH) % 10).to(device)
    if precision == "float64":
        learner, views = learner.double(), [view.double() for view in views]
        exact = mock.patch.object(Tensor, "float", Tensor.double)  # losses leave bfloat16 by `.float()`
    else:
        exact = precision_of(precision, torch.device(device))
    with exact:
        loss, _ = objective_of(learner, views, labels)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


class _Stopped(Exception):
    pass


def _stop(checkpoint: Checkpoint, fraction: float) -> None:
    """Stops in the middle of the second epoch, a step after the only checkpoint."""
    if checkpoint.due():
        raise _Stopped
    if fraction > 0.7:
        checkpoint.every = 0


def _weights(training: Training, data: Data, compiled: bool, **options) -> Tensor:
    learner = pretrain(training, data, compiled=compiled, **options).learner
    return torch.cat([each.double().flatten() for each in learner.state_dict().values()])
