"""Right and wrong answers to the exercises of lesson 06."""

import math
import random
from collections import namedtuple
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.functional import silu

from labkit.nn import DiT, ResidualBlock, UNet, flop_count, group_norm, zeroed
from labkit.training.pretrained import load_pretrained

ONE = torch.zeros(1, 1, 32, 32), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
_made_once = torch.Generator().manual_seed(7)


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


def block_of(forward):
    """A class of blocks whose forward is `forward(self, x, emb)`."""
    return type("MyBlock", (ResidualBlock,), {"forward": forward})


def scale_and_shift(block, emb):
    return block.scale_shift(silu(emb))[:, :, None, None].chunk(2, dim=1)


def as_in_the_lesson(self, x, emb):
    h = self.conv_in(silu(self.norm_in(x)))
    scale, shift = scale_and_shift(self, emb)
    return self.shortcut(x) + self.conv_out(silu(self.norm_out(h) * (1 + scale) + shift))


def by_halves(self, x, emb):
    both = self.scale_shift(emb * emb.sigmoid())
    half = both.shape[1] // 2
    h = self.norm_out(self.conv_in(nn.SiLU()(self.norm_in(x))))
    h = h + h * both[:, :half].unsqueeze(-1).unsqueeze(-1) + both[:, half:].unsqueeze(-1).unsqueeze(-1)
    return self.conv_out(nn.SiLU()(h)).add(self.shortcut(x))


def by_einsum(self, x, emb):
    scale, shift = self.scale_shift(silu(emb)).chunk(2, dim=1)
    h = self.norm_out(self.conv_in(silu(self.norm_in(x))))
    h = torch.einsum("bchw,bc->bchw", h, 1 + scale) + shift.reshape(*shift.shape, 1, 1)
    return self.shortcut(x) + self.conv_out(silu(h))


def by_addcmul(self, x, emb):
    scale, shift = scale_and_shift(self, emb)
    h = self.norm_out(self.conv_in(silu(self.norm_in(x))))
    return torch.add(self.shortcut(x), self.conv_out(silu(torch.addcmul(shift, h, scale + 1))))


def image_by_image(self, x, emb):
    return torch.cat([as_in_the_lesson(self, x[k : k + 1], emb[k : k + 1]) for k in range(len(x))])


def in_place_after_the_convolution(self, x, emb):
    scale, shift = scale_and_shift(self, emb)
    h = self.norm_out(self.conv_in(silu(self.norm_in(x)))) * (1 + scale)
    h += shift
    out = self.conv_out(silu(h))
    out += self.shortcut(x)
    return out


def in_float64(self, x, emb):
    block = self.double()
    return as_in_the_lesson(block, x.double(), emb.double()).float()


def by_functional(self, x, emb):
    group = partial(nn.functional.group_norm, num_groups=self.norm_in.num_groups)
    h = self.conv_in(silu(group(x, weight=self.norm_in.weight, bias=self.norm_in.bias, eps=self.norm_in.eps)))
    scale, shift = scale_and_shift(self, emb)
    return self.shortcut(x) + self.conv_out(silu(self.norm_out(h) * scale + self.norm_out(h) + shift))


class Written(nn.Module):
    def __init__(self, channels_in, channels_out, emb_dim):
        super().__init__()
        self.norm_in, self.norm_out = group_norm(channels_in), group_norm(channels_out)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv_out = zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.scale_shift = nn.Linear(emb_dim, 2 * channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x, emb):
        return as_in_the_lesson(self, x, emb)


def made_by_a_function(channels_in, channels_out, emb_dim):
    return Written(channels_in, channels_out, emb_dim)


class Narrow(Written):
    def __init__(self, channels_in, channels_out, emb_dim):
        super().__init__(channels_in, channels_out, emb_dim)
        self.scale_shift = nn.Linear(emb_dim, channels_out)


class NotZeroed(Written):
    def __init__(self, channels_in, channels_out, emb_dim):
        super().__init__(channels_in, channels_out, emb_dim)
        self.conv_out.reset_parameters()


def without_the_shortcut(self, x, emb):
    return as_in_the_lesson(self, x, emb) - self.shortcut(x) + 0 * self.shortcut(x)


def modulated(change):
    """A block in which `change(h, scale, shift)` stands in the place of h * (1 + scale) + shift."""

    def forward(self, x, emb):
        h = self.norm_out(self.conv_in(silu(self.norm_in(x))))
        return self.shortcut(x) + self.conv_out(silu(change(h, *scale_and_shift(self, emb))))

    return block_of(forward)


