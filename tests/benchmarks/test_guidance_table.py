"""The guidance table: every row is what the judge says of samples that are drawn again, and lands where it belongs."""

import sys

import pytest
import torch
from guidance_table import frechet_minimum, guidance_table, main

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
    real_features = judge.real_reading.features
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


def test_the_smallest_frechet_distance_is_found_with_an_interval_that_knows_how_sure_it_is():
    generator = torch.Generator().manual_seed(0)
    real, noise = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (4000, 400))
    shifts = {k / 20: noise + k / 20 - 0.5 for k in range(21)}  # the key .5 is where the noise is not moved
    best, low, high = frechet_minimum(real, shifts, draws=50, generator=generator)
    assert best == min(shifts, key=lambda key: frechet_distance(real, shifts[key]))
    assert low <= best <= high and 0 < high - low < 0.3 and abs(best - 0.5) <= 0.1
    far = {key: fake for key, fake in shifts.items() if key in (0.0, 0.5, 1.0)}  # no draw can doubt which is best here
    assert frechet_minimum(real, far, draws=20, generator=generator) == (0.5, 0.5, 0.5)


def test_the_smallest_frechet_distance_needs_sets_of_one_size():
    points = torch.randn(20, 2)
    with pytest.raises(ValueError, match=r"need sets of equal size.*got sizes \[10, 20\]"):
        frechet_minimum(points, {1.0: points, 2.0: points[:10]})
