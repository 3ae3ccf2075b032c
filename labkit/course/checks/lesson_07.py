"""Lesson 07: patches, fields that know no order, heads of attention, gated branches, the whole network, and a plan."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from unittest.mock import patch as replaced

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention, silu

from labkit.course.checks.budget import PASSES, held_out, operations, trained_within
from labkit.course.checks.check import guarded
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
    seeded,
)
from labkit.nn.dit import DiT, modulate, patchify, unpatchify
from labkit.nn.unet import UNet

SMALL, LARGE = 1e11, 25.2e12  # operations: what the check of 07.6 trains with, and what the lesson does
TARGET = 0.33  # the held-out loss to reach with SMALL
FEWEST, MOST = 20, 1500  # steps that are worth a try, and that do not take too long
CUT_OFF = (
    "the values are right, but no gradient passes back through your answer, and the lesson trains a network through "
    "it: numpy, .detach(), .item(), .data and torch.no_grad() cut it off. Stay with tensors all the way"
)


def patches(answer: Callable) -> str:
    """07.1: `(x, patch)` with images (B, C, H, W) to tokens (B, N, C p^2), row by row."""
    cases = [((2, 1, 8, 8), 4), ((1, 2, 4, 4), 2), ((2, 1, 8, 12), 4), ((3, 2, 6, 9), 3), ((2, 3, 5, 4), 1)]
    for shape, p in cases:
        b, c, h, w = shape
        x = torch.arange(torch.Size(shape).numel()).reshape(shape).float()  # every pixel has a number of its own
        corners = [(row, column) for row in range(0, h, p) for column in range(0, w, p)]
        truth = torch.stack([x[:, :, i : i + p, j : j + p].flatten(1) for i, j in corners], dim=1)
        inside, grid = truth.unflatten(2, (c, p, p)), truth.unflatten(1, (h // p, w // p))
        case = f"for images {shape} and patches of {p}:" if h == w else f"for images {shape}, not square, patches {p}:"
        try:
            value = as_tensor(answer(x, p))
        except NotRight as error:
            require(h == w or p == 1, f"square images come out right, but {case} {error}. Height and width differ here")
            raise
        if isinstance(value, Tensor) and value.shape != truth.shape:
            why = {
                (b, c * p * p, len(corners)): "These are patches in columns, as unfold leaves them: swap the last two "
                "axes, so that a token is a row",
                (b, h // p, w // p, c * p * p): "Rows and columns of the grid come together, as one axis of N tokens",
                (len(corners), b, c * p * p): "The images come first, then their tokens",
                (b, len(corners), c, p, p): "The numbers of a patch come together, as one axis",
                (b, h // p, w // p, c, p, p): "The grid comes together as one axis, and so do the numbers of a patch",
            }.get(tuple(value.shape), f"There are N = {h // p} * {w // p} tokens, each of C p^2 = {c * p * p} numbers")
            shapes = f"{tuple(truth.shape)}; it has {tuple(value.shape)}"
            require(False, f"{case} the answer should have shape {shapes}. {why}")
        mistakes = {
            "every token holds the right pixels, but column by column: inside a patch, as in the grid, rows come first":
                inside.mT.flatten(2),
            "every token holds the right numbers, but pixel by pixel with the channels side by side: the first p^2 "
            "numbers of a token belong to the first channel, and so on": inside.movedim(2, -1).flatten(2),
            "the patches are right, but the grid is transposed: the second token should be the right neighbour of the "
            "first, and yours is the one below it": grid.transpose(1, 2).flatten(1, 2),
            "grid and patches are both transposed: rows come first, in the grid and inside a patch":
                grid.unflatten(3, (c, p, p)).mT.transpose(1, 2).flatten(1, 2).flatten(2),
            "a token holds a strip of the image and not a square. A reshape alone cuts strips: split height and width "
            "into (grid, inside) first, then bring the grid forward": x.reshape(truth.shape),
            "the axis of patches and that of numbers are mixed: the grid comes first, then the inside of a patch "
            "(unfold leaves patches in columns: there swap two axes)": truth.mT.reshape(truth.shape),
            "the tokens come in the opposite order, the last one first": truth.flip(1),
            "a token holds every p-th pixel of the image and not p neighbours: split the height into (grid row, row "
            "inside), in this order": x.reshape(b, c, p, h // p, p, w // p).permute(0, 3, 5, 1, 2, 4).flatten(3)
            .flatten(1, 2),
        }  # fmt: skip
        first = ", ".join(f"{number:g}" for number in truth[0, 0, :6].tolist())
        hint = f"Here every pixel has a number of its own, and the first token should start with {first}"
        require_close(value, truth, case, mistakes, hint)
    return "Every pixel is where it belongs, for one channel and for three, on square grids and others."


def ignores_order(answer: Callable) -> str:
    """07.2: `(field, tokens)` to whether the field is permutation-equivariant: True or False."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 9, 8, generator=generator).double()
    where, mixing = torch.randn(9, 8, generator=generator).double(), torch.randn(3, 8, 8, generator=generator).double()
    used: set[tuple[int, ...]] = set()  # the orders that the answer tries

    def mlp(x: Tensor) -> Tensor:
        return (x @ mixing[0].to(x.dtype)).tanh() + x

    def attention(x: Tensor) -> Tensor:
        q, k = (x @ mixing[1].to(x.dtype), x @ mixing[2].to(x.dtype))
        return x + (q @ k.mT / 8).softmax(dim=-1) @ x

    def even(x: Tensor) -> Tensor:  # 1 or -1: is the order that sorts the tokens an even one?
        order = x[0, :, 0].argsort()
        return (-1.0) ** (order[:, None] > order).triu().sum()

    def special(place: int, image: int = 0, number: int = 0) -> Callable[[Tensor], Tensor]:
        extra = torch.zeros(2, 9, 8)  # for one number of one token of one image
        extra[image, place, number] = 1
        return lambda x: mlp(x) + extra[: len(x)].to(x.dtype)

    def said(field: Callable[[Tensor], Tensor], seed: int, tokens: Tensor = tokens) -> bool:
        def watched(x: Tensor) -> Tensor:
            order = _order_of(x, tokens)
            used.update([order] if order and order != tuple(range(9)) else [])
            return field(x)

        with seeded(seed):  # so that the verdict does not change from call to call
            return require_verdict(answer(watched, tokens))

    one_token = "token in a way of its own. Move every token, look at all outputs, and try many orders: a random one "
    one_token += "leaves a given token where it was once in nine times"
    for field, truth, seeds, sentence in (
        (mlp, True, 2, "a layer that treats every token alone. Equivariant is not invariant: the outputs need not stay "
         "as they are, they have to change places with the tokens. Or did you put them back with the order itself? Its "
         "inverse is order.argsort()"),
        (attention, True, 2, "attention without positions. If the difference that you found is tiny, it is rounding: a "
         "sum over tokens is taken in another order. Allow for it"),
        (lambda x: x - x.mean(dim=1, keepdim=True), True, 1, "tokens less their mean. A mean knows no order; allow for "
         "rounding"),
        (lambda x: attention(x + where.to(x.dtype)), False, 2, "attention with positions added to the tokens. Is each "
         "output compared with that of the same token in the other order?"),
        (lambda x: mlp(x + 0.1 * where.to(x.dtype)), False, 2, "a layer that adds small numbers, by place. Is "
         "each output compared with that of the same token in the other order?"),
        (lambda x: x.sort(dim=1).values, False, 2, "a field that sorts its tokens. Its outputs stay as they are when "
         "the tokens move: that is invariant, not equivariant. Equivariant outputs move along. Compare them token by "
         "token, not by a sum, a norm or sorted"),
        (lambda x: x.mean(dim=1, keepdim=True) + where.to(x.dtype), False, 2, "a mean with positions added. Its "
         "outputs stay as they are when the tokens move: that is invariant, not equivariant. Equivariant outputs move "
         "along"),
        (lambda x: mlp(x) + x.roll(1, dims=1), False, 2, "a field that reads the neighbour on the left. It passes for "
         "orders that only shift all tokens in a circle; take random orders"),
        (lambda x: mlp(x) + x.roll(1, dims=1) + x.roll(-1, dims=1), False, 2, "a field that reads both neighbours. "
         "Reading the tokens backwards leaves neighbours neighbours; take random orders"),
        (lambda x: mlp(x).cumsum(dim=1), False, 2, "a sum over all tokens up to each. Take random orders"),
        (special(8), False, 50, f"a field that treats only the last {one_token}"),
        (special(0, number=7), False, 50, f"a field that treats only the first {one_token}"),
        (special(4, image=1), False, 50, f"a field that treats only the middle {one_token}"),
        (lambda x: mlp(x) * even(x), False, 30, "a field that turns its sign with every swap of two tokens. An even "
         "number of swaps leaves no trace: half of all orders tell nothing, so try many random ones"),
    ):  # fmt: skip
        for seed in range(seeds):
            verdict = said(field, seed)
            require(verdict == truth, f"it says {verdict} for {sentence}")
    for order in sorted(used) if len(used) < 10 else []:
        fixed = list(order)
        require(
            not said(lambda x, fixed=fixed: mlp(x) + x[:, fixed], 0),
            f"it says True for a field in which each token reads the one that the order {fixed} puts in its place: of "
            "all orders you try only a few special ones. Take random orders",
        )
    return "Three fields that know no order, and eleven that do: each called by its name, from every seed tried."


