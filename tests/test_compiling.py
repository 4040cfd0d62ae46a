"""The GPU code paths, tested without a GPU: masked rows, no wait for the device, compilation."""

import contextlib
import math

import pytest
import torch
from helpers import SMALL, small_training
from test_operators import OPERATORS, assert_mean, generator
from trainings import TRAININGS

from ablation.contracts.steps import first_batch
from ablation.data import loaded
from ablation.methods import BarlowTwins, SimCLR, Supervised
from ablation.methods.base import Progress
from ablation.operators import Noise
from ablation.operators.base import _copied
from ablation.operators.noise import _hashed_normal
from ablation.spec import Optimization
from ablation.training.compile import compiled_objective, compiled_transform, make_room, objective_of
from ablation.training.loop import build_learner, pretrain, take_step
from ablation.training.optimizers import LARS, SGD
from ablation.training.views import training_views

META = torch.device("meta")  # has no numbers: reading one, which would make a host wait, raises


torch._dynamo.config.recompile_limit = 100


def transform(operator, images, params):
    return operator.transform(images, params)


@pytest.mark.parametrize("operator", [o for o in OPERATORS if not isinstance(o, Noise)], ids=repr)
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_masked_rows_are_those_of_skipped_ones(operator, p):
    operator = operator.replace(p=p)
    images = torch.rand(12, 3, 16, 16, generator=generator())
    params = operator.draw(12, 16, generator(1))
    compiled = torch.compile(transform, backend="eager", fullgraph=True, dynamic=False)
    before = images.clone()
    torch.testing.assert_close(
        compiled(operator, images, params), operator.transform(images, params), rtol=0, atol=5e-6
    )
    assert torch.equal(images, before)


def normal(seeds, size=16):
    return _hashed_normal(torch.empty(len(seeds), 3, size, size), seeds)


def test_hashed_noise_is_standard_normal():
    """Moments (each a false alarm with probability 7e-6) and the Kolmogorov-Smirnov distance (2e-5)."""
    sample = normal(torch.randint(2**62, (200,), generator=generator())).flatten()
    assert_mean(sample, 0)
    assert_mean(sample**2, 1)
    assert_mean(sample**3, 0)
    assert_mean(sample**4, 3)
    ordered = torch.special.ndtr(sample.double()).sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    assert (ordered - steps).abs().max() < 2.4 / math.sqrt(len(ordered))


def test_hashed_noise_is_independent_between_pixels_and_images():
    """Correlations of neighbouring pixels and of images with neighbouring seeds; each fails falsely with 7e-6."""
    z = normal(torch.arange(400) + 7)
    for one, other in (
        (z[..., 1:], z[..., :-1]),
        (z[..., 1:, :], z[..., :-1, :]),
        (z[1:], z[:-1]),
        (z[:, 1:], z[:, :-1]),
    ):
        assert_mean((one * other).flatten(), 0)
        assert_mean(((one**2 - 1) * (other**2 - 1)).flatten(), 0)
    assert z.unique().numel() > 0.99 * z.numel()


def test_hashed_noise_belongs_to_the_image():
    """An image's noise depends neither on its row nor on its neighbours."""
    seeds = torch.randint(2**62, (9,), generator=generator())
    order = torch.randperm(9, generator=generator(1))
    assert torch.equal(normal(seeds)[order], normal(seeds[order]))
    assert torch.equal(normal(seeds)[4:5], normal(seeds[4:5]))


def test_parameters_arrive_unchanged():
    """One packed copy for all types and shapes."""
    params = {
        "gate": torch.tensor([True, False, True]),
        "seed": torch.tensor([2**61, -5, 7]),
        "order": torch.arange(12).view(3, 4).flip(1),
        "sigma": torch.tensor([0.5, 1.5, -2.0]),
        "double": torch.tensor([[1 / 3], [2 / 3], [1e300]], dtype=torch.float64),
        "small": torch.tensor([1, 2, 3], dtype=torch.int16),
    }
    arrived = _copied(params, torch.device("cpu"))
    assert arrived.keys() == params.keys()
    for name, value in params.items():
        assert arrived[name].dtype == value.dtype
        assert torch.equal(arrived[name], value)


