"""The conditional path, the conversions between its four predictions, and models converted from one to another."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import guided
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import PREDICTIONS, GaussianPath, complete, convert
from labkit.flow.schedules import Coefficients, Cosine, Linear, Schedule, SquareRoot, Table, linear_betas
from labkit.flow.solvers import euler, heun, rk4, simulate
from labkit.nn.mlp import MLP

NAMES = ("z", "eps", "velocity", "score")
SCHEDULES = [Linear(), SquareRoot(), Cosine(), Table()]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def draw(n=50, low=0.02, high=0.98):
    """Data z (n, 2, 3), noise eps and times t, all float64."""
    generator = torch.Generator().manual_seed(0)
    z, eps = torch.randn(2, n, 2, 3, dtype=torch.float64, generator=generator)
    t = low + (high - low) * torch.rand(n, dtype=torch.float64, generator=generator)
    return z, eps, t


@by_schedule
def test_v_t_is_the_time_derivative_of_x_t(schedule):
    z, eps, t = draw()
    path = GaussianPath(schedule)
    _, dx_dt = torch.autograd.functional.jvp(lambda t: path.sample(z, t, eps).x_t, t, torch.ones_like(t))
    torch.testing.assert_close(path.sample(z, t, eps).v_t, dx_dt, rtol=1e-12, atol=1e-12)


@by_schedule
def test_the_conditional_velocity_along_the_path_is_v_t(schedule):
    z, eps, t = draw()
    path = GaussianPath(schedule)
    x_t, v_t, _ = path.sample(z, t, eps)
    torch.testing.assert_close(path.velocity(x_t, z, t), v_t, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES[:3], ids=lambda s: type(s).__name__)  # a table is not smooth
def test_the_conditional_velocity_carries_noise_to_x_t(schedule):
    z, eps, _ = draw(n=5)
    path = GaussianPath(schedule)
    ts = torch.linspace(0, 0.9, 201, dtype=torch.float64)
    arrived = simulate(rk4(lambda x, t: path.velocity(x, z, t)), eps, ts)
    expected = path.sample(z, ts[-1].expand(5), eps).x_t
    torch.testing.assert_close(arrived, expected, rtol=0, atol=1e-6)  # rk4: (0.9 / 200)^4 is below 1e-9


@by_schedule
def test_the_conditional_score_is_the_gradient_of_the_normal_log_density(schedule):
    z, eps, t = draw()
    path = GaussianPath(schedule)
    x = path.sample(z, t, eps).x_t.requires_grad_(True)
    alpha_t, beta_t, *_ = (c[:, None, None] for c in schedule(t))
    (expected,) = torch.autograd.grad(Normal(alpha_t * z, beta_t).log_prob(x).sum(), x)
    torch.testing.assert_close(path.score(x.detach(), z, t), expected, rtol=1e-9, atol=1e-9)


def test_drawn_noise_is_standard_normal_and_repeats_with_the_generator():
    z, t = torch.zeros(100_000, 1), torch.full((100_000,), 0.3)
    path = GaussianPath()
    first, second = (path.sample(z, t, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.eps, second.eps)
    assert first.eps.mean().abs() < 4 / 100_000**0.5  # four standard errors of the mean
    assert (first.eps.std() - 1).abs() < 4 / 200_000**0.5  # and of the standard deviation
    torch.testing.assert_close(first.x_t, 0.7 * first.eps)


def truth(schedule):
    """x, t and the four predictions for one pair (z, eps), each from the path and none from `complete`."""
    z, eps, t = draw()
    path = GaussianPath(schedule)
    x, v, _ = path.sample(z, t, eps)
    log_density = Normal(schedule(t).alpha_t[:, None, None] * z, schedule(t).beta_t[:, None, None])
    leaf = x.clone().requires_grad_(True)
    (score,) = torch.autograd.grad(log_density.log_prob(leaf).sum(), leaf)
    return x, t, {"z": z, "eps": eps, "velocity": v, "score": score}


@by_schedule
@pytest.mark.parametrize("given", NAMES)
def test_each_prediction_determines_the_other_three(schedule, given):
    x, t, expected = truth(schedule)
    prediction = complete(GaussianPath(schedule), x, t, **{given: expected[given]})
    for name in NAMES:
        torch.testing.assert_close(getattr(prediction, name), expected[name], rtol=1e-6, atol=1e-6)


@by_schedule
@pytest.mark.parametrize("given", NAMES)
@pytest.mark.parametrize("through", NAMES)
def test_a_round_trip_returns_any_prediction(schedule, given, through):
    z, eps, t = draw()  # x and the prediction need not belong together
    there = complete(GaussianPath(schedule), z, t, **{given: eps})
    back = complete(GaussianPath(schedule), z, t, **{through: getattr(there, through)})
    torch.testing.assert_close(getattr(back, given), eps, rtol=1e-6, atol=1e-6)


def test_conversions_on_the_linear_path_are_the_textbook_identities():
    x, u, t = draw()
    prediction = complete(GaussianPath(), x, t, velocity=u)
    t = t[:, None, None]
    torch.testing.assert_close(prediction.score, (t * u - x) / (1 - t), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(prediction.z, x + (1 - t) * u, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(prediction.eps, x - t * u, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "t", "given", "read"),
    [
        (Linear(), 1.0, "velocity", "score"),
        (Cosine(), 1.0, "velocity", "score"),
        (Cosine(), 1.0, "z", "eps"),  # where beta_t is no 0 but the rounding of one, 6e-17
        (Cosine(), 1.0, "eps", "score"),
        (Linear(), 1.0, "eps", "score"),
        (Linear(), 1.0, "z", "eps"),
        (SquareRoot(), 1.0, "z", "eps"),
        (SquareRoot(), 1.0, "eps", "velocity"),
        (Linear(), 0.0, "score", "z"),
        (Linear(), 0.0, "eps", "z"),
    ],
)
def test_a_singular_read_raises_and_names_what_is_missing(schedule, t, given, read):
    x, value, times = draw(n=4, high=0.5)
    times[-1] = t  # one bad time in the batch is enough
    prediction = complete(GaussianPath(schedule), x, times, **{given: value})
    with pytest.raises(ValueError, match=rf"{read} is not determined by {given} where .*t runs from"):
        getattr(prediction, read)


@pytest.mark.parametrize(
    ("schedule", "t", "given", "read", "limit"),
    [
        (Linear(), 1.0, "velocity", "z", lambda x, v: x),
        (Linear(), 1.0, "velocity", "eps", lambda x, v: x - v),
        (Linear(), 1.0, "score", "z", lambda x, s: x),
        (Linear(), 0.0, "score", "eps", lambda x, s: -s),
        (Linear(), 0.0, "velocity", "score", lambda x, v: -x),
        (Linear(), 0.0, "z", "velocity", lambda x, z: z - x),
        (SquareRoot(), 1.0, "velocity", "z", lambda x, v: x),
        (SquareRoot(), 1.0, "velocity", "eps", lambda x, v: 0 * x),
        (SquareRoot(), 1.0, "score", "velocity", lambda x, s: x + s / 2),
    ],
)
def test_what_is_determined_at_an_end_is_read_there(schedule, t, given, read, limit):
    x, value, times = draw(n=4)
    prediction = complete(GaussianPath(schedule), x, torch.full_like(times, t), **{given: value})
    torch.testing.assert_close(getattr(prediction, read), limit(x, value), rtol=0, atol=1e-12)


@pytest.mark.parametrize("read", ["velocity", "score"])
def test_the_conditional_fields_refuse_the_end(read):
    z, x, t = draw(n=4)
    with pytest.raises(ValueError, match=rf"{read} is not determined by z where .*; t runs from 1 to 1"):
        getattr(GaussianPath(), read)(x, z, torch.ones_like(t))


def test_the_square_root_score_at_the_end_is_that_of_the_data():
    means = torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
    mixture = GaussianMixture(means, torch.tensor([0.3, 0.6], dtype=torch.float64))
    x, t = torch.linspace(-2, 2, 20, dtype=torch.float64).reshape(10, 2), torch.ones(10, dtype=torch.float64)
    velocity = ExactMarginal(GaussianPath(SquareRoot()), mixture).velocity(x, t)
    torch.testing.assert_close(complete(GaussianPath(SquareRoot()), x, t, velocity=velocity).score, mixture.score(x))


def test_a_model_that_explodes_is_not_said_to_be_at_a_singular_time():
    x, value, t = draw(n=4)
    value[0, 0, 0] = torch.inf
    assert not complete(GaussianPath(), x, t, velocity=value).score.isfinite().all()


@pytest.mark.parametrize("given", [(), ("z", "eps"), NAMES], ids=["none", "two", "all"])
def test_exactly_one_prediction_is_given(given):
    x, value, t = draw(n=4)
    with pytest.raises(ValueError, match=r"give exactly one of velocity, score, eps, z; got \w+"):
        complete(GaussianPath(), x, t, **dict.fromkeys(given, value))


def test_wrong_shapes_types_and_times_are_refused_by_name():
    z, eps, t = draw(n=4)
    path = GaussianPath()
    with pytest.raises(ValueError, match=r"eps must be shaped like x, \(4, 2, 3\); got \(3, 2, 3\)"):
        path.sample(z, t, eps[:3])
    with pytest.raises(ValueError, match=r"z must be shaped like x, \(4, 2, 3\); got \(4, 2, 1\)"):
        path.score(z, z[..., :1], t)
    with pytest.raises(ValueError, match=r"velocity must be shaped like x, \(4, 2, 3\); got \(4, 2\)"):
        complete(GaussianPath(), z, t, velocity=eps[..., 0])
    with pytest.raises(ValueError, match=r"t must have shape \(4,\).*got shape \(4, 1\)"):
        path.sample(z, t[:, None], eps)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\].*got values from .* to 1.2"):
        path.sample(z, torch.full_like(t, 1.2), eps)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\].*got values from .* to 1.2"):
        complete(path, z, torch.full_like(t, 1.2), velocity=eps)
    with pytest.raises(TypeError, match=r"t must be a floating-point tensor.*got 0.5"):
        complete(GaussianPath(), z, 0.5, z=z)


def test_a_schedule_that_keeps_noise_at_the_end_is_no_path():
    class Noisy(Schedule):
        def __call__(self, t):
            return Coefficients(t, 1 - 0.9 * t, torch.ones_like(t), torch.full_like(t, -0.9))

    with pytest.raises(ValueError, match=r"Noisy has .*beta_1 = 0\.1"):
        GaussianPath(Noisy())


def test_a_table_is_a_path_that_starts_with_a_little_of_the_data_and_one_cut_short_is_none():
    z, eps, _ = draw(n=5)
    x_0 = GaussianPath(Table()).sample(z, torch.zeros(5, dtype=torch.float64), eps).x_t
    torch.testing.assert_close(x_0, 0.0063528 * z + (1 - 0.0063528**2) ** 0.5 * eps, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"schedule must leave at most 0\.01 of the data in its noise; Table leaves"):
        GaussianPath(Table(linear_betas(100)[:60]))


# Models of one prediction as models of another


def models(exact):
    """The exact model of each prediction, by Tweedie's formula from the score: none through `complete`."""
    schedule = exact.path.schedule

    def eps(x, t, y=None):
        return -schedule(t).beta_t[:, None] * exact.score(x, t, y)

    def z(x, t, y=None):
        return (x - schedule(t).beta_t[:, None] * eps(x, t, y)) / schedule(t).alpha_t[:, None]

    return {"velocity": exact.velocity, "score": exact.score, "eps": eps, "z": z}


