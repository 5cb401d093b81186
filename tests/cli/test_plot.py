import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", ["latent", "reconstruction", "errors", "history", "manifold", "traversal"])
@pytest.mark.parametrize("form", MAGIC)
def test_each_kind_is_drawn_in_each_format(run, digits_model, kind, form):
    path = Path(f"picture.{form}")
    done = run("plot", digits_model, "digits", "--kind", kind, "-o", path)
    assert (done.code, done.out, done.err) == (0, "", f"wrote {path}\n")
    assert path.read_bytes().startswith(MAGIC[form])
    first = path.read_bytes()
    assert run("plot", digits_model, "digits", "--kind", kind, "-o", path).err == f"replaced {path}\n"
    assert path.read_bytes() == first


def test_a_picture_is_named_after_the_model_and_its_kind(run, digits_model):
    done = run("plot", digits_model, "--json")
    assert done.code == 0
    assert json.loads(done.out) == {"figure": "digits-latent.png", "kind": "latent", "rows": 360}
    with Image.open("digits-latent.png") as picture:
        assert picture.size[0] > 1000


def test_the_legend_names_every_label(run, digits_model):
    run("plot", digits_model, "digits", "-o", "latent.svg")
    text = Path("latent.svg").read_text()
    assert all(f">{digit}</text>" in text for digit in range(10))
    assert "PC 1 (" in text


def test_originals_stand_above_their_reconstructions(run, digits_model):
    assert (
        run("plot", digits_model, "digits", "--kind", "reconstruction", "--examples", "4", "-o", "four.png").code == 0
    )
    assert run("plot", digits_model, "digits", "--kind", "reconstruction", "-o", "ten.png").code == 0
    four, ten = (np.asarray(Image.open(name).convert("L")) for name in ("four.png", "ten.png"))
    assert (ten < 128).mean() > 0.3  # dark grounds
    assert four.shape[0] > ten.shape[0]


def test_tables_are_drawn_too(run, iris_model, iris_csv):
    for kind in ("latent", "reconstruction", "errors", "history", "traversal"):
        assert run("plot", iris_model, iris_csv, "--kind", kind, "-o", f"{kind}.svg").code == 0
    text = Path("latent.svg").read_text()
    assert ">setosa</text>" in text
    assert ">petal length (cm)</text>" in Path("reconstruction.svg").read_text()


def test_a_picture_goes_to_stdout(digits_model):
    command = [sys.executable, "-m", "aecli", "plot", str(digits_model), "digits", "-o", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.startswith(MAGIC["png"])


def test_an_ending_of_no_format_is_wrong_usage(run, digits_model):
    done = run("plot", digits_model, "digits", "-o", "picture.gif")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: picture.gif: the name ends in '.gif', which is none of the formats that are drawn\n"
        "hint: the endings are .png, .svg, .pdf\n"
    )


def test_size_and_dpi_give_the_pixels_and_the_theme_the_ground(run, digits_model):
    asked = ("--size", "5x2.5", "--dpi", "100", "--theme", "dark", "--title", "Digits <of> $1")
    assert run("plot", digits_model, "digits", *asked, "-o", "dark.png").code == 0
    picture = Image.open("dark.png").convert("RGB")
    assert picture.size == (500, 250)
    assert picture.getpixel((499, 249)) == (0x14, 0x17, 0x1C)
    assert run("plot", digits_model, "digits", *asked, "-o", "dark.svg").code == 0
    assert "Digits &lt;of&gt; $1" in Path("dark.svg").read_text()


@pytest.mark.parametrize("size", ["5", "0x3", "5x0.5", "61x3", "axb", "nanx1"])
def test_a_size_that_is_none_is_wrong_usage(run, digits_model, size):
    done = run("plot", digits_model, "digits", "--size", size)
    assert done.code == 2
    assert f"'{size}' is no size such as 4.8x3.5" in done.err


def test_a_picture_too_small_for_its_text_is_an_error_that_says_so(run, digits_model):
    done = run("plot", digits_model, "digits", "--size", "1x1", "-o", "small.png")
    assert (done.code, done.out) == (1, "")
    assert "error: the picture is too small for its text\nhint: give it more room: --size 4.8x3.5\n" in done.err
    assert not Path("small.png").exists()


def test_a_manifold_of_what_has_none_is_wrong_usage(run, iris_model, iris_csv):
    assert run("train", "--latent-dim", "1", "--epochs", "1", "-q", "-o", "one.safetensors").code == 0
    done = run("plot", "one.safetensors", "digits", "--kind", "manifold")
    assert (done.code, done.err) == (
        2,
        "error: a manifold lies on a plane, and one.safetensors has one latent value\n"
        "hint: aecli plot one.safetensors --kind traversal\n",
    )
    done = run("plot", iris_model, iris_csv, "--kind", "manifold")
    assert done.code == 2
    assert "a manifold is of images" in done.err


@pytest.mark.parametrize("kind", ["latent", "reconstruction", "errors", "history", "manifold", "traversal"])
@pytest.mark.parametrize("window", [(80, 24), (120, 40)], ids=str)
def test_a_picture_fits_the_window(run, digits_model, monkeypatch, kind, window):
    monkeypatch.setenv("COLUMNS", str(window[0]))
    monkeypatch.setenv("LINES", str(window[1]))
    done = run("plot", digits_model, "digits", "--kind", kind, "--show", "-q")
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out  # no terminal
    lines = done.out.splitlines()
    assert window[1] / 4 < len(lines) < window[1]
    assert window[0] * 0.6 < max(map(len, lines)) <= window[0]
    assert list(Path.cwd().glob("*.png")) == []


def test_true_colour_is_shown_where_there_is_any(run, digits_model, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    done = run("plot", digits_model, "digits", "--show", "-q", "-o", "beside.png")
    assert "\x1b[38;2;" in done.out
    assert "▀" in done.out
    assert Path("beside.png").read_bytes().startswith(MAGIC["png"])
    monkeypatch.delenv("COLORTERM")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[38;5;" in run("plot", digits_model, "digits", "--show", "-q").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("plot", digits_model, "digits", "--show", "-q").out


def test_only_one_thing_goes_to_stdout(run, digits_model):
    for pair, named in (
        (("--show", "--json"), "--show and --json"),
        (("--show", "-o", "-"), "--show and -o -"),
        (("--json", "-o", "-"), "--json and -o -"),
    ):
        done = run("plot", digits_model, "digits", *pair)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"error: {named} both want stdout\nhint: write the picture to a file: -o picture.png\n"


def test_what_shapes_a_picture_is_refused_for_a_page(run, digits_model):
    done = run("plot", digits_model, "--kind", "map", "--dpi", "300", "--title", "Digits")
    assert (done.code, done.out) == (2, "")
    assert done.err == ("error: a map is a page, and --title and --dpi would shape a picture\nhint: leave it out\n")
