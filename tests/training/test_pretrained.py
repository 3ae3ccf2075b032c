"""Shipped models: what is saved is what is loaded, and a file that is not what its card says is refused by name."""

import pytest
import torch

from labkit.base.files import Card, read_weights, write_weights
from labkit.flow.exact import ExactMarginal
from labkit.flow.losses import cfm_loss
from labkit.flow.mixtures import ring
from labkit.flow.paths import GaussianPath, convert
from labkit.measure.held_out import count_wrong, held_out_loss
from labkit.nn.mlp import MLP
from labkit.nn.unet import UNet
from labkit.training import cards, pretrained
from labkit.training.cards import Details
from labkit.training.loop import fit
from labkit.training.pretrained import load_network, load_pretrained, names, save_pretrained

UNET = {"channels": 1, "num_classes": 3, "widths": [8, 16], "emb_dim": 16}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in the place of the assets."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return tmp_path


def card(kind="UNet", **arguments):
    return Card("a title", "a source", "MIT", {"model": {"class": kind, "arguments": arguments}, "accuracy": 0.5})


def unet():
    """A small network whose zero-initialised layers are not zero."""
    torch.manual_seed(0)
    model = UNet(**UNET)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_weights_that_are_nan_are_refused(folder):
    save_pretrained("tiny", unet(), card(**UNET))
    state, written = read_weights(folder / "tiny.safetensors")
    state["head.bias"][0] = torch.nan
    write_weights(folder / "tiny.safetensors", state, written)
    with pytest.raises(ValueError, match=r"tiny\.safetensors holds weights that are inf or NaN"):
        load_pretrained("tiny")


def test_a_saved_model_is_loaded_with_the_same_outputs_and_its_card(folder):
    model, written = unet(), save_pretrained("tiny", unet(), card(**UNET))
    loaded, read = load_pretrained("tiny")
    x, t, y = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 2, 3])
    assert names() == ["tiny"]
    assert torch.equal(loaded(x, t, y), model(x, t, y)) and loaded(x, t, y).abs().max() > 0
    assert read == written and read.details["accuracy"] == 0.5
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_saving_again_replaces_weights_and_card(folder):
    save_pretrained("tiny", unet(), card(**UNET))
    save_pretrained("tiny", MLP(2, width=8), card("MLP", dim=2, width=8), replace=True)
    assert isinstance(load_pretrained("tiny")[0], MLP)
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.safetensors", "tiny.safetensors.json"]


def test_an_unknown_name_is_refused_with_the_known_ones(folder):
    with pytest.raises(ValueError, match="no pretrained model is called 'nope'; there are none"):
        load_pretrained("nope")
    save_pretrained("tiny", unet(), card(**UNET))
    with pytest.raises(ValueError, match="no pretrained model is called 'nope'; there are tiny"):
        load_pretrained("nope")


@pytest.mark.parametrize("position", [0, -1], ids=["header", "weights"])
def test_one_damaged_byte_is_refused_by_the_name_of_the_file(folder, position):
    save_pretrained("tiny", unet(), card(**UNET))
    file = folder / "tiny.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[position] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"tiny\.safetensors is damaged or not the file its card describes.*sha256"):
        load_pretrained("tiny")


def test_weights_without_a_card_are_refused(folder):
    save_pretrained("tiny", unet(), card(**UNET))
    (folder / "tiny.safetensors.json").unlink()
    with pytest.raises(ValueError, match=r"tiny\.safetensors has no card"):
        load_pretrained("tiny")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (card(**UNET | {"widths": [8, 24]}), "size mismatch"),
        (card("MLP", dim=2), "Missing key"),
        (card("Transformer"), "Transformer"),
        (card(**UNET, depth=3), "depth"),
        (Card("a title", "a source", "MIT"), "model"),
    ],
    ids=["sizes", "class", "unknown class", "unknown argument", "no model"],
)
def test_weights_of_another_architecture_than_the_card_says_are_refused(folder, wrong, words):
    write_weights(folder / "tiny.safetensors", unet().state_dict(), wrong)
    with pytest.raises(ValueError, match=rf"(?s)tiny\.safetensors does not hold the model that its card.*{words}"):
        load_pretrained("tiny")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Card("a title", "a source", "MIT"), "the card of 'a title' describes no model"),
        (card("Transformer"), "no network can be built of 'Transformer'"),
    ],
)
def test_a_card_that_cannot_build_its_model_is_refused_before_anything_is_written(folder, wrong, words):
    with pytest.raises(ValueError, match=words):
        save_pretrained("tiny", unet(), wrong)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", names())
