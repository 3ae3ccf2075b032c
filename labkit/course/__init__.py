"""The course itself: exercises that check themselves, student copies, and the chores of its keepers.

A new exercise goes into `checks/lesson_NN.py`, a new chore into `commands/`.
"""

from labkit.course.exercises import check

__all__ = ["check"]
