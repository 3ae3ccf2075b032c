"""The shape trace lists what ran, in order, and leaves nothing behind; products are counted."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from labkit.nn.trace import flop_count, shape_trace
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


def test_a_linear_layer_a_convolution_and_attention_cost_two_for_every_product():
    assert flop_count(nn.Linear(3, 5), torch.zeros(7, 3)) == 2 * 7 * 3 * 5
    assert flop_count(nn.Conv2d(3, 4, 3, padding=1), torch.zeros(2, 3, 8, 6)) == 2 * 2 * 8 * 6 * 3 * 4 * 9
    q = torch.zeros(2, 3, 10, 4)  # 2 images, 3 heads, 10 tokens of 4 numbers
    assert flop_count(scaled_dot_product_attention, q, q, q) == 2 * 2 * 2 * 3 * 10 * 10 * 4


def test_counting_leaves_no_gradient_behind():
    network = UNet(widths=(8,))
    assert flop_count(network, torch.zeros(1, 1, 4, 4), torch.zeros(1)) > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
