"""DINO against its equations, its centre, temperatures, frozen prototypes and clipped gradients."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import numbers, small_training, unit

from ablation import DINO, SmallResNet
from ablation.methods.base import Progress
from ablation.methods.prototypes import NormalizedPrototypes
from ablation.training.loop import build_learner

VIEWS = [numbers(6, 3, 16, 16, seed=seed) for seed in range(2)] + [numbers(6, 3, 8, 8, seed=2)]


def learner(**changes):
    torch.manual_seed(0)
    settings = {"hidden": 8, "dimension": 5, "prototypes": 7} | changes
    built = DINO(**settings).build(SmallResNet(channels=4).build(), 0).train()
    with torch.no_grad():
        for p in built.teacher.parameters():
            p.add_(0.05)
    return built


def test_two_steps_are_the_equation_and_move_the_centre():
    built = learner(teacher_temperature=0.05, centre=0.8)
    centre = np.zeros(7)
    for _ in range(2):
        again = copy.deepcopy(built)
        s = unit(torch.cat(again.embed(VIEWS)).detach()) @ unit(built.prototypes.weight.detach()).T
        s = s.reshape(3, 6, 7)
        encoder, head, prototypes = again.teacher.copies
        with torch.no_grad():
            t = head(encoder(torch.cat(VIEWS[:2])))
        t = (unit(t) @ unit(prototypes.weight).T).reshape(2, 6, 7)
        total, pairs = 0.0, 0
        for a in range(2):
            for v in range(3):
                if a == v:
                    continue
                pairs += 1
                for i in range(6):
                    target = np.exp((t[a][i] - centre) / 0.05)
                    student = np.exp(s[v][i] / 0.1)
                    total -= (target / target.sum()) @ np.log(student / student.sum()) / 6
        assert pairs == 4
        assert built.loss(VIEWS, None)[0].item() == pytest.approx(total / pairs, rel=1e-3)
        centre = 0.8 * centre + 0.2 * t.reshape(12, 7).mean(0)
        np.testing.assert_allclose(built.centre, centre, rtol=1e-3, atol=1e-5)


def test_it_starts_near_the_entropy_of_its_prototypes():
    loss, metrics = learner(dimension=128, prototypes=50).loss(VIEWS, None)
    assert abs(loss.item() - math.log(50)) < 1.5
    assert 1 < metrics["prototypes_used"] <= 50


def test_the_teachers_temperature_rises_over_epochs():
    method = DINO(teacher_temperature=0.04, teacher_temperature_end=0.07, warmup=30)
    assert [method.teacher_temperature_at(epoch) for epoch in (0, 15, 30, 99)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )
    built = learner(teacher_temperature=0.04, teacher_temperature_end=0.08, warmup=4)
    built.after_step(Progress(9, 1, 0.5))
    assert built.teacher_temperature.item() == pytest.approx(0.05)


def test_prototypes_are_fixed_in_the_first_epochs():
    built = learner(frozen=1)
    optimizer = torch.optim.AdamW(built.parameters(), lr=0.1)
    before = built.prototypes.weight.detach().clone()
    for epoch in (0, 1):
        built.loss(VIEWS, None)[0].backward()
        built.before_update(Progress(epoch, epoch, 0.1))
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(built.prototypes.weight, before) == (epoch == 0)


def test_each_parameters_gradient_is_clipped():
    built = learner(clip=1e-3, frozen=0)
    built.loss(VIEWS, None)[0].backward()
    before = {name: p.grad.clone() for name, p in built.named_parameters() if p.grad is not None}
    built.before_update(Progress(0, 0, 0.0))
    for name, p in built.named_parameters():
        if p.grad is None:
            continue
        length = before[name].norm().item()
        torch.testing.assert_close(p.grad, before[name] * min(1.0, 1e-3 / (length + 1e-6)))
    free = learner(clip=None, frozen=0)
    free.loss(VIEWS, None)[0].backward()
    free.before_update(Progress(0, 0, 0.0))
    assert torch.equal(free.head[0].weight.grad, before["head.0.weight"])


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_the_evaluated_network_is_a_choice(network):
    built = learner(evaluated=network)
    encoder, head = built.evaluated()
    images = numbers(4, 3, 16, 16)
    built.eval()
    own = built.teacher.copies[0] if network == "teacher" else built.encoder
    assert encoder is own
    assert torch.equal(built.project(images), head(own(images)))


def test_normalized_prototypes_are_cosines_of_any_weight():
    prototypes, z = NormalizedPrototypes(5, 4), 7 * numbers(3, 5)
    with torch.no_grad():
        prototypes.weight.mul_(torch.tensor([[0.1], [1.0], [10.0], [3.0]]))
    np.testing.assert_allclose(
        prototypes(z).detach(), unit(z) @ unit(prototypes.weight.detach()).T, rtol=1e-4, atol=1e-6
    )


def test_the_copy_starts_equal():
    built = build_learner(
        small_training(method=DINO(hidden=8, dimension=5, prototypes=7)), small_training().dataset.load()
    )
    student = [*built.encoder.parameters(), *built.head.parameters(), *built.prototypes.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(built.teacher.parameters(), student, strict=True))
