"""Recipes: a loss asks for what its name says, pictures are moved a little, and what ships is what its recipe says."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from labkit.data.images import mnist32, to_float
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import ring
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.schedules import Cosine, Table
from labkit.training.cards import Details, Network
from labkit.training.pretrained import load_network
from labkit.training.recipes import (
    RECIPES,
    Recipe,
    classification_loss,
    flow_loss,
    jitter,
    noisy_classification_loss,
)

PATH = GaussianPath()
genuine = functools.cache(mnist32)


class Knowing(nn.Module):
    """It knows that all data are 0, gives one prediction of that, and remembers its conditions."""

    def __init__(self, gives):
        super().__init__()
        self.gives, self.null, self.told = gives, 3, []

    def forward(self, x, t, y):
        self.told.append(y)
        return getattr(complete(PATH, x, t, z=torch.zeros_like(x)), self.gives)


@pytest.mark.parametrize("predicts", ["velocity", "eps", "score"])
@pytest.mark.parametrize("gives", ["velocity", "eps", "score"])
def test_a_flow_loss_is_zero_for_the_truth_in_the_prediction_that_it_names_and_for_no_other(predicts, gives):
    torch.manual_seed(0)
    loss = flow_loss(PATH, 0.0, predicts)(Knowing(gives), torch.zeros(4000, 2), torch.zeros(4000).long())
    assert loss < 1e-8 if gives == predicts else loss > 0.25


def test_a_flow_loss_drops_a_share_of_the_conditions_for_the_models_own_null():
    model, y = Knowing("velocity"), torch.arange(20_000) % 3
    flow_loss(PATH, 0.2)(model, torch.zeros(20_000, 1), y)
    dropped = model.told[0] == 3
    assert torch.equal(model.told[0][~dropped], y[~dropped])
    assert abs(dropped.double().mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 20_000)


def test_a_model_without_conditions_is_told_none_and_one_that_does_not_say_is_refused():
    model = Knowing("velocity")
    model.null = None
    assert flow_loss()(model, torch.zeros(8, 1), torch.zeros(8).long()) < 1e-8 and model.told == [None]
    del model.null
    with pytest.raises(ValueError, match="null"):
        flow_loss()(model, torch.zeros(8, 1), torch.zeros(8).long())


def test_a_prediction_without_a_loss_is_refused():
    with pytest.raises(ValueError, match="predicts must be one of velocity, eps, score; got 'z'"):
        flow_loss(PATH, 0.1, "z")


def test_a_recipe_trains_generators_on_its_path_and_classifiers_by_cross_entropy():
    def recipe(**made):
        return Recipe("a title", Network("MLP", {}, **made), batch_size=1, steps=1, lr=1e-3)

    y = torch.zeros(64).long()
    loss_fn = recipe(predicts="eps", path="square root").loss_fn()
    # x = t z + sqrt(1 - t) eps with z from N(0, 1): E|x - eps|^2 = E t^2 + E (1 - sqrt(1 - t))^2 = 1/3 + 1/6.
    torch.manual_seed(0)
    loss = loss_fn(Same(), torch.randn(40_000, 1), torch.zeros(40_000).long())
    assert loss.item() == pytest.approx(1 / 2, abs=0.02)
    certain = classification_loss(0.1)(lambda x: 5 * one_hot(y, 10).float(), torch.zeros(64, 1, 8, 8), y)
    assert certain.item() == pytest.approx(math.log(1 + 9 * math.exp(-5)), rel=1e-4)
    assert recipe().loss_fn()(lambda x: torch.zeros(64, 10), torch.zeros(64, 1, 8, 8), y).item() == pytest.approx(
        math.log(10)
    )


@pytest.mark.parametrize("schedule", [Cosine(), Table()], ids=["cosine", "table"])
def test_the_perfect_classifier_of_noisy_points_has_the_least_loss_of_its_path_and_less_than_one_of_another(schedule):
    exact, other = (ExactMarginal(GaussianPath(s), ring(4, std=0.5)) for s in (schedule, None))
    z, y = exact.mixture.sample(20_000, torch.Generator().manual_seed(0))

    def loss(logits, path=exact.path):
        torch.manual_seed(0)  # the same times and noise for all
        return noisy_classification_loss(path)(logits, z, y).item()

    least = loss(exact.class_logits)
    for wrong in (
        other.class_logits,
        lambda x, t: 1.3 * exact.class_logits(x, t),
        lambda x, t: 0 * x.new_ones(20_000, 4),
    ):
        assert loss(wrong) > least + 1e-3
    assert loss(lambda x, t: 0 * x.new_ones(20_000, 4)) == pytest.approx(math.log(4))
    torch.manual_seed(0)
    assert noisy_classification_loss()(other.class_logits, z, y).item() < loss(exact.class_logits, other.path)


class Same(nn.Module):
    """It takes x for the noise."""

    null = 10

    def forward(self, x, t, y):
        return x


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


def test_a_classifier_is_shown_images_moved_by_the_amount_that_was_asked_for():
    shown, z, y = [], blobs(3), torch.arange(3)

    def model(x):
        shown.append(x)
        return torch.zeros(3, 10)

    for amount in (0.0, 0.15):
        torch.manual_seed(0)
        classification_loss(amount)(model, z, y)
    torch.manual_seed(0)
    assert torch.equal(shown[1], jitter(z, 0.15)) and (shown[1] - z).abs().max() > 0.1
    torch.testing.assert_close(shown[0], z, rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("name", RECIPES)
def test_what_ships_is_what_its_recipe_describes(name):
    _, card = load_network(name)
    said, recipe = Details.of(card), RECIPES[name]
    assert said.model == recipe.network and card.title == recipe.title
    assert (said.trained.drop, said.trained.jitter) == (recipe.drop, recipe.jitter)
    assert card.source.startswith(f"python -m labkit retrain {name}, on the 60,000 MNIST training images")
