"""Pixels are read as the files hold them, however these are laid out, and what cannot be is refused."""

import contextlib
import gzip
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import aecli
from aecli.data import picture
from aecli.data.opening import open_source
from aecli.errors import DataError, UsageError
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
    with pytest.raises(DataError, match=r"deep\.sgi: an SGI image of 16 bits, and only 8 would be read"):
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


SHAPES = {
    ((3, 32, 32), "32x32x3"): "(3, 32, 32), and --image-shape 32x32x3 is one of (32, 32, 3)",
    ((32, 32, 3), "3x32x32"): "(32, 32, 3), and --image-shape 3x32x32 is one of (3, 32, 32)",
    ((32, 32, 3), "32x96"): "(32, 32, 3), and --image-shape 32x96 is one of (96, 32)",
    ((48, 24), "48x24"): "(48, 24), and --image-shape 48x24 is one of (24, 48)",
}


@pytest.mark.parametrize(("row", "told"), SHAPES)
def test_a_shape_that_is_told_is_that_of_the_array_where_it_has_one(run, row, told):
    np.save("x.npy", RNG.integers(0, 256, (12, *row), np.uint8))
    done = run("train", "x.npy", "--image-shape", told)
    assert (done.code, done.err) == (
        1,
        f"error: x.npy: a row is of shape {SHAPES[row, told]}\n"
        "hint: leave it out to use the array's own shape; or reshape the array to rows (N, D) first\n",
    )


@pytest.mark.parametrize(
    ("row", "told"),
    [((48, 24), (24, 48)), ((1, 48, 24), (24, 48)), ((48, 24, 1), (24, 48)), ((1, 48, 24), (1, 24, 48))],
)
def test_a_grey_image_may_have_its_one_channel_anywhere(row, told):
    x = RNG.integers(0, 256, (2, *row), np.uint8)
    source = open_source(x, columns=Columns(image_shape=told))
    assert source.schema.image_shape == (48, 24)
    assert np.array_equal(source.read().x, x.reshape(2, -1))


@pytest.mark.parametrize("channels", [3, 4])
def test_channels_that_may_be_first_or_last_have_to_be_told(channels):
    x = RNG.integers(0, 256, (2, channels, 9, channels), np.uint8)
    with pytest.raises(DataError, match="may have their channels first or last"):
        open_source(x)
    last = open_source(x, columns=Columns(image_shape=(9, channels, channels)))
    first = open_source(x, columns=Columns(image_shape=(channels, channels, 9)))
    assert np.array_equal(last.read().x, x.reshape(2, -1))
    assert np.array_equal(first.read().x, np.moveaxis(x, 1, -1).reshape(2, -1))


def test_files_of_bytes_that_may_be_images_or_rows_are_refused_until_it_is_told(run):
    x = RNG.integers(0, 256, (2, 100, 24), np.uint8)
    for i in range(2):
        np.save(f"{i}.npy", x[i])
    done = run("train", "0.npy", "1.npy")
    assert (done.code, done.err) == (
        1,
        "error: 0.npy and 1 more: each may be an image of 24 × 100 pixels, or 100 rows of 24 values\n"
        "hint: --image-shape 24x100 reads one image per file; or join their rows in one file\n",
    )
    told = open_source(["0.npy", "1.npy"], columns=Columns(image_shape=(24, 100)))
    assert np.array_equal(told.read().x, x.reshape(2, -1))
    rows = open_source(["0.npy", "1.npy"], columns=Columns(image_shape=(6, 4)))
    assert np.array_equal(rows.read().x, x.reshape(200, -1))


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_byte_order_of_an_array_is_not_a_type_of_its_own(run, order):
    x = RNG.integers(0, 4096, (12, 8, 6)).astype(np.uint16)
    np.save("x.npy", np.asarray(x.astype(">u2"), order=order))
    assert run("train", "x.npy", "-o", "m.safetensors", "--epochs", "1", "-q").code == 0
    Path("x").mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image).save(f"x/{i:02}.png")
    model = aecli.load("m.safetensors")
    assert model.schema.dtype == "uint16"
    assert np.array_equal(model.embed("x.npy"), model.embed(x))
    assert np.array_equal(model.embed("x"), model.embed(x))


