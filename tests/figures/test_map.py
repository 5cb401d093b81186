"""The page of --kind map: what is in it, and what it does in a real browser."""

import contextlib
import csv
import dataclasses
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from aecli import config
from aecli.data.opening import open_source
from aecli.data.part import Part
from aecli.data.sample import Sample
from aecli.data.source import ArraySource
from aecli.figures import map as latent_map
from aecli.inference import Model
from aecli.model import checkpoint
from aecli.model.module import Autoencoder, initialise
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
NASTY = ["<script>alert(1)</script>", "</script><b>bold</b>", "<!--", "=1+1", 'a,"b"']


def untrained(path, source, latent_dim=2, *, data=None, **shape):
    """Save a model with random weights for a source's rows, and load it."""
    rows = source.read().x
    schema = source.schema
    scaler = Scaler.fit("standard", Part(rows), schema)
    model, train = resolve(FitOptions(latent_dim=latent_dim), scaler.inputs, 100, bounded=scaler.bounded)
    model = dataclasses.replace(model, **shape)
    net = Autoencoder(model)
    initialise(net, model, "fan-in", torch.full((scaler.inputs,), 0.5), torch.Generator().manual_seed(0))
    results = config.Results(100, 10, 0.1, 0.1, 0.1)
    about = checkpoint.Checkpoint(model, train, schema, scaler.kind, data, results, config.History(), {})
    checkpoint.save(path, about, {name: tensor.numpy() for name, tensor in net.state_dict().items()}, scaler)
    return Model.load(path)


def images(rows, side=28):
    pixels = np.random.default_rng(0).integers(0, 256, (rows, side, side), dtype=np.uint8)
    return ArraySource("noise", pixels, np.arange(rows) % 10, image_shape=(side, side), full_scale=255.0, label="label")


def table(path, **reading):
    return open_source([str(path)], split="test", data_dir=Path(), **reading)


@pytest.fixture(scope="module")
def digits():
    """The digits' test rows, as a source."""
    return open_source(["digits"], split="test", data_dir=Path())


@pytest.fixture(scope="module")
def model(digits, tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("digits") / "digits.safetensors", digits, 5, data="digits")


# ---- what is in it ----


def test_a_map_is_a_page_named_after_its_model(run, model):
    done = run("plot", model.path, "--kind", "map", "--json")
    assert (done.code, done.err) == (0, "reading digits:test\nwrote digits-map.html\n")
    assert json.loads(done.out) == {"figure": "digits-map.html", "kind": "map", "rows": 360}
    first = Path("digits-map.html").read_bytes()
    assert first.startswith(b"<!doctype html>")
    for kind in ("map", "page"):  # two names of one kind
        assert run("plot", model.path, "digits", "--kind", kind, "-o", "again.html", "-q").code == 0
        assert Path("again.html").read_bytes() == first


@pytest.mark.parametrize(
    ("kind", "output", "error"),
    [
        ("map", "map.png", "error: map.png: the name of a page must end in .html\nhint: -o map.html\n"),
        (
            "latent",
            "map.html",
            "error: map.html: .html is for --kind page, and latent is a picture\nhint: --kind page\n",
        ),
    ],
)
def test_a_map_is_html_and_nothing_else_is(run, model, kind, output, error):
    done = run("plot", model.path, "digits", "--kind", kind, "-o", output)
    assert (done.code, done.out, done.err) == (2, "", error)


def test_ten_thousand_digits_take_less_than_12_mb(tmp_path, mnist):
    source = open_source(["mnist"], split="test", data_dir=mnist.parents[1])
    model = untrained(tmp_path / "m.safetensors", source, 64)
    page = latent_map.page(model, source)
    assert (page.rows, page.notes) == (10_000, ())
    assert len(page.html) < 12_000_000


def test_of_too_many_rows_a_sample_is_drawn_and_said(run, tmp_path):
    rows = np.random.default_rng(0).normal(size=(100_001, 22)).astype(np.float32)
    np.save("many.npy", rows)
    untrained(tmp_path / "m.safetensors", table("many.npy"))
    done = run("plot", "m.safetensors", "many.npy", "--kind", "map", "--json")
    assert json.loads(done.out)["rows"] == 100_000
    assert done.err == (
        "the map shows 100,000 of 100,001 rows, drawn at random\n"
        "the page holds the originals of 95,325 rows, drawn at random\n"
        "wrote m-map.html\n"
    )


