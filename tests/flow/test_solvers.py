"""Solvers: orders up and down, evaluations, exact laws of the noise, and the grids and starts they refuse."""

import math

import numpy as np
import pytest
import torch
from torchdiffeq import odeint

from labkit.flow import multistep, solvers
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.multistep import adams_bashforth2
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine
from labkit.flow.solvers import adaptive, euler, euler_maruyama, heun, simulate
from labkit.nn.mlp import MLP

METHODS = [("euler", 1, 1), ("heun", 2, 2), ("midpoint", 2, 2), ("rk4", 4, 4), ("adams_bashforth2", 2, 1)]

# Cosine path to N(0, STD^2): the exact flow multiplies the start by the deviation at t. And a mixture in the plane.
STD, ORIGIN = 0.5, torch.zeros(1, 1, dtype=torch.float64)
GAUSSIAN_FIELD = ExactMarginal(GaussianPath(Cosine()), GaussianMixture(ORIGIN, STD)).velocity
COVS = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.4]]], dtype=torch.float64)
PLANE = GaussianMixture(torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=torch.float64), COVS, torch.tensor([0.3, 0.7]))
PLANE_FIELD = ExactMarginal(GaussianPath(), PLANE).velocity


def method_of(name):
    return getattr(solvers, name, None) or getattr(multistep, name)


def solve(name, field, x, ts):
    method = method_of(name)
    return method(field, x, ts) if name == "adaptive" else simulate(method(field), x, ts)


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


every_method = pytest.mark.parametrize("name", [name for name, *_ in METHODS])


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
    assert len(times) == 10 * evaluations - (name == "heun")  # whose step into t=1 is Euler's
    assert min(times) == 0 and max(times) == (1 if name == "rk4" else pytest.approx(0.925, abs=0.026))


@pytest.mark.parametrize(("grid", "end"), [(uniform, 1.0), (uneven, 0.8)])
@pytest.mark.parametrize(("name", "order"), [(name, order) for name, order, _ in METHODS])
def test_up_and_down_again_returns_to_the_start_to_the_order_of_the_method(name, order, grid, end):
    numbers, errors = [20, 40, 80, 160], []
    for n in numbers:
        ts = end * grid(n)
        there = solve(name, PLANE_FIELD, start(5), ts)
        errors.append((solve(name, PLANE_FIELD, there, ts.flip(0)) - start(5)).abs().max().item())
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    # What one way gets wrong the other way undoes, so even orders may gain one.
    assert order - 0.25 < slope < order + 1.25 and errors[-1] < 0.05


def test_data_carried_down_are_noise_and_noise_carried_up_is_data():
    n, ts = 2000, uniform(40)
    z, _ = PLANE.sample(n, torch.Generator().manual_seed(1))
    noise = solve("heun", PLANE_FIELD, z, ts.flip(0))
    # Four standard errors of means, of standard deviations and of the correlation of independent normal numbers.
    assert noise.mean(0).abs().max() < 4 / n**0.5 and (noise.std(0) - 1).abs().max() < 4 / (2 * n) ** 0.5
    assert abs(torch.corrcoef(noise.T)[0, 1]) < 4 / n**0.5
    torch.testing.assert_close(solve("heun", PLANE_FIELD, noise, ts), z, rtol=0, atol=1e-2)


@every_method
def test_a_step_ends_at_its_own_time_sample_by_sample(name):
    """Each sample has its own t and s, up or down: it moves as if it were alone."""
    x, t, s = start(4), torch.tensor([0.1, 0.5, 0.9, 0.3]).double(), torch.tensor([0.3, 0.4, 0.2, 0.3]).double()
    method = method_of(name)
    together = method(PLANE_FIELD)(x, t, s)
    for i in range(4):
        rows = slice(i, i + 1)
        torch.testing.assert_close(together[rows], method(PLANE_FIELD)(x[rows], t[rows], s[rows]))
    assert torch.equal(together[3], x[3])  # from 0.3 to 0.3
    quadratic = method_of(name)(lambda x, t: (2 * t)[:, None].expand(x.shape))(x, t, s)
    if name not in ("euler", "adams_bashforth2"):  # order 2 integrates 2t exactly: x + s^2 - t^2
        torch.testing.assert_close(quadratic, x + (s**2 - t**2)[:, None])
    else:
        torch.testing.assert_close(quadratic, x + (2 * t * (s - t))[:, None])


@every_method
def test_a_step_asks_the_field_between_its_ends_only_and_leaves_its_arguments_alone(name):
    times = []
    x, t, s = start(3), *torch.tensor([[0.7], [0.2]], dtype=torch.float64).expand(2, 3)
    before = [part.clone() for part in (x, t, s)]
    method_of(name)(recorded(PLANE_FIELD, times))(x, t, s)
    assert times[0] == 0.7 and all(0.2 <= time <= 0.7 for time in times)
    assert all(torch.equal(now, then) for now, then in zip((x, t, s), before, strict=True))
    if name in ("heun", "rk4"):
        assert times[-1] == 0.2  # the end itself, not a rounded sum


