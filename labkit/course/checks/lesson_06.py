"""Checks of lesson 06: a residual block, samples and their batch, a plan within a budget, seeds, and the null row."""

import math
import random
from collections.abc import Callable
from copy import deepcopy

import numpy
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from labkit.base.shapes import expand_t
from labkit.course.checks.budget import held_out, operations, steps_within, trained_within
from labkit.course.checks.require import (
    NotRight,
    as_tensor,
    gap,
    kind,
    require,
    require_close,
    require_like,
    require_number,
    require_verdict,
)
from labkit.nn.dit import DiT
from labkit.nn.unet import ResidualBlock, UNet

SMALL, LARGE = 7e10, 3.3e13  # operations: what the check of 06.3 trains with, and what the lesson does on two cores
TARGET = 0.4  # the held-out loss to reach with SMALL
FEWEST, MOST = 20, 1000  # steps that are worth a try, and that do not take too long
MOST_IN_LESSON = 20_000  # steps that the lesson takes at most, whatever its budget would pay

_REACHED: dict[tuple, float] = {}  # held-out losses of the plans that were trained in this process


def residual_block(answer: Callable) -> str:
    """06.1: `MyBlock(channels_in, channels_out, emb_dim)` whose `forward(x, emb)` is that of labkit's block."""
    for channels_in, channels_out, emb_dim, size in ((16, 16, 12, 8), (8, 24, 16, 6), (24, 8, 8, 5)):
        case = f"MyBlock({channels_in}, {channels_out}, {emb_dim}):"
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(601)
            truth = ResidualBlock(channels_in, channels_out, emb_dim)
            mine = answer(channels_in, channels_out, emb_dim)
            require(
                isinstance(mine, nn.Module), f"{case} the answer should be a class of networks; it made {kind(mine)}"
            )
            x, emb = torch.randn(3, channels_in, size, size), torch.randn(3, emb_dim, requires_grad=True)
            at_first = _through(mine, x, emb, f"{case} as it is made,")
            require_like(at_first, truth(x, emb), f"{case} the output")
            try:
                truth.load_state_dict(mine.state_dict())
            except RuntimeError as error:
                parts = ", ".join(name for name, _ in truth.named_children())
                said = f"{case} the parts must keep their names, {parts}, and their sizes: {str(error)[:200]}"
                raise NotRight(said) from error
            said = f"{case} before any training the last convolution is 0, so the block should give its shortcut of x"
            require(gap(at_first, truth.shortcut(x)) < 1e-4, said)
            for weight in truth.parameters():  # what starts at 0 would hide mistakes
                nn.init.normal_(weight, mean=0.1, std=0.4)
            mine.load_state_dict(truth.state_dict())
            value, right = _through(mine, x, emb, case), truth(x, emb)
            known = _block_mistakes(truth, x, emb)
            hint = "Follow the arrows: normalise, silu, convolve; normalise, scale and shift, silu, convolve; add"
            require_close(value.detach(), right.detach(), case, known, hint)
            alone = _through(mine.eval(), x, emb, f"{case} in eval mode,")
            require_close(alone.detach(), right.detach(), f"{case} in eval mode", {}, "In training mode it was right")
            alone = _through(mine.train(), x[1:2], emb[1:2], f"{case} for a batch of one,")
            require_like(alone, value[1:2], f"{case} the output for a batch of one")
            require(gap(alone[0], value[1]) < 1e-3, f"{case} an image's output changes with its batch")
            for name, slope, found in _slopes(truth, mine, x, emb):
                said = f"{case} the output is right, but no gradient reaches `{name}`: is something detached?"
                require(found is not None and found.any(), said)
                require(gap(found, slope) < 1e-2, f"{case} the output is right, but not the gradient of `{name}`")
    return "Three blocks with labkit's weights give labkit's output, and one that is new gives its shortcut."


def _slopes(truth: nn.Module, mine: nn.Module, x: Tensor, emb: Tensor) -> list[tuple[str, Tensor, Tensor | None]]:
    """What a loss's gradient should be and is, for x, emb and every weight, by name."""

    def of(block: nn.Module) -> dict[str, Tensor | None]:
        inputs = {"x": x.clone().requires_grad_(), "emb": emb.clone().detach().requires_grad_()}
        wanted = inputs | {name: weight for name, weight in block.named_parameters() if weight.requires_grad}
        try:
            loss = block(*(part.clone() for part in inputs.values())).square().mean()
            found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True) if loss.requires_grad else ()
        except RuntimeError as error:
            said = f"the output is right, but its gradient cannot be taken: {str(error)[:150]}"
            raise NotRight(f"{said}. Is something changed in place that is needed again?") from error
        return dict(zip(wanted, found, strict=False))

    right, found = of(truth), of(mine)
    return [(name, slope, found.get(name)) for name, slope in right.items()]


