"""The command line: options say where and how; what is computed is in the experiment file and the scale."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import TextIO

from ablation.specs import PRECISIONS, InvalidSpec, contents_read_once


def main(arguments: list[str] | None = None) -> int:
    # One thread each for the numerical libraries: parallelism is by worker processes.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that has no ± shows a ?
            stream.reconfigure(errors="replace")
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown))
    if sys.stdout is None:
        print("ablation: standard output is closed. Write > /dev/null to print nothing.", file=sys.stderr)
        return 2
    # What a scheduler sends before it takes the machine away is treated as Ctrl-C: workers are stopped in good order.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contents_read_once():
            code = options.call(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = error.filename
        if place is None and _is_full(sys.stdout):
            place = "standard output"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print goes nowhere
        if place is None:
            raise
        from ablation.documents import printable

        said = printable(f"{place} cannot be used: {error.strerror}. What was finished is kept.")
        print(f"ablation: {said}", file=sys.stderr)
        return 2
    except InvalidSpec as error:
        from ablation.documents import printable_lines

        print(f"ablation: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablation: stopped; the same command continues.", file=sys.stderr)
        return 130


def _is_full(stream: TextIO) -> bool:
    """Whether nothing can be written, as on a full disk."""
    try:
        os.write(stream.fileno(), b"\n")
    except io.UnsupportedOperation:  # it is in memory
        return False
    except OSError:
        return True
    return False


def _unknown(arguments: list[str]) -> str:
    """What to do about arguments that no command has, which may be settings of what is computed."""
    name, _, value = arguments[0].partition("=")
    field = name.lstrip("-").replace("-", "_")
    sentence = f"unknown argument {' '.join(arguments)}."
    if not name.startswith("-"):
        return sentence
    value = value or next((each for each in arguments[1:2] if not each.startswith("-")), "...")
    from ablation.scales import Scale

    settings = {field.name: f"scale = scale.replace({field.name}={value})" for field in fields(Scale)}
    settings |= {
        "batch_size": f"scale = scale.replace(batch={value})",
        "learning_rate": f"scale = scale.replace(optimizer=AdamW(learning_rate={value}))",
        "seeds": "pairwise(..., seeds=range(5)) or sweep(..., seeds=range(5))",
    }
    field = {"lr": "learning_rate", "seed": "seeds"}.get(field, field)
    if field in settings:
        return f"{sentence} What is computed stands in the experiment file; write there: {settings[field]}"
    return f"{sentence} Options say where and how; what is computed stands in the experiment file. See --help."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ablation", description=__import__("ablation").__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="compute the missing cells of an experiment and draw its figures")
    run.add_argument("experiment", help="a name (see `ablation list`) or the path of an experiment file")
    run.add_argument(
        "--only", metavar="first=crop,second=color", help="only the cells at these coordinates; no figures"
    )
    run.add_argument(
        "--dry-run", action="store_true", help="compute nothing: how each cell stands, and the cost of all"
    )
    run.add_argument("--in-full", action="store_true", help="with --dry-run: every field of every cell, as JSON")
    run.add_argument(
        "--part", metavar="I/N",
        help="only part I of N of the cells, from 0; the table keeps those of earlier parts, also of another machine's",
    )  # fmt: skip
    run.add_argument(
        "--shard",
        metavar="I/N",
        help="only the runs whose training id modulo N is I, for job arrays on one folder",
    )
    run.add_argument("--ray", metavar="auto|local|ADDRESS", help="compute on a Ray cluster, a task per run")
    run.add_argument(
        "--gpus-per-run", type=float, metavar="SHARE",
        help="of a Ray task: 0.5 puts two runs on a GPU (default: 1 where the cluster has GPUs)",
    )  # fmt: skip
    _device_options(run)
    _scale_options(run, auto=True)
    _folder_options(run)
    run.set_defaults(call=_run)

    search = commands.add_parser("search", help="look for the best settings on validation images, with Optuna")
    search.add_argument("search", help="a name (see `ablation list`) or the path of a file with a search")
    _device_options(search)
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
        "--dry-run", action="store_true", help="compute nothing: the trials that are left, and their cost"
    )
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
    _scale_options(search, auto=True)
    _folder_options(search)
    search.set_defaults(call=_search)

    status = commands.add_parser("status", help="what is finished, what runs where, what failed, and the time left")
    status.add_argument("--results", default="results", metavar="FOLDER")
    status.add_argument("--checkpoints", metavar="FOLDER", help="as of `run` (default: RESULTS/checkpoints)")
    status.add_argument("--cost", action="store_true", help="device-hours, disk, memory and energy so far")
    status.set_defaults(call=_status)

    export = commands.add_parser("export", help="the encoder of a run as a safetensors file, for use elsewhere")
    export.add_argument("run", help="its training id, or the beginning of it (column `training` of a table)")
    export.add_argument("--to", metavar="FILE", help="default: encoder-ID.safetensors")
    export.add_argument("--results", default="results", metavar="FOLDER")
    export.set_defaults(call=_export)

    figures = commands.add_parser("figures", help="draw the figures again from their CSV files, without training")
    figures.add_argument(
        "experiment",
        nargs="*",
        help="names, files, or your own table.csv (default: all that have a table in the folder)",
    )
    figures.add_argument("--scale", help="only this scale")
    figures.add_argument(
        "--figures",
        metavar="FOLDER",
        help="where tables are and figures go (default: figures; your own table's folder)",
    )
    figures.add_argument("--rows", default="first", help="of your own table: a column (default: first)")
    figures.add_argument("--columns", default="second", help="of your own table: a column (default: second)")
    figures.add_argument(
        "--value",
        nargs="+",
        action="extend",
        help="of your own table: columns of numbers (default: the only one, or linear)",
    )
    figures.add_argument(
        "--fractions", action="store_true", help="of your own table: the values are shares of one; show them in percent"
    )
    figures.add_argument(
        "--where",
        nargs="+",
        action="extend",
        metavar="COLUMN=LABEL",
        help="of your own table: only these rows",
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


def _scale_options(parser: argparse.ArgumentParser, *, auto: bool = False) -> None:
    parser.add_argument("--scale", default="tiny", help="tiny, cifar10-small, cifar10, imagenet100 (default: tiny)")
    parser.add_argument(
        "--data", metavar="[NAME=]PLACE", help="where the scale's images lie: a folder, parquet or Hub name"
    )
    parser.add_argument(
        "--precision", choices=(*PRECISIONS, *(["auto"] if auto else [])),
        help="of the encoder (default: the scale's)" + "; auto: the faster one here, on one machine alone" * auto,
    )  # fmt: skip


def _device_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda (all GPUs), cuda:1, cuda:0,cuda:2 (default: GPUs if there are any)")
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU core, or one per GPU)")
    parser.add_argument(
        "--checkpoints", metavar="FOLDER",
        help="where trainings under way are kept (default: RESULTS/checkpoints; with `run --ray`, none)",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-every", type=float, default=5.0, metavar="MINUTES", help="between two of them (default: 5)"
    )
    parser.add_argument(
        "--keep-checkpoints", action="store_true", help="keep each training's last one when its result is written"
    )


def _folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", default="results", metavar="FOLDER", help="where runs are kept (default: results)")
    parser.add_argument("--figures", default="figures", metavar="FOLDER", help="where figures go (default: figures)")


def _run(options: argparse.Namespace) -> int:
    from ablation.commands.run import run

    _cache_beside(options.results)
    return run(options)


def _cache_beside(results: str) -> None:
    """Decoded images go into the folder of the results, unless the user names another; workers inherit it."""
    os.environ.setdefault("ABLATION_CACHE", str(Path(results).absolute() / "cache"))


def _status(options: argparse.Namespace) -> int:
    from ablation.commands.status import status

    return status(options)


def _export(options: argparse.Namespace) -> int:
    from ablation.commands.export import export

    return export(options)


def _figures(options: argparse.Namespace) -> int:
    from ablation.commands.figures import figures

    return figures(options)


def _search(options: argparse.Namespace) -> int:
    from ablation.loading import read
    from ablation.specs import InvalidSpec

    for name in ("trials", "heartbeat"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InvalidSpec(f"--{name} must be at least 1, but got {value}.")
    from ablation.runner import chosen_precision
    from ablation.search.command import search

    _cache_beside(options.results)
    precision = chosen_precision(options, {"--storage": options.storage, "--trials-only": options.trials_only})
    return search(read(options.search, options.scale, options.data, "search", precision), options)


def _report(options: argparse.Namespace) -> int:
    from ablation.files import write_file
    from ablation.report import Report, stale_figures, unsettled

    source = Path(options.report) / "report.md"
    if not source.is_file():
        raise InvalidSpec(f"--report must be a folder with a report.md, but {source} is not there. Name the folder.")
    report, page = Report(source, Path(options.figures)), source.with_name("report.html")
    if options.check:
        known = source.with_name("exceptions.json")
        exceptions = json.loads(known.read_bytes()) if known.is_file() else {}
        folder = Path(options.figures)
        wrong = [*stale_figures(folder), *unsettled(folder, exceptions), *report.stale(page)]
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
    from ablation.loading import explained, load, read
    from ablation.plots import save
    from ablation.preview import contact_sheet

    if options.draws < 1:
        raise InvalidSpec(f"--draws must be at least 1, but got {options.draws}.")
    _cache_beside("results")  # where `ablation run` finds them again
    source = read(options.experiment, options.scale, options.data, precision=options.precision)
    experiment = load(source)
    figure = explained(source, lambda: contact_sheet(experiment, options.draws))
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
            first = (docstring(path.read_bytes()).splitlines() or ["(cannot be read)"])[0]
            print(f"  {name:20} {first}")
    print("scales:")
    for name, make in SCALES.items():
        print(f"  {name:20} {(make.__doc__ or '').strip().splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
