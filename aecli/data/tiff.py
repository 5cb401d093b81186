"""The pages of a TIFF, by its directories: how many there are, and whether all of them can be found.

Pillow and tifffile give the pages before a damaged place as if they were all.
Source: TIFF 6.0, section 2; BigTIFF.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NEW_SUBFILE_TYPE, SUBFILE_TYPE = 254, 255  # tags
REDUCED, MASK = 1, 4  # bits of NEW_SUBFILE_TYPE
OLD_REDUCED = 2  # of SUBFILE_TYPE


@dataclass(frozen=True)
class Pages:
    """The pages of a TIFF that can be found: for each, whether it only belongs to another, as a thumbnail or a mask.

    `damage` says in words what is wrong after them, None where nothing is.
    """

    aside: tuple[bool, ...]
    damage: str | None = None

    @property
    def own(self) -> list[int]:
        """The numbers of the pages that are images of their own, counted from 0."""
        return [i for i, aside in enumerate(self.aside) if not aside] or [*range(len(self.aside))]


def pages(file: Path, place: BinaryIO | None = None) -> Pages | None:
    """Return the pages of a TIFF, or of the open file that is read in its stead. None for a file that is no TIFF."""
    if place is None:
        with file.open("rb") as opened:
            return _pages(opened)
    try:
        return _pages(place)
    finally:
        place.seek(0)


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
    seen: set[int] = set()
    while offset:
        number = len(aside) + 1
        if offset in seen:
            return Pages(tuple(aside), f"after page {number - 1} comes an earlier one again")
        seen.add(offset)
        beyond = Pages(tuple(aside), f"its page {number} lies beyond its end")
        if offset + count_size > size:
            return beyond
        file.seek(offset)
        (count,) = struct.unpack(order + count_form, file.read(count_size))
        if offset + count_size + count * entry_size + offset_size > size:
            return beyond
        entries = file.read(count * entry_size)
        aside.append(any(_is_aside(entries[i : i + entry_size], order) for i in range(0, len(entries), entry_size)))
        (offset,) = struct.unpack(order + offset_form, file.read(offset_size))
    return Pages(tuple(aside), None if aside else "there are no images in it")


def _is_aside(entry: bytes, order: str) -> bool:
    """Return whether an entry of a page's directory says that the page only belongs to another."""
    tag, kind = struct.unpack_from(order + "HH", entry)
    if tag not in (NEW_SUBFILE_TYPE, SUBFILE_TYPE):
        return False
    (value,) = struct.unpack_from(
        order + ("H" if kind == 3 else "I"), entry, len(entry) - (8 if len(entry) == 20 else 4)
    )
    return value == OLD_REDUCED if tag == SUBFILE_TYPE else bool(value & (REDUCED | MASK))
