"""Schedules: derivatives, end points and laws."""

import math

import pytest
import torch

from labkit.flow.schedules import Coefficients, Cosine, Linear, Schedule, SquareRoot, check_endpoints

by_schedule = pytest.mark.parametrize("schedule", [Linear(), SquareRoot(), Cosine()], ids=lambda s: type(s).__name__)


def times(schedule, n=101):
    return torch.linspace(0, schedule.t_max, n, dtype=torch.float64)


class Made(Schedule):
    """A schedule from two functions of t."""

    def __init__(self, alpha, beta):
        self.alpha, self.beta = alpha, beta

    def __call__(self, t):
        nothing = torch.zeros_like(t)
        return Coefficients(self.alpha(t), self.beta(t), nothing, nothing)


@by_schedule
def test_d_alpha_and_d_beta_are_the_derivatives_of_alpha_and_beta(schedule):
    t = times(schedule).requires_grad_(True)
    alpha_t, beta_t, d_alpha_t, d_beta_t = schedule(t)
    for value, derivative in ((alpha_t, d_alpha_t), (beta_t, d_beta_t)):
        (expected,) = torch.autograd.grad(value.sum(), t)
        torch.testing.assert_close(derivative, expected, rtol=1e-12, atol=1e-12)


@by_schedule
def test_beta_d_beta_is_half_the_derivative_of_the_noise_variance(schedule):
    t = times(schedule).requires_grad_(True)
    (derivative,) = torch.autograd.grad(schedule(t).beta_t.square().sum(), t)
    torch.testing.assert_close(schedule.beta_d_beta(t), derivative / 2, rtol=1e-12, atol=1e-12)


@by_schedule
def test_beta_d_beta_is_the_product_before_the_end(schedule):
    t = times(schedule)
    _, beta_t, _, d_beta_t = schedule(t)
    torch.testing.assert_close(schedule.beta_d_beta(t), beta_t * d_beta_t, rtol=1e-12, atol=1e-12)


@by_schedule
def test_beta_d_beta_is_finite_at_the_end_and_the_limit_from_the_left(schedule):
    end, before = torch.tensor([1.0], dtype=torch.float64), torch.tensor([1 - 1e-9], dtype=torch.float64)
    assert schedule.beta_d_beta(end).isfinite().all()
    # It is smooth there with a slope of at most pi^2 / 4: 1e-9 before the end it differs by a few 1e-9.
    torch.testing.assert_close(schedule.beta_d_beta(end), schedule.beta_d_beta(before), rtol=0, atol=1e-8)


@by_schedule
def test_a_path_starts_as_noise_and_ends_as_data(schedule):
    ends = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends.alpha_t, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(ends.beta_t, torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-15)
    assert check_endpoints(schedule) is None


@by_schedule
def test_data_grows_and_noise_shrinks_all_the_way(schedule):
    coefficients = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (coefficients.alpha_t.diff() > 0).all() and (coefficients.beta_t.diff() < 0).all()


@by_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_are_shaped_like_t_in_its_precision_and_finite_where_training_draws(schedule, dtype):
    for value in (*schedule(times(schedule).to(dtype)), schedule.beta_d_beta(times(schedule).to(dtype))):
        assert value.shape == (101,) and value.dtype == dtype and value.isfinite().all()


def test_the_cosine_path_preserves_variance():
    coefficients = Cosine()(times(Cosine()))
    variance = coefficients.alpha_t**2 + coefficients.beta_t**2
    torch.testing.assert_close(variance, torch.ones_like(variance), rtol=1e-14, atol=0)


def test_the_linear_path_is_the_only_straight_one():
    bends = {}
    for schedule in (Linear(), SquareRoot(), Cosine()):
        _, _, d_alpha_t, d_beta_t = schedule(times(schedule))
        bends[type(schedule)] = (d_alpha_t.max() - d_alpha_t.min() + d_beta_t.max() - d_beta_t.min()).item()
    assert bends[Linear] == 0 and bends[SquareRoot] > 1 and bends[Cosine] > 1


def test_the_square_root_slope_diverges_at_the_end_and_rounding_beyond_it_is_no_nan():
    end = SquareRoot()(torch.tensor([1.0, 1 + 1e-6]))
    assert (end.d_beta_t == -math.inf).all() and (end.beta_t == 0).all()


LINEAR = (lambda t: t, lambda t: 1 - t)


@pytest.mark.parametrize(
    ("alpha", "beta", "came"),
    [
        (lambda t: 0.1 + 0.9 * t, LINEAR[1], r"alpha_0 = 0\.1, "),
        (LINEAR[0], lambda t: 0.5 * (1 - t), r"beta_0 = 0\.5, "),
        (lambda t: 0.8 * t, LINEAR[1], r"alpha_1 = 0\.8, "),
        (LINEAR[0], lambda t: 1 - 0.7 * t, r"beta_1 = 0\.3$"),
        (lambda t: 1 - t, lambda t: t, r"alpha_0 = 1, beta_0 = 0, alpha_1 = 0, beta_1 = 1$"),
        (lambda t: t / (1 - t) * (1 - t), LINEAR[1], r"alpha_1 = nan, "),
        (LINEAR[0], lambda t: 0 / t * t + 1 - t, r"beta_0 = nan, "),
        (lambda t: 1 / (1 - t) - 1, LINEAR[1], r"alpha_1 = inf, "),
    ],
    ids=["alpha_0", "beta_0", "alpha_1", "beta_1", "reversed", "alpha_1 nan", "beta_0 nan", "alpha_1 inf"],
)
def test_a_schedule_that_misses_its_ends_is_refused_with_what_it_has(alpha, beta, came):
    with pytest.raises(ValueError, match=rf"schedule must run from pure noise to pure data.*Made has .*{came}"):
        check_endpoints(Made(alpha, beta))


def test_rounding_at_the_ends_is_no_miss():
    nearly = Made(lambda t: (1 - 2e-5) * t, lambda t: 1 - t + 1e-6)
    assert check_endpoints(nearly) is None
    with pytest.raises(ValueError, match=r"alpha_1 = 0\.9998"):
        check_endpoints(Made(lambda t: (1 - 2e-4) * t, lambda t: 1 - t))
