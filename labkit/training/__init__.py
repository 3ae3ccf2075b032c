"""Training: the loop `fit`, its checkpoints, the recipes of what ships, and loading it.

Nothing here judges samples: that is the next room, `labkit.measure`.
"""

from labkit.training.loop import History, fit, power_ema
from labkit.training.pretrained import load_pretrained, save_pretrained
from labkit.training.recipes import RECIPES

__all__ = ["RECIPES", "History", "fit", "load_pretrained", "power_ema", "save_pretrained"]
