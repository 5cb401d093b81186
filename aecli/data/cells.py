"""What the cells of a text table hold: nothing, a number, a date, a time of day; or a number that needs an option.

Functions on lists look at a sample. `numbers` and `booleans` convert whole Arrow columns.
"""

import dataclasses
import datetime as dt
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from aecli.config import Dialect
from aecli.data import compute as pc
from aecli.data.source import Array
from aecli.errors import UsageError

HOLES = frozenset(
    {
        *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "na", "Na", "n.a.", "N.A.", "<NA>", "NaT"),
        *("NaN", "nan", "NAN", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
        *("NULL", "null", "Null", "<null>", "(null)", "None", "none", "NONE", "nil", "Nil", "NIL", "\\N"),
        *("-", "--", "---", "?", ".", "..", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!", "#NV"),
    }
)
PAIRS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), ("off", "on"))  # words for booleans
FALSE, TRUE = (
    frozenset({number, *(cased for pair in PAIRS for cased in (pair[i], pair[i].title(), pair[i].upper()))})
    for i, number in enumerate("01")
)
LOOKED_AT = 500  # cells of a column
MOST = 0.9  # the share of cells that decides what a column is meant to be

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NO_DIGITS = r"[+-]?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
PLAIN = re.compile(rf"{NUMBER}|{NO_DIGITS}")
DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d")
TIMES = ("", " %H:%M", " %H:%M:%S")
TIME = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?")


def holes(na: Iterable[str] = ()) -> frozenset[str]:
    """Return the spellings of a cell without a value, except in text columns: the usual ones and `na`."""
    return HOLES | frozenset(na)


def is_number(text: str) -> bool:
    """Return whether a cell is written as a number, with a decimal point and nothing else."""
    return PLAIN.fullmatch(text.strip()) is not None


def is_time(cells: Iterable[str | None]) -> bool:
    """Return whether all cells with a value are times of day, such as 13:45 or 13:45:00."""
    told = _told(cells)
    return bool(told) and all(TIME.fullmatch(cell) for cell in told)


def date_formats(cells: Iterable[str | None]) -> list[str]:
    """Return the `strptime` formats that fit all cells with a value; an empty list if they are not dates."""
    told = list(dict.fromkeys(_told(cells)))
    if not told or any(len(cell) > 19 or not cell[0].isdigit() for cell in told):
        return []
    return [date + time for date in DATES for time in TIMES if _all_fit(told, date + time)]


def _all_fit(cells: Sequence[str], form: str) -> bool:
    try:
        return all(dt.datetime.strptime(cell, form) for cell in cells)  # noqa: DTZ007, a cell has no time zone
    except ValueError:
        return False


def _told(cells: Iterable[str | None]) -> list[str]:
    stripped = (cell.strip() for cell in cells if cell is not None)
    return [cell for cell in stripped if cell not in HOLES]


@dataclass(frozen=True)
class Near:
    """How a column's cells differ from numbers.

    `share` is the share of cells that would be numbers. `how` is "thousands", "decimal", "currency", "percent",
    "brackets", "unit" or "below" (a limit such as <0.01). `option` is the option that reads them; None if the user must
    change the cells first. `cell` is the first cell that is not a number, in row `row`, counted from 0.
    """

    share: float
    how: str
    option: str | None
    cell: str
    row: int


MONEY = r"(?:[$€£¥₹₽]|USD|EUR|GBP|CHF|JPY)"
MARKED = r"[+-]?[0-9][0-9.,'\u2019\u00a0\u202f ]*(?:[eE][+-]?[0-9]+)?"
WORN = {
    "below": re.compile(rf"[<>≤≥]=?\s*({MARKED})"),
    "brackets": re.compile(rf"\(\s*{MONEY}?\s*({MARKED})\s*\)"),
    "currency": re.compile(rf"[+-]?\s*{MONEY}\s*({MARKED})|({MARKED})\s*{MONEY}"),
    "percent": re.compile(rf"({MARKED})\s*%"),
    "unit": re.compile(rf"({MARKED})\s*[A-Za-zµμ°Ω][A-Za-z0-9µμ°Ω/²³^*·-]{{0,7}}"),
    "": re.compile(rf"({MARKED})"),
}


