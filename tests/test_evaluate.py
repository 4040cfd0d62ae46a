"""The two evaluations against scikit-learn, and the contract of `evaluate`."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import cross_entropy, normalize

from ablation.data import Data, Shapes, cache
from ablation.data.dataset import Split
from ablation.evaluate import KNN, STATISTICS, Invariance, Linear, Probe
from ablation.evaluate.base import Evaluation, Features
from ablation.evaluate.evaluator import evaluate, evaluate_each
from ablation.evaluate.features import extract
from ablation.evaluate.knn import nearest
from ablation.evaluate.linear import fit, scores
from ablation.models.batch_norm import recalibrate_batch_norm
from ablation.models.resnet import SmallResNet
from ablation.operators import ColorDrop, Flip, Noise, Rotate
from ablation.spec import InvalidSpec

SPLITS = {"train": 240, "validation": 80, "test": 120}
CLASSIFIED = ("validation", "test")  # by kNN


def features(seed: int = 0, *, classes: int = 7, dimension: int = 12, spread: float = 1.5, **sizes: int) -> Features:
    """Classes are overlapping clouds; each dimension has its own scale and offset."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dimension, generator=generator)
    scale, offset = (torch.rand(2, dimension, generator=generator) + 0.2).unbind()
    h, labels = {}, {}
    for split, count in {**SPLITS, **sizes}.items():
        labels[split] = torch.arange(count) % classes
        labels[split] = labels[split][torch.randperm(count, generator=generator)]
        cloud = centres[labels[split]] + spread * torch.randn(count, dimension, generator=generator)
        h[split] = cloud * scale + offset
    return Features(h, labels, classes)


def agreement(predicted, labels) -> float:
    """Percent."""
    predicted, labels = np.asarray(predicted).tolist(), labels.tolist()
    return 100 * sum(p == y for p, y in zip(predicted, labels, strict=True)) / len(labels)


# --------------------------------------------------------------------------------------------------
# kNN


def neighbours_vote(bank, labels, k, temperature) -> KNeighborsClassifier:
    """scikit-learn's. Its distance is 1 - cosine; float64."""
    classifier = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    return classifier.fit(bank.double().numpy(), labels.numpy())


@pytest.mark.parametrize("k", [1, 5, 50, 239])
@pytest.mark.parametrize("temperature", [0.002, 0.1, 1.0])  # e^(1 / 0.002) overflows float32
def test_knn_against_scikit_learn(k, temperature):
    data = features(k)
    metrics, predictions, notes = KNN(k=(k,), temperature=(temperature,)).evaluate(data)
    classifier = neighbours_vote(data.h["train"], data.labels["train"], k, temperature)
    for split in ("validation", "test"):
        expected = classifier.predict(data.h[split].double().numpy())
        assert predictions[split].tolist() == expected.tolist()
        assert metrics[f"{split}_top1"] == pytest.approx(agreement(expected, data.labels[split]))
        if k == 239:  # with fewer neighbours, classes without votes tie
            votes = classifier.predict_proba(data.h[split].double().numpy())
            hits = (np.argsort(-votes, axis=1)[:, :5] == data.labels[split].numpy()[:, None]).any(1)
            assert metrics[f"{split}_top5"] == pytest.approx(100 * hits.mean())
    assert notes == []
    assert 20 < metrics["test_top1"] < 99  # neither trivial nor perfect


def test_neighbours_do_not_depend_on_lengths():
    data = features()
    generator = torch.Generator().manual_seed(8)
    lengths = {split: torch.rand(count, 1, generator=generator) + 0.1 for split, count in SPLITS.items()}
    stretched = Features({split: 9 * h * lengths[split] for split, h in data.h.items()}, data.labels, 7)
    for split, predicted in KNN(k=(20,)).evaluate(data)[1].items():
        assert torch.equal(KNN(k=(20,)).evaluate(stretched)[1][split], predicted)


