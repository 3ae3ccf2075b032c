"""Checks of lesson 03, score matching: loss floor, weighting, conversion, repair by noise and Langevin step."""

import math
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.course.checks.require import NotRight, as_tensor, gap, kind, require, require_close, require_like, seeded
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals, ring
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear, SquareRoot
from labkit.measure.metrics import sliced_w2

CLOSE = 1e-4  # answers may compute in float32
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "square root": SquareRoot()}
BUDGET, TARGET = 60, 0.12  # 03.4: evaluations a point, and the sliced W2 to reach; exact clouds have about 0.04


def dsm_floor(answer: Callable) -> str:
    """03.1: `answer(schedule, t, std)` is the unweighted DSM loss per dimension of a perfect model, shape (B,)."""
    t = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97], dtype=torch.float64)
    for std in (0.5, 3.0, 1.0):
        for schedule in (Linear(), Cosine()):
            a, b, *_ = schedule(t)
            value = as_tensor(answer(schedule, t, std), "the floor")
            # Law of total variance: target = score + remainder. Their mean squares are 1/beta^2 and 1/Var(x_t).
            var = a**2 * std**2 + b**2
            truth = 1 / b**2 - 1 / var
            require_like(value, truth, "the floor")
            mistakes = {
                "that is the floor of the eps-loss. The target here is -eps / beta: divide once more": b**2 * truth,
                "a factor beta is off: a variance scales with the square of what multiplies eps": b * truth,
                "divided by beta^2 twice: once makes Var(eps | x_t) the variance of eps / beta": truth / b**2,
                "1 / beta^2 is the loss of a model that always answers 0: subtract what x_t explains": 1 / b**2,
                "that is the square root of the floor: a loss is a mean of squares": truth.sqrt(),
                "that is what x_t explains, the mean square of the score: the floor is what it does not explain": (
                    1 / var
                ),
                "that is the floor of lesson 02, of the velocity: here the target is -eps / beta": std**2 / var,
                "that is the variance of z given x_t; wanted is that of eps / beta": b**2 * std**2 / var,
                "means of squares add up, roots of them do not: 1 / beta^2 minus 1 / Var(x_t)": (
                    1 / b - 1 / var.sqrt()
                ).square(),
                "alpha and beta have changed places": 1 / a**2 - 1 / (b**2 * std**2 + a**2),
                "the two mean squares were added: what x_t explains is no part of the floor": 1 / b**2 + 1 / var,
                "the mean square of the score is 1 / Var(x_t), not beta^2 / Var(x_t)": 1 / b**2 - b**2 / var,
                "the sign is wrong: a mean of squares is never negative": -truth,
                "that is the floor for two dimensions together; C_t is per dimension": 2 * truth,
                "that is half of it: there is no 1/2 in this loss": truth / 2,
                "std is missing in Var(x_t) = alpha^2 std^2 + beta^2": 1 / b**2 - 1 / (a**2 + b**2),
                "std is a standard deviation: square it": 1 / b**2 - 1 / (a**2 * std + b**2),
                "std^2 is missing in the numerator": truth / std**2,
                "alpha is missing in Var(x_t) = alpha^2 std^2 + beta^2": 1 / b**2 - 1 / (std**2 + b**2),
                "alpha is not squared in Var(x_t) = alpha^2 std^2 + beta^2": 1 / b**2 - 1 / (a * std**2 + b**2),
                "beta is not squared in Var(x_t) = alpha^2 std^2 + beta^2": (var - b**2) / (var - b**2 + b) / b**2,
                "Var(x_t) is alpha^2 std^2 + beta^2, every letter squared": a * std / (a * std + b) / b**2,
                "the formula is that of the linear schedule: take alpha and beta from `schedule`": (
                    1 / (1 - t) ** 2 - 1 / (t**2 * std**2 + (1 - t) ** 2)
                ),
            }
            worst = ((value - truth) / truth).abs().argmax()
            hint = f"At t = {t[worst]:.1f} the floor is {truth[worst]:.4f}, yours {value[worst]:.4f}."
            case = f"{type(schedule).__name__} schedule, std = {std:g}:"
            require_close(value.detach(), truth, case, mistakes, hint, CLOSE)
    return "Your floor obeys the law of total variance, and it grows like 1 / beta^2 near the data."


