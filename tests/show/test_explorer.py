"""Sliders show the picture of their position; every setting is drawn once, from the same noise for every w."""

import io
import re

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import guided
from labkit.flow.mixtures import petals
from labkit.flow.paths import GaussianPath
from labkit.measure.judge import Diversity, Quality
from labkit.show import explorer as widgets
from labkit.show.dials import Dials, Frame, FrameSlider
from labkit.show.explorer import GuidanceExplorer, turn_w

FRAMES = {0.0: b"zero", 1.0: b"one", 3.5: b"three and a half"}


def test_moving_the_slider_changes_picture_and_caption():
    slider = FrameSlider(FRAMES, name="w", start=1.0, captions={w: f"at {w}" for w in FRAMES})
    assert (slider.image.value, slider.text.value) == (b"one", "at 1.0")
    for w, frame in FRAMES.items():
        slider.slider.value = w
        assert (slider.image.value, slider.text.value) == (frame, f"at {w}")


def test_the_widget_is_one_slider_one_image_and_no_output_area():
    slider = FrameSlider(FRAMES, name="w")
    kinds = [type(child).__name__ for child in slider.widget.children]
    assert kinds == ["SelectionSlider", "Image", "HTML"]
    assert [label for label, _ in slider.slider.options] == ["0", "1", "3.5"]
    assert slider.slider.value == 0.0


def test_a_small_picture_is_not_stretched_to_the_width_of_the_page():
    for shown in (FrameSlider(FRAMES, name="w"), Dials(lambda w: Frame(b"", ""), {"w": (1, 2)})):
        assert shown.widget.layout.align_items == "flex-start"
        assert shown.image.layout.max_width == "100%" and shown.image.layout.width is None


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="frames must hold at least one picture"):
        FrameSlider({}, name="w")
    with pytest.raises(ValueError, match=r"start must be one of \[0.0, 1.0, 3.5\]; got 2.0"):
        FrameSlider(FRAMES, name="w", start=2.0)
    with pytest.raises(ValueError, match="captions must have the keys of frames"):
        FrameSlider(FRAMES, name="w", captions={0.0: "zero"})


class Painter:
    """Draws a frame that names its setting, and counts."""

    def __init__(self):
        self.asked = []

    def __call__(self, *setting):
        self.asked.append(setting)
        return Frame(repr(setting).encode(), f"text of {setting}")


def test_dials_show_their_setting_draw_it_once_and_remember_it():
    paint = Painter()
    dials = Dials(paint, {"t": [0.0, 0.5, 1.0], "path": ["linear", "cosine"], "steps": [1, 10]})
    assert paint.asked == [(0.0, "linear", 1)]  # nothing is drawn before it is asked for

    def check(setting):
        assert dials.setting == setting
        assert (dials.image.value, dials.text.value) == (repr(setting).encode(), f"text of {setting}")

    check((0.0, "linear", 1))
    moves = [("t", 0.5), ("path", "cosine"), ("t", 0.0), ("path", "linear"), ("steps", 10), ("steps", 1), ("t", 0.5)]
    for name, value in moves:
        dials.dials[name].value = value
        check(tuple(dials.dials[other].value for other in ("t", "path", "steps")))
        assert dials.dials[name].value == value
    assert len(paint.asked) == len(set(paint.asked)) == 5


def test_words_make_a_menu_and_numbers_a_slider_in_their_order():
    dials = Dials(Painter(), {"w": [1.0, 3.5, 2], "path": ["linear", "cosine"]})
    slider, menu, image, text = dials.widget.children
    assert [type(child).__name__ for child in dials.widget.children] == ["SelectionSlider", "Dropdown", "Image", "HTML"]
    assert slider.description == "w" and list(slider.options) == [("1", 1.0), ("3.5", 3.5), ("2", 2)]
    assert menu.description == "path" and list(menu.options) == ["linear", "cosine"]
    assert image is dials.image and text is dials.text and image.format == "png"


def test_dials_start_where_they_are_told_and_at_the_first_values_otherwise():
    paint = Painter()
    dials = Dials(paint, {"t": [0.0, 0.5], "path": ["linear", "cosine"]}, start={"path": "cosine"})
    assert dials.setting == (0.0, "cosine") and paint.asked == [(0.0, "cosine")]
    assert dials.text.value == "text of (0.0, 'cosine')"


@pytest.mark.parametrize(
    ("dials", "start", "words"),
    [
        ({}, None, r"every dial needs at least one value; got \{\}"),
        ({"t": [0.0], "s": []}, None, r"every dial needs at least one value; got .*'s': \[\]"),
        ({"t": [0.0, 1.0]}, {"t": 0.5}, r"start must be among the values of the dials; got t=0\.5$"),
        ({"t": [0.0, 1.0]}, {"t": 0.0, "s": 1}, r"got s=1$"),
        ({"path": ["linear"]}, {"path": "cosine"}, r"got path=cosine$"),
    ],
)
def test_dials_without_values_or_with_a_start_elsewhere_are_refused(dials, start, words):
    paint = Painter()
    with pytest.raises(ValueError, match=words):
        Dials(paint, dials, start=start)
    assert not paint.asked


