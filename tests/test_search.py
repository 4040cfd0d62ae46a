"""The search: valid spaces, no trial lost or counted twice, and its messages."""

import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import ClassVar

import optuna
import pandas as pd
import pytest
from helpers import GRID, SMALL_EXPERIMENT, ablation, alive, command, environment, small_run, workers_of
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from ablation.analysis.settings import read_settings
from ablation.cli import main
from ablation.commands.search_output import verdict
from ablation.data import Data, Shapes, Split, loaded
from ablation.evaluate import KNN, Linear
from ablation.evaluate.base import Evaluation
from ablation.execution.console import LineConsole
from ablation.execution.executor import JobOptions, Outcome, Part
from ablation.execution.inline import InlineExecutor
from ablation.execution.owner import execute
from ablation.execution.plan import check_top5, make_plan
from ablation.execution.store import Results, evaluation_files, identified, training_document
from ablation.operators import Crop, Noise
from ablation.plots import HEADLINE
from ablation.plots.trials import figures_of, on_test_images
from ablation.search import Search
from ablation.search.holdout import Holdout
from ablation.search.load import load_searches
from ablation.search.queue import TrialQueue
from ablation.search.storage import Storage
from ablation.search.study import best, check_space, counted, ended, is_spent, open_study, repeat_lost
from ablation.search.tables import importances, trials
from ablation.spec import Cell, Experiment, InvalidSpec, StorageError, identity
from ablation.study.experiment_file import read
from ablation.system.failures import Failure
from ablation.system.interrupts import uninterrupted

# A search with trials of a second each.
LOOK = SMALL_EXPERIMENT.replace(
    "import Experiment", "import Experiment\nfrom ablation.search import Search"
) + textwrap.dedent(
    """
    def search(scale):
        scale = small(scale)

        def run(strength):
            return scale.run(scale.method(SimCLR), views=((Crop(), Noise(strength=strength)), ()))

        def suggest(trial):
            return run(trial.suggest_float("strength", 0.1, 1.0))

        return Search(suggest=suggest, default=run(0.5), seeds=(0,), trials=6, fresh=(100, 101))
    """
)


def suggest(trial):
    noise = Noise(strength=trial.suggest_float("strength", 0.1, 1.0))
    return small_run(views=((Crop(), noise), ()))


def small_search(**changes) -> Search:
    return Search(**{"suggest": suggest, "default": small_run(), "trials": 4, **changes})


