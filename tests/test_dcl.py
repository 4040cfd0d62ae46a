"""DCL and DCLW against their equations."""

import math

import numpy as np
import pytest
import torch
from helpers import numbers, unit

from ablation import DCL, DCLW, InvalidSpec
from ablation.methods.contrastive import nt_xent
from ablation.methods.dcl import Decoupled


def by_hand(first, second, temperature, sigma):
    """Equations 6 and 7, one pair at a time."""
    u, count = [unit(first), unit(second)], len(first)
    exponentials = [math.exp(u[0][i] @ u[1][i] / sigma) for i in range(count)] if sigma else None
    weights = [2 - count * e / sum(exponentials) for e in exponentials] if sigma else [1.0] * count
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        for i in range(count):
            others = [j for j in range(count) if j != i]
            repulsion = sum(
                math.exp(u[a][i] @ u[a][j] / temperature) + math.exp(u[a][i] @ u[b][j] / temperature) for j in others
            )
            total += -weights[i] * u[a][i] @ u[b][i] / temperature + math.log(repulsion)
    return total / count / 2, weights


@pytest.mark.parametrize("sigma", [None, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_dcl_is_the_equation(temperature, sigma):
    first, second = numbers(7, 5), numbers(7, 5, seed=1)
    expected, weights = by_hand(first, second, temperature, sigma)
    objective = Decoupled(temperature=temperature, sigma=sigma)
    assert objective.loss(3 * first, second)[0].item() == pytest.approx(expected, rel=1e-5)
    assert np.mean(weights) == pytest.approx(1, rel=1e-6)
    positive = torch.tensor((unit(first) * unit(second)).sum(1))
    np.testing.assert_allclose(objective._weights(positive), weights, rtol=1e-5)
    assert objective._weights(positive).mean().item() == pytest.approx(1, abs=1e-6)


def test_dcl_is_nt_xent_without_the_positive_in_the_denominator():
    """-log(e / (e + n)) of NT-Xent and -log(e / n) of DCL, for each anchor."""
    first, second = numbers(6, 4), numbers(6, 4, seed=1)
    z = np.concatenate([unit(first), unit(second)])
    logits = z @ z.T / 0.2
    total = 0.0
    for i in range(12):
        positive = (i + 6) % 12
        with_positive = [j for j in range(12) if j != i]
        without = [j for j in with_positive if j != positive]
        total += np.log(np.exp(logits[i, with_positive]).sum()) - np.log(np.exp(logits[i, without]).sum())
    found = nt_xent(first, second, 0.2)[0] - Decoupled(temperature=0.2).loss(first, second)[0]
    assert found.item() == pytest.approx(total / 12, rel=1e-4)


def test_weights_pass_no_gradient():
    first, second = numbers(6, 4).requires_grad_(), numbers(6, 4, seed=1)
    objective = Decoupled(sigma=0.5)
    objective.loss(first, second)[0].backward()
    with_weights = first.grad.clone()
    weights = objective._weights((nn_unit(first) * nn_unit(second)).sum(1).detach())
    first.grad = None
    plain = Decoupled().loss(first, second)[0]
    positive = (nn_unit(first) * nn_unit(second)).sum(1) / 0.1
    (plain + ((1 - weights) * positive).mean()).backward()
    torch.testing.assert_close(first.grad, with_weights)


def nn_unit(rows):
    return torch.nn.functional.normalize(rows, dim=1)


def test_dcl_and_dclw_are_simclr_with_their_objective():
    assert DCL().objective == Decoupled()
    assert DCLW().objective == Decoupled(sigma=0.5)
    assert (DCL().label, DCLW().label, DCLW().objective.label) == ("DCL", "DCLW", "DCLW")
    with pytest.raises(InvalidSpec, match=r"Decoupled.sigma .* got 0"):
        Decoupled(sigma=0.0)
