"""Writers of rebuilt images: to one file, or to a folder of files."""

import contextlib
import io
import os
import shlex
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from aecli import files
from aecli.config import Schema
from aecli.data.places import Place, Where
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
WITHOUT_PATHS = "leave that column out"


@contextlib.contextmanager
def to_images(
    folder: Where,
    inputs: Sequence[Where] = (),
    roots: Sequence[Where] | None = None,
    originals: Sequence[str] = (),
) -> Iterator["ImageFolder"]:
    """Open a sink that writes images into a folder. They appear there only when all are written.

    `inputs` are the paths that were read. The names of images are relative to the `roots`, by default the inputs; no
    image gets the name of another one of the `originals`.
    Raises DataError if the folder is not empty, or contains or lies in what is read.
    """
    paths = [Path(str(root)) for root in (inputs if roots is None else roots)]
    if isinstance(folder, Place):
        with _sent(folder) as scratch:
            sink = ImageFolder(scratch, paths, originals)
            yield sink
            sink.settle()
        return
    target = folder.resolve()
    if not target.parent.is_dir():
        raise DataError(
            f"{folder}: there is no folder {folder.parent}", hint=shlex.join(["mkdir", "-p", str(folder.parent)])
        )
    for root in inputs:
        if isinstance(root, Path) and root.is_dir() and (target == root.resolve() or root.resolve() in target.parents):
            raise DataError(f"{folder} is in {root}, which is read", hint="name a folder elsewhere")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already holds files, and images go to a new folder or an empty one")
    is_new = not target.is_dir()
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent if is_new else target))
    try:
        sink = ImageFolder(scratch, paths, originals)
        yield sink
        sink.settle()
        if is_new:
            scratch.chmod(0o777 & ~files.umask())
            scratch.replace(target)
        else:  # it may be a shell's current folder, or the target of a link
            for made in scratch.iterdir():
                made.replace(target / made.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _sent(folder: Place) -> Iterator[Path]:
    """Yield a local folder. At the end, its files are sent to a remote folder.

    Raises DataError if the remote folder is not empty.
    """
    folder.check_writable(folder=True)
    if folder.exists():
        raise DataError(f"{folder}: already holds files, and images go to a new folder or an empty one")
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)
        for file in sorted(Path(scratch).rglob("*")):
            if file.is_file():
                with file.open("rb") as opened, files.replacing(folder / file.relative_to(scratch).as_posix()) as sent:
                    shutil.copyfileobj(opened, sent)


