"""Where rebuilt images go: to one file, or to a folder of them."""

import contextlib
import io
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from aecli import files
from aecli.config import Schema
from aecli.errors import DataError

Array = np.ndarray[Any, Any]


@contextlib.contextmanager
def to_images(
    folder: Path, inputs: Sequence[Path] = (), roots: Sequence[Path] | None = None
) -> Iterator["ImageFolder"]:
    """Open a sink that writes images into a folder, which appears under its name only when it is whole.

    `inputs` are what was read. The names of images are relative to the `roots`, by default to the inputs.
    Raises DataError where the folder already holds something, or holds or lies in what is read.
    """
    target = folder.resolve()
    if not target.parent.is_dir():
        raise DataError(
            f"{folder}: there is no folder {folder.parent}", hint=shlex.join(["mkdir", "-p", str(folder.parent)])
        )
    for root in inputs:
        if root.is_dir() and (target == root.resolve() or root.resolve() in target.parents):
            raise DataError(f"{folder} lies in {root}, which is read", hint="name a folder elsewhere")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already holds files, and images go to a new folder or an empty one")
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield ImageFolder(scratch, inputs if roots is None else roots)
        scratch.chmod(0o777 & ~files.umask())
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class ImageFolder:
    """Image files, each under the path that it was read from, relative to one of the `roots`; else numbered."""

    def __init__(self, folder: Path, roots: Sequence[Path] = ()) -> None:
        self._folder, self._roots, self._count = folder, roots, 0

    def write(self, images: Array, schema: Schema, kept: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write images (N, H, W) or (N, H, W, C) in the type that the model was trained on.

        Their names are those of the columns `path` and `page` of `kept`, where it has them.
        """
        for i, image in enumerate(images):
            path = self._folder / self._name(kept, i)
            ending = image_ending(path, schema)
            path.parent.mkdir(parents=True, exist_ok=True)
            named = path if ending == path.suffix.lower() else path.with_suffix(ending)
            with named.open("wb") as stream:
                write_image(stream, image, schema, ending)
            self._count += 1

    def _name(self, kept: Mapping[str, Any], row: int) -> Path:
        if "path" not in kept:
            return Path(f"{self._count:06}.png")
        cell = kept["path"][row]
        if not str(cell) or not getattr(cell, "is_valid", True):
            raise DataError(f"image {self._count + 1:,} has no path in the column 'path'", hint="leave that column out")
        path = Path(str(cell))
        root = next((root for root in self._roots if root in path.parents), path.parent)
        if len(self._roots) > 1 and root in self._roots and root.name not in ("", ".."):
            root = root.parent  # two folders may have files of one name
        relative = path.relative_to(root)
        if ".." in relative.parts:
            raise DataError(f"{path}: a path with .. in it, which could be written outside of the folder")
        page = f"-{str(kept['page'][row]).zfill(4)}" if "page" in kept else ""
        named = relative.with_name(f"{relative.stem}{page}{relative.suffix}")
        if named.suffix.lower() not in (".png", ".tif", ".tiff"):
            named = named.with_suffix(".png")
        if self._is_taken(named):
            named = relative.with_name(f"{relative.name}{page}.png")
        if self._is_taken(named):
            raise DataError(f"{path}: another image would be written to {named}, too", hint="rebuild them one by one")
        return named

    def _is_taken(self, name: Path) -> bool:
        return any((self._folder / name).with_suffix(ending).exists() for ending in (name.suffix, ".tif"))


def image_ending(path: Path, schema: Schema) -> str:
    """Return the ending of a file that holds a rebuilt image: that of its name, or .tif where that cannot hold it."""
    dtype = np.dtype(schema.dtype or np.uint8)
    ending = path.suffix.lower()
    if dtype in (np.uint8, np.bool_):
        return ending
    grey = schema.image_shape is not None and len(schema.image_shape) == 2
    return ending if ending in (".tif", ".tiff") or (ending == ".png" and grey and dtype == np.uint16) else ".tif"


def write_image(file: BinaryIO, image: Array, schema: Schema, ending: str) -> None:
    """Write an image (H, W) or (H, W, C), in raw units, to a file in the type that the model was trained on."""
    image = image[..., 0] if image.shape[2:] == (1,) else image
    black, white = schema.black, schema.full_scale or 255.0
    dtype = np.dtype(schema.dtype or np.uint8)
    if dtype in (np.uint8, np.bool_):
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
    image_made = Image.fromarray(values)
    (image_made.convert("RGB") if form == "JPEG" and image_made.mode == "RGBA" else image_made).save(file, form)
