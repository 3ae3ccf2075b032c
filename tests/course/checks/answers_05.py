"""Right and known-wrong answers to the exercises of lesson 05."""
# ruff: noqa: N803 - S and s are names of the lesson

import math
import random
from functools import partial

import numpy as np
import torch

from labkit.base.shapes import expand_t
from labkit.flow.guidance import guided, limited, plain, projected, rescaled

# 05.1: the guided field in one pass


def joined(weights=lambda without, with_y, w: (1 - w) * without + w * with_y, first="null", finish=lambda u: u):
    """The two branches in one batch, the null branch in its `first` or second half."""

    def answer(model, x, t, y, w, null):
        empty = torch.full_like(y, null)
        labels = torch.cat((empty, y) if first == "null" else (y, empty))
        halves = model(torch.cat((x, x)), torch.cat((t, t)), labels).chunk(2)
        without, with_y = halves if first == "null" else halves[::-1]
        return finish(weights(without, with_y, w))

    return answer


def stacked(model, x, t, y, w, null):
    labels = torch.stack((torch.full_like(y, null), y), dim=1).reshape(-1)
    pairs = model(x.repeat_interleave(2, 0), t.repeat_interleave(2), labels).unflatten(0, (len(x), 2))
    return torch.einsum("k,bk...->b...", torch.tensor([1 - w, w]), pairs)


def split_by_length(model, x, t, y, w, null):
    both = model(x.repeat(2, *[1] * (x.ndim - 1)), t.repeat(2), torch.cat([torch.tensor([null] * len(y)), y]))
    return torch.lerp(both[: len(y)], both[len(y) :], w)


def by_loop(model, x, t, y, w, null):
    both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, y * 0 + null]))
    return torch.stack([w * both[k] + (1 - w) * both[k + len(y)] for k in range(len(y))])


def by_library(model, x, t, y, w, null):
    return guided(model, y, w, null)(x, t)


def labels_in_place(model, x, t, y, w, null):
    known = y.clone()
    y.fill_(null)
    u = model(torch.cat((x, x)), torch.cat((t, t)), torch.cat((y, known)))
    return u[: len(x)] + w * (u[len(x) :] - u[: len(x)])


class OnePass:
    def __call__(self, model, x, t, y, w, null):
        with_y, without = model(torch.cat((x, x)), torch.cat((t, t)), torch.cat((y, torch.full_like(y, null)))).chunk(2)
        return with_y + (w - 1) * (with_y - without)


def two_passes(model, x, t, y, w, null):
    return (1 - w) * model(x, t, torch.full_like(y, null)) + w * model(x, t, y)


def interleaved(model, x, t, y, w, null):
    labels = torch.stack((torch.full_like(y, null), y), dim=1).reshape(-1)
    without, with_y = model(x.repeat_interleave(2, 0), t.repeat_interleave(2), labels).chunk(2)
    return (1 - w) * without + w * with_y


def one_time(model, x, t, y, w, null):
    without, with_y = model(torch.cat((x, x)), t, torch.cat((torch.full_like(y, null), y))).chunk(2)
    return (1 - w) * without + w * with_y


def one_label(model, x, t, y, w, null):
    without, with_y = model(torch.cat((x, x)), torch.cat((t, t)), y).chunk(2)
    return (1 - w) * without + w * with_y


def points_once(model, x, t, y, w, null):
    without, with_y = model(x, torch.cat((t, t)), torch.cat((torch.full_like(y, null), y))).chunk(2)
    return (1 - w) * without + w * with_y


def null_of_digits(model, x, t, y, w, null):
    return joined()(model, x, t, y, w, 10)


def chunked_sideways(model, x, t, y, w, null):
    labels = torch.cat((torch.full_like(y, null), y))
    without, with_y = model(torch.cat((x, x)), torch.cat((t, t)), labels).chunk(2, dim=1)
    return (1 - w) * without + w * with_y


def unmixed(model, x, t, y, w, null):
    return model(torch.cat((x, x)), torch.cat((t, t)), torch.cat((torch.full_like(y, null), y)))


# 05.2: our w of a paper's formula


def by_two_numbers(formula, scale):
    return formula(0.0, 1.0, scale)


