"""Time is reshaped in one place; shapes are checked everywhere, values at the entrances, where they can be seen."""

import math
import re

import pytest
import torch

from labkit.base.shapes import (
    check_images,
    check_labels,
    check_same_shape,
    check_sigma,
    check_time,
    check_times,
    expand_t,
    sigma_at,
)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 4), (4, 2, 3), (4, 2, 3, 5), (1, 3), (0, 3)], ids=str)
def test_expanded_time_multiplies_every_sample_by_its_own_time(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    t = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    product = expand_t(t, x) * x  # (4, 4) is where a plain t * x would go wrong in silence
    assert product.shape == x.shape
    for sample, time, whole in zip(product, t.tolist(), x, strict=True):
        assert torch.equal(sample, time * whole)


everywhere = pytest.mark.parametrize("function", [expand_t, check_time, check_times])


@everywhere
@pytest.mark.parametrize("shape", [(), (1,), (3,), (5,), (4, 1), (1, 4)], ids=str)
def test_a_time_of_another_shape_is_refused_with_both_shapes(function, shape):
    words = r"t must have shape \(4,\).*x with shape \(4, 2, 3\); got shape "
    with pytest.raises(ValueError, match=words + re.escape(str(shape))):
        function(torch.zeros(shape), torch.zeros(4, 2, 3))


@everywhere
def test_x_without_a_batch_is_refused(function):
    for t in (torch.zeros(1), torch.tensor(0.0)):
        with pytest.raises(ValueError, match=r"t must have shape \(B,\).*x with shape \(\); got shape \("):
            function(t, torch.tensor(1.0))


@everywhere
@pytest.mark.parametrize(
    ("t", "came"),
    [
        (0.5, "0.5"),
        ([0.5] * 4, r"\[0.5, 0.5"),
        (torch.zeros(4, dtype=torch.int64), "a tensor of torch.int64"),
        (torch.zeros(4, dtype=torch.bool), "a tensor of torch.bool"),
    ],
    ids=["number", "list", "int64", "bool"],
)
def test_a_time_that_is_no_float_tensor_is_refused_by_type(function, t, came):
    with pytest.raises(TypeError, match=rf"t must be a floating-point tensor of shape \(B,\).*got {came}"):
        function(t, torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        (-0.25, r"from -0\.25 to 0\.5"),
        (1.25, r"from 0\.5 to 1\.25"),
        (math.nan, "from nan to nan"),
        (math.inf, r"from 0\.5 to inf"),
        (-math.inf, r"from -inf to 0\.5"),
    ],
)
def test_one_time_outside_the_unit_interval_is_refused_with_its_value_where_values_are_checked(bad, came):
    t = torch.tensor([0.5, bad, 0.5])
    with pytest.raises(ValueError, match=rf"t must lie in \[0, 1\].*got values {came}"):
        check_times(t, torch.zeros(3, 2))
    assert check_time(t, torch.zeros(3, 2)) is None  # shape and type alone


def test_both_ends_and_the_rounding_of_summed_steps_are_times():
    t = torch.tensor(0.0)
    for _ in range(10):
        t = t + torch.tensor(0.1)
    assert t > 1  # ten float32 tenths overshoot
    assert check_times(torch.stack((torch.tensor(0.0), torch.tensor(1.0), t)), torch.zeros(3, 2)) is None
    assert check_times(torch.zeros(0), torch.zeros(0)) is None
    with pytest.raises(ValueError, match=r"to 1\.001"):
        check_times(t[None] + 1e-3, torch.zeros(1))


def check_both(t, y):
    """The two checks of values, around something to compute."""
    check_times(t, t)
    check_labels(y, len(y), largest=3)
    return t + y


T, Y = torch.tensor([0.5, 7.0]), torch.tensor([9, -1])  # bad, all of it


def test_values_are_trusted_where_looking_would_stop_a_program_or_find_nothing():
    assert check_both(T.to("meta"), Y.to("meta")).shape == (2,)
    batched = torch.func.vmap(lambda t, y: check_both(t[None], y[None])[0])(T, Y)
    _, slope = torch.func.jvp(lambda t: check_both(t, Y % 4), (T,), (torch.ones(2),))
    compiled = torch.compile(check_both, fullgraph=True, backend="eager")(T, Y)
    assert torch.equal(batched, T + Y) and torch.equal(compiled, T + Y) and torch.equal(slope, torch.ones(2))
    with pytest.raises(ValueError, match="t must lie in"):
        check_both(T, Y)
    with pytest.raises(ValueError, match="y must hold labels"):
        check_both(T / 7, Y)


