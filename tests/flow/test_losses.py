"""Losses: their floors, their gradients and their minimisers, against closed forms."""

import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from labkit.flow.exact import ExactMarginal, gaussian_loss_floor
from labkit.flow.losses import cfm_loss, draw_times, dsm_loss, eps_loss
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.schedules import Cosine, Linear, SquareRoot, Table

SCHEDULES = [Linear(), SquareRoot(), Cosine(), Table()]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(dim, std, mean=0.7, schedule=None):
    """The exact marginal of data N(mean, std^2 I) in `dim` dimensions."""
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(torch.full((1, dim), mean).double(), std))


def clusters(schedule=None):
    """Three clusters in the plane, all of one class."""
    means = torch.tensor([[-1.0, 0.5], [1.2, 0.0], [0.0, -1.0]], dtype=torch.float64)
    mixture = GaussianMixture(means, torch.tensor([0.3, 0.5, 0.4], dtype=torch.float64))
    return ExactMarginal(GaussianPath(schedule), mixture, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(("dim", "std"), [(1, 0.5), (3, 0.5), (2, 2.0)])
def test_cfm_loss_of_the_exact_field_of_a_gaussian_is_pi_std_over_two(dim, std):
    exact = gaussian(dim, std)
    z, _ = exact.mixture.sample(400_000 // dim, seeded())
    loss = cfm_loss(exact.velocity, exact.path, z, generator=seeded(1)).item()
    assert loss == pytest.approx(math.pi * std / 2, rel=0.01)  # one standard error is 0.3%


@by_schedule
@pytest.mark.parametrize("g", [torch.ones_like, torch.sin, lambda x: x.flip(1)], ids=["shift", "sin", "flip"])
def test_every_disturbance_of_the_exact_field_raises_its_cfm_loss_by_its_own_size(schedule, g):
    exact = clusters(schedule)
    z, _ = exact.mixture.sample(50_000, seeded())
    t, eps = draw_times(exact.path, z, seeded(1)), torch.randn(z.shape, dtype=z.dtype, generator=seeded(2))

    def loss(delta):
        return cfm_loss(lambda x, t, y: exact.velocity(x, t) + delta * g(x), exact.path, z, t=t, eps=eps).item()

    size = g(exact.path.sample(z, t, eps).x_t).square().mean().item()
    down, at, up = loss(-1.0), loss(0.0), loss(1.0)
    assert at < min(down, up)
    assert (down + up) / 2 - at == pytest.approx(size, rel=1e-9)  # the loss is quadratic in delta
    assert abs(up - down) / 2 < 0.05 * size  # and flat at the exact field; one standard error is about 1%


@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_the_loss_floor_of_one_round_gaussian_is_pi_std_over_two(std):
    assert gaussian(2, std).loss_floor(10_000, seeded()) == pytest.approx(math.pi * std / 2, rel=1e-6)  # midpoints in t
    assert gaussian_loss_floor(std) == pytest.approx(math.pi * std / 2)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_a_loss_floor_needs_a_positive_std(std):
    with pytest.raises(ValueError, match=f"std must be a finite number above 0; got {std}"):
        gaussian_loss_floor(std)


@pytest.mark.parametrize(("schedule", "rel"), [(Linear(), 0.02), (SquareRoot(), 0.05), (Cosine(), 0.02)])
def test_cfm_loss_of_the_exact_field_is_the_loss_floor(schedule, rel):
    # One standard error is 0.25%; 1.4% for SquareRoot, whose target has heavy tails near t=1.
    exact = ExactMarginal(GaussianPath(schedule), ring(8), torch.arange(8) // 2)
    z, component = exact.mixture.sample(200_000, seeded())
    loss = cfm_loss(exact.velocity, exact.path, z, exact.labels[component], generator=seeded(1)).item()
    assert loss == pytest.approx(exact.loss_floor(100_000, seeded(2)), rel=rel)


def test_cfm_and_fm_losses_have_the_same_gradient_and_differ_by_the_floor():
    exact = clusters()
    torch.manual_seed(0)
    linear = nn.Linear(3, 2).double()

    def model(x, t, y=None):
        return linear(torch.cat((x, t[:, None]), dim=1))

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(linear.parameters()))])

    generator, differences, gradients, gaps = seeded(), [], [], []
    for _ in range(100):
        z, _ = exact.mixture.sample(2_000, generator)
        t, eps = draw_times(exact.path, z, generator), torch.randn(z.shape, dtype=z.dtype, generator=generator)
        x_t = exact.path.sample(z, t, eps).x_t
        cfm = cfm_loss(model, exact.path, z, t=t, eps=eps)
        fm = (model(x_t, t) - exact.velocity(x_t, t)).square().mean()
        gaps.append((cfm - fm).detach())
        gradients.append(gradient(fm))
        differences.append(gradient(cfm) - gradients[-1])
    differences, gaps = torch.stack(differences), torch.stack(gaps)
    error = differences.std(0) / 10  # of the mean of 100 batches
    assert (differences.mean(0).abs() < 4.5 * error).all()
    assert error.max() < 0.02 * torch.stack(gradients).mean(0).norm()
    assert abs(gaps.mean() - exact.loss_floor(50_000, seeded(1))) < 4.5 * gaps.std() / 10


@by_schedule
def test_weighted_dsm_is_the_eps_loss_of_minus_beta_times_the_score(schedule):
    exact = clusters(schedule)
    z, _ = exact.mixture.sample(500, seeded())
    t, eps = draw_times(exact.path, z, seeded(1)), torch.randn(z.shape, dtype=z.dtype, generator=seeded(2))

    def noise(x, t, y):
        return -schedule(t).beta_t[:, None] * torch.sin(x)

    dsm = dsm_loss(lambda x, t, y: torch.sin(x), exact.path, z, t=t, eps=eps)
    torch.testing.assert_close(dsm, eps_loss(noise, exact.path, z, t=t, eps=eps), rtol=1e-12, atol=0)


