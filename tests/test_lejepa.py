"""LeJEPA against its equations, and its directions."""

import cmath

import numpy as np
import pytest
import torch
from helpers import numbers
from scipy.integrate import trapezoid

from ablation import LeJEPA, SmallResNet
from ablation.methods.base import Progress
from ablation.methods.lejepa import CharacteristicFunction, epps_pulley


def statistic(sample) -> float:
    """N times the integral over t in [-3, 3], by the trapezoidal rule on 33 places."""
    t = np.linspace(-3, 3, 33)
    values = [
        abs(np.mean([cmath.exp(1j * at * x) for x in sample]) - np.exp(-(at**2) / 2)) ** 2 * np.exp(-(at**2) / 2)
        for at in t
    ]
    return len(sample) * trapezoid(values, t)


def test_the_statistic_is_the_integral():
    x = 1.3 * numbers(2, 9, 3) + 0.2
    found = epps_pulley(x)
    assert found.shape == (2, 3)
    for view in range(2):
        for k in range(3):
            assert found[view, k].item() == pytest.approx(statistic(x[view, :, k].tolist()), rel=1e-4)


def test_the_statistics_gradient_is_its_own():
    x = numbers(2, 5, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(CharacteristicFunction.apply, (x,))


def test_a_normal_sample_has_the_smallest_statistic():
    """For a standard normal sample its mean is N E|phi_N - phi|^2 integrated, about 0.65 whatever N; others grow."""
    normal = epps_pulley(numbers(1, 4000, 20)).mean()
    assert normal < 1.5
    assert epps_pulley(2 * numbers(1, 4000, 20)).mean() > 100 * normal
    assert epps_pulley(0 * numbers(1, 4000, 20)).mean() > 100 * normal


@pytest.mark.parametrize("sizes", [(16, 16), (16, 16, 8)])
def test_the_loss_is_the_equation(sizes):
    torch.manual_seed(0)
    built = LeJEPA(hidden=8, dimension=5, directions=6).build(SmallResNet(channels=4).build(), 0).train()
    views = [numbers(6, 3, size, size, seed=seed) for seed, size in enumerate(sizes)]
    z = [each.detach().double().numpy() for each in built.embed(views)]
    centre = np.mean(z if len(sizes) == 2 else z[:2], axis=0)
    invariance = np.mean([(view - centre) ** 2 for view in z])
    directions = built.directions.double().numpy()
    gaussianity = np.mean([statistic(view @ a) for view in z for a in directions.T])
    loss, metrics = built.loss(views, None)
    assert metrics["invariance"].item() == pytest.approx(invariance, rel=1e-3)
    assert metrics["gaussianity"].item() == pytest.approx(gaussianity, rel=1e-3)
    assert loss.item() == pytest.approx(0.95 * invariance + 0.05 * gaussianity, rel=1e-3)


def test_every_step_has_its_own_directions_at_its_address():
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        built = LeJEPA(hidden=8, dimension=5, directions=6).build(SmallResNet(channels=4).build(), 0)
        torch.testing.assert_close(built.directions.norm(dim=0), torch.ones(6))
        first = built.directions.clone()
        built.after_step(Progress(7, 0, 0.1))
        assert not torch.allclose(built.directions, first)
        made.append(built.directions)
    assert torch.equal(*made)
