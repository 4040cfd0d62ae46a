"""The training loop.

Build the learner from the seed. In every epoch shuffle the images; for every batch draw the views and take a step; at
the end of the epoch add a row to the learning curve. The last epoch is the result.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ablation.contracts.learners import check_encoder, check_kept
from ablation.contracts.operators import check_unchanged, operator_without_numbers
from ablation.contracts.trace import Trace, check_trace, comparable, trace_of_training
from ablation.contracts.training import check_contracts
from ablation.data import Data, Split
from ablation.methods import Learner
from ablation.methods.base import START, Progress
from ablation.models.encoder import build_encoder
from ablation.spec import DataError, InvalidSpec, Training
from ablation.spec.randomness import address_seed, generator_at, global_draws_at
from ablation.system import distributed
from ablation.system.meter import Meter, Sitting
from ablation.training.checkpoint import Checkpoint
from ablation.training.compile import Objective, compiled_objective, make_room, objective_of
from ablation.training.precision import precision_of, repeatable
from ablation.training.schedule import Schedule
from ablation.training.state import TrainState
from ablation.training.views import Batch, batches_together, training_views

OnStep = Callable[[float], None]  # gets the finished fraction of the training
OnEpoch = Callable[[dict[str, float]], None]  # gets an epoch's row of the learning curve; may raise to end the training
Curve = Callable[[Learner], dict[str, float]]  # points of the learning curve


@dataclass(frozen=True)
class Start:
    """An encoder's weights. size: the side of the views in pixels for which it was built, as its positions may depend
    on it."""

    weights: Mapping[str, Tensor]
    size: int


@dataclass(frozen=True)
class Trained:
    """history: one row per epoch. sittings: time and memory of each part of the training. trace: of the user's
    classes, before the first step."""

    learner: Learner
    history: list[dict[str, float]]
    sittings: list[Sitting]
    compiled: bool
    trace: Trace


@repeatable()
def pretrain(
    training: Training,
    data: Data,
    progress: OnStep = lambda fraction: None,
    *,
    compiled: bool = False,
    on_epoch: OnEpoch = lambda row: None,
    curve: Curve | None = None,
    checkpoint: Checkpoint | None = None,
    meter: Meter | None = None,
    start: Start | None = None,
) -> Trained:
    """Trains on the device of `data`, together with the other processes of a group, if any (system/distributed.py).
    Raises FloatingPointError if the loss is not finite, InvalidSpec if a user's class breaks its contract.

    compiled: run operators and objective through `torch.compile`; the same numbers up to rounding. curve: measures the
    learner every `curve_every` epochs. checkpoint: the resume point; resuming is bit-exact on the same kind of device.
    meter: measures time and memory. start: of the encoder, None to initialize it.
    """
    split = data.training(training.optimization.with_validation)
    check_batch(training, len(split))
    build = partial(build_learner, training, data, start)
    with distributed.in_step():
        tried = check_contracts(training, data, build)
        trace = trace_of_training(training, data, build_learner) if checkpoint or not start else {}
    _check_trace(training, distributed.broadcast(trace), trace, "process 0", "give all processes the same")
    if compiled:
        make_room(data.device)
    learner = build().to(data.device, memory_format=torch.channels_last)
    optimization, trains = training.optimization, training.method.trains
    state = TrainState(
        learner,
        optimizer=optimization.optimizer.build(learner) if trains else None,
        epochs=optimization.epochs,
        steps_per_epoch=len(split) // optimization.batch,  # the images left over differ from epoch to epoch
        checkpoint=checkpoint,
        meter=meter or Meter(str(data.device)),
        compiled=compiled,
        trace=trace,
    )
    if trains:
        _train(training, data, split, state, progress, on_epoch, curve)
        learner = _for_one_process(learner, training, data)
    with distributed.in_step():
        check_unchanged(training, data, tried)
        check_kept(training, data, learner, build)
    return Trained(learner, state.history, state.all_sittings(), state.compiled, state.trace)


def _train(
    training: Training,
    data: Data,
    split: Split,
    state: TrainState,
    progress: OnStep,
    on_epoch: OnEpoch,
    curve: Curve | None,
) -> None:
    """Takes all remaining steps."""
    learner, optimizer, optimization = state.learner, state.optimizer, training.optimization
    seed, device = training.seed, data.device
    schedule = Schedule(optimizer, optimization, state.steps)
    earlier, again = state.resume(device), "remove the checkpoint to train from the start"
    _check_trace(training, earlier, state.trace, "the steps before its checkpoint", again)
    progress(state.fraction)
    for row in state.history:
        on_epoch(row)
    objective = distributed.parallel(
        learner, compiled_objective() if state.compiled else objective_of, optimization.batch
    )
    together = batches_together(split.images, optimization.batch, device)
    for epoch in range(state.epoch, optimization.epochs):
        learner.train()
        batches = _shuffled(split, optimization.batch, seed, epoch, device)
        first, address = state.step % state.steps_per_epoch, (seed, "views", epoch)
        views = training_views(split.images, batches, training, data, address, compiled=state.compiled, first=first)
        for number, (rows, batch) in enumerate(zip(batches[first:], views, strict=True), start=first):
            schedule.set(state.step)
            labels = None if split.labels is None else split.labels[rows]
            with global_draws_at(device, *_loss_address(seed, epoch, number)):
                measured = compute_gradients(learner, batch, labels, training, objective)
            with global_draws_at(device, seed, "update", epoch, number):
                update_weights(learner, optimizer, training, state.progress)
                state.add(measured)
                learner.after_step(state.progress)
            progress(state.fraction)
            if (number + 1) % together == 0 and number + 1 < state.steps_per_epoch:
                state.save_if_due()
        row = {"epoch": epoch + 1, **state.means(), "learning_rate": optimizer.param_groups[0]["lr"]}
        with distributed.in_step():
            if not math.isfinite(row["loss"]):
                raise _diverged(training, data, split.images, batches, address, row)
        if curve and _on_the_curve(epoch + 1, optimization) and distributed.rank() == 0:
            row |= curve(learner)
        state.end_epoch(row)
        on_epoch(row)
        state.save_if_due()


def take_step(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    labels: Tensor | None,
    training: Training,
    progress: Progress = START,
    objective: Objective = objective_of,
) -> dict[str, Tensor]:
    """One optimizer step. Returns the loss and the learner's metrics, detached, without waiting for the device."""
    measured = compute_gradients(learner, batch, labels, training, objective)
    update_weights(learner, optimizer, training, progress)
    return measured


