"""A report from its template and its values: Markdown, a page in HTML, and tables in LaTeX.

The template uses Jinja: prose, names of values between {{ }}, and loops over lists of values. It runs in a sandbox
without calls, attributes and filters, so it can only show values. Text from a table is escaped, so that no label
becomes markup.
"""

from __future__ import annotations

import difflib
import os.path
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from ablation.analysis.settings import read_settings
from ablation.analysis.tables import digest
from ablation.plots.file_names import table_beside
from ablation.report import html
from ablation.report.appendix import appendix
from ablation.report.elements import Cells, ClickableHeatmap
from ablation.report.latex import in_markdown, latex, latex_long
from ablation.report.values import Figures, leaves, load
from ablation.spec import AblationError, InvalidSpec

NOTE = "<!-- `ablation report` writes this file from {} and {}: edit those. -->"
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
    """A sandbox in which a template can only show values and their items."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return False

    def is_safe_callable(self, obj: Any) -> bool:
        return False


class Report:
    """A folder with report.md.jinja and values.py, over a folder of tables and figures.

    Raises AblationError with file and line if a value cannot be computed or the template names an unknown one.
    """

    def __init__(self, folder: Path, figures: Path):
        self.folder = folder
        self.template, self.code = folder / "report.md.jinja", folder / "values.py"
        self.text, self.page, self.tables = folder / "report.md", folder / "report.html", folder / "tables"
        if not self.template.is_file():
            raise InvalidSpec(
                f"--report must be a folder with report.md.jinja and values.py, but {self.template} is not there. Name "
                "the folder, or write the template."
            )
        self.figures = Figures(figures)
        self.values = load(self.code, self.figures)
        self._shown: list[Any] = []

    def markdown(self) -> str:
        """The text of report.md."""
        return f"{NOTE.format(self.template.name, self.code.name)}\n\n{self._filled(_in_text)}"

    def html(self, *, standalone: bool = False) -> str:
        """The page. standalone: with embedded pictures, as one file for sending."""
        link = html.embedded if standalone else lambda path: quote(self._relative(path))

        def show(value: Any) -> str:
            return value.html(link) if isinstance(value, ClickableHeatmap) else _in_text(value)

        text = self._filled(show)
        body, contents = html.body(text, lambda address: link(self._picture(address)))
        used = sorted({self.template, self.code, *self.figures.used})
        return html.page(text, body, contents, {self._relative(path): digest(path) for path in used})

    def latex(self) -> dict[str, str]:
        """The report's tables, an appendix for each of its experiments, and a document with all of them."""
        from ablation.study.experiment_file import names
        from ablation.study.scales import SCALES

        self.html()  # records the tables that the report uses
        files = {}
        for number, cells in enumerate([each for each in self._shown if isinstance(each, Cells)], start=1):
            safe = re.sub(r"[^\w.+-]", "-", cells.table)  # for LaTeX, where a % begins a comment
            text = latex(cells.frame, cells.caption, f"tab:{safe}-{number}")
            files[f"{number:02}-{safe}.tex"] = self._signed(cells.table, text)
        tables = {f"{each}-{scale}": (each, scale) for each in names("experiment") for scale in SCALES}
        stems = {table_beside(path.stem, tables) for path in self.figures.used}
        for name in [name for name in tables if name in stems and (self.figures.folder / f"{name}.csv").is_file()]:
            rows = appendix(read_settings(self.figures.folder / f"{name}.csv"), self.figures.table(name))
            files[f"appendix-{name}.tex"] = self._signed(name, latex_long(rows, f"Every setting of {name}."))
        inputs = "\n".join(f"\\input{{{name}}}" for name in files)
        files["all.tex"] = DOCUMENT.replace("INPUTS", inputs)
        return files

    def unused(self) -> list[str]:
        """One sentence per name whose values the report computes but does not show."""
        self.markdown()
        shown = {id(value) for value in self._shown}
        sentences = []
        for top, value in self.values.items():
            names = [name for name, ids in leaves(value, top) if not ids & shown]
            if names:
                more = [f"{len(names) - 3} more of {top}"] if len(names) > 3 else []
                text = (
                    f"{self.code} computes {', '.join([*names[:3], *more])}, but {self.template.name} does not show it"
                )
                sentences.append(f"{text}; use it there, or remove it")
        return sentences

    def _filled(self, show: Callable[[Any], str]) -> str:
        """The template with every value as `show` gives it."""
        self._shown = []

        def shown(value: Any) -> str:
            self._shown.append(value)
            return show(value)

        environment = _Sandbox(
            undefined=StrictUndefined, finalize=shown, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        environment.filters.clear()
        environment.tests.clear()
        environment.globals.clear()
        text = self.template.read_text()
        try:
            self._check_names(environment, text)
            return environment.from_string(text).render(self.values)
        except TemplateSyntaxError as error:
            raise InvalidSpec(f"{self.template}:{error.lineno}: {error.message}") from error
        except (AblationError, TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<template>"]
            place = f"{self.template}:{lines[-1]}" if lines else str(self.template)
            raise InvalidSpec(f"{place}: {error}") from error

    def _check_names(self, environment: _Sandbox, text: str) -> None:
        tree = environment.parse(text)
        missing = meta.find_undeclared_variables(tree) - set(self.values)
        wrong = [name for name in tree.find_all(nodes.Name) if name.name in missing]
        if wrong:
            name, line = wrong[0].name, wrong[0].lineno
            near = difflib.get_close_matches(name, self.values, n=1)
            meant = f"Did you mean {near[0]}?" if near else f"Compute it in {self.code}."
            others = ", ".join(sorted(missing - {name}))
            raise InvalidSpec(
                f"{self.template}:{line}: {name} is no value of {self.code.name}. {meant}"
                + (f" Missing too: {others}." if others else "")
            )

    def _picture(self, address: str) -> Path:
        """A picture of the template, which must lie in the folder of figures."""
        path = self.folder / address
        if path.resolve().parent != self.figures.folder.resolve() or path.suffix != ".png":
            raise InvalidSpec(
                f"{self.template}: a picture must be a PNG in {self.figures.folder}/, but is {address}. Write: "
                f"![title]({self._relative(self.figures.folder / 'NAME.png')})"
            )
        if not path.is_file():
            raise InvalidSpec(
                f"{self.template}: the picture {address} is not there. Run its experiment, or `ablation figures`."
            )
        return self.figures.path(path.name)

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), self.folder.resolve())).as_posix()

    def _signed(self, name: str, text: str) -> str:
        return f"% from {name}.csv, SHA-256 {digest(self.figures.folder / f'{name}.csv')}\n{text}"


def _in_text(value: Any) -> str:
    """A value in Markdown; text is escaped, since it may be a label of a table."""
    if isinstance(value, (Cells, ClickableHeatmap)):
        return value.markdown()
    if isinstance(value, Markup):
        return str(value)
    if isinstance(value, (str, int, float)):
        return in_markdown(str(value))
    if isinstance(value, dict):
        raise InvalidSpec(
            f"a shown value must be text, a number or a table, but has parts: {', '.join(map(str, value))}."
        )
    str(value)  # raises if it is undefined
    raise InvalidSpec(f"a shown value must be text, a number or a table, but is a {type(value).__name__}.")
