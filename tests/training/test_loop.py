"""The training loop: what it reaches, resuming to the same bits, the average of the weights, and stopping at NaN."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook

from labkit.base import runtime
from labkit.base.conditions import drop_condition
from labkit.data.stream import batches, draws
from labkit.flow.exact import gaussian_loss_floor
from labkit.flow.losses import cfm_loss
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath
from labkit.nn.convnet import ConvNet
from labkit.nn.mlp import MLP
from labkit.training.checkpoint import read_checkpoint
from labkit.training.loop import History, fit, steps_within

PATH = GaussianPath()


def guidable_loss(model, z, y):
    """A loss with three random ingredients: times, noise and dropped labels."""
    return cfm_loss(model, PATH, z, drop_condition(y, 0.2, 3))


def stream(seed=0):
    """Batches of 16 out of 100 points in three classes: six in an epoch."""
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(5))
    return batches(z, torch.arange(100) % 3, 16, torch.Generator().manual_seed(seed))


def network(seed=0, width=16):
    torch.manual_seed(seed)
    return MLP(2, 3, width=width, depth=2)


def train(model, source, loss=guidable_loss, **options):
    return fit(model, loss, source, **({"steps": 130, "lr": 1e-2, "progress": False} | options))


def accident(number, happen, loss=guidable_loss):
    """`loss`, to which at call `number` something happens."""
    calls = itertools.count(1)

    def troubled(model, z, y):
        value = loss(model, z, y)
        return happen(value) if next(calls) == number else value

    return troubled


def parts_of(file):
    return read_checkpoint(file)["parts"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_fit_brings_the_averaged_model_near_the_loss_floor():
    mixture = GaussianMixture(torch.tensor([[0.5]]), 0.5)
    torch.manual_seed(0)
    model = MLP(1, width=32, depth=2)
    source = draws(mixture.sample, 256, torch.Generator().manual_seed(0))
    history = train(model, source, lambda model, z, y: cfm_loss(model, PATH, z), steps=500, lr=1e-2)
    z, _ = mixture.sample(100_000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = cfm_loss(history.ema, PATH, z, generator=torch.Generator().manual_seed(2)).item()
    # One standard error is 0.4%. A model that answers 0 has the loss E|z - eps|^2 = 1.5, about twice the floor.
    assert 0.985 < loss / gaussian_loss_floor(0.5) < 1.03
    assert history.losses[0] > 1.2 and sum(history.losses[-100:]) / 100 < 0.83


@pytest.mark.parametrize("at", [51, 120])
def test_an_interrupted_training_resumes_to_the_very_same_weights(tmp_path, at):
    whole = network()
    expected = train(whole, stream())
    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(network(), stream(), accident(at, interrupt), checkpoint=file, checkpoint_seconds=0)
    assert len(parts_of(file)["history"]["losses"]) == at // 50 * 50  # a checkpoint every 50 steps
    resumed = network(seed=1)  # other weights, another place in the data, another place in torch's randomness
    history = train(resumed, stream(seed=1), resume=file, checkpoint=file)
    assert history.losses == expected.losses
    for found, wanted in ((resumed, whole), (history.ema, expected.ema)):
        pairs = zip(found.state_dict().values(), wanted.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    finished = train(network(seed=2), stream(), resume=file)  # the end was saved too, and nothing is left to do
    assert torch.equal(finished.ema.body[0].weight, expected.ema.body[0].weight)


def test_an_interrupt_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    train(network(), stream(), steps=50, checkpoint=file)
    before = file.read_bytes()
    monkeypatch.setattr(torch, "save", lambda state, content: interrupt(content.write(b"half")))
    with pytest.raises(KeyboardInterrupt):
        train(network(), stream(), steps=50, checkpoint=file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_fit_leaves_eval_mode_one_loss_a_step_and_the_seconds_it_took():
    model = network()
    history = train(model, stream(), steps=60)
    assert history.steps == len(history.losses) == 60 and 0 < history.seconds < 60
    assert not model.training and not history.ema.training
    assert not torch.equal(history.ema.body[0].weight, model.body[0].weight)  # an average, not a copy


def test_without_cuda_a_graph_is_no_other_training():
    plain, asked = (train(network(), stream(), steps=20, graph=graph) for graph in (False, True))
    assert plain.losses == asked.losses and torch.equal(plain.ema.body[0].weight, asked.ema.body[0].weight)


def test_the_learning_rate_climbs_in_a_line_to_lr_and_falls_in_a_line_to_zero():
    model, seen = nn.Linear(1, 1, bias=False).double(), []

    def loss(model, z, y):  # under a constant gradient AdamW moves the weight by exactly the learning rate
        seen.append(model.weight.item())
        return -model.weight.sum()

    train(model, stream(), loss, steps=100, lr=0.1, warmup=20, weight_decay=0.0)
    rates = torch.tensor([*seen, model.weight.item()], dtype=torch.float64).diff()
    torch.testing.assert_close(rates[:20], torch.linspace(0.005, 0.1, 20).double(), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(rates[20:], torch.linspace(0.1, 0, 81).double()[:-1], rtol=1e-5, atol=1e-9)


def test_a_gradient_longer_than_clip_is_shortened_to_it_and_a_shorter_one_is_not(request):
    model, scales, lengths = nn.Linear(2, 1, bias=False), iter([3.0, 0.1] * 5), []
    hook = register_optimizer_step_pre_hook(lambda *_: lengths.append(model.weight.grad.norm().item()))
    request.addfinalizer(hook.remove)
    train(model, stream(), lambda model, z, y: next(scales) * model.weight[0] @ z.new([0.6, 0.8]), steps=10, clip=0.5)
    assert lengths == pytest.approx([0.5, 0.1] * 5, rel=1e-4)


@pytest.mark.parametrize(
    ("what", "happen"),
    [("loss", lambda loss: loss * math.nan), ("gradient", lambda loss: loss + (0 * loss).sqrt())],  # no slope at 0
)
def test_nan_stops_the_training_by_its_step_and_leaves_the_checkpoint_from_before(tmp_path, what, happen):
    file = tmp_path / "run.pt"
    with pytest.raises(RuntimeError, match=f"the {what} is not finite at step 73"):
        train(network(), stream(), accident(73, happen), checkpoint=file, checkpoint_seconds=0)
    parts = parts_of(file)
    assert len(parts["history"]["losses"]) == 50
    assert all(value.isfinite().all() for value in parts["model"].values())
    healthy = train(network(seed=3), stream(), resume=file)
    assert healthy.losses == train(network(), stream()).losses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, r"steps must be a whole number, at least 1; got 0"),
        ({"warmup": 200}, r"warmup must lie in 1\.\.steps; got 200 of 130"),
        ({"lr": math.nan}, "lr must be a finite number above 0; got nan"),
        ({"lr": -1.0}, "lr must be a finite number above 0; got -1.0"),
        ({"clip": math.nan}, "clip must be a finite number above 0; got nan"),
        ({"ema_gamma": -3.0}, "ema_gamma must be a finite number above 0; got -3.0"),
        ({"steps": 2.5}, "steps must be a whole number, at least 1; got 2.5"),
        ({"resume": "nowhere.pt"}, r"resume='nowhere\.pt' is no file"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        train(network(), stream(), **options)


@pytest.mark.parametrize(
    ("z", "error", "words"),
    [
        (torch.ones(4, 2).long(), TypeError, r"z must be floating-point; the stream yields torch\.int64"),
        (torch.ones(4, 2).byte(), TypeError, r"z must be floating-point; .*uint8\. `to_float` converts uint8 images"),
        (torch.full((4, 2), math.nan), ValueError, "z must be finite; the first batch of the stream has NaN"),
        (torch.full((4, 2), math.inf), ValueError, "z must be finite"),
        (torch.ones(4, 2, device="meta"), ValueError, "z must be on the model's device, cpu; .* on meta"),
    ],
)
def test_the_first_batch_must_be_finite_floats_on_the_models_device(monkeypatch, z, error, words):
    if z.is_meta:  # which has no values to look at
        monkeypatch.setattr(torch.Tensor, "isfinite", lambda z: torch.tensor(True))
    with pytest.raises(error, match=words):
        train(network(), iter([(z, torch.zeros(4).long())]))


class Called:
    """A loss that no wrong label may reach."""

    def __call__(self, model, z, y):
        raise AssertionError("a label out of range came to the loss")


@pytest.mark.parametrize("build", [network, lambda: ConvNet(1, 4, widths=(8,), dim=16, size=8)], ids=["field", "judge"])
@pytest.mark.parametrize("wrong", [-1, 4, 10])
@pytest.mark.parametrize("whole", [True, False])
def test_labels_out_of_range_are_refused_before_any_step_wherever_they_hide(build, wrong, whole):
    model, z = build(), torch.randn(100, 2)  # a field of three classes and null 3; a judge of four classes
    y = torch.arange(100) % 3
    y[57 if whole else 0] = wrong  # the 58th row is not in the first batch, if that is small
    source = batches(z, y, 1, torch.Generator().manual_seed(0)) if whole else iter([(z, y)])
    with pytest.raises(ValueError, match=rf"y must hold labels in 0\.\.3; got values from .*{wrong}"):
        train(model, source, Called())


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (torch.zeros(4, dtype=torch.int32), TypeError, "int64"),
        (torch.zeros(3).long(), ValueError, r"y must have 4 rows"),
        ((torch.zeros(4).long(), torch.zeros(4)), ValueError, "of one kind"),
    ],
)
def test_conditions_of_another_kind_than_the_models_null_are_refused(y, error, words):
    with pytest.raises(error, match=words):
        train(network(), iter([(torch.zeros(4, 2), y)]), Called())


class Prompted(nn.Module):
    """A model of points that is told two numbers and one of three labels."""

    def __init__(self):
        super().__init__()
        self.null, self.word = (torch.zeros(2), 3), nn.Embedding(4, 2)
        self.body = nn.Linear(7, 2)

    def forward(self, x, t, y):
        return self.body(torch.cat((x, t[:, None], y[0], self.word(y[1])), dim=1))


def test_a_condition_may_be_a_tuple_and_resumes_like_any_other(tmp_path):
    def loss(model, z, y):
        return cfm_loss(model, PATH, z, drop_condition(y, 0.2, model.null))

    def start(seed=0):
        torch.manual_seed(seed)
        z = torch.randn(60, 2, generator=torch.Generator().manual_seed(5))
        return Prompted(), batches(z, (z.sign(), torch.arange(60) % 3), 16, torch.Generator().manual_seed(seed))

    file = tmp_path / "run.pt"
    expected = train(*start(), loss, steps=60)
    with pytest.raises(KeyboardInterrupt):
        train(*start(), accident(55, interrupt, loss), steps=60, checkpoint=file, checkpoint_seconds=0)
    assert train(*start(1), loss, steps=60, resume=file).losses == expected.losses
    with pytest.raises(ValueError, match=r"y must hold labels in 0\.\.3"):
        train(Prompted(), iter([(torch.zeros(4, 2), (torch.zeros(4, 2), torch.full((4,), 4)))]), loss)


def test_a_stream_without_conditions_trains_a_model_without():
    source = ((torch.randn(8, 2), None) for _ in range(9))
    history = train(MLP(2, width=8), source, lambda model, z, y: cfm_loss(model, PATH, z, y), steps=9)
    assert history.steps == 9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_on_clips_train_like_others(monkeypatch, precision):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.SiLU(), nn.Conv3d(4, 1, 3, padding=1))
    clips = torch.randn(32, 1, 4, 6, 6).cumsum(2)  # (B, C, T, H, W)
    source = batches(clips, torch.zeros(32).long(), 8, torch.Generator().manual_seed(0))
    history = train_in(precision, monkeypatch, model, source, lambda model, z, y: (model(z) - z).square().mean())
    assert history.precision == precision and history.mean(10) < 0.2 * history.losses[0]


def test_a_frozen_model_is_thawed_and_one_frozen_in_part_is_not():
    frozen, part = network().requires_grad_(False), network()
    part.body[0].requires_grad_(False)
    before = [p.clone() for p in (frozen.body[0].weight, part.body[0].weight, part.body[-1].weight)]
    train(frozen, stream(), steps=3), train(part, stream(), steps=3)
    after = (frozen.body[0].weight, part.body[0].weight, part.body[-1].weight)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False]


def test_the_mean_of_the_last_losses_is_that_of_all_where_there_are_fewer():
    history = History(nn.Identity(), [8.0, 4.0, 2.0, 1.0])
    assert history.mean(2) == 1.5 and history.mean(1) == 1.0 and history.mean() == history.mean(4) == 3.75
    for broken, last in ((history, 0), (History(nn.Identity()), 50)):
        with pytest.raises(ValueError, match=f"last must be at least 1, after at least one step; got {last} after"):
            broken.mean(last)


def test_batches_that_end_too_soon_are_refused_with_the_step():
    with pytest.raises(ValueError, match="the stream ended after 3 steps; it must last for all of them"):
        train(network(), [next(stream()) for _ in range(3)])


def convolutional(seed=0):
    torch.manual_seed(seed)
    return ConvNet(1, 3, widths=(8,), dim=16, size=8)


def noisy_loss(model, z, y):
    """A loss with two random ingredients: noise here, dropout in the model."""
    return cross_entropy(model(z + 0.3 * torch.randn_like(z)), y)


def image_stream(seed=0):
    """Batches of 16 out of 60 images, a bright square each, in three classes of brightness."""
    y = torch.arange(60) % 3
    z = torch.full((60, 1, 8, 8), -1.0)
    z[:, :, 2:6, 2:6] = y.reshape(-1, 1, 1, 1) / 2.0
    return batches(z, y, 16, torch.Generator().manual_seed(seed))


def train_in(precision, monkeypatch, model, source=None, loss=noisy_loss, **options):
    monkeypatch.setenv("LABKIT_PRECISION", precision)
    return train(model, source or image_stream(), loss, **({"steps": 100} | options))


def test_a_convolutional_training_in_bfloat16_learns_what_it_learns_in_float32(monkeypatch):
    full, half = (train_in(name, monkeypatch, convolutional()) for name in ("float32", "bfloat16"))
    assert (full.precision, half.precision) == ("float32", "bfloat16")
    assert half.losses != full.losses
    # The same weights, batches, times and noise: bfloat16 keeps 8 bits, and roundings average out.
    assert half.losses[0] == pytest.approx(full.losses[0], rel=2**-8)
    for history in (full, half):
        assert sum(history.losses[-10:]) < 0.5 * sum(history.losses[:10])
        assert all(p.dtype == torch.float32 for p in history.ema.parameters())
    assert sum(half.losses[-10:]) == pytest.approx(sum(full.losses[-10:]), rel=0.05)


@pytest.mark.parametrize(("gain", "precision"), [(2.0, "bfloat16"), (0.5, "float32")])
def test_the_probe_decides_about_convolutions_and_large_networks_and_about_nothing_else(monkeypatch, gain, precision):
    monkeypatch.delenv("LABKIT_PRECISION")
    monkeypatch.setattr(runtime, "bfloat16_gain", lambda: gain)
    assert train(convolutional(), image_stream(), noisy_loss, steps=2).precision == precision
    large = nn.Sequential(nn.Flatten(), nn.Linear(64, 8192), nn.Linear(8192, 3))
    assert train(large, image_stream(), noisy_loss, steps=2).precision == precision
    assert train(network(), stream(), steps=2).precision == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_are_laid_out_for_their_precision(monkeypatch, precision):
    model = convolutional()
    train_in(precision, monkeypatch, model, steps=2)
    weights = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    last = {p.is_contiguous(memory_format=torch.channels_last) for p in weights}
    assert last == {precision == "float32"}


@pytest.mark.parametrize(("before", "after"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_training_resumes_in_the_precision_that_it_began_in(tmp_path, monkeypatch, before, after):
    whole, file = convolutional(), tmp_path / "run.pt"
    expected = train_in(before, monkeypatch, whole, steps=54)
    saving = {"checkpoint": file, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train_in(before, monkeypatch, convolutional(), loss=accident(52, interrupt, noisy_loss), steps=54, **saving)
    resumed = convolutional(seed=1)
    history = train_in(after, monkeypatch, resumed, image_stream(seed=1), steps=54, resume=file)
    assert history.precision == before and history.losses == expected.losses
    for found, wanted in ((resumed, whole), (history.ema, expected.ema)):
        pairs = zip(found.state_dict().values(), wanted.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_of_another_training_is_refused_and_the_model_stays_as_it_was(tmp_path):
    file = tmp_path / "run.pt"
    train(network(), stream(), steps=50, checkpoint=file)
    for model, source, options, words in (
        (network(), stream(), {"lr": 0.5}, r"run\.pt is from another training: it has .*'lr': 0\.01.* .*'lr': 0\.5"),
        (network(width=24), stream(), {}, r"(?s)run\.pt is from another training: its model .*size mismatch"),
        (
            network(),
            batches(torch.zeros(99, 2), torch.zeros(99).long(), 16),
            {},
            "its stream does not fit: .*length 100",
        ),
        (network(), iter([next(stream())]), {}, "stream must have state_dict and load_state_dict to be resumed"),
    ):
        before = nn.utils.parameters_to_vector(model.parameters()).clone()
        with pytest.raises(ValueError, match=words):
            train(model, source, **({"steps": 50, "resume": file} | options))
        assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


@pytest.mark.parametrize(("step", "taken"), [(0.25, 40), (0.01, 1000), (30.0, 1)])
def test_as_many_steps_are_taken_as_fit_into_the_time(step, taken):
    asked = []

    def trained(steps):
        asked.append(steps)
        return History(nn.Identity(), [0.0] * steps, seconds=steps * step + 5 * (len(asked) == 1))  # a slow beginning

    assert steps_within(10, trained, few=2) == pytest.approx(taken, abs=1) and len(asked) == 3
    assert asked[-1] * step <= 0.5 or asked[-1] == 2  # a twentieth of the time, if that is two steps


def test_what_a_training_takes_before_its_steps_is_no_part_of_them():
    def trained(steps):  # a second at its fourth step, as recording a graph takes
        return History(nn.Identity(), [0.0] * steps, seconds=0.01 * steps + (steps > 3))

    assert steps_within(11, trained, few=8) == pytest.approx(1000, abs=1)
