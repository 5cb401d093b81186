"""Images and arrays as people have them: what is learnt is the values that the files hold."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

import aecli
from aecli.data.images import ImageSource
from aecli.data.opening import open_source
from aecli.errors import DataError, UsageError
from aecli.options import Columns, Reading

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 8, 6), np.uint8)
COLOURS = RNG.integers(0, 256, (12, 8, 6, 3), np.uint8)


def folder(images, name="pictures", ending="png", write=None):
    Path(name).mkdir(parents=True)
    for i, image in enumerate(images):
        path = Path(name, f"{i:02}.{ending}")
        write(path, image) if write else Image.fromarray(image).save(path)
    return name


def quick(data, **options):
    return aecli.fit(data, epochs=1, hidden_dims=(8,), latent_dim=2, holdout=0, **options)


def read(data, **options):
    return open_source(data, columns=Columns(**options)).read()


def png16(path, image, after=b""):
    """Write a PNG of 16 bits a channel, with each of PNG's filters in turn, and a chunk `after` its header."""
    height, width, channels = image.shape
    raw = np.ascontiguousarray(image.astype(">u2")).view(np.uint8).reshape(height, -1).astype(int)
    bpp, lines, before = 2 * channels, [], np.zeros(raw.shape[1], int)
    for y, line in enumerate(raw):
        left = np.concatenate([np.zeros(bpp, int), line[:-bpp]])
        corner = np.concatenate([np.zeros(bpp, int), before[:-bpp]])
        guess = left + before - corner
        away = np.stack([abs(guess - left), abs(guess - before), abs(guess - corner)])
        paeth = np.choose(away.argmin(0), [left, before, corner])
        filters = [np.zeros_like(line), left, before, (left + before) // 2, paeth]
        lines.append(bytes([y % 5]) + ((line - filters[y % 5]) % 256).astype(np.uint8).tobytes())
        before = line
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    data = chunk(b"IHDR", header) + after + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


DEPTHS = {
    "float TIFF": ((BYTES / 255).astype(np.float32), "tif", tifffile.imwrite, (0, "max")),
    "signed TIFF": (BYTES.astype(np.int16) - 100, "tif", tifffile.imwrite, ("min", "max")),
    "uint32 TIFF": (BYTES.astype(np.uint32) << 24, "tif", tifffile.imwrite, (0, 2**32 - 1)),
    "int8 TIFF": ((BYTES.astype(int) - 128).astype(np.int8), "tif", tifffile.imwrite, ("min", "max")),
    "16-bit grey PNG": (BYTES.astype(np.uint16) * 16, "png", None, (0, 4095)),
    "16-bit colour PNG": (COLOURS.astype(np.uint16) * 16 + 7, "png", png16, (0, 4095)),
    "16-bit colour TIFF": (
        COLOURS.astype(np.uint16) * 256 + 9,
        "tif",
        lambda path, image: tifffile.imwrite(path, image, photometric="rgb"),
        (0, 65_535),
    ),
    "grey bytes": (BYTES // 2, "png", None, (0, 255)),
    "colour bytes": (COLOURS // 2, "png", None, (0, 255)),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_values_keep_their_depth_and_sign(case):
    images, ending, write, (low, high) = DEPTHS[case]
    data = folder(images, ending=ending, write=write)
    x = read(data).x
    assert x.dtype == images.dtype
    assert np.array_equal(x, images.reshape(12, -1))
    model = quick(data)
    schema = model.schema
    assert (schema.image_shape, schema.dtype) == (images.shape[1:], str(images.dtype))
    assert schema.black == pytest.approx(images.min() if low == "min" else low, abs=0.01)
    assert schema.full_scale == (images.max() if high == "max" else high)
    assert np.allclose(model.scaler.inverse(model.scaler.transform(x)), x, rtol=1e-6, atol=1e-3)
    beyond = x.astype(np.float64) + 2 * (schema.full_scale - schema.black)
    assert model.scaler.transform(beyond).max() > 1.5  # not cut off


DEEP = RNG.integers(0, 65_536, (8, 6, 4)).astype(np.uint16)


def test_transparent_pixels_of_16_bits_are_laid_on_the_background_too():
    Path("deep").mkdir()
    grey, alpha = DEEP[..., 0], np.where(DEEP[..., 3] > 30_000, 65_535, 0).astype(np.uint16)
    colours = np.concatenate([DEEP[..., :3], alpha[..., None]], axis=-1)
    png16("deep/a.png", np.stack([grey, alpha], axis=-1))
    assert np.array_equal(read("deep/a.png").x.reshape(8, 6), np.where(alpha > 0, grey, 65_535))
    png16("deep/b.png", colours)
    expected = np.where(alpha[..., None] > 0, colours[..., :3], 65_535)
    assert np.array_equal(read("deep/b.png").x.reshape(8, 6, 3), expected)
    png16("deep/c.png", colours[..., :1], after=chunk(b"tRNS", struct.pack(">H", grey[0, 0])))
    assert np.array_equal(read("deep/c.png").x.reshape(8, 6), np.where(grey == grey[0, 0], 65_535, grey))
    png16("deep/d.png", colours[..., :3], after=chunk(b"tRNS", struct.pack(">HHH", *colours[0, 0, :3])))
    hidden = (colours[..., :3] == colours[0, 0, :3]).all(axis=-1, keepdims=True)
    assert np.array_equal(read("deep/d.png").x.reshape(8, 6, 3), np.where(hidden, 65_535, colours[..., :3]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_images_are_turned_as_others_are(orientation):
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + b"\0\0\0\0"
    png16("deep.png", DEEP[..., :3] // 256 * 257, after=chunk(b"eXIf", exif))
    with Image.open("deep.png") as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read("deep.png").x.reshape(turned.shape) // 257, turned)


def test_a_negative_is_turned_to_a_positive():
    for dtype in (np.uint8, np.uint16):
        tifffile.imwrite("negative.tif", BYTES[0].astype(dtype), photometric="miniswhite")
        assert np.array_equal(read("negative.tif").x.reshape(8, 6), np.iinfo(dtype).max - BYTES[0].astype(int))


@pytest.mark.parametrize("kind", [{"photometric": "separated"}, {"photometric": "rgb", "extrasamples": [0]}])
def test_a_fourth_channel_that_is_no_alpha_is_refused(kind):
    tifffile.imwrite("four.tif", DEEP, **kind)
    with pytest.raises(DataError, match=r"four.tif: an image of uint16 \(8, 6, 4\), photometric"):
        read("four.tif")


def test_padding_is_as_light_or_dark_as_a_signed_image():
    tifffile.imwrite("scan.tif", BYTES[0].astype(np.int16) - 1000)
    for background, ground in (("white", BYTES[0].max()), ("black", BYTES[0].min())):
        made = read("scan.tif", image_size=(8, 8), fit="pad", background=background).x.reshape(8, 8)
        assert set(made[:, [0, -1]].ravel().tolist()) == {int(ground) - 1000}


def test_rebuilt_images_keep_names_folders_and_depth(run):
    images = BYTES.astype(np.uint16) * 16
    folder(images[:6], "data/cats")
    folder(images[6:], "data/dogs")
    assert run("train", "data", "--epochs", "1", "-q", "-o", "m.safetensors").code == 0
    assert run("reconstruct", "m.safetensors", "data", "-o", "rebuilt/", "-q").code == 0
    made = sorted(str(path.relative_to("rebuilt")) for path in Path("rebuilt").rglob("*.*"))
    assert made == sorted(str(path.relative_to("data")) for path in Path("data").rglob("*.*"))
    with Image.open("rebuilt/cats/00.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).max() > 255
    inside = run("reconstruct", "m.safetensors", "data", "-o", "data/rebuilt/")
    assert (inside.code, inside.err) == (
        1,
        "error: data/rebuilt is in data, which is read\nhint: name a folder elsewhere\n",
    )


def icons():
    """Return icons (12, 8, 6, 4), black shapes on transparent ground; where they are invisible, of random colours."""
    alpha = np.where(BYTES > 128, 255, 0).astype(np.uint8)
    hidden = np.where(alpha[..., None] > 0, 0, COLOURS).astype(np.uint8)
    return np.concatenate([hidden, alpha[..., None]], axis=-1), alpha


def test_invisible_pixels_never_show_their_colour(run):
    images, alpha = icons()
    folder(images)
    on_white = read("pictures")
    assert np.array_equal(on_white.x, 255 - alpha.reshape(12, -1))
    kept = read("pictures", alpha=True).x.reshape(12, 8, 6, 4)
    assert not kept[alpha == 0].any()
    assert np.array_equal(kept[..., 3], alpha)
    done = run("train", "pictures", "--epochs", "1")
    assert done.code == 0
    assert "pictures/00.png and 11 more: transparent, so composited onto white\n" in done.err


def test_a_background_that_makes_images_equal_is_an_error_that_names_the_other(run):
    folder(icons()[0])
    done = run("train", "pictures", "--background", "black", "--epochs", "1")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(
        "error: pictures: on black, 11 of 11 images are the same\n"
        "hint: use another background for transparent pixels: --background white; or learn them: --alpha\n"
    )


def test_icons_of_few_shapes_are_no_error(run):
    folder(np.repeat(icons()[0][:3], 4, axis=0))
    done = run("train", "pictures", "--epochs", "1", "--holdout", "0")
    assert done.code == 0
    assert "pictures: 12 of 12 images are equal to others; 3 are different\n" in done.err


def test_equal_images_are_told(run):
    folder([BYTES[0]] * 9 + [BYTES[1]])
    done = run("train", "pictures", "--epochs", "1", "--holdout", "0")
    assert done.code == 0
    assert "pictures: 9 of 10 images are equal to others; 2 are different\n" in done.err


def test_pages_of_a_tiff_are_rows(run):
    Path("stacks").mkdir()
    tifffile.imwrite("stacks/a.tif", BYTES[:5], photometric="minisblack")
    tifffile.imwrite("stacks/b.tif", BYTES[5:], photometric="minisblack")
    rows = read("stacks")
    assert np.array_equal(rows.x, BYTES.reshape(12, -1))
    assert rows.kept["page"].tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7]
    assert rows.kept["path"].tolist() == ["stacks/a.tif"] * 5 + ["stacks/b.tif"] * 7
    assert run("train", "stacks", "--epochs", "1", "-q").code == 0
    assert run("embed", "stacks.safetensors", "stacks", "-q").out.startswith("path,page,z0,")


def test_the_first_frame_of_an_animation_is_read_and_said(run):
    Path("moving").mkdir()
    for i in range(4):
        first, *others = (Image.fromarray(image) for image in BYTES[3 * i : 3 * i + 3])
        first.save(f"moving/{i}.gif", save_all=True, append_images=others)
    done = run("train", "moving", "--epochs", "1")
    assert done.code == 0
    assert "moving/0.gif and 3 more: the first of several frames is read\n" in done.err
    assert np.array_equal(read("moving").x, BYTES[::3].reshape(4, -1))
    first, *others = (Image.fromarray(image) for image in BYTES[:3])
    first.save("moving.png", save_all=True, append_images=others)
    Image.fromarray(BYTES[3]).save("still.png")
    done = run("train", "still.png", "moving.png", "--holdout", "0", "--epochs", "1", "-o", "m.safetensors")
    assert "moving.png: the first of several frames is read\n" in done.err


def test_folders_without_images_are_named(run):
    folder(BYTES[:6], "classes/cats")
    folder(BYTES[6:], "classes/dogs")
    Path("classes/birds/young").mkdir(parents=True)
    Path("classes/fish").mkdir()
    Path("classes/fish/0.npy").write_bytes(b"")
    Path("classes/dogs/all").symlink_to(Path("classes").resolve())
    done = run("train", "classes", "--epochs", "1")
    assert done.code == 0
    assert (
        "left out folders without images: classes/birds, classes/dogs/all (a link to a parent folder), classes/fish\n"
    ) in done.err
    assert "left out 1 file without the ending of an image, classes/fish/0.npy\n" in done.err


def stack(path, images, **options):
    """Write each image as a page with a directory of its own, after the one before."""
    with tifffile.TiffWriter(path) as writer:
        for image in images:
            writer.write(image, photometric="minisblack", contiguous=False, **options)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_a_stack_that_is_cut_short_is_an_error_and_its_whole_pages_can_be_read(run, big, order):
    Path("stacks").mkdir()
    with tifffile.TiffWriter("whole.tif", bigtiff=big, byteorder=order) as writer:
        for image in BYTES:
            writer.write(image, photometric="minisblack", contiguous=False)
    data = Path("whole.tif").read_bytes()
    assert np.array_equal(read("whole.tif").x, BYTES.reshape(12, -1))
    with tifffile.TiffFile("whole.tif") as found:
        Path("stacks/cut.tif").write_bytes(data[: found.pages[8].offset + 5])
    done = run("train", "stacks", "--epochs", "1")
    assert (done.code, done.err.splitlines()) == (
        1,
        [
            "error: stacks/cut.tif: a damaged TIFF, its page 9 is beyond its end",
            "hint: --skip-broken skips the damaged part",
        ],
    )
    done = run("train", "stacks", "--skip-broken", "--epochs", "1", "-o", "m.safetensors")
    assert done.code == 0
    assert "left out: stacks/cut.tif (its page 9 is beyond its end)\n" in done.err
    done = run("embed", "m.safetensors", "stacks", "--skip-broken")
    assert [line.split(",")[1] for line in done.out.splitlines()[1:]] == [str(i) for i in range(1, 9)]
    assert "left out: stacks/cut.tif" in done.err


def test_pages_that_lead_back_and_stacks_of_none_are_errors():
    stack("loop.tif", BYTES[:3])
    with tifffile.TiffFile("loop.tif") as found:
        first, last = found.pages[0].offset, found.pages[2].offset
    data = bytearray(Path("loop.tif").read_bytes())
    count = int.from_bytes(data[last : last + 2], "little")
    data[last + 2 + 12 * count : last + 6 + 12 * count] = first.to_bytes(4, "little")
    Path("loop.tif").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"loop.tif: a damaged TIFF, page 3 is followed by an earlier one"):
        read("loop.tif")
    Path("none.tif").write_bytes(b"II*\0\0\0\0\0")
    with pytest.raises(DataError, match=r"none.tif: a TIFF, and there are no images in it"):
        read("none.tif")


def test_a_broken_page_is_named_and_those_after_it_are_read():
    stack("stack.tif", BYTES[:4], compression="zlib")
    with tifffile.TiffFile("stack.tif") as found:
        start, size = found.pages[1].dataoffsets[0], found.pages[1].databytecounts[0]
    data = bytearray(Path("stack.tif").read_bytes())
    data[start : start + size] = b"\0" * size
    Path("stack.tif").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"stack.tif: page 2: not an image, or a broken one$"):
        read("stack.tif")
    source = open_source("stack.tif", reading=Reading(skip_broken=True))
    assert np.array_equal(source.read().x, BYTES[[0, 2, 3]].reshape(3, -1))
    assert "left out: stack.tif: page 2 (not an image, or a broken one)" in source.notes()


def test_pages_of_other_sizes_are_an_error_or_brought_to_one_and_thumbnails_are_left_out(run):
    stack("pages.tif", [BYTES[0], BYTES[1], BYTES[2][:4, :3]])
    with pytest.raises(DataError, match=r"pages.tif: page 3: an image of 3 × 4 pixels, and 6 × 8 were expected"):
        read("pages.tif")
    assert len(read("pages.tif", image_size=(6, 8)).x) == 3
    stack("deep.tif", [BYTES[0], BYTES[1].astype(np.uint16)])
    with pytest.raises(DataError, match=r"deep.tif: page 2: its values are uint16, and the others are uint8"):
        read("deep.tif")
    Path("scans").mkdir()
    for i in range(4):
        with tifffile.TiffWriter(f"scans/{i}.tif") as writer:
            writer.write(BYTES[i][:4, :3], photometric="minisblack", subfiletype=1)
            writer.write(BYTES[i], photometric="minisblack")
    done = run("train", "scans", "--epochs", "1")
    assert done.code == 0
    assert "left out 4 pages that belong to others, such as thumbnails: page 1 of scans/0.tif\n" in done.err
    assert np.array_equal(read("scans").x, BYTES[:4].reshape(4, -1))


def test_what_is_no_regular_file_is_left_out_and_named(run):
    folder(BYTES)
    os.mkfifo("pictures/pipe.png")
    os.mkfifo("pictures/pipe")
    Path("pictures/dead.png").symlink_to("nowhere.png")
    Path("elsewhere.png").write_bytes(Path("pictures/00.png").read_bytes())
    Path("pictures/link.png").symlink_to(Path("elsewhere.png").resolve())
    Path("pictures/Thumbs.db").write_bytes(b"x")
    Path("pictures/.hidden.png").write_bytes(b"x")
    Path("pictures/labels.csv").write_text("a\n")
    Path("pictures/notes.pdf").write_bytes(b"x")
    done = run("train", "pictures", "--epochs", "1", "-o", "m.safetensors")
    assert done.code == 0
    assert (
        "left out what is not a file: pictures/dead.png (a dangling link), pictures/pipe.png (a pipe or a device)\n"
        "left out 2 files without the ending of an image, such as pictures/notes.pdf\n"
    ) in done.err
    assert len(read("pictures").x) == 13
    assert "left out what is not a file: pictures/dead.png" in run("embed", "m.safetensors", "pictures").err


def test_images_that_may_be_bombs_are_read_where_force_says_so(run, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    folder(BYTES)
    done = run("train", "pictures", "--epochs", "1")
    assert (done.code, done.err.splitlines()) == (
        1,
        [
            "error: pictures/00.png: an image with so many pixels that it may be a decompression bomb (48 pixels)",
            "hint: --force reads it; or --skip-broken skips it",
        ],
    )
    assert run("train", "pictures", "--epochs", "1", "--force", "-q").code == 0
    assert run("embed", "pictures.safetensors", "pictures", "-q").code == 0  # the model takes images of this size
    folder([BYTES[0].repeat(3, axis=0)], "tall")
    done = run("embed", "pictures.safetensors", "tall")
    assert done.err.endswith(
        "decompression bomb (144 pixels)\nhint: make it smaller first; or --skip-broken skips it\n"
    )
    assert Image.MAX_IMAGE_PIXELS == 40


def test_what_may_be_meant_by_a_folder_without_images_is_said():
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty: a folder without images: it is empty"):
        read("empty")
    for kind in ("a", "b"):
        Path("arrays", kind).mkdir(parents=True)
        np.save(f"arrays/{kind}/x.npy", BYTES[0])
    with pytest.raises(DataError, match="arrays: a folder without images: it holds 2 arrays, such as") as refused:
        read("arrays")
    assert refused.value.hint == "name them: arrays/*/*.npy"


def test_errors_tell_nothing_of_what_reads_the_files():
    Path("empty.png").write_bytes(b"")
    Path("page.png").write_text("<html>")
    with pytest.raises(DataError, match=r"^empty.png: not an image, or a broken one \(it is empty\)$"):
        read("empty.png")
    with pytest.raises(DataError, match=r"^page.png: not an image, or a broken one$"):
        read("page.png")


def test_one_image_in_colour_makes_all_of_them_coloured(run):
    folder([*BYTES[:11], COLOURS[0]])
    done = run("train", "pictures", "--epochs", "1")
    assert done.code == 0
    assert "pictures/11.png: in colour, so all are read in colour\n" in done.err
    x = read("pictures").x.reshape(12, 8, 6, 3)
    assert np.array_equal(x[:11], np.repeat(BYTES[:11, ..., None], 3, axis=-1))
    assert np.array_equal(x[11], COLOURS[0])


def test_grey_pixels_in_colour_files_are_grey():
    folder(np.repeat(BYTES[..., None], 3, axis=-1))
    assert np.array_equal(read("pictures").x, BYTES.reshape(12, -1))


def test_photographs_are_turned_as_their_camera_was_held():
    Path("photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, image in enumerate(BYTES[:3]):
        Image.fromarray(image).save(f"photos/{i}.png", exif=exif)
    assert np.array_equal(read("photos").x, np.rot90(BYTES[:3], -1, axes=(1, 2)).reshape(3, -1))


def test_labels_are_the_last_folder_and_a_stray_file_does_not_take_them():
    for split in ("train", "val"):
        for animal in ("cats", "dogs"):
            folder(BYTES, f"data/{split}/{animal}")
    shutil.copy("data/train/cats/00.png", "data/stray.png")
    source = open_source("data")
    assert source.read().labels.tolist() == ["", *(["cats"] * 12 + ["dogs"] * 12) * 2]
    assert source.remarks == ["data/stray.png lies in no folder and have no label"]


def test_labels_that_stray_files_take_are_said(run):
    for kind in ("cats", "dogs"):
        folder(BYTES[:4], f"lab/{kind}")
    shutil.copy("lab/cats/00.png", "lab/stray.png")
    asked = ("train", "lab", "--epochs", "1")
    said = "no labels: lab/stray.png lies in no class folder: that is at least one image in ten"
    assert said in run(*asked).err.splitlines()
    shutil.copy("lab/cats/01.png", "lab/stray2.png")
    said = "no labels: lab/stray.png and 1 more lie in no class folder: that is at least one image in ten"
    assert said in run(*asked).err.splitlines()
    folder(BYTES, "flat")
    assert "labels" not in run("train", "flat", "--epochs", "1").err


def test_several_folders_are_classes_themselves(run):
    folder(BYTES, "lab/cats")
    folder(BYTES, "lab/dogs")
    done = run("train", "lab/cats", "lab/dogs", "--epochs", "1", "-o", "m.safetensors")
    assert "labels: the folders' names: cats, dogs (2)" in done.err.splitlines()
    source = open_source(["lab/cats", "lab/dogs"])
    assert source.read().labels.tolist() == open_source("lab").read().labels.tolist() == ["cats"] * 12 + ["dogs"] * 12
    assert open_source("lab/cats").schema.label is None


def test_a_link_to_a_folder_is_followed_and_a_loop_is_not():
    folder(BYTES, "elsewhere")
    Path("data").mkdir()
    Path("data/cats").symlink_to(Path("elsewhere").resolve())
    Path("elsewhere/loop").symlink_to(Path("data").resolve())
    assert len(read("data").x) == 12
    Path("data/dogs").symlink_to(Path("elsewhere").resolve())
    assert read("data").labels.tolist() == ["cats"] * 12 + ["dogs"] * 12


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_circles_stay_circles(fit):
    wide = np.full((40, 80), 255, np.uint8)
    y, x = np.mgrid[:40, :80]
    wide[(y - 20) ** 2 + (x - 40) ** 2 < 15**2] = 0
    folder([wide])
    made = read("pictures", image_size=(40, 40), fit=fit).x.reshape(40, 40) < 128
    tall, across = (int(made.any(axis=axis).sum()) for axis in (1, 0))
    assert tall == pytest.approx({"crop": 29, "pad": 15, "stretch": 29}[fit], abs=1)
    assert (abs(tall - across) <= 1) == (fit != "stretch")


def test_broken_files_are_named_where_they_are_left_out(run):
    folder(BYTES)
    Path("pictures/03.png").write_bytes(Path("pictures/03.png").read_bytes()[:50])
    assert run("train", "pictures", "--epochs", "1").code == 1
    done = run("train", "pictures", "--skip-broken", "--epochs", "1")
    assert done.code == 0
    assert "left out: pictures/03.png (" in done.err


def test_what_is_fine_and_not_read_is_not_called_broken(run):
    Path("science").mkdir()
    tifffile.imwrite(
        "science/five.tif", np.zeros((5, 8, 6), np.uint8), photometric="minisblack", planarconfig="separate"
    )
    done = run("train", "science", "--epochs", "1")
    assert done.code == 1
    assert "five.tif: an image of uint8 (5, 8, 6), photometric 1" in done.err
    assert "broken" not in done.err
    Path("scans").mkdir()
    Path("scans/a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    assert "scans/a.dcm: a DICOM image, which is not read\n" in run("train", "scans").err
    Path("sky.fits").write_bytes(b"SIMPLE  =                    T".ljust(2880))
    assert "sky.fits: a FITS image, which is not read\n" in run("train", "sky.fits").err


def test_a_name_that_is_no_utf8_can_be_embedded(run):
    folder(BYTES)
    Path("pictures/00.png").rename(b"pictures/\xff\t.png".decode(errors="surrogateescape"))
    assert run("train", "pictures", "--epochs", "1", "-q").code == 0
    done = run("embed", "pictures.safetensors", "pictures", "-q")
    assert done.code == 0
    assert "pictures/\\xff\t.png" in done.out


def test_what_can_be_kept_of_images_is_told(run):
    quick(BYTES).save("m.safetensors")
    folder(BYTES)
    done = run("embed", "m.safetensors", "pictures", "--keep", "path", "--keep", "temp")
    assert (done.code, done.err) == (
        1,
        "error: pictures: --keep 'temp' names no column\n"
        "hint: images have 'path', and pages of a TIFF also 'page'; both are always kept, and so is a label\n",
    )


def test_a_class_whose_name_is_no_utf8_can_be_embedded(run):
    for name in (b"lab/\xff", b"lab/dogs"):
        folder(BYTES, os.fsdecode(name))
    assert "labels: the folders' names: \\xff, dogs (2)" in run("train", "lab", "--epochs", "1").err.splitlines()
    done = run("embed", "lab.safetensors", "lab", "-q")
    rows = [line.split(",")[:2] for line in done.out.splitlines()]
    assert sorted([rows[1], rows[13]]) == [["lab/\\xff/00.png", "\\xff"], ["lab/dogs/00.png", "dogs"]]


def test_an_image_of_the_data_is_not_written_over(run):
    folder(BYTES)
    assert run("train", "pictures", "--epochs", "1", "-q").code == 0
    before = Path("pictures/03.png").read_bytes()
    said = "error: {} is an input of this command, and would be overwritten\nhint: name another --output\n"
    Path("link.png").symlink_to("pictures/03.png")
    for command, output in (("plot", "pictures/03.png"), ("reconstruct", "pictures/03.png"), ("plot", "link.png")):
        assert run(command, "pictures.safetensors", "pictures", "-o", output).err == said.format(output)
    assert Path("pictures/03.png").read_bytes() == before
    for ending in ("csv", "csv", "npy", "npy"):  # what is not read may be written, and again
        assert run("embed", "pictures.safetensors", "pictures", "-o", f"pictures/codes.{ending}", "-q").code == 0
    Path("arrays").mkdir()
    np.save("arrays/x.npy", BYTES)
    done = run("embed", "pictures.safetensors", "arrays", "-o", "arrays/x.npy")
    assert done.err == said.format("arrays/x.npy")
    assert run("plot", "pictures.safetensors", "pictures", "-o", "pictures/p.svg", "-q").code == 0


def test_images_go_to_the_very_folder_that_is_there(run, process):
    folder(BYTES)
    assert run("train", "pictures", "--epochs", "1", "-q").code == 0
    Path("here").mkdir()
    Path("link").symlink_to("here")
    before = Path("here").stat().st_ino
    done = process("reconstruct", "../pictures.safetensors", "../pictures", "-o", "./", cwd="here")
    assert (done.code, done.err, Path("here").stat().st_ino) == (0, "wrote .\n", before)
    assert sorted(path.name for path in Path("here").iterdir()) == [f"{i:02}.png" for i in range(12)]
    shutil.rmtree("here")
    Path("here").mkdir()
    assert run("reconstruct", "pictures.safetensors", "pictures", "-o", "link/", "-q").code == 0
    assert (Path("link").is_symlink(), len([*Path("here").iterdir()])) == (True, 12)


def test_channels_may_come_first():
    last = quick(COLOURS)
    first = quick(np.ascontiguousarray(np.moveaxis(COLOURS, -1, 1)))
    assert first.schema == dataclasses.replace(last.schema, channels_first=True)
    turned = np.moveaxis(COLOURS, -1, 1)
    assert np.array_equal(last.embed(turned), last.embed(COLOURS))
    assert np.array_equal(last.reconstruct(turned), np.moveaxis(last.reconstruct(COLOURS), -1, 1))
    np.save("first.npy", turned)
    assert np.array_equal(last.embed("first.npy"), last.embed(COLOURS))
    grey = quick(BYTES[:, None])
    assert grey.schema.image_shape == (8, 6)
    assert np.array_equal(grey.embed(BYTES[:, None]), grey.embed(BYTES))


def test_flat_rows_have_their_channels_where_the_training_rows_had_them(run):
    last, first = COLOURS, np.ascontiguousarray(np.moveaxis(COLOURS, -1, 1))
    flat = first.reshape(12, -1)
    np.save("flat.npy", flat)
    np.save("first.npy", first)
    np.save("last.npy", last)
    assert run("train", "flat.npy", "--image-shape", "3x6x8", "--epochs", "1", "-q").code == 0
    model = aecli.load("flat.safetensors")
    assert model.schema.channels_first
    assert quick(last).schema == dataclasses.replace(model.schema, channels_first=False)
    codes, recon = model.embed(last), model.reconstruct(last)
    for rows in (first, flat, "first.npy", "flat.npy"):
        assert np.array_equal(model.embed(rows), codes)
    assert np.array_equal(model.reconstruct(first), np.moveaxis(recon, -1, 1))
    assert np.array_equal(model.reconstruct(flat), np.moveaxis(recon, -1, 1).reshape(12, -1))
    assert np.array_equal(quick(first).embed(flat), quick(first).embed(last))
    for name, given in (("flat", flat), ("first", first), ("last", last)):
        assert run("reconstruct", "flat.safetensors", f"{name}.npy", "-o", f"{name}-again.npy", "-q").code == 0
        assert np.array_equal(np.load(f"{name}-again.npy"), model.reconstruct(given))
    table = run("reconstruct", "flat.safetensors", "flat.npy", "-q").out
    assert np.allclose(np.loadtxt(table.splitlines()[1:], delimiter=","), model.reconstruct(flat), rtol=1e-4)
    assert run("reconstruct", "flat.safetensors", "flat.npy", "-o", "images/", "-q").code == 0
    with Image.open("images/000003.png") as image:
        assert np.abs(np.asarray(image).astype(float) - np.clip(recon[3], 0, 255)).max() <= 0.5


def test_a_model_is_trained_further_on_flat_rows_with_their_channels_where_it_has_them():
    np.save("flat.npy", np.ascontiguousarray(np.moveaxis(COLOURS, -1, 1)).reshape(12, -1))
    model = quick("flat.npy", image_shape=(3, 6, 8))
    further = aecli.fit("flat.npy", init_from=model, image_shape=(3, 6, 8), epochs=1, holdout=0)
    assert np.array_equal(further.embed("flat.npy"), further.embed(COLOURS))
    with pytest.raises(UsageError, match="--image-shape is 6,8,3, and the model has 3,6,8"):
        aecli.fit("flat.npy", init_from=model, image_shape=(6, 8, 3), epochs=1, holdout=0)


@pytest.mark.parametrize("header", ["pixel{}", "", "list"])
def test_a_tables_pixels_may_have_their_channels_first(run, header):
    first = np.ascontiguousarray(np.moveaxis(COLOURS, -1, 1)).reshape(12, -1)
    if header == "list":
        Path("flat.jsonl").write_text("".join(json.dumps({"pixels": row.tolist()}) + "\n" for row in first))
    else:
        names = [header.format(i) for i in range(144)] if header else []
        np.savetxt("flat.csv", first, "%d", ",", header=",".join(names), comments="") if header else np.savetxt(
            "flat.csv", first, "%d", ","
        )
    data = "flat.jsonl" if header == "list" else "flat.csv"
    done = run("train", data, "--image-shape", "3x6x8", "--epochs", "1", "-q")
    assert (done.code, done.err) == (0, "")
    model = aecli.load("flat.safetensors")
    assert np.array_equal(model.open(data).read().x.reshape(COLOURS.shape), COLOURS)
    assert np.allclose(model.embed(data), model.embed(COLOURS), atol=1e-6)
    made = run("reconstruct", "flat.safetensors", data, "-q").out.splitlines()
    if header == "list":
        assert made[0] == "pixels"
        recon = np.array([json.loads(row.strip('"')) for row in made[1:]])
    else:
        assert made[0].split(",")[:2] == ([header.format(i) for i in range(2)] if header else ["x0", "x1"])
        recon = np.loadtxt(made[1:], delimiter=",")
    assert np.allclose(recon, model.reconstruct(first), rtol=1e-4)
    assert run("reconstruct", "flat.safetensors", data, "-q", "-o", "again.npy").code == 0
    assert np.array_equal(np.load("again.npy").reshape(12, -1), model.reconstruct(first).astype(np.float32))


def test_several_arrays_are_written_in_the_order_that_they_came_in(run):
    first = np.ascontiguousarray(np.moveaxis(COLOURS, -1, 1))
    quick(COLOURS).save("m.safetensors")
    np.save("a.npy", first[:7])
    np.save("b.npy", first[7:])
    np.save("c.npy", COLOURS[7:])
    assert run("reconstruct", "m.safetensors", "a.npy", "b.npy", "-o", "ab.npy", "-q").code == 0
    assert np.array_equal(np.load("ab.npy"), aecli.load("m.safetensors").reconstruct(first))
    mixed = run("reconstruct", "m.safetensors", "a.npy", "c.npy", "-o", "ac.npy", "-q")
    assert (mixed.code, mixed.err) == (1, "error: c.npy: its channels are on another axis than in a.npy\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        folder(COLOURS)
        assert len(read("pictures").x) == 12


def test_one_image_is_taken_wherever_its_channels_are():
    model, first = quick(COLOURS), np.moveaxis(COLOURS[0], -1, 0)
    for one in (COLOURS[0], first):
        assert np.array_equal(model.embed(one), model.embed(COLOURS[:1]))
        assert model.reconstruct(one).shape == one.shape
        np.save("one.npy", one)
        assert np.array_equal(model.embed("one.npy"), model.embed(COLOURS[:1]))
    assert quick(BYTES).embed(BYTES[0]).shape == (1, 2)
    with pytest.raises(DataError, match="the model takes images of shape"):
        model.embed(COLOURS[0].transpose(1, 0, 2))
    with pytest.raises(DataError, match=r"numbers \(N, 6\) were expected"):
        quick(COLOURS.reshape(-1, 6)).embed(np.zeros((2, 3)))


def test_what_may_be_two_layouts_is_told(run):
    x = RNG.integers(0, 256, (12, 3, 8, 4), np.uint8)
    np.save("either.npy", x)
    done = run("train", "either.npy", "--epochs", "1")
    assert (done.code, done.err) == (
        1,
        "error: either.npy: images of shape (3, 8, 4) may have their channels first or last\n"
        "hint: say which: --image-shape 8x3x4 for last, 3x4x8 for first\n",
    )
    assert quick("either.npy", image_shape=(8, 3, 4)).schema.image_shape == (3, 8, 4)
    assert quick("either.npy", image_shape=(3, 4, 8)).schema.image_shape == (8, 4, 3)


def test_another_shape_of_as_many_values_is_refused():
    model = quick(BYTES)
    with pytest.raises(DataError, match=r"a row is of shape \(6, 8\), and the model takes images of shape \(8, 6\)"):
        model.embed(BYTES.swapaxes(1, 2))


@pytest.mark.parametrize("low", [0, -1])
def test_pixels_of_another_range_are_refused_and_converted_where_it_is_told(run, low):
    model = quick(COLOURS)
    scaled = (COLOURS / 255 * (1 - low) + low).astype(np.float32)
    with pytest.raises(DataError, match="and the model takes uint8 from 0 to 255") as refused:
        model.embed(scaled)
    assert refused.value.hint.endswith(f"--input-range {low},1")
    assert np.allclose(model.embed(scaled, input_range=(low, 1)), model.embed(COLOURS), atol=1e-5)
    recon = model.reconstruct(scaled, input_range=(low, 1))
    assert np.allclose(recon, model.reconstruct(COLOURS) / 255 * (1 - low) + low, atol=1e-4)
    np.save("scaled.npy", scaled)
    model.save("m.safetensors")
    assert run("embed", "m.safetensors", "scaled.npy").code == 1
    told = run("embed", "m.safetensors", "scaled.npy", "--input-range", f"{low},1", "-q")
    assert told.code == 0
    codes = np.array([[float(cell) for cell in line.split(",")] for line in told.out.splitlines()[1:]])
    assert np.allclose(codes, model.embed(COLOURS), atol=1e-4)


def test_files_of_another_depth_are_refused(run):
    folder(BYTES, "small")
    folder(BYTES.astype(np.uint16) * 257, "deep")
    assert run("train", "small", "--epochs", "1", "-q").code == 0
    done = run("embed", "small.safetensors", "deep")
    assert (done.code, done.err) == (
        1,
        "error: deep/00.png: its values are uint16, and the model takes uint8\n"
        "hint: say which values are black and white: --input-range 0,65535\n",
    )
    told = run("embed", "small.safetensors", "deep", "--input-range", "0,65535", "-q")
    own = run("embed", "small.safetensors", "small", "-q")
    assert told.out.replace("deep/", "small/") == own.out


def test_flat_rows_are_images_where_their_shape_is_told(run):
    np.save("flat.npy", BYTES.reshape(12, -1))
    assert quick("flat.npy", image_shape=(6, 8)).schema == quick(BYTES).schema
    header = ",".join(f"pixel{i}" for i in range(48))
    np.savetxt("flat.csv", BYTES.reshape(12, -1), "%d", ",", header=header, comments="")
    model = quick("flat.csv", image_shape=(6, 8))
    assert (model.schema.image_shape, model.schema.full_scale, model.scaler.kind) == ((8, 6), 255, "full-scale")
    assert np.allclose(model.embed("flat.csv"), model.embed(BYTES.reshape(12, -1)), atol=1e-6)
    wrong = run("train", "flat.npy", "--image-shape", "5x8")
    assert (wrong.code, wrong.err) == (
        1,
        "error: flat.npy: a row has 48 values, and --image-shape 5x8 makes 40\n",
    )


def test_a_folder_of_arrays_of_one_image_each_is_as_many_rows(run):
    Path("single").mkdir()
    for i, image in enumerate(COLOURS):
        np.save(f"single/{i:02}.npy", image)
    done = run("train", "single", "--epochs", "1", "-o", "m.safetensors")
    assert done.code == 0
    assert "single/00.npy and 11 more: an image of 6 × 8 pixels in colour in each file\n" in done.err
    model = aecli.load("m.safetensors")
    assert model.schema.image_shape == (8, 6, 3)
    assert np.array_equal(model.embed("single"), model.embed(COLOURS))
    assert np.array_equal(model.embed("single/00.npy"), model.embed(COLOURS[:1]))


def test_the_plan_is_told_before_anything_is_read(run):
    np.save("large.npy", np.zeros((4, 64, 64, 3), np.uint8))
    done = run("train", "large.npy", "--epochs", "1")
    assert done.err.startswith(
        "4 images of 64 × 64 pixels in colour = 12,288 inputs; 1,074,819 weights; training takes about 0.7 GB of "
        "memory\n"
    )


def test_a_folder_without_images_is_an_error():
    Path("empty").mkdir()
    with pytest.raises(DataError, match="a folder without images"):
        ImageSource([Path("empty")])


def test_a_single_image_is_rebuilt_to_a_single_image(run):
    folder(COLOURS)
    assert run("train", "pictures", "--epochs", "1", "-q").code == 0
    for name in ("out.png", "out.jpg", "out.tif"):
        done = run("reconstruct", "pictures.safetensors", "pictures/03.png", "-o", name)
        assert (done.code, done.out, done.err) == (0, "", f"wrote {name}\n")
        with Image.open(name) as image:
            assert (image.mode, image.size) == ("RGB", (6, 8))
    many = run("reconstruct", "pictures.safetensors", "pictures", "-o", "all.png")
    assert (many.code, many.err) == (
        1,
        "error: all.png is one image, and pictures 12\nhint: name a folder: -o all/\n",
    )
    assert not Path("all.png").exists()


def test_arrays_of_rebuilt_images_keep_their_shape(run):
    np.save("images.npy", COLOURS)
    assert run("train", "images.npy", "--epochs", "1", "-q").code == 0
    assert run("reconstruct", "images.safetensors", "images.npy", "-o", "rebuilt.npy", "-q").code == 0
    assert np.load("rebuilt.npy").shape == COLOURS.shape
    assert np.array_equal(np.load("rebuilt.npy"), aecli.load("images.safetensors").reconstruct(COLOURS))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.npy", "--alpha"], "error: --alpha is for image files, and x.npy is not one\nhint: leave it out\n"),
        (
            ["pictures", "--fit", "pad"],
            "error: --fit says how to resize images, and no size is given\nhint: add --image-size 64\n",
        ),
        (
            ["pictures", "--image-shape", "6x8"],
            "error: --image-shape is for arrays and tables; image files have their own\nhint: leave it out\n",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(run, words, said):
    folder(BYTES)
    np.save("x.npy", BYTES)
    done = run("train", *words, "--epochs", "1")
    assert (done.code, done.err) == (2, said)


def test_images_are_written_in_the_models_range_whatever_range_they_came_in(run):
    quick(COLOURS).save("m.safetensors")
    np.save("bytes.npy", COLOURS)
    np.save("scaled.npy", (COLOURS / 255).astype(np.float32))
    for name, range_ in (("bytes", ()), ("scaled", ("--input-range", "0,1"))):
        assert run("reconstruct", "m.safetensors", f"{name}.npy", *range_, "-o", f"{name}/", "-q").code == 0
        assert run("reconstruct", "m.safetensors", f"{name}.npy", *range_, "-o", f"{name}-again.npy", "-q").code == 0
    for i in range(12):
        with Image.open(f"bytes/{i:06}.png") as one, Image.open(f"scaled/{i:06}.png") as other:
            assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1
    assert np.allclose(np.load("scaled-again.npy") * 255, np.load("bytes-again.npy"), atol=0.01)


def test_images_of_another_depth_are_written_as_the_model_has_them_and_that_is_said(run):
    quick(BYTES).save("m.safetensors")
    folder(BYTES.astype(np.uint16) * 257)
    done = run("reconstruct", "m.safetensors", "pictures", "--input-range", "0,65535", "-o", "rebuilt/")
    assert done.err == "wrote rebuilt\nimages are written in the model's range: uint8 from 0 to 255\n"


def test_bytes_of_a_range_of_their_own_are_written_in_it(run):
    folder(BYTES % 10)
    words = ("train", "pictures", "--input-range", "0,9", "--epochs", "1", "-q", "-o", "m.safetensors")
    assert run(*words).code == 0
    for output in ("rebuilt/", "rebuilt.npy"):
        assert run("reconstruct", "m.safetensors", "pictures", "-o", output, "-q").code == 0
    with Image.open("rebuilt/03.png") as image:
        assert np.array_equal(np.asarray(image), np.rint(np.load("rebuilt.npy")[3]).clip(0, 255))
    assert run("embed", "m.safetensors", "rebuilt", "-q").code == 0


def test_an_image_with_alpha_goes_to_no_format_that_loses_it(run):
    folder(icons()[0])
    quick("pictures", alpha=True).save("m.safetensors")
    for ending in ("bmp", "gif", "jpg"):
        done = run("reconstruct", "m.safetensors", "pictures/00.png", "-o", f"one.{ending}")
        assert done.err == f"error: one.{ending}: .{ending} cannot hold images of uint8 with alpha\nhint: -o one.png\n"
    assert run("reconstruct", "m.safetensors", "pictures/00.png", "-o", "one.png", "-q").code == 0
    with Image.open("one.png") as image:
        assert image.mode == "RGBA"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("decode", "m.safetensors", "--samples", "3", "-o", "new"),
            "new: neither a folder nor a name with a known file extension\n"
            "hint: images go to a folder, -o new/; tables to a file, -o new.csv\n",
        ),
        (
            ("reconstruct", "m.safetensors", "x.npy", "--error", "-o", "new.png"),
            "new.png is an image, and --error is for tables\nhint: leave that out, or name a .csv\n",
        ),
    ],
)
def test_what_is_neither_an_image_nor_a_table_is_told_both(run, words, said):
    quick(BYTES).save("m.safetensors")
    np.save("x.npy", BYTES[:1])
    done = run(*words)
    assert (done.code, done.err) == (2, f"error: {said}")


def test_a_brighter_set_of_the_same_type_is_refused():
    model = quick(BYTES.astype(np.uint16) * 16)
    with pytest.raises(DataError, match="and the model takes uint16 from 0 to 4095"):
        model.embed(BYTES.astype(np.uint16) * 256)
    strange = BYTES.astype(np.uint16) * 16
    strange[0] = 65_535
    assert np.isfinite(model.embed(strange)).all()


def test_dark_rows_of_a_table_are_of_a_models_range(run):
    header = ",".join(f"pixel{i}" for i in range(48))
    np.savetxt("flat.csv", BYTES.reshape(12, -1).astype(int) * 16, "%d", ",", header=header, comments="")
    quick("flat.csv", image_shape=(6, 8)).save("m.safetensors")
    Path("dark.csv").write_text(f"{header}\n" + ",".join(["0"] * 47 + ["1"]) + "\n")
    assert run("embed", "m.safetensors", "dark.csv", "-q").code == 0
    Path("scaled.csv").write_text(f"{header}\n" + ",".join(["0"] * 47 + ["0.5"]) + "\n")
    assert run("embed", "m.safetensors", "scaled.csv", "-q").code == 1


def test_one_range_is_not_given_to_files_of_two_depths(run):
    quick(BYTES).save("m.safetensors")
    folder([BYTES[0], BYTES[1].astype(np.uint16) * 257])
    done = run("embed", "m.safetensors", "pictures", "--input-range", "0,65535", "-q", "-o", "codes.csv")
    assert (done.code, done.err) == (
        1,
        "error: pictures/01.png: its values are uint16, and those of pictures/00.png uint8\n"
        "hint: convert all to one depth: ImageMagick's mogrify -depth 8 FILE converts 16 bits to 8\n",
    )
    assert not Path("codes.csv").exists()


def test_two_folders_may_have_images_of_one_name(run):
    folder(BYTES[:6], "one")
    folder(BYTES[6:], "two")
    quick(BYTES).save("m.safetensors")
    assert run("reconstruct", "m.safetensors", "one", "two", "-o", "both/", "-q").code == 0
    assert len(list(Path("both").rglob("*.png"))) == 12
    same = run("reconstruct", "m.safetensors", "one/00.png", "two/00.png", "one/00.png", "-o", "files/")
    assert same.code == 1
    assert same.err.endswith(
        "error: one/00.png: another image would also be written to one/00.png.png\n"
        "hint: give each image once; codes without a column 'path' become numbered images\n"
    )


def test_images_named_one_by_one_and_their_codes_keep_their_folders(run, monkeypatch):
    for place in ("a/cats", "a/dogs", "b/cats"):
        folder(BYTES[:2], f"set/{place}")
    files = sorted(str(path) for path in Path("set").rglob("*.png"))
    inside = sorted(str(Path(path).relative_to("set")) for path in files)
    quick(BYTES).save("m.safetensors")

    def written(name):
        return sorted(str(path.relative_to(name)) for path in Path(name).rglob("*.*"))

    assert run("reconstruct", "m.safetensors", *files, "-o", "one-by-one/", "-q").code == 0
    assert written("one-by-one") == inside
    full = Path("set").resolve()
    assert run("embed", "m.safetensors", full, "-o", "full.csv", "-q").code == 0
    assert run("decode", "m.safetensors", "full.csv", "-o", "full/", "-q").code == 0
    assert written("full") == inside
    monkeypatch.chdir("set/b")
    model = "../../m.safetensors"
    assert run("embed", model, "../a", "-o", "up.csv", "-q").code == 0
    assert run("decode", model, "up.csv", "-o", "up/", "-q").code == 0
    assert written("up") == ["cats/00.png", "cats/01.png", "dogs/00.png", "dogs/01.png"]
    Path("out.csv").write_text(Path("up.csv").read_text().replace("../a", "x/../../../../../a"))
    assert run("decode", model, "out.csv", "-o", "out/", "-q").code == 0
    assert written("out") == written("up")
    assert not Path("files").exists()


def test_a_rebuilt_image_never_takes_the_name_of_another_original(run):
    folder(BYTES[:3])
    Image.fromarray(BYTES[3]).save("pictures/00.bmp")
    Image.fromarray(BYTES[4]).save("pictures/a-0001.png")
    Image.fromarray(BYTES[5]).save("pictures/s-0002.tif")
    stack("pictures/a.tif", BYTES[6:8])
    stack("pictures/s.tif", BYTES[8:12])
    quick(BYTES).save("m.safetensors")
    done = run("reconstruct", "m.safetensors", "pictures", "-o", "rebuilt/")
    assert done.code == 0
    assert sorted(path.name for path in Path("rebuilt").iterdir()) == [
        *("00.bmp.png", "00.png", "01.png", "02.png", "a-0001.png", "a-0001.tif", "a-0002.tif", "s-0002.tif"),
        *(f"s.tif-000{i}.tif" for i in range(1, 5)),
    ]
    with Image.open("rebuilt/00.png") as image:
        made = np.asarray(image).astype(float)
    assert np.abs(made - np.clip(aecli.load("m.safetensors").reconstruct(BYTES[:1])[0], 0, 255)).max() <= 0.51
    with Image.open("rebuilt/s-0002.tif") as image:
        made = np.asarray(image).astype(float)
    assert np.abs(made - np.clip(aecli.load("m.safetensors").reconstruct(BYTES[5:6])[0], 0, 255)).max() <= 0.51


def test_a_rebuilt_image_does_not_take_the_name_of_an_original_that_cannot_be_read(run):
    folder(BYTES[:3])
    Image.fromarray(BYTES[3]).save("pictures/03.bmp")
    Path("pictures/03.png").write_bytes(b"broken")
    quick(BYTES).save("m.safetensors")
    assert run("reconstruct", "m.safetensors", "pictures", "--skip-broken", "-o", "rebuilt/", "-q").code == 0
    names = sorted(path.name for path in Path("rebuilt").iterdir())
    assert names == ["00.png", "01.png", "02.png", "03.bmp.png"]


def test_floats_of_png_and_tiff_do_not_meet_in_one_file(run):
    Path("pictures").mkdir()
    tifffile.imwrite("pictures/a.tif", COLOURS[0].astype(np.uint16) * 200, photometric="rgb")
    png16("pictures/a.png", COLOURS[1].astype(np.uint16) * 200)
    quick(COLOURS.astype(np.uint16) * 200).save("m.safetensors")
    assert run("reconstruct", "m.safetensors", "pictures", "-o", "rebuilt/", "-q").code == 0
    assert sorted(path.name for path in Path("rebuilt").iterdir()) == ["a.png.tif", "a.tif"]


def test_an_array_with_kept_columns_keeps_its_width(run):
    table = np.column_stack([np.linspace(0, 1, 12), BYTES.reshape(12, -1)])
    header = "price," + ",".join(f"pixel{i}" for i in range(48))
    np.savetxt("flat.csv", table, "%g", ",", header=header, comments="")
    assert run("train", "flat.csv", "--exclude", "price", "--image-shape", "6x8", "--epochs", "1", "-q").code == 0
    asked = ("reconstruct", "flat.safetensors", "flat.csv", "-q", "-o")
    assert run(*asked, "alone.npy").code == 0
    assert np.load("alone.npy").shape == (12, 8, 6)
    assert run(*asked, "beside.npy", "--error").code == 0
    assert np.load("beside.npy").shape == (12, 49)


def test_pixels_of_whole_numbers_may_be_trained_with_holes_filled():
    model = quick(BYTES, missing="mean")
    model.save("m.safetensors")
    assert np.array_equal(aecli.load("m.safetensors").embed(BYTES), model.embed(BYTES))


@pytest.mark.parametrize("kind", ["array", "table", "files"])
def test_infinity_is_an_error_where_a_model_is_applied_or_a_bad_row(run, kind):
    images = (BYTES / 255).astype(np.float32)
    bad = images.copy()
    bad[3, 2, 1] = np.inf
    if kind == "files":
        folder(images, "fine", "tif", tifffile.imwrite)
        stack("bad.tif", bad)
        data, model, place = "bad.tif", quick("fine"), "bad.tif: page 4: a pixel"
    else:
        fine = images if kind == "array" else images.reshape(12, -1)
        data, model, place = "bad.npy", quick(fine), "bad.npy: row 4, column 'x13'"
        np.save("bad.npy", bad.reshape(fine.shape))
    model.save("m.safetensors")
    for command in (("embed",), ("reconstruct",), ("plot", "-o", "p.png")):
        done = run(command[0], "m.safetensors", data, *command[1:])
        assert (done.code, done.err) == (
            1,
            f"error: {place} is infinite, or too large, and every value must be a finite number\n"
            "hint: --bad-rows skip leaves such rows out, --bad-rows blank writes empty ones\n",
        )
    assert len(run("embed", "m.safetensors", data, "--bad-rows", "skip", "-q").out.splitlines()) == 12
    blank = run("embed", "m.safetensors", data, "--bad-rows", "blank", "-q").out.splitlines()[4]
    assert blank.endswith(",,") or blank == ","


def test_holes_of_image_files_are_named_by_file_and_filled_where_it_is_said(run):
    images = (BYTES / 255).astype(np.float32)
    images[5, 2, 1] = np.nan
    Path("stacks").mkdir()
    stack("stacks/a.tif", images)
    done = run("train", "stacks", "--epochs", "1")
    assert done.code == 1
    assert done.err.endswith(
        "error: stacks/a.tif: page 6: a pixel is empty or NaN, and every value must be a finite number\n"
        "hint: train with --missing mean to fill holes with their column's mean, or --missing drop to leave such rows "
        "out\n"
    )
    assert run("train", "stacks", "--epochs", "1", "--missing", "mean", "-q").code == 0
    model = aecli.load("stacks.safetensors")
    assert np.isfinite(model.embed("stacks")).all()
    assert np.array_equal(model.embed("stacks"), model.embed(images))
    dropped = run("train", "stacks", "--epochs", "1", "--missing", "drop", "-o", "d.safetensors")
    assert "left out 1 row with holes\n" in dropped.err


def test_pixels_that_may_be_in_other_units_are_taken_and_that_is_said(run):
    quick((BYTES * 1.0).astype(np.float32)).save("floats.safetensors")
    np.save("small.npy", (BYTES / 255).astype(np.float32))
    np.save("usual.npy", (BYTES * 0.5).astype(np.float32))
    done = run("embed", "floats.safetensors", "small.npy")
    assert (done.code, done.err) == (
        0,
        "the pixels are from 0 to 1, and the model was trained on 0 to 255: if black and white have other values here, "
        "say which, such as --input-range 0,1\n",
    )
    assert run("embed", "floats.safetensors", "usual.npy").err == ""
    masks = (BYTES > 220).astype(np.uint8)
    np.save("classes.npy", masks * 2)
    np.save("white.npy", masks * 255)
    done = run("train", "classes.npy", "--epochs", "1", "-o", "m.safetensors")
    assert "the pixels are from 0 to 2 of 255; --input-range 0,2 stretches them to the full range\n" in done.err
    done = run("train", "classes.npy", "--epochs", "1", "-o", "m.safetensors", "--input-range", "0,2")
    assert "stretches them to the full range" not in done.err
    assert run("embed", "m.safetensors", "classes.npy").err == ""
    assert (
        "the pixels are from 0 to 255, and the model was trained on 0 to 2: "
        in run("embed", "m.safetensors", "white.npy").err
    )


def test_greymaps_keep_their_values():
    values = BYTES[0].astype(np.uint16) * 4
    Path("x.pgm").write_bytes(b"P5\n6 8\n1023\n" + values.astype(">u2").tobytes())
    assert np.array_equal(read("x.pgm").x.reshape(8, 6), values)
    assert quick("x.pgm").schema.full_scale == 1023


def test_a_range_is_compared_as_the_pixels_are(run):
    images = (BYTES / 255 * 0.8 - 0.2).astype(np.float32)
    np.save("x.npy", np.where(BYTES.max() == BYTES, np.float32(0.6), images))
    assert run("train", "x.npy", "--input-range", "-0.2,0.6", "--epochs", "1", "-q").code == 0
    assert aecli.load("x.safetensors").scaler.kind == "full-scale"


def test_the_hint_at_a_range_is_guessed_from_the_values(run):
    folder(BYTES, "small")
    folder(BYTES.astype(np.uint16) * 16, "deep")
    folder((BYTES / 255 * 2 - 1).astype(np.float32), "signed", "tif", tifffile.imwrite)
    assert run("train", "small", "--epochs", "1", "-q").code == 0
    for name, said in (("deep", "0,4095"), ("signed", "-1,1")):
        assert run("embed", "small.safetensors", name).err.endswith(f"black and white: --input-range {said}\n")


def test_what_a_model_of_images_takes_is_told_in_words(run):
    folder(COLOURS[:6], "data/cats")
    folder(COLOURS[6:], "data/dogs")
    done = run("train", "data", "--image-size", "4x3", "--epochs", "1")
    assert done.err.startswith(
        "labels: the folders' names: cats, dogs (2)\n12 images of 4 × 3 pixels in colour = 36 inputs; "
    )
    told = [re.split("  +", line, maxsplit=1) for line in run("info", "data.safetensors").out.splitlines()]
    facts = dict(told)
    assert facts["a row"] == "an image of 4 × 3 pixels in colour"
    assert facts["pixels"] == "uint8, black is 0, white 255"
    assert facts["other sizes"] == "resized to this one, --fit crop"
    assert facts["transparent"] == "laid on white"


def test_a_file_of_labels_without_a_column_is_told_its_columns(run):
    folder(BYTES)
    Path("lab.csv").write_text("path,kind\n00.png,x\n")
    np.save("x.npy", BYTES)
    for data in ("pictures", "x.npy"):
        done = run("train", data, "--label", "lab.csv")
        assert (done.code, done.err) == (
            1,
            "error: --label lab.csv is a file, and FILE:COLUMN was expected\n"
            "hint: name one: --label lab.csv:path or --label lab.csv:kind\n",
        )


def pixel_table(path, order, label=True, header=True, prefix="pixel", start=0):
    names = [*(["label"] if label else []), *(f"{prefix}{i + start}" for i in order)]
    rows = [[*([n % 3] if label else []), *BYTES[n].ravel()[list(order)].tolist()] for n in range(12)]
    lines = [*([",".join(names)] if header else []), *(",".join(map(str, row)) for row in rows)]
    Path(path).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("prefix", "start"), [("pixel", 0), ("px_", 1), ("p2_", 7)])
def test_pixels_are_ordered_by_the_numbers_in_their_names(run, prefix, start):
    pixel_table("sorted.csv", sorted(range(48), key=lambda i: str(i + start)), prefix=prefix, start=start)
    done = run("train", "sorted.csv", "--image-shape", "6x8", "--epochs", "1")
    said = ", ".join(f"{prefix}{i + start}" for i in range(3))
    assert f"pixels are in the order of the numbers in their names: {said}, ...\n" in done.err
    model = aecli.load("sorted.safetensors")
    assert np.array_equal(model.open("sorted.csv").read().x, BYTES.reshape(12, -1))
    assert "in the order" not in run("train", "sorted.csv", "--epochs", "1", "-o", "rows.safetensors").err
    pixel_table("other.csv", range(48), prefix="p1_", start=7)
    assert "in the order" not in run("train", "other.csv", "--image-shape", "6x8", "--epochs", "1").err


def test_a_column_too_many_may_be_the_label_and_later_tables_may_name_it(run):
    pixel_table("plain.csv", range(48), header=False)
    done = run("train", "plain.csv", "--image-shape", "6x8", "--epochs", "1")
    assert done.err.endswith(
        "error: plain.csv: 49 columns, and --image-shape 6x8 makes 48\nhint: one of them may be the label: --label x0\n"
    )
    asked = ("--image-shape", "6x8", "--label", "x0", "--epochs", "1", "-q")
    assert run("train", "plain.csv", *asked).code == 0
    pixel_table("named.csv", range(48))
    plain, named = (run("embed", "plain.safetensors", f"{name}.csv", "-q") for name in ("plain", "named"))
    assert (plain.code, named.code) == (0, 0)
    assert plain.out.splitlines()[1:] == named.out.splitlines()[1:]


def test_the_column_that_is_no_pixel_by_its_name_may_be_the_label(run):
    names = sorted(f"pixel{i}" for i in range(48))
    lines = [",".join(map(str, [*row, row[0] // 2])) for row in BYTES.reshape(12, -1)]
    Path("digits.csv").write_text("\n".join([",".join([*names, "digit"]), *lines]) + "\n")
    done = run("train", "digits.csv", "--image-shape", "6x8", "--epochs", "1")
    assert done.err.endswith("hint: one of them may be the label: --label digit\n")


def test_a_text_beside_pixels_may_be_the_label(run):
    pixel_table("x.csv", range(48), label=False)
    lines = Path("x.csv").read_text().splitlines()
    kinds = ["class", *("ab" * 6)]
    Path("x.csv").write_text("".join(f"{line},{kind}\n" for line, kind in zip(lines, kinds, strict=True)))
    done = run("train", "x.csv", "--image-shape", "6x8", "--epochs", "1")
    assert done.err.splitlines()[-1] == "hint: aecli train x.csv --image-shape 6x8 --epochs 1 --label class"


def test_pixels_in_one_cell_are_told_how_to_become_an_array(run):
    rows = [f"{n},{' '.join(map(str, image.ravel()))}" for n, image in enumerate(BYTES)]
    Path("x.csv").write_text("\n".join(["emotion,pixels", *rows]) + "\n")
    done = run("train", "x.csv", "--image-shape", "6x8", "--epochs", "1")
    assert done.code == 1
    message, hint = done.err.splitlines()
    assert message == "error: x.csv: column 'pixels' holds 48 numbers in one cell, and one was expected"
    subprocess.run([sys.executable, *shlex.split(hint.removeprefix("hint: convert it to an array: "))[1:]], check=True)
    assert np.array_equal(np.load("x.npy"), BYTES.reshape(12, -1))
    assert np.load("x.npy").dtype == np.uint8


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((12, 6, 8, 5), "x.npy: its rows of shape (6, 8, 5) are learnt as numbers, not as images: "),
        ((12, 2, 3, 4, 5), "x.npy: its rows of shape (2, 3, 4, 5) are learnt as numbers, not as images: "),
        ((16, 16, 3), "x.npy: read as 16 images of 3 × 16 pixels, not as one image in colour\n"),
        ((12, 5, 6, 3), ""),
        ((12, 30), ""),
    ],
)
def test_what_an_array_is_read_as_is_said_where_it_may_be_another(run, shape, said):
    np.save("x.npy", RNG.integers(0, 256, shape, np.uint8))
    done = run("train", "x.npy", "--epochs", "1")
    assert done.code == 0
    assert done.err.startswith(said) if said else "x.npy: " not in done.err


def test_images_a_little_brighter_than_the_training_rows_are_taken():
    images = np.where(BYTES > 100, 1, BYTES / 255).astype(np.float32)
    model = quick(images)
    assert np.isfinite(model.embed(images + np.float32(0.05))).all()
    with pytest.raises(DataError, match="and the model takes float32 from"):
        model.embed(images * 2 - 1.5)
