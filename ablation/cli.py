"""The command line: options set where and how; the experiment file and the scale define what to compute."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import TextIO, TypeVar

import ablation
from ablation.commands.options import RunOptions, SearchOptions, StatusOptions
from ablation.spec import PRECISIONS, AblationError, InvalidSpec, contents_read_once

Settings = TypeVar("Settings")
Commands = argparse._SubParsersAction


def main(arguments: list[str] | None = None) -> int:
    # One thread each for the numerical libraries: parallelism is by worker processes.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without ± shows a ?
            stream.reconfigure(errors="replace")
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown))
    if sys.stdout is None:
        print("ablation: standard output is closed. Write > /dev/null to print nothing.", file=sys.stderr)
        return 2
    # A scheduler's SIGTERM is treated as Ctrl-C: workers stop cleanly.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contents_read_once():
            code = options.call(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = error.filename
        if place is None and _is_full(sys.stdout):
            place = "standard output"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards the remaining output
        if place is None:
            raise
        from ablation.system.terminal import printable

        message = printable(f"{place} cannot be used: {error.strerror}. Finished work is kept.")
        print(f"ablation: {message}", file=sys.stderr)
        return 2
    except AblationError as error:
        from ablation.system.terminal import printable_lines

        print(f"ablation: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablation: stopped; the same command continues.", file=sys.stderr)
        return 130


def _is_full(stream: TextIO) -> bool:
    """Whether a write fails, as on a full disk."""
    try:
        os.write(stream.fileno(), b"\n")
    except io.UnsupportedOperation:  # a stream in memory
        return False
    except OSError:
        return True
    return False


def _unknown(arguments: list[str]) -> str:
    """The message for arguments that no command has; some are settings that belong in the experiment file."""
    name, _, value = arguments[0].partition("=")
    field = name.lstrip("-").replace("-", "_")
    sentence = f"unknown argument {' '.join(arguments)}."
    if not name.startswith("-"):
        return sentence
    value = value or next((each for each in arguments[1:2] if not each.startswith("-")), "...")
    from ablation.study.scales import Scale

    settings = {field.name: f"scale = scale.replace({field.name}={value})" for field in fields(Scale)}
    settings |= {
        "batch_size": f"scale = scale.replace(batch={value})",
        "learning_rate": f"scale = scale.replace(optimizer=AdamW(learning_rate={value}))",
        "seeds": "pairwise(..., seeds=range(5)) or sweep(..., seeds=range(5))",
    }
    field = {"lr": "learning_rate", "seed": "seeds"}.get(field, field)
    if field in settings:
        return f"{sentence} The experiment file defines what to compute; write there: {settings[field]}"
    return f"{sentence} Options set where and how; the experiment file defines what to compute. See --help."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ablation", description=ablation.__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_run, _add_search, _add_status, _add_export, _add_figures, _add_report, _add_preview, _add_list):
        add(commands)
    return parser


def _add_run(commands: Commands) -> None:
    parser = commands.add_parser("run", help="compute the missing cells of an experiment and draw its figures")
    parser.add_argument(
        "file", metavar="experiment", help="a name (see `ablation list`) or the path of an experiment file"
    )
    parser.add_argument(
        "--only", metavar="first=crop,second=color", help="only the cells at these coordinates; no figures"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="compute nothing; print the state of each cell and the cost of all"
    )
    parser.add_argument("--in-full", action="store_true", help="with --dry-run: every field of every cell, as JSON")
    parser.add_argument(
        "--part", metavar="I/N",
        help="only part I of N of the cells, from 0; the table keeps the cells of earlier parts, from any machine",
    )  # fmt: skip
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="only the runs whose training id modulo N is I, for job arrays on one folder",
    )
    _device_options(parser)
    _scale_options(parser, auto=True)
    _folder_options(parser)
    parser.set_defaults(call=_run)


def _add_search(commands: Commands) -> None:
    parser = commands.add_parser("search", help="search for the best settings on validation images, with Optuna")
    parser.add_argument(
        "file", metavar="search", help="a name (see `ablation list`) or the path of a file with a search"
    )
    _device_options(parser)
    parser.add_argument(
        "--storage",
        metavar="ADDRESS",
        default=os.environ.get("ABLATION_STORAGE"),
        help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE; set it as ABLATION_STORAGE in the "
        "environment to keep a password out of the list of processes (default: a file beside the results)",
    )
    parser.add_argument("--study", metavar="NAME", help="the study's name in the storage (default: NAME-SCALE)")
    parser.add_argument(
        "--sampler", choices=("tpe", "random"), default="tpe", help="random: the baseline (default: tpe)"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="the budget (default: the file's)")
    parser.add_argument(
        "--dry-run", action="store_true", help="compute nothing; print the number and cost of the missing trials"
    )
    parser.add_argument(
        "--trials-only",
        action="store_true",
        help="run only the trials, without the comparison and the figures",
    )
    parser.add_argument(
        "--dashboard", action="store_true", help="show the storage with Optuna Dashboard, on this machine"
    )
    parser.add_argument("--port", type=int, default=8080, help="port of the dashboard (default: 8080)")
    _scale_options(parser, auto=True)
    _folder_options(parser)
    parser.set_defaults(call=_search)


def _add_status(commands: Commands) -> None:
    parser = commands.add_parser("status", help="show finished, running and failed runs, and the time left")
    parser.add_argument("--results", default="results", metavar="FOLDER")
    parser.add_argument("--checkpoints", metavar="FOLDER", help="as for `run` (default: RESULTS/checkpoints)")
    parser.add_argument("--cost", action="store_true", help="also show device-hours, disk and memory so far")
    parser.set_defaults(call=_status)


def _add_export(commands: Commands) -> None:
    parser = commands.add_parser("export", help="write the encoder of a run as a safetensors file, for use elsewhere")
    parser.add_argument("run", help="the training id, or the beginning of it (column `training` of a table)")
    parser.add_argument("--to", metavar="FILE", help="default: encoder-ID.safetensors")
    parser.add_argument("--results", default="results", metavar="FOLDER")
    parser.set_defaults(call=_export)


def _add_figures(commands: Commands) -> None:
    parser = commands.add_parser("figures", help="draw the figures again from their CSV files, without training")
    parser.add_argument(
        "experiment",
        nargs="*",
        help="names, files, or your own table.csv (default: all with a table in the folder)",
    )
    parser.add_argument("--scale", help="only this scale")
    parser.add_argument(
        "--figures",
        metavar="FOLDER",
        help="folder of tables and figures (default: figures; for your own table, its folder)",
    )
    parser.add_argument("--rows", default="first", help="for your own table: a column (default: first)")
    parser.add_argument("--columns", default="second", help="for your own table: a column (default: second)")
    parser.add_argument(
        "--value",
        nargs="+",
        action="extend",
        help="for your own table: columns of numbers (default: the only one, or linear)",
    )
    parser.add_argument(
        "--fractions", action="store_true", help="for your own table: values are shares of one; show them in percent"
    )
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        metavar="COLUMN=LABEL",
        help="for your own table: only these rows",
    )
    parser.add_argument("--reference", help="for your own table: a published table, such as simclr_figure5_pairs")
    parser.set_defaults(call=_figures)


def _add_report(commands: Commands) -> None:
    parser = commands.add_parser("report", help="write report.md, report.html and LaTeX tables from the tables")
    parser.add_argument(
        "--report", default="report", metavar="FOLDER",
        help="the folder of report.md.jinja and values.py (default: report)",
    )  # fmt: skip
    parser.add_argument("--figures", default="figures", metavar="FOLDER")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; list what does not follow from the tables (exit code 1)"
    )
    parser.add_argument("--standalone", metavar="FILE", help="also write the page as one file with its pictures")
    parser.set_defaults(call=_report)


def _add_preview(commands: Commands) -> None:
    parser = commands.add_parser(
        "preview", help="draw sample images of an experiment's operators, with their laws, and views"
    )
    parser.add_argument("experiment", nargs="?", default="pairwise", help="whose (default: pairwise)")
    parser.add_argument("--draws", type=int, default=8, help="images of each (default: 8)")
    _scale_options(parser)
    parser.add_argument("--figures", default="figures", metavar="FOLDER")
    parser.set_defaults(call=_preview)


def _add_list(commands: Commands) -> None:
    parser = commands.add_parser("list", help="list the named experiments, searches and scales")
    parser.set_defaults(call=_list)


def _scale_options(parser: argparse.ArgumentParser, *, auto: bool = False) -> None:
    parser.add_argument("--scale", default="tiny", help="tiny, cifar10-small, cifar10, ... (default: tiny)")
    parser.add_argument(
        "--data", metavar="[NAME=]PLACE", help="location of the scale's images: a folder, parquet or Hub name"
    )
    of_this_machine = "; auto: the faster one on this machine (single machine)" if auto else ""
    parser.add_argument(
        "--precision", choices=(*PRECISIONS, *(["auto"] if auto else [])),
        help=f"of the encoder (default: the scale's){of_this_machine}",
    )  # fmt: skip


def _device_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ray", metavar="auto|local|ADDRESS", help="compute on a Ray cluster, one task per run")
    parser.add_argument(
        "--gpus-per-run", type=float, metavar="SHARE",
        help="for Ray tasks: 0.5 puts two runs on a GPU (default: 1 if the cluster has GPUs)",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda (all GPUs), cuda:1, cuda:0,cuda:2 (default: GPUs if there are any)")
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU core, or one per GPU)")
    parser.add_argument(
        "--checkpoints", metavar="FOLDER",
        help="folder of the checkpoints (default: RESULTS/checkpoints; with --ray, none)",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-every", type=float, default=5.0, metavar="MINUTES", help="between two checkpoints (default: 5)"
    )
    parser.add_argument(
        "--keep-checkpoints", action="store_true", help="keep each training's last checkpoint after its result"
    )


def _folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", default="results", metavar="FOLDER", help="folder of the runs (default: results)")
    parser.add_argument(
        "--figures", type=Path, default=Path("figures"), metavar="FOLDER", help="folder of figures (default: figures)"
    )


# --------------------------------------------------------------------------------------------------
# Each command is imported on demand, since most take seconds to load.


def _run(options: argparse.Namespace) -> int:
    from ablation.commands.run import run

    options.part, options.shard = _fraction("--part", options.part), _fraction("--shard", options.shard)
    _cache_beside(options.results)
    return run(_settings(RunOptions, options))


def _search(options: argparse.Namespace) -> int:
    from ablation.commands.search import search

    if options.trials is not None and options.trials < 1:
        raise InvalidSpec(f"--trials must be at least 1, but got {options.trials}.")
    _cache_beside(options.results)
    return search(_settings(SearchOptions, options))


def _status(options: argparse.Namespace) -> int:
    from ablation.commands.status import status

    return status(_settings(StatusOptions, options))


def _export(options: argparse.Namespace) -> int:
    from ablation.commands.export import export

    return export(options)


def _figures(options: argparse.Namespace) -> int:
    from ablation.commands.figures import figures

    return figures(options)


def _report(options: argparse.Namespace) -> int:
    from ablation.commands.report import report

    return report(options)


def _preview(options: argparse.Namespace) -> int:
    from ablation.commands.preview import preview

    _cache_beside("results")  # shared with `ablation run`
    return preview(options)


def _list(options: argparse.Namespace) -> int:
    from ablation.commands.list import list_names

    return list_names(options)


def _settings(kind: type[Settings], parsed: argparse.Namespace) -> Settings:
    return kind(**{field.name: getattr(parsed, field.name) for field in fields(kind)})


def _cache_beside(results: str) -> None:
    """Puts decoded images into the results folder, unless the user names another; workers inherit the setting."""
    os.environ.setdefault("ABLATION_CACHE", str(Path(results).absolute() / "cache"))


def _fraction(option: str, text: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8); None as (0, 1), everything."""
    if text is None:
        return 0, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not index < count:
        raise InvalidSpec(f"{option} must be I/N with I from 0 to N - 1, but got {text!r}. Write {option} 0/8, say.")
    return index, count


if __name__ == "__main__":
    sys.exit(main())
