"""What once went wrong without a word, or lost work: each case with its right value, or its sentence."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from labkit.base import seeded_noise
from labkit.data import batches
from labkit.flow import (
    ExactMarginal,
    GaussianPath,
    adaptive,
    cfm_loss,
    conditional,
    euler,
    euler_maruyama,
    log_likelihood,
    ring,
    sde_drift,
    simulate,
)
from labkit.measure import Judge, draw, field_error, sliced_w2
from labkit.measure.metrics import density_coverage, frechet_distance
from labkit.nn import DiT, UNet
from labkit.show import tile
from labkit.training import fit, flow_loss, pretrained, save_pretrained

EXACT = ExactMarginal(GaussianPath(), ring(4))
X, TS = torch.tensor([[2.0, 0.0], [0.5, -1.0]]), torch.linspace(0, 1, 41)
NAN = torch.full((9, 2), math.nan)


def velocity(x, t, y=None):
    return EXACT.velocity(x, t)


def first_column(x, t, y=None):
    return EXACT.velocity(x, t)[:, :1]


def training(z=None, y=None, **options):
    torch.manual_seed(0)
    z = torch.rand(20, 1, 8, 8) * 2 - 1 if z is None else z
    y = torch.arange(20) % 5 if y is None else y
    how = {"steps": 2, "lr": 1e-3, "progress": False} | options

    def loss(model, z, y):
        return cfm_loss(model, GaussianPath(), z, y)

    return fit(UNet(num_classes=5, widths=(8,), emb_dim=8), loss, batches(z, y, 4), **how)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_likelihood_needs_no_gradients_of_others(mode):
    with mode():
        found = log_likelihood(velocity, X.clone(), TS)
    torch.testing.assert_close(found, log_likelihood(velocity, X, TS))
    assert abs(found[0].item() - ring(4).log_prob(X)[0].item()) < 0.01


@pytest.mark.parametrize("field", [torch.no_grad()(velocity), lambda x, t: velocity(x, t).detach()])
def test_a_field_without_gradients_has_no_likelihood(field):
    with pytest.raises(ValueError, match="field gives no gradient"):
        log_likelihood(field, X, TS)


def test_the_flow_of_a_constant_field_has_one():
    found = log_likelihood(lambda x, t: torch.ones_like(x), X, TS)  # moves N(0, I) by 1 in every direction
    torch.testing.assert_close(found, torch.distributions.Normal(1.0, 1.0).log_prob(X).sum(1), rtol=0, atol=1e-4)


REFUSED = {
    "labels from 1 to K, of which K means none given": (
        lambda: training(y=torch.arange(20) % 5 + 1), ValueError, "count from 0"),
    "pixels in [0, 1]": (lambda: training(torch.rand(20, 1, 8, 8)), ValueError, "black is -1 here"),
    "pixels in 0..255": (lambda: training(255 * torch.rand(20, 1, 8, 8)), ValueError, "black is -1 here"),
    "a checkpoint that is a folder": (lambda: training(checkpoint="."), ValueError, "checkpoint must be a file"),
    "a checkpoint without a name": (lambda: training(checkpoint=""), ValueError, "checkpoint must be a file"),
    "a checkpoint below a file": (
        lambda: training(checkpoint=f"{__file__}/run.pt"), ValueError, "checkpoint must be a file"),
    "a model without weights": (
        lambda: fit(torch.nn.Identity(), lambda m, z, y: z.sum(), [], steps=1, lr=1.0), ValueError, "model must have"),
    "a loss for each sample": (
        lambda: fit(UNet(num_classes=5, widths=(8,), emb_dim=8), lambda m, z, y: z.flatten(1).sum(1),
                    batches(torch.rand(8, 1, 8, 8) * 2 - 1, torch.zeros(8, dtype=torch.int64), 4),
                    steps=1, lr=1.0, progress=False), TypeError, "loss_fn must return one number"),
    "a field of one column": (lambda: field_error(first_column, EXACT, times=2, n=9), ValueError, "shaped like x"),
    "a score of one column": (
        lambda: simulate(euler_maruyama(sde_drift(velocity, first_column, 0.5), 0.5), X, TS), ValueError, "the score"),
    "a model of one column": (
        lambda: conditional(first_column, torch.zeros(2, dtype=torch.int64))(X, torch.ones(2) / 2), ValueError,
        "the model's value must be shaped like x"),
    "whole points": (lambda: ring(4).log_prob(X.long()), TypeError, "x must be a floating-point tensor"),
    "a negative tolerance": (lambda: adaptive(velocity, X, TS, rtol=-1.0), ValueError, "rtol must be a finite number"),
    "an infinite tolerance": (lambda: adaptive(velocity, X, TS, atol=math.inf), ValueError, "atol must be a finite"),
    "NaN in a distance": (lambda: sliced_w2(NAN, X), ValueError, "finite"),
    "NaN in a Frechet distance": (lambda: frechet_distance(NAN, NAN), ValueError, "finite"),
    "NaN in density and coverage": (lambda: density_coverage(NAN, NAN), ValueError, "finite"),
    "NaN in a picture": (lambda: tile(torch.full((1, 1, 4, 4), math.nan), 1), ValueError, "images must be a finite"),
    "no projections": (lambda: sliced_w2(X, X + 1, projections=0), ValueError, "projections must be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_once_passed_in_silence_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_name_that_ships_or_leads_elsewhere_is_not_written_over(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "write_weights", lambda *given: pytest.fail("written"))
    _, card = pretrained.load_network("mnist-unet-weak")
    for name, words in (("mnist-unet-weak", "that ships"), ("../../elsewhere", "without a folder"), ("", "a file")):
        with pytest.raises(ValueError, match=words):
            save_pretrained(name, torch.nn.Identity(), card)


def test_arrays_and_lists_of_labels_are_data_too():
    z, y = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32), [0, 1, 2, 0, 1, 2]
    points, labels = next(batches(z, y, 6))
    assert points.dtype == torch.float32 and sorted(labels.tolist()) == sorted(y)
    judge, x = Judge.pretrained(), torch.zeros(3, 1, 32, 32)
    assert judge.accuracy(x, [0, 1, 2]) == judge.accuracy(x, np.arange(3)) == judge.accuracy(x, torch.arange(3))


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, StopIteration], ids=lambda end: end.__name__)
def test_whatever_ends_a_training_leaves_its_history_and_the_average(end):
    class Ends(batches):
        def __next__(self):
            self.taken = getattr(self, "taken", 0) + 1
            if self.taken > 60:
                raise end("stop")
            return super().__next__()

    torch.manual_seed(0)
    model, z = UNet(num_classes=5, widths=(8,), emb_dim=8), torch.rand(20, 1, 8, 8) * 2 - 1
    with pytest.raises((end, ValueError)) as caught:
        stream = Ends(z, torch.arange(20) % 5, 4)
        fit(model, lambda m, z, y: cfm_loss(m, GaussianPath(), z, y), stream, steps=99, lr=1e-3, progress=False)
    history = caught.value.history
    assert history.steps == 50 and len(history.losses) == 50 and not history.ema.training and not model.training
    assert any((a != b).any() for a, b in zip(history.ema.parameters(), model.parameters(), strict=True))


def test_a_stream_that_cannot_be_resumed_is_refused_before_the_training():
    pairs = [(torch.rand(4, 1, 8, 8) * 2 - 1, torch.zeros(4, dtype=torch.int64))] * 3
    model = UNet(num_classes=5, widths=(8,), emb_dim=8)
    with pytest.raises(ValueError, match="stream must have state_dict"):
        fit(model, lambda m, z, y: cfm_loss(m, GaussianPath(), z, y), pairs, steps=3, lr=1e-3, checkpoint="run.pt")


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)], ids=str
)
@pytest.mark.parametrize("kind", ["U-Net", "DiT"])
def test_networks_of_every_precision_draw_alike(kind, dtype, close):
    torch.manual_seed(0)
    own = {"widths": (8,), "emb_dim": 8} if kind == "U-Net" else {"image_size": 8, "patch": 4, "width": 8, "depth": 1}
    network = UNet(num_classes=3, **own) if kind == "U-Net" else DiT(num_classes=3, heads=2, **own)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    noise, y = seeded_noise(3, 1, 8, 8), torch.arange(3)
    wanted = draw(network, noise, y, 2.0, steps=2)
    found = draw(copy.deepcopy(network).to(dtype), noise, y, 2.0, steps=2)
    assert found.dtype == torch.float32 and wanted.std() > 0.1
    assert (found - wanted).square().mean().sqrt() < close
    with pytest.raises(TypeError, match=f"x must be of {dtype}, as the weights are; got torch.float32"):
        copy.deepcopy(network).to(dtype)(noise, torch.ones(3) / 2, y)


def test_a_model_that_is_told_nothing_draws_and_so_does_one_in_data_parallel():
    torch.manual_seed(0)
    alone, noise = UNet(num_classes=None, widths=(8,), emb_dim=8), seeded_noise(3, 1, 8, 8)
    torch.testing.assert_close(draw(alone, noise, None, 1.0, steps=2), noise.clamp(-1, 1))  # a new one stands still
    with pytest.raises(ValueError, match="w must be 1 where nothing is told"):
        draw(alone, noise, None, 2.0)
    network, y = UNet(num_classes=3, widths=(8,), emb_dim=8), torch.arange(3)
    wrapped = draw(torch.nn.DataParallel(network), noise, y, 2.0, steps=2)
    torch.testing.assert_close(wrapped, draw(network, noise, y, 2.0, steps=2))


def test_a_flow_can_be_differentiated_where_that_is_asked_for():
    x = torch.randn(4, 2, requires_grad=True)
    step = euler(lambda x, t: x)
    assert not simulate(step, x, torch.linspace(0, 1, 3)).requires_grad
    simulate(step, x, torch.linspace(0, 1, 3), gradients=True).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1.5**2))


def test_a_loader_of_torchs_is_a_stream():
    torch.manual_seed(0)
    pairs = TensorDataset(torch.rand(12, 1, 8, 8) * 2 - 1, torch.arange(12) % 3)
    network = UNet(num_classes=3, widths=(8,), emb_dim=8)
    history = fit(network, flow_loss(), DataLoader(pairs, 4), steps=3, lr=1e-3, progress=False)
    assert history.steps == 3
    with pytest.raises(ValueError, match="the stream ended after 3 steps") as caught:
        fit(network, flow_loss(), DataLoader(pairs, 4), steps=9, lr=1e-3, progress=False)
    assert caught.value.history is not None


def test_a_checkpoint_lies_where_a_tilde_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    training(checkpoint="~/run.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
