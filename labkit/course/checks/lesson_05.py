"""Checks of lesson 05, classifier-free guidance."""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labkit.base.runtime import seeded_noise
from labkit.course.checks.require import as_tensor, gap, kind, require, require_close, require_like, require_number
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import Rule, plain
from labkit.flow.mixtures import petals
from labkit.flow.paths import GaussianPath
from labkit.measure.metrics import share
from labkit.measure.samples import draw
from labkit.training.pretrained import load_pretrained


def one_pass(answer: Callable) -> str:
    """05.1: `answer(model, x, t, y, w, null)` is the guided field, from one call of the model with both branches."""
    generator, calls = torch.Generator().manual_seed(5), []
    for shape, null in (((6, 3, 2), 3), ((4, 2), 9), ((1, 1, 4, 4), 3)):
        b = shape[0]
        x, t = torch.randn(shape, generator=generator), torch.rand(b, generator=generator)
        y = torch.tensor([0, 1, 2, 2, 1, 0])[:b]

        def model(x: Tensor, t: Tensor, y: Tensor, b: int = b, null: int = null) -> Tensor:
            _require_batch(x, t, y, b, null)
            calls.append(len(x))
            phase = (t + y).reshape(-1, *[1] * (x.ndim - 1))
            return torch.sin(2 * x + phase) + phase * x.roll(1, dims=1)

        with_y, without = model(x, t, y), model(x, t, torch.full_like(y, null))
        for w in (3.0, 1.0, 0.0, -0.5, 7.5):
            calls.clear()
            value = as_tensor(answer(model, x, t, y, w, null))
            if isinstance(value, Tensor) and len(shape) > 1 and value.shape == (2 * b, *shape[1:]):
                require(False, f"your answer has {2 * b} rows for {b} points: chunk it, and mix the two halves")
            labels = torch.stack((torch.full_like(y, null), y), dim=1).reshape(-1)
            mixed = model(x.repeat_interleave(2, 0), t.repeat_interleave(2), labels).chunk(2)
            calls.pop()
            mistakes = {
                "that is the conditional field: w has no effect, or is cut off, or both halves carry y": with_y,
                "that is the field of w + 1: here w=1 is the plain conditional model": with_y + w * (with_y - without),
                "the two branches have changed places: is w the weight of the null branch?": with_y
                + w * (without - with_y),
                "that is the field without a label: w has no effect, or is cut off": without,
                "the weights are 1 and w: that of the null branch is 1 - w": without + w * with_y,
                "that is w times the difference of the branches: add the null branch to it": w * (with_y - without),
                "points and labels stand in turn (a, a, b, b), and chunk cuts the batch in the middle": (1 - w)
                * mixed[0]
                + w * mixed[1],
            }
            hint = "It should be (1 - w) u(x | null) + w u(x | y), where row i of both belongs to point i."
            require_close(value, without + w * (with_y - without), f"at w={w:g}:", mistakes, hint)
            require(bool(calls), "the value is right, but the model was never called")
            said = f"the value is right, but the model was called {len(calls)} times: put both in one batch"
            require(len(calls) == 1, said)
            said = f"the model was asked for {calls[0]} points; both branches of {b} are {2 * b}"
            require(calls[0] <= 2 * b, said)
    return "Null at w=0, conditional at w=1, and both branches travel in one batch of 2B."


def _require_batch(x: object, t: object, y: object, b: int, null: int) -> None:
    """Say what does not fit in a call model(x, t, y) for b points or for 2 b."""
    for name, part in (("x", x), ("t", t), ("y", y)):
        require(isinstance(part, Tensor), f"the model should get tensors; its {name} is {kind(part)}")
        require(part.ndim > 0, f"the model got a single number as {name}: every point needs its own")
    rows = f"the model got {len(x)} points"
    why = f": both branches of {b} points are {2 * b}, so double x, t and y alike, each with torch.cat"
    require(t.shape == (len(x),), f"{rows}, but t of shape {tuple(t.shape)}{why}")
    require(y.shape == (len(x),), f"{rows}, but labels of shape {tuple(y.shape)}{why}")
    require(not (y.is_floating_point() or y.is_complex()), f"labels are int64; the model got {y.dtype}")
    known = bool(((y >= 0) & ((y < 3) | (y == null))).all())
    require(known, f"the model got the labels {y.tolist()}; there are the classes 0, 1 and 2, and null is {null} here")


