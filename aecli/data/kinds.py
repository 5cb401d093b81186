"""Which kind of feature a column is, and how its cells become numbers and are written again."""

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from aecli.config import Column, Dialect
from aecli.data import cells as cells_of
from aecli.data import compute as pc
from aecli.data.cells import PAIRS, is_number

Array = np.ndarray[Any, Any]
TEXT = "text"  # the kind of a column whose cells stay as they are written
PLAIN = Dialect()
ONE_ZERO = {"0": "false", "1": "true"}  # also accepted for the words of the first pair
MAX_DIGITS = 15  # in a number written as text; longer ones are codes, and float64 would round them
CODE = re.compile(r"[+-]?0\d")  # 01234 is a postcode
VECTOR = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
CLOCK = re.compile(r"\s*(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?\s*")
DAY_SECONDS = 86_400
SED = {  # commands that remove a sign from a table's numbers
    "currency": "sed 's/[$€£¥₹₽]//g'",
    "percent": "sed 's/%//g'",
    "brackets": r"sed -E 's/\(([0-9.,]+)\)/-\1/g'",
    "unit": r"sed -E 's/([0-9]) *[A-Za-zµ°Ω]+/\1/g'",
}


@dataclass(frozen=True)
class Guess:
    """What a column seems to be.

    `problem` says why the column cannot be learnt as it is, and `cell` is an example. `options` are the options that
    would solve the problem; if none would, `sed` is the command that removes the signs from the table.
    """

    column: Column
    problem: str = ""
    options: tuple[str, ...] = ()
    cell: str | None = None
    sed: str | None = None


def guessed(name: str, values: Any, dialect: Dialect = PLAIN, na: Sequence[str] = ()) -> Guess:
    """Return a guess at what an Arrow column (N,) is, by its type, or by its texts, which are written in a dialect.

    `na` are the values that mean a hole besides the usual spellings.
    """
    values = as_one(values)
    kind = kind_of(values.type)
    if kind == "vector":
        return _guessed_vector(name, pc.list_value_length(values).drop_null().to_pylist())
    if kind != TEXT:
        return Guess(Column(name, kind))
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return Guess(Column(name), f"is of type {values.type}, which cannot be learnt", ("--exclude", name))
    return _guessed_text(name, cells_of.stripped(values.cast(pa.string()), na).drop_null(), dialect)


def kind_of(kind: pa.DataType) -> str:
    """Return the kind of feature for a column of this type; "text" if that depends on its cells."""
    types = pa.types
    if types.is_dictionary(kind):
        return TEXT if types.is_nested(kind.value_type) else "category"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "vector" if _is_number(kind.value_type) else TEXT
    tests: dict[str, Callable[[Any], bool]] = {
        "boolean": types.is_boolean,
        "date": types.is_date,
        "timestamp": types.is_timestamp,
        "time": types.is_time,
        "duration": types.is_duration,
        "number": _is_number,
    }
    return next((name for name, fits in tests.items() if fits(kind)), TEXT)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind))


def _guessed_vector(name: str, lengths: Sequence[int]) -> Guess:
    different = Counter(lengths)
    if not different:
        return Guess(Column(name), "is empty: --exclude leaves it out", ("--exclude", name))
    if not (width := different.most_common(1)[0][0]):
        return Guess(Column(name), "holds empty lists", ("--exclude", name))
    return Guess(Column(name, "vector", width=width))


def _guessed_written_vector(name: str, cells: Sequence[str]) -> Guess:
    rows = [_list(cell) for cell in cells]
    if all(row is None for row in rows):
        what = "which is not a list of numbers such as [0.5, 1, 2]: --exclude leaves it out"
        return Guess(Column(name), what, ("--exclude", name), cells[0])
    return _guessed_vector(name, [len(row) for row in rows if row is not None])


def _guessed_text(name: str, texts: Any, dialect: Dialect) -> Guess:
    """Return a guess at what a column of texts without holes is."""
    cells: list[str] = [cell.decode(errors="replace") for cell in texts.cast(pa.binary()).to_pylist()]
    if not cells:
        return Guess(Column(name))
    if words := _words(Counter(cells)):
        return Guess(Column(name, "boolean", words=words))
    if all(map(is_number, cells)):
        return _guessed_numbers(name, cells)
    if cells_of.is_time(cells):
        return Guess(Column(name, "time"))
    if all(map(VECTOR.fullmatch, cells)):
        return _guessed_written_vector(name, cells)
    return _guessed_date(name, texts, cells, dialect)


