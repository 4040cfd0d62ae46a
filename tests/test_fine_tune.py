"""Fine-tuning, linear evaluation of a stage, evaluation of maps, and evaluation on another data set."""

from dataclasses import dataclass

import pytest
import torch
from helpers import SMALL, small_training

from ablation import (
    KNN,
    Cell,
    Crop,
    DataError,
    Evaluation,
    Experiment,
    FineTune,
    ImageData,
    InvalidSpec,
    Linear,
    ResNet,
    Run,
    Shapes,
    SmallResNet,
    ViT,
)
from ablation.data import loaded
from ablation.evaluate.base import Subject
from ablation.evaluate.evaluator import evaluate_each
from ablation.evaluate.features import extract
from ablation.execution.console import LineConsole
from ablation.execution.executor import Job, JobOptions
from ablation.execution.inline import InlineExecutor
from ablation.execution.job import compute
from ablation.execution.owner import execute
from ablation.execution.plan import DataChecks, make_plan
from ablation.execution.store import Results, identified
from ablation.models.representation import Stage
from ablation.spec import Metric, identity
from ablation.training.checkpoint import Checkpoint, path_of
from ablation.training.loop import Start, build_learner, pretrain


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


DATA = loaded(SMALL, "cpu")
QUICK = {"epochs": 2, "batch": 20}


def evaluated(evaluation, seed: int = 0, checkpoint=lambda evaluation_id: None, encoder=None):
    encoder = encoder or build_learner(small_training(), DATA).encoder
    subject = Subject(small_training(), Start(encoder.state_dict(), DATA.size), checkpoint)
    [found] = evaluate_each([evaluation], encoder, DATA, "float32", seed=seed, subject=subject)
    if isinstance(found, Exception):
        raise found
    return found


