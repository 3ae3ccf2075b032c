"""Two small image classifiers of different build. Both have `features(x)`, what their last linear layer reads."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import relu

from labkit.base.inputs import number, takes, whole, wholes
from labkit.base.shapes import check_images


def conv_norm(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution and BatchNorm; a classifier sees no noise levels, and its statistics are frozen when it judges."""
    conv = nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class ConvNet(nn.Module):
    """Stages of two 3x3 convolutions and a max pooling, then one hidden layer: logits (B, num_classes).

    Arguments: x is (B, channels, size, size), and every one of `widths` halves the grid; `dim` features.
    Very Deep Convolutional Networks for Large-Scale Image Recognition (2015), made small.
    """

    @takes(channels=whole(1), num_classes=whole(1), widths=wholes(1), dim=whole(1), size=whole(1), dropout=number(0, 1))
    def __init__(
        self,
        channels: int = 1,
        num_classes: int = 10,
        *,
        widths: tuple[int, ...] = (24, 48, 96),
        dim: int = 128,
        size: int = 32,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.channels, self.num_classes, self.size, self.null = channels, num_classes, size, None
        stages = []
        for before, width in zip((channels, *widths), widths, strict=False):
            stages += [conv_norm(before, width), nn.ReLU(), conv_norm(width, width), nn.ReLU(), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages, nn.Flatten())
        grid = size // 2 ** len(widths)
        self.hidden = nn.Sequential(nn.Linear(widths[-1] * grid**2, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, num_classes))

    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer, (B, dim), none below 0."""
        check_images(x, self.channels, self.head[1].weight)
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(f"x must be images of {self.size} by {self.size} pixels; got {tuple(x.shape)}")
        return self.hidden(self.stages(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class ResNet(nn.Module):
    """Residual blocks that halve the grid by stride, and a mean over what is left of it: logits (B, num_classes).

    No pooling but the last mean, no hidden layer: another build than `ConvNet`, for a second opinion.
    Deep Residual Learning for Image Recognition (2016), section 3.3, made small.
    """

    @takes(channels=whole(1), num_classes=whole(1), widths=wholes(1))
    def __init__(self, channels: int = 1, num_classes: int = 10, *, widths: tuple[int, ...] = (24, 48, 96)) -> None:
        super().__init__()
        self.channels, self.num_classes, self.null = channels, num_classes, None
        self.stem = nn.Sequential(conv_norm(channels, widths[0], size=5, stride=2), nn.ReLU())
        self.shrink = nn.ModuleList(conv_norm(a, b, stride=2) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_norm(width, width), nn.ReLU(), conv_norm(width, width)) for width in widths
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer, (B, widths[-1]), none below 0."""
        check_images(x, self.channels, self.head.weight)
        h = self.stem(x)
        for depth, block in enumerate(self.blocks):
            if depth:
                h = relu(self.shrink[depth - 1](h))
            h = relu(h + block(h))
        return h.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
