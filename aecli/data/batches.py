"""Record batches of Arrow, as they come from an engine: in as a table that is read once, out as codes."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aecli.data.arrow import BatchTable, FrameTable, bounded
from aecli.data.sinks import to_table
from aecli.data.table import Table
from aecli.errors import DataError

if TYPE_CHECKING:
    from aecli.data.source import Batch

    Array = np.ndarray[Any, Any]


def reader_of(batches: Any) -> pa.RecordBatchReader | None:
    """Return a reader of what has an Arrow stream, or of an iterable of record batches; None where this has none."""
    if isinstance(batches, pa.RecordBatchReader):
        return batches
    if hasattr(batches, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(batches)
    return _reader(iter(batches))


def frame_or_batches(given: Any, *, once: bool) -> Table:
    """Return a data frame as a table; a reader of record batches as one that is read `once`, where that is enough."""
    if once and isinstance(given, pa.RecordBatchReader):
        return BatchTable("the batches", given.schema, (part for batch in given for part in bounded(batch)))
    return FrameTable(given)


def joined(parts: Iterable[tuple["Batch", dict[str, Any]]]) -> pa.RecordBatchReader:
    """Return the kept columns of batches with the codes of their rows beside them; rows that are blank have none.

    Raises DataError where a kept column bears one of the names that the codes need.
    """
    made = _reader(_record(batch, codes) for batch, codes in parts)
    assert made is not None  # noqa: S101, for the type checker: no rows are one batch of none
    return made


def without_batches(names: Sequence[str]) -> pa.RecordBatchReader:
    """Return a reader of no batches."""
    return pa.RecordBatchReader.from_batches(pa.schema([(name, pa.float32()) for name in names]), [])


def _reader(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader | None:
    first = next(batches, None)
    return None if first is None else pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))


def _record(batch: "Batch", codes: dict[str, Any]) -> pa.RecordBatch:
    if both := [name for name in batch.kept if name in codes]:
        raise DataError(
            f"column {both[0]!r} cannot be kept: the codes have a column {both[0]!r}", hint="rename it first"
        )
    table = to_table(codes)
    schema = pa.schema([(field.name, _of_any_length(field.type)) for field in table.schema])
    (made,) = table.cast(schema).combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema)]
    if batch.blank is not None:
        made = made.take(pa.array(np.arange(len(made)), mask=batch.blank))
    return pa.record_batch({**batch.kept, **dict(zip(made.schema.names, made.columns, strict=True))})


def _of_any_length(kind: pa.DataType) -> pa.DataType:
    """Return a type with lists of any length in the place of those of a fixed one, which Spark does not take."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _of_any_length(field.type)) for field in kind])
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind
