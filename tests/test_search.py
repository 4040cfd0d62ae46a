"""The search: what may be searched, that nothing is lost or counted twice, and what it says."""

import json
import os
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

import optuna
import pandas as pd
import pytest
from helpers import GRID, SMALL_EXPERIMENT, ablation, command, environment, small_run
from optuna.trial import TrialState

from ablation.cli import main
from ablation.datasets import Data, Shapes, Split
from ablation.engines import Setup
from ablation.evaluate import KNN, Linear
from ablation.evaluate.features import Evaluation
from ablation.loading import read
from ablation.operators import Crop, Noise
from ablation.plots import HEADLINE
from ablation.plots.trials import figures_of, on_test_images
from ablation.results import Results
from ablation.search import Search
from ablation.search.attempt import next_trial
from ablation.search.command import Said, check_classes, verdict
from ablation.search.confirm import confirmation
from ablation.search.load import load_searches
from ablation.search.storage import Storage
from ablation.search.study import best, counted, open_study, put_back, rescue, to_start
from ablation.search.tables import importances, trials
from ablation.settings import read_settings
from ablation.specs import InvalidSpec

# A search whose trials take a second each.
LOOK = SMALL_EXPERIMENT.replace(
    "import Experiment", "import Experiment\nfrom ablation.search import Search"
) + textwrap.dedent(
    """
    def search(scale):
        scale = small(scale)

        def run(strength):
            return scale.run(scale.simclr(), views=((Crop(), Noise(strength=strength)), ()))

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
# What may be searched


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
        ({"seeds": (0, 100)}, r"hold none of the seeds searched with \(\[100\]\)"),
        ({"pruner": "halving"}, "Search.pruner must be one of 'none', 'median', 'hyperband'"),
        ({"trials": 0}, "Search.trials must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, words):
    with pytest.raises(InvalidSpec, match=words):
        small_search(**changes)


def test_metrics_that_the_runs_measure():
    """Every column of an accuracy on validation images, and no other; those of a user's class by their form."""
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


def test_what_is_compared_is_the_searchs_own_metric():
    """Also where nothing else was measured; the headline metrics that there are follow."""
    assert on_test_images("knn_validation_top1_running") == "knn_test_top1_running"
    assert on_test_images("probe_validation_validation_top1_running") == "probe_validation_test_top1_running"
    table = pd.DataFrame({"metric": ["knn_validation_top1_recalibrated"] * 2, "param_p": [0.1, 0.2]})
    rows = [("best of TPE", 100, 52.0), ("best of TPE", 101, 54.0), ("default", 100, 50.0), ("default", 101, 51.0)]
    tested = pd.DataFrame(rows, columns=["settings", "seed", "knn_test_top1_recalibrated"])
    figure = figures_of(table, tested.columns)["test"]
    assert figure.values == ("knn_test_top1_recalibrated",)
    assert "53.0" in figure.text(tested)
    said = verdict(tested, {"": "knn_validation_top1_recalibrated"})
    assert "best of TPE 53.0 against the default's 50.5, kNN evaluation, test" in said
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
        "a: best of TPE 3.0 against the default's 1.0, kNN evaluation, test top-1 (%): 2.0",
        "b: best of TPE 9.0 against the default's 5.0, linear evaluation, test top-1 (%): 4.0",
    ]


def test_top_5_needs_more_than_five_classes(tmp_path):
    few = FewClasses(train=140, validation=40, test=60, size=16)
    search = small_search(default=small_run(dataset=few), metric="knn_validation_top5_recalibrated")
    with pytest.raises(InvalidSpec, match=r"shapes has 5 classes.*'knn_validation_top1_recalibrated'"):
        check_classes(search)
    check_classes(small_search(metric="knn_validation_top5_recalibrated"))


class FewClasses(Shapes):
    def load(self):
        data = super().load()
        return Data(*(Split(each.images, each.labels % 5) for each in data.splits().values()), data.classes[:5])


def test_a_space_is_tried_before_the_storage_is_touched(tmp_path):
    storage = Storage(f"sqlite:///{tmp_path}/s.sqlite3")
    with pytest.raises(InvalidSpec, match=r"Search.suggest must return a Run, but returned 3"):
        open_study(storage, "s", "tpe", small_search(suggest=lambda trial: 3))
    with pytest.raises(InvalidSpec, match="suggests nothing"):
        open_study(storage, "s", "tpe", small_search(suggest=lambda trial: small_run()))
    assert optuna.get_all_study_summaries(storage.optuna) == []


