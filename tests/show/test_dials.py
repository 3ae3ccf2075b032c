"""Dials show the pictures of their setting; every setting is drawn once."""

import ipywidgets
import pytest

from labkit.show.dials import Dials, Frame

FRAMES = {0.0: b"zero", 1.0: b"one", 3.5: b"three and a half"}


def test_ready_pictures_turn_under_a_slider_with_their_captions():
    captions = {w: f"at {w}" for w in FRAMES}
    dials = Dials(lambda w: Frame(FRAMES[w], captions[w]), {"w": list(FRAMES)}, start={"w": 1.0})
    (image,), slider = dials.images, dials.dials["w"]
    assert (image.value, dials.text.value) == (b"one", "at 1.0")
    assert [label for label, _ in slider.options] == ["0", "1", "3.5"]
    for w, frame in FRAMES.items():
        slider.value = w
        assert (image.value, dials.text.value) == (frame, f"at {w}")


def test_several_pictures_stand_side_by_side_and_all_of_them_change():
    dials = Dials(lambda w: Frame([b"left %d" % w, b"right %d" % w], f"{w}"), {"w": [1, 2]})
    row = dials.images[0]
    (box,) = [child for child in dials.widget.children if row in getattr(child, "children", ())]
    assert list(box.children) == dials.images and box.layout.flex_flow == "row wrap"
    assert [image.value for image in dials.images] == [b"left 1", b"right 1"]
    dials.dials["w"].value = 2
    assert [image.value for image in dials.images] == [b"left 2", b"right 2"] and dials.text.value == "2"


def test_another_number_of_pictures_is_an_error_and_no_picture_left_over():
    dials = Dials(lambda w: Frame([b"picture"] * w), {"w": [1, 2]})
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        dials.dials["w"].value = 2


def test_a_frame_needs_no_text():
    assert Dials(lambda w: Frame(b"picture"), {"w": [1, 2]}).text.value == ""


def kinds(widget):
    return {type(widget)}.union(*(kinds(child) for child in getattr(widget, "children", ())))


def test_a_small_picture_is_not_stretched_to_the_width_of_the_page_and_there_is_no_output_area():
    dials = Dials(lambda w: Frame(b""), {"w": (1, 2)})
    assert dials.widget.layout.align_items == "flex-start"
    assert dials.images[0].layout.max_width == "100%" and dials.images[0].layout.width is None
    assert ipywidgets.Output not in kinds(dials.widget)


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
        assert (dials.images[0].value, dials.text.value) == (repr(setting).encode(), f"text of {setting}")

    check((0.0, "linear", 1))
    moves = [("t", 0.5), ("path", "cosine"), ("t", 0.0), ("path", "linear"), ("steps", 10), ("steps", 1), ("t", 0.5)]
    for name, value in moves:
        dials.dials[name].value = value
        check(tuple(dials.dials[other].value for other in ("t", "path", "steps")))
        assert dials.dials[name].value == value
    assert len(paint.asked) == len(set(paint.asked)) == 5


def test_numbers_make_a_slider_words_a_menu_and_a_range_a_box_and_one_value_nothing():
    values = {"path": ["linear", "cosine"], "w": [1.0, 3.5, 2], "seed": range(3, 100), "only": [1], "k": range(0, 9, 3)}
    dials = Dials(Painter(), values)
    slider, steps, small, row, text = dials.widget.children  # sliders take a line each, the others share one
    menu, box = small.children
    assert type(slider) is type(steps) is ipywidgets.SelectionSlider
    assert slider.description == "w" and list(slider.options) == [("1", 1.0), ("3.5", 3.5), ("2", 2)]
    assert [value for _, value in steps.options] == [0, 3, 6]
    assert type(menu) is ipywidgets.Dropdown and menu.description == "path"
    assert list(menu.options) == ["linear", "cosine"]
    assert type(box) is ipywidgets.BoundedIntText and (box.min, box.value, box.max) == (3, 3, 99)
    assert list(row.children) == dials.images and text is dials.text and dials.images[0].format == "png"
    assert dials.setting == ("linear", 1.0, 3, 1, 0)
    assert slider.layout.width == "420px"


def test_prepare_draws_all_values_of_one_dial_at_the_setting_of_the_others():
    paint = Painter()
    dials = Dials(paint, {"t": [0.0, 0.5, 1.0], "path": ["linear", "cosine"]}, start={"path": "cosine"})
    assert dials.prepare("t") is dials
    assert sorted(paint.asked) == [(t, "cosine") for t in (0.0, 0.5, 1.0)]
    assert dials.setting == (0.0, "cosine")
    dials.dials["t"].value = 1.0
    assert len(paint.asked) == 3 and dials.text.value == "text of (1.0, 'cosine')"
    with pytest.raises(ValueError, match="name must be one of t, path; got 'w'"):
        dials.prepare("w")


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


def test_a_slider_follows_the_drag_only_where_all_of_its_pictures_are_drawn():
    paint = Painter()
    dials = Dials(paint, {"t": [0.0, 0.5, 1.0], "w": [1, 2], "path": ["linear", "cosine"]})
    t, w, path = dials.dials.values()
    assert not t.continuous_update and not w.continuous_update
    dials.prepare("t")
    assert t.continuous_update and not w.continuous_update
    w.value = 2
    assert w.continuous_update and not t.continuous_update  # for w=2 one t of three is drawn, for t=0 both w are
    w.value = 1
    assert t.continuous_update
    path.value = "cosine"
    assert not t.continuous_update


def test_while_a_picture_is_drawn_the_text_says_so():
    said = []

    def paint(w):
        said.append(dials.text.value if w > 1 else None)
        return Frame(b"picture", f"at {w}")

    dials = Dials(paint, {"w": [1, 2]})
    dials.dials["w"].value = 2
    dials.dials["w"].value = 1
    assert said == [None, "<i>drawing ...</i>"] and dials.text.value == "at 1"
