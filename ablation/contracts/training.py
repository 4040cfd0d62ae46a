"""Checks all of a user's classes in a training."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ablation.contracts.base import by_a_user, first_images, parts_by_a_user
from ablation.contracts.learners import check_learner
from ablation.contracts.operators import check_as_first, check_views
from ablation.contracts.optimizers import check_schedule
from ablation.data import Data
from ablation.methods import Learner
from ablation.operators import Operator
from ablation.spec import Training


def check_contracts(training: Training, data: Data, build: Callable[[], Learner]) -> list[tuple[Operator, Tensor]]:
    """Checks the user's classes in a training; costs a few batches. build: returns its learner, from its seed.

    Returns the result of each user's operator on the first images, for `check_unchanged`."""
    if not parts_by_a_user(training):
        return []
    some = first_images(data)
    results = check_views(some, training.shared, training.views)
    check_as_first(training, results)
    if by_a_user(training.optimization.schedule):
        check_schedule(training.optimization, len(data.training(training.optimization.with_validation)))
    if by_a_user((training.encoder, training.method, training.optimization.optimizer)):
        check_learner(training, data, some, build)
    return results
