"""Lesson 07: patches, fields that know no order, heads of attention, adaptive layer norm, the cost of attention."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

from labkit.course.checks.require import require, require_close, require_number, require_verdict
from labkit.nn.dit import Attention
from labkit.nn.trace import flop_count


def patches(answer: Callable) -> str:
    """07.1: `(x, patch)` with images (B, C, H, W) to tokens (B, N, C p^2), row by row."""
    for shape, p in [((1, 1, 4, 4), 2), ((2, 1, 8, 12), 4), ((3, 2, 6, 9), 3), ((2, 3, 5, 4), 1)]:
        x = torch.arange(torch.Size(shape).numel()).reshape(shape).float()  # every pixel has a number of its own
        corners = [(r, c) for r in range(0, shape[2], p) for c in range(0, shape[3], p)]
        truth = torch.stack([x[:, :, r : r + p, c : c + p].flatten(1) for r, c in corners], dim=1)
        inside = truth.unflatten(2, (shape[1], p, p))
        grid = truth.unflatten(1, (shape[2] // p, shape[3] // p))
        mistakes = {
            "every token holds the right pixels, but column by column: inside a patch, as in the grid, rows come first":
                inside.mT.flatten(2),
            "every token holds the right numbers, but pixel by pixel with the channels side by side: the first p^2 "
            "numbers of a token belong to the first channel, and so on": inside.movedim(2, -1).flatten(2),
            "the patches are right, but the grid is transposed: the second token should be the right neighbour of the "
            "first, and yours is the one below it": grid.transpose(1, 2).flatten(1, 2),
            "a token holds a strip of the image and not a square. A reshape alone cuts strips: split height and width "
            "into (grid, inside) first, then bring the grid forward": x.reshape(truth.shape),
        }  # fmt: skip
        first = ", ".join(f"{number:g}" for number in truth[0, 0, :6].tolist())
        hint = f"Here every pixel has a number of its own, and the first token should start with {first}"
        require_close(answer(x, p), truth, f"for images {shape} and patches of {p}:", mistakes, hint)
    return "Every pixel is where it belongs, for one channel and for three, on grids that are not square."


def ignores_order(answer: Callable) -> str:
    """07.2: `(field, tokens)` to whether the field is permutation-equivariant: True or False."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 9, 8, generator=generator)
    where = torch.randn(9, 8, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention, mlp = Attention(8, heads=2).requires_grad_(False), nn.Linear(8, 8).requires_grad_(False)
    first, last = torch.eye(9)[:, :1], torch.eye(9)[:, -1:]

    for field, truth, sentence in (
        (mlp, True, "a layer that treats every token alone. Equivariant is not invariant: the outputs need not stay as "
         "they are, they have to change places with the tokens. Or did you put them back with the order itself? Its "
         "inverse is order.argsort()"),
        (attention, True, "attention without positions. If the difference that you found is about 1e-7, it is "
         "rounding: a sum over tokens is taken in another order. Allow for it"),
        (lambda x: attention(x + where), False, "attention with positions added to the tokens. Is each output "
         "compared with that of the same token in the other order?"),
        (lambda x: mlp(x + where), False, "a layer that adds another number at every place"),
        (lambda x: mlp(x) + x.roll(1, dims=1), False, "a field that reads the neighbour on the left. It passes for "
         "orders that only shift all tokens in a circle; take a random order"),
        (lambda x: mlp(x) + x.roll(1, dims=1) + x.roll(-1, dims=1), False, "a field that reads both neighbours. "
         "Reading the tokens backwards leaves neighbours neighbours; take a random order"),
        (lambda x: mlp(x) + last, False, "a field that treats only the last token in a way of its own. Move every "
         "token, and look at all outputs"),
        (lambda x: mlp(x) + first, False, "a field that treats only the first token in a way of its own. Move every "
         "token, and look at all outputs"),
    ):  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # so that the verdict does not change from call to call
            said = require_verdict(answer(field, tokens))
        require(said == truth, f"it says {said} for {sentence}")
    return "Two fields that know no order, and six that do: each is called by its name."


def heads_apart(answer: Callable) -> str:
    """07.3: `(q, k, v, heads)`, each (B, N, width), to what attention in heads gives, (B, N, width)."""
    generator = torch.Generator().manual_seed(0)
    for heads, width in [(1, 4), (2, 6), (3, 12)]:
        q, k, v = torch.randn(3, 2, 5, width, generator=generator).double()
        size = width // heads
        apart = [part.unflatten(2, (heads, size)).transpose(1, 2) for part in (q, k, v)]  # (B, heads, N, size) each
        cut = [part.reshape(2, heads, 5, size) for part in (q, k, v)]

        def side_by_side(parts: list[Tensor], factor: float = 1) -> Tensor:
            return scaled_dot_product_attention(factor * parts[0], *parts[1:]).transpose(1, 2).flatten(2)

        mistakes = {
            "the products are not divided by sqrt(d): the softmax is too sharp": side_by_side(apart, size**0.5),
            "they are divided by the square root of the whole width. A product within one head sums over "
            "d = width / heads numbers, and so d it is": side_by_side(apart, heads**-0.5),
            "the heads are mixed: a reshape to (B, heads, N, d) cuts across tokens. Split the last axis first, to "
            "(B, N, heads, d), then swap two axes": scaled_dot_product_attention(*cut).reshape(q.shape),
            "the heads are mixed on the way back: swap heads and tokens again before you lay the heads side by side":
                scaled_dot_product_attention(*apart).reshape(q.shape),
        }  # fmt: skip
        case = f"with {heads} head{'s' * (heads > 1)} of {size} numbers:"
        hint = "Head 0 owns the first d numbers of every token. In each head: softmax(Q K^T / sqrt(d)) V, over keys"
        require_close(answer(q, k, v, heads), side_by_side(apart), case, mistakes, hint)
    return "One head, two and three: torch's own attention gives the same."


def gated_branch(answer: Callable) -> str:
    """07.4: `(x, emb, layer, f)` to x + gate * f((1 + scale) * normalised x + shift)."""
    generator = torch.Generator().manual_seed(0)
    x = (2 + 3 * torch.randn(3, 5, 4, generator=generator)).double()
    emb, weight = torch.randn(3, 4, generator=generator).double(), torch.randn(12, 4, generator=generator).double()

    def layer(c: Tensor) -> Tensor:
        return c @ weight.T

    def f(tokens: Tensor) -> Tensor:
        return tokens.tanh() + 0.5 * tokens.mean(dim=1, keepdim=True)

    closed = answer(x, emb, lambda c: 0 * layer(c), f)
    hint = "Is the gate at f(...) alone, and x added as it came?"
    zeros = "where the layer gives zeros, the branch should leave x exactly as it is:"
    require_close(closed, x, zeros, {}, hint)

    normalised = layer_norm(x, x.shape[-1:])
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)

    def branch(shift: Tensor, scale: Tensor, gate: Tensor, normalised: Tensor = normalised) -> Tensor:
        return x + gate * f((1 + scale) * normalised + shift)

    mistakes = {
        "the scale is used without 1 +: at a scale of 0 the normalised tokens would vanish":
            branch(shift, scale - 1, gate),
        "shift and scale have changed places: the layer gives shift, scale, gate, in this order":
            branch(scale, shift, gate),
        "SiLU is missing: the layer reads silu(emb)": branch(*layer(emb)[:, None].chunk(3, dim=2)),
        "x comes in without being normalised": branch(shift, scale, gate, x),
    }  # fmt: skip
    hint = (
        "Each token is normalised by its own mean and variance (correction=0); shift, scale and gate, in this order, "
        "belong to the image and meet its tokens with an axis of length 1 in the middle"
    )
    require_close(answer(x, emb, layer, f), branch(shift, scale, gate), "with an open gate:", mistakes, hint)
    return "Closed it is the identity; open, each image is shifted, scaled and gated by its own condition."


