"""Figures become bytes that decode to what was drawn, and travel with their sentence."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from labkit.show import pictures
from labkit.show.figures import use_style
from labkit.show.pictures import show, show_gif, to_gif, to_png


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3)])
def test_png_of_an_array_decodes_to_its_pixels_enlarged(shape):
    sheet = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) * 7
    decoded = np.asarray(Image.open(io.BytesIO(to_png(sheet, scale=2))))
    assert (decoded == np.kron(sheet, np.ones((2, 2, 1)[: len(shape)], dtype=np.uint8))).all()


def test_png_of_a_figure_is_opaque_white_in_the_style():
    with plt.rc_context():
        use_style()
        fig = plt.figure(figsize=(1, 1))
        corner = np.asarray(Image.open(io.BytesIO(to_png(fig))).convert("RGBA"))[0, 0]
    assert corner.tolist() == [255, 255, 255, 255]


@pytest.fixture
def shown(monkeypatch):
    """What is displayed while a test runs: (data by type, metadata by type), one for each."""
    found = []

    def display(data, *, raw, metadata):
        assert raw  # a bundle of types, not an object to be printed
        found.append((data, metadata))

    monkeypatch.setattr(pictures, "display", display)
    return found


def test_show_displays_one_png_with_its_sentence_and_closes_the_figure(shown):
    fig, ax = plt.subplots(figsize=(3, 2), dpi=100)
    ax.plot([0, 1], color="tab:red")
    expected = np.asarray(Image.open(io.BytesIO(to_png(fig))).convert("RGB")).astype(int)
    fig, ax = plt.subplots(figsize=(3, 2), dpi=100)
    ax.plot([0, 1], color="tab:red")
    assert show(fig, alt="A red line that rises.") is None
    assert not plt.fignum_exists(fig.number)
    ((data, metadata),) = shown
    assert data.keys() == {"image/png"} and metadata == {"image/png": {"alt": "A red line that rises."}}
    png = base64.b64decode(data["image/png"], validate=True)
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and len(png) < len(to_png(fig))
    # 128 colours are enough for every pixel to look as it was.
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - expected).max() <= 16


def test_a_figure_of_many_colours_keeps_them_all(shown):
    def photograph():
        down, across = np.mgrid[0:1:200j, 0:1:200j]
        figure = plt.figure(figsize=(2, 2), dpi=100)
        figure.figimage(np.stack((down, across, np.sin(9 * down * across) ** 2), axis=-1))
        return figure

    expected = np.asarray(Image.open(io.BytesIO(to_png(photograph()))).convert("RGB"))
    show(photograph(), alt="All colours.")
    png = base64.b64decode(shown[0][0]["image/png"])
    assert (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) == expected).all()


def picture(shade):
    """A PNG frame of one grey with a red corner."""
    frame = np.full((20, 30, 3), shade, dtype=np.uint8)
    frame[:5, :5] = (200, 30, 30)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG")
    return buffer.getvalue()


SHADES = (250, 170, 90, 10)


@pytest.mark.parametrize("seconds", [2.0, 3.0, 0.5])
def test_a_gif_shows_every_frame_for_its_share_of_the_time_and_rests_on_the_last(seconds):
    gif = Image.open(io.BytesIO(to_gif([picture(shade) for shade in SHADES], seconds=seconds)))
    assert gif.format == "GIF" and gif.n_frames == 4 and gif.size == (30, 20) and gif.info["loop"] == 0  # for ever
    durations = []
    for place, shade in enumerate(SHADES):
        gif.seek(place)
        durations.append(gif.info["duration"])
        pixels = np.asarray(gif.convert("RGB")).astype(int)
        assert np.abs(pixels[10:, 10:] - shade).max() <= 2 and np.abs(pixels[2, 2] - (200, 30, 30)).max() <= 8
    each = 1000 * seconds / 4
    assert durations == pytest.approx([each, each, each, each + 1000], abs=10)  # GIFs count hundredths of a second


def test_a_gif_of_many_frames_takes_the_seconds_asked_for():
    frames = [picture(shade) for shade in range(10, 246, 5)]
    gif = Image.open(io.BytesIO(to_gif(frames, seconds=2.5)))
    total = 0
    for place in range(gif.n_frames):
        gif.seek(place)
        total += gif.info["duration"]
    assert gif.n_frames == 48 and total == pytest.approx(2500 + 1000, abs=10)


def test_a_gif_of_fewer_colours_is_smaller():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (60, 1))
    frames = [to_png(ramp), to_png(ramp[:, ::-1])]
    assert len(to_gif(frames, seconds=1, colours=4)) < len(to_gif(frames, seconds=1, colours=64))


def test_a_gif_without_frames_is_refused():
    with pytest.raises(ValueError, match="frames must hold at least one picture"):
        to_gif([], seconds=1)


def test_a_gif_is_displayed_byte_by_byte_under_the_type_that_every_front_end_shows(shown):
    gif = to_gif([picture(10), picture(200)], seconds=1)
    show_gif(gif, alt="Grey grows lighter.")
    ((data, metadata),) = shown
    assert base64.b64decode(data["image/png"], validate=True) == gif
    assert metadata == {"image/png": {"alt": "Grey grows lighter."}}
