"""`ablation search`: from a file with a search to its trials, the comparison on test images, tables and figures."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.study import Study
from optuna.trial import TrialState

from ablation import runner
from ablation.datasets import loaded
from ablation.engines import Setup
from ablation.files import write_file
from ablation.live import Live
from ablation.loading import Source, check_owner
from ablation.plots import draw_all
from ablation.plots.base import named, table_of
from ablation.plots.trials import figures_of, on_test_images
from ablation.progress import duration, many, reporter
from ablation.record import settings_of
from ablation.results import Results, identified, table
from ablation.search.attempt import STORAGE_FAULTS
from ablation.search.confirm import NAMES, confirmation
from ablation.search.cost import foretell
from ablation.search.load import load_searches
from ablation.search.spec import Search
from ablation.search.storage import SILENT, Storage, reason
from ablation.search.study import SAMPLERS, best, counted, earlier_tries, ended, names_of_studies, open_study, settings
from ablation.search.tables import curves, importances, trials
from ablation.search.workers import Task, in_workers
from ablation.settings import path_of
from ablation.specs import Cell, Experiment, InvalidSpec, identity
from ablation.statistics import difference, paired, spread
from ablation.tables import to_csv


@dataclass(frozen=True)
class Place:
    """Where a search keeps what."""

    storage: Storage
    address: str
    results: Results
    figures: Path


def run_trials(
    source: Source, searches: Mapping[str, Search], place: Place, study: str, sampler: str, budget: int | None,
    setup: Setup, devices: Sequence[str], workers: int,
) -> None:  # fmt: skip
    """Every trial that is missing, by worker processes; says what each found."""
    names = names_of_studies(study, searches, sampler)
    studies = {case: open_study(place.storage, names[case], sampler, search) for case, search in searches.items()}
    defaults = Experiment(
        cells=tuple(
            Cell(coords={**({"case": case} if case else {}), "seed": seed}, run=search.default.with_seed(seed))
            for case, search in searches.items()
            for seed in search.seeds
        ),
        figures={},
    )
    runner.check_data(runner.plan(identified(defaults), place.results).jobs)
    for search in searches.values():
        check_classes(search)
    task = Task(
        source=source, address=place.address, heartbeat=place.storage.heartbeat, studies=names, sampler=sampler,
        trials=budget, results=place.results.root, setup=setup, devices=devices,
    )  # fmt: skip
    for case, found in studies.items():
        found.set_user_attr("budget", budget or searches[case].trials)  # for `ablation status`
    said = Said({names[case]: (budget or search.trials, studies[case]) for case, search in searches.items()}, task)
    if all(said.ended(name) >= total for name, (total, _) in said.studies.items()):
        print(f"{study} ({sampler}): all trials have ended", file=sys.stderr)
        return
    whole, done = sum(total for total, _ in said.studies.values()), sum(map(said.ended, said.studies))
    print(
        f"{study} ({sampler}): {many(whole, 'trial')}, {done} ended, on {', '.join(devices)} with "
        f"{many(workers, 'worker')}, kept in {place.storage.shown}",
        file=sys.stderr,
    )
    in_workers(task, workers, said)


def check_classes(search: Search) -> None:
    """Top-5 is measured where there are more than five classes."""
    dataset = search.default.training.dataset
    count = len(loaded(dataset, "cpu").classes)
    if count <= 5 and "_top5_" in search.metric:
        raise InvalidSpec(
            f"Search.metric must be measured by the runs, but got {search.metric!r}, and {dataset.label} has {count} "
            f"classes, too few for top-5. Write {search.metric.replace('_top5_', '_top1_')!r}."
        )


class Said:
    """What a person reads while trials run: a line for each that ends, and what became of workers."""

    def __init__(self, studies: dict[str, tuple[int, Study]], task: Task):
        self.studies, self.task, self.silent = studies, task, True
        self.start, self.first = time.monotonic(), sum(map(self.ended, studies))

    def ended(self, name: str) -> int:
        return ended(self.studies[name][1])

    def __call__(self, worker: int, kind: str, content: Any) -> None:
        if kind == "died":
            print(
                f"worker {worker}: {content}; another takes its place. Its trial is tried again when it has been "
                f"silent for {SILENT * self.task.heartbeat} s.",
                file=sys.stderr,
            )
        elif kind == "taken over":
            name, number = content
            print(f"{name}: trial {number} was given to another worker while this one was silent", file=sys.stderr)
        elif kind == "started" and self.silent:
            self.silent = False
            name, number, found = content
            print(
                f"[{self.ended(name)}/{self.studies[name][0]}] under way: {name} trial {number}: {found}",
                file=sys.stderr,
                flush=True,
            )
        elif kind == "ended":
            self._ended(*content)

    def _ended(self, name: str, trial: optuna.trial.FrozenTrial) -> None:
        total, study = self.studies[name]
        done = sum(map(self.ended, self.studies))
        whole = sum(t for t, _ in self.studies.values())
        trials = study.get_trials(deepcopy=False)
        values = [t.value for t in trials if t.state == TrialState.COMPLETE]
        left = (time.monotonic() - self.start) / max(1, done - self.first) * max(0, whole - done)
        best = f" (best {max(values):.1f})" if values else ""
        found = f"{trial.value:.1f}{best}" if trial.state == TrialState.COMPLETE else trial.state.name.lower()
        tried = ", ".join(map(str, earlier_tries(trial, trials)))
        number = f"{trial.number}, begun as {tried}" if tried else str(trial.number)
        before = [
            t for t in counted(trials) if t.state.is_finished() and t.datetime_complete <= trial.datetime_complete
        ]
        line = f"[{len(before)}/{total}] {name} trial {number}: {found}; {settings(trial)}"
        print(f"{line}; {duration(left)} left", file=sys.stderr, flush=True)


def compare(
    source: Source,
    searches: Mapping[str, Search],
    studies: dict[tuple[str, str], Study],
    place: Place,
    setup: Setup,
    devices: Sequence[str],
    workers: int,
) -> tuple:
    """The best settings and the default with fresh seeds on test images: the cells and how many runs failed."""
    confirming = confirmation(source, searches, studies)
    experiment = Experiment(cells=confirming.cells(), figures={})
    plan = runner.plan(identified(experiment), place.results)
    failed = 0
    if plan.jobs:
        print(
            f"{source.name}: {many(len(plan.jobs), 'run')} with fresh seeds to compare with the default",
            file=sys.stderr,
        )
        with place.results.owned(wait=True):
            plan = runner.plan(identified(experiment), place.results)
            name = f"{source.name}-{source.scale} comparison"
            bars = Live(reporter(len(plan.jobs)), place.results, name)
            try:
                engine = runner.engine_on(devices, confirming, setup, workers)
                failed = runner.execute(plan.jobs, place.results, engine, workers, bars, setup)
            finally:
                bars.close()
    return experiment, failed


def write(
    source: Source,
    experiment: Experiment,
    studies: dict[tuple[str, str], Study],
    metrics: Mapping[str, str],
    place: Place,
    options: Sequence[str] = (),
) -> tuple[list[Path], int]:
    """Tables and figures of a search, and what they say; how many figures could not be drawn. metrics: by case;
    options: of the command that was typed."""
    stem = f"{source.name}-{source.scale}"
    csv = place.figures / f"{stem}.csv"
    found = trials(studies)
    tested = table(experiment, place.results)
    figures = figures_of(found, tested.dropna(axis=1, how="all").columns)
    notes = {name: figure.note for name, figure in figures.items() if getattr(figure, "note", "")}
    compared = settings_of(source, notes, identified(experiment), place.figures, "search", options)
    paths = [csv, path_of(csv)]
    write_file(csv, to_csv(found, ["case", "sampler"]))
    for name, more in (
        ("test", tested), ("importance", importances(studies)), ("curves", curves(studies, place.results)),
    ):  # fmt: skip
        path = csv.with_name(f"{stem}-{name}.csv")
        if len(more):
            write_file(path, to_csv(more, ["case", "sampler", "settings", "seed"]))
            paths.append(path)
        else:
            path.unlink(missing_ok=True)
    write_file(path_of(csv), compared.content(csv))  # last, with the digests of the tables
    drawn, said, wrong = draw_all({n: f for n, f in figures.items() if table_of(f, csv) in paths}, csv)
    for sentence in wrong:
        print(f"ablation: {sentence}", file=sys.stderr)
    print("\n\n".join(filter(None, [said, verdict(tested, metrics)])))
    return paths + drawn, len(wrong)


def verdict(tested: pd.DataFrame, metrics: Mapping[str, str]) -> str:
    """Of each case: the best settings minus the default, on test images, with fresh seeds, by the case's metric."""
    lines = []
    for metric in dict.fromkeys(metrics.values()):
        cases = [case for case, of in metrics.items() if of == metric]
        rows = tested[tested["case"].isin(cases)] if "case" in tested else tested
        lines += _compared(rows, on_test_images(metric))
    return "\n".join(lines) or "no run with fresh seeds is finished, so nothing is compared with the default"


