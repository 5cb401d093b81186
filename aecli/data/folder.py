"""Folders of Parquet files: one table, in the order of the files' names."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from aecli.data.formats import IMAGES, form_of, table_form
from aecli.data.places import Place, Where
from aecli.errors import DataError

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
START_BYTES = 32


def is_table(folder: Where) -> bool:
    """Return whether a folder holds Parquet files.

    Raises DataError if it also holds images or other tables, or is a Delta table, whose files alone do not define it.
    """
    tables, others = [], []
    for file in files_in(folder):
        if file.suffix.lower() in IMAGES:
            others.append(file)
        elif _is_parquet(file):
            tables.append(file)
        elif table_form(file.name) is not None and file.suffix.lower() != ".json":
            others.append(file)
    if tables and others:
        raise DataError(
            f"{folder}: a folder with Parquet files and other data, such as {tables[0]} and {others[0]}",
            hint=f"name the files to read: {folder}/*{tables[0].suffix}",
        )
    if tables and (folder / "_delta_log").is_dir():
        raise DataError(
            f"{folder}: a Delta table, whose log says which of its files still count",
            hint=f'python -c \'import deltalake; deltalake.DeltaTable("{folder}").to_pandas()'
            f'.to_parquet("{folder.name}.parquet")\'',
        )
    return bool(tables)


def tables_in(folder: Where) -> list[tuple[Where, dict[str, Any]]]:
    """Return the Parquet files in a folder and its subfolders, each with the values in its folders' names.

    The values are Arrow scalars by column: integers if all values of a column are integers, texts otherwise.
    """
    import pyarrow as pa

    found = [(file, values_of(within(file, folder))) for file in files_in(folder) if _is_parquet(file)]
    texts: dict[str, set[str | None]] = {}
    for _, values in found:
        for column, value in values.items():
            texts.setdefault(column, set()).add(value)
    kinds = {column: pa.int64() if _are_numbers(values) else pa.string() for column, values in texts.items()}
    return [
        (
            file,
            {
                column: pa.scalar(_typed(values.get(column), numbers=kind == pa.int64()), kind)
                for column, kind in kinds.items()
            },
        )
        for file, values in found
    ]


def within(file: Where, folder: Where) -> PurePath:
    """Return the path of a file relative to a folder."""
    return file.relative_to(folder)  # type: ignore[arg-type]


def files_in(folder: Where) -> Iterator[Where]:
    """Yield the files in a folder and its subfolders, sorted. Names that begin with . or _ are skipped."""
    if isinstance(folder, Place):
        for file in folder.files():
            if not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts):
                yield file
        return
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [Path(where, name) for name in names if not name.startswith((".", "_"))]
    yield from sorted(found)


def _is_parquet(file: Where) -> bool:
    if table_form(file.name) == "parquet":
        return True
    if isinstance(file, Place):  # opening each file takes long
        return False
    try:
        if not file.is_file():  # opening a pipe would block
            return False
        with file.open("rb") as opened:
            return form_of(opened.read(START_BYTES)) == "parquet"
    except OSError:
        return False


def values_of(path: PurePath) -> dict[str, str | None]:
    """Return the values in the folders' names of a path such as `year=2024/site=x/part.parquet`."""
    pairs = [found.groups() for part in path.parts[:-1] if (found := re.fullmatch(r"([^=]+)=(.*)", part))]
    return {unquote(column): None if value == NO_VALUE else unquote(value) for column, value in pairs}


def _are_numbers(texts: set[str | None]) -> bool:
    return any(texts) and all(text is None or re.fullmatch(r"0|-?[1-9]\d{0,17}", text) for text in texts)


def _typed(text: str | None, *, numbers: bool) -> int | str | None:
    return int(text) if numbers and text is not None else text
