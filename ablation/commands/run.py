"""`ablation run`: compute the missing cells of an experiment, then write its table and figures."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.analysis.cell_settings import settings_of, size_of
from ablation.analysis.partial_tables import Earlier, cells_of_part, with_earlier
from ablation.analysis.results import curves, table, variances
from ablation.analysis.settings import sized, write_tables
from ablation.commands.cells import only, warn_of_equal_numbers, warn_of_equal_runs, warn_of_idle_axes
from ablation.commands.dry_run import dry_run
from ablation.commands.options import RunOptions
from ablation.commands.status import print_warnings
from ablation.execution.console import reporter
from ablation.execution.devices import chosen_precision, device_of_process
from ablation.execution.executor import Executor, Job
from ablation.execution.owner import execute
from ablation.execution.plan import DataChecks, Plan, check_top5, make_plan
from ablation.execution.selection import choose_executor
from ablation.execution.status_file import StatusFile
from ablation.execution.store import Identified, Results, identified
from ablation.execution.torchrun import OutOfStep, dismiss, follow
from ablation.execution.traces import check_traces
from ablation.spec import Experiment, InvalidSpec, Metric, StorageError, identity
from ablation.spec.run import PRECISIONS
from ablation.study.experiment_file import Source, check_owner, explained, load, read
from ablation.system import distributed
from ablation.system.files import check_folder
from ablation.system.provenance import multiplies_bfloat16
from ablation.system.terminal import many, printable, printable_lines

if TYPE_CHECKING:
    import pandas as pd

BESIDE = ("", "curves", "images")  # suffixes of the table of cells and of the tables beside it


def run(options: RunOptions) -> int:
    _check(options)
    several = {"--ray": options.ray, "--shard": options.shard != (0, 1), "--part": options.part != (0, 1)}
    several["torchrun"] = distributed.launched_by_torchrun()
    precision = chosen_precision(options.precision, options.device, several)
    source = read(options.file, options.scale, options.data, "experiment", precision)
    if not distributed.launched_by_torchrun():
        return _run(source, options)
    device = device_of_process(options.device)
    with distributed.process_group(device):
        if distributed.rank() > 0:
            follow(source, options.jobs(device))
            return 0
        try:
            code = _run(source, options)
        except OutOfStep:  # the other processes have failed or wait for a failed one
            raise
        except BaseException:
            with contextlib.suppress(RuntimeError):  # torchrun has already ended them
                dismiss()
            raise
        dismiss()
        return code


def _check(options: RunOptions) -> None:
    """Refuses options that exclude each other, before anything is read."""
    if options.in_full and not options.dry_run:
        raise InvalidSpec("--in-full needs --dry-run, whose cells it prints as JSON. Write both, or neither.")
    if options.part != (0, 1) and (options.only or options.shard != (0, 1)):
        raise InvalidSpec("--part, --only and --shard each choose cells. Write one of them.")
    options.check()


@dataclass(frozen=True)
class _Question:
    """An experiment with its cells' ids, and the folder of its results."""

    source: Source
    experiment: Experiment
    cells: list[Identified]
    chosen: list[Identified]  # by --only and --part
    results: Results

    @property
    def title(self) -> str:
        return f"{self.source.name} at the scale {self.source.scale}"

    def plan(self, shard: tuple[int, int]) -> Plan:
        return make_plan(self.chosen, self.results).of_shard(*shard)

    def check(self, jobs: list[Job]) -> int:
        """Refuses jobs that do not fit their images, and figures of what these cannot measure. Returns the number of
        training steps. Reads the data sets, perhaps by a user's class."""

        def check() -> int:
            steps = DataChecks(self.results).check(jobs, self.cells)
            check_traces(self.cells, self.results)
            for name, figure in self.experiment.figures.items() if jobs else ():
                for column in getattr(figure, "shown", ()):
                    check_top5(f"Experiment.figures[{name!r}]", column, [item.cell.run for item in self.cells])
            return steps

        return explained(self.source, check)


