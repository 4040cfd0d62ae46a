"""What is left of a search and what that will cost, from probes of runs drawn at random from its space."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import optuna

from ablation import runner
from ablation.cost import REPRESENTATIVES, Estimate, check_classes, estimate
from ablation.engines import Job, Work
from ablation.loading import Source, explained
from ablation.progress import many
from ablation.results import Results, identified
from ablation.search.confirm import confirmation
from ablation.search.spec import Search
from ablation.search.storage import Storage
from ablation.search.study import SAMPLERS, check_question, definition, draws, ended, names_of_studies
from ablation.specs import Experiment


def foretell(
    source: Source, searches: Mapping[str, Search], study: str, sampler: str, budget: int | None, address: str,
    results: Results, devices: Sequence[str], workers: int, *, trials_only: bool,
) -> None:  # fmt: skip
    """Prints how many trials are left and, unless `trials_only`, runs of the comparison, and their cost.

    No trial is changed, and a SQLite file that is not there is not made. Raises what the search itself would.
    """
    storage = Storage(address) if Storage.is_there(address) else None
    known = set(optuna.get_all_study_names(storage.optuna)) if storage else set()
    studies = {
        (case, of): optuna.load_study(study_name=name, storage=storage.optuna)
        for of in SAMPLERS
        for case, name in names_of_studies(study, searches, of).items()
        if name in known
    }
    asked = {case: definition(search) for case, search in searches.items()}
    for (case, _), found in studies.items():
        check_question(found, asked[case])
    done = {case: ended(studies[case, sampler]) if (case, sampler) in studies else 0 for case in searches}
    todo = {case: max(0, (budget or search.trials) - done[case]) for case, search in searches.items()}
    settled = {key: found for key, found in studies.items() if key[1] != sampler or not todo[key[0]]}
    compared = confirmation(source, searches, settled).cells()
    fresh = {}
    for case, search in searches.items():
        cells = tuple(cell for cell in compared if cell.coords.get("case", "") == case)
        missing = len(runner.plan(identified(Experiment(cells=cells, figures={})), results).jobs)
        fresh[case] = 0 if trials_only else missing + len(search.fresh) * (todo[case] > 0)
    whole = Estimate(0, 0.0, 0.0, 0, 1, 0)
    for case, search in searches.items():
        print(
            f"{case + ': ' if case else ''}{done[case]} of {many(done[case] + todo[case], 'trial')} ended, each of "
            f"{many(len(search.seeds), 'seed')}; {todo[case]} left, and {many(fresh[case], 'run')} with fresh seeds",
            flush=True,
        )
        # Cases follow one another, and so do the seeds of a trial; the runs with fresh seeds are of all cases.
        if todo[case] or fresh[case]:
            each = explained(source, lambda search=search: probed(search, devices))
            whole += Estimate(0, 0.0, 0.0, 0, 1, each.probes)
            whole += _of(each, todo[case] * len(search.seeds), min(workers, todo[case]))
            whole += _of(each, fresh[case], min(workers, sum(fresh.values())))
    if whole.runs:
        print(whole)


def probed(search: Search, devices: Sequence[str]) -> Estimate:
    """Of a few runs of its space, which its `definition` has found. Raises what the probes raise."""
    drawn = []
    for trial in draws():
        with contextlib.suppress(optuna.TrialPruned):
            drawn.append(search.check_run(search.suggest(trial)))
        if len(drawn) == REPRESENTATIVES:
            break
    jobs = [Job("", (), "", Work(run.training, run.evaluations)) for run in drawn]
    runner.check_data(jobs)
    check_classes(jobs, devices[0])
    return estimate(jobs, devices, 1)


def _of(few: Estimate, runs: int, at_once: int) -> Estimate:
    """Of so many such runs."""
    share, at_once = runs / few.runs, max(1, at_once)
    seconds = share * few.seconds
    return Estimate(runs, seconds, seconds / at_once, round(share * few.bytes), at_once, 0)