def _compared(tested: pd.DataFrame, value: str) -> list[str]:
    """value: the column that is compared; the cells of all cases share one spread."""
    if value not in tested or tested[value].isna().all():
        return []
    by = [axis for axis in ("case", "settings") if axis in tested]
    found = spread(tested, by, value)
    lines = []
    for case, cells in found.cells.groupby("case", sort=False) if "case" in by else [("", found.cells)]:
        cells = cells.set_index("settings")
        rows = tested[tested["case"] == case] if case else tested
        for label in (label for label in NAMES.values() if label in cells.index):
            if "default" not in cells.index:
                lines.append(f"{case + ': ' if case else ''}no run of the default is finished: nothing to compare with")
                break
            one, other = cells.loc[label], cells.loc["default"]
            d = difference(one["mean"], other["mean"], one["error"], other["error"], found.freedom)
            p = paired(rows, "settings", value, label, "default")
            lines.append(
                f"{case + ': ' if case else ''}{label} {one['mean']:.1f} against the default's {other['mean']:.1f}, "
                f"{named(value)}: {d['difference']:.1f} (95 %: {d['low']:.1f} to {d['high']:.1f}), "
                f"n = {int(one['n'])} fresh seeds; paired over seeds {p['difference']:.1f} "
                f"(95 %: {p['low']:.1f} to {p['high']:.1f})"
            )
    return lines


