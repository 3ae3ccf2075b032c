"""The guidance table: every row is what the judge says of samples that are drawn again, and lands where it belongs."""

import sys

import pytest
from guidance_table import guidance_table, main

from labkit.base.files import read_table
from labkit.base.runtime import seeded_noise
from labkit.data import balanced_labels
from labkit.flow import projected
from labkit.measure import Judge, Quality, draw, real_quality, shipped_curve, sweep
from labkit.measure.metrics import frechet_distance
from labkit.training import load_pretrained

Y, NOISE = balanced_labels(20, 10), seeded_noise(20, 1, 32, 32)


def test_every_kind_of_guidance_is_tabled_by_w(folder):
    card = guidance_table("mnist-unet", n=20, steps=2, draws=3, ws=(0.0, 1.0, 2.5), other_ws=(2.0,))
    (model, weights), (bad, _) = load_pretrained("mnist-unet"), load_pretrained("mnist-unet-weak")
    judge = Judge.pretrained()
    rows, read = read_table("mnist-unet-guidance")
    assert read == card and card.details["weights"] == weights.sha256 and card.details["interval"] == [0.2, 0.8]
    assert card.source == "python benchmarks/guidance_table.py mnist-unet"
    kinds = ["guided"] * 3 + ["interval", "rescaled", "projected", "autoguided"]
    assert [row["variant"] for row in rows] == kinds and len({row["frechet"] for row in rows}) == 7

    for kind, options in {"projected": {"rule": projected()}, "autoguided": {"bad": bad}}.items():
        (row,) = [row for row in rows if row["variant"] == kind]
        again = judge.measure(draw(model, NOISE, Y, 2.0, steps=2, **options), Y).row()
        assert {key: row[key] for key in again} == pytest.approx(again, rel=1e-3, abs=1e-5)

    samples = {w: draw(model, NOISE, Y, w, steps=2) for w in (0.0, 1.0, 2.5)}
    real_features = judge.read(judge.real.images).features
    found = card.details["smallest Fréchet distance"]
    distances = {w: frechet_distance(real_features, judge.read(x).features) for w, x in samples.items()}
    assert found["w"] == min(distances, key=distances.get)
    assert found["low"] <= found["high"] and found["bootstrap draws"] == 3

    curve, real = shipped_curve("mnist-unet")
    expected = sweep(lambda w, y: samples[w], judge.measure, samples, Y)
    assert list(curve) == [0.0, 1.0, 2.5]
    for w, quality in curve.items():
        assert isinstance(quality, Quality) and quality.row() == pytest.approx(expected[w].row(), rel=1e-4, abs=1e-6)
    assert real.row() == pytest.approx(real_quality(judge, 20).row(), rel=1e-3, abs=1e-4)


def test_the_command_takes_its_scales_from_the_line(folder, monkeypatch, capsys):
    (folder / "mnist-unet-weak.safetensors").unlink()  # without which there is no autoguidance
    line = "guidance_table.py mnist-unet --samples 20 --steps 1 --draws 2 --scales 1 3 --other-scales 3"
    monkeypatch.setattr(sys, "argv", line.split())
    main()
    assert '"bootstrap draws": 2' in capsys.readouterr().out
    rows, _ = read_table("mnist-unet-guidance")
    assert [(row["variant"], row["w"]) for row in rows[:2]] == [("guided", 1), ("guided", 3)] and len(rows) == 5
    assert {row["n"] for row in rows} == {20}
