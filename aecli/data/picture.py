"""One image file: its frames as arrays of the values in the file, in their own depth and sign."""

import contextlib
import glob
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aecli.data import tiff
from aecli.data.places import Where
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
BROKEN = (
    OSError,
    ValueError,
    TypeError,  # Pillow raises it for a page without a size
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
# Pillow returns one of a 16-bit channel's two bytes, chosen by the raw mode; grey and alpha are four plain bytes.
DEEP_PNG = {"RGB;16B": ("RGB;16B", "RGB;16L"), "RGBA;16B": ("RGBA;16B", "RGBA;16L"), "LA;16B": ("RGBA",)}
BITS, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 258, 262, 274, 339  # TIFF tags
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # values of PHOTOMETRIC
PREMULTIPLIED, PLAIN = 1, 2  # values of a TIFF's extra samples
TIFF_TYPES = {
    (8, 2): np.int8,
    (16, 2): np.int16,
    (32, 1): np.uint32,
}  # (BITS, SAMPLE_FORMAT) that Pillow reads as other types
TURNS: dict[int, Callable[[Array], Array]] = {  # by an EXIF orientation
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1),
    8: np.rot90,
}
BACKGROUNDS = {"white": 1.0, "black": 0.0}


@contextlib.contextmanager
def warnings_settled(most: int | None = Image.MAX_IMAGE_PIXELS) -> Iterator[None]:
    """Hide all warnings of Pillow and tifffile, and turn the warning of a decompression bomb into an error.

    An image with more pixels than `most` may be a bomb. Filters, levels and limits apply to the process, not to a
    thread.
    """
    limit = Image.MAX_IMAGE_PIXELS
    loggers = [logging.getLogger(name) for name in ("PIL", "tifffile")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)  # what they log about broken files, they also raise
    Image.MAX_IMAGE_PIXELS = most
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def is_grey(image: Image.Image) -> bool:
    """Return whether an image's header says that no pixel is in colour or transparent."""
    return image.mode in GREY and "transparency" not in image.info


def frames(
    file: Where,
    numbers: Sequence[int],
    place: Any = None,
    *,
    on_more: Callable[[], None] = lambda: None,
    alone: bool = False,
) -> Iterator[Array]:
    """Yield frames of an image file: (H, W), (H, W, 3), or (H, W, 4) if some pixels are transparent.

    `numbers` are the frames to read, counted from 0, in ascending order. `place` is an open file to read instead.
    Frames are turned as their EXIF orientation says. `on_more` is called if a PNG or a JPEG has more than two frames,
    of which only one is read. `alone` is True if no other file is read.
    Raises DataError for pixels of an unknown kind, one of BROKEN for a damaged file.
    """
    try:
        image = Image.open(place or cast(Path, file))
    except UnidentifiedImageError:
        if tiff.pages(file, place) is None:
            raise
        yield from _by_tifffile(file, place, numbers, alone=alone)
        return
    with image:
        image.filename = ""  # or Pillow maps the file, with a wrong width for turned images
        if image.format in ("PNG", "MPO") and getattr(image, "n_frames", 1) > 2:
            on_more()
        for number in numbers:
            if number:  # the first frame is loaded already, and some formats count from 1
                image.seek(number)
            if image.format == "TIFF" and _is_cut(image):
                yield from _by_tifffile(file, place, [number], alone=alone)
            else:
                yield _values(file, image, place, alone=alone)


def _values(file: Where, image: Image.Image, place: Any, *, alone: bool) -> Array:
    tile: Any = getattr(image, "tile", ())
    deep = DEEP_PNG.get(str(tile[0].args)) if image.format == "PNG" and len(tile) == 1 else None
    if deep is not None:
        return _opaque(_deep(place or file, deep))
    if image.format == "PPM" and image.mode in ("I", "RGB") and (most := _most_of_pnm(tile)) > 255:
        return _deep_pnm(image, most)
    if image.format == "SGI" and any(part.codec_name == "SGI16" or part.args[-1] == 2 for part in tile):
        raise DataError(f"{file}: an SGI image of 16 bits, and only 8 would be read", hint="convert it to PNG or TIFF")
    tags = getattr(image, "tag_v2", None)
    image = ImageOps.exif_transpose(image)  # a copy, without tags
    if image.mode not in EIGHT_BITS and image.mode not in GREY:
        raise _unknown(file, f"of Pillow's mode {image.mode!r}", place, alone=alone)
    if image.mode in GREY and (is_grey(image) or image.mode not in ("1", "L")):
        return _opaque(_with_holes(_grey(image, tags), image.info.get("transparency")))
    if not image.has_transparency_data and image.mode not in ("LA", "La", "PA", "RGBA", "RGBa"):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return _opaque(np.asarray(image.convert("RGBA")))


