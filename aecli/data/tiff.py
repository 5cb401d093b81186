"""The pages of a TIFF, by its directories: their number, and whether all can be found.

Pillow and tifffile return the pages before a damaged one as if they were all.
Source: TIFF 6.0, section 2; BigTIFF.
"""

import contextlib
import os
import re
import shlex
import struct
from dataclasses import dataclass
from typing import BinaryIO

from aecli.data.places import Where
from aecli.errors import DataError

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NEW_SUBFILE_TYPE, SUBFILE_TYPE, DESCRIPTION = 254, 255, 270  # tags
REDUCED, MASK = 1, 4  # bits of NEW_SUBFILE_TYPE
OLD_REDUCED = 2  # a value of SUBFILE_TYPE
DESCRIBED_BYTES = 1 << 16
STACK = re.compile(rb'^ImageJ=.*\simages=(?!1\b)|"truncated": true', re.DOTALL)  # in the description of one page


@dataclass(frozen=True)
class Pages:
    """The pages found in a TIFF, and whether each only belongs to another, such as a thumbnail or a mask.

    `damage` says what is wrong after them; None if nothing is. `description` is the last page's.
    """

    aside: tuple[bool, ...]
    damage: str | None = None
    description: bytes = b""

    @property
    def own(self) -> list[int]:
        """The numbers of the pages that count as images, from 0."""
        return [i for i, aside in enumerate(self.aside) if not aside] or [*range(len(self.aside))]


def pages(file: Where, place: BinaryIO | None = None) -> Pages | None:
    """Return the pages of a TIFF, or of the open file `place` instead. None for a file that is not a TIFF.

    Raises DataError if images follow one another without pages of their own, as ImageJ writes large stacks.
    """
    with file.open("rb") if place is None else contextlib.nullcontext(place) as opened:
        found = _pages(opened)
        opened.seek(0)
    if found is not None and found.damage is None and len(found.aside) == 1 and STACK.search(found.description):
        raise DataError(
            f"{file}: it has one page, but more images by its description",
            hint=None if place else f"convert it to an array: {to_array(file.stem, f'[{str(file)!r}]')}",
        )
    return found


def to_array(name: str, files: str) -> str:
    """Return the command that writes all images of some files to NAME.npy; `files` is a list in Python code."""
    code = (
        f"import glob, numpy, tifffile; numpy.save({f'{name}.npy'!r}, numpy.concatenate([tifffile.imread(f).reshape("
        f"-1, *tifffile.TiffFile(f).pages[0].shape) for f in {files}]))"
    )
    return shlex.join(["python", "-c", code])


def _pages(file: BinaryIO) -> Pages | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    if head[:4] not in STARTS:
        return None
    order = "<" if head[:2] == b"II" else ">"
    count_form, entry_size, offset_form, start = ("Q", 20, "Q", 8) if b"+" in head[:4] else ("H", 12, "I", 4)
    count_size, offset_size = struct.calcsize(count_form), struct.calcsize(offset_form)
    if len(head) < start + offset_size:
        return Pages((), "it is cut short")
    (offset,) = struct.unpack_from(order + offset_form, head, start)
    aside: list[bool] = []
    each: list[bytes] = []
    seen: set[int] = set()
    while offset:
        number = len(aside) + 1
        if offset in seen:
            return Pages(tuple(aside), f"page {number - 1} is followed by an earlier one")
        seen.add(offset)
        beyond = Pages(tuple(aside), f"its page {number} is beyond its end")
        if offset + count_size > size:
            return beyond
        file.seek(offset)
        (count,) = struct.unpack(order + count_form, file.read(count_size))
        if offset + count_size + count * entry_size + offset_size > size:
            return beyond
        entries = file.read(count * entry_size)
        each = [entries[i : i + entry_size] for i in range(0, len(entries), entry_size)]
        aside.append(any(_is_aside(entry, order) for entry in each))
        (offset,) = struct.unpack(order + offset_form, file.read(offset_size))
    return Pages(tuple(aside), None if aside else "there are no images in it", _description(file, each, order))


def _description(file: BinaryIO, entries: list[bytes], order: str) -> bytes:
    """Return the description in a page's directory; b"" if there is none."""
    for entry in entries:
        tag, _, count, place = struct.unpack(order + ("HHQQ" if len(entry) == 20 else "HHII"), entry)
        if tag == DESCRIPTION:
            file.seek(place)
            return file.read(min(count, DESCRIBED_BYTES))
    return b""


def _is_aside(entry: bytes, order: str) -> bool:
    """Return whether a directory entry says that its page only belongs to another."""
    tag, kind = struct.unpack_from(order + "HH", entry)
    if tag not in (NEW_SUBFILE_TYPE, SUBFILE_TYPE):
        return False
    (value,) = struct.unpack_from(
        order + ("H" if kind == 3 else "I"), entry, len(entry) - (8 if len(entry) == 20 else 4)
    )
    return value == OLD_REDUCED if tag == SUBFILE_TYPE else bool(value & (REDUCED | MASK))
