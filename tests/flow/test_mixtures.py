"""Gaussian mixtures against scipy, autograd, quadrature and their own samples."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from labkit.flow.mixtures import GaussianMixture, petals, ring


def mixture(dim, count=3):
    """Full covariances and unequal weights: the mixture, and the same numbers for numpy."""
    generator = torch.Generator().manual_seed(dim)
    means = 2 * torch.randn(count, dim, dtype=torch.float64, generator=generator)
    factors = torch.randn(count, dim, dim, dtype=torch.float64, generator=generator)
    covs = factors @ factors.mT + 0.2 * torch.eye(dim)
    weights = 1 + torch.arange(count, dtype=torch.float64)
    return GaussianMixture(means, covs, weights), (weights / weights.sum()).numpy(), means.numpy(), covs.numpy()


def scipy_log_prob(x, weights, means, covs):
    parts = [
        math.log(w) + multivariate_normal(m, c).logpdf(x.numpy()) for w, m, c in zip(weights, means, covs, strict=True)
    ]
    return torch.from_numpy(logsumexp(np.stack(parts), axis=0))


def gradient(function, x):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(function(x).sum(), x)[0]


def points(n, dim, scale=3.0):
    return scale * torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("scale", [3.0, 300.0])  # far out every density underflows, only its logarithm does not
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_prob_is_scipys_and_score_its_gradient(dim, scale):
    gm, *numbers = mixture(dim)
    x = points(40, dim, scale)
    torch.testing.assert_close(gm.log_prob(x), scipy_log_prob(x, *numbers), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gm.score(x), gradient(gm.log_prob, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [0.5, torch.tensor([0.5, 0.3, 2.0])], ids=["number", "one each"])
def test_standard_deviations_are_standard_deviations_and_not_variances(spread):
    means = points(3, 2)
    covs = [s**2 * np.eye(2) for s in np.broadcast_to(np.asarray(spread, np.float32), 3).astype(float)]
    expected = scipy_log_prob(points(40, 2), [1 / 3] * 3, means.numpy(), covs)
    # 0.3 is no float32, but both sides start from the same rounded number.
    torch.testing.assert_close(GaussianMixture(means, spread).log_prob(points(40, 2)), expected, rtol=1e-9, atol=1e-9)


def test_a_density_on_the_line_integrates_to_one():
    gm, *_ = mixture(dim=1)
    x = torch.linspace(-60, 60, 20_001, dtype=torch.float64)
    # The trapezoidal rule converges faster than any power for what is smooth and vanishes at both ends.
    assert torch.trapezoid(gm.log_prob(x[:, None]).exp(), x).item() == pytest.approx(1, abs=1e-12)


def test_samples_have_the_weights_means_and_covariances_of_the_mixture():
    n = 200_000
    gm, weights, means, covs = mixture(dim=3)  # in the plane a basis may equal its own transpose
    z, y = gm.sample(n, torch.Generator().manual_seed(0))
    assert z.shape == (n, 3) and z.dtype == torch.float64 and y.dtype == torch.int64
    for k in range(3):
        own = z[y == k]
        # Five standard errors each, as there are 30 numbers: binomial, sqrt(C_ii / m), sqrt((C_ii C_jj + C_ij^2) / m).
        assert abs(len(own) / n - weights[k]) < 5 * math.sqrt(weights[k] * (1 - weights[k]) / n)
        variances = np.diag(covs[k])
        assert (np.abs(own.mean(0).numpy() - means[k]) < 5 * np.sqrt(variances / len(own))).all()
        error = np.sqrt((np.outer(variances, variances) + covs[k] ** 2) / len(own))
        assert (np.abs(np.cov(own.numpy().T) - covs[k]) < 5 * error).all()


def test_samples_repeat_with_their_generator():
    gm, *_ = mixture(dim=2)
    first, again, other = (gm.sample(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def noised(dim):
    """Points, and alpha and beta that differ from sample to sample, pure data and pure noise among them."""
    x = points(12, dim)
    alpha, beta = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    alpha[:2], beta[:2] = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    return x, alpha, beta


@pytest.mark.parametrize("dim", [1, 3])
def test_components_of_the_noised_mixture_are_scipys(dim):
    gm, weights, means, covs = mixture(dim)
    x, alpha, beta = noised(dim)
    log_joint = gm.components(x, alpha, beta).log_joint
    assert log_joint.shape == (12, 3)
    for row, x_i, a, b in zip(log_joint, x, alpha.tolist(), beta.tolist(), strict=True):
        for k in range(3):
            normal = multivariate_normal(a * means[k], a**2 * covs[k] + b**2 * np.eye(dim))
            assert row[k].item() == pytest.approx(math.log(weights[k]) + normal.logpdf(x_i.numpy()), rel=1e-9)


def test_offsets_and_variances_give_the_gradient_of_the_noised_density():
    gm, *_ = mixture(dim=3)
    x, alpha, beta = noised(3)
    parts = gm.components(x, alpha, beta)
    score = gm.combine(parts.log_joint.softmax(dim=1), -parts.offsets / parts.variances)
    expected = gradient(lambda x: gm.components(x, alpha, beta).log_joint.logsumexp(dim=1), x)
    torch.testing.assert_close(score, expected, rtol=1e-9, atol=1e-9)


MEANS, EYES = torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(3), 1.0), r"means must be a finite floating-point tensor of shape \(K, d\); got .* shape \(3,\)"),
        ((MEANS, torch.ones(2)), r"stds_or_covs must be .*\(3,\) or \(3, 2, 2\); got \(2,\)"),
        ((MEANS, torch.ones(3, 2)), r"stds_or_covs must be .*got \(3, 2\)"),
        ((MEANS, EYES[:2]), r"stds_or_covs must be .*got \(2, 2, 2\)"),
        ((MEANS, 1.0, torch.ones(2)), r"weights must be 3 positive numbers; got \[1\.0, 1\.0\]"),
        ((MEANS, 1.0, torch.tensor([1.0, 0.0, 2.0])), r"weights must be 3 positive numbers; got \[1\.0, 0\.0, 2\.0\]"),
        ((MEANS, 1.0, torch.tensor([1.0, math.nan, 2.0])), r"weights must be a finite .* with inf or NaN"),
        ((MEANS, torch.tensor([[1.0, 0.5], [0.0, 1.0]]).expand(3, 2, 2)), "stds_or_covs must be symmetric"),
        ((MEANS, torch.tensor([[1.0, 2.0], [2.0, 1.0]]).expand(3, 2, 2)), "positive definite"),
        ((MEANS, 0.0), "standard deviations above 0"),
        ((MEANS, torch.tensor([1.0, 0.0, 1.0])), "standard deviations above 0"),
    ],
)
def test_shapes_that_do_not_fit_and_spreads_that_are_none_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        GaussianMixture(*arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((MEANS, -0.2), "standard deviations above 0"),
        ((MEANS, torch.tensor([1.0, -1.0, 1.0])), "standard deviations above 0"),
        ((MEANS, math.nan), "standard deviations above 0"),
        ((MEANS, EYES * math.inf), "positive definite"),
        ((MEANS * math.nan, 1.0), "means must be a finite"),
        ((MEANS, 1.0, torch.tensor([1.0, math.inf, 2.0])), "weights"),
    ],
    ids=["negative", "one negative", "nan std", "infinite covariance", "nan means", "infinite weight"],
)
def test_what_is_no_density_is_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        GaussianMixture(*arguments)


@pytest.mark.parametrize("method", ["log_prob", "score"])
@pytest.mark.parametrize("shape", [(2,), (5, 3), (5, 2, 1)], ids=str)
def test_points_of_another_dimension_are_refused(method, shape):
    with pytest.raises(
        ValueError, match=r"x must be a floating-point tensor of shape \(B, 2\); got .*\(" + str(shape)[1:-1]
    ):
        getattr(ring(), method)(torch.zeros(shape))


@pytest.mark.parametrize(("count", "radius", "std"), [(8, 2.0, 0.2), (5, 3.0, 0.5)])
def test_a_ring_has_equal_beads_at_equal_angles_counter_clockwise(count, radius, std):
    gm = ring(count, radius, std)
    as_complex = torch.view_as_complex(gm.means.double().contiguous())
    torch.testing.assert_close(as_complex[0].real.item(), radius, rtol=1e-6, atol=0)
    turns = as_complex.roll(-1) / as_complex  # the same rotation by +2 pi / count leads from each bead to the next
    assert (turns - complex(math.cos(2 * math.pi / count), math.sin(2 * math.pi / count))).abs().max() < 1e-6
    assert (gm.eigenvalues.sqrt() - std).abs().max() < 1e-6 and (gm.weights * count - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("count", "reach", "along", "across"), [(3, 1.0, 0.6, 0.35), (5, 2.0, 0.3, 0.5), (1, 1.0, 0.6, 0.35)]
)
def test_petals_point_outwards_at_equal_angles_counter_clockwise_from_the_top(count, reach, along, across):
    gm = petals(count, reach, along, across)
    assert (gm.means[0] - torch.tensor([0.0, reach])).abs().max() < 1e-6
    as_complex = torch.view_as_complex(gm.means.double().contiguous())
    turns = as_complex.roll(-1) / as_complex
    assert (turns - complex(math.cos(2 * math.pi / count), math.sin(2 * math.pi / count))).abs().max() < 1e-6
    outwards = gm.means / reach
    sideways = outwards.flip(1) * torch.tensor([-1.0, 1.0])
    covs = gm.bases @ torch.diag_embed(gm.eigenvalues) @ gm.bases.mT
    # Eigenvectors: the covariance stretches its own directions and turns neither.
    for directions, std in ((outwards, along), (sideways, across)):
        assert (torch.einsum("kij,kj->ki", covs, directions) - std**2 * directions).abs().max() < 1e-6
    assert (gm.weights * count - 1).abs().max() < 1e-6


def test_samples_of_the_petals_are_long_outwards_and_overlap():
    gm = petals()
    z, y = gm.sample(30_000, torch.Generator().manual_seed(0))
    for label in range(3):
        values, vectors = torch.linalg.eigh(torch.cov(z[y == label].T))
        assert values.sqrt().tolist() == pytest.approx([0.35, 0.6], rel=0.03)  # 5 standard errors sqrt(1 / 2n)
        assert abs(vectors[:, 1] @ gm.means[label]) > 0.999
    closest = torch.cdist(z, gm.means).argmin(1)
    assert 0.02 < (closest != y).float().mean() < 0.3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (ring, "count must be a whole number, at least 1"),
        (petals, "count must be a whole number, at least 1"),
    ],
)
def test_a_shape_of_no_components_is_refused(make, words):
    with pytest.raises(ValueError, match=f"{words}; got 0"):
        make(0)
