"""Data: clouds in the plane, images, and the streams of batches that trainings read.

A new data set goes here, as a function that returns data and labels.
"""

from labkit.data.images import LabelledImages, balanced_labels, mnist32, real_digits, to_float, to_uint8
from labkit.data.points import checkerboard, moons
from labkit.data.stream import batches, draws

__all__ = [
    "LabelledImages",
    "balanced_labels",
    "batches",
    "checkerboard",
    "draws",
    "mnist32",
    "moons",
    "real_digits",
    "to_float",
    "to_uint8",
]
