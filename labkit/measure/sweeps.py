"""The same measurement at every guidance scale."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from labkit.base.files import read_table
from labkit.data.images import balanced_labels
from labkit.flow.exact import ExactMarginal
from labkit.measure.against_exact import CloudQuality, cloud_quality
from labkit.measure.judge import CLASSES, Judge, Quality
from labkit.measure.samples import draw_images

PLAIN = "guided"  # the variant of a guidance table that is classifier-free guidance as it is


def guidance_sweep(
    model: nn.Module, judge: Judge, ws: Iterable[float], n: int, *, steps: int = 16, seed: int = 0
) -> dict[float, Quality]:
    """The quality of n class-balanced samples at every guidance scale, all from the same noise: `{w: Quality}`."""
    y = balanced_labels(n, CLASSES)
    return {w: judge.measure(draw_images(model, y, w, steps=steps, seed=seed), y) for w in ws}


def shipped_curve(name: str) -> tuple[dict[float, Quality], Quality]:
    """The measured quality of the shipped model `name` by guidance scale: `({w: Quality}, real digits at that n)`.

    Read from the table `NAME-guidance`, of which these are the rows of plain guidance; its card says how it was made.
    Raises ValueError for a name without one.
    """
    rows, card = read_table(f"{name}-guidance")
    curve = {float(row["w"]): _quality(row) for row in rows if row["variant"] == PLAIN}
    return curve, _quality(card.details["real digits at the same n"])


def _quality(row: dict) -> Quality:
    return Quality(**{key: row[key] for key in Quality._fields})


def cloud_sweep(
    sample: Callable[[float, Tensor], Tensor], exact: ExactMarginal, ws: Iterable[float], y: Tensor
) -> dict[float, tuple[Tensor, CloudQuality]]:
    """`{w: (points, CloudQuality)}` for the points `sample(w, y)` (B, d) of every guidance scale, labels y (B,)."""
    clouds = {float(w): sample(float(w), y) for w in ws}
    return {w: (x, cloud_quality(x, y, exact)) for w, x in clouds.items()}
