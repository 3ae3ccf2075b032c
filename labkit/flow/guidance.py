r"""From models to fields: fix the condition, guide.

A field made here takes the place of the model in a solver; its condition is fixed inside. With u_0 = u(x | null) and
u_y = u(x | y), guidance is u_w = (1 - w) u_0 + w u_y: w=0 ignores the condition, w=1 is the plain conditional field,
w>1 guides. Papers that write (1 + w') u_y - w' u_0 mean w' = w - 1. A *rule* (u_0, u_y, w, x, t) -> u may stand in the
place of that line; every rule gives u_y at w=1.
"""

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from labkit.base.conditions import Condition, Null, check_condition, joined, length, nothing_like, null_of, own_null
from labkit.base.inputs import NULL, a, insist, number, takes, tensor
from labkit.base.joints import Field, Model
from labkit.base.shapes import check_same_shape, check_time, expand_t
from labkit.flow.paths import GaussianPath, complete

Rule = Callable[[Tensor, Tensor, float, Tensor, Tensor], Tensor]


@takes()
def conditional(model: Model, y: Condition) -> Field:
    """The field (x, t) -> model(x, t, y) with the condition y fixed."""
    return lambda x, t: check_same_shape("the model's value", model(x, t, y), x)


@takes(u_0=tensor(), u_y=tensor())
def plain(u_0: Tensor, u_y: Tensor, w: float, x: Tensor, t: Tensor) -> Tensor:
    """(1 - w) u_0 + w u_y. Classifier-Free Diffusion Guidance (2022), eq. 6, there with w' = w - 1."""
    return (1 - w) * check_same_shape("u_0", u_0, u_y) + w * u_y


@takes(lo=a(Real), hi=a(Real))
def limited(lo: float, hi: float) -> Rule:
    """Plain guidance at times in [lo, hi], none (w=1) outside; 0 <= lo <= hi <= 1.

    Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models (2024).
    """
    if not 0 <= lo <= hi <= 1:
        raise ValueError(f"the interval must be (lo, hi) with 0 <= lo <= hi <= 1; got {(lo, hi)}")

    def rule(u_0: Tensor, u_y: Tensor, w: float, x: Tensor, t: Tensor) -> Tensor:
        time = expand_t(t, x)
        return torch.where((time >= lo) & (time <= hi), plain(u_0, u_y, w, x, t), u_y)

    return rule


@takes(phi=number(0, 1))
def rescaled(phi: float = 0.7) -> Rule:
    """Guidance that keeps contrast: phi u_w std(u_y) / std(u_w) + (1 - phi) u_w.

    The standard deviations are over all entries of a sample; where that of u_w is 0 nothing is rescaled. A large w
    makes u_w larger than any velocity the model was trained on; phi=1 brings it to the size of u_y, phi=0 is plain.
    Common Diffusion Noise Schedules and Sample Steps are Flawed (2023), eq. 14 to 16.
    """

    def rule(u_0: Tensor, u_y: Tensor, w: float, x: Tensor, t: Tensor) -> Tensor:
        u_w = plain(u_0, u_y, w, x, t)
        wanted, size = (u.flatten(1).std(dim=1, correction=0) for u in (u_y, u_w))  # (B,)
        ratio = torch.where(size > 0, wanted / size, 1)
        return expand_t(1 + phi * (ratio - 1), x) * u_w

    return rule


@takes()
def projected(path: GaussianPath | None = None, eta: float = 0.0) -> Rule:
    """Guidance across the predicted picture: u_y + (w - 1) (d_across + eta d_along), with d = u_y - u_0.

    d_along is the part of d parallel to the conditional denoiser z_y = E[z | x, y], d_across the rest. The parallel
    part mostly raises contrast, so it is weakened (eta=0: left out); eta=1 is plain guidance. `path` is the model's
    (default: linear). Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models (2024),
    without its rescaling and momentum.
    """
    path = GaussianPath() if path is None else path

    def rule(u_0: Tensor, u_y: Tensor, w: float, x: Tensor, t: Tensor) -> Tensor:
        z_y, d = complete(path, x, t, velocity=u_y).z.flatten(1), (u_y - u_0).flatten(1)
        along = z_y * ((d * z_y).sum(1) / z_y.square().sum(1).clamp_min(1e-12))[:, None]
        return u_y + (w - 1) * (d + (eta - 1) * along).reshape(x.shape)

    return rule


