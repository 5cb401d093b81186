"""Image files and folders of them, read by Pillow a few at a time."""

import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from aecli.config import Schema
from aecli.data.source import Array, Batch, Source
from aecli.errors import DataError

DEFAULT_LABEL = "label"
BATCH_BYTES = 16 << 20
MAX_BATCH_ROWS = 1024
WIDE = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes of more than 8 bits
BROKEN = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    OverflowError,
    EOFError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageSource(Source):
    """Images as rows of pixels, their path kept. Where all lie in folders of a folder, those are their labels."""

    resizes = True

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        schema: Schema | None = None,
        size: tuple[int, int] | None = None,
        skip_broken: bool = False,
        opened: Mapping[Path, BinaryIO] | None = None,
    ) -> None:
        """Find the images that the paths name. Those that are `opened` are no files of these names.

        For a model, all are brought to what the `schema` says; without one the first image tells their size, unless
        `size` (width, height) does, and whether they are grey or coloured, of 8 bits or of 16.
        Raises DataError where there is none.
        """
        name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and others"
        self._files: list[Path] = []
        self._labels: list[str] = []
        for path in paths:
            for file in _found(path) if path.is_dir() else [path]:
                self._files.append(file)
                parts = file.relative_to(path).parts
                self._labels += [parts[0]] if len(parts) > 1 else []
        if not self._files:
            raise DataError(
                f"{name}: a folder without images, none of its files has an ending that Pillow knows",
                hint=f"tables are read from files: name them, such as {paths[0]}/*.csv",
            )
        self._skip_broken, self._opened = skip_broken, opened or {}
        labelled = DEFAULT_LABEL if len(self._labels) == len(self._files) else None
        if schema is not None:
            if schema.image_shape is None or schema.full_scale is None:
                raise DataError(f"{name}: images, and the model takes rows of a table")
            shape, white, resize = schema.image_shape, schema.full_scale, schema.resize
        else:
            shape, white = self._shape_of_first(size)
            resize = size is not None
        super().__init__(
            name,
            Schema(int(np.prod(shape)), image_shape=shape, full_scale=white, resize=resize, label=labelled),
            len(self._files),
        )
        self._shape = shape

    def _batches(self) -> Iterator[Batch]:
        rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // self.schema.inputs))
        files = iter(self._files)
        row = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            while some := list(islice(files, rows)):
                images = list(pool.map(self._read, some))
                fine = [i for i, image in enumerate(images) if image is not None]
                self.skipped += len(some) - len(fine)
                if fine:
                    x = np.stack([image for image in images if image is not None])
                    labels = np.array(self._labels[row : row + len(some)])[fine] if self.schema.label else None
                    yield Batch(x, labels, {"path": np.array([str(some[i]) for i in fine])}, row=row)
                row += len(some)

    def _shape_of_first(self, size: tuple[int, int] | None) -> tuple[tuple[int, ...], float]:
        """Return the shape of the images, (H, W) or (H, W, 3), and what white is, from the first that can be read."""
        for file in self._files:
            try:
                with Image.open(self._opened.get(file, file)) as image:
                    width, height = size or ImageOps.exif_transpose(image).size
                    wide, grey = image.mode in WIDE, image.mode in ("1", "L", "LA", "La", *WIDE)
            except BROKEN as error:
                if not self._skip_broken:
                    raise _broken(file, error) from error
                continue
            return ((height, width) if grey else (height, width, 3)), 65_535.0 if wide else 255.0
        raise DataError(f"{self._files[0].parent}: no images to read, all {len(self._files):,} are broken")

    def _read(self, file: Path) -> Array | None:
        """Read the pixels (D,) of one image; None where it is broken and may be skipped."""
        height, width, channels = (*self._shape, 1)[:3]
        try:
            with Image.open(self._opened.get(file, file)) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.size != (width, height) and not self.schema.resize:
                    raise DataError(
                        f"{file}: an image of {image.width} × {image.height} pixels, and {width} × {height} expected",
                        hint=f"train with --image-size {width}x{height} to bring all to one size",
                    )
                return self._pixels(image, channels, (width, height)).ravel()
        except BROKEN as error:
            if self._skip_broken:
                return None
            raise _broken(file, error) from error

    def _pixels(self, image: Image.Image, channels: int, size: tuple[int, int]) -> Array:
        """Return the pixels of an image (H, W) or (H, W, C), as numbers whose white is the schema's."""
        white = self.schema.full_scale or 255.0
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        if image.mode in WIDE:  # Pillow would cut them off at 255, and not resize them
            grey = Image.fromarray(np.asarray(image).astype(np.float32))
            values: Array = np.asarray(grey if image.size == size else grey.resize(size, Image.Resampling.LANCZOS))
            values = np.clip(values, 0, 65_535) * (white / 65_535)
            values = values if channels == 1 else np.repeat(values[..., None], channels, axis=2)
        else:
            converted = image.convert(mode)
            values = np.asarray(converted if image.size == size else converted.resize(size, Image.Resampling.LANCZOS))
            values = values if white == 255 else values * np.float32(white / 255)
        return np.rint(values).astype(np.uint8 if white == 255 else np.uint16 if white == 65_535 else np.float32)


def endings() -> frozenset[str]:
    """Return the endings of the files that Pillow reads, in small letters."""
    return frozenset(ending for ending, form in Image.registered_extensions().items() if form in Image.OPEN)


def _found(folder: Path) -> list[Path]:
    """List the images in a folder and its folders, in the order of their names. Hidden ones are none."""
    known = endings()
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(where, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in known
        ]
    return sorted(found)


def _broken(file: Path, error: Any) -> DataError:
    bomb = isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning)
    what = "an image of so many pixels that it may be a decompression bomb" if bomb else "not an image, or a broken one"
    return DataError(f"{file}: {what} ({str(error) or type(error).__name__})", hint="--skip-broken goes on without it")
