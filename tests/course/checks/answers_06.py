"""Right and wrong answers to the exercises of lesson 06."""

import math

import torch

_made_once = torch.Generator().manual_seed(7)


def shape_table(size, widths, patch, *, stem_side=None, narrow=True, middle=3, up=None, with_stem=True, pixels=None):
    side = stem_side or size // patch
    top = side
    shapes = [(widths[0], side, side)]
    for depth, width in enumerate(widths):
        if depth:
            side //= 2
            shapes.append((widths[depth - 1] if narrow else width, side, side))
        shapes.append((width, side, side))
    shapes += [(widths[-1], side, side)] * middle
    for width in up or reversed(widths):
        shapes.append((width, side, side))
        side *= 2
    return [*shapes, ((1 + with_stem) * widths[0], top, top), (pixels or patch**2, top, top)]


def forgets_the_patches(size, widths, patch):
    return shape_table(size, widths, patch, stem_side=size)


def widens_when_it_halves_the_grid(size, widths, patch):
    return shape_table(size, widths, patch, narrow=False)


def one_part_in_the_middle(size, widths, patch):
    return shape_table(size, widths, patch, middle=1)


def goes_up_in_the_order_of_the_way_down(size, widths, patch):
    return shape_table(size, widths, patch, up=widths)


def head_without_the_stem(size, widths, patch):
    return shape_table(size, widths, patch, with_stem=False)


def one_pixel_a_position(size, widths, patch):
    return shape_table(size, widths, patch, pixels=1)


def stops_before_the_head(size, widths, patch):
    return shape_table(size, widths, patch)[:-2]


def with_a_line_for_the_output(size, widths, patch):
    return [*shape_table(size, widths, patch), (1, size, size)]


def with_the_batch(size, widths, patch):
    return [(5, *shape) for shape in shape_table(size, widths, patch)]


def knows_the_lesson_by_heart(size, widths, patch):
    return shape_table(32, (32, 64, 96), 2)


def no_answer(*_):
    return None


