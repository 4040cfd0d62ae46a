"""The report: prose by people, numbers from tables.

In report.md every number, table and figure stands between markers and is filled by the command:

    <!-- {{ mean("pairwise-cifar10-small", "linear", first="crop", second="color") }} -->41.8 ± 2.2<!-- / -->

The expression is Jinja2's. `rendered` gives the file with what they say, so that report.md reads well as it is; `page`
is one HTML page of it, with everything inside; `stale` says what no longer follows from the committed tables.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from PIL import Image

from ablation import statistics
from ablation.appendix import appendix
from ablation.markers import VALUES, Markers
from ablation.settings import TABLES, path_of, read_settings
from ablation.specs import InvalidSpec
from ablation.tables import digest, in_markdown, latex, latex_long, read_table, rounded

BESIDE = tuple(f"-{name}" for name in TABLES if name)
BLOCK = re.compile(r"<!-- \{\{(.+?)\}\} -->(.*?)<!-- / -->", re.DOTALL)
LIMIT = 5 * 2**20  # bytes of the page
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs, longtable}
\begin{document}
INPUTS
\end{document}
"""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Expressions may call the markers' functions and read the fields of what these return, and nothing else."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return dataclasses.is_dataclass(obj) and attr in {field.name for field in dataclasses.fields(obj)}

    def is_safe_callable(self, obj: Any) -> bool:
        return any(obj == function for function in self.globals.values())