def by_a_tensor(formula, scale):
    u_0, u_y = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    return ((formula(u_0, u_y, scale) - u_0) / (u_y - u_0)).mean()


def by_a_gradient(formula, scale):
    u = torch.zeros(2, requires_grad=True)
    return torch.autograd.grad(formula(u[0], u[1], scale), u)[0][1]


def by_least_squares(formula, scale):
    u = np.random.default_rng(0).normal(size=(20, 2))
    return np.linalg.lstsq(u, formula(u[:, 0], u[:, 1], scale), rcond=None)[0][1]


def by_a_difference(formula, scale):
    return (formula(2.0, 3.1, scale) - formula(2.0, 3.0, scale)) / 0.1


class Converter:
    def __call__(self, formula, scale):
        return 1 - formula(1.0, 0.0, scale)


def looks_at_zero(formula, scale):
    return scale if formula(0.0, 1.0, 1e-9) < 0.5 else scale + 1


# 05.3: dropped labels


def drop(y, p, null, generator):
    return torch.where(torch.rand(len(y), generator=generator) < p, null, y)


def drop_in_place(y, p, null, generator):
    y[torch.rand(len(y), generator=generator) < p] = null
    return y


def drop_by_bernoulli(y, p, null, generator):
    return y.masked_fill(torch.bernoulli(torch.full(y.shape, p), generator=generator).bool(), null)


def drop_by_loop(y, p, null, generator):
    return torch.stack([y.new_tensor(null) if torch.rand((), generator=generator) < p else label for label in y])


def drop_by_numpy(y, p, null, generator):
    rng = np.random.default_rng(torch.randint(2**31, (), generator=generator).item())
    return np.where(rng.random(len(y)) < p, null, y.numpy())


def drop_by_arithmetic(y, p, null, generator):
    gone = (torch.rand(y.shape, dtype=torch.float64, generator=generator) < p).long()
    return gone * null + (1 - gone) * y


def drop_by_list(y, p, null, generator):
    chances = torch.rand(len(y), generator=generator).tolist()
    return torch.tensor([null if chance < p else label for chance, label in zip(chances, y.tolist(), strict=True)])


def drop_by_places(y, p, null, generator):
    dropped = y.clone()
    dropped[torch.nonzero(torch.rand(len(y), generator=generator) > 1 - p)[:, 0]] = null
    return dropped


def drop_by_choice(y, p, null, generator):
    which = torch.multinomial(torch.tensor([1 - p, p]), len(y), replacement=True, generator=generator)
    return torch.stack((y, torch.full_like(y, null)))[which, torch.arange(len(y))]


class Drop:
    def __call__(self, y, p, null, generator):
        kept = torch.empty(len(y)).uniform_(generator=generator) >= p
        return torch.where(kept, y, torch.full_like(y, null))


def drop_a_drawn_number(y, p, null, generator):  # of places, as many as independent labels would lose
    gone = int(torch.binomial(torch.tensor(float(len(y))), torch.tensor(p), generator=generator))
    dropped = y.clone()
    dropped[torch.randperm(len(y), generator=generator)[:gone]] = null
    return dropped


def masked(mask):
    """Labels dropped where mask(n, p, generator) is true."""
    return lambda y, p, null, generator: torch.where(mask(len(y), p, generator), null, y)


def rand(n, generator):
    return torch.rand(n, generator=generator)


def drop_one_class(y, p, null, generator):
    dropped = y.clone()
    for label in y.unique()[: round(p * len(y.unique()))]:
        dropped[y == label] = null
    return torch.where(rand(len(y), generator) < 0.05, null, dropped)


def drop_and_shuffle(y, p, null, generator):
    return drop(y, p, null, generator)[torch.randperm(len(y), generator=generator)]


def drop_as_floats(y, p, null, generator):
    return torch.where(rand(len(y), generator) < p, float(null), y.float())


def exact_count(n, p, generator):
    return torch.randperm(n, generator=generator) < round(p * n)


def with_global(n, p, generator):
    with torch.random.fork_rng(devices=[]):
        torch.seed()
        return torch.rand(n) < p


def anew(n, p, generator):
    return rand(n, torch.Generator().manual_seed(generator.initial_seed())) < p


