"""Checks of lesson 03, score matching: loss floor, weighting, conversion, repair by noise and Langevin step."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.checks.require import gap, kind, require, require_close, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals, ring
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear, SquareRoot
from labkit.measure.metrics import sliced_w2

CLOSE = 1e-4  # answers may compute in float32
TARGET = 0.12  # sliced W2 to the data after a repair; the ODE ends at about 0.37, exact clouds at 0.04
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
                "that is what x_t explains, the mean square of the score: the floor is what it does not explain": (
                    1 / (alpha_t**2 * std**2 + beta_t**2)
                ),
                "that is the floor of lesson 02, of the velocity: here the target is -eps / beta": (
                    std**2 / (alpha_t**2 * std**2 + beta_t**2)
                ),
                "means of squares add up, roots of them do not: 1 / beta^2 minus 1 / Var(x_t)": (
                    1 / beta_t - 1 / (alpha_t**2 * std**2 + beta_t**2).sqrt()
                ).square(),
                "alpha and beta have changed places": 1 / alpha_t**2 - 1 / (beta_t**2 * std**2 + alpha_t**2),
                "the two mean squares were added: what x_t explains is no part of the floor": (
                    1 / beta_t**2 + 1 / (alpha_t**2 * std**2 + beta_t**2)
                ),
                "alpha is not squared in Var(x_t) = alpha^2 std^2 + beta^2": (
                    1 / beta_t**2 - 1 / (alpha_t * std**2 + beta_t**2)
                ),
                "the formula is that of the linear schedule: take alpha and beta from `schedule`": (
                    1 / (1 - t) ** 2 - 1 / (t**2 * std**2 + (1 - t) ** 2)
                ),
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
    mix = torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_(True)

    def model(x: Tensor, t: Tensor, y: None = None) -> Tensor:
        return torch.sin(x.to(mix.dtype) @ mix + t.to(mix.dtype)[:, None])

    for name, schedule in SCHEDULES.items():
        path, beta = GaussianPath(schedule), schedule(t).beta_t[:, None]
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            x = path.sample(z, t, eps).x_t
            s = model(x, t)
            squares = (beta * s + eps).square()  # the eps-loss of -beta s
            (slope,) = torch.autograd.grad(squares.mean(), mix)
            value, again = (answer(model, path, z, t, eps) for _ in range(2))
        require_like(value, squares.mean(), "the loss")
        same = isinstance(again, Tensor) and gap(value, again) < 1e-6
        require(same, f"{name} schedule: two calls give two losses: use the eps that is handed in, and draw nothing")
        as_linear = ((1 - t)[:, None] * s + eps).square().mean()
        mistakes = {
            "the model was asked at the data z; its inputs are the noisy points x_t": (
                (beta * model(z, t) + eps).square().mean()
            ),
            "the model was asked at time 1 - t": (beta * model(x, 1 - t) + eps).square().mean(),
            "the model gives a score, not noise: beta times it is minus the noise": (s + eps).square().mean(),
            "the model gives a score, and here it was taken for the noise": (s - eps).square().mean(),
            "the target is -eps / beta, not -eps": (beta**2 * (s + eps).square()).mean(),
            "the target is -eps / beta, not -eps / beta^2": (beta**2 * (s + eps / beta**2).square()).mean(),
            "the weight of the linear schedule, 1 - t, was used: take beta from the path": as_linear,
            "the root was taken: a loss is a mean of squares": squares.mean().sqrt(),
            "that is a sum over batch and dimensions; losses are means": squares.sum(),
            "the weight is beta^4: once beta^2 outside is enough": (beta**2 * squares).mean(),
            "that is the unweighted loss: multiply each squared error by beta^2": (squares / beta**2).mean(),
            "the squared error has been multiplied by beta, not by beta^2": (squares / beta).mean(),
            "the sign of eps: grad log p_t(x | z) is -eps / beta, so the error has a plus": (
                (beta * s - eps).square().mean()
            ),
            "losses are means over batch and dimensions; yours is a sum of 3": squares.sum(1).mean(),
        }
        hint = f"The eps-loss of -beta s is {squares.mean():.4f}, your loss {value:.4f}."
        known = {sentence: mistake.detach() for sentence, mistake in mistakes.items()}
        require_close(value.detach(), squares.mean().detach(), f"{name} schedule:", known, hint, CLOSE)
        cut = "the number is right, but nothing can be learned from it: no gradient reaches the model. Is there a"
        require(value.requires_grad, f"{cut} detach, a no_grad, or an .item() in your answer?")
        (found,) = torch.autograd.grad(value, mix, allow_unused=True)
        require(found is not None, f"{cut} detach in your answer?")
        wrong = f"{name} schedule: the loss is right, its gradient is not (off by {gap(found, slope):.0%})"
        require(gap(found, slope) < 1e-3, f"{wrong}: is a part of the model's output detached?")
    return "Weighted by beta^2, the score loss of s is the eps-loss of -beta s on three schedules, gradient included."


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
            "that is -E[eps | x]: divide by beta once more": beta * truth,
            "divided by beta once too often": truth / beta,
            "the linear path's formula, (t u - x) / (1 - t): take the schedule's numbers": (
                (t[:, None] * u - x) / (1 - t[:, None])
            ),
            "the signs in the denominator: it is d_alpha beta - alpha d_beta": (
                (alpha * u - d_alpha * x) / (beta * (d_alpha * beta + alpha * d_beta))
            ),
            "the sign in front of d_alpha x": (alpha * u + d_alpha * x) / (beta * (d_alpha * beta - alpha * d_beta)),
            "that is the score of the noise alone, -x / beta^2": -x / beta**2,
            "that is the velocity itself": u,
        }
        hint = "The truth is autograd's grad log p_t."
        require_close(value, truth, f"{name} schedule:", mistakes, hint, CLOSE)
    return "Your score is the gradient of log p_t, as autograd finds it, to 1e-4 on three schedules."


def repair(answer: Callable) -> str:
    """03.4: `my_repair(velocity, x_0, evaluations, generator)` stirs away that the velocity was wrong early."""
    means = ring(3, 1.5).means
    mixture = GaussianMixture(means, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.5, 0.3, 0.2]))
    exact = ExactMarginal(GaussianPath(), mixture, labels=torch.zeros(3, dtype=torch.int64))
    n, budget, asked = 2000, 60, []
    data = mixture.sample(20_000, torch.Generator().manual_seed(9))[0]

    def spoilt(wind: Tensor) -> Callable:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            require(isinstance(t, Tensor), f"the velocity wants a time for every point, shape (B,); it is {kind(t)}")
            require_like(t, x[:, 0], "t, of which the velocity wants one for every point,")
            inside = bool((t > -1e-4).all() and (t < 1 + 1e-4).all())
            require(inside, f"the velocity was asked at t = {t.min():.3g} to {t.max():.3g}; time runs from 0 to 1")
            asked.append(len(x))
            return exact.velocity(x, t) + (t < 0.5)[:, None] * wind

        return velocity

    def distance(x: Tensor) -> float:
        return float(sliced_w2(x.float(), data, projections=64, generator=torch.Generator().manual_seed(0)))

    found, by_ode = [], []
    for seed, wind in enumerate(torch.tensor([[0.6, 0.0], [-0.3, 0.52], [0.6, 0.0]])):
        x_0, velocity = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)), spoilt(wind)
        with torch.random.fork_rng(devices=[]):
            x = answer(velocity, x_0, budget, torch.Generator().manual_seed(seed))
        if isinstance(x, Tensor) and not x.isfinite().all():
            require(False, "your points fly off to infinity: near t = 1 the score is steep, so let sigma fade there")
        require_like(x, x_0, "the end points")
        spent = sum(asked) / n
        asked.clear()
        require(spent <= budget, f"{spent:g} evaluations of the velocity a point; {budget} are allowed")
        if not seed:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3034)  # who draws from torch's own generator is found out
                again = answer(velocity, x_0, budget, torch.Generator().manual_seed(seed))
            once = "twice the same generator, two results: draw all noise from it, by randn(..., generator=generator)"
            require(isinstance(again, Tensor) and gap(again, x) < 1e-3, once)
        flow = x_0
        for k in range(budget):
            flow = flow + velocity(flow, torch.full((n,), k / budget)) / budget
        asked.clear()
        found.append(distance(x))
        by_ode.append(distance(flow))
    mean, without = sum(found) / 3, sum(by_ode) / 3
    wide = x.std(dim=0).norm() / data.std(dim=0).norm()
    said = f"over three clouds the mean sliced W2 to the data is {mean:.3f}; the target is {TARGET}, the ODE has "
    said += f"{without:.3f}. "
    if mean > TARGET:
        why = "It heals, but not enough: stir harder while there is time, and fade later"
        if mean > 0.9 * without:
            why = "That is no better than without noise. Is the score (t u - x) / (1 - t), half of sigma^2 in front "
            why += "of it, and sqrt(dt) sigma in front of the noise?"
        if (x - x_0).norm(dim=1).mean() < 0.1:
            why = "Your points hardly move: the velocity carries them from noise to data"
        if wide > 1.5:
            why = f"The cloud is {wide:.1f} times too wide: does the score pull as hard as the noise pushes, and does "
            why += "sigma fade towards t = 1, where the pull gets steep?"
        require(False, said + why)
    return f"Mean sliced W2 to the data {mean:.3f} (target {TARGET}, the ODE {without:.3f}) with {spent:g} evaluations."


def langevin_step(answer: Callable) -> str:
    """03.5: `answer(score, x, h, sigma, noise)` is one step of dX = sigma^2/2 score dt + sigma dW."""
    generator = torch.Generator().manual_seed(305)
    mu, std = 0.7, 0.5
    x, noise = (torch.randn(50, 2, dtype=torch.float64, generator=generator) for _ in range(2))

    def score(x: Tensor) -> Tensor:
        return (mu - x) / std**2

    for sigma, h in ((1.0, 0.02), (0.6, 0.01)):
        with torch.random.fork_rng(devices=[]):
            still, again = (answer(score, x, h, sigma, torch.zeros_like(noise)) for _ in range(2))
            moved = answer(score, x, h, sigma, noise)
        require_like(still, x, "the new x")
        require_like(moved, x, "the new x")
        own = (
            "two calls without noise end in two places: your step draws noise of its own. Use the one that is handed in"
        )
        require(isinstance(again, Tensor) and gap(again, still) < 1e-6, own)
        still, moved = still.to(x.dtype), moved.to(x.dtype)
        pull, kick = still - x, moved - still
        require(kick.abs().max() > 0, "the noise that was handed in does not move x")
        # x' - mu = (1 - k) (x - mu) + c noise, so that the variance settles at c^2 / (2 k - k^2).
        k = (pull * (mu - x)).sum().item() / (mu - x).square().sum().item()
        c = (kick * noise).sum().item() / noise.square().sum().item()
        require(gap(still, sigma**2 / 2 * h * score(x)) > CLOSE, "that is how far the points move: add x to it")
        affine = gap(pull, k * (mu - x)) < CLOSE and gap(kick, c * noise) < CLOSE
        at = f"sigma = {sigma:g}, h = {h:g}"
        require(affine, f"{at}: the step should add a multiple of the score and a multiple of the noise, nothing else")
        require(k > 0, f"{at}: the step leads away from the data: follow the score uphill, with a plus")
        by_pull, by_kick = k / (sigma**2 / 2 * h / std**2), c / (sigma * h**0.5)  # 1 and 1 where right
        pulls = {
            2.0: ": where is the 1/2 of sigma^2 / 2?",
            1 / sigma: ": is sigma squared in front of the score?",
            1 / sigma**2: ": where is sigma^2 in front of the score?",
            1 / h: ": where is h in the drift?",
        }
        kicks = {
            2**0.5: ": sqrt(2 h) belongs to the convention with h * score; ours has sigma^2 / 2 * score",
            h**0.5: ": noise grows with the square root of time, sqrt(h), not with h",
            h**-0.5: ": where is sqrt(h) in front of the noise?",
            sigma: ": sigma stands in front of the noise, not its square",
            1 / sigma: ": where is sigma in front of the noise?",
        }
        settled = abs(c) / max(abs(2 * k - k * k), 1e-12) ** 0.5
        ends = f"settle at std {settled:.3f}" if settled < 100 else "never settle"
        seen = f"{at}: for N(0.7, 0.5^2) your steps {ends}"
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
    "03.4": repair,
    "03.5": langevin_step,
}
