"""Sheets and grids of images show every pixel where it belongs."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from labkit.data.images import to_uint8
from labkit.show.figures import image_grid, tile


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


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_tile_shows_colours_as_they_are(gap):
    images = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sheet = tile(images, columns=3, gap=gap)
    assert sheet.shape == (2 * 4 + gap, 3 * 5 + 2 * gap, 3) and sheet.dtype == np.uint8
    paper = np.ones(sheet.shape[:2], dtype=bool)
    for index, image in enumerate(to_uint8(images).permute(0, 2, 3, 1).numpy()):
        top, left = (index // 3) * (4 + gap), (index % 3) * (5 + gap)
        assert (sheet[top : top + 4, left : left + 5] == image).all()
        paper[top : top + 4, left : left + 5] = False
    assert (sheet[paper] == 225).all()  # and what lies between them is grey


def test_tile_refuses_what_is_no_sheet_of_images():
    with pytest.raises(
        ValueError, match=r"images must have shape \(N, 1, H, W\) or \(N, 3, H, W\); got \(2, 2, 4, 4\)"
    ):
        tile(torch.zeros(2, 2, 4, 4), columns=1)
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


def test_image_grid_shows_colour_images_in_their_colours():
    images = torch.rand(4, 3, 3, 5, generator=torch.Generator().manual_seed(1)) * 2 - 1
    _, ax = plt.subplots()
    image_grid(ax, images, columns=2, gap=1)
    assert (ax.images[0].get_array() == tile(images, columns=2, gap=1)).all()
    plt.close()
