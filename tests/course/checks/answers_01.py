"""Right and wrong answers to the exercises of lesson 01."""

import math
from functools import partial, reduce
from itertools import pairwise

import numpy as np
import torch
from torch.distributions import MultivariateNormal, Normal

from labkit.base.shapes import expand_t
from labkit.flow.multistep import adams_bashforth2
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine
from labkit.flow.solvers import euler, euler_maruyama, heun, midpoint, rk4, sde_drift, simulate


def nothing(*_):
    return None


# 01.1: one step of Euler's.


def euler_step(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, t)


def moves_in_place(field, x, t, s):
    x += expand_t(s - t, x) * field(x, t)
    return x


def by_einsum(field, x, t, s):
    return x + torch.einsum("b,bd->bd", s - t, field(x, t))


def point_by_point(field, x, t, s):
    rows = [x[i] + (s[i] - t[i]) * field(x[i : i + 1], t[i : i + 1])[0] for i in range(len(x))]
    return torch.stack(rows)


def rows_in_a_list(field, x, t, s):
    u = field(x, t)
    return [x[i] + (s[i] - t[i]) * u[i] for i in range(len(x))]


def in_numpy(field, x, t, s):
    return x.numpy() + (s - t).numpy()[:, None] * field(x, t).numpy()


def in_single_precision(field, x, t, s):
    return euler_step(field, x.float(), t.float(), s.float())


def by_vmap(field, x, t, s):
    return torch.vmap(lambda a, b, c: a + (c - b) * field(a[None], b[None])[0])(x, t, s)


def by_diagonal_matrix(field, x, t, s):
    return torch.addmm(x, torch.diag(s - t), field(x, t))


def by_lerp(field, x, t, s):
    return torch.lerp(x, x + field(x, t), (s - t).unsqueeze(-1))


def transposed(field, x, t, s):
    return (x.T + (s - t) * field(x, t).T).T


class Stepper:
    def __call__(self, field, x, t, s):
        return torch.addcmul(x, (s - t).view(-1, 1), field(x=x, t=t))


def of_the_package(field, x, t, s):
    return euler(field)(x, t, s)


def on_a_signed_step(sign, field, x, t, s):
    return x + sign * (t - s)[:, None] * field(x, t)


def forgets_the_length(field, x, t, s):
    return x + field(x, t)


def takes_the_end_for_the_length(field, x, t, s):
    return x + expand_t(s, x) * field(x, t)


def takes_the_begin_for_the_length(field, x, t, s):
    return x + expand_t(t, x) * field(x, t)


def looks_ahead(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, s)


def asks_at_the_length(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, s - t)


def takes_heuns_step(field, x, t, s):
    slope = field(x, t)
    return x + expand_t(s - t, x) / 2 * (slope + field(x + expand_t(s - t, x) * slope, s))


def takes_the_midpoint(field, x, t, s):
    return midpoint(field)(x, t, s)


def asks_twice(field, x, t, s):
    field(x, t)
    return euler_step(field, x, t, s)


def runs_backwards(field, x, t, s):
    return x + expand_t(t - s, x) * field(x, t)


def never_back(field, x, t, s):
    return x + expand_t(s - t, x).abs() * field(x, t)


def returns_the_move(field, x, t, s):
    return expand_t(s - t, x) * field(x, t)


def returns_the_slope(field, x, t, s):
    return field(x, t)


def forgets_to_expand_the_length(field, x, t, s):
    return x + (s - t) * field(x, t)


def one_length_for_all(field, x, t, s):
    return x + (s - t)[0] * field(x, t)


def asks_with_a_number(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, 0.3)


def asks_with_a_column(field, x, t, s):
    return x + expand_t(s - t, x) * field(x, expand_t(t, x))


def halves(field, x, t, s):
    return x + expand_t(s - t, x) / 2 * field(x, t)


def has_moved_before_it_asks(field, x, t, s):
    x += expand_t(s - t, x)
    return x + expand_t(s - t, x) * field(x, t)


def whole_numbers(field, x, t, s):
    return euler_step(field, x, t, s).long()


# 01.2: one step of Euler–Maruyama's.


