"""One image file: its frames as arrays of the values that the file holds, whatever their depth and sign."""

import contextlib
import logging
import shlex
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aecli.errors import DataError

Array = np.ndarray[Any, Any]
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
GREY = ("1", "L", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
EIGHT_BITS = ("LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
# Pillow keeps the high byte of 16-bit channels. Each pair of decodings gives the two bytes; "LA" is four bytes a pixel.
DEEP_PNG = {"RGB;16B": ("RGB", 3), "RGBA;16B": ("RGBA", 4)}
BITS, SAMPLE_FORMAT = 258, 339  # TIFF tags
UNSIGNED, SIGNED = 1, 2  # of SAMPLE_FORMAT
BACKGROUNDS = {"white": 1.0, "black": 0.0}


def is_grey(image: Image.Image) -> bool:
    """Return whether an image's mode has no colour and no transparency."""
    return image.mode in GREY and not (image.mode in ("1", "L") and "transparency" in image.info)


@contextlib.contextmanager
def warnings_settled() -> Iterator[None]:
    """Let no warning of Pillow's be shown, and that of a decompression bomb be an error. Filters are the process's."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)  # what it logs of broken files, it raises as well
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def opened(file: Any) -> Image.Image:
    """Open an image, of which the header alone is read."""
    return Image.open(file)


def frames(file: Path, numbers: Sequence[int], place: Any = None) -> Iterator[Array]:
    """Yield frames of an image file, (H, W), (H, W, 3), or (H, W, 4) where some pixels are transparent.

    `numbers` count from 0, in ascending order. `place` is an open file to read in its stead. They are turned as their
    EXIF orientation says.
    Raises DataError for pixels of an unknown kind, one of BROKEN for a damaged file.
    """
    try:
        image = opened(place or file)
    except UnidentifiedImageError:
        if not _is_tiff(place or file):
            raise
        yield from _by_tifffile(file, place, numbers)
        return
    with image:
        for number in numbers:
            if number or image.tell():
                image.seek(number)
            if image.format == "TIFF" and _needs_tifffile(image):
                yield from _by_tifffile(file, place, [number])
            else:
                yield _values(file, image, place)


def _values(file: Path, image: Image.Image, place: Any) -> Array:
    tile: Any = getattr(image, "tile", ())
    deep = DEEP_PNG.get(str(tile[0].args)) if image.format == "PNG" and len(tile) == 1 else None
    if deep is not None:
        return _deep(file, image, place, *deep)
    image = ImageOps.exif_transpose(image)
    if image.mode in GREY and is_grey(image):
        return _grey(image)
    if image.mode not in EIGHT_BITS and image.mode not in GREY:
        raise _unknown(file, f"of Pillow's mode {image.mode!r}")
    if not image.has_transparency_data and image.mode not in ("LA", "La", "PA", "RGBA", "RGBa"):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    values: Array = np.asarray(image.convert("RGBA"))
    return values if (values[..., 3] < values.dtype.type(255)).any() else values[..., :3]


def _grey(image: Image.Image) -> Array:
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if image.mode == "I" and image.format != "TIFF" and values.size and values.min() >= 0:
        return values.astype(np.uint16) if values.max() <= 65_535 else values  # PGM and PNG hold 16 bits
    if values.dtype.kind in "iu":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return values


def _deep(file: Path, image: Image.Image, place: Any, mode: str, channels: int) -> Array:
    """Decode 16-bit channels twice, once for each byte: they are big-endian, and Pillow gives the one it is asked for.

    Source: libImaging/Unpack.c, "RGB;16B" and "RGB;16L".
    """
    halves = []
    for end in ("16B", "16L"):
        if place is not None:
            place.seek(0)
        half: Any = opened(place or file)
        with half:
            half.tile = [half.tile[0]._replace(args=f"{mode};{end}")]
            half.load()
            halves.append(np.asarray(half))
    high, low = (half.astype(np.uint16) for half in halves)
    values: Array = (high << 8 | low).reshape(image.height, image.width, channels)
    return values if channels == 3 or (values[..., 3] < values.dtype.type(65_535)).any() else values[..., :3]


def _is_tiff(file: Any) -> bool:
    if isinstance(file, Path):
        with file.open("rb") as stream:
            start = stream.read(4)
    else:
        file.seek(0)
        start = file.read(4)
        file.seek(0)
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _needs_tifffile(image: Image.Image) -> bool:
    """Return whether Pillow would change the values of this TIFF: cut them to 8 bits, or wrap them."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits, formats = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    return max(bits) > 8 if len(bits) > 1 else (bits[0], formats[0]) in ((32, UNSIGNED), (8, SIGNED), (16, SIGNED))


def _by_tifffile(file: Path, place: Any, numbers: Sequence[int]) -> Iterator[Array]:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # it tells on stderr what it raises as well
    for number in numbers:
        try:
            with tifffile.TiffFile(place or file) as found:
                page: Any = found.pages[number]
                values, axes = page.asarray(), page.axes
        except Exception as error:
            raise DataError(
                f"{file}: a TIFF that cannot be read ({str(error).partition(chr(10))[0]})",
                hint="write it without compression; or pip install imagecodecs, which reads more of them",
            ) from error
        if axes == "SYX" and values.shape[0] in (3, 4):
            values = np.moveaxis(values, 0, -1)
        plain = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
        if not plain or values.dtype.kind not in "uif":
            raise _unknown(file, f"of shape {values.shape} and type {values.dtype}")
        yield values


def _unknown(file: Path, what: str) -> DataError:
    folder = file.parent
    code = (
        f"import glob, numpy, tifffile; numpy.save({folder.name + '.npy'!r}, numpy.stack([tifffile.imread(f) for f in "
        f"sorted(glob.glob({str(folder / ('*' + file.suffix))!r}))]))"
    )
    return DataError(
        f"{file}: an image {what}, and grey ones (H, W), or colour ones of 3 or 4 channels, are read",
        hint=f"make one array of the files: {shlex.join(['python', '-c', code])}",
    )


def count_frames(file: Path, place: BinaryIO | None = None) -> tuple[int, bool]:
    """Return how many frames a file has, and whether each is an image of its own: the pages of a TIFF, of one size."""
    with opened(place or file) as image:
        count = getattr(image, "n_frames", 1)
        if count == 1 or image.format != "TIFF":
            return count, False
        sizes = set()
        for number in range(count):
            image.seek(number)
            sizes.add(image.size)
        return count, len(sizes) == 1


def composited(values: Array, background: str) -> Array:
    """Lay an image (H, W, 4) on a background, "white" or "black": (H, W, 3), of the same type."""
    white = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1.0
    opaque = values[..., 3:] / np.float64(white)
    laid = values[..., :3] * opaque + BACKGROUNDS[background] * white * (1 - opaque)
    return (np.rint(laid) if values.dtype.kind in "ui" else laid).astype(values.dtype)


def has_colour(values: Array) -> bool:
    """Return whether any pixel of an image (H, W, 3) is in colour."""
    return bool((values[..., 0] != values[..., 1]).any() or (values[..., 0] != values[..., 2]).any())


def to_grey(values: Array) -> Array:
    """Return an image (H, W, 3) as its luma (H, W), of the same type. Source: ITU-R BT.601."""
    if not has_colour(values):
        return np.ascontiguousarray(values[..., 0])
    if values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).convert("L"))
    luma = values.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    grey: Array = (np.rint(luma) if values.dtype.kind in "ui" else luma).astype(values.dtype)
    return grey


