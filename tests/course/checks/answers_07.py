"""Right and wrong answers to the exercises of lesson 07."""

import torch
from torch.nn.functional import layer_norm, silu


def patches(x, patch):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch**2)


def columns_first_inside(x, patch):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 5, 3).reshape(b, -1, c * patch**2)


def channels_last(x, patch):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, c * patch**2)


def grid_transposed(x, patch):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 4, 2, 1, 3, 5).reshape(b, -1, c * patch**2)


def strips(x, patch):
    b, c, h, w = x.shape
    return x.reshape(b, (h // patch) * (w // patch), c * patch**2)


def one_channel_only(x, patch):
    return patches(x[:, :1], patch)


def grid_kept(x, patch):
    return patches(x, patch).unflatten(1, (x.shape[2] // patch, -1))


def no_answer(*_):
    return None


def in_random_order(field, tokens):
    order = torch.randperm(tokens.shape[1])
    return torch.allclose(field(tokens[:, order]), field(tokens)[:, order], rtol=1e-3, atol=1e-5)


def asks_for_invariance(field, tokens):
    order = torch.randperm(tokens.shape[1])
    return torch.allclose(field(tokens[:, order]), field(tokens), rtol=1e-3, atol=1e-5)


def without_rounding(field, tokens):
    orders = [torch.randperm(tokens.shape[1]) for _ in range(20)]
    return all(field(tokens[:, order]).equal(field(tokens)[:, order]) for order in orders)


def shifts_in_a_circle(field, tokens):
    return torch.allclose(field(tokens.roll(1, 1)), field(tokens).roll(1, 1), rtol=1e-3, atol=1e-5)


def backwards(field, tokens):
    return torch.allclose(field(tokens.flip(1)), field(tokens).flip(1), rtol=1e-3, atol=1e-5)


def both_shifted_and_backwards(field, tokens):
    return shifts_in_a_circle(field, tokens) and backwards(field, tokens)


def changes_two(field, tokens):
    order = torch.arange(tokens.shape[1])
    order[[2, 5]] = order[[5, 2]]
    return torch.allclose(field(tokens[:, order]), field(tokens)[:, order], rtol=1e-3, atol=1e-5)


def compares_sums(field, tokens):
    order = torch.randperm(tokens.shape[1])
    return torch.allclose(field(tokens[:, order]).mean(), field(tokens).mean(), rtol=1e-3, atol=1e-5)


def always(field, tokens):
    return True


def undoes_with_the_order_itself(field, tokens):
    order = torch.randperm(tokens.shape[1])
    return torch.allclose(field(tokens[:, order])[:, order], field(tokens), rtol=1e-3, atol=1e-5)


def heads_apart(q, k, v, heads, *, scale=None, dim=-1):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    scale = q.shape[-1] ** 0.5 if scale is None else scale
    weights = (q @ k.mT / scale).softmax(dim=dim)
    return (weights @ v).transpose(1, 2).flatten(2)


def without_the_root(q, k, v, heads):
    return heads_apart(q, k, v, heads, scale=1)


def root_of_the_whole_width(q, k, v, heads):
    return heads_apart(q, k, v, heads, scale=q.shape[-1] ** 0.5)


def without_root_sign(q, k, v, heads):
    return heads_apart(q, k, v, heads, scale=q.shape[-1] // heads)


def softmax_over_queries(q, k, v, heads):
    return heads_apart(q, k, v, heads, dim=-2)


def one_head_for_all(q, k, v, heads):
    return heads_apart(q, k, v, 1)


def reshaped_across_tokens(q, k, v, heads):
    b, n, width = q.shape
    q, k, v = (part.reshape(b, heads, n, width // heads) for part in (q, k, v))
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).reshape(b, n, width)


def mixed_on_the_way_back(q, k, v, heads):
    b, n, width = q.shape
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).reshape(b, n, width)


def interleaved(q, k, v, heads):
    q, k, v = (part.unflatten(2, (-1, heads)).movedim(3, 1) for part in (q, k, v))
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def without_softmax(q, k, v, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return (q @ k.mT @ v).transpose(1, 2).flatten(2)


def heads_left_apart(q, k, v, heads):
    return heads_apart(q, k, v, heads).unflatten(2, (heads, -1))


def gated_branch(x, emb, layer, f):
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * layer_norm(x, x.shape[-1:]) + shift)


def scale_without_one(x, emb, layer, f):
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f(scale * layer_norm(x, x.shape[-1:]) + shift)


def scale_before_shift(x, emb, layer, f):
    scale, shift, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * layer_norm(x, x.shape[-1:]) + shift)


def gate_before_scale(x, emb, layer, f):
    shift, gate, scale = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * layer_norm(x, x.shape[-1:]) + shift)


def without_a_gate(x, emb, layer, f):
    shift, scale, _ = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + f((1 + scale) * layer_norm(x, x.shape[-1:]) + shift)


def gate_around_it_all(x, emb, layer, f):
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return gate * (x + f((1 + scale) * layer_norm(x, x.shape[-1:]) + shift))


def without_silu(x, emb, layer, f):
    return gated_branch(x, emb, lambda c: layer(emb), f)


def not_normalised(x, emb, layer, f):
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * x + shift)


def divides_by_one_less(x, emb, layer, f):
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) + shift)