def heads_apart(answer: Callable) -> str:
    """07.3: `(q, k, v, heads)`, each (B, N, width), to what attention in heads gives, (B, N, width)."""
    generator = torch.Generator().manual_seed(0)
    for heads, width in [(2, 6), (3, 12), (4, 8), (1, 4)]:
        q, k, v = 1.5 * torch.randn(3, 2, 5, width, generator=generator)
        d = width // heads
        apart = [part.unflatten(2, (heads, d)).transpose(1, 2) for part in (q, k, v)]  # (B, heads, N, d) each
        cut = [part.reshape(2, heads, 5, d) for part in (q, k, v)]
        alternating = [part.unflatten(2, (d, heads)).movedim(3, 1) for part in (q, k, v)]
        scores = apart[0] @ apart[1].mT / d**0.5

        def side_by_side(parts: list[Tensor], factor: float = 1) -> Tensor:
            return scaled_dot_product_attention(factor * parts[0], *parts[1:]).transpose(1, 2).flatten(2)

        def weighted(weights: Tensor, apart: list[Tensor] = apart) -> Tensor:
            return (weights @ apart[2]).transpose(1, 2).flatten(2)

        truth, over = side_by_side(apart), "a row of weights, over all keys (the last axis), sums to 1"
        mistakes = {
            "the products are not divided by sqrt(d): the softmax is too sharp": side_by_side(apart, d**0.5),
            "the products are multiplied by sqrt(d): divide": side_by_side(apart, d),
            "they are divided by d; its square root is enough": side_by_side(apart, d**-0.5),
            "they are divided by the square root of the whole width. A product within one head sums over "
            "d = width / heads numbers, and so d it is": side_by_side(apart, heads**-0.5),
            "they are divided by the square root of the number of heads; d = width / heads it is":
                side_by_side(apart, (d / heads) ** 0.5),
            "they are divided by the square root of the number of tokens; d = width / heads it is":
                side_by_side(apart, (d / 5) ** 0.5),
            "queries and keys have changed places: row i belongs to the query of token i":
                side_by_side([apart[1], apart[0], apart[2]]),
            "keys and values have changed places": side_by_side([apart[0], apart[2], apart[1]]),
            "queries and values have changed places": side_by_side(apart[::-1]),
            "the queries stand in for the keys as well": side_by_side([apart[0], apart[0], apart[2]]),
            "the queries are added to the answer; that is not asked for here": truth + q,
            "every token looks only at those before it (is_causal); here all look at all": scaled_dot_product_attention(
                *apart, is_causal=True).transpose(1, 2).flatten(2),
            f"the softmax runs over the queries: {over}": weighted(scores.softmax(dim=-2)),
            f"the softmax runs over the heads: {over}": weighted(scores.softmax(dim=1)),
            f"the softmax is missing: {over}": weighted(scores),
            f"the softmax is missing, and so is sqrt(d): {over}": weighted(scores * d**0.5),
            "there is one head for all: each head has scores and weights of its own": scaled_dot_product_attention(
                q, k, v),
            "there is one head for all, with the root of one head: each head has scores of its own":
                scaled_dot_product_attention(heads**0.5 * q, k, v),
            "the heads own every second or third number, in turn. Head 0 owns the first d numbers of every token: the "
            "last axis splits into (heads, d), in this order": torch.stack(
                scaled_dot_product_attention(*alternating).unbind(1), dim=-1).flatten(2),
            "the heads own numbers in turn and not side by side. Head 0 owns the first d numbers of every token: the "
            "last axis splits into (heads, d), in this order": side_by_side(alternating),
            "the heads are mixed: a reshape to (B, heads, N, d) cuts across tokens. Split the last axis first, to "
            "(B, N, heads, d), then swap two axes": scaled_dot_product_attention(*cut).reshape(q.shape),
            "the heads are mixed: a reshape to (B, heads, N, d) cuts across tokens, though the way back is right. "
            "Split the last axis first, to (B, N, heads, d), then swap two axes": side_by_side(cut),
            "the heads are mixed on the way back: swap heads and tokens again before you lay the heads side by side":
                scaled_dot_product_attention(*apart).reshape(q.shape),
            "the tokens of a head attend to nothing: heads and tokens have not changed places, so each token attends "
            "to its own heads. Swap these two axes": scaled_dot_product_attention(
                *(part.unflatten(2, (heads, d)) for part in (q, k, v))).flatten(2),
        }  # fmt: skip
        case = f"with {heads} head{'s' * (heads > 1)} of {d} numbers:"
        hint = "Head 0 owns the first d numbers of every token. In each head: softmax(Q K^T / sqrt(d)) V, over keys"
        value = as_tensor(answer(q, k, v, heads))
        apart_still = isinstance(value, Tensor) and tuple(value.shape) in {(2, heads, 5, d), (2, 5, heads, d)}
        require(not apart_still, f"{case} the heads are still apart: lay them side by side again, (B, N, width)")
        require_close(value, truth, case, mistakes, hint)
    _require_gradients(lambda *parts: answer(*parts, 1), (q, k, v), scaled_dot_product_attention)
    return "From one head to four as torch's own attention gives it, and gradients pass through."


