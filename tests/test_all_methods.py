"""What every method promises: finite losses, no unused weights, the same bits after a resume, trial steps."""

import math
from functools import partial

import pytest
import torch
from helpers import SMALL, small_training
from trainings import TRAININGS

from ablation import SGD, Optimization
from ablation.contracts.steps import first_batch, losses_of_first_steps
from ablation.data import loaded
from ablation.methods import Method
from ablation.methods.base import Progress
from ablation.spec.metric import OF_A_LOSS
from ablation.spec.randomness import global_draws_at
from ablation.training.checkpoint import Checkpoint
from ablation.training.loop import build_learner, pretrain, take_step


def kinds(cls: type) -> set[type]:
    return {cls}.union(*map(kinds, cls.__subclasses__()))


def test_every_method_has_a_training_here():
    ours = {each for each in kinds(Method) if each.__module__.startswith("ablation.methods.")}
    trained = {type(each["method"]) for each in TRAININGS.values()}
    assert {each.__name__ for each in ours - trained} == {"Method", "Initialization"}
    assert all(name == each["method"].label for name, each in TRAININGS.items())


@pytest.mark.parametrize("name", TRAININGS)
def test_trial_steps_are_those_of_a_training(name):
    """`contracts.steps` takes its own, since it looks between the parts of a step."""
    training, data = small_training(**TRAININGS[name]), loaded(SMALL, "cpu")
    build = partial(build_learner, training, data)
    learner, losses = build().to(memory_format=torch.channels_last).train(), []
    optimizer = training.optimization.optimizer.build(learner)
    views, labels, beside = first_batch(training, data)
    for step in range(3):
        with global_draws_at(torch.device("cpu"), "contracts", "step", step):
            batch, progress = (views, *(beside or [None])), Progress(step, 0, step / 1000)
            losses.append(take_step(learner, optimizer, batch, labels, training, progress)["loss"].item())
            learner.after_step(Progress(step + 1, 0, (step + 1) / 1000))
    assert losses == losses_of_first_steps(training, data, build, 3)
    assert len(set(losses)) == 3


@pytest.mark.parametrize("name", TRAININGS)
def test_a_method_names_what_it_measures(name):
    """So that figures may show it."""
    training, data = small_training(**TRAININGS[name]), loaded(SMALL, "cpu")
    learner = build_learner(training, data).train()
    views, labels, beside = first_batch(training, data)
    _, measured = learner.loss(views, labels, *(beside or []))
    assert set(training.method.metrics) <= set(measured) <= {*training.method.metrics, *OF_A_LOSS}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_stopped_training_has_the_same_bits(name, tmp_path, monkeypatch):
    """Teacher, queue, groups, centre, prototypes, directions and masks resume within an epoch."""
    monkeypatch.setattr("ablation.training.views.TOGETHER", 20)
    optimization = Optimization(epochs=3, batch=20, optimizer=SGD(learning_rate=0.05), curve_every=0)
    asked = small_training(optimization=optimization, **TRAININGS[name])
    data = loaded(SMALL, "cpu")
    whole = pretrain(asked, data)
    assert all(math.isfinite(row["loss"]) for row in whole.history)
    checkpoint = Checkpoint(tmp_path, "0" * 12, every=0)

    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(asked, data, stop, checkpoint=checkpoint)
    continued = pretrain(asked, data, checkpoint=Checkpoint(tmp_path, "0" * 12, every=1000))
    assert continued.sittings[1]["from_step"] > 0
    for (key, value), other in zip(
        whole.learner.state_dict().items(), continued.learner.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), key


@pytest.mark.parametrize("name", TRAININGS)
def test_gradient_reaches_every_weight_that_trains_and_no_other(name):
    """An unused weight would make several processes wait for its gradient; a copy's must get none."""
    training, data = small_training(**TRAININGS[name]), loaded(SMALL, "cpu")
    learner = build_learner(training, data).train()
    views, labels, beside = first_batch(training, data)
    learner.loss(views, labels, *([beside[0]] if beside else []))[0].backward()
    for key, parameter in learner.named_parameters():
        copied = key.startswith("teacher.")
        assert parameter.requires_grad != copied, key
        assert (parameter.grad is None) == copied, key


@pytest.mark.parametrize(("name", "calls"), [("SwAV", 2), ("DINO", 2), ("LeJEPA", 2), ("MSN", 2), ("PMSN", 2)])
def test_views_of_one_size_pass_the_encoder_together(name, calls):
    """MSN's masked view passes by itself, as its tokens are fewer; its copy sees the first view alone."""
    training, data = small_training(**TRAININGS[name]), loaded(SMALL, "cpu")
    *larger, small = training.views
    training = training.replace(views=(*larger, small, small, small))
    learner, batches = build_learner(training, data).train(), []
    learner.encoder.register_forward_hook(lambda module, args, out: batches.append(len(args[0])))
    views, labels, beside = first_batch(training, data)
    learner.loss(views, labels, *([beside[0]] if beside else []))
    assert len(batches) == calls
    assert sum(batches) == len(views[0]) * (len(views) - (name in ("MSN", "PMSN")))