def _opaque(values: Array) -> Array:
    """Return an image without its alpha channel, if all pixels are opaque."""
    if values.ndim == 2 or values.shape[2] == 3:
        return values
    return values if (values[..., 3] < values.dtype.type(_most(values.dtype))).any() else values[..., :3]


def _most(dtype: np.dtype[Any]) -> float:
    """Return the value of an opaque pixel, which is also white if the type decides that."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def _with_holes(values: Array, transparent: Any) -> Array:
    """Return a 16-bit image, (H, W) or (H, W, 3), with alpha if one of its values means transparent."""
    if transparent is None or values.dtype != np.uint16:
        return values
    colours = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    seen = (colours != np.asarray(transparent, np.uint16)).any(axis=2, keepdims=True)
    return np.concatenate([colours, np.where(seen, np.uint16(65_535), np.uint16(0))], axis=2)


def _grey(image: Image.Image, tags: Any) -> Array:
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if tags is None:
        if image.mode == "I" and values.size and values.min() >= 0 and values.max() <= 65_535:
            return values.astype(np.uint16)  # PGM and PNG hold 16 bits
    else:
        bits, kinds = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
        dtype = TIFF_TYPES.get((bits[0], kinds[0]))
        if dtype is not None:
            same_size = values.itemsize == np.dtype(dtype).itemsize
            values = values.view(dtype) if same_size else values.astype(dtype)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and bits[0] > 8:  # Pillow inverts images of fewer bits itself
            values = _inverted(values)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("=")) if values.dtype.kind in "iu" else values


def _inverted(values: Array) -> Array:
    """Return a negative inverted. Signed numbers and floats stay, because their black is unknown."""
    return np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else values


def _deep(file: Any, raw_modes: Sequence[str]) -> Array:
    """Return a PNG's 16-bit channels, decoded from big-endian bytes: (H, W, 3) or (H, W, 4) uint16.

    Source: libImaging/Unpack.c, "RGB;16B" and "RGB;16L".
    """
    halves = []
    for raw_mode in raw_modes:
        half: Any = Image.open(file)
        with half:
            half.tile = [half.tile[0]._replace(args=raw_mode)]
            half.load()
            halves.append(np.asarray(half).astype(np.uint16))
            turn = TURNS.get(half.getexif().get(ORIENTATION, 1))
            transparent = half.info.get("transparency")
    if len(halves) == 1:
        grey, alpha = halves[0][..., 0] << 8 | halves[0][..., 1], halves[0][..., 2] << 8 | halves[0][..., 3]
        values: Array = np.stack([grey, grey, grey, alpha], axis=-1)
    else:
        values = _with_holes(halves[0] << 8 | halves[1], transparent)
    return values if turn is None else np.ascontiguousarray(turn(values))


def _most_of_pnm(tile: Any) -> int:
    """Return the white of a PNM, by its one tile. For 16 or 8 bits, only the raw mode says it."""
    args = tile[0].args
    return int(args[1]) if isinstance(args, tuple) else 65_535 if args == "I;16B" else 255


def _deep_pnm(image: Any, most: int) -> Array:
    """Return a PNM's 16-bit values unchanged, (H, W) or (H, W, 3) uint16, read as one grey image of all values.

    Pillow stretches grey values to 16 bits, and cuts colour values to 8.
    """
    channels, (width, height) = len(image.getbands()), image.size
    plain = image.tile[0].codec_name == "ppm_plain"
    image._mode, image._size = "I", (width * channels, height)  # noqa: SLF001, set as Pillow's plugin does
    how = {"args": ("I", most)} if plain else {"codec_name": "raw", "args": ("I;16B", 0, 1)}
    image.tile = [image.tile[0]._replace(extents=(0, 0, *image.size), **how)]
    values: Array = np.rint(np.asarray(image) * (most / 65_535)) if plain else np.asarray(image)
    values = values.astype(np.uint16)
    return values if channels == 1 else values.reshape(height, width, channels)


def _is_cut(image: Image.Image) -> bool:
    """Return whether Pillow would cut the values of this TIFF to 8 bits."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(BITS, (1,))
    return len(bits) > 1 and max(bits) > 8


