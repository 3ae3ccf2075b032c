"""Finished samples from models whose flow is known: what comes out, from which noise, and at what cost."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from labkit.base import runtime
from labkit.base.files import read_table
from labkit.base.runtime import seeded_noise
from labkit.data.images import balanced_labels
from labkit.flow.exact import ExactMarginal
from labkit.flow.guidance import guided, limited, projected, rescaled
from labkit.flow.mixtures import petals
from labkit.flow.paths import GaussianPath
from labkit.flow.solvers import euler, heun
from labkit.measure.samples import clipped, draw, enough_steps, sampling_settings
from labkit.nn.unet import UNet
from labkit.training.pretrained import load_pretrained

MEANS = torch.tensor([-0.4, 0.0, 0.3, -0.2])  # of the classes 0, 1, 2 and of null
STD = 0.4
Y = torch.tensor([0, 2, 1, 1, 3, 0, 2])
NOISE = seeded_noise(7, 2, 4, 4)


class Gaussians(nn.Module):
    """The exact field of data N(mean_y, STD^2) in every pixel; it writes down how often each label was asked for."""

    null = 3

    def __init__(self, means=MEANS):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.means = means
        self.calls, self.labels, self.times = [], [], []

    def forward(self, x, t, y):
        self.calls.append(len(x))
        self.labels += y.tolist()
        self.times += t[:1].tolist()
        t, mean = (part.reshape(-1, *[1] * (x.ndim - 1)) for part in (t, self.means[y]))
        variance = (t * STD) ** 2 + (1 - t) ** 2
        return self.scale * (mean + (t * STD**2 - (1 - t)) / variance * (x - t * mean))


def flow_map(noise, w=1.0, y=Y):
    """Where the flow takes noise: a field that is linear in the mean is guided by moving the mean."""
    mean = (1 - w) * MEANS[3] + w * MEANS[y]
    return mean.reshape(-1, *[1] * (noise.ndim - 1)) + STD * noise


def test_balanced_labels_take_turns():
    assert balanced_labels(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert balanced_labels(0, 3).tolist() == [] and balanced_labels(2, 10).tolist() == [0, 1]
    counts = balanced_labels(1007, 10).bincount()
    assert balanced_labels(1007, 10).dtype == torch.int64 and counts.sum() == 1007
    assert counts.max() - counts.min() == 1


@pytest.mark.parametrize("shape", [(7, 2, 4, 4), (7, 3), (7, 1, 2, 4, 4)], ids=["images", "points", "clips"])
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_samples_are_where_the_exact_flow_takes_the_noise_whatever_its_shape(w, shape):
    noise = seeded_noise(*shape, seed=1)
    errors = [
        (draw(Gaussians(), noise, Y, w, steps=steps) - flow_map(noise, w).clamp(-1, 1)).abs().max().item()
        for steps in (16, 32, 64)
    ]
    assert errors[0] < 0.02
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3  # the midpoint method is of order 2 at least


@pytest.mark.parametrize("w", [1.0, 3.0])
def test_digits_are_those_of_a_straight_loop_bit_for_bit(w):
    model, _ = load_pretrained("mnist-unet")
    y, noise = torch.tensor([3, 8, 3, 1, 7]), seeded_noise(5, 1, 32, 32)
    expected = []
    with torch.no_grad():
        for x, some in zip(noise.split(3), y.split(3), strict=True):

            def field(x, t, some=some):
                t = t.expand(len(x))
                if w == 1:
                    return model(x, t, some)
                both = torch.cat((torch.full_like(some, 10), some))
                without, with_y = model(torch.cat((x, x)), torch.cat((t, t)), both).chunk(2)
                return (1 - w) * without + w * with_y

            ts = torch.linspace(0, 1, 4)
            for t, t_next in pairwise(ts):
                dt = t_next - t
                x = x + dt * field(x + dt / 2 * field(x, t), t + dt / 2)
            expected.append(x.clamp(-1, 1))
    assert torch.equal(draw(model, noise, y, w, steps=3, chunk=3), torch.cat(expected))


def test_pixels_are_clipped_unless_another_decoder_is_given():
    noise = 6 * NOISE
    assert draw(Gaussians(), noise, Y, 1.0).abs().max() == 1
    plain = draw(Gaussians(), noise, Y, 1.0, steps=64, decode=lambda x: x)
    torch.testing.assert_close(plain, flow_map(noise), rtol=0, atol=0.05)
    assert plain.abs().max() > 1
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(32, 5))  # of latents (2, 4, 4) to 5 numbers
    decoded = draw(Gaussians(), noise, Y, 1.0, steps=64, decode=decoder, chunk=3)
    assert torch.equal(decoded, torch.cat([decoder(part) for part in plain.split(3)])) and not decoded.requires_grad
    assert torch.equal(clipped(torch.tensor([-3.0, 0.5, 3.0])), torch.tensor([-1.0, 0.5, 1.0]))


def test_every_guidance_scale_starts_from_the_same_noise():
    model = Gaussians(torch.full((4,), 0.1))  # in which labels make no difference, and so neither does guidance
    for w in (0.0, 2.0, 7.5):
        found, plain = (draw(model, NOISE, Y, scale, steps=6) for scale in (w, 1.0))
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("w", [1.0, 3.0])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_samples_do_not_depend_on_those_they_travel_with(w, chunk):
    model = Gaussians()
    together = draw(Gaussians(), NOISE, Y, w)
    torch.testing.assert_close(draw(model, NOISE, Y, w, chunk=chunk), together, rtol=0, atol=1e-6)
    assert max(model.calls) == min(chunk, len(Y)) * (1 if w == 1 else 2)


@pytest.mark.parametrize(("w", "branches"), [(0.0, ["null"]), (1.0, ["y"]), (3.0, ["null", "y"])])
def test_every_branch_of_guidance_is_evaluated_twice_a_step(w, branches):
    model = Gaussians()
    draw(model, NOISE[:3], torch.tensor([0, 1, 0]), w, steps=5)
    asked = [model.labels.count(label) for label in (0, 1, 3)]
    assert len(model.calls) == 2 * 5
    assert asked == [20 * ("y" in branches), 10 * ("y" in branches), 30 * ("null" in branches)]


@pytest.mark.parametrize(("w", "evaluations"), [(0.0, 20), (0.5, 20), (1, 8), (1.25, 12), (3.0, 12), (3.5, 20)])
def test_by_default_the_conditional_model_is_asked_8_times_guidance_12_or_20_times_and_never_at_the_end(w, evaluations):
    model = Gaussians()
    draw(model, NOISE, Y, w)
    assert model.times == pytest.approx([k / evaluations for k in range(evaluations)], abs=1e-6)
    assert enough_steps(w) == evaluations / 2


@pytest.mark.parametrize("options", [{"rule": rescaled()}, {"bad": lambda x, t, y: x}], ids=["rule", "bad"])
def test_other_kinds_of_guidance_take_more_steps(options):
    for w, evaluations in ((1.0, 8), (3.0, 20)):
        model = Gaussians()
        draw(model, NOISE, Y, w, **options)
        assert len(model.times) == evaluations and enough_steps(w, other=True) == evaluations / 2


@pytest.mark.parametrize("step", [euler, heun])
def test_another_step_may_be_taken(step):
    model = Gaussians()
    x = draw(model, NOISE, Y, 1.0, step=step, steps=4, decode=lambda x: x)
    assert len(model.calls) == (4 if step is euler else 7) and model.times[-1] == 0.75
    assert (x - flow_map(NOISE)).abs().max() < (0.5 if step is euler else 0.3)  # Heun's last step is Euler's, too


@pytest.mark.parametrize("rule", [limited(0.2, 0.8), rescaled(), projected()], ids=["limited", "rescaled", "projected"])
def test_rules_reach_the_field(rule):
    found = draw(Gaussians(), NOISE, Y, 3.0, rule=rule, step=euler, steps=1, decode=lambda x: x)
    assert torch.equal(found, NOISE + guided(Gaussians(), Y, 3.0, rule=rule)(NOISE, torch.zeros(7)).detach())
    if rule is not limited(0.2, 0.8):
        assert torch.equal(draw(Gaussians(), NOISE, Y, 1.0, rule=rule), draw(Gaussians(), NOISE, Y, 1.0))


def test_a_bad_model_of_the_same_classes_takes_the_place_of_null():
    good, bad = Gaussians(), Gaussians(-MEANS)
    x = draw(good, NOISE, Y, 2.0, bad=bad, steps=64, decode=lambda x: x)
    mean = 2 * MEANS[Y] - 1 * -MEANS[Y]
    torch.testing.assert_close(x, mean.reshape(-1, 1, 1, 1) + STD * NOISE, rtol=0, atol=0.01)
    assert 3 not in set(good.labels) - set(Y.tolist()) and bad.labels == good.labels


def test_an_exact_law_is_drawn_from_like_a_network():
    exact = ExactMarginal(GaussianPath(), petals())
    y = balanced_labels(300, 3)
    x = draw(exact.velocity, seeded_noise(300, 2), y, 1.0, steps=40, decode=lambda x: x)
    assert (exact.class_logits(x, x.new_ones(300)).argmax(1) == y).double().mean() > 0.7


class Told(nn.Module):
    """A field that carries x to the mean of its tokens where the mask is 1."""

    null = (torch.zeros(4, 2), torch.ones(4))

    def forward(self, x, t, y):
        tokens, mask = y
        wanted = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return (wanted - x) / (1 - t[:, None])


def test_conditions_may_be_tokens_with_their_mask_and_need_no_parameter():
    tokens, mask = seeded_noise(5, 4, 2, seed=3), torch.tensor([[1.0, 1, 0, 0]]).expand(5, 4)
    for chunk in (2, 500):
        x = draw(Told(), seeded_noise(5, 2), (tokens, mask), 2.0, steps=8, decode=lambda x: x, chunk=chunk)
        torch.testing.assert_close(x, 2 * tokens[:, :2].mean(1), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"y must have 5 rows, one per sample; got shape \(4, 4\)"):
        draw(Told(), seeded_noise(5, 2), (tokens, mask[:4]), 2.0)


def test_samples_come_to_the_cpu_without_a_gradient():
    model = Gaussians()
    x = draw(model, NOISE, Y, 1.0)
    assert model.scale.requires_grad and not x.requires_grad
    assert x.device.type == "cpu" and x.dtype == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": torch.tensor([0, 0, 0, 0, 0, 0, 4])}, r"y must hold labels in 0\.\.3; got values from 0 to 4"),
        ({"y": torch.tensor([-1, 2, 0, 0, 0, 0, 0])}, r"y must hold labels in 0\.\.3; got values from -1"),
        ({"y": Y[:, None]}, r"y must have shape \(7,\), one label per sample; got shape \(7, 1\)"),
        ({"y": Y[:6]}, r"y must have 7 rows, one per sample; got shape \(6,\)"),
        ({"noise": NOISE[:6]}, r"y must have 6 rows, one per sample; got shape \(7,\)"),
        ({"noise": NOISE / 0}, "noise must be a finite floating-point tensor"),
        ({"noise": NOISE.where(NOISE < 2, torch.nan)}, "noise must be a finite floating-point tensor"),
        ({"steps": 0}, "steps must be a whole number of steps, at least 1, or a grid of times; got 0"),
        ({"steps": -3}, "steps must be a whole number of steps, at least 1, or a grid of times; got -3"),
        ({"w": float("nan")}, "w must be a finite number; got nan"),
        ({"null": 0}, "null=0 is not what this model takes for"),
    ],
)
@pytest.mark.parametrize("bad", [False, True])
def test_what_cannot_be_drawn_is_refused_by_name_before_the_model_is_asked(change, words, bad):
    if bad and "null" in change:
        pytest.skip("with a bad model nobody asks for null")
    model = Gaussians()
    arguments = {"noise": NOISE, "y": Y, "w": 2.0} | ({"bad": Gaussians()} if bad else {}) | change
    with pytest.raises(ValueError, match=words):
        draw(model, **arguments, chunk=3)
    assert not model.calls


class Watched(nn.Module):
    """A linear layer that writes down the type of what comes out of it."""

    null = 3

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(2, 2), []

    def forward(self, x, t, y):
        out = self.layer(x)
        self.seen.append(out.dtype)
        return out


@pytest.mark.parametrize("half", [False, True])
def test_half_precision_is_that_of_both_models_and_not_of_the_solver(monkeypatch, half):
    monkeypatch.setenv("LABKIT_PRECISION", "bfloat16")
    good, bad = Watched(), Watched()
    x = draw(good, seeded_noise(7, 2), Y, 2.0, bad=bad, steps=2, half=half)
    expected = torch.bfloat16 if half else torch.float32
    assert good.seen == bad.seen == [expected] * 4 and x.dtype == torch.float32


def test_half_precision_is_used_only_where_it_is_asked_for(monkeypatch):
    model, _ = load_pretrained("mnist-unet")
    monkeypatch.setenv("LABKIT_PRECISION", "bfloat16")
    y, noise = torch.tensor([3, 8]), seeded_noise(2, 1, 32, 32)
    full, half, again = (draw(model, noise, y, 1.0, steps=2, half=h) for h in (False, True, False))
    assert torch.equal(full, again) and half.dtype == torch.float32
    assert 1e-5 < (half - full).abs().mean() < 0.05
    other = draw(model, noise, y, 3.0, steps=2, half=True)  # its own null, although the solver sees a wrapper
    assert (other - draw(model, noise, y, 3.0, steps=2)).abs().mean() < 0.1


def test_samples_can_be_drawn_in_inference_mode_and_the_probe_of_the_cpu_too(monkeypatch):
    monkeypatch.delenv("LABKIT_PRECISION")
    runtime.bfloat16_gain.cache_clear()
    with torch.inference_mode():
        x = draw(Gaussians(), NOISE, Y, 3.0, half=True)
    torch.testing.assert_close(x, draw(Gaussians(), NOISE, Y, 3.0), rtol=0, atol=0.05)


def test_cards_say_how_samples_were_drawn():
    rest = {"judge": "mnist-judge", "seed": 0}
    assert sampling_settings(10) == rest | {"solver": "midpoint, 10 steps: 20 evaluations a branch"}
    taken = "midpoint, 4 steps at w = 1, 6 up to w = 3, 10 at others and for other kinds of guidance"
    by_default = f"{taken}: 8, 12 and 20 evaluations a branch"
    assert sampling_settings() == rest | {"solver": by_default}


@pytest.mark.parametrize("w", [1.0, 3.0])
def test_the_default_is_within_a_tenth_of_a_tight_solve_in_the_table_that_ships(w):
    rows = [row for row in read_table("mnist-unet-solvers")[0] if row["w"] == w]
    (tight,) = [row["frechet"] for row in rows if row["method"] == "tight"]
    above = {row["steps"]: row["frechet"] - tight for row in rows if row["method"] == "midpoint"}
    assert abs(above[enough_steps(w)]) <= 0.1  # 0.01 at w = 1; 0.08 of 1.61 at w = 3
    textbook = [row["frechet"] for row in rows if row["method"] == "Heun, textbook"]
    assert min(textbook) > tight + 0.15  # whose last step asks the network at t=1


def test_a_grid_of_ones_own_takes_the_place_of_a_number_of_steps():
    torch.manual_seed(0)
    network, noise, y = UNet(num_classes=3, widths=(8,), emb_dim=8), seeded_noise(3, 1, 8, 8), torch.arange(3)
    nn.init.normal_(network.head.weight)
    grid = torch.linspace(0, 1, 5)
    assert torch.equal(draw(network, noise, y, 2.0, steps=grid), draw(network, noise, y, 2.0, steps=4))
    with pytest.raises(ValueError, match="ts must be increasing"):
        draw(network, noise, y, 2.0, steps=torch.tensor([0.0, 0.5, 0.5, 1.0]))
