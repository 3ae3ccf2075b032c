"""Figures: helpers that draw into an `ax` they are given and return it, in one style for all lessons."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from labkit.data.images import to_uint8

#: Opaque white, so that figures stay readable on a dark page; one size of type.
STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def use_style() -> None:
    """Use the course's style for every figure that follows."""
    plt.rcParams.update(STYLE)


def tile(images: Tensor, columns: int, *, gap: int = 2) -> np.ndarray:
    """Lay float images (N, 1, H, W) in [-1, 1] out in rows of `columns`: a uint8 sheet, dark ink on white paper.

    Pixels are rounded to 32 shades of grey: no eye tells at this size, and the PNG is half as large.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images must have shape (N, 1, H, W); got {tuple(images.shape)}")
    if columns < 1 or len(images) % columns:
        raise ValueError(f"columns must divide the number of images, {len(images)}; got {columns}")
    ink = (to_uint8(images.detach()).cpu().numpy()[:, 0] + 4.0) // 8 * 8
    pixels = 255 - np.minimum(ink, 255).astype(np.uint8)
    height, width = pixels.shape[1:]
    rows = len(pixels) // columns
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), 225, dtype=np.uint8)
    for index, picture in enumerate(pixels):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def image_grid(
    ax: Axes,
    images: Tensor,
    columns: int,
    *,
    row_labels: list[str] | None = None,
    column_labels: list[str] | None = None,
    title: str = "",
    gap: int = 2,
) -> Axes:
    """Draw images (N, 1, H, W) in [-1, 1] in rows of `columns`, with labels at the left of rows and below columns.

    Between neighbours lie `gap` grey pixels.
    """
    ax.imshow(tile(images, columns, gap=gap), cmap="gray", vmin=0, vmax=255, interpolation="nearest")

    def centres(count: int, size: int) -> list[float]:
        return [index * (size + gap) + (size - 1) / 2 for index in range(count)]

    ax.set_yticks(centres(len(images) // columns, images.shape[2]) if row_labels else [], row_labels or [])
    ax.set_xticks(centres(columns, images.shape[3]) if column_labels else [], column_labels or [])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax
