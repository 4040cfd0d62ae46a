"""`ablation report`: write a report from its template, its values and the tables of figures/, or check it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ablation.report.check import stale, stale_figures, unsettled
from ablation.report.render import Report
from ablation.system.files import write_file


def report(options: argparse.Namespace) -> int:
    document = Report(Path(options.report), Path(options.figures))
    if options.check:
        return _check(document)
    files = {
        document.text: document.markdown(),
        document.page: document.html(),
        **{document.tables / name: text for name, text in document.latex().items()},
    }
    if options.standalone:
        files[Path(options.standalone)] = document.html(standalone=True)
    for path in document.tables.glob("*.tex"):
        if path not in files:
            path.unlink()  # a table that the report no longer shows
    for path, text in files.items():
        write_file(path, text.encode())
        print(path)
    for sentence in document.unused():
        print(f"ablation: {sentence}", file=sys.stderr)
    return 0


def _check(document: Report) -> int:
    known = document.folder / "exceptions.json"
    exceptions = json.loads(known.read_bytes()) if known.is_file() else {}
    folder = document.figures.folder
    wrong = [*stale_figures(folder), *unsettled(folder, exceptions), *stale(document)]
    for sentence in wrong:
        print(f"ablation: {sentence}", file=sys.stderr)
    print(
        f"{len(wrong)} items do not follow from their tables" if wrong else f"{document.text} follows from its tables"
    )
    return 1 if wrong else 0
