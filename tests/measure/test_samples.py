"""Finished images from models whose flow is known: what comes out, from which noise, and at what cost."""

import pytest
import torch
from torch import nn

from labkit.data.images import balanced_labels
from labkit.measure.samples import draw_images
from labkit.training.pretrained import load_pretrained

MEANS = torch.tensor([-0.4, 0.0, 0.3, -0.2])  # of the classes 0, 1, 2 and of null
STD = 0.4
Y = torch.tensor([0, 2, 1, 1, 3, 0, 2])


class Gaussians(nn.Module):
    """The exact field of data N(mean_y, STD^2) in every pixel; it writes down how often each label was asked for."""

    channels, num_classes = 2, 3

    def __init__(self, means=MEANS):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.means = means
        self.calls, self.labels, self.times = [], [], []

    def forward(self, x, t, y):
        self.calls.append(len(x))
        self.labels += y.tolist()
        self.times += t[:1].tolist()
        t, mean = t.reshape(-1, 1, 1, 1), self.means[y].reshape(-1, 1, 1, 1)
        variance = (t * STD) ** 2 + (1 - t) ** 2
        return self.scale * (mean + (t * STD**2 - (1 - t)) / variance * (x - t * mean))


def draw(w=1.0, y=Y, model=None, **options):
    return draw_images(model or Gaussians(), y, w, **({"size": 4} | options))


def flow_map(noise, w=1.0, y=Y):
    """Where the flow takes noise: a field that is linear in the mean is guided by moving the mean."""
    mean = (1 - w) * MEANS[3] + w * MEANS[y]
    return (mean.reshape(-1, 1, 1, 1) + STD * noise).clamp(-1, 1)


def noise(seed=0, n=7, size=4):
    return torch.randn(n, 2, size, size, generator=torch.Generator().manual_seed(seed))


def test_balanced_labels_take_turns():
    assert balanced_labels(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert balanced_labels(0, 3).tolist() == [] and balanced_labels(2, 10).tolist() == [0, 1]
    counts = balanced_labels(1007, 10).bincount()
    assert balanced_labels(1007, 10).dtype == torch.int64 and counts.sum() == 1007
    assert counts.max() - counts.min() == 1


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_images_are_where_the_exact_flow_takes_the_noise(w):
    errors = [(draw(w, steps=steps) - flow_map(noise(), w)).abs().max().item() for steps in (16, 32, 64)]
    assert errors[0] < 0.02
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3  # the midpoint method is of order 2 at least


def test_images_are_clipped_as_they_are_when_shown():
    x = draw(noise=6 * noise(), steps=64)
    assert x.min() == -1 and x.max() == 1
    torch.testing.assert_close(x, flow_map(6 * noise()), rtol=0, atol=0.01)


def test_the_start_is_the_noise_given_or_drawn_from_the_seed():
    before = torch.get_rng_state()
    assert torch.equal(draw(), draw(noise=noise()))
    assert torch.equal(draw(seed=5), draw(noise=noise(seed=5)))
    assert not torch.equal(draw(seed=5), draw())
    assert torch.equal(draw(seed=5, noise=noise()), draw())
    assert torch.equal(torch.get_rng_state(), before)  # torch's global randomness is left alone


def test_every_guidance_scale_starts_from_the_same_noise():
    model = Gaussians(torch.full((4,), 0.1))  # in which labels make no difference, and so neither does guidance
    for w in (0.0, 2.0, 7.5):
        torch.testing.assert_close(draw(w, model=model), draw(1.0, model=model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("w", [1.0, 3.0])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_images_do_not_depend_on_those_they_travel_with(w, chunk):
    model = Gaussians()
    torch.testing.assert_close(draw(w, model=model, chunk=chunk), draw(w), rtol=0, atol=1e-6)
    assert max(model.calls) == min(chunk, len(Y)) * (1 if w == 1 else 2)


@pytest.mark.parametrize(("w", "branches"), [(0.0, ["null"]), (1.0, ["y"]), (3.0, ["null", "y"])])
def test_every_branch_of_guidance_is_evaluated_twice_a_step(w, branches):
    model = Gaussians()
    y = torch.tensor([0, 1, 0])
    draw(w, y, model, steps=5)
    asked = [model.labels.count(label) for label in (0, 1, 3)]
    assert len(model.calls) == 2 * 5
    assert asked == [20 * ("y" in branches), 10 * ("y" in branches), 30 * ("null" in branches)]


def test_the_midpoint_method_looks_at_the_start_and_the_middle_of_every_step_and_never_at_the_end():
    model = Gaussians()
    draw(model=model, steps=4)
    assert model.times == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]


def test_sixteen_steps_are_the_default():
    model = Gaussians()
    draw(model=model)
    assert len(model.calls) == 32


def test_images_are_32_pixels_wide_unless_asked_for_otherwise():
    model, y = Gaussians(), torch.tensor([0, 2])
    assert draw_images(model, y, 1.0, steps=1).shape == (2, 2, 32, 32)
    assert draw_images(model, y, 1.0, steps=1, size=5).shape == (2, 2, 5, 5)


def test_images_come_to_the_cpu_without_a_gradient():
    model = Gaussians()
    x = draw(model=model)
    assert model.scale.requires_grad and not x.requires_grad
    assert x.device.type == "cpu" and x.dtype == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"y": torch.tensor([0, 4])}, r"y must hold labels in 0\.\.3; got values from 0 to 4"),
        ({"y": torch.tensor([0, 11])}, r"y must hold labels in 0\.\.3; got values from 0 to 11"),
        ({"y": torch.tensor([-1, 2])}, r"y must hold labels in 0\.\.3; got values from -1"),
        ({"y": torch.tensor([[0, 1]])}, "y must have shape"),
        ({"noise": noise(size=5)}, r"noise must have shape \(7, 2, 4, 4\); got \(7, 2, 5, 5\)"),
        ({"noise": noise()[:, :1]}, r"noise must have shape \(7, 2, 4, 4\); got \(7, 1, 4, 4\)"),
        ({"noise": noise(n=6)}, r"must have shape .*got shape \(7,\)"),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"steps": -3}, "steps must be at least 1; got -3"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name_before_the_model_is_asked(options, words):
    model = Gaussians()
    with pytest.raises(ValueError, match=words):
        draw(model=model, **options)
    assert not model.calls


def test_half_precision_is_used_only_where_it_is_asked_for(monkeypatch):
    model, _ = load_pretrained("mnist-unet")
    monkeypatch.setenv("LABKIT_PRECISION", "bfloat16")
    full, half, again = (draw_images(model, torch.tensor([3, 8]), 1.0, steps=2, half=h) for h in (False, True, False))
    assert torch.equal(full, again) and half.dtype == torch.float32
    assert 1e-5 < (half - full).abs().mean() < 0.05
