"""Solvers that remember, and grids that are shifted: orders up to both ends, and laws of the shift.

What `adams_bashforth2` shares with other solvers is tested with them, in `test_solvers.py`.
"""

import math

import numpy as np
import pytest
import torch

from labkit.flow.exact import EmpiricalMarginal, ExactMarginal
from labkit.flow.mixtures import GaussianMixture, ring
from labkit.flow.multistep import dpm_solver2m, shifted
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Cosine, Linear
from labkit.flow.solvers import simulate

STD, ORIGIN = 0.5, torch.zeros(1, 1, dtype=torch.float64)
PLANE_FIELD = ExactMarginal(GaussianPath(), ring(3)).velocity


def uniform(n):
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def start(n):
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_shift_adds_its_logarithm_to_the_signal_to_noise_ratio():
    """So two shifts are one, by their product, and the ends stay."""
    t, u = shifted(10, 0.4).double(), uniform(10)
    shift = t[1:-1].logit() - u[1:-1].logit()
    torch.testing.assert_close(shift, torch.full_like(shift, math.log(0.4)), rtol=0, atol=1e-5)
    assert t[0] == 0 and t[-1] == 1 and (t[1:] > t[:-1]).all() and (t[1:-1] < u[1:-1]).all()
    torch.testing.assert_close(shifted(7, 1.0), torch.linspace(0, 1, 8))
    torch.testing.assert_close(1 - shifted(7, 3.0).flip(0), shifted(7, 1 / 3.0))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.1, 0.9), (0.0, 0.9), (0.1, 1.0)])
def test_dpm_solver_is_of_order_two_up_to_both_ends(schedule, begin, end):
    """Where alpha is 0 a first step costs no order; into beta = 0, where lambda diverges, it costs a logarithm."""
    path = GaussianPath(schedule)
    field = ExactMarginal(path, GaussianMixture(ORIGIN, STD)).velocity

    def deviation(t):
        alpha, beta = (value.item() for value in schedule(torch.tensor([t], dtype=torch.float64))[:2])
        return math.hypot(STD * alpha, beta)

    numbers, errors = [256, 512, 1024], []
    for n in numbers:
        ts = begin + (end - begin) * uniform(n)
        found = simulate(dpm_solver2m(field, path), ORIGIN + deviation(begin), ts).item()
        errors.append(abs(found - deviation(end)) / (math.log(n) if end == 1 else 1))
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert slope > 1.8, errors


def test_dpm_solver_takes_data_that_do_not_change_in_one_step():
    path = GaussianPath(Cosine())
    z = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    field = EmpiricalMarginal(path, z).velocity
    for n in (1, 3, 7):
        torch.testing.assert_close(simulate(dpm_solver2m(field, path), start(4), uniform(n)), z.expand(4, 2))


def test_dpm_solver_asks_once_a_step_never_at_the_end_and_begins_anew_for_every_run():
    times = []

    def recorded(x, t):
        times.append(t[0].item())
        return PLANE_FIELD(x, t)

    step = dpm_solver2m(recorded)
    first, again = simulate(step, start(3), uniform(10)), simulate(step, start(3), uniform(10))
    assert len(times) == 20 and max(times) == pytest.approx(0.9) and torch.equal(first, again)
    with pytest.raises(ValueError, match="ts must be increasing"):
        simulate(step, start(3), uniform(10).flip(0))
