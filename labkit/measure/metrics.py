"""How good and how varied samples are. Every function takes points or features (n, d) and returns plain numbers.

Quality and diversity are two questions: a model may draw one perfect digit for ever (all quality, no diversity).
Density asks whether samples lie where data lies, coverage whether data lies where samples lie. Every figure depends on
n: print the value of real against real, with the same n, beside it.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.inputs import insist, takes, tensor, whole

ROWS = 512  # of a matrix of distances that are held at a time: 10,000 against 10,000 points then take 40 MB, not 800


class Share(NamedTuple):
    """A share in [0, 1] of `n` with a confidence interval low..high: "97.4% (97.1% to 97.7%)", or as f"{share:.2%}"."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return format(self, ".1%")

    def __format__(self, spec: str) -> str:
        value, low, high = (format(number, spec or ".1%") for number in self[:3])
        return f"{value} ({low} to {high})"


class DensityCoverage(NamedTuple):
    """`density` >= 0, about 1 for real data; `coverage` in [0, 1]."""

    density: float
    coverage: float


@takes()
def share(successes: int, n: int, confidence: float = 0.95) -> Share:
    """`successes` out of `n`, 0 <= successes <= n >= 1 (or ValueError), with Wilson's interval, which stays in [0, 1].

    Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    if not (n >= 1 and 0 <= successes <= n and 0 < confidence < 1):
        raise ValueError(f"need 0 <= successes <= n, n >= 1, 0 < confidence < 1; got {successes}, {n}, {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    value = successes / n
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return Share(value, max(0.0, centre - half), min(1.0, centre + half), n)


@takes(projections=whole(1))
def sliced_w2(x: Tensor, y: Tensor, *, projections: int = 128, generator: torch.Generator | None = None) -> float:
    """Sliced Wasserstein-2 distance of clouds x (n, d) and y (m, d): root mean square of W2 over random directions.

    On a line W2 matches quantiles: W2^2 = integral of |F_x^-1(q) - F_y^-1(q)|^2 dq, here exact for any n and m.
    Sliced and Radon Wasserstein Barycenters of Measures (2015), https://hal.science/hal-00881872.
    """
    _check_clouds(x, y)
    directions = torch.randn(x.shape[1], projections, generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=0)).to(x.device)
    a, b = (x.double() @ directions).sort(dim=0).values, (y.double() @ directions).sort(dim=0).values
    # Both quantile functions are steps: constant between neighbouring levels of the merged grid i/n, j/m.
    sizes = len(a), len(b)
    levels = torch.cat([torch.arange(1, n + 1, dtype=a.dtype, device=a.device) / n for n in sizes]).sort().values
    widths = levels.diff(prepend=levels.new_zeros(1))
    i, j = (((levels - widths / 2) * n).long().clamp_max(n - 1) for n in sizes)
    return (widths[:, None] * (a[i] - b[j]).square()).sum(0).mean().sqrt().item()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features (n, d) and (m, d), n, m >= 2.

    |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2)), in float64.
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (2017), eq. 6,
    https://arxiv.org/abs/1706.08500.
    """
    _check_clouds(real, fake)
    sets = real.double(), fake.double()
    (mean_1, cov_1), (mean_2, cov_2) = ((x.mean(0), torch.atleast_2d(torch.cov(x.T))) for x in sets)
    values, vectors = torch.linalg.eigh(cov_1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp_min(0).sqrt().sum()
    return ((mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross).item()


@takes()
def density_coverage(real: Tensor, fake: Tensor, k: int = 5, *, radii: Tensor | None = None) -> DensityCoverage:
    """Density and coverage of `fake` (m, d) against `real` (n, d), 1 <= k < n, m (or ValueError).

    Density: real balls (radius: k-th real neighbour) that hold a fake, counted over fakes and divided by k m.
    Coverage: share of real balls that hold at least one fake; 1 - 2^-k is expected for fakes that are as good as real.
    `radii` (n,) saves work where `neighbour_radii(real, k)` is known.
    Reliable Fidelity and Diversity Metrics for Generative Models (2020), https://arxiv.org/abs/2002.09797.
    """
    _check_clouds(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k must lie in 1..{min(len(real), len(fake)) - 1}, below the number of points; got {k}")
    radii = neighbour_radii(real, k) if radii is None else radii
    parts = zip(real.double().split(ROWS), radii.split(ROWS), strict=True)
    counts = [(torch.cdist(some, fake.double()) <= radius[:, None]).sum(dim=1) for some, radius in parts]
    inside = torch.cat(counts)  # for every real ball the fakes that it holds
    return DensityCoverage(inside.sum().item() / (k * len(fake)), (inside > 0).double().mean().item())


def neighbour_radii(points: Tensor, k: int = 5) -> Tensor:
    """Distance of each of `points` (n, d) to its k-th nearest other point, (n,) in float64."""
    points = points.double()
    nearest = [torch.cdist(some, points).topk(k + 1, dim=1, largest=False).values for some in points.split(ROWS)]
    return torch.cat(nearest)[:, k]  # the nearest of all is the point itself


@takes(features=tensor("n", "d", finite=True))
def vendi_score(features: Tensor) -> float:
    """Effective number of different samples: exp of the entropy of the eigenvalues of K/n, K the cosine similarities.

    Between 1 (all alike) and n (all orthogonal). Features (n, d), none of them zero.
    The Vendi Score: A Diversity Evaluation Metric for Machine Learning (2023), definition 3.1,
    https://arxiv.org/abs/2210.02410.
    """
    if not len(features):
        raise ValueError(f"features must have shape (n, d) with n >= 1; got {tuple(features.shape)}")
    lengths = features.double().norm(dim=1, keepdim=True)
    if (lengths == 0).any():
        raise ValueError("features must not hold a zero vector: it has no direction to compare")
    unit = features.double() / lengths
    # The Gram matrix and the covariance share their non-zero eigenvalues: take the smaller one.
    small = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    weights = torch.linalg.eigvalsh(small / len(unit)).clamp_min(1e-300)
    return math.exp(-(weights * weights.log()).sum().item())


def _check_clouds(real: Tensor, fake: Tensor) -> None:
    for name, points in {"the first set": real, "the second set": fake}.items():
        insist(name, points, tensor("n", "d", finite=True))
    if real.shape[1:] != fake.shape[1:]:
        came = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"both sets must have shape (n, d) with the same d; got {came}")
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"both sets need at least 2 points; got {len(real)} and {len(fake)}")
