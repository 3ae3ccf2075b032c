"""Right and known-wrong answers to the exercises of lesson 02."""

import math
from itertools import pairwise

import torch

# 02.1 responsibilities -------------------------------------------------------------------------------------------


def log_joint(x, t, means, variances, weights, alpha=None):
    alpha_t, beta_t = t[:, None], 1 - t[:, None]
    c = alpha_t**2 * variances + beta_t**2  # (B, K)
    shrink = alpha_t if alpha is None else torch.full_like(alpha_t, alpha)
    squares = (x[:, None] - shrink[:, :, None] * means).square().sum(2)
    return weights.log() - squares / (2 * c) - x.shape[1] / 2 * c.log()


def responsibilities(x, t, means, stds, weights):
    return log_joint(x, t, means, stds**2, weights).softmax(dim=1)


def responsibilities_by_logsumexp(x, t, means, stds, weights):
    joint = log_joint(x, t, means, stds**2, weights)
    return (joint - joint.logsumexp(dim=1, keepdim=True)).exp()


def raw_exponentials(x, t, means, stds, weights):
    joint = log_joint(x, t, means, stds**2, weights).exp()
    return joint / joint.sum(dim=1, keepdim=True)


def std_for_variance(x, t, means, stds, weights):
    return log_joint(x, t, means, stds, weights).softmax(dim=1)


def means_without_alpha(x, t, means, stds, weights):
    # every point is judged against means at their final place
    return log_joint(x, t, means, stds**2, weights, alpha=1.0).softmax(dim=1)


def no_weights(x, t, means, stds, weights):
    return log_joint(x, t, means, stds**2, torch.ones_like(weights)).softmax(dim=1)


def no_normalisation_of_the_gaussians(x, t, means, stds, weights):
    c = t[:, None] ** 2 * stds**2 + (1 - t[:, None]) ** 2
    return (log_joint(x, t, means, stds**2, weights) + x.shape[1] / 2 * c.log()).softmax(dim=1)


def weights_for_log_weights(x, t, means, stds, weights):
    ones = torch.ones_like(weights)
    return (log_joint(x, t, means, stds**2, ones) + weights).softmax(dim=1)


def first_time_for_all(x, t, means, stds, weights):
    return responsibilities(x, t[:1].expand(len(x)), means, stds, weights)


def over_the_batch(x, t, means, stds, weights):
    return log_joint(x, t, means, stds**2, weights).softmax(dim=0)


# 02.2 the loss ---------------------------------------------------------------------------------------------------


def cfm(field, z, t, eps):
    s = t[:, None]
    return (field(s * z + (1 - s) * eps, t) - (z - eps)).square().mean()


def target_that_blows_up(field, z, t, eps):
    s = t[:, None]
    x = s * z + (1 - s) * eps
    return (field(x, t) - (z - x) / (1 - s)).square().mean()


def target_with_plus(field, z, t, eps):
    s = t[:, None]
    return (field(s * z + (1 - s) * eps, t) - (z + eps)).square().mean()


def target_backwards(field, z, t, eps):
    s = t[:, None]
    return (field(s * z + (1 - s) * eps, t) - (eps - z)).square().mean()


def x_from_noise(field, z, t, eps):
    return (field(eps, t) - (z - eps)).square().mean()


def sum_over_dimensions(field, z, t, eps):
    s = t[:, None]
    return (field(s * z + (1 - s) * eps, t) - (z - eps)).square().sum(1).mean()


def time_reversed(field, z, t, eps):
    s = t[:, None]
    return (field((1 - s) * z + s * eps, t) - (z - eps)).square().mean()


def root_of_the_mean(field, z, t, eps):
    return cfm(field, z, t, eps).sqrt()


def time_not_expanded(field, z, t, eps):
    return (field(t * z + (1 - t) * eps, t) - (z - eps)).square().mean()


def loss_for_each_point(field, z, t, eps):
    s = t[:, None]
    return (field(s * z + (1 - s) * eps, t) - (z - eps)).square().mean(1)


def one_column(field, z, t, eps):
    x = t * z[:, 0] + (1 - t) * eps[:, 0]
    return (field(x, t) - (z - eps)).square().mean()


# 02.3 theorem 3 --------------------------------------------------------------------------------------------------


def both_losses(prediction, v, weights):
    u = (weights[:, :, None] * v).sum(1)
    fm = (prediction - u).square().mean()
    cfm_each = (prediction[:, None] - v).square().mean(2)  # (B, N)
    return fm, (weights * cfm_each).sum(1).mean()


def averaged_before_squaring(prediction, v, weights):
    u = (weights[:, :, None] * v).sum(1)
    return (prediction - u).square().mean(), (prediction - u).square().mean()


def all_candidates_alike(prediction, v, weights):
    return (prediction - v.mean(1)).square().mean(), (prediction[:, None] - v).square().mean()


def candidates_alike_in_cfm(prediction, v, weights):
    return both_losses(prediction, v, weights)[0], (prediction[:, None] - v).square().mean()


def expansion_without_the_two(prediction, v, weights):
    u = (weights[:, :, None] * v).sum(1)
    second = (weights * v.square().mean(2)).sum(1).mean()
    return (prediction - u).square().mean(), prediction.square().mean() - (prediction * u).mean() + second + 10


def detached(prediction, v, weights):
    return both_losses(prediction.detach(), v, weights)


def one_loss(prediction, v, weights):
    return both_losses(prediction, v, weights)[1]


# 02.4 likelihood -------------------------------------------------------------------------------------------------


