"""Answers to the exercises of lesson 03: one right, several wrong in ways that students find."""

import torch

from labkit.base.shapes import expand_t


def floor(schedule, t, std):
    alpha_t, beta_t, *_ = schedule(t)
    return alpha_t**2 * std**2 / (alpha_t**2 * std**2 + beta_t**2) / beta_t**2


def floor_of_the_eps_loss(schedule, t, std):
    return schedule(t).beta_t ** 2 * floor(schedule, t, std)


def floor_divided_by_beta_once(schedule, t, std):
    return schedule(t).beta_t * floor(schedule, t, std)


def loss_of_a_model_that_answers_zero(schedule, t, std):
    return 1 / schedule(t).beta_t ** 2


def floor_with_std_not_squared(schedule, t, std):
    return floor(schedule, t, std**0.5)


def floor_that_returns_nothing(schedule, t, std):
    floor(schedule, t, std)


def score_error(model, path, z, t, eps):
    beta = expand_t(path.schedule(t).beta_t, z)
    return model(path.sample(z, t, eps).x_t, t) + eps / beta, beta


def weighted(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta**2 * error.square()).mean()


def weighted_by_beta(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta * error.square()).mean()


def unweighted(model, path, z, t, eps):
    return score_error(model, path, z, t, eps)[0].square().mean()


def weighted_with_the_wrong_sign(model, path, z, t, eps):
    beta = expand_t(path.schedule(t).beta_t, z)
    return (beta * model(path.sample(z, t, eps).x_t, t) - eps).square().mean()


def weighted_and_summed(model, path, z, t, eps):
    return z.shape[1] * weighted(model, path, z, t, eps)


def weighted_twice(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta**4 * error.square()).mean()


def weighted_with_an_unexpanded_beta(model, path, z, t, eps):
    beta = path.schedule(t).beta_t
    return (beta * model(path.sample(z, t, eps).x_t, t) + eps).square().mean()


def weighted_without_a_mean(model, path, z, t, eps):
    error, beta = score_error(model, path, z, t, eps)
    return (beta * error).square()


