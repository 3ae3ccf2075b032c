"""Data: clouds in the plane, images, and the streams of batches that trainings read.

A new data set is a function that returns data and labels: in `images.py`, or in a file of its own if it is drawn.
"""

from labkit.data.images import Labelled, balanced_labels, balanced_subset, labelled, mnist32, to_float, to_uint8
from labkit.data.points import checkerboard, moons
from labkit.data.stream import batches, draws
