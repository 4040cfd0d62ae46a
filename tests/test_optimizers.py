"""Optimizers against their formulas, their decayed parameters, and the schedule."""

import math

import pytest
import torch
from torch import nn

from ablation.analysis.results import _optimized
from ablation.spec import Constant, Cosine, InvalidSpec, Optimization, Steps, identity
from ablation.training.optimizers import LARS, SGD, Adam, AdamW
from ablation.training.schedule import Schedule

OPTIMIZERS = [
    SGD(learning_rate=0.1, weight_decay=0.5),
    AdamW(learning_rate=0.1, weight_decay=0.5),
    LARS(learning_rate=0.1, weight_decay=0.5),
]


def test_adam_is_the_formula_with_decay_in_the_gradient():
    module = network()
    optimizer = Adam(learning_rate=0.1, betas=(0.8, 0.9), weight_decay=0.5).build(module)
    w = [p.detach().double().clone() for p in module.parameters()]
    m, v = [torch.zeros_like(x) for x in w], [torch.zeros_like(x) for x in w]
    for step in (1, 2, 3):
        give_gradients(module, step)
        for i, p in enumerate(module.parameters()):
            g = p.grad.double() + 0.5 * w[i]
            m[i], v[i] = 0.8 * m[i] + 0.2 * g, 0.9 * v[i] + 0.1 * g**2
            w[i] = w[i] - 0.1 * (m[i] / (1 - 0.8**step)) / ((v[i] / (1 - 0.9**step)).sqrt() + 1e-8)
        optimizer.step()
    for own, p in zip(w, module.parameters(), strict=True):
        torch.testing.assert_close(p.detach().double(), own, rtol=1e-4, atol=1e-5)


def rate(step: int, steps: int, warmup: float, schedule=Cosine()) -> float:
    """The learning rate as a fraction of the optimizer's."""
    optimization = Optimization(epochs=1, batch=2, optimizer=OPTIMIZERS[0], warmup=warmup, schedule=schedule)
    return optimization.rate(step, steps)


def network() -> nn.Module:
    """A kernel, two matrices, biases and a norm."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(4)), alpha=0.1)
    return module


def give_gradients(module: nn.Module, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.grad = scale * torch.randn(p.shape, generator=generator)


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


# --------------------------------------------------------------------------------------------------
# LARS


def lars_by_hand(w, gradients, rates, *, momentum, decay, trust, clips=False, nesterov=False):
    """You et al. 2017 as in SimCLR's code, on one flat list of numbers; trust is None without adaptation."""
    v = [0.0] * len(w)
    for g, rate in zip(gradients, rates, strict=True):
        update = [gi + (0 if trust is None else decay) * wi for gi, wi in zip(g, w, strict=True)]
        weight_norm, update_norm = math.hypot(*w), math.hypot(*update)
        ratio = 1.0
        if trust is not None and weight_norm > 0 and update_norm > 0:
            ratio = trust * weight_norm / update_norm
            ratio = min(ratio / rate, 1) if clips else ratio
        v = [momentum * vi + rate * ratio * ui for vi, ui in zip(v, update, strict=True)]
        ahead = [momentum * vi + rate * ratio * ui for vi, ui in zip(v, update, strict=True)]
        w = [wi - each for wi, each in zip(w, ahead if nesterov else v, strict=True)]
    return w


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9, "weight_decay": 1e-6, "trust": 0.001},
        {"momentum": 0.9, "weight_decay": 0.5, "trust": 0.1},
        {"momentum": 0.0, "weight_decay": 0.0, "trust": 0.02},
        {"momentum": 0.5, "weight_decay": 3.0, "trust": 1.0},
        {"momentum": 0.9, "weight_decay": 0.5, "trust": 0.1, "clips": True},
        {"momentum": 0.9, "weight_decay": 0.5, "trust": 0.1, "nesterov": True},
        {"momentum": 0.9, "weight_decay": 0.5, "trust": 0.1, "adapts_all": True},
        {"momentum": 0.9, "weight_decay": 0.5, "trust": 0.1, "exempt_rate": 0.1},
    ],
)
def test_lars_against_its_formula(settings):
    """Six steps in which the rate changes; the third matrix starts at zero, where its first ratio is 1."""
    module = network()
    with torch.no_grad():
        module[5].weight.zero_()
    before, spec = copies(module), LARS(learning_rate=0.3, **settings)
    optimizer, rates = spec.build(module), [0.3, 0.3, 0.15, 0.15, 0.6, 0.01]
    firsts = [group["lr"] for group in optimizer.param_groups]
    gradients = {name: [] for name in before}
    for step, rate in enumerate(rates):
        give_gradients(module, step)
        for group, first in zip(optimizer.param_groups, firsts, strict=True):
            group["lr"] = first * rate / 0.3
        for name, p in module.named_parameters():
            gradients[name].append(p.grad.flatten().tolist())
        optimizer.step()
    for name, p in module.named_parameters():
        adapted = p.ndim > 1 or spec.adapts_all
        fraction = 1 if adapted else spec.exempt_rate
        expected = lars_by_hand(
            before[name].flatten().tolist(), gradients[name], [fraction * rate for rate in rates],
            momentum=spec.momentum, decay=spec.weight_decay, trust=spec.trust if adapted else None,
            clips=spec.clips, nesterov=spec.nesterov,
        )  # fmt: skip
        torch.testing.assert_close(p.detach().flatten(), torch.tensor(expected), rtol=1e-4, atol=1e-6, msg=name)


