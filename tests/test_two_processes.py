"""Two processes take the same steps as one, with every method: losses, gradients, weights and state.

In float64, so that rounding hides no fault. As a program, for torchrun, it takes the steps of every training below:

    torchrun --nproc-per-node 2 tests/test_two_processes.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from helpers import environment, small_training
from torch import Tensor
from trainings import TRAININGS

from ablation import SGD, InvalidSpec, Optimization, Shapes, SmallResNet, Supervised
from ablation.data import loaded
from ablation.system import distributed
from ablation.training import loop

# An epoch has one step, so the curve has the loss of each, and schedules by epoch move. Within these steps queues are
# filled and used, prototypes thaw, and k-means makes new groups.
STEPS, BATCH = 5, 24
COMMON = {
    "dataset": Shapes(train=BATCH + 12, validation=12, test=12, size=16),
    "optimization": Optimization(
        epochs=STEPS, batch=BATCH, optimizer=SGD(learning_rate=0.05), warmup=0.0, curve_every=0
    ),
}
OTHER = {"joint": "separate", "separate": "joint"}

# Every method's, with the other kind of batch norm too where there is one.
EACH: dict[str, dict[str, Any]] = {
    **TRAININGS,
    **{
        f"{name}, {OTHER[each['method'].batch_norm]}": {
            **each, "method": each["method"].replace(batch_norm=OTHER[each["method"].batch_norm])
        }
        for name, each in TRAININGS.items() if hasattr(each["method"], "batch_norm")
    },
    "MoCo v2, one group": {"method": TRAININGS["MoCo v2"]["method"].replace(splits=0)},
    "supervised, last layer": {"method": Supervised(frozen=True)},
}  # fmt: skip


@contextmanager
def float64() -> Iterator[None]:
    """All numbers of a training in float64, also those that it computes with `.float()`."""
    with patch.object(Tensor, "float", Tensor.double):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def steps_of(changes: dict[str, Any]) -> dict[str, Any]:
    """A training's curve, a row a step; each step's gradients by parameter; and all weights and buffers at its end."""
    gradients: list[dict[str, Tensor]] = []
    compute = loop.compute_gradients

    def compute_and_keep(learner, *batch):
        measured = compute(learner, *batch)
        gradients.append({name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None})
        return measured

    training = small_training(**COMMON, **changes)
    with float64(), patch.object(loop, "compute_gradients", compute_and_keep):
        trained = loop.pretrain(training, loaded(training.dataset, "cpu"))
    return {"curve": trained.history, "gradients": gradients, "state": trained.learner.state_dict()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.process_group("cpu"):
        for name, changes in EACH.items():
            torch.save(steps_of(changes), folder / f"{name}, process {distributed.rank()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With the steps of both processes."""
    folder = tmp_path_factory.mktemp("together")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, __file__, folder], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_two_processes_take_the_steps_of_one(name, folder):
    """On halves of each batch: the same draws of operators, masks, directions and k-means; batch norm, queues, centres,
    groups and teachers of the whole batch. Both processes have the same after it. atol: a bias before a batch norm has
    a gradient of 0 except for rounding."""
    expected = steps_of(EACH[name])
    assert len(expected["curve"]) == len(expected["gradients"]) == STEPS
    for process in range(2):
        found = torch.load(folder / f"{name}, process {process}")
        for part, own in expected.items():
            torch.testing.assert_close(
                found[part], own, rtol=1e-8, atol=1e-11, msg=f"{part} of process {process}: {{}}".format
            )


@pytest.mark.parametrize(("splits", "batch"), [(3, 24), (4, 22)])
def test_groups_of_a_batch_that_lie_in_two_processes_are_refused(splits, batch, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 2)
    learner = TRAININGS["MoCo v2"]["method"].replace(splits=splits).build(SmallResNet(channels=4).build(), 0)
    with pytest.raises(InvalidSpec, match=rf"MoCo.* {splits} groups.*batch is {batch}.* 2 processes.*splits=2"):
        distributed.parallel(learner, loop.objective_of, batch)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
