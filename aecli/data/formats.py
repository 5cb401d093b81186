"""What data is called: the names of the built-in sets, and the endings of files. Nothing heavy is imported for it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = ("digits", "mnist", "fashion-mnist", "kmnist", "qmnist", "emnist")
SPLITS = ("train", "test")
TABLES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = (".gz", ".zst")
ARRAYS = (".npy", ".npz")
IDX = r"(-idx\d-[a-z]+|\.idx)(\.gz)?$"  # in t10k-images-idx3-ubyte.gz


def table_form(name: str) -> str | None:
    """Return the format that a table's file name says, None where it is no table's."""
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    stem, dot, ending = name.rpartition(".")
    return TABLES.get(dot + ending.lower()) if stem else None


def source_name(data: Any) -> str | None:
    """Return the name of data as others may see it; None where it has none, such as an array's.

    It is a base name, or scheme, bucket and key: never a folder, a user, a password or a query.
    """
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = [source_name(each) for each in data]
        if not names or None in names:
            return None
        others = len(names) - 1
        return f"{names[0]} and {others} other{'s' * (others != 1)}" if others else names[0]
    if not isinstance(data, str | Path):
        return None
    if data == "-":
        return "standard input"
    url = re.match(r"([a-z][a-z0-9+.-]+)://([^?#]*)", str(data), re.IGNORECASE)
    if url is None or url[1].lower() == "file":
        word = url[2] if url else str(data)
        return Path(word).name or word
    user = r"[^/]*@|[^/@]*:(?!\d+(?:/|$))[^@]*@"  # a password may hold a slash
    return f"{url[1]}://{re.sub(f'^(?:{user})', '', url[2])}"
