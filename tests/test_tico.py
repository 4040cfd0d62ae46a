"""TiCo against its equation, and its covariance."""

import numpy as np
import pytest
import torch
from helpers import numbers, unit

from ablation import SmallResNet, TiCo

VIEWS = [numbers(6, 3, 16, 16), numbers(6, 3, 16, 16, seed=1)]


def learner(**changes):
    torch.manual_seed(0)
    return TiCo(**{"hidden": 8, "dimension": 5} | changes).build(SmallResNet(channels=4).build(), 0).train()


def test_two_steps_are_the_equation():
    built = learner(covariance=3.0, memory=0.8)
    memory = np.zeros((5, 5))
    for views in (VIEWS, [view.flip(-1) for view in VIEWS]):
        u, v = unit(built.embed(views[:1])[0].detach()), unit(built.teacher(views[1]))
        outer = sum(np.outer(row, row) for row in u) / 6
        memory = 0.8 * memory + 0.2 * outer
        expected = 1 - np.mean([a @ b for a, b in zip(u, v, strict=True)]) + 3 * np.mean([a @ memory @ a for a in u])
        assert built.loss(views, None)[0].item() == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(built.covariance, memory, rtol=1e-4, atol=1e-6)
    assert not built.covariance.requires_grad


def test_gradient_through_this_steps_covariance_is_a_choice():
    gradients = []
    for through in (True, False):
        built = learner(through_covariance=through)
        built.loss(VIEWS, None)[0].backward()
        gradients.append(built.head[0].weight.grad.clone())
        assert all(p.grad is None for p in built.teacher.parameters())
    assert not torch.allclose(*gradients)
