"""Every kind of figure, on awkward data: nothing overlaps, nothing is cut off, text is text."""

import dataclasses
import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from aecli import figures
from aecli.config import History
from aecli.data.source import Batch
from aecli.figures import reconstruction, terminal, traversal
from aecli.figures.errors import errors, scores
from aecli.figures.examples import Examples, Strangest
from aecli.figures.history import history
from aecli.figures.labels import classes, groups, numbers
from aecli.figures.latent import latent, shade
from aecli.figures.manifold import manifold
from aecli.figures.principal import principal
from aecli.figures.style import Look
from aecli.inference import Rebuilt, Scored
from aecli.scoring import Score

RNG = np.random.default_rng(0)
LABELS = {
    "ten": [str(i) for i in range(10)],
    "twenty": [f"kind {i}" for i in range(20)],
    "thirty": [f"kind {i}" for i in range(30)],
    "numbers": [str(i / 7) for i in range(30)],
    "long": [f"a name that goes on for very much longer than anyone would like, {i}" for i in range(4)],
    "odd": ["$x$", "a$b", "<b>&amp;", "naïve", "\x00\n\x1b[31m", "", "_^{}\\"],
    "dates": [f"2024-{i // 28 + 1:02}-{i % 28 + 1:02}" for i in range(90)],
    "holes": [1.0, 2.0, float("nan")],
}


def labels_of(name, rows):
    return np.array(LABELS[name], dtype=None)[np.arange(rows) % len(LABELS[name])]


def decode(z):
    return np.repeat(np.tanh(z[:, :1]), 64, axis=1)


def strangest_of(scored, height, width):
    """Return the strangest eight of images of noise."""
    x, found = RNG.random((len(scored), height * width)), Strangest(8, (height, width))
    found.add(Scored(Batch(x), x, x, scored, x, score=scored, p=scored))
    return found


