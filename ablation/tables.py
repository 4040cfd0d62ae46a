"""Tables of results: read, checked by digest, and written as Markdown and LaTeX (booktabs)."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ablation.files import read_file
from ablation.specs import CONTROL, FORMAT, InvalidSpec, written
from ablation.statistics import among_best

# A field as RFC 4180 has it: in quotes, or without any; spaces around it are no part of it.
FIELD = re.compile(r'[ \t]*(?:"([^"]*(?:""[^"]*)*)"[ \t]*|([^",\r\n]*))(,|\r\n|\n|\r|\Z)')
LARGEST = 1e100
ROUNDING = 1e-5  # of a number: a unit in the last of the six digits that a table has
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_table(path: Path) -> pd.DataFrame:
    """A tidy table as text, exactly as it is written; an empty field is missing. Its index is the line of each row.

    A column becomes numbers where something is computed from it (`numbers`); only "seed" and "format" are at once.
    Spaces around a field are no part of it, and text is composed (NFC). Raises InvalidSpec with file and line where
    the table is not there, its lines have other fields than its head, or it is of a newer version than this one reads.
    """
    try:
        text = read_file(path.resolve()).decode("utf-8-sig")  # a FIFO is no table, a link may be
    except FileNotFoundError as error:
        raise InvalidSpec(f"the table {path} is not there. Run its experiment, or check the path.") from error
    except OSError as error:
        raise InvalidSpec(f"the table {path} cannot be read as CSV ({error.strerror}). Name a file.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidSpec(
            f"the table {path} cannot be read as CSV: line {line} is not UTF-8. Save it as CSV in UTF-8."
        ) from error
    return parsed(text, path)


def parsed(text: str, path: Path) -> pd.DataFrame:
    """`read_table` of the text of a table; path: what errors call it."""
    lines = _lines(text, path)
    _, head = next(lines, (1, []))
    if len(head) == 1 and any(mark in head[0] for mark in ";\t|"):
        raise InvalidSpec(
            f"the table {path} must have its columns apart by commas, but has {head[0]!r} in its first line. Exchange "
            "semicolons or tabs for commas, and decimal commas for points."
        )
    if not head:
        raise InvalidSpec(f"the table {path} cannot be read as CSV: it is empty. Write it again.")
    twice = [name for name in dict.fromkeys(head) if name and head.count(name) > 1]
    if twice:
        raise InvalidSpec(f"the columns of {path} must have different names, but two are {twice[0]!r}. Rename one.")
    numbered, rows = [], []
    for line, fields in lines:
        if not rows and _is_title(head, fields):
            count, shown = len(list(filter(None, fields))), ", ".join(filter(None, head))
            raise InvalidSpec(
                f"the first line of {path} must name its columns, but holds {shown!r}, and line {line} has {count} "
                "fields. Remove what stands above the names of the columns."
            )
        if len(fields) != len(head):
            raise InvalidSpec(
                f"line {line} of {path} must have {len(head)} fields as the first line has, but has {len(fields)}. "
                "Write decimals with a point, text with a comma in quotes, and no comma at the end."
            )
        nameless = [field for name, field in zip(head, fields, strict=True) if field and not name]
        if nameless:
            raise InvalidSpec(
                f"every column of {path} must have a name, but line {line} has {nameless[0]!r} in one without. Name "
                "it, or leave it out (pandas: to_csv(index=False))."
            )
        if any(fields):
            numbered.append(line)
            rows.append([field or math.nan for field in fields])
    table = pd.DataFrame(rows, pd.Index(numbered, name="line", dtype=int), head, dtype=object)
    table = table[[name for name in head if name]]
    table.attrs["path"] = str(path)
    table = numbers(table, [column for column in ("seed", "format") if column in table])
    if "seed" in table and (table["seed"] % 1 > 0).any():
        line = table.index[table["seed"] % 1 > 0][0]
        raise InvalidSpec(f"a seed of {path} must be a whole number, but line {line} has {table['seed'][line]:g}.")
    if "format" in table and (table["format"] > FORMAT).any():
        raise InvalidSpec(
            f"the table {path} is of format {table['format'].max():g}, and this version reads up to {FORMAT}. "
            "Install the version that wrote it, or a newer one: pip install --upgrade ablation."
        )
    return table


def _is_title(head: list[str], fields: list[str]) -> bool:
    """Whether a first line is a comment or a title, and the one below it may have the names of the columns."""
    named, filled = len(list(filter(None, head))), len(list(filter(None, fields)))
    words = not any(map(NUMBER.fullmatch, fields))
    return filled > named and (head[0].startswith("#") or (words and (named == 1 or filled > len(head))))


def _lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row that is not blank, with the number of its first line."""
    place, line, first, fields = 0, 1, 1, []
    while place < len(text):
        found = FIELD.match(text, place)
        if found is None:
            raise InvalidSpec(
                f"line {line} of {path} has a quotation mark that opens or closes no field. Put the whole field in "
                'quotes, and write one inside of it twice: "a 5"" lens".'
            )
        quoted, bare, ended = found.groups()
        field = bare if quoted is None else quoted.replace('""', '"')
        if CONTROL.search(re.sub(r"[\r\n\t]", "", field)):
            raise InvalidSpec(f"line {line} of {path} has a control character in {field!a}. Remove it.")
        fields.append(unicodedata.normalize("NFC", field).strip())
        line += len(re.findall(r"\r\n|\n|\r", found[0]))
        place = found.end()
        if ended == "," and place < len(text):
            continue
        fields += [""] * (ended == ",")  # the last field of a last line without an end
        if fields != [""]:
            yield first, fields
        first, fields = line, []