def test_an_image_is_not_its_own_neighbour():
    """If the bank contains the validation images, each is classified by the others; the loop removes it."""
    data = features(4)
    bank, labels = (torch.cat([part[s] for s in ("train", "validation")]) for part in (data.h, data.labels))
    _, predictions, _ = KNN(k=(7,), with_validation=True).evaluate(data)
    for i, found in enumerate(predictions["validation"]):
        others = torch.arange(len(bank)) != len(data.h["train"]) + i
        query = data.h["validation"][i : i + 1].double().numpy()
        assert found == neighbours_vote(bank[others], labels[others], 7, 0.1).predict(query).item()
    expected = neighbours_vote(bank, labels, 7, 0.1).predict(data.h["test"].double().numpy())
    assert predictions["test"].tolist() == expected.tolist()


def test_leave_one_out_with_random_labels_is_chance():
    """With k = 1, an image that is its own neighbour would always be correct."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(2300, 4, generator=generator)  # more than one chunk
    labels = torch.randint(0, 10, (2300,), generator=generator)
    parts = {"train": slice(0, 10), "validation": slice(10, None), "test": slice(10, None)}
    data = Features({s: h[part] for s, part in parts.items()}, {s: labels[part] for s, part in parts.items()}, 10)
    metrics, _, _ = KNN(k=(1,), with_validation=True).evaluate(data)
    assert metrics["validation_top1"] == pytest.approx(10, abs=4.5 * 0.63)  # one sigma of 2,290 trials is 0.63
    assert metrics["test_top1"] == 100  # these are in the bank


@pytest.mark.parametrize("k", [1, 37, 300])
def test_neighbours_are_those_of_topk(k):
    """The vectorized partition on a CPU gives the same similarities as torch's topk, including ties."""
    generator = torch.Generator().manual_seed(k)
    bank = torch.randn(300, 6, generator=generator).round()  # many ties
    queries = torch.randn(701, 6, generator=generator)
    similarity, places = nearest(queries, bank, k)
    whole = normalize(queries, dim=1) @ normalize(bank, dim=1).T
    torch.testing.assert_close(similarity, whole.topk(k, dim=1).values)
    torch.testing.assert_close(whole.gather(1, places), similarity)
    assert all(len(set(row)) == k for row in places.tolist())


def test_k_is_capped_by_the_bank():
    data = features(1, train=30)
    metrics, predictions, notes = KNN(k=(200,)).evaluate(data)
    assert len(notes) == 1
    assert "k = 200 is capped at 30" in notes[0]
    whole, expected, none = KNN(k=(30,)).evaluate(data)
    assert none == []
    assert metrics == whole
    assert all(torch.equal(predictions[split], expected[split]) for split in expected)


def test_pairs_of_k_and_temperature():
    """The first pair is the result, the others have their numbers in their names; each equals its result alone."""
    data = features(2)
    metrics, predictions, _ = KNN(k=(50, 3), temperature=(0.1, 0.025)).evaluate(data)
    prefixes = {"": (50, 0.1), "k50_t0.025_": (50, 0.025), "k3_t0.1_": (3, 0.1), "k3_t0.025_": (3, 0.025)}
    names = {f"{prefix}{split}_top{n}" for prefix in prefixes for split in CLASSIFIED for n in (1, 5)}
    assert set(metrics) == names
    for prefix, (k, temperature) in prefixes.items():
        alone, labels, _ = KNN(k=(k,), temperature=(temperature,)).evaluate(data)
        assert alone == {name: metrics[f"{prefix}{name}"] for name in alone}
        if not prefix:
            assert all(torch.equal(predictions[split], labels[split]) for split in CLASSIFIED)


@pytest.mark.parametrize("evaluation", [KNN(k=(10,)), Linear(penalties=(1e-2,))], ids=repr)
@pytest.mark.parametrize(("classes", "numbers"), [(2, (1,)), (5, (1,)), (6, (1, 5))])
def test_top5_only_of_more_than_five_classes(evaluation, classes, numbers):
    data = features(classes=classes, dimension=4)
    metrics, predictions, _ = evaluation.evaluate(data)
    splits = CLASSIFIED if isinstance(evaluation, KNN) else SPLITS
    assert {name for name in metrics if "top" in name} == {f"{split}_top{n}" for split in splits for n in numbers}
    for split in splits:
        assert metrics[f"{split}_top1"] == pytest.approx(agreement(predictions[split], data.labels[split]))
        assert metrics[f"{split}_top1"] <= metrics.get(f"{split}_top5", 100)