# --------------------------------------------------------------------------------------------------
# Valid searches


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "linear_test_top1_recalibrated"}, "must be an accuracy on validation images"),
        ({"metric": "linear_validation_loss"}, "must be an accuracy on validation images"),
        ({"metric": "probe_validation_top1_recalibrated"}, "they measure knn_validation_top1_recalibrated, "),
        (
            {"metric": "linear_validation_top1_recalibrate"},
            "did you mean 'linear_validation_top1_recalibrated'.*Write one of these",
        ),
        ({"metric": "knn_k5_t0.1_validation_top1_running"}, "knn_k5_t0.1_validation"),
        ({"metric": 3}, "but got 3"),
        (
            {"default": small_run().replace(evaluations=(KNN(k=(10,)),))},
            "got 'linear_validation_top1_recalibrated'; did you mean|they measure knn_validation.*scale.replace",
        ),
        ({"seeds": (0, 100)}, r"hold none of the search's seeds \(\[100\]\)"),
        ({"pruner": "halving"}, "Search.pruner must be one of 'none', 'median', 'hyperband'"),
        ({"trials": 0}, "Search.trials must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, words):
    with pytest.raises(InvalidSpec, match=words):
        small_search(**changes)


def test_metrics_that_the_runs_measure():
    """All columns of accuracies on validation images, and no others; those of a user's class by their form."""
    run = small_run().replace(evaluations=(KNN(k=(10, 5)), Linear(on="z"), Mine()))
    for metric in (
        "knn_validation_top1_recalibrated", "knn_validation_top5_running", "knn_k5_t0.1_validation_top1_running",
        "linear_z_validation_top1_recalibrated", "mine_hard_validation_top1_running",
    ):  # fmt: skip
        small_search(default=run, metric=metric)
    for metric in ("linear_validation_top1_running", "mine_test_top1_running", "knn_k10_t0.1_validation_top1_running"):
        with pytest.raises(InvalidSpec, match=f"got '{metric}'"):
            small_search(default=run, metric=metric)


class Mine(Evaluation):
    name = "mine"

    def evaluate(self, features):
        return {"hard_validation_top1": 50.0}, {}, []


class Boundaries(Evaluation):
    name = "edges"
    metrics: ClassVar = {
        f"{split}_{name}": stated
        for split in ("validation", "test")
        for name, stated in {"miou": ("%", "highest"), "error": ("", "lowest"), "rank": ("", "")}.items()
    }

    def evaluate(self, features):
        return dict.fromkeys(self.metrics, 0.5), {}, []


def test_a_metric_is_searched_for_its_best_value(tmp_path):
    """Its evaluation states it: the lowest of an error; a rank has none."""
    run = small_run().replace(evaluations=(Boundaries(),))
    for metric, direction, value in (("miou", "MAXIMIZE", 3.0), ("error", "MINIMIZE", 1.0)):
        search = small_search(default=run, metric=f"edges_validation_{metric}_recalibrated")
        study = open_study(Storage(f"sqlite:///{tmp_path}/{metric}.sqlite3"), "s", "tpe", search.replace(suggest=edges))
        assert study.direction.name == direction
        for each in (2.0, 1.0, 3.0):
            study.tell(study.ask(), each)
        assert best(study).value == value
    for metric in ("edges_validation_rank_recalibrated", "edges_test_miou_recalibrated"):
        with pytest.raises(InvalidSpec, match="they measure edges_validation_miou_recalibrated, "):
            small_search(default=run, metric=metric)


def edges(trial):
    return suggest(trial).replace(evaluations=(Boundaries(),))


def test_the_verdict_on_an_error_has_its_digits_and_its_name():
    rows = [("best of TPE", 100, 0.321), ("best of TPE", 101, 0.341), ("default", 100, 0.5), ("default", 101, 0.51)]
    tested = pd.DataFrame(rows, columns=["settings", "seed", "edges_test_error_recalibrated"])
    measures = {"edges": {"test_error": ("", "lowest")}}
    said = verdict(tested, {"": "edges_validation_error_recalibrated"}, measures)
    assert said.startswith("best of TPE 0.33 against the default's 0.51, edges error: -0.17 (95 %: ")


def test_what_is_compared_is_the_searchs_own_metric():
    """Also without other measurements; the existing headline metrics follow."""
    assert on_test_images("knn_validation_top1_running") == "knn_test_top1_running"
    assert on_test_images("probe_validation_validation_top1_running") == "probe_validation_test_top1_running"
    table = pd.DataFrame({"metric": ["knn_validation_top1_recalibrated"] * 2, "param_p": [0.1, 0.2]})
    rows = [("best of TPE", 100, 52.0), ("best of TPE", 101, 54.0), ("default", 100, 50.0), ("default", 101, 51.0)]
    tested = pd.DataFrame(rows, columns=["settings", "seed", "knn_test_top1_recalibrated"])
    figure = figures_of(table, tested.columns)["test"]
    assert figure.values == ("knn_test_top1_recalibrated",)
    assert "53.0" in figure.text(tested)
    said = verdict(tested, {"": "knn_validation_top1_recalibrated"})
    assert "best of TPE 53.0 against the default's 50.5, kNN accuracy" in said
    both = [*tested.columns, "linear_test_top1_recalibrated"]
    assert figures_of(table, both)["test"].values == ("knn_test_top1_recalibrated", "linear_test_top1_recalibrated")
    linear = table.assign(metric="linear_validation_top1_recalibrated")
    assert figures_of(linear, both)["test"].values == HEADLINE


def test_cases_with_metrics_of_their_own():
    rows = [("a", "default", 1.0, None), ("a", "best of TPE", 3.0, None), ("b", "default", None, 5.0)]
    rows += [("b", "best of TPE", None, 9.0)]
    columns = ["case", "settings", "knn_test_top1_recalibrated", "linear_test_top1_recalibrated"]
    tested = pd.concat([pd.DataFrame(rows, columns=columns).assign(seed=seed) for seed in (100, 101)])
    said = verdict(tested, {"a": "knn_validation_top1_recalibrated", "b": "linear_validation_top1_recalibrated"})
    assert [line.partition(" (95")[0] for line in said.splitlines()] == [
        "a: best of TPE 3.0 against the default's 1.0, kNN accuracy (%): 2.0",
        "b: best of TPE 9.0 against the default's 5.0, linear accuracy (%): 4.0",
    ]


def test_top_5_needs_more_than_five_classes():
    few = FewClasses(train=140, validation=40, test=60, size=16)
    with pytest.raises(InvalidSpec, match=r"shapes has 5 classes.*'knn_validation_top1_recalibrated'"):
        check_top5("Search.metric", "knn_validation_top5_recalibrated", [small_run(dataset=few)])
    check_top5("Search.metric", "knn_validation_top5_recalibrated", [small_run(dataset=few), small_run()])
    check_top5("Search.metric", "knn_validation_top1_recalibrated", [small_run(dataset=few)])


class FewClasses(Shapes):
    def load(self):
        data = super().load()
        return Data(*(Split(each.images, each.labels % 5) for each in data.splits().values()), data.classes[:5])


def test_a_space_is_tried_before_the_storage_is_touched(tmp_path):
    storage = Storage(f"sqlite:///{tmp_path}/s.sqlite3")
    assert not storage.is_there
    with pytest.raises(InvalidSpec, match=r"Search.suggest must return a Run, but returned 3"):
        open_study(storage, "s", "tpe", small_search(suggest=lambda trial: 3))
    with pytest.raises(InvalidSpec, match="asks for none"):
        open_study(storage, "s", "tpe", small_search(suggest=lambda trial: small_run()))
    assert optuna.get_all_study_summaries(storage.optuna) == []


def test_a_study_keeps_its_question(tmp_path):
    """Refuses another space, metric, seeds or run under the name of an old study, and keeps its trials."""
    storage = Storage(f"sqlite:///{tmp_path}/s.sqlite3")
    open_study(storage, "s", "tpe", small_search())

    def wider(trial):
        return small_run(views=((Crop(), Noise(strength=trial.suggest_float("strength", 0.1, 0.9))), ()))

    def other(trial):
        trial.suggest_float("strength", 0.1, 1.0)
        return small_run(views=((Crop(),), ()))

    def otherwise_evaluated(trial):
        return suggest(trial).replace(evaluations=(KNN(k=(5,)), Linear()))

    for changes, words in [
        ({"suggest": otherwise_evaluated}, "the same settings gave another run"),
        ({"suggest": wider}, "strength was .*1.0.* and is .*0.9"),
        ({"seeds": (0, 1, 2)}, r"seeds was \[0, 1\] and is \[0, 1, 2\]"),
        ({"metric": "knn_validation_top1_recalibrated", "default": small_run()}, "metric was linear_validation"),
        ({"suggest": other}, "the same settings gave another run"),
    ]:
        with pytest.raises(InvalidSpec, match=f"{words}.*--study NAME"):
            open_study(storage, "s", "tpe", small_search(**changes))
    open_study(storage, "s", "tpe", small_search(trials=100))  # a larger budget is the same question


def test_conditional_spaces_may_grow(tmp_path):
    """Undrawn parts of a conditional space do not count as a change."""

    def rarely(trial):
        strength = trial.suggest_float("strength", 0.1, 1.0)
        if strength > 0.999:  # not among the draws at a study's opening
            trial.suggest_float("more", 0, 1)
        return small_run(views=((Crop(), Noise(strength=strength)), ()))

    study = open_study(Storage(f"sqlite:///{tmp_path}/s.sqlite3"), "s", "tpe", small_search(suggest=rarely))
    trial = study.ask({"strength": optuna.distributions.FloatDistribution(0.1, 1.0)})
    trial.suggest_float("more", 0, 1)
    check_space(study, trial)
    assert set(study.user_attrs["seen"]) == {"strength", "more"}
    open_study(Storage(f"sqlite:///{tmp_path}/s.sqlite3"), "s", "tpe", small_search(suggest=rarely))
    trial = study.ask()
    trial.suggest_float("strength", 0.1, 2.0)
    with pytest.raises(InvalidSpec, match=r"strength was .*1\.0.* and is .*2\.0"):
        check_space(study, trial)


# --------------------------------------------------------------------------------------------------
# Trials that count


def study_in(folder: Path, sampler: str = "tpe", search: Search | None = None, name: str = "s") -> optuna.Study:
    return open_study(Storage(f"sqlite:///{folder}/s.sqlite3"), name, sampler, search or small_search())


def test_a_search_that_was_stopped_draws_what_it_would_have_drawn(tmp_path):
    """Fifteen trials, five past TPE's random start: in one sitting, in three, and with a killed owner."""

    drawn = []
    for number, (sittings, lost) in enumerate([([15], ()), ([4, 8, 3], ()), ([4, 12, 15], (3, 12))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for count in sittings:
            study = study_in(folder)
            for _ in range(count):
                if is_spent(study, 15):
                    break
                trial = study.ask()
                strength = trial.suggest_float("strength", 0.1, 1.0)
                if trial.number in lost:
                    break  # the owner dies; the next sitting repeats the trial
                study.tell(trial, -((strength - 0.4) ** 2))
        drawn.append([t.params["strength"] for t in study.get_trials() if t.state == TrialState.COMPLETE])
    assert len(set(drawn[0])) == 15
    assert drawn[1:] == [drawn[0]] * 2


def test_what_is_drawn_at_random_does_not_depend_on_how_many_are_asked_at_once(tmp_path):
    drawn = []
    for at_once in (1, 4):
        (tmp_path / str(at_once)).mkdir()
        study, rng = study_in(tmp_path / str(at_once), "random"), random.Random(at_once)
        asked = []
        for _ in range(12):
            asked.append(study.ask())
            asked[-1].suggest_float("strength", 0.1, 1.0)
            if len(asked) == at_once:
                study.tell(asked.pop(rng.randrange(at_once)), 1.0)
        drawn.append([t.params["strength"] for t in study.trials])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 12


def test_the_budget_is_of_trials_that_count(tmp_path):
    study = study_in(tmp_path)
    trials = [study.ask() for _ in range(4)]
    assert is_spent(study, 4)
    assert ended(study) == 0
    study.tell(trials[0], 50.0)
    study.tell(trials[1], state=TrialState.PRUNED)
    trials[2].set_user_attr("error", "out of memory")
    study.tell(trials[2], state=TrialState.FAIL)
    assert ended(study) == 3
    study.tell(trials[3], state=TrialState.FAIL)  # stopped with its search
    assert len(counted(study.trials)) == 3
    assert not is_spent(study, 4)
    study.tell(study.ask(), 40.0)
    assert is_spent(study, 4)
    assert best(study).number == 0


def test_a_trial_that_lost_its_owner_is_repeated_with_its_settings_and_counts_once(tmp_path):
    study = study_in(tmp_path)
    strength = study.ask().suggest_float("strength", 0.1, 1.0)
    for number in (1, 2):  # twice
        repeat_lost(study)
        assert [t.state for t in counted(study.trials)] == [TrialState.WAITING]
        again = study.ask()
        assert (again.number, again.suggest_float("strength", 0.1, 1.0)) == (number, strength)
    study.tell(again, 50.0)
    repeat_lost(study)
    assert [t.number for t in counted(study.trials)] == [2]
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


@pytest.mark.parametrize("moment", ["before the first suggestion", "while it is repeated", "while it fails"])
def test_an_owner_may_be_killed_at_any_moment_of_a_trial(moment, tmp_path):
    study = study_in(tmp_path)
    trial = study.ask()
    if moment != "before the first suggestion":
        trial.suggest_float("strength", 0.1, 1.0)
    if moment == "while it fails":  # a failure of its own, so it counts
        trial.set_user_attr("error", "RuntimeError: no")
    if moment == "while it is repeated":
        study.enqueue_trial(trial.params, user_attrs={"ablation:repeats": 0})
    repeat_lost(study_in(tmp_path))
    states = [t.state for t in study.get_trials()]
    assert states == [TrialState.FAIL] + [TrialState.WAITING] * (moment == "while it is repeated")
    assert len(counted(study.trials)) == (moment != "before the first suggestion")


def test_a_smaller_budget_starts_nothing_that_waits(tmp_path):
    study = study_in(tmp_path)
    for _ in range(2):
        study.tell(study.ask(), 50.0)
    study.enqueue_trial({"strength": 0.5})
    assert is_spent(study, 2)
    assert not is_spent(study, 3)


def test_a_study_of_the_former_version_is_continued(tmp_path):
    """Which requeued trials with its own attributes, and whose workers kept heartbeats."""
    search = small_search(seeds=(0,), trials=3)
    file = f"sqlite:///{tmp_path}/s.sqlite3"
    storage = optuna.storages.RDBStorage(file, heartbeat_interval=15, grace_period=60)
    study = study_in(tmp_path, search=search)  # the same definition
    former = optuna.load_study(study_name="s", storage=storage)
    distributions = {"strength": optuna.distributions.FloatDistribution(0.1, 1.0)}

    def add(state, strength, value=None, system=None, **user):
        made = {"params": {"strength": strength}, "distributions": distributions}
        former.add_trial(optuna.create_trial(state=state, value=value, system_attrs=system, user_attrs=user, **made))

    done = {"seeds": json.dumps({0: 40.0}), "trainings": "0" * 12, "seconds": 3.0, "worker": "host 1"}
    add(TrialState.COMPLETE, 0.2, 40.0, **done)
    add(TrialState.FAIL, 0.3, worker="host 1")
    add(TrialState.FAIL, 0.3, system={"retry_history": [1], "failed_trial": 1})
    add(TrialState.WAITING, 0.3, system={"ablation:put_back": 2})
    assert trials({("", "tpe"): study})["trial"].tolist() == [0]
    assert len(counted(study.trials)) == 2
    carried_out(tmp_path, search)
    ends = [t for t in study.get_trials() if t.state == TrialState.COMPLETE]
    assert [t.number for t in ends] == [0, 3, 4]
    assert ends[1].params == {"strength": 0.3}


# --------------------------------------------------------------------------------------------------
# The owner asks and tells


class AtOnce:
    """A fake executor: takes `capacity` jobs together and ends them in random order. It trains nothing: the
    accuracy comes from the id. failures: of trainings, one per attempt, delivered first."""

    options = JobOptions("cpu")

    def __init__(self, capacity: int, *failures: Failure):
        self.capacity, self.failures = capacity, list(failures)
        self.rng, self.computed = random.Random(0), []

    def run(self, jobs, listener, *, alone=False):
        jobs, taken = iter(jobs), []
        while True:
            while len(taken) < (1 if alone else self.capacity) and (job := next(jobs, None)) is not None:
                taken.append(job)
            if not taken:
                return
            job = taken.pop(self.rng.randrange(len(taken)))
            listener.progress("somebody", job, 0.0)
            if self.failures:
                yield Outcome(job, 1.0, Part(None, failure=self.failures.pop(0)))
            else:
                self.computed.append(job)
                yield from self.outcomes(job)

    def accuracy(self, job) -> float:
        return int(job.training_id, 16) % 1000 / 10

    def outcomes(self, job):
        origin = dict.fromkeys(("device", "torch", "kornia", "commit"), "-")
        for part in job.parts:
            if part is None:
                files = dict.fromkeys(("history.csv", "encoder.safetensors", "head.safetensors"), b"-")
                facts = {"seconds": 1.0, "peak_memory_bytes": 1, "sittings": [{"seconds": 1.0}], "last": {}}
                facts |= {"diagnostics": {}, "images": {}, "classes": [], "provenance": origin}
                facts["normalization"] = {"mean": [0.0], "std": [1.0]}
                files["training.json"] = training_document(job.work.training, dict(files), **facts)
            else:
                [evaluation] = [each for each in job.work.evaluations if identity(each) == part]
                metrics = {"validation_top1_recalibrated": self.accuracy(job)}
                facts = {"metrics": metrics, "notes": [], "seconds": 1.0, "provenance": origin}
                files = evaluation_files(evaluation, job.training_id, b"-", **facts)
            yield Outcome(job, 1.0, Part(part, files))


def carried_out(folder: Path, search: Search, executor=None, sampler: str = "tpe") -> optuna.Study:
    """The study after all missing trials."""
    study = study_in(folder, sampler, search)
    results, executor = Results(folder / "results"), executor or AtOnce(1)
    queue = TrialQueue({"": search}, {"": study}, results, executor)
    execute(queue, results, executor, queue)
    assert (queue.open, queue.running) == ([], {})
    if search.trials:
        assert queue.clock.left() == 0
    return study


def test_a_trials_value_is_the_mean_over_its_seeds(tmp_path):
    trial = carried_out(tmp_path, small_search(trials=1), InlineExecutor(JobOptions("cpu"))).trials[-1]
    values = json.loads(trial.user_attrs["seeds"])
    assert list(values) == ["0", "1"]
    assert trial.value == pytest.approx(sum(values.values()) / 2)
    assert len(trial.user_attrs["trainings"].split()) == 2
    assert len(list((tmp_path / "results").glob("*/training.json"))) == 2


def test_a_budget_is_exact_and_may_grow(tmp_path, capsys):
    """Two and a half trials at once, later more; every line counts one trial, every value comes from its runs."""
    executor, seen = AtOnce(5), []

    class Watching(TrialQueue):
        def __next__(self):
            job = super().__next__()
            seen.append(len(study.get_trials(states=(TrialState.RUNNING,))))
            return job

    study = study_in(tmp_path)
    for budget in (4, 4, 2, 7):
        search = small_search(trials=budget)
        queue = Watching({"": search}, {"": study}, Results(tmp_path / "results"), executor)
        execute(queue, queue.results, executor, queue)
    assert seen[4] == 3  # enough to keep five busy with two seeds each
    assert max(seen) <= 5
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 7
    assert len({job.training_id for job in executor.computed}) == len(executor.computed) == 14
    lines = [line for line in capsys.readouterr().err.splitlines() if "trial" in line and "under way" not in line]
    assert [line.partition(" ")[0] for line in lines] == [f"[{i}/4]" for i in range(1, 5)] + ["[5/7]", "[6/7]", "[7/7]"]


def test_trials_that_ask_for_one_run_compute_it_once(tmp_path):
    def either(trial):
        return small_run(views=((Crop(), Noise(strength=trial.suggest_categorical("strength", [0.2, 0.8]))), ()))

    executor = AtOnce(4)
    study = carried_out(tmp_path, small_search(suggest=either, seeds=(0,), trials=6), executor, "random")
    assert len(executor.computed) == len({t.params["strength"] for t in study.trials}) == 2
    assert len({t.value for t in study.trials}) <= 2
    assert all(t.state == TrialState.COMPLETE for t in study.trials)


def test_cases_follow_one_another(tmp_path):
    storage, searches = Storage(f"sqlite:///{tmp_path}/s.sqlite3"), {}
    for case in ("a", "b"):
        searches[case] = small_search(seeds=(0,), trials=2)
    studies = {case: open_study(storage, f"s {case}", "tpe", search) for case, search in searches.items()}
    executor = AtOnce(3)
    queue = TrialQueue(searches, studies, Results(tmp_path / "results"), executor)
    execute(queue, queue.results, executor, queue)
    assert [len(study.trials) for study in studies.values()] == [2, 2]
    assert {job.name for job in executor.computed} == {f"{case} trial {i} seed 0" for case in "ab" for i in (0, 1)}


def test_a_value_that_somebody_changed_is_named(tmp_path):
    carried_out(tmp_path, small_search(trials=1))
    with sqlite3.connect(tmp_path / "s.sqlite3") as storage:
        storage.execute("update trial_values set value = 99.0")
    with pytest.raises(
        StorageError, match=r"'s' must hold .* trial 0 has the value 99 and its seeds have .*--study NAME"
    ):
        study_in(tmp_path)


def test_a_trial_behind_the_median_is_pruned_at_its_rung(tmp_path):
    """Six earlier trials had more than any can have at epoch 1, so this one ends there: one seed, no files."""
    search = small_search(pruner="median", trials=7)
    study = study_in(tmp_path, search=search)
    for _ in range(6):
        study.add_trial(optuna.create_trial(value=50.0, intermediate_values={1: 101.0}))
    trial = carried_out(tmp_path, search, InlineExecutor(JobOptions("cpu"))).trials[-1]
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["note"] == "pruned after epoch 1"
    assert list(trial.intermediate_values) == [1]
    assert trial.user_attrs["seeds"] == "{}"
    assert not list((tmp_path / "results").glob("*/*.json"))


def test_a_trial_that_is_not_pruned_has_all_its_seeds(tmp_path):
    """The first seed comes before the others."""
    executor = AtOnce(4)
    study = carried_out(tmp_path, small_search(pruner="median", trials=3), executor)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3
    names = [job.name for job in executor.computed]
    for number in range(3):
        assert names.index(f"trial {number} seed 0") < names.index(f"trial {number} seed 1")


def test_a_loss_that_is_no_number_prunes_and_other_failures_count(tmp_path):
    diverged = Failure("diverged", "the loss of SimCLR became nan in epoch 1 of 1")
    study = carried_out(tmp_path, small_search(trials=1), AtOnce(1, diverged))
    assert study.trials[-1].state == TrialState.PRUNED
    assert study.trials[-1].user_attrs["note"][:8] == "the loss"
    bug = Failure("user code", "RuntimeError: no", "q.py:3", "Traceback ...")
    study = carried_out(tmp_path, small_search(trials=2), AtOnce(1, bug))
    assert study.trials[-1].state == TrialState.FAIL
    assert len(counted(study.trials)) == 2
    assert trials({("", "tpe"): study})["note"].tolist()[-1] == "RuntimeError: no (q.py:3)"


def test_a_metric_that_is_not_a_number_prunes(tmp_path):
    """The run is finished, so that the same command would meet it again."""

    class NotANumber(AtOnce):
        def accuracy(self, job):
            return math.nan

    study = carried_out(tmp_path, small_search(trials=2), NotANumber(1))
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 2
    assert "validation_top1_recalibrated of seed 0 is not a number" in study.trials[-1].user_attrs["note"]


@pytest.mark.parametrize("seeds", [(0,), (1,), (0, 1)])
def test_a_finished_run_whose_metric_is_not_a_number_prunes_and_starts_nothing(seeds, tmp_path):
    """As when a categorical space draws the same point twice."""

    class NotANumber(AtOnce):
        def accuracy(self, job):
            return math.nan

    def one(trial):
        return small_run(views=((Crop(), Noise(strength=trial.suggest_categorical("strength", [0.2]))), ()))

    results, search = Results(tmp_path / "results"), small_search(suggest=one, trials=3)
    run = one(optuna.trial.FixedTrial({"strength": 0.2}))
    cells = tuple(Cell(coords={"seed": seed}, run=run.with_seed(seed)) for seed in seeds)
    jobs = make_plan(identified(Experiment(cells=cells, figures={})), results).jobs
    execute(jobs, results, NotANumber(1), LineConsole(len(jobs)))
    executor = NotANumber(1)
    study = carried_out(tmp_path, search, executor)
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 3
    assert len(executor.computed) == (0 if 0 in seeds else 1)


@pytest.mark.parametrize("kind", ["memory", "worker lost"])
def test_a_run_that_lost_its_process_is_retried_and_its_trial_counts_once(kind, tmp_path, capsys):
    """Alone, after the others have ended; failed if it is lost again."""
    study = carried_out(tmp_path, small_search(trials=3), AtOnce(4, Failure(kind, "SIGKILL")))
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3
    assert "retried alone" in capsys.readouterr().err
    (tmp_path / "twice").mkdir()
    lost = [Failure(kind, "SIGKILL")] * 12
    study = carried_out(tmp_path / "twice", small_search(trials=3), AtOnce(4, *lost))
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 3
    assert ended(study) == 3
    assert set(trials({("", "tpe"): study})["note"]) == {"SIGKILL"}


def test_what_is_wrong_with_the_search_itself_ends_it_and_counts_nothing(tmp_path):
    with pytest.raises(InvalidSpec, match="mine"):
        carried_out(tmp_path, small_search(), AtOnce(1, Failure("spec", "mine.apply must return images")))

    def wrong(trial):
        return 1 / 0

    study = study_in(tmp_path)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]  # with the same settings
    queue = TrialQueue({"": small_search(suggest=wrong)}, {"": study}, Results(tmp_path), AtOnce(8))
    with pytest.raises(ZeroDivisionError):
        next(queue)
    assert len(counted(study.trials)) == 0


def test_tables_hold_what_counts(tmp_path):
    """A row per finished trial, none for a reassigned one; importance of the parameter with an effect."""

    def both(trial):
        trial.suggest_float("idle", 0, 1)
        return suggest(trial)

    study = open_study(Storage(f"sqlite:///{tmp_path}/s.sqlite3"), "s", "random", small_search(suggest=both))
    for number in range(31):
        trial = study.ask()
        strength, _ = trial.suggest_float("strength", 0.1, 1.0), trial.suggest_float("idle", 0, 1)
        if number == 3:  # it was stopped
            study.tell(trial, state=TrialState.FAIL)
            continue
        trial.set_user_attr("seeds", json.dumps({0: 49.0 - strength, 1: 51.0 - strength}))
        study.tell(trial, 50 - strength)
    table = trials({("", "random"): study})
    assert table["trial"].tolist() == [0, 1, 2, *range(4, 31)]  # numbered as in the storage, the log and `status`
    assert table["value"].tolist() == pytest.approx((50 - table["param_strength"]).tolist())
    assert table["sd"].tolist() == pytest.approx([2**0.5] * 30)
    found = importances({("", "random"): study}).set_index("parameter")
    assert found.loc["strength", "importance"] > 0.9 > 0.1 > found.loc["idle", "importance"]
    assert found["n"].tolist() == [30, 30]
    for name, figure in figures_of(table).items():
        if not figure.source:
            assert figure.draw(table), name


def test_nothing_is_compared_without_the_default():
    table = pd.DataFrame({"settings": "best of TPE", "seed": [100, 101], "linear_test_top1_recalibrated": [1.0, 2.0]})
    metrics = {"": "linear_validation_top1_recalibrated"}
    assert verdict(table, metrics) == "no run of the default is finished, so no comparison"
    assert "no run with fresh seeds is finished" in verdict(
        table.drop(columns="linear_test_top1_recalibrated"), metrics
    )


# --------------------------------------------------------------------------------------------------
# Storages


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://me:s3cret@host/db", "of mysql"),
        ("postgres s3cret", "of something else"),
        ("sqlite:///", "of no file"),
        ("postgresql://me:s3cret@s3cret@127.0.0.1:1/db", "must have one @"),
        ("postgresql://m/e:s3cret@127.0.0.1:1/db", "must have one @"),
        ("postgresql://me:s3cret@127.0.0.1:1/db?application_name=s3cret", "postgresql://me:.*@127.0.0.1:1/db is not"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(address, words):
    with pytest.raises((InvalidSpec, StorageError), match=words) as raised:
        _ = Storage(address).optuna
    shown = "".join(map(str, (raised.value, raised.value.__cause__, raised.value.__context__)))
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or "s3cret" not in shown


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=f"--storage must be reachable, but sqlite:///{tmp_path}/file/s.sqlite3 is not"
    ):
        _ = Storage(f"sqlite:///{tmp_path}/file/s.sqlite3").optuna


def test_a_lock_is_never_opened_through_a_link_and_never_emptied(tmp_path):
    """It may be someone else's file."""
    precious, lock = tmp_path / "precious", tmp_path / "s.sqlite3.lock"
    precious.write_text("mine")
    lock.symlink_to(precious)
    with pytest.raises(StorageError, match=r"--storage must be reachable.* link"), study_owner(tmp_path):
        pass
    lock.unlink()
    lock.write_text("of another version")
    with study_owner(tmp_path):
        pass
    assert (precious.read_text(), lock.read_text()) == ("mine", "of another version")


def study_owner(folder: Path):
    return Storage(f"sqlite:///{folder}/s.sqlite3").owned("s")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "damaged"])
