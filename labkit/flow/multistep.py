"""Solvers that remember: one evaluation of the field a step, and grids that spend their steps where they count.

Steps as in `labkit.flow.solvers`, made anew for every run: a step that does not begin where the last one ended starts
without a memory.
"""

import torch
from torch import Tensor

from labkit.base.inputs import positive, takes, visible, whole
from labkit.base.joints import Field, Step
from labkit.base.shapes import expand_t
from labkit.flow.paths import SINGULAR, GaussianPath, complete
from labkit.flow.solvers import slope, step_length


@takes(n=whole(1), amount=positive())
def shifted(n: int, amount: float) -> Tensor:
    """n + 1 times from 0 to 1, u / (u + (1 - u) / a) of a uniform grid u: below a=1 more of them are near the noise.

    It adds log a to log(t / (1 - t)) of every time. Scaling Rectified Flow Transformers for High-Resolution Image
    Synthesis (2024), eq. 23, there with times that run to the noise.
    """
    u = torch.linspace(0, 1, n + 1)
    return u / (u + (1 - u) / amount)


@takes()
def adams_bashforth2(field: Field) -> Step:
    """x + h [(1 + r/2) u_n - (r/2) u_(n-1)], r = h_n / h_(n-1): order 2 for one evaluation a step, by memory.

    The first step is Euler's, and so is any that does not begin where the last one ended: make a new one for every run.
    """
    last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None  # slope, length, end and result of the last step

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        nonlocal last
        h, now = step_length(x, t, s), slope(field, x, t)
        goes_on = last is not None and last[3] is x and torch.equal(last[2], t)
        before, r = (last[0], h / last[1]) if goes_on else (now, torch.ones_like(h))
        x = x + h * ((1 + r / 2) * now - r / 2 * before)
        last = now, h, s, x
        return x

    return step


@takes()
def dpm_solver2m(field: Field, path: GaussianPath | None = None) -> Step:
    """(beta_s / beta_t) x + (alpha_s - alpha_t beta_s / beta_t) D: order 2 for one evaluation a step, by memory.

    D = z_n + h_n / (2 h_(n-1)) (z_n - z_(n-1)) extrapolates the predicted data z = E[z | x_t], linear in lambda =
    log(alpha / beta), along which h is counted; the first z_n, and the last into t=1, where lambda diverges, are taken
    as they are: the error of a uniform grid is then as h^2 log(1/h). Exact where z does not change. It remembers like
    `adams_bashforth2`; `path` is the field's (default: linear).
    DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (2022), algorithm 2.
    """
    path, last = path or GaussianPath(), None  # predicted data, length, end and result of the last step

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        nonlocal last
        alpha_t, beta_t, alpha_s, beta_s = (
            torch.where(c.abs() < SINGULAR, 0, c) for at in (t, s) for c in path.schedule(at)[:2]
        )
        if visible(t) and (s <= t).any():
            raise ValueError("ts must be increasing for dpm_solver2m, which divides by beta_t")
        z, h = complete(path, x, t, velocity=slope(field, x, t)).z, (alpha_s / beta_s / (alpha_t / beta_t)).log()
        ahead = z
        if last is not None and last[3] is x and torch.equal(last[2], t):
            r = torch.where(h.isfinite(), h / last[1], 0)
            ahead = z + expand_t(r / 2, x).to(x.dtype) * (z - last[0])
        kept = beta_s / beta_t
        x = (expand_t(kept, x) * x + expand_t(alpha_s - alpha_t * kept, x) * ahead).to(x.dtype)
        last = z, h, s, x
        return x

    return step
