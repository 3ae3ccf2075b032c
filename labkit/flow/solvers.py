"""Solvers: steps `(x, t, s) -> x at s` made of a field, and `simulate`, the one loop that takes them.

A grid `ts` runs from noise (0) to data (1), or back. n steps take n + 1 grid points and end exactly on the last one.
Cost is counted in evaluations of the field: euler 1 a step, heun and midpoint 2 (heun 1 into t=1), rk4 4; those that
remember, in `labkit.flow.multistep`, 1. Only rk4 asks a field at t=1.
Formulas, with h = s - t: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I (1993), II.1 and III.1.
"""

import inspect
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from labkit.base.inputs import Kind, captured, positive, takes, visible
from labkit.base.joints import Field, Step
from labkit.base.runtime import randn_like
from labkit.base.shapes import TIME_TOLERANCE, Sigma, check_same_shape, check_sigma, expand_t, sigma_at


@takes()
def euler(field: Field) -> Step:
    """x + h u(x, t). Order 1, one evaluation a step."""
    return lambda x, t, s: x + step_length(x, t, s) * slope(field, x, t)


@takes()
def heun(field: Field) -> Step:
    """Average of the slopes at both ends, the far one predicted by Euler, which alone makes the step into t=1.

    Order 2, two evaluations a step, one in that last one: n steps to t=1 take 2 n - 1. At t=1 the noise in x can no
    longer be seen, so the right velocity of a pixel whose z is known jumps there, from z - eps to z, and averaging over
    the jump would leave h/2 eps of the noise, as specks. Euler's step from t lands on the denoiser's mean,
    x + (1 - t) u(x, t). One step of order 1 misses by h^2, like all others together, so the order stays 2.
    Elucidating the Design Space of Diffusion-Based Generative Models (2022), algorithm 1.
    """

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        h, k1 = step_length(x, t, s), slope(field, x, t)
        arrives = expand_t(s, x) >= 1 - TIME_TOLERANCE
        if not captured(s) and arrives.all():
            return x + h * k1
        k2 = slope(field, x + h * k1, s)
        return x + h * torch.where(arrives, k1, (k1 + k2) / 2)

    return step


@takes()
def midpoint(field: Field) -> Step:
    """The slope half-way, predicted by half an Euler step. Order 2, two evaluations a step, none at the far end."""

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        h = step_length(x, t, s)
        half = x + h / 2 * slope(field, x, t)
        return x + h * slope(field, half, t + (s - t) / 2)

    return step


@takes()
def rk4(field: Field) -> Step:
    """The classical Runge-Kutta method. Order 4, four evaluations a step."""

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        h, middle = step_length(x, t, s), t + (s - t) / 2
        k1 = slope(field, x, t)
        k2 = slope(field, x + h / 2 * k1, middle)
        k3 = slope(field, x + h / 2 * k2, middle)
        k4 = slope(field, x + h * k3, s)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


@takes()
def euler_maruyama(drift: Field, sigma: Sigma, generator: Generator | None = None) -> Step:
    """x + h b(x, t) + sigma_t sqrt(h) xi with fresh xi ~ N(0, I) in every step, for dX = b dt + sigma_t dW.

    `sigma` is a number >= 0 or a callable (B,) -> (B,). The step raises ValueError for s < t: an SDE does not run
    backwards by its own drift.
    Kloeden, Platen: Numerical Solution of Stochastic Differential Equations (1992), section 9.1.
    """
    check_sigma(sigma)

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        h = step_length(x, t, s)
        if visible(h) and (h < 0).any():
            raise ValueError("ts must be increasing for euler_maruyama: another SDE runs backwards")
        return x + h * slope(drift, x, t) + sigma_at(sigma, t, x) * h.sqrt() * randn_like(x, generator)

    return step


@takes()
def sde_drift(velocity: Field, score: Field, sigma: Sigma) -> Field:
    """The drift u + sigma_t^2 / 2 * score, which with diffusion sigma_t keeps the flow's marginals, whatever sigma is.

    `sigma` as in `euler_maruyama`. Score-Based Generative Modeling through Stochastic Differential Equations (2021),
    section 4.3, read backwards; An Introduction to Flow Matching and Diffusion Models (2025), the SDE extension trick.
    """
    check_sigma(sigma)

    def drift(x: Tensor, t: Tensor) -> Tensor:
        return slope(velocity, x, t) + 0.5 * sigma_at(sigma, t, x) ** 2 * check_same_shape("the score", score(x, t), x)

    return drift


