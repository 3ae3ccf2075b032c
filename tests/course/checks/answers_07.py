"""Right and wrong answers to the exercises of lesson 07."""

import random
from functools import cache, partial, reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from labkit.nn import DiT, UNet, grid_positions, modulate, patchify, unpatchify


def no_answer(*_):
    return None


# 07.1


def by_permute(x, patch, order=(0, 2, 4, 1, 3, 5)):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(order).reshape(b, -1, c * patch**2)


def by_einsum(x, patch):
    x = x.unflatten(2, (-1, patch)).unflatten(4, (-1, patch))
    return torch.einsum("bchiwj->bhwcij", x).flatten(3).flatten(1, 2)


def by_loops(x, patch):
    rows, columns = (range(0, side, patch) for side in x.shape[2:])
    return torch.stack([x[:, :, i : i + patch, j : j + patch].flatten(1) for i in rows for j in columns], 1)


def by_filling(x, patch):
    b, c, h, w = x.shape
    out = torch.zeros(b, h * w // patch**2, c * patch**2)
    for k in range(out.shape[1]):
        i, j = divmod(k, w // patch)
        out[:, k] = x[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch].reshape(b, -1)
    return out


def by_unfold(x, patch):
    return F.unfold(x, patch, stride=patch).mT


def by_chunks(x, patch):
    rows = [row.split(patch, dim=3) for row in x.split(patch, dim=2)]
    return torch.cat([square.flatten(1)[:, None] for row in rows for square in row], dim=1)


def by_tensor_unfold(x, patch):
    return x.unfold(2, patch, patch).unfold(3, patch, patch).movedim(1, 3).flatten(3).flatten(1, 2)


def by_numpy(x, patch):
    b, c, h, w = x.shape
    x = x.numpy().reshape(b, c, h // patch, patch, w // patch, patch)
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def by_convolution(x, patch):
    c = x.shape[1]
    eye = torch.eye(c * patch**2).reshape(-1, c, patch, patch)
    return F.conv2d(x, eye, stride=patch).flatten(2).transpose(1, 2)


def in_place_and_double(x, patch):
    return by_permute(x.double().mul_(1), patch)


class Cutter:
    def __call__(self, x, patch):
        return F.pixel_unshuffle(x, patch).flatten(2).mT


def strips(x, patch):
    return x.reshape(len(x), -1, x.shape[1] * patch**2)


def square_only(x, patch):
    b, c, side, _ = x.shape
    x = x.reshape(b, c, side // patch, patch, side // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch**2)


def unfold_as_it_is(x, patch):
    return F.unfold(x, patch, stride=patch)


def unfold_reshaped(x, patch):
    return F.unfold(x, patch, stride=patch).reshape(len(x), -1, x.shape[1] * patch**2)


def every_pth_pixel(x, patch):
    b, c, h, w = x.shape
    x = x.reshape(b, c, patch, h // patch, patch, w // patch)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(b, -1, c * patch**2)


def one_channel_only(x, patch):
    return by_permute(x[:, :1], patch)


def grid_kept(x, patch):
    return by_permute(x, patch).unflatten(1, (x.shape[2] // patch, -1))


def squares_kept(x, patch):
    return by_permute(x, patch).unflatten(2, (-1, patch, patch))


def viewed(x, patch):
    return by_permute(x, patch, (0, 2, 4, 1, 3, 5)).mT.view(len(x), -1, x.shape[1] * patch**2)


# 07.2


def orders(n, count):
    return [torch.randperm(n) for _ in range(count)]


def holds(field, tokens, order, close=torch.allclose):
    return close(field(tokens[:, order]), field(tokens)[:, order])


def twenty_random_orders(field, tokens):
    return all(holds(field, tokens, order) for order in orders(tokens.shape[1], 20))


def all_swaps_of_neighbours(field, tokens):
    n = tokens.shape[1]
    swaps = [[*range(k), k + 1, k, *range(k + 2, n)] for k in range(n - 1)]
    return all(holds(field, tokens, order) for order in swaps)


def by_matrices(field, tokens):
    for order in orders(tokens.shape[1], 15):
        p = torch.eye(len(order), dtype=tokens.dtype)[order]
        if (field(p @ tokens) - p @ field(tokens)).abs().max() > 1e-6:
            return False
    return True


def put_back(field, tokens):
    found = True
    for order in orders(tokens.shape[1], 30):
        found &= torch.allclose(field(tokens[:, order])[:, order.argsort()], field(tokens), atol=1e-5)
    return found


def by_python_random(field, tokens):
    for _ in range(25):
        order = random.sample(range(tokens.shape[1]), tokens.shape[1])
        if not holds(field, tokens, order):
            return False
    return True


def by_numpy_random(field, tokens):
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(40):
        order = rng.permutation(tokens.shape[1])
        gaps.append(np.abs(field(tokens[:, order]).numpy() - field(tokens).numpy()[:, order]).max())
    return max(gaps) < 1e-5


def in_float32(field, tokens):
    tokens, n = tokens.float(), tokens.shape[1]
    close = partial(torch.allclose, rtol=1e-3, atol=1e-4)
    return not any(not holds(field, tokens, order, close) for order in orders(n, 12))


def shuffled_in_place(field, tokens):
    for _ in range(20):
        before, order = field(tokens).clone(), torch.randperm(tokens.shape[1])
        tokens.copy_(tokens[:, order])
        if not torch.allclose(field(tokens), before[:, order]):
            return False
    return True


def own_tokens(field, tokens):
    return torch.tensor(all(twenty_random_orders(field, torch.randn_like(tokens)) for _ in range(3)))


class Tester:
    def __init__(self, count):
        self.count = count

    def __call__(self, field, tokens):
        worst = max((field(tokens[:, o]) - field(tokens)[:, o]).norm() for o in orders(tokens.shape[1], self.count))
        return worst.item() < 1e-4


def gathered(field, tokens):
    n = tokens.shape[1]
    for order in orders(n, 20):
        index = order[None, :, None].expand_as(tokens)
        if not np.allclose(field(tokens.gather(1, index)), field(tokens).gather(1, index)):
            return np.bool_(False)
    return np.bool_(True)


def few_random_orders(field, tokens, count):
    return all(holds(field, tokens, order) for order in orders(tokens.shape[1], count))


def one_random_order(field, tokens):
    return holds(field, tokens, torch.randperm(tokens.shape[1]))


def one_order_of_python(field, tokens):
    order = list(range(tokens.shape[1]))
    random.shuffle(order)
    return holds(field, tokens, order)


def asks_for_invariance(field, tokens):
    return all(torch.allclose(field(tokens[:, order]), field(tokens)) for order in orders(tokens.shape[1], 20))


def without_rounding(field, tokens):
    return all(holds(field, tokens, order, torch.equal) for order in orders(tokens.shape[1], 20))


def shifts_in_a_circle(field, tokens):
    return torch.allclose(field(tokens.roll(1, 1)), field(tokens).roll(1, 1))


def backwards(field, tokens):
    return torch.allclose(field(tokens.flip(1)), field(tokens).flip(1))


def both_shifted_and_backwards(field, tokens):
    return shifts_in_a_circle(field, tokens) and backwards(field, tokens)


def changes(field, tokens, i, j):
    order = torch.arange(tokens.shape[1])
    order[[i, j]] = order[[j, i]]
    return holds(field, tokens, order)


def one_fixed_order(field, tokens):
    return holds(field, tokens, [1, 0, 3, 4, 5, 6, 7, 8, 2])


def compares(what):
    def answer(field, tokens):
        return all(
            torch.allclose(what(field(tokens[:, order])), what(field(tokens))) for order in orders(tokens.shape[1], 20)
        )

    return answer


def always(field, tokens):
    return True


def never(field, tokens):
    return False


def undoes_with_the_order_itself(field, tokens):
    return all(
        torch.allclose(field(tokens[:, order])[:, order], field(tokens)) for order in orders(tokens.shape[1], 20)
    )


def any_in_place_of_all(field, tokens):
    return any(holds(field, tokens, order) for order in orders(tokens.shape[1], 20))


def first_output_only(field, tokens):
    return all(
        torch.allclose(field(tokens[:, order])[:, 0], field(tokens)[:, order[0]])
        for order in [*orders(tokens.shape[1], 2), torch.arange(tokens.shape[1])]
    )


def a_number(field, tokens):
    return (field(tokens.flip(1)) - field(tokens).flip(1)).abs().max()


# 07.3


def in_heads(q, k, v, heads, scale=None, dim=-1):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    scale = q.shape[-1] ** 0.5 if scale is None else scale
    weights = (q @ k.mT / scale).softmax(dim=dim)
    return (weights @ v).transpose(1, 2).flatten(2)


def heads_by_einsum(q, k, v, heads):
    b, n, width = q.shape
    q, k, v = (part.reshape(b, n, heads, width // heads) for part in (q, k, v))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / (width // heads) ** 0.5
    return torch.einsum("bhij,bjhd->bihd", torch.softmax(scores, 3), v).reshape(b, n, width)


def heads_by_loop(q, k, v, heads):
    parts = zip(*(part.chunk(heads, dim=2) for part in (q, k, v)), strict=True)
    return torch.cat([F.softmax(a @ b.transpose(1, 2) / a.shape[2] ** 0.5, dim=2) @ c for a, b, c in parts], dim=2)


def heads_by_torch(q, k, v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).movedim(2, 1) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).movedim(1, 2).flatten(2)


def heads_as_batch(q, k, v, heads):
    b, n, width = q.shape

    def split(part):
        return part.view(b, n, heads, -1).permute(0, 2, 1, 3).reshape(b * heads, n, -1)

    q, k, v = map(split, (q, k, v))
    out = torch.bmm(torch.bmm(q, k.mT).div(q.shape[-1] ** 0.5).softmax(-1), v)
    return out.view(b, heads, n, -1).permute(0, 2, 1, 3).reshape(b, n, width)


def heads_by_exp(q, k, v, heads):
    q, k, v = (torch.stack(part.chunk(heads, 2), 1) for part in (q, k, v))
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.cat((weights @ v / weights.sum(-1, keepdim=True)).unbind(1), dim=-1)


def heads_filled(q, k, v, heads):
    d, out = q.shape[2] // heads, torch.zeros_like(q)
    for h in range(heads):
        own = slice(h * d, (h + 1) * d)
        for b in range(len(q)):
            out[b, :, own] = (q[b, :, own] @ k[b, :, own].T / d**0.5).softmax(1) @ v[b, :, own]
    return out


def heads_in_place(q, k, v, heads):
    q /= (q.shape[-1] // heads) ** 0.5
    return in_heads(q, k, v, heads, scale=1)


def heads_in_double(q, k, v, heads):
    return in_heads(q.double(), k.double(), v.double(), heads).to(q.dtype)


def heads_by_mask(q, k, v, heads):
    owner = torch.arange(q.shape[2]) // (q.shape[2] // heads)
    parts = [(owner == h).to(q.dtype) for h in range(heads)]
    d = q.shape[2] // heads
    return sum((((q * m) @ k.mT / d**0.5).softmax(-1) @ v) * m for m in parts)


class Heads:
    def __call__(self, q, k, v, heads):
        d = q.shape[-1] // heads
        q, k, v = (part.unfold(2, d, d).permute(0, 2, 1, 3) for part in (q, k, v))
        log = F.log_softmax(q.matmul(k.transpose(-1, -2)) / np.sqrt(d), dim=-1)
        return log.exp().matmul(v).permute(0, 2, 1, 3).flatten(-2)


def root_of(number):
    return lambda q, k, v, heads: in_heads(q, k, v, heads, scale=number(q, heads) ** 0.5)


def keys_for_queries(q, k, v, heads):
    return in_heads(k, q, v, heads)


def softmax_over(dim):
    return lambda q, k, v, heads: in_heads(q, k, v, heads, dim=dim)


def one_head_for_all(q, k, v, heads):
    return in_heads(q, k, v, 1)


def reshaped_across_tokens(q, k, v, heads):
    b, n, width = q.shape
    q, k, v = (part.reshape(b, heads, n, width // heads) for part in (q, k, v))
    return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v).reshape(b, n, width)


def mixed_on_the_way_back(q, k, v, heads):
    b, n, width = q.shape
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v).reshape(b, n, width)


def interleaved(q, k, v, heads):
    q, k, v = (part.unflatten(2, (-1, heads)).movedim(3, 1) for part in (q, k, v))
    return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def never_swapped(q, k, v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)) for part in (q, k, v))
    return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v).flatten(2)


def without_softmax(q, k, v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return (q @ k.mT / q.shape[-1] ** 0.5 @ v).transpose(1, 2).flatten(2)


def heads_left_apart(q, k, v, heads):
    return in_heads(q, k, v, heads).unflatten(2, (heads, -1))


def heads_by_numpy(q, k, v, heads):
    return torch.from_numpy(in_heads(*(torch.from_numpy(part.numpy()) for part in (q, k, v)), heads).numpy())


def heads_detached(q, k, v, heads):
    return in_heads(q.detach(), k, v, heads)


# 07.4


def branch(x, emb, layer, f, norm=None, silu=F.silu, one=1, order=(0, 1, 2), gated=None):
    parts = layer(silu(emb))[:, None].chunk(3, dim=2)
    shift, scale, gate = (parts[k] for k in order)
    gate = gate if gated is None else gated(gate)
    normalised = F.layer_norm(x, x.shape[-1:]) if norm is None else norm(x)
    return x + gate * f((one + scale) * normalised + shift)


def branch_by_hand(x, emb, layer, f):
    shift, scale, gate = layer(emb * torch.sigmoid(emb)).unsqueeze(1).split(x.shape[2], dim=2)
    mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return x + gate * f((1 + scale) * (x - mean) / (var + 1e-6).sqrt() + shift)


def branch_by_image(x, emb, layer, f):
    width, out = x.shape[2], []
    for tokens, c in zip(x, emb, strict=True):
        made = layer(F.silu(c[None]))[0]
        b, s, g = made[:width], made[width : 2 * width], made[2 * width :]
        out.append(tokens + g * f((F.layer_norm(tokens, (width,)) * (1 + s) + b)[None])[0])
    return torch.stack(out)


def branch_by_einsum(x, emb, layer, f):
    shift, scale, gate = layer(nn.SiLU()(emb)).view(len(x), 3, -1).unbind(1)
    normalised = nn.LayerNorm(x.shape[-1], elementwise_affine=False)(x)
    inner = torch.einsum("bnd,bd->bnd", normalised, 1 + scale) + shift.unsqueeze(1)
    return x + torch.einsum("bnd,bd->bnd", f(inner), gate)


def branch_in_place(x, emb, layer, f):
    shift, scale, gate = layer(F.silu(emb)).chunk(3, 1)
    h = F.layer_norm(x, x.shape[-1:]) * scale.add(1)[:, None]
    h += shift[:, None]
    h = f(h)
    h *= gate[:, None]
    h += x
    return h


def shift_missing(x, emb, layer, f):
    return branch(x, emb, lambda c: layer(c) * torch.tensor([0.0] * 4 + [1.0] * 8), f)


def mixed_with_x(x, emb, layer, f):
    return branch(x, emb, layer, f) - layer(F.silu(emb)).chunk(3, 1)[2][:, None] * x


def x_in_place(x, emb, layer, f):
    shift, scale, gate = layer(F.silu(emb))[:, None].chunk(3, dim=2)
    x += gate * f((1 + scale) * F.layer_norm(x, x.shape[-1:]) + shift)
    return x


def branch_by_modulate(x, emb, layer, f):
    b, s, g = layer(F.silu(emb)).tensor_split(3, dim=-1)
    return torch.addcmul(x, g[:, None], f(modulate(x, b, s)))


def branch_by_lerp(x, emb, layer, f):
    made = layer(F.silu(emb))[:, None].expand(-1, x.shape[1], -1)
    b, s, g = made.chunk(3, dim=2)
    z = (x - x.mean(2, True)) / x.std(2, correction=0, keepdim=True)
    return (1 - g) * x + g * (x + f(z + s * z + b))


def branch_in_double(x, emb, layer, f):
    return branch(x.double(), emb.double(), layer, f).to(x.dtype)


def branch_by_group_norm(x, emb, layer, f):
    def norm(x):
        return F.group_norm(x.flatten(0, 1), 1).view_as(x)

    return branch(x, emb, layer, f, norm=norm)


class Branch(nn.Module):
    def forward(self, x, emb, layer, f):
        def normalise(tokens):
            centred = tokens - tokens.mean(-1, keepdim=True)
            return centred * centred.pow(2).mean(-1, keepdim=True).add(1e-5).rsqrt()

        shift, scale, gate = layer(F.silu(emb)).reshape(len(emb), 3, 1, -1).unbind(1)
        return f(normalise(x).mul(1 + scale).add(shift)).mul(gate).add(x)


def without_a_gate(x, emb, layer, f):
    return branch(x, emb, layer, f, gated=torch.ones_like)


def gate_around_it_all(x, emb, layer, f):
    return branch(x, emb, layer, f) - x + layer(F.silu(emb)).chunk(3, 1)[2][:, None] * x


def shift_inside(x, emb, layer, f):
    shift, scale, gate = layer(F.silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * (F.layer_norm(x, x.shape[-1:]) + shift))


def silu_after(x, emb, layer, f):
    return branch(x, emb, lambda c: F.silu(layer(emb)), f)


def chunks_in_turn(x, emb, layer, f):
    def turned(c):
        return layer(c).unflatten(1, (-1, 3)).mT.flatten(1)

    return branch(x, emb, turned, f)


def gate_inside(x, emb, layer, f):
    shift, scale, gate = layer(F.silu(emb))[:, None].chunk(3, dim=2)
    return x + f(gate * ((1 + scale) * F.layer_norm(x, x.shape[-1:]) + shift))


def without_an_axis(x, emb, layer, f):
    shift, scale, gate = layer(F.silu(emb)).chunk(3, dim=1)
    return x + gate * f((1 + scale) * F.layer_norm(x, x.shape[-1:]) + shift)


def axis_by_size(x, emb, layer, f):
    return without_an_axis(x, emb, layer, f) if len(x) == x.shape[1] else branch(x, emb, layer, f)


def first_condition_for_all(x, emb, layer, f):
    return branch(x, emb[:1].expand_as(emb), layer, f)


def normalised_x_added(x, emb, layer, f):
    return branch(x, emb, layer, f) - x + F.layer_norm(x, x.shape[-1:])


def branch_by_numpy(x, emb, layer, f):
    with torch.no_grad():
        return torch.from_numpy(branch(x, emb, layer, f).numpy())


def rms(x):
    return x / x.square().mean(-1, keepdim=True).sqrt()


def one_less(x):
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


# 07.5


class Parts(nn.Module):
    """What the stub of the exercise has."""

    def __init__(self, conditioning, blocks, patch=4, width=128):
        super().__init__()
        self.patch, self.null, self.num_classes = patch, 10, 10
        self.conditioning, self.blocks = conditioning, nn.ModuleList(blocks)
        self.stem = nn.Linear(patch**2, width)
        self.register_buffer("positions", grid_positions(32 // patch, 32 // patch, width), persistent=False)
        self.head_modulation, self.head = nn.Linear(width, 2 * width), nn.Linear(width, patch**2)


def made(forward):
    """A class with this forward."""
    return type(forward.__name__, (Parts,), {"forward": forward})


def pieces(net, x, t, y):
    return net.stem(patchify(x, net.patch)) + net.positions, net.conditioning(t, y)


@made
def as_in_the_lesson(self, x, t, y=None):
    tokens, emb = pieces(self, x, t, y)
    for block in self.blocks:
        tokens = block(tokens, emb)
    shift, scale = self.head_modulation(F.silu(emb)).chunk(2, dim=1)
    return unpatchify(self.head(modulate(tokens, shift, scale)), self.patch, 32, 32)


@made
def by_reduce(self, x, t, y=None):
    emb = self.conditioning(t, y)
    tokens = reduce(lambda h, block: block(h, emb), self.blocks, self.stem(by_loops(x, self.patch)) + self.positions)
    b, s = self.head_modulation(F.silu(emb)).split(tokens.shape[2], 1)
    return unpatchify(self.head(F.layer_norm(tokens, tokens.shape[-1:]) * (1 + s[:, None]) + b[:, None]),
                      self.patch, *x.shape[-2:])  # fmt: skip


@made
def with_fold(self, x, t, y=None):
    h = self.stem(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2))
    h += self.positions
    c = self.conditioning(t, y)
    for k in range(len(self.blocks)):
        h = self.blocks[k](h, c)
    shift, scale = self.head_modulation(c * c.sigmoid())[:, None].chunk(2, -1)
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return F.fold(self.head(h + scale * h + shift).mT, (32, 32), self.patch, stride=self.patch)


@made
def back_by_permute(self, x, t, y=None):
    p, (b, c, h, w) = self.patch, x.shape
    tokens, emb = pieces(self, x, t, y)
    for block in self.blocks:
        tokens = block(tokens, emb)
    out = self.head(modulate(tokens, *self.head_modulation(F.silu(emb)).chunk(2, dim=-1)))
    return out.view(b, h // p, w // p, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


@made
def by_linear_and_shuffle(self, x, t, y=None):
    tokens = F.conv2d(x, self.stem.weight.view(-1, 1, self.patch, self.patch), self.stem.bias, stride=self.patch)
    side, emb = tokens.shape[-1], self.conditioning(t, y)
    tokens = tokens.flatten(2).mT + self.positions
    for block in self.blocks:
        tokens = block(tokens, emb)
    made = F.linear(F.silu(emb), self.head_modulation.weight, self.head_modulation.bias)
    out = F.linear(modulate(tokens, *made.chunk(2, 1)), self.head.weight, self.head.bias)
    return F.pixel_shuffle(out.mT.unflatten(2, (side, side)), self.patch)


@made
def in_einsum(self, x, t, y=None):
    tokens, emb = pieces(self, x, t, y)
    for block in self.blocks:
        tokens = block(tokens, emb)
    shift, scale = torch.einsum("kd,bd->bk", self.head_modulation.weight, F.silu(emb)).add(
        self.head_modulation.bias).chunk(2, 1)  # fmt: skip
    out = torch.einsum("od,bnd->bno", self.head.weight, modulate(tokens, shift, scale)) + self.head.bias
    return unpatchify(out, self.patch, 32, 32)


@made
def one_image_at_a_time(self, x, t, y=None):
    out = []
    for k in range(len(x)):
        label = None if y is None else y[k : k + 1]
        tokens, emb = pieces(self, x[k : k + 1], t[k : k + 1], label)
        for block in self.blocks:
            tokens = block(tokens, emb)
        tokens = modulate(tokens, *self.head_modulation(F.silu(emb)).chunk(2, dim=1))
        out.append(unpatchify(self.head(tokens), self.patch, 32, 32))
    return torch.cat(out)


class InMethods(Parts):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.norm, self.act = nn.LayerNorm(len(self.stem.bias), elementwise_affine=False), nn.SiLU()

    def embed(self, x):
        return self.stem(patchify(x, self.patch)).add(self.positions)

    def finish(self, h, c):
        shift, scale = self.head_modulation(self.act(c)).unsqueeze(1).chunk(2, dim=2)
        return self.head(self.norm(h).mul(1 + scale).add(shift))

    def forward(self, x, t, y=None):
        c, h = self.conditioning(t, y), self.embed(x)
        for block in self.blocks:
            h = block(h, c)
        return unpatchify(self.finish(h, c), self.patch, x.shape[2], x.shape[3])


class FromDiT(DiT):
    def __init__(self, conditioning, blocks, patch, width):
        super().__init__(patch=patch, width=width, depth=len(blocks), heads=2)
        self.conditioning, self.blocks = conditioning, nn.ModuleList(blocks)

    def forward(self, x, t, y=None):
        emb = self.conditioning(t, y)
        h = self.stem(by_chunks(x, self.patch)) + self.positions
        for block in self.blocks:
            h = block(h, emb)
        return unpatchify(self.head(modulate(h, *self.head_modulation(F.silu(emb)).chunk(2, 1))), self.patch, 32, 32)


def from_a_function(conditioning, blocks, patch, width):
    return as_in_the_lesson(conditioning, blocks, patch=patch, width=width)


def wrong(end=None, *, blocks=lambda blocks: blocks, positions=1, time=lambda t: t, label=lambda y: y, silu=F.silu):
    def forward(self, x, t, y=None):
        emb = self.conditioning(time(t), label(y))
        tokens = self.stem(patchify(x, self.patch)) + positions * self.positions
        for block in blocks(self.blocks):
            tokens = block(tokens, emb)
        shift, scale = self.head_modulation(silu(emb)).chunk(2, dim=1)
        if end is None:
            return unpatchify(self.head(modulate(tokens, shift, scale)), self.patch, 32, 32)
        return end(self, x, tokens, shift, scale)

    return made(forward)


def no_ada(self, x, tokens, shift, scale):
    return unpatchify(self.head(tokens), self.patch, 32, 32)


def swapped_at_the_end(self, x, tokens, shift, scale):
    return unpatchify(self.head(modulate(tokens, scale, shift)), self.patch, 32, 32)


def reshaped_at_the_end(self, x, tokens, shift, scale):
    return self.head(modulate(tokens, shift, scale)).reshape(x.shape)


def tokens_at_the_end(self, x, tokens, shift, scale):
    return self.head(modulate(tokens, shift, scale))


def picture_added(self, x, tokens, shift, scale):
    return x + unpatchify(self.head(modulate(tokens, shift, scale)), self.patch, 32, 32)


def detached_at_the_end(self, x, tokens, shift, scale):
    return unpatchify(self.head(modulate(tokens.detach(), shift, scale)), self.patch, 32, 32)


@made
def blocks_side_by_side(self, x, t, y=None):
    tokens, emb = pieces(self, x, t, y)
    outs = [block(tokens, emb) for block in self.blocks]
    shift, scale = self.head_modulation(F.silu(emb)).chunk(2, dim=1)
    return unpatchify(self.head(modulate(sum(outs) / len(outs), shift, scale)), self.patch, 32, 32)


@made
def labels_always(self, x, t, y=None):
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    return as_in_the_lesson.forward(self, x, t, y)


@made
def needs_a_label(self, x, t, y):
    return as_in_the_lesson.forward(self, x, t, y)


@made
def stops(self, x, t, y=None):
    return self.stem(x)


@made
def labkits_own(self, x, t, y=None):
    like = DiT(patch=self.patch, width=len(self.stem.bias), depth=len(self.blocks), heads=2)
    like.load_state_dict(self.state_dict())
    return like(x, t, y)


class WithoutForward(Parts):
    pass


class MoreWeights(as_in_the_lesson):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.norm = nn.LayerNorm(len(self.stem.bias))


class BoundToTheFirst(Parts):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.run = lambda x, t, y: as_in_the_lesson.forward(self, x, t, y)

    def forward(self, x, t, y=None):
        return self.run(x, t, y)


# 07.6


def planned(*, batch_size=16, lr=1e-2, patch=4, width=32, depth=1, heads=2):
    def answer(budget):
        return DiT(patch=patch, width=width, depth=depth, heads=heads), batch_size, lr

    return answer


def larger_for_more(budget):
    if budget < 1e12:
        return DiT(patch=4, width=32, depth=1, heads=2), 16, 0.01
    return DiT(patch=4, width=96, depth=4, heads=4), 32, 5e-3


def as_a_list(budget):
    return [DiT(patch=4, width=32, depth=1, heads=2), torch.tensor(16), np.float64(0.01)]


def by_width(budget):
    width = 32 * max(1, round((budget / 1e11) ** 0.25))
    return DiT(width=width, depth=max(1, width // 32), heads=width // 16), 16.0, 1e-2


def whose_weights_do_not_count(budget):
    network = DiT(patch=4, width=32, depth=1, heads=2)
    for weight in network.parameters():
        nn.init.normal_(weight)
    return network, 16, 1e-2


def by_steps(budget):
    """Make the steps about 700 whatever the network costs."""
    network = DiT(patch=4, width=32, depth=1, heads=2)
    cost = 2 * sum(w.numel() for w in network.parameters()) * 64 * 3
    return network, min(16, max(1, int(budget / cost / 700) + 10)), 1e-2


class Plan:
    def __init__(self):
        self.sizes = dict(patch=4, width=32, depth=1, heads=2)

    def __call__(self, budget):
        return DiT(**self.sizes).double().float(), 16, 10**-2


def from_parts(budget):
    like = DiT(patch=4, width=32, depth=1, heads=2)
    return as_in_the_lesson(like.conditioning, like.blocks, 4, 32), 16, 1e-2


def frozen(budget):
    return DiT(1, 10, image_size=32, patch=4, width=32, depth=1, heads=2, mlp_ratio=4).requires_grad_(False), 16, 1e-2


@cache
def kept(budget):
    return larger_for_more(budget)


def the_unet(budget):
    return UNet(), 16, 1e-2


def changed_places(budget):
    return DiT(width=32, depth=1, heads=2), 1e-2, 16


def network_alone(budget):
    return DiT(width=32, depth=1, heads=2)


def without_labels(budget):
    return DiT(num_classes=None, width=32, depth=1), 16, 1e-2


def a_layer(budget):
    return nn.Linear(3, 3), 16, 1e-2


def small_for_all_but_large(budget):
    return DiT(width=32, depth=1, heads=2), 16 if budget < 1e12 else 60_000, 1e-2


RIGHT = {
    "07.1": [by_permute, by_einsum, by_loops, by_filling, by_unfold, by_chunks, by_tensor_unfold, by_numpy,
             by_convolution, in_place_and_double, Cutter(), partial(by_permute, order=[0, 2, 4, 1, 3, 5]), patchify,
             lambda x, patch: F.pixel_unshuffle(x, patch).flatten(2).permute(0, 2, 1)],
    "07.2": [twenty_random_orders, all_swaps_of_neighbours, by_matrices, put_back, by_python_random, by_numpy_random,
             in_float32, shuffled_in_place, own_tokens, Tester(12), gathered,
             lambda field, tokens: all(holds(field, tokens, order) for order in orders(tokens.shape[1], 10))],
    "07.3": [in_heads, heads_by_einsum, heads_by_loop, heads_by_torch, heads_as_batch, heads_by_exp, heads_filled,
             heads_in_place, heads_in_double, heads_by_mask, Heads(), partial(in_heads, dim=3)],
    "07.4": [branch, branch_by_hand, branch_by_image, branch_by_einsum, branch_in_place, branch_by_modulate,
             branch_by_lerp, branch_in_double, branch_by_group_norm, Branch(), partial(branch, silu=nn.SiLU()),
             lambda x, emb, layer, f: (lambda b, s, g: x + g * f(F.layer_norm(x, x.shape[2:], 1 + 0 * x[0, 0]) * (s + 1)
                                       + b))(*layer(F.silu(emb))[:, None].chunk(3, -1))],
    "07.5": [as_in_the_lesson, by_reduce, with_fold, back_by_permute, by_linear_and_shuffle, in_einsum,
             one_image_at_a_time, InMethods, FromDiT, from_a_function, partial(as_in_the_lesson)],
    "07.6": [planned(), larger_for_more, as_a_list, by_width, whose_weights_do_not_count, by_steps, Plan(), from_parts,
             frozen, kept, lambda *budgets: planned()(*budgets)],
}  # fmt: skip

WRONG = {
    "07.1": [
        (partial(by_permute, order=(0, 2, 4, 1, 5, 3)), "but column by column"),
        (partial(by_permute, order=(0, 2, 4, 3, 5, 1)), "channels side by side"),
        (partial(by_permute, order=(0, 4, 2, 1, 3, 5)), "the grid is transposed"),
        (partial(by_permute, order=(0, 4, 2, 1, 5, 3)), "grid and patches are both transposed"),
        (partial(by_permute, order=(0, 1, 2, 4, 3, 5)), "off by .*should start with"),
        (strips, "A reshape alone cuts strips"),
        (square_only, "square images come out right, but"),
        (unfold_as_it_is, "as unfold leaves them"),
        (unfold_reshaped, "unfold leaves patches in columns"),
        (every_pth_pixel, "every p-th pixel"),
        (one_channel_only, r"should have shape .* tokens, each of C p\^2"),
        (grid_kept, "Rows and columns of the grid come together"),
        (squares_kept, "The numbers of a patch come together"),
        (viewed, "stopped in the line .*view"),
        (no_answer, "is a `return` missing"),
    ],
    "07.2": [
        (always, "with positions added"),
        (never, "treats every token alone"),
        (asks_for_invariance, "Equivariant is not invariant"),
        (undoes_with_the_order_itself, "inverse is order.argsort"),
        (without_rounding, "it is rounding"),
        (shifts_in_a_circle, "reads the neighbour on the left"),
        (both_shifted_and_backwards, "reads both neighbours"),
        (backwards, "reads both neighbours"),
        (partial(changes, i=2, j=5), "only the (first|last) token"),
        (partial(changes, i=0, j=-1), "only the middle token"),
        (partial(few_random_orders, count=2), "only the .* token .* try many orders"),
        (one_random_order, "only the .* token .* try many orders"),
        (one_order_of_python, "only the .* token .* try many orders"),
        (one_fixed_order, "the order .* puts in its place"),
        (compares(torch.mean), "with positions added|adds another number|sorts its tokens"),
        (compares(torch.norm), "with positions added|sorts its tokens"),
        (compares(lambda out: out.sort(dim=1).values), "invariant, not equivariant"),
        (compares(lambda out: out.flatten().sort().values), "invariant, not equivariant"),
        (any_in_place_of_all, "treats only the"),
        (first_output_only, "only the (first|last|middle) token|sign"),
        (a_number, "should be True or False"),
        (no_answer, "is a `return` missing"),
    ],
    "07.3": [
        (root_of(lambda q, heads: 1), r"not divided by sqrt\(d\)"),
        (root_of(lambda q, heads: q.shape[-1]), "square root of the whole width"),
        (root_of(lambda q, heads: (q.shape[-1] // heads) ** 2), "divided by d; its square root"),
        (root_of(lambda q, heads: heads), "square root of the number of heads"),
        (root_of(lambda q, heads: q.shape[1]), "square root of the number of tokens"),
        (keys_for_queries, "queries and keys have changed places"),
        (lambda q, k, v, heads: in_heads(q, v, k, heads), "keys and values have changed places"),
        (lambda q, k, v, heads: q + in_heads(q, k, v, heads), "the queries are added"),
        (softmax_over(-2), "the softmax runs over the queries"),
        (softmax_over(1), "the softmax runs over the heads"),
        (softmax_over(0), "off by .*over keys"),
        (interleaved, "last axis splits into"),
        (one_head_for_all, "there is one head for all"),
        (reshaped_across_tokens, "cuts across tokens"),
        (mixed_on_the_way_back, "mixed on the way back"),
        (never_swapped, "each token attends to its own heads"),
        (without_softmax, "the softmax is missing"),
        (heads_left_apart, "the heads are still apart"),
        (heads_by_numpy, "no gradient passes back"),
        (heads_detached, "not the whole gradient passes back"),
        (no_answer, "is a `return` missing"),
    ],
    "07.4": [
        (partial(branch, one=0), r"without 1 \+"),
        (partial(branch, order=(1, 0, 2)), "shift and scale have changed places"),
        (partial(branch, order=(0, 2, 1)), "scale and gate have changed places"),
        (partial(branch, order=(2, 1, 0)), "shift and gate have changed places"),
        (without_a_gate, "leave x exactly as it is"),
        (gate_around_it_all, "leave x exactly as it is"),
        (partial(branch, silu=lambda c: c), "SiLU is missing"),
        (partial(branch, silu=F.relu), "another bend"),
        (partial(branch, norm=one_less), r"one less .*correction=0"),
        (partial(branch, norm=rms), "RMS norm"),
        (partial(branch, norm=lambda x: x), "without being normalised"),
        (partial(branch, norm=lambda x: F.layer_norm(x, x.shape[1:])), "each token has its own mean"),
        (partial(branch, gated=torch.tanh), "the gate goes through a tanh"),
        (partial(branch, gated=torch.sigmoid), "leave x exactly as it is"),
        (shift_inside, "the shift is inside the bracket"),
        (silu_after, "SiLU comes behind the layer"),
        (chunks_in_turn, "are taken in turn"),
        (gate_inside, "the gate is inside f|leave x exactly"),
        (without_an_axis, "stopped in the line .*size of tensor"),
        (axis_by_size, "with as many tokens as images: .*an axis of length 1"),
        (first_condition_for_all, "share the condition of the first one"),
        (normalised_x_added, "leave x exactly as it is"),
        (branch_by_numpy, "no gradient passes back"),
        (shift_missing, "the shift is missing"),
        (mixed_with_x, "is mixed with x"),
        (partial(branch, silu=F.gelu), "GELU stands in the place"),
        (x_in_place, "changed in place .* whose old numbers the gradient still needs"),
        (no_answer, "is a `return` missing"),
    ],
    "07.5": [
        (wrong(positions=0), "a bag of patches"),
        (wrong(blocks=lambda blocks: blocks[:1]), "only the first block"),
        (wrong(blocks=lambda blocks: reversed(blocks)), "from the last to the first"),
        (blocks_side_by_side, "off by .*the blocks one after the other"),
        (wrong(label=lambda y: None), "the label is left out"),
        (wrong(time=lambda t: 1 - t), "the time is left out or turned"),
        (wrong(silu=lambda c: c), "SiLU is missing"),
        (wrong(no_ada), "the last adaLN is missing"),
        (wrong(swapped_at_the_end), "shift and scale have changed places"),
        (wrong(reshaped_at_the_end), "strips of the picture"),
        (wrong(tokens_at_the_end), "should have shape"),
        (wrong(picture_added), "is added to the velocity"),
        (wrong(detached_at_the_end), "the gradient of .* is not"),
        (labels_always, r"without labels \(y = None\)"),
        (needs_a_label, "your function stopped .*missing 1 required"),
        (stops, "your function stopped in the line"),
        (labkits_own, "labkit's own DiT at work"),
        (WithoutForward, "no `forward` of its own"),
        (MoreWeights, "it has norm.bias, norm.weight besides"),
        (BoundToTheFirst, "a copy of the network"),
        (Parts.__init__, "your function stopped"),
        (nn.Linear, "your function stopped"),
        (no_answer, "should be a network.* is a `return` missing"),
    ],
    "07.6": [
        (planned(width=128, depth=4, heads=4, batch_size=64), "too large for this budget: take a smaller one"),
        (planned(width=128, depth=4, heads=4, batch_size=512), "not a single step"),
        (planned(patch=2, width=64, depth=4), "so few. Patches of 2 cut a digit into 256 tokens"),
        (planned(batch_size=1024), "A batch of 1024 is too large"),
        (planned(lr=1e-4), "rate of 0.0001 is small"),
        (planned(lr=1.0), "rate of 1 is (high|far too high)|the training broke off"),
        (planned(patch=16, width=64, depth=2, batch_size=64), "Patches of 16 leave only 4 tokens"),
        (planned(batch_size=1, patch=16, width=8), "the check takes at most 1,500"),
        (planned(batch_size=0), "a whole number from 1 to 60,000"),
        (planned(batch_size=2.5), "a whole number from 1 to 60,000"),
        (planned(lr=-1e-2), "learning rate should be positive"),
        (planned(lr="fast"), "the learning rate lr should be a number"),
        (planned(width=30, heads=4), "your function stopped .*heads must divide width"),
        (the_unet, "the U-Net of lesson 06"),
        (changed_places, "changed places"),
        (network_alone, r"three things, \(network, batch_size, lr\)"),
        (without_labels, "should be a DiT"),
        (a_layer, "should be a DiT"),
        (small_for_all_but_large, "with which the lesson goes on, your plan takes only"),
        (no_answer, "three things.* is a `return` missing"),
    ],
}