def near_number(cells: Iterable[str | None], delimiter: str = ",", decimal: str = ".") -> Near | None:
    """Return how a column's cells could be read as numbers, if at least 90% could; None for other columns.

    `delimiter` and `decimal` are the table's: if a comma delimits cells, a comma inside a cell groups thousands.
    """
    told = [(row, cell.strip()) for row, cell in enumerate(cells) if cell is not None and cell.strip() not in HOLES]
    seen: dict[str, list[tuple[int, str, str]]] = {}  # how a cell is written -> row, cell, the number inside
    for row, cell in told:
        for how, pattern in ({"plain": PLAIN} | WORN).items():
            if found := pattern.fullmatch(cell):
                inside = next((group for group in found.groups() if group), cell) if found.groups() else cell
                seen.setdefault(how, []).append((row, cell, inside.strip()))
                break
    odd = {how: cells for how, cells in seen.items() if how != "plain"}
    share = sum(map(len, seen.values())) / max(1, len(told))
    if not odd or share < MOST:
        return None
    how = max(odd, key=lambda how: len(odd[how]))
    row, cell, _ = odd[how][0]
    if how == "below":
        return Near(share, how, f"--na '{cell}'", cell, row)
    if how:
        return Near(share, how, None, cell, row)
    marked = [inside for _, _, inside in odd[""]]
    plain = [cell for _, cell, _ in seen.get("plain", [])]
    mark, what = _mark(marked, plain, delimiter, decimal)
    if mark is None:
        return None
    option = f"--{what} {mark!r}" if mark in " '\u2019\u00a0\u202f" else f"--{what} {mark}"
    if what == "thousands" and mark == "." and decimal == ".":
        option += " --decimal ,"
    return Near(share, what, option, cell, row)


def _mark(marked: Sequence[str], plain: Sequence[str], delimiter: str, decimal: str) -> tuple[str | None, str]:
    """Return the mark inside the numbers, and whether it groups thousands or is the decimal mark."""
    for mark in "'\u2019\u00a0\u202f ":
        if all(mark in cell for cell in marked):
            return mark, "thousands"
    for mark, other in ((",", "."), (".", ",")):
        groups = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}({re.escape(mark)}[0-9]{{3}})+({re.escape(other)}[0-9]*)?")
        if not all(groups.fullmatch(cell) for cell in marked):
            continue
        sure = any(cell.count(mark) > 1 or other in cell for cell in marked)
        if sure or mark != "," or delimiter == "," or any("." in cell or len(cell) <= 3 for cell in plain):
            return mark, "thousands"
    if decimal == "." and all(re.fullmatch(r"[+-]?[0-9]*,[0-9]*([eE][+-]?[0-9]+)?", cell) for cell in marked):
        return ",", "decimal"
    if all(re.fullmatch(r"[+-]?[0-9]{1,3}(\.[0-9]{3})*(,[0-9]*)?|[+-]?[0-9]+,[0-9]*", cell) for cell in marked):
        return ".", "thousands"
    return None, ""


