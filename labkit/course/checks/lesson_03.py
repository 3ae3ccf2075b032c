"""Checks of lesson 03, score matching: loss floor, weighting, conversion, SDE drift and Langevin step."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.base.joints import Field
from labkit.course.checks.require import gap, require, require_close, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear, SquareRoot

CLOSE = 1e-6
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "square root": SquareRoot()}


def dsm_floor(answer: Callable) -> str:
    """03.1: `answer(schedule, t, std)` is the unweighted DSM loss per dimension of a perfect model, shape (B,)."""
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for std in (1.0, 0.5, 2.0):
        for schedule in (Linear(), Cosine()):
            alpha_t, beta_t, *_ = schedule(t)
            value = answer(schedule, t, std)
            # Law of total variance: target = score + remainder. Their mean squares are 1/beta^2 and 1/Var(x_t).
            truth = 1 / beta_t**2 - 1 / (alpha_t**2 * std**2 + beta_t**2)
            require_like(value, truth, "the floor")
            mistakes = {
                "that is the floor of the eps-loss. The target here is -eps / beta: divide once more": beta_t**2
                * truth,
                "a factor beta is off: a variance scales with the square of what multiplies eps": beta_t * truth,
                "1 / beta^2 is the loss of a model that always answers 0: subtract what x_t explains": 1 / beta_t**2,
                "that is the square root of the floor: a loss is a mean of squares": truth.sqrt(),
            }
            hint = f"At t = 0.3 the floor is {truth[2]:.4f}, yours {value[2]:.4f}."
            hint += " With std = 1 it was right: is std squared everywhere?" if std != 1 else ""
            case = f"{type(schedule).__name__} schedule, std = {std:g}:"
            require_close(value, truth, case, mistakes, hint, CLOSE)
    return "Your floor obeys the law of total variance, and it grows like 1 / beta^2 near the data."


def weighted_dsm(answer: Callable) -> str:
    """03.2: `answer(model, path, z, t, eps)` is the beta^2-weighted DSM loss of a score model."""
    generator = torch.Generator().manual_seed(302)
    z, eps = (torch.randn(200, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    t = 0.05 + 0.9 * torch.rand(200, dtype=torch.float64, generator=generator)
    mix = torch.randn(3, 3, dtype=torch.float64, generator=generator)

    def model(x: Tensor, t: Tensor, y: None = None) -> Tensor:
        return torch.sin(x @ mix + t[:, None])

    for name, schedule in SCHEDULES.items():
        path, beta = GaussianPath(schedule), schedule(t).beta_t[:, None]
        s = model(path.sample(z, t, eps).x_t, t)
        squares = (beta * s + eps).square()  # the eps-loss of -beta s
        value = answer(model, path, z, t, eps)
        require_like(value, squares.mean(), "the loss")
        mistakes = {
            "that is the unweighted loss: multiply each squared error by beta^2": (squares / beta**2).mean(),
            "the squared error has been multiplied by beta, not by beta^2": (squares / beta).mean(),
            "the sign of eps: grad log p_t(x | z) is -eps / beta, so the error has a plus": (
                (beta * s - eps).square().mean()
            ),
            "losses are means over batch and dimensions; yours is a sum of 3": squares.sum(1).mean(),
        }
        hint = f"The eps-loss of -beta s is {squares.mean():.4f}, your loss {value:.4f}."
        require_close(value, squares.mean(), f"{name} schedule:", mistakes, hint, CLOSE)
    return "Weighted by beta^2, the score loss of s is the eps-loss of -beta s, on three schedules."


def score_from_velocity(answer: Callable) -> str:
    """03.3: `answer(schedule, x, t, u)` is the score that belongs to the velocity u at x and t."""
    generator = torch.Generator().manual_seed(303)
    x = torch.randn(60, 2, dtype=torch.float64, generator=generator)
    t = 0.1 + 0.8 * torch.rand(60, dtype=torch.float64, generator=generator)
    for name, schedule in SCHEDULES.items():
        exact = ExactMarginal(GaussianPath(schedule), petals())
        u = exact.velocity(x, t)
        with torch.enable_grad():
            at = x.clone().requires_grad_(True)
            (truth,) = torch.autograd.grad(exact.log_prob(at, t).sum(), at)
        value = answer(schedule, x, t, u)
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in schedule(t))
        forgotten = (alpha * u - d_alpha * x) / (d_alpha * beta**2 - d_beta * alpha)
        swapped = (beta * u - d_beta * x) / (d_beta * alpha**2 - d_alpha * alpha * beta)
        mistakes = {
            "b = (d_alpha beta^2 - d_beta beta alpha) / alpha: the beta in its second term is missing": forgotten,
            "alpha and beta have changed places: this points away from the data": swapped,
            "the size is right and the sign is not: the score is minus the noise over beta": -truth,
            "that is E[eps | x]; the score is -E[eps | x] / beta": -beta * truth,
        }
        hint = "The truth is autograd's grad log p_t."
        require_close(value, truth, f"{name} schedule:", mistakes, hint, CLOSE)
    return "Your score is the gradient of log p_t, as autograd finds it, to 1e-6 on three schedules."


def drift(answer: Callable) -> str:
    """03.4: `answer(velocity, score, sigma)` is the field that with diffusion sigma keeps the flow's marginals."""
    std = 0.5
    exact = ExactMarginal(GaussianPath(), GaussianMixture(torch.ones(1, 1), std))
    x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    half = torch.full((3,), 0.5, dtype=torch.float64)
    u, s = exact.velocity(x, half), exact.score(x, half)
    spreads = []
    for sigma in (0.0, 1.0, 0.5):
        field = answer(exact.velocity, exact.score, sigma)
        require(callable(field), "the answer must return a field: a function of x and t, as velocity and score are")
        value = field(x, half)
        require_like(value, u, "the field's value")
        mean, spread = final_moments(field, sigma)
        spreads.append(f"{spread:.3f}")
        seen = f"with sigma = {sigma:g} data N(1, 0.5^2) comes out with mean {mean:.3f} and std {spread:.3f};"
        mistakes = {
            "the noise comes in, and nothing takes it out: the score term is missing": u,
            "the score pulls twice as hard as it should: where is the 1/2?": u + sigma**2 * s,
            "the score term has the wrong sign: it must pull towards the data": u - sigma**2 / 2 * s,
            "the velocity is missing: this is Langevin dynamics for one law, and p_t moves on": sigma**2 / 2 * s,
        }
        hint = {
            0: "Without noise the drift is the velocity alone.",
            0.5: "With sigma = 1 it is right: is sigma squared?",
        }
        known = mistakes if sigma == 1 else {}  # at 1/2, sigma / 2 is sigma^2
        require_close(value, u + sigma**2 / 2 * s, seen, known, hint.get(sigma, ""), CLOSE)
        require(abs(mean - 1) < 0.01 and abs(spread - std) < 0.005, f"{seen} is the field right at all times?")
    return f"With sigma = 0, 1, 0.5 the moment equations end at std {', '.join(spreads)}; the data have 0.500."


