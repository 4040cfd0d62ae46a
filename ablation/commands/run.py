"""`ablation run`: the missing cells of an experiment, then its table and figures."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation import distributed, runner
from ablation.commands.dry_run import dry_run
from ablation.commands.status import tell
from ablation.documents import printable, printable_lines
from ablation.engines import Engine, Setup
from ablation.engines.together import OutOfStep, all_together, dismiss, follow
from ablation.files import check_folder
from ablation.live import Live
from ablation.loading import Source, check_owner, explained, load, read
from ablation.machine import multiplies_bfloat16
from ablation.parts import Earlier, cells_of_part, key_of, place_of, with_earlier
from ablation.progress import many, reporter
from ablation.record import settings_of, size_of
from ablation.results import Identified, Results, curves, identified, table, variances
from ablation.runner import Plan
from ablation.settings import path_of, sized
from ablation.specs import Experiment, InvalidSpec

if TYPE_CHECKING:
    import pandas as pd


def run(options: argparse.Namespace) -> int:
    _check(options)
    several = {"--ray": options.ray, "--shard": options.shard, "--part": options.part}
    several["torchrun"] = distributed.asked_for()
    precision = runner.chosen_precision(options, several)
    source = read(options.experiment, options.scale, options.data, "experiment", precision)
    if not distributed.asked_for():
        return _run(source, options)
    device = runner.device_of_process(options.device)
    with distributed.together(device):
        if distributed.rank() > 0:
            follow(source, Setup(device))
            return 0
        try:
            code = _run(source, options)
        except OutOfStep:  # the others are not there to be told
            raise
        except BaseException:
            with contextlib.suppress(RuntimeError):  # torchrun has ended them
                dismiss()
            raise
        dismiss()
        return code


def _check(options: argparse.Namespace) -> None:
    """Options that do not go together, before anything is read."""
    if options.in_full and not options.dry_run:
        raise InvalidSpec("--in-full says how --dry-run prints cells. Write both, or neither.")
    if options.ray and options.device:
        raise InvalidSpec("--device names devices of this machine, and --ray those of a cluster. Write one of them.")
    if options.part and (options.only or options.shard):
        raise InvalidSpec("--part, --only and --shard each choose cells. Write one of them.")
    if options.gpus_per_run is not None and not options.ray:
        raise InvalidSpec("--gpus-per-run is a share of a Ray task. Name a cluster with --ray, or leave it out.")
    runner.setup_of(options, "cpu")
    runner.choose_workers(options.workers, ["cpu"])
    if options.device:
        runner.choose_devices(options.device)


def _run(source: Source, options: argparse.Namespace) -> int:
    experiment = load(source)
    results = Results(options.results)
    cells = explained(source, lambda: identified(experiment))
    _check_outputs(source, experiment, cells, results, Path(options.figures))
    _tell_of_axes_without_effect(cells)
    _tell_of_one_run(cells)
    part = _fraction("--part", options.part)
    csv = Path(options.figures) / f"{source.name}-{source.scale}.csv"
    if options.part:
        Earlier.read(csv, ("", "curves", "images"))  # refuses before anything is computed
    chosen = cells_of_part(_only(cells, options.only), *part)
    shard = _fraction("--shard", options.shard)
    plan = runner.plan(chosen, results).of_shard(*shard)
    tell([f"{complaint}; its cell runs again" for complaint in plan.complaints])
    for job in plan.jobs:
        if job.weights is None and job.work.training.method.trains:
            distributed.check_batch(job.work.training.optimization.batch)
    if options.dry_run:
        return dry_run(source, plan, options)
    failed = 0
    if not plan.jobs:
        results.keep_manifest(source.name, source.scale, cells, source.path)
    else:
        check_folder("--results", results.root)
        if not (options.only or options.shard):
            check_folder("--figures", Path(options.figures))
        means = explained(source, lambda: _means(source, plan, options))  # reads the data, by a user's class perhaps
        explained(source, lambda: runner.check_same_data(plan.jobs, cells, results))
        with results.owned() if shard == (0, 1) else results.owned_shard(*shard):
            results.write_manifest(source.name, source.scale, cells, source.path)  # not where the folder is another's
            # What another process has finished before this one had the folder is not run again.
            plan = runner.plan(chosen, results).of_shard(*shard)
            failed = _compute(plan, source, results, means, shard) if plan.jobs else 0
    if not plan.jobs:
        what = f"all {many(len(chosen), 'cell')}" if shard == (0, 1) else f"all cells of shard {shard[0]} of {shard[1]}"
        print(f"{source.name} at the scale {source.scale}: {what} are finished", file=sys.stderr)
    found = table(experiment, results)
    _tell_of_equal_numbers(cells, found)
    if options.only or shard != (0, 1):
        option = "--only" if options.only else "--shard"
        _print_part(found.loc[[c in chosen for c in cells]], list(cells[0].cell.coords), option)
        return 1 if failed else 0
    tables = {"": found, "curves": curves(experiment, results), "images": variances(experiment, results)}
    if options.part:
        earlier = Earlier.read(csv, ("", "curves", "images"))  # again: others may have added theirs meanwhile
        tables, kept = with_earlier(tables, earlier, cells)
        left = many(int((tables[""]["state"] != "finished").sum()), "cell")
        print(f"with {many(kept, 'cell')} of the earlier table; {left} left for other parts", file=sys.stderr)
    if any(name.endswith("_seconds") and name != "training_seconds" for name in tables[""]):  # something was evaluated
        paths, said, wrong = _draw(source, experiment, cells, tables, Path(options.figures))
        for sentence in wrong:
            print(f"ablation: {printable(sentence)}", file=sys.stderr)
        # When all is kept: a reader such as `head` may have enough before the end.
        print(f"{printable_lines(said)}\n", *paths, sep="\n")
        failed += len(wrong)
    return 1 if failed else 0


def _check_outputs(
    source: Source, experiment: Experiment, cells: list[Identified], results: Results, folder: Path
) -> None:
    """Before anything is computed: the figures can be drawn, and no other experiment's table has their names."""
    from ablation.plots import rehearse

    stem, trainings = f"{source.name}-{source.scale}", {cell.training_id for cell in cells}
    check_owner(results.root / "experiments" / f"{stem}.json", source, trainings, "--results")
    check_owner(folder / f"{stem}.json", source, trainings, "--figures")
    endings = [".csv", *(f"-{name}{suffix}" for name in experiment.figures for suffix in (".png", ".pdf"))]
    for path in [folder / f"{stem}{ending}" for ending in endings]:
        if path.is_dir():
            raise InvalidSpec(f"--figures must have room for the file {path}, but there is a folder. Remove it.")
    rehearse(experiment.figures, experiment.cells)


