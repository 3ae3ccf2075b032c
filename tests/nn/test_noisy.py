"""The classifier of noisy images: shapes, time, independence within a batch, and that it learns and guides."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from labkit.data.stream import batches
from labkit.flow.ddpm import ddim
from labkit.flow.exact import EmpiricalMarginal
from labkit.flow.guidance import classifier_guided
from labkit.flow.paths import GaussianPath
from labkit.flow.schedules import Table, linear_betas
from labkit.flow.solvers import simulate
from labkit.nn.noisy import NoisyClassifier
from labkit.training.loop import fit
from labkit.training.recipes import noisy_classification_loss


def network():
    """No two sizes are equal, and nothing is at the zeros of its initialisation."""
    torch.manual_seed(0)
    model = NoisyClassifier(3, 7, size=12, widths=(8, 16), patch=2, emb_dim=10).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def batch(n=5):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, 12, 12, dtype=torch.float64, generator=generator)
    return x, torch.linspace(0, 1, n, dtype=torch.float64)


def test_there_is_a_logit_for_every_class_of_every_sample_alone_and_it_hears_the_time():
    model, (x, t) = network(), batch()
    logits = model(x, t)
    assert logits.shape == (5, 7) and (model.num_classes, model.channels, model.null) == (7, 3, None)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(logits, alone)  # in training mode, too: no statistics of the batch
    assert (model(x, t.flip(0)) - logits)[[0, 1, 3, 4]].abs().min() > 1e-6


def test_every_weight_is_trained_and_the_gradient_in_x_is_there():
    model, (x, t) = network(), batch()
    x.requires_grad_(True)
    model(x, t).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters()) and (x.grad.abs() > 0).all()


def test_it_can_be_captured_in_one_graph():
    model, (x, t) = network(), batch()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x, t), model(x, t))


@pytest.mark.parametrize(
    ("x", "t", "words"),
    [
        (torch.zeros(2, 3, 12, 14), torch.zeros(2), r"x must be images of 12 by 12 pixels; got \(2, 3, 12, 14\)"),
        (torch.zeros(2, 1, 12, 12), torch.zeros(2), r"x must have shape \(B, 3, H, W\)"),
        (torch.zeros(2, 3, 12, 12), torch.zeros(3), r"t must have shape \(2,\)"),
    ],
)
def test_other_images_and_times_are_refused(x, t, words):
    with pytest.raises(ValueError, match=words):
        network().float()(x, t)


@pytest.mark.parametrize("sizes", [{"widths": (12,)}, {"size": 30}, {"size": 12, "widths": (8, 8, 8)}])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="widths must be multiples of 8, and size one of"):
        NoisyClassifier(**sizes)


def test_it_learns_by_fit_what_noise_leaves_of_digits_and_guides_to_the_class_asked_for():
    """The field that it guides is exact, of the training images, so that samples are among them, and told no class."""
    digits = load_digits()
    z, y = torch.tensor(digits.images[:, None] / 8 - 1).float(), torch.tensor(digits.target).long()
    (z, unseen), (y, labels) = z.split(1400), y.split(1400)
    path = GaussianPath(Table(linear_betas(200)))
    torch.manual_seed(0)
    model = NoisyClassifier(1, 10, size=8, widths=(16, 32), patch=1, emb_dim=32)
    stream = batches(z, y, 64, torch.Generator().manual_seed(0))
    classifier = fit(model, noisy_classification_loss(path), stream, steps=400, lr=3e-3, progress=False).ema.eval()

    def accuracy(time):
        t = torch.full((len(unseen),), time)
        x = path.sample(unseen, t, generator=torch.Generator().manual_seed(1)).x_t
        return (classifier(x, t).argmax(1) == labels).float().mean().item()

    known = [accuracy(time) for time in (0.0, 0.4, 0.8, 0.995)]
    assert known == sorted(known) and known[0] < 0.2 and known[-1] > 0.85

    exact, asked = EmpiricalMarginal(path, z, y), torch.arange(100) % 10
    noise = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(2))

    def right(w):
        field = classifier_guided(exact.velocity, classifier, asked, w, path, exact.null)
        x = simulate(ddim(field, path, "velocity"), noise, path.schedule.times(50))
        return (y[torch.cdist(x.flatten(1), z.flatten(1)).argmin(1)] == asked).float().mean().item()

    assert right(0.0) < 0.25 < right(1.0) and right(3.0) > 0.75
