"""Turning w shows what was measured, and digits that all start from the same noise."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labkit.base.runtime import seeded_noise
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import limited
from labkit.flow.mixtures import petals
from labkit.flow.paths import GaussianPath
from labkit.measure.judge import Judge
from labkit.measure.metrics import Share
from labkit.measure.quality import Quality
from labkit.measure.samples import draw
from labkit.measure.sweeps import PLAIN
from labkit.show import explorer as widgets
from labkit.show.dials import Dials
from labkit.show.explorer import ENOUGH, guidance_explorer, turn_w
from labkit.show.figures import tile
from labkit.show.pictures import to_png

EXACT = ExactMarginal(GaussianPath(), petals())


class Cloud:
    """Points of each class drawn towards their mean as w grows, from the same noise; it writes down what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, w, y):
        self.asked.append((w, y.unique().tolist(), len(y)))
        noise = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(0))
        return EXACT.mixture.means[y] + noise / (1 + w)


def squares_to(points):
    """The squared Mahalanobis distance of each point to each component, by numpy."""
    covs = (EXACT.mixture.bases @ torch.diag_embed(EXACT.mixture.eigenvalues) @ EXACT.mixture.bases.mT).numpy()
    offsets = points.numpy()[:, None] - EXACT.mixture.means.numpy()
    return np.einsum("bki,kij,bkj->bk", offsets, np.linalg.inv(covs), offsets)


def class_of(points):
    """The class of each point: the component whose distance is smallest (all have one volume)."""
    return squares_to(points).argmin(axis=1)


@pytest.fixture
def figures(monkeypatch):
    """The figures that become pictures, in order."""
    found, to_png = [], widgets.to_png
    monkeypatch.setattr(widgets, "to_png", lambda it, **how: (found.append(it), to_png(it, **how))[1])
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
        low, high = (float(number) / 100 for number in re.search(r"(\d+)% to (\d+)%", text).groups())
        assert f"<b>w = {w:g}</b>: {right:.0%} ({low:.0%} to {high:.0%}) of 200 points land in class {label}" in text
        assert float(re.search(r"spread is <b>([\d.]+)</b> of", text)[1]) == pytest.approx(spread, abs=0.006)
        inside = (squares_to(x)[:, label] < -2 * np.log(0.05)).mean()  # chi-squared with two degrees of freedom
        assert float(re.search(r"<b>(\d+)%</b> where 95% of it lies", text)[1]) / 100 == pytest.approx(inside, abs=0.02)
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
    assert Image.open(io.BytesIO(corner.images[0].value)).format == "PNG"


def test_turning_w_has_one_frame_for_all_w_that_holds_every_point(figures):
    def sample(w, y):
        return EXACT.mixture.means[y] + w * torch.randn(len(y), 2, generator=torch.Generator().manual_seed(0))

    corner = turn_w(sample, EXACT, ws=(1, 5), n=50)
    corner.dials["w"].value = 5.0
    furthest = sample(5.0, torch.zeros(50, dtype=torch.int64)).abs().max()
    for figure in figures:
        assert figure.axes[0].get_xlim()[1] == pytest.approx(1.05 * furthest) and not figure.axes[0].texts
    turn_w(sample, EXACT, ws=(5,), n=50, limit=3.0)
    assert re.fullmatch(r"\d+ outside", figures[-1].axes[0].texts[0].get_text())


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

    num_classes = null = 10

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.asked = 0

    def forward(self, x, t, y=None):
        self.asked += len(x)
        shade = torch.where(y == 10, 0.0, 0.02 * (y + 1))
        return shade[:, None, None, None].expand_as(x) + self.anchor


class Reader(Judge):
    """A judge that says that 40 of 50 are right. Fifty digits tell no more, so nothing else is asked."""

    def __init__(self):
        pass

    def accuracy(self, x, y):
        assert len(x) == len(y) == 50
        return Share(0.8, 0.67, 0.89, 50)


def quality(share):
    return Quality(2000, Share(share, share - 0.01, share, 2000), 1.1, 2.5, 0.9, 0.7)


CURVE = {0.0: quality(0.1), 1.0: quality(0.96), 3.0: quality(0.99)}
CURVES = {PLAIN: CURVE}


