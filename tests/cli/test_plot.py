import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aecli.data.opening import open_source

DATA_OF = {"samples": []}  # it takes none
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", ["latent", "reconstruction", "errors", "history", "manifold", "traversal", "samples"])
@pytest.mark.parametrize("form", MAGIC)
def test_each_kind_is_drawn_in_each_format(run, digits_model, kind, form):
    path = Path(f"picture.{form}")
    done = run("plot", digits_model, *DATA_OF.get(kind, ["digits"]), "--kind", kind, "-o", path)
    assert (done.code, done.out, done.err) == (0, "", f"wrote {path}\n")
    assert path.read_bytes().startswith(MAGIC[form])
    first = path.read_bytes()
    assert (
        run("plot", digits_model, *DATA_OF.get(kind, ["digits"]), "--kind", kind, "-o", path).err
        == f"replaced {path}\n"
    )
    assert path.read_bytes() == first


def test_a_picture_is_named_after_the_model_and_its_kind(run, digits_model):
    done = run("plot", digits_model, "--json")
    assert done.code == 0
    assert json.loads(done.out) == {"figure": "digits-latent.png", "kind": "latent", "rows": 360}
    with Image.open("digits-latent.png") as picture:
        assert picture.size[0] > 1000


def test_a_picture_of_one_row_says_that_there_is_one(run, digits_model):
    np.save("one.npy", np.full((1, 8, 8), 16, np.float32))
    done = run("plot", digits_model, "one.npy", "-o", "p.svg")
    assert (done.code, done.err) == (0, "the picture is one dot: there is one row\nwrote p.svg\n")


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
        "error: picture.gif: the name ends in '.gif', which is no known picture format\n"
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
    assert f"'{size}' is not a size such as 4.8x3.5" in done.err


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
        "error: a manifold lies on a plane, and one.safetensors has one latent value\nhint: --kind traversal\n",
    )
    done = run("plot", iris_model, iris_csv, "--kind", "manifold")
    assert done.code == 2
    assert "a manifold is of images" in done.err


@pytest.mark.parametrize("kind", ["latent", "reconstruction", "errors", "history", "manifold", "traversal", "samples"])
@pytest.mark.parametrize("window", [(80, 24), (120, 40)], ids=str)
def test_a_picture_fits_the_window(run, digits_model, monkeypatch, kind, window):
    monkeypatch.setenv("COLUMNS", str(window[0]))
    monkeypatch.setenv("LINES", str(window[1]))
    done = run("plot", digits_model, *DATA_OF.get(kind, ["digits"]), "--kind", kind, "--show", "-q")
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
    for pair, named, way in (
        (("--show", "--json"), "--show and --json", ", without --show"),
        (("--show", "-o", "-"), "--show and -o -", ""),
        (("--json", "-o", "-"), "--json and -o -", ""),
    ):
        done = run("plot", digits_model, "digits", *pair)
        assert (done.code, done.out) == (2, "")
        hint = f"hint: write the picture to a file: -o picture.png{way}\n"
        assert done.err == f"error: {named} both want stdout\n{hint}"


def test_what_shapes_a_picture_is_refused_for_a_page(run, digits_model):
    done = run("plot", digits_model, "--kind", "map", "--dpi", "300", "--title", "Digits")
    assert (done.code, done.out) == (2, "")
    assert done.err == ("error: --title and --dpi cannot be used with --kind map, an HTML page\nhint: leave it out\n")