def compute_gradients(
    learner: Learner, batch: Batch, labels: Tensor | None, training: Training, objective: Objective
) -> dict[str, Tensor]:
    """The loss and the learner's metrics, detached."""
    views, annotations = batch
    with precision_of(training.optimization.precision, views[0].device):
        loss, metrics = objective(learner, views, labels, annotations)
    loss.backward()
    return {"loss": loss.detach(), **metrics}


def update_weights(learner: Learner, optimizer: torch.optim.Optimizer, training: Training, progress: Progress) -> None:
    learner.before_update(progress)
    if training.optimization.clip:
        nn.utils.clip_grad_norm_(learner.parameters(), training.optimization.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def build_learner(training: Training, data: Data, start: Start | None = None) -> Learner:
    """Encoder and heads, initialized from the seed; restores the global random state."""
    with torch.random.fork_rng(devices=[]):  # built on the CPU, which uses only the CPU's generator
        torch.default_generator.manual_seed(address_seed(training.seed, "encoder"))
        encoder = build_encoder(training, data, start and start.size)
        check_encoder(training.encoder, encoder)
        if start:
            encoder.load_state_dict(start.weights)
        torch.default_generator.manual_seed(address_seed(training.seed, "heads"))
        return training.method.build(encoder, len(data.classes))


def check_batch(training: Training, count: int, evaluation: str = "") -> None:
    """Raises DataError if a batch holds more than the `count` images. evaluation: the label of one that trains."""
    batch = training.optimization.batch
    if batch > count:
        whose = f"the batch of the evaluation {evaluation!r}" if evaluation else "Optimization.batch"
        raise DataError(
            f"{whose} must be at most the number of training images, but got {batch}, and "
            f"{training.dataset.label} has {count}{' for it' if evaluation else ''}. Use a smaller batch or more "
            "images."
        )


def _shuffled(split: Split, batch: int, seed: int, epoch: int, device: torch.device) -> list[Tensor]:
    """The image indices of each batch of an epoch, on the device."""
    order = torch.randperm(len(split), generator=generator_at(seed, "order", epoch)).to(device)
    return list(order.split(batch)[: len(split) // batch])


def _loss_address(seed: int, epoch: int, step: int) -> tuple[int | str, ...]:
    """The address of draws inside a loss. Each process of a group has its own images, and so its own draws."""
    rank = distributed.rank()
    return (seed, "loss", epoch, step, *([rank] if rank else []))


def _on_the_curve(epoch: int, optimization) -> bool:
    every = optimization.curve_every
    return bool(every) and (epoch % every == 0 or epoch == optimization.epochs)


def _diverged(training: Training, data: Data, images: Tensor, batches, address, row: dict[str, float]) -> Exception:
    """The cause of a loss that is not finite: a user's operator, or the training itself."""
    blamed = operator_without_numbers(training, data, images, batches, address)
    if blamed:
        return InvalidSpec(blamed)
    return FloatingPointError(
        f"the loss of {training.method.label} became {row['loss']} in epoch {row['epoch']} of "
        f"{training.optimization.epochs}. Try a smaller learning rate, a longer warm-up or precision='float32'."
    )


def _check_trace(training: Training, before: Trace, now: Trace, where: str, cure: str) -> None:
    with distributed.in_step():
        check_trace(training, before, now, where, cure)
        if lost := comparable(before).keys() - now.keys():
            print(
                f"ablation: your classes could not be compared with {where}: no numbers of {', '.join(sorted(lost))}",
                file=sys.stderr,
            )


def _for_one_process(learner: Learner, training: Training, data: Data) -> Learner:
    """If there are other processes, a copy with unsynchronized batch norm."""
    if distributed.count() == 1:
        return learner
    alone = build_learner(training, data).to(data.device, memory_format=torch.channels_last)
    alone.load_state_dict(learner.state_dict())
    return alone
