"""Fields made of models: guidance in all its forms, and the drift that keeps marginals."""

import math

import pytest
import torch
from scipy.integrate import quad

from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import autoguided, classifier_guided, conditional, from_w_prime, guided, projected, rescaled
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear, SquareRoot
from labkit.flow.solvers import euler_maruyama, rk4, sde_drift, simulate
from labkit.measure.metrics import sliced_w2

NULL = 3
WEIGHTS = torch.randn(NULL + 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
INTERVAL = (0.3, 0.7)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(x, t, y):
    """A model on images of four channels: every channel depends on all of them, on the time and on the label."""
    return torch.einsum("bij,bjhw->bihw", WEIGHTS[y], torch.sin(x)) + t[:, None, None, None]


def batch():
    """x (6, 4, 2, 2), t (6,) half of it inside INTERVAL, y (6,)."""
    x = torch.randn(6, 4, 2, 2, dtype=torch.float64, generator=seeded())
    return x, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.2], dtype=torch.float64), torch.arange(6) % NULL


def counted():
    """The toy model, and a list of how many rows each call asked it for."""
    rows = []

    def model(x, t, y):
        rows.append(len(x))
        return toy(x, t, y)

    return model, rows


def gaussian(mean, std):
    return ExactMarginal(GaussianPath(), GaussianMixture(torch.tensor([[mean]], dtype=torch.float64), std))


def clusters(schedule=None):
    """Two classes in the plane, the first of two clusters."""
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=torch.float64)
    stds, weights = torch.tensor([[0.5, 0.35, 0.4], [0.3, 0.5, 0.2]], dtype=torch.float64)
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(means, stds, weights), torch.tensor([0, 1, 0]))


@pytest.mark.parametrize("w", [0, 1, 0.0, 1.0])
def test_guidance_at_0_and_1_is_one_plain_evaluation(w):
    x, t, y = batch()
    model, rows = counted()
    expected = toy(x, t, y if w else torch.full_like(y, NULL))
    assert torch.equal(guided(model, y, w, NULL)(x, t), expected)
    assert rows == [6]
    assert torch.equal(conditional(toy, y)(x, t), toy(x, t, y))


@pytest.mark.parametrize("w", [-1.0, 0.5, 3.0])
@pytest.mark.parametrize("interval", [{}, {"interval": (0.0, 1.0)}], ids=["default", "whole"])
def test_guidance_is_one_batch_that_equals_two_evaluations_in_every_channel(w, interval):
    x, t, y = batch()
    model, rows = counted()
    without, with_y = toy(x, t, torch.full_like(y, NULL)), toy(x, t, y)
    found = guided(model, y, w, NULL, **interval)(x, t)
    assert rows == [12]
    # On the line through the two, at w: so much further from `without` as `with_y` is.
    torch.testing.assert_close(found - without, w * (with_y - without), rtol=0, atol=1e-12)
    assert ((found - with_y).abs().amax((0, 2, 3)) > 0.1).all()  # no channel is left unguided


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_guidance_applies_inside_its_interval_sample_by_sample(w):
    x, t, y = batch()
    model, rows = counted()
    found = guided(model, y, w, NULL, interval=INTERVAL)(x, t)
    inside = torch.tensor([False, True, True, True, False, False])  # both ends belong to it
    assert torch.equal(found[~inside], toy(x, t, y)[~inside])
    torch.testing.assert_close(found[inside], guided(toy, y, w, NULL)(x, t)[inside], rtol=0, atol=1e-12)
    assert rows == [12]


def test_outside_its_interval_guidance_is_one_conditional_evaluation():
    x, t, y = batch()
    model, rows = counted()
    assert torch.equal(guided(model, y, 3.0, NULL, interval=INTERVAL)(x, 0.2 * t), toy(x, 0.2 * t, y))
    assert rows == [6]


