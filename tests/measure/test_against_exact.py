"""Fields and clouds against laws: Pythagoras for fields, quadrature for the Bayes rate, scaling for the spread."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, multivariate_normal

from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, petals
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Linear, SquareRoot
from labkit.measure.against_exact import cloud_quality, field_error
from labkit.measure.quality import Quality

# Two classes in the plane: class 0 is components 0 and 1, of unequal weight and far apart, class 1 is component 2.
MEANS = torch.tensor([[-1.5, 0.5], [1.2, 0.0], [0.5, -1.5]], dtype=torch.float64)
COVS = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.4, -0.1], [-0.1, 0.6]], [[0.4, 0.0], [0.0, 0.1]]]).double()
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(schedule=None):
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(MEANS, COVS, WEIGHTS), LABELS)


def data(exact, n, seed=0):
    """n real points and their classes."""
    z, component = exact.mixture.sample(n, seeded(seed))
    return z, exact.labels[component]


def one_gaussian(std):
    """N(0, std^2 I) on the linear path: its field is x times `slope`, and E|u|^2 / d is `size`."""
    exact = ExactMarginal(GaussianPath(), GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), std))

    def slope(t):
        return (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2)

    return exact, slope, lambda t: slope(t) ** 2 * (t**2 * std**2 + (1 - t) ** 2)


# Errors of fields.


@pytest.mark.parametrize("schedule", [Linear(), SquareRoot()], ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("c", [0.0, 0.1, -0.5, -1.0, 2.0])
@pytest.mark.parametrize("with_labels", [False, True])
def test_a_field_wrong_by_a_factor_is_wrong_by_it_at_every_time(schedule, c, with_labels):
    exact = pairs(schedule)

    def field(x, t, y=None):
        assert (y is not None) == with_labels
        return (1 + c) * exact.velocity(x, t, y)

    error = field_error(field, exact, times=7, n=30, with_labels=with_labels, generator=seeded())
    torch.testing.assert_close(error.per_t.double(), torch.full((7,), abs(c)).double(), rtol=1e-6, atol=1e-12)
    assert error.overall == pytest.approx(abs(c), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), SquareRoot()], ids=lambda schedule: type(schedule).__name__)
def test_times_are_the_middles_of_equal_intervals_that_fill_the_path(schedule):
    times = []

    def field(x, t):
        assert x.shape == (11, 2) and t.shape == (11,) and t.dtype == x.dtype and (t == t[0]).all()
        times.append(t[0].item())
        return 0 * x

    error = field_error(field, pairs(schedule), times=5, n=11, generator=seeded())
    width = schedule.t_max / 5
    assert times == pytest.approx([width * (k + 0.5) for k in range(5)], rel=1e-6)
    assert error.t.tolist() == pytest.approx(times, rel=1e-6)


def test_points_are_drawn_from_the_path_at_their_time():
    exact, seen = pairs(), {}

    def field(x, t):
        seen[t[0].item()] = x
        return x

    n = 40_000
    field_error(field, exact, times=3, n=n, generator=seeded())
    mean = WEIGHTS @ MEANS
    centred = MEANS - mean
    cov = (WEIGHTS[:, None, None] * (COVS + centred[:, :, None] * centred[:, None])).sum(0)
    assert len(seen) == 3
    for t, x in seen.items():
        expected = t**2 * cov + (1 - t) ** 2 * torch.eye(2)
        assert ((x.mean(0) - t * mean).abs() < 5 * (expected.diag() / n).sqrt()).all()
        products = (x - x.mean(0))[:, :, None] * (x - x.mean(0))[:, None]
        assert ((products.mean(0) - expected).abs() < 5 * products.std(0) / n**0.5).all()


def test_the_overall_error_weighs_times_by_the_size_of_the_truth():
    exact, slope, size = one_gaussian(0.5)
    times, n = 10, 50_000

    def late_silence(x, t):
        return torch.where(t[:, None] < 0.5, slope(t)[:, None] * x, 0.0)

    error = field_error(late_silence, exact, times=times, n=n, generator=seeded())
    assert error.per_t[:5].abs().max() < 1e-6 and (error.per_t[5:] - 1).abs().max() < 1e-6
    sizes = size((torch.arange(times) + 0.5) / times)
    expected = math.sqrt(sizes[5:].sum() / sizes.sum())
    assert 0.2 < expected < 0.95 and abs(expected - 0.5**0.5) > 0.05  # not what equal weights would give
    # x has 2n independent coordinates at each time, so sizes are known to a share sqrt(2 / 2n).
    assert error.overall == pytest.approx(expected, rel=4 * math.sqrt(1 / n))


def test_without_labels_the_best_field_misses_what_labels_explain():
    # u(x) = E[u(x | y) | x], so E|u(x | y) - u(x)|^2 = E|u(x | y)|^2 - E|u(x)|^2: Pythagoras, if labels are true.
    exact, n, times = pairs(), 100_000, 4

    def blind(x, t, _y):
        return exact.velocity(x, t)

    error = field_error(blind, exact, times=times, n=n, with_labels=True, generator=seeded())
    for t, found in zip(error.t, error.per_t, strict=True):
        z, y = data(exact, n, seed=5)
        at = t.double().expand(n)
        x = exact.path.sample(z, at, generator=seeded(6)).x_t
        with_y, without = (exact.velocity(x, at, label).square().mean() for label in (y, None))
        assert found.item() ** 2 == pytest.approx(1 - (without / with_y).item(), abs=0.02)
    assert error.per_t.max() > 0.3


def test_another_truth_can_be_asked_for():
    exact = pairs()
    assert field_error(exact.score, exact, truth=exact.score, n=20, generator=seeded()).overall == 0
    assert field_error(exact.velocity, exact, truth=exact.score, n=20, generator=seeded()).overall > 0.1
    doubled = field_error(lambda x, t: 2 * exact.score(x, t), exact, truth=exact.score, n=20, generator=seeded())
    assert doubled.overall == pytest.approx(1)


def test_errors_repeat_with_their_generator_and_take_no_gradient():
    exact, scale = pairs(), torch.nn.Parameter(torch.tensor(0.7))

    def field(x, t):
        return scale * x

    before = torch.get_rng_state()
    first, again, other = (field_error(field, exact, n=50, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.overall == again.overall != other.overall
    assert not first.per_t.requires_grad and first.per_t.shape == (20,)


@pytest.mark.parametrize(("options", "words"), [({"times": 0}, "times"), ({"n": 0}, "n")])
def test_an_error_over_nothing_is_refused(options, words):
    with pytest.raises(ValueError, match=f"{words} must be a whole number, at least 1; got 0"):
        field_error(lambda x, t: x, pairs(), **options)


# Quality and diversity of clouds.


def bayes_rate(weights, means, covs, labels):
    """Share of real points whose class is the most probable one: a sum over a fine grid of scipy's densities."""
    side = np.linspace(-7, 7, 701)
    points = np.stack(np.meshgrid(side, side), axis=-1)
    joint = np.zeros((max(labels) + 1, *points.shape[:2]))
    for weight, mean, cov, label in zip(weights, means, covs, labels, strict=True):
        joint[label] += weight * multivariate_normal(mean, cov).pdf(points)
    assert joint.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-6)
    return joint.max(axis=0).sum() * (side[1] - side[0]) ** 2


