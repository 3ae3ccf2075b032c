"""The likelihood of a point under a flow: against densities in closed form, exactly and by random probes."""

import math

import pytest
import torch

from labkit.flow.exact import ExactMarginal
from labkit.flow.likelihood import log_likelihood
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath

COVS = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.4]]], dtype=torch.float64)
PLANE = GaussianMixture(torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=torch.float64), COVS, torch.tensor([0.3, 0.7]))
PLANE_FIELD = ExactMarginal(GaussianPath(), PLANE).velocity
GRID, X = torch.tensor([0.0, 0.5, 1.0]), torch.zeros(4, 2)


def uniform(n):
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def start(n):
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


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


@pytest.mark.parametrize("probes", [0, 2])
def test_a_likelihood_comes_sample_by_sample_for_points_of_any_shape(probes):
    """A linear field of an image (2, 1, 3): log p of the sample is that of its six numbers, each N(0, e^-2)."""
    x = torch.randn(5, 2, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = log_likelihood(lambda x, t: -x, x, uniform(20), probes=probes)
    expected = torch.distributions.Normal(0.0, math.exp(-1)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert not found.requires_grad


@pytest.mark.parametrize(("ts", "came"), [(GRID[:2], r"0 to 0\.5"), (GRID[1:], r"0\.5 to 1"), (GRID.flip(0), "1 to 0")])
def test_a_likelihood_over_anything_but_the_way_from_noise_to_data_is_refused(ts, came):
    with pytest.raises(ValueError, match=f"ts must run from 0 to 1 for a likelihood; got {came}"):
        log_likelihood(lambda x, t: 0 * x, X, ts)


@pytest.mark.parametrize(
    ("x", "ts", "error", "words"),
    [
        (X, GRID[[0, 2, 1]], ValueError, "ts must be increasing"),
        (X, [0.0, 1.0], ValueError, "ts must be a 1-D tensor of at least two times; got list"),
        (X + math.nan, GRID, ValueError, "x must be finite at the start; it holds inf or NaN"),
        (X.long(), GRID, TypeError, r"x must be a floating-point tensor of shape \(B, \.\.\.\)"),
    ],
)
def test_bad_grids_and_points_are_refused_by_name(x, ts, error, words):
    with pytest.raises(error, match=words):
        log_likelihood(lambda x, t: 0 * x, x, ts)


def test_a_negative_number_of_probes_and_a_field_that_broadcasting_would_hide_are_refused():
    with pytest.raises(ValueError, match="probes must be a whole number, at least 0; got -1"):
        log_likelihood(lambda x, t: 0 * x, X, GRID, probes=-1)
    with pytest.raises(ValueError, match=r"the field's value must be shaped like x, \(4, 2\); got \(4, 1\)"):
        log_likelihood(lambda x, t: x[:, :1], X, GRID)
