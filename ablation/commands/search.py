"""`ablation search`: the trials of a search, the comparison on test images, tables and figures."""

from __future__ import annotations

import contextlib
import sys

from optuna.study import Study

from ablation.commands.options import SearchOptions
from ablation.commands.search_output import write
from ablation.execution.console import reporter
from ablation.execution.devices import choose_devices, choose_workers, chosen_precision
from ablation.execution.executor import Executor, Job
from ablation.execution.owner import execute
from ablation.execution.plan import make_plan
from ablation.execution.selection import choose_executor
from ablation.execution.status_file import StatusFile
from ablation.execution.store import Results, identified
from ablation.search.checks import SearchChecks
from ablation.search.cost import dry_run
from ablation.search.holdout import Holdout
from ablation.search.queue import TrialQueue
from ablation.search.session import Session
from ablation.search.storage import FAULTS, Storage, address_beside, reason
from ablation.search.study import ended, repeat_lost
from ablation.spec import Experiment, InvalidSpec, StorageError, identity
from ablation.study.experiment_file import check_owner, read
from ablation.system import distributed
from ablation.system.files import check_folder
from ablation.system.terminal import many


def search(options: SearchOptions) -> int:
    """See `ablation search --help`. Raises AblationError with the cause of a failure."""
    _check(options)
    storage = Storage(options.storage or address_beside(Results(options.results)))
    if options.dashboard:
        return dashboard(storage, options.port)
    try:
        return _search(storage, options)
    except FAULTS as error:
        raise StorageError(
            f"the storage {storage.shown} stopped answering: {reason(error)} The same command continues."
        ) from None


def _check(options: SearchOptions) -> None:
    options.check()
    if distributed.launched_by_torchrun():
        raise InvalidSpec(
            "a search has one owner, but torchrun starts several processes. Start it without: ablation search NAME."
        )


def _search(storage: Storage, options: SearchOptions) -> int:
    several = {"--storage": options.storage, "--ray": options.ray}  # another machine may continue
    precision = chosen_precision(options.precision, options.device, several)
    source = read(options.file, options.scale, options.data, "search", precision)
    session = Session.of(
        source, storage, Results(options.results),
        study=options.study, sampler=options.sampler, trials=options.trials,
    )  # fmt: skip
    csv = options.figures / f"{source.name}-{source.scale}.csv"
    searches = session.searches.values()
    fresh = {identity(each.default.with_seed(seed).training) for each in searches for seed in each.fresh}
    check_owner(csv.with_suffix(".json"), source, fresh, "--figures")
    if options.dry_run:
        devices = choose_devices(options.device)
        workers = choose_workers(options.workers, devices)
        dry_run(session, devices, workers, trials_only=options.trials_only)
        return 0
    check_folder("--results", session.results.root)
    with session.results.owned(), storage.owned(session.prefix):
        studies = session.open()
        left = {case: search.trials - ended(studies[case]) for case, search in session.searches.items()}
        runs = sum(max(0, left[case]) * len(search.seeds) for case, search in session.searches.items())
        executor = choose_executor(options, source, max(runs, 2 * len(fresh)))
        check = SearchChecks(source, session.searches, studies, session.results)
        if runs:
            _run_trials(session, studies, executor, check)
        else:
            print(f"{session.title}: all trials have ended", file=sys.stderr)
        if options.trials_only:
            return 0
        compared, failed = _compare(session, executor, check)
        paths, missing = write(session, compared, csv, _typed(options))
    print(*paths, sep="\n")
    return 1 if failed or missing else 0


def _run_trials(session: Session, studies: dict[str, Study], executor: Executor, check: SearchChecks) -> None:
    """Runs the missing trials of the budget."""
    for search in session.searches.values():
        check([Job.of(search.default)], metric=search.metric)
    whole = sum(search.trials for search in session.searches.values())
    print(
        f"{session.title}: {many(whole, 'trial')}, {sum(map(ended, studies.values()))} ended, on "
        f"{executor.describe()}, kept in {session.storage.shown}",
        file=sys.stderr,
    )
    queue = TrialQueue(session.searches, studies, session.results, executor, check)
    status = StatusFile(queue, session.results, f"{session.source.name}-{session.source.scale} search")
    try:
        execute(queue, session.results, executor, status)
    finally:
        status.close()
        with contextlib.suppress(*FAULTS):
            for study in studies.values():
                repeat_lost(study)


def _compare(session: Session, executor: Executor, check: SearchChecks) -> tuple[Experiment, int]:
    """Runs the best settings and the default with fresh seeds; returns the cells, and the number of failed runs."""
    source = session.source
    holdout = Holdout(session.searches, session.studies())
    plan = make_plan(identified(holdout.experiment), session.results)
    if not plan.jobs:
        return holdout.experiment, 0
    check(plan.jobs, plan.cells)
    runs = many(len(plan.jobs), "run")
    print(f"{source.name}: {runs} with fresh seeds to compare with the default", file=sys.stderr)
    status = StatusFile(reporter(len(plan.jobs)), session.results, f"{source.name}-{source.scale} comparison")
    try:
        return holdout.experiment, execute(holdout.jobs(plan.jobs), session.results, executor, status)
    finally:
        status.close()


def _typed(options: SearchOptions) -> list[str]:
    """The options that determine the trials."""
    typed = {"--sampler": options.sampler, "--trials": options.trials, "--study": options.study}
    return [f"{option} {value}" for option, value in typed.items() if value is not None and value != "tpe"]


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
