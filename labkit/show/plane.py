"""Figures in the plane: densities, clouds, fields and routes, each drawn into an `ax` within shared limits.

Functions on the plane are given as callables of points x (B, 2), so that one line says which time and label is shown:
`density(ax, lambda x: exact.log_prob(x, t.expand(len(x))))`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.functional import normalize

from labkit.base.inputs import LABELS, POINTS, a, described, positive, takes, tensor, whole
from labkit.flow.exact import ExactMarginal

LIMIT = 3.0  # half the width of every panel, unless asked otherwise
CLASS_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:gray")

Map = Callable[[Tensor], Tensor]  # points (B, 2) -> numbers (B,), or vectors (B, 2)


@takes(limit=positive(), n=whole(2))
def mesh(limit: float = LIMIT, n: int = 100) -> Tensor:
    """The points (n n, 2) of a square grid over [-limit, limit]^2, row by row from below."""
    line = torch.linspace(-limit, limit, n)
    down, across = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((across.reshape(-1), down.reshape(-1)), dim=1)


@takes(limit=positive(), cmap=a(str), top=positive())
def density(
    ax: Axes, log_prob: Map, *, limit: float = LIMIT, cmap: str = "Greys", lines: bool = False, top: float | None = None
) -> Axes:
    """Shade exp(log_prob) in ten steps, or draw its contour `lines`; `top` is the density of the darkest shade."""
    p = _on_mesh(log_prob, limit, 100).exp().reshape(100, 100)
    top = p.max().item() if top is None else top
    axis = np.linspace(-limit, limit, 100)
    if lines:
        ax.contour(axis, axis, p, levels=top * np.array([0.02, 0.1, 0.3, 0.6, 0.9]), colors="0.35", linewidths=0.7)
    else:
        shades = {"levels": top * np.linspace(0.02, 1, 10), "vmin": 0, "vmax": 1.3 * top, "extend": "max"}
        ax.contourf(axis, axis, p, cmap=cmap, **shades)
    return frame(ax, limit)


@takes(x=POINTS, y=LABELS, limit=positive(), colour=a(str, tuple), size=positive())
def cloud(
    ax: Axes, x: Tensor, y: Tensor | None = None, *, limit: float = LIMIT, colour: str = "tab:blue", size: float = 5
) -> Axes:
    """Draw points x (B, 2), in one `colour` or in those of their classes y (B,); write how many the frame cuts off."""
    if y is not None and len(y) != len(x):
        raise ValueError(f"y must hold a class for each of {len(x)} points; got {len(y)}")
    colours = colour if y is None else [CLASS_COLOURS[label % len(CLASS_COLOURS)] for label in y.tolist()]
    x = x.detach().cpu()
    ax.scatter(*x.T.numpy(), s=size, c=colours, alpha=0.6, linewidths=0)
    if cut := (x.abs() > limit).any(dim=1).sum().item():
        before = [text for text in ax.texts if text.get_gid() == "outside"]  # of a cloud drawn into the same frame
        cut += sum(int(text.get_text().split()[0]) for text in before)
        for text in before:
            text.remove()
        ax.text(0.98, 0.02, f"{cut} outside", transform=ax.transAxes, ha="right", fontsize=8, gid="outside")
    return frame(ax, limit)


@takes(clouds=tensor(finite=True), least=positive())
def reach(*clouds: Tensor, least: float = LIMIT) -> float:
    """Half the width of a frame that holds all points (B, 2) of the clouds, and is at least `least`."""
    return max(least, *(1.05 * x.abs().max().item() for x in clouds))


@takes(limit=positive(), top=positive(), n=whole(2))
def arrows(ax: Axes, field: Map, *, limit: float = LIMIT, top: float | None = None, n: int = 15) -> Axes:
    """Draw a field: unit arrows for its direction over shades for its size, from 0 to `top` (default: the largest)."""
    sizes = _on_mesh(field, limit, 60).norm(dim=1).reshape(60, 60)
    top = max(sizes.max().item() if top is None else top, 1e-12)
    axis = np.linspace(-limit, limit, 60)
    ax.contourf(axis, axis, sizes.clamp_max(top), levels=np.linspace(0, top, 11), cmap="Blues", vmax=1.3 * top)
    places, vectors = mesh(0.93 * limit, n), _on_mesh(field, 0.93 * limit, n)
    visible = vectors.norm(dim=1) > 0.05 * top  # the direction of almost nothing is noise
    drawn = torch.cat((places, normalize(vectors, dim=1)), dim=1)[visible]
    ax.quiver(*drawn.T.numpy(), color="0.15", scale=22, width=0.006, pivot="middle")
    return frame(ax, limit)


@takes(axes=a(list, tuple, np.ndarray), limit=positive())
def triptych(
    axes: Sequence[Axes],
    learned: Map,
    exact: Map,
    *,
    limit: float = LIMIT,
    log_prob: Map | None = None,
    names: tuple[str, str, str] = ("learned", "exact", "difference"),
) -> Sequence[Axes]:
    """Draw learned | exact | difference of two fields into three axes, with one scale of shades and the same limits.

    `log_prob` adds the contours of the density: where no data comes by, a learned field is free to be anything.
    """
    top = _on_mesh(exact, limit, 60).norm(dim=1).max().item()
    for ax, field, name in zip(axes, (learned, exact, lambda x: learned(x) - exact(x)), names, strict=True):
        arrows(ax, field, limit=limit, top=top)
        if log_prob is not None:
            density(ax, log_prob, limit=limit, lines=True)
        ax.set_title(name)
    return axes


@takes(way=tensor("n + 1", "B", 2, finite=True), limit=positive(), colour=a(str))
def routes(ax: Axes, way: Tensor, *, limit: float = LIMIT, colour: str = "0.3") -> Axes:
    """Draw the paths `way` (n + 1, B, 2) that `simulate(..., keep=True)` returns: starts hollow, ends filled."""
    way = way.detach().cpu()
    ax.plot(*way.permute(2, 0, 1).numpy(), color=colour, linewidth=0.8, alpha=0.7)
    ax.scatter(*way[0].T.numpy(), s=10, facecolors="white", edgecolors=colour, linewidths=0.7, zorder=3)
    ax.scatter(*way[-1].T.numpy(), s=10, c=colour, linewidths=0, zorder=3)
    return frame(ax, limit)


@takes(x=POINTS, label=whole(0), limit=positive())
def guided_cloud(ax: Axes, x: Tensor, label: int, exact: ExactMarginal, *, limit: float = LIMIT) -> Axes:
    """Draw points x (B, 2) that were asked to be of class `label`: its density shaded, that of all classes in lines."""
    density(ax, lambda p: exact.log_prob(p, torch.ones(len(p)), torch.full((len(p),), label)), limit=limit)
    density(ax, exact.mixture.log_prob, limit=limit, lines=True)
    return cloud(ax, x, limit=limit, colour=CLASS_COLOURS[label % len(CLASS_COLOURS)])


def frame(ax: Axes, limit: float = LIMIT) -> Axes:
    """Square limits, equal scales, no grid."""
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.grid(False)
    return ax


def _on_mesh(function: Map, limit: float, n: int) -> Tensor:
    with torch.no_grad():
        values = function(mesh(limit, n))
    if not isinstance(values, Tensor) or len(values) != n * n:
        raise TypeError(f"a function on the plane must give a row for each point, {n * n}; got {described(values)}")
    return values.cpu()