def gated_branch(answer: Callable) -> str:
    """07.4: `(x, emb, layer, f)` to x + gate * f((1 + scale) * normalised x + shift)."""
    generator = torch.Generator().manual_seed(0)
    x = 2 + 3 * torch.randn(3, 5, 4, generator=generator)
    emb, weight = torch.randn(3, 4, generator=generator), torch.randn(12, 4, generator=generator)

    def layer(c: Tensor) -> Tensor:
        return c @ weight.to(c.dtype).T

    def f(tokens: Tensor) -> Tensor:
        return tokens.tanh() + 0.5 * tokens.mean(dim=1, keepdim=True)

    hint = "Is the gate at f(...) alone, and x added as it came?"
    zeros = "where the layer gives zeros, the branch should leave x exactly as it is:"
    require_close(as_tensor(answer(x, emb, lambda c: 0 * layer(c), f)), x, zeros, {}, hint)

    normalised, made = layer_norm(x, x.shape[-1:]), layer(silu(emb))[:, None]
    shift, scale, gate = made.chunk(3, dim=2)

    def branch(shift: Tensor, scale: Tensor, gate: Tensor, normalised: Tensor = normalised) -> Tensor:
        return x + gate * f((1 + scale) * normalised + shift)

    def scaled(by: Tensor) -> Tensor:
        return branch(shift, scale, gate, by)

    centred, order = x - x.mean(dim=2, keepdim=True), "the layer gives shift, scale, gate, in this order"
    mistakes = {
        "the scale is used without 1 +: at a scale of 0 the normalised tokens would vanish":
            branch(shift, scale - 1, gate),
        f"shift and scale have changed places: {order}": branch(scale, shift, gate),
        f"scale and gate have changed places: {order}": branch(shift, gate, scale),
        f"shift and gate have changed places: {order}": branch(gate, scale, shift),
        f"shift, scale and gate are read as scale, gate, shift: {order}": branch(gate, shift, scale),
        f"shift, scale and gate are read as gate, shift, scale: {order}": branch(scale, gate, shift),
        "the numbers of shift, scale and gate are taken in turn: the first width numbers are the shift, the next the "
        "scale (.chunk(3, dim=-1))": branch(*made.unflatten(2, (4, 3)).unbind(3)),
        "SiLU is missing: the layer reads silu(emb)": branch(*layer(emb)[:, None].chunk(3, dim=2)),
        "SiLU comes behind the layer; the layer reads silu(emb), and what it gives stays as it is":
            branch(*silu(layer(emb))[:, None].chunk(3, dim=2)),
        "SiLU comes twice: the layer reads silu(emb), and what it gives stays as it is":
            branch(*silu(made).chunk(3, dim=2)),
        "another bend stands in the place of SiLU, which is c * sigmoid(c)":
            branch(*layer(emb.relu())[:, None].chunk(3, dim=2)),
        "GELU stands in the place of SiLU, which is c * sigmoid(c)":
            branch(*layer(gelu(emb))[:, None].chunk(3, dim=2)),
        "a sigmoid stands in the place of SiLU, which is c * sigmoid(c)":
            branch(*layer(emb.sigmoid())[:, None].chunk(3, dim=2)),
        "the shift is missing": branch(0 * shift, scale, gate),
        "the scale is missing": branch(shift, 0 * scale, gate),
        "the factor is 1 + scale, not 1 - scale": branch(shift, -scale, gate),
        "the factor is 1 + scale, not exp(scale)": branch(shift, scale.exp() - 1, gate),
        "the branch is mixed with x, (1 - gate) x + gate f; x stays as it is, and gate f is added":
            branch(shift, scale, gate) - gate * x,
        "the conditions of the images are in another order": branch(*(part.flip(0) for part in (shift, scale, gate))),
        "x comes in without being normalised": scaled(x),
        "the shift is inside the bracket: (1 + scale) multiplies the normalised tokens alone":
            branch((1 + scale) * shift, scale, gate),
        "the shift is added before the tokens are normalised, which takes part of it out again": x
            + gate * f((1 + scale) * layer_norm(x + shift, x.shape[-1:])),
        "the mean is not taken out: that is RMS norm. Layer norm subtracts the mean of a token first":
            scaled(x / x.square().mean(dim=2, keepdim=True).sqrt()),
        "the mean is taken out, but the tokens are not divided by the root of their variance": scaled(centred),
        "the tokens are divided by their variance; its root it is":
            scaled(centred / x.var(dim=2, correction=0, keepdim=True)),
        "the variance divides by one less than the width: correction=0 it is, as in layer_norm":
            scaled(centred / x.std(dim=2, keepdim=True)),
        "the mean and variance are those of all tokens of an image; each token has its own mean and variance":
            scaled(layer_norm(x, x.shape[1:])),
        "the mean and variance are taken over the tokens; each token has its own mean and variance, over its numbers":
            scaled(layer_norm(x.mT, (5,)).mT),
        "the gate goes through a tanh; it is used as it comes": branch(shift, scale, gate.tanh()),
        "the gate goes through a sigmoid, but at 0 it must be shut, not half open":
            branch(shift, scale, gate.sigmoid()),
        "the gate is used with 1 +, but at 0 it must be shut": branch(shift, scale, 1 + gate),
        "the gate is inside f: it closes the branch behind f": x + f(gate * ((1 + scale) * normalised + shift)),
        "the normalised x is added in place of x itself": branch(shift, scale, gate) - x + normalised,
        "x is not added": branch(shift, scale, gate) - x,
        "f reads the tokens before they are scaled and shifted": x + gate * ((1 + scale) * f(normalised) + shift),
        "f reads x itself, and the result is scaled and shifted": x + gate * ((1 + scale) * f(x) + shift),
        "all images share the condition of the first one: each has its own": branch(
            *(part[:1] for part in (shift, scale, gate))),
        "the conditions are averaged over the images: each has its own": branch(
            *(part.mean(0, keepdim=True) for part in (shift, scale, gate))),
    }  # fmt: skip
    hint = (
        "Step by step: make shift, scale, gate from silu(emb), one of each for an image; normalise every token by its "
        "own mean and variance; scale and shift it; f; times the gate; plus x"
    )
    truth = branch(shift, scale, gate)
    require_close(as_tensor(answer(x, emb, layer, f)), truth, "with an open gate:", mistakes, hint)
    few, one = x[:, :3], (x[:1], emb[:1])  # tokens as many as images: an axis at the wrong place goes unnoticed
    wanted = few + gate * f((1 + scale) * layer_norm(few, few.shape[-1:]) + shift)
    across = "shift, scale and gate belong to images: give them an axis of length 1 for the tokens, in the middle"
    require_close(as_tensor(answer(few, emb, layer, f)), wanted, "with as many tokens as images:", {}, across)
    require_close(as_tensor(answer(*one, layer, f)), truth[:1], "for a single image:", {}, across)
    _require_gradients(
        lambda x, emb: answer(x, emb, layer, f),
        (x, emb),
        lambda x, emb: x + layer(silu(emb))[:, None, 8:] * f(modulate(x, *layer(silu(emb))[:, :8].chunk(2, dim=1))),
    )
    return "Shut it is the identity; open, each image is shifted, scaled and gated by its own condition."