def raw_emb(self, x, emb):
    scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
    h = self.norm_out(self.conv_in(silu(self.norm_in(x))))
    return self.shortcut(x) + self.conv_out(silu(h * (1 + scale) + shift))


def no_first_silu(self, x, emb):
    scale, shift = scale_and_shift(self, emb)
    h = self.norm_out(self.conv_in(self.norm_in(x)))
    return self.shortcut(x) + self.conv_out(silu(h * (1 + scale) + shift))


def no_last_silu(self, x, emb):
    scale, shift = scale_and_shift(self, emb)
    h = self.norm_out(self.conv_in(silu(self.norm_in(x))))
    return self.shortcut(x) + self.conv_out(h * (1 + scale) + shift)


def vectors_meet_images(self, x, emb):
    scale, shift = self.scale_shift(silu(emb)).chunk(2, dim=1)
    h = self.norm_out(self.conv_in(silu(self.norm_in(x))))
    return self.shortcut(x) + self.conv_out(silu(h * (1 + scale) + shift))


def detached(self, x, emb):
    return as_in_the_lesson(self, x, emb.detach())


def picture_detached(self, x, emb):
    return as_in_the_lesson(self, x.detach(), emb)


def weights_detached(self, x, emb):
    scale, shift = scale_and_shift(self, emb)
    h = silu(self.norm_out(self.conv_in(silu(self.norm_in(x)))) * (1 + scale) + shift)
    return self.shortcut(x) + nn.functional.conv2d(h, self.conv_out.weight.data, self.conv_out.bias, padding=1)


def averaged_over_the_batch(self, x, emb):
    return as_in_the_lesson(self, x, emb.mean(dim=0, keepdim=True))


def the_first_for_all(self, x, emb):
    return as_in_the_lesson(self, x, emb[:1])


def by_turns(self, x, emb):
    both = self.scale_shift(silu(emb))[:, :, None, None]
    h = self.norm_out(self.conv_in(silu(self.norm_in(x)))) * (1 + both[:, ::2]) + both[:, 1::2]
    return self.shortcut(x) + self.conv_out(silu(h))


def nothing_but_the_shortcut(self, x, emb):
    return self.shortcut(x) + 0 * self.scale_shift(emb).sum()


def input_for_shortcut(self, x, emb):
    return x + as_in_the_lesson(self, x, emb) - self.shortcut(x)


def forward_of_none(self, x, emb):
    as_in_the_lesson(self, x, emb)


def sample_by_sample(network, x, t, y):
    whole = network(x, t, y)
    return any(
        not torch.allclose(network(x[k : k + 1], t[k : k + 1], y[k : k + 1])[0], whole[k], rtol=1e-3, atol=1e-5)
        for k in range(len(x))
    )


def by_numpy(network, x, t, y):
    parts = [network(*(part[k : k + 1] for part in (x, t, y))).detach().numpy() for k in range(len(x))]
    return not np.allclose(network(x, t, y).detach().numpy(), np.concatenate(parts), rtol=1e-3, atol=1e-5)


def by_the_largest_gap(network, x, t, y):
    alone = torch.cat([network(*(part[None] for part in row)) for row in zip(x, t, y, strict=True)])
    return (network(x, t, y) - alone).abs().max() > 1e-4


def by_relative_error(network, x, t, y):
    alone = torch.cat([network(*(part[k : k + 1] for part in (x, t, y))) for k in range(len(x))])
    return ((network(x, t, y) - alone).norm() / alone.norm()).item() > 1e-4


class Alone:
    def __call__(self, network, x, t, y):
        alone = torch.cat([network(a, b, c) for a, b, c in zip(x.split(1), t.split(1), y.split(1), strict=True)])
        return bool((~torch.isclose(network(x, t, y), alone, rtol=1e-3, atol=1e-5)).any())


def in_two_halves(network, x, t, y):
    whole = network(x, t, y)
    apart = [torch.cat([network(x[:k], t[:k], y[:k]), network(x[k:], t[k:], y[k:])]) for k in range(1, len(x))]
    return not all(torch.allclose(part, whole, rtol=1e-3, atol=1e-5) for part in apart)


def through_the_norm(tolerance, network, x, t, y):
    singles = [network(x[[k]], t[[k]], y[[k]]) for k in range(len(x))]
    return sum((network(x, t, y) - torch.cat(singles)).square().sum() for _ in range(1)).sqrt() > tolerance