def test_a_study_keeps_its_question(tmp_path):
    """Another space, metric, seeds or run under the name of an old study are refused, and its trials stay."""
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
    """What was not yet drawn of a conditional space is no change."""

    def rarely(trial):
        strength = trial.suggest_float("strength", 0.1, 1.0)
        if strength > 0.999:  # not among the draws that a study is opened with
            trial.suggest_float("more", 0, 1)
        return small_run(views=((Crop(), Noise(strength=strength)), ()))

    from ablation.search.study import check_space

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


def study_in(folder: Path, sampler: str = "tpe", heartbeat: int = 15):
    storage = Storage(f"sqlite:///{folder}/s.sqlite3", heartbeat)
    return storage, open_study(storage, "s", sampler, small_search())


def test_a_search_that_was_stopped_draws_what_it_would_have_drawn(tmp_path):
    """Fifteen trials, five past TPE's random start, in one go and in three sittings."""

    def parameters(folder, sittings):
        folder.mkdir()
        for count in sittings:
            _, study = study_in(folder)
            study.optimize(lambda trial: -((trial.suggest_float("strength", 0.1, 1.0) - 0.4) ** 2), n_trials=count)
        return [t.params["strength"] for t in study.trials]

    whole = parameters(tmp_path / "a", [15])
    assert whole == parameters(tmp_path / "b", [4, 8, 3])
    assert len(set(whole)) == 15


def test_the_budget_is_of_trials_that_count(tmp_path):
    _, study = study_in(tmp_path)
    trials = [study.ask() for _ in range(4)]
    assert to_start(study, 4) is None  # all under way: one may yet be left
    study.tell(trials[0], 50.0)
    study.tell(trials[1], state=TrialState.PRUNED)
    trials[2].set_user_attr("error", "out of memory")
    study.tell(trials[2], state=TrialState.FAIL)
    assert to_start(study, 4) is None
    study.tell(trials[3], state=TrialState.FAIL)  # its worker died
    assert len(counted(study.trials)) == 3
    assert to_start(study, 4) is True
    study.tell(study.ask(), 40.0)
    assert to_start(study, 4) is False
    assert best(study).number == 0


def test_a_trial_that_is_put_back_is_tried_with_the_same_settings(tmp_path):
    _, study = study_in(tmp_path)
    trial = study.ask()
    strength = trial.suggest_float("strength", 0.1, 1.0)
    study.tell(trial, state=TrialState.FAIL)
    put_back(study, study.trials[0])
    again = study.ask()
    assert again.number == 1
    assert again.suggest_float("strength", 0.1, 1.0) == strength


def test_a_trial_that_always_kills_its_worker_ends_some_time(tmp_path):
    storage, study = study_in(tmp_path)
    study.ask().suggest_float("strength", 0.1, 1.0)
    for _ in range(10):
        running = study.get_trials(states=(TrialState.RUNNING,))
        if not running:
            break
        study.tell(running[0].number, state=TrialState.FAIL)
        storage.optuna.get_heartbeat_stale_trial_callback()(study, running[0])
        if study.get_trials(states=(TrialState.WAITING,)):
            study.ask()
    assert len(study.trials) == 4  # the first and three more
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    found = trials({("", "tpe"): study})  # it counts once, and the table says why
    assert list(found["note"]) == ["4 workers died of it"]
    assert to_start(study, 1) is False


def test_a_trial_that_is_put_back_after_three_deaths_counts_once(tmp_path):
    _, study = study_in(tmp_path)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, system_attrs={"retry_history": [7, 8, 9]}))
    assert len(counted(study.trials)) == 1
    put_back(study, study.trials[0])
    assert [t.state for t in counted(study.trials)] == [TrialState.WAITING]


