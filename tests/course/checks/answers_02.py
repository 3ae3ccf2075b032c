"""Right and known-wrong answers to the exercises of lesson 02."""

import math
from functools import partial, reduce
from itertools import pairwise

import numpy
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from labkit.data import draws
from labkit.flow import ExactMarginal, GaussianMixture, GaussianPath, cfm_loss, log_likelihood
from labkit.training import PowerAverage, fit

PATH = GaussianPath()


def nothing(*arguments):
    return None


def called(name, answer):
    """The answer under a name of its own, which a test is found by."""

    def inner(*arguments):
        return answer(*arguments)

    inner.__name__ = name
    return inner


# 02.1 responsibilities -------------------------------------------------------------------------------------------


def log_joint(x, t, means, stds, weights, var=None, alpha=None, half=0.5, power=None):
    """The logarithms, with a place for a slip in every part."""
    a, b = t[:, None], 1 - t[:, None]
    c = a**2 * stds**2 + b**2 if var is None else var(a, b, stds)
    a = a if alpha is None else alpha(a)
    squares = (x[:, None] - a[:, :, None] * means).square().sum(2)
    return weights.log() - half * squares / c - (x.shape[1] / 2 if power is None else power) * c.log()


def responsibilities(x, t, means, stds, weights):
    return log_joint(x, t, means, stds, weights).softmax(dim=1)


def slip(name, **wrong):
    return called(name, lambda *given: log_joint(*given, **wrong).softmax(dim=1))


def by_logsumexp(*given):
    joint = log_joint(*given)
    return (joint - joint.logsumexp(dim=1, keepdim=True)).exp()


def in_float64(*given):
    return log_joint(*(part.double() for part in given)).softmax(1)


def in_place(x, t, means, stds, weights):
    c = (t[:, None] * stds).square_().add_((1 - t[:, None]) ** 2)
    means = means.mul_(1.0)
    joint = -torch.cdist(x / t[:, None].clamp_min(1e-9), means).square_().mul_(t[:, None] ** 2).div_(2 * c)
    return joint.add_(weights.log_()).sub_(c.log().mul_(x.shape[1] / 2)).softmax(1)


def point_by_point(x, t, means, stds, weights):
    rows = []
    for place, s in zip(x, t, strict=True):
        logs = []
        for mean, std, weight in zip(means, stds, weights, strict=True):
            c = s**2 * std**2 + (1 - s) ** 2
            logs.append(weight.log() - ((place - s * mean) ** 2).sum() / (2 * c) - len(place) / 2 * c.log())
        rows.append(torch.softmax(torch.stack(logs), dim=0))
    return torch.stack(rows)


def by_numpy(x, t, means, stds, weights):
    x, t, means, stds, weights = (part.numpy().astype(float) for part in (x, t, means, stds, weights))
    c = t[:, None] ** 2 * stds**2 + (1 - t[:, None]) ** 2
    joint = numpy.log(weights) - ((x[:, None] - t[:, None, None] * means) ** 2).sum(2) / (2 * c)
    joint -= x.shape[1] / 2 * numpy.log(c)
    r = numpy.exp(joint - joint.max(1, keepdims=True))
    return r / r.sum(1, keepdims=True)


def by_distributions(x, t, means, stds, weights):
    scale = (t[:, None] ** 2 * stds**2 + (1 - t[:, None]) ** 2).sqrt()[:, :, None]
    parts = Independent(Normal(t[:, None, None] * means, scale.expand(-1, -1, 3)), 1)
    return torch.softmax(parts.log_prob(x[:, None]) + torch.log(weights), 1)


def by_a_mixture_of_distributions(x, t, means, stds, weights):
    cov = (t[:, None] ** 2 * stds**2 + (1 - t[:, None]) ** 2)[:, :, None, None] * torch.eye(x.shape[1])
    parts = MultivariateNormal(t[:, None, None] * means, cov)
    mixing = Categorical(weights.expand(len(x), -1))
    whole = MixtureSameFamily(mixing, parts)
    return (mixing.logits + parts.log_prob(x[:, None]) - whole.log_prob(x)[:, None]).exp()


def by_einsum(x, t, means, stds, weights):
    c = torch.einsum("b,k->bk", t**2, stds**2) + (1 - t)[:, None] ** 2
    off = x[:, None] - torch.einsum("b,kd->bkd", t, means)
    joint = weights.log() - torch.einsum("bkd,bkd->bk", off, off) / (2 * c) - 1.5 * torch.log(c)
    return torch.nn.functional.softmax(joint, dim=-1)


def by_the_library(x, t, means, stds, weights):
    return ExactMarginal(GaussianPath(), GaussianMixture(means, stds, weights)).posterior(x, t)