def _guessed_numbers(name: str, cells: list[str]) -> Guess:
    """Return a guess whether texts that look like numbers are numbers, or codes such as postcodes."""
    codes = [cell for cell in cells if CODE.match(cell) or (cell.isdigit() and len(cell) > MAX_DIGITS)]
    if not codes:
        return Guess(Column(name))
    few = len(set(cells)) <= len(cells) / 2
    what = "which is written as text, and looks like a code: --categorical or --exclude says what it is"
    return Guess(Column(name), what, ("--categorical" if few else "--exclude", name), codes[0])


def _guessed_date(name: str, texts: Any, cells: list[str], dialect: Dialect) -> Guess:
    stamps, wrong = cells_of.dates(texts, dialect.date_format, timestamps)
    if wrong.any():
        if not cells_of.numbers(texts, dialect)[1].any():
            return Guess(Column(name))
        if guess := _nearly(name, cells, dialect):
            return guess
        cell = next(cell for cell in cells if not is_number(cell))
        few = len(set(cells)) <= max(20, len(cells) / 20) and len(set(cells)) < len(cells)
        what = "which is not a number: --categorical, --label or --exclude says what it is"
        return Guess(Column(name), what, ("--categorical" if few else "--exclude", name), cell)
    days = pc.all(pc.equal(stamps, pc.floor_temporal(stamps, unit="day"))).as_py()
    return Guess(Column(name, "date" if days else "timestamp"))


def _nearly(name: str, cells: list[str], dialect: Dialect) -> Guess | None:
    """Return how texts that are almost dates or numbers could be read; None for other texts."""
    if formats := cells_of.date_formats(cells):
        said = " or ".join(f"--date-format {form}" for form in formats)
        if len(formats) > 1:  # only the user knows which; there is no command to suggest
            return Guess(
                Column(name), f"which may be two dates: {said} reads it", ("--date-format", "FORMAT"), cells[0]
            )
        return Guess(Column(name), f"which is a date: {said} reads it", ("--date-format", formats[0]), cells[0])
    near = cells_of.near_number(cells, dialect.delimiter, dialect.decimal)
    if near is None:
        return None
    if near.option is None:
        marks = {"currency": "a currency sign", "percent": "a percent sign", "brackets": "brackets", "unit": "a unit"}
        said = f"which is a number with {marks[near.how]}: remove it first, or --exclude leaves the column out"
        return Guess(Column(name), said, (), near.cell, SED[near.how])
    verb = "reads it as a hole" if near.how == "below" else "reads it"
    said = f"which is {'a limit' if near.how == 'below' else 'a number with other marks'}: {near.option} {verb}"
    return Guess(Column(name), said, tuple(shlex.split(near.option)), near.cell)


def _words(found: Counter[str]) -> tuple[str, str] | tuple[()]:
    """Return the two words of a pair as they are written, if both occur and nothing else; else ()."""
    folded: dict[str, str] = {}
    for cell, _ in found.most_common():
        folded.setdefault(cell.casefold(), cell)
    if set(folded) <= {*PAIRS[0], *ONE_ZERO} and set(folded) & set(PAIRS[0]):
        meant = {ONE_ZERO.get(word, word) for word in folded}
        if meant == set(PAIRS[0]):
            return tuple(folded.get(word, word) for word in PAIRS[0])  # type: ignore[return-value]
    for no, yes in PAIRS[1:]:
        if set(folded) == {no, yes}:
            return folded[no], folded[yes]
    return ()


def reader_kind(column: Column, kind: pa.DataType | None) -> str:
    """Return the kind to request from a reader for a column's cells: its own, or text, which is converted here.

    `kind` is the type of the cells, None if they are text that the reader parses.
    """
    if kind is None:
        parsed = ("number", "date", "timestamp") if column.words == () else ()
        return column.kind if column.kind in parsed or (column.kind == "boolean" and not column.words) else TEXT
    if pa.types.is_null(kind):
        return column.kind if column.kind in ("number", "boolean", "date", "timestamp", "vector") else TEXT
    if column.kind == "number" and (_is_number(kind) or pa.types.is_boolean(kind)):
        return "number"
    if column.kind == "boolean" and not column.words and pa.types.is_boolean(kind):
        return "boolean"
    if column.kind == "vector" and kind_of(kind) == "vector":
        return "vector"
    return column.kind if column.kind in ("date", "timestamp") and kind_of(kind) in ("date", "timestamp") else TEXT