def test_a_storage_that_is_no_file_is_left_alone_and_hides_no_experiment(kind, tmp_path, capsys):
    elsewhere, there = tmp_path / "elsewhere", tmp_path / "results" / "search.sqlite3"
    (tmp_path / "results" / "experiments").mkdir(parents=True)
    elsewhere.touch()
    if kind == "link":
        there.symlink_to(elsewhere)
    elif kind == "fifo":
        os.mkfifo(there)
    elif kind == "folder":
        there.mkdir()
    else:
        there.write_bytes(b"no database" * 1000)
    assert main(["status", "--results", str(tmp_path / "results")]) == 0
    said = capsys.readouterr().err
    assert re.search(rf"the searches cannot be read: .*{there}", said), said
    assert elsewhere.stat().st_size == 0


def test_the_best_of_equal_trials_is_the_first_everywhere(tmp_path):
    study = study_in(tmp_path)
    for value in (40.0, 50.0, 50.0):
        trial = study.ask()
        trial.suggest_float("strength", 0.1, 1.0)
        study.tell(trial, value)
    table = trials({("", "tpe"): study})
    assert f"with strength {best(study).params['strength']}" in figures_of(table)["history"].text(table)
    assert best(study).number == 1


# --------------------------------------------------------------------------------------------------
# From the command line


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    (folder / "look.py").write_text(LOOK)
    done = ablation("search", "look.py", "--workers", "1", cwd=folder)
    return folder, done


