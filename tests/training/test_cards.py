"""The schema of a card: what is written is what is read, stories of any length, and no key that nobody knows."""

import json

import pytest
import torch

from labkit.base.files import FOLDER, Card, read_card
from labkit.flow.schedules import Cosine
from labkit.nn.mlp import MLP
from labkit.training.cards import ARCHITECTURES, SCHEDULES, Details, Network, Training, images_seen, network_of
from labkit.training.pretrained import names

FIRST = Training(batch_size=64, steps=100, lr=1e-3, seed=0, drop=0.1, sha256="abc")
SECOND = Training(batch_size=32, steps=10, lr=1e-4, seed=1, drop=0.1, started_from=FIRST)
THIRD = Training(batch_size=8, steps=5, lr=1e-5, seed=2, machine="a toaster", seconds=7, started_from=SECOND)
NETWORK = Network("MLP", {"dim": 2, "width": 8}, predicts="eps", path="cosine")


def card(trained=THIRD, **details):
    made = Details(NETWORK, 99, trained, {"loss": 0.5}).to_dict() | details
    return Card("a title", "a source", "MIT", json.loads(json.dumps(made)))


def shipped():
    return [read_card(FOLDER / f"{name}.safetensors") for name in names()]


@pytest.mark.parametrize("measured", [None, {"w=1": {"n": 3}}])
def test_what_is_written_is_what_is_read(measured):
    details = Details(NETWORK, 99, THIRD, {"loss": 0.5}, measured)
    assert Details.of(Card("a title", "a source", "MIT", json.loads(json.dumps(details.to_dict())))) == details
    assert "measured" not in card().details and card().details["model"]["class"] == "MLP"
    assert card().details["trained"]["started from"]["started from"]["sha256"] == "abc"


def test_every_shipped_card_is_of_the_schema_and_says_nothing_beside_it():
    for read in shipped():
        assert Details.of(read).to_dict() == read.details


def test_images_are_counted_over_the_whole_story():
    assert [images_seen(card(t)) for t in (FIRST, SECOND, THIRD)] == [6400, 6720, 6760]
    seen = dict(zip(names(), map(images_seen, shipped()), strict=True))
    assert seen["mnist-unet-weak"] == 64 * 1_500 and seen["mnist-judge"] == 128 * 4_000


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (card(trained=FIRST, trained_by="me"), "no good details: 'trained_by'"),
        (card(model={"class": "MLP"}), "no good network: .*arguments"),
        (card(trained={"steps": 3, "from": {}}), "no good training: 'from'"),
        (card(trained={"steps": 3}), "no good training: .*batch_size"),
        (Card("a title", "a source", "MIT"), "no good details: .*model"),
    ],
)
def test_a_card_with_unknown_or_missing_entries_is_refused_by_their_names(wrong, words):
    with pytest.raises(ValueError, match=f"the card of 'a title' has {words}"):
        Details.of(wrong)


def test_a_network_builds_itself_and_knows_its_path():
    network = network_of(card())
    assert network == NETWORK and isinstance(network.build(), MLP) and network.build().dim == 2
    t = torch.rand(5)
    assert torch.equal(network.gaussian_path().schedule(t).alpha_t, Cosine()(t).alpha_t)
    with pytest.raises(ValueError, match="path must be one of linear, square root, cosine, ddpm; got None"):
        Network("MLP", {}).gaussian_path()
    for kind, arguments in (("Transformer", {}), ("MLP", {"colour": 3})):
        with pytest.raises(ValueError, match=f"no network can be built of '{kind}'"):
            Network(kind, arguments).build()
    with pytest.raises(ValueError, match="the card of 'a title' describes no model"):
        network_of(Card("a title", "a source", "MIT"))


def test_every_name_of_a_path_and_of_a_network_is_one():
    for name in SCHEDULES:
        Network("MLP", {}, "velocity", name).gaussian_path()
    for kind in ARCHITECTURES:
        assert Network(kind, {}).build().num_classes in (None, 10)