# --------------------------------------------------------------------------------------------------
# Linear


def standardized(data: Features) -> dict[str, torch.Tensor]:
    mean, deviation = data.h["train"].double().mean(0), data.h["train"].double().std(0, correction=0)
    return {split: (h.double() - mean) / deviation for split, h in data.h.items()}


def regression(x, labels, penalty) -> LogisticRegression:
    """scikit-learn's, with the same objective: C = 1 / (N penalty)."""
    classifier = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-9, max_iter=5000, solver="lbfgs")
    return classifier.fit(x.numpy(), labels.numpy())


@pytest.mark.parametrize("penalty", [1.0, 1e-1, 1e-2, 1e-3])
def test_fit_against_scikit_learn(penalty):
    data = features(3)
    x, labels = standardized(data), data.labels["train"]
    weights, converged = fit(x["train"], labels, 7, penalty, 1e-7)
    assert converged
    classifier = regression(x["train"], labels, penalty)
    biases = classifier.intercept_ - classifier.intercept_.mean()  # softmax ignores a constant
    found = weights.numpy()
    np.testing.assert_allclose(found[:-1].T, classifier.coef_, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[-1] - found[-1].mean(), biases, rtol=0, atol=1e-3)
    for split in SPLITS:
        probabilities = scores(x[split], weights).softmax(1).numpy()
        np.testing.assert_allclose(probabilities, classifier.predict_proba(x[split].numpy()), rtol=0, atol=1e-3)
    assert np.abs(classifier.coef_).max() > 0.05


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_fit_stops_where_the_gradient_is_small(penalty):
    data = features(5)
    x, labels = standardized(data)["train"], data.labels["train"]
    for tolerance in (1e-2, 1e-4, 1e-6):
        weights, converged = fit(x, labels, 7, penalty, tolerance)
        weights.requires_grad_()
        loss = cross_entropy(x @ weights[:-1] + weights[-1], labels) + penalty / 2 * (weights[:-1] ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, weights)
        assert converged
        assert gradient.abs().max() <= tolerance * (1 + 1e-9) + 1e-15


@pytest.mark.parametrize("seed", range(4))
def test_penalty_is_chosen_on_the_validation_images(seed):
    """By brute force with scikit-learn; test labels have no effect."""
    spread, dimension = ((3.0, 40), (3.0, 40), (0.8, 3), (0.8, 3))[seed]
    data = features(seed, spread=spread, dimension=dimension, train=140)
    spec = Linear(penalties=(1.0, 1e-1, 1e-2, 1e-4), tolerance=1e-6)
    metrics, predictions, notes = spec.evaluate(data)
    x, labels = standardized(data), data.labels
    found = {}
    for penalty in spec.penalties:
        classifier = regression(x["train"], labels["train"], penalty)
        found[penalty] = {split: classifier.predict(x[split].numpy()) for split in SPLITS}
    accuracy = {penalty: agreement(each["validation"], labels["validation"]) for penalty, each in found.items()}
    best = max(penalty for penalty in spec.penalties if accuracy[penalty] == max(accuracy.values()))
    assert notes == []
    assert len(set(accuracy.values())) > 1
    assert metrics["penalty"] == best
    for split in SPLITS:
        assert metrics[f"{split}_top1"] == pytest.approx(agreement(found[best][split], labels[split]))
        assert predictions[split].tolist() == found[best][split].tolist()


def test_the_larger_of_two_equal_penalties():
    data = features(spread=0.01)
    metrics, _, _ = Linear(penalties=(1e-2, 1e-3)).evaluate(data)
    assert metrics["validation_top1"] == 100
    assert metrics["penalty"] == 1e-2
    assert Linear(penalties=(1e-3,)).evaluate(data)[0]["validation_top1"] == 100


def test_linear_does_not_depend_on_scales_and_offsets():
    data = features(6)
    scale, offset = torch.logspace(-3, 3, 12), torch.linspace(-5, 5, 12)
    other = Features({split: h * scale + offset * scale for split, h in data.h.items()}, data.labels, 7)
    spec = Linear(penalties=(1e-2,), tolerance=1e-7)
    assert spec.evaluate(other)[0] == pytest.approx(spec.evaluate(data)[0])
    assert all(torch.equal(spec.evaluate(other)[1][split], spec.evaluate(data)[1][split]) for split in SPLITS)