METHODS = [SimCLR(hidden=8, dimension=8), BarlowTwins(hidden=8, dimension=8), Supervised()]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_step_waits_for_nothing(name, monkeypatch):
    """Views and a step run on the meta device, where reading a number or a count raises; SimCLR's of every operator."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it does not know the device
    changes = dict(TRAININGS[name])
    if name == "SimCLR":
        changes["shared"] = tuple(OPERATORS[:3])
        changes["views"] = (tuple(OPERATORS), tuple(o.replace(p=0.5) for o in OPERATORS))
    optimization = Optimization(epochs=1, batch=8, optimizer=LARS(learning_rate=0.1))
    training = small_training(optimization=optimization, **changes)
    data = SMALL.load().to(META)
    learner = build_learner(training, loaded(SMALL, "cpu")).to(META)
    optimizer = training.optimization.optimizer.build(learner)
    images, batches = data.train.images, torch.arange(16, device=META).split(8)
    batch = list(training_views(images, batches, training, data, (0, "views")))[1]
    views = batch[0]
    measured = take_step(learner, optimizer, batch, data.train.labels[:8], training)
    assert all(view.device == META and len(view) == 8 for view in views)
    assert measured["loss"].device == META
    with pytest.raises(RuntimeError, match="meta"):
        measured["loss"].item()


@pytest.fixture(scope="module")
def compiler():
    """On a CPU, `torch.compile` needs a C++ compiler and Python's headers, which the project does not require."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(3))
    except Exception as error:
        pytest.skip(f"torch.compile cannot compile x + 1 here: {type(error).__name__}")


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_a_compiled_run_is_the_plain_one():
    """Losses of each epoch agree to 1 part in 200, since training amplifies rounding."""
    training = small_training(seed=3)
    data = training.dataset.load()
    plain, compiled = (pretrain(training, data, compiled=c).history for c in (False, True))
    for one, other in zip(plain, compiled, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=5e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_noise_can_be_compiled():
    """Its 64-bit products wrap around; a compiler that treats them as pixel indices refuses them."""
    images, params = torch.rand(4, 3, 8, 8, generator=generator()), Noise().draw(4, 8, generator(1))
    plain = torch.compile(transform, backend="eager", dynamic=False)(Noise(), images, params)
    torch.testing.assert_close(compiled_transform()(Noise(), images, params), plain, rtol=0, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_fifty_steps_are_compiled_once(name):
    """While momentum, temperatures and queues move, in two cells of a kind; losses are those of plain steps."""
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters["stats"]
    compiled = torch.compile(objective_of, backend="aot_eager", dynamic=False)
    graphs, losses = [], {}
    for seed in (0, 1):
        optimization = Optimization(epochs=50, batch=8, optimizer=SGD(learning_rate=0.01))
        training, data = small_training(seed=seed, optimization=optimization, **TRAININGS[name]), loaded(SMALL, "cpu")
        for objective in (objective_of, compiled):
            learner = build_learner(training, data).train()
            optimizer = training.optimization.optimizer.build(learner)
            views, labels, beside = first_batch(training, data)
            for step in range(25):
                progress, batch = Progress(step, step // 5, step / 25), (views, *(beside or [None]))
                measured = take_step(learner, optimizer, batch, labels, training, progress, objective)
                learner.after_step(Progress(step + 1, (step + 1) // 5, (step + 1) / 25))
                if step in (0, 1):
                    losses.setdefault((seed, step), []).append(measured["loss"].item())
                if objective is compiled:
                    graphs.append(counted["unique_graphs"])
    assert graphs[0] > 0
    assert len(set(graphs)) == 1
    assert all(one == pytest.approx(other, rel=1e-3, abs=1e-5) for one, other in losses.values())


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.label)
def test_cells_share_what_is_compiled(method):
    """The second learner of a kind compiles nothing new, and both give the uncompiled loss and gradients."""
    counted = torch._dynamo.utils.counters["stats"]
    views = [torch.randn(8, 3, 16, 16, generator=generator(i)) for i in range(2)]
    labels = torch.arange(8)
    graphs = []
    for seed in (0, 1):
        training = small_training(method=method, seed=seed)
        found = []
        for objective in (objective_of, compiled_objective()):
            learner = build_learner(training, loaded(SMALL, "cpu")).train()
            loss, measured = objective(learner, views, labels)
            loss.backward()
            found.append((loss.detach(), measured, [p.grad for p in learner.parameters()]))
        torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)
        graphs.append(counted["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(("free", "forgets"), [(60, False), (40, True)])
def test_recorded_steps_make_room(monkeypatch, free, forgets):
    """Drops compiled code if less than half of the device's memory is free, on a GPU only."""
    resets = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(1))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    make_room(torch.device("cpu"))
    assert not resets
    make_room(torch.device("cuda"))
    assert bool(resets) == forgets


def test_a_compiled_run_makes_room_first(monkeypatch):
    asked = []
    monkeypatch.setattr("ablation.training.loop.make_room", asked.append)
    monkeypatch.setattr("ablation.training.loop.compiled_objective", lambda: objective_of)
    monkeypatch.setattr("ablation.training.views.compiled_transform", lambda: transform)
    training = small_training()
    pretrain(training, training.dataset.load(), compiled=True)
    pretrain(training, training.dataset.load())
    assert asked == [torch.device("cpu")]
