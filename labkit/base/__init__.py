"""What every other room stands on and what knows nothing of flows: shapes, the machine, conditions, files with cards.

Add here only what all rooms may need: a check of shapes, a device, a kind of file.
"""

from labkit.base.conditions import drop_labels
from labkit.base.files import Card, asset, read_table
from labkit.base.runtime import autocast, device, half_precision, machine, profile, randn_like, seed_everything
from labkit.base.shapes import expand_t

__all__ = [
    "Card",
    "asset",
    "autocast",
    "device",
    "drop_labels",
    "expand_t",
    "half_precision",
    "machine",
    "profile",
    "randn_like",
    "read_table",
    "seed_everything",
]