def as_numpy_says(network, x, t, y):
    return np.bool_(alone(network, x, t, y))


def as_a_tensor(network, x, t, y):
    return torch.tensor(alone(network, x, t, y))


def only_the_last_sample(network, x, t, y):
    return not torch.allclose(network(x[-1:], t[-1:], y[-1:])[0], network(x, t, y)[-1], rtol=1e-3, atol=1e-5)


def first_and_last(network, x, t, y):
    return only_the_last_sample(network, x, t, y) or only_the_first_sample(network, x, t, y)


def with_all_labels_kept(network, x, t, y):
    whole = network(x, t, y)
    others = [
        network(torch.where(torch.arange(len(x))[:, None, None, None] == k, x, 0 * x), t, y) for k in range(len(x))
    ]
    return any(not torch.allclose(other[k], whole[k], rtol=1e-3, atol=1e-5) for k, other in enumerate(others))


def sorted_outputs(network, x, t, y):
    apart = torch.cat([network(*(part[k : k + 1] for part in (x, t, y))) for k in range(len(x))])
    return not torch.allclose(network(x, t, y).flatten().sort().values, apart.flatten().sort().values, rtol=1e-3)


def halved_once(network, x, t, y):
    k = len(x) // 2
    halves = torch.cat((network(x[:k], t[:k], y[:k]), network(x[k:], t[k:], y[k:])))
    return not torch.allclose(network(x, t, y), halves, rtol=1e-3, atol=1e-5)


def with_noise_behind(network, x, t, y):
    longer = [torch.cat(pair) for pair in ((x, torch.randn_like(x)), (t, torch.rand_like(t)), (y, 9 - y))]
    return not torch.allclose(network(*longer)[: len(x)], network(x, t, y), rtol=1e-3, atol=1e-5)


def by_its_modules(network, x, t, y):
    return any(isinstance(part, nn.BatchNorm2d) for part in network.modules())


def with_one_left_out(network, x, t, y):
    whole = network(x, t, y)
    kept = [[k for k in range(len(x)) if k != out] for out in range(len(x))]
    return any((network(x[k], t[k], y[k]) - whole[k]).abs().max() > 1e-5 for k in kept)


def never(network, x, t, y):
    return False


def turned_round(network, x, t, y):
    return not alone(network, x, t, y)


def small_plan(budget):
    """What the lesson does: a small network for the small budget, its own for the large one."""
    if budget < 1e12:
        return UNet(widths=(8, 16)), 16, 1e-2
    return UNet(widths=(32, 64, 96)), 64, 3e-3


def plan_of(small, large=((32, 64, 96), 64, 3e-3), **options):
    def plan(budget):
        widths, batch_size, lr = small if budget < 1e12 else large
        return UNet(widths=widths, **options), batch_size, lr

    return plan


class Planned:
    def __call__(self, budget):
        return [UNet(1, 10, widths=[8, 16]), torch.tensor(16), 0.01]


def plan_by_numbers(factor, budget):
    return UNet(widths=(8, 16)), int(16 * factor), 1e-2


def plan_of_a_transformer(budget):
    width, depth = (32, 2) if budget < 1e12 else (96, 6)
    return DiT(width=width, depth=depth, patch=4, heads=2), 16, 3e-3


def plan_with_names(budget):
    named = namedtuple("Plan", "network batch_size lr")
    return named(lr=np.float32(0.01), batch_size=np.int64(16), network=UNet(widths=(8, 16)))


def plan_in_parts(budget):
    yield UNet(widths=(8, 16)).eval()
    yield 16.0
    yield torch.tensor(1e-2)


def plan_by_searching(budget):
    price = {widths: flop_count(UNet(widths=widths).eval(), *ONE) for widths in ((64, 128), (16, 32), (8, 16))}
    widths = next(widths for widths in price if budget / (3 * 16 * price[widths]) > 200)
    torch.manual_seed(0)
    return UNet(widths=widths), 16, 1e-2


class Planner:
    def __init__(self, lr):
        self.lr = lr

    def plan(self, budget):
        network = UNet(widths=[8, 16]).requires_grad_(False)
        return [network, 16 if budget < 1e12 else 128, self.lr]


_ready = UNet(widths=(8, 16))


def with_a_network_of_before(budget):
    return _ready, 16, 1e-2


def trained_before(budget):
    network, _ = load_pretrained("mnist-unet-weak")
    return network, 8, 1e-2


class OnlyScales(nn.Module):
    null = 10

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x, t, y=None):
        return self.scale * x


