"""The variational bound: what an exact model is above the entropy, each KL by torch, bins by scipy, and its units."""

import math

import pytest
import torch
from scipy.special import log_ndtr
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from labkit.flow.bound import kl_weights, log_bin, variational_bound
from labkit.flow.ddpm import posterior
from labkit.flow.exact import ExactMarginal
from labkit.flow.likelihood import log_likelihood
from labkit.flow.losses import eps_loss
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath, convert
from labkit.flow.schedules import Cosine, Linear, SquareRoot, Table

TABLE = Table()
PATH = GaussianPath(TABLE)
SCHEDULES = [TABLE, Linear(), Cosine(), SquareRoot()]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
by_variance = pytest.mark.parametrize("variance", ["small", "large"])
STD = 0.5
# Every square of these pairs has its mean: expectations of what is quadratic in z and eps are exact.
Z = STD * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
EPS = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)


def gaussian(schedule):
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), STD))


def grid(n):
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kl(variance, of):
    """KL(N(0, variance) || N(0, of)) in bits."""
    return 0.5 * (math.log(of / variance) + variance / of - 1) / math.log(2)


@by_schedule
@by_variance
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_the_bound_of_an_exact_model_is_above_the_entropy_by_the_kls_of_its_marginals(schedule, variance, steps):
    """E[bound] - H(z) = KL(q(x_0) || N(0, 1)) + sum of KL(q(x_s | x_t) || p(x_s | x_t)), all normal here.

    q(x_s | x_t) without z has the model's mean and the variance of x_s given x_t, from their covariance.
    """
    exact, ts = gaussian(schedule), grid(steps)
    alpha, beta, *_ = schedule(ts)
    marginal = alpha**2 * STD**2 + beta**2
    excess = [kl(marginal[0].item(), 1.0)]
    for i in range(steps):
        r = alpha[i] / alpha[i + 1]
        true = marginal[i + 1] - (r * marginal[i + 1]) ** 2 / marginal[i]
        noise = beta[i] ** 2 - r**2 * beta[i + 1] ** 2
        small = noise * beta[i + 1] ** 2 / beta[i] ** 2
        excess.append(kl(true.item(), (small if variance == "small" and i < steps - 1 else noise).item()))
    terms = variational_bound(exact.velocity, exact.path, "velocity", Z, ts, variance=variance, eps=EPS)
    assert terms.shape == (steps + 1, 4) and terms.dtype == torch.float64
    entropy = 0.5 * math.log2(2 * math.pi * math.e * STD**2)
    assert terms.mean(1).sum().item() == pytest.approx(entropy + sum(excess), abs=1e-8)
    assert min(excess) >= -1e-15


def test_more_steps_bound_more_tightly_and_what_the_noise_knows_stays():
    exact = gaussian(TABLE)
    bounds, known = [], []
    for steps in (10, 100, 1000):
        terms = variational_bound(exact.velocity, PATH, "velocity", Z, grid(steps), variance="large", eps=EPS).mean(1)
        bounds.append(terms.sum().item())
        known.append(terms[0].item())
    entropy = 0.5 * math.log2(2 * math.pi * math.e * STD**2)
    assert bounds[0] > bounds[1] > bounds[2] > entropy and bounds[2] < entropy + 0.003
    assert known[0] == known[2] == pytest.approx(7.3e-6, abs=1e-7)


@by_variance
def test_each_term_is_the_kl_of_torch_and_the_last_a_likelihood(variance):
    """The chain of a model that is wrong in all it says, on images."""
    z, eps, ts = normal(3, 1, 2, 2), normal(3, 1, 2, 2, seed=1), TABLE.times(6).double()

    def model(x, t):
        return torch.cos(x) + t[:, None, None, None]

    terms = variational_bound(model, PATH, "z", z, ts, variance=variance, eps=eps)
    first = Normal(TABLE.gap * z, math.sqrt(1 - TABLE.gap**2))
    expected = [kl_divergence(first, Normal(0, 1))]
    for i in range(6):
        t, s = ts[i].expand(3), ts[i + 1].expand(3)
        q = posterior(PATH, t, s)
        of_x, of_z, small, large = (part[:, None, None, None] for part in q)
        x_t = PATH.sample(z, t, eps).x_t
        means = [of_x * x_t + of_z * data for data in (z, model(x_t, t))]
        if i < 5:
            spread = (small if variance == "small" else large).sqrt()
            expected.append(kl_divergence(Normal(means[0], small.sqrt()), Normal(means[1], spread)))
        else:
            expected.append(-Normal(means[1], large.sqrt()).log_prob(z))
    bits = torch.stack([term.flatten(1).mean(1) for term in expected]) / math.log(2)
    torch.testing.assert_close(terms, bits, rtol=1e-7, atol=1e-9)


