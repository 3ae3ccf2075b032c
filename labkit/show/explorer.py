"""Turn w: a cloud in the plane, or the digits of a trained model, at every guidance scale."""

import time
from collections.abc import Iterable, Sequence
from functools import cache

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from labkit.base.joints import Model
from labkit.base.runtime import seeded_noise
from labkit.data.images import balanced_labels
from labkit.flow.exact import ExactMarginal
from labkit.measure.against_exact import cloud_quality
from labkit.measure.judge import Judge
from labkit.measure.quality import Quality
from labkit.measure.samples import draw
from labkit.measure.sweeps import Sample, sweep
from labkit.show.curves import quality_curve
from labkit.show.dials import Dials, Frame
from labkit.show.figures import tile
from labkit.show.pictures import to_png
from labkit.show.plane import LIMIT, guided_cloud

WS = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8)  # guidance scales in the plane
ROWS = 5  # of digits in the explorer


def turn_w(
    sample: Sample, exact: ExactMarginal, *, ws: Sequence[float] = WS, n: int = 500, limit: float = LIMIT
) -> Dials:
    """The corner "turn w" of a lesson in the plane: a cloud at guidance scale w, and quality and diversity over w.

    `sample(w, y)` returns points (n, 2) for labels y (n,), from the same noise for every w. Starts at w=1, if there.
    """
    ws = [float(w) for w in ws]

    @cache
    def clouds(label: int) -> dict[float, tuple[Tensor, Quality]]:
        return sweep(sample, lambda x, y: (x, cloud_quality(x, y, exact)), ws, torch.full((n,), label))

    def shown(w: float, label: int) -> Frame:
        x, quality = clouds(label)[w]
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.8))
        guided_cloud(left, x, label, exact, limit=limit).set_title(f"asked for class {label}, w = {w:g}")
        quality_curve(right, {w: quality for w, (_, quality) in clouds(label).items()}, at=w)
        text = f"<b>w = {w:g}</b>: {quality.accuracy:.0%} of {n} points land in class {label}"
        return Frame(to_png(figure), f"{text}; their spread is {quality.spread:.2f} of the true one")

    return Dials(shown, {"w": ws, "class": list(range(exact.num_classes))}, start={"w": 1.0} if 1.0 in ws else None)


def guidance_explorer(
    model: Model,
    *,
    judge: Judge | None = None,
    curve: dict[float, Quality] | None = None,
    real: Quality | None = None,
    ws: Iterable[float] | None = None,
    steps: int = 10,
    seed: int = 0,
    rules: dict[str, dict] | None = None,
    shape: tuple[int, ...] = (1, 32, 32),
) -> Dials:
    """Dials for guidance scale, class and seed over a trained model: five digits of every class, or of one.

    For one class and seed all w start from the same noise. `prepare("w")` draws all w of the class and seed at hand.

    Arguments:
        model: a network that knows its `num_classes` and its null label, such as `load_pretrained("mnist-unet")`.
        judge: says how many of the digits shown are the ones asked for (default: nobody does).
        curve, real: measured with plain guidance, as in `quality_curve`; drawn beside the digits with a mark at w.
        ws: the positions of the slider, 1 among them (default: those of the curve, or 0 to 8 in halves).
        steps: midpoint steps; a menu offers half and twice as many, too.
        seed: of the noise shown first, 0..99.
        rules: kinds of guidance by name, the plain one first, as keyword arguments of `labkit.measure.draw`, like those
            that `kinds_of_guidance` returns (default: no menu).
        shape: of one image, (C, H, W).
    Raises ValueError for ws without 1 and a seed out of range.
    """
    ws = list(ws if ws is not None else curve or [k / 2 for k in range(17)])
    if 1.0 not in ws:
        raise ValueError(f"ws must hold 1, the plain conditional model, where the slider starts; got {ws}")
    rules = rules or {"plain": {}}
    labels = {"all": balanced_labels(ROWS * model.num_classes, model.num_classes)}
    labels |= {str(k): torch.full_like(labels["all"], k) for k in range(model.num_classes)}

    @cache
    def chart(w: float) -> bytes:
        figure, ax = plt.subplots(figsize=(4.6, 3.6))
        quality_curve(ax, curve, real=real, at=w)
        return to_png(figure)

    def shown(w: float, digit: str, seed: int, steps: str, kind: str) -> Frame:
        y, started = labels[digit], time.perf_counter()
        x = draw(model, seeded_noise(len(y), *shape, seed=seed), y, w, steps=int(steps), half=True, **rules[kind])
        took = f"{time.perf_counter() - started:.2f} s, {2 * int(steps)} evaluations of each branch"
        text = f"<b>w = {w:g}</b> (w' = {w - 1:g} where papers count from the conditional model)<br>"
        text += f"{len(y)} digits in {took}"
        if judge is not None:
            share = judge.accuracy(x, y)
            text += f"<br>these {share.n}: {round(share.value * share.n)} show the digit asked for, {share:.0%}"
        if curve and w in curve:  # set apart: figures of few digits and of many do not compare
            text += f"<hr>measured once with plain guidance, {curve[w]}"
        picture = to_png(tile(x, columns=model.num_classes), scale=2)
        return Frame([picture, chart(w)] if curve else picture, text)

    counts = sorted({max(1, steps // 2), steps, 2 * steps})
    dials = {"w": ws, "digit": list(labels), "seed": range(100), "steps": [*map(str, counts)], "guidance": list(rules)}
    explorer = Dials(shown, dials, start={"w": 1.0, "seed": seed, "steps": str(steps)})
    for image, width in zip(explorer.images, ("440px", "400px"), strict=False):
        image.layout.width = width
    return explorer
