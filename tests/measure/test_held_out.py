"""Held-out figures: of a model that stands still and of a classifier that always says three they are known."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from labkit.data.images import Labelled, mnist32, to_float
from labkit.flow.paths import GaussianPath
from labkit.measure.held_out import count_wrong, held_out_loss

genuine = functools.cache(mnist32)


class Stubborn(nn.Module):
    """A classifier that always answers 3, and a field that stands still."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.tensor(0.0))

    def forward(self, x, t=None, y=None):
        if t is None:
            return one_hot(torch.full((len(x),), 3), 10) + self.zero
        assert t.min() > 0 and t.max() < 1 and y.max() <= 9 and not torch.is_grad_enabled()
        return self.zero * x


@pytest.mark.parametrize("limit", [None, 1000, 37])
def test_whoever_always_answers_three_is_wrong_about_all_other_digits(limit):
    expected = (genuine("test").labels[:limit] != 3).sum().item()
    assert count_wrong(Stubborn(), limit=limit) == expected and (limit or expected == 8_990)
    assert count_wrong(Stubborn(), Labelled(*(part[:limit] for part in genuine("test"))), chunk=30) == expected


@pytest.mark.parametrize("limit", [None, 1000])
def test_the_held_out_loss_of_a_field_that_stands_still_is_the_mean_square_of_data_minus_noise(limit):
    model, path, images = Stubborn(), GaussianPath(), genuine("test").images[:limit]
    loss, square = held_out_loss(model, path, limit=limit), to_float(images).square().mean().item()
    # E (z - eps)^2 = z^2 + 1, its variance 2 + 4 z^2; four standard errors over all pixels.
    assert loss == pytest.approx(square + 1, abs=4 * math.sqrt((2 + 4 * square) / (len(images) * 1024)))
    assert held_out_loss(model, path, limit=limit) == loss


def test_the_first_chunk_of_the_whole_is_the_figure_of_the_first_images():
    data = Labelled(*(part[:2000] for part in genuine("test")))
    whole, first = (held_out_loss(Stubborn(), GaussianPath(), data, limit=n) for n in (2000, 1000))
    second = held_out_loss(Stubborn(), GaussianPath(), Labelled(*(part[1000:] for part in data)))
    assert whole == pytest.approx((first + second) / 2, rel=5e-3) and whole != first


class Watched(Stubborn):
    """Writes down the times and labels; of a chunk of two images it is wrong by a hundred."""

    def __init__(self):
        super().__init__()
        self.times, self.labels = [], []

    def forward(self, x, t, y):
        self.times.append(t)
        self.labels += y.tolist()
        return super().forward(x, t, y) + (100.0 if len(x) == 2 else 0.0)


@pytest.mark.parametrize("chunk", [7, 28, 30, 1000])
def test_times_are_the_middles_of_a_grid_over_each_chunk_which_counts_by_its_images(chunk):
    model, data = Watched(), Labelled(*(part[:30] for part in genuine("test")))
    loss = held_out_loss(model, GaussianPath(), data, chunk=chunk)
    for t in model.times:
        torch.testing.assert_close(t, (torch.arange(len(t)) + 0.5) / len(t))
    assert model.labels == data.labels.tolist() and len(model.times) == -(-30 // chunk)
    last = 100**2 * 2 / 30 if 30 % chunk == 2 else 0
    assert loss == pytest.approx(last + held_out_loss(Stubborn(), GaussianPath(), data), rel=0.03)
