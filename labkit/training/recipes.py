"""What each model that ships is made of and how it was trained: one recipe for commands, benchmarks and lessons."""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from labkit.base.conditions import drop_labels
from labkit.flow.losses import cfm_loss
from labkit.flow.paths import GaussianPath
from labkit.training.loop import LossFn

RECIPES = {
    "mnist-unet": {
        "title": "Class-conditional flow matching U-Net for MNIST 1x32x32, labels 0..9 and null 10",
        "model": {
            "class": "UNet",
            "arguments": {"channels": 1, "num_classes": 10, "widths": (32, 64, 96), "blocks": 1, "patch": 2},
        },
        "trained": {"batch_size": 128, "steps": 20_000, "lr": 3e-3, "drop": 0.1},
    },
    "mnist-unet-weak": {
        "title": "A smaller U-Net for the same task, stopped early: the worse model of autoguidance",
        "model": {"class": "UNet", "arguments": {"channels": 1, "num_classes": 10, "widths": (16, 32, 48), "patch": 2}},
        "trained": {"batch_size": 64, "steps": 1_500, "lr": 3e-3, "drop": 0.1},
    },
    "mnist-dit": {
        "title": "Class-conditional flow matching transformer for MNIST 1x32x32, labels 0..9 and null 10",
        "model": {
            "class": "DiT",
            "arguments": {"channels": 1, "num_classes": 10, "patch": 4, "width": 128, "depth": 4, "heads": 4},
        },
        "trained": {"batch_size": 64, "steps": 5_600, "lr": 3e-3, "drop": 0.1},
    },
    "mnist-judge": {
        "title": "Classifier of MNIST digits 1x32x32: the judge of the course's measurements",
        "model": {"class": "ConvNet", "arguments": {"widths": (24, 48, 96), "dim": 128}},
        "trained": {"batch_size": 128, "steps": 4_000, "lr": 3e-3, "jitter": 0.15},
    },
    "mnist-judge-2": {
        "title": "Classifier of MNIST digits 1x32x32 of another architecture: the second opinion",
        "model": {"class": "ResNet", "arguments": {"widths": (24, 48, 96)}},
        "trained": {"batch_size": 128, "steps": 4_000, "lr": 3e-3, "jitter": 0.15},
    },
}


def flow(trained: dict) -> LossFn:
    """The loss of a class-conditional field."""
    path = GaussianPath()

    def loss_fn(model: nn.Module, z: Tensor, y: Tensor) -> Tensor:
        return cfm_loss(model, path, z, drop_labels(y, trained["drop"], model.num_classes))

    return loss_fn


def classification(trained: dict) -> LossFn:
    """The loss of a classifier."""

    def loss_fn(model: nn.Module, z: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model(jitter(z, trained["jitter"])), y)

    return loss_fn


def jitter(z: Tensor, amount: float) -> Tensor:
    """Turn, stretch and shift each image (B, 1, H, W) at random: angle in radians, factors and half widths `amount`."""
    u = (2 * torch.rand(4, len(z), device=z.device) - 1) * amount
    cos, sin = (1 + u[1]) * u[0].cos(), (1 + u[1]) * u[0].sin()
    rows = torch.stack((torch.stack((cos, -sin, u[2]), 1), torch.stack((sin, cos, u[3]), 1)), 1)  # (B, 2, 3)
    # What comes in at the border is 0, so the background is moved there and back.
    return grid_sample(z + 1, affine_grid(rows, list(z.shape), align_corners=False), align_corners=False) - 1
