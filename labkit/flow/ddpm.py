r"""DDPM and DDIM: steps that predict the data z, and then put back a part of the noise, old or fresh.

Noise is added along a chain from data (t=1) to noise (t=0): from x_s to an earlier x_t, t < s,

    x_t = r x_s + sqrt(large) xi,      r = alpha_t / alpha_s,      large = beta_t^2 - r^2 beta_s^2,

which leads to the path's p_t(. | z) whatever the times between. Where t and s are neighbours on a `Table`, r^2 and
`large` are what DDPM calls alpha_k and beta_k. Sampling goes the chain in reverse, with the predicted z in the place of
the data. `simulate` takes these steps, and so does `draw`: step=lambda field: ddim(field, path, "eps").
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from labkit.base.inputs import number, takes, tensor, text, visible
from labkit.base.joints import Field, Step
from labkit.base.runtime import randn_like
from labkit.base.shapes import expand_t
from labkit.flow.paths import PREDICTIONS, SINGULAR, GaussianPath, complete
from labkit.flow.solvers import slope

VARIANCES = ("small", "large")


class Posterior(NamedTuple):
    """q(x_s | x_t, z) = N(of_x x_t + of_z z, small I), and `large`, the noise from s to t; all (B,)."""

    of_x: Tensor
    of_z: Tensor
    small: Tensor
    large: Tensor


@takes(t=tensor("B"), s=tensor("B"))
def posterior(path: GaussianPath, t: Tensor, s: Tensor) -> Posterior:
    """Where x_s was, given x_t and the data: of_x = r beta_s^2 / beta_t^2, of_z = alpha_s large / beta_t^2.

    r and `large` are those of the chain, see the head of this file, and small = large beta_s^2 / beta_t^2: the two
    variances that a reverse step may take, DDPM's beta_k and beta~_k. Times t < s are (B,); ValueError for others.
    Denoising Diffusion Probabilistic Models (2020), eq. 6 and 7.
    """
    if t.shape != s.shape:
        raise ValueError(f"s must be shaped like t, {tuple(t.shape)}; got {tuple(s.shape)}")
    if visible(t) and (s <= t).any():
        raise ValueError("s must be later than t, so ts must be increasing: the chain is reversed from noise to data")
    alpha_t, beta_t, *_ = path.schedule(t)
    alpha_s, beta_s, *_ = path.schedule(s)
    r, kept = alpha_t / alpha_s, (beta_s / beta_t).square()
    large = (beta_t.square() - (r * beta_s).square()).clamp_min(0)
    return Posterior(r * kept, alpha_s * large / beta_t.square(), large * kept, large)


@takes(given=text(*PREDICTIONS), variance=text(*VARIANCES))
def ancestral(
    field: Field, path: GaussianPath, given: str, *, variance: str = "small", generator: Generator | None = None
) -> Step:
    """of_x x + of_z z + sigma xi with the predicted z, fresh xi ~ N(0, I), and sigma^2 small or large (`posterior`).

    `field` gives the prediction called `given` ("eps" for DDPM's networks) at points of `path`. The right variance is
    `small` for data that are one point, and `large` for normal data of variance 1; the fewer the steps, the farther
    apart are the two. The step into t=1 adds no noise.
    Denoising Diffusion Probabilistic Models (2020), algorithm 2. Raises ValueError where ts decreases.
    """

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        q = Posterior(*(expand_t(part, x) for part in posterior(path, t, s)))
        z = complete(path, x, t, **{given: slope(field, x, t)}).z
        arrives = expand_t(path.schedule(s).beta_t, x) < SINGULAR
        sigma = torch.where(arrives, 0, getattr(q, variance)).sqrt()
        return (q.of_x * x + q.of_z * z + sigma * randn_like(x, generator)).to(x.dtype)

    return step


@takes(given=text(*PREDICTIONS), eta=number(0, 1))
def ddim(field: Field, path: GaussianPath, given: str, *, eta: float = 0.0, generator: Generator | None = None) -> Step:
    """alpha_s z + sqrt(beta_s^2 - sigma^2) eps + sigma xi, sigma^2 = eta^2 small, with the predicted z and eps.

    eta=0 adds no noise and runs in both directions: on the linear path it is Euler's method, and on any other Euler's
    in the share alpha / (alpha + beta) for x / (alpha + beta). eta=1 is `ancestral` with the small variance.
    `field` gives the prediction called `given`; fresh xi ~ N(0, I), and with it ValueError where ts decreases.
    Denoising Diffusion Implicit Models (2021), eq. 12 and 16.
    """

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        alpha_s, beta_s, *_ = (expand_t(c, x) for c in path.schedule(s))
        at = complete(path, x, t, **{given: slope(field, x, t)})
        if eta == 0:
            return (alpha_s * at.z + beta_s * at.eps).to(x.dtype)
        variance = eta**2 * expand_t(posterior(path, t, s).small, x)
        kept = (beta_s.square() - variance).clamp_min(0).sqrt()
        return (alpha_s * at.z + kept * at.eps + variance.sqrt() * randn_like(x, generator)).to(x.dtype)

    return step