def test_a_trial_whose_starter_died_at_once_is_rescued(tmp_path):
    """Killed between the start of a trial and its first heartbeat, which Optuna's own retry does not see."""
    storage, study = study_in(tmp_path)
    study.ask().suggest_float("strength", 0.1, 1.0)
    with storage.gate():
        rescue(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_retry_whose_starter_died_at_once_is_rescued_too(tmp_path):
    """What the first worker wrote of itself is not the second's; and a failure that is tried again counts once."""
    storage, study = study_in(tmp_path)
    trial = study.ask()
    trial.suggest_float("strength", 0.1, 1.0)
    trial.set_user_attr("worker", "host 1")
    trial.set_user_attr("error", "killed before it could say that it failed")
    study.tell(trial, state=TrialState.FAIL)
    storage.optuna.get_heartbeat_stale_trial_callback()(study, study.trials[0])
    assert len(counted(study.trials)) == 1
    study.ask()
    with storage.gate():
        rescue(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.FAIL, TrialState.WAITING]
    assert len(counted(study.trials)) == 1


def test_a_smaller_budget_starts_nothing_that_waits(tmp_path):
    _, study = study_in(tmp_path)
    for _ in range(2):
        study.tell(study.ask(), 50.0)
    put_back(study, study.trials[0])
    assert to_start(study, 2) is False
    assert to_start(study, 3) is True


def carried_out(folder: Path, search: Search) -> tuple:
    """The next trial of a study in this process: the trial, and what was reported of it."""
    storage = Storage(f"sqlite:///{folder}/s.sqlite3")
    study = open_study(storage, "s", "tpe", search)
    reported = []
    next_trial(
        search, study, storage, Results(folder / "results"), Setup("cpu"), lambda kind, of=None: reported.append(kind)
    )
    return study, study.trials[-1], reported


def test_a_trials_value_is_the_mean_over_its_seeds(tmp_path):
    _, trial, reported = carried_out(tmp_path, small_search())
    assert (reported[0], reported[-1]) == ("started", "ended")
    values = json.loads(trial.user_attrs["seeds"])
    assert list(values) == ["0", "1"]
    assert trial.value == pytest.approx(sum(values.values()) / 2)
    assert len(trial.user_attrs["trainings"].split()) == 2
    assert len(list((tmp_path / "results").glob("*/training.json"))) == 2


def test_a_value_that_somebody_changed_is_named(tmp_path):
    carried_out(tmp_path, small_search())
    with sqlite3.connect(tmp_path / "s.sqlite3") as storage:
        storage.execute("update trial_values set value = 99.0")
    with pytest.raises(
        InvalidSpec, match=r"'s' must hold .* trial 0 has the value 99 and its seeds have .*--study NAME"
    ):
        carried_out(tmp_path, small_search())


def test_a_trial_behind_the_median_is_pruned_at_its_rung(tmp_path):
    """Six earlier trials had more than any can have at epoch 1, so this one ends there: one seed, nothing written."""
    search = small_search(pruner="median")
    study = open_study(Storage(f"sqlite:///{tmp_path}/s.sqlite3"), "s", "tpe", search)
    for _ in range(6):
        study.add_trial(optuna.create_trial(value=50.0, intermediate_values={1: 101.0}))
    _, trial, _ = carried_out(tmp_path, search.replace(trials=7))
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [1]
    assert "seeds" not in trial.user_attrs
    assert not list((tmp_path / "results").glob("*/training.json"))


def test_a_loss_that_is_no_number_prunes_and_other_failures_count(tmp_path, monkeypatch):
    def not_a_number(*_):
        raise FloatingPointError("the loss of SimCLR became nan in epoch 1 of 1")

    monkeypatch.setattr("ablation.search.trial.compute_job", not_a_number)
    _, trial, _ = carried_out(tmp_path, small_search())
    assert (trial.state, trial.user_attrs["note"][:8]) == (TrialState.PRUNED, "the loss")

    def full(*_):
        raise MemoryError("out of memory")

    monkeypatch.setattr("ablation.search.trial.compute_job", full)
    study, trial, reported = carried_out(tmp_path, small_search())
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["error"].strip().endswith("MemoryError: out of memory")
    assert reported[-1] == "ended"
    assert len(counted(study.trials)) == 2


def test_tables_hold_what_counts(tmp_path):
    """A row per trial that ended, none for one that was given away; importance of the parameter that matters."""

    def both(trial):
        trial.suggest_float("idle", 0, 1)
        return suggest(trial)

    study = open_study(Storage(f"sqlite:///{tmp_path}/s.sqlite3"), "s", "random", small_search(suggest=both))
    for number in range(31):
        trial = study.ask()
        strength, _ = trial.suggest_float("strength", 0.1, 1.0), trial.suggest_float("idle", 0, 1)
        if number == 3:
            study.tell(trial, state=TrialState.FAIL)
            continue
        trial.set_user_attr("seeds", json.dumps({0: 49.0 - strength, 1: 51.0 - strength}))
        study.tell(trial, 50 - strength)
    table = trials({("", "random"): study})
    assert table["trial"].tolist() == [0, 1, 2, *range(4, 31)]  # as the storage, the log and `status` number them
    assert table["value"].tolist() == pytest.approx((50 - table["param_strength"]).tolist())
    assert table["sd"].tolist() == pytest.approx([2**0.5] * 30)
    found = importances({("", "random"): study}).set_index("parameter")
    assert found.loc["strength", "importance"] > 0.9 > 0.1 > found.loc["idle", "importance"]
    assert found["n"].tolist() == [30, 30]
    for name, figure in figures_of(table).items():
        if not figure.source:
            assert figure.draw(table), name


def test_progress_counts_one_trial_a_line(tmp_path, capsys):
    """Also where the next one has ended before the first is printed; numbers are the storage's."""
    _, study = study_in(tmp_path)
    asked = [study.ask() for _ in range(3)]
    study.tell(asked[0], state=TrialState.FAIL)  # its worker died: it does not count
    for trial in asked[1:]:
        trial.suggest_float("strength", 0.1, 1.0)
        study.tell(trial, 50.0)
    said = Said({"s": (2, study)}, task=None)
    for trial in study.trials[1:]:
        said(0, "ended", ("s", trial))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["[1/2] s trial 1", "[2/2] s trial 2"]


def test_nothing_is_compared_without_the_default():
    table = pd.DataFrame({"settings": "best of TPE", "seed": [100, 101], "linear_test_top1_recalibrated": [1.0, 2.0]})
    metrics = {"": "linear_validation_top1_recalibrated"}
    assert verdict(table, metrics) == "no run of the default is finished: nothing to compare with"
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
    with pytest.raises(InvalidSpec, match=words) as raised:
        Storage(address)
    shown = "".join(map(str, (raised.value, raised.value.__cause__, raised.value.__context__)))
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or "s3cret" not in shown


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InvalidSpec, match=f"--storage must be reachable, but sqlite:///{tmp_path}/file/s.sqlite3 is not"
    ):
        Storage(f"sqlite:///{tmp_path}/file/s.sqlite3")