def attention_work(answer: Callable) -> str:
    """07.5: `(tokens, width)` to the floating-point operations of one attention layer for one image."""
    for n, width in [(48, 128), (256, 128), (16, 128), (1024, 64)]:
        with torch.random.fork_rng(devices=[]):
            layer = Attention(width, heads=4)
        truth, value = flop_count(layer, torch.zeros(1, n, width)), require_number(answer(n, width))
        pairs, linear = 4 * n**2 * width, 8 * n * width**2
        case = f"{n} tokens of {width} numbers cost {truth:,} operations by torch's counter; yours are {value:,.0f}"
        for guess, sentence in (
            (truth / 2, "A multiplication and an addition count as two"),
            (linear, "Those are the linear layers; Q K^T and the weighted sum are for every pair"),
            (linear + pairs / 2, "Every pair costs twice: once in Q K^T, once in the sum of values"),
            (pairs + 0.75 * linear, "Queries, keys and values are three linear layers; the output is a fourth"),
        ):
            require(abs(value - guess) >= 1e-3 * guess, f"{case}. {sentence}")
        require(
            abs(value - truth) < 0.02 * truth,
            f"{case}. Count four linear layers and two products for pairs: "
            "a product of a (a, b) and a (b, c) matrix costs 2abc",
        )
    return "Within 2% of torch's counter. The pairs overtake the linear layers where there are 2 * width tokens."


CHECKS: dict[str, Callable[[Callable], str]] = {
    "07.1": patches,
    "07.2": ignores_order,
    "07.3": heads_apart,
    "07.4": gated_branch,
    "07.5": attention_work,
}
