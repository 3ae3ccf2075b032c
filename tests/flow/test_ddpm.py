"""The steps of DDPM and DDIM: Bayes' rule, closed forms of Gaussian data, our own solvers, and those of diffusers."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from labkit.flow.ddpm import ancestral, ddim, posterior
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import classifier_guided, guided
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath, complete, convert
from labkit.flow.schedules import Cosine, Linear, SquareRoot, Table, cosine_betas, linear_betas
from labkit.flow.solvers import euler, simulate
from labkit.measure.metrics import sliced_w2
from labkit.measure.samples import draw

TABLE = Table()
PATH = GaussianPath(TABLE)
SCHEDULES = [Linear(), SquareRoot(), Cosine(), TABLE, Table(cosine_betas(30))]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
by_variance = pytest.mark.parametrize("variance", ["small", "large"])
STD = 0.5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def of_step(*steps):
    """The times of steps k of DDPM's table, in float64."""
    return 1 - torch.tensor(steps, dtype=torch.float64) / TABLE.steps


def eps_of(exact):
    """The exact prediction of noise, from the score."""
    return lambda x, t, y=None: -exact.path.schedule(t).beta_t[:, None] * exact.score(x, t, y)


def gaussian(schedule=TABLE):
    """N(0, STD^2) in one dimension."""
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), STD))


def clusters(schedule=TABLE):
    mixture = ring(3)
    return ExactMarginal(GaussianPath(schedule), GaussianMixture(mixture.means.double(), 0.5))


# The posterior