def em_step(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.randn_like(x)


def em_in_place(drift, sigma, x, t, s):
    b = drift(x, t)
    x += (s - t)[:, None] * b
    return x.add_((s - t).sqrt()[:, None] * torch.randn_like(x), alpha=sigma)


def em_by_normal(drift, sigma, x, t, s):
    dt = (s - t)[:, None]
    return x + dt * drift(x, t) + Normal(torch.zeros_like(x), sigma * dt.sqrt().expand_as(x)).sample()


def em_as_one_normal(drift, sigma, x, t, s):
    dt = (s - t)[:, None]
    return torch.normal(x + dt * drift(x, t), (sigma * dt.sqrt()).expand(x.shape))


def em_by_covariance(drift, sigma, x, t, s):
    cov = sigma**2 * (s - t)[:, None, None] * torch.eye(x.shape[1], dtype=x.dtype)
    return MultivariateNormal(x + (s - t)[:, None] * drift(x, t), cov).sample()


def em_in_numpy(drift, sigma, x, t, s):
    dt = (s - t).numpy()[:, None]
    noise = np.random.default_rng(5 + int(1e6 * sigma) + em_in_numpy.calls).standard_normal(x.shape)
    em_in_numpy.calls += 1
    return x.numpy() + dt * drift(x, t).numpy() + sigma * np.sqrt(dt) * noise


em_in_numpy.calls = 0


def em_in_single_precision(drift, sigma, x, t, s):
    return em_step(drift, sigma, x.float(), t.float(), s.float())


def em_box_muller(drift, sigma, x, t, s):
    radius = (-2 * (1 - torch.rand_like(x)).log()).sqrt()
    noise = radius * (2 * math.pi * torch.rand_like(x)).cos()
    return x + torch.einsum("b,bd->bd", s - t, drift(x, t)) + sigma * torch.einsum("b,bd->bd", (s - t).sqrt(), noise)


def em_column_by_column(drift, sigma, x, t, s):
    b, dt = drift(x, t), s - t
    return torch.stack(
        [x[:, i] + dt * b[:, i] + sigma * dt.sqrt() * torch.randn(len(x)).to(x) for i in range(x.shape[1])], dim=1
    )


def em_of_the_package(drift, sigma, x, t, s):
    return euler_maruyama(drift, sigma)(x, t, s)


def em_of_two_halves(drift, sigma, x, t, s):  # a sum of two independent increments is one
    dt = expand_t(s - t, x)
    dw = (dt / 2).sqrt() * torch.randn_like(x) + (dt / 2).sqrt() * torch.randn_like(x)
    return x + dt * drift(x, t) + sigma * dw


class Shaken:
    def __init__(self):
        self.generator = torch.Generator().manual_seed(3)

    def __call__(self, drift, sigma, x, t, s):
        xi = torch.randn(x.shape, generator=self.generator, dtype=x.dtype)
        return x + (s - t)[:, None] * drift(x, t) - sigma * (s - t)[:, None].sqrt() * xi


def em_point_by_point(drift, sigma, x, t, s):
    b = drift(x, t)
    rows = (x[i] + h * b[i] + sigma * h**0.5 * torch.randn(2) for i, h in enumerate((s - t).tolist()))
    return torch.stack(list(rows))


def em_with(noise, drift, sigma, x, t, s):
    """A step with the noise that a function of (sigma, dt, x) returns."""
    dt = expand_t(s - t, x)
    return x + dt * drift(x, t) + noise(sigma, dt, x)


def shaking(name, noise):
    answer = partial(em_with, noise)
    answer.__name__ = name
    return answer


def noise_twice(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    coefficient = sigma * torch.randn_like(x)
    return x + dt * drift(x, t) + coefficient * dt**0.5 * torch.randn_like(x)


def noise_times_dt(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    return x + dt * (drift(x, t) + sigma * torch.randn_like(x))


def forgets_the_drift(drift, sigma, x, t, s):
    return x + sigma * expand_t(s - t, x) ** 0.5 * torch.randn_like(x)


def drift_without_length(drift, sigma, x, t, s):
    return x + drift(x, t) + sigma * expand_t(s - t, x) ** 0.5 * torch.randn_like(x)


def root_at_the_drift(drift, sigma, x, t, s):
    return x + expand_t(s - t, x) ** 0.5 * (drift(x, t) + sigma * torch.randn_like(x))


def drift_asked_late(drift, sigma, x, t, s):
    return em_step(lambda x, t: drift(x, s), sigma, x, t, s)


def drift_of_shaken_points(drift, sigma, x, t, s):
    dt = expand_t(s - t, x)
    x = x + sigma * dt**0.5 * torch.randn_like(x)
    return x + dt * drift(x, t)


def length_of_the_first(drift, sigma, x, t, s):
    dt = (s - t)[0]
    return x + dt * drift(x, t) + sigma * dt**0.5 * torch.randn_like(x)


def roots_of_the_mean(drift, sigma, x, t, s):
    return x + expand_t(s - t, x) * drift(x, t) + sigma * (s - t).mean() ** 0.5 * torch.randn_like(x)


def always_the_same_noise(drift, sigma, x, t, s):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return em_step(drift, sigma, x, t, s)


def no_noise(drift, sigma, x, t, s):
    return x + expand_t(s - t, x) * drift(x, t)


def em_unexpanded(drift, sigma, x, t, s):
    return x + (s - t) * drift(x, t) + sigma * (s - t).sqrt() * torch.randn_like(x)


# 01.3: the conditional velocity of the cosine schedule.


def cosine_velocity(x, z, t):
    angle = math.pi / 2 * t[:, None]
    eps = (x - torch.sin(angle) * z) / torch.cos(angle)
    return math.pi / 2 * (torch.cos(angle) * z - torch.sin(angle) * eps)


def velocity_by_tangent(x, z, t):
    angle = torch.pi / 2 * expand_t(t, x)
    return torch.pi / 2 * (z / angle.cos() - angle.tan() * x)  # cos z + (sin^2 / cos) z = z / cos


def velocity_in_numpy(x, z, t):
    x, z, a = x.numpy(), z.numpy(), np.pi / 2 * t.numpy()[:, None]
    return np.pi / 2 * (np.cos(a) * z - np.tan(a) * (x - np.sin(a) * z))


def velocity_in_single_precision(x, z, t):
    return cosine_velocity(x.float(), z.float(), t.float())


def velocity_by_jvp(x, z, t):
    half = torch.pi / 2
    eps = (x - torch.sin(half * t)[:, None] * z) / torch.cos(half * t)[:, None]
    path = lambda t: torch.sin(half * t)[:, None] * z + torch.cos(half * t)[:, None] * eps  # noqa: E731
    return torch.func.jvp(path, (t,), (torch.ones_like(t),))[1]


def velocity_by_autograd(x, z, t):
    t = t.clone().requires_grad_(True)
    with torch.enable_grad():
        alpha_t, beta_t = torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t)
        (d_alpha_t,) = torch.autograd.grad(alpha_t.sum(), t, retain_graph=True)
        (d_beta_t,) = torch.autograd.grad(beta_t.sum(), t)
    alpha_t, beta_t = alpha_t.detach()[:, None], beta_t.detach()[:, None]
    return d_alpha_t[:, None] * z + d_beta_t[:, None] / beta_t * (x - alpha_t * z)


def velocity_by_difference(x, z, t):
    half, h = math.pi / 2, 1e-3
    eps = (x - torch.sin(half * t)[:, None] * z) / torch.cos(half * t)[:, None]
    after, before = (torch.sin(half * s)[:, None] * z + torch.cos(half * s)[:, None] * eps for s in (t + h, t - h))
    return (after - before) / (2 * h)


def velocity_of_the_package(x, z, t):
    return GaussianPath(Cosine()).velocity(x, z, t)


def velocity_in_place(x, z, t):
    t *= math.pi / 2
    t = t[:, None]
    x -= t.sin() * z
    x /= t.cos()
    return z.mul_(t.cos()).sub_(x.mul_(t.sin())).mul_(math.pi / 2)


def velocity_point_by_point(x, z, t):
    rows = []
    for xi, zi, ti in zip(x, z, t.tolist(), strict=True):
        a, b = math.sin(math.pi * ti / 2), math.cos(math.pi * ti / 2)
        rows.append((math.pi / 2 * (b * zi - a / b * (xi - a * zi))).tolist())
    return torch.tensor(rows)


def velocity_by_einsum(x, z, t):
    a, b = torch.sin(torch.pi / 2 * t), torch.cos(torch.pi / 2 * t)
    return torch.einsum("b,bd->bd", torch.pi / 2 / b, z) - torch.einsum("b,bd->bd", torch.pi / 2 * a / b, x)


class CosineField:
    rate = math.pi / 2

    def __call__(self, x, z, t):
        schedule = Cosine()(t)
        alpha_t, beta_t, d_alpha_t, d_beta_t = (c.reshape(-1, 1) for c in schedule)
        return d_alpha_t * z + d_beta_t * (x - alpha_t * z) / beta_t


def velocity_with(formula, x, z, t):
    """A formula of z, x - alpha z, alpha, beta and t, with columns of numbers."""
    at = t[:, None]
    a, b = torch.sin(math.pi / 2 * at), torch.cos(math.pi / 2 * at)
    return formula(z, x - a * z, a, b, at)


def formula(name, of):
    answer = partial(velocity_with, of)
    answer.__name__ = name
    return answer


HALF = math.pi / 2


def linear_path(x, z, t):
    return (z - x) / (1 - t[:, None])


def straight_line(x, z, t):
    return z - x


def x_itself(x, z, t):
    angle = HALF * t[:, None]
    return HALF * (torch.cos(angle) * z - torch.tan(angle) * x)


def sin_and_cos_swapped(x, z, t):
    angle = HALF * t[:, None]
    a, b = torch.cos(angle), torch.sin(angle)
    return HALF * (-torch.sin(angle) * z + torch.cos(angle) / b * (x - a * z))


def sin_and_cos_swapped_in_one_place(x, z, t):
    angle = HALF * t[:, None]
    a, b = torch.cos(angle), torch.sin(angle)
    return HALF * (b * z - a / b * (x - a * z))


def angle_pi_t(x, z, t):
    angle = math.pi * t[:, None]
    a, b = torch.sin(angle), torch.cos(angle)
    return math.pi * (b * z - a / b * (x - a * z))


def forgets_to_expand_t(x, z, t):
    return math.pi / 2 * (torch.cos(math.pi / 2 * t) * z)


def divides_by_nothing(x, z, t):
    return cosine_velocity(x, z, torch.ones_like(t)) / 0


# 01.4: the drift of the SDE with the marginals of the flow.


def drift(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma**2 / 2 * score(x, t)


def drift_by_add(x, t, velocity, score, sigma):
    return torch.add(velocity(x, t), score(x, t), alpha=sigma * sigma / 2)


def drift_in_place(x, t, velocity, score, sigma):
    x += 0
    return velocity(x, t).add_(score(x, t).mul_(0.5 * sigma**2))


def drift_of_the_package(x, t, velocity, score, sigma):
    return sde_drift(velocity, score, sigma)(x, t)


def drift_in_numpy(x, t, velocity, score, sigma):
    return velocity(x, t).detach().numpy() + 0.5 * sigma**2 * score(x, t).detach().numpy()


def drift_in_single_precision(x, t, velocity, score, sigma):
    return drift(x.float(), t.float(), velocity, score, sigma)


def drift_without_gradients(x, t, velocity, score, sigma):
    with torch.no_grad():
        return drift(x, t, velocity, score, sigma)


def drift_with_half_a_gradient(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma**2 / 2 * score(x, t).detach()


def drift_point_by_point(x, t, velocity, score, sigma):
    return torch.cat(
        [drift(x[i : i + 1], t[i : i + 1], velocity, score, sigma) for i in range(len(x))],
    )


def drift_by_einsum(x, t, velocity, score, sigma):
    parts = torch.stack((velocity(x, t), score(x, t)))
    return torch.einsum("k,kbd->bd", torch.tensor([1, sigma**2 / 2], dtype=x.dtype), parts)


def drift_as_a_lambda():
    return lambda x, t, velocity, score, sigma: sum((velocity(x, t), math.pow(sigma, 2) * score(x, t) / 2))


class Drift:
    def __call__(self, x, t, velocity, score, sigma):
        variance = torch.as_tensor(sigma).square()
        return velocity(x=x, t=t) + (variance / 2).to(x) * score(x=x, t=t)


def weighted(a, b, x, t, velocity, score, sigma):
    """a(sigma) times the velocity plus b(sigma) times the score."""
    return a(sigma) * velocity(x, t) + b(sigma) * score(x, t)


def weights(name, b, a=lambda sigma: 1):
    answer = partial(weighted, a, b)
    answer.__name__ = name
    return answer


def asks_the_score_at_the_end(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma**2 / 2 * score(x, torch.ones_like(t))


def mirrored_time(x, t, velocity, score, sigma):
    return drift(x, 1 - t, velocity, score, sigma)


def swapped_fields(x, t, velocity, score, sigma):
    return drift(x, t, score, velocity, sigma)


def no_score_in_it(x, t, velocity, score, sigma):
    return velocity(x, t) + sigma**2 / 2


def fixed_sigma(x, t, velocity, score, sigma):
    return velocity(x, t) + 1.7**2 / 2 * score(x, t)


def drift_and_noise(x, t, velocity, score, sigma):
    return drift(x, t, velocity, score, sigma) + sigma * torch.randn_like(x)


def calls_without_time(x, t, velocity, score, sigma):
    return velocity(x) + sigma**2 / 2 * score(x)


def one_number_a_point(x, t, velocity, score, sigma):
    return drift(x, t, velocity, score, sigma).sum(1)


# 01.5: a sampler for twenty evaluations.


def bent(r):
    return 1 - (1 - r) ** 2


def heun_on_a_bent_grid(field, x_0, evaluations):
    steps = (evaluations + 1) // 2
    return simulate(heun(field), x_0, bent(torch.linspace(0, 1, steps + 1)))


def midpoint_on_a_bent_grid(field, x_0, evaluations):
    return simulate(midpoint(field), x_0, bent(torch.linspace(0, 1, evaluations // 2 + 1)))


def midpoint_on_a_cubic_grid(field, x_0, evaluations):
    return simulate(midpoint(field), x_0, 1 - torch.linspace(1, 0, evaluations // 2 + 1) ** 3)


def heun_on_a_sine(field, x_0, evaluations):
    ts = torch.sin(math.pi / 2 * torch.linspace(0, 1, evaluations // 2 + 1)).clamp(0, 1)
    return simulate(heun(field), x_0, ts)


def by_memory(field, x_0, evaluations):
    return simulate(adams_bashforth2(field), x_0, 1 - torch.linspace(1, 0, evaluations + 1) ** 3)


def rk4_on_a_cubic_grid(field, x_0, evaluations):
    return simulate(rk4(field), x_0, 1 - torch.linspace(1, 0, evaluations // 4 + 1) ** 3)


def heun_by_hand(field, x_0, evaluations):
    n, x = (evaluations + 1) // 2, x_0
    times = [1 - (1 - k / n) ** 2 for k in range(n + 1)]
    for k, (t, s) in enumerate(pairwise(times)):
        u = field(x, torch.full((len(x),), t))
        if k < n - 1:
            u = (u + field(x + (s - t) * u, torch.full((len(x),), s))) / 2
        x = x + (s - t) * u
    return x


def heun_in_place(field, x_0, evaluations):
    for t, s in pairwise(bent(torch.linspace(0, 1, (evaluations + 1) // 2 + 1)).tolist()):
        ahead = torch.zeros_like(x_0) + x_0
        u = field(x_0, torch.full((len(x_0),), t))
        ahead.add_(u, alpha=s - t)
        v = u if s >= 1 else field(ahead, torch.full((len(x_0),), s))
        x_0.add_(u + v, alpha=(s - t) / 2)
    return x_0


def point_after_point(field, x_0, evaluations):
    return torch.cat([midpoint_on_a_bent_grid(field, x_0[i : i + 1], evaluations) for i in range(len(x_0))])


def in_bent_time(field, x_0, evaluations):  # dx/dr = 2 (1 - r) u, on a uniform grid of r
    def step(x, r, h):
        def slope(x, r):
            return 2 * (1 - r) * field(x, torch.full((len(x),), bent(r)))

        return x + h * slope(x + h / 2 * slope(x, r), r + h / 2)

    n = evaluations // 2
    return reduce(lambda x, k: step(x, k / n, 1 / n), range(n), x_0)


def sampler_in_numpy(field, x_0, evaluations):
    x, ts = x_0.numpy(), bent(np.linspace(0, 1, evaluations // 2 + 1))

    def ask(x, t):
        return field(torch.from_numpy(x), torch.full((len(x),), float(t), dtype=torch.float64)).numpy()

    for t, s in pairwise(ts):
        x = x + (s - t) * ask(x + (s - t) / 2 * ask(x, t), (t + s) / 2)
    return x


def sampler_in_single_precision(field, x_0, evaluations):
    return midpoint_on_a_bent_grid(field, x_0.float(), evaluations)


def ralston_on_a_bent_grid(field, x_0, evaluations):
    x, ts = x_0, bent(torch.linspace(0, 1, evaluations // 2 + 1))
    for t, s in pairwise(ts):
        h = s - t
        a = field(x, t.expand(len(x)))
        b = field(x + 2 / 3 * h * a, (t + 2 / 3 * h).expand(len(x)))
        x = x + h / 4 * (a + 3 * b)
    return x


class Sampler:
    def __init__(self, power):
        self.power = power

    def __call__(self, field, x_0, evaluations):
        return simulate(heun(field), x_0, 1 - torch.linspace(1, 0, evaluations // 2 + 1) ** self.power)


def on_uniform_grid(name, method, cost):
    def answer(field, x_0, evaluations):
        return simulate(method(field), x_0, torch.linspace(0, 1, evaluations // cost + 1))

    answer.__name__ = name
    return answer


def euler_on_a_bent_grid(field, x_0, evaluations):
    return simulate(euler(field), x_0, bent(torch.linspace(0, 1, evaluations + 1)))


def bent_the_wrong_way(field, x_0, evaluations):
    return simulate(heun(field), x_0, torch.linspace(0, 1, evaluations // 2 + 1) ** 2)


def twice_the_budget(field, x_0, evaluations):
    return simulate(heun(field), x_0, bent(torch.linspace(0, 1, evaluations + 1)))


def twenty_always(field, x_0, evaluations):
    return heun_on_a_bent_grid(field, x_0, 20)


def two_in_one_call(field, x_0, evaluations):
    def both(x, t, s):
        h = (s - t)[:, None]
        u, v = field(torch.cat((x, x)), torch.cat((t, s))).chunk(2)
        return x + h / 2 * (u + v)

    return simulate(both, x_0, bent(torch.linspace(0, 1, evaluations + 1)))


def stays(field, x_0, evaluations):
    field(x_0, torch.zeros(len(x_0)))
    return x_0


def never_asks(field, x_0, evaluations):
    angle = 2 * math.pi / 8 * torch.randint(8, (len(x_0),))
    return 2 * torch.stack((angle.cos(), angle.sin()), dim=1) + 0.05 * torch.randn_like(x_0)


def asks_and_draws(field, x_0, evaluations):
    field(x_0, torch.zeros(len(x_0)))
    return never_asks(field, x_0, evaluations)


def beyond_the_end(field, x_0, evaluations):
    return reduce(lambda x, k: x + 0.1 * field(x, torch.full((len(x),), 0.1 * k)), range(12), x_0)


def stops_half_way(field, x_0, evaluations):
    return simulate(heun(field), x_0, torch.linspace(0, 0.5, evaluations // 2 + 1))


def time_stands_still(field, x_0, evaluations):
    ts = bent(torch.linspace(0, 1, evaluations + 1))
    return reduce(lambda x, k: x + (ts[k + 1] - ts[k]) * field(x, torch.zeros(len(x))), range(evaluations), x_0)


def whole_way(field, x_0, evaluations):
    return simulate(heun(field), x_0, bent(torch.linspace(0, 1, evaluations // 2 + 1)), keep=True)


def with_noise(field, x_0, evaluations):
    return simulate(euler_maruyama(field, 0.2), x_0, bent(torch.linspace(0, 1, evaluations + 1)))


def heun_into_the_end(field, x_0, evaluations):
    x, ts = x_0, bent(torch.linspace(0, 1, evaluations // 2 + 1))
    for t, s in pairwise(ts):
        u = field(x, t.expand(len(x)))
        x = x + (s - t) / 2 * (u + field(x + (s - t) * u, s.expand(len(x))))
    return x


def few_steps(field, x_0, evaluations):
    return simulate(midpoint(field), x_0, bent(torch.linspace(0, 1, 4)))


def time_as_a_number(field, x_0, evaluations):
    return x_0 + field(x_0, 0.0)


def by_derivatives(field, x_0, evaluations):
    def step(x, t, s):
        h = (s - t)[:, None]
        at = field(x, t)
        along = torch.func.jvp(field, (x, t.clone()), (at, torch.ones(len(t))))[1]
        return x + h * at + h**2 / 2 * along

    return simulate(step, x_0, bent(torch.linspace(0, 1, evaluations + 1)))


def derivatives_for_free(field, x_0, evaluations):
    x = x_0.clone().requires_grad_(True)
    u = field(x, torch.zeros(len(x)))
    return x_0 + u + torch.autograd.grad(u.sum(), x)[0]


def forward_mode(field, x_0, evaluations):
    from torch.autograd import forward_ad

    x, t = x_0, 0.0
    for s in bent(torch.linspace(0, 1, evaluations + 1))[1:].tolist():
        with forward_ad.dual_level():
            u = field(x, torch.full((len(x),), t).to(x))
            dual = field(
                forward_ad.make_dual(x, u), forward_ad.make_dual(torch.full((len(x),), t).to(x), u[:, 0] * 0 + 1)
            )
            along = forward_ad.unpack_dual(dual).tangent
        along = torch.zeros_like(x) if along is None else along
        x, t = x + (s - t) * u + (s - t) ** 2 / 2 * along, s
    return x


RIGHT = {
    "01.1": [
        euler_step, moves_in_place, by_einsum, point_by_point, rows_in_a_list, in_numpy, in_single_precision, by_vmap,
        by_diagonal_matrix, by_lerp, transposed, Stepper(), of_the_package, partial(on_a_signed_step, -1),
    ],
    "01.2": [
        em_step, em_in_place, em_by_normal, em_as_one_normal, em_by_covariance, em_in_numpy, em_in_single_precision,
        em_box_muller, em_column_by_column, em_of_the_package, em_of_two_halves, Shaken(), em_point_by_point,
    ],
    "01.3": [
        cosine_velocity, velocity_by_tangent, velocity_in_numpy, velocity_in_single_precision, velocity_by_jvp,
        velocity_by_autograd, velocity_by_difference, velocity_of_the_package, velocity_in_place,
        velocity_point_by_point, velocity_by_einsum, CosineField(),
    ],
    "01.4": [
        drift, drift_by_add, drift_in_place, drift_of_the_package, drift_in_numpy, drift_in_single_precision,
        drift_without_gradients, drift_with_half_a_gradient, drift_point_by_point, drift_by_einsum,
        drift_as_a_lambda(), Drift(), partial(weighted, lambda sigma: 1.0, lambda sigma: sigma**2 * 0.5),
    ],
    "01.5": [
        heun_on_a_bent_grid, midpoint_on_a_bent_grid, midpoint_on_a_cubic_grid, heun_on_a_sine, by_memory,
        rk4_on_a_cubic_grid, heun_by_hand, heun_in_place, point_after_point, in_bent_time, sampler_in_numpy,
        sampler_in_single_precision, ralston_on_a_bent_grid, Sampler(2), partial(heun_on_a_bent_grid),
    ],
}  # fmt: skip

WRONG = {
    "01.1": [
        (forgets_the_length, r"where is the length of the step, s - t\?"),
        (takes_the_end_for_the_length, r"s is the time at which the step ends"),
        (takes_the_begin_for_the_length, r"t is the time at which the step begins"),
        (looks_ahead, r"where the step begins, at t; you take it at s"),
        (asks_at_the_length, r"at time t; you ask it at time s - t"),
        (takes_heuns_step, "this is Heun's step"),
        (takes_the_midpoint, "this is the midpoint step"),
        (asks_twice, "asked 2 times"),
        (runs_backwards, "sign"),
        (never_back, "s before t"),
        (returns_the_move, "starts from x"),
        (returns_the_slope, "the slope alone"),
        (forgets_to_expand_the_length, r"in the line `return x .*` with RuntimeError: .*t of shape \(5,\).*expand_t"),
        (one_length_for_all, "the step of the first one"),
        (asks_with_a_number, r"one time for each point, shape \(B,\); yours is of type float"),
        (asks_with_a_column, r"one time for each point.*yours has shape \(5, 1\)"),
        (halves, "half of it"),
        (has_moved_before_it_asks, r"off by .* changes its argument x in place"),
        (whole_numbers, "decimal numbers"),
        (nothing, "None"),
    ],
    "01.2": [
        (noise_twice, "kurtosis is (8|9).*twice"),
        (shaking("forgets_the_root", lambda sigma, dt, x: sigma * torch.randn_like(x)), r"where is sqrt\(s - t\)"),
        (noise_times_dt, r"s - t in place of its root"),
        (shaking("squares", lambda sigma, dt, x: sigma**2 * dt**0.5 * torch.randn_like(x)), "enters once"),
        (shaking("no_sigma", lambda sigma, dt, x: dt**0.5 * torch.randn_like(x)), "with sigma = 1e-9|where is sigma"),
        (shaking("variance", lambda sigma, dt, x: sigma**2 * dt * torch.randn_like(x)), r"the root"),
        (shaking("one_for_all", lambda sigma, dt, x: sigma * dt**0.5 * torch.randn(1, dtype=x.dtype)), "same noise"),
        (shaking("one_a_row", lambda sigma, dt, x: sigma * dt**0.5 * torch.randn(len(x), 1)), "same noise"),
        (shaking("half", lambda sigma, dt, x: sigma * dt**0.5 * torch.randn_like(x[::2]).repeat(2, 1)), "same noise"),
        (shaking("uniform", lambda sigma, dt, x: sigma * dt**0.5 * torch.rand_like(x)), "in place of `randn`"),
        (
            shaking("scaled", lambda sigma, dt, x: sigma * (12 * dt) ** 0.5 * (torch.rand_like(x) - 0.5)),
            "kurtosis is 1.8",
        ),
        (
            shaking("coins", lambda sigma, dt, x: sigma * dt**0.5 * torch.randn_like(x).sign()),
            "kurtosis is 1.0",
        ),
        (shaking("absolute", lambda sigma, dt, x: sigma * dt**0.5 * torch.randn_like(x).abs()), "variance"),
        (shaking("shifted", lambda sigma, dt, x: sigma * dt**0.5 * (1 + torch.randn_like(x))), "mean 0"),
        (forgets_the_drift, "the drift does nothing"),
        (drift_without_length, "not multiplied by s - t"),
        (root_at_the_drift, "root belongs to the noise alone"),
        (drift_asked_late, "asked at s"),
        (drift_of_shaken_points, "variance"),
        (length_of_the_first, "the step of the first one"),
        (roots_of_the_mean, "own s - t under the root"),
        (always_the_same_noise, "same noise"),
        (no_noise, "the same as without noise"),
        (em_unexpanded, "expand_t"),
        (nothing, "None"),
    ],
    "01.3": [
        (formula("no_chain_rule", lambda z, r, a, b, t: b * z - a / b * r), "factor of pi/2"),
        (formula("pi", lambda z, r, a, b, t: math.pi * (b * z - a / b * r)), "pi/2, not pi"),
        (angle_pi_t, "you have pi t"),
        (formula("wrong_sign", lambda z, r, a, b, t: HALF * (b * z + a / b * r)), "noise part has the wrong sign"),
        (formula("undivided", lambda z, r, a, b, t: HALF * (b * z - a * r)), "is not divided by beta_t"),
        (formula("square", lambda z, r, a, b, t: HALF * (b * z - a / b**2 * r)), "once, not by its square"),
        (formula("no_noise", lambda z, r, a, b, t: HALF * b * z), "part of the noise is missing"),
        (formula("no_data", lambda z, r, a, b, t: -HALF * a / b * r), "part of the data is missing"),
        (formula("score", lambda z, r, a, b, t: -r / b**2), "conditional score"),
        (formula("eps", lambda z, r, a, b, t: r / b), "that is the noise"),
        (formula("half_a_chain", lambda z, r, a, b, t: HALF * b * z - a / b * r), "own factor of pi/2"),
        (formula("upside_down", lambda z, r, a, b, t: HALF * b * z - b / (HALF * a) * r), "upside down"),
        (linear_path, "velocity of the linear path"),
        (straight_line, "this is z - x"),
        (x_itself, "yours has x"),
        (sin_and_cos_swapped, "sin and cos are swapped"),
        (sin_and_cos_swapped_in_one_place, "off by|swapped"),
        (forgets_to_expand_t, "expand_t"),
        (divides_by_nothing, "inf or NaN"),
        (nothing, "None"),
    ],
    "01.4": [
        (weights("no_score", lambda sigma: 0), "where is the score"),
        (weights("no_half", lambda sigma: sigma**2), "factor 1/2"),
        (weights("unsquared", lambda sigma: sigma / 2), "squared"),
        (weights("sigma", lambda sigma: sigma), "yours has sigma"),
        (weights("quarter", lambda sigma: (sigma / 2) ** 2), "half is squared"),
        (weights("push", lambda sigma: -(sigma**2) / 2), "wrong sign: it must pull back"),
        (weights("double_push", lambda sigma: -(sigma**2)), "wrong sign, and the factor"),
        (weights("score_alone", lambda sigma: sigma**2 / 2, lambda sigma: 0), "where is the velocity"),
        (weights("scaled_sum", lambda sigma: sigma**2 / 2, lambda sigma: sigma**2 / 2), "not the sum"),
        (weights("backwards", lambda sigma: sigma**2 / 2, lambda sigma: -1), "velocity has the wrong sign"),
        (weights("bare_score", lambda sigma: 1), "without sigma"),
        (weights("root", lambda sigma: sigma**0.5 / 2), "root of sigma"),
        (asks_the_score_at_the_end, "off by"),
        (mirrored_time, "at time 1 - t"),
        (swapped_fields, "changed places"),
        (no_score_in_it, "no score in it"),
        (fixed_sigma, "off by"),
        (drift_and_noise, "off by"),
        (calls_without_time, "stopped in the line"),
        (one_number_a_point, r"should have shape \(64, 2\)"),
        (nothing, "None"),
    ],
    "01.5": [
        (on_uniform_grid("euler", euler, 1), "the points of Euler on a uniform grid"),
        (on_uniform_grid("heun", heun, 2), "the points of Heun on a uniform grid"),
        (on_uniform_grid("midpoint", midpoint, 2), "the points of the midpoint method on a uniform grid"),
        (on_uniform_grid("rk4", rk4, 4), "asks the field at t = 1"),
        (heun_into_the_end, "asks the field at t = 1"),
        (euler_on_a_bent_grid, "Both matter"),
        (bent_the_wrong_way, "Both matter"),
        (twice_the_budget, "go beyond it"),
        (twenty_always, "with evaluations = 12 .* go beyond it"),
        (two_in_one_call, "go beyond it"),
        (stays, "stay where they are"),
        (never_asks, "never asks the field"),
        (asks_and_draws, "each in another way"),
        (beyond_the_end, r"you ask it at t = 1\.1"),
        (stops_half_way, r"yours move by 0\.5 u\. Do the steps reach"),
        (time_stands_still, "asked at the time"),
        (whole_way, "not the whole way"),
        (with_noise, "does noise come in"),
        (few_steps, "why not all"),
        (time_as_a_number, "one time for each point"),
        (by_derivatives, "what torch.func hides"),
        (derivatives_for_free, "does not require grad"),
        (forward_mode, "go beyond it"),
        (nothing, "None"),
    ],
}
