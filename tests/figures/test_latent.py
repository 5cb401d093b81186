"""The scatter of latent rows: names at their islands, nothing cut, and points that suit their number."""

import io
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import aecli
from aecli import figures
from aecli.figures.islands import MOST, Name
from aecli.figures.latent import latent
from aecli.figures.manifold import near
from aecli.figures.style import Look

SIZES = {"as it is": None, "a slide": (8.0, 4.5), "small": (3.0, 3.0)}


def islands(classes, rows=2000, name="k{}", seed=0):
    """Make latent rows (N, 2) in round clouds that touch few others, and the names of their classes (N,)."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(classes)))
    middles = np.array([(i % side, i // side) for i in range(classes)]) * 10.0 + rng.uniform(-2, 2, (classes, 2))
    of = np.arange(rows) % classes
    return middles[of] + rng.normal(size=(rows, 2)), np.array([name.format(i) for i in of])


def drawn(z, labels, look=Look()):  # noqa: B008, it is frozen
    """Draw the figure, and return it with the names that are written in it, each with its box in dots."""
    figure = latent(z, labels, look)
    figures.save(figure, io.BytesIO(), "png", dpi=figure.dpi)
    return figure, [(text.get_text(), text.get_window_extent()) for text in figure.findobj(Name)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [1, 2, 10, 26, 47])
def test_every_name_is_written_once_where_its_class_lies_and_over_no_other(classes, size):
    if classes == 1:
        z, labels = np.random.default_rng(0).normal(size=(500, 2)), np.full(500, "k0")
    else:
        z, labels = islands(classes)
    figure, names = drawn(z, labels, Look(size=SIZES[size]))
    assert sorted(name for name, _ in names) == sorted(set(labels))
    assert figure.legends == []
    axes = figure.axes[0]
    whole = axes.get_window_extent()
    for name, box in names:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
        middle = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        nearest = np.argsort(((z - middle) ** 2).sum(axis=1))[:10]
        assert (labels[nearest] == name).mean() > 0.5
    for (_, box), (_, other) in combinations(names, 2):
        assert not box.overlaps(other)


def test_long_names_are_moved_until_none_lies_over_another():
    z, labels = islands(12, name="a kind of finch, {}")
    z[:, 1] *= 0.2
    _, names = drawn(z, labels)
    assert len(names) == 12
    assert not any(box.overlaps(other) for (_, box), (_, other) in combinations(names, 2))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", [0.0, 0.004, 0.05])
def test_no_name_hides_most_points_of_an_island(spread, size):
    rng = np.random.default_rng(0)
    of = np.arange(500) % 5
    turns = np.array([0, 1, 2.5, 4, 5])[of]
    z = np.column_stack([np.cos(turns), np.sin(turns)]) + spread * rng.normal(size=(500, 2))
    figure, names = drawn(z, np.array([f"group {i}" for i in of]), Look(size=SIZES[size]))
    assert sorted(name for name, _ in names) == [f"group {i}" for i in range(5)]
    places = figure.axes[0].transData.transform(z)
    for name, box in names:
        under = ((places >= [box.x0, box.y0]) & (places <= [box.x1, box.y1])).all(axis=1)
        for i in range(5):
            assert under[of == i].mean() <= 0.6
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        assert of[((places - middle) ** 2).sum(axis=1).argmin()] == int(name[-1])


@pytest.mark.parametrize(("share", "times"), [(0.5, 2), (0.3, 2), (0.15, 1)])
def test_a_class_is_named_at_each_island_that_holds_a_quarter_of_it(share, times):
    z, labels = islands(9)
    mine = np.flatnonzero(labels == "k4")
    z[mine[: int(share * len(mine))]] += [40, 0]
    figure, names = drawn(z, labels)
    found = [box for name, box in names if name == "k4"]
    assert (len(names), len(found)) == (8 + times, times)
    places = figure.axes[0].transData.transform(z)
    nearest = [
        ((places[mine] - [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]) ** 2).sum(axis=1).argmin() for box in found
    ]
    assert len({bool(place < int(share * len(mine))) for place in nearest}) == times


def test_the_name_of_a_ring_is_on_the_ring():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 3000)
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) * 10 + rng.normal(size=(3000, 2)) * 0.3
    figure, names = drawn(ring, np.full(3000, "ring"))
    [(_, box)] = names
    place = figure.axes[0].transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    assert np.hypot(*place) == pytest.approx(10, abs=1.5)


@pytest.mark.parametrize(("classes", "apart"), [(47, True), (47, False), (70, True)])
def test_more_than_20_numbers_are_classes_where_up_to_64_lie_apart_else_a_scale(classes, apart):
    z, names = islands(classes, 4000)
    numbers = np.array([int(name[1:]) for name in names])
    figure, names = drawn(z if apart else np.random.default_rng(0).normal(size=z.shape), numbers)
    as_classes = apart and classes <= 64
    assert {name for name, _ in names} == ({str(i) for i in range(classes)} if as_classes else set())
    assert (len(figure.axes), figure.legends) == (1 if as_classes else 2, [])  # the second is the scale


@pytest.mark.parametrize("rows", [30, 300, 20_000])
@pytest.mark.parametrize("classes", [2, 12])
def test_classes_that_are_mixed_have_a_legend(rows, classes):
    z = np.random.default_rng(0).normal(size=(rows, 2))
    figure, names = drawn(z, np.array([f"k{i % classes}" for i in range(rows)]))
    assert names == []
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"k{i}" for i in range(classes)]


def test_a_legend_beside_names_tells_only_what_has_no_place():
    z, labels = islands(4)
    labels[::3] = ""
    figure, names = drawn(z, labels)
    assert sorted(name for name, _ in names) == ["k0", "k1", "k2", "k3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["(no label)"]
    z, labels = islands(MOST + 5, 4000)
    figure, names = drawn(z, labels)
    assert len(names) == MOST - 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["6 others"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("labelled", [True, False])
def test_no_point_is_cut(labelled, size):
    z, labels = islands(10, 400)
    z[0], z[1] = (-60, -3), (90, 80)  # far from all others
    figure, _ = drawn(z, labels if labelled else None, Look(size=SIZES[size]))
    axes = figure.axes[0]
    radius = np.sqrt(axes.collections[0].get_sizes()[0] / np.pi) * figure.dpi / 72
    places, whole = axes.transData.transform(z), axes.get_window_extent()
    assert (places - radius >= [whole.x0, whole.y0]).all()
    assert (places + radius <= [whole.x1, whole.y1]).all()


def test_both_axes_have_one_scale_unless_one_value_is_far_longer():
    z, labels = islands(9)
    for stretch, equal in ((1, True), (3, True), (30, False)):
        figure, _ = drawn(z * [stretch, 1], labels)
        (left, low), (right, high) = figure.axes[0].transData.transform([(0, 0), (1, 1)])
        assert ((right - left) == pytest.approx(high - low)) == equal


def test_points_are_smaller_and_paler_the_more_they_are():
    looks = []
    for rows in (300, 3000, 30_000):
        figure, _ = drawn(*islands(10, rows))
        points = figure.axes[0].collections[0]
        looks.append((points.get_sizes()[0], points.get_alpha()))
    assert looks == sorted(looks, reverse=True)
    assert len(set(looks)) == 3


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_without_labels_rows_that_lie_densely_stand_out_from_the_ground(theme):
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(500, 2)) * 0.3, rng.uniform(-20, 20, (20, 2))])
    figure, names = drawn(z, None, Look(theme))
    points = figure.axes[0].collections[0]
    light = points.get_facecolors()[:, :3].mean(axis=1)
    away = np.hypot(*np.asarray(points.get_offsets()).T)
    dense, alone = light[away < 1].mean(), light[away > 5].mean()
    assert names == []
    assert (dense < alone - 0.2) if theme == "light" else (dense > alone + 0.2)


def test_a_picture_of_a_model_holds_each_name_as_text_and_equal_runs_give_equal_bytes(run):
    rng = np.random.default_rng(0)
    kinds = np.arange(400) % 5
    x = rng.normal(size=(5, 6))[kinds] * 8 + rng.normal(size=(400, 6))
    lines = [",".join([*map("{:.3f}".format, row), f"kind {kind}"]) for row, kind in zip(x, kinds, strict=True)]
    Path("rows.csv").write_text("\n".join(["a,b,c,d,e,f,label", *lines]) + "\n")
    aecli.fit("rows.csv", label="label", latent_dim=2, epochs=20, device="cpu").save("m.safetensors")
    for ending in ("svg", "png"):
        for name in ("first", "again"):
            done = run("plot", "m.safetensors", "rows.csv", "-o", f"{name}.{ending}")
            assert (done.code, done.err) == (0, f"wrote {name}.{ending}\n")
        assert Path(f"first.{ending}").read_bytes() == Path(f"again.{ending}").read_bytes()
    written = re.findall(r">(kind \d)</text>", Path("first.svg").read_text())
    assert sorted(written) == [f"kind {i}" for i in range(5)]


@pytest.mark.parametrize("rows", [200, 20_000])
def test_places_of_a_plane_are_faint_far_from_all_rows(rows):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, 2)) + np.array([[0, 0], [20, 20]])[np.arange(rows) % 2]
    lines = np.array([0.0, 10.0, 20.0])
    shares = near(z, lines, lines[::-1])
    assert shares[2, 0] > 0.9  # the rows at (0, 0), at the lower left
    assert shares[0, 2] > 0.9
    assert shares[0, 0] < shares[1, 1] < 0.9
    assert shares[0, 0] == pytest.approx(shares[2, 2], abs=0.05)
    assert ((shares >= 0) & (shares <= 1)).all()
