"""The benchmark of recipes: each is trained as it says, for the seconds asked, and its figures are kept."""

import json
import sys

import pytest
import screen
import torch

from labkit.data import mnist32, to_float


def test_every_recipe_asked_for_is_trained_and_judged_at_both_scales(folder, tmp_path, monkeypatch, capsys):
    tried = {"small": screen.Tried((8,), 16), "fast": screen.Tried((8,), 16, lr=1e-2), "never": None}
    monkeypatch.setattr(screen, "RECIPES", tried)
    monkeypatch.setattr(screen, "inner_loss", lambda model, tried, data: 0.5)
    file = tmp_path / "figures.json"
    options = ["--seconds", "0.2", "--samples", "20", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["screen.py", "small", "fast", *options])
    screen.main()
    rows = json.loads(file.read_text())["rows"]
    assert [row["name"] for row in rows] == ["small", "fast"] and [row["lr"] for row in rows] == [3e-3, 1e-2]
    for row in rows:
        assert row["steps"] >= 1 and row["loss"] == 0.5 and row["w=1"]["n"] == row["w=3"]["second judge"]["n"] == 20
        assert row["images_per_second"] == pytest.approx(row["steps"] * 16 / row["seconds"])
    assert rows[0]["w=1"] != rows[1]["w=1"]
    assert "small: " in capsys.readouterr().out


def test_the_loss_is_that_of_the_pixels_inside_the_border_whatever_the_size():
    """A model that gives 0 has the loss E|v|^2 of those pixels; one that never sees the border has the same."""

    class Zero(torch.nn.Linear):
        def forward(self, x, t, y):
            return 0 * x

    data = mnist32("test")
    both = [screen.inner_loss(Zero(1, 1), screen.Tried(size=size), data, limit=500) for size in (28, 32)]
    inner = to_float(data.images[:500])[:, :, 2:-2, 2:-2]
    assert both[0] == pytest.approx(both[1], rel=1e-6)
    assert both[0] == pytest.approx(1 + inner.square().mean().item(), rel=0.01)  # z and eps are independent


def test_samples_without_a_border_get_one_of_background():
    x = screen.framed(torch.full((2, 1, 28, 28), 3.0))
    assert x.shape == (2, 1, 32, 32) and (x[:, :, 2:-2, 2:-2] == 1).all() and (x == -1).sum() == 2 * (32**2 - 28**2)
