"""The course itself: how a lesson begins, exercises that check themselves, student copies, and its keepers' chores.

A new exercise is a cell of its lesson, a check in `checks/lesson_NN.py`, and right and wrong answers in `tests/course`;
a new chore goes into `commands/`.
"""

from labkit.course.checks.check import accepted, check
from labkit.course.lesson import begin