@pytest.mark.parametrize(
    ("labels", "came"),
    [([0, 3, -1], "from -1 to 3"), ([0, 3, 4], "from 0 to 4"), ([-7, -7, 9], "from -7 to 9")],
)
def test_a_label_out_of_range_is_refused_with_its_value_if_the_range_is_known(labels, came):
    y = torch.tensor(labels)
    with pytest.raises(ValueError, match=rf"y must hold labels in 0\.\.3; got values {came}"):
        check_labels(y, 3, largest=3)
    assert check_labels(y, 3) is None


def test_the_largest_label_itself_is_a_label_and_so_are_no_labels():
    assert check_labels(torch.arange(4), 4, largest=3) is None
    assert check_labels(torch.arange(0), 0, largest=3) is None
    with pytest.raises(ValueError, match=r"0\.\.2; got values from 0 to 3"):
        check_labels(torch.arange(4), 4, largest=2)
    with pytest.raises(ValueError, match=r"0\.\.0; got values from 0 to 1"):
        check_labels(torch.arange(2), 2, largest=0)


@pytest.mark.parametrize(
    ("y", "came"),
    [
        ([0, 1, 2], r"\[0, 1, 2\]"),
        (1, "1"),
        (torch.zeros(3), "a tensor of torch.float32"),
        (torch.zeros(3, dtype=torch.int32), "a tensor of torch.int32"),
        (torch.zeros(3, dtype=torch.bool), "a tensor of torch.bool"),
    ],
    ids=["list", "number", "float32", "int32", "bool"],
)
def test_labels_that_are_no_int64_tensor_are_refused_by_type(y, came):
    with pytest.raises(TypeError, match=rf"y must be an int64 tensor of shape \(B,\).*got {came}"):
        check_labels(y, 3)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1)], ids=str)
def test_labels_of_another_shape_are_refused_with_both_shapes(shape):
    words = r"y must have shape \(3,\), one label per sample; got shape "
    with pytest.raises(ValueError, match=words + re.escape(str(shape))):
        check_labels(torch.zeros(shape, dtype=torch.int64), 3)


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 1, 8, 8), (3, 8, 8, 2), (1, 3, 2, 8, 8)], ids=str)
def test_images_of_another_shape_are_refused(shape):
    assert check_images(torch.zeros(3, 2, 8, 9), 2) is None
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2, H, W\); got " + re.escape(str(shape))):
        check_images(torch.zeros(shape), 2)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 3), (1, 3, 2)], ids=str)
def test_a_value_that_would_broadcast_or_transpose_is_not_shaped_like_x(shape):
    with pytest.raises(ValueError, match=r"eps must be shaped like x, \(3, 2\); got " + re.escape(str(shape))):
        check_same_shape("eps", torch.zeros(shape), torch.zeros(3, 2))


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf, "0.5", None])
def test_a_sigma_that_is_no_diffusion_coefficient_is_refused(sigma):
    assert check_sigma(0) is check_sigma(0.5) is check_sigma(torch.sin) is None
    with pytest.raises(ValueError, match=f"sigma must be finite and at least 0; got {sigma!r}"):
        check_sigma(sigma)


def test_sigma_multiplies_every_sample_by_its_own():
    t, x = torch.tensor([0.1, 0.5]), torch.ones(2, 3)
    assert sigma_at(0.7, t, x) == 0.7
    assert torch.equal(sigma_at(lambda t: 2 * t, t, x) * x, torch.tensor([[0.2] * 3, [1.0] * 3]))


@pytest.mark.parametrize(
    ("sigma", "came"),
    [(lambda t: 0.5, "float"), (lambda t: torch.tensor(0.5), r"shape \(\)"), (lambda t: t[:, None], r"shape \(2, 1\)")],
    ids=["number", "scalar", "column"],
)
def test_a_sigma_that_is_no_number_for_each_sample_is_refused_by_name(sigma, came):
    with pytest.raises(TypeError, match=rf"sigma\(t\) must return a tensor of shape \(2,\), like t; got {came}"):
        sigma_at(sigma, torch.zeros(2), torch.zeros(2, 3))
