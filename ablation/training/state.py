"""The state of a running training: everything needed to resume it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ablation.contracts.trace import Trace
from ablation.methods import Learner
from ablation.methods.base import Progress
from ablation.spec import InvalidSpec
from ablation.system import distributed
from ablation.system.meter import Meter, Sitting
from ablation.training.checkpoint import Checkpoint

WITHIN = 100  # steps at least between two questions of several processes whether to save within an epoch


@dataclass
class TrainState:
    """step: finished steps; sums: of loss and metrics over the epoch so far; history: rows of finished epochs.

    compiled: fixed at the training's start, since other kernels give other last digits. trace: of the user's classes
    (contracts/trace.py). start: first step of this sitting. asked: the last step in which several processes agreed
    whether to save.
    """

    learner: Learner
    optimizer: torch.optim.Optimizer | None  # None for a method that does not train
    epochs: int
    steps_per_epoch: int
    checkpoint: Checkpoint | None
    meter: Meter
    compiled: bool
    trace: Trace
    step: int = 0
    start: int = 0
    asked: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    sittings: list[Sitting] = field(default_factory=list)  # the earlier ones

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.step // self.steps_per_epoch

    @property
    def progress(self) -> Progress:
        return Progress(self.step, self.epoch, self.fraction)

    @property
    def fraction(self) -> float:
        return self.step / self.steps

    def resume(self, device: torch.device) -> Trace:
        """Restores the last checkpoint, if any; process 0 reads it for its group. Returns the trace that the checkpoint
        keeps, or {} without a checkpoint."""
        where = device if distributed.count() == 1 else torch.device("cpu")  # a group copies it to every device later
        kept = self.checkpoint.read(where) if self.checkpoint and distributed.rank() == 0 else None
        kept = distributed.broadcast(kept)
        if not kept:
            return {}
        self.learner.load_state_dict(kept["learner"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step = self.start = self.asked = kept["step"]
        self.sums = {name: value.to(device) for name, value in kept["sums"].items()}
        self.history, self.sittings, self.compiled = kept["history"], kept["sittings"], kept["compiled"]
        if distributed.rank() == 0:
            resumed = f"resuming {self.checkpoint.training_id} after step {self.step} of {self.steps}"
            print(f"ablation: {resumed}", file=sys.stderr)
        return kept.get("trace", {})

    def save_if_due(self) -> None:
        checkpoint, ended = self.checkpoint, len(self.history) == self.epochs
        if distributed.count() > 1 and self.sums:  # within an epoch, whose means need the sums of all processes
            if self.step < self.asked + WITHIN:
                return
            self.asked = self.step
            if not distributed.broadcast(bool(checkpoint and checkpoint.due())):
                return
            self.sums = {name: distributed.mean(value) for name, value in self.sums.items()}
        if checkpoint and distributed.rank() == 0 and (checkpoint.due() or (ended and checkpoint.keep)):
            checkpoint.write(
                f"epoch {min(self.epochs, len(self.history) + 1)} of {self.epochs}",
                learner=self.learner.state_dict(), optimizer=self.optimizer.state_dict(), step=self.step,
                sums=self.sums, history=self.history, sittings=self.all_sittings(), compiled=self.compiled,
                trace=self.trace,
            )  # fmt: skip

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Adds the loss and metrics of a step."""
        self.step += 1
        if self.sums and set(metrics) != set(self.sums):
            before, now = (", ".join(sorted(set(names) - {"loss"})) or "none" for names in (self.sums, metrics))
            raise InvalidSpec(
                f"{type(self.learner).__name__}.loss must return the same metrics at every step, since the learning "
                f"curve shows their means, but it returned {before} and then {now}. Return all of them, nan for those "
                "without a value."
            )
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0) + value.to(metrics["loss"].device)

    def means(self) -> dict[str, float]:
        """Means of the loss and the metrics over the finished epoch, and over the processes: a loss that is a mean over
        images may be that of this process's images."""
        return {name: (distributed.mean(value) / self.steps_per_epoch).item() for name, value in self.sums.items()}

    def end_epoch(self, row: dict[str, float]) -> None:
        self.history.append(row)
        self.sums = {}

    def all_sittings(self) -> list[Sitting]:
        return [*self.sittings, self.meter.sitting(self.start) | {"processes": distributed.count()}]