def without_operations(budget):
    return OnlyScales(), 16, 1e-2


class TooNarrow(OnlyScales):
    def forward(self, x, t, y=None):
        if len(x) > 2:
            raise ValueError("a batch of three is too many")
        return sum(nn.functional.linear(x, self.scale.expand(32, 32)) for _ in range(50)) / 1600


def without_large_batches(budget):
    return TooNarrow(), 64, 1e-2


def without_labels(budget):
    return UNet(num_classes=None), 16, 1e-2


def no_network(budget):
    return (8, 16), 16, 1e-2


def names_for_numbers(budget):
    return {"widths": (8, 16)}, 16


def half_an_image(budget):
    return UNet(widths=(8, 16)), 16.5, 1e-2


def of_a_third_size(budget):
    return UNet(widths=(8, 16, 24, 32, 40), patch=4), 16, 1e-2


def in_one_go(seeds, shape):
    return torch.cat([torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def filled(seeds, shape):
    out = torch.empty(len(seeds), *shape)
    for image, seed in zip(out, seeds, strict=True):
        image.normal_(generator=torch.Generator().manual_seed(seed))
    return out


def of_numpy(seeds, shape):
    return torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(shape) for seed in seeds])).float()


def of_an_older_numpy(seeds, shape):
    return torch.tensor(np.stack([np.random.RandomState(seed).randn(*shape) for seed in seeds]), dtype=torch.float32)


def behind_a_fork(seeds, shape):
    images = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            images.append(torch.randn(shape))
    return torch.stack(images)


def of_python(seeds, shape):
    draws = [random.Random(seed) for seed in seeds]
    return torch.stack(
        [torch.tensor([draw.gauss(0, 1) for _ in range(math.prod(shape))]).reshape(shape) for draw in draws]
    )


class Noise:
    def __call__(self, seeds, shape):
        return torch.stack([*map(self.one, seeds, [shape] * len(seeds))])

    def one(self, seed, shape):
        return torch.normal(0.0, 1.0, tuple(shape), generator=torch.Generator().manual_seed(seed))


def by_box_and_muller(seeds, shape):
    images = []
    for seed in seeds:
        u, v = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        images.append((-2 * (1 - u).log()).sqrt() * (2 * math.pi * v).cos())
    return torch.stack(images).float()


def in_double(seeds, shape):
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
    )


def as_an_array(seeds, shape):
    return np.stack([np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) for seed in seeds])


