"""Training: the loop `fit`, its checkpoints, the recipes of what ships, and loading it.

Nothing here judges samples: that is the next room, `labkit.measure`.
"""

from labkit.training.loop import History, PowerAverage, fit
from labkit.training.pretrained import load_pretrained, save_pretrained
from labkit.training.recipes import RECIPES

__all__ = ["RECIPES", "History", "PowerAverage", "fit", "load_pretrained", "save_pretrained"]
