"""Answers to the exercises of lesson 03: right ones in many styles, and wrong ones as students find them."""

import math
from functools import partial

import numpy as np
import torch
from torch.nn.functional import mse_loss

from labkit.base.shapes import expand_t
from labkit.flow.losses import dsm_loss
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.solvers import euler_maruyama, sde_drift, simulate


def floor(schedule, t, std):
    alpha_t, beta_t, *_ = schedule(t)
    return alpha_t**2 * std**2 / (alpha_t**2 * std**2 + beta_t**2) / beta_t**2


def floor_of_the_eps_loss(schedule, t, std):
    return schedule(t).beta_t ** 2 * floor(schedule, t, std)


def floor_divided_by_beta_once(schedule, t, std):
    return schedule(t).beta_t * floor(schedule, t, std)


def loss_of_a_model_that_answers_zero(schedule, t, std):
    return 1 / schedule(t).beta_t ** 2


def floor_with_std_not_squared(schedule, t, std):
    return floor(schedule, t, std**0.5)


def floor_that_returns_nothing(schedule, t, std):
    floor(schedule, t, std)


def score_error(model, path, z, t, eps):
    beta = expand_t(path.schedule(t).beta_t, z)
    return model(path.sample(z, t, eps).x_t, t) + eps / beta, beta


def weighted(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta**2 * error.square()).mean()


def weighted_by_beta(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta * error.square()).mean()


def unweighted(model, path, z, t, eps):
    return score_error(model, path, z, t, eps)[0].square().mean()


def weighted_with_the_wrong_sign(model, path, z, t, eps):
    beta = expand_t(path.schedule(t).beta_t, z)
    return (beta * model(path.sample(z, t, eps).x_t, t) - eps).square().mean()


def weighted_and_summed(model, path, z, t, eps):
    return z.shape[1] * weighted(model, path, z, t, eps)


def weighted_twice(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta**4 * error.square()).mean()


def weighted_with_an_unexpanded_beta(model, path, z, t, eps):
    beta = path.schedule(t).beta_t
    return (beta * model(path.sample(z, t, eps).x_t, t) + eps).square().mean()


def weighted_without_a_mean(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta * error).square()