def test_a_gate_is_never_opened_through_a_link_and_never_emptied(tmp_path):
    """It may be a file of somebody else."""
    precious, gate = tmp_path / "precious", tmp_path / "s.sqlite3.gate"
    precious.write_text("mine")
    gate.symlink_to(precious)
    with pytest.raises(InvalidSpec, match=r"--storage must be reachable.* link"):
        Storage(f"sqlite:///{tmp_path}/s.sqlite3")
    gate.unlink()
    gate.write_text("of another version")
    Storage(f"sqlite:///{tmp_path}/s.sqlite3")
    assert (precious.read_text(), gate.read_text()) == ("mine", "of another version")


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
    assert re.search(rf"how the searches stand is not known: .*{there}", said), said
    assert elsewhere.stat().st_size == 0


def test_the_best_of_equal_trials_is_the_first_everywhere(tmp_path):
    _, study = study_in(tmp_path)
    for value in (40.0, 50.0, 50.0):
        trial = study.ask()
        trial.suggest_float("strength", 0.1, 1.0)
        study.tell(trial, value)
    table = trials({("", "tpe"): study})
    assert f"with strength {best(study).params['strength']}" in figures_of(table)["history"].text(table)
    assert best(study).number == 1


def test_sqlite_is_serialized(tmp_path):
    storage = Storage(f"sqlite:///{tmp_path}/s.sqlite3")
    with storage.optuna.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        other = Storage(f"sqlite:///{tmp_path}/s.sqlite3")  # opened while this one reads: nothing is written
        del other


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
    assert not [column for column in table if "test" in column]  # nothing is chosen on test images
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
    (folder / "another").mkdir(exist_ok=True)
    (folder / "another" / "look.py").write_text(f"# Another.\n{LOOK}".replace("batch=32", "batch=30"))
    refused = ablation("search", "another/look.py", "--dry-run", cwd=folder, check=2).stderr
    assert "Rename one file" in refused, refused