def numbers(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The table with these columns as numbers, an empty field missing. Raises InvalidSpec with the line of a word, and
    of a number whose square overflows or vanishes, since statistics need squares."""
    for column in columns:
        ready = pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column])
        fields = table[column].dropna()
        if not ready:
            good = fields.map(lambda field: bool(NUMBER.fullmatch(str(field))) and math.isfinite(float(field)))
            _refuse(table, column, fields[~good.astype(bool)], "hold finite numbers",
                    "Leave a missing one empty; write decimals with a point, and no unit.")  # fmt: skip
            fields = fields.map(float).astype(float)
        size = fields.abs()
        _refuse(table, column, fields[(size > LARGEST) | ((size > 0) & (size < 1 / LARGEST))],
                f"hold numbers of a size from {1 / LARGEST:g} to {LARGEST:g}, or 0",
                "Choose another unit, or leave a missing one empty.")  # fmt: skip
        table = table if ready else table.assign(**{column: fields.reindex(table.index)})
    return table


def _refuse(table: pd.DataFrame, column: str, wrong: pd.Series, rule: str, cure: str) -> None:
    if len(wrong):
        of = f" of {table.attrs['path']}" if "path" in table.attrs else ""
        raise InvalidSpec(
            f"the column {column!r}{of} must {rule}, but {table.index.name or 'row'} {wrong.index[0]} holds "
            f"{str(wrong.iloc[0])!r}. {cure}"
        )


def rounded(number: float, digits: int, beside: float = 0.0) -> str:
    """With so many decimals, or, where these would show 0 for another number, with two significant digits (0.0034).
    beside: of a spread, the number that it is the spread of: one digit is enough, and rounding errors are 0, also those
    of a table's six digits."""
    text = f"{number:.{digits}f}"
    if float(text) or abs(number) <= ROUNDING * abs(beside):
        return text
    return f"{number:.{1 if beside else 2}g}"


def to_csv(table: pd.DataFrame, coordinates: Iterable[str], digits: int = 6) -> bytes:
    """A table that `read_table` gives back: coordinates as they are written, measured numbers to some digits."""
    text = {axis: table[axis].map(written, na_action="ignore") for axis in coordinates if axis in table}
    return table.assign(**text).to_csv(index=False, float_format=f"%.{digits}g").encode()


def digest(path: Path) -> str:
    """SHA-256 of a file: what a figure, a table or a page was made from. Lines of text end in \\n, which Git may
    exchange."""
    content = path.read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n") if path.suffix in (".csv", ".md") else content).hexdigest()


def cells(
    table: pd.DataFrame,
    by: Sequence[str],
    values: dict[str, str],
    digits: int = 1,
    within: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A row per cell: the `by` columns, n, and for each title of `values` "mean ± sd", with * where the cell is not
    told from the best (Hsu), or from the best of those that agree with it in the columns `within`.

    A value that no run of the cell has is "-". n: how many seeds have the value, "3 / 2" where that differs from
    value to value.
    """
    if within:
        parts = table.dropna(subset=list(within)).groupby(list(within), sort=False)
        return pd.concat([cells(part, by, values, digits) for _, part in parts], ignore_index=True)
    shown = table[list(by)].dropna().drop_duplicates(ignore_index=True)
    texts, counts = {}, []
    for title, value in values.items():
        found = shown.merge(among_best(table, list(by), value), on=list(by), how="left")
        texts[title] = [_with_spread(r.mean, r.sd, r.among_best, digits) for r in found.itertuples()]
        counts.append(found["n"].fillna(0).astype(int))
    n = [each[0] if len(set(each)) == 1 else " / ".join(map(str, each)) for each in zip(*counts, strict=True)]
    return shown.assign(n=n, **texts)


def _with_spread(mean: float, sd: float, best: Any, digits: int) -> str:
    """best: True, False, or missing where nothing is told apart."""
    if pd.isna(mean):
        return "-"
    spread = f" ± {rounded(sd, digits, mean)}" if pd.notna(sd) else ""
    return f"{rounded(mean, digits)}{spread}" + (" *" if pd.notna(best) and best else "")


# What a label may not be in a page: a tag, the end of a marker's block, a column, a link, an image, code, a line.
_MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "[": "&#91;", "`": "&#96;", "\\": "&#92;"}
    | {"{": "&#123;", "}": "&#125;"}
    | dict.fromkeys("\n\r", " ")
)
# Nor emphasis: stars but the one that stands alone, which marks the best, and underscores but those inside words.
_EMPHASIS = re.compile(r"(?<=\S)\*|\*(?=\S)|(?<![^\W_])_|_(?![^\W_])")


def in_markdown(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return _EMPHASIS.sub(lambda match: f"&#{ord(match[0])};", text.translate(_MARKDOWN))


def markdown(frame: pd.DataFrame) -> str:
    shown = frame.map(lambda x: in_markdown(str(x))).rename(columns=lambda c: in_markdown(str(c)))
    return shown.to_markdown(index=False, disable_numparse=True)


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A floating table with booktabs rules; needs \\usepackage{booktabs}."""
    shown = frame.map(lambda x: _escaped(str(x))).rename(columns=lambda c: _escaped(str(c)))
    return shown.to_latex(index=False, caption=_escaped(caption), label=label, position="t", escape=False)


def latex_long(frame: pd.DataFrame, caption: str) -> str:
    """A table over as many pages as it needs, its last column in paragraphs; needs booktabs and longtable."""
    shown = frame.map(lambda x: _escaped(str(x))).rename(columns=lambda c: _escaped(str(c)))
    widths = "l" * (len(frame.columns) - 1) + r"p{0.6\textwidth}"
    return shown.to_latex(index=False, caption=_escaped(caption), longtable=True, column_format=widths, escape=False)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "—": "---",
    "≥": r"$\geq$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "|": r"$|$", "≠": r"$\neq$", "≈": r"$\approx$",
    "∞": r"$\infty$", "→": r"$\rightarrow$", "−": "$-$", "·": r"$\cdot$", "°": r"$^\circ$", "²": "$^2$", "³": "$^3$",
    "‘": "`", "’": "'", "“": "``", "”": "''", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}",
    "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
_GREEK = {
    "αβγδεζηθικλμνξπρςστυφχψω": "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho "
    "varsigma sigma tau upsilon phi chi psi omega",
    "ΓΔΘΛΞΠΣΥΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega",
}
for _letters, _names in _GREEK.items():
    _LATEX |= {letter: rf"$\{name}$" for letter, name in zip(_letters, _names.split(), strict=True)}
_LATEX |= {"ο": "$o$", **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True))}  # those without a command
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`", "\N{COMBINING ACUTE ACCENT}": "'", "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~", "\N{COMBINING MACRON}": "=", "\N{COMBINING BREVE}": "u",
    "\N{COMBINING DOT ABOVE}": ".", "\N{COMBINING DIAERESIS}": '"', "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H", "\N{COMBINING CARON}": "v", "\N{COMBINING CEDILLA}": "c",
}  # fmt: skip


def _escaped(text: str) -> str:
    """Text that pdflatex sets with no package: Greek as mathematics, accents as commands, "?" for what it has not."""
    found = "".join(map(_in_latex, unicodedata.normalize("NFC", " ".join(text.split()))))
    return f"{{{found[0]}}}{found[1:]}" if found[:1] in ("[", "*") else found  # after \\ they are its arguments


def _in_latex(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character if character.isprintable() else "?"
    letter, *marks = unicodedata.normalize("NFKD", character)
    if letter == character:
        return "" if unicodedata.combining(character) else "?"
    plain = letter.isascii() and letter.isalpha()
    if not plain or not all(map(unicodedata.combining, marks)):  # an accented Greek letter, a ligature, a wide sign
        return "".join(map(_in_latex, (letter, *marks)))
    for mark in marks:
        letter = f"\\{_ACCENTS[mark]}{{{letter}}}" if mark in _ACCENTS else letter
    return letter
