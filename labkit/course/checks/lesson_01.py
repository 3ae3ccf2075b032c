"""Checks of lesson 01, Gaussian probability paths: steps of solvers, the conditional path, an SDE's drift."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import grad

from labkit.course.require import NotRight, gap, require, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine


def _euler_step(step: Callable) -> str:
    generator = torch.Generator().manual_seed(11)
    x, slope = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.linspace(0.1, 0.6, 5, dtype=torch.float64)
    dt = torch.tensor(0.125, dtype=torch.float64)
    asked: list[tuple[Tensor, Tensor]] = []

    def constant(x: Tensor, t: Tensor) -> Tensor:
        asked.append((x, t))
        return slope

    moved = _tried(step, constant, x, t, dt)
    require_like(moved, x, "the step")
    require(gap(moved, x) > 1e-12, "the points did not move at all")
    require(
        gap(moved, x + slope) > 1e-9, "a constant field u should move a point by dt * u; yours moved by u: where is dt?"
    )
    require(gap(moved, x - dt * slope) > 1e-9, "the points moved against the field: look at the sign")
    require(gap(moved, dt * slope) > 1e-9, "the answer is the move alone, dt * u; the step starts from x")
    wrong = "a constant field u should move a point by dt * u; yours did not"
    require(gap(moved, x + dt * slope) < 1e-9, wrong)
    require(len(asked) == 1, f"Euler asks the field once a step; yours asked {len(asked)} times, as better methods do")
    ((x_seen, t_seen),) = asked
    require_like(t_seen, t, "the time that the field is asked at")
    late = "the field was asked at t + dt; Euler takes the slope where the step begins, at t"
    require(gap(t_seen, t + dt) > 1e-9, late)
    require(gap(t_seen, t) < 1e-9, "the field should be asked at the time t that the step was given")
    require(x_seen.shape == x.shape and gap(x_seen, x) < 1e-9, "the field should be asked at the point x")

    # The flow of a Gaussian path with data N(mu, s^2) ends at mu + s x_0: a closed form to measure the error against.
    mu, s = torch.tensor([[0.7, -0.4]], dtype=torch.float64), 0.5
    field = ExactMarginal(GaussianPath(Cosine()), GaussianMixture(mu, s)).velocity
    start = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    counts, errors = (32, 64, 128, 256), []
    for n in counts:
        x = start
        for k in range(n):
            at = torch.full((50,), k / n, dtype=torch.float64)
            x = step(field, x, at, torch.tensor(1 / n, dtype=torch.float64))
        errors.append((x - mu - s * start).square().mean().sqrt().item())
    order = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    require(
        0.9 < order < 1.1, f"the error should fall like dt, order 1; with your step it falls with order {order:.2f}"
    )
    return f"Halving dt halves the error: measured order {order:.2f}."


def _euler_maruyama_step(step: Callable) -> str:
    n, sigma = 100_000, 1.5
    generator = torch.Generator().manual_seed(12)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    t, dt = torch.full((n,), 0.3, dtype=torch.float64), torch.tensor(0.04, dtype=torch.float64)

    def drift(x: Tensor, t: Tensor) -> Tensor:
        return 5 * t[:, None] - 3 * x

    with torch.random.fork_rng(devices=[]):  # the answer draws from torch's global generator; hand it back as it was
        torch.manual_seed(13)
        quiet = _tried(step, drift, 0.0, x, t, dt)
        moved = _tried(step, drift, sigma, x, t, dt)
        again = _tried(step, drift, sigma, x, t, dt)
    require_like(quiet, x, "the step")
    require_like(moved, x, "the step")
    require(gap(quiet, x + dt * drift(x, t)) < 1e-9, "with sigma = 0 the step should be Euler's, x + dt * drift(x, t)")
    noise = (moved - quiet) / (sigma * dt.sqrt())  # should be standard normal
    require(bool((noise != 0).any()), "with sigma > 0 the step is the same as without noise")
    require(gap(again, moved) > 1e-9, "two calls gave the same noise; every step draws its own")
    _require_standard_normal(noise, sigma, dt.item())
    kurtosis = (noise**4).mean().item() / noise.square().mean().item() ** 2
    return f"The noise has variance sigma^2 dt (measured over expected: {noise.var():.3f}) and kurtosis {kurtosis:.2f}."


def _require_standard_normal(noise: Tensor, sigma: float, dt: float) -> None:
    """Tolerances are at least nine standard errors of 200,000 draws: .002 (mean), .003 (variance), .011 (kurtosis)."""
    columns = torch.corrcoef(noise.T)[0, 1].abs().item() if noise.std(0).min() > 0 else 1.0
    require(
        columns < 0.5, "all points, or all dimensions of a point, get the same noise; draw one number for each entry"
    )
    mean, variance = noise.mean().item(), noise.var().item()
    require(
        abs(mean) < 0.02,
        f"the noise has mean {mean:.2f} times sigma sqrt(dt), not 0: is it `rand` in place of `randn`?",
    )
    for factor, why in (
        (dt, "is it dt in place of sqrt(dt)? Variances add up, so the standard deviation grows with the root"),
        (1 / dt, "where is sqrt(dt)?"),
        (sigma**2, "sigma is a standard deviation and enters once, not squared"),
        (1 / sigma**2, "where is sigma?"),
    ):
        seen, wanted = variance * sigma**2 * dt, sigma**2 * dt
        said = f"the noise has variance {seen:.4g}; it should be sigma^2 dt = {wanted:.4g}: {why}"
        require(abs(variance / factor - 1) > 0.03, said)
    said = f"the noise has {variance:.3f} times the variance that it should have, sigma^2 dt"
    require(abs(variance - 1) < 0.03, said)
    kurtosis = (noise**4).mean().item() / variance**2
    twice = "is noise multiplied in twice?" if kurtosis > 6 else "is it `randn` that you draw?"
    require(abs(kurtosis - 3) < 0.15, f"the variance is right, but the kurtosis is {kurtosis:.1f} and not 3: {twice}")


def _cosine_velocity(velocity: Callable) -> str:
    generator = torch.Generator().manual_seed(14)
    z, eps = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.linspace(0.06, 0.94, 7, dtype=torch.float64)

    def flow(t: Tensor) -> Tensor:
        angle = math.pi / 2 * t[:, None]
        return angle.sin() * z + angle.cos() * eps

    h = 1e-4
    truth = (flow(t + h) - flow(t - h)) / (2 * h)  # central difference, error of order h^2
    value = _tried(velocity, flow(t), z, t)
    require_like(value, truth, "the velocity")
    require(
        gap(value * math.pi / 2, truth) > 1e-5,
        "all is there but a factor of pi/2: the chain rule differentiates pi t / 2 too",
    )
    towards = math.pi / 2 * (math.pi / 2 * t[:, None]).cos() * z  # the part that belongs to the data
    require(
        gap(2 * towards - value, truth) > 1e-5,
        "the noise part has the wrong sign: beta_t falls, so its derivative is negative",
    )
    off = gap(value, truth)
    require(
        off < 1e-5, f"against the finite difference of the path the velocity is off by {off:.1%} of its largest entry"
    )
    return f"It agrees with the finite difference of the path to {off:.0e}."


def _same_marginals(drift: Callable) -> str:
    exact, sigma = ExactMarginal(GaussianPath(), petals()), 1.7
    generator = torch.Generator().manual_seed(15)
    x = torch.randn(64, 2, generator=generator, dtype=torch.float64).requires_grad_(True)
    t = torch.linspace(0.1, 0.9, 64, dtype=torch.float64).requires_grad_(True)
    u, s = exact.velocity(x, t), exact.score(x, t)
    b = _tried(drift, x, t, exact.velocity, exact.score, sigma)
    require_like(b, u, "the drift")
    require(b.requires_grad, "the drift should be differentiable in x: no `no_grad` and no `detach` inside")
    size = grad(exact.log_prob(x, t).sum(), t)[0].abs().max()
    off = (_fokker_planck_residual(exact, b, x, t, sigma).abs().max() / size).item()
    for mistake, why in (
        (u, "this is the drift of the flow alone: where is the score?"),
        (u + sigma**2 * s, "where is the factor 1/2?"),
        (u + sigma / 2 * s, "sigma should be squared"),
        (u - sigma**2 / 2 * s, "the score has the wrong sign: it must pull back to where the density is high"),
    ):
        require(
            gap(b, mistake) > 1e-6,
            f"the Fokker-Planck equation is violated by {off:.2g}, relative to d/dt log p: {why}",
        )
    require(
        off < 1e-3,
        f"the Fokker-Planck equation is violated by {off:.2g}, relative to d/dt log p; it should be below 1e-3",
    )
    return f"The Fokker-Planck residual is {off:.0e} of d/dt log p: the SDE has the marginals of the flow."


def _fokker_planck_residual(exact: ExactMarginal, b: Tensor, x: Tensor, t: Tensor, sigma: float) -> Tensor:
    """(d/dt p + div(p b) - sigma^2/2 Laplace p) / p, shape (B,), every derivative by autograd from log p and b."""
    score, d_t = grad(exact.log_prob(x, t).sum(), (x, t), create_graph=True)

    def div(v: Tensor) -> Tensor:
        return sum(grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))

    spread = div(score) + score.square().sum(1)  # Laplace p / p
    return d_t + div(b) + (b * score).sum(1) - sigma**2 / 2 * spread


def _carry(carry: Callable) -> str:
    counts = (1, 2, 3, 7, 10, 49, 100)
    for n in counts:
        calls: list[tuple[float, float]] = []

        def step(x: Tensor, t: Tensor, dt: Tensor | float, calls: list = calls, n: int = n) -> Tensor:
            require_like(t, x[:, 0], f"with n = {n}: the t that is handed to the step")
            calls.append((t[0].item(), float(dt)))
            require(
                len(calls) <= 2 * n + 2,
                f"n = {n}, but the step was taken more than {2 * n + 2} times: does the loop end?",
            )
            return x + dt

        x = torch.zeros(4, 2)
        end = _tried(carry, step, x, n)
        end_time = sum(calls[-1]) if calls else 0.0
        said = (
            f"n = {n} should be {n} updates that end on t = 1; yours made {len(calls)} and ended on t = {end_time:.4g}"
        )
        why = (
            ": n updates need n + 1 times" if len(calls) == n - 1 else ": is a time rounded, so that the loop goes on?"
        )
        require(len(calls) == n, said + why)
        first = calls[0][0]
        require(abs(first) < 1e-6, f"with n = {n}: the first step should begin at t = 0; it began at t = {first:.4g}")
        require(abs(end_time - 1) < 1e-6, said)
        steps_fit = all(abs(t - k / n) < 1e-6 and abs(dt - 1 / n) < 1e-6 for k, (t, dt) in enumerate(calls))
        require(
            steps_fit, f"with n = {n}: every step should begin where the last one ended, and be 1/n = {1 / n:.4g} long"
        )
        require_like(end, x, "what is returned")
        require(gap(end, torch.ones_like(x)) < 1e-4, "what is returned should be the points after the last step")
    return f"Exactly n updates, the last one ends on t = 1; tried for n = {', '.join(map(str, counts))}."


def _tried(answer: Callable, *given: object) -> object:
    """The answer's value, with torch's complaints about shapes turned into a hint."""
    try:
        return answer(*given)
    except NotImplementedError:
        raise
    except RuntimeError as error:
        hint = "If this is about shapes: t has shape (B,), and expand_t(t, x) makes it multiply x"
        raise NotRight(f"torch stopped in your function with: {error}. {hint}") from error


CHECKS: dict[str, Callable[[Callable], str]] = {
    "01.1": _euler_step,
    "01.2": _euler_maruyama_step,
    "01.3": _cosine_velocity,
    "01.4": _same_marginals,
    "01.5": _carry,
}
