"""What every other room stands on and what knows nothing of flows: shapes, the machine, conditions, files with cards.

Add here only what all rooms may need: a check of shapes, a device, a kind of file.
"""

from labkit.base.conditions import drop_condition, each, null_of
from labkit.base.files import Card, asset, read_table
from labkit.base.joints import Field, Model, Step
from labkit.base.runtime import autocast, device, half_precision, machine, randn_like, seed_everything, seeded_noise
from labkit.base.shapes import expand_t