def test_what_is_compared_has_the_precision_of_the_search(tmp_path):
    """A worker builds the runs again from what it is sent."""
    (tmp_path / "look.py").write_text(LOOK.replace(', precision="float32"', ""))
    source = read(str(tmp_path / "look.py"), "tiny", precision="bfloat16")
    cells = confirmation(source, load_searches(source), {}).cells()
    assert {cell.run.training.optimization.precision for cell in cells} == {"bfloat16"}


@pytest.mark.parametrize("command", ["run", "search"])
def test_a_file_with_an_experiment_and_a_search_is_refused(command, tmp_path, monkeypatch, capsys):
    """Their tables would have one name."""
    monkeypatch.chdir(tmp_path)
    Path("look.py").write_text(LOOK + GRID.removeprefix(SMALL_EXPERIMENT))
    assert main([command, "look.py", "--dry-run"]) == 2
    assert re.search("look.py.*an experiment and a search.*file of its own", capsys.readouterr().err)


@pytest.mark.slow
def test_trials_are_ordinary_runs(searched):
    """Typed again nothing is run; the value is that of the run's own files."""
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

    def there() -> dict[Path, int]:  # beside the storage, which is opened
        return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "sqlite3" not in p.name}

    before = there()
    said = ablation("search", "look.py", "--dry-run", "--trials", "9", "--workers", "1", cwd=folder).stdout
    assert said.startswith("6 of 9 trials ended, each of 1 seed; 3 left, and 2 runs with fresh seeds\n")
    assert "expected of 5 runs, from probes of 1 kind of runs: " in said  # those of the default are there
    assert before == there()
    (tmp_path / "look.py").write_text(LOOK)
    more = ("--storage", f"sqlite:///{tmp_path}/more/s.sqlite3")
    for storage, fresh in ((), 4), (more, 4), ((*more, "--trials-only"), 0):
        said = ablation("search", "look.py", "--dry-run", *storage, cwd=tmp_path).stdout
        assert said.startswith(f"0 of 6 trials ended, each of 1 seed; 6 left, and {fresh} runs with fresh seeds\n")
        assert f"expected of {6 + fresh} runs" in said
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
def test_a_dry_run_of_a_search_refuses_what_the_search_would(code, words, tmp_path):
    (tmp_path / "look.py").write_text(code)
    refused = ablation("search", "look.py", "--dry-run", cwd=tmp_path, check=2).stderr
    assert re.search(words, refused), refused
    assert "Traceback" not in refused


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
    """Debian's PostgreSQL on a free port of the loopback, with a password; gone afterwards."""
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


def running(study) -> dict[int, int]:
    """Trial numbers by the process ids of their workers."""
    found = study.get_trials(states=(TrialState.RUNNING,))
    return {int(t.user_attrs["worker"].split()[1]): t.number for t in found if "worker" in t.user_attrs}