def periodic(n, p, generator):
    step = round(1 / p)
    return (torch.arange(n) + int(torch.randint(step, (), generator=generator))) % step == 0


def evenly(n, p, generator):  # the rate is exact, and every stretch of labels loses its part
    return (torch.arange(n) * p + torch.rand((), generator=generator)) % 1 < p


def mirrored(n, p, generator):
    half = rand((n + 1) // 2, generator) < p
    return torch.cat((half, half.flip(0)))[:n]


def never_the_first(n, p, generator):
    return (rand(n, generator) < p) & (torch.arange(n) > 0)


# 05.4: the w for a wanted standard deviation


def by_logarithms(S, s, wanted):
    return math.log(wanted / S) / math.log(s / S)


def by_bisection(S, s, wanted):
    low, high, narrows = -10.0, 10.0, s < S
    for _ in range(60):
        w = (low + high) / 2
        low, high = (w, high) if (S ** (1 - w) * s**w > wanted) == narrows else (low, w)
    return w


def by_newton(S, s, wanted):
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    for _ in range(50):
        miss = (1 - w) * math.log(S) + w * math.log(s) - math.log(wanted)
        (slope,) = torch.autograd.grad(miss, w)
        w = (w - miss / slope).detach().requires_grad_()
    return w


def by_the_ode(S, s, wanted):
    t = np.linspace(0, 1, 4001)
    data, own = ((t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2) for std in (S, s))
    whole, difference = np.trapezoid(data, t), np.trapezoid(own - data, t)
    return (np.log(wanted) - whole) / difference


def by_interpolation(S, s, wanted):
    ws = np.linspace(-10, 10, 200_001)
    return ws[np.abs(S ** (1 - ws) * s**ws - wanted).argmin()]


class Scale:
    def __call__(self, S, s, wanted):
        return torch.log(torch.tensor([wanted / S])) / torch.log(torch.tensor([s / S]))


def tilted(S, s, wanted):
    return (wanted**-2 - S**-2) / (s**-2 - S**-2)


# 05.5: the best w with an interval


def bootstrap(
    size=lambda n: n, take=None, shared=True, level=0.95, draws_of=lambda draws: draws, ends=None, best="all", rng=None
):
    """The bootstrap, and what can go wrong in it."""

    def answer(distance, fakes, draws, generator):
        n = len(next(iter(fakes.values())))
        source = rng(generator) if rng else generator
        draw_rows = take or (lambda n, m, g: torch.randint(n, (m,), generator=g))
        found = []
        for _ in range(draws_of(draws)):
            rows = draw_rows(n, size(n), source)
            found.append(
                min(fakes, key=lambda w: distance(fakes[w][rows if shared else draw_rows(n, size(n), source)]))
            )
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = ends(found) if ends else torch.tensor(found, dtype=torch.float64).quantile(tails).tolist()
        if best == "all":
            return min(fakes, key=lambda w: distance(fakes[w])), low, high
        return {"median": np.median, "mean": np.mean}[best](found).item(), low, high

    return answer


def vectorised(distance, fakes, draws, generator):
    ws, sets = list(fakes), torch.stack(list(fakes.values()))
    rows = torch.randint(sets.shape[1], (draws, sets.shape[1]), generator=generator)
    far = torch.tensor([[distance(sets[k, some]) for some in rows] for k in range(len(ws))])
    found = torch.tensor(ws)[far.argmin(dim=0)].sort().values
    best = min(range(len(ws)), key=lambda k: distance(sets[k]))
    return torch.tensor([ws[best], found[int(0.025 * draws)], found[int(0.975 * draws) - 1]])


def in_numpy(distance, fakes, draws, generator):
    rng, found = np.random.default_rng(generator.initial_seed()), []
    sets = {w: x.numpy() for w, x in fakes.items()}
    n = len(next(iter(sets.values())))
    for _ in range(draws):
        rows = rng.choice(n, n)
        far = {w: distance(x[rows]) for w, x in sets.items()}
        found.append(min(far, key=far.get))
    far = {w: distance(x) for w, x in sets.items()}
    return np.array([min(far, key=far.get), *np.percentile(found, [2.5, 97.5])])


def by_sorting(distance, fakes, draws, generator):
    n, found = len(next(iter(fakes.values()))), []
    best = sorted((distance(x), w) for w, x in fakes.items())[0][1]
    while len(found) < draws:
        rows = (n * torch.rand(n, generator=generator)).long()
        found.append(sorted((distance(x[rows]), w) for w, x in fakes.items())[0][1])
    found.sort()
    return [best, found[round(0.025 * (draws - 1))], found[round(0.975 * (draws - 1))]]


def by_counts(distance, fakes, draws, generator):
    n = len(next(iter(fakes.values())))

    def resampled(counts):
        return min(fakes, key=lambda w: distance(torch.repeat_interleave(fakes[w], counts, dim=0)))

    found = [
        resampled(torch.bincount(torch.multinomial(torch.ones(n), n, True, generator=generator), minlength=n))
        for _ in range(draws)
    ]
    low, high = np.quantile(found, (0.025, 0.975), method="nearest")
    return resampled(torch.ones(n, dtype=torch.int64)), low, high


class Bootstrap:
    def __call__(self, distance, fakes, draws, generator):
        return bootstrap()(distance, fakes, draws, generator)


def first_key_only(distance, fakes, draws, generator):
    best = max(fakes, key=lambda key: distance(fakes[key]))
    return best, 0.9, 1.1


def spread_of(found):
    mean, std = np.mean(found), np.std(found)
    return mean - 1.96 * std, mean + 1.96 * std


def by_global(generator):
    other = torch.Generator()
    other.seed()
    return other


# 05.6: a rule of one's own


def over_time(weight):
    """u_y + (w - 1) weight(t) (u_y - u_0)."""
    return lambda u_0, u_y, w, x, t: u_y + (w - 1) * weight(expand_t(t, x)) * (u_y - u_0)


def projected_null(u_0, u_y, w, x, t):
    a, b = u_0.flatten(1), u_y.flatten(1)
    fit = (a * b).sum(dim=1) / a.square().sum(dim=1).clamp_min(1e-8)
    return u_y + (w - 1) * (u_y - expand_t(fit, x) * u_0)


def in_place(u_0, u_y, w, x, t):
    u_0 *= -1
    u_0 += u_y
    return u_y.add_((w - 1) * u_0)


def capped_push(u_0, u_y, w, x, t):
    push = (w - 1) * (u_y - u_0)
    axes = tuple(range(1, x.ndim))
    size = push.square().sum(dim=axes, keepdim=True).sqrt()
    most = u_y.square().sum(dim=axes, keepdim=True).sqrt()
    return u_y + push * torch.minimum(most / (size + 1e-8), torch.ones_like(size))


def sample_by_sample(u_0, u_y, w, x, t):
    return torch.stack([b + (w - 1) * (1 - time**2) * (b - a) for a, b, time in zip(u_0, u_y, t, strict=True)])


def numpy_rule(u_0, u_y, w, x, t):
    a, b, time = u_0.numpy(), u_y.numpy(), t.numpy().reshape(-1, *[1] * (x.ndim - 1))
    return b + (w - 1) * np.sin(np.pi * time) * (b - a)


def power(u_0, u_y, w, x, t):  # the scale itself grows with time
    scale = torch.exp(math.log(w) * 2 * t) if w > 0 else torch.ones_like(t)
    return u_0 + expand_t(scale, x) * (u_y - u_0)


def soft(u_0, u_y, w, x, t):
    push = (w - 1) * (u_y - u_0)
    return torch.tanh(push / 3) * 3 + u_y


class Ramp(torch.nn.Module):
    def forward(self, u_0, u_y, w, x, t):
        return torch.lerp(u_0, u_y, 1 + 2 * (w - 1) * expand_t(t, x))


def by_name(u_0, u_y, w, x, t, top):
    return plain(u_0, u_y, min(w, top), x, t)


def other_convention(u_0, u_y, w, x, t):
    return (1 + w) * u_y - w * u_0


def exchanged(u_0, u_y, w, x, t):
    return w * u_0 + (1 - w) * u_y


def difference_alone(u_0, u_y, w, x, t):
    return w * (u_y - u_0)


def label_alone(u_0, u_y, w, x, t):
    return u_y


def scaled(u_0, u_y, w, x, t):
    return w * u_y


def backwards(u_0, u_y, w, x, t):
    return u_y - (w - 1) * (u_y - u_0)


def over_the_batch(u_0, u_y, w, x, t):
    u = plain(u_0, u_y, w, x, t)
    return u * u_y.norm() / u.norm().clamp_min(1e-8) if w != 1 else u


def undivided(u_0, u_y, w, x, t):
    a, b = u_0.flatten(1), u_y.flatten(1)
    return u_y + (w - 1) * (u_y - expand_t((a * b).sum(1) / (a * a).sum(1), x) * u_0)


def noisy(u_0, u_y, w, x, t):
    return u_y + (w - 1) * (u_y - u_0 + 0.1 * torch.randn_like(x))


class Momentum:
    def __init__(self):
        self.last = 0.0

    def __call__(self, u_0, u_y, w, x, t):
        self.last = self.last + float((u_y - u_0).abs().mean())
        return u_y + (w - 1) * (1 + self.last) * (u_y - u_0)


def bare_time(u_0, u_y, w, x, t):
    return u_y + (w - 1) * t * (u_y - u_0)


def first_sample(u_0, u_y, w, x, t):
    return plain(u_0, u_y, w, x, t)[:1]


def on_or_off(u_0, u_y, w, x, t):
    return u_y if w == 1 else 2 * u_y - u_0


def special_case(u_0, u_y, w, x, t):
    return u_y if w == 1 else (1 + w) * u_y - w * u_0


def inverse_time(u_0, u_y, w, x, t):
    return u_y + (w - 1) * (u_y - u_0) / expand_t(t, x)


def guided_at_one(u_0, u_y, w, x, t):
    return u_0 + (w + 0.1) * (u_y - u_0)


RIGHT = {
    "05.1": [
        joined(), joined(first="label"), joined(lambda a, b, w: a + w * (b - a), finish=lambda u: u.double()),
        joined(finish=lambda u: u.numpy()), stacked, split_by_length, by_loop, by_library, labels_in_place, OnePass(),
        partial(joined(lambda a, b, w: torch.add(a, b - a, alpha=w))),
    ],
    "05.2": [
        by_two_numbers, by_a_tensor, by_a_gradient, by_least_squares, by_a_difference, Converter(),
        lambda formula, scale: formula(torch.tensor(0.0), torch.tensor(1.0), scale),
        lambda formula, scale: formula(np.zeros(1), np.ones(1), scale),
        lambda formula, scale: (formula(-1, 1, scale) + 1) / 2,
        partial(lambda start, formula, scale: formula(start, start + 1, scale) - start, 5.0),
    ],
    "05.3": [
        drop, drop_in_place, drop_by_bernoulli, drop_by_loop, drop_by_numpy, drop_by_arithmetic, drop_by_list,
        drop_by_places, drop_by_choice, Drop(), drop_a_drawn_number,
        masked(lambda n, p, g: rand(n, g).flip(0) < p),
    ],
    "05.4": [
        by_logarithms, by_bisection, by_newton, by_the_ode, by_interpolation, Scale(),
        lambda S, s, wanted: np.log(wanted / S) / np.log(s / S),
        lambda S, s, wanted: (math.log2(S) - math.log2(wanted)) / (math.log2(S) - math.log2(s)),
        lambda S, s, wanted: math.log(wanted / S, s / S),
        partial(lambda log, S, s, wanted: log(torch.tensor(wanted) / S) / log(torch.tensor(s) / S), torch.log),
    ],
    "05.5": [
        bootstrap(), vectorised, in_numpy, by_sorting, by_counts, Bootstrap(), partial(bootstrap()),
        bootstrap(ends=lambda found: tuple(np.quantile(found, (0.025, 0.975)))),
        bootstrap(ends=lambda found: (sorted(found)[int(0.025 * len(found))], sorted(found)[int(0.975 * len(found))])),
        bootstrap(take=lambda n, m, g: torch.multinomial(torch.ones(n), m, True, generator=g)),
        bootstrap(take=lambda n, m, g: torch.tensor([int(torch.randint(n, (), generator=g)) for _ in range(m)])),
    ],
    "05.6": [
        plain, limited(0.2, 0.8), limited(0.4, 0.45), rescaled(), projected(), projected_null, in_place, capped_push,
        sample_by_sample, numpy_rule, power, soft, Ramp(), partial(by_name, top=5.0), over_time(lambda t: 2 * t),
        over_time(lambda t: (t > 0.5).double()), over_time(lambda t: 0.3),
    ],
}  # fmt: skip

WRONG = {
    "05.1": [
        (two_passes, "called 2 times"),
        (joined(lambda a, b, w: (1 + w) * b - w * a), r"field of w \+ 1"),
        (joined(lambda a, b, w: w * a + (1 - w) * b), "changed places"),
        (joined(lambda a, b, w: a + w * b), "the weights are 1 and w"),
        (joined(lambda a, b, w: w * (b - a)), "add the null branch to it"),
        (joined(lambda a, b, w: a), "field without a label"),
        (lambda model, x, t, y, w, null: model(x, t, y), "w has no effect"),
        (interleaved, "stand in turn"),
        (one_time, r"got 12 points, but t of shape \(6,\).*double x, t and y alike"),
        (one_label, r"got 12 points, but labels of shape \(6,\)"),
        (points_once, r"got 6 points, but t of shape \(12,\)"),
        (null_of_digits, "null is 3 here"),
        (chunked_sideways, "should have shape|size of tensor"),
        (unmixed, "mix the two halves"),
        (joined(finish=lambda u: None), "None: is a `return` missing"),
    ],
    "05.2": [
        (lambda formula, scale: scale, "the paper's own scale"),
        (lambda formula, scale: scale + 1, "our w is 2.5; you say 3.5"),
        (lambda formula, scale: formula(1.0, 0.0, scale), "are its two fields exchanged"),
        (lambda formula, scale: formula(0.0, 1.0, scale) - 1, "beyond the conditional field"),
        (lambda formula, scale: formula(0.0, 1.0, 1.0), "does not change with k"),
        (lambda formula, scale: formula(1.0, 1.0, scale), "two different fields"),
        (looks_at_zero, r"our w is|the paper's own scale"),
        (lambda formula, scale: formula(0.0, 1.0, 0.5), "our w is 2.5; you say 0.5. Our w is the weight"),
        (lambda formula, scale: round(formula(0.0, 1.0, scale)), "our w is 2.5; you say 2"),
        (lambda formula, scale: formula, "should be a number"),
        (lambda formula, scale: formula(0.0, 2.0, scale), "our w is 2.5; you say 5. .* Put in fields"),
    ],
    "05.3": [
        (masked(lambda n, p, g: rand(n, g) >= p), "is the mask the wrong way round"),
        (masked(lambda n, p, g: (torch.arange(n) < p * n).roll(1)), "independently of their class|another one others"),
        (drop_one_class, "it dropped|independently of their class"),
        (drop_and_shuffle, "must stay at its place"),
        (masked(lambda n, p, g: rand(n, g) < 0.5), r"asked to drop 10%, it dropped (49|50)\."),
        (masked(exact_count), "each should be dropped on its own"),
        (masked(with_global), "draw from the `generator` given"),
        (drop_as_floats, "should stay torch.int64"),
        (masked(lambda n, p, g: (rand((n + 1) // 2, g) < p).repeat_interleave(2)[:n]), "of two that are 1 apart"),
        (masked(lambda n, p, g: (rand((n + 1) // 2, g) < p).repeat(2)[:n]), "together or in turn"),
        (masked(lambda n, p, g: (rand(1, g) < p).expand(n)), "it dropped (0|100)"),
        (masked(lambda n, p, g: rand(n if n > 99 else 1, g).expand(n) < p), "varies too much"),
        (masked(anew), "drops the same places again"),
        (masked(periodic), "it dropped|independently of|together or in turn"),
        (masked(evenly), "independently of|together or in turn"),
        (masked(mirrored), "mirrored pairs"),
        (masked(never_the_first), "some places of a batch"),
        (masked(lambda n, p, g: torch.randint(2, (n,), generator=g).bool()), "asked to drop 10%"),
    ],
    "05.4": [
        (tilted, "the tilted density"),
        (lambda S, s, wanted: (wanted - S) / (s - S), "their logarithms that mix"),
        (lambda S, s, wanted: 1 - by_logarithms(S, s, wanted), "weight of the unconditional field"),
        (lambda S, s, wanted: by_logarithms(S, s, wanted) - 1, "here w=1 is the conditional model"),
        (lambda S, s, wanted: math.log(s / S) / math.log(wanted / S) if wanted != S else 0.0, "upside down"),
        (lambda S, s, wanted: math.log(wanted / S) / math.log(S / s), "only the sign"),
        (lambda S, s, wanted: math.log(wanted) / math.log(s) if s != 1 else 0.0, "S=1 alone"),
        (lambda S, s, wanted: 2 * by_logarithms(S, s, wanted), "twice the right one"),
        (lambda S, s, wanted: by_logarithms(S, s, wanted**0.5), "no variance"),
        (lambda S, s, wanted: S ** (1 - wanted) * s**wanted, "ends at"),
        (lambda S, s, wanted: wanted, "ends at"),
        (lambda S, s, wanted: (wanted / S) / (s / S), "logarithm is linear in w"),
        (lambda S, s, wanted: max(0.0, by_logarithms(S, s, wanted)), "for S=(2|0.5|1)"),
        (lambda S, s, wanted: 1e9, "a w of a few units"),
        (lambda S, s, wanted: math.nan, "is nan"),
    ],
    "05.5": [
        (bootstrap(shared=False), "\\*same\\* rows of all"),
        (bootstrap(take=lambda n, m, g: torch.randperm(n, generator=g)), "with replacement|with\\* replacement"),
        (first_key_only, "min, not max"),
        (bootstrap(size=lambda n: 5), "got 5 rows of 24"),
        (bootstrap(size=lambda n: n // 2), "got 12 rows of 24"),
        (bootstrap(size=lambda n: n - 1), "got 23 rows of 24"),
        (bootstrap(draws_of=lambda draws: 7), "asked for 200 draws, it made 7"),
        (bootstrap(draws_of=lambda draws: 200), "asked for 20 draws, it made 200"),
        (bootstrap(level=0.9), "holds 90% of the draws"),
        (bootstrap(best="median"), "on the samples as they are"),
        (bootstrap(best="mean"), "on the samples as they are"),
        (bootstrap(ends=lambda found: (min(found), max(found))), "all of the draws"),
        (bootstrap(ends=spread_of), "1.96 standard deviations"),
        (bootstrap(ends=lambda found: (1.0, 1.0)), "has no width"),
        (bootstrap(ends=lambda found: (max(found), min(found))), "exchanged"),
        (bootstrap(rng=by_global), "draw from the `generator` given"),
        (bootstrap(rng=lambda g: torch.Generator().manual_seed(0)), "draw from the `generator` given"),
        (bootstrap(take=lambda n, m, g: torch.randint(n - 1, (m,), generator=g)), "every row, from the first"),
        (bootstrap(take=lambda n, m, g: torch.randint(n, (m,), generator=torch.Generator().manual_seed(1))),
         "again and again"),
        (lambda distance, fakes, draws, generator: (1.0, 0.8, 1.2), "never asked"),
        (lambda *given: bootstrap()(*given)[:2], "three numbers"),
    ],
    "05.6": [
        (label_alone, "w has no effect"),
        (other_convention, "the field of w=2"),
        (exchanged, "are the two exchanged"),
        (difference_alone, "add it to a field"),
        (scaled, "does not depend on u_0"),
        (backwards, "Is a sign wrong"),
        (over_the_batch, "companions in the batch"),
        (undivided, "keep a denominator off 0"),
        (noisy, "torch's random numbers"),
        (lambda u_0, u_y, w, x, t: u_y + (w - 1) * (u_y - u_0) * random.random(), "random numbers of its own"),
        (Momentum(), "has a memory"),
        (bare_time, "expand_t"),
        (first_sample, "should have the shape of x"),
        (on_or_off, "no special case"),
        (special_case, "no special case"),
        (lambda u_0, u_y, w, x, t: u_y + min(w - 1, 0.2) * (u_y - u_0), "how far w is from 1"),
        (inverse_time, "inf or NaN"),
        (guided_at_one, "Every rule gives u_y at w=1"),
        (lambda u_0, u_y, w, x, t: u_0, "are the two exchanged"),
    ],
}  # fmt: skip