def test_first_step_of_lars_in_numbers():
    """|w| = 5; with decay 0.1 g becomes (1.8, 2.4) + 0.1 w = (2.1, 2.8), of length 3.5."""
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4]]))
        layer.bias.copy_(torch.tensor([2.0]))
    optimizer = LARS(learning_rate=0.5, momentum=0.9, weight_decay=0.1, trust=0.07).build(layer)
    layer.weight.grad, layer.bias.grad = torch.tensor([[1.8, 2.4]]), torch.tensor([1.0])
    optimizer.step()
    # The ratio is 0.07 * 5 / 3.5 = 0.1, the step 0.5 * 0.1 * (2.1, 2.8) = (0.105, 0.14).
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[2.895, 3.86]]))
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([1.5]))  # 2 - 0.5 * 1
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 2), torch.zeros(1)
    for group in optimizer.param_groups:
        group["lr"] = 1e-12
    optimizer.step()  # at rate 0, nine tenths of the old step remain
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[2.895 - 0.0945, 3.86 - 0.126]]))
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([1.05]))


def test_length_of_a_lars_step_does_not_depend_on_the_gradients():
    for scale in (1e-3, 1.0, 1e4):
        module = network()
        before = copies(module)
        give_gradients(module, 0, scale)
        LARS(learning_rate=0.4, weight_decay=0.0, trust=0.05).build(module).step()
        for name, p in module.named_parameters():
            if p.ndim > 1:
                step, norm = (p.detach() - before[name]).norm().item(), before[name].norm().item()
                assert step == pytest.approx(0.4 * 0.05 * norm, rel=1e-3)
            else:
                torch.testing.assert_close(p.detach(), before[name] - 0.4 * p.grad)


def test_lars_where_a_norm_is_zero():
    """Ratio 1: zero weights take the plain step; without gradient and decay nothing moves."""
    module = network()
    with torch.no_grad():
        module[3].weight.zero_()
    give_gradients(module, 0)
    module[5].weight.grad.zero_()
    before = copies(module)
    LARS(learning_rate=0.2, weight_decay=0.0).build(module).step()
    torch.testing.assert_close(module[3].weight.detach(), -0.2 * module[3].weight.grad)
    assert torch.equal(module[5].weight, before["5.weight"])
    assert all(p.isfinite().all() for p in module.parameters())


