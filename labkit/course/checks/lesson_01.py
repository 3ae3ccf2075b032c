"""Checks of lesson 01, Gaussian probability paths: steps of solvers, a velocity, an SDE's drift, a sampler."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd import grad

from labkit.base.inputs import captured
from labkit.base.shapes import TIME_TOLERANCE
from labkit.course.checks.require import as_tensor, gap, kind, require, require_close, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals, ring
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, SquareRoot
from labkit.flow.solvers import euler, heun, midpoint, simulate
from labkit.measure.metrics import sliced_w2

EVALUATIONS, TARGET = 20, 0.01  # what 01.5 may spend, and the sliced W2 it must come below
OTHERS = (12, 40)  # budgets that 01.5 must keep to as well
POINTS = 150  # that 01.5 carries


def euler_step(step: Callable) -> str:
    """01.1: `step(field, x, t, s)` is the point that Euler reaches at time s, from x at time t."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    slope = torch.tensor([0.8, -1.3, 0.5], dtype=torch.float64)
    t, s = torch.linspace(0.1, 0.6, 5).double(), torch.tensor([0.2, 0.4, 0.5, 0.65, 0.9]).double()
    long = (s - t)[:, None]
    moved = as_tensor(step(_asked(lambda x, t: slope + 0 * x), x, t, s))
    mistakes = {
        "yours did not move it": x,
        "yours moved by u itself: where is the length of the step, s - t?": x + slope,
        "yours moved by s * u: s is the time at which the step ends, and its length is s - t": x + s[:, None] * slope,
        "yours moved by t * u: t is the time at which the step begins, and its length is s - t": x + t[:, None] * slope,
        "yours moved against it: look at the sign": x - long * slope,
        "you return the move alone, (s - t) * u; the step starts from x": long * slope,
        "you return the slope alone; the step goes from x along it, for a time s - t": slope.expand(5, 3),
        "yours moved all points by the step of the first one: t and s hold a time for each": x + long[0] * slope,
        "yours moved all points by the same step: t and s hold a time for each": x + long.mean() * slope,
        "yours moved by half of it: an average of slopes is Heun's, Euler's step is the whole": x + long / 2 * slope,
        "yours moved by (s - t)^2 * u: the length of the step enters once": x + long**2 * slope,
        "yours divides u by the length of the step": x + slope / long,
    }
    hint = "The slope u does not depend on x or t here."
    require_close(moved, x + long * slope, "a constant field u should move a point by (s - t) * u;", mistakes, hint)

    mix = torch.randn(3, 3, generator=generator, dtype=torch.float64)

    def linear(x: Tensor, t: Tensor) -> Tensor:
        return x @ mix.to(x.dtype) + (t.to(x.dtype) ** 2)[:, None]

    seen: list[int] = []
    moved, there, u = as_tensor(step(_asked(linear, seen), x, t, s)), x + long * linear(x, t), linear(x, t)
    half = linear(x + long / 2 * u, (t + s) / 2)
    ahead = linear(there, s)
    mistakes = {
        "Euler takes the slope where the step begins, at t; you take it at s": x + long * linear(x, s),
        "Euler takes the slope at t; you take it half-way, at (t + s) / 2": x + long * linear(x, (t + s) / 2),
        "Euler asks the field at x and at t, once; this is Heun's step, which asks a second time": (
            x + long / 2 * (u + ahead)
        ),
        "Euler asks the field at x and at t, once; this is the midpoint step, which asks a second time": (
            x + long * half
        ),
        "the field should be asked at time t; you ask it at time s - t": x + long * linear(x, s - t),
        "the field should be asked at time t; you ask it at time 0": x + long * linear(x, 0 * t),
        "the field is asked where the step ends, so this is the implicit kind of step; Euler's asks where it begins": (
            x + long * ahead
        ),
    }
    hint = "For a constant field it was right: at which point and time is the field asked? It should be x and t."
    require_close(moved, there, "for a field that depends on x and t:", mistakes, hint)
    count = sum(seen) / len(x)  # zero where torch.func hides the points
    require(count <= 1, f"Euler asks the field once a step; yours asked {count:g} times, as better methods do")
    back = as_tensor(step(_asked(linear), x, s, t))
    case = "for a step back in time, with s before t (forwards it was right):"
    require_close(back, x - long * linear(x, s), case, {}, "s - t has a sign, and it is negative there.")

    # The flow of a Gaussian path with data N(mu, std^2) ends at mu + std x_0: a closed form to measure the error with.
    mu, std = torch.tensor([[0.7, -0.4]], dtype=torch.float64), 0.5
    field = _asked(ExactMarginal(GaussianPath(Cosine()), GaussianMixture(mu, std)).velocity)
    start = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    counts, errors = (16, 32, 64, 128), []
    for n in counts:
        x, ts = start, torch.linspace(0, 1, n + 1).double()
        for k in range(n):
            x = as_tensor(step(field, x, ts[k].expand(12), ts[k + 1].expand(12)))
            require_like(x, start, "the step")
        errors.append(max((x - mu - std * start).square().mean().sqrt().item(), 1e-12))
    order = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    said = f"the error should fall like the length of a step, order 1; with your step it falls with order {order:.2f}"
    require(0.9 < order < 1.1, said)
    return f"Steps of half the length halve the error: measured order {order:.2f}."


