"""Ground truth: exact marginals of Gaussian mixtures, their loss floors, and the field of a finite data set."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from labkit.flow.exact import EmpiricalMarginal, ExactMarginal
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.schedules import Cosine, Linear, SquareRoot, Table
from labkit.flow.solvers import euler, simulate

MEANS = torch.tensor([[-1.0, 0.5], [1.2, 0.0], [0.0, -1.0]], dtype=torch.float64)
COVS = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.2, -0.1], [-0.1, 0.6]], [[0.4, 0.0], [0.0, 0.1]]]).double()
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MIXTURE = GaussianMixture(MEANS, COVS, WEIGHTS)
LABELS = torch.tensor([0, 1, 0])  # two classes, the first made of two components
SCHEDULES = [Linear(), SquareRoot(), Cosine(), Table()]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
by_class = pytest.mark.parametrize("label", [None, 0, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def marginal(schedule=None):
    return ExactMarginal(GaussianPath(schedule), MIXTURE, LABELS)


def points(exact, n=40):
    """x ~ p_t at n times t."""
    z, t = exact.mixture.sample(n, seeded(1))[0], torch.linspace(0.02, 0.98, n, dtype=torch.float64)
    return exact.path.sample(z, t, generator=seeded(2)).x_t, t


def classes(label, n):
    return None if label is None else torch.full((n,), label)


@by_schedule
@by_class
@pytest.mark.parametrize("time", [0.3, 0.7])
def test_velocity_and_its_variance_are_posterior_moments_of_v_t(schedule, label, time):
    exact = marginal(schedule)
    z, component = exact.mixture.sample(100_000, seeded())
    z = z if label is None else z[LABELS[component] == label]
    t = torch.full((len(z),), time, dtype=torch.float64)
    alpha_t, beta_t, *_ = schedule(t[:1])
    for x in exact.path.sample(z, t, generator=seeded(1)).x_t[:4, None]:
        # Draws of z weighted by p_t(x | z) are draws from the posterior.
        weights = Normal(alpha_t * z, beta_t).log_prob(x).sum(1).softmax(0)
        v = exact.path.velocity(x.expand_as(z), z, t)
        mean = weights @ v
        squares = (v - mean).square().mean(1)
        variance = weights @ squares
        # Standard errors of self-normalised weights; five of them, because there are 200 comparisons.
        error = (weights.square() @ (v - mean).square()).sqrt()
        error_of_variance = (weights.square() @ (squares - variance).square()).sqrt()
        assert error.max() < 0.1
        assert ((exact.velocity(x, t[:1], classes(label, 1))[0] - mean).abs() < 5 * error).all()
        assert (exact.velocity_variance(x, t[:1], classes(label, 1))[0] - variance).abs() < 5 * error_of_variance


@by_schedule
@by_class
def test_density_and_velocity_obey_the_continuity_equation(schedule, label):
    exact = marginal(schedule)
    x, t = points(exact)
    x.requires_grad_(True), t.requires_grad_(True)
    y = classes(label, len(x))
    score, rate = torch.autograd.grad(exact.log_prob(x, t, y).sum(), (x, t))
    u = exact.velocity(x, t, y)
    divergence = sum(torch.autograd.grad(u[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    torch.testing.assert_close(rate, -divergence - (u * score).sum(1), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(exact.score(x, t, y), score, rtol=1e-8, atol=1e-8)


@by_schedule
def test_density_begins_as_noise_ends_as_data_and_integrates_to_one(schedule):
    exact = marginal(schedule)
    side = torch.linspace(-7, 7, 141, dtype=torch.float64)
    x, one = torch.cartesian_prod(side, side), torch.ones(141**2, dtype=torch.float64)
    noise = Normal(0 * x[0], 1 + 0 * x[0]).log_prob(x).sum(1)
    data = MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, COVS)).log_prob(x)
    near = 3 * schedule.gap + 1e-10  # a table leaves a little of the data in the noise
    torch.testing.assert_close(exact.log_prob(x, 0 * one), noise, rtol=0, atol=near)
    torch.testing.assert_close(exact.log_prob(x, one), data, rtol=1e-8, atol=1e-8)
    for label in (None, 0, 1):
        mass = exact.log_prob(x, 0.5 * one, classes(label, len(x))).exp().sum() * (side[1] - side[0]) ** 2
        assert mass.item() == pytest.approx(1, abs=1e-6)  # the trapezoidal rule is spectral on a bump


def test_posterior_is_a_distribution_over_the_components_of_the_class():
    exact = marginal()
    x, t = points(exact, 4000)
    for label, outside in ((None, []), (0, [1]), (1, [0, 2])):
        r = exact.posterior(x, t, classes(label, len(x)))
        torch.testing.assert_close(r.sum(1), torch.ones_like(t))
        assert (r[:, outside] == 0).all()
    r = exact.posterior(x, t)
    assert ((r.mean(0) - WEIGHTS).abs() < 4 * r.std(0) / 4000**0.5).all()  # averaged over p_t it is the prior


@by_schedule
def test_class_fields_average_to_the_unconditional_field(schedule):
    exact = marginal(schedule)
    x, t = points(exact)
    p = exact.class_logits(x, t).exp()
    torch.testing.assert_close(p.sum(1), torch.ones_like(t))
    for field in (exact.velocity, exact.score):
        average = sum(p[:, [k]] * field(x, t, classes(k, len(x))) for k in range(2))
        torch.testing.assert_close(average, field(x, t), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["log_prob", "posterior", "score", "velocity", "velocity_variance"])
def test_the_null_label_means_unconditional_and_rows_are_independent(name):
    exact = marginal(Cosine())
    x, t = points(exact)
    method, y = getattr(exact, name), torch.arange(len(x)) % 3
    torch.testing.assert_close(method(x, t, classes(2, len(x))), method(x, t), rtol=0, atol=1e-12)
    for k in range(3):
        torch.testing.assert_close(method(x, t, y)[y == k], method(x, t, classes(k, len(x)))[y == k])


def test_the_square_root_velocity_is_finite_and_continuous_at_the_end():
    exact = marginal(SquareRoot())
    x, t = points(exact)
    at, before = (exact.velocity(x, torch.full_like(t, end)) for end in (1, 1 - 1e-8))
    torch.testing.assert_close(at, before, rtol=1e-5, atol=1e-5)


@by_schedule
def test_velocity_variance_of_one_gaussian_is_the_residual_of_a_regression(schedule):
    n, t = 200_000, torch.full((200_000,), 0.6, dtype=torch.float64)
    exact = ExactMarginal(GaussianPath(schedule), GaussianMixture(MEANS[:1], COVS[:1]))
    x, v, _ = exact.path.sample(exact.mixture.sample(n, seeded())[0], t, generator=seeded(1))
    # x_t and v_t are jointly Gaussian: the best prediction of v_t is linear, and its residual does not depend on x.
    design = torch.cat((x, torch.ones(n, 1, dtype=torch.float64)), dim=1)
    residual = (v - design @ torch.linalg.lstsq(design, v).solution).square().mean().item()
    assert residual == pytest.approx(exact.velocity_variance(x[:1], t[:1]).item(), rel=0.01)  # 0.2% is one std error


def test_the_denoiser_of_one_point_is_that_point():
    z, x = torch.randn(10, 2, 3, dtype=torch.float64, generator=seeded()).split((1, 9))
    path, t = GaussianPath(Cosine()), torch.linspace(0, 0.9, 9, dtype=torch.float64)
    empirical = EmpiricalMarginal(path, z)
    torch.testing.assert_close(empirical.denoiser(x, t), z.expand_as(x))
    torch.testing.assert_close(empirical.velocity(x, t), path.velocity(x, z.expand_as(x), t))


@pytest.mark.parametrize("label", [None, 0, 1, 2])
def test_samples_of_the_empirical_field_land_on_data_of_their_class(label):
    data, x_0 = torch.randn(220, 2, dtype=torch.float64, generator=seeded()).split((20, 200))
    labels, y = torch.arange(20) % 2, classes(label, 200)
    empirical = EmpiricalMarginal(GaussianPath(), data, labels)
    ts = torch.linspace(0, 1, 301, dtype=torch.float64)  # Euler looks at the field before the end only
    x_1 = simulate(euler(lambda x, t: empirical.velocity(x, t, y)), x_0, ts)
    targets = data if label in (None, 2) else data[labels == label]  # 2 is the null label
    distances = torch.cdist(x_1, targets)
    assert distances.min(1).values.max() < 1e-2
    assert len(distances.argmin(1).unique()) > len(targets) // 2


@by_class
def test_the_denoiser_of_much_data_is_that_of_its_distribution(label):
    exact, generator = marginal(), seeded()
    x, _ = points(exact, 20)
    t, y = torch.full((20,), 0.5, dtype=torch.float64), classes(label, 20)
    draws = [exact.mixture.sample(5_000, generator) for _ in range(16)]
    found = torch.stack([EmpiricalMarginal(exact.path, z, LABELS[k]).denoiser(x, t, y) for z, k in draws])
    error = found.std(0) / 4  # of the mean of 16 data sets
    expected = complete(exact.path, x, t, velocity=exact.velocity(x, t, y)).z
    assert error.max() < 0.05
    assert ((found.mean(0) - expected).abs() < 5 * error).all()


@pytest.mark.parametrize("data", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_fields_work_in_the_precision_of_x_and_leave_their_data_alone(data, dtype):
    z, t = MEANS.to(data), torch.tensor([0.2, 0.5], dtype=dtype)
    x, y = torch.ones(2, 2, dtype=dtype), torch.tensor([0, 2])
    empirical = EmpiricalMarginal(GaussianPath(), z, LABELS)
    exact = ExactMarginal(GaussianPath(), GaussianMixture(z, 0.5), LABELS)
    for field in (empirical.denoiser, empirical.velocity, exact.velocity, exact.score):
        found, expected = field(x, t, y), field(x.double(), t.double(), y)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert empirical.data is z and z.dtype == data


def test_exact_models_say_their_number_of_classes_and_their_null():
    exact, known = marginal(), EmpiricalMarginal(GaussianPath(), MEANS, LABELS)
    assert exact.num_classes == exact.null == known.num_classes == known.null == 2
    unlabelled = EmpiricalMarginal(GaussianPath(), MEANS)
    assert unlabelled.num_classes is unlabelled.null is None


def test_exact_fields_can_be_batched_and_differentiated():
    exact, known = marginal(), EmpiricalMarginal(GaussianPath(), MEANS, LABELS)
    x, t = points(exact, 6)
    y = torch.arange(6) % 3
    for field in (exact.velocity, exact.score, known.velocity):
        one_by_one = torch.func.vmap(lambda x, t, y, field=field: field(x[None], t[None], y[None])[0])(x, t, y)
        torch.testing.assert_close(one_by_one, field(x, t, y))
        _, rate = torch.func.jvp(lambda t, field=field: field(x, t, y), (t,), (torch.ones_like(t),))
        by_grad = torch.autograd.functional.jvp(lambda t, field=field: field(x, t, y), t, torch.ones_like(t))[1]
        torch.testing.assert_close(rate, by_grad)


X, T, Y = torch.zeros(4, 2).double(), torch.zeros(4).double(), torch.zeros(4, dtype=torch.int64)
LINEAR, KNOWN = GaussianPath(), EmpiricalMarginal(GaussianPath(), X, Y)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ExactMarginal(LINEAR, MIXTURE, Y[:2]), r"labels must be int64 of shape \(3,\).*\(2,\)"),
        (lambda: ExactMarginal(LINEAR, MIXTURE, torch.ones(3)), r"labels must be an int64 tensor.*float32"),
        (lambda: ExactMarginal(LINEAR, MIXTURE, 2 * LABELS), r"labels must use every class.*; got \[0, 2\]"),
        (lambda: marginal().score(X[:, :1], T), r"x must be .* of shape \(B, 2\); got .*\(4, 1\)"),
        (lambda: marginal().log_prob(X, T, Y + 3), r"y must hold labels in 0\.\.2; got values from 3 to 3"),
        (lambda: marginal().log_prob(X, T, T), r"y must be an int64 tensor.*float64"),
        (
            lambda: EmpiricalMarginal(LINEAR, Y),
            r"data must be a finite floating-point tensor; got .*int64 and shape \(4,\)",
        ),
        (lambda: EmpiricalMarginal(LINEAR, X, Y[:3]), r"labels must be int64 of shape \(4,\).*\(3,\)"),
        (lambda: EmpiricalMarginal(LINEAR, X, 2 * Y + 1), r"labels must use every class 0\.\.K-1; got \[1\]"),
        (lambda: EmpiricalMarginal(LINEAR, X).velocity(X, T, Y), "y was given, but .* made without labels"),
        (lambda: KNOWN.denoiser(X[:, :1], T), r"x must have shape \(B, 2\); got \(4, 1\)"),
        (lambda: KNOWN.velocity(X, T, Y + 2), r"y must hold labels in 0\.\.1; got values from 2 to 2"),
        (lambda: KNOWN.velocity(X, T + 1), "singular at t=1, where beta_t = 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