def shifted_by_the_largest(*given):
    joint = log_joint(*given)
    r = torch.exp(joint - joint.amax(1, keepdim=True))
    return r / r.sum(1, keepdim=True)


class Posterior:
    def __call__(self, x, t, means, stds, weights):
        r = torch.vmap(lambda p, s: log_joint(p[None], s[None], means, stds, weights)[0])(x, t)
        return r.log_softmax(1).exp()


def raw_exponentials(*given):
    joint = log_joint(*given).exp()
    return joint / joint.sum(dim=1, keepdim=True)


def raw_with_a_guard(*given):
    joint = log_joint(*given).exp()
    return (joint + 1e-30) / (joint + 1e-30).sum(dim=1, keepdim=True)


def no_weights(x, t, means, stds, weights):
    return responsibilities(x, t, means, stds, torch.ones_like(weights))


def weights_for_log_weights(x, t, means, stds, weights):
    return (log_joint(x, t, means, stds, torch.ones_like(weights)) + weights).softmax(dim=1)


def first_time_for_all(x, t, *rest):
    return responsibilities(x, t[:1].expand(len(x)), *rest)


def over_the_batch(*given):
    return log_joint(*given).softmax(dim=0)


def only_logarithms(*given):
    return log_joint(*given).log_softmax(1)


def plain_times(x, t, means, stds, weights):
    return (-(x[:, None] - t * means).square().sum(2)).softmax(1)


def hard(*given):
    return torch.nn.functional.one_hot(log_joint(*given).argmax(1), 4).float()


# 02.2 the loss ---------------------------------------------------------------------------------------------------


def cfm(field, z, t, eps):
    s = t[:, None]
    return (field(s * z + (1 - s) * eps, t) - (z - eps)).square().mean()


def by_mse(field, z, t, eps):
    t_ = t.unsqueeze(-1)
    return nn.functional.mse_loss(field(torch.lerp(eps, z, t_), t), z - eps)


def by_the_course(field, z, t, eps):
    return cfm_loss(field, PATH, z, t=t, eps=eps)


def all_in_place(field, z, t, eps):
    v = z - eps
    x = z.mul_(t[:, None]).add_(eps.mul_(1 - t[:, None]))
    return field(x, t).sub(v).pow_(2).mean()


def sample_by_sample(field, z, t, eps):
    total = 0.0
    for k in range(len(z)):
        x = t[k] * z[k] + (1 - t[k]) * eps[k]
        total = total + ((field(x[None], t[k : k + 1])[0] - z[k] + eps[k]) ** 2).mean()
    return total / len(z)


def in_chunks(field, z, t, eps):
    parts = zip(z.split(100), t.split(100), eps.split(100), strict=True)
    return sum(cfm(field, *part) * len(part[0]) for part in parts) / len(z)


def by_addcmul(field, z, t, eps):
    off = field(torch.addcmul(eps, t[:, None], z - eps), t) - z + eps
    return (off * off).sum() / off.numel()


def with_einsum(field, z, t, eps):
    x = torch.einsum("b,bd->bd", t, z) + torch.einsum("b,bd->bd", 1 - t, eps)
    off = field(x, t) - (z - eps)
    return torch.einsum("bd,bd->", off, off) / (off.shape[0] * off.shape[1])


def from_double(field, z, t, eps):
    z, t, eps = z.double(), t.double(), eps.double()
    return cfm(lambda x, at: field(x.float(), at.float()), z, t, eps)


def by_norms(field, z, t, eps):
    x, v, _ = PATH.sample(z, t, eps)
    return torch.linalg.norm(field(x, t) - v, dim=1).square().mean() / z.shape[1]


class Loss(nn.Module):
    def forward(self, field, z, t, eps):
        s = t.reshape(-1, *[1] * (z.ndim - 1))
        return nn.MSELoss()(field(s * z + (1 - s) * eps, t), z - eps)


def expanded(field, z, t, eps):
    v, u = z - eps, field(eps + t.view(-1, 1) * (z - eps), t)
    return (u**2 - 2 * u * v + v**2).mean()


def target(name, of, at=None):
    """The loss with another target, or asked elsewhere."""

    def inner(field, z, t, eps):
        s = t[:, None]
        x = s * z + (1 - s) * eps
        return (field(x if at is None else at(z, s, eps), t) - of(z, s, eps, x)).square().mean()

    return called(name, inner)


def reduced(name, how):
    return called(name, lambda field, z, t, eps: how(field(PATH.sample(z, t, eps).x_t, t) - (z - eps)))


def velocity(z, s, eps, x):
    return z - eps


def detached_field(field, z, t, eps):
    return cfm(lambda x, at: field(x, at).detach(), z, t, eps)


@torch.no_grad()
def under_no_grad(field, z, t, eps):
    return cfm(field, z, t, eps)


