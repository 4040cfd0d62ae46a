"""The command line: options say where and how; what is computed is in the experiment file and the scale."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ablation.specs import InvalidSpec


def main(arguments: list[str] | None = None) -> int:
    # One thread each for the numerical libraries: parallelism is by worker processes.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    options = _parser().parse_args(arguments)
    try:
        return options.call(options)
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except InvalidSpec as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablation: stopped; the same command continues.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ablation", description=__import__("ablation").__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="compute the missing cells of an experiment and draw its figures")
    run.add_argument("experiment", help="a name (see `ablation list`) or the path of an experiment file")
    run.add_argument(
        "--only", metavar="first=crop,second=color", help="only the cells at these coordinates; no figures"
    )
    run.add_argument("--dry-run", action="store_true", help="print every cell in full and how many are finished")
    run.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    run.add_argument("--workers", type=int, help="processes (default: one per CPU core, or one on a GPU)")
    _scale_options(run)
    _folder_options(run)
    run.set_defaults(call=_run)

    search = commands.add_parser("search", help="look for the best settings on validation images, with Optuna")
    search.add_argument("search", help="a name (see `ablation list`) or the path of a file with a search")
    search.add_argument("--workers", type=int, help="processes (default: one per CPU core, or one on a GPU)")
    search.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    search.add_argument(
        "--storage",
        metavar="ADDRESS",
        default=os.environ.get("ABLATION_STORAGE"),
        help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE, for several machines; or the environment's "
        "ABLATION_STORAGE, which keeps a password out of the list of processes (default: a file beside the results)",
    )
    search.add_argument("--study", metavar="NAME", help="its name in the storage (default: NAME-SCALE)")
    search.add_argument(
        "--sampler", choices=("tpe", "random"), default="tpe", help="random: the baseline (default: tpe)"
    )
    search.add_argument("--trials", type=int, metavar="N", help="the budget (default: the file's)")
    search.add_argument(
        "--trials-only",
        action="store_true",
        help="join the trials, and leave comparison and figures to another machine",
    )
    search.add_argument(
        "--heartbeat", type=int, default=15, metavar="SECONDS",
        help="a trial whose worker is silent for four of them is tried again (default: 15)",
    )  # fmt: skip
    search.add_argument(
        "--dashboard", action="store_true", help="show the storage with Optuna Dashboard, on this machine"
    )
    search.add_argument("--port", type=int, default=8080, help="of the dashboard (default: 8080)")
    _scale_options(search)
    _folder_options(search)
    search.set_defaults(call=_search)

    status = commands.add_parser("status", help="how much of each experiment is finished, and what failed")
    status.add_argument("--results", default="results", metavar="FOLDER")
    status.set_defaults(call=_status)

    figures = commands.add_parser("figures", help="draw the figures again from their CSV files, without training")
    figures.add_argument(
        "experiment",
        nargs="*",
        help="names, files, or your own table.csv (default: all that have a table in the folder)",
    )
    figures.add_argument("--scale", help="only this scale")
    figures.add_argument("--figures", default="figures", metavar="FOLDER")
    figures.add_argument("--rows", default="first", help="of your own table: a column (default: first)")
    figures.add_argument("--columns", default="second", help="of your own table: a column (default: second)")
    figures.add_argument(
        "--value", nargs="+", help="of your own table: columns of numbers (default: its only one, or linear evaluation)"
    )
    figures.add_argument("--reference", help="of your own table: a published one, such as simclr_figure5_pairs")
    figures.set_defaults(call=_figures)

    report = commands.add_parser("report", help="fill report.md from the tables; make report.html and LaTeX tables")
    report.add_argument("--report", default="report", metavar="FOLDER", help="where report.md is (default: report)")
    report.add_argument("--figures", default="figures", metavar="FOLDER")
    report.add_argument(
        "--check", action="store_true", help="only say what does not follow from the tables; exit code 1"
    )
    report.set_defaults(call=_report)

    preview = commands.add_parser("preview", help="a contact sheet: operators, draws on sample images, laws")
    preview.add_argument("experiment", nargs="?", default="pairwise", help="whose operators (default: pairwise)")
    preview.add_argument("--draws", type=int, default=8, help="columns (default: 8)")
    _scale_options(preview)
    preview.add_argument("--figures", default="figures", metavar="FOLDER")
    preview.set_defaults(call=_preview)

    known = commands.add_parser("list", help="the experiments and scales that have a name")
    known.set_defaults(call=_list)
    return parser


def _scale_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", default="tiny", help="tiny, cifar10-small, cifar10, imagenet100 (default: tiny)")
    parser.add_argument(
        "--data", metavar="[NAME=]PLACE", help="where the scale's images lie: a folder, parquet or Hub name"
    )


def _folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", default="results", metavar="FOLDER", help="where runs are kept (default: results)")
    parser.add_argument("--figures", default="figures", metavar="FOLDER", help="where figures go (default: figures)")


def _run(options: argparse.Namespace) -> int:
    from ablation import runner
    from ablation.loading import load, read
    from ablation.results import Results, identified, table

    _cache_beside(options.results)
    source = read(options.experiment, options.scale, options.data)
    experiment = load(source)
    results = Results(options.results)
    cells = identified(experiment)
    chosen = _only(cells, options.only)
    plan = runner.plan(chosen, results)
    for complaint in plan.complaints:
        print(f"ablation: {complaint}; its cell runs again.", file=sys.stderr)
    if options.dry_run:
        return _print_plan(plan, results)
    device = runner.choose_device(options.device)
    workers = runner.choose_workers(options.workers, device)
    compiled = runner.worth_compiling(runner.check_data(plan.jobs) / max(1, min(workers, len(plan.jobs))), device)
    results.write_manifest(source.name, source.scale, cells)
    failed = 0
    if plan.jobs:
        with results.owned():
            failed = _compute(plan, source, results, device, workers, compiled)
    else:
        print(f"{source.name} at the scale {source.scale}: all {len(chosen)} cells are finished", file=sys.stderr)
    found = table(experiment, results)
    if options.only:
        _print_part(found.loc[[c in chosen for c in cells]], list(cells[0].cell.coords))
    elif (found["state"] == "finished").any():
        for path in _draw(source, experiment, results, found, Path(options.figures)):
            print(path)
    return 1 if failed else 0


def _cache_beside(results: str) -> None:
    """Decoded images go into the folder of the results, unless the user names another; workers inherit it."""
    os.environ.setdefault("ABLATION_CACHE", str(Path(results).absolute() / "cache"))


def _compute(plan, source, results, device: str, workers: int, compiled: bool) -> int:
    """Runs the plan's jobs under the eyes of the user; returns how many failed."""
    from ablation import runner
    from ablation.progress import reporter

    jobs = len(plan.jobs)
    print(
        f"{source.name} at the scale {source.scale}: {len(plan.cells)} cells, {plan.finished} finished, "
        f"{jobs} runs to do on {device} with {min(workers, jobs)} worker(s)"
        + (", compiled (the first steps take a minute or two)" if compiled else ""),
        file=sys.stderr,
    )
    bars = reporter(jobs)
    try:
        failed = runner.execute(plan, source, results, device, workers, bars, compiled)
    finally:
        bars.close()
    if failed:
        print(
            f"{failed} of {jobs} runs failed; their tracebacks are in {results.root}/ID/failure.json "
            "(`ablation status` lists them). The same command tries them again.",
            file=sys.stderr,
        )
    return failed