def test_heuns_step_into_the_data_lands_on_the_denoisers_mean_and_any_other_is_heuns():
    x, t = start(4), torch.tensor([0.6, 0.75, 0.9, 0.6]).double()
    field, times = PLANE_FIELD, []
    s = torch.tensor([1.0, 1.0, 1.0, 1 - 1e-7], dtype=torch.float64)  # one was added up and has been rounded
    denoised = x + (1 - t)[:, None] * field(x, t)
    torch.testing.assert_close(heun(recorded_anywhere(field, times))(x, t, s), denoised, rtol=0, atol=1e-6)
    assert times == [t.tolist()]
    s = torch.tensor([1.0, 0.95, 0.9, 1.0], dtype=torch.float64)  # each row for itself
    found, predicted = heun(field)(x, t, s), x + (s - t)[:, None] * field(x, t)
    average = x + (s - t)[:, None] / 2 * (field(x, t) + field(predicted, s))
    torch.testing.assert_close(found, torch.where((s == 1)[:, None], denoised, average))


def recorded_anywhere(field, times):
    return lambda x, t: (times.append(t.tolist()), field(x, t))[1]


def test_heun_follows_a_field_that_does_not_exist_at_the_data():
    path, z = GaussianPath(), torch.tensor([[1.5, -0.5]], dtype=torch.float64)
    with pytest.raises(ValueError, match="t runs from 1 to 1"):
        path.velocity(ORIGIN.expand(1, 2), z, torch.ones(1).double())
    x = solve("heun", lambda x, t: path.velocity(x, z.expand(x.shape), t), start(5), uniform(4))
    torch.testing.assert_close(x, z.expand(5, 2))  # the conditional flow runs straight into its z


def test_heun_gives_the_same_where_nobody_may_look_at_the_times():
    x, t = start(4), torch.tensor([0.5, 0.75, 0.9, 0.1], dtype=torch.float64)
    s = torch.tensor([1.0, 0.9, 1.0, 0.3], dtype=torch.float64)
    one_by_one = torch.func.vmap(lambda x, t, s: heun(lambda x, t: -x * (1 + t)[:, None])(x[None], t[None], s[None])[0])
    torch.testing.assert_close(one_by_one(x, t, s), heun(lambda x, t: -x * (1 + t)[:, None])(x, t, s))


@every_method
def test_a_step_works_in_the_precision_of_x(name):
    x, t = start(3).float(), torch.full((3,), 0.5, dtype=torch.float64)
    assert method_of(name)(lambda x, t: -x)(x, t, t + 0.1).dtype == torch.float32


def test_two_step_adams_bashforth_integrates_what_is_linear_in_time_exactly_after_its_first_step():
    ts = torch.tensor([0.0, 0.1, 0.4, 0.45, 1.0], dtype=torch.float64)
    path = simulate(adams_bashforth2(lambda x, t: (2 * t)[:, None].expand(x.shape)), ORIGIN, ts, keep=True).flatten()
    # Euler's first step loses 0.1^2; the others are exact whatever their lengths.
    torch.testing.assert_close(path[1:], ts[1:] ** 2 - 0.1**2)


@pytest.mark.parametrize("way", ["another time", "another point", "backwards"])
def test_two_step_adams_bashforth_begins_anew_where_a_step_does_not_begin_at_the_end_of_the_last(way):
    def times(t):
        return torch.full((3,), t, dtype=torch.float64)

    step, fresh = adams_bashforth2(PLANE_FIELD), adams_bashforth2(PLANE_FIELD)
    x = step(start(3), times(0.2), times(0.3))
    after = {"another time": (x, 0.4, 0.5), "another point": (x + 1, 0.3, 0.4), "backwards": (start(3), 0.3, 0.2)}[way]
    x, t, s = after[0], times(after[1]), times(after[2])
    torch.testing.assert_close(step(x, t, s), euler(PLANE_FIELD)(x, t, s), rtol=0, atol=1e-14)
    gone_on = fresh(start(3), times(0.2), times(0.3))
    remembering = fresh(gone_on, times(0.3), times(0.4))
    assert (remembering - euler(PLANE_FIELD)(gone_on, times(0.3), times(0.4))).abs().max() > 1e-4


def test_one_adams_bashforth_step_can_serve_two_runs():
    step, ts = adams_bashforth2(PLANE_FIELD), uniform(8)
    first = simulate(step, start(3), ts)
    assert torch.equal(simulate(step, start(3), ts), first)