@pytest.mark.parametrize("count", [0, 1, 7, 100, 1000])
def test_a_sample_is_of_different_rows_in_their_order(count):
    rng = np.random.default_rng(0)
    sample = Sample(max(1, count))
    for start in range(0, 300, 20):
        numbers = np.arange(start, start + 20)
        sample.add({"key": rng.random(20), "row": numbers, "x": numbers * 2})
    rows = sample.rows()
    assert len(rows["row"]) == min(300, max(1, count))
    assert (np.diff(rows["row"]) > 0).all()
    assert (rows["x"] == rows["row"] * 2).all()


def test_a_decoder_that_no_page_can_hold_is_refused(run, tmp_path, monkeypatch):
    untrained(tmp_path / "m.safetensors", images(20))
    monkeypatch.setattr(latent_map, "MAX_WEIGHTS", 1000)
    np.save("noise.npy", images(20).x.reshape(-1, 28, 28))
    done = run("plot", "m.safetensors", "noise.npy", "--kind", "map")
    assert (done.code, done.err) == (
        1,
        "error: m.safetensors: its decoder has 55,312 weights, and a page can hold up to 1,000\n"
        "hint: --kind latent -o codes.png draws the codes alone\n",
    )


def test_many_numbers_as_labels_are_cut_into_ranges():
    labels = np.array([*map(str, range(100)), ""], object)
    classes, of, ranged = latent_map._classified(labels)
    assert ranged
    assert classes[0] == "0 to 12.38"
    assert classes[7:] == ["86.62 to 99", "(no label)"]
    assert of.tolist() == [*(min(7, int(i / 12.375)) for i in range(100)), 8]


def test_errors_are_cut_into_ranges_of_equally_many_rows():
    names, of = latent_map._by_error(np.random.default_rng(0).lognormal(size=800))
    assert np.bincount(of).tolist() == [100] * 8
    assert len(names) == 8
    assert latent_map._by_error(np.full(3, 0.25))[0] == ["0.25"]


# ---- in a browser ----