SCORE = Score(
    *[np.zeros(1)] * 5,
    0.0,
    *[np.zeros(1)] * 2,
    calibration=np.linspace(0, 7, 300, dtype=np.float32),
    mean=np.zeros(1),
    spread=np.zeros(1),
    low=np.zeros(1),
    high=np.zeros(1),
)
IMAGES = RNG.random((10, 8, 8))
LONG_NAMES = [f"a column with a name of considerable length, in units of {i}" for i in range(30)]
DRAWN = {
    **{
        f"latent of {name} labels": lambda look, name=name: latent(
            np.random.default_rng(1).normal(size=(300, 2)), labels_of(name, 300), look
        )
        for name in LABELS
    },
    **{
        f"errors of {name} labels": lambda look, name=name: errors(
            np.random.default_rng(1).lognormal(size=300), labels_of(name, 300), look
        )
        for name in LABELS
    },
    "latent without labels": lambda look: latent(RNG.normal(size=(200, 9)), None, look),
    "latent of one value": lambda look: latent(RNG.normal(size=(200, 1)), None, look),
    "latent of three rows": lambda look: latent(RNG.normal(size=(3, 4)), labels_of("ten", 3), look),
    "latent of 70,000 rows": lambda look: latent(RNG.normal(size=(70_000, 2)), labels_of("ten", 70_000), look),
    "latent of long-named numbers": lambda look: latent(
        RNG.normal(size=(200, 2)), np.arange(200.0), look, name=LONG_NAMES[0]
    ),
    "latent of equal rows": lambda look: latent(np.ones((5, 3)), None, look),
    **{
        f"scores of {name} labels": lambda look, name=name: scores(
            np.random.default_rng(1).exponential(size=300) * 3, SCORE, labels_of(name, 300), look
        )
        for name in LABELS
    },
    **{
        f"scores of images of {wide} by {high}": lambda look, shape=(high, wide), labels=labels: scores(
            RNG.exponential(size=300),
            SCORE,
            labels,
            look,
            strangest=strangest_of(RNG.exponential(size=9) * 1e5, *shape),
        )
        for wide, high, labels in ((8, 8, labels_of("ten", 300)), (9, 4, None), (8, 12, None))
    },
    "scores without labels": lambda look: scores(RNG.exponential(size=500), SCORE, None, look),
    "scores of one row": lambda look: scores(np.array([1e9]), SCORE, None, look),
    "errors without labels": lambda look: errors(RNG.lognormal(size=500), None, look),
    "errors of one row": lambda look: errors(np.array([0.1]), None, look),
    "errors of a narrow range": lambda look: errors(
        RNG.uniform(0.0351, 0.0642, 300), None, dataclasses.replace(look, size=(3.4, 2.6))
    ),
    "errors of zero": lambda look: errors(np.array([0.0, 0.0, 0.1]), None, look),
    "history": lambda look: history(History((0.5, 0.1, 0.02), (0.6, 0.2, 0.1), (0.6, 0.3, 0.09)), 0.2, look),
    "history of one epoch": lambda look: history(History((0.5,)), None, look),
    "history of little change": lambda look: history(History((0.05, 0.0499), (), (0.0501, 0.0498)), None, look),
    "images": lambda look: reconstruction.images(IMAGES, IMAGES, np.full(10, 0.00012), (0, 1), look),
    "one image in colour": lambda look: reconstruction.images(
        RNG.random((1, 30, 20, 3)), RNG.random((1, 30, 20, 3)), np.array([0.5]), (0, 1), look
    ),
    "25 images": lambda look: reconstruction.images(
        np.tile(IMAGES, (3, 1, 1))[:25], np.tile(IMAGES, (3, 1, 1))[:25], np.linspace(1e-5, 3, 25), (0, 1), look
    ),
    "images of two origins": lambda look: reconstruction.images(
        IMAGES, IMAGES, np.full(10, 0.00012), (0, 1), look, (("held out", 3), ("training", 7))
    ),
    "columns": lambda look: reconstruction.columns(np.append(np.linspace(-3, 1, 29), np.nan), LONG_NAMES, look),
    "manifold of many values": lambda look: manifold(RNG.normal(size=(90, 20)), decode, (8, 8), (-1, 1), look),
    "manifold": lambda look: manifold(RNG.normal(size=(90, 2)) * 100, decode, (8, 8), (-1, 1), look),
    "traversal of images": lambda look: traversal.images(RNG.normal(size=(90, 64)), decode, (8, 8), (-1, 1), look),
    "traversal of a table": lambda look: traversal.columns(
        RNG.normal(size=(90, 5)), lambda z: decode(z)[:, :30], LONG_NAMES, look
    ),
}
LOOKS = {
    "light": Look(),
    "titled": Look(
        "dark", (6, 5), "A title that is rather too long for a single line of a picture this wide, so it goes on"
    ),
}


