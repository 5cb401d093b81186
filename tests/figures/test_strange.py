"""Pictures of strange rows: one, equal ones, labels of all sorts. Each is drawn, and nothing foreign is said.

A warning of NumPy, matplotlib or Pillow is an error in these tests.
"""

from pathlib import Path

import numpy as np
import pytest

import aecli

ONE = "the picture is one dot: there is one row\n"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)).round(4)
ROWS = {
    "one row": (X[:1], ["a"]),
    "two rows": (X[:2], ["a", "b"]),
    "equal rows": (np.ones((20, 4)), ["a"] * 20),
    "a single label": (X, ["a"] * 300),
    "no label": (X, [""] * 300),
    "some without a label": (X, ["" if i % 4 == 0 else f"k{i % 3}" for i in range(300)]),
    "numbers, some missing": (X, ["" if i % 4 == 0 else i / 7 for i in range(300)]),
    "200 classes": (X, [f"class {i % 200}" for i in range(300)]),
    "long names": (X, [f"a name of a class that is so long that nobody reads it: {i % 5}" for i in range(300)]),
}
IMAGES = {
    "one image": RNG.integers(0, 256, (1, 12, 12)).astype(np.uint8),
    "equal images": np.full((30, 12, 12), 7, np.uint8),
    "black images": np.zeros((30, 12, 12), np.uint8),
    "white images of floats": np.full((30, 12, 12), 255, np.float32),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of the table and of images, trained for an epoch."""
    folder = tmp_path_factory.mktemp("models")
    options = {"epochs": 1, "latent_dim": 3, "device": "cpu"}
    made = {"rows": X, "images": RNG.integers(0, 256, (80, 12, 12)).astype(np.uint8)}
    made["pixels"] = RNG.integers(0, 256, (50, 1, 1, 3)).astype(np.uint8)
    for name, rows in made.items():
        pixels = {"latent_dim": 2, "image_shape": (1, 1, 3)} if name == "pixels" else {}
        aecli.fit(rows, **options | pixels).save(folder / f"{name}.safetensors")
    return folder


def draw(run, model, data, kind, said=""):
    """Draw a picture as a file and in the terminal: both say nothing but `said` and what they wrote."""
    done = run("plot", model, data, "--kind", kind, "--dpi", "60", "-o", "p.png")
    assert (done.code, done.out, done.err) == (0, "", f"{said}wrote p.png\n")
    done = run("plot", model, data, "--kind", kind, "--show", "-q")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip()


@pytest.mark.parametrize("kind", ["latent", "errors", "reconstruction", "traversal"])
@pytest.mark.parametrize("rows", ROWS)
def test_strange_rows_are_drawn(run, models, rows, kind):
    x, labels = ROWS[rows]
    lines = [",".join([*map(str, row), str(label)]) for row, label in zip(x.tolist(), labels, strict=True)]
    Path("rows.csv").write_text("\n".join(["x0,x1,x2,x3,label", *lines]) + "\n")
    draw(run, models / "rows.safetensors", "rows.csv", kind, ONE if (rows, kind) == ("one row", "latent") else "")


@pytest.mark.parametrize("kind", ["latent", "errors", "reconstruction", "traversal", "manifold"])
@pytest.mark.parametrize("images", IMAGES)
def test_strange_images_are_drawn(run, models, images, kind):
    np.save("x.npy", IMAGES[images])
    draw(run, models / "images.safetensors", "x.npy", kind, ONE if (images, kind) == ("one image", "latent") else "")


@pytest.mark.parametrize("kind", ["latent", "errors", "reconstruction", "traversal", "manifold"])
def test_images_of_one_pixel_are_drawn(run, models, kind):
    np.save("x.npy", RNG.integers(0, 256, (20, 1, 1, 3)).astype(np.uint8))
    draw(run, models / "pixels.safetensors", "x.npy", kind)
