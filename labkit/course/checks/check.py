"""Exercises that check themselves: `check("02.3", answer)` says what is right, or raises with a sentence that helps.

Every exercise asks for one function. Lesson NN keeps its checks in `lesson_NN.py`; each refuses at least one
wrong answer by name. A function that still raises NotImplementedError is "not yet", which is no error.
"""

import inspect
import linecache
import re
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from itertools import islice
from pathlib import Path

from torch import Tensor, nn

from labkit.course.checks.require import NotRight, seeded

__all__ = ["NotRight", "accepted", "check", "checks_of"]

_ACCEPTED: dict[str, Callable] = {}  # the answers that passed in this process, by number

MOST = 1000  # what an answer may yield, so that one without an end is no check without an end


def check(number: str, answer: Callable) -> None:
    """Try the `answer` to exercise `number`, such as "02.3", and print what is right about it.

    The answer gets clones of all tensors, and it is said where it changes one of them in place; the random numbers of
    the notebook stay where they were. Raises NotRight (an
    AssertionError) with what was seen and what to look at, also where the answer stops with an error of its own, which
    is then the cause; ValueError for an unknown number.
    """
    lesson = str(number).partition(".")[0]
    known = checks_of(lesson) if lesson in lessons() else {}
    if number not in known:
        there = ", ".join(known) or f"those of the lessons {', '.join(lessons())}"
        raise ValueError(f"there is no check for exercise {number!r}; there are {there}")
    if not callable(answer):
        raise TypeError(f"the answer to {number} must be the function you wrote; got {type(answer).__name__}")
    changed: set[str] = set()
    tried = guarded(answer, changed)
    try:
        with seeded(1_618_033):  # no seed that a check takes for its own data
            said = known[number](tried)
    except NotImplementedError as error:
        if error.args and "exercise" not in str(error):
            raise  # torch's own, from inside the answer
        print(f"{number}: not yet. Fill in the blank above and run both cells again; what follows works without it.")
    except NotRight as error:
        raise NotRight(f"{number}: {error}{_remark(changed)}") from error.__cause__
    except Exception as error:
        error.add_note(f"The check of exercise {number} could not make sense of what your answer returned.")
        raise
    else:
        _ACCEPTED[number] = tried if changed else answer
        print(f"{number}: right. {said}{_remark(changed)}")


def accepted(number: str, otherwise: Callable) -> Callable:
    """The answer to exercise `number` that `check` found right last, or `otherwise` while there is none.

    So a lesson goes on with what its reader built: `block = accepted("06.1", otherwise=ResidualBlock)`.
    """
    return _ACCEPTED.get(number, otherwise)


def checks_of(lesson: str) -> dict[str, Callable[[Callable], str]]:
    """The checks of a lesson such as "02": for every exercise a function of the answer that says what is right."""
    return import_module(f"labkit.course.checks.lesson_{lesson}").CHECKS


def lessons() -> list[str]:
    """The numbers of the lessons that have checks, in order."""
    return [path.stem.removeprefix("lesson_") for path in sorted(Path(__file__).parent.glob("lesson_*.py"))]


def guarded(answer: Callable, changed: set[str] | None = None) -> Callable:
    """The answer as checks call it: with clones of its tensors, and NotRight where it stops.

    Names of arguments that it changes in place go into `changed`: the value may be right all the same. What it yields
    is collected in a list, and a function that it returns is guarded as well.
    """
    changed = set() if changed is None else changed

    @wraps(answer)
    def call(*given: object) -> object:
        copies = [_copy(part) for part in given]
        try:
            value = answer(*copies)
            value = list(islice(value, MOST)) if isinstance(value, Iterator) else value
        except (NotRight, NotImplementedError):
            raise
        except Exception as error:
            raise NotRight(_why_it_stopped(error, _named(answer, given))) from error
        changed.update(name for name, a, b in zip(_named(answer, given), given, copies, strict=True) if not _same(a, b))
        return guarded(value, changed) if callable(value) and not isinstance(value, nn.Module | type) else value

    return call


def _remark(changed: set[str]) -> str:
    if not changed:
        return ""
    names = " and ".join(sorted(changed))
    said = f" By the way: your function changes its argument {names} in place, and whoever calls it may still need that"
    return f"{said} as it was: compute something new, or start from a clone."


def _copy(value: object) -> object:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_copy(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _same(value: object, copy: object) -> bool:
    if isinstance(value, Tensor):
        return value.shape == copy.shape and bool(((value == copy) | (value != value)).all())  # NaN equals nothing
    if isinstance(value, dict):
        return list(value) == list(copy) and _same(list(value.values()), list(copy.values()))
    if isinstance(value, list | tuple):
        return len(value) == len(copy) and all(map(_same, value, copy))
    return value is copy


def _named(answer: Callable, given: tuple) -> dict[str, object]:
    """What the answer was given, by the names of its parameters, or by place where it has too few."""
    try:
        names = list(inspect.signature(answer).parameters)
    except (TypeError, ValueError):  # some functions written in C do not tell
        names = []
    return {names[k] if k < len(names) else f"number {k + 1}": part for k, part in enumerate(given)}


def _why_it_stopped(error: Exception, given: dict[str, object]) -> str:
    """The error, the line of the answer that it came from, the arguments, and a hint if shapes did not fit."""
    line, step = "", error.__traceback__.tb_next  # the first entry is that of `call`, the next one the answer's
    own = step and step.tb_frame.f_code.co_filename
    while step:
        if step.tb_frame.f_code.co_filename == own:
            line = linecache.getline(own, step.tb_lineno).strip()
        step = step.tb_next
    shapes = [value.ndim for value in given.values() if isinstance(value, Tensor)]
    hint = (
        " One number a sample, shape (B,), meets x of shape (B, ...) as expand_t(t, x) or t[:, None]."
        if re.search("size|shape|dimension|broadcast", str(error)) and 1 in shapes and max(shapes) > 1
        else ""
    )
    where = f" in the line `{line}`" if line else ""
    told = ", ".join(f"{name}{_described(value)}" for name, value in given.items())
    said = f"{type(error).__name__}: {error}".rstrip(".: ")
    return f"your function stopped{where} with {said}. It was given {told}.{hint}"


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f" of shape {tuple(value.shape)}"
    return f" = {value!r}" if isinstance(value, bool | int | float | str) else ""