def _tell_of_axes_without_effect(cells: list[Identified]) -> None:
    """Where the cells along an axis are one run wherever they differ in nothing else: a field that nobody sets."""
    for axis in dict.fromkeys(axis for item in cells for axis in item.cell.coords):
        along: dict[str, list[Identified]] = {}
        for item in (item for item in cells if axis in item.cell.coords):
            others = {name: value for name, value in item.cell.coords.items() if name != axis}
            along.setdefault(key_of(others), []).append(item)
        runs = [{(each.training_id, each.evaluation_ids) for each in found} for found in along.values()]
        if all(len(found) > 1 for found in along.values()) and all(len(each) == 1 for each in runs):
            tell([
                f"the axis {axis!r} changes no run, so cells that differ in it alone have the same numbers. Give its "
                "value to what they run, or remove it"
            ])  # fmt: skip


def _tell_of_one_run(cells: list[Identified]) -> None:
    """Where cells of different coordinates are one run of a user's class, whose numbers are then the same."""
    places: dict[tuple, dict[str, Identified]] = {}
    for item in cells:
        places.setdefault((item.training_id, item.evaluation_ids), {})[place_of(item.cell.coords)] = item
    several = [found for found in places.values() if len(found) > 1]
    if several:
        from ablation.contracts import by_a_user

        several = [found for found in several if by_a_user(next(iter(found.values())).cell.run)]
    if several:
        one, other, *_ = several[0]
        tell([
            f"the cells {one} and {other} are one run, so their numbers are the same"
            + f"; so are others, {len(several)} runs in all" * (len(several) > 1)
            + ". What differs between objects must be a field: globals and attributes of a class are not seen"
        ])  # fmt: skip


def _tell_of_equal_numbers(cells: list[Identified], found: pd.DataFrame) -> None:
    """Where trainings of a user's class have the same results to the last digit: a field that no method reads makes
    other runs, and changes nothing. found: the table of the cells."""
    axes = {axis for item in cells for axis in item.cell.coords}
    measured = [name for name in found.columns.difference([*axes]) if found[name].dtype.kind == "f"]
    measured = [name for name in measured if re.search(r"^(loss|alignment|uniformity)$|_top\d|accuracy", name)]
    alike: dict[tuple, dict[str, Identified]] = {}
    for item, (_, row) in zip(cells, found.iterrows(), strict=True):
        training = item.cell.run.training
        operators = [*training.shared, *(operator for view in training.views for operator in view)]
        if (
            "loss" in measured
            and row["state"] == "finished"
            and training.method.trains  # without it views change nothing, nor with an operator that is switched off
            and not any(0 in (getattr(each, "p", 1), getattr(each, "strength", 1)) for each in operators)
        ):
            numbers = tuple(f"{row[name]:.6g}" for name in measured)
            alike.setdefault(numbers, {}).setdefault(item.training_id, item)
    several = [list(each.values()) for each in alike.values() if len(each) > 1]
    if several:
        from ablation.contracts import by_a_user

        several = [each for each in several if by_a_user(each[0].cell.run.training)]
    if several:
        coords = [item.cell.coords for item in several[0]]
        values = {axis: list(dict.fromkeys(str(each.get(axis)) for each in coords)) for axis in coords[0]}
        shown = [f"{axis} ({', '.join(each[:5])})" for axis, each in values.items() if len(each) > 1]
        tell([
            f"cells that differ in {' and '.join(shown)} only have the same numbers to the last digit"
            + f", in {len(several)} places" * (len(several) > 1)
            + ". Does a class of yours not read it? Let its methods use the field, or remove the axis"
        ])  # fmt: skip


