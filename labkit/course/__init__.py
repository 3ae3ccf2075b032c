"""The course itself: how a lesson begins, exercises that check themselves, student copies, and its keepers' chores.

A new exercise goes into `checks/lesson_NN.py`, a new chore into `commands/`.
"""

from labkit.course.checks.check import check
from labkit.course.lesson import begin