def as_a_number(field, z, t, eps):
    return cfm(field, z, t, eps).item()


def half_detached(field, z, t, eps):
    u = field(PATH.sample(z, t, eps).x_t, t)
    return ((u + u.detach()) / 2 - (z - eps)).square().mean()


def marked_as_if(field, z, t, eps):
    return cfm(lambda x, at: field(x, at).detach(), z, t, eps).requires_grad_()


def own_noise(field, z, t, eps):
    return cfm(field, z, t, torch.randn(z.shape, generator=torch.Generator().manual_seed(0)))


def own_noise_in_the_target(field, z, t, eps):
    other = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    return (field(PATH.sample(z, t, eps).x_t, t) - (z - other)).square().mean()


def time_backwards(field, z, t, eps):
    return cfm(lambda x, at: field(x, 1 - at), z, t, eps)


def own_times(field, z, t, eps):
    return cfm(field, z, t.flip(0), eps)


def time_not_expanded(field, z, t, eps):
    return (field(t * z + (1 - t) * eps, t) - (z - eps)).square().mean()


def one_column(field, z, t, eps):
    return (field(t * z[:, 0] + (1 - t) * eps[:, 0], t) - (z - eps)).square().mean()


def time_as_a_column(field, z, t, eps):
    return (field(t[:, None] * z + (1 - t[:, None]) * eps, t[:, None]) - (z - eps)).square().mean()


def half_of_the_batch(field, z, t, eps):
    return cfm(field, z[::2], t[::2], eps[::2])


# 02.3 theorem 3 --------------------------------------------------------------------------------------------------


def parts_of(prediction, v, weights):
    u = (weights[:, :, None] * v).sum(1)
    return u, (prediction[:, None] - v).square().mean(2)


def both_losses(prediction, v, weights):
    u, each = parts_of(prediction, v, weights)
    return (prediction - u).square().mean(), (weights * each).sum(1).mean()


def losses(name, fm=None, cfm=None):
    """Both losses, one of them or both another."""

    def inner(prediction, v, weights):
        right = both_losses(prediction, v, weights)
        return tuple(r if own is None else own(prediction, v, weights) for r, own in zip(right, (fm, cfm), strict=True))

    return called(name, inner)


def by_einsum_too(p, v, w):
    u = torch.einsum("bn,bnd->bd", w, v)
    return nn.functional.mse_loss(p, u), torch.einsum("bn,bnd->", w, (p[:, None] - v) ** 2) / p.numel()


def with_loops(p, v, w):
    fm = cfm = 0.0
    for b in range(len(p)):
        fm = fm + (p[b] - sum(w[b, i] * v[b, i] for i in range(v.shape[1]))).square().mean() / len(p)
        for i in range(v.shape[1]):
            cfm = cfm + w[b, i] * (p[b] - v[b, i]).square().mean() / len(p)
    return [fm, cfm]


def by_expansion(p, v, w):
    u = (w.unsqueeze(1) @ v).squeeze(1)
    second = (w * v.pow(2).sum(2)).sum()
    return (p - u).pow(2).mean(), ((p * p).sum() - 2 * (p * u).sum() + second) / p.numel()


def by_the_theorem(p, v, w):
    u, _ = parts_of(p, v, w)
    fm = (p - u).square().mean()
    return fm, fm + (w[..., None] * (v - u[:, None]) ** 2).sum(1).mean()


def in_single(p, v, w):
    return both_losses(p.float(), v.float(), w.float())


def stacked(p, v, w):
    return torch.stack(both_losses(p, v, w))


def by_roots_of_weights(p, v, w):
    return both_losses(p, v, w)[0], (w[:, :, None].sqrt() * (p[:, None] - v)).pow(2).sum() / p.numel()


def by_broadcast_mse(p, v, w):
    each = nn.functional.mse_loss(p[:, None].expand_as(v), v, reduction="none").mean(-1)
    return nn.functional.mse_loss(p, torch.bmm(w[:, None], v)[:, 0]), (each * w).sum(-1).mean()


class Losses:
    def __call__(self, p, v, w):
        fm, cfm = both_losses(p, v, w)
        return {"loss_fm": fm, "loss_cfm": cfm}


def by_cdist(p, v, w):
    apart = torch.cdist(p[:, None], v)[:, 0]
    return ((p - (w[..., None] * v).sum(-2)) ** 2).mean(), (w * apart**2).sum(1).mean() / p.shape[1]


def weights_in_place(p, v, w):
    each = (p[:, None] - v).square_().mean(2)
    u = v.mul_(w[:, :, None]).sum(1)
    return (p - u).square().mean(), w.mul_(each).sum(1).mean()


