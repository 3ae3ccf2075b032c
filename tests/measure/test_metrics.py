"""Metrics against scipy, scikit-learn, torchmetrics, closed forms and extreme cases."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest, entropy, norm
from sklearn.neighbors import BallTree, NearestNeighbors
from torchmetrics.image.fid import FrechetInceptionDistance

from labkit.measure import metrics
from labkit.measure.metrics import (
    Share,
    density_coverage,
    frechet_distance,
    neighbour_radii,
    share,
    sliced_w2,
    vendi_score,
)


def normal(n, dim, seed=0):
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "m"), [(50, 50), (3, 5), (30, 20), (7, 4)])
def test_on_a_line_sliced_w2_is_the_cheapest_assignment(n, m):
    x, y = normal(n, 1), 2 * normal(m, 1, seed=1) + 1
    common = math.lcm(n, m)  # repeating the points changes neither distribution
    a, b = x.repeat(common // n, 1), y.repeat(common // m, 1)
    cost = torch.cdist(a, b).square().numpy()
    expected = math.sqrt(cost[linear_sum_assignment(cost)].mean())
    assert sliced_w2(x, y) == pytest.approx(expected, rel=1e-10)


def test_on_a_line_sliced_w2_of_two_normals_is_their_closed_form():
    quantiles = torch.from_numpy(norm.ppf((np.arange(20_000) + 0.5) / 20_000))[:, None]
    # W2^2 = (m_1 - m_2)^2 + (s_1 - s_2)^2; cutting off the tails costs a few 1e-5.
    assert sliced_w2(1 + 0.5 * quantiles, 2.5 * quantiles - 2) == pytest.approx(math.hypot(3, 2), rel=1e-4)


def test_sliced_w2_of_a_shifted_cloud_is_the_shift_over_the_root_of_the_dimension():
    x, shift = normal(40, 3), torch.tensor([1.0, -2.0, 2.0])
    distance = sliced_w2(x, x + shift, projections=20_000, generator=torch.Generator().manual_seed(0))
    # E (shift . direction)^2 = |shift|^2 / d, relative variance 4/5 in d = 3: four standard errors of its root.
    assert distance == pytest.approx(3 / math.sqrt(3), rel=2 * math.sqrt(0.8 / 20_000))


def test_sliced_w2_is_a_distance_between_sets_that_repeats_with_its_generator():
    x, y = normal(40, 3), normal(30, 3, seed=1)
    assert sliced_w2(x, x.flip(0)) == 0
    there, back, other = (
        sliced_w2(a, b, generator=torch.Generator().manual_seed(s)) for a, b, s in ((x, y, 0), (y, x, 0), (x, y, 1))
    )
    assert there == pytest.approx(back, rel=1e-12) and there != other


def with_moments(x, mean, cov):
    """The cloud, moved so that its sample mean and covariance are exactly these."""
    white = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ torch.linalg.cholesky(cov).T + mean


def test_frechet_distance_of_covariances_with_common_axes_is_the_closed_form():
    axes = torch.linalg.qr(normal(3, 3, seed=2)).Q
    stds = torch.tensor([[1.0, 2.0, 3.0], [2.0, 0.5, 3.0]], dtype=torch.float64)
    real, fake = (
        with_moments(normal(50, 3, seed=k), float(k) * torch.ones(3), axes * stds[k] ** 2 @ axes.T) for k in (0, 1)
    )
    # |1 - 0|^2 in three coordinates and the squared differences of the standard deviations.
    assert frechet_distance(real, fake) == pytest.approx(3 + 1 + 1.5**2, rel=1e-9)


@pytest.mark.parametrize("dim", [1, 5])
def test_frechet_distance_is_that_of_torchmetrics(dim):
    identity = torch.nn.Identity()
    identity.num_features = dim
    metric = FrechetInceptionDistance(feature=identity, normalize=True)
    real, fake = normal(60, dim), normal(40, dim, seed=1) @ normal(dim, dim, seed=2) + 1
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert frechet_distance(real, fake) == pytest.approx(metric.compute().item(), rel=1e-9)
    assert frechet_distance(fake, real) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_frechet_distance_of_a_shifted_cloud_is_the_shift_squared_even_with_fewer_points_than_dimensions():
    x, shift = normal(10, 30), normal(1, 30, seed=1)
    # The 20 missing directions have eigenvalues of about 1e-15, and roots of about 3e-8.
    assert frechet_distance(x, x + shift) == pytest.approx(shift.square().sum().item(), abs=1e-5)


def radii(points, k):
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors()[0][:, -1]  # of a point itself no neighbour


def in_balls(centres, points, k):
    """scikit-learn's answer: for every centre the points inside the ball out to its k-th neighbour."""
    return BallTree(points).query_radius(centres, r=radii(centres, k))