def test_a_constant_feature_is_nothing():
    data = features(6)
    wider = Features({s: torch.cat([h, torch.full((len(h), 2), 0.3)], 1) for s, h in data.h.items()}, data.labels, 7)
    spec = Linear(penalties=(1e-2,))
    assert spec.evaluate(wider)[0] == pytest.approx(spec.evaluate(data)[0])


def test_a_fit_that_does_not_converge_is_noted():
    data = features(classes=3, dimension=2)
    _, _, notes = Linear(penalties=(1e-1, 1e-2), tolerance=1e-300).evaluate(data)
    assert [note.split(" did")[0] for note in notes] == [
        f"logistic regression with penalty {penalty}" for penalty in ("0.1", "0.01")
    ]


# --------------------------------------------------------------------------------------------------
# From images to results


@pytest.fixture(scope="module")
def data() -> Data:
    return Shapes(train=300, validation=60, test=100).load()


@pytest.fixture
def encoder():
    """With running statistics of darker images than the data."""
    torch.manual_seed(1)
    encoder = SmallResNet(channels=4).build()
    for _ in range(20):
        encoder(0.5 * torch.randn(8, 3, 32, 32) - 1)
    return encoder


EVALUATIONS = (KNN(k=(20,)), Linear(penalties=(1e-1, 1e-2)))


