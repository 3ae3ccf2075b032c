"""Gaussian mixtures: densities simple enough for closed forms, rich enough to be interesting.

Noise added to a mixture leaves a mixture: if z is one, so is alpha z + beta eps, with means alpha mu_k and covariances
alpha^2 Sigma_k + beta^2 I. In the eigenbasis of Sigma_k that covariance is diagonal for every alpha and beta at once,
which is why everything here is written there.
"""

import math
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.inputs import a, insist, positive, takes, tensor, whole


class Components(NamedTuple):
    """What every closed form needs, for x (B, d) and K components.

    `log_joint` (B, K) is log weight_k + log N(x; ...); `offsets` (B, K, d) is x - alpha mu_k in the eigenbasis of
    Sigma_k; `variances` (B, K, d) are the eigenvalues of alpha^2 Sigma_k + beta^2 I.
    """

    log_joint: Tensor
    offsets: Tensor
    variances: Tensor


class GaussianMixture:
    """The density sum_k weights_k N(means_k, Sigma_k) on R^d; ValueError for shapes that do not fit and no density.

    `means` are (K, d); `stds_or_covs` one standard deviation for all, (K,) of them, or (K, d, d) covariance matrices;
    `weights` (K,) positive, normalised here (default: equal).
    """

    @takes(means=tensor("K", "d", finite=True), weights=tensor("K", finite=True))
    def __init__(self, means: Tensor, stds_or_covs: float | Tensor, weights: Tensor | None = None) -> None:
        count, dim = means.shape
        insist("stds_or_covs", stds_or_covs, a(Real, Tensor))
        spread = torch.as_tensor(stds_or_covs, dtype=means.dtype)
        if spread.ndim <= 1 and spread.shape in ((), (count,)):
            covs = spread.square().expand(count)[:, None, None] * torch.eye(dim, dtype=means.dtype)
        elif spread.shape == (count, dim, dim):
            covs = spread
        else:
            wanted = f"be a number or have shape ({count},) or ({count}, {dim}, {dim})"
            raise ValueError(f"stds_or_covs must {wanted}; got {tuple(spread.shape)}")
        weights = torch.ones(count, dtype=means.dtype) if weights is None else weights
        if weights.shape != (count,) or not (weights.isfinite() & (weights > 0)).all():
            raise ValueError(f"weights must be {count} positive numbers; got {weights.tolist()}")
        if not torch.allclose(covs, covs.mT, equal_nan=True):
            raise ValueError("stds_or_covs must be symmetric matrices")
        proper = spread.isfinite().all() and (spread.ndim > 1 or (spread > 0).all())
        if not proper or not torch.linalg.cholesky_ex(covs).info.eq(0).all():
            raise ValueError("stds_or_covs must be finite standard deviations above 0 or positive definite matrices")
        # (K, d) and (K, d, d): columns of `bases` are the eigenvectors of Sigma_k.
        self.eigenvalues, self.bases = torch.linalg.eigh(covs)
        self.means, self.weights = means, weights / weights.sum()

    @property
    def dim(self) -> int:
        """Dimension d of the space."""
        return self.means.shape[1]

    @takes(n=whole(0))
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw `(z, y)`: points (n, d) in the precision of the means, and the components (n,) int64 they come from."""
        y = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, dtype=self.means.dtype, generator=generator)
        spread = self.eigenvalues[y].sqrt() * noise
        return self.means[y] + torch.einsum("bij,bj->bi", self.bases[y], spread), y

    def log_prob(self, x: Tensor) -> Tensor:
        """log density at x (B, d), shape (B,)."""
        return self.components(x).log_joint.logsumexp(dim=1)

    def score(self, x: Tensor) -> Tensor:
        """grad_x log density at x (B, d): -sum_k r_k Sigma_k^-1 (x - mu_k), r the posterior of the components."""
        parts = self.components(x)
        return self.combine(parts.log_joint.softmax(dim=1), -parts.offsets / parts.variances)

    @takes(alpha_t=tensor("B"), beta_t=tensor("B"))
    def components(self, x: Tensor, alpha_t: Tensor | None = None, beta_t: Tensor | None = None) -> Components:
        """The mixture of alpha_t z + beta_t eps, component by component, at x (B, d); coefficients (B,), default z."""
        insist("x", x, tensor("B", self.dim))
        means, bases, eigenvalues, weights = (
            part.to(x.dtype).to(x.device) for part in (self.means, self.bases, self.eigenvalues, self.weights)
        )
        alpha, beta = (1, 0) if alpha_t is None else (alpha_t[:, None, None], beta_t[:, None, None])
        offsets = torch.einsum("kij,bki->bkj", bases, x[:, None] - alpha * means)
        variances = alpha**2 * eigenvalues + beta**2
        log_normal = -0.5 * (offsets**2 / variances + variances.log() + math.log(2 * math.pi)).sum(dim=2)
        return Components(weights.log() + log_normal, offsets, variances)

    @takes(r=tensor("B", "K"), vectors=tensor("B", "K", "d"))
    def combine(self, r: Tensor, vectors: Tensor) -> Tensor:
        """sum_k r_k Q_k vectors_k, shape (B, d): weights r (B, K), vectors (B, K, d) given in the eigenbases Q_k."""
        return torch.einsum("bk,kij,bkj->bi", r, self.bases.to(r.dtype).to(r.device), vectors)


@takes(count=whole(1), radius=positive(), std=positive())
def ring(count: int = 8, radius: float = 2.0, std: float = 0.2) -> GaussianMixture:
    """`count` equal round components on a circle in the plane, counter-clockwise from (radius, 0)."""
    return GaussianMixture(radius * _directions(count), std)


@takes(count=whole(1), reach=positive(), along=positive(), across=positive())
def petals(count: int = 3, reach: float = 1.0, along: float = 0.6, across: float = 0.35) -> GaussianMixture:
    """`count` long components in the plane that point outwards like petals and overlap in the middle; the first is up.

    Means lie at distance `reach` from the origin; standard deviations are `along` outwards and `across` sideways.
    """
    outwards = _directions(count, first=math.pi / 2)
    sideways = torch.stack((-outwards[:, 1], outwards[:, 0]), dim=1)
    covs = sum(s**2 * d[:, :, None] * d[:, None] for s, d in ((along, outwards), (across, sideways)))
    return GaussianMixture(reach * outwards, covs)


def _directions(count: int, first: float = 0.0) -> Tensor:
    """Unit vectors in the plane (count, 2), counter-clockwise from the angle `first`."""
    angles = first + 2 * math.pi * torch.arange(count) / count
    return torch.stack((angles.cos(), angles.sin()), dim=1)