def _by_tifffile(file: Where, place: Any, numbers: Sequence[int], *, alone: bool) -> Iterator[Array]:
    import tifffile

    for number in numbers:
        if place is not None:
            place.seek(0)  # it assumes that the file begins at the current position
        try:
            with tifffile.TiffFile(place or cast(Path, file), name=file.name) as found:
                page: Any = found.pages[number]
                short = _is_short(page, found.filehandle.size)
                pixels = page.imagewidth * page.imagelength
                fine = not short and pixels <= (Image.MAX_IMAGE_PIXELS or pixels)
                values = page.asarray() if fine else None
                orientation = page.tags.valueof(ORIENTATION, default=1)
                photometric, extra = int(page.photometric), tuple(map(int, page.extrasamples))
        except Exception as error:
            raise DataError(
                f"{file}: a TIFF that cannot be read ({re.sub('<[^>]*> ?', '', str(error)).partition(chr(10))[0]})",
                hint="write it without compression; or pip install imagecodecs, which reads more compressions",
            ) from error
        if short:
            raise OSError(f"page {number + 1} is cut short")
        if values is None:
            raise Image.DecompressionBombError(f"{pixels:,} pixels")
        if page.axes == "SYX" and values.shape[0] in (3, 4):
            values = np.moveaxis(values, 0, -1)
        grey = values.ndim == 2 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        colour = values.ndim == 3 and photometric in (BLACK_IS_ZERO, RGB) and values.shape[2] == 3
        alpha = extra[0] if extra else None
        clear = values.ndim == 3 and photometric == RGB and values.shape[2] == 4 and alpha in (PREMULTIPLIED, PLAIN)
        if not (grey or colour or clear) or values.dtype.kind not in "uif":
            raise _unknown(file, f"of {values.dtype} {values.shape}, photometric {photometric}", place, alone=alone)
        values = _inverted(values) if photometric == WHITE_IS_ZERO else values
        values = _divided(values) if clear and alpha == PREMULTIPLIED else values
        turn = TURNS.get(orientation)
        yield _opaque(values if turn is None else np.ascontiguousarray(turn(values)))


def _divided(values: Array) -> Array:
    """Return an image (H, W, 4) with its colours divided by alpha again; black if alpha is 0."""
    alpha, white = values[..., 3:].astype(np.float64), _most(values.dtype)
    colours = np.divide(values[..., :3] * white, alpha, out=np.zeros(values[..., :3].shape), where=alpha > 0)
    if values.dtype.kind in "ui":
        colours = np.rint(np.minimum(colours, white))
    return np.concatenate([colours.astype(values.dtype), values[..., 3:]], axis=2)


def _is_short(page: Any, size: int) -> bool:
    """Return whether a page's pixels are beyond the end of the file: tifffile would read zeros."""
    return any(
        start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=True) if count
    )


def _unknown(file: Where, what: str, place: Any, *, alone: bool) -> DataError:
    files = f"[{str(file)!r}]"
    if not alone:
        files = f"sorted(glob.glob({str(Path(glob.escape(str(file.parent)), '*' + file.suffix))!r}))"
    made = file.stem if alone else file.parent.resolve().name
    return DataError(
        f"{file}: an image {what}, and a grey image (H, W), or a colour image with 3 or 4 channels, was expected",
        hint=None if place else f"convert {'it' if alone else 'the files'} to an array: {tiff.to_array(made, files)}",
    )


def count_frames(file: Where, place: BinaryIO | None = None) -> int:
    """Return the number of frames in a file, such as an animation."""
    with Image.open(place or cast(Path, file)) as image:
        return getattr(image, "n_frames", 1)


def composited(values: Array, background: str) -> Array:
    """Return an image (H, W, 4) composited onto "white" or "black": (H, W, 3), of the same type."""
    white = _most(values.dtype)
    opaque = values[..., 3:] / white
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


def fitted(values: Array, size: tuple[int, int], fit: str, background: str) -> Array:
    """Return an image (H, W, ...) of size (width, height): "crop" and "pad" keep its proportions, "stretch" does not.

    Pixels that "pad" adds are "white" or "black", as `background` says: 255 or 0 for 8 bits, otherwise the lightest or
    darkest value in the image, because no other type says where white is.
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
    low, high = (0, 255) if values.dtype == np.uint8 else (values.min(), values.max())
    padded = np.full((size[1], size[0], *values.shape[2:]), high if background == "white" else low, values.dtype)
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
        made = np.clip(np.rint(made.astype(np.float64)), limits.min, limits.max)  # float32 rounds the limits
    brought: Array = made.astype(values.dtype)
    return brought.reshape(size[1], size[0], *values.shape[2:])
