"""The training loop.

Read aloud: build the learner at the seed's address; for every epoch shuffle the images; for every batch
make the views, take a step down the objective; at the end of the epoch write a row of the learning curve.
The last epoch is the result.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ablation import distributed
from ablation.checkpoints import Checkpoint
from ablation.compiling import Objective, compiled_objective, compiled_transform, make_room, objective_of
from ablation.contracts import (
    check_contracts,
    check_encoder,
    check_kept,
    check_unchanged,
    operator_without_numbers,
)
from ablation.datasets import Data, DataError
from ablation.evaluate.features import embed, precision_of
from ablation.evaluate.knn import accuracies, nearest, vote
from ablation.evaluate.linear import fit, principal_components, scores
from ablation.machine import Meter, Sitting
from ablation.methods import Learner
from ablation.operators.base import on_device
from ablation.operators.base import transform as plain_transform
from ablation.randomness import address_seed, generator_at, global_draws_at
from ablation.specs import InvalidSpec, Training
from ablation.views import CHUNK, make_batches, make_views, normalize

TOGETHER = 512  # images whose views a CPU makes at once: a small batch's time goes into calls, not into arithmetic
Progress = Callable[[float], None]  # the finished fraction of the run's training
OnEpoch = Callable[[dict[str, float]], None]  # an epoch's row of the learning curve; what it raises ends the training


@dataclass(frozen=True)
class Trained:
    """history: one row per epoch; diagnostics: alignment and uniformity of z; sittings: what each part of it took."""

    learner: Learner
    history: list[dict[str, float]]
    diagnostics: dict[str, float]
    sittings: list[Sitting]
    compiled: bool


def pretrain(
    training: Training,
    data: Data,
    progress: Progress = lambda fraction: None,
    *,
    compiled: bool = False,
    on_epoch: OnEpoch = lambda row: None,
    checkpoint: Checkpoint | None = None,
    meter: Meter | None = None,
) -> Trained:
    """Trains on the device of `data`, with the other processes of a group where there is one (distributed.py). Raises
    FloatingPointError if the loss stops being a number, InvalidSpec where a user's class breaks its contract.

    compiled: operators and objective go through `torch.compile`; the same numbers but for rounding. checkpoint: where
    the training is continued from and kept, which changes no bit on the same kind of device. meter: of what it takes.
    """
    optimization, device = training.optimization, data.device
    images, labels = _training_images(training, data)
    build = partial(build_learner, training, len(data.classes))
    as_begun = check_contracts(training, data, build)
    if compiled:
        make_room(device)
    learner = build().to(device, memory_format=torch.channels_last)
    under_way = _UnderWay(learner, checkpoint, meter or Meter(str(device)), compiled)
    if training.method.trains:
        optimizer = under_way.optimizer = optimization.optimizer.build(learner)
        base_rates = [group["lr"] for group in optimizer.param_groups]
        steps_per_epoch = len(images) // optimization.batch  # the rest is another one each epoch
        steps = optimization.epochs * steps_per_epoch
        under_way.read(device, steps)
        progress(under_way.step / steps)
        for row in under_way.history:
            on_epoch(row)
        compiled = under_way.compiled
        objective = distributed.parallel(learner, compiled_objective() if compiled else objective_of)
        for epoch in range(under_way.step // steps_per_epoch, optimization.epochs):
            learner.train()
            order = torch.randperm(len(images), generator=generator_at(training.seed, "order", epoch))
            batches = on_device({"order": order}, device)["order"].split(optimization.batch)[:steps_per_epoch]
            address = (training.seed, "views", epoch)
            first = under_way.step - epoch * steps_per_epoch
            made = training_views(images, batches, training, data, address, compiled=compiled, first=first)
            for number, (batch, views) in enumerate(zip(batches[first:], made, strict=True), start=first):
                rate = optimization.rate(under_way.step, steps)
                for group, base in zip(optimizer.param_groups, base_rates, strict=True):
                    group["lr"] = base * rate
                with global_draws_at(device, *_loss_address(training.seed, epoch, number)):
                    under_way.add(take_step(learner, optimizer, views, labels[batch], training, objective))
                    learner.after_step(under_way.step / steps)
                progress(under_way.step / steps)
                if under_way.step % steps_per_epoch:
                    under_way.keep_if_due(optimization.epochs)
            row = {name: (value / steps_per_epoch).item() for name, value in under_way.sums.items()}
            if not math.isfinite(row["loss"]):
                blamed = operator_without_numbers(training, data, images, batches, address)
                if blamed:
                    raise InvalidSpec(blamed)
                raise FloatingPointError(
                    f"the loss of {training.method.label} became {row['loss']} in epoch {epoch + 1} of "
                    f"{optimization.epochs}; try a smaller learning rate, a longer warm-up or precision='float32'"
                )
            # As the optimizer used it, which may have a schedule of its own.
            row = {"epoch": epoch + 1, **row, "learning_rate": optimizer.param_groups[0]["lr"]}
            if _on_the_curve(epoch + 1, optimization) and distributed.rank() == 0:
                row |= validation_points(learner.encoder, data, optimization.precision)
            under_way.end_epoch(row)
            on_epoch(row)
            under_way.keep_if_due(optimization.epochs)
        learner = _apart(learner, training, data)
    check_unchanged(training, data, as_begun)
    check_kept(training, data, learner, build)
    diagnostics = alignment_and_uniformity(learner, training, data)
    return Trained(learner, under_way.history, diagnostics, under_way.all_sittings(), under_way.compiled)


@dataclass
class _UnderWay:
    """What a training is after `step` steps, all that it needs to go on."""

    learner: Learner
    checkpoint: Checkpoint | None
    meter: Meter
    compiled: bool  # as it was begun: other kernels give other last digits
    optimizer: torch.optim.Optimizer | None = None
    step: int = 0
    begun: int = 0  # the step that this sitting began with
    sums: dict[str, Tensor] = field(default_factory=dict)  # over the steps of the epoch, of the loss and beside it
    history: list[dict[str, float]] = field(default_factory=list)
    sittings: list[Sitting] = field(default_factory=list)  # the earlier ones

    def read(self, device: torch.device, steps: int) -> None:
        """Becomes what was kept last, if anything was; process 0 reads for all of its group. steps: of the whole."""
        where = device if distributed.count() == 1 else torch.device("cpu")  # from where it goes to every device
        state = self.checkpoint.read(where) if self.checkpoint and distributed.rank() == 0 else None
        state = distributed.tell(state)
        if state:
            if distributed.rank() == 0:
                which = f"{self.checkpoint.training_id} continues after step {state['step']} of {steps}"
                print(f"ablation: {which}", file=sys.stderr)
            self.learner.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = self.begun = state["step"]
            self.sums = {name: value.to(device) for name, value in state["sums"].items()}
            self.history, self.sittings, self.compiled = state["history"], state["sittings"], state["compiled"]

    def keep_if_due(self, epochs: int) -> None:
        checkpoint, last = self.checkpoint, len(self.history) == epochs
        if checkpoint and distributed.rank() == 0 and (checkpoint.due() or (last and checkpoint.keep)):
            checkpoint.write(
                f"epoch {min(epochs, len(self.history) + 1)} of {epochs}",
                learner=self.learner.state_dict(), optimizer=self.optimizer.state_dict(), step=self.step,
                sums=self.sums, history=self.history, sittings=self.all_sittings(), compiled=self.compiled,
            )  # fmt: skip

    def add(self, measured: dict[str, Tensor]) -> None:
        """One more step."""
        self.step += 1
        if self.sums and set(measured) != set(self.sums):
            names = [", ".join(sorted(set(each) - {"loss"})) or "none" for each in (self.sums, measured)]
            raise InvalidSpec(
                f"{type(self.learner).__name__}.loss must return the same metrics at every step, whose mean the "
                f"learning curve has, but it returned {names[0]} and then {names[1]}. Return all of them, as nan where "
                "there is no value."
            )
        for name, value in measured.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def end_epoch(self, row: dict[str, float]) -> None:
        self.meter.joules()  # often enough for a counter that starts again from zero
        self.history.append(row)
        self.sums = {}

    def all_sittings(self) -> list[Sitting]:
        return [*self.sittings, self.meter.sitting(self.begun) | {"processes": distributed.count()}]


def _apart(learner: Learner, training: Training, data: Data) -> Learner:
    """The learner, as one process evaluates it: its batch norm waits for no other."""
    if distributed.count() == 1:
        return learner
    apart = build_learner(training, len(data.classes)).to(data.device, memory_format=torch.channels_last)
    apart.load_state_dict(learner.state_dict())
    return apart


def training_views(
    images: Tensor,
    batches: Sequence[Tensor],
    training: Training,
    data: Data,
    address: tuple[int | str, ...],
    *,
    compiled: bool = False,
    first: int = 0,
) -> Iterator[list[Tensor]]:
    """The normalized views of each batch from batch `first` on, one tensor per branch.

    batches: indices into the uint8 images; batch i has the address (*address, i).
    """
    transform = compiled_transform() if compiled else plain_transform
    most = min(TOGETHER, CHUNK // images[0].numel())  # as many as go through the operators at a time
    together = max(1, most // len(batches[0])) if data.device.type == "cpu" else 1
    skipped = first % together  # made again with those beside it, so that the views are the same to the last bit
    starts = range(first - skipped, len(batches), together)
    groups = [batches[start : start + together] for start in starts]
    rows = [torch.cat([distributed.share(batch) for batch in some]) for some in groups]
    with closing(data.batches(images, rows)) as chosen:
        for start, some, stored in zip(starts, groups, chosen, strict=True):
            addresses = [(*address, start + i) for i in range(len(some))]
            part = (distributed.rank(), distributed.count())
            made = make_batches(stored, training.shared, training.views, addresses, transform, part)
            for views in made[skipped if start < first else 0 :]:
                yield [normalize(view, data.mean, data.std) for view in views]


def take_step(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    views: list[Tensor],
    labels: Tensor,
    training: Training,
    objective: Objective = objective_of,
) -> dict[str, Tensor]:
    """One step down the objective: the loss and the learner's metrics, detached. The host waits for nothing."""
    with precision_of(training.optimization.precision, labels.device):
        loss, metrics = objective(learner, views, labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": loss.detach(), **metrics}


def _loss_address(seed: int, epoch: int, step: int) -> tuple[int | str, ...]:
    """Where the draws inside a loss come from; each process of a group has rows, and so draws, of its own."""
    rank = distributed.rank()
    return (seed, "loss", epoch, step, *([rank] if rank else []))


def build_learner(training: Training, classes: int) -> Learner:
    """Encoder and heads initialized from the seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):  # built on the CPU, so its generator is the only one that is used
        torch.default_generator.manual_seed(address_seed(training.seed, "encoder"))
        encoder = training.encoder.build()
        check_encoder(training.encoder, encoder)
        torch.default_generator.manual_seed(address_seed(training.seed, "heads"))
        return training.method.build(encoder, classes)


def _training_images(training: Training, data: Data) -> tuple[Tensor, Tensor]:
    split = data.training(training.optimization.with_validation)
    check_batch(training, len(split))
    return split.images, split.labels


def check_batch(training: Training, count: int) -> None:
    batch = training.optimization.batch
    if batch > count:
        raise DataError(
            f"Optimization.batch must be at most the number of training images, but got {batch} for the {count} of "
            f"{training.dataset.label}. Use a smaller batch or more images."
        )


def _on_the_curve(epoch: int, optimization) -> bool:
    every = optimization.curve_every
    return bool(every) and (epoch % every == 0 or epoch == optimization.epochs)


CURVE_PENALTY, CURVE_TOLERANCE = 1e-3, 1e-3  # of the linear classifier of a learning curve, which is to cost little


def validation_points(encoder: nn.Module, data: Data, precision: str) -> dict[str, float]:
    """Top-1 in percent of the validation images, by classifiers of the training images' h, with running statistics.

    validation_knn: k = 200, T = 0.1. validation_linear: logistic regression with one penalty, to a tolerance ten times
    that of `Linear`.
    """
    h = {"train": embed(encoder, data.train.images, data, precision)}
    h["validation"] = embed(encoder, data.validation.images, data, precision)
    similarity, neighbours = nearest(h["validation"], h["train"], min(200, len(data.train)))
    votes = vote(similarity, data.train.labels[neighbours], 0.1, len(data.classes))
    found = {"validation_knn": votes, "validation_linear": linear_point(h, data)}
    return {name: accuracies(each, data.validation.labels)["top1"] for name, each in found.items()}


def linear_point(h: dict[str, Tensor], data: Data) -> Tensor:
    """Scores (N, classes) of the validation images, by a logistic regression on h of the training images."""
    x = principal_components(h)
    weights, _ = fit(x["train"], data.train.labels, len(data.classes), CURVE_PENALTY, CURVE_TOLERANCE)
    return scores(x["validation"], weights)


@torch.no_grad()
def alignment_and_uniformity(learner: Learner, training: Training, data: Data) -> dict[str, float]:
    """Of z on the unit sphere (Wang and Isola 2020, arXiv:2005.10242, equations 1 and 2; alpha = 2, t = 2).

    On views of at most 1,000 validation images, in evaluation mode: alignment is the mean squared distance of
    the first two views of an image (none for a single view), uniformity the log of the mean of
    exp(-2 |z_i - z_j|^2) over pairs of images in the first view.
    """
    learner.eval()
    images = data.validation.images[:1000].to(data.device)
    views = make_views(images, training.shared, training.views, (training.seed, "diagnostics"))[:2]
    with precision_of(training.optimization.precision, images.device):
        z = [learner.project(normalize(view, data.mean, data.std)).float() for view in views]
    z = [nn.functional.normalize(each, dim=1) for each in z]
    found = {"uniformity": torch.pdist(z[0]).square().mul(-2).exp().mean().log().item()}
    if len(z) == 2:
        found["alignment"] = (z[0] - z[1]).square().sum(1).mean().item()
    return found
