r"""Schedules: how much data and how much noise stand in x_t, and how fast both change.

A Gaussian path is x_t = alpha_t z + beta_t eps with eps ~ N(0, I). Time runs from noise to data:
alpha_0 = 0, beta_0 = 1 and alpha_1 = 1, beta_1 = 0. beta_t is a standard deviation.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.inputs import takes, tensor


class Coefficients(NamedTuple):
    """alpha_t, beta_t and their time derivatives, each of shape (B,)."""

    alpha_t: Tensor
    beta_t: Tensor
    d_alpha_t: Tensor
    d_beta_t: Tensor


class Schedule(ABC):
    """One contract: `schedule(t)` gives the four coefficients at times `t` of shape (B,), each shaped like `t`."""

    t_max: float = 1.0  # training draws t from [0, t_max]; below 1 only where the target diverges at t=1

    @abstractmethod
    def __call__(self, t: Tensor) -> Coefficients: ...

    @takes(t=tensor())
    def beta_d_beta(self, t: Tensor) -> Tensor:
        """The product beta_t * d_beta_t, shape (B,). A schedule whose d_beta_t diverges overrides it with the limit."""
        _, beta_t, _, d_beta_t = self(t)
        return beta_t * d_beta_t


class Linear(Schedule):
    """alpha_t = t, beta_t = 1 - t: straight conditional paths.

    Flow Matching for Generative Modeling (2023), example II, eq. 20, with sigma_min = 0; rectified flow uses the same.
    """

    def __call__(self, t: Tensor) -> Coefficients:
        return Coefficients(t, 1 - t, torch.ones_like(t), -torch.ones_like(t))


class SquareRoot(Schedule):
    """alpha_t = t, beta_t = sqrt(1 - t); d_beta_t diverges at t=1, but beta_t d_beta_t = -1/2 everywhere."""

    t_max = 1 - 1e-3

    def __call__(self, t: Tensor) -> Coefficients:
        beta_t = (1 - t).clamp_min(0).sqrt()
        return Coefficients(t, beta_t, torch.ones_like(t), -0.5 / beta_t)

    @takes(t=tensor())
    def beta_d_beta(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -0.5)


class Cosine(Schedule):
    """alpha_t = sin(pi t / 2), beta_t = cos(pi t / 2): alpha_t^2 + beta_t^2 = 1 (variance preserving).

    Stochastic Interpolants: A Unifying Framework for Flows and Diffusions (2023), the trigonometric interpolant.
    """

    def __call__(self, t: Tensor) -> Coefficients:
        half_pi = math.pi / 2
        sin, cos = torch.sin(half_pi * t), torch.cos(half_pi * t)
        return Coefficients(sin, cos, half_pi * cos, -half_pi * sin)


def check_endpoints(schedule: Schedule) -> None:
    """Raise ValueError unless alpha_0 = beta_1 = 0 and alpha_1 = beta_0 = 1 (to 1e-4)."""
    (alpha_0, alpha_1), (beta_0, beta_1), *_ = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
    wrong = (alpha_0, beta_1, alpha_1 - 1, beta_0 - 1)
    if not all(abs(error) <= 1e-4 for error in wrong):  # so that NaN fails, too
        ends = f"alpha_0 = {alpha_0:.4g}, beta_0 = {beta_0:.4g}, alpha_1 = {alpha_1:.4g}, beta_1 = {beta_1:.4g}"
        raise ValueError(
            "schedule must run from pure noise to pure data: alpha_0 = beta_1 = 0 and alpha_1 = beta_0 = 1; "
            f"{type(schedule).__name__} has {ends}"
        )