def _run(source: Source, options: RunOptions) -> int:
    experiment, results = load(source), Results(options.results)
    cells = explained(source, lambda: identified(experiment))
    _check_outputs(source, experiment, cells, results, options.figures)
    warn_of_idle_axes(cells)
    warn_of_equal_runs(cells)
    csv = options.figures / f"{source.name}-{source.scale}.csv"
    if options.part != (0, 1):
        Earlier.read(csv, BESIDE)  # refuses before anything is computed
    chosen = cells_of_part(only(cells, options.only), *options.part)
    question = _Question(source, experiment, cells, chosen, results)
    plan = question.plan(options.shard)
    print_warnings([f"{complaint}; its cell runs again" for complaint in plan.complaints])
    for job in plan.jobs:
        if job.weights is None and job.work.training.method.trains:
            distributed.check_divisible(job.work.training.optimization.batch)
    _hint_at_precision(question, plan, options.precision)
    if options.dry_run:
        return dry_run(source, plan, options, question.check)
    if plan.jobs:
        plan, failed = _compute(question, plan, options)
    else:
        failed = 0
        results.keep_manifest(source.name, source.scale, cells, source.path)
    explained(source, lambda: check_traces(cells, results))  # also of what other machines have just computed
    if not plan.jobs:
        part = f"all {many(len(chosen), 'cell')}" if options.shard == (0, 1) else f"all cells of {_shard(options)}"
        print(f"{question.title}: {part} are finished", file=sys.stderr)
    whole = table(cells, results)
    warn_of_equal_numbers(cells, whole)
    if options.draws:
        failed += _write(question, whole, csv, merge=options.part != (0, 1))
    else:
        option = "--only" if options.only else "--shard"
        _print_part(whole.loc[[c in chosen for c in cells]], list(cells[0].cell.coords), option)
    return 1 if failed else 0


def _shard(options: RunOptions) -> str:
    return f"shard {options.shard[0]} of {options.shard[1]}"


def _compute(question: _Question, plan: Plan, options: RunOptions) -> tuple[Plan, int]:
    """Runs the missing jobs; returns the plan made under the folder's lock, and the number of failed jobs."""
    source, results = question.source, question.results
    check_folder("--results", results.root)
    if options.draws:
        check_folder("--figures", options.figures)
    steps = question.check(plan.jobs)
    executor = choose_executor(options, source, len(plan.jobs), steps)
    _hint_at_bfloat16(question.results, plan, options, executor)
    with results.owned() if options.shard == (0, 1) else results.owned_shard(*options.shard):
        results.write_manifest(source.name, source.scale, question.cells, source.path)  # only while we own the folder
        plan = question.plan(options.shard)  # again: another process may have finished some jobs
        return plan, _execute(question, plan, executor, options) if plan.jobs else 0


def _hint_at_precision(question: _Question, plan: Plan, given: str | None) -> None:
    """If none of the cells is finished, but one is in another precision than this one, which the file may set.
    given: --precision."""
    if not plan.jobs or "finished" in plan.states:
        return
    now = plan.jobs[0].work.training.optimization.precision
    for other in set(PRECISIONS) - {now}:
        if other != given and any(_finished_in(other, job, question.results) for job in plan.jobs):
            print(
                f"{question.results.root} holds finished runs of these cells with precision {other}; with precision "
                f"{now} they are others. To go on with the finished ones, if the file sets no other precision: "
                f"--precision {other}.",
                file=sys.stderr,
            )


def _finished_in(precision: str, job: Job, results: Results) -> bool:
    training = job.work.training
    other = training.replace(optimization=training.optimization.replace(precision=precision))
    return results.training(identity(other))[0] is not None


BFLOAT16_PAYS = (
    "this processor multiplies bfloat16: --precision bfloat16 would be about 1.2 times faster (other runs, with other "
    "ids)\n"
)


def _hint_at_bfloat16(results: Results, plan: Plan, options: RunOptions, executor: Executor) -> None:
    """Before the first run of a folder."""
    alone = not options.ray and distributed.count() == 1 and executor.options.device == "cpu"
    if alone and options.precision is None and multiplies_bfloat16() and not results.manifests()[0]:
        slow = any(job.work.training.optimization.precision == "float32" for job in plan.jobs)
        print(BFLOAT16_PAYS if slow else "", end="", file=sys.stderr)


def _execute(question: _Question, plan: Plan, executor: Executor, options: RunOptions) -> int:
    """Runs the jobs of the plan; returns the number of failed jobs."""
    jobs, source = many(len(plan.jobs), "run"), question.source
    part, name = "", f"{source.name}-{source.scale}"
    if options.shard != (0, 1):
        part, name = f", {_shard(options)}", f"{name}-{options.shard[0]}-of-{options.shard[1]}"
    print(f"{question.title}{part}: {plan.standing}; {jobs} to do on {executor.describe()}", file=sys.stderr)
    status = StatusFile(reporter(len(plan.jobs)), question.results, name)
    try:
        failed = execute(plan.jobs, question.results, executor, status)
    finally:
        status.close()
    if failed:
        print(
            f"{failed} of {jobs} failed, in training or in an evaluation; `ablation status` lists them with the files "
            "of their tracebacks. The same command tries them again.",
            file=sys.stderr,
        )
    return failed


