"""Losses: a batch in, a scalar out. Each is a mean over batch and dimensions, and trains one field.

Times are drawn stratified: one uniform time in each of B equal slices of [0, t_max], the slices in random order. Each
time is still uniform, whatever sample it goes to, so the expected loss is the same; but the gradient is quieter.
"""

import torch
from torch import Tensor

from labkit.base.conditions import Condition
from labkit.base.inputs import described, takes
from labkit.base.joints import Model
from labkit.base.shapes import check_same_shape, expand_t
from labkit.flow.paths import GaussianPath


@takes()
def draw_times(path: GaussianPath, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """B stratified uniform times on [0, path.schedule.t_max) in random order, (B,), on the device of z (B, ...)."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError(f"z must be floating-point data, as `to_float` makes of images; got {described(z)}")
    if not (n := len(z)):
        raise ValueError(f"z must hold a sample at least; got shape {tuple(z.shape)}")
    on = z.device if generator is None else generator.device
    u = torch.rand(n, generator=generator, device=on) + torch.randperm(n, generator=generator, device=on)
    t_max = path.schedule.t_max
    t = (u * (t_max / n)).to(device=z.device, dtype=z.dtype)
    return t.clamp_max(t_max * (1 - torch.finfo(t.dtype).eps))  # rounding must not reach 1: a score is singular there


@takes()
def cfm_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    y: Condition | None = None,
    *,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Conditional flow matching: mean of |model(x_t, t, y) - v_t|^2, with v_t = d_alpha_t z + d_beta_t eps.

    Its minimiser is the marginal velocity E[v_t | x_t], although the target belongs to one z.
    Flow Matching for Generative Modeling (2023), eq. 9 and theorem 2.

    Arguments: data `z` (B, ...), labels `y` (B,) or None, times `t` (B,) in [0, 1] and noise `eps` (default: drawn).
    """
    t = draw_times(path, z, generator) if t is None else t
    x_t, v_t, _ = path.sample(z, t, eps, generator)
    return (_predict(model, x_t, t, y) - v_t).square().mean()


@takes()
def eps_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    y: Condition | None = None,
    *,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise prediction: mean of |model(x_t, t, y) - eps|^2. Arguments as in `cfm_loss`.

    Denoising Diffusion Probabilistic Models (2020), eq. 14.
    """
    t = draw_times(path, z, generator) if t is None else t
    x_t, _, eps = path.sample(z, t, eps, generator)
    return (_predict(model, x_t, t, y) - eps).square().mean()


@takes()
def dsm_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    y: Condition | None = None,
    *,
    weighted: bool = True,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising score matching: mean of lambda_t |model(x_t, t, y) + eps / beta_t|^2. Other arguments as in `cfm_loss`.

    `weighted=True` takes lambda_t = beta_t^2, which makes it the eps-loss of -beta_t * model; `weighted=False` takes
    lambda_t = 1, whose minimum diverges as t comes near 1, where beta_t = 0.
    A Connection Between Score Matching and Denoising Autoencoders (2011), section 4.
    """
    t = draw_times(path, z, generator) if t is None else t
    x_t, _, eps = path.sample(z, t, eps, generator)
    beta_t = expand_t(path.schedule(t).beta_t, z)
    error = beta_t * _predict(model, x_t, t, y) + eps
    return (error if weighted else error / beta_t).square().mean()


def _predict(model: Model, x_t: Tensor, t: Tensor, y: Condition | None) -> Tensor:
    """The model's output, refused if broadcasting would turn a wrong shape into a plausible loss."""
    return check_same_shape("the model's output", model(x_t, t, y), x_t)
