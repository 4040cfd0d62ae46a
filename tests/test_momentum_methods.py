"""MoCo, SwAV, VICReg and MAE against their equations as loops in float64, and their state."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import numbers, small_training, unit
from torch import nn

from ablation import (
    MAE,
    Crop,
    Flip,
    InvalidSpec,
    MoCo,
    PatchMask,
    Shapes,
    SimCLR,
    SwAV,
    VICReg,
    ViT,
)
from ablation.methods.base import Progress
from ablation.methods.moco import _regrouped, info_nce
from ablation.methods.momentum import Momentum, Queue
from ablation.methods.patches import patchify, standardized
from ablation.methods.prototypes import Prototypes, cross_entropy_of, sinkhorn
from ablation.methods.vicreg import SecondMoments, variance_and_covariance
from ablation.models.batch_norm import SplitBatchNorm
from ablation.models.resnet import SmallResNet
from ablation.operators.pipeline import annotate, make_views, sample

START, LATER = Progress(1, 0, 0.1), Progress(9, 3, 0.5)


@pytest.fixture
def images() -> torch.Tensor:
    return numbers(16, 3, 16, 16, seed=5)


# --------------------------------------------------------------------------------------------------
# Shared parts


def test_a_momentum_copy_follows_parameters_and_keeps_its_own_statistics():
    student = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    teacher = Momentum(student)
    start = [p.detach().clone() for p in student.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    teacher.follow(0.9, student)
    for before, now, own in zip(start, student.parameters(), teacher.parameters(), strict=True):
        torch.testing.assert_close(own, 0.9 * before + 0.1 * now.detach())
        assert not own.requires_grad
    student(numbers(8, 4))
    teacher(3 + numbers(8, 4))
    assert (teacher.copies[0][1].running_mean - student[1].running_mean).abs().max() > 1e-3


@pytest.mark.parametrize("batch", [3, 4, 10])
def test_a_queue_holds_the_last_rows_newest_first(batch):
    queue, rows = Queue(10, 2), numbers(7 * batch, 2)
    for some in rows.split(batch):
        queue.push(some)
    expected = torch.cat(list(reversed(rows.split(batch))))[:10]
    assert torch.equal(queue.rows, expected)


def test_codes_use_images_exactly_and_prototypes_about_evenly():
    scores = 0.3 * nn.functional.normalize(numbers(40, 8), dim=1)
    codes = sinkhorn(scores, 0.05)
    torch.testing.assert_close(codes.sum(1), torch.ones(40))
    assert (codes.sum(0) - 5).abs().max() < 1
    torch.testing.assert_close(sinkhorn(scores + 0.3, 0.05), codes)
    assert sinkhorn(torch.eye(8), 0.05).isfinite().all()
    q = np.exp(scores.double().numpy() / 0.05)
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(0, keepdims=True) * 8
        q /= q.sum(1, keepdims=True) * 40
    np.testing.assert_allclose(codes, q * 40, rtol=1e-4, atol=1e-7)


# --------------------------------------------------------------------------------------------------
# MoCo


def test_info_nce_is_the_equation():
    q, k, queue = numbers(5, 6), unit(numbers(5, 6, seed=1)), unit(numbers(9, 6, seed=2))
    losses = []
    for own, key in zip(unit(q), k, strict=True):
        logits = [own @ key / 0.2, *(own @ other / 0.2 for other in queue)]
        losses.append(math.log(sum(math.exp(x) for x in logits)) - logits[0])
    found, _ = info_nce(q, torch.tensor(k).float(), torch.tensor(queue).float(), 0.2)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-5)


def moco(**changes):
    settings = {"hidden": 8, "dimension": 6, "queue": 40, "splits": 0} | changes
    return MoCo(**settings).build(SmallResNet(channels=4).build(), 0)


@pytest.mark.parametrize(("batch", "splits"), [(32, 8), (20, 8), (12, 8), (50, 10)])
def test_keys_are_in_other_groups_than_their_queries(batch, splits):
    """No two images of a small group are together again."""
    order = _regrouped(batch, splits)
    assert sorted(order.tolist()) == list(range(batch))
    group_of = {
        image: k for k, group in enumerate(torch.arange(batch).tensor_split(splits)) for image in group.tolist()
    }
    for group in order.tensor_split(splits):
        assert len({group_of[image] for image in group.tolist()}) == len(group)


def test_both_halves_of_moco_see_the_queue_before_the_step(images):
    learner = moco().train()
    before = learner.queue.rows.clone()
    views = [images, images.flip(-1)]
    loss, _ = learner.loss(views, torch.zeros(16))
    keys = learner.queue.rows[:32].split(16)
    z = [learner.project(view) for view in views]
    halves = [info_nce(z[0], keys[1], before, 0.1)[0], info_nce(z[1], keys[0], before, 0.1)[0]]
    torch.testing.assert_close(loss, (halves[0] + halves[1]) / 2, rtol=1e-4, atol=1e-5)
    assert torch.equal(learner.queue.rows[32:], before[:8])
    loss.backward()
    assert all(p.grad is None for p in learner.teacher.parameters())
    assert all(p.grad is not None for p in learner.encoder.parameters())


def test_split_batch_norm_is_batch_norm_of_each_group():
    norm, x = SplitBatchNorm(3), numbers(10, 3, 2, 2)
    norm.splits = 4
    out = norm(x)
    groups = x[:3], x[3:6], x[6:8], x[8:]
    for group, found in zip(groups, (out[:3], out[3:6], out[6:8], out[8:]), strict=True):
        mean, variance = group.mean((0, 2, 3), keepdim=True), group.var((0, 2, 3), keepdim=True, correction=0)
        torch.testing.assert_close(found, (group - mean) / (variance + 1e-5).sqrt(), rtol=1e-4, atol=1e-5)
    means = torch.stack([group.mean((0, 2, 3)) for group in groups])
    torch.testing.assert_close(norm.running_mean, 0.1 * means.mean(0))


def test_the_keys_of_moco_are_grouped_otherwise_and_in_order():
    """Without batch norm, regrouping changes no key."""
    learner = moco(splits=4).eval()
    view = numbers(16, 3, 16, 16)
    expected = nn.functional.normalize(learner.teacher(view), dim=1)
    torch.testing.assert_close(learner._keys(view), expected, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# SwAV


def swav(**changes):
    settings = {"hidden": 8, "dimension": 6, "prototypes": 10} | changes
    return SwAV(**settings).build(SmallResNet(channels=4).build(), 0)


def test_swav_is_the_equation_over_views_of_two_sizes(images):
    learner = swav().train()
    views = [images, images.flip(-1), images[..., :8, :8], images[..., 8:, 8:]]
    loss, _ = learner.loss(views, torch.zeros(16))
    s = [learner.prototypes(z) for z in learner.embed(views)]
    expected = 0.0
    for a in range(2):
        q = sinkhorn(s[a], 0.05)
        for v in range(4):
            if v == a:
                continue
            for row in range(16):
                p = (s[v][row].double() / 0.1).log_softmax(0)
                expected -= (q[row].double() * p).sum().item() / 16 / 3 / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_swav_starts_near_the_entropy_of_its_prototypes(images):
    loss, metrics = swav(dimension=128, prototypes=50).loss([images, images.flip(-1)], torch.zeros(16))
    assert abs(loss.item() - math.log(50)) < 1.5
    assert 10 < metrics["prototypes_used"] <= 50


def test_frozen_prototypes_do_not_move_and_have_no_state(images):
    learner = swav(frozen=2).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=0.1)
    before = learner.prototypes.weight.detach().clone()
    for progress in (START, LATER):
        learner.loss([images, images.flip(-1)], torch.zeros(16))[0].backward()
        learner.before_update(progress)
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(progress)
        moved = not torch.equal(learner.prototypes.weight, before)
        assert moved == (progress is LATER)
        assert (learner.prototypes.weight in optimizer.state) == moved
    torch.testing.assert_close(learner.prototypes.weight.norm(dim=1), torch.ones(10))


def test_the_queue_of_swav_counts_from_its_epoch(images):
    views = [images, images.flip(-1)]
    torch.manual_seed(0)
    plain = swav()
    torch.manual_seed(0)
    learner = swav(queue=32, queue_from=3)
    alone = plain.loss(views, torch.zeros(16))[0]
    assert torch.equal(learner.loss(views, torch.zeros(16))[0], alone)
    torch.testing.assert_close(learner.queues[0].rows[:16].norm(dim=1), torch.ones(16))
    learner.after_step(LATER)
    assert not torch.equal(learner.loss(views, torch.zeros(16))[0], plain.loss(views, torch.zeros(16))[0])


def test_prototypes_are_cosines():
    prototypes, z = Prototypes(6, 4), 7 * numbers(3, 6)
    expected = unit(z) @ unit(prototypes.weight.detach()).T
    np.testing.assert_allclose(prototypes(z).detach(), expected, rtol=1e-5, atol=1e-6)
    scores = prototypes(z)
    uniform = torch.full((3, 4), 0.25)
    assert cross_entropy_of(uniform, torch.zeros_like(scores), 0.1).item() == pytest.approx(math.log(4))


# --------------------------------------------------------------------------------------------------
# VICReg


def test_the_terms_of_vicreg_are_the_equations():
    z = numbers(7, 5).double().numpy() * 0.6
    variance = np.mean([max(0, 1 - math.sqrt(z[:, d].var(ddof=1) + 1e-4)) for d in range(5)])
    covariance = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                product = ((z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())).sum() / 6
                covariance += product**2 / 5
    found = variance_and_covariance(torch.tensor(z))
    assert found[0].item() == pytest.approx(variance, rel=1e-5)
    assert found[1].item() == pytest.approx(covariance, rel=1e-4)


def test_the_gradient_of_vicregs_terms_is_theirs():
    assert torch.autograd.gradcheck(SecondMoments.apply, (numbers(2, 5, 3).double().requires_grad_(),))


def test_vicreg_weighs_its_terms(images):
    learner = VICReg(hidden=8, dimension=6).build(SmallResNet(channels=4).build(), 0).train()
    loss, terms = learner.loss([images, images.flip(-1)], torch.zeros(16))
    z = learner.embed([images, images.flip(-1)])
    assert terms["variance"].item() == pytest.approx(
        sum(variance_and_covariance(each)[0].item() for each in z) / 2, rel=1e-4
    )
    expected = 25 * terms["invariance"] + 25 * terms["variance"] + terms["covariance"]
    torch.testing.assert_close(loss, expected)
    assert learner.loss([images, images], torch.zeros(16))[1]["invariance"].item() == 0


# --------------------------------------------------------------------------------------------------
# MAE and masks


@pytest.mark.parametrize(("ratio", "size"), [(0.75, 16), (0.9, 40), (0.6, 32), (0.0, 8)])
def test_a_mask_keeps_an_exact_share(ratio, size):
    mask = PatchMask(ratio=ratio, patch=4)
    patches = (size // 4) ** 2
    sampled = sample((), ((mask,),), [(0,)], 6, size, torch.device("cpu"))
    [said] = annotate(sampled)
    kept = int(patches * (1 - Fraction(str(ratio))))
    assert said["kept"].shape == (6, max(1, kept))
    assert (said["mask"].sum(1) == patches - kept).all()
    assert not said["mask"].gather(1, said["kept"]).any()
    assert len({tuple(row.tolist()) for row in said["mask"]}) > 1 or ratio == 0


def test_blocks_are_masked_whole():
    sampled = sample((), ((PatchMask(ratio=0.5, patch=4, block=8),),), [(0,)], 5, 32, torch.device("cpu"))
    mask = annotate(sampled)[0]["mask"].view(5, 4, 2, 4, 2)
    assert (mask == mask[:, :, :1, :, :1]).all()
    assert mask.float().mean() == 0.5


def test_a_mask_of_strength_0_keeps_every_patch():
    """It is the start of an axis, where MSN's encoder sees whole images."""
    [said] = annotate(sample((), ((PatchMask(strength=0.0),),), [(0,)], 5, 16, torch.device("cpu")))
    assert not said["mask"].any()
    assert torch.equal(said["kept"], torch.arange(16).expand(5, 16))