@pytest.mark.parametrize("w", [-2.0, 0.0, 1.0, 1.5, 7.0])
def test_autoguidance_by_an_equal_model_is_the_conditional_field(w):
    x, t, y = batch()
    torch.testing.assert_close(autoguided(toy, toy, y, w)(x, t), toy(x, t, y), rtol=0, atol=1e-12)


def test_autoguidance_walks_from_the_bad_model_through_the_good_one():
    x, t, y = batch()
    at = {w: autoguided(toy, lambda x, t, y: x + y[:, None, None, None], y, w)(x, t) for w in (0, 1, 3)}
    assert torch.equal(at[0], x + y[:, None, None, None])
    assert torch.equal(at[1], toy(x, t, y))
    torch.testing.assert_close(at[3] - at[0], 3 * (at[1] - at[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), SquareRoot(), Cosine()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("w", [0.0, 1.0, 4.0])
def test_guidance_by_the_exact_classifier_equals_classifier_free_guidance(schedule, w):
    exact = clusters(schedule)
    t = torch.linspace(0.05, 0.95, 40, dtype=torch.float64)
    z, component = exact.mixture.sample(40, seeded())
    x, y = exact.path.sample(z, t, generator=seeded(1)).x_t, exact.labels[component]
    free = guided(exact.velocity, y, w, exact.num_classes)(x, t)
    with torch.no_grad():  # as inside a solver
        found = classifier_guided(exact.velocity, exact.class_logits, y, w, exact.num_classes, schedule)(x, t)
    torch.testing.assert_close(found, free, rtol=0, atol=1e-6)


def test_the_classifier_term_is_finite_at_the_start():
    exact = clusters()
    x, y, t = torch.ones(2, 2).double(), torch.tensor([0, 1]), torch.zeros(2).double()
    found = classifier_guided(exact.velocity, exact.class_logits, y, 3.0, 2, Linear())(x, t)
    # The field at t=0 is E[z | y] - x, guided like the means.
    torch.testing.assert_close(found, guided(exact.velocity, y, 3.0, 2)(x, t), rtol=0, atol=0.02)  # t_min moves it


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0, 3.0])
def test_the_guided_flow_between_gaussians_ends_with_std_prior_to_1_minus_w_times_class_to_w(w):
    prior, of_class = gaussian(0.0, 1.0), gaussian(1.0, 0.5)

    def model(x, t, y):
        return torch.where((y == 1)[:, None], prior.velocity(x, t), of_class.velocity(x, t))

    def mean_rate(t):  # variation of constants, with c_t the two standard deviations at time t
        c, c_y = math.hypot(t, 1 - t), math.hypot(0.5 * t, 1 - t)
        return w * (1 - t) / c_y**2 * c ** (w - 1) * (0.5 / c_y) ** w

    field = guided(model, torch.zeros(2, dtype=torch.int64), w, null=1)
    x_0, ts = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.linspace(0, 1, 201, dtype=torch.float64)
    low, high = simulate(rk4(field), x_0, ts).flatten().tolist()
    # The flow is affine: where it carries -1 and 1 gives mean and std of the samples without drawing any.
    assert (high - low) / 2 == pytest.approx(0.5**w, rel=1e-6)
    assert (high + low) / 2 == pytest.approx(quad(mean_rate, 0, 1)[0], abs=1e-6)
    assert w != 3 or (high + low) / 2 == pytest.approx(1.5, abs=1e-6)  # beyond every class mean


@pytest.mark.parametrize("sigma", [0.3, 1.0, lambda t: 2 * (1 - t)], ids=["0.3", "1", "falling"])
def test_the_sde_keeps_the_std_of_the_flow_and_without_the_score_it_does_not(sigma):
    exact, n = gaussian(0.0, 0.5), 4000
    x_0, ts = torch.randn(n, 1, dtype=torch.float64, generator=seeded()), torch.linspace(0, 1, 601).double()
    drift = sde_drift(exact.velocity, exact.score, sigma)
    std, wrong = (simulate(euler_maruyama(b, sigma, seeded(1)), x_0, ts).std().item() for b in (drift, exact.velocity))
    tolerance = 4 * 0.5 / (2 * n) ** 0.5  # four standard errors of a standard deviation
    assert std == pytest.approx(0.5, abs=tolerance)
    assert wrong > 0.5 + 2 * tolerance
    if sigma == 1.0:  # noise added at t is carried on to the end times s / c_t; the integral of (s / c_t)^2 is pi s / 2
        assert wrong == pytest.approx((0.25 + math.pi / 4) ** 0.5, abs=2 * tolerance)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