def test_every_setting_is_drawn_once_and_then_comes_from_memory():
    model = Shades()
    explorer = guidance_explorer(model, ws=(0.0, 1.0, 3.0))
    assert isinstance(explorer, Dials)
    assert model.asked == 50 * 8  # at w=1 one branch is enough, and four steps of two evaluations
    first = explorer.images[0].value
    explorer.dials["w"].value = 3.0
    assert model.asked == 50 * 8 + 100 * 12 and explorer.images[0].value != first
    explorer.dials["w"].value = 1.0
    assert model.asked == 50 * 8 + 100 * 12 and explorer.images[0].value == first


@pytest.mark.parametrize("curves", [CURVES, None])
def test_prepare_leaves_nothing_to_draw_when_the_slider_moves(curves):
    model = Shades()
    explorer = guidance_explorer(model, curves=curves, ws=(0.0, 1.0, 3.0)).prepare("w")
    asked, charts = model.asked, []
    for w in (0.0, 3.0, 1.0):
        explorer.dials["w"].value = w
        charts.append(explorer.images[-1].value)
    assert model.asked == asked and len(set(charts)) == 3  # the marker moves


def test_class_and_seed_change_the_picture_and_w_keeps_the_noise():
    explorer = guidance_explorer(Shades(), ws=(0.0, 1.0))
    pictures = {explorer.images[0].value}
    for name, value in (("digit", "7"), ("seed", 3), ("digit", "all")):
        explorer.dials[name].value = value
        pictures.add(explorer.images[0].value)
    assert len(pictures) == 4
    # Without guidance the class is ignored, so that all that is left is the noise: equal for equal seeds only.
    seven, every, other = (
        explorer.frame((0.0, *rest, ENOUGH, PLAIN, "shipped")) for rest in (("7", 3), ("all", 3), ("all", 4))
    )
    assert seven.pictures == every.pictures != other.pictures


def test_the_digits_shown_are_those_that_draw_makes_of_the_seeded_noise():
    explorer = guidance_explorer(Shades(), ws=(1.0, 2.0), seed=7, shape=(1, 8, 8))
    explorer.dials["w"].value = 2.0
    for digit, y in (("all", torch.arange(50) % 10), ("4", torch.full((50,), 4))):
        explorer.dials["digit"].value = digit
        x = draw(Shades(), seeded_noise(50, 1, 8, 8, seed=7), y, 2.0)
        assert explorer.images[0].value == to_png(tile(x, columns=10), scale=2)


def test_colour_images_are_explored_too():
    explorer = guidance_explorer(Shades(), shape=(3, 8, 8))
    assert Image.open(io.BytesIO(explorer.images[0].value)).mode == "RGB"


def test_the_readout_says_what_is_shown_and_apart_from_it_what_was_measured():
    explorer = guidance_explorer(Shades(), judge=Reader(), curves=CURVES, real=quality(0.997))
    explorer.dials["w"].value = 3.0
    shown, measured = explorer.text.value.split("<hr>")
    assert "w = 3" in shown and "w' = 2" in shown and "12 evaluations of each branch" in shown
    assert "these 50: 40 show the digit asked for, 80% (67% to 89%)" in shown
    assert not re.search("density|coverage|spread", shown)  # of fifty digits they would mean nothing
    assert measured == f"measured once ({PLAIN}): {CURVE[3.0]}<br>real digits: {quality(0.997)}"
    assert "2,000" in measured and "99.0% (98.0% to 99.0%)" in measured and "density 0.90" in measured
    alone = guidance_explorer(Shades()).text.value
    assert "these 50" not in alone and "measured" not in alone


def test_a_w_off_the_curve_has_its_chart_and_no_measured_line():
    explorer = guidance_explorer(Shades(), curves=CURVES, ws=(1.0, 2.0))
    explorer.dials["w"].value = 2.0
    assert "measured" not in explorer.text.value and len(explorer.images) == 2


