"""The benchmark of recipes: each is trained as it says, for the seconds asked, and its figures are kept."""

import json
import sys

import pytest
import screen


def test_every_recipe_asked_for_is_trained_and_judged_at_both_scales(folder, tmp_path, monkeypatch, capsys):
    tried = {"small": screen.Tried((8,), 16), "fast": screen.Tried((8,), 16, lr=1e-2), "never": None}
    monkeypatch.setattr(screen, "RECIPES", tried)
    monkeypatch.setattr(screen, "held_out_loss", lambda model, path: 0.5)
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
