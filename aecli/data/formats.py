"""The format of data, by its first bytes, or by its name if the bytes do not decide. Imports nothing heavy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aecli.data.places import URL, Where, shown

NAMES = ("digits", "mnist", "fashion-mnist", "kmnist", "qmnist", "emnist")
SPLITS = ("train", "test")
TABLES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
TEXTS = ("csv", "tsv", "jsonl")
COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".zip")
ARRAYS = (".npy", ".npz")
KEYED = (".npz", ".safetensors")  # files of several arrays
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm")
IDX = r"(-idx\d-[a-z]+|\.idx)(\.gz)?$"  # in t10k-images-idx3-ubyte.gz

PEEK_BYTES = 4096  # the most bytes to read to find a format
MAGIC_BYTES = 12  # enough for all formats but tar
BLANKS = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
COMPRESSIONS = ("gzip", "zstd", "xz", "bz2")
MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    *((b"BZh%d1AY&SY" % level, "bz2") for level in range(1, 10)),
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),
    (b"ARROW1\0\0", "arrow"),
    (b"\x93NUMPY", "npy"),
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF87a", "image"),
    (b"GIF89a", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"SQLite format 3\0", "sqlite"),
    (b"%PDF-", "pdf"),
    (b"MATLAB ", "matlab"),
    (b"SIMPLE  =", "fits"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"),
    (b"RDX2\n", "rdata"),
    (b"RDX3\n", "rdata"),
    (b"X\n\0\0\0", "rds"),
    (b"<stata_dta>", "stata"),
    *((bytes([0x80, protocol]), "pickle") for protocol in range(2, 6)),
)
# A line of text may begin with these, too: they count only if the bytes after them are not text.
LETTERS = ((b"PAR1", "parquet"), (b"FEA1", "arrow"), (b"BM", "image"), (b"ORC", "orc"), (b"Obj\1", "avro"))


def uncompressed(name: str) -> str:
    """Return a file's name without the endings of compressions."""
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name


def table_form(name: str) -> str | None:
    """Return the format by a table's file name; None if it is not the name of a table."""
    stem, dot, ending = uncompressed(name).rpartition(".")
    return TABLES.get(dot + ending.lower()) if stem else None


def source_name(data: Any) -> str | None:
    """Return the name of data without secrets; None if it has no name, as an array has none.

    It is a base name, or scheme, bucket and key: never a folder, a user, a password or a query.
    """
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = [source_name(each) for each in data]
        if not names or None in names:
            return None
        others = len(names) - 1
        return f"{names[0]} and {others} other{'s' * (others != 1)}" if others else names[0]
    if not isinstance(data, str | Where):
        return None
    if data == "-":
        return "standard input"
    url = URL.match(str(data))
    if url is None or url[1].lower() == "file":
        word = url[2] if url else str(data)
        return Path(word).name or word
    return shown(str(data))


def form_of(start: bytes) -> str | None:
    """Return the format by the first bytes of a file or a stream; None if they do not decide it.

    JSON Lines and an array of objects are both "jsonl". CSV is never recognised by its bytes.
    """
    magic = MAGIC if is_text(start) else MAGIC + LETTERS
    if form := next((form for begins, form in magic if start.startswith(begins)), None):
        return form
    return next((form for form, is_it in SHAPES.items() if is_it(start)), None)


def _is_webp(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def _is_arrow_stream(start: bytes) -> bool:
    """Return whether the bytes are a mark, followed by the length of a schema."""
    return start[:4] == b"\xff\xff\xff\xff" and len(start) >= 8 and start[7] == 0 and start[4] % 8 == 0


def _is_idx(start: bytes) -> bool:
    """Return whether the bytes are two zeros, a type, and a number of dimensions."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in (8, 9, 11, 12, 13, 14) and 0 < start[3] <= 8


def _is_safetensors(start: bytes) -> bool:
    """Return whether the bytes are the length of a header, in eight bytes, followed by an object."""
    return start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= 100_000_000


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _is_json(start: bytes) -> bool:
    """Return whether the text begins with an object, an array of objects, or an empty array."""
    text = start.removeprefix(BOM).lstrip(BLANKS)
    inside = text[1:].lstrip(BLANKS)
    if text[:1] == b"[":
        return inside[:1] == b"{" or inside.rstrip(BLANKS) == b"]"
    return text[:1] == b"{" and inside[:1] in (b'"', b"}")


def _is_dicom(start: bytes) -> bool:
    return start[128:132] == b"DICM"


SHAPES = {
    "image": _is_webp,
    "dicom": _is_dicom,
    "safetensors": _is_safetensors,
    "arrow": _is_arrow_stream,
    "idx": _is_idx,
    "tar": _is_tar,
    "jsonl": _is_json,
}


def is_undecided(start: bytes) -> bool:
    """Return whether more bytes may change the format. After a whole line of text they do not."""
    if len(start) >= PEEK_BYTES:
        return False
    return not start.removeprefix(BOM).strip(BLANKS + b"[{") or (len(start) < MAGIC_BYTES and b"\n" not in start)


def is_text(start: bytes) -> bool:
    """Return whether these bytes may be text: UTF-8, an encoding with one byte per letter, or UTF-16."""
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    wide = len(start) >= 4 and not (any(start[::2]) and any(start[1::2])) and any(start)
    return marked or wide or not any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in start)
