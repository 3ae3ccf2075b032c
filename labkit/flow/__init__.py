"""The mathematics of the course: schedules, paths, losses, guidance, solvers, and the exact truth beside them.

A new path, solver or guidance rule goes here; it knows no network, no data set and no picture.
"""

from labkit.flow.exact import EmpiricalMarginal, ExactMarginal, gaussian_loss_floor
from labkit.flow.guidance import autoguided, classifier_guided, conditional, from_w_prime, guided, projected, rescaled
from labkit.flow.likelihood import log_likelihood
from labkit.flow.losses import cfm_loss, draw_times, dsm_loss, eps_loss
from labkit.flow.mixtures import GaussianMixture, petals, ring
from labkit.flow.paths import GaussianPath, complete
from labkit.flow.schedules import Cosine, Linear, Schedule, SquareRoot
from labkit.flow.solvers import adaptive, euler, euler_maruyama, heun, midpoint, rk4, sde_drift, simulate

__all__ = [
    "Cosine",
    "EmpiricalMarginal",
    "ExactMarginal",
    "GaussianMixture",
    "GaussianPath",
    "Linear",
    "Schedule",
    "SquareRoot",
    "adaptive",
    "autoguided",
    "cfm_loss",
    "classifier_guided",
    "complete",
    "conditional",
    "draw_times",
    "dsm_loss",
    "eps_loss",
    "euler",
    "euler_maruyama",
    "from_w_prime",
    "gaussian_loss_floor",
    "guided",
    "heun",
    "log_likelihood",
    "midpoint",
    "petals",
    "projected",
    "rescaled",
    "ring",
    "rk4",
    "sde_drift",
    "simulate",
]
