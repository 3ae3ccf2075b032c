"""The drawn U-Net says what the network's own shapes say."""

import matplotlib.pyplot as plt
import pytest
import torch

from labkit.diagrams import unet_diagram
from labkit.nn.trace import shape_trace
from labkit.nn.unet import UNet


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