@pytest.mark.slow
def test_a_search_finds_compares_and_draws(searched):
    folder, done = searched
    table = pd.read_csv(folder / "figures" / "look-tiny.csv")
    assert table["trial"].tolist() == list(range(6))
    assert set(table["state"]) == {"complete"}
    assert table["value"].notna().all()
    assert not [column for column in table if "test" in column]  # a search never uses test images
    tested = pd.read_csv(folder / "figures" / "look-tiny-test.csv")
    assert tested.groupby("settings")["seed"].apply(list).to_dict() == {
        "best of TPE": [100, 101],
        "default": [100, 101],
    }
    assert "best of TPE" in done.stdout.splitlines()[-20:] or "against the default's" in done.stdout
    for name in ("history", "slice", "rungs", "test"):
        assert (folder / "figures" / f"look-tiny-{name}.pdf").stat().st_size > 1000, name
    assert "[6/6] look-tiny trial 5:" in done.stderr
    settings = read_settings(folder / "figures" / "look-tiny.csv")
    assert set(settings.trainings) == set(tested["training"])
    assert (settings.command, settings.file) == ("ablation search look.py --scale tiny", "../look.py")
    searched = settings.searched["look-tiny"]
    assert (searched["metric"], searched["seeds"], searched["trials"]) == (
        "linear_validation_top1_recalibrated", [0], 6,
    )  # fmt: skip
    assert json.loads(searched["space"]["strength"])["attributes"]["high"] == 1.0
    (folder / "another").mkdir(exist_ok=True)
    (folder / "another" / "look.py").write_text(f"# Another.\n{LOOK}".replace("batch=32", "batch=30"))
    refused = ablation("search", "another/look.py", "--dry-run", cwd=folder, check=2).stderr
    assert "Rename one file" in refused, refused


