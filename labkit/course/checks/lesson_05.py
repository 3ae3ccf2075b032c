"""Checks of lesson 05, classifier-free guidance."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.checks.require import require, require_close, require_like, require_number


def one_pass(answer: Callable) -> str:
    """05.1: `answer(model, x, t, y, w, null)` is the guided field, from one call of the model with both branches."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(6, 3, 2, dtype=torch.float64, generator=generator)
    t = torch.rand(6, dtype=torch.float64, generator=generator)
    y, null, calls = torch.tensor([0, 1, 2, 2, 1, 0]), 3, []

    def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        calls.append(len(x))
        phase = (t + y)[:, None, None]
        return torch.sin(2 * x + phase) + phase * x.roll(1, dims=1)

    with_y, without = model(x, t, y), model(x, t, torch.full_like(y, null))
    for w in (3.0, 1.0, 0.0, -0.5):
        calls.clear()
        value = answer(model, x, t, y, w, null)
        mistakes = {
            "that is the field of w + 1: here w=1 is the plain conditional model": with_y + w * (with_y - without),
            "the two branches have changed places: is w the weight of the null branch?": with_y
            + w * (without - with_y),
            "that is the conditional field: w has no effect": with_y,
        }
        hint = "It should be (1 - w) u(x | null) + w u(x | y)."
        require_close(value, without + w * (with_y - without), f"at w={w:g}:", mistakes, hint, close=1e-9)
        require(sum(calls) <= 12, f"the model was asked for {sum(calls)} points; both branches of 6 are 12")
        said = f"the value is right, but the model was called {len(calls)} times: put both in one batch"
        require(len(calls) == 1, said)
    return "Null at w=0, conditional at w=1, and both branches travel in one batch of 2B."


def convention(answer: Callable) -> str:
    """05.2: `answer(scale, starts_from)` is our w for a paper that writes u_start + scale (u_cond - u_null)."""
    for scale in (0.0, 0.5, 2.0, 7.5):
        ours = [require_number(answer(scale, start), f"w from the {start} field") for start in ("null", "conditional")]
        said = "the two are exchanged: put scale=0 in. Which of them is then the conditional model, our w=1?"
        require(ours != [scale + 1, scale], said)
        for start, value, w in zip(("null", "conditional"), ours, (scale, scale + 1), strict=True):
            require(value == w, f"starting from the {start} field, scale {scale:g} is w={w:g}; got {value:g}")
    return "Scale 0 is w=0 in the one convention and w=1 in the other."