PARTS = "tokens = stem(patches) + positions, the blocks one after the other, adaLN, head, and the patches put together"


def whole_network(answer: Callable) -> str:
    """07.5: a class of `(conditioning, blocks, patch, width)`, whose `forward(x, t, y=None)` is that of a DiT."""
    generator = torch.Generator().manual_seed(0)
    for p, width, depth in ((8, 16, 3), (4, 8, 2)):
        like = _stirred_dit(p, width, depth)
        with seeded(0):
            network = answer(like.conditioning, list(like.blocks), p, width)
        _require_network(network, like)
        x, t = torch.randn(3, 1, 32, 32, generator=generator), torch.tensor([0.0, 0.3, 1.0])
        y = torch.tensor([3, 9, 10])
        truth, nobody = like(x, t, y).detach(), like(x, t, None).detach()
        with _apart_from_labkit():
            forward = _quiet(guarded(network.forward))
            with torch.no_grad():
                value, unlabelled = as_tensor(forward(x, t, y)), as_tensor(forward(x, t))
            case = f"with {depth} blocks and patches of {p}:"
            require_close(value, truth, case, _slips(like, x, t, y), f"In order: {PARTS}")
            sentence = "without labels (y = None):"
            with torch.no_grad():
                steady = as_tensor(_quiet(guarded(network.eval().forward))(x, t, y))
            network.train()
            require_close(steady, truth, f"{case} in eval mode", {}, "In training mode it was right")
            require_close(unlabelled, nobody, sentence, {}, "Hand y to `conditioning` as it came; None is fine there")
            _require_trainable(network, like, forward, (x, t, y))
    return "Loaded with the weights of labkit's own DiT, it gives the same pictures and the same gradients."


