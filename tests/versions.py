"""A few numbers that each of our classes computes on fixed input, beside its version.

    python tests/versions.py    writes tests/versions.json

A change of numbers without a raised version fails tests/test_versions.py: two results under one id must be the same.
Each entry's tolerance allows for another processor's rounding.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import small_training
from PIL import Image
from test_operators import OPERATORS as SAME_SIZE
from torch import Tensor
from trainings import TRAININGS, VIT

from ablation.contracts.steps import first_batch
from ablation.data import ImageData, Shapes, decode, loaded
from ablation.evaluate import KNN, FineTune, Invariance, Linear, Probe
from ablation.evaluate.alignment import alignment_and_uniformity
from ablation.evaluate.base import Subject
from ablation.evaluate.evaluator import evaluate_each
from ablation.methods import (
    BarlowTwins,
    Decoupled,
    Initialization,
    Margin,
    MoCo,
    NTLogistic,
    NTXent,
    SimCLR,
    Supervised,
    VICRegL,
)
from ablation.methods.base import Progress
from ablation.models.resnet import ResNet, SmallResNet
from ablation.operators import Blur, ColorDrop, Crop, PatchMask, Resize, Rotate
from ablation.operators.pipeline import annotate, make_views, sample
from ablation.spec import Constant, Cosine, Optimization, Steps, identity
from ablation.spec.randomness import generator_at, global_draws_at
from ablation.study.scales import SCALES
from ablation.training.loop import Start, build_learner, pretrain, take_step
from ablation.training.optimizers import LARS, SGD, Adam, AdamW

FILE = Path(__file__).with_suffix(".json")
OPERATORS = (*SAME_SIZE, Crop(size=16), Resize(size=16), PatchMask())
OBJECTIVES = (
    NTXent(), NTXent(temperature=0.1, l2_normalize=False), NTLogistic(), NTLogistic(semi_hard=True), Margin(),
    Margin(semi_hard=True), Decoupled(), Decoupled(sigma=0.5),
)  # fmt: skip


def fast(method: Any) -> Any:
    """With a momentum copy that moves far within five steps."""
    return method.replace(momentum=0.5) if hasattr(method, "momentum") else method


METHODS = (
    SimCLR(hidden=16, dimension=8, head="linear", batch_norm="separate"),
    MoCo(hidden=16, dimension=8, queue=20),
    VICRegL(hidden=16, dimension=8, local_hidden=8, local_dimension=8, matches=(3, 2), alpha=0.25),
    *map(fast, (training["method"] for training in TRAININGS.values())),
)
OPTIMIZERS = (
    SGD(learning_rate=0.1, weight_decay=0.01), SGD(learning_rate=0.1, nesterov=True), AdamW(learning_rate=0.01),
    LARS(learning_rate=0.3), LARS(learning_rate=0.3, trust=0.5, adapts_all=True, clips=True, nesterov=True),
    Adam(learning_rate=0.01, weight_decay=0.01),
)  # fmt: skip
EVALUATIONS = (
    KNN(k=(10, 5), temperature=(0.1,)), Linear(), Probe(task="grey", versions=((), (ColorDrop(),)), epochs=3),
    Invariance(operators=(Rotate(), Blur())), FineTune(epochs=2, batch=32, views=()),
)  # fmt: skip
SMALL = Shapes(train=140, validation=40, test=60, size=16)


def numbers(values: Tensor) -> list[float]:
    """Mean, deviation and three projections on fixed directions, which see every value and its place."""
    flat = values.detach().double().flatten()
    directions = torch.randn(3, len(flat), generator=generator_at("version", len(flat)), dtype=torch.float64)
    return [flat.mean().item(), flat.std().item(), *(directions @ flat / len(flat) ** 0.5).tolist()]


def pictures(count: int, size: int) -> Tensor:
    """Smooth pictures with noise, uint8, which every operator changes."""
    return Shapes(train=count + 10, validation=10, test=10, size=size).load().train.images[:count]


def of_operator(operator: Any) -> list[float]:
    images, address = pictures(24, 32), (0, "version")
    (view,) = make_views(images, (), ((operator,),), address)
    if "mask" not in operator.annotates:
        return numbers(view)
    (beside,) = annotate(sample((), ((operator,),), [address], 24, 32, images.device))
    return numbers(torch.cat([view.flatten(), beside["mask"].flatten()]))


def of_objective(objective: Any) -> list[float]:
    z = torch.randn(2, 12, 6, generator=generator_at("version", "z")).requires_grad_()
    loss, metrics = objective.loss(*z)
    loss.backward()
    return [loss.item(), *(float(value) for value in metrics.values()), *numbers(z.grad)]


def of_method(method: Any) -> list[float]:
    """Losses of five steps in two epochs, with views and encoder of the method's training in trainings.py, and a weight
    and the state afterwards: schedules, copies, queues, thawed prototypes and renewed groups count."""
    optimization = small_training().optimization.replace(optimizer=SGD(learning_rate=0.05))
    changes = TRAININGS[method.label] | {"method": method, "optimization": optimization}
    training, data = small_training(**changes), loaded(SMALL, "cpu")
    learner = build_learner(training, data).train()
    optimizer, losses = training.optimization.optimizer.build(learner), []
    views, labels, beside = first_batch(training, data)
    for step in range(5):
        shapes = [view.shape for view in views]
        views = [torch.randn(s, generator=generator_at("version", "view", step, i)) for i, s in enumerate(shapes)]
        progress, later = Progress(step, step // 3, step / 5), Progress(step + 1, (step + 1) // 3, (step + 1) / 5)
        with global_draws_at(torch.device("cpu"), "version", step):
            measured = take_step(learner, optimizer, (views, *(beside or [None])), labels, training, progress)
            learner.after_step(later)
        losses.append(measured["loss"].item())
    state = [each.flatten().double() for each in learner.state_dict().values() if each.is_floating_point()]
    return [*losses, *numbers(torch.cat(state))]


def of_encoder(encoder: Any) -> list[float]:
    built = build_learner(small_training(encoder=encoder, method=Initialization()), loaded(SMALL, "cpu")).encoder
    return numbers(built(torch.randn(4, 3, 32, 32, generator=generator_at("version", "images"))))


def of_optimizer(optimizer: Any) -> list[float]:
    generator = generator_at("version", "weights")
    module = torch.nn.Linear(5, 4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    built = optimizer.build(module)
    for _ in range(3):
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        built.step()
    return numbers(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))


def of_schedule(schedule: Any) -> list[float]:
    optimization = Optimization(epochs=1, batch=2, optimizer=OPTIMIZERS[0], warmup=0.2, schedule=schedule)
    return [optimization.rate(step, 50) for step in (0, 5, 10, 20, 30, 40, 49)]


def of_evaluation(evaluation: Any) -> list[float]:
    training, data = small_training(), loaded(SMALL, "cpu")
    learner = build_learner(training, data)
    subject = Subject(training, Start(learner.encoder.state_dict(), data.size))
    (found,) = evaluate_each((evaluation,), learner.encoder, data, "float32", learner.head, 1, subject)
    return [_on_a_scale(name, value) for name, value in found.metrics.items()]


def _on_a_scale(name: str, value: float) -> float:
    """Accuracies as fractions, penalties in powers of ten, cosines unchanged: one tolerance fits all."""
    return value / 100 if "top" in name else math.log10(value) if name.startswith(("penalty", "steps")) else value


def of_data(dataset: Any) -> list[float]:
    data = dataset.load()
    return [x for split in data.splits().values() for x in numbers(torch.cat([split.images.flatten(), split.labels]))]


def of_training(training: Any) -> list[float]:
    trained = pretrain(training, loaded(training.dataset, "cpu"))
    row = trained.history[-1]
    return [row["loss"], *alignment_and_uniformity(trained.learner, training, loaded(training.dataset, "cpu")).values()]


KINDS: dict[str, tuple[tuple, Callable[[Any], list[float]], float]] = {
    "operators": (OPERATORS, of_operator, 1e-4),
    "objectives": (OBJECTIVES, of_objective, 1e-4),
    "methods": (METHODS, of_method, 1e-3),
    "encoders": ((SmallResNet(), SmallResNet(blocks=2, stem_stride=1), ResNet(stem="cifar"), ResNet(depth=50), VIT,
        VIT.replace(positions="sincos", pool="mean")),
                 of_encoder, 1e-3),
    "optimizers": (OPTIMIZERS, of_optimizer, 1e-5),
    "schedules": ((Cosine(), Cosine(floor=0.1), Constant(), Steps()), of_schedule, 1e-9),
    "evaluations": (EVALUATIONS, of_evaluation, 0.017),  # one image of 60 may depend on the last digit
    "data": ((SMALL, SMALL.replace(shortcut=0.0)), of_data, 0.05),  # a pixel may be rounded to its neighbour
    "trainings": ((small_training(), small_training(method=BarlowTwins(hidden=16, dimension=8))), of_training, 0.01),
}  # fmt: skip


def entries() -> Iterator[tuple[str, str, int, Callable[[], list[float]], float]]:
    """Kind, spec, version, numbers, tolerance (absolute)."""
    for kind, (specs, compute, tolerance) in KINDS.items():
        for spec in specs:
            yield kind, repr(spec), spec.version, lambda spec=spec, compute=compute: compute(spec), tolerance


def decoded() -> dict[str, str | int]:
    """The version of ImageData, and a digest of the decoded pixels of an image of each kind. All are stored
    without loss, so the digests are exact."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (14, 20, 3), dtype=np.uint8))
    grey, alpha, indices = rng.integers(0, 256, (3, 14, 20), dtype=np.uint8)
    palette = Image.fromarray(indices % 16)
    palette.putpalette(rng.integers(0, 256, 48, dtype=np.uint8).tobytes())
    made = {"RGB": rgb, "L": Image.fromarray(grey), "1": Image.fromarray(grey > 99), "P": palette}
    made |= {"I;16": Image.fromarray(rng.integers(0, 65536, (14, 20), dtype=np.uint16))}
    made |= {"RGBA": rgb.copy(), "LA": Image.fromarray(grey)}
    for mode in ("RGBA", "LA"):
        made[mode].putalpha(Image.fromarray(alpha))
    assert all(image.mode == mode for mode, image in made.items())
    files = {f"{mode} PNG": (image, "PNG", {}) for mode, image in made.items()}
    files["P with a transparent color PNG"] = (palette, "PNG", {"transparency": 3})
    files["CMYK TIFF"] = (rgb.convert("CMYK"), "TIFF", {})
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files |= {f"RGB {kind} turned {orientation}": (rgb, kind, {"exif": exif}) for kind in ("PNG", "TIFF")}
    found: dict[str, str | int] = {"version": ImageData.version}
    for name, (image, kind, settings) in files.items():
        image.save(held := io.BytesIO(), kind, **settings)
        upright = decode.color(held.getvalue())
        for side in (None, 12):
            pixels = np.asarray(decode.square(upright, side))
            about = f"{name} at {side} px" if side else name
            found[about] = hashlib.sha256(f"{pixels.shape} ".encode() + pixels.tobytes()).hexdigest()[:16]
    return found


