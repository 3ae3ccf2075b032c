"""Right and known-wrong answers to the exercises of lesson 04."""

from itertools import pairwise

import torch


def one_epoch(z, y, batch_size, generator):
    order = torch.randperm(len(z), generator=generator)
    for chosen in order.split(batch_size)[: len(z) // batch_size]:
        yield z[chosen], y[chosen]


def two_permutations(z, y, batch_size, generator):
    first = torch.randperm(len(z), generator=generator)
    second = torch.randperm(len(z), generator=generator)
    for k in range(len(z) // batch_size):
        place = slice(k * batch_size, (k + 1) * batch_size)
        yield z[first[place]], y[second[place]]


def only_images_shuffled(z, y, batch_size, generator):
    order = torch.randperm(len(z), generator=generator)
    for k in range(len(z) // batch_size):
        place = slice(k * batch_size, (k + 1) * batch_size)
        yield z[order[place]], y[place]


def in_order(z, y, batch_size, generator):
    for k in range(len(z) // batch_size):
        place = slice(k * batch_size, (k + 1) * batch_size)
        yield z[place], y[place]


def with_replacement(z, y, batch_size, generator):
    for _ in range(len(z) // batch_size):
        chosen = torch.randint(len(z), (batch_size,), generator=generator)
        yield z[chosen], y[chosen]


def remainder_kept(z, y, batch_size, generator):
    for chosen in torch.randperm(len(z), generator=generator).split(batch_size):
        yield z[chosen], y[chosen]


def global_randomness(z, y, batch_size, generator):
    return one_epoch(z, y, batch_size, None)


def returns_nothing(*_):
    return None


def sample_class(model, y, x_0, ts):
    x = x_0
    for t, t_next in pairwise(ts):
        x = x + (t_next - t) * model(x, t.expand(len(x)), y)
    return x


def one_update_too_few(model, y, x_0, ts):
    return sample_class(model, y, x_0, ts[:-1])


def label_forgotten(model, y, x_0, ts):
    return sample_class(lambda x, t, y: model(x, t), y, x_0, ts)


def in_place(model, y, x_0, ts):
    for t, t_next in pairwise(ts):
        x_0 += (t_next - t) * model(x_0, t.expand(len(x_0)), y)
    return x_0


def slope_at_the_end(model, y, x_0, ts):
    x = x_0
    for t, t_next in pairwise(ts):
        x = x + (t_next - t) * model(x, t_next.expand(len(x)), y)
    return x


def equal_steps(model, y, x_0, ts):
    x = x_0
    for t in ts[:-1]:
        x = x + model(x, t.expand(len(x)), y) / (len(ts) - 1)
    return x


def backwards(model, y, x_0, ts):
    x = x_0
    for t, t_next in pairwise(ts):
        x = x - (t_next - t) * model(x, t.expand(len(x)), y)
    return x


def one_time_for_all(model, y, x_0, ts):
    x = x_0
    for t, t_next in pairwise(ts):
        x = x + (t_next - t) * model(x, t, y)
    return x


def combine(fields, log_p, p_y):
    posterior = (log_p + p_y.log()[:, None]).softmax(dim=0)
    return (posterior[:, :, None] * fields).sum(dim=0)


def prior_weights(fields, log_p, p_y):
    return (p_y[:, None, None] * fields).sum(dim=0)


def equal_weights(fields, log_p, p_y):
    return fields.mean(dim=0)


def prior_forgotten(fields, log_p, p_y):
    return (log_p.softmax(dim=0)[:, :, None] * fields).sum(dim=0)


def not_normalised(fields, log_p, p_y):
    return ((log_p.exp() * p_y[:, None])[:, :, None] * fields).sum(dim=0)


def wrong_axis(fields, log_p, p_y):
    return ((log_p + p_y.log()[:, None]).softmax(dim=1)[:, :, None] * fields).sum(dim=0)


def raw_exponentials(fields, log_p, p_y):
    joint = log_p.exp() * p_y[:, None]
    return ((joint / joint.sum(dim=0))[:, :, None] * fields).sum(dim=0)


def class_gradient(exact, x, t, y):
    return exact.score(x, t, y) - exact.score(x, t)


def sign_swapped(exact, x, t, y):
    return exact.score(x, t) - exact.score(x, t, y)


def without_the_log(exact, x, t, y):
    x = x.requires_grad_(True)
    p = exact.class_logits(x, t).exp().gather(1, y[:, None]).sum()
    return torch.autograd.grad(p, x)[0]


def only_the_class(exact, x, t, y):
    return exact.score(x, t, y)


def velocities_for_scores(exact, x, t, y):
    return exact.velocity(x, t, y) - exact.velocity(x, t)


def shuffle_labels(y, generator):
    return y[torch.randperm(len(y), generator=generator)]


def shuffles_in_place(y, generator):
    y[:] = y[torch.randperm(len(y), generator=generator)]
    return y


def draws_new_labels(y, generator):
    return torch.randint(int(y.max()) + 1, y.shape, generator=generator)


def renames_classes(y, generator):
    return torch.randperm(int(y.max()) + 1, generator=generator)[y]


def renames_classes_as_common(y, generator):
    # Renames only where the counts stay as they are, so that only the table of old and new labels gives it away.
    renamed = renames_classes(y, generator)
    return renamed if y.bincount().equal(renamed.bincount()) else shuffle_labels(y, generator)


def moves_by_one(y, generator):
    return y.roll(1)


def ignores_the_generator(y, generator):
    return y[torch.randperm(len(y))]


RIGHT = {
    "04.1": [one_epoch],
    "04.2": [sample_class],
    "04.3": [combine],
    "04.4": [class_gradient],
    "04.5": [shuffle_labels],
}

WRONG = {
    "04.1": [
        (two_permutations, r"of 100 points came with the label of another"),
        (only_images_shuffled, r"of 100 points came with the label of another"),
        (in_order, r"nothing is shuffled"),
        (with_replacement, r"repetitions of others"),
        (remainder_kept, r"yours are 11. The remainder is dropped"),
        (global_randomness, r"draw from `generator`, and from it alone"),
        (returns_nothing, r"should yield batches .*None: is a `return` missing"),
    ],
    "04.2": [
        (one_update_too_few, r"6 times make 5 updates, .* called 4 times"),
        (label_forgotten, r"not always called with the labels y"),
        (in_place, r"changed its argument (x_0|y) in place"),
        (slope_at_the_end, r"where a step begins; it is taken at the ends"),
        (equal_steps, r"not evenly spaced"),
        (backwards, r"went backwards"),
        (one_time_for_all, r"t, of which .* should have shape \(12,\); it has \(\)"),
        (returns_nothing, r"is a `return` missing"),
    ],
    "04.3": [
        (prior_weights, r"the weights are p\(y\)"),
        (equal_weights, r"not the unconditional field"),
        (prior_forgotten, r"p\(y\) is missing"),
        (not_normalised, r"do not sum to 1"),
        (wrong_axis, r"normalised over points"),
        (raw_exponentials, r"inf or NaN far away"),
    ],
    "04.4": [
        (sign_swapped, r"right up to its sign"),
        (without_the_log, r"gradient of p_t\(y\|x\) itself"),
        (only_the_class, r"score of p_t\(x\) is still missing"),
        (velocities_for_scores, r"off by .* Autograd of the exact"),
    ],
    "04.5": [
        (shuffles_in_place, r"changed its argument (x_0|y) in place"),
        (draws_new_labels, r"classes had .* and now have"),
        (renames_classes, r"classes had .* and now have"),
        (renames_classes_as_common, r"still tell the old ones"),
        (moves_by_one, r"still tell the old ones"),
        (ignores_the_generator, r"draw the permutation from `generator`"),
    ],
}
