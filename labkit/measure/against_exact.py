"""Fields and clouds of points measured against the exact law: the error of a field per time, quality and diversity."""

from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.inputs import takes, tensor, whole
from labkit.base.joints import Model
from labkit.base.shapes import check_labels, check_same_shape
from labkit.flow.exact import ExactMarginal
from labkit.flow.mixtures import GaussianMixture
from labkit.measure.metrics import share
from labkit.measure.quality import Quality


class FieldError(NamedTuple):
    """Relative error of a field: at each of the times `t` (T,), `per_t` (T,), and over all of them, `overall`."""

    t: Tensor
    per_t: Tensor
    overall: float


@takes(times=whole(1), n=whole(1))
@torch.no_grad()
def field_error(
    model: Model,
    exact: ExactMarginal,
    *,
    truth: Model | None = None,
    times: int = 20,
    n: int = 2000,
    with_labels: bool = False,
    generator: torch.Generator | None = None,
) -> FieldError:
    """sqrt(E|model - truth|^2 / E|truth|^2) at the middles of `times` equal parts of [0, t_max], n points x at each.

    `model` and `truth` (default: the exact velocity) are called as model(x, t) with x from p_t, or, `with_labels`, as
    model(x, t, y) with x from p_t(. | y).
    """
    truth = exact.velocity if truth is None else truth
    grid = exact.path.schedule.t_max * (torch.arange(times) + 0.5) / times
    errors, sizes = [], []
    for t in grid:
        z, component = exact.mixture.sample(n, generator)
        at = t.to(z.dtype).expand(n)
        x = exact.path.sample(z, at, generator=generator).x_t
        y = (exact.labels[component],) if with_labels else ()
        target = check_same_shape("the truth", truth(x, at, *y), x)
        errors.append((check_same_shape("the model's value", model(x, at, *y), x) - target).square().mean())
        sizes.append(target.square().mean())
    error, size = torch.stack(errors), torch.stack(sizes)
    return FieldError(grid, (error / size).sqrt(), (error.sum() / size.sum()).sqrt().item())


@takes(x=tensor("B", "d", finite=True))
def cloud_quality(x: Tensor, y: Tensor, exact: ExactMarginal) -> Quality:
    """Accuracy, spread and `typical` of points x (B, d) at t=1 that were asked to be of the classes y (B,).

    A point is right if its class is the most probable one given the point; where classes overlap, real data misses too.
    Being right says nothing of *where* in its class it lies: it is typical if it lies in the class's smallest region
    that holds 95% of it, {z: log p(z | y) >= c}, with c the 5% quantile of log p(z | y) over 20,000 real points.
    The spread looks at classes of two points or more, and is None without. Raises ValueError for labels of no class.
    Computing and Graphing Highest Density Regions (1996), section 3.
    """
    check_labels(y, len(x), largest=exact.num_classes - 1)
    right = (exact.class_logits(x, x.new_ones(len(x))).argmax(dim=1) == y).sum().item()
    within, seen, true = 0, 0.0, 0.0
    for label in y.unique().tolist():
        own = x[y == label]
        within += (_class_log_prob(exact, own, label) >= _edge(exact, label)).sum().item()
        if len(own) > 1:
            seen += len(own) * own.var(dim=0).sum().item()  # unbiased: / (n - 1)
            true += len(own) * _class_variance(exact, label)
    spread = (seen / true) ** 0.5 if true else None
    return Quality(len(x), share(right, len(x)), spread, typical=within / len(x))


def _class_log_prob(exact: ExactMarginal, x: Tensor, label: int) -> Tensor:
    """log p(x | label) of points at t=1."""
    return exact.log_prob(x, x.new_ones(len(x)), torch.full((len(x),), label, device=x.device))


def _edge(exact: ExactMarginal, label: int) -> float:
    """The log density at the edge of the smallest region that holds 95% of a class, always the same."""
    own = exact.labels == label
    mixture = exact.mixture
    covs = mixture.bases[own] @ torch.diag_embed(mixture.eigenvalues[own]) @ mixture.bases[own].mT
    alone = GaussianMixture(mixture.means[own], covs, mixture.weights[own])
    z, _ = alone.sample(20_000, torch.Generator().manual_seed(0))
    return alone.log_prob(z).quantile(0.05).item()


def _class_variance(exact: ExactMarginal, label: int) -> float:
    """tr Cov(z | y) of a class: the components' own variances plus that of their means."""
    own = exact.labels == label
    weights, means = exact.mixture.weights[own], exact.mixture.means[own]
    weights = weights / weights.sum()
    centred = means - weights @ means
    return (weights @ (exact.mixture.eigenvalues[own].sum(1) + centred.square().sum(1))).item()
