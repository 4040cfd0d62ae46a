"""Every scale has every method's settings: heads, optimizer, published views."""

import math

import pytest
import torch
from helpers import numbers

from ablation.contracts.steps import first_batch
from ablation.data import Data, Split
from ablation.methods.base import Progress
from ablation.study.published_views import RECIPES, published_views
from ablation.study.scales import SCALES, VIT_SMALL
from ablation.training.loop import build_learner, take_step

CPU_SCALES = ("tiny", "cifar10-small")
EVERY = [(name, method.label) for name, scale in SCALES.items() for method in scale().methods]
TRIED = [each for each in EVERY if each[0] != "imagenet100-resnet50"]  # imagenet1k has the same networks and views


def of(scale, label):
    [method] = [each for each in scale.methods if each.label == label]
    return method


def random_images(size: int, count: int) -> Data:
    """Pixels of a large and a small scale, so that crops of one image differ."""
    coarse = numbers(count, 3, 4, 4).repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    images = (110 + 50 * coarse + 20 * numbers(count, 3, size, size, seed=1)).clamp(0, 255).byte()
    split = Split(images, torch.arange(count) % 10)
    return Data(train=split, validation=split, test=split, classes=tuple("abcdefghij"))


def test_every_scale_knows_every_method():
    for make in SCALES.values():
        assert {type(method) for method in make().methods} == set(RECIPES)


@pytest.mark.parametrize(("name", "label"), [each for each in EVERY if each[0] not in CPU_SCALES])
def test_no_method_of_a_published_scale_has_another_methods_rate(name, label):
    scale = SCALES[name]()
    assert scale.optimization(of(scale, label)).rate_chosen_for == label


@pytest.mark.slow
@pytest.mark.parametrize(("name", "label"), TRIED)
def test_two_steps_with_published_views(name, label):
    """The scale's encoder, heads, optimizer and views on eight random images of its size, two of more than 32 px."""
    scale = SCALES[name]()
    method, count = of(scale, label), 8 if scale.size == 32 else 2
    optimization = scale.optimization(method, batch=count, precision="float32")
    views = published_views(method, scale.size)
    training = scale.run(method, views=views, optimization=optimization).training
    data = random_images(scale.size, count)
    learner = build_learner(training, data).to(memory_format=torch.channels_last).train()
    optimizer = optimization.optimizer.build(learner)
    before = [parameter.clone() for parameter in learner.encoder.parameters()]
    images, labels, beside = first_batch(training, data)
    for step in range(2):
        progress = Progress(step, 0, step / 1000)
        found = take_step(learner, optimizer, (images, *(beside or [None])), labels, training, progress)
        learner.after_step(Progress(step + 1, 0, (step + 1) / 1000))
        assert math.isfinite(found["loss"])
    assert any(not torch.equal(was, now) for was, now in zip(before, learner.encoder.parameters(), strict=True))


def test_masked_methods_get_the_scales_transformer():
    scale = SCALES["imagenette"]()
    for method in scale.methods:
        encoder = scale.run(method, views=published_views(method, scale.size)).training.encoder
        assert (encoder == VIT_SMALL) == (method.label in ("MAE", "MSN", "PMSN", "SimMIM"))