def final_moments(field: Field, sigma: float, n: int = 200) -> tuple[float, float]:
    """Mean and std at t=1 of dX = field dt + sigma dW from N(0, 1), for a field that is affine in x.

    With field = c + k x the moments obey m' = c + k m and V' = 2 k V + sigma^2; here by n midpoint steps.
    """
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def rate(t: float, mean: float, variance: float) -> tuple[float, float]:
        with torch.no_grad():
            c, at_one = field(x, torch.full((2,), t, dtype=torch.float64)).flatten().tolist()
        k = at_one - c
        return c + k * mean, 2 * k * variance + sigma**2

    mean, variance = 0.0, 1.0
    for i in range(n):
        m, v = rate(i / n, mean, variance)
        m, v = rate((i + 0.5) / n, mean + m / (2 * n), variance + v / (2 * n))
        mean, variance = mean + m / n, variance + v / n
    return mean, max(variance, 0.0) ** 0.5


def langevin_step(answer: Callable) -> str:
    """03.5: `answer(score, x, h, sigma, noise)` is one step of dX = sigma^2/2 score dt + sigma dW."""
    generator = torch.Generator().manual_seed(305)
    mu, std = 0.7, 0.5
    x, noise = (torch.randn(50, 2, dtype=torch.float64, generator=generator) for _ in range(2))

    def score(x: Tensor) -> Tensor:
        return (mu - x) / std**2

    for sigma, h in ((1.0, 0.02), (0.6, 0.01)):
        still = answer(score, x, h, sigma, torch.zeros_like(noise))
        moved = answer(score, x, h, sigma, noise)
        require_like(still, x, "the new x")
        require_like(moved, x, "the new x")
        pull, kick = still - x, moved - still
        require(kick.abs().max() > 0, "the noise that was handed in does not move x")
        # x' - mu = (1 - k) (x - mu) + c noise, so that the variance settles at c^2 / (2 k - k^2).
        k = (pull * (mu - x)).sum().item() / (mu - x).square().sum().item()
        c = (kick * noise).sum().item() / noise.square().sum().item()
        affine = gap(pull, k * (mu - x)) < CLOSE and gap(kick, c * noise) < CLOSE
        at = f"sigma = {sigma:g}, h = {h:g}"
        require(affine, f"{at}: the step should add a multiple of the score and a multiple of the noise, nothing else")
        require(k > 0, f"{at}: the step leads away from the data: follow the score uphill, with a plus")
        by_pull, by_kick = k / (sigma**2 / 2 * h / std**2), c / (sigma * h**0.5)  # 1 and 1 where right
        pulls = {2.0: ": where is the 1/2 of sigma^2 / 2?", 1 / sigma: ": is sigma squared in front of the score?"}
        kicks = {
            2**0.5: ": sqrt(2 h) belongs to the convention with h * score; ours has sigma^2 / 2 * score",
            h**0.5: ": noise grows with the square root of time, sqrt(h), not with h",
        }
        settled = abs(c) / max(abs(2 * k - k * k), 1e-12) ** 0.5
        seen = f"{at}: for N(0.7, 0.5^2) your steps settle at std {settled:.3f}"
        said = f"{seen}: the pull is {by_pull:.3g} and the noise {by_kick:.3g} times what they should be"
        same_pull, same_kick = abs(by_pull - 1) < CLOSE, abs(by_kick - 1) < CLOSE
        if same_pull or same_kick:
            ratio, hints = (by_kick, kicks) if same_pull else (by_pull, pulls)
            said += next((hint for known, hint in hints.items() if abs(ratio / known - 1) < CLOSE), "")
        elif abs(settled / std - 1) < 0.05:
            said += ". The law is right, the clock is not: one step should last h"
        require(same_pull and same_kick, said)
    return f"Your steps leave N(0.7, 0.5^2) in place, up to the step size: they settle at std {settled:.3f}."


CHECKS: dict[str, Callable[[Callable], str]] = {
    "03.1": dsm_floor,
    "03.2": weighted_dsm,
    "03.3": score_from_velocity,
    "03.4": drift,
    "03.5": langevin_step,
}