def test_the_samples_of_ode_and_sde_have_one_distribution_the_data(sigma):
    exact, n = clusters(), 3000
    x_0, ts = torch.randn(n, 2, dtype=torch.float64, generator=seeded()), torch.linspace(0, 1, 601).double()
    drift = sde_drift(exact.velocity, exact.score, sigma)
    samples = simulate(euler_maruyama(drift, sigma, seeded(1)), x_0, ts)
    clouds = [exact.mixture.sample(n, seeded(10 + k))[0] for k in range(9)]
    # What two clouds of real data are apart, and four times its spread.
    apart = torch.tensor([sliced_w2(clouds[0], cloud, generator=seeded(2)) for cloud in clouds[1:]])
    assert sliced_w2(clouds[0], samples, generator=seeded(2)) < apart.mean() + 4 * apart.std()
    many = torch.cat(clouds)
    assert ((samples.mean(0) - many.mean(0)).abs() < 4.5 * many.std(0) / n**0.5).all()
    assert (samples.std(0) / many.std(0) - 1).abs().max() < 4.5 / (2 * n) ** 0.5


@pytest.mark.parametrize("w", [math.nan, math.inf, torch.ones(2), "3"], ids=["nan", "inf", "tensor", "text"])
def test_a_scale_that_is_no_finite_number_is_refused(w):
    y = torch.zeros(2, dtype=torch.int64)
    for make in (
        lambda: guided(toy, y, w, NULL),
        lambda: autoguided(toy, toy, y, w),
        lambda: classifier_guided(toy, toy, y, w, NULL, Linear()),
    ):
        with pytest.raises(ValueError, match=r"w must be a finite number; got (nan|inf|tensor|'3')"):
            make()