@pytest.mark.parametrize("labelled", [True, False])
def test_statistics_of_images_that_lie_class_by_class_are_those_of_all(encoder, monkeypatch, labelled):
    """Batches of 20 of 200 images whose brightness is their class: batches of one class would have hardly any spread.
    The variance within random batches is 19 / 20 of the whole, and varies by a few per cent."""
    labels = torch.arange(200) // 20
    noise = torch.randint(0, 20, (200, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = (25 * labels[:, None, None, None] + noise).byte()
    by_class = Split(images, labels if labelled else None)
    data = Data(train=by_class, validation=by_class, test=by_class, classes=tuple("abcdefghij") if labelled else ())
    monkeypatch.setattr("ablation.evaluate.features.BATCH", 20)
    found = extract(encoder, data, "float32")["recalibrated"].h["test"]
    monkeypatch.setattr("ablation.evaluate.features.BATCH", 200)
    whole = extract(encoder, data, "float32")["recalibrated"].h["test"]
    assert (found - whole).norm() < 0.25 * (whole - whole.mean(0)).norm()


def test_features_are_h_of_clean_images(encoder, data):
    found = extract(encoder, data, "float32")
    assert set(found) == {"running", "recalibrated"} == set(STATISTICS)
    clean = {}
    for split, part in data.splits().items():
        images = part.images.double() / 255
        standard = (images - data.mean.double()[:, None, None]) / data.std.double()[:, None, None]
        clean[split] = standard.float()
    recalibrated = copy.deepcopy(encoder)
    recalibrate_batch_norm(recalibrated, [clean["train"]])
    for name, model in (("running", encoder), ("recalibrated", recalibrated)):
        model.eval()
        assert found[name].classes == 10
        for split, part in data.splits().items():
            with torch.no_grad():
                torch.testing.assert_close(found[name].h[split], model(clean[split]), rtol=1e-4, atol=1e-4)
            assert torch.equal(found[name].labels[split], part.labels)
    assert not torch.allclose(found["running"].h["test"], found["recalibrated"].h["test"], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("training", [True, False])
def test_the_encoder_is_left_as_it_was(encoder, data, training):
    encoder.train(training)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    evaluate(EVALUATIONS, encoder, data, "float32")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(module.training is training for module in encoder.modules())
    assert all(p.grad is None and p.requires_grad for p in encoder.parameters())


def test_columns_of_both_statistics(encoder, data):
    knn, linear = evaluate(EVALUATIONS, encoder, data, "float32")
    voted = {f"{split}_top{n}" for split in CLASSIFIED for n in (1, 5)}
    assert set(knn.metrics) == {f"{name}_{s}" for name in voted for s in ("running", "recalibrated")}
    names = {f"{split}_top{n}" for split in SPLITS for n in (1, 5)}
    assert set(linear.metrics) == {f"{name}_{s}" for name in (*names, "penalty") for s in ("running", "recalibrated")}
    assert knn.metrics["test_top1_running"] != knn.metrics["test_top1_recalibrated"]
    assert knn.seconds > 0
    assert linear.seconds > 0


@dataclass(frozen=True, kw_only=True)
class Recalibrated(KNN):
    statistics = ("recalibrated",)


def test_an_evaluation_may_choose_its_statistics(encoder, data):
    """And still gets features."""
    whole, found = evaluate([KNN(k=(10,)), Recalibrated(k=(10,))], encoder, data, "float32")
    expected = {name: value for name, value in whole.metrics.items() if name.endswith("recalibrated")}
    assert found.metrics == expected
    assert set(found.predictions) == {f"{split}_recalibrated" for split in CLASSIFIED}


def test_columns_are_the_evaluations_of_their_features(encoder, data):
    results = evaluate(EVALUATIONS, encoder, data, "float32")
    found = extract(encoder, data, "float32")
    for evaluation, result in zip(EVALUATIONS, results, strict=True):
        for statistics in STATISTICS:
            metrics, predictions, _ = evaluation.evaluate(found[statistics])
            assert metrics == {name: result.metrics[f"{name}_{statistics}"] for name in metrics}
            for split, labels in predictions.items():
                assert result.predictions[f"{split}_{statistics}"].tolist() == labels.tolist()


def test_predictions_agree_with_the_reported_accuracy(encoder, data):
    splits = {"knn": CLASSIFIED, "linear": tuple(SPLITS)}
    for evaluation, result in zip(EVALUATIONS, evaluate(EVALUATIONS, encoder, data, "float32"), strict=True):
        assert set(result.predictions) == {f"{split}_{s}" for split in splits[evaluation.label] for s in STATISTICS}
        for split in splits[evaluation.label]:
            part = data.splits()[split]
            for statistics in STATISTICS:
                predicted = result.predictions[f"{split}_{statistics}"]
                assert predicted.shape == (len(part),)
                assert np.issubdtype(predicted.dtype, np.integer)
                reported = result.metrics[f"{split}_top1_{statistics}"]
                assert reported == pytest.approx(agreement(predicted, part.labels))


def test_a_note_is_said_once(encoder, data):
    (result,) = evaluate((KNN(k=(999,)),), encoder, data, "float32")
    assert len(result.notes) == 1
    assert "999" in result.notes[0]


def test_bfloat16_is_used_and_harmless(encoder, data):
    exact, rough = extract(encoder, data, "float32"), extract(encoder, data, "bfloat16")
    for statistics in STATISTICS:
        one, two = exact[statistics].h["test"], rough[statistics].h["test"]
        assert two.dtype == torch.float32
        assert not torch.equal(one, two)
        torch.testing.assert_close(one, two, rtol=0.1, atol=0.05)


# --------------------------------------------------------------------------------------------------
# z, probes and invariances


def test_z_is_the_head_on_h(encoder, data):
    head = torch.nn.Sequential(torch.nn.Linear(16, 5), torch.nn.BatchNorm1d(5)).eval()
    found = {on: extract(encoder, data, "float32", head, on=on) for on in ("h", "z")}
    with torch.no_grad():
        torch.testing.assert_close(found["z"]["running"].h["test"], head(found["h"]["running"].h["test"]))
    recalibrated = found["z"]["recalibrated"].h["train"]
    torch.testing.assert_close(recalibrated.mean(0), torch.zeros(5), rtol=0, atol=1e-2)
    on_h, on_z = (Linear(penalties=(1e-2,), on=on) for on in ("h", "z"))
    both = evaluate((on_h, on_z), encoder, data, "float32", head)
    assert (on_h.label, on_z.label) == ("linear", "linear_z")
    assert both[0].metrics == evaluate((on_h,), encoder, data, "float32")[0].metrics
    assert both[1].metrics == evaluate((on_z,), encoder, data, "float32", head)[0].metrics
    assert both[0].metrics != both[1].metrics


class Pixels(torch.nn.Module):
    """The mean of each channel over 2 x 2 squares: only detail is lost."""

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class Luma(torch.nn.Module):
    """The luma alone, which color drop keeps; undoes the inputs' normalization first."""

    def __init__(self, data):
        super().__init__()
        self.mean, self.std = data.mean[:, None, None], data.std[:, None, None]

    def forward(self, images):
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        luma = ((images * self.std + self.mean) * weights).sum(1, keepdim=True)
        return torch.nn.functional.adaptive_avg_pool2d(luma, 2).flatten(1)


class Brightness(torch.nn.Module):
    """The mean of each channel, which ignores position."""

    def forward(self, images):
        return images.mean((2, 3))


def test_a_probe_tells_what_is_known(data):
    """Channels reveal color or grey; the luma alone does not."""
    tint = torch.tensor([1.0, 0.4, 0.1])[:, None, None]
    images = torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * tint
    split = Split((255 * images).byte(), torch.arange(400) % 10)
    tinted = Data(split, split, split, data.classes)
    probe = Probe(task="color", versions=((), (ColorDrop(),)), epochs=30)
    colors, luma = (evaluate((probe,), m, tinted, "float32")[0].metrics for m in (Pixels(), Luma(tinted)))
    assert colors["test_top1_running"] > 99
    assert 40 < luma["test_top1_running"] < 60


def test_a_probe_repeats_itself(encoder, data):
    probe = Probe(task="turn", versions=((), (Rotate(),)), epochs=2)
    one, two = (evaluate((probe,), encoder, data, "float32")[0] for _ in range(2))
    assert probe.label == "probe_turn"
    assert one.metrics == two.metrics
    assert one.predictions["test_running"].shape == (2 * len(data.test),)


@dataclass(frozen=True, kw_only=True)
class Drawing(Evaluation):
    """Draws from global generators, torch's and NumPy's."""

    name = "drawing"

    def evaluate(self, features):
        return {"test_draw": torch.rand(()).item() + np.random.rand()}, {}, []


def test_what_an_evaluation_draws_varies_with_the_seed_of_the_run(encoder, data):
    """So the spread over seeds includes its noise; draws depend on nothing else. Restores the global state."""
    turns = Rotate(), Noise()
    specs = (Probe(task="turn", versions=((), turns), epochs=2), Invariance(operators=turns), Drawing())
    found = {}
    for seed, before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(before)
        found[seed, before] = evaluate(specs, encoder, data, "float32", seed=seed)
        after = torch.rand(3)
        torch.manual_seed(before)
        assert torch.equal(torch.rand(3), after)
    for number, spec in enumerate(specs):
        one, again, other = (found[key][number].metrics for key in found)
        assert one == again, spec
        assert one != other, spec


@dataclass(frozen=True, kw_only=True)
class InPlace(Evaluation):
    """Changes its input in place."""

    name = "in_place"
    images: bool = False

    def evaluate(self, features):
        for each in (*features.h.values(), *features.labels.values()):
            each.zero_()
        if self.images:
            features.data.test.images.zero_()
        return {"test": 1.0}, {}, []


def test_an_evaluation_that_works_in_place_changes_no_other(encoder, data):
    specs = (KNN(k=(10,)), Linear())
    alone = evaluate(specs, encoder, data, "float32")
    _, *beside = evaluate((InPlace(), *specs), encoder, data, "float32")
    assert [each.metrics for each in beside] == [each.metrics for each in alone]
    with pytest.raises(InvalidSpec, match=r"in_place.*leave the images alone"):
        evaluate((InPlace(images=True),), encoder, data, "float32")


@dataclass(frozen=True, kw_only=True)
class Writing(Evaluation):
    """Writes into its images, with or without torch's notice, and into their description."""

    name = "writing"
    how: str

    def evaluate(self, features):
        data = features.data
        for split in data.splits().values():
            split.images.numpy()[:] = 0
            split.labels.zero_()
        data.mean.zero_(), data.std.zero_()
        if self.how == "torch":
            data.train.images[0, 0, 0, 0] = 7
        return {"test": 1.0}, {}, []


@pytest.mark.parametrize("how", ["torch", "numpy"])
@pytest.mark.parametrize("mapped", [False, True])
def test_what_an_evaluation_writes_into_images_reaches_no_other(how, mapped, encoder, data, tmp_path, monkeypatch):
    """It fails if the change is detected and ends no process; later evaluations see the original images."""
    if mapped:
        monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
        data = mapped_images(data)
    after = (Probe(task="grey", versions=((), (ColorDrop(),)), epochs=2), Invariance(operators=(Rotate(),)))
    alone = evaluate(after, encoder, data, "float32")
    before = [split.images.clone() for split in data.splits().values()]
    written, *beside = evaluate_each((Writing(how=how), *after), encoder, data, "float32")
    if how == "torch":
        assert isinstance(written, InvalidSpec)
        assert "leave the images alone" in str(written)
    assert [each.metrics for each in beside] == [each.metrics for each in alone]
    assert all(torch.equal(split.images, kept) for split, kept in zip(data.splits().values(), before, strict=True))


def mapped_images(data: Data) -> Data:
    """The same images in a cache file."""
    with cache.Writer("key", sum(map(len, data.splits().values())), "test") as writer:
        for slot, image in enumerate(image for split in data.splits().values() for image in split.images):
            writer.put(slot, image.numpy())
        stored = cache.write_images("key", writer, {}, counted=len(data.train))
    parts = stored.images.split([len(split) for split in data.splits().values()])
    splits = [Split(part, split.labels) for part, split in zip(parts, data.splits().values(), strict=True)]
    return Data(*splits, data.classes, streams=True, counts=stored.counts)


def test_invariance(data):
    """Channel means ignore turns and mirrors, but not the loss of color; features that keep position ignore neither."""
    spec = Invariance(operators=(Flip(strength=2), ColorDrop(), Rotate()))
    placed, blind = (evaluate((spec,), m, data, "float32")[0].metrics for m in (Pixels(), Brightness()))
    assert placed["test_rotate_running"] < 0.9
    assert blind["test_flip_running"] == pytest.approx(1, abs=1e-4)
    assert blind["test_rotate_running"] == pytest.approx(1, abs=1e-4)
    assert blind["test_drop_running"] < 0.95


# --------------------------------------------------------------------------------------------------
# Specs


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: KNN(k=200),
            r"KNN.k must be a tuple of different whole numbers of at least 1, but got 200. Write k=\(200,\)",
        ),
        (lambda: KNN(k=()), "KNN.k"),
        (lambda: Linear(on="q"), "Linear.on must be 'h', 'z', .*, but got 'q'"),
        (lambda: Linear(on="map3"), "Linear.on must be vectors, not maps, but got 'map3'. Write on='stage3'"),
        (lambda: KNN(on="map1"), "KNN.on must be vectors, not maps, but got 'map1'. Write on='stage1'"),
        (lambda: KNN(on="map0"), "KNN.on must be 'h', 'z'"),
        (lambda: Probe(task="z_color", versions=((), ())), "Probe.task must not begin with .* representation"),
        (lambda: KNN(dataset=3), "KNN.dataset must be a data set with a label, but got 3"),
        (lambda: Probe(task="color", versions=((),)), "Probe.versions must be a tuple of at least two views"),
        (lambda: Invariance(operators=()), "Invariance.operators must be a tuple of operators"),
        (lambda: KNN(k=(20, 0)), "KNN.k"),
        (lambda: KNN(k=(2.5,)), "KNN.k"),
        (lambda: KNN(temperature=0.1), r"KNN.temperature must be a tuple of .* Write temperature=\(0.1,\)"),
        (lambda: KNN(temperature=()), "KNN.temperature"),
        (lambda: KNN(temperature=(0.1, 0.0)), "KNN.temperature"),
        (lambda: Linear(penalties=0.1), "Linear.penalties must be"),
        (lambda: Linear(penalties=()), "Linear.penalties"),
        (lambda: Linear(penalties=(0.0,)), "Linear.penalties"),
        (lambda: Linear(penalties=(1e-3, 1e-2)), "Linear.penalties must .* descending order"),
        (lambda: Linear(tolerance=0.0), "Linear.tolerance must be a finite number above 0, but got 0.0"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()


def test_features_that_are_no_numbers_are_refused(encoder, data):
    """kNN would classify them anyway, at chance."""
    with torch.no_grad():
        encoder.conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"values of h, .* are not finite, with precision='float32'"):
        evaluate(EVALUATIONS, encoder, data, "float32")
