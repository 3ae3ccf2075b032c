"""Fields made of models: guided by rules, by a worse model or a classifier, and the drift that keeps marginals."""

import math
from functools import partial

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import (
    classifier_guided,
    conditional,
    from_w_prime,
    guided,
    limited,
    plain,
    projected,
    rescaled,
)
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear, SquareRoot, Table
from labkit.flow.solvers import euler_maruyama, rk4, sde_drift, simulate
from labkit.measure.metrics import sliced_w2
from labkit.nn.mlp import MLP
from labkit.nn.unet import UNet

NULL = 3
WEIGHTS = torch.randn(NULL + 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
INTERVAL = (0.3, 0.7)
SCALES = [-1.0, 0.0, 0.5, 1.0, 1.1, 7.5]
RULES = {
    "plain": plain,
    "limited": limited(*INTERVAL),
    "rescaled": rescaled(0.7),
    "projected": projected(),
    "projected on cosine": projected(GaussianPath(Cosine()), eta=0.3),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(x, t, y):
    """A model on images of four channels: every channel depends on all of them, on the time and on the label."""
    return torch.einsum("bij,bjhw->bihw", WEIGHTS[y], torch.sin(x)) + t[:, None, None, None]


def bad(x, t, y):
    """A worse model of the same labels."""
    return 0.5 * toy(x, t, y).flip(1)


def batch():
    """x (6, 4, 2, 2), t (6,) half of it inside INTERVAL, y (6,)."""
    x = torch.randn(6, 4, 2, 2, dtype=torch.float64, generator=seeded())
    return x, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.2], dtype=torch.float64), torch.arange(6) % NULL


def both_branches():
    """x, t, y and the toy model without and with y."""
    x, t, y = batch()
    return x, t, y, toy(x, t, torch.full_like(y, NULL)), toy(x, t, y)


def counted(model=toy):
    """The model, and a list of how many rows each call asked it for."""
    rows = []

    def asked(x, t, y):
        rows.append(len(x))
        return model(x, t, y)

    return asked, rows


def gaussian(mean, std):
    return ExactMarginal(GaussianPath(), GaussianMixture(torch.tensor([[mean]], dtype=torch.float64), std))


def clusters(schedule=None):
    """Two classes in the plane, the first of two clusters."""
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=torch.float64)
    stds, weights = torch.tensor([[0.5, 0.35, 0.4], [0.3, 0.5, 0.2]], dtype=torch.float64)
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(means, stds, weights), torch.tensor([0, 1, 0]))


# Guidance by rules


@pytest.mark.parametrize("w", [0, 1, 0.0, 1.0])
def test_guidance_at_0_and_1_is_one_plain_evaluation(w):
    x, t, y, without, with_y = both_branches()
    model, rows = counted()
    assert torch.equal(guided(model, y, w, NULL)(x, t), with_y if w else without)
    assert rows == [6]
    assert torch.equal(conditional(toy, y)(x, t), with_y)


@pytest.mark.parametrize("w", [-1.0, 0.5, 3.0])
@pytest.mark.parametrize("options", [{}, {"rule": limited(0.0, 1.0)}], ids=["default", "whole interval"])
def test_guidance_is_one_batch_that_equals_two_evaluations_in_every_channel(w, options):
    x, t, y, without, with_y = both_branches()
    model, rows = counted()
    found = guided(model, y, w, NULL, **options)(x, t)
    assert rows == [12]
    # On the line through the two, at w: so much further from `without` as `with_y` is.
    torch.testing.assert_close(found - without, w * (with_y - without), rtol=0, atol=1e-12)
    assert ((found - with_y).abs().amax((0, 2, 3)) > 0.1).all()  # no channel is left unguided


@every_rule
def test_every_rule_is_one_batch_of_both_branches_and_at_1_one_conditional_evaluation(rule):
    x, t, y, _, with_y = both_branches()
    model, rows = counted()
    assert torch.equal(guided(model, y, 1.0, NULL, rule=rule)(x, t), with_y)
    assert rows == [6]
    for w in (3.0, -0.5):
        guided(model, y, w, NULL, rule=rule)(x, t)
    assert rows == [6, 12, 12]


@every_rule
def test_every_rule_gives_u_y_at_1_whatever_u_0_is(rule):
    x, t, _, without, with_y = both_branches()
    for u_0 in (without, 1e6 * without, torch.zeros_like(x)):
        torch.testing.assert_close(rule(u_0, with_y, 1.0, x, t), with_y, rtol=1e-12, atol=1e-12)


