"""The objectives against their definitions, and the contract between methods and the training loop."""

import itertools
import math

import pytest
import torch
from helpers import SMALL, small_training
from torch import nn

from ablation.data import loaded
from ablation.methods import BarlowTwins, Initialization, Learner, SimCLR, Supervised, mlp
from ablation.methods.barlow_twins import barlow_twins
from ablation.methods.contrastive import Margin, NTLogistic, NTXent, nt_xent, semi_hard
from ablation.models.resnet import SmallResNet
from ablation.spec import InvalidSpec
from ablation.training.loop import build_learner, pretrain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_z(count: int, dimension: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """z of two correlated views."""
    both = torch.randn(3, count, dimension, generator=generator(seed))
    return both[0] + both[1], both[0] + both[2]


class Standardizer(nn.Module):
    """A fully known encoder: h are the pixels, standardized along the batch."""

    features = 12

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(12, affine=False)

    def forward(self, images):
        return self.norm(images.flatten(1))


def two_views(count: int = 10) -> list[torch.Tensor]:
    """(count, 3, 2, 2); the second is brighter and has more contrast than the first."""
    first, second = torch.randn(2, count, 3, 2, 2, generator=generator(3))
    return [first, 3 * (first + second) + 2]


def standardized(h: torch.Tensor) -> torch.Tensor:
    return (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()


# --------------------------------------------------------------------------------------------------
# NT-Xent


def nt_xent_by_hand(first, second, temperature):
    """Equation 1 of Chen et al. 2020: l(i, j) of every anchor i with its positive j, and their mean."""
    z = [*first.tolist(), *second.tolist()]
    count = len(z)

    def similarity(u, v):
        dot, norms = sum(a * b for a, b in zip(u, v, strict=True)), math.hypot(*u) * math.hypot(*v)
        return dot / norms

    losses, hits = [], 0
    for i in range(count):
        j = (i + count // 2) % count
        exponentials = {k: math.exp(similarity(z[i], z[k]) / temperature) for k in range(count) if k != i}
        losses.append(-math.log(exponentials[j] / sum(exponentials.values())))
        hits += max(exponentials, key=exponentials.get) == j
    return sum(losses) / count, hits / count


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0, 3.0])
def test_nt_xent_against_equation_1(temperature):
    for seed, (count, dimension) in enumerate([(2, 3), (7, 5), (16, 4)]):
        first, second = two_z(count, dimension, seed)
        value, measured = nt_xent(first, second, temperature)
        expected, hits = nt_xent_by_hand(first, second, temperature)
        assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert measured["contrastive_accuracy"].item() == pytest.approx(hits)
        z = torch.nn.functional.normalize(torch.cat([first, second]).double(), dim=1)
        p = (z @ z.T / temperature).fill_diagonal_(-math.inf).softmax(1)
        entropy = -torch.where(p > 0, p * p.log(), 0).sum(1).mean()
        assert measured["contrastive_entropy"].item() == pytest.approx(entropy.item(), rel=1e-4, abs=1e-5)


def test_nt_xent_of_two_orthogonal_images():
    """An anchor's positive has similarity 1, its two negatives 0: log((e^(1/tau) + 2) / e^(1/tau))."""
    z = torch.eye(2)
    assert nt_xent(z, z, 1.0)[0].item() == pytest.approx(0.551445, abs=2e-6)  # log(1 + 2 / e)
    assert nt_xent(z, z, 0.5)[0].item() == pytest.approx(0.239545, abs=2e-6)  # log(1 + 2 / e^2)


def test_nt_xent_sees_only_directions_and_no_order():
    first, second = two_z(9, 4)
    value = nt_xent(first, second, 0.2)[0]
    lengths = torch.rand(9, 1, generator=generator(1)) + 0.1
    torch.testing.assert_close(nt_xent(first * lengths, 40 * second, 0.2)[0], value)
    torch.testing.assert_close(nt_xent(second, first, 0.2)[0], value)
    order = torch.randperm(9, generator=generator(2))
    torch.testing.assert_close(nt_xent(first[order], second[order], 0.2)[0], value)
    assert not torch.isclose(nt_xent(first, second[order], 0.2)[0], value, rtol=1e-2)


def test_contrastive_accuracy():
    """At 0 and 90 degrees, with positives at 10 and 200: 0 and 10 are each other's nearest, 90 is nearer to 10
    than to its positive, and 200 is nearest to its positive, 90."""

    def at(*degrees):
        angle = torch.tensor(degrees).deg2rad()
        return torch.stack([angle.cos(), angle.sin()], 1)

    assert nt_xent(at(0.0, 90.0), at(10.0, 200.0), 0.5)[1]["contrastive_accuracy"] == 0.75
    assert nt_xent(at(0.0, 90.0), at(10.0, 100.0), 0.5)[1]["contrastive_accuracy"] == 1
    assert nt_xent(at(0.0, 90.0), at(100.0, 10.0), 0.5)[1]["contrastive_accuracy"] == 0


def test_nt_xent_without_normalization_sees_lengths():
    """Two orthogonal images of length 3: the positive's product is 9, so log((e^(9 / tau) + 2) / e^(9 / tau))."""
    z = 3 * torch.eye(2)
    value = nt_xent(z, z, 9.0, l2_normalize=False)[0]
    assert value.item() == pytest.approx(0.551445, abs=2e-6)  # log(1 + 2 / e)


# --------------------------------------------------------------------------------------------------
# NT-Logistic and margin (Table 2)


def table_2_by_hand(objective, first, second):
    """Every anchor with its positive and the other view's other images, one pair at a time."""

    def cosine(u, v):
        return sum(a * b for a, b in zip(u, v, strict=True)) / (math.hypot(*u) * math.hypot(*v))

    def log_sigmoid(x):
        return -math.log1p(math.exp(-x))

    first, second = first.tolist(), second.tolist()
    attraction, repulsion = [], []
    for mine, others in ((first, second), (second, first)):
        for i, anchor in enumerate(mine):
            positive = cosine(anchor, others[i])
            negatives = [cosine(anchor, v) for j, v in enumerate(others) if j != i]
            if objective.semi_hard:
                farther = [n for n in negatives if n < positive]
                negatives = [max(farther) if farther else min(negatives)]
            if isinstance(objective, Margin):
                repulsion += [max(n - positive + objective.margin, 0) for n in negatives]
            else:
                attraction.append(-log_sigmoid(positive / objective.temperature))
                repulsion += [-log_sigmoid(-n / objective.temperature) for n in negatives]
    return (sum(attraction) / len(attraction) if attraction else 0) + sum(repulsion) / len(repulsion)


@pytest.mark.parametrize(
    "objective",
    [
        NTLogistic(temperature=0.2),
        NTLogistic(temperature=0.5, semi_hard=True),
        Margin(margin=0.4),
        Margin(margin=1.6, semi_hard=True),
    ],
    ids=repr,
)
def test_table_2(objective):
    for seed, (count, dimension) in enumerate([(2, 3), (7, 5), (16, 4)]):
        first, second = two_z(count, dimension, seed)
        first.requires_grad_()
        value, measured = objective.loss(first, second)
        assert value.item() == pytest.approx(table_2_by_hand(objective, first, second), rel=1e-5, abs=1e-6)
        assert not measured["contrastive_accuracy"].requires_grad
        value.backward()
        assert first.grad.isfinite().all()


def test_semi_hard_negatives():
    """The nearest of those farther than the positive; if all are nearer, the farthest."""
    inf = math.inf
    negatives = torch.tensor([[-inf, 0.1, 0.5, 0.9], [0.6, -inf, 0.9, 0.7]])
    assert semi_hard(torch.tensor([0.8, 0.5]), negatives).tolist() == [[pytest.approx(0.5)], [pytest.approx(0.6)]]


@pytest.mark.parametrize(("head", "layers", "dimension"), [("nonlinear", 4, 6), ("linear", 1, 6), ("none", 0, 16)])
def test_heads(head, layers, dimension, images):
    learner = SimCLR(head=head, hidden=8, dimension=6).build(SmallResNet(channels=4).build(), 10)
    assert len(learner.head) == layers
    assert learner.project(images).shape == (8, dimension)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_nt_xent_gradient(temperature):
    """Finite also for equal, opposite and vanishing z, and against finite differences of the definition."""
    first, second = two_z(4, 3)
    second[0], second[1], first[2] = first[0], -first[1], 0
    first.requires_grad_()
    value, measured = nt_xent(first, second, temperature)
    value.backward()
    assert value.isfinite()
    assert first.grad.isfinite().all()
    assert not any(value.requires_grad for value in measured.values())

    first, second = two_z(4, 3)
    first.requires_grad_()
    nt_xent(first, second, temperature)[0].backward()
    step = 1e-4 * temperature
    for i, j in ((0, 0), (1, 2), (3, 1)):
        change = torch.zeros(4, 3, dtype=torch.float64)
        change[i, j] = step
        up, down = (nt_xent_by_hand(first.detach().double() + s * change, second, temperature)[0] for s in (1, -1))
        assert first.grad[i, j].item() == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-5)