@by_schedule
def test_it_bounds_the_likelihood_of_the_flow_from_above(schedule):
    mixture = ring(3)
    exact = ExactMarginal(GaussianPath(schedule), GaussianMixture(mixture.means.double(), 0.5))
    z, _ = exact.mixture.sample(4000, torch.Generator().manual_seed(0))
    terms = variational_bound(
        exact.velocity, exact.path, "velocity", z, grid(100), variance="large", generator=torch.Generator()
    )
    entropy = -exact.mixture.log_prob(z).mean().item() / 2 / math.log(2)
    assert 0 < terms.sum(0).mean().item() - entropy < 0.05
    if schedule is SCHEDULES[1]:
        exactly = log_likelihood(exact.velocity, z[:200], grid(50)) / 2 / math.log(2)
        torch.testing.assert_close(-exactly, -exact.mixture.log_prob(z[:200]) / 2 / math.log(2), rtol=0, atol=1e-3)


# Weights


@by_variance
def test_the_weights_are_ddpms(variance):
    k = torch.arange(TABLE.steps, 0, -1)
    beta, abar, before = TABLE.betas[k], TABLE.alpha_bars[k], TABLE.alpha_bars[k - 1]
    sigma2 = beta if variance == "large" else beta * (1 - before) / (1 - abar)
    expected = beta**2 / (2 * sigma2 * (1 - beta) * (1 - abar))
    found = kl_weights(PATH, grid(1000), variance=variance)
    assert found.shape == (1000,) and found.dtype == torch.float64
    torch.testing.assert_close(found[:-1], expected[:-1], rtol=1e-6, atol=0)
    assert found[-1].item() == pytest.approx(1 / (2 * (1 - 1e-4)), rel=1e-9)  # of the likelihood, with variance beta_1
    assert found[-2] > 20 * found[0]  # L_simple looks less at the end than the bound does


@by_variance
def test_an_error_of_the_predicted_noise_costs_its_weight(variance):
    ts, error = TABLE.times(8).double(), 0.1
    z, eps = normal(3, 2), normal(3, 2, seed=1)
    right, wrong = (
        variational_bound(lambda x, t, off=off: eps + off, PATH, "eps", z, ts, variance=variance, eps=eps)
        for off in (0.0, error)
    )
    cost = (wrong - right).mean(1) * math.log(2)
    assert cost[0] == 0
    torch.testing.assert_close(cost[1:], kl_weights(PATH, ts, variance=variance) * error**2, rtol=1e-8, atol=1e-12)


def test_the_weights_of_a_path_without_gap_begin_infinite():
    weights = kl_weights(GaussianPath(), grid(10))
    assert weights[0] == math.inf and weights[1:].isfinite().all()


def test_the_expected_bound_is_the_weighted_eps_loss_and_what_no_model_can_change():
    exact, ts = gaussian(TABLE), grid(20)
    eps = convert(exact.velocity, PATH, "velocity", "eps")
    terms = variational_bound(eps, PATH, "eps", Z, ts, eps=EPS).mean(1) * math.log(2)
    losses = [eps_loss(eps, PATH, Z, t=t.expand(4), eps=EPS).item() for t in ts[:-1]]
    expected = kl_weights(PATH, ts) * torch.tensor(losses)
    torch.testing.assert_close(terms[1:-1], expected[:-1], rtol=1e-7, atol=1e-12)  # with small there is no other part
    last = 0.5 * math.log(2 * math.pi * (1 - TABLE(ts[-2:-1]).alpha_t.item() ** 2))
    assert terms[-1].item() == pytest.approx(expected[-1].item() + last, rel=1e-6)


# Bins and units


