"""How time and class enter a network."""

import math

import pytest
import torch

from labkit.nn.embeddings import Conditioning, FourierTime


@pytest.mark.parametrize("dim", [2, 24, 128])
def test_time_features_lie_on_a_sphere_and_differ_at_every_time(dim):
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    features = FourierTime(dim)(t)
    assert features.shape == (1001, dim)
    torch.testing.assert_close(features.square().sum(1), torch.full_like(t, dim / 2))  # sin^2 + cos^2, dim / 2 times
    apart = torch.cdist(features, features) + 9 * torch.eye(1001)
    assert apart.min() > 1e-3  # the slowest wave makes a quarter turn: no time is met twice


def test_nearby_times_are_clearly_different_features():
    features = FourierTime(24)(torch.tensor([0.50, 0.51], dtype=torch.float64))
    assert (features[1] - features[0]).norm() > 1  # the numbers themselves differ by 0.01


def test_the_waves_run_from_a_quarter_to_the_highest_frequency():
    module = FourierTime(8, highest=10.0)
    start, quarter, period = module(torch.tensor([0.0, 1.0, 0.1], dtype=torch.float64))
    assert start.tolist() == [0] * 4 + [1] * 4  # sines first, then cosines
    assert (quarter[0].item(), quarter[4].item()) == pytest.approx((1, 0), abs=1e-6)  # a quarter turn of the slowest
    assert (period[3].item(), period[7].item()) == pytest.approx((0, 1), abs=1e-6)  # a whole turn of the fastest
    rate = torch.autograd.functional.jacobian(module, torch.zeros(1, dtype=torch.float64))[0, :4, 0] / (2 * math.pi)
    torch.testing.assert_close(
        rate[1:] / rate[:-1], torch.full((3,), 40 ** (1 / 3)).double()
    )  # evenly spaced in octaves


@pytest.mark.parametrize("dim", [-2, 0, 3])
def test_an_odd_number_of_time_features_is_refused(dim):
    with pytest.raises(ValueError, match=f"even and at least 2; got {dim}"):
        FourierTime(dim)


TIMES = torch.tensor([0.1, 0.5, 0.9])


def test_no_label_is_the_null_label():
    module = Conditioning(24, 7)
    assert module(TIMES, None).shape == (3, 24)
    assert torch.equal(module(TIMES, None), module(TIMES, torch.full((3,), 7)))
    assert not torch.equal(module(TIMES, None), module(TIMES, torch.full((3,), 6)))


def test_the_label_adds_its_own_row_whatever_the_time():
    module = Conditioning(24, 7)
    shift = module(TIMES, torch.tensor([0, 0, 5])) - module(TIMES, torch.tensor([5, 5, 0]))
    torch.testing.assert_close(shift[0], shift[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(shift[0], -shift[2], rtol=0, atol=1e-5)
    assert shift.abs().max() > 0.1


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (torch.tensor([0, 1]), ValueError, r"y must have shape \(3,\).*got shape \(2,\)"),
        (torch.tensor([0.0, 1.0, 2.0]), TypeError, r"y must be an int64 tensor.*torch\.float32"),
        (3, TypeError, r"y must be an int64 tensor.*got 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, error, words):
    with pytest.raises(error, match=words):
        Conditioning(24, 7)(TIMES, y)


def test_a_network_without_labels_refuses_one():
    module = Conditioning(24, None)
    assert module(TIMES, None).shape == (3, 24)
    with pytest.raises(ValueError, match=r"y was given to a network built without labels \(num_classes=None\)"):
        module(TIMES, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"y must be an int64 tensor.*torch\.float32"):  # a time in the place of y
        module(TIMES, TIMES)