# --------------------------------------------------------------------------------------------------
# Barlow Twins


def barlow_twins_by_hand(first, second, trade_off):
    """Equations 1 and 2 of Zbontar et al. 2021, of z standardized along the batch."""

    def standardize(rows):
        columns = []
        for column in zip(*rows, strict=True):
            mean = sum(column) / len(column)
            variance = sum((x - mean) ** 2 for x in column) / len(column)
            columns.append([(x - mean) / math.sqrt(variance + 1e-5) for x in column])
        return columns

    a, b = standardize(first.tolist()), standardize(second.tolist())
    invariance = redundancy = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            c = sum(x * y for x, y in zip(a[i], b[j], strict=True)) / len(first)
            invariance += (1 - c) ** 2 if i == j else 0
            redundancy += c**2 if i != j else 0
    return invariance + trade_off * redundancy


@pytest.mark.parametrize("trade_off", [0.0, 5e-3, 1.0])
def test_barlow_twins_against_equations_1_and_2(trade_off):
    for seed, (count, dimension) in enumerate([(3, 2), (20, 6), (5, 9)]):
        first, second = two_z(count, dimension, seed)
        first, second = 0.1 * first + 2, 0.01 * second  # the second's variance is not far above 1e-5
        expected = barlow_twins_by_hand(first, second, trade_off)
        assert barlow_twins(first, second, trade_off).item() == pytest.approx(expected, rel=1e-4)


