"""Networks: each is a model, `forward(x, t, y=None)` shaped like x, or a classifier of images; none knows of paths.

A new network goes into a file of its own here, and into `ARCHITECTURES` of `labkit.training.cards` if it is to ship.
"""

from labkit.nn.convnet import ConvNet, ResNet
from labkit.nn.dit import Attention, DiT, grid_positions, modulate, patchify, unpatchify
from labkit.nn.mlp import MLP
from labkit.nn.noisy import NoisyClassifier
from labkit.nn.trace import flop_count, shape_trace
from labkit.nn.unet import ResidualBlock, UNet, group_norm, zeroed