def _draw(source, experiment, results, found, folder: Path) -> list[Path]:
    """Writes the table, the learning curves, a strip of each view and the figures, prints the figures as text."""
    from ablation.plots import save
    from ablation.preview import strips
    from ablation.results import curves, variances, write_file
    from ablation.tables import digest, read_table

    stem = f"{source.name}-{source.scale}"
    csv = folder / f"{stem}.csv"
    write_file(csv, found.to_csv(index=False, float_format="%.6g").encode())
    paths = [csv]
    for name, more in (("curves", curves(experiment, results)), ("images", variances(experiment, results))):
        if len(more):
            paths.append(folder / f"{stem}-{name}.csv")
            write_file(paths[-1], more.to_csv(index=False, float_format="%.4g").encode())
    picture, texts = strips(experiment)
    paths.append(folder / f"{stem}-views.png")
    picture.save(paths[-1], pnginfo=texts, optimize=True)
    for name, figure in experiment.figures.items():
        path = _table_of(figure, csv)  # figures show what the file holds, so that they can be drawn from it again
        print(figure.text(read_table(path)), end="\n\n")
        paths += save(figure.draw(read_table(path)), folder / f"{stem}-{name}", digest(path))
    return paths


def _table_of(figure, csv: Path) -> Path:
    """The table beside `csv` that a figure is drawn from."""
    return csv.with_name(f"{csv.stem}-{figure.source}.csv") if figure.source else csv