def test_every_shipped_model_is_the_one_its_card_describes(name):
    model, read = load_pretrained(name)
    assert sum(p.numel() for p in model.parameters()) == read.details["parameters"]
    assert all(p.isfinite().all() for p in model.parameters())
    assert read.licence and read.source and read.details["figures"]


def test_weights_of_another_size_than_the_card_says_are_never_written(folder):
    with pytest.raises(ValueError, match=r"(?s)the card does not describe this model: .*size mismatch"):
        save_pretrained("tiny", UNet(widths=(16,)), card())
    assert not list(folder.glob("*.safetensors"))


class Noise(torch.nn.Module):
    """The exact noise of a ring of Gaussians, with one parameter that does nothing."""

    def __init__(self, predicts):
        super().__init__()
        self.nothing, exact = torch.nn.Parameter(torch.zeros(1)), ExactMarginal(GaussianPath(), ring())
        self.null, self.exact = exact.null, convert(exact.velocity, GaussianPath(), "velocity", predicts)

    def forward(self, x, t, y=None):
        return self.exact(x, t, y) + self.nothing


@pytest.mark.parametrize("predicts", ["velocity", "eps", "z", "score"])
def test_whatever_a_network_predicts_a_loaded_model_gives_the_velocity(folder, monkeypatch, predicts):
    monkeypatch.setitem(cards.ARCHITECTURES, "Noise", Noise)
    made = {"class": "Noise", "arguments": {"predicts": predicts}, "predicts": predicts, "path": "linear"}
    save_pretrained("tiny", Noise(predicts), Card("a title", "a source", "MIT", {"model": made}))
    model, _ = load_pretrained("tiny")
    exact, x = ExactMarginal(GaussianPath(), ring()), torch.randn(64, 2)
    t, y = torch.rand(64) * 0.8 + 0.1, torch.arange(64) % 9
    torch.testing.assert_close(model(x, t, y), exact.velocity(x, t, y), rtol=1e-3, atol=1e-3)
    assert model.null == 8 and not model.training and not any(p.requires_grad for p in model.parameters())
    assert isinstance(load_network("tiny")[0], Noise)  # the network itself, to train it further


def test_a_loaded_model_can_be_trained_further_at_once(folder):
    save_pretrained("tiny", unet(), card(**UNET))
    model, _ = load_pretrained("tiny")
    source = ((torch.randn(4, 1, 8, 8), torch.arange(4)) for _ in range(5))
    history = fit(
        model, lambda *batch: cfm_loss(batch[0], GaussianPath(), *batch[1:]), source, steps=5, lr=1e-3, progress=False
    )
    assert history.steps == 5 and not torch.equal(model.head.weight, load_pretrained("tiny")[0].head.weight)


@pytest.mark.parametrize("name", names())
def test_a_card_is_true_of_the_code_what_it_says_of_1000_test_images_comes_out_again(name):
    model, read = load_pretrained(name)
    said = Details.of(read)
    if said.model.predicts is None:
        assert abs(count_wrong(model, limit=1000) - said.figures["wrong of the first 1,000 test images"]) <= 1
    else:
        found = held_out_loss(model, said.model.gaussian_path(), limit=1000)
        assert found == pytest.approx(said.figures["test loss, first 1,000 images"], abs=1e-4)
