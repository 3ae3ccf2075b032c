"""Sliders show the picture of their position."""

import pytest

from labkit.widgets import FrameSlider

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
