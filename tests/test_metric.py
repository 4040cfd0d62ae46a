"""Metrics: reading a column inverts writing it."""

from typing import ClassVar

import pytest
from helpers import ROOT, small_run

from ablation.analysis.tables import read_table
from ablation.evaluate import KNN, Invariance, Linear, Probe
from ablation.execution.store import check_axes
from ablation.operators import Crop, Flip
from ablation.spec import Experiment, InvalidSpec, Metric, sweep

EVALUATIONS = [
    KNN(k=(5, 200), temperature=(0.1, 1e-5), on="z"), Linear(), Linear(on="z"), Invariance(operators=(Crop(), Flip())),
    *(Probe(task=task, on=on, versions=((), (Flip(),))) for task in ("rotation", "validation") for on in "hz"),
]  # fmt: skip


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda e: e.label)
def test_what_an_evaluation_measures_is_read_from_its_columns(evaluation):
    for column in evaluation.columns():
        metric = Metric.of(column)
        assert metric.name == column
        assert metric.evaluation == evaluation.label
        assert (metric.protocol, metric.on) == (evaluation.name, evaluation.on)
        assert metric.unit == ("%" if metric.is_accuracy else "")
        assert "_" not in metric.label


def test_every_column_of_a_committed_table_is_its_own_metric():
    for csv in (ROOT / "figures").glob("*.csv"):
        for column in read_table(csv).columns:
            assert Metric.of(column).name == column


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("linear_test_top1_recalibrated", "linear accuracy (%)"),
        ("knn_k10_t0.1_test_top5_running", "kNN top-5 accuracy, k = 10, T = 0.1, running BN (%)"),
        ("linear_z_validation_top1_recalibrated", "linear accuracy on z, validation (%)"),
        ("probe_z_rotation_train_top1_recalibrated", "rotation probe accuracy on z, training (%)"),
        ("invariance_test_crop_recalibrated", "cosine under crop"),
        ("linear_stage2_test_top1_recalibrated", "linear accuracy on stage2 (%)"),
        ("linear_seconds", "linear evaluation (s)"),
        ("knn_pets_train_images", "training images of pets kNN"),
        ("validation_knn", "kNN accuracy, validation, running BN (%)"),
        ("class_means_test_top1_recalibrated", "class means accuracy (%)"),
        ("nearest_class_mean_z_test_top1_recalibrated", "nearest class mean accuracy on z (%)"),
        ("dense_seg_validation_miou_running", "dense seg miou, validation, running BN"),
        ("spectrum_effective_rank_recalibrated", "spectrum effective rank"),
        ("svm_test_top1_recalibrated", "SVM accuracy (%)"),
        ("my_accuracy", "my accuracy"),
        ("top1", "top1 (%)"),
        ("accuracy (%)", "accuracy (%)"),
    ],
)
def test_a_metric_has_a_name_that_a_reader_knows(column, label):
    assert Metric.of(column).label == label


MEASURES = {
    "linear_probe": {"test_top1": ("%", "highest"), "test_error": ("%", "lowest"), "test_rank": ("", "")},
    "spectrum": {}, "spectrum_z": {}, "mine": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "label", "evaluation", "best"),
    [
        ("linear_probe_test_top1_running", "linear probe accuracy, running BN (%)", "linear_probe", (True, False)),
        ("linear_probe_test_error_recalibrated", "linear probe error (%)", "linear_probe", (False, True)),
        ("linear_probe_test_rank_recalibrated", "linear probe rank", "linear_probe", (False, False)),
        ("linear_probe_test_images", "test images of linear probe", "linear_probe", (False, False)),
        ("linear_probe_seconds", "linear probe evaluation (s)", "linear_probe", (False, False)),
        ("spectrum_effective_rank_recalibrated", "spectrum effective rank", "spectrum", (None, False)),
        ("spectrum_z_effective_rank_recalibrated", "spectrum effective rank on z", "spectrum_z", (None, False)),
        ("mine_weak_crop_test_top1_tuned", "mine accuracy, weak crop (%)", "mine", (True, False)),
        ("linear_pets_test_top1_recalibrated", "pets linear accuracy (%)", "linear_pets", (True, False)),
    ],
)
def test_a_users_evaluation_is_read_by_its_label_and_states_unit_and_best(column, label, evaluation, best):
    metric = Metric.of(column, MEASURES)
    assert (metric.name, metric.label, metric.evaluation) == (column, label, evaluation)
    assert (metric.highest_is_best, metric.lowest_is_best) == best
    assert metric.has_a_best == (True in best)  # no table marks the highest of a number that may be an error
    assert metric.protocol == {"linear_pets": "linear", "spectrum_z": "spectrum"}.get(evaluation, evaluation)
    assert metric.on_split("validation").stated == metric.stated


@pytest.mark.parametrize("stated", ["%", ("%", "max"), ("%",), (1, "highest")])
def test_a_statement_in_another_form_is_refused(stated):
    class Mine(KNN):
        name = "mine"
        metrics: ClassVar = {"test_miou": stated}

    with pytest.raises(InvalidSpec, match=r"Mine\.metrics\['test_miou'\] must be a unit .* Write \('%', 'highest'\)"):
        small_run().replace(evaluations=(Mine(),))


def test_a_users_metric_named_images_is_not_their_number():
    assert Metric.of("mine_images_tuned").highest_is_best is None
    assert Metric.of("mine_test_images_tuned").label == "mine images"


def test_the_same_on_other_images():
    metric = Metric.of("probe_validation_validation_top1_running")
    assert metric.on_split("test").name == "probe_validation_test_top1_running"


@pytest.mark.parametrize("axis", ["linear_x", "loss", "state", "epoch", "my_images", "mine_x", "mean", "predicted"])
def test_no_coordinate_has_the_name_of_a_column(axis):
    """Nor one that a user's evaluation fills."""

    class Mine(KNN):
        name = "mine"

    run = small_run().replace(evaluations=(Mine(),))
    with pytest.raises(InvalidSpec, match=axis):
        check_axes(Experiment(cells=sweep(lambda **_: run, **{axis: "ab"}, seeds=[0]), figures={}))
    check_axes(Experiment(cells=sweep(lambda **_: run, learning_rate=(1, 2), seeds=[0]), figures={}))
