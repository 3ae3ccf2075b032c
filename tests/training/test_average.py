"""The average of the weights: its closed form, buffers, and going on from a state."""

import pytest
import torch
from torch import nn

from labkit.training.average import PowerAverage


@pytest.mark.parametrize("gamma", [0.0, 2.0, 9.0])
def test_the_average_weighs_the_past_like_the_increments_of_a_power(gamma):
    n, values = 40, torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(1, 1, bias=False).double()
    averaged = PowerAverage(model, gamma)
    for value in values:
        nn.init.constant_(model.weight, value.item())
        averaged.update(model)
    # The product of the betas telescopes: the first i weights together have the share (i / n)^(gamma + 1).
    share = (torch.arange(n + 1, dtype=torch.float64) / n) ** (gamma + 1)
    found = averaged.module.weight.item()
    assert found == pytest.approx((share.diff() * values).sum().item(), abs=1e-12)
    assert gamma != 0 or found == pytest.approx(values.mean().item(), abs=1e-12)
    if gamma == 9:  # "its spread is 8% of the training so far"
        time = (torch.arange(n) + 0.5) / n
        centre = (share.diff() * time).sum()
        assert (share.diff() * (time - centre) ** 2).sum().sqrt().item() == pytest.approx(0.083, abs=0.003)


def test_an_average_copies_buffers_leaves_the_model_alone_and_goes_on_from_its_state():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged, again = PowerAverage(model), PowerAverage(model)
    for step in range(4):
        nn.init.constant_(model[0].weight, step)
        model(torch.randn(8, 2))
        averaged.update(model)
        if step == 2:
            again.load_state_dict(averaged.state_dict())
    again.update(model)
    assert (model[0].weight == 3).all() and 2 < averaged.module[0].weight.min() < 3
    assert averaged.n == again.n == 4 and averaged.module[1].num_batches_tracked == 4
    assert torch.equal(averaged.module[1].running_mean, model[1].running_mean)
    pairs = zip(averaged.module.state_dict().values(), again.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
