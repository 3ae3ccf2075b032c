"""Checks of lesson 04, guided flow matching: pairs, the algorithm, the tower identity, Bayes, the guided sampler."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from labkit.course.checks.require import as_tensor, gap, kind, require, require_close, require_like
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

    def order(generator: torch.Generator) -> Tensor:
        return _order(_listed(answer(z, y, size, generator)), z, y, size)

    with torch.random.fork_rng(devices=[]):
        one = _generator(2)
        again, second = order(one), order(one)  # two epochs of a training
        orders = [order(_generator(seed)) for seed in seeds]
    in_order = all(torch.equal(epoch, torch.arange(len(epoch))) for epoch in orders)
    require(not in_order, "pairs are kept, but they come in the order of the data: nothing is shuffled")
    right = torch.equal(orders[0], again) and not torch.equal(orders[0], orders[1])
    require(right, "one seed should give one epoch, and another seed another: draw from `generator`, and from it alone")
    said = "a second epoch with the same generator repeats the first: draw from it, so that it moves on"
    require(not torch.equal(again, second), f"{said}; its seed alone gives one order for ever")
    never = sorted(set(range(n)) - set(torch.cat(orders).tolist()))
    said = f"in {len(orders)} epochs the pairs {', '.join(map(str, never))} of {n} never come"
    require(not never, f"{said}: the remainder that is dropped should be another one in every epoch")
    labels = y[torch.stack(orders)].float()
    mixed = (labels.unflatten(1, (-1, size)).var(dim=2).mean() / labels.var()).item()
    require(mixed > 0.8, "the labels within a batch are too much alike: the order should not depend on y")
    _companions(torch.stack(orders), n, size)
    places = torch.stack(orders).unflatten(1, (-1, size)).float().mean(dim=2)
    along = torch.arange(n // size).expand_as(places)
    lean = torch.corrcoef(torch.stack((places.flatten(), along.flatten().float())))[0, 1].item()
    said = f"who stands early in the data comes early in the epoch (correlation {lean:.2f})"
    require(abs(lean) < 0.25, f"{said}: one permutation of all {n}, please")
    squares = torch.rand(40, 2, 2, generator=_generator())  # where the batch size divides the number of pairs
    squares[:, 0, 0], few = torch.arange(40), torch.randint(10, (40,), generator=_generator(1))
    for size in (8, 7, 40):
        _order(_listed(answer(squares, few, size, _generator(3))), squares, few, size)
    told = f"{len(orders)} epochs of {n // 10 * 10} pairs in random order"
    return f"{told}, each z with its own label, none left out for good."


def _companions(orders: Tensor, n: int, size: int) -> None:
    """Require that pairs meet in a batch as often as chance makes them: neighbours in the data, and any two."""
    batch_of = torch.full((len(orders), n), -1)
    batch_of.scatter_(1, orders, (torch.arange(orders.shape[1]) // size).expand_as(orders))
    met = ((batch_of[:, :, None] == batch_of[:, None]) & (batch_of >= 0)[:, :, None]).sum(0).fill_diagonal_(0)
    together, chance = met.diagonal(1).float().mean().item() / len(orders), (size - 1) / (n - 1)
    said = f"{together:.0%} of the neighbours in the data share a batch; in a random order {chance:.0%} do. "
    why = "Is the whole order drawn, or only that of the batches, or that within each of them?"
    require(abs(together - chance) < 0.03, said + why)
    one, other = divmod(int(met.argmax()), n)
    said = f"the pairs {one} and {other} share a batch in {met.max()} of {len(orders)} epochs; by chance few would. "
    require(met.max() <= len(orders) // 2, f"{said}Cutting a rotated or fixed order into batches is no shuffle")


def _order(batches: list[tuple[Tensor, Tensor]], z: Tensor, y: Tensor, size: int) -> Tensor:
    """The places in the data of an epoch's pairs; NotRight if they are no pairs of the data, in full batches."""
    n = len(z)
    said = f"{n} points make {n // size} full batches of {size}; yours are {len(batches)}. The remainder is dropped"
    require(len(batches) == n // size, said)
    batches = [(as_tensor(part[0], whole=True), as_tensor(part[1], whole=True)) for part in batches]
    for part in batches:
        turned = isinstance(part[0], Tensor) and not part[0].is_floating_point()
        require(not turned, "a batch begins with labels: yield z first, then y")
        require_like(part[0], z[:size], "z of a batch")
        require_like(part[1], y[:size], "y of a batch")
    first = torch.cat([part[0].flatten(1)[:, 0] for part in batches])
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
    y = torch.tensor([1, 2, 0, 0, 2, 1, 2, 2, 0, 1, 0, 2])
    calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def model(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        require(isinstance(t, Tensor), f"t, of which the model wants one for every point, is {kind(t)}")
        require_like(t, x[:, 0], "t, of which the model wants one for every point,")
        calls.append((x.clone(), t.clone(), label))
        side = torch.full_like(t, -1.0) if label is None else label - 1.0
        return ((1 + t) * side)[:, None] * x.new_tensor([1.0, -2.0]) + torch.sin(2 * x)

    def walked(dt: Tensor, slope: Callable, times: Tensor = ts[:-1], back: bool = True) -> Tensor:
        x = start = x_0
        for t, h in zip(times, dt, strict=True):
            x = (x if back else start) + h * slope(x, t.expand(12))
        return x

    def u(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t, y)

    def first_slope(x: Tensor, t: Tensor) -> Tensor:
        return model(x, ts[:1].expand(12), y)

    value, tried = as_tensor(answer(model, y, x_0, ts)), list(calls)
    require_like(value, x_0, "the end points")
    require(bool(tried), "the model was never called")
    require(all(isinstance(c[2], Tensor) for c in tried), "the model was not always told the labels: model(x, t, y)")
    told = torch.cat([label.reshape(-1) for _, _, label in tried])
    if all(len(x) == 12 for x, _, _ in tried) and len(told) == 12 * len(tried):
        own = "each has its own, in the order of y"
        require(len(told[:12].unique()) > 1, f"all points were told one label: {own}")
        require(bool((told.view(-1, 12) == y).all()), f"the points were told other labels than y: {own}")
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
        "you walk along an even grid of your own: t and dt are given by ts": walked(
            torch.full((5,), 0.2), u, times=torch.arange(5) / 5
        ),
        "t moves on evenly; the times of the slopes are given by ts": walked(dt, u, times=torch.arange(5) / 5),
        "the last step is missing": walked(dt * (ts[1:] < 1), u),
        "these are no end points but the way that they went: add it to x_0": walked(dt, u) - x_0,
    }  # fmt: skip
    if isinstance(value, Tensor) and gap(value.to(truth.dtype), truth) > CLOSE:
        seen = torch.stack([t.max() for _, t, _ in tried])
        late = "Euler takes the slope where a step begins; it is taken at the ends of the steps"
        require(not (len(seen) == 5 and gap(seen, ts[1:]) < CLOSE), f"{late}, {_numbers(ts[1:])}")
        at = tried[0][1].min().item()
        require(len(first) > 0, f"the first slope is taken at t = {at:g}: Euler begins at ts[0], here {ts[0]:g}")
        began = len(first) == 12 and gap(first, x_0) > CLOSE
        require(
            not began, f"the first slope is not taken at x_0 and t = {ts[0]:g}: start from the points that are given"
        )
        if len(tried) != 5 and len(tried) % 12:
            said = f"{len(ts)} times make {len(ts) - 1} updates, one evaluation each"
            require(False, f"{said}; the model was called {len(tried)} times")
    hint = "Does each step begin where the last one ended, and is it as long as the grid says?"
    require_close(value, truth, "for the end points:", mistakes, hint, CLOSE)

    exact = ExactMarginal(GaussianPath(), ring(6, std=0.3), torch.tensor([0, 1, 2, 0, 1, 2]))
    y = torch.randint(3, (600,), generator=_generator(6))

    def velocity(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return exact.velocity(x.float(), t.float(), label).to(x.dtype)

    x = as_tensor(answer(velocity, y, torch.randn(600, 2, generator=_generator(1)), torch.linspace(0, 1, 41)))
    require_like(x, torch.zeros(600, 2), "the end points")
    right = (exact.class_logits(x.float(), torch.ones(600)).argmax(dim=1) == y).float().mean().item()
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
        value, truth, prior = as_tensor(answer(fields, log_p, p_y)), exact.velocity(x, t), p_y[:, None]
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
        }
        for small in (1e-12, 1e-10, 1e-9, 1e-8, 1e-6, 1e-5):
            said = f"a small number under the fraction line, here {small:.0e}, is not small where p_t(x) is smaller"
            mistakes[f"{said}: take a softmax of logarithms"] = joint.exp() / (joint.exp().sum(0) + small)
        known = {sentence: (weights[:, :, None] * fields).sum(0) for sentence, weights in mistakes.items()}
        hint = "This is not the unconditional field. Weigh the fields with p_t(y|x)."
        if scale == 60:  # it is right near the data, so that no slip is left but one: exp(log_p) is 0 here
            known = {}
            hint = "Near the data you are right. Here exp(log_p) is 0: take a softmax of logarithms, none cut off."
        require_close(value, truth, f"{where}:", known, hint, 1e-4 if scale < 60 else 5e-3)  # float32 is welcome
        worst = max(worst, gap(value.to(truth.dtype), truth))
    fields = torch.randn(5, 30, 3, generator=_generator(4), dtype=torch.float64)
    log_p, p_y = (
        3 * torch.randn(5, 30, generator=_generator(5), dtype=torch.float64),
        torch.arange(1.0, 6).double() / 15,
    )
    truth = ((log_p + p_y.log()[:, None]).softmax(0)[:, :, None] * fields).sum(0)
    value = as_tensor(answer(fields, log_p, p_y))
    require_close(value, truth, "for five classes (for three it was right):", {}, "K is len(p_y).")
    return f"The weighted fields of the classes are the field of all of them, to {worst:.0e}, near and far."


def bayes_gradient(answer: Callable) -> str:
    """04.4: `class_gradient(velocity, x, t, y)` is grad_x log p_t(y | x), from two velocities; truth: autograd."""
    exact = _random_marginal()
    x = 1.5 * torch.randn(100, 2, generator=_generator(1), dtype=torch.float64)
    t = 0.03 + 0.94 * torch.rand(100, generator=_generator(2), dtype=torch.float64)
    y = torch.randint(3, (100,), generator=_generator(3))
    inside = x.clone().requires_grad_(True)
    with torch.enable_grad():
        log_p = exact.class_logits(inside, t).gather(1, y[:, None])[:, 0]
        (truth,) = torch.autograd.grad(log_p.sum(), inside)
    value = as_tensor(answer(exact.velocity, x, t, y))
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
        "the velocity of the class comes first in the difference; then divide by b_t = (1 - t) / t": -b * truth,
        "that is the difference of the velocities divided by t; b_t is (1 - t) / t": b * truth / t[:, None],
        "that is the difference times 1 - t; divide it by b_t = (1 - t) / t": b * truth * (1 - t)[:, None],
        "that is s(x), the gradient of log p_t(x)": exact.score(x, t),
    }
    hint = "In u(x|y) - u(x), which terms of u = a_t x + b_t s cancel, and which factor is left? (Truth: autograd.)"
    require_close(value, truth, "for the gradient:", mistakes, hint, 1e-4)
    return f"Two velocities give the gradient of log p_t(y|x), to {gap(value.to(x.dtype), truth):.0e} of autograd's."