def test_a_worker_builds_the_runs_of_the_owner_from_what_it_is_sent(tmp_path):
    """Also with --precision."""
    (tmp_path / "look.py").write_text(LOOK.replace(', precision="float32"', ""))
    source = read(str(tmp_path / "look.py"), "tiny", precision="bfloat16")
    searches = load_searches(source)
    study = study_in(tmp_path, search=searches[""])
    trial = study.ask()
    trial.suggest_float("strength", 0.1, 1.0)
    study.tell(trial, 50.0)
    holdout = Holdout(searches, {("", "tpe"): study})
    assert [cell.coords["settings"] for cell in holdout.cells] == ["default"] * 2 + ["best of TPE"] * 2
    for cell in holdout.cells:
        assert cell.run.training.optimization.precision == "bfloat16"
        training_id = identity(cell.run.training)
        [suggestion] = holdout.suggestions[training_id]
        assert identity(suggestion.run(source).training) == training_id


@pytest.mark.parametrize("command", ["run", "search"])
def test_a_file_with_an_experiment_and_a_search_is_refused(command, tmp_path, monkeypatch, capsys):
    """Their tables would have the same name."""
    monkeypatch.chdir(tmp_path)
    Path("look.py").write_text(LOOK + GRID.removeprefix(SMALL_EXPERIMENT))
    assert main([command, "look.py", "--dry-run"]) == 2
    assert re.search("look.py.*an experiment and a search.*its own file", capsys.readouterr().err)


