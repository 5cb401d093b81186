"""Data frames of pandas and polars: what came in as one goes out as one. Neither library is imported here.

Columns (N,) are NumPy or Arrow arrays by name. A frame's columns are known by their labels as text. What is made of
pandas has the index of the `given` frame, which has as many rows.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def is_frame(data: Any) -> bool:
    """Return whether data is a data frame of pandas or polars."""
    loaded = (sys.modules.get(name) for name in ("pandas", "polars"))
    return any(library is not None and isinstance(data, library.DataFrame) for library in loaded)


def is_polars(data: Any) -> bool:
    """Return whether data is a data frame of polars."""
    return (polars := sys.modules.get("polars")) is not None and isinstance(data, polars.DataFrame)


def chosen(given: Any, numbers: Array) -> Any:
    """Return the rows of a frame at these positions (N,)."""
    if np.array_equal(numbers, np.arange(len(given))):
        return given
    return given[numbers] if is_polars(given) else given.iloc[numbers]


def as_given(given: Any, columns: Mapping[str, Any], numbers: Array | None) -> Any:
    """Return columns as a data frame, if a frame was given, with the index of its rows at the positions `numbers` (N,).

    For other data return NumPy arrays by name. A column may also be a list; its array is one of objects.
    """
    if is_frame(given):
        return new_frame(given if numbers is None else chosen(given, numbers), columns)
    return {name: _to_numpy(column) for name, column in columns.items()}


def _to_numpy(column: Any) -> Array:
    if isinstance(column, np.ndarray):
        return column
    if isinstance(column, list):
        return np.array(column, object)
    found: Array = column.to_numpy(zero_copy_only=False)
    return found


def series(given: Any, name: str, values: Array) -> Any:
    """Return values (N,) as a named series of the library of a frame."""
    library = _library(given)
    return library.Series(name, values) if is_polars(given) else library.Series(values, given.index, name=name)


def new_frame(given: Any, columns: Mapping[str, Any]) -> Any:
    """Return columns as a data frame of the library of a frame."""
    return _frame(given, {name: _column(given, values) for name, values in columns.items()})


def frame_like(given: Any, columns: Mapping[str, Any]) -> Any:
    """Return new values of a frame's columns as a data frame, in the frame's order, with its labels and its types.

    Numbers become floats, and a column whose new values do not fit its type has another one. Columns that the frame
    lacks come last.
    """
    labels = {str(label): label for label in given.columns}
    order = {name: i for i, name in enumerate(labels)}
    names = sorted(columns, key=lambda name: order.get(name, len(order)))
    own = {name: given[label] for name, label in labels.items()}
    made = _frame(given, {name: _column(given, columns[name], own.get(name)) for name in names})
    if not is_polars(given):
        made.columns = [labels.get(name, name) for name in names]
    return made


def with_columns(given: Any, columns: Mapping[str, Any]) -> Any:
    """Return a copy of a frame with new values of some of its columns."""
    made = frame_like(given, columns)
    if is_polars(given):
        return given.with_columns(made.get_columns())
    frame = given.copy()
    for label in made.columns:
        frame[label] = made[label]
    return frame


def _library(frame: Any) -> Any:
    return sys.modules["polars" if is_polars(frame) else "pandas"]


def _frame(given: Any, columns: Mapping[str, Any]) -> Any:
    library = _library(given)
    return library.DataFrame(columns) if is_polars(given) else library.DataFrame(columns, index=given.index)


def _column(given: Any, values: Any, own: Any = None) -> Any:
    """Return a column as the library of a frame has it, of the type of the column that it replaces."""
    if isinstance(values, np.ndarray | list):
        return values
    import pyarrow as pa

    if own is None or pa.types.is_floating(values.type) or pa.types.is_nested(values.type):
        return _from_arrow(given, values)
    try:
        kind = own.to_arrow().type if is_polars(given) else pa.array(own).type
        values = values.cast(kind, safe=False)
    except pa.ArrowException:  # the type has no room for them
        return _from_arrow(given, values)
    made = _from_arrow(given, values)
    if made.dtype == own.dtype:
        return made
    refusals: tuple[type[Exception], ...] = (TypeError, ValueError)
    if is_polars(given):
        refusals += (_library(given).exceptions.PolarsError,)
    try:
        cast = made.cast(own.dtype) if is_polars(given) else made.astype(own.dtype)
    except refusals:
        return made
    is_lost = not is_polars(given) and cast.isna().sum() < values.null_count  # NumPy's booleans have no empty cells
    return made if is_lost else cast


def _from_arrow(given: Any, values: Any) -> Any:
    return _library(given).from_arrow(values) if is_polars(given) else values.to_pandas().set_axis(given.index)