def test_noise_and_score_losses_of_unit_gaussian_data_have_known_floors():
    exact = gaussian(1, 1.0, mean=0.0)
    z, _ = exact.mixture.sample(200_000, seeded())

    def noise(x, t, y):
        return complete(exact.path, x, t, velocity=exact.velocity(x, t)).eps

    # Var(eps | x_t) = t^2 / (t^2 + (1 - t)^2); with t and 1 - t exchanged the two add up to 1.
    assert eps_loss(noise, exact.path, z, generator=seeded(1)).item() == pytest.approx(0.5, rel=0.02)
    assert dsm_loss(exact.score, exact.path, z, generator=seeded(1)).item() == pytest.approx(0.5, rel=0.02)
    # At t=1/2 the noise is half explained, Var(eps | x) = 1/2, and the score's target is -2 eps: 4 * 1/2.
    half = torch.full((len(z),), 0.5, dtype=torch.float64)
    unweighted = dsm_loss(exact.score, exact.path, z, weighted=False, t=half, generator=seeded(1)).item()
    assert unweighted == pytest.approx(2, rel=0.02)  # standard errors: sqrt(2 / 200,000) = 0.3%, times at most 1.3


@by_schedule
def test_times_are_drawn_one_in_each_slice_and_uniform_inside_it(schedule):
    n = 1000
    t = draw_times(GaussianPath(schedule), torch.zeros(n, 2, dtype=torch.float64), seeded())
    assert t.shape == (n,) and t.dtype == torch.float64
    assert t.min() >= 0 and t.max() <= schedule.t_max
    inside = t.sort().values * n / schedule.t_max - torch.arange(n)
    assert -1e-3 < inside.min() and inside.max() < 1 + 1e-3  # float32 steps are 6e-5 at 1000
    assert kstest(inside.numpy(), "uniform").pvalue > 0.01


def test_times_do_not_depend_on_the_place_in_the_batch():
    n, batches, generator = 50, 400, seeded()
    t = torch.stack([draw_times(GaussianPath(), torch.zeros(n), generator) for _ in range(batches)])
    # A uniform time has variance 1/12; the mean of a row over 400 batches is normal, and there are 50 rows.
    assert (t.mean(0) - 0.5).abs().max() < 4.5 / (12 * batches) ** 0.5
    place = torch.arange(n).float()
    correlations = torch.stack([torch.corrcoef(torch.stack((place, times)))[0, 1] for times in t])
    assert abs(correlations.mean()) < 4.5 / ((n - 1) * batches) ** 0.5  # 1 where times ascend


def test_a_batch_put_together_class_by_class_has_the_loss_of_a_shuffled_one():
    exact, n = ExactMarginal(GaussianPath(), ring(2)), 20_000
    z, y = exact.mixture.sample(n, seeded())
    order = y.argsort()

    def loss(z, y):
        return cfm_loss(lambda x, t, y: exact.velocity(x, t, 0 * y), exact.path, z, y, generator=seeded(1)).item()

    # A model that is wrong for one class, at late times most: its loss is the mean over all pairs of class and time.
    assert loss(z[order], y[order]) == pytest.approx(loss(z, y), rel=0.04)


@pytest.mark.parametrize("loss", [cfm_loss, eps_loss, dsm_loss])
def test_a_loss_gives_the_condition_to_the_model_leaves_its_batch_alone_and_repeats(loss):
    z, y, seen = torch.randn(6, 2, generator=seeded()), torch.arange(6), []
    t, eps = torch.linspace(0, 0.9, 6), torch.randn(6, 2, generator=seeded(1))
    before = [part.clone() for part in (z, y, t, eps)]
    value = loss(lambda x, t, y: (seen.append((t, y)), x)[1], GaussianPath(), z, y, t=t, eps=eps)
    assert value.ndim == 0
    assert all(torch.equal(now, then) for now, then in zip((z, y, t, eps), before, strict=True))
    assert seen[0][0] is t and seen[0][1] is y
    first, second = (loss(lambda x, t, y: x, GaussianPath(), z, generator=seeded(3)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("loss", [cfm_loss, eps_loss, dsm_loss])
def test_a_loss_refuses_times_and_noise_that_do_not_fit(loss):
    z = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"t must have shape \(4,\).*got shape \(4, 1\)"):
        loss(lambda x, t, y: x, GaussianPath(), z, t=torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"eps must be shaped like x, \(4, 2\); got \(4, 1\)"):
        loss(lambda x, t, y: x, GaussianPath(), z, eps=torch.zeros(4, 1))


@pytest.mark.parametrize("loss", [cfm_loss, eps_loss, dsm_loss])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_data_of_whole_numbers_are_refused_with_the_remedy(loss, dtype):
    with pytest.raises(
        TypeError, match=f"z must be floating-point data, as `to_float` makes of images; got a tensor of {dtype}"
    ):
        loss(lambda x, t, y: x, GaussianPath(), torch.zeros(4, 1, 8, 8, dtype=dtype))


@pytest.mark.parametrize("loss", [cfm_loss, dsm_loss, eps_loss])
@pytest.mark.parametrize("shape", [(4, 1), (4,)])
def test_an_output_that_broadcasting_would_hide_is_refused(loss, shape):
    with pytest.raises(ValueError, match=r"the model's output must be shaped like x, \(4, 4\); got \(4"):
        loss(lambda x, t, y: torch.zeros(shape), GaussianPath(), torch.zeros(4, 4))