def euler_maruyama_step(step: Callable) -> str:
    """01.2: `step(drift, sigma, x, t, s)` is the point at time s of dX = drift dt + sigma dW, from x at time t."""
    n, sigma = 20_000, 1.5
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    t, long = torch.linspace(0.1, 0.6, n).double(), torch.full((n,), 0.02, dtype=torch.float64)
    long[::2] = 0.09  # every point has a step of its own
    s, dt = t + long, long[:, None]

    def drift(x: Tensor, t: Tensor) -> Tensor:
        return 5 * t[:, None] - 3 * x

    b = drift(x, t)
    quiet, moved, again = (as_tensor(step(_asked(drift), scale, x, t, s)) for scale in (1e-9, sigma, sigma))
    mistakes = {
        "the drift does nothing: is it left out, or multiplied by sigma?": x,
        "the drift is not multiplied by s - t": x + b,
        "the drift is multiplied by sqrt(s - t); the root belongs to the noise alone": x + dt.sqrt() * b,
        "the drift has the wrong sign": x - dt * b,
        "you return the move alone; the step starts from x": dt * b,
        "the drift is asked at s, where the step ends; it should be t": x + dt * drift(x, s),
        "all points take the step of the first one: t and s hold a time for each": x + dt[0] * b,
        "all points take the same step: t and s hold a time for each": x + dt.mean() * b,
        "the drift is multiplied by s; the step has the length s - t": x + s[:, None] * b,
    }
    hint = "It should be x + (s - t) * drift(x, t)."
    case = "with sigma = 1e-9, where the step is all but Euler's,"
    require_close(quiet, x + dt * b, case, mistakes, hint)
    for made in (moved, again):
        require_like(made, x, "the step")
    noise = (moved - x - dt * b) / (sigma * dt.sqrt())  # should be standard normal
    require(noise.abs().max().item() > 1e-5, "with sigma > 0 the step is the same as without noise")
    shared = max(_correlation(noise[:, 0], noise[:, 1]), _correlation(noise[: n // 2, 0], noise[n // 2 :, 0]))
    fresh = not torch.equal(again, moved) and noise.std(0).min() > 1e-6 and shared < 0.5
    require(fresh, "steps, points or dimensions share the same noise; draw a new number for each entry, in every step")
    sizes = [(noise[rest::2].var().item(), long[rest].item()) for rest in (0, 1)]  # standard errors .01 of 1
    for variance, h in sizes:
        wanted = sigma**2 * h
        said = f"the noise has variance {variance * wanted:.4g} over a step of {h:g}; "
        said += f"it should be sigma^2 (s - t) = {wanted:.4g}"
        for why, factor in {
            "is it s - t in place of its root? Variances add up, so the standard deviation grows with the root": h,
            "where is sqrt(s - t)?": 1 / h,
            "sigma is a standard deviation and enters once, not squared": sigma**2,
            "where is sigma?": 1 / sigma**2,
            "the root is taken of sigma as well; it belongs to s - t alone": 1 / sigma,
            "sigma is squared, and there is no sqrt(s - t)": sigma**2 / h,
            "it is sigma^2 (s - t) itself that multiplies it; a standard deviation is the root": sigma**2 * h,
            "the root is taken twice": h**-0.5,
            "is it `rand`, between 0 and 1, in place of `randn`?": 1 / 12,
            "is the noise halved?": 1 / 4,
            "it is twice as much as it should be": 2,
        }.items():
            require(abs(variance / factor - 1) > 0.05, f"{said}: {why}")
        require(abs(variance - 1) < 0.06, f"{said}: is every point's own s - t under the root, and is it `randn`?")
    mean, variance = noise.mean().item(), noise.var().item()
    require(abs(mean) < 0.03, f"the noise should have mean 0; in standard deviations yours has {mean:.2f}")
    centred = noise - mean
    kurtosis = (centred**4).mean().item() / variance**2  # standard error .025
    twice = "is noise multiplied in twice?" if kurtosis > 6 else "is it `randn` that you draw?"
    require(abs(kurtosis - 3) < 0.17, f"the variance is right, but the kurtosis is {kurtosis:.1f} and not 3: {twice}")
    return f"The noise has variance sigma^2 (s - t), {variance:.3f} of it, and kurtosis {kurtosis:.2f}."


def _correlation(a: Tensor, b: Tensor) -> float:
    """Size of the correlation; 0 where one of the two is constant."""
    size = a.std() * b.std() * len(a)
    return abs(((a - a.mean()) * (b - b.mean())).sum().item()) / max(size.item(), 1e-12)


def cosine_velocity(velocity: Callable) -> str:
    """01.3: `velocity(x, z, t)` is u_t(x | z) of the cosine schedule."""
    generator = torch.Generator().manual_seed(14)
    z, eps = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.linspace(0.06, 0.94, 7, dtype=torch.float64)
    h, half_pi = 1e-4, math.pi / 2

    def flow(t: Tensor) -> Tensor:
        angle = half_pi * t[:, None]
        return angle.sin() * z + angle.cos() * eps

    truth = (flow(t + h) - flow(t - h)) / (2 * h)  # central difference, error of order h^2
    a, b, x, beside = (half_pi * t[:, None]).sin(), (half_pi * t[:, None]).cos(), flow(t), t[:, None]
    r, d_a, d_b = x - a * z, half_pi * b, -half_pi * a
    sine, cosine = (math.pi * beside).sin(), (math.pi * beside).cos()
    mistakes = {
        "all is there but a factor of pi/2: the chain rule differentiates pi t / 2 too": truth / half_pi,
        "the angle is pi t / 2, so its derivative is pi/2, not pi": 2 * truth,
        "the angle is pi t / 2; you have pi t": math.pi * (cosine * z - sine / cosine * (x - sine * z)),
        "the angle is pi t / 2; inside sin and cos you have pi t": (
            half_pi * (cosine * z - sine / cosine * (x - sine * z))
        ),
        "the noise part has the wrong sign: beta_t falls, so its derivative is negative": d_a * z - d_b / b * r,
        "the data part has the wrong sign: alpha_t grows, so its derivative is positive": -d_a * z + d_b / b * r,
        "the sign of the whole is wrong": -truth,
        "the part of the noise is missing, (d_beta_t / beta_t) (x - alpha_t z)": d_a * z,
        "the part of the data is missing, d_alpha_t z": d_b / b * r,
        "sin and cos are swapped: alpha_t = sin(pi t / 2), beta_t = cos(pi t / 2)": d_b * z + d_a / a * (x - b * z),
        "sin and cos are swapped (and a sign): alpha_t = sin(pi t / 2), beta_t = cos(pi t / 2)": (
            -half_pi * (a * z + (x - b * z) * b / a)
        ),
        "the derivative of the sine is the cosine, in d_alpha_t too": half_pi * a * z + d_b / b * r,
        "x - alpha_t z belongs behind d_beta_t / beta_t; yours has x": d_a * z + d_b / b * x,
        "x - alpha_t z belongs behind d_beta_t / beta_t; yours has x - z": d_a * z + d_b / b * (x - z),
        "x - alpha_t z belongs behind d_beta_t / beta_t; yours has alpha_t z - x": d_a * z - d_b / b * r,
        "x - alpha_t z belongs behind d_beta_t / beta_t; yours has x + alpha_t z": d_a * z + d_b / b * (x + a * z),
        "d_beta_t is divided by beta_t once, not by its square": d_a * z + d_b / b**2 * r,
        "d_beta_t is not divided by beta_t": d_a * z + d_b * r,
        "d_beta_t is divided by alpha_t; it should be beta_t": d_a * z + d_b / a * r,
        "the fraction is upside down: it is d_beta_t / beta_t": d_a * z + b / d_b * r,
        "beta_t stands where d_beta_t / beta_t belongs": d_a * z + b * r,
        "d_beta_t carries its own factor of pi/2, and it is missing": d_a * z - a / b * r,
        "d_alpha_t carries its own factor of pi/2, and it is missing": b * z + d_b / b * r,
        "z and x have changed places": d_a * x + d_b / b * (z - a * x),
        "this is the velocity of the linear path; alpha_t and beta_t are sin and cos here": (z - x) / (1 - beside),
        "this is z - x; the points move along sin and cos here, not straight and at constant speed": z - x,
        "this is the velocity of the square root path; alpha_t and beta_t are sin and cos here": (
            z - (x - beside * z) / (2 * (1 - beside))
        ),
        "that is the conditional score; the velocity is asked for": -r / b**2,
        "that is the conditional path itself, not its velocity": x,
        "that is the noise, (x - alpha_t z) / beta_t; the velocity is d_alpha_t z + d_beta_t times it": r / b,
    }  # fmt: skip
    value = as_tensor(velocity(x, z, t))
    hint = "The truth is a finite difference of the path itself, alpha_t z + beta_t eps with t a bit later and earlier."
    require_close(value, truth, "for the cosine path:", mistakes, hint, close=1e-3)
    return f"It agrees with the finite difference of the path to {gap(value, truth):.0e}."


def same_marginals(drift: Callable) -> str:
    """01.4: `drift(x, t, velocity, score, sigma)` is the drift of the SDE with the marginals of the flow."""
    exact = ExactMarginal(GaussianPath(), petals())
    generator = torch.Generator().manual_seed(15)
    x = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 64, dtype=torch.float64)
    velocity, score = _asked(exact.velocity), _asked(exact.score)
    case, hint = "the Fokker-Planck equation is violated:", "It asks for u + sigma^2 / 2 times the score."

    def asked(x: Tensor, t: Tensor, sigma: float) -> Tensor:
        return as_tensor(drift(x, t, velocity, score, sigma))

    u, s = exact.velocity(x, t), exact.score(x, t)
    u_late, s_late = exact.velocity(x, 1 - t), exact.score(x, 1 - t)
    for sigma in (1.7, 0.6):
        mistakes = {
            "this is the drift of the flow alone: where is the score?": u,
            "this is the part of the score alone: where is the velocity?": sigma**2 / 2 * s,
            "where is the factor 1/2?": u + sigma**2 * s,
            "sigma should be squared": u + sigma / 2 * s,
            "sigma^2 / 2 stands before the score; yours has sigma": u + sigma * s,
            "the root of sigma is taken; it should be squared": u + sigma**0.5 / 2 * s,
            "the half is squared as well: (sigma / 2)^2 is sigma^2 / 4": u + sigma**2 / 4 * s,
            "the score stands there without sigma^2 / 2": u + s,
            "sigma is missing, and the half of the score does not depend on it": u + s / 2,
            "the score has the wrong sign: it must pull back to where the density is high": u - sigma**2 / 2 * s,
            "the score has the wrong sign, and the factor 1/2 is missing": u - sigma**2 * s,
            "the velocity has the wrong sign": sigma**2 / 2 * s - u,
            "the size is right and the sign is not": -u - sigma**2 / 2 * s,
            "velocity and score have changed places": s + sigma**2 / 2 * u,
            "sigma^2 / 2 multiplies the score alone, not the sum": sigma**2 / 2 * (u + s),
            "the half belongs to the score alone": (u + sigma**2 * s) / 2,
            "there is no score in it, and sigma^2 / 2 alone is no drift": u + sigma**2 / 2,
            "the fields are asked at time 1 - t": u_late + sigma**2 / 2 * s_late,
            "the score is asked at time 1 - t": u + sigma**2 / 2 * s_late,
            "sigma divides where it should multiply": u + s / (2 * sigma**2),
        }
        require_close(asked(x, t, sigma), u + sigma**2 / 2 * s, case, mistakes, hint, close=3e-4)
    sigma, b = 1.7, asked(x, t, 1.7)
    h = (
        1e-5 if asked(x + 1e-9, t, sigma).ne(b).double().mean() > 0.5 else 1e-2
    )  # single precision does not see so small a step
    div = sum((asked(x + e, t, sigma) - asked(x - e, t, sigma))[:, i] for i, e in enumerate(h * torch.eye(2).double()))
    x, t = x.requires_grad_(True), t.requires_grad_(True)
    size = grad(exact.log_prob(x, t).sum(), t)[0].abs().max()
    off = (_fokker_planck_residual(exact, b, div / (2 * h), x, t, sigma).abs().max() / size).item()
    limit = 1e-3 if h < 1e-3 else 0.05
    require(off < limit, f"{case} its residual is {off:.2g} of d/dt log p. Does your drift change from call to call?")
    return f"The Fokker-Planck residual is {off:.0e} of d/dt log p: the SDE has the marginals of the flow."


def _fokker_planck_residual(
    exact: ExactMarginal, b: Tensor, div_b: Tensor, x: Tensor, t: Tensor, sigma: float
) -> Tensor:
    """(d/dt p + div(p b) - sigma^2/2 Laplace p) / p, shape (B,), every derivative of log p by autograd."""
    score, d_t = grad(exact.log_prob(x, t).sum(), (x, t), create_graph=True)
    div = sum(grad(score[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    spread = div + score.square().sum(1)  # Laplace p / p
    return d_t + div_b + (b * score).sum(1) - sigma**2 / 2 * spread


class _Counted:
    """A field that counts its evaluations and refuses more than `most` a point; it gives values and no derivatives."""

    def __init__(self, field: Callable, points: int, most: int) -> None:
        self.field, self.points, self.most, self.rows, self.latest = field, points, most, 0, 0.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        _require_askable(x, t)
        hidden = captured(x) or captured(t)
        require(not hidden, "ask the field with plain tensors: what torch.func hides from it cannot be counted")
        require(x.ndim == 2 and x.shape[1] == 2, f"the field takes points (B, 2); you ask with {kind(x)}")
        require(bool(x.isfinite().all()), "the points that you ask the field at hold inf or NaN: do the steps explode?")
        low, high = t.min().item(), t.max().item()
        said = f"the field is there for times from 0 to 1; you ask it at t = {low if low < 0 else high:.4g}"
        require(-TIME_TOLERANCE <= low and high <= 1 + TIME_TOLERANCE, said)
        self.rows, self.latest = self.rows + len(x), max(self.latest, high)
        over = (
            f"with evaluations = {self.most} you may ask the field {self.most} times for each point, and go beyond it. "
        )
        two = "Heun and midpoint take two evaluations a step, rk4 four: how many steps does the argument pay?"
        require(self.rows <= self.most * self.points, over + two)
        with torch.no_grad():  # through numpy: no derivative comes free
            x_plain, t_plain = (torch.from_numpy(part.detach().double().numpy().copy()) for part in (x, t))
            return self.field(x_plain, t_plain.clamp(0, 1)).to(x.dtype)

    @property
    def count(self) -> float:
        """Evaluations so far, for each point."""
        return self.rows / self.points


def sampler(answer: Callable) -> str:
    """01.5: `answer(field, x_0, evaluations)` takes points from t = 0 to t = 1 for so many evaluations of the field."""
    start = torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(16), dtype=torch.float64)

    def run(field: Callable, x_0: Tensor, most: int) -> tuple[Tensor, float, float]:
        counted = _Counted(field, len(x_0), most)
        end = answer(counted, x_0, most)
        one = "what is returned should be one tensor, the points at t = 1; yours is a"
        require(not isinstance(end, list | tuple), f"{one} {type(end).__name__}: is the whole way in it?")
        end = as_tensor(end)
        few = end.ndim == 3 and end.shape[1:] == x_0.shape if isinstance(end, Tensor) else False
        require(not few, "what is returned should be the points at t = 1, not the whole way: return its last entry")
        require_like(end, x_0, "what is returned")
        return end.detach().to(x_0.dtype), counted.count, counted.latest

    some, slope = start[:40], torch.tensor([0.9, -0.6], dtype=torch.float64)
    for case, field, close, hint in (
        ("in a constant field u", lambda x, t: slope + 0 * x, 0.01, "Do the steps reach from t = 0 to t = 1?"),
        (
            "in a field 2t u, which grows with t,",
            lambda x, t: 2 * t[:, None] * slope + 0 * x,
            0.15,
            "Is the field asked at the time at which the points are?",
        ),
    ):
        end, count, _ = run(field, some, EVALUATIONS)
        require(count > 0, "your function never asks the field: where points end depends on it")
        move = end - some
        stay = f"{case} all points should move by u; yours stay where they are. {hint}"
        require(move.abs().max().item() > 1e-9, stay)
        same = (move - move.mean(0)).abs().max() < 1e-3 * slope.abs().max() + 1e-4
        said = f"{case} all points should move by u, and yours move each in another way: "
        require(bool(same), f"{said}does noise come in, or do points mix?")
        share = (move.mean(0) @ slope / slope.square().sum()).item()
        off = (move.mean(0) - slope).abs().max() / slope.abs().max()
        require(off.item() < close, f"{case} all points should move by u; yours move by {share:.3g} u. {hint}")
    hard = _hard()
    for most in OTHERS:
        run(hard.velocity, start, most)
    end, count, latest = run(hard.velocity, start, EVALUATIONS)
    wanted, tries = _ends()
    w2, apart = _distance(end, wanted), (end - wanted).square().sum(1).mean().sqrt().item()
    euler_w2 = _distance(tries["Euler"], wanted)
    if w2 >= TARGET:
        told = f"your W2 is {w2:.4f} with {count:g} evaluations; it should come below {TARGET:g}. "
        for name, other in tries.items():
            require(gap(end, other) > 1e-3, f"{told}These are the points of {name} on a uniform grid: {ADVICE[name]}")
        require(count > EVALUATIONS / 2, f"{told}There are {EVALUATIONS} to spend: why not all?")
        steep = "It asks the field at t = 1 itself, where it is steepest; a last step like Euler's does not."
        require(latest < 1 - TIME_TOLERANCE, f"{told}{steep}")
        both = f"Euler on a uniform grid has {euler_w2:.4f}. "
        require(False, f"{told}{both}Both matter, the order of the solver and where its steps are short.")
    return (
        f"W2 {w2:.4f} with {count:g} evaluations, where {TARGET:g} was asked for and Euler on a uniform grid has "
        f"{euler_w2:.4f}. A point ends {apart:.4f} (root mean square) from where the flow takes it."
    )


ADVICE = {
    "Euler": "a step of order 1, and most of the error is made near t = 1",
    "Heun": "the better step is no better here, since near t = 1 its steps are too long",
    "the midpoint method": "the better step is wasted near t = 1, where its steps are too long",
}


@cache
def _hard() -> ExactMarginal:
    """Eight tiny spots on the square root path, whose field is steep at the end."""
    return ExactMarginal(GaussianPath(SquareRoot()), ring(std=0.05))


@cache
def _ends() -> tuple[Tensor, dict[str, Tensor]]:
    """Where the flow takes the starts of 01.5, and where solvers on a uniform grid do."""
    start = torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(16), dtype=torch.float64)
    fine, u = 1 - torch.linspace(1, 0, 401).double() ** 2, _hard().velocity
    steps = {
        "Euler": (euler, EVALUATIONS),
        "Heun": (heun, EVALUATIONS // 2),
        "the midpoint method": (midpoint, EVALUATIONS // 2),
    }
    tries = {name: simulate(step(u), start, torch.linspace(0, 1, n + 1)) for name, (step, n) in steps.items()}
    return simulate(midpoint(u), start, fine), tries


def _distance(x: Tensor, y: Tensor) -> float:
    return sliced_w2(x, y, generator=torch.Generator().manual_seed(18))


def _asked(field: Callable, seen: list[int] | None = None) -> Callable:
    """The field, in double precision inside, for points of any precision; the numbers of points go into `seen`."""

    def asked(x: Tensor, t: Tensor) -> Tensor:
        _require_askable(x, t)
        if seen is not None and not captured(x):
            seen.append(len(x))
        return field(x.double(), t.double()).to(x.dtype)

    return asked


def _require_askable(x: object, t: object) -> None:
    """Refuse what a field cannot be asked with: anything but points (B, ...) and one time for each of them."""
    right = isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 0
    require(right, f"a field is asked with a tensor of points (B, d); yours is {kind(x)}")
    one = "a field is asked with one time for each point, shape (B,)"
    require(isinstance(t, Tensor), f"{one}; yours is {kind(t)}")
    require(t.shape == x.shape[:1], f"{one}, here {tuple(x.shape[:1])}; yours has shape {tuple(t.shape)}")


CHECKS: dict[str, Callable[[Callable], str]] = {
    "01.1": euler_step,
    "01.2": euler_maruyama_step,
    "01.3": cosine_velocity,
    "01.4": same_marginals,
    "01.5": sampler,
}