def test_barlow_twins_of_two_signs():
    """Both columns of B are the first of A: C = ((1, 1), (0, 0)), so one of the diagonal and lambda times one."""
    first = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    second = first[:, [0, 0]]
    assert barlow_twins(first, second, 0.25).item() == pytest.approx(1.25, abs=1e-4)
    assert barlow_twins(7 * first + 3, 2 * second - 5, 0.25).item() == pytest.approx(1.25, abs=1e-4)
    assert barlow_twins(first, first, 0.25).item() == pytest.approx(0, abs=1e-4)  # C = identity
    assert barlow_twins(first, -first, 0.25).item() == pytest.approx(8, abs=1e-3)  # C = -identity: 2 * (1 + 1)^2


def test_barlow_twins_gradient_is_finite_for_constant_columns():
    first, second = two_z(6, 3)
    first[:, 1] = 4.0
    first.requires_grad_()
    barlow_twins(first, second, 5e-3).backward()
    assert first.grad.isfinite().all()
    assert first.grad.abs().max() > 0


# --------------------------------------------------------------------------------------------------
# Precision


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_objectives_are_float32_under_autocast(kind):
    """In bfloat16 they would be wrong in the third digit."""
    first, second = (z.to(kind) for z in two_z(32, 16))
    for objective in (lambda a, b: nt_xent(a, b, 0.1)[0], lambda a, b: barlow_twins(a, b, 5e-3)):
        outside = objective(first.float(), second.float())
        with torch.autocast("cpu", torch.bfloat16):
            inside = objective(first, second)
        assert inside.dtype == outside.dtype == torch.float32
        torch.testing.assert_close(inside, outside, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "method",
    [
        SimCLR(hidden=8, dimension=6),
        SimCLR(hidden=8, dimension=6, objective=NTLogistic(semi_hard=True)),
        SimCLR(dimension=6, head="linear", objective=Margin()),
        BarlowTwins(hidden=8, dimension=6),
        Supervised(),
    ],
    ids=repr,
)
def test_losses_are_float32_under_autocast(method, images):
    learner = method.build(SmallResNet(channels=4).build(), 3)
    with torch.autocast("cpu", torch.bfloat16):
        z = learner.embed([images, images.flip(-1)])
        loss, _ = learner.loss([images, images.flip(-1)], torch.arange(8) % 3)
    assert all(each.dtype == torch.float32 for each in z)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.isfinite()


# --------------------------------------------------------------------------------------------------
# Batch norm


def test_joint_batch_norm_has_one_statistic_over_all_views():
    first, second = two_views()
    encoder = Standardizer()
    z = Learner(encoder, nn.Identity(), "joint").embed([first, second])
    both = torch.cat([first, second]).flatten(1)
    torch.testing.assert_close(torch.cat(z), standardized(both), rtol=1e-4, atol=1e-5)
    assert len(z) == 2
    assert z[0].mean() < -0.2 < 0.2 < z[1].mean()  # the difference between the views remains
    assert encoder.norm.num_batches_tracked == 1


