"""The digit judge: how many samples show the digit asked for, and how near they are to real digits.

The judge and every generator see the training split only. A judge is never used to train, to guide or to choose a
checkpoint, so that its verdict stays independent; a second judge of another build confirms headline figures.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from labkit.base.files import Card
from labkit.data.images import LabelledImages, mnist32, real_digits, to_float
from labkit.measure.metrics import DensityCoverage, density_coverage, frechet_distance, vendi_score, wilson_interval
from labkit.training.pretrained import load_pretrained

CLASSES = 10


class Share(NamedTuple):
    """A share in [0, 1] of `n`, with its 95% Wilson interval."""

    value: float
    low: float
    high: float
    n: int


class Quality(NamedTuple):
    """What a judge measures of n images; each figure says little without that of real images at the same n.

    accuracy: share judged to show the digit asked for, in [0, 1], with its 95% Wilson interval low..high.
    frechet: Frechet distance of the judge's features to those of the 10,000 test images, at least 0.
    density: about 1 for real digits; falls when images look like no real ones.
    coverage: in [0, 1], 1 - 2^-5 = .97 expected for real digits; falls when kinds of digits are missing.
    """

    n: int
    accuracy: float
    low: float
    high: float
    frechet: float
    density: float
    coverage: float


class Diversity(NamedTuple):
    """How varied the images of each class are, beside the test images of that class: 1 is as varied as real digits.

    vendi: Vendi score of the judge's features, divided by that of as many real images; mean over classes.
    spread: standard deviation of the features within a class, all classes together, divided by the real one.
    """

    vendi: float
    spread: float


class Judge:
    """A frozen classifier with features: `Judge.pretrained()` is the one that ships.

    Images x are (B, 1, 32, 32), float in [-1, 1] or uint8, on any device; labels y are (B,) in 0..9.
    """

    def __init__(self, model: nn.Module, card: Card | None = None, *, chunk: int = 100) -> None:
        self.model = model.eval().requires_grad_(False)
        self.card, self.chunk = card, chunk
        self._real: tuple[LabelledImages, Tensor] | None = None

    @classmethod
    def pretrained(cls, name: str = "mnist-judge", device: torch.device | str | None = None) -> "Judge":
        """The judge that ships, or `mnist-judge-2`, the second opinion. Raises ValueError for another name."""
        return cls(*load_pretrained(name, device))

    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer, (B, d), on the CPU."""
        return self._map(self.model.features, x)

    def predict(self, x: Tensor) -> Tensor:
        """The digit that each image shows, (B,) int64, on the CPU."""
        return self._map(self.model, x).argmax(dim=1)

    def accuracy(self, x: Tensor, y: Tensor) -> Share:
        """The share of images x that show the digit y."""
        self._check(x, y)
        right = (self.predict(x) == y.cpu()).sum().item()
        return Share(right / len(x), *wilson_interval(right, len(x)), len(x))

    def frechet(self, x: Tensor) -> float:
        """Frechet distance between the features of x and those of the 10,000 test images. Depends on len(x)."""
        return frechet_distance(self._test()[1], self.features(x))

    def density_coverage(self, x: Tensor, y: Tensor, k: int = 5) -> DensityCoverage:
        """Density and coverage against test images: of each class as many as y asks for, or all that there are."""
        self._check(x, y)
        (_, labels), features = self._test()
        chosen = []
        for digit, count in zip(*y.cpu().unique(return_counts=True), strict=True):
            own = (labels == digit).nonzero()[:, 0]
            count = min(count.item(), len(own))
            chosen.append(own[torch.arange(count) * len(own) // count])  # evenly spaced, so no chance in it
        return density_coverage(features[torch.cat(chosen)], self.features(x), k)

    def measure(self, x: Tensor, y: Tensor) -> Quality:
        """Accuracy, Frechet distance, density and coverage of images x of the digits y."""
        value, low, high, n = self.accuracy(x, y)
        return Quality(n, value, low, high, self.frechet(x), *self.density_coverage(x, y))

    def diversity(self, x: Tensor, y: Tensor) -> Diversity:
        """How varied images x of the digits y are within each class, compared with test images."""
        self._check(x, y)
        (_, labels), real_features = self._test()
        features, y = self.features(x).double(), y.cpu()
        ratios, variances = [], []
        for digit in y.unique():
            own, real = features[y == digit], real_features[labels == digit].double()
            n = min(len(own), len(real))  # the Vendi score grows with the number of images
            ratios.append(vendi_score(own[:n]) / vendi_score(real[:n]))
            variances.append([len(own) * f.var(dim=0).sum().item() for f in (own, real)])  # unbiased: / (n - 1)
        seen, true = (sum(column) for column in zip(*variances, strict=True))
        return Diversity(sum(ratios) / len(ratios), (seen / true) ** 0.5)

    def _map(self, function: nn.Module, x: Tensor) -> Tensor:
        on = next(self.model.parameters()).device
        with torch.no_grad():
            return torch.cat([function(to_float(part.to(on))).cpu() for part in x.split(self.chunk)])

    def _test(self) -> tuple[LabelledImages, Tensor]:
        """The test images and their features, computed once."""
        if self._real is None:
            real = mnist32("test")
            self._real = real, self.features(real.images)
        return self._real

    @staticmethod
    def _check(x: Tensor, y: Tensor) -> None:
        if y.shape != x.shape[:1]:
            raise ValueError(f"y must have shape ({len(x)},), one label per image; got {tuple(y.shape)}")


def real_quality(judge: Judge, n: int, seed: int = 0) -> Quality:
    """What n real digits score: training images against the test images.

    It is also what a generator would score that had learned the training set by heart. Arguments as `real_digits`.
    """
    return judge.measure(*real_digits(n, seed))
