"""Lesson 04, guided flow matching: pairs, the algorithm, the tower identity, the Bayes gradient, shuffled labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.require import gap, require, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath
from labkit.measure.against_exact import cloud_quality

FIXED = 2024  # the seed of every generator here


def keeps_pairs(answer: Callable) -> str:
    """04.1: `one_epoch(z, y, batch_size, generator)` yields shuffled batches in which every z keeps its own y."""
    n, size = 103, 10
    z = torch.rand(n, 3, generator=_generator())
    z[:, 0] = torch.arange(n)  # the first number of a row is its place in the data
    y = torch.randint(10, (n,), generator=_generator(1))
    with torch.random.fork_rng(devices=[]):
        batches = _listed(answer(z.clone(), y.clone(), size, _generator(2)))
        again = _listed(answer(z.clone(), y.clone(), size, _generator(2)))
        other = _listed(answer(z.clone(), y.clone(), size, _generator(3)))
    require(
        len(batches) == n // size,
        f"{n} points make {n // size} full batches of {size}; yours are {len(batches)}. The remainder is dropped",
    )
    for part in batches:
        require_like(part[0], z[:size], "z of a batch")
        require_like(part[1], y[:size], "y of a batch")
    places = torch.cat([part[0][:, 0] for part in batches]).long()
    seen = places.unique()
    require(
        len(seen) == len(places),
        f"{len(places) - len(seen)} points of an epoch are repetitions of others: draw a permutation, without "
        "replacement",
    )
    apart = (torch.cat([part[1] for part in batches]) != y[places]).sum().item()
    require(
        apart == 0,
        f"{apart} of {len(places)} points came with the label of another one. Is there one permutation, used for both?",
    )
    in_order = torch.equal(places, torch.arange(len(places)))
    require(not in_order, "pairs are kept, but they come in the order of the data: nothing is shuffled")
    same = _same(batches, again)
    require(
        same, "two generators with one seed gave two different epochs: draw from `generator`, not from the global one"
    )
    require(not _same(batches, other), "another generator gave the same epoch: is the order drawn from `generator`?")
    return f"{len(places)} points in shuffled batches, each with its own label."


def select_draw_solve(answer: Callable) -> str:
    """04.2: `sample_class(field, y, x_0, ts)` solves the ODE of the labels y by Euler along the grid ts."""
    ts = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.75, 1.0])
    x_0 = torch.randn(12, 2, generator=_generator())
    y = torch.arange(12) % 3
    calls: list[tuple[Tensor, Tensor | None]] = []

    def field(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        require(
            isinstance(t, Tensor) and t.shape == x.shape[:1],
            f"the field wants a time for every point, t of shape ({len(x)},); it got "
            f"{tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__}",
        )
        calls.append((t.clone(), label))
        speed = (1 + t) if label is None else (1 + t) * (label - 1.0)
        return speed[:, None] * x.new_tensor([1.0, -2.0])

    start = x_0.clone()
    value = answer(field, y, x_0, ts)
    require(torch.equal(x_0, start), "the starts x_0 were changed in place: write x = x + ..., not x += ...")
    # The slope (1 + t)(y - 1) does not depend on x, so Euler's end point is a sum known beforehand.
    shift = ((1 + ts[:-1]) * ts.diff()).sum()
    truth = x_0 + (shift * (y - 1.0))[:, None] * torch.tensor([1.0, -2.0])
    require_like(value, truth, "the end points")
    require(
        bool(calls) and all(isinstance(label, Tensor) and torch.equal(label, y) for _, label in calls),
        "the field was not always called with the labels y: field(x, t, y)",
    )
    times = torch.stack([t[0] for t, _ in calls])
    require(
        len(calls) == len(ts) - 1,
        f"{len(ts)} times make {len(ts) - 1} updates, one evaluation each; the field was called {len(calls)} times",
    )
    require(
        torch.allclose(times, ts[:-1]),
        f"Euler takes the slope where the step begins, at {_numbers(ts[:-1])}; yours is taken at {_numbers(times)}",
    )
    require(gap(value, truth) < 1e-5, _why_elsewhere(value, truth, x_0))

    exact = ExactMarginal(GaussianPath(), ring(6, std=0.3), torch.tensor([0, 1, 2, 0, 1, 2]))
    y = torch.arange(600) % 3
    x = answer(exact.velocity, y, torch.randn(600, 2, generator=_generator(1)), torch.linspace(0, 1, 41))
    right = cloud_quality(x, y, exact).right
    require(right > 0.95, f"with an exact field only {right:.0%} of 600 points end in their class")
    return (
        f"{len(ts) - 1} updates for {len(ts)} times, ending at t=1; with an exact field {right:.1%} end in their class."
    )


def tower(answer: Callable) -> str:
    """04.3: `combine(fields, log_p, p_y)` is sum_y p_t(y|x) u(x|y): fields u(x|y) (K, B, d), log p_t(x|y) (K, B)."""
    exact = _random_marginal()
    p_y = torch.zeros(3, dtype=torch.float64).index_add_(0, exact.labels, exact.mixture.weights)
    worst = 0.0
    for scale, name in ((1.5, ""), (60.0, " far away from all data")):
        x = scale * torch.randn(200, 2, generator=_generator(1), dtype=torch.float64)
        t = 0.05 + 0.9 * torch.rand(200, generator=_generator(2), dtype=torch.float64)
        ys = [torch.full((200,), label) for label in range(3)]
        fields = torch.stack([exact.velocity(x, t, y) for y in ys])
        log_p = torch.stack([exact.log_prob(x, t, y) for y in ys])
        value = answer(fields.clone(), log_p.clone(), p_y.clone())
        if name and isinstance(value, Tensor) and not value.isfinite().all():
            require(False, f"inf or NaN{name}: exp(log_p) is 0 for every class there. Take a softmax of logarithms")
        truth = exact.velocity(x, t)
        require_like(value, truth, "the combined field")
        if gap(value, truth) > 1e-6:
            require(False, _why_not_tower(value, fields, log_p, p_y) + f" (gap {gap(value, truth):.1e})")
        worst = max(worst, gap(value, truth))
    return f"The weighted fields of the classes are the field of all of them, to {worst:.0e}."


def bayes_gradient(answer: Callable) -> str:
    """04.4: `class_gradient(exact, x, t, y)` is grad_x log p_t(y | x), from two scores; truth: autograd."""
    exact = _random_marginal()
    x = 1.5 * torch.randn(100, 2, generator=_generator(1), dtype=torch.float64)
    t = 0.1 + 0.8 * torch.rand(100, generator=_generator(2), dtype=torch.float64)
    y = torch.randint(3, (100,), generator=_generator(3))
    inside = x.clone().requires_grad_(True)
    log_p = exact.class_logits(inside, t).gather(1, y[:, None])[:, 0]
    (truth,) = torch.autograd.grad(log_p.sum(), inside)
    value = answer(exact, x.clone(), t.clone(), y.clone())
    require_like(value, truth, "the gradient")
    value, p = value.detach(), log_p.detach().exp()[:, None]
    require(
        gap(value, -truth) > 1e-6,
        "right up to its sign: this points away from class y. The score of the class comes first, s(x|y) - s(x)",
    )
    require(
        gap(value, p * truth) > 1e-6,
        "this is the gradient of p_t(y|x) itself: right in direction, but smaller by the factor p_t(y|x), which is "
        f"down to {p.min().item():.0e} here. Take the gradient of its logarithm",
    )
    own = exact.score(x, t, y)
    require(
        gap(value, own) > 1e-6, "this is s(x|y), the gradient of log p_t(x|y); the score of p_t(x) is still missing"
    )
    error = gap(value, truth)
    require(error < 1e-6, f"autograd of the exact log p_t(y|x) says something else: relative gap {error:.1e}")
    return f"Two scores give the gradient of log p_t(y|x), to {error:.0e} of autograd's."


def shuffled(answer: Callable) -> str:
    """04.5: `shuffle_labels(y, generator)`: a permuted copy of the labels, independent of what they belonged to."""
    n, count = 2000, 5
    y = torch.arange(n) * count // n  # sorted and balanced
    skewed = (torch.rand(n, generator=_generator()).square() * count).long()
    with torch.random.fork_rng(devices=[]):
        value, uneven = answer(y_in := y.clone(), _generator(1)), answer(skewed.clone(), _generator(1))
        again = answer(y.clone(), _generator(1))
        other = answer(y.clone(), _generator(2))
    require_like(value, y, "the shuffled labels")
    require_like(uneven, skewed, "the shuffled labels")
    require(torch.equal(y_in, y), "the labels that came in were changed in place: whoever called you still needs them")
    require(value.dtype == y.dtype, f"labels should stay int64; they came back as {value.dtype}")
    before, after = (torch.bincount(part.long().clamp(0, count), minlength=count).tolist() for part in (skewed, uneven))
    require(
        before == after,
        f"classes had {before} members and now have {after}: the law of y alone must stay as it was. Permute the "
        "labels there are, do not draw new ones or rename them",
    )
    require(torch.equal(value.bincount(), y.bincount()), "two classes of equal size no longer have equal size")
    # For independent labels this statistic has mean (K - 1)^2 = 16 and standard deviation 5.7; 60 is 7 of them away.
    table = torch.zeros(count, count).index_put_((y, value), torch.ones(n), accumulate=True)
    expected = n / count**2
    statistic = ((table - expected) ** 2 / expected).sum().item()
    require(
        statistic < 60,
        f"the counts are right, but the new labels still tell the old ones: chi-squared {statistic:.0f}, where "
        f"independent labels give {(count - 1) ** 2}. Neighbours exchanged, or names? Permute all places at random",
    )
    same = torch.equal(value, again) and not torch.equal(value, other)
    require(same, "one seed should give one shuffle, and another seed another: draw the permutation from `generator`")
    return f"Counts unchanged, pairs broken: chi-squared {statistic:.0f}, where independence gives {(count - 1) ** 2}."


CHECKS: dict[str, Callable[[Callable], str]] = {
    "04.1": keeps_pairs,
    "04.2": select_draw_solve,
    "04.3": tower,
    "04.4": bayes_gradient,
    "04.5": shuffled,
}


def _generator(add: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(FIXED + add)


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())


def _listed(value: object) -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch, as a list of pairs."""
    require(value is not None, "the answer is None: is a `yield` or `return` missing?")
    require(hasattr(value, "__iter__"), f"the answer should yield batches; it is of type {type(value).__name__}")
    batches = list(value)
    right = all(isinstance(part, tuple | list) and len(part) == 2 for part in batches)
    require(right, "every batch should be a pair (z, y)")
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


