r"""The Gaussian conditional path p_t(x | z) = N(alpha_t z, beta_t^2 I), and conversions between its four predictions.

A sample is x_t = alpha_t z + beta_t eps; its velocity along the path is v_t = d_alpha_t z + d_beta_t eps. Averaged
over everything that could have led to x at time t, the four quantities

    z = E[z | x],  eps = E[eps | x],  velocity = d_alpha_t z + d_beta_t eps,  score = -eps / beta_t

determine each other, because x = alpha_t z + beta_t eps is known as well: two equations, two unknowns.
Source: Flow Matching Guide and Code (2024), table 1.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from labkit.base.conditions import Condition, Null, own_null
from labkit.base.inputs import takes, text, visible
from labkit.base.joints import Model
from labkit.base.runtime import randn_like
from labkit.base.shapes import check_same_shape, check_times, expand_t
from labkit.flow.schedules import Linear, Schedule, check_endpoints

PREDICTIONS = ("velocity", "score", "eps", "z")
SINGULAR = 1e-6  # a smaller coefficient is zero up to rounding: dividing by it gives noise, not an answer


class PathSample(NamedTuple):
    """A point on the path, its velocity and its noise: `x_t`, `v_t`, `eps`, all shaped like z."""

    x_t: Tensor
    v_t: Tensor
    eps: Tensor


class GaussianPath:
    """The path x_t = alpha_t z + beta_t eps of a schedule; ValueError unless that runs from noise to data.

    Only a schedule that states a `gap`, as `Table` does, may leave up to .01 of the data at t=0.
    """

    @takes()
    def __init__(self, schedule: Schedule | None = None) -> None:
        self.schedule = schedule or Linear()
        check_endpoints(self.schedule)

    @takes()
    def sample(self, z: Tensor, t: Tensor, eps: Tensor | None = None, generator: Generator | None = None) -> PathSample:
        """x_t ~ p_t(. | z) and its velocity, for data z (B, ...), t (B,) in [0, 1] and eps like z (default: drawn)."""
        check_times(t, z)
        eps = randn_like(z, generator) if eps is None else check_same_shape("eps", eps, z)
        alpha_t, beta_t, d_alpha_t, d_beta_t = (expand_t(c, z) for c in self.schedule(t))
        return PathSample(alpha_t * z + beta_t * eps, d_alpha_t * z + d_beta_t * eps, eps)

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """u_t(x | z) = d_alpha_t z + (d_beta_t / beta_t) (x - alpha_t z). Singular at t=1 (ValueError on the CPU)."""
        return complete(self, x, t, z=z).velocity

    def score(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """grad_x log p_t(x | z) = -(x - alpha_t z) / beta_t^2. Singular at t=1 (ValueError on the CPU)."""
        return complete(self, x, t, z=z).score


class Prediction:
    """The four predictions at (x, t), worked out from one of them; made by `complete`.

    `.z`, `.eps`, `.velocity`, `.score`, each shaped like x. Reading one that the given one does not determine at some t
    raises ValueError (CPU tensors; on an accelerator it holds inf or NaN).
    """

    def __init__(self, path: GaussianPath, x: Tensor, t: Tensor, given: str, value: Tensor) -> None:
        alpha, beta, d_alpha, d_beta = (expand_t(c, x) for c in path.schedule(t))
        alpha, beta = (torch.where(c.abs() < SINGULAR, 0, c) for c in (alpha, beta))
        beta_d_beta = expand_t(path.schedule.beta_d_beta(t), x)
        if given == "velocity":
            # Cramer's rule on x = alpha z + beta eps, v = d_alpha z + d_beta eps; where d_beta diverges, the second
            # equation is multiplied by beta first. The score's has beta in it everywhere, and so a limit at alpha = 0.
            finite = d_beta.isfinite()
            rate = torch.where(finite, d_beta, beta_d_beta)
            determinant = alpha * rate - beta * d_alpha
            z = (rate * x - beta * value) / determinant
            eps = torch.where(finite, 1, beta) * (alpha * value - d_alpha * x) / determinant
            by_beta = alpha * beta_d_beta - beta**2 * d_alpha
            score = (d_alpha * x - alpha * value) / torch.where(by_beta.abs() < SINGULAR, 0, by_beta)
            found = {"z": z, "eps": eps, "velocity": value, "score": score}
        elif given == "score":  # d_beta eps = -beta d_beta score stays finite where d_beta alone does not
            z = (x + beta**2 * value) / alpha
            found = {"z": z, "eps": -beta * value, "velocity": d_alpha * z - beta_d_beta * value, "score": value}
        else:
            z, eps = ((x - beta * value) / alpha, value) if given == "eps" else (value, (x - alpha * value) / beta)
            found = {"z": z, "eps": eps, "velocity": d_alpha * z + d_beta * eps, "score": -eps / beta}
        self._t, self._given, self._found = t, given, found

    def __getattr__(self, name: str) -> Tensor:
        if name not in PREDICTIONS:
            raise AttributeError(f"there is no prediction {name!r}; there are {', '.join(PREDICTIONS)}")
        return _determined(name, self._found[name], self._given, self._found[self._given], self._t)


def _determined(name: str, value: Tensor, given: str, by: Tensor, t: Tensor) -> Tensor:
    """The prediction `value`, called `name`; ValueError if it is not finite although the one `given` is."""
    if visible(value) and by.isfinite().all() and not value.isfinite().all():
        where = "where alpha_t or beta_t is 0 or d_beta_t diverges"
        times = f"t runs from {t.min():.4g} to {t.max():.4g}. Keep t away from that end"
        raise ValueError(f"{name} is not determined by {given} {where}; {times}")
    return value


@takes()
def complete(
    path: GaussianPath,
    x: Tensor,
    t: Tensor,
    *,
    velocity: Tensor | None = None,
    score: Tensor | None = None,
    eps: Tensor | None = None,
    z: Tensor | None = None,
) -> Prediction:
    """From one of the four predictions at x (B, ...) and t (B,) work out the others.

    `complete(path, x, t, score=s).velocity`: the given one is shaped like x. Raises ValueError unless exactly one is
    given, and when a prediction is read that is singular at some t.
    """
    candidates = zip(PREDICTIONS, (velocity, score, eps, z), strict=True)
    given = {name: value for name, value in candidates if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(PREDICTIONS)}; got {', '.join(given) or 'none'}")
    check_times(t, x)
    ((name, value),) = given.items()
    return Prediction(path, x, t, name, check_same_shape(name, value, x))


class Converted(nn.Module):
    """A model that gives one prediction, as a model that gives another, on its path or another; made by `convert`."""

    def __init__(self, model: Model, path: GaussianPath, given: str, wanted: str, to: GaussianPath) -> None:
        super().__init__()
        self.model, self.path, self.given, self.wanted, self.to = model, path, given, wanted, to

    @property
    def null(self) -> Null | None:
        """The model's own null."""
        return own_null(self.model)

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        if self.to is self.path:
            return getattr(complete(self.path, x, t, **{self.given: self.model(x, t, y)}), self.wanted)
        check_times(t, x)
        alpha_t, beta_t, d_alpha_t, d_beta_t = (expand_t(c, x) for c in self.to.schedule(t))
        at_t = self.path.schedule.at_share((alpha_t / (alpha_t + beta_t)).reshape(t.shape))
        alpha, beta, *_ = (expand_t(c, x) for c in self.path.schedule(at_t))
        x = ((alpha + beta) / (alpha_t + beta_t) * x).to(x.dtype)
        value = self.model(x, at_t, y)
        at = complete(self.path, x, at_t, **{self.given: value})
        if self.wanted in ("z", "eps"):
            return getattr(at, self.wanted)
        wanted = -at.eps / beta_t if self.wanted == "score" else d_alpha_t * at.z + d_beta_t * at.eps
        return _determined(self.wanted, wanted, self.given, value, t)


@takes(given=text(*PREDICTIONS), wanted=text(*PREDICTIONS))
def convert(
    model: Model, path: GaussianPath, given: str, wanted: str = "velocity", *, to: GaussianPath | None = None
) -> Model:
    """The model that gives the prediction `wanted` where `model` gives `given`: one of velocity, score, eps, z.

    So a network trained to predict noise goes into a solver as `convert(model, path, "eps")`. `to` is the path on which
    it is asked (default: the model's own, `path`). Points of two paths with the same share alpha_t / (alpha_t + beta_t)
    of data differ by a factor only, and z and eps are the same there: the model is asked at the time that has this
    share on its path, about (alpha + beta) / (alpha_t + beta_t) x. Shares that a gap leaves out are asked at its end.

    Raises ValueError for another name, and, when it is called, at times where `given` does not determine `wanted`.
    Flow Matching Guide and Code (2024), section 4.8.2 on the change of schedule after training.
    """
    to = path if to is None else to
    return model if given == wanted and to is path else Converted(model, path, given, wanted, to)