class Report(Markers):
    """A report.md and the folder of tables and figures that it speaks of."""

    def _environment(self, **changed: Callable) -> Environment:
        environment = _Sandbox(undefined=StrictUndefined, autoescape=False)
        environment.filters.clear()
        environment.globals = {name: getattr(self, name) for name in self.NAMES} | changed
        return environment

    def rendered(self, **changed: Callable) -> str:
        """report.md with every block filled anew. Raises InvalidSpec with the marker that cannot be filled."""
        environment = self._environment(**changed)
        self.shown = []

        def fill(match: re.Match) -> str:
            expression = match[1].strip()
            try:
                value = environment.compile_expression(expression, undefined_to_none=False)()
                text = value if isinstance(value, Markup) else in_markdown(str(value))  # a number, or a table's label
            except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                line = self.source.read_text()[: match.start()].count("\n") + 1
                raise InvalidSpec(
                    f"{self.source}:{line}: the marker {expression!r} cannot be filled: {error}"
                ) from error
            return f"<!-- {{{{{match[1]}}}}} -->{text}<!-- / -->"

        return BLOCK.sub(fill, self.source.read_text())

    def page(self, *, pictures: bool = True) -> str:
        """One HTML page: no network, everything inside. Without `pictures` their places are empty."""
        from importlib import resources

        self.used, self.pictures = {self.source}, pictures
        text = self.rendered(figure=self._html_figure, heatmap=self._html_heatmap)
        body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
        template = resources.files("ablation").joinpath("report.html.jinja").read_text()
        found = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
        page = found.render(body=Markup(body), sources=_in_script(self.sources()), title=_title(text))
        if len(page.encode()) > LIMIT:
            raise InvalidSpec(f"the page must be under {LIMIT} bytes, but is {len(page.encode())}. Show fewer figures.")
        return page

    def sources(self) -> dict[str, str]:
        """Digests of what the last rendering read, by path relative to the report's folder."""
        return {self._relative(path): digest(path) for path in sorted(self.used)}

    def _html_figure(self, name: str, title: str) -> str:
        self.figure(name, title)
        picture = self._embedded(self.figures / f"{name}.png")
        return Markup('\n\n<img alt="{}" src="{}">\n\n').format(_in_line(title), picture)

    def _html_heatmap(self, name: str, value: str, title: str, **where: Any) -> str:
        """A table whose cells carry what is shown when they are pointed at."""
        column = VALUES.get(value, value)
        seconds = ["training_seconds"] if "training_seconds" in self.table(name) else []
        table = self.chosen(name, where, column, *seconds).dropna(subset=["first", "second"])
        found = statistics.among_best(table, ["first", "second"], column)
        best = found.set_index(["first", "second"])["among_best"].to_dict()
        labels = list(dict.fromkeys(table["first"]))
        curves, strips = self._curves(name, where), self._strips(name)
        low, high = found["mean"].min(), found["mean"].max()

        def shown(number: float, beside: float = 0.0) -> float:
            return float(rounded(number, 2, beside))

        data, rows = [], []
        for first in labels:
            row = []
            for second in labels:
                runs = table[(table["first"] == first) & (table["second"] == second)]
                values = runs[column].dropna()
                if values.empty:
                    row.append('<td class="missing">missing</td>')
                    continue
                share = (values.mean() - low) / max(high - low, 1e-9)
                among = best.get((first, second))
                among = None if pd.isna(among) else bool(among)  # not known from one seed
                taken = runs["training_seconds"].mean() if seconds else math.nan
                view = first if first == second else f"{first} + {second}"
                data.append(
                    {
                        "view": view, "mean": shown(values.mean()), "values": [shown(v) for v in values],
                        "sd": shown(values.std(ddof=1), values.mean()) if len(values) > 1 else None, "n": len(values),
                        "seconds": None if math.isnan(taken) else round(taken, 1), "best": among,
                        "curve": curves.get((first, second), []), "strip": strips["places"].get(view),
                    }
                )  # fmt: skip
                mark = " best" * bool(among) + " dark" * bool(share > 0.6)
                row.append(
                    f'<td class="cell{mark}" tabindex="0" style="--share:{share:.3f}" data-cell="{len(data) - 1}">'
                    f"{rounded(values.mean(), 1)}</td>"
                )
            rows.append(f'<tr><th scope="row">{_in_line(first)}</th>{"".join(row)}</tr>')
        head = "".join(f'<th scope="col">{_in_line(label)}</th>' for label in labels)
        payload = _in_script({"cells": data, "strips": strips["picture"], "height": strips["height"]})
        return Markup(
            f'\n\n<figure class="heatmap"><figcaption>{_in_line(title)}</figcaption><div class="both"><table>'
            f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
            f'<div class="detail" aria-live="polite">Point at a cell.</div></div>'
            f'<script type="application/json">{payload}</script></figure>\n\n'
        )

    def _curves(self, name: str, where: dict[str, Any]) -> dict[tuple, list]:
        """Loss and validation kNN over the epochs, mean over seeds, by pair."""
        path = self.figures / f"{name}-curves.csv"
        if not path.is_file():
            return {}
        shown = ("loss", "validation_knn")
        found = self.chosen(f"{name}-curves", where, "epoch", *shown)
        means = found.groupby(["first", "second", "epoch"], sort=False)[list(shown)].mean().reset_index()
        return {
            pair: [[int(r.epoch), _number(r.loss, 4), _number(r.validation_knn, 2)] for r in rows.itertuples()]
            for pair, rows in means.groupby(["first", "second"], sort=False)
        }

    def _strips(self, name: str) -> dict[str, Any]:
        """The picture of augmented images, a strip for each view, and which strip is whose."""
        path = self.figures / f"{name}-views.png"
        if not path.is_file():
            return {"picture": None, "height": 0, "places": {}}
        self.used.add(path)
        with Image.open(path) as picture:
            views, height = json.loads(picture.text["views"]), int(picture.text["height"])
        return {"picture": self._embedded(path), "height": height, "places": {view: i for i, view in enumerate(views)}}

    def _embedded(self, path: Path) -> str:
        """A PNG with at most 128 colors as a data address: a figure loses nothing that is seen, a page many bytes."""
        if not self.pictures:
            return "data:image/png;base64,"
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        small.save(buffer, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def latex(self) -> dict[str, str]:
        """The report's tables, for each experiment that it speaks of an appendix, and a document with them."""
        from ablation.loading import names
        from ablation.scales import SCALES

        self.used = {self.source}
        self.rendered()
        files = {}
        for number, (name, found, n) in enumerate(self.shown, start=1):
            caption = (
                f"{name}: mean ± sample standard deviation over n = {n} seeds; * not told from the best (Hsu, 95 %)."
            )
            safe = re.sub(r"[^\w.+-]", "-", name)  # in LaTeX, where a % would begin a comment
            files[f"{number:02}-{safe}.tex"] = self._signed(name, latex(found, caption, f"tab:{safe}-{number}"))
        tables = {f"{each}-{scale}": (each, scale) for each in names("experiment") for scale in SCALES}
        # What was read is a table, or one beside it, or a figure: their names begin with the table's, the longest such.
        used = {path.stem for path in self.used}
        of = {max((t for t in tables if f"{u}-".startswith(f"{t}-")), key=len, default="") for u in used}
        for name in [name for name in tables if name in of and (self.figures / f"{name}.csv").is_file()]:
            rows = appendix(read_settings(self.figures / f"{name}.csv"), self.table(name))
            files[f"appendix-{name}.tex"] = self._signed(name, latex_long(rows, f"Every setting of {name}."))
        inputs = "\n".join(f"\\input{{{name}}}" for name in files)
        files["all.tex"] = DOCUMENT.replace("INPUTS", inputs)
        return files

    def _signed(self, name: str, text: str) -> str:
        return f"% from {name}.csv, SHA-256 {digest(self.figures / f'{name}.csv')}\n{text}"

    def stale(self, page: Path) -> list[str]:
        """What is committed and does not follow from what it was made from: report.md, the page, the LaTeX tables."""
        wrong = []
        if not page.is_file():
            return [f"{page} is not there; run `ablation report`"]
        text = self.source.read_text()
        for old, new in zip(BLOCK.finditer(text), BLOCK.finditer(self.rendered()), strict=True):
            if old[2] != new[2]:
                line = text[: old.start()].count("\n") + 1
                wrong.append(f"{self.source}:{line}: {old[1].strip()} is {new[2].strip()!r}, not {old[2].strip()!r}")
        made_from = re.search(
            r'<script type="application/json" id="sources">(.*?)</script>', page.read_text(), re.DOTALL
        )
        stated = json.loads(made_from[1]) if made_from else {}
        if not stated:
            wrong.append(f"{page} does not say what it was made from")
        for name, known in stated.items():
            path = self.source.parent / name
            if not path.is_file() or digest(path) != known:
                wrong.append(f"{page} was made from another {name}")
        if not wrong and self.page(pictures=False) != _without_pictures(page.read_text()):
            wrong.append(f"{page} is not what `ablation report` makes")
        tables, made = self.source.parent / "tables", self.latex()
        for path in sorted({*tables.glob("*.tex"), *(tables / name for name in made)}):
            if not path.is_file():
                wrong.append(f"{path} is not there; run `ablation report`")
            elif path.name not in made:
                wrong.append(f"{path} is of no table of the report; remove it")
            elif path.read_text() != made[path.name]:
                signed = re.match(r"% from (.+?), SHA-256 (\w+)", path.read_text())
                other = signed and digest(self.figures / signed[1]) != signed[2]
                wrong.append(f"{path} was made from another {signed[1]}" if other else f"{path} was changed")
        return wrong


def stale_figures(folder: Path) -> list[str]:
    """Figures that were not drawn from the table beside them, that have none, or that are not there."""
    wrong = [f"{path} is not there; run `ablation figures`" for path in _expected(folder) if not path.is_file()]
    stems = [csv.stem for csv in folder.glob("*.csv")]
    for picture in sorted(p for p in folder.glob("*") if p.suffix in (".png", ".pdf")):
        if not picture.stem.startswith(("preview-", *(f"{stem}-" for stem in stems))):
            wrong.append(f"{picture} has no table beside it; remove it, or run its experiment")
    for csv in sorted(folder.glob("*.csv")):
        if csv.stem.endswith(BESIDE):
            continue
        beside = [csv.with_name(f"{csv.stem}{ending}.csv") for ending in BESIDE]
        known = [digest(path).encode() for path in (csv, *beside) if path.is_file()]
        for picture in sorted(folder.glob(f"{csv.stem}-*")):
            others = [
                c for c in folder.glob("*.csv") if len(c.stem) > len(csv.stem) and picture.stem.startswith(c.stem)
            ]
            if picture.suffix not in (".png", ".pdf") or others or picture.stem.endswith("-views"):
                continue
            if not any(each in picture.read_bytes() for each in known):
                wrong.append(f"{picture} was not drawn from {csv.name}; run `ablation figures`")
    return wrong


def unsettled(folder: Path, exceptions: Mapping[str, str]) -> list[str]:
    """Tables whose runs cannot be traced: without settings that describe every run under its id, or computed by code
    that is not in the repository's history. exceptions: names of tables, and why the commit of each is not known."""
    wrong, commits = [], _history(folder)
    for csv in sorted(folder.glob("*.csv")):
        columns = pd.read_csv(csv, nrows=0).columns
        if "training" not in columns:
            continue
        table = read_table(csv)
        if not csv.stem.endswith(BESIDE):
            try:
                settings = read_settings(csv)
            except InvalidSpec as error:
                wrong.append(str(error))
                continue
            lacking = [each for each in table["training"].astype(str).unique() if each not in settings.trainings]
            wrong += [f"{path_of(csv)} does not describe the training {each} of {csv.name}" for each in lacking]
            wrong += [f"{path_of(csv)}: {each} is another than the one described there" for each in settings.wrong()]
        if commits is not None and "commit" in columns and csv.name not in exceptions:
            computed = table[table["state"].eq("finished")] if "state" in table else table
            if computed["commit"].isna().any():
                wrong.append(f"{csv} has rows without a commit, so it is not known which code computed them")
            for commit in table["commit"].dropna().astype(str).unique():
                if not any(each.startswith(commit) for each in commits):
                    wrong.append(f"{csv} was computed at the commit {commit}, which is not in the repository's history")
    return wrong


def _history(folder: Path) -> list[str] | None:
    """The commits of the repository that holds both the suite and the folder; None where there is none, or only a
    part of its history."""

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
    """The pictures of the experiments, known by name, whose tables lie in the folder."""
    from ablation.loading import figures, names, read
    from ablation.scales import SCALES

    return [
        folder / f"{name}-{scale}-{figure}{suffix}"
        for name in names()
        for scale in SCALES
        if (folder / f"{name}-{scale}.csv").is_file()
        for figure in figures(read(name, scale), folder / f"{name}-{scale}.csv")
        for suffix in (".png", ".pdf")
    ]


def _in_line(text: str) -> Markup:
    """A label in HTML; a blank line would end the block of HTML that Markdown leaves as it is."""
    return escape(" ".join(text.split()))


def _in_script(value: Any) -> str:
    """JSON in which nothing ends the script or begins another marker."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _without_pictures(page: str) -> str:
    """A page without the bytes of its pictures, which another version of the image library packs otherwise; which
    pictures they are, its digests say."""
    return re.sub(r"data:image/png;base64,[\w+/=]+", "data:image/png;base64,", page)


def _number(value: float, digits: int) -> float | None:
    """For JSON, which has no not-a-number."""
    return round(float(value), digits) if math.isfinite(value) else None


def _title(text: str) -> str:
    return next((line.removeprefix("# ").strip() for line in text.splitlines() if line.startswith("# ")), "Report")
