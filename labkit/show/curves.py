"""Curves: training losses, and quality and diversity over the guidance scale, from `{w: Quality}`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from labkit.base.inputs import a, takes
from labkit.measure.quality import Quality

Curve = dict[float, Quality]

#: Figures of a Quality: what each means, its colour, its marker.
LOOKS = {
    "accuracy": ("is of the class asked for", "tab:blue", "o"),
    "typical": ("lies where 95% of its class lies", "tab:green", "^"),
    "density": ("looks like real data", "tab:green", "^"),
    "coverage": ("finds all kinds of it", "tab:orange", "s"),
    "spread": ("1 is as varied as real data", "tab:orange", "s"),
}


@takes(losses=a(list, tuple, np.ndarray))
def loss_curve(ax: Axes, losses: Sequence[float], *, first: float | None = None) -> Axes:
    """Draw a training loss on logarithmic axes: every step faint, a running mean (of 50 steps, or fewer) strong.

    `first` marks the loss that is known before training starts.
    """
    steps, window = np.arange(1, len(losses) + 1), max(1, min(50, len(losses) // 20))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    middles = steps[: len(smooth)] + (window - 1) / 2
    ax.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.7)
    ax.plot(middles, smooth, color="tab:blue", label=f"training loss, mean of {window} steps")
    if first is not None:
        ax.axhline(first, color="tab:red", linestyle="--", linewidth=1, label=f"known before training: {first:.2f}")
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="loss per pixel")
    _plain_numbers(ax.xaxis, digits=(1,))
    _plain_numbers(ax.yaxis)
    ax.legend()
    return ax


@takes()
def quality_curve(ax: Axes, curve: Curve, *, real: Quality | None = None, at: float | None = None) -> Axes:
    """Draw what all records hold over w: accuracy with its interval; density and coverage, or typical and spread.

    `real` gives the dotted lines of real samples at the same n; `at` marks one w.
    """
    ws = sorted(curve)
    held = [name for name in LOOKS if all(getattr(quality, name) is not None for quality in curve.values())]
    judged = "density" in held
    for name in [name for name in held if name != "spread" or not judged]:
        meaning, colour, marker = LOOKS[name]
        look = {"color": colour, "marker": marker}
        ax.plot(ws, [_figure(curve[w], name) for w in ws], markersize=4, label=f"{name}: {meaning}", **look)
        if at in curve:
            ax.plot(at, _figure(curve[at], name), markersize=10, **look)
        if real is not None:
            ax.axhline(_figure(real, name), color=colour, linestyle=":", linewidth=1)
    _, lows, highs, _ = zip(*(curve[w].accuracy for w in ws), strict=True)
    ax.fill_between(ws, lows, highs, color=LOOKS["accuracy"][1], alpha=0.25)
    if at is not None:
        ax.axvline(at, color="0.3", linewidth=1)
    title = f"n = {curve[ws[0]].n:,} a point" + ("" if real is None else "; dotted: real data")
    ax.set(xlabel="guidance scale w", ylim=(0, None), title=title)
    # The legend stands where no curve goes, and stays there while w turns: accuracy ends at 1, and spread below it.
    if not judged:
        ax.set_ylim(top=max(1.5, ax.get_ylim()[1]))
    ax.legend(fontsize=8, loc="lower right" if judged else "upper right")
    return ax


@takes(label=a(str))
def tradeoff_curve(ax: Axes, curve: Curve, real: Quality, *, label: str | None = None, name_w: bool = False) -> Axes:
    """Draw quality (density) over diversity (spread): a dot for every w, and beside it w if `name_w`.

    `real`, of real samples at the same n, is a star. Raises ValueError if a record lacks one of the two.
    """
    places = {w: (_figure(curve[w], "spread"), _figure(curve[w], "density")) for w in sorted(curve)}
    star = _figure(real, "spread"), _figure(real, "density")
    ax.plot(*zip(*places.values(), strict=True), "o-", markersize=5, label=label)
    if name_w:
        for w, place in places.items():
            ax.annotate(f"w={w:g}", place, (7, 4), textcoords="offset points", fontsize=8)
        ax.annotate("real data", star, (0, -18), textcoords="offset points", ha="center", color="tab:red")
    ax.plot(*star, "*", color="tab:red", markersize=15)
    ax.set(xlabel="diversity: spread within a class", ylabel="quality: density")
    return ax


@takes(label=a(str))
def frechet_curve(ax: Axes, curve: Curve, real: Quality, *, label: str | None = None) -> Axes:
    """Draw the Frechet distance (ValueError without) over w, on a log axis; dotted: of real samples at the same n."""
    ws = sorted(curve)
    ax.plot(ws, [_figure(curve[w], "frechet") for w in ws], "o-", markersize=5, label=label)
    ax.axhline(_figure(real, "frechet"), color="tab:red", linestyle=":", linewidth=1)
    ax.set(yscale="log", xlabel="guidance scale w", ylabel="Fréchet distance (dotted: real data)")
    _plain_numbers(ax.yaxis)
    return ax


def _figure(quality: Quality, name: str) -> float:
    value = getattr(quality, name)
    if value is None:
        raise ValueError(f"this curve needs the {name} of every w and of real data; one record holds only {quality}")
    return value.value if name == "accuracy" else value


def _plain_numbers(axis: Axis, digits: tuple[int, ...] = (1, 2, 5)) -> None:
    """Label a logarithmic axis 1, 2, 5, 10, ... instead of by powers of ten."""
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
