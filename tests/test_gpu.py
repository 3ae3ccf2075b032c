"""What must hold on a CUDA device: the same field and samples as on the CPU, and mixed precision close to float32."""

from functools import partial

import pytest
import torch

from labkit.base.conditions import drop_condition
from labkit.base.runtime import autocast, half_precision, seeded_noise
from labkit.data.images import balanced_labels, mnist32, to_float, to_uint8
from labkit.data.stream import batches
from labkit.flow.exact import EmpiricalMarginal, ExactMarginal
from labkit.flow.guidance import guided, limited, projected, rescaled
from labkit.flow.losses import cfm_loss
from labkit.flow.mixtures import ring
from labkit.flow.multistep import adams_bashforth2
from labkit.flow.paths import GaussianPath
from labkit.flow.solvers import euler_maruyama, heun, sde_drift, simulate
from labkit.measure.samples import draw
from labkit.nn.dit import DiT
from labkit.nn.unet import UNet
from labkit.training.graph import Replayed
from labkit.training.loop import fit
from labkit.training.pretrained import load_pretrained
from labkit.training.recipes import flow_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
cuda = torch.device("cuda")
GENERATORS = ("mnist-unet", "mnist-dit")


@pytest.fixture(autouse=True)
def choose_precision(monkeypatch):
    """The device's own choice, not the float32 of the other tests; and float32 that is no TF32."""
    monkeypatch.delenv("LABKIT_PRECISION")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def inputs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(22, 1, 32, 32, generator=generator)
    return x, torch.rand(22, generator=generator), torch.arange(22) % 11


@pytest.mark.parametrize("name", GENERATORS)
def test_the_field_is_that_of_the_cpu(name):
    x, t, y = inputs()
    on_cpu = load_pretrained(name)[0](x, t, y)
    on_gpu = load_pretrained(name, cuda)[0](x.to(cuda), t.to(cuda), y.to(cuda))
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GENERATORS)
def test_samples_from_one_seed_are_those_of_the_cpu(name):
    y, noise = balanced_labels(20, 10), seeded_noise(20, 1, 32, 32)
    there = draw(load_pretrained(name, cuda)[0], noise, y, 3.0, steps=8)
    here = draw(load_pretrained(name)[0], noise, y, 3.0, steps=8)
    assert (there - here).abs().mean() < 0.01  # of a range of 2; rounding may tip a stroke's edge


@pytest.mark.parametrize("options", [{}, {"rule": limited(0.2, 0.8)}, {"rule": rescaled()}, {"rule": projected()}])
def test_guided_samples_of_exact_models_are_those_of_the_cpu(options):
    """Rules, exact fields, steps and labels on the device; their checks look at no value there."""
    exact, known = ExactMarginal(GaussianPath(), ring(4)), cloud(GaussianPath())
    noise, y, ts = seeded_noise(50, 2), torch.arange(50) % 4, torch.linspace(0, 0.95, 20)
    for model in (exact.velocity, known.velocity):
        for method in (heun, adams_bashforth2):
            here = simulate(method(guided(model, y, 2.0, **options)), noise, ts)
            there = simulate(method(guided(model, y.to(cuda), 2.0, **options)), noise.to(cuda), ts)
            torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)


def cloud(path):
    """The empirical field of 40 points of the ring; the data stay on the CPU."""
    z, y = ring(4).sample(40, torch.Generator().manual_seed(0))
    return EmpiricalMarginal(path, z, y)


def test_an_sde_with_noise_of_a_cpu_generator_runs_on_the_device_as_on_the_cpu():
    exact, noise, ts = ExactMarginal(GaussianPath(), ring(4)), seeded_noise(50, 2), torch.linspace(0, 0.95, 50)
    drift = sde_drift(exact.velocity, exact.score, lambda t: 1 - t)
    ends = [
        simulate(euler_maruyama(drift, lambda t: 1 - t, torch.Generator().manual_seed(1)), noise.to(on), ts).cpu()
        for on in ("cpu", cuda)
    ]
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GENERATORS)
def test_mixed_precision_stays_close_to_float32(name):
    model, (x, t, y) = load_pretrained(name, cuda)[0], (part.to(cuda) for part in inputs())
    full = model(x, t, y)
    dtype = half_precision(cuda)
    assert dtype in (torch.bfloat16, torch.float16)
    with autocast(cuda, dtype):
        half = model(x, t, y)
    assert (half - full).square().mean() < 1e-3 * full.square().mean()