def alone(network, x, t, y):
    apart = torch.cat([network(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    return not torch.allclose(network(x, t, y), apart, rtol=1e-3, atol=1e-5)


def in_other_company(network, x, t, y):
    together = network(x, t, y)
    for i in range(len(x)):
        others = [torch.randn_like(x), torch.rand_like(t), torch.randint(10, y.shape)]
        for mine, other in zip((x, t, y), others, strict=True):
            other[i] = mine[i]
        if (network(*others)[i] - together[i]).abs().max() > 1e-5:
            return True
    return False


def asks_in_eval_mode(network, x, t, y):
    network.eval()
    return alone(network, x, t, y)


def in_another_order(network, x, t, y):
    return not torch.allclose(network(x, t, y).flip(0), network(x.flip(0), t.flip(0), y.flip(0)), rtol=1e-3, atol=1e-5)


def without_rounding(network, x, t, y):
    apart = torch.cat([network(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    return bool(((network(x, t, y) - apart).abs() > 1e-12).any())


def only_the_first_sample(network, x, t, y):
    return not torch.allclose(network(x, t, y)[:1], network(x[:1], t[:1], y[:1]), rtol=1e-3, atol=1e-5)


def only_other_pictures(network, x, t, y):
    together = network(x, t, y)
    for i in range(len(x)):
        other = torch.randn_like(x)
        other[i] = x[i]
        if (network(other, t, y)[i] - together[i]).abs().max() > 1e-5:
            return True
    return False


def always(network, x, t, y):
    return True


def power_average(mean, theta, n, gamma):
    beta = (1 - 1 / n) ** (gamma + 1)
    return beta * mean + (1 - beta) * theta


def in_place(mean, theta, n, gamma):
    return mean.lerp_(theta, 1 - (1 - 1 / n) ** (gamma + 1))


def constant_decay(mean, theta, n, gamma):
    return theta if n == 1 else 0.9 * mean + 0.1 * theta


def changed_places(mean, theta, n, gamma):
    return power_average(theta, mean, n, gamma)


def power_gamma(mean, theta, n, gamma):
    return power_average(mean, theta, n, gamma - 1)


def counts_from_two(mean, theta, n, gamma):
    return power_average(mean, theta, n + 1, gamma)


def counts_from_zero(mean, theta, n, gamma):
    return power_average(mean, theta, n - 1, gamma)


def adds_without_keeping(mean, theta, n, gamma):
    return mean + (1 - (1 - 1 / n) ** (gamma + 1)) * theta


def noise_of_seeds(seeds, shape):
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def seeds_everybody(seeds, shape):
    rows = []
    for seed in seeds:
        torch.manual_seed(seed)
        rows.append(torch.randn(shape))
    return torch.stack(rows)


def without_a_seed(seeds, shape):
    return torch.randn(len(seeds), *shape)


def generator_made_once(seeds, shape):
    return torch.randn(len(seeds), *shape, generator=_made_once)


def one_generator_for_the_batch(seeds, shape):
    return torch.randn(len(seeds), *shape, generator=torch.Generator().manual_seed(seeds[0]))


def one_seed_for_all(seeds, shape):
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(7)) for _ in seeds])


def uniform_noise(seeds, shape):
    return torch.stack([torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def entropy(digits):
    share = digits.bincount() / len(digits)
    share = share[share > 0]
    return -(share * share.log2()).sum().item()


def entropy_by_clamping(digits):
    share = digits.bincount(minlength=10) / len(digits)
    return -(share * share.clamp_min(1e-9).log2()).sum()


def in_nats(digits):
    return math.log(2) * entropy(digits)


def to_base_ten(digits):
    return math.log10(2) * entropy(digits)


def zero_times_minus_infinity(digits):
    share = digits.bincount(minlength=10) / len(digits)
    return -(share * share.log2()).sum().item()


def without_the_minus(digits):
    return -entropy(digits)


def number_of_classes(digits):
    return math.log2(len(digits.unique()))


def counts_for_shares(digits):
    share = digits.bincount().float()
    share = share[share > 0]
    return (share * share.log2()).sum().item()


RIGHT = {
    "06.1": [shape_table],
    "06.2": [alone],
    "06.3": [power_average],
    "06.4": [noise_of_seeds],
    "06.5": [entropy],
}

WRONG = {
    "06.1": [
        (forgets_the_patches, r"\(stem\) should be .* Patches come first"),
        (widens_when_it_halves_the_grid, r"\(downsample.0\) should be .* Halving the grid leaves the channels"),
        (one_part_in_the_middle, r"\(midcoder.2\) should be .* three parts"),
        (goes_up_in_the_order_of_the_way_down, r"\(decoder.0.0\) should be .* from the last width to the first"),
        (head_without_the_stem, r"\(head_norm\) should be .* side by side"),
        (one_pixel_a_position, r"\(head\) should be .* pixels of one patch"),
        (stops_before_the_head, "ends after 12 lines, before head_norm"),
        (with_a_line_for_the_output, "has 15 lines, the network 14 parts"),
        (with_the_batch, "without the batch"),
        (knows_the_lesson_by_heart, r"for size 24, .* \(stem\) should be"),
        (no_answer, "is a `return` missing"),
    ],
    "06.2": [
        (always, "True for a U-Net with GroupNorm"),
        (asks_in_eval_mode, "eval mode"),
        (in_another_order, "another order of the same batch"),
        (without_rounding, "is rounding: allow for it"),
        (only_the_first_sample, "look at all of them"),
        (only_other_pictures, "Times and labels are company"),
        (no_answer, "is a `return` missing"),
    ],
    "06.3": [
        (constant_decay, "at n = 10 and at n = 100 alike"),
        (changed_places, "have changed places"),
        (power_gamma, r"should be gamma \+ 1"),
        (counts_from_two, "should count .*; in yours it counts"),
        (counts_from_zero, "in the line `beta = .*ZeroDivisionError.* n = 1,"),
        (in_place, "changed its argument mean in place"),
        (adds_without_keeping, "they should sum to 1"),
        (no_answer, "is a `return` missing"),
    ],
    "06.4": [
        (seeds_everybody, "global random numbers are no longer"),
        (without_a_seed, "other noise when they are asked for again"),
        (generator_made_once, "other noise when they are asked for again"),
        (one_generator_for_the_batch, "give every seed its own"),
        (one_seed_for_all, "seeds 7 and 8 give the same noise"),
        (uniform_noise, "standard normal has 0 and 1"),
        (no_answer, "is a `return` missing"),
    ],
    "06.5": [
        (in_nats, "natural logarithms"),
        (to_base_ten, "to base 2"),
        (zero_times_minus_infinity, "0 log 0 counts as 0"),
        (without_the_minus, "never negative"),
        (number_of_classes, "number of classes seen"),
        (counts_for_shares, "divided by the number of samples"),
        (no_answer, "is a `return` missing"),
    ],
}
