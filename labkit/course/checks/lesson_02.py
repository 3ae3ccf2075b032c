"""Checks of lesson 02, flow matching: posteriors, the loss and its floor, theorem 3, a training loop, likelihood."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from labkit.base.inputs import captured
from labkit.course.checks.require import NotRight, as_tensor, gap, kind, require, require_close, require_like
from labkit.flow.exact import EmpiricalMarginal, ExactMarginal
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath
from labkit.flow.solvers import midpoint, rk4, simulate
from labkit.nn.mlp import MLP

PATH = GaussianPath()  # the linear one: alpha_t = t, beta_t = 1 - t
OWN_TIMES = "where each point has a time of its own (with equal times it is right):"
BESIDE = "Does t[:, None] stand beside x?"
STEPS, BATCH, TARGET = 1000, 256, 0.02  # what 02.4 may use, and how close to the floor it must come


def responsibilities(answer: Callable) -> str:
    """02.1: posterior of the components, `answer(x, t, means, stds, weights) -> (B, K)`."""
    draw = torch.Generator().manual_seed(21)
    means, stds = 2 * torch.randn(4, 3, generator=draw), torch.tensor([0.3, 0.5, 0.8, 1.1])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x, t = 1.5 * torch.randn(60, 3, generator=draw), torch.full((60,), 0.6)
    exact = ExactMarginal(PATH, GaussianMixture(means, stds, weights))
    r, truth = as_tensor(answer(x, t, means, stds, weights)), exact.posterior(x, t)
    require_like(r, truth, "r")
    require_rows_of_one(r, "components")

    def slip(
        var: Tensor = 0.36 * stds**2 + 0.16, at: Tensor = 0.6 * means, power: float = 1.5, half: float = 0.5, p: int = 2
    ) -> Tensor:
        apart = torch.cdist(x, at) ** p
        return weights.log() - half * apart / var - power * var.log()

    no_alpha = "the components are at mu_k; at time t they are at alpha_t mu_k"
    as_variances = "s_k stands where s_k^2 belongs: stds holds standard deviations"
    not_normalised = "the Gaussians are not normalised: each is divided by (variance)^(d/2), and the variances differ"
    mistakes = {
        no_alpha: slip(at=means),
        as_variances: slip(0.36 * stds + 0.16),
        not_normalised: slip(power=0),
        "all weights are taken for equal: add log weights_k": slip() - weights.log(),
        "weights_k is added to logarithms: it should be log weights_k": slip() - weights.log() + weights,
        "the exponent is twice what it should be: the 1/2 of the Gaussian is missing": slip(half=1),
        "the exponent has the wrong sign: far components are made likely": slip(half=-0.5),
        "the power of the normalising constant is d/2, and d is 3 here, not 1": slip(power=0.5),
        "the power of the normalising constant is d/2, and d is 3 here, not 2": slip(power=1),
        "the normalising constant is (variance)^(d/2): it is a root, and 1/2 is missing": slip(power=3),
        "the normalising constant has the wrong sign: one divides by (variance)^(d/2)": slip(power=-1.5),
        "beta_t stands where beta_t^2 belongs in the variance": slip(0.36 * stds**2 + 0.4),
        "alpha_t stands where alpha_t^2 belongs in the variance": slip(0.6 * stds**2 + 0.16),
        "the variance lacks alpha_t^2: it is alpha_t^2 s_k^2 + beta_t^2": slip(stds**2 + 0.16),
        "the variance lacks the noise, beta_t^2": slip(0.36 * stds**2),
        "the variance is that of the data, s_k^2; at time t it is alpha_t^2 s_k^2 + beta_t^2": slip(stds**2),
        "the variance holds the noise only; a component has a width of its own, alpha_t^2 s_k^2": slip(
            torch.full((4,), 0.16)
        ),
        "a standard deviation is squared as a sum: (alpha_t s_k + beta_t)^2 is not the variance": slip(
            (0.6 * stds + 0.4) ** 2
        ),
        "the exponent is divided by the standard deviation, not by the variance": (
            weights.log() - 0.5 * torch.cdist(x, 0.6 * means) ** 2 / (0.36 * stds**2 + 0.16).sqrt()
            - 1.5 * (0.36 * stds**2 + 0.16).log()
        ),
        "the exponent holds distances; a Gaussian has their squares": slip(p=1),
        "alpha_t and beta_t are swapped: alpha_t = t belongs to the data": slip(
            0.16 * stds**2 + 0.36, at=0.4 * means
        ),
        "this is only the prior: x plays no part": weights.log().expand(60, 4),
    }  # fmt: skip
    mistakes = {sentence: wrong.softmax(1) for sentence, wrong in mistakes.items()}
    require_close(r, truth, "at t = 0.6:", mistakes, "Look at the exponent, |x - alpha_t mu_k|^2 / (2 variance_k).")
    t = torch.rand(60, generator=draw)
    r = as_tensor(answer(x, t, means, stds, weights))
    require_close(r, exact.posterior(x, t), OWN_TIMES, {}, BESIDE)
    far, late = x + 60, torch.full((60,), 0.95)
    r = as_tensor(answer(far, late, means, stds, weights))
    said = "far from all components every density underflows to 0, and 0/0 is NaN: keep logarithms, and let softmax or "
    require(isinstance(r, Tensor) and bool(r.isfinite().all()), said + "logsumexp do the division")
    case = "60 units away from the data (near them it is right):"
    require_close(r, exact.posterior(far, late), case, {}, "Keep to logarithms: there every density underflows to 0.")
    return "The rows sum to 1 and equal the exact posterior, near the data and 60 units away from it."


def loss(answer: Callable) -> str:
    """02.2: the conditional flow matching loss, `answer(field, z, t, eps) -> scalar`."""
    std, n = 0.5, 2048
    exact = ExactMarginal(PATH, GaussianMixture(torch.tensor([[1.0, -0.5, 0.3]]), std))
    even = torch.quasirandom.SobolEngine(7, scramble=True, seed=22).draw(n).clamp(1e-5, 1 - 1e-5)  # less of chance
    normal = math.sqrt(2) * torch.erfinv(2 * even[:, :6] - 1)
    z, eps, t = exact.mixture.means + std * normal[:, :3], normal[:, 3:], even[:, 6].clone()
    t[:60], t[60:80] = 1.0, 0.0  # both ends are in it, as they may be in a batch
    slope, shift = torch.tensor([0.7, 1.2, 0.9]), torch.tensor([0.3, -0.2, 0.1])
    theta = torch.cat((slope, shift)).requires_grad_()
    few = slice(0, 300)
    value, (x_t, v_t) = _asked(
        answer, lambda x, at: exact.velocity(x, at) * theta[:3] + theta[3:], z[few], t[few], eps[few]
    )
    u = exact.velocity(x_t, t[few]) * theta[:3] + theta[3:]
    truth = (u - v_t).square().mean()
    _require_loss(value, truth, "for a field that is not exact:", u, v_t, x_t, z[few], t[few], eps[few])
    said = "the value is right, but no gradient flows back to the field's parameters, so it cannot train a network: "
    cut = "numpy, .item(), .detach() and torch.no_grad() cut it off. Stay with tensors all the way"
    require(value.requires_grad, said + cut)
    grad, right = (torch.autograd.grad(v, theta, allow_unused=True, materialize_grads=True)[0] for v in (value, truth))
    said = f"the value is right, but its gradient is off by {gap(grad, right):.0%}: "
    require(gap(grad, right) < 1e-3, f"{said}is a part of the field's output detached?")
    t[:80] = even[:80, 6]
    t[:2] = torch.tensor([0.0, 1.0])
    value, (x_t, v_t) = _asked(answer, exact.velocity, z, t, eps)
    u, floor = exact.velocity(x_t, t), math.pi * std / 2
    seen = f"; yours is {value.item():.4f}:" if isinstance(value, Tensor) and value.numel() == 1 else ":"
    case = f"the exact field of N(mu, {std}^2 I) should lose pi * {std} / 2 = {floor:.4f}{seen}"
    _require_loss(value, (u - v_t).square().mean(), case, u, v_t, x_t, z, t, eps)
    return (
        f"The exact field loses {value:.4f}, and the floor is pi/4 = {floor:.4f}: {value / floor - 1:+.1%}. "
        "The gradient of a field that is not exact is right, too."
    )


def _asked(
    answer: Callable, field: Callable, z: Tensor, t: Tensor, eps: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The loss that the answer returns, after looking at where and when it asks the field; and x_t, v_t."""
    places, times, asked = [], [], []

    def spy(x: Tensor, at: Tensor, _label: None = None) -> Tensor:
        asked.append(True)
        require(isinstance(x, Tensor), f"x, where the field is asked, should be a tensor; it is {kind(x)}")
        shape = f"x, where the field is asked, t[:, None] * z and so on, should have shape {tuple(z.shape)}"
        require(x.ndim == 2 and x.shape[1:] == z.shape[1:], f"{shape}; it has {tuple(x.shape)}")
        require(
            isinstance(at, Tensor), f"the time that the field is asked at should be a tensor (B,); it is {kind(at)}"
        )
        require(at.shape == x.shape[:1], f"the time should have shape {tuple(x.shape[:1])}; it has {tuple(at.shape)}")
        finite = captured(x) or bool(x.isfinite().all() & at.isfinite().all())
        require(finite, "where the field is asked, x or t is inf or NaN")
        if not captured(x):
            places.append(x.detach().to(z.dtype))
            times.append(at.detach().to(t.dtype))
        outside = "the field is asked at times outside of [0, 1]"
        require(captured(x) or bool(((at > -1e-5) & (at < 1 + 1e-5)).all()), outside)
        return field(x, at)

    value = answer(spy, z, t, eps)
    require(len(asked) > 0, "the field was never asked: the loss compares field(x_t, t) with the target")
    x_t, v_t, _ = PATH.sample(z, t, eps)
    x, at = (torch.cat(parts) if parts else whole for parts, whole in ((places, x_t), (times, t)))
    if len(x) > len(z):  # asked more than once: the last time counts
        x, at = x[-len(z) :], at[-len(z) :]
    require(len(x) == len(z), f"the field should be asked at all {len(z)} points; it was at {len(x)}")
    hint = "Hand it the t that you were handed."
    wrong = {"it runs backwards, 1 - t; t = 0 is noise and t = 1 is data": 1 - t}
    require_close(at, t, "the time that the field is asked at:", wrong, hint)
    wrong = {
        "that is the noise; in training x comes from the path, x_t = t z + (1 - t) eps": eps,
        "that is the data z; in training x comes from the path, x_t = t z + (1 - t) eps": z,
        "that is (1 - t) z + t eps; t = 0 is noise and t = 1 is data": PATH.sample(z, 1 - t, eps).x_t,
        "that is t z + eps: the noise should fade, with the factor 1 - t": t[:, None] * z + eps,
        "that is z + (1 - t) eps: the data should fade in, with the factor t": z + (1 - t[:, None]) * eps,
        "that is z + t eps: it should be t z + (1 - t) eps": z + t[:, None] * eps,
        "that is t z - (1 - t) eps: the noise has the wrong sign": PATH.sample(z, t, -eps).x_t,
        "that is the velocity; in training x comes from the path, x_t = t z + (1 - t) eps": v_t,
        "roots belong to another path; the linear one is t z + (1 - t) eps": (
            t[:, None].sqrt() * z + (1 - t[:, None]).sqrt() * eps
        ),
        "that is the path of the cosine schedule; the linear one is t z + (1 - t) eps": (
            (t[:, None] * torch.pi / 2).sin() * z + (t[:, None] * torch.pi / 2).cos() * eps
        ),
    }
    early = t < 0.9
    noise = ((x - t[:, None] * z) / (1 - t[:, None]))[early]
    other = gap(x, x_t) > 1e-3 and 0.9 < noise.std() < 1.1 and (noise * eps[early]).mean().abs() < 0.2
    said = (
        "the x that the field is asked at has another noise in it: use the eps that you were handed, in x_t and in v_t"
    )
    require(not other, said)
    hint = "It should be x_t = t z + (1 - t) eps, with the eps that you were handed."
    require_close(x, x_t, "the x that the field is asked at:", wrong, hint)
    return value, (x_t, v_t)


