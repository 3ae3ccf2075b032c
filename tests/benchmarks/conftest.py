"""A folder in the place of the assets, so that scripts write their tables there, and tiny networks to write them of."""

import ablate
import guidance_table
import last_step
import patches
import pytest
import screen
import torch
from torch import nn

from labkit.base import files
from labkit.base.files import Card
from labkit.data import Labelled, mnist32
from labkit.measure import judge
from labkit.training import Network, pretrained, save_pretrained

UNET = Network("UNet", {"channels": 1, "num_classes": 10, "widths": [8], "emb_dim": 16}, "velocity", "linear")
JUDGE = Network("ConvNet", {"widths": [4, 4], "dim": 6})


@pytest.fixture(scope="session")
def digits():
    """The first thousand digits of either split."""
    return {split: Labelled(*(part[:1000] for part in mnist32(split))) for split in ("train", "test")}


@pytest.fixture
def folder(tmp_path, monkeypatch, digits):
    """The folder, with a tiny generator, a worse one and two tiny judges in it; MNIST is the thousand digits."""
    for module in (files, pretrained, ablate, guidance_table, last_step, patches):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    for module in (judge, ablate, patches, screen):
        monkeypatch.setattr(module, "mnist32", digits.__getitem__)
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    torch.manual_seed(0)
    made = {"mnist-unet": UNET, "mnist-unet-weak": UNET, "mnist-judge": JUDGE, "mnist-judge-2": JUDGE}
    for name, network in made.items():
        model = network.build()
        for part in model.parameters():
            if not part.any():  # what starts at zero would hide time and label
                nn.init.normal_(part, std=0.3)
        about = {"class": network.kind, "arguments": network.arguments}
        if network.predicts:
            about |= {"predicts": network.predicts, "path": network.path}
        save_pretrained(name, model, Card(name, "a test", "MIT", {"model": about}))
    return tmp_path
