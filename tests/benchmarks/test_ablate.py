"""The ablations: every variant is another model, and the parts left out are left out."""

from dataclasses import replace

import ablate as script
import torch
from ablate import ablate, cut_full_resolution_skip, use_batch_norm
from torch import nn

from labkit.base.files import read_table
from labkit.training import RECIPES, Network

UNET = Network("UNet", {"channels": 1, "num_classes": 10, "widths": [8], "emb_dim": 16}, "velocity", "linear")


def test_every_variant_is_trained_with_every_seed_and_judged_at_two_scales(folder, monkeypatch):
    monkeypatch.setitem(RECIPES, "mnist-unet", replace(RECIPES["mnist-unet"], network=UNET))
    monkeypatch.setattr(script, "held_out_loss", lambda model, path: float(model.head.weight.detach().norm()))
    card = ablate(steps=2, batch_size=8, seeds=(0, 5), n=20)
    rows, read = read_table("mnist-unet-ablations")
    assert read == card and card.details["steps"] == 2 and card.source == "python benchmarks/ablate.py"
    assert len(rows) == 4 * 2 * 2
    assert {(row["seed"], row["w"]) for row in rows} == {(seed, w) for seed in (0, 5) for w in (1, 3)}
    losses = {(row["variant"], row["seed"]): row["loss"] for row in rows}
    assert len(losses) == 8 and len(set(losses.values())) == 8  # eight different models, the averaged and the raw too


def test_batch_norm_takes_the_place_of_every_group_norm():
    model = UNET.build()
    groups = sum(isinstance(part, nn.GroupNorm) for part in model.modules())
    use_batch_norm(model)
    kinds = [type(part) for part in model.modules()]
    assert kinds.count(nn.BatchNorm2d) == groups > 0 and nn.GroupNorm not in kinds
    x, t, y = torch.randn(4, 1, 8, 8), torch.rand(4), torch.arange(4)
    nn.init.normal_(model.head.weight)
    assert not torch.allclose(model(x, t, y)[:2], model(x[:2], t[:2], y[:2]), atol=1e-3)  # a sample sees its batch


def test_the_cut_skip_hands_the_head_nothing_of_the_stem():
    model = UNET.build()
    cut_full_resolution_skip(model)
    seen = []
    model.head_norm[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.randn(2, 1, 8, 8), torch.rand(2), torch.arange(2))
    kept, cut = seen[0].chunk(2, dim=1)
    assert kept.shape[1] == 8 and kept.abs().max() > 0 and cut.abs().max() == 0
