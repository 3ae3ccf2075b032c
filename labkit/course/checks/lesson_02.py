"""Checks of lesson 02, flow matching: posteriors, the loss and its floor, theorem 3, likelihood, memorising."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.checks.require import gap, kind, require, require_close, require_like
from labkit.flow.exact import EmpiricalMarginal, ExactMarginal
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.solvers import euler, rk4, simulate

PATH = GaussianPath()  # the linear one: alpha_t = t, beta_t = 1 - t
OWN_TIMES = "where each point has a time of its own (with equal times it is right):"
BESIDE = "Does t[:, None] stand beside x?"


def responsibilities(answer: Callable) -> str:
    """02.1: posterior of the components, `answer(x, t, means, stds, weights) -> (B, K)`."""
    draw = torch.Generator().manual_seed(21)
    means, stds = 2 * torch.randn(4, 3, generator=draw), torch.tensor([0.3, 0.5, 0.8, 1.1])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x, t = 1.5 * torch.randn(60, 3, generator=draw), torch.full((60,), 0.6)

    def exact(means: Tensor = means, stds: Tensor = stds, weights: Tensor = weights) -> ExactMarginal:
        return ExactMarginal(PATH, GaussianMixture(means, stds, weights))

    r, truth = answer(x, t, means, stds, weights), exact().posterior(x, t)
    require_like(r, truth, "r")
    require_rows_of_one(r, "components")
    as_variances, widths = exact(stds=stds.sqrt()), 0.36 * stds**2 + 0.16  # the variances at t = 0.6
    mistakes = {
        "the components are at mu_k; at time t they are at alpha_t mu_k": exact(means / 0.6).posterior(x, t),
        "s_k stands where s_k^2 belongs: stds holds standard deviations": as_variances.posterior(x, t),
        "all weights are taken for equal: add log weights_k": exact(weights=torch.ones(4) / 4).posterior(x, t),
        "the Gaussians are not normalised: each is divided by (variance)^(d/2), and the variances differ": (
            truth.log() + 1.5 * widths.log()
        ).softmax(1),
    }
    require_close(r, truth, "at t = 0.6:", mistakes, "Look at the exponent, |x - alpha_t mu_k|^2 / (2 variance_k).")
    t = torch.rand(60, generator=draw)
    require_close(answer(x, t, means, stds, weights), exact().posterior(x, t), OWN_TIMES, {}, BESIDE)
    far, late = x + 60, torch.full((60,), 0.95)
    r = answer(far, late, means, stds, weights)
    said = "far from all components every density underflows to 0, and 0/0 is NaN: keep logarithms, and let softmax or "
    require(isinstance(r, Tensor) and bool(r.isfinite().all()), said + "logsumexp do the division")
    case = "60 units away from the data (near them it is right):"
    require_close(r, exact().posterior(far, late), case, {}, "Keep to logarithms.")
    return "The rows sum to 1 and equal the exact posterior, near the data and 60 units away from it."


def loss(answer: Callable) -> str:
    """02.2: the conditional flow matching loss, `answer(field, z, t, eps) -> scalar`."""
    draw = torch.Generator().manual_seed(22)
    n, std = 60_000, 0.5
    data = GaussianMixture(torch.tensor([[1.0, -0.5, 0.3]]), std)
    exact = ExactMarginal(PATH, data)
    z, eps = data.sample(n, draw)[0], torch.randn(n, 3, generator=draw)
    t = torch.linspace(0, 1, n)  # both ends are in it, as they may be in a batch
    seen = []

    def spy(x: Tensor, at: Tensor) -> Tensor:
        require_like(x, z, "x, where the field is asked, t[:, None] * z and so on,")
        require_like(at, t, "the time that the field is asked at")
        seen.append(x)
        return exact.velocity(x, at)

    value = answer(spy, z, t, eps)
    require(len(seen) > 0, "the field was never asked: the loss compares field(x_t, t) with the target")
    x_t, v_t, _ = PATH.sample(z, t, eps)
    places = {
        "that is the noise; in training x comes from the path, x_t = t z + (1 - t) eps": eps,
        "that is (1 - t) z + t eps; t = 0 is noise and t = 1 is data": PATH.sample(z, 1 - t, eps).x_t,
    }
    hint = "It should be x_t = t z + (1 - t) eps, with the eps that you were handed."
    require_close(seen[-1], x_t, "the x that the field is asked at:", places, hint)
    said = "the loss is not finite: at t = 1 the target (z - x) / (1 - t) is 0/0; write it as the velocity of the path"
    require(not isinstance(value, Tensor) or bool(value.isfinite().all()), said)
    require_like(value, torch.zeros(()), "the loss")
    u, floor = exact.velocity(x_t, t), math.pi * std / 2
    square = (u - v_t).square()
    mistakes = {
        "it is d times too large: take the mean over dimensions too, not their sum": square.sum(1).mean(),
        "it is that of the target z + eps: the linear path has d_beta_t = -1": (u - z - eps).square().mean(),
        "it is that of the target eps - z, which runs from data to noise": (u + v_t).square().mean(),
        "it is that of the target z - x_t: from x_t the time left is 1 - t, not 1": (u - z + x_t).square().mean(),
    }
    case = f"the exact field of N(mu, {std}^2 I) should lose pi * {std} / 2 = {floor:.4f}; yours is {value.item():.4f}:"
    require_close(value, square.mean(), case, mistakes, "Is it the mean of |field(x_t, t) - v_t|^2?")
    return f"The exact field loses {value:.4f}, and the floor is pi/4 = {floor:.4f}: {value / floor - 1:+.1%}."


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
        two = isinstance(both, tuple | list) and len(both) == 2
        require(two, f"return two losses, (loss_fm, loss_cfm); what came is {kind(both)}")
        for name, value in zip(("loss_fm", "loss_cfm"), both, strict=True):
            require_like(value, theta.new_zeros(()), name)
            require(value.requires_grad, f"{name} does not depend on the prediction, or was detached from it")
        fm, cfm = both
        truth, averaged = ((prediction - target).square().mean() for target in (u, v.mean(1)))
        mistakes = {
            "its target is a plain mean of the velocities; weigh them with `weights`": averaged,
            "it is a sum over dimensions: take the mean": 3 * truth,
        }
        hint = f"It is the mean square distance to the weighted average of the velocities, {truth:.4f} here."
        require_close(fm, truth, "loss_fm:", mistakes, hint, close=1e-6)
        said = "loss_cfm should be larger than loss_fm by the spread of the velocities; "
        why = f"seen {cfm:.4f} and {fm:.4f}. Square first, then average: every candidate has its own error"
        require(cfm - fm > 1e-4, said + why)
        grad_fm, grad_cfm = (torch.autograd.grad(value, theta, retain_graph=True)[0] for value in both)
        size = ((grad_cfm - grad_fm).norm() / grad_fm.norm()).item()
        said = f"the gradients differ by {size:.2g} of their size. In loss_cfm candidate i of point b counts with "
        require(size < 1e-8, said + "weights[b, i], sums over i and means over points and dimensions")
        said = f"loss_cfm - loss_fm should be E tr Cov(v | x) / d = {spread:.4f}; it is {cfm - fm:.4f}"
        require(abs((cfm - fm) / spread - 1) < 1e-6, said)
    return f"Equal gradients to {size:.0e}, and a difference of {spread:.4f} = E tr Cov(v | x) / d for both parameters."


def likelihood(answer: Callable) -> str:
    """02.4: instantaneous change of variables, `answer(field, divergence, x, ts) -> (B,)`."""
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

    value, truth = answer(exact.velocity, divergence, x, ts), data.log_prob(x)
    require_like(value, truth, "log p_1(x)")
    x_0, constant = simulate(rk4(exact.velocity), x, ts.flip(0)), math.log(2 * math.pi)
    noise, at_x = (-0.5 * place.square().sum(1) - constant for place in (x_0, x))
    mistakes = {
        "the divergence has the wrong sign: where the flow spreads (div u > 0) the density falls": 2 * noise - truth,
        "this is only the integral: add log N(x_0; 0, I), the density where the path starts": truth - noise,
        "log N is taken at x itself; it belongs to x_0, where the way back ends": truth - noise + at_x,
        "log N(x_0; 0, I) lacks its constant, -d/2 log(2 pi)": truth + constant,
    }
    for sentence, wrong in mistakes.items():
        require((value - wrong).abs().max() > 0.02, sentence)
    error = (value - truth).abs().max().item()
    said = f"the largest error is {error:.2g}. The way runs from t = 1 back to t = 0: is dt negative, and x moved "
    require(error < 0.5, said + "together with the integral?")
    said = f"close, but the largest error is {error:.2g}: on {len(ts) - 1} steps Euler is too coarse. Take the slope "
    require(error < 1e-3, said + "and the divergence at the middle of each step")
    return f"The largest error of log p is {error:.1e} on 60 points."


def memory(answer: Callable) -> str:
    """02.5: which training point led to x, `answer(x, t, data) -> (B, N)`."""
    draw = torch.Generator().manual_seed(25)
    data = 1.5 * torch.randn(12, 2, generator=draw, dtype=torch.float64)
    x, t = torch.randn(50, 2, generator=draw, dtype=torch.float64), torch.full((50,), 0.7, dtype=torch.float64)
    exact = EmpiricalMarginal(PATH, data)
    weights, twice = answer(x, t, data), 2 * 0.3**2  # 2 beta_t^2
    logits = -torch.cdist(x, 0.7 * data).square() / twice
    require_like(weights, logits, "the weights")
    require_rows_of_one(weights, "training points")
    mistakes = {
        "the exponent is twice what it should be: the 1/2 of the Gaussian is missing": 2 * logits,
        "the exponent is divided by beta_t; a Gaussian has beta_t^2 there": 0.3 * logits,
        "the distances are to z_i; the path's mean at time t is alpha_t z_i": -torch.cdist(x, data).square() / twice,
        "the exponent holds distances; a Gaussian has their squares": -torch.cdist(x, 0.7 * data) / twice,
    }
    mistakes = {sentence: wrong.softmax(1) for sentence, wrong in mistakes.items()}
    require_close(
        weights, logits.softmax(1), "at t = 0.7:", mistakes, "Is it softmax(-|x - alpha_t z_i|^2 / 2 beta_t^2)?"
    )
    t = 0.9 * torch.rand(50, generator=draw, dtype=torch.float64)
    require_close(answer(x, t, data) @ data, exact.denoiser(x, t), OWN_TIMES, {}, BESIDE)
    far = answer(x + 40, torch.full((50,), 0.99, dtype=torch.float64), data)
    said = "far from the data every exponential underflows, and 0/0 is NaN: use softmax on the exponents"
    require(bool(far.isfinite().all()), said)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return complete(PATH, x, t, z=answer(x, t, data) @ data).velocity

    start = torch.randn(200, 2, generator=draw, dtype=torch.float64)
    grid = 1 - (1 - torch.linspace(0, 1, 101, dtype=torch.float64)) ** 2  # shorter steps towards the data
    away = torch.cdist(simulate(euler(field), start, grid), data).min(1).values.max().item()
    require(away < 1e-3, f"samples should end on training points; the furthest ends {away:.2g} away")
    return f"All {len(start)} samples end on one of the {len(data)} training points, to {away:.0e}."


def require_rows_of_one(weights: Tensor, what: str) -> None:
    """Require that the weights (B, K) of each point sum to 1."""
    total = weights.sum(1)
    said = f"the weights of one point should sum to 1; they sum to {total.min():.3g} to {total.max():.3g}. "
    require(gap(total, torch.ones_like(total)) < 1e-4, f"{said}Is the sum, or softmax, over the {what}, dim=1?")


CHECKS: dict[str, Callable[[Callable], str]] = {
    "02.1": responsibilities,
    "02.2": loss,
    "02.3": theorem,
    "02.4": likelihood,
    "02.5": memory,
}