@pytest.mark.slow
def test_trials_are_ordinary_runs(searched):
    """A second call runs nothing; the value comes from the run's own files."""
    folder, _ = searched
    again = ablation("search", "look.py", "--workers", "1", cwd=folder)
    assert "all trials have ended" in again.stderr
    table = pd.read_csv(folder / "figures" / "look-tiny.csv")
    best = table.loc[table["value"].idxmax()]
    status = ablation("status", cwd=folder).stdout
    assert status.startswith(
        f"look-tiny (search): 6 trials, 6 complete; best {best['value']:.1f}, trial {best['trial']}: "
    )
    for row in table.itertuples():
        documents = [
            json.loads(p.read_text()) for p in (folder / "results" / row.trainings / "evaluations").glob("*.json")
        ]
        [value] = [
            d["metrics"].get("validation_top1_recalibrated") for d in documents if d["evaluation"]["type"] == "Linear"
        ]
        assert value == pytest.approx(row.value, abs=1e-3)


@pytest.mark.slow
def test_a_dry_run_of_a_search_tells_its_cost_and_changes_nothing(searched, tmp_path):
    folder, _ = searched

    def there() -> dict[Path, int]:  # besides the storage, which is opened
        return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "sqlite3" not in p.name}

    before = there()
    said = ablation("search", "look.py", "--dry-run", "--trials", "9", "--workers", "1", cwd=folder).stdout
    assert said.startswith("6 of 9 trials ended, each of 1 seed; 3 left, and 2 runs with fresh seeds\n")
    assert "estimate for 5 runs (1 configuration timed): " in said  # the default's runs exist
    assert before == there()
    (tmp_path / "look.py").write_text(LOOK)
    more = ("--storage", f"sqlite:///{tmp_path}/more/s.sqlite3")
    for storage, fresh in ((), 4), (more, 4), ((*more, "--trials-only"), 0):
        said = ablation("search", "look.py", "--dry-run", *storage, cwd=tmp_path).stdout
        assert said.startswith(f"0 of 6 trials ended, each of 1 seed; 6 left, and {fresh} runs with fresh seeds\n")
        assert f"estimate for {6 + fresh} runs" in said
    assert [path.name for path in tmp_path.iterdir()] == ["look.py"]
    done = ablation("search", "look.py", "--dry-run", cwd=folder).stdout
    assert done == "6 of 6 trials ended, each of 1 seed; 0 left, and 0 runs with fresh seeds\n"


BROKEN = """class Broken(Noise):
    def apply(self, *_):
        raise RuntimeError("no noise")


def search"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            LOOK.replace("batch=32", "batch=512"),
            "Optimization.batch must be at most the number of training images, but got 512",
        ),
        (
            LOOK.replace("Noise(strength", "Broken(strength").replace("def search", BROKEN),
            r"look.py:\d+: RuntimeError: no noise",
        ),
    ],
    ids=["batch", "operator"],
)
def test_a_dry_run_of_a_search_refuses_what_the_search_would(code, words, place, monkeypatch, capsys):
    monkeypatch.chdir(place(code, "look"))
    assert main(["search", "look.py", "--dry-run"]) == 2
    refused = capsys.readouterr().err
    assert re.search(words, refused), refused


# Fine-tuning with a batch that may exceed its images; the pretraining before it would succeed.
TUNED = LOOK.replace("import Experiment", "import Experiment, FineTune").replace(
    "def suggest",
    """def tuned(batch, run):
        return run.replace(evaluations=(*run.evaluations, FineTune(epochs=1, batch=batch)))

    def suggest""",
)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
@pytest.mark.parametrize(("default", "trials"), [(512, 16), (16, 512)])
def test_what_does_not_fit_its_images_is_refused_before_the_first_training(
    default, trials, options, place, monkeypatch, capsys
):
    """Of the default, and of a run that `suggest` returns."""
    asked = 'run(trial.suggest_float("strength", 0.1, 1.0))'
    code = TUNED.replace("default=run(0.5)", f"default=tuned({default}, run(0.5))")
    monkeypatch.chdir(place(code.replace(asked, f"tuned({trials}, {asked})"), "look"))
    assert main(["search", "look.py", "--workers", "1", *options]) == 2
    refused = capsys.readouterr().err
    assert re.search("the batch of the evaluation 'fine_tune' must be at most .* 100 for it", refused), refused
    assert not list(Path("results").glob("*/training.json"))


READS = LOOK.replace(
    "def small(",
    """@dataclass(frozen=True, kw_only=True)
