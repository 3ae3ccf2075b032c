"""The multilayer perceptron: a field on vectors that depends on its own sample, time and label only."""

import pytest
import torch

from labkit.nn.mlp import MLP


def network():
    torch.manual_seed(0)
    return MLP(3, 7, width=24, depth=2).double()


def batch():
    """Five samples: no two sizes of the network are equal."""
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, torch.linspace(0.1, 0.9, 5, dtype=torch.float64), torch.tensor([0, 3, 6, 7, 3])


def test_the_output_is_shaped_like_x_and_no_label_is_the_null_label():
    model, (x, t, y) = network(), batch()
    assert model(x, t, y).shape == x.shape
    assert torch.equal(model(x, t), model(x, t, torch.full((5,), 7)))
    unlabelled = MLP(3, width=24).double()
    assert unlabelled(x, t).shape == x.shape


def test_a_sample_does_not_depend_on_the_rest_of_its_batch():
    model, (x, t, y) = network(), batch()
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(model(x, t, y), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("changed", ["x", "t", "y"])
def test_the_output_depends_on_every_argument(changed):
    model, (x, t, y) = network(), batch()
    other = {"x": (x + 0.1, t, y), "t": (x, t + 0.1, y), "y": (x, t, (y + 1) % 8)}[changed]
    assert (model(*other) - model(x, t, y)).abs().amax(dim=1).min() > 1e-4  # for every sample


@pytest.mark.parametrize("depth", [1, 3])
def test_the_gradient_reaches_every_parameter_and_only_the_labels_seen(depth):
    model, (x, t, y) = MLP(3, 7, width=24, depth=depth).double(), batch()
    model(x, t, y).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
    rows = model.conditioning.label.weight.grad.abs().amax(dim=1) > 0
    assert rows.nonzero().flatten().tolist() == [0, 3, 6, 7]


def test_depth_is_the_number_of_hidden_layers():
    for depth in (1, 2, 5):
        assert sum(isinstance(layer, torch.nn.Linear) for layer in MLP(width=8, depth=depth).body) == depth + 1


@pytest.mark.parametrize(
    ("x", "t", "y", "words"),
    [
        (torch.zeros(5, 2), torch.zeros(5), None, r"x must have shape \(B, 3\); got \(5, 2\)"),
        (torch.zeros(5, 3, 1), torch.zeros(5), None, r"x must have shape \(B, 3\); got \(5, 3, 1\)"),
        (torch.zeros(5, 3), torch.zeros(4), None, r"t must have shape \(5,\).*got shape \(4,\)"),
        (torch.zeros(5, 3), torch.zeros(5), torch.zeros(4).long(), r"y must have shape \(5,\).*got shape \(4,\)"),
    ],
)
def test_input_that_does_not_fit_is_refused_by_name(x, t, y, words):
    with pytest.raises(ValueError, match=words):
        MLP(3, 7, width=24)(x, t, y)


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="even and at least 2; got 33"):
        MLP(3, width=33)


@pytest.mark.parametrize("option", ["dim", "width", "depth"])
def test_sizes_below_one_are_refused_by_name(option):
    with pytest.raises(ValueError, match=f"{option} must be a whole number, at least .; got 0"):
        MLP(**{option: 0})