def _write(question: _Question, whole: pd.DataFrame, csv: Path, *, merge: bool) -> int:
    """Writes tables and figures, if anything was evaluated; returns the number of failed figures. merge: keep the cells
    of the earlier table."""
    cells, results = question.cells, question.results
    tables = {"": whole, "curves": curves(cells, results), "images": variances(cells, results)}
    if merge:
        earlier = Earlier.read(csv, BESIDE)  # again: other processes may have added cells
        tables, kept = with_earlier(tables, earlier, question.cells)
        left = many(int((tables[""]["state"] != "finished").sum()), "cell")
        print(f"with {many(kept, 'cell')} of the earlier table; {left} left for other parts", file=sys.stderr)
    if not any(Metric.of(name).quantity == "seconds" for name in tables[""]):
        return 0  # nothing was evaluated
    paths, text, wrong = _draw(question.source, question.experiment, cells, tables, csv.parent)
    for sentence in wrong:
        print(f"ablation: {printable(sentence)}", file=sys.stderr)
    # After everything is written: a reader such as `head` may close the pipe early.
    print(f"{printable_lines(text)}\n", *paths, sep="\n")
    return len(wrong)


def _check_outputs(
    source: Source, experiment: Experiment, cells: list[Identified], results: Results, folder: Path
) -> None:
    """Checks, before anything is computed, that the figures can be drawn and overwrite no other experiment's table."""
    from ablation.plots import rehearse
    from ablation.plots.drawing import ENDINGS

    stem, trainings = f"{source.name}-{source.scale}", {cell.training_id for cell in cells}
    check_owner(results.root / "experiments" / f"{stem}.json", source, trainings, "--results")
    check_owner(folder / f"{stem}.json", source, trainings, "--figures")
    endings = [".csv", *(f"-{name}{suffix}" for name in experiment.figures for suffix in ENDINGS)]
    for path in [folder / f"{stem}{ending}" for ending in endings]:
        if path.is_dir():
            raise StorageError(f"--figures must leave the name {path} to a file, but it is a folder. Remove it.")
    rehearse(experiment.figures, experiment.cells)


def _draw(
    source: Source, experiment: Experiment, cells: list[Identified], tables: dict[str, pd.DataFrame], folder: Path
) -> tuple[list[Path], str, list[str]]:
    """Writes the tables and settings, then a strip of each view and the figures. Returns the paths, the figures as
    text, and a sentence for each picture that could not be drawn.

    tables: by suffix of the file name; "" is the table of cells.
    """
    from ablation.analysis.tables import to_csv
    from ablation.plots import draw_all
    from ablation.plots.drawing import cause
    from ablation.plots.samples import save_strips

    csv = folder / f"{source.name}-{source.scale}.csv"
    figures, wrong = noted(experiment), []
    axes = {axis for cell in experiment.cells for axis in cell.coords}
    notes = {name: figure.note for name, figure in figures.items() if getattr(figure, "note", "")}
    settings = settings_of(source, notes, cells, folder)  # may fail, so before the first file is written
    beside = {name: to_csv(rows, axes, 4) for name, rows in tables.items() if name and len(rows)}
    paths = write_tables(csv, {"": to_csv(tables[""], axes), **beside}, settings)
    try:
        paths += explained(source, lambda: save_strips(experiment, csv.with_name(f"{csv.stem}-views")))
    except Exception as error:  # an operator fails; its cells have failed too, but other cells have a figure
        wrong.append(f"the views are not shown: {cause(error)}")
    drawn, text, failed = draw_all(figures, csv)
    return paths + drawn, text, wrong + failed


def noted(experiment: Experiment) -> Mapping[str, Any]:
    """The figures, with a note in their captions on operators that change nothing at the size of the images."""
    idle: dict[str, None] = {}
    for training in dict.fromkeys(cell.run.training.replace(seed=0) for cell in experiment.cells):
        for operator, size in sized(training, size_of(training.dataset)):
            if getattr(operator, "is_identity", lambda size: False)(size):
                idle[f"{operator.label} ({size} px)"] = None
    note = f" Change nothing at the size of these images: {', '.join(idle)}." if idle else ""
    return {
        name: figure.replace(note=f"{figure.note}{note}".strip()) if hasattr(figure, "note") else figure
        for name, figure in experiment.figures.items()
    }


def _print_part(rows, axes: list[str], option: str) -> None:
    """Prints the rows of --only or --shard; figures need all cells."""
    from ablation.plots import HEADLINE

    shown = rows[[*axes, "state", *(value for value in HEADLINE if value in rows)]]
    print(printable_lines(shown.to_string(index=False, float_format="{:.1f}".format)))
    print(
        f"part of the cells, so no table is written and no figure drawn; `ablation figures` needs all cells, too. Run "
        f"without {option}.",
        file=sys.stderr,
    )
