"""Figures show the numbers they are given."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from labkit.measure.judge import Quality
from labkit.show import figures as plotting
from labkit.show.curves import frechet_curve, guidance_curve, loss_curve, tradeoff_curve
from labkit.show.figures import image_grid, tile, use_style
from labkit.show.pictures import show, show_gif, to_gif, to_png


def checker(count):
    """`count` images 3x5 of ink (+1), except that image i has paper (-1) in its first i pixels."""
    images = torch.ones(count, 1, 3, 5)
    for index, image in enumerate(images):
        image.view(-1)[:index] = -1
    return images


def test_tile_puts_every_image_where_reading_order_says():
    sheet = tile(checker(6), columns=3, gap=1)
    assert sheet.shape == (2 * 3 + 1, 3 * 5 + 2)
    for index in range(6):
        top, left = (index // 3) * 4, (index % 3) * 6
        assert (sheet[top : top + 3, left : left + 5] == 255).sum() == index  # paper pixels count the image


def test_tile_draws_ink_dark_and_paper_white_within_half_a_shade():
    levels = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    expected = 127.5 * (1 - levels[0, 0].numpy())
    assert np.abs(tile(levels, columns=1).astype(float) - expected).max() <= 5  # 32 shades are 8 apart


def test_tile_refuses_what_is_no_sheet_of_images():
    with pytest.raises(ValueError, match=r"images must have shape \(N, 1, H, W\); got \(2, 3, 4, 4\)"):
        tile(torch.zeros(2, 3, 4, 4), columns=1)
    with pytest.raises(ValueError, match="columns must divide the number of images, 4; got 3"):
        tile(torch.zeros(4, 1, 4, 4), columns=3)


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_image_grid_labels_stand_at_the_centres_of_rows_and_columns(gap):
    _, ax = plt.subplots()
    labels = {"row_labels": ["a", "b"], "column_labels": ["x", "y", "z"]}
    assert image_grid(ax, checker(6), columns=3, gap=gap, **labels) is ax
    assert ax.get_yticks().tolist() == [1, 1 + 3 + gap]
    assert ax.get_xticks().tolist() == [2, 2 + 5 + gap, 2 + 2 * (5 + gap)]
    assert ax.images[0].get_array().shape == (2 * 3 + gap, 3 * 5 + 2 * gap)
    plt.close()


def test_loss_curve_draws_every_step_and_the_known_first_loss():
    losses = [2.0, 1.5, 1.25, 1.0]
    _, ax = plt.subplots()
    loss_curve(ax, losses, first=1.9)
    raw, smooth, first = ax.lines
    assert raw.get_ydata().tolist() == losses
    assert smooth.get_ydata().tolist() == losses  # a window of 1 for so short a run
    assert set(first.get_ydata()) == {1.9}
    plt.close()


def test_the_running_mean_keeps_a_constant_loss():
    _, ax = plt.subplots()
    loss_curve(ax, [0.5] * 2000)
    assert np.allclose(ax.lines[1].get_ydata(), 0.5)
    assert len(ax.lines[1].get_ydata()) == 2000 - 50 + 1
    plt.close()


def test_png_of_an_array_decodes_to_its_pixels_enlarged():
    sheet = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    decoded = np.asarray(Image.open(io.BytesIO(to_png(sheet, scale=2))))
    assert (decoded == np.kron(sheet, np.ones((2, 2), dtype=np.uint8))).all()


def test_png_of_a_figure_is_opaque_white_in_the_style():
    with plt.rc_context():
        use_style()
        fig = plt.figure(figsize=(1, 1))
        corner = np.asarray(Image.open(io.BytesIO(to_png(fig))).convert("RGBA"))[0, 0]
    assert corner.tolist() == [255, 255, 255, 255]


def test_the_guidance_curve_draws_three_measures_real_digits_and_the_marker():
    curve = {w: Quality(200, 0.5 + w / 10, 0, 1, 3.0, 1.0 + w, 0.9 - w / 10) for w in (2.0, 0.0, 1.0)}
    _, ax = plt.subplots()
    guidance_curve(ax, curve, real=Quality(200, 0.99, 0, 1, 0.1, 1.05, 0.97), at=1.0)
    drawn = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    for name, line in zip(("accuracy", "density", "coverage"), drawn.values(), strict=True):
        assert line.get_label().startswith(name) and line.get_xdata().tolist() == [0, 1, 2]
        assert line.get_ydata().tolist() == [getattr(curve[w], name) for w in (0.0, 1.0, 2.0)]
    dotted = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted == [0.99, 1.05, 0.97]
    marked = [line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert marked == [curve[1.0].accuracy, curve[1.0].density, curve[1.0].coverage]
    assert "n = 200" in ax.get_title()
    plt.close()


@pytest.fixture
def shown(monkeypatch):
    """What is displayed while a test runs: (data by type, metadata by type), one for each."""
    found = []

    def display(data, *, raw, metadata):
        assert raw  # a bundle of types, not an object to be printed
        found.append((data, metadata))

    monkeypatch.setattr(plotting, "display", display)
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


ROWS = [{"w": w, "spread": 1.2 - w / 10, "density": 0.8 + w / 20, "frechet": 2.0 + w} for w in (1, 1.5, 4)]
REAL = {"spread": 1.0, "density": 0.95, "frechet": 0.3}


def test_the_tradeoff_is_drawn_with_diversity_across_quality_up_and_real_digits_as_a_star():
    _, ax = plt.subplots()
    assert tradeoff_curve(ax, ROWS, REAL, label="plain", name_w=True) is ax
    path, star = ax.lines
    np.testing.assert_allclose(path.get_xydata(), [(row["spread"], row["density"]) for row in ROWS])
    np.testing.assert_allclose(star.get_xydata(), [(1.0, 0.95)])
    assert path.get_label() == "plain" and star.get_marker() == "*"
    assert {text.get_text(): text.xy for text in ax.texts}["w=1.5"] == (ROWS[1]["spread"], ROWS[1]["density"])
    assert "diversity" in ax.get_xlabel() and "quality" in ax.get_ylabel()
    plt.close("all")


def test_dots_are_named_only_where_asked():
    _, ax = plt.subplots()
    tradeoff_curve(ax, ROWS, REAL)
    assert not ax.texts
    plt.close("all")


def test_the_frechet_distance_is_drawn_over_w_on_a_log_axis_with_real_digits_dotted():
    figure, ax = plt.subplots()
    assert frechet_curve(ax, ROWS, REAL) is ax
    path, real = ax.lines
    np.testing.assert_allclose(path.get_xydata(), [(row["w"], row["frechet"]) for row in ROWS])
    assert list(real.get_ydata()) == [0.3, 0.3] and real.get_linestyle() == ":" and ax.get_yscale() == "log"
    figure.canvas.draw()
    shown = {label.get_text() for label in ax.get_yticklabels()}
    assert {"0.5", "1", "2", "5"} <= shown and not [text for text in shown if "10^" in text]
    plt.close("all")