def plan(answer: Callable) -> str:
    """07.6: `(budget)` in operations to `(network, batch_size, lr)`, a DiT and how to train it within the budget."""
    sizes, batch_size, lr, steps, price = _planned(answer, SMALL)
    run = f"your plan for {SMALL:.0e} operations takes {steps:,} steps of {batch_size} images"
    run, images = f"{run} at {price / 1e6:.1f} million operations each", steps * batch_size
    require(steps >= 1, f"{run}: not a single step. {_too_few(sizes, batch_size, price, images)}")
    require(steps >= FEWEST, f"{run}; nothing is learned in so few. {_too_few(sizes, batch_size, price, images)}")
    require(
        steps <= MOST,
        f"{run}: the check takes at most {MOST:,}, so that you need not wait. A larger batch makes them fewer",
    )
    larger = _planned(answer, LARGE)
    require(
        larger[3] >= 10 * FEWEST,
        f"for {LARGE:.3g} operations, with which the lesson goes on, your plan takes only {larger[3]:,} steps of "
        f"{larger[1]} images at {larger[4] / 1e6:,.0f} million operations each",
    )
    loss = _loss_of(*sizes, batch_size, lr)
    require(
        loss is not None,
        f"{run}, and at a learning rate of {lr:g} the training broke off: its loss was no number any more. That rate "
        "is far too high",
    )
    require(
        loss <= TARGET,
        f"{run}. Held-out loss: {loss:.3f}; the target is {TARGET}. {_why_missed(sizes, batch_size, lr, steps, price)}",
    )
    return (
        f"Held-out loss {loss:.3f} (target {TARGET}) after {steps:,} steps of {batch_size} images, {price / 1e6:.1f} "
        f"million operations each. With {LARGE:.3g} operations, which are not tried here, your plan takes "
        f"{larger[3]:,} steps of {larger[1]} at {larger[4] / 1e6:.1f} million."
    )


