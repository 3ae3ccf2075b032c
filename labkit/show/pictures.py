"""From figures to PNG and GIF bytes, and into a notebook with their alt sentence."""

import base64
import io
from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from labkit.base.inputs import a, positive, takes, whole


@takes(figure=a(Figure, np.ndarray), scale=whole(1))
def to_png(figure: Figure | np.ndarray, *, scale: int = 1) -> bytes:
    """PNG bytes of a figure, or of a uint8 image (H, W) or (H, W, 3) with every pixel `scale` pixels wide."""
    buffer = io.BytesIO()
    if isinstance(figure, Figure):
        figure.savefig(buffer, format="png")
        plt.close(figure)
    else:
        Image.fromarray(figure.repeat(scale, axis=0).repeat(scale, axis=1)).save(buffer, format="png")
    return buffer.getvalue()


@takes(alt=a(str))
def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with `alt`, the sentence that stands for it where it cannot be seen; close it.

    Its PNG keeps 128 colours, and takes a third of the space, where no eye tells them from all: not in photographs.
    """
    whole = Image.open(io.BytesIO(to_png(figure))).convert("RGB")
    few = whole.quantize(128, dither=Image.Dither.NONE)
    lost = np.abs(np.asarray(few.convert("RGB"), float) - np.asarray(whole)).mean()
    buffer = io.BytesIO()
    (few if lost < 1 else whole).save(buffer, "PNG", optimize=True)
    _display(buffer.getvalue(), alt)


@takes(frames=a(list, tuple), seconds=positive(), colours=whole(2, 256))
def to_gif(frames: Sequence[bytes], *, seconds: float, colours: int = 32) -> bytes:
    """A GIF that shows PNG `frames` of one size in a loop of `seconds` in all, resting a second on the last one."""
    if not frames:
        raise ValueError("frames must hold at least one picture")
    opened = (Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames)
    pictures = [picture.quantize(colours, dither=Image.Dither.NONE) for picture in opened]
    # GIFs count whole hundredths of a second: round the ends of the frames, so that the rounding does not add up.
    ends = [10 * round(100 * seconds * (k + 1) / len(pictures)) for k in range(len(pictures))]
    durations = [end - start for start, end in pairwise([0, *ends])]
    durations[-1] += 1000
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return buffer.getvalue()


@takes(alt=a(str))
def show_gif(gif: bytes, alt: str) -> None:
    """Display a GIF in a notebook, with its `alt` sentence."""
    _display(gif, alt)


def _display(picture: bytes, alt: str) -> None:
    # Every front end shows what is called image/png, and browsers go by the bytes: called image/gif, some show nothing.
    display({"image/png": base64.b64encode(picture).decode()}, raw=True, metadata={"image/png": {"alt": alt}})