class Page:
    """A page in the browser, and what a hand does with it."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, html, size=(1280, 800)):
        path = Path("page.html").resolve()
        path.write_bytes(html)
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        self.settle()
        return self

    def js(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def settle(self):
        """Wait for two frames: what was asked for is drawn."""
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).innerText", selector)

    def click(self, selector):
        self.js("document.querySelector(arguments[0]).click()", selector)
        self.settle()

    def choose(self, selector, value):
        code = "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(arguments[2])"
        code = code.replace("arguments[2]", "new Event(s.tagName === 'SELECT' ? 'change' : 'input')")
        self.js(code, selector, value)
        self.settle()

    def mouse(self, kind, place, **more):
        event = {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1} | more
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def hover(self, place):
        self.mouse("mouseMoved", place, button="none")
        self.settle()

    def drag(self, *places):
        self.mouse("mousePressed", places[0], buttons=1)
        for place in places[1:]:
            self.mouse("mouseMoved", place, buttons=1)
        self.mouse("mouseReleased", places[-1])
        self.settle()

    def key(self, key):
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.ID, "map").send_keys(key)
        self.settle()

    def place(self, row):
        return self.js("return aecli.place(arguments[0])", row)

    def places(self, rows):
        return np.array(self.js("return Array.from({length: arguments[0]}, (_, row) => aecli.place(row))", rows))

    def decoded(self, z):
        code = "return arguments[0].map((z) => Array.from(aecli.decode(z)))"
        return np.array(self.js(code, np.asarray(z, np.float64).tolist()))

    def pixels(self, tile):
        """Give the red of a tile's pixels."""
        code = """
            const c = document.querySelector(arguments[0]);
            const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
            return Array.from(data).filter((_, i) => i % 4 === 0)
        """
        return np.array(self.js(code, f"{tile} canvas"))

    def complaints(self):
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["source"] != "rendering"]  # those are about these tests


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    if not CHROMIUM.is_file() or shutil.which("chromedriver") is None:
        pytest.skip("there is no chromium with its chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver):
    page = Page(driver)
    yield page
    assert page.complaints() == []
    driver.get("about:blank")


@pytest.fixture
def digits_page(page, model, digits):
    return page.open(latent_map.page(model, digits).html)


def test_the_page_asks_for_nothing(digits_page):
    urls = digits_page.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [url for url in urls if not url.startswith("data:")] == []
    refused = digits_page.js(
        "try { await fetch('http://127.0.0.1:9/'); return 'fetched' } catch (error) { return error.name }"
    )
    assert refused == "TypeError"
    assert "Content Security Policy" in " ".join(digits_page.complaints())


def test_hover_shows_the_original_beside_its_reconstruction(digits_page, digits, model):
    batch = digits.read()
    recon, mse = model.reconstruct(batch.x), model.errors(batch.x)
    seen = 0
    for row in range(0, 360, 60):
        digits_page.hover(digits_page.place(row))
        name, label, error = digits_page.text("#row").split(" · ")
        shown = int(name.removeprefix("row ")) - 1
        seen += shown == row  # another may lie over it, and is then shown
        assert label == f"label {batch.labels[shown]}"
        assert float(error.removeprefix("mse ")) == pytest.approx(mse[shown], rel=0.005)
        assert np.abs(digits_page.pixels("#original") - np.rint(batch.x[shown] / 16 * 255)).max() == 0
        assert np.abs(digits_page.pixels("#rebuilt") - np.clip(recon[shown] / 16, 0, 1) * 255).max() < 0.51
    assert seen >= 4


CONVOLUTIONS = {"channels": (16, 32), "hidden_dims": (), "image_shape": (28, 28, 1)}


@pytest.mark.parametrize("channels", [(), (6, 3, 5)], ids=["dense", "convolutions"])
@pytest.mark.parametrize("activation", config.ACTIVATIONS)
def test_the_page_decodes_what_pytorch_does(page, tmp_path, activation, channels):
    source = images(12, side=29 if channels else 28)
    shape = dict.fromkeys(("activation", "latent_activation", "output_activation"), activation)
    shape |= {"channels": channels, "hidden_dims": (9,), "image_shape": (29, 29, 1)} if channels else {}
    model = untrained(tmp_path / "m.safetensors", source, 7, **shape)
    page.open(latent_map.page(model, source).html)
    z = np.random.default_rng(0).normal(scale=3, size=(8, 7)).astype(np.float32)
    net = Autoencoder(model.checkpoint.model)
    net.load_state_dict({name: torch.tensor(tensor) for name, tensor in checkpoint.load(model.path)[1].items()})
    with torch.inference_mode():
        expected = net.decode(torch.tensor(z)).numpy()
    assert np.abs(page.decoded(z) - expected).max() < 1e-4
    codes = np.array(page.js("return [0, 5, 11].map((row) => Array.from(aecli.code(row)))"), np.float32)
    assert np.array_equal(codes, model.embed(source.x)[[0, 5, 11]])


@pytest.mark.parametrize(
    ("shape", "latent_dim", "most"),
    [({"hidden_dims": (256, 128)}, 64, 4), ({"hidden_dims": (256, 128, 64, 10)}, 2, 4), (CONVOLUTIONS, 64, 8)],
    ids=["256,128", "256,128,64,10", "channels 16,32"],
)
def test_a_decode_takes_a_few_ms(page, tmp_path, shape, latent_dim, most):
    source = images(40)
    page.open(latent_map.page(untrained(tmp_path / "m.safetensors", source, latent_dim, **shape), source).html)
    code = """
        const times = [];
        for (let i = 0; i < 400; i++) {
            const start = performance.now();
            aecli.decode(aecli.code(i % 40));
            times.push(performance.now() - start);
        }
        return times.slice(200).sort((a, b) => a - b)[100]
    """
    assert page.js(code) <= most


def test_a_place_decodes_to_its_components_turned_back(digits_page, digits, model):
    z = model.embed(digits.read().x).astype(np.float64)
    mean = z.mean(axis=0)
    basis = np.linalg.svd(z - mean, full_matrices=False)[2][:2]
    basis *= np.sign(np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1))
    code_at = "return Array.from(aecli.codeAt(...arguments[0]))"
    digits_page.choose("#others", "mean")
    assert digits_page.js(code_at, [3, -2]) == pytest.approx(mean + 3 * basis[0] - 2 * basis[1], abs=1e-4)
    assert "held at the mean of all rows" in digits_page.text("#meaning")
    digits_page.choose("#others", "around")
    place = (z[17] - mean) @ basis.T
    assert digits_page.js(code_at, place.tolist()) == pytest.approx(z[17], abs=1e-2)
    digits_page.choose("#x-axis", "z4")
    digits_page.choose("#y-axis", "pc1")
    for others in ("mean", "around", "row"):
        digits_page.choose("#others", others)
        there = np.array(digits_page.js(code_at, [1.5, 2.5]))
        assert (there[4], (there - mean) @ basis[0]) == pytest.approx((1.5, 2.5), abs=1e-4)


