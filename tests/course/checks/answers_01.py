"""Right and wrong answers to the exercises of lesson 01."""

import math
from itertools import pairwise

import torch


def euler_step(field, x, t, dt):
    return x + dt * field(x, t)


def forgets_dt(field, x, t, dt):
    return x + field(x, t)


def looks_ahead(field, x, t, dt):
    return x + dt * field(x, t + dt)


def takes_heuns_step(field, x, t, dt):
    slope = field(x, t)
    return x + dt / 2 * (slope + field(x + dt * slope, t + dt))


def runs_backwards(field, x, t, dt):
    return x - dt * field(x, t)


def returns_the_move(field, x, t, dt):
    return dt * field(x, t)


def returns_nothing(*_):
    return None


def euler_maruyama_step(drift, sigma, x, t, dt):
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.randn_like(x)


def noise_twice(drift, sigma, x, t, dt):
    coefficient = sigma * torch.randn_like(x)
    return x + dt * drift(x, t) + coefficient * dt**0.5 * torch.randn_like(x)


def forgets_the_root(drift, sigma, x, t, dt):
    return x + dt * drift(x, t) + sigma * torch.randn_like(x)


def noise_times_dt(drift, sigma, x, t, dt):
    return x + dt * (drift(x, t) + sigma * torch.randn_like(x))


def sigma_squared(drift, sigma, x, t, dt):
    return x + dt * drift(x, t) + sigma**2 * dt**0.5 * torch.randn_like(x)


def one_noise_for_all(drift, sigma, x, t, dt):
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.randn(1, dtype=x.dtype)


def uniform_noise(drift, sigma, x, t, dt):
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.rand_like(x)


def scaled_uniform_noise(drift, sigma, x, t, dt):
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
    for t, t_next in pairwise(torch.linspace(0, 1, n + 1)):
        x = step(x, t.expand(len(x)), t_next - t)
    return x


def n_points(step, x, n):
    for t, t_next in pairwise(torch.linspace(0, 1, n + 1)[:-1]):
        x = step(x, t.expand(len(x)), t_next - t)
    return x


def n_points_in_all(step, x, n):
    for t, t_next in pairwise(torch.linspace(0, 1, max(n, 2))):
        x = step(x, t.expand(len(x)), t_next - t)
    return x


def adds_up_until_one(step, x, n):
    t, dt = 0.0, 1 / n
    while t < 1:
        x = step(x, torch.full((len(x),), t), dt)
        t += dt
    return x


def arange_past_the_end(step, x, n):
    for t in torch.arange(0, 1 + 1 / n, 1 / n):
        x = step(x, t.expand(len(x)), 1 / n)
    return x


def always_at_zero(step, x, n):
    for _ in range(n):
        x = step(x, torch.zeros(len(x)), 1 / n)
    return x


RIGHT = {
    "01.1": euler_step,
    "01.2": euler_maruyama_step,
    "01.3": cosine_velocity,
    "01.4": drift,
    "01.5": carry,
}

WRONG = {
    "01.1": [
        (forgets_dt, "where is dt"),
        (looks_ahead, r"asked at t \+ dt"),
        (takes_heuns_step, "asked 2 times"),
        (runs_backwards, "sign"),
        (returns_the_move, "starts from x"),
        (returns_nothing, "None"),
    ],
    "01.2": [
        (noise_twice, "kurtosis is (8|9).*twice"),
        (forgets_the_root, r"where is sqrt\(dt\)"),
        (noise_times_dt, r"dt in place of sqrt\(dt\)"),
        (sigma_squared, "enters once"),
        (one_noise_for_all, "same noise"),
        (uniform_noise, "rand"),
        (scaled_uniform_noise, "kurtosis is 1.8"),
    ],
    "01.3": [
        (forgets_the_chain_rule, "factor of pi/2"),
        (wrong_sign, "wrong sign"),
        (forgets_to_divide_by_beta, "off by"),
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
    ],
}
