"""What checks are made of: a sentence for everything that can be wrong."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
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


def as_tensor(value: object, name: str = "the answer", *, whole: bool = False) -> object:
    """An array, a list of rows or a number as a tensor, and a sparse tensor as a dense one; others stay what they are.

    So a check looks at the numbers and not at what holds them. Gradients are kept. Raises NotRight for complex numbers,
    for tensors on the device `meta`, which have a shape and no numbers, and, unless `whole`, for tensors of whole
    numbers or of truth values.
    """
    if isinstance(value, list | tuple) and value and all(isinstance(part, Tensor) for part in value):
        alike = len({(part.shape, part.dtype, part.device) for part in value}) == 1
        value = torch.stack(list(value)) if alike else value
    elif isinstance(value, numpy.ndarray | numpy.generic | list | tuple | float):
        try:
            numbers = numpy.array(value)
        except (TypeError, ValueError):  # rows of several lengths
            return value
        require(numbers.dtype.kind != "c", f"{name} should hold decimal numbers, not complex ones")
        if numbers.dtype.kind in "fiub":
            value = torch.from_numpy(numbers if whole or numbers.dtype.kind == "f" else numbers.astype(float))
    if isinstance(value, Tensor):
        odd = "nested" if value.is_nested else "quantized" if value.is_quantized else ""
        require(not odd, f"{name} is a {odd} tensor; an ordinary one is asked for")
        require(not value.is_meta, f"{name} lies on the device `meta`, where tensors have shapes and no numbers")
        require(not value.is_complex(), f"{name} should hold decimal numbers, not complex ones")
        if not whole:
            require(value.is_floating_point(), f"{name} should hold decimal numbers, not {value.dtype}")
        value = value.cpu() if value.layout is torch.strided else value.to_dense().cpu()
    return value


def require_like(value: object, truth: Tensor, name: str = "the answer") -> None:
    """Require a finite tensor shaped like `truth`, so that broadcasting cannot hide a wrong shape.

    Where the truth has decimal numbers, so must the value: whole numbers and truth values are no rounding errors.
    """
    require(isinstance(value, Tensor), f"{name} should be a tensor; it is {kind(value)}")
    decimal = value.is_floating_point() or not truth.is_floating_point()
    require(decimal, f"{name} should hold decimal numbers, not {value.dtype}")
    shapes = f"{tuple(truth.shape)}; it has {tuple(value.shape)}"
    require(value.shape == truth.shape, f"{name} should have shape {shapes}")
    require(bool(value.isfinite().all()), f"{name} holds inf or NaN")


def require_number(value: object, name: str = "the answer") -> float:
    """Require one finite number, or a tensor or array of one, and return it as a float."""
    value = as_tensor(value, name, whole=True)
    value = value.detach().item() if isinstance(value, Tensor) and value.numel() == 1 else value
    require(isinstance(value, Real), f"{name} should be a number; it is {kind(value)}")
    require(abs(value) < 1e300, f"{name} is {value if abs(value) == math.inf or value != value else 'beyond 1e300'}")
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
    off = 100 * gap(value, truth)
    size = f"{off:.2g}%" if off < 10 else f"{off:.0f}%" if off < 1000 else "more than 1,000%"
    of = " of the largest entry" if truth.numel() > 1 else ""
    require(False, f"{case} the answer is off by {size}{of}. {otherwise}")


def gap(value: Tensor, truth: Tensor) -> float:
    """Largest difference, relative to the largest entry of the truth."""
    scale = truth.abs().max().clamp_min(torch.finfo(truth.dtype).tiny)
    return ((value - truth).abs().max() / scale).item()


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Every global generator that an answer may draw from starts at `seed`, and is put back behind it."""
    by_python, by_numpy = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(by_python)
            numpy.random.set_state(by_numpy)


def kind(value: object) -> str:
    """What a value is, in words that end a sentence."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None: is a `return` missing?" if value is None else f"of type {type(value).__name__}"