def likeliest(v, weights):
    return v[torch.arange(len(v)), weights.argmax(1)]


def zeros_that_want_gradients(p, v, w):
    return torch.zeros((), dtype=p.dtype, requires_grad=True), torch.ones((), dtype=p.dtype, requires_grad=True)


def prediction_detached_in_cfm(p, v, w):
    fm, cfm = both_losses(p, v, w)
    return fm, cfm.detach() + 0 * fm


def one_loss(p, v, w):
    return both_losses(p, v, w)[1]


def constant_forgotten(p, v, w):
    return (both_losses(p, v, w)[0],) * 2


# 02.4 the training loop ------------------------------------------------------------------------------------------


def mixed(z, t, eps):
    return t[:, None] * z + (1 - t[:, None]) * eps


def by_angle(z, t, eps):
    return (1.57 * t).sin()[:, None] * z + (1.57 * t).cos()[:, None] * eps


def uniform(z):
    return torch.rand(len(z))


def loop(
    name, make=lambda p: torch.optim.Adam(p, lr=1e-2), share=0.5, batch=256, times=uniform, decay=True,
    loss=lambda u, z, eps, t: (u - (z - eps)).square().mean(), at=mixed, told=lambda t: t, zero=True, step=True,
    back=True, ask=lambda model, x, t: model(x, t), back_to=lambda model: None,
):  # fmt: skip
    """A training loop with `share` of the steps, and a place for a style or a slip in every part."""

    def train(model, sample, steps):
        steps = int(share * steps)
        optimizer = make(model.parameters())
        first = [group["lr"] for group in optimizer.param_groups]
        for k in range(steps):
            z = sample(batch)
            t, eps = times(z), torch.randn_like(z)
            for group, lr in zip(optimizer.param_groups, first, strict=True):
                group["lr"] = lr * (1 - k / steps) if decay else lr
            if zero:
                optimizer.zero_grad()
            value = loss(ask(model, at(z, t, eps), told(t)), z, eps, t)
            if back:
                value.backward()
            if step:
                optimizer.step()
        return back_to(model)

    train.__name__ = name
    return train


def short(name, **slip):
    """A slip that shows after a few steps."""
    return loop(name, share=0.4, **slip)