@takes(null=NULL)
def guided(
    model: Model, y: Condition, w: float, null: Null | None = None, *, rule: Rule = plain, bad: Model | None = None
) -> Field:
    """Classifier-free guidance: the field rule(model(x, t, null), model(x, t, y), w, x, t).

    Both branches run in one batch of 2B; at w=1, and by the plain rule at w=0, only the one that counts runs. `null`
    stands for "nothing given", of y's kind without the batch axis (default: what the model says); `rule` is `plain`,
    `limited(lo, hi)`, `rescaled(phi)`, `projected(path, eta)`, or your own. `bad` is a worse model of the *same*
    condition, whose bad(x, t, y) takes the place of u_0: autoguidance, Guiding a Diffusion Model with a Bad Version of
    Itself (2024).
    Raises ValueError for a w that is not finite, for labels outside 0..null, and for a `null` that is not the model's.
    """
    null = own_null(model) if null is None and bad is not None else null_of(model, null)
    check_condition(y, length(y), null)

    def field(x: Tensor, t: Tensor) -> Tensor:
        check_time(t, x)
        check_condition(y, len(x))
        if w == 1:
            return check_same_shape("the model's value", model(x, t, y), x)
        if w == 0 and rule is plain:
            u_0 = model(x, t, nothing_like(y, null)) if bad is None else bad(x, t, y)
            return check_same_shape("the model's value", u_0, x)
        if bad is None:
            both = model(torch.cat((x, x)), torch.cat((t, t)), joined(nothing_like(y, null), y))
            both = check_same_shape("the model's value", both, torch.cat((x, x)))
            u_0, u_y = both.chunk(2)
        else:
            u_0, u_y = (check_same_shape("the model's value", one(x, t, y), x) for one in (bad, model))
        return check_same_shape("the rule's value", rule(u_0, u_y, w, x, t), x)

    return field


@takes(t_min=a(Real))
def classifier_guided(
    model: Model,
    classifier: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    w: float,
    path: GaussianPath,
    null: int | None = None,
    *,
    t_min: float = 1e-3,
) -> Field:
    """Classifier guidance: the field model(x, t, null) + w b_t grad_x log p_t(y | x).

    `classifier(x, t)` returns logits (B, K) for *noisy* x; its gradient is taken here. The factor
    b_t = (d_alpha_t beta_t^2 - d_beta_t beta_t alpha_t) / alpha_t turns a score into a velocity. It diverges at t=0,
    where the gradient vanishes, so the term is evaluated at max(t, t_min). With exact fields this equals `guided`.
    Diffusion Models Beat GANs on Image Synthesis (2021), section 4.1. Raises ValueError as `guided`, and for y=null.
    """
    if not 0 < t_min < 1:
        raise ValueError(f"t_min must lie in (0, 1); got {t_min}")
    null = null_of(model, null)
    check_condition(y, length(y), null - 1)

    def field(x: Tensor, t: Tensor) -> Tensor:
        late = t.clamp_min(t_min)
        with torch.enable_grad():
            x_in = x.detach().requires_grad_(True)
            logits = classifier(x_in, late)
            insist("the classifier's value", logits, tensor("B", "K"))
            log_p = logits.log_softmax(dim=1).gather(1, y[:, None]).sum()
            (gradient,) = torch.autograd.grad(log_p, x_in)
        alpha_t, beta_t, d_alpha_t, _ = path.schedule(late)
        b_t = (d_alpha_t * beta_t**2 - path.schedule.beta_d_beta(late) * alpha_t) / alpha_t
        u_0 = check_same_shape("the model's value", model(x, t, nothing_like(y, null)), x)
        return u_0 + w * expand_t(b_t, x) * gradient

    return field


@takes()
def from_w_prime(w_prime: float) -> float:
    """w = 1 + w', for papers that write guidance as (1 + w') u(x | y) - w' u(x | null): their 0 is our 1."""
    return 1 + w_prime
