"""Tables as Markdown and LaTeX (booktabs)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import pandas as pd
from pylatexenc.latexencode import (
    RULE_DICT,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
    get_builtin_uni2latex_dict,
)

from ablation.analysis.statistics import among_best
from ablation.analysis.tables import rounded
from ablation.spec import Measures, Metric


def cells(
    table: pd.DataFrame,
    by: Sequence[str],
    values: dict[str, str],
    digits: int = 1,
    within: Sequence[str] | None = None,
    measures: Measures | None = None,
) -> pd.DataFrame:
    """A row per cell: the `by` columns, n, and for each title of `values` "mean ± sd", with * if the cell is not
    significantly different from the best (Hsu), among all or among the cells with the same columns `within`.

    The best is the highest, or the lowest if `measures` say so; of losses and times none is marked. A value without a
    run is "-". n: the number of seeds with the value, "3 / 2" if it differs between values.
    """
    if within:
        parts = table.dropna(subset=list(within)).groupby(list(within), sort=False)
        return pd.concat([cells(part, by, values, digits, measures=measures) for _, part in parts], ignore_index=True)
    shown = table[list(by)].dropna().drop_duplicates(ignore_index=True)
    texts, counts = {}, []
    for title, value in values.items():
        metric = Metric.of(value, measures)
        found = among_best(table, list(by), value, lowest=metric.lowest_is_best)
        found = shown.merge(found, on=list(by), how="left")
        marked = found["among_best"] if metric.has_a_best else [None] * len(found)
        rows = zip(found["mean"], found["sd"], marked, strict=True)
        texts[title] = [_with_spread(mean, sd, best, digits) for mean, sd, best in rows]
        counts.append(found["n"].fillna(0).astype(int))
    n = [each[0] if len(set(each)) == 1 else " / ".join(map(str, each)) for each in zip(*counts, strict=True)]
    return shown.assign(n=n, **texts)


def _with_spread(mean: float, sd: float, best: Any, digits: int) -> str:
    """best: True, False, or missing if no cell has two seeds."""
    if pd.isna(mean):
        return "-"
    spread = f" ± {rounded(sd, digits, mean)}" if pd.notna(sd) else ""
    return f"{rounded(mean, digits)}{spread}" + (" *" if pd.notna(best) and best else "")


# Prevents a label from becoming a tag, a comment, a column, a link, an image, code, or a line.
_MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "[": "&#91;", "`": "&#96;", "\\": "&#92;"}
    | {"{": "&#123;", "}": "&#125;"}
    | dict.fromkeys("\n\r", " ")
)
# Prevents emphasis: stars, except a lone one, which marks the best, and underscores, except inside words.
_EMPHASIS = re.compile(r"(?<=\S)\*|\*(?=\S)|(?<![^\W_])_|_(?![^\W_])")


def in_markdown(text: str) -> str:
    """Text that Markdown and HTML show literally."""
    return _EMPHASIS.sub(lambda match: f"&#{ord(match[0])};", text.translate(_MARKDOWN))


def markdown(frame: pd.DataFrame) -> str:
    shown = frame.map(lambda x: in_markdown(str(x))).rename(columns=lambda c: in_markdown(str(c)))
    return shown.to_markdown(index=False, disable_numparse=True)


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A floating table with booktabs rules; needs \\usepackage{booktabs}."""
    shown = frame.map(lambda x: _escaped(str(x))).rename(columns=lambda c: _escaped(str(c)))
    return shown.to_latex(index=False, caption=_escaped(caption), label=label, position="t", escape=False)


def latex_long(frame: pd.DataFrame, caption: str) -> str:
    """A table over several pages, with paragraphs in its last column; needs booktabs and longtable."""
    shown = frame.map(lambda x: _escaped(str(x))).rename(columns=lambda c: _escaped(str(c)))
    widths = "l" * (len(frame.columns) - 1) + r"p{0.6\textwidth}"
    return shown.to_latex(index=False, caption=_escaped(caption), longtable=True, column_format=widths, escape=False)


# The part of pylatexenc's table that pdflatex sets without packages: letters, Greek, punctuation and these signs.
_SIGNS = "−×±≤≥≠≈∞→←↔∑∏√∈∂∼≡∝∇∪∩∘"
_WITH_A_PACKAGE = "«»ÐÞðþĄąĐđĘęĮįŉŊŋŲųƕƞəɛɸʔʞ˛ΐϒϰ϶‑‚„‵‹›\N{WORD JOINER}"
_PLAIN = {
    code: re.sub(r"^\\ensuremath\{(.+)\}$", r"$\1$", text)
    for code, text in get_builtin_uni2latex_dict().items()
    if (code < 0x400 or 0x2000 <= code < 0x2070 or chr(code) in _SIGNS) and chr(code) not in _WITH_A_PACKAGE
} | {ord("|"): "$|$"}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`", "\N{COMBINING ACUTE ACCENT}": "'", "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~", "\N{COMBINING MACRON}": "=", "\N{COMBINING BREVE}": "u",
    "\N{COMBINING DOT ABOVE}": ".", "\N{COMBINING DIAERESIS}": '"', "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H", "\N{COMBINING CARON}": "v", "\N{COMBINING CEDILLA}": "c",
}  # fmt: skip


def _escaped(text: str) -> str:
    """Text that pdflatex sets without packages: Greek as mathematics, accents as commands, "?" for the rest."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    text = _ENCODER.unicode_to_latex("".join(c if c.isprintable() else "?" for c in text))
    return f"{{{text[0]}}}{text[1:]}" if text[:1] in ("[", "*") else text  # \\ would take them as arguments


def _without_a_command(character: str) -> str:
    """A character that the table lacks, from its parts: a letter with accents, a ligature, a wide sign."""
    if character.isascii():
        return character
    letter, *marks = unicodedata.normalize("NFKD", character)
    if letter == character:
        return "" if unicodedata.combining(character) else "?"
    if not (letter.isascii() and letter.isalpha()) or not all(map(unicodedata.combining, marks)):
        return "".join(_ENCODER.unicode_to_latex(each) for each in (letter, *marks))
    for mark in marks:
        letter = f"\\{_ACCENTS[mark]}{{{letter}}}" if mark in _ACCENTS else letter
    return letter


_ENCODER = UnicodeToLatexEncoder(
    conversion_rules=[UnicodeToLatexConversionRule(RULE_DICT, _PLAIN)],
    unknown_char_policy=_without_a_command,
    unknown_char_warning=False,
)
