"""`python -m labkit retrain`: a tiny training writes weights with an honest card, and can be taken further."""

import functools
import json
from dataclasses import asdict, replace

import pytest
from torch import nn

from labkit.base.files import read_card, write_card
from labkit.course.commands import retrain as command
from labkit.course.commands.retrain import renew_figures, retrain
from labkit.data.images import Labelled, mnist32
from labkit.flow.paths import GaussianPath
from labkit.measure import held_out
from labkit.measure.held_out import count_wrong, held_out_loss
from labkit.training import pretrained
from labkit.training.cards import Details, Network, images_seen
from labkit.training.pretrained import load_pretrained
from labkit.training.recipes import RECIPES, Recipe

TINY = {
    "tiny-judge": Recipe(
        "A classifier",
        Network("ConvNet", {"widths": [2, 3, 4], "dim": 5}),
        batch_size=8,
        steps=3,
        lr=1e-2,
        jitter=0.15,
    ),
    "tiny-unet": Recipe(
        "A generator",
        Network("UNet", {"widths": [8, 8], "emb_dim": 8, "patch": 4}, predicts="velocity", path="linear"),
        batch_size=8,
        steps=3,
        lr=1e-2,
        drop=0.1,
    ),
}
TINY["tiny-noise"] = replace(TINY["tiny-unet"], network=replace(TINY["tiny-unet"].network, predicts="eps"))
genuine = functools.cache(mnist32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Recipes for tiny networks, an empty folder in the place of the assets, and 500 images a split."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "RECIPES", TINY)
    images = {split: Labelled(*(part[:500] for part in genuine(split))) for split in ("train", "test")}
    monkeypatch.setattr(command, "mnist32", images.__getitem__)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(held_out, "mnist32", images.__getitem__)
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    return tmp_path


def weights(name):
    """The parameters of a model in the folder of assets, in one vector."""
    return nn.utils.parameters_to_vector(load_pretrained(name)[0].parameters())


def test_a_name_without_a_recipe_is_refused_with_those_that_have_one():
    with pytest.raises(ValueError, match=f"no recipe is called 'nope'; there are {', '.join(RECIPES)}$"):
        retrain("nope")


@pytest.mark.parametrize("name", TINY)
def test_a_retraining_writes_weights_and_a_card_that_says_how(folder, name):
    written, recipe = retrain(name, seed=4), TINY[name]
    model, card = load_pretrained(name)
    said = Details.of(card)
    assert card.sha256 == written.sha256 and card.details == json.loads(json.dumps(written.details))
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.safetensors", f"{name}.safetensors.json"]
    assert card.title == recipe.title and said.model == recipe.network
    assert said.parameters == sum(p.numel() for p in model.parameters())
    asked = {"batch_size": 8, "steps": 3, "lr": 1e-2, "drop": recipe.drop, "jitter": recipe.jitter}
    came = {"seed": 4, "precision": "float32", "weights": "EMA", "started_from": None, "sha256": None}
    assert asdict(said.trained).items() >= (asked | came).items()
    assert said.trained.profile in ("fast", "cpu", "gpu") and said.trained.seconds >= 0
    assert said.trained.machine.startswith("cpu (") and said.trained.revision and said.trained.started
    loss, everywhere, first = said.figures.values()
    assert 0 < loss < 10 and everywhere == first  # of 500 images
    if name == "tiny-judge":
        assert everywhere == said.figures["wrong of the 10,000 test images"] == count_wrong(model)
    else:
        assert everywhere == pytest.approx(held_out_loss(model, GaussianPath()), abs=1e-5)


def test_a_retraining_follows_its_seed_steps_and_learning_rate(folder):
    def trained(**options):
        card = retrain("tiny-judge", **options)
        return card.sha256, asdict(Details.of(card).trained)

    first, again = trained(), trained()
    assert first[0] == again[0] and first[1]["seed"] == 0
    for name, value in {"seed": 1, "steps": 2, "lr": 1e-3, "batch_size": 4}.items():
        sha256, said = trained(**{name: value})
        assert sha256 != first[0] and said[name] == value


def test_a_retraining_by_the_clock_is_that_of_the_steps_which_its_card_names(folder, monkeypatch):
    asked = []

    def fitting(seconds, train, few):
        asked.append((seconds, train(1).steps))
        return 5

    monkeypatch.setattr(command, "steps_within", fitting)
    card = retrain("tiny-unet", seconds=60.0)
    assert asked == [(60.0, 1)] and Details.of(card).trained.steps == 5
    assert retrain("tiny-unet", steps=5).sha256 == card.sha256  # the trial leaves no trace
    with pytest.raises(ValueError, match="give steps or seconds, not both"):
        retrain("tiny-unet", steps=5, seconds=60.0)


def test_a_retraining_resumes_from_its_checkpoint(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("run") / "run.pt"
    first = retrain("tiny-judge", checkpoint=file)
    assert file.is_file()
    (folder / "tiny-judge.safetensors").unlink()
    assert retrain("tiny-judge", checkpoint=file).sha256 == first.sha256
    with pytest.raises(ValueError, match=r"run\.pt is from another training"):
        retrain("tiny-judge", checkpoint=file, steps=5)


@pytest.mark.parametrize("name", TINY)
def test_training_further_starts_from_what_ships_and_keeps_its_story(folder, name):
    first = retrain(name, lr=0.1)
    shipped = weights(name)
    second = retrain(name, lr=1e-9, steps=2, further=True)
    assert (weights(name) - shipped).abs().max() < 1e-7  # two steps of at most 1e-9, in float32
    trained = Details.of(second).trained
    assert trained.started_from == replace(Details.of(first).trained, sha256=first.sha256)
    assert trained.lr == 1e-9 and trained.steps == 2 and images_seen(second) == 8 * (3 + 2)
    retrain(name, lr=1e-9, steps=2)
    assert (weights(name) - shipped).abs().max() > 1e-3  # from scratch it is elsewhere
    retrain(name, lr=1e-9, steps=2, further=True)
    third = retrain(name, lr=1e-9, steps=2, further=True)
    assert Details.of(third).trained.started_from.started_from.steps == 2  # a story of any length


def test_figures_are_taken_anew_from_the_weights_that_ship_and_nothing_else_changes(folder, monkeypatch):
    first = retrain("tiny-unet")
    card = read_card(folder / "tiny-unet.safetensors")
    foreign = {"test loss (EMA weights)": 7.0, "judged by": 3}
    write_card(
        folder / "tiny-unet.safetensors", replace(card, details=card.details | {"figures": foreign, "measured": {}})
    )
    renewed = renew_figures("tiny-unet")
    assert renewed == read_card(folder / "tiny-unet.safetensors") and renewed.sha256 == first.sha256
    figures = Details.of(first).figures
    del figures["train loss, mean of the last 1000 steps (raw weights)"]
    assert Details.of(renewed) == replace(Details.of(first), figures=figures | {"judged by": 3}, measured={})


def test_nothing_that_ships_cannot_be_trained_further(folder):
    with pytest.raises(ValueError, match="no pretrained model is called 'tiny-unet'; there are none"):
        retrain("tiny-unet", further=True)
