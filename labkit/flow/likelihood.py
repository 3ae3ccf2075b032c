"""The likelihood of a point under a flow, by the instantaneous change of variables."""

import math

import torch
from torch import Generator, Tensor

from labkit.base.inputs import takes, whole
from labkit.base.joints import Field
from labkit.base.runtime import randn_like
from labkit.base.shapes import TIME_TOLERANCE
from labkit.flow.solvers import check_start, rk4, simulate, slope


@torch.inference_mode(False)
@takes(probes=whole(0))
def log_likelihood(
    field: Field, x: Tensor, ts: Tensor, *, probes: int = 0, generator: Generator | None = None
) -> Tensor:
    """log p_1(x) under the flow, shape (B,): log N(x_0; 0, I) - integral of div u along the path that ends in x.

    Carries x (B, ...) from data at ts[-1] = 1 back to noise at ts[0] = 0 with rk4 on the grid.
    `probes=0` takes the exact divergence, one backward pass per dimension; `probes=k` estimates it without bias from k
    random sign vectors, fixed along the path (Hutchinson).
    FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (2019), section 3.
    """
    x = x.clone() if isinstance(x, Tensor) else x  # of inference mode, it could not be differentiated by
    ts = check_whole(x, ts)
    shape, dim = x.shape, x[0].numel()
    if probes:
        signs = torch.stack([randn_like(x, generator).sign().reshape(-1, dim) for _ in range(probes)])
    else:
        signs = torch.eye(dim, dtype=x.dtype, device=x.device)[:, None].expand(dim, len(x), dim)

    def with_divergence(state: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            flat = state[:, :dim].detach().requires_grad_(True)
            u = slope(field, flat.reshape(shape), t).reshape(-1, dim)
            moved = None if u.requires_grad else slope(field, flat.reshape(shape) + 0.5, t).reshape(-1, dim)
            if moved is not None and not torch.equal(moved, u):
                raise ValueError("field gives no gradient: its divergence needs one, without no_grad() and detach()")
            div = sum((_pull_back(u, flat, e) * e).sum(1) for e in signs)
        return torch.cat((u.detach(), div[:, None] / (probes or 1)), dim=1)

    state = torch.cat((x.detach().reshape(-1, dim), x.new_zeros(len(x), 1)), dim=1)
    state = simulate(rk4(with_divergence), state, ts.flip(0))
    x_0, minus_integral = state[:, :dim], state[:, dim]
    return -0.5 * x_0.square().sum(1) - dim / 2 * math.log(2 * math.pi) + minus_integral


def check_whole(x: Tensor, ts: Tensor) -> Tensor:
    """`check_start`, and the grid must run from 0 to 1."""
    ts = check_start(x, ts)
    if abs(ts[0]) > TIME_TOLERANCE or abs(ts[-1] - 1) > TIME_TOLERANCE:
        raise ValueError(f"ts must run from 0 to 1 for a likelihood; got {ts[0]:.4g} to {ts[-1]:.4g}")
    return ts


def _pull_back(u: Tensor, x: Tensor, e: Tensor) -> Tensor:
    """e^T du/dx, which is 0 for a field that does not depend on x."""
    if not u.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(u, x, e, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
