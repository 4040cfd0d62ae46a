"""Checks that committed figures, tables and reports follow from their sources: `ablation report --check`."""

from __future__ import annotations

import difflib
import json
import os.path
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from PIL import Image

from ablation.analysis.settings import TABLES, read_settings, settings_beside, tables_of
from ablation.analysis.tables import digest, read_table
from ablation.plots.drawing import ENDINGS
from ablation.plots.file_names import Artifact, table_beside, tables_in
from ablation.report.render import Report
from ablation.spec import AblationError

BESIDE = tuple(f"-{name}" for name in TABLES if name)


def stale(report: Report) -> list[str]:
    """Differences between the output of `ablation report` and the files in the folder, a sentence each."""
    return [*report.unused(), *_stale_text(report), *_stale_page(report), *_stale_tables(report)]


def _stale_text(report: Report) -> Iterator[str]:
    if not report.text.is_file():
        yield f"{report.text} is missing; run `ablation report`"
        return
    old, new = report.text.read_text().splitlines(), report.markdown().splitlines()
    for kind, i, j, k, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            before, after = _differing("\n".join(old[i:j]), "\n".join(new[k:end]))
            yield f"{report.text}:{i + 1}: is {before!r}, and should be {after!r}; run `ablation report`"


def _differing(old: str, new: str) -> tuple[str, str]:
    """Two texts without their common first and last words."""
    a, b = old.split(" "), new.split(" ")
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return " ".join(a), " ".join(b)


def _stale_page(report: Report) -> Iterator[str]:
    if not report.page.is_file():
        yield f"{report.page} is missing; run `ablation report`"
        return
    page = report.page.read_text()
    sources = re.search(r'<script type="application/json" id="sources">(.*?)</script>', page, re.DOTALL)
    other = []
    for name, known in (json.loads(sources[1]) if sources else {}).items():
        path = Path(os.path.normpath(report.folder / name))
        if not path.is_file() or digest(path) != known:
            other.append(f"{report.page} was made from another {name}")
    if not other and page != report.html():
        other = [f"{report.page} differs from the page of `ablation report`; run it"]
    yield from other


def _stale_tables(report: Report) -> Iterator[str]:
    expected = report.latex()
    for path in sorted({*report.tables.glob("*.tex"), *(report.tables / name for name in expected)}):
        if not path.is_file():
            yield f"{path} is missing; run `ablation report`"
        elif path.name not in expected:
            yield f"{path} belongs to no table of the report; remove it"
        elif path.read_text() != expected[path.name]:
            signed = re.match(r"% from (.+?), SHA-256 (\w+)", path.read_text())
            other = signed and digest(report.figures.folder / signed[1]) != signed[2]
            yield f"{path} was made from another {signed[1]}" if other else f"{path} was changed"


def stale_figures(folder: Path) -> list[str]:
    """Figures that are missing, have no table beside them or were not drawn from it; captions that differ from those in
    their pictures."""
    wrong = [f"{path} is not there; run `ablation figures`" for path in _expected(folder) if not path.is_file()]
    tables = [csv.stem for csv in sorted(folder.glob("*.csv")) if not csv.stem.endswith(BESIDE)]
    known = {stem: [digest(path).encode() for path in tables_of(folder / f"{stem}.csv").values()] for stem in tables}
    for picture in sorted(p for p in folder.glob("*") if p.suffix in (".png", ".pdf")):
        stem = table_beside(picture.stem, tables)
        if stem is None and not picture.stem.startswith("preview-"):
            wrong.append(f"{picture} has no table beside it; remove it, or run its experiment")
        if stem is None or picture.stem.endswith("-views"):
            continue
        if not any(each in picture.read_bytes() for each in known[stem]):
            wrong.append(f"{picture} was not drawn from {stem}.csv; run `ablation figures`")
        elif picture.suffix == ".png" and _has_another_caption(picture):
            wrong.append(f"{picture.with_suffix('.txt')} is not the caption of {picture.name}; run `ablation figures`")
    return wrong


def _has_another_caption(picture: Path) -> bool:
    """Whether the caption beside a picture is missing or changed; pictures of earlier versions have none."""
    with Image.open(picture) as image:
        stated = image.text.get("Description")
    text = picture.with_suffix(".txt")
    return stated is not None and (not text.is_file() or text.read_text().strip() != stated)


def unsettled(folder: Path, exceptions: Mapping[str, str]) -> list[str]:
    """Tables with untraceable runs: the settings do not describe every run under its id, or the code is not in the
    repository's history. exceptions: the reason of an unknown commit, by the table's name."""
    wrong, commits = [], _history(folder)
    for csv in sorted(folder.glob("*.csv")):
        columns = pd.read_csv(csv, nrows=0).columns
        if "training" not in columns:
            continue
        table = read_table(csv)
        try:
            settings = settings_beside(csv) or read_settings(csv)
        except AblationError as error:
            wrong.append(str(error))
            continue
        lacking = [each for each in table["training"].astype(str).unique() if each not in settings.trainings]
        wrong += [f"the settings of {csv} do not describe the training {each}" for each in lacking]
        wrong += [f"the settings of {csv}: {each} does not match its description" for each in settings.wrong()]
        if commits is not None and "commit" in columns and csv.name not in exceptions:
            computed = table[table["state"].eq("finished")] if "state" in table else table
            if computed["commit"].isna().any():
                wrong.append(f"{csv} has rows without a commit, so their code is not known")
            for commit in table["commit"].dropna().astype(str).unique():
                if not any(each.startswith(commit) for each in commits):
                    wrong.append(f"{csv} was computed at the commit {commit}, which is not in the repository's history")
    return wrong


def _history(folder: Path) -> list[str] | None:
    """The commits of the repository that holds both the suite and the folder; None without such a repository, or with
    only a part of its history."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        root = Path(git("rev-parse", "--show-toplevel"))
        if git("rev-parse", "--is-shallow-repository") == "true" or not Path(__file__).is_relative_to(root):
            return None
        return git("rev-list", "HEAD").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None


def _expected(folder: Path) -> list[Path]:
    """The pictures of the named experiments that have a table in the folder."""
    from ablation.plots.figures import figures
    from ablation.study.experiment_file import names, read

    known = names()
    tables = {Artifact.of(stem): csv for stem, csv in tables_in(folder).items()}
    return [
        csv.with_name(f"{csv.stem}-{figure}{suffix}")
        for table, csv in tables.items()
        if table.name in known
        for figure in figures(read(table.name, table.scale), csv)
        for suffix in ENDINGS
    ]