def _through(network: nn.Module, x: Tensor, emb: Tensor, case: str) -> Tensor:
    """network(x, emb); what it stops with becomes a sentence."""
    try:
        value = network(x.clone(), emb.clone())
    except Exception as error:
        if isinstance(error, NotImplementedError):
            if not error.args or "exercise" in str(error):
                raise  # the blank
            raise NotRight(f"{case} the class has no method `forward(self, x, emb)`") from error
        told = f"x of shape {tuple(x.shape)} and emb of shape {tuple(emb.shape)}"
        channels = network.shortcut if isinstance(getattr(network, "shortcut", None), nn.Conv2d) else None
        hint = " A scale (B, C) meets images (B, C, H, W) as scale[:, :, None, None]." if "size" in str(error) else ""
        if channels is not None and "dimension 1" in str(error):
            hint = (
                f" x has {channels.in_channels} channels and the result {channels.out_channels}: shortcut(x) fits them."
            )
        said = f"{case} your forward stopped with {type(error).__name__}: {error}. It was given {told}.{hint}"
        raise NotRight(said) from error
    require(isinstance(value, Tensor), f"{case} forward should return a tensor; it is {kind(value)}")
    return value


def _block_mistakes(block: ResidualBlock, x: Tensor, emb: Tensor) -> dict[str, Tensor]:
    """What blocks with likely mistakes would give, by what is wrong with them."""
    silu, first, second, skip = nn.functional.silu, block.norm_in, block.norm_out, block.shortcut(x)
    scale, shift = block.scale_shift(silu(emb))[:, :, None, None].chunk(2, dim=1)
    raw_scale, raw_shift = block.scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
    h = block.conv_in(silu(first(x)))
    plain = block.conv_in(first(x))

    def end(z: Tensor) -> Tensor:
        return skip + block.conv_out(silu(z))

    mean_scale, mean_shift = block.scale_shift(silu(emb.mean(0, keepdim=True)))[:, :, None, None].chunk(2, dim=1)
    odd, even = (block.scale_shift(silu(emb))[:, k::2, None, None] for k in (0, 1))
    relu = nn.functional.relu
    relu_scale, relu_shift = block.scale_shift(relu(emb))[:, :, None, None].chunk(2, dim=1)

    wrong = {
        "the shortcut is missing: a residual block adds to its input": end(second(h) * (1 + scale) + shift) - skip,
        "the scale multiplies, and nothing is left where it is 0: 1 + scale": end(second(h) * scale + shift),
        "scale and shift have changed places: the first half scales": end(second(h) * (1 + shift) + scale),
        "emb goes through silu before it becomes scale and shift": end(second(h) * (1 + raw_scale) + raw_shift),
        "a silu is missing between the first norm and the first convolution": end(second(plain) * (1 + scale) + shift),
        "a silu is missing before the last convolution": skip + block.conv_out(second(h) * (1 + scale) + shift),
        "time and class are not heard: where are scale and shift?": end(second(h)),
        "the second norm is missing: scale and shift act on normalised channels": end(h * (1 + scale) + shift),
        "normalised after scale and shift, which takes most of them away again": end(second(h * (1 + scale) + shift)),
        "the shift is scaled as well: scale first, then shift": end((second(h) + shift) * (1 + scale)),
        "silu came first and the norm after it": skip
        + block.conv_out(silu(second(block.conv_in(first(silu(x)))) * (1 + scale) + shift)),
        "the first norm is missing": end(second(block.conv_in(silu(x))) * (1 + scale) + shift),
        "the shift is missing": end(second(h) * (1 + scale)),
        "the scale is missing": end(second(h) + shift),
        "that is the shortcut alone: the correction f(x) is missing": skip,
        "every image has its own emb, and they were averaged": end(second(h) * (1 + mean_scale) + mean_shift),
        "every image has its own emb, and the first was taken for all": end(second(h) * (1 + scale[:1]) + shift[:1]),
        "all scales come first, then all shifts; here they take turns": end(second(h) * (1 + odd) + even),
        "the scale is 1 + s, not exp(s)": end(second(h) * scale.exp() + shift),
        "the shift comes after the norm, which takes most of it away again": end(second(h + shift) * (1 + scale)),
        "relu stands in the place of silu": skip
        + block.conv_out(relu(second(block.conv_in(relu(first(x)))) * (1 + relu_scale) + relu_shift)),
    }
    return {sentence: value.detach() for sentence, value in wrong.items()}