class ImageFolder:
    """Image files, each with the name of its original relative to one of the `roots`, or else numbered.

    The names are chosen at the end, because all the paths together decide which names are free.
    """

    def __init__(self, folder: Path, roots: Sequence[Path] = (), originals: Sequence[str] = ()) -> None:
        self._folder, self._roots, self._originals = folder, roots, originals
        self._numbered = folder / ".numbered"
        self._numbered.mkdir()
        self._written: list[tuple[Path, tuple[str, str] | None]] = []  # files, and their originals' paths and pages

    def write(self, images: Array, schema: Schema, kept: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write images (N, H, W) or (N, H, W, C) in the type that the model was trained on.

        Their paths and pages are the columns `path` and `page` of `kept`, if it has them.
        """
        for i, image in enumerate(images):
            original = self._original(kept, i) if "path" in kept else None
            ending = image_ending(_suited(Path(original[0]) if original else Path("0.png")), schema)
            file = self._numbered / f"{len(self._written):06}{ending}"
            with file.open("wb") as stream:
                write_image(stream, image, schema, ending)
            self._written.append((file, original))

    def _original(self, kept: Mapping[str, Any], row: int) -> tuple[str, str]:
        cell = kept["path"][row]
        if not str(cell) or not getattr(cell, "is_valid", True):
            raise DataError(f"image {len(self._written) + 1:,} has no path in the column 'path'", hint=WITHOUT_PATHS)
        return str(cell), str(kept["page"][row]) if "page" in kept else ""

    def settle(self) -> None:
        """Rename all images. Raises DataError if two would get the same name."""
        endings = {original[0]: file.suffix for file, original in self._written if original}
        pages: dict[str, list[str]] = {}
        for _, original in self._written:
            if original:
                pages.setdefault(original[0], []).append(original[1])
        names = _names(pages, endings, self._originals, self._roots)
        for file, original in self._written:
            place = self._folder / (names[original] if original else file.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
        self._numbered.rmdir()


def _names(
    pages: Mapping[str, Sequence[str]], endings: Mapping[str, str], originals: Sequence[str], roots: Sequence[Path]
) -> dict[tuple[str, str], Path]:
    """Return the names of rebuilt images by their paths and pages, relative to one of the `roots`.

    A name is the original's, with another ending if that format cannot hold the image; it is never the name of another
    original. Pages are texts, counted from 1, or "" if there are none.
    """
    relative = _relative({*pages, *originals}, roots)
    others = {*relative.values()}
    plans = {path: _plans(relative[path], pages[path], endings[path]) for path in pages}
    taken: set[Path] = set()
    found: dict[tuple[str, str], Path] = {}
    # Those that keep their names come first, so that no other image takes one.
    for path in sorted(pages, key=lambda path: plans[path][0] != [relative[path]]):
        own = relative[path]
        for names in plans[path]:
            free = not any(name in taken or (name != own and name in others) for name in names)
            if free and len(set(names)) == len(names):
                break
        else:
            raise DataError(
                f"{path}: another image would also be written to {plans[path][-1][0]}",
                hint="give each image once; codes without a column 'path' become numbered images",
            )
        taken.update(names)
        found |= {(path, page): name for page, name in zip(pages[path], names, strict=True)}
    return found


def _plans(own: Path, pages: Sequence[str], ending: str) -> list[list[Path]]:
    """Return the possible names for a file's images, best first: each item names all of them in the same way."""
    kept = own.suffix if own.suffix.lower() == ending else ending
    alone = [*pages] == ["1"]  # a file that is one image
    numbers = [f"-{page.zfill(4)}" if page and not alone else "" for page in pages]
    return [[own.with_name(f"{start}{number}{kept}") for number in numbers] for start in (own.stem, own.name)]


def _suited(path: Path) -> Path:
    """Return a path with the ending of a lossless format."""
    return path if path.suffix.lower() in (".png", ".tif", ".tiff") else path.with_suffix(".png")


def _relative(paths: Collection[str], roots: Sequence[Path]) -> dict[str, Path]:
    """Return paths relative to one of the roots; paths in no root relative to their common folder.

    No path leads out of its folder.
    """
    found = {path: _within(Path(path), roots) for path in paths}
    loose = {path: Path(os.path.abspath(path)) for path, place in found.items() if place is None}  # noqa: PTH100, no links
    common = os.path.commonpath([path.parent for path in loose.values()]) if loose else ""
    return {path: loose[path].relative_to(common) if place is None else place for path, place in found.items()}


def _within(path: Path, roots: Sequence[Path]) -> Path | None:
    """Return a path relative to the root that contains it; None if no root does."""
    root = next((root for root in roots if root in path.parents), None)
    if root is None or ".." in path.relative_to(root).parts:
        return None
    if len(roots) > 1 and root.name not in ("", ".."):
        root = root.parent  # two folders may have files with the same name
    return path.relative_to(root)


def image_ending(path: Where, schema: Schema) -> str:
    """Return the ending for a rebuilt image: the one of its name if the format fits, else .png or .tif."""
    dtype = np.dtype(schema.dtype or np.uint8)
    ending = path.suffix.lower()
    if dtype in (np.uint8, np.bool_):
        return ".png" if has_alpha(schema) and ending not in (".png", ".tif", ".tiff", ".webp") else ending
    grey = schema.image_shape is not None and len(schema.image_shape) == 2
    return ending if ending in (".tif", ".tiff") or (ending == ".png" and grey and dtype == np.uint16) else ".tif"


def has_alpha(schema: Schema) -> bool:
    """Return whether images have a fourth channel."""
    return schema.image_shape is not None and schema.image_shape[2:] == (4,)


def write_image(file: BinaryIO, image: Array, schema: Schema, ending: str) -> None:
    """Write an image (H, W) or (H, W, C), in raw units, to a file in the type that the model was trained on.

    If the model stores no type, or was trained on booleans, black is 0 and white 255.
    """
    image = image[..., 0] if image.shape[2:] == (1,) else image
    black, white = schema.black, schema.full_scale or 255.0
    dtype = np.dtype(schema.dtype or np.uint8)
    if schema.dtype is None or dtype == np.bool_:
        values = np.rint(np.clip((image - black) / (white - black), 0, 1) * 255).astype(np.uint8)
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(image), limits.min, limits.max).astype(dtype)
    else:
        values = image.astype(np.float32)
    if ending in (".tif", ".tiff"):
        import tifffile

        made = io.BytesIO()  # tifffile asks a file for its name, and a new file has none yet
        tifffile.imwrite(made, values, photometric="rgb" if values.ndim == 3 else "minisblack")
        file.write(made.getvalue())
        return
    from PIL import Image

    form = Image.registered_extensions()[ending]
    Image.fromarray(values).save(file, form)
