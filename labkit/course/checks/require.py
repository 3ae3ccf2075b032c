"""What checks are made of: a sentence for everything that can be wrong."""

import math
from numbers import Real

import numpy
import torch
from torch import Tensor


class NotRight(AssertionError):  # noqa: N818 - students read this name, and it is no fault of the program
    """The answer to an exercise is not right; the message says what was seen and where to look."""


def require(right: bool, sentence: str) -> None:
    """Raise NotRight with the sentence unless `right`."""
    if not right:
        raise NotRight(sentence)


def require_like(value: object, truth: Tensor, name: str = "the answer") -> None:
    """Require a finite tensor shaped like `truth`, so that broadcasting cannot hide a wrong shape."""
    require(isinstance(value, Tensor), f"{name} should be a tensor; it is {kind(value)}")
    shapes = f"{tuple(truth.shape)}; it has {tuple(value.shape)}"
    require(value.shape == truth.shape, f"{name} should have shape {shapes}")
    require(bool(value.isfinite().all()), f"{name} holds inf or NaN")


def require_number(value: object, name: str = "the answer") -> float:
    """Require one finite number, or a tensor of one, and return it as a float."""
    single = isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
    require(single, f"{name} should be a number; it is {kind(value)}")
    require(math.isfinite(value), f"{name} is {float(value)}")
    return float(value)


def require_verdict(value: object) -> bool:
    """Require True or False, of Python, numpy or torch, and return it as a bool."""
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    require(isinstance(value, bool | numpy.bool_), f"the answer should be True or False; it is {kind(value)}")
    return bool(value)


def require_close(
    value: object, truth: Tensor, case: str, mistakes: dict[str, Tensor], otherwise: str, close: float = 1e-4
) -> None:
    """Require the truth, up to rounding; where the value is one of the mistakes `{sentence: value}`, say which.

    `case` opens the sentence, and `otherwise` is the hint for a value that is none of them.
    """
    require_like(value, truth, f"{case} the answer")
    value = value.to(truth.dtype)
    if gap(value, truth) < close:
        return
    for sentence, mistake in mistakes.items():
        require(mistake.shape != truth.shape or gap(value, mistake) > close, f"{case} {sentence}")
    size = f"{gap(value, truth):.0%}" if gap(value, truth) < 10 else "more than 1,000%"
    of = " of the largest entry" if truth.numel() > 1 else ""
    require(False, f"{case} the answer is off by {size}{of}. {otherwise}")


def gap(value: Tensor, truth: Tensor) -> float:
    """Largest difference, relative to the largest entry of the truth."""
    scale = truth.abs().max().clamp_min(torch.finfo(truth.dtype).tiny)
    return ((value - truth).abs().max() / scale).item()


def kind(value: object) -> str:
    """What a value is, in words that end a sentence."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None: is a `return` missing?" if value is None else f"of type {type(value).__name__}"
