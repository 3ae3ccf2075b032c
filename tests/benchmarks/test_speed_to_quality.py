"""The benchmark of speed: figures of a model that is there, and of one that has diverged."""

import json

import pytest
import torch
from lab_three import LabThreeUNet, unstretch
from speed_to_quality import Trained, column, figures
from torch import nn
from torch.nn.functional import interpolate

from labkit.base.runtime import seeded_noise
from labkit.data import balanced_labels, mnist32, to_float
from labkit.measure import Judge, Quality, draw


class Nan(nn.Module):
    null = 10

    def forward(self, x, t, y):
        return x / 0 - x / 0


def test_samples_of_a_diverged_model_are_all_wrong_and_have_no_other_figure(folder):
    row = figures("lab3", Trained(Nan(), "float32", 250, 7, 0.1, 2.1), Judge.pretrained(), 20, seed=0)
    found = Quality.of_row(row["quality"]["w=3"])
    assert found.accuracy.value == 0 and found.accuracy.n == 20 and set(found[2:]) == {None}
    assert "NaN" not in json.dumps(row) and row["images_per_second"] == pytest.approx(875)
    cells = column(row)
    assert cells[7] == "0.0% (0.0% to 16.1%)" and all(cell.startswith("not reached (") for cell in cells[9:])


def test_samples_are_restored_before_they_are_judged(folder):
    torch.manual_seed(0)
    model, judge, y = LabThreeUNet((8, 8)).eval(), Judge.pretrained(), balanced_labels(20, 10)
    row = figures("lab3", Trained(model, "float32", 250, 7, 0.1, 2.1), judge, 20, seed=3)
    x = draw(model, seeded_noise(20, 1, 32, 32, seed=3), y, 3.0, steps=16)
    assert row["quality"]["w=3"] == judge.measure(unstretch(x), y).row() != judge.measure(x, y).row()


def test_unstretching_undoes_the_resizing_of_real_digits():
    x = to_float(mnist32("test").images[:5])
    stretched = interpolate(x[:, :, 2:30, 2:30], (32, 32), mode="bilinear")
    torch.testing.assert_close(unstretch(stretched), x, rtol=0, atol=1e-4)