def _require_loss(
    value: object, truth: Tensor, case: str, u: Tensor, v: Tensor, x: Tensor, z: Tensor, t: Tensor, eps: Tensor
) -> None:
    """Require the mean square of u - v, and name the likeliest other things."""
    number = isinstance(value, float | int | numpy.floating | numpy.ndarray) and not isinstance(value, bool)
    if number and numpy.size(value) == 1:
        said = f"the loss is {kind(value)}: a plain number carries no gradient. Return the tensor"
        require(False, f"{said}; {float(numpy.reshape(value, -1)[0]):.4f} came, and {truth.item():.4f} is right")
    value = as_tensor(value, "the loss")
    require(isinstance(value, Tensor), f"the loss should be a tensor; it is {kind(value)}")
    said = "the loss is not finite: (z - x) / (1 - t) is 0/0 at t = 1, (x - eps) / t at t = 0; the target is z - eps"
    require(bool(value.isfinite().all()), said)
    if value.shape != truth.shape and value.numel() in (len(z), z.numel()):
        said = "there is a loss for each point; it should be one number: take the mean over points and dimensions. "
        require(False, f"{said}The loss should have shape (); it has {tuple(value.shape)}")
    require_like(value, truth, "the loss")
    with torch.no_grad():
        targets = {
            "z + eps: the linear path has d_beta_t = -1": z + eps,
            "eps - z, which runs from data to noise": -v,
            "z - x_t: from x_t the time left is 1 - t, not 1": z - x,
            "(z - x_t) / (1 - t) with a guard, wrong at t = 1: write it as the velocity of the path, z - eps": (
                torch.where((t < 1)[:, None], v, 0 * v)
            ),
            "z: that is the denoiser's; a field learns the velocity z - eps": z,
            "eps: that is the noise predictor's; a field learns the velocity z - eps": eps,
            "x_t: a field learns the velocity z - eps": x,
            "x_t - eps: the way gone so far; a field learns the velocity z - eps": x - eps,
            "x_t - z: a field learns the velocity z - eps": x - z,
            "t z - (1 - t) eps: the velocity has no t in it": t[:, None] * z - (1 - t[:, None]) * eps,
            "0: where is v_t?": 0 * v,
        }
        mistakes = {
            "it is d times too large: take the mean over dimensions too, not their sum": (u - v).square().sum(1).mean(),
            "it is a sum over points and dimensions: take the mean": (u - v).square().sum(),
            "it is a sum over points: take the mean over them, too": (u - v).square().mean(1).sum(),
            "it is half of that: the loss of this course has no factor 1/2": truth / 2,
            "it is the root of that: leave the mean of the squares as it is": truth.sqrt(),
            "it is the mean of absolute differences: square them": (u - v).abs().mean(),
            "it is the mean of distances: square them": (u - v).norm(dim=1).mean(),
            "the mean comes before the square, so that errors cancel: square first": (u - v).mean().square(),
            "the mean over the batch comes before the square: square first": (u - v).mean(0).square().mean(),
            "the difference is not squared": (u - v).mean(),
            "it has the wrong sign": -truth,
        }
        mistakes |= {f"its target is {name}": (u - target).square().mean() for name, target in targets.items()}
    require_close(value, truth, case, mistakes, "Is it the mean of |field(x_t, t) - v_t|^2?")