def test_the_chart_and_the_measured_line_are_those_of_the_kind_of_guidance_at_hand(figures):
    other = {1.0: quality(0.7), 3.0: quality(0.8)}
    rules = {PLAIN: {}, "never": {"rule": limited(1.0, 1.0)}, "new": {"rule": limited(0.0, 0.1)}}
    explorer = guidance_explorer(Shades(), curves=CURVES | {"never": other}, rules=rules, ws=(1.0,))
    explorer.dials["guidance"].value = "never"
    assert f"measured once (never): {other[1.0]}" in explorer.text.value
    assert figures[-1].axes[0].lines[0].get_xydata().tolist() == [[1, 0.7], [3, 0.8]]
    explorer.dials["guidance"].value = "new"
    assert "measured" not in explorer.text.value and "not measured" in figures[-1].axes[0].texts[0].get_text()


def test_a_menu_of_networks_has_the_figures_of_the_first_only(figures):
    darker = Shades()
    explorer = guidance_explorer({"shipped": Shades(), "yours": darker}, curves=CURVES)
    assert "measured once" in explorer.text.value and explorer.dials["network"].options == ("shipped", "yours")
    asked = darker.asked
    explorer.dials["network"].value = "yours"
    assert darker.asked > asked and "measured" not in explorer.text.value
    assert figures[-1].axes[0].texts[0].get_text() == f"yours, {PLAIN}: not measured"


def test_the_explorer_starts_at_the_conditional_model_with_one_class_in_which_variety_can_be_seen():
    explorer = guidance_explorer(Shades(), curves=CURVES)
    assert explorer.setting == (1.0, "2", 0, ENOUGH, PLAIN, "shipped")
    assert list(explorer.dials["digit"].options) == [*"0123456789", "all"]
    assert [w for _, w in explorer.dials["w"].options] == [0.0, 1.0, 3.0]
    assert [image.layout.width for image in explorer.images] == ["440px", "400px"]
    assert len(guidance_explorer(Shades()).images) == 1


def test_an_explorer_without_the_conditional_model_or_with_another_seed_is_refused():
    with pytest.raises(ValueError, match=r"ws must hold 1, .*; got \[0.0, 2.0\]"):
        guidance_explorer(Shades(), ws=(0.0, 2.0))
    with pytest.raises(ValueError, match="start must be among the values of the dials; got seed=100"):
        guidance_explorer(Shades(), seed=100)


def test_kinds_of_guidance_and_numbers_of_steps_can_be_chosen_and_each_is_remembered():
    class Doubled(Shades):
        def forward(self, x, t, y=None):
            return 2 * super().forward(x, t, y)

    model, weak = Shades(), Doubled()
    rules = {"plain": {}, "never": {"rule": limited(1.0, 1.0)}, "weak": {"bad": weak}}
    explorer = guidance_explorer(model, ws=(0.5, 1.0, 2.0), steps=(2, 8), rules=rules)
    assert explorer.setting[-2:] == ("plain", "shipped") and list(explorer.dials["steps"].options) == [ENOUGH, "2", "8"]
    conditional = explorer.images[0].value
    explorer.dials["w"].value = 2.0
    plain = explorer.images[0].value
    explorer.dials["guidance"].value = "never"
    assert explorer.images[0].value == conditional != plain  # no step of the midpoint method asks at t=1
    explorer.dials["guidance"].value = "weak"
    assert explorer.images[0].value not in (plain, conditional) and weak.asked
    explorer.dials["guidance"].value = "plain"
    asked = model.asked
    explorer.dials["steps"].value = "8"
    assert model.asked - asked == 2 * 8 * 100 and "16 evaluations" in explorer.text.value
    explorer.dials["steps"].value = ENOUGH
    assert model.asked - asked == 2 * 8 * 100 and explorer.images[0].value == plain
    explorer.dials["w"].value, explorer.dials["guidance"].value = 0.5, "weak"
    assert "20 evaluations" in explorer.text.value  # what another kind takes


def test_one_kind_of_guidance_needs_no_menu():
    def shown(explorer):
        *_, small, _row, _text = explorer.widget.children
        return [control.description for control in small.children]

    assert shown(guidance_explorer(Shades())) == ["digit", "seed", "steps"]
    rules = {"plain": {}, "limited": {"rule": limited(0.2, 0.8)}}
    assert shown(guidance_explorer(Shades(), rules=rules)) == ["digit", "seed", "steps", "guidance"]
