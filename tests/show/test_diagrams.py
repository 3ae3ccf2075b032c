"""The drawn U-Net says what the network's own shapes say."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.patches import Rectangle

from labkit.nn.trace import shape_trace
from labkit.nn.unet import UNet
from labkit.show.diagrams import generators_diagram, unet_diagram


@pytest.mark.parametrize(("widths", "blocks", "patch"), [((8, 16, 24), 1, 2), ((16, 8), 2, 1), ((24,), 1, 4)])
def test_every_part_is_a_box_with_the_shape_that_leaves_it(widths, blocks, patch):
    network = UNet(2, 3, widths=widths, blocks=blocks, patch=patch)
    trace = shape_trace(network, torch.randn(1, 2, 32, 16), torch.rand(1), torch.tensor([0]))
    _, ax = plt.subplots()
    unet_diagram(ax, trace)
    boxes = dict(text.get_text().split("\n") for text in ax.texts if "×" in text.get_text())
    sizes = {"stem": (widths[0], 0), "head": (2 * patch**2, 0), "midcoder": (widths[-1], len(widths) - 1)}
    for depth, width in enumerate(widths):
        sizes[f"encoder {depth}"] = sizes[f"decoder {len(widths) - 1 - depth}"] = (width, depth)
    expected = {
        name: f"{width} × {32 // patch // 2**depth} × {16 // patch // 2**depth}"
        for name, (width, depth) in sizes.items()
    }
    assert boxes == expected
    assert len(ax.patches) == 2 * len(widths) + 3  # a box each
    plt.close()


def test_the_generators_differ_in_who_looks_at_whom():
    _, ax = plt.subplots()
    assert generators_diagram(ax) is ax
    squares = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(squares) == 1 + 4 + 4  # image alone, and twice text and image
    white = [square.get_facecolor()[:3] == (1, 1, 1) for square in squares]
    assert white == [False] * 5 + [True, True, False, False]  # words are read in a video, and read nothing
    words = " ".join(text.get_text() for text in ax.texts)
    assert all(name in words for name in ("CLIP", "T5", "UL2", "adaLN", "class"))
    plt.close()
