"""Curves show the numbers they are given, in the order of w."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from labkit.measure.metrics import Share
from labkit.measure.quality import Quality
from labkit.show.curves import frechet_curve, loss_curve, quality_curve, tradeoff_curve


@pytest.fixture
def ax():
    _, ax = plt.subplots()
    yield ax
    plt.close("all")


def judged(accuracy, spread, frechet, density, coverage):
    return Quality(200, Share(accuracy, accuracy - 0.02, accuracy + 0.01, 200), spread, frechet, density, coverage)


def in_the_plane(accuracy, spread, typical=None):
    return Quality(500, Share(accuracy, accuracy - 0.02, accuracy + 0.02, 500), spread, typical=typical)


CURVE = {w: judged(0.5 + w / 10, 1.2 - w / 10, 2.0 + w, 0.8 + w / 20, 0.9 - w / 10) for w in (4.0, 1.0, 1.5)}
REAL = judged(0.99, 1.0, 0.3, 0.95, 0.97)
WS = [1.0, 1.5, 4.0]


def test_loss_curve_draws_every_step_and_the_known_first_loss(ax):
    losses = [2.0, 1.5, 1.25, 1.0]
    loss_curve(ax, losses, first=1.9)
    raw, smooth, first = ax.lines
    assert raw.get_ydata().tolist() == losses
    assert smooth.get_ydata().tolist() == losses  # a window of 1 for so short a run
    assert set(first.get_ydata()) == {1.9}


def test_the_running_mean_keeps_a_constant_loss(ax):
    loss_curve(ax, [0.5] * 2000)
    assert np.allclose(ax.lines[1].get_ydata(), 0.5)
    assert len(ax.lines[1].get_ydata()) == 2000 - 50 + 1


def test_a_judged_curve_draws_three_measures_the_interval_real_data_and_the_marker(ax):
    assert quality_curve(ax, CURVE, real=REAL, at=1.0) is ax
    drawn = [line for line in ax.lines if not line.get_label().startswith("_")]
    names = ["accuracy", "density", "coverage"]
    assert [line.get_label().split(":")[0] for line in drawn] == names
    for name, line in zip(names, drawn, strict=True):
        values = [getattr(CURVE[w], name) for w in WS]
        assert line.get_xdata().tolist() == WS
        assert line.get_ydata().tolist() == [value.value for value in values] if name == "accuracy" else values
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [0.99, 0.95, 0.97]
    marked = [line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata()) == 1]
    assert marked == [[[1.0, value]] for value in (CURVE[1.0].accuracy.value, CURVE[1.0].density, CURVE[1.0].coverage)]
    corners = {tuple(place) for place in ax.collections[0].get_paths()[0].vertices.round(6)}
    assert {(w, round(edge, 6)) for w in WS for edge in CURVE[w].accuracy[1:3]} <= corners
    assert "n = 200" in ax.get_title() and "dotted" in ax.get_title()


def test_a_curve_in_the_plane_draws_accuracy_and_spread_over_w_in_order_and_marks_one(ax):
    quality_curve(ax, {3.0: in_the_plane(0.97, 0.5), 0.0: in_the_plane(0.3, 1.4), 1.0: in_the_plane(0.8, 0.99)}, at=1.0)
    right, right_now, spread, spread_now, marker = ax.lines
    assert right.get_xydata().tolist() == [[0, 0.3], [1, 0.8], [3, 0.97]] and "accuracy" in right.get_label()
    assert spread.get_xydata().tolist() == [[0, 1.4], [1, 0.99], [3, 0.5]] and "spread" in spread.get_label()
    assert right_now.get_xydata().tolist() == [[1, 0.8]] and spread_now.get_xydata().tolist() == [[1, 0.99]]
    assert set(marker.get_xdata()) == {1.0} and ax.get_xlabel() == "guidance scale w" and ax.get_ylim()[0] == 0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [right.get_label(), spread.get_label()]
    assert ax.get_title() == "n = 500 a point"


def test_a_curve_in_the_plane_draws_how_typical_points_are_between_accuracy_and_spread(ax):
    quality_curve(ax, {1.0: in_the_plane(0.8, 0.99, 0.95), 8.0: in_the_plane(1.0, 0.6, 0.2)})
    assert [line.get_label().split(":")[0] for line in ax.lines] == ["accuracy", "typical", "spread"]
    assert ax.lines[1].get_xydata().tolist() == [[1, 0.95], [8, 0.2]]


def test_without_a_mark_there_is_none_and_a_w_between_gets_its_line_only(ax):
    curve = {0.0: in_the_plane(0.3, 1.4), 1.0: in_the_plane(0.8, 0.99)}
    quality_curve(ax, curve)
    assert len(ax.lines) == 2
    quality_curve(ax, curve, at=0.5)
    assert len(ax.lines) == 5 and set(ax.lines[-1].get_xdata()) == {0.5}


def test_only_what_all_records_hold_is_drawn(ax):
    quality_curve(ax, {0.0: Quality(9, Share(0.5, 0.2, 0.8, 9)), 1.0: in_the_plane(0.8, 0.99)})
    assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == ["accuracy"]


def test_the_tradeoff_is_drawn_with_diversity_across_quality_up_and_real_data_as_a_star(ax):
    assert tradeoff_curve(ax, CURVE, REAL, label="plain", name_w=True) is ax
    path, star = ax.lines
    np.testing.assert_allclose(path.get_xydata(), [(CURVE[w].spread, CURVE[w].density) for w in WS])
    np.testing.assert_allclose(star.get_xydata(), [(1.0, 0.95)])
    assert path.get_label() == "plain" and star.get_marker() == "*"
    assert {text.get_text(): text.xy for text in ax.texts}["w=1.5"] == (CURVE[1.5].spread, CURVE[1.5].density)
    assert "diversity" in ax.get_xlabel() and "quality" in ax.get_ylabel()


def test_dots_are_named_only_where_asked(ax):
    tradeoff_curve(ax, CURVE, REAL)
    assert not ax.texts


def test_the_frechet_distance_is_drawn_over_w_on_a_log_axis_with_real_data_dotted(ax):
    assert frechet_curve(ax, CURVE, REAL) is ax
    path, real = ax.lines
    np.testing.assert_allclose(path.get_xydata(), [(w, CURVE[w].frechet) for w in WS])
    assert list(real.get_ydata()) == [0.3, 0.3] and real.get_linestyle() == ":" and ax.get_yscale() == "log"
    ax.figure.canvas.draw()
    shown = {label.get_text() for label in ax.get_yticklabels()}
    assert {"0.5", "1", "2", "5"} <= shown and not [text for text in shown if "10^" in text]


@pytest.mark.parametrize(("curve", "name"), [(tradeoff_curve, "density"), (frechet_curve, "frechet")])
@pytest.mark.parametrize("who", ["model", "real"])
def test_records_without_the_figure_are_refused_by_its_name(ax, curve, name, who):
    bare = in_the_plane(0.9, 0.8)
    with pytest.raises(ValueError, match=f"needs the {name} of every w and of real data"):
        curve(ax, {1.0: bare}, REAL) if who == "model" else curve(ax, CURVE, bare)
