"""Lesson 04, guided flow matching: pairs, the algorithm, the tower identity, the Bayes gradient, shuffled labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.checks.require import gap, kind, require, require_close, require_like
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.paths import GaussianPath


def keeps_pairs(answer: Callable) -> str:
    """04.1: `one_epoch(z, y, batch_size, generator)` yields shuffled batches in which every z keeps its own y."""
    n, size = 103, 10
    z = torch.rand(n, 3, generator=_generator())
    z[:, 0] = torch.arange(n)  # the first number of a row is its place in the data
    y = torch.randint(10, (n,), generator=_generator(1))
    with torch.random.fork_rng(devices=[]):
        batches, again, other = (_listed(answer(z, y, size, _generator(seed))) for seed in (2, 2, 3))
    said = f"{n} points make {n // size} full batches of {size}; yours are {len(batches)}. The remainder is dropped"
    require(len(batches) == n // size, said)
    for part in batches:
        require_like(part[0], z[:size], "z of a batch")
        require_like(part[1], y[:size], "y of a batch")
    places = torch.cat([part[0][:, 0] for part in batches]).long()
    twice = len(places) - len(places.unique())
    require(
        twice == 0, f"{twice} points of an epoch are repetitions of others: draw a permutation, without replacement"
    )
    apart = (torch.cat([part[1] for part in batches]) != y[places]).sum().item()
    said = f"{apart} of {len(places)} points came with the label of another one. "
    require(apart == 0, f"{said}Is there one permutation, used for both?")
    in_order = torch.equal(places, torch.arange(len(places)))
    require(not in_order, "pairs are kept, but they come in the order of the data: nothing is shuffled")
    right = _same(batches, again) and not _same(batches, other)
    require(right, "one seed should give one epoch, and another seed another: draw from `generator`, and from it alone")
    return f"{len(places)} points in shuffled batches, each with its own label."


def select_draw_solve(answer: Callable) -> str:
    """04.2: `sample_class(model, y, x_0, ts)` solves the ODE of the labels y by Euler along the grid ts."""
    ts = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.75, 1.0])
    x_0 = torch.randn(12, 2, generator=_generator())
    y = torch.arange(12) % 3
    calls: list[tuple[Tensor, Tensor | None]] = []

    def model(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        require_like(t, x[:, 0], "t, of which the model wants one for every point,")
        calls.append((t.clone(), label))
        speed = (1 + t) if label is None else (1 + t) * (label - 1.0)
        return speed[:, None] * x.new_tensor([1.0, -2.0])

    value = answer(model, y, x_0, ts)
    require_like(value, x_0, "the end points")
    told = bool(calls) and all(isinstance(label, Tensor) and torch.equal(label, y) for _, label in calls)
    require(told, "the model was not always called with the labels y: model(x, t, y)")
    said = f"{len(ts)} times make {len(ts) - 1} updates, one evaluation each; the model was called {len(calls)} times"
    require(len(calls) == len(ts) - 1, said)
    times = torch.stack([t[0] for t, _ in calls])
    late = {f"it is taken at the ends, {_numbers(ts[1:])}": ts[1:]}
    hint = f"It should be taken at {_numbers(ts[:-1])}; yours is at {_numbers(times)}."
    require_close(times, ts[:-1], "Euler takes the slope where a step begins;", late, hint)

    # The slope (1 + t)(y - 1) does not depend on x, so Euler's end point is a sum known beforehand.
    def end(dt: Tensor) -> Tensor:
        return x_0 + (((1 + ts[:-1]) * dt).sum() * (y - 1.0))[:, None] * torch.tensor([1.0, -2.0])

    mistakes = {
        "the points went backwards, as far as they should have gone forwards: dx = + dt u": end(-ts.diff()),
        "all steps are equally long. The grid is not evenly spaced: each step has its own dt": end(
            torch.full((5,), 0.2)
        ),
    }
    hint = "Does each step begin where the last one ended, and is it as long as the grid says?"
    require_close(value, end(ts.diff()), "for the end points:", mistakes, hint, close=1e-5)

    exact = ExactMarginal(GaussianPath(), ring(6, std=0.3), torch.tensor([0, 1, 2, 0, 1, 2]))
    y = torch.arange(600) % 3
    x = answer(exact.velocity, y, torch.randn(600, 2, generator=_generator(1)), torch.linspace(0, 1, 41))
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
        value, truth, joint = answer(fields, log_p, p_y), exact.velocity(x, t), log_p + p_y.log()[:, None]
        if scale == 60 and isinstance(value, Tensor) and not value.isfinite().all():
            require(False, f"inf or NaN {where}: exp(log_p) is 0 for every class there. Take a softmax of logarithms")
        mistakes = {
            "the weights are p(y): they forget where x is. By Bayes, p_t(y|x) wants p_t(x|y)": p_y[:, None],
            "the weights are p_t(x|y) made to sum to 1: p(y) is missing, and classes are not equally common": (
                log_p.softmax(0)
            ),
            "the weights p(y) p_t(x|y) do not sum to 1: divide by their sum, p_t(x)": joint.exp(),
            "the weights are normalised over points; they should sum to 1 over classes, for every x": joint.softmax(1),
        }
        known = {sentence: (weights[:, :, None] * fields).sum(0) for sentence, weights in mistakes.items()}
        hint = "This is not the unconditional field. Weigh the fields with p_t(y|x)."
        require_close(value, truth, f"{where}:", known, hint, close=1e-6)
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
    value = answer(exact, x, t, y)
    mistakes = {
        "it points away from class y, right up to its sign. The score of the class comes first, s(x|y) - s(x)": -truth,
        "this is the gradient of p_t(y|x) itself, too small by the factor p_t(y|x): take that of its logarithm": (
            log_p.detach().exp()[:, None] * truth
        ),
        "this is s(x|y), the gradient of log p_t(x|y); the score of p_t(x) is still missing": exact.score(x, t, y),
    }
    require_close(value, truth, "for the gradient:", mistakes, "Autograd of the exact log p_t(y|x) is the truth.", 1e-6)
    return f"Two scores give the gradient of log p_t(y|x), to {gap(value, truth):.0e} of autograd's."


def shuffled(answer: Callable) -> str:
    """04.5: `shuffle_labels(y, generator)`: a permuted copy of the labels, independent of what they belonged to."""
    n, count = 2000, 5
    y = torch.arange(n) * count // n  # sorted and balanced
    skewed = (torch.rand(n, generator=_generator()).square() * count).long()
    with torch.random.fork_rng(devices=[]):
        value, again, other = (answer(y, _generator(seed)) for seed in (1, 1, 2))
        uneven = answer(skewed, _generator(1))
    for before, after in ((y, value), (skewed, uneven)):
        require_like(after, before, "the shuffled labels")
        require(after.dtype == y.dtype, f"labels should stay int64; they came back as {after.dtype}")
        counts = [torch.bincount(part.clamp(0, count), minlength=count).tolist() for part in (before, after)]
        said = f"classes had {counts[0]} members and now have {counts[1]}: the law of y alone must stay as it was. "
        require(counts[0] == counts[1], f"{said}Permute the labels there are, do not draw new ones or rename them")
    # For independent labels this statistic has mean (K - 1)^2 = 16 and standard deviation 5.7; 60 is 7 of them away.
    table = torch.zeros(count, count).index_put_((y, value), torch.ones(n), accumulate=True)
    statistic = ((table - n / count**2) ** 2 / (n / count**2)).sum().item()
    said = f"the counts are right, but the new labels still tell the old ones: chi-squared {statistic:.0f}, where "
    why = f"independent labels give {(count - 1) ** 2}. Neighbours exchanged, or names? Permute all places at random"
    require(statistic < 60, said + why)
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