def test_fine_tuning_learns_and_is_one_number():
    before = evaluated(FineTune(learning_rate=1e-9, **QUICK))
    after = evaluated(FineTune(learning_rate=4.0, epochs=30, batch=20))
    assert set(after.metrics) == {f"{name}_tuned" for name in FineTune().metrics}
    assert after.metrics["train_top1_tuned"] > before.metrics["train_top1_tuned"] + 10
    assert after.metrics["steps_tuned"] == 30 * (len(DATA.train) // 20)
    share = (after.predictions["test_tuned"] == after.labels["test_labels"]).mean()
    assert after.metrics["test_top1_tuned"] == pytest.approx(100 * share)


def test_fine_tuning_leaves_the_evaluated_encoder_alone():
    encoder = build_learner(small_training(), DATA).encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    evaluated(FineTune(**QUICK), encoder=encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_frozen_encoder_is_what_it_was(monkeypatch):
    from ablation.evaluate import fine_tune

    trained = []
    monkeypatch.setattr(
        fine_tune, "pretrain", lambda *given, **named: trained.append(pretrain(*given, **named)) or trained[-1]
    )
    encoder = build_learner(small_training(), DATA).encoder
    for frozen in (True, False):
        found = evaluated(FineTune(frozen=frozen, learning_rate=0.5, **QUICK), encoder=encoder)
        same = [
            torch.equal(value, encoder.state_dict()[name])
            for name, value in trained[-1].learner.encoder.state_dict().items()
        ]
        assert all(same) == frozen
        assert found.metrics["train_top1_tuned"] >= 10


def test_a_smaller_part_of_each_class_lies_in_a_larger_one():
    small, large = (DATA.per_class(fraction, 0) for fraction in (0.1, 0.5))
    whole = {image.numpy().tobytes() for image in large.train.images}
    assert all(image.numpy().tobytes() in whole for image in small.train.images)
    counts = torch.bincount(DATA.train.labels)
    assert torch.equal(torch.bincount(small.train.labels), (0.1 * counts).round().long().clamp(min=1))
    other = DATA.per_class(0.5, 1)
    assert not torch.equal(other.train.images, large.train.images)
    assert small.test is DATA.test


def test_fine_tuning_with_few_labels_says_so():
    found = evaluated(FineTune(fraction=0.5, **QUICK))
    assert found.metrics["steps_tuned"] == 2 * (len(DATA.per_class(0.5, 0).train) // 20)
    assert "train_tuned" not in found.predictions
    assert FineTune(fraction=0.01).label == "fine_tune_1"
    with pytest.raises(DataError, match="batch must be at most"):
        evaluated(FineTune(fraction=0.01, epochs=1, batch=256))


def test_fine_tuning_without_momentum():
    assert evaluated(FineTune(momentum=0, **QUICK)).metrics["steps_tuned"] > 0


def test_an_encoder_with_positions_is_tuned_at_another_size():
    """Pretrained on crops of 12 px, tuned on whole images of 16 px; its positions come from the pretraining."""
    training = small_training(
        views=((Crop(size=12),),) * 2, encoder=ViT(patch=4, width=8, blocks=1, heads=1, positions="learned")
    )
    part = list(compute(training, (FineTune(**QUICK),), None, "cpu"))[1]
    assert not isinstance(part, Exception), part


def test_a_batch_larger_than_the_labelled_images_is_refused_before_the_run(tmp_path):
    run = Run(training=small_training(), evaluations=(FineTune(fraction=0.1, epochs=1, batch=64),))
    with pytest.raises(DataError, match=r"'fine_tune_10'.*64.*Use a smaller batch"):
        DataChecks(Results(tmp_path)).check([Job.of(run)], [])


def test_a_stopped_fine_tuning_has_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("ablation.training.views.TOGETHER", 20)
    evaluation = FineTune(learning_rate=0.5, **QUICK)
    whole = evaluated(evaluation)
    kept = Checkpoint(tmp_path, "training", every=0).of(identity(evaluation))
    written = []

    def stop(*given, **state):
        Checkpoint.write(kept, *given, **state)
        written.append(state["step"])
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluated(evaluation, checkpoint=lambda evaluation_id: kept)
    continued = evaluated(evaluation, checkpoint=Checkpoint(tmp_path, "training", every=1000).of)
    assert continued.metrics == whole.metrics


def test_the_checkpoint_of_an_evaluation_goes_when_its_result_is_written(tmp_path, monkeypatch):
    """Also where its training was finished before."""
    written = []
    monkeypatch.setattr(Checkpoint, "write", lambda self, *given, **state: written.append(self.path.name))
    for evaluation in (KNN(k=(10,)), FineTune(**QUICK)):
        run = Run(training=small_training(), evaluations=(evaluation,))
        experiment = Experiment(cells=(Cell(coords={"seed": 0}, run=run),), figures={})
        results = Results(tmp_path / "results")
        jobs = make_plan(identified(experiment), results).jobs
        place = path_of(tmp_path, identity(run.training), identity(evaluation))
        place.write_bytes(b"of an earlier sitting")
        assert (
            execute(jobs, results, InlineExecutor(JobOptions("cpu", checkpoints=tmp_path, every=0)), LineConsole(1))
            == 0
        )
        assert not place.exists()
    assert place.name in written


def test_an_evaluation_that_trains_needs_the_training():
    encoder = build_learner(small_training(), DATA).encoder
    [error] = evaluate_each([FineTune()], encoder, DATA, "float32")
    assert "FineTune" in str(error)


# --------------------------------------------------------------------------------------------------
# Stages


@pytest.mark.parametrize(
    ("encoder", "size", "sides"),
    [
        (ResNet(depth=50).build(), 224, {"stem": 12, "stage1": 6, "stage2": 4, "stage3": 3, "stage4": 2}),
        (SmallResNet().build(), 32, {"stem": 16, "stage1": 16, "stage2": 8, "stage3": 4}),
    ],
    ids=["ResNet-50", "small"],
)
def test_a_stage_is_pooled_to_at_most_9216_numbers(encoder, size, sides):
    images = numbers(1, 3, size, size)
    encoder.eval()
    with torch.no_grad():
        maps = dict(encoder.maps(images))
        assert list(maps) == list(sides)
        for name, side in sides.items():
            assert Stage(encoder, name)(images).shape == (1, maps[name].shape[1] * side**2)
        torch.testing.assert_close(maps[name].mean((2, 3)), encoder(images))


def test_evaluations_take_a_stage_as_they_take_h():
    run = [KNN(on="stage2"), Linear(on="stage2", penalties=(1e-1,)), KNN(), KNN(on="stem")]
    encoder = build_learner(small_training(), DATA).encoder
    found = list(evaluate_each(run, encoder, DATA, "float32"))
    assert [e.label for e in run] == ["knn_stage2", "linear_stage2", "knn", "knn_stem"]
    h = extract(encoder, DATA, "float32", on="stage2")["running"].h["test"]
    assert h.shape == (len(DATA.test), Stage(encoder, "stage2")(DATA.test.images[:1].float()).shape[1])
    assert all(0 <= each.metrics["test_top1_recalibrated"] <= 100 for each in found)
    assert found[0].metrics != found[2].metrics


@pytest.mark.parametrize(
    ("on", "encoder", "words"),
    [
        ("stage7", SmallResNet(), ("stage7", "stage3")),
        ("stage1", ViT(patch=4, width=8, blocks=1, heads=1), ("stage1", "VisionTransformer")),
    ],
)
def test_a_stage_that_is_not_there_is_named(on, encoder, words):
    built = build_learner(small_training(encoder=encoder), DATA).encoder
    [error] = evaluate_each([KNN(on=on)], built, DATA, "float32")
    assert all(word in str(error) for word in words)
    with pytest.raises(InvalidSpec, match="stage"):
        KNN(on="layer 3")


# --------------------------------------------------------------------------------------------------
# Maps


@dataclass(frozen=True, kw_only=True)
class Places(Evaluation):
    """Trains a linear layer on every place of the maps, through a copy of the encoder."""

    name = "places"
    statistics = ("recalibrated",)
    takes_maps = True

    def evaluate(self, features):
        model, images = features.model(), features.data.train.images[:8].float() / 255
        torch.testing.assert_close(features.represent(images), model.eval()(self.clean(images, features.data)))
        classifier = torch.nn.Conv2d(features.h["train"].shape[1], features.classes, 1)
        optimizer = torch.optim.SGD([*model.parameters(), *classifier.parameters()], lr=0.1)
        losses = []
        for _ in range(3):
            scores = classifier(model(self.clean(images, features.data))).mean((2, 3))
            loss = torch.nn.functional.cross_entropy(scores, features.labels["train"][:8])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return {"fall": losses[0] - losses[-1], "places": float(features.h["test"][0, 0].numel())}, {}, []

    def clean(self, images, data):
        return (images - data.mean[:, None, None]) / data.std[:, None, None]


def test_maps_are_a_stage_before_pooling():
    encoder = build_learner(small_training(), DATA).encoder
    for number in (1, 2, 3):
        maps, pooled = (extract(encoder, DATA, "float32", on=f"{n}{number}") for n in ("map", "stage"))
        for statistics in ("running", "recalibrated"):
            h = maps[statistics].h["test"]
            assert h.shape == (len(DATA.test), 4 * 2 ** (number - 1), *[8 // 2 ** (number - 1)] * 2)
            torch.testing.assert_close(h.flatten(1), pooled[statistics].h["test"])  # too small to be averaged


def test_an_evaluation_trains_through_the_recalibrated_encoder_and_leaves_it_alone():
    encoder = build_learner(small_training(), DATA).encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    evaluation = Places(on="map2")
    [found] = evaluate_each([evaluation], encoder, DATA, "float32")
    assert not isinstance(found, Exception), found
    assert found.metrics["fall_recalibrated"] > 0
    assert found.metrics["places_recalibrated"] == 16
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert Metric.of(f"{evaluation.label}_test_iou_recalibrated").on == "map2"


def test_a_transformer_has_no_maps():
    encoder = build_learner(small_training(encoder=ViT(patch=4, width=8, blocks=1, heads=1)), DATA).encoder
    [error] = evaluate_each([Places(on="map1")], encoder, DATA, "float32")
    assert "needs an encoder with feature maps, but VisionTransformer has none" in str(error)


# --------------------------------------------------------------------------------------------------
# Another data set


@pytest.mark.parametrize("label", ["花", "_", "z", "h", "stem", "stage3", "map2", "test", "10", "1e-5", "sgd"])
def test_a_data_set_whose_name_columns_cannot_show_is_refused(label):
    """It would be read as another representation, split, share of the labels or protocol, or as the training's own."""
    words = rf"KNN.dataset must have a label that names it in columns, but '{label}' .*ImageData\(.*name="
    with pytest.raises(InvalidSpec, match=words):
        KNN(dataset=ImageData(path="place", name=label))


@pytest.mark.parametrize("label", ["pets", "Z", "stage", "stl10", "2 pets", "z 花 2"])
def test_a_data_set_with_a_word_for_a_name_is_taken(label):
    evaluation = Linear(dataset=ImageData(path="place", name=label))
    assert Metric.of(f"{evaluation.label}_test_top1_running").on == "h"


OTHER = Shapes(train=140, validation=40, test=50, size=16, shortcut=0.0)


def test_another_data_set_gives_images_and_labels(monkeypatch):
    evaluation = KNN(dataset=OTHER)
    other = loaded(OTHER, "cpu")
    found = evaluated(evaluation)
    assert torch.equal(torch.tensor(found.labels["test_labels"]).long(), other.test.labels)
    assert evaluation.label.startswith("knn_")
    assert identity(KNN()) != identity(evaluation)
    encoder = build_learner(small_training(), DATA).encoder
    expected = extract(encoder, other.normalized_as(DATA), "float32")["running"].h["test"]
    assert expected.shape[0] == 50
    assert not torch.equal(other.mean, DATA.mean)


def test_a_run_holds_the_files_of_all_kinds(tmp_path):
    evaluations = (KNN(k=(5,)), FineTune(**QUICK), Linear(on="stage1", penalties=(1e-1,)), KNN(dataset=OTHER, k=(5,)))
    run = Run(training=small_training(), evaluations=evaluations)
    parts = list(compute(run.training, run.evaluations, None, "cpu"))
    assert not [part for part in parts if isinstance(part, Exception)]
    assert len(parts) == 5
