"""The cost of the missing trials and runs of a search, from probes of random runs of its space."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import optuna

from ablation.execution.estimate import REPRESENTATIVES, Estimate, check_classes, estimate
from ablation.execution.executor import Job
from ablation.execution.plan import make_plan
from ablation.execution.store import identified
from ablation.search.checks import SearchChecks
from ablation.search.holdout import Holdout
from ablation.search.session import Session
from ablation.search.spec import Search
from ablation.search.study import check_question, definition, draws, ended
from ablation.study.experiment_file import explained
from ablation.system.terminal import many


def dry_run(session: Session, devices: Sequence[str], workers: int, *, trials_only: bool) -> None:
    """Prints the numbers of missing trials and, unless `trials_only`, of runs of the comparison, and their cost.

    Changes no trial and creates no SQLite file. Raises the same errors as the search.
    """
    asked = {case: definition(search) for case, search in session.searches.items()}
    studies = session.studies()
    for (case, _), study in studies.items():
        check_question(study, asked[case])
    own = {case: study for (case, sampler), study in studies.items() if sampler == session.sampler}
    done = {case: ended(own[case]) if case in own else 0 for case in session.searches}
    left = {case: max(0, search.trials - done[case]) for case, search in session.searches.items()}
    fresh = dict.fromkeys(session.searches, 0) if trials_only else _fresh_runs(session, studies, left)
    check = SearchChecks(session.source, session.searches, own, session.results)
    parts = []
    for case, search in session.searches.items():
        print(
            f"{case + ': ' if case else ''}{done[case]} of {many(done[case] + left[case], 'trial')} ended, each of "
            f"{many(len(search.seeds), 'seed')}; {left[case]} left, and {many(fresh[case], 'run')} with fresh seeds",
            flush=True,
        )
        if left[case] or fresh[case]:
            jobs = [Job.of(search.default), *_random_jobs(search)]
            check(jobs, metric=search.metric)
            probe = explained(session.source, lambda jobs=jobs: _probe(jobs[1:], devices))
            runs = left[case] * len(search.seeds)
            # Cases run one after the other; the runs with fresh seeds of all cases run together.
            parts += [_scaled(probe, runs, min(workers, runs), probes=probe.probes)]
            parts += [_scaled(probe, fresh[case], min(workers, sum(fresh.values())), probes=0)]
    if parts:
        print(sum(parts[1:], start=parts[0]))


def _fresh_runs(session: Session, studies: dict, left: dict[str, int]) -> dict[str, int]:
    """The number of missing runs of the comparison by case, including those of a best trial not yet known."""
    known = {key: study for key, study in studies.items() if key[1] != session.sampler or not left[key[0]]}
    holdout = Holdout(session.searches, known)
    missing = {job.training_id for job in make_plan(identified(holdout.experiment), session.results).jobs}
    cases = [holdout.suggestions[training_id][0].case for training_id in missing]
    return {case: cases.count(case) + len(search.fresh) * (left[case] > 0) for case, search in session.searches.items()}


def _random_jobs(search: Search) -> list[Job]:
    """A few random runs of the search space."""
    drawn = []
    for trial in draws():
        with contextlib.suppress(optuna.TrialPruned):
            drawn.append(Job.of(search.check_run(search.suggest(trial))))
        if len(drawn) == REPRESENTATIVES:
            break
    return drawn


def _probe(jobs: list[Job], devices: Sequence[str]) -> Estimate:
    """Their cost. Raises the errors of the probes."""
    check_classes(jobs, devices[0])
    return estimate(jobs, devices, 1)


def _scaled(probe: Estimate, runs: int, at_once: int, *, probes: int) -> Estimate:
    """The estimate scaled to this number of runs."""
    share, at_once = runs / probe.runs, max(1, at_once)
    seconds = share * probe.seconds
    return Estimate(runs, seconds, seconds / at_once, round(share * probe.bytes), at_once, probes)