def theorem(answer: Callable) -> str:
    """02.3: theorem 3 at common points, `answer(prediction, v, weights) -> (loss_fm, loss_cfm)`."""
    draw = torch.Generator().manual_seed(23)
    data = torch.randn(7, 3, generator=draw, dtype=torch.float64)
    x = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    t = 0.1 + 0.5 * torch.rand(40, generator=draw, dtype=torch.float64)
    apart = (x[:, None] - t[:, None, None] * data).square().sum(2)
    weights = torch.softmax(-apart / (2 * (1 - t[:, None]) ** 2), dim=1)  # (B, N): which z led to x
    v = PATH.velocity(x.repeat_interleave(7, 0), data.repeat(40, 1), t.repeat_interleave(7)).reshape(40, 7, 3)
    u = EmpiricalMarginal(PATH, data).velocity(x, t)
    spread = (weights[:, :, None] * (v - u[:, None]).square()).sum(1).mean()
    features = torch.cat((x, x * t[:, None], x.sin(), t[:, None]), dim=1)
    for _ in range(2):
        theta = torch.randn(10, 3, generator=draw, dtype=torch.float64, requires_grad=True)
        prediction = features @ theta
        both = answer(prediction, v, weights)
        if isinstance(both, Tensor) and both.shape == (2,):
            both = both.unbind()
        if isinstance(both, dict):
            both = tuple(both.values())
        two = isinstance(both, tuple | list) and len(both) == 2
        require(two, f"return two losses, (loss_fm, loss_cfm); what came is {kind(both)}")
        for name, value in zip(("loss_fm", "loss_cfm"), both, strict=True):
            require_like(value, theta.new_zeros(()), name)
            require(value.requires_grad, f"{name} does not depend on the prediction, or was detached from it")
        fm, cfm = both
        each = (prediction[:, None] - v).square().mean(2)  # (B, N)
        truth, true_cfm = (prediction - u).square().mean(), (weights * each).sum(1).mean()
        swapped = gap(fm, true_cfm) < 1e-4 and gap(cfm, truth) < 1e-4
        require(not swapped, "the two losses are swapped: return (loss_fm, loss_cfm) in this order")
        mistakes = {
            "its target is a plain mean of the velocities; weigh them with `weights`": (prediction - v.mean(1))
            .square()
            .mean(),
            "it is a sum over dimensions: take the mean": 3 * truth,
            "it is a sum over points and dimensions: take the mean": 120 * truth,
            "it is a sum over points: take the mean": 40 * truth,
            "its target is only the likeliest of the candidates; average them with `weights`": (
                (prediction - v[torch.arange(40), weights.argmax(1)]).square().mean()
            ),
            "the weighted velocities are averaged, not summed: the weights sum to 1 already": (
                (prediction - u / 7).square().mean()
            ),
            "it compares with each candidate; FM compares with their weighted average": true_cfm,
            "it is half of that: the losses of this course have no factor 1/2": truth / 2,
            "it is the root of that: leave the mean of the squares": truth.sqrt(),
            "the difference is not squared: take squares, not absolute values": (prediction - u).abs().mean(),
        }
        hint = f"It is the mean square distance to the weighted average of the velocities, {truth:.4f} here."
        require_close(fm, truth, "loss_fm:", mistakes, hint)
        said = "loss_cfm should be larger than loss_fm by the spread of the velocities; "
        why = f"seen {cfm:.4f} and {fm:.4f}. Square first, then average: every candidate has its own error"
        require(gap(cfm, truth) > 1e-4, said + why)
        mistakes = {
            "it is a sum over dimensions: take the mean": 3 * true_cfm,
            "it is a sum over points and dimensions: take the mean": 120 * true_cfm,
            "it is a sum over points: take the mean": 40 * true_cfm,
            "it is a mean over candidates too: their weights sum to 1 already, so sum over them": true_cfm / 7,
            "all candidates count alike; weigh them with `weights`": each.mean(),
            "all candidates count alike, and are summed; weigh them with `weights`": each.sum(1).mean(),
            "only the likeliest candidate counts; all count, with their weights": (
                each[torch.arange(40), weights.argmax(1)].mean()
            ),
            "the weights are squared: they belong outside of the square": (weights.square() * each).sum(1).mean(),
            "it is half of that: the losses of this course have no factor 1/2": true_cfm / 2,
            "it is the root of that: leave the mean of the squares": true_cfm.sqrt(),
        }
        mistakes = {sentence: wrong for sentence, wrong in mistakes.items() if gap(wrong, true_cfm) > 1e-3}
        parts = "candidate i of point b counts with weights[b, i], sums over i and means over points and dimensions"
        grad_fm, grad_cfm = (
            torch.autograd.grad(value, theta, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for value in both
        )
        true_grad = torch.autograd.grad(truth, theta, retain_graph=True)[0]
        size = ((grad_cfm - grad_fm).norm() / true_grad.norm()).item()
        named = any(gap(cfm, wrong) < 1e-4 for wrong in mistakes.values())
        said = f"the gradients differ by {size:.2g} of their size. In loss_cfm {parts}"
        require(named or size < 1e-4, said)
        hint = f"loss_cfm - loss_fm should be E tr Cov(v | x) / d = {spread:.4f}; it is {cfm - fm:.4f}: {parts}."
        require_close(cfm, true_cfm, "loss_cfm:", mistakes, hint)
        off = gap(grad_fm, true_grad)
        said = f"the losses are right, but their gradients are off by {off:.0%}: is the prediction detached somewhere?"
        require(off < 1e-4 and size < 1e-4, said)
    return (
        f"Equal gradients to {size:.0e}, and a difference of {cfm - fm:.4f} = E tr Cov(v | x) / d for both parameters."
    )


class Law(NamedTuple):
    """Data of 02.4 with its truth: places (x, t) on the path, and what networks could learn there."""

    mixture: GaussianMixture
    floor: float
    size: float  # E|z|^2
    x: Tensor
    t: Tensor
    velocity: Tensor
    others: dict[str, Tensor]


@cache
def law() -> Law:
    """Two blobs in the plane, whose field, floor and conditional means are known."""
    means = torch.tensor([[-1.2, 0.5], [1.0, -0.8]])
    mixture = GaussianMixture(means, torch.tensor([0.5, 0.4]), weights=torch.tensor([0.6, 0.4]))
    exact = ExactMarginal(PATH, mixture, labels=torch.zeros(2, dtype=torch.long))
    draw, n = torch.Generator().manual_seed(24), 4000
    z, t = mixture.sample(n, draw)[0], (torch.arange(n) + 0.5) / n
    x = PATH.sample(z, t, generator=draw).x_t
    u, back, s = exact.velocity(x, t), exact.velocity(x, 1 - t), t[:, None]
    size = (mixture.weights @ (means.square().sum(1) + 2 * torch.tensor([0.5, 0.4]).square())).item()
    clean, noise, mean = x + (1 - s) * u, x - s * u, mixture.weights @ means
    others = {
        "E[z | x_t], the clean point: is the target z, or is the noise of the target another than that in x_t? The "
        "target is z - eps, with the eps of x_t": clean,
        "E[eps | x_t], the noise: the target is the velocity, z - eps": noise,
        "-E[eps | x_t]: is the data of the target another batch than that in x_t? The target is z - eps of the same z "
        "and eps": mean - noise,
        "the velocity backwards: the target is z - eps, from noise to data, not eps - z": -u,
        "the field at the time 1 - t: the time, or x_t, runs backwards. x_t = t z + (1 - t) eps, and the network is "
        "told this t": back,
        "the field at the time 1 - t, backwards: this path runs from data to noise. Here t = 0 is noise": -back,
        "x itself: it was asked at the data z. In training it is asked at x_t = t z + (1 - t) eps": x,
        "the mean of the data minus x: it was asked at the noise. In training it is asked at x_t": mean - x,
        "E[z - x_t | x_t]: from x_t the time left is 1 - t, so this is not the velocity. The target is z - eps": (
            (1 - s) * u
        ),
        "E[x_t - eps | x_t], the way gone so far: the target is the velocity, z - eps": s * u,
        "E[z + eps | x_t]: the target is z - eps": clean + noise,
        "x_t: the target is the velocity, z - eps": x + 0 * u,
    }
    return Law(mixture, exact.loss_floor(100_000, torch.Generator().manual_seed(1)), size, x, t, u, others)


class Watch:
    """What a training does with the network and the data that it is handed; raises NotRight beyond the budget."""

    def __init__(self, model: nn.Module, budget: int) -> None:
        self.model, self.budget, self.most = model, budget, budget + budget // 50
        self.drawn = self.shown = self.asked = self.alike = self.calls = self.grads = self.piled = 0
        self.told: list[tuple[float, float]] = []
        self.past: list[Tensor] = []
        self.sizes = torch.zeros(
            2, 10, dtype=torch.float64
        )  # sums of |x|^2 by time: of the places, and as it should be
        self.generator = torch.Generator().manual_seed(240)
        self.hooks = [
            model.register_forward_pre_hook(lambda *given: self.ask(*given), with_kwargs=True),
            list(model.parameters())[-1].register_hook(self.grad),
        ]

    def sample(self, n: int = BATCH) -> Tensor:
        """The data that the answer draws, counted."""
        self.drawn += int(n)
        said = f"you drew {self.drawn:,} points by now, and there are {self.budget:,} for you: steps times {BATCH}. "
        require(
            self.drawn <= self.most,
            f"{said}Does the loop end after `steps` batches of {BATCH}? With larger ones take fewer",
        )
        return law().mixture.sample(int(n), self.generator)[0]

    def ask(self, model: nn.Module, places: tuple, named: dict) -> None:
        """Look at where and when the network is asked, where that counts as training."""
        self.asked += 1
        if not torch.is_grad_enabled():
            return
        parts = [part for part in (*places, *named.values()) if isinstance(part, Tensor)]
        self.shown += len(parts[0]) if parts and parts[0].ndim else 1
        said = f"the network has been shown {self.shown:,} points by now, and {self.budget:,} is what you have: steps "
        why = f"times {BATCH}. A point that is shown again counts again; torch.no_grad() makes evaluations free"
        require(self.shown <= self.most, said + why)
        if self.shown * 8 > self.budget * (len(self.past) + 1):
            self.past.append(parameters_to_vector(self.model.parameters()).detach().clone())
        t = named.get("t", places[1] if len(places) > 1 else None)
        if isinstance(t, Tensor) and t.ndim == 1 and len(t) > 1 and not captured(t) and t.is_floating_point():
            low, high = t.detach().min().item(), t.detach().max().item()
            self.calls += 1
            self.alike += high - low < 1e-6
            self.told.append((low, high))
            x = places[0] if places else named.get("x")
            if isinstance(x, Tensor) and x.shape == (len(t), 2) and not captured(x):
                place, t = (10 * t.detach()).long().clamp(0, 9), t.detach().double()
                size = law().size * t**2 + 2 * (1 - t) ** 2
                self.sizes[0].index_add_(0, place, x.detach().double().square().sum(1))
                self.sizes[1].index_add_(0, place, size)

    def grad(self, grad: Tensor) -> None:
        """Count the gradients that reach the last bias, and those that meet what is left of the one before."""
        before = list(self.model.parameters())[-1].grad
        self.grads += 1
        self.piled += before is not None and bool(before.detach().any())

    def stop(self) -> None:
        """Take the hooks away."""
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def error(self, network: nn.Module) -> tuple[float, Tensor]:
        """L_FM of a network, per dimension, as a share of the floor; and its values."""
        known, mode = law(), network.training
        like = next(iter(network.parameters()), known.x)
        value = network.eval()(known.x.to(like), known.t.to(like)).to(known.x)
        network.train(mode)
        return (value - known.velocity).square().mean().item() / known.floor, value

    def course(self) -> list[float]:
        """The error at every eighth of the budget, the last place left out."""
        network, errors = deepcopy(self.model), []
        for weights in self.past:
            vector_to_parameters(weights.to(next(network.parameters())), network.parameters())
            errors.append(self.error(network)[0])
        return errors


def training(answer: Callable) -> str:
    """02.4: `answer(model, sample, steps)` trains the model in place by conditional flow matching."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(24)
        model = MLP(dim=2, width=32)
        before, watch = deepcopy(model), Watch(model, STEPS * BATCH)
        try:
            returned = answer(model, watch.sample, STEPS)
        except NotRight as error:
            cause = str(error.__cause__ or "")
            if "does not require grad" in cause or "does not have a grad_fn" in cause:
                hint = "Between the network's output and the loss something cuts the gradient off: .detach(), .item(), "
                raise NotRight(f"{error} {hint}numpy or torch.no_grad()") from error.__cause__
            if "backward through the graph a second time" in cause:
                hint = "Draw data and compute the loss anew in every step of the loop"
                raise NotRight(f"{error} {hint}") from error.__cause__
            raise
        finally:
            watch.stop()
        networks = [*_networks(returned), model]
    require(watch.drawn > 0, "`sample` was never called, so the network cannot know the data: z = sample(256)")
    said = "the network that was handed in was never asked with gradients: train it, and not a network of your own"
    require(watch.shown > 0, said)
    moved = [network for network in networks if not _alike(network, before)]
    if not moved:
        said = (
            "no gradient reached the network: is loss.backward() missing, the output detached, or a copy trained that "
        )
        require(watch.grads > 0, said + "is not returned?")
        require(False, "gradients came, but the parameters are as they were: optimizer.step() is missing")
    if watch.calls and watch.alike > 0.9 * watch.calls:
        low, high = min(t for t, _ in watch.told), max(t for _, t in watch.told)
        one = f"the network is told t = {low:.3g} at every step: draw t uniformly on [0, 1], anew in each step"
        many = "all samples of a batch get the same t, so a step learns about one time only, and the gradient is far "
        require(high - low > 1e-6, one)
        require(False, many + "noisier: draw one t for each sample, torch.rand(len(z))")
    tried = [watch.error(network) for network in moved]
    finite = [(error, value) for error, value in tried if math.isfinite(error)]
    why = "the learning rate is too high" if watch.piled < 0.9 * watch.grads else _PILED
    require(len(finite) > 0, f"the trained network's values are inf or NaN: {why}")
    error, value = min(finite, key=lambda pair: pair[0])
    if error > TARGET:
        _diagnose(watch, error, value, before)
    return (
        f"The loss of your network lies {error:.1%} above the floor, {law().floor:.4f} per dimension; {TARGET:.0%} "
        f"were asked for. It was shown {watch.shown:,} points."
    )


_PILED = "gradients of all steps pile up: optimizer.zero_grad() is missing"


def _diagnose(watch: Watch, error: float, value: Tensor, initial: nn.Module) -> None:
    """Refuse a network that misses the target, with the likeliest reason."""
    start = watch.error(initial)[0]
    seen = (
        f"the loss of the trained network lies {_percent(error)} above the floor; at most {TARGET:.0%} is asked for. "
    )
    require(watch.piled < 0.9 * watch.grads or watch.grads < 5, f"{seen}The reason: {_PILED}")
    known = law()
    for sentence, other in known.others.items():
        near = (value - other).square().mean().item()
        if near < 0.1 * (value - known.velocity).square().mean().item() and near < 0.1:
            require(False, f"{seen}The network has learned {sentence}")
    low, high = min((t for t, _ in watch.told), default=0.0), max((t for _, t in watch.told), default=1.0)
    said = f"{seen}The times it was told lie in [{low:.2f}, {high:.2f}]: draw t uniformly on [0, 1]"
    require(low < 0.05 and 0.95 < high < 1.01 and low > -0.01, said)
    seen_size, size = watch.sizes
    off = torch.where(size > 500, seen_size / size.clamp_min(1e-9), 1.0)
    k = (off - 1).abs().argmax().item()
    said = f"{seen}Where it is told that t is about {k / 10 + 0.05:.2f}, mean |x|^2 is {off[k]:.2f} times as large as "
    require(
        abs(off[k] - 1) < 0.1,
        f"{said}on the path: it should be asked at x_t = t z + (1 - t) eps, with normal noise eps",
    )
    course = [start, *watch.course()[1:], error]
    told = f"{seen}Above the floor it lay {start:.0%} at the start, {_percent(course[len(course) // 2])} half-way, "
    told += f"{_percent(course[-2])} shortly before the end: "
    falls = all(b < a for a, b in pairwise(course))
    said = (
        "the network has hardly moved. Is the learning rate far too small, and is every difference squared on its own?"
    )
    require((value - watch.error(initial)[1]).square().mean() > 0.005, told + said)
    said = "it does not fall. The learning rate is far too high, or the target is not z - eps"
    require(error < start, told + said)
    flat = not falls and (value - value.mean(0)).square().mean() < 0.05
    said = "the network says the same everywhere. Either z, eps and x_t of the loss do not belong to the same pair, or "
    require(not flat, f"{told}{said}the learning rate is so high that the network broke")
    used = f"{watch.shown:,} points, {watch.shown / watch.budget:.0%} of the budget"
    said = f"{seen}It was shown {used}: train for all `steps`, with {BATCH} each"
    require(watch.shown > 0.7 * watch.budget, said)
    said = "it fell slowly all the way. A larger learning rate, or another optimiser, gets further in the same steps"
    require(not falls, told + said)
    said = "it goes up and down. The steps are too large for the noise of the target: let the learning rate fall to 0 "
    require(False, f"{told}{said}towards the end, or average the weights; if that is done, begin with a smaller one")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 10 else "more than 1,000%"


def _networks(value: object) -> list[nn.Module]:
    """The networks in what an answer returned: itself, its average, or the last parts of a tuple, list or dict."""
    if isinstance(value, nn.Module):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [network for part in value[-3:] for network in _networks(part)]
    return [value.ema] if isinstance(getattr(value, "ema", None), nn.Module) else []


def _alike(network: nn.Module, other: nn.Module) -> bool:
    a, b = ([p.detach() for p in net.parameters()] for net in (network, other))
    return len(a) == len(b) and all(p.shape == q.shape and torch.equal(p.to(q), q) for p, q in zip(a, b, strict=True))


def likelihood(answer: Callable) -> str:
    """02.5: instantaneous change of variables, `answer(field, divergence, x, ts) -> (B,)`."""
    draw = torch.Generator().manual_seed(24)
    means = torch.tensor([[-1.2, 0.4], [0.9, -0.8], [0.6, 1.3]], dtype=torch.float64)
    data = GaussianMixture(means, torch.tensor([0.5, 0.6, 0.7], dtype=torch.float64))
    exact = ExactMarginal(PATH, data)
    x, ts = data.sample(60, draw)[0], torch.linspace(0, 1, 101, dtype=torch.float64)

    def divergence(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            u = exact.velocity(x, t)
            parts = [torch.autograd.grad(u[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2)]
        return torch.stack(parts).sum(0)

    value, truth = as_tensor(answer(exact.velocity, divergence, x, ts)), data.log_prob(x)
    require_like(value, truth, "log p_1(x)")
    value = value.detach().to(truth)
    error = (value - truth).abs().max().item()
    if error < 1e-3:
        return f"The largest error of log p is {error:.1e} on 60 points."

    def both(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat((exact.velocity(x[:, :2], t), divergence(x[:, :2], t)[:, None]), dim=1)

    def way(grid: Tensor, solver: Callable = rk4) -> tuple[Tensor, Tensor]:
        end = simulate(solver(both), torch.cat((x, x.new_zeros(60, 1)), dim=1), grid)
        return end[:, :2], end[:, 2]

    (x_0, minus), (x_1, plus), constant = way(ts[::4].flip(0)), way(ts[::4]), math.log(2 * math.pi)
    noise, at_x, at_end = (-0.5 * place.square().sum(1) - constant for place in (x_0, x, x_1))
    still = sum(divergence(x, t.expand(60)) for t in ts) / len(ts)
    few = "one step is missing: a grid of n + 1 times has n steps, from t = 1 to 0. With 101 times there are 100"
    mistakes = {
        "the divergence has the wrong sign: where the flow spreads (div u > 0) the density falls": noise - minus,
        "this is only the integral: add log N(x_0; 0, I), the density where the path starts": minus,
        "this is only log N(x_0; 0, I): the integral of the divergence is missing": noise,
        "this is minus the log density": -truth,
        "this is the density; its logarithm is asked for": truth.exp(),
        "the density of the start is added where its logarithm belongs": noise.exp() + minus,
        "log N is taken at x itself; it belongs to x_0, where the way back ends": at_x + minus,
        "log N(x_0; 0, I) lacks its constant, -d/2 log(2 pi)": truth + constant,
        "the constant is -d/2 log(2 pi), and d = 2: one -1/2 log(2 pi) is missing": truth + constant / 2,
        "the constant is -d/2 log(2 pi); it is there twice: the 1/2 is missing": truth - constant,
        "the constant is -d/2 log(2 pi); it has the wrong sign": truth + 2 * constant,
        "log(pi) stands where log(2 pi) belongs": truth + math.log(2),
        "|x_0|^2 is a sum over the dimensions, not their mean": truth + 0.25 * x_0.square().sum(1),
        "that is a logarithm to base 10": truth / math.log(10),
        "the 1/2 of -|x_0|^2 / 2 is missing": truth - 0.5 * x_0.square().sum(1),
        "-|x_0|^2 / 2 has the wrong sign": truth + x_0.square().sum(1),
        "the square root of |x_0|^2 belongs not there: log N has -|x_0|^2 / 2": (
            truth + 0.5 * x_0.square().sum(1) - 0.5 * x_0.norm(dim=1)
        ),
        "x starts at t = 0 and goes forwards; it is a point at t = 1, so walk `ts` backwards": at_end - plus,
        "x starts at t = 0 and goes forwards; it is a point at t = 1. Walk `ts` backwards": at_end + plus,
        "x goes forwards; it is a point at t = 1, so walk `ts` backwards": at_x - plus,
        "x stays where it is while the divergence is collected: move x and collect together": at_x - still,
        "x stays where it is while the divergence is collected: move x, and collect together": noise - still,
        "the divergence is not multiplied by the length of a step": noise + 100 * minus,
        "the divergence is not multiplied by the length of a step, nor has it the right sign": noise - 100 * minus,
        "there is one number for all points; each has its own": truth.sum().expand(60),
    }
    for sentence, wrong in mistakes.items():
        near = (value - wrong).abs()
        alike = near.median() < 0.03 and near.max() < 0.5 and near.median() < 0.3 * (value - truth).abs().median()
        require(not alike, f"{sentence}. (The largest error is {error:.2g}.)")
    for grid in (ts[:-1], ts[1:]):
        end, total = way(grid.flip(0), midpoint)
        wrong = -0.5 * end.square().sum(1) - constant + total
        require((value - wrong).abs().max() > 0.1 * error, few)
    said = f"the largest error is {error:.2g}. The way runs from t = 1 back to t = 0: is dt negative, and x moved "
    require(error < 0.5, said + "together with the integral? Is the field asked at the time that belongs to x?")
    said = f"close, but the largest error is {error:.2g} with {len(ts) - 1} steps; below 1e-3 is asked for. Either the "
    coarse = "steps are of order one, as Euler's are: take the slope and the divergence at the middle of each step. Or "
    require(False, f"{said}{coarse}the field and the divergence are asked at different times or places")
    return ""


def require_rows_of_one(weights: Tensor, what: str) -> None:
    """Require that the weights (B, K) of each point sum to 1."""
    total = weights.sum(1)
    said = f"the weights of one point should sum to 1; they sum to {total.min():.3g} to {total.max():.3g}. "
    require(gap(total, torch.ones_like(total)) < 1e-4, f"{said}Is the sum, or softmax, over the {what}, dim=1?")


CHECKS: dict[str, Callable[[Callable], str]] = {
    "02.1": responsibilities,
    "02.2": loss,
    "02.3": theorem,
    "02.4": training,
    "02.5": likelihood,
}