def grouped_by_points(cells: Iterable[str | None]) -> tuple[str, str] | None:
    """Return a cell such as 1.016 and one such as 950, if points may group thousands; else None.

    Points may group thousands if each number with a point has three digits after it and one to three before it, and
    there are other numbers, which are all integers below a thousand.
    """
    told = _told(cells)
    dotted = [cell for cell in told if "." in cell]
    others = [cell for cell in told if "." not in cell]
    if (
        len(set(others)) < 2
        or len(others) < len(told) / 20
        or len(dotted) < 3
        or not all(re.fullmatch(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}", c) for c in dotted)
    ):
        return None
    return (dotted[0], others[0]) if all(re.fullmatch(r"[+-]?[0-9]{1,3}", cell) for cell in others) else None


def other_marks(
    columns: Sequence[Any], dialect: Dialect, na: Sequence[str] = ()
) -> tuple[dict[str, Any], list[Array]] | None:
    """Return the marks that read text columns (N,) as numbers where the dialect does not: the option's name -> mark.

    The second value are masks (N,) of the cells that these marks do not read either. None if there are no such marks:
    they have to read 90% of the cells that the dialect does not read, and of all columns together.
    """
    marks: dict[str, Any] = {}
    before = [numbers(column, dialect, na)[1] for column in columns]
    for column, wrong in zip(columns, before, strict=True):
        if wrong.any():
            told = [*column.filter(pa.array(wrong))[:LOOKED_AT].to_pylist(), *column[:LOOKED_AT].to_pylist()]
            near = near_number(told, dialect.delimiter, dialect.decimal)
            if near is not None and near.how in ("thousands", "decimal") and near.option is not None:
                words = shlex.split(near.option)
                marks |= dict(zip([flag.removeprefix("--") for flag in words[::2]], words[1::2], strict=True))
    made = dataclasses.replace(dialect, **marks)
    after = [numbers(column, made, na)[1] for column in columns]
    if not marks or sum(map(np.sum, after)) > (1 - MOST) * sum(map(np.sum, before)):
        return None
    return marks, after


def check_marks(dialect: Dialect) -> None:
    """Raise UsageError if the marks of numbers contradict each other."""
    if dialect.thousands is not None:
        if len(dialect.thousands) != 1 or dialect.thousands in "0123456789+-eE":
            raise UsageError(f"--thousands is {dialect.thousands!r}, and one character such as ',' was expected")
        if dialect.thousands == dialect.decimal:
            raise UsageError(
                f"--thousands and --decimal are both {dialect.decimal!r}",
                hint=f"set the decimal mark: --decimal {',' if dialect.decimal == '.' else '.'}",
            )


def stripped(texts: Any, na: Sequence[str] = (), *, usual: bool = True) -> Any:
    """Return a text column with its cells stripped of spaces, and nulls for holes."""
    texts = pc.utf8_trim_whitespace(texts)
    spellings = holes(na) if usual else frozenset(na) | {""}
    return pc.if_else(pc.is_in(texts, pa.array(sorted(spellings), pa.string())), None, texts)


def numbers(texts: Any, dialect: Dialect, na: Sequence[str] = ()) -> tuple[Any, Array]:
    """Return a text column as float64, and a mask of the cells that hold something other than a number."""
    texts = stripped(texts, na)
    plain = texts
    if dialect.thousands is not None:
        mark = dialect.thousands
        if mark == " ":
            plain = pc.replace_substring_regex(plain, "[\u00a0\u202f\u2009]", " ")
        ends = f"(?:{re.escape(dialect.decimal)}[0-9]*)?(?:[eE][+-]?[0-9]+)?$"
        grouped = pc.match_substring_regex(plain, f"^[+-]?[0-9]{{1,3}}(?:{re.escape(mark)}[0-9]{{3}})+{ends}")
        plain = pc.if_else(grouped, pc.replace_substring(plain, mark, ""), plain)
    if dialect.decimal == ",":
        plain = pc.if_else(pc.match_substring(plain, "."), "no number", pc.replace_substring(plain, ",", "."))
    fits = pc.match_substring_regex(plain, f"^(?:{NUMBER}|{NO_DIGITS})$")
    bad = pc.invert(fits).fill_null(False)
    values = pc.if_else(fits, plain, None).cast(pa.float64())
    return without(values, na), bad.to_numpy(zero_copy_only=False)


def booleans(texts: Any, na: Sequence[str] = ()) -> tuple[Any, Array]:
    """Return a text column as booleans, and a mask of the cells that hold something other than a boolean."""
    texts = stripped(texts, na)
    true = pc.is_in(texts, pa.array(sorted(TRUE)))
    false = pc.is_in(texts, pa.array(sorted(FALSE)))
    known = pc.or_(true, false)
    bad = pc.and_(pc.invert(known), pc.is_valid(texts))
    return pc.if_else(known, true, None), bad.to_numpy(zero_copy_only=False)


def without(values: Any, na: Sequence[str]) -> Any:
    """Return numbers with nulls in place of those that equal one of `na`: -999.0 equals -999."""
    named = [float(text) for text in na if is_number(text)]
    if not named or not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_in(values, pa.array(named, pa.float64())), None, values)


def dates(texts: Any, form: str | None, iso: Callable[[Any], Any], na: Sequence[str] = ()) -> tuple[Any, Array]:
    """Return a text column as timestamps: by the format, or else by `iso`, which raises pa.ArrowInvalid.

    The second value is a mask of the cells that hold something other than a date.
    """
    texts = stripped(texts, na)
    values = pa.nulls(len(texts), pa.timestamp("us"))
    if form is not None:
        values = pc.strptime(texts, form, "us", error_is_null=True)
        if "%d" in form:  # strptime reads 31 February as 2 March
            written, given = (
                pc.replace_substring_regex(each, r"\b0+([0-9])", r"\1") for each in (pc.strftime(values, form), texts)
            )
            values = pc.if_else(pc.equal(written, given), values, None)
        if "%Y" in form:  # strptime also reads years of two digits
            values = pc.if_else(pc.match_substring_regex(texts, "[0-9]{4}"), values, None)
    left = pc.and_(pc.is_null(values), pc.is_valid(texts)).to_numpy(zero_copy_only=False)
    if not left.any():
        return values, left
    found = pc.if_else(pa.array(left), texts, None)
    try:
        others = iso(found)
    except pa.ArrowInvalid:
        encoded = found.dictionary_encode()
        each = pa.concat_arrays([_or_null(iso, encoded.dictionary[i : i + 1]) for i in range(len(encoded.dictionary))])
        others = each.take(encoded.indices)
    values = pc.if_else(pa.array(left), others, values)
    return values, left & pc.is_null(others).to_numpy(zero_copy_only=False)


def _or_null(iso: Callable[[Any], Any], text: Any) -> Any:
    try:
        return iso(text)
    except pa.ArrowInvalid:
        return pa.nulls(1, pa.timestamp("us"))


def as_array(column: Any) -> Any:
    """Return a column of one or more chunks as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def mask_of(places: Iterable[int], size: int) -> Array:
    """Return a mask (N,), True at the places."""
    mask = np.zeros(size, bool)
    mask[list(places)] = True
    return mask
