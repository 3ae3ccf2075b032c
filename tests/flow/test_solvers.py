"""Solvers: orders, evaluations, exact laws of the noise, likelihoods, and the grids and starts they refuse."""

import math

import numpy as np
import pytest
import torch
from torchdiffeq import odeint

from labkit.flow import solvers
from labkit.flow.exact import ExactMarginal
from labkit.flow.likelihood import log_likelihood
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine
from labkit.flow.solvers import adaptive, euler_maruyama, heun, simulate

METHODS = [("euler", 1, 1), ("heun", 2, 2), ("midpoint", 2, 2), ("rk4", 4, 4), ("adams_bashforth2", 2, 1)]

# Cosine path to N(0, STD^2): the exact flow multiplies the start by the deviation at t. And a mixture in the plane.
STD, ORIGIN = 0.5, torch.zeros(1, 1, dtype=torch.float64)
GAUSSIAN_FIELD = ExactMarginal(GaussianPath(Cosine()), GaussianMixture(ORIGIN, STD)).velocity
COVS = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.4]]], dtype=torch.float64)
PLANE = GaussianMixture(torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=torch.float64), COVS, torch.tensor([0.3, 0.7]))
PLANE_FIELD = ExactMarginal(GaussianPath(), PLANE).velocity


def solve(name, field, x, ts):
    method = getattr(solvers, name)
    return simulate(method(field), x, ts) if name in ("euler", "heun", "midpoint", "rk4") else method(field, x, ts)


def uniform(n):
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def uneven(n):
    """Steps alternate 1 : 2."""
    steps = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(n // 2)
    return torch.cat((torch.zeros(1), steps.cumsum(0) / steps.sum()))


def start(n):
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def recorded(field, times):
    """The field, which appends to `times` when it is asked."""

    def asked(x, t):
        assert t.shape == x.shape[:1] and (t == t[0]).all()
        times.append(t[0].item())
        return field(x, t)

    return asked


# The field vanishes at 0 and at 1, so over the whole way first-order errors in time cancel: stop before the end, too.
@pytest.mark.parametrize(("grid", "end"), [(uniform, 1.0), (uneven, 0.8)])
@pytest.mark.parametrize(("name", "order"), [(name, order) for name, order, _ in METHODS])
def test_the_error_against_the_exact_flow_map_falls_with_the_order(name, order, grid, end):
    exact = math.hypot(STD * math.sin(math.pi / 2 * end), math.cos(math.pi / 2 * end))
    numbers = [32, 64, 128, 256]
    errors = [abs(solve(name, GAUSSIAN_FIELD, ORIGIN + 1, end * grid(n)).item() - exact) for n in numbers]
    assert -np.polyfit(np.log(numbers), np.log(errors), 1)[0] == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("name", "evaluations"), [(name, evaluations) for name, _, evaluations in METHODS])
def test_a_step_costs_its_evaluations_all_of_them_inside_the_grid(name, evaluations):
    times = []
    solve(name, recorded(PLANE_FIELD, times), start(3), uniform(10))
    assert len(times) == 10 * evaluations
    assert min(times) == 0 and max(times) < 1 + 1e-12


def test_simulate_makes_n_updates_from_the_first_time_to_the_last():
    times, ts = [], torch.tensor([0.1, 0.2, 0.45, 0.5, 0.9], dtype=torch.float64)
    x = solve("euler", recorded(lambda x, t: 0 * x + 1, times), ORIGIN, ts)  # carries the clock itself
    assert times == ts[:-1].tolist()
    assert x.item() == pytest.approx(0.9 - 0.1, abs=1e-15)


def test_a_kept_path_holds_the_solution_at_every_time():
    ts, x = uniform(8), start(3).reshape(3, 1, 2)
    step = heun(lambda x, t: -x * (1 + t[:, None, None]))
    path = simulate(step, x, ts, keep=True)
    assert path.shape == (9, 3, 1, 2) and torch.equal(path[0], x)
    assert all(torch.equal(path[i], simulate(step, x, ts[: i + 1])) for i in range(1, 9))