def test_adaptive_runs_down_as_well():
    ts, x = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64), start(20)
    times = []
    there = adaptive(PLANE_FIELD, x, ts, rtol=1e-8, atol=1e-8)
    back = adaptive(recorded(PLANE_FIELD, times), there, ts.flip(0), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    assert min(times) >= 0 and max(times) <= 1


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
    t = torch.linspace(0.25, 0.99, n, dtype=torch.float64)
    x = step(ORIGIN.expand(n, 1), t, t + dt).flatten()
    noise = (x - 3 * dt) / (sigma_t(t) * dt**0.5)
    # Four standard errors; that of the variance, sqrt((kurtosis - 1) / n), also allows for a kurtosis of 9.
    assert abs(noise.mean()) < 4 * math.sqrt(1 / n), "mean"
    assert abs(noise.var() - 1) < 4 * math.sqrt(8 / n), "variance"
    assert abs((noise**4).mean() / noise.var() ** 2 - 3) < 4 * math.sqrt(24 / n), "kurtosis"


def test_euler_maruyama_increments_are_normal_with_variance_sigma_squared_dt():
    generator = torch.Generator().manual_seed(0)
    check_normal_increments(euler_maruyama(lambda x, t: 0 * x + 3, 0.7, generator), lambda t: 0.7)
    check_normal_increments(euler_maruyama(lambda x, t: 0 * x + 3, lambda t: 2 * t, generator), lambda t: 2 * t)

    def noise_twice(x, t, s):  # a well-known mistake: its variance is right, its kurtosis is 3 * 3
        dt = (s - t)[:, None]
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


GRID, X = torch.tensor([0.0, 0.5, 1.0]), torch.zeros(4, 2)


@pytest.mark.parametrize("solver", ["euler", "adams_bashforth2", "adaptive"])
@pytest.mark.parametrize(
    ("x", "ts", "error", "words"),
    [
        (X, GRID[[0, 2, 1]], ValueError, r"ts must be increasing, .*, or decreasing"),
        (X, GRID[[0, 1, 1]], ValueError, "ts must be increasing"),
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


@pytest.mark.parametrize("ts", [GRID.flip(0), GRID[:2].flip(0)])
def test_an_sde_does_not_run_backwards_by_its_own_drift(ts):
    step = euler_maruyama(lambda x, t: 0 * x, 1.0)
    with pytest.raises(ValueError, match="ts must be increasing for euler_maruyama"):
        simulate(step, X, ts)


@pytest.mark.parametrize(
    "field",
    [lambda x, t: x, PLANE_FIELD, MLP(2, 3, width=8), MLP(2, width=8), lambda x, t, y=None: x],
    ids=["field", "exact", "network", "network without labels", "model that is told nothing"],
)
def test_a_field_in_the_place_of_a_step_is_refused_with_the_remedy(field):
    with pytest.raises(TypeError, match=r"step must be a step .* as heun\(field\) makes one of a field"):
        simulate(field, X, GRID)


@pytest.mark.parametrize("step", [lambda x, t, s, *more: x + 1, lambda *given: given[0] + 1], ids=["more", "star"])
def test_steps_of_every_build_are_taken(step):
    assert torch.equal(simulate(step, X, GRID), X + len(GRID) - 1)


def test_simulate_takes_no_gradient():
    x = start(3).requires_grad_()
    assert not simulate(heun(lambda x, t: -x), x, GRID.double()).requires_grad
    assert not adaptive(lambda x, t: -x, x, GRID.double()).requires_grad


def test_times_are_moved_to_the_precision_of_x_but_never_below_float32():
    for dtype, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        seen = []
        simulate(lambda x, t, s, seen=seen: (seen.append((t.dtype, s.dtype, t.shape)), x)[1], X.to(dtype), GRID)
        assert seen == [(expected, expected, (4,))] * 2


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf, "0.5"])
def test_a_sigma_that_is_no_diffusion_coefficient_is_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma must be finite and at least 0; got {sigma!r}"):
        euler_maruyama(lambda x, t: 0 * x, sigma)


@pytest.mark.parametrize("sigma", [lambda t: 0.5, lambda t: torch.tensor(0.5)], ids=["number", "scalar"])
def test_a_sigma_that_is_no_number_for_each_sample_is_refused_by_name(sigma):
    with pytest.raises(TypeError, match=r"sigma\(t\) must return a tensor of shape \(4,\), like t; got "):
        simulate(euler_maruyama(lambda x, t: 0 * x, sigma), X, GRID)


@pytest.mark.parametrize("name", ["euler", "heun", "midpoint", "rk4", "adams_bashforth2", "adaptive"])
def test_a_field_that_broadcasting_would_hide_is_refused(name):
    with pytest.raises(ValueError, match=r"the field's value must be shaped like x, \(3, 2\); got \(3, 1\)"):
        solve(name, lambda x, t: x[:, :1], start(3), uniform(4))