@every_rule
@pytest.mark.parametrize("w", SCALES)
def test_every_rule_is_exact_in_the_precision_of_the_model(rule, w):
    """A scale rounded to float32 would be off by 1e-8."""
    x, t, _, without, with_y = both_branches()
    double, single = rule(without, with_y, w, x, t), rule(without.float(), with_y.float(), w, x.float(), t.float())
    assert double.dtype == torch.float64 and single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)
    # Affine in w with whole steps: rule(w) from rule(0) and rule(1), where the rule is affine.
    if rule in (plain, RULES["limited"], RULES["projected"]):
        at_0, at_1 = (rule(without, with_y, k, x, t) for k in (0, 1))
        torch.testing.assert_close(double, at_0 + w * (at_1 - at_0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("w", SCALES)
def test_the_rules_are_the_formulas_of_their_papers_sample_by_sample(w):
    x, t, y, without, with_y = both_branches()
    found = {name: guided(toy, y, w, NULL, rule=rule)(x, t) for name, rule in RULES.items()}
    for i, (u_0, u_y) in enumerate(zip(without, with_y, strict=True)):
        u_w = u_y + (w - 1) * (u_y - u_0)
        inside = INTERVAL[0] <= t[i] <= INTERVAL[1]
        size = (u_y.var() / u_w.var()).sqrt()
        direction = (x[i] + (1 - t[i]) * u_y).flatten()  # the predicted picture on the linear path
        direction = direction / direction.norm()
        across = (u_y - u_0) - (direction @ (u_y - u_0).flatten() * direction).reshape(u_y.shape)
        expected = {
            "plain": u_w,
            "limited": u_w if inside else u_y,
            "rescaled": 0.7 * size * u_w + 0.3 * u_w,
            "projected": u_y + (w - 1) * across,
        }
        for name, value in expected.items():
            torch.testing.assert_close(found[name][i], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_limited_guidance_applies_inside_its_interval_sample_by_sample(w):
    x, t, y, _, with_y = both_branches()
    found = guided(toy, y, w, NULL, rule=limited(*INTERVAL))(x, t)
    inside = torch.tensor([False, True, True, True, False, False])  # both ends belong to it
    assert torch.equal(found[~inside], with_y[~inside])
    torch.testing.assert_close(found[inside], guided(toy, y, w, NULL)(x, t)[inside], rtol=0, atol=1e-12)


def test_rescaling_in_full_keeps_the_size_of_the_conditional_field_and_the_direction_of_guidance():
    x, t, y, _, with_y = both_branches()
    u_w = guided(toy, y, 4.0, NULL)(x, t)
    u = guided(toy, y, 4.0, NULL, rule=rescaled(1.0))(x, t)
    torch.testing.assert_close(u.flatten(1).std(1), with_y.flatten(1).std(1))
    torch.testing.assert_close(torch.cosine_similarity(u.flatten(1), u_w.flatten(1)), torch.ones(6, dtype=x.dtype))
    torch.testing.assert_close(guided(toy, y, 4.0, NULL, rule=rescaled(0.0))(x, t), u_w)
    half = guided(toy, y, 4.0, NULL, rule=rescaled(0.5))(x, t)
    torch.testing.assert_close(half, (u + u_w) / 2)


@pytest.mark.filterwarnings("error")
def test_rescaling_where_nothing_varies_is_plain_guidance():
    y, w = torch.tensor([0, 1]), 3.0
    fresh = UNet(1, 3, widths=(8,), emb_dim=8)  # gives 0 until it is trained
    found = guided(fresh, y, w, rule=rescaled())(torch.randn(2, 1, 8, 8, generator=seeded()), torch.full((2,), 0.5))
    assert torch.equal(found, torch.zeros_like(found))
    exact = gaussian(0.5, 0.3)  # one number a sample has no spread
    x, t = torch.ones(2, 1, dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)

    def model(x, t, y):
        return exact.velocity(x, t) + y[:, None]

    torch.testing.assert_close(guided(model, y, w, 3, rule=rescaled(1.0))(x, t), guided(model, y, w, 3)(x, t))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_projection_leaves_no_guidance_along_the_predicted_picture(schedule):
    x, t, y, without, with_y = both_branches()
    alpha_t, beta_t, d_alpha_t, d_beta_t = (c[:, None, None, None] for c in schedule(t))
    # the picture from x = alpha z + beta eps and u = d_alpha z + d_beta eps, by a 2x2 solve
    matrix = torch.stack((torch.cat((alpha_t, beta_t), -1), torch.cat((d_alpha_t, d_beta_t), -1)), -2)[:, 0, 0]
    pair = torch.stack((x.flatten(1), with_y.flatten(1)), 1)
    z_y = torch.linalg.solve(matrix, pair)[:, 0]
    extra = (guided(toy, y, 3.0, NULL, rule=projected(GaussianPath(schedule)))(x, t) - with_y).flatten(1)
    assert extra.norm(dim=1).min() > 0.1
    torch.testing.assert_close((extra * z_y).sum(1), torch.zeros(6, dtype=x.dtype), rtol=0, atol=1e-9)
    # what is missing from plain guidance is parallel to the picture
    removed = 2 * (with_y - without).flatten(1) - extra
    torch.testing.assert_close(torch.cosine_similarity(removed, z_y).abs(), torch.ones(6, dtype=x.dtype))


def test_projection_with_eta_1_is_plain_guidance_and_of_no_picture_too():
    x, t, y, without, with_y = both_branches()
    torch.testing.assert_close(
        guided(toy, y, 3.0, NULL, rule=projected(eta=1.0))(x, t), guided(toy, y, 3.0, NULL)(x, t)
    )
    x = -(1 - t)[:, None, None, None] * with_y  # on the linear path, so that the predicted picture is black
    torch.testing.assert_close(projected()(without, with_y, 3.0, x, t), plain(without, with_y, 3.0, x, t))


def test_a_rule_of_ones_own_gets_both_branches_the_scale_the_point_and_the_time():
    x, t, y, without, with_y = both_branches()
    seen = []

    def rule(u_0, u_y, w, x, t):
        seen.append((u_0, u_y, w, x, t))
        return u_y - u_0

    assert torch.equal(guided(toy, y, 0, NULL, rule=rule)(x, t), with_y - without)  # at w=0 too both are evaluated
    ((u_0, u_y, w, *where),) = seen
    assert torch.equal(u_0, without) and torch.equal(u_y, with_y) and w == 0 and where[0] is x and where[1] is t
    with pytest.raises(ValueError, match=r"the rule's value must be shaped like x, \(6, 4, 2, 2\); got \(6,\)"):
        guided(toy, y, 2.0, NULL, rule=lambda u_0, u_y, w, x, t: t)(x, t)


# Autoguidance


@pytest.mark.parametrize("w", [-2.0, 0.0, 1.0, 1.5, 7.0])
def test_autoguidance_by_an_equal_model_is_the_conditional_field(w):
    x, t, y, _, with_y = both_branches()
    torch.testing.assert_close(guided(toy, y, w, bad=toy)(x, t), with_y, rtol=0, atol=1e-12)


def test_autoguidance_walks_from_the_bad_model_through_the_good_one():
    x, t, y, _, with_y = both_branches()
    at = {w: guided(toy, y, w, bad=bad)(x, t) for w in (0, 1, 3)}
    assert torch.equal(at[0], bad(x, t, y))
    assert torch.equal(at[1], with_y)
    torch.testing.assert_close(at[3] - at[0], 3 * (at[1] - at[0]), rtol=0, atol=1e-12)


def test_autoguidance_evaluates_only_the_models_that_count():
    x, t, y = batch()
    (good, asked), (worse, asked_worse) = counted(), counted(bad)
    counts = {}
    for w, rule in ((1.0, plain), (0.0, plain), (3.0, plain), (0.0, limited(*INTERVAL)), (1.0, limited(*INTERVAL))):
        asked.clear(), asked_worse.clear()
        guided(good, y, w, rule=rule, bad=worse)(x, t)
        counts[w, rule is plain] = asked.copy(), asked_worse.copy()
    assert counts == {
        (1.0, True): ([6], []),
        (0.0, True): ([], [6]),
        (3.0, True): ([6], [6]),
        (0.0, False): ([6], [6]),
        (1.0, False): ([6], []),
    }


def test_a_bad_model_that_explodes_does_no_harm_at_1():
    x, t, y, _, with_y = both_branches()
    assert torch.equal(guided(toy, y, 1.0, bad=lambda x, t, y: x / 0)(x, t), with_y)


@every_rule
def test_any_rule_takes_the_bad_model_in_the_place_of_no_condition(rule):
    x, t, y, _, with_y = both_branches()
    expected = rule(bad(x, t, y), with_y, 2.5, x, t)
    torch.testing.assert_close(guided(toy, y, 2.5, rule=rule, bad=bad)(x, t), expected, rtol=0, atol=1e-12)


# The null, and conditions that do not fit


def test_a_model_with_its_own_null_needs_none_given_and_refuses_a_real_class():
    exact, (x, y, t) = clusters(), (torch.ones(2, 2).double(), torch.tensor([0, 1]), torch.full((2,), 0.4).double())
    torch.testing.assert_close(guided(exact.velocity, y, 3.0)(x, t), guided(exact.velocity, y, 3.0, 2)(x, t))
    for real in (0, 1):
        with pytest.raises(
            ValueError, match=f"null={real} is not what this model takes for `nothing given`: that is 2"
        ):
            guided(exact.velocity, y, 3.0, real)
        with pytest.raises(ValueError, match=f"null={real} is not what this model takes"):
            classifier_guided(exact.velocity, exact.class_logits, y, 3.0, exact.path, real)
    with pytest.raises(ValueError, match="null must be given"):
        guided(toy, y, 3.0)


@pytest.mark.parametrize("network", [MLP(2, 3, width=8), UNet(2, 3, widths=(8,), emb_dim=8)], ids=["MLP", "U-Net"])
@pytest.mark.parametrize("make", [guided, partial(guided, bad=MLP(2, 3, width=8))], ids=["free", "autoguided"])
def test_labels_that_a_network_does_not_know_are_refused_before_anything_is_evaluated(network, make):
    """Inside a network values are not looked at: on a device such a label would end the program."""
    for y, came in ((torch.tensor([0, 4]), "0 to 4"), (torch.tensor([-1, 2]), "-1 to 2")):
        with pytest.raises(ValueError, match=rf"y must hold labels in 0\.\.3; got values from {came}"):
            make(network, y, 2.0)


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("options", [{"null": NULL}, {"bad": bad}], ids=["free", "autoguided"])
def test_a_batch_of_another_length_than_the_condition_is_refused(w, options):
    x, t, y = batch()
    with pytest.raises(ValueError, match=r"y must have 5 rows, one per sample; got shape \(6,\)"):
        guided(toy, y, w, **options)(x[:5], t[:5])
    with pytest.raises(ValueError, match=r"t must have shape \(6,\).*got shape \(1,\)"):
        guided(toy, y, w, **options)(x, t[:1])


# By a classifier


@pytest.mark.parametrize("schedule", [Linear(), SquareRoot(), Cosine(), Table()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("w", [0.0, 1.0, 4.0])
def test_guidance_by_the_exact_classifier_equals_classifier_free_guidance(schedule, w):
    exact = clusters(schedule)
    t = torch.linspace(0.05, 0.95, 40, dtype=torch.float64)
    z, component = exact.mixture.sample(40, seeded())
    x, y = exact.path.sample(z, t, generator=seeded(1)).x_t, exact.labels[component]
    free = guided(exact.velocity, y, w)(x, t)
    with torch.no_grad():  # as inside a solver
        found = classifier_guided(exact.velocity, exact.class_logits, y, w, exact.path)(x, t)
    torch.testing.assert_close(found, free, rtol=0, atol=1e-6)


def test_the_classifier_term_is_finite_at_the_start():
    exact = clusters()
    x, y, t = torch.ones(2, 2).double(), torch.tensor([0, 1]), torch.zeros(2).double()
    found = classifier_guided(exact.velocity, exact.class_logits, y, 3.0, exact.path, 2)(x, t)
    # The field at t=0 is E[z | y] - x, guided like the means.
    torch.testing.assert_close(found, guided(exact.velocity, y, 3.0)(x, t), rtol=0, atol=0.02)  # t_min moves it


def test_the_null_is_no_class_to_guide_to_by_a_classifier():
    exact = clusters()
    with pytest.raises(ValueError, match=r"y must hold labels in 0\.\.1; got values from 0 to 2"):
        classifier_guided(exact.velocity, exact.class_logits, torch.tensor([0, 2]), 3.0, exact.path)


# Flows and SDEs of guided fields


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
        lambda: guided(toy, y, w, bad=toy),
        lambda: classifier_guided(toy, toy, y, w, GaussianPath(), NULL),
    ):
        with pytest.raises((ValueError, TypeError), match=r"w must be a finite number; got (nan|inf|a tensor|'3')"):
            make()


@pytest.mark.parametrize("interval", [(0.7, 0.3), (-0.1, 1.0), (0.0, 1.5), (math.nan, 1.0)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match=rf"interval must be \(lo, hi\) with .*; got \({interval[0]}, "):
        limited(*interval)


def test_numbers_that_do_not_fit_are_refused_by_name():
    y = torch.zeros(3, dtype=torch.int64)
    for t_min in (0, 1, math.nan):
        with pytest.raises(ValueError, match=rf"t_min must lie in \(0, 1\); got {t_min}"):
            classifier_guided(toy, toy, y, 3.0, GaussianPath(), NULL, t_min=t_min)
    with pytest.raises(ValueError, match="sigma must be finite and at least 0; got -1"):
        sde_drift(toy, toy, -1)
    for phi in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match=rf"phi must be a finite number in \[0, 1\]; got {phi}"):
            rescaled(phi)
    for eta in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"eta must be a finite number; got {eta}"):
            projected(eta=eta)


def test_the_drift_refuses_a_sigma_that_gives_no_number_for_each_sample():
    x, t = torch.zeros(2, 3), torch.zeros(2)
    drift = sde_drift(lambda x, t: x, lambda x, t: x, lambda t: 0.5)
    with pytest.raises(TypeError, match=r"sigma\(t\) must return a tensor of shape \(2,\), like t; got float"):
        drift(x, t)


def test_a_guided_field_is_a_field_that_an_sde_can_use_and_whose_condition_is_fixed():
    exact, n = clusters(), 5
    x, t = torch.randn(n, 2, dtype=torch.float64, generator=seeded()), torch.full((n,), 0.4, dtype=torch.float64)
    y = torch.zeros(n, dtype=torch.int64)
    velocity, score = (guided(field, y, 3.0) for field in (exact.velocity, exact.score))
    drift = sde_drift(velocity, score, 0.7)(x, t)
    torch.testing.assert_close(drift, velocity(x, t) + 0.245 * score(x, t))
    by_classifier = classifier_guided(exact.velocity, exact.class_logits, y, 2.0, exact.path)
    for field in (velocity, conditional(exact.velocity, y), by_classifier, sde_drift(velocity, score, 0.7)):
        assert field(x, t).shape == x.shape
        with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
            field(x, t, y)


def test_a_guided_network_can_be_captured_and_transformed():
    torch.manual_seed(0)
    network, y = MLP(2, 3, width=8).double(), torch.tensor([0, 1, 2])
    x, t = torch.randn(3, 2).double(), torch.tensor([0.2, 0.5, 0.9]).double()
    for rule in (plain, RULES["limited"], RULES["rescaled"], RULES["projected"]):
        field = guided(network, y, 2.0, rule=rule)
        if rule in (plain, RULES["projected"]):
            compiled = torch.compile(field, fullgraph=True, backend="eager")
            torch.testing.assert_close(compiled(x, t), field(x, t))
        _, along = torch.func.jvp(lambda x, field=field: field(x, t), (x,), (torch.ones_like(x),))
        step = 1e-6
        torch.testing.assert_close(along, (field(x + step, t) - field(x - step, t)) / (2 * step), rtol=1e-5, atol=1e-7)


def test_the_other_convention_is_one_less():
    x, t, y, without, with_y = both_branches()
    expected = (1 + 2.0) * with_y - 2.0 * without  # as those papers write it
    torch.testing.assert_close(guided(toy, y, from_w_prime(2.0), NULL)(x, t), expected)


def test_a_guided_network_remembers_no_graph_of_its_own():
    """Inside a solver nothing is to be differentiated; the classifier's gradient alone is taken."""
    network, y = MLP(2, 3, width=8), torch.tensor([0, 1])
    classifier = nn.Linear(2, 3)
    x, t = torch.ones(2, 2), torch.full((2,), 0.4)
    with torch.no_grad():
        field = classifier_guided(network, lambda x, t: classifier(x), y, 2.0, GaussianPath())
        assert not field(x, t).requires_grad and not x.requires_grad
    assert all(p.grad is None for p in (*network.parameters(), *classifier.parameters()))
