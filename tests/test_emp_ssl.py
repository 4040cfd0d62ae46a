"""EMP-SSL against its equation."""

import numpy as np
import pytest
import torch
from helpers import numbers, unit

from ablation import EMPSSL, SmallResNet
from ablation.methods.emp_ssl import coding_rate


@pytest.mark.parametrize("shape", [(3, 8, 5), (2, 4, 9)])
def test_the_coding_rate_is_the_equation(shape):
    z = numbers(*shape)
    for own, found in zip(z.double().numpy(), coding_rate(z, 0.2), strict=True):
        matrix = np.eye(shape[2]) + shape[2] / (shape[1] * 0.2) * own.T @ own
        assert found.item() == pytest.approx(0.5 * np.linalg.slogdet(matrix)[1], rel=1e-4)


def test_the_loss_is_the_equation():
    torch.manual_seed(0)
    built = EMPSSL(hidden=8, dimension=5, invariance=30.0).build(SmallResNet(channels=4).build(), 0).train()
    views = [numbers(6, 3, 16, 16, seed=seed) for seed in range(4)]
    z = np.stack([unit(each.detach()) for each in built.embed(views)])
    mean, expected = z.mean(0), 0.0
    for view in z:
        similarity = np.mean([a @ b / np.linalg.norm(b) for a, b in zip(view, mean, strict=True)])
        expected -= (30 * similarity + 0.5 * np.linalg.slogdet(np.eye(5) + 5 / (6 * 0.2) * view.T @ view)[1]) / 4
    loss, metrics = built.loss(views, None)
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    assert set(metrics) == {"similarity", "coding_rate"}
    same = built.loss([views[0]] * 3, None)[1]
    assert same["similarity"].item() == pytest.approx(1, abs=1e-5)