def petal_numbers():
    """The three petals written out: means 1 from the origin at 90, 210 and 330 degrees, 0.6 outwards, 0.35 sideways."""
    angles = np.pi / 2 + 2 * np.pi / 3 * np.arange(3)
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles]
    means = [turn @ [1.0, 0.0] for turn in turns]
    return [1 / 3] * 3, means, [turn @ np.diag([0.6**2, 0.35**2]) @ turn.T for turn in turns], [0, 1, 2]


@pytest.mark.parametrize(
    ("exact", "numbers"),
    [
        (ExactMarginal(GaussianPath(), petals()), petal_numbers()),
        (pairs(), (WEIGHTS.tolist(), MEANS.numpy(), COVS.numpy(), LABELS.tolist())),
    ],
    ids=["petals", "classes of several components"],
)
def test_real_data_are_right_at_the_bayes_rate_and_as_varied_as_themselves(exact, numbers):
    n, rate = 40_000, bayes_rate(*numbers)
    assert 0.7 < rate < 0.97
    x, y = data(exact, n)
    quality = cloud_quality(x, y, exact)
    assert quality.n == n and abs(quality.accuracy.value - rate) < 4 * math.sqrt(rate * (1 - rate) / n)
    # The spread is the root of a mean of squares, so its relative error is half that of the mean.
    squares = torch.cat([(x[y == label] - x[y == label].mean(0)).square().sum(1) for label in y.unique()])
    assert abs(quality.spread - 1) < 4 * (squares.std() / squares.mean() / 2 / n**0.5).item()


@pytest.mark.parametrize("label", [0, 1])
def test_the_spread_of_one_class_is_measured_by_its_own_variance(label):
    exact = pairs()
    x, y = data(exact, 40_000)
    x, y = x[y == label], y[y == label]
    squares = (x - x.mean(0)).square().sum(1)
    error = (squares.std() / squares.mean() / 2 / len(x) ** 0.5).item()
    assert abs(cloud_quality(x, y, exact).spread - 1) < 4 * error < 0.04


@pytest.mark.parametrize("c", [0.0, 0.5, 2.0])
def test_a_cloud_drawn_together_by_a_factor_has_that_factor_in_its_spread(c):
    exact = pairs()
    x, y = data(exact, 3000)
    centres = torch.stack([x[y == label].mean(0) for label in (0, 1)])[y]
    before, after = cloud_quality(x, y, exact), cloud_quality(centres + c * (x - centres), y, exact)
    assert after.spread == pytest.approx(c * before.spread, rel=1e-9, abs=1e-9)