@pytest.mark.parametrize("rows", [7, 1000])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dim", [2, 8])
def test_shares_of_neighbours_are_scikit_learns_in_pieces_of_any_size(monkeypatch, dim, k, rows):
    monkeypatch.setattr(metrics, "ROWS", rows)
    real, fake = normal(120, dim), 0.8 * normal(90, dim, seed=1) + 0.3
    counts = np.array([len(inside) for inside in in_balls(real, fake, k)])
    density, coverage = density_coverage(real, fake, k)
    assert density == pytest.approx(counts.sum() / (k * 90))
    assert coverage == pytest.approx((counts > 0).mean())
    assert 0 < coverage < 1  # the case is not an extreme one
    found = neighbour_radii(real, k)
    np.testing.assert_allclose(found.numpy(), radii(real, k), rtol=1e-10)
    assert density_coverage(real, fake, k, radii=found) == (density, coverage)
    assert density_coverage(real, fake, k, radii=0 * found) == (0, 0)


def test_a_copy_is_perfect_and_a_cloud_far_away_is_worthless():
    real = normal(100, 4)
    assert density_coverage(real, real.clone())[1] == 1
    assert density_coverage(real, real + 1000) == (0, 0)


def test_mode_collapse_covers_little_however_dense_it_is():
    modes = torch.tensor([-100.0, 100.0]).repeat_interleave(50)[:, None]
    real = normal(100, 2) + modes
    one_mode = normal(100, 2, seed=1)[:50] * 0.1 - 100
    assert density_coverage(real, one_mode).coverage <= 0.5  # the other half holds no sample
    one_point = real[:1] + 1e-6 * normal(50, 2, seed=1)
    density, coverage = density_coverage(real, one_point)
    assert density >= 0.2 and coverage == pytest.approx(5 * density / 100)  # only the balls that hold it, its own too


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks Linux for the peak of its memory")
def test_distances_are_never_held_all_at_once():
    code = """
import torch
from labkit.measure.metrics import density_coverage
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.set_num_threads(1)
density_coverage(torch.randn(600, 4), torch.randn(600, 4))
before = peak()
density_coverage(torch.randn(10_000, 2), torch.randn(100, 2))
print(peak() - before)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(said.stdout) < 400_000  # kilobytes; the matrix of distances in float64 has 800,000


def test_two_draws_of_one_distribution_have_density_one_and_the_coverage_that_theory_expects():
    n, k = 1000, 3
    density, coverage = density_coverage(normal(n, 3), normal(n, 3, seed=1), k)
    # Over 40 other seeds coverage spreads by 0.015 and density by 0.020: four times that.
    assert coverage == pytest.approx(1 - 2**-k, abs=0.06)
    assert density == pytest.approx(1, abs=0.08)


def test_shares_do_not_change_when_both_clouds_move_and_turn_together():
    real, fake = normal(80, 3), 0.8 * normal(60, 3, seed=1)
    turn = torch.linalg.qr(normal(3, 3, seed=2)).Q
    assert density_coverage(real @ turn + 1000, fake @ turn + 1000) == density_coverage(real, fake)


@pytest.mark.parametrize("dim", [4, 9])
def test_vendi_score_counts_orthogonal_directions_and_not_lengths(dim):
    directions = torch.linalg.qr(normal(dim, dim)).Q[:4] * torch.tensor([[1.0], [2.0], [0.1], [30.0]])
    assert vendi_score(directions) == pytest.approx(4)
    assert vendi_score(directions.repeat(3, 1)) == pytest.approx(4)
    assert vendi_score(directions[:1].repeat(20, 1)) == pytest.approx(1)
    assert vendi_score(directions[[0, 0, 0, 1]]) == pytest.approx(math.exp(entropy([0.75, 0.25])))


@pytest.mark.parametrize(("n", "dim"), [(30, 5), (5, 30), (12, 12)])
def test_vendi_score_is_the_entropy_of_the_similarities_eigenvalues(n, dim):
    x = normal(n, dim)
    similarities = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    eigenvalues = np.linalg.eigvalsh(similarities.numpy() / n).clip(min=0)
    assert vendi_score(x) == pytest.approx(np.exp(entropy(eigenvalues)), rel=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 50), (1, 10), (37, 100), (9_876, 10_000), (50, 50)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_the_interval_of_a_share_is_scipys(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    found = share(successes, n, confidence)
    assert found == pytest.approx((successes / n, expected.low, expected.high, n), abs=1e-12)
    assert (found.value, found.low, found.high, found.n) == found


def test_the_interval_is_of_95_percent_unless_asked_for_otherwise():
    assert share(37, 100) == share(37, 100, 0.95) != share(37, 100, 0.9)


def test_a_share_reads_as_a_percentage_with_its_interval():
    found = Share(0.9741, 0.9708, 0.97704, 10_000)
    assert str(found) == f"{found}" == "97.4% (97.1% to 97.7%)"
    assert f"{found:.2%}" == "97.41% (97.08% to 97.70%)" and f"{found:.0%}" == "97% (97% to 98%)"
    assert f"{found!s:>25}" == "   97.4% (97.1% to 97.7%)"


@pytest.mark.parametrize("metric", [sliced_w2, frechet_distance, density_coverage])
def test_sets_that_cannot_be_compared_are_refused_with_their_shapes(metric):
    for x, y in ((normal(9, 2), normal(9, 3)), (normal(9, 2), normal(9, 2)[0]), (normal(9, 2)[None], normal(9, 2))):
        with pytest.raises(ValueError, match=r"(both sets|the (first|second) set) must .* shape \(n, d\).*; got "):
            metric(x, y)
    with pytest.raises(ValueError, match="both sets need at least 2 points; got 9 and 1"):
        metric(normal(9, 2), normal(1, 2))


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_points_are_refused(k):
    for real, fake in ((normal(9, 2), normal(6, 2)), (normal(6, 2), normal(9, 2))):
        with pytest.raises(ValueError, match=rf"k must lie in 1\.\.5, below the number of points; got {k}"):
            density_coverage(real, fake, k)


def test_features_without_a_direction_are_refused():
    with pytest.raises(
        ValueError, match=r"features must be a finite floating-point tensor of shape \(n, d\); got .* shape \(3,\)"
    ):
        vendi_score(torch.ones(3))
    with pytest.raises(ValueError, match=r"features must have shape .*got \(0, 3\)"):
        vendi_score(torch.ones(0, 3))
    with pytest.raises(ValueError, match="features must not hold a zero vector"):
        vendi_score(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("arguments", [(3, 0), (-1, 10), (11, 10), (1, 10, 0.0), (1, 10, 1.0), (math.nan, 10)])
def test_what_is_no_share_is_refused_with_what_came(arguments):
    came = ", ".join(map(str, arguments))
    with pytest.raises(
        (ValueError, TypeError), match=f"need 0 <= successes <= n, .*; got {came}|whole number.* got nan"
    ):
        share(*arguments)
