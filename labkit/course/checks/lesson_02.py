"""Checks of lesson 02, flow matching: posteriors, the loss and its floor, theorem 3, likelihood, memorising."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.course.require import gap, require, require_like
from labkit.flow.exact import EmpiricalMarginal, ExactMarginal, gaussian_loss_floor
from labkit.flow.mixtures import GaussianMixture
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.solvers import euler, rk4, simulate

PATH = GaussianPath()  # the linear one: alpha_t = t, beta_t = 1 - t
CLOSE = 1e-4  # relative; every comparison without sampling is far below it when right


def check_responsibilities(answer: Callable) -> str:
    """02.1: posterior of the components, `answer(x, t, means, stds, weights) -> (B, K)`."""
    draw = torch.Generator().manual_seed(21)
    means, stds = 2 * torch.randn(4, 3, generator=draw), torch.tensor([0.3, 0.5, 0.8, 1.1])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    exact = ExactMarginal(PATH, GaussianMixture(means, stds, weights))
    x, t = 1.5 * torch.randn(60, 3, generator=draw), torch.full((60,), 0.6)
    r, truth = answer(x, t, means, stds, weights), exact.posterior(x, t)
    require_like(r, truth, "r")
    total = r.sum(1)
    require(
        gap(total, torch.ones(60)) < CLOSE,
        f"the responsibilities of one point should sum to 1; they sum to {total.min():.3g} to {total.max():.3g}. "
        "Is the sum in the denominator over the components, dim=1?",
    )
    others = {
        "these are the posteriors of a mixture with means mu_k; at time t they are alpha_t mu_k": (means / 0.6, stds),
        "these are the posteriors for variances s_k where s_k^2 belongs: stds holds standard deviations": (
            means,
            stds.sqrt(),
        ),
    }
    for sentence, (m, s) in others.items():
        require(gap(r, ExactMarginal(PATH, GaussianMixture(m, s, weights)).posterior(x, t)) > CLOSE, sentence)
    equal = ExactMarginal(PATH, GaussianMixture(means, stds)).posterior(x, t)
    require(gap(r, equal) > CLOSE, "these are the posteriors for equal weights: add log weights_k to every component")
    ratio = (r.clamp_min(1e-30).log() - truth.clamp_min(1e-30).log())[truth.min(1).values > 1e-6]
    shift = ratio - ratio[:, :1]  # zero if right; the same in every row if a factor of the component is missing
    require(
        gap(r, truth) < CLOSE or len(shift) == 0 or shift.std(0).max() > 1e-3,
        "each component is off by a factor that does not depend on x: a Gaussian is divided by (variance)^(d/2), which "
        "differs between components here",
    )
    require(gap(r, truth) < CLOSE, f"at t = 0.6 the largest error is {(r - truth).abs().max():.3g}, not 0")
    t = torch.rand(60, generator=draw)
    require(
        gap(answer(x, t, means, stds, weights), exact.posterior(x, t)) < CLOSE,
        "right where all t are equal, wrong where each point has its own: t[:, None] stands beside x",
    )
    far, late = x + 60, torch.full((60,), 0.95)
    r = answer(far, late, means, stds, weights)
    require(
        bool(r.isfinite().all()),
        "far from all components every density underflows to 0, and 0/0 is NaN: keep logarithms, and let softmax or "
        "logsumexp do the division",
    )
    require(gap(r, exact.posterior(far, late)) < CLOSE, "right near the data, wrong 60 units away from it")
    return "The rows sum to 1 and equal the exact posterior, near the data and 60 units away from it."


def check_loss(answer: Callable) -> str:
    """02.2: the conditional flow matching loss, `answer(field, z, t, eps) -> scalar`."""
    draw = torch.Generator().manual_seed(22)
    n, std = 60_000, 0.5
    data = GaussianMixture(torch.tensor([[1.0, -0.5, 0.3]]), std)
    exact = ExactMarginal(PATH, data)
    z, eps = data.sample(n, draw)[0], torch.randn(n, 3, generator=draw)
    t = torch.linspace(0, 1, n)  # both ends are in it, as they may be in a batch
    seen = []

    def spy(x: Tensor, at: Tensor) -> Tensor:
        seen.append((x, at))
        require(
            isinstance(x, Tensor) and x.shape == z.shape,
            f"the field should be asked at x of shape {tuple(z.shape)}; it was asked at {_shape(x)}. "
            "Multiply z by t[:, None], one time for each row",
        )
        require(
            isinstance(at, Tensor) and at.shape == t.shape,
            f"the field wants t of shape {tuple(t.shape)}; it got {_shape(at)}",
        )
        return exact.velocity(x, at)

    loss = answer(spy, z, t, eps)
    require(len(seen) > 0, "the field was never asked: the loss compares field(x_t, t) with the target")
    x_t, v_t, _ = PATH.sample(z, t, eps)
    x = seen[-1][0]
    places = {
        "the field was asked at the noise eps: in training x comes from the path, x_t = t z + (1 - t) eps": eps,
        "the field was asked at the data z: in training x comes from the path, x_t = t z + (1 - t) eps": z,
        "the field was asked at (1 - t) z + t eps: t = 0 is noise and t = 1 is data": PATH.sample(z, 1 - t, eps).x_t,
    }
    for sentence, wrong in places.items():
        require(gap(x, wrong) > CLOSE, sentence)
    require(gap(x, x_t) < CLOSE, "the field was not asked at x_t = t z + (1 - t) eps")
    require(
        not isinstance(loss, Tensor) or bool(loss.isfinite().all()),
        "the loss is not finite. At t = 1 the target (z - x) / (1 - t) is 0/0, and just before it is all rounding; "
        "write it without a division, as the velocity of the path",
    )
    require_like(loss, torch.zeros(()), "the loss")
    u, floor = exact.velocity(x_t, t), gaussian_loss_floor(std)
    square = (u - v_t).square()
    mistakes = {
        "the loss is d times too large: take the mean over dimensions too, not their sum": square.sum(1).mean(),
        "the loss is a sum over the batch: take the mean": square.sum(),
        "it is the loss for the target z + eps: the linear path has d_beta_t = -1": (u - z - eps).square().mean(),
        "it is the loss for the target eps - z, which runs from data to noise": (u + v_t).square().mean(),
        "it is the loss for the target z - x_t: from x_t the time left is 1 - t, not 1": (u - z + x_t).square().mean(),
        "it is the root of the mean: no root, the loss is a mean square": square.mean().sqrt(),
        "it is the mean distance, not its square": (u - v_t).abs().mean(),
    }
    for sentence, wrong in mistakes.items():
        require(abs(loss.item() / wrong.item() - 1) > CLOSE, f"{sentence} (floor {floor:.4f}, seen {loss.item():.4g})")
    share = loss.item() / floor
    require(
        abs(share - 1) < 0.02,
        f"the exact field of N(mu, {std}^2 I) should lose pi * {std} / 2 = {floor:.4f}; seen {loss.item():.4f}",
    )
    return f"The exact field loses {loss.item():.4f}, and the floor is pi/4 = {floor:.4f}: {share - 1:+.1%}."


def check_theorem(answer: Callable) -> str:
    """02.3: theorem 3 at common points, `answer(prediction, v, weights) -> (loss_fm, loss_cfm)`."""
    draw = torch.Generator().manual_seed(23)
    data = torch.randn(7, 3, generator=draw, dtype=torch.float64)
    x = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    t = 0.1 + 0.5 * torch.rand(40, generator=draw, dtype=torch.float64)
    apart = (x[:, None] - t[:, None, None] * data).square().sum(2)
    weights = torch.softmax(-apart / (2 * (1 - t[:, None]) ** 2), dim=1)  # (B, N): which z led to x
    v = PATH.velocity(x.repeat_interleave(7, 0), data.repeat(40, 1), t.repeat_interleave(7)).reshape(40, 7, 3)
    u = EmpiricalMarginal(PATH, data).velocity(x, t)
    features = torch.cat((x, x * t[:, None], x.sin(), t[:, None]), dim=1)

    def losses(theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        both = answer(features @ theta, v, weights)
        require(
            isinstance(both, tuple | list) and len(both) == 2,
            f"return two losses, (loss_fm, loss_cfm); got {type(both).__name__}",
        )
        for name, loss in zip(("loss_fm", "loss_cfm"), both, strict=True):
            require_like(loss, theta.new_zeros(()), name)
            require(loss.requires_grad, f"{name} does not depend on the prediction, or was detached from it")
        return (*both, *(torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in both))

    thetas = [torch.randn(10, 3, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    seen = [losses(theta) for theta in thetas]
    fm, cfm, grad_fm, grad_cfm = seen[0]
    truth = (features @ thetas[0] - u).square().mean()
    averaged = (features @ thetas[0] - v.mean(1)).square().mean()
    require(
        abs(fm - averaged) > CLOSE, "the target of loss_fm is a plain mean of the velocities; weigh them with `weights`"
    )
    require(abs(fm / truth - 3) > CLOSE, "loss_fm is a sum over dimensions: take the mean")
    require(
        abs(fm / truth - 1) < 1e-6,
        f"loss_fm should be {truth:.4f}, the mean square distance to the weighted average of the velocities; "
        f"it is {fm:.4f}",
    )
    require(
        cfm - fm > CLOSE,
        "loss_cfm should be larger than loss_fm by the spread of the velocities; "
        f"seen {cfm:.4f} and {fm:.4f}. Square first, then average: every candidate has its own error",
    )
    size = (grad_cfm - grad_fm).norm() / grad_fm.norm()
    require(
        size < 1e-8,
        f"the gradients differ by {size:.2g} of their size. In loss_cfm candidate i of point b counts with "
        "weights[b, i], sums over i and means over points and dimensions",
    )
    spread = (weights[:, :, None] * (v - u[:, None]).square()).sum(1).mean()
    require(
        all(abs((c - f) / spread - 1) < 1e-6 for f, c, *_ in seen),
        f"loss_cfm - loss_fm should be E tr Cov(v | x) / d = {spread:.4f}; it is {cfm - fm:.4f}",
    )
    return f"Equal gradients to {size:.0e}, and a difference of {spread:.4f} = E tr Cov(v | x) / d for both parameters."


def check_likelihood(answer: Callable) -> str:
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

    value = answer(exact.velocity, divergence, x.clone(), ts)
    truth = data.log_prob(x)
    require_like(value, truth, "log p_1(x)")
    value = value.detach()
    x_0 = simulate(rk4(lambda x, s: -exact.velocity(x, 1 - s)), x, ts)
    constant = math.log(2 * math.pi)
    noise = -0.5 * x_0.square().sum(1) - constant
    at_x = -0.5 * x.square().sum(1) - constant
    mistakes = {
        "the divergence comes in with the wrong sign: where the flow spreads (div u > 0) the density falls": (
            2 * noise - truth
        ),
        "this is only the integral: add log N(x_0; 0, I), the density where the path starts": truth - noise,
        "this is only log N(x_0; 0, I): the integral of the divergence is missing": noise,
        "log N is taken at x itself; it belongs to x_0, where the way back ends": truth - noise + at_x,
        "log N(x_0; 0, I) lacks its constant, -d/2 log(2 pi)": truth + constant,
    }
    for sentence, wrong in mistakes.items():
        require((value - wrong).abs().max() > 0.02, sentence)
    error = (value - truth).abs().max().item()
    require(
        error < 0.5,
        f"the largest error is {error:.2g}. The way runs from t = 1 back to t = 0: is dt negative, "
        "and x moved together with the integral?",
    )
    require(
        error < 1e-3,
        f"close, but the largest error is {error:.2g}: on {len(ts) - 1} steps Euler is too coarse. Take the slope and "
        "the divergence at the middle of each step",
    )
    return f"The largest error of log p is {error:.1e} on 60 points."


def check_memory(answer: Callable) -> str:
    """02.5: which training point led to x, `answer(x, t, data) -> (B, N)`."""
    draw = torch.Generator().manual_seed(25)
    data = 1.5 * torch.randn(12, 2, generator=draw, dtype=torch.float64)
    x, t = torch.randn(50, 2, generator=draw, dtype=torch.float64), torch.full((50,), 0.7, dtype=torch.float64)
    memory = EmpiricalMarginal(PATH, data)
    truth = memory.denoiser(x, t)
    lam = answer(x, t, data)
    require_like(lam, x.new_zeros(50, 12), "the weights")
    total = lam.sum(1)
    require(
        gap(total, torch.ones_like(total)) < CLOSE,
        f"the weights of one point should sum to 1; they sum to {total.min():.3g} to {total.max():.3g}. "
        "Softmax over the training points, dim=1",
    )
    logits = -torch.cdist(x, 0.7 * data).square() / (2 * 0.3**2)
    mistakes = {
        "the exponent is twice what it should be: the 1/2 of the Gaussian is missing": 2 * logits,
        "the exponent is divided by beta_t; a Gaussian has beta_t^2 there": 0.3 * logits,
        "the distances are to z_i; the path's mean at time t is alpha_t z_i": -torch.cdist(x, data).square()
        / (2 * 0.3**2),
        "the exponent holds distances; a Gaussian has their squares": -torch.cdist(x, 0.7 * data) / (2 * 0.3**2),
        "the largest weights go to the points furthest away: the exponent wants a minus": -logits,
    }
    for sentence, wrong in mistakes.items():
        require(gap(lam, wrong.softmax(1)) > CLOSE, sentence)
    require(gap(lam @ data, truth) < CLOSE, f"the average of the data is off by {(lam @ data - truth).abs().max():.3g}")
    t = 0.9 * torch.rand(50, generator=draw, dtype=torch.float64)
    require(
        gap(answer(x, t, data) @ data, memory.denoiser(x, t)) < CLOSE,
        "right where all t are equal, wrong where each point has its own: t[:, None] stands beside the N columns",
    )
    late = torch.full((50,), 0.99, dtype=torch.float64)
    require(
        bool(answer(x + 40, late, data).isfinite().all()),
        "far from the data every exponential underflows, and 0/0 is NaN: use softmax on the exponents",
    )

    def field(x: Tensor, t: Tensor) -> Tensor:
        return complete(PATH.schedule, x, t, z=answer(x, t, data) @ data).velocity

    start = torch.randn(200, 2, generator=draw, dtype=torch.float64)
    grid = 1 - (1 - torch.linspace(0, 1, 101, dtype=torch.float64)) ** 2  # shorter steps towards the data
    end = simulate(euler(field), start, grid)
    nearest = torch.cdist(end, data).min(1).values
    require(
        nearest.max().item() < 1e-3,
        f"samples should end on training points; the furthest ends {nearest.max():.2g} away",
    )
    return f"All {len(end)} samples end on one of the {len(data)} training points, to {nearest.max():.0e}."


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


CHECKS: dict[str, Callable[[Callable[..., object]], str]] = {
    "02.1": check_responsibilities,
    "02.2": check_loss,
    "02.3": check_theorem,
    "02.4": check_likelihood,
    "02.5": check_memory,
}
