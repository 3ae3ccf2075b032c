"""The U-Net: shaped like its image, known at initialisation, alive in every parameter, and blind to its batch."""

import pytest
import torch
from torch import nn

from labkit.flow.losses import cfm_loss
from labkit.flow.paths import GaussianPath
from labkit.nn.unet import Attention, UNet

B, C, H, W, K = 3, 2, 16, 32, 7  # no two sizes are equal


def network(perturbed=True, **options):
    torch.manual_seed(0)
    model = UNet(C, K, **({"widths": (16, 40), "emb_dim": 24} | options)).double()
    if perturbed:  # away from the zeros of the initialisation
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    return model


def batch():
    x = torch.randn(B, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), torch.tensor([0, 6, 7])


SHAPES = [
    {},
    {"patch": 1},
    {"patch": 4},
    {"widths": (8, 16, 24)},
    {"widths": (24,)},
    {"widths": (24, 8)},
    {"blocks": 2, "patch": 1, "widths": (8, 16, 24)},
    {"widths": (8, 104)},  # "multiples of 8": not of the head's 32
]


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_the_output_is_shaped_like_x_and_every_weight_counts(options):
    model, (x, t, y) = network(**options), batch()
    found = model(x, t, y)
    assert found.shape == x.shape
    found.square().mean().backward()
    weights = {name: p.grad.abs() for name, p in model.named_parameters() if p.ndim > 1}
    seen = weights.pop("conditioning.label.weight").amax(dim=1) > 0
    assert seen.nonzero().flatten().tolist() == [0, 6, 7]  # the labels in the batch
    assert [name for name, gradient in weights.items() if not (gradient > 0).all()] == []
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())  # biases


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
    model, (x, t, y) = network(widths=(8, 16, 24), patch=1), batch()
    x.requires_grad_(True)
    (seen,) = torch.autograd.grad(model(x, t, y)[0, 0, 0, 0], x)
    assert (seen[0].abs() > 0).all()
    assert (seen[1:] == 0).all()  # and at no other


def test_the_first_loss_is_known_before_training():
    model, (z, t, y) = network(perturbed=False), batch()
    eps = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(2))
    assert (model(z, t, y) == 0).all()
    loss = cfm_loss(model, GaussianPath(), z, y, t=t, eps=eps)
    assert loss.item() == pytest.approx((z - eps).square().mean().item(), rel=1e-12)  # E|v|^2 / d on the linear path
    loss.backward()
    assert model.head.weight.grad.abs().max() > 0 and model.head.bias.grad.abs().max() > 0  # so it can move


def test_two_steps_wake_every_parameter():
    model, (z, t, y) = network(perturbed=False), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):  # the first step moves the head, the second the ends of the branches, then all have a gradient
        optimizer.zero_grad()
        cfm_loss(model, GaussianPath(), z, y, t=t, eps=z.flip(3)).backward()
        optimizer.step()
    dead = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0]
    assert dead == []


def test_a_fresh_network_passes_its_stem_to_the_head_unchanged_by_time_and_label():
    """Every residual branch starts at zero: with a head that is not zero, time and label still change nothing."""
    model, (x, t, y) = network(perturbed=False), batch()
    nn.init.normal_(model.head.weight)
    assert model(x, t, y).abs().max() > 0.1
    assert torch.equal(model(x, t, y), model(x, 1 - t, (y + 3) % 8))


def test_the_full_resolution_skip_carries_the_stem_past_time_and_label():
    model, (x, t, y) = network(), batch()
    with torch.no_grad():
        model.head.weight[:, :16] = 0  # what comes up through the levels
    assert torch.equal(model(x, t, y), model(x, 1 - t, (y + 3) % 8))
    assert not torch.allclose(model(x, t, y), model(x.flip(3), t, y))


@pytest.mark.parametrize("channels", [8, 40, 64, 96])
def test_attention_is_that_of_torch(channels):
    torch.manual_seed(0)
    ours = Attention(channels).double()
    nn.init.normal_(ours.out.weight, std=0.2)
    theirs = nn.MultiheadAttention(channels, ours.heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight[:, :, 0, 0])
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight[:, :, 0, 0])
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(3, channels, 4, 5, dtype=torch.float64)
    tokens = ours.norm(x).flatten(2).mT  # (B, positions, channels)
    expected = x + theirs(tokens, tokens, tokens, need_weights=False)[0].mT.reshape(x.shape)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((B, H, W), r"x must have shape \(B, 2, H, W\); got \(3, 16, 32\)"),
        ((B, 1, H, W), r"x must have shape \(B, 2, H, W\); got \(3, 1, 16, 32\)"),
        ((B, C, 16, 30), r"height and width must be divisible by 4; got \(16, 30\)"),
        ((B, C, 6, 32), r"height and width must be divisible by 4; got \(6, 32\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_their_shape(shape, words):
    with pytest.raises(ValueError, match=words):
        network()(torch.zeros(shape, dtype=torch.float64), batch()[1])


@pytest.mark.parametrize("widths", [(), (8, 12)])
def test_widths_that_groups_of_8_do_not_divide_are_refused(widths):
    with pytest.raises(ValueError, match=r"widths must be (multiples of 8, one a level|a tuple of .*); got \("):
        UNet(widths=widths)


def test_times_and_labels_that_do_not_fit_are_refused():
    model, (x, t, y) = network(), batch()
    with pytest.raises(ValueError, match=r"t must have shape \(3,\).*got shape \(3, 1\)"):
        model(x, t[:, None], y)
    with pytest.raises(ValueError, match=r"y must have shape \(3,\).*got shape \(2,\)"):
        model(x, t, y[:2])
    with pytest.raises(TypeError, match=r"y must be an int64 tensor.*torch\.float64"):
        model(x, t, y.double())
    with pytest.raises(ValueError, match="built without labels"):
        UNet(C, None, widths=(8,), emb_dim=8)(x.float(), t.float(), y)


@pytest.mark.parametrize("option", ["channels", "blocks", "patch", "num_classes"])
def test_sizes_below_one_are_refused_by_name(option):
    with pytest.raises(ValueError, match=f"{option} must be a whole number, at least 1; got 0"):
        UNet(**{option: 0})