def depends_on_batch(answer: Callable) -> str:
    """06.2: `(network, x, t, y)` to whether any sample's output changes with the rest of its batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 1, 8, 8, generator=generator, dtype=torch.float64)
    t = torch.rand(5, generator=generator, dtype=torch.float64)
    y = torch.arange(5)

    def ask(network: Callable) -> bool:
        with torch.random.fork_rng(devices=[]):
            return require_verdict(answer(network, x, t, y))

    said = "it says True for a U-Net with GroupNorm, which normalises every image by itself. Is each output compared "
    said += "with "
    require(not ask(_small_unet(batch_norm=False)), said + "that of the same image, time and label?")
    normalised = _small_unet(batch_norm=True)
    seen = ask(normalised)
    said = "it says False for BatchNorm in training mode: "
    eval_mode = said + "your function puts the network into eval mode, where BatchNorm uses stored statistics"
    require(seen or normalised.training, eval_mode)
    company = "another order of the same batch changes nothing there: give a sample other company, or none"
    require(seen, said + company)
    for forward, verdict, sentence in (
        (lambda x, t, y: x * (1 + 2e-8 * len(x)), False, "a difference of 0.00001%, which is rounding: allow for it, "
         "as torch.allclose does"),
        (lambda x, t, y: x.cumsum(dim=0), True, "a network that adds to every sample all those before it. The first "
         "sample notices nothing, and what comes behind a sample changes nothing: look at all, and change all else"),
        (lambda x, t, y: x.flip(0).cumsum(dim=0).flip(0), True, "a network that adds to every sample all those after "
         "it. The last sample notices nothing, and what comes before one changes nothing: look at all, and change all "
         "else"),
        (lambda x, t, y: x + _only(0, x) * x.mean(), True, "a network in which only the first sample notices its "
         "company: look at all of them"),
        (lambda x, t, y: x + _only(2, x) * x.mean(), True, "a network in which only the sample in the middle notices "
         "its company: look at all of them"),
        (lambda x, t, y: x + _only(4, x) * x.mean(), True, "a network in which only the last sample notices its "
         "company: look at all of them"),
        (lambda x, t, y: x + 0.2 * x.mean() * _corner(x), True, "a network that moves ink between two pixels of every "
         "sample, by the mean of the batch: compare all pixels, and not their means or sums"),
        (lambda x, t, y: x + 0.1 * x.roll(1, dims=0), True, "a network that adds its neighbour to every sample"),
        (lambda x, t, y: x.roll(1, dims=0), True, "a network that gives every sample its neighbour's picture. All in "
         "all the same pictures come out: compare each sample with itself"),
        (lambda x, t, y: x + torch.cat((torch.zeros_like(x[:1]), x[:-1])) * _odd(x), True, "a network that adds to "
         "every second sample the one before it. Whatever stays together in your test notices nothing"),
        (lambda x, t, y: x + (x - x.mean()).pow(3).mean(), True, "a network that looks at how lopsided "
         "the whole batch is"),
        (lambda x, t, y: x + y.to(x.dtype).mean(), True, "a network that adds the mean label of the batch. Labels are "
         "company as well: change them too, or leave the sample alone"),
        (lambda x, t, y: x * expand_t(1 + t - t.mean(), x), True, "a network that looks at the mean time of the batch. "
         "Times and labels are company as well: change them too, or leave the sample alone"),
    ):  # fmt: skip
        require(ask(_Told(forward)) == verdict, f"it says {not verdict} for {sentence}")
    return "GroupNorm lets every sample speak for itself, BatchNorm in training does not, and your test can tell."


class _Told(nn.Module):
    """A function of (x, t, y) as a network, which can be put into eval mode and asked for its modules."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.function(x, t, y)


def _odd(x: Tensor) -> Tensor:
    """1 for every second sample of a batch, 0 for the others."""
    return expand_t(torch.arange(len(x), dtype=x.dtype) % 2, x)


def _corner(x: Tensor) -> Tensor:
    """1 and -1 at the last two pixels of every sample, 0 elsewhere."""
    chosen = torch.zeros_like(x)
    chosen[..., -1, -2:] = torch.tensor([1.0, -1.0])
    return chosen


