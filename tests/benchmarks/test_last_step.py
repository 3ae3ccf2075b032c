"""The table of solvers: what each method costs, and that the textbook's Heun alone asks at the end."""

import pytest
import torch
from last_step import METHODS, euler_last, last_step, textbook_heun

from labkit.base.files import read_table
from labkit.base.runtime import seeded_noise
from labkit.data import balanced_labels
from labkit.flow import heun, midpoint, simulate
from labkit.measure import Judge, draw
from labkit.training import load_pretrained


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_evaluations_that_the_table_says(name):
    method, evaluations, counts = METHODS[name]
    for n in counts:
        times = []

        def field(x, t, times=times):
            times.append(t[0].item())
            return -x

        simulate(method(field), torch.ones(2, 1, 3, 3), torch.linspace(0, 1, n + 1))
        assert len(times) == evaluations(n) and (max(times) == 1) == (name == "Heun, textbook")


def test_heun_with_euler_last_is_the_packages_and_the_textbooks_is_heun_without():
    def field(x, t):
        return x.sin() + t[:, None, None, None]

    x, ts = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 6)
    ours = simulate(heun(field), x, ts)
    torch.testing.assert_close(simulate(euler_last(textbook_heun)(field), x, ts), ours)
    assert (simulate(textbook_heun(field), x, ts) - ours).abs().max() > 1e-3
    early = 0.8 * ts  # which do not end at the data
    torch.testing.assert_close(simulate(textbook_heun(field), x, early), simulate(heun(field), x, early))
    assert torch.equal(simulate(euler_last(midpoint)(field), x, early), simulate(midpoint(field), x, early))


def test_the_table_has_a_row_for_every_method_and_number_of_steps(folder):
    few = {name: (method, cost, counts[:1]) for name, (method, cost, counts) in METHODS.items() if name != "tight"}
    card = last_step("mnist-unet", n=20, methods=few, ws=(1.0,))
    rows, read = read_table("mnist-unet-solvers")
    assert [row["method"] for row in rows] == list(few) and {row["w"] for row in rows} == {1.0}
    assert [row["evaluations"] for row in rows] == [8, 6, 3, 6, 3]
    y, noise, model = balanced_labels(20, 10), seeded_noise(20, 1, 32, 32), load_pretrained("mnist-unet")[0]
    for row, (step, _, counts) in zip(rows, few.values(), strict=True):
        quality = Judge.pretrained().measure(draw(model, noise, y, 1.0, step=step, steps=counts[0], half=True), y)
        assert row["n"] == 20 and row["frechet"] == pytest.approx(quality.frechet, rel=1e-3)
    assert read.details["weights"] == card.details["weights"] and read.details["real digits at the same n"]["n"] == 20
