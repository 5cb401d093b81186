"""What data is called: the names of the built-in sets, and the endings of files. Nothing is imported to know it."""

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