def normalised_over_the_image(x, emb, layer, f):
    shift, scale, gate = layer(silu(emb))[:, None].chunk(3, dim=2)
    return x + gate * f((1 + scale) * layer_norm(x, x.shape[1:]) + shift)


def first_condition_for_all(x, emb, layer, f):
    return gated_branch(x, emb[:1].expand_as(emb), layer, f)


def attention_work(tokens, width):
    return 8 * tokens * width**2 + 4 * tokens**2 * width


def multiply_adds(tokens, width):
    return attention_work(tokens, width) // 2


def forgets_the_pairs(tokens, width):
    return 8 * tokens * width**2


def forgets_the_linear_layers(tokens, width):
    return 4 * tokens**2 * width


def one_product_of_pairs(tokens, width):
    return 8 * tokens * width**2 + 2 * tokens**2 * width


def without_the_output(tokens, width):
    return 6 * tokens * width**2 + 4 * tokens**2 * width


def one_linear_layer(tokens, width):
    return 2 * tokens * width**2 + 4 * tokens**2 * width


def squares_the_width(tokens, width):
    return 8 * tokens * width**2 + 4 * tokens * width**2


RIGHT = {
    "07.1": [patches],
    "07.2": [in_random_order],
    "07.3": [heads_apart],
    "07.4": [gated_branch],
    "07.5": [attention_work],
}

WRONG = {
    "07.1": [
        (columns_first_inside, "but column by column"),
        (channels_last, "channels side by side"),
        (grid_transposed, "the grid is transposed"),
        (strips, "A reshape alone cuts strips"),
        (one_channel_only, "should have shape"),
        (grid_kept, "should have shape"),
        (no_answer, "is a `return` missing"),
    ],
    "07.2": [
        (always, "with positions added"),
        (asks_for_invariance, "Equivariant is not invariant"),
        (undoes_with_the_order_itself, "inverse is order.argsort"),
        (without_rounding, "it is rounding"),
        (shifts_in_a_circle, "reads the neighbour on the left"),
        (both_shifted_and_backwards, "reads the neighbour on the left|reads both neighbours"),
        (backwards, "reads both neighbours"),
        (changes_two, "only the (first|last) token"),
        (compares_sums, "with positions added|adds another number"),
        (no_answer, "is a `return` missing"),
    ],
    "07.3": [
        (without_the_root, r"not divided by sqrt\(d\)"),
        (root_of_the_whole_width, "square root of the whole width"),
        (without_root_sign, r"off by .*softmax\(Q K\^T / sqrt\(d\)\) V"),
        (softmax_over_queries, "off by .* over keys"),
        (interleaved, "off by .*Head 0 owns the first d numbers"),
        (one_head_for_all, "off by .*In each head"),
        (reshaped_across_tokens, "cuts across tokens"),
        (mixed_on_the_way_back, "mixed on the way back"),
        (without_softmax, "is off by"),
        (heads_left_apart, "should have shape"),
        (no_answer, "is a `return` missing"),
    ],
    "07.4": [
        (scale_without_one, r"without 1 \+"),
        (scale_before_shift, "shift and scale have changed places"),
        (gate_before_scale, "off by .*shift, scale and gate, in this order"),
        (without_a_gate, "leave x exactly as it is"),
        (gate_around_it_all, "leave x exactly as it is"),
        (without_silu, "SiLU is missing"),
        (divides_by_one_less, r"off by .*correction=0"),
        (not_normalised, "without being normalised"),
        (normalised_over_the_image, "off by .*its own mean and variance"),
        (first_condition_for_all, "with an axis of length 1"),
        (no_answer, "is a `return` missing"),
    ],
    "07.5": [
        (multiply_adds, "count as two"),
        (forgets_the_pairs, "for every pair"),
        (forgets_the_linear_layers, "Count four linear layers"),
        (one_product_of_pairs, "Every pair costs twice"),
        (without_the_output, "the output is a fourth"),
        (one_linear_layer, "Count four linear layers"),
        (squares_the_width, "costs 2abc"),
        (no_answer, "is a `return` missing"),
    ],
}
