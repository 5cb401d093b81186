"""Image files and folders of image files, read a few at a time."""

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from aecli.config import Schema
from aecli.data import picture, tiff, units
from aecli.data.picture import BROKEN
from aecli.data.places import Place, Where
from aecli.data.refused import IMAGE_ENDINGS, refused_images
from aecli.data.source import Array, Batch, Source
from aecli.errors import DataError, WidthError
from aecli.options import ALL_COLUMNS, Columns

DEFAULT_LABEL = "label"
BATCH_BYTES = 16 << 20
MAX_BATCH_ROWS = 1024
ONE_FRAME = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".pbm")  # or more, which nobody wants, as phones write
FIRST_OF_SEVERAL = "the first of several frames is read"
COMPANIONS = frozenset((".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".log"))
OF_SYSTEMS = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
NAMED_LABELS = 8
ONE_DEPTH = "convert all to one depth: ImageMagick's mogrify -depth 8 FILE converts 16 bits to 8"
NAMED = 5  # how many left-out files a note names


class ImageSource(Source):
    """Images as rows of pixels, with their paths kept. If all images lie in subfolders, the subfolders are the labels.

    Each page of a TIFF is its own row, with the page number kept, counted from 1.
    """

    resizes = True

    def __init__(
        self,
        paths: Sequence[Where],
        *,
        schema: Schema | None = None,
        columns: Columns = ALL_COLUMNS,
        skip_broken: bool = False,
        any_type: bool = False,
        force: bool | None = False,
        opened: Mapping[Where, BinaryIO] | None = None,
    ) -> None:
        """Find the images that the paths name. `opened` holds the streams of names that are not local files.

        With a model's `schema`, all images are converted to what it says. Without one, they are in colour if any pixel
        of any file is; their size and type are those of the first image, unless `columns` gives a size.
        With `any_type`, values of another type than the model's are read unchanged. With `force`, images of any size
        are read; None means no, and that no option can ask for it.
        Raises DataError if there are no images.
        """
        name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and others"
        self._skip_broken, self._any_type, self._opened = skip_broken, any_type, opened or {}
        self._training, self._forced = schema is None, force
        self._left_out: list[str] = []
        self._damaged: list[str] = []
        self._first_of_type: tuple[Where, Any] | None = None
        self._remarked: dict[str, set[Where]] = {}
        found = _files_of(paths, name)
        files, labels, without, self._others = found.files, found.labels, found.without, found.others
        self._no_files = found.no_files
        self._aside = 0  # pages that only belong to other pages, such as thumbnails
        self._first_aside = ""
        usual = None if force else Image.MAX_IMAGE_PIXELS
        limit = usual if usual is None or schema is None else max(usual, schema.inputs)  # the model's own size is fine
        self._settled = functools.partial(picture.warnings_settled, limit)
        with self._settled():
            self._images = [(f, label, page) for f, label in zip(files, labels, strict=True) for page in self._pages(f)]
        if not self._images:
            raise DataError(f"{name}: no images to read, all {len(files):,} are broken")
        self._paged = any(page is not None for _, _, page in self._images)
        loose = [file for file, label in zip(files, labels, strict=True) if label is None]
        labelled = DEFAULT_LABEL if len(loose) * 10 < len(files) else None
        self.remarks = [f"left out folders without images: {_listed(without)}"] if without else []
        if labelled and loose:
            self.remarks.append(f"{_named(loose)} in no folder and have no label")
        elif loose and len(loose) < len(files):
            self.remarks.append(f"no labels: {_named(loose)} in no class folder: that is at least one image in ten")
        if schema is not None:
            if schema.image_shape is None or schema.full_scale is None:
                data = str(paths[0]) if len(paths) == 1 and not self._opened else "DATA"
                raise WidthError(
                    f"{name}: images, and rows of a table were expected",
                    hint=f"to train a model of images: {shlex.join(['aecli', 'train', data])}",
                )
            own = schema
        else:
            with self._settled():
                own = self._looked(columns)
        super().__init__(
            name,
            Schema(
                own.inputs,
                missing=columns.missing if schema is None else schema.missing,
                image_shape=own.image_shape,
                black=own.black,
                full_scale=own.full_scale,
                dtype=own.dtype,
                resize=own.resize,
                fit=own.fit,
                background=own.background,
                label=labelled,
            ),
            len(self._images),
        )
        self.paths = [_text(file) for file, _, _ in self._images]

    def learning(self) -> list[str]:
        """Return a sentence on the labels, if they are the folders' names."""
        if self.schema.label is None or self.beside is not None:
            return []
        names = sorted({label for _, label, _ in self._images if label is not None})
        shown = ", ".join(names[:NAMED_LABELS]) + (", ..." if len(names) > NAMED_LABELS else "")
        return [f"labels: the folders' names: {shown} ({len(names):,})"]

    def _pages(self, file: Where) -> list[int | None]:
        """Return the numbers of the pages that count as images; [None] for a file that is one image."""
        if file.suffix.lower() in ONE_FRAME and file not in self._opened:
            return [None]
        place = self._bytes_of(file)
        try:
            found = tiff.pages(file, place)
            if found is None and picture.count_frames(file, place) > 2:
                self._remark(FIRST_OF_SEVERAL, file)
        except BROKEN:
            return [None]  # reported when the file is read
        if found is None:
            return [None]
        if found.damage is not None:
            if not self._skip_broken:
                what = f"a damaged TIFF, {found.damage}" if found.aside else f"a TIFF, and {found.damage}"
                raise DataError(f"{file}: {what}", hint="--skip-broken skips the damaged part")
            self._damaged.append(f"{file} ({found.damage})")
        if len(found.own) < len(found.aside):
            self._aside += len(found.aside) - len(found.own)
            self._first_aside = self._first_aside or f"page {found.aside.index(True) + 1} of {file}"
        return [None] if found.own == [0] else [*found.own]

    def _batches(self) -> Iterator[Batch]:
        rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // self.schema.inputs))
        images = iter(self._images)
        row = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool, self._settled():
            while some := list(islice(images, rows)):
                tasks = [list(group) for _, group in groupby(some, key=lambda image: image[0])]
                read = [image for found in pool.map(self._read, tasks) for image in found]
                fine = [i for i, image in enumerate(read) if image is not None]
                self.skipped += len(some) - len(fine)
                if fine:
                    self._check_types(some, read)
                    x = np.stack([image for image in read if image is not None])
                    labels = np.array([some[i][1] or "" for i in fine]) if self.schema.label else None
                    kept: dict[str, Array] = {"path": np.array([_text(some[i][0]) for i in fine])}
                    if self._paged:
                        kept["page"] = np.array([(some[i][2] or 0) + 1 for i in fine])
                    yield Batch(x, labels, kept, row=row, numbers=row + np.array(fine))
                row += len(some)

    def _looked(self, asked: Columns) -> Schema:
        """Return the images' schema, from as many of them as it takes to know."""
        first: tuple[Where, Array] | None = None
        colour = False
        for file, values in self._until_known():
            found = values if asked.alpha else self._without_alpha(file, values, asked.background)
            first = first or (file, found)
            colour = asked.alpha or (found.ndim == 3 and picture.has_colour(found))
            if colour:
                if file != first[0]:
                    self._remark("in colour, so all are read in colour", file)
                break
        self._left_out.clear()  # the same files are found again when all are read
        if first is None:
            raise DataError(f"{self._images[0][0].parent}: no images to read, all {len(self._images):,} are broken")
        height, width = asked.image_size[::-1] if asked.image_size else first[1].shape[:2]
        channels = 4 if asked.alpha else 3
        dtype = first[1].dtype
        return Schema(
            height * width * (channels if colour else 1),
            image_shape=(height, width, channels) if colour else (height, width),
            full_scale=255.0 if dtype == np.uint8 else None,
            dtype=str(dtype),
            resize=asked.image_size is not None,
            fit=asked.fit,
            background=None if asked.alpha else asked.background,
        )

    def _until_known(self) -> Iterator[tuple[Where, Array]]:
        """Yield the first image and all others that may be in colour or transparent, each with its file."""
        first = True
        for file, images in groupby(self._images, key=lambda image: image[0]):
            if not first and self._is_grey(file):
                continue
            for values in self._each(list(images), lambda values, _: values):
                if values is not None:
                    yield file, values
                    first = False

    def _each(
        self, images: list[tuple[Where, str | None, int | None]], bring: Callable[[Array, int | None], Array]
    ) -> Iterator[Array | None]:
        """Yield `bring` of each image of one file and its page; None for a broken one that is skipped."""
        file, done = images[0][0], 0
        while rest := images[done:]:
            numbers = [page or 0 for _, _, page in rest]
            found = picture.frames(
                file,
                numbers,
                self._bytes_of(file),
                on_more=lambda: self._remark(FIRST_OF_SEVERAL, file),
                alone=self._images[0][0] == self._images[-1][0],
            )
            for _, _, page in rest:
                values = None
                with self._broken_skipped(file, page):
                    values = bring(next(found), page)
                done += 1
                yield values
                if values is None:
                    break  # the frames after it are read again

    def _bytes_of(self, file: Where) -> BinaryIO | None:
        """Return the open file for a name; None for a local file. A remote file is read as a whole."""
        return self._opened.get(file) or (file.contents() if isinstance(file, Place) else None)

    def _is_grey(self, file: Where) -> bool:
        try:
            with Image.open(self._bytes_of(file) or cast(Path, file)) as image:
                return picture.is_grey(image)
        except BROKEN:
            return False

    @contextlib.contextmanager
    def _broken_skipped(self, file: Where, page: int | None = None) -> Iterator[None]:
        """Note a file that cannot be read, if it may be skipped. Otherwise raises DataError."""
        try:
            yield
        except BROKEN as error:
            if not self._skip_broken:
                raise _broken(file, page, error, forced=self._forced) from error
            self._left_out.append(f"{_paged(file, page)} ({_why(file, error) or 'not an image, or a broken one'})")
        except DataError as error:
            if not self._skip_broken:
                raise
            said = error.message.removeprefix(f"{_paged(file, page)}: ").removeprefix(f"{file}: ")
            self._left_out.append(f"{_paged(file, page)} ({said})")

    def _read(self, images: list[tuple[Where, str | None, int | None]]) -> list[Array | None]:
        """Return the pixels (D,) of the images of one file; None for a broken one that may be skipped."""
        file = images[0][0]
        return list(self._each(images, lambda values, page: self._brought(file, values, page).ravel()))

    def _brought(self, file: Where, values: Array, page: int | None) -> Array:
        """Return an image (H, W), (H, W, 3) or (H, W, 4) in the size, type and channels of the schema."""
        schema = self.schema
        assert schema.image_shape is not None  # noqa: S101, for the type checker
        height, width, channels = (*schema.image_shape, 1)[:3]
        if channels != 4:
            values = self._without_alpha(file, values, schema.background)
        if values.shape[:2] != (height, width) and not schema.resize:
            found = f"an image of {values.shape[1]} × {values.shape[0]} pixels"
            raise DataError(
                f"{_paged(file, page)}: {found}, and {width} × {height} were expected",
                hint=f"train with --image-size {width}x{height} to resize all to one size"
                if self._training
                else f"resize it first; a model does so itself if it was trained with --image-size {width}x{height}",
            )
        if schema.dtype is None and not self._any_type:
            values = self._as_before(file, values)
        elif schema.dtype is not None and str(values.dtype) != schema.dtype and not self._any_type:
            if {values.dtype.kind, np.dtype(schema.dtype).kind} != {"f"}:
                raise self._of_other_type(_paged(file, page), values)
            values = values.astype(schema.dtype)
        if channels == 1 and values.ndim == 3:
            if picture.has_colour(values):
                self._remark("in colour, but read as grey, as the model needs it", file)
            values = picture.to_grey(values)
        elif channels >= 3 and values.ndim == 2:
            values = _three(values)
        if channels == 4:
            values = _with_alpha(values)
        return picture.fitted(values, (width, height), schema.fit, schema.background or "black")

    def _check_types(
        self, images: Sequence[tuple[Where, str | None, int | None]], read: Sequence[Array | None]
    ) -> None:
        """Raise DataError if images have another type than the first: their black and white differ."""
        for (file, _, _), image in zip(images, read, strict=True):
            if image is None:
                continue
            self._first_of_type = self._first_of_type or (file, image.dtype)
            if image.dtype != self._first_of_type[1]:
                raise DataError(
                    f"{file}: its values are {image.dtype}, and those of {self._first_of_type[0]} "
                    f"{self._first_of_type[1]}",
                    hint=ONE_DEPTH,
                )

    def _of_other_type(self, what: str, values: Array) -> DataError:
        low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
        where = "the others are" if self._training else "the model takes"
        return DataError(
            f"{what}: its values are {values.dtype}, and {where} {self.schema.dtype}",
            hint=ONE_DEPTH
            if self._training
            else f"say which values are black and white: --input-range {units.guess(low, high, values.dtype)}",
        )

    def _as_before(self, file: Where, values: Array) -> Array:
        """Return values for a model whose checkpoint stores no type: 16-bit values are scaled to its white."""
        white = self.schema.full_scale or 255.0
        if values.dtype == np.uint8 and white == 255:
            return values
        if white not in (255, 65_535):
            self._remark(f"read with white = {white:g}, as in the model", file)
        scaled = np.clip(values, 0, 65_535) * (white / (255 if values.dtype == np.uint8 else 65_535))
        kind = np.uint8 if white == 255 else np.uint16 if white == 65_535 else np.float32
        return np.rint(scaled).astype(kind)

    def _without_alpha(self, file: Where, values: Array, background: str | None) -> Array:
        """Return an image without its alpha channel, composited onto the background."""
        if values.ndim == 2 or values.shape[2] == 3:
            return values
        if background is None:  # an old model: it read the colour of all pixels, also of invisible ones
            return values[..., :3]
        self.laid_on = background
        self._remark(f"transparent, so composited onto {background}", file)
        return picture.composited(values, background)

    def _remark(self, what: str, file: Where) -> None:
        self._remarked.setdefault(what, set()).add(file)

    def notes(self) -> list[str]:
        """Return sentences on what a user may not expect."""
        notes = super().notes()
        if broken := [*self._damaged, *self._left_out]:
            notes.append(f"left out: {_listed(broken)}")
        if self._no_files:
            notes.append(f"left out what is not a file: {_listed(self._no_files)}")
        if self._others:
            what = "without the ending of an image"
            notes.append(f"left out {_counted(self._others, f'file {what}', f'files {what}')}")
        if self._aside:
            pages = "1 page" if self._aside == 1 else f"{self._aside:,} pages"
            notes.append(f"left out {pages} that belong to others, such as thumbnails: {self._first_aside}")
        for what, files in self._remarked.items():
            more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
            notes.append(f"{min(files)}{more}: {what}")
        return notes


@functools.cache
def endings() -> frozenset[str]:
    """Return the endings of the files that Pillow reads, in lower case."""
    return frozenset(ending for ending, form in Image.registered_extensions().items() if form in Image.OPEN)


@dataclass
class Found:
    """What the paths name: the image `files`, and the name of each one's folder, None for an image in no subfolder.

    `without` are the folders without images. `others` are the files that are not images, except hidden ones and those
    that usually lie beside images. `no_files` are pipes, dangling links and the like with the name of an image.
    """

    files: list[Where] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    others: list[Where] = field(default_factory=list)
    no_files: list[str] = field(default_factory=list)


def _files_of(paths: Sequence[Where], name: str) -> Found:
    """Return what the paths name; a folder's files are sorted. If there are several folders, each is a class."""
    found, classes = Found(), sum(path.is_dir() for path in paths) > 1
    for path in paths:
        if not path.is_dir():
            found.files.append(path)
            found.labels.append(None)
            continue
        before = len(found.files)
        if isinstance(path, Place):
            _look_at(path, found)
        else:
            _look_in(path, frozenset(), found)
        inside = sorted(found.files[before:])
        found.files[before:] = inside
        found.labels += [
            None if file.parent == path and not classes else _text(Path(file.parent.name)) for file in inside
        ]
    found.others.sort()
    if not found.files:
        raise _of_no_images(name, paths[0], found)
    for file in found.files:
        if (form := IMAGE_ENDINGS.get(file.suffix.lower())) is not None:
            raise refused_images(file, form)
    return found


def _look_in(where: Path, above: frozenset[Path], found: Found) -> None:
    """Add the images in a folder and its subfolders to `found`. A link to a parent folder is not followed.

    Hidden files and folders are left out.
    """
    real, before, named = where.resolve(), len(found.files), len(found.without)
    if real in above:
        found.without.append(f"{_text(where)} (a link to a parent folder)")
        return
    known = endings() | IMAGE_ENDINGS.keys()
    for entry in os.scandir(where):
        path, ending = where / entry.name, Path(entry.name).suffix.lower()
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            _look_in(path, above | {real}, found)
        elif ending not in known:
            if ending not in COMPANIONS and entry.name.lower() not in OF_SYSTEMS:
                found.others.append(path)
        elif entry.is_file():
            found.files.append(path)
        else:
            found.no_files.append(f"{_text(path)} ({'a dangling link' if not path.exists() else 'a pipe or a device'})")
    if len(found.files) == before and above:
        found.without[named:] = [_text(where)]


def _look_at(folder: Place, found: Found) -> None:
    """Add the images in a remote folder and its subfolders to `found`. Hidden files are left out."""
    known = endings() | IMAGE_ENDINGS.keys()
    for file in folder.files():
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            (found.files if file.suffix.lower() in known else found.others).append(file)


def _of_no_images(name: str, folder: Where, found: Found) -> DataError:
    """Return the error for folders without images, with a hint at what may be meant."""
    arrays = [path for path in found.others if path.suffix.lower() == ".npy"]
    if arrays and len({len(path.parts) for path in arrays}) == 1:
        depth = len(arrays[0].parts) - len(folder.parts)
        return DataError(
            f"{name}: a folder without images: it holds {_counted(arrays, 'array', 'arrays')}",
            hint=f"name them: {shlex.quote(str(folder)) + '/*' * depth}.npy",
        )
    if not found.others and not found.no_files and not _holds_any(folder):
        return DataError(
            f"{name}: a folder without images: it is empty",
            hint="a folder may hold images, .npy files or Parquet files",
        )
    return DataError(
        f"{name}: a folder without images: none of its files has an ending that Pillow knows",
        hint=f"if it holds tables, name the files, such as {folder}/*.csv",
    )


def _listed(names: Sequence[str]) -> str:
    """Return names in sorted order; if there are many, only the first few."""
    more = f", and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


def _counted(files: Sequence[Where], one: str, many: str) -> str:
    """Return the number of some files, and the name of the first."""
    if len(files) == 1:
        return f"1 {one}, {_text(files[0])}"
    return f"{len(files):,} {many}, such as {_text(files[0])}"


def _paged(file: Where, page: int | None) -> str:
    """Return the name of a file, or of a page of it."""
    return str(file) if page is None else f"{file}: page {page + 1}"


def _holds_any(folder: Where) -> bool:
    inside = folder.files() if isinstance(folder, Place) else folder.iterdir()
    return any(not each.name.startswith(".") for each in inside)


def _named(files: Sequence[Where]) -> str:
    """Return the name of the first file, and the number of the others."""
    others = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    return f"{_text(files[0])}{others} {'lie' if others else 'lies'}"


def _text(path: Where) -> str:
    """Return a path as text; bytes that are not UTF-8 are written in hexadecimal."""
    return str(path) if isinstance(path, Place) else os.fsencode(path).decode(errors="backslashreplace")


def _three(values: Array) -> Array:
    return np.repeat(values[..., None], 3, axis=2)


def _with_alpha(values: Array) -> Array:
    """Return an image with an alpha channel; invisible pixels become black."""
    if values.shape[2] == 4:
        return np.where(values[..., 3:] == 0, values.dtype.type(0), values)
    white = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1
    return np.concatenate([values, np.full_like(values[..., :1], white)], axis=2)


def _why(file: Where, error: BaseException) -> str:
    """Return what is wrong with a file, if Pillow's error says it in words; else ""."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        count = re.search(r"\d[\d,]*", str(error))
        return f"{int(count[0].replace(',', '')):,} pixels" if count else ""
    if isinstance(error, UnidentifiedImageError):
        return "it is empty" if isinstance(file, Path) and file.is_file() and not file.stat().st_size else ""
    if isinstance(error, OSError | SyntaxError) and not str(error).startswith("decoder error"):
        said = (isinstance(error, OSError) and error.strerror) or str(error)
        return "" if "<" in said else said  # the repr of a Python object
    return ""


def _broken(file: Where, page: int | None, error: BaseException, *, forced: bool | None) -> DataError:
    """Return the error for a file that cannot be read; `forced` is None if no option can ask for large ones."""
    why = f" ({said})" if (said := _why(file, error)) else ""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(
            f"{_paged(file, page)}: an image with so many pixels that it may be a decompression bomb{why}",
            hint="make it smaller first; or --skip-broken skips it"
            if forced is None
            else "--force reads it; or --skip-broken skips it",
        )
    return DataError(f"{_paged(file, page)}: not an image, or a broken one{why}", hint="--skip-broken skips it")
