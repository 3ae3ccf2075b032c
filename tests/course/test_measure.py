"""`python -m labkit measure`: figures are those of the judges, and land on the cards."""

import functools

import pytest
import torch
from torch import nn

from labkit.base import files
from labkit.base.files import Card
from labkit.base.runtime import seeded_noise
from labkit.course.commands import measure as command
from labkit.course.commands.measure import measure
from labkit.data import Labelled, balanced_labels, mnist32
from labkit.measure import Judge, draw, judge, real_quality
from labkit.training import Network, load_pretrained, pretrained, save_pretrained

UNET = Network("UNet", {"channels": 1, "num_classes": 10, "widths": [8], "emb_dim": 16}, "velocity", "linear")
JUDGE = Network("ConvNet", {"widths": [4, 4], "dim": 6})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in the place of the assets, with a tiny generator and two tiny judges; MNIST is a thousand digits."""
    thousand = {split: Labelled(*(part[:1000] for part in mnist32(split))) for split in ("train", "test")}
    monkeypatch.setattr(judge, "mnist32", thousand.__getitem__)
    for module in (files, pretrained, command):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    torch.manual_seed(0)
    for name, network in {"mnist-unet": UNET, "mnist-judge": JUDGE, "mnist-judge-2": JUDGE}.items():
        model = network.build()
        for part in model.parameters():
            if not part.any():  # what starts at zero would hide time and label
                nn.init.normal_(part, std=0.3)
        about = {"class": network.kind, "arguments": network.arguments}
        if network.predicts:
            about |= {"predicts": network.predicts, "path": network.path}
        save_pretrained(name, model, Card(name, "a test", "MIT", {"model": about}))
    return tmp_path


def test_a_generator_gets_its_headline_on_the_card(folder, monkeypatch):
    monkeypatch.setattr(command, "headlines", functools.partial(command.headlines, n=30, steps=2))
    card = measure("mnist-unet")
    model, on_disk = load_pretrained("mnist-unet")
    assert on_disk == card and on_disk.details["model"]["class"] == "UNet"  # what was there before is kept

    first, second = Judge.pretrained(), Judge.pretrained("mnist-judge-2")
    y, noise = balanced_labels(30, 10), seeded_noise(30, 1, 32, 32)
    for w in (1.0, 3.0):
        x, said = draw(model, noise, y, w, steps=2), dict(card.details["measured"][f"w={w:g}"])
        assert said.pop("second judge's accuracy")["value"] == pytest.approx(second.accuracy(x, y).value, abs=1e-5)
        assert said == pytest.approx(first.measure(x, y).row(), rel=1e-3, abs=1e-5)
    assert card.details["measured"]["real digits"] == pytest.approx(real_quality(first, 30).row(), abs=1e-5)
    assert card.details["measured"]["solver"] == "midpoint, 2 steps: 4 evaluations a branch"


def test_a_judge_gets_what_real_digits_score_on_its_card(folder, monkeypatch):
    monkeypatch.setattr(command, "REAL_COUNTS", (20, 50))
    rows = measure("mnist-judge").details["measured"]["real digits against real digits, by n"]
    assert [row["n"] for row in rows.values()] == [20, 50] and list(rows) == ["20", "50"]
    assert rows["50"] == pytest.approx(real_quality(Judge.pretrained(), 50).row(), rel=1e-3, abs=1e-5)


def test_a_name_that_does_not_ship_is_refused(folder):
    with pytest.raises(ValueError, match="no pretrained model is called 'nope'"):
        measure("nope")
