"""The diffusion transformer: patches go back where they were, and at first it is zero, the identity and yet alive."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, unfold

from labkit.base.files import Card
from labkit.flow.guidance import guided
from labkit.flow.losses import cfm_loss
from labkit.flow.paths import GaussianPath
from labkit.nn.dit import Attention, DiT, grid_positions, modulate, patchify, unpatchify
from labkit.nn.trace import flop_count
from labkit.training import pretrained
from labkit.training.pretrained import load_pretrained, save_pretrained
from labkit.training.recipes import RECIPES

B, C, S, K = 3, 2, 12, 7
TINY = {"channels": C, "num_classes": K, "image_size": S, "patch": 4, "width": 24, "depth": 2, "heads": 3}
N, D = 9, 24  # tokens and width of TINY


def network(perturbed=True, **options):
    torch.manual_seed(0)
    model = DiT(**TINY | options).double()
    if perturbed:  # away from the zeros of the initialisation
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    return model


def images(*shape, seed=1):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch():
    return images(B, C, S, S), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), torch.tensor([0, 6, 7])


def every_weight(model):
    """`{name: gradient}` of the matrices; of the label embedding only the rows of the labels in the batch."""
    found = {name: p.grad for name, p in model.named_parameters() if p.ndim > 1}
    found["conditioning.label.weight"] = found["conditioning.label.weight"][[0, 6, 7]]
    return found


# Patches


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((5, 1, 32, 32), 4),
        ((5, 1, 32, 32), 2),
        ((2, 3, 8, 20), 4),
        ((2, 3, 20, 8), 2),
        ((2, 2, 6, 9), 3),
        ((1, 4, 5, 7), 1),
        ((1, 3, 8, 8), 8),
    ],
)
def test_patches_are_the_windows_of_the_picture_and_go_back_where_they_were(shape, patch):
    x = images(*shape)
    tokens = patchify(x, patch)
    assert tokens.shape == (shape[0], shape[2] * shape[3] // patch**2, shape[1] * patch**2)
    assert torch.equal(tokens, unfold(x, patch, stride=patch).mT)
    assert torch.equal(unpatchify(tokens, patch, *shape[2:]), x)


@pytest.mark.parametrize(
    ("shape", "patch", "words"),
    [
        ((B, S, S), 4, r"x must have shape \(B, C, H, W\); got \(3, 12, 12\)"),
        ((B, C, 12, 10), 4, r"height and width must be divisible by patch=4; got \(12, 10\)"),
        ((B, C, 10, 12), 4, r"height and width must be divisible by patch=4; got \(10, 12\)"),
        ((B, C, 12, 12), 0, r"patch must be a whole number, at least 1; got 0"),
    ],
)
def test_images_that_patches_do_not_fill_are_refused(shape, patch, words):
    with pytest.raises(ValueError, match=words):
        patchify(images(*shape), patch)


@pytest.mark.parametrize("shape", [(B, 6, 36), (B, 5, 32), (6, 32)])
def test_tokens_that_do_not_fill_the_image_are_refused_with_their_shape(shape):
    words = rf"tokens .*must .*shape \(B, .*; got .*\({', '.join(map(str, shape))}\)"
    with pytest.raises(ValueError, match=words):
        unpatchify(images(*shape), 4, 8, 12)
    with pytest.raises(ValueError, match=r"height and width must be divisible by patch=4; got \(9, 12\)"):
        unpatchify(images(B, 6, 32), 4, 9, 12)


# Positions


def test_positions_tell_all_places_apart_and_near_from_far():
    rows, columns, dim = 5, 7, 32
    places = grid_positions(rows, columns, dim).unflatten(0, (rows, columns))
    assert places.shape == (rows, columns, dim)
    flat = places.flatten(0, 1)
    distances = torch.cdist(flat, flat)
    assert distances[~torch.eye(rows * columns, dtype=bool)].min() > 0.5
    torch.testing.assert_close(flat.square().sum(1), torch.full((rows * columns,), dim / 2))  # sin^2 + cos^2
    # Half of the numbers say the row, the other half the column.
    assert (places[..., : dim // 2] == places[:, :1, : dim // 2]).all()
    assert (places[..., dim // 2 :] == places[:1, :, dim // 2 :]).all()
    # <p(i), p(j)> depends on j - i alone: so attention can learn "two to the left".
    products = torch.einsum("rcd,rkd->rck", places, places)
    torch.testing.assert_close(products[:, 0, 2], products[:, 4, 6])
    one_apart, far_apart = (places[0, 0] - places[0, 1]).norm(), (places[0, 0] - places[0, 6]).norm()
    assert one_apart < 0.8 * far_apart


@pytest.mark.parametrize("dim", [0, 2, 30])
def test_positions_of_a_width_that_4_does_not_divide_are_refused(dim):
    with pytest.raises(ValueError, match=f"dim must be a positive multiple of 4, .*; got {dim}"):
        grid_positions(2, 2, dim)


def shuffled(model):
    """How far the output of shuffled patches is from the shuffled output."""
    x, t, y = batch()
    order = torch.tensor([4, 0, 8, 2, 7, 1, 3, 6, 5])
    moved = unpatchify(patchify(x, 4)[:, order], 4, S, S)
    return (patchify(model(moved, t, y), 4) - patchify(model(x, t, y), 4)[:, order]).abs().max()


def test_only_the_positions_know_where_a_patch_is():
    model = network()
    assert shuffled(model) > 0.1
    model.positions.zero_()
    assert shuffled(model) < 1e-12


# The network


@pytest.mark.parametrize(
    "options", [{}, {"patch": 2}, {"patch": 12}, {"heads": 1, "depth": 1}, {"mlp_ratio": 1}], ids=str
)
def test_the_output_is_shaped_like_x_and_every_weight_counts(options):
    model, (x, t, y) = network(**options), batch()
    found = model(x, t, y)
    assert found.shape == x.shape and (model.channels, model.num_classes) == (C, K)
    found.square().mean().backward()
    gradients = every_weight(model)
    if options.get("patch") == S:  # a lone token gives itself all its attention, whatever the query and the key
        gradients = {name: g for name, g in gradients.items() if "qkv" not in name and "modulation" not in name}
    assert [name for name, gradient in gradients.items() if not (gradient != 0).all()] == []


def test_a_sample_does_not_depend_on_the_rest_of_its_batch():
    model, (x, t, y) = network(), batch()
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(model(x, t, y), alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("changed", ["x", "t", "y"])
def test_the_output_depends_on_every_argument(changed):
    model, (x, t, y) = network(), batch()
    other = {"x": (x + 0.1 * x.flip(3), t, y), "t": (x, t + 0.1, y), "y": (x, t, (y + 1) % 8)}[changed]
    assert (model(*other) - model(x, t, y)).abs().amax(dim=(1, 2, 3)).min() > 1e-3  # for every sample


def test_no_label_is_the_null_label():
    model, (x, t, _) = network(), batch()
    assert torch.equal(model(x, t), model(x, t, torch.full((B,), K)))
    assert not torch.equal(model(x, t), model(x, t, torch.zeros(B, dtype=torch.int64)))


def test_every_output_pixel_looks_at_the_whole_picture():
    model, (x, t, y) = network(depth=1), batch()
    x.requires_grad_(True)
    (seen,) = torch.autograd.grad(model(x, t, y)[0, 0, 0, 0], x)
    assert (seen[0].abs() > 0).all()
    assert (seen[1:] == 0).all()  # and at no other


def test_guidance_moves_every_channel_and_every_pixel():
    model, (x, t, _) = network(channels=4), batch()
    x, y = images(B, 4, S, S), torch.tensor([0, 3, 6])
    plain, null = model(x, t, y), model(x, t)
    at_3 = guided(model, y, 3.0)(x, t)
    torch.testing.assert_close(at_3, null + 3 * (plain - null), rtol=0, atol=1e-10)
    assert ((at_3 - plain).abs() > 0).all()


# Initialisation


def test_the_first_loss_is_known_before_training():
    model, (z, t, y) = network(perturbed=False), batch()
    eps = images(*z.shape, seed=2)
    assert (model(z, t, y) == 0).all()
    loss = cfm_loss(model, GaussianPath(), z, y, t=t, eps=eps)
    assert loss.item() == pytest.approx((z - eps).square().mean().item(), rel=1e-12)  # E|v|^2 / d on the linear path
    loss.backward()
    assert (model.head.weight.grad != 0).all() and (model.head.bias.grad != 0).all()  # zero, and yet it learns


def test_a_fresh_block_is_the_identity():
    model = network(perturbed=False)
    tokens, emb = images(B, N, D), images(B, D, seed=2)
    assert all(torch.equal(block(tokens, emb), tokens) for block in model.blocks)
    perturbed = network()
    assert all((block(tokens, emb) - tokens).abs().max() > 0.1 for block in perturbed.blocks)


def test_a_fresh_network_passes_its_stem_to_the_head_unchanged_by_time_and_label():
    """Gates, scales and shifts are zero: with a head that is not, the picture counts, and time and label do not."""
    model, (x, t, y) = network(perturbed=False), batch()
    nn.init.normal_(model.head.weight)
    assert (model(x, t, y) - model(x.flip(3), t, y)).abs().amax(dim=(1, 2, 3)).min() > 0.1
    assert torch.equal(model(x, t, y), model(x, 1 - t, (y + 3) % 8))


def test_three_steps_wake_every_parameter():
    model, (z, t, y) = network(perturbed=False), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):  # the first step moves the head, the second the gates, then all have a gradient
        optimizer.zero_grad()
        cfm_loss(model, GaussianPath(), z, y, t=t, eps=z.flip(3)).backward()
        optimizer.step()
    dead = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0]
    assert dead == []


# Parts, against torch's own


def test_modulation_is_the_layer_norm_of_torch_with_a_scale_and_a_shift_for_each_sample():
    x, shift, scale = images(B, N, D), images(B, D, seed=2), images(B, D, seed=3)
    for i in range(B):
        norm = nn.LayerNorm(D, dtype=torch.float64)
        norm.weight.data, norm.bias.data = 1 + scale[i], shift[i]
        torch.testing.assert_close(modulate(x, shift, scale)[i], norm(x[i]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 3, 4])
def test_attention_is_that_of_torch(heads):
    torch.manual_seed(0)
    ours = Attention(D, heads).double()
    theirs = nn.MultiheadAttention(D, heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, layer in (("in_proj_", ours.qkv), ("out_proj.", ours.out)):
            theirs.get_parameter(f"{name}weight").copy_(layer.weight)
            theirs.get_parameter(f"{name}bias").copy_(nn.init.normal_(layer.bias))
    x = images(B, N, D)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    q, k, _ = ours.split(x)
    ones = torch.eye(N, dtype=torch.float64).expand(B, heads, N, N)  # as values, they show the weights
    torch.testing.assert_close(scaled_dot_product_attention(q, k, ones), weights, rtol=0, atol=1e-12)


def test_a_block_with_open_gates_is_the_transformer_layer_of_torch():
    """No scale, no shift, gates at 1: then time and class are silent, and what is left is the plain layer."""
    ours = network().blocks[0]
    with torch.no_grad():
        ours.modulation.weight.zero_()
        ours.modulation.bias.copy_(torch.tensor([0.0, 0.0, 1.0]).repeat_interleave(D).repeat(2))
    theirs = nn.TransformerEncoderLayer(
        D, 3, 4 * D, dropout=0.0, activation=nn.GELU("tanh"), batch_first=True, norm_first=True, dtype=torch.float64
    )
    attention, (up, _, down) = ours.attention, ours.mlp
    layers = {
        "self_attn.in_proj_": attention.qkv,
        "self_attn.out_proj.": attention.out,
        "linear1.": up,
        "linear2.": down,
    }
    with torch.no_grad():
        for name, layer in layers.items():
            theirs.get_parameter(f"{name}weight").copy_(layer.weight)
            theirs.get_parameter(f"{name}bias").copy_(layer.bias)
    tokens = images(B, N, D)
    torch.testing.assert_close(ours(tokens, images(B, D, seed=2)), theirs(tokens), rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", [0, 1])
def test_the_attention_weights_are_those_that_the_forward_pass_uses(block):
    """Weights times values, through the output layer, is what the block's attention said in a real forward pass."""
    model, (x, t, y) = network(), batch()
    attention, heard = model.blocks[block].attention, []
    attention.register_forward_hook(lambda _, inputs, output: heard.append((*inputs, output)))
    model(x, t, y)
    ((tokens, said),) = heard
    weights = model.attention_weights(x, t, y, block=block)
    assert weights.shape == (B, 3, N, N) and not weights.requires_grad
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, 3, N, dtype=torch.float64))
    q, k, v = attention.split(tokens)
    torch.testing.assert_close(weights @ v, scaled_dot_product_attention(q, k, v), rtol=0, atol=1e-12)
    torch.testing.assert_close(attention.out((weights @ v).transpose(1, 2).flatten(2)), said, rtol=0, atol=1e-12)
    assert (weights - 1 / N).abs().max() > 0.01  # not the mean of all tokens