def test_a_morph_goes_from_one_row_to_another(digits_page, digits, model):
    z = model.embed(digits.read().x)
    start, end = digits_page.place(40), digits_page.place(90)
    digits_page.click("#tools input[value=morph]")
    digits_page.drag(start, ((start[0] + end[0]) / 2, start[1]), end)
    a, b = digits_page.js("return [aecli.state.morph.from.row, aecli.state.morph.to.row]")
    recon = lambda code: np.clip(model.decode(code[None])[0] / 16, 0, 1) * 255  # noqa: E731
    for along in (0, 0.25, 1):
        digits_page.choose("#along", along)
        assert np.abs(digits_page.pixels("#here") - recon(z[a] + along * (z[b] - z[a]))).max() < 0.6
    assert digits_page.js("return document.querySelectorAll('#frames canvas').length") == 9


def test_the_whole_plane_can_be_decoded_behind_the_points(page, tmp_path):
    source = images(600)
    page.open(latent_map.page(untrained(tmp_path / "m.safetensors", source), source).html)
    drawn = """
        const canvas = document.querySelector("#points");
        const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 100, 800, 500).data.buffer);
        return pixels.filter((pixel) => pixel !== pixels[0]).length / pixels.length
    """
    page.click("#none")
    page.click("#backdrop")
    assert page.js(drawn) < 0.01  # ticks
    page.click("#backdrop")
    for _ in range(100):
        if page.js(drawn) > 0.2:
            return
        page.settle()
    raise AssertionError("the plane stayed empty")


def test_what_is_decoded_far_from_all_rows_is_faint(page, tmp_path):
    source = images(40)
    about, tensors, scaler = checkpoint.load(untrained(tmp_path / "m.safetensors", source).path)
    decoder = sorted(name for name in tensors if name.startswith("decoder"))
    tensors |= {name: np.zeros_like(tensors[name]) for name in decoder}
    tensors[decoder[-1].replace("weight", "bias")] = np.linspace(0, 1, 784, dtype=np.float32)  # one image everywhere
    checkpoint.save(tmp_path / "m.safetensors", about, tensors, scaler)
    page.open(latent_map.page(Model.load(tmp_path / "m.safetensors"), source).html)
    page.click("#none")  # points would hide it
    for _ in range(3):
        page.click("#zoom-out")
    for _ in range(40):
        page.settle()
    darkest = """
        const { data } = document.querySelector("#points").getContext("2d").getImageData(...arguments[0], 60, 60);
        return data.reduce((least, value) => Math.min(least, value), 255)
    """
    left, top = page.js("const b = document.querySelector('#map').getBoundingClientRect(); return [b.left, b.top]")
    middle = np.median(page.places(40), axis=0) - [left, top]
    amid, far = 255 - page.js(darkest, (middle - 30).tolist()), 255 - page.js(darkest, [100, 100])
    assert 2 * far < amid
    assert far > 1  # and it is there


