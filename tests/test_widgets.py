"""Sliders show the picture of their position; the explorer draws each setting once, from the same noise for every w."""

import ipywidgets
import pytest
import torch
from torch import nn

from labkit.judge import Quality
from labkit.widgets import FrameSlider, GuidanceExplorer

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


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="frames must hold at least one picture"):
        FrameSlider({}, name="w")
    with pytest.raises(ValueError, match=r"start must be one of \[0.0, 1.0, 3.5\]; got 2.0"):
        FrameSlider(FRAMES, name="w", start=2.0)
    with pytest.raises(ValueError, match="captions must have the keys of frames"):
        FrameSlider(FRAMES, name="w", captions={0.0: "zero"})


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
    assert "these 50: 40 show the digit asked for (95% interval 67% to 89%), density 1.25, coverage 0.50" in text
    assert "measured with n = 2,000: <b>99.0%</b> right (98.0% to 99.0%)" in text
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