def weighted_dsm(answer: Callable) -> str:
    """03.2: `answer(model, path, z, t, eps)` is the beta^2-weighted DSM loss of a score model."""
    generator = torch.Generator().manual_seed(302)
    z, eps = (torch.randn(200, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    t = 0.05 + 0.9 * torch.rand(200, dtype=torch.float64, generator=generator)
    mix = torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_(True)

    asked: list[Tensor] = []

    def model(x: Tensor, t: Tensor, y: None = None) -> Tensor:
        fits = isinstance(x, Tensor) and isinstance(t, Tensor) and t.shape == x.shape[:-1]
        require(fits, "the model wants x of shape (B, d) and t of shape (B,), one time a point, as t was handed in")
        asked.append(x.detach().clone())
        return torch.sin(x.to(mix.dtype) @ mix + t.to(mix.dtype)[..., None])

    for name, schedule in SCHEDULES.items():
        path, (alpha, beta) = GaussianPath(schedule), (c[:, None] for c in schedule(t)[:2])
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            x = path.sample(z, t, eps).x_t
            s = model(x, t)
            squares = (beta * s + eps).square()  # the eps-loss of -beta s
            (slope,) = torch.autograd.grad(squares.mean(), mix)
            asked.clear()
            value, again = (_one_number(answer(model, path, z, t, eps)) for _ in range(2))
            elsewhere = any(y.shape == x.shape and gap(y, x) > CLOSE for y in asked)
        require_like(value, squares.mean(), "the loss")
        same = isinstance(again, Tensor) and again.shape == value.shape and gap(value, again) < 1e-6
        require(same, f"{name} schedule: two calls give two losses: use the eps that is handed in, and draw nothing")
        with torch.no_grad():
            other = beta * z + alpha * eps
            mistakes = {
                "the model was asked at the data z; its inputs are the noisy points x_t": beta * model(z, t) + eps,
                "the model was asked at eps; its inputs are the noisy points x_t": beta * model(eps, t) + eps,
                "the model was asked at time 1 - t": beta * model(x, 1 - t) + eps,
                "alpha and beta have changed places in x_t": beta * model(other, t) + eps,
                "alpha and beta have changed places": alpha * model(other, t) + eps,
                "z and eps have changed places": beta * model(other, t) + z,
                "the model gives a score, not noise: beta times it is minus the noise": s + eps,
                "the model gives a score, and here it was taken for the noise": s - eps,
                "the target is -eps / beta, not -eps": beta * (s + eps),
                "the target is -eps / beta, not eps": beta * (s - eps),
                "the target is -eps / beta, not -eps / beta^2": beta * s + eps / beta,
                "the target is not z: it is the score of p_t(x | z), -eps / beta": beta * (s - z),
                "the target is not the velocity: it is the score of p_t(x | z), -eps / beta": beta * (s - z + eps),
                "the target is the score of p_t(x | z), with z in it: -(x - alpha z) / beta^2": beta * s + x / beta,
                "the weight of the linear schedule, 1 - t, was used: take beta from the path": (
                    (1 - t)[:, None] * s + eps
                ),
                "the weight is beta^4: once beta^2 outside is enough": beta * (beta * s + eps),
                "the sign of eps, and the weight beta^2 is missing": s - eps / beta,
                "that is the unweighted loss: multiply each squared error by beta^2": s + eps / beta,
                "the squared error has been multiplied by beta, not by beta^2": (beta * s + eps) / beta.sqrt(),
                "divided by beta^2, where the weight multiplies": (s + eps / beta) / beta,
                "the weight is beta^2, not alpha^2": alpha * (s + eps / beta),
                "beta^2 has to stand on the scale of its own sample, inside the mean": (
                    beta.square().mean().sqrt() * (s + eps / beta)
                ),
                "the sign of eps: grad log p_t(x | z) is -eps / beta, so the error has a plus": beta * s - eps,
            }
            known = {sentence: error.square().mean() for sentence, error in mistakes.items()}
            known |= {
                "the root was taken: a loss is a mean of squares": squares.mean().sqrt(),
                "that is a sum over batch and dimensions; losses are means": squares.sum(),
                "losses are means over batch and dimensions; yours is a sum of 3": squares.sum(1).mean(),
                "losses are means over batch and dimensions; yours is a sum over the batch": squares.mean(1).sum(),
                "that is half of the loss: there is no 1/2 in it": squares.mean() / 2,
                "the error is not squared": (beta * s + eps).mean(),
                "the size of the error is meant to be squared": squares.sqrt().mean(),
                "the norm of the error is meant to be squared": squares.sum(1).sqrt().mean(),
            }
        hint = f"The eps-loss of -beta s is {squares.mean():.6g}, your loss {value:.6g}."
        hint += " The model was asked at points other than x_t = alpha z + beta eps." if elsewhere else ""
        require_close(value.detach(), squares.mean().detach(), f"{name} schedule:", known, hint, CLOSE)
        _require_slope(value, mix, slope, name)
    return "Weighted by beta^2, the score loss of s is the eps-loss of -beta s on three schedules, gradient included."


def _require_slope(value: Tensor, weights: Tensor, slope: Tensor, name: str) -> None:
    """Require that a loss has the right gradient by the weights of the model: else it measures and cannot train."""
    cut = "the number is right, but nothing can be learned from it: no gradient reaches the model. Is there a"
    require(value.requires_grad, f"{cut} detach, a no_grad, an .item() or numpy in your answer?")
    try:
        (found,) = torch.autograd.grad(value, weights, allow_unused=True)
    except RuntimeError:
        said = "the number is right, but its graph is used up: is there a backward() in your answer? Return the loss"
        raise NotRight(f"{said} alone; whoever trains with it takes the gradient") from None
    require(found is not None, f"{cut} detach in your answer?")
    wrong = f"{name} schedule: the loss is right, its gradient is not (off by {gap(found, slope):.0%})"
    require(gap(found, slope) < 1e-3, f"{wrong}: is a part of the model's output detached?")


def score_from_velocity(answer: Callable) -> str:
    """03.3: `answer(schedule, x, t, u)` is the score that belongs to the velocity u at x and t."""
    generator = torch.Generator().manual_seed(303)
    x = torch.randn(60, 2, dtype=torch.float64, generator=generator)
    t = 0.03 + 0.94 * torch.rand(60, dtype=torch.float64, generator=generator)
    for name, schedule in SCHEDULES.items():
        exact = ExactMarginal(GaussianPath(schedule), petals())
        u = exact.velocity(x, t)
        with torch.enable_grad():
            at = x.clone().requires_grad_(True)
            (truth,) = torch.autograd.grad(exact.log_prob(at, t).sum(), at)
        value = as_tensor(answer(schedule, x, t, u), f"{name} schedule: the score")
        a, b, da, db = (c[:, None] for c in schedule(t))
        top, below = a * u - da * x, b**2 * da - a * b * db
        mistakes = {
            "b = (d_alpha beta^2 - d_beta beta alpha) / alpha: the beta in its second term is missing": (
                top / (b**2 * da - a * db)
            ),
            "alpha is missing in the second term of the denominator": top / (b**2 * da - b * db),
            "beta is not squared in the first term of the denominator": top / (b * da - a * b * db),
            "d_beta is squared in the denominator, where beta d_beta should stand": top / (b**2 * da - a * db**2),
            "alpha and beta have changed places: this points away from the data": (
                (b * u - db * x) / (db * a**2 - da * a * b)
            ),
            "d_alpha and d_beta have changed places": (a * u - db * x) / (b**2 * db - a * b * da),
            "the size is right and the sign is not: the score is minus the noise over beta": -truth,
            "that is E[eps | x]; the score is -E[eps | x] / beta": -b * truth,
            "that is -E[eps | x]: divide by beta once more": b * truth,
            "that is beta^2 times the score: the denominator has been forgotten in part": b**2 * truth,
            "divided by beta once too often": truth / b,
            "divided by alpha once too often: the boxed formula has no alpha below u": truth / a,
            "multiplied by alpha once too often": truth * a,
            "that is the denoiser E[z | x]; the score is (alpha times it, minus x) / beta^2": (
                (db * x - b * u) / (a * db - b * da)
            ),
            "the linear path's formula, (t u - x) / (1 - t): take the schedule's numbers": (
                (t[:, None] * u - x) / (1 - t[:, None])
            ),
            "the signs in the denominator: it is d_alpha beta - alpha d_beta": top / (b**2 * da + a * b * db),
            "the sign in front of d_alpha x": (a * u + da * x) / below,
            "x and u have changed places in the numerator": (a * x - da * u) / below,
            "alpha and d_alpha have changed places in the numerator": (da * u - a * x) / below,
            "d_alpha is missing in front of x": (a * u - x) / below,
            "alpha is missing in front of u": (u - da * x) / below,
            "a_t x is missing: only u less a_t x is a multiple of the score": a * u / below,
            "that is the arrow back, from a score to a velocity": da / a * x + below / a * u,
            "that is the score of the noise alone, -x / beta^2": -x / b**2,
            "that is the velocity itself": u,
        }
        hint = "The truth is autograd's grad log p_t."
        if name == "linear":
            hint += " On this path the formula comes down to (t u - x) / (1 - t): does yours?"
        else:
            hint += " On the linear path it was right: there d_alpha is 1, d_beta is -1, and alpha + beta is 1."
        require_close(value, truth, f"{name} schedule:", mistakes, hint, CLOSE)
    x = torch.randn(60, 5, dtype=torch.float64, generator=generator)  # of data N(0, I): Var(x_t) = a^2 + b^2
    a, b, da, db = (c[:, None] for c in SCHEDULES["square root"](t))
    value = as_tensor(answer(SCHEDULES["square root"], x, t, (a * da + b * db) / (a**2 + b**2) * x), "the score")
    case = "for points in five dimensions (for those in the plane it was right):"
    require_close(value, -x / (a**2 + b**2), case, {}, "Nothing in the formula counts dimensions.", CLOSE)
    return "Your score is the gradient of log p_t, as autograd finds it, to 1e-4 on three schedules."


class Cloud(NamedTuple):
    """One cloud to repair in 03.4: its data, an early wind, where its points start, and how far off the ODE ends."""

    exact: ExactMarginal
    data: Tensor
    wind: Tensor
    x_0: Tensor
    by_ode: float

    def distance(self, x: Tensor) -> float:
        """Sliced W2 of points (B, 2) to the data."""
        return float(sliced_w2(x.float(), self.data, projections=40, generator=torch.Generator().manual_seed(0)))

    def width(self, x: Tensor) -> float:
        """How wide the points lie around the nearest centres of the data."""
        return torch.cdist(x.float(), self.exact.mixture.means).amin(dim=1).square().mean().sqrt().item()

    def velocity(self, asked: list[int]) -> Callable[[Tensor, Tensor], Tensor]:
        """The spoilt velocity, which writes down of how many points it was asked."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            require(isinstance(x, Tensor), f"the velocity was asked at x {kind(x)}; it wants a tensor (B, 2)")
            require(isinstance(t, Tensor), f"the velocity wants a time for every point, shape (B,); it is {kind(t)}")
            require(x.ndim == 2 and x.shape[1] == 2, f"the velocity was asked at {kind(x)}; it wants x (B, 2)")
            require_like(t, x[:, 0], "t, of which the velocity wants one for every point,")
            inside = bool((t > -1e-4).all() and (t < 1 + 1e-4).all())
            require(inside, f"the velocity was asked at t = {t.min():.3g} to {t.max():.3g}; time runs from 0 to 1")
            asked.append(len(x))
            wind = self.wind.to(x.dtype)
            return self.exact.velocity(x, t.to(x.dtype).clamp(0, 1)) + (t < 0.5)[:, None] * wind

        return velocity


@cache
def _clouds() -> list[Cloud]:
    """The lesson's cloud, as it is and turned by two angles, each with a wind from elsewhere."""
    found, winds = [], torch.tensor([[0.6, 0.0], [-0.3, 0.52], [0.6, 0.0]])
    for seed, angle in enumerate((0.0, math.pi / 3, math.pi / 7)):
        turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        weights, generator = torch.tensor([0.5, 0.3, 0.2]), torch.Generator().manual_seed(seed)
        mixture = GaussianMixture(ring(3, 1.5).means @ turn, torch.tensor([0.5, 0.4, 0.3]), weights)
        exact = ExactMarginal(GaussianPath(), mixture, labels=torch.zeros(3, dtype=torch.int64))
        data, x_0 = mixture.sample(8_000, generator)[0], torch.randn(2000, 2, generator=generator)
        cloud, x = Cloud(exact, data, winds[seed] @ turn, x_0, 0.0), x_0
        for k in range(BUDGET):
            x = x + cloud.velocity([])(x, torch.full((len(x),), k / BUDGET)) / BUDGET
        found.append(cloud._replace(by_ode=cloud.distance(x)))
    return found


def repair(answer: Callable) -> str:
    """03.4: `answer(velocity, x_0, evaluations, generator)` samples with noise; the velocity was wrong early."""

    def ends(cloud: Cloud, x_0: Tensor, seed: int = 0, budget: int = BUDGET) -> tuple[Tensor, float]:
        asked: list[int] = []
        with torch.random.fork_rng(devices=[]):
            x = answer(cloud.velocity(asked), x_0, budget, torch.Generator().manual_seed(seed))
        x = x if isinstance(x, list | tuple) else as_tensor(x, "the end points")  # what follows in the lesson wants one
        if isinstance(x, Tensor) and not x.isfinite().all():
            require(False, "your points fly off to infinity: near t = 1 the score is steep, so let sigma fade there")
        require_like(x, x_0, "the end points")
        spent = sum(asked) / len(x_0)
        never = "the velocity was never asked: it carries the points from noise to data, and has the score in it"
        require(spent > 0, never)
        require(spent <= budget, f"with evaluations = {budget} the velocity was asked {spent:g} times a point")
        return x.detach().float(), spent

    first, *_ = clouds = _clouds()
    few = first.x_0[:300]
    ends(first, few, budget=50)  # does it heed the budget? (It need not reach the target with less.)
    x, spent = ends(first, few)
    require((x - few).norm(dim=1).mean() > 0.1, "your points hardly move: the velocity carries them from noise to data")
    once = "twice the same generator, two results: draw all noise from it, by randn(..., generator=generator)"
    with seeded(303):  # other global random numbers, which should have no say
        require(gap(ends(first, few)[0], x) < 1e-3, once)
    moved = (ends(first, few, seed=1)[0] - x).norm(dim=1).mean().item()
    still = f"with another generator a point ends {moved:.3f} from where it was: here no noise repairs, or not the one "
    require(moved > 0.1, still + "from `generator`. Noise has to make the points forget the wind")

    found, wide = [], []
    for seed, cloud in enumerate(clouds):
        x, spent = ends(cloud, cloud.x_0, seed)
        found.append(cloud.distance(x))
        wide.append(cloud.width(x) / cloud.width(cloud.data))
    mean, without, width = (sum(v) / len(clouds) for v in (found, [cloud.by_ode for cloud in clouds], wide))
    _require_repaired(mean, without, width)
    return f"Mean sliced W2 to the data {mean:.3f} (target {TARGET}, the ODE {without:.3f}) with {spent:g} evaluations."


def _require_repaired(mean: float, without: float, width: float) -> None:
    is_now = f"{mean:.3f}" if mean < 10 else "more than 10"
    said = f"over three clouds the mean sliced W2 to the data is {is_now}; the target is {TARGET}, the ODE has "
    said += f"{without:.3f}. "
    why = "It heals, but not enough: stir harder while there is time, and fade later"
    if mean > 0.9 * without:
        why = "That is no better than without noise. Either it is too weak, and sigma should be several times as large "
        why += "early on; or is the score not (t u - x) / (1 - t), with sigma^2 / 2, beside sqrt(dt) sigma noise?"
    if width < 0.9:
        why = (
            f"The blobs have only {width:.0%} of their width: the score pulls harder than the noise pushes. Is half of "
        )
        why += "sigma^2 in front of the score, and sqrt(dt) sigma in front of the noise?"
    if width > 1.2:
        times = f"{width:.1f} times" if width < 100 else "more than a hundred times"
        why = (
            f"The blobs are {times} too wide. Does the score pull as hard as the noise pushes (half of sigma^2 against "
        )
        why += "sqrt(dt) sigma), and does sigma fade towards t = 1, where the pull gets steep?"
    require(mean <= TARGET, said + why)


def langevin_step(answer: Callable) -> str:
    """03.5: `answer(score, x, h, sigma, noise)` is one step of dX = sigma^2/2 score dt + sigma dW."""
    generator = torch.Generator().manual_seed(305)
    mu, std = 0.7, 0.5
    x, noise = (torch.randn(50, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    asked: list[Tensor] = []

    def score(x: Tensor) -> Tensor:
        require(isinstance(x, Tensor), f"the score was asked at {kind(x)}; it wants points, a tensor")
        asked.append(x.detach().clone())
        return (mu - x) / std**2

    for sigma, h in ((1.7, 0.02), (0.6, 0.01)):
        with torch.random.fork_rng(devices=[]):
            still, again = (as_tensor(answer(score, x, h, sigma, torch.zeros_like(x)), "the new x") for _ in range(2))
            asked.clear()
            moved = as_tensor(answer(score, x, h, sigma, noise), "the new x")
        for points in (still, again, moved):
            require_like(points, x, "the new x")
        own = (
            "two calls without noise end in two places: your step draws noise of its own. Use the one that is handed in"
        )
        require(gap(again, still) < 1e-6, own)
        still, moved = still.detach().to(x.dtype), moved.detach().to(x.dtype)
        at, step = f"sigma = {sigma:g}, h = {h:g}:", sigma**2 / 2 * h * score(x)
        require(gap(still, step) > CLOSE, f"{at} that is how far the points move: add x to it")
        pull, kick = still - x, moved - still
        require(kick.abs().max() > 0, f"{at} the noise that was handed in does not move x")
        require(pull.abs().max() > 0, f"{at} without noise x stays where it is: where is the score?")
        elsewhere = [y for y in asked if y.shape == x.shape and gap(y, x) > CLOSE]
        require(not elsewhere, f"{at} the score was asked somewhere else than at x, from where the step starts")
        # x' - mu = (1 - k) (x - mu) + c noise, so that the variance settles at c^2 / (2 k - k^2).
        k = (pull * (mu - x)).sum().item() / (mu - x).square().sum().item()
        c = (kick * noise).sum().item() / noise.square().sum().item()
        affine = gap(pull, k * (mu - x)) < CLOSE and gap(kick, c * noise) < CLOSE
        require(affine, f"{at} the step should add a multiple of the score and a multiple of the noise, nothing else")
        require(k > 0, f"{at} the step leads away from the data: follow the score uphill, with a plus")
        by_pull, by_kick = k / (sigma**2 / 2 * h / std**2), abs(c) / (sigma * h**0.5)  # 1 and 1 where right
        settled = abs(c) / (2 * k - k * k) ** 0.5 if k < 2 * (1 - 1e-9) else math.inf
        if abs(by_pull - 1) > CLOSE or abs(by_kick - 1) > CLOSE:
            _name_the_step(at, k * std**2, abs(c), sigma, h, settled)
    return f"Your steps leave N(0.7, 0.5^2) in place, up to the step size: they settle at std {settled:.3f}."


def _name_the_step(at: str, pull: float, kick: float, sigma: float, h: float, settled: float) -> None:
    """Refuse a step with pull * score + kick * noise, by the formulas that have these values, where they are known."""
    ends = f"settle at std {settled:.3f}, not at 0.5" if settled < math.inf else "never settle"
    said = f"{at} for N(0.7, 0.5^2) your steps {ends}"
    right = {"score": ("sigma^2 / 2 * h", sigma**2 / 2 * h), "noise": ("sigma * sqrt(h)", sigma * h**0.5)}
    off = {}
    for (name, (formula, truth)), value in zip(right.items(), (pull, kick), strict=True):
        if abs(value / truth - 1) > CLOSE:
            said += f". In front of the {name} stands {_formula(value, sigma, h)}; it should be {formula}"
            off[name] = value / truth
    if len(off) == 2 and abs(settled / 0.5 - 1) < 0.05:
        said += ". The law is right, the clock is not: one step should last h"
    elif abs(off.get("noise", 0) / 2**0.5 - 1) < CLOSE:
        said += ". sqrt(2 h) belongs to the convention with h * score; ours has sigma^2 / 2 * score"
    elif abs(off.get("noise", 0) / h**0.5 - 1) < CLOSE:
        said += ". Noise grows with the square root of time, not with time"
    elif abs(off.get("score", 0) / 2 - 1) < CLOSE:
        said += ". Where is the 1/2?"
    require(False, said)


def _formula(value: float, sigma: float, h: float) -> str:
    """The product of powers of 2, sigma and h that has this value, in words; else the number."""
    ways = product((0, -1, -2, 0.5, -0.5, 1), (0, 1, 2, -1, 0.5, 4), (0, 0.5, 1, 2, -0.5, -1))
    twos = {0.5: "sqrt(2)", -0.5: "1/sqrt(2)", 1: "2", -1: "1/2", -2: "1/4"}
    for two, s, step in ways:
        if abs(value / (2**two * sigma**s * h**step) - 1) < CLOSE:
            roots = {0.5: "sqrt({})", 1: "{}", 2: "{}^2", 4: "{}^4", -0.5: "1/sqrt({})", -1: "1/{}"}
            parts = [twos[two]] if two else []
            parts += [roots[power].format(name) for name, power in (("sigma", s), ("h", step)) if power]
            return " * ".join(parts) or "1"
    return f"{value:.3g}"


def _one_number(value: object) -> object:
    """A loss: a tensor of one number as one without axes, and a number as a tensor; others stay as they are."""
    if isinstance(value, list | tuple):
        return value
    value = as_tensor(value, "the loss")
    return value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else value


CHECKS: dict[str, Callable[[Callable], str]] = {
    "03.1": dsm_floor,
    "03.2": weighted_dsm,
    "03.3": score_from_velocity,
    "03.4": repair,
    "03.5": langevin_step,
}