class Reads(Shapes):
    def load(self):
        from ablation.data import Data, Split

        data, add = super().load(), int(open("add.txt").read())
        train = Split(data.train.images.clamp(max=200).add(add), data.train.labels)
        return Data(train, data.validation, data.test, data.classes)


def small(""",
).replace("dataset=Shapes", "dataset=Reads")


@pytest.mark.parametrize("then", [("--trials-only", "--trials", "2"), ("--trials", "1")], ids=["trial", "comparison"])
def test_images_that_changed_since_the_trials_are_refused(then, place, monkeypatch, capsys):
    """Their class has no fingerprint, so no id shows it."""
    monkeypatch.chdir(place(READS, "look"))
    Path("add.txt").write_text("0")
    assert main(["search", "look.py", "--workers", "1", "--trials-only", "--trials", "1"]) == 0
    trained = list(Path("results").glob("*/training.json"))
    loaded.cache_clear()
    monkeypatch.setattr("ablation.data.loading._seen", {})
    Path("add.txt").write_text("9")
    assert main(["search", "look.py", "--workers", "1", *then]) == 2
    refused = capsys.readouterr().err
    assert re.search(r"Reads \('shapes'\): load\(\) must return the same data .* the mean ", refused), refused
    assert list(Path("results").glob("*/training.json")) == trained


@pytest.mark.slow
def test_random_search_is_a_study_of_its_own(searched):
    folder, _ = searched
    ablation("search", "look.py", "--workers", "1", "--sampler", "random", "--trials", "3", cwd=folder)
    table = pd.read_csv(folder / "figures" / "look-tiny.csv")
    assert table["sampler"].value_counts().to_dict() == {"tpe": 6, "random": 3}
    tested = pd.read_csv(folder / "figures" / "look-tiny-test.csv")
    assert set(tested["settings"]) == {"default", "best of TPE", "best of random search"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("return run(trial.suggest_float", "return run(1 / 0 + trial.suggest_float"), "look.py:30: ZeroDivisionError"),
        (
            ("default=run(0.5)", "default=run(0.5), metric='linear_validation_top7_recalibrated'"),
            "must be an accuracy on validation images",
        ),
        (('"strength", 0.1, 1.0', '"strength", 0.1, 0.7'), "strength was .*0.7.*--study NAME"),
    ],
)
def test_a_mistake_in_the_file_is_told_and_nothing_is_lost(change, words, searched, tmp_path):
    folder = shutil.copytree(searched[0], tmp_path / "copy")
    (folder / "look.py").write_text(LOOK.replace(*change))
    name = [] if "strength" in change[1] else ["--study", "another"]
    said = ablation("search", "look.py", "--workers", "1", *name, cwd=folder, check=2).stderr
    assert re.search(words, said), said
    assert "Traceback" not in said
    (folder / "look.py").write_text(LOOK)
    assert "all trials have ended" in ablation("search", "look.py", "--workers", "1", cwd=folder).stderr


@pytest.mark.slow
def test_the_dashboard_is_on_the_loopback(searched):
    pytest.importorskip(
        "optuna_dashboard", reason="Optuna Dashboard is not installed: pip install 'ablation[dashboard]'"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = command("search", "look.py", "--dashboard", "--port", str(port))
    process = subprocess.Popen(arguments, cwd=searched[0], env=environment(), stderr=subprocess.DEVNULL)

    def answer():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as page:
                return page.read().decode()
        except OSError:
            return None

    try:
        assert "look-tiny" in wait_for(answer, 60)
        sockets = Path("/proc/net/tcp").read_text().splitlines()
        listening = [line.split()[1] for line in sockets if line.split()[1].endswith(f":{port:04X}") and " 0A " in line]
        assert listening == [f"0100007F:{port:04X}"]  # 127.0.0.1 and nothing else
    finally:
        process.terminate()
        process.wait(10)


# --------------------------------------------------------------------------------------------------
# Faults: real processes, real signals, a real PostgreSQL


PASSWORD = "corr3ct-horse"


@pytest.fixture(scope="module")
def postgres():
    """Debian's PostgreSQL on a free loopback port, with a password; removed afterwards."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    binaries = found[-1].parent if found else None
    if binaries is None and shutil.which("initdb"):
        binaries = Path(shutil.which("initdb")).parent
    if binaries is None:
        pytest.skip("no PostgreSQL is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="ablation-postgres-"))
    secret = folder / "password"
    secret.write_text(PASSWORD)
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        subprocess.run(["chown", "-R", "postgres", folder], check=True)
    data, server = folder / "data", folder / "log"

    def call(*arguments):
        subprocess.run([*as_user, *map(str, arguments)], check=True, capture_output=True, cwd="/")

    call(binaries / "initdb", "-D", data, "-U", "researcher", "--auth=scram-sha-256", f"--pwfile={secret}")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    call(binaries / "pg_ctl", "-D", data, "-l", server, "-w", "-o", options, "start")
    yield f"postgresql://researcher:{PASSWORD}@127.0.0.1:{port}/postgres"
    call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    return f"sqlite:///{tmp_path}/s.sqlite3" if request.param == "sqlite" else request.getfixturevalue("postgres")


def wait_for(condition, seconds: float = 90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {condition}")


def ended_once(study, budget: int) -> None:
    """Every trial of the budget has ended, none runs or waits, and restarted trials count once."""
    trials = study.get_trials()
    assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(done) == len(counted(trials)) == budget
    assert len({t.params["strength"] for t in done}) == budget
    for left in (t for t in trials if t.state == TrialState.FAIL and t.params):
        assert sum(t.params["strength"] == left.params["strength"] for t in done) == 1, left


class SearchProcess:
    """`ablation search look.py`, trials only, and its study as a reader sees it."""

    def __init__(self, folder: Path, address: str, study: str, *options: str, trials: int = 10):
        (folder / "look.py").write_text(LOOK.replace("trials=6", f"trials={trials}"))
        self.folder, self.name, self.address = folder, study, address
        self.arguments = command("search", "look.py", "--study", study, "--trials-only", *options)
        self.environment = environment() | {"ABLATION_STORAGE": address}
        self.process = self.known = None

    def start(self) -> subprocess.Popen:
        self.process = subprocess.Popen(
            self.arguments, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        return self.process

    def finish(self, code: int = 0) -> str:
        try:
            said = self.process.communicate(timeout=300)[1]
        finally:
            self.process.kill()
        assert self.process.returncode == code, said
        assert PASSWORD not in said
        assert "Traceback" not in said
        return said

    def study(self) -> optuna.Study | None:
        if self.known is None:
            with contextlib.suppress(KeyError, StorageError):  # it is just being created
                self.known = optuna.load_study(study_name=self.name, storage=Storage(self.address).optuna)
        return self.known

    def complete(self) -> int:
        study = self.study()
        return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) if study else 0

    def running(self) -> list[int]:
        study = self.study()
        return [t.number for t in study.get_trials(states=(TrialState.RUNNING,))] if study else []


@pytest.mark.slow
def test_a_killed_worker_costs_time_only(address, tmp_path):
    search = SearchProcess(tmp_path, address, "killed")
    process = search.start()
    wait_for(lambda: search.complete() >= 1)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    assert "was ended by SIGKILL" in search.finish()
    ended_once(search.study(), 10)
    assert [t.number for t in search.study().trials] == list(range(10))  # the trial itself continued
    assert len(list((tmp_path / "results").glob("*/training.json"))) == 10


@pytest.mark.slow
def test_ctrl_c_at_random_times_leaves_a_usable_storage(address):
    """In the middle of a call it once left a lock of SQLite, or a connection that PostgreSQL's driver refused."""
    rng, storage = random.Random(0), Storage(address)
    study = optuna.create_study(storage=storage.optuna, study_name="interrupted", sampler=RandomSampler(seed=0))

    def search():
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.03))
        while True:
            trial = study.ask()
            study.tell(trial, trial.suggest_float("strength", 0, 1))

    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        for _ in range(100):
            with pytest.raises(KeyboardInterrupt):
                search()
            start = time.monotonic()
            repeat_lost(study)
            assert time.monotonic() - start < 10
            assert not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)