FORMULAS = {
    "u_0 + k (u_y - u_0)": (lambda u_null, u_cond, scale: u_null + scale * (u_cond - u_null), lambda k: k),
    "(1 + k) u_y - k u_0": (lambda u_null, u_cond, scale: (1 + scale) * u_cond - scale * u_null, lambda k: 1 + k),
    "u_0 + (u_y - u_0) / k": (lambda u_null, u_cond, scale: u_null + (u_cond - u_null) / scale, lambda k: 1 / k),
    "k u_0 + (1 - k) u_y": (lambda u_null, u_cond, scale: scale * u_null + (1 - scale) * u_cond, lambda k: 1 - k),
    "u_y + k^2 (u_y - u_0)": (lambda u_null, u_cond, scale: u_cond + scale**2 * (u_cond - u_null), lambda k: 1 + k**2),
}


def convention(answer: Callable) -> str:
    """05.2: `answer(formula, scale)` is our w for guidance that is written formula(u_null, u_cond, scale)."""
    for written, (formula, truth) in FORMULAS.items():
        for scale in (2.5, 0.5, 7.5):
            w = truth(scale)
            said = f"for the formula {written} at k = {scale:g}"
            value = require_number(answer(formula, scale), f"our w {said}")
            if abs(value - w) < 1e-3 * max(1, abs(w)):
                continue
            for wrong, sentence in (
                (scale, "that is the paper's own scale; only the first formula has ours"),
                (1 - w, "that is the weight of the null field: are its two fields exchanged?"),
                (w - 1, "that is how far it goes beyond the conditional field, where our w is 1 and not 0"),
                (
                    truth(1.0),
                    "that does not change with k: pass the scale on, with two different fields, none cut off",
                ),
            ):
                require(abs(value - wrong) > 1e-3, f"{said}: you say {value:g}; {sentence}")
            why = "Our w is the weight of u(x | y). Put in fields for which you know what u_w is"
            require(False, f"{said}: our w is {w:g}; you say {value:g}. {why}")
    return f"You found the w of {len(FORMULAS)} formulas, whatever field they start from and whatever they call it."