def test_legend_and_search_filter_and_the_lasso_selects_what_is_shown(digits_page, digits, model, tmp_path):
    batch = digits.read()
    digits_page.click("[aria-label='Show only 3']")
    threes = int((batch.labels == 3).sum())
    assert digits_page.text("#shown") == f"{threes} of 360 rows shown"
    digits_page.click("#all")
    digits_page.choose("#search", "7")
    sevens = int((batch.labels == 7).sum())
    assert digits_page.text("#shown") == f"{sevens} of 360 rows shown"
    digits_page.choose("#search", "")
    digits_page.click("[aria-label='Show only 3']")
    places = digits_page.places(360)
    across = np.sort(places[batch.labels == 3, 0])[5:-5]
    widest = np.diff(across).argmax()
    middle = float(across[widest : widest + 2].mean())
    digits_page.click("#tools input[value=lasso]")
    digits_page.drag((middle, 80), (middle, 780), (30, 780), (30, 80))
    expected = np.flatnonzero((batch.labels == 3) & (places[:, 0] < middle))
    assert len(expected) > 5
    assert digits_page.text("#selected").startswith(f"{len(expected)} rows, ")
    found = downloaded(digits_page, tmp_path)
    assert [int(row["row"]) - 1 for row in found] == expected.tolist()
    assert {row["label"] for row in found} == {"3"}
    z = model.embed(batch.x)[expected]
    assert np.array_equal(np.array([[row[f"z{k}"] for k in range(5)] for row in found], np.float32), z)


def downloaded(page, folder):
    """Press the button, and read the file that it leaves."""
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    page.click("#download")
    for _ in range(100):
        with contextlib.suppress(StopIteration):
            path = next(folder.glob("*-selection.csv"))
            return list(csv.DictReader(path.read_text().splitlines()))
        time.sleep(0.05)
    raise AssertionError("no file came down")


def test_what_comes_from_files_stays_text(page, tmp_path):
    name = "<img src=x onerror=alert(2)>"
    with Path("<b>rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [[name, "x</script>", "mse", "label"]] + [[i, i * i, -i, NASTY[i % 5]] for i in range(20)]
        )
    source = table("<b>rows.csv")
    model = untrained(tmp_path / "<i>m.safetensors", source)
    page.open(latent_map.page(model, table("<b>rows.csv")).html)
    names = page.js("return [...document.querySelectorAll('#legend .name')].map((name) => name.textContent)")
    assert names == sorted(NASTY)
    assert page.js("return document.title") == "<i>m.safetensors: <b>rows.csv"
    assert page.text("#title") == "<i>m.safetensors"
    assert page.text("#values tbody tr").startswith(name)
    page.click("#take-view")
    found = downloaded(page, tmp_path)
    assert list(found[0]) == ["row", "label", "mse", "z0", "z1", name, "x</script>", "mse_"]
    assert [row["label"] for row in found] == [NASTY[i % 5] for i in range(20)]
    assert [row["mse_"] for row in found] == [str(-i) for i in range(20)]


def test_a_tables_row_is_shown_as_its_columns_have_it(page, tmp_path):
    lines = [f"{i / 10},{'true' if i % 2 else 'false'},2024-01-{i + 1:02},{'xyz'[i % 3]}" for i in range(20)]
    Path("rows.csv").write_text("\n".join(["size,on,day,kind", *lines]) + "\n")
    from aecli.options import Columns

    source = table("rows.csv", columns=Columns(categorical=("kind",), features=("*",)))
    model = untrained(tmp_path / "m.safetensors", source)
    page.open(latent_map.page(model, table("rows.csv", schema=model.schema)).html)
    assert page.js("return document.querySelector('#colour').selectedOptions[0].textContent") == "error (mse)"
    page.key("\ue00f")  # Page Down: the second row
    cells = "return [...document.querySelectorAll('#values tbody td:nth-child(3)')].map((cell) => cell.textContent)"
    assert page.js(cells) == ["0.1", "true", "2024-01-02", "y"]
    z = model.embed(table("rows.csv", schema=model.schema).read().x)[:3].astype(np.float64)
    raw = page.js("return arguments[0].map((z) => Array.from(aecli.raw(aecli.decode(z))))", z.tolist())
    expected = model.decode(z)
    assert np.abs(np.array(raw)[:, :2] - expected[:, :2]).max() < 1e-4
    assert np.abs(np.array(raw)[:, 2] - expected[:, 2]).max() < 1e-4 * float(model.scaler.scale[2])
    assert np.array_equal(np.array(raw)[:, 3], expected[:, 3])
    page.click("#take-view")
    assert [row["day"] for row in downloaded(page, tmp_path)] == [f"2024-01-{i + 1:02}" for i in range(20)]