STACKS = {
    "ImageJ": {"imagej": True},
    "tifffile": {},
    "BigTIFF": {"bigtiff": True},
    "in colour": {"imagej": True, "photometric": "rgb"},
}


@pytest.mark.parametrize("kind", STACKS)
def test_images_without_pages_of_their_own_are_refused_with_what_makes_an_array_of_them(run, kind):
    x = RNG.integers(0, 256, (6, 9, 8, 3) if kind == "in colour" else (6, 9, 8), np.uint8)
    tifffile.imwrite("it's.tif", x, truncate=True, **STACKS[kind])
    done = run("train", "it's.tif")
    message, hint = done.err.splitlines()
    assert (done.code, message) == (
        1,
        "error: it's.tif: it has one page, but more images by its description",
    )
    made(hint)
    assert np.array_equal(np.load("it's.npy"), x)
    tifffile.imwrite("whole.tif", x, **STACKS[kind])
    assert np.array_equal(open_source("whole.tif").read().x, x.reshape(6, -1))
    tifffile.imwrite("one.tif", x[0], **STACKS[kind])
    tifffile.imwrite("plain.tif", x[0], description="ImageJ=1.54f\nimages=1", metadata=None)
    for name in ("one.tif", "plain.tif"):
        assert np.array_equal(open_source(name).read().x, x[:1].reshape(1, -1))


def made(hint):
    """Do what a hint says with Python."""
    words = shlex.split(hint[hint.index("python -c") :])
    subprocess.run([sys.executable, *words[1:]], check=True)


def test_an_image_of_unknown_channels_is_refused_with_what_makes_an_array_of_it_alone(run):
    x = RNG.integers(0, 256, (2, 9, 8, 5), np.uint8)
    kind = {"photometric": "minisblack", "planarconfig": "contig"}
    Path("five[1]").mkdir()
    for i in range(2):
        tifffile.imwrite(f"five[1]/{i}.tif", x[i], **kind)
    alone, both = run("train", "five[1]/1.tif"), run("train", "five[1]")
    made(alone.err.splitlines()[1])
    assert np.array_equal(np.load("1.npy"), x[1:])
    made(both.err.splitlines()[1])
    assert np.array_equal(np.load("five[1].npy"), x)
    tifffile.imwrite("pages.tif", x, **kind)
    made(run("train", "pages.tif").err.splitlines()[1])
    assert np.array_equal(np.load("pages.npy"), x)
    assert run("train", "pages.npy", "--epochs", "1", "-q").code == 0


def test_what_was_lost_of_a_stack_is_named_where_too_little_is_left(run):
    tifffile.imwrite("stack.tif", RNG.integers(0, 256, (9, 16, 16), np.uint8))
    Path("stack.tif").write_bytes(Path("stack.tif").read_bytes()[:2000])
    done = run("train", "stack.tif", "--skip-broken", "--epochs", "1")
    assert done.code == 1
    assert done.err.splitlines()[1:] == [
        "left out: stack.tif (its page 2 is beyond its end)",
        "error: stack.tif: 1 row, and at least 2 are needed: one to train on and one to hold out",
        "hint: --holdout 0 trains on all rows",
    ]


