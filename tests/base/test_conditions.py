"""Conditions of every kind: labels, tokens, and tokens with their mask; a row is one condition, whole."""

import math

import pytest
import torch
from torch import nn

from labkit.base.conditions import (
    Condition,
    check_condition,
    drop_condition,
    each,
    joined,
    length,
    nothing_like,
    null_of,
    own_null,
    rows,
)
from labkit.base.joints import Field, Model
from labkit.flow.exact import EmpiricalMarginal, ExactMarginal
from labkit.flow.guidance import guided
from labkit.flow.losses import cfm_loss
from labkit.flow.mixtures import ring
from labkit.flow.paths import GaussianPath
from labkit.flow.solvers import heun, simulate
from labkit.nn.mlp import MLP

L, D = 3, 4  # words of a prompt, numbers of a word


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def prompts(n):
    """Tokens (n, L, D) and their mask (n, L)."""
    return torch.randn(n, L, D, generator=seeded(n)), torch.rand(n, L, generator=seeded(n)) > 0.5


LABELS, IDS = torch.tensor([0, 2, 1, 2, 0]), torch.arange(20).reshape(5, 4) % 7
KINDS = {
    "labels": (LABELS, 3),
    "ids": (IDS, torch.full((4,), 7)),
    "tokens": (prompts(5)[0], torch.full((L, D), -1.0)),
    "masked": (prompts(5), (torch.full((L, D), -1.0), torch.zeros(L, dtype=torch.bool))),
    "nested": ((LABELS, prompts(5)), (3, (torch.full((L, D), -1.0), torch.zeros(L, dtype=torch.bool)))),
}
every_kind = pytest.mark.parametrize(("y", "null"), KINDS.values(), ids=KINDS)


def parts(y):
    """The tensors of a condition, one after the other."""
    return [inner for part in y for inner in parts(part)] if isinstance(y, tuple) else [y]


def same(a: Condition, b: Condition) -> bool:
    return [part.dtype for part in parts(a)] == [part.dtype for part in parts(b)] and all(
        torch.equal(p, q) for p, q in zip(parts(a), parts(b), strict=True)
    )


def row(y, i):
    return [part[i] for part in parts(y)]


def as_row(y, null):
    """The null as one row, part by part."""
    return [torch.as_tensor(none, dtype=part.dtype) for part, none in zip(parts(y), parts(null), strict=True)]


def all_equal(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_kind
def test_the_null_stands_in_every_row_in_the_type_of_y(y, null):
    nothing = nothing_like(y, null)
    assert [(p.shape, p.dtype) for p in parts(nothing)] == [(p.shape, p.dtype) for p in parts(y)]
    assert all(all_equal(row(nothing, i), as_row(y, null)) for i in range(5))


@every_kind
def test_joining_and_choosing_rows_undo_each_other(y, null):
    nothing = nothing_like(y, null)
    both = joined(nothing, y)
    assert length(both) == 10 and same(rows(both, slice(5)), nothing) and same(rows(both, slice(5, None)), y)
    chosen = rows(y, torch.tensor([4, 0]))
    assert length(chosen) == 2 and all_equal(row(chosen, 0), row(y, 4)) and all_equal(row(chosen, 1), row(y, 0))


@every_kind
def test_a_function_of_the_parts_keeps_the_form(y, null):
    assert same(each(torch.clone, y), y)
    assert same(each(lambda part, other: torch.where(part == part, other, part), y, rows(y, torch.arange(5))), y)


def test_parts_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        joined((LABELS, LABELS), (LABELS,))


@every_kind
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_dropped_row_is_dropped_whole_and_the_others_stay(y, null, p):
    n = 4000
    many = rows(y, torch.arange(n) % 5)
    before = each(torch.clone, many)
    kept = drop_condition(many, p, null, seeded())
    assert same(many, before)
    dropped = torch.stack(
        [(new != old).reshape(n, -1).any(1) for new, old in zip(parts(kept), parts(many), strict=True)]
    )
    dropped = dropped.any(0)  # of no row here do all parts equal the null
    assert same(rows(kept, ~dropped), rows(many, ~dropped))
    assert same(rows(kept, dropped), nothing_like(rows(many, dropped), null))
    assert abs(dropped.double().mean() - p) < 4 * (p * (1 - p) / n) ** 0.5
    assert same(kept, drop_condition(many, p, null, seeded()))
    assert not same(kept, drop_condition(many, p, null, seeded(1)))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_rows_are_dropped_at_the_rate_asked_for_and_whatever_they_are(p):
    n = 100_000
    y = torch.arange(n) % 10
    dropped = drop_condition(y, p, 10, seeded()) == 10
    three_sigma = 3 * (p * (1 - p) / n) ** 0.5
    assert abs(dropped.double().mean() - p) < three_sigma
    by_label = torch.stack([dropped[y == k].double().mean() for k in range(10)])
    assert (by_label - p).abs().max() < 1.3 * three_sigma * 10**0.5  # four sigma, because there are ten


@every_kind
def test_no_row_is_dropped_at_rate_0_and_every_one_at_rate_1(y, null):
    kept = drop_condition(y, 0, null)
    assert same(kept, y) and all(a.data_ptr() != b.data_ptr() for a, b in zip(parts(kept), parts(y), strict=True))
    assert same(drop_condition(y, 1, null), nothing_like(y, null))


def test_without_a_generator_the_global_seed_decides():
    y = torch.arange(1000) % 3
    torch.manual_seed(4)
    first, second = drop_condition(y, 0.5, 3), drop_condition(y, 0.5, 3)
    torch.manual_seed(4)
    assert same(drop_condition(y, 0.5, 3), first) and not same(first, second)


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_a_rate_that_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match=rf"p must be a finite number in \[0, 1\]; got {p}"):
        drop_condition(LABELS, p, 3)