def test_the_keys_do_what_the_pointer_does_and_say_it(digits_page):
    state = "return aecli.state[arguments[0]]"
    before = digits_page.js(state, "at")
    digits_page.key("\ue014")  # right
    after = digits_page.js(state, "at")
    assert after[0] > before[0]
    assert after[1] == before[1]
    digits_page.key("\ue00f")  # Page Down
    row = digits_page.js(state, "pinned")
    assert digits_page.text("#row").startswith(f"row {row + 1} · label ")
    time.sleep(0.3)
    assert digits_page.text("#live") == f"selected {digits_page.text('#row')}"
    digits_page.key("a")
    for _ in range(3):
        digits_page.key("\ue00f")
    digits_page.key("b")
    assert digits_page.js("return [aecli.state.morph.from.row, aecli.state.morph.to.row]") == [row, row + 3]
    digits_page.key("\ue00c")  # Escape
    assert digits_page.js(state, "morph") is None
    unnamed = """
        return [...document.querySelectorAll("button, select, input, [tabindex]")]
            .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim())).length
    """
    assert digits_page.js(unnamed) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_light_or_dark_as_the_system_is_until_told_otherwise(page, model, digits, scheme):
    def ground():
        return max(
            page.js("return [...document.querySelector('#points').getContext('2d').getImageData(2, 2, 1, 1).data]")[:3]
        )

    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce" if scheme == "dark" else "no-preference"},
    ]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.open(latent_map.page(model, digits).html)
    assert (ground() > 128) == (scheme == "light")
    assert page.js("return document.querySelector('#play').hidden") == (scheme == "dark")
    page.click("#theme")
    assert (ground() > 128) == (scheme == "dark")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_points_are_coloured_by_any_column_that_is_kept_and_by_the_error(page, run, iris_model, iris_csv):
    lines = iris_csv.read_text().splitlines()
    more = [f"s{i % 3},{i},{line}" for i, line in enumerate(lines[1:])]
    Path("sites.csv").write_text("\n".join([f"site,mse,{lines[0]}", *more]) + "\n")
    done = run("plot", iris_model, "sites.csv", "--kind", "map", "--keep", "mse", "--colour", "site", "-o", "map.html")
    assert done.code == 0, done.err
    page.open(Path("map.html").read_bytes())
    offered = "return [...document.querySelectorAll('#colour option')].map((option) => option.textContent)"
    assert page.js(offered) == ["species", "mse", "site", "error (mse)", "score (nats)"]
    legend = "return [...document.querySelectorAll('#legend .name')].map((name) => name.textContent)"
    colour = "return [...document.querySelector('#points').getContext('2d').getImageData(...arguments[0], 1, 1).data]"

    def drawn_at(row):
        left, top = page.js("const b = document.querySelector('#map').getBoundingClientRect(); return [b.left, b.top]")
        x, y = page.place(row)
        return page.js(colour, [round(x - left), round(y - top)])[:3]

    assert page.js(legend) == ["s0", "s1", "s2"]
    by_site = drawn_at(0)
    page.choose("#colour", "0")
    assert page.js(legend) == ["setosa", "versicolor", "virginica"]
    page.click("[aria-label='Show only setosa']")
    assert page.text("#shown") == "50 of 150 rows shown"
    page.choose("#colour", "3")
    assert page.text("#shown") == ""
    assert len(page.js(legend)) == 8
    assert drawn_at(0) != by_site
    page.choose("#colour", "1")
    assert page.js(legend)[0] == "0 to 18.62"
    assert page.text("#row").endswith("mse 0 · site s0")