def test_separate_batch_norm_has_a_statistic_for_each_view():
    first, second = two_views()
    encoder = Standardizer()
    z = Learner(encoder, nn.Identity(), "separate").embed([first, second])
    for each, view in zip(z, (first, second), strict=True):
        torch.testing.assert_close(each, standardized(view.flatten(1)), rtol=1e-4, atol=1e-5)
    assert encoder.norm.num_batches_tracked == 2


@pytest.mark.parametrize("method", [SimCLR(hidden=8, dimension=6), BarlowTwins(hidden=8, dimension=6)], ids=repr)
def test_losses_of_a_method_follow_its_batch_norm(method):
    views, labels = two_views(), torch.zeros(10, dtype=torch.long)
    found = {}
    for batch_norm in ("joint", "separate"):
        torch.manual_seed(0)
        learner = method.replace(batch_norm=batch_norm).build(Standardizer(), 10)
        if batch_norm == "joint":
            first, second = learner.head(learner.encoder(torch.cat(views))).split(10)
        else:
            first, second = (learner.head(learner.encoder(view)) for view in views)
        if isinstance(method, SimCLR):
            expected = nt_xent_by_hand(first, second, 0.5)[0]
        else:
            expected = barlow_twins_by_hand(first, second, 5e-3)
        found[batch_norm] = learner.loss(views, labels)[0].item()
        assert found[batch_norm] == pytest.approx(expected, rel=1e-4)
    assert abs(found["joint"] - found["separate"]) > 0.01


def test_defaults_are_the_authors():
    assert SimCLR().batch_norm == "joint"
    assert BarlowTwins().batch_norm == "separate"


# --------------------------------------------------------------------------------------------------
# Learners


@pytest.mark.parametrize("method", [SimCLR(hidden=8, dimension=6), BarlowTwins(hidden=8, dimension=6)], ids=repr)
def test_gradients_reach_encoder_and_head(method, images):
    learner = method.build(SmallResNet(channels=4).build(), 10)
    learner.loss([images, images.flip(-1)], torch.zeros(8, dtype=torch.long))[0].backward()
    for part in (learner.encoder, learner.head):
        gradients = {name: p.grad for name, p in part.named_parameters()}
        assert any(p.ndim > 1 for p in part.parameters())
        for name, p in part.named_parameters():
            assert gradients[name] is not None, name
            assert gradients[name].isfinite().all(), name
            # Barlow Twins ignores a constant added to z, so the last bias of its head may have no gradient.
            assert p.ndim == 1 or gradients[name].abs().max() > 0, name


@pytest.mark.parametrize("method", [SimCLR(), BarlowTwins(), BarlowTwins(hidden=24, dimension=48)], ids=repr)
def test_sizes_of_the_head(method):
    """Two linear layers for SimCLR, three for Barlow Twins; z is not rectified."""
    head = method.build(Standardizer(), 10).head
    shapes = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    hidden = [method.hidden] * (1 if isinstance(method, SimCLR) else 2)
    sizes = [12, *hidden, method.dimension]
    assert shapes == list(itertools.pairwise(sizes))
    z = head(torch.randn(64, 12, generator=generator()))
    assert z.shape == (64, method.dimension)
    assert z.min() < -0.1


def test_mlp_norms_and_rectifies_between_layers():
    torch.manual_seed(1)
    x = torch.randn(32, 5, generator=generator())
    head = mlp(5, 7, 3)
    first, last = (layer for layer in head if isinstance(layer, nn.Linear))
    expected = standardized(x @ first.weight.T).relu() @ last.weight.T + last.bias
    assert first.bias is None  # batch norm would remove it
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("views", [1, 2, 3])
def test_supervised_is_cross_entropy_over_all_views(views):
    torch.manual_seed(2)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    encoder.features = 5
    learner = Supervised().build(encoder, 4)
    pictures = list(torch.randn(views, 6, 3, 2, 2, generator=generator()))
    labels = torch.tensor([0, 3, 1, 2, 2, 0])
    losses, hits = [], 0
    for view in pictures:
        for image, label in zip(view, labels.tolist(), strict=True):
            logits = learner.classifier(encoder(image[None]))[0].tolist()
            losses.append(math.log(sum(math.exp(x) for x in logits)) - logits[label])
            hits += max(range(4), key=logits.__getitem__) == label
    loss, metrics = learner.loss(pictures, labels)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert metrics["training_accuracy"].item() == pytest.approx(hits / len(losses))


