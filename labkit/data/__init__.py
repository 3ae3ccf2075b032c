"""Data: clouds in the plane, images, and the streams of batches that trainings read.

A new data set goes here, as a function that returns data and labels.
"""

from labkit.data.images import Labelled, balanced_labels, balanced_subset, labelled, mnist32, to_float, to_uint8
from labkit.data.points import checkerboard, moons
from labkit.data.stream import batches, draws
