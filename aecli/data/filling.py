"""Columns as they were read, with a model's values in place of holes."""

from typing import Any

import numpy as np
import pyarrow as pa

from aecli.data import compute as pc
from aecli.data.sinks import texts

Array = np.ndarray[Any, Any]


def filled(own: Any, values: Any, holes: Array) -> Any:
    """Return a column (N,) with a model's `values` (N,) in the rows that have `holes` (N,).

    A hole among integers gets the nearest integer that the type can hold, so that the other cells stay exactly as they
    are.
    """
    if pa.types.is_null(own.type):
        own = own.cast(values.type)
    elif pa.types.is_nested(values.type) and not pa.types.is_nested(own.type):
        values = pa.array(texts(values), own.type)
    elif pa.types.is_nested(values.type) and pa.types.is_integer(own.type.value_type):
        return _filled_vectors(own, values, holes)
    else:
        if pa.types.is_integer(own.type) and pa.types.is_floating(values.type):
            values = _nearest(values, own.type)
        values = values.cast(pa.string() if pa.types.is_dictionary(own.type) else own.type, safe=False)
        own = own.cast(values.type)
    return pc.if_else(pa.array(holes), values, own)


def _filled_vectors(own: Any, values: Any, holes: Array) -> Any:
    """Return lists of integers with the nearest integers in place of missing ones; a missing list is filled."""
    chosen = pa.array(holes)
    part, values = own.filter(chosen), values.filter(chosen)
    numbers = _nearest(values.flatten(), own.type.value_type)
    width = len(numbers) // len(values)
    given = np.repeat(part.is_valid().to_numpy(zero_copy_only=False), width)
    known = part.flatten().take(pa.array(np.cumsum(given) - 1, mask=~given))
    lists = pa.FixedSizeListArray.from_arrays(pc.coalesce(known, numbers), width).cast(own.type)
    order = np.arange(len(own))
    order[holes] = len(own) + np.arange(len(lists))
    return pa.concat_arrays([own, lists]).take(pa.array(order))


def _nearest(numbers: Any, kind: Any) -> Any:
    """Return the integers of a type that are nearest to the floats (N,)."""
    found, limits = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False), np.iinfo(kind.to_pandas_dtype())
    rounded, largest = np.rint(found), float(limits.max)
    beyond = rounded >= largest
    whole = np.where(np.isnan(found) | beyond, 0, np.maximum(rounded, limits.min)).astype(kind.to_pandas_dtype())
    return pa.array(np.where(beyond, limits.max, whole), kind, mask=np.isnan(found))