CHECKS: dict[str, Callable[[Callable], str]] = {
    "07.1": patches,
    "07.2": ignores_order,
    "07.3": heads_apart,
    "07.4": gated_branch,
    "07.5": whole_network,
    "07.6": plan,
}


def _quiet(answer: Callable) -> Callable:
    """The answer, whose random numbers nobody else notices."""

    def call(*given: object) -> object:
        with seeded(0):
            return answer(*given)

    return call


def _order_of(x: Tensor, tokens: Tensor) -> tuple[int, ...] | None:
    """The order in which `x` holds the tokens, or None if it holds others."""
    if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[1:] != tokens.shape[1:] or not len(x):
        return None
    apart = (x[0, :, None].to(tokens.dtype) - tokens[0]).abs().amax(dim=2)
    order = tuple(apart.argmin(dim=1).tolist())
    return order if apart.amin(dim=1).max() < 1e-3 and len(set(order)) == len(order) else None


def _gradients(out: Tensor, at: list[Tensor]) -> list[Tensor]:
    try:
        found = torch.autograd.grad(out.square().sum(), at, allow_unused=True)
    except RuntimeError as error:
        why = f"the gradient stops on its way back: {error}"
        if "inplace" in str(error):
            why = (
                "a tensor is changed in place (+=, mul_, [...] =) whose old numbers the gradient still needs, and the "
            )
            why += "lesson trains a network through your answer. Make a new tensor: x = x + ..."
        raise NotRight(f"the values are right, but {why}") from error
    return [torch.zeros_like(a) if g is None else g for g, a in zip(found, at, strict=True)]


def _require_gradients(answer: Callable, given: tuple[Tensor, ...], truth: Callable) -> None:
    """Require the gradients of the truth with respect to what was given, since a network is trained through it."""
    leaves = [part.clone().requires_grad_() for part in given]
    with torch.enable_grad():
        try:
            out = answer(*leaves)
        except NotRight as error:
            require("numpy" not in str(error), CUT_OFF)
            raise
        require(isinstance(out, Tensor) and out.requires_grad, CUT_OFF)
        wanted = _gradients(truth(*leaves), leaves)
        for got, expected in zip(_gradients(out, leaves), wanted, strict=True):
            require(gap(got, expected) < 1e-3, CUT_OFF.replace("no gradient passes", "not the whole gradient passes"))


def _stirred_dit(p: int, width: int, depth: int) -> DiT:
    """A small DiT in which nothing is 0, so that every part counts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(p)
        network = DiT(patch=p, width=width, depth=depth, heads=2)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.3 * torch.randn(weight.shape))
    return network


@contextmanager
def _apart_from_labkit() -> Iterator[None]:
    """While the answer runs, labkit's own network does not: its forward is what the exercise asks for."""

    def _refuse(*_: object, **__: object) -> None:
        raise NotRight("that is labkit's own DiT at work. Write the forward pass with the parts of your class")

    with replaced.object(DiT, "forward", _refuse), replaced.object(DiT, "_embed", _refuse):
        yield


def _require_network(network: object, like: DiT) -> None:
    """Require a module with a forward of its own that takes the weights of `like`, and load them."""
    require(isinstance(network, nn.Module), f"the class should be a network, an nn.Module; it gives {kind(network)}")
    forward = type(network).forward
    require(
        forward is not nn.Module.forward and forward is not DiT.forward,
        "the class has no `forward` of its own: write it, with this name",
    )
    for name in ("null", "num_classes"):
        right = getattr(network, name, None) == 10
        require(right, f"`{name}` should stay 10, as the stub has it: sampling and guidance ask for it")
    keys, wanted = set(network.state_dict()), set(like.state_dict())
    words = "the network should have the weights of labkit's DiT under the same names"
    for extra, missing in (("has {} besides", keys - wanted), ("lacks {}", wanted - keys)):
        named = ", ".join(sorted(missing)[:3])
        hint = "Leave __init__ as it is; a buffer is persistent=False"
        require(not missing, f"{words}; it {extra.format(named)}. {hint}")
    try:
        network.load_state_dict(like.state_dict())
    except RuntimeError as error:
        raise NotRight(f"{words}, in the same shapes: {' '.join(str(error).split())}") from error


