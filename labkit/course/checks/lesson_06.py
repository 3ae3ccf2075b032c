"""Lesson 06: shapes of a U-Net, samples and their batch, the average of the weights, seeds, and the null row."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.distributions import Categorical

from labkit.base.shapes import expand_t
from labkit.course.checks.require import NotRight, gap, kind, require, require_like, require_number, require_verdict
from labkit.nn.trace import shape_trace
from labkit.nn.unet import UNet

# What to think about where a line of the shape table is wrong, by the part that the line is about.
ABOUT = {
    "stem": "Patches come first: the grid of the stem has size / patch positions a side",
    "encoder": "An encoder leaves its level's width, on the grid that it was given",
    "downsample": "Halving the grid leaves the channels as they are; it is the next encoder that changes them",
    "midcoder": "The middle has three parts, block, attention and block, all of the last width on the coarsest grid",
    "decoder": "The way up goes from the last width to the first; doubling the grid is no part of its own",
    "head_norm": "What the head reads is the last decoder's output and the stem's, side by side",
    "head": "The head leaves the pixels of one patch as the channels of one position",
}


def shape_table(answer: Callable) -> str:
    """06.1: `(size, widths, patch)` to the shapes `(channels, height, width)` from the stem to the head."""
    sizes = [(32, (32, 64, 96), 2), (24, (16,), 4), (20, (8, 24), 1), (48, (24, 8, 40), 2), (64, (8, 16, 32, 24), 4)]
    for size, widths, patch in sizes:
        with torch.random.fork_rng(devices=[]):
            network = UNet(num_classes=None, widths=widths, patch=patch, emb_dim=16)
        parts = shape_trace(network, torch.zeros(1, 1, size, size), torch.zeros(1))[1:]
        table = answer(size, widths, patch)
        require(isinstance(table, list | tuple), f"the answer should be a list of shapes; it is {kind(table)}")
        case = f"for size {size}, widths {widths} and patch {patch},"
        for line, (name, (_, *truth)) in enumerate(parts):
            about = ABOUT[name.partition(".")[0]]
            require(line < len(table), f"{case} your table ends after {line} lines, before {name}. {about}")
            yours = table[line]
            three = isinstance(yours, list | tuple) and len(yours) == 3
            said = "every line should be (channels, height, width), without the batch"
            require(three, f"{said}; line {line + 1} is {str(yours)[:60]}")
            said = f"{case} line {line + 1} ({name}) should be {tuple(truth)}; yours is {tuple(yours)}. {about}"
            require(list(yours) == truth, said)
        require(len(table) == len(parts), f"{case} your table has {len(table)} lines, the network {len(parts)} parts")
    return f"{len(sizes)} networks of one to four levels, drawn by their own traces, have the shapes of your table."


def depends_on_batch(answer: Callable) -> str:
    """06.2: `(network, x, t, y)` to whether any sample's output changes with the rest of its batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 1, 8, 8, generator=generator, dtype=torch.float64)
    t = torch.rand(5, generator=generator, dtype=torch.float64)
    y = torch.arange(5)

    def ask(network: Callable) -> bool:
        with torch.random.fork_rng(devices=[]):
            return require_verdict(answer(network, x, t, y))

    said = (
        "it says True for a U-Net with GroupNorm, which normalises every image by itself. Is each output compared with "
    )
    require(not ask(_small_unet(batch_norm=False)), said + "that of the same image, time and label?")
    normalised = _small_unet(batch_norm=True)
    seen = ask(normalised)
    said = "it says False for BatchNorm in training mode: "
    eval_mode = said + "your function puts the network into eval mode, where BatchNorm uses stored statistics"
    require(seen or normalised.training, eval_mode)
    company = "another order of the same batch changes nothing there: give a sample other company, or none"
    require(seen, said + company)
    for network, verdict, sentence in (
        (lambda x, t, y: x * (1 + 2e-8 * len(x)), False, "a difference of 0.00001%, which is rounding: allow for it, "
         "as torch.allclose does"),
        (lambda x, t, y: x.cumsum(dim=0), True, "a network that adds to every sample all those before it. The first "
         "sample notices nothing: look at all of them"),
        (lambda x, t, y: x * expand_t(1 + t - t.mean(), x), True, "a network that looks at the mean time of the batch. "
         "Times and labels are company as well: change them too, or leave the sample alone"),
    ):  # fmt: skip
        require(ask(network) == verdict, f"it says {not verdict} for {sentence}")
    return "GroupNorm lets every sample speak for itself, BatchNorm in training does not, and your test can tell."