def test_lars_leaves_what_has_no_gradient():
    module = network()
    give_gradients(module, 0)
    module[0].weight.grad = None
    before = copies(module)
    LARS(learning_rate=0.2, weight_decay=0.5).build(module).step()
    assert torch.equal(module[0].weight, before["0.weight"])
    assert not torch.equal(module[3].weight, before["3.weight"])


def test_lars_goes_on_from_a_saved_state():
    whole, part = network(), network()
    optimizer, other = (LARS(learning_rate=0.2, trust=0.1).build(m) for m in (whole, part))
    for step in range(2):
        for module, each in ((whole, optimizer), (part, other)):
            give_gradients(module, step)
            each.step()
    resumed = LARS(learning_rate=0.2, trust=0.1).build(part)
    resumed.load_state_dict(other.state_dict())
    for module, each in ((whole, optimizer), (part, resumed)):
        give_gradients(module, 2)
        each.step()
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), part.parameters(), strict=True))


# --------------------------------------------------------------------------------------------------
# Specs


def test_sgd_is_torchs_with_its_settings():
    optimizer = SGD(learning_rate=0.2, momentum=0.8, weight_decay=0.01, nesterov=True).build(network())
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 7
    settings = {"lr": 0.2, "momentum": 0.8, "weight_decay": 0.01, "nesterov": True, "dampening": 0}
    assert {name: group[name] for name in settings} == settings
    assert not SGD(learning_rate=0.2).build(network()).param_groups[0]["nesterov"]