def _why_elsewhere(value: Tensor, truth: Tensor, x_0: Tensor) -> str:
    """Which mistake moved the end points of 04.2."""
    if gap(value - x_0, x_0 - truth) < 1e-5:
        return "the points went backwards, as far as they should have gone forwards: dx = + dt u"
    done, due = (value - x_0).norm().item(), (truth - x_0).norm().item()
    return (
        f"the points moved by {done / due:.3f} of the right distance, or elsewhere. The grid is not evenly spaced: "
        "each step has its own dt"
    )


def _why_not_tower(value: Tensor, fields: Tensor, log_p: Tensor, p_y: Tensor) -> str:
    """Which weights stand in a wrong answer to 04.3."""
    joint = log_p + p_y.log()[:, None]
    known = (
        (
            p_y[:, None].expand_as(log_p),
            "the weights are p(y): they forget where x is. By Bayes, p_t(y|x) wants p_t(x|y)",
        ),
        (torch.full_like(log_p, 1 / len(p_y)), "all classes count alike here, wherever x is: weigh with p_t(y|x)"),
        (
            log_p.softmax(0),
            "the weights are p_t(x|y) made to sum to 1: p(y) is missing, and classes are not equally common",
        ),
        (joint.exp(), "the weights p(y) p_t(x|y) do not sum to 1: divide by their sum, p_t(x)"),
        (joint.softmax(1), "the weights are normalised over points; they should sum to 1 over classes, for every x"),
    )
    for weights, sentence in known:
        if gap(value, (weights[:, :, None] * fields).sum(0)) < 1e-6:
            return sentence
    return "this is not the unconditional field"