def _only(place: int, x: Tensor) -> Tensor:
    """1 for one sample of a batch of five, 0 for the others; nothing for another batch."""
    chosen = torch.zeros(len(x), dtype=x.dtype)
    if len(x) == 5:
        chosen[place] = 1
    return expand_t(chosen, x)


def plan(answer: Callable) -> str:
    """06.3: `my_plan(budget)` in operations to `(network, batch_size, lr)`: a field on digits, and how to train it."""
    network, batch_size, lr, steps = _planned(answer, SMALL)
    price = operations(network)
    run = f"with {SMALL:.2g} operations your plan takes {steps:,} steps of {batch_size} images"
    run = f"{run} at {price / 1e6:.1f} million each"
    fewer = "Smaller or coarser networks, and smaller batches, make them more"
    require(steps >= FEWEST, f"{run}; nothing is learned in so few. {fewer}")
    require(
        steps <= MOST, f"{run}; the check takes at most {MOST:,}, so that you need not wait. A larger batch makes fewer"
    )
    larger = _planned(answer, LARGE)
    said = f"with {LARGE:.2g} operations, with which the lesson goes on, it takes {larger[3]:,} steps of {larger[1]}"
    require(larger[3] >= 10 * FEWEST, f"{said}: too few for a whole training. {fewer}")
    try:
        loss = _reached(network, batch_size, lr)
    except NotRight:
        raise
    except Exception as error:
        why = " Is the rate too high?" if "finite" in str(error) else ""
        said = f"{run}, and at a learning rate of {lr:g} the training broke off: {str(error)[:80]}.{why}"
        raise NotRight(said) from error
    if not loss <= TARGET:
        why = "Few steps: what would a smaller network, or a smaller batch, buy?"
        if lr < 1e-3:
            why = f"The learning rate {lr:g} is small for so short a training"
        elif lr > 0.03:
            why = f"The learning rate {lr:g} is large for AdamW"
        elif steps > 200:
            why = "There are steps enough: is the learning rate right, and is the network fine and wide enough?"
        require(False, f"{run}. Held-out loss {loss:.3f}; the target is {TARGET}. {why}")
    goes_on = f"With {LARGE:.2g} it takes {min(larger[3], MOST_IN_LESSON):,} steps of {larger[1]}, not tried here."
    return f"Held-out loss {loss:.3f} (target {TARGET}) after {steps:,} steps of {batch_size}. {goes_on}"


def _reached(network: nn.Module, batch_size: int, lr: float) -> float:
    """The held-out loss of a copy of the network, trained with the small budget; a plan known is not trained again."""
    plan = (
        type(network),
        repr(network),
        batch_size,
        f"{lr:.4g}",
        *(float(w.sum()) for w in network.state_dict().values()),
    )
    if plan not in _REACHED:
        _REACHED[plan] = held_out(trained_within(SMALL, deepcopy(network), batch_size, lr).ema)
    return _REACHED[plan]


