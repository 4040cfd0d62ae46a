"""SimSiam and FastSiam against their equations."""

import numpy as np
import pytest
import torch
from helpers import numbers, small_training, unit

from ablation import FastSiam, InvalidSpec, SimSiam, SmallResNet
from ablation.methods.base import embed_and_predict

SETTINGS = {"hidden": 8, "dimension": 6, "bottleneck": 4}


def learner(kind=SimSiam, **changes):
    torch.manual_seed(0)
    return kind(**SETTINGS | changes).build(SmallResNet(channels=4).build(), 0).train()


@pytest.mark.parametrize(("kind", "count"), [(SimSiam, 2), (FastSiam, 2), (FastSiam, 4)])
def test_the_loss_is_the_equation(kind, count):
    views = [numbers(6, 3, 16, 16, seed=seed) for seed in range(count)]
    built = learner(kind)
    z, p = (
        [each.detach().double().numpy() for each in some] for some in embed_and_predict(built, built.predictor, views)
    )
    total = 0.0
    for i in range(count):
        for row in range(6):
            mean = sum(z[j][row] for j in range(count) if j != i) / (count - 1)
            total -= unit([p[i][row]])[0] @ unit([mean])[0] / 6 / count
    assert built.loss(views, None)[0].item() == pytest.approx(total, rel=1e-4, abs=1e-6)
    assert -1 <= total <= 1


def test_fastsiam_with_two_views_is_simsiam():
    views = [numbers(6, 3, 16, 16), numbers(6, 3, 16, 16, seed=1)]
    one, other = learner(), learner(FastSiam)
    losses = [built.loss(views, None)[0] for built in (one, other)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_targets_pass_no_gradient():
    """The gradient is that of the loss with constant targets."""
    views = [numbers(6, 3, 16, 16), numbers(6, 3, 16, 16, seed=1)]
    built = learner()
    z, _ = embed_and_predict(built, built.predictor, views)
    constants = [each.detach() for each in z]
    built.loss(views, None)[0].backward()
    gradients = [p.grad.clone() for p in built.parameters()]
    built.zero_grad()
    _, p = embed_and_predict(built, built.predictor, views)
    distance = [-torch.nn.functional.cosine_similarity(p[i], constants[1 - i]).mean() for i in range(2)]
    (sum(distance) / 2).backward()
    for one, parameter in zip(gradients, built.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_the_last_layer_of_the_projector_is_standardized():
    z = learner().embed([numbers(40, 3, 16, 16), numbers(40, 3, 16, 16, seed=1)])[0]
    np.testing.assert_allclose(z.detach().mean(0), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(z.detach().std(0, correction=0), np.ones(6), rtol=0.05)
    assert len([1 for each in learner(layers=3).head if isinstance(each, torch.nn.Linear)]) == 3


def test_fastsiam_needs_two_views():
    with pytest.raises(InvalidSpec, match="FastSiam needs at least 2 views, but got 1"):
        small_training(method=FastSiam(), views=((),))