def _slips(like: DiT, x: Tensor, t: Tensor, y: Tensor) -> dict[str, Tensor]:
    """What the likeliest slips in the forward pass give."""

    @torch.no_grad()
    def run(
        *, positions: int = 1, blocks: list | None = None, y: Tensor | None = y, emb_silu: bool = True, end: str = "",
        back: Callable = unpatchify, late: int = 0, t: Tensor = t
    ) -> Tensor:  # fmt: skip
        tokens, emb = like.stem(patchify(x, like.patch)) + positions * like.positions, like.conditioning(t, y)
        for block in like.blocks if blocks is None else blocks:
            tokens = block(tokens, emb)
        tokens = tokens + late * like.positions
        first, second = like.head_modulation(silu(emb) if emb_silu else emb).chunk(2, dim=1)
        made = {
            "swapped": lambda: modulate(tokens, second, first),
            "without 1": lambda: modulate(tokens, first, second - 1),
            "not normalised": lambda: (1 + second[:, None]) * tokens + first[:, None],
            "no shift": lambda: modulate(tokens, 0 * first, second),
            "no adaLN": lambda: tokens,
            "norm": lambda: layer_norm(tokens, tokens.shape[-1:]),
        }.get(end, lambda: modulate(tokens, first, second))
        return back(like.head(made()), like.patch, *x.shape[2:])

    def in_strips(tokens: Tensor, *_: int) -> Tensor:
        return tokens.reshape(x.shape)

    last = "the last adaLN: "
    return {
        "the positions are missing: without them the network takes a picture for a bag of patches": run(positions=0),
        "the positions are added behind the blocks; the blocks need them": run(positions=0, late=1),
        "the positions are added twice": run(positions=2),
        "the positions are subtracted": run(positions=-1),
        "the blocks are left out": run(blocks=[]),
        "only the first block is used": run(blocks=like.blocks[:1]),
        "only the last block is used: each should read what the one before gave": run(blocks=like.blocks[-1:]),
        "the last block is left out": run(blocks=like.blocks[:-1]),
        "the blocks run from the last to the first": run(blocks=list(like.blocks)[::-1]),
        "the label is left out: conditioning(t, y)": run(y=None),
        "the time is left out or turned around: conditioning(t, y)": run(t=1 - t),
        f"{last}shift and scale have changed places; the shift comes first": run(end="swapped"),
        f"{last}the scale is used without 1 +": run(end="without 1"),
        f"{last}the tokens are not normalised": run(end="not normalised"),
        f"{last}the shift is missing": run(end="no shift"),
        f"{last}SiLU is missing: head_modulation reads silu(emb)": run(emb_silu=False),
        "the last adaLN is missing: the head reads tokens that are normalised, scaled and shifted": run(end="no adaLN"),
        f"{last}the tokens are normalised, but neither scaled nor shifted": run(end="norm"),
        "a reshape puts strips of the picture together and not squares: unpatchify does it": run(back=in_strips),
        "the picture that came in is added to the velocity": run() + x,
        "the sign is turned around": -run(),
    }


def _require_trainable(network: nn.Module, like: DiT, forward: Callable, given: tuple[Tensor, ...]) -> None:
    """Require gradients like those of `like`, whose blocks it shares, and copies that stand on their own."""
    with torch.enable_grad():
        names, weights = zip(*network.named_parameters(), strict=True)
        require(
            all(w.requires_grad for w in weights), "some weights are frozen (requires_grad is False): nothing learns"
        )
        own = dict(like.named_parameters())
        with replaced.object(DiT, "forward", _LABKITS[0]), replaced.object(DiT, "_embed", _LABKITS[1]):
            wanted = _gradients(like(*given), [own[name] for name in names])
        out = forward(*given)
        require(isinstance(out, Tensor) and out.requires_grad, CUT_OFF)
        for name, got, expected in zip(names, _gradients(out, list(weights)), wanted, strict=True):
            require(
                gap(got, expected) < 1e-2 or (got - expected).abs().max() < 1e-3,
                f"the values are right, but the gradient of {name} is not: something on the way is cut off "
                "(.detach(), .item(), numpy, torch.no_grad())",
            )
    copy = deepcopy(network)
    with torch.no_grad():
        for weight in copy.head.parameters():
            weight.zero_()
        value = as_tensor(_quiet(guarded(copy.forward))(*given))
    require_like(value, given[0], "the output of a copy")
    require(not value.any(), "a copy of the network goes on with the weights of the first one: use `self` in forward")


_LABKITS = DiT.forward, DiT._embed