def guided_sampler(answer: Callable) -> str:
    """04.5: `my_guided_sampler(model, y, null, w, x_0, steps)` solves the guided ODE: at most 4 evaluations a step."""
    y, x_0 = _task()
    steps = 20
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def model(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        require(isinstance(label, Tensor), f"the model wants a label for every point; it is {kind(label)}")
        require(isinstance(t, Tensor), f"the model wants a time for every point, shape (B,); it is {kind(t)}")
        require_like(t, x[:, 0], "t, of which the model wants one for every point,")
        require(label.shape == t.shape, f"labels should have shape {tuple(t.shape)}; they have {tuple(label.shape)}")
        require(not label.is_floating_point(), f"labels are whole numbers, as those of y; the model got {label.dtype}")
        known = bool(((label >= 0) & (label <= NULL)).all())
        require(known, f"the model knows the labels 0, 1, 2 and the null {NULL}; it was asked for others")
        inside = -1e-4 <= float(t.min()) and float(t.max()) <= 1 + 1e-4
        span = f"{float(t.min()):.3g} to {float(t.max()):.3g}"
        require(inside, f"the model was asked at t = {span}; time runs from 0 to 1")
        asked.append((x.detach().float().clone(), t.detach().float(), label))
        return _exact(x, t, label.long())

    def run(w: float, steps: int) -> Tensor:
        asked.clear()
        value = as_tensor(answer(model, y, NULL, w, x_0, steps))
        require_like(value, x_0, f"w = {w:g}: the end points")
        return value

    errors, far = {}, []
    for w in (1.0, 0.0, 3.0):
        value, tight = run(w, steps), _solved(w)
        _require_asked(asked, w, steps)
        error, coarse = _rms(value - tight), _rms(_solved(w, steps, "Euler") - tight)
        if error > 2 * coarse:
            _name_mistake(value, w, error)
        said = f"w = {w:g}: in {steps} steps your points end {error:.4f} from those of a tight solve, "
        said += f"Euler's {coarse:.4f}; the target is a quarter of Euler's. "
        hint = "Is the slope taken in the middle, or at both ends, and the grid even?"
        if error > 2 * coarse:
            hint = "No solver is so far off: look at the two weights, the labels, t and the length of a step"
        require(error <= TARGET * coarse, said + hint)
        errors[w] = error
        far.append(coarse)
    finer = _rms(run(3.0, 2 * steps) - _solved(3.0))
    said = f"with twice as many steps the error at w = 3 falls from {errors[3.0]:.4f} to {finer:.4f} only: "
    require(finer < 0.5 * errors[3.0] or finer < 5e-4, f"{said}are `steps` really the steps that are taken?")

    def pictures(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return (label - 1.0).reshape(-1, 1, 1, 1) * t.reshape(-1, 1, 1, 1) - 0.5 * x

    x_0, y = torch.randn(6, 1, 3, 3, generator=_generator(7)), torch.tensor([1, 0, 2, 1, 2, 0])
    for w in (2.0, 0.5, 7.5, -1.0):
        value = as_tensor(answer(pictures, y, 5, w, x_0, 50))
        truth = simulate(midpoint(guided(pictures, y, w, 5)), x_0, torch.linspace(0, 1, 201))
        require_like(value, truth, f"for pictures (B, 1, 3, 3) and w = {w:g}: the end points")
        off = gap(value.to(truth.dtype), truth)
        said = f"for pictures (B, 1, 3, 3), w = {w:g} and null = 5 the end points are off by {off:.1%}"
        require(off < 0.01, f"{said}: are `w` and `null` those that are given?")
    pairs = zip(errors.items(), far, strict=True)
    told = ", ".join(f"{error:.4f} at w = {w:g} (Euler: {coarse:.4f})" for (w, error), coarse in pairs)
    return f"In {steps} steps your points end this far from a tight solve: {told}."


def _require_asked(asked: list[tuple[Tensor, Tensor, Tensor]], w: float, steps: int) -> None:
    """What the model was asked: within the budget, from x_0 on, every point with its own label, in `steps` steps."""
    y, x_0 = _task()
    require(bool(asked), f"w = {w:g}: the model was never asked")
    spent = sum(len(x) for x, _, _ in asked) / len(y)
    said = f"w = {w:g}: {spent:g} evaluations a point in {steps} steps; at most {4 * steps} are allowed"
    require(spent <= 4 * steps + 1e-6, f"{said}, two a branch and step")
    starts = 0
    for x, _, label in asked:
        near, which = torch.cdist(x, x_0).min(dim=1)
        if near.max().item() < 1e-3:
            starts += 1
            strange = ((label != NULL) & (label != y[which])).float().mean().item()
            said = f"w = {w:g}: at the start {strange:.0%} of the points are told a label that is not their own: "
            require(strange == 0, f"{said}point k of x_0 has the label k of y, or the null")
    said = f"w = {w:g}: the model was never asked about x_0 itself: start from the noise given"
    require(starts > 0, said)
    times = torch.cat([t for _, t, _ in asked])

    def on(grid: int) -> bool:  # all times are thirds or halves of such a grid's steps
        return bool(((times * 6 * grid - (times * 6 * grid).round()).abs() < 0.02).all())

    said = f"w = {w:g}: {steps - 1} steps are taken in place of {steps}: a grid of n + 1 times has n steps"
    require(on(steps) or not on(steps - 1), said)


def _name_mistake(value: Tensor, w: float, error: float) -> None:
    """Raise NotRight if the end points are those of a known slip in the combination."""
    slips: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "these are the points of w = 1: w does not come in": lambda none, own: own,
        "these are the points of w = 0: where is the label?": lambda none, own: none,
        "the scale counts from the conditional field, w' = w - 1: our w = 1 is the plain conditional model": (
            lambda none, own: own + w * (own - none)
        ),
        "w and 1 - w have changed places": lambda none, own: w * none + (1 - w) * own,
        "u(x|null) comes with the weight 1: the two weights, 1 - w and w, sum to 1": lambda none, own: none + w * own,
        "u(x|y) comes with the weight 1: the two weights, 1 - w and w, sum to 1": (
            lambda none, own: (1 - w) * none + own
        ),
        "that is the difference alone, w times it; it is added to u(x|null)": lambda none, own: w * (own - none),
        "1 - w times u(x|null) is missing": lambda none, own: w * own,
        "each of the two fields leads half of the way, whatever w is. Are all slopes of a step guided?": (
            lambda none, own: (none + own) / 2
        ),
        "that is 1 + w where it should be 1 - w": lambda none, own: (1 + w) * none + w * own,
    }
    y, x_0 = _task()
    null = torch.full_like(y, NULL)
    for sentence, combined in slips.items():

        def field(x: Tensor, t: Tensor, combined: Callable = combined) -> Tensor:
            return combined(_exact(x, t, null), _exact(x, t, y))

        other = simulate(midpoint(field), x_0, torch.linspace(0, 1, 31))
        off = _rms(value - other)
        require(not off < min(0.1, 0.3 * error), f"w = {w:g}: {sentence}")
    require(_rms(value - x_0) > 1e-3, f"w = {w:g}: the points have not moved")


NULL = 3  # the null label of the task


@cache
def _task() -> tuple[Tensor, Tensor]:
    """The labels and the noise of 04.5."""
    return torch.randint(3, (150,), generator=_generator(6)), torch.randn(150, 2, generator=_generator(5))


@cache
def _ring() -> ExactMarginal:
    """Classes of two neighbouring blobs: none is centred, so that their fields differ from t=0 on."""
    return ExactMarginal(GaussianPath(), ring(6, std=0.35), torch.tensor([0, 0, 1, 1, 2, 2]))


def _exact(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """The exact field u(x|y), and u(x) where the label is the null; in float32, whatever comes in."""
    marginal, at = _ring(), (x.float(), t.float())
    told = marginal.velocity(*at, label.clamp(max=NULL - 1))
    return torch.where((label == NULL)[:, None], marginal.velocity(*at), told).to(x.dtype)


@cache
def _solved(w: float, steps: int = 120, method: str = "midpoint") -> Tensor:
    """Where the guided ODE of the task leads; 120 steps of the midpoint method err by a 30th of the target."""
    y, x_0 = _task()
    with torch.no_grad():
        step = euler if method == "Euler" else midpoint
        return simulate(step(guided(_exact, y, w, NULL)), x_0, torch.linspace(0, 1, steps + 1))


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


def _random_marginal() -> ExactMarginal:
    """Three classes of unequal probability, of two, two and one long components, in float64."""
    means = 1.5 * torch.randn(5, 2, generator=_generator(), dtype=torch.float64)
    roots = 0.4 * torch.randn(5, 2, 2, generator=_generator(4), dtype=torch.float64)
    covs = roots @ roots.mT + 0.1 * torch.eye(2, dtype=torch.float64)
    weights = torch.tensor([0.05, 0.1, 0.3, 0.3, 0.25], dtype=torch.float64)
    return ExactMarginal(GaussianPath(), GaussianMixture(means, covs, weights), torch.tensor([0, 0, 1, 1, 2]))
