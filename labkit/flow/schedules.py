r"""Schedules: how much data and how much noise stand in x_t, and how fast both change.

A Gaussian path is x_t = alpha_t z + beta_t eps with eps ~ N(0, I). Time runs from noise to data:
alpha_0 = 0, beta_0 = 1 and alpha_1 = 1, beta_1 = 0. beta_t is a standard deviation. Only a table of discrete steps, as
DDPM has one, leaves a little of the data in what should be noise, and says how much: alpha_0 is its `gap`.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.inputs import takes, tensor, whole

WIDEST_GAP = 1e-2  # how much of the data a schedule may leave at t=0, if it says so; DDPM's leaves .0064


class Coefficients(NamedTuple):
    """alpha_t, beta_t and their time derivatives, each of shape (B,)."""

    alpha_t: Tensor
    beta_t: Tensor
    d_alpha_t: Tensor
    d_beta_t: Tensor


class Schedule(ABC):
    """One contract: `schedule(t)` gives the four coefficients at times `t` of shape (B,), each shaped like `t`."""

    t_max: float = 1.0  # training draws t from [0, t_max]; below 1 only where the target diverges at t=1
    gap: float = 0.0  # alpha_0

    @abstractmethod
    def __call__(self, t: Tensor) -> Coefficients: ...

    @takes(t=tensor())
    def beta_d_beta(self, t: Tensor) -> Tensor:
        """The product beta_t * d_beta_t, shape (B,). A schedule whose d_beta_t diverges overrides it with the limit."""
        _, beta_t, _, d_beta_t = self(t)
        return beta_t * d_beta_t

    @takes(share=tensor())
    def at_share(self, share: Tensor) -> Tensor:
        """The time, shaped like `share`, when alpha_t / (alpha_t + beta_t) has grown to it; the nearest end if never.

        On the linear path a time is its own share, so that this finds the time that stands for it on another path.
        Found by halving [0, 1]; a schedule that knows a formula overrides it.
        """
        low, high = torch.zeros_like(share), torch.ones_like(share)
        for _ in range(60):  # as many halvings as float64 can tell apart
            middle = (low + high) / 2
            alpha_t, beta_t, *_ = self(middle)
            before = alpha_t < share * (alpha_t + beta_t)
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        return (low + high) / 2


class Linear(Schedule):
    """alpha_t = t, beta_t = 1 - t: straight conditional paths.

    Flow Matching for Generative Modeling (2023), example II, eq. 20, with sigma_min = 0; rectified flow uses the same.
    """

    def __call__(self, t: Tensor) -> Coefficients:
        return Coefficients(t, 1 - t, torch.ones_like(t), -torch.ones_like(t))

    @takes(share=tensor())
    def at_share(self, share: Tensor) -> Tensor:
        return share.clamp(0, 1)


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


@takes(steps=whole(21))
def linear_betas(steps: int = 1000) -> Tensor:
    """DDPM's noise per step, from .1 / T to 20 / T in equal steps: 1e-4 to .02 for T=1000. Shape (T,), float64.

    Other T (at least 21, so that every beta is below 1) add up to about the same noise.
    Denoising Diffusion Probabilistic Models (2020), section 4.
    """
    return torch.linspace(0.1, 20, steps, dtype=torch.float64) / steps


@takes(steps=whole(1))
def cosine_betas(steps: int = 1000) -> Tensor:
    """Noise per step for abar_k = f(k) / f(0), f(k) = cos(pi/2 (k/T + .008) / 1.008)^2; at most .999. (T,), float64.

    It spends more steps on little noise than `linear_betas`.
    Improved Denoising Diffusion Probabilistic Models (2021), eq. 17.
    """
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos(math.pi / 2 * (k / steps + 0.008) / 1.008).square()
    return (1 - f[1:] / f[:-1]).clamp_max(0.999)


class Table(Schedule):
    """DDPM's path: x_k = sqrt(abar_k) z + sqrt(1 - abar_k) eps after k of T steps, abar_k = prod_{i<=k} (1 - beta_i).

    Step k stands at t = 1 - k/T: k=T is noise (t=0), k=0 data. `betas` are (T,), each in (0, 1) (default:
    `linear_betas()`). The attributes `betas` and `alpha_bars`, (T + 1,) float64, have an entry for each k = 0..T, so
    that betas[k] is beta_k, and betas[0] = 0. DDPM's alpha_k and beta_k are not the path's: alpha_t is sqrt(abar_k)
    here, and beta_t sqrt(1 - abar_k).

    Between entries log abar is linear: noise comes evenly within a step. abar_T is not 0, its root is the `gap`. Within
    the last step beta_t falls like a square root, so that d_beta_t diverges at t=1.
    Denoising Diffusion Probabilistic Models (2020), eq. 4; Common Diffusion Noise Schedules and Sample Steps are
    Flawed (2023) on the gap.
    """

    @takes(betas=tensor("T", finite=True))
    def __init__(self, betas: Tensor | None = None) -> None:
        betas = linear_betas() if betas is None else betas.detach().cpu().double()
        if not len(betas) or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"betas must be at least one number, each in (0, 1); got {betas.tolist()[:5]} ...")
        self.steps, self.betas = len(betas), torch.cat((betas.new_zeros(1), betas))
        log_abar = torch.log1p(-self.betas).cumsum(0)
        self.alpha_bars = log_abar.exp()
        self.t_max, self.gap = 1 - 1 / self.steps, self.alpha_bars[-1].sqrt().item()
        self._log_abar, self._moved = log_abar.flip(0), {}  # from t=0 to t=1

    @takes(steps=whole(1))
    def times(self, steps: int | None = None) -> Tensor:
        """The grid (steps + 1,) from 0 to 1 of times that stand on the table, as even as they can be; default: all T.

        It begins at k=T however few steps it has. Common Diffusion Noise Schedules and Sample Steps are Flawed (2023),
        section 3.3 (trailing).
        """
        if steps is not None and steps > self.steps:
            raise ValueError(f"steps must be at most {self.steps}, the length of the table; got {steps}")
        k = torch.linspace(self.steps, 0, (steps or self.steps) + 1, dtype=torch.float64).round()
        return (1 - k / self.steps).float()

    @takes(t=tensor(finite=True))
    def step_at(self, t: Tensor) -> Tensor:
        """The step k in 1..T that is nearest to the time t, int64 shaped like t: for networks that are told k.

        Such a network was never asked about data (k=0): all times after 1 - 1/T are told as k=1.
        """
        return ((1 - t) * self.steps).round().long().clamp(1, self.steps)

    def __call__(self, t: Tensor) -> Coefficients:
        log_abar, rate = self._at(t)
        alpha_t, beta_t = (log_abar / 2).exp(), (-log_abar.expm1()).clamp_min(0).sqrt()
        return Coefficients(alpha_t, beta_t, alpha_t * rate / 2, -alpha_t.square() * rate / (2 * beta_t))

    @takes(t=tensor())
    def beta_d_beta(self, t: Tensor) -> Tensor:
        log_abar, rate = self._at(t)
        return -log_abar.exp() * rate / 2

    @takes(share=tensor())
    def at_share(self, share: Tensor) -> Tensor:
        table = self._table(share)
        log_abar = -(1 / share.clamp(0, 1) - 1).square().log1p()
        k = (torch.searchsorted(table, log_abar.contiguous()) - 1).clamp(0, self.steps - 1)
        return (k + ((log_abar - table[k]) / (table[k + 1] - table[k])).clamp(0, 1)) / self.steps

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log abar at t and its derivative; at an entry that of the step ahead, although t may be rounded down."""
        table, place = self._table(t), t * self.steps
        k = (place.detach() + 1e-3).floor().long().clamp(0, self.steps - 1)
        rise = table[k + 1] - table[k]
        return table[k] + (place - k) * rise, rise * self.steps

    def _table(self, like: Tensor) -> Tensor:
        """log abar from t=0 to t=1, kept where it was once asked for: a CUDA graph allows no copy to the device."""
        key = like.device, like.dtype
        if key not in self._moved:
            self._moved[key] = self._log_abar.to(device=like.device, dtype=like.dtype)
        return self._moved[key]


def check_endpoints(schedule: Schedule) -> None:
    """Raise ValueError unless beta_1 = 0 and alpha_1 = beta_0 = 1, and alpha_0 is the gap, at most .01 (to 1e-4)."""
    (alpha_0, alpha_1), (beta_0, beta_1), *_ = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
    if not schedule.gap <= WIDEST_GAP:
        raise ValueError(
            f"schedule must leave at most {WIDEST_GAP} of the data in its noise; {type(schedule).__name__} leaves "
            f"alpha_0 = {schedule.gap:.4g}: were its betas cut short?"
        )
    wrong = (alpha_0 - schedule.gap, beta_1, alpha_1 - 1, beta_0 - 1)
    if not all(abs(error) <= 1e-4 for error in wrong):  # so that NaN fails, too
        ends = f"alpha_0 = {alpha_0:.4g}, beta_0 = {beta_0:.4g}, alpha_1 = {alpha_1:.4g}, beta_1 = {beta_1:.4g}"
        raise ValueError(
            "schedule must run from pure noise to pure data: alpha_0 = beta_1 = 0 and alpha_1 = beta_0 = 1; "
            f"{type(schedule).__name__} has {ends}"
        )
