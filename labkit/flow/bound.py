r"""The variational bound: with how few bits a chain of reverse steps can be sure to tell the data.

With q the chain that adds noise at the times of a grid from 0 to 1, and p the one that `ancestral` takes in reverse,

    -log p(z) <= KL(q(x_0 | z) || N(0, I)) + sum_steps E KL(q(x_s | x_t, z) || p(x_s | x_t)) - E log p(z | x_t):

what the noise still knows of the data; for every step but the last a KL between two normal laws; and for the last, into
the data, no KL but a likelihood. Denoising Diffusion Probabilistic Models (2020), eq. 5.
"""

import math

import torch
from torch import Generator, Tensor

from labkit.base.inputs import takes, text, visible, whole
from labkit.base.joints import Field
from labkit.flow.ddpm import VARIANCES, Posterior, posterior
from labkit.flow.likelihood import check_whole
from labkit.flow.paths import PREDICTIONS, GaussianPath, complete
from labkit.flow.solvers import slope


@takes(variance=text(*VARIANCES))
def kl_weights(path: GaussianPath, ts: Tensor, *, variance: str = "small") -> Tensor:
    """How much |eps - predicted eps|^2 counts in each step's term of the bound, in nats: (n,) float64, ts (n + 1,).

    of_z^2 beta_t^2 / (2 sigma^2 alpha_t^2), which is DDPM's beta_k^2 / (2 sigma_k^2 alpha_k (1 - abar_k)); `eps_loss`
    leaves it out. The last is that of the likelihood, whose variance is large. A first step where alpha_t = 0 counts
    infinitely: the noise tells nothing of z. Denoising Diffusion Probabilistic Models (2020), eq. 12.
    """
    ts = check_whole(torch.zeros(1, dtype=torch.float64), ts)
    alpha_t, beta_t, *_ = path.schedule(ts[:-1])
    q, variances = _chain(path, ts, variance)
    return (q.of_z * beta_t / alpha_t).square() / (2 * variances)


@takes(given=text(*PREDICTIONS), variance=text(*VARIANCES), levels=whole(2))
@torch.no_grad()
def variational_bound(
    field: Field,
    path: GaussianPath,
    given: str,
    z: Tensor,
    ts: Tensor,
    *,
    variance: str = "small",
    levels: int | None = None,
    eps: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The terms (n + 1, B) of the bound on -log p(z), in bits per dimension; their sum is the bound for each z.

    First what the noise knows, then a KL for each of n steps but the last, and at the end the likelihood. The
    expectation over x_t is one draw for each term. All of a sample's numbers are counted as dimensions, those of its
    padding, too: they cost less than others, and lower the figure. Even for a model that knows z, pixels pay for the
    width of the last step: with DDPM's beta_1 = 1e-4 and 256 levels 1.71 bits, or .62 where they are black or white.

    Arguments:
        field, path, given: as in `ancestral`; `conditional(model, y)` makes a field of a model with a condition.
        z: data (B, ...). ts: times (n + 1,) from 0 to 1; with fewer steps the chain is another model, of another bound.
        variance: that of the steps; the last one's is always large, since small is 0 there.
        levels: None for real numbers, whose likelihood is a density. Pixels have 256: the last term is then the
            probability of the bin of width 2 / (levels - 1) around z, the outer ones open, and z must lie on them.
        eps: the noise of all terms, like z (default: drawn for each).
    Denoising Diffusion Probabilistic Models (2020), eq. 5 and 13. Raises ValueError for a grid or data that do not fit.
    """
    ts = check_whole(z, ts)
    if levels and visible(z) and not _on_levels(z, levels):
        raise ValueError(f"z must lie on {levels} even levels from -1 to 1, as pixels do; levels=None is for others")
    alpha_0, beta_0, *_ = path.schedule(ts[:1])
    q, variances = _chain(path, ts, variance)
    spare = (variances / q.small).log() + q.small / variances - 1  # twice the KL of a mean that is right
    spare[-1] = (2 * math.pi * variances[-1]).log()  # and its likelihood
    terms = [_mean((alpha_0 * z).square() + beta_0.square() - 1 - 2 * beta_0.log()) / 2]
    for i, t in enumerate(ts[:-1]):
        t = t.expand(len(z))
        x_t = path.sample(z, t, eps, generator).x_t
        found = complete(path, x_t, t, **{given: slope(field, x_t, t)}).z
        terms.append(_mean((q.of_z[i] * (z - found)).square() / variances[i] + spare[i]) / 2)
    if levels:
        terms[-1] = -_mean(log_bin(z, found, variances[-1].sqrt(), levels))
    return torch.stack(terms) / math.log(2)


def log_bin(z: Tensor, mean: Tensor, std: Tensor, levels: int) -> Tensor:
    """log of the probability that N(mean, std^2) has in the bin of z, one of `levels` from -1 to 1; shaped like z.

    Differences of logarithms, in the tail where they are exact: no probability is cut off from below.
    """
    half = 1 / (levels - 1)
    low = torch.where(z <= -1 + half, -torch.inf, (z - half - mean) / std)
    high = torch.where(z >= 1 - half, torch.inf, (z + half - mean) / std)
    right = low + high > 0  # mirrored, so that both lie in the left tail
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_high = torch.special.log_ndtr(high)
    return log_high + (-torch.expm1(torch.special.log_ndtr(low) - log_high)).log()


def _chain(path: GaussianPath, ts: Tensor, variance: str) -> tuple[Posterior, Tensor]:
    """The posterior of each step (n,), and the variances of p."""
    q = posterior(path, ts[:-1], ts[1:])
    return q, torch.cat((getattr(q, variance)[:-1], q.large[-1:]))


def _on_levels(z: Tensor, levels: int) -> bool:
    place = (z + 1) / 2 * (levels - 1)
    return bool(((place - place.round()).abs() < 1e-2).all() and z.abs().max() <= 1 + 1e-5)


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)
