"""The course itself: exercises that check themselves, student copies, and the chores of its keepers.

A new exercise goes into `checks/lesson_NN.py`, a new chore into `commands/`. What every lesson sets up with is here too.
"""

from labkit.base.runtime import device, machine, profile, seed_everything
from labkit.course.exercises import check

__all__ = ["check", "device", "machine", "profile", "seed_everything"]
