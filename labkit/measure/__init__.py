"""Measuring: from a model to samples, and from samples to figures of quality and diversity, with their intervals.

A new metric goes here; it takes samples or features and returns numbers.
"""

from labkit.measure.against_exact import cloud_quality, field_error
from labkit.measure.held_out import held_out_loss
from labkit.measure.judge import Judge, Quality, real_quality
from labkit.measure.metrics import sliced_w2, wilson_interval
from labkit.measure.samples import draw_images
from labkit.measure.sweeps import cloud_sweep, guidance_sweep, shipped_curve

__all__ = [
    "Judge",
    "Quality",
    "cloud_quality",
    "cloud_sweep",
    "draw_images",
    "field_error",
    "guidance_sweep",
    "held_out_loss",
    "real_quality",
    "shipped_curve",
    "sliced_w2",
    "wilson_interval",
]