def _planned(answer: Callable, budget: float) -> tuple[tuple[int, ...], int, float, int, int]:
    """The sizes of the planned network, its batch, rate, steps within the budget and operations for an image."""
    with seeded(0):
        made = answer(budget)
    triple = isinstance(made, tuple | list) and len(made) == 3
    require(triple, f"a plan should be three things, (network, batch_size, lr); it is {kind(made)}")
    network, batch_size, lr = made
    require(isinstance(network, nn.Module), f"the first of the plan should be a network; it is {kind(network)}")
    require(
        not isinstance(network, UNet),
        "that is the U-Net of lesson 06, whose plan you may make there. Here the network is a transformer, DiT(...)",
    )
    sizes = _sizes_of(network)
    as_it_is = not isinstance(network, DiT) or type(network).forward is DiT.forward
    require(as_it_is, "the DiT of the plan has a forward of its own: take labkit's as it is, or build all of it")
    sound = all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in network.parameters())
    require(sound, f"the weights of the plan for {budget:.3g} operations should be float32 and finite")
    batch_size, lr = require_number(batch_size, "batch_size"), require_number(lr, "the learning rate lr")
    require(
        not (batch_size < 1 <= lr), f"have batch size and learning rate changed places? They are {batch_size} and {lr}"
    )
    whole = batch_size == int(batch_size) and 1 <= batch_size <= 60_000
    require(whole, f"batch_size should be a whole number from 1 to 60,000, the images there are; it is {batch_size:g}")
    require(lr > 0, f"the learning rate should be positive; it is {lr:g}")
    fresh = _fresh(*sizes)
    price = operations(fresh)
    return sizes, int(batch_size), lr, int(budget / (PASSES * price * batch_size)), price


def _sizes_of(network: nn.Module) -> tuple[int, ...]:
    """Patch, width, depth, heads and MLP ratio of a DiT for digits, or of a network with the same parts."""
    try:
        (width, numbers), depth = network.stem.weight.shape, len(network.blocks)
        p, heads = network.patch, network.blocks[0].attention.heads
        sizes = p, width, depth, heads, network.blocks[0].mlp[0].out_features // width
        labels = network.conditioning.label.weight.shape[0] - 1
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise NotRight("the network of the plan should be a DiT(...) for digits with their labels") from error
    require(numbers == p * p, f"digits have one channel, so a patch of {p} has {p * p} numbers, not {numbers}")
    require(labels == 10, f"digits have 10 classes; the network of the plan has {labels}")
    require(len(network.positions) * p * p == 1024, "digits have 32 x 32 pixels: leave image_size as it is")
    return sizes


def _fresh(p: int, width: int, depth: int, heads: int, ratio: int) -> DiT:
    """A network of these sizes with first weights from seed 0: a plan brings no weights along."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DiT(patch=p, width=width, depth=depth, heads=heads, mlp_ratio=ratio)


@cache
def _loss_of(*design: float) -> float | None:
    """The held-out loss that a plan reaches with SMALL, or None if the training breaks off."""
    *sizes, batch_size, lr = design
    try:
        return held_out(trained_within(SMALL, _fresh(*sizes), batch_size, lr).ema)
    except RuntimeError as error:
        if "finite" in str(error):
            return None
        raise


def _too_few(sizes: tuple[int, ...], batch_size: int, price: int, images: int) -> str:
    """What keeps a plan from taking more steps."""
    p, width, depth = sizes[:3]
    if p < 4:
        return f"Patches of {p} cut a digit into {1024 // p**2} tokens, and every token costs: take larger patches"
    if price > 2e7:
        blocks = f"{depth} block{'s' * (depth > 1)}"
        return f"A network of width {width} with {blocks} is too large for this budget: take a smaller one"
    return f"A batch of {batch_size} is too large: the same {images:,} images in smaller batches make more steps"


def _why_missed(sizes: tuple[int, ...], batch_size: int, lr: float, steps: int, price: int) -> str:
    """The likeliest reason why a plan misses its target."""
    p, width = sizes[:2]
    if lr < 1e-3:
        return f"A learning rate of {lr:g} is small: in {steps:,} steps the weights hardly move. Try ten times as much"
    if lr > 3e-2:
        return f"A learning rate of {lr:g} is high: the training jumps about. Try a tenth of it"
    if steps < 120:
        return f"These are few steps. {_too_few(sizes, batch_size, price, steps * batch_size)}"
    if p > 4:
        return f"Patches of {p} leave only {1024 // p**2} tokens, and one token must account for {p * p} pixels"
    if width < 24:
        return f"Tokens of {width} numbers are narrow: take a larger width, and fewer steps"
    if lr < 5e-3:
        return f"For {steps:,} steps a learning rate of {lr:g} is small. Try three times as much"
    if batch_size < 8:
        return f"In batches of {batch_size} every step follows a few images only. Take larger ones"
    return (
        "Nothing is far off. Change one thing at a time: one or two blocks, a width from 32 to 64, batches from 8 to "
        "32, a rate from 5e-3 to 2e-2"
    )
