"""How good and how varied samples are. Every function takes points or features (n, d) and returns plain numbers.

Quality and diversity are two questions: a model may draw one perfect digit for ever (all quality, no diversity).
Precision and density ask whether samples lie where data lies; recall and coverage whether data lies where samples lie.
Every one of these depends on n: print the value of real against real, with the same n, beside it.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """`density` >= 0, about 1 for real data; `coverage` in [0, 1]."""

    density: float
    coverage: float


def sliced_w2(x: Tensor, y: Tensor, *, projections: int = 128, generator: torch.Generator | None = None) -> float:
    """Sliced Wasserstein-2 distance of clouds x (n, d) and y (m, d): root mean square of W2 over random directions.

    On a line W2 matches quantiles: W2^2 = integral of |F_x^-1(q) - F_y^-1(q)|^2 dq, here exact for any n and m.
    `projections` unit vectors are drawn; give a `generator` for a repeatable figure.
    Sliced and Radon Wasserstein Barycenters of Measures (2015).
    """
    _check_clouds(x, y)
    directions = torch.randn(x.shape[1], projections, generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=0)).to(x.device)
    a, b = (x.double() @ directions).sort(dim=0).values, (y.double() @ directions).sort(dim=0).values
    # Both quantile functions are steps: constant between neighbouring levels of the merged grid i/n, j/m.
    steps = [torch.arange(1, n + 1, dtype=torch.float64) / n for n in (len(a), len(b))]
    levels = torch.cat(steps).sort().values
    widths = levels.diff(prepend=levels.new_zeros(1))
    middle = levels - widths / 2
    i, j = (middle * len(a)).long().clamp_max(len(a) - 1), (middle * len(b)).long().clamp_max(len(b) - 1)
    squares = (a[i.to(x.device)] - b[j.to(x.device)]).square()
    return (widths[:, None].to(x.device) * squares).sum(0).mean().sqrt().item()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features (n, d) and (m, d), n, m >= 2.

    |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2)), in float64.
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (2017), eq. 6.
    """
    _check_clouds(real, fake)
    (mean_1, cov_1), (mean_2, cov_2) = ((f.double().mean(0), torch.cov(f.double().T)) for f in (real, fake))
    cov_1, cov_2 = (c.reshape(real.shape[1], real.shape[1]) for c in (cov_1, cov_2))
    values, vectors = torch.linalg.eigh(cov_1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp_min(0).sqrt().sum()
    return ((mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross).item()


def frechet_minimum(
    real: Tensor,
    fakes: dict[float, Tensor],
    *,
    draws: int = 200,
    confidence: float = 0.95,
    generator: torch.Generator | None = None,
) -> tuple[float, float, float]:
    """The key of `fakes` with the smallest Frechet distance to `real`, with a bootstrap interval: `(best, low, high)`.

    All sets of `fakes` have n rows, and row i of each comes from the same noise. Each of the `draws` takes n rows at
    random, with replacement and the same ones of every set, and finds the best key again; low and high are the
    percentiles of these. Bootstrap Methods: Another Look at the Jackknife (1979).
    """
    counts = {len(fake) for fake in fakes.values()}
    if len(counts) != 1 or draws < 1 or not 0 < confidence < 1:
        raise ValueError(
            "need sets of equal size, draws >= 1 and 0 < confidence < 1; "
            f"got sizes {sorted(counts)}, {draws} draws, {confidence}"
        )
    (n,) = counts

    def best(rows: Tensor) -> float:
        return min(fakes, key=lambda key: frechet_distance(real, fakes[key][rows]))

    found = sorted(best(torch.randint(n, (n,), generator=generator)) for _ in range(draws))
    cut = int((1 - confidence) / 2 * draws)
    return best(torch.arange(n)), found[cut], found[-1 - cut]


def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> PrecisionRecall:
    """k-nearest-neighbour precision and recall of `fake` (m, d) against `real` (n, d).

    Precision: share of fakes inside some real point's ball, whose radius is the distance to its k-th real neighbour.
    Recall: the same with the roles exchanged.
    Improved Precision and Recall Metric for Assessing Generative Models (2019), eq. 1 and 2.
    """
    _check_clouds(real, fake, k)
    distances = torch.cdist(real.double(), fake.double())
    precision = (distances <= _radii(real, k)[:, None]).any(dim=0).double().mean().item()
    recall = (distances <= _radii(fake, k)[None, :]).any(dim=1).double().mean().item()
    return PrecisionRecall(precision, recall)


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage of `fake` (m, d) against `real` (n, d).

    Density: real balls (radius: k-th real neighbour) that hold a fake, counted over fakes and divided by k m.
    Coverage: share of real balls that hold at least one fake; 1 - 2^-k is expected for fakes that are as good as real.
    Reliable Fidelity and Diversity Metrics for Generative Models (2020).
    """
    _check_clouds(real, fake, k)
    inside = torch.cdist(real.double(), fake.double()) <= _radii(real, k)[:, None]
    return DensityCoverage(inside.sum().item() / (k * len(fake)), inside.any(dim=1).double().mean().item())


def vendi_score(features: Tensor) -> float:
    """Effective number of different samples: exp of the entropy of the eigenvalues of K/n, K the cosine similarities.

    Between 1 (all alike) and n (all orthogonal). Features (n, d), none of them zero.
    The Vendi Score: A Diversity Evaluation Metric for Machine Learning (2023), definition 3.1.
    """
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features must have shape (n, d) with n >= 1; got {tuple(features.shape)}")
    lengths = features.double().norm(dim=1, keepdim=True)
    if (lengths == 0).any():
        raise ValueError("features must not hold a zero vector: it has no direction to compare")
    unit = features.double() / lengths
    # The Gram matrix and the covariance share their non-zero eigenvalues: take the smaller one.
    small = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    weights = torch.linalg.eigvalsh(small / len(unit)).clamp_min(1e-300)
    return math.exp(-(weights * weights.log()).sum().item())


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share of `successes` out of `n` >= 1: `(low, high)` within [0, 1].

    Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    if not (n >= 1 and 0 <= successes <= n and 0 < confidence < 1):
        raise ValueError(f"need 0 <= successes <= n, n >= 1, 0 < confidence < 1; got {successes}, {n}, {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of every point to its k-th nearest other point."""
    return torch.cdist(points.double(), points.double()).kthvalue(k + 1, dim=1).values  # the nearest is itself


def _check_clouds(real: Tensor, fake: Tensor, k: int | None = None) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"both sets must have shape (n, d) with the same d; got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"both sets need at least 2 points; got {len(real)} and {len(fake)}")
    if k is not None and not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k must lie in 1..{min(len(real), len(fake)) - 1}, below the number of points; got {k}")
