"""Tables of results: read, checked by digest, and written as CSV."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from ablation.spec import CONTROL, FORMAT, DataError, written
from ablation.system.files import read_file

# A field as in RFC 4180, quoted or not; spaces around it do not count.
FIELD = re.compile(r'[ \t]*(?:"([^"]*(?:""[^"]*)*)"[ \t]*|([^",\r\n]*))(,|\r\n|\n|\r|\Z)')
LARGEST = 1e100
ROUNDING = 1e-5  # relative: a unit in the last of a table's six digits
TEXT = (".csv", ".md", ".jinja", ".py")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_table(path: Path) -> pd.DataFrame:
    """A tidy table as text, exactly as written; an empty field is missing. Its index is the line of each row.

    Columns become numbers only for computation (`numbers`), except "seed" and "format". Spaces around a field do not
    count, and text is composed (NFC). Raises DataError with file and line if the table is missing, a line has another
    number of fields than the header, or the table's format is newer than this version.
    """
    try:
        text = read_file(path.resolve()).decode("utf-8-sig")  # a link may be a table, a FIFO may not
    except FileNotFoundError as error:
        raise DataError(f"the table {path} does not exist. Run its experiment, or check the path.") from error
    except OSError as error:
        raise DataError(f"the table {path} cannot be read as CSV ({error.strerror}). Name a file.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"the table {path} cannot be read as CSV: line {line} is not UTF-8. Save it as CSV in UTF-8."
        ) from error
    return parsed(text, path)


def parsed(text: str, path: Path) -> pd.DataFrame:
    """`read_table` for the text of a table. path: its name in errors."""
    lines = _lines(text, path)
    _, head = next(lines, (1, []))
    if len(head) == 1 and any(mark in head[0] for mark in ";\t|"):
        raise DataError(
            f"the table {path} must separate columns by commas, but its first line is {head[0]!r}. Replace semicolons "
            "or tabs by commas, and decimal commas by points."
        )
    if not head:
        raise DataError(f"the table {path} cannot be read as CSV: it is empty. Write it again.")
    twice = [name for name in dict.fromkeys(head) if name and head.count(name) > 1]
    if twice:
        raise DataError(f"two columns of {path} have the name {twice[0]!r}. Rename one.")
    numbered, rows = [], []
    for line, fields in lines:
        if not rows and _is_title(head, fields):
            count, shown = len(list(filter(None, fields))), ", ".join(filter(None, head))
            raise DataError(
                f"the first line of {path} must name its columns, but is {shown!r}, and line {line} has {count} "
                "fields. Remove the text above the names of the columns."
            )
        if len(fields) != len(head):
            raise DataError(
                f"line {line} of {path} has {len(fields)} fields, but the first line has {len(head)}. "
                "Write decimals with a point, quote text with a comma, and remove commas at the end."
            )
        nameless = [field for name, field in zip(head, fields, strict=True) if field and not name]
        if nameless:
            raise DataError(
                f"every column of {path} must have a name, but line {line} has {nameless[0]!r} in one without. Name "
                "it, or remove it (pandas: to_csv(index=False))."
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
        raise DataError(f"a seed of {path} must be a whole number, but line {line} has {table['seed'][line]:g}.")
    if "format" in table and (table["format"] > FORMAT).any():
        raise DataError(
            f"the table {path} has format {table['format'].max():g}, but this version reads formats up to {FORMAT}. "
            "Install the version that wrote it, or a newer one: pip install --upgrade ablation."
        )
    return table


def _is_title(head: list[str], fields: list[str]) -> bool:
    """Whether the first line is a comment or a title, and the next one may name the columns."""
    named, filled = len(list(filter(None, head))), len(list(filter(None, fields)))
    words = not any(map(NUMBER.fullmatch, fields))
    return filled > named and (head[0].startswith("#") or (words and (named == 1 or filled > len(head))))


def _lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each non-blank row, with the number of its first line."""
    place, line, first, fields = 0, 1, 1, []
    while place < len(text):
        match = FIELD.match(text, place)
        if match is None:
            raise DataError(
                f"line {line} of {path} has a stray quotation mark. Quote the whole field, and double quotation marks "
                'inside it: "a 5"" lens".'
            )
        quoted, bare, ended = match.groups()
        field = bare if quoted is None else quoted.replace('""', '"')
        if CONTROL.search(re.sub(r"[\r\n\t]", "", field)):
            raise DataError(f"line {line} of {path} has a control character in {field!a}. Remove it.")
        fields.append(unicodedata.normalize("NFC", field).strip())
        line += len(re.findall(r"\r\n|\n|\r", match[0]))
        place = match.end()
        if ended == "," and place < len(text):
            continue
        if ended == ",":
            fields.append("")  # an empty last field at the end of the file
        if fields != [""]:
            yield first, fields
        first, fields = line, []


def numbers(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The table with these columns as numbers; empty fields are missing. Raises DataError with the line of a word, or
    of a number whose square overflows or vanishes, since statistics need squares."""
    for column in columns:
        ready = pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column])
        fields = table[column].dropna()
        if not ready:
            good = fields.map(lambda field: bool(NUMBER.fullmatch(str(field))) and math.isfinite(float(field)))
            _refuse(table, column, fields[~good.astype(bool)], "hold finite numbers",
                    "Leave missing numbers empty; write decimals with a point, and no unit.")  # fmt: skip
            fields = fields.map(float).astype(float)
        size = fields.abs()
        _refuse(table, column, fields[(size > LARGEST) | ((size > 0) & (size < 1 / LARGEST))],
                f"hold numbers of magnitude {1 / LARGEST:g} to {LARGEST:g}, or 0",
                "Choose another unit, or leave missing numbers empty.")  # fmt: skip
        table = table if ready else table.assign(**{column: fields.reindex(table.index)})
    return table


def _refuse(table: pd.DataFrame, column: str, wrong: pd.Series, rule: str, cure: str) -> None:
    if len(wrong):
        place = f" of {table.attrs['path']}" if "path" in table.attrs else ""
        raise DataError(
            f"the column {column!r}{place} must {rule}, but {table.index.name or 'row'} {wrong.index[0]} holds "
            f"{str(wrong.iloc[0])!r}. {cure}"
        )


def rounded(number: float, digits: int, beside: float = 0.0) -> str:
    """The number with `digits` decimals, or with two significant digits (0.0034) if they would show 0. beside: for a
    spread, the number that it belongs to; one digit is then enough, and rounding errors, also those of a table's six
    digits, become 0."""
    text = f"{number:.{digits}f}"
    if float(text) or abs(number) <= ROUNDING * abs(beside):
        return text
    return f"{number:.{1 if beside else 2}g}"


def to_csv(table: pd.DataFrame, coordinates: Iterable[str], digits: int = 6) -> bytes:
    """A table for `read_table`: coordinates exactly, measured numbers to `digits` digits."""
    text = {axis: table[axis].map(written, na_action="ignore") for axis in coordinates if axis in table}
    return table.assign(**text).to_csv(index=False, float_format=f"%.{digits}g").encode()


def digest(path: Path) -> str:
    """SHA-256 of a file from which a figure, a table or a page is made. Normalizes line ends to \\n, since Git may
    change them."""
    content = path.read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n") if path.suffix in TEXT else content).hexdigest()