def as_a_list(seeds, shape):
    return [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def with_a_part_in_common(seeds, shape):
    common = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return torch.stack([0.8 * image + 0.6 * common for image in noise_of_seeds(seeds, shape)])


def with_a_little_in_common(seeds, shape):
    common = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return torch.stack([0.95 * image + 0.31 * common for image in noise_of_seeds(seeds, shape)])


def reusing_one_generator(seeds, shape):
    generator = torch.Generator()
    return torch.stack([torch.randn(shape, generator=generator.manual_seed(seed)) for seed in seeds])


def seeds_numpy(seeds, shape):
    images = []
    for seed in seeds:
        np.random.seed(seed)
        images.append(np.random.randn(*shape))
    return torch.tensor(np.stack(images)).float()


def seeds_python(seeds, shape):
    images = []
    for seed in seeds:
        random.seed(seed)
        images.append(torch.tensor([random.gauss(0, 1) for _ in range(math.prod(shape))]).reshape(shape))
    return torch.stack(images)


def standardised(seeds, shape):
    x = noise_of_seeds(seeds, shape).flatten(1)
    return ((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)).reshape(len(seeds), *shape)


def seeds_modulo(base):
    return lambda seeds, shape: noise_of_seeds([seed % base for seed in seeds], shape)


def uniform_of_size_one(seeds, shape):
    images = [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return (torch.stack(images) * 2 - 1) * 3**0.5


def one_row_for_all(seeds, shape):
    return torch.stack([noise_of_seeds([seed], shape[-1:])[0].expand(shape) for seed in seeds])


def seeds_by_place(seeds, shape):
    return noise_of_seeds(range(len(seeds)), shape)


def shares(digits):
    share = digits.bincount().double() / len(digits)
    return share[share > 0]


def of_shares(f):
    """An entropy that is `f` of the shares above 0."""
    return lambda digits: f(shares(digits))


def counted_by_python(digits):
    listed = digits.tolist()
    return -sum(listed.count(k) / len(listed) * math.log2(listed.count(k) / len(listed)) for k in set(listed))


def counted_by_numpy(digits):
    share = np.unique(digits.numpy(), return_counts=True)[1] / len(digits)
    return -(share * np.log2(share)).sum()


def of_torch(digits):
    return torch.distributions.Categorical(digits.bincount() / len(digits)).entropy() / math.log(2)


class Entropy:
    def __call__(self, digits):
        return torch.special.entr(digits.bincount() / len(digits)).sum().item() / math.log(2)


def in_loops(digits):
    total = 0.0
    for k in range(int(digits.max()) + 1):
        share = (digits == k).float().mean().item()
        total -= share * math.log2(share) if share else 0
    return total


def by_xlogy(digits):
    share = digits.bincount() / len(digits)
    return -torch.special.xlogy(share, share).sum() / torch.tensor(2.0).log()


def clamped_at_a_hundredth(digits):
    share = digits.bincount(minlength=10) / len(digits)
    return -(share * share.clamp_min(0.01).log2()).sum().item()


def as_an_array_of_one(digits):
    return np.array([counted_by_numpy(digits)])


def a_little_added(digits):
    share = (digits.bincount(minlength=10) + 1) / (len(digits) + 10)
    return -(share * share.log2()).sum().item()


RIGHT = {
    "06.1": [
        ResidualBlock, Written, made_by_a_function, partial(Written),
        *map(block_of, (as_in_the_lesson, by_halves, by_einsum, by_addcmul, image_by_image, by_functional)),
        block_of(in_place_after_the_convolution), block_of(in_float64),
    ],
    "06.2": [
        alone, sample_by_sample, by_numpy, by_the_largest_gap, by_relative_error, Alone(), in_two_halves,
        partial(through_the_norm, 1e-4), as_numpy_says, as_a_tensor, in_other_company, with_one_left_out,
    ],
    "06.3": [
        small_plan, Planned(), partial(plan_by_numbers, 1), plan_of_a_transformer, plan_with_names, plan_in_parts,
        plan_by_searching, Planner(1e-2).plan, with_a_network_of_before, plan_of(((8,), 12, 1e-2)),
        lambda budget: (UNet(widths=(8, 16)), 16, 1e-2) if budget < 1e12 else (UNet(widths=(48, 96)), 64, 3e-3),
    ],
    "06.4": [
        noise_of_seeds, in_one_go, filled, of_numpy, of_an_older_numpy, behind_a_fork, of_python, Noise(),
        by_box_and_muller, in_double, reusing_one_generator, as_an_array,
    ],
    "06.5": [
        entropy, entropy_by_clamping, as_an_array_of_one, counted_by_python, counted_by_numpy, of_torch, Entropy(),
        in_loops, by_xlogy,
        of_shares(lambda share: -(share * share.log()).sum() / math.log(2)),
        of_shares(lambda share: torch.dot(share, (1 / share).log2()).float()),
        of_shares(lambda share: math.log2(10) - (share * (10 * share).log2()).sum().item()),
    ],
}  # fmt: skip

WRONG = {
    "06.1": [
        (block_of(without_the_shortcut), "the block should give its shortcut of x"),
        (modulated(lambda h, scale, shift: h * scale + shift), r"1 \+ scale"),
        (modulated(lambda h, scale, shift: h * (1 + shift) + scale), "changed places"),
        (modulated(lambda h, scale, shift: h), "are not heard"),
        (modulated(lambda h, scale, shift: (h + shift) * (1 + scale)), "the shift is scaled as well"),
        (modulated(lambda h, scale, shift: h * (1 + scale)), "the shift is missing"),
        (modulated(lambda h, scale, shift: h + shift), "the scale is missing"),
        (block_of(raw_emb), "emb goes through silu"),
        (block_of(no_first_silu), "between the first norm and the first convolution"),
        (block_of(no_last_silu), "before the last convolution"),
        (block_of(vectors_meet_images), r"your forward stopped with .* scale\[:, :, None, None\]"),
        (block_of(detached), "no gradient reaches `emb`"),
        (block_of(picture_detached), "no gradient reaches `x`"),
        (block_of(weights_detached), "no gradient reaches `conv_out.weight`"),
        (block_of(averaged_over_the_batch), "they were averaged"),
        (block_of(the_first_for_all), "the first was taken for all"),
        (block_of(by_turns), "here they take turns"),
        (block_of(nothing_but_the_shortcut), "the shortcut alone"),
        (block_of(input_for_shortcut), r"shortcut\(x\) fits them"),
        (modulated(lambda h, scale, shift: h * scale.exp() + shift), r"not exp\(s\)"),
        (block_of(forward_of_none), "is a `return` missing"),
        (Narrow, "must keep their names|stopped with"),
        (NotZeroed, "the block should give its shortcut of x"),
        (no_answer, "it made None"),
    ],
    "06.2": [
        (always, "True for a U-Net with GroupNorm"),
        (asks_in_eval_mode, "eval mode"),
        (in_another_order, "another order of the same batch"),
        (without_rounding, "is rounding: allow for it"),
        (only_the_first_sample, "all those before it. The first sample notices nothing"),
        (only_the_last_sample, "all those after it. The last sample notices nothing"),
        (sorted_outputs, "compare each sample with itself"),
        (halved_once, "every second sample the one before it"),
        (with_noise_behind, "what comes behind a sample changes nothing"),
        (by_its_modules, "those before it"),
        (first_and_last, "only the sample in the middle"),
        (only_other_pictures, "Times and labels are company|mean time of the batch|mean label of the batch"),
        (with_all_labels_kept, "mean label of the batch"),
        (never, "False for BatchNorm in training mode"),
        (turned_round, "True for a U-Net with GroupNorm"),
        (no_answer, "is a `return` missing"),
    ],
    "06.3": [
        (plan_of(((64, 128, 192), 16, 3e-3)), "nothing is learned in so few"),
        (plan_of(((16, 32), 64, 6e-3)), "nothing is learned in so few"),
        (plan_of(((8, 16), 32, 1e-2)), "Few steps: what would"),
        (plan_of(((8, 16), 16, 1e-4)), "is small for so short a training"),
        (plan_of(((8, 16), 16, 0.5)), "is large for AdamW|broke off"),
        (plan_of(((8, 16), 2, 1e-2)), "takes at most 1,000"),
        (plan_of(((8, 16), 16, 1e-2), ((256, 512, 512), 1024, 1e-3)), "too few for a whole training"),
        (without_labels, "num_classes=10"),
        (no_network, "plan's network is of type tuple"),
        (names_for_numbers, r"a plan is \(network, batch_size, lr\)"),
        (trained_before, "no training is behind it|nothing is learned in so few"),
        (without_operations, "no forward of its own"),
        (without_large_batches, "no forward of its own"),
        (half_an_image, "should be a whole number"),
        (of_a_third_size, "takes no digits"),
        (no_answer, "is a `return` missing"),
    ],
    "06.4": [
        (seeds_everybody, "torch's global random numbers are no longer"),
        (without_a_seed, "other noise when they are asked for again"),
        (generator_made_once, "other noise when they are asked for again"),
        (one_generator_for_the_batch, "give every seed its own"),
        (one_seed_for_all, "seeds 7 and 8 give the same noise"),
        (uniform_noise, "standard normal has 0 and 1"),
        (seeds_numpy, "numpy's global random numbers"),
        (seeds_python, "Python's global random numbers"),
        (standardised, "noise is not standardised"),
        (seeds_modulo(16), "is the whole seed used"),
        (seeds_modulo(1000), "use the whole seed"),
        (uniform_of_size_one, "lie beyond 2"),
        (one_row_for_all, "alike|same mean|beyond 2"),
        (as_a_list, "torch.stack makes one tensor"),
        (with_a_part_in_common, "alike|in common"),
        (with_a_little_in_common, "in common"),
        (seeds_by_place, "give every seed its own"),
        (no_answer, "is a `return` missing"),
    ],
    "06.5": [
        (in_nats, "natural logarithms"),
        (to_base_ten, "to base 10"),
        (zero_times_minus_infinity, "0 log 0 counts as 0"),
        (without_the_minus, "never negative"),
        (number_of_classes, "number of classes seen"),
        (counts_for_shares, "never negative|divided by the number of samples"),
        (of_shares(lambda share: 2 ** -(share * share.log2()).sum().item()), "2 to the power of the entropy"),
        (of_shares(lambda share: -(share * share.log2()).mean().item()), "entropy is a sum"),
        (of_shares(lambda share: -share.log2().sum().item()), "not weighed by the shares"),
        (of_shares(lambda share: 1 - share.square().sum().item()), "Gini index"),
        (of_shares(lambda share: len(share) / 2), "Are the shares counts"),
        (of_shares(lambda share: -(share * share.log10()).sum().item()), "to base 10|divided by log2 10"),
        (a_little_added, "nothing added"),
        (clamped_at_a_hundredth, "999 sevens"),
        (no_answer, "is a `return` missing"),
    ],
}
