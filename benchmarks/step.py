"""One training step: images per second, the augmentation's share, and the share of the machine's arithmetic rate.

A step is the work of `pretrain` on a batch: views, forward and backward pass, optimizer. Its floating-point operations
(torch's FlopCounterMode; a multiplication and an addition count as two) are compared with the rate of a large matrix
product in the same precision, measured in turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from ablation import SimCLR
from ablation.data import Data, Split
from ablation.methods.base import Progress
from ablation.spec import Training
from ablation.spec.randomness import global_draws_at
from ablation.study.experiment_file import load, read
from ablation.study.scales import Scale, scale_named
from ablation.training.compile import compiled_objective, objective_of
from ablation.training.loop import build_learner, take_step
from ablation.training.views import TOGETHER, Batch, training_views
from benchmarks.measure import Row, peak_extra_memory, row, seconds
from benchmarks.views import VIEW, cases, kornia_views

MIDDLE = Progress(step=351, epoch=20, fraction=0.5)  # no method does there what it does once in many steps


class Stepper:
    """A training in the middle: `views` makes the views of some batches, `step` takes as many steps on them, `both`
    does both. `together`: the number of these steps, as in training.
    """

    def __init__(
        self, training: Training, data: Data, compiled: bool = False, channels_last: bool = True, most: int = TOGETHER
    ):
        self.training, self.data, self.compiled, self.channels_last = training, data, compiled, channels_last
        self.objective = compiled_objective() if compiled else objective_of
        self.learner = build_learner(training, data).to(data.train.images.device).train()
        if channels_last:
            self.learner = self.learner.to(memory_format=torch.channels_last)
        self.optimizer = training.optimization.optimizer.build(self.learner)
        batch, images = training.optimization.batch, data.train.images
        self.together = max(1, most // batch) if images.device.type == "cpu" else 1
        self.batches = [torch.arange(batch, device=images.device)] * self.together
        self.count = 0
        self.made = self.views()

    def views(self) -> list[Batch]:
        self.count += 1
        images, address = self.data.train.images, ("benchmark", self.count)
        found = training_views(images, self.batches, self.training, self.data, address, compiled=self.compiled)
        if self.channels_last:
            return list(found)
        return [([view.contiguous() for view in views], beside) for views, beside in found]

    def step(self) -> None:
        labels = self.data.train.labels[: self.training.optimization.batch]
        for number, batch in enumerate(self.made):
            with global_draws_at(self.data.device, "benchmark", self.count, number):
                objective, learner = self.objective, self.learner
                take_step(learner, self.optimizer, batch, labels, self.training, MIDDLE, objective)
                learner.after_step(MIDDLE)

    def both(self) -> None:
        self.made = self.views()
        self.step()

    def flops(self) -> int:
        with FlopCounterMode(display=False) as counter:
            self.step()
        return counter.get_total_flops()


class KorniaStepper(Stepper):
    """The same step on views from Kornia's own modules."""

    def views(self) -> list[Batch]:
        images = self.data.train.images
        if not hasattr(self, "module"):
            self.module = cases(images.shape[-1])["SimCLR view"][1].to(images.device)
        return [(kornia_views(images[batch], self.module, self.data), None) for batch in self.batches]


def random_data(count: int, size: int, device: str) -> Data:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
        return Split(images, torch.randint(0, 10, (count,), generator=generator))

    splits = {"train": split(count), "validation": split(10), "test": split(10)}
    return Data(**splits, classes=tuple("0123456789")).to(torch.device(device))


def run(device: str, quick: bool) -> Iterator[Row]:
    yield from one_step(scale_named("tiny"), device, batch=128, quick=quick)
    # A CPU would take most of a minute for the GPU's batch of 512 images.
    yield from one_step(scale_named("cifar10"), device, batch=32 if device == "cpu" else 512, quick=quick)
    yield from pairwise_shares(device)


def one_step(scale: Scale, device: str, batch: int, quick: bool) -> Iterator[Row]:
    """float32 and bfloat16, channels_last or not, compiled or not, with symmetric SimCLR views."""
    data = random_data(batch, 32, device)
    settings = {}
    for precision in ("float32", "bfloat16"):
        for channels_last in (True, False):
            for compiled in (False,) if quick else (False, True):
                method = scale.method(SimCLR)
                optimization = scale.optimization(method, precision=precision, batch=batch)
                training = scale.run(method, views=(VIEW, VIEW), optimization=optimization).training
                name = f"{precision}, {'channels_last' if channels_last else 'contiguous'}"
                settings[f"{name}, {'compiled' if compiled else 'eager'}"] = (training, compiled, channels_last)
    ours = f"{scale.precision}, channels_last, eager"
    steppers = {}
    for name, (training, compiled, channels_last) in settings.items():
        # Views of ResNet-18 are a hundredth of its step, and sixteen steps at a time would take minutes to repeat.
        most = TOGETHER if batch >= 128 else batch
        steppers[name] = Stepper(training, data, compiled, channels_last, most)
    calls = {name: stepper.both for name, stepper in steppers.items()}
    calls |= {f"{name}: step": stepper.step for name, stepper in steppers.items() if "eager" in name}
    products = {p: matrix_product(p, device) for p in ("float32", "bfloat16")}
    calls |= {f"product {p}": call for p, (call, _) in products.items()}
    found = seconds(calls, device)
    case = f"{scale.encoder.label}, batch {batch}"
    for name, stepper in steppers.items():
        ratio = statistics.median(t / o for t, o in zip(found[name], found[ours], strict=True))
        memory = peak_extra_memory(stepper.both, device) / 2**20
        rates = [stepper.together * batch / s for s in found[name]]
        yield row("step", case, name, "images/s", rates, ratio, memory)
    for name, stepper in steppers.items():
        if f"{name}: step" not in found:
            continue
        only, whole = found[f"{name}: step"], found[name]
        flops, precision = stepper.flops(), name.split(",")[0]
        product = [products[precision][1] / s for s in found[f"product {precision}"]]
        share = [100 * (1 - s / w) for s, w in zip(only, whole, strict=True)]
        used = [100 * flops / w / rate for w, rate in zip(whole, product, strict=True)]
        yield row("step", f"{case}: augmentation's share", name, "%", share)
        yield row("step", f"{case}: FLOP/s over the matrix rate", name, "%", used)
    for precision, (_, flops) in products.items():
        rates = [flops / s / 1e9 for s in found[f"product {precision}"]]
        yield row("step", "matrix product", precision, "GFLOP/s", rates)


def matrix_product(precision: str, device: str):
    """A call, and its floating-point operations."""
    size = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    return (lambda: a @ b), 2 * size**3


def pairwise_shares(device: str) -> Iterator[Row]:
    """The augmentation's share of a step in each of the 49 cells of the tiny pairwise grid, and its mean."""
    experiment = load(read("pairwise", "tiny", None))
    cells = [c for c in experiment.cells if c.coords.get("seed") == 0 and "second" in c.coords]
    data = random_data(cells[0].run.training.optimization.batch, 32, device)
    shares = []
    for cell in cells:
        stepper = Stepper(cell.run.training, data)
        found = seconds({"both": stepper.both, "step": stepper.step}, device)
        pairs = zip(found["step"], found["both"], strict=True)
        shares.append([100 * (1 - step / both) for step, both in pairs])
    rounds = [statistics.mean(each) for each in zip(*shares, strict=True)]
    yield row("step", f"augmentation's share, mean of the {len(cells)} tiny cells", "ours", "%", rounds)
    middle = [statistics.median(each) for each in shares]
    yield row("step", "augmentation's share, over the tiny cells", "ours", "%", middle)
