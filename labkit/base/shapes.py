"""The only place where time is reshaped, and the checks that every entrance shares.

Everywhere in `labkit` time `t` has shape (B,), one number per sample. Whatever multiplies a batch `x` of shape
(B, ...) by a function of time goes through `expand_t` first.
"""

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

# Times that were added up may overshoot the end of the unit interval by rounding.
TIME_TOLERANCE = 1e-5


def expand_t(t: Tensor, x: Tensor) -> Tensor:
    """Reshape `t` (B,) to (B, 1, ..., 1) so that it multiplies `x` (B, ...) sample by sample.

    Raises TypeError if `t` is no floating-point tensor, ValueError if its shape is not (B,).
    """
    check_time(t, x)
    return t.reshape(-1, *[1] * (x.ndim - 1))


def check_time(t: Tensor, x: Tensor) -> None:
    """Raise unless `t` is a float tensor of shape (B,), where B = x.shape[0]. Values are the entrances' to check."""
    if not isinstance(t, Tensor) or not t.is_floating_point():
        came = f"a tensor of {t.dtype}" if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t must be a floating-point tensor of shape (B,), one time per sample; got {came}")
    if x.ndim == 0 or t.shape != x.shape[:1]:
        raise ValueError(
            f"t must have shape ({x.shape[0] if x.ndim else 'B'},), one time per sample of x with shape "
            f"{tuple(x.shape)}; got shape {tuple(t.shape)}"
        )


def visible(values: Tensor) -> bool:
    """Whether a check may look at values: on the CPU, outside of `torch.compile`, `torch.export` and `torch.func`.

    On an accelerator looking would make the program wait for the device; inside those there may be nothing to look at.
    """
    captured = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(values)
    return values.device.type == "cpu" and not captured


def check_time_range(t: Tensor) -> None:
    """Raise ValueError unless every time lies in [0, 1], where values are `visible`."""
    if not visible(t) or not t.numel():
        return
    low, high = t.min().item(), t.max().item()
    # Written so that NaN fails too.
    if not (low >= -TIME_TOLERANCE and high <= 1 + TIME_TOLERANCE):
        raise ValueError(f"t must lie in [0, 1] (0 is noise, 1 is data); got values from {low:.4g} to {high:.4g}")


def check_labels(y: Tensor, n: int, largest: int | None = None) -> None:
    """Raise unless `y` is an int64 tensor of shape (n,), and, if `largest` is given and y `visible`, in 0..largest."""
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        came = f"a tensor of {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y must be an int64 tensor of shape (B,), one label per sample; got {came}")
    if y.shape != (n,):
        raise ValueError(f"y must have shape ({n},), one label per sample; got shape {tuple(y.shape)}")
    if largest is not None and y.numel() and visible(y):
        low, high = y.min().item(), y.max().item()
        if low < 0 or high > largest:
            raise ValueError(f"y must hold labels in 0..{largest}; got values from {low} to {high}")


def check_images(x: Tensor, channels: int) -> None:
    """Raise ValueError unless `x` has shape (B, channels, H, W)."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x must have shape (B, {channels}, H, W); got {tuple(x.shape)}")


def check_sigma(sigma: float | Callable[[Tensor], Tensor]) -> None:
    """Raise ValueError unless a diffusion coefficient is a callable or a finite number >= 0."""
    if not callable(sigma) and not (isinstance(sigma, Real) and math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be finite and at least 0; got {sigma!r}")


def sigma_at(sigma: float | Callable[[Tensor], Tensor], t: Tensor, x: Tensor) -> float | Tensor:
    """A diffusion coefficient at times t (B,), ready to multiply x (B, ...). Raises TypeError for what is no (B,)."""
    if not callable(sigma):
        return sigma
    value = sigma(t)
    if not isinstance(value, Tensor) or value.shape != t.shape:
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"sigma(t) must return a tensor of shape {tuple(t.shape)}, like t; got {came}")
    return expand_t(value, x)


def check_same_shape(name: str, value: Tensor, x: Tensor) -> None:
    """Raise ValueError unless `value` (the argument called `name`) is shaped like `x`."""
    if value.shape != x.shape:
        raise ValueError(f"{name} must be shaped like x, {tuple(x.shape)}; got {tuple(value.shape)}")