@pytest.fixture
def pictures():
    """A folder of 40 images in two folders, and a table with their paths from there, in another order."""
    x = open_source(["digits"], split="test", data_dir=Path()).read().x[:40].reshape(-1, 8, 8)
    lines = []
    for i, image in enumerate(x):
        path = Path("pictures", "cats" if i % 4 else "dogs", f"{i:02}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image / 16 * 255).astype(np.uint8)).save(path)
        lines.append(f"{path.parent.name}/{path.name},{i * 1.5},{'odd' if i % 2 else 'even'}")
    Path("beside.csv").write_text("\n".join(["path,wind,parity", *lines[::-1]]) + "\n")
    return Path("pictures")


def shown_in(path):
    """Return all text of an SVG."""
    return re.findall(r">([^<>]+)</text>", Path(path).read_text())


def test_a_column_colours_what_the_label_does_not(run, iris_model, iris_csv):
    assert run("plot", iris_model, iris_csv, "--colour", "petal width (cm)", "-o", "latent.svg").code == 0
    assert "petal width (cm)" in shown_in("latent.svg")
    assert "setosa" not in shown_in("latent.svg")
    lines = iris_csv.read_text().splitlines()
    Path("sites.csv").write_text("\n".join(["site," + lines[0], *(f"s{i % 3},{r}" for i, r in enumerate(lines[1:]))]))
    assert run("plot", iris_model, "sites.csv", "--colour", "site", "--kind", "errors", "-o", "e.svg").code == 0
    assert {"s0 (50)", "s1 (50)", "s2 (50)", "median of each site"} <= set(shown_in("e.svg"))
    assert run("plot", iris_model, iris_csv, "--colour", "sites.csv:site", "-o", "latent.svg").code == 0
    assert {"s0", "s1", "s2"} <= set(shown_in("latent.svg"))


def test_a_column_of_another_table_is_matched_by_the_images_paths(run, pictures):
    assert run("train", pictures, "--epochs", "1", "-q").code == 0
    done = run(
        "plot", "pictures.safetensors", pictures, "--colour", "beside.csv:parity", "--kind", "errors", "-o", "e.svg"
    )
    assert (done.code, done.err) == (0, "wrote e.svg\n")
    assert {"even (20)", "odd (20)"} <= set(shown_in("e.svg"))
    assert run("plot", "pictures.safetensors", pictures, "--colour", "beside.csv:wind", "-o", "w.svg").code == 0
    assert "wind" in shown_in("w.svg")
    lines = Path("beside.csv").read_text().splitlines()
    Path("some.csv").write_text("\n".join(lines[:31]) + "\n")
    done = run("plot", "pictures.safetensors", pictures, "--colour", "some.csv:parity", "-o", "w.svg")
    assert done.err == "some.csv has no row for 10 of the 40 paths: they have no parity\nreplaced w.svg\n"
    assert "(no label)" in shown_in("w.svg")


WRONG_COLOURS = {
    "a column": ("specis", "error: iris.csv: --colour 'specis' names no column\nhint: did you mean 'species'?\n"),
    "a column of another file": (
        "other.csv:knd",
        "error: other.csv: no column 'knd'\nhint: did you mean other.csv:kind?\n",
    ),
    "another file": ("others.csv:kind", "error: others.csv: no such file\n"),
    "fewer rows": ("other.csv:kind", "error: other.csv has 1 row, and the data has more: rows are matched by number\n"),
}


@pytest.mark.parametrize(("word", "error"), WRONG_COLOURS.values(), ids=WRONG_COLOURS)
def test_a_colour_that_is_not_there_is_an_error(run, iris_model, iris_csv, word, error):
    Path("other.csv").write_text("kind\nx\n")
    done = run("plot", iris_model, iris_csv, "--colour", word, "-o", "p.png")
    assert (done.code, done.out, done.err) == (1, "", error)
    assert not Path("p.png").exists()


def test_a_colour_is_refused_for_what_colours_no_rows(run, iris_model, iris_csv):
    done = run("plot", iris_model, iris_csv, "--kind", "traversal", "--colour", "species")
    assert (done.code, done.err) == (
        2,
        "error: --colour is for latent, errors, page, not for traversal\nhint: leave it out\n",
    )


def test_what_has_no_columns_has_a_label_to_colour_by(run, digits_model):
    assert run("plot", digits_model, "digits", "--colour", "label", "-o", "p.png").code == 0
    done = run("plot", digits_model, "digits", "--colour", "lable", "-o", "p.png")
    assert done.err == "error: digits:test: --colour 'lable' names no column\nhint: did you mean 'label'?\n"


def test_a_reconstruction_shows_held_out_images_first_and_says_so(run, digits_model, pictures):
    def drawn(*data, **options):
        done = run("plot", *data, "--kind", "reconstruction", "-o", "r.svg", **options)
        assert done.code == 0, done.err
        return [text for text in shown_in("r.svg") if text in ("held out", "training")]

    assert drawn(digits_model, "digits") == ["held out"]
    assert drawn(digits_model, "digits:train") == ["training"]
    assert run("train", pictures, "--epochs", "1", "-q").code == 0
    assert drawn("pictures.safetensors", pictures) == ["held out", "training"]
    assert drawn("pictures.safetensors", pictures / "dogs") == []
    assert drawn(digits_model, "-", stdin=(pictures / "dogs" / "00.png").read_bytes()) == []


def test_samples_say_what_they_are_and_take_no_data(run, digits_model):
    assert run("plot", digits_model, "--kind", "samples", "-o", "s.svg").code == 0
    count = json.loads(run("info", digits_model, "--json").out)["mixture"]
    assert shown_in("s.svg") == [f"draws from a mixture of {count} Gaussians fitted to the training codes"]
    done = run("plot", digits_model, "digits", "--kind", "samples")
    assert (done.code, done.err) == (
        2,
        "error: --kind samples needs no DATA, and digits was given\nhint: leave it out\n",
    )


def test_samples_of_a_table_are_rows_that_decode_writes(run, iris_model):
    done = run("plot", iris_model, "--kind", "samples")
    assert (done.code, done.err) == (
        2,
        f"error: samples are drawn as images, and {iris_model} rebuilds tables\n"
        f"hint: aecli decode {iris_model} --samples 10\n",
    )