@dataclass(frozen=True)
class Means:
    """With what runs are computed; `where` is for people."""

    engine: Engine
    at_once: int
    setup: Setup
    where: str


def _means(source: Source, plan: Plan, options: argparse.Namespace) -> Means:
    if distributed.count() > 1:
        runner.check_data(plan.jobs)
        setup = runner.setup_of(options, runner.device_of_process(options.device))
        return Means(partial(all_together, setup=setup), 1, setup, f"{distributed.count()} processes together")
    if options.ray:
        return _means_on_ray(source, plan, options)
    devices = runner.choose_devices(options.device)
    workers = runner.choose_workers(options.workers, devices)
    at_once = max(1, min(workers, len(plan.jobs)))
    compiled = runner.worth_compiling(runner.check_data(plan.jobs) / at_once, devices[0])
    setup = runner.setup_of(options, devices[0], compiled=compiled)
    where = f"{', '.join(devices)} with {many(at_once, 'worker')}"
    where += ", compiled (the first steps take a minute or two)" * compiled
    if plan.jobs and options.precision is None and devices[0] == "cpu" and multiplies_bfloat16():
        slow = [job for job in plan.jobs if job.work.training.optimization.precision == "float32"]
        print(BFLOAT16_PAYS * bool(slow), end="", file=sys.stderr)
    return Means(runner.engine_on(devices, source, setup, workers), workers, setup, where)


BFLOAT16_PAYS = (
    "this processor multiplies bfloat16: --precision bfloat16 would be about 1.2 times faster (other runs, with ids of "
    "their own)\n"
)


def _means_on_ray(source: Source, plan: Plan, options: argparse.Namespace) -> Means:
    if options.ray == "local":
        # Ray listens on every interface (2.60, also with a loopback address), so nobody may use what is there but who
        # knows this word, which is only in the environment of its processes. Read when Ray is loaded.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        from ablation.engines.ray import engine_on_ray
    except ImportError as error:
        raise InvalidSpec(
            "--ray needs Ray, which is not installed. Run: pip install -e '.[ray]' in the suite's folder."
        ) from error
    setup = runner.setup_of(options, "cpu")
    if not options.checkpoints:  # the nodes do not see this machine's folder
        setup = replace(setup, checkpoints=None)
    steps = runner.check_data(plan.jobs)
    engine, setup, where, room = engine_on_ray(options.ray, options.gpus_per_run, setup, source)
    setup = replace(setup, compiled=runner.worth_compiling(steps / max(1, min(room, len(plan.jobs))), setup.device))
    at_once = options.workers or len(plan.jobs)
    return Means(partial(engine, setup=setup), max(1, at_once), setup, where)


def _fraction(option: str, text: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8); everything is (0, 1)."""
    if text is None:
        return 0, 1
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not index < count:
        raise InvalidSpec(f"{option} must be I/N with I from 0 to N - 1, but got {text!r}. Write {option} 0/8, say.")
    return index, count


def _compute(plan: Plan, source: Source, results: Results, means: Means, shard: tuple[int, int]) -> int:
    """Runs the plan's jobs under the eyes of the user; returns how many failed."""
    jobs, part = len(plan.jobs), "" if shard == (0, 1) else f", shard {shard[0]} of {shard[1]}"
    print(
        f"{source.name} at the scale {source.scale}{part}: {plan.standing}; {many(jobs, 'run')} to do on {means.where}",
        file=sys.stderr,
    )
    name = f"{source.name}-{source.scale}" + ("" if shard == (0, 1) else f"-{shard[0]}-of-{shard[1]}")
    bars = Live(reporter(jobs), results, name)
    try:
        failed = runner.execute(plan.jobs, results, means.engine, means.at_once, bars, means.setup)
    finally:
        bars.close()
    if failed:
        print(
            f"{failed} of {many(jobs, 'run')} failed, the training or an evaluation; `ablation status` lists them with "
            "the files that hold their tracebacks. The same command tries them again.",
            file=sys.stderr,
        )
    return failed