@pytest.mark.parametrize("levels", [2, 5, 256])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.5), (0.3, 0.01), (-1.2, 0.1), (3.0, 0.05)])
def test_the_levels_share_all_of_the_probability(levels, mean, std):
    z = torch.linspace(-1, 1, levels, dtype=torch.float64)
    found = log_bin(z, torch.full_like(z, mean), torch.tensor(std, dtype=torch.float64), levels)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-12) and found.isfinite().all()
    edges = torch.cat((torch.tensor([-math.inf]), (z[1:] + z[:-1]) / 2, torch.tensor([math.inf])))
    expected = torch.from_numpy(norm.cdf(edges.numpy(), mean, std)).diff()
    torch.testing.assert_close(found.exp(), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("side", [-1, 1])
def test_far_in_a_tail_a_bin_has_its_true_logarithm(side):
    """The bin of 0 seen from 40 and from 300 standard deviations away, where probabilities underflow."""
    for far in (40.0, 300.0):
        std, half = torch.tensor(1 / far, dtype=torch.float64), 1 / 255
        found = log_bin(torch.zeros(1).double(), torch.tensor([side * 1.0]).double(), std, 256).item()
        near, away = (-(1 - half) * far, -(1 + half) * far)
        expected = log_ndtr(near) + math.log1p(-math.exp(log_ndtr(away) - log_ndtr(near)))
        assert found == pytest.approx(expected, rel=1e-10)


def test_narrow_bins_have_the_density_times_their_width():
    z = torch.linspace(-1, 1, 256, dtype=torch.float64)[100:150]
    found = log_bin(z, torch.zeros_like(z), torch.tensor(2.0).double(), 256)
    torch.testing.assert_close(found, Normal(0, 2.0).log_prob(z) + math.log(2 / 255), rtol=0, atol=1e-5)


def test_pixels_pay_for_their_level_in_the_last_term_alone():
    z = (torch.randint(0, 256, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    eps = normal(5, 1, 4, 4).float()
    ts = TABLE.times(10)
    density, levels = (
        variational_bound(lambda x, t: 0.3 * x, PATH, "eps", z, ts, levels=n, eps=eps) for n in (None, 256)
    )
    assert levels.dtype == torch.float32 and torch.equal(density[:-1], levels[:-1])
    # The last variance of ten steps is wide beside a bin; white and black pixels have open bins, which cost less.
    assert levels[-1].mean() == pytest.approx((density[-1] + math.log2(127.5)).mean().item(), abs=0.03)


def test_a_model_that_knows_nothing_pays_eight_bits_and_one_that_knows_all_for_the_width_of_its_last_step():
    z = (torch.randint(0, 256, (50, 1, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).double()
    options = {"levels": 256, "generator": torch.Generator().manual_seed(1)}
    z[0] = -1
    nothing = variational_bound(lambda x, t: torch.zeros_like(x), PATH, "z", z, TABLE.times(), **options).sum(0)
    everything = variational_bound(lambda x, t: z, PATH, "z", z, TABLE.times(), **options).sum(0)
    assert nothing[1:].min() > 8
    bits = [-math.log2(p) for p in (norm.cdf(1 / 2.55), 2 * norm.cdf(1 / 2.55) - 1)]  # bins of +-1/255, sigma .01
    assert bits == pytest.approx([0.616, 1.713], abs=1e-3)
    assert everything[0].item() == pytest.approx(bits[0] + 2.9e-5, abs=1e-5)  # black: an open bin, and its prior
    assert everything.max().item() == pytest.approx(bits[1], abs=1e-4)


def test_bits_are_counted_by_dimension_with_what_is_padded():
    """A sample twice over has the same bits per dimension, a padded one the mean of both."""
    z, eps, ts = normal(4, 3), normal(4, 3, seed=1), TABLE.times(20)

    def bound(z, eps):
        return variational_bound(lambda x, t: x / 2, PATH, "eps", z, ts, eps=eps).sum(0)

    torch.testing.assert_close(bound(z.repeat(1, 2), eps.repeat(1, 2)), bound(z, eps))
    padding = torch.full((4, 5), -1.0).double()
    known = variational_bound(
        lambda x, t: torch.cat((x[:, :3] / 2, 0 * x[:, 3:]), 1), PATH, "eps", torch.cat((z, padding), 1), ts,
        eps=torch.cat((eps, 0 * padding), 1),
    ).sum(0)  # fmt: skip
    alone = variational_bound(lambda x, t: 0 * x, PATH, "eps", padding, ts, eps=0 * padding).sum(0)
    torch.testing.assert_close(known, (3 * bound(z, eps) + 5 * alone) / 8)


def test_the_bound_repeats_with_its_generator_takes_no_gradient_and_refuses_what_does_not_fit():
    z = normal(3, 2).requires_grad_(True)

    def bound(z=z, ts=None, seed=0, **options):
        ts = grid(5) if ts is None else ts
        generator = torch.Generator().manual_seed(seed)
        return variational_bound(lambda x, t: x / 2, PATH, "eps", z, ts, generator=generator, **options)

    assert torch.equal(bound(), bound()) and not torch.equal(bound(), bound(seed=1)) and not bound().requires_grad
    with pytest.raises(ValueError, match="ts must run from 0 to 1"):
        bound(ts=grid(4)[1:])
    with pytest.raises(ValueError, match="ts must run from 0 to 1"):
        kl_weights(PATH, grid(4)[:-1])
    with pytest.raises(ValueError, match="ts must run from 0 to 1"):
        bound(ts=grid(4).flip(0))
    for wrong in (z, torch.full((3, 2), 1.1), torch.rand(3, 2)):
        with pytest.raises(ValueError, match="z must lie on 256 even levels from -1 to 1"):
            bound(z=wrong, levels=256)