@by_schedule
def test_the_posterior_is_that_of_bayes_rule(schedule):
    """x_t = r x_s + noise makes (x_s, x_t) normal given z; its condition on x_t follows from the covariance alone."""
    t, s = (torch.tensor(times, dtype=torch.float64) for times in ([0.02, 0.3, 0.5, 0.899], [0.05, 0.301, 0.95, 1.0]))
    q = posterior(GaussianPath(schedule), t, s)
    (alpha_t, beta_t, *_), (alpha_s, beta_s, *_) = schedule(t), schedule(s)
    covariance = alpha_t / alpha_s * beta_s**2
    x, z = normal(4), normal(4, seed=1)
    mean = alpha_s * z + covariance / beta_t**2 * (x - alpha_t * z)
    torch.testing.assert_close(q.of_x * x + q.of_z * z, mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(q.small, beta_s**2 - covariance**2 / beta_t**2, rtol=1e-7, atol=1e-15)
    torch.testing.assert_close((alpha_t / alpha_s) ** 2 * beta_s**2 + q.large, beta_t**2, rtol=1e-12, atol=1e-15)
    assert (q.small >= 0).all() and (q.small <= q.large).all() and q.small[-1] < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_neighbours_on_the_table_have_ddpms_own_coefficients(dtype):
    k = torch.arange(1, TABLE.steps + 1)
    beta, abar, before = TABLE.betas[k], TABLE.alpha_bars[k], TABLE.alpha_bars[k - 1]
    q = posterior(PATH, *((1 - at.double() / TABLE.steps).to(dtype) for at in (k, k - 1)))
    expected = {
        "of_x": (1 - beta).sqrt() * (1 - before) / (1 - abar),
        "of_z": before.sqrt() * beta / (1 - abar),
        "small": beta * (1 - before) / (1 - abar),
        "large": beta,
    }
    for name, value in expected.items():
        near = {"rtol": 1e-9, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 2e-3, "atol": 1e-7}
        torch.testing.assert_close(getattr(q, name).double(), value, **near)


def test_both_forms_of_the_posterior_mean_agree():
    """That of x_t and z, and that of x_t and eps, which needs the root of alpha_k, not that of abar_k."""
    k = torch.arange(1, TABLE.steps + 1)
    x, eps = normal(len(k)), normal(len(k), seed=1)
    q = posterior(PATH, of_step(*k), of_step(*(k - 1)))
    mean = q.of_x * x + q.of_z * complete(PATH, x, of_step(*k), eps=eps).z
    beta, abar = TABLE.betas[k], TABLE.alpha_bars[k]
    torch.testing.assert_close(mean, (x - beta / (1 - abar).sqrt() * eps) / (1 - beta).sqrt(), rtol=0, atol=1e-6)


@by_schedule
def test_a_long_step_of_the_chain_is_its_short_ones_in_turn(schedule):
    ts = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    alphas = schedule(ts).alpha_t
    variance = torch.zeros((), dtype=torch.float64)
    for i in range(9, 0, -1):  # from data to noise
        r = alphas[i - 1] / alphas[i]
        variance = r**2 * variance + posterior(GaussianPath(schedule), ts[i - 1 : i], ts[i : i + 1]).large[0]
    whole = posterior(GaussianPath(schedule), ts[:1], ts[-1:])
    torch.testing.assert_close(variance, whole.large[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize(("t", "s"), [([0.5, 0.4], [0.6, 0.3]), ([0.5], [0.5])])
def test_a_posterior_of_what_is_not_later_is_refused(t, s):
    with pytest.raises(ValueError, match="s must be later than t, so ts must be increasing"):
        posterior(PATH, torch.tensor(t), torch.tensor(s))
    with pytest.raises(ValueError, match=r"s must be shaped like t, \(2,\); got \(1,\)"):
        posterior(PATH, torch.zeros(2), torch.ones(1))


# Ancestral sampling


def final_variance(make, ts):
    """The variance of x at the end, from N(0, 1) on: every step is affine in x and in its noise, which is known."""
    xi, one = normal(1, 1), torch.ones(1, 1, dtype=torch.float64)
    variance = 1.0
    for t, s in pairwise(ts):
        at_0, at_1 = (make(generator=seeded())(x, t[None], s[None]) for x in (0 * one, one))
        variance = (at_1 - at_0).item() ** 2 * variance + (at_0 / xi).item() ** 2
    return variance


@pytest.mark.parametrize(("variance", "std"), [("large", 0.5008), ("small", 0.4961)])
def test_a_thousand_exact_steps_end_with_the_standard_deviation_of_the_data(variance, std):
    make = partial(ancestral, eps_of(gaussian()), PATH, "eps", variance=variance)
    found = final_variance(make, of_step(*range(1000, -1, -1))) ** 0.5
    assert found == pytest.approx(std, abs=1e-4) and found == pytest.approx(STD, rel=0.01)


@pytest.mark.parametrize(("schedule", "variance"), [(TABLE, "large"), (TABLE, "small"), (Linear(), "small")])
def test_fewer_steps_miss_the_spread_by_more_and_the_error_falls_with_their_number(schedule, variance):
    exact = gaussian(schedule)
    make = partial(ancestral, exact.velocity, exact.path, "velocity", variance=variance)
    errors = [abs(final_variance(make, torch.linspace(0, 1, n + 1).double()) ** 0.5 - STD) for n in (50, 100, 200, 400)]
    assert all(1.7 < more / less < 2.5 for more, less in pairwise(errors)), errors


@pytest.mark.parametrize("schedule", [TABLE, Cosine()], ids=["table", "cosine"])
@by_variance
def test_the_step_into_the_data_adds_no_noise_and_ends_on_the_predicted_z(schedule, variance):
    exact = clusters(schedule)
    x, t = normal(5, 2), torch.full((5,), 0.9, dtype=torch.float64)
    step = ancestral(exact.velocity, exact.path, "velocity", variance=variance)
    found = step(x, t, torch.ones_like(t))
    torch.testing.assert_close(found, complete(exact.path, x, t, velocity=exact.velocity(x, t)).z, rtol=0, atol=1e-12)
    assert (step(x, t, torch.full_like(t, 0.95)) - step(x, t, torch.full_like(t, 0.95))).abs().min() > 1e-6


@by_variance
def test_samples_of_a_mixture_are_as_near_to_it_as_its_own(variance):
    exact, n = clusters(), 2000
    step = ancestral(eps_of(exact), PATH, "eps", variance=variance, generator=seeded(1))
    found = simulate(step, normal(n, 2), TABLE.times(250))
    real, other = (exact.mixture.sample(n, seeded(seed))[0] for seed in (2, 3))
    floor = sliced_w2(real, other, generator=seeded())
    assert sliced_w2(real, found, generator=seeded()) < 2.5 * floor


def test_the_wrong_root_in_the_mean_explodes():
    """Dividing by the root of abar_k in the place of alpha_k: a widely copied slip."""
    product = 1.0
    for k in range(1000, 986, -1):
        product /= TABLE.alpha_bars[k].sqrt().item()
    assert product > 1e30


# DDIM


@by_schedule
def test_full_eta_is_ancestral_sampling_with_the_small_variance(schedule):
    exact = clusters(schedule)
    ts = torch.linspace(0, 1, 14, dtype=torch.float64)
    found, expected = (
        simulate(make(exact.velocity, exact.path, "velocity", generator=seeded(1)), normal(20, 2), ts)
        for make in (partial(ddim, eta=1.0), ancestral)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_on_the_linear_path_it_is_eulers_method_in_both_directions():
    exact = clusters(Linear())
    for ts in (torch.linspace(0, 1, 12).double(), torch.tensor([0.9, 0.5, 0.45, 0.0]).double()):
        found = simulate(ddim(exact.velocity, exact.path, "velocity"), normal(20, 2), ts, keep=True)
        expected = simulate(euler(exact.velocity), normal(20, 2), ts, keep=True)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [TABLE, Cosine(), SquareRoot()], ids=lambda s: type(s).__name__)
def test_on_any_path_it_is_eulers_method_in_the_share_of_data_for_x_scaled(schedule):
    exact = clusters(schedule)
    eps = convert(exact.velocity, exact.path, "velocity", "eps")
    ts = torch.linspace(0.001, 1, 51, dtype=torch.float64)
    own = simulate(ddim(eps, exact.path, "eps"), normal(20, 2), ts, keep=True)
    alphas, betas, *_ = schedule(ts)
    field = convert(eps, exact.path, "eps", to=GaussianPath())
    scaled = simulate(euler(field), normal(20, 2) / (alphas + betas)[0], alphas / (alphas + betas), keep=True)
    torch.testing.assert_close(own / (alphas + betas)[:, None, None], scaled, rtol=0, atol=1e-10)


def test_data_taken_down_to_noise_come_back():
    exact, ts = clusters(), TABLE.times(500).double()
    z, _ = exact.mixture.sample(50, seeded())
    step = ddim(eps_of(exact), PATH, "eps")
    noise = simulate(step, z, ts.flip(0))
    assert 0.6 < noise.std() < 1.4 and (noise - z).abs().max() > 0.3
    torch.testing.assert_close(simulate(step, noise, ts), z, rtol=0, atol=0.05)


@pytest.mark.parametrize("make", [ancestral, partial(ddim, eta=0.5)], ids=["ancestral", "ddim"])
def test_steps_with_fresh_noise_repeat_with_the_generator_and_do_not_run_backwards(make):
    exact = clusters()
    first, again, other = (
        simulate(make(eps_of(exact), PATH, "eps", generator=seeded(seed)), normal(20, 2), TABLE.times(5))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and (first - other).abs().max() > 0.01
    with pytest.raises(ValueError, match="ts must be increasing"):
        simulate(make(eps_of(exact), PATH, "eps"), normal(20, 2), TABLE.times(5).flip(0))


every_step = pytest.mark.parametrize(
    "make", [ancestral, partial(ancestral, variance="large"), ddim, partial(ddim, eta=0.5)]
)


@every_step
def test_any_prediction_of_the_same_model_gives_the_same_step(make):
    exact = clusters()
    given = {name: convert(exact.velocity, PATH, "velocity", name) for name in ("velocity", "score", "eps", "z")}
    found = [
        simulate(make(model, PATH, name, generator=seeded(1)), normal(20, 2), TABLE.times(20).double())
        for name, model in given.items()
    ]
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=0, atol=1e-7)


@every_step
def test_a_step_moves_each_sample_by_its_own_times_in_its_own_precision_and_any_shape(make):
    x = normal(3, 1, 2, 2)
    t, s = torch.tensor([0.0, 0.3, 0.9]).double(), torch.tensor([0.2, 0.35, 1.0]).double()
    together = make(lambda x, t: x / 2, PATH, "eps", generator=seeded())(x, t, s)
    for i in range(3):  # a batch of one sample, three times, with the same noise
        alone = make(lambda x, t: x / 2, PATH, "eps", generator=seeded())(x[[i] * 3], t[[i] * 3], s[[i] * 3])
        torch.testing.assert_close(together[i], alone[i], rtol=0, atol=1e-14)
    for dtype in (torch.float32, torch.bfloat16):
        assert make(lambda x, t: x / 2, PATH, "eps")(x.to(dtype), t.float(), s.float()).dtype == dtype


@every_step
def test_a_field_that_broadcasting_would_hide_is_refused(make):
    with pytest.raises(ValueError, match=r"the field's value must be shaped like x, \(3, 2\); got \(3, 1\)"):
        simulate(make(lambda x, t: x[:, :1], PATH, "eps"), torch.ones(3, 2), TABLE.times(3))


@every_step
def test_draw_takes_the_step(make):
    exact = clusters()
    y, noise = torch.arange(30) % 3, normal(30, 2)
    step = partial(make, path=PATH, given="eps", generator=seeded(1))
    found = draw(eps_of(exact), noise, y, 2.0, exact.null, step=step, steps=50, decode=lambda x: x)
    field = guided(eps_of(exact), y, 2.0, exact.null)
    expected = simulate(make(field, PATH, "eps", generator=seeded(1)), noise, torch.linspace(0, 1, 51))
    assert torch.equal(found, expected)
    assert torch.equal(torch.cdist(found, exact.mixture.means).argmin(1), y)


# Those of diffusers


def toy(x, t):
    """A network of noise that knows nothing, of images."""
    return 0.7 * x + 0.2 * torch.sin(3 * x) + 0.1 * t[:, None, None, None]


def theirs(scheduler, x, **options):
    """The way of a sample by a scheduler of diffusers, whose timestep is k - 1."""
    path = [x]
    for timestep in scheduler.timesteps:
        t = (1 - (timestep + 1).double() / TABLE.steps).float().expand(len(x))
        path.append(scheduler.step(toy(path[-1], t), int(timestep), path[-1], **options).prev_sample)
    return torch.stack(path)


@by_variance
@pytest.mark.parametrize("steps", [1000, 20])
def test_ancestral_sampling_is_the_ddpm_scheduler_of_diffusers(variance, steps):
    scheduler = DDPMScheduler(1000, variance_type=f"fixed_{variance}", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    x = normal(4, 2, 3, 3).float()
    step = ancestral(toy, PATH, "eps", variance=variance, generator=seeded(1))
    found = simulate(step, x, TABLE.times(steps), keep=True)
    expected = theirs(scheduler, x, generator=seeded(1))
    if (variance, steps) == ("large", 20):  # it leaves noise out at timestep 0, and here the last one is 49
        assert (found[-1] - expected[-1]).abs().max() > 0.1
        found, expected = found[:-1], expected[:-1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # float32, a thousand times


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_is_the_ddim_scheduler_of_diffusers(eta):
    scheduler = DDIMScheduler(1000, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(50)
    x = normal(4, 2, 3, 3).float()
    found = simulate(ddim(toy, PATH, "eps", eta=eta, generator=seeded(1)), x, TABLE.times(50), keep=True)
    torch.testing.assert_close(found, theirs(scheduler, x, eta=eta, generator=seeded(1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "betas"), [("linear", linear_betas), ("squaredcos_cap_v2", cosine_betas)])
def test_tables_and_their_grids_are_those_of_diffusers(kind, betas):
    scheduler = DDPMScheduler(1000, beta_schedule=kind, timestep_spacing="trailing")
    torch.testing.assert_close(Table(betas(1000)).alpha_bars[1:].float(), scheduler.alphas_cumprod, rtol=1e-4, atol=0)
    for steps in (1000, 50, 30, 7):
        scheduler.set_timesteps(steps)
        assert torch.equal(TABLE.step_at(TABLE.times(steps)[:-1]), scheduler.timesteps + 1)


# Guidance by a classifier


@pytest.mark.parametrize("w", [0.0, 1.0, 4.0])
def test_guidance_by_a_classifier_in_velocity_and_in_eps_is_classifier_free_guidance(w):
    """eps - w beta_t grad log p_t(y | x) is what b_t makes of it in velocity; both are the guided exact noise."""
    exact = clusters()
    t = torch.linspace(0.05, 0.95, 40, dtype=torch.float64)
    z, y = exact.mixture.sample(40, seeded())
    x = PATH.sample(z, t, generator=seeded(1)).x_t
    free = guided(eps_of(exact), y, w, exact.null)(x, t)
    leaf = x.clone().requires_grad_(True)
    log_p = exact.class_logits(leaf, t).log_softmax(1).gather(1, y[:, None]).sum()
    (gradient,) = torch.autograd.grad(log_p, leaf)
    in_eps = eps_of(exact)(x, t) - w * TABLE(t).beta_t[:, None] * gradient
    by_classifier = classifier_guided(exact.velocity, exact.class_logits, y, w, PATH)
    torch.testing.assert_close(in_eps, free, rtol=0, atol=1e-6)
    torch.testing.assert_close(complete(PATH, x, t, velocity=by_classifier(x, t)).eps, free, rtol=0, atol=1e-6)


def test_the_older_shift_of_the_mean_agrees_up_to_a_share_of_half_beta():
    """w sigma^2 grad log p(y | x), with sigma^2 large, falls short by the root of alpha_k: by 1% at k=T, less later."""
    exact, w, gaps = clusters(), 2.0, {}
    y = torch.arange(30) % 3
    for k in (1000, 500, 100, 10):
        t, s = (at.expand(30) for at in of_step(k, k - 1).split(1))
        x = normal(30, 2)  # between the clusters, where the classifier doubts

        def mean(field, x=x, t=t, s=s):
            return ancestral(field, PATH, "velocity", variance="small", generator=seeded())(x, t, s)

        leaf = x.clone().requires_grad_(True)
        log_p = exact.class_logits(leaf, t).log_softmax(1).gather(1, y[:, None]).sum()
        (gradient,) = torch.autograd.grad(log_p, leaf)
        shift = mean(guided(exact.velocity, y, w)) - mean(guided(exact.velocity, y, 0.0))
        older = w * posterior(PATH, t, s).large[:, None] * gradient
        gaps[k] = (1 - older.norm() / shift.norm()).item()
        torch.testing.assert_close(older, shift * (1 - gaps[k]), rtol=1e-5, atol=1e-12)
        assert gaps[k] == pytest.approx(TABLE.betas[k].item() / 2, rel=0.02)
    assert gaps[1000] == pytest.approx(0.01, abs=1e-4)