@pytest.mark.parametrize("interval", [(0.7, 0.3), (-0.1, 1.0), (0.0, 1.5), (math.nan, 1.0)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match=rf"interval must be \(lo, hi\) with .*; got \({interval[0]}, "):
        guided(toy, torch.zeros(2, dtype=torch.int64), 3.0, NULL, interval)


def test_labels_and_numbers_that_do_not_fit_are_refused_by_name():
    x, t, y = torch.zeros(2, 4), torch.zeros(2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"y must have shape \(2,\).*got shape \(3,\)"):
        guided(toy, y, 3.0, NULL)(x, t)
    with pytest.raises(ValueError, match=r"t_min must lie in \(0, 1\); got 0"):
        classifier_guided(toy, toy, y, 3.0, NULL, Linear(), t_min=0)
    with pytest.raises(ValueError, match="sigma must be finite and at least 0; got -1"):
        sde_drift(toy, toy, -1)


def test_a_guided_field_is_a_field_that_an_sde_can_use_and_whose_label_is_fixed():
    exact, n = clusters(), 5
    x, t = torch.randn(n, 2, dtype=torch.float64, generator=seeded()), torch.full((n,), 0.4, dtype=torch.float64)
    y = torch.zeros(n, dtype=torch.int64)
    velocity, score = (guided(field, y, 3.0, exact.num_classes) for field in (exact.velocity, exact.score))
    drift = sde_drift(velocity, score, 0.7)(x, t)
    torch.testing.assert_close(drift, velocity(x, t) + 0.245 * score(x, t))
    for field in (velocity, conditional(exact.velocity, y), autoguided(exact.velocity, exact.velocity, y, 2.0)):
        with pytest.raises(ValueError, match="the label of this field is fixed"):
            field(x, t, y)


def test_the_other_convention_is_one_less():
    y = torch.zeros(3, dtype=torch.int64)
    x, t = torch.randn(3, 4, 2, 2, generator=seeded()).double(), torch.full((3,), 0.5).double()
    with_y, without = toy(x, t, y), toy(x, t, torch.full_like(y, NULL))
    expected = (1 + 2.0) * with_y - 2.0 * without  # as those papers write it
    torch.testing.assert_close(guided(toy, y, from_w_prime(2.0), NULL)(x, t), expected)


def both_branches():
    x, t, y = batch()
    return x, t, y, toy(x, t, torch.full_like(y, NULL)), toy(x, t, y)


@pytest.mark.parametrize("kind", [rescaled, projected])
def test_every_answer_to_large_scales_is_the_conditional_field_at_1_with_one_evaluation(kind):
    model, rows = counted()
    x, t, y = batch()
    torch.testing.assert_close(kind(model, y, 1.0, NULL)(x, t), toy(x, t, y))
    assert rows == [6]
    kind(model, y, 3.0, NULL)(x, t)
    assert rows == [6, 12]


def test_rescaling_in_full_keeps_the_size_of_the_conditional_field_and_the_direction_of_guidance():
    x, t, y, _, with_y = both_branches()
    u_w = guided(toy, y, 4.0, NULL)(x, t)
    u = rescaled(toy, y, 4.0, NULL, phi=1.0)(x, t)
    torch.testing.assert_close(u.flatten(1).std(1), with_y.flatten(1).std(1))
    torch.testing.assert_close(torch.cosine_similarity(u.flatten(1), u_w.flatten(1)), torch.ones(6, dtype=x.dtype))
    torch.testing.assert_close(rescaled(toy, y, 4.0, NULL, phi=0.0)(x, t), u_w)
    half = rescaled(toy, y, 4.0, NULL, phi=0.5)(x, t)
    torch.testing.assert_close(half, (u + u_w) / 2)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_projection_leaves_no_guidance_along_the_predicted_picture(schedule):
    x, t, y, without, with_y = both_branches()
    alpha_t, beta_t, d_alpha_t, d_beta_t = (c[:, None, None, None] for c in schedule(t))
    # the picture from x = alpha z + beta eps and u = d_alpha z + d_beta eps, by a 2x2 solve
    matrix = torch.stack((torch.cat((alpha_t, beta_t), -1), torch.cat((d_alpha_t, d_beta_t), -1)), -2)[:, 0, 0]
    pair = torch.stack((x.flatten(1), with_y.flatten(1)), 1)
    z_y = torch.linalg.solve(matrix, pair)[:, 0]
    extra = (projected(toy, y, 3.0, NULL, schedule)(x, t) - with_y).flatten(1)
    assert extra.norm(dim=1).min() > 0.1
    torch.testing.assert_close((extra * z_y).sum(1), torch.zeros(6, dtype=x.dtype), rtol=0, atol=1e-9)
    removed = (
        2 * (with_y - without).flatten(1) - extra
    )  # what is missing from plain guidance is parallel to the picture
    torch.testing.assert_close(torch.cosine_similarity(removed, z_y).abs(), torch.ones(6, dtype=x.dtype))


def test_projection_with_eta_1_is_plain_guidance():
    x, t, y = batch()
    torch.testing.assert_close(projected(toy, y, 3.0, NULL, eta=1.0)(x, t), guided(toy, y, 3.0, NULL)(x, t))


def test_rescaled_and_projected_refuse_bad_settings_by_name():
    _, _, y = batch()
    with pytest.raises(ValueError, match=r"phi must lie in \[0, 1\]; got 1.5"):
        rescaled(toy, y, 2.0, NULL, phi=1.5)
    with pytest.raises(ValueError, match="eta must be finite; got nan"):
        projected(toy, y, 2.0, NULL, eta=math.nan)
    for kind in (rescaled, projected):
        with pytest.raises(ValueError, match="w must be a finite number; got inf"):
            kind(toy, y, math.inf, NULL)