def _planned(answer: Callable, budget: float) -> tuple[nn.Module, int, float, int]:
    """A plan for a budget: network, batch size, learning rate, and the steps that it pays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            made = answer(budget)
        except (NotRight, NotImplementedError) as error:
            if budget == SMALL:
                raise
            raise NotRight(f"with a budget of {SMALL:.2g} it makes a plan, but with {budget:.2g}: {error}") from error
    three = isinstance(made, tuple | list) and len(made) == 3
    said = f"a plan is (network, batch_size, lr), such as (UNet(...), 64, 3e-3); for {budget:.2g} operations yours is"
    require(three, f"{said} {kind(made)}")
    network, batch_size, lr = made
    told = f"for {budget:.2g} operations the plan's"
    require(isinstance(network, nn.Module), f"{told} network is {kind(network)}")
    own = type(network).forward in (UNet.forward, DiT.forward)
    require(own, f"{told} network should be a UNet(widths=..., patch=...) as it is, with no forward of its own")
    new = all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in network.parameters())
    said = "network should be a new one, in float32: its last layer starts at 0, and no training is behind it"
    require(new and not network.head.weight.any(), f"{told} {said}")
    network = network.to("cpu")
    batch_size, lr = require_number(batch_size, f"{told} batch size"), require_number(lr, f"{told} learning rate")
    right = batch_size == int(batch_size) and 1 <= batch_size <= 4096
    require(right, f"{told} batch size should be a whole number from 1 to 4096; it is {batch_size:g}")
    require(0 < lr <= 1, f"{told} learning rate should lie between 0 and 1; it is {lr:g}")
    require(getattr(network, "null", None) == 10, "the network needs labels 0..9 and the null label 10: num_classes=10")
    x, t, y = torch.zeros(2, 1, 32, 32), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    try:
        out = network(x, t, y)
    except Exception as error:
        raise NotRight(f"the network takes no digits x (B, 1, 32, 32) with t and y: {error}") from error
    require(isinstance(out, Tensor) and out.shape == x.shape, "the network's output should be shaped like its pictures")
    return network, int(batch_size), lr, steps_within(budget, network, int(batch_size))


def noise_of_seeds(answer: Callable) -> str:
    """06.4: `(seeds, shape)` to one standard normal image a seed, the same in any company."""
    shape = (1, 8, 8)

    def ask(seeds: list[int], size: tuple[int, ...]) -> object:
        drawn = answer(seeds, size)
        return drawn if isinstance(drawn, list | tuple) else as_tensor(drawn, "the noise")

    with torch.random.fork_rng(devices=[]):
        torch.rand(7), random.random(), numpy.random.rand(7)  # so that a seed set again would not bring them back
        before, by_numpy, by_python = torch.get_rng_state(), str(numpy.random.get_state()), random.getstate()
        kept = numpy.random.get_state()
        try:
            noise, again = ask([7, 8, 9], shape), ask([7, 8, 9], shape)
            untouched = torch.get_rng_state().equal(before)
            others = {"numpy": str(numpy.random.get_state()) == by_numpy, "Python": random.getstate() == by_python}
        finally:
            numpy.random.set_state(kept)
            random.setstate(by_python)
        alone, turned, many = ask([8], shape), ask([9, 8], shape), ask(list(range(100, 164)), (1, 16, 16))
    for drawn, n, size in (
        (noise, 3, shape),
        (again, 3, shape),
        (alone, 1, shape),
        (turned, 2, shape),
        (many, 64, (1, 16, 16)),
    ):
        listed = isinstance(drawn, list | tuple) and all(isinstance(part, Tensor) for part in drawn)
        require(not listed, "that is a list of images; torch.stack makes one tensor of them")
        require_like(drawn, torch.zeros(n, *size), f"the noise of {n} seeds")
    said = "the same seeds give other noise when they are asked for again. Each call must start from the seeds: is a "
    require(noise.equal(again), said + "generator made, and seeded, inside the function?")
    said = (
        "the seeds repeat, but torch's global random numbers are no longer where they were, and all that the notebook "
    )
    require(untouched, said + "draws later has changed. Draw from a torch.Generator() of your own")
    for whose, still in others.items():
        said = f"the seeds repeat, but {whose}'s global random numbers are no longer where they were"
        require(still, f"{said}. Draw from a generator of your own")
    require(not noise[0].equal(noise[1]), "seeds 7 and 8 give the same noise")
    said = "seed 8 gives one image after seed 7 and another one by itself. One generator for the whole batch makes an "
    require(not turned.equal(noise[[1, 2]]), "the images of the seeds [9, 8] come as those of [8, 9]: keep the order")
    own = alone[0].equal(noise[1]) and turned.equal(noise[[2, 1]])
    require(own, said + "image depend on its company: give every seed its own")
    mean, std = many.mean().item(), many.std().item()  # 16,384 values: standard errors .008 and .006
    said = f"the noise of 64 seeds has mean {mean:.2f} and standard deviation {std:.2f}; standard normal has 0 and 1"
    require(abs(mean) < 0.04 and abs(std - 1) < 0.03, said)
    means, sizes = many.flatten(1).mean(1), many.flatten(1).std(1)  # of 256 values: they vary by 1/16 and 1/22
    said = f"every image has the same mean (to {means.std():.0e}) or size (to {sizes.std():.0e})"
    said += ": noise is not standardised, each image has its own by chance"
    require(means.std().item() > 0.03 and sizes.std().item() > 0.02, said)
    beyond = (many.abs() > 2).float().mean().item()  # of a normal number 4.6%
    said = f"mean and standard deviation are right, but {beyond:.1%} of the values lie beyond 2; of normal ones 4.6% do"
    require(abs(beyond - 0.0455) < 0.012, said)
    flat = many.flatten(1)
    same = (flat[:, None] == flat).all(2).sum().item() - len(flat)
    require(same == 0, f"of 64 different seeds {same // 2} pairs give one and the same image: is the whole seed used?")
    apart = torch.corrcoef(flat).triu(1).abs().max().item()
    require(apart < 0.5, f"two images of different seeds are alike (correlation {apart:.2f}): are they independent?")
    common = many.mean(0).std().item()  # 1/8, if nothing is common to the 64 images
    said = f"the mean of 64 images has standard deviation {common:.2f} in the place of 1/8: what have they in common?"
    require(common < 0.17, said)
    within = torch.corrcoef(many.transpose(0, 2).reshape(16, -1)).triu(1).abs().max().item()
    require(within < 0.5, f"rows of one image are alike (correlation {within:.2f}): draw all of its numbers")
    near = torch.corrcoef(torch.stack((many[..., 1:].flatten(), many[..., :-1].flatten())))[0, 1].item()
    require(abs(near) < 0.1, f"neighbouring pixels are alike (correlation {near:.2f}); noise has no neighbours")
    twice = ask([3, 3], shape)
    require_like(twice, torch.zeros(2, *shape), "the noise of the seeds [3, 3]")
    require(twice[0].equal(twice[1]), "asked for seed 3 twice, it gives two images: the same seed, the same image")
    wide = ask([5, 1005, 65_541, 100_005], shape)  # alike modulo 1000, 2**16 and 10**5
    require_like(wide, torch.zeros(4, *shape), "the noise of 4 seeds")
    alike = any(wide[0].equal(other) for other in wide[1:])
    require(not alike, "of the seeds 5, 1005, 65541 and 100005 two give the same noise: use the whole seed")
    return "Image 8 is image 8, alone or in company, and no global random numbers moved: torch's, numpy's, Python's."


def entropy_in_bits(answer: Callable) -> str:
    """06.5: classes (n,) to the entropy of their shares in bits."""
    generator = torch.Generator().manual_seed(0)
    cases = {
        "eight classes, equally often": torch.arange(8).repeat(5),
        "the ten digits, equally often": torch.arange(10).repeat(3),
        "shares 1/2, 1/4 and 1/4 of classes 0, 1 and 2": torch.tensor([0, 0, 1, 2]),
        "only 0 and 9, equally often": torch.tensor([0, 9, 9, 0]),
        "nothing but threes": torch.full((20,), 3),
        "999 sevens and one 2": torch.cat((torch.full((999,), 7), torch.tensor([2]))),
        "classes 3, 12 and 40, equally often": torch.tensor([3, 12, 40, 40, 12, 3]),
        "60 random classes": torch.randint(10, (60,), generator=generator).clamp_max(6),
    }
    for name, digits in cases.items():
        truth = Categorical(digits.bincount().double() / len(digits)).entropy().item() / math.log(2)
        value = answer(digits)
        value = value.item() if isinstance(value, numpy.ndarray) and value.size == 1 else value
        value = require_number(value, f"for {name} the entropy, where 0 log 0 counts as 0,")
        said = f"for {name} it should be {truth:.3f} bits; yours is {value:.3f}"
        require(value > -1e-4, f"{said}. Entropy is never negative: logarithms of shares are")
        if abs(value - truth) > 1e-3:
            nats = abs(value - truth * math.log(2)) < 1e-4
            require(not nats, f"{said}, which is what natural logarithms (nats) give; bits need base 2")
            counted = abs(value - math.log2(len(digits.unique()))) < 1e-4
            require(not counted, f"{said}, log2 of the number of classes seen. Their shares count as well")
            share = digits.bincount()[digits.bincount() > 0].double() / len(digits)
            for sentence, wrong in {
                "that is 2 to the power of the entropy, the number of equally frequent classes": 2**truth,
                "that is the mean over the classes; entropy is a sum": truth / len(share),
                "those are logarithms to base 10": truth * math.log10(2),
                "the logarithms are not weighed by the shares": -share.log2().sum().item(),
                "that is one minus the sum of squares, the Gini index: where is the logarithm?": 1
                - (share**2).sum().item(),
                "that is the number of classes seen": float(len(share)),
                "that is divided by log2 10, the largest entropy": truth / math.log2(10),
            }.items():
                require(abs(value - wrong) > 1e-3, f"{said}: {sentence}")
            why = "Are the shares counts divided by the number of samples, nothing added, and the logarithms to base 2?"
            require(False, f"{said}. {why}")
    return "Zero for one class, 1 for two, log2 10 for all ten, and shares that are not equal lie below."


CHECKS: dict[str, Callable[[Callable], str]] = {
    "06.1": residual_block,
    "06.2": depends_on_batch,
    "06.3": plan,
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