def with_fit(model, sample, steps):
    stream = ((sample(256), None) for _ in range(steps // 2))
    return fit(model, lambda net, z, y: cfm_loss(net, PATH, z), stream, steps=steps // 2, lr=1e-2, progress=False)


def with_fit_in_place(model, sample, steps):
    stream = draws(lambda n, generator: (sample(n), None), 256, torch.Generator())
    fit(model, lambda net, z, y: cfm_loss(net, PATH, z), stream, steps=steps // 2, lr=1e-2, progress=False)


def with_an_average(model, sample, steps):
    optimizer, average, losses = torch.optim.AdamW(model.parameters(), lr=5e-3), PowerAverage(model), []
    for _ in range(3 * steps // 5):
        value = cfm_loss(model, PATH, sample(256))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        average.update(model)
        losses.append(value.item())
    return average.module, losses


def that_yields(model, sample, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for k in range(steps // 2):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - 2 * k / steps)
        value = cfm_loss(model, PATH, sample(256))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        yield value.item()


def by_hand(model, sample, steps):
    memory = [torch.zeros_like(p) for p in model.parameters()]
    for k in range(steps):
        z = sample(250)
        eps, t = torch.randn(z.shape), torch.rand(len(z))
        grads = torch.autograd.grad(cfm(model, z, t, eps), list(model.parameters()))
        with torch.no_grad():
            for p, g, m in zip(model.parameters(), grads, memory, strict=True):
                p -= 0.1 * (1 - k / steps) * m.mul_(0.9).add_(g)


def in_epochs(model, sample, steps):
    data, optimizer = sample(100_000), torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for z in data.split(200):
        optimizer.zero_grad()
        cfm_loss(model, PATH, z).backward()
        optimizer.step()
        schedule.step()
    return {"model": model}


def micro_batches(model, sample, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for k in range(steps // 2):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - 2 * k / steps)
        for z in sample(256).split(128):
            (cfm_loss(model, PATH, z) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()


def never_training(model, sample, steps):
    return model


def forgets_the_network(model, sample, steps):
    for _ in range(10):
        sample(256)


def its_own_network(model, sample, steps):
    own = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(own.parameters())
    for _ in range(10):
        z = sample(256)
        t = torch.rand(256, 1)
        optimizer.zero_grad()
        (own(torch.cat((z, t), 1)) - z).square().mean().backward()
        optimizer.step()
    return own


def for_ever(model, sample, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    while True:
        z = sample(4096)
        optimizer.zero_grad()
        cfm_loss(model, PATH, z).backward()
        optimizer.step()


def the_same_data_for_ever(model, sample, steps):
    optimizer, z = torch.optim.Adam(model.parameters(), lr=1e-2), sample(4096)
    for _ in range(steps):
        optimizer.zero_grad()
        cfm_loss(model, PATH, z).backward()
        optimizer.step()


def a_copy_is_trained(model, sample, steps):
    return loop("", share=0.02)(PowerAverage(model).module, sample, steps)


def one_graph_for_all(model, sample, steps):
    optimizer, value = torch.optim.Adam(model.parameters()), cfm_loss(model, PATH, sample(256))
    for _ in range(5):
        value.backward()
        optimizer.step()


# 02.5 likelihood -------------------------------------------------------------------------------------------------


def log_normal(x):
    return -0.5 * x.square().sum(1) - x.shape[1] / 2 * math.log(2 * math.pi)


def likely(x_0, halves):
    return -0.5 * x_0.square().sum(1) - halves / 2 * math.log(2 * math.pi)


def back(field, divergence, x, ts, rule="midpoint"):
    """(x_0, minus the integral) by a rule: one of order one, two or four."""
    total, n = torch.zeros(len(x), dtype=x.dtype), len(x)

    def slope(x, t):
        return field(x, t.expand(n)), divergence(x, t.expand(n))

    for t, t_before in pairwise(ts.flip(0)):
        dt, (u, d) = t_before - t, slope(x, t)
        if rule == "midpoint":
            u, d = slope(x + dt / 2 * u, t + dt / 2)
        elif rule == "heun":
            u_2, d_2 = slope(x + dt * u, t_before)
            u, d = (u + u_2) / 2, (d + d_2) / 2
        elif rule == "rk4":
            (u_2, d_2), half = slope(x + dt / 2 * u, t + dt / 2), dt / 2
            u_3, d_3 = slope(x + half * u_2, t + half)
            u_4, d_4 = slope(x + dt * u_3, t_before)
            u, d = (u + 2 * u_2 + 2 * u_3 + u_4) / 6, (d + 2 * d_2 + 2 * d_3 + d_4) / 6
        x, total = x + dt * u, total + dt * d
    return x, total


def likelihood(field, divergence, x, ts):
    x_0, total = back(field, divergence, x, ts)
    return log_normal(x_0) + total


def density(name, of, rule="midpoint", steps=lambda ts: ts):
    """Another way to put the parts (x_0, minus the integral, x) together."""
    return called(name, lambda field, divergence, x, ts: of(*back(field, divergence, x, steps(ts), rule), x))


def by_the_normal(x_0, total, x):
    return Normal(0.0, 1.0).log_prob(x_0).sum(1) + total


def by_log_likelihood(field, divergence, x, ts):
    return log_likelihood(field, x, ts)


def as_numpy(field, divergence, x, ts):
    return likelihood(field, divergence, x, ts).numpy()


def as_a_list(field, divergence, x, ts):
    return likelihood(field, divergence, x, ts).tolist()


def single(field, divergence, x, ts):
    return likelihood(field, divergence, x.float(), ts.float())


def backwards_by_index(field, divergence, x, ts):
    total = 0
    for k in range(len(ts) - 1, 0, -1):
        h, ones = ts[k] - ts[k - 1], torch.ones(len(x), dtype=x.dtype)
        middle = x - h / 2 * field(x, ts[k] * ones)
        total += h * divergence(middle, (ts[k] - h / 2) * ones)
        x = x - h * field(middle, (ts[k] - h / 2) * ones)
    return -(x**2).sum(1) / 2 - math.log(2 * math.pi) - total


def reversed_time(field, divergence, x, ts):
    def step(state, grid):
        (y, total), (t, after) = state, grid
        h, at = after - t, (1 - (t + after) / 2).expand(len(y))
        middle = y - h / 2 * field(y, (1 - t).expand(len(y)))
        return y - h * field(middle, at), total - h * divergence(middle, at)

    return log_normal_plus(*reduce(step, pairwise(1 - ts.flip(0)), (x, 0)))


def log_normal_plus(x_0, total):
    return MultivariateNormal(torch.zeros_like(x_0), torch.eye(2, dtype=x_0.dtype)).log_prob(x_0) + total


def in_place_density(field, divergence, x, ts):
    total = torch.zeros(len(x), dtype=x.dtype)
    for t, dt in zip(ts.flip(0)[:-1], -ts.diff().flip(0), strict=True):
        at = (t + dt / 2).expand(len(x))
        middle = x + dt / 2 * field(x, t.expand(len(x)))
        total += dt * divergence(middle, at)
        x += dt * field(middle, at)
    return total.add_(log_normal(x))


class Density:
    rule = "heun"

    def __call__(self, field, divergence, x, ts):
        x_0, total = back(field, divergence, x, ts, self.rule)
        return log_normal(x_0) + total


def one_number(field, divergence, x, ts):
    return likelihood(field, divergence, x, ts).mean()


def forwards(field, divergence, x, ts):
    x_1, total = back(field, divergence, x, ts.flip(0))
    return log_normal(x_1) - total


def x_does_not_move(field, divergence, x, ts):
    return log_normal(x) - sum(divergence(x, t.expand(len(x))) for t in ts) / len(ts)


def no_dt(field, divergence, x, ts):
    x_0, _ = back(field, divergence, x, ts)
    total = 0
    for t, dt in zip(ts.flip(0)[:-1], -ts.diff().flip(0), strict=True):
        total, x = total - divergence(x, t.expand(len(x))), x + dt * field(x, t.expand(len(x)))
    return log_normal(x_0) + total


def a_single_time(field, divergence, x, ts):
    return log_normal(x) + divergence(x, ts[0])


RIGHT = {
    "02.1": [
        responsibilities, by_logsumexp, in_float64, in_place, point_by_point, by_numpy, by_distributions, Posterior(),
        by_a_mixture_of_distributions, by_einsum, by_the_library, shifted_by_the_largest, partial(by_logsumexp),
    ],
    "02.2": [
        cfm, by_mse, by_the_course, all_in_place, sample_by_sample, in_chunks, by_addcmul, with_einsum, from_double,
        by_norms, Loss(), expanded, lambda field, z, t, eps: cfm(field, z, t, eps),
    ],
    "02.3": [
        both_losses, by_einsum_too, with_loops, by_expansion, by_the_theorem, in_single, stacked, by_roots_of_weights,
        by_broadcast_mse, Losses(), by_cdist, weights_in_place,
    ],
    "02.4": [
        loop("adam_with_decay"), with_fit, with_fit_in_place, with_an_average, that_yields, by_hand, in_epochs,
        micro_batches, loop("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), share=0.9),
        loop("sum_of_squares", loss=lambda u, z, eps, t: (u - (z - eps)).square().sum()),
        loop("adamw_large_batches", lambda p: torch.optim.AdamW(p, lr=2e-2), share=0.4, batch=512),
        loop("rmsprop_and_lists", lambda p: torch.optim.RMSprop(p, lr=5e-3), back_to=lambda model: [1.0, model]),
    ],
    "02.5": [
        likelihood, density("rk4", lambda x_0, total, x: log_normal(x_0) + total, "rk4"), by_log_likelihood, as_numpy,
        density("heun", by_the_normal, "heun"), as_a_list, single, backwards_by_index, reversed_time, in_place_density,
        Density(), partial(likelihood),
    ],
}  # fmt: skip
WRONG = {
    "02.1": [
        (raw_exponentials, "underflows to 0, and 0/0 is NaN"),
        (raw_with_a_guard, r"60 units away .* Keep to logarithms"),
        (slip("std_for_variance", var=lambda a, b, s: a**2 * s + b**2), "stds holds standard deviations"),
        (slip("means_without_alpha", alpha=torch.ones_like), "at time t they are at alpha_t mu_k"),
        (no_weights, "taken for equal"),
        (slip("not_normalised", power=0), r"not normalised: each is divided by \(variance\)"),
        (weights_for_log_weights, "should be log weights_k"),
        (slip("no_half", half=1), "the 1/2 of the Gaussian is missing"),
        (slip("beta_not_squared", var=lambda a, b, s: a**2 * s**2 + b), "beta_t stands where"),
        (slip("alpha_not_squared", var=lambda a, b, s: a * s**2 + b**2), "alpha_t stands where"),
        (slip("no_alpha_in_the_variance", var=lambda a, b, s: s**2 + b**2), r"lacks alpha_t\^2"),
        (slip("variance_of_the_data", var=lambda a, b, s: s**2 + 0 * b), "is that of the data"),
        (slip("noise_only", var=lambda a, b, s: 0 * s + b**2), "the noise only"),
        (slip("d_is_one", power=0.5), "d is 3 here, not 1"),
        (slip("d_is_two", power=1), "d is 3 here, not 2"),
        (slip("no_root", power=3), "it is a root"),
        (slip("sign", half=-0.5), "wrong sign"),
        (slip("swapped", var=lambda a, b, s: b**2 * s**2 + a**2, alpha=lambda a: 1 - a), "swapped"),
        (first_time_for_all, r"a time of its own .* off by .*t\[:, None\]"),
        (over_the_batch, "sum to 1; they sum to"),
        (only_logarithms, "sum to 1; they sum to"),
        (plain_times, "your function stopped in the line .*expand_t"),
        (hard, "the answer is off by"),
        (nothing, "is a `return` missing"),
    ],
    "02.2": [
        (detached_field, "no gradient flows back"),
        (under_no_grad, "no gradient flows back"),
        (marked_as_if, "its gradient is off by 100%"),
        (half_detached, "its gradient is off by 50%"),
        (as_a_number, "a plain number carries no gradient"),
        (target("that_blows_up", lambda z, s, e, x: (z - x) / (1 - s)), r"\(z - x\) / \(1 - t\) is 0/0"),
        (target("with_a_clamp", lambda z, s, e, x: (z - x) / (1 - s).clamp_min(1e-4)), "with a guard"),
        (target("plus", lambda z, s, e, x: z + e), "target is z \\+ eps"),
        (target("backwards", lambda z, s, e, x: e - z), "runs from data to noise"),
        (target("denoiser", lambda z, s, e, x: z), "that is the denoiser's"),
        (target("noise", lambda z, s, e, x: e), "that is the noise predictor's"),
        (target("z_minus_x", lambda z, s, e, x: z - x), "the time left is 1 - t"),
        (target("x_from_noise", velocity, lambda z, s, e: e), "that is the noise"),
        (target("x_from_data", velocity, lambda z, s, e: z), "that is the data z"),
        (target("path_backwards", velocity, lambda z, s, e: (1 - s) * z + s * e), "t = 0 is noise and t = 1 is data"),
        (target("noise_stays", velocity, lambda z, s, e: s * z + e), "the noise should fade"),
        (own_noise, "another noise in it: use the eps"),
        (own_noise_in_the_target, "the answer is off by"),
        (time_backwards, "it runs backwards, 1 - t"),
        (own_times, "Hand it the t that you were handed"),
        (reduced("sum_over_dimensions", lambda off: off.square().sum(1).mean()), "mean over dimensions too"),
        (reduced("sum_over_all", lambda off: off.square().sum()), "a sum over points and dimensions"),
        (reduced("half", lambda off: off.square().mean() / 2), "no factor 1/2"),
        (reduced("root", lambda off: off.square().mean().sqrt()), "it is the root of that"),
        (reduced("absolute", lambda off: off.abs().mean()), "absolute differences"),
        (reduced("for_each_point", lambda off: off.square().mean(1)), "a loss for each point.* should have shape"),
        (one_column, r"x, where the field is asked, .* should have shape"),
        (time_as_a_column, r"the time should have shape \(300,\); it has \(300, 1\)"),
        (half_of_the_batch, "at all 300 points; it was at 150"),
        (time_not_expanded, r"in the line `.*` with RuntimeError: .*expand_t"),
        (nothing, "never asked"),
    ],
    "02.3": [
        (constant_forgotten, "Square first, then average"),
        (losses("alike_in_fm", lambda p, v, w: (p - v.mean(1)).square().mean()), "weigh them with `weights`"),
        (losses("alike_in_cfm", None, lambda p, v, w: (p[:, None] - v).square().mean()), "all candidates count alike"),
        (called("swapped", lambda *given: both_losses(*given)[::-1]), "the two losses are swapped"),
        (called("detached", lambda p, v, w: both_losses(p.detach(), v, w)), "detached"),
        (prediction_detached_in_cfm, "the gradients differ by"),
        (losses("plus_ten", None, lambda p, v, w: both_losses(p, v, w)[1] + 10), "should be E tr Cov"),
        (losses("no_two", None, lambda p, v, w: 10 + (p * p - p * parts_of(p, v, w)[0]).mean()), "gradients differ"),
        (losses("likeliest", lambda p, v, w: (p - likeliest(v, w)).square().mean()), "the likeliest of the candidates"),
        (losses("likeliest_too", None, lambda p, v, w: (p - likeliest(v, w)).square().mean()), "only the likeliest"),
        (losses("mean_of_weighted", None, lambda p, v, w: (w * parts_of(p, v, w)[1]).mean()), "a mean over candidates"),
        (losses("sum", lambda p, v, w: (p - parts_of(p, v, w)[0]).square().sum(1).mean()), "a sum over dimensions"),
        (losses("inside", None, lambda p, v, w: (w**2 * parts_of(p, v, w)[1]).sum(1).mean()), "weights are squared"),
        (losses("half", lambda p, v, w: both_losses(p, v, w)[0] / 2), "no factor 1/2"),
        (losses("each", lambda p, v, w: (p - parts_of(p, v, w)[0]).square()), "loss_fm should have shape"),
        (zeros_that_want_gradients, "loss_fm: the answer is off by"),
        (one_loss, r"return two losses.*a tensor of shape \(\)"),
        (called("numbers", lambda *given: [value.item() for value in both_losses(*given)]), "should be a tensor"),
        (nothing, "return two losses.*None"),
    ],
    "02.4": [
        (never_training, "`sample` was never called"),
        (forgets_the_network, "never asked with gradients"),
        (its_own_network, "not a network of your own"),
        (a_copy_is_trained, "a copy trained that is not returned"),
        (loop("no_step", step=False, share=0.02), r"optimizer\.step\(\) is missing"),
        (loop("no_backward", back=False, share=0.02), r"is loss\.backward\(\) missing"),
        (loop("output_detached", ask=lambda m, x, t: m(x, t).detach(), share=0.02), "cuts the gradient off"),
        (one_graph_for_all, "compute the loss anew"),
        (loop("time_fixed", times=lambda z: torch.full((len(z),), 0.5), share=0.02), "told t = 0.5 at every step"),
        (loop("time_not_told", told=torch.zeros_like, share=0.02), "told t = 0 at every step"),
        (loop("a_time_a_batch", times=lambda z: torch.rand(1).expand(len(z)), share=0.1), "draw one t for each sample"),
        (loop("no_zero_grad", zero=False, share=0.3), r"zero_grad\(\) is missing"),
        (loop("blows_up", lambda p: torch.optim.SGD(p, lr=30.0), share=0.02), "inf or NaN: the learning rate is too"),
        (short("denoiser", loss=lambda u, z, eps, t: (u - z).square().mean()), r"has learned E\[z \| x_t\]"),
        (short("noise", loss=lambda u, z, eps, t: (u - eps).square().mean()), r"has learned E\[eps \| x_t\]"),
        (short("reversed", loss=lambda u, z, eps, t: (u - eps + z).square().mean()), "the velocity backwards"),
        (short("fresh_noise", loss=lambda u, z, eps, t: (u - z + torch.randn_like(z)).square().mean()), "another than"),
        (short("at_the_data", at=lambda z, t, eps: z), "x itself: it was asked at the data"),
        (short("wrong_time", told=lambda t: 1 - t), "at the time 1 - t"),
        (short("half_of_the_times", times=lambda z: torch.rand(len(z)) / 2), r"lie in \[0\.00, 0\.50\]"),
        (loop("too_short", share=0.1), "10% of the budget"),
        (loop("asleep", lambda p: torch.optim.Adam(p, lr=1e-6), share=0.2), "has hardly moved"),
        (loop("slow", lambda p: torch.optim.Adam(p, lr=2e-4), share=0.75), "fell slowly all the way"),
        (short("cosine_path", at=by_angle), "asked at x_t"),
        (loop("wild", lambda p: torch.optim.Adam(p, lr=0.04), share=0.8, decay=False), "goes up and down"),
        (for_ever, "With larger ones take fewer"),
        (the_same_data_for_ever, "A point that is shown again counts again"),
        (nothing, "`sample` was never called"),
    ],
    "02.5": [
        (density("plus_divergence", lambda x_0, total, x: log_normal(x_0) - total), "wrong sign"),
        (density("no_density_of_the_start", lambda x_0, total, x: total), "add log N"),
        (density("density_of_the_end", lambda x_0, total, x: log_normal(x) + total), "belongs to x_0"),
        (density("no_constant", lambda x_0, total, x: -0.5 * x_0.square().sum(1) + total), "lacks its constant"),
        (density("no_integral", lambda x_0, total, x: log_normal(x_0)), "the integral of the divergence is missing"),
        (density("half_a_constant", lambda x_0, total, x: likely(x_0, 1) + total), r"and d = 2: one -1/2 log\(2 pi\)"),
        (density("two_constants", lambda x_0, total, x: likely(x_0, 4) + total), "the 1/2 is missing"),
        (density("the_density", lambda x_0, total, x: (log_normal(x_0) + total).exp()), "its logarithm is asked for"),
        (density("minus", lambda x_0, total, x: -log_normal(x_0) - total), "minus the log density"),
        (density("no_log", lambda x_0, total, x: log_normal(x_0).exp() + total), "where its logarithm belongs"),
        (density("one_step_less", by_the_normal, steps=lambda ts: ts[1:]), "one step is"),
        (density("first_step_less", by_the_normal, steps=lambda ts: ts[:-1]), "one step"),
        (density("by_euler", lambda x_0, total, x: log_normal(x_0) + total, "euler"), "of order one, as Euler's are"),
        (forwards, "goes forwards"),
        (x_does_not_move, "x stays where it is"),
        (no_dt, "not multiplied by the length of a step|dt negative"),
        (a_single_time, "your function stopped in the line"),
        (one_number, r"should have shape \(60,\); it has \(\)"),
        (called("a_column", lambda *given: likelihood(*given)[:, None]), r"it has \(60, 1\)"),
        (nothing, "is a `return` missing"),
    ],
}  # fmt: skip
