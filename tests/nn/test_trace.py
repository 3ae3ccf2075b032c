"""The shape trace lists what ran, in order, and leaves nothing behind."""

import pytest
import torch

from labkit.nn.trace import shape_trace
from labkit.nn.unet import UNet


def test_the_trace_of_a_u_net_goes_down_and_up_again():
    network = UNet(channels=1, num_classes=3, widths=(8, 16), patch=2, emb_dim=10)
    trace = shape_trace(network, torch.zeros(5, 1, 16, 24), torch.zeros(5))
    assert trace[:2] == [("conditioning", (5, 10)), ("stem", (5, 8, 8, 12))]
    assert [shape for name, shape in trace if name.startswith(("encoder", "midcoder", "decoder"))] == [
        (5, 8, 8, 12),
        *[(5, 16, 4, 6)] * 5,  # encoder 1, three parts of the midcoder, decoder 0
        (5, 8, 8, 12),
    ]
    assert trace[-1] == ("head", (5, 4, 8, 12))


def test_no_hook_is_left_behind_even_if_the_call_fails():
    network = UNet(widths=(8,))
    shape_trace(network, torch.zeros(1, 1, 4, 4), torch.zeros(1))
    with pytest.raises(ValueError, match="x must have shape"):
        shape_trace(network, torch.zeros(1, 2, 4, 4), torch.zeros(1))
    assert not any(module._forward_hooks for module in network.modules())