def _only(cells: list, text: str | None) -> list:
    if not text:
        return cells
    pairs = [part.partition("=") for part in text.split(",")]
    axes = {key for cell in cells for key in cell.cell.coords}
    for key, equals, value in pairs:
        if not equals or key not in axes:
            raise InvalidSpec(
                f"--only must give coordinates as axis=value, but got {key + equals + value!r}. "
                f"The axes are {', '.join(sorted(axes))}."
            )
    chosen = [c for c in cells if all(str(c.cell.coords.get(key)) == value for key, _, value in pairs)]
    if not chosen:
        values = (
            f"{key}: {', '.join(dict.fromkeys(str(c.cell.coords[key]) for c in cells if key in c.cell.coords))}"
            for key, _, _ in pairs
        )
        raise InvalidSpec(
            f"--only must choose at least one cell, but {text!r} chooses none. The values are {'; '.join(values)}."
        )
    return chosen


def _print_part(rows, axes: list[str]) -> None:
    """What --only asked for, without figures, which need all cells."""
    from ablation.plots import HEADLINE

    shown = rows[[*axes, "state", *(value for value in HEADLINE if value in rows)]]
    print(shown.to_string(index=False, float_format="{:.1f}".format))
    print("part of the cells, so no figure is drawn: leave --only away for all", file=sys.stderr)


def _print_plan(plan, results) -> int:
    import json

    from ablation.specs import describe

    counts = f"{len(plan.cells)} cells, {plan.finished} finished, {len(plan.jobs)} runs to do"
    print(f"{counts}; every cell in full:\n")
    for item in plan.cells:
        state = results.state(item.training_id, item.evaluation_ids)
        print(f"{item.cell.name}: {state}, training {item.training_id}")
        print(json.dumps(describe(item.cell.run), indent=2, ensure_ascii=False))
    print(counts)
    return 0