def test_black_and_white_are_said_where_the_type_does_not_say_them(run):
    def said(x, *words):
        np.save("x.npy", x)
        done = run("train", "x.npy", "--epochs", "1", "--force", *words)
        assert done.code == 0, done.err
        return [line for line in done.err.splitlines() if "black" in line]

    x = RNG.integers(0, 17, (12, 8, 6))
    x[0, 0, :2] = 0, 16
    way = "; --input-range LOW,HIGH changes this"
    assert said(x.astype(np.uint16)) == [f"black pixels are 0, white pixels 31{way}"]
    assert said(x.astype(np.float32)) == [f"black pixels are 0, white pixels 16{way}"]
    assert said(x.astype(np.int16) - 20) == [f"black pixels are -20, white pixels -4{way}"]
    assert said(x.astype(np.uint16), "--input-range", "0,16") == []
    assert said(x.astype(np.uint16) * 4095) == []
    assert said(x.astype(np.uint8) * 15) == []
    np.savetxt("x.csv", x.reshape(12, -1), "%d", ",")
    done = run("train", "x.csv", "--image-shape", "6x8", "--epochs", "1", "--force")
    assert f"black pixels are 0, white pixels 31{way}\n" in done.err
    Image.fromarray((x[0] * 15).astype(np.uint8)).save("x.png")
    applied = run("embed", "x.safetensors", "x.png", "-o", "z.csv")
    assert applied.err == "wrote z.csv\nx.png: read with white = 31, as in the model\n"


def test_arrays_of_several_units_are_not_one_set_of_images_without_a_word(run):
    x = RNG.uniform(0, 1, (12, 8, 6))
    np.save("from0.npy", x)
    np.save("from-1.npy", 2 * x - 1)
    np.save("same.npy", x * 1.1)
    np.save("bytes.npy", (x * 255).astype(np.uint8))

    def trained(*names):
        return run("train", *(f"{name}.npy" for name in names), "--epochs", "1", "-o", "m.safetensors", "--force")

    note = (
        f"from-1.npy: pixels from {2 * x.min() - 1:g} to {2 * x.max() - 1:g}, and those of from0.npy from "
        f"{x.min():g} to {x.max():g}: are black and white the same in them?\n"
    )
    assert note in trained("from0", "from-1").err
    assert note in trained("from-1", "from0").err
    same = trained("from0", "same")
    assert "the same in them" not in same.err
    assert same.err.startswith("24 images of 6 × 8 pixels = 48 inputs; ")
    mixed = trained("bytes", "from0")
    assert (mixed.code, mixed.err.splitlines()[1:]) == (
        1,
        [
            "error: from0.npy: its values are float64, and those of bytes.npy uint8",
            "hint: convert all to one depth",
        ],
    )
    for name in ("bytes", "from0"):
        np.save(f"one-{name}.npy", np.load(f"{name}.npy")[0, :6])
    with pytest.raises(DataError, match=r"one-from0\.npy: its values are float64, and those of one-bytes\.npy uint8"):
        open_source(["one-bytes.npy", "one-from0.npy"])


def test_a_range_is_two_values_of_which_the_smaller_comes_first():
    x = RNG.uniform(0, 1, (12, 8, 6))
    model = aecli.fit(x, epochs=1, hidden_dims=(8,), latent_dim=2, holdout=0)
    for told in ((1, 1), (1, 0), (1,), (0, 1, 2)):
        written = tuple(map(float, told))
        for call in (model.embed, model.reconstruct, model.errors, lambda x, **told: aecli.fit(x, epochs=1, **told)):
            with pytest.raises(UsageError) as raised:
                call(x, input_range=told)
            assert raised.value.message == f"input_range is {written}, and must be two values, the smaller first"


def test_the_range_that_is_proposed_for_dark_bytes_is_theirs():
    x = RNG.uniform(0, 1, (12, 8, 8))
    model = aecli.fit(x, epochs=1, hidden_dims=(8,), latent_dim=2, holdout=0)
    for most in (16, 255):
        dark = RNG.integers(0, most + 1, (40, 8, 8), np.uint8)
        with pytest.raises(DataError) as raised:
            model.embed(dark)
        assert raised.value.hint == f"say which values are black and white: --input-range 0,{most}"
