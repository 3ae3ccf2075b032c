"""A budget of operations: what it pays, and that the training it pays is the same whoever asks."""

import pytest
import torch

from labkit.course.checks.budget import PASSES, held_out, operations, steps_within, trained_within
from labkit.nn import DiT, UNet


@pytest.mark.parametrize("build", [lambda: UNet(widths=(8,)), lambda: DiT(width=16, depth=1, patch=8)])
def test_a_budget_pays_steps_in_proportion(build):
    network = build().train()
    price = operations(network)
    assert price > 1e4 and network.training
    assert (
        steps_within(PASSES * price * 4 * 7, network, 4) == 7
        and steps_within(PASSES * price * 4 * 6.9, network, 4) == 6
    )
    assert steps_within(PASSES * price * 3, network, 4) == 0


def test_the_work_of_a_convolution_is_what_arithmetic_says():
    # The stem alone: 16x16 positions, 8 channels out of 4 times 3x3, two operations each.
    thin, wide = (operations(UNet(widths=(width,))) for width in (8, 16))
    assert 3 < wide / thin < 4.1 and thin > 2 * 16 * 16 * 8 * 4 * 9


def test_a_training_takes_the_steps_that_are_paid_and_nobodys_random_numbers():
    def trained(seed):
        torch.manual_seed(1)
        network = UNet(widths=(8,))
        before = torch.get_rng_state()
        history = trained_within(PASSES * operations(network) * 8 * 5, network, 8, 1e-2, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        return history

    one, again, other = trained(0), trained(0), trained(1)
    assert one.steps == 5 and one.losses == again.losses != other.losses
    assert 1.5 < held_out(UNet(widths=(8,)), limit=20) < 2.5  # an untrained network answers 0
    with pytest.raises(ValueError, match="do not pay one step of 8 images"):
        trained_within(10.0, UNet(widths=(8,)), 8, 1e-2)