def split_and_ordered() -> list[list[str]]:
    """The images of each split of a folder, in order, by class and file number."""
    names = [f"{name}/{number}" for name in ("ant", "bee", "cat") for number in range(9)]
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            path = Path(folder, f"{name}.png")
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (number, number, number)).save(path)
        data = ImageData(path=folder, size=8, test=0.25, validation=0.25).load()
    return [[names[image[0, 0, 0]] for image in split.images] for split in data.splits().values()]


def default_ids() -> dict[str, str]:
    """Ids of a run of each scale with generated data and each method: they contain every default and version."""
    scale = SCALES["tiny"]()
    methods = (scale.method(SimCLR), scale.method(BarlowTwins), scale.method(Supervised), scale.method(Initialization))
    runs = {method.label: scale.run(method, views=((Crop(), scale.color()),) * 2) for method in methods}
    specs = [spec for specs, *_ in KINDS.values() for spec in specs]
    return {name: identity(run) for name, run in runs.items()} | {repr(spec): identity(spec) for spec in specs}


def main() -> None:
    found: dict[str, dict] = {}
    for kind, spec, version, compute, _ in entries():
        found.setdefault(kind, {})[spec] = [version, *(float(f"{x:.7g}") for x in compute())]
    found |= {"decoding": decoded(), "splits": {"of a folder": split_and_ordered()}, "ids": default_ids()}
    lines = []
    for kind, specs in found.items():
        rows = ",\n".join(f"  {json.dumps(spec)}: {json.dumps(row)}" for spec, row in specs.items())
        lines.append(f' "{kind}": {{\n{rows}\n }}')
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
