"""Right and wrong answers to the exercises of lesson 01."""

import math
from itertools import pairwise

import torch

from labkit.base.shapes import expand_t


def euler_step(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, t)


def forgets_the_length(field, x, t, s):
    return x + field(x, t)


def takes_the_end_for_the_length(field, x, t, s):
    return x + expand_t(s, x) * field(x, t)


def looks_ahead(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, s)


def takes_heuns_step(field, x, t, s):
    slope = field(x, t)
    return x + expand_t(s - t, x) / 2 * (slope + field(x + expand_t(s - t, x) * slope, s))


def runs_backwards(field, x, t, s):
    return x + expand_t(t - s, x) * field(x, t)


def returns_the_move(field, x, t, s):
    return expand_t(s - t, x) * field(x, t)


def forgets_the_noise(x, z, t):
    angle = math.pi / 2 * t[:, None]
    return math.pi / 2 * torch.cos(angle) * z


def forgets_to_expand_the_length(field, x, t, s):
    return x + (s - t) * field(x, t)


def moves_in_place(field, x, t, s):
    x += expand_t(s - t, x) * field(x, t)
    return x


def returns_nothing(*_):
    return None


def euler_maruyama_step(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.randn_like(x)


def noise_twice(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    coefficient = sigma * torch.randn_like(x)
    return x + dt * drift(x, t) + coefficient * dt**0.5 * torch.randn_like(x)


def forgets_the_root(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma * torch.randn_like(x)


def noise_times_dt(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * (drift(x, t) + sigma * torch.randn_like(x))


def sigma_squared(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma**2 * dt**0.5 * torch.randn_like(x)


def one_noise_for_all(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.randn(1, dtype=x.dtype)


def uniform_noise(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.rand_like(x)


def scaled_uniform_noise(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma * (12 * dt) ** 0.5 * (torch.rand_like(x) - 0.5)


def cosine_velocity(x, z, t):
    angle = math.pi / 2 * t[:, None]
    eps = (x - torch.sin(angle) * z) / torch.cos(angle)
    return math.pi / 2 * (torch.cos(angle) * z - torch.sin(angle) * eps)


def forgets_the_chain_rule(x, z, t):
    return cosine_velocity(x, z, t) / (math.pi / 2)


def wrong_sign(x, z, t):
    angle = math.pi / 2 * t[:, None]
    eps = (x - torch.sin(angle) * z) / torch.cos(angle)
    return math.pi / 2 * (torch.cos(angle) * z + torch.sin(angle) * eps)


def forgets_to_divide_by_beta(x, z, t):
    angle = math.pi / 2 * t[:, None]
    return math.pi / 2 * (torch.cos(angle) * z - torch.sin(angle) * (x - torch.sin(angle) * z))


def forgets_to_expand_t(x, z, t):
    return math.pi / 2 * (torch.cos(math.pi / 2 * t) * z)


def drift(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma**2 / 2 * score(x, t)


def forgets_the_score(x, t, velocity, score, sigma):
    return velocity(x, t)


def forgets_the_half(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma**2 * score(x, t)


def forgets_to_square(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma / 2 * score(x, t)


def pushes_away(x, t, velocity, score, sigma):
    return velocity(x, t) - sigma**2 / 2 * score(x, t)


def score_alone(x, t, velocity, score, sigma):
    return sigma**2 / 2 * score(x, t)


def carry(step, x, n):
    for t, s in pairwise(torch.linspace(0, 1, n + 1)):
        x = step(x, t.expand(len(x)), s.expand(len(x)))
    return x


def n_points(step, x, n):
    for t, s in pairwise(torch.linspace(0, 1, n + 1)[:-1]):
        x = step(x, t.expand(len(x)), s.expand(len(x)))
    return x


def n_points_in_all(step, x, n):
    for t, s in pairwise(torch.linspace(0, 1, max(n, 2))):
        x = step(x, t.expand(len(x)), s.expand(len(x)))
    return x


def adds_up_until_one(step, x, n):
    t, dt = 0.0, 1 / n
    while t < 1:
        x = step(x, torch.full((len(x),), t), torch.full((len(x),), t + dt))
        t += dt
    return x


def arange_past_the_end(step, x, n):
    for t in torch.arange(0, 1 + 1 / n, 1 / n):
        x = step(x, t.expand(len(x)), t.expand(len(x)) + 1 / n)
    return x


def always_at_zero(step, x, n):
    for _ in range(n):
        x = step(x, torch.zeros(len(x)), torch.full((len(x),), 1 / n))
    return x


def hands_in_the_length(step, x, n):
    for t, s in pairwise(torch.linspace(0, 1, n + 1)):
        x = step(x, t.expand(len(x)), (s - t).expand(len(x)))
    return x


def hands_in_one_time(step, x, n):
    for t, s in pairwise(torch.linspace(0, 1, n + 1)):
        x = step(x, t.expand(len(x)), s)
    return x


RIGHT = {
    "01.1": [euler_step, moves_in_place],
    "01.2": [euler_maruyama_step],
    "01.3": [cosine_velocity],
    "01.4": [drift],
    "01.5": [carry],
}

WRONG = {
    "01.1": [
        (forgets_the_length, r"where is the length of the step, s - t\?"),
        (takes_the_end_for_the_length, r"s is the time at which the step ends"),
        (looks_ahead, r"where the step begins, at t; you take it at s"),
        (takes_heuns_step, "asked 2 times"),
        (runs_backwards, "sign"),
        (returns_the_move, "starts from x"),
        (forgets_to_expand_the_length, r"in the line `return x .*` with RuntimeError: .*t of shape \(5,\).*expand_t"),
        (returns_nothing, "None"),
    ],
    "01.2": [
        (noise_twice, "kurtosis is (8|9).*twice"),
        (forgets_the_root, r"where is sqrt\(s - t\)"),
        (noise_times_dt, r"s - t in place of its root"),
        (sigma_squared, "enters once"),
        (one_noise_for_all, "same noise"),
        (uniform_noise, "is it `randn`"),
        (scaled_uniform_noise, "kurtosis is 1.8"),
    ],
    "01.3": [
        (forgets_the_chain_rule, "factor of pi/2"),
        (wrong_sign, "wrong sign"),
        (forgets_to_divide_by_beta, "is not divided by beta_t"),
        (forgets_the_noise, "part of the noise is missing"),
        (forgets_to_expand_t, "expand_t"),
    ],
    "01.4": [
        (forgets_the_score, "where is the score"),
        (forgets_the_half, "factor 1/2"),
        (forgets_to_square, "squared"),
        (pushes_away, "wrong sign"),
        (score_alone, "violated"),
    ],
    "01.5": [
        (n_points, r"made 0 .*n updates need n \+ 1 times"),
        (n_points_in_all, "n = 2 .*yours made 1"),
        (adds_up_until_one, "n = 7 .*yours made 8.*rounded"),
        (arange_past_the_end, "yours made"),
        (always_at_zero, "ended on t = 0.5"),
        (hands_in_the_length, "n = 2 .*ended on t = 0.5"),
        (hands_in_one_time, r"the s that is handed to the step should have shape \(4,\)"),
        (returns_nothing, "yours made 0"),
    ],
}
