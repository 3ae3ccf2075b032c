"""Solvers: pure steps `(x, t, dt) -> x`, one loop that takes them, and integrators that keep memory between steps.

Time runs forward along a grid `ts` from noise (0) to data (1). n updates take n + 1 grid points and end exactly on the
last one. Cost is counted in evaluations of the field: euler 1 a step, heun and midpoint 2, rk4 4, adams_bashforth2 1.
Formulas: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I (1993), chapters II.1 and III.1.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from labkit.base.runtime import randn_like
from labkit.base.shapes import TIME_TOLERANCE, Field, check_same_shape, check_sigma, expand_t

Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def euler(field: Field) -> Step:
    """x + dt u(x, t). Order 1, one evaluation a step."""

    def step(x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        return x + dt * _slope(field, x, t)

    return step


def heun(field: Field) -> Step:
    """Average of the slopes at both ends, the far one predicted by Euler. Order 2, two evaluations a step."""

    def step(x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        k1 = _slope(field, x, t)
        k2 = _slope(field, x + dt * k1, t + dt)
        return x + dt / 2 * (k1 + k2)

    return step


def midpoint(field: Field) -> Step:
    """The slope half-way, predicted by half an Euler step. Order 2, two evaluations a step, none at the far end."""

    def step(x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        half = x + dt / 2 * _slope(field, x, t)
        return x + dt * _slope(field, half, t + dt / 2)

    return step


def rk4(field: Field) -> Step:
    """The classical Runge-Kutta method. Order 4, four evaluations a step."""

    def step(x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        k1 = _slope(field, x, t)
        k2 = _slope(field, x + dt / 2 * k1, t + dt / 2)
        k3 = _slope(field, x + dt / 2 * k2, t + dt / 2)
        k4 = _slope(field, x + dt * k3, t + dt)
        return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def euler_maruyama(
    drift: Field, sigma: float | Callable[[Tensor], Tensor], generator: torch.Generator | None = None
) -> Step:
    """x + dt b(x, t) + sigma_t sqrt(dt) xi with fresh xi ~ N(0, I) in every step, for dX = b dt + sigma_t dW.

    `sigma` is the diffusion coefficient, a number >= 0 or a callable (B,) -> (B,); the noise comes in here, once.
    Kloeden, Platen: Numerical Solution of Stochastic Differential Equations (1992), section 9.1.
    """
    check_sigma(sigma)

    def step(x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        sigma_t = expand_t(sigma(t), x) if callable(sigma) else sigma
        return x + dt * _slope(drift, x, t) + sigma_t * dt.sqrt() * randn_like(x, generator)

    return step


@torch.no_grad()
def simulate(step: Step, x: Tensor, ts: Tensor, keep: bool = False) -> Tensor:
    """Carry `x` (B, ...) along the grid: n = len(ts) - 1 updates, from ts[0] to ts[-1].

    Arguments:
        step: `(x, t, dt) -> x`, called with t (B,) and dt a scalar tensor.
        x: (B, ...) finite float start.
        ts: (n + 1,) increasing times in [0, 1].
        keep: return the whole path (n + 1, B, ...) rather than its end (B, ...).
    Raises ValueError for a grid or a start that is none of this.
    """
    ts = _check_start(x, ts)
    path = [x]
    for t, t_next in pairwise(ts):
        x = step(x, t.expand(len(x)), t_next - t)
        if keep:
            path.append(x)
    return torch.stack(path) if keep else x


@torch.no_grad()
def adams_bashforth2(field: Field, x: Tensor, ts: Tensor) -> Tensor:
    """Two-step Adams-Bashforth: order 2 for one evaluation a step, by remembering the last slope.

    x + dt [(1 + r/2) u_n - (r/2) u_(n-1)] with r = dt_n / dt_(n-1); the first step is Euler's. Arguments as `simulate`.
    """
    ts = _check_start(x, ts)
    before, dt_before = None, None
    for t, t_next in pairwise(ts):
        dt, slope = t_next - t, _slope(field, x, t.expand(len(x)))
        if before is None:
            before, dt_before = slope, dt  # two equal slopes make the first step Euler's
        r = dt / dt_before
        x = x + dt * ((1 + r / 2) * slope - r / 2 * before)
        before, dt_before = slope, dt
    return x


@torch.no_grad()
def adaptive(field: Field, x: Tensor, ts: Tensor, *, rtol: float = 1e-5, atol: float = 1e-5) -> Tensor:
    """Dormand-Prince 5(4) with step-size control (torchdiffeq's dopri5) from ts[0] to ts[-1]; returns x there.

    The error is judged over the whole batch, so a sample depends slightly, within tolerance, on its companions.
    Every time of the grid is stepped on exactly and none is overshot. Arguments as `simulate`.
    A family of embedded Runge-Kutta formulae (1980).
    """
    from torchdiffeq import odeint

    ts = _check_start(x, ts)

    def at(t: Tensor, x: Tensor) -> Tensor:
        # The guess of the first step's size would look beyond the grid, where fields need not exist.
        return _slope(field, x, t.to(ts.dtype).clamp(ts[0], ts[-1]).expand(len(x)))

    return odeint(at, x, ts, rtol=rtol, atol=atol, method="dopri5", options={"step_t": ts[1:]})[-1]


def _slope(field: Field, x: Tensor, t: Tensor) -> Tensor:
    """field(x, t), refused if broadcasting would hide that it is not shaped like x."""
    value = field(x, t)
    check_same_shape("the field's value", value, x)
    return value


def _check_start(x: Tensor, ts: Tensor) -> Tensor:
    """Check a start and a grid, and return the grid on the device and in the precision of x."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim == 0:
        raise TypeError("x must be a floating-point tensor of shape (B, ...)")
    if not x.isfinite().all():
        raise ValueError("x must be finite at the start; it holds inf or NaN")
    if not isinstance(ts, Tensor) or ts.ndim != 1 or len(ts) < 2:
        came = f"shape {tuple(ts.shape)}" if isinstance(ts, Tensor) else type(ts).__name__
        raise ValueError(f"ts must be a 1-D tensor of at least two times; got {came}")
    if not (ts[1:] > ts[:-1]).all():
        raise ValueError("ts must be increasing: time runs from noise (0) to data (1)")
    if not (ts[0] >= -TIME_TOLERANCE and ts[-1] <= 1 + TIME_TOLERANCE):
        raise ValueError(f"ts must lie in [0, 1]; got {ts[0]:.4g} to {ts[-1]:.4g}")
    return ts.to(device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))


def sde_drift(velocity: Field, score: Field, sigma: float | Callable[[Tensor], Tensor]) -> Field:
    """The drift u + sigma_t^2 / 2 * score, which with diffusion sigma_t keeps the flow's marginals, whatever sigma is.

    `sigma` is a number or a callable (B,) -> (B,), the same that goes to `euler_maruyama`.
    Score-Based Generative Modeling through Stochastic Differential Equations (2021), section 4.3, read backwards;
    An Introduction to Flow Matching and Diffusion Models (2025), the SDE extension trick.
    """

    check_sigma(sigma)

    def field(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        sigma_t = expand_t(sigma(t), x) if callable(sigma) else sigma
        return velocity(x, t, y) + 0.5 * sigma_t**2 * score(x, t, y)

    return field
