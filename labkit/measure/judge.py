"""The judge: how many samples show the class asked for, and how near they are to real images.

The judge and every generator see the training split only. A judge is never used to train, to guide or to choose a
checkpoint, so that its verdict stays independent; a second judge of another build confirms headline figures.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from labkit.base.files import Card
from labkit.base.inputs import described, takes, whole, wholes
from labkit.base.shapes import check_black, check_labels
from labkit.data.images import Labelled, balanced_subset, mnist32, to_float
from labkit.data.stream import batches
from labkit.measure.metrics import Share, density_coverage, frechet_distance, neighbour_radii, share, vendi_score
from labkit.measure.quality import Quality
from labkit.nn.convnet import ResNet
from labkit.training.loop import fit
from labkit.training.pretrained import load_pretrained
from labkit.training.recipes import classification_loss

K = 5  # neighbours of density and coverage


class Reading(NamedTuple):
    """What a judge saw in images, on the CPU: the class that each one shows (B,) int64, and its features (B, d)."""

    shown: Tensor
    features: Tensor


class Judge:
    """A frozen classifier, and the `real` images, none of its training, that samples are compared with.

    Images x are (B, C, H, W), float in [-1, 1] or uint8, on any device; labels y are (B,) int64, of the real classes.
    The model's `features(x)` are (B, d), and its `head` makes logits (B, K) of them, as in `ConvNet` and `ResNet`.
    """

    @takes(chunk=whole(1))
    def __init__(self, model: nn.Module, real: Labelled, *, card: Card | None = None, chunk: int = 100) -> None:
        self.model = model.eval().requires_grad_(False)
        self.real, self.card, self.chunk = Labelled(real.images, real.labels.cpu()), card, chunk
        self._references: dict[tuple[int, ...], tuple[Tensor, Tensor | None]] = {}

    @classmethod
    def pretrained(cls, name: str = "mnist-judge", device: torch.device | str | None = None) -> "Judge":
        """The judge of digits that ships, or `mnist-judge-2`; real images: MNIST's test split. ValueError otherwise."""
        model, card = load_pretrained(name, device)
        return cls(model, mnist32("test"), card=card)

    @classmethod
    @takes(steps=whole(1), widths=wholes(1))
    def train(
        cls, train: Labelled, test: Labelled, *, steps: int = 600, widths: tuple[int, ...] = (24, 48, 96), seed: int = 0
    ) -> "Judge":
        """A judge of one's own data: a small `ResNet`, trained where `train` lies, that compares with `test`.

        Each of the `widths`, the channels of the network, halves the grid: images are at least 8 pixels wide and high.
        No image is in both sets, so that `test_accuracy` says how far to trust the judge.
        Raises ValueError for sets that differ in the shape of their images.
        """
        if train.images.shape[1:] != test.images.shape[1:]:
            came = f"{tuple(train.images.shape)} and {tuple(test.images.shape)}"
            raise ValueError(f"train and test must hold images (N, C, H, W) of one shape; got {came}")
        classes = 1 + int(max(train.labels.max(), test.labels.max()))
        with torch.random.fork_rng():  # what others draw stays what it was
            torch.manual_seed(seed)
            model = ResNet(train.images.shape[1], classes, widths=widths).to(train.images.device)
            stream = batches(*train, min(64, len(train.labels)), torch.Generator().manual_seed(seed))
            history = fit(model, classification_loss(0.15), stream, steps=steps, lr=3e-3, progress=False)
        return cls(history.ema, test)

    @torch.no_grad()
    def read(self, x: Tensor) -> Reading:
        """One pass of the network over images x (B, C, H, W). Raises ValueError if some are not finite."""
        if not isinstance(x, Tensor) or x.is_complex() or x.ndim != 4 or not x.isfinite().all():
            raise ValueError(f"x must be finite images (B, C, H, W); got {described(x)}")
        if x.is_floating_point():
            check_black("x", x)
        on = next(self.model.parameters()).device
        features = [self.model.features(to_float(part.to(on))) for part in x.split(self.chunk)]
        shown = [self.model.head(part).argmax(dim=1).cpu() for part in features]
        return Reading(torch.cat(shown), torch.cat([part.cpu() for part in features]))

    def accuracy(self, x: Tensor | Reading, y: Tensor) -> Share:
        """The share of images x that show the class y."""
        reading, y = self._read(x, y)
        return share((reading.shown == y).sum().item(), len(y))

    @cached_property
    def real_reading(self) -> Reading:
        """What the judge sees in the real images."""
        return self.read(self.real.images)

    @property
    def test_accuracy(self) -> Share:
        """The share of the real images that the judge gets right."""
        return self.accuracy(self.real_reading, self.real.labels)

    def measure(self, x: Tensor | Reading, y: Tensor) -> Quality:
        """Every figure of images x, or of what `read` saw in them, that were asked to be of the classes y (B,).

        Density and coverage compare with as many real images of each class as y asks for, or all that there are;
        with fewer than 6 on either side they are None. Spread and the Vendi score look at classes of two images or
        more, and are None without.
        Raises ValueError for labels beyond the real ones, for fewer than 2 images, and for images that are not finite.
        """
        reading, y = self._read(x, y)
        features = reading.features
        distance, (spread, vendi) = frechet_distance(self.real_reading.features, features), self._diversity(features, y)
        return Quality(len(y), self.accuracy(reading, y), spread, distance, *self._density_coverage(features, y), vendi)

    def _read(self, x: Tensor | Reading, y: Tensor) -> tuple[Reading, Tensor]:
        """What there is to see in x, and y on the CPU, checked."""
        y = torch.as_tensor(y).cpu() if isinstance(y, list | np.ndarray | Tensor) else y
        seen = x.shown if isinstance(x, Reading) else x
        check_labels(y, len(seen) if isinstance(seen, Tensor) else 0, largest=int(self.real.labels.max()))
        return x if isinstance(x, Reading) else self.read(x), y

    def _density_coverage(self, features: Tensor, y: Tensor) -> tuple[float | None, float | None]:
        """Density and coverage beside the real images that go with the classes y; these are chosen once."""
        counts = tuple(y.bincount().tolist())
        if counts not in self._references:
            chosen = []
            for label, count in enumerate(counts):
                own = (self.real.labels == label).nonzero()[:, 0]
                count = min(count, len(own))
                chosen.append(own[torch.arange(count) * len(own) // max(count, 1)])  # evenly spaced: no chance in it
            real = self.real_reading.features[torch.cat(chosen)]
            self._references[counts] = real, neighbour_radii(real, K) if len(real) > K else None
        real, radii = self._references[counts]
        few = min(len(real), len(features)) <= K
        return (None, None) if few else density_coverage(real, features, K, radii=radii)

    def _diversity(self, features: Tensor, y: Tensor) -> tuple[float | None, float | None]:
        """Spread and Vendi score within classes, beside those of the real images."""
        labels, ratios, seen, true = self.real.labels, [], 0.0, 0.0
        for label in y.unique():
            own, real = features[y == label].double(), self.real_reading.features[labels == label].double()
            n = min(len(own), len(real))
            if n < 2:  # a single image says nothing of variety
                continue
            ratios.append(vendi_score(own[:n]) / vendi_score(real[:n]))  # it grows with the number of images
            seen += len(own) * own.var(dim=0).sum().item()  # unbiased: / (n - 1)
            true += len(own) * real.var(dim=0).sum().item()
        return ((seen / true) ** 0.5, sum(ratios) / len(ratios)) if ratios else (None, None)


@takes(n=whole(1))
def real_quality(judge: Judge, n: int, seed: int = 0) -> Quality:
    """What n real training digits score, the classes balanced: as would a generator that knew them all by heart."""
    return judge.measure(*balanced_subset(mnist32("train"), n, seed))
