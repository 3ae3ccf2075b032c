r"""The Gaussian conditional path p_t(x | z) = N(alpha_t z, beta_t^2 I), and conversions between its four predictions.

A sample is x_t = alpha_t z + beta_t eps; its velocity along the path is v_t = d_alpha_t z + d_beta_t eps. Averaged
over everything that could have led to x at time t, the four quantities

    z = E[z | x],  eps = E[eps | x],  velocity = d_alpha_t z + d_beta_t eps,  score = -eps / beta_t

determine each other, because x = alpha_t z + beta_t eps is known as well: two equations, two unknowns.
Source: Flow Matching Guide and Code (2024), table 1.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.runtime import randn_like
from labkit.base.shapes import check_same_shape, check_time, expand_t
from labkit.flow.schedules import Linear, Schedule, check_endpoints

# A coefficient smaller than this is zero up to rounding: dividing by it gives noise, not an answer.
SINGULAR = 1e-6


class PathSample(NamedTuple):
    """A point on the path, its velocity and its noise: `x_t`, `v_t`, `eps`, all shaped like z."""

    x_t: Tensor
    v_t: Tensor
    eps: Tensor


class GaussianPath:
    """The conditional path x_t = alpha_t z + beta_t eps of a schedule.

    Raises ValueError if the schedule does not run from pure noise to pure data.
    """

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.schedule = schedule or Linear()
        check_endpoints(self.schedule)

    def sample(
        self, z: Tensor, t: Tensor, eps: Tensor | None = None, generator: torch.Generator | None = None
    ) -> PathSample:
        """Draw x_t ~ p_t(. | z) together with its velocity, the target of training.

        Arguments: data `z` (B, ...), times `t` (B,) in [0, 1], and the noise `eps` shaped like z (default: drawn).
        """
        check_time(t, z)
        eps = randn_like(z, generator) if eps is None else eps
        check_same_shape("eps", eps, z)
        alpha_t, beta_t, d_alpha_t, d_beta_t = (expand_t(c, z) for c in self.schedule(t))
        return PathSample(alpha_t * z + beta_t * eps, d_alpha_t * z + d_beta_t * eps, eps)

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """u_t(x | z) = d_alpha_t z + (d_beta_t / beta_t) (x - alpha_t z). Singular at t=1 (ValueError on the CPU)."""
        check_same_shape("z", z, x)
        return complete(self.schedule, x, t, z=z).velocity

    def score(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """grad_x log p_t(x | z) = -(x - alpha_t z) / beta_t^2. Singular at t=1 (ValueError on the CPU)."""
        check_same_shape("z", z, x)
        return complete(self.schedule, x, t, z=z).score


class Prediction:
    """The four predictions at (x, t), worked out from one of them when they are read; made by `complete`.

    `.z`, `.eps`, `.velocity`, `.score`, each shaped like x. Reading one that the given one does not determine
    at some t raises ValueError (CPU tensors; on an accelerator it holds inf or NaN).
    """

    def __init__(self, schedule: Schedule, x: Tensor, t: Tensor, given: str, value: Tensor) -> None:
        self._x, self._t, self._given, self._value = x, t, given, value
        self._alpha, self._beta, self._d_alpha, self._d_beta = (expand_t(c, x) for c in schedule(t))
        self._beta_d_beta = expand_t(schedule.beta_d_beta(t), x)

    @cached_property
    def z(self) -> Tensor:
        """E[z | x_t = x], the denoiser."""
        return self._data("z")

    @cached_property
    def eps(self) -> Tensor:
        """E[eps | x_t = x], the noise."""
        return self._noise("eps")

    @cached_property
    def velocity(self) -> Tensor:
        """E[v_t | x_t = x], the field of the flow."""
        if self._given == "velocity":
            return self._value
        if self._given == "score":
            # d_beta eps = -beta d_beta score, which stays finite where d_beta alone does not.
            return self._d_alpha * self._data("velocity") - self._beta_d_beta * self._value
        if self._on_cpu and not self._d_beta.isfinite().all():
            raise ValueError(self._singular("velocity", "d_beta_t diverges"))
        return self._d_alpha * self._data("velocity") + self._d_beta * self._noise("velocity")

    @cached_property
    def score(self) -> Tensor:
        """grad log p_t(x) = -E[eps | x_t = x] / beta_t."""
        if self._given == "score":
            return self._value
        if self._given == "velocity":
            determinant = self._alpha * self._beta_d_beta - self._beta**2 * self._d_alpha
            difference = self._d_alpha * self._x - self._alpha * self._value
            return self._divide(difference, determinant, "score", "beta_t")
        return self._divide(-self._noise("score"), self._beta, "score", "beta_t")

    def _data(self, read: str) -> Tensor:
        """E[z | x_t = x], on the way to what is `read`."""
        if self._given == "z":
            return self._value
        if self._given == "velocity":
            d_beta, determinant = self._cramer()
            return (d_beta * self._x - self._beta * self._value) / determinant
        return self._divide(self._x - self._beta * self._noise(read), self._alpha, read, "alpha_t")

    def _noise(self, read: str) -> Tensor:
        """E[eps | x_t = x], on the way to what is `read`."""
        if self._given == "eps":
            return self._value
        if self._given == "score":
            return -self._beta * self._value
        if self._given == "z":
            return self._divide(self._x - self._alpha * self._value, self._beta, read, "beta_t")
        _, determinant = self._cramer()
        noise = (self._alpha * self._value - self._d_alpha * self._x) / determinant
        return torch.where(self._d_beta.isfinite(), noise, self._beta * noise)

    def _cramer(self) -> tuple[Tensor, Tensor]:
        """Cramer's rule on x = alpha z + beta eps, v = d_alpha z + d_beta eps: d_beta and the determinant.

        Where d_beta diverges, the second equation is multiplied by beta first.
        """
        d_beta = torch.where(self._d_beta.isfinite(), self._d_beta, self._beta_d_beta)
        return d_beta, self._alpha * d_beta - self._beta * self._d_alpha

    @property
    def _on_cpu(self) -> bool:
        return self._t.device.type == "cpu"

    def _divide(self, numerator: Tensor, denominator: Tensor, name: str, zero: str) -> Tensor:
        if self._on_cpu and (denominator.abs() < SINGULAR).any():
            raise ValueError(self._singular(name, f"{zero} = 0"))
        return numerator / denominator

    def _singular(self, name: str, why: str) -> str:
        low, high = self._t.min().item(), self._t.max().item()
        where = f"where {why}; t runs from {low:.4g} to {high:.4g}"
        return f"{name} is not determined by {self._given} {where}. Keep t away from that end"


def complete(
    schedule: Schedule,
    x: Tensor,
    t: Tensor,
    *,
    velocity: Tensor | None = None,
    score: Tensor | None = None,
    eps: Tensor | None = None,
    z: Tensor | None = None,
) -> Prediction:
    """From one of the four predictions at x (B, ...) and t (B,) work out the others.

    `complete(schedule, x, t, score=s).velocity`: one of `velocity`, `score`, `eps`, `z` is given, shaped like x.
    Raises ValueError otherwise, and when a prediction is read that is singular at some t.
    """
    candidates = {"velocity": velocity, "score": score, "eps": eps, "z": z}
    given = {name: value for name, value in candidates.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of velocity, score, eps, z; got {', '.join(given) or 'none'}")
    check_time(t, x)
    ((name, value),) = given.items()
    check_same_shape(name, value, x)
    return Prediction(schedule, x, t, name, value)
