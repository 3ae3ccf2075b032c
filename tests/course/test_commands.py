"""The keepers' commands that judge and ablate: their figures are those of the judge, and land where they belong."""

import functools
import shutil

import ablate as ablations
import guidance_table as sweeping
import patches as patching
import pytest
import torch
from ablate import ablate, cut_full_resolution_skip, use_batch_norm
from guidance_table import sweep
from patches import forward_flop, patches
from torch import nn

from labkit.base import files as assets
from labkit.base.files import Card, read_table
from labkit.course.commands import measure as measuring
from labkit.course.commands.measure import measure
from labkit.data.images import balanced_labels, mnist32
from labkit.flow.guidance import autoguided, projected
from labkit.measure.judge import Judge, real_quality
from labkit.measure.metrics import frechet_distance
from labkit.measure.samples import draw_images
from labkit.measure.sweeps import guidance_sweep, shipped_curve
from labkit.nn.convnet import ConvNet
from labkit.nn.dit import DiT
from labkit.nn.unet import UNet
from labkit.training import pretrained
from labkit.training.loop import History, steps_within
from labkit.training.pretrained import load_pretrained, save_pretrained

TINY = {"channels": 1, "num_classes": 10, "widths": (8,), "emb_dim": 16}
TINY_DIT = {"channels": 1, "num_classes": 10, "patch": 4, "width": 8, "depth": 2, "heads": 2}
TINY_JUDGE = {"widths": (4, 4), "dim": 6}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in the place of the assets, with a tiny generator and two tiny judges in it."""
    for name in ("mnist.npz", "mnist.npz.json"):
        shutil.copy(assets.FOLDER / name, tmp_path)
    for module in (assets, pretrained, measuring, sweeping, ablations, patching):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    torch.manual_seed(0)
    generator, weak = UNet(**TINY), UNet(**TINY)
    for part in (*generator.parameters(), *weak.parameters()):
        if not part.any():  # what starts at zero would hide time and label
            nn.init.normal_(part, std=0.3)
    parts = {"mnist-unet": ("UNet", TINY, generator), "mnist-unet-weak": ("UNet", TINY, weak)}
    parts |= {name: ("ConvNet", TINY_JUDGE, ConvNet(**TINY_JUDGE)) for name in ("mnist-judge", "mnist-judge-2")}
    for name, (kind, arguments, model) in parts.items():
        save_pretrained(name, model, Card(name, "a test", "MIT", {"model": {"class": kind, "arguments": arguments}}))
    return tmp_path


def test_a_generator_gets_its_headline_on_the_card(folder, monkeypatch):
    monkeypatch.setattr(measuring, "headlines", functools.partial(measuring.headlines, n=30, steps=2))
    card = measure("mnist-unet")
    model, on_disk = load_pretrained("mnist-unet")
    assert on_disk == card and on_disk.details["model"]["class"] == "UNet"  # what was there before is kept

    judge, second = Judge.pretrained(), Judge.pretrained("mnist-judge-2")
    for w in (1.0, 3.0):
        again = guidance_sweep(model, judge, [w], 30, steps=2)[w]
        said = card.details["measured"][f"w={w:g}"]
        assert said["n"] == 30 and said["accuracy"] == pytest.approx(again.accuracy, abs=1e-5)
        assert said["frechet"] == pytest.approx(again.frechet, rel=1e-3, abs=1e-5)
        by_second = guidance_sweep(model, second, [w], 30, steps=2)[w].accuracy
        assert said["second judge's accuracy"]["value"] == pytest.approx(by_second, abs=1e-5)


def test_the_sweep_tables_every_kind_of_guidance_by_w(folder, monkeypatch):
    monkeypatch.setattr(sweeping, "WS", (0.0, 1.0, 2.5))
    monkeypatch.setattr(sweeping, "VARIANT_WS", (2.0,))
    card = sweep("mnist-unet", n=20, steps=2, draws=3)
    (model, weights), judge, y = load_pretrained("mnist-unet"), Judge.pretrained(), balanced_labels(20, 10)
    rows, read = read_table("mnist-unet-guidance")
    assert read == card and card.details["weights"] == weights.sha256

    bad, _ = load_pretrained("mnist-unet-weak")
    guides = {"projected": projected, "autoguided": lambda good, y, w, null: autoguided(good, bad, y, w)}
    for variant, guide in guides.items():
        (row,) = [row for row in rows if row["variant"] == variant]
        x = draw_images(model, y, 2.0, steps=2, guide=guide)
        again = judge.measure(x, y)._asdict() | judge.diversity(x, y)._asdict()
        assert {key: row[key] for key in again} == pytest.approx(again, rel=1e-3)
    assert [row["variant"] for row in rows[:4]] == ["guided"] * 3 + ["interval"] and len(
        {r["frechet"] for r in rows}
    ) == 7

    features = {w: judge.features(draw_images(model, y, w, steps=2)) for w in (0.0, 1.0, 2.5)}
    real_features = judge.features(mnist32("test").images)
    found = card.details["smallest Fréchet distance"]
    assert found["w"] == min(features, key=lambda w: frechet_distance(real_features, features[w]))
    assert found["low"] <= found["high"] and found["bootstrap draws"] == 3

    curve, real = shipped_curve("mnist-unet")
    assert list(curve) == [0.0, 1.0, 2.5] and real.n == 20
    assert curve == {
        w: pytest.approx(q, rel=1e-4) for w, q in guidance_sweep(model, judge, list(curve), 20, steps=2).items()
    }
    assert real == pytest.approx(real_quality(judge, 20), rel=1e-3, abs=1e-4)


def test_a_judge_gets_what_real_digits_score_on_its_card(folder, monkeypatch):
    monkeypatch.setattr(measuring, "REAL_COUNTS", (20, 50))
    rows = measure("mnist-judge").details["measured"]["real digits against real digits, by n"]
    assert [row["n"] for row in rows.values()] == [20, 50] and list(rows) == ["20", "50"]
    again = real_quality(Judge.pretrained(), 50)
    assert rows["50"] == pytest.approx(again._asdict(), rel=1e-3, abs=1e-5)


def test_every_variant_is_trained_with_every_seed_and_judged_at_two_scales(folder, monkeypatch):
    monkeypatch.setitem(ablations.RECIPES["mnist-unet"], "model", {"class": "UNet", "arguments": TINY})
    monkeypatch.setattr(ablations, "held_out_loss", lambda model, path: float(model.head.weight.detach().norm()))
    card = ablate(steps=2, batch_size=8, seeds=(0, 5), n=20)
    rows, read = read_table("mnist-unet-ablations")
    assert read == card and card.details["steps"] == 2
    assert len(rows) == 4 * 2 * 2 and {(row["seed"], row["w"]) for row in rows} == {
        (s, w) for s in (0, 5) for w in (1, 3)
    }
    losses = {(row["variant"], row["seed"]): row["loss"] for row in rows}
    assert len(losses) == 8 and len(set(losses.values())) == 8  # eight different models, the averaged and the raw too


def test_transformers_by_patch_and_the_unet_are_trained_for_equally_long_and_judged(folder, monkeypatch):
    for name, kind, arguments in (("mnist-dit", "DiT", TINY_DIT), ("mnist-unet", "UNet", TINY)):
        monkeypatch.setitem(patching.RECIPES[name], "model", {"class": kind, "arguments": arguments})
    asked, models = [], []

    def counted(seconds, train):
        asked.append(seconds)
        assert train(1).steps == 1
        return 2 + len(asked)

    def numbered(model, path):
        models.append(model)
        return float(len(models))

    monkeypatch.setattr(patching, "steps_within", counted)
    monkeypatch.setattr(patching, "held_out_loss", numbered)
    card = patches(seconds=7, n=20, batch_size=8, lr=0.1, solver_steps=2)

    rows, read = read_table("mnist-dit-patches")
    assert read == card and asked == [card.details["seconds of training"]] * 4 == [7] * 4
    names = ("DiT, patch 2", "DiT, patch 4", "DiT, patch 8", "U-Net", "U-Net, equal work")
    assert [(row["variant"], row["w"]) for row in rows] == [(name, w) for name in names for w in (1, 3)]
    columns = {key: [row[key] for row in rows[::2]] for key in ("tokens", "patch", "steps", "images")}
    assert columns["tokens"] == [256, 64, 16, 0, 0] and columns["patch"][:3] == [2, 4, 8]
    assert columns["steps"][:4] == [3, 4, 5, 6] and columns["images"] == [8 * steps for steps in columns["steps"]]
    unet, equal = rows[6], rows[8]  # of the transformers, the first has the smallest loss here
    assert equal["steps"] * equal["mflop"] == pytest.approx(3 * rows[0]["mflop"], abs=0.5 * unet["mflop"])
    assert "DiT, patch 2" in card.details["equal work"]
    assert {row["precision"] for row in rows} == {"float32"} and all(row["seconds"] > 0 for row in rows)

    judge, y = Judge.pretrained(), balanced_labels(20, 10)
    assert len({row["frechet"] for row in rows}) == 10
    for row in rows:
        model = models[row["loss"] - 1]
        again = judge.measure(draw_images(model, y, row["w"], steps=2), y)._asdict()
        assert {key: row[key] for key in again} == pytest.approx(again, rel=1e-3, abs=1e-5)
        assert row["parameters"] == sum(p.numel() for p in model.parameters())
        assert row["mflop"] == pytest.approx(forward_flop(model) / 1e6)


@pytest.mark.parametrize(("step", "taken"), [(0.25, 40), (0.01, 1000), (30.0, 1)])
def test_as_many_steps_are_taken_as_fit_into_the_time(step, taken):
    asked = []

    def train(steps):
        asked.append(steps)
        return History(nn.Identity(), [0.0] * steps, seconds=steps * step + 5 * (len(asked) == 1))  # a slow beginning

    assert steps_within(10, train) == pytest.approx(taken, abs=1) and len(asked) == 3
    assert asked[-1] * step <= 0.5 or asked[-1] == 2  # a twentieth of the time, if that is two steps


def test_the_flop_of_a_transformer_are_those_of_its_products():
    model = DiT(**TINY_DIT)
    n, width, depth = 64, 8, 2
    each_token = 2 * 16 * width + depth * (4 + 2 * 4) * width**2  # stem and head; attention and MLP of the blocks
    each_image = (2 + 6 * depth + 2) * width**2  # the embedding of time, and the modulations
    attention = depth * 2 * n**2 * width  # Q K^T, and its product with V
    assert forward_flop(model) == 2 * (n * each_token + each_image + attention)


def test_batch_norm_takes_the_place_of_every_group_norm():
    model = UNet(**TINY)
    groups = sum(isinstance(part, nn.GroupNorm) for part in model.modules())
    use_batch_norm(model)
    kinds = [type(part) for part in model.modules()]
    assert kinds.count(nn.BatchNorm2d) == groups > 0 and nn.GroupNorm not in kinds
    x, t, y = torch.randn(4, 1, 8, 8), torch.rand(4), torch.arange(4)
    nn.init.normal_(model.head.weight)
    assert not torch.allclose(model(x, t, y)[:2], model(x[:2], t[:2], y[:2]), atol=1e-3)  # a sample sees its batch


def test_the_cut_skip_hands_the_head_nothing_of_the_stem():
    model = UNet(**TINY)
    cut_full_resolution_skip(model)
    seen = []
    model.head_norm[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.randn(2, 1, 8, 8), torch.rand(2), torch.arange(2))
    kept, cut = seen[0].chunk(2, dim=1)
    assert kept.shape[1] == 8 and kept.abs().max() > 0 and cut.abs().max() == 0
