"""Clouds in the plane: on their supports, and spread over them as they say."""

import math

import torch
from scipy.stats import chisquare, kstest

from labkit.data.points import checkerboard, moons


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_moons_lie_on_two_half_circles_and_noise_widens_them_by_its_variance():
    z, y = moons(10_000, noise=0.0, generator=seeded())
    upper = torch.where((y == 0)[:, None], z, -z) - torch.tensor([-0.5, -0.25])  # the lower moon turned by half a turn
    assert (upper.norm(dim=1) - 1).abs().max() < 1e-6 and (upper[:, 1] > -1e-6).all()
    angles = torch.atan2(upper[:, 1], upper[:, 0])
    assert all(kstest(angles[y == k], "uniform", args=(0, math.pi)).pvalue > 1e-4 for k in (0, 1))
    assert abs(y.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(10_000)  # four standard errors
    squares = moons(200_000, noise=0.3, generator=seeded())[0].square().sum(1)
    # On the half circle E |z|^2 = 1 + 1/4 + 1/16 - E cos a - E sin a / 2 = 1.3125 - 1 / pi.
    assert abs(squares.mean() - (1.3125 - 1 / math.pi + 2 * 0.3**2)) < 4 * squares.std() / math.sqrt(200_000)


def test_the_checkerboard_is_uniform_on_its_eight_dark_squares():
    z, y = checkerboard(80_000, seeded())
    square = z.floor()
    assert (z.abs() <= 2).all() and (square.sum(1) % 2 == 0).all()
    pairs = torch.cat((y[:, None], square), dim=1).unique(dim=0)
    assert len(pairs) == 8 == len(pairs[:, 1:].unique(dim=0))  # a label is a square and a square a label
    assert min(chisquare(y.bincount()).pvalue, *(kstest(axis, "uniform").pvalue for axis in (z - square).T)) > 1e-4
