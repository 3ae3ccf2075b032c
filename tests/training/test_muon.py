"""Muon: equal singular values, torch's own Muon as an oracle, and a training that it shortens."""

import pytest
import torch

from labkit.data import batches
from labkit.flow import ring
from labkit.nn import DiT, UNet
from labkit.nn.mlp import MLP
from labkit.training import fit, flow_loss
from labkit.training.muon import Muon, inner_weights, orthogonal


@pytest.mark.parametrize("shape", [(32, 32), (24, 100), (100, 24)])
def test_all_singular_values_become_nearly_one_and_the_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonal(matrix) @ v.T
    assert s.max() / s.min() > 2.5
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.6 < values.min() and values.max() < 1.3
    assert (found - found.diag().diag()).abs().max() < 0.1  # bfloat16 has three digits


def test_what_has_one_direction_keeps_it():
    matrix = torch.outer(torch.randn(20), torch.randn(30))
    u, _, v = torch.linalg.svd(matrix)
    assert 0.6 < u[:, 0] @ orthogonal(matrix) @ v[0] < 1.3
    assert not orthogonal(torch.zeros(20, 30)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has its own Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_it_takes_the_steps_of_torchs_own(shape):
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    both = Muon([ours], 0.02, weight_decay=0.1), torch.optim.Muon([theirs], 0.02, weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimizer in both:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)  # both round to bfloat16 on their way


def test_a_convolution_is_a_matrix_of_outputs_by_inputs_whatever_its_layout():
    torch.manual_seed(0)
    flat = torch.nn.Parameter(torch.randn(16, 8 * 9))
    convolution = torch.nn.Parameter(flat.detach().view(16, 8, 3, 3).clone())
    last = torch.nn.Parameter(convolution.detach().clone().to(memory_format=torch.channels_last))
    gradient = torch.randn(16, 8 * 9)
    for weight in (flat, convolution, last):
        weight.grad = gradient.view(weight.shape).clone(memory_format=torch.preserve_format)
        Muon([weight], 0.1).step()
    assert torch.equal(flat.view(16, 8, 3, 3), convolution)
    torch.testing.assert_close(last, convolution, rtol=0, atol=2e-3)


def test_it_is_for_the_inner_layers():
    names = {}
    for network in (UNet(widths=(16, 32)), DiT(image_size=8, width=32, depth=1, heads=2), MLP(2, 3, width=32)):
        chosen = {id(weight) for weight in inner_weights(network)}
        names[type(network).__name__] = [name for name, w in network.named_parameters() if id(w) in chosen]
    assert "encoder.0.0.conv_in.weight" in names["UNet"] and "midcoder.1.qkv.weight" in names["UNet"]
    assert not any(name.startswith(("stem", "head", "conditioning")) for of in names.values() for name in of)
    assert names["MLP"] == ["body.0.weight", "body.2.weight", "body.4.weight"]
    assert not any(name.endswith("bias") or "norm" in name for of in names.values() for name in of)


def trained(**options):
    torch.manual_seed(0)
    stream = batches(*ring(3).sample(512, torch.Generator().manual_seed(0)), 64, torch.Generator().manual_seed(0))
    return fit(MLP(2, 3, width=32), flow_loss(), stream, lr=3e-3, progress=False, **options)


def test_a_training_with_muon_resumes_to_the_very_same_weights(tmp_path):
    """The state of both optimisers is in the checkpoint."""
    whole = trained(steps=100, muon=0.02)

    def stop(model, z, y, count=[0]):  # noqa: B006 - it counts the calls
        count[0] += 1
        if count[0] == 60:
            raise KeyboardInterrupt
        return flow_loss()(model, z, y)

    torch.manual_seed(0)
    stream = batches(*ring(3).sample(512, torch.Generator().manual_seed(0)), 64, torch.Generator().manual_seed(0))
    how = {"steps": 100, "lr": 3e-3, "muon": 0.02, "progress": False}
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(MLP(2, 3, width=32), stop, stream, checkpoint=path, checkpoint_seconds=0.0, **how)
    stream = batches(*ring(3).sample(512, torch.Generator().manual_seed(0)), 64, torch.Generator().manual_seed(0))
    resumed = fit(MLP(2, 3, width=32), flow_loss(), stream, resume=path, **how)
    assert resumed.losses == whole.losses
    for a, b in zip(resumed.ema.parameters(), whole.ema.parameters(), strict=True):
        assert torch.equal(a, b)


def test_its_rate_is_a_setting_of_the_training(tmp_path):
    trained(steps=2, muon=0.02, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="another training"):
        trained(steps=2, muon=0.05, resume=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="muon must be a finite number above 0"):
        trained(steps=2, muon=-0.02)
    with pytest.raises(ValueError, match="muon has no weights to work on"):
        fit(MLP(2, 3, width=8), flow_loss(), batches(*ring(3).sample(64), 64), steps=1, lr=1e-3, muon=0.02)