def _draw(
    source: Source, experiment: Experiment, cells: list[Identified], tables: dict[str, pd.DataFrame], folder: Path
) -> tuple[list[Path], str, list[str]]:
    """Writes the tables and what was run, then a strip of each view and the figures. Returns the paths, the figures as
    text, and a sentence for each picture that could not be drawn, which stops no other.

    tables: that of the cells under "", those beside it by the ending of their names.
    """
    from ablation.files import write_file
    from ablation.plots import draw_all
    from ablation.plots.base import cause
    from ablation.preview import strips
    from ablation.tables import to_csv

    csv = folder / f"{source.name}-{source.scale}.csv"
    figures, wrong = noted(experiment), []
    axes = {axis for cell in experiment.cells for axis in cell.coords}
    paths = [csv, path_of(csv)]
    notes = {name: figure.note for name, figure in figures.items() if getattr(figure, "note", "")}
    settings = settings_of(source, notes, cells, folder)  # whatever can fail comes before the first file
    write_file(csv, to_csv(tables[""], axes))
    for name, beside in tables.items():
        path = csv.with_name(f"{csv.stem}-{name}.csv")
        if name and len(beside):
            paths.append(path)
            write_file(path, to_csv(beside, axes, 4))
        elif name:
            path.unlink(missing_ok=True)  # of an earlier call
    write_file(path_of(csv), settings.content(csv))  # last, with their digests
    try:
        picture, texts = explained(source, lambda: strips(experiment))
        content = io.BytesIO()
        picture.save(content, "PNG", pnginfo=texts, optimize=True)
        write_file(csv.with_name(f"{csv.stem}-views.png"), content.getvalue())
        paths.append(csv.with_name(f"{csv.stem}-views.png"))
    except Exception as error:  # an operator that fails; its cells say so too, and the others have a figure
        wrong.append(f"the views are not shown: {cause(error)}")
    drawn, said, failed = draw_all(figures, csv)
    return paths + drawn, said, wrong + failed


def noted(experiment: Experiment) -> Mapping[str, Any]:
    """The figures, whose captions say which operators change no image of the size that they are given."""
    found: dict[str, None] = {}
    for training in dict.fromkeys(cell.run.training.replace(seed=0) for cell in experiment.cells):
        for operator, size in sized(training, size_of(training.dataset)):
            if getattr(operator, "is_identity", lambda size: False)(size):
                found[f"{operator.label} ({size} px)"] = None
    note = f" Change nothing at the size of these images: {', '.join(found)}." if found else ""
    return {
        name: figure.replace(note=f"{figure.note}{note}".strip()) if hasattr(figure, "note") else figure
        for name, figure in experiment.figures.items()
    }


def _only(cells: list, text: str | None) -> list:
    if not text:
        return cells
    pairs = [part.partition("=") for part in text.split(",")]
    axes = {key for cell in cells for key in cell.cell.coords}
    for key, equals, _ in pairs:
        if not equals:
            raise InvalidSpec(f"--only must give coordinates as axis=value, but got {key!r}. Write first=crop, say.")
        if key not in axes:
            near = difflib.get_close_matches(key, axes, 1)
            raise InvalidSpec(
                f"--only must name axes of the cells, but none is called {key!r}; "
                f"{f'did you mean {near[0]!r}? ' if near else ''}they are {', '.join(sorted(axes))}."
            )
    chosen = [c for c in cells if all(_is(c.cell.coords.get(key), value) for key, _, value in pairs)]
    if not chosen:
        values = (
            f"{key}: {', '.join(dict.fromkeys(str(c.cell.coords[key]) for c in cells if key in c.cell.coords))}"
            for key, _, _ in pairs
        )
        raise InvalidSpec(
            f"--only must choose at least one cell, but {text!r} chooses none. The values are {'; '.join(values)}."
        )
    return chosen


def _is(coordinate: Any, typed: str) -> bool:
    """Whether a coordinate is what was typed: 0.50 is 0.5."""
    if isinstance(coordinate, (int, float)):
        with contextlib.suppress(ValueError):
            return coordinate == float(typed)
    return str(coordinate) == typed


def _print_part(rows, axes: list[str], option: str) -> None:
    """What --only or --shard asked for, without figures, which need all cells."""
    from ablation.plots import HEADLINE

    shown = rows[[*axes, "state", *(value for value in HEADLINE if value in rows)]]
    print(printable_lines(shown.to_string(index=False, float_format="{:.1f}".format)))
    print(f"part of the cells, so no figure is drawn; run it without {option} for all cells", file=sys.stderr)
