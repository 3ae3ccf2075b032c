"""Measuring: from a model to samples, and from samples to numbers of quality and diversity, with their intervals.

A new metric goes into `metrics.py`, as a function of points or features; one that every table should have also into
`Quality`, which `Judge.measure` fills.
"""

from labkit.measure.against_exact import cloud_quality, field_error
from labkit.measure.held_out import count_wrong, held_out_loss
from labkit.measure.judge import Judge, real_quality
from labkit.measure.metrics import Share, share, sliced_w2
from labkit.measure.quality import Quality
from labkit.measure.samples import clipped, draw
from labkit.measure.sweeps import kinds_of_guidance, shipped_curve, shipped_curves, sweep