def test_bfloat16_changes_the_last_digits_only():
    """On a CPU attention alone stays in float32 under autocast; gradients come through."""
    model, (x, t, y) = network().float(), batch()
    x, t = x.float(), t.float()
    exact = model(x, t, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(x, t, y)
    assert rough.dtype == torch.bfloat16 and exact.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.02 * exact.norm()
    rough.float().square().mean().backward()
    assert all(gradient.isfinite().all() and (gradient != 0).any() for gradient in every_weight(model).values())
    assert model.bfloat16()(x.bfloat16(), t.bfloat16(), y).dtype == torch.bfloat16


# Cost, and the model that ships


def flops(pixels, n, d, depth, ratio):
    """Two for every multiply-add of the forward pass of one image, by hand."""
    a_block = n * (3 + 1 + 2 * ratio) * d**2 + 2 * n**2 * d + 6 * d**2  # linear layers, Q K^T and A V, modulation
    return 2 * (2 * n * pixels * d + depth * a_block + 2 * d**2 + 2 * d**2)  # stem and head, time, head's modulation


@pytest.mark.parametrize(
    ("options", "n"),
    [({}, 64), ({"patch": 2, "width": 96, "depth": 4}, 256), ({"patch": 8, "heads": 2, "mlp_ratio": 3}, 16)],
    ids=str,
)
def test_the_work_is_what_the_formula_says(options, n):
    model = DiT(**options)
    counted = flop_count(model, torch.zeros(1, 1, 32, 32), torch.zeros(1))
    d, depth, ratio = options.get("width", 128), options.get("depth", 6), options.get("mlp_ratio", 4)
    assert flops(1024 // n, n, d, depth, ratio) == pytest.approx(counted, rel=0.001)


def test_a_saved_network_is_loaded_with_the_same_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    model, (x, t, y) = network().float(), batch()
    details = {"model": {"class": "DiT", "arguments": TINY}}
    save_pretrained("tiny", model, Card("a title", "a source", "MIT", details))
    loaded, card = load_pretrained("tiny")
    x, t = x.float(), t.float()
    assert torch.equal(loaded(x, t, y), model(x, t, y)) and loaded(x, t, y).abs().max() > 0
    assert card.details == details and "positions" not in model.state_dict()  # fixed, so they do not travel


def test_the_recipe_makes_a_network_of_at_most_8_megabytes():
    model = RECIPES["mnist-dit"].network.build()
    assert 4 * sum(p.numel() for p in model.parameters()) < 8e6
    assert model(torch.zeros(2, 1, 32, 32), torch.zeros(2), torch.tensor([0, 10])).shape == (2, 1, 32, 32)


# Bad input


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((B, S, S), r"x must have shape \(B, 2, H, W\); got \(3, 12, 12\)"),
        ((B, 1, S, S), r"x must have shape \(B, 2, H, W\); got \(3, 1, 12, 12\)"),
        ((B, C, S, 8), r"height and width must be 12; got \(12, 8\)"),
        ((B, C, 16, 16), r"height and width must be 12; got \(16, 16\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_their_shape(shape, words):
    with pytest.raises(ValueError, match=words):
        network()(images(*shape), batch()[1])


def test_times_and_labels_that_do_not_fit_are_refused():
    model, (x, t, y) = network(), batch()
    with pytest.raises(ValueError, match=r"t must have shape \(3,\).*got shape \(3, 1\)"):
        model(x, t[:, None], y)
    with pytest.raises(ValueError, match=r"y must have shape \(3,\).*got shape \(2,\)"):
        model(x, t, y[:2])
    with pytest.raises(TypeError, match=r"y must be an int64 tensor.*torch\.float64"):
        model(x, t, y.double())
    with pytest.raises(ValueError, match="built without labels"):
        network(num_classes=None)(x, t, y)


@pytest.mark.parametrize("block", [-1, 2])
def test_a_block_that_is_not_there_has_no_attention_weights(block):
    with pytest.raises(ValueError, match=rf"block must lie in 0\.\.1; got {block}"):
        network().attention_weights(*batch(), block=block)


@pytest.mark.parametrize("option", sorted(TINY.keys() | {"mlp_ratio"}))
def test_sizes_below_one_are_refused_by_name(option):
    with pytest.raises(ValueError, match=f"{option} must be a whole number, at least 1; got 0"):
        DiT(**TINY | {option: 0})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 5}, "heads must divide width; got width=24 and heads=5"),
        ({"width": 30}, "dim must be a positive multiple of 4, .*; got 30"),
        ({"patch": 5}, r"height and width must be divisible by patch=5; got \(12, 12\)"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_together_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        DiT(**TINY | options)
