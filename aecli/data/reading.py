"""What the user says of data: which columns are what, and what a file's name does not tell of it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Columns:
    """What the user says of a table's columns: names, or globs in all but `label`."""

    label: str | None = None
    features: Sequence[str] = ()
    exclude: Sequence[str] = ()
    categorical: Sequence[str] = ()
    keep: Sequence[str] = ()

    def flag(self) -> str | None:
        """Give the first flag that names a column, None where none does."""
        given = (name for name, value in vars(self).items() if value)
        return next((f"--{name}" for name in given), None)


@dataclass(frozen=True)
class Reading:
    """How data is read. None leaves it to the file's name, or to its first bytes.

    `form` is a value of `formats.TABLES`. `header` tells whether a CSV has one. `image_size` is (width, height) in
    pixels.
    `skip_broken` goes on where an image cannot be read. A `live` stream is read as its bytes come.
    """

    form: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    image_size: tuple[int, int] | None = None
    skip_broken: bool = False
    live: bool = False
