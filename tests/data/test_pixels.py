"""Pixels are read as the files hold them, however these are laid out, and what cannot be is refused."""

import contextlib
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from aecli.data import picture
from aecli.data.opening import open_source
from aecli.errors import DataError
from aecli.options import Columns

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (5, 7, 4), np.uint8)
DEEP = RNG.integers(0, 65_536, (5, 7, 4)).astype(np.uint16)
ORIENTATION = 274


def pixels(file, **options):
    """Return the values of an image file, flat, in their type."""
    return open_source(file, columns=Columns(**options)).read().x[0]


LYING = {
    "L": Image.fromarray(BYTES[..., 0]),
    "P": Image.fromarray(BYTES[..., 0]).convert("P"),
    "RGB": Image.fromarray(BYTES[..., :3]),
    "CMYK": Image.fromarray(BYTES, "CMYK"),
    "RGBA": Image.fromarray(BYTES),
    "I;16": Image.fromarray(DEEP[..., 0]),
    "F": Image.fromarray(DEEP[..., 0].astype(np.float32)),
}


@pytest.mark.parametrize("mode", LYING)
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_tiff_that_lies_on_its_side_is_turned_without_compression_as_with_it(mode, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    LYING[mode].save("plain.tif", exif=exif)
    LYING[mode].save("packed.tif", exif=exif, compression="tiff_lzw")
    assert pixels("plain.tif").tolist() == pixels("packed.tif").tolist()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("most", [4095, 65_535])
def test_a_pnm_keeps_its_16_bits(plain, channels, most):
    values = (DEEP[..., :channels].astype(int) * most // 65_535).astype(">u2")
    form = {(False, 1): "P5", (False, 3): "P6", (True, 1): "P2", (True, 3): "P3"}[plain, channels]
    data = " ".join(map(str, values.ravel())).encode() if plain else values.tobytes()
    Path("deep.ppm").write_bytes(f"{form}\n# made by hand\n7 5\n{most}\n".encode() + data)
    read = pixels("deep.ppm")
    assert (read.dtype, read.tolist()) == (np.uint16, values.ravel().tolist())


@pytest.mark.parametrize("packed", [0, 1])
def test_an_sgi_image_of_16_bits_is_refused_and_one_of_8_is_read(packed):
    Image.fromarray(BYTES[..., :3]).save("shallow.sgi")
    assert pixels("shallow.sgi").tolist() == BYTES[..., :3].ravel().tolist()
    header = struct.pack(">hBBHHHH500x", 474, packed, 2, 3, 7, 5, 3)
    Path("deep.sgi").write_bytes(header + np.moveaxis(DEEP[..., :3], -1, 0).astype(">u2").tobytes())
    with pytest.raises(DataError, match=r"deep\.sgi: an SGI image of 16 bits, of which 8 would be read"):
        pixels("deep.sgi")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_colours_that_were_multiplied_by_alpha_are_multiplied_once(dtype):
    white = 65_535 if dtype == np.uint16 else 1
    alpha = np.linspace(0, 1, 35).reshape(5, 7, 1)
    colours = DEEP[..., :3] / 65_535
    stored = np.concatenate([colours * alpha, alpha], axis=2) * white
    stored = (np.rint(stored) if dtype == np.uint16 else stored).astype(dtype)
    tifffile.imwrite("premultiplied.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    laid = (colours * alpha + 1 - alpha) * white
    assert pixels("premultiplied.tif") == pytest.approx(laid.ravel(), abs=1.5 if dtype == np.uint16 else 1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32])
def test_white_stays_white_in_another_size(dtype):
    white = np.iinfo(dtype).max
    assert (picture.fitted(np.full((8, 6), white, dtype), (5, 3), "stretch", "white") == white).all()


@pytest.mark.parametrize("how", ["gzip", "pipe"])
def test_a_16_bit_colour_tiff_is_read_from_what_is_no_plain_file(how):
    tifffile.imwrite("deep.tif", DEEP[..., :3], photometric="rgb")
    data = gzip.compress(Path("deep.tif").read_bytes())
    Path("deep.tif.gz").write_bytes(data)
    with contextlib.ExitStack() as stack:
        stdin = stack.enter_context(Path("deep.tif.gz").open("rb", buffering=0))
        source = open_source("-" if how == "pipe" else "deep.tif.gz", stdin=stdin)
        assert source.read().x[0].tolist() == DEEP[..., :3].ravel().tolist()


def test_a_photoshop_file_of_one_layer_is_read():
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 5, 7, 8, 3) + bytes(12)
    Path("flat.psd").write_bytes(header + struct.pack(">H", 0) + np.moveaxis(BYTES[..., :3], -1, 0).tobytes())
    assert pixels("flat.psd").tolist() == BYTES[..., :3].ravel().tolist()
