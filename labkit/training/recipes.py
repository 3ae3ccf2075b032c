"""What each model that ships is made of and how it was trained: one recipe for commands, benchmarks and lessons."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from labkit.base.conditions import Condition, drop_condition, null_of
from labkit.base.inputs import number, takes, text
from labkit.flow.losses import cfm_loss, draw_times, dsm_loss, eps_loss
from labkit.flow.paths import GaussianPath
from labkit.training.cards import Network
from labkit.training.loop import LossFn

LOSSES = {"velocity": cfm_loss, "eps": eps_loss, "score": dsm_loss}


@dataclass(frozen=True)
class Recipe:
    """How a model is made and trained: with a share `drop` of conditions dropped, or images moved by up to `jitter`."""

    title: str
    network: Network
    batch_size: int
    steps: int
    lr: float
    drop: float | None = None
    jitter: float | None = None

    def loss_fn(self) -> LossFn:
        if self.network.predicts is None:
            return classification_loss(self.jitter or 0.0)
        return flow_loss(self.network.gaussian_path(), self.drop or 0.0, self.network.predicts)


@takes(drop=number(0, 1), predicts=text(*LOSSES))
def flow_loss(path: GaussianPath | None = None, drop: float = 0.1, predicts: str = "velocity") -> LossFn:
    """The loss of a model that predicts velocity, eps or score (else ValueError) on `path` (default: the linear one).

    A share `drop` of the conditions is replaced by the model's null, so that the model can be guided; a model made
    without conditions is told none.
    """
    loss, path = LOSSES[predicts], GaussianPath() if path is None else path

    def loss_fn(model: nn.Module, z: Tensor, y: Condition) -> Tensor:
        if hasattr(model, "null") and model.null is None:
            return loss(model, path, z)
        return loss(model, path, z, drop_condition(y, drop, null_of(model)))

    return loss_fn


@takes(amount=number(0))
def classification_loss(amount: float) -> LossFn:
    """The loss of a classifier of images that are moved a little, see `jitter`."""
    return lambda model, z, y: cross_entropy(model(jitter(z, amount)), y)


@takes()
def noisy_classification_loss(path: GaussianPath | None = None) -> LossFn:
    """The loss of a classifier (x, t) -> logits of noisy points x_t of `path` (default: the linear one), for `fit`.

    Mean of -log p_t(y | x_t), t drawn as in `cfm_loss`; its minimiser is the truth, which near t=0 is only p(y).
    """
    path = GaussianPath() if path is None else path

    def loss_fn(model: nn.Module, z: Tensor, y: Tensor) -> Tensor:
        t = draw_times(path, z)
        return cross_entropy(model(path.sample(z, t).x_t, t), y)

    return loss_fn


def jitter(z: Tensor, amount: float) -> Tensor:
    """Turn, stretch and shift each image (B, 1, H, W) at random: angle in radians, factors and half widths `amount`."""
    u = (2 * torch.rand(4, len(z), device=z.device) - 1) * amount
    cos, sin = (1 + u[1]) * u[0].cos(), (1 + u[1]) * u[0].sin()
    rows = torch.stack((torch.stack((cos, -sin, u[2]), 1), torch.stack((sin, cos, u[3]), 1)), 1)  # (B, 2, 3)
    # What comes in at the border is 0, so the background is moved there and back.
    return grid_sample(z + 1, affine_grid(rows, list(z.shape), align_corners=False), align_corners=False) - 1


DIGITS = {"channels": 1, "num_classes": 10}
RECIPES = {
    "mnist-unet": Recipe(
        "Class-conditional flow matching U-Net for MNIST 1x32x32, labels 0..9 and null 10",
        Network("UNet", DIGITS | {"widths": [32, 64, 96], "blocks": 1, "patch": 2}, "velocity", "linear"),
        batch_size=128, steps=20_000, lr=3e-3, drop=0.1,
    ),
    "mnist-unet-weak": Recipe(
        "A smaller U-Net for the same task, stopped early: the worse model of autoguidance",
        Network("UNet", DIGITS | {"widths": [16, 32, 48], "patch": 2}, "velocity", "linear"),
        batch_size=64, steps=1_500, lr=3e-3, drop=0.1,
    ),
    "mnist-dit": Recipe(
        "Class-conditional flow matching transformer for MNIST 1x32x32, labels 0..9 and null 10",
        Network("DiT", DIGITS | {"patch": 4, "width": 128, "depth": 4, "heads": 4}, "velocity", "linear"),
        batch_size=64, steps=5_600, lr=3e-3, drop=0.1,
    ),
    "mnist-judge": Recipe(
        "Classifier of MNIST digits 1x32x32: the judge of the course's measurements",
        Network("ConvNet", {"widths": [24, 48, 96], "dim": 128}),
        batch_size=128, steps=4_000, lr=3e-3, jitter=0.15,
    ),
    "mnist-judge-2": Recipe(
        "Classifier of MNIST digits 1x32x32 of another architecture: the second opinion",
        Network("ResNet", {"widths": [24, 48, 96]}),
        batch_size=128, steps=4_000, lr=3e-3, jitter=0.15,
    ),
}  # fmt: skip
