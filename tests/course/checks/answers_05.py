"""Right and known-wrong answers to the exercises of lesson 05."""

import torch


def drop(y, p, null, generator):
    return torch.where(torch.rand(len(y), generator=generator) < p, null, y)


def drop_the_others(y, p, null, generator):
    return torch.where(torch.rand(len(y), generator=generator) < p, y, null)


def drop_in_place(y, p, null, generator):
    y[torch.rand(len(y), generator=generator) < p] = null
    return y


def drop_the_first(y, p, null, generator):
    dropped = y.clone()
    dropped[: int(p * len(y))] = null
    return dropped.roll(1)


def drop_one_class(y, p, null, generator):
    dropped = y.clone()
    for label in y.unique()[: round(p * len(y.unique()))]:
        dropped[y == label] = null
    return torch.where(torch.rand(len(y), generator=generator) < 0.05, null, dropped)


def drop_half(y, p, null, generator):
    return torch.where(torch.rand(len(y), generator=generator) < 0.5, null, y)


def drop_as_floats(y, p, null, generator):
    return torch.where(torch.rand(len(y), generator=generator) < p, float(null), y.float())


def exact_count(y, p, null, generator):
    dropped = y.clone()
    dropped[torch.randperm(len(y), generator=generator)[: int(p * len(y))]] = null
    return dropped


def global_rng(y, p, null, generator):
    with torch.random.fork_rng(devices=[]):
        return torch.where(torch.rand(len(y)) < p, null, y)


def both_at_once(model, x, t, y, w, null):
    labels = torch.cat((torch.full_like(y, null), y))
    without, with_y = model(torch.cat((x, x)), torch.cat((t, t)), labels).chunk(2)
    return (1 - w) * without + w * with_y


def two_passes(model, x, t, y, w, null):
    return (1 - w) * model(x, t, torch.full_like(y, null)) + w * model(x, t, y)


def the_other_convention(model, x, t, y, w, null):
    without, with_y = model(torch.cat((x, x)), torch.cat((t, t)), torch.cat((torch.full_like(y, null), y))).chunk(2)
    return (1 + w) * with_y - w * without


def chunks_exchanged(model, x, t, y, w, null):
    with_y, without = model(torch.cat((x, x)), torch.cat((t, t)), torch.cat((torch.full_like(y, null), y))).chunk(2)
    return (1 - w) * without + w * with_y


def interleaved(model, x, t, y, w, null):
    labels = torch.stack((torch.full_like(y, null), y), dim=1).reshape(-1)
    without, with_y = model(x.repeat_interleave(2, 0), t.repeat_interleave(2), labels).chunk(2)
    return (1 - w) * without + w * with_y


def no_guidance(model, x, t, y, w, null):
    return model(x, t, y)


def our_scale(scale, starts_from):
    return scale if starts_from == "null" else scale + 1


def scales_exchanged(scale, starts_from):
    return scale if starts_from == "conditional" else scale + 1


def scale_unchanged(scale, starts_from):
    return scale


def always_one_more(scale, starts_from):
    return scale + 1


def guided_std(wide, narrow, w):
    return wide ** (1 - w) * narrow**w


def tilted_std(wide, narrow, w):
    return ((1 - w) / wide**2 + w / narrow**2) ** -0.5


def mixed_std(wide, narrow, w):
    return (1 - w) * wide + w * narrow


def guided_variance(wide, narrow, w):
    return (wide ** (1 - w) * narrow**w) ** 2


def exponents_exchanged(wide, narrow, w):
    return wide**w * narrow ** (1 - w)


def inside_only(t, w, lo, hi):
    return torch.where((t >= lo) & (t <= hi), w, 1.0)


def zero_outside(t, w, lo, hi):
    return w * ((t >= lo) & (t <= hi)).float()


def outside_only(t, w, lo, hi):
    return torch.where((t >= lo) & (t <= hi), 1.0, w)


def open_interval(t, w, lo, hi):
    return torch.where((t > lo) & (t < hi), w, 1.0)


def ignores_the_limits(t, w, lo, hi):
    return torch.where((t >= 0.2) & (t <= 0.8), w, 1.0)


def one_number(t, w, lo, hi):
    return w if lo <= t[3] <= hi else 1.0


def by_bootstrap(distance, fakes, draws, generator):
    n = len(next(iter(fakes.values())))
    found = []
    for _ in range(draws):
        rows = torch.randint(n, (n,), generator=generator)
        found.append(min(fakes, key=lambda key: distance(fakes[key][rows])))
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return min(fakes, key=lambda key: distance(fakes[key])), low, high


def by_permutation(distance, fakes, draws, generator):
    n = len(next(iter(fakes.values())))
    found = []
    for _ in range(draws):
        rows = torch.randperm(n, generator=generator)
        found.append(min(fakes, key=lambda key: round(distance(fakes[key][rows]), 9)))
    best = min(fakes, key=lambda key: distance(fakes[key]))
    return best, min(found), max(found)


def different_rows(distance, fakes, draws, generator):
    n = len(next(iter(fakes.values())))
    found = []
    for _ in range(draws):
        found.append(min(fakes, key=lambda w: distance(fakes[w][torch.randint(n, (n,), generator=generator)])))
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return min(fakes, key=lambda w: distance(fakes[w])), low, high


def by_largest(distance, fakes, draws, generator):
    return max(fakes, key=lambda key: distance(fakes[key])), 0.0, 1.0


def by_few_rows(distance, fakes, draws, generator):
    n = len(next(iter(fakes.values())))
    found = []
    for _ in range(draws):
        rows = torch.randint(n, (5,), generator=generator)
        found.append(min(fakes, key=lambda key: distance(fakes[key][rows])))
    return min(fakes, key=lambda key: distance(fakes[key])), min(found), max(found)


RIGHT = {
    "05.1": [both_at_once],
    "05.2": [our_scale],
    "05.3": [drop],
    "05.4": [guided_std],
    "05.5": [by_bootstrap],
    "05.6": [inside_only],
}

WRONG = {
    "05.1": [
        (two_passes, "called 2 times"),
        (the_other_convention, r"field of w \+ 1"),
        (chunks_exchanged, "changed places"),
        (interleaved, r"off by .* It should be \(1 - w\)"),
        (no_guidance, "w has no effect"),
    ],
    "05.2": [
        (scales_exchanged, "exchanged"),
        (scale_unchanged, "starting from the conditional field"),
        (always_one_more, "starting from the null field"),
    ],
    "05.3": [
        (drop_the_others, "is the mask the wrong way round"),
        (drop_in_place, "changed its argument y in place"),
        (drop_the_first, "must stay at its place|independently of their class"),
        (drop_one_class, "it dropped|independently of their class"),
        (drop_half, r"asked to drop 10%, it dropped (49|50)\."),
        (exact_count, "each should be dropped on its own"),
        (global_rng, "draw from the `generator` given"),
        (drop_as_floats, "should stay torch.int64"),
    ],
    "05.4": [
        (tilted_std, "tilted density"),
        (mixed_std, "mixes the standard deviations"),
        (guided_variance, "that is the variance"),
        (exponents_exchanged, "integrating the ODE gives"),
    ],
    "05.5": [
        (different_rows, "\\*same\\* rows of every set"),
        (by_permutation, "with\\* replacement"),
        (by_largest, "min, not max"),
        (by_few_rows, "your interval is"),
    ],
    "05.6": [
        (zero_outside, "the digit asked for is forgotten"),
        (outside_only, "exchanged"),
        (ignores_the_limits, "Outside it should be 1"),
        (open_interval, "both included"),
        (one_number, "should be a tensor"),
    ],
}
