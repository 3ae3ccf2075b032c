"""Turn w: a cloud in the plane, or the digits of a trained model, at every guidance scale."""

import time
from collections.abc import Iterable, Sequence
from functools import cache

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from labkit.base.inputs import FUNCTION, Kind, a, positive, takes, whole, wholes
from labkit.base.joints import Model
from labkit.base.runtime import seeded_noise
from labkit.data.images import balanced_labels
from labkit.flow.exact import ExactMarginal
from labkit.measure.against_exact import cloud_quality
from labkit.measure.judge import Judge
from labkit.measure.quality import Quality
from labkit.measure.samples import draw, enough_steps
from labkit.measure.sweeps import PLAIN, Sample, sweep
from labkit.show.curves import Curve, quality_curve
from labkit.show.dials import Dials, Frame
from labkit.show.figures import tile
from labkit.show.pictures import to_png
from labkit.show.plane import guided_cloud, reach

WS = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8)  # guidance scales in the plane
ROWS = 5  # of digits in the explorer
MODELS = Kind("a model, or models by name", lambda v: isinstance(v, dict) or FUNCTION.is_one(v))
ENOUGH = "enough"  # steps: as many as `draw` takes by default


@takes(ws=a(list, tuple), n=whole(1), limit=positive())
def turn_w(
    sample: Sample, exact: ExactMarginal, *, ws: Sequence[float] = WS, n: int = 500, limit: float | None = None
) -> Dials:
    """The corner "turn w" of a lesson in the plane: a cloud at guidance scale w, and what is measured of it over w.

    `sample(w, y)` returns points (n, 2) for labels y (n,), from the same noise for every w. Starts at w=1, if there.
    The frame reaches to `limit` (default: as far as the points of any w), and says how many points it cuts off.
    """
    ws = [float(w) for w in ws]

    @cache
    def clouds(label: int) -> dict[float, tuple[Tensor, Quality]]:
        return sweep(sample, lambda x, y: (x, cloud_quality(x, y, exact)), ws, torch.full((n,), label))

    def shown(w: float, label: int) -> Frame:
        x, quality = clouds(label)[w]
        wide = limit or reach(*(points for points, _ in clouds(label).values()))
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.8))
        guided_cloud(left, x, label, exact, limit=wide).set_title(f"asked for class {label}, w = {w:g}")
        quality_curve(right, {w: quality for w, (_, quality) in clouds(label).items()}, at=w)
        text = f"<b>w = {w:g}</b>: {quality.accuracy:.0%} of {n} points land in class {label}; "
        text += f"<b>{quality.typical:.0%}</b> where 95% of it lies (real points: 95%)"
        return Frame(to_png(figure), f"{text}; their spread is <b>{quality.spread:.2f}</b> of the true one")

    return Dials(shown, {"w": ws, "class": list(range(exact.num_classes))}, start={"w": 1.0} if 1.0 in ws else None)


@takes(model=MODELS, steps=wholes(1), shape=wholes(1))
def guidance_explorer(
    model: Model | dict[str, Model],
    *,
    judge: Judge | None = None,
    curves: dict[str, Curve] | None = None,
    real: Quality | None = None,
    ws: Iterable[float] | None = None,
    steps: Sequence[int] = (3, 6, 12),
    seed: int = 0,
    rules: dict[str, dict] | None = None,
    shape: tuple[int, ...] = (1, 32, 32),
) -> Dials:
    """Dials for guidance scale, class and seed over a trained model: fifty digits of one class, or five of every.

    It starts with one class, for variety cannot be seen where every picture has another label. For one class and seed
    all w start from the same noise. `prepare("w")` draws all w of the class and seed at hand.

    Arguments:
        model: a network that knows its `num_classes` and its null label, such as `load_pretrained("mnist-unet")`; or
            several by name, for a menu. `curves` are those of the first.
        judge: says how many of the digits shown are the ones asked for (default: nobody does).
        curves: what was measured by kind of guidance, {w: Quality} for each, like `shipped_curves`; that of the kind
            at hand is drawn beside the digits, with a mark at w, and `real`, of real images at the same n, dotted.
        ws: the positions of the slider, 1 among them (default: those of the first curve, or 0 to 8 in halves).
        steps: numbers of midpoint steps that a menu offers, besides those that `draw` takes by default.
        seed: of the noise shown first, 0..99.
        rules: kinds of guidance by name, named as in `curves`, as keyword arguments of `labkit.measure.draw`, like
            those that `kinds_of_guidance` returns (default: plain guidance, and no menu).
        shape: of one image, (C, H, W).
    Raises ValueError for ws without 1 and a seed out of range.
    """
    curves, rules = curves or {}, rules or {PLAIN: {}}
    models = model if isinstance(model, dict) else {"shipped": model}
    first, model = next(iter(models.items()))
    ws = list(ws if ws is not None else next(iter(curves.values()), [k / 2 for k in range(17)]))
    if 1.0 not in ws:
        raise ValueError(f"ws must hold 1, the plain conditional model, where the slider starts; got {ws}")
    every = balanced_labels(ROWS * model.num_classes, model.num_classes)
    labels = {str(k): torch.full_like(every, k) for k in range(model.num_classes)} | {"all": every}

    @cache
    def chart(network: str, kind: str, w: float) -> bytes:
        figure, ax = plt.subplots(figsize=(4.6, 3.6))
        if network == first and kind in curves:
            quality_curve(ax, curves[kind], real=real, at=w)
        else:
            ax.text(0.5, 0.5, f"{network}, {kind}: not measured", ha="center")
            ax.axis("off")
        return to_png(figure)

    def shown(w: float, digit: str, seed: int, steps: str, kind: str, network: str) -> Frame:
        y, started = labels[digit], time.perf_counter()
        count = enough_steps(w, other=bool(rules[kind])) if steps == ENOUGH else int(steps)
        x = draw(models[network], seeded_noise(len(y), *shape, seed=seed), y, w, steps=count, half=True, **rules[kind])
        took = f"{time.perf_counter() - started:.2f} s, {2 * count} evaluations of each branch"
        text = f"<b>w = {w:g}</b> (w' = {w - 1:g} where papers count from the conditional model)<br>"
        text += f"{len(y)} digits in {took}"
        if judge is not None:
            share = judge.accuracy(x, y)
            text += f"<br>these {share.n}: {round(share.value * share.n)} show the digit asked for, {share:.0%}"
        if network == first and w in curves.get(
            kind, ()
        ):  # set apart: figures of few digits and of many do not compare
            text += f"<hr>measured once ({kind}): {curves[kind][w]}" + (f"<br>real digits: {real}" if real else "")
        picture = to_png(tile(x, columns=model.num_classes), scale=2)
        return Frame([picture, chart(network, kind, w)] if curves else picture, text)

    counts = [ENOUGH, *map(str, steps)]
    dials = {"w": ws, "digit": list(labels), "seed": range(100), "steps": counts, "guidance": list(rules)}
    dials["network"] = list(models)
    digit = "2" if "2" in labels else "0"  # a two has many forms
    explorer = Dials(shown, dials, start={"w": 1.0, "digit": digit, "seed": seed})
    for image, width in zip(explorer.images, ("440px", "400px"), strict=False):
        image.layout.width = width
    return explorer
