"""What a training looks at before its first step: the stream, what the model is told, and where checkpoints go."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.base.conditions import Condition, check_condition, each
from labkit.base.files import atomic_write
from labkit.base.inputs import described
from labkit.base.shapes import check_black

Stream = Iterable[tuple[Tensor, Condition]]


def checked(stream: Stream, model: nn.Module, on: torch.device, done: int) -> Iterator[tuple[Tensor, Condition]]:
    """The stream, looked at value by value before its first batch is used; `done` steps are behind it."""
    for step, batch in enumerate(stream):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(f"stream must yield pairs (z, y), with y None if nothing is told; got {described(batch)}")
        z, y = batch
        if step == 0:
            _check_data(z, on)
            _check_told(model, y, len(z))
            if hasattr(stream, "data") and hasattr(stream, "y"):
                _check_all(model, stream.data, stream.y)
        yield z, y
        done += 1
    raise ValueError(f"the stream ended after {done} steps; it must last for all of them")


def check_writable(path: Path) -> Path:
    """`path`; ValueError unless a checkpoint can be written there: before the training, not after it."""
    try:
        if path.is_dir() or not path.name:
            raise OSError("that is a folder")
        with atomic_write(path.with_name(f".{path.name}.probe")) as temporary:
            temporary.touch()
        path.with_name(f".{path.name}.probe").unlink()
    except OSError as error:
        raise ValueError(f"checkpoint must be a file that can be written; got {str(path)!r}: {error}") from error
    return path


def _check_data(z: Tensor, on: torch.device) -> None:
    if not isinstance(z, Tensor) or not z.is_floating_point():
        came = z.dtype if isinstance(z, Tensor) else described(z)
        raise TypeError(f"z must be floating-point; the stream yields {came}. `to_float` converts uint8 images")
    if z.is_inference():
        raise ValueError("z was made under torch.inference_mode, and cannot be trained with: make it outside")
    if z.device.type != on.type:
        raise ValueError(f"z must be on the model's device, {on}; the stream yields it on {z.device}")
    if not z.isfinite().all():
        raise ValueError("z must be finite; the first batch of the stream has NaN or infinity in it")
    if z.ndim == 4 and z.shape[1] in (1, 3):
        check_black("z", z)


def _check_told(model: nn.Module, y: Condition | None, n: int) -> None:
    if y is not None:  # labels are moved to where their values can be seen
        check_condition(each(lambda part: part.cpu() if part.ndim == 1 else part, y), n, _largest(model))


def _check_all(model: nn.Module, data: Tensor, y: Condition | None) -> None:
    """Refuse NaN anywhere in the data, and labels that run from 1 to K: class K would be trained as the null label."""
    if data.is_floating_point() and not data.isfinite().all():
        raise ValueError("the data must be finite; there are NaN or infinity in them")
    _check_told(model, y, len(data))
    null = getattr(model, "null", None)
    if isinstance(y, Tensor) and y.ndim == 1 and isinstance(null, int) and y.min() >= 1 and y.max() == null:
        raise ValueError(f"y holds labels from {y.min()} to {null}, but {null} means `none given` here: count from 0")


def _largest(model: nn.Module) -> object:
    null = getattr(model, "null", None)
    return model.num_classes - 1 if null is None and getattr(model, "num_classes", None) else null
