"""The loop's promises besides learning."""

import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import pytest
import torch
from helpers import SMALL, small_training
from sklearn.linear_model import LogisticRegression

from ablation.data import Shapes, loaded
from ablation.evaluate import KNN, Evaluation
from ablation.evaluate.alignment import alignment_and_uniformity
from ablation.evaluate.curve import best_on_test, curve_points, validation_points
from ablation.evaluate.evaluator import evaluate
from ablation.evaluate.features import embed
from ablation.execution.job import compute
from ablation.methods import Initialization, SimCLR, Supervised
from ablation.models.resnet import SmallResNet
from ablation.operators import Blur, Color, Crop, CropFlip, Cutout, Noise
from ablation.spec import DataError, Optimization, Steps, Training
from ablation.training.loop import build_learner, pretrain
from ablation.training.optimizers import SGD, AdamW
from ablation.training.views import training_views


def test_initialization_depends_on_the_seed_only():
    one = build_learner(small_training(), loaded(SMALL, "cpu")).encoder.state_dict()
    other = build_learner(
        small_training(views=((), ()), method=SimCLR(hidden=99)), loaded(SMALL, "cpu")
    ).encoder.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    seeded = build_learner(small_training(seed=1), loaded(SMALL, "cpu")).encoder.state_dict()
    assert not torch.equal(one["conv1.weight"], seeded["conv1.weight"])
    untrained = pretrain(small_training(method=Initialization()), loaded(SMALL, "cpu"))
    assert torch.equal(untrained.learner.encoder.state_dict()["conv1.weight"], one["conv1.weight"])
    assert untrained.history == []


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    pretrain(small_training(), loaded(SMALL, "cpu"))
    assert torch.equal(torch.get_rng_state(), before)


