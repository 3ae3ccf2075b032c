r"""From models to fields: fix the label, guide, combine.

A guided field takes the place of the model in a solver. Its label is fixed inside: called with another one, it refuses.
Guidance convention: u_w = (1 - w) u(x | null) + w u(x | y). w=0 ignores the label, w=1 is the plain conditional
field, w>1 guides. Papers that write (1 + w') u(x | y) - w' u(x | null) mean w' = w - 1.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from labkit.base.shapes import Field, check_labels, check_time_shape, expand_t
from labkit.flow.paths import complete
from labkit.flow.schedules import Linear, Schedule


def conditional(model: Field, y: Tensor) -> Field:
    """The field (x, t) -> model(x, t, y) with the labels `y` (B,) fixed."""

    def field(x: Tensor, t: Tensor, other: None = None) -> Tensor:
        _refuse_label(other)
        return model(x, t, y)

    return field


def guided(model: Field, y: Tensor, w: float, null: int, interval: tuple[float, float] = (0.0, 1.0)) -> Field:
    """Classifier-free guidance: (1 - w) model(x, t, null) + w model(x, t, y), all channels alike.

    Both branches run in one batch of 2B; at w=1 and w=0 only the one that counts runs.

    Arguments:
        y: labels (B,).
        w: guidance scale, any finite number.
        null: the label that means "no class given", K for classes 0..K-1.
        interval: times [lo, hi] in which w applies; outside it the field is the conditional one, w=1.
    Classifier-Free Diffusion Guidance (2022), eq. 6, there with w' = w - 1. Interval: Applying Guidance in a Limited
    Interval Improves Sample and Distribution Quality in Diffusion Models (2024).
    """
    _check_scale(w)
    lo, hi = interval
    if not 0 <= lo <= hi <= 1:
        raise ValueError(f"interval must be (lo, hi) with 0 <= lo <= hi <= 1; got {interval}")
    always = (lo, hi) == (0, 1)

    def field(x: Tensor, t: Tensor, other: None = None) -> Tensor:
        _refuse_label(other)
        check_labels(y, x, largest=null)
        if w == 1:
            return model(x, t, y)
        if w == 0 and always:
            return model(x, t, torch.full_like(y, null))
        check_time_shape(t, x)
        inside = (t >= lo) & (t <= hi)
        # On the CPU looking is free, so that one branch runs where one is enough.
        if not always and t.device.type == "cpu" and not inside.any():
            return model(x, t, y)
        without, with_y = _branches(model, x, t, y, null)
        w_t = w if always else expand_t(torch.where(inside, w, 1.0).to(x.dtype), x)
        return (1 - w_t) * without + w_t * with_y

    return field


def classifier_guided(
    model: Field, classifier: Field, y: Tensor, w: float, null: int, schedule: Schedule, t_min: float = 1e-3
) -> Field:
    """Classifier guidance: model(x, t, null) + w b_t grad_x log p_t(y | x).

    `classifier(x, t)` returns logits (B, K) for *noisy* x; its gradient is taken here. The factor
    b_t = (d_alpha_t beta_t^2 - d_beta_t beta_t alpha_t) / alpha_t turns a score into a velocity. It diverges at t=0,
    where the gradient vanishes, so the term is evaluated at max(t, t_min).
    With exact fields it equals `guided` at the same w.
    Diffusion Models Beat GANs on Image Synthesis (2021), section 4.1.
    """
    _check_scale(w)
    if not 0 < t_min < 1:
        raise ValueError(f"t_min must lie in (0, 1); got {t_min}")

    def field(x: Tensor, t: Tensor, other: None = None) -> Tensor:
        _refuse_label(other)
        check_labels(y, x, largest=null - 1)
        late = t.clamp_min(t_min)
        with torch.enable_grad():
            x_in = x.detach().requires_grad_(True)
            log_p = classifier(x_in, late).log_softmax(dim=1).gather(1, y[:, None]).sum()
            (gradient,) = torch.autograd.grad(log_p, x_in)
        alpha_t, beta_t, d_alpha_t, _ = schedule(late)
        b_t = (d_alpha_t * beta_t**2 - schedule.beta_d_beta(late) * alpha_t) / alpha_t
        return model(x, t, torch.full_like(y, null)) + w * expand_t(b_t, x) * gradient

    return field


def rescaled(model: Field, y: Tensor, w: float, null: int, phi: float = 0.7) -> Field:
    """Guidance that keeps contrast: phi u_w std(u_y) / std(u_w) + (1 - phi) u_w, with u_w from `guided`.

    The standard deviations are over all entries of a sample. A large w makes u_w larger than any velocity the model was
    trained on; phi=1 brings it back to the size of the conditional one, u_y, phi=0 is plain guidance. At w=1 it is u_y.
    Common Diffusion Noise Schedules and Sample Steps are Flawed (2023), eq. 14 to 16.
    """
    _check_scale(w)
    if not 0 <= phi <= 1:
        raise ValueError(f"phi must lie in [0, 1]; got {phi}")

    def field(x: Tensor, t: Tensor, other: None = None) -> Tensor:
        _refuse_label(other)
        check_labels(y, x, largest=null)
        if w == 1:
            return model(x, t, y)
        without, with_y = _branches(model, x, t, y, null)
        u_w = (1 - w) * without + w * with_y
        ratio = with_y.flatten(1).std(dim=1) / u_w.flatten(1).std(dim=1)  # (B,)
        return phi * expand_t(ratio, x) * u_w + (1 - phi) * u_w

    return field


def projected(
    model: Field, y: Tensor, w: float, null: int, schedule: Schedule | None = None, eta: float = 0.0
) -> Field:
    """Guidance across the predicted picture: u_y + (w - 1) (d_across + eta d_along), with d = u_y - u_null.

    d_along is the part of d parallel to the conditional denoiser z_y = E[z | x, y], d_across the rest. The parallel
    part mostly raises contrast, so it is weakened (eta=0: left out); eta=1 is plain guidance. At w=1 it is u_y.
    `schedule` is that of the model's path (default: Linear).
    Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models (2024), without its
    rescaling and momentum.
    """
    _check_scale(w)
    if not math.isfinite(eta):
        raise ValueError(f"eta must be finite; got {eta}")
    schedule = Linear() if schedule is None else schedule

    def field(x: Tensor, t: Tensor, other: None = None) -> Tensor:
        _refuse_label(other)
        check_labels(y, x, largest=null)
        if w == 1:
            return model(x, t, y)
        without, with_y = _branches(model, x, t, y, null)
        z_y = complete(schedule, x, t, velocity=with_y).z.flatten(1)
        d = (with_y - without).flatten(1)
        along = z_y * ((d * z_y).sum(1) / z_y.square().sum(1).clamp_min(1e-12))[:, None]
        return with_y + (w - 1) * (d + (eta - 1) * along).reshape(x.shape)

    return field


def autoguided(good: Field, bad: Field, y: Tensor, w: float) -> Field:
    """Autoguidance: bad(x, t, y) + w (good(x, t, y) - bad(x, t, y)): away from a worse model of the *same* class.

    With good = bad it is the conditional field for every w.
    Guiding a Diffusion Model with a Bad Version of Itself (2024).
    """
    _check_scale(w)

    def field(x: Tensor, t: Tensor, other: None = None) -> Tensor:
        _refuse_label(other)
        return (1 - w) * bad(x, t, y) + w * good(x, t, y)

    return field


def from_w_prime(w_prime: float) -> float:
    """w = 1 + w', for papers that write guidance as (1 + w') u(x | y) - w' u(x | null): their 0 is our 1."""
    return 1 + w_prime


def _branches(model: Field, x: Tensor, t: Tensor, y: Tensor, null: int) -> tuple[Tensor, Tensor]:
    """model(x, t, null) and model(x, t, y), evaluated in one batch of 2B."""
    check_time_shape(t, x)
    both = model(torch.cat((x, x)), torch.cat((t, t)), torch.cat((torch.full_like(y, null), y)))
    without, with_y = both.chunk(2)
    return without, with_y


def _refuse_label(y: Tensor | None) -> None:
    if y is not None:
        raise ValueError("y must be None: the label of this field is fixed, call it as field(x, t)")


def _check_scale(w: float) -> None:
    if not isinstance(w, Real) or not math.isfinite(w):
        raise ValueError(f"w must be a finite number; got {w!r}")