@pytest.mark.parametrize("batch_norm", ["joint", "separate"])
def test_supervised_follows_its_batch_norm(batch_norm):
    views, labels = two_views(), torch.arange(10) % 4
    learner = Supervised(batch_norm=batch_norm).build(Standardizer(), 4)
    flat = [view.flatten(1) for view in views]
    h = standardized(torch.cat(flat)) if batch_norm == "joint" else torch.cat([standardized(x) for x in flat])
    expected = nn.functional.cross_entropy(learner.classifier(h), torch.cat([labels, labels]))
    torch.testing.assert_close(learner.loss(views, labels)[0], expected, rtol=1e-4, atol=0)


def test_supervised_gradients_reach_encoder_and_classifier(images):
    learner = Supervised().build(SmallResNet(channels=4).build(), 10)
    learner.loss([images], torch.arange(8))[0].backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in learner.parameters() if p.ndim > 1)
    assert learner.classifier.weight.grad.abs().max() > 0


def test_only_supervised_sees_labels(images):
    views = [images, images.flip(-1)]
    ones, zeros = torch.ones(8, dtype=torch.long), torch.zeros(8, dtype=torch.long)
    for method, blind in ((SimCLR(), True), (BarlowTwins(hidden=8, dimension=6), True), (Supervised(), False)):
        learner = method.build(SmallResNet(channels=4).build(), 10)
        assert torch.equal(learner.loss(views, ones)[0], learner.loss(views, zeros)[0]) == blind


def test_metrics_have_no_graph(images):
    for method, name in ((SimCLR(), "contrastive_accuracy"), (Supervised(), "training_accuracy")):
        learner = method.build(SmallResNet(channels=4).build(), 10)
        _, metrics = learner.loss([images, images.flip(-1)], torch.arange(8))
        assert not metrics[name].requires_grad
        assert 0 <= metrics[name] <= 1


# --------------------------------------------------------------------------------------------------
# Specs


def test_only_the_initialization_is_not_trained():
    assert Initialization.trains is False
    assert all(method.trains for method in (SimCLR(), BarlowTwins(), Supervised()))


def test_the_initialization_is_what_other_methods_start_from():
    training = small_training(method=Initialization())
    found = pretrain(training, SMALL.load())
    start = build_learner(small_training(), loaded(SMALL, "cpu")).encoder.state_dict()
    assert found.history == []
    assert all(torch.equal(value, start[name]) for name, value in found.learner.encoder.state_dict().items())


def test_z_of_the_initialization_is_h(images):
    encoder = SmallResNet(channels=4).build().eval()
    learner = Initialization().build(encoder, 10).eval()
    assert torch.equal(learner.project(images), encoder(images))


def test_how_many_views_a_method_takes():
    for method in (SimCLR(), BarlowTwins()):
        with pytest.raises(InvalidSpec, match=rf"Training.views: {type(method).__name__} needs 2 views"):
            small_training(method=method, views=((),))
    for method in (Initialization(), Supervised()):
        for views in (((),), ((), (), ())):
            assert len(small_training(method=method, views=views).views) == len(views)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NTXent(temperature=0), "NTXent.temperature must be a finite number above 0, but got 0"),
        (lambda: NTXent(temperature=-0.5), "NTXent.temperature must .* but got -0.5"),
        (lambda: NTXent(temperature=float("nan")), "NTXent.temperature"),
        (lambda: NTXent(temperature="0.5"), "NTXent.temperature"),
        (lambda: SimCLR(head="deep"), "SimCLR.head must be one of 'nonlinear', 'linear', 'none', but got 'deep'"),
        (lambda: SimCLR(objective="nt-xent"), "SimCLR.objective must be an objective such as NTXent"),
        (lambda: NTLogistic(temperature=0), "NTLogistic.temperature"),
        (lambda: Margin(margin=-1), "Margin.margin"),
        (lambda: SimCLR(hidden=0), "SimCLR.hidden must be a whole number of at least 1, but got 0"),
        (lambda: SimCLR(dimension=12.5), "SimCLR.dimension"),
        (lambda: SimCLR(batch_norm="both"), "SimCLR.batch_norm must be one of 'joint', 'separate', but got 'both'"),
        (lambda: BarlowTwins(trade_off=-1e-3), "BarlowTwins.trade_off"),
        (lambda: BarlowTwins(trade_off=float("inf")), "BarlowTwins.trade_off"),
        (lambda: BarlowTwins(hidden=-1), "BarlowTwins.hidden"),
        (lambda: BarlowTwins(dimension=True), "BarlowTwins.dimension"),
        (lambda: BarlowTwins(batch_norm="sync"), "BarlowTwins.batch_norm"),
        (lambda: Supervised(batch_norm=None), "Supervised.batch_norm"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()