def test_the_spread_is_within_classes_wherever_they_are():
    exact = pairs()
    x, y = data(exact, 3000)
    moved = x + torch.tensor([[5.0, 0.0], [-5.0, 3.0]], dtype=x.dtype)[y]
    assert cloud_quality(moved, y, exact).spread == pytest.approx(cloud_quality(x, y, exact).spread, rel=1e-9)


def test_points_are_right_where_their_class_is_the_most_probable_one():
    exact = pairs()
    x, y = MEANS[LABELS == 0].repeat(10, 1), torch.zeros(20, dtype=torch.int64)
    assert cloud_quality(x, y, exact).accuracy.value == 1 and cloud_quality(x, 1 - y, exact).accuracy.value == 0
    x[:5] = MEANS[2]
    assert cloud_quality(x, y, exact).accuracy.value == 0.75


def test_the_interval_is_scipys_wilson_interval():
    exact = pairs()
    x, y = data(exact, 137)
    share = cloud_quality(x, y, exact).accuracy
    interval = binomtest(round(share.value * 137), 137).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_null_label_asks_for_no_class_and_is_refused():
    x = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"y must hold labels in 0\.\.1; got values from 0 to 2"):
        cloud_quality(x, torch.tensor([0, 1, 2]), pairs())
    with pytest.raises(ValueError, match=r"y must have shape \(3,\), one label per sample; got shape \(2,\)"):
        cloud_quality(x, torch.tensor([0, 1]), pairs())


@pytest.mark.parametrize("each", [2, 5])
def test_the_spread_of_real_points_is_one_on_average_however_few_they_are(each):
    exact = pairs()
    z, label = data(exact, 20_000)
    first, second = (z[label == k][: 400 * each].reshape(400, each, 2) for k in (0, 1))
    y = torch.arange(2).repeat_interleave(each)
    # Biased variances would give a mean of 1 - 1/each.
    squares = torch.tensor([cloud_quality(torch.cat(x), y, exact).spread ** 2 for x in zip(first, second, strict=True)])
    assert abs(squares.mean() - 1) < 4 * squares.std() / 20 < 0.2


def test_a_class_with_a_single_point_says_nothing_of_the_spread():
    exact = pairs()
    x, y = data(exact, 50)
    x, y = x[y == 0], y[y == 0]
    more = cloud_quality(torch.cat((x, x[:1])), torch.cat((y, torch.tensor([1]))), exact)
    assert more.spread == cloud_quality(x, y, exact).spread and more.n == len(x) + 1
    alone = cloud_quality(MEANS[1:], torch.tensor([0, 1]), exact)
    assert alone.spread is None and alone.accuracy.value == 1
    assert isinstance(alone, Quality) and alone.frechet is None


# Typical points.


@pytest.mark.parametrize("label", [0, 1])
def test_95_of_100_real_points_of_a_class_are_typical(label):
    exact, n = pairs(), 40_000
    x, y = data(exact, n, seed=3)
    x, y = x[y == label], y[y == label]
    found = cloud_quality(x, y, exact).typical
    # The edge itself comes from 20,000 points.
    assert abs(found - 0.95) < 4 * math.sqrt(0.05 * 0.95 * (1 / len(x) + 1 / 20_000))


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_the_region_of_a_gaussian_is_the_disc_that_chi_squared_gives(std):
    exact = ExactMarginal(GaussianPath(), GaussianMixture(torch.tensor([[1.0, -2.0]]).double(), std))
    radius = std * math.sqrt(-2 * math.log(0.05))  # P(|z - mu| > r) = exp(-r^2 / 2 std^2) in the plane
    angles = torch.linspace(0, 2 * math.pi, 100, dtype=torch.float64)
    ring = torch.stack((angles.cos(), angles.sin()), dim=1)
    y = torch.zeros(100, dtype=torch.int64)
    for factor, share in ((0.0, 1), (0.97, 1), (1.03, 0), (3.0, 0)):
        assert cloud_quality(exact.mixture.means + factor * radius * ring, y, exact).typical == share


def test_a_point_may_be_right_and_not_typical_or_typical_and_not_right():
    exact = ExactMarginal(GaussianPath(), petals())
    far, between = torch.tensor([[0.0, 3.5]]), torch.tensor([[0.05, -0.05]])  # beyond petal 0; where all three meet
    beyond = cloud_quality(far, torch.tensor([0]), exact)
    assert beyond.accuracy.value == 1 and beyond.typical == 0
    middle = [cloud_quality(between, torch.tensor([label]), exact) for label in range(3)]
    assert sum(q.accuracy.value for q in middle) == 1 and [q.typical for q in middle] == [1, 1, 1]


def test_each_point_is_measured_by_the_class_it_was_asked_to_be_of():
    exact = pairs()
    x, y = data(exact, 3000)
    apart = [cloud_quality(x[y == label], y[y == label], exact) for label in (0, 1)]
    together = cloud_quality(x, y, exact).typical
    assert together == pytest.approx(sum(q.n * q.typical for q in apart) / 3000)
    assert cloud_quality(x, 1 - y, exact).typical < 0.5