def drops(answer: Callable) -> str:
    """05.3: `answer(y, p, null, generator)` is a copy of y in which each label became null with probability p."""
    n, null = 20_000, 7
    y = torch.arange(n) % null
    for p in (0.1, 0.35):
        dropped, again, other = (answer(y, p, null, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
        require_like(dropped, y, "the labels")
        require(dropped.dtype == y.dtype, f"labels should stay {y.dtype}; they came back as {dropped.dtype}")
        gone = dropped == null
        rate, tolerance = gone.double().mean().item(), 4 * math.sqrt(p * (1 - p) / n)
        said = f"asked to drop {p:.0%}, it dropped {rate:.1%}"
        require(abs(rate - (1 - p)) > tolerance, f"{said}: is the mask the wrong way round?")
        require(abs(rate - p) < tolerance, f"{said} of {n:,} labels")
        require(torch.equal(dropped[~gone], y[~gone]), "a label that is kept must stay at its place")
        shares = torch.stack([gone[y == label].double().mean() for label in range(null)])
        limit = 5 * math.sqrt(p * (1 - p) * null / n)
        require(bool(((shares - p).abs() < limit).all()), "labels are not dropped independently of their class")
        said = "the same generator should drop the same labels, and another one others: draw from the `generator` given"
        require(torch.equal(again, dropped) and not torch.equal(other, dropped), said)
        source = torch.Generator().manual_seed(7)
        counts = {int((answer(y[:20], p, null, source) == null).sum()) for _ in range(20)}
        said = "every batch of 20 loses equally many labels: each should be dropped on its own"
        require(len(counts) > 1, said)
    return "The rate is p within four standard errors, and what is kept keeps its place."


def gaussian_std(answer: Callable) -> str:
    """05.4: `answer(S, s, w)` is the standard deviation that the guided ODE ends with, S^(1-w) s^w."""
    for wide, narrow in ((1.0, 0.5), (2.0, 0.7)):
        for w in (0.0, 1.0, 2.0, 3.0):
            value = require_number(answer(wide, narrow, w), "the standard deviation")
            truth = _guided_std(wide, narrow, w)
            precision = (1 - w) / wide**2 + w / narrow**2
            said = f"at S={wide:g}, s={narrow:g}, w={w:g} you say {value:.4f}:"
            for wrong, sentence in (
                (precision**-0.5, "that is the tilted density's standard deviation, which guidance does not sample"),
                ((1 - w) * wide + w * narrow, "that mixes the standard deviations; what mixes linearly are the fields"),
                (truth**2, "that is the variance"),
            ):
                require(abs(wrong - truth) < 1e-3 or abs(value - wrong) > 1e-6, f"{said} {sentence}")
            require(abs(value - truth) < 1e-3, f"{said} integrating the ODE gives {truth:.4f}")
    return "It agrees with the ODE, integrated numerically, at w = 0, 1, 2 and 3."


def best_scale(answer: Callable) -> str:
    """05.5: `answer(distance, fakes, draws, generator)` is (best, low, high) over the keys of fakes, by bootstrap."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(60, generator=generator, dtype=torch.float64)
    noise -= noise.mean()
    # The distance of a set is how far its mean is from 0; the key .5 is unmoved, so the mean of the rows decides.
    fakes = {k / 10: noise[:, None] + k / 10 - 0.5 for k in range(11)}
    said = answer(lambda x: x.mean().abs().item(), fakes, 400, torch.Generator().manual_seed(6))
    require(isinstance(said, tuple | list) and len(said) == 3, "the answer should be three numbers: best, low, high")
    best, low, high = map(require_number, said)
    largest = ", which is where it is largest: min, not max" if best in (0.0, 1.0) else ""
    require(best == 0.5, f"on the samples as they are the smallest distance is at 0.5; you say {best:g}{largest}")
    seen = f"your interval is {low:g} to {high:g}"
    why = "each draw must take rows at random *with* replacement, as many as there are"
    require(high > low, f"the interval has no width: {why}")
    # the mean of 60 rows has standard error .13, so that 95% of the draws lie within about .25 of the middle
    right = low <= best <= high and 0.3 <= high - low <= 0.7
    require(right, f"95% of the draws should lie within about 0.25 of 0.5; {seen}: {why}")
    # Noise that all scales share, far larger than what sets them apart: with the same rows it cancels, and 0.3 wins.
    shared = {k / 10: 10 + noise[:, None] + (k - 3) ** 2 / 1000 for k in range(11)}
    low, high = map(require_number, answer(lambda x: x.mean().item(), shared, 40, torch.Generator().manual_seed(6))[1:])
    said = (
        "with noise that all scales share the best should never change; yours moves: take the *same* rows of every set "
    )
    require(max(abs(low - 0.3), abs(high - 0.3)) < 1e-6, said + "within a draw")
    return "The same rows for every scale, drawn with replacement: the interval has the width that theory gives."


def interval(answer: Callable) -> str:
    """05.6: `answer(t, w, lo, hi)` is the scale (B,) at times t: w inside [lo, hi], that of the plain model outside."""
    # times and limits that are exact in binary, so that float32 and Python numbers compare alike
    t = torch.tensor([0.0, 0.25, 0.375, 0.5, 0.75, 0.8125, 1.0])
    for w, lo, hi in ((3.0, 0.25, 0.75), (0.5, 0.375, 0.8125)):
        inside = (t >= lo) & (t <= hi)
        mistakes = {
            "outside you have w=0, the model without a label: the digit asked for is forgotten there": w * inside,
            "inside and outside are exchanged": torch.where(inside, 1.0, w),
            "the ends belong to it, both included": torch.where((t > lo) & (t < hi), w, 1.0),
        }
        hint = "Outside it should be 1, the conditional model."
        require_close(answer(t, w, lo, hi), torch.where(inside, w, 1.0), f"for {lo:g} to {hi:g}:", mistakes, hint)
    return "w inside, 1 outside: guidance stops, the label stays."


def _guided_std(wide: float, narrow: float, w: float, n: int = 200) -> float:
    """Standard deviation at t=1 of dx/dt = a x from standard deviation 1, by Simpson's rule for the integral of a."""
    t = torch.linspace(0, 1, 2 * n + 1, dtype=torch.float64)

    def rate(std: float) -> Tensor:  # of c, where c^2 = t^2 std^2 + (1 - t)^2: c' / c
        return (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2)

    a = (1 - w) * rate(wide) + w * rate(narrow)
    weights = torch.full_like(t, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return math.exp((weights * a).sum().item() / (6 * n))


CHECKS = {
    "05.1": one_pass,
    "05.2": convention,
    "05.3": drops,
    "05.4": gaussian_std,
    "05.5": best_scale,
    "05.6": interval,
}