def fitted(values: Array, size: tuple[int, int], fit: str, ground: float) -> Array:
    """Bring an image (H, W, ...) to a size (width, height): "crop" and "pad" keep its proportions, "stretch" does not.

    Where "pad" adds pixels, they are `ground`, in [0, 1] of the type's range.
    """
    height, width = values.shape[:2]
    if (width, height) == size:
        return values
    box, inner = (0.0, 0.0, float(width), float(height)), size
    if fit == "crop":
        scale = min(width / size[0], height / size[1])
        wide, tall = size[0] * scale, size[1] * scale
        box = ((width - wide) / 2, (height - tall) / 2, (width + wide) / 2, (height + tall) / 2)
    elif fit == "pad":
        scale = min(size[0] / width, size[1] / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
    resized = _resized(values, inner, box)
    if inner == size:
        return resized
    white = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1.0
    padded = np.full((size[1], size[0], *values.shape[2:]), ground * white, values.dtype)
    top, left = (size[1] - inner[1]) // 2, (size[0] - inner[0]) // 2
    padded[top : top + inner[1], left : left + inner[0]] = resized
    return padded


def _resized(values: Array, size: tuple[int, int], box: tuple[float, float, float, float]) -> Array:
    lanczos = Image.Resampling.LANCZOS
    if values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).resize(size, lanczos, box=box))
    planes = values[..., None] if values.ndim == 2 else values
    made = np.stack(
        [
            np.asarray(Image.fromarray(p.astype(np.float32)).resize(size, lanczos, box=box))
            for p in planes.T.swapaxes(1, 2)
        ],
        axis=-1,
    )
    if values.dtype.kind in "ui":
        limits = np.iinfo(values.dtype)
        made = np.clip(np.rint(made), limits.min, limits.max)
    brought: Array = made.astype(values.dtype)
    return brought.reshape(size[1], size[0], *values.shape[2:])
