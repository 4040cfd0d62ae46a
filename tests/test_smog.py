"""SMoG against its equations, its groups and their renewal."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import numbers, unit

from ablation import InvalidSpec, SmallResNet, SMoG
from ablation.methods.base import Progress, embed_and_predict

VIEWS = [numbers(8, 3, 16, 16), numbers(8, 3, 16, 16, seed=1)]


def learner(**changes):
    torch.manual_seed(0)
    settings = {"hidden": 8, "dimension": 5, "groups": 4, "renewal": 3, "bank": 16} | changes
    built = SMoG(**settings).build(SmallResNet(channels=4).build(), 0).train()
    with torch.no_grad():
        for p in built.teacher.parameters():
            p.add_(0.05)
    return built


def test_two_steps_are_the_equation():
    """The student sees the first view, then the second."""
    built = learner()
    for step, (seen, other) in enumerate([VIEWS, VIEWS[::-1]]):
        again = copy.deepcopy(built)
        [z], [p] = embed_and_predict(again, again.predictor, [seen])
        t, z, p = again.teacher(other).numpy(), z.detach().double().numpy(), p.detach()
        groups = built.groups.double().numpy()
        c = (unit(t) @ unit(groups).T).argmax(1)
        d = (unit(z) @ unit(groups).T).argmax(1)
        moved = groups.copy()
        for k in range(4):
            if (d == k).any():
                moved[k] = 0.99 * groups[k] + 0.01 * z[d == k].mean(0)
        logits = unit(p) @ unit(moved).T / 0.1
        expected = np.mean([math.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, c, strict=True)])
        assert built.loss(VIEWS, None)[0].item() == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(built.groups, moved, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(built.bank.rows[:8], z, rtol=1e-4, atol=1e-5)
        built.after_step(Progress(step + 1, 0, 0.1))


def test_gradient_flows_into_z_through_the_groups():
    built = learner(inertia=0.5)
    z = numbers(8, 5).requires_grad_()
    groups = built._moved(z)
    groups.sum().backward()
    assert z.grad.abs().sum() > 0
    assert not built.groups.requires_grad


def test_groups_are_renewed_from_a_full_bank_only():
    built = learner(bank=24)
    for step in (1, 2, 3, 4):
        built.loss(VIEWS, None)
        before = built.groups.clone()
        built.after_step(Progress(step, 0, 0.1))
        assert torch.equal(built.groups, before) == (step != 3)
        if step == 3:
            rows = built.bank.rows.numpy()
            torch.testing.assert_close(built.groups.norm(dim=1), torch.ones(4))
            for own, parameter in zip(built.teacher.parameters(), [*built.encoder.parameters()], strict=False):
                assert torch.equal(own, parameter)
            means = unit(built.groups)  # each is the direction of the mean of some of the bank's rows
            assert (unit(rows) @ means.T).max(0).min() > 0.5
    early = learner(bank=40)
    early.loss(VIEWS, None)
    before = early.groups.clone()
    early.after_step(Progress(3, 0, 0.1))
    assert torch.equal(early.groups, before)


def test_a_bank_holds_a_row_for_each_group():
    with pytest.raises(InvalidSpec, match=r"SMoG.bank .*300.* got 200"):
        SMoG(bank=200)