def test_a_mask_leaves_pixels_alone():
    stored = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    [view] = make_views(stored, (), ((PatchMask(),),), (0,))
    assert torch.equal(view, stored.float() / 255)


def test_boxes_say_where_each_pixel_comes_from():
    """An image whose pixels are their own coordinates, cropped, mirrored and cropped again."""
    size = 64
    place = torch.arange(size, dtype=torch.float32) + 0.5
    coordinates = torch.stack([place[:, None].expand(size, size), place.expand(size, size), torch.zeros(size, size)])
    stored = (coordinates * 255 / size).round().to(torch.uint8).expand(8, -1, -1, -1)
    view = (Crop(area=(0.4, 0.9)), Flip(strength=2.0, p=0.5), Crop(area=(0.5, 0.9)))
    sampled = sample((), (view,), [(3,)], 8, size, torch.device("cpu"))
    [seen], [said] = make_views(stored, (), (view,), (3,)), annotate(sampled)
    top, left, height, width = said["box"].unbind(1)
    centre = (seen[:, :2, size // 2 - 1 : size // 2 + 1, size // 2 - 1 : size // 2 + 1] * size).mean((2, 3))
    torch.testing.assert_close(centre, torch.stack([top + height / 2, left + width / 2], 1), rtol=0, atol=1.0)
    mirrored = seen[:, 1, size // 2, 2] > seen[:, 1, size // 2, -3]
    assert torch.equal(mirrored, said["flip"])
    assert 0 < mirrored.sum() < 8


VIT = ViT(patch=4, width=16, blocks=2, heads=2)


def test_patches_lie_in_rows():
    picture = torch.arange(2 * 8 * 8, dtype=torch.float32).view(1, 2, 8, 8)
    patches = patchify(picture, 4)
    assert torch.equal(patches[0, 1], picture[0, :, :4, 4:].flatten())
    found = standardized(patches)
    torch.testing.assert_close(found.mean(2), torch.zeros(1, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.var(2), torch.ones(1, 4), rtol=1e-4, atol=0)


def test_mae_is_the_mean_over_masked_patches(images):
    learner = MAE(width=16, blocks=1, heads=2).build(VIT.build(3, 16), 0)
    [said] = annotate(sample((), ((PatchMask(),),), [(1,)], 16, 16, torch.device("cpu")))
    loss, _ = learner.loss([images], torch.zeros(16), [said])
    predicted = learner.decoder(learner.encoder.tokens(images, kept=said["kept"]), said["kept"], 16)
    target, total = standardized(patchify(images, 4)), []
    for i in range(16):
        for n in range(16):
            if said["mask"][i, n]:
                total.append((predicted[i, n] - target[i, n]).square().mean().item())
    assert len(total) == 16 * 12
    assert loss.item() == pytest.approx(np.mean(total), rel=1e-5)
    changed = images.clone()
    rows, columns = (said["kept"][0, 0] // 4 * 4).item(), (said["kept"][0, 0] % 4 * 4).item()
    target_only = patchify(changed, 4)
    target_only[0, said["kept"][0, 0]] += 5
    assert torch.equal(standardized(target_only)[said["mask"]], target[said["mask"]]), (rows, columns)


def test_the_encoder_of_mae_sees_kept_patches_only(images):
    encoder = VIT.build(3, 16).eval()
    kept = torch.tensor([[0, 5, 9]]).expand(16, 3)
    changed = images.clone()
    changed[..., 12:, 12:] += 3  # patch 15
    assert torch.equal(encoder.tokens(images, kept=kept), encoder.tokens(changed, kept=kept))
    assert not torch.equal(encoder(images), encoder(changed))


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_a_vit_takes_other_sizes(positions):
    encoder = VIT.replace(positions=positions).build(3, 16).eval()
    assert encoder(numbers(2, 3, 32, 32)).shape == (2, 16)
    assert encoder.tokens(numbers(2, 3, 8, 8)).shape == (2, 5, 16)


def test_a_vit_refuses_images_whose_border_no_patch_covers():
    """Stored ones before the training, others where they are evaluated."""
    with pytest.raises(InvalidSpec, match=r"ViT.patch must divide .* 18 px, but got 4: .*border"):
        VIT.build(3, 16)(numbers(2, 3, 18, 18))
    stored = Shapes(train=40, validation=20, test=20, size=18)
    with pytest.raises(InvalidSpec, match="stored images, 18 px"):
        small_training(dataset=stored, views=((Crop(size=16),), (Crop(size=16),)), encoder=VIT)


@dataclass(frozen=True, kw_only=True)
class SecondMasked(SimCLR):
    """Masks one of its views, as MSN does."""

    annotations: ClassVar = ("kept",)
    masked: ClassVar = (1,)


def test_a_method_may_mask_some_of_its_views():
    assert small_training(method=SecondMasked(), views=((Crop(),), (Crop(), PatchMask())))
    for views, words in (
        (((Crop(),), (Crop(),)), r"views\[1\]: SecondMasked needs exactly one .*'kept', but .* has 0"),
        (((PatchMask(),), (PatchMask(),)), r"views\[0\]: SecondMasked needs no .*'kept', but .* has 1"),
    ):
        with pytest.raises(InvalidSpec, match=words):
            small_training(method=SecondMasked(), views=views)


@pytest.mark.parametrize("masked", [1, (7,), ([1],)])
def test_numbers_of_masked_views_are_checked(masked, monkeypatch):
    monkeypatch.setattr(SecondMasked, "masked", masked)
    with pytest.raises(InvalidSpec, match=rf"SecondMasked.masked .* below 2, but got .*{re.escape(repr(masked))}"):
        small_training(method=SecondMasked(), views=((Crop(),), (Crop(), PatchMask())))
    monkeypatch.setattr(SecondMasked, "annotations", ())  # then it is a name like any other
    small_training(method=SecondMasked(), views=((Crop(),), (Crop(),)))
