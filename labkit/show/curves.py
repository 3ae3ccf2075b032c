"""Curves: training losses, and quality and diversity over the guidance scale."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

from labkit.measure.against_exact import CloudQuality


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


def quality_curve(ax: Axes, sweep: dict[float, tuple[Tensor, CloudQuality]], *, at: float | None = None) -> Axes:
    """Draw share in the class asked for and spread over w, from `labkit.clouds.cloud_sweep`; `at` marks one w."""
    ws = sorted(sweep)
    for name, label, colour, marker in (
        ("right", "quality: share in the class asked for", "tab:blue", "o"),
        ("spread", "diversity: spread, true class = 1", "tab:orange", "s"),
    ):
        values = [getattr(sweep[w][1], name) for w in ws]
        ax.plot(ws, values, marker=marker, markersize=4, color=colour, label=label)
        if at in sweep:
            ax.plot(at, getattr(sweep[at][1], name), marker=marker, markersize=10, color=colour)
    if at is not None:
        ax.axvline(at, color="0.3", linewidth=1)
    ax.set(xlabel="guidance scale w", ylim=(0, None))
    ax.legend(fontsize=8)
    return ax