def test_a_null_of_another_precision_does_not_change_that_of_y():
    y, null = prompts(5), (torch.zeros(L, D, dtype=torch.float64), torch.ones(L))  # a mask of numbers for one of truths
    for found in (nothing_like(y, null), drop_condition(y, 0.5, null), joined(nothing_like(y, null), y)):
        assert [part.dtype for part in found] == [torch.float32, torch.bool]


def test_a_null_can_be_learned():
    null = torch.zeros(L, D, requires_grad=True)
    drop_condition(prompts(5)[0], 1.0, null).sum().backward()
    assert torch.equal(null.grad, torch.full((L, D), 5.0))


# The null of a model


def without_null(x, t, y=None):
    return x


def test_a_model_says_its_own_null_and_so_do_its_methods():
    exact, known = (
        ExactMarginal(GaussianPath(), ring(4)),
        EmpiricalMarginal(GaussianPath(), torch.zeros(2, 2), IDS[0, :2]),
    )
    assert (
        null_of(MLP(2, 7)) == 7
        and null_of(exact.velocity) == null_of(exact.score) == 4
        and null_of(known.velocity) == 2
    )
    assert null_of(exact.velocity, 4) == null_of(without_null, 4) == 4
    assert own_null(MLP(2)) is own_null(without_null) is None and own_null(exact.velocity) == 4


@pytest.mark.parametrize("model", [without_null, MLP(2)], ids=["function", "no labels"])
def test_a_model_that_says_no_null_needs_one_given(model):
    with pytest.raises(ValueError, match="null must be given: this model does not say"):
        null_of(model)


@pytest.mark.parametrize("real", [0, 2])
def test_a_real_class_is_not_taken_for_the_null(real):
    for model in (MLP(2, 3), ExactMarginal(GaussianPath(), ring(3)).velocity):
        with pytest.raises(
            ValueError, match=f"null={real} is not what this model takes for `nothing given`: that is 3"
        ):
            null_of(model, real)


# Checks


@every_kind
def test_a_condition_fits_its_null_row_by_row(y, null):
    assert check_condition(y, 5, null) is None and check_condition(y, 5) is None
    assert check_condition(nothing_like(y, null), 5, null) is None
    for given in (null, None):
        with pytest.raises(ValueError, match=r"y must have 6 rows, one per sample; got shape \(5"):
            check_condition(y, 6, given)


PAIR = (torch.zeros(5, L, D), torch.zeros(4, L))  # a mask for four prompts only