def _search(options: argparse.Namespace) -> int:
    from ablation.loading import read
    from ablation.specs import InvalidSpec

    for name in ("trials", "heartbeat"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InvalidSpec(f"--{name} must be at least 1, but got {value}.")
    from ablation.search.command import search

    _cache_beside(options.results)
    return search(read(options.search, options.scale, options.data), options)


def _status(options: argparse.Namespace) -> int:
    from ablation.results import Results

    results = Results(options.results)
    manifests, wrong = results.manifests()
    for complaint in wrong:
        print(f"ablation: {complaint}.", file=sys.stderr)
    searches = _searches(results)
    if not manifests and not searches:
        print(f"nothing has been run into {options.results}/ yet; try `ablation run grid --scale tiny`.")
    for manifest in manifests:
        states: dict[str, int] = {}
        failures = []
        for cell in manifest["cells"]:
            state = results.state(cell["training"], cell["evaluations"])
            states[state] = states.get(state, 0) + 1
            if state == "failed":
                failures.append(cell)
        shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        print(f"{manifest['name']} ({manifest['scale']}): {len(manifest['cells'])} cells, {shown}")
        for cell in failures:
            name = " ".join(f"{k}={v}" for k, v in cell["coords"].items())
            last = results.failure(cell["training"])["traceback"].strip().splitlines()[-1]
            print(f"  failed: {name}: {last} (see {results.folder(cell['training']) / 'failure.json'})")
    for line in searches:
        print(line)
    return 0


def _searches(results) -> list[str]:
    """How the searches stand that were kept beside the results or in ABLATION_STORAGE."""
    address = os.environ.get("ABLATION_STORAGE")
    if not address and not (results.root / "search.sqlite3").exists():
        return []  # Optuna takes longer to load than all the rest
    from ablation.search.command import states

    return states(results, address)


def _figures(options: argparse.Namespace) -> int:
    from ablation.loading import figures, names, read
    from ablation.plots import save
    from ablation.scales import SCALES
    from ablation.tables import digest, read_table

    folder = Path(options.figures)
    own = [Path(name) for name in options.experiment if name.endswith(".csv")]
    asked = [name for name in options.experiment if not name.endswith(".csv")]
    wanted = {Path(name).stem: name for name in asked} or ({} if own else {name: name for name in names()})
    drawn = sum(_own(path, options) for path in own)
    for stem, name in wanted.items():
        for scale in [options.scale] if options.scale else SCALES:
            csv = folder / f"{stem}-{scale}.csv"
            if not csv.is_file():
                continue
            for figure_name, figure in figures(read(name, scale), csv).items():
                table = _table_of(figure, csv)
                if not table.is_file():
                    continue
                drawn_figure = figure.draw(read_table(table))
                for path in save(drawn_figure, folder / f"{stem}-{scale}-{figure_name}", digest(table)):
                    print(path)
                    drawn += 1
    if not drawn:
        raise InvalidSpec(
            f"--figures must hold a table named EXPERIMENT-SCALE.csv, but {folder}/ has none of "
            f"{', '.join(sorted(wanted))}. Run the experiment first."
        )
    return 0


def _own(path: Path, options: argparse.Namespace) -> int:
    from ablation.own_table import draw

    drawn = draw(path, options.rows, options.columns, options.value, options.reference)
    for each in drawn:
        print(each)
    return len(drawn)


def _report(options: argparse.Namespace) -> int:
    from ablation.report import Report, stale_figures
    from ablation.results import write_file

    source = Path(options.report) / "report.md"
    if not source.is_file():
        raise InvalidSpec(f"--report must be a folder with a report.md, but {source} is not there. Name the folder.")
    report, page = Report(source, Path(options.figures)), source.with_name("report.html")
    if options.check:
        wrong = [*stale_figures(Path(options.figures)), *report.stale(page)]
        for sentence in wrong:
            print(f"ablation: {sentence}", file=sys.stderr)
        print(
            f"{source} follows from its tables" if not wrong else f"{len(wrong)} things do not follow from their tables"
        )
        return 1 if wrong else 0
    write_file(source, report.rendered().encode())
    write_file(page, report.page().encode())
    made = report.latex()
    for path in (source.parent / "tables").glob("*.tex"):
        if path.name not in made:
            path.unlink()  # of a table that the report no longer shows
    for name, text in made.items():
        write_file(source.parent / "tables" / name, text.encode())
        print(source.parent / "tables" / name)
    print(source, page, sep="\n")
    return 0


def _preview(options: argparse.Namespace) -> int:
    from ablation.loading import load, read
    from ablation.plots import save
    from ablation.preview import contact_sheet

    if options.draws < 1:
        raise InvalidSpec(f"--draws must be at least 1, but got {options.draws}.")
    _cache_beside("results")  # where `ablation run` finds them again
    source = read(options.experiment, options.scale, options.data)
    figure = contact_sheet(load(source), options.draws)
    for path in save(figure, Path(options.figures) / f"preview-{source.name}-{source.scale}"):
        print(path)
    return 0


def _list(options: argparse.Namespace) -> int:
    from ablation.loading import docstring, names
    from ablation.scales import SCALES

    for title, function in (
        ("experiments (ablation run NAME)", "experiment"),
        ("searches (ablation search NAME)", "search"),
    ):
        print(f"{title}:")
        for name, path in names(function).items():
            first = (docstring(path).splitlines() or ["(cannot be read)"])[0]
            print(f"  {name:20} {first}")
    print("scales:")
    for name, make in SCALES.items():
        print(f"  {name:20} {(make.__doc__ or '').strip().splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
