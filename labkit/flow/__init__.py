"""The mathematics of the course: schedules, paths, losses, guidance, solvers, and the exact truth beside them.

A new path, solver or guidance rule goes into the file of its kind; none of it knows a network, data or pictures. A rule
that tables and widgets should offer is named in `labkit.measure.sweeps.kinds_of_guidance`, too.
"""

from labkit.flow.bound import kl_weights, variational_bound
from labkit.flow.ddpm import ancestral, ddim, posterior
from labkit.flow.exact import EmpiricalMarginal, ExactMarginal, gaussian_loss_floor
from labkit.flow.guidance import classifier_guided, conditional, guided, limited, plain, projected, rescaled
from labkit.flow.likelihood import log_likelihood
from labkit.flow.losses import cfm_loss, draw_times, dsm_loss, eps_loss
from labkit.flow.mixtures import GaussianMixture, petals, ring
from labkit.flow.paths import GaussianPath, complete, convert
from labkit.flow.schedules import Cosine, Linear, Schedule, SquareRoot, Table, cosine_betas, linear_betas
from labkit.flow.solvers import adaptive, euler, euler_maruyama, heun, midpoint, rk4, sde_drift, simulate