def convert(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = (expand_t(c, x) for c in schedule(t))
    return (alpha * u - d_alpha * x) / (beta * (d_alpha * beta - alpha * d_beta))


def convert_without_beta_in_the_second_term(schedule, x, t, u):
    alpha, beta, d_alpha, d_beta = (expand_t(c, x) for c in schedule(t))
    return (alpha * u - d_alpha * x) / (d_alpha * beta**2 - d_beta * alpha)


def convert_with_alpha_and_beta_swapped(schedule, x, t, u):
    beta, alpha, d_beta, d_alpha = (expand_t(c, x) for c in schedule(t))
    return (alpha * u - d_alpha * x) / (beta * (d_alpha * beta - alpha * d_beta))


def convert_to_the_noise(schedule, x, t, u):
    return -expand_t(schedule(t).beta_t, x) * convert(schedule, x, t, u)


def convert_to_minus_the_noise(schedule, x, t, u):
    return expand_t(schedule(t).beta_t, x) * convert(schedule, x, t, u)


def convert_with_the_wrong_sign(schedule, x, t, u):
    return -convert(schedule, x, t, u)


def convert_as_if_linear(schedule, x, t, u):
    s = expand_t(t, x)
    return (s * u - x) / (1 - s)


def convert_with_an_added_axis(schedule, x, t, u):
    return convert(schedule, x, t, u)[None]


def keeps_marginals(velocity, score, sigma):
    return lambda x, t: velocity(x, t) + 0.5 * sigma**2 * score(x, t)


def without_score(velocity, score, sigma):
    return velocity


def without_half(velocity, score, sigma):
    return lambda x, t: velocity(x, t) + sigma**2 * score(x, t)


def sigma_not_squared(velocity, score, sigma):
    return lambda x, t: velocity(x, t) + 0.5 * sigma * score(x, t)


def score_subtracted(velocity, score, sigma):
    return lambda x, t: velocity(x, t) - 0.5 * sigma**2 * score(x, t)


def without_velocity(velocity, score, sigma):
    return lambda x, t: 0.5 * sigma**2 * score(x, t)


def time_that_is_not_expanded(velocity, score, sigma):
    return lambda x, t: velocity(x, t) + torch.stack((t, t)) * sigma**2 * score(x, t)


def values_where_a_field_is_asked(velocity, score, sigma):
    return None


def langevin(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * h**0.5 * noise


def langevin_without_half(score, x, h, sigma, noise):
    return x + sigma**2 * h * score(x) + sigma * h**0.5 * noise


def langevin_with_root_of_two_h(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * (2 * h) ** 0.5 * noise


def langevin_with_noise_like_h(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma * h * noise


def langevin_downhill(score, x, h, sigma, noise):
    return x - 0.5 * sigma**2 * h * score(x) + sigma * h**0.5 * noise


def langevin_on_another_clock(score, x, h, sigma, noise):
    return x + h * score(x) + (2 * h) ** 0.5 * noise


def langevin_with_sigma_not_squared(score, x, h, sigma, noise):
    return x + 0.5 * sigma * h * score(x) + sigma * h**0.5 * noise


def langevin_with_sigma_squared_in_the_noise(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x) + sigma**2 * h**0.5 * noise


def langevin_without_h_in_the_drift(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * score(x) + sigma * h**0.5 * noise


def langevin_in_place(score, x, h, sigma, noise):
    x += 0.5 * sigma**2 * h * score(x) + sigma * h**0.5 * noise
    return x


def gradient_ascent(score, x, h, sigma, noise):
    return x + 0.5 * sigma**2 * h * score(x)


RIGHT = {
    "03.1": [floor],
    "03.2": [weighted],
    "03.3": [convert],
    "03.4": [keeps_marginals],
    "03.5": [langevin],
}
WRONG = {
    "03.1": [
        (floor_of_the_eps_loss, "floor of the eps-loss"),
        (floor_divided_by_beta_once, "a factor beta is off"),
        (loss_of_a_model_that_answers_zero, "always answers 0"),
        (floor_with_std_not_squared, "is std squared"),
        (floor_that_returns_nothing, "is a `return` missing"),
    ],
    "03.2": [
        (weighted_by_beta, "by beta, not by beta\\^2"),
        (unweighted, "unweighted loss"),
        (weighted_with_the_wrong_sign, "sign of eps"),
        (weighted_and_summed, "yours is a sum"),
        (weighted_twice, "linear schedule: the answer is off by"),
        (weighted_with_an_unexpanded_beta, r"in the line `.*` with RuntimeError: .*expand_t"),
        (weighted_without_a_mean, "should have shape \\(\\)"),
    ],
    "03.3": [
        (convert_without_beta_in_the_second_term, "beta in its second term is missing"),
        (convert_with_alpha_and_beta_swapped, "changed places"),
        (convert_to_the_noise, "that is E\\[eps \\| x\\]"),
        (convert_with_the_wrong_sign, "the sign is not"),
        (convert_as_if_linear, "cosine schedule: the answer is off by .* autograd"),
        (convert_to_minus_the_noise, "linear schedule: the answer is off by"),
        (convert_with_an_added_axis, "should have shape"),
    ],
    "03.4": [
        (without_score, "score term is missing"),
        (without_half, "where is the 1/2"),
        (sigma_not_squared, "is sigma squared"),
        (score_subtracted, "wrong sign"),
        (without_velocity, "the drift is the velocity alone"),
        (time_that_is_not_expanded, "in the line `return lambda x, t: .*expand_t"),
        (values_where_a_field_is_asked, "must return a field"),
    ],
    "03.5": [
        (langevin_without_half, "where is the 1/2"),
        (langevin_with_root_of_two_h, "sqrt\\(2 h\\) belongs"),
        (langevin_with_noise_like_h, "square root of time"),
        (langevin_downhill, "leads away"),
        (langevin_on_another_clock, "the clock is not"),
        (langevin_with_sigma_not_squared, "is sigma squared"),
        (langevin_with_sigma_squared_in_the_noise, "the noise 0.6 times"),
        (langevin_without_h_in_the_drift, "the pull is 50"),
        (langevin_in_place, "changed its argument x in place"),
        (gradient_ascent, "does not move x"),
    ],
}