def test_ctrl_c_waits_for_the_end_of_a_block_and_a_second_one_does_not():
    reached = []

    @uninterrupted()
    def outer():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end of the inner block")
        reached.append("the end of the outer block")

    @uninterrupted()
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("never")

    @uninterrupted()
    def failing():
        signal.raise_signal(signal.SIGINT)
        raise ValueError

    for interrupted in (outer, twice, failing):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert reached == ["the end of the inner block", "the end of the outer block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_processes_that_open_a_new_storage_at_once_share_it(address):
    """Such as a search and `status`: one creates the tables, and the others wait for them."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)

    def open_it() -> None:
        start.wait()
        assert Storage(address).optuna.get_all_studies() == []

    processes = [context.Process(target=open_it) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4


def test_ctrl_c_stays_ignored_in_a_background_job():
    """A script starts background jobs with Ctrl-C ignored, and it does not end them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_and_again(address, tmp_path):
    """Stopped midway, it ends within seconds, leaves nothing running, and the same command resumes."""
    search = SearchProcess(tmp_path, address, "stopped", "--workers", "2", trials=20)
    process = search.start()
    wait_for(lambda: search.complete() >= 2 and search.running())
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert "stopped; the same command continues" in search.finish(130)
    assert time.monotonic() - start < 30
    assert not search.running()
    assert not list((tmp_path / "results" / "running").glob("*.json"))
    search.start()
    search.finish()
    ended_once(search.study(), 20)


@pytest.mark.slow
def test_an_owner_that_is_killed_leaves_no_trial_behind(address, tmp_path):
    """Its workers end by themselves, and the same command repeats running trials with the same settings."""
    search = SearchProcess(tmp_path, address, "orphans", "--workers", "2", trials=20)
    process = search.start()
    wait_for(lambda: search.complete() >= 1 and len(search.running()) == 2)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    trials = search.study().trials
    left = {number: trials[number].params for number in search.running() if trials[number].params}
    wait_for(lambda: not any(map(alive, workers)), 30)
    search.start()
    search.finish()
    study = search.study()
    ended_once(study, 20)
    repeats = {t.user_attrs["ablation:repeats"]: t.params for t in study.trials if "ablation:repeats" in t.user_attrs}
    assert repeats == left
    assert len(list((tmp_path / "results").glob("*/training.json"))) == 20


@pytest.mark.slow
def test_a_search_has_one_owner(address, tmp_path):
    """Also if the second is on another machine with its own folder."""
    search = SearchProcess(tmp_path, address, "one", "--workers", "2", trials=20)
    process = search.start()
    wait_for(lambda: search.complete() >= 1)
    process.send_signal(signal.SIGSTOP)  # it keeps its locks
    try:
        for more, words in [((), "--results"), (("--results", "there"), "one owner at a time.*--study NAME")]:
            second = subprocess.run(
                [*search.arguments, *more], cwd=tmp_path, env=search.environment, capture_output=True, text=True
            )
            assert second.returncode == 2
            assert re.search(words, second.stderr), second.stderr
            assert PASSWORD not in second.stderr
    finally:
        process.send_signal(signal.SIGCONT)
    search.finish()
    ended_once(search.study(), 20)


def kill_at_random(search: SearchProcess, budget: int, workers=workers_of) -> tuple[int, int]:
    """Kills workers and owners at random times until the budget is spent; returns the counts. After each kill one more
    trial must end before the next kill, or a slow machine would only start processes."""
    rng, kills, owners = random.Random(0), 0, 0
    while search.complete() < budget and owners < 30:
        process = search.start()
        owners += 1
        for _ in range(rng.randint(1, 3)):
            done = search.complete()
            wait_for(lambda done=done, process=process: search.complete() > done or process.poll() is not None, 200)
            time.sleep(rng.uniform(0, 1))
            wait_for(lambda process=process: process.poll() is not None or workers(process), 200)
            victims = workers(process) if process.poll() is None else []
            if victims:
                os.kill(rng.choice(victims), signal.SIGKILL)
                kills += 1
        if process.poll() is None:
            process.kill()
        process.communicate()
    search.start()  # a killed one may have left trials that only an owner can tell
    search.finish()
    return kills, owners


@pytest.mark.slow
def test_kills_at_random_times_count_every_trial_once(address, tmp_path):
    search = SearchProcess(tmp_path, address, "random", "--workers", "2", "--checkpoint-every", "0.0001", trials=16)
    kills, owners = kill_at_random(search, 16)
    assert kills >= 2
    assert owners >= 2
    ended_once(search.study(), 16)
    # Each trial's value in the storage equals its runs' on disk.
    for trial in search.study().trials:
        if trial.state == TrialState.COMPLETE:
            [training] = trial.user_attrs["trainings"].split()
            documents = (tmp_path / "results" / training / "evaluations").glob("*.json")
            metrics = [json.loads(path.read_text()) for path in documents]
            [value] = [d["metrics"]["validation_top1_recalibrated"] for d in metrics if d["label"] == "linear"]
            assert trial.value == value
