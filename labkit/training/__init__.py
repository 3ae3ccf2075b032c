"""Training: the loop `fit`, its checkpoints, the recipes of what ships, and loading it.

A new recipe goes here. Nothing here judges samples: that is the next room, `labkit.measure`.
"""

from labkit.training.average import PowerAverage
from labkit.training.cards import Details, Network, Training, images_seen
from labkit.training.loop import History, LossFn, fit, steps_within
from labkit.training.pretrained import load_pretrained, names, save_pretrained
from labkit.training.recipes import RECIPES, Recipe, classification_loss, flow_loss, noisy_classification_loss