def crowd(schedule, n=30):
    """Eight clusters of four classes in float64, and x ~ p_t at n times with their classes."""
    mixture = ring(8)
    mixture = GaussianMixture(mixture.means.double(), 0.3)
    exact = ExactMarginal(GaussianPath(schedule), mixture, torch.arange(8) // 2)
    z, component = mixture.sample(n, torch.Generator().manual_seed(0))
    t = torch.linspace(0.02, 0.98, n, dtype=torch.float64)
    return exact, exact.path.sample(z, t, generator=torch.Generator().manual_seed(1)).x_t, t, exact.labels[component]


@by_schedule
@pytest.mark.parametrize(("given", "wanted"), list(product(PREDICTIONS, repeat=2)))
def test_a_converted_exact_model_is_the_exact_model_of_the_other_prediction(schedule, given, wanted):
    exact, x, t, y = crowd(schedule)
    model = convert(models(exact)[given], exact.path, given, wanted)
    for condition in (y, None):
        torch.testing.assert_close(model(x, t, condition), models(exact)[wanted](x, t, condition), rtol=1e-8, atol=1e-8)


by_other = pytest.mark.parametrize("other", SCHEDULES, ids=lambda s: f"to {type(s).__name__}")


@by_schedule
@by_other
@pytest.mark.parametrize("given", PREDICTIONS)
def test_an_exact_model_carried_to_another_path_is_the_exact_model_there(schedule, other, given):
    here, (there, x, t, y) = crowd(schedule)[0], crowd(other)
    for wanted in PREDICTIONS:
        model = convert(models(here)[given], here.path, given, wanted, to=there.path)
        for condition in (y, None):
            expected = models(there)[wanted](x, t, condition)
            torch.testing.assert_close(model(x, t, condition), expected, rtol=1e-6, atol=1e-6)


@by_other
@pytest.mark.parametrize(("given", "through"), [("eps", "velocity"), ("velocity", "eps"), ("z", "score")])
def test_a_network_carried_to_another_path_and_back_is_the_network(other, given, through):
    network, here, there = MLP(2, 3).double(), GaussianPath(Table()), GaussianPath(other)
    x, t = torch.randn(30, 2).double(), torch.linspace(0.02, 0.98, 30).double()
    back = convert(convert(network, here, given, through, to=there), there, through, given, to=here)
    torch.testing.assert_close(back(x, t, torch.arange(30) % 4), network(x, t, torch.arange(30) % 4))
    assert back.null == 3


def test_a_model_of_a_table_is_asked_on_the_linear_path_at_its_nearest_end_and_all_is_finite():
    asked, table = [], Table()

    def eps(x, t, y=None):
        asked.append(t)
        return x / 2

    field = convert(eps, GaussianPath(table), "eps", to=GaussianPath())
    least = table.gap / (table.gap + (1 - table.gap**2) ** 0.5)
    t = torch.tensor([0.0, least / 2, least, 0.5, 0.995, 1.0], dtype=torch.float64)
    value = field(torch.ones(6, 2, dtype=torch.float64), t)
    assert value.isfinite().all() and asked[0][:3].max() < 1e-12 and asked[0][-1] == 1
    assert (asked[0].diff() >= -1e-12).all() and 1 - asked[0][4] < 1 / table.steps  # beyond the first entry
    with pytest.raises(ValueError, match=r"velocity is not determined by eps where .*; t runs from 1 to 1"):
        convert(eps, GaussianPath(), "eps", to=GaussianPath(SquareRoot()))(torch.ones(1, 2), torch.ones(1))


def test_sampling_a_tables_model_on_the_linear_path_is_sampling_its_own():
    """Both flows end in the same sample, up to the discretisation of each."""
    exact, *_ = crowd(Table())
    x_0 = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    alpha, beta, *_ = (c.item() for c in exact.path.schedule(torch.zeros(1, dtype=torch.float64)))
    field = convert(models(exact)["eps"], exact.path, "eps", to=GaussianPath())
    ts = torch.linspace(alpha / (alpha + beta), 1, 201, dtype=torch.float64)
    found = simulate(heun(field), x_0 / (alpha + beta), ts)
    # On its own path the noise falls like a square root: many small steps of Euler stop just before the end.
    own = simulate(euler(exact.velocity), x_0, torch.linspace(0, 1, 20_001, dtype=torch.float64))
    torch.testing.assert_close(found, own, rtol=0, atol=0.02)


def test_a_converted_model_gives_velocity_unless_told_otherwise_and_is_the_model_itself_where_nothing_changes():
    exact, x, t, _ = crowd(Cosine())
    torch.testing.assert_close(convert(exact.score, exact.path, "score")(x, t), exact.velocity(x, t))
    network = MLP(2, 3)
    for name in PREDICTIONS:
        assert convert(network, exact.path, name, name) is network


def test_a_converted_network_is_still_a_network_with_its_own_null():
    network = MLP(2, 3, width=8)
    model = convert(network, GaussianPath(), "eps")
    assert isinstance(model, nn.Module) and model.null == 3
    assert {id(p) for p in model.parameters()} == {id(p) for p in network.parameters()}
    assert model.train().training and network.training
    assert not model.eval().training and not network.training
    assert model.double() is model and network.body[0].weight.dtype == torch.float64
    x, t, y = torch.randn(4, 2).double(), torch.full((4,), 0.4).double(), torch.tensor([0, 1, 2, 3])
    model(x, t, y).square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_the_null_of_a_method_and_of_a_converted_model_come_through_a_conversion():
    exact, *_ = crowd(Linear())
    once = convert(exact.score, exact.path, "score", "eps")
    assert once.null == convert(once, exact.path, "eps").null == 4
    assert convert(lambda x, t, y=None: x, exact.path, "eps").null is None


def test_sampling_a_model_of_noise_through_its_conversion_is_sampling_the_velocity():
    exact, _, _, y = crowd(Linear())
    x_0 = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ts = torch.linspace(1e-3, 1 - 1e-3, 21, dtype=torch.float64)  # eps and score determine no velocity at both ends
    for given in ("eps", "score", "z"):
        model = convert(models(exact)[given], exact.path, given)
        found = simulate(heun(guided(model, y, 2.0, exact.null)), x_0, ts)
        expected = simulate(heun(guided(exact.velocity, y, 2.0)), x_0, ts)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_a_conversion_refuses_at_once_a_name_and_when_called_a_time_that_do_not_serve():
    network, x = MLP(2, 3, width=8), torch.zeros(4, 2)
    for given, wanted in (("noise", "velocity"), ("eps", "v")):
        bad = given if given == "noise" else wanted
        with pytest.raises(ValueError, match=f"(given|wanted) must be one of velocity, score, eps, z; got '{bad}'"):
            convert(network, GaussianPath(), given, wanted)
    with pytest.raises(ValueError, match=r"velocity is not determined by eps where .* t runs from 0 to 0"):
        convert(network, GaussianPath(), "eps")(x + 1, torch.zeros(4))
    with pytest.raises(ValueError, match=r"eps must be shaped like x, \(4, 2\); got \(4, 1\)"):
        convert(lambda x, t, y: x[:, :1], GaussianPath(), "eps")(x, torch.full((4,), 0.5))


@pytest.mark.parametrize("to", [None, GaussianPath(Table())], ids=["here", "on a table"])
def test_a_converted_network_can_be_captured_and_transformed(to):
    torch.manual_seed(0)
    model = convert(MLP(2, 3, width=8), GaussianPath(), "eps", to=to).double()
    t = torch.linspace(0.1003, 0.9003, 4).double()  # between the entries of the table, where it bends
    x, y = torch.randn(4, 2).double(), torch.tensor([0, 1, 2, 3])
    expected = model(x, t, y)
    one_by_one = torch.func.vmap(lambda x, t, y: model(x[None], t[None], y[None])[0])(x, t, y)
    torch.testing.assert_close(one_by_one, expected)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x, t, y), expected)
    _, rate = torch.func.jvp(lambda t: model(x, t, y), (t,), (torch.ones_like(t),))
    step = 1e-6
    torch.testing.assert_close(rate, (model(x, t + step, y) - model(x, t - step, y)) / (2 * step), rtol=1e-6, atol=1e-6)