def test_adamw_is_torchs_with_its_settings():
    optimizer = AdamW(learning_rate=0.2, betas=(0.8, 0.9), weight_decay=0.01).build(network())
    assert type(optimizer) is torch.optim.AdamW
    assert all((group["lr"], group["betas"]) == (0.2, (0.8, 0.9)) for group in optimizer.param_groups)
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {4: 0.01, 2: 0.01, 1: 0.0}


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=repr)
def test_every_parameter_is_in_one_group(spec):
    module = network()
    groups = spec.build(module).param_groups
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in module.parameters())
    assert {group["lr"] for group in groups} == {0.1}  # the schedule multiplies each one


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=repr)
def test_what_decays_without_gradients(spec):
    """SGD shrinks everything; AdamW and LARS only kernels and matrices."""
    module = network()
    before = copies(module)
    give_gradients(module, 0, scale=0.0)
    spec.build(module).step()
    # LARS: decay alone has the direction of w and the length trust * |w|, whatever its size.
    factor = {"SGD": 1 - 0.1 * 0.5, "AdamW": 1 - 0.1 * 0.5, "LARS": 1 - 0.1 * 0.001}[type(spec).__name__]
    for name, p in module.named_parameters():
        if p.ndim > 1 or isinstance(spec, SGD):
            torch.testing.assert_close(p.detach(), factor * before[name], rtol=1e-6, atol=1e-8)
            assert not torch.equal(p, before[name])
        else:
            assert torch.equal(p, before[name])


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=repr)
def test_a_frozen_parameter_stays(spec):
    module = network()
    module[0].weight.requires_grad_(False)
    before = module[0].weight.clone()
    optimizer = spec.build(module)
    for step in range(2):
        optimizer.zero_grad()
        x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(step))
        module(x).square().sum().backward()
        optimizer.step()
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize("spec", [spec.replace(weight_decay=0.0) for spec in OPTIMIZERS], ids=repr)
def test_the_loss_falls(spec):
    module = network()
    x = torch.randn(16, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    y = torch.randn(16, 2, generator=torch.Generator().manual_seed(2))
    optimizer, losses = spec.replace(learning_rate=0.01).build(module), []
    for _ in range(30):
        loss = (module(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(learning_rate=0), "SGD.learning_rate must be a finite number above 0, but got 0"),
        (lambda: AdamW(learning_rate=-0.1), "AdamW.learning_rate must .* but got -0.1"),
        (lambda: LARS(learning_rate=float("inf")), "LARS.learning_rate"),
        (lambda: SGD(learning_rate="0.1"), "SGD.learning_rate"),
        (lambda: SGD(learning_rate=0.1, momentum=1.5), r"SGD.momentum must lie in \[0, 1\], but got 1.5"),
        (lambda: LARS(learning_rate=0.1, momentum=-0.1), "LARS.momentum"),
        (lambda: SGD(learning_rate=0.1, weight_decay=-1e-4), "SGD.weight_decay must be a finite number of at least 0"),
        (lambda: AdamW(learning_rate=0.1, weight_decay=float("nan")), "AdamW.weight_decay"),
        (lambda: LARS(learning_rate=0.1, trust=0.0), "LARS.trust must be a finite number above 0, but got 0.0"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()


# --------------------------------------------------------------------------------------------------
# The schedule


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (1000, 0.05), (40, 0.5), (7, 0.3), (100, 0.0), (50, 1.0)])
def test_shape_of_the_schedule(steps, warmup):
    factors = [rate(step, steps, warmup) for step in range(steps)]
    rising = round(warmup * steps)
    assert factors[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    falling = factors[rising:]
    expected = [math.cos(math.pi / 2 * i / len(falling)) ** 2 for i in range(len(falling))]  # a half cosine, squared
    assert falling == pytest.approx(expected, abs=1e-12)
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert factors[:rising] == sorted(factors[:rising])
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == len(falling)


def test_the_schedule_in_numbers():
    """100 steps of which 20 rise: then 1 at step 20, a half in the middle of the rest, 0 at the end."""
    factors = [rate(step, 100, 0.2) for step in (0, 9, 19, 20, 40, 60, 80, 100)]
    quarter = 0.5 + math.sqrt(0.125)
    assert factors == pytest.approx([0.05, 0.5, 1, 1, quarter, 0.5, 1 - quarter, 0])
    assert rate(99, 100, 0.2) < 1e-3


def test_the_schedule_without_warmup():
    assert rate(0, 10, 0.0) == 1
    assert rate(5, 10, 0.0) == pytest.approx(0.5)
    assert rate(0, 1, 0.0) == 1  # a single step uses the full rate
    assert rate(0, 1, 1.0) == 1


def test_other_schedules_in_numbers():
    """100 steps of which 20 rise; the fractions of the other schedules are of the 80 that follow."""
    steps = (9, 20, 59, 60, 68, 99)
    assert [rate(s, 100, 0.2, Constant()) for s in steps] == [0.5, 1, 1, 1, 1, 1]
    assert [rate(s, 100, 0.2, Steps(at=(0.5, 0.6), decay=0.5)) for s in steps] == [0.5, 1, 1, 0.5, 0.25, 0.25]
    assert rate(60, 100, 0.2, Cosine(floor=0.2)) == pytest.approx(0.6)  # half-way between 1 and the floor
    assert rate(100, 100, 0.2, Cosine(floor=0.2)) == pytest.approx(0.2)


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=lambda spec: type(spec).__name__)
def test_the_weight_decay_follows_a_half_cosine_in_the_groups_that_decay(spec):
    """DINO's (Caron et al. 2021, arXiv:2104.14294): from 0.04 to 0.4, without a warm-up."""
    spec = spec.replace(weight_decay=0.04)
    optimization = Optimization(epochs=1, batch=2, optimizer=spec, warmup=0.5, weight_decay_end=0.4)
    optimizer = spec.build(network())
    first = [group["weight_decay"] for group in optimizer.param_groups]
    schedule = Schedule(optimizer, optimization, 100)
    kept = optimizer.state_dict()
    for step, expected in (0, 0.04), (50, 0.22), (75, 0.22 + 0.18 * math.sqrt(0.5)), (99, 0.4):
        optimizer.load_state_dict(kept)  # as a resumed training does
        schedule.set(step)
        decays = [group["weight_decay"] for group in optimizer.param_groups]
        assert decays == pytest.approx([expected if each else 0 for each in first], abs=1e-4)
        assert optimizer.param_groups[0]["lr"] == spec.learning_rate * optimization.rate(step, 100)


def test_a_training_uses_the_weight_decay_of_its_step():
    """Without gradients AdamW multiplies a matrix by 1 - rate x decay at every step."""
    spec = AdamW(learning_rate=0.1, weight_decay=0.04)
    optimization = Optimization(epochs=1, batch=2, optimizer=spec, warmup=0, schedule=Constant(), weight_decay_end=0.4)
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    optimizer = spec.build(module)
    schedule = Schedule(optimizer, optimization, 2)
    for step in range(2):
        schedule.set(step)
        module.weight.grad = torch.zeros_like(module.weight)
        optimizer.step()
    torch.testing.assert_close(module.weight.detach(), before * (1 - 0.1 * 0.04) * (1 - 0.1 * 0.22))


def test_a_weight_decay_that_cannot_grow_is_refused_before_the_first_step():
    spec = AdamW(learning_rate=0.1, weight_decay=0)
    optimization = Optimization(epochs=1, batch=2, optimizer=spec, weight_decay_end=0.4)
    with pytest.raises(InvalidSpec, match=r"weight_decay_end needs .* no parameter group of AdamW decays. Give"):
        Schedule(spec.build(network()), optimization, 10)


def test_the_weight_decays_end_is_in_the_id_and_without_one_it_is_what_there_was():
    before = Optimization(epochs=3, batch=2, optimizer=SGD(learning_rate=0.1))
    assert identity(before.replace(weight_decay_end=None)) == "208136964699"
    assert len({identity(before.replace(weight_decay_end=end)) for end in (None, 0, 0.4)}) == 3


def test_the_table_says_where_the_weight_decay_goes():
    before = Optimization(epochs=3, batch=2, optimizer=SGD(learning_rate=0.1, weight_decay=0.04), warmup=0)
    assert _optimized(before)["schedule"] == "cosine"
    assert _optimized(before.replace(weight_decay_end=0.4))["schedule"] == "cosine, weight decay to 0.4 by a cosine"


def test_a_schedule_is_in_the_id_and_the_default_is_what_there_was_before_schedules():
    before = Optimization(epochs=3, batch=2, optimizer=SGD(learning_rate=0.1))
    assert identity(before) == "208136964699"
    assert identity(before.replace(schedule=Cosine())) == identity(before)
    others = [Cosine(floor=0.1), Constant(), Steps(), Steps(at=(0.5,))]
    assert len({identity(before.replace(schedule=s)) for s in others} | {identity(before)}) == 5


@pytest.mark.parametrize(
    ("make", "value"),
    [(lambda: Steps(at=(0.8, 0.6)), "(0.8, 0.6)"), (lambda: Steps(at=(1.0,)), "(1.0,)"), (lambda: Cosine(floor=2), "2"),
     (lambda: Optimization(epochs=1, batch=2, optimizer=SGD(learning_rate=1.0), schedule="cosine"), "'cosine'"),
     (lambda: Optimization(epochs=1, batch=2, optimizer=SGD(learning_rate=1.0), weight_decay_end=-1), "-1")],
)  # fmt: skip
def test_a_schedule_that_is_none_is_refused_with_its_value(make, value):
    with pytest.raises(InvalidSpec, match=value.replace("(", r"\(").replace(")", r"\)")):
        make()


@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:], ids=lambda o: type(o).__name__)
def test_a_parameter_may_ask_for_no_decay(optimizer):
    """Such as prototypes, whose lengths mean nothing."""
    module = network()
    module[3].weight.decays = False
    decaying, others = optimizer.build(module).param_groups
    assert {id(p) for p in others["params"]} == {
        id(p) for p in module.parameters() if p.ndim == 1 or p is module[3].weight
    }
    assert len(decaying["params"]) == 2