def wait_for(condition, seconds: float = 90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {condition}")


def ended_once(study, budget: int) -> None:
    """Every trial of the budget has ended, none runs or waits, and what was tried again was counted once."""
    trials = study.get_trials()
    assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(done) == len(counted(trials)) == budget
    assert len({t.params["strength"] for t in done}) == budget
    for left in (t for t in trials if t.state == TrialState.FAIL and t.params):
        assert sum(t.params["strength"] == left.params["strength"] for t in done) == 1, left


@pytest.mark.slow
def test_a_killed_and_a_stopped_worker(address, tmp_path):
    """Four workers and forty trials; one worker is killed, one stopped for longer than silence is borne."""
    (tmp_path / "look.py").write_text(LOOK.replace("trials=6", "trials=40"))
    arguments = command("search", "look.py", "--workers", "4", "--heartbeat", "1", "--study", "faults", "--trials-only")
    where = environment() | {"ABLATION_STORAGE": address}
    process = subprocess.Popen(arguments, cwd=tmp_path, env=where, stderr=subprocess.PIPE, text=True)
    try:
        [search] = load_searches(read(str(tmp_path / "look.py"), "tiny")).values()
        study = open_study(Storage(address, 1), "faults", "tpe", search)
        killed = wait_for(lambda: list(running(study)))[0]
        lost = running(study).get(killed)
        os.kill(killed, signal.SIGKILL)

        def stop_one():
            for worker, number in running(study).items():
                if worker == killed:
                    continue
                os.kill(worker, signal.SIGSTOP)
                time.sleep(0.2)
                if running(study).get(worker) == number:
                    return worker, number
                os.kill(worker, signal.SIGCONT)
            return None

        stopped, silent = wait_for(stop_one)
        wait_for(lambda: study.get_trials()[silent].state == TrialState.FAIL)
        os.kill(stopped, signal.SIGCONT)
        said = process.communicate(timeout=240)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    ended_once(study, 40)
    assert {silent} <= {t.number for t in study.get_trials() if t.state == TrialState.FAIL}
    assert lost is None or study.get_trials()[lost].state in (TrialState.FAIL, TrialState.COMPLETE)
    assert "was ended by SIGKILL" in said
    assert f"trial {silent} was given to another worker" in said
    assert PASSWORD not in said
    table = sorted(path.parent.name for path in (tmp_path / "results").glob("*/training.json"))
    assert len(table) >= 40


@pytest.mark.slow
def test_ctrl_c_and_again(address, tmp_path):
    """Stopped in the middle it ends within seconds, leaves nothing running, and the same command continues."""
    (tmp_path / "look.py").write_text(LOOK.replace("trials=6", "trials=12"))
    arguments = command("search", "look.py", "--workers", "2", "--study", "stopped", "--trials-only")
    where = environment() | {"ABLATION_STORAGE": address}
    process = subprocess.Popen(arguments, cwd=tmp_path, env=where, stderr=subprocess.PIPE, text=True)
    [search] = load_searches(read(str(tmp_path / "look.py"), "tiny")).values()
    study = open_study(Storage(address), "stopped", "tpe", search)
    try:
        wait_for(lambda: len(study.get_trials(states=(TrialState.COMPLETE,))) >= 2 and running(study))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "stopped; the same command continues" in said
    assert "Traceback" not in said
    assert not study.get_trials(states=(TrialState.RUNNING,))
    done = subprocess.run(arguments, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    ended_once(study, 12)
    assert PASSWORD not in said + done.stderr


@pytest.mark.slow
def test_an_owner_that_is_killed_leaves_no_trial_behind(address, tmp_path):
    """Its workers put their trials back and end; another command carries on at once."""
    (tmp_path / "look.py").write_text(LOOK.replace("trials=6", "trials=10"))
    arguments = command("search", "look.py", "--workers", "2", "--study", "orphans", "--trials-only")
    where = environment() | {"ABLATION_STORAGE": address}
    process = subprocess.Popen(arguments, cwd=tmp_path, env=where, stderr=subprocess.DEVNULL)
    [search] = load_searches(read(str(tmp_path / "look.py"), "tiny")).values()
    study = open_study(Storage(address), "orphans", "tpe", search)
    wait_for(lambda: len(running(study)) == 2)
    workers = list(running(study))
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 30)
    assert not running(study)
    done = subprocess.run(arguments, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    ended_once(study, 10)


@pytest.mark.slow
def test_two_commands_share_a_search(address, tmp_path):
    """As on two machines: each with its own results folder."""
    (tmp_path / "look.py").write_text(LOOK.replace("trials=6", "trials=30"))
    where = environment() | {"ABLATION_STORAGE": address}
    both = [
        subprocess.Popen(
            command("search", "look.py", "--workers", "1", "--study", "two", "--trials-only", "--results", folder),
            cwd=tmp_path, env=where, stderr=subprocess.PIPE, text=True,
        )
        for folder in ("here", "there")
    ]  # fmt: skip
    for process in both:
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 0, said
    [search] = load_searches(read(str(tmp_path / "look.py"), "tiny")).values()
    study = open_study(Storage(address), "two", "tpe", search)
    ended_once(study, 30)
    assert len({t.user_attrs["worker"] for t in study.get_trials()}) == 2
