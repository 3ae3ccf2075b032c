"""The two classifiers: features under a linear head, statistics frozen in eval mode, and the power to learn."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from labkit.nn.convnet import ConvNet, ResNet

CHANNELS, CLASSES = 2, 7


def convnet():
    """No two sizes of the network are equal."""
    torch.manual_seed(0)
    return ConvNet(CHANNELS, CLASSES, widths=(5, 9), dim=11, size=12).double()


def resnet():
    torch.manual_seed(0)
    return ResNet(CHANNELS, CLASSES, widths=(5, 9, 13)).double()


def images(n=6, size=12):
    return torch.randn(n, CHANNELS, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def trained(build):
    """A network that has seen a few batches, so that its running statistics are not those of the start."""
    model = build()
    for scale in (1.0, 2.0, 3.0):
        model(scale * images(20) + 1)
    return model.eval()


networks = pytest.mark.parametrize(("build", "dim"), [(convnet, 11), (resnet, 13)], ids=["ConvNet", "ResNet"])


@networks
def test_there_is_a_logit_for_every_class_and_features_are_never_negative(build, dim):
    model = trained(build)
    features = model.features(images())
    assert features.shape == (6, dim) and model(images()).shape == (6, CLASSES)
    assert features.min() >= 0 and (features > 0).any(dim=1).all()
    assert model.channels == CHANNELS


@networks
def test_the_logits_are_the_head_of_the_features(build, dim):
    model = trained(build)
    (last,) = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)]
    assert torch.equal(model(images()), model.head(model.features(images())))
    torch.testing.assert_close(model(images()), last(model.features(images())), rtol=0, atol=1e-12)
    assert last.in_features == dim


@networks
def test_a_sample_depends_on_its_batch_while_training_and_not_afterwards(build, dim):
    model, x = trained(build), images()
    alone = torch.cat([model(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(model(x), alone, rtol=0, atol=1e-12)
    model.train()
    for layer in model.modules():  # whose chance would hide what is asked here
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    assert (model(x)[:3] - model(x[:3])).abs().max() > 1e-3


def test_dropout_acts_in_training_only():
    model, x = trained(convnet), images()
    assert torch.equal(model(x), model(x))
    model.head.train()
    assert not torch.equal(model(x), model(x))


@networks
def test_the_gradient_reaches_every_parameter(build, dim):
    model = build()
    model(images(20)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@networks
def test_the_output_depends_on_every_pixel(build, dim):
    model, x = trained(build), images(1).requires_grad_()
    (slope,) = torch.autograd.grad(model(x).square().sum(), x)
    assert (slope.abs() > 0).all()


@networks
def test_twenty_random_images_can_be_learned_by_heart(build, dim):
    model = build()
    x, y = images(20), torch.arange(20) % CLASSES
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert torch.equal(model.eval()(x).argmax(dim=1), y)


@pytest.mark.parametrize("shape", [(6, 3, 12, 12), (6, 1, 12, 12), (2, 12, 12), (6, 2, 12)])
@networks
def test_images_of_other_channels_are_refused_by_name(build, dim, shape):
    model = build()
    for function in (model, model.features):
        with pytest.raises(ValueError, match=rf"x must have shape \(B, 2, H, W\); got \({shape[0]}, "):
            function(torch.zeros(shape, dtype=torch.float64))


def test_convnet_halves_the_grid_once_a_width_and_takes_the_size_that_it_was_built_for():
    for depth, size in ((1, 8), (2, 8), (3, 32)):
        model = ConvNet(1, 3, widths=(4,) * depth, dim=6, size=size).eval()
        assert model.stages(torch.zeros(2, 1, size, size)).shape == (2, 4 * (size // 2**depth) ** 2)
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_resnet_takes_images_of_any_size():
    model = resnet().eval()
    assert [model(images(2, size)).shape for size in (8, 15, 32)] == [(2, CLASSES)] * 3


def test_the_two_are_of_different_build():
    assert not any(isinstance(layer, nn.MaxPool2d | nn.Dropout) for layer in resnet().modules())
    assert sum(isinstance(layer, nn.Linear) for layer in resnet().modules()) == 1
    assert sum(isinstance(layer, nn.Linear) for layer in convnet().modules()) == 2