def convert(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = (expand_t(c, x) for c in schedule(t))
    return (alpha * u - d_alpha * x) / (beta * (d_alpha * beta - alpha * d_beta))


def convert_without_beta_in_the_second_term(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = (expand_t(c, x) for c in schedule(t))
    return (alpha * u - d_alpha * x) / (d_alpha * beta**2 - d_beta * alpha)


def convert_with_alpha_and_beta_swapped(schedule, x, t, u):
    beta, alpha, d_beta, d_alpha = (expand_t(c, x) for c in schedule(t))
    return (alpha * u - d_alpha * x) / (beta * (d_alpha * beta - alpha * d_beta))


def convert_to_the_noise(schedule, x, t, u):
    return -expand_t(schedule(t).beta_t, x) * convert(schedule, x, t, u)


def convert_to_minus_the_noise(schedule, x, t, u):
    return expand_t(schedule(t).beta_t, x) * convert(schedule, x, t, u)


def convert_with_the_wrong_sign(schedule, x, t, u):
    return -convert(schedule, x, t, u)


def convert_as_if_linear(schedule, x, t, u):
    s = expand_t(t, x)
    return (s * u - x) / (1 - s)


def convert_with_an_added_axis(schedule, x, t, u):
    return convert(schedule, x, t, u)[None]


def of_numbers(f):
    """A floor that is a function of alpha, beta and std."""
    return lambda schedule, t, std: f(*schedule(t)[:2], std)


def floor_in_loops(schedule, t, std):
    alpha_t, beta_t, *_ = schedule(t)
    return torch.stack([1 / b**2 - 1 / (a**2 * std**2 + b**2) for a, b in zip(alpha_t, beta_t, strict=True)])


def floor_in_numpy(schedule, t, std):
    alpha_t, beta_t = (part.numpy() for part in schedule(t)[:2])
    return torch.from_numpy(1 / beta_t**2 - 1 / (alpha_t**2 * std**2 + beta_t**2))


def floor_in_place(schedule, t, std):
    alpha_t, beta_t, *_ = schedule(t)
    return alpha_t.mul(std).square_().add_(beta_t**2).reciprocal_().neg_().add_(beta_t**-2)


class Floor:
    def __call__(self, schedule, t, std):
        alpha_t, beta_t, *_ = schedule(t)
        snr = (alpha_t * std / beta_t) ** 2
        return snr / (1 + snr) / beta_t**2


def floor_that_yields(schedule, t, std):
    for a, b in zip(*schedule(t)[:2], strict=True):
        yield 1 / b**2 - 1 / (a**2 * std**2 + b**2)


def floor_of_the_linear_schedule(schedule, t, std):
    return 1 / (1 - t) ** 2 - 1 / (t**2 * std**2 + (1 - t) ** 2)


def noisy(path, z, t, eps):
    alpha, beta, *_ = path.schedule(t)
    return alpha[:, None] * z + beta[:, None] * eps, beta[:, None]


def weighted_by(f):
    """A loss that is `f(s, beta, eps)` of the score at x_t."""

    def loss(model, path, z, t, eps):
        x, beta = noisy(path, z, t, eps)
        return f(model(x, t), beta, eps)

    return loss


def weighted_in_loops(model, path, z, t, eps):
    x, beta = noisy(path, z, t, eps)
    s = model(x, t)
    return sum(((beta[k] * s[k] + eps[k]) ** 2).mean() for k in range(len(z))) / len(z)


def weighted_by_einsum(model, path, z, t, eps):
    x, beta = noisy(path, z, t, eps)
    error = beta * model(x, t) + eps
    return torch.einsum("bd,bd->", error, error) / error.numel()


class Weighted:
    def __call__(self, model, path, z, t, eps):
        x, beta = noisy(path, z, t, eps)
        return mse_loss(-beta * model(x, t), eps)


def weighted_in_place(model, path, z, t, eps):
    x, beta = noisy(path, z, t, eps)
    return eps.add_(beta * model(x, t)).square().mean()


def weighted_by_labkit(model, path, z, t, eps):
    return dsm_loss(model, path, z, weighted=True, t=t, eps=eps)


def weighted_one_by_one(model, path, z, t, eps):
    rows = [weighted(model, path, *(part[k : k + 1] for part in (z, t, eps))) for k in range(len(z))]
    return torch.stack(rows).mean()


def weighted_by_autograd(model, path, z, t, eps):
    """The target as the gradient of the Gaussian's logarithm."""
    alpha, beta = (expand_t(c, z) for c in path.schedule(t)[:2])
    x = (alpha * z + beta * eps).requires_grad_(True)
    (target,) = torch.autograd.grad(torch.distributions.Normal(alpha * z, beta).log_prob(x).sum(), x)
    return (beta * (model(x.detach(), t) - target)).square().mean()


def weighted_in_float32(model, path, z, t, eps):
    return weighted(model, path, z.float(), t.float(), eps.float())


def weighted_and_trained(model, path, z, t, eps):
    loss = weighted(model, path, z, t, eps)
    loss.backward()
    return loss


def weighted_with_a_fixed_noise(model, path, z, t, eps):
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=z.dtype)
    return weighted(model, path, z, t, noise)


def asked_with_an_axis_too_many(model, path, z, t, eps):
    return weighted(lambda x, t: model(x, t[:, None]), path, z, t, eps)


def scaled(scale, model, path, z, t, eps):
    return scale * weighted(model, path, z, t, eps)


def weighted_without_a_gradient(model, path, z, t, eps):
    with torch.no_grad():
        return weighted(model, path, z, t, eps)


def weighted_and_detached(model, path, z, t, eps):
    return weighted(lambda x, t: model(x, t).detach(), path, z, t, eps)


def weighted_as_a_new_tensor(model, path, z, t, eps):
    return torch.tensor(weighted(model, path, z, t, eps).item(), requires_grad=True)


def half_of_it_detached(model, path, z, t, eps):
    x, beta = noisy(path, z, t, eps)
    error = beta * model(x, t) + eps
    return (error * error.detach()).mean()


def weighted_with_own_noise(model, path, z, t, eps):
    return weighted(model, path, z, t, torch.randn_like(eps))


def asked_at_the_data(model, path, z, t, eps):
    return weighted(lambda x, t: model(z, t), path, z, t, eps)


def asked_at_the_other_time(model, path, z, t, eps):
    return weighted(lambda x, t: model(x, 1 - t), path, z, t, eps)


def weighted_as_if_linear(model, path, z, t, eps):
    return ((1 - t)[:, None] * model(path.sample(z, t, eps).x_t, t) + eps).square().mean()


def converted(f):
    """A conversion that is `f(x, u, alpha, beta, d_alpha, d_beta)`, all shaped like x."""
    return lambda schedule, x, t, u: f(x, u, *(expand_t(c, x) for c in schedule(t)))


def by_complete(schedule, x, t, u):
    return complete(GaussianPath(schedule), x, t, velocity=u).score


def by_two_equations(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = schedule(t)
    matrices = torch.stack((torch.stack((alpha, beta), -1), torch.stack((d_alpha, d_beta), -1)), -2)
    z_eps = torch.linalg.solve(matrices, torch.stack((x, u), 1))  # (B, 2, d): the data and the noise
    return -z_eps[:, 1] / beta[:, None]


def convert_in_loops(schedule, x, t, u):
    rows = []
    for k in range(len(x)):
        alpha, beta, d_alpha, d_beta = (float(c[k]) for c in schedule(t))
        rows.append((alpha * u[k] - d_alpha * x[k]) / (beta**2 * d_alpha - alpha * beta * d_beta))
    return torch.stack(rows)


def convert_in_numpy(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = (c.numpy()[:, None] for c in schedule(t))
    return torch.from_numpy((alpha * u.numpy() - d_alpha * x.numpy()) / (beta * (d_alpha * beta - alpha * d_beta)))


def convert_in_float32(schedule, x, t, u):
    return convert(schedule, x.float(), t.float(), u.float())


def convert_in_place(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = (expand_t(c, x) for c in schedule(t))
    u.mul_(alpha).sub_(d_alpha * x)
    return u.div_(beta * (d_alpha * beta - alpha * d_beta))


def convert_one(x, u, alpha, beta, d_alpha, d_beta):
    return (alpha * u - d_alpha * x) / (beta**2 * d_alpha - alpha * beta * d_beta)


class Convert:
    def __call__(self, schedule, x, t, u):
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in schedule(t))
        a, b = d_alpha / alpha, (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        return (u - a * x) / b


def walked(velocity, x, evaluations, noise, sigma, last_mean=False):
    """Euler-Maruyama along the even grid, with the score that belongs to the velocity."""
    h = 1 / evaluations
    for k in range(evaluations):
        t = k * h
        u, s = velocity(x, torch.full((len(x),), t)), sigma(t)
        score = (t * u - x) / (1 - t)
        x = x + h * (u + s**2 / 2 * score) + s * h**0.5 * torch.randn(x.shape, generator=noise)
    return x


def with_noise(sigma):
    return lambda velocity, x_0, evaluations, generator: walked(velocity, x_0, evaluations, generator, sigma)


def my_repair(velocity, x_0, evaluations, generator):
    return walked(velocity, x_0, evaluations, generator, lambda t: 12 * (1 - t))


def by_labkit(velocity, x_0, evaluations, generator):
    def sigma(t):
        return 11 * (1 - t)

    drift = sde_drift(velocity, lambda x, t: complete(GaussianPath(), x, t, velocity=velocity(x, t)).score, sigma)
    step = euler_maruyama(drift, sigma, generator)
    return simulate(step, x_0, torch.linspace(0, 1, evaluations // 2 + 1))


def repaired_in_place(velocity, x_0, evaluations, generator):
    x_0.copy_(my_repair(velocity, x_0, evaluations, generator))
    return x_0


class Repair:
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, velocity, x_0, evaluations, generator):
        return walked(velocity, x_0, evaluations, generator, lambda t: self.strength * math.cos(math.pi / 2 * t) ** 1.5)


def first_flow_then_stir(velocity, x_0, evaluations, generator):
    x, few = x_0, 10
    for k in range(few):
        x = x + 0.5 / few * velocity(x, torch.full((len(x),), 0.5 * k / few))
    n = evaluations - few
    for k in range(n):
        t, h = 0.5 + 0.5 * k / n, 0.5 / n
        u, s = velocity(x, torch.full((len(x),), t)), 13 * (1 - t)
        x = x + h * (u + s**2 / 2 * (t * u - x) / (1 - t)) + s * h**0.5 * torch.randn(x.shape, generator=generator)
    return x


def with_a_finer_end(velocity, x_0, evaluations, generator):
    ts = 1 - (1 - torch.linspace(0, 1, evaluations + 1)) ** 1.2
    x = x_0
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        u, s = velocity(x, t.expand(len(x))), 11 * (1 - t)
        x = x + h * u + h * s**2 / 2 * (t * u - x) / (1 - t) + s * h.sqrt() * torch.randn(x.shape, generator=generator)
    return x


def repaired_by_numpy(velocity, x_0, evaluations, generator):
    noise = np.random.default_rng(generator.initial_seed())
    x, h = x_0.numpy().astype(np.float64), 1 / evaluations
    for k in range(evaluations):
        t = k * h
        u = velocity(torch.from_numpy(x).float(), torch.full((len(x),), t)).numpy()
        s = 12 * (1 - t)
        x = x + h * (u + s**2 / 2 * (t * u - x) / (1 - t)) + s * np.sqrt(h) * noise.standard_normal(x.shape)
    return torch.from_numpy(x)


def the_ode(velocity, x_0, evaluations, generator):
    return walked(velocity, x_0, evaluations, generator, lambda t: 0.0)


def noise_without_the_score(velocity, x_0, evaluations, generator):
    x, h = x_0, 1 / evaluations
    for k in range(evaluations):
        u = velocity(x, torch.full((len(x),), k * h))
        x = x + h * u + 4 * (1 - k * h) * h**0.5 * torch.randn(x.shape, generator=generator)
    return x


def the_wind_subtracted(velocity, x_0, evaluations, generator):
    before, after = (velocity(x_0, torch.full((len(x_0),), t)) for t in (0.4999, 0.5001))
    wind, n, x = before - after, evaluations - 2, x_0 + 1e-3 * torch.randn(x_0.shape, generator=generator)
    for k in range(n):
        x = x + (velocity(x, torch.full((len(x),), k / n)) - (k / n < 0.5) * wind) / n
    return x


def samples_of_the_lesson(velocity, x_0, evaluations, generator):
    means, weights = ring(3, 1.5).means, torch.tensor([0.5, 0.3, 0.2])
    return GaussianMixture(means, torch.tensor([0.5, 0.4, 0.3]), weights).sample(len(x_0), generator)[0]


def always_sixty(velocity, x_0, evaluations, generator):
    return walked(velocity, x_0, 60, generator, lambda t: 12 * (1 - t))


def another_seed_each_time():
    calls = []

    def answer(velocity, x_0, evaluations, generator):
        calls.append(generator)
        return walked(velocity, x_0, evaluations, generator.manual_seed(len(calls)), lambda t: 12 * (1 - t))

    return answer


def langevin_at_half(velocity, x_0, evaluations, generator):
    """The flow to t = 1/2, a chain of Langevin steps there, and the flow again: all noise at one time."""
    x, half = x_0, lambda x: torch.full((len(x),), 0.5)
    ways = [(0.0, 1 / 30)] * 15 + [(0.5, 0)] * 25 + [(0.5, 0.5 / (evaluations - 40))] * (evaluations - 40)
    t = 0.0
    for _, h in ways:
        if h:
            x, t = x + h * velocity(x, torch.full((len(x),), t)), t + h
        else:
            score = (0.5 * velocity(x, half(x)) - x) / 0.5
            x, t = x + 0.08 * score + 0.4 * torch.randn(x.shape, generator=generator), 0.5
    return x


def in_batches(velocity, x_0, evaluations, generator):
    return torch.cat([my_repair(velocity, part, evaluations, generator) for part in x_0.split(500)])


def too_many_evaluations(velocity, x_0, evaluations, generator):
    return walked(velocity, x_0, 2 * evaluations, generator, lambda t: 10 * (1 - t))


def noise_of_its_own(velocity, x_0, evaluations, generator):
    return walked(velocity, x_0, evaluations, None, lambda t: 12 * (1 - t))


def stays_where_it_is(velocity, x_0, evaluations, generator):
    return x_0


def with_strength(half):
    """What `walked` does with 12 beta for noise, and another number in front of sigma^2 score."""

    def answer(velocity, x, evaluations, generator):
        h = 1 / evaluations
        for k in range(evaluations):
            t = k * h
            u, s = velocity(x, torch.full((len(x),), t)), 12 * (1 - t)
            drift = u + half * s**2 * (t * u - x) / (1 - t)
            x = x + h * drift + s * h**0.5 * torch.randn(x.shape, generator=generator)
        return x

    return answer


without_the_half, with_a_minus = with_strength(1.0), with_strength(-0.5)


def asks_and_stays(velocity, x_0, evaluations, generator):
    velocity(x_0, torch.zeros(len(x_0)))
    return x_0


def beyond_the_end(velocity, x_0, evaluations, generator):
    return walked(lambda x, t: velocity(x, t + 0.5), x_0, evaluations, generator, lambda t: 12 * (1 - t))


def one_time_for_all(velocity, x_0, evaluations, generator):
    return x_0 + velocity(x_0, torch.tensor(0.0))


def only_some_points(velocity, x_0, evaluations, generator):
    return my_repair(velocity, x_0, evaluations, generator)[:100]


def langevin(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * h**0.5 * noise


def langevin_without_half(score, x, h, sigma, noise):
    return x + sigma**2 * h * score(x) + sigma * h**0.5 * noise


def langevin_with_root_of_two_h(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * (2 * h) ** 0.5 * noise


def langevin_with_noise_like_h(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * h * noise


def langevin_downhill(score, x, h, sigma, noise):
    return x - 0.5 * sigma**2 * h * score(x) + sigma * h**0.5 * noise


def langevin_on_another_clock(score, x, h, sigma, noise):
    return x + h * score(x) + (2 * h) ** 0.5 * noise


def langevin_with_sigma_not_squared(score, x, h, sigma, noise):
    return x + 0.5 * sigma * h * score(x) + sigma * h**0.5 * noise


def langevin_with_sigma_squared_in_the_noise(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma**2 * h**0.5 * noise


def langevin_without_h_in_the_drift(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * score(x) + sigma * h**0.5 * noise


def langevin_in_place(score, x, h, sigma, noise):
    x += 0.5 * sigma**2 * h * score(x) + sigma * h**0.5 * noise
    return x


def gradient_ascent(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x)


def langevin_in_float32(score, x, h, sigma, noise):
    return langevin(score, x.float(), h, sigma, noise.float())


def langevin_in_loops(score, x, h, sigma, noise):
    pulls = score(x)
    rows = [a + sigma**2 * h / 2 * b + sigma * math.sqrt(h) * c for a, b, c in zip(x, pulls, noise, strict=True)]
    return torch.stack(rows)


def langevin_in_numpy(score, x, h, sigma, noise):
    return torch.from_numpy(x.numpy() + sigma**2 * h / 2 * score(x).numpy() + sigma * np.sqrt(h) * noise.numpy())


class Langevin:
    def __call__(self, score, x, h, sigma, noise):
        return torch.addcmul(x + score(x) * (sigma * sigma * h / 2), noise, torch.tensor(sigma * h**0.5))


def step_of(f):
    """A step that is `f(x, score, noise, sigma^2 h)`."""
    return lambda score, x, h, sigma, noise: f(x, score(x), noise, sigma**2 * h)


def steps_of(v):
    return torch.tensor([1, v / 2, v**0.5], dtype=torch.float64)


def langevin_with_own_noise(score, x, h, sigma, noise):
    return langevin(score, x, h, sigma, torch.randn_like(x))


def langevin_without_x(score, x, h, sigma, noise):
    return langevin(score, x, h, sigma, noise) - x


def langevin_without_sigma_in_the_noise(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + h**0.5 * noise


def langevin_without_h_in_the_noise(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * noise


def langevin_that_looks_ahead(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x + sigma * h**0.5 * noise) + sigma * h**0.5 * noise


RIGHT = {
    "03.1": [
        floor, floor_in_loops, floor_in_numpy, floor_in_place, Floor(),
        of_numbers(lambda a, b, std: 1 / b**2 - 1 / (a**2 * std**2 + b**2)),
        of_numbers(lambda a, b, std: (a * std / b) ** 2 / ((a * std) ** 2 + b**2)),
        of_numbers(lambda a, b, std: (1 - b**2 / (a**2 * std**2 + b**2)) / b**2),
        of_numbers(lambda a, b, std: (1 / b**2 - 1 / (a**2 * std**2 + b**2)).float()),
        of_numbers(lambda a, b, std: torch.stack((1 / b**2, -1 / (a.square() * std**2 + b.square()))).sum(0)),
        of_numbers(lambda a, b, std: (1 / b**2 - 1 / (a**2 * std**2 + b**2)).numpy()),
        of_numbers(lambda a, b, std: [float(1 / q**2 - 1 / (p**2 * std**2 + q**2)) for p, q in zip(a, b, strict=True)]),
        floor_that_yields,
    ],
    "03.2": [
        weighted, weighted_in_loops, weighted_by_einsum, Weighted(), weighted_in_place, partial(scaled, 1.0),
        weighted_by(lambda s, beta, eps: (beta * s + eps).pow(2).mean()),
        weighted_by(lambda s, beta, eps: mse_loss(beta * s, -eps)),
        weighted_by(lambda s, beta, eps: (beta * s + eps).pow(2).sum(1).mean() / eps.shape[1]),
        weighted_by(lambda s, beta, eps: (beta**2 * (s - (-eps / beta)) ** 2).mean(1).mean(0)),
        weighted_by(lambda s, beta, eps: torch.linalg.vector_norm(beta * s + eps) ** 2 / eps.numel()),
        weighted_by(lambda s, beta, eps: (beta * s + eps).square().mean().reshape(1)),
        weighted_by_labkit, weighted_one_by_one, weighted_by_autograd, weighted_in_float32,
    ],
    "03.3": [
        convert, by_complete, by_two_equations, convert_in_loops, convert_in_numpy, convert_in_float32,
        convert_in_place, Convert(), converted(lambda x, u, a, b, da, db: (da * x - a * u) / (a * b * db - b**2 * da)),
        converted(lambda x, u, a, b, da, db: -((da / a * x - u) / (da / a * b - db)) / b),
        converted(lambda x, u, a, b, da, db: ((a * u - da * x) / (b**2 * da - a * b * db)).numpy()),
        converted(lambda x, u, a, b, da, db: list((a * u - da * x) / (b**2 * da - a * b * db))),
        lambda schedule, x, t, u: torch.vmap(convert_one)(x, u, *schedule(t)),
    ],
    "03.4": [
        my_repair, by_labkit, repaired_in_place, Repair(11), first_flow_then_stir, with_a_finer_end, repaired_by_numpy,
        with_noise(lambda t: 10 * (1 - t)), with_noise(lambda t: 6.5 * (1 - t) ** 0.5),
        partial(lambda k, *given: with_noise(lambda t: k * (1 - t))(*given), 11.0),
        langevin_at_half, in_batches, lambda *given: my_repair(*given).numpy(),
    ],
    "03.5": [
        langevin, langevin_in_place, langevin_in_float32, langevin_in_loops, langevin_in_numpy, Langevin(),
        step_of(lambda x, s, noise, v: x + v / 2 * s + v**0.5 * noise),
        step_of(lambda x, s, noise, v: torch.add(x, s, alpha=v / 2).add(noise, alpha=v**0.5)),
        step_of(lambda *given: torch.einsum("k,kbd->bd", steps_of(given[3]), torch.stack(given[:3]))),
        partial(lambda c, score, x, h, sigma, noise: x + c * sigma**2 * h * score(x) + sigma * h**c * noise, 0.5),
        step_of(lambda x, s, noise, v: x + v / 2 * s - v**0.5 * noise),  # the same law
        step_of(lambda x, s, noise, v: list(x + v / 2 * s + v**0.5 * noise)),
        lambda score, x, h, sigma, noise: x.add_(score(x), alpha=sigma**2 * h / 2).add_(noise, alpha=sigma * h**0.5),
    ],
}  # fmt: skip
WRONG = {
    "03.1": [
        (floor_of_the_eps_loss, "floor of the eps-loss"),
        (floor_divided_by_beta_once, "a factor beta is off"),
        (loss_of_a_model_that_answers_zero, "always answers 0"),
        (floor_with_std_not_squared, "a standard deviation: square it"),
        (floor_that_returns_nothing, "is a `return` missing"),
        (of_numbers(lambda a, b, std: 1 / (a**2 * std**2 + b**2)), "that is what x_t explains"),
        (of_numbers(lambda a, b, std: 1 / b**2 + 1 / (a**2 * std**2 + b**2)), "were added"),
        (of_numbers(lambda a, b, std: (1 / b - 1 / (a**2 * std**2 + b**2) ** 0.5) ** 2), "roots of them do not"),
        (of_numbers(lambda a, b, std: 1 / a**2 - 1 / (b**2 * std**2 + a**2)), "changed places"),
        (of_numbers(lambda a, b, std: (1 / b**2 - 1 / (a**2 * std**2 + b**2)) ** 0.5), "square root of the floor"),
        (of_numbers(lambda a, b, std: std**2 / (a**2 * std**2 + b**2)), "floor of lesson 02|that is what x_t explains"),
        (of_numbers(lambda a, b, std: 1 / b**2 - 1 / (a * std**2 + b**2)), "alpha is not squared"),
        (floor_of_the_linear_schedule, "that of the linear schedule"),
        (of_numbers(lambda a, b, std: 1 / b**2 - 1 / (a**2 + b**2)), "std is missing"),
        (of_numbers(lambda a, b, std: 2 / b**2 - 2 / (a**2 * std**2 + b**2)), "for two dimensions together"),
        (of_numbers(lambda a, b, std: 1 / (a**2 * std**2 + b**2) - 1 / b**2), "the sign is wrong"),
        (of_numbers(lambda a, b, std: 0 * a), r"At t = 0.1 the floor is 0.0008, yours 0.0000"),
        (of_numbers(lambda a, b, std: (1 / b**2 - 1 / (a**2 * std**2 + b**2)).to(torch.complex64)), "decimal numbers"),
        (of_numbers(lambda a, b, std: (1 / b**2 - 1 / (a**2 * std**2 + b**2)).mean()), r"should have shape \(11,\)"),
    ],
    "03.2": [
        (weighted_by_beta, "by beta, not by beta\\^2"),
        (unweighted, "unweighted loss"),
        (weighted_with_the_wrong_sign, "sign of eps"),
        (weighted_and_summed, "yours is a sum"),
        (weighted_twice, "the weight is beta\\^4"),
        (weighted_with_an_unexpanded_beta, r"in the line `.*` with RuntimeError: .*expand_t"),
        (weighted_without_a_mean, "should have shape \\(\\)"),
        (weighted_without_a_gradient, "no gradient reaches the model"),
        (weighted_and_detached, "no gradient reaches the model"),
        (lambda *given: weighted(*given).item(), "no gradient reaches the model"),
        (lambda *given: weighted(*given).detach().numpy(), "no gradient reaches the model"),
        (weighted_and_trained, "its graph is used up"),
        (weighted_with_a_fixed_noise, "asked at points other than x_t"),
        (asked_with_an_axis_too_many, r"the model wants x of shape \(B, d\) and t of shape \(B,\)"),
        (weighted_by(lambda s, beta, eps: mse_loss(beta * s, -eps) / 2), "half of the loss"),
        (weighted_by(lambda s, beta, eps: mse_loss(beta * s, -eps).to(torch.complex64)), "decimal numbers"),
        (weighted_by(lambda s, beta, eps: (mse_loss(beta * s, -eps),)), "it is of type tuple"),
        (weighted_by(lambda s, beta, eps: (beta**2 * (s - eps).square()).mean()), "-eps / beta, not eps"),
        (weighted_by(lambda s, beta, eps: (beta**2).mean() * (s + eps / beta).square().mean()), "of its own sample"),
        (weighted_as_a_new_tensor, "no gradient reaches the model"),
        (half_of_it_detached, "its gradient is not"),
        (weighted_with_own_noise, "two calls give two losses"),
        (asked_at_the_data, "asked at the data z"),
        (asked_at_the_other_time, "asked at time 1 - t"),
        (weighted_as_if_linear, "cosine schedule: the weight of the linear schedule"),
        (weighted_by(lambda s, beta, eps: (s + eps).square().mean()), "gives a score, not noise"),
        (weighted_by(lambda s, beta, eps: (beta**2 * (s + eps).square()).mean()), "-eps / beta, not -eps"),
        (weighted_by(lambda s, beta, eps: mse_loss(beta * s, -eps) ** 0.5), "the root was taken"),
    ],
    "03.3": [
        (convert_without_beta_in_the_second_term, "beta in its second term is missing"),
        (convert_with_alpha_and_beta_swapped, "changed places"),
        (convert_to_the_noise, "that is E\\[eps \\| x\\]"),
        (convert_with_the_wrong_sign, "the sign is not"),
        (convert_as_if_linear, "cosine schedule: the linear path's formula"),
        (convert_to_minus_the_noise, "divide by beta once more"),
        (convert_with_an_added_axis, "should have shape"),
        (converted(lambda x, u, a, b, da, db: (a * u - da * x) / (b * (da * b + a * db))), "signs in the denominator"),
        (converted(lambda x, u, a, b, da, db: (a * u + da * x) / (b * (da * b - a * db))), "in front of d_alpha x"),
        (converted(lambda x, u, a, b, da, db: -x / b**2), "noise alone"),
        (converted(lambda x, u, a, b, da, db: u), "velocity itself"),
        (converted(lambda x, u, a, b, da, db: (a * u - da * x) / (b**2 * (da * b - a * db))), "once too often"),
        (converted(lambda x, u, a, b, da, db: (a * u - da * x) / (b**2 * da - b * db)), "alpha is missing"),
        (converted(lambda x, u, a, b, da, db: (a * u - da * x) / (b * da - a * b * db)), "beta is not squared"),
        (converted(lambda x, u, a, b, da, db: (db * x - b * u) / (a * db - b * da)), "that is the denoiser"),
        (converted(lambda x, u, a, b, da, db: (a * u - x) / (b**2 * da - a * b * db)), "cosine .* d_alpha is missing"),
        (converted(lambda x, u, a, b, da, db: 0 * x), r"comes down to \(t u - x\) / \(1 - t\): does yours"),
        (lambda schedule, x, t, u: (t * u - x) / (1 - t), "with RuntimeError: .*expand_t"),
        (converted(lambda x, u, a, b, da, db: None), "is a `return` missing"),
    ],
    "03.4": [
        (the_ode, "here no noise repairs"),
        (the_wind_subtracted, "here no noise repairs"),
        (samples_of_the_lesson, "the velocity was never asked"),
        (with_noise(lambda t: 4.0), "times too wide"),
        (with_noise(lambda t: 4 * (1 - t)), "not enough"),
        (with_noise(lambda t: 40.0), "fly off to infinity"),
        (noise_without_the_score, "times too wide"),
        (without_the_half, "the score pulls harder than the noise pushes"),
        (with_a_minus, "more than a hundred times too wide"),
        (too_many_evaluations, "with evaluations = 50 the velocity was asked 100 times a point"),
        (always_sixty, "with evaluations = 50 the velocity was asked 60 times a point"),
        (noise_of_its_own, "twice the same generator, two results"),
        (lambda *given: walked(*given[:3], torch.Generator().manual_seed(1), lambda t: 12 * (1 - t)), "or not the one"),
        (another_seed_each_time(), "twice the same generator, two results"),
        (stays_where_it_is, "the velocity was never asked"),
        (asks_and_stays, "hardly move"),
        (beyond_the_end, "time runs from 0 to 1"),
        (one_time_for_all, r"of which the velocity wants one for every point, should have shape \(300,\)"),
        (only_some_points, r"the end points should have shape \(300, 2\); it has \(100, 2\)"),
        (lambda *given: my_repair(*given).to(torch.complex64), "decimal numbers"),
        (lambda *given: given[1] > 0, "decimal numbers"),
        (lambda *given: list(my_repair(*given)), "it is of type list"),
        (lambda *_: None, "is a `return` missing"),
    ],
    "03.5": [
        (langevin_without_half, r"stands sigma\^2 \* h; .* Where is the 1/2"),
        (langevin_with_root_of_two_h, r"sqrt\(2 h\) belongs"),
        (langevin_with_noise_like_h, "square root of time"),
        (langevin_downhill, "leads away"),
        (langevin_on_another_clock, "the clock is not"),
        (langevin_with_sigma_not_squared, r"In front of the score stands 1/2 \* sigma \* h;"),
        (langevin_with_sigma_squared_in_the_noise, r"stands sigma\^2 \* sqrt\(h\); it should be sigma \* sqrt\(h\)"),
        (langevin_without_h_in_the_drift, r"never settle\. In front of the score stands 1/2 \* sigma\^2; it should be"),
        (gradient_ascent, "does not move x"),
        (langevin_with_own_noise, "draws noise of its own"),
        (langevin_without_x, "add x to it"),
        (langevin_without_sigma_in_the_noise, r"In front of the noise stands sqrt\(h\)"),
        (langevin_without_h_in_the_noise, r"In front of the noise stands sigma; it should be sigma \* sqrt\(h\)"),
        (langevin_that_looks_ahead, "the score was asked somewhere else than at x"),
        (step_of(lambda x, s, noise, v: x + v**0.5 * noise), "where is the score"),
        (step_of(lambda x, s, noise, v: x + 0.3 * s + v**0.5 * noise), "stands 0.3; it should be"),
        (step_of(lambda x, s, noise, v: (x + v / 2 * s + v**0.5 * noise).clamp(-1, 1)), "nothing else"),
        (step_of(lambda x, s, noise, v: (x + v / 2 * s + v**0.5 * noise, noise)), r"has \(2, 50, 2\)"),
        (step_of(lambda x, s, noise, v: (x + v / 2 * s + v**0.5 * noise).to(torch.complex64)), "decimal numbers"),
    ],
}
