"""MSN and PMSN against their equations, their masks and prototypes."""

import copy

import numpy as np
import pytest
import torch
from helpers import numbers, unit
from trainings import VIT

from ablation import MSN, PMSN, AdamW
from ablation.methods.base import Progress

VIEWS = [numbers(6, 3, 16, 16, seed=seed) for seed in range(2)] + [numbers(6, 3, 8, 8, seed=2)]
KEPT = [{}, {"kept": torch.arange(13).expand(6, 13)}, {}]


def learner(kind=MSN, **changes):
    torch.manual_seed(0)
    built = kind(**{"hidden": 8, "dimension": 5, "prototypes": 7} | changes).build(VIT.build(3, 16), 0).train()
    with torch.no_grad():
        for p in built.teacher.parameters():
            p.add_(0.05)
    return built


@pytest.mark.parametrize(("kind", "power"), [(MSN, 0.0), (PMSN, 0.25)])
def test_the_loss_is_the_equation(kind, power):
    built = learner(kind, regularization=0.7)
    again = copy.deepcopy(built)
    loss, metrics = built.loss(VIEWS, None, KEPT)
    c = unit(again.prototypes.weight.detach())
    z = [again.encoder(VIEWS[1], kept=KEPT[1]["kept"]), again.encoder(VIEWS[2])]
    z = unit(again.head(torch.cat(z)).detach())
    q = np.exp(unit(again.teacher(VIEWS[0])) @ c.T / 0.025)
    q /= q.sum(1, keepdims=True)
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(0, keepdims=True) * 7
        q /= q.sum(1, keepdims=True) * 6
    targets = q * 6
    p = np.exp(z @ c.T / 0.1)
    p /= p.sum(1, keepdims=True)
    prediction = np.mean([-(targets[i % 6] * np.log(p[i])).sum() for i in range(12)])
    mean, prior = p.mean(0), np.arange(1, 8) ** -power
    prior = prior / prior.sum()
    regularizer = (mean * np.log(mean / prior)).sum()
    assert loss.item() == pytest.approx(prediction + 0.7 * regularizer, rel=1e-3)
    assert metrics["regularizer"].item() == pytest.approx(regularizer, rel=1e-3)
    assert regularizer >= 0


def test_pmsn_with_power_0_is_msn():
    losses = [learner(MSN).loss(VIEWS, None, KEPT)[0], learner(PMSN, power=0.0).loss(VIEWS, None, KEPT)[0]]
    assert torch.equal(*losses)
    assert PMSN().power == 0.25


def test_a_uniform_use_of_prototypes_has_no_penalty():
    """Equal prototypes are used equally; PMSN's power law penalizes that."""
    penalties = []
    for built in (learner(), learner(PMSN)):
        with torch.no_grad():
            built.prototypes.weight.copy_(built.prototypes.weight[:1].expand_as(built.prototypes.weight))
        penalties.append(built.loss(VIEWS, None, KEPT)[1]["regularizer"].item())
    assert penalties[0] == pytest.approx(0, abs=1e-6)
    assert penalties[1] > 0.01


def test_the_student_sees_kept_patches_of_the_masked_view_only():
    built = learner().eval()
    changed = VIEWS[1].clone()
    changed[..., 12:, 12:] += 3  # patch 15, which is dropped
    loss = built.loss(VIEWS, None, KEPT)[0]
    assert torch.equal(built.loss([VIEWS[0], changed, VIEWS[2]], None, KEPT)[0], loss)
    assert not torch.equal(built.loss([changed, *VIEWS[1:]], None, KEPT)[0], loss)


def test_the_teacher_is_evaluated_and_follows_a_line():
    built = learner(momentum=0.9)
    before = [p.clone() for p in built.teacher.parameters()]
    built.after_step(Progress(5, 0, 0.5))
    momentum = 0.9 + 0.1 * 0.5 / 1.25
    student = [*built.encoder.parameters(), *built.head.parameters()]
    for start, own, now in zip(before, built.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(own, momentum * start + (1 - momentum) * now)
    assert built.evaluated()[0] is built.teacher.copies[0]


def test_prototypes_do_not_decay():
    built = learner()
    decaying, others = AdamW(learning_rate=0.1, weight_decay=0.1).build(built).param_groups
    assert any(p is built.prototypes.weight for p in others["params"])
    assert all(p is not built.prototypes.weight for p in decaying["params"])