def test_cudnn_repeats_its_numbers_during_a_training(monkeypatch):
    """Otherwise two trainings in float32 on a GPU differ. The setting of the caller is kept."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    seen = []
    pretrain(small_training(), loaded(SMALL, "cpu"), lambda fraction: seen.append(torch.backends.cudnn.deterministic))
    assert set(seen) == {True}
    assert not torch.backends.cudnn.deterministic


def test_a_batch_larger_than_the_data_set():
    training = small_training()
    training = training.replace(optimization=training.optimization.replace(batch=101))
    with pytest.raises(DataError, match=r"Optimization.batch must be at most .* got 101, and shapes has 100"):
        pretrain(training, loaded(SMALL, "cpu"))


def test_validation_images_are_trained_on_only_if_stated():
    """100 training and 40 validation images: a batch of 120 needs both."""
    training = small_training()
    both = training.optimization.replace(batch=120, with_validation=True)
    assert len(pretrain(training.replace(optimization=both), loaded(SMALL, "cpu")).history) == 1
    with pytest.raises(DataError):
        pretrain(training.replace(optimization=both.replace(with_validation=False)), loaded(SMALL, "cpu"))


def test_not_a_number_is_an_error():
    training = small_training()
    wild = training.optimization.replace(optimizer=SGD(learning_rate=1e30), epochs=4, warmup=0.0)
    with pytest.raises(FloatingPointError, match=r"the loss of SimCLR became .* Try a smaller learning rate"):
        pretrain(training.replace(optimization=wild), loaded(SMALL, "cpu"))


def test_alignment_and_uniformity():
    """Two equal views are aligned; an unnormalized z of one point is not uniform."""

    def measured(training):
        data = loaded(SMALL, "cpu")
        return alignment_and_uniformity(pretrain(training, data).learner, training, data)

    assert measured(small_training(views=((), ())))["alignment"] == pytest.approx(0, abs=1e-6)
    different = measured(small_training())
    assert different["alignment"] > 1e-3
    assert -4.01 < different["uniformity"] <= 0  # -2 * 2 is the mean at squared distance 2


def test_alignment_needs_no_more_memory_than_an_evaluation(monkeypatch):
    data, training = Shapes(train=1240, validation=1200, test=20, size=16).load(), small_training()
    learner, seen = pretrain(training, loaded(SMALL, "cpu")).learner, []
    project = learner.project
    monkeypatch.setattr(learner, "project", lambda images: seen.append(len(images)) or project(images))
    alignment_and_uniformity(learner, training, data)
    assert max(seen) <= 500
    assert sum(seen) == 2 * 1000


def test_a_training_is_kept_though_its_diagnostics_fail(monkeypatch, capsys):
    """Of a large encoder, for a lack of memory, say."""

    def fail(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("ablation.execution.job.alignment_and_uniformity", fail)
    [files] = compute(small_training(), (), None, "cpu")
    assert json.loads(files["training.json"])["diagnostics"] == {}
    assert "encoder.safetensors" in files
    assert "no alignment and uniformity: OutOfMemoryError: no room" in capsys.readouterr().err


@dataclass(frozen=True, kw_only=True)
class Counted(Evaluation):
    """Counts its calls."""

    name = "counted"
    metrics: ClassVar[dict] = {"test_number": ("", "")}
    calls: ClassVar[list] = []

    def evaluate(self, features):
        self.calls.append(1)
        return {"test_number": 1.0}, {}, []


@pytest.mark.parametrize(("slowest", "calls"), [(5, 3), (0, 2)])
def test_an_evaluation_that_takes_too_long_for_a_trace_is_not_tried_again(slowest, calls, monkeypatch):
    """In the next cells of a process. Others are, since what they read may have changed."""
    monkeypatch.setattr("ablation.evaluate.trace.SLOWEST", slowest)
    monkeypatch.setattr("ablation.execution.job._untraced", Counter())
    Counted.calls.clear()
    counts = []
    for seed in (0, 1, 2):
        list(compute(small_training(seed=seed), (Counted(),), None, "cpu"))
        counts.append(len(Counted.calls))
    assert counts[1] - counts[0] == 3
    assert counts[2] - counts[1] == calls  # running and recalibrated statistics, and the trace


def test_alignment_and_uniformity_are_those_of_the_evaluated_encoder():
    """Of a teacher, say, which may differ from the trained encoder."""
    training, data = small_training(), loaded(SMALL, "cpu")
    learner, other = pretrain(training, data).learner, pretrain(training.replace(seed=1), data).learner
    expected = alignment_and_uniformity(other, training, data)
    assert alignment_and_uniformity(learner, training, data) != expected
    learner.evaluated = lambda: (other.encoder, other.head)
    assert alignment_and_uniformity(learner, training, data) == expected


def test_supervised_training_learns():
    data = Shapes(train=1100, validation=100, test=100)
    training = Training(
        dataset=data,
        views=((),),
        method=Supervised(),
        encoder=SmallResNet(channels=8),
        optimization=Optimization(epochs=6, batch=50, optimizer=AdamW(learning_rate=1e-2)),
    )
    history = pretrain(training, loaded(data, "cpu"), curve=lambda encoder: {"validation_knn": 50.0}).history
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert history[-1]["training_accuracy"] > 0.5
    assert [row["epoch"] for row in history] == list(range(1, 7))
    assert [("validation_knn" in row) for row in history] == [False] * 4 + [True, True]


def test_contrastive_training_learns():
    data = Shapes(train=1100, validation=100, test=100)
    training = small_training(
        dataset=data,
        views=((Crop(),), ()),
        encoder=SmallResNet(channels=8),
        optimization=Optimization(epochs=4, batch=50, optimizer=AdamW(learning_rate=3e-3), curve_every=0),
    )
    history = pretrain(training, loaded(data, "cpu")).history
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    assert history[-1]["contrastive_accuracy"] > 2 * history[0]["contrastive_accuracy"]
    assert all("validation_knn" not in row for row in history)


def test_the_record_holds_the_rate_that_was_used():
    """Also if an optimizer has its own schedule."""
    schedule = Steps(at=(0.5,), decay=0.1)
    optimization = Optimization(epochs=2, batch=20, optimizer=SGD(learning_rate=0.1), warmup=0, schedule=schedule)
    history = pretrain(small_training(optimization=optimization), loaded(SMALL, "cpu")).history
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.01])
    own = optimization.replace(optimizer=Stubborn(learning_rate=0.1))
    history = pretrain(small_training(optimization=own), loaded(SMALL, "cpu")).history
    assert [row["learning_rate"] for row in history] == [0.003, 0.003]


@dataclass(frozen=True, kw_only=True)
class Stubborn(SGD):
    """Resets the rate at every step."""

    def build(self, module):
        optimizer = super().build(module)
        optimizer.register_step_pre_hook(lambda *_: optimizer.param_groups[0].update(lr=0.003))
        return optimizer


def test_linear_points_of_the_curve_are_those_of_a_fit():
    """Top-1 of the validation images by the classifier that minimizes the training images' regularized loss."""
    data = loaded(SMALL, "cpu")
    encoder = build_learner(small_training(), loaded(SMALL, "cpu")).encoder.eval()
    h = {name: embed(encoder, split.images, data, "float32") for name, split in data.splits().items()}
    found = validation_points(h, data)
    mean, deviation = h["train"].numpy().mean(0), h["train"].numpy().std(0)
    x = {name: (each.numpy() - mean) / deviation for name, each in h.items()}
    fitted = LogisticRegression(C=1 / (len(x["train"]) * 1e-3), tol=1e-6, max_iter=10_000)
    expected = 100 * fitted.fit(x["train"], data.train.labels).score(x["validation"], data.validation.labels)
    assert found["validation_linear"] == pytest.approx(expected, abs=2.6)  # one image of 40 may lie on the border


