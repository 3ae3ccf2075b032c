"""The baseline of `speed_to_quality.py`: the recipe of lab three of MIT 6.S184, written anew.

From the lab (MIT licence) come the ideas only: the network, the loader and the settings of the training. One thing
differs from labkit in what is learned: the lab resizes 28x28 digits to 32x32, so that they come out larger than the
padded ones, and `unstretch` brings such samples back.
"""

import math
import time
from collections.abc import Iterator
from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from labkit.base import drop_condition
from labkit.flow import GaussianPath, cfm_loss

BATCH = 250
LR = 1e-3
DROP = 0.1
EMBEDDING = 40


def block(channels: int) -> nn.Sequential:
    """What the network is made of: SiLU, BatchNorm, 3x3 convolution."""
    return nn.Sequential(nn.SiLU(), nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1))


def adapter(channels: int) -> nn.Sequential:
    """An embedding (B, 40) to one number per channel, (B, channels)."""
    return nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, channels))


class FourierTime(nn.Module):
    """Times (B,) to sines and cosines (B, 40) of learned frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(EMBEDDING // 2))

    def forward(self, t: Tensor) -> Tensor:
        angle = 2 * math.pi * t[:, None] * self.frequencies
        return math.sqrt(2) * torch.cat((angle.sin(), angle.cos()), dim=1)


class Residual(nn.Module):
    """x + f(x): two blocks, and between them time and label are added to every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = block(channels), block(channels)
        self.from_time, self.from_label = adapter(channels), adapter(channels)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        shift = self.from_time(time) + self.from_label(label)
        return x + self.second(self.first(x) + shift[:, :, None, None])


class Stage(nn.Module):
    """Residual layers on one grid."""

    def __init__(self, channels: int, layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Residual(channels) for _ in range(layers))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, time, label)
        return x


class LabThreeUNet(nn.Module):
    """A field on images, called as labkit's is: x (B, 1, 32, 32), t (B,) in [0, 1], y (B,) in 0..10, 10 is null."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        self.channels, self.num_classes, self.null = 1, 10, 10
        steps = list(pairwise(widths))
        self.time, self.label = FourierTime(), nn.Embedding(self.num_classes + 1, EMBEDDING)
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, padding=1), nn.BatchNorm2d(widths[0]), nn.SiLU())
        self.encoder = nn.ModuleList(Stage(high) for high, _ in steps)
        self.down = nn.ModuleList(nn.Conv2d(high, low, 3, stride=2, padding=1) for high, low in steps)
        self.middle = Stage(widths[-1])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(low, high, 3, padding=1))
            for high, low in reversed(steps)
        )
        self.decoder = nn.ModuleList(Stage(high) for high, _ in reversed(steps))
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        time, label = self.time(t), self.label(y)
        h = self.stem(x)
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            h = down(stage(h, time, label))
            skips.append(h)
        h = self.middle(h, time, label)
        for up, stage in zip(self.up, self.decoder, strict=True):
            h = stage(up(h + skips.pop()), time, label)
        return self.head(h)


def one_by_one(images: Tensor, labels: Tensor, on: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader of the lab: every step permutes all images, and takes a batch through PIL image by image.

    Arguments: `images` (N, 1, 32, 32) uint8, padded, from which the 28x28 pixels are taken; `labels` (N,); both on
    the CPU. Batches live on the device `on`.
    """
    small = images[:, 0, 2:30, 2:30].contiguous()
    prepare = Compose([Resize((32, 32)), ToTensor(), Normalize((0.5,), (0.5,))])
    while True:
        chosen = torch.randperm(len(small))[:BATCH]
        z = torch.stack([prepare(Image.fromarray(small[i].numpy())) for i in chosen.tolist()])
        yield z.to(on), labels[chosen].to(on)


def unstretch(x: Tensor) -> Tensor:
    """Digits that fill 32x32, as `one_by_one` draws them, to digits of 28x28 with a border of background.

    By least squares: the 28x28 image that comes nearest to x when it is resized. Another resizing would blur the digits
    once more and cost the samples Frechet distance; this way real digits come back as they were.
    """
    resize = interpolate(torch.eye(28)[None], 32, mode="linear")[0].T.to(x)  # (32, 28): 28 pixels in a row to 32
    back = torch.linalg.pinv(resize)
    return pad((back @ x @ back.T).clamp(-1, 1), (2, 2, 2, 2), value=-1.0)


def train_until(model: LabThreeUNet, batches: Iterator[tuple[Tensor, Tensor]], end: float) -> int:
    """Train `model` in place until `time.perf_counter()` reaches `end`, and return the steps taken.

    The loss is the squared error summed over the pixels, averaged over the batch; the rate of Adam stays the same.
    """
    path = GaussianPath()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    model.train()
    steps = 0
    while time.perf_counter() < end:
        z, y = next(batches)
        t = torch.rand(len(z), device=z.device)  # uniform and independent, not stratified
        y = drop_condition(y, DROP, model.null)
        loss = cfm_loss(model, path, z, y, t=t) * z[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the lab shows it at every step; it also keeps the clock honest on an accelerator
        steps += 1
    model.eval()
    return steps