def search(source: Source, options) -> int:
    """What the command does; see `ablation search --help`. Raises InvalidSpec with what went wrong."""
    try:
        return _search(source, options)
    except STORAGE_FAULTS as error:
        shown = Storage.shown_of(options.storage) if options.storage else "the file beside the results"
        raise InvalidSpec(
            f"the storage {shown} stopped answering: {reason(error)} The same command continues."
        ) from None


def _search(source: Source, options) -> int:
    searches = load_searches(source)
    results = Results(options.results)
    fresh = {identity(each.default.with_seed(seed).training) for each in searches.values() for seed in each.fresh}
    check_owner(Path(options.figures) / f"{source.name}-{source.scale}.json", source, fresh, "--figures")
    study = options.study or f"{source.name}-{source.scale}"
    devices = runner.choose_devices(options.device)
    workers = runner.choose_workers(options.workers, devices)
    setup = runner.setup_of(options, devices[0])
    address = options.storage or address_beside(results)
    if options.dry_run:
        foretell(
            source, searches, study, options.sampler, options.trials, address, results, devices, workers,
            trials_only=options.trials_only,
        )  # fmt: skip
        return 0
    storage = Storage(address, options.heartbeat)
    if options.dashboard:
        return dashboard(storage, options.port)
    place = Place(storage, address, results, Path(options.figures))
    run_trials(source, searches, place, study, options.sampler, options.trials, setup, devices, workers)
    if options.trials_only:
        return 0
    known = {s.study_name for s in optuna.get_all_study_summaries(storage.optuna)}
    studies = {
        (case, sampler): open_study(storage, name, sampler, searches[case])
        for sampler in SAMPLERS
        for case, name in names_of_studies(study, searches, sampler).items()
        if name in known
    }
    experiment, failed = compare(source, searches, studies, place, setup, devices, workers)
    metrics = {case: search.metric for case, search in searches.items()}
    paths, missing = write(source, experiment, studies, metrics, place, _typed(options))
    print(*paths, sep="\n")
    return 1 if failed or missing else 0


def _typed(options) -> list[str]:
    """The options that say which trials there are."""
    found = {"--sampler": options.sampler, "--trials": options.trials, "--study": options.study}
    return [f"{option} {value}" for option, value in found.items() if value is not None and value != "tpe"]


def address_beside(results: Results) -> str:
    """Of the storage, where none is named."""
    return f"sqlite:///{results.root / 'search.sqlite3'}"


def states(results: Results, address: str | None) -> list[str]:
    """A line for each study of a storage, how its trials stand, for `ablation status`."""
    storage = Storage(address or address_beside(results))
    lines = []
    for name in optuna.get_all_study_names(storage.optuna):
        study = optuna.load_study(study_name=name, storage=storage.optuna)
        trials = counted(study.get_trials(deepcopy=False))
        count = Counter(trial.state.name.lower() for trial in trials)
        budget = study.user_attrs.get("budget", len(trials))
        of = f" of {budget}" if budget > len(trials) else ""
        shown = ", ".join(
            [
                f"{len(trials)}{of} trials" if of else many(len(trials), "trial"),
                *(f"{number} {state}" for state, number in sorted(count.items())),
            ]
        )
        waits = sum(trial.state.is_finished() for trial in trials) < budget and not count["running"]
        found = best(study)
        shown += f"; best {found.value:.1f}, trial {found.number}: {settings(found)}" if found else ""
        shown += "; the same command continues" if waits else ""
        lines.append(f"{name} (search): {shown}")
        lines += [
            f"  running: trial {trial.number} by {trial.user_attrs.get('worker', 'a worker that just starts')} since "
            f"{trial.datetime_start:%Y-%m-%d %H:%M}: {settings(trial)}"
            for trial in trials
            if trial.state == TrialState.RUNNING
        ]
    return lines


def dashboard(storage: Storage, port: int) -> int:
    """Optuna Dashboard on the storage, reachable from this machine only."""
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise InvalidSpec(
            "--dashboard needs Optuna Dashboard, which is not installed. Run in the suite's folder: "
            "pip install -e '.[dashboard]'"
        ) from error
    print(f"http://127.0.0.1:{port}/ shows {storage.shown}; Ctrl-C ends it", file=sys.stderr)
    run_server(storage.optuna, host="127.0.0.1", port=port)
    return 0