@pytest.mark.parametrize("options", [{}, {"rtol": 1e-8, "atol": 1e-8}], ids=["default", "tight"])
def test_the_adaptive_solution_is_a_tight_solve_within_tolerance(options):
    x, ts = start(20), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    true = odeint(lambda t, x: PLANE_FIELD(x, t.clamp(0, 1).expand(20)), x, ts, method="dopri8", rtol=1e-10, atol=1e-10)
    # Each step's error is kept below the tolerance (default 1e-5); a few dozen steps add up.
    assert (adaptive(PLANE_FIELD, x, ts, **options) - true[-1]).abs().max() < 50 * options.get("rtol", 1e-5)


@pytest.mark.parametrize("speed", [1.0, 0.1, 1e-3, 0.0])  # a slow field invites a long first step
def test_adaptive_never_asks_the_field_outside_the_grid(speed):
    times, ts = [], torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x = adaptive(recorded(lambda x, t: speed * x * (1 + t[:, None]), times), start(5), ts)
    exact = start(5) * math.exp(speed * (0.6 + (0.8**2 - 0.2**2) / 2))
    torch.testing.assert_close(x, exact, rtol=1e-4, atol=1e-4)  # ten times the default tolerance
    assert min(times) >= 0.2 and max(times) <= 0.8 + 1e-12


def check_normal_increments(step, sigma_t, n=200_000, dt=0.01):
    """One step from 0 with drift 3, at another time for every sample: normal, mean 3 dt, variance sigma_t^2 dt."""
    t = torch.linspace(0.25, 1, n, dtype=torch.float64)
    x = step(ORIGIN.expand(n, 1), t, torch.tensor(dt, dtype=torch.float64)).flatten()
    noise = (x - 3 * dt) / (sigma_t(t) * dt**0.5)
    # Four standard errors; that of the variance, sqrt((kurtosis - 1) / n), also allows for a kurtosis of 9.
    assert abs(noise.mean()) < 4 * math.sqrt(1 / n), "mean"
    assert abs(noise.var() - 1) < 4 * math.sqrt(8 / n), "variance"
    assert abs((noise**4).mean() / noise.var() ** 2 - 3) < 4 * math.sqrt(24 / n), "kurtosis"


def test_euler_maruyama_increments_are_normal_with_variance_sigma_squared_dt():
    generator = torch.Generator().manual_seed(0)
    check_normal_increments(euler_maruyama(lambda x, t: 0 * x + 3, 0.7, generator), lambda t: 0.7)
    check_normal_increments(euler_maruyama(lambda x, t: 0 * x + 3, lambda t: 2 * t, generator), lambda t: 2 * t)

    def noise_twice(x, t, dt):  # a well-known mistake: its variance is right, its kurtosis is 3 * 3
        return x + 3 * dt + 0.7 * dt.sqrt() * torch.randn(2, *x.shape, dtype=x.dtype, generator=generator).prod(0)

    with pytest.raises(AssertionError, match="kurtosis"):
        check_normal_increments(noise_twice, lambda t: 0.7)


def test_brownian_increments_are_fresh_in_every_step_and_repeat_with_the_generator():
    def path(seed, n=20_000):
        step = euler_maruyama(lambda x, t: 0 * x, 1.0, torch.Generator().manual_seed(seed))
        return simulate(step, ORIGIN.expand(n, 1), uniform(2), keep=True).squeeze(2)

    assert abs(torch.corrcoef(path(0).diff(dim=0))[0, 1]) < 4 / math.sqrt(20_000)  # four standard errors
    assert torch.equal(path(0), path(0)) and not torch.equal(path(0), path(1))


def test_ornstein_uhlenbeck_settles_at_the_stationary_variance_of_the_scheme():
    theta, sigma, steps, n = 50.0, 1.5, 200, 20_000
    step = euler_maruyama(lambda x, t: -theta * x, sigma, torch.Generator().manual_seed(0))
    variance = simulate(step, ORIGIN.expand(n, 1), uniform(steps)).var()
    expected = sigma**2 / (2 * theta - theta**2 / steps)  # 14% above sigma^2 / (2 theta), the limit of small steps
    assert abs(variance / expected - 1) < 4 * math.sqrt(2 / n)  # four standard errors: 4%