@pytest.mark.parametrize(
    "build", [partial(UNet, widths=(16, 32)), partial(DiT, width=64, depth=2)], ids=["U-Net", "DiT"]
)
def test_training_in_mixed_precision_learns_like_float32(monkeypatch, build):
    def final_loss():
        torch.manual_seed(0)
        images, labels = (part[:5000].to(cuda) for part in mnist32("train"))
        stream = batches(images, labels, 128, torch.Generator().manual_seed(0))
        loss_fn = flow_loss(GaussianPath(), drop=0.1)
        history = fit(build().to(cuda), loss_fn, stream, steps=200, lr=3e-3, progress=False)
        return history.mean(50), history.precision

    half, precision = final_loss()
    monkeypatch.setenv("LABKIT_PRECISION", "float32")
    full, _ = final_loss()
    assert precision != "float32" and abs(half - full) < 0.05 * full


def test_nothing_waits_for_the_device_inside_a_step():
    images, labels = (part[:5000].to(cuda) for part in mnist32("train"))
    stream = batches(images, labels, 64, torch.Generator().manual_seed(0))
    model, path = UNet(widths=(16, 32)).to(cuda), GaussianPath()
    seen, dropping_loss = [], flow_loss(path, drop=0.1)

    def loss_fn(model, z, y):
        # From the second step on until the 40th, any wait for the device is an error.
        seen.append(None)
        torch.cuda.set_sync_debug_mode("error" if 2 <= len(seen) < 40 else "default")
        return dropping_loss(model, z, y)

    try:
        fit(model, loss_fn, stream, steps=45, lr=1e-3, progress=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("build", [partial(UNet, widths=(16, 32)), partial(DiT, width=64, depth=2)])
def test_a_recorded_step_is_the_step(build):
    """One number of random ones after the other: with float32 and the same kernels, the same losses and weights."""
    images, labels = (part[:5000].to(cuda) for part in mnist32("train"))

    def trained(*, graph):
        torch.manual_seed(0)
        model, stream = build().to(cuda), batches(images, labels, 64, torch.Generator().manual_seed(0))
        history = fit(model, still_loss, stream, steps=60, lr=1e-3, graph=graph, progress=False)
        return torch.tensor(history.losses), history.ema.state_dict()

    (plain, plain_weights), (recorded, recorded_weights) = trained(graph=False), trained(graph=True)
    torch.testing.assert_close(recorded, plain, rtol=0.02, atol=1e-3)
    assert recorded[-10:].mean() < 0.9 * recorded[:3].mean()
    for name, wanted in plain_weights.items():
        torch.testing.assert_close(recorded_weights[name], wanted, rtol=0.1, atol=5e-3, msg=name)


def still_loss(model, z, y):
    """A loss whose times and noise are the same at every step."""
    t = (torch.arange(len(z), device=z.device) + 0.5) / len(z)
    return cfm_loss(model, GaussianPath(), z, y, t=t, eps=z.roll(1, 0))


def test_a_recorded_step_draws_new_random_numbers_every_time():
    z, y = torch.zeros(64, 2, device=cuda), torch.zeros(64, dtype=torch.int64, device=cuda)
    step = Replayed(lambda z, y: torch.stack((torch.rand((), device=cuda), drop_condition(y, 0.5, 1).float().mean())))
    rows = torch.stack([step(z, y) for _ in range(40)]).cpu()
    assert step.graph is not None and rows[:, 0].unique().numel() == 40
    assert abs(rows[:, 1].mean() - 0.5) < 0.05 and rows[:, 1].std() > 0.02


def test_pixels_reach_the_device_unchanged():
    images = mnist32("test").images[:100]
    there = to_float(images.to(cuda))
    assert torch.equal(to_uint8(there).cpu(), images)
    torch.testing.assert_close(there.cpu(), to_float(images))  # a GPU divides by multiplying: the last bit may differ