def to_numbers(values: Any, column: Column, dialect: Dialect = PLAIN, na: Sequence[str] = ()) -> tuple[Array, Array]:
    """Return the cells (N,) of a column as numbers (N, width), and a mask (N,) of the cells that cannot be read.

    Numbers are float64, except that a list column keeps its type. Holes are NaN. Categories are not converted here,
    because only the model knows their numbers.
    """
    values = as_one(values)
    if column.kind == "vector":
        if kind_of(values.type) == "vector":
            return _vectors(values, column.width)
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        return _written_vectors(cells_of.stripped(values.cast(pa.string()), na) if is_text else values, column.width)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return _texts(values.cast(pa.string()), column, dialect, na)
    try:
        numbers = _typed(values, column, na)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a column whose type cannot be of this kind
        return np.full((len(values), 1), np.nan), values.is_valid().to_numpy(zero_copy_only=False)
    wrong = np.zeros(len(numbers), bool)
    if column.kind == "boolean":
        wrong = ~np.isin(numbers, (0, 1)) & ~np.isnan(numbers)
    return numbers[:, None], wrong


def _texts(values: Any, column: Column, dialect: Dialect, na: Sequence[str]) -> tuple[Array, Array]:
    if column.kind == "number":
        found, wrong = cells_of.numbers(values, dialect, na)
        return _typed(found, column)[:, None], wrong
    if column.kind in ("date", "timestamp"):
        found, wrong = cells_of.dates(values, dialect.date_format, timestamps, na)
        return _typed(found, column)[:, None], wrong
    values = cells_of.stripped(values, na)
    read = _READERS[column.kind]
    numbers = np.array([np.nan if cell is None else read(cell, column) for cell in values.to_pylist()], np.float64)
    return numbers[:, None], np.isnan(numbers) & ~values.is_null().to_numpy(zero_copy_only=False)