@pytest.fixture
def texts(monkeypatch):
    """Gather what text a figure draws."""
    drawn = {}
    draw = Text.draw

    def recorded(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            drawn[id(self)] = self
        draw(self, renderer, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", recorded)
    return drawn


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", DRAWN)
def test_no_text_overlaps_another_or_is_cut_off(texts, kind, look):
    figure = DRAWN[kind](LOOKS[look])
    figures.save(figure, io.BytesIO(), "png", dpi=100)
    texts.clear()
    figure.set_dpi(100)
    FigureCanvasAgg(figure).draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts.values()]
    assert boxes
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (text, box)  # noqa: PT018
    for (text, box), (other, beside) in combinations(boxes, 2):
        across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        down = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert across <= 1 or down <= 1.5, (text, other)
    for legend in figure.legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().padded(-1).overlaps(axes.get_window_extent().padded(-1))


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize(("window", "colour"), [((40, 12), False), ((80, 22), True)], ids=["no colour", "colour"])
def test_a_terminal_gets_as_many_cells_as_it_has(kind, window, colour):
    if kind in {"images", "images of two origins", "one image in colour", "25 images"}:
        return  # how many fit is asked before: see `fitting`
    look = Look("dark", window=window)
    cells = terminal.draw(DRAWN[kind](look), look, colour=colour)
    assert len(cells) == window[1]
    assert {len(line) for line in cells} == {window[0]}
    assert any(cell.text.strip() for line in cells for cell in line)


def test_a_terminal_has_each_pixel_of_an_image_as_a_dot():
    look = Look("dark", window=(80, 22))
    assert reconstruction.fitting((8, 8), 10, look) == 10
    cells = terminal.draw(reconstruction.images(IMAGES, IMAGES, np.full(10, 0.5), (0, 1), look), look, colour=True)
    first = np.array([[cell.colour[0] for cell in line[9:17]] for line in cells[:4]])
    assert np.abs(first - (IMAGES[0, ::2] * 255).round()).max() <= 1
    assert "".join(cell.text for cell in cells[2][:9]).strip() in {"original", ""}


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_70000_rows_take_little_and_equal_figures_give_equal_bytes(form):
    z, labels = np.random.default_rng(1).normal(size=(70_000, 2)), labels_of("ten", 70_000)
    files = [io.BytesIO() for _ in range(2)]
    for file in files:
        figures.save(latent(z, labels, Look()), file, form)
    assert files[0].getvalue() == files[1].getvalue()
    assert len(files[0].getvalue()) < 1_000_000


def test_text_of_an_svg_is_text_escaped():
    file = io.BytesIO()
    figures.save(latent(RNG.normal(size=(70, 2)), labels_of("odd", 70), Look()), file, "svg")
    text = file.getvalue().decode()
    for shown in ("$x$", "&lt;b&gt;&amp;amp;", "naïve", "\\x00\\x0a\\x1b[31m"):
        assert f">{shown}</text>" in text


def test_labels_are_sorted_into_at_most_20_classes():
    found = classes(labels_of("thirty", 300))
    assert len(found.names) == 20
    assert found.names[:2] == ["kind 0", "kind 1"]
    assert found.names[-1] == "11 others"
    assert (found.of == 19).sum() == 110
    assert classes(np.array(["10", "9", "10"])).names == ["9", "10"]
    assert classes(np.arange(21)) is None
    assert classes(np.array([1.0, np.nan])).names == ["1", "(no label)"]


def test_a_place_has_the_colour_of_the_rows_that_fall_on_it():
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    place = np.array([0, 0, 0, 0, 2])
    shaded = shade(place, np.array([red, red, red, blue, blue]), 3, weakest=0.5)
    assert shaded[0, 0] == pytest.approx(0.9)
    assert shaded[1, 3] == 0
    assert shaded[2].tolist() == [0, 0, 1, 0.5]
    assert shaded[0, 3] > shaded[2, 3]


def test_rows_that_the_legend_does_not_name_lie_beneath_the_others():
    grey, red = (0.5, 0.5, 0.5), (1.0, 0.0, 0.0)
    place, beneath = np.array([0, 0, 0, 1]), np.array([True, True, False, True])
    shaded = shade(place, np.array([grey, grey, red, grey]), 2, weakest=0.5, beneath=beneath)
    assert shaded[:, :3] == pytest.approx(np.array([red, grey]), abs=1e-9)
    labels = np.array([f"kind {i % 19}" for i in range(190)] + [f"rare {i}" for i in range(60)])
    axes = latent(np.random.default_rng(0).normal(size=(250, 2)), labels, Look()).axes[0]
    assert [len(drawn.get_offsets()) for drawn in axes.collections] == [60, 100, 90]
    assert Look().colours.faint in {to_hex(colour) for colour in axes.collections[0].get_facecolors()[:, :3]}


def test_the_principal_directions_are_those_of_the_singular_value_decomposition():
    z = np.random.default_rng(0).normal(size=(500, 4)) * [1, 5, 3, 0.001] + 7
    found = principal(z, 3)
    _, values, vectors = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    assert np.abs((found.directions * vectors[:3]).sum(axis=1)) == pytest.approx(1)
    assert found.shares == pytest.approx(values[:3] ** 2 / (values**2).sum())
    assert (np.take_along_axis(found.directions, np.abs(found.directions).argmax(axis=1)[:, None], axis=1) > 0).all()
    assert [found.name(i) for i in range(3)] == ["PC 1 (68%)", "PC 2 (29%)", "PC 3 (3%)"]


def test_a_sweep_goes_along_one_direction_at_a_time():
    z = np.random.default_rng(0).normal(size=(500, 4)) * [1, 5, 3, 0]
    found = traversal.directions(z)
    assert len(found.shares) == 3  # along the fourth, the codes do not differ
    codes, ends = traversal.sweep(z, found, 2, 7)
    assert codes.shape == (2, 7, 4)
    projected = found.project(z, 3)
    for i in range(2):
        along = found.project(codes[i], 3)
        assert along[[0, -1], i] == pytest.approx(np.quantile(projected[:, i], [0.01, 0.99]), rel=1e-4)
        assert np.delete(along, i, axis=1) == pytest.approx(0, abs=1e-5)
        assert ends[i] == pytest.approx(np.quantile(projected[:, i], [0.01, 0.99]))


def test_equal_codes_have_one_direction():
    equal = np.ones((5, 3), np.float32) + np.arange(5, dtype=np.float32)[:, None] * 1e-7  # but for rounding
    found = traversal.directions(equal)
    assert found.shares.tolist() == [0]
    assert found.project(equal, 1).tolist() == [[0]] * 5
    assert "the codes of all rows are equal" in texts_of(traversal.images(equal, decode, (8, 8), (-1, 1), Look()))


def test_a_manifold_of_many_values_lies_on_the_plane_of_the_first_two_components():
    z = np.random.default_rng(0).normal(size=(500, 5)) * [1, 5, 3, 1, 1]
    asked = []

    def noted(codes):
        asked.append(codes)
        return decode(codes)

    figure = manifold(z, noted, (8, 8), (-1, 1), Look())
    found = principal(z, 5)
    along = found.project(asked[0], 5)
    assert along[:, 2:] == pytest.approx(0, abs=1e-4)
    assert along[:, 0].max() == pytest.approx(np.quantile(found.project(z, 1), 0.98), rel=1e-4)
    assert figure.axes[0].get_xlabel().startswith("PC 1 (")


def texts_of(figure):
    """Return all that is written in a figure."""
    return [text.get_text() for text in figure.findobj(Text)]


def test_a_history_marks_the_epoch_whose_weights_were_kept():
    stopped = history(History((0.5, 0.1, 0.02), (0.6, 0.1, 0.2), (0.6, 0.3, 0.09)), None, Look())
    assert "weights of epoch 2" in texts_of(stopped)
    assert [line.get_xydata().tolist() for line in stopped.axes[0].lines if len(line.get_xdata()) == 1] == [[[2, 0.1]]]
    assert not any("weights" in text for text in texts_of(history(History((0.5, 0.1)), None, Look())))


def test_what_colours_is_called_by_its_name():
    z, numbers = RNG.normal(size=(100, 2)), np.arange(100.0)
    figure = latent(z, numbers, Look(), name="wind")
    assert figure.axes[1].get_title("left") == "wind"
    figure = errors(RNG.lognormal(size=100), labels_of("ten", 100), Look(), name="site")
    assert "median of each site" in texts_of(figure)


def examples_of(mse, labels, count, *, held_out=None, batch=1000, columns=4):
    """Return the numbers of the rows that are chosen, and where they come from."""
    x = np.repeat(np.arange(len(mse))[:, None], columns, axis=1)
    chooser = Examples(count)
    for first in range(0, len(mse), batch):
        rows = slice(first, first + batch)
        told = None if labels is None else labels[rows]
        out = Rebuilt(Batch(x[rows], told), x[rows], x[rows], mse[rows], x[rows])
        chooser.add(out, None if held_out is None else held_out[rows])
    chosen = chooser.chosen()
    return chosen.x[:, 0].tolist(), chosen.origins


def test_examples_are_of_all_labels_and_all_errors_in_whatever_batches_they_come():
    rng = np.random.default_rng(0)
    mse, labels = (
        rng.lognormal(size=5000),
        rng.permutation(np.arange(5000) ** 2 // 2_500_001),
    )  # 10 labels, the last rare
    chosen, origins = examples_of(mse, labels, 10)
    assert origins == (("", 10),)
    assert sorted(labels[chosen]) == list(range(10))
    ranks = np.argsort(np.argsort(mse))[chosen] / 5000
    assert (np.diff(ranks) > 0).all()
    assert ranks[0] < 0.2
    assert ranks[-1] > 0.8
    for batch in (1, 7, 5000):
        assert examples_of(mse, labels, 10, batch=batch)[0] == chosen
    assert len(set(examples_of(mse, labels, 50)[0])) == 50
    assert len(set(examples_of(mse, None, 50)[0])) == 50
    assert examples_of(mse[:3], labels[:3], 10)[0] == np.argsort(mse[:3]).tolist()


def test_held_out_examples_come_first():
    mse, labels = np.random.default_rng(0).lognormal(size=300), np.arange(300) % 3
    held_out = np.arange(300) < 6
    chosen, origins = examples_of(mse, labels, 10, held_out=held_out)
    assert origins == (("held out", 6), ("training", 4))
    assert sorted(chosen[:6]) == list(range(6))
    assert (np.diff(mse[chosen[:6]]) > 0).all()
    assert examples_of(mse, labels, 5, held_out=held_out)[1] == (("held out", 5),)
    assert examples_of(mse, labels, 5, held_out=np.zeros(300, bool))[1] == (("training", 5),)


def test_examples_take_little_memory_however_many_rows_and_labels_there_are(monkeypatch):
    monkeypatch.setattr("aecli.figures.examples.MAX_BYTES", 1000 * 4 * 8)
    chooser = Examples(10)
    for first in range(0, 100_000, 1000):
        x = np.zeros((1000, 4))
        chooser.add(Rebuilt(Batch(x, np.arange(first, first + 1000)), x, x, x[:, 0] + 1, x), None)
    held = sum(len(rows["x"]) for rows in chooser._sample.groups().values())
    assert held <= 1000
    assert chooser.chosen().x.shape == (10, 4)


@pytest.mark.parametrize("window", [(80, 22), (40, 12), (60, 30)], ids=str)
def test_a_terminal_shows_where_images_come_from(window):
    origins, look = (("held out", 3), ("training", 7)), Look("dark", window=window)
    shown = reconstruction.fitting((8, 8), 10, look, origins)
    assert shown >= 1
    figure = reconstruction.images(IMAGES[:shown], IMAGES[:shown], np.full(shown, 0.5), (0, 1), look, origins)
    lines = ["".join(cell.text for cell in line) for line in terminal.draw(figure, look, colour=True)]
    assert any("held out" in line for line in lines)
    assert any("training" in line for line in lines) == (shown > 3)
    assert sum(line.count("original") for line in lines) == 1 + (shown > 3)
    assert any("mean squared error of each" in line for line in lines)


def test_dates_are_no_classes_but_numbers():
    texts = np.array([f"2024-01-{i % 31 + 1:02}" for i in range(62)] + [""], object)
    assert classes(texts) is None
    assert numbers(texts)[:2].tolist() == [19723, 19724]
    assert np.isnan(numbers(texts)[62])
    assert numbers(np.array(["2024-01-01", "NaT"], "datetime64[ns]"))[0] == 19723
    assert classes(np.array(["2024-01-01", "NaT"], "datetime64[s]")).names == ["2024-01-01T00:00:00", "(no label)"]
    assert classes(np.array(["2024-13-01", "b"])).names == ["2024-13-01", "b"]
    assert numbers(np.array([1, 2], "timedelta64[m]")).tolist() == [60, 120]


def test_more_numbers_than_classes_are_ranges_of_equally_many_rows():
    found = groups(np.array([*np.arange(80) / 2, np.nan]))
    assert found.names[0] == "0 to 4.94"
    assert found.names[-1] == "(no label)"
    assert np.bincount(found.of).tolist() == [10] * 8 + [1]
    assert len(set(found.colours(Look()))) == 9
    dated = groups(np.array([f"2024-01-{i % 28 + 1:02}" for i in range(56)]))
    assert dated.names[0] == "2024-01-01 to 2024-01-04"
    assert groups(np.array(["a", "b"])).names == ["a", "b"]
    assert groups(None) is groups(np.array(["", ""])) is groups(np.array([np.nan])) is None
