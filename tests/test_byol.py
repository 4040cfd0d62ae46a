"""BYOL against its equation, and its momentum copy."""

import copy

import pytest
import torch
from helpers import numbers, unit

from ablation import BYOL, SmallResNet
from ablation.methods.base import Progress, embed_and_predict
from ablation.methods.momentum import rising

VIEWS = [numbers(6, 3, 16, 16), numbers(6, 3, 16, 16, seed=1)]


def learner(**changes):
    torch.manual_seed(0)
    return BYOL(**{"hidden": 8, "dimension": 6} | changes).build(SmallResNet(channels=4).build(), 0).train()


def test_the_loss_is_the_equation():
    built = learner()
    with torch.no_grad():
        for p in built.teacher.parameters():
            p.add_(0.1)  # so that the copy differs
    loss, _ = copy.deepcopy(built).loss(VIEWS, None)
    _, p = embed_and_predict(built, built.predictor, VIEWS)
    t = [built.teacher(view) for view in VIEWS]
    total = 0.0
    for i in range(2):
        for own, other in zip(unit(p[i].detach()), unit(t[1 - i]), strict=True):
            total += ((own - other) ** 2).sum() / 6
    assert loss.item() == pytest.approx(total, rel=1e-4)
    assert 0 <= total <= 8


def test_the_copy_gets_no_gradient_and_follows():
    built = learner(momentum=0.9, momentum_end=1.0)
    start = [p.detach().clone() for p in built.teacher.parameters()]
    optimizer = torch.optim.SGD(built.parameters(), lr=0.5)
    built.loss(VIEWS, None)[0].backward()
    assert all(p.grad is None for p in built.teacher.parameters())
    optimizer.step()
    built.after_step(Progress(1, 0, 0.25))
    momentum = rising(0.9, 1.0, 0.25)
    assert momentum == pytest.approx(1 - 0.1 * (2**-0.5 + 1) / 2)
    student = [*built.encoder.parameters(), *built.head.parameters()]
    for before, own, now in zip(start, built.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(own, momentum * before + (1 - momentum) * now.detach())


def test_the_momentum_rises_along_half_a_cosine():
    assert [rising(0.99, 1.0, f) for f in (0, 0.5, 1)] == pytest.approx([0.99, 0.995, 1.0])
    assert rising(0.99, 0.99, 0.3) == 0.99