def test_the_exact_likelihood_of_a_mixtures_flow_is_the_mixtures_own():
    x = 1.5 * start(20)
    torch.testing.assert_close(log_likelihood(PLANE_FIELD, x, uniform(100)), PLANE.log_prob(x), rtol=0, atol=1e-3)


def test_the_likelihood_of_a_translation_is_the_shifted_normal():
    shift, x = torch.tensor([1.0, -2.0], dtype=torch.float64), start(5)
    expected = torch.distributions.Normal(shift, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(log_likelihood(lambda x, t: shift.expand(x.shape), x, uniform(3)), expected)


def test_the_hutchinson_estimate_is_unbiased_and_one_sign_vector_exact_for_a_contraction():
    n, ts, x = 2000, uniform(10), start(1)
    estimates = log_likelihood(PLANE_FIELD, x.repeat(n, 1), ts, probes=3, generator=torch.Generator().manual_seed(0))
    error = estimates.std() / math.sqrt(n)
    assert 1e-4 < error and abs(estimates.mean() - log_likelihood(PLANE_FIELD, x, ts)) < 4 * error
    expected = torch.distributions.Normal(0.0, math.exp(-1)).log_prob(x).sum(1)
    torch.testing.assert_close(log_likelihood(lambda x, t: -x, x, ts, probes=1), expected, rtol=1e-5, atol=0)  # rk4


GRID, X = torch.tensor([0.0, 0.5, 1.0]), torch.zeros(4, 2)


@pytest.mark.parametrize("solver", ["euler", "adams_bashforth2", "adaptive", "log_likelihood"])
@pytest.mark.parametrize(
    ("x", "ts", "error", "words"),
    [
        (X, GRID.flip(0), ValueError, "ts must be increasing"),
        (X, GRID * math.nan, ValueError, "ts must be increasing"),
        (X, GRID[:, None], ValueError, r"ts must be a 1-D tensor of at least two times; got shape \(3, 1\)"),
        (X, GRID[:1], ValueError, r"ts must be a 1-D tensor of at least two times; got shape \(1,\)"),
        (X, [0.0, 1.0], ValueError, "ts must be a 1-D tensor of at least two times; got list"),
        (X, GRID + 0.5, ValueError, r"ts must lie in \[0, 1\]; got 0\.5 to 1\.5"),
        (X, GRID - 0.25, ValueError, r"ts must lie in \[0, 1\]; got -0\.25 to 0\.75"),
        (X + math.nan, GRID, ValueError, "x must be finite at the start; it holds inf or NaN"),
        (X.long(), GRID, TypeError, r"x must be a floating-point tensor of shape \(B, \.\.\.\)"),
    ],
)
def test_bad_grids_and_starts_are_refused_by_name(solver, x, ts, error, words):
    with pytest.raises(error, match=words):
        solve(solver, lambda x, t: 0 * x, x, ts)


def test_a_likelihood_over_part_of_the_way_is_refused():
    with pytest.raises(ValueError, match=r"ts must run from 0 to 1 for a likelihood; got 0 to 0\.5"):
        log_likelihood(lambda x, t: 0 * x, X, GRID[:2])


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf, "0.5"])
def test_a_sigma_that_is_no_diffusion_coefficient_is_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma must be finite and at least 0; got {sigma!r}"):
        euler_maruyama(lambda x, t: 0 * x, sigma)


@pytest.mark.parametrize("name", ["euler", "heun", "midpoint", "rk4", "adams_bashforth2", "adaptive"])
def test_a_field_that_broadcasting_would_hide_is_refused(name):
    with pytest.raises(ValueError, match=r"the field's value must be shaped like x, \(3, 2\); got \(3, 1\)"):
        solve(name, lambda x, t: x[:, :1], start(3), uniform(4))
