"""Exercises that check themselves: `check("02.3", answer)` says what is right, or raises with a sentence that helps.

Every exercise asks for one function. Lesson NN keeps its checks in `lesson_NN.py`; each refuses at least one wrong
answer by name. A function that still raises NotImplementedError is "not yet", which is no error.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from labkit.course.require import NotRight

__all__ = ["NotRight", "check", "checks_of"]


def check(number: str, answer: Callable) -> None:
    """Try the `answer` to exercise `number`, such as "02.3", and print what is right about it.

    Raises NotRight (an AssertionError) with what was seen and what to look at; ValueError for an unknown number.
    Other errors of the answer pass through, with a note that says where they came from.
    """
    lesson = str(number).partition(".")[0]
    known = checks_of(lesson) if lesson in lessons() else {}
    if number not in known:
        there = ", ".join(known) or f"those of the lessons {', '.join(lessons())}"
        raise ValueError(f"there is no check for exercise {number!r}; there are {there}")
    if not callable(answer):
        raise TypeError(f"the answer to {number} must be the function you wrote; got {type(answer).__name__}")
    try:
        said = known[number](answer)
    except NotImplementedError as error:
        if error.args and "exercise" not in str(error):
            raise  # torch's own, from inside the answer
        print(f"{number}: not yet. Fill in the blank above and run both cells again; what follows works without it.")
    except NotRight as error:
        raise NotRight(f"{number}: {error}") from None
    except Exception as error:
        error.add_note(f"This came from inside your answer to exercise {number}, when the check called it.")
        raise
    else:
        print(f"{number}: right. {said}")


def checks_of(lesson: str) -> dict[str, Callable[[Callable], str]]:
    """The checks of a lesson such as "02": for every exercise a function of the answer that says what is right."""
    return import_module(f"labkit.course.checks.lesson_{lesson}").CHECKS


def lessons() -> list[str]:
    """The numbers of the lessons that have checks, in order."""
    return [
        path.stem.removeprefix("lesson_") for path in sorted((Path(__file__).parent / "checks").glob("lesson_*.py"))
    ]
