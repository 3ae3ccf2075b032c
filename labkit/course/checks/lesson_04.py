"""Checks of lesson 04, guided flow matching: pairs, the algorithm, the tower identity, Bayes, the guided sampler."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.checks.require import gap, kind, require, require_close, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import guided
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath
from labkit.flow.solvers import euler, midpoint, simulate

CLOSE = 1e-4  # answers may compute in float32
TARGET = 0.25  # of the error of Euler's method with as many steps


def keeps_pairs(answer: Callable) -> str:
    """04.1: `one_epoch(z, y, batch_size, generator)` yields shuffled batches in which every z keeps its own y."""
    n, size, seeds = 103, 10, range(2, 42)
    z = torch.rand(n, 3, generator=_generator())
    z[:, 0] = torch.arange(n)  # the first number of a row is its place in the data
    y = torch.randint(10, (n,), generator=_generator(1))
    with torch.random.fork_rng(devices=[]):
        again, *epochs = (_listed(answer(z, y, size, _generator(seed))) for seed in (2, *seeds))
    orders = [_order(batches, z, y, size) for batches in epochs]
    in_order = all(torch.equal(order, torch.arange(len(order))) for order in orders)
    require(not in_order, "pairs are kept, but they come in the order of the data: nothing is shuffled")
    right = _same(epochs[0], again) and not _same(epochs[0], epochs[1])
    require(right, "one seed should give one epoch, and another seed another: draw from `generator`, and from it alone")
    never = sorted(set(range(n)) - set(torch.cat(orders).tolist()))
    said = f"in {len(orders)} epochs the pairs {', '.join(map(str, never))} of {n} never come"
    require(not never, f"{said}: the remainder that is dropped should be another one in every epoch")
    # Of neighbours in the data (size - 1) / (n - 1) share a batch, and 2 / n are neighbours in the epoch.
    batch_of = torch.full((len(orders), n), -1)
    for row, order in zip(batch_of, orders, strict=True):
        row[order] = torch.arange(len(order)) // size
    kept = (batch_of[:, 1:] >= 0) & (batch_of[:, :-1] >= 0)
    together = (batch_of.diff(dim=1) == 0)[kept].float().mean().item()
    beside = torch.stack([(order.diff().abs() == 1).float().mean() for order in orders]).mean().item()
    chance = (size - 1) / (n - 1)
    said = f"{together:.0%} of the neighbours in the data share a batch; in a random order {chance:.0%} do. "
    why = "Is the whole order drawn, or only that of the batches, or that within each of them?"
    require(abs(together - chance) < 0.03, said + why)
    said = f"{beside:.0%} of the pairs come right beside a neighbour in the data; in a random order {2 / n:.0%} do"
    require(abs(beside - 2 / n) < 0.02, f"{said}. A rotation is no shuffle")
    places = torch.cat([order - (n - 1) / 2 for order in orders])
    lean = torch.corrcoef(torch.stack((places, torch.arange(n // size * size).repeat(len(orders)).float())))[
        0, 1
    ].item()
    said = f"who stands early in the data comes early in the epoch (correlation {lean:.2f})"
    require(abs(lean) < 0.08, f"{said}: one permutation of all {n}, please")
    told = f"{len(orders)} epochs of {n // size * size} pairs in random order"
    return f"{told}, each z with its own label, none left out for good."


def _order(batches: list[tuple[Tensor, Tensor]], z: Tensor, y: Tensor, size: int) -> Tensor:
    """The places in the data of an epoch's pairs; NotRight if they are no pairs of the data, in full batches."""
    n = len(z)
    said = f"{n} points make {n // size} full batches of {size}; yours are {len(batches)}. The remainder is dropped"
    require(len(batches) == n // size, said)
    for part in batches:
        require_like(part[0], z[:size], "z of a batch")
        require_like(part[1], y[:size], "y of a batch")
    first = torch.cat([part[0][:, 0] for part in batches])
    places = first.round().long()
    strange = (places < 0) | (places >= n) | ((first - places).abs() > CLOSE)
    require(
        not strange.any(), "the batches hold points that are not in the data: z itself should come, in another order"
    )
    twice = len(places) - len(places.unique())
    said = f"{twice} points of an epoch are repetitions of others: draw a permutation, without replacement"
    require(twice == 0, said)
    apart = (torch.cat([part[1] for part in batches]) != y[places]).sum().item()
    said = f"{apart} of {len(places)} points came with the label of another one. "
    require(apart == 0, f"{said}Is there one permutation, used for both?")
    require(gap(torch.cat([part[0] for part in batches]), z[places]) < CLOSE, "z itself should come, unchanged")
    return places


def select_draw_solve(answer: Callable) -> str:
    """04.2: `sample_class(model, y, x_0, ts)` solves the ODE of the labels y by Euler along the grid ts."""
    ts = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.75, 1.0])
    x_0 = torch.randn(12, 2, generator=_generator())
    y = torch.arange(12) % 3
    calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def model(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        require(isinstance(t, Tensor), f"t, of which the model wants one for every point, is {kind(t)}")
        require_like(t, x[:, 0], "t, of which the model wants one for every point,")
        calls.append((x.clone(), t.clone(), label))
        side = torch.full_like(t, -1.0) if label is None else label - 1.0
        return ((1 + t) * side)[:, None] * x.new_tensor([1.0, -2.0]) + torch.sin(2 * x)

    def walked(dt: Tensor, slope: Callable, start: Tensor = x_0, back: bool = True) -> Tensor:
        x = start
        for t, h in zip(ts[:-1], dt, strict=True):
            x = (x if back else start) + h * slope(x, t.expand(12))
        return x

    def u(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t, y)

    def first_slope(x: Tensor, t: Tensor) -> Tensor:
        return model(x, ts[:1].expand(12), y)

    def first_label(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t, y[:1].expand(12))

    value, tried = answer(model, y, x_0, ts), list(calls)
    require_like(value, x_0, "the end points")
    require(bool(tried), "the model was never called")
    require(all(isinstance(c[2], Tensor) for c in tried), "the model was not always told the labels: model(x, t, y)")
    dt, first = ts.diff(), torch.cat([x for x, t, _ in tried if (t == ts[0]).all()] or [x_0[:0]])
    truth, mistakes = walked(dt, u), {
        "the points went backwards, as far as they should have gone forwards: dx = + dt u": walked(-dt, u),
        "all steps are equally long. The grid is not evenly spaced: each step has its own dt": walked(
            torch.full((5,), 0.2), u
        ),
        "every step is as long as the first. The grid is not evenly spaced": walked(dt[:1].expand(5), u),
        "the slope is always taken at x_0: each step begins where the last one ended": walked(
            dt, lambda x, t: u(x_0, t)
        ),
        "each step begins at x_0 again: the moves are not added up": walked(dt, u, back=False),
        "the slope is always that of the first time: t moves on as well": walked(dt, first_slope),
        "steps are as long as the time where they end: dt is the difference of two times": walked(ts[1:], u),
        "that is one step from the first time to the last: walk along the grid": x_0 + first_slope(x_0, ts),
        "all points were told the first label: each has its own": walked(dt, first_label),
        "the last step is missing": walked(dt * (ts[1:] < 1), u),
        "these are no end points but the way that they went: add it to x_0": walked(dt, u) - x_0,
    }  # fmt: skip
    if isinstance(value, Tensor) and gap(value.to(truth.dtype), truth) > CLOSE:
        seen = torch.stack([t.max() for _, t, _ in tried])
        late = "Euler takes the slope where a step begins; it is taken at the ends of the steps"
        require(not (len(seen) == 5 and gap(seen, ts[1:]) < CLOSE), f"{late}, {_numbers(ts[1:])}")
        began = len(first) == 0 or (len(first) == 12 and gap(first, x_0) > CLOSE)
        require(
            not began, f"the first slope is not taken at x_0 and t = {ts[0]:g}: start from the points that are given"
        )
        if len(tried) != 5 and len(tried) % 12:
            said = f"{len(ts)} times make {len(ts) - 1} updates, one evaluation each"
            require(False, f"{said}; the model was called {len(tried)} times")
    hint = "Does each step begin where the last one ended, and is it as long as the grid says?"
    require_close(value, truth, "for the end points:", mistakes, hint, CLOSE)

    exact = ExactMarginal(GaussianPath(), ring(6, std=0.3), torch.tensor([0, 1, 2, 0, 1, 2]))
    y = torch.arange(600) % 3
    x = answer(exact.velocity, y, torch.randn(600, 2, generator=_generator(1)), torch.linspace(0, 1, 41))
    require_like(x, torch.zeros(600, 2), "the end points")
    right = (exact.class_logits(x, torch.ones(600)).argmax(dim=1) == y).float().mean().item()
    require(right > 0.95, f"with an exact field only {right:.0%} of 600 points end in their class")
    updates = f"{len(ts) - 1} updates on a grid of {len(ts)} times, ending at t=1"
    return f"{updates}; with an exact field {right:.1%} end in their class."


def tower(answer: Callable) -> str:
    """04.3: `combine(fields, log_p, p_y)` is sum_y p_t(y|x) u(x|y): fields u(x|y) (K, B, d), log p_t(x|y) (K, B)."""
    exact = _random_marginal()
    p_y = torch.zeros(3, dtype=torch.float64).index_add_(0, exact.labels, exact.mixture.weights)
    worst = 0.0
    for scale, where in ((1.5, "near the data"), (60.0, "far away from all data")):
        x = scale * torch.randn(200, 2, generator=_generator(1), dtype=torch.float64)
        t = 0.05 + 0.9 * torch.rand(200, generator=_generator(2), dtype=torch.float64)
        ys = [torch.full((200,), label) for label in range(3)]
        fields = torch.stack([exact.velocity(x, t, y) for y in ys])
        log_p = torch.stack([exact.log_prob(x, t, y) for y in ys])
        value, truth, prior = answer(fields, log_p, p_y), exact.velocity(x, t), p_y[:, None]
        joint = log_p + prior.log()
        if scale == 60 and isinstance(value, Tensor) and value.shape == truth.shape:
            lost = "exp(log_p) is 0 for every class there. Take a softmax of logarithms"
            require(bool(value.isfinite().all()), f"inf or NaN {where}: {lost}")
            zero = (value == 0).all(dim=1).float().mean().item()
            said = f"the field is exactly 0 at {zero:.0%} of the points {where}: {lost}"
            require(zero < 0.05, f"{said}; a small number under the fraction line, or nan_to_num, only hides that")
        mistakes = {
            "the weights are p(y): they forget where x is. By Bayes, p_t(y|x) wants p_t(x|y)": prior.expand(3, 200),
            "all classes weigh the same; by Bayes, the weights are p(y) p_t(x|y) / p_t(x)": torch.full_like(
                joint, 1 / 3
            ),
            "the weights are p_t(x|y) made to sum to 1: p(y) is missing, and classes are not equally common": (
                log_p.softmax(0)
            ),
            "the weights p(y) p_t(x|y) do not sum to 1: divide by their sum, p_t(x)": joint.exp(),
            "the weights are normalised over points; they should sum to 1 over classes, for every x": joint.softmax(1),
            "p(y) was added to a logarithm: add its logarithm": (log_p + prior).softmax(0),
            "p(y) counts twice": (joint + prior.log()).softmax(0),
            "p_t(x|y) is normalised before p(y) comes in, so that the weights do not sum to 1": log_p.softmax(0)
            * prior,
            "the weights are right, and the classes are averaged, not summed": joint.softmax(0) / 3,
            "only the most probable class has a say: all of them do, each by its weight": torch.nn.functional.one_hot(
                joint.argmax(0), 3
            ).T.double(),
            "p(y) multiplies the posterior once more": joint.softmax(0) * prior,
            "logarithms were taken for probabilities": prior * log_p / (prior * log_p).sum(0),
            "the smallest logarithms were cut off, and so was what they know of x": joint.clamp(min=-50).softmax(0),
        }
        known = {sentence: (weights[:, :, None] * fields).sum(0) for sentence, weights in mistakes.items()}
        hint = "This is not the unconditional field. Weigh the fields with p_t(y|x)."
        require_close(value, truth, f"{where}:", known, hint, 1e-4 if scale < 60 else 5e-3)  # float32 is welcome
        worst = max(worst, gap(value.to(truth.dtype), truth))
    return f"The weighted fields of the classes are the field of all of them, to {worst:.0e}, near and far."


def bayes_gradient(answer: Callable) -> str:
    """04.4: `class_gradient(velocity, x, t, y)` is grad_x log p_t(y | x), from two velocities; truth: autograd."""
    exact = _random_marginal()
    x = 1.5 * torch.randn(100, 2, generator=_generator(1), dtype=torch.float64)
    t = 0.1 + 0.8 * torch.rand(100, generator=_generator(2), dtype=torch.float64)
    y = torch.randint(3, (100,), generator=_generator(3))
    inside = x.clone().requires_grad_(True)
    with torch.enable_grad():
        log_p = exact.class_logits(inside, t).gather(1, y[:, None])[:, 0]
        (truth,) = torch.autograd.grad(log_p.sum(), inside)
    value = answer(exact.velocity, x, t, y)
    b = ((1 - t) / t)[:, None]
    mistakes = {
        "it points away from class y, right up to its sign. The velocity of the class comes first": -truth,
        "that is the difference of the velocities, b_t times too much: divide by b_t = (1 - t) / t": b * truth,
        "the difference was multiplied by b_t where it should be divided": b**2 * truth,
        "b_t is (1 - t) / t on the linear path; here only 1 - t was divided by": truth / t[:, None],
        "b_t is (1 - t) / t on the linear path; here the difference was only multiplied by t": (1 - t)[:, None] * truth,
        "that is s(x|y), the gradient of log p_t(x|y); the unconditional field is still missing": exact.score(x, t, y),
        "that is the gradient of p_t(y|x) itself, too small by the factor p_t(y|x): take that of its logarithm": (
            log_p.detach().exp()[:, None] * truth
        ),
        "that is the velocity of the class alone": exact.velocity(x, t, y),
        "both velocities are those of the class: the difference is 0": torch.zeros_like(truth),
        "that is the unconditional velocity": exact.velocity(x, t),
    }
    require_close(value, truth, "for the gradient:", mistakes, "Autograd of the exact log p_t(y|x) is the truth.", 1e-4)
    return f"Two velocities give the gradient of log p_t(y|x), to {gap(value.to(x.dtype), truth):.0e} of autograd's."


def guided_sampler(answer: Callable) -> str:
    """04.5: `my_guided_sampler(model, y, null, w, x_0, steps)` solves the guided ODE: at most 4 evaluations a step."""
    marginal = ExactMarginal(GaussianPath(), ring(6, std=0.35), torch.tensor([0, 1, 2, 0, 1, 2]))
    null, asked, first = 3, [], []

    def exact(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        require(isinstance(label, Tensor), f"the model wants a label for every point; it is {kind(label)}")
        require(isinstance(t, Tensor), f"the model wants a time for every point, shape (B,); it is {kind(t)}")
        require_like(t, x[:, 0], "t, of which the model wants one for every point,")
        require(label.shape == t.shape, f"labels should have shape {tuple(t.shape)}; they have {tuple(label.shape)}")
        known = (label >= 0) & (label <= null)
        require(bool(known.all()), f"the model knows the labels 0, 1, 2 and the null {null}; it was asked for others")
        inside = -1e-4 <= float(t.min()) and float(t.max()) <= 1 + 1e-4
        require(
            inside, f"the model was asked at t = {float(t.min()):.3g} to {float(t.max()):.3g}; time runs from 0 to 1"
        )
        asked.append(len(x))
        first.append(x[:n].clone()) if not first else None
        told = marginal.velocity(x, t, label.clamp(max=null - 1))
        return torch.where((label == null)[:, None], marginal.velocity(x, t), told)

    def solved(y: Tensor, w: float, x_0: Tensor, steps: int, step: Callable = midpoint) -> Tensor:
        x = simulate(step(guided(exact, y, w, null)), x_0, torch.linspace(0, 1, steps + 1))
        asked.clear()
        first.clear()
        return x

    n, steps = 150, 20
    x_0, y = torch.randn(n, 2, generator=_generator(5)), torch.randint(3, (n,), generator=_generator(6))
    errors, far = {}, []
    for w in (1.0, 0.0, 3.0):
        tight, coarse = solved(y, w, x_0, 200), solved(y, w, x_0, steps, euler)
        value = answer(exact, y, null, w, x_0, steps)
        require_like(value, tight, f"w = {w:g}: the end points")
        spent = sum(asked) / n
        asked.clear()
        require(bool(spent), f"w = {w:g}: the model was never asked")
        said = f"w = {w:g}: {spent:g} evaluations a point in {steps} steps; at most {4 * steps} are allowed"
        require(spent <= 4 * steps + 1e-6, f"{said}, two a branch and step")
        said = f"w = {w:g}: the first points that the model was asked about are not x_0: start from the noise given"
        require(gap(first[0].to(x_0.dtype), x_0[: len(first[0])]) < CLOSE, said)
        error = _rms(value - tight)
        mistakes = {
            "these are the points of w = 1: w does not come in, or counts from the conditional field": 1.0,
            "these are the points of w = 0: where is the label?": 0.0,
            "the scale counts from the conditional field, w' = w - 1: our w = 1 is the plain conditional model": w + 1,
            "w and 1 - w have changed places": 1 - w,
        }
        for sentence, other in mistakes.items():
            if other != w and error > 0.1:
                require(_rms(value - solved(y, other, x_0, 200)) > 0.06, f"w = {w:g}: {sentence}")
        if error > 0.1:
            backwards = solved(y.flip(0), w, x_0, 200)
            require(_rms(value - backwards) > 0.06, f"w = {w:g}: each point should keep its own label")
            require(_rms(value - x_0) > 1e-3, f"w = {w:g}: the points have not moved")
        far.append(f"{_rms(coarse - tight):.4f}")
        target = TARGET * _rms(coarse - tight)
        said = (
            f"w = {w:g}: in {steps} steps your points end {error:.4f} from those of a tight solve, Euler's {far[-1]}; "
        )
        hint = (
            "the target is a quarter of Euler's. Is the slope taken in the middle, or at both ends, and the grid even?"
        )
        require(error <= target, f"{said}{hint}")
        errors[w] = error
    finer = _rms(answer(exact, y, null, 3.0, x_0, 2 * steps) - solved(y, 3.0, x_0, 400))
    asked.clear()
    said = f"with twice as many steps the error at w = 3 falls from {errors[3.0]:.4f} to {finer:.4f} only: "
    require(finer < 0.5 * errors[3.0] or finer < 2e-4, f"{said}are `steps` really the steps that are taken?")

    def pictures(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return (label - 1.0).reshape(-1, 1, 1, 1) * t.reshape(-1, 1, 1, 1) - 0.5 * x

    x_0, y = torch.randn(6, 1, 3, 3, generator=_generator(7)), torch.arange(6) % 3
    value = answer(pictures, y, 2, 2.0, x_0, 50)
    truth = simulate(midpoint(guided(pictures, y, 2.0, 2)), x_0, torch.linspace(0, 1, 201))
    require_like(value, truth, "for pictures (B, 1, 3, 3): the end points")
    said = f"for pictures (B, 1, 3, 3) and null = 2 the end points are off by {gap(value.to(truth.dtype), truth):.1%}"
    require(gap(value.to(truth.dtype), truth) < 0.01, f"{said}: is `null` the one that is given?")
    pairs = zip(errors.items(), far, strict=True)
    told = ", ".join(f"{error:.4f} (Euler {coarse}) at w = {w:g}" for (w, error), coarse in pairs)
    return f"{steps} steps end {told} from a tight solve."


def _rms(difference: Tensor) -> float:
    return difference.square().sum(1).mean().sqrt().item()


CHECKS: dict[str, Callable[[Callable], str]] = {
    "04.1": keeps_pairs,
    "04.2": select_draw_solve,
    "04.3": tower,
    "04.4": bayes_gradient,
    "04.5": guided_sampler,
}


def _generator(add: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(2024 + add)


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())


def _listed(value: object) -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch, as a list of pairs."""
    require(hasattr(value, "__iter__"), f"the answer should yield batches (`yield z, y`); it is {kind(value)}")
    batches = list(value)
    pairs = all(isinstance(part, tuple | list) and len(part) == 2 for part in batches)
    require(pairs, "every batch should be a pair (z, y)")
    return batches


def _same(one: list[tuple[Tensor, Tensor]], two: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(two) and all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def _random_marginal() -> ExactMarginal:
    """Three classes of unequal probability, of two, two and one long components, in float64."""
    means = 1.5 * torch.randn(5, 2, generator=_generator(), dtype=torch.float64)
    roots = 0.4 * torch.randn(5, 2, 2, generator=_generator(4), dtype=torch.float64)
    covs = roots @ roots.mT + 0.1 * torch.eye(2, dtype=torch.float64)
    weights = torch.tensor([0.1, 0.1, 0.3, 0.3, 0.2], dtype=torch.float64)
    return ExactMarginal(GaussianPath(), GaussianMixture(means, covs, weights), torch.tensor([0, 0, 1, 1, 2]))