@pytest.mark.parametrize(
    ("y", "null", "error", "words"),
    [
        (LABELS + 2, 3, ValueError, r"y must hold labels in 0\.\.3; got values from 2 to 4"),
        (LABELS - 1, 3, ValueError, r"y must hold labels in 0\.\.3; got values from -1 to 1"),
        (LABELS.float(), 3, TypeError, "y must be an int64 tensor"),
        (IDS, 3, ValueError, r"y must have shape \(5,\), one label per sample; got shape \(5, 4\)"),
        (IDS, torch.zeros(3), ValueError, r"each row of y must be shaped like null, \(3,\); got \(4,\)"),
        (LABELS, (3, 3), ValueError, "y and null must be of one kind"),
        ((LABELS, LABELS), 3, ValueError, "y and null must be of one kind"),
        ((LABELS, LABELS), (3,), ValueError, "y and null must be of one kind: .* tuples of equally many parts"),
        ((LABELS, LABELS + 2), (3, 3), ValueError, r"y must hold labels in 0\.\.3; got values from 2 to 4"),
        (PAIR, (torch.zeros(L, D), torch.zeros(L)), ValueError, r"y must have 5 rows, .*; got shape \(4, 3\)"),
        (PAIR, None, ValueError, r"y must have 5 rows, .*; got shape \(4, 3\)"),
        ([0, 1, 2, 1, 0], 3, TypeError, "y must be a tensor with one row per sample, or a tuple of them; got list"),
        ((LABELS, [1] * 5), None, TypeError, "y must be a tensor with one row per sample, .*; got list"),
        (3, 3, TypeError, "y must be a tensor with one row per sample, .*; got int"),
        (torch.tensor(3), 3, TypeError, "y must be a tensor with one row per sample, .*; got a tensor without rows"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused_by_name(y, null, error, words):
    with pytest.raises(error, match=words):
        check_condition(y, 5, null)


def test_what_has_no_rows_is_refused_by_everything_that_counts_them():
    for function in (length, lambda y: drop_condition(y, 0.5, 3), lambda y: guided(MLP(2, 3), y, 2.0)):
        with pytest.raises(TypeError, match="y must be a tensor with one row per sample, or a tuple of them; got int"):
            function(1)


# From prompts to samples


class Prompted(nn.Module):
    """A network in the plane that reads the mean of those words of a prompt that its mask shows."""

    def __init__(self) -> None:
        super().__init__()
        self.null = (torch.zeros(1, 1), torch.zeros(1, dtype=torch.bool))
        self.net = nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t, y=None):
        words, mask = nothing_like((x[:, :1, None], mask_of(x)), self.null) if y is None else y
        shown = mask[:, :, None].to(x.dtype)
        said = (words * shown).sum(1) / shown.sum(1).clamp_min(1)
        return self.net(torch.cat((x, t[:, None], said, shown.amax(1)), dim=1))


def mask_of(x):
    return torch.zeros(len(x), 1, dtype=torch.bool)


def test_a_model_of_prompts_is_trained_guided_and_sampled_like_one_of_labels():
    """Data N((word, 0), .3^2 I), for the one word -1 or +1; nothing that knows labels is touched."""
    torch.manual_seed(0)
    model: Model = Prompted()
    generator, path = seeded(1), GaussianPath()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(250):
        word = torch.randint(2, (128, 1, 1), generator=generator) * 2.0 - 1
        z = torch.cat((word[:, 0], 0 * word[:, 0]), 1) + 0.3 * torch.randn(128, 2, generator=generator)
        y = drop_condition((word, torch.ones(128, 1, dtype=torch.bool)), 0.1, model.null, generator)
        optimizer.zero_grad()
        cfm_loss(model, path, z, y, generator=generator).backward()
        optimizer.step()

    n = 400
    word = torch.tensor([-1.0, 1.0]).repeat(n // 2)[:, None, None]
    y, x_0 = (word, torch.ones(n, 1, dtype=torch.bool)), torch.randn(n, 2, generator=generator)

    def sampled(w):
        field: Field = guided(model, y, w)
        return simulate(heun(field), x_0, torch.linspace(0, 1, 11))

    at_1, at_3, at_0 = sampled(1.0), sampled(3.0), sampled(0.0)
    for side in (-1, 1):
        mean = at_1[word[:, 0, 0] == side].mean(0)
        assert mean.tolist() == pytest.approx([side, 0], abs=0.15)
        assert side * at_3[word[:, 0, 0] == side, 0].mean() > 1.1 * side * mean[0]  # guidance goes beyond
    assert 0.25 < (at_0[:, 0] > 0).float().mean() < 0.75 and at_0[:, 0].abs().mean() > 0.6  # both words, at w=0
    with pytest.raises(ValueError, match=r"y must have 3 rows, one per sample; got shape \(400, 1, 1\)"):
        guided(model, y, 3.0)(x_0[:3], torch.zeros(3))
    with pytest.raises(ValueError, match="y and null must be of one kind"):
        guided(model, word, 3.0)