def _typed(values: Any, column: Column, na: Sequence[str] = ()) -> Array:
    if column.kind in ("date", "timestamp"):
        ticks = timestamps(values).cast(pa.int64())
        return np.asarray(ticks.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6
    if pa.types.is_time(values.type):
        ticks = values.cast(pa.time64("us"), safe=False).cast(pa.int64())
        return np.asarray(ticks.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6
    if pa.types.is_duration(values.type):
        ticks = values.cast(pa.duration("us"), safe=False).cast(pa.int64())
        return np.asarray(ticks.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    values = cells_of.without(values.cast(pa.float64(), safe=False), na)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _number(cell: str, _: Column) -> float:
    return float(cell) if is_number(cell) else np.nan


def _boolean(cell: str, column: Column) -> float:
    words = {word.casefold(): i for i, word in enumerate(column.words or PAIRS[0])}
    if set(words) == set(PAIRS[0]):
        words |= {"0": 0, "1": 1}
    return float(words.get(cell.casefold(), np.nan))


def _time(cell: str, _: Column) -> float:
    found = CLOCK.fullmatch(cell)
    return np.nan if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3] or 0)


_READERS: dict[str, Callable[[str, Column], float]] = {
    "boolean": _boolean,
    "time": lambda cell, column: _time(cell, column) if cells_of.TIME.fullmatch(cell) else np.nan,
    "duration": lambda cell, column: _number(cell, column) if is_number(cell) else _time(cell, column),
}


def as_one(column: Any) -> Any:
    """Return a column as one array. A single chunk is not copied."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _vectors(values: Any, width: int) -> tuple[Array, Array]:
    """Return lists of numbers as rows (N, width), a missing list as holes; and a mask (N,) of lists of another length.

    If all lists have that length, the rows are Arrow's buffer, not a copy.
    """
    lengths = np.asarray(pc.list_value_length(values).fill_null(-1).to_numpy(zero_copy_only=False))
    fits = lengths == width
    if fits.all():
        return _flat(values.flatten()).reshape(-1, width), ~fits
    rows = _flat(values.filter(pa.array(fits)).flatten()).reshape(-1, width)
    out = np.full((len(values), width), np.nan, np.result_type(rows.dtype, np.float16))
    out[fits] = rows
    return out, ~fits & (lengths >= 0)


def _flat(numbers: Any) -> Array:
    """Return Arrow numbers (N,) as a NumPy array of the same type; floats with NaN if some are missing."""
    if pa.types.is_decimal(numbers.type) or pa.types.is_null(numbers.type):
        numbers = numbers.cast(pa.float64(), safe=False)
    found: Array = numbers.to_numpy(zero_copy_only=False)
    return found


def _written_vectors(values: Any, width: int) -> tuple[Array, Array]:
    """Return texts of lists as rows (N, width), empty texts as holes; and a mask (N,) of those that do not fit."""
    cells = values.to_pylist()
    rows = [_list(cell) for cell in cells]
    other = [row is None or len(row) != width for row in rows]
    bad = np.array([wrong and cell is not None for wrong, cell in zip(other, cells, strict=True)], bool)
    numbers = [[np.nan] * width if wrong else row for row, wrong in zip(rows, other, strict=True)]
    return np.array(numbers, float).reshape(-1, width), bad


def _list(cell: Any) -> list[float] | None:
    """Return a list of numbers, or the text of one, as floats; None for anything else."""
    cell = _parsed_list(cell) if isinstance(cell, str) else cell
    try:
        return [np.nan if value is None else float(value) for value in cell] if isinstance(cell, list) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _parsed_list(text: str) -> Any:
    """Return the list that a text holds, as JSON, Python ([0.5, nan, None]) or NumPy ([0.5 1. 2.]) writes it."""
    import json

    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    if not VECTOR.fullmatch(text):
        return None
    inside = text.strip()[1:-1]
    words = [word.strip() for word in (inside.split(",") if "," in inside else inside.split())]
    values = [None if word == "None" else word for word in words]
    return values if all(value is None or is_number(value) for value in values) else None


def category(text: str) -> str:
    """Return a category's name: 1, 1.0 and "1" are the same."""
    return text[:-2] if re.fullmatch(r"[+-]?\d+\.0", text) else text


def texts(values: Any, na: Sequence[str] = ()) -> Any:
    """Return any column as text without surrounding blanks; empty texts and those in `na` are nulls."""
    values = as_one(values)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, pa.scalar("true"), pa.scalar("false"))
    if pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53)).fill_null(False)
        as_whole = pc.if_else(whole, values, 0).cast(pa.int64()).cast(pa.string())
        values = pc.if_else(whole, as_whole, pc.if_else(pc.is_nan(values), None, values).cast(pa.string()))
    return cells_of.stripped(values.cast(pa.string(), safe=False), na, usual=False)


def from_numbers(numbers: Array, column: Column) -> Any:
    """Return rebuilt numbers (N,) in raw units as cells of the column's kind: the inverse of reading it."""
    kind = column.kind
    if kind == "boolean":
        truth = pa.array(numbers > 0.5, mask=np.isnan(numbers))
        return pc.if_else(truth, pa.scalar(column.words[1]), pa.scalar(column.words[0])) if column.words else truth
    if kind == "category":
        places = pa.array(np.nan_to_num(numbers).astype(np.int64), mask=np.isnan(numbers))
        return pa.array(column.categories).take(places)
    rounded = {"date": DAY_SECONDS, "timestamp": 1e-3, "time": 1e-3, "duration": 1e-6}.get(kind)
    if rounded is None:
        return numbers.astype(np.float32)
    if kind == "time":
        numbers = np.clip(numbers, 0, DAY_SECONDS - 1e-3)
    ticks = np.rint(np.nan_to_num(numbers) / rounded).astype(np.int64)
    types = {
        "date": pa.date32(),
        "timestamp": pa.timestamp("ms"),
        "time": pa.time32("ms"),
        "duration": pa.duration("us"),
    }
    whole = pa.array(ticks, mask=np.isnan(numbers))
    return (whole.cast(pa.int32()) if kind in ("date", "time") else whole).cast(types[kind])


def timestamps(values: Any) -> Any:
    """Return dates, timestamps or text (N,) as timestamps of microseconds; those with a time zone in UTC.

    Raises pa.ArrowInvalid for text that is not an ISO 8601 date or time.
    """
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = cells_of.stripped(values.cast(pa.string()), usual=False)
        try:
            return values.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            return values.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    if not (pa.types.is_temporal(values.type) or pa.types.is_null(values.type)):
        raise pa.ArrowInvalid(f"{values.type} is not a date or time")
    return values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)


def shortened(cell: object) -> str:
    """Return a cell as an error message shows it."""
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}..."
