"""The only place where time is reshaped, and the checks that every entrance shares.

Everywhere in `labkit` time `t` has shape (B,), one number per sample. Whatever multiplies a batch `x` of shape
(B, ...) by a function of time goes through `expand_t` first. What has the wrong type raises TypeError, a wrong shape
or value ValueError; values are looked at only where they are `visible`.
"""

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from labkit.base.inputs import described, visible

TIME_TOLERANCE = 1e-5  # times that were added up may overshoot the end of the unit interval by rounding
Sigma = float | Callable[[Tensor], Tensor]  # a diffusion coefficient: a number >= 0, or a function (B,) -> (B,) of t


def expand_t(t: Tensor, x: Tensor) -> Tensor:
    """Reshape `t` (B,) to (B, 1, ..., 1), to multiply `x` (B, ...) sample by sample; errors as in `check_time`."""
    check_time(t, x)
    return t.reshape(-1, *[1] * (x.ndim - 1))


def check_time(t: Tensor, x: Tensor) -> None:
    """Raise unless `x` and `t` are float tensors, (B, ...) and (B,): one time per sample."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor of shape (B, ...); got {described(x)}")
    if not isinstance(t, Tensor) or not t.is_floating_point():
        raise TypeError(f"t must be a floating-point tensor of shape (B,), one time per sample; got {described(t)}")
    if x.ndim == 0 or t.shape != x.shape[:1]:
        wanted = f"({x.shape[0] if x.ndim else 'B'},), one time per sample of x with shape {tuple(x.shape)}"
        raise ValueError(f"t must have shape {wanted}; got shape {tuple(t.shape)}")


def check_times(t: Tensor, x: Tensor) -> None:
    """`check_time`, and every time must lie in [0, 1]."""
    check_time(t, x)
    if not visible(t):
        return
    low, high = t.min().item(), t.max().item()
    if not (low >= -TIME_TOLERANCE and high <= 1 + TIME_TOLERANCE):  # so that NaN fails, too
        raise ValueError(f"t must lie in [0, 1] (0 is noise, 1 is data); got values from {low:.4g} to {high:.4g}")


def check_labels(y: Tensor, n: int, largest: int | None = None) -> None:
    """Raise unless `y` is an int64 tensor of shape (n,), with values in 0..largest if that is given."""
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"y must be an int64 tensor of shape (B,), one label per sample; got {described(y)}")
    if y.shape != (n,):
        raise ValueError(f"y must have shape ({n},), one label per sample; got shape {tuple(y.shape)}")
    if largest is not None and visible(y):
        low, high = y.min().item(), y.max().item()
        if low < 0 or high > largest:
            raise ValueError(f"y must hold labels in 0..{largest}; got values from {low} to {high}")


def check_images(x: Tensor, channels: int, weight: Tensor | None = None) -> None:
    """Raise unless `x` is floating-point with shape (B, channels, H, W), in the dtype of the `weight`."""
    check_dtype(x, x if weight is None else weight)
    if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape:
        empty = ", none of them 0" * (0 in x.shape)
        raise ValueError(f"x must have shape (B, {channels}, H, W){empty}; got {tuple(x.shape)}")


def check_dtype(x: Tensor, weight: Tensor) -> None:
    """Raise TypeError unless `x` is floating-point, in the dtype of the `weight` that it meets or of autocast."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor; got {described(x)}")
    met = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weight.dtype)
    if x.dtype != weight.dtype and not met:
        raise TypeError(f"x must be of {weight.dtype}, as the weights are; got {x.dtype}")


def check_black(name: str, x: Tensor) -> None:
    """Raise ValueError for images without a value below 0, where black is -1: they come from [0, 1] or from 0..255."""
    if x.numel() and x.min() >= 0 and x.max() > 0:
        came = f"from {x.min().item():.4g} to {x.max().item():.4g}"
        raise ValueError(f"{name} holds images {came}, but black is -1 here: see `labelled` and its value_range")


def check_sigma(sigma: Sigma) -> None:
    """Raise ValueError unless a diffusion coefficient is a callable or a finite number >= 0."""
    if not callable(sigma) and not (isinstance(sigma, Real) and math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be finite and at least 0; got {sigma!r}")


def sigma_at(sigma: Sigma, t: Tensor, x: Tensor) -> float | Tensor:
    """A diffusion coefficient at times t (B,), ready to multiply x (B, ...); TypeError unless it is shaped like t."""
    if not callable(sigma):
        return sigma
    value = sigma(t)
    if not isinstance(value, Tensor) or value.shape != t.shape:
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"sigma(t) must return a tensor of shape {tuple(t.shape)}, like t; got {came}")
    return expand_t(value, x)


def check_same_shape(name: str, value: Tensor, x: Tensor) -> Tensor:
    """`value`, called `name`; it must be a tensor shaped like `x`, which broadcasting would hide."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(
            f"{name} must be a floating-point tensor shaped like x, {tuple(x.shape)}; got {described(value)}"
        )
    if value.shape != x.shape:
        raise ValueError(f"{name} must be shaped like x, {tuple(x.shape)}; got {tuple(value.shape)}")
    return value
