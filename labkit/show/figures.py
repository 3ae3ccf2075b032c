"""Figures: helpers that draw into an `ax` they are given and return it, in one style for all lessons."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from labkit.base.inputs import a, takes, tensor, whole
from labkit.data.images import to_uint8

AX, NAMES, IMAGES = a(Axes), a(list, tuple), tensor("N", "C", "H", "W", finite=True)
#: Opaque, so that figures stay readable on a dark page.
WHITE = {"figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white"}
LINES = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
SIZES = {"font.size": 10, "figure.dpi": 100, "figure.constrained_layout.use": True, "legend.frameon": False}


def use_style() -> None:
    """Use the course's style for every figure that follows."""
    plt.rcParams.update(WHITE | LINES | SIZES)


@takes(images=IMAGES, columns=whole(1), gap=whole(0))
def tile(images: Tensor, columns: int, *, gap: int = 2) -> np.ndarray:
    """Lay float images (N, C, H, W) in [-1, 1] out in rows of `columns`, `gap` grey pixels apart: a uint8 sheet.

    One channel is ink, +1 drawn dark on white paper: a sheet (height, width). Three are red, green and blue as they
    are: (height, width, 3). Raises ValueError for another shape, or a number of images that does not fill the rows.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images must have shape (N, 1, H, W) or (N, 3, H, W); got {tuple(images.shape)}")
    if len(images) % columns:
        raise ValueError(f"columns must divide the number of images, {len(images)}; got {columns}")
    pixels = to_uint8(images.detach()).cpu().permute(0, 2, 3, 1).numpy()
    if images.shape[1] == 1:  # 32 shades of grey, white among them: no eye tells, and half the bytes
        pixels = np.rint(np.rint((255 - pixels[..., 0]) * (31 / 255)) * (255 / 31)).astype(np.uint8)
    margins = [(0, 0), (0, gap), (0, gap)] + [(0, 0)] * (pixels.ndim - 3)
    framed = np.pad(pixels, margins, constant_values=225)
    rows = framed.reshape(-1, columns, *framed.shape[1:]).swapaxes(1, 2)  # (rows, H + gap, columns, W + gap, ...)
    sheet = rows.reshape(rows.shape[0] * rows.shape[1], -1, *pixels.shape[3:])
    return sheet[: len(sheet) - gap, : sheet.shape[1] - gap]


@takes(images=IMAGES, columns=whole(1), gap=whole(0), row_labels=NAMES, column_labels=NAMES, title=a(str))
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
    """Draw images, as `tile` lays them out, with labels at the left of rows and below columns."""
    ax.imshow(tile(images, columns, gap=gap), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    height, width = images.shape[2:]
    down = np.arange(len(images) // columns) * (height + gap) + (height - 1) / 2  # the middles of rows, and of columns
    across = np.arange(columns) * (width + gap) + (width - 1) / 2
    ax.set_yticks(down if row_labels else [], row_labels or [])
    ax.set_xticks(across if column_labels else [], column_labels or [])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax
