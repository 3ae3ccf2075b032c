"""Schedules: derivatives, end points and laws."""

import math

import pytest
import torch

from labkit.flow.schedules import (
    Coefficients,
    Cosine,
    Linear,
    Schedule,
    SquareRoot,
    Table,
    check_endpoints,
    cosine_betas,
    linear_betas,
)

SCHEDULES = {"linear": Linear(), "square root": SquareRoot(), "cosine": Cosine(), "table": Table()}
SCHEDULES["short table"] = Table(cosine_betas(20))
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def times(schedule, n=101):
    return torch.linspace(0, schedule.t_max, n, dtype=torch.float64)


class Made(Schedule):
    """A schedule from two functions of t, and the gap that it states."""

    def __init__(self, alpha, beta, gap=0.0):
        self.alpha, self.beta, self.gap = alpha, beta, gap

    def __call__(self, t):
        nothing = torch.zeros_like(t)
        return Coefficients(self.alpha(t), self.beta(t), nothing, nothing)


@by_schedule
def test_d_alpha_and_d_beta_are_the_derivatives_of_alpha_and_beta(schedule):
    t = times(schedule).requires_grad_(True)
    alpha_t, beta_t, d_alpha_t, d_beta_t = schedule(t)
    for value, derivative in ((alpha_t, d_alpha_t), (beta_t, d_beta_t)):
        (expected,) = torch.autograd.grad(value.sum(), t, retain_graph=True)
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
    # It is smooth there with a slope of at most a few: 1e-9 before the end it differs by a few 1e-9.
    torch.testing.assert_close(schedule.beta_d_beta(end), schedule.beta_d_beta(before), rtol=0, atol=1e-8)


@by_schedule
def test_a_path_starts_as_noise_and_ends_as_data(schedule):
    ends = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
    gap = schedule.gap
    torch.testing.assert_close(ends.alpha_t, torch.tensor([gap, 1.0], dtype=torch.float64), rtol=0, atol=1e-15)
    first = torch.tensor([math.sqrt(1 - gap**2), 0.0], dtype=torch.float64)
    torch.testing.assert_close(ends.beta_t, first, rtol=0, atol=1e-15)
    assert (gap > 0) == isinstance(schedule, Table) and check_endpoints(schedule) is None


@by_schedule
def test_data_grows_and_noise_shrinks_all_the_way(schedule):
    coefficients = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (coefficients.alpha_t.diff() > 0).all() and (coefficients.beta_t.diff() < 0).all()


@by_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_are_shaped_like_t_in_its_precision_and_finite_where_training_draws(schedule, dtype):
    for value in (*schedule(times(schedule).to(dtype)), schedule.beta_d_beta(times(schedule).to(dtype))):
        assert value.shape == (101,) and value.dtype == dtype and value.isfinite().all()


@pytest.mark.parametrize("schedule", [SCHEDULES[name] for name in ("cosine", "table", "short table")])
def test_these_paths_preserve_variance(schedule):
    coefficients = schedule(times(schedule))
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


@pytest.mark.parametrize(
    ("alpha_0", "gap", "fits"),
    [(0.009, 0.009, True), (0.009, 0.0, False), (0.0, 0.009, False), (0.005, 0.009, False), (0.02, 0.02, False)],
)
def test_a_gap_is_allowed_up_to_a_hundredth_and_only_where_it_is_stated_and_true(alpha_0, gap, fits):
    schedule = Made(lambda t: alpha_0 + (1 - alpha_0) * t, LINEAR[1], gap)
    if fits:
        assert check_endpoints(schedule) is None
    else:
        with pytest.raises(ValueError, match="schedule must leave at most 0.01" if gap > 0.01 else "schedule must run"):
            check_endpoints(schedule)


# A share of data, and the time that has it


@by_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_time_of_a_share_is_the_time_that_has_it(schedule, dtype):
    t = torch.linspace(0.02, 0.98, 97, dtype=dtype)  # nearer to the ends float32 cannot tell them
    alpha_t, beta_t, *_ = schedule(t)
    found = schedule.at_share(alpha_t / (alpha_t + beta_t))
    torch.testing.assert_close(found, t, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-4)


@by_schedule
def test_the_formula_of_a_share_finds_what_halving_finds_up_to_the_ends(schedule):
    share = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(schedule.at_share(share), Schedule.at_share(schedule, share), rtol=0, atol=1e-12)


def test_a_share_that_the_gap_leaves_out_is_asked_at_its_end():
    least = Table().gap / (Table().gap + math.sqrt(1 - Table().gap ** 2))
    share = torch.tensor([0.0, 0.9 * least, least, 1.1 * least, 1.0], dtype=torch.float64)
    found = Table().at_share(share)
    assert (found[:3] < 1e-12).all() and found[3] > 1e-4 and found[4] == 1


# Tables


def test_a_table_holds_products_for_every_step_from_none_to_the_last():
    table = Table()
    assert table.steps == 1000 and len(table.betas) == len(table.alpha_bars) == 1001
    assert [table.betas[k].item() for k in (0, 1, 1000)] == pytest.approx([0, 1e-4, 0.02], abs=1e-15)
    assert table.alpha_bars[0] == 1 and table.alpha_bars[1].item() == pytest.approx(1 - 1e-4, abs=1e-15)
    assert table.alpha_bars[1000].item() == pytest.approx(4.04e-5, abs=5e-8)
    product = 1.0
    for k in range(1, 1001):
        product *= 1 - (1e-4 + (k - 1) * (0.02 - 1e-4) / 999)
    assert table.alpha_bars[1000].item() == pytest.approx(product, rel=1e-11)
    assert table.gap == pytest.approx(math.sqrt(product), rel=1e-11) == pytest.approx(0.00635, abs=1e-5)


@pytest.mark.parametrize("table", [Table(), Table(cosine_betas(20))], ids=["linear", "cosine"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_step_k_stands_at_one_minus_k_over_its_number(table, dtype, near):
    k = torch.arange(table.steps + 1)
    alpha_t, beta_t, *_ = table((1 - k.double() / table.steps).to(dtype))
    torch.testing.assert_close(alpha_t.double() ** 2, table.alpha_bars, rtol=0, atol=near)
    torch.testing.assert_close(beta_t.double() ** 2, 1 - table.alpha_bars, rtol=0, atol=near)


def test_the_cosine_table_follows_its_formula_until_its_last_step_is_cut():
    k = torch.arange(1001, dtype=torch.float64)
    f = torch.cos((k / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    table = Table(cosine_betas(1000))
    torch.testing.assert_close(table.alpha_bars[:1000], f[:1000] / f[0], rtol=1e-9, atol=0)
    assert f[1000] < 1e-30 and table.betas.max() == table.betas[1000] == 0.999


@pytest.mark.parametrize("steps", [21, 50, 100, 1000, 4000])
def test_tables_of_any_length_end_in_noise(steps):
    for betas in (linear_betas(steps), cosine_betas(steps)):
        assert betas.shape == (steps,) and check_endpoints(Table(betas)) is None
    assert linear_betas(steps).sum().item() == pytest.approx(10.05)


def test_a_table_cut_short_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Table leaves alpha_0 = 0\.2803: were its betas cut short\?"):
        check_endpoints(Table(linear_betas()[:500]))


@pytest.mark.parametrize("betas", [[], [0.1, 0.0], [0.1, 1.0], [-0.1], [0.5, 2.0]])
def test_betas_that_are_no_shares_of_noise_are_refused(betas):
    with pytest.raises(ValueError, match="betas must be at least one number, each in"):
        Table(torch.tensor(betas))


def test_a_grid_stands_on_the_table_from_its_last_step_to_the_data():
    table = Table()
    assert torch.equal(table.times(), table.times(1000)) and len(table.times()) == 1001
    for steps in (1, 3, 7, 50, 999):
        ts = table.times(steps)
        k = (1 - ts.double()) * 1000
        assert len(ts) == steps + 1 and ts[0] == 0 and ts[-1] == 1
        torch.testing.assert_close(k, k.round(), rtol=0, atol=1e-4)
        assert (k.diff() < 0).all() and (k.diff() + 1000 / steps).abs().max() <= 1 + 1e-4
    with pytest.raises(ValueError, match="steps must be at most 1000, the length of the table; got 1001"):
        table.times(1001)


def test_a_network_is_told_the_nearest_step_and_never_that_of_the_data():
    table = Table()
    assert torch.equal(table.step_at(table.times()[:-1]), torch.arange(1000, 0, -1))
    assert table.step_at(torch.tensor([1.0, 0.9997, 0.9984, 0.0, 1e-5])).tolist() == [1, 1, 2, 1000, 1000]
