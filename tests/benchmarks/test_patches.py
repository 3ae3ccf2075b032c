"""Transformers by size of patch: trained for equally long, judged, and counted by the operations that they take."""

from dataclasses import replace

import patches as script
import pytest
from patches import forward_flop, patches

from labkit.base.files import read_table
from labkit.base.runtime import seeded_noise
from labkit.data import balanced_labels
from labkit.measure import Judge, draw
from labkit.training import RECIPES, Network

UNET = Network("UNet", {"channels": 1, "num_classes": 10, "widths": [8], "emb_dim": 16}, "velocity", "linear")
DIT = Network("DiT", {"channels": 1, "num_classes": 10, "patch": 4, "width": 8, "depth": 2, "heads": 2})


def test_transformers_by_patch_and_the_unet_are_trained_for_equally_long_and_judged(folder, monkeypatch):
    for name, network in (("mnist-dit", replace(DIT, predicts="velocity", path="linear")), ("mnist-unet", UNET)):
        monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], network=network))
    asked, models = [], []

    def counted(seconds, train):
        asked.append(seconds)
        assert train(1).steps == 1
        return 2 + len(asked)

    def numbered(model, path):
        models.append(model)
        return float(len(models))

    monkeypatch.setattr(script, "steps_within", counted)
    monkeypatch.setattr(script, "held_out_loss", numbered)
    card = patches(seconds=7, n=20, batch_size=8, lr=0.1, solver_steps=2)

    rows, read = read_table("mnist-dit-patches")
    assert read == card and asked == [card.details["seconds of training"]] * 4 == [7] * 4
    assert card.source == "python benchmarks/patches.py --seconds 7 --samples 20" and card.details["drop"] == 0.1
    names = ("DiT, patch 2", "DiT, patch 4", "DiT, patch 8", "U-Net", "U-Net, equal work")
    assert [(row["variant"], row["w"]) for row in rows] == [(name, w) for name in names for w in (1, 3)]
    columns = {key: [row[key] for row in rows[::2]] for key in ("tokens", "patch", "steps", "images")}
    assert columns["tokens"] == [256, 64, 16, 0, 0] and columns["patch"][:3] == [2, 4, 8]
    assert columns["steps"][:4] == [3, 4, 5, 6] and columns["images"] == [8 * steps for steps in columns["steps"]]
    unet, equal = rows[6], rows[8]  # of the transformers, the first has the smallest loss here
    assert equal["steps"] * equal["mflop"] == pytest.approx(3 * rows[0]["mflop"], abs=0.5 * unet["mflop"])
    assert "DiT, patch 2" in card.details["equal work"]
    assert {row["precision"] for row in rows} == {"float32"} and all(row["seconds"] > 0 for row in rows)

    judge, y, noise = Judge.pretrained(), balanced_labels(20, 10), seeded_noise(20, 1, 32, 32)
    assert len({row["frechet"] for row in rows}) == 10
    for row in rows:
        model = models[row["loss"] - 1]
        again = judge.measure(draw(model, noise, y, row["w"], steps=2), y).row()
        assert {key: row[key] for key in again} == pytest.approx(again, rel=1e-3, abs=1e-5)
        assert row["parameters"] == sum(p.numel() for p in model.parameters())
        assert row["mflop"] == pytest.approx(forward_flop(model) / 1e6)


def test_the_flop_of_a_transformer_are_those_of_its_products():
    n, width, depth = 64, 8, 2
    each_token = 2 * 16 * width + depth * (4 + 2 * 4) * width**2  # stem and head; attention and MLP of the blocks
    each_image = (2 + 6 * depth + 2) * width**2  # the embedding of time, and the modulations
    attention = depth * 2 * n**2 * width  # Q K^T, and its product with V
    assert forward_flop(DIT.build()) == 2 * (n * each_token + each_image + attention)