def drops(answer: Callable) -> str:
    """05.3: `answer(y, p, null, generator)` is like y, each label replaced by null with probability p on its own."""
    n, classes, null, b = 20_000, 7, 11, 50
    y = torch.arange(n) % classes

    def dropped(y: Tensor, p: float, source: torch.Generator) -> Tensor:
        value = as_tensor(answer(y, p, null, source), whole=True)
        require_like(value, y)
        require(value.dtype == y.dtype, f"labels should stay {y.dtype}; they came back as {value.dtype}")
        return value

    for p in (0.1, 0.35):
        first, again, other = (dropped(y, p, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
        gone, strange = first == null, first[(first != null) & (first != y)]
        said = (
            f"a label that was dropped became {strange[0] if len(strange) else ''}; it should become null, here {null}"
        )
        require(not len(strange) or bool(gone.any()), said)
        rate, tolerance = gone.double().mean().item(), 5 * math.sqrt(p * (1 - p) / n)
        said = f"asked to drop {p:.0%}, it dropped {rate:.1%}"
        require(abs(rate - (1 - p)) > tolerance, f"{said}: is the mask the wrong way round?")
        require(abs(rate - p) < tolerance, f"{said} of {n:,} labels")
        require(torch.equal(first[~gone], y[~gone]), "a label that is kept must stay at its place")
        shares = torch.stack([gone[y == label].double().mean() for label in range(classes)])
        limit = 5 * math.sqrt(p * (1 - p) * classes / n)
        require(bool(((shares - p).abs() < limit).all()), "labels are not dropped independently of their class")
        said = "the same generator should drop the same labels, and another one others: draw from the `generator` given"
        require(torch.equal(again, first) and not torch.equal(other, first), said)
        _require_no_echo(gone, p, "in one call")
        source = torch.Generator().manual_seed(7)
        batches = torch.stack([dropped(y[:b], p, source) == null for _ in range(n // b)])
        said = "a second call with the same generator drops the same places again: go on drawing, do not start anew"
        require(bool((batches != batches[0]).any()), said)
        counts = batches.sum(dim=1).double()
        noisy = counts.var().item() / (b * p * (1 - p))  # 1 for labels dropped one by one; its error is .07
        said = f"over {n // b} batches of {b} labels, how many are dropped varies"
        some = f"{said} too little: each label should be dropped on its own, so that some batches lose more than others"
        require(noisy > 0.01, f"every batch of {b} loses equally many labels: each should be dropped on its own")
        require(noisy > 0.6, some)
        require(noisy < 1.5, f"{said} too much: labels are dropped together, in pairs or batches, not each on its own")
        places = batches.double().mean(dim=0)
        most = 5.5 * math.sqrt(p * (1 - p) / len(batches))
        require(
            bool(((places - p).abs() < most).all()), "some places of a batch lose their label more often than others"
        )
        _require_no_echo(batches.flatten(), p, "of one call and of the next ones")
        single = torch.stack([dropped(y[:1], p, source) == null for _ in range(400)]).double().mean().item()
        said = f"asked to drop {p:.0%}, it dropped {single:.0%} of 400 labels that came alone"
        require(abs(single - p) < 5 * math.sqrt(p * (1 - p) / 400), said)
    for p, expected in ((0.0, y), (1.0, torch.full_like(y, null))):
        value = dropped(y, p, torch.Generator().manual_seed(5))
        require(torch.equal(value, expected), f"with p = {p:g} it should drop {'all' if p else 'no'} labels")
    return "The rate is p in every class and place; each label falls on its own; what is kept keeps its place."


def _require_no_echo(gone: Tensor, p: float, where: str) -> None:
    """Require that whether a label is dropped says nothing of another one, at any distance or mirrored."""
    n = len(gone)
    spectrum = torch.fft.fft((gone.double() - p) / math.sqrt(p * (1 - p)))
    shifted = torch.fft.ifft(spectrum.abs() ** 2).real[1:] / n  # correlation at every distance
    mirrored = torch.fft.ifft(spectrum**2).real / n  # of places that add up to the same
    worst = int(shifted.abs().argmax()) + 1
    fate = "the same" if shifted[worst - 1] > 0 else "the opposite"
    said = f"labels {where} are dropped together or in turn: of two that are {worst} apart the second has {fate} fate"
    require(shifted.abs().max().item() < 6.5 / math.sqrt(n), f"{said} too often. Each should be dropped on its own")
    require(mirrored.abs().max().item() < 9.5 / math.sqrt(n), f"labels {where} are dropped in mirrored pairs")


def scale_for(answer: Callable) -> str:
    """05.4: `answer(S, s, wanted)` is the w with which the guided ODE ends at the standard deviation `wanted`."""
    for wide, narrow, wanted in (
        (2.0, 0.7, 1.2), (1.0, 0.5, 0.25), (1.0, 0.5, 0.125), (2.0, 0.7, 0.7), (2.0, 0.7, 2.0), (3.0, 2.0, 0.8),
        (0.5, 1.0, 1.7), (1.0, 0.5, 1.3), (1.0, 0.8, 0.3), (1.0, 0.8, 2.6),
    ):  # fmt: skip
        case = f"for S={wide:g}, s={narrow:g} and a wanted {wanted:g}"
        value = require_number(answer(wide, narrow, wanted), f"w {case}")
        require(abs(value) < 50, f"{case} you say w={value:g}; a w of a few units is enough")
        reached, w = _guided_std(wide, narrow, value), math.log(wanted / wide) / math.log(narrow / wide)
        if abs(reached / wanted - 1) < 1e-3:
            continue
        said = f"{case} you say w={value:.3f}, and with that the ODE, integrated numerically, ends at {reached:.4f}"
        for wrong, sentence in (
            ((wanted**-2 - wide**-2) / (narrow**-2 - wide**-2), "that is the w of the tilted density, which guidance "
             "does not sample"),
            ((wanted - wide) / (narrow - wide), "that mixes standard deviations; it is their logarithms that mix"),
            (1 - w, "that is 1 - w, the weight of the unconditional field"),
            (w - 1, "that is w - 1: here w=1 is the conditional model"),
            (-w, "only the sign is wrong"),
            (1 / w if w else math.inf, "that is 1 / w: the fraction is upside down"),
            (2 * w, "that is twice the right one: a standard deviation is no variance"),
            (w / 2, "that is half of the right one: a standard deviation is no variance"),
            (math.log(wanted) / math.log(narrow) if narrow != 1 else math.inf, "that holds for S=1 alone"),
            (math.log(math.sqrt(wanted) / wide) / math.log(narrow / wide), "`wanted` is no variance"),
        ):  # fmt: skip
            require(abs(value - wrong) > 1e-3, f"{said}; {sentence}")
        require(False, f"{said}. At w=0 it ends at S, at w=1 at s, and its logarithm is linear in w")
    return (
        "With your w the ODE, integrated numerically, ends at the standard deviation that was wanted, in all 10 cases."
    )


class _Asked(NamedTuple):
    """What a distance was asked: for each set of rows, sorted, the distance by key; and the number of calls."""

    draws: dict[tuple[int, ...], dict[float, float]]
    calls: list[int]


def best_scale(answer: Callable) -> str:
    """05.5: `answer(distance, fakes, draws, generator)` is (best, low, high) over the keys of fakes, by bootstrap."""
    n, keys = 24, [round(0.54 + 0.01 * k, 2) for k in range(83)]
    noise = torch.randn(n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std(correction=0)
    # The distance is |standard deviation of the rows - 1|, so the best key is that of the noise: 1 for all rows.
    rows, column = torch.arange(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    fakes = {key: torch.stack((noise / key, rows, key * column), dim=1) for key in keys}

    def run(draws: int, seed: int) -> tuple[tuple[float, float, float], _Asked]:
        asked = _Asked({}, [])

        def distance(samples: object) -> float:
            fits = isinstance(samples, Tensor | np.ndarray) and samples.ndim == 2
            fits = fits and len(samples) > 0 and samples.shape[1] == 3
            require(fits, f"`distance` should get samples (n, d), some rows of a set; it got {kind(samples)}")
            of_noise, numbers, marks = zip(*samples.tolist(), strict=True)
            asked.calls.append(len(marks))
            require(len(set(marks)) == 1, "`distance` should get rows of one of the sets; it got others")
            at, key = tuple(sorted(numbers)), round(marks[0], 2)
            mean = sum(of_noise) / len(marks)
            std = math.sqrt(sum((value - mean) ** 2 for value in of_noise) / len(marks))
            asked.draws.setdefault(at, {})[key] = found = abs(std - 1)
            return found

        said = answer(distance, fakes, draws, torch.Generator().manual_seed(seed))
        said = said.tolist() if isinstance(said, Tensor | np.ndarray) else said
        three = isinstance(said, tuple | list) and len(said) == 3
        require(three, "the answer should be three numbers: best, low, high")
        names = ("best", "low", "high")
        best, low, high = (require_number(part, name) for name, part in zip(names, said, strict=True))
        return (best, low, high), asked

    (best, low, high), asked = run(200, 6)
    require(bool(asked.calls), "`distance` was never asked")
    everywhere = "each draw must take as many rows as there are, at random *with* replacement"
    few = min(asked.calls)
    require(
        few == n == max(asked.calls),
        f"`distance` got {few if few != n else max(asked.calls)} rows of {n}: {everywhere}",
    )
    largest = ", which is where it is largest: min, not max" if best in (keys[0], keys[-1]) else ""
    why = largest or ": that is decided by all rows as they are, not by the draws"
    require(abs(best - 1) < 1e-6, f"on the samples as they are the smallest distance is at 1; you say {best:g}{why}")
    _require_draws(asked, 200, n, keys, everywhere)
    found = sorted(min(by_key, key=by_key.get) for at, by_key in asked.draws.items() if at != tuple(range(n)))
    seen = f"your interval is {low:g} to {high:g}"
    require(high >= low, f"{seen}: low and high are exchanged")
    require(high > low, f"{seen} and has no width: take where the best w of the *draws* fall")
    if not _holds(found, low, high, 0.95):
        mean, std = np.mean(found), np.std(found)
        for right, sentence in (
            (_holds(found, low, high, 0.9), "that holds 90% of the draws: cut off 2.5% at either side"),
            ((low, high) == (found[0], found[-1]), "that holds all of the draws; 95% are wanted"),
            (_holds(found, low, high, 0.975), "that holds 97.5% of the draws: cut off 2.5% at either side"),
            (abs(low - mean + 1.96 * std) < 0.02 and abs(high - mean - 1.96 * std) < 0.02, "that is 1.96 standard "
             "deviations at either side; count where the middle 95% of the draws fall"),
            (abs(high - low - 3.92 * std) < 0.03, "that is 1.96 standard deviations at either side; count where the "
             "middle 95% of the draws fall"),
        ):  # fmt: skip
            require(not right, f"{seen}: {sentence}")
        wide = [found[round(q * (len(found) - 1))] for q in (0.025, 0.975)]
        require(False, f"{seen}; the middle 95% of the best w that your draws found go from {wide[0]:g} to {wide[1]:g}")
    (one, one_asked), (two, two_asked), (_, other) = (run(20, seed) for seed in (6, 6, 7))
    for some in (one_asked, other):
        _require_draws(some, 20, n, keys, everywhere)
    same = one == two and list(one_asked.draws) == list(two_asked.draws)
    said = "the same generator should draw the same rows, and another one others: draw from the `generator` given"
    require(same and list(one_asked.draws) != list(other.draws), said)
    return "The same rows for every scale, drawn with replacement, and the interval holds the middle 95% of your draws."


def _require_draws(asked: _Asked, draws: int, n: int, keys: list[float], everywhere: str) -> None:
    """Require `draws` different draws of n rows with replacement, each of them the same for all keys."""
    resampled = {at: by_key for at, by_key in asked.draws.items() if at != tuple(range(n))}
    require(bool(resampled), f"every draw holds each row once, as the samples do as they are: {everywhere}")
    whole = sum(len(by_key) == len(keys) for by_key in resampled.values())
    said = (
        f"in a draw different w get different rows, and chance moves the best: take the *same* rows of all {len(keys)}"
    )
    require(whole == len(resampled), f"{said} sets within a draw")
    made = f"asked for {draws} draws, it made {len(resampled)}"
    require(len(resampled) > 1, f"{made} different one, again and again: draw new rows each time")
    require(len(resampled) == draws, f"{made} different ones")
    counts = torch.zeros(n)
    for at in resampled:
        counts += torch.bincount(torch.tensor(at).long(), minlength=n)
    limit = 6 * math.sqrt(draws)
    require(bool(((counts - draws).abs() < limit).all()), "some rows are drawn more often than others: every row, "
            "from the first to the last, should be as likely")  # fmt: skip
    different = sum(len(set(at)) for at in resampled) / (n * len(resampled))
    require(0.56 < different < 0.72, f"{different:.0%} of the rows are in a draw, and chance makes 64%: {everywhere}")


def _holds(found: list[float], low: float, high: float, confidence: float) -> bool:
    """Whether low and high are the quantiles of `found`, sorted, that leave out equally many; by any rule of these."""
    ends = []
    for value, q in ((low, (1 - confidence) / 2), (high, (1 + confidence) / 2)):
        at = q * (len(found) - 1)
        below, above = found[max(0, math.floor(at) - 1)], found[min(len(found) - 1, math.ceil(at) + 1)]
        ends.append(below - 1e-5 <= value <= above + 1e-5)
    return all(ends)


def own_rule(answer: Callable) -> str:
    """05.6: `answer(u_0, u_y, w, x, t)` is a rule of guidance, measured beside plain guidance of the same spread."""
    generator = torch.Generator().manual_seed(56)
    for shape in ((6, 2), (5, 1, 8, 8), (1, 2), (200, 3)):
        u_0, u_y, x = (torch.randn(shape, generator=generator) for _ in range(3))
        t = torch.linspace(0, 0.995, shape[0])[torch.randperm(shape[0], generator=generator)]
        _require_rule(answer, u_0, u_y, x, t, f"for x of shape {shape}")
    _require_effect(answer, u_0, u_y, x, t, f"for x of shape {shape}")
    pictures = [torch.cat((part, part[:, :1]), dim=1).reshape(200, 1, 2, 2) for part in (u_0, u_y, x)]
    _require_effect(answer, *pictures, t, "for x of shape (200, 1, 2, 2)")
    weak, y = _weak(), torch.tensor([3, 1, 4, 1])
    noise, t = seeded_noise(4, 1, 32, 32, seed=0), torch.tensor([0.0, 0.3, 0.6, 0.9])
    with torch.no_grad():
        u_0, u_y = weak(noise, t, torch.full_like(y, weak.null)), weak(noise, t, y)
    _require_rule(answer, u_0, u_y, noise, t, "on the field of a network")
    pictures = draw(weak, noise, y, 3.0, rule=_calm(answer), steps=4)
    require(bool(pictures.isfinite().all()), "the digits that it draws at w=3 hold inf or NaN")
    clouds = {w: _cloud(w, _calm(answer)) for w in (2.0, 3.0, 8.0)}
    for w, points in clouds.items():
        finite = bool(points.isfinite().all()) and points.abs().max().item() < 1e6
        require(finite, f"in the plane its points at w={w:g} go to infinity, or are no numbers")
    one, two = (_right(points).double().mean().item() for points in (_plane().plain[1.0], clouds[2.0]))
    lost = one - two > 0.05
    said = (
        f"in the plane {two:.0%} of its points end in their class at w=2, and {one:.0%} at w=1: guidance should lead to"
    )
    require(not lost, f"{said} the class. Is a sign wrong, or are u_0 and u_y exchanged?")
    told = [_verdict(w, clouds[w]) for w in (3.0, 8.0)]
    return " ".join((f"u_y at w=1, one value for one input, every sample on its own.{_disguise(answer)}", *told))


def _calm(rule: Callable, seed: int = 0) -> Rule:
    """The rule as `draw` calls it, its value a tensor, and others' random numbers left alone."""

    def calm(u_0: Tensor, u_y: Tensor, w: float, x: Tensor, t: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            value = as_tensor(rule(u_0, u_y, w, x, t))
            own = torch.initial_seed() == seed
        require(own, "the rule seeds torch's global random numbers, and all that is drawn later changes")
        require(isinstance(value, Tensor), f"the rule's value should be a tensor; it is {kind(value)}")
        shapes = f"{tuple(x.shape)}; it has {tuple(value.shape)}"
        require(value.shape == x.shape, f"the rule's value should have the shape of x, {shapes}")
        require(value.dtype.is_floating_point, f"the rule's value should hold floats; it holds {value.dtype}")
        return value.detach().to(x.dtype)

    return calm


def _require_rule(answer: Callable, u_0: Tensor, u_y: Tensor, x: Tensor, t: Tensor, case: str) -> None:
    rule = _calm(answer)

    def ask(w: float, u_0: Tensor = u_0, u_y: Tensor = u_y, at: slice | Tensor = slice(None)) -> Tensor:
        value = rule(u_0[at], u_y[at], w, x[at], t[at])
        require(bool(value.isfinite().all()), f"{case} its value at w={w:g} holds inf or NaN; times are 0 to .995")
        return value

    mistakes = {
        "that is u_0, the field without a label: are the two exchanged?": u_0,
        "that is 2 u_y - u_0, the field of w=2: here w=1 is the conditional model, so w - 1 multiplies the push": 2
        * u_y
        - u_0,
        "that is the difference u_y - u_0 alone: add it to a field": u_y - u_0,
    }
    hint = "Every rule gives u_y at w=1. Written as u_y + (w - 1) (...) it does so by itself."
    require_close(ask(1.0), u_y, f"{case} at w=1:", mistakes, hint)
    first, again, other = (_calm(answer, seed)(u_0, u_y, 3.0, x, t) for seed in (1, 1, 2))
    said = f"{case} the same input gives another value the second time: the rule has a memory, or random numbers of its"
    require(gap(again, first) < 1e-5, f"{said} own. Then a sample depends on what was drawn before it")
    said = f"{case} its value depends on torch's random numbers: then the same noise does not give the same sample"
    require(gap(other, first) < 1e-5, said)
    strong = ask(3.0)
    alone = torch.cat([ask(3.0, at=slice(k, k + 1)) for k in range(len(x))])
    said = (
        f"{case} a sample's value depends on its companions in the batch: sums and norms go over all axes but the first"
    )
    require(gap(alone, strong) < 1e-3, said)
    for w, where in ((3.0, "where both fields are 0"), (0.5, "below w=1"), (8.0, "where both fields are the same")):
        a, b = {0.5: (u_0, u_y), 3.0: (0 * u_0, 0 * u_y), 8.0: (u_y, u_y)}[w]
        value = rule(a, b, w, x, t)
        said = f"{case} {where} its value holds inf or NaN: keep a denominator off 0, a root in range"
        require(bool(value.isfinite().all()), said)


def _require_effect(answer: Callable, u_0: Tensor, u_y: Tensor, x: Tensor, t: Tensor, case: str) -> None:
    """Require that the rule looks at w and at u_0, at some of many times."""
    rule = _calm(answer)
    near, strong, far = (rule(u_0, u_y, w, x, t) for w in (1.5, 3.0, 8.0))
    said = f"{case} w=3 gives u_y as w=1 does, at every time: that is the plain conditional model, and w has no effect"
    require(gap(strong, u_y) > 1e-3, said)
    for w in (0.999, 1.001):
        said = f"{case} at w={w} it is far from u_y: w=1 should be no special case, but where the rule leads to"
        require(gap(rule(u_0, u_y, w, x, t), u_y) < 0.05, said)
    said = "w=1.5, w=3 and w=8 give the same value: how far w is from 1 should count"
    require(max(gap(far, strong), gap(near, strong)) > 1e-4, said)
    said = "its value does not depend on u_0: guidance needs the difference of the two fields"
    require(gap(rule(u_0 + 0.5 * u_y.flip(0) - 0.3, u_y, 3.0, x, t), strong) > 1e-4, said)


class _Plane(NamedTuple):
    """Petals with exact fields: where plain guidance takes 200 points of each class, at every w."""

    exact: ExactMarginal
    y: Tensor
    edges: Tensor  # log density at the edge of the smallest region that holds 95% of a class, (3,)
    variance: float  # of a class
    plain: dict[float, Tensor]


PLAIN = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


@cache
def _plane() -> _Plane:
    exact, y = ExactMarginal(GaussianPath(), petals()), torch.arange(600) % 3
    z, classes = exact.mixture.sample(60_000, torch.Generator().manual_seed(0))
    logs = exact.log_prob(z, z.new_ones(len(z)), classes)
    edges = torch.stack([logs[classes == label].quantile(0.05) for label in range(3)])
    variance = exact.mixture.eigenvalues[0].sum().item()
    empty = _Plane(exact, y, edges, variance, {})
    return empty._replace(plain={w: _drawn(empty, w, plain) for w in PLAIN})


def _drawn(plane: _Plane, w: float, rule: Rule) -> Tensor:
    noise = seeded_noise(len(plane.y), 2, seed=0)
    return draw(plane.exact.velocity, noise, plane.y, w, rule=rule, steps=10, decode=lambda x: x, chunk=len(noise))


def _cloud(w: float, rule: Rule) -> Tensor:
    return _drawn(_plane(), w, rule)


@cache
def _weak() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        return load_pretrained("mnist-unet-weak", "cpu")[0]


def _right(points: Tensor) -> Tensor:
    plane = _plane()
    return plane.exact.class_logits(points, points.new_ones(len(points))).argmax(dim=1) == plane.y


def _verdict(w: float, points: Tensor) -> str:
    """Accuracy, spread and typical share of points, with bootstrap intervals, beside plain guidance of that spread."""
    plane = _plane()
    n = len(points)
    rows = torch.randint(n, (400, n), generator=torch.Generator().manual_seed(0))
    counts = torch.stack([row.bincount(minlength=n) for row in rows]).double()
    counts = torch.cat((torch.ones(1, n, dtype=torch.float64), counts))  # first the points as they are
    spread, typical = _counted(points, counts)
    right = share(int(_right(points).sum()), n)
    said = f"At w={w:g} in the plane: {right:.1%} right, spread {_middle(spread, '.2f')}"
    said += f", typical {_middle(typical, '.1%')}"
    table = [_counted(cloud, counts) for cloud in plane.plain.values()]
    spreads, shares = (np.stack(part, axis=1)[:, ::-1] for part in zip(*table, strict=True))
    if not spreads[0].min() - 1e-3 <= spread[0] <= spreads[0].max() + 1e-3:
        return f"{said}; plain guidance never has that spread, so there is nothing to compare with."
    at_equal = [np.interp(a, np.maximum.accumulate(b), c) for a, b, c in zip(spread, spreads, shares, strict=True)]
    gains = typical - np.array(at_equal)
    low, high = np.quantile(gains[1:], (0.025, 0.975))
    verdict = (
        "better by more than chance makes"
        if low > 0
        else "worse by more than chance makes"
        if high < 0
        else "within chance"
    )
    beside = f"plain guidance of that spread has {at_equal[0]:.1%} typical"
    return f"{said}; {beside}: a difference of {gains[0]:+z.1%} ({low:+z.1%} to {high:+z.1%}), {verdict}."


def _counted(points: Tensor, counts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(spread, typical share) of the points for each row of counts, how often each of them was drawn."""
    plane, x, total = _plane(), points.double(), 0.0
    for label in range(3):
        own, some = counts[:, plane.y == label], x[plane.y == label]
        size = own.sum(dim=1)
        mean = own @ some / size[:, None]
        total = total + (own @ some.square().sum(1) - size * mean.square().sum(1)) * size / (size - 1)
    logs = plane.exact.log_prob(points, points.new_ones(len(points)), plane.y)
    inside = (logs >= plane.edges[plane.y]).double()
    spread = (total / (plane.variance * len(points))).clamp_min(0).sqrt()
    return spread.numpy(), (counts @ inside / len(points)).numpy()


def _middle(values: np.ndarray, form: str) -> str:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


def _disguise(answer: Callable) -> str:
    """A remark if the rule is plain guidance, perhaps at another w."""
    generator = torch.Generator().manual_seed(0)
    u_0, u_y, x = (torch.randn(50, 4, generator=generator) for _ in range(3))
    value = _calm(answer)(u_0, u_y, 3.0, x, torch.linspace(0, 0.97, 50))
    k = (((value - u_y) * (u_y - u_0)).sum() / (u_y - u_0).square().sum()).item()
    if gap(value, u_y + k * (u_y - u_0)) > 1e-3:
        return ""
    return f" It is plain guidance itself: your w=3 is its w={1 + k:g}."


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
    "05.4": scale_for,
    "05.5": best_scale,
    "05.6": own_rule,
}
