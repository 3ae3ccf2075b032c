"""What holds of every network: none looks at values in `forward`, so each can be exported, captured and transformed.

One `.item()` on a time or a label would break all of this.
"""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from labkit.nn.dit import DiT
from labkit.nn.mlp import MLP
from labkit.nn.unet import UNet

B, K = 4, 3
NETWORKS = {
    "MLP": (MLP(2, K, width=8), (B, 2)),
    "U-Net": (UNet(2, K, widths=(8, 16), emb_dim=8), (B, 2, 8, 8)),
    "DiT": (DiT(2, K, image_size=8, patch=4, width=8, depth=2, heads=2), (B, 2, 8, 8)),
}
every_network = pytest.mark.parametrize("name", NETWORKS)
with_and_without_labels = pytest.mark.parametrize("labels", [True, False], ids=["labels", "no labels"])


@pytest.fixture(autouse=True, scope="module")
def perturbed():
    """Networks away from the zeros of their initialisation, in float64."""
    torch.manual_seed(0)
    for network, _ in NETWORKS.values():
        network.double().eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)


def batch(name, labels=True):
    """The network, and x, t and y (null among it) to ask it for."""
    network, shape = NETWORKS[name]
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(0.1, 0.9, B, dtype=torch.float64)
    return network, (x, t, torch.arange(B)) if labels else (x, t)


@every_network
@with_and_without_labels
def test_the_exported_network_is_the_network(name, labels):
    network, inputs = batch(name, labels)
    exported = torch.export.export(network, inputs).module()
    other = (inputs[0].flip(0), inputs[1].flip(0), *(y.flip(0) for y in inputs[2:]))
    for given in (inputs, other):  # the values of the first are not built in
        torch.testing.assert_close(exported(*given), network(*given))


@every_network
@with_and_without_labels
def test_the_network_is_captured_in_one_graph(name, labels):
    network, inputs = batch(name, labels)
    torch.compiler.reset()
    captured = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(captured(*inputs), network(*inputs))


@every_network
@with_and_without_labels
def test_samples_one_by_one_under_vmap_are_the_batch(name, labels):
    network, inputs = batch(name, labels)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no rule for another batch
        one_by_one = torch.func.vmap(lambda *one: network(*(part[None] for part in one))[0])(*inputs)
    torch.testing.assert_close(one_by_one, network(*inputs))


@every_network
def test_the_derivative_forwards_is_that_backwards(name):
    """For every direction d and every w: <w, J d> = <w J, d>."""
    network, (x, t, y) = batch(name)
    direction, w = (x.flip(0), torch.ones_like(t)), x.cos()
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward derivative
        value, slope = torch.func.jvp(lambda x, t: network(x, t, y), (x, t), direction)
    torch.testing.assert_close(value, network(x, t, y))
    _, pulled = torch.autograd.functional.vjp(lambda x, t: network(x, t, y), (x, t), w)
    expected = sum((part * d).sum() for part, d in zip(pulled, direction, strict=True))
    torch.testing.assert_close((w * slope).sum(), expected, rtol=1e-9, atol=1e-9)
    assert abs(expected) > 0.1


@every_network
def test_values_are_not_looked_at(name):
    """Times outside [0, 1] are the entrances' to refuse, and are not refused here."""
    network, (x, t, y) = batch(name)
    assert network(x, t + 5, y).isfinite().all() and network(x, t * torch.nan, y).isnan().all()


@every_network
def test_a_network_says_its_number_of_classes_and_its_null(name):
    network, _ = NETWORKS[name]
    assert network.num_classes == network.null == K
    unlabelled = type(network)(num_classes=None)
    assert unlabelled.num_classes is unlabelled.null is None
