"""What public functions take, in one line above each: bad input is refused by its name, in one sentence.

    @takes(n=whole(1), noise=number(0))
    def moons(n: int, noise: float = 0.1, generator: Generator | None = None): ...

An argument of another kind raises TypeError, one whose value does not fit ValueError; both say what came and what was
expected. None passes where it is the default. Values of tensors are looked at only where they are `visible`.
"""

import inspect
import math
from collections import abc
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

P, R = ParamSpec("P"), TypeVar("R")


class Kind(NamedTuple):
    """A kind of argument: what is expected, in words; whether a value is of that kind; and whether it then fits."""

    expected: str
    is_one: Callable[[Any], bool]
    fits: Callable[[Any], bool] = lambda value: True


def takes(**kinds: Kind) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Try the arguments before the function runs: by the kind that is named here, else by what its annotation says.

    Of an argument with a star every part is tried.
    """

    def around(function: Callable[P, R]) -> Callable[P, R]:
        known = inspect.signature(function).parameters
        tried = {name: kind for name, p in known.items() if (kind := kinds.get(name) or annotated(p.annotation))}
        optional = {name for name, p in known.items() if p.default is None or "None" in str(p.annotation)}
        places = [name for name, p in known.items() if p.kind is not p.KEYWORD_ONLY]
        starred = places and known[places[-1]].kind is inspect.Parameter.VAR_POSITIONAL

        @wraps(function)
        def _tried(*args: P.args, **kwargs: P.kwargs) -> R:
            named = places + places[-1:] * (len(args) - len(places)) if starred else places
            for given in (zip(named, args, strict=False), kwargs.items()):
                for name, value in given:
                    kind = tried.get(name)
                    if kind and not (value is None and name in optional):
                        insist(name, value, kind)
            return function(*args, **kwargs)

        return _tried

    return around


def annotated(annotation: object) -> Kind | None:
    """The kind that an annotation stands for; None where it leaves that open, as for tensors."""
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        plain = all(isinstance(part, type) and part not in (Tensor, int, float) for part in parts)
        return annotated(parts[0]) if len(parts) == 1 else a(*parts) if plain else None
    if origin is abc.Callable or getattr(origin, "_is_protocol", False):
        return FUNCTION
    if origin in (Tensor, object, inspect.Parameter.empty) or not isinstance(origin, type):
        return None
    of_its_own = {bool: FLAG, int: whole(), float: number(), str: text()}
    return of_its_own.get(origin) or (None if origin.__module__ == "collections.abc" else a(origin))


def insist(name: str, value: object, kind: Kind) -> None:
    """Raise TypeError or ValueError, with a sentence about `name`, unless the value is of that kind and fits."""
    right = kind.is_one(value)
    if not (right and kind.fits(value)):
        raise (ValueError if right else TypeError)(f"{name} must be {kind.expected}; got {described(value)}")


def whole(low: int | None = None, high: int | None = None) -> Kind:
    """A whole number, Python's or numpy's, from low to high."""
    return Kind(
        f"a whole number{_range(low, high)}", lambda v: _is_number(v, Integral), lambda v: _within(v, low, high)
    )


def number(low: float | None = None, high: float | None = None) -> Kind:
    """A finite number from low to high."""
    return Kind(f"a finite number{_range(low, high)}", lambda v: _is_number(v, Real), lambda v: _within(v, low, high))


def positive(high: float | None = None) -> Kind:
    """A finite number above 0, up to high."""
    said = "a finite number above 0" + ("" if high is None else f", at most {high}")
    return Kind(said, lambda v: _is_number(v, Real), lambda v: v > 0 and _within(v, 0, high))


def text(*choices: str) -> Kind:
    """A string: one of the choices, if there are any."""
    said = f"one of {', '.join(choices)}" if choices else "a string"
    return Kind(said, lambda v: isinstance(v, str), lambda v: not choices or v in choices)


def a(*types: type) -> Kind:
    """An object of one of the types."""
    return Kind(" or ".join(map(_with_article, (one.__name__ for one in types))), lambda v: isinstance(v, types))


def tensor(*axes: str | int, dtype: torch.dtype | None = None, finite: bool = False) -> Kind:
    """A tensor that is floating-point or of `dtype`, with these axes, such as "B" and 2; with none, of any shape."""
    kind = "floating-point" if dtype is None else str(dtype).removeprefix("torch.")
    shape = f" of shape ({', '.join(map(str, axes))}{',' * (len(axes) == 1)})" if axes else ""

    def fits(v: Tensor) -> bool:
        right = not axes or len(v.shape) == len(axes)
        right = right and all(v.shape[i] == axis for i, axis in enumerate(axes) if isinstance(axis, int))
        return right and not (finite and visible(v) and not v.isfinite().all())

    def is_one(v: object) -> bool:
        return isinstance(v, Tensor) and (v.is_floating_point() if dtype is None else v.dtype == dtype)

    return Kind(f"{_with_article('finite ' * finite + kind)} tensor{shape}", is_one, fits)


def wholes(low: int) -> Kind:
    """A tuple or list of whole numbers from low, one at least."""
    said, one = f"a tuple of whole numbers, each at least {low}", whole(low)
    return Kind(said, lambda v: isinstance(v, tuple | list) and all(map(one.is_one, v)),
                lambda v: len(v) > 0 and all(map(one.fits, v)))  # fmt: skip


def pair(name: str, value: object) -> tuple[float, float]:
    """Two finite numbers (lo, hi), lo < hi, or a sentence about `name`."""
    both = isinstance(value, tuple | list) and len(value) == 2 and all(_is_number(part, Real) for part in value)
    if not both or not -math.inf < value[0] < value[1] < math.inf:
        raise ValueError(f"{name} must be (lo, hi), finite and lo < hi; got {described(value)}")
    return tuple(value)


def described(value: object) -> str:
    """A value in words that end a sentence."""
    if isinstance(value, Tensor | np.ndarray):
        holder = "a tensor" if isinstance(value, Tensor) else "a numpy array"
        odd = isinstance(value, Tensor) and value.is_floating_point() and visible(value) and not value.isfinite().all()
        return f"{holder} of {value.dtype} and shape {tuple(value.shape)}{', with inf or NaN in it' * odd}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    short = isinstance(value, Real | str | list | tuple | None) and len(repr(value)) <= 60
    return repr(value) if short else f"an object of type {type(value).__name__}"


def visible(values: Tensor) -> bool:
    """Whether a check may look at values: there are some, on the CPU, outside of `torch.compile` and `torch.func`.

    On an accelerator looking would make the program wait for the device; inside those there may be nothing to look at.
    """
    return values.device.type == "cpu" and values.numel() > 0 and not captured(values)


def captured(values: Tensor) -> bool:
    """Whether `torch.compile` or `torch.func` holds the values, so that no decision may depend on them."""
    return torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(values)


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None else f", at least {low}" if high is None else f" in [{low}, {high}]"


FLAG = Kind("True or False", lambda v: isinstance(v, bool | np.bool_))
FUNCTION = Kind("a function, or an object that can be called", lambda v: callable(v) and not isinstance(v, type))
NULL = a(int, Tensor, tuple)._replace(fits=lambda v: not isinstance(v, int) or v >= 0)  # "nothing given"
LABELS = tensor("N", dtype=torch.int64)
POINTS = tensor("B", 2, finite=True)
