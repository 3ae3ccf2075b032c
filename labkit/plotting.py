"""Figures: helpers that draw into an `ax` they are given and return it, in one style for all lessons."""

import base64
import io
from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image
from torch import Tensor

from labkit.data import to_uint8

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


def loss_curve(ax: Axes, losses: list[float], *, first: float | None = None) -> Axes:
    """Draw a training loss on logarithmic axes: every step faint, a running mean (of 50 steps, or fewer) strong.

    `first` marks the loss that is known before training starts.
    """
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.7)
    window = max(1, min(50, len(losses) // 20))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    ax.plot(
        steps[: len(smooth)] + (window - 1) / 2,
        smooth,
        color="tab:blue",
        label=f"training loss, mean of {window} steps",
    )
    if first is not None:
        ax.axhline(first, color="tab:red", linestyle="--", linewidth=1, label=f"known before training: {first:.2f}")
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="loss per pixel")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.legend()
    return ax


def guidance_curve(ax: Axes, curve: dict, *, real: tuple | None = None, at: float | None = None) -> Axes:
    """Draw accuracy with its interval, density and coverage over w: `curve` is `{w: Quality}` as from `guidance_sweep`.

    `real`, a Quality too, gives the dotted lines of real digits at the same n; `at` marks one w.
    """
    ws = sorted(curve)
    for name, label, colour, marker in (
        ("accuracy", "accuracy: shows the digit asked for", "tab:blue", "o"),
        ("density", "density: looks like real ones", "tab:green", "^"),
        ("coverage", "coverage: finds all kinds of them", "tab:orange", "s"),
    ):
        ax.plot(ws, [getattr(curve[w], name) for w in ws], marker=marker, markersize=4, color=colour, label=label)
        if name == "accuracy":
            ax.fill_between(ws, [curve[w].low for w in ws], [curve[w].high for w in ws], color=colour, alpha=0.25)
        if real is not None:
            ax.axhline(getattr(real, name), color=colour, linestyle=":", linewidth=1)
        if at in curve:
            ax.plot(at, getattr(curve[at], name), marker=marker, markersize=10, color=colour)
    if at is not None:
        ax.axvline(at, color="0.3", linewidth=1)
    n = curve[ws[0]].n
    ax.set(xlabel="guidance scale w", ylim=(0, None), title=f"n = {n:,} a point; dotted: real digits")
    ax.legend(fontsize=8, loc="lower right")
    return ax


def tradeoff_curve(ax: Axes, rows: list[dict], real: dict, *, label: str | None = None, name_w: bool = False) -> Axes:
    """Draw quality (density) over diversity (spread), a dot for every w: `rows` are those of a guidance table.

    `real` is the row of real digits at the same n, drawn as a star; `name_w` writes the w beside each dot.
    """
    spread, density = ([row[name] for row in rows] for name in ("spread", "density"))
    ax.plot(spread, density, "o-", markersize=5, label=label)
    if name_w:
        for row, x, y in zip(rows, spread, density, strict=True):
            ax.annotate(f"w={row['w']:g}", (x, y), textcoords="offset points", xytext=(7, 4), fontsize=8)
        ax.annotate(
            "real digits",
            (real["spread"], real["density"]),
            textcoords="offset points",
            xytext=(0, -18),
            ha="center",
            color="tab:red",
        )
    ax.plot(real["spread"], real["density"], "*", color="tab:red", markersize=15)
    ax.set(xlabel="diversity: spread within a class", ylabel="quality: density")
    return ax


def frechet_curve(ax: Axes, rows: list[dict], real: dict, *, label: str | None = None) -> Axes:
    """Draw the Frechet distance over w on a logarithmic axis: `rows` and `real` as in `tradeoff_curve`."""
    ax.plot([row["w"] for row in rows], [row["frechet"] for row in rows], "o-", markersize=5, label=label)
    ax.axhline(real["frechet"], color="tab:red", linestyle=":", linewidth=1)
    ax.set(yscale="log", xlabel="guidance scale w", ylabel="Fréchet distance (dotted: real digits)")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return ax


def to_png(figure: Figure | np.ndarray, *, scale: int = 1) -> bytes:
    """PNG bytes of a figure, or of a grey uint8 image (height, width) with every pixel `scale` pixels wide."""
    buffer = io.BytesIO()
    if isinstance(figure, Figure):
        figure.savefig(buffer, format="png")
        plt.close(figure)
    else:
        enlarged = np.repeat(np.repeat(figure, scale, axis=0), scale, axis=1)
        Image.fromarray(enlarged).save(buffer, format="png")
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with `alt`, the sentence that stands for it where it cannot be seen; close it.

    Its PNG keeps 128 colours, which no eye tells from all of them and which take a third of the space.
    """
    buffer = io.BytesIO()
    Image.open(io.BytesIO(to_png(figure))).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    _display_png(buffer.getvalue(), alt)


def to_gif(frames: Sequence[bytes], *, seconds: float, colours: int = 32) -> bytes:
    """A GIF that shows PNG `frames` of one size in a loop of `seconds` in all, resting a second on the last one."""
    if not frames:
        raise ValueError("frames must hold at least one picture")
    pictures = [
        Image.open(io.BytesIO(frame)).convert("RGB").quantize(colours, dither=Image.Dither.NONE) for frame in frames
    ]
    # GIFs count whole hundredths of a second: round the ends of the frames, so that the rounding does not add up.
    ends = [10 * round(100 * seconds * (k + 1) / len(pictures)) for k in range(len(pictures))]
    durations = [end - start for start, end in pairwise([0, *ends])]
    durations[-1] += 1000
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return buffer.getvalue()


def show_gif(gif: bytes, alt: str) -> None:
    """Display a GIF in a notebook, with its `alt` sentence."""
    # Every front end shows what is called image/png, and browsers go by the bytes: called image/gif, some show nothing.
    _display_png(gif, alt)


def _display_png(picture: bytes, alt: str) -> None:
    display({"image/png": base64.b64encode(picture).decode()}, raw=True, metadata={"image/png": {"alt": alt}})
