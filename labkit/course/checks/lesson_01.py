"""Checks of lesson 01, Gaussian probability paths: steps of solvers, the conditional path, an SDE's drift."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import grad

from labkit.course.checks.require import NotRight, gap, require, require_close, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine


def euler_step(step: Callable) -> str:
    """01.1: `step(field, x, t, s)` is the point that Euler reaches at time s, from x at time t."""
    generator = torch.Generator().manual_seed(11)
    x, slope = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t, s = torch.linspace(0.1, 0.6, 5).double(), torch.linspace(0.2, 0.9, 5).double()
    asked: list[tuple[Tensor, Tensor]] = []

    def constant(x: Tensor, t: Tensor) -> Tensor:
        asked.append((x.clone(), t.clone()))  # the answer may change its own in place
        return slope

    moved, long = step(constant, x, t, s), (s - t)[:, None]
    mistakes = {
        "yours moved by u itself: where is the length of the step, s - t?": x + slope,
        "yours moved by s * u: s is the time at which the step ends, and its length is s - t": x + s[:, None] * slope,
        "yours moved against it: look at the sign": x - long * slope,
        "you return the move alone, (s - t) * u; the step starts from x": long * slope,
    }
    hint = "The slope u does not depend on x or t here."
    require_close(moved, x + long * slope, "a constant field u should move a point by (s - t) * u;", mistakes, hint)
    require(len(asked) == 1, f"Euler asks the field once a step; yours asked {len(asked)} times, as better methods do")
    ((x_seen, t_seen),) = asked
    late = {"Euler takes the slope where the step begins, at t; you take it at s": s}
    require_close(t_seen, t, "the time that you ask the field at:", late, "It should be t.")
    require_close(x_seen, x, "the point that you ask the field at:", {}, "It should be x.")

    # The flow of a Gaussian path with data N(mu, std^2) ends at mu + std x_0: a closed form to measure the error with.
    mu, std = torch.tensor([[0.7, -0.4]], dtype=torch.float64), 0.5
    field = _any_dtype(ExactMarginal(GaussianPath(Cosine()), GaussianMixture(mu, std)).velocity)
    start = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    counts, errors = (32, 64, 128, 256), []
    for n in counts:
        x, ts = start, torch.linspace(0, 1, n + 1).double()
        for k in range(n):
            x = step(field, x, ts[k].expand(50), ts[k + 1].expand(50))
        errors.append((x - mu - std * start).square().mean().sqrt().item())
    order = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    said = f"the error should fall like the length of a step, order 1; with your step it falls with order {order:.2f}"
    require(0.9 < order < 1.1, said)
    return f"Steps of half the length halve the error: measured order {order:.2f}."


def euler_maruyama_step(step: Callable) -> str:
    """01.2: `step(drift, sigma, x, t, s)` is the point at time s of dX = drift dt + sigma dW, from x at time t."""
    n, sigma, long = 100_000, 1.5, 0.04
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    t = torch.full((n,), 0.3, dtype=torch.float64)

    def drift(x: Tensor, t: Tensor) -> Tensor:
        return 5 * t[:, None] - 3 * x

    with torch.random.fork_rng(devices=[]):  # the answer draws from torch's global generator; hand it back as it was
        torch.manual_seed(13)
        quiet, moved, again = (step(drift, scale, x, t, t + long) for scale in (1e-9, sigma, sigma))
    hint = "It should be x + (s - t) * drift(x, t)."
    require_close(quiet, x + long * drift(x, t), "with sigma = 1e-9, where the step is all but Euler's,", {}, hint)
    for made in (moved, again):
        require_like(made, x, "the step")
    noise = (moved - quiet) / (sigma * long**0.5)  # should be standard normal
    require(bool((noise != 0).any()), "with sigma > 0 the step is the same as without noise")
    columns = torch.corrcoef(noise.T)[0, 1].abs().item() if noise.std(0).min() > 1e-6 else 1.0
    fresh = not torch.equal(again, moved) and columns < 0.5
    require(fresh, "steps, points or dimensions share the same noise; draw a new number for each entry, in every step")
    mean, variance = noise.mean().item(), noise.var().item()  # standard errors of 200,000 draws: .002 and .003
    wanted = sigma**2 * long
    said = f"the noise has variance {variance * wanted:.4g}; it should be sigma^2 (s - t) = {wanted:.4g}"
    for factor, why in (
        (long, "is it s - t in place of its root? Variances add up, so the standard deviation grows with the root"),
        (1 / long, "where is sqrt(s - t)?"),
        (sigma**2, "sigma is a standard deviation and enters once, not squared"),
    ):
        require(abs(variance / factor - 1) > 0.03, f"{said}: {why}")
    require(abs(mean) < 0.02 and abs(variance - 1) < 0.03, f"{said}, with mean 0 (yours {mean:.2f}): is it `randn`?")
    kurtosis = (noise**4).mean().item() / variance**2  # standard error .011
    twice = "is noise multiplied in twice?" if kurtosis > 6 else "is it `randn` that you draw?"
    require(abs(kurtosis - 3) < 0.15, f"the variance is right, but the kurtosis is {kurtosis:.1f} and not 3: {twice}")
    return f"The noise has variance sigma^2 (s - t), {variance:.3f} of it, and kurtosis {kurtosis:.2f}."


def cosine_velocity(velocity: Callable) -> str:
    """01.3: `velocity(x, z, t)` is u_t(x | z) of the cosine schedule."""
    generator = torch.Generator().manual_seed(14)
    z, eps = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.linspace(0.06, 0.94, 7, dtype=torch.float64)

    def flow(t: Tensor) -> Tensor:
        angle = math.pi / 2 * t[:, None]
        return angle.sin() * z + angle.cos() * eps

    h, half_pi = 1e-4, math.pi / 2
    truth = (flow(t + h) - flow(t - h)) / (2 * h)  # central difference, error of order h^2
    of_data = half_pi * (half_pi * t[:, None]).cos() * z
    mistakes = {
        "all is there but a factor of pi/2: the chain rule differentiates pi t / 2 too": truth / half_pi,
        "the noise part has the wrong sign: beta_t falls, so its derivative is negative": 2 * of_data - truth,
        "the part of the noise is missing, (d_beta_t / beta_t) (x - alpha_t z)": of_data,
    }
    half = half_pi * t[:, None]
    a, b, x = half.sin(), half.cos(), flow(t)
    mistakes |= {
        "sin and cos are swapped: alpha_t = sin(pi t / 2), beta_t = cos(pi t / 2)": -half_pi
        * (a * z + (x - b * z) * b / a),
        "x - alpha_t z belongs behind d_beta_t / beta_t; yours has x": half_pi * (b * z - a / b * x),
        "this is the velocity of the linear path; alpha_t and beta_t are sin and cos here": (z - x) / (1 - t[:, None]),
        "d_beta_t is divided by beta_t once, not by its square": half_pi * (b * z - a / b**2 * (x - a * z)),
        "d_beta_t is not divided by beta_t": half_pi * (b * z - a * (x - a * z)),
        "the angle is pi t / 2, so its derivative is pi/2, not pi": 2 * truth,
    }
    value = velocity(x, z, t)
    hint = (
        "The truth is a finite difference of the path itself, alpha_t z + beta_t eps with t a little later and earlier."
    )
    require_close(value, truth, "for the cosine path:", mistakes, hint)
    return f"It agrees with the finite difference of the path to {gap(value, truth):.0e}."


def same_marginals(drift: Callable) -> str:
    """01.4: `drift(x, t, velocity, score, sigma)` is the drift of the SDE with the marginals of the flow."""
    exact, sigma = ExactMarginal(GaussianPath(), petals()), 1.7
    generator = torch.Generator().manual_seed(15)
    x = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 64, dtype=torch.float64)
    u, s = exact.velocity(x, t), exact.score(x, t)
    velocity, score = _any_dtype(exact.velocity), _any_dtype(exact.score)
    b = drift(x, t, velocity, score, sigma)
    mistakes = {
        "this is the drift of the flow alone: where is the score?": u,
        "where is the factor 1/2?": u + sigma**2 * s,
        "sigma should be squared": u + sigma / 2 * s,
        "the score has the wrong sign: it must pull back to where the density is high": u - sigma**2 / 2 * s,
    }
    case = "the Fokker-Planck equation is violated:"
    require_close(b, u + sigma**2 / 2 * s, case, mistakes, "It asks for u + sigma^2 / 2 times the score.")
    x, t = x.requires_grad_(True), t.requires_grad_(True)
    try:
        b = drift(x, t, velocity, score, sigma)
    except NotRight:  # right in value, and made of something that autograd does not see, such as numpy
        return "It is the flow's velocity and sigma^2 / 2 times the score, to rounding."
    if not b.requires_grad:
        return "It is the flow's velocity and sigma^2 / 2 times the score, to rounding."
    size = grad(exact.log_prob(x, t).sum(), t)[0].abs().max()
    off = (_fokker_planck_residual(exact, b, x, t, sigma).abs().max() / size).item()
    require(off < 1e-3, f"{case} its residual is {off:.2g} of d/dt log p; does a part of the drift stop gradients?")
    return f"The Fokker-Planck residual is {off:.0e} of d/dt log p: the SDE has the marginals of the flow."


def _any_dtype(field: Callable) -> Callable:
    """The field, in double precision inside, for points of any precision."""
    return lambda x, t: field(x.double(), t.double()).to(x.dtype)


def _fokker_planck_residual(exact: ExactMarginal, b: Tensor, x: Tensor, t: Tensor, sigma: float) -> Tensor:
    """(d/dt p + div(p b) - sigma^2/2 Laplace p) / p, shape (B,), every derivative by autograd from log p and b."""
    score, d_t = grad(exact.log_prob(x, t).sum(), (x, t), create_graph=True)

    def div(v: Tensor) -> Tensor:
        return sum(grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))

    spread = div(score) + score.square().sum(1)  # Laplace p / p
    return d_t + div(b) + (b * score).sum(1) - sigma**2 / 2 * spread


def carry(answer: Callable) -> str:
    """01.5: `answer(step, x, n)` takes n steps of equal length from t = 0 to t = 1."""
    counts = (1, 2, 3, 7, 10, 49, 100)
    for n in counts:
        calls: list[tuple[float, float]] = []

        def step(x: Tensor, t: Tensor, s: Tensor, calls: list = calls, n: int = n) -> Tensor:
            for name, time in (("t", t), ("s", s)):
                require_like(time, x[:, 0], f"with n = {n}: the {name} that is handed to the step")
            calls.append((t[0].item(), s[0].item()))
            said = f"n = {n}, but the step was taken more than {2 * n + 2} times: does the loop end?"
            require(len(calls) <= 2 * n + 2, said)
            return x + (s - t)[:, None]

        x = torch.zeros(4, 2)
        end, last = answer(step, x, n), calls[-1][1] if calls else 0.0
        said = f"n = {n} should be {n} updates that end on t = 1; yours made {len(calls)} and ended on t = {last:.4g}"
        few = (
            ": n updates need n + 1 times" if len(calls) == n - 1 else ": is a time rounded, so that the loop goes on?"
        )
        require(len(calls) == n, said + few)
        right = all(abs(t - k / n) < 1e-6 and abs(s - (k + 1) / n) < 1e-6 for k, (t, s) in enumerate(calls))
        require(
            right, f"{said}. The first step begins at 0, each other one where the last one ended, and all are equal"
        )
        require_like(end, x, "what is returned")
        require(gap(end, torch.ones_like(x)) < 1e-4, "what is returned should be the points after the last step")
    return f"Exactly n updates, the last one ends on t = 1; tried for n = {', '.join(map(str, counts))}."


CHECKS: dict[str, Callable[[Callable], str]] = {
    "01.1": euler_step,
    "01.2": euler_maruyama_step,
    "01.3": cosine_velocity,
    "01.4": same_marginals,
    "01.5": carry,
}
