r"""Ground truth: marginal densities, scores and velocities that need no network.

`ExactMarginal` solves Gaussian mixtures. With C_k = alpha^2 Sigma_k + beta^2 I and r_k the posterior of component k,

    p_t(x) = sum_k pi_k N(x; alpha mu_k, C_k),      score = -sum_k r_k C_k^-1 (x - alpha mu_k),
    velocity = sum_k r_k [d_alpha mu_k + (alpha d_alpha Sigma_k + beta d_beta I) C_k^-1 (x - alpha mu_k)].

`EmpiricalMarginal` solves a finite data set: the field that a perfect network would learn from it, which memorises.
"""

import math

import torch
from torch import Tensor

from labkit.base.inputs import LABELS, positive, takes, tensor, visible, whole
from labkit.base.shapes import check_labels, check_times
from labkit.flow.mixtures import Components, GaussianMixture
from labkit.flow.paths import SINGULAR, GaussianPath, complete


class ExactMarginal:
    """The marginal path p_t of a Gaussian path over a Gaussian mixture, unconditional and per class.

    `labels` (components,) int64 holds the class 0..K-1 of each component (default: each its own). Every method takes
    x (B, d), t (B,) in [0, 1] and y (B,) int64 or None; y=None and y=K, which is `null`, mean unconditional, so that
    `guided(exact.velocity, y, w)` works as it does for a network.
    """

    @takes(labels=LABELS)
    def __init__(self, path: GaussianPath, mixture: GaussianMixture, labels: Tensor | None = None) -> None:
        count = len(mixture.means)
        labels = torch.arange(count) if labels is None else labels
        self.num_classes = _count_classes(labels, count)
        self.path, self.mixture, self.labels, self.null = path, mixture, labels, self.num_classes

    def log_prob(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """log p_t(x | y), shape (B,)."""
        return self._components(x, t, y).log_joint.logsumexp(dim=1)

    def posterior(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Posterior r (B, components) of the component that x came from; zero outside the class y."""
        return self._components(x, t, y).log_joint.softmax(dim=1)

    def class_logits(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(y | x) for every class, (B, K): the perfect classifier of noisy points."""
        log_r = self._components(x, t, None).log_joint.log_softmax(dim=1)
        member = self.labels.to(x.device)[None] == torch.arange(self.num_classes, device=x.device)[:, None]
        return torch.where(member, log_r[:, None], -torch.inf).logsumexp(dim=2)

    def score(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """grad_x log p_t(x | y), shaped like x."""
        parts = self._components(x, t, y)
        return self.mixture.combine(parts.log_joint.softmax(dim=1), -parts.offsets / parts.variances)

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """u_t(x | y) = E[v_t | x_t = x, y], shaped like x; finite on all of [0, 1]."""
        parts = self._components(x, t, y)
        r = parts.log_joint.softmax(dim=1)
        _, slope = self._rates(t, x, parts)
        d_alpha = self.path.schedule(t).d_alpha_t[:, None]
        means = r @ self.mixture.means.to(x.dtype).to(x.device)
        return d_alpha * means + self.mixture.combine(r, slope * parts.offsets)

    def velocity_variance(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """tr Cov(v_t | x_t = x, y) / d, shape (B,): what no model of (x, t, y) can explain of the training target.

        Within a component the variance is Delta^2 lambda / C per eigendirection, Delta = d_alpha beta - alpha d_beta;
        between components it is that of the component's mean velocities.
        """
        parts = self._components(x, t, y)
        r = parts.log_joint.softmax(dim=1)
        within, slope = self._rates(t, x, parts)
        d_alpha = self.path.schedule(t).d_alpha_t[:, None, None]
        means, bases = (part.to(x.dtype).to(x.device) for part in (self.mixture.means, self.mixture.bases))
        component = d_alpha * means + torch.einsum("kij,bkj->bki", bases, slope * parts.offsets)  # (B, K, d)
        centred = component - (r[:, :, None] * component).sum(1, keepdim=True)
        return (r * (within + centred**2).mean(dim=2)).sum(dim=1)

    @takes(n=whole(1))
    def loss_floor(self, n: int = 100_000, generator: torch.Generator | None = None) -> float:
        """The CFM loss of a perfect conditional model: E tr Cov(v_t | x_t, y) / d, with t uniform on [0, t_max].

        The expectation over x and t is a mean over `n` draws (stratified in t); the covariance inside is exact.
        """
        z, component = self.mixture.sample(n, generator)
        t = self.path.schedule.t_max * (torch.arange(n, dtype=z.dtype) + 0.5) / n
        x = self.path.sample(z, t, generator=generator).x_t
        return self.velocity_variance(x, t, self.labels[component]).mean().item()

    def _components(self, x: Tensor, t: Tensor, y: Tensor | None) -> Components:
        check_times(t, x)
        alpha_t, beta_t, *_ = self.path.schedule(t)
        parts = self.mixture.components(x, alpha_t, beta_t)
        if y is None:
            return parts
        check_labels(y, len(x), largest=self.num_classes)
        labels, weights = self.labels.to(x.device), self.mixture.weights.to(x.dtype).to(x.device)
        member = (labels[None] == y[:, None]) | (y[:, None] == self.num_classes)  # (B, components)
        mass = (member * weights).sum(dim=1, keepdim=True)  # p(y), or 1
        return parts._replace(log_joint=torch.where(member, parts.log_joint - mass.log(), -torch.inf))

    def _rates(self, t: Tensor, x: Tensor, parts: Components) -> tuple[Tensor, Tensor]:
        """Per eigendirection (B, K, d): the velocity's variance within a component, and its slope in x.

        The slope is written with beta * d_beta, which stays finite where d_beta alone does not; the variance does not.
        """
        alpha, beta, d_alpha, d_beta = (c[:, None, None] for c in self.path.schedule(t))
        beta_d_beta = self.path.schedule.beta_d_beta(t)[:, None, None]
        eigenvalues = self.mixture.eigenvalues.to(x.dtype).to(x.device)
        slope = (alpha * d_alpha * eigenvalues + beta_d_beta) / parts.variances
        delta = d_alpha * beta - alpha * d_beta
        return delta**2 * eigenvalues / parts.variances, slope


def _count_classes(labels: Tensor, count: int) -> int:
    """K, after checking that `labels` are `count` int64 and that every class 0..K-1 occurs."""
    if labels.shape != (count,) or labels.dtype != torch.int64:
        came = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"labels must be int64 of shape ({count},), one class for each; got {came}")
    used = labels.unique().tolist()
    if used != list(range(len(used))):
        raise ValueError(f"labels must use every class 0..K-1; got {used}")
    return len(used)


@takes(std=positive())
def gaussian_loss_floor(std: float) -> float:
    """pi * std / 2: the CFM loss per dimension of a perfect model, for data N(mu, std^2 I) on the linear path.

    The variance left is std^2 / (t^2 std^2 + (1 - t)^2); its integral over [0, 1] is pi std / 2.
    """
    return math.pi * std / 2


class EmpiricalMarginal:
    """The ideal denoiser of finite data (N, ...): what a network of unlimited size would learn, and it only remembers.

    E[z | x_t = x] = sum_i lambda_i z_i with lambda = softmax_i(-|x - alpha z_i|^2 / (2 beta^2)). With `labels` (N,)
    int64 in 0..K-1, y (B,) restricts the average to its class, and y=K does not.
    On the Closed-Form of Flow Matching: Generalization Does Not Arise from Target Stochasticity (2025), proposition 1.
    """

    @takes(data=tensor(finite=True), labels=LABELS)
    def __init__(self, path: GaussianPath, data: Tensor, labels: Tensor | None = None) -> None:
        if not data.is_floating_point() or data.ndim < 2 or not len(data):
            raise ValueError(f"data must be float of shape (N, ...) with N >= 1; got {data.dtype} {tuple(data.shape)}")
        self.path, self.data, self.labels = path, data, labels
        self.num_classes = self.null = None if labels is None else _count_classes(labels, len(data))

    def denoiser(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """E[z | x_t = x, y], shaped like x: an average of the data. Singular at t=1 (ValueError on the CPU)."""
        check_times(t, x)
        if x.shape[1:] != self.data.shape[1:]:
            raise ValueError(f"x must have shape (B, {', '.join(map(str, self.data.shape[1:]))}); got {tuple(x.shape)}")
        alpha_t, beta_t, *_ = (c[:, None] for c in self.path.schedule(t))
        if visible(beta_t) and (beta_t.abs() < SINGULAR).any():
            advice = "stop before it, or take a solver that does"
            raise ValueError(f"the empirical field is singular at t=1, where beta_t = 0: {advice}")
        flat, data = x.flatten(1), self.data.to(x).flatten(1)
        # |x - alpha z|^2 = |x|^2 - 2 alpha x.z + alpha^2 |z|^2, and |x|^2 does not depend on i.
        squares = alpha_t**2 * data.square().sum(1) - 2 * alpha_t * (flat @ data.T)  # (B, N)
        log_weights = -squares / (2 * beta_t**2)
        if y is not None:
            if self.labels is None:
                raise ValueError("y was given, but this marginal was made without labels")
            check_labels(y, len(x), largest=self.num_classes)
            outside = (self.labels.to(x.device)[None] != y[:, None]) & (y[:, None] != self.num_classes)
            log_weights = log_weights.masked_fill(outside, -torch.inf)
        return (log_weights.softmax(dim=1) @ data).reshape(x.shape)

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """E[v_t | x_t = x, y], shaped like x: d_alpha z + (d_beta / beta) (x - alpha z) at the denoiser's z."""
        return complete(self.path, x, t, z=self.denoiser(x, t, y)).velocity