def power_average(answer: Callable) -> str:
    """06.3: `(mean, theta, n, gamma)` to the mean after step n, where beta_n = (1 - 1/n)^(gamma + 1)."""
    steps = 30
    thetas = torch.randn(steps, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = torch.arange(1, steps + 1, dtype=torch.float64)[:, None]
    for gamma in (2.5, 9.0, 0.0):
        mean = torch.full((4,), 7.0, dtype=torch.float64)  # the first step must forget it
        for n, theta in enumerate(thetas, start=1):
            mean = answer(mean, theta, n, gamma)
            require_like(mean, theta, f"the mean after step {n}")
        powers = gamma + 1
        truth = (((k / steps) ** powers - ((k - 1) / steps) ** powers) * thetas).sum(dim=0)
        if gap(mean, truth) > 1e-6:
            raise NotRight(_why_not(answer, gamma))
    return "Thirty updates weigh step k by (k/N)^(gamma+1) - ((k-1)/N)^(gamma+1), and gamma = 0 is the plain mean."


def noise_of_seeds(answer: Callable) -> str:
    """06.4: `(seeds, shape)` to one standard normal image a seed, the same in any company."""
    shape = (1, 8, 8)
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        noise, again = answer([7, 8, 9], shape), answer([7, 8, 9], shape)
        untouched = torch.get_rng_state().equal(before)
        alone, turned, many = answer([8], shape), answer([9, 8], shape), answer(list(range(100, 164)), (1, 16, 16))
    for drawn, n, size in (
        (noise, 3, shape),
        (again, 3, shape),
        (alone, 1, shape),
        (turned, 2, shape),
        (many, 64, (1, 16, 16)),
    ):
        require_like(drawn, torch.zeros(n, *size), f"the noise of {n} seeds")
    said = "the same seeds give other noise when they are asked for again. Each call must start from the seeds: is a "
    require(noise.equal(again), said + "generator made, and seeded, inside the function?")
    said = (
        "the seeds repeat, but torch's global random numbers are no longer where they were, and all that the notebook "
    )
    require(untouched, said + "draws later has changed. Draw from a torch.Generator() of your own")
    require(not noise[0].equal(noise[1]), "seeds 7 and 8 give the same noise")
    said = "seed 8 gives one image after seed 7 and another one by itself. One generator for the whole batch makes an "
    own = alone[0].equal(noise[1]) and turned.equal(noise[[2, 1]])
    require(own, said + "image depend on its company: give every seed its own")
    mean, std = many.mean().item(), many.std().item()  # 16,384 values: standard errors .008 and .006
    said = f"the noise of 64 seeds has mean {mean:.2f} and standard deviation {std:.2f}; standard normal has 0 and 1"
    require(abs(mean) < 0.04 and abs(std - 1) < 0.03, said)
    return "Image 8 is image 8, alone or in company, and nobody else's random numbers moved."


def entropy_in_bits(answer: Callable) -> str:
    """06.5: classes (n,) to the entropy of their shares in bits."""
    generator = torch.Generator().manual_seed(0)
    cases = {
        "eight classes, equally often": torch.arange(8).repeat(5),
        "the ten digits, equally often": torch.arange(10).repeat(3),
        "shares 1/2, 1/4 and 1/4 of classes 0, 1 and 2": torch.tensor([0, 0, 1, 2]),
        "only 0 and 9, equally often": torch.tensor([0, 9, 9, 0]),
        "nothing but threes": torch.full((20,), 3),
        "60 random classes": torch.randint(10, (60,), generator=generator).clamp_max(6),
    }
    for name, digits in cases.items():
        truth = Categorical(digits.bincount().double() / len(digits)).entropy().item() / math.log(2)
        value = require_number(answer(digits), f"for {name} the entropy, where 0 log 0 counts as 0,")
        said = f"for {name} it should be {truth:.3f} bits; yours is {value:.3f}"
        require(value > -1e-4, f"{said}. Entropy is never negative: logarithms of shares are")
        if abs(value - truth) > 1e-3:
            nats = abs(value - truth * math.log(2)) < 1e-4
            require(not nats, f"{said}, which is what natural logarithms (nats) give; bits need base 2")
            counted = abs(value - math.log2(len(digits.unique()))) < 1e-4
            require(not counted, f"{said}, log2 of the number of classes seen. Their shares count as well")
            require(
                False, f"{said}. Are the shares counts divided by the number of samples, and the logarithms to base 2?"
            )
    return "Zero for one class, 1 for two, log2 10 for all ten, and shares that are not equal lie below."


CHECKS: dict[str, Callable[[Callable], str]] = {
    "06.1": shape_table,
    "06.2": depends_on_batch,
    "06.3": power_average,
    "06.4": noise_of_seeds,
    "06.5": entropy_in_bits,
}


def _small_unet(*, batch_norm: bool) -> nn.Module:
    """A U-Net in training mode, in float64, without the zeros it starts with: what answers 0 depends on nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(widths=(8, 16), emb_dim=16)
        for weight in network.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.1)
        for module in list(network.modules()) if batch_norm else []:
            for name, child in module.named_children():
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, nn.BatchNorm2d(child.num_channels))
    return network.double().requires_grad_(False).train()


def _why_not(answer: Callable, gamma: float) -> str:
    """What is wrong with one update, from the weights that it gives to the new value and to the mean."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    ns = (2, 10, 100)
    new = [float(answer(zero, one, n, gamma)) for n in ns]
    old = [float(answer(one, zero, n, gamma)) for n in ns]

    def like(weights: list[float], power: float) -> bool:
        return all(abs(w - 1 + (1 - 1 / n) ** power) < 1e-6 for w, n in zip(weights, ns, strict=True))

    total = old[1] + new[1]
    case = f"for gamma = {gamma:g}"
    if abs(total - 1) > 1e-6:
        return f"{case} at n = 10 the old mean counts {old[1]:.3f} and the new value {new[1]:.3f}; they should sum to 1"
    if abs(new[1] - new[2]) < 1e-6:
        return f"{case} the new value counts {new[1]:.4f} at n = 10 and at n = 100 alike: let beta_n grow with n"
    if like(old, gamma + 1):
        return f"{case} mean and new value have changed places: the mean is what keeps beta_n"
    if like(new, gamma):
        return f"{case} the power is gamma; it should be gamma + 1 (with gamma = 0 every step counts alike)"
    return f"{case} at n = 10 the new value should count {1 - 0.9 ** (gamma + 1):.4f}; in yours it counts {new[1]:.4f}"
