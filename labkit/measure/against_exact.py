"""Fields and clouds of points measured against the exact law: the error of a field per time, quality and diversity."""

from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.joints import Model
from labkit.base.shapes import check_labels
from labkit.flow.exact import ExactMarginal
from labkit.measure.metrics import share
from labkit.measure.quality import Quality


class FieldError(NamedTuple):
    """Relative error of a field: at each of the times `t` (T,), `per_t` (T,), and over all of them, `overall`."""

    t: Tensor
    per_t: Tensor
    overall: float


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
    if times < 1 or n < 1:
        raise ValueError(f"times and n must be at least 1; got {times} and {n}")
    truth = exact.velocity if truth is None else truth
    grid = exact.path.schedule.t_max * (torch.arange(times) + 0.5) / times
    errors, sizes = [], []
    for t in grid:
        z, component = exact.mixture.sample(n, generator)
        at = t.to(z.dtype).expand(n)
        x = exact.path.sample(z, at, generator=generator).x_t
        y = (exact.labels[component],) if with_labels else ()
        target = truth(x, at, *y)
        errors.append((model(x, at, *y) - target).square().mean())
        sizes.append(target.square().mean())
    error, size = torch.stack(errors), torch.stack(sizes)
    return FieldError(grid, (error / size).sqrt(), (error.sum() / size.sum()).sqrt().item())


def cloud_quality(x: Tensor, y: Tensor, exact: ExactMarginal) -> Quality:
    """Accuracy and spread of points x (B, d) at t=1 that were asked to be of the classes y (B,).

    A point is right if its class is the most probable one given the point; where classes overlap, real data misses too.
    The spread looks at classes of two points or more, and is None without. Raises ValueError for labels of no class.
    """
    check_labels(y, len(x), largest=exact.num_classes - 1)
    right = (exact.class_logits(x, x.new_ones(len(x))).argmax(dim=1) == y).sum().item()
    seen, true = 0.0, 0.0
    for label in y.unique().tolist():
        own = x[y == label]
        if len(own) > 1:
            seen += len(own) * own.var(dim=0).sum().item()  # unbiased: / (n - 1)
            true += len(own) * _class_variance(exact, label)
    return Quality(len(x), share(right, len(x)), (seen / true) ** 0.5 if true else None)


def _class_variance(exact: ExactMarginal, label: int) -> float:
    """tr Cov(z | y) of a class: the components' own variances plus that of their means."""
    own = exact.labels == label
    weights, means = exact.mixture.weights[own], exact.mixture.means[own]
    weights = weights / weights.sum()
    centred = means - weights @ means
    return (weights @ (exact.mixture.eigenvalues[own].sum(1) + centred.square().sum(1))).item()
