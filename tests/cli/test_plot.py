import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", ["latent", "reconstruction", "history"])
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
    assert all(f"<!-- {digit} -->" in text for digit in range(10))
    assert "principal component 1" in text


def test_originals_stand_above_their_reconstructions(run, digits_model):
    assert (
        run("plot", digits_model, "digits", "--kind", "reconstruction", "--examples", "4", "-o", "four.png").code == 0
    )
    assert run("plot", digits_model, "digits", "--kind", "reconstruction", "-o", "ten.png").code == 0
    four, ten = (np.asarray(Image.open(name).convert("L")) for name in ("four.png", "ten.png"))
    assert (ten < 128).mean() > 0.3  # dark grounds
    assert four.shape[0] > ten.shape[0]


def test_tables_are_drawn_too(run, iris_model, iris_csv):
    for kind in ("latent", "reconstruction", "history"):
        assert run("plot", iris_model, iris_csv, "--kind", kind, "-o", f"{kind}.svg").code == 0
    text = Path("latent.svg").read_text()
    assert "<!-- setosa -->" in text
    assert "<!-- petal length (cm) -->" in Path("reconstruction.svg").read_text()


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


@pytest.mark.parametrize(
    "labels", [["a$b", "$x$"], [str(i) for i in range(30)], [f"name {i}" for i in range(30)]], ids=len
)
def test_any_labels_can_be_drawn(labels):
    from aecli.figures.latent import latent

    z = np.random.default_rng(0).normal(size=(60, 2))
    latent(z, np.array(labels)[np.arange(60) % len(labels)]).savefig("picture.png")


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 70_000])
def test_any_number_of_rows_and_values_can_be_drawn(width, rows):
    from aecli.figures.latent import latent

    latent(np.random.default_rng(0).normal(size=(rows, width)), None).savefig("picture.png")
