"""Conditions: what a model may be told beside x and t, of any kind, and the few things that are done to one.

A condition y is batch-first: labels (B,) int64, tokens (B, L, D), or a tuple of conditions, such as tokens and their
mask. Its null, "nothing given", is of the same kind without the batch axis: the integer K for labels 0..K-1, a tensor
(L, D) for tokens, a tuple for a tuple. A model carries its own null as the attribute `null`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.base.inputs import NULL, number, takes
from labkit.base.shapes import check_labels

Condition = Tensor | tuple["Condition", ...]
Null = int | Tensor | tuple["Null", ...]


@takes(ys=NULL)
def each(function: Callable[..., Tensor], *ys: "Condition | Null") -> "Condition":
    """`function` of the tensors of one or several conditions, part by part: a tuple where they are tuples."""
    if isinstance(ys[0], tuple):
        return tuple(each(function, *parts) for parts in zip(*ys, strict=True))
    return function(*ys)


def rows(y: Condition, chosen: Tensor | slice) -> Condition:
    """The chosen rows of every part."""
    return each(lambda part: part[chosen], y)


def nothing_like(y: Condition, null: Null) -> Condition:
    """`null` once for every row of y, in the type of y and on its device."""

    def filled(part: Tensor, none: int | Tensor) -> Tensor:  # a number is not copied to a device: that would wait
        if isinstance(none, Tensor):
            return none.to(part).expand_as(part)
        check_labels(part, len(part))
        return torch.full_like(part, none)

    return each(filled, y, null)


def joined(first: Condition, second: Condition) -> Condition:
    """One batch of both, (B + B', ...)."""
    return each(lambda a, b: torch.cat((a, b)), first, second)


@takes(p=number(0, 1), null=NULL)
def drop_condition(y: Condition, p: float, null: Null, generator: torch.Generator | None = None) -> Condition:
    """A copy of y in which each row, whole, is replaced by `null` with probability p, independently.

    Classifier-Free Diffusion Guidance (2022), algorithm 1. Raises ValueError unless 0 <= p <= 1.
    """
    first = _parts(y)[0]
    on = first.device if generator is None else generator.device
    dropped = (torch.rand(len(first), generator=generator, device=on) < p).to(first.device)

    def mixed(part: Tensor, none: Tensor) -> Tensor:
        return torch.where(dropped.reshape(-1, *[1] * (part.ndim - 1)), none, part)

    return each(mixed, y, nothing_like(y, null))


def own_null(model: object) -> Null | None:
    """A model's own null: its attribute `null`, or that of the object whose method it is; None where there is none."""
    inside = getattr(model, "__self__", getattr(model, "module", None))  # of a method, or of DataParallel
    return getattr(model, "null", getattr(inside, "null", None))


@takes(given=NULL)
def null_of(model: object, given: Null | None = None) -> Null:
    """The null to use for a model: the `given` one, or its own.

    Raises ValueError where there is neither, and for an integer that is not the model's own: it would be a real class.
    """
    own = own_null(model)
    if given is None and own is None:
        raise ValueError("null must be given: this model does not say by its attribute `null` what `nothing given` is")
    if isinstance(given, int) and isinstance(own, int) and given != own:
        raise ValueError(f"null={given} is not what this model takes for `nothing given`: that is {own}")
    return own if given is None else given


def length(y: Condition) -> int:
    """The number of rows."""
    return len(_parts(y)[0])


def check_condition(y: Condition, n: int, null: Null | None = None) -> None:
    """Raise unless y is a condition of n rows that fits `null`; labels are looked at on the CPU only.

    With an integer `null` y holds labels 0..null, with a tensor parts shaped like it; None checks the rows alone.
    """
    if isinstance(y, tuple) and isinstance(null, tuple) and len(y) == len(null):
        for part, none in zip(y, null, strict=True):
            check_condition(part, n, none)
        return
    if null is not None and (isinstance(y, tuple) or isinstance(null, tuple)):
        raise ValueError("y and null must be of one kind: a tensor for each, or tuples of equally many parts")
    for part in _parts(y):
        if len(part) != n:
            raise ValueError(f"y must have {n} rows, one per sample; got shape {tuple(part.shape)}")
    if isinstance(null, int):
        check_labels(y, n, largest=null)
    elif isinstance(null, Tensor) and y.shape[1:] != null.shape:
        raise ValueError(f"each row of y must be shaped like null, {tuple(null.shape)}; got {tuple(y.shape[1:])}")


def _parts(y: Condition) -> list[Tensor]:
    """The tensors that y is made of. Raises TypeError for what is none, or has no rows."""
    if isinstance(y, tuple):
        return [part for inner in y for part in _parts(inner)]
    if not isinstance(y, Tensor) or y.ndim == 0:
        came = "a tensor without rows" if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y must be a tensor with one row per sample, or a tuple of them; got {came}")
    return [y]
