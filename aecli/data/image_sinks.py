"""Where rebuilt images go: to one file, or to a folder of them."""

import contextlib
import io
import shlex
import shutil
import tempfile
from collections import Counter
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
    folder: Path, roots: Sequence[Path] = (), names: "Mapping[tuple[str, int], Path]" = MappingProxyType({})
) -> Iterator["ImageFolder"]:
    """Open a sink that writes images into a folder, which appears under its name only when it is whole.

    `roots` are what was read, and `names` those of the images: see `names_for`.
    Raises DataError where the folder already holds something, or holds or lies in what is read.
    """
    target = folder.resolve()
    if not target.parent.is_dir():
        raise DataError(
            f"{folder}: there is no folder {folder.parent}", hint=shlex.join(["mkdir", "-p", str(folder.parent)])
        )
    for root in roots:
        if root.is_dir() and (target == root.resolve() or root.resolve() in target.parents):
            raise DataError(f"{folder} lies in {root}, which is read", hint="name a folder elsewhere")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already holds files, and images go to a new folder or an empty one")
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield ImageFolder(scratch, names)
        scratch.chmod(0o777 & ~files.umask())
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class ImageFolder:
    """Image files, each under the name that the `names` have for its path and page, counted from 1; else numbered."""

    def __init__(self, folder: Path, names: "Mapping[tuple[str, int], Path]" = MappingProxyType({})) -> None:
        self._folder, self._names, self._count = folder, names, 0

    def write(self, images: Array, schema: Schema, kept: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write images (N, H, W) or (N, H, W, C) in the type that the model was trained on.

        Their paths and pages are the columns `path` and `page` of `kept`, where it has them.
        """
        for i, image in enumerate(images):
            page = int(kept["page"][i]) if "page" in kept else 1
            name = self._names.get((str(kept["path"][i]), page)) if "path" in kept else None
            path = self._folder / (name or with_ending(Path(f"{self._count:06}.png"), schema))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                write_image(stream, image, schema, path.suffix.lower())
            self._count += 1


def names_for(
    paths: Sequence[str], pages: Sequence[int | None], roots: Sequence[Path], schema: Schema
) -> dict[tuple[str, int], Path]:
    """Return the names of rebuilt images by their paths and pages, counted from 1, relative to one of the `roots`.

    `pages` count from 0, and are None for a file that is one image. A name is that of the original, or has an ending
    that can hold the image; it is never that of another original.
    Raises DataError where two images would have one name, or a path leads out of the folder.
    """
    of_file: dict[str, list[int | None]] = {}
    for path, page in zip(paths, pages, strict=True):
        of_file.setdefault(path, []).append(page)
    relative = {path: _relative(Path(path), roots) for path in of_file}
    originals = Counter(relative.values())
    taken: dict[Path, str] = {}
    found: dict[tuple[str, int], Path] = {}
    # Those that keep their names come first: no other may take one.
    plans = {path: _plans(relative[path], of_file[path], schema) for path in of_file}
    for path in sorted(of_file, key=lambda path: plans[path][0] != [relative[path]]):
        own = relative[path]
        for names in plans[path]:
            free = not any(name in taken or (name != own and name in originals) for name in names)
            if free and len(set(names)) == len(names):
                break
        else:
            raise DataError(
                f"{path}: another image would be written to {plans[path][-1][0]}, too", hint="rebuild them one by one"
            )
        taken |= dict.fromkeys(names, path)
        found |= {(path, (page or 0) + 1): name for page, name in zip(of_file[path], names, strict=True)}
    return found


def _plans(own: Path, pages: Sequence[int | None], schema: Schema) -> list[list[Path]]:
    """Return the names that a file's images may have, best first: all of them in one way, and in one format."""
    numbers = ["" if page is None else f"-{page + 1:04}" for page in pages]
    kept = own.suffix if own.suffix.lower() in (".png", ".tif", ".tiff") else ".png"
    return [
        [with_ending(own.with_name(f"{start}{number}{kept}"), schema) for number in numbers]
        for start in (own.stem, own.name)
    ]


def _relative(path: Path, roots: Sequence[Path]) -> Path:
    root = next((root for root in roots if root in path.parents), path.parent)
    if len(roots) > 1 and root in roots and root.name not in ("", ".."):
        root = root.parent  # two folders may have files of one name
    relative = path.relative_to(root)
    if ".." in relative.parts:
        raise DataError(f"{path}: a path with .. in it, which could be written outside of the folder")
    return relative


def with_ending(path: Path, schema: Schema) -> Path:
    """Return a path with an ending of a format that can hold a rebuilt image."""
    ending = image_ending(path, schema)
    return path if ending == path.suffix.lower() else path.with_suffix(ending)


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