def test_anomalies_are_outlined_and_a_row_has_its_score(page, run, digits, digits_model):
    x, broken = digits.read().x.reshape(-1, 8, 8).copy(), [3, 50, 120, 200, 301]
    x[broken] = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    np.save("broken.npy", x)
    assert run("plot", digits_model, "broken.npy", "--kind", "page", "-o", "map.html").code == 0
    page.open(Path("map.html").read_bytes())
    model = Model.load(digits_model)
    scores = model.score(x)
    p = model.scoring.p(scores)
    strange = np.flatnonzero(p <= 0.01)
    assert set(broken) <= set(strange)
    assert page.text("#strange") == f"Outlined: {len(strange)} of 360 rows, whose p is at most 0.01."
    page.choose("#colour", "1")
    legend = "return [...document.querySelectorAll('#legend label')].map((label) => label.innerText.split('\\n'))"
    *usual, (name, count) = page.js(legend)
    assert (name, count) == (f"{model.scoring.threshold:.3g} and more: p ≤ 0.01", str(len(strange)))
    assert sum(int(count) for _, count in usual) == 360 - len(strange)
    for row in broken:
        page.hover(page.place(row))
        shown, _, score = page.text("#row").split(" · ")
        if shown != f"row {row + 1}":  # another may lie over it, and is then shown
            continue
        found, found_p = score.removeprefix("score ").removesuffix(")").split(" (p ")
        assert (float(found), float(found_p)) == pytest.approx((scores[row], p[row]), rel=0.005)
    page.hover((30, 400))
    left, top = page.js("const b = document.querySelector('#map').getBoundingClientRect(); return [b.left, b.top]")
    darkest = """
        const [x, y] = arguments[0];
        const { data } = document.querySelector("#points").getContext("2d").getImageData(x - 8, y - 8, 17, 17);
        return Math.min(...Array.from({ length: 289 }, (_, i) => data[4 * i] + data[4 * i + 1] + data[4 * i + 2]))
    """
    page.click("#legend li:last-child button")  # only the anomalies
    for row in strange.tolist():
        x, y = page.place(row)
        assert page.js(darkest, [round(x - left), round(y - top)]) < 300
    page.click("#take-view")
    columns = page.js("return aecli.csv()").split("\n")[0].split(",")
    assert columns[:3] == ["row", "mse", "score"]
    lines = list(csv.DictReader(page.js("return aecli.csv()").splitlines()))
    assert [int(line["row"]) - 1 for line in lines] == strange.tolist()
    assert [float(line["score"]) for line in lines] == pytest.approx(scores[strange], rel=1e-6)
    assert [float(line["p"]) for line in lines] == pytest.approx(p[strange], rel=1e-6)


def test_a_column_of_another_table_colours_the_page_under_a_name_of_its_own(page, run, iris_model, iris_csv):
    Path("beside.csv").write_text("species\n" + "".join(f"{'ab'[i % 2]}\n" for i in range(150)))
    run("plot", iris_model, iris_csv, "--kind", "map", "--colour", "beside.csv:species", "-o", "map.html")
    page.open(Path("map.html").read_bytes())
    chosen = "return document.querySelector('#colour').selectedOptions[0].textContent"
    assert page.js(chosen) == "beside.csv:species"
    assert page.js("return [...document.querySelectorAll('#legend .name')].map((n) => n.textContent)") == ["a", "b"]


def test_a_long_path_keeps_its_end(page, run):
    from PIL import Image

    folder = Path("a/very/long/way/to/the/place/where/all/pictures/lie")
    for kind in ("cats", "dogs"):
        (folder / kind).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(folder / kind / f"000{i}.png")
    assert run("train", folder, "--epochs", "1", "-q", "-o", "m.safetensors").code == 0
    assert run("plot", "m.safetensors", folder, "--kind", "map", "-o", "map.html").code == 0
    page.open(Path("map.html").read_bytes())
    assert page.text("#row").endswith(" · …/cats/0000.png")
    assert page.js("return document.querySelector('#row').title").endswith(f" · {folder}/cats/0000.png")
    page.click("#take-view")
    assert f",{folder}/cats/0000.png," in page.js("return aecli.csv()")


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_few_rows_and_values_make_a_page_too(page, tmp_path, rows, latent_dim):
    Path("rows.csv").write_text("a,b,c,d\n" + "1,2,3,4\n5,6,7,9\n4,4,1,0\n"[: 8 * rows])
    source = table("rows.csv")
    model = untrained(tmp_path / "m.safetensors", source, latent_dim)
    page.open(latent_map.page(model, table("rows.csv")).html, size=(390, 844))
    page.hover((150, 300))
    assert "row " in page.text("#row")
    assert page.js("return document.documentElement.scrollWidth") <= 390


def test_the_page_wears_the_figures_palette():
    from aecli.figures import style

    css = (Path(latent_map.__file__).parent / "page" / "page.css").read_text()
    assert all(f"--class-{i}: light-dark({colour}," in css for i, colour in enumerate(style.PALETTE))
