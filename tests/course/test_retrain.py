"""`python -m labkit retrain`: pictures are moved a little, and a tiny training writes weights with an honest card."""

import functools
import json
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from labkit.course.commands import retrain as command
from labkit.course.commands.retrain import retrain
from labkit.data.images import LabelledImages, mnist32, to_float
from labkit.flow.paths import GaussianPath
from labkit.measure.held_out import count_wrong, held_out_loss
from labkit.training import pretrained
from labkit.training.pretrained import ARCHITECTURES, load_pretrained
from labkit.training.recipes import RECIPES, jitter

TINY = {
    "tiny-judge": {
        "title": "A classifier",
        "model": {"class": "ConvNet", "arguments": {"widths": (2, 3, 4), "dim": 5}},
        "trained": {"batch_size": 8, "steps": 3, "lr": 1e-2, "jitter": 0.15},
    },
    "tiny-unet": {
        "title": "A generator",
        "model": {"class": "UNet", "arguments": {"widths": (8, 8), "emb_dim": 8, "patch": 4}},
        "trained": {"batch_size": 8, "steps": 3, "lr": 1e-2, "drop": 0.1},
    },
}
genuine = functools.cache(mnist32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Recipes for tiny networks, an empty folder in the place of the assets, and 500 images a split."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "RECIPES", TINY)
    images = {split: LabelledImages(*(part[:500] for part in genuine(split))) for split in ("train", "test")}
    monkeypatch.setattr(command, "mnist32", images.__getitem__)
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    return tmp_path


def weights(name):
    """The parameters of a model in the folder of assets, in one vector."""
    return nn.utils.parameters_to_vector(load_pretrained(name)[0].parameters())


def blobs(n):
    """n times the same oblong blob in the middle of the picture, its long axis along the rows; background -1."""
    place = torch.arange(32) - 15.5
    blob = (-(place[None, :] ** 2) / (2 * 4.0**2) - place[:, None] ** 2 / (2 * 2.0**2)).exp()
    return (2 * blob - 1).expand(n, 1, 32, 32)


def moments(z):
    """Mass, centre (in pixels from the middle) and tilt of the long axis (in radians) of every picture."""
    light, place = (z[:, 0] + 1).double(), torch.arange(32, dtype=torch.float64) - 15.5
    mass = light.sum((1, 2))
    x, y = ((light * axis).sum((1, 2)) / mass for axis in (place[None, :], place[:, None]))
    dx, dy = place[None, None, :] - x[:, None, None], place[None, :, None] - y[:, None, None]
    xx, yy, xy = ((light * a * b).sum((1, 2)) / mass for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    return mass, torch.stack((x, y), dim=1), 0.5 * torch.atan2(2 * xy, xx - yy)


def test_no_jitter_changes_nothing():
    z = to_float(genuine("train").images[:20])
    torch.testing.assert_close(jitter(z, 0.0), z, rtol=0, atol=1e-5)


def test_jitter_turns_stretches_and_shifts_up_to_the_amount_and_each_picture_in_its_own_way():
    torch.manual_seed(0)
    amount, n = 0.15, 300
    (mass, _, _), (masses, centres, tilts) = moments(blobs(1)), moments(jitter(blobs(n), amount))
    factors = (mass / masses).sqrt()  # of the coordinates: the picture shrinks by them
    for found, limit in ((tilts, amount), (factors - 1, amount)):
        assert found.abs().max() < limit + 0.01  # a hundredth for the interpolation
        assert found.max() > 0.9 * limit and found.min() < -0.9 * limit
    # The shift acts before the turn, in units of half a width that the factor shrinks.
    shifts = centres * factors[:, None] / 16
    assert shifts.norm(dim=1).max() < amount * math.sqrt(2) + 0.01
    assert shifts.norm(dim=1).max() > amount and shifts.mean(0).abs().max() < 4 * amount / math.sqrt(3 * n)
    correlations = torch.corrcoef(torch.cat((tilts[None], factors[None], shifts.T))) - torch.eye(4)
    assert correlations.abs().max() < 0.3  # four draws, not one for all


def test_jitter_keeps_the_background_and_the_range_and_repeats_with_the_seed():
    z = to_float(genuine("train").images[:100])
    first, again, other = (jitter(z, 0.15) for _ in (torch.manual_seed(s) for s in (1, 1, 2)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == z.shape and first.dtype == z.dtype
    assert (first[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]] == -1).all()
    assert first.min() >= -1 and first.max() <= 1 + 1e-5
    assert (first - z).abs().amax(dim=(1, 2, 3)).min() > 0.1  # every one of them has moved


def test_a_name_without_a_recipe_is_refused_with_those_that_have_one():
    with pytest.raises(ValueError, match=f"no recipe is called 'nope'; there are {', '.join(RECIPES)}$"):
        retrain("nope")


@pytest.mark.parametrize("name", RECIPES)
def test_what_ships_is_what_its_recipe_describes(name):
    described = json.loads(json.dumps(RECIPES[name]["model"]))
    _, card = load_pretrained(name)
    assert card.details["model"] == described and card.title == RECIPES[name]["title"]
    assert card.source.startswith(f"python -m labkit retrain {name}, on the 60,000 MNIST training images")


@pytest.mark.parametrize(
    ("name", "figure"),
    [("tiny-judge", "wrong of the 10,000 test images"), ("tiny-unet", "test loss (EMA weights)")],
)
def test_a_retraining_writes_weights_and_a_card_that_says_how(folder, name, figure):
    written = retrain(name, seed=4)
    model, card = load_pretrained(name)
    assert card.sha256 == written.sha256 and card.details == json.loads(json.dumps(written.details))
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.safetensors", f"{name}.safetensors.json"]
    assert isinstance(model, ARCHITECTURES[TINY[name]["model"]["class"]])
    assert card.details["parameters"] == sum(p.numel() for p in model.parameters())
    trained = card.details["trained"]
    assert trained.items() >= (TINY[name]["trained"] | {"seed": 4, "precision": "float32", "weights": "EMA"}).items()
    assert trained["profile"] in ("fast", "cpu", "gpu") and "from" not in trained
    assert card.details["machine"].startswith("cpu (") and card.details["revision"]
    loss, score = card.details["figures"].values()
    assert figure in card.details["figures"] and 0 < loss < 10
    if name == "tiny-judge":
        assert score == count_wrong(model)
    else:
        assert score == pytest.approx(held_out_loss(model, GaussianPath()), abs=1e-5)


def test_a_retraining_follows_its_seed_steps_and_learning_rate(folder):
    def trained(**options):
        card = retrain("tiny-judge", **options)
        return card.sha256, card.details["trained"]

    first, again = trained(), trained()
    assert first[0] == again[0] and first[1]["seed"] == 0
    for name, value in {"seed": 1, "steps": 2, "lr": 1e-3, "batch_size": 4}.items():
        sha256, said = trained(**{name: value})
        assert sha256 != first[0] and said[name] == value


def test_a_retraining_by_the_clock_is_that_of_the_steps_which_its_card_names(folder, monkeypatch):
    asked = []

    def fitting(seconds, train):
        asked.append((seconds, train(1).steps))
        return 5

    monkeypatch.setattr(command, "steps_within", fitting)
    card = retrain("tiny-unet", seconds=60.0)
    assert asked == [(60.0, 1)] and card.details["trained"]["steps"] == 5
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
    before = second.details["trained"]["from"]
    assert before == first.details["trained"] | {"revision": first.details["revision"], "sha256": first.sha256}
    assert second.details["trained"]["lr"] == 1e-9 and second.details["trained"]["steps"] == 2
    retrain(name, lr=1e-9, steps=2)
    assert (weights(name) - shipped).abs().max() > 1e-3  # from scratch it is elsewhere
    retrain(name, lr=1e-9, steps=2, further=True)
    third = retrain(name, lr=1e-9, steps=2, further=True)
    assert third.details["trained"]["from"]["from"]["steps"] == 2  # a story of any length


def test_nothing_that_ships_cannot_be_trained_further(folder):
    with pytest.raises(ValueError, match="no pretrained model is called 'tiny-unet'; there are none"):
        retrain("tiny-unet", further=True)


class Stubborn(nn.Module):
    """A classifier that always answers 3, and a field that stands still."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.tensor(0.0))

    def forward(self, x, t=None, y=None):
        if t is None:
            return one_hot(torch.full((len(x),), 3), 10) + self.zero
        assert t.min() > 0 and t.max() < 1 and y.max() <= 9 and not self.zero.requires_grad
        return self.zero * x


def test_whoever_always_answers_three_is_wrong_about_all_other_digits():
    assert count_wrong(Stubborn()) == (genuine("test").labels != 3).sum() == 8_990


def test_the_held_out_loss_of_a_field_that_stands_still_is_the_mean_square_of_data_minus_noise():
    model, path = Stubborn().requires_grad_(False), GaussianPath()
    loss, square = held_out_loss(model, path), to_float(genuine("test").images).square().mean().item()
    # E (z - eps)^2 = z^2 + 1, its variance 2 + 4 z^2; four standard errors over all pixels.
    assert loss == pytest.approx(square + 1, abs=4 * math.sqrt((2 + 4 * square) / (10_000 * 1024)))
    assert held_out_loss(model, path) == loss