EXACT = ExactMarginal(GaussianPath(), petals())


class Cloud:
    """Points of each class drawn towards their mean as w grows, from the same noise; it writes down what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, w, y):
        self.asked.append((w, y.unique().tolist(), len(y)))
        noise = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(0))
        return EXACT.mixture.means[y] + noise / (1 + w)


def class_of(points):
    """The class of each point by numpy: the component whose Mahalanobis distance is smallest (all have one volume)."""
    covs = (EXACT.mixture.bases @ torch.diag_embed(EXACT.mixture.eigenvalues) @ EXACT.mixture.bases.mT).numpy()
    offsets = points.numpy()[:, None] - EXACT.mixture.means.numpy()
    return np.einsum("bki,kij,bkj->bk", offsets, np.linalg.inv(covs), offsets).argmin(axis=1)


@pytest.fixture
def figures(monkeypatch):
    """The figures that become pictures, in order."""
    found, to_png = [], widgets.to_png
    monkeypatch.setattr(widgets, "to_png", lambda figure: (found.append(figure), to_png(figure))[1])
    return found


def test_turning_w_states_the_share_and_spread_that_were_measured():
    sample = Cloud()
    corner = turn_w(sample, EXACT, ws=(0, 1, 3), n=200)
    assert isinstance(corner, Dials) and list(corner.dials) == ["w", "class"]
    assert corner.setting == (1.0, 0)
    own_spread = np.sqrt(0.6**2 + 0.35**2)
    for w, label in ((1.0, 0), (3.0, 0), (0.0, 2), (3.0, 2)):
        corner.dials["w"].value, corner.dials["class"].value = w, label
        x = sample(w, torch.full((200,), label))
        right = (class_of(x) == label).mean()
        spread = np.sqrt(x.numpy().var(axis=0).sum()) / own_spread
        text = corner.text.value
        assert f"<b>w = {w:g}</b>: {right:.0%} of 200 points land in class {label} " in text
        assert float(re.search(r"spread is ([\d.]+) of", text)[1]) == pytest.approx(spread, abs=0.006)
        low, high = (float(number) / 100 for number in re.search(r"interval (\d+)% to (\d+)%", text).groups())
        assert low <= right <= high and high - low < 0.16


def test_turning_w_marks_it_and_draws_the_cloud_of_the_class(figures):
    sample = Cloud()
    corner = turn_w(sample, EXACT, ws=(0, 1, 3), n=50, limit=2.5)
    corner.dials["w"].value = 3.0
    corner.dials["class"].value = 1
    assert len(figures) == 3
    for figure, (w, label) in zip(figures, [(1.0, 0), (3.0, 0), (3.0, 1)], strict=True):
        left, right = figure.axes
        points = left.collections[-1].get_offsets()
        assert np.allclose(points, sample(w, torch.full((50,), label)))
        assert left.get_xlim() == left.get_ylim() == (-2.5, 2.5)
        assert f"class {label}" in left.get_title() and f"w = {w:g}" in left.get_title()
        assert set(right.lines[-1].get_xdata()) == {w}  # the line that marks w
        assert right.lines[0].get_xdata().tolist() == [0, 1, 3]
        assert not plt.fignum_exists(figure.number)
    assert Image.open(io.BytesIO(corner.image.value)).format == "PNG"


def test_turning_w_asks_for_every_cloud_of_a_class_once():
    sample = Cloud()
    corner = turn_w(sample, EXACT, ws=(0, 1, 3), n=50)
    expected = [(w, [0], 50) for w in (0.0, 1.0, 3.0)]
    assert sample.asked == expected
    for w in (0.0, 3.0, 1.0):
        corner.dials["w"].value = w
    assert sample.asked == expected
    corner.dials["class"].value = 2
    corner.dials["class"].value = 0
    assert sample.asked == expected + [(w, [2], 50) for w in (0.0, 1.0, 3.0)]


def test_turning_w_has_all_classes_and_starts_at_the_conditional_field_where_it_can():
    corner = turn_w(Cloud(), EXACT, n=20)
    assert [value for _, value in corner.dials["class"].options] == [0, 1, 2]
    assert corner.setting == (1.0, 0) and 0.0 in [value for _, value in corner.dials["w"].options]
    assert turn_w(Cloud(), EXACT, ws=(2, 0), n=20).setting == (2.0, 0)


class Shades(nn.Module):
    """A field that paints class y in its own shade over its noise (null: none), and counts the images it is given."""

    channels, num_classes = 1, 10

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.asked = 0

    def forward(self, x, t, y=None):
        self.asked += len(x)
        shade = torch.where(y == 10, 0.0, 0.02 * (y + 1))
        return shade[:, None, None, None].expand_as(x) + self.anchor


class Reader:
    """Stands for a judge: says that 40 of 50 are right."""

    def accuracy(self, x, y):
        assert len(x) == len(y) == 50
        return 0.8, 0.67, 0.89, 50

    def density_coverage(self, x, y):
        return 1.25, 0.5

    def diversity(self, x, y):
        return Diversity(vendi=0.9, spread=0.61)


def quality(share):
    return Quality(2000, share, share - 0.01, share, 2.5, 0.9, 0.7)


CURVE = {0.0: quality(0.1), 1.0: quality(0.96), 3.0: quality(0.99)}


def test_every_setting_is_drawn_once_and_then_comes_from_memory():
    model = Shades()
    explorer = GuidanceExplorer(model, ws=(0.0, 1.0, 3.0), steps=2)
    assert model.asked == 50 * 4  # at w=1 one branch is enough, and Heun's method evaluates twice a step
    first = explorer.image.value
    explorer.w.value = 3.0
    assert model.asked == 50 * 4 + 100 * 4 and explorer.image.value != first
    explorer.w.value = 1.0
    assert model.asked == 50 * 4 + 100 * 4 and explorer.image.value == first


def test_prepare_leaves_nothing_to_draw_when_the_slider_moves():
    model = Shades()
    explorer = GuidanceExplorer(model, curve=CURVE, steps=1).prepare()
    asked = model.asked
    charts = []
    for w in (0.0, 3.0, 1.0):
        explorer.w.value = w
        charts.append(explorer.chart.value)
    assert model.asked == asked and len(set(charts)) == 3  # the marker moves


def test_prepare_draws_every_w_without_a_curve_too():
    model = Shades()
    explorer = GuidanceExplorer(model, ws=(0.0, 1.0, 3.0), steps=1).prepare()
    asked = model.asked
    explorer.w.value = 3.0
    assert model.asked == asked


def test_class_and_seed_change_the_picture_and_w_keeps_the_noise():
    explorer = GuidanceExplorer(Shades(), ws=(0.0, 1.0), steps=1)
    pictures = {explorer.image.value}
    for control, value in ((explorer.digit, 7), (explorer.seed, 3), (explorer.digit, -1)):
        control.value = value
        pictures.add(explorer.image.value)
    assert len(pictures) == 4
    # Without guidance the class is ignored, so that all that is left is the noise: equal for equal seeds only.
    assert explorer.frame(0.0, 7, 3).png == explorer.frame(0.0, -1, 3).png != explorer.frame(0.0, -1, 4).png


def test_the_readout_says_what_is_shown_and_what_was_measured():
    explorer = GuidanceExplorer(Shades(), judge=Reader(), curve=CURVE, real=quality(0.997), steps=10)
    explorer.w.value = 3.0
    text = explorer.text.value
    assert "w = 3" in text and "w' = 2" in text and "20 evaluations of each branch" in text
    assert (
        "these 50: 40 show the digit asked for (95% interval 67% to 89%), density 1.25, coverage 0.50, spread 0.61 of"
        in text
    )
    assert "measured with n = 2,000, plain guidance: <b>99.0%</b> right (98.0% to 99.0%)" in text
    alone = GuidanceExplorer(Shades(), steps=1)
    assert "these 50" not in alone.text.value and "measured" not in alone.text.value


def test_the_explorer_has_no_output_area_and_starts_at_the_conditional_model():
    explorer = GuidanceExplorer(Shades(), curve=CURVE, steps=1)
    assert explorer.digit.label == "all"  # a choice, not an empty box
    assert explorer.w.value == 1.0 and [w for _, w in explorer.w.options] == [0.0, 1.0, 3.0]

    def kinds(widget):
        return {type(widget)}.union(*(kinds(child) for child in getattr(widget, "children", ())))

    assert ipywidgets.Output not in kinds(explorer.widget)
    assert explorer.chart in explorer.widget.children
    assert explorer.chart not in GuidanceExplorer(Shades(), steps=1).widget.children


def test_an_explorer_without_the_conditional_model_is_refused():
    with pytest.raises(ValueError, match=r"ws must hold 1, .*; got \[0.0, 2.0\]"):
        GuidanceExplorer(Shades(), ws=(0.0, 2.0))


def test_kinds_of_guidance_and_numbers_of_steps_can_be_chosen_and_each_is_remembered():
    def twice(model, y, w, null):
        return guided(model, y, 2 * w, null)

    explorer = GuidanceExplorer(Shades(), ws=(0.5, 1.0, 2.0), steps=4, guides={"plain": guided, "twice": twice})
    assert explorer.guide.value == "plain" and list(explorer.steps.options) == [2, 4, 8]
    explorer.w.value = 2.0
    plain = explorer.image.value
    explorer.w.value, explorer.guide.value = 1.0, "twice"
    assert explorer.image.value == plain
    asked = explorer.model.asked
    explorer.steps.value = 8
    assert explorer.model.asked - asked == 2 * 8 * 100 and "16 evaluations" in explorer.text.value
    explorer.steps.value = 4
    assert explorer.model.asked - asked == 2 * 8 * 100
    assert explorer.guide not in GuidanceExplorer(Shades(), steps=1).widget.children[0].children[2].children