def test_points_on_test_images_are_those_of_the_evaluation():
    """kNN with k = 20 and, of 100 training images, all; the maximum is over the epochs."""
    data = loaded(SMALL, "cpu")
    learner = build_learner(small_training(), data).eval()
    found = curve_points(learner, data, "float32", on_test=True)
    [evaluated] = evaluate((KNN(k=(20, 100)),), learner.encoder, data, "float32")
    assert found["test_knn_k20"] == evaluated.metrics["test_top1_running"]
    assert found["test_knn_k200"] == evaluated.metrics["k100_t0.1_test_top1_running"]
    history = [
        {"test_knn_k200": 30.0, "test_knn_k20": 50.0},
        {"loss": 1.0},
        {"test_knn_k200": 20.0, "test_knn_k20": 60},
    ]
    assert best_on_test(history) == {"test_knn_k200_maximum": 30.0, "test_knn_k20_maximum": 60.0}
    assert best_on_test([{"loss": 1.0}]) == {}


def test_the_published_maximum_stands_beside_the_last_epoch():
    optimization = small_training().optimization.replace(epochs=3, curve_on_test=True)
    [files] = compute(small_training(optimization=optimization), (), None, "cpu")
    document, history = json.loads(files["training.json"]), pd.read_csv(io.BytesIO(files["history.csv"]))
    for name in ("test_knn_k200", "test_knn_k20"):
        assert document["diagnostics"][f"{name}_maximum"] == pytest.approx(history[name].max())
        assert document["last"][name] == pytest.approx(history[name].iloc[-1])
    assert "test_knn_k200" not in json.loads(next(compute(small_training(), (), None, "cpu"))["training.json"])["last"]


def test_batches_made_together_are_those_made_alone(monkeypatch):
    """Seven batches of 16 images, in groups of three, with views of every kind of draw."""
    data, batches = loaded(SMALL, "cpu"), torch.randperm(112).remainder(100).split(16)
    training = small_training(shared=(CropFlip(),), views=((Color(), Blur(p=0.5)), (Noise(), Cutout(p=0.3))))
    found = {}
    for together in (48, 1):
        monkeypatch.setattr("ablation.training.views.TOGETHER", together)
        found[together] = list(training_views(data.train.images, batches, training, data, (0, "views")))
    assert [len(made) for made in found.values()] == [7, 7]
    for (one, _), (other, _) in zip(found[48], found[1], strict=True):
        for view, same in zip(one, other, strict=True):
            torch.testing.assert_close(view, same, rtol=0, atol=2e-5)
