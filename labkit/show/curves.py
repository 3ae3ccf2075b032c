"""Curves: training losses, and quality and diversity over the guidance scale, from `{w: Quality}`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from labkit.measure.quality import Quality

Curve = dict[float, Quality]

#: Of what a Quality may hold: what it means, colour, marker.
LOOKS = {
    "accuracy": ("shows the class asked for", "tab:blue", "o"),
    "density": ("looks like real data", "tab:green", "^"),
    "coverage": ("finds all kinds of it", "tab:orange", "s"),
    "spread": ("1 is as varied as real data", "tab:orange", "s"),
}


def loss_curve(ax: Axes, losses: Sequence[float], *, first: float | None = None) -> Axes:
    """Draw a training loss on logarithmic axes: every step faint, a running mean (of 50 steps, or fewer) strong.

    `first` marks the loss that is known before training starts.
    """
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.7)
    window = max(1, min(50, len(losses) // 20))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    label = f"training loss, mean of {window} steps"
    ax.plot(steps[: len(smooth)] + (window - 1) / 2, smooth, color="tab:blue", label=label)
    if first is not None:
        ax.axhline(first, color="tab:red", linestyle="--", linewidth=1, label=f"known before training: {first:.2f}")
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="loss per pixel")
    _plain_numbers(ax.xaxis, LogLocator())
    _plain_numbers(ax.yaxis)
    ax.legend()
    return ax


def quality_curve(ax: Axes, curve: Curve, *, real: Quality | None = None, at: float | None = None) -> Axes:
    """Draw what all records hold over w: accuracy with its interval; density and coverage, or spread without them.

    `real` gives the dotted lines of real samples at the same n; `at` marks one w.
    """
    ws = sorted(curve)
    held = [name for name in LOOKS if all(getattr(quality, name) is not None for quality in curve.values())]
    for name in [name for name in held if name != "spread" or "density" not in held]:
        meaning, colour, marker = LOOKS[name]
        look = {"color": colour, "marker": marker}
        ax.plot(ws, [_figure(curve[w], name) for w in ws], markersize=4, label=f"{name}: {meaning}", **look)
        if at in curve:
            ax.plot(at, _figure(curve[at], name), markersize=10, **look)
        if real is not None:
            ax.axhline(_figure(real, name), color=colour, linestyle=":", linewidth=1)
    shares = [curve[w].accuracy for w in ws]
    ax.fill_between(ws, [s.low for s in shares], [s.high for s in shares], color=LOOKS["accuracy"][1], alpha=0.25)
    if at is not None:
        ax.axvline(at, color="0.3", linewidth=1)
    title = f"n = {curve[ws[0]].n:,} a point" + ("" if real is None else "; dotted: real data")
    ax.set(xlabel="guidance scale w", ylim=(0, None), title=title)
    # Where no curve goes, and where it stays while w turns: accuracy ends at 1, and spread below it.
    if "density" not in held:
        ax.set_ylim(top=max(1.5, ax.get_ylim()[1]))
    ax.legend(fontsize=8, loc="lower right" if "density" in held else "upper right")
    return ax


def tradeoff_curve(ax: Axes, curve: Curve, real: Quality, *, label: str | None = None, name_w: bool = False) -> Axes:
    """Draw quality (density) over diversity (spread), a dot for every w.

    `real`, of real samples at the same n, is drawn as a star; `name_w` writes the w beside each dot.
    Raises ValueError if a record holds no density.
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


def frechet_curve(ax: Axes, curve: Curve, real: Quality, *, label: str | None = None) -> Axes:
    """Draw the Frechet distance over w on a logarithmic axis, that of real samples at the same n as a dotted line.

    Raises ValueError if a record holds no Frechet distance.
    """
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


def _plain_numbers(axis: Axis, locator: LogLocator | None = None) -> None:
    """Label a logarithmic axis 1, 2, 5, 10, ... (or where `locator` says) instead of by powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if locator is None else locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