def _may_be_step(value: object) -> bool:
    """Whether it takes (x, t, s): a field takes two, and a model a condition in the third place, None by default."""
    if not callable(value) or isinstance(value, type | nn.Module):
        return False
    try:
        third = list(inspect.signature(value).parameters.values())[2:3]
        inspect.signature(value).bind(0, 0, 0)
    except TypeError:
        return False
    except ValueError:  # a function of C, which does not tell
        return True
    return not third or third[0].default is not None


@takes(step=Kind("a step (x, t, s) -> x, as heun(field) makes one of a field", _may_be_step))
def simulate(step: Step, x: Tensor, ts: Tensor, keep: bool = False, *, gradients: bool = False) -> Tensor:
    """Carry `x` (B, ...), finite floats, along the grid `ts` (n + 1,), times in [0, 1] that increase or decrease.

    `step`, such as `heun(field)`, is called n times, with t and s (B,). Returns x at ts[-1], or with `keep` the whole
    path (n + 1, B, ...). With `gradients` it can be differentiated by x and by what the step depends on, for as much
    memory as all steps take. Raises ValueError for a grid or a start that is none of this.
    """
    with torch.set_grad_enabled(gradients):
        return _walked(step, x, check_start(x, ts), keep)


def _walked(step: Step, x: Tensor, ts: Tensor, keep: bool) -> Tensor:
    path = [x]
    for t, s in pairwise(ts):
        x = step(x, t.expand(len(x)), s.expand(len(x)))
        check_same_shape("the step's value", x, path[0])
        if keep:
            path.append(x)
    return torch.stack(path) if keep else x


@takes(rtol=positive(), atol=positive())
@torch.no_grad()
def adaptive(field: Field, x: Tensor, ts: Tensor, *, rtol: float = 1e-5, atol: float = 1e-5) -> Tensor:
    """Dormand-Prince 5(4) with step-size control (torchdiffeq's dopri5) from ts[0] to ts[-1]; returns x there.

    The error is judged over the whole batch, so a sample depends slightly, within tolerance, on its companions.
    Every time of the grid is stepped on exactly and none is overshot. Arguments as `simulate`.
    A family of embedded Runge-Kutta formulae (1980).
    """
    from torchdiffeq import odeint

    ts = check_start(x, ts)

    def at(t: Tensor, x: Tensor) -> Tensor:
        # The guess of the first step's size would look beyond the grid, where fields need not exist.
        return slope(field, x, t.to(ts.dtype).clamp(ts.min(), ts.max()).expand(len(x)))

    return odeint(at, x, ts, rtol=rtol, atol=atol, method="dopri5", options={"step_t": ts[1:]})[-1]


def step_length(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """s - t, ready to multiply x, in its precision."""
    return expand_t(s - t, x).to(x.dtype)


def slope(field: Field, x: Tensor, t: Tensor) -> Tensor:
    """field(x, t); ValueError unless it is shaped like x."""
    return check_same_shape("the field's value", field(x, t), x)


def check_start(x: Tensor, ts: Tensor) -> Tensor:
    """Check a start and a grid, and return the grid on the device and in the precision of x."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim == 0:
        raise TypeError("x must be a floating-point tensor of shape (B, ...)")
    if not x.isfinite().all():
        raise ValueError("x must be finite at the start; it holds inf or NaN")
    if not isinstance(ts, Tensor) or ts.is_complex() or ts.ndim != 1 or len(ts) < 2:
        came = f"shape {tuple(ts.shape)}" if isinstance(ts, Tensor) else type(ts).__name__
        raise ValueError(f"ts must be a 1-D tensor of at least two times; got {came}")
    if not ((ts[1:] > ts[:-1]).all() or (ts[1:] < ts[:-1]).all()):
        raise ValueError("ts must be increasing, from noise (0) to data (1), or decreasing")
    if not (ts.min() >= -TIME_TOLERANCE and ts.max() <= 1 + TIME_TOLERANCE):
        raise ValueError(f"ts must lie in [0, 1]; got {ts[0]:.4g} to {ts[-1]:.4g}")
    return ts.to(device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