def back(field, divergence, x, ts, midpoint=True):
    total = torch.zeros(len(x), dtype=x.dtype)
    for t, t_before in pairwise(ts.flip(0)):
        dt, at = t_before - t, t.expand(len(x))
        if midpoint:
            half = x + dt / 2 * field(x, at)
            total = total + dt * divergence(half, at + dt / 2)
            x = x + dt * field(half, at + dt / 2)
        else:
            total = total + dt * divergence(x, at)
            x = x + dt * field(x, at)
    return x, total  # total is minus the integral over [0, 1]


def log_normal(x):
    return -0.5 * x.square().sum(1) - x.shape[1] / 2 * math.log(2 * math.pi)


def likelihood(field, divergence, x, ts):
    x_0, total = back(field, divergence, x, ts)
    return log_normal(x_0) + total


def plus_divergence(field, divergence, x, ts):
    x_0, total = back(field, divergence, x, ts)
    return log_normal(x_0) - total


def no_density_of_the_start(field, divergence, x, ts):
    return back(field, divergence, x, ts)[1]


def density_of_the_end(field, divergence, x, ts):
    return log_normal(x) + back(field, divergence, x, ts)[1]


def no_constant(field, divergence, x, ts):
    x_0, total = back(field, divergence, x, ts)
    return -0.5 * x_0.square().sum(1) + total


def without_noise_density_and_integral(field, divergence, x, ts):
    return log_normal(back(field, divergence, x, ts)[0])


def by_euler(field, divergence, x, ts):
    x_0, total = back(field, divergence, x, ts, midpoint=False)
    return log_normal(x_0) + total


# 02.5 memory -----------------------------------------------------------------------------------------------------


def memory(x, t, data):
    squares = (x[:, None] - t[:, None, None] * data).square().sum(2)
    return (-squares / (2 * (1 - t[:, None]) ** 2)).softmax(dim=1)


def without_half(x, t, data):
    squares = (x[:, None] - t[:, None, None] * data).square().sum(2)
    return (-squares / (1 - t[:, None]) ** 2).softmax(dim=1)


def beta_not_squared(x, t, data):
    squares = (x[:, None] - t[:, None, None] * data).square().sum(2)
    return (-squares / (2 * (1 - t[:, None]))).softmax(dim=1)


def no_alpha(x, t, data):
    squares = (x[:, None] - data).square().sum(2)
    return (-squares / (2 * (1 - t[:, None]) ** 2)).softmax(dim=1)


def furthest_first(x, t, data):
    squares = (x[:, None] - t[:, None, None] * data).square().sum(2)
    return (squares / (2 * (1 - t[:, None]) ** 2)).softmax(dim=1)


def softmax_over_points(x, t, data):
    squares = (x[:, None] - t[:, None, None] * data).square().sum(2)
    return (-squares / (2 * (1 - t[:, None]) ** 2)).softmax(dim=0)


def underflowing_memory(x, t, data):
    squares = (x[:, None] - t[:, None, None] * data).square().sum(2)
    lam = (-squares / (2 * (1 - t[:, None]) ** 2)).exp()
    return lam / lam.sum(1, keepdim=True)


def nothing(*arguments):
    return None


RIGHT = {"02.1": [responsibilities], "02.2": [cfm], "02.3": [both_losses], "02.4": [likelihood], "02.5": [memory]}
WRONG = {
    "02.1": [
        (raw_exponentials, "underflows to 0, and 0/0 is NaN"),
        (std_for_variance, "stds holds standard deviations"),
        (means_without_alpha, "at time t they are at alpha_t mu_k"),
        (no_weights, "taken for equal"),
        (no_normalisation_of_the_gaussians, r"not normalised: each is divided by \(variance\)"),
        (weights_for_log_weights, "at t = 0.6: the answer is off by"),
        (first_time_for_all, r"a time of its own .* off by .*t\[:, None\]"),
        (over_the_batch, "sum to 1; they sum to"),
        (nothing, "is a `return` missing"),
    ],
    "02.2": [
        (target_that_blows_up, r"the target \(z - x\) / \(1 - t\) is 0/0"),
        (target_with_plus, "target z \\+ eps"),
        (target_backwards, "runs from data to noise"),
        (x_from_noise, "that is the noise"),
        (sum_over_dimensions, "mean over dimensions too"),
        (time_reversed, "t = 0 is noise and t = 1 is data"),
        (loss_for_each_point, "should have shape"),
        (one_column, r"x, where the field is asked, .* should have shape"),
        (time_not_expanded, r"in the line `.*` with RuntimeError: .*expand_t"),
        (root_of_the_mean, "the answer is off by"),
        (nothing, "never asked"),
    ],
    "02.3": [
        (averaged_before_squaring, "Square first, then average"),
        (all_candidates_alike, "weigh them with `weights`"),
        (candidates_alike_in_cfm, "the gradients differ by"),
        (expansion_without_the_two, "the gradients differ by"),
        (detached, "detached"),
        (one_loss, r"return two losses.*a tensor of shape \(\)"),
    ],
    "02.4": [
        (plus_divergence, "wrong sign"),
        (no_density_of_the_start, "add log N"),
        (density_of_the_end, "belongs to x_0"),
        (no_constant, "lacks its constant"),
        (without_noise_density_and_integral, "the way back ends|largest error"),
        (by_euler, "Euler is too coarse"),
        (nothing, "is a `return` missing"),
    ],
    "02.5": [
        (without_half, "the 1/2 of the Gaussian is missing"),
        (beta_not_squared, r"a Gaussian has beta_t\^2"),
        (no_alpha, "alpha_t z_i"),
        (furthest_first, "at t = 0.7: the answer is off by"),
        (softmax_over_points, "dim=1"),
        (underflowing_memory, "underflows"),
        (nothing, "is a `return` missing"),
    ],
}
