"""Right and known-wrong answers to the exercises of lesson 04."""

from functools import partial, reduce
from itertools import pairwise

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from labkit.flow.guidance import guided
from labkit.flow.solvers import euler, heun, midpoint, simulate


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


def in_the_order_of(draw):
    """An epoch whose order `draw(n, batch_size, generator)` decides."""

    def epoch(z, y, batch_size, generator):
        order = draw(len(z), batch_size, generator)
        return [(z[part], y[part]) for part in order.split(batch_size) if len(part) == batch_size]

    return epoch


def permutation(n, size, generator):
    return torch.randperm(n, generator=generator)


def by_sorting(n, size, generator):
    return torch.rand(n, generator=generator).argsort()


def without_replacement(n, size, generator):
    return torch.multinomial(torch.ones(n), n, generator=generator)


def by_numpy(n, size, generator):
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).permutation(n))


def by_the_seed_alone(n, size, generator):  # every epoch of a training has one order
    return torch.from_numpy(np.random.default_rng(generator.initial_seed()).permutation(n))


def one_order_rotated(n, size, generator):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return order.roll(int(torch.randint(n, (1,), generator=generator)))


def one_order_of_batches(n, size, generator):  # the same companions in every epoch
    rotated = one_order_rotated(n, size, generator)[: n // size * size].view(-1, size)
    return rotated[torch.randperm(len(rotated), generator=generator)].flatten()


def from_a_buffer(n, size, generator):
    buffer, order = [], []
    for k in range(n):
        buffer.append(k)
        if len(buffer) > n // 2:
            order.append(buffer.pop(int(torch.randint(len(buffer), (1,), generator=generator))))
    return torch.tensor(order + [buffer[k] for k in torch.randperm(len(buffer), generator=generator)])


def sorted_within_batches(n, size, generator):  # which is no matter to a loss
    order = torch.randperm(n, generator=generator)[: n // size * size]
    return order.view(-1, size).sort(dim=1).values.flatten()


def by_swaps(n, size, generator):  # Fisher and Yates
    order = torch.arange(n)
    for i in range(n - 1, 0, -1):
        j = int(torch.randint(i + 1, (1,), generator=generator))
        order[[i, j]] = order[[j, i]]
    return order


def rotated(n, size, generator):
    return torch.arange(n).roll(int(torch.randint(n, (1,), generator=generator)))


def order_of_batches(n, size, generator):
    firsts = torch.randperm(n // size, generator=generator) * size
    return (firsts[:, None] + torch.arange(size)).flatten()


def rotated_batches(n, size, generator):
    whole = order_of_batches(n, size, generator)
    return (whole + int(torch.randint(n, (1,), generator=generator))) % n


def within_batches(n, size, generator):
    shift = int(torch.randint(n, (1,), generator=generator))
    parts = [torch.randperm(len(part), generator=generator) + part[0] for part in torch.arange(n).split(size)]
    return (torch.cat(parts) + shift) % n


def same_remainder(n, size, generator):
    return torch.randperm(n // size * size, generator=generator)


def half_by_half(n, size, generator):
    parts = torch.randperm(n // 2, generator=generator), n // 2 + torch.randperm(n - n // 2, generator=generator)
    return torch.cat(parts)


def rotated_apart(n, size, generator):  # no neighbours are left, but it is a rotation all the same
    return torch.arange(n) * 37 % n + 0 * int(torch.randint(n, (1,), generator=generator))


def strided_rotation(n, size, generator):
    return (torch.arange(n) * 37 + int(torch.randint(n, (1,), generator=generator))) % n


def loader(z, y, batch_size, generator):
    yield from DataLoader(TensorDataset(z, y), batch_size, shuffle=True, drop_last=True, generator=generator)


def index_by_index(z, y, batch_size, generator):
    left = torch.randperm(len(z), generator=generator).tolist()
    while len(left) >= batch_size:
        chosen = [left.pop() for _ in range(batch_size)]
        yield torch.stack([z[k] for k in chosen]), torch.stack([y[k] for k in chosen])


def reshaped(z, y, batch_size, generator):
    chosen = torch.randperm(len(z), generator=generator)[: len(z) // batch_size * batch_size].view(-1, batch_size)
    return zip(z[chosen], y[chosen], strict=True)


class Epoch:
    def __call__(self, z, y, batch_size, generator):
        order = torch.randperm(len(z), generator=generator)
        z, y = torch.index_select(z, 0, order), torch.index_select(y, 0, order)
        stops = range(batch_size, len(z) + 1, batch_size)
        return ((z[stop - batch_size : stop], y[stop - batch_size : stop]) for stop in stops)


def arrays(z, y, batch_size, generator):
    for points, labels in one_epoch(z, y, batch_size, generator):
        yield points.numpy(), labels.numpy()


def sorted_by_class(z, y, batch_size, generator):
    order = torch.randperm(len(z), generator=generator)
    order = order[y[order].argsort(stable=True)]
    return [(z[part], y[part]) for part in order.split(batch_size)[:-1]]


def complex_points(z, y, batch_size, generator):
    return [(points + 0j, labels) for points, labels in one_epoch(z, y, batch_size, generator)]


def always_seed_zero(z, y, batch_size, generator):
    return one_epoch(z, y, batch_size, torch.Generator().manual_seed(0))


def other_points(z, y, batch_size, generator):
    for points, labels in one_epoch(z, y, batch_size, generator):
        yield points + 0.5, labels


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


def euler_walk(move):
    """Euler's method whose step is `move(model, x, y, t, t_next, x_0)`."""

    def sample(model, y, x_0, ts):
        x = x_0
        for t, t_next in pairwise(ts):
            x = move(model, x, y, t, t_next, x_0)
        return x

    return sample


def slope(model, x, t, y):
    return model(x, t.expand(len(x)), y)


def part_by_part(model, y, x_0, ts):
    parts = zip(y.split(200), x_0.split(200), strict=True)
    return torch.cat([sample_class(model, *part, ts) for part in parts])


def folded(model, y, x_0, ts):
    def step(x, k):
        return torch.add(x, model(x, torch.full((len(x),), float(ts[k])), y), alpha=float(ts[k + 1] - ts[k]))

    return reduce(step, range(len(ts) - 1), x_0)


def through_numpy(model, y, x_0, ts):
    x = x_0.numpy()
    for t, dt in zip(ts[:-1].numpy(), np.diff(ts.numpy()), strict=True):
        x = x + dt * model(torch.from_numpy(x), torch.full((len(x),), float(t)), y).numpy()
    return torch.from_numpy(x)


def by_labkit(model, y, x_0, ts):
    return simulate(euler(lambda x, t: model(x, t, y)), x_0, ts)


class Sampler:
    def __call__(self, model, y, x_0, ts):
        way = [x_0]
        for k, dt in enumerate(ts.diff()):
            way.append(way[-1] + dt * slope(model, way[-1], ts[k], y))
        return way[-1]


def with_a_rate(rate, model, y, x_0, ts):
    x, times = x_0, ts.unsqueeze(1).repeat(1, len(x_0))
    for t, t_next in pairwise(times):
        x = x + rate * (t_next - t)[:, None] * model(x, t, y)
    return x


def by_midpoints(model, y, x_0, ts):
    return simulate(midpoint(lambda x, t: model(x, t, y)), x_0, ts)


def from_fresh_noise(model, y, x_0, ts):
    return sample_class(model, y, x_0.flip(0), ts)


def one_long_step(model, y, x_0, ts):
    return x_0 + (ts[-1] - ts[0]) * slope(model, x_0, ts[0], y)


def on_an_even_grid(model, y, x_0, ts):
    return sample_class(model, y, x_0, torch.linspace(0, 1, len(ts)))


def numpy_points(model, y, x_0, ts):
    return sample_class(model, y, x_0, ts).numpy()


def point_by_point_labels(model, y, x_0, ts):  # labels of its own in place of y
    return sample_class(model, torch.arange(len(y)) % 3, x_0, ts)


def times_in_float64(model, y, x_0, ts):
    x = x_0
    for t, t_next in pairwise(ts.tolist()):
        x = x + (t_next - t) * model(x, torch.full((len(x),), t, dtype=torch.float64), y).float()
    return x


def only_the_way(model, y, x_0, ts):
    return sample_class(model, y, x_0, ts) - x_0


def weighed(weights):
    """Fields weighed by `weights(log_p, p(y) as a column)`."""
    return lambda fields, log_p, p_y: (weights(log_p, p_y[:, None])[:, :, None] * fields).sum(0)


def combine_by_einsum(fields, log_p, p_y):
    return torch.einsum("kb,kbd->bd", (log_p + p_y.log()[:, None]).softmax(0), fields)


def combine_in_loops(fields, log_p, p_y):
    rows = []
    for b in range(fields.shape[1]):
        joint = [log_p[k, b] + torch.log(p_y[k]) for k in range(len(p_y))]
        top = max(joint)
        parts = [torch.exp(value - top) for value in joint]
        rows.append(sum(part * fields[k, b] for k, part in enumerate(parts)) / sum(parts))
    return torch.stack(rows)


def combine_in_numpy(fields, log_p, p_y):
    joint = log_p.numpy() + np.log(p_y.numpy())[:, None]
    weights = np.exp(joint - joint.max(axis=0))
    return torch.from_numpy(((weights / weights.sum(0))[..., None] * fields.numpy()).sum(0))


def combine_by_normaliser(fields, log_p, p_y):
    joint = log_p + p_y.log().unsqueeze(-1)
    return ((joint - torch.logsumexp(joint, 0)).exp().unsqueeze(-1) * fields).sum(dim=0)


def combine_in_float32(fields, log_p, p_y):
    return combine(fields.float(), log_p.float(), p_y.float())


def combine_in_place(fields, log_p, p_y):
    log_p += p_y.log()[:, None]
    fields *= log_p.softmax(0)[:, :, None]
    return fields.sum(0)


def combine_by_matrix(fields, log_p, p_y):
    weights = (log_p + p_y.log()[:, None]).softmax(0).T[:, None]  # (B, 1, K)
    return (weights @ fields.transpose(0, 1))[:, 0]


def combine_by_categorical(fields, log_p, p_y):
    probs = torch.distributions.Categorical(logits=(log_p + p_y.log()[:, None]).T).probs
    return (probs.T[..., None] * fields).sum(0)


class Tower:
    def __call__(self, fields, log_p, p_y):
        first, *others = range(len(p_y))
        ratios = [(log_p[k] - log_p[first]).exp() * p_y[k] / p_y[first] for k in others]
        far = torch.stack([log_p[k] + p_y[k].log() for k in range(len(p_y))])
        return combine(fields, far - far.mean(0), torch.ones_like(p_y)) if ratios else fields[0]


def nan_to_zero(fields, log_p, p_y):
    return raw_exponentials(fields, log_p, p_y).nan_to_num()


def a_little_below(fields, log_p, p_y):
    joint = log_p.exp() * p_y[:, None]
    return ((joint / (joint.sum(dim=0) + 1e-12))[:, :, None] * fields).sum(dim=0)


def averaged_classes(fields, log_p, p_y):
    return combine(fields, log_p, p_y) / len(fields)


def most_probable(fields, log_p, p_y):
    return fields[(log_p + p_y.log()[:, None]).argmax(0), torch.arange(fields.shape[1])]


def turned_prior(fields, log_p, p_y):
    return combine(fields, log_p, p_y.flip(0))


def column(t):
    return t[:, None]


def class_gradient(velocity, x, t, y):
    return column(t / (1 - t)) * (velocity(x, t, y) - velocity(x, t))


def gradient(f):
    """An answer from u(x|y), u(x), t as a column."""
    return lambda velocity, x, t, y: f(velocity(x, t, y), velocity(x, t), column(t))


def gradient_through_scores(velocity, x, t, y):
    def score(u):
        return (column(t) * u - x) / column(1 - t)

    return score(velocity(x, t, y)) - score(velocity(x, t))


def gradient_in_loops(velocity, x, t, y):
    rows = []
    for k in range(len(x)):
        part = slice(k, k + 1)
        rows.append((velocity(x[part], t[part], y[part]) - velocity(x[part], t[part]))[0] / ((1 - t[k]) / t[k]))
    return torch.stack(rows)


def gradient_in_numpy(velocity, x, t, y):
    apart = velocity(x, t, y).numpy() - velocity(x, t).numpy()
    return torch.from_numpy(apart * (t.numpy() / (1 - t.numpy()))[:, None])


def gradient_in_place(velocity, x, t, y):
    x.copy_(velocity(x, t, y) - velocity(x, t))
    return x.mul_(column(t)).div_(1 - column(t))


class Gradient:
    def __call__(self, velocity, x, t, y):
        b_t = (1 - t) / t
        return torch.einsum("b,bd->bd", 1 / b_t, velocity(x, t, y) - velocity(x, t))


def scaled_gradient(factor, velocity, x, t, y):
    return torch.sub(velocity(x, t, y), velocity(x, t)).mul(factor * column(t) / (1 - column(t)))


def gradient_without_the_label(velocity, x, t, y):
    return class_gradient(lambda x, t, y=None: velocity(x, t), x, t, y)


def gradient_of_the_first_label(velocity, x, t, y):
    return class_gradient(velocity, x, t, y[:1].expand(len(y)))


def gradient_at_half_time(velocity, x, t, y):
    return class_gradient(velocity, x, torch.full_like(t, 0.5), y)


def guided_by(combination, step="midpoint"):
    """A sampler whose velocity is `combination(u_0, u_y, w)`."""

    def sampler(model, y, null, w, x_0, steps):
        def u(x, t):
            t = torch.full((len(x),), float(t), dtype=x.dtype)
            return combination(model(x, t, torch.full_like(y, null)), model(x, t, y), w)

        x, h = x_0, 1 / steps
        for k in range(steps):
            t = k * h
            if step == "euler":
                x = x + h * u(x, t)
            elif step == "heun":
                first = u(x, t)
                x = x + h / 2 * (first + u(x + h * first, t + h))
            else:
                x = x + h * u(x + h / 2 * u(x, t), t + h / 2)
        return x

    return sampler


def plain(u_0, u_y, w):
    return (1 - w) * u_0 + w * u_y


my_guided_sampler = guided_by(plain)


def of_labkit(step, model, y, null, w, x_0, steps):
    return simulate(step(guided(model, y, w, null)), x_0, torch.linspace(0, 1, steps + 1))


def doubled_batch(model, y, null, w, x_0, steps):
    labels = torch.cat((torch.zeros_like(y) + null, y))

    def u(x, t):
        both = model(torch.cat((x, x)), x.new_full((2 * len(x),), t), labels)
        return torch.lerp(*both.chunk(2), weight=float(w))

    x = x_0.clone()
    for k in range(steps):
        x += u(x + u(x, k / steps) / (2 * steps), (k + 0.5) / steps) / steps
    return x


def sampled_part_by_part(model, y, null, w, x_0, steps):
    parts = zip(y.chunk(3), x_0.chunk(3), strict=True)
    return torch.cat([my_guided_sampler(model, labels, null, w, x, steps) for labels, x in parts])


def sampled_in_place(model, y, null, w, x_0, steps):
    x_0.copy_(my_guided_sampler(model, y, null, w, x_0, steps))
    return x_0


def in_float64(model, y, null, w, x_0, steps):
    return my_guided_sampler(lambda x, t, y: model(x.float(), t.float(), y).double(), y, null, w, x_0.double(), steps)


def two_steps_of_adams(model, y, null, w, x_0, steps):
    x, before, h = x_0, None, 1 / steps
    for k in range(steps):
        t = torch.full((len(x),), k * h)
        now = plain(model(x, t, torch.full_like(y, null)), model(x, t, y), w)
        if before is None:
            middle = torch.full((len(x),), h / 2)
            half = x + h / 2 * now
            x, before = x + h * plain(model(half, middle, torch.full_like(y, null)), model(half, middle, y), w), now
        else:
            x, before = x + h * (1.5 * now - 0.5 * before), now
    return x


class Guided:
    def __init__(self, step):
        self.step = step

    def __call__(self, *given):
        return of_labkit(self.step, *given)


def class_by_class(model, y, null, w, x_0, steps):
    x = torch.empty_like(x_0)
    for label in y.unique():
        own = y == label
        x[own] = my_guided_sampler(model, y[own], null, w, x_0[own], steps)
    return x


def interleaved(model, y, null, w, x_0, steps):
    def both(x, t, label):  # null and label of a point, one after the other
        told = torch.stack((torch.full_like(label, null), label), dim=1).flatten()
        return model(x.repeat_interleave(2, dim=0), t.double().repeat_interleave(2), told)

    def u(x, t):
        one = both(x, torch.full((len(x),), t), y)
        return ((1 - w) * one[::2] + w * one[1::2]).to(x.dtype)

    x, h = x_0, 1 / steps
    for k in range(steps):
        x = x + h * u(x + h / 2 * u(x, k * h), (k + 0.5) * h)
    return x.numpy()


def a_grid_of_n_times(model, y, null, w, x_0, steps):
    return simulate(midpoint(guided(model, y, w, null)), x_0, torch.linspace(0, 1, steps))


def largest_label_and_one(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, int(y.max()) + 1, w, x_0, steps)


def second_slope_unguided(model, y, null, w, x_0, steps):
    x, h = x_0, 1 / steps
    for k in range(steps):
        t = torch.full((len(x),), k * h)
        first = (1 - w) * model(x, t, torch.full_like(y, null)) + w * model(x, t, y)
        x = x + h / 2 * (first + model(x + h * first, t + h, y))
    return x


def first_step_unguided(model, y, null, w, x_0, steps):
    def early(x, t, label):
        return model(x, t, torch.where(t < 1 / steps - 1e-3, y, label))

    return my_guided_sampler(early, y, null, w, x_0, steps)


def from_scaled_noise(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, null, w, 0.9 * x_0, steps)


def float_labels(model, y, null, w, x_0, steps):
    return my_guided_sampler(lambda x, t, label: model(x, t, label.float()), y, null, w, x_0, steps)


def complex_ends(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, null, w, x_0, steps) + 0j


def fixed_steps(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, null, w, x_0, 20)


def twice_the_steps(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, null, w, x_0, 2 * steps)


def null_of_the_lesson(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, 3, w, x_0, steps)


def one_label(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y[:1].expand(len(y)), null, w, x_0, steps)


def from_other_noise(model, y, null, w, x_0, steps):
    return my_guided_sampler(model, y, null, w, x_0.roll(1, 0), steps)


def until_the_last_step(model, y, null, w, x_0, steps):
    def early(x, t, label):
        return torch.where(t.reshape(-1, *[1] * (x.ndim - 1)) < 1 - 1 / steps, model(x, t, label), 0)

    return my_guided_sampler(early, y, null, w, x_0, steps)


def noise_back(model, y, null, w, x_0, steps):
    return x_0


RIGHT = {
    "04.1": [
        one_epoch, loader, index_by_index, reshaped, Epoch(), arrays, in_the_order_of(sorted_within_batches),
        *map(in_the_order_of, (permutation, by_sorting, without_replacement, by_numpy, by_swaps)),
    ],
    "04.2": [
        sample_class, in_place, part_by_part, folded, through_numpy, by_labkit, Sampler(), partial(with_a_rate, 1.0),
        numpy_points, times_in_float64,
        euler_walk(lambda model, x, y, t, t_next, x_0: torch.lerp(x, x + slope(model, x, t, y), t_next - t)),
        euler_walk(lambda model, x, y, t, t_next, x_0: x - (t - t_next) * slope(model, x, t, y)),
    ],
    "04.3": [
        combine, combine_by_einsum, combine_in_loops, combine_in_numpy, combine_by_normaliser, combine_in_float32,
        combine_in_place, combine_by_matrix, combine_by_categorical, Tower(),
        weighed(lambda log_p, p_y: torch.exp(torch.log_softmax(log_p + p_y.log(), dim=0))),
        lambda *given: combine(*given).numpy(),
    ],
    "04.4": [
        class_gradient, gradient_through_scores, gradient_in_loops, gradient_in_numpy, gradient_in_place, Gradient(),
        partial(scaled_gradient, 1.0), gradient(lambda u_y, u, t: (u_y - u) / ((1 - t) / t)),
        gradient(lambda u_y, u, t: (t * u_y - t * u) / (1 - t)),
        lambda *given: class_gradient(*given).numpy(),
        gradient(lambda u_y, u, t: (t.float() / (1 - t.float())) * (u_y.float() - u.float())),
    ],
    "04.5": [
        my_guided_sampler, guided_by(lambda u_0, u_y, w: u_0 + w * (u_y - u_0)), guided_by(plain, "heun"),
        doubled_batch, guided_by(lambda u_0, u_y, w: u_y + (w - 1) * (u_y - u_0)), sampled_in_place, in_float64,
        two_steps_of_adams, partial(of_labkit, midpoint), Guided(heun), sampled_part_by_part,
        class_by_class, interleaved,
    ],
}  # fmt: skip

WRONG = {
    "04.1": [
        (two_permutations, r"of 100 points came with the label of another"),
        (only_images_shuffled, r"of 100 points came with the label of another"),
        (in_order, r"nothing is shuffled"),
        (with_replacement, r"repetitions of others"),
        (remainder_kept, r"yours are 11. The remainder is dropped"),
        (global_randomness, r"draw from `generator`, and from it alone"),
        (always_seed_zero, r"draw from `generator`, and from it alone"),
        (returns_nothing, r"should yield batches .*None: is a `return` missing"),
        (other_points, r"z itself should come, in another order"),
        (in_the_order_of(rotated), r"share a batch; .* Is the whole order drawn"),
        (in_the_order_of(order_of_batches), r"never come: the remainder"),
        (in_the_order_of(rotated_batches), r"share a batch"),
        (in_the_order_of(within_batches), r"share a batch"),
        (in_the_order_of(same_remainder), r"the pairs 100, 101, 102 of 103 never come"),
        (in_the_order_of(half_by_half), r"share a batch"),
        (in_the_order_of(rotated_apart), r"draw from `generator`, and from it alone"),
        (in_the_order_of(strided_rotation), r"share a batch"),
        (in_the_order_of(by_the_seed_alone), r"a second epoch with the same generator repeats the first"),
        (in_the_order_of(one_order_rotated), r"the pairs \d+ and \d+ share a batch in \d+ of 40 epochs"),
        (in_the_order_of(one_order_of_batches), r"the pairs \d+ and \d+ share a batch in \d+ of 40 epochs"),
        (in_the_order_of(from_a_buffer), r"comes early in the epoch|share a batch"),
        (sorted_by_class, r"should not depend on y"),
        (complex_points, "not complex ones"),
    ],
    "04.2": [
        (one_update_too_few, r"6 times make 5 updates, .* called 4 times"),
        (label_forgotten, r"not always told the labels"),
        (slope_at_the_end, r"where a step begins; it is taken at the ends"),
        (equal_steps, r"not evenly spaced: each step has its own dt"),
        (backwards, r"went backwards"),
        (one_time_for_all, r"t, of which .* should have shape \(12,\); it has \(\)"),
        (returns_nothing, r"is a `return` missing"),
        (
            euler_walk(lambda model, x, y, t, t_next, x_0: x + (t_next - t) * slope(model, x_0, t, y)),
            "always taken at x_0",
        ),
        (euler_walk(lambda model, x, y, t, t_next, x_0: x_0 + (t_next - t) * slope(model, x, t, y)), "not added up"),
        (
            euler_walk(lambda model, x, y, t, t_next, x_0: x + (t_next - t) * slope(model, x, 0 * t, y)),
            "always that of the first time",
        ),
        (
            euler_walk(lambda model, x, y, t, t_next, x_0: x + t_next * slope(model, x, t, y)),
            "dt is the difference of two times",
        ),
        (
            euler_walk(lambda model, x, y, t, t_next, x_0: x + (t_next - t) * slope(model, x, t, y[:1].expand(len(x)))),
            "all points were told one label",
        ),
        (by_midpoints, r"6 times make 5 updates, .* called 10 times"),
        (from_fresh_noise, "first slope is not taken at x_0"),
        (one_long_step, r"5 updates, one evaluation each; the model was called 1 times"),
        (only_the_way, "add it to x_0"),
        (on_an_even_grid, "along an even grid of your own"),
        (point_by_point_labels, "told other labels than y"),
        (lambda *given: sample_class(*given) + 0j, "not complex ones"),
    ],
    "04.3": [
        (prior_weights, r"the weights are p\(y\)"),
        (equal_weights, r"all classes weigh the same"),
        (prior_forgotten, r"p\(y\) is missing"),
        (not_normalised, r"do not sum to 1"),
        (wrong_axis, r"normalised over points"),
        (raw_exponentials, r"inf or NaN far away"),
        (nan_to_zero, r"exactly 0 at .* far away .* nan_to_num, only hides that"),
        (a_little_below, r"a small number under the fraction line, here 1e-12"),
        (turned_prior, r"not the unconditional field"),
        (averaged_classes, r"averaged, not summed"),
        (most_probable, r"only the most probable class"),
        (weighed(lambda log_p, p_y: (log_p + p_y).softmax(0)), r"add its logarithm"),
        (weighed(lambda log_p, p_y: (log_p + 2 * p_y.log()).softmax(0)), r"p\(y\) counts twice"),
        (weighed(lambda log_p, p_y: log_p.softmax(0) * p_y), r"normalised before p\(y\) comes in"),
        (weighed(lambda log_p, p_y: p_y * log_p / (p_y * log_p).sum(0)), r"logarithms were taken for probabilities"),
        (weighed(lambda log_p, p_y: (log_p + p_y.log()).clamp(min=-50).softmax(0)), r"far away .* cut off"),
    ],
    "04.4": [
        (gradient(lambda u_y, u, t: t / (1 - t) * (u - u_y)), r"right up to its sign"),
        (gradient(lambda u_y, u, t: u_y - u), r"b_t times too much"),
        (gradient(lambda u_y, u, t: (1 - t) / t * (u_y - u)), r"multiplied by b_t where it should be divided"),
        (gradient(lambda u_y, u, t: (u_y - u) / (1 - t)), r"only 1 - t was divided by"),
        (gradient(lambda u_y, u, t: t * (u_y - u)), r"only multiplied by t"),
        (gradient(lambda u_y, u, t: u_y), r"velocity of the class alone"),
        (gradient(lambda u_y, u, t: u), r"unconditional velocity"),
        (gradient_without_the_label, r"the difference is 0"),
        (gradient(lambda u_y, u, t: u - u_y), r"class comes first"),
        (gradient(lambda u_y, u, t: (u_y - u) / t), r"divided by t; b_t is"),
        (gradient(lambda u_y, u, t: (1 - t) * (u_y - u)), r"times 1 - t; divide it by b_t"),
        (gradient_of_the_first_label, r"off by .* which terms of u"),
        (gradient_at_half_time, r"off by .* which terms of u"),
        (gradient(lambda u_y, u, t: (u_y - u).norm(dim=1, keepdim=True)), r"should have shape \(100, 2\)"),
        (lambda velocity, x, t, y: (t * velocity(x, t, y) - x) / (1 - t), r"stopped in the line"),
        (returns_nothing, r"is a `return` missing"),
    ],
    "04.5": [
        (guided_by(plain, "euler"), r"the target is a quarter of Euler's"),
        (guided_by(lambda u_0, u_y, w: (1 + w) * u_y - w * u_0), r"counts from the conditional field"),
        (guided_by(lambda u_0, u_y, w: (1 - w) * u_y + w * u_0), r"w = 1: these are the points of w = 0"),
        (guided_by(lambda u_0, u_y, w: u_y), r"w = 0: these are the points of w = 1"),
        (guided_by(lambda u_0, u_y, w: u_0), r"w = 1: these are the points of w = 0"),
        (guided_by(lambda u_0, u_y, w: w * u_y), r"w = 0: "),
        (fixed_steps, r"are `steps` really the steps"),
        (twice_the_steps, r"160 evaluations a point in 20 steps; at most 80"),
        (null_of_the_lesson, r"are `w` and `null` those that are given"),
        (one_label, r"told a label that is not their own"),
        (from_other_noise, r"told a label that is not their own"),
        (guided_by(lambda u_0, u_y, w: u_0 + w * u_y), r"u\(x\|null\) comes with the weight 1"),
        (guided_by(lambda u_0, u_y, w: w * (u_y - u_0)), r"difference alone"),
        (a_grid_of_n_times, r"19 steps are taken in place of 20"),
        (largest_label_and_one, r"null = 5 .* are `w` and `null` those that are given"),
        (second_slope_unguided, r"Are all slopes of a step guided"),
        (first_step_unguided, r"w = 0: in 20 steps your points end"),
        (float_labels, r"labels are whole numbers"),
        (complex_ends, "not complex ones"),
        (from_scaled_noise, r"about x_0 itself"),
        (until_the_last_step, r"from those of a tight solve"),
        (noise_back, r"the model was never asked"),
        (returns_nothing, r"is a `return` missing"),
    ],
}  # fmt: skip
